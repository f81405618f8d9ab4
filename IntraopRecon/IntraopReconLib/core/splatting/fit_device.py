"""Gaussians fitted on a graphics card as long as it works, and on the CPU from then on: a run is never lost with the card.

A card that runs out of memory goes on with fewer views at a time, as far down as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

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
        views_at_once: How many views a card holds at a time, after its memory did not do for all of a step; else None.
        failures: Sentences for the report, one for want of memory and one for any other failure of the card.
    """

    def __init__(self, choice: DeviceChoice) -> None:
        self.device, self._chosen = choice.device, choice.sentence
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
        kept, last = _copied(state), time.monotonic()

        def keep(now: FitState) -> None:
            nonlocal kept, last
            if time.monotonic() - last >= KEEP_SECONDS:
                kept, last = _copied(now), time.monotonic()
            after_step(now)

        while self.device != "cpu":
            try:
                if self.views_at_once:
                    torch.cuda.empty_cache()  # else what PyTorch keeps for itself is missing to Warp
                state.become(FitState.from_arrays(kept, settings, self.device))
                fit(acquisition, indices, state, settings, seed, until, keep, self.views_at_once)
                kept = _copied(state)
                break
            except RuntimeError as error:  # of PyTorch and of Warp alike
                self._go_on_after(error, state.step, min(settings.views_per_step, len(indices)))
            # not before: an error holds its frames, and they what the failed step had on the card
            state.become(FitState.from_arrays(kept, settings))
        else:
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
            self._give_up("ran out of memory" if _is_out_of_memory(error) else f"failed ({type(error).__name__})", 0)

    def _go_on_after(self, error: RuntimeError, step: int, views: int) -> None:
        """Halve the views that the card holds at a time, of so many in a step, or leave it; and say so."""
        held = min(views, self.views_at_once or views)
        if not _is_out_of_memory(error):
            self._give_up(f"failed ({type(error).__name__})", step)
            return
        self.failures = []  # the last word on its memory is enough
        if held == 1:
            self._give_up("ran out of memory, even with one view at a time,", step)
            return
        self.views_at_once = held // 2
        now = "one view" if self.views_at_once == 1 else f"{self.views_at_once} views"
        what = f"it held {now} at a time instead of {views}: slower, to the same end"
        self.failures.append(f"The graphics card ran out of memory at step {step}; from there {what}.")

    def _give_up(self, what: str, step: int) -> None:
        self.failures.append(f"The graphics card {what} at step {step}; the Gaussians were fitted on the CPU from there.")
        self.device = "cpu"


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether the card's memory did not do: in PyTorch's words, CUDA's, those of its libraries, or Warp's."""
    words = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "alloc_failed" in words:
        return True
    return "failed to allocate" in words and "on device 'cpu'" not in words


def _copied(state: FitState) -> dict[str, np.ndarray]:
    """Return all of a fit as arrays of their own on the CPU."""
    return {name: array.copy() for name, array in state.arrays().items()}
