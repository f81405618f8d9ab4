"""Slices come from a volume or from contours, and lie where they should."""

from __future__ import annotations

import numpy as np
import pytest
from small_shape import GRID, PLANES, TURNED, blob, outlined

from ShapeCompletionLib.core.contours import context_from_contours, slice_from_contours
from ShapeCompletionLib.core.planes import Plane
from ShapeCompletionLib.core.sampling import (
    EDGE_WARNING,
    MAX_VOXELS,
    Slice,
    context_from_labels,
)
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

COARSE = VoxelGrid((44, 46, 20), [0.8, 0.8, 4.0], [10.0, -200.0, 333.0], TURNED)


def voxels_at(points_lps_mm, grid: VoxelGrid) -> np.ndarray:
    """Return the indices (k, j, i) of the voxels nearest to points."""
    ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), points_lps_mm)
    return np.rint(ijk).astype(int)[..., ::-1]


def lookup(mask, points_lps_mm, grid: VoxelGrid) -> np.ndarray:
    """Return a mask at points; outside its grid is background."""
    index = voxels_at(points_lps_mm, grid)
    inside = ((index >= 0) & (index < np.array(mask.shape))).all(-1)
    values = np.zeros(inside.shape, bool)
    values[inside] = mask[tuple(index[inside].T)]
    return values


def test_a_planes_pixels_are_the_volumes_voxels():
    context = context_from_labels(outlined(), GRID)
    assert len(context.slices) == len(PLANES) and context.warnings == ()
    for plane, index in zip(context.slices, PLANES, strict=True):
        points = plane.points_lps_mm()
        np.testing.assert_allclose(points, transform_points(GRID.lps_from_ijk, voxels_at(points, GRID)[..., ::-1].astype(float)), atol=1e-9)
        assert (voxels_at(points, GRID)[..., 0] == index).all()
        np.testing.assert_array_equal(plane.mask, lookup(blob(), points, GRID))
        assert plane.mask.sum() == blob()[index].sum()


def test_planes_along_several_axes():
    labels = outlined((16, 24))
    labels[:, :, 20] = blob()[:, :, 20]
    labels[:, 22, :] = blob()[:, 22, :]
    context = context_from_labels(labels, GRID)
    axes = [int(np.argmax(np.abs(plane.normal_lps @ GRID.direction))) for plane in context.slices]
    assert sorted(axes) == [0, 1, 2, 2]
    for plane in context.slices:
        np.testing.assert_array_equal(plane.mask, lookup(blob(), plane.points_lps_mm(), GRID))


def test_the_users_planes_are_taken_even_where_they_are_empty():
    planes = [Plane(0, 2), Plane(0, 16), Plane(0, 24)]
    context = context_from_labels(outlined(), GRID, planes)
    assert [int(plane.mask.sum()) for plane in context.slices] == [0, int(blob()[16].sum()), int(blob()[24].sum())]


@pytest.mark.parametrize(("grid", "spacing"), [(GRID, None), (GRID, 2.0), (COARSE, None), (COARSE, 0.5)])
def test_the_results_grid_reaches_beyond_what_is_outlined(grid, spacing):
    whole = blob(grid)
    step = 8 if grid is GRID else 2
    labels = np.zeros_like(whole)
    labels[4::step] = whole[4::step]
    context = context_from_labels(labels, grid, None, spacing)
    result = context.grid
    np.testing.assert_allclose(result.spacing_mm, spacing or grid.spacing_mm.min())
    np.testing.assert_allclose(result.direction, grid.direction)
    missing = whole & ~lookup(np.ones(result.shape_kji, bool), grid.points_lps_mm(), result)
    assert not missing.any()  # not even the parts of the shape beyond the end slices
    drawn = grid.points_lps_mm()[labels]
    ijk = transform_points(np.linalg.inv(result.lps_from_ijk), drawn)
    beyond_mm = np.minimum(ijk.min(0), np.array(result.size_ijk) - 1 - ijk.max(0)) * result.spacing_mm
    assert (beyond_mm >= 5 - 1e-6).all() and beyond_mm[2] >= step * grid.spacing_mm[2] - 1e-6


def test_the_results_voxels_lie_on_the_volumes():
    result = context_from_labels(outlined(), GRID).grid
    ijk = transform_points(np.linalg.inv(GRID.lps_from_ijk), result.origin_lps_mm)
    np.testing.assert_allclose(ijk, np.rint(ijk), atol=1e-6)


