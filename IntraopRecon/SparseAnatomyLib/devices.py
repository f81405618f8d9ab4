"""Where the kernels run, and why, in one sentence that a panel or a report can show."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .checks import check_choice
from .errors import ResourceError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class DeviceChoice:
    """The device in use.

    Attributes:
        device: `cpu`; a later version adds `cuda`.
        kernel: Name of the kernels, as `project` and `voxelize` take it.
        sentence: What is used and why.
    """

    device: str
    kernel: str
    sentence: str


def choose_device(wanted: str) -> DeviceChoice:
    """Choose the device and its kernels.

    Args:
        wanted: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: Another word.
        ResourceError: `cuda`: there are no GPU kernels in this version.
    """
    check_choice("wanted", wanted, DEVICES)
    if wanted == "cuda":
        raise ResourceError("This version has no kernels for the GPU yet.", "Choose the device auto or cpu.")
    cores = os.cpu_count() or 1
    why = "as chosen" if wanted == "cpu" else "since this version has no kernels for the GPU yet"
    return DeviceChoice("cpu", "numba", f"Runs on the CPU ({cores} {'core' if cores == 1 else 'cores'}), {why}.")
