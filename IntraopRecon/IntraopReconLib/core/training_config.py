"""How a standardizer is trained: every setting and its default; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .simulation_config import ExposureRanges


@dataclass(frozen=True)
class PairRanges:
    """Ranges that a training pair is drawn from, evenly unless said otherwise.

    Attributes:
        crop_px: Edge of the square that is cut out of a view, before it is resized to that of the network's input.
        soft: Factor on soft tissue: slim to obese; every `no_soft_share`-th pair has next to none, as a specimen or a DRR.
        no_soft_share: Share of pairs with so little.
        fat: Largest share by which soft tissue varies besides, smoothly over the image.
        organs: Fewest and most pieces of soft tissue or gas that are added.
        bone: Factor on bone: osteoporotic to young.
        gain, offset: Errors of the attenuation's scale and of the air's intensity.
        vignetting: Largest attenuation that is not from the patient, varying smoothly over the image.
        anomalies: Fewest and most in an image.
        round_field_share: Share of pairs with the round field of an intensifier.
    """

    crop_px: tuple[int, int] = (220, 400)
    soft: tuple[float, float] = (0.6, 1.4)
    no_soft_share: float = 0.08
    fat: float = 0.25
    organs: tuple[int, int] = (0, 6)
    bone: tuple[float, float] = (0.6, 1.3)
    gain: tuple[float, float] = (0.94, 1.06)
    offset: tuple[float, float] = (-0.2, 0.2)
    vignetting: float = 0.2
    anomalies: tuple[int, int] = (1, 4)
    round_field_share: float = 0.3


@dataclass(frozen=True)
class StandardizerTraining:
    """What the training of a standardizer can be told.

    Attributes:
        steps: Optimization steps.
        seed: Same seed, same pairs.
        views: Simulated views of every CT.
        coarse_share: Share of the steps on pixels of twice the pitch, with twice the pairs: the background is learned there.
        input_px: Edge of the network's input, after those.
        pairs_per_step: Each is two images: as it is, and with anomalies.
        rate: Adam's largest step size; it falls to a hundredth, along half a cosine.
        gradient_weight: Of the L1 loss on the differences between neighboring pixels, beside the absolute and squared ones on the pixels.
        anomaly_weight: Of the L1 loss on what an anomaly changes, against what it should change.
        adversarial_weight: Of the discriminator's opinion; `adversarial_from`: share of the steps before it counts.
        averaging: Of the weights that ship, by step.
    """

    steps: int = 8000
    seed: int = 0
    views: int = 120
    coarse_share: float = 0.5
    input_px: int = 256
    pairs_per_step: int = 2
    rate: float = 1.5e-3
    gradient_weight: float = 1.0
    anomaly_weight: float = 10.0
    adversarial_weight: float = 0.003
    adversarial_from: float = 0.7
    averaging: float = 0.998
    pairs: PairRanges = field(default_factory=PairRanges)
    exposures: ExposureRanges = field(default_factory=ExposureRanges)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)
