"""Whether gsplat is tried, what comes of it, and that it is not tried over and over; a stand-in takes the place of gsplat and of a card."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import gsplat_stand_in
import pytest
import torch
from splat_scenes import NEEDS_CARD, NEEDS_GSPLAT, NEEDS_WARP

from IntraopReconLib.core.splatting import gsplat_state, probe, probe_gsplat


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """Pretend that gsplat and a CUDA toolkit are installed, and that nothing was tried yet; return the folder of the package."""
    package = tmp_path / "gsplat"
    package.mkdir()
    monkeypatch.setattr(gsplat_state, "find_spec", lambda name: SimpleNamespace(origin=str(package / "__init__.py")))
    monkeypatch.setattr(gsplat_state, "_has_toolkit", lambda: True)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("MAX_JOBS", "1")
    return package


@pytest.fixture
def small(monkeypatch):
    """Make the probe's scene small, and put the stand-in in the place of gsplat, loaded anew; return its functions."""
    from IntraopReconLib.core.splatting import _projector_gsplat

    for name, value in (("GAUSSIANS", 200), ("SIZE_PX", 32)):
        monkeypatch.setattr(probe, name, value)
    monkeypatch.setattr(probe_gsplat, "REPEATS", 1)
    _projector_gsplat.load.cache_clear()
    with gsplat_stand_in.in_place() as package:
        yield package


TRY = {"other": {"name": "gsplat", "probe": "IntraopReconLib.core.splatting.probe_gsplat"}}


def test_nothing_is_said_of_gsplat_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(gsplat_state, "find_spec", lambda name: None)
    assert gsplat_state.offer() == {}


def test_it_is_tried_where_it_can_be_compiled_or_is(monkeypatch, installed):
    assert gsplat_state.offer() == TRY
    monkeypatch.setattr(gsplat_state, "_has_toolkit", lambda: False)
    assert list(gsplat_state.offer()) == ["note"] and "no CUDA toolkit" in gsplat_state.offer()["note"]
    (installed / "csrc.cpython-311-x86_64-linux-gnu.so").touch()
    assert gsplat_state.offer() == TRY


def test_the_state_s_probe_is_the_one_that_there_is():
    assert TRY["other"]["probe"] == gsplat_state.PROBE == probe_gsplat.__name__


def test_what_did_not_come_to_its_end_is_not_tried_again_for_a_week(monkeypatch):
    gsplat_state.begin()
    assert list(gsplat_state.offer()) == ["note"] and "failed when it was tried" in gsplat_state.offer()["note"]
    now = time.time()
    monkeypatch.setattr(gsplat_state, "time", SimpleNamespace(time=lambda: now + 8 * 86400))
    assert gsplat_state.offer() == TRY


def test_what_worked_is_tried_again_even_if_it_is_cut_off():
    gsplat_state.begin()
    gsplat_state.end()
    gsplat_state.begin()
    assert gsplat_state.offer() == TRY


def test_another_pytorch_is_another_try(monkeypatch):
    gsplat_state.begin()
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert gsplat_state.offer() == TRY


@NEEDS_WARP
def test_it_is_compared_with_warp_and_timed_beside_it(small):
    found = probe_gsplat.examine("cpu")
    assert found["kernel"] in ("gsplat", "warp") and "gsplat" in found["note"]
    assert gsplat_state.offer() == TRY


@NEEDS_WARP
@pytest.mark.parametrize(
    ("seconds", "kernel", "words"), [(0.5, "gsplat", "2.0 times as fast"), (1.0, "warp", "not faster"), (3.0, "warp", "not faster")]
)
def test_the_faster_one_is_taken(small, monkeypatch, seconds, kernel, words):
    timed = probe.timed
    monkeypatch.setattr(probe, "timed", lambda device, name, repeats: (timed(device, name, 1)[0], seconds if name == "gsplat" else 1.0))
    found = probe_gsplat.examine("cpu")
    assert found["kernel"] == kernel and words in found["note"]


@NEEDS_WARP
def test_one_that_computes_otherwise_is_not_taken(small):
    """Without half a pixel, as if its camera were ours."""
    original = small.fully_fused_projection

    def moved(*arguments, **options):
        radii, centers, *others = original(*arguments, **options)
        return radii, centers - 0.5, *others

    small.fully_fused_projection = moved
    assert "otherwise than Warp" in probe_gsplat.examine("cpu")["problem"]
    assert "failed" in gsplat_state.offer()["note"]


@NEEDS_WARP
def test_one_that_cannot_be_compiled_is_not_taken(small, monkeypatch):
    monkeypatch.setattr(sys.modules["gsplat.cuda._backend"], "_C", None)
    assert "could not be compiled" in probe_gsplat.examine("cpu")["problem"]
    assert "failed" in gsplat_state.offer()["note"]


def test_a_folder_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file" / "below"))
    assert "cannot be written" in probe_gsplat.examine("cpu")["problem"]


def test_the_probe_offers_it_after_the_card_was_found_to_work(monkeypatch):
    monkeypatch.setattr(probe, "timed", lambda device: ([torch.ones(2)], 0.1))
    assert probe._compare("cuda:0", "NVIDIA Test").items() >= TRY.items()
    monkeypatch.setattr(probe, "timed", lambda device: ([torch.full((2,), 1.0 if device == "cpu" else 1.01)], 0.1))
    assert "other" not in probe._compare("cuda:0", "NVIDIA Test")


def test_offering_it_imports_neither_gsplat_nor_warp():
    imports = "import sys; from IntraopReconLib.core.splatting import probe, gsplat_state; gsplat_state.offer();"
    code = f"{imports} sys.exit(bool({{'gsplat', 'warp'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, env=os.environ).returncode == 0


@NEEDS_WARP
@NEEDS_GSPLAT
@NEEDS_CARD
@pytest.mark.gpu
def test_the_real_one_is_right_on_a_card():
    found = probe_gsplat.examine("cuda:0")
    assert found.get("kernel") in ("gsplat", "warp"), found
