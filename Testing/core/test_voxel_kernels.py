"""Voxels on a card: the same kernels on Warp's CPU device (and on a card, where there is one) against those of numba."""

from __future__ import annotations

import numpy as np
import phantom_scene
import pytest
from splat_scenes import NEEDS_CARD, NEEDS_WARP, ROTATIONS_DEG, oblique_view

from IntraopReconLib.core.config import SartSettings
from IntraopReconLib.core.voxels.kernels import CPU, CardVoxels
from IntraopReconLib.core.voxels.projection import ViewOnGrid
from IntraopReconLib.core.voxels.sart import SartState, run_sart, smooth
from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.grid import VoxelGrid

pytestmark = NEEDS_WARP
DEVICES = ["cpu:0", pytest.param("cuda", marks=[NEEDS_CARD, pytest.mark.gpu])]
SIDES_DEG = ((0, 0, 0), (180, 0, 0), (90, 0, 0), (-90, 10, 0), (0, 0, 90), (0, 0, -90), *ROTATIONS_DEG[1:])
GRIDS = [
    pytest.param(VoxelGrid.box(np.array([2.0, -3.0, 1.0]), [44.0, 60.0, 52.0], 2.0), id="box"),
    pytest.param(VoxelGrid.box(np.array([2.0, -3.0, 1.0]), [44.0, 60.0, 2.0], 2.0), id="one slice"),
    pytest.param(VoxelGrid.box(np.array([2.0, -3.0, 1.0]), [2.0, 2.0, 52.0], 2.0), id="one column"),
]
ON_DEVICES = pytest.mark.parametrize("device", DEVICES)


def _noise(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@ON_DEVICES
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_projections_are_those_of_the_cpu(device, grid, degrees):
    kernels, view = CardVoxels(device), ViewOnGrid.of(oblique_view(degrees), grid)
    volume = _noise(grid.shape_kji)
    expected, got = CPU.project(volume, view), map(kernels.seen, kernels.project(kernels.put(volume), view))
    for one, other in zip(expected, got, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-4 * max(1.0, abs(one).max()))
    assert min(grid.size_ijk) == 1 or (expected[1] > 0).mean() > 0.1


@ON_DEVICES
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_backprojections_are_those_of_the_cpu(device, grid, degrees):
    kernels, view = CardVoxels(device), ViewOnGrid.of(oblique_view(degrees), grid)
    image, volume = _noise(view.size_px[::-1], 1), _noise(grid.shape_kji, 2)
    there = kernels.put(volume)
    kernels.add_backprojection(there, kernels.put(image), view)
    CPU.add_backprojection(volume, image, view)
    np.testing.assert_allclose(kernels.seen(there), volume, rtol=0, atol=2e-3)  # a pixel is as steep as its noise


@ON_DEVICES
@pytest.mark.parametrize("level", [0.0, 0.3, 2.0])
def test_denoising_is_that_of_the_cpu(device, level):
    kernels, volume = CardVoxels(device), _noise((9, 14, 11)) + 1
    dual = np.zeros((3, *volume.shape), np.float32)
    there, dual_there = kernels.put(volume), kernels.put(dual)
    for _ in range(2):  # the second goes on where the first ended
        kernels.denoise(there, level, dual_there, 7)
        CPU.denoise(volume, level, dual, 7)
    np.testing.assert_allclose(kernels.seen(there), volume, atol=1e-5)
    if level:
        np.testing.assert_allclose(kernels.seen(dual_there), dual, atol=1e-5)
    assert volume.min() >= 0


@ON_DEVICES
def test_a_volume_of_zeros_stays(device):
    kernels = CardVoxels(device)
    there = kernels.put(np.zeros((4, 5, 6), np.float32))
    kernels.denoise(there, 0.1, kernels.put(np.zeros((3, 4, 5, 6), np.float32)), 3)
    np.testing.assert_array_equal(kernels.seen(there), 0)


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _reconstructed(ready, kernels, cycles=6) -> SartState:
    grid = ready.grid(4.0)
    state = SartState.of(np.zeros(grid.shape_kji))
    state.put(kernels)
    run_sart(ready, ready.training, grid, state, SartSettings(cycles), 0, lambda now: None)
    return state


@ON_DEVICES
def test_reconstructions_are_those_of_the_cpu(ready, device):
    expected, got = _reconstructed(ready, CPU), _reconstructed(ready, CardVoxels(device))
    assert got.cycle == expected.cycle and got.momentum == expected.momentum
    for name, array in expected.arrays().items():
        np.testing.assert_allclose(got.arrays()[name], array, rtol=0, atol=1e-3 * max(abs(array).max(), 1e-6), err_msg=name)
    assert expected.volume.max() > 0.03


@ON_DEVICES
def test_the_same_work_gives_the_same_bits(ready, device):
    first, again = (_reconstructed(ready, CardVoxels(device), 2).arrays() for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


@ON_DEVICES
def test_a_run_goes_on_elsewhere(ready, device):
    """What began on a card ends on the CPU as if it had been there all along, up to rounding."""
    grid, state = ready.grid(4.0), SartState.of(np.zeros(ready.grid(4.0).shape_kji))
    state.put(CardVoxels(device))
    arguments = ready, ready.training, grid, state, SartSettings(6), 0, lambda now: None
    run_sart(*arguments, until=3)
    state.put(CPU)
    volume = run_sart(*arguments)
    expected = _reconstructed(ready, CPU).volume
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-3 * expected.max())


@ON_DEVICES
def test_a_cancel_leaves_whole_cycles(ready, device):
    state = SartState.of(np.zeros(ready.grid(4.0).shape_kji))
    state.put(CardVoxels(device))

    def cancel(now):
        if now.cycle == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_sart(ready, ready.training, ready.grid(4.0), state, SartSettings(6), 0, cancel)
    expected = _reconstructed(ready, CardVoxels(device), 2)
    assert state.cycle == 2 and SartState.from_arrays(state.arrays()).cycle == 2
    assert state.arrays()["volume"].shape == expected.arrays()["volume"].shape


@ON_DEVICES
def test_smoothing_without_a_past_starts_anew(device):
    grid = VoxelGrid.box(np.zeros(3), 20.0, 2.0)
    volume, kernels = np.abs(_noise(grid.shape_kji)), CardVoxels(device)
    there = kernels.put(volume)
    smooth(there, grid, 0.5, kernels=kernels)
    smooth(volume, grid, 0.5)
    np.testing.assert_allclose(kernels.seen(there), volume, atol=1e-5)
