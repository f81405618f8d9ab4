"""Kernels on a card: how long each takes, on the CPU and there, and how long it must take at least.

A kernel cannot be faster than the bytes that it has to move at the rate of the card's memory, nor than its operations at the rate of its
arithmetic. Both rates are measured here, by a copy and by a kernel that does nothing but multiply and add, so that no data sheet is needed.
What is counted: for drawing, every pixel of a tile with every footprint on its list; for gathering, every pixel within a footprint's
bounds; for voxels, each volume and image once for every time that the algorithm has to read or write it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import warp as wp

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.splatting import _projector_warp
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.splatting.voxelizer import voxelize
from IntraopReconLib.core.voxels import _voxels_warp
from IntraopReconLib.core.voxels._warp_launch import array, launch
from IntraopReconLib.core.voxels.kernels import CPU
from IntraopReconLib.core.voxels.projection import ViewOnGrid
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.grid import VoxelGrid

from .cost import EXTENT_MM, random_gaussians

DRAWN_OPERATIONS, GATHERED_OPERATIONS = 18, 33  # of a pixel and a footprint, the exponential counted as four (a quarter of the rate)
ITERATIONS = 10  # of the denoising
IN_A_ROW = 10
CHAINS, LENGTH, THREADS = 8, 4096, 2**20


@dataclass(frozen=True)
class Sizes:
    """What is computed: Gaussians, views, pixels along an edge, voxels along an edge; and how often, of which the median counts."""

    gaussians: int
    views: int
    pixels: int
    voxels: int
    repeats: int = 20


@dataclass(frozen=True)
class Rates:
    """What a card can do: bytes copied (read and written) and operations (two for a multiplication with an addition), per second."""

    bytes_per_s: float
    operations_per_s: float


@wp.kernel(enable_backward=False)
def _multiply_and_add(length: int, results: wp.array(dtype=float)):
    i = wp.tid()
    factor = 1.0 - float(i) * 1.0e-12
    a = wp.vec4(0.1, 0.2, 0.3, 0.4)
    b = wp.vec4(0.5, 0.6, 0.7, 0.8)
    for _step in range(length):
        a = factor * a + b
        b = factor * b + a
    results[i] = a[0] + a[1] + a[2] + a[3] + b[0] + b[1] + b[2] + b[3]


def measure_rates(device: str, threads: int = THREADS, length: int = LENGTH, megabytes: int = 1024) -> Rates:
    """Measure what a device can do."""
    there = torch.device(device)
    source = torch.ones(megabytes * 2**18, device=there)
    target = torch.empty_like(source)
    copied = _seconds(lambda: target.copy_(source), there, 5)
    results = torch.empty(threads, device=there)
    computed = _seconds(lambda: launch(_multiply_and_add, threads, [length, array(results)], there), there, 5)
    return Rates(2 * source.nbytes / copied, 2 * CHAINS * length * threads / computed)


def measure_kernels(device: str, sizes: Sizes, rates: Rates) -> list[dict[str, Any]]:
    """Time the kernels of splatting and of voxels at some sizes.

    Returns:
        A row for each: `kernel`, `card_ms`, `cpu_ms` (None where the CPU's is part of another), `bound_ms`, and which bound that is.
    """
    there = torch.device(device)
    views = random_poses(SimulationConfig(views=sizes.views, size_px=sizes.pixels), np.zeros(3), np.random.default_rng(0))
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM, EXTENT_MM / sizes.voxels)
    field = random_gaussians(sizes.gaussians, torch.float32)
    rows = [*_splat_rows(field, Cameras.of(views), grid, there, sizes.repeats), *_voxel_rows(views[0], grid, there, sizes.repeats)]
    for row in rows:
        by_bytes, by_operations = row.pop("bytes") / rates.bytes_per_s, row.pop("operations") / rates.operations_per_s
        row["bound_ms"] = 1e3 * max(by_bytes, by_operations) or None
        row["bound_by"] = "bytes" if by_bytes >= by_operations else "operations"
    return rows


def _splat_rows(field: Gaussians, cameras: Cameras, grid: VoxelGrid, there: torch.device, repeats: int) -> list[dict[str, Any]]:
    on_card = Gaussians(**{name: value.detach().to(there).requires_grad_() for name, value in field.named().items()})
    with torch.no_grad():
        matrices, sources = (torch.as_tensor(a, dtype=torch.float32, device=there) for a in (cameras.matrices, cameras.sources_mm))
        scene = [on_card.means_mm.detach(), on_card.covariances_mm2(), on_card.masses_mm2(), matrices, sources]
        scene.append(torch.linalg.det(matrices[:, :, :3]).abs())
        listed = _projector_warp.list_footprints(cameras.size_px, scene)
        images = _projector_warp.draw(listed, len(cameras), cameras.size_px)
    drawn = len(listed.lists) * listed.edges[0] * listed.edges[1]
    heights, widths = 2 * listed.prints[:, 6].clamp(min=0, max=cameras.size_px[1]), 2 * listed.prints[:, 7].clamp(max=cameras.size_px[0])
    gathered = float((heights * widths).sum())
    lists_bytes = listed.prints.nbytes + listed.lists.nbytes + images.nbytes
    gather_bytes = listed.prints.nbytes + images.nbytes + 2 * sum(tensor.nbytes for tensor in scene[:3])
    return [
        _row("footprints and lists", lambda: _projector_warp.list_footprints(cameras.size_px, scene), there, repeats),
        _row(
            "drawing",
            lambda: _projector_warp.draw(listed, len(cameras), cameras.size_px),
            there,
            repeats,
            nbytes=lists_bytes,
            operations=DRAWN_OPERATIONS * drawn,
        ),
        _row(
            "gathering",
            lambda: _projector_warp.gather(listed.prints, images, scene, False),
            there,
            repeats,
            nbytes=gather_bytes,
            operations=GATHERED_OPERATIONS * gathered,
        ),
        _row("projection, forward and backward", _there_and_back(on_card, lambda g: project(g, cameras, "warp")), there, repeats)
        | {"cpu_ms": _cpu_ms(_there_and_back(field, lambda g: project(g, cameras)), repeats)},
        _row("voxelization, forward and backward", _there_and_back(on_card, lambda g: voxelize(g, grid, "warp")), there, repeats)
        | {"cpu_ms": _cpu_ms(_there_and_back(field, lambda g: voxelize(g, grid)), repeats)},
    ]


def _voxel_rows(view, grid: VoxelGrid, there: torch.device, repeats: int) -> list[dict[str, Any]]:
    volume = np.random.default_rng(0).random(grid.shape_kji, np.float32)
    dual, on_grid = np.zeros((3, *volume.shape), np.float32), ViewOnGrid.of(view, grid)
    image = CPU.project(volume, on_grid)[0]
    volume_there, dual_there, image_there = (torch.tensor(each, device=there) for each in (volume, dual, image))
    weight = torch.full((1,), 0.1, device=there)
    # a copy; the noisy volume, the dual and the result; the volume, and the dual to and fro; the last result
    denoised = (2 + ITERATIONS * (5 + 7) + 5) * volume.nbytes
    once = volume.nbytes + image.nbytes

    def row(kernel: str, nbytes: float, on_card: Callable[[], Any], on_cpu: Callable[[], Any]) -> dict[str, Any]:
        return _row(kernel, on_card, there, repeats, nbytes) | {"cpu_ms": _cpu_ms(on_cpu, repeats)}

    return [
        row("projection of voxels", once, lambda: _voxels_warp.project_volume(volume_there, on_grid), lambda: CPU.project(volume, on_grid)),
        row(
            "backprojection of voxels",
            once + volume.nbytes,
            lambda: _voxels_warp.add_backprojection(volume_there, image_there, on_grid),
            lambda: CPU.add_backprojection(volume, image, on_grid),
        ),
        row(
            f"denoising, {ITERATIONS} iterations",
            denoised,
            lambda: _voxels_warp.denoise(volume_there, weight, dual_there, ITERATIONS),
            lambda: CPU.denoise(volume, 0.1, dual, ITERATIONS),
        ),
    ]


def _row(
    kernel: str, work: Callable[[], Any], there: torch.device, repeats: int, nbytes: float = 0, operations: float = 0
) -> dict[str, Any]:
    return {"kernel": kernel, "card_ms": 1e3 * _seconds(work, there, repeats), "cpu_ms": None, "bytes": nbytes, "operations": operations}


def _there_and_back(gaussians: Gaussians, work: Callable[[Gaussians], torch.Tensor]) -> Callable[[], None]:
    return lambda: work(gaussians).square().sum().backward()


def _cpu_ms(work: Callable[[], Any], repeats: int) -> float:
    return 1e3 * _seconds(work, torch.device("cpu"), min(repeats, 5))


def _seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median wall seconds of some work; on a card of IN_A_ROW at a time, as it starts late. The first time does not count."""
    work()
    spent, in_a_row = [], IN_A_ROW if device.type == "cuda" else 1
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        for _again in range(in_a_row):
            work()
        _wait(device)
        spent.append((time.perf_counter() - began) / in_a_row)
    return statistics.median(spent)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
