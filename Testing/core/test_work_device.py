"""Work on a card that may fail: it is done again on the CPU, and said; what PyTorch finds of a card; how strict the emulated one is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from card_emulation import CARD, CardTensor, emulated_card
from splat_scenes import NEEDS_CARD

from SparseAnatomyLib import card_probe, work_device
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.model_files import half_precision
from SparseAnatomyLib.work_device import WorkDevice, on_host, repeatable

CHOICE = DeviceChoice("cpu:0", "torch", "Runs on a card.")  # torch's other name of the CPU: everything goes the way of a card
FULL = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), id="torch"),
    pytest.param(RuntimeError("CUDA error: out of memory"), id="cuda"),
    pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), id="cudnn"),
]


@pytest.fixture(autouse=True)
def lost(monkeypatch):
    """No card has failed before; return those that have."""
    cards: set[str] = set()
    monkeypatch.setattr(work_device, "_lost", cards)
    return cards


def work_that(error: BaseException, asked: list[str]):
    """Return work that fails on a card."""

    def work(device: str) -> str:
        asked.append(device)
        if device != "cpu":
            raise error
        return f"done on {device}"

    return work


def test_work_goes_to_the_device_that_was_chosen():
    device = WorkDevice(CHOICE)
    assert device.run(lambda where: where, "it was done") == "cpu:0"
    assert (device.device, device.failures, device.sentence) == ("cpu:0", [], "Runs on a card.")
    assert WorkDevice(DeviceChoice("cpu", "numba", "Runs on the CPU.")).run(lambda where: where, "it was done") == "cpu"


def test_a_card_that_fails_leaves_the_work_to_the_cpu_from_then_on(lost):
    device, asked = WorkDevice(CHOICE), []
    work = work_that(RuntimeError("CUDA error: unspecified launch failure"), asked)
    assert [device.run(work, "it was done"), device.run(work, "it was done")] == ["done on cpu"] * 2
    assert asked == ["cpu:0", "cpu", "cpu"] and lost == {"cpu:0"}
    assert device.failures == ["The graphics card failed (RuntimeError); it was done on the CPU."]
    assert device.sentence == "Runs on a card. The graphics card failed (RuntimeError); it was done on the CPU."


def test_a_card_that_was_lost_is_not_asked_again_in_this_process(lost):
    lost.add("cpu:0")
    device = WorkDevice(CHOICE)
    assert device.device == "cpu" and "failed before" in device.sentence and len(device.failures) == 1
    assert WorkDevice(DeviceChoice("cuda:1", "torch", "Runs on another card.")).device == "cuda:1"


@pytest.mark.parametrize("error", FULL)
def test_a_card_that_is_full_may_have_room_the_next_time(error, lost):
    device, asked = WorkDevice(CHOICE), []
    assert device.run(work_that(error, asked), "it was done") == "done on cpu"
    assert device.failures == ["The graphics card ran out of memory; it was done on the CPU."] and lost == set()
    assert WorkDevice(CHOICE).device == "cpu:0"


def test_what_the_failed_work_held_is_free_before_it_is_done_again():
    held = []

    def work(device: str) -> int:
        if device != "cpu":
            there = torch.zeros(7)
            held.append(torch._C._WeakTensorRef(there))
            raise RuntimeError("CUDA error: out of memory")
        return int(held[0].expired())

    assert WorkDevice(CHOICE).run(work, "it was done") == 1


def test_what_fails_on_the_cpu_too_is_not_the_card_s_fault(lost):
    def work(device: str) -> None:
        raise RuntimeError("linalg.cholesky: the input is not positive-definite")

    with pytest.raises(RuntimeError, match="cholesky"):
        WorkDevice(CHOICE).run(work, "it was done")
    assert lost == set()


@pytest.mark.parametrize("error", [Cancelled(), InputError("No."), MemoryError(), KeyboardInterrupt()])
def test_only_failures_of_the_card_are_tried_again(error):
    device, asked = WorkDevice(CHOICE), []
    with pytest.raises(type(error)):
        device.run(work_that(error, asked), "it was done")
    assert asked == ["cpu:0"] and device.failures == []


def test_values_come_to_the_host():
    values = torch.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(on_host(values), values.numpy())
    with emulated_card() as card:
        np.testing.assert_array_equal(on_host(values.to(CARD) + 1), values.numpy() + 1)
    assert (card.uploads, card.downloads) == (1, 1)


@NEEDS_CARD
@pytest.mark.gpu
def test_values_come_from_a_card():
    values = torch.arange(6.0, device="cuda").reshape(2, 3).T
    np.testing.assert_array_equal(on_host(values), values.cpu().numpy())


def test_the_cpu_is_repeatable_as_it_is():
    with repeatable("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_card_is_made_repeatable_for_a_while(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with repeatable("cuda:1"):
        assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("capability", "enabled"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_a_card_computes_in_half_precision_where_it_has_bfloat16(monkeypatch, capability, enabled):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **settings: (arguments, settings))
    assert half_precision("cuda:1") == (("cuda", torch.bfloat16), {"enabled": enabled})


def _fake_cuda(monkeypatch, free_gb=(8.0, 20.0), version="13.0", driver=True) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: driver,
        device_count=lambda: len(free_gb),
        mem_get_info=lambda number: (int(free_gb[number] * 1e9), int(24e9)),
        get_device_name=lambda number: f"NVIDIA Test {number}",
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch.version, "cuda", version)


@pytest.mark.parametrize(
    ("machine", "wanted", "words"),
    [
        ({"version": None}, "cuda", "build for the CPU alone"),
        ({"driver": False}, "cuda", "too old for CUDA 13.0"),
        ({"free_gb": (0.3,)}, "cuda", "NVIDIA Test 0 is full (0.3 of 24.0 GB are free)"),
        ({}, "cuda:2", "there is no card cuda:2, only 2 in all"),
    ],
)
def test_a_card_that_cannot_be_used_is_told(monkeypatch, machine, wanted, words):
    _fake_cuda(monkeypatch, **machine)
    found = card_probe.find_card(wanted, 10**9)
    assert words in found["problem"] and found["remedy"]


@pytest.mark.parametrize(("wanted", "expected"), [("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_the_card_is_the_one_that_is_wanted_or_has_most_memory(monkeypatch, wanted, expected):
    _fake_cuda(monkeypatch)
    assert card_probe.find_card(wanted, 10**9) == {"device": expected, "name": f"NVIDIA Test {expected[-1]}"}


@pytest.mark.parametrize(("value", "words"), [(2.01, None), (2.2, "otherwise"), (float("nan"), "otherwise")])
def test_a_card_is_compared_with_the_cpu(value, words):
    card = {"device": "cuda:1", "name": "NVIDIA Test"}
    timed = {"cpu": (np.full(3, 2.0), 0.5), "cuda:1": (np.full(3, value), 0.1)}
    found = card_probe.compare(card, timed.__getitem__, 0.01)
    assert words in found["problem"] if words else found == {**card, "card_seconds": 0.1, "cpu_seconds": 0.5}


MISTAKES = {
    "an operation": lambda there, here: there + here,
    "a product": lambda there, here: here @ there,
    "a condition": lambda there, here: torch.where(there > 0, there, here),
    "an index": lambda there, here: there[torch.tensor([0, 1])],
    "parts of one": lambda there, here: torch.cat([there, here]),
    "an array": lambda there, here: there.numpy(),
    "an array of numpy": lambda there, here: np.asarray(there),
    "values put in": lambda there, here: there.index_put_((torch.tensor([0]),), here[:1]),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_the_emulated_card_refuses_what_a_card_would(mistake):
    with emulated_card():
        there, here = torch.ones(3).to(CARD), torch.ones(3)
        assert isinstance(there * 2, CardTensor) and float((there * torch.tensor(2.0)).sum()) == 6
        with pytest.raises((AssertionError, RuntimeError, TypeError)):
            mistake(there, here)
