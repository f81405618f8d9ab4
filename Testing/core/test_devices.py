"""The device in use, and its sentence: on every machine that there may be, by fakes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from IntraopReconLib.core import device
from IntraopReconLib.core.config import Device
from SparseAnatomyLib import devices
from SparseAnatomyLib.devices import DEVICES
from SparseAnatomyLib.errors import ResourceError

FOUND = {"device": "cuda:1", "name": "NVIDIA Test", "card_seconds": 0.1, "cpu_seconds": 0.5}


def choose(wanted, say=lambda message: None):
    return devices.choose_device(wanted, "fake_probe", say)


@pytest.fixture
def card(monkeypatch, tmp_path):
    """Pretend that there are a driver and Warp; return what writes the probe's function."""
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(devices, "find_spec", lambda name: object())
    monkeypatch.setattr(devices, "_DRIVERS", {sys.platform: "driver"})
    monkeypatch.syspath_prepend(tmp_path)
    devices._probed.cache_clear()

    def probe(body: str) -> None:
        (tmp_path / "fake_probe.py").write_text(f"def examine(wanted):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n", "utf-8")

    yield probe
    devices._probed.cache_clear()


def test_the_cpu_is_used_where_it_is_chosen_and_nothing_is_tried(card):
    card("raise AssertionError")
    choice = choose("cpu")
    assert (choice.device, choice.kernel) == ("cpu", "numba")
    assert "CPU" in choice.sentence and choice.sentence.endswith("as chosen.")


@pytest.mark.parametrize(
    ("driver", "system", "words"),
    [(OSError("no such file"), "any", "there is no driver"), (None, "any", "warp-lang"), (None, "macOS", "there is no driver")],
)
def test_what_is_missing_is_told_at_once(monkeypatch, driver, system, words):
    def load(name):
        if driver:
            raise driver

    monkeypatch.setattr(devices.ctypes, "CDLL", load)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    monkeypatch.setattr(devices, "_DRIVERS", {} if system == "macOS" else {sys.platform: "driver"})
    choice = choose("auto", say=pytest.fail)
    assert (choice.device, choice.kernel) == ("cpu", "numba")
    assert words in choice.sentence
    with pytest.raises(ResourceError, match=words) as caught:
        choose("cuda")
    assert caught.value.exit_code == 4
    assert "cpu" in caught.value.remedy


@pytest.mark.parametrize(("cpu_seconds", "expected"), [(0.5, "cuda:1"), (0.01, "cpu")])
def test_auto_takes_what_is_faster(card, cpu_seconds, expected):
    card(f"print('chatter'); return {FOUND | {'cpu_seconds': cpu_seconds}} if wanted == 'cuda' else {{}}")
    choice = choose("auto")
    assert choice.device == expected and choice.kernel == ("numba" if expected == "cpu" else "warp")
    assert "NVIDIA Test" in choice.sentence and "faster in a short test" in choice.sentence


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "cuda:1"])
def test_a_card_that_is_chosen_is_taken_even_where_it_is_slower(card, wanted):
    card(f"return {FOUND | {'card_seconds': 9.0}} | {{'name': 'asked for ' + wanted}}")
    choice = choose(wanted)
    assert (choice.device, choice.kernel) == ("cuda:1", "warp")
    assert f"asked for {wanted} " in choice.sentence and "as chosen" in choice.sentence


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {'problem': 'the memory of the card is full', 'remedy': 'Choose cpu.'}", "memory of the card is full"),
        ("raise RuntimeError('CUDA error')", "exit code 1"),
        ("import os; os._exit(139)", "exit code 139"),
        ("import time; time.sleep(60)", "did not end within 1 seconds"),
        ("import sys; sys.stdout.write('[1'); sys.stdout.flush(); import os; os._exit(0)", "failed"),
        ("return 3", "failed"),
    ],
    ids=["full", "error", "crash", "hang", "garbage", "nonsense"],
)
def test_a_card_that_fails_is_not_used_and_the_sentence_says_why(card, monkeypatch, body, words):
    card(body)
    if "sleep" in body:
        monkeypatch.setattr(devices, "PROBE_SECONDS", 1.0)
    choice = choose("auto")
    assert choice.device == "cpu" and words in choice.sentence and choice.sentence.endswith(".")
    with pytest.raises(ResourceError, match=words) as caught:
        choose("cuda")
    assert "cpu" in caught.value.remedy


