"""The inner loop against closed forms: least squares, a dense multivariate normal, finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from ShapeCompletionLib.core import inner_loop
from ShapeCompletionLib.core.inr import evaluate, features, initialise, logits

WIDTH = 6


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _prior(spread=1.0, log_precision=(1.2, 0.7), d=WIDTH + 1):
    factor = spread * (_random(d, d, seed=1).tril(-1) * 0.3 + torch.eye(d, dtype=torch.float64))
    precision = torch.tensor(log_precision, dtype=torch.float64)
    return inner_loop.HeadPrior(_random(d, seed=2), factor, precision, torch.tensor(0.5, dtype=torch.float64))


def _meta(layers=3, width=WIDTH, dtype=torch.float64, full=True):
    parameters = {**initialise(layers, width, 5.0, _generator(3)), **inner_loop.initialise_head(width, full)}
    return {name: value.to(dtype) for name, value in parameters.items()}


def _precision(prior, targets):
    return torch.exp(prior.log_precision[0] + prior.log_precision[1] * targets.abs())


def test_wide_prior_gives_least_squares():
    values, targets = _random(40, WIDTH), _random(40, seed=5).tanh()
    posterior = inner_loop.solve(_prior(spread=1e4, log_precision=(2.0, 0.0)), values, targets)
    expected = np.linalg.lstsq(inner_loop.with_bias(values).numpy(), targets.numpy(), rcond=None)[0]
    assert np.allclose(posterior.mean.numpy(), expected, atol=1e-6)


def test_posterior_is_the_closed_form():
    prior, values, targets, weights = (
        _prior(),
        _random(9, WIDTH),
        _random(9, seed=5).tanh(),
        torch.rand(9, generator=_generator(6)).double(),
    )
    design = inner_loop.with_bias(values)
    noise = torch.diag(weights * _precision(prior, targets))
    covariance = torch.linalg.inv(torch.linalg.inv(prior.factor @ prior.factor.T) + design.T @ noise @ design)
    mean = prior.mean + covariance @ design.T @ noise @ (targets - design @ prior.mean)
    posterior = inner_loop.solve(prior, values, targets, weights)
    query = _random(4, WIDTH, seed=7)
    phi = inner_loop.with_bias(query)
    assert torch.allclose(posterior.mean, mean)
    assert torch.allclose(posterior.factor @ posterior.factor.T, covariance)
    assert torch.allclose(posterior.regression(query), phi @ mean)
    assert torch.allclose(posterior.variance(query), torch.einsum("nd,de,ne->n", phi, covariance, phi))
    assert torch.allclose(posterior.logits(query), math.exp(0.5) * phi @ mean)


@pytest.mark.parametrize("count", [1, 5, 30])
def test_evidence_is_that_of_a_dense_normal(count):
    prior, values, targets = _prior(), _random(count, WIDTH), _random(count, seed=5).tanh()
    design = inner_loop.with_bias(values)
    covariance = design @ prior.factor @ prior.factor.T @ design.T + torch.diag(1 / _precision(prior, targets))
    expected = multivariate_normal((design @ prior.mean).numpy(), covariance.numpy()).logpdf(targets.numpy()) / count
    assert float(inner_loop.solve(prior, values, targets).evidence) == pytest.approx(expected, rel=1e-9)


def test_a_factor_of_few_columns_is_a_prior_of_low_rank():
    prior, values, targets = _prior(), _random(9, WIDTH), _random(9, seed=5).tanh()
    thin = inner_loop.HeadPrior(prior.mean, prior.factor[:, :3], prior.log_precision, prior.log_logit_scale)
    design, noise = inner_loop.with_bias(values), torch.diag(1 / _precision(prior, targets))
    gain = thin.factor @ thin.factor.T @ design.T @ torch.linalg.inv(design @ thin.factor @ thin.factor.T @ design.T + noise)
    posterior = inner_loop.solve(thin, values, targets)
    assert torch.allclose(posterior.mean, prior.mean + gain @ (targets - design @ prior.mean))
    expected = (torch.eye(WIDTH + 1, dtype=torch.float64) - gain @ design) @ thin.factor @ thin.factor.T
    assert torch.allclose(posterior.factor @ posterior.factor.T, expected)


def test_weight_zero_leaves_a_point_out_and_two_counts_it_twice():
    prior, values, targets = _prior(), _random(8, WIDTH), _random(8, seed=5).tanh()
    weights = torch.tensor([0, 2, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    weighted = inner_loop.solve(prior, values, targets, weights)
    order = [1, 1, 2, 3, 4, 5, 6, 7]
    listed = inner_loop.solve(prior, values[order], targets[order])
    assert torch.allclose(weighted.mean, listed.mean)
    assert torch.allclose(weighted.evidence, listed.evidence)


def test_tasks_solved_together_are_those_solved_alone():
    prior, values, targets = _prior(), _random(3, 12, WIDTH), _random(3, 12, seed=5).tanh()
    together, query = inner_loop.solve(prior, values, targets), _random(3, 5, WIDTH, seed=8)
    for task in range(3):
        alone = inner_loop.solve(prior, values[task], targets[task])
        assert torch.allclose(together.mean[task], alone.mean)
        assert torch.allclose(together.evidence[task], alone.evidence)
        assert torch.allclose(together.logits(query)[task], alone.logits(query[task]))
        assert torch.allclose(together.variance(query)[task], alone.variance(query[task]))


@pytest.mark.parametrize("full", [True, False])
def test_gradient_through_the_solve_equals_finite_differences(full):
    parameters = {name: value.requires_grad_() for name, value in _meta(full=full).items()}
    if full:
        parameters["prior_lower"] = (0.2 * _random(WIDTH + 1, WIDTH + 1, seed=4)).requires_grad_()
    points, targets, query = _random(10, 3, seed=5).tanh(), _random(10, seed=6).tanh(), _random(7, 3, seed=7).tanh()
    names = list(parameters)

    def outcome(*tensors):
        own = dict(zip(names, tensors, strict=True))
        posterior = inner_loop.solve(inner_loop.head_prior(own), features(own, points), targets)
        values = features(own, query)
        return posterior.logits(values), posterior.variance(values), posterior.evidence

    assert torch.autograd.gradcheck(outcome, tuple(parameters.values()), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("case", ["one point", "equal points", "constant targets", "zero features", "huge precision", "wide prior"])
def test_degenerate_contexts_give_numbers(case):
    prior, values, targets = _prior(), _random(20, WIDTH).float(), torch.linspace(-1, 1, 20)
    if case == "one point":
        values, targets = values[:1], targets[:1]
    elif case == "equal points":
        values, targets = values[:1].expand(20, -1), targets
    elif case == "constant targets":
        targets = torch.full((20,), -1.0)
    elif case == "zero features":
        values = torch.zeros(20, WIDTH)
    elif case == "huge precision":
        prior = _prior(log_precision=(500.0, 500.0))
    else:
        prior = _prior(spread=1e6)
    values = values.clone().requires_grad_()
    posterior = inner_loop.solve(prior, values, targets)
    (posterior.logits(values).square().mean() + posterior.evidence + posterior.variance(values).mean()).backward()
    for tensor in (posterior.mean, posterior.factor, posterior.evidence, values.grad):
        assert bool(torch.isfinite(tensor).all())
    assert posterior.mean.dtype == torch.float32


def test_no_points_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="values"):
        inner_loop.solve(_prior(), torch.zeros(0, WIDTH), torch.zeros(0))
    with pytest.raises(ValueError, match="targets"):
        inner_loop.solve(_prior(), torch.zeros(4, WIDTH), torch.zeros(5))


def test_solved_network_has_the_logits_of_the_posterior():
    parameters = _meta()
    points, targets, query = _random(10, 3, seed=5).tanh(), _random(10, seed=6).tanh(), _random(7, 3, seed=7).tanh()
    posterior = inner_loop.solve(inner_loop.head_prior(parameters), features(parameters, points), targets)
    network = inner_loop.solved_parameters(parameters, posterior)
    assert torch.allclose(evaluate(network, query), posterior.logits(features(parameters, query)))
    assert not any(name.startswith("prior_") for name in network)


def _network(dtype=torch.float64, layers=3):
    return {name: value.to(dtype) for name, value in initialise(layers, WIDTH, 5.0, _generator(3)).items()}


def _context(count=12, dtype=torch.float64):
    points = _random(count, 3, seed=5).tanh().to(dtype)
    return points, (points.norm(dim=-1) < 1).to(dtype)


def test_loss_is_cross_entropy_plus_dice():
    values, occupancy = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    p = 1 / (1 + np.exp(-values.numpy()))
    cross_entropy = -np.mean([np.log(p[0]), np.log(1 - p[1]), np.log(1 - p[2])])
    dice = 1 - (2 * p[0] + 1) / (p.sum() + 1 + 1)
    assert float(inner_loop.occupancy_loss(values, occupancy)) == pytest.approx(cross_entropy + dice, rel=1e-6)


def test_mean_square_counts_every_weight_once():
    assert float(inner_loop.mean_square({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)})) == pytest.approx(14 / 3)


def _outer(parameters, rates, second_order, steps=2):
    points, occupancy = _context()
    query, truth = _context(7)
    adapted = inner_loop.adapt(parameters, points, occupancy, rates, steps, weight_decay=0.5, second_order=second_order)
    return inner_loop.occupancy_loss(logits(adapted, query), truth)


def test_gradient_through_the_inner_loop_equals_finite_differences():
    parameters = {name: value.requires_grad_() for name, value in _network().items()}
    rates = {name: torch.full_like(value, 1e-3).requires_grad_() for name, value in parameters.items()}
    names = list(parameters)

    def outcome(*tensors):
        return _outer(dict(zip(names, tensors, strict=True)), 2e-3, second_order=True)

    def by_rates(*tensors):
        return _outer(parameters, dict(zip(names, tensors, strict=True)), second_order=True)

    assert torch.autograd.gradcheck(outcome, tuple(parameters.values()), atol=1e-5, rtol=1e-3)
    assert torch.autograd.gradcheck(by_rates, tuple(rates.values()), atol=1e-5, rtol=1e-3)


def test_first_order_has_the_values_but_not_the_gradients_of_second_order():
    gradients = []
    for second_order in (True, False):
        parameters = {name: value.requires_grad_() for name, value in _network().items()}
        loss = _outer(parameters, 5e-3, second_order)
        gradients.append((float(loss.detach()), torch.autograd.grad(loss, parameters["weight_1"])[0]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-12)
    assert float((gradients[0][1] - gradients[1][1]).norm() / gradients[0][1].norm()) > 0.01


def test_equal_rates_make_meta_sgd_maml():
    parameters = _network()
    by_one = inner_loop.adapt(parameters, *_context(), 3e-3, 3)
    by_many = inner_loop.adapt(parameters, *_context(), {name: torch.full_like(v, 3e-3) for name, v in parameters.items()}, 3)
    assert all(torch.allclose(by_one[name], by_many[name], rtol=1e-12) for name in parameters)
    assert not any(torch.equal(by_one[name], parameters[name]) for name in parameters)


def test_one_step_follows_the_gradient_and_leaves_its_input_alone():
    parameters = _network()
    before = {name: value.clone() for name, value in parameters.items()}
    with torch.no_grad():
        adapted = inner_loop.adapt(parameters, *_context(), 1e-3, 1)
    points, occupancy = _context()
    assert all(torch.equal(parameters[name], before[name]) and not parameters[name].requires_grad for name in parameters)
    losses = [float(inner_loop.occupancy_loss(logits(network, points), occupancy).detach()) for network in (parameters, adapted)]
    assert losses[1] < losses[0]


def test_more_steps_fit_better():
    parameters, (points, occupancy) = _network(torch.float32), _context(40, torch.float32)
    losses = []
    for steps in (0, 5, 60):
        network = inner_loop.more_steps(parameters, points, occupancy, steps, rate=1e-3)
        losses.append(float(inner_loop.occupancy_loss(logits(network, points), occupancy)))
    assert losses[0] == pytest.approx(float(inner_loop.occupancy_loss(logits(parameters, points), occupancy)))
    assert losses[2] < losses[1] < losses[0]


def test_more_steps_are_never_worse_even_where_the_rate_is_absurd():
    parameters, (points, occupancy) = _network(torch.float32), _context(40, torch.float32)
    network = inner_loop.more_steps(parameters, points, occupancy, 5, rate=10.0)
    before, after = (float(inner_loop.occupancy_loss(logits(n, points), occupancy)) for n in (parameters, network))
    assert after <= before
