"""Where a reconstruction computes; imports no torch to find out that there is no graphics card."""

from __future__ import annotations

from collections.abc import Callable

from SparseAnatomyLib import devices

PROBE = "IntraopReconLib.core.splatting.probe"
STANDARDIZER_PROBE = "IntraopReconLib.core.standardization.probe"


def choose_device(wanted: str, say: Callable[[str], None] = lambda message: None) -> devices.DeviceChoice:
    """Choose the device and its kernels, as `SparseAnatomyLib.devices.choose_device`; the splatting is what is tried on a card."""
    return devices.choose_device(wanted, PROBE, say)


def choose_standardizer_device(wanted: str, say: Callable[[str], None] = lambda message: None) -> devices.DeviceChoice:
    """Choose the device of the standardizer, which needs PyTorch alone; its network is what is tried on a card."""
    return devices.choose_device(wanted, STANDARDIZER_PROBE, say, "torch")
