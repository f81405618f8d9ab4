"""The beads of a jig on disk: Slicer's markups (`.mrk.json`).

Source: 3D Slicer, developer guide, Markups, "Markups json file format" (schema 1.0.4).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.markups import lps_signs, read_markups
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.textfiles import replace_text

from .correspondence import Beads

KIND_OF_SIZE = {"small": 1, "large": 2}  # the size classes of `Beads.kind`; 0 where nothing is said
LARGEST_COORDINATE_MM = 100_000.0
_SCHEMA = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
_CHOOSE = "the .mrk.json file of the beads that Slicer saves"
_SAVE_AGAIN = "Place one point a bead in Slicer, in millimeters, and save the list as .mrk.json."


@dataclass(frozen=True, eq=False)
class Fiducials(Beads):
    """Beads with the names that a user gave them.

    Attributes:
        labels: [B], or empty if nobody named them.
    """

    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels and len(self.labels) != len(self):
            raise ValueError(f"labels: expected {len(self)}, got {len(self.labels)}.")


def read_fiducials(path: Path) -> Fiducials:
    """Read the beads of a jig from Slicer's point lists.

    All point lists of the file are joined. Points that were never placed are left out. A label or description that says "small" or "large"
    gives a bead its size class (1 and 2).

    Args:
        path: JSON as Slicer writes it, in LPS or RAS mm.

    Returns:
        The beads, LPS mm, with their labels.

    Raises:
        InputError: The file cannot be read, holds no points, or one of them is wrong; names the file and the point.
    """
    path = Path(path)
    positions: list[np.ndarray] = []
    kinds: list[int] = []
    labels: list[str] = []
    for markup in read_markups(path, "Fiducial", _CHOOSE):
        axes = lps_signs(markup, f"The point list in {path.name}")
        for point in _placed_points(path, markup):
            where = f"{path.name}, point {len(positions) + 1}"
            positions.append(axes * _position(where, point))
            label, description = (point.get(name) if isinstance(point.get(name), str) else "" for name in ("label", "description"))
            kinds.append(_kind(f"{label} {description}"))
            labels.append(label)
    if not positions:
        raise InputError(f"{path.name} holds no points.", _SAVE_AGAIN)
    return Fiducials(np.array(positions), np.array(kinds), tuple(labels))


def write_fiducials(path: Path, beads: Beads) -> None:
    """Write beads as a point list that Slicer opens, replacing the file at once or not at all.

    Args:
        path: The file to write (.mrk.json); its folder exists.
        beads: LPS mm; labels are kept, and beads without are numbered. The size class stands in the description.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    labels = getattr(beads, "labels", ()) or [f"bead-{number + 1}" for number in range(len(beads))]
    size_of_kind = {kind: size for size, kind in KIND_OF_SIZE.items()}
    points = [
        {
            "id": str(number + 1),
            "label": label,
            "description": size_of_kind.get(int(kind), ""),
            "position": position.tolist(),
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (label, kind, position) in enumerate(zip(labels, beads.kind, beads.position_lps_mm, strict=True))
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "labelFormat": "%N-%d",
        "controlPoints": points,
    }
    replace_text(path, json.dumps({"@schema": _SCHEMA, "markups": [markup]}, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _placed_points(path: Path, markup: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the control points that have a position."""
    points = markup.get("controlPoints")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError(f"{path.name} has a point list without control points.", _SAVE_AGAIN)
    return [point for point in points if point.get("positionStatus", "defined") == "defined"]


def _position(where: str, point: dict[str, Any]) -> np.ndarray:
    value = point.get("position")
    numbers = (
        [number for number in value if isinstance(number, int | float) and not isinstance(number, bool)] if isinstance(value, list) else []
    )
    try:
        position = np.array(numbers, dtype=float)
    except OverflowError:
        position = np.array([np.nan])
    if not isinstance(value, list) or len(value) != 3 or position.shape != (3,) or not np.isfinite(position).all():
        raise InputError(f"{where}: its position is not three numbers.", "Correct the point or remove it.")
    if np.abs(position).max() > LARGEST_COORDINATE_MM:
        raise InputError(f"{where} lies {np.abs(position).max() / 1000:.3g} m away from the origin.", "Give the points in millimeters.")
    return position


def _kind(text: str) -> int:
    said = [kind for size, kind in KIND_OF_SIZE.items() if re.search(f"(?<![a-z]){size}(?![a-z])", text.lower())]
    return said[0] if len(said) == 1 else 0
