"""The exact projector against closed forms: non-square detector, unequal pitches, off-center principal point, rotated views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.xrays.siddon import line_integrals
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid


def oblique_view(size_px=(37, 23), degrees=(25, -40, 65)) -> XrayView:
    """Return a rotated view with everything asymmetric that a detector can have."""
    rotation = Rotation.from_euler("zyx", degrees, degrees=True).as_matrix()
    source, origin, column, row = (
        rotation @ np.array(v) for v in ([5.0, -600.0, 10.0], [-70.0, 420.0, 55.0], [4.1, 0.0, 0.0], [0.0, 0.0, -5.3])
    )
    return XrayView(source, origin, column, row, size_px)


def box_chords_mm(view: XrayView, low, high) -> np.ndarray:
    """Return the length of every ray inside an LPS-aligned box (slab method), [row, column]."""
    source = view.source_lps_mm
    direction = view.all_pixels_lps_mm() - source
    with np.errstate(divide="ignore"):
        shares = np.stack([(np.asarray(low) - source) / direction, (np.asarray(high) - source) / direction])
    enter = shares.min(axis=0).max(axis=-1).clip(0, 1)
    leave = shares.max(axis=0).min(axis=-1).clip(0, 1)
    return np.maximum(leave - enter, 0) * np.linalg.norm(direction, axis=-1)


def ellipsoid_chords_mm(view: XrayView, center, radii) -> np.ndarray:
    """Return the length of every ray inside an LPS-aligned ellipsoid, [row, column]."""
    source = (view.source_lps_mm - center) / radii
    direction = view.all_pixels_lps_mm() - view.source_lps_mm
    scaled = direction / radii
    a, b, c = (scaled**2).sum(-1), scaled @ source, source @ source - 1
    return 2 * np.sqrt(np.maximum(b**2 - a * c, 0)) / a * np.linalg.norm(direction, axis=-1)


def test_box_is_exact():
    grid = VoxelGrid((20, 14, 9), [2.0, 3.0, 4.0], [-18.0, -17.0, -15.0])
    volume = np.zeros(grid.shape_kji)
    volume[2:7, 3:11, 5:18] = 0.02  # k, j, i
    low = grid.origin_lps_mm + (np.array([5, 3, 2]) - 0.5) * grid.spacing_mm
    high = grid.origin_lps_mm + (np.array([18, 11, 7]) - 0.5) * grid.spacing_mm
    view = oblique_view()
    expected = 0.02 * box_chords_mm(view, low, high)
    assert (expected > 0.3).sum() > 20
    np.testing.assert_allclose(line_integrals(volume, grid, view), expected, rtol=1e-5, atol=1e-6)


def test_every_voxel_adds_its_own_chord():
    rng = np.random.default_rng(3)
    grid = VoxelGrid((4, 3, 5), [9.0, 11.0, 7.0], [-14.0, -9.0, -17.0])
    volume = rng.uniform(0, 0.05, grid.shape_kji)
    view = oblique_view()
    expected = np.zeros(view.size_px[::-1])
    for k, j, i in np.ndindex(*grid.shape_kji):
        center = grid.origin_lps_mm + np.array([i, j, k]) * grid.spacing_mm
        expected += volume[k, j, i] * box_chords_mm(view, center - grid.spacing_mm / 2, center + grid.spacing_mm / 2)
    np.testing.assert_allclose(line_integrals(volume, grid, view), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("radii", [(20.0, 20.0, 20.0), (26.0, 15.0, 19.0)])
def test_ellipsoid_converges_to_its_chords(radii):
    center, view = np.array([4.0, -3.0, 6.0]), oblique_view()
    exact = ellipsoid_chords_mm(view, center, radii)
    inner = exact > 15
    errors = []
    for spacing in (2.0, 0.5):
        grid = VoxelGrid.box([0, 0, 0], 70, spacing)
        inside = (((grid.points_lps_mm() - center) / radii) ** 2).sum(-1) < 1
        errors.append(np.abs(line_integrals(inside, grid, view) - exact)[inner])
    assert inner.sum() > 50
    assert np.median(errors[1]) < 0.25
    assert errors[1].mean() < 0.5 * errors[0].mean()


@pytest.mark.parametrize("degrees", [(25, -40, 65), (0, 0, 0), (90, 0, 10), (-120, 30, 5)])
def test_marker_appears_where_the_view_says(degrees):
    view = oblique_view((161, 121), degrees)
    marker = np.array([7.0, -13.0, 9.0])
    grid = VoxelGrid.box(marker, 1.0, 1.0)
    fine = XrayView(view.source_lps_mm, view.detector_origin_lps_mm, view.column_step_lps_mm / 4, view.row_step_lps_mm / 4, view.size_px)
    image = line_integrals(np.ones((1, 1, 1)), grid, fine, subrays=3)
    rows, columns = np.indices(image.shape)
    centroid = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
    np.testing.assert_allclose(centroid, fine.project(marker), atol=0.05)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shift=st.tuples(*[st.floats(-300, 300)] * 3),
)
def test_moving_the_whole_scene_changes_nothing(angles, shift):
    rng = np.random.default_rng(0)
    grid = VoxelGrid((7, 6, 5), [6.0, 7.0, 8.0], [-20.0, -15.0, -18.0])
    volume, view = rng.uniform(0, 0.05, grid.shape_kji), oblique_view()
    b_from_lps = affine(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), np.array(shift))
    moved = VoxelGrid(grid.size_ijk, grid.spacing_mm, transform_points(b_from_lps, grid.origin_lps_mm), b_from_lps[:3, :3] @ grid.direction)
    np.testing.assert_allclose(
        line_integrals(volume, moved, view.transformed(b_from_lps)), line_integrals(volume, grid, view), rtol=1e-5, atol=1e-6
    )


def test_scaling_millimeters_scales_attenuation():
    grid = VoxelGrid((7, 6, 5), [6.0, 7.0, 8.0], [-20.0, -15.0, -18.0])
    volume, view = np.random.default_rng(0).uniform(0, 0.05, grid.shape_kji), oblique_view()
    larger = VoxelGrid(grid.size_ijk, 3 * grid.spacing_mm, 3 * grid.origin_lps_mm)
    scaled = view.transformed(affine(3 * np.eye(3), np.zeros(3)))
    np.testing.assert_allclose(line_integrals(volume, larger, scaled), 3 * line_integrals(volume, grid, view), rtol=1e-5, atol=1e-6)


def test_linear_in_the_volume():
    grid = VoxelGrid((7, 6, 5), [6.0, 7.0, 8.0], [-20.0, -15.0, -18.0])
    a, b = np.random.default_rng(0).uniform(0, 0.05, (2, *grid.shape_kji))
    view = oblique_view()
    both = line_integrals(2 * a + b, grid, view)
    np.testing.assert_allclose(both, 2 * line_integrals(a, grid, view) + line_integrals(b, grid, view), rtol=1e-5, atol=1e-6)


def test_rays_along_the_axes_and_along_voxel_borders():
    grid = VoxelGrid((4, 4, 4), [1.0, 1.0, 1.0], [-1.5, -1.5, -1.5])
    view = XrayView([0, -100, 0], [0, 100, 0], [1, 0, 0], [0, 0, -1], (1, 1))  # along y, in the border between voxels
    assert line_integrals(np.ones((4, 4, 4)), grid, view)[0, 0] == pytest.approx(4.0)
    grazing = XrayView([-2, -100, 0.5], [-2, 100, 0.5], [1, 0, 0], [0, 0, -1], (1, 1))  # in the box's own face
    assert line_integrals(np.ones((4, 4, 4)), grid, grazing)[0, 0] in (pytest.approx(0.0), pytest.approx(4.0))


def test_nothing_behind_the_source_or_the_detector():
    view = XrayView([0, -100, 0], [0, 100, 0], [1, 0, 0], [0, 0, -1], (1, 1))
    for y, expected in ((-130, 0.0), (130, 0.0), (-100, 5.0), (100, 5.0), (0, 10.0)):
        grid = VoxelGrid.box([0, y, 0], 10, 10)
        assert line_integrals(np.ones((1, 1, 1)), grid, view)[0, 0] == pytest.approx(expected)


def test_subrays_average_over_the_pixel():
    grid = VoxelGrid.box([0, 0, 0], 40, 2.0)
    volume = np.random.default_rng(1).uniform(0, 0.05, grid.shape_kji)
    coarse = oblique_view((12, 8))
    fine = XrayView(
        coarse.source_lps_mm,
        coarse.pixel_lps_mm([-0.25, -0.25]),
        coarse.column_step_lps_mm / 2,
        coarse.row_step_lps_mm / 2,
        (24, 16),
    )
    mean = line_integrals(volume, grid, fine).reshape(8, 2, 12, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(line_integrals(volume, grid, coarse, subrays=2), mean, rtol=1e-5, atol=1e-6)


def test_wrong_shape_is_named():
    grid = VoxelGrid((4, 3, 2), [1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"attenuation_per_mm: expected shape \[2, 3, 4\], got \[4, 3, 2\]"):
        line_integrals(np.zeros((4, 3, 2)), grid, oblique_view())
