"""The probes of what needs PyTorch alone: a card that computes as the CPU is told with both their seconds, any other with what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from splat_scenes import NEEDS_CARD

from IntraopReconLib.core.standardization import probe as standardizer_probe
from ShapeCompletionLib.core import probe as completion_probe
from SparseAnatomyLib import devices

ON_PROBES = pytest.mark.parametrize("probe", [standardizer_probe, completion_probe], ids=["standardizer", "completion"])


@ON_PROBES
def test_a_probe_takes_a_card_that_computes_as_the_cpu(monkeypatch, probe):
    card = {"device": "cuda:0", "name": "NVIDIA Test"}
    monkeypatch.setattr(probe, "find_card", lambda wanted, least: card)
    monkeypatch.setattr(probe, "_timed", lambda device: (np.ones(3), 0.1))
    assert probe.examine("cuda") == {**card, "card_seconds": 0.1, "cpu_seconds": 0.1}
    monkeypatch.setattr(probe, "find_card", lambda wanted, least: devices.problem("it is full", "Choose cpu."))
    assert probe.examine("cuda") == devices.problem("it is full", "Choose cpu.")


@NEEDS_CARD
@pytest.mark.gpu
@ON_PROBES
def test_a_probe_finds_the_card(probe):
    assert probe.examine("cuda")["card_seconds"] > 0
