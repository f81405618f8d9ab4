"""Iterations stay on the card: nothing of the host gets among its tensors, and nothing is copied back but how long lists are."""

from __future__ import annotations

import numpy as np
import phantom_scene
import pytest
import torch
from card_emulation import CARD, CardTensor, warp_on_emulated_card
from splat_scenes import NEEDS_WARP

from IntraopReconLib.core.config import FitSettings, IxgsSettings, SartSettings
from IntraopReconLib.core.splatting.fit import FitState, OnCard, fit
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.initialise import at_random
from IntraopReconLib.core.splatting.ixgs import fit_ixgs
from IntraopReconLib.core.voxels.kernels import CardVoxels
from IntraopReconLib.core.voxels.sart import SartState, run_sart

pytestmark = NEEDS_WARP
STEPS = 4


@pytest.fixture(scope="module")
def ready():
    return phantom_scene.acquisition()


def _gaussians(ready) -> Gaussians:
    return at_random(ready.extent_mm, 30, np.random.default_rng(0))


def _assert_alike(fitted: Gaussians, expected: Gaussians) -> None:
    for name, value in fitted.named().items():
        assert isinstance(value.detach(), CardTensor)
        torch.testing.assert_close(value.detach().held, expected.named()[name].detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("views_at_once", [None, 1])
def test_steps_of_a_fit_stay_on_the_card(ready, monkeypatch, views_at_once):
    settings, steps = FitSettings(STEPS), []
    expected = FitState.of(_gaussians(ready), settings)
    fit(ready, ready.training, expected, settings, 0, STEPS, lambda now: None, OnCard("warp", views_at_once))
    with warp_on_emulated_card(monkeypatch) as card:
        state = FitState.of(_gaussians(ready).to(CARD), settings)
        fit(ready, ready.training, state, settings, 0, STEPS, lambda now: steps.append(now.step), OnCard("warp", views_at_once))
    assert steps == list(range(1, STEPS + 1)) and 0 < settings.coarse_steps < STEPS
    assert card.downloads == 0
    assert card.numbers == STEPS * (settings.views_per_step if views_at_once else 1), "only how long a projection's lists are"
    _assert_alike(state.gaussians, expected.gaussians)


def test_cycles_of_voxels_stay_on_the_card(ready, monkeypatch):
    grid, volumes = ready.grid(4.0), []
    with warp_on_emulated_card(monkeypatch) as card:
        state = SartState.of(np.zeros(grid.shape_kji))
        state.put(CardVoxels(CARD))
        run_sart(ready, ready.training, grid, state, SartSettings(3), 0, lambda now: volumes.append(now.volume))
        assert card.downloads == card.numbers == 0
    expected = SartState.of(np.zeros(grid.shape_kji))
    run_sart(ready, ready.training, grid, expected, SartSettings(3), 0, lambda now: None)
    assert len(volumes) == 3
    np.testing.assert_allclose(volumes[-1].held.numpy(), expected.volume, rtol=0, atol=1e-3 * expected.volume.max())


def test_steps_of_the_published_recipe_stay_on_the_card(ready, monkeypatch):
    settings = IxgsSettings(STEPS, densify_from=STEPS)
    arguments = ready, ready.training
    expected = fit_ixgs(*arguments, _gaussians(ready), 3.0, settings, 0, lambda now: None, "warp")
    with warp_on_emulated_card(monkeypatch) as card:
        fitted = fit_ixgs(*arguments, _gaussians(ready).to(CARD), 3.0, settings, 0, lambda now: None, "warp")
    assert card.downloads == 0
    assert card.numbers == 2 * STEPS, "only how long the lists of a projection and of a voxelization are"
    _assert_alike(fitted, expected)


MISTAKES = {
    "sum": lambda there: there + torch.ones(3),
    "product": lambda there: there @ torch.ones(3),
    "joined": lambda there: torch.cat([there, torch.ones(3)]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_emulation_sees_mistakes(monkeypatch, mistake):
    with warp_on_emulated_card(monkeypatch), pytest.raises(AssertionError, match="of the CPU"):
        MISTAKES[mistake](torch.ones(3, device=CARD))


def test_the_emulation_counts_what_comes_back(monkeypatch):
    with warp_on_emulated_card(monkeypatch) as card:
        there = torch.ones(3, device=CARD)
        assert float(there.sum()) == 3 and bool((there > 0).any())
        assert there.cpu().tolist() == [1, 1, 1]
    assert (card.numbers, card.downloads) == (2, 1)
