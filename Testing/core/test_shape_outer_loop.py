"""The outer loop: every mode learns a toy family, and what was learned helps on shapes never seen."""

from __future__ import annotations

import pytest
import torch
from ellipsoid_tasks import draw_tasks

from ShapeCompletionLib.core import outer_loop
from ShapeCompletionLib.core.config import InrSettings, MamlSettings
from ShapeCompletionLib.core.inner_loop import head_prior, solve
from ShapeCompletionLib.core.inr import features

RIDGE = InrSettings(layers=3, width=32, first_omega=5.0)
MAML = MamlSettings(layers=3, width=32, first_omega=10.0, inner_steps=2, inner_rate=1e-4, outer_rate=1e-3, weight_decay=1.0)
SETTINGS = {"ridge": RIDGE, "maml": MAML, "fomaml": MAML, "meta_sgd": MAML}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _trained(mode, steps, settings=None):
    settings = settings or SETTINGS[mode]
    generator = _generator(1)
    parameters = outer_loop.meta_parameters(mode, settings, generator)
    optimizer = torch.optim.Adam(outer_loop.parameter_groups(parameters, settings))
    losses = [outer_loop.outer_step(parameters, draw_tasks(4, generator), optimizer, mode, settings) for _ in range(steps)]
    return parameters, losses


def _dice(parameters, tasks):
    scores = []
    for task in tasks:
        posterior = solve(head_prior(parameters), features(parameters, task.context_points), task.context_targets)
        inside = posterior.logits(features(parameters, task.target_points)) > 0
        truth = task.target_occupancy > 0
        scores.append(float(2 * (inside & truth).sum() / (inside.sum() + truth.sum())))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("mode", outer_loop.MODES)
def test_training_reduces_the_loss(mode):
    parameters, losses = _trained(mode, 60)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert all(bool(torch.isfinite(value).all()) for value in parameters.values())


@torch.no_grad()
def test_meta_training_helps_on_unseen_shapes():
    unseen = draw_tasks(10, _generator(99), points=400)
    fresh, trained = _trained("ridge", 0)[0], _trained("ridge", 0)[0]
    with torch.enable_grad():
        trained = _trained("ridge", 120)[0]
    before, after = _dice(fresh, unseen), _dice(trained, unseen)
    assert after > 0.88
    assert after > before + 0.03


def test_same_seed_same_training():
    assert _trained("ridge", 5)[1] == _trained("ridge", 5)[1]


@pytest.mark.parametrize("mode", outer_loop.MODES)
def test_what_is_meta_learned_gets_a_gradient(mode):
    parameters = outer_loop.meta_parameters(mode, SETTINGS[mode], _generator())
    outer_loop.outer_loss(parameters, draw_tasks(2, _generator(3)), mode, SETTINGS[mode]).backward()
    assert [name for name, value in parameters.items() if value.grad is None or not bool(value.grad.any())] == []
    grouped = [value for group in outer_loop.parameter_groups(parameters, SETTINGS[mode]) for value in group["params"]]
    assert {id(value) for value in grouped} == {id(value) for value in parameters.values()}
    assert len(grouped) == len(parameters)


def _gradient(mode, task):
    parameters = outer_loop.meta_parameters(mode, MAML, _generator())
    loss = outer_loop.outer_loss(parameters, [task], mode, MAML)
    return float(loss.detach()), torch.autograd.grad(loss, parameters["weight_1"])[0]


def test_the_gradient_modes_agree_where_they_should():
    task = draw_tasks(1, _generator(3))[0]
    (maml, second), (fomaml, first), (meta_sgd, by_rates) = (_gradient(mode, task) for mode in outer_loop.GRADIENT_MODES)
    assert maml == pytest.approx(fomaml, rel=1e-5)
    assert maml == pytest.approx(meta_sgd, rel=1e-5)
    assert torch.allclose(second, by_rates, rtol=1e-3, atol=1e-6 * float(second.abs().max()))
    assert float((second - first).norm() / second.norm()) > 0.01


def test_tasks_of_different_sizes_count_alike():
    generator = _generator(3)
    tasks = [*draw_tasks(2, generator), *draw_tasks(1, generator, points=90)]
    parameters = outer_loop.meta_parameters("ridge", RIDGE, _generator())
    together = float(outer_loop.outer_loss(parameters, tasks, "ridge", RIDGE).detach())
    alone = [float(outer_loop.outer_loss(parameters, [task], "ridge", RIDGE).detach()) for task in tasks]
    assert together == pytest.approx(sum(alone) / 3, rel=1e-5)


def test_evidence_weight_raises_the_evidence():
    unseen, evidence = draw_tasks(6, _generator(99)), []
    for weight in (0.0, 0.3):
        parameters = _trained("ridge", 60, InrSettings(layers=3, width=32, first_omega=5.0, evidence_weight=weight))[0]
        with torch.no_grad():
            posteriors = [solve(head_prior(parameters), features(parameters, t.context_points), t.context_targets) for t in unseen]
        evidence.append(sum(float(posterior.evidence) for posterior in posteriors) / 6)
    assert evidence[1] > evidence[0] + 0.1


def test_a_step_without_finite_gradients_changes_nothing():
    parameters = outer_loop.meta_parameters("ridge", RIDGE, _generator())
    before = {name: value.detach().clone() for name, value in parameters.items()}
    task = draw_tasks(1, _generator(3))[0]
    broken = outer_loop.Task(task.context_points, task.context_targets, task.target_points * float("nan"), task.target_occupancy)
    optimizer = torch.optim.Adam(outer_loop.parameter_groups(parameters, RIDGE))
    outer_loop.outer_step(parameters, [broken], optimizer, "ridge", RIDGE)
    assert all(torch.equal(parameters[name], before[name]) for name in before)


def test_nonsense_is_refused():
    parameters = outer_loop.meta_parameters("ridge", RIDGE, _generator())
    with pytest.raises(ValueError, match="mode"):
        outer_loop.meta_parameters("reptile", RIDGE)
    with pytest.raises(ValueError, match="settings"):
        outer_loop.meta_parameters("maml", RIDGE)
    with pytest.raises(ValueError, match="tasks"):
        outer_loop.outer_loss(parameters, [], "ridge", RIDGE)
