"""A prior is believed on its own kind, and put to the test on anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shape_toys import Toy, ball_slices, family, toy_prior

from ShapeCompletionLib.core import trust
from ShapeCompletionLib.core.complete import complete
from ShapeCompletionLib.core.config import CompletionConfig, TrainingConfig
from ShapeCompletionLib.core.cube import CubeView, cube_view
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.meta_train import Training
from ShapeCompletionLib.core.predict import predict
from ShapeCompletionLib.core.prior import Prior
from ShapeCompletionLib.core.sampling import Context, Slice
from ShapeCompletionLib.core.trust import HeldOut, judge, predict_left_out
from SparseAnatomyLib.grid import VoxelGrid

EXTENT_MM = 96.0


@pytest.fixture(scope="module")
def trained() -> Prior:
    """Return a prior whose implicit network has learned toys, a little; its residual network corrects nothing."""
    torch.set_num_threads(1)
    config = TrainingConfig(extent_mm=EXTENT_MM, inr_steps=50, inr_tasks=2, context_points=256, target_points=256, refine_steps=1)
    training = Training(family(4), config)
    for _ in range(config.inr_steps):
        training.take_step()
    inr = {name: value.detach() for name, value in training.inr.items()}
    prior = toy_prior(inr=inr, card=replace(toy_prior().card, extent_mm=EXTENT_MM))
    seen = [predict(prior, view_of(Toy().slices("axial", 8.0, offset))).evidence for offset in (0.0, 3.0, 6.0)]
    return replace(prior, usual_evidence=min(seen) - 0.05)


def view_of(slices: tuple[Slice, ...]) -> CubeView:
    return cube_view(slices, EXTENT_MM)


def harmful(prior: Prior) -> Prior:
    """Return the prior with a residual network that swells everything."""
    refine = toy_prior().refine
    with torch.no_grad():
        refine.exit.bias.fill_(12.0)
    return replace(prior, refine=refine)


def unlike_toys() -> tuple[Slice, ...]:
    """Return slices of a thin, bent plate with holes."""

    def plate(points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        thin = 3 - np.abs(y - 14 * np.sin(x / 5) - 0.2 * z)
        return np.minimum(np.minimum(thin, 30 - np.abs(x)), 26 - np.abs(z))

    return outline(SliceLayout("axial", 8.0, 1.0), np.zeros(3), np.full(3, EXTENT_MM), plate, 1.0)


def test_its_own_kind_is_believed(trained):
    view = view_of(Toy().slices("axial", 8.0, 4.0))
    verdict = judge(trained, view, predict(trained, view), "auto")
    assert verdict.use_prior and verdict.warnings == () and "fit the prior Toy" in verdict.reason


def test_something_else_is_less_likely_and_a_prior_that_harms_is_not_used(trained):
    view = view_of(unlike_toys())
    prior = harmful(trained)
    prediction = predict(prior, view)
    assert prediction.evidence < trained.usual_evidence
    verdict = judge(prior, view, prediction, "auto")
    assert not verdict.use_prior and "slices left out" in verdict.reason and "interpolated" in verdict.reason
    assert len(verdict.warnings) == 1 and "not used" in verdict.warnings[0]
    context = Context(view.interpolation.slices, VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, 2.0))
    done = complete(context, prior)
    assert done.method == "interpolate" and done.prior is None and verdict.warnings[0] in done.warnings


def test_something_else_that_the_prior_does_no_better_on_is_interpolated(trained):
    view = view_of(unlike_toys())
    verdict = judge(trained, view, predict(trained, view), "auto")
    test = predict_left_out(trained, view)
    assert test.prior == test.interpolation  # it corrects nothing
    assert not verdict.use_prior and f"{test.prior:.2f}" in verdict.reason and len(verdict.warnings) == 1


@pytest.mark.parametrize(("by_prior", "is_used"), [(0.80, False), (0.86, False), (0.88, True), (0.99, True)])
def test_something_else_is_left_to_a_prior_that_is_clearly_better(trained, monkeypatch, by_prior, is_used):
    """Beside interpolation's 0.80, since slices left out are twice as far from their neighbors as others."""
    monkeypatch.setattr(trust, "predict_left_out", lambda prior, view: HeldOut(by_prior, 0.80, 5))
    view = view_of(unlike_toys())
    verdict = judge(trained, view, predict(trained, view), "auto")
    assert verdict.use_prior == is_used == (not verdict.warnings) and "on 5 slices left out" in verdict.reason


