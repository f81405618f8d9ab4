"""Our prior, trained for a given processor time on given shapes, as `shape-completion train` trains it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ShapeCompletionLib.core.calibration import Temperature
from ShapeCompletionLib.core.config import TrainingConfig
from ShapeCompletionLib.core.meta_train import Training
from ShapeCompletionLib.core.prior import Prior
from ShapeCompletionLib.core.prior_card import PriorCard
from ShapeCompletionLib.core.shapes import TrainingShape

from .baselines import Trained
from .cases import EXTENT_MM

_TRIED = 4  # steps of each phase that show what a step costs
_IMPLICIT_SHARE = 0.25  # of the time


def train_ours(shapes: Sequence[TrainingShape], budget_s: float, seed: int = 0) -> tuple[Prior, Trained]:
    """Train a prior.

    Args:
        shapes: To train on.
        budget_s: Processor seconds; steps are planned for it by timing a few.
        seed: Of all chance.

    Returns:
        The prior, not calibrated: it is never moved and always believed.
    """
    implicit_s, refine_s = _seconds_a_step(shapes, seed)
    config = TrainingConfig(
        extent_mm=EXTENT_MM,
        seed=seed,
        inr_steps=max(2, int(_IMPLICIT_SHARE * budget_s / implicit_s)),
        refine_steps=max(2, int((1 - _IMPLICIT_SHARE) * budget_s / refine_s)),
    )
    training = Training(list(shapes), config)
    while training.step < training.steps:
        training.take_step()
    return prior_so_far(training), Trained(round(training.cpu_s, 1), training.steps)


def prior_so_far(training: Training) -> Prior:
    """Return the prior as far as a training has come."""
    card = PriorCard("benchmark", "Benchmark", "", "", training.config.extent_mm, "", training.cpu_s, training.step, "")
    inr = {name: value.detach() for name, value in training.inr.items()}
    return Prior(card, inr, training.average.eval(), Temperature(1.0, 0.0), -np.inf)


def _seconds_a_step(shapes: Sequence[TrainingShape], seed: int) -> tuple[float, float]:
    """Return the processor seconds that a step of each phase takes, compilation left out."""
    trial = Training(list(shapes), TrainingConfig(extent_mm=EXTENT_MM, seed=seed, inr_steps=_TRIED + 1, refine_steps=_TRIED + 1))
    found = []
    for _ in range(2):
        trial.take_step()
        start = time.process_time()
        for _ in range(_TRIED):
            trial.take_step()
        found.append((time.process_time() - start) / _TRIED)
    return found[0], found[1]
