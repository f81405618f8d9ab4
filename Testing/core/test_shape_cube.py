"""What the prior looks at: the cube holds what is outlined, and the points for the inner loop are the slices' own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from shape_toys import TURNED, Toy, moved

from ShapeCompletionLib.core.cube import PRIOR_CUBE, TARGET_LIMIT, context_points, cube_view, prior_points
from ShapeCompletionLib.core.interpolate import interpolation_field
from ShapeCompletionLib.core.refine import CUBE
from ShapeCompletionLib.core.sampling import Slice

SHIFT_MM = np.array([120.0, -310.0, 45.0])
SLICES = tuple(moved(one, TURNED, SHIFT_MM) for one in Toy().slices())


def lopsided() -> tuple[Slice, ...]:
    """Return a large square with a long thin process to one side, on two slices."""
    mask = np.zeros((60, 220), bool)
    mask[10:50, 10:50] = True
    mask[29:31, 50:210] = True
    return tuple(Slice(mask, [0, 0, height], [0.5, 0, 0], [0, 0.5, 0]) for height in (0.0, 6.0))


@pytest.mark.parametrize("extent_mm", [0.0, 64.0, 128.0])
@pytest.mark.parametrize("slices", [SLICES, lopsided()], ids=["toy", "lopsided"])
def test_the_cube_holds_what_is_outlined(slices, extent_mm):
    view = cube_view(slices, extent_mm)
    assert view.grid.size_ijk == (CUBE,) * 3 and np.ptp(view.grid.spacing_mm) == 0
    np.testing.assert_array_equal(view.grid.direction, np.eye(3))
    assert view.grid.extent_mm[0] >= extent_mm
    inside = np.concatenate([one.points_lps_mm()[one.mask] for one in slices])
    assert np.abs(view.normalized(inside)).max() < 1


def test_the_cube_is_of_the_priors_size_where_the_structure_is_not_larger():
    view = cube_view(SLICES, 128.0)
    assert view.grid.extent_mm == pytest.approx(np.full(3, 128.0)) and view.voxel_mm == pytest.approx(2.0)
    weights = [np.full(int(one.mask.sum()), np.prod(one.pixel_spacing_mm)) for one in SLICES]
    inside = np.concatenate([one.points_lps_mm()[one.mask] for one in SLICES])
    np.testing.assert_allclose(view.grid.center_lps_mm, np.average(inside, axis=0, weights=np.concatenate(weights)), atol=1e-6)


def test_normalized_and_back():
    view = cube_view(SLICES, 100.0)
    points = np.random.default_rng(0).normal(0, 200, (50, 3)) + SHIFT_MM
    np.testing.assert_allclose(view.lps_mm(view.normalized(points)), points, atol=1e-3)
    corners = view.normalized(view.grid.corners_lps_mm())
    np.testing.assert_allclose(np.abs(corners), 1, atol=1e-5)
    assert view.normalized(points).dtype == np.float32


def test_the_field_is_in_voxels_of_the_cube():
    view = cube_view(SLICES, 100.0)
    field, distance = view.interpolation.on_grid(view.grid)
    np.testing.assert_allclose(view.field_and_distance[0] * view.voxel_mm, field, rtol=1e-5)
    np.testing.assert_allclose(view.field_and_distance[1] * view.voxel_mm, distance, rtol=1e-5)
    assert all(values.dtype == np.float32 for values in view.field_and_distance)


@pytest.mark.parametrize("extent_mm", [20.0, 128.0])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_context_points_are_pixels_with_their_targets(extent_mm, keep_empty):
    slices = Toy().slices("oblique", normal_lps=(1.0, 2.0, 2.0), keep_empty=keep_empty)
    view = cube_view(slices, extent_mm)
    points, targets = context_points(view, 400, np.random.default_rng(3))
    assert points.shape == (400, 3) and targets.shape == (400,) and points.dtype == targets.dtype == np.float32
    assert np.abs(points).max() <= 1 and np.abs(targets).max() <= 1
    pixels = np.concatenate([one.points_lps_mm().reshape(-1, 3) for one in view.interpolation.slices])
    empty = np.concatenate([np.full(one.mask.size, not one.mask.any()) for one in view.interpolation.slices])
    alone = [
        interpolation_field((one,)).distances_mm if one.mask.any() else np.full(one.mask.size, -1e9) for one in view.interpolation.slices
    ]
    apart, nearest = cKDTree(pixels).query(view.lps_mm(points))
    assert apart.max() < 1e-3
    limit_mm = TARGET_LIMIT * view.grid.extent_mm[0] / 2
    np.testing.assert_allclose(targets, np.clip(np.concatenate(alone)[nearest] / limit_mm, -1, 1), atol=1e-4)
    assert (targets[empty[nearest]] == -1).all() and empty[nearest].any() == keep_empty


def test_context_points_are_chosen_near_the_outlines_and_reproducibly():
    view = cube_view(SLICES, 128.0)
    points, targets = context_points(view, 1000, np.random.default_rng(3))
    again = context_points(view, 1000, np.random.default_rng(3))
    np.testing.assert_array_equal(points, again[0])
    np.testing.assert_array_equal(targets, again[1])
    assert not np.array_equal(points, context_points(view, 1000, np.random.default_rng(4))[0])
    levels = np.abs(view.interpolation.distances_mm) / (TARGET_LIMIT * 64)
    within, near = (levels < 1).mean(), (levels < 2).mean()
    assert (np.abs(targets) < 1).mean() == pytest.approx((within / near + within) / 2, abs=0.05)  # half of them are taken from near
    assert near < 0.8


def test_a_few_points_are_repeated_where_the_cube_shows_no_more():
    view = cube_view(SLICES, 128.0)
    points, _ = context_points(view, 1, np.random.default_rng(0))
    assert points.shape == (1, 3)


def test_the_implicit_network_is_evaluated_at_the_cells_centers():
    points = prior_points().reshape(PRIOR_CUBE, PRIOR_CUBE, PRIOR_CUBE, 3)
    view = cube_view(SLICES, 128.0)
    coarse = view.normalized(view.grid.points_lps_mm()).reshape(*[PRIOR_CUBE, CUBE // PRIOR_CUBE] * 3, 3).mean((1, 3, 5))
    np.testing.assert_allclose(points, coarse, atol=1e-5)
    assert points[0, 0, 1, 0] > points[0, 0, 0, 0] and points[0, 0, 1, 1] == points[0, 0, 0, 1]