def test_a_result_too_fine_for_any_memory_becomes_coarser_with_a_warning():
    context = context_from_labels(outlined(), GRID, None, 0.1)
    assert MAX_VOXELS / 2 < np.prod(context.grid.size_ijk) <= MAX_VOXELS
    assert len(context.warnings) == 1 and "too large for voxels of 0.1 mm" in context.warnings[0]


def test_an_outline_at_the_volumes_edge_is_said():
    cropped = VoxelGrid((44, 46, 23), GRID.spacing_mm, GRID.origin_lps_mm, GRID.direction)
    labels = outlined()[2:25]
    assert context_from_labels(labels, cropped).warnings == (EDGE_WARNING,)


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="labels"):
        context_from_labels(outlined()[1:], GRID)


# Contours


def ellipse(center, radii, column, row, points: int = 80) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
    return np.asarray(center, float) + radii[0] * np.cos(angle) * column + radii[1] * np.sin(angle) * row


@pytest.mark.parametrize("spacing", [0.5, 1.0])
@pytest.mark.parametrize("axes", [np.eye(3), TURNED, TURNED[:, [2, 0, 1]]])
def test_a_contour_fills_what_it_encloses(axes, spacing):
    center = np.array([12.0, -40.0, 7.0])
    plane = slice_from_contours([ellipse(center, (20, 9), axes[:, 0], axes[:, 1])], spacing)
    assert np.abs(plane.normal_lps @ axes[:, 2]) == pytest.approx(1)
    relative = (plane.points_lps_mm() - center) @ axes
    np.testing.assert_allclose(relative[..., 2], 0, atol=1e-9)
    level = np.hypot(relative[..., 0] / 20, relative[..., 1] / 9)
    assert plane.mask[level < 0.98].all() and not plane.mask[level > 1.0].any()
    assert plane.mask.sum() * spacing**2 == pytest.approx(np.pi * 180, rel=0.03)
    assert not (plane.mask[0].any() or plane.mask[-1].any() or plane.mask[:, 0].any() or plane.mask[:, -1].any())


def test_contours_make_holes_and_islands():
    x, y, _ = np.eye(3)
    curves = [ellipse((0, 0, 5), (20, 20), x, y), ellipse((0, 0, 5), (8, 8), x, y), ellipse((40, 0, 5), (6, 6), x, y)]
    plane = slice_from_contours(curves, 0.5)
    assert plane.mask.sum() / 4 == pytest.approx(np.pi * (400 - 64 + 36), rel=0.02)
    middle = np.linalg.norm(plane.points_lps_mm() - [0, 0, 5], axis=-1) < 7
    assert not plane.mask[middle].any()


def test_contours_in_parallel_planes_make_a_context_along_them():
    x, y, normal = TURNED.T
    heights = (0.0, 8.0, 16.0, 24.0)
    curves = [ellipse(height * normal, (20, 12), x, y) for height in heights] + [ellipse(8 * normal, (4, 4), x, y)]
    context = context_from_contours(curves, 1.0)
    assert len(context.slices) == len(heights)
    assert np.abs(context.grid.direction[:, 2] @ normal) == pytest.approx(1)
    center = context.grid.center_lps_mm @ TURNED
    np.testing.assert_allclose(center, [0, 0, 12], atol=0.6)
    assert context.grid.extent_mm[2] >= 24 + 2 * 8


def test_contours_in_crossing_planes_make_a_context_along_the_patient():
    x, y, z = np.eye(3)
    context = context_from_contours([ellipse((0, 0, 0), (20, 12), x, y), ellipse((0, 0, 0), (12, 30), y, z)], 1.0)
    assert len(context.slices) == 2
    np.testing.assert_array_equal(context.grid.direction, np.eye(3))
    assert (context.grid.extent_mm >= [50, 34, 70]).all()


def test_a_slice_names_what_is_wrong():
    good = {"mask": np.ones((2, 3), bool), "origin_lps_mm": [0, 0, 0], "column_step_lps_mm": [1, 0, 0], "row_step_lps_mm": [0, 1, 0]}
    for name, value in [
        ("mask", np.ones(3)),
        ("origin_lps_mm", [np.nan, 0, 0]),
        ("column_step_lps_mm", [0, 0, 0]),
        ("row_step_lps_mm", [1, 1, 0]),
    ]:
        with pytest.raises(ValueError, match=name):
            Slice(**(good | {name: value}))
