"""Two beads whose shadows overlap so far that they were measured as one: told apart by the sizes that the other beads have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from .disc_fit import DiscFit, fit_discs

ORIENTATIONS = 8
START_GAP = 0.75  # between the centers, of the sum of the radii
LEAST_EXPLAINED = 0.9
UNEXPLAINED_SHARE = 0.4  # of what a single disc leaves unexplained
SAME_SIZE_RATIO = 1.25
SAME_CONTRAST_RATIO = 1.25


def split_pair(
    image: np.ndarray, mask: np.ndarray, center_px: np.ndarray, radius_px: float, sizes: Sequence[tuple[float, float]]
) -> tuple[DiscFit, NDArray[np.int64]] | None:
    """Fit two beads where one was seen, if that explains the image much better and both are of known sizes.

    Args:
        image: Attenuation, float [row, column].
        mask: Usable pixels, without other beads, bool [row, column].
        center_px: Of what was seen, (column, row).
        radius_px: Of what was seen.
        sizes: Radius and contrast of each size of bead in this image.

    Returns:
        The two discs and the index of the size of each, [2]; None where it is no pair.
    """
    alone = fit_discs(image, mask, center_px, np.array([radius_px]))
    best: DiscFit | None = None
    for one, other in combinations_with_replacement([radius for radius, _ in sizes], 2):
        turns = ORIENTATIONS // 2 if one == other else ORIENTATIONS
        for angle in 2 * np.pi * np.arange(turns) / ORIENTATIONS:
            apart = START_GAP * (one + other) * np.array([np.cos(angle), np.sin(angle)])
            share = other**2 / (one**2 + other**2)  # the larger one is nearer to what was seen
            fit = fit_discs(image, mask, np.stack([center_px - share * apart, center_px + (1 - share) * apart]), np.array([one, other]))
            if fit is not None and (best is None or fit.explained > best.explained):
                best = fit
    if best is None or best.explained < LEAST_EXPLAINED:
        return None
    if alone is not None and 1 - best.explained > UNEXPLAINED_SHARE * (1 - alone.explained):
        return None
    kind = [_size_of(radius, contrast, sizes) for radius, contrast in zip(best.radius_px, best.contrast, strict=True)]
    return (best, np.array(kind)) if min(kind) >= 0 else None


def _size_of(radius_px: float, contrast: float, sizes: Sequence[tuple[float, float]]) -> int:
    """Return the index of the size that a disc has, or -1."""
    if contrast <= 0:
        return -1
    unlike = [(abs(np.log(radius_px / radius)), abs(np.log(contrast / usual))) for radius, usual in sizes]
    nearest = int(np.argmin([sum(pair) for pair in unlike]))
    by_radius, by_contrast = unlike[nearest]
    return nearest if by_radius <= np.log(SAME_SIZE_RATIO) and by_contrast <= np.log(SAME_CONTRAST_RATIO) else -1
