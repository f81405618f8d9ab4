"""Where shapes are completed; imports no torch to find out that there is no graphics card."""

from __future__ import annotations

from collections.abc import Callable

from SparseAnatomyLib import devices

PROBE = "ShapeCompletionLib.core.probe"


def choose_device(wanted: str, say: Callable[[str], None] = lambda message: None) -> devices.DeviceChoice:
    """Choose the device, as `SparseAnatomyLib.devices.choose_device`; a completion is what is tried on a card."""
    return devices.choose_device(wanted, PROBE, say, "torch")
