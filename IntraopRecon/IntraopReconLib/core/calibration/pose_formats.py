"""One door to the pose files of other programs: recognized, read and joined with the images; written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from IntraopReconLib.core.calibration_config import PoseFileSettings, PoseFormat
from IntraopReconLib.core.xrays.radiograph import Radiograph
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import LPS_FROM_RAS
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.ordering import natural_key
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.textfiles import read_json, read_text

from .correspondence import Beads
from .fiducials import write_fiducials
from .formats.file_pose import Detector, FilePose, file_stem, meeting_point
from .formats.itk_transform import HDF5_MAGIC, TEXT_MAGIC, read_transform, write_transform
from .formats.matrices import is_json, matrices_json, matrices_text, read_matrices
from .formats.mayacam import mayacam_1_text, mayacam_2_text, read_mayacam
from .formats.rtk_xml import read_rtk, rtk_text
from .intrinsics import Intrinsics
from .poses import FORMAT, LARGEST_COORDINATE_MM, PosedImage, check_view, read_poses

MM_OF_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
POSE_SUFFIXES = (".tfm", ".h5", ".hdf5", ".txt", ".csv", ".xml")
CLEAR_CROSSING = 0.03  # of the axes of two views 20 degrees apart: where they meet is well known
LEAST_DISTANCE_SHARE = 0.15  # of the SDD: what a C-arm looks at is no closer to its source
_KNOWN = "Known are poses.json, 3×4 matrices (text or JSON), RTK geometry (XML), transforms of Slicer (.tfm, .h5) and MayaCam files."
_ROWS_UP = "If the file counts rows from the bottom of the image, say so with --rows-up."


@dataclass(frozen=True)
class CaseImage:
    """An image that waits for its pose.

    Attributes:
        image: Path within the case folder, with forward slashes.
        frame: Frame within the file, counted from 0.
        detector: What is known of it.
    """

    image: str
    frame: int
    detector: Detector


def case_images(radiographs: Sequence[Radiograph], intrinsics: Intrinsics | None = None) -> list[CaseImage]:
    """Return what the X-rays of a case tell of their detectors; stated intrinsics go before the tags."""
    found = []
    for radiograph in radiographs:
        if intrinsics is not None:
            stated = (intrinsics.pixel_pitch_mm, intrinsics.source_to_detector_mm, intrinsics.principal_point_px)
        else:
            spacing, distance = radiograph.pixel_spacing_mm, radiograph.source_to_detector_mm
            stated = (spacing and (spacing.value[1], spacing.value[0]), distance and distance.value, None)
        found.append(CaseImage(radiograph.image, radiograph.frame, Detector(radiograph.size_px, *stated)))
    return found


def import_poses(
    paths: Path | Sequence[Path],
    images: Sequence[CaseImage],
    settings: PoseFileSettings | None = None,
    notes: list[str] | None = None,
) -> list[PosedImage]:
    """Read poses that another program wrote.

    The format is recognized by the content. Poses belong to images by name, where the file or its name tells it, otherwise by order.

    Args:
        paths: A file, several (of formats with one camera a file), or a folder of such.
        images: The images of the case, in the order of their names.
        settings: What the file does not state itself.
        notes: Takes a sentence that says which image has which pose, where the order alone told it.

    Returns:
        A posed image a pose, in the order of the images.

    Raises:
        InputError: A file cannot be read, or its poses do not fit the images; names the file and the view.
    """
    settings = settings or PoseFileSettings()
    if not images:
        raise InputError("There is no image that a pose could belong to.", "Add the X-rays first.")
    files = _files(paths)
    if len(files) == 1 and _kind(files[0]) == "poses":
        return _own(files[0], images)
    named = [(pose, name) for file in files for pose, name in _read(file, settings)]
    lps_from_file = np.diag([*[MM_OF_UNIT[settings.unit]] * 3, 1.0])
    if settings.coordinate_system == "RAS":
        lps_from_file = LPS_FROM_RAS @ lps_from_file
    posed = []
    assigned = _by_name(named, images)
    if assigned is None:
        assigned = _by_order(named, images, notes if notes is not None else [])
    for (pose, _), image in zip(named, assigned, strict=True):
        view = pose.view(image.detector, lps_from_file)
        view = _rows_reversed(view) if settings.rows_up else view
        _check(f"{pose.where} ({image.image})", view)
        posed.append(PosedImage(image.image, view, image.frame))
    _check_distances(posed)
    order = {(image.image, image.frame): number for number, image in enumerate(images)}
    return sorted(posed, key=lambda one: order[one.image, one.frame])


def export_poses(posed: Sequence[PosedImage], path: Path, format: PoseFormat, beads: Beads | None = None) -> list[Path]:
    """Write poses for another program; the files appear together or not at all.

    Args:
        posed: What to write, LPS mm.
        path: The file; the folder of the formats with one camera a file (slicer, mayacam, mayacam1).
        format: Which.
        beads: Written beside the transforms of Slicer (fiducials.mrk.json), in the same frame.

    Returns:
        The files.

    Raises:
        InputError: Nothing to write, a view that the format cannot state, or a place that cannot be written to.
        ResourceError: The disk is full.
    """
    if not posed:
        raise InputError("There are no poses to write.", "Calibrate the case, or import poses.")
    path = Path(path)
    if format in _WHOLE:
        if path.is_dir():
            raise InputError(f"{path} is a folder, but {format} is one file.", "Name a file in it with --out.")
        text = _WHOLE[format](posed)
        write_together(path.parent, [path.name], lambda folder: _write_text(folder / path.name, text))
        return [path]
    stems = [file_stem(image.image, image.frame, _frames(posed)[image.image]) for image in posed]
    if len(set(stems)) < len(stems):
        raise InputError("Two images have the same name, which files with one camera each cannot tell apart.", "Choose matrices or rtk.")
    if format == "slicer":
        names = [f"{stem}{suffix}" for stem in stems for suffix in (".tfm", ".json")] + ["fiducials.mrk.json"] * (beads is not None)

        def write(folder: Path) -> None:
            for stem, image in zip(stems, posed, strict=True):
                write_transform(folder / f"{stem}.tfm", image)
            if beads is not None:
                write_fiducials(folder / "fiducials.mrk.json", beads)

    else:
        make, suffix = _EACH[format]
        texts = {f"{stem}{suffix}": make(image) for stem, image in zip(stems, posed, strict=True)}
        names = list(texts)

        def write(folder: Path) -> None:
            for name, text in texts.items():
                _write_text(folder / name, text)

    write_together(path, names, write)
    return [path / name for name in names]


_WHOLE: dict[str, Callable[[Sequence[PosedImage]], str]] = {
    "matrices": matrices_text,
    "matrices-json": matrices_json,
    "rtk": rtk_text,
}
_EACH: dict[str, tuple[Callable[[PosedImage], str], str]] = {
    "mayacam": (mayacam_2_text, ".txt"),
    "mayacam1": (mayacam_1_text, ".csv"),
}


def unseen_beads(posed: Sequence[PosedImage], beads: Beads) -> list[str]:
    """Return a sentence for each view that shows none of the beads: its pose and the beads are hardly in one frame."""
    sentences = []
    for image in posed:
        pixels = image.view.project(beads.position_lps_mm)
        inside = ((pixels > -0.5) & (pixels < np.array(image.size_px) - 0.5)).all(1) & (image.view.depth_mm(beads.position_lps_mm) > 0)
        if not inside.any():
            sentences.append(f"No bead appears in {image.image}: are poses and beads in the same coordinates?")
    return sentences


def _files(paths: Path | Sequence[Path]) -> list[Path]:
    """Return the files; those of a folder in the order of their names."""
    files: list[Path] = []
    for path in [Path(paths)] if isinstance(paths, str | Path) else map(Path, paths):
        if path.is_dir():
            there = (file for file in path.iterdir() if file.suffix.lower() in POSE_SUFFIXES and not file.name.startswith("."))
            files += sorted(there, key=natural_key)
        else:
            files.append(path)
    if not files:
        raise InputError("There is no pose file.", _KNOWN)
    return files


def _kind(path: Path) -> str:
    """Return the format by the content: poses, transform, rtk, mayacam or matrices."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except (OSError, ValueError):
        head = b""  # reading it as text says what is wrong
    if head.startswith((HDF5_MAGIC, TEXT_MAGIC.encode())):
        return "transform"
    if is_json(path):
        document = read_json(path, "a pose file")
        return "poses" if isinstance(document, dict) and document.get("format") == FORMAT else "matrices"
    lines = [line.strip() for line in read_text(path, "a pose file").split("\n")]
    filled = [line for line in lines if line]
    if filled and filled[0].startswith("<"):
        return "rtk"
    if filled and (filled[0].lower() == "image size" or (len(filled) == 5 and all(line.count(",") == 2 for line in filled))):
        return "mayacam"
    if filled and not any(character.isdigit() for line in filled for character in line):
        raise InputError(f"{path.name} is not a pose file that is known.", _KNOWN)
    return "matrices"


