"""Gaussians on a graphics card: what the probe finds, and that a card which fails costs a run nothing but time."""

from __future__ import annotations

import json
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import phantom_scene
import pytest
import torch
from splat_scenes import NEEDS_CARD, NEEDS_WARP

from IntraopReconLib.core import reconstruct as reconstructing
from IntraopReconLib.core.config import EFFORTS, Effort, FitSettings
from IntraopReconLib.core.splatting import fit as fitting
from IntraopReconLib.core.splatting import fit_device, probe
from IntraopReconLib.core.splatting.fit import FitState, fit
from IntraopReconLib.core.splatting.fit_device import FitDevice
from IntraopReconLib.core.splatting.initialise import from_volume
from IntraopReconLib.core.splatting.projector import project
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import Cancelled

SETTINGS = FitSettings(8)
FROM_ARRAYS = FitState.from_arrays
CARD = DeviceChoice("cpu:0", "warp", "Runs on a card.")  # torch's other name of the CPU: everything goes the way of a card


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _start(ready) -> FitState:
    gaussians = from_volume(phantom_scene.truth(ready.lps_grid(6.0)), ready.grid(6.0), 200, np.random.default_rng(0))
    return FitState.of(gaussians, SETTINGS)


def _run(device: FitDevice, ready, state: FitState, until=SETTINGS.steps, after_step=lambda now: None) -> FitState:
    device.fit(ready, ready.training, state, SETTINGS, 0, until, after_step)
    return state


def _assert_same(state: FitState, other: FitState) -> None:
    ours, theirs = state.arrays(), other.arrays()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def _assert_close(state: FitState, other: FitState) -> None:
    """Hold two fits to each other up to rounding."""
    assert state.step == other.step
    for name, value in state.gaussians.named().items():
        torch.testing.assert_close(value, other.gaussians.named()[name], rtol=0, atol=2e-4, msg=lambda words, name=name: f"{name}: {words}")


def test_the_way_over_a_card_changes_nothing(ready):
    expected, state, device = _start(ready), _start(ready), FitDevice(CARD)
    fit(ready, ready.training, expected, SETTINGS, 0, SETTINGS.steps, lambda now: None)
    for until in (3, SETTINGS.steps):
        _run(device, ready, state, until)
        assert state.gaussians.means_mm.device == torch.device("cpu")
    _assert_same(state, expected)
    assert (device.device, device.failures) == ("cpu:0", [])


@pytest.mark.parametrize("keep_seconds", [0.0, 1e9], ids=["kept", "from the start"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Failed to allocate 1024 bytes on device 'cpu'"),
    ],
    ids=["lost", "no memory beside the card", "the same in Warp"],
)
def test_a_card_that_fails_leaves_the_rest_to_the_cpu(ready, monkeypatch, error, keep_seconds):
    monkeypatch.setattr(fit_device, "KEEP_SECONDS", keep_seconds)
    expected, state, device = _start(ready), _start(ready), FitDevice(CARD)
    _run(FitDevice(DeviceChoice("cpu", "numba", "")), ready, expected)
    fitted, seen = [], []

    def failing(acquisition, indices, state, settings, seed, until, after_step, views_at_once=None):
        assert views_at_once is None
        fitted.append(state.step)
        fit(acquisition, indices, state, settings, seed, 4 if len(fitted) == 1 else until, after_step)
        if len(fitted) == 1:
            state.gaussians.means_mm.data.fill_(float("nan"))  # as the memory of a card that is lost
            raise error

    monkeypatch.setattr(fit_device, "fit", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("a card that is lost is not touched"))
    _run(device, ready, state, after_step=lambda now: seen.append(now.step))
    _assert_same(state, expected)
    assert fitted == ([0, 4] if keep_seconds == 0 else [0, 0])
    assert seen[-1] == SETTINGS.steps
    assert device.device == "cpu" and len(device.failures) == 1
    assert "failed (RuntimeError) at step 4" in device.failures[0]
    assert device.failures[0] in device.sentence and device.sentence.startswith("Runs on a card.")


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), id="torch"),
    pytest.param(RuntimeError("CUDA error: out of memory"), id="cuda"),
    pytest.param(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), id="cufft"),
    pytest.param(RuntimeError("Failed to allocate 1024 bytes on device 'cuda:0'"), id="warp"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_card_out_of_memory_is_told_by_every_library_s_words(ready, monkeypatch, error):
    device, asked = FitDevice(CARD), []

    def failing(*arguments):
        asked.append(arguments[-1])
        if len(asked) == 1:
            raise error

    monkeypatch.setattr(fit_device, "fit", failing)
    state = _start(ready)
    fit(ready, ready.training, state, SETTINGS, 0, 1, lambda now: None)
    _run(device, ready, state)
    assert asked == [None, 2]
    assert (device.device, device.views_at_once) == (CARD.device, 2)
    assert "ran out of memory at step 1;" in device.failures[0]


class _FullCard:
    """A card with room for so many images of full size, which fills up before it fails, and frees what nothing holds any more.

    What a projection needs is held as long as anything of its graph, or a frame of the code that ran it, is.
    """

    def __init__(self, monkeypatch, ready, room: float) -> None:
        self.room, self.pixels = room, ready.attenuation[0].size
        self.there, self.held = [], weakref.WeakSet()
        self.most, self.emptied = 0.0, 0
        monkeypatch.setattr(FitState, "from_arrays", self.from_arrays)
        monkeypatch.setattr(fitting, "project", self.project)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.empty)

    def from_arrays(self, arrays, settings, device="cpu"):
        state = FROM_ARRAYS(arrays, settings, device)
        if device == CARD.device:
            assert not self.is_used, "the Gaussians of the step that failed are still on the card"
            self.there = [weakref.ref(state.gaussians.means_mm)]
        return state

    def project(self, gaussians, cameras):
        if not any(means() is gaussians.means_mm for means in self.there):
            return project(gaussians, cameras)
        share = cameras.size_px[0] * cameras.size_px[1] / self.pixels
        blocks = []
        for _ in range(len(cameras)):
            if sum(block.size for block in self.held) + share > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            blocks.append(_Block(share))
            self.held.add(blocks[-1])
        self.most = max(self.most, sum(block.size for block in self.held))
        return _Hold.apply(project(gaussians, cameras), blocks)

    @property
    def is_used(self) -> bool:
        return len(self.held) > 0 or any(means() is not None for means in self.there)

    def empty(self) -> None:
        assert not self.is_used, "nothing is free as yet"
        self.emptied += 1


