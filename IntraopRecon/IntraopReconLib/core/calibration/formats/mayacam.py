"""MayaCam files of XMALab and Autoscoper, one camera a file.

Version 2.0 states OpenCV's camera: image size (columns, rows), camera matrix (pixels, 0 = center of the first pixel, rows down), rotation
and translation from the world to the camera. Version 1.0 states Maya's camera: its place, its rotation (degrees, about its own z, then y,
then x axis; x to the right, y up, z backwards), and the principal point counted from 1 with rows counted from the bottom. World and unit
of length are those of the calibration object.

Source: XMALab, `Camera::getMayaCam` and wiki "New Dataset with calibration from another program"; Autoscoper, "Camera Calibration File
Format", `Camera::loadMayaCam1`, `Camera::loadMayaCam2` and `CoordFrame::from_xyzypr`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from IntraopReconLib.core.calibration.poses import LARGEST_SIZE_PX, PosedImage
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.textfiles import read_text

from .file_pose import NOTICED_PX, MatrixPose, check_matrix, check_rectangular

MAYA_AXES = np.diag([1.0, -1.0, -1.0])  # Maya's camera looks along -z with y up; OpenCV's along z with y down
LEGACY_SIZE_PX = 1024  # what a size of 0 stands for in version 1.0
LARGEST_VALUE = 1e7
LARGEST_SLANT = 1e-3  # of a rotation matrix from one
SECTIONS = (("image size", 1, 2), ("camera matrix", 3, 3), ("rotation", 3, 3), ("translation", 3, 1))
_CHOOSE = "the MayaCam file of one camera"
_REMEDY = "Export the MayaCam again from XMALab."


def read_mayacam(path: Path) -> list[MatrixPose]:
    """Read a MayaCam file of version 1.0 or 2.0.

    Args:
        path: The file (.txt or .csv).

    Returns:
        A single pose, in the file's own coordinates and unit.

    Raises:
        InputError: The file cannot be read, or a line is wrong; names it.
    """
    path = Path(path)
    lines = [line.strip().lower() for line in read_text(path, _CHOOSE).split("\n")]
    matrix, size = _version_2(path.name, lines) if lines[0] == "image size" else _version_1(path.name, lines)
    check_matrix(path.name, matrix)
    return [MatrixPose(path.name, matrix, size)]


def _version_2(name: str, lines: list[str]) -> tuple[np.ndarray, tuple[int, int]]:
    found: dict[str, np.ndarray] = {}
    for title, count, width in SECTIONS:
        if title not in lines:
            raise InputError(f'{name}: "{title}" is missing.', _REMEDY)
        start = lines.index(title) + 1
        rows = [_row(f"{name}, line {start + n + 1}", line, width) for n, line in enumerate(lines[start : start + count])]
        if len(rows) < count:
            raise InputError(f'{name}: "{title}" has {len(rows)} of {count} lines.', _REMEDY)
        found[title] = np.array(rows)
    rotation, intrinsics = found["rotation"], found["camera matrix"]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > LARGEST_SLANT or np.linalg.det(rotation) < 0:
        raise InputError(f"{name}: the rotation is none: its rows are not perpendicular unit vectors, or mirrored.", _REMEDY)
    if np.abs(intrinsics[[1, 2, 2, 2], [0, 0, 1, 2]] - [0, 0, 0, 1]).max() > 1e-9 or not (np.diag(intrinsics) > 0).all():
        raise InputError(f"{name}: the camera matrix is none: expected fx, 0, cx; 0, fy, cy; 0, 0, 1.", _REMEDY)
    return intrinsics @ np.hstack([rotation, found["translation"]]), _size(name, found["image size"][0])


def _version_1(name: str, lines: list[str]) -> tuple[np.ndarray, tuple[int, int]]:
    if len([line for line in lines if line]) < 5:
        raise InputError(f"{name} is not a MayaCam file: expected 5 lines of three numbers.", f"Choose {_CHOOSE}.")
    position, angles_deg, _, (first, second, depth), (_, columns, rows) = (
        _row(f"{name}, line {n + 1}", line, 3) for n, line in enumerate(lines[:5])
    )
    size = _size(name, [columns or LEGACY_SIZE_PX, rows or LEGACY_SIZE_PX])
    if not depth < 0:
        raise InputError(f"{name}, line 4: the third number, minus the focal length in pixels, must be below zero.", _REMEDY)
    intrinsics = np.array([[-depth, 0, first - 1], [0, -depth, size[1] - second], [0, 0, 1]])
    world_from_camera = affine(_maya_rotation(np.radians(angles_deg)) @ MAYA_AXES, position)
    return intrinsics @ np.linalg.inv(world_from_camera)[:3], size


def _maya_rotation(angles_rad: np.ndarray) -> np.ndarray:
    """Return Maya's [3, 3] rotation by angles about x, y, z: columns are the camera's axes in the world."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _row(where: str, line: str, width: int) -> list[float]:
    try:
        values = [float(word) for word in line.split(",") if word.strip()]
    except ValueError:
        values = []
    if len(values) != width or not all(abs(value) <= LARGEST_VALUE for value in values):  # NaN fails too
        raise InputError(f"{where}: expected {width} number{'s' * (width > 1)}.", _REMEDY)
    return values