def test_a_card_is_tried_once(card, monkeypatch):
    card(f"return {FOUND}")
    said = []
    first = choose("auto", said.append)
    assert len(said) == 1 and "compiled" in said[0]
    monkeypatch.setattr(devices, "_child", lambda *_, **__: pytest.fail("it was tried before"))
    assert choose("auto") == first


@pytest.fixture
def other(card, tmp_path):
    """Pretend that there is another probe; return what writes its function."""
    card(f"return {FOUND | {'other': {'name': 'fastlib', 'probe': 'fake_other_probe'}}}")

    def probe(body: str) -> None:
        (tmp_path / "fake_other_probe.py").write_text(f"def examine(device):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n", "utf-8")

    return probe


@pytest.mark.parametrize("wanted", ["auto", "cuda:1"])
@pytest.mark.parametrize("kernel", ["fastlib", "warp"])
def test_other_kernels_are_tried_after_a_card_was_found_to_work(other, wanted, kernel):
    other(f"return {{'kernel': '{kernel}', 'note': 'fastlib was tried on ' + device}}")
    said = []
    choice = choose(wanted, said.append)
    assert (choice.device, choice.kernel) == ("cuda:1", kernel)
    assert choice.sentence.endswith("; fastlib was tried on cuda:1.")
    assert len(said) == 2 and "fastlib" in said[1] and "10 minutes" in said[1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {'problem': 'it computes otherwise', 'remedy': ''}", "it computes otherwise"),
        ("raise RuntimeError('ninja: build stopped')", "a test of it failed (exit code 1)"),
        ("import os; os._exit(139)", "a test of it failed (exit code 139)"),
        ("import time; time.sleep(60)", "a test of it did not end within 2 seconds"),
    ],
    ids=["otherwise", "error", "crash", "hang"],
)
def test_other_kernels_that_fail_are_not_used_and_the_card_is(other, monkeypatch, body, words):
    other(body)
    monkeypatch.setattr(devices, "OTHER_SECONDS", 2.0)
    choice = choose("auto")
    assert (choice.device, choice.kernel) == ("cuda:1", "warp")
    assert choice.sentence.endswith(f"than the CPU; fastlib is not used, as {words}.")


def test_other_kernels_are_not_tried_on_a_card_that_is_not_used(card):
    card(f"return {FOUND | {'cpu_seconds': 0.01, 'other': {'name': 'fastlib', 'probe': 'no_such_module'}}}")
    said = []
    assert choose("auto", said.append).device == "cpu" and len(said) == 1


def test_a_word_on_other_kernels_is_passed_on(card):
    card(f"return {FOUND | {'note': 'fastlib lacks a compiler'}}")
    choice = choose("auto")
    assert choice.kernel == "warp" and choice.sentence.endswith("than the CPU; fastlib lacks a compiler.")


ENDLESS = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    open({path!r}, "w").write(str(child.pid))
    time.sleep(120)
"""
NEEDS_GROUPS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups; there, taskkill ends the tree")


def _is_over(process_id: int, seconds: float = 10.0) -> bool:
    """Wait for a process of someone else's to end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{process_id}/stat")  # one that nobody waits for has ended too
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@NEEDS_GROUPS
def test_a_compiler_that_hangs_ends_with_its_test(other, monkeypatch, tmp_path):
    other(ENDLESS.format(path=str(tmp_path / "pid")))
    monkeypatch.setattr(devices, "OTHER_SECONDS", 3.0)
    began = time.monotonic()
    assert "did not end within 3 seconds" in choose("auto").sentence
    assert time.monotonic() - began < 30
    assert _is_over(int((tmp_path / "pid").read_text()))


@NEEDS_GROUPS
def test_a_compiler_ends_with_the_program_that_wanted_it(card, tmp_path):
    card(ENDLESS.format(path=str(tmp_path / "pid")))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from SparseAnatomyLib import devices; devices._probed('cuda', 'fake_probe')"
    program = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    compiler = int((tmp_path / "pid").read_text())
    assert not _is_over(compiler, 0.2)
    program.kill()
    program.wait()
    assert _is_over(compiler)


def test_a_python_that_cannot_be_started_is_no_end(card, monkeypatch):
    card(f"return {FOUND}")
    monkeypatch.setattr(sys, "executable", "no-such-python")
    assert "could not be started" in choose("auto").sentence


