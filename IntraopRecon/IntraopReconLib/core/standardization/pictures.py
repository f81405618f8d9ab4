"""Pictures of standardized X-rays: before, after, what was taken away, and how sure that is."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .standardize import StandardizedView

TITLES = ("before", "bone", "taken away", "uncertainty")
UNCERTAINTY_SHARE = 0.25  # of the bone's display maximum is the brightest color
_TILE_PX, _GAP_PX, _TITLE_PX = 320, 4, 26
_REPORT_TILE_PX = 224
_STOPS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)  # dark to light, also in gray print
_OUTSIDE = 40  # gray of what says nothing


def view_tiles(view: StandardizedView) -> list[NDArray[np.uint8]]:
    """Return the four pictures of a view, RGB [row, column, 3], in the order of `TITLES`.

    Before and what was taken away share one gray scale; the uncertainty goes from black over red to yellow. Gray is masked.
    """
    mask, before, bone = view.view.mask, view.original.attenuation, view.view.attenuation
    low, high = _range(before, mask, (0.5, 99.8))
    _, highest = _range(bone, mask, (0.0, 99.8))
    tiles = [
        _gray((before - low) / max(high - low, 1e-6)),
        _gray((bone - (low if view.used == "original" else 0)) / max(highest - (low if view.used == "original" else 0), 1e-6)),
        _gray((view.difference - low) / max(high - low, 1e-6)),
        _warm(view.uncertainty / max(UNCERTAINTY_SHARE * highest, 1e-6)),
    ]
    return [np.where(mask[..., None], tile, np.uint8(_OUTSIDE)) for tile in tiles]


def report_strip(view: StandardizedView) -> str:
    """Return the four pictures side by side as a data URI."""
    buffer = io.BytesIO()
    _side_by_side(view, _REPORT_TILE_PX).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def write_picture(path: Path, view: StandardizedView) -> None:
    """Write the four pictures side by side, each with its title, as PNG.

    Raises:
        OSError: The disk is full.
    """
    strip = _side_by_side(view, _TILE_PX)
    picture = Image.new("RGB", (strip.width, strip.height + _TITLE_PX), "white")
    picture.paste(strip, (0, _TITLE_PX))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    titles = (TITLES[0], "left as it is" if view.used == "original" else f"{TITLES[1]} ({view.used})", *TITLES[2:])
    for number, title in enumerate(titles):
        draw.text((number * (_TILE_PX + _GAP_PX) + 4, 4), title, fill="black", font=font)
    partial = path.with_name(path.name + ".partial")
    picture.save(partial, "PNG")
    os.replace(partial, path)


def _side_by_side(view: StandardizedView, width: int) -> Image.Image:
    rows, columns = view.view.mask.shape
    height = max(1, round(width * rows / columns))
    strip = Image.new("RGB", (len(TITLES) * width + (len(TITLES) - 1) * _GAP_PX, height), "white")
    for number, tile in enumerate(view_tiles(view)):
        strip.paste(Image.fromarray(tile).resize((width, height), Image.Resampling.LANCZOS), (number * (width + _GAP_PX), 0))
    return strip


def _range(image: np.ndarray, mask: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    if not mask.any():
        return 0.0, 1.0
    low, high = np.percentile(image[mask], percentiles)
    return float(low), float(high)


def _gray(values: np.ndarray) -> NDArray[np.uint8]:
    """Return RGB [row, column, 3] of values in 0..1."""
    return np.repeat((255 * np.clip(values, 0, 1)).astype(np.uint8)[..., None], 3, axis=-1)


def _warm(values: np.ndarray) -> NDArray[np.uint8]:
    """Return RGB [row, column, 3] of values in 0..1, black over red to light yellow."""
    place = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(place, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)