class _Block:
    def __init__(self, size: float) -> None:
        self.size = size


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images, blocks):
        ctx.blocks = blocks
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.mark.parametrize("keep_seconds", [0.0, 1e9], ids=["kept", "from the start"])
@pytest.mark.parametrize(
    ("room", "at_once", "words"),
    [
        (4.0, None, None),
        (3.9, 2, "ran out of memory at step 4; from there it held 2 views at a time instead of 4"),
        (1.0, 1, "ran out of memory at step 4; from there it held one view at a time instead of 4"),
        (0.5, 2, "ran out of memory, even with one view at a time, at step 4; the Gaussians were fitted on the CPU"),
        (0.1, 1, "ran out of memory, even with one view at a time, at step 0; the Gaussians were fitted on the CPU"),
    ],
)
def test_a_card_that_is_full_goes_on_with_fewer_views_at_a_time(ready, monkeypatch, keep_seconds, room, at_once, words):
    """Coarse images take a quarter of the room, so that it does not do from step 4 on, where the fine ones begin."""
    assert SETTINGS.coarse_steps == 4
    expected, state, device, seen = _start(ready), _start(ready), FitDevice(CARD), []
    fit(ready, ready.training, expected, SETTINGS, 0, SETTINGS.steps, lambda now: None)
    monkeypatch.setattr(fit_device, "KEEP_SECONDS", keep_seconds)
    card = _FullCard(monkeypatch, ready, room)
    for until in (6, SETTINGS.steps):
        _run(device, ready, state, until, lambda now: seen.append(now.step))
    _assert_close(state, expected)
    if words is None:
        assert (device.failures, device.views_at_once, device.device, card.emptied) == ([], None, CARD.device, 0)
        return
    (sentence,) = device.failures
    assert words in sentence and device.sentence.endswith(sentence)
    assert device.device == ("cpu" if "CPU" in words else CARD.device)
    assert card.emptied > 0 and card.most <= room
    if device.device != "cpu":
        assert device.views_at_once == at_once
    if keep_seconds == 0:
        assert seen == list(range(1, SETTINGS.steps + 1)), "no step is lost or done twice"


