"""Corrections of distortion on disk (format "SparseAnatomy distortion", version 1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.textfiles import replace_text

from .distortion import Distortion
from .distortion_grid import AXIS_ANGLE_RAD

FORMAT = "SparseAnatomy distortion"
VERSION = 1
MOST_DEGREE = 15
LARGEST_SIZE_PX = 16_384
LARGEST_STRETCH = 3.0  # of a pixel's edge, either way: a correction that folds or blows up is damaged
REMEDY = "Fit the distortion again from the X-ray of the grid."


def write_distortion(path: Path, distortion: Distortion) -> None:
    """Write a correction, replacing the file at once or not at all.

    Args:
        path: The file to write (.json); its folder exists.
        distortion: What to write.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "size_px": list(distortion.size_px),
        "degree": distortion.degree,
        "coefficients_px": distortion.coefficients_px.tolist(),
        "hull_px": distortion.hull_px.tolist(),
        "grid": distortion.kind,
        "lattice_px": [[value.real, value.imag] for value in distortion.lattice_px],
        "points": distortion.points,
        "rms_px": distortion.rms_px,
        "held_out_rms_px": distortion.held_out_rms_px,
    }
    replace_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_distortion(path: Path) -> Distortion:
    """Read a correction.

    Args:
        path: A file that `write_distortion` wrote.

    Returns:
        The correction.

    Raises:
        InputError: The file is missing, no such file, or damaged; names the file and the field.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing from {path.parent.name or path.parent}.", REMEDY) from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.", "Check the file and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a valid JSON file: {error}.", REMEDY) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f'{path.name} is not a distortion file: "format" must be "{FORMAT}".', REMEDY)
    if isinstance(document.get("version"), bool) or document.get("version") != VERSION:
        raise InputError(
            f"{path.name} has another version than {VERSION}, which this program reads.", "Fit it again, or update the program."
        )
    try:
        distortion = _distortion(document)
        _check_smooth(distortion)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path.name} is damaged: {error}", REMEDY) from error
    return distortion


def _distortion(document: dict[str, Any]) -> Distortion:
    """Check the fields.

    Raises:
        ValueError: A field is missing or wrong; names it.
        TypeError: As before.
    """
    degree = _whole(document, "degree", 0, MOST_DEGREE)
    kind = document.get("grid")
    if kind not in ("none", *AXIS_ANGLE_RAD):
        raise ValueError("grid: expected square, triangular or none.")
    size = check_array("size_px", document.get("size_px"), (2,))
    if (size != size.round()).any() or (size < 1).any() or (size > LARGEST_SIZE_PX).any():
        raise ValueError(f"size_px: expected two whole numbers from 1 to {LARGEST_SIZE_PX}.")
    coefficients = check_array("coefficients_px", document.get("coefficients_px"), ((degree + 1) * (degree + 2) // 2, 2))
    hull = document.get("hull_px")
    hull = np.empty((0, 2)) if hull == [] else check_array("hull_px", hull, (None, 2))
    if coefficients.any() and len(hull) < 3:
        raise ValueError("hull_px: expected at least three corners.")
    step, origin = check_array("lattice_px", document.get("lattice_px"), (2, 2)) @ np.array([1, 1j])
    return Distortion(
        size_px=(int(size[0]), int(size[1])),
        degree=degree,
        coefficients_px=coefficients,
        hull_px=hull,
        lattice_px=(complex(step), complex(origin)),
        kind=kind,
        points=_whole(document, "points", 0, 10**9),
        rms_px=_residual(document, "rms_px"),
        held_out_rms_px=_residual(document, "held_out_rms_px"),
    )


def _whole(document: dict[str, Any], name: str, low: int, high: int) -> int:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected a whole number from {low} to {high}.")
    return value


def _residual(document: dict[str, Any], name: str) -> float:
    value = float(check_array(name, document.get(name), ()))
    if value < 0:
        raise ValueError(f"{name}: expected a number that is not negative.")
    return value


def _check_smooth(distortion: Distortion) -> None:
    """Check that no pixel is stretched, shrunk or turned beyond reason within the area of the grid.

    Raises:
        ValueError: One is.
    """
    if distortion.is_none:
        return
    point = np.array([0.5 * (distortion.hull_px.mean(axis=0) + corner) for corner in distortion.hull_px] + list(distortion.hull_px))
    step = np.eye(2)
    moved = np.stack([distortion.corrected(point + step[axis]) - distortion.corrected(point) for axis in (0, 1)], axis=-1)
    stretch = np.linalg.svd(moved, compute_uv=False)
    if (np.linalg.det(moved) <= 0).any() or (stretch > LARGEST_STRETCH).any() or (stretch < 1 / LARGEST_STRETCH).any():
        raise ValueError("coefficients_px: the correction folds or tears the image.")
