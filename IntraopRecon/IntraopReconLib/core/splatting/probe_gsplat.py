"""Whether gsplat works on a graphics card, and makes it faster: `choose_device` runs it in a process of its own, after `probe`."""

from __future__ import annotations

import os

from SparseAnatomyLib.devices import problem

from . import gsplat_state, probe

REPEATS = 30
LEAST_GAIN = 1.1  # less could be chance, and is worth no second way
_REMEDY = "Uninstall gsplat, or go on without it."


def examine(device: str) -> dict[str, str]:
    """Return the kernel to take on a card, `gsplat` or `warp`, and a `note` why; or what `choose_device` is told of a problem."""
    cores = os.cpu_count() or 1
    os.environ.setdefault("MAX_JOBS", str(max(1, min(10, cores // 2))))  # a compiler takes a gigabyte or two
    try:
        gsplat_state.begin()
    except OSError as error:
        return problem(f"it cannot be compiled into a folder that cannot be written ({error.strerror})", _REMEDY)
    from ._projector_gsplat import load

    try:
        load()
    except RuntimeError:
        return problem("it could not be compiled or loaded", _REMEDY)
    expected, warp_seconds = probe.timed(device, "warp", REPEATS)
    found, gsplat_seconds = probe.timed(device, "gsplat", REPEATS)
    if not probe.same(expected, found):
        return problem("it computes otherwise than Warp", _REMEDY)
    gsplat_state.end()
    gain = warp_seconds / gsplat_seconds
    if gain < LEAST_GAIN:
        return {"kernel": "warp", "note": "gsplat works too, but is not faster"}
    return {"kernel": "gsplat", "note": f"gsplat is used, with which it is {gain:.1f} times as fast as without"}
