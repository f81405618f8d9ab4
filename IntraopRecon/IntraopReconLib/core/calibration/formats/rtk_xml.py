"""The geometry file of RTK (Reconstruction Toolkit): `ThreeDCircularProjectionGeometry` as XML, version 3 (and 2, which it includes).

Lengths in mm, angles in degrees; RTK's fixed frame is taken as LPS. A projection's coordinates are in mm on the detector; which pixel lies
where is known to the projection images alone (ITK origin and spacing). Written here are files for images whose middle is the origin.

Source: RTK's documentation "3D Projection Geometry" and the source of `rtk::ThreeDCircularProjectionGeometryXMLFileReader` and `…Writer`.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

import numpy as np

from IntraopReconLib.core.calibration.poses import PosedImage
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.rtk_geometry import RtkProjection
from SparseAnatomyLib.textfiles import read_text

from .file_pose import Detector

ROOT = "RTKThreeDCircularGeometry"
VERSIONS = ("2", "3")
PARAMETERS = (  # in the order of RtkProjection
    "SourceToIsocenterDistance",
    "SourceToDetectorDistance",
    "GantryAngle",
    "ProjectionOffsetX",
    "ProjectionOffsetY",
    "OutOfPlaneAngle",
    "InPlaneAngle",
    "SourceOffsetX",
    "SourceOffsetY",
)
ANGLES = ("GantryAngle", "OutOfPlaneAngle", "InPlaneAngle")
LARGEST_VALUE = 1e9
LEAST_DISTANCE_MM = 1e-3
MATRIX_TOLERANCE = 1e-3  # as RTK's own reader
_CHOOSE = "the geometry file of RTK (.xml)"
_REMEDY = "Write the geometry again with RTK."


@dataclass(frozen=True)
class RtkPose:
    """One projection of an RTK geometry.

    Attributes:
        where: What messages call it.
        projection: RTK's nine parameters.
        first_pixel_mm: Where the center of the first pixel lies in the projection's coordinates; None for an image whose middle is (0, 0).
        image: Always None: the file names no images.
        frame: Always 0.
    """

    where: str
    projection: RtkProjection
    first_pixel_mm: tuple[float, float] | None = None
    image: str | None = None
    frame: int = 0

    def view(self, detector: Detector, lps_from_file: np.ndarray) -> XrayView:
        """Return the view; see `FilePose`. The pixel pitch must be known."""
        if detector.pixel_pitch_mm is None:
            raise InputError(
                f"{self.where}: RTK's geometry needs the pixel pitch of the images, which they do not tell.",
                'Name a file such as {"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.2} with --intrinsics.',
            )
        mm = float(np.cbrt(abs(np.linalg.det(lps_from_file[:3, :3]))))  # length of the file's unit
        pitch = (detector.pixel_pitch_mm[0] / mm, detector.pixel_pitch_mm[1] / mm)
        first = self.first_pixel_mm
        first = centered_first_pixel(detector.size_px, pitch) if first is None else (first[0] / mm, first[1] / mm)
        try:
            return self.projection.to_view(pitch, detector.size_px, first).transformed(lps_from_file)
        except ValueError as error:
            raise InputError(f"{self.where} is no projection: {error}", _REMEDY) from error


def centered_first_pixel(size_px: tuple[int, int], pitch: Sequence[float]) -> tuple[float, float]:
    """Return where the first pixel's center lies if the middle of the image is (0, 0), in the unit of the pitch."""
    return -(size_px[0] - 1) / 2 * float(pitch[0]), -(size_px[1] - 1) / 2 * float(pitch[1])


def read_rtk(path: Path, first_pixel_mm: tuple[float, float] | None = None) -> list[RtkPose]:
    """Read a geometry of RTK.

    As in RTK's reader, a parameter holds until the file states another value for it, and names ignore case. Collimation is passed over.

    Args:
        path: The XML file.
        first_pixel_mm: Origin of the projection images (ITK), along u and v; None for images whose middle is the origin.

    Returns:
        One pose a projection.

    Raises:
        InputError: The file cannot be read, is no geometry of RTK, or a value is wrong; names the projection and the element.
    """
    path = Path(path)
    root = _parse(path)
    if root.tag != ROOT:
        raise InputError(f"{path.name} is not a geometry of RTK: it begins with <{root.tag[:40]}>.", f"Choose {_CHOOSE}.")
    if root.get("version") not in VERSIONS:
        raise InputError(f"{path.name} has version {str(root.get('version'))[:20]} of RTK's geometry, expected 3.", _REMEDY)
    state = dict.fromkeys(map(str.lower, PARAMETERS), 0.0)
    poses: list[RtkPose] = []
    for element in root:
        if element.tag.lower() != "projection":
            _read_value(path.name, element, state)
            continue
        where = f"{path.name}, projection {len(poses)}"
        matrix = None
        for child in element:
            if child.tag.lower() == "matrix":
                matrix = _floats(f"{where}, Matrix", child.text, 12).reshape(3, 4)
            else:
                _read_value(where, child, state)
        poses.append(RtkPose(where, _projection(where, state), first_pixel_mm))
        if matrix is not None:
            _check_matrix(where, matrix, poses[-1].projection)
    if not poses:
        raise InputError(f"{path.name} holds no projection.", _REMEDY)
    return poses


