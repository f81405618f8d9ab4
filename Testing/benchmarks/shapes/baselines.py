"""The paper's baselines as reference modes, beside ours: trained on the same variations of the same shapes, for the same processor time.

A baseline is what training returns; `fit(view)` starts on the slices of one shape, `step()` takes an optimization step, `logits(points)` is
the shape so far. All see CONTEXT_POINTS pixels of the slices a step, drawn anew, where the paper takes every pixel; so few steps of
so small networks want larger rates than the paper's 1e-5 over 2,500 epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ShapeCompletionLib.core.config import MamlSettings, TrainingConfig
from ShapeCompletionLib.core.cube import CubeView, context_points
from ShapeCompletionLib.core.inner_loop import adapt, head_prior, occupancy_loss, solve, solved_parameters
from ShapeCompletionLib.core.inr import InrParameters, features, initialise, inr_parameters, logits
from ShapeCompletionLib.core.inr import evaluate as evaluate_inr
from ShapeCompletionLib.core.outer_loop import RATE_PREFIX, Task, meta_parameters, outer_step, parameter_groups
from ShapeCompletionLib.core.sampling import Slice
from ShapeCompletionLib.core.shapes import TrainingShape
from ShapeCompletionLib.core.tasks import random_case
from SparseAnatomyLib.grid import VoxelGrid

CONTEXT_POINTS = 1_024
MAML = MamlSettings(outer_rate=1e-4, first_omega=10.0)
VARIATIONS = 64  # of the training shapes; the auto-decoder has a code for each
_POOL_POINTS, _BATCH_POINTS = 8_192, 1_024
_CODE_LENGTH = 64
_CODE_RATE, _NETWORK_RATE = 1e-2, 3e-4
_CODE_PENALTY = 1e-3
_FIT_RATE = 1e-4
_CODE_BATCH = 8
_BLOCK = 4  # voxels along the edge of the blocks that are looked at first
_OUTSIDE = -10.0


class Fit(Protocol):
    """One shape being fitted."""

    def step(self) -> None:
        """Take an optimization step."""

    def loss(self) -> float:
        """Return how far off it is on pixels that stay the same."""

    def logits(self, points: Tensor) -> Tensor:
        """Return the occupancy logits at normalized points [n, 3], shape [n]."""


@dataclass(frozen=True)
class Trained:
    """How a baseline was trained."""

    cpu_s: float
    steps: int


class Baseline(Protocol):
    """A trained network that slices can be fitted with."""

    trained: Trained

    def fit(self, view: CubeView) -> Fit:
        """Start on slices."""


def complete(baseline: Baseline, view: CubeView, grid: VoxelGrid, steps: int) -> np.ndarray:
    """Complete slices.

    Args:
        baseline: Trained.
        view: The slices.
        grid: Along the patient's axes.
        steps: Optimization steps.

    Returns:
        Occupancy logits on the grid, float32 [k, j, i].
    """
    fit = baseline.fit(view)
    for _ in range(steps):
        fit.step()
    return near_surface(fit.logits, view, grid)


class Convergence:
    """The paper's early stopping: the loss has not fallen for ten steps."""

    def __init__(self, patience: int = 10) -> None:
        self.patience, self.least, self.since = patience, np.inf, 0

    def reached(self, loss: float) -> bool:
        """Take the loss after a step in; tell whether this was enough."""
        self.least, self.since = (loss, 0) if loss < self.least else (self.least, self.since + 1)
        return self.since >= self.patience


