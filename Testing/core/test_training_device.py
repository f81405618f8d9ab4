"""Trainings on a graphics card: the same steps as on the CPU, nothing left on the wrong side, and on another device from any checkpoint."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from card_emulation import CARD, emulated_card
from splat_scenes import NEEDS_CARD
from test_shape_training import SHAPES
from test_shape_training import TINY as TINY_PRIOR
from test_standardizer_training import TINY as TINY_STANDARDIZER
from test_standardizer_training import toy_view

from IntraopReconLib.core.standardization import train as standardizer_training
from IntraopReconLib.core.standardization import training_pictures
from IntraopReconLib.core.standardization.training_pictures import write_picture
from ShapeCompletionLib.core import meta_train as prior_training
from SparseAnatomyLib import work_device
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.model_files import load_checkpoint
from SparseAnatomyLib.work_device import WorkDevice

CPU, ON_CARD = DeviceChoice("cpu", "numba", "Runs on the CPU."), DeviceChoice("cpu:0", "torch", "Runs on a card.")
VIEWS = {"one": [toy_view()], "other": [toy_view(1)]}


class PriorTraining:
    """A training of a prior, small."""

    module = prior_training
    steps = TINY_PRIOR.inr_steps + TINY_PRIOR.refine_steps

    def fresh(self, device: str):
        return prior_training.Training(SHAPES[:2], TINY_PRIOR, device=device)

    def run(self, folder, device: WorkDevice, report=lambda *_: None):
        return prior_training.train(SHAPES[:2], TINY_PRIOR, folder / "checkpoint.pt", report, device=device)


class StandardizerTraining:
    """A training of a standardizer, small."""

    module = standardizer_training
    steps = TINY_STANDARDIZER.steps

    def fresh(self, device: str):
        return standardizer_training.Training(VIEWS, TINY_STANDARDIZER, device)

    def run(self, folder, device: WorkDevice, report=lambda *_: None):
        return standardizer_training.train(VIEWS, TINY_STANDARDIZER, folder, report, device)


KINDS = pytest.mark.parametrize("kind", [PriorTraining(), StandardizerTraining()], ids=["prior", "standardizer"])


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Compute in float32, without pictures, and know of no card that failed."""
    monkeypatch.setattr(training_pictures, "write_picture", lambda *_: None)
    for module in (prior_training, standardizer_training):
        monkeypatch.setattr(module, "half_precision", lambda device="cpu": nullcontext())
    monkeypatch.setattr(work_device, "_lost", set())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(training) -> list[np.ndarray]:
    """Return what ships of a training."""
    return [value.detach().cpu().float().numpy() for value in (*training.average.parameters(), *training.average.buffers())]


def assert_close(training, other) -> None:
    assert training.step == other.step
    for ours, theirs in zip(weights(training), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)


@KINDS
def test_steps_on_a_card_are_those_of_the_cpu_and_nothing_is_left_on_the_wrong_side(kind):
    expected = kind.fresh("cpu")
    losses = [expected.take_step() for _ in range(kind.steps)]
    with emulated_card() as card:
        training = kind.fresh(CARD)
        fresh = card.uploads
        found = [training.take_step() for _ in range(kind.steps)]
        assert all(value.device.type == CARD for value in training.network.parameters())
        assert_close(training, expected)
    assert card.uploads > fresh
    for ours, theirs in zip(found, losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_the_pictures_of_a_training_come_from_a_card(tmp_path):
    with emulated_card():
        write_picture(
            tmp_path / "pairs.png", standardizer_training.Training(VIEWS, TINY_STANDARDIZER, CARD).average, VIEWS, TINY_STANDARDIZER
        )
    assert (tmp_path / "pairs.png").stat().st_size > 10_000


@KINDS
@pytest.mark.parametrize(("first", "then"), [(ON_CARD, CPU), (CPU, ON_CARD)], ids=["from a card to the CPU", "from the CPU to a card"])
def test_a_training_goes_on_on_another_device(tmp_path, kind, first, then):
    whole, seen = kind.run(tmp_path / "whole", WorkDevice(CPU)), []

    def kill(fraction: float, message: str) -> None:
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        kind.run(tmp_path / "killed", WorkDevice(first), kill)
    begun = load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["step"]
    done = kind.run(tmp_path / "killed", WorkDevice(then), lambda fraction, message: seen.append(fraction))
    assert begun + len(seen) == kind.steps and begun > 0
    assert_close(done, whole)


@KINDS
def test_a_checkpoint_does_not_tell_its_device(kind):
    """Or those that were written before there was a choice would no longer be taken."""
    ours, theirs = (kind.fresh(device).state() for device in ("cpu:0", "cpu"))
    assert ours.keys() == theirs.keys()
    settings = [key for key, value in theirs.items() if not isinstance(value, torch.Tensor) and "device" in str(value)]
    assert settings == []


@KINDS
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA error: unknown error"), "failed (RuntimeError)"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory"),
    ],
    ids=["lost", "full"],
)
def test_a_card_that_fails_leaves_the_other_steps_to_the_cpu(monkeypatch, tmp_path, kind, error, words):
    monkeypatch.setattr(kind.module, "_CHECKPOINT_S" if kind.module is prior_training else "CHECKPOINT_S", -1.0)
    whole, steps = kind.run(tmp_path / "whole", WorkDevice(CPU)), []
    take_step = kind.module.Training.take_step

    def failing(training):
        steps.append((training.device, training.step))
        if training.device != "cpu" and training.step == 3:
            raise error
        return take_step(training)

    monkeypatch.setattr(kind.module.Training, "take_step", failing)
    device = WorkDevice(ON_CARD)
    done = kind.run(tmp_path / "failed", device)
    assert steps == [("cpu:0", n) for n in range(4)] + [("cpu", n) for n in range(3, kind.steps)]
    assert_close(done, whole)
    assert len(device.failures) == 1 and words in device.sentence and "the training went on on the CPU" in device.sentence


@KINDS
def test_convolutions_run_in_half_precision_on_their_device(monkeypatch, kind):
    asked = []

    def half_precision(device: str = "cpu"):
        asked.append(device)
        return nullcontext()

    monkeypatch.setattr(kind.module, "half_precision", half_precision)
    training = kind.fresh("cpu:0")
    for _ in range(kind.steps):
        training.take_step()
    assert asked and set(asked) == {"cpu:0"}


@NEEDS_CARD
@pytest.mark.gpu
@KINDS
def test_a_training_on_a_card_is_the_same_twice_and_goes_on_on_the_cpu(monkeypatch, tmp_path, kind):
    monkeypatch.undo()  # in half precision
    choice = DeviceChoice("cuda:0", "torch", "Runs on a card.")
    first, second = (kind.run(tmp_path / name, WorkDevice(choice)) for name in ("first", "second"))
    for ours, theirs in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "third").mkdir()

    def kill(fraction: float, message: str) -> None:
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        kind.run(tmp_path / "third", WorkDevice(choice), kill)
    assert kind.run(tmp_path / "third", WorkDevice(CPU)).step == kind.steps
