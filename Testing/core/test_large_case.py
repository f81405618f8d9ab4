"""The bookkeeping of the benchmark of large cases: each stage has a peak of its own."""

from __future__ import annotations

import sys
from dataclasses import asdict

import numpy as np
import pytest
from Testing.benchmarks import large


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak begins anew on Linux alone")
def test_each_stage_has_its_own_peak():
    meter = large.Meter()
    meter(0.0, "small")
    meter(0.1, "large")
    held = np.ones(40_000_000, np.float32)
    meter(0.2, "large")
    del held
    meter(0.3, "small again")
    meter.end()
    peaks = {stage["stage"]: stage["peak_gb"] for stage in meter.stages}
    assert list(peaks) == ["small", "large", "small again"]
    assert peaks["large"] > max(peaks["small"], peaks["small again"]) + 0.1


def test_the_table_says_what_was_shortened():
    stages = [
        {"stage": "Reading", "wall_s": 1.0, "cpu_s": 0.5, "peak_gb": 0.6},
        {"stage": "Writing", "wall_s": 2.0, "cpu_s": 1, "peak_gb": 1.5},
    ]
    origin = {
        "command": "c",
        "commit": "0",
        "uncommitted_changes": False,
        "date": "d",
        "threads": 1,
        "cpu": "x",
        "cores": 2,
        "memory_gb": 24,
    }
    result = {
        "provenance": origin | {"load_at_start": 0.0, "system": "s", "versions": {}},
        "methods": {"auto": {"stages": stages, "size_ijk": [256] * 3, "method": "voxel"}},
        "setting": {"views": 50, "size_px": 512, "effort": asdict(large.effort(1, full=False))},
        "shortened": {"splat_steps": [40, 200]},
    }
    text = large.markdown(result)
    assert "| all | 3.0 | 1.5 | 1.50 |" in text
    assert "50 X-rays of 512², 256 × 256 × 256 voxels, 100000 Gaussians; the volume is by voxel" in text
    assert "Shortened: splat_steps 40 instead of 200." in text
    assert "Shortened: nothing." in large.markdown(result | {"shortened": {}})
