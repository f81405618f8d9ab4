"""Poses into a case folder from the files of another program, and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.ordering import natural_key
from SparseAnatomyLib.staging import write_together

from .calibration.correspondence import Beads
from .calibration.fiducials import read_fiducials
from .calibration.intrinsics import read_intrinsics
from .calibration.pose_formats import case_images, export_poses, import_poses, unseen_beads
from .calibration.poses import PosedImage, read_poses, write_poses
from .calibration_config import PoseFileSettings, PoseFormat
from .case import POSES_FILE, XRAYS_FOLDER, check_case_folder
from .xrays.dicom import read_radiographs

FIDUCIALS_FILE = "fiducials.mrk.json"


def import_into_case(
    folder: Path, files: Sequence[Path], settings: PoseFileSettings, intrinsics: Path | None = None
) -> tuple[list[PosedImage], list[str]]:
    """Read poses of another program and write them as the case's `poses.json`, whole or not at all.

    The intensity of air that an earlier `poses.json` states is kept.

    Args:
        folder: The case folder, with its X-rays.
        files: What the other program wrote.
        settings: What the files do not state themselves.
        intrinsics: File with pixel pitch and source-detector distance; the tags of the X-rays tell them otherwise.

    Returns:
        What was written, and what the user should know, a sentence each.

    Raises:
        InputError: The case or a file cannot be read, they do not fit each other, or most X-rays would be left without a pose.
        ResourceError: The images do not fit into memory, or the disk is full.
    """
    folder = Path(folder)
    check_case_folder(folder)
    xrays = folder / XRAYS_FOLDER
    if not xrays.is_dir():
        raise InputError(f"The case folder {folder.name or folder} has no folder {XRAYS_FOLDER}.", "Put the X-rays (DICOM) there.")
    images = case_images(read_radiographs(xrays, folder), read_intrinsics(intrinsics) if intrinsics else None)
    warnings: list[str] = []
    posed = import_poses(files, images, settings, warnings)
    if 2 * len(posed) < len(images):  # one camera's file is easily taken for that of all
        message = f"Only {len(posed)} of {len(images)} X-rays would have a pose."
        raise InputError(message, "Give the folder of all pose files, or take the X-rays without a pose out of the case.")
    air = _air_intensities(folder / POSES_FILE)
    posed = [replace(one, air_intensity=air.get((one.image, one.frame))) if one.air_intensity is None else one for one in posed]
    write_together(folder, [POSES_FILE], lambda staging: write_poses(staging / POSES_FILE, posed))
    found = {(one.image, one.frame) for one in posed}
    warnings += [f"{one.image} has no pose and will be left out." for one in images if (one.image, one.frame) not in found]
    beads = _beads(folder)
    return posed, warnings + (unseen_beads(posed, beads) if beads is not None else [])


def export_from_case(folder: Path, path: Path, format: PoseFormat) -> tuple[list[Path], list[str]]:
    """Write the poses of a case for another program; views that were graded red are left out.

    They are in the order of the X-rays' names, whatever that of `poses.json` is: a file without names is read in this order again.

    Args:
        folder: The case folder with its `poses.json`.
        path: The file, or the folder of a format with one file a camera.
        format: Which.

    Returns:
        The files, and what the user should know, a sentence each.

    Raises:
        InputError: The case has no usable poses, or the format cannot state one.
        ResourceError: The disk is full.
    """
    folder = Path(folder)
    posed = sorted(read_poses(folder / POSES_FILE), key=lambda one: (natural_key(PurePosixPath(one.image)), one.frame))
    kept = [one for one in posed if one.grade != "red"]
    warnings = [f"{one.image} was left out: its calibration is graded red." for one in posed if one.grade == "red"]
    return export_poses(kept, path, format, _beads(folder)), warnings


def _air_intensities(path: Path) -> dict[tuple[str, int], float]:
    """Return the intensity of air of each image that an earlier pose file states; nothing if there is none to be read."""
    try:
        earlier = read_poses(path)
    except InputError:
        return {}
    return {(one.image, one.frame): one.air_intensity for one in earlier if one.air_intensity is not None}


def _beads(folder: Path) -> Beads | None:
    path = folder / FIDUCIALS_FILE
    return read_fiducials(path) if path.is_file() else None
