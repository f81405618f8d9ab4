"""What a user gives the calibration by hand: the beads of single X-rays, and a jig that is no file yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.staging import write_together

from .calibration.calibration_file import FOLDER
from .calibration.fiducials import KIND_OF_SIZE, Fiducials, write_fiducials
from .calibration.placed_beads import hand_file

JIG_FILE = "jig.mrk.json"
_REMEDY = "Restart the application, so that the panel and its worker come from the same version."


def place_beads(case: Path, beads: Mapping[str, Sequence[Sequence[Any]] | None]) -> None:
    """Write the beads that were placed by hand where `calibrate_case` finds them (see `calibration.shots`).

    Args:
        case: Case folder.
        beads: By the key of the X-ray: all of its beads as (column, row, size class or ""), in pixels, 0 = center of the first pixel; or
            None to go back to those that are detected.

    Raises:
        InputError: A key or a bead is none, or the case may not be written to.
        ResourceError: The disk is full or fails.
    """
    folder = Path(case) / FOLDER
    for key, placed in beads.items():
        if not key or PurePath(key).name != key or "\\" in key:
            raise InputError(f"{key!r} is not the name of an X-ray.", _REMEDY)
        name = hand_file(key)
        if placed is None:
            if (folder / name).exists():
                write_together(folder, [], lambda _staging: None, [name])
        elif not placed:
            raise InputError(
                f"All beads of {key} were removed.", "Leave out this X-ray in step 1, or go back to the beads that were found."
            )
        else:
            _write(folder, name, _fiducials(key, placed))


def write_jig(case: Path, points: Sequence[Sequence[Any]]) -> Path:
    """Write the beads of a jig into the case and return the file.

    Args:
        case: Case folder.
        points: (x, y, z, label) a bead, LPS mm; a label that says "small" or "large" gives the size class.

    Raises:
        InputError: There are none, one is no point, or the case may not be written to.
        ResourceError: The disk is full or fails.
    """
    if not points:
        raise InputError("The jig has no points.", "Place a point at every bead of the jig, or choose another point list.")
    try:
        position = np.array([[float(number) for number in point[:3]] for point in points]).reshape(-1, 3)
        labels = tuple(str(point[3]) for point in points)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError("The request's points are none.", _REMEDY) from error
    kinds = [next((kind for size, kind in KIND_OF_SIZE.items() if size in label.lower()), 0) for label in labels]
    return _write(Path(case) / FOLDER, JIG_FILE, Fiducials(position, np.array(kinds), labels))


def _write(folder: Path, name: str, beads: Fiducials) -> Path:
    write_together(folder, [name], lambda staging: write_fiducials(staging / name, beads))
    return folder / name


def _fiducials(key: str, placed: Sequence[Sequence[Any]]) -> Fiducials:
    try:
        position = np.array([[float(column), float(row), 0.0] for column, row, _ in placed])
        kinds = np.array([KIND_OF_SIZE.get(size, 0) for _, _, size in placed])
    except (TypeError, ValueError) as error:
        raise InputError(f"The beads of {key} are none.", _REMEDY) from error
    return Fiducials(position, kinds, tuple(f"bead-{number + 1}" for number in range(len(placed))))
