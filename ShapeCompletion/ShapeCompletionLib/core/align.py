"""Where the prior's shape stands in the context: the similarity that makes the outlined points most likely under the prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ShapeCompletionLib.core.config import AlignSettings
from ShapeCompletionLib.core.inner_loop import HeadPrior, head_prior, solve
from ShapeCompletionLib.core.inr import features, inr_parameters

_UNKNOWNS = 7


@dataclass(frozen=True, eq=False)
class Alignment:
    """What was found.

    Attributes:
        prior_from_context: Maps normalized points of the context into those of the prior, homogeneous, [4, 4]; the identity if refused.
        evidence_before: Log evidence of the context where it stands, in nats per point.
        evidence_after: The same at `prior_from_context`.
        accepted: Whether the gain was worth the move.
    """

    prior_from_context: np.ndarray
    evidence_before: float
    evidence_after: float
    accepted: bool


def align(parameters: dict[str, Tensor], points: Tensor, targets: Tensor, settings: AlignSettings | None = None) -> Alignment:
    """Find the rotation, shift and scale of the context that the prior explains best.

    A few poses are looked at; the best of them are improved by L-BFGS on the evidence less a weak penalty, which keeps a shape that is
    explained equally well anywhere from being moved.

    Args:
        parameters: As `outer_loop.meta_parameters` makes them for ridge.
        points: Context points, normalized, [n, 3].
        targets: As they are solved for, [n].
        settings: How far and how long to look.

    Raises:
        ValueError: No points, or shapes that do not match.
    """
    if points.ndim != 2 or points.shape[-1] != 3 or len(points) == 0:
        raise ValueError(f"points: expected shape [n, 3] with n > 0, got {list(points.shape)}.")
    if targets.shape != points.shape[:1]:
        raise ValueError(f"targets: expected shape {list(points.shape[:1])}, got {list(targets.shape)}.")
    settings = settings or AlignSettings()
    search = _Search(parameters, points, targets, settings)
    starts = _starts(settings)
    values = search.values(starts)
    best, least = starts[0], float(values[0])
    for index in np.argsort(values, kind="stable")[: settings.refined_starts]:
        found = minimize(search.value_and_slope, starts[index], jac=True, method="L-BFGS-B", options={"maxfun": settings.evaluations})
        if np.isfinite(found.fun) and found.fun < least:
            best, least = found.x, float(found.fun)
    before, after = search.evidence(starts[0]), search.evidence(best)
    if not after - before >= settings.least_gain:
        return Alignment(np.eye(4), before, before, accepted=False)
    return Alignment(search.matrix(best), before, after, accepted=True)


def similarity(unknowns: Tensor, center: Tensor, settings: AlignSettings) -> Tensor:
    """Return the similarity about a center that seven numbers stand for, each of them about one where it is as large as expected.

    Args:
        unknowns: Rotation vector, shift, logarithm of the scale, in units of their expected size, [..., 7].
        center: Where the rotation and the scale leave the points, [3].
        settings: Whose expected sizes count.

    Returns:
        Homogeneous matrices, [..., 4, 4].
    """
    x, y, z = (settings.rotation_rad * unknowns[..., :3]).unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    linear = torch.linalg.matrix_exp(cross) * torch.exp(settings.log_scale * unknowns[..., 6, None, None])
    shift = settings.shift * unknowns[..., 3:6] + center - (linear @ center[:, None])[..., 0]
    last = torch.zeros_like(unknowns[..., :4])
    last[..., 3] = 1
    return torch.cat([torch.cat([linear, shift[..., None]], dim=-1), last[..., None, :]], dim=-2)


class _Search:
    """The function to be minimized: minus the evidence per point, plus the penalty."""

    def __init__(self, parameters: dict[str, Tensor], points: Tensor, targets: Tensor, settings: AlignSettings) -> None:
        with torch.no_grad():
            self._prior: HeadPrior = head_prior(parameters)
        self._network = {name: value.detach() for name, value in inr_parameters(parameters).items()}
        chosen = torch.linspace(0, len(points) - 1, min(len(points), settings.points), device=points.device).long()
        self._points, self._targets = points[chosen], targets[chosen]
        inside = self._targets > 0
        self._center = (self._points[inside] if bool(inside.any()) else self._points).mean(0).double().cpu()
        self._settings = settings

    def matrix(self, unknowns: np.ndarray) -> np.ndarray:
        """Return the similarity, [4, 4]."""
        return similarity(torch.as_tensor(unknowns), self._center, self._settings).numpy()

    @torch.no_grad()
    def evidence(self, unknowns: np.ndarray) -> float:
        """Return the evidence in nats per point."""
        return float(self._evidence(torch.as_tensor(unknowns)))

    @torch.no_grad()
    def values(self, starts: np.ndarray) -> np.ndarray:
        """Return the function at starts [s, 7], shape [s]; a card looks at all of them at once."""
        if self._points.device.type != "cpu":
            return self._value(torch.as_tensor(starts)).numpy()
        return np.array([float(self._value(torch.as_tensor(start))) for start in starts])

    def value_and_slope(self, unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the function and its gradient, [7]."""
        variable = torch.tensor(unknowns, requires_grad=True)
        value = self._value(variable)
        (slope,) = torch.autograd.grad(value, variable)
        return float(value.detach()), slope.numpy()

    def _value(self, unknowns: Tensor) -> Tensor:
        return 0.5 * self._settings.penalty * unknowns.square().sum(-1) - self._evidence(unknowns)

    def _evidence(self, unknowns: Tensor) -> Tensor:
        matrix = similarity(unknowns, self._center, self._settings).to(self._points)
        # Beyond the cube that it was trained on the prior knows nothing: it is as on the cube's faces.
        moved = (self._points @ matrix[..., :3, :3].mT + matrix[..., None, :3, 3]).clamp(-1, 1)
        return solve(self._prior, features(self._network, moved), self._targets.expand(moved.shape[:-1])).evidence.double().cpu()


def _starts(settings: AlignSettings) -> np.ndarray:
    """Return the poses looked at first, [s, 7]: where the context stands, turned both ways about each axis, smaller and larger."""
    turns = settings.first_turn_rad / settings.rotation_rad * np.concatenate([np.eye(_UNKNOWNS)[:3], -np.eye(_UNKNOWNS)[:3]])
    sizes = settings.first_log_scale / settings.log_scale * np.array([1.0, -1.0])[:, None] * np.eye(_UNKNOWNS)[6]
    return np.concatenate([np.zeros((1, _UNKNOWNS)), turns, sizes])
