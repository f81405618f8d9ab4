"""A run on a graphics card as long as it works, and on the CPU from then on: it is never lost with the card.

What is iterated, Gaussians and voxels, is on the card while it is, and on the CPU between. A card that runs out of memory while it fits
Gaussians goes on with fewer views at a time, as far down as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.work_device import is_out_of_memory

from .acquisition import Acquisition
from .config import FitSettings, IxgsSettings, SartSettings
from .coverage import coverage
from .splatting.fit import FitState, OnCard, fit
from .splatting.gaussians import Gaussians
from .splatting.ixgs import fit_ixgs
from .splatting.projector import prepare
from .splatting.voxelizer import voxelize
from .voxels.kernels import CPU, CardVoxels, VoxelKernels
from .voxels.projection import ViewOnGrid
from .voxels.sart import SartState, run_sart, smooth

T = TypeVar("T")
FULL = "ran out of memory"
KEEP_SECONDS = 2.0  # what the card did since then is lost with it


class RunDevice:
    """Where a run computes.

    Attributes:
        device: `cpu` or a card; `cpu` after a card has failed.
        views_at_once: How many views a card holds at a time, after its memory did not do for all of a step's Gaussians; else None.
        failures: Sentences for the report, one for want of memory and one for any other failure of the card.
    """

    def __init__(self, choice: DeviceChoice) -> None:
        self.device, self._kernel, self._chosen = choice.device, choice.kernel, choice.sentence
        self.views_at_once: int | None = None
        self.failures: list[str] = []

    @property
    def sentence(self) -> str:
        """What is used and why, and what became of it."""
        return " ".join([self._chosen, *self.failures])

    def fit(
        self,
        acquisition: Acquisition,
        indices: np.ndarray,
        state: FitState,
        settings: FitSettings,
        seed: int,
        until: int,
        after_step: Callable[[FitState], None],
    ) -> None:
        """Take the steps that are left before step `until`, as `fit.fit`.

        Where the memory of a card does not do, it goes on with fewer views at a time; where it fails otherwise, the CPU goes on; both from
        the last step that was kept. A card that failed is never read again: after most of CUDA's errors it cannot be.
        """
        if self.device == "cpu":
            return fit(acquisition, indices, state, settings, seed, until, after_step)
        keeper = _Keeper(state, after_step)
        while self.device != "cpu":
            try:
                if self.views_at_once:
                    torch.cuda.empty_cache()  # else what PyTorch keeps for itself is missing to Warp
                state.become(FitState.from_arrays(keeper.kept, settings, self.device))
                fit(acquisition, indices, state, settings, seed, until, keeper, OnCard(self._kernel, self.views_at_once))
                keeper.keep(state)
                break
            except RuntimeError as error:  # of PyTorch and of Warp alike
                self._go_on_after(error, f"step {state.step}", min(settings.views_per_step, len(indices)))
            # not before: an error holds its frames, and they what the failed step had on the card
            state.become(FitState.from_arrays(keeper.kept, settings))
        else:
            return fit(acquisition, indices, state, settings, seed, until, after_step)
        state.become(FitState.from_arrays(keeper.kept, settings))

    def run_sart(
        self,
        acquisition: Acquisition,
        indices: np.ndarray,
        grid: VoxelGrid,
        state: SartState,
        settings: SartSettings,
        seed: int,
        after_cycle: Callable[[SartState], None],
        until: int | None = None,
    ) -> np.ndarray:
        """Run the cycles that are left, as `voxels.sart.run_sart`.

        Where a card fails, the CPU goes on from the last cycle that was kept.
        """
        if self.device == "cpu":
            return run_sart(acquisition, indices, grid, state, settings, seed, after_cycle, until)
        keeper = _Keeper(state, after_cycle)
        try:
            state.put(CardVoxels(self.device))
            run_sart(acquisition, indices, grid, state, settings, seed, keeper, until)
            state.put(CPU)
            return state.volume
        except RuntimeError as error:
            self._give_up(_what_happened(error), f"cycle {state.cycle}")
        state.become(SartState.from_arrays(keeper.kept))
        return run_sart(acquisition, indices, grid, state, settings, seed, after_cycle, until)

    def smooth(self, volume: np.ndarray, grid: VoxelGrid) -> np.ndarray:
        """Return a volume with less noise, as `voxels.sart.smooth` leaves it; on the CPU, in place."""

        def smoothed(kernels: VoxelKernels) -> np.ndarray:
            there = kernels.put(volume)
            smooth(there, grid, kernels=kernels)
            return kernels.seen(there)

        return self._tried(smoothed)

    def project(self, volume: np.ndarray, views: Sequence[ViewOnGrid]) -> list[np.ndarray]:
        """Return a volume's projections into views, as `voxels.projection.project_volume` makes them."""

        def projected(kernels: VoxelKernels) -> list[np.ndarray]:
            there = kernels.put(volume)
            return [kernels.seen(kernels.project(there, view)[0]) for view in views]

        return self._tried(projected)

    def coverage(self, acquisition: Acquisition, grid: VoxelGrid) -> np.ndarray:
        """Return how well the views constrain each voxel, as `coverage.coverage`."""
        return self._tried(lambda kernels: coverage(acquisition, grid, "cpu" if kernels is CPU else self.device))

    def voxelize(self, gaussians: Gaussians, grid: VoxelGrid) -> np.ndarray:
        """Return the field of Gaussians, which are on the CPU, on a grid, float32 [k, j, i]."""

        def voxelized(kernels: VoxelKernels) -> np.ndarray:
            device = "cpu" if kernels is CPU else self.device
            return voxelize(gaussians.to(device), grid).cpu().numpy().copy()  # a volume of its own, without the room that the kernels leave

        with torch.no_grad():
            return self._tried(voxelized)

    def fit_ixgs(
        self,
        acquisition: Acquisition,
        gaussians: Gaussians,
        spacing_mm: float,
        settings: IxgsSettings,
        seed: int,
        after_step: Callable[[FitState], None],
    ) -> Gaussians:
        """Run the published recipe on the training views, as `splatting.ixgs.fit_ixgs`; where a card fails, the CPU begins anew."""

        def fitted(kernels: VoxelKernels) -> Gaussians:
            device, kernel = ("cpu", None) if kernels is CPU else (self.device, self._kernel)
            start = gaussians.to(device)
            return fit_ixgs(acquisition, acquisition.training, start, spacing_mm, settings, seed, after_step, kernel).to("cpu")

        return self._tried(fitted)

    def _tried(self, work: Callable[[VoxelKernels], T]) -> T:
        """Return what some work comes to on the card or, where that fails, on the CPU."""
        if self.device != "cpu":
            try:
                return work(CardVoxels(self.device))
            except RuntimeError as error:  # of PyTorch and of Warp alike
                self._give_up(_what_happened(error), "one step of the way")
        return work(CPU)

    def prepare(self, report: Callable[[str], None]) -> None:
        """Load the kernels of the card, which are compiled where they are new to it, and say so first; on the CPU, do nothing."""
        if self.device == "cpu":
            return
        report("Preparing the kernels for the graphics card; the first time, they are compiled")
        try:
            self._prepare()
        except Exception as error:  # Warp raises no narrower one where kernels cannot be built
            self._give_up(_what_happened(error), "the start")

    def _prepare(self) -> None:
        try:
            prepare(self.device, self._kernel)
        except Exception as error:
            if self._kernel != "gsplat":
                raise
            self._kernel = "warp"  # which does the same, and more of it by itself
            self.failures.append(f"gsplat failed ({type(error).__name__}), though it had passed its test; Warp's kernels did its work.")
            prepare(self.device, self._kernel)

    def _go_on_after(self, error: RuntimeError, place: str, views: int) -> None:
        """Halve the views that the card holds at a time, of so many in a step, or leave it; and say so."""
        held = min(views, self.views_at_once or views)
        if not is_out_of_memory(error):
            self._give_up(_what_happened(error), place)
            return
        self.failures = [told for told in self.failures if FULL not in told]  # the last word on its memory is enough
        if held == 1:
            self._give_up(f"{FULL}, even with one view at a time,", place)
            return
        self.views_at_once = held // 2
        now = "one view" if self.views_at_once == 1 else f"{self.views_at_once} views"
        what = f"it held {now} at a time instead of {views}: slower, to the same end"
        self.failures.append(f"The graphics card {FULL} at {place}; from there {what}.")

    def _give_up(self, what: str, place: str) -> None:
        self.failures.append(f"The graphics card {what} at {place}; the CPU computed from there.")
        self.device = "cpu"


def _what_happened(error: Exception) -> str:
    return FULL if is_out_of_memory(error) else f"failed ({type(error).__name__})"


class _Keeper:
    """Called after each step or cycle: keeps what a card has come to, on the CPU, at most every KEEP_SECONDS, and passes the call on."""

    def __init__(self, state: FitState | SartState, after: Callable[[Any], None]) -> None:
        self._after = after
        self.keep(state)

    def __call__(self, now: FitState | SartState) -> None:
        if time.monotonic() - self._last >= KEEP_SECONDS:
            self.keep(now)
        self._after(now)

    def keep(self, state: FitState | SartState) -> None:
        """Keep all of a state as arrays of their own."""
        self.kept = {name: array.copy() for name, array in state.arrays().items()}
        self._last = time.monotonic()
