"""Gaussians fitted to X-rays: Adam with Nesterov's momentum over several views a step, coarse images first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from IntraopReconLib.core.acquisition import Acquisition
from IntraopReconLib.core.config import FitSettings

from .gaussians import Gaussians
from .losses import photon_weights, sharpened_mse, sharpening_gain, weighted_mse
from .projector import Cameras, project


@dataclass(frozen=True)
class OnCard:
    """How a card computes.

    Attributes:
        kernel: As for `project`.
        views_at_once: How many of a step's views it holds at a time, where it cannot hold them all: slower, and the same up to rounding.
            None holds all images there.
    """

    kernel: str
    views_at_once: int | None = None


@dataclass
class FitState:
    """Where a fit stands: the Gaussians, Adam's memory of them, and the steps done."""

    gaussians: Gaussians
    optimizer: torch.optim.Optimizer = field(repr=False)
    step: int = 0

    @classmethod
    def of(cls, gaussians: Gaussians, settings: FitSettings) -> FitState:
        """Start from Gaussians."""
        parameters = Gaussians(**{name: value.detach().clone().requires_grad_() for name, value in gaussians.named().items()})
        groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters.named().values(), settings.rates, strict=True)]
        # the large decay gives Nesterov's momentum its full beta at once, instead of after some hundred steps
        return cls(parameters, torch.optim.NAdam(groups, betas=settings.betas, eps=1e-15, momentum_decay=100.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, for a checkpoint."""
        arrays = {"step": np.array(self.step)}
        for name, parameter in self.gaussians.named().items():
            memory = self.optimizer.state[parameter]
            arrays[name] = parameter.detach().cpu().numpy()
            arrays |= {f"{name}.{key}": value.cpu().numpy() for key, value in memory.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], settings: FitSettings, device: str = "cpu") -> FitState:
        """Go on from what `arrays` gave, on any device."""
        names = ("means_mm", "log_scales", "quaternions", "log_densities")
        state = cls.of(Gaussians(*(torch.from_numpy(arrays[name]).to(device) for name in names)), settings)
        for name, parameter in state.gaussians.named().items():
            prefix = f"{name}."
            kept = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
            # copies, as the optimizer works in place; what it counts stays on the CPU
            memory = {key: torch.tensor(value, device=device if value.ndim else "cpu") for key, value in kept.items()}
            state.optimizer.state[parameter] = memory
        state.step = int(arrays["step"])
        return state

    def become(self, other: FitState) -> None:
        """Stand where another fit stands."""
        self.gaussians, self.optimizer, self.step = other.gaussians, other.optimizer, other.step


def fit(
    acquisition: Acquisition,
    indices: np.ndarray,
    state: FitState,
    settings: FitSettings,
    seed: int,
    until: int,
    after_step: Callable[[FitState], None],
    card: OnCard | None = None,
) -> None:
    """Take the steps that are left before step `until`.

    Args:
        acquisition: At the finest resolution to use.
        indices: The views that enter.
        state: Where to go on, on whatever device it is; changed in place.
        settings: How Gaussians are fitted.
        seed: Draws the order of the views.
        until: Stop before this step.
        after_step: Called after each step; for progress, checkpoints and cancellation.
        card: How to compute, if that is on a card.
    """
    levels = [Level.of(acquisition.binned(2), pixel=2), Level.of(acquisition)]
    kernel, views_at_once = (card.kernel, card.views_at_once) if card else (None, None)
    if views_at_once is None:
        levels = [level.to(state.gaussians.means_mm.device) for level in levels]
    low, high = (math.log(sigma) for sigma in settings.sigma_range_mm)
    for step, chosen in enumerate(_batches(indices, settings, seed)):
        if step < state.step:
            continue
        if step >= until:
            return
        for group, rate in zip(state.optimizer.param_groups, settings.rates, strict=True):
            group["lr"] = rate * settings.last_rate ** (step / settings.steps)
        level = levels[step >= settings.coarse_steps]
        state.optimizer.zero_grad()
        for part in _parts(chosen, views_at_once):
            (level.loss(state.gaussians, part, kernel) * (len(part) / len(chosen))).backward()
        state.optimizer.step()
        with torch.no_grad():
            state.gaussians.log_scales.clamp_(low, high)
        state.step = step + 1
        after_step(state)


def projection_rmse(acquisition: Acquisition, indices: np.ndarray, gaussians: Gaussians) -> float:
    """Return the root mean square difference between the measured attenuation of some views and the Gaussians' projection."""
    with torch.no_grad():
        projected = project(gaussians, Cameras.of(acquisition.geometries)[indices])
        images, weights = (torch.from_numpy(a[indices]) for a in (acquisition.attenuation, acquisition.weights))
        return math.sqrt(float(weighted_mse(projected, images, weights)))


@dataclass(frozen=True, eq=False)
class Level:
    """The views at one resolution, as tensors.

    Attributes:
        cameras: All views.
        images, weights: [view, row, column].
        sharpening: For `sharpened_mse`.
    """

    cameras: Cameras
    images: torch.Tensor
    weights: torch.Tensor
    sharpening: torch.Tensor

    @classmethod
    def of(cls, acquisition: Acquisition, pixel: int = 1) -> Level:
        """Collect the views; `pixel` is how many times as wide the pixels are as the finest."""
        images, mask = torch.from_numpy(acquisition.attenuation), torch.from_numpy(acquisition.weights)
        return cls(Cameras.of(acquisition.geometries), images, photon_weights(images, mask), sharpening_gain(*images.shape[1:], pixel))

    def to(self, device: torch.device) -> Level:
        """Return the same on a device."""
        return Level(self.cameras, self.images.to(device), self.weights.to(device), self.sharpening.to(device))

    def loss(self, gaussians: Gaussians, chosen: np.ndarray, kernel: str | None = None) -> torch.Tensor:
        """Return the mean loss of some views, on the device of the Gaussians; all that it needs there is freed with it."""
        device = gaussians.means_mm.device
        images, weights, sharpening = (tensor.to(device) for tensor in (self.images[chosen], self.weights[chosen], self.sharpening))
        return sharpened_mse(project(gaussians, self.cameras[chosen], kernel), images, weights, sharpening)


def _parts(chosen: np.ndarray, most: int | None) -> list[np.ndarray]:
    """Return the views of a step in parts of at most so many."""
    size = most or len(chosen)
    return [chosen[first : first + size] for first in range(0, len(chosen), size)]


def _batches(indices: np.ndarray, settings: FitSettings, seed: int) -> Iterator[np.ndarray]:
    """Yield the views of each step: shuffled decks, one after the other, so that every view comes as often as the others."""
    rng = np.random.default_rng(seed)
    size = min(settings.views_per_step, len(indices))
    deck = np.empty(0, int)
    for _ in range(settings.steps):
        while len(deck) < size:
            deck = np.concatenate([deck, rng.permutation(indices)])
        yield deck[:size]
        deck = deck[size:]
