"""The published recipe: its loss falls, its density control grows and removes, its chance is seeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
import torch

from IntraopReconLib.core.config import IxgsSettings
from IntraopReconLib.core.splatting import ixgs
from IntraopReconLib.core.splatting.fit import projection_rmse
from IntraopReconLib.core.splatting.initialise import at_random
from IntraopReconLib.core.splatting.ixgs import fit_ixgs
from SparseAnatomyLib.errors import Cancelled

FAST = {"first_rates": (2e-3, 3e-2, 1e-2, 1e-1), "tv_voxels": 8}


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition(8).binned(2)


def _start(ready, count=300):
    return at_random(ready.extent_mm, count, np.random.default_rng(0))


def _fit(ready, settings, seed=0, gaussians=None, after_step=lambda state: None):
    return fit_ixgs(ready, ready.training, _start(ready) if gaussians is None else gaussians, 3.0, settings, seed, after_step)


def test_the_withheld_views_are_explained_better(ready):
    before = projection_rmse(ready, ready.withheld, _start(ready))
    assert projection_rmse(ready, ready.withheld, _fit(ready, IxgsSettings(60, **FAST))) < 0.6 * before


def test_the_published_settings_are_the_defaults():
    settings = IxgsSettings(30_000)
    assert (settings.ssim_weight, settings.tv_weight, settings.tv_voxels) == (0.25, 0.05, 32)
    assert settings.densify_until_share * settings.iterations == 15_000
    assert (settings.densify_from, settings.densify_every) == (500, 100)
    assert settings.gradient_threshold == 5e-5


def test_the_same_seed_gives_the_same_gaussians(ready):
    settings = IxgsSettings(12, densify_from=3, densify_every=4, gradient_threshold=1e-6, densify_until_share=1.0, **FAST)
    first, again, other = (_fit(ready, settings, seed) for seed in (1, 1, 2))
    assert len(first) > 300
    for name, value in first.named().items():
        assert torch.equal(value, again.named()[name])
    assert len(other) != len(first) or not torch.equal(other.means_mm, first.means_mm)


def test_density_is_controlled_only_when_it_should_be(ready):
    counts = []
    settings = IxgsSettings(20, densify_from=4, densify_every=5, densify_until_share=0.5, gradient_threshold=0.0, **FAST)
    _fit(ready, settings, after_step=lambda state: counts.append(len(state.gaussians)))
    changes = [step for step in range(1, 20) if counts[step] != counts[step - 1]]
    assert changes == [4, 9]  # after iterations 5 and 10
    assert counts[4] == 600


@pytest.mark.parametrize(("split_scale", "grows"), [(0.0, "split"), (10.0, "clone")])
def test_wide_gaussians_are_split_and_narrow_ones_cloned(ready, split_scale, grows, monkeypatch):
    numbers = {"split": 0, "clone": 0}

    def counting(name):
        act = getattr(ixgs, name)

        def counted(gaussians, optimizer, which, *rest):
            numbers[name] += int(which.sum())
            return act(gaussians, optimizer, which, *rest)

        return counted

    for name in numbers:
        monkeypatch.setattr(ixgs, name, counting(name))
    settings = IxgsSettings(
        4, densify_from=1, densify_every=2, densify_until_share=0.5, gradient_threshold=0.0, split_scale=split_scale, **FAST
    )
    _fit(ready, settings)
    assert numbers.pop(grows) == 300
    assert set(numbers.values()) == {0}


def test_faint_gaussians_are_removed_and_never_all(ready):
    settings = IxgsSettings(4, densify_from=1, densify_every=2, densify_until_share=0.5, gradient_threshold=1e9, **FAST)
    start = _start(ready)
    start.log_densities[:120] = -20.0
    assert len(_fit(ready, settings, gaussians=start)) == 180
    assert len(_fit(ready, replace(settings, least_density=1e9))) == 300


def test_growth_ends_at_its_limit(ready):
    limits = {"most_gaussians": 599, "gradient_threshold": 0.0}
    settings = IxgsSettings(4, densify_from=1, densify_every=2, densify_until_share=0.5, **limits, **FAST)
    assert len(_fit(ready, settings)) == 300


def test_rates_fall_from_the_first_to_the_last(ready):
    rates = []
    settings = IxgsSettings(10, tv_voxels=8)
    _fit(ready, settings, after_step=lambda state: rates.append([group["lr"] for group in state.optimizer.param_groups]))
    unit_mm = ready.extent_mm.max() / 2
    assert rates[0] == pytest.approx([2e-4 * unit_mm, 5e-3, 1e-3, 1e-2])
    assert np.diff(rates, axis=0).max() < 0
    assert rates[5][1] == pytest.approx(5e-3 * 10**-0.5)


def test_garbage_behind_the_mask_changes_nothing(ready):
    weights = ready.weights.copy()
    weights[:, 4:15, 2:11] = 0
    found = []
    for garbage in (0.0, -1e4):  # a bright one would change the peak that SSIM is told, where `prepare` leaves none
        dirty = replace(ready, weights=weights, attenuation=np.where(weights > 0, ready.attenuation, np.float32(garbage)))
        found.append(_fit(dirty, IxgsSettings(4, **FAST)))
    assert torch.equal(found[0].means_mm, found[1].means_mm)


def test_cancel_ends_it_at_once(ready):
    steps = []

    def cancel(state):
        steps.append(state.step)
        if state.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        _fit(ready, IxgsSettings(10, **FAST), after_step=cancel)
    assert steps == [1, 2, 3]
