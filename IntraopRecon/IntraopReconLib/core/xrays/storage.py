"""What a system stores of an image: curve, bits, polarity, burned-in text, and the tags that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .looks import INTENSIFIER_SHARE, Look
from .looks import field as detector_field

LOG_SPAN = 8.0  # natural logarithms below the full scale that a logarithmic curve stores
LUT_BITS = 16
FILM_GAMMA, FILM_MIDDLE = 3.0, 0.2  # of the sigmoid, in decades: slope, and signal of middle gray
WINDOW_PERCENTILES = (2.0, 98.0)
TEXT_SHARE = 0.028  # of the image's edge: height of the letters


@dataclass(frozen=True, eq=False)
class StoredImage:
    """One image as a file holds it.

    Attributes:
        pixels: Stored values, uint16 or uint8 [row, column].
        bits: Of a stored value.
        monochrome1: Whether higher values are shown darker.
        relation: LIN, LOG or DISP (Pixel Intensity Relationship).
        lut: Intensity of each stored value where a table leads back to it, uint16 [2 ** bits]; None without one.
        air_value: Stored value of an unattenuated pixel; None where it cannot be stored or found back.
        tags: Shutter and collimator attributes by DICOM keyword.
        kilovolts: Of the tube; None if not told.
        exposure_ms: At the usual current of a C-arm; None if not told.
    """

    pixels: np.ndarray
    bits: int
    monochrome1: bool
    relation: str
    lut: np.ndarray | None
    air_value: float | None
    tags: Mapping[str, Any] = field(default_factory=dict)
    kilovolts: float | None = None
    exposure_ms: float | None = None


def store(look: Look, signal: np.ndarray, text: str = "") -> StoredImage:
    """Store a signal as a system does, its gain such that air fits into the scale or the median of the anatomy is well visible.

    Args:
        look: The system.
        signal: As the system sees it, relative to air, float32 [row, column]; air is 1.
        text: Burned in where the look says so.
    """
    gain = 1 / look.headroom if look.brightness is None else look.brightness / _anatomy_level(look, signal)
    last = 2**look.bits - 1
    if look.curve == "window":
        low, high = np.percentile(signal[detector_field(look, signal.shape[::-1])], WINDOW_PERCENTILES)
        shown = np.clip((signal - low) / max(high - low, 1e-9), 0, 1)
    else:
        shown = _curve(look, np.maximum(signal, 0) * gain)
    values = np.rint(shown * last)
    outside = ~detector_field(look, signal.shape[::-1])
    values[outside] = 0
    if look.ramp:
        values[0] = np.linspace(0, last, values.shape[1])
    if look.text:
        values[_letters(text, signal.shape, look)] = last
    stored_air = float(_curve(look, np.array(gain))) * last if look.is_readable and gain < 0.999 else None
    if look.monochrome1:
        values, stored_air = last - values, None if stored_air is None else last - stored_air
    return StoredImage(
        pixels=values.astype(np.uint8 if look.bits == 8 else np.uint16),
        bits=look.bits,
        monochrome1=look.monochrome1,
        relation={"linear": "LIN", "logarithm": "LOG"}.get(look.curve, "DISP"),
        lut=_lut(look),
        air_value=stored_air,
        tags=_tags(look, signal.shape),
    )


def _anatomy_level(look: Look, signal: np.ndarray) -> float:
    """Return the median of what is neither air nor behind the collimator, as automatic exposure takes it."""
    inside = signal[detector_field(look, signal.shape[::-1])]
    exposed = inside[inside > 0.1 * np.median(inside)]
    behind = exposed[exposed < 0.7]
    return max(float(np.median(behind if behind.size > 0.05 * inside.size else exposed)), 1e-4)


def _curve(look: Look, linear: np.ndarray) -> np.ndarray:
    """Return shares of the full scale for linear shares of it, 0 to 1."""
    linear = np.clip(linear, 0, 1)
    if look.curve == "square_root":
        return np.sqrt(linear)
    if look.curve == "logarithm":
        return np.maximum(np.log(np.maximum(linear, 1e-30)) / LOG_SPAN + 1, 0)
    if look.curve == "sigmoid":
        return 1 / (1 + (FILM_MIDDLE / np.maximum(linear, 1e-6)) ** (FILM_GAMMA / np.log(10)))
    return linear


def _lut(look: Look) -> np.ndarray | None:
    """Return the table from stored values back to intensity, for curves that need one."""
    share = np.arange(2**look.bits) / (2**look.bits - 1)
    if look.monochrome1:
        share = share[::-1]
    full = 2**LUT_BITS - 1
    if look.curve == "square_root":
        return np.rint(full * share**2).astype(np.uint16)
    if look.curve == "logarithm":
        return np.rint(full * np.where(share > 0, np.exp(LOG_SPAN * (share - 1)), 0)).astype(np.uint16)
    return None


def _letters(text: str, shape: tuple[int, int], look: Look) -> np.ndarray:
    """Return where text is burned in, bool [row, column]: in a lower corner, outside a round field if there is room."""
    rows, columns = shape
    height = max(8, round(TEXT_SHARE * min(shape)))
    canvas = Image.new("1", (columns, rows))
    draw = ImageDraw.Draw(canvas)
    draw.fontmode = "1"
    draw.multiline_text((height // 2, rows - 2.6 * height), text, fill=1, font=ImageFont.load_default(height))
    return np.asarray(canvas, bool)


def _tags(look: Look, shape: tuple[int, int]) -> dict[str, Any]:
    """Return shutter (PS3.3 C.7.6.11) and collimator (C.8.7.3) attributes; positions count from 1."""
    rows, columns = shape
    tags: dict[str, Any] = {}
    middle = (columns - 1) / 2, (rows - 1) / 2
    half = min(shape) / 2
    if look.intensifier and look.shutter_tagged:
        tags["ShutterShape"] = "CIRCULAR"
        tags["CenterOfCircularShutter"] = [round(middle[1]) + 1, round(middle[0]) + 1]
        tags["RadiusOfCircularShutter"] = round(INTENSIFIER_SHARE * half)
    if look.leaves and look.leaves_tagged:
        tags["CollimatorShape"] = "POLYGONAL"
        corners = [(round(y + middle[1]) + 1, round(x + middle[0]) + 1) for x, y in _corners(look, half)]
        tags["VerticesOfThePolygonalCollimator"] = [number for corner in corners for number in corner]
    return tags


def _corners(look: Look, half: float) -> list[tuple[float, float]]:
    """Return where neighboring leaves meet, (column, row) from the image's middle."""
    corners = []
    for leaf, following in zip(look.leaves, (*look.leaves[1:], look.leaves[0]), strict=True):
        normals = np.array([[np.cos(each.angle_rad), np.sin(each.angle_rad)] for each in (leaf, following)])
        corners.append(tuple(np.linalg.solve(normals, [half * leaf.distance_share, half * following.distance_share])))
    return corners
