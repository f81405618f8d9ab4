"""A region of interest from Slicer: the box of a markups ROI file (`.mrk.json`)."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError

from .config import Region
from .markups import lps_signs, read_markups

_DRAW = "Place the ROI in Slicer around the anatomy and save it as .mrk.json."
_CHOOSE = "the .mrk.json file that Slicer saves for the ROI"


def read_region(path: Path) -> Region:
    """Read the box of the first ROI in a Slicer markups file.

    The axes are named anew so that they lie as close as possible to left, posterior, superior: the box stays the same, and that of an
    ROI along the patient's axes gives a volume along them.

    Args:
        path: JSON as Slicer writes it (markups schema 1.0): `center`, `size` and `orientation` in LPS or RAS mm.

    Raises:
        InputError: No such file, no ROI in it, or one that is not placed or has no extent.
    """
    path = Path(path)
    rois = read_markups(path, "ROI", _CHOOSE)
    if not rois:
        raise InputError(f"{path.name} holds no ROI.", "Choose the .mrk.json file of an ROI, not of points or other markups.")
    roi = rois[0]
    frame = lps_signs(roi, f"The ROI in {path.name}")
    if not roi.get("controlPoints"):
        raise InputError(f"The ROI in {path.name} has no control points: it was never placed.", _DRAW)
    center = _numbers(path, roi, "center", 3) * frame
    size = _numbers(path, roi, "size", 3)
    if not (size > 0).all():
        raise InputError(f"The ROI in {path.name} has no extent: its size is {size.tolist()} mm.", "Draw it larger and save it again.")
    axes = _numbers(path, roi, "orientation", 9).reshape(3, 3) * frame[:, None] if "orientation" in roi else np.eye(3)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise InputError(f"The ROI in {path.name} has axes that are not perpendicular.", "Remove scaling transforms, then save it again.")
    direction, extent = _along_patient(axes, size)
    return Region(_triple(center), _triple(extent), tuple(_triple(row) for row in direction))


def _numbers(path: Path, roi: dict[str, Any], name: str, count: int) -> np.ndarray:
    values = roi.get(name)
    try:
        array = np.array(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise InputError(f"The ROI in {path.name} has no valid {name}: expected {count} numbers.", _DRAW)
    return array


def _along_patient(axes: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorder and flip the box's axes (columns, [3, 3]) so that column n lies along patient axis n; right-handed."""
    order = list(max(permutations(range(3)), key=lambda p: sum(abs(axes[n, p[n]]) for n in range(3))))
    columns = axes[:, order]
    columns = columns * np.where(np.diag(columns) < 0, -1.0, 1.0)
    if np.linalg.det(columns) < 0:
        columns[:, np.argmin(np.diag(columns))] *= -1
    return columns, size[order]


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) + 0.0 for value in values)  # + 0.0 turns Slicer's -0.0 into 0.0
    return x, y, z
