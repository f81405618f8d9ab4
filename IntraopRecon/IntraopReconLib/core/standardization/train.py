"""Training a standardizer on simulated pairs; a run that was killed goes on where it was."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from IntraopReconLib.core.reconstruction import Report
from IntraopReconLib.core.training_config import StandardizerTraining
from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.model_files import half_precision, load_checkpoint, save_checkpoint

from .losses import anomaly_l1, fidelity, gradient_l1, opinion_loss
from .pairs import Pair, TrainingView, draw_pair
from .unet import WIDTHS, BoneNetwork, PatchDiscriminator

CHECKPOINT_S = 60.0
WARM_UP_STEPS = 100
LOG_EVERY = 50


class Training:
    """The optimization step by step, with all that a checkpoint needs.

    Args:
        views: Of each CT, by its name.
        training: How.

    Attributes:
        network: The generator as optimized.
        average: Its exponential moving average, which is what ships.
        step: Steps taken.
        cpu_s: Processor time used, that before a kill included.
    """

    def __init__(self, views: dict[str, list[TrainingView]], training: StandardizerTraining) -> None:
        torch.manual_seed(training.seed)
        self.views, self.training = views, training
        self.rng = np.random.default_rng(training.seed)
        self.network = BoneNetwork().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self.discriminator = PatchDiscriminator().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=training.rate, weight_decay=1e-3, betas=(0.9, 0.98))
        self.critic = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.99))
        self.step, self.cpu_s = 0, 0.0

    def take_step(self) -> dict[str, float]:
        """Take the next step; return its losses by name."""
        before = time.process_time()
        names = list(self.views)
        coarse = self.step < self.training.coarse_share * self.training.steps
        factor = 2 if coarse else 1
        drawn = replace(self.training, input_px=self.training.input_px // factor)
        pairs = [self._draw(names[self.rng.integers(len(names))], drawn) for _ in range(factor * self.training.pairs_per_step)]
        attenuation, bone, mask = _tensors(pairs)
        self._set_rate()
        with half_precision():
            predicted = self.network(attenuation.flatten(0, 1)[:, None], mask.repeat_interleave(2, 0)).unflatten(0, bone.shape[:2])[:, :, 0]
        losses = self._losses(predicted.float(), bone, mask)
        if self.step >= self.training.adversarial_from * self.training.steps:
            losses["adversarial"] = self._adversarial(attenuation, predicted, bone, mask)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        decay = min(self.training.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for averaged, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                averaged.lerp_(value, 1 - decay)
        self.step += 1
        self.cpu_s += time.process_time() - before
        return {name: float(value.detach()) for name, value in losses.items()}

    def _draw(self, name: str, training: StandardizerTraining) -> Pair:
        views = self.views[name]
        return draw_pair(views[self.rng.integers(len(views))], training, self.rng)

    def _set_rate(self) -> None:
        done = self.step / self.training.steps
        rate = self.training.rate * min(1.0, (self.step + 1) / WARM_UP_STEPS) * (0.505 + 0.495 * math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _losses(self, predicted: Tensor, bone: Tensor, mask: Tensor) -> dict[str, Tensor]:
        difference = predicted - bone
        each, masks = difference.flatten(0, 1)[:, None], mask.repeat_interleave(2, 0)
        return {
            "fidelity": fidelity(each, masks),
            "gradient": self.training.gradient_weight * gradient_l1(each, masks),
            "anomaly": self.training.anomaly_weight * anomaly_l1(predicted, bone, mask),
        }

    def _adversarial(self, attenuation: Tensor, predicted: Tensor, bone: Tensor, mask: Tensor) -> Tensor:
        """Teach the discriminator by one step; return its opinion's loss for the generator, on the images with anomalies."""
        xray, ideal, generated = attenuation[:, 1:], bone[:, 1:] * mask, predicted[:, 1:].float() * mask
        self.critic.zero_grad()
        wrong = opinion_loss(self.discriminator(xray, generated.detach()), ideal=False)
        (wrong + opinion_loss(self.discriminator(xray, ideal), ideal=True)).backward()
        self.critic.step()
        return self.training.adversarial_weight * opinion_loss(self.discriminator(xray, generated), ideal=True)

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on exactly here."""
        return {
            "training": self.training.to_json() | {"widths": list(WIDTHS)},
            "views": {name: len(views) for name, views in self.views.items()},
            "step": self.step,
            "cpu_s": self.cpu_s,
            "rng": self.rng.bit_generator.state,
            **{name: getattr(self, name).state_dict() for name in ("network", "average", "discriminator", "optimizer", "critic")},
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; return False, and change nothing, if it is of another training."""
        mine = self.state()
        if any(_plain(state.get(key)) != _plain(mine[key]) for key in ("training", "views")):
            return False
        self.step, self.cpu_s = state["step"], state["cpu_s"]
        self.rng.bit_generator.state = state["rng"]
        for name in ("network", "average", "discriminator", "optimizer", "critic"):
            getattr(self, name).load_state_dict(state[name])
        return True


def train(views: dict[str, list[TrainingView]], training: StandardizerTraining, folder: Path, report: Report) -> Training:
    """Train on the views of CTs, from the checkpoint where there is one.

    Args:
        views: Of each CT, by its name.
        training: How.
        folder: Gets `checkpoint.pt` every minute, `log.csv`, and `pairs_STEP.png` now and then; the caller removes it.
        report: Told the fraction done and the losses.

    Raises:
        Cancelled: From `report`.
    """
    from .training_pictures import write_picture

    run = Training(views, training)
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is not None:
        run.restore(state)
    saved_s, recent = time.monotonic(), []
    try:
        while run.step < training.steps:
            recent = [*recent[-(LOG_EVERY - 1) :], run.take_step()]
            means = {name: float(np.mean([losses[name] for losses in recent if name in losses])) for name in recent[-1]}
            if run.step % LOG_EVERY == 0:
                _log(folder / "log.csv", run.step, run.cpu_s, means)
            if run.step in (LOG_EVERY, *(round(share * training.steps) for share in np.linspace(0, 1, 11)[1:])):
                write_picture(folder / f"pairs_{run.step:06d}.png", run.average, views, training)
            if time.monotonic() - saved_s > CHECKPOINT_S:
                save_checkpoint(folder / "checkpoint.pt", run.state())
                saved_s = time.monotonic()
            told = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            report(run.step / training.steps, f"Step {run.step} of {training.steps}: {told}")
    except Cancelled:
        save_checkpoint(folder / "checkpoint.pt", run.state())
        raise
    save_checkpoint(folder / "checkpoint.pt", run.state())
    run.average.eval()
    return run


def _tensors(pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Return attenuation and bone [n, 2, row, column], and masks [n, 1, row, column]."""
    attenuation, bone = (torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs])) for name in ("attenuation", "bone"))
    return attenuation, bone, torch.from_numpy(np.stack([pair.mask for pair in pairs])[:, None].astype(np.float32))


def _log(path: Path, step: int, cpu_s: float, losses: dict[str, float]) -> None:
    """Add a line to the log."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as log:
        if is_new:
            log.write("step,cpu_s,fidelity,gradient,anomaly,adversarial\n")
        values = [losses.get(name, math.nan) for name in ("fidelity", "gradient", "anomaly", "adversarial")]
        log.write(f"{step},{cpu_s:.1f}," + ",".join(f"{value:.5f}" for value in values) + "\n")


def _plain(value: Any) -> Any:
    """Return nested settings with lists for tuples, as a checkpoint may hold them."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
