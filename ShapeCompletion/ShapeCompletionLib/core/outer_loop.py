"""The outer loop: how far off a batch of shapes is after the inner loop, as a function of what is meta-learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ShapeCompletionLib.core.config import InrSettings, MamlSettings
from ShapeCompletionLib.core.inner_loop import adapt, head_prior, initialise_head, occupancy_loss, solve
from ShapeCompletionLib.core.inr import features, initialise, inr_parameters, logits
from SparseAnatomyLib.checks import check_choice

GRADIENT_MODES = ("maml", "fomaml", "meta_sgd")
MODES = ("ridge", *GRADIENT_MODES)
RATE_PREFIX = "log_rate_"


@dataclass(frozen=True, eq=False)
class Task:
    """One shape to complete, in normalized coordinates.

    Attributes:
        context_points: Where it is outlined, [n, 3].
        context_targets: Clipped signed distance to the outline, or a sign: positive inside, in [-1, 1], [n].
        target_points: Where it is to be predicted, [m, 3].
        target_occupancy: 0 or 1, [m].
    """

    context_points: Tensor
    context_targets: Tensor
    target_points: Tensor
    target_occupancy: Tensor

    def on(self, device: str) -> Task:
        """Return it on a device."""
        return Task(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def context_occupancy(self) -> Tensor:
        """Sign of the targets as 0 or 1, [n]."""
        return (self.context_targets > 0).to(self.context_targets.dtype)


def meta_parameters(mode: str, settings: InrSettings | MamlSettings, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Return what is meta-learned, as leaves for an optimizer.

    Args:
        mode: One of MODES.
        settings: `InrSettings` for ridge, `MamlSettings` for the others.
        generator: Where the numbers come from.

    Raises:
        ValueError: Another mode, or settings of another mode.
    """
    _check(mode, settings)
    parameters = initialise(settings.layers, settings.width, settings.first_omega, generator)
    if mode == "ridge":
        parameters |= initialise_head(settings.width, settings.full_covariance)
    elif mode == "meta_sgd":
        # Logarithms: Adam's steps are of one size, and rates are a thousand times smaller than weights.
        start = math.log(settings.inner_rate)
        parameters |= {f"{RATE_PREFIX}{name}": torch.full_like(value, start) for name, value in parameters.items()}
    return {name: value.requires_grad_() for name, value in parameters.items()}


def parameter_groups(parameters: dict[str, Tensor], settings: InrSettings | MamlSettings) -> list[dict[str, Any]]:
    """Return the groups and step sizes for `torch.optim.Adam`: the solved layer's prior learns faster than the sine layers.

    Args:
        parameters: As `meta_parameters` names them.
        settings: Those that the parameters were made with.
    """
    if isinstance(settings, MamlSettings):
        rates = [value for name, value in parameters.items() if name.startswith(RATE_PREFIX)]
        groups = [{"params": list(inr_parameters(parameters).values()), "lr": settings.outer_rate}]
        return [*groups, {"params": rates, "lr": settings.log_rate_rate}] if rates else groups
    sine = [value for name, value in parameters.items() if name.startswith(("weight_", "bias_"))]
    prior = [value for name, value in parameters.items() if name.startswith(("head_", "prior_")) and name != "prior_lower"]
    groups = [{"params": sine, "lr": settings.outer_rate}, {"params": prior, "lr": settings.head_rate}]
    lower = [{"params": [parameters["prior_lower"]], "lr": settings.correlation_rate}] if "prior_lower" in parameters else []
    return groups + lower


def outer_loss(parameters: dict[str, Tensor], tasks: list[Task], mode: str, settings: InrSettings | MamlSettings) -> Tensor:
    """Return the mean loss of the tasks' targets after the inner loop has seen their contexts.

    Args:
        parameters: As `meta_parameters` names them.
        tasks: Of any number of points each; those of equal numbers are solved together.
        mode: One of MODES.
        settings: Those that the parameters were made with.

    Raises:
        ValueError: No tasks, another mode, or settings of another mode.
    """
    _check(mode, settings)
    if not tasks:
        raise ValueError("tasks: expected at least one, got none.")
    if mode == "ridge":
        return _ridge_loss(parameters, tasks, settings)
    return sum(_gradient_loss(parameters, task, mode, settings) for task in tasks) / len(tasks)


def outer_step(
    parameters: dict[str, Tensor],
    tasks: list[Task],
    optimizer: torch.optim.Optimizer,
    mode: str,
    settings: InrSettings | MamlSettings,
) -> float:
    """Take one step of the optimizer over a batch of tasks; return the loss before it.

    A step whose gradients are not finite is left out.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = outer_loss(parameters, tasks, mode, settings)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.largest_gradient)
    if bool(torch.isfinite(norm)):
        optimizer.step()
    return float(loss.detach())


def _check(mode: str, settings: InrSettings | MamlSettings) -> None:
    """Raise a ValueError unless mode and settings belong together."""
    check_choice("mode", mode, MODES)
    expected = InrSettings if mode == "ridge" else MamlSettings
    if not isinstance(settings, expected):
        raise ValueError(f"settings: expected {expected.__name__} for {mode}, got {type(settings).__name__}.")


def _ridge_loss(parameters: dict[str, Tensor], tasks: list[Task], settings: InrSettings) -> Tensor:
    """Solve the last layer of each task; the features are those of one network for all, evaluated once."""
    prior = head_prior(parameters)
    sizes = [len(points) for task in tasks for points in (task.context_points, task.target_points)]
    values = features(parameters, torch.cat([points for task in tasks for points in (task.context_points, task.target_points)]))
    blocks = values.split(sizes)
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(tasks)):
        groups.setdefault((sizes[2 * index], sizes[2 * index + 1]), []).append(index)
    total = values.new_zeros(())
    for members in groups.values():
        targets = torch.stack([tasks[i].context_targets for i in members])
        posterior = solve(prior, torch.stack([blocks[2 * i] for i in members]), targets)
        predicted = posterior.logits(torch.stack([blocks[2 * i + 1] for i in members]))
        loss = occupancy_loss(predicted, torch.stack([tasks[i].target_occupancy for i in members]))
        total = total + len(members) * (loss - settings.evidence_weight * posterior.evidence.mean())
    return total / len(tasks)


def _gradient_loss(parameters: dict[str, Tensor], task: Task, mode: str, settings: MamlSettings) -> Tensor:
    """Adapt all weights to one task by gradient descent. The published rate is for a loss summed over points, ours for its mean."""
    network, count = inr_parameters(parameters), len(task.context_points)
    rates: float | dict[str, Tensor] = count * settings.inner_rate
    if mode == "meta_sgd":
        rates = {name: count * parameters[f"{RATE_PREFIX}{name}"].exp() for name in network}
    adapted = adapt(
        network,
        task.context_points,
        task.context_occupancy,
        rates,
        settings.inner_steps,
        settings.weight_decay,
        second_order=mode != "fomaml",
    )
    return occupancy_loss(logits(adapted, task.target_points), task.target_occupancy)
