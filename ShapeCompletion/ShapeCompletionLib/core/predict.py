"""What a prior makes of slices, in its cube: the exact step of the implicit network, then the residual network."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from SparseAnatomyLib.model_files import half_precision
from SparseAnatomyLib.work_device import on_host

from .align import align
from .cube import PRIOR_CUBE, CubeView, context_points, prior_points
from .inner_loop import head_prior, more_steps, solve, solved_parameters
from .inr import features, inr_parameters, logits
from .prior import Prior
from .refine import RefineNetwork, refined_logits

CONTEXT_POINTS = 2_048
_CONTEXT_SEED = 0  # the same slices give the same shape


@dataclass(frozen=True, eq=False)
class Step:
    """The implicit network after its steps.

    Attributes:
        logits: On its own grid over the cube, [32, 32, 32].
        evidence: Of the context under the prior, in nats per point.
    """

    logits: Tensor
    evidence: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a prior makes of slices.

    Attributes:
        refined: Logits of being inside, before calibration, over the cube, float32 [k, j, i], on the view's device.
        correction: Of the residual network, float32 [k, j, i], on the view's device.
        evidence: Of the slices under the prior, in nats per context point.
        moved: Whether the prior was turned, shifted or scaled to fit.
    """

    refined: Tensor
    correction: Tensor
    evidence: float
    moved: bool

    @cached_property
    def logits(self) -> np.ndarray:
        """The logits as an array, float32 [k, j, i]."""
        return on_host(self.refined)


def predict(prior: Prior, view: CubeView, steps: int = 1) -> Prediction:
    """Complete the slices of a view by a prior, on the view's device.

    Where the prior explains the slices worse than it usually does, it is moved to where it explains them best.

    Args:
        prior: Of such structures.
        view: The slices.
        steps: Optimization steps of the implicit network; the first is exact.
    """
    prior = prior.on(view.device)
    step, moved = inner_step(prior.inr, view, steps, cube_features=prior.cube_features), False
    if step.evidence < prior.usual_evidence:
        points, targets = _context(view)
        alignment = align(prior.inr, points, targets)
        if alignment.accepted:
            step, moved = inner_step(prior.inr, view, steps, alignment.prior_from_context), True
    field, distance, prior_logits = network_inputs(view, step)
    correction = correct(prior.refine, field, distance, prior_logits)
    refined = refined_logits(field, distance, correction)
    return Prediction(refined[0, 0], correction[0, 0], step.evidence, moved)


def inner_step(
    inr: dict[str, Tensor],
    view: CubeView,
    steps: int = 1,
    prior_from_context: np.ndarray | None = None,
    cube_features: Tensor | None = None,
) -> Step:
    """Fit the implicit network to the slices and evaluate it over the cube.

    Args:
        inr: As in `Prior.inr`, on the view's device.
        view: The slices.
        steps: The first solves the last layer exactly, further ones descend on all weights.
        prior_from_context: Similarity that moves normalized points into the prior's place, [4, 4].
        cube_features: As `prior.cube_features` gives them, where they are known and nothing is moved; they take longer than all the rest.
    """
    points, targets = _context(view)
    wanted = torch.from_numpy(prior_points()).to(view.device)
    if prior_from_context is not None:
        matrix = torch.from_numpy(prior_from_context).float().to(view.device)
        points, wanted = ((x @ matrix[:3, :3].T + matrix[:3, 3]).clamp(-1, 1) for x in (points, wanted))
    with torch.no_grad():
        posterior = solve(head_prior(inr), features(inr, points), targets)
        if steps == 1:
            values = posterior.logits(features(inr, wanted) if cube_features is None else cube_features)
        else:
            solved = solved_parameters(inr_parameters(inr), posterior)
            values = logits(more_steps(solved, points, (targets > 0).float(), steps - 1), wanted)
    return Step(values.reshape([PRIOR_CUBE] * 3), float(posterior.evidence))


def _context(view: CubeView) -> tuple[Tensor, Tensor]:
    points, targets = context_points(view, CONTEXT_POINTS, np.random.default_rng(_CONTEXT_SEED))
    return torch.from_numpy(points).to(view.device), torch.from_numpy(targets.astype(np.float32)).to(view.device)


def network_inputs(view: CubeView, step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Return field, distance and prior's logits as `RefineNetwork` takes them, for a batch of one."""
    field, distance = view.tensors
    return field[None, None], distance[None, None], step.logits[None, None]


def correct(network: RefineNetwork, field: Tensor, distance: Tensor, prior_logits: Tensor) -> Tensor:
    """Return the residual network's correction, float32 [1, 1, k, j, i].

    The CPU computes in half precision where it can. On a card, converting to it would take longer than what it saves of so small a network.
    """
    with torch.no_grad(), half_precision() if field.device.type == "cpu" else nullcontext():
        return network(field, distance, prior_logits).float()
