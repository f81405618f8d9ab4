"""A run on a graphics card: a card which fails costs it nothing but time."""

from __future__ import annotations

import weakref
from contextlib import nullcontext

import numpy as np
import phantom_scene
import pytest
import torch
from card_emulation import CARD as EMULATED
from card_emulation import warp_on_emulated_card
from splat_scenes import NEEDS_CARD, NEEDS_WARP

from IntraopReconLib.core import reconstruct as reconstructing
from IntraopReconLib.core import run_device
from IntraopReconLib.core.config import EFFORTS, Effort, FitSettings
from IntraopReconLib.core.run_device import RunDevice
from IntraopReconLib.core.splatting import fit as fitting
from IntraopReconLib.core.splatting.fit import FitState, OnCard, fit
from IntraopReconLib.core.splatting.initialise import from_volume
from IntraopReconLib.core.splatting.projector import project
from IntraopReconLib.core.voxels.kernels import CardVoxels
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import Cancelled

SETTINGS = FitSettings(8)
FROM_ARRAYS = FitState.from_arrays
CARD = DeviceChoice("cpu:0", "numba", "Runs on a card.")  # torch's other name of the CPU: everything goes the way of a card


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _start(ready) -> FitState:
    gaussians = from_volume(phantom_scene.truth(ready.lps_grid(6.0)), ready.grid(6.0), 200, np.random.default_rng(0))
    return FitState.of(gaussians, SETTINGS)