def test_too_few_slices_for_a_test_are_interpolated(trained):
    view = view_of(unlike_toys()[:2])
    strict = replace(trained, usual_evidence=1e6)
    verdict = judge(strict, view, predict(trained, view), "auto")
    assert not verdict.use_prior and "interpolated" in verdict.reason and "not used" in verdict.warnings[0]


def test_a_prior_that_its_own_kind_denies_is_not_used(trained):
    """The implicit network explains the slices, and still the residual network does harm."""
    view, prior = view_of(Toy().slices("axial", 5.0)), replace(harmful(trained), usual_evidence=-1e6)
    prediction = predict(prior, view)
    verdict = judge(prior, view, prediction, "auto")
    assert not verdict.use_prior and "fit the prior" in verdict.reason and "left out" in verdict.reason
    assert len(verdict.warnings) == 1 and "was not used" in verdict.warnings[0]
    assert judge(prior, view, prediction, "inr").use_prior
    few = view_of(Toy().slices("three"))
    assert judge(prior, few, predict(prior, few), "auto").use_prior  # nothing can be left out


def test_a_structure_too_small_for_the_prior_is_interpolated(trained):
    """Nearly all of its points are far outside, which any prior explains."""
    slices = ball_slices(2.5, 2.0, pixel_mm=0.25)
    view = view_of(slices[1:3])
    easy = replace(trained, usual_evidence=-1e6)
    verdict = judge(easy, view, predict(easy, view), "auto")
    assert not verdict.use_prior and "too small for the prior" in verdict.reason and "not used" in verdict.warnings[0]
    asked = judge(easy, view, predict(easy, view), "inr")
    assert asked.use_prior and "too small" in asked.warnings[0]


def test_a_prior_that_was_asked_for_is_used_with_a_warning(trained):
    view = view_of(unlike_toys())
    for prior, worse in ((trained, False), (harmful(trained), True)):
        verdict = judge(prior, view, predict(prior, view), "inr")
        assert verdict.use_prior and len(verdict.warnings) == 1 and "unlike" in verdict.warnings[0]
        assert ("interpolation explains them better" in verdict.warnings[0]) == worse
    context = Context(view.interpolation.slices, VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, 2.0))
    done = complete(context, harmful(trained), CompletionConfig("inr"))
    assert done.method == "inr" and any("unlike" in warning for warning in done.warnings)


def test_left_out_slices_are_compared_where_they_lie():
    """Every second inner slice of seven; of a straight bar, interpolation predicts them exactly."""
    bar = outline(SliceLayout("axial", 8.0), np.zeros(3), np.full(3, 60.0), lambda p: 9 - np.abs(p[:, :2]).max(1), 1.0)
    test = predict_left_out(toy_prior(), view_of(bar))
    assert test.slices == (len(bar) - 1) // 2 and test.interpolation == test.prior == pytest.approx(1, abs=1e-9)
    worse = predict_left_out(harmful(toy_prior()), view_of(bar))
    assert worse.prior < 0.8 and worse.interpolation == test.interpolation


@pytest.mark.parametrize("count", [1, 2])
def test_of_too_few_slices_none_can_be_left_out(count):
    assert predict_left_out(toy_prior(), view_of(Toy().slices()[:count])) is None


def test_the_only_slice_that_shows_the_structure_cannot_be_left_out():
    slices = ball_slices(10.0, 12.0, keep_empty=True)
    shown = [n for n, one in enumerate(slices) if one.mask.any()]
    alone = slices[shown[0] - 1 : shown[0] + 2] if len(shown) == 1 else slices
    assert sum(one.mask.any() for one in alone) == 1 and len(alone) == 3
    assert predict_left_out(toy_prior(), view_of(alone)) is None


def test_crossing_planes_leave_out_within_each_stack():
    slices = Toy().slices("axial", 10.0) + Toy().slices("sagittal", 10.0)
    view = view_of(slices)
    stacks = [int((view.interpolation.stacks == number).sum()) for number in (0, 1)]
    assert predict_left_out(toy_prior(), view).slices == sum((count - 1) // 2 for count in stacks)
    assert predict_left_out(toy_prior(), view_of(Toy().slices("three"))) is None
