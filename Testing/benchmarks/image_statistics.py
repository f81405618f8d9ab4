"""What can be told of an X-ray without knowing what it shows: grays, noise by frequency, width of edges, veil."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

QUANTILES = (1, 5, 25, 50, 75, 95, 99)
PATCH_PX, MOST_PATCHES = 64, 40
NOISE_BANDS = ((0.04, 0.12), (0.12, 0.25), (0.25, 0.5))  # cycles a pixel
EDGES, PROFILE_PX = 400, 14
EDGE_PERCENTILE = 20  # the sharpest edges tell the blur; others are blurred by their shape
VEIL_RING = (0.965, 0.985)  # of the radius of the round field
VEIL_PERCENTILE = 3


@dataclass(frozen=True)
class Statistics:
    """Of one image.

    Attributes:
        grays: Quantiles inside the field as shares of the 99.5th, by percent.
        noise: Standard deviation in flat patches, as share of their mean.
        noise_shares: Share of the noise power in each of `NOISE_BANDS`; of white noise 0.05, 0.19 and 0.76.
        edge_mm: 10-90 % width of the sharpest edges, at the detector.
        veil: Darkest signal beyond the collimator's edges but within the field, as share of the median inside; NaN without a round field.
    """

    grays: dict[int, float]
    noise: float
    noise_shares: tuple[float, ...]
    edge_mm: float
    veil: float


def statistics(image: np.ndarray, pixel_mm: float, round_radius_px: float | None, field: np.ndarray) -> Statistics:
    """Measure an image.

    Args:
        image: Proportional to intensity, [row, column].
        pixel_mm: Pitch at the detector.
        round_radius_px: Of the round field of an intensifier; None for a flat panel.
        field: The open field, bool [row, column].
    """
    inside = ndimage.binary_erosion(field, iterations=max(4, image.shape[0] // 80))
    values = image[inside]
    top = float(np.percentile(values, 99.5))
    noise, shares = _noise(image, inside)
    return Statistics(
        grays={percent: float(np.percentile(values, percent)) / top for percent in QUANTILES},
        noise=noise,
        noise_shares=shares,
        edge_mm=_edge_px(image, inside) * pixel_mm,
        veil=_veil(image, round_radius_px) / float(np.median(values)) if round_radius_px else float("nan"),
    )


def open_field(image: np.ndarray, round_radius_px: float | None) -> np.ndarray:
    """Find the open field: brighter than a tenth of the median within the detector, in one piece, bool [row, column]."""
    inside = _round(image.shape, round_radius_px) if round_radius_px else np.ones(image.shape, bool)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 3)
    bright = inside & (smooth > 0.1 * np.median(smooth[inside]))
    labels, _ = ndimage.label(bright)
    return ndimage.binary_fill_holes(labels == np.bincount(labels[bright]).argmax())


def _round(shape: tuple[int, int], radius_px: float) -> np.ndarray:
    row, column = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(row - (shape[0] - 1) / 2, column - (shape[1] - 1) / 2) <= radius_px


def _noise(image: np.ndarray, inside: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Return the relative noise of the flattest patches, and how its power is spread over frequencies."""
    found = []
    for row in range(0, image.shape[0] - PATCH_PX, PATCH_PX // 2):
        for column in range(0, image.shape[1] - PATCH_PX, PATCH_PX // 2):
            box = np.s_[row : row + PATCH_PX, column : column + PATCH_PX]
            if inside[box].all():
                patch = image[box].astype(float)
                residual = (patch - _background(patch)) / patch.mean()
                found.append((float(np.abs(ndimage.gaussian_filter(residual, 4)).mean()), residual))
    if not found:
        return float("nan"), tuple(float("nan") for _ in NOISE_BANDS)
    flattest = [residual for _, residual in sorted(found, key=lambda item: item[0])[:MOST_PATCHES]]
    window = np.outer(np.hanning(PATCH_PX), np.hanning(PATCH_PX))
    power = np.mean([np.abs(np.fft.fft2(residual * window)) ** 2 for residual in flattest], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(PATCH_PX), np.fft.fftfreq(PATCH_PX)))
    bands = np.array([power[(frequency >= low) & (frequency < high)].sum() for low, high in NOISE_BANDS])
    return float(np.median([residual.std() for residual in flattest])), tuple((bands / bands.sum()).tolist())


def _background(patch: np.ndarray) -> np.ndarray:
    """Return the surface of second order that fits a patch."""
    y, x = np.mgrid[-1 : 1 : 1j * patch.shape[0], -1 : 1 : 1j * patch.shape[1]]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    return (terms @ np.linalg.lstsq(terms, patch.ravel(), rcond=None)[0]).reshape(patch.shape)


def _edge_px(image: np.ndarray, inside: np.ndarray) -> float:
    """Return the 10-90 % width of the sharpest edges: profiles of the logarithm across the steepest places."""
    logarithm = np.log(np.maximum(ndimage.gaussian_filter(image.astype(float), 0.7), 1e-3 * image.max()))
    down, right = ndimage.sobel(logarithm, 0), ndimage.sobel(logarithm, 1)
    steep = np.where(ndimage.binary_erosion(inside, iterations=PROFILE_PX), np.hypot(down, right), 0)
    steep[steep < ndimage.maximum_filter(steep, 5)] = 0
    places = np.argsort(steep.ravel())[-EDGES:]
    rows, columns = np.unravel_index(places, image.shape)
    norm = np.hypot(down, right)[rows, columns]
    along = np.stack([down[rows, columns], right[rows, columns]], 1) / np.maximum(norm, 1e-12)[:, None]
    steps = np.linspace(-PROFILE_PX / 2, PROFILE_PX / 2, 8 * PROFILE_PX + 1)
    at = np.stack([rows, columns], 1)[:, None] + steps[:, None] * along[:, None]
    profiles = ndimage.map_coordinates(logarithm, np.moveaxis(at, -1, 0), order=1)
    widths = []
    for profile in profiles:
        rising = np.maximum.accumulate(profile)
        low, high = rising[0], rising[-1]
        if high - low > 0.05:
            first, last = (np.interp(low + share * (high - low), rising, steps) for share in (0.1, 0.9))
            widths.append(last - first)
    return float(np.percentile(widths, EDGE_PERCENTILE)) if widths else float("nan")


def _veil(image: np.ndarray, round_radius_px: float) -> float:
    """Return the darkest signal just within the round field, where the collimator's corners lie."""
    ring = _round(image.shape, VEIL_RING[1] * round_radius_px) & ~_round(image.shape, VEIL_RING[0] * round_radius_px)
    return float(np.percentile(ndimage.gaussian_filter(image.astype(float), 2)[ring], VEIL_PERCENTILE))
