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
from SparseAnatomyLib.work_device import WorkDevice, repeatable

from .config import InrSettings, TrainingConfig
from .outer_loop import meta_parameters, outer_step, parameter_groups
from .predict import inner_step, network_inputs
from .prior import Prior, cube_features
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
        device: Where the networks are; the same chance everywhere, so that another device may go on from the state.

    Attributes:
        inr: Parameters of the implicit network.
        network: The residual network as optimized.
        average: Its exponential moving average, which is what ships.
        step: Steps taken, of both phases.
        cpu_s: Processor time used, that before a kill included.
        earlier: Steps of the residual network that shorter trainings, from which this one went on, had been asked for.
    """

    def __init__(self, shapes: list[TrainingShape], config: TrainingConfig, start: Prior | None = None, device: str = "cpu") -> None:
        torch.manual_seed(config.seed)
        self.device = device
        self.shapes, self.config, self.start_sha256 = shapes, config, start.card.sha256 if start else ""
        self.rng = np.random.default_rng(config.seed)
        settings = InrSettings()
        fresh = meta_parameters("ridge", settings, torch.Generator().manual_seed(config.seed))
        self.inr = {name: value.detach().to(device).requires_grad_() for name, value in fresh.items()}
        self.inr_optimizer = torch.optim.Adam(parameter_groups(self.inr, settings))
        self._inr_rates = [group["lr"] for group in self.inr_optimizer.param_groups]
        self.network = RefineNetwork().to(memory_format=torch.channels_last_3d)
        if start is not None:
            self.network.load_state_dict(start.refine.state_dict())
        self.average = RefineNetwork().to(memory_format=torch.channels_last_3d)
        self.average.load_state_dict(self.network.state_dict())
        self.network, self.average = self.network.to(device), self.average.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.refine_rate, weight_decay=1e-3, betas=(0.9, 0.98))
        self.step, self.cpu_s = 0, 0.0
        self.earlier: list[int] = []
        self._cube_features: Tensor | None = None  # once the implicit network stands

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
        tasks = [case.inr_task(self.config, self.rng).on(self.device) for case in cases]
        return outer_step(self.inr, tasks, self.inr_optimizer, "ridge", InrSettings())

    def _refine_step(self) -> float:
        number = self.step - self.config.inr_steps
        warm_up = min(1.0, (number + 1) / _WARM_UP_STEPS)
        rate = self.config.refine_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * number / self.config.refine_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        case = random_case(self.shapes, self.config, self.rng, self.device)
        if self._cube_features is None:
            self._cube_features = cube_features(self.inr)
        field, distance, prior = network_inputs(case.view, inner_step(self.inr, case.view, cube_features=self._cube_features))
        truth = torch.from_numpy(case.truth()).to(self.device)[None, None]
        self.optimizer.zero_grad()
        with half_precision(self.device):
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
            "earlier": self.earlier,
            "rng": self.rng.bit_generator.state,
            "inr": {name: value.detach() for name, value in self.inr.items()},
            "inr_optimizer": self.inr_optimizer.state_dict(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state, its own or that of a shorter training; return False, and change nothing, if it is of another one."""
        mine = self.state()
        if any(state.get(key) != mine[key] for key in ("shapes", "start_sha256")):
            return False
        config, wanted = state.get("config", {}), self.config.refine_steps
        theirs = config.get("refine_steps", wanted + 1)
        if theirs > wanted or config | {"refine_steps": wanted} != mine["config"]:
            return False
        self.step, self.cpu_s, self._cube_features = state["step"], state["cpu_s"], None
        earlier = state.get("earlier", [])  # which earlier versions did not write
        self.earlier = [*earlier, theirs] if theirs < wanted else list(earlier)
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


def train(
    shapes: list[TrainingShape],
    config: TrainingConfig,
    checkpoint: Path,
    report: Report,
    start: Prior | None = None,
    device: WorkDevice | None = None,
) -> Training:
    """Train on shapes, from the checkpoint where there is one; where a card fails, the CPU goes on from there.

    Args:
        shapes: All are trained on.
        config: How.
        checkpoint: Written every minute, and when the training is cancelled; the caller removes it once it has kept the result.
        report: Told the fraction done and the loss.
        start: A prior whose residual network the training starts from.
        device: Where; the CPU by default.

    Raises:
        Cancelled: From `report`.
    """

    def work(where: str) -> Training:
        with repeatable(where):
            return _trained(Training(shapes, config, start, where), checkpoint, report)

    return work("cpu") if device is None else device.run(work, "the training went on")


def _trained(training: Training, checkpoint: Path, report: Report) -> Training:
    """Take the steps that are left after the checkpoint."""
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
