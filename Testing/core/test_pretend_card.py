"""Iterations stay on the card: nothing of the host gets among its tensors, and nothing is copied back within one."""

from __future__ import annotations

import numpy as np
import phantom_scene
import pytest
import torch
from pretend_card import CARD, Misplaced, watched
from splat_scenes import NEEDS_WARP

from IntraopReconLib.core.config import FitSettings, IxgsSettings, SartSettings
from IntraopReconLib.core.splatting.fit import FitState, OnCard, fit
from IntraopReconLib.core.splatting.initialise import at_random
from IntraopReconLib.core.splatting.ixgs import fit_ixgs
from IntraopReconLib.core.voxels.kernels import CardVoxels
from IntraopReconLib.core.voxels.sart import SartState, run_sart

pytestmark = NEEDS_WARP
STEPS = 4


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _gaussians(ready):
    return at_random(ready.extent_mm, 30, np.random.default_rng(0))


@pytest.mark.parametrize("views_at_once", [None, 1])
def test_steps_of_a_fit_stay_on_the_card(ready, monkeypatch, views_at_once):
    settings, steps = FitSettings(STEPS), []
    with watched(monkeypatch):
        state = FitState.of(_gaussians(ready).to(CARD), settings)
        fit(ready, ready.training, state, settings, 0, STEPS, lambda now: steps.append(now.step), OnCard("warp", views_at_once))
    assert steps == list(range(1, STEPS + 1)) and 0 < settings.coarse_steps < STEPS
    assert all(value.device.type == CARD for value in state.gaussians.named().values())


def test_cycles_of_voxels_stay_on_the_card(ready, monkeypatch):
    grid, cycles = ready.grid(4.0), []
    state = SartState.of(np.zeros(grid.shape_kji))
    with watched(monkeypatch):
        state.put(CardVoxels(CARD))
        run_sart(ready, ready.training, grid, state, SartSettings(3), 0, lambda now: cycles.append(now.cycle))
    assert cycles == [1, 2, 3]
    assert {array.device.type for array in (state.volume, state.previous, state.dual)} == {CARD}


def test_steps_of_the_published_recipe_stay_on_the_card(ready, monkeypatch):
    settings, steps = IxgsSettings(STEPS, densify_from=STEPS), []
    with watched(monkeypatch):
        arguments = ready, ready.training, _gaussians(ready).to(CARD), 3.0, settings, 0, lambda now: steps.append(now.step)
        fitted = fit_ixgs(*arguments, "warp")
    assert len(steps) == STEPS and fitted.means_mm.device.type == CARD


MISTAKES = {
    "sum": lambda there: there + torch.ones(3),
    "product": lambda there: there @ torch.ones(3),
    "joined": lambda there: torch.cat([there, torch.ones(3)]),
    "value": lambda there: float(there.sum()),
    "copy": lambda there: there.cpu(),
    "branch": lambda there: bool((there > 0).any()),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_watch_sees_mistakes(monkeypatch, mistake):
    there = torch.ones(3, device=CARD)
    with watched(monkeypatch), pytest.raises((Misplaced, RuntimeError, NotImplementedError)):
        MISTAKES[mistake](there)
