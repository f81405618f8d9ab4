"""The voxel projector: closed forms from every side, lengths, frames, linearity, and where a backprojected pixel goes."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from splat_scenes import ROTATIONS_DEG, oblique_view

from IntraopReconLib.core.voxels.projection import ViewOnGrid, add_backprojection, project_volume
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

GRID = VoxelGrid.box(np.array([2.0, -3.0, 1.0]), [80.0, 70.0, 60.0], 1.25)
SIDES_DEG = ((0, 0, 0), (180, 0, 0), (90, 0, 0), (-90, 10, 0), (0, 0, 90), (0, 0, -90), *ROTATIONS_DEG[1:])


def box_chords_mm(view: XrayView, low, high) -> np.ndarray:
    """Return the length of every ray inside an LPS-aligned box (slab method), [row, column]."""
    direction = view.all_pixels_lps_mm() - view.source_lps_mm
    with np.errstate(divide="ignore"):
        shares = np.stack([(np.asarray(low) - view.source_lps_mm) / direction, (np.asarray(high) - view.source_lps_mm) / direction])
    enter, leave = shares.min(axis=0).max(axis=-1).clip(0, 1), shares.max(axis=0).min(axis=-1).clip(0, 1)
    return np.maximum(leave - enter, 0) * np.linalg.norm(direction, axis=-1)


def ellipsoid_chords_mm(view: XrayView, center, radii) -> np.ndarray:
    """Return the length of every ray inside an LPS-aligned ellipsoid, [row, column]."""
    source = (view.source_lps_mm - center) / radii
    direction = view.all_pixels_lps_mm() - view.source_lps_mm
    scaled = direction / radii
    a, b, c = (scaled**2).sum(-1), scaled @ source, source @ source - 1
    return 2 * np.sqrt(np.maximum(b**2 - a * c, 0)) / a * np.linalg.norm(direction, axis=-1)


def smooth_volume(grid: VoxelGrid, seed=0) -> np.ndarray:
    """Return some blobs well inside a grid."""
    rng = np.random.default_rng(seed)
    points = grid.points_lps_mm() - grid.center_lps_mm
    blobs = [np.exp(-0.5 * ((points - rng.uniform(-15, 15, 3)) ** 2).sum(-1) / rng.uniform(3, 6) ** 2) for _ in range(6)]
    return (0.02 * np.sum(blobs, axis=0)).astype(np.float32)


@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_uniform_ellipsoid_has_its_closed_form(degrees):
    center, radii = np.array([5.0, -8.0, 3.0]), np.array([20.0, 14.0, 17.0])
    thirds = np.stack(np.meshgrid(*[np.array([-1.25, 0.0, 1.25]) / 3] * 3), -1).reshape(27, 3)
    finer = GRID.points_lps_mm()[..., None, :] + thirds
    volume = ((((finer - center) / radii) ** 2).sum(-1) < 1).mean(-1).astype(np.float32) * np.float32(0.03)
    view = oblique_view(degrees)
    expected = 0.03 * ellipsoid_chords_mm(view, center, radii)
    image, _ = project_volume(volume, ViewOnGrid.of(view, GRID))
    assert expected.max() > 0.8 and (expected == 0).mean() > 0.3
    assert np.sqrt(np.mean((image - expected) ** 2)) < 0.01 * expected.max()
    inside = expected > 0.5 * expected.max()  # where no ray grazes the stepped surface
    np.testing.assert_allclose(image[inside], expected[inside], atol=0.02 * expected.max())


@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_lengths_are_the_chords_between_the_outermost_voxel_centers(degrees):
    view = oblique_view(degrees)
    _, lengths = project_volume(np.zeros(GRID.shape_kji, np.float32), ViewOnGrid.of(view, GRID))
    last = GRID.origin_lps_mm + (np.array(GRID.size_ijk) - 1) * GRID.spacing_mm
    expected = box_chords_mm(view, GRID.origin_lps_mm, last)
    assert (expected > 50).any() and (expected == 0).any()
    np.testing.assert_allclose(lengths, expected, atol=0.02)


@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_a_full_box_gives_its_chords(degrees):
    """Joseph's sum over planes differs from the integral by at most half a plane at each end, and no ray gets more than all planes."""
    view = oblique_view(degrees)
    image, lengths = project_volume(np.full(GRID.shape_kji, 0.02, np.float32), ViewOnGrid.of(view, GRID))
    assert (image[lengths == 0] == 0).all()
    half_step_mm = 0.5 * 1.25 * math.sqrt(3)
    assert np.abs(image - 0.02 * lengths).max() <= 0.02 * 2 * half_step_mm


