"""Where the kernels run, and why, in one sentence that a panel or a report can show.

A graphics card is used only after its kernels were tried in a process of their own, which may fail, hang or crash without harm.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from .checks import check_choice
from .errors import ResourceError

DEVICES = ("auto", "cpu", "cuda", *(f"cuda:{number}" for number in range(8)))
"""What can be wanted: `cuda` is the card with the most free memory, `cuda:1` the second one."""
PROBE_SECONDS = 240.0  # the first time, the kernels are compiled
CARDS_SECONDS = 20.0  # the driver is asked for names alone
_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_INSTALL = "Choose the device auto or cpu, or install warp-lang and a PyTorch that is built for CUDA."
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from {module} import {function}; print('\\n' + json.dumps({function}(sys.argv[2])))"
)


@dataclass(frozen=True)
class DeviceChoice:
    """The device in use.

    Attributes:
        device: `cpu`, or a card: `cuda:0`, `cuda:1`, ...
        kernel: Name of the kernels, as `project` and `voxelize` take it.
        sentence: What is used and why.
    """

    device: str
    kernel: str
    sentence: str


def choose_device(wanted: str, probe: str, say: Callable[[str], None]) -> DeviceChoice:
    """Choose the device and its kernels; `auto` takes a card where the probe finds it to work, and faster than the CPU.

    Args:
        wanted: One of DEVICES.
        probe: Name of the module whose function `examine` tries the kernels on a card, in a process of its own. Of `cuda` or `cuda:1` it
            returns what `problem` makes, or `device`, `name`, and the seconds of the same work, `card_seconds` and `cpu_seconds`.
        say: Told before a card is tried, which can take minutes.

    Raises:
        ValueError: Another word.
        ResourceError: A card is wanted that cannot be used; the message says why.
    """
    check_choice("wanted", wanted, DEVICES)
    if wanted == "cpu":
        return _cpu("as chosen")
    found = _missing()
    if not found:
        say("Trying out the graphics card; the first time, its kernels are compiled")
        found = _probed("cuda" if wanted == "auto" else wanted, probe)
    if wanted != "auto":
        if "problem" in found:
            raise ResourceError(f"The graphics card cannot be used: {found['problem']}.", found["remedy"])
        return DeviceChoice(found["device"], "warp", f"Runs on the graphics card {found['name']} ({found['device']}), as chosen.")
    if "problem" in found:
        return _cpu(f"since {found['problem']}")
    if found["card_seconds"] >= found["cpu_seconds"]:
        return _cpu(f"which was faster in a short test than the graphics card {found['name']}")
    why = "which was faster in a short test than the CPU"
    return DeviceChoice(found["device"], "warp", f"Runs on the graphics card {found['name']} ({found['device']}), {why}.")


def _cpu(why: str) -> DeviceChoice:
    cores = os.cpu_count() or 1
    return DeviceChoice("cpu", "numba", f"Runs on the CPU ({cores} {'core' if cores == 1 else 'cores'}), {why}.")


def problem(what: str, remedy: str) -> dict[str, str]:
    """Return what a probe reports of a card that cannot be used: half a sentence that goes on from "since", and a remedy."""
    return {"problem": what, "remedy": remedy}


def _missing() -> Mapping[str, Any]:
    """Return what is missing, of what can be told at once; nothing if it is all there."""
    try:
        ctypes.CDLL(_DRIVERS[sys.platform])
    except (KeyError, OSError):
        return problem("there is no driver for an NVIDIA card", "Choose the device auto or cpu, or install NVIDIA's driver.")
    if find_spec("warp") is None:
        return problem("the Python package warp-lang, which an NVIDIA card needs, is not installed", _INSTALL)
    return {}


def cards() -> dict[str, str]:
    """Return the names of the NVIDIA cards that there are, by the device that each is; nothing where no driver works.

    They are numbered as CUDA, PyTorch and Warp do, which `nvidia-smi` does not. Whether one can be used, `choose_device` says.
    """
    if sys.platform not in _DRIVERS:
        return {}
    try:
        done = _child(__name__, card_names.__name__, _DRIVERS[sys.platform], CARDS_SECONDS)
        names = json.loads(done.stdout.decode(errors="replace").splitlines()[-1])
    except (subprocess.TimeoutExpired, OSError, IndexError, ValueError):
        return {}
    found = {f"cuda:{number}": str(name) for number, name in enumerate(names)}
    return {device: name for device, name in found.items() if device in DEVICES}


def card_names(driver: str) -> list[str]:
    """Return the names of the cards that a driver counts; to be called in a process of its own, as a driver may hang or crash.

    Args:
        driver: File of the library with CUDA's driver API.
    """
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return []
    count, card, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    names = []
    for number in range(count.value):
        if cuda.cuDeviceGet(ctypes.byref(card), number) or cuda.cuDeviceGetName(name, len(name), card):
            name.value = b"NVIDIA"
        names.append(name.value.decode(errors="replace"))
    return names


def _child(module: str, function: str, argument: str, seconds: float) -> subprocess.CompletedProcess:
    """Call a function with a text in a process of its own, whose last line is what it returns, as JSON.

    Raises:
        subprocess.TimeoutExpired: It took longer than so many seconds, and was ended.
        OSError: It could not be started.
    """
    return subprocess.run(
        [sys.executable, "-c", _CHILD.format(module=module, function=function), json.dumps(sys.path), argument],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


@functools.cache
def _probed(wanted: str, probe: str) -> Mapping[str, Any]:
    """Return what a probe reports, or what became of it."""
    again = "Choose the device auto or cpu, or update the driver of the card."
    try:
        done = _child(probe, "examine", wanted, PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return problem(f"a test of the graphics card did not end within {PROBE_SECONDS:.0f} seconds", again)
    except OSError as error:
        return problem(f"a test of the graphics card could not be started ({error.strerror})", again)
    try:
        found = json.loads(done.stdout.decode(errors="replace").splitlines()[-1])
    except (IndexError, ValueError):
        found = None
    if done.returncode or not isinstance(found, dict):
        return problem(f"a test of the graphics card failed (exit code {done.returncode})", again)
    return found
