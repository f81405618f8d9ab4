"""The standardizer's network on a graphics card: the same bone as on the CPU, nothing on the wrong side, and no loss where it fails."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from card_emulation import CARD, emulated_card
from splat_scenes import NEEDS_CARD
from standardize_scenes import EXPOSED, write_xray_case, xray

from IntraopReconLib import cli
from IntraopReconLib.core import pipeline, standardized_case
from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.standardization import network as applying
from IntraopReconLib.core.standardization import probe
from IntraopReconLib.core.standardization.choice import Chosen
from IntraopReconLib.core.standardization.classical import ClassicalStandardizer
from IntraopReconLib.core.standardization.network import NetworkStandardizer, StandardizerCard
from IntraopReconLib.core.standardization.unet import BoneNetwork
from IntraopReconLib.core.standardization_config import StandardizationConfig
from IntraopReconLib.core.standardize_case import standardize_case
from SparseAnatomyLib import devices, work_device
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.work_device import WorkDevice

ON_CARD = DeviceChoice("cpu:0", "torch", "Runs on a card.")  # torch's other name of the CPU: everything goes the way of a card


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Compute in float32, and know of no card that failed."""
    monkeypatch.setattr(applying, "half_precision", lambda device="cpu": nullcontext())
    monkeypatch.setattr(work_device, "_lost", set())


def standardizer(device: DeviceChoice | None = None) -> NetworkStandardizer:
    """Return a network by chance that changes the X-ray."""
    torch.manual_seed(0)
    network = BoneNetwork()
    for part in (network.overview, network.detail):
        torch.nn.init.normal_(part.last.weight, std=0.05)
    found = NetworkStandardizer(network, StandardizerCard("toy", "Nothing.", "CC0-1.0", "5" * 64, 0.0, 0, "none"))
    return found if device is None else found.on(WorkDevice(device))


def picture(shape=(150, 190)) -> tuple[np.ndarray, np.ndarray]:
    """Return attenuation and a mask with holes."""
    rng = np.random.default_rng(0)
    return 4 + rng.normal(0, 0.5, shape).cumsum(0).clip(-3, 3), rng.random(shape) > 0.01


@pytest.mark.parametrize("pixel_mm", [1.0, 0.4, 2.3])
def test_the_way_over_a_card_changes_nothing(pixel_mm):
    expected = standardizer().bone(*picture(), pixel_mm)
    assert np.abs(expected - picture()[0]).max() > 0.1
    there = standardizer(ON_CARD)
    np.testing.assert_allclose(there.bone(*picture(), pixel_mm), expected, atol=1e-5)
    assert there.device.failures == []


@pytest.mark.parametrize("pixel_mm", [1.0, 0.4])
def test_on_a_card_nothing_is_left_on_the_wrong_side(pixel_mm):
    expected = standardizer().bone(*picture(), pixel_mm)
    with emulated_card() as card:
        there = standardizer(DeviceChoice(CARD, "torch", "Runs on a card."))
        first = there.bone(*picture(), pixel_mm)
        uploads = card.uploads
        second = there.bone(*picture(), pixel_mm)
        assert there.device.failures == []
        assert card.uploads - uploads == 2, "the network goes up once, then the picture and its mask"
    np.testing.assert_allclose(first, expected, atol=1e-4)
    np.testing.assert_array_equal(second, first)


def failing(monkeypatch, error: Exception) -> list[str]:
    """Let a network on a card fail; return where it was asked for."""
    asked, bone_on = [], NetworkStandardizer.bone_on

    def fail(self, device, *arguments):
        asked.append(device)
        if device != "cpu":
            raise error
        return bone_on(self, device, *arguments)

    monkeypatch.setattr(NetworkStandardizer, "bone_on", fail)
    return asked


def test_a_card_that_fails_is_left_for_the_cpu(monkeypatch):
    expected, asked = standardizer().bone(*picture(), 1.0), failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    there = standardizer(ON_CARD)
    for _ in range(2):
        np.testing.assert_array_equal(there.bone(*picture(), 1.0), expected)
    assert asked == ["cpu:0", "cpu", "cpu"]
    assert there.device.failures == ["The graphics card ran out of memory; the X-rays were standardized on the CPU."]


@pytest.fixture
def case(tmp_path):
    return load_case(write_xray_case(tmp_path / "knee", [xray(0)[0], xray(1)[0]], **EXPOSED))


@pytest.fixture
def chosen(monkeypatch):
    """Let the network be chosen, and a card; return which devices were asked for."""
    asked = []

    def choose_device(wanted, say):
        asked.append(wanted)
        say("Trying out the graphics card")
        return ON_CARD

    monkeypatch.setattr(standardized_case, "choose", lambda config: Chosen(standardizer(), "5" * 64))
    monkeypatch.setattr(standardized_case, "choose_standardizer_device", choose_device)
    return asked


