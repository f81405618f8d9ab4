"""The benchmark of a graphics card, as far as it can be tried without one: on Warp's CPU device, at sizes of toys."""

from __future__ import annotations

import sys

import numpy as np
import phantom_scene
import pytest
import torch
from splat_scenes import NEEDS_WARP
from Testing.benchmarks import gpu

from IntraopReconLib.core.config import EFFORTS, Effort

SMALL = Effort((2, 2), voxel_cycles=1, gaussians=300, splat_steps=6, fits=1, polish_cycles=1)


@NEEDS_WARP
def test_kernels_are_timed_against_their_bounds():
    from Testing.benchmarks import gpu_kernels

    rates = gpu_kernels.measure_rates("cpu", threads=64, length=16, megabytes=1)
    assert rates.bytes_per_s > 0 and rates.operations_per_s > 0
    rows = gpu_kernels.measure_kernels("cpu", gpu_kernels.Sizes(200, 2, 32, 16, repeats=1), rates)
    named = {row["kernel"]: row for row in rows}
    assert all(row["card_ms"] > 0 for row in rows)
    for kernel in ("drawing", "gathering", "projection of voxels", "backprojection of voxels"):
        assert named[kernel]["bound_ms"] > 0
    assert {row["bound_by"] for row in rows} <= {"bytes", "operations"}
    assert named["projection of voxels"]["bound_by"] == "bytes"
    text = gpu.markdown("kernels", [{"size": "toy", **row} for row in rows])
    assert "drawing" in text and "times the bound" in text


@NEEDS_WARP
def test_more_work_has_a_higher_bound():
    from Testing.benchmarks import gpu_kernels

    rates = gpu_kernels.Rates(1e9, 1e9)
    few, many = (gpu_kernels.measure_kernels("cpu", gpu_kernels.Sizes(n, 2, 32, 16, repeats=1), rates) for n in (100, 400))
    for less, more in zip(few, many, strict=True):
        if less["kernel"] in ("drawing", "gathering"):
            assert more["bound_ms"] == pytest.approx(4 * less["bound_ms"], rel=0.5)


def test_both_devices_reconstruct_the_same_views(monkeypatch):
    monkeypatch.setitem(EFFORTS, "standard", SMALL)
    views = phantom_scene.measured(phantom_scene.poses(13, size_px=64))
    config = phantom_scene.config(method="splat", quality="standard", spacing_mm=3.0)
    rows = gpu.both(views, config, "cpu", lambda volume: {"psnr_3d_db": float(np.max(volume))})  # the CPU in the place of the card
    assert [row["device"] for row in rows] == ["cpu", "cpu"]
    assert rows[0]["psnr_3d_db"] == rows[1]["psnr_3d_db"] and all(row["wall_s"] > 0 for row in rows)
    text = gpu.markdown("scenes", [{"case": "toy", **row} for row in rows])
    assert text.count("toy") == 2 and "PSNR-3D" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 2
    said = capsys.readouterr().err
    assert "The graphics card cannot be used" in said and "Nothing was measured" in said and "Traceback" not in said
