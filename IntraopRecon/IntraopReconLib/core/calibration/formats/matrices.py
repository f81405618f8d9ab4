"""Projection matrices as text or JSON.

Text: three lines of four numbers a view, or one line of twelve; commas, semicolons, brackets and blanks separate; what follows # or % is a
comment. JSON: `{"views": [{"matrix": [[...], [...], [...]], "image": ..., "size_px": ..., "source_to_detector_mm": ...}]}`, of which only
the matrix must be there, `{"matrices": [...]}`, or a bare list of matrices.

A matrix maps homogeneous points to homogeneous pixels (column, row, 1), 0 = center of the first pixel. Its scale and sign do not matter.

Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 6.1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.calibration.poses import SOURCE_TO_DETECTOR_RANGE_MM, PosedImage
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.textfiles import read_json, read_text

from .file_pose import MatrixPose, check_matrix, numbers, oriented

_CHOOSE = "the file with one 3×4 projection matrix a view"
_REMEDY = "Write three lines of four numbers a view, or one line of twelve."
_JSON_REMEDY = "Each view holds a matrix of three rows with four numbers."


def read_matrices(path: Path) -> list[MatrixPose]:
    """Read projection matrices from text or JSON.

    Args:
        path: The file; JSON if its name ends in .json or it begins with a brace.

    Returns:
        One pose a matrix, in the order of the file.

    Raises:
        InputError: The file cannot be read, or a matrix is wrong; names the line or the view.
    """
    path = Path(path)
    return _from_json(path) if is_json(path) else _from_text(path)


def is_json(path: Path) -> bool:
    """Tell whether a file is to be read as JSON, by its name or its first character."""
    return path.suffix.lower() == ".json" or read_text(path, _CHOOSE).lstrip().startswith("{")


def _from_text(path: Path) -> list[MatrixPose]:
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path, _CHOOSE).split("\n"), 1):
        words = re.split(r"[\s,;\[\]()]+", re.split("[#%]", line)[0])
        values = _values(f"{path.name}, line {number}", [word for word in words if word])
        if not values:
            continue
        open_matrix = len(rows) % 3 != 0
        if len(values) == 12 and not open_matrix:
            rows += [values[0:4], values[4:8], values[8:12]]
        elif len(values) == 4:
            rows.append(values)
        else:
            expected = "4 numbers, the next row of a matrix" if open_matrix else "4 or 12 numbers"
            raise InputError(f"{path.name}, line {number}: expected {expected}, got {len(values)}.", _REMEDY)
    if not rows:
        raise InputError(f"{path.name} holds no numbers.", f"Choose {_CHOOSE}.")
    if len(rows) % 3:
        raise InputError(f"{path.name}: the last matrix has {len(rows) % 3} of 3 rows.", _REMEDY)
    return _poses(path, np.array(rows).reshape(-1, 3, 4), [{}] * (len(rows) // 3))


def _values(where: str, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{where} is not made of numbers.", _REMEDY) from error
    if not all(map(math.isfinite, values)):
        raise InputError(f"{where} holds NaN or infinity.", "Remove the view, or correct it.")
    return values


def _from_json(path: Path) -> list[MatrixPose]:
    document = read_json(path, _CHOOSE)
    entries = document
    if isinstance(document, dict):
        entries = document.get("views", document.get("matrices"))
        for field, expected in (("coordinate_system", "LPS"), ("units", "mm")):
            if document.get(field, expected) != expected:
                remedy = f'Convert it, or remove "{field}" and state it with the command.'
                raise InputError(f'{path.name}: "{field}" must be "{expected}" where the file states it.', remedy)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path.name} holds no list of views or matrices.", _JSON_REMEDY)
    stated = [entry if isinstance(entry, dict) else {"matrix": entry} for entry in entries]
    found = [numbers(f"{path.name}, view {n}, matrix", entry.get("matrix"), (3, 4), _JSON_REMEDY) for n, entry in enumerate(stated)]
    return _poses(path, np.array(found), stated)


def _poses(path: Path, matrices: np.ndarray, stated: Sequence[dict[str, Any]]) -> list[MatrixPose]:
    places = [f"{path.name}, view {number}" for number in range(len(matrices))]
    for where, matrix in zip(places, matrices, strict=True):
        check_matrix(where, matrix)
    return [
        MatrixPose(where, matrix, **_optional(where, entry))
        for where, matrix, entry in zip(places, oriented(matrices), stated, strict=True)
    ]


def _optional(where: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what a JSON entry states beside its matrix, checked."""
    found: dict[str, Any] = {}
    if entry.get("image") is not None:
        if not isinstance(entry["image"], str):
            raise InputError(f'{where}: "image" must be the path of an image.', "Correct or remove it.")
        found["image"] = entry["image"].replace("\\", "/")
    if entry.get("frame") is not None:
        frame = float(numbers(f'{where}, "frame"', entry["frame"], (), "Correct or remove it."))
        if frame < 0 or frame != int(frame):
            raise InputError(f'{where}: "frame" counts from 0.', "Correct or remove it.")
        found["frame"] = int(frame)
    if entry.get("size_px") is not None:
        columns, rows = numbers(f'{where}, "size_px"', entry["size_px"], (2,), "It is [columns, rows].")
        found["size_px"] = (int(columns), int(rows))
    if entry.get("source_to_detector_mm") is not None:
        distance = float(numbers(f'{where}, "source_to_detector_mm"', entry["source_to_detector_mm"], (), "Correct or remove it."))
        low, high = SOURCE_TO_DETECTOR_RANGE_MM
        if not low <= distance <= high:
            raise InputError(f'{where}: "source_to_detector_mm" is not between {low:g} and {high:g}.', "Correct or remove it.")
        found["source_to_detector_mm"] = distance
    return found


def matrices_text(posed: Sequence[PosedImage]) -> str:
    """Return matrices (LPS mm to pixels) as text, each after a comment that names its image."""
    lines = ["# 3x4 projection matrices: LPS mm to pixels (column, row), 0 = center of the first pixel; the third is the depth in mm"]
    for image in posed:
        lines.append(f"# {image.image}, frame {image.frame}, {image.size_px[0]} x {image.size_px[1]} pixels")
        lines += [" ".join(f"{value:.17g}" for value in row) for row in image.view.projection_matrix]
    return "\n".join(lines) + "\n"


def matrices_json(posed: Sequence[PosedImage]) -> str:
    """Return matrices (LPS mm to pixels) as JSON, with all that makes them complete views again."""
    views = [
        {
            "image": image.image,
            "frame": image.frame,
            "size_px": list(image.size_px),
            "source_to_detector_mm": image.view.source_to_detector_mm,
            "matrix": image.view.projection_matrix.tolist(),
        }
        for image in posed
    ]
    document = {"format": "projection matrices", "coordinate_system": "LPS", "units": "mm", "views": views}
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
