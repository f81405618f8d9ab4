"""How a standardizer is trained: every setting and its default; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .simulation_config import ExposureRanges


@dataclass(frozen=True)
class PairRanges:
    """Ranges that a training pair is drawn from, evenly unless said otherwise.

    Attributes:
        field_mm: Edge of the square that is cut out of a view, at the detector, and resized to the network's input: pitches are not exact.
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

    field_mm: tuple[float, float] = (220.0, 300.0)
    soft: tuple[float, float] = (0.6, 1.4)
    no_soft_share: float = 0.08
    fat: float = 0.25
    organs: tuple[int, int] = (0, 4)
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
        overview_share: Share of the steps that the overview alone is trained in; the rest trains the detail over it.
        input_px: Edge of the images, of about 1 mm a pixel; `crop_px`: of the part of them that the detail is trained on at a time.
        overview_batch: Images a step. `detail_batch`: pairs a step, each two images: as it is, and with anomalies.
        pool_pairs: Pairs that are kept, turned and mirrored; `uses`: of each, about, before a new one replaces it.
        rate: Adam's largest step size; it falls to a hundredth, along half a cosine, in either part.
        gradient_weight: Of the L1 loss on the differences between neighboring pixels, beside the absolute and squared ones on the pixels.
        anomaly_weight: Of the squared relative error of what anomalies change.
        adversarial_weight: Of the discriminator's opinion; `adversarial_from`: share of the detail's steps before it counts.
        averaging: Of the weights that ship, by step.
    """

    steps: int = 8000
    seed: int = 0
    views: int = 120
    overview_share: float = 0.75
    input_px: int = 256
    crop_px: int = 128
    overview_batch: int = 32
    detail_batch: int = 8
    pool_pairs: int = 1000
    uses: int = 16
    rate: float = 2e-3
    gradient_weight: float = 1.0
    anomaly_weight: float = 1.0
    adversarial_weight: float = 0.003
    adversarial_from: float = 0.7
    averaging: float = 0.998
    pairs: PairRanges = field(default_factory=PairRanges)
    exposures: ExposureRanges = field(default_factory=ExposureRanges)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)
