"""Simultaneous algebraic reconstruction (SART) with positivity, total variation and momentum, for any geometry.

A cycle visits every view once: the residual of its projection, divided by the ray's length, is spread back along the rays (Andersen and
Kak, Ultrasonic Imaging 6 (1984) 81). A step of total-variation denoising closes the cycle, and Nesterov's momentum carries cycles on,
which makes a dozen do the work of many dozens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from IntraopReconLib.core.acquisition import Acquisition
from IntraopReconLib.core.config import SartSettings
from SparseAnatomyLib.grid import VoxelGrid

from .kernels import CPU, VoxelKernels
from .projection import ViewOnGrid, project_volume

LEAST_RAY_SHARE = 0.3  # of the box's edge: rays that only touch a corner would carry its whole residual


@dataclass
class SartState:
    """Where a series of cycles stands, and where it is computed.

    Attributes:
        volume: Attenuation per mm, float32 [k, j, i].
        previous: The volume a cycle before.
        dual: Where the total variation's denoising stands, float32 [3, k, j, i].
        momentum: Nesterov's t.
        cycle: Cycles done.
        kernels: Whose arrays these are: numpy's, on the CPU, or those that they were put to.
    """

    volume: Any
    previous: Any
    dual: Any
    momentum: float = 1.0
    cycle: int = 0
    kernels: VoxelKernels = CPU

    @classmethod
    def of(cls, volume: np.ndarray) -> SartState:
        """Start from a volume."""
        return cls(volume.astype(np.float32), volume.astype(np.float32), np.zeros((3, *volume.shape), np.float32))

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> SartState:
        """Go on from what `arrays` gave."""
        return cls(**{**arrays, "momentum": float(arrays["momentum"]), "cycle": int(arrays["cycle"])})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays of numpy, for a checkpoint; the next cycle may change them."""
        arrays = {name: self.kernels.seen(getattr(self, name)) for name in ("volume", "previous", "dual")}
        return arrays | {"momentum": np.array(self.momentum), "cycle": np.array(self.cycle)}

    def put(self, kernels: VoxelKernels) -> None:
        """Go on with other kernels."""
        arrays = self.arrays()
        self.volume, self.previous, self.dual = (kernels.put(arrays[name]) for name in ("volume", "previous", "dual"))
        self.kernels = kernels

    def become(self, other: SartState) -> None:
        """Stand where another series stands."""
        for field in fields(self):
            setattr(self, field.name, getattr(other, field.name))


def run_sart(
    acquisition: Acquisition,
    indices: np.ndarray,
    grid: VoxelGrid,
    state: SartState,
    settings: SartSettings,
    seed: int,
    after_cycle: Callable[[SartState], None],
    until: int | None = None,
) -> Any:
    """Run the cycles that are left.

    Args:
        acquisition: At the resolution to use.
        indices: The views that enter.
        grid: Of the volume, in the frame of the box.
        state: Where to go on, and by which kernels; changed in place.
        settings: How cycles go.
        seed: Draws the order of the views.
        after_cycle: Called after each cycle; for progress, checkpoints and cancellation.
        until: Stop before this cycle, to go on with other views.

    Returns:
        Attenuation per mm, float32 [k, j, i], never negative; an array of the kernels.
    """
    kernels = state.kernels
    views = [ViewOnGrid.of(geometry, grid) for geometry in acquisition.geometries]
    attenuation, weights = kernels.put(acquisition.attenuation), kernels.put(acquisition.weights)
    least_length = LEAST_RAY_SHARE * float(grid.extent_mm.min())
    while state.cycle < (settings.cycles if until is None else until):
        share = state.cycle / max(1, settings.cycles - 1)
        relaxation = settings.relaxation + (settings.last_relaxation - settings.relaxation) * share
        ahead = _extrapolated(state)
        for index in np.random.default_rng([seed, state.cycle]).permutation(indices).tolist():
            projected, lengths = kernels.project(ahead, views[index])
            residual = weights[index] * (attenuation[index] - projected) * (lengths > 0)
            kernels.add_backprojection(ahead, relaxation * residual / lengths.clip(least_length), views[index])
            kernels.keep_positive(ahead)
        smooth(ahead, grid, relaxation * settings.tv_mm, state.dual, settings.tv_iterations, kernels)
        state.previous, state.volume = state.volume, ahead
        state.cycle += 1
        after_cycle(state)
    return state.volume


def smooth(volume: Any, grid: VoxelGrid, tv_mm: float = 0.02, dual: Any = None, iterations: int = 20, kernels: VoxelKernels = CPU) -> None:
    """Take noise off a volume by total variation, in place.

    Args:
        volume: float32 [k, j, i], an array of the kernels.
        grid: Of the volume.
        tv_mm: As in `SartSettings`.
        dual: As for `total_variation.denoise`; None to start anew.
        iterations: Denoising steps.
        kernels: Where it is computed.
    """
    start = kernels.put(np.zeros((3, *volume.shape), np.float32)) if dual is None else dual
    kernels.denoise(volume, tv_mm / float(grid.spacing_mm[0]), start, iterations)


def _extrapolated(state: SartState) -> Any:
    """Return the point that Nesterov's momentum goes on from, and advance the momentum."""
    following = (1 + np.sqrt(1 + 4 * state.momentum**2)) / 2
    factor = float((state.momentum - 1) / following)
    state.momentum = float(following)
    return (state.volume + factor * (state.volume - state.previous)).clip(0)


def residual_rmse(acquisition: Acquisition, indices: np.ndarray, grid: VoxelGrid, volume: np.ndarray) -> float:
    """Return the root mean square difference between the measured attenuation of some views and the volume's projection."""
    squares = total = 0.0
    for index in indices:
        projected, _ = project_volume(volume, ViewOnGrid.of(acquisition.geometries[index], grid))
        weights = acquisition.weights[index]
        squares += float((weights * (projected - acquisition.attenuation[index]) ** 2).sum())
        total += float(weights.sum())
    return float(np.sqrt(squares / max(total, 1.0)))
