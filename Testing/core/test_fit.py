"""Gaussians fitted to X-rays: they explain the images, go on from any step, and never look behind a mask."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
import torch

from IntraopReconLib.core.config import FitSettings
from IntraopReconLib.core.splatting.fit import FitState, OnCard, fit, projection_rmse
from IntraopReconLib.core.splatting.initialise import fit_density, from_volume
from IntraopReconLib.core.splatting.projector import Cameras
from IntraopReconLib.core.splatting.voxelizer import voxelize
from SparseAnatomyLib.errors import Cancelled

SETTINGS = FitSettings(24)
SPACING_MM = 3.0


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _start(ready, count=500, settings=SETTINGS):
    """Return Gaussians sampled from a blurred guess of the phantom."""
    grid = ready.grid(6.0)
    gaussians = from_volume(phantom_scene.truth(ready.lps_grid(6.0)), grid, count, np.random.default_rng(0))
    images, weights = torch.from_numpy(ready.attenuation), torch.from_numpy(ready.weights)
    fit_density(gaussians, Cameras.of(ready.geometries), images, weights)
    return FitState.of(gaussians, settings)


def _fit(ready, state, until=None, seed=0, after_step=lambda state: None, settings=SETTINGS):
    fit(ready, ready.training, state, settings, seed, settings.steps if until is None else until, after_step)
    return state


def _assert_equal(state, other):
    assert state.step == other.step
    for name, value in state.gaussians.named().items():
        assert torch.equal(value, other.gaussians.named()[name]), name


def _volume(ready, state):
    with torch.no_grad():
        return voxelize(state.gaussians, ready.grid(SPACING_MM)).numpy()


def test_fitting_explains_the_withheld_views_and_approaches_the_truth(ready):
    settings = FitSettings(50)
    state = _start(ready, settings=settings)
    expected = phantom_scene.truth(ready.lps_grid(SPACING_MM))
    before = projection_rmse(ready, ready.withheld, state.gaussians), phantom_scene.psnr_3d_db(_volume(ready, state), expected)
    _fit(ready, state, settings=settings)
    after = projection_rmse(ready, ready.withheld, state.gaussians), phantom_scene.psnr_3d_db(_volume(ready, state), expected)
    assert after[0] < 0.5 * before[0]
    assert after[1] > before[1] + 3
    assert after[1] > 34


def test_the_same_seed_gives_the_same_gaussians(ready):
    first, again, other = (_fit(ready, _start(ready), until=6, seed=seed) for seed in (3, 3, 4))
    _assert_equal(first, again)
    assert not torch.equal(first.gaussians.means_mm, other.gaussians.means_mm)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("steps", [0, 13], ids=["coarse", "fine"])
def test_views_held_in_parts_give_the_gradient_of_all(ready, most, steps):
    """Adam's memory is compared, not the step, whose length forgets that of the gradient."""
    start = _fit(ready, _start(ready), until=steps).arrays()
    whole, parts = (FitState.from_arrays({name: value.copy() for name, value in start.items()}, SETTINGS) for _ in range(2))
    fit(ready, ready.training, whole, SETTINGS, 0, steps + 1, lambda state: None)
    fit(ready, ready.training, parts, SETTINGS, 0, steps + 1, lambda state: None, OnCard("numba", most))
    for name, value in whole.arrays().items():
        if name.endswith("exp_avg"):
            np.testing.assert_allclose(parts.arrays()[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("stop", [0, 1, 12, 13, 14, 23])
def test_going_on_from_arrays_ends_in_the_same_gaussians(ready, stop):
    assert SETTINGS.coarse_steps == 13
    whole = _fit(ready, _start(ready))
    state = _fit(ready, _start(ready), until=stop)
    arrays = {name: value.copy() for name, value in state.arrays().items()}
    assert int(arrays["step"]) == stop
    _assert_equal(_fit(ready, FitState.from_arrays(arrays, SETTINGS)), whole)


def test_a_cancelled_fit_can_be_gone_on_with(ready):
    whole, state = _fit(ready, _start(ready)), _start(ready)

    def cancel(now):
        if now.step == 7:
            raise Cancelled

    with pytest.raises(Cancelled):
        _fit(ready, state, after_step=cancel)
    _assert_equal(_fit(ready, state), whole)


def test_steps_are_told_one_by_one_and_none_is_left_at_the_end(ready):
    steps, state = [], _start(ready)
    _fit(ready, state, until=5, after_step=lambda now: steps.append(now.step))
    _fit(ready, state, until=5, after_step=lambda now: pytest.fail("nothing is left"))
    _fit(ready, state, until=9, after_step=lambda now: steps.append(now.step))
    assert steps == list(range(1, 10))


@pytest.mark.parametrize("garbage", [1e4, -1e4])
def test_garbage_behind_the_mask_changes_nothing(ready, garbage):
    weights = ready.weights.copy()
    weights[:, 8:31, 5:22] = 0
    dirty = replace(ready, weights=weights, attenuation=np.where(weights > 0, ready.attenuation, np.float32(garbage)))
    clean = replace(ready, weights=weights, attenuation=np.where(weights > 0, ready.attenuation, 0))
    settings = FitSettings(4)
    states = [_fit(acquisition, _start(clean, settings=settings), settings=settings) for acquisition in (dirty, clean)]
    for value, other in zip(*(state.gaussians.named().values() for state in states), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-5)
    rmse = [projection_rmse(acquisition, np.arange(4), states[1].gaussians) for acquisition in (dirty, clean)]
    assert rmse[0] == pytest.approx(rmse[1])


def test_widths_stay_within_their_range(ready):
    settings = FitSettings(6, sigma_range_mm=(1.0, 1.5))
    state = _fit(ready, _start(ready, settings=settings), settings=settings)
    sigmas = state.gaussians.log_scales.detach().exp()
    assert float(sigmas.min()) >= 1.0 - 1e-5
    assert float(sigmas.max()) <= 1.5 + 1e-5


def test_two_views_are_enough_to_fit():
    ready = phantom_scene.acquisition(2)
    state = _fit(ready, _start(ready), until=4)
    assert all(torch.isfinite(value).all() for value in state.gaussians.named().values())


def test_every_view_comes_as_often_as_the_others(ready, monkeypatch):
    seen: Counter[int] = Counter()
    taken, state = Cameras.__getitem__, _start(ready)

    def count(cameras, index):
        seen.update(np.asarray(index).tolist())
        return taken(cameras, index)

    monkeypatch.setattr(Cameras, "__getitem__", count)
    _fit(ready, state)
    assert set(seen) == set(ready.training.tolist())
    assert max(seen.values()) - min(seen.values()) <= 1
