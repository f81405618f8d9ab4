"""What every standardizer does, so that the classical one and the network are interchangeable."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Standardizer(Protocol):
    """Turns the attenuation of an X-ray into that of its bone (and metal) alone.

    Attributes:
        name: Such as `classical` or `network`; it stands in reports.
    """

    name: str

    def bone(self, attenuation: np.ndarray, mask: np.ndarray, pixel_mm: float) -> NDArray[np.float32]:
        """Return the attenuation that bone and metal alone would cause.

        Args:
            attenuation: Line integrals at about 60 keV (water: 0.0206 per mm), dimensionless, float32 [row, column].
            mask: Usable pixels, bool [row, column].
            pixel_mm: Pixel pitch at the detector in mm.

        Returns:
            Line integrals of bone and metal, dimensionless, not negative, float32 [row, column]; 0 where the mask is not set.

        Raises:
            ValueError: Image and mask have different shapes.
        """
