"""The order of file names as a person counts them."""

from __future__ import annotations

import re
from pathlib import PurePath


def natural_key(path: PurePath) -> tuple:
    """Return what sorts paths folder by folder, numbers in names by their value and letters regardless of their case: 2 before 10.

    Names that differ in nothing else are told apart by their spelling, so that the order is the same everywhere.
    """
    return tuple(_part_key(part) for part in path.parts), path.parts


def _part_key(part: str) -> tuple:
    """Return words and numbers in turns; a number as its count of digits and digits, as Python reads no number of any length."""
    pieces = re.split("([0-9]+)", part.casefold())
    return tuple((len(digits := piece.lstrip("0")), digits) if place % 2 else piece for place, piece in enumerate(pieces))