def _parse(path: Path) -> ElementTree.Element:
    """Return the root of an XML file that declares no entities: they could name other files or grow without end."""
    text = read_text(path, _CHOOSE)
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = lambda name, system, public, internal: _refuse(path) if system or public or internal else None
    guard.EntityDeclHandler = lambda *_: _refuse(path)
    try:
        guard.Parse(text, True)
        return ElementTree.fromstring(text)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a valid XML file: {error}.", f"Choose {_CHOOSE}.") from error


def _refuse(path: Path) -> NoReturn:
    raise InputError(f"{path.name} declares a document type of its own, which is not read: it could reach other files.", _REMEDY)


def _read_value(where: str, element: ElementTree.Element, state: dict[str, float]) -> None:
    name = element.tag.lower()
    name = "gantryangle" if name == "angle" else name
    if name == "radiuscylindricaldetector" and _floats(f"{where}, {element.tag}", element.text, 1)[0] != 0:
        raise InputError(f"{where}: the detector is a cylinder.", "Only flat detectors are read.")
    if name in state:
        state[name] = float(_floats(f"{where}, {element.tag}", element.text, 1)[0])


def _floats(what: str, text: str | None, count: int) -> np.ndarray:
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) <= LARGEST_VALUE for value in values):  # NaN fails too
        raise InputError(f"{what}: expected {count} number{'s' * (count > 1)} in millimeters or degrees.", _REMEDY)
    return np.array(values)


def _projection(where: str, state: dict[str, float]) -> RtkProjection:
    values = [math.radians(state[name.lower()]) if name in ANGLES else state[name.lower()] for name in PARAMETERS]
    if not abs(values[1]) > LEAST_DISTANCE_MM:
        raise InputError(f"{where}: SourceToDetectorDistance is 0: parallel beams are not read.", _REMEDY)
    return RtkProjection(*values)


def rtk_matrix(projection: RtkProjection) -> np.ndarray:
    """Return RTK's matrix [3, 4]: fixed frame to the projection's coordinates in mm; depths have the sign that the SDD has not."""
    matrix = projection.to_view((1.0, 1.0), (1, 1)).projection_matrix
    return -math.copysign(1.0, projection.source_to_detector_mm) * matrix


def _check_matrix(where: str, matrix: np.ndarray, projection: RtkProjection) -> None:
    expected = rtk_matrix(projection)
    if np.abs(matrix - expected).max() > MATRIX_TOLERANCE:
        raise InputError(f"{where}: its Matrix and its parameters state different projections.", _REMEDY)


def rtk_text(posed: Sequence[PosedImage]) -> str:
    """Return views (LPS mm) as RTK's geometry for images whose middle is the origin, rows as they are stored.

    Raises:
        InputError: A view has pixels that are not perpendicular.
    """
    pitches = {tuple(float(f"{pitch:.6g}") for pitch in image.view.pixel_pitch_mm) for image in posed}
    sizes = {image.size_px for image in posed}
    notes = [f"{len(posed)} views, LPS mm. The middle of each projection image is its origin (0, 0); its rows as stored."]
    notes += [f"Pixels: {columns} x {rows}." for columns, rows in sorted(sizes)]
    notes += [f"Spacing: {first:g} x {second:g} mm." for first, second in sorted(pitches)]
    lines = ['<?xml version="1.0"?>', "<!DOCTYPE RTKGEOMETRY>", f"<!-- {' '.join(notes)} -->", f'<{ROOT} version="3">']
    for image in posed:
        try:
            projection = RtkProjection.from_view(image.view)
        except ValueError as error:
            raise InputError(f"{image.image}: {error}", "RTK cannot state it: choose matrices.") from error
        first = centered_first_pixel(image.size_px, image.view.pixel_pitch_mm)
        projection = replace(
            projection,
            projection_offset_x_mm=projection.projection_offset_x_mm - first[0],
            projection_offset_y_mm=projection.projection_offset_y_mm - first[1],
        )
        values = zip(PARAMETERS, astuple(projection), strict=True)
        stated = [(name, math.degrees(value) if name in ANGLES else value) for name, value in values]
        lines += ["  <Projection>", *(f"    <{name}>{value:.17g}</{name}>" for name, value in stated), "    <Matrix>"]
        lines += ["      " + " ".join(f"{value:.17g}" for value in row) for row in rtk_matrix(projection)]
        lines += ["    </Matrix>", "  </Projection>"]
    return "\n".join([*lines, f"</{ROOT}>"]) + "\n"
