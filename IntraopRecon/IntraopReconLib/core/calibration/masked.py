"""Images with holes: how filters that know no mask can be used on them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def continued(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue an image beyond its mask by the nearest usable pixel, so that the mask's border makes no edge.

    Args:
        image: Float [row, column].
        mask: Usable pixels, bool [row, column]; at least one.

    Returns:
        The image, the same where the mask is set.
    """
    if mask.all():
        return image
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return image[tuple(nearest)]
