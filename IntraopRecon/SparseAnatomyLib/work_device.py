"""Work of PyTorch on a graphics card as long as it works, and on the CPU from then on. Torch is imported when it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from .devices import DeviceChoice

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Result = TypeVar("Result")
_lost: set[str] = set()  # cards that failed in this process: after most of CUDA's errors, nothing works there any more


class WorkDevice:
    """Where work is done.

    Args:
        choice: As `devices.choose_device` returns it.

    Attributes:
        device: `cpu` or a card; `cpu` after a card has failed.
        failures: Sentences for the user on cards that failed.
    """

    def __init__(self, choice: DeviceChoice) -> None:
        self.device, self._chosen = choice.device, choice.sentence
        self.failures: list[str] = []
        if self.device in _lost:
            self.device = "cpu"
            self.failures = ["The graphics card failed before, so the CPU was used; restart the program to try the card again."]

    @property
    def sentence(self) -> str:
        """What is used and why, and what became of it."""
        return " ".join([self._chosen, *self.failures])

    def run(self, work: Callable[[str], Result], what: str) -> Result:
        """Do work on the device; where a card fails, do it again from the start on the CPU.

        Args:
            work: Told the device. What it leaves behind must do no harm when it is done again.
            what: That was done, for the sentence, such as "the shape was completed".

        Returns:
            What the work returns.
        """
        if self.device == "cpu":
            return work("cpu")
        try:
            return work(self.device)
        except RuntimeError as error:  # of CUDA, of PyTorch's allocator, and of the libraries beneath
            full = is_out_of_memory(error)
            became = "ran out of memory" if full else f"failed ({type(error).__name__})"
        # Not before: an error holds its frames, and they what the work had on the card.
        failed, self.device = self.device, "cpu"
        self.failures.append(f"The graphics card {became}; {what} on the CPU.")
        if full:
            _free_memory()
        done = work("cpu")  # what fails here too was not the card's fault
        if not full:
            _lost.add(failed)
        return done


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a card's memory did not do, in PyTorch's words, CUDA's, those of its libraries, or Warp's."""
    import torch

    words = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "alloc_failed" in words:
        return True
    return "failed to allocate" in words and "on device 'cpu'" not in words


def _free_memory() -> None:
    """Give back what PyTorch keeps of a card for later."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def on_host(values: Tensor) -> np.ndarray:
    """Return values of any device as an array; those of a card come through memory from which it copies at full speed."""
    if not values.is_cuda:
        return values.cpu().numpy()
    import torch

    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values).numpy()


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Let a card add up in the same order each time, as the CPU does; what is trained twice is then the same twice."""
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