def _read(path: Path, settings: PoseFileSettings) -> list[tuple[FilePose, str | None]]:
    """Return the poses of a file; with its name where it holds a single one."""
    kind = _kind(path)
    if kind == "poses":
        raise InputError(f"{path.name} holds all poses already.", "Import it alone.")
    if kind in ("rtk", "matrices"):
        poses = read_rtk(path, settings.first_pixel_mm) if kind == "rtk" else read_matrices(path)
        return [(pose, path.stem if len(poses) == 1 else None) for pose in poses]
    return [(pose, path.stem) for pose in (read_transform(path) if kind == "transform" else read_mayacam(path))]


def _own(path: Path, images: Sequence[CaseImage]) -> list[PosedImage]:
    """Read our own format, whose images must be among those of the case."""
    sizes = {(image.image, image.frame): image.detector.size_px for image in images}
    posed = read_poses(path)
    for one in posed:
        if sizes.get((one.image, one.frame)) != one.size_px:
            message = f"{path.name} has a pose for {one.image}, frame {one.frame}, which the case does not have in that size."
            raise InputError(message, "Check that the file belongs to this case.")
    return posed


def _frames(images: Sequence[CaseImage] | Sequence[PosedImage]) -> dict[str, list[int]]:
    frames: dict[str, list[int]] = defaultdict(list)
    for image in images:
        frames[image.image].append(image.frame)
    return frames


