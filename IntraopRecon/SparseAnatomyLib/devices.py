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
from .process_tree import kill_tree, own_group

DEVICES = ("auto", "cpu", "cuda", *(f"cuda:{number}" for number in range(8)))
"""What can be wanted: `cuda` is the card with the most free memory, `cuda:1` the second one."""
PROBE_SECONDS = 240.0  # the first time, the kernels are compiled
OTHER_SECONDS = 600.0  # the first time, a compiler works for minutes
CARDS_SECONDS = 20.0  # the driver is asked for names alone
_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_PACKAGES = {"warp": ("warp-lang", "warp-lang and a"), "torch": ("torch", "a")}  # by the name that is imported
_INSTALL = "Choose the device auto or cpu, or install {} PyTorch that is built for CUDA."
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from SparseAnatomyLib.process_tree import end_with_parent; end_with_parent(int(sys.argv[3]));"
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


def choose_device(wanted: str, probe: str, say: Callable[[str], None], kernel: str = "warp") -> DeviceChoice:
    """Choose the device and its kernels; `auto` takes a card where the probe finds it to work, and faster than the CPU.

    Args:
        wanted: One of DEVICES.
        probe: Name of the module whose function `examine` tries the kernels on a card, in a process of its own. Of `cuda` or `cuda:1` it
            returns what `problem` makes, or `device`, `name`, and the seconds of the same work, `card_seconds` and `cpu_seconds`; and where
            there are other kernels, `other`: their `name`, and their `probe`, a module whose `examine` is then tried of the device. It
            returns the `kernel` to take and a `note` why, half a sentence, or what `problem` makes. Of other kernels that are not even to
            be tried, the first may return a `note`.
        say: Told before a card is tried, which can take minutes.
        kernel: Name of the kernels of a card: those in Warp, or PyTorch's own (`torch`).

    Raises:
        ValueError: Another word.
        ResourceError: A card is wanted that cannot be used; the message says why.
    """
    check_choice("wanted", wanted, DEVICES)
    if wanted == "cpu":
        return _cpu("as chosen")
    found = _missing(kernel)
    if not found:
        say("Trying out the graphics card" + ("; the first time, its kernels are compiled" if kernel == "warp" else ""))
        found = _probed("cuda" if wanted == "auto" else wanted, probe)
    if wanted != "auto":
        if "problem" in found:
            raise ResourceError(f"The graphics card cannot be used: {found['problem']}.", found["remedy"])
        return _card(found, "as chosen", kernel, say)
    if "problem" in found:
        return _cpu(f"since {found['problem']}")
    if found["card_seconds"] >= found["cpu_seconds"]:
        return _cpu(f"which was faster in a short test than the graphics card {found['name']}")
    return _card(found, "which was faster in a short test than the CPU", kernel, say)


def _cpu(why: str) -> DeviceChoice:
    cores = os.cpu_count() or 1
    return DeviceChoice("cpu", "numba", f"Runs on the CPU ({cores} {'core' if cores == 1 else 'cores'}), {why}.")


def _card(found: Mapping[str, Any], why: str, kernel: str, say: Callable[[str], None]) -> DeviceChoice:
    """Return the choice of a card that works with a kernel, after other kernels were tried where there are any."""
    other, note = found.get("other"), found.get("note")
    if other:
        say(f"Trying out {other['name']} on the graphics card; the first time, it is compiled, in {OTHER_SECONDS / 60:.0f} minutes at most")
        tried = _probed(found["device"], other["probe"], "it", OTHER_SECONDS)
        if "problem" in tried:
            note = f"{other['name']} is not used, as {tried['problem']}"
        else:
            kernel, note = tried["kernel"], tried["note"]
    end = f"; {note}" if note else ""
    return DeviceChoice(found["device"], kernel, f"Runs on the graphics card {found['name']} ({found['device']}), {why}{end}.")


def problem(what: str, remedy: str) -> dict[str, str]:
    """Return what a probe reports of a card that cannot be used: half a sentence that goes on from "since", and a remedy."""
    return {"problem": what, "remedy": remedy}


def _missing(kernel: str) -> Mapping[str, Any]:
    """Return what is missing, of what can be told at once; nothing if it is all there."""
    try:
        ctypes.CDLL(_DRIVERS[sys.platform])
    except (KeyError, OSError):
        return problem("there is no driver for an NVIDIA card", "Choose the device auto or cpu, or install NVIDIA's driver.")
    if find_spec(kernel) is None:
        package, packages = _PACKAGES[kernel]
        return problem(f"the Python package {package}, which an NVIDIA card needs, is not installed", _INSTALL.format(packages))
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
    code = _CHILD.format(module=module, function=function)
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(sys.path), argument, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **own_group(),
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            kill_tree(process.pid)  # a compiler too, which would hold the pipes open
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@functools.cache
def _probed(wanted: str, probe: str, what: str = "the graphics card", seconds: float | None = None) -> Mapping[str, Any]:
    """Return what a probe reports, or what became of a test of `what` in so many seconds."""
    seconds = seconds or PROBE_SECONDS
    again = "Choose the device auto or cpu, or update the driver of the card."
    try:
        done = _child(probe, "examine", wanted, seconds)
    except subprocess.TimeoutExpired:
        return problem(f"a test of {what} did not end within {seconds:.0f} seconds", again)
    except OSError as error:
        return problem(f"a test of {what} could not be started ({error.strerror})", again)
    try:
        found = json.loads(done.stdout.decode(errors="replace").splitlines()[-1])
    except (IndexError, ValueError):
        found = None
    if done.returncode or not isinstance(found, dict):
        return problem(f"a test of {what} failed (exit code {done.returncode})", again)
    return found
