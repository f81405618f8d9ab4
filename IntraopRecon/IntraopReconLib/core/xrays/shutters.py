"""Which pixels were exposed, as the file states it: display shutters (PS3.3 C.7.6.11) and collimators (C.8.7.3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask


def shutter_mask(image: Dataset, name: str) -> tuple[np.ndarray, list[str]]:
    """Return which pixels lie inside every stated shutter and collimator.

    Args:
        image: The attributes of one frame: Rows, Columns and any Shutter and Collimator attributes. Positions in them count rows
            and columns from 1.
        name: What messages call the image.

    Returns:
        bool [row, column], all True where nothing is stated; and warnings about shutters that were ignored because their
        attributes are incomplete or hide the whole image.
    """
    shape = (int(image.Rows), int(image.Columns))
    mask, warnings = np.ones(shape, dtype=bool), []
    for kind in ("Shutter", "Collimator"):
        stated = image.get(f"{kind}Shape") or []
        for form in [stated] if isinstance(stated, str) else stated:
            if form not in FORMS:
                continue
            try:
                inside = mask & FORMS[form](image, kind, shape)
            except ValueError as error:
                warnings.append(f"{name}: its {form.lower()} {kind.lower()} was ignored: {error}.")
                continue
            if inside.any():
                mask = inside
            else:
                warnings.append(f"{name}: its {form.lower()} {kind.lower()} was ignored: it hides the whole image.")
    return mask, warnings


def _rectangle(image: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    names = [f"{kind}{edge}Edge" for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")]
    left, right, upper, lower = (_numbers(image, keyword, 1)[0] for keyword in names)
    row, column = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    return (column >= left) & (column <= right) & (row >= upper) & (row <= lower)


def _circle(image: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """The radius counts pixels along a row; rows are scaled by the pixels' aspect ratio."""
    center_row, center_column = _numbers(image, f"CenterOfCircular{kind}", 2)
    (radius,) = _numbers(image, f"RadiusOfCircular{kind}", 1)
    row, column = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    return ((row - center_row) * _aspect(image)) ** 2 + (column - center_column) ** 2 <= radius**2


def _aspect(image: Dataset) -> float:
    """Vertical over horizontal size of a pixel, 1 unless a pair of positive numbers says otherwise."""
    for keyword in ("PixelAspectRatio", "ImagerPixelSpacing", "PixelSpacing"):
        value = image.get(keyword)
        if value is not None and not isinstance(value, str) and len(value) == 2:
            vertical, horizontal = (float(number) for number in value)
            if vertical > 0 and horizontal > 0 and math.isfinite(vertical / horizontal):
                return vertical / horizontal
    return 1.0


def _polygon(image: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    numbers = _numbers(image, f"VerticesOfThePolygonal{kind}", None)
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError("it has fewer than three corners")
    corners = np.array(numbers).reshape(-1, 2) - 1
    return polygon2mask(shape, np.clip(corners, -2 * max(shape), 3 * max(shape)))


FORMS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def _numbers(image: Dataset, keyword: str, count: int | None) -> list[float]:
    """Return an attribute's numbers; `count` None takes any number of them.

    Raises:
        ValueError: They are missing or no numbers.
    """
    value: Any = image.get(keyword)
    values = [] if value is None else [value] if isinstance(value, str | int | float) else list(value)
    try:
        numbers = [float(number) for number in values]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{keyword} is not a number") from error
    if not all(map(math.isfinite, numbers)) or (count is not None and len(numbers) != count):
        raise ValueError(f"{keyword} is missing or damaged")
    return numbers
