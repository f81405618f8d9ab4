"""The shape on the wanted grid: the short way gives what evaluating everything gives, and the slices stay as they were outlined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit
from shape_toys import EXTENT_MM, TURNED, Toy, moved, moved_grid

from ShapeCompletionLib.core.calibration import INTERPOLATION, Temperature
from ShapeCompletionLib.core.cube import cube_view
from ShapeCompletionLib.core.refine import CUBE, FIELD_LIMIT, LOGITS_PER_VOXEL
from ShapeCompletionLib.core.sampling import Slice
from ShapeCompletionLib.core.slice_voxels import beyond_images, contradictions
from ShapeCompletionLib.core.surface import confidence_at, evaluate, reaches_border, whole_grid
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

CUBE_MM = 96.0
SHIFT_MM = np.array([33.0, -12.5, 210.0])


def correction(size: float, smoothness: float, seed: int = 0) -> np.ndarray:
    """Return noise of a standard deviation and a smoothness in voxels of the cube, float32 [k, j, i]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(CUBE,) * 3), smoothness) if smoothness else None
    noise = np.random.default_rng(seed).normal(size=(CUBE,) * 3) if noise is None else noise
    return (size * noise / noise.std()).astype(np.float32)


def direct(view, corrected, grid):
    """Return logits and distances by evaluating everything at every voxel."""
    field, distance = (values / view.voxel_mm for values in view.interpolation.on_grid(grid))
    ijk = transform_points(np.linalg.inv(view.grid.lps_from_ijk), grid.points_lps_mm())
    inside = np.clip(ijk, 0, CUBE - 1)
    added = ndimage.map_coordinates(corrected, inside[..., ::-1].reshape(-1, 3).T, order=1).reshape(grid.shape_kji)
    outside = np.linalg.norm(ijk - inside, axis=-1)
    logits = LOGITS_PER_VOXEL * (np.clip(field, -FIELD_LIMIT, FIELD_LIMIT) - outside) + np.minimum(distance, 1) * added
    return logits, distance


