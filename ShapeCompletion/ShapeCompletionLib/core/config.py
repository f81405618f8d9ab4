"""All settings and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from SparseAnatomyLib.checks import check_choice, check_positive

Method = Literal["auto", "interpolate", "inr"]
METHODS: tuple[Method, ...] = ("auto", "interpolate", "inr")
Device = Literal["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"]
DEVICES: tuple[Device, ...] = get_args(Device)
MAX_STEPS = 100


@dataclass(frozen=True)
class CompletionConfig:
    """How to complete one shape."""

    method: Method = "auto"  # auto: the prior, and interpolation where the prior does not fit
    steps: int = 1  # optimization steps of the implicit network
    spacing_mm: float | None = None  # voxel spacing of the result; that of the segmentation if absent
    device: Device = "auto"  # auto: the graphics card where it is faster; cuda: the one with the most free memory

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("device", self.device, DEVICES)
        if not (isinstance(self.steps, int) and 1 <= self.steps <= MAX_STEPS):
            raise ValueError(f"steps: expected a whole number from 1 to {MAX_STEPS}, got {self.steps}.")
        if self.spacing_mm is not None:
            check_positive("spacing_mm", self.spacing_mm)


@dataclass(frozen=True)
class InrSettings:
    """The implicit network that ships and how it is meta-learned; the last layer is solved exactly.

    Attributes:
        layers: Linear layers, the solved one counted.
        width: Units of each sine layer.
        first_omega: Frequency of the first layer.
        full_covariance: Whether the prior of the solved layer knows correlations between its weights.
        evidence_weight: Weight of the log evidence of the context, in nats per point, beside the loss on the targets.
        outer_rate: Adam's first step size over the sine layers.
        head_rate: The same over the prior of the solved layer.
        correlation_rate: The same over the correlations between its weights.
        largest_gradient: Norm to which the gradient of an outer step is clipped.
    """

    layers: int = 3
    width: int = 128
    first_omega: float = 20.0
    full_covariance: bool = True
    evidence_weight: float = 0.05
    outer_rate: float = 3e-4
    head_rate: float = 1e-2
    correlation_rate: float = 1e-3
    largest_gradient: float = 1.0


@dataclass(frozen=True)
class MamlSettings:
    """The published network and recipe (De Paolis et al., section 3), for comparison.

    Attributes:
        layers: Linear layers, the head counted.
        width: Units of each sine layer.
        first_omega: Frequency of the first layer.
        inner_steps: Steps of gradient descent in the inner loop.
        inner_rate: Their first size, for a loss summed over the context's points.
        outer_rate: Adam's step size in the outer loop.
        log_rate_rate: The same over the logarithms of Meta-SGD's inner rates.
        weight_decay: Factor of the mean square of the weights.
        epochs: Passes over the training shapes.
        largest_gradient: Norm to which the gradient of an outer step is clipped.
    """

    layers: int = 7
    width: int = 128
    first_omega: float = 30.0
    inner_steps: int = 5
    inner_rate: float = 1e-5
    outer_rate: float = 1e-5
    log_rate_rate: float = 1e-2
    weight_decay: float = 1e2
    epochs: int = 2_500
    largest_gradient: float = 10.0


@dataclass(frozen=True)
class AlignSettings:
    """How a context is moved to where the prior explains it best; lengths in normalized units.

    Attributes:
        rotation_rad, shift, log_scale: Expected sizes of the move.
        penalty: Nats per point that a move of one expected size costs, twice.
        first_turn_rad, first_log_scale: Of the poses looked at first.
        points: Context points that count, at most.
        refined_starts: Poses that are improved.
        evaluations: Of the evidence for each of them.
        least_gain: Nats per point below which nothing is moved.
    """

    rotation_rad: float = 0.5
    shift: float = 0.15
    log_scale: float = 0.2
    penalty: float = 0.005
    first_turn_rad: float = 0.6
    first_log_scale: float = 0.25
    points: int = 384
    refined_starts: int = 2
    evaluations: int = 8
    least_gain: float = 0.05


@dataclass(frozen=True)
class TrainingConfig:
    """How a prior is trained.

    Attributes:
        extent_mm: Edge length of the cube that the prior looks at; larger structures are looked at in a cube of their own size.
        mirror: Whether left and right may be swapped.
        folds: Parts that the patients are split into, to measure and to calibrate on patients that were not trained on.
        measured_shapes: Structures that are measured, over all folds, at most.
        inr_steps: Outer steps of the implicit network.
        inr_tasks: Shapes a step.
        context_points: Of a shape in the inner loop.
        target_points: Of a shape in the outer loop.
        refine_steps: Steps of the residual network, one shape each.
        refine_rate: AdamW's first step size.
        seed: Same seed, same prior.
    """

    extent_mm: float = 128.0
    mirror: bool = True
    folds: int = 3
    measured_shapes: int = 24
    inr_steps: int = 600
    inr_tasks: int = 4
    context_points: int = 2_048
    target_points: int = 2_048
    refine_steps: int = 1_800
    refine_rate: float = 1.5e-3
    seed: int = 0


@dataclass(frozen=True)
class EvaluationConfig:
    """How a prior is measured.

    Attributes:
        spacings_mm: Distances between parallel slices.
        offset_step_mm: Between the offsets of the first slice, all of which are averaged over.
        three_planes: Whether the layout of three orthogonal planes is measured too.
        keep_empty: Planes that miss the structure are known to be empty, as in the paper; otherwise they are as if never seen.
        steps: Optimization steps of the implicit network.
        voxel_mm: Of the grid that is compared; larger where the structure is longer than so many voxels.
        most_voxels: Along an edge of that grid.
        pixel_mm: Of the slices.
        surface_distances: Whether average surface distances are measured too, which takes longer than all else.
        transform: Of the structures before they are cut, [4, 4] about their center; none by default.
    """

    spacings_mm: tuple[float, ...] = (8.0, 16.0)
    offset_step_mm: float = 2.0
    three_planes: bool = True
    keep_empty: bool = True
    steps: int = 1
    voxel_mm: float = 1.0
    most_voxels: int = 160
    pixel_mm: float = 1.0
    surface_distances: bool = False
    transform: tuple[tuple[float, ...], ...] | None = None
