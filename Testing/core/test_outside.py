"""Anatomy beyond the region leaves the images, and only that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
from phantom_scene import BEYOND, PHANTOM, REGION

from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.config import SartSettings
from IntraopReconLib.core.outside import enlarged, with_room, without_outside
from IntraopReconLib.core.voxels.sart import SartState, run_sart


@pytest.fixture(scope="module")
def views():
    poses = phantom_scene.poses()
    return phantom_scene.measured(poses), phantom_scene.measured(poses, (*PHANTOM, BEYOND))


def _cleaned(views):
    return without_outside(prepare(views, REGION, 0), 0, lambda share: None)


def _error(found, expected):
    return float(np.sqrt(np.mean((found.attenuation - expected.attenuation) ** 2)))


def test_nothing_beyond_changes_little(views):
    bare = prepare(views[0], REGION, 0)
    cleaned, share = _cleaned(views[0])
    assert share < 0.1
    assert _error(cleaned, bare) < 0.03 * bare.attenuation.max()


def test_what_lies_beyond_leaves_the_images(views):
    bare, full = prepare(views[0], REGION, 0), prepare(views[1], REGION, 0)
    cleaned, share = _cleaned(views[1])
    assert share > 0.05
    assert _error(cleaned, bare) < 0.5 * _error(full, bare)


def test_nothing_lies_beyond_a_region_that_is_larger_than_all_views(views):
    wide = prepare(views[1], replace(REGION, extent_mm=(600.0, 700.0, 650.0)), 0)
    cleaned, share = without_outside(wide, 0, lambda share: None)
    assert share == 0
    np.testing.assert_array_equal(cleaned.attenuation, wide.attenuation)


def test_the_volume_inside_is_better_without_the_outside(views):
    full, (cleaned, _) = prepare(views[1], REGION, 0), _cleaned(views[1])
    errors = []
    for acquisition in (full, cleaned):
        grid = acquisition.grid(4.0)
        state = SartState.of(np.zeros(grid.shape_kji))
        volume = run_sart(acquisition, acquisition.training, grid, state, SartSettings(6), 0, lambda state: None)
        errors.append(np.sqrt(np.mean((volume - phantom_scene.truth(acquisition.lps_grid(4.0))) ** 2)))
    assert errors[1] < 0.8 * errors[0]


def test_garbage_behind_the_mask_changes_nothing(views):
    found = []
    for garbage in (0.0, np.nan, 1e6):
        masked = []
        for view in views[1]:
            mask = view.mask.copy()
            mask[:7] = False
            masked.append(replace(view, mask=mask, attenuation=np.where(mask, view.attenuation, np.float32(garbage))))
        found.append(_cleaned(masked))
    for cleaned, share in found[1:]:
        assert share == found[0][1]
        np.testing.assert_array_equal(cleaned.attenuation, found[0][0].attenuation)
    assert (found[0][0].attenuation[:, :7] == 0).all()


def test_progress_is_told_as_a_share(views):
    shares = []
    without_outside(prepare(views[0], REGION, 0), 0, shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] == 1


@pytest.mark.parametrize("extent_mm", [(3.0, 3.0, 3.0), (20.0, 30.0, 25.0), (61.0, 40.0, 77.0), (150.0, 160.0, 170.0)])
@pytest.mark.parametrize("spacing_mm", [0.1, 0.5, 1.5, 4.0])
def test_a_region_with_room_has_the_regions_voxels_and_not_many_more(views, extent_mm, spacing_mm):
    region = prepare(views[0], replace(REGION, extent_mm=extent_mm), 0)
    wider, kept = with_room(region, spacing_mm)
    inner, outer = region.grid(spacing_mm), wider.grid(spacing_mm)
    first = [side.start for side in kept[::-1]]
    assert tuple(side.stop - side.start for side in kept) == inner.shape_kji
    assert np.prod(outer.size_ijk, dtype=float) <= max(128**3, 4 * np.prod(inner.size_ijk, dtype=float))
    np.testing.assert_allclose(outer.origin_lps_mm + np.array(first) * spacing_mm, inner.origin_lps_mm, atol=1e-9)
    if spacing_mm > 1:
        assert min(first) * spacing_mm >= 15


@pytest.mark.parametrize(("rows", "columns", "factor"), [(8, 6, 1), (8, 6, 2), (9, 7, 2), (11, 14, 4), (5, 3, 8)])
def test_enlarging_keeps_linear_images_between_the_pixels_at_the_border(rows, columns, factor):
    row, column = np.meshgrid(np.arange(rows, dtype=np.float32), np.arange(columns, dtype=np.float32), indexing="ij")
    image = 0.5 + 0.1 * row - 0.07 * column
    kept = image[: max(1, rows // factor) * factor, : max(1, columns // factor) * factor]
    if min(kept.shape) < factor:
        binned = np.full((1, 1), kept.mean(), np.float32)
    else:
        binned = kept.reshape(kept.shape[0] // factor, factor, kept.shape[1] // factor, factor).mean((1, 3))
    found = enlarged(binned, factor, image.shape)
    assert found.shape == image.shape
    assert found.dtype == np.float32
    half = factor // 2
    inner = np.s_[half : binned.shape[0] * factor - half, half : binned.shape[1] * factor - half]
    np.testing.assert_allclose(found[inner], image[inner], atol=1e-5)
