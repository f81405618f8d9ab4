"""Volumes onto other grids: identity and linear functions are exact, borders continue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.voxels.resampling import mean_volume, resample
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

OBLIQUE = Rotation.from_euler("zyx", (35, -20, 50), degrees=True).as_matrix()


def _grid(extent, spacing, direction=OBLIQUE):
    return VoxelGrid.box([20.0, -5.0, 60.0], np.array(extent, float), spacing, direction)


def _linear(grid):
    return (grid.points_lps_mm() @ np.array([0.02, -0.013, 0.007]) + 0.3).astype(np.float32)


def test_the_same_grid_changes_nothing():
    grid = _grid((30, 20, 10), 2.0)
    volume = np.random.default_rng(0).random(grid.shape_kji).astype(np.float32)
    np.testing.assert_array_equal(resample(volume, grid, grid), volume)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(8, 40)] * 3), st.floats(1.5, 6), st.floats(0.7, 9), st.booleans())
def test_linear_functions_are_exact_within_and_continue_the_border_without(extent, from_mm, to_mm, oblique):
    direction = OBLIQUE if oblique else np.eye(3)
    source, target = _grid(extent, from_mm, direction), _grid(extent, to_mm, direction)
    got = resample(_linear(source), source, target)
    assert got.dtype == np.float32
    assert got.shape == target.shape_kji
    ijk = transform_points(np.linalg.inv(source.lps_from_ijk), target.points_lps_mm())
    clipped = transform_points(source.lps_from_ijk, np.clip(ijk, 0, np.array(source.size_ijk) - 1))
    np.testing.assert_allclose(got, clipped @ np.array([0.02, -0.013, 0.007]) + 0.3, atol=2e-5)


def test_axes_are_not_mixed_up():
    source, target = _grid((24, 16, 8), 4.0, np.eye(3)), _grid((24, 16, 8), 2.0, np.eye(3))
    volume = np.zeros(source.shape_kji, np.float32)
    volume[0, 1, 4] = 1.0
    got = resample(volume, source, target)
    peak = transform_points(target.lps_from_ijk, np.array(np.unravel_index(got.argmax(), got.shape))[::-1])
    assert np.abs(peak - transform_points(source.lps_from_ijk, [4, 1, 0])).max() <= 1.0 + 1e-9


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 2), (7, 1, 1)])
def test_single_voxels_fill_their_axis(size):
    source = VoxelGrid(size, [3.0] * 3, [0.0] * 3)
    target = VoxelGrid((4, 4, 4), [1.0] * 3, [-1.0] * 3)
    got = resample(np.full(source.shape_kji, 0.25, np.float32), source, target)
    np.testing.assert_allclose(got, 0.25)


def test_the_given_volume_is_left_alone():
    grid = _grid((30, 20, 10), 2.0)
    volume = np.zeros(grid.shape_kji, np.float32)
    result = resample(volume, grid, grid)
    result += 1
    assert volume.max() == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_is_numpy_s_and_changes_nothing(count):
    volumes = list(np.random.default_rng(count).random((count, 4, 5, 6)).astype(np.float32))
    before = np.array(volumes)
    result = mean_volume(iter(volumes))
    np.testing.assert_array_equal(result, np.mean(before, axis=0))
    np.testing.assert_array_equal(volumes, before)
    assert result.dtype == np.float32 and not any(np.shares_memory(result, volume) for volume in volumes)
