"""Views made ready: one frame, one size, exact bins, some withheld; what will not do is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
from phantom_scene import REGION

from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.grading import graded
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points


@pytest.fixture(scope="module")
def views():
    return phantom_scene.measured(phantom_scene.poses(6))


def _with(views, index, **changes):
    return [replace(view, **changes) if n == index else view for n, view in enumerate(views)]


def test_geometry_moves_into_the_frame_of_the_box(views):
    region = phantom_scene.moved_region(REGION, phantom_scene.a_rigid_motion())
    ready = prepare(views, region, 0)
    in_box = np.array([[0, 0, 0], [10, -20, 5], [-3, 7, 30.0]])
    assert transform_points(ready.lps_from_box, in_box[0]) == pytest.approx(region.center_lps_mm)
    for view, geometry in zip(views, ready.geometries, strict=True):
        np.testing.assert_allclose(geometry.project(in_box), view.geometry.project(transform_points(ready.lps_from_box, in_box)), atol=1e-8)
    grid, lps_grid = ready.grid(4.0), ready.lps_grid(4.0)
    np.testing.assert_allclose(transform_points(ready.lps_from_box, grid.points_lps_mm()), lps_grid.points_lps_mm(), atol=1e-9)
    np.testing.assert_allclose(ready.grid(4.0, 2.0).extent_mm, 2 * ready.extent_mm, atol=4.0)


def test_smaller_images_are_padded_without_weight(views):
    small = replace(views[2], attenuation=views[2].attenuation[:31, :40], mask=views[2].mask[:31, :40])
    small = replace(small, geometry=replace(small.geometry, size_px=(40, 31)))
    ready = prepare([*views[:2], small, *views[3:]], REGION, 0)
    rows, columns = views[0].attenuation.shape
    assert ready.attenuation.shape == ready.weights.shape == (6, rows, columns)
    assert ready.weights[2, :31, :40].all()
    assert ready.weights[2].sum() == 31 * 40
    assert {geometry.size_px for geometry in ready.geometries} == {(columns, rows)}
    np.testing.assert_allclose(ready.geometries[2].detector_origin_lps_mm, prepare(views, REGION, 0).geometries[2].detector_origin_lps_mm)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e30, 1e30])
def test_what_the_mask_leaves_out_never_counts(views, garbage):
    mask = views[1].mask.copy()
    mask[5:20, 3:17] = False
    clean = prepare(_with(views, 1, mask=mask), REGION, 0)
    attenuation = np.where(mask, views[1].attenuation, np.float32(garbage))
    dirty = prepare(_with(views, 1, mask=mask, attenuation=attenuation), REGION, 0)
    for factor in (1, 2, 4):
        np.testing.assert_array_equal(dirty.binned(factor).attenuation, clean.binned(factor).attenuation)
        np.testing.assert_array_equal(dirty.binned(factor).weights, clean.binned(factor).weights)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bins_are_exact_means_where_the_pixels_are_at_their_mean(views, factor):
    mask = np.random.default_rng(0).random(views[0].mask.shape) > 0.4
    ready = prepare(_with(views, 0, mask=mask), REGION, 0)
    binned = ready.binned(factor)
    row, column = 2, 3
    block = np.s_[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
    assert binned.attenuation[1, row, column] == pytest.approx(views[1].attenuation[block].mean(), rel=1e-5)
    assert binned.attenuation[0, row, column] == pytest.approx(views[0].attenuation[block][mask[block]].mean(), rel=1e-5)
    assert binned.weights[0, row, column] == (mask[block].mean() >= 0.5)
    pixels = views[1].geometry.all_pixels_lps_mm()[block].reshape(-1, 3).mean(0)
    found = transform_points(ready.lps_from_box, binned.geometries[1].pixel_lps_mm([column, row]))
    np.testing.assert_allclose(found, pixels, atol=1e-9)
    assert binned.geometries[1].size_px == binned.attenuation.shape[:0:-1]


def test_bins_wider_than_the_image_keep_one_pixel(views):
    binned = prepare(views, REGION, 0).binned(64)
    assert binned.attenuation.shape == (6, 1, 1)
    assert np.isfinite(binned.attenuation).all()


@pytest.mark.parametrize(("count", "withheld"), [(2, 0), (5, 0), (6, 1), (11, 1), (12, 2), (50, 2)])
def test_few_views_are_withheld_and_only_where_there_are_enough(views, count, withheld):
    many = (views * 9)[:count]
    chosen = [tuple(prepare(many, REGION, seed).withheld) for seed in range(6)]
    assert {len(c) for c in chosen} == {withheld}
    assert withheld == 0 or len(set(chosen)) > 1
    ready = prepare(many, REGION, 5)
    assert tuple(prepare(many, REGION, 5).withheld) == tuple(ready.withheld)
    assert sorted([*ready.training, *ready.withheld]) == list(range(count))


def test_binning_follows_the_pixels_at_the_center(views):
    ready = prepare(views, REGION, 0)
    geometry = ready.geometries[0]
    pitch = geometry.pixel_pitch_mm.mean() * geometry.depth_mm(np.zeros(3)) / geometry.source_to_detector_mm
    assert ready.pixel_at_center_mm == pytest.approx(pitch, rel=0.1)
    pixel = ready.pixel_at_center_mm
    assert [ready.binning_for(pixel * share) for share in (0.1, 1.0, 1.9, 2.1, 3.9, 4.1)] == [1, 1, 1, 2, 2, 4]
    assert ready.binned(2).pixel_at_center_mm == pytest.approx(2 * pixel)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_views_are_refused(views, count):
    with pytest.raises(InputError, match=f"{count} usable") as caught:
        prepare(views[:count], REGION, 0)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((44, 48), bool)}, "every pixel is masked"),
        ({"attenuation": np.full((44, 48), np.nan, np.float32)}, "NaN"),
        ({"attenuation": np.full((44, 48), np.inf, np.float32)}, "infinite"),
    ],
)
def test_a_view_that_will_not_do_is_named(views, change, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(_with(views, 4, **change), REGION, 0)
    assert "xrays/view_004.dcm" in caught.value.message
    assert caught.value.remedy


def test_one_nan_inside_the_mask_is_refused(views):
    attenuation = views[3].attenuation.copy()
    attenuation[20, 20] = np.nan
    with pytest.raises(InputError, match=r"view_003.*NaN"):
        prepare(_with(views, 3, attenuation=attenuation), REGION, 0)


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_empty_x_rays_are_refused(views, value):
    empty = [replace(view, attenuation=np.full_like(view.attenuation, value)) for view in views]
    with pytest.raises(InputError, match="attenuates"):
        prepare(empty, REGION, 0)


@pytest.mark.parametrize("shift", [(2000, 0, 0), (0, 0, -900), (0, 5000, 0), (0, -5000, 0)])
def test_a_region_outside_every_view_is_refused(views, shift):
    center = tuple(float(a + b) for a, b in zip(REGION.center_lps_mm, shift, strict=True))
    with pytest.raises(InputError, match="region of interest"):
        prepare(views, replace(REGION, center_lps_mm=center), 0)


def test_views_that_are_left_out_do_not_count_towards_the_grade():
    acquisition = prepare(phantom_scene.measured(phantom_scene.poses(11)), REGION, 0)
    assert graded(acquisition, np.ones(8), 0.0) == ("good", [])
    grade, (sentence,) = graded(acquisition.without(np.arange(3, 11), 0), np.ones(8), 0.0)
    assert grade == "poor" and "Only 3 X-rays" in sentence
