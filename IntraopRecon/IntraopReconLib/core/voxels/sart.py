"""Simultaneous algebraic reconstruction (SART) with positivity, total variation and momentum, for any geometry.

A cycle visits every view once: the residual of its projection, divided by the ray's length, is spread back along the rays (Andersen and
Kak, Ultrasonic Imaging 6 (1984) 81). A step of total-variation denoising closes the cycle, and Nesterov's momentum carries cycles on,
which makes a dozen do the work of many dozens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from IntraopReconLib.core.acquisition import Acquisition
from IntraopReconLib.core.config import SartSettings
from SparseAnatomyLib.grid import VoxelGrid

from .projection import ViewOnGrid, add_backprojection, project_volume
from .total_variation import denoise

LEAST_RAY_SHARE = 0.3  # of the box's edge: rays that only touch a corner would carry its whole residual
PEAK_PERCENTILE = 99.9


@dataclass
class SartState:
    """Where a series of cycles stands.

    Attributes:
        volume: Attenuation per mm, float32 [k, j, i].
        previous: The volume a cycle before.
        dual: Where the total variation's denoising stands, float32 [3, k, j, i].
        momentum: Nesterov's t.
        cycle: Cycles done.
    """

    volume: np.ndarray
    previous: np.ndarray
    dual: np.ndarray
    momentum: float = 1.0
    cycle: int = 0

    @classmethod
    def of(cls, volume: np.ndarray) -> SartState:
        """Start from a volume."""
        return cls(volume.astype(np.float32), volume.astype(np.float32), np.zeros((3, *volume.shape), np.float32))


def run_sart(
    acquisition: Acquisition,
    indices: np.ndarray,
    grid: VoxelGrid,
    state: SartState,
    settings: SartSettings,
    seed: int,
    after_cycle: Callable[[SartState], None],
    until: int | None = None,
) -> np.ndarray:
    """Run the cycles that are left.

    Args:
        acquisition: At the resolution to use.
        indices: The views that enter.
        grid: Of the volume, in the frame of the box.
        state: Where to go on; changed in place.
        settings: How cycles go.
        seed: Draws the order of the views.
        after_cycle: Called after each cycle; for progress, checkpoints and cancellation.
        until: Stop before this cycle, to go on with other views.

    Returns:
        Attenuation per mm, float32 [k, j, i], never negative.
    """
    views = [ViewOnGrid.of(geometry, grid) for geometry in acquisition.geometries]
    least_length = np.float32(LEAST_RAY_SHARE * grid.extent_mm.min())
    while state.cycle < (settings.cycles if until is None else until):
        share = state.cycle / max(1, settings.cycles - 1)
        relaxation = settings.relaxation + (settings.last_relaxation - settings.relaxation) * share
        ahead = _extrapolated(state)
        for index in np.random.default_rng([seed, state.cycle]).permutation(indices):
            projected, lengths = project_volume(ahead, views[index])
            residual = acquisition.weights[index] * (acquisition.attenuation[index] - projected) * (lengths > 0)
            add_backprojection(ahead, np.float32(relaxation) * residual / np.maximum(lengths, least_length), views[index])
            np.maximum(ahead, 0, out=ahead)
        smooth(ahead, grid, relaxation * settings.tv_mm, state.dual, settings.tv_iterations)
        state.previous, state.volume = state.volume, ahead
        state.cycle += 1
        after_cycle(state)
    return state.volume


def smooth(volume: np.ndarray, grid: VoxelGrid, tv_mm: float = 0.02, dual: np.ndarray | None = None, iterations: int = 20) -> None:
    """Take noise off a volume by total variation, in place.

    Args:
        volume: float32 [k, j, i].
        grid: Of the volume.
        tv_mm: As in `SartSettings`.
        dual: As for `denoise`; None to start anew.
        iterations: Denoising steps.
    """
    peak = float(np.percentile(volume[::2, ::2, ::2], PEAK_PERCENTILE))
    start = np.zeros((3, *volume.shape), np.float32) if dual is None else dual
    denoise(volume, tv_mm * peak / float(grid.spacing_mm[0]), start, iterations)


def _extrapolated(state: SartState) -> np.ndarray:
    """Return the point that Nesterov's momentum goes on from, and advance the momentum."""
    following = (1 + np.sqrt(1 + 4 * state.momentum**2)) / 2
    factor = np.float32((state.momentum - 1) / following)
    state.momentum = float(following)
    return np.maximum(state.volume + factor * (state.volume - state.previous), 0)


def residual_rmse(acquisition: Acquisition, indices: np.ndarray, grid: VoxelGrid, volume: np.ndarray) -> float:
    """Return the root mean square difference between the measured attenuation of some views and the volume's projection."""
    squares = total = 0.0
    for index in indices:
        projected, _ = project_volume(volume, ViewOnGrid.of(acquisition.geometries[index], grid))
        weights = acquisition.weights[index]
        squares += float((weights * (projected - acquisition.attenuation[index]) ** 2).sum())
        total += float(weights.sum())
    return float(np.sqrt(squares / max(total, 1.0)))