def _run(device: RunDevice, ready, state: FitState, until=SETTINGS.steps, after_step=lambda now: None) -> FitState:
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
    expected, state, device = _start(ready), _start(ready), RunDevice(CARD)
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
    monkeypatch.setattr(run_device, "KEEP_SECONDS", keep_seconds)
    expected, state, device = _start(ready), _start(ready), RunDevice(CARD)
    _run(RunDevice(DeviceChoice("cpu", "numba", "")), ready, expected)
    fitted, seen = [], []

    def failing(acquisition, indices, state, settings, seed, until, after_step, card=None):
        assert card is None or card == OnCard("numba")
        fitted.append(state.step)
        fit(acquisition, indices, state, settings, seed, 4 if len(fitted) == 1 else until, after_step)
        if len(fitted) == 1:
            state.gaussians.means_mm.data.fill_(float("nan"))  # as the memory of a card that is lost
            raise error

    monkeypatch.setattr(run_device, "fit", failing)
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
    device, asked = RunDevice(CARD), []

    def failing(*arguments):
        asked.append(arguments[-1].views_at_once)
        if len(asked) == 1:
            raise error

    monkeypatch.setattr(run_device, "fit", failing)
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

    def project(self, gaussians, cameras, kernel=None):
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
        (0.5, 2, "ran out of memory, even with one view at a time, at step 4; the CPU computed from there"),
        (0.1, 1, "ran out of memory, even with one view at a time, at step 0; the CPU computed from there"),
    ],
)
def test_a_card_that_is_full_goes_on_with_fewer_views_at_a_time(ready, monkeypatch, keep_seconds, room, at_once, words):
    """Coarse images take a quarter of the room, so that it does not do from step 4 on, where the fine ones begin."""
    assert SETTINGS.coarse_steps == 4
    expected, state, device, seen = _start(ready), _start(ready), RunDevice(CARD), []
    fit(ready, ready.training, expected, SETTINGS, 0, SETTINGS.steps, lambda now: None)
    monkeypatch.setattr(run_device, "KEEP_SECONDS", keep_seconds)
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
    device, errors = RunDevice(CARD), [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: unknown error")]

    def failing(*arguments):
        if errors:
            raise errors.pop(0)
        fit(*arguments)

    monkeypatch.setattr(run_device, "fit", failing)
    expected, state = _start(ready), _start(ready)
    fit(ready, ready.training, expected, SETTINGS, 0, SETTINGS.steps, lambda now: None)
    _run(device, ready, state)
    _assert_same(state, expected)
    assert ["out of memory" in device.failures[0], "failed (RuntimeError)" in device.failures[1]] == [True, True]
    assert device.device == "cpu" and len(device.failures) == 2


def test_a_cancel_is_no_failure_of_the_card(ready):
    def cancel(now):
        raise Cancelled

    device = RunDevice(CARD)
    with pytest.raises(Cancelled):
        _run(device, ready, _start(ready), after_step=cancel)
    assert device.failures == []


def test_kernels_of_a_card_are_prepared_with_a_word(monkeypatch):
    done, said = [], []
    monkeypatch.setattr(run_device, "prepare", lambda device, kernel: done.append((device, kernel)))
    RunDevice(DeviceChoice("cpu", "numba", "")).prepare(said.append)
    assert done == said == []
    RunDevice(CARD).prepare(said.append)
    assert done == [("cpu:0", "numba")] and "compiled" in said[0]


def test_gsplat_that_fails_leaves_its_work_to_warp(monkeypatch):
    done = []

    def fail(device, kernel):
        done.append(kernel)
        if kernel == "gsplat":
            raise RuntimeError("gsplat cannot be loaded")

    monkeypatch.setattr(run_device, "prepare", fail)
    device = RunDevice(DeviceChoice("cpu:0", "gsplat", "Runs on a card."))
    device.prepare(lambda message: None)
    assert done == ["gsplat", "warp"] and device.device == "cpu:0"
    assert len(device.failures) == 1 and "Warp's kernels" in device.sentence


def test_kernels_that_do_not_compile_leave_the_cpu(monkeypatch):
    def fail(device, kernel):
        raise Exception("CUDA kernel build failed with error code 6")  # as Warp does

    monkeypatch.setattr(run_device, "prepare", fail)
    device = RunDevice(CARD)
    device.prepare(lambda message: None)
    assert device.device == "cpu" and len(device.failures) == 1


WARP_CARD = DeviceChoice("cpu:0", "warp", "Runs on a card.")


def _whole_run(monkeypatch, method="auto"):
    """Return the views and settings of a short reconstruction, and its result on the CPU."""
    monkeypatch.setitem(EFFORTS, "preview", Effort((2, 3), voxel_cycles=3, gaussians=400, splat_steps=10, fits=1, polish_cycles=2))
    views, config = (
        phantom_scene.measured(phantom_scene.poses(13)),
        phantom_scene.config(method=method, spacing_mm=4.0, device="cpu", ixgs_iterations=5),
    )
    expected = reconstructing.reconstruct(views, config)
    assert expected.device.endswith("as chosen.")
    return views, config, expected


def _assert_alike(result, expected) -> None:
    volume, other = result.attenuation_per_mm, expected.attenuation_per_mm
    np.testing.assert_allclose(volume, other, rtol=0, atol=0.02 * other.max())
    assert np.sqrt(np.mean((volume - other) ** 2)) < 1e-3 * other.max()
    assert result.method == expected.method and len(result.fits) == len(expected.fits)
    for fit_there, fit_here in zip(result.fits, expected.fits, strict=True):
        assert abs(fit_there.psnr_db - fit_here.psnr_db) < 0.1


@NEEDS_WARP
@pytest.mark.parametrize("device", ["cpu:0", EMULATED, pytest.param("cuda:0", marks=[NEEDS_CARD, pytest.mark.gpu])])
@pytest.mark.parametrize("method", ["splat", "voxel", "ixgs"])
def test_the_whole_run_on_a_card_is_that_of_the_cpu(monkeypatch, method, device):
    """Coarse voxels, Gaussians, polish and reprojection by Warp: the volume of the CPU up to rounding."""
    views, config, expected = _whole_run(monkeypatch, method)
    card = DeviceChoice(device, "warp", "Runs on a card.")
    monkeypatch.setattr(reconstructing, "choose_device", lambda wanted, say: card)
    on_card = []
    monkeypatch.setattr(run_device, "CardVoxels", lambda device: on_card.append(device) or CardVoxels(device))
    with warp_on_emulated_card(monkeypatch) if device == EMULATED else nullcontext():
        result = reconstructing.reconstruct(views, config)
    _assert_alike(result, expected)
    assert result.warnings == expected.warnings and result.device == card.sentence
    assert len(on_card) >= 4 and set(on_card) == {device}


@NEEDS_WARP
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA error: unspecified launch failure"), "failed (RuntimeError)"),
        (torch.OutOfMemoryError("full"), "ran out of memory"),
    ],
)
@pytest.mark.parametrize("call", [1, 3, 40, 75])
def test_a_run_survives_its_card_at_any_voxels_and_says_so(monkeypatch, error, words, call):
    """A card is lost at its first, third, ... backprojection."""
    views, config, expected = _whole_run(monkeypatch, "voxel")
    monkeypatch.setattr(reconstructing, "choose_device", lambda wanted, say: WARP_CARD)
    calls = []

    class Failing(CardVoxels):
        def add_backprojection(self, volume, image, view):
            calls.append(view)
            if len(calls) >= call:
                volume.fill_(float("nan"))  # as the memory of a card that is lost
                raise error
            super().add_backprojection(volume, image, view)

    monkeypatch.setattr(run_device, "CardVoxels", Failing)
    result = reconstructing.reconstruct(views, config)
    _assert_alike(result, expected)
    assert len(calls) == call, "a card that is lost is never used again"
    (sentence,) = [warning for warning in result.warnings if warning not in expected.warnings]
    assert words in sentence and "at cycle" in sentence and sentence in result.device


def test_a_run_survives_its_card_and_says_so(monkeypatch):
    """The whole reconstruction, the card lost in its second fit: the volume of the CPU, and a warning."""
    views, config, expected = _whole_run(monkeypatch, "splat")
    count = []

    def failing(*arguments):
        count.append(1)
        fit(*arguments)
        if len(count) == 2:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(reconstructing, "choose_device", lambda wanted, say: CARD)
    monkeypatch.setattr(run_device, "fit", failing)
    result = reconstructing.reconstruct(views, config)
    _assert_alike(result, expected)
    assert [warning for warning in result.warnings if warning not in expected.warnings] == [result.device.removeprefix("Runs on a card. ")]


@NEEDS_WARP
@NEEDS_CARD
@pytest.mark.gpu
def test_a_fit_on_a_card_is_that_of_the_cpu(ready):
    expected, state = _start(ready), _start(ready)
    _run(RunDevice(DeviceChoice("cpu", "numba", "")), ready, expected, until=2)
    _run(RunDevice(DeviceChoice("cuda:0", "warp", "")), ready, state, until=2)
    for name, value in state.gaussians.named().items():
        torch.testing.assert_close(value, expected.gaussians.named()[name], rtol=1e-2, atol=1e-2)
