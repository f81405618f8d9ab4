"""SART: it converges, never goes negative, never looks behind a mask, and goes on from where it stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
from phantom_scene import REGION

from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.config import SartSettings
from IntraopReconLib.core.voxels.sart import SartState, residual_rmse, run_sart
from SparseAnatomyLib.errors import Cancelled

SPACING_MM = 4.0


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _silent(state):
    pass


def _run(ready, cycles=6, seed=0, indices=None, after_cycle=_silent, state=None, until=None):
    grid = ready.grid(SPACING_MM)
    state = SartState.of(np.zeros(grid.shape_kji)) if state is None else state
    indices = ready.training if indices is None else indices
    return run_sart(ready, indices, grid, state, SartSettings(cycles), seed, after_cycle, until)


def test_cycles_approach_the_truth(ready):
    expected, errors, residuals = phantom_scene.truth(ready.lps_grid(SPACING_MM)), [], []

    def after_cycle(state):
        errors.append(phantom_scene.psnr_3d_db(state.volume, expected))
        residuals.append(residual_rmse(ready, ready.withheld, ready.grid(SPACING_MM), state.volume))

    volume = _run(ready, 10, after_cycle=after_cycle)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert errors[-1] > 33
    assert errors[-1] > errors[0] + 0.5
    assert residuals[-1] < 0.5 * residuals[0]


def test_the_same_seed_gives_the_same_volume(ready):
    first, again, other = (_run(ready, 3, seed) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("garbage", [1e6, -1e6])
def test_garbage_behind_the_mask_changes_nothing(ready, garbage):
    weights = ready.weights.copy()
    weights[1:4, 10:30, 12:33] = 0
    dirty = replace(ready, weights=weights, attenuation=np.where(weights > 0, ready.attenuation, np.float32(garbage)))
    clean = replace(ready, weights=weights, attenuation=np.where(weights > 0, ready.attenuation, 0))
    np.testing.assert_array_equal(_run(dirty, 2), _run(clean, 2))
    grid, volume = clean.grid(SPACING_MM), np.zeros(clean.grid(SPACING_MM).shape_kji, np.float32)
    assert residual_rmse(dirty, np.arange(6), grid, volume) == residual_rmse(clean, np.arange(6), grid, volume)


def test_views_that_do_not_enter_change_nothing(ready):
    attenuation = ready.attenuation.copy()
    attenuation[ready.withheld] = 7.0
    np.testing.assert_array_equal(_run(replace(ready, attenuation=attenuation), 2), _run(ready, 2))


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_a_run_that_stopped_goes_on_to_the_same_volume(ready, stop):
    whole = _run(ready, 5)
    grid = ready.grid(SPACING_MM)
    state = SartState.of(np.zeros(grid.shape_kji))

    def cancel(now):
        if now.cycle == stop:
            raise Cancelled

    with pytest.raises(Cancelled):
        _run(ready, 5, state=state, after_cycle=cancel)
    np.testing.assert_array_equal(_run(ready, 5, state=state), whole)


def test_stopping_before_a_cycle_leaves_the_rest_to_a_later_call(ready):
    grid = ready.grid(SPACING_MM)
    state, cycles = SartState.of(np.zeros(grid.shape_kji)), []
    _run(ready, 5, state=state, until=3, after_cycle=lambda now: cycles.append(now.cycle))
    assert cycles == [1, 2, 3]
    _run(ready, 5, state=state, after_cycle=lambda now: cycles.append(now.cycle))
    assert cycles == [1, 2, 3, 4, 5]
    before = state.volume.copy()
    _run(ready, 5, state=state, after_cycle=lambda now: pytest.fail("nothing is left"))
    np.testing.assert_array_equal(state.volume, before)


def test_the_start_is_not_changed(ready):
    start = np.full(ready.grid(SPACING_MM).shape_kji, 0.001, np.float32)
    _run(ready, 2, state=SartState.of(start))
    assert (start == np.float32(0.001)).all()


def test_views_without_a_ray_through_the_box_add_nothing(ready):
    far = replace(REGION, center_lps_mm=(12.0, -30.0, 137.0))  # many views miss it, none all of it
    moved = prepare(phantom_scene.measured(phantom_scene.poses()), far, 0)
    volume = _run(moved, 2)
    assert np.isfinite(volume).all()


def test_a_residual_without_views_or_pixels_is_zero(ready):
    grid = ready.grid(SPACING_MM)
    volume = np.zeros(grid.shape_kji, np.float32)
    assert residual_rmse(ready, np.empty(0, int), grid, volume) == 0
    assert residual_rmse(replace(ready, weights=np.zeros_like(ready.weights)), np.arange(3), grid, volume) == 0


def test_the_residual_of_an_empty_volume_is_the_size_of_the_images(ready):
    grid = ready.grid(SPACING_MM)
    got = residual_rmse(ready, ready.withheld, grid, np.zeros(grid.shape_kji, np.float32))
    assert got == pytest.approx(np.sqrt(np.mean(ready.attenuation[ready.withheld] ** 2)), rel=1e-5)


def test_moving_the_whole_scene_changes_nothing(ready):
    motion = phantom_scene.a_rigid_motion()
    views = phantom_scene.moved(phantom_scene.measured(phantom_scene.poses()), motion)
    moved = prepare(views, phantom_scene.moved_region(REGION, motion), 0)
    here = _run(ready, 3)
    np.testing.assert_allclose(_run(moved, 3), here, atol=2e-3 * here.max())


def test_scaling_the_millimeters_scales_the_attenuation(ready):
    scale = np.diag([2.0, 2.0, 2.0, 1.0])
    views = phantom_scene.moved(phantom_scene.measured(phantom_scene.poses()), scale)
    region = replace(REGION, center_lps_mm=tuple(2 * x for x in REGION.center_lps_mm), extent_mm=tuple(2 * x for x in REGION.extent_mm))
    large, settings = prepare(views, region, 0), SartSettings(3, tv_mm=0.0)
    volumes = []
    for acquisition, spacing in ((ready, SPACING_MM), (large, 2 * SPACING_MM)):
        grid = acquisition.grid(spacing)
        state = SartState.of(np.zeros(grid.shape_kji))
        volumes.append(run_sart(acquisition, acquisition.training, grid, state, settings, 0, _silent))
    np.testing.assert_allclose(2 * volumes[1], volumes[0], atol=1e-4 * volumes[0].max())
