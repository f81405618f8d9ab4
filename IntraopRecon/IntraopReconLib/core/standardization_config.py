"""Every setting of the standardization and its default; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StandardizeMethod = Literal["auto", "network", "classical"]


@dataclass(frozen=True)
class ClassicalSettings:
    """How soft tissue is told from bone without a network.

    Attributes:
        radius_mm: Bones are narrower than a disc of this radius at the detector, soft tissue is wider.
        smoothing_mm: Standard deviation over which the background is smoothed.
        block_mm: The background is sought on blocks of pixels of this edge.
        dark_percentile: Percentile of the intensity that is taken for the darkest of the picture.
        veil_share: Share of the darkest intensity that is taken for scatter: what has a shadow is never lighter than the veil before it.
    """

    radius_mm: float = 60.0
    smoothing_mm: float = 10.0
    block_mm: float = 6.0
    dark_percentile: float = 0.1
    veil_share: float = 0.75
