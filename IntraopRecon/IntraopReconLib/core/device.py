"""Where a reconstruction computes; imports no torch to find out that there is no graphics card."""

from __future__ import annotations

from collections.abc import Callable

from SparseAnatomyLib import devices

PROBE = "IntraopReconLib.core.splatting.probe"


def choose_device(wanted: str, say: Callable[[str], None] = lambda message: None) -> devices.DeviceChoice:
    """Choose the device and its kernels, as `SparseAnatomyLib.devices.choose_device`; the splatting is what is tried on a card."""
    return devices.choose_device(wanted, PROBE, say)
