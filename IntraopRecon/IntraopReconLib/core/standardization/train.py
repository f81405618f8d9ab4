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
from torch import Tensor, nn
from torch.nn import functional

from IntraopReconLib.core.reconstruction import Report
from IntraopReconLib.core.training_config import StandardizerTraining
from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.model_files import half_precision, load_checkpoint, save_checkpoint
from SparseAnatomyLib.work_device import WorkDevice, repeatable

from .losses import anomaly_error, fidelity, gradient_l1, opinion_loss
from .pair_pool import PairPool
from .pairs import TrainingView
from .unet import OVERVIEW_PX, BoneNetwork, PatchDiscriminator, block_means

CHECKPOINT_S = 60.0
WARM_UP_STEPS = 100
LOG_EVERY = 50
OVERVIEW_DRAWN_PX = 2  # pixels along one of those that pairs are drawn with for the overview, which is quicker


class Training:
    """The optimization step by step, with all that a checkpoint needs: first of the overview, then of the detail over it.

    Args:
        views: Of each CT, by its name.
        training: How.
        device: Where the networks are; the same chance everywhere, so that another device may go on from the state.

    Attributes:
        network: The generator as optimized.
        average: Its exponential moving average, which is what ships.
        step: Steps taken.
        cpu_s: Processor time used, that before a kill included.
    """

    def __init__(self, views: dict[str, list[TrainingView]], training: StandardizerTraining, device: str = "cpu") -> None:
        torch.manual_seed(training.seed)
        self.views, self.training, self.device = views, training, device
        coarsely = replace(training, input_px=training.input_px // OVERVIEW_DRAWN_PX)
        self.overview_pool = PairPool(views, coarsely, training.overview_batch)
        self.detail_pool = PairPool(views, training, training.detail_batch)
        self.network = BoneNetwork().to(memory_format=torch.channels_last).to(device)
        self.average = copy.deepcopy(self.network).eval()
        self.discriminator = PatchDiscriminator().to(memory_format=torch.channels_last).to(device)
        self.optimizers = {part: _adam(getattr(self.network, part), training) for part in ("overview", "detail")}
        self.critic = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.99))
        self.step, self.cpu_s = 0, 0.0

    @property
    def overview_steps(self) -> int:
        """Steps that the overview is trained in, before the detail."""
        return round(self.training.overview_share * self.training.steps)

    def take_step(self) -> dict[str, float]:
        """Take the next step; return its losses by name."""
        before = time.process_time()
        is_overview = self.step < self.overview_steps
        part = "overview" if is_overview else "detail"
        losses = self._overview_losses() if is_overview else self._detail_losses()
        optimizer, module = self.optimizers[part], getattr(self.network, part)
        done, steps = self._progress()
        for group in optimizer.param_groups:
            group["lr"] = self.training.rate * min(1.0, (done + 1) / WARM_UP_STEPS) * (0.505 + 0.495 * math.cos(math.pi * done / steps))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        _follow(getattr(self.average, part), module, min(self.training.averaging, done / (done + 10)))
        self.step += 1
        self.cpu_s += time.process_time() - before
        return {name: float(value.detach()) for name, value in losses.items()}

    def _progress(self) -> tuple[int, int]:
        """Return how many steps of the present part are done, and how many it has."""
        first = self.overview_steps
        return (self.step, first) if self.step < first else (self.step - first, self.training.steps - first)

    def _overview_losses(self) -> dict[str, Tensor]:
        """Of images as they are, or with anomalies, at the overview's resolution."""
        batch = self.overview_pool.batch(self.step).on(self.device)
        edge = OVERVIEW_PX // OVERVIEW_DRAWN_PX
        members = torch.arange(len(batch.mask), device=self.device), torch.arange(len(batch.mask), device=self.device) % 2
        small, known = block_means(batch.attenuation[members][:, None], batch.mask, edge)
        with half_precision(self.device):
            predicted = self.network.seen_from_afar(small, known)
        difference = predicted - functional.avg_pool2d(batch.bone[members][:, None], edge)
        return {"fidelity": fidelity(difference, known), "gradient": self.training.gradient_weight * gradient_l1(difference, known)}

    def _detail_losses(self) -> dict[str, Tensor]:
        """Of pairs, a part of each image, over the overview of the whole."""
        batch = self.detail_pool.batch(self._progress()[0]).on(self.device)
        images, masks = batch.attenuation.flatten(0, 1)[:, None], batch.mask.repeat_interleave(2, 0)
        with torch.no_grad(), half_precision(self.device):
            course, guess = self.average.looked_over(images, masks)
        rng = np.random.default_rng([self.training.seed, 2, self.step])
        rows, columns = (_part(length, self.training.crop_px, rng) for length in masks.shape[2:])
        image, course, guess, mask = (each[:, :, rows, columns] for each in (images, course.float(), guess.float(), masks))
        with half_precision(self.device):
            predicted = self.network.detail(image, course, guess, mask)[0]
        attenuation, bone, mask = (each[:, :, rows, columns] for each in (batch.attenuation, batch.bone, batch.mask))
        difference, pairs = predicted - bone.flatten(0, 1)[:, None], predicted[:, 0].unflatten(0, bone.shape[:2])
        masks = mask.repeat_interleave(2, 0)
        losses = {
            "fidelity": fidelity(difference, masks),
            "gradient": self.training.gradient_weight * gradient_l1(difference, masks),
            "anomaly": self.training.anomaly_weight * anomaly_error(pairs, bone, mask),
        }
        done, steps = self._progress()
        if done >= self.training.adversarial_from * steps:
            losses["adversarial"] = self._adversarial(attenuation, pairs, bone, mask)
        return losses

    def _adversarial(self, attenuation: Tensor, predicted: Tensor, bone: Tensor, mask: Tensor) -> Tensor:
        """Teach the discriminator by one step; return its opinion's loss for the generator, on the images with anomalies."""
        xray, ideal, generated = attenuation[:, 1:], bone[:, 1:] * mask, predicted[:, 1:] * mask
        self.critic.zero_grad()
        wrong = opinion_loss(self.discriminator(xray, generated.detach()), ideal=False)
        (wrong + opinion_loss(self.discriminator(xray, ideal), ideal=True)).backward()
        self.critic.step()
        return self.training.adversarial_weight * opinion_loss(self.discriminator(xray, generated), ideal=True)

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on exactly here."""
        return {
            "training": self.training.to_json() | {"widths": self.network.widths},
            "views": {name: len(views) for name, views in self.views.items()},
            "step": self.step,
            "cpu_s": self.cpu_s,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; return False, and change nothing, if it is of another training."""
        mine = self.state()
        if any(_plain(state.get(key)) != _plain(mine[key]) for key in ("training", "views")):
            return False
        self.step, self.cpu_s = state["step"], state["cpu_s"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        return True

    def _parts(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("network", "average", "discriminator", "critic")}
        return named | {f"optimizer of the {part}": optimizer for part, optimizer in self.optimizers.items()}


def train(
    views: dict[str, list[TrainingView]],
    training: StandardizerTraining,
    folder: Path,
    report: Report,
    device: WorkDevice | None = None,
) -> Training:
    """Train on the views of CTs, from the checkpoint where there is one; where a card fails, the CPU goes on from there.

    Args:
        views: Of each CT, by its name.
        training: How.
        folder: Gets `checkpoint.pt` every minute, `log.csv`, and `pairs_STEP.png` now and then; the caller removes it.
        report: Told the fraction done and the losses.
        device: Where; the CPU by default.

    Raises:
        Cancelled: From `report`.
    """

    def work(where: str) -> Training:
        with repeatable(where):
            return _trained(Training(views, training, where), folder, report)

    return work("cpu") if device is None else device.run(work, "the training went on")


def _trained(run: Training, folder: Path, report: Report) -> Training:
    """Take the steps that are left after the checkpoint."""
    from .training_pictures import write_picture

    training = run.training
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
                write_picture(folder / f"pairs_{run.step:06d}.png", run.average, run.views, training)
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


def _adam(part: nn.Module, training: StandardizerTraining) -> torch.optim.Optimizer:
    return torch.optim.AdamW(part.parameters(), lr=training.rate, weight_decay=1e-3, betas=(0.9, 0.98))


def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move an average of weights towards the present ones; what normalizes is an average already."""
    with torch.no_grad():
        for averaged, value in zip(average.parameters(), module.parameters(), strict=True):
            averaged.lerp_(value, 1 - decay)
        for averaged, value in zip(average.buffers(), module.buffers(), strict=True):
            averaged.copy_(value)


def _part(length: int, wanted: int, rng: np.random.Generator) -> slice:
    """Return a stretch of the wanted length somewhere in the whole one."""
    start = int(rng.integers(max(length - wanted, 0) + 1))
    return slice(start, start + wanted)


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
