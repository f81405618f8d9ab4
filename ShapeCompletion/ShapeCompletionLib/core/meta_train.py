"""Training a prior: the implicit network first, then the residual network on top of it; a run that was killed goes on where it was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.model_files import half_precision, load_checkpoint, save_checkpoint

from .config import InrSettings, TrainingConfig
from .outer_loop import meta_parameters, outer_step, parameter_groups
from .predict import inner_step, network_inputs
from .prior import Prior
from .refine import WIDTHS, RefineNetwork, refined_logits
from .shapes import TrainingShape
from .tasks import random_case

_CHECKPOINT_S = 60.0
_WARM_UP_STEPS = 100
_NEAR_VOXELS = 6.0  # of the surface; farther out the loss is nothing
_AVERAGING = 0.998
Report = Callable[[float, str], None]


class Training:
    """Two phases of optimization as one sequence of steps, with all that a checkpoint needs.

    Args:
        shapes: All are trained on.
        config: How.
        start: A prior whose residual network to start from; a fresh one by default.

    Attributes:
        inr: Parameters of the implicit network.
        network: The residual network as optimized.
        average: Its exponential moving average, which is what ships.
        step: Steps taken, of both phases.
        cpu_s: Processor time used, that before a kill included.
    """

    def __init__(self, shapes: list[TrainingShape], config: TrainingConfig, start: Prior | None = None) -> None:
        torch.manual_seed(config.seed)
        self.shapes, self.config, self.start_sha256 = shapes, config, start.card.sha256 if start else ""
        self.rng = np.random.default_rng(config.seed)
        settings = InrSettings()
        self.inr = meta_parameters("ridge", settings, torch.Generator().manual_seed(config.seed))
        self.inr_optimizer = torch.optim.Adam(parameter_groups(self.inr, settings))
        self._inr_rates = [group["lr"] for group in self.inr_optimizer.param_groups]
        self.network = RefineNetwork().to(memory_format=torch.channels_last_3d)
        if start is not None:
            self.network.load_state_dict(start.refine.state_dict())
        self.average = RefineNetwork().to(memory_format=torch.channels_last_3d)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.refine_rate, weight_decay=1e-3, betas=(0.9, 0.98))
        self.step, self.cpu_s = 0, 0.0

    @property
    def steps(self) -> int:
        """Steps of both phases."""
        return self.config.inr_steps + self.config.refine_steps

    def take_step(self) -> float:
        """Take the next step of whichever phase it is in, and return its loss."""
        before = time.process_time()
        loss = self._inr_step() if self.step < self.config.inr_steps else self._refine_step()
        self.step += 1
        self.cpu_s += time.process_time() - before
        return loss

    def _inr_step(self) -> float:
        left = 1 - self.step / self.config.inr_steps
        for group, rate in zip(self.inr_optimizer.param_groups, self._inr_rates, strict=True):
            group["lr"] = rate * min(1.0, 10 * left)
        cases = [random_case(self.shapes, self.config, self.rng) for _ in range(self.config.inr_tasks)]
        tasks = [case.inr_task(self.config, self.rng) for case in cases]
        return outer_step(self.inr, tasks, self.inr_optimizer, "ridge", InrSettings())

    def _refine_step(self) -> float:
        number = self.step - self.config.inr_steps
        warm_up = min(1.0, (number + 1) / _WARM_UP_STEPS)
        rate = self.config.refine_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * number / self.config.refine_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        case = random_case(self.shapes, self.config, self.rng)
        field, distance, prior = network_inputs(case.view, inner_step(self.inr, case.view))
        truth = torch.from_numpy(case.truth())[None, None]
        self.optimizer.zero_grad()
        with half_precision():
            correction = self.network(field, distance, prior)
        loss = completion_loss(refined_logits(field, distance, correction.float()), truth)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        decay = min(_AVERAGING, number / (number + 10))
        with torch.no_grad():
            for averaged, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                averaged.lerp_(value, 1 - decay)
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on exactly here."""
        return {
            "config": asdict(self.config) | {"inr": asdict(InrSettings()), "widths": list(WIDTHS)},
            "shapes": [shape.name for shape in self.shapes],
            "start_sha256": self.start_sha256,
            "step": self.step,
            "cpu_s": self.cpu_s,
            "rng": self.rng.bit_generator.state,
            "inr": {name: value.detach() for name, value in self.inr.items()},
            "inr_optimizer": self.inr_optimizer.state_dict(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; return False, and change nothing, if it is of another training."""
        mine = self.state()
        if any(state.get(key) != mine[key] for key in ("config", "shapes", "start_sha256")):
            return False
        self.step, self.cpu_s = state["step"], state["cpu_s"]
        self.rng.bit_generator.state = state["rng"]
        with torch.no_grad():
            for name, value in state["inr"].items():
                self.inr[name].copy_(value)
        self.inr_optimizer.load_state_dict(state["inr_optimizer"])
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True


def completion_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return cross-entropy near the surface, the true one or the predicted one, plus one minus the Dice coefficient.

    Args:
        logits: Of being inside, [b, 1, k, j, i].
        truth: Signed distance in voxels, positive inside, the same shape.
    """
    inside = (truth > 0).float()
    counted = ((truth.abs() < _NEAR_VOXELS) | (logits.detach() > -1)).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, inside, reduction="none")
    probability = torch.sigmoid(logits)
    dice = 2 * (probability * inside).sum() / (probability.sum() + inside.sum())
    return (entropy * counted).sum() / counted.sum() + 1 - dice


def train(shapes: list[TrainingShape], config: TrainingConfig, checkpoint: Path, report: Report, start: Prior | None = None) -> Training:
    """Train on shapes, from the checkpoint where there is one.

    Args:
        shapes: All are trained on.
        config: How.
        checkpoint: Written every minute, and when the training is cancelled; the caller removes it once it has kept the result.
        report: Told the fraction done and the loss.
        start: A prior whose residual network the training starts from.

    Raises:
        Cancelled: From `report`.
    """
    training = Training(shapes, config, start)
    state = load_checkpoint(checkpoint)
    if state is not None:
        training.restore(state)
    saved_s, losses = time.monotonic(), []
    try:
        while training.step < training.steps:
            losses = [*losses[-199:], training.take_step()]
            if time.monotonic() - saved_s > _CHECKPOINT_S:
                save_checkpoint(checkpoint, training.state())
                saved_s = time.monotonic()
            report(training.step / training.steps, f"Step {training.step} of {training.steps}, loss {np.mean(losses):.3f}")
    except Cancelled:
        save_checkpoint(checkpoint, training.state())
        raise
    save_checkpoint(checkpoint, training.state())
    training.average.eval()
    return training