LAYOUTS = {
    "parallel": ("axial", {}),
    "far apart": ("axial", {"spacing_mm": 16.0, "keep_empty": True}),
    "three planes": ("three", {"offset_mm": 1.5}),
    "oblique": ("oblique", {"normal_lps": (1.0, 2.0, 2.0)}),
}
GRIDS = {
    "fine": VoxelGrid.box(np.zeros(3), EXTENT_MM, 1.0),
    "turned": VoxelGrid.box(np.array([2.0, 1.0, -3.0]), [60.0, 66.0, 50.0], 0.9, TURNED),
    "beyond the cube": VoxelGrid.box(np.array([20.0, 0.0, 0.0]), 120.0, 2.0),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("size", [0.0, 3.0])
def test_the_short_way_gives_what_evaluating_everything_gives(layout, grid, size):
    view = cube_view(Toy().slices(layout[0], **layout[1]), CUBE_MM)
    corrected = correction(size, 3.0) if size else np.zeros((CUBE,) * 3, np.float32)
    logits, distance = evaluate(view, corrected, grid)
    expected, expected_distance = direct(view, corrected, grid)
    assert logits.dtype == distance.dtype == np.float32 and logits.shape == distance.shape == grid.shape_kji
    np.testing.assert_array_equal(logits > 0, expected > 0)
    within = (np.abs(view.normalized(grid.points_lps_mm())) < 1).all(-1)  # farther out the cube's faces stand for what is beyond
    near = within & (np.abs(expected) < 3)
    assert near.sum() > 1000
    np.testing.assert_allclose(logits[near], expected[near], atol=2e-3)
    np.testing.assert_allclose(distance[near], expected_distance[near], atol=1e-3)
    np.testing.assert_allclose(distance[within], expected_distance[within], atol=1.0)  # the nearest voxel's, where nothing is near


def test_no_correction_is_the_interpolation():
    view, grid = cube_view(Toy().slices(), CUBE_MM), GRIDS["fine"]
    logits, _ = evaluate(view, None, grid)
    np.testing.assert_array_equal(logits > 0, view.interpolation.on_grid(grid)[0] > 0)
    np.testing.assert_array_equal(logits, evaluate(view, np.zeros((CUBE,) * 3, np.float32), grid)[0])


def pixels_on(grid: VoxelGrid, slices) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices of the voxels that are pixels of slices, and whether those are inside."""
    found, inside = [], []
    for one in slices:
        ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), one.points_lps_mm())
        whole = np.rint(ijk).astype(int)
        same = (np.abs(ijk - whole) < 1e-3).all(-1) & ((whole >= 0) & (whole < grid.size_ijk)).all(-1)
        found.append(np.ravel_multi_index(tuple(whole[same].T[::-1]), grid.shape_kji))
        inside.append(one.mask[same])
    return np.concatenate(found), np.concatenate(inside)


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned"])
@pytest.mark.parametrize(("size", "smoothness"), [(0.0, 0.0), (4.0, 2.0), (20.0, 2.0), (20.0, 0.0), (200.0, 1.0)])
@pytest.mark.parametrize("layout", [("axial", {}), ("three", {}), ("sagittal", {"spacing_mm": 3.0})], ids=["parallel", "three", "dense"])
def test_the_slices_stay_as_they_were_outlined(layout, size, smoothness, turned):
    """Whatever the correction, a voxel that is a pixel of a slice is inside where the pixel is."""
    slices = Toy().slices(layout[0], **layout[1])
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM - 3, 1.0)
    if turned:
        slices, grid = tuple(moved(one, TURNED, SHIFT_MM) for one in slices), moved_grid(grid, TURNED, SHIFT_MM)
    elif layout[0] == "axial":
        slices = tuple(one for n, one in enumerate(slices) if n != 2)  # a larger gap
    found, inside = pixels_on(grid, slices)
    assert len(found) > 1000 and inside.any()
    logits, distance = evaluate(cube_view(slices, CUBE_MM), correction(size, smoothness) if size else None, grid)
    probability = Temperature(1.2, 0.3).probability(logits, distance)
    np.testing.assert_array_equal(probability.ravel()[found] > 0.5, inside)


@pytest.mark.parametrize("size", [4.0, 20.0])
def test_two_neighbors_closer_than_the_cubes_voxels_stay_as_they_were_outlined(size):
    """Beyond them the interpolation ends within a millimeter, which voxels of the cube cannot show."""
    slices = Toy().slices("axial", 1.0)
    slices = slices[len(slices) // 2 : len(slices) // 2 + 2]
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, 1.0)
    found, inside = pixels_on(grid, slices)
    assert len(found) > 1000
    for edge_mm in (CUBE_MM, 3 * CUBE_MM):
        logits, _ = evaluate(cube_view(slices, edge_mm), correction(size, 3.0) - size, grid)
        np.testing.assert_array_equal(logits.ravel()[found] > 0, inside)


def test_what_contradicts_an_outline_is_found_in_slices_along_any_axis():
    slices = [*Toy().slices("axial", 8.0), *Toy().slices("sagittal", 8.0), *Toy().slices("oblique", normal_lps=(1.0, 2.0, 2.0))]
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, 1.0)
    logits = Toy().on(grid).astype(np.float32)
    assert not np.concatenate(contradictions(slices, logits, grid)).size
    wrong = [
        np.ravel_multi_index(
            tuple(np.rint((one.origin_lps_mm + 31 * one.column_step_lps_mm + 30 * one.row_step_lps_mm + 31)[::-1]).astype(int)),
            grid.shape_kji,
        )
        for one in (slices[2], slices[-12])
    ]
    logits.ravel()[wrong] *= -1
    assert set(wrong) <= set(np.concatenate(contradictions(slices, logits, grid)).tolist())


def test_beyond_its_pixels_a_slice_has_a_plane():
    mask = np.zeros((3, 5), bool)
    grid = VoxelGrid((9, 8, 7), [1, 1, 1], [0, 0, 0])
    [flat] = beyond_images([Slice(mask, [2, 3, 4], [1, 0, 0], [0, 1, 0])], grid)
    beyond = np.zeros(grid.shape_kji, bool)
    beyond.ravel()[flat] = True
    expected = np.zeros(grid.shape_kji, bool)
    expected[4] = True
    expected[4, 3:6, 2:7] = False
    np.testing.assert_array_equal(beyond, expected)
    assert beyond_images([Slice(mask, [2, 3, 4.5], [1, 0, 0], [0, 1, 0])], grid) == []


def test_a_grid_grows_around_a_shape_that_reaches_its_border():
    cube = VoxelGrid.box(np.zeros(3), 64.0, 2.0)
    field = (20 - np.linalg.norm(cube.points_lps_mm(), axis=-1)).astype(np.float32)
    field[0, 0, 0] = 5.0  # a speck far away
    small = VoxelGrid.box(np.array([4.0, 0.0, 0.0]), 24.0, 1.0, TURNED)
    logits = (20 - np.linalg.norm(small.points_lps_mm(), axis=-1)).astype(np.float32)
    grown = whole_grid(logits, small, field, cube, 128**3)
    shape = 20 - np.linalg.norm(grown.points_lps_mm(), axis=-1) > 0
    assert shape.sum() == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02) and not reaches_border(shape) and max(grown.size_ijk) < 64
    ijk = transform_points(np.linalg.inv(grown.lps_from_ijk), small.points_lps_mm())
    np.testing.assert_allclose(ijk, np.rint(ijk), atol=1e-6)  # voxels stay where they were
    assert whole_grid(logits, small, field, cube, 10_000) is small
    assert whole_grid(logits - 100, small, field, cube, 128**3) is small


def test_confidence_is_larger_near_the_slices():
    slices = Toy().slices("axial", 16.0, 0.0)
    view, grid = cube_view(slices, CUBE_MM), GRIDS["fine"]
    logits, distance = evaluate(view, None, grid)
    k, j, i = np.nonzero(ndimage.binary_dilation(logits > 0) & (logits <= 0))
    points = transform_points(grid.lps_from_ijk, np.stack([i, j, k], -1).astype(float))
    confidence = confidence_at(points, logits, distance, grid, INTERPOLATION)
    assert confidence.dtype == np.float32 and confidence.shape == (len(points),)
    assert (confidence >= 0).all() and (confidence <= 1).all()
    apart = distance[k, j, i] * view.voxel_mm
    assert confidence[apart < 1].mean() > confidence[apart > 6].mean() + 0.1


def test_nothing_is_surer_than_the_outlines_themselves():
    """Beside a slice the correction rises steeply with the distance, which is no sign of being sure."""
    slices = Toy().slices("axial", 12.0, 0.0)
    view, grid = cube_view(slices, CUBE_MM), VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, 1.0)
    temperature = Temperature(0.8, 0.3)
    logits, distance = evaluate(view, correction(4.0, 3.0), grid)
    k, j, i = np.nonzero(ndimage.binary_dilation(logits > 0) & (logits <= 0))
    points = transform_points(grid.lps_from_ijk, np.stack([i, j, k], -1).astype(float))
    confidence = confidence_at(points, logits, distance, grid, temperature)
    apart_mm = distance[k, j, i] * view.voxel_mm
    means = [confidence[(apart_mm >= low) & (apart_mm < low + 1)].mean() for low in (0, 1, 2, 4)]
    assert means == sorted(means, reverse=True) and means[0] > 0.95


@pytest.mark.parametrize("spacing_mm", [0.5, 2.0])
def test_confidence_follows_the_slope_of_the_logit(spacing_mm):
    """A plane of logits with slope s per mm and temperature T passes within 1 mm with probability 2 sigmoid(s / T) - 1."""
    grid = VoxelGrid.box(np.zeros(3), 20.0, spacing_mm, TURNED)
    logits = 0.8 * (grid.points_lps_mm() @ np.array([0.48, 0.6, 0.64]))
    got = confidence_at(np.zeros((1, 3)), logits, np.full(grid.shape_kji, 3.0), grid, Temperature(0.5, 0.1))
    assert got.item() == pytest.approx(2 * expit(0.8 / 0.8) - 1, abs=1e-4)


def test_no_points_have_no_confidence():
    grid = VoxelGrid.box(np.zeros(3), 4.0, 1.0)
    assert confidence_at(np.zeros((0, 3), np.float32), np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), grid, INTERPOLATION).shape == (0,)
