"""The implicit network: activations as Sitzmann et al. derive them, shapes, and evaluation in blocks."""

from __future__ import annotations

import math

import pytest
import torch

from ShapeCompletionLib.core import inr


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("first_omega", [15.0, 30.0])
def test_every_layer_starts_with_the_spread_of_a_sine(first_omega):
    parameters = inr.initialise(7, 256, first_omega, _generator())
    points = 2 * torch.rand(4_000, 3, generator=_generator(1)) - 1
    for layer in range(1, 7):
        first = {name: value for name, value in parameters.items() if name.rsplit("_", 1)[-1] in map(str, range(layer))}
        values = inr.features(first, points)
        # Sine of a uniform phase: sqrt(1/2). Sine of a standard normal: sqrt((1 - exp(-2)) / 2).
        expected = math.sqrt(0.5) if layer == 1 else math.sqrt((1 - math.exp(-2)) / 2)
        assert float(values.std()) == pytest.approx(expected, abs=0.08)
        assert abs(float(values.mean())) < 0.08


def test_frequency_of_the_first_layer_is_that_asked_for():
    slow, fast = (inr.initialise(2, 512, omega, _generator()) for omega in (5.0, 20.0))
    assert torch.allclose(4 * slow["weight_0"], fast["weight_0"])
    assert float((inr.OMEGA * fast["weight_0"]).abs().max()) == pytest.approx(20.0 / 3, rel=0.01)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 5, 3), (0, 3)])
def test_shapes(shape):
    parameters = inr.initialise(4, 16, 10.0, _generator())
    points = torch.rand(shape, generator=_generator(1))
    assert inr.features(parameters, points).shape == (*shape[:-1], 16)
    assert inr.logits(parameters, points).shape == shape[:-1]


def test_layers_count_the_head():
    parameters = inr.initialise(7, 128, 30.0, _generator())
    assert inr.depth(parameters) == 6
    assert sum(value.numel() for value in parameters.values()) == 4 * 128 + 5 * (128 * 128 + 128) + 129


def test_logits_follow_the_formula():
    parameters = {name: value.double() for name, value in inr.initialise(3, 8, 10.0, _generator()).items()}
    point = torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    first = torch.sin(30 * (parameters["weight_0"] @ point + parameters["bias_0"]))
    second = torch.sin(30 * (parameters["weight_1"] @ first + parameters["bias_1"]))
    expected = parameters["head_weight"] @ second + parameters["head_bias"]
    assert float(inr.logits(parameters, point)) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("count", [0, 1, inr.BLOCK_POINTS, inr.BLOCK_POINTS + 1])
def test_blocks_do_not_change_the_values(count):
    parameters = {name: value.requires_grad_() for name, value in inr.initialise(4, 16, 10.0, _generator()).items()}
    points = 2 * torch.rand(count, 3, generator=_generator(1)) - 1
    values = inr.evaluate(parameters, points)
    assert not values.requires_grad
    assert torch.allclose(values, inr.logits(parameters, points), atol=1e-6)


def test_same_seed_same_network():
    one, two, other = (inr.initialise(4, 16, 10.0, _generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["weight_1"], other["weight_1"])


@pytest.mark.parametrize(
    ("layers", "width", "omega", "name"), [(1, 8, 10.0, "layers"), (4, 0, 10.0, "width"), (4, 8, 0.0, "omega"), (4, 8, math.nan, "omega")]
)
def test_nonsense_is_refused(layers, width, omega, name):
    with pytest.raises(ValueError, match=name):
        inr.initialise(layers, width, omega)
