"""Probabilities mean what they say, and the next slice is where they say least."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from shape_toys import EXTENT_MM, TURNED, Toy, moved, moved_grid

from ShapeCompletionLib.core.calibration import INTERPOLATION, Temperature, expected_calibration_error, fit_temperature
from ShapeCompletionLib.core.interpolate import interpolation_field
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.next_slice import next_slice
from SparseAnatomyLib.grid import VoxelGrid

GRID = VoxelGrid.box(np.zeros(3), EXTENT_MM, 2.0)


@pytest.mark.parametrize("truth", [Temperature(1.0, 0.1), Temperature(2.5, 0.4), Temperature(0.4, 0.8), Temperature(0.2, 0.9, 1.7)])
def test_a_temperature_is_recovered(truth):
    rng = np.random.default_rng(0)
    logits, distance = rng.uniform(-4.5, 4.5, 60_000), rng.uniform(0, 8, 60_000)  # near surfaces, where it is the temperature's to say
    inside = rng.random(60_000) < expit(logits / truth.at(distance))
    found = fit_temperature(logits.astype(np.float32), distance.astype(np.float32), inside)
    np.testing.assert_allclose(found.at(np.array([0.0, 4.0, 8.0])), truth.at(np.array([0.0, 4.0, 8.0])), rtol=0.08)


def test_fitting_makes_overconfident_logits_honest():
    rng = np.random.default_rng(1)
    logits, distance = rng.uniform(-4.5, 4.5, 40_000), rng.uniform(0, 8, 40_000)
    inside = rng.random(40_000) < expit(logits / (1 + 0.5 * distance))
    before = expected_calibration_error(expit(logits), inside)
    after = expected_calibration_error(fit_temperature(logits, distance, inside).probability(logits, distance), inside)
    assert before > 0.06 and after < 0.01


def test_the_kernel_says_what_the_formula_says():
    rng = np.random.default_rng(2)
    logits, distance = rng.uniform(-30, 30, (40, 30, 5)).astype(np.float32), rng.uniform(0, 40, (40, 30, 5)).astype(np.float32)
    for temperature in (INTERPOLATION, Temperature(1.2, 0.05), Temperature(1.0, -0.5), Temperature(0.1, 1.5, 1.6)):
        found = temperature.probability(logits, distance)
        assert found.dtype == np.float32 and found.shape == logits.shape
        np.testing.assert_allclose(found, expit(temperature.scaled(logits, distance)), rtol=2e-5, atol=1e-7)


def test_probabilities_keep_sides_and_fade_away_from_slices():
    logits = np.linspace(-20, 20, 401)
    near, far = (INTERPOLATION.probability(logits, np.full(401, distance)) for distance in (0.0, 10.0))
    for probability in (near, far):
        assert probability.dtype == np.float32 and (probability >= 0).all() and (probability <= 1).all()
        np.testing.assert_array_equal(probability > 0.5, logits > 1e-7)
    sure_near, sure_far = np.abs(near - 0.5), np.abs(far - 0.5)
    assert (sure_far <= sure_near).all()
    at_surface = np.abs(logits) < 4.5
    assert sure_far[at_surface].sum() < 0.8 * sure_near[at_surface].sum()


def test_what_is_far_outside_stays_so_far_from_all_slices():
    """Six voxels outside, sixteen from a slice: no temperature makes that doubtful."""
    for temperature in (INTERPOLATION, Temperature(0.1, 0.6)):
        assert temperature.probability(np.array([-9.0]), np.array([16.0])).item() < 0.01
        logits = np.linspace(-12, 12, 97)
        scaled = temperature.scaled(logits, np.full(97, 16.0))
        assert (np.diff(scaled) > 0).all()
        near = np.abs(logits) <= 4.5
        np.testing.assert_allclose(scaled[near], logits[near] / temperature.at(np.array(16.0)), rtol=1e-6)


def test_a_temperature_never_reaches_zero():
    for temperature in (Temperature(0.0, 0.0), Temperature(1.0, 1.0, 0.0)):
        assert (temperature.at(np.zeros(3)) > 0).all()


def test_a_temperature_rises_to_its_highest():
    found = Temperature(0.25, 0.5, 1.5).at(np.array([0.0, 1.0, 2.5, 3.0, 40.0]))
    np.testing.assert_allclose(found, [0.25, 0.75, 1.5, 1.5, 1.5])


def test_perfect_calibration_has_no_error():
    rng = np.random.default_rng(2)
    probability = rng.random(200_000)
    assert expected_calibration_error(probability, rng.random(200_000) < probability) < 0.005
    assert expected_calibration_error(np.array([0.0, 1.0, 1.0]), np.array([False, True, True])) == 0


@pytest.mark.parametrize(("said", "share", "expected"), [(0.9, 0.7, 0.2), (0.1, 0.4, 0.3), (1.0, 0.5, 0.5)])
def test_a_known_miscalibration_has_a_known_error(said, share, expected):
    inside = np.arange(1000) < 1000 * share
    assert expected_calibration_error(np.full(1000, said), inside) == pytest.approx(expected)


def test_errors_of_bins_are_weighted_by_their_size_and_do_not_cancel():
    probability = np.concatenate([np.full(100, 0.75), np.full(300, 0.25)])
    inside = np.concatenate([np.arange(100) < 100, np.arange(300) < 0])
    assert expected_calibration_error(probability, inside) == pytest.approx(0.25)
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) == 0


# The next slice


def completed(slices, grid=GRID) -> np.ndarray:
    field, distance = interpolation_field(slices).on_grid(grid)
    return INTERPOLATION.probability(1.5 * field, distance)


def distances_mm(slices, grid=GRID) -> np.ndarray:
    return interpolation_field(slices).on_grid(grid)[1]


@pytest.mark.parametrize("turned", [False, True])
def test_the_next_slice_lies_in_the_middle_of_the_largest_gap(turned):
    layout = SliceLayout("axial", 4.0)
    bar = outline(layout, np.zeros(3), np.full(3, EXTENT_MM), lambda points: 22 - np.abs(points[:, :2]).sum(1))
    slices = tuple(one for one in bar if not -9 < one.origin_lps_mm[2] < 7)  # none between -12 and 8 mm
    grid, normal = GRID, np.array([0.0, 0.0, 1.0])
    if turned:
        slices, grid, normal = tuple(moved(one, TURNED, np.zeros(3)) for one in slices), moved_grid(GRID, TURNED, np.zeros(3)), TURNED[:, 2]
    probability = completed(slices, grid)
    found = next_slice(probability, distances_mm(slices, grid), grid, slices, 4.0)
    assert abs(found.normal_lps @ normal) == pytest.approx(1, abs=1e-6)
    assert found.center_lps_mm @ normal == pytest.approx(-2.0, abs=1.0)
    middle = np.abs(grid.points_lps_mm() @ normal + 2) < 1.01
    section = grid.points_lps_mm()[middle & (probability > 0.5)]
    apart = section - found.center_lps_mm
    apart -= np.outer(apart @ normal, normal)
    assert np.linalg.norm(apart, axis=1).max() <= found.extent_mm / np.sqrt(2) and found.extent_mm < 2 * EXTENT_MM
    wrong = np.minimum(probability, 1 - probability)
    assert 0 < found.gain <= wrong.sum() * grid.voxel_volume_mm3


def test_where_everything_is_sure_there_is_no_next_slice():
    slices = Toy().slices()
    sure = (Toy().on(GRID) > 0).astype(np.float32)
    distance_mm = distances_mm(slices)
    assert next_slice(sure, distance_mm, GRID, slices, 4.0) is None
    assert next_slice(np.clip(sure, 0.04, 0.96), distance_mm, GRID, slices, 4.0) is None


def test_what_a_slice_beside_it_has_told_does_not_count():
    """Two layers as doubtful as each other: the one farther from all slices is chosen, however little doubt is left of the other."""
    heights = GRID.points_lps_mm()[..., 2]
    probability = np.zeros(GRID.shape_kji, np.float32)
    probability[np.abs(heights - 8) < 1.1], probability[np.abs(heights + 8) < 1.1] = 0.4, 0.35
    plane = SliceLayout("axial", 100.0, 9.0)
    slices = outline(plane, np.zeros(3), np.full(3, EXTENT_MM), lambda points: 20 - np.linalg.norm(points[:, :2], axis=1))
    found = next_slice(probability, distances_mm(slices), GRID, slices, 4.0)
    assert found.center_lps_mm[2] == pytest.approx(-8, abs=1)
    assert next_slice(probability, np.full(GRID.shape_kji, 50.0), GRID, slices, 4.0).center_lps_mm[2] == pytest.approx(8, abs=1)


def test_the_plane_that_settles_most_is_chosen_of_all_directions():
    """Doubt in a thin sagittal layer is settled by one sagittal slice, whatever was outlined so far."""
    probability = np.zeros(GRID.shape_kji, np.float32)
    layer = np.abs(GRID.points_lps_mm()[..., 0] - 7.0) < 1.1
    probability[layer] = 0.4
    far = np.full(GRID.shape_kji, 50.0)
    found = next_slice(probability, far, GRID, Toy().slices("oblique", normal_lps=(1.0, 2.0, 2.0)), 4.0)
    assert np.abs(found.normal_lps) == pytest.approx([1, 0, 0]) and found.center_lps_mm[0] == pytest.approx(7.0, abs=0.5)
    assert found.gain == pytest.approx(0.4 * layer.sum() * 8, rel=0.15)
    np.testing.assert_allclose(found.center_lps_mm[1:], 0, atol=0.5)
