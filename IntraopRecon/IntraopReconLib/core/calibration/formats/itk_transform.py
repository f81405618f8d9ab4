"""Transforms of Slicer and ITK (`.tfm`, `.txt`, `.h5`), one an X-ray, with the intrinsics in a file beside each.

As Slicer saves them, a transform file maps points "from parent", in LPS mm: here from the patient (the frame of the beads, such as those of
`fiducials.mrk.json`) to the camera, which is `camera_from_lps`. The camera has its origin at the source, x along the columns, y along the
rows of a detector with perpendicular pixels, z towards the detector. In Slicer, the transform node then carries things from the camera to
the patient: what is placed at the camera's origin and put under the node appears at the X-ray source.

The intrinsics (source-detector distance, pixel pitch, principal point) stand in `NAME.json` beside `NAME.tfm`, as `read_intrinsics` reads
them; without, they are those of the X-ray.

Source: 3D Slicer, user guide, Transforms, "Transform files"; ITK Software Guide, "Transforms".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from IntraopReconLib.core.calibration.intrinsics import Intrinsics, read_intrinsics
from IntraopReconLib.core.calibration.poses import PosedImage
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView

from .file_pose import Detector, check_rectangular
from .transform_corners import corners, corners_apart

SUFFIXES = (".tfm", ".txt", ".h5", ".hdf5")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TEXT_MAGIC = "#Insight Transform File"
LARGEST_BYTES = 1 << 24
LARGEST_STRAIN = 1e-3  # of a rigid transform's axes from perpendicular unit vectors
LARGEST_COORDINATE_MM = 100_000.0
_CHOOSE = "Choose a linear transform that Slicer saved (.tfm or .h5), one an X-ray."


@dataclass(frozen=True, eq=False)
class TransformPose:
    """Where a camera stands.

    Attributes:
        where: What messages call it.
        camera_from_file: [4, 4] rigid, from the file's LPS mm to the camera.
        intrinsics: From the file beside it; None if there is none.
        image: Always None: the file names no image.
        frame: Always 0.
    """

    where: str
    camera_from_file: np.ndarray
    intrinsics: Intrinsics | None = None
    image: str | None = None
    frame: int = 0

    def view(self, detector: Detector, lps_from_file: np.ndarray) -> XrayView:
        """Return the view; see `FilePose`. SDD and pixel pitch must be known."""
        if self.intrinsics is not None:
            stated = self.intrinsics
            detector = Detector(detector.size_px, stated.pixel_pitch_mm, stated.source_to_detector_mm, stated.principal_point_px)
        if detector.pixel_pitch_mm is None or detector.source_to_detector_mm is None:
            raise InputError(
                f"{self.where}: a transform needs the intrinsics of the camera, and nothing tells them.",
                f'Write {{"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.2}} into {Path(self.where).stem}.json, or use --intrinsics.',
            )
        focal = detector.source_to_detector_mm / np.asarray(detector.pixel_pitch_mm)
        intrinsics = np.diag([*focal, 1.0])
        middle = (np.asarray(detector.size_px) - 1) / 2
        intrinsics[:2, 2] = middle if detector.principal_point_px is None else detector.principal_point_px
        lps_from_camera = lps_from_file @ np.linalg.inv(self.camera_from_file)
        lps_from_camera[:3, :3] /= np.cbrt(np.linalg.det(lps_from_camera[:3, :3]))
        return XrayView.from_intrinsics(intrinsics, lps_from_camera, detector.size_px, detector.source_to_detector_mm)


def read_transform(path: Path) -> list[TransformPose]:
    """Read the transform of one X-ray, and the intrinsics beside it.

    Args:
        path: A transform file of ITK: any linear transform that is rigid.

    Returns:
        A single pose.

    Raises:
        InputError: The file cannot be read, or holds no rigid transform.
    """
    path = Path(path)
    is_hdf5 = _check_file(path)
    found = corners_apart(path) if is_hdf5 else corners(path)
    if found is None:
        raise InputError(f"{path.name} is not a linear transform of space that can be read.", _CHOOSE)
    origin, *ends = np.array(found)
    camera_from_file = affine(np.stack(ends, 1) - origin[:, None], origin)
    rotation = camera_from_file[:3, :3]
    if not np.isfinite(camera_from_file).all() or np.abs(camera_from_file).max() > LARGEST_COORDINATE_MM:
        raise InputError(f"{path.name} leads far away or nowhere.", "Give the transform in millimeters.")
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > LARGEST_STRAIN or np.linalg.det(rotation) < 0:
        raise InputError(f"{path.name} scales, shears or mirrors: a camera only turns and moves.", "Remove the scaling in Slicer.")
    beside = path.with_suffix(".json")
    return [TransformPose(path.name, camera_from_file, read_intrinsics(beside) if beside.is_file() else None)]


def _check_file(path: Path) -> bool:
    """Raise an InputError before ITK meets a file that is no transform; return whether it is HDF5."""
    try:
        with path.open("rb") as stream:
            head = stream.read(len(TEXT_MAGIC))
            size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read: {getattr(error, 'strerror', None) or error}.", "Check the path.") from error
    if not (head.startswith(HDF5_MAGIC) or head == TEXT_MAGIC.encode()) or size > LARGEST_BYTES:
        raise InputError(f"{path.name} is not a transform of ITK.", _CHOOSE)
    return head.startswith(HDF5_MAGIC)


def write_transform(path: Path, posed: PosedImage) -> None:
    """Write the transform of a view, and its intrinsics beside it.

    Args:
        path: The file (.tfm or .h5); its folder exists.
        posed: The view.

    Raises:
        InputError: Its pixels are not perpendicular.
        OSError: The disk is full or the folder is not writable.
    """
    check_rectangular("a transform with intrinsics", posed)
    view = posed.view
    camera_from_lps = np.linalg.inv(view.lps_from_camera)
    transform = SimpleITK.AffineTransform(camera_from_lps[:3, :3].ravel().tolist(), camera_from_lps[:3, 3].tolist())
    try:
        SimpleITK.WriteTransform(transform, str(path))
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error
    document = {
        "source_to_detector_mm": view.source_to_detector_mm,
        "pixel_pitch_mm": (view.source_to_detector_mm / np.diag(view.intrinsics_px)[:2]).tolist(),
        "principal_point_px": view.principal_point_px.tolist(),
        "measured": True,
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
