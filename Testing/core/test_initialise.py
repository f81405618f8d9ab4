"""Where Gaussians start: in the occupied voxels, or anywhere in the box."""

from __future__ import annotations

import numpy as np
import phantom_scene
import pytest
import torch
from scipy.spatial.transform import Rotation
from splat_scenes import one_gaussian, random_gaussians

from IntraopReconLib.core.splatting.initialise import at_random, fit_density, from_volume
from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.splatting.voxelizer import voxelize
from SparseAnatomyLib.grid import VoxelGrid

GRID = VoxelGrid.box(np.array([5.0, -8.0, 3.0]), np.array([60.0, 44.0, 36.0]), 4.0, Rotation.from_euler("x", 30, degrees=True).as_matrix())


def _rng(seed=0):
    return np.random.default_rng(seed)


def _volume():
    volume = np.full(GRID.shape_kji, 0.0004, np.float32)
    volume[2, 3, 4] = 0.02
    volume[6, 8, 10] = 0.01
    return volume


def test_samples_lie_within_the_occupied_voxels_and_carry_their_value():
    gaussians = from_volume(_volume(), GRID, 3000, _rng())
    ijk = (gaussians.means_mm.numpy() - GRID.origin_lps_mm) @ GRID.direction / 4.0
    brighter, fainter = (np.abs(ijk - voxel).max(1) <= 0.5 + 1e-4 for voxel in ([4, 3, 2], [10, 8, 6]))
    assert (brighter | fainter).all()
    np.testing.assert_allclose(gaussians.densities_per_mm().numpy(), np.where(brighter, 0.02, 0.01), rtol=1e-5)
    assert 1 < brighter.sum() / fainter.sum() < 2  # between even and proportional
    for found, voxel in ((ijk[brighter], [4, 3, 2]), (ijk[fainter], [10, 8, 6])):
        np.testing.assert_allclose(found.mean(0), voxel, atol=0.05)
        np.testing.assert_allclose(found.std(0), 1 / np.sqrt(12), rtol=0.1)


@pytest.mark.parametrize("count", [10, 200])
def test_widths_follow_the_volume_that_each_has(count):
    gaussians = from_volume(_volume(), GRID, count, _rng())
    np.testing.assert_allclose(gaussians.log_scales.exp().numpy(), 0.75 * (2 * 64 / count) ** (1 / 3), rtol=1e-5)
    assert gaussians.means_mm.dtype == torch.float32


def test_an_empty_volume_is_the_programmers_mistake():
    with pytest.raises(ValueError, match="volume"):
        from_volume(np.zeros(GRID.shape_kji, np.float32), GRID, 10, _rng())


def test_the_same_seed_gives_the_same_gaussians():
    for make in (lambda rng: from_volume(_volume(), GRID, 50, rng), lambda rng: at_random(np.array([9.0, 8.0, 7.0]), 50, rng)):
        first, again, other = (make(_rng(seed)).means_mm for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_random_gaussians_fill_the_box_evenly():
    extent = np.array([60.0, 44.0, 36.0])
    gaussians = at_random(extent, 8000, _rng())
    means = gaussians.means_mm.numpy()
    assert (np.abs(means) <= extent / 2).all()
    np.testing.assert_allclose(means.std(0), extent / np.sqrt(12), rtol=0.05)
    field = voxelize(gaussians, VoxelGrid.box(np.zeros(3), extent / 2, 3.0)).numpy()
    assert field.std() < 0.5 * field.mean()  # no holes, no orbit


def test_one_factor_fits_the_density():
    gaussians = random_gaussians(40, dtype=torch.float32)
    cameras = Cameras.of([pose.transformed(_to_center()) for pose in phantom_scene.poses(4)])
    images = project(gaussians, cameras)
    gaussians.log_densities -= 1.3
    weights = torch.ones_like(images)
    weights[:, :20] = 0
    garbage = torch.where(weights > 0, images, torch.tensor(1e4))
    fit_density(gaussians, cameras, garbage, weights)
    torch.testing.assert_close(project(gaussians, cameras), images, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_images_of_nothing_leave_finite_densities(level):
    gaussians = one_gaussian([0, 0, 0], dtype=torch.float32)
    cameras = Cameras.of([pose.transformed(_to_center()) for pose in phantom_scene.poses(2)])
    images = torch.full_like(project(gaussians, cameras), level)
    fit_density(gaussians, cameras, images, torch.ones_like(images))
    assert torch.isfinite(gaussians.log_densities).all()
    assert float(gaussians.densities_per_mm()) < 1e-6


def _to_center():
    to_center = np.eye(4)
    to_center[:3, 3] = -np.array(phantom_scene.CENTER_LPS_MM)
    return to_center