class _Driver:
    """CUDA's driver API, as far as it is used, by C's own rules for arguments; strict about the order of the calls."""

    def __init__(self, names: list[bytes], init: int = 0, unnamed: int | None = None) -> None:
        self.names, self.isReady = names, False

        def initialize(flags: int) -> int:
            assert flags == 0
            self.isReady = init == 0
            return init

        def count(into) -> int:
            assert self.isReady
            into[0] = len(names)
            return 0

        def get(into, number: int) -> int:
            assert self.isReady and 0 <= number < len(names)
            into[0] = 70 + number  # a handle is no number
            return 0

        def name(into, size: int, card: int) -> int:
            assert self.isReady
            if card - 70 == unnamed:
                return 999
            ctypes.memmove(into, names[card - 70][: size - 1] + b"\0", min(size, len(names[card - 70]) + 1))
            return 0

        whole = ctypes.POINTER(ctypes.c_int)
        self.cuInit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint)(initialize)
        self.cuDeviceGetCount = ctypes.CFUNCTYPE(ctypes.c_int, whole)(count)
        self.cuDeviceGet = ctypes.CFUNCTYPE(ctypes.c_int, whole, ctypes.c_int)(get)
        self.cuDeviceGetName = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)(name)


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (_Driver([b"NVIDIA A1000", b"NVIDIA RTX 4090"]), ["NVIDIA A1000", "NVIDIA RTX 4090"]),
        (_Driver([]), []),
        (_Driver([b"NVIDIA A1000"], init=100), []),
        (_Driver([b"NVIDIA A1000", b"x", b"NVIDIA T4"], unnamed=1), ["NVIDIA A1000", "NVIDIA", "NVIDIA T4"]),
        (_Driver([b"N" * 400]), ["N" * 255]),
        (_Driver([b"NVIDIA \xff"]), ["NVIDIA \ufffd"]),
    ],
    ids=["two", "none", "no device", "one without a name", "a long name", "no UTF-8"],
)
def test_the_driver_names_its_cards(monkeypatch, driver, expected):
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: driver)
    assert devices.card_names("driver") == expected


DRIVER = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int cuInit(unsigned flags) { char *how = getenv("FAKE_DRIVER"); if (how && how[0] == 'c') abort(); if (how) sleep(60); return flags; }
int cuDeviceGetCount(int *count) { *count = 10; return 0; }
int cuDeviceGet(int *card, int number) { *card = number; return 0; }
int cuDeviceGetName(char *name, int size, int card) { strncpy(name, "NVIDIA 0", size); name[7] += card; return 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Return a driver in C, whose cards are named NVIDIA 0 to NVIDIA 9."""
    if sys.platform == "win32" or shutil.which("cc") is None:
        pytest.skip("needs a C compiler, called cc")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libdriver.so", folder / "driver.c"], check=True)
    return str(folder / "libdriver.so")


def test_cards_are_counted_as_far_as_they_can_be_chosen(library, monkeypatch):
    monkeypatch.setattr(devices, "_DRIVERS", {sys.platform: library})
    assert devices.cards() == {f"cuda:{number}": f"NVIDIA {number}" for number in range(8)}


@pytest.mark.parametrize("how", ["crash", "hang"])
def test_a_driver_that_is_broken_has_no_cards_and_does_no_harm(library, monkeypatch, how):
    monkeypatch.setattr(devices, "_DRIVERS", {sys.platform: library})
    monkeypatch.setattr(devices, "CARDS_SECONDS", 2.0)
    monkeypatch.setenv("FAKE_DRIVER", how)
    assert devices.cards() == {}


@pytest.mark.parametrize("drivers", [{}, {sys.platform: "no-such-driver.so"}], ids=["a Mac", "no driver"])
def test_without_a_driver_there_are_no_cards(monkeypatch, drivers):
    monkeypatch.setattr(devices, "_DRIVERS", drivers)
    assert devices.cards() == {}


def test_another_word_names_the_choices():
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        choose("tpu")


def test_the_setting_has_the_same_choices():
    assert Device.__args__ == DEVICES


def test_choosing_imports_neither_torch_nor_warp():
    heavy = {"torch", "warp", "numba"}
    code = f"import sys; import {device.__name__} as d; d.choose_device('cpu'); sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
