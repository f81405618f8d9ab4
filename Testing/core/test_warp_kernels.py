"""What of the Warp kernels can be held without a card: that they compile for CUDA, and that blocks of threads share the work rightly."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from splat_scenes import NEEDS_WARP, ROTATIONS_DEG, converted, oblique_view, random_gaussians

from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.splatting.voxelizer import voxelize
from SparseAnatomyLib.grid import VoxelGrid

pytestmark = NEEDS_WARP
PACKAGE = "IntraopReconLib.core.splatting"
MODULES = [
    f"{PACKAGE}._warp_tiles",
    f"{PACKAGE}._projector_warp",
    f"{PACKAGE}._projector_gsplat",
    f"{PACKAGE}._voxelizer_warp",
    "IntraopReconLib.core.voxels._voxels_warp",
]
GRID = VoxelGrid.box(np.array([2.0, -3.0, 1.0]), np.array([46.0, 58.0, 70.0]), 2.0)


def test_importing_the_core_imports_no_warp():
    code = "import sys; import IntraopReconLib.core.reconstruct; sys.exit('warp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("name", MODULES)
def test_kernels_compile_for_cuda(name, tmp_path):
    import warp as wp

    module = importlib.import_module(name)
    wp.compile_aot_module(module, arch=75, module_dir=tmp_path, use_ptx=True)  # Warp brings NVIDIA's compiler along
    (assembly,) = tmp_path.glob("*.ptx")
    kernels = [kernel.key for kernel in wp.get_module(module.__name__).kernels.values()]
    text = assembly.read_text("utf-8")
    assert kernels and all(f".entry {key}_" in text for key in kernels)


def _results() -> list[torch.Tensor]:
    """Return images, volume and all gradients of a scene, by Warp on the CPU."""
    gaussians = converted(random_gaussians(60, seed=4), torch.float32, True)
    images = project(gaussians, Cameras.of([oblique_view(degrees) for degrees in ROTATIONS_DEG]), "warp")
    volume = voxelize(gaussians, GRID, "warp")
    (images.square().mean() + volume.square().sum()).backward()
    return [images.detach(), volume.detach(), *(parameter.grad for parameter in gaussians.named().values())]


def test_blocks_of_threads_give_what_single_threads_do(monkeypatch):
    """On the CPU a block is one thread, unless Warp is asked for blocks as a card has them."""
    import warp as wp

    alone = _results()
    monkeypatch.setattr(wp.config, "enable_cpu_blocks", True)
    together, again = _results(), _results()
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))  # sums were taken in another order
    for one, other in zip(alone, together, strict=True):
        assert one.abs().max() > 0
        assert (one - other).abs().max() < 1e-5 * one.abs().max()


@pytest.mark.parametrize("count", [0, 1, 200])
def test_lists_hold_what_reaches_each_tile_in_order(count):
    tiles = importlib.import_module(f"{PACKAGE}._warp_tiles")
    rng, shape = np.random.default_rng(count), (2, 5, 3)
    first = rng.integers(0, shape, (count, 3))
    last = np.minimum(first + rng.integers(0, 3, (count, 3)), shape)  # some reach nothing
    boxes = torch.from_numpy(np.stack([first, last], 2).reshape(count, 6).astype(np.int32))
    starts, lists = tiles.lists_by_tile(boxes, shape)
    for number, tile in enumerate(np.ndindex(shape)):
        expected = np.flatnonzero(((first <= tile) & (tile < last)).all(1))
        np.testing.assert_array_equal(lists[starts[number] : starts[number + 1]], expected)
    assert starts[-1] == len(lists)
