"""What a prior makes of slices, in its cube: one exact step of the implicit network, then the residual network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .cube import PRIOR_CUBE, CubeView, context_points, prior_points
from .inner_loop import Posterior, head_prior, solve
from .inr import features
from .refine import RefineNetwork

CONTEXT_POINTS = 1_024
_CONTEXT_SEED = 0  # the same slices give the same shape


@dataclass(frozen=True, eq=False)
class Step:
    """The implicit network after its step.

    Attributes:
        logits: On its own grid over the cube, [24, 24, 24].
        evidence: Of the context, in nats per point.
    """

    logits: Tensor
    evidence: float


def inner_step(inr: dict[str, Tensor], view: CubeView) -> Step:
    """Fit the implicit network's last layer to the slices and evaluate it over the cube.

    Args:
        inr: As in `Prior.inr`.
        view: The slices.
    """
    points, targets = context_points(view, CONTEXT_POINTS, np.random.default_rng(_CONTEXT_SEED))
    with torch.no_grad():
        posterior = _posterior(inr, points, targets)
        logits = posterior.logits(features(inr, torch.from_numpy(prior_points())))
    return Step(logits.reshape([PRIOR_CUBE] * 3), float(posterior.evidence))


def _posterior(inr: dict[str, Tensor], points: np.ndarray, targets: np.ndarray) -> Posterior:
    return solve(head_prior(inr), features(inr, torch.from_numpy(points)), torch.from_numpy(targets.astype(np.float32)))


def network_inputs(view: CubeView, step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Return field, distance and prior's logits as `RefineNetwork` takes them, for a batch of one."""
    field, distance = view.field_and_distance
    return torch.from_numpy(field)[None, None], torch.from_numpy(distance)[None, None], step.logits[None, None]


def correct(network: RefineNetwork, view: CubeView, step: Step) -> np.ndarray:
    """Return the residual network's correction over the cube, float32 [k, j, i]."""
    with torch.no_grad(), half_precision():
        return network(*network_inputs(view, step))[0, 0].float().numpy()


def half_precision() -> torch.autocast:
    """Return the context in which convolutions run in bfloat16, where the processor computes in it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported())