def _by_name(named: Sequence[tuple[FilePose, str | None]], images: Sequence[CaseImage]) -> list[CaseImage] | None:
    """Return the image of each pose, by the path that it states or by the name of its file; None where no name tells it.

    A pose that states a path must have that image. Names of files count if they are those of images; cameras may be called otherwise.
    """
    find = _finder(images)
    matched = [find(pose.image, pose.frame) if pose.image else find(name, pose.frame) for pose, name in named]
    if not any(matched) and not any(pose.image for pose, _ in named):
        return None
    if None in matched:
        stray, name = named[matched.index(None)]
        message = f"{stray.where} belongs to no image of the case ({stray.image or name})."
        raise InputError(message, "Name it after its image, or remove the names to go by order.")
    if len({id(image) for image in matched}) < len(matched):
        raise InputError("Two poses belong to the same image.", "Remove one of them.")
    return matched


def _by_order(named: Sequence[tuple[FilePose, str | None]], images: Sequence[CaseImage], notes: list[str]) -> list[CaseImage]:
    """Return the images, of which there must be as many as poses, and note which of several has which."""
    if len(named) != len(images):
        message = f"There are {len(named)} poses, but {len(images)} images, and nothing tells which belong together."
        raise InputError(message, "Remove the images without a pose, or name the files of the poses after their images.")
    if len(images) > 1:
        pairs = "; ".join(f"{image.image} has {pose.where}" for (pose, _), image in zip(named, images, strict=True))
        notes.append(f"Only their order tells which pose belongs to which image, so check it: {pairs}.")
    return list(images)


def _finder(images: Sequence[CaseImage]) -> Callable[[str | None, int], CaseImage | None]:
    """Return what finds an image by its path and frame, or by its file's name alone if no other has it."""
    frames = _frames(images)
    by_path = {(image.image, image.frame): image for image in images}
    stems: dict[str, list[CaseImage]] = defaultdict(list)
    for image in images:
        stems[file_stem(image.image, image.frame, frames[image.image])].append(image)

    def find(name: str | None, frame: int) -> CaseImage | None:
        if not name:
            return None
        file = name.rsplit("/", 1)[-1]
        candidates = stems.get(file) or stems.get(file_stem(name, 0, [0])) or []
        return by_path.get((name, frame)) or (candidates[0] if len(candidates) == 1 else None)

    return find


def _rows_reversed(view: XrayView) -> XrayView:
    """Return the view whose first row is the other's last."""
    last = view.pixel_lps_mm([0, view.size_px[1] - 1])
    return replace(view, detector_origin_lps_mm=last, row_step_lps_mm=-view.row_step_lps_mm)


def _check(where: str, view: XrayView) -> None:
    if view.is_mirrored:
        message = f"{where} is mirrored: seen from the source, its columns run right to left while its rows run down."
        raise InputError(message, _ROWS_UP)
    if max(np.abs(view.source_lps_mm).max(), np.abs(view.detector_origin_lps_mm).max()) > LARGEST_COORDINATE_MM:
        raise InputError(f"{where} lies more than {LARGEST_COORDINATE_MM / 1000:g} m away from the origin.", "State the unit with --unit.")
    check_view(where, view)


def _check_distances(posed: Sequence[PosedImage]) -> None:
    """Raise an InputError where the sources are much too close to what the views look at: lengths in centimeters or meters."""
    sources = np.stack([image.view.source_lps_mm for image in posed])
    axes = np.stack([image.view.lps_from_camera[:3, 2] for image in posed])
    point = meeting_point(sources, axes, CLEAR_CROSSING)
    if point is None:
        return
    distance = float(np.median(np.linalg.norm(sources - point, axis=1)))
    detector = float(np.median([image.view.source_to_detector_mm for image in posed]))
    if distance < LEAST_DISTANCE_SHARE * detector:
        message = f"The sources are {distance:.3g} mm from what the views look at, but {detector:.0f} mm from their detectors."
        raise InputError(message, "State the unit of the file with --unit, or check the intrinsics.")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