def test_a_card_that_is_full_and_then_lost_tells_both(ready, monkeypatch):
    device, errors = FitDevice(CARD), [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: unknown error")]

    def failing(*arguments):
        if errors:
            raise errors.pop(0)
        fit(*arguments)

    monkeypatch.setattr(fit_device, "fit", failing)
    expected, state = _start(ready), _start(ready)
    fit(ready, ready.training, expected, SETTINGS, 0, SETTINGS.steps, lambda now: None)
    _run(device, ready, state)
    _assert_same(state, expected)
    assert ["out of memory" in device.failures[0], "failed (RuntimeError)" in device.failures[1]] == [True, True]
    assert device.device == "cpu" and len(device.failures) == 2


def test_a_cancel_is_no_failure_of_the_card(ready):
    def cancel(now):
        raise Cancelled

    device = FitDevice(CARD)
    with pytest.raises(Cancelled):
        _run(device, ready, _start(ready), after_step=cancel)
    assert device.failures == []


def test_kernels_of_a_card_are_prepared_with_a_word(monkeypatch):
    done, said = [], []
    monkeypatch.setattr(fit_device, "prepare", done.append)
    FitDevice(DeviceChoice("cpu", "numba", "")).prepare(said.append)
    assert done == said == []
    FitDevice(CARD).prepare(said.append)
    assert done == ["cpu:0"] and "compiled" in said[0]


def test_kernels_that_do_not_compile_leave_the_cpu(monkeypatch):
    def fail(device):
        raise Exception("CUDA kernel build failed with error code 6")  # as Warp does

    monkeypatch.setattr(fit_device, "prepare", fail)
    device = FitDevice(CARD)
    device.prepare(lambda message: None)
    assert device.device == "cpu" and len(device.failures) == 1


def test_a_run_survives_its_card_and_says_so(monkeypatch):
    """The whole reconstruction, the card lost in its second fit: the same volume as on the CPU, and a warning."""
    monkeypatch.setitem(EFFORTS, "preview", Effort((2, 3), voxel_cycles=3, gaussians=400, splat_steps=10, fits=1, polish_cycles=2))
    views, config = phantom_scene.measured(phantom_scene.poses(13)), phantom_scene.config(method="splat", spacing_mm=4.0, device="cpu")
    expected = reconstructing.reconstruct(views, config)
    assert expected.device.endswith("as chosen.")
    count = []

    def failing(*arguments):
        count.append(1)
        fit(*arguments)
        if len(count) == 2:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(reconstructing, "choose_device", lambda wanted, say: CARD)
    monkeypatch.setattr(fit_device, "fit", failing)
    result = reconstructing.reconstruct(views, config)
    np.testing.assert_array_equal(result.attenuation_per_mm, expected.attenuation_per_mm)
    assert [warning for warning in result.warnings if warning not in expected.warnings] == [result.device.removeprefix("Runs on a card. ")]


def _fake_cuda(monkeypatch, free_gb=(8.0, 20.0), version="13.0", driver=True, warp=True) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: driver,
        device_count=lambda: len(free_gb),
        mem_get_info=lambda number: (int(free_gb[number] * 1e9), int(24e9)),
        get_device_name=lambda number: f"NVIDIA Test {number}",
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch.version, "cuda", version)
    fake = SimpleNamespace(config=SimpleNamespace(), LOG_ERROR=40, init=lambda: None, is_cuda_available=lambda: warp)
    monkeypatch.setitem(sys.modules, "warp", fake)


@pytest.mark.parametrize(
    ("machine", "wanted", "words"),
    [
        ({"version": None}, "cuda", "build for the CPU alone"),
        ({"driver": False}, "cuda", "too old for CUDA 13.0"),
        ({"warp": False}, "cuda", "too old for the Python package warp-lang"),
        ({"free_gb": (0.3,)}, "cuda", "NVIDIA Test 0 is full (0.3 of 24.0 GB are free)"),
        ({}, "cuda:2", "there is no card cuda:2, only 2 in all"),
    ],
)
def test_the_probe_says_what_is_wrong(monkeypatch, machine, wanted, words):
    _fake_cuda(monkeypatch, **machine)
    found = probe.examine(wanted)
    assert words in found["problem"] and found["remedy"]


@pytest.mark.parametrize(("wanted", "expected"), [("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_the_probe_takes_the_card_that_is_wanted_or_has_most_memory(monkeypatch, wanted, expected):
    _fake_cuda(monkeypatch)
    timed = {"cpu": ([torch.ones(2)], 0.5), expected: ([torch.ones(2)], 0.1)}
    monkeypatch.setattr(probe, "_timed", timed.__getitem__)
    found = probe.examine(wanted)
    assert json.loads(json.dumps(found)) == {
        "device": expected,
        "name": f"NVIDIA Test {expected[-1]}",
        "card_seconds": 0.1,
        "cpu_seconds": 0.5,
    }


def test_the_probe_refuses_a_card_that_computes_otherwise(monkeypatch):
    _fake_cuda(monkeypatch)
    monkeypatch.setattr(probe, "_timed", lambda device: ([torch.full((2,), 1.0 if device == "cpu" else 1.01)], 0.1))
    assert "otherwise" in probe.examine("cuda")["problem"]


def test_the_probe_s_scene_is_seen():
    (images, gradient), seconds = probe._timed("cpu")
    assert images.max() > 0.1 and (gradient > 0).float().mean() > 0.9
    assert seconds > 0


@NEEDS_WARP
@NEEDS_CARD
@pytest.mark.gpu
def test_the_probe_finds_the_card():
    found = probe.examine("cuda")
    assert found["device"].startswith("cuda:") and found["card_seconds"] > 0


@NEEDS_WARP
@NEEDS_CARD
@pytest.mark.gpu
def test_a_fit_on_a_card_is_that_of_the_cpu(ready):
    expected, state = _start(ready), _start(ready)
    _run(FitDevice(DeviceChoice("cpu", "numba", "")), ready, expected, until=2)
    _run(FitDevice(DeviceChoice("cuda:0", "warp", "")), ready, state, until=2)
    for name, value in state.gaussians.named().items():
        torch.testing.assert_close(value, expected.gaussians.named()[name], rtol=1e-2, atol=1e-2)