def _size(name: str, size: np.ndarray | list[float]) -> tuple[int, int]:
    if not all(1 <= number <= LARGEST_SIZE_PX and number == int(number) for number in size):
        raise InputError(f"{name}: the image size is {size[0]:g} × {size[1]:g}.", _REMEDY)
    return int(size[0]), int(size[1])


def mayacam_2_text(posed: PosedImage) -> str:
    """Return a view as MayaCam 2.0, in LPS mm.

    Raises:
        InputError: Its pixels are not perpendicular.
    """
    check_rectangular("MayaCam", posed)
    view = posed.view
    camera_from_lps = np.linalg.inv(view.lps_from_camera)
    intrinsics = view.intrinsics_px
    intrinsics[0, 1] = intrinsics[1, 0] = 0.0
    intrinsics[2] = 0.0, 0.0, 1.0
    values = {
        "image size": [list(view.size_px)],
        "camera matrix": intrinsics,
        "rotation": camera_from_lps[:3, :3],
        "translation": camera_from_lps[:3, 3:],
    }
    return "\n\n".join("\n".join([title, *map(_line, values[title])]) for title, _, _ in SECTIONS) + "\n"


def mayacam_1_text(posed: PosedImage) -> str:
    """Return a view as MayaCam 1.0, in LPS mm; it has a single focal length.

    Raises:
        InputError: Its pixels are not square.
    """
    check_rectangular("MayaCam", posed)
    intrinsics, (columns, rows) = posed.view.intrinsics_px, posed.size_px
    focal = float(np.mean(np.diag(intrinsics)[:2]))
    if abs(intrinsics[0, 0] / focal - 1) * math.hypot(columns, rows) > NOTICED_PX:
        raise InputError(f"{posed.image}: its pixels are not square, which MayaCam 1.0 cannot state.", "Choose MayaCam 2.0.")
    rotation = posed.view.lps_from_camera[:3, :3] @ MAYA_AXES
    angles_rad = (
        math.atan2(rotation[2, 1], rotation[2, 2]),
        math.atan2(-rotation[2, 0], math.hypot(rotation[0, 0], rotation[1, 0])),
        math.atan2(rotation[1, 0], rotation[0, 0]),
    )
    if math.hypot(rotation[0, 0], rotation[1, 0]) < 1e-9:  # the gimbal locks: any angle about x goes with one about z
        angles_rad = (0.0, angles_rad[1], math.atan2(-rotation[0, 1], rotation[1, 1]))
    first, second = intrinsics[0, 2] + 1, rows - intrinsics[1, 2]
    scale = posed.view.source_to_detector_mm / focal
    plane = scale * np.array([columns / 2 - first, rows / 2 - second, -focal])
    lines = [posed.view.source_lps_mm, np.degrees(angles_rad), plane, [first, second, -focal], [scale, columns, rows]]
    return "\n".join(map(_line, lines)) + "\n"


def _line(values: np.ndarray | list[float]) -> str:
    return ",".join(f"{value:.17g}" for value in values)
