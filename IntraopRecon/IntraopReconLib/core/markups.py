"""Slicer's markups files (`.mrk.json`), as far as points and boxes have it in common.

Source: 3D Slicer, developer guide, Markups, "Markups json file format" (schema 1.0.4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import LPS_FROM_RAS
from SparseAnatomyLib.textfiles import read_json

_MILLIMETERS = ("mm", ["mm", "UCUM", "millimeter"])  # a name, or code, scheme and meaning


def read_markups(path: Path, kind: str, what: str) -> list[dict[str, Any]]:
    """Return the markups of one kind.

    Args:
        path: JSON as Slicer writes it.
        kind: Their type, such as "Fiducial" or "ROI".
        what: What the user should have chosen, for the remedy.

    Raises:
        InputError: The file cannot be read, or is no markups file.
    """
    content = read_json(path, what)
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list):
        raise InputError(f"{path.name} is not a markups file of Slicer.", f"Choose {what}.")
    return [markup for markup in markups if isinstance(markup, dict) and markup.get("type") == kind]


def lps_signs(markup: dict[str, Any], said: str) -> np.ndarray:
    """Return the signs [3] that turn a markup's coordinates into LPS mm.

    Args:
        markup: As read.
        said: What messages call it, such as "The ROI in box.mrk.json".

    Raises:
        InputError: Its frame is unknown, or its unit is not the millimeter.
    """
    if markup.get("coordinateUnits", "mm") not in _MILLIMETERS:
        raise InputError(f"{said} is not in millimeters.", "Save it again from Slicer, in mm.")
    system = markup.get("coordinateSystem", "LPS")
    if system not in ("LPS", "RAS"):
        raise InputError(f"{said} has an unknown coordinate system.", "Save it again from Slicer, in LPS or RAS.")
    return np.ones(3) if system == "LPS" else np.diag(LPS_FROM_RAS)[:3]