def test_a_case_is_standardized_on_the_device_that_is_asked_for(case, chosen):
    said = []
    config = StandardizationConfig(device="cuda:1")
    done = standardized_case.standardized_case(case, "on", config, lambda share, what, _=None: said.append(what)).standardization
    assert chosen == ["cuda:1"] and said[0] == "Trying out the graphics card"
    assert done.to_json()["device"] == "Runs on a card." and done.chosen.standardizer.device.device == "cpu:0"


def test_a_card_that_fails_is_told_with_the_case(monkeypatch, case, chosen):
    failing(monkeypatch, RuntimeError("CUDA error: unknown error"))
    done = standardized_case.standardized_case(case, "on")
    sentence = "The graphics card failed (RuntimeError); the X-rays were standardized on the CPU."
    assert sentence in done.warnings and done.standardization.to_json()["device"] == f"Runs on a card. {sentence}"


def test_without_a_network_no_device_is_chosen(monkeypatch, case):
    monkeypatch.setattr(standardized_case, "choose", lambda config: Chosen(ClassicalStandardizer(config.classical)))
    monkeypatch.setattr(standardized_case, "choose_standardizer_device", lambda *_: pytest.fail("nothing runs there"))
    for device in ("auto", "cuda:1"):
        done = standardized_case.standardized_case(case, "on", StandardizationConfig(device=device)).standardization
        assert done.to_json()["device"] is None
        assert any("runs on the CPU, also where a graphics card is asked for" in warning for warning in done.warnings) == (device != "auto")


def test_a_card_that_is_not_there_is_told(monkeypatch, case):
    monkeypatch.setattr(devices, "_DRIVERS", {})
    monkeypatch.setattr(standardized_case, "choose", lambda config: Chosen(standardizer(), "5" * 64))
    with pytest.raises(ResourceError, match="no driver for an NVIDIA card"):
        standardized_case.standardized_case(case, "on", StandardizationConfig(device="cuda"))
    assert "Runs on the CPU" in standardized_case.standardized_case(case, "on").standardization.to_json()["device"]


def test_the_command_says_where_the_network_ran(capsys, chosen, tmp_path):
    folder = write_xray_case(tmp_path / "knee", [xray(0)[0], xray(1)[0]], **EXPOSED)
    assert cli.main(["standardize", str(folder), "--out", str(tmp_path / "out"), "--device", "cuda:3"]) == 0
    assert chosen == ["cuda:3"] and "Runs on a card.\n" in capsys.readouterr().out


def test_a_reconstruction_hands_its_device_on(monkeypatch, tmp_path):
    seen = []

    class Enough(Exception):
        pass

    def stop(case, asked, config, report):
        seen.append((asked, config.device))
        raise Enough

    monkeypatch.setattr(pipeline, "standardized_case", stop)
    folder = write_xray_case(tmp_path / "knee", [xray(0)[0], xray(1)[0]], **EXPOSED)
    with pytest.raises(Enough):
        pipeline.reconstruct_case(folder, tmp_path / "out", ReconstructionConfig(device="cuda:2"), lambda *_: None)
    assert seen == [("auto", "cuda:2")]


@pytest.mark.parametrize(
    "command",
    [["standardize", "case", "--out", "out"], ["train-standardizer", "--cts", "cts", "--out", "out.pt"]],
    ids=lambda words: words[0],
)
def test_the_commands_refuse_a_device_that_does_not_exist(capsys, command):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--device", "tpu"])
    assert caught.value.code == 2 and "tpu" in capsys.readouterr().err


def test_a_request_for_a_device_that_does_not_exist_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="device must be one of auto, cpu, cuda"):
        standardize_case(tmp_path, tmp_path / "out", device="tpu")


def test_the_probe_compares_the_network():
    expected, seconds = probe._timed("cpu")
    found, _ = probe._timed("cpu:0")
    assert expected.max() > 1 and seconds > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


@NEEDS_CARD
@pytest.mark.gpu
def test_a_card_gives_the_bone_of_the_cpu(monkeypatch):
    expected = standardizer().bone(*picture(), 1.0)
    monkeypatch.undo()
    there = standardizer(DeviceChoice("cuda", "torch", "Runs on a card."))
    first, second = (there.bone(*picture(), 1.0) for _ in range(2))
    assert there.device.failures == []
    np.testing.assert_allclose(first, expected, atol=0.05 * expected.max())  # in half precision
    np.testing.assert_array_equal(first, second)