@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_a_marker_appears_where_the_view_projects_it(degrees):
    view = oblique_view(degrees)
    index = np.array([22.0, 34.0, 18.0])  # i, j, k
    k, j, i = np.indices(GRID.shape_kji)
    volume = np.exp(-0.5 * ((i - index[0]) ** 2 + (j - index[1]) ** 2 + (k - index[2]) ** 2) / 2**2).astype(np.float32)
    image, _ = project_volume(volume, ViewOnGrid.of(view, GRID))
    rows, columns = np.indices(image.shape)
    centroid = [(image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()]
    expected = view.project(transform_points(GRID.lps_from_ijk, index))
    assert (expected > 10).all() and (expected < np.array(view.size_px) - 10).all()
    np.testing.assert_allclose(centroid, expected, atol=0.02)


def test_moving_the_whole_scene_rigidly_leaves_the_images_unchanged():
    motion = affine(Rotation.from_euler("xyz", [33, -71, 12], degrees=True).as_matrix(), [40.0, -25.0, 60.0])
    grid = VoxelGrid(GRID.size_ijk, GRID.spacing_mm, transform_points(motion, GRID.origin_lps_mm), motion[:3, :3] @ GRID.direction)
    volume, view = smooth_volume(GRID), oblique_view()
    before, lengths_before = project_volume(volume, ViewOnGrid.of(view, GRID))
    after, lengths_after = project_volume(volume, ViewOnGrid.of(view.transformed(motion), grid))
    assert before.max() > 0.2
    np.testing.assert_allclose(after, before, atol=1e-4 * before.max())
    np.testing.assert_allclose(lengths_after, lengths_before, atol=0.05)
    back, back_after = np.zeros(GRID.shape_kji, np.float32), np.zeros(GRID.shape_kji, np.float32)
    add_backprojection(back, before, ViewOnGrid.of(view, GRID))
    add_backprojection(back_after, before, ViewOnGrid.of(view.transformed(motion), grid))
    np.testing.assert_allclose(back_after, back, atol=2e-3 * before.max())


def test_scaling_millimeters_scales_attenuation():
    volume, view, scale = smooth_volume(GRID), oblique_view(), 1.7
    grid = VoxelGrid(GRID.size_ijk, GRID.spacing_mm * scale, GRID.origin_lps_mm * scale, GRID.direction)
    before, _ = project_volume(volume, ViewOnGrid.of(view, GRID))
    after, _ = project_volume(volume, ViewOnGrid.of(view.transformed(np.diag([scale] * 3 + [1.0])), grid))
    np.testing.assert_allclose(after, scale * before, atol=1e-4 * after.max())


def test_projection_and_backprojection_are_linear():
    a, b = smooth_volume(GRID, 1), smooth_volume(GRID, 2)
    on_grid = ViewOnGrid.of(oblique_view(ROTATIONS_DEG[2]), GRID)
    image_a, image_b = (project_volume(v, on_grid)[0] for v in (a, b))
    both, _ = project_volume(2 * a - 3 * b, on_grid)
    np.testing.assert_allclose(both, 2 * image_a - 3 * image_b, atol=1e-5)
    volumes = [np.zeros(GRID.shape_kji, np.float32) for _ in range(3)]
    for volume, image in zip(volumes, (image_a, image_b, 2 * image_a - 3 * image_b), strict=True):
        add_backprojection(volume, image, on_grid)
    np.testing.assert_allclose(volumes[2], 2 * volumes[0] - 3 * volumes[1], atol=1e-5)


@pytest.mark.parametrize("degrees", SIDES_DEG)
def test_a_backprojected_pixel_lies_along_its_ray(degrees):
    """The pair is unmatched: each voxel takes the image's value where it projects to, interpolated between pixels."""
    view = oblique_view(degrees)
    image = np.zeros(view.size_px[::-1], np.float32)
    column, row = np.round(view.project(GRID.center_lps_mm + [4.0, 3.0, -2.0])).astype(int)
    image[row, column] = 5.0
    volume = np.ones(GRID.shape_kji, np.float32)
    add_backprojection(volume, image, ViewOnGrid.of(view, GRID))
    away = np.abs(view.project(GRID.points_lps_mm()) - [column, row])
    expected = 1 + 5 * np.prod(np.maximum(1 - away, 0), axis=-1)
    assert (expected > 3).sum() > 50
    np.testing.assert_allclose(volume, expected, atol=5e-3)


def test_every_pixel_is_backprojected_up_to_the_borders_and_nothing_outside():
    view = oblique_view(size_px=(21, 13))
    small = XrayView(view.source_lps_mm, view.pixel_lps_mm([6, 3]), view.column_step_lps_mm, view.row_step_lps_mm, (9, 6))
    rng = np.random.default_rng(0)
    image = rng.random((6, 9), np.float32) + 1
    volume = np.zeros(GRID.shape_kji, np.float32)
    add_backprojection(volume, image, ViewOnGrid.of(small, GRID))
    column, row = np.moveaxis(small.project(GRID.points_lps_mm()), -1, 0)
    outside = (column <= -1.001) | (column >= 9.001) | (row <= -1.001) | (row >= 6.001)
    inside = (column >= 0) & (column <= 8) & (row >= 0) & (row <= 5)
    assert outside.sum() > 1000 and inside.sum() > 1000
    assert (volume[outside] == 0).all()
    assert (volume[inside] > 0.999).all()
    expected = map_coordinates(np.pad(image, 1), [row[inside] + 1, column[inside] + 1], order=1)
    np.testing.assert_allclose(volume[inside], expected, atol=2e-3)


def test_rays_that_miss_give_zero_and_views_that_look_away_change_nothing():
    view = oblique_view()
    elsewhere = VoxelGrid(GRID.size_ijk, GRID.spacing_mm, GRID.origin_lps_mm + view.lps_from_camera[:3, 0] * 500, GRID.direction)
    image, lengths = project_volume(np.ones(GRID.shape_kji, np.float32), ViewOnGrid.of(view, elsewhere))
    assert (image == 0).all() and (lengths == 0).all()
    volume = np.full(GRID.shape_kji, 2.0, np.float32)
    add_backprojection(volume, np.ones(view.size_px[::-1], np.float32), ViewOnGrid.of(view, elsewhere))
    assert (volume == 2).all()


def test_oblique_grids_are_projected_like_their_content():
    """The same ball, sampled on an oriented grid, casts the same shadow."""
    turn = Rotation.from_euler("zyx", [20, 35, -50], degrees=True).as_matrix()
    view, center = oblique_view(), np.array([3.0, 4.0, -5.0])
    images = []
    for direction in (np.eye(3), turn):
        grid = VoxelGrid.box(center + [1, 2, 3], 70.0, 1.25, direction)
        volume = 0.03 * np.exp(-0.5 * ((grid.points_lps_mm() - center) ** 2).sum(-1) / 6.0**2)
        images.append(project_volume(volume.astype(np.float32), ViewOnGrid.of(view, grid))[0])
    assert images[0].max() > 0.4
    np.testing.assert_allclose(images[0], images[1], atol=0.005 * images[0].max())


def test_grids_with_unequal_spacing_are_refused():
    with pytest.raises(ValueError, match="one spacing"):
        ViewOnGrid.of(oblique_view(), VoxelGrid((4, 4, 4), [1.0, 1.0, 2.0], np.zeros(3)))


def test_backprojection_into_what_is_not_contiguous_is_refused():
    """The kernel would fill a copy and leave the volume as it was."""
    on_grid = ViewOnGrid.of(oblique_view(), GRID)
    padded = np.zeros((*GRID.shape_kji[:2], GRID.shape_kji[2] + 8), np.float32)
    with pytest.raises(ValueError, match="contiguous"):
        add_backprojection(padded[:, :, :-8], np.ones((47, 71), np.float32), on_grid)


def test_volumes_of_any_memory_layout_are_projected():
    on_grid, volume = ViewOnGrid.of(oblique_view(), GRID), smooth_volume(GRID)
    image, _ = project_volume(np.asfortranarray(volume), on_grid)
    np.testing.assert_array_equal(image, project_volume(volume, on_grid)[0])


@pytest.mark.parametrize("size_ijk", [(1, 8, 8), (8, 1, 8), (8, 8, 1), (2, 2, 2), (1, 1, 1)])
def test_thin_grids_do_no_harm(size_ijk):
    grid = VoxelGrid(size_ijk, [4.0] * 3, -np.array(size_ijk) * 2.0)
    for degrees in SIDES_DEG:
        on_grid = ViewOnGrid.of(oblique_view(degrees), grid)
        image, _ = project_volume(np.full(grid.shape_kji, 0.02, np.float32), on_grid)
        assert np.isfinite(image).all() and (image >= 0).all() and image.max() <= 0.02 * 8 * 4 * math.sqrt(3)
        volume = np.zeros(grid.shape_kji, np.float32)
        add_backprojection(volume, np.ones_like(image), on_grid)
        assert np.isfinite(volume).all() and volume.max() <= 1.001


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was started with one thread")
def test_neither_repeating_nor_threads_change_a_bit():
    on_grid, volume = ViewOnGrid.of(oblique_view(), GRID), smooth_volume(GRID)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            numba.set_num_threads(count)
            image, lengths = project_volume(volume, on_grid)
            back = np.zeros(GRID.shape_kji, np.float32)
            add_backprojection(back, image, on_grid)
            results.append((image, lengths, back))
    finally:
        numba.set_num_threads(threads)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
