"""What the probe of a graphics card finds, where there is none, a wrong one, a full one, or a good one."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from splat_scenes import NEEDS_CARD, NEEDS_WARP

from IntraopReconLib.core.splatting import gsplat_state, probe


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
    monkeypatch.setattr(gsplat_state, "find_spec", lambda name: None)


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
    monkeypatch.setattr(probe, "timed", timed.__getitem__)
    found = probe.examine(wanted)
    assert json.loads(json.dumps(found)) == {
        "device": expected,
        "name": f"NVIDIA Test {expected[-1]}",
        "card_seconds": 0.1,
        "cpu_seconds": 0.5,
    }


def test_the_probe_refuses_a_card_that_computes_otherwise(monkeypatch):
    _fake_cuda(monkeypatch)
    monkeypatch.setattr(probe, "timed", lambda device: ([torch.full((2,), 1.0 if device == "cpu" else 1.01)], 0.1))
    assert "otherwise" in probe.examine("cuda")["problem"]


def test_the_probe_s_scene_is_seen():
    (images, gradient), seconds = probe.timed("cpu")
    assert images.max() > 0.1 and (gradient > 0).float().mean() > 0.9
    assert seconds > 0


@NEEDS_WARP
@NEEDS_CARD
@pytest.mark.gpu
def test_the_probe_finds_the_card():
    found = probe.examine("cuda")
    assert found["device"].startswith("cuda:") and found["card_seconds"] > 0
