"""All settings and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from SparseAnatomyLib.checks import check_choice, check_positive

Method = Literal["auto", "interpolate", "inr"]
METHODS: tuple[Method, ...] = ("auto", "interpolate", "inr")
Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda")
MAX_STEPS = 100


@dataclass(frozen=True)
class CompletionConfig:
    """How to complete one shape."""

    method: Method = "auto"  # auto: the prior, and interpolation where the prior does not fit
    steps: int = 1  # optimization steps of the implicit network
    spacing_mm: float | None = None  # voxel spacing of the result; that of the segmentation if absent
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("device", self.device, DEVICES)
        if not (isinstance(self.steps, int) and 1 <= self.steps <= MAX_STEPS):
            raise ValueError(f"steps: expected a whole number from 1 to {MAX_STEPS}, got {self.steps}.")
        if self.spacing_mm is not None:
            check_positive("spacing_mm", self.spacing_mm)
