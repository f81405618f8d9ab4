"""The implicit network: a point in, features and an occupancy logit out; periodic activations, plain tensors, no state."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import linear

OMEGA = 30.0
BLOCK_POINTS = 2_048

InrParameters = dict[str, Tensor]


def initialise(layers: int, width: int, first_omega: float, generator: torch.Generator | None = None) -> InrParameters:
    """Return a fresh network: `weight_i`, `bias_i` of the sine layers and the linear `head_weight`, `head_bias`.

    Every sine layer is sin(30 (W x + b)). The first one's own frequency is part of its weights, so that evaluating needs no settings.

    Args:
        layers: Linear layers, the head counted.
        width: Units of each sine layer.
        first_omega: Frequency of the first layer, for points in about [-1, 1].
        generator: Where the numbers come from.

    Raises:
        ValueError: Fewer than two layers, no units, no frequency.

    Source: Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions, NeurIPS 2020, section 3.2.
    """
    if layers < 2:
        raise ValueError(f"layers: expected at least 2, got {layers}.")
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}.")
    if not (math.isfinite(first_omega) and first_omega > 0):
        raise ValueError(f"first_omega: expected a number above zero, got {first_omega}.")

    def uniform(*shape: int, bound: float) -> Tensor:
        return bound * (2 * torch.rand(*shape, generator=generator) - 1)

    hidden = math.sqrt(6 / width) / OMEGA
    parameters = {"weight_0": uniform(width, 3, bound=first_omega / (3 * OMEGA)), "bias_0": uniform(width, bound=math.pi / OMEGA)}
    for i in range(1, layers - 1):
        parameters[f"weight_{i}"] = uniform(width, width, bound=hidden)
        parameters[f"bias_{i}"] = uniform(width, bound=hidden)
    parameters["head_weight"] = uniform(width, bound=hidden)
    parameters["head_bias"] = torch.zeros(())
    return parameters


def depth(parameters: InrParameters) -> int:
    """Return the number of sine layers."""
    return sum(name.startswith("weight_") for name in parameters)


def inr_parameters(parameters: dict[str, Tensor]) -> InrParameters:
    """Return the network's own tensors out of a larger set."""
    return {name: value for name, value in parameters.items() if name.startswith(("weight_", "bias_", "head_"))}


def features(parameters: InrParameters, points: Tensor) -> Tensor:
    """Return the last sine layer.

    Args:
        parameters: As `initialise` names them; others are ignored.
        points: Normalized to about [-1, 1], [..., 3].

    Returns:
        [..., width], in [-1, 1].
    """
    values = points
    for i in range(depth(parameters)):
        # The frequency goes to the small weights, not to the many activations.
        values = torch.sin(linear(values, OMEGA * parameters[f"weight_{i}"], OMEGA * parameters[f"bias_{i}"]))
    return values


def logits(parameters: InrParameters, points: Tensor) -> Tensor:
    """Return the occupancy logits at normalized points [..., 3], shape [...]."""
    return head(parameters, features(parameters, points))


def head(parameters: InrParameters, values: Tensor) -> Tensor:
    """Return the logits of features [..., width], shape [...]."""
    return values @ parameters["head_weight"] + parameters["head_bias"]


@torch.no_grad()
def evaluate(parameters: InrParameters, points: Tensor) -> Tensor:
    """Return the logits of many points [n, 3], shape [n], in blocks that stay in the processor's cache; no gradients."""
    return torch.cat([logits(parameters, block) for block in points.split(BLOCK_POINTS)]) if len(points) else points.new_zeros(0)
