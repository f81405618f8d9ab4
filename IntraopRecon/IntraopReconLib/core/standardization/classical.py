"""Bone without a network: the veil of scatter and a wide, smooth background of soft tissue are taken off the attenuation.

A smooth gain, such as the vignetting of an image intensifier, is a smooth summand of the attenuation and goes with the background.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from IntraopReconLib.core.standardization_config import ClassicalSettings

DARKEST_INTENSITY = 1e-6  # of air: an attenuation of 13.8, beyond any C-arm


class ClassicalStandardizer:
    """The standardizer that needs nothing learned: the fallback, and what a network is measured against.

    Args:
        settings: How wide soft tissue is, and how it is sought.
    """

    name = "classical"

    def __init__(self, settings: ClassicalSettings | None = None) -> None:
        self.settings = settings or ClassicalSettings()

    def bone(self, attenuation: np.ndarray, mask: np.ndarray, pixel_mm: float) -> NDArray[np.float32]:
        """Return the attenuation that stands out of its background, as `Standardizer.bone` says."""
        clear = without_veil(attenuation, mask, self.settings)
        above = clear - background(clear, mask, pixel_mm, self.settings)
        return np.where(mask, np.maximum(above, 0), 0).astype(np.float32)


def without_veil(attenuation: np.ndarray, mask: np.ndarray, settings: ClassicalSettings) -> NDArray[np.float32]:
    """Take off the scatter that lies over the whole picture, as far as its darkest part tells.

    Args:
        attenuation: Line integrals, float [row, column].
        mask: Usable pixels, bool [row, column].
        settings: Share of the darkest intensity that is scatter.

    Returns:
        Line integrals, higher where the picture is dark, float32 [row, column].

    Raises:
        ValueError: Image and mask have different shapes.
    """
    if attenuation.ndim != 2 or mask.shape != attenuation.shape:
        raise ValueError(f"attenuation and mask: expected one shape [row, column], got {list(attenuation.shape)} and {list(mask.shape)}.")
    if not mask.any():
        return np.zeros(attenuation.shape, np.float32)
    intensity = np.exp(-np.where(mask, attenuation, 0).astype(np.float32))
    veil = settings.veil_share * np.percentile(intensity[mask], settings.dark_percentile)
    return -np.log(np.maximum(intensity - np.float32(veil), np.float32(DARKEST_INTENSITY)))


def background(attenuation: np.ndarray, mask: np.ndarray, pixel_mm: float, settings: ClassicalSettings) -> NDArray[np.float32]:
    """Return what varies over more than the width of a bone: the opening by a disc, smoothed, never above the picture's own course.

    Args:
        attenuation: Line integrals, float [row, column].
        mask: Usable pixels, bool [row, column]; the others neither lower nor raise the background.
        pixel_mm: Pixel pitch at the detector.
        settings: How wide and how smooth.

    Returns:
        Line integrals of the background, float32 [row, column].

    Source: the opening as a top-hat's background, Serra, Image Analysis and Mathematical Morphology, 1982, chapter XII.
    """
    edge = max(1, round(settings.block_mm / pixel_mm))
    blocks, known = block_means(attenuation, mask, edge)
    if not known.any():
        return np.zeros(attenuation.shape, np.float32)
    block_mm = edge * pixel_mm
    disc = _disc(settings.radius_mm / block_mm)
    eroded = ndimage.minimum_filter(np.where(known, blocks, np.inf), footprint=disc, mode="constant", cval=np.inf)
    opened = ndimage.maximum_filter(np.where(known, eroded, -np.inf), footprint=disc, mode="constant", cval=-np.inf)
    course = np.minimum(_smooth(opened, known, settings.smoothing_mm / block_mm), _smooth(blocks, known, 1.0))
    return enlarged(course, edge, attenuation.shape)


def block_means(image: np.ndarray, mask: np.ndarray, edge: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the means of the usable pixels over edge × edge blocks, and which blocks are usable by half or more."""
    rows, columns = image.shape
    padding = ((0, -rows % edge), (0, -columns % edge))
    shape = ((rows + padding[0][1]) // edge, edge, (columns + padding[1][1]) // edge, edge)
    count = np.pad(mask, padding).reshape(shape).sum(axis=(1, 3), dtype=np.float32)
    total = np.pad(np.where(mask, image, 0), padding).reshape(shape).sum(axis=(1, 3), dtype=np.float32)
    return total / np.maximum(count, 1), 2 * count >= edge * edge


def _disc(radius: float) -> NDArray[np.bool_]:
    reach = max(1, round(radius))
    row, column = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return row**2 + column**2 <= max(radius, 1) ** 2


def _smooth(image: np.ndarray, known: np.ndarray, sigma: float) -> NDArray[np.float32]:
    """Blur what is known; where nothing known is near, the nearest known value goes on."""
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), sigma, mode="constant")
    near = weight > 1e-3
    nearest = ndimage.distance_transform_edt(~near, return_distances=False, return_indices=True)
    return (total / np.maximum(weight, 1e-3))[tuple(nearest)]


def enlarged(blocks: np.ndarray, edge: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the blocks as pixels, linear between their centers."""
    if edge == 1:
        return blocks
    large = ndimage.zoom(blocks, edge, order=1, grid_mode=True, mode="nearest")
    return large[: shape[0], : shape[1]]
