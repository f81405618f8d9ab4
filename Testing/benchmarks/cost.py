"""What the kernels cost against Gaussians, pixels, views and voxels, and how much faster they are than the torch reference.

    python -m Testing.benchmarks.cost COST.json

Each figure is the least processor time of several runs, forward and backward together; one axis grows while the others stay. It is meant to
be started with one thread: threads that wait for others on a busy machine spend processor time too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.splatting.voxelizer import voxelize
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.grid import VoxelGrid

GAUSSIANS, VIEWS, PIXELS, VOXELS = 20_000, 4, 256, 128  # where the other axes stay; the last two along an edge
REFERENCE_GAUSSIANS = 250  # the reference has no cutoff and costs the same for each: measured on these, scaled up
EXTENT_MM = 192.0
SIGMA_MM = 2.0
REPEATS = 7


def measure_cost() -> dict[str, Any]:
    """Return a sweep for each kernel and axis, and the ratios to the reference."""
    return {
        "sweeps": [
            sweep("project", "Gaussians", [5_000, 10_000, 20_000, 40_000, 80_000], lambda n: _projection(n, VIEWS, PIXELS)),
            sweep("project", "views", [1, 2, 4, 8, 16], lambda n: _projection(GAUSSIANS, n, PIXELS)),
            sweep("project", "pixels", [128**2, 192**2, 256**2, 384**2, 512**2], lambda n: _projection(GAUSSIANS, VIEWS, round(n**0.5))),
            sweep("voxelize", "Gaussians", [5_000, 10_000, 20_000, 40_000, 80_000], lambda n: _voxelization(n, VOXELS)),
            sweep("voxelize", "voxels", [64**3, 96**3, 128**3, 160**3, 192**3], lambda n: _voxelization(GAUSSIANS, round(n ** (1 / 3)))),
        ],
        "reference_ratio": {str(dtype).removeprefix("torch."): reference_ratio(dtype) for dtype in (torch.float32, torch.float64)},
        "setting": {"gaussians": GAUSSIANS, "views": VIEWS, "pixels": PIXELS**2, "voxels": VOXELS**3, "sigma_mm": SIGMA_MM},
    }


def sweep(kernel: str, axis: str, sizes: list[int], step: Callable[[int], Callable[[], None]]) -> dict[str, Any]:
    """Time a kernel at several sizes and fit a line.

    Args:
        kernel: Its name.
        axis: What grows.
        sizes: Along the axis.
        step: Gives what to time for one size.

    Returns:
        `sizes`, `cpu_s`, and of the line `slope_s` (per unit of the axis), `intercept_s` and `r_squared`.
    """
    seconds = [_least_seconds(step(size)) for size in sizes]
    return {"kernel": kernel, "axis": axis, "sizes": sizes, "cpu_s": seconds, **fit_line(sizes, seconds)}


def fit_line(sizes: list[int], seconds: list[float]) -> dict[str, float]:
    """Return the least-squares line through (size, seconds) and the share of the variance that it explains."""
    slope, intercept = np.polyfit(sizes, seconds, 1)
    residuals = np.asarray(seconds) - (slope * np.asarray(sizes) + intercept)
    return {"slope_s": float(slope), "intercept_s": float(intercept), "r_squared": float(1 - residuals.var() / np.var(seconds))}


def reference_ratio(dtype: torch.dtype) -> float:
    """Return by how much the numba projector beats the reference for one view and GAUSSIANS Gaussians."""
    fast = _least_seconds(_projection(GAUSSIANS, 1, PIXELS))
    slow = _least_seconds(_projection(REFERENCE_GAUSSIANS, 1, PIXELS, "reference", dtype), repeats=2)
    return slow * GAUSSIANS / REFERENCE_GAUSSIANS / fast


def _least_seconds(step: Callable[[], None], repeats: int = REPEATS) -> float:
    step()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        spent.append(time.process_time() - start)
    return min(spent)


def _projection(gaussians: int, views: int, pixels: int, kernel: str = "numba", dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    config = SimulationConfig(views=views, size_px=pixels)
    cameras = Cameras.of(random_poses(config, np.zeros(3), np.random.default_rng(0)))
    field = random_gaussians(gaussians, dtype)
    return lambda: project(field, cameras, kernel).sum().backward()


def _voxelization(gaussians: int, voxels: int) -> Callable[[], None]:
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM, EXTENT_MM / voxels)
    field = random_gaussians(gaussians, torch.float32)
    return lambda: voxelize(field, grid).sum().backward()


def random_gaussians(count: int, dtype: torch.dtype) -> Gaussians:
    rng = np.random.default_rng(0)
    means = rng.uniform(-0.35, 0.35, (count, 3)) * EXTENT_MM
    log_scales = np.log(SIGMA_MM) + rng.normal(0, 0.3, (count, 3))
    arrays = means, log_scales, rng.normal(size=(count, 4)), np.full(count, np.log(0.01))
    return Gaussians(*(torch.tensor(array, dtype=dtype, requires_grad=True) for array in arrays))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(measure_cost()))
