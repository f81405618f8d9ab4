"""Every setting of the standardization and its default; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .config import Device

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
    veil_share: float = 0.5


@dataclass(frozen=True)
class TrustSettings:
    """When an image is unlike those that a standardizer is made for, and how unsure the standardizer is.

    The thresholds were chosen on simulated X-rays of three patients, on real ones of a C-arm and a biplane system, and on photographs.

    Attributes:
        fine_levels: An image with no more gray values than an export for viewing holds.
        noise_falls: Rank correlation of noise and intensity below which, and ratio of the noise in dark and in bright blocks above which,
            noise falls with the intensity. Counted photons give up to -0.7 (in sharp simulations; X-rays: 0.06 to 0.99) and 0.1 to 0.8,
            reversed ones -0.73 to -0.99 and 1.2 to 8.
        least_noise: In units of the intensity of air; below it, there is no noise to judge by.
        noise_block_px: Edge of the blocks that noise is measured on.
        most_noise: Relative to the intensity, median over the blocks: less than about twenty photons a pixel.
        saturated_share, black_share: Of the field; more is an exposure that lost anatomy.
        steep_share: Steep is what rises by this share of the picture's range from one pixel to the next, at `view_px` pixels.
        photograph_share, photograph_noise: Share of steep pixels beyond which a picture is a photograph whose noise hardly rises (rank
            correlation below the second): shadows have soft edges.
        photograph_steepness: Mean rise, as a share of the range, beyond which any picture is a photograph.
        view_px: Photographs are told at about this many rows.
        metal_cm2: Larger pieces of metal, at the detector, are a prosthesis, a plate or lead; a screw is smaller.
        metal_step: Fall of the attenuation from the rim of a piece to three blocks beyond; bone reaches 0.4.
        metal_at_border: Share of a piece's outline that may lie at the border of the field; beyond it, it is a collimator or thick tissue.
        metal_below: A piece is what is denser than the densest of the picture less this.
        metal_block_mm: Metal is sought on blocks of pixels of this edge.
        least_background: Attenuation behind the bones, median over the object: simulated bone-enhanced images have 0.6 or less, a hand or a
            specimen 0.4 or less, a trunk 1.6 or more.
        object_attenuation: Where there is less, there is no object.
        look_mm: Uncertainty is looked at on pixels about as wide, at the detector.
        turn_deg, scale: A second look at each image, mirrored, and a third, turned and enlarged; what comes out differently is uncertain.
        unsure_share: Uncertainty over bone (root mean squares) beyond which a learned result is not used.
    """

    fine_levels: int = 256
    noise_falls: tuple[float, float] = (-0.7, 1.15)
    least_noise: float = 2.5e-5
    noise_block_px: int = 16
    most_noise: float = 0.2
    saturated_share: float = 0.3
    black_share: float = 0.3
    steep_share: float = 0.1
    photograph_share: float = 0.055
    photograph_noise: float = 0.1
    photograph_steepness: float = 0.055
    view_px: int = 256
    metal_cm2: float = 10.0
    metal_step: float = 0.6
    metal_at_border: float = 0.3
    metal_below: tuple[float, ...] = (0.25, 0.5, 0.8, 1.2, 1.8)
    metal_block_mm: float = 1.5
    least_background: float = 0.9
    object_attenuation: float = 0.1
    look_mm: float = 1.5
    turn_deg: float = 4.0
    scale: float = 1.04
    unsure_share: float = 0.5


@dataclass(frozen=True)
class StandardizationConfig:
    """How the X-rays of a case are standardized.

    Attributes:
        method: The network, the classical standardizer, or the network where its weights are there (`auto`).
        weights: Of the network, a `.pt` file with its card beside it; those that ship by default.
        device: Where the network runs: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        rim_mm: Width of the field's rim that no longer counts, at the detector: penumbra of a collimator.
        classical: Of the classical standardizer.
        trust: When to doubt.
    """

    method: StandardizeMethod = "auto"
    weights: Path | None = None
    device: Device = "auto"
    rim_mm: float = 2.0
    classical: ClassicalSettings = ClassicalSettings()
    trust: TrustSettings = TrustSettings()
