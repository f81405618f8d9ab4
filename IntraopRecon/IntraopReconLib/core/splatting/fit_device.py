"""Gaussians fitted on a graphics card as long as it works, and on the CPU from then on: a run is never lost with the card."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from IntraopReconLib.core.acquisition import Acquisition
from IntraopReconLib.core.config import FitSettings
from SparseAnatomyLib.devices import DeviceChoice

from .fit import FitState, fit
from .projector import prepare

KEEP_SECONDS = 2.0  # what the card did since then is lost with it


class FitDevice:
    """Where a run fits its Gaussians; between fits, they are on the CPU.

    Attributes:
        device: `cpu` or a card; `cpu` after a card has failed.
        sentence: What is used and why, and what became of it.
        failures: Sentences for the report, one a card that failed.
    """

    def __init__(self, choice: DeviceChoice) -> None:
        self.device, self.sentence = choice.device, choice.sentence
        self.failures: list[str] = []

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

        Where a card fails, the CPU goes on from the last step that was kept. The card's memory is never read again then: after most of
        CUDA's errors it cannot be.
        """
        if self.device == "cpu":
            return fit(acquisition, indices, state, settings, seed, until, after_step)
        kept, last = _copied(state), time.monotonic()

        def keep(now: FitState) -> None:
            nonlocal kept, last
            if time.monotonic() - last >= KEEP_SECONDS:
                kept, last = _copied(now), time.monotonic()
            after_step(now)

        try:
            state.become(FitState.from_arrays(kept, settings, self.device))
            fit(acquisition, indices, state, settings, seed, until, keep)
            kept = _copied(state)
        except RuntimeError as error:  # of PyTorch and of Warp alike
            self._give_up(error, state.step)
            state.become(FitState.from_arrays(kept, settings))
            return fit(acquisition, indices, state, settings, seed, until, after_step)
        state.become(FitState.from_arrays(kept, settings))

    def prepare(self, report: Callable[[str], None]) -> None:
        """Load the kernels of the card, which are compiled where they are new to it, and say so first; on the CPU, do nothing."""
        if self.device == "cpu":
            return
        report("Preparing the kernels for the graphics card; the first time, they are compiled")
        try:
            prepare(self.device)
        except Exception as error:  # Warp raises no narrower one where kernels cannot be built
            self._give_up(error, 0)

    def _give_up(self, error: Exception, step: int) -> None:
        words = str(error).lower()
        is_full = "out of memory" in words or "failed to allocate" in words
        what = "ran out of memory" if is_full else f"failed ({type(error).__name__})"
        self.failures.append(f"The graphics card {what} at step {step}; the Gaussians were fitted on the CPU from there.")
        self.device, self.sentence = "cpu", f"{self.sentence} {self.failures[-1]}"


def _copied(state: FitState) -> dict[str, np.ndarray]:
    """Return all of a fit as arrays of their own on the CPU."""
    return {name: array.copy() for name, array in state.arrays().items()}