def near_surface(evaluated: Callable[[Tensor], Tensor], view: CubeView, grid: VoxelGrid) -> np.ndarray:
    """Evaluate a network on a grid: at the centers of blocks of 4³ voxels, and at the voxels of blocks whose neighbors disagree.

    Args:
        evaluated: Normalized points [n, 3] to logits [n].
        view: Whose cube the network looks at; beyond it is background.
        grid: Along the patient's axes.

    Returns:
        float32 [k, j, i].
    """
    shape = grid.shape_kji
    axes = [grid.origin_lps_mm[a] + grid.spacing_mm[a] * np.arange(shape[2 - a]) for a in range(3)]
    centers = [
        grid.origin_lps_mm[a] + grid.spacing_mm[a] * (_BLOCK * np.arange(-(-shape[2 - a] // _BLOCK)) + (_BLOCK - 1) / 2) for a in range(3)
    ]
    blocks = [len(centers[2 - n]) for n in range(3)]
    coarse = _at(evaluated, view, centers, np.indices(blocks).reshape(3, -1)).reshape(blocks)
    inside = coarse > 0
    mixed = ndimage.maximum_filter(inside, 3) != ndimage.minimum_filter(inside, 3)
    cut = tuple(slice(n) for n in shape)
    values, near = (np.kron(array, np.ones([_BLOCK] * 3, array.dtype))[cut] for array in (coarse, mixed))
    values[near] = _at(evaluated, view, axes, np.array(np.nonzero(near)))
    return values


@torch.no_grad()
def _at(evaluated: Callable[[Tensor], Tensor], view: CubeView, axes: Sequence[np.ndarray], kji: np.ndarray) -> np.ndarray:
    """Evaluate at grid points given by coordinates along x, y, z and indices k, j, i [3, n]."""
    points = view.normalized(np.stack([axes[a][kji[2 - a]] for a in range(3)], -1))
    values = np.full(len(points), _OUTSIDE, np.float32)
    seen = np.abs(points).max(1) <= 1
    blocks = torch.from_numpy(points[seen]).split(16_384)
    values[seen] = torch.cat([evaluated(block) for block in blocks]).numpy() if seen.any() else 0
    return values


def variations(shapes: Sequence[TrainingShape], seed: int, count: int = VARIATIONS) -> list[Task]:
    """Return varied shapes on random slices, as ours is trained on, with many target points each."""
    rng, config = np.random.default_rng(seed), TrainingConfig(context_points=CONTEXT_POINTS, target_points=_POOL_POINTS)
    return [random_case(list(shapes), config, rng).inr_task(config, rng) for _ in range(count)]


def _batch(task: Task, rng: np.random.Generator) -> Task:
    chosen = torch.from_numpy(rng.integers(len(task.target_points), size=_BATCH_POINTS))
    return replace(task, target_points=task.target_points[chosen], target_occupancy=task.target_occupancy[chosen])


def _for(budget_s: float, step: Callable[[], None]) -> Trained:
    """Take steps until the processor time of this process is spent."""
    start, steps = time.process_time(), 0
    while time.process_time() - start < budget_s:
        step()
        steps += 1
    return Trained(round(time.process_time() - start, 1), steps)


class _Points:
    """Pixels of the slices, drawn anew for each step, and some that stay the same."""

    def __init__(self, view: CubeView) -> None:
        self.view, self.rng = view, np.random.default_rng(0)

    def draw(self, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalized points [n, 3] and targets [n], positive inside."""
        points, targets = context_points(self.view, CONTEXT_POINTS, self.rng if rng is None else rng)
        return torch.from_numpy(points), torch.from_numpy(targets.astype(np.float32))

    @torch.no_grad()
    def loss(self, evaluated: Callable[[Tensor], Tensor]) -> float:
        """Return the loss on the pixels that stay the same."""
        points, targets = self.draw(np.random.default_rng(1))
        return float(occupancy_loss(evaluated(points), (targets > 0).float()))


class _Descent:
    """Adam on some tensors."""

    def __init__(self, view: CubeView, tensors: Sequence[Tensor], rate: float, evaluated: Callable[[Tensor], Tensor]) -> None:
        self.points, self.evaluated = _Points(view), evaluated
        self.optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in tensors], lr=rate)

    def penalty(self) -> Tensor | float:
        """Return what the loss has besides the fit."""
        return 0.0

    def step(self) -> None:
        points, targets = self.points.draw()
        self.optimizer.zero_grad()
        (occupancy_loss(self.evaluated(points), (targets > 0).float()) + self.penalty()).backward()
        self.optimizer.step()

    def loss(self) -> float:
        return self.points.loss(self.evaluated)

    def logits(self, points: Tensor) -> Tensor:
        return self.evaluated(points)


class AutoDecoder:
    """B. (i): one network for all shapes, a code for each, concatenated to the points; for a new shape only the code is looked for.

    Source: Amiranashvili et al., MIDL 2022; the network is that of the comparison in De Paolis et al.
    """

    def __init__(self, shapes: Sequence[TrainingShape], budget_s: float, seed: int = 0) -> None:
        tasks, generator, rng = variations(shapes, seed), torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        self.network = _with_code(initialise(MAML.layers, MAML.width, MAML.first_omega, generator), generator)
        codes = torch.randn(len(tasks), _CODE_LENGTH, generator=generator).mul_(0.1).requires_grad_()
        weights = [value.requires_grad_() for value in self.network.values()]
        optimizer = torch.optim.Adam([{"params": weights, "lr": _NETWORK_RATE}, {"params": [codes], "lr": _CODE_RATE}])

        def step() -> None:
            chosen = rng.choice(len(tasks), min(_CODE_BATCH, len(tasks)), replace=False)
            batch = [_batch(tasks[n], rng) for n in chosen]
            optimizer.zero_grad()
            predicted = self.decode(torch.stack([one.target_points for one in batch]), codes[torch.from_numpy(chosen)][:, None])
            loss = occupancy_loss(predicted, torch.stack([one.target_occupancy for one in batch]))
            (loss + _CODE_PENALTY * codes.square().mean()).backward()
            optimizer.step()

        self.trained = _for(budget_s, step)
        self.network = {name: value.detach() for name, value in self.network.items()}

    def decode(self, points: Tensor, code: Tensor) -> Tensor:
        """Return the logits at points [..., n, 3] for a code [..., 1, c], shape [..., n]."""
        return logits(self.network, torch.cat([points, code.expand(*points.shape[:-1], code.shape[-1])], -1))

    def fit(self, view: CubeView) -> Fit:
        """Start from the mean of all codes."""
        code = torch.zeros(1, _CODE_LENGTH)
        descent = _Descent(view, [code], _CODE_RATE, lambda points: self.decode(points, code))
        descent.penalty = lambda: _CODE_PENALTY * code.square().mean()
        return descent


def _with_code(network: InrParameters, generator: torch.Generator) -> InrParameters:
    """Return the network with inputs for a code beside those for the point."""
    width = len(network["weight_0"])
    bound = np.sqrt(6 / _CODE_LENGTH) / 30
    columns = bound * (2 * torch.rand(width, _CODE_LENGTH, generator=generator) - 1)
    return {**network, "weight_0": torch.cat([network["weight_0"], columns], 1)}


class Pretrained:
    """B. (ii), as NeRP: the paper's network, trained on all shapes at once by ordinary gradient descent, then fitted to one."""

    def __init__(self, shapes: Sequence[TrainingShape], budget_s: float, seed: int = 0) -> None:
        tasks, generator, rng = variations(shapes, seed), torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        self.network = {k: v.requires_grad_() for k, v in initialise(MAML.layers, MAML.width, MAML.first_omega, generator).items()}
        optimizer = torch.optim.Adam(self.network.values(), lr=_FIT_RATE)

        def step() -> None:
            batch = [_batch(tasks[n], rng) for n in rng.integers(len(tasks), size=4)]
            optimizer.zero_grad()
            predicted = logits(self.network, torch.stack([one.target_points for one in batch]))
            occupancy_loss(predicted, torch.stack([one.target_occupancy for one in batch])).backward()
            optimizer.step()

        self.trained = _for(budget_s, step)
        self.network = {name: value.detach() for name, value in self.network.items()}

    def fit(self, view: CubeView) -> Fit:
        """Start from the pre-trained weights."""
        network = {name: value.clone() for name, value in self.network.items()}
        return _Descent(view, list(network.values()), _FIT_RATE, lambda points: logits(network, points))


class MetaLearned:
    """MAML as published, or its first-order form, or Meta-SGD.

    To a new shape it takes the inner loop's steps, as many as it was trained with, and goes on by Adam as `Pretrained` does: plain descent
    at the inner rate, which was learned for so few steps, falls apart soon after.
    """

    def __init__(self, shapes: Sequence[TrainingShape], budget_s: float, seed: int = 0, mode: str = "maml") -> None:
        tasks, rng = variations(shapes, seed), np.random.default_rng(seed)
        self.parameters = meta_parameters(mode, MAML, torch.Generator().manual_seed(seed))
        optimizer = torch.optim.Adam(parameter_groups(self.parameters, MAML))

        def step() -> None:
            outer_step(self.parameters, [_batch(tasks[rng.integers(len(tasks))], rng)], optimizer, mode, MAML)

        self.trained = _for(budget_s, step)
        self.parameters = {name: value.detach() for name, value in self.parameters.items()}

    def fit(self, view: CubeView) -> Fit:
        """Start from the meta-learned weights."""
        learned = {name: value for name, value in self.parameters.items() if name.startswith(RATE_PREFIX)}
        rates = {name.removeprefix(RATE_PREFIX): CONTEXT_POINTS * value.exp() for name, value in learned.items()}

        def inner(network: InrParameters, points: Tensor, targets: Tensor) -> InrParameters:
            rate = rates or CONTEXT_POINTS * MAML.inner_rate
            return adapt(network, points, (targets > 0).float(), rate, 1, MAML.weight_decay, second_order=False)

        return _InnerFirst(inr_parameters(self.parameters), view, inner, MAML.inner_steps)


class ImplicitAlone:
    """Ours without refinement: the first step solves the last layer exactly, further ones descend on all weights.

    Args:
        inr: As in `Prior.inr`.
        trained: How.
    """

    def __init__(self, inr: dict[str, Tensor], trained: Trained) -> None:
        self.inr, self.trained = inr, trained

    def fit(self, view: CubeView) -> Fit:
        """Start from the meta-learned network."""

        def inner(network: InrParameters, points: Tensor, targets: Tensor) -> InrParameters:
            with torch.no_grad():
                return solved_parameters(network, solve(head_prior(self.inr), features(network, points), targets))

        return _InnerFirst(inr_parameters(self.inr), view, inner, 1)


class _InnerFirst:
    """Some steps of an inner loop, then Adam on all weights.

    Args:
        network: Where it starts.
        view: The slices.
        inner: A step: the network, points and targets to the next network.
        steps: How many of them.
    """

    def __init__(
        self, network: InrParameters, view: CubeView, inner: Callable[[InrParameters, Tensor, Tensor], InrParameters], steps: int
    ) -> None:
        self.network, self.view, self.inner, self.left = network, view, inner, steps
        self.points, self.descent = _Points(view), None

    def step(self) -> None:
        if self.left == 0:
            if self.descent is None:
                self.descent = _Descent(self.view, list(self.network.values()), _FIT_RATE, self.logits)
            self.descent.step()
            return
        found = self.inner(self.network, *self.points.draw())
        self.network = {name: value.detach().clone() for name, value in found.items()}
        self.left -= 1

    def loss(self) -> float:
        return self.points.loss(self.logits)

    def logits(self, points: Tensor) -> Tensor:
        return logits(self.network, points)


def naive(network: InrParameters, slices: Sequence[Slice], grid: VoxelGrid) -> np.ndarray:
    """Do as the paper: one gradient step on all pixels of all slices, then the network at every voxel; float32 [k, j, i]."""
    half = float(grid.extent_mm.max()) / 2
    places = np.concatenate([one.points_lps_mm().reshape(-1, 3) for one in slices])
    points, wanted = (
        torch.from_numpy(((x - grid.center_lps_mm) / half).astype(np.float32)) for x in (places, grid.points_lps_mm().reshape(-1, 3))
    )
    occupancy = torch.from_numpy(np.concatenate([one.mask.ravel() for one in slices]).astype(np.float32))
    rate = len(points) * MAML.inner_rate
    adapted = adapt(network, points, occupancy, rate, 1, MAML.weight_decay, second_order=False)
    return evaluate_inr({name: value.detach() for name, value in adapted.items()}, wanted).numpy().reshape(grid.shape_kji)
