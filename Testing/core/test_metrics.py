"""Metrics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from SparseAnatomyLib.metrics import dice, isosurface_distances, psnr_db, ssim, ssim_map, surface_distances, volume_error_percent

SPACING_MM = np.array([0.8, 1.0, 1.5])  # i, j, k


def distance_to_center(shape_kji, center_mm=(0.0, 0.0, 0.0)):
    """Distance in mm from the middle of the array, displaced by (i, j, k) mm."""
    k, j, i = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape_kji), indexing="ij")
    return np.sqrt(sum((x * s - c) ** 2 for x, s, c in zip((i, j, k), SPACING_MM, center_mm, strict=True)))


def slab(first, last):
    mask = np.zeros((20, 14, 12), bool)
    mask[first:last] = True
    return mask


def test_psnr_of_a_constant_error():
    truth = np.random.default_rng(0).uniform(size=(5, 6, 7)).astype(np.float32)
    assert psnr_db(truth + 0.01, truth, peak=0.5) == pytest.approx(20 * np.log10(0.5 / 0.01), abs=1e-3)


def test_psnr_looks_only_inside_the_mask():
    truth, image, mask = np.zeros((4, 4)), np.zeros((4, 4)), np.ones((4, 4), bool)
    image[0], mask[0] = 9.0, False
    image[1:] = 0.1
    assert psnr_db(image, truth, 1.0, mask) == pytest.approx(20.0)
    assert psnr_db(truth, truth, 1.0) == np.inf
    assert np.isnan(psnr_db(image, truth, 1.0, np.zeros((4, 4), bool)))


@pytest.mark.parametrize("shape", [(16, 20), (12, 13, 14)])
def test_ssim_of_two_constants(shape):
    a, b, c1 = 0.3, 0.5, (0.01 * 0.8) ** 2
    assert ssim(np.full(shape, a), np.full(shape, b), peak=0.8) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-5)


def test_ssim_is_one_for_equal_images_and_local():
    truth = np.random.default_rng(1).uniform(size=(40, 40)).astype(np.float32)
    image = truth.copy()
    image[:, :10] = 0
    left = np.zeros(truth.shape, bool)
    left[:, :8] = True
    assert ssim(truth, truth, 1.0) == pytest.approx(1)
    assert ssim(image, truth, 1.0, np.flip(left, 1)) == pytest.approx(1)
    assert ssim(image, truth, 1.0, left) < 0.2
    assert ssim(image, truth, 1.0) == pytest.approx(ssim_map(image, truth, 1.0).mean(), abs=1e-6)


def test_dice_and_volume_error_of_slabs():
    assert dice(slab(4, 12), slab(8, 14)) == pytest.approx(2 * 4 / (8 + 6))
    assert volume_error_percent(slab(4, 12), slab(8, 14)) == pytest.approx(100 * 2 / 6)
    assert volume_error_percent(slab(0, 3), slab(0, 6)) == pytest.approx(-50)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_parallel_planes_are_as_far_apart_as_they_were_moved(shift):
    distances = surface_distances(slab(5 + shift, 20), slab(5, 20), SPACING_MM)  # the far side lies on the border: no surface
    moved_mm = shift * 1.5
    assert distances.average_mm == pytest.approx(moved_mm)
    assert distances.hd95_mm == pytest.approx(moved_mm)
    assert distances.nsd(moved_mm) == 1
    assert distances.nsd(moved_mm - 0.1) == 0


def test_faces_carry_their_area():
    mask = np.zeros((12, 12, 12), bool)
    mask[3:7, 3:8, 3:9] = True  # 6 × 5 × 4 voxels along i, j, k
    a, b, c = np.array([6, 5, 4]) * SPACING_MM
    assert surface_distances(mask, mask, SPACING_MM).area_mm2.sum() == pytest.approx(2 * (a * b + b * c + c * a))


def test_one_displaced_side_weighs_by_its_area():
    truth = np.zeros((30, 12, 12), bool)
    truth[10:20, 3:9, 3:9] = True
    longer = truth.copy()
    longer[20, 3:9, 3:9] = True  # one voxel, 1.5 mm, along k
    distances = surface_distances(longer, truth, SPACING_MM)
    end, side = 36 * 0.8 * 1.0, 11 * 6 * 1.5 * (0.8 + 1.0) * 2
    assert distances.area_mm2.sum() == pytest.approx(2 * end + side)
    assert distances.area_mm2[np.isclose(distances.to_truth_mm, 1.5)].sum() == pytest.approx(end)
    assert distances.truth_area_mm2[np.isclose(distances.from_truth_mm, 0)].sum() == pytest.approx(end + side * 10 / 11)


@pytest.mark.parametrize(("radius_mm", "other_mm"), [(10.0, 10.6), (9.0, 11.5)])
def test_concentric_spheres_are_as_far_apart_as_their_radii(radius_mm, other_mm):
    distance = distance_to_center((24, 32, 40))
    apart = isosurface_distances(-distance, -distance + (other_mm - radius_mm), -radius_mm, SPACING_MM)
    assert apart.average_mm == pytest.approx(other_mm - radius_mm, abs=0.03)
    assert apart.hd95_mm == pytest.approx(other_mm - radius_mm, abs=0.1)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8)])
def test_shifted_sphere(direction):
    """A sphere moved by d: distances are d·|cos θ|, of mean d/2 over the sphere and 95th percentile 0.95 d."""
    d = 2.0
    fixed, moved = (-distance_to_center((26, 36, 44), np.array(direction) * shift) for shift in (0, d))
    apart = isosurface_distances(moved, fixed, -11.0, SPACING_MM)
    assert apart.average_mm == pytest.approx(d / 2, abs=0.05)
    assert apart.hd95_mm == pytest.approx(0.95 * d, rel=0.05)
    assert apart.nsd(1.0) == pytest.approx(0.5, abs=0.06)
    as_masks = surface_distances(moved > -11, fixed > -11, SPACING_MM)
    assert as_masks.average_mm == pytest.approx(d / 2, abs=0.25)


def test_isosurfaces_see_less_than_a_voxel():
    k = np.arange(20.0)[:, None, None] * np.ones((1, 14, 12))
    apart = isosurface_distances(k, k + 0.2, 9.5, SPACING_MM)
    assert apart.average_mm == pytest.approx(0.2 * 1.5)
    assert surface_distances(k > 9.5, k + 0.2 > 9.5, SPACING_MM).average_mm == 0


def test_missing_anatomy_is_infinitely_far():
    empty, some = np.zeros((20, 14, 12), bool), slab(5, 10)
    for distances in (surface_distances(empty, some, SPACING_MM), surface_distances(some, empty, SPACING_MM)):
        assert distances.average_mm == np.inf
        assert distances.hd95_mm == np.inf
        assert distances.nsd(5) == 0
    assert dice(empty, some) == 0
    assert volume_error_percent(some, empty) == np.inf
    assert volume_error_percent(empty, some) == -100


def test_two_empty_masks_agree_and_all_against_nothing_does_not():
    empty, full = np.zeros((5, 5, 5), bool), np.ones((5, 5, 5), bool)
    agree, differ = surface_distances(empty, empty, SPACING_MM), surface_distances(full, empty, SPACING_MM)
    assert (agree.average_mm, agree.hd95_mm, agree.nsd(1)) == (0, 0, 1)
    assert (differ.average_mm, differ.hd95_mm, differ.nsd(1)) == (np.inf, np.inf, 0)
    assert dice(empty, empty) == 1
    assert volume_error_percent(empty, empty) == 0


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (5, 6, 7)), arrays(bool, (5, 6, 7)))
def test_surface_metrics_are_symmetric(a, b):
    one, other = surface_distances(a, b, SPACING_MM), surface_distances(b, a, SPACING_MM)
    assert one.average_mm == pytest.approx(other.average_mm)
    assert one.hd95_mm == pytest.approx(other.hd95_mm)
    assert one.nsd(1.0) == pytest.approx(other.nsd(1.0))
    assert 0 <= one.nsd(1.0) <= one.nsd(2.0) <= 1
    assert dice(a, b) == dice(b, a)


@pytest.mark.parametrize("metric", [dice, volume_error_percent, lambda a, b: psnr_db(a, b, 1.0), lambda a, b: ssim(a, b, 1.0)])
def test_shapes_must_agree(metric):
    with pytest.raises(ValueError, match=r"expected the shape of"):
        metric(np.zeros((12, 12)), np.zeros((12, 13)))
