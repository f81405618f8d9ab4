"""The inner loop: from meta-learned tensors and a few outlined points to the one shape. Exact for the last layer; by gradients for all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ShapeCompletionLib.core.inr import InrParameters, inr_parameters, logits

LOG_RANGE = 12.0


@dataclass(frozen=True, eq=False)
class HeadPrior:
    """What is known of the last layer before anything is outlined: a Gaussian, and how far targets scatter about it.

    Attributes:
        mean: Weights, then the bias, [d].
        factor: Square root of their covariance, [d, k]: covariance = factor factorᵀ.
        log_precision: Logarithm of one over the variance of a target at the outline, and what it gains per unit of |target|, [2].
        log_logit_scale: Logarithm of the occupancy logit per unit of target, [].
    """

    mean: Tensor
    factor: Tensor
    log_precision: Tensor
    log_logit_scale: Tensor


@dataclass(frozen=True, eq=False)
class Posterior:
    """The last layer once the context is known; leading dimensions are tasks.

    Attributes:
        mean: Weights, then the bias, [..., d].
        prior_factor: That of the prior, [d, k].
        cholesky: Of the precision that the prior's unknowns have now, float64, [..., k, k].
        evidence: Logarithm of the targets' marginal likelihood, in nats per context point, [...].
        logit_scale: Occupancy logit per unit of target, [].
    """

    mean: Tensor
    prior_factor: Tensor
    cholesky: Tensor
    evidence: Tensor
    logit_scale: Tensor

    @property
    def factor(self) -> Tensor:
        """Square root of the covariance of weights and bias, [..., d, k]."""
        right = self.prior_factor.double().mT.expand(*self.cholesky.shape[:-1], self.prior_factor.shape[0])
        return torch.linalg.solve_triangular(self.cholesky, right, upper=False).mT.to(self.mean.dtype)

    def regression(self, values: Tensor) -> Tensor:
        """Return the expected target at points of features [..., n, width], shape [..., n]."""
        return (values @ self.mean[..., :-1, None])[..., 0] + self.mean[..., -1:]

    def variance(self, values: Tensor) -> Tensor:
        """Return the variance of the expected target, noise left out, shape [..., n]."""
        return (with_bias(values) @ self.factor).square().sum(-1)

    def logits(self, values: Tensor) -> Tensor:
        """Return the occupancy logits at points of features [..., n, width], shape [..., n]."""
        return self.logit_scale * self.regression(values)


def initialise_head(width: int, full: bool) -> dict[str, Tensor]:
    """Return the tensors of a fresh `HeadPrior`, to be meta-learned beside the network; its mean is the network's head.

    Args:
        width: Features of the network.
        full: Whether weights may be correlated.
    """
    d = width + 1
    parameters = {
        "prior_log_diagonal": torch.full((d,), -0.5 * math.log(d)),
        "prior_log_precision": torch.tensor([1.0, 0.0]),
        "prior_log_logit_scale": torch.tensor(math.log(5.0)),
    }
    if full:
        parameters["prior_lower"] = torch.zeros(d, d)
    return parameters


def head_prior(parameters: dict[str, Tensor]) -> HeadPrior:
    """Return the prior of the last layer: its mean from the network's head, the rest as `initialise_head` names it."""
    factor = torch.diag(parameters["prior_log_diagonal"].clamp(-LOG_RANGE, LOG_RANGE).exp())
    if "prior_lower" in parameters:
        factor = factor + parameters["prior_lower"].tril(-1)
    mean = torch.cat([parameters["head_weight"], parameters["head_bias"][None]])
    return HeadPrior(mean, factor, parameters["prior_log_precision"], parameters["prior_log_logit_scale"])


def with_bias(values: Tensor) -> Tensor:
    """Return features [..., width] with a one appended, [..., width + 1]."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def solve(prior: HeadPrior, values: Tensor, targets: Tensor, weights: Tensor | None = None) -> Posterior:
    """Solve the last layer exactly: Bayesian linear regression of the targets on the features, differentiable in all arguments.

    The unknown is written as mean + factor z with z standard normal. The matrix to factorize is then the identity plus a Gram
    matrix: no eigenvalue below one, so that one point, equal points or equal targets are no special case.

    Args:
        prior: Of the last layer.
        values: Features at the context points, [..., n, width].
        targets: Positive inside, in [-1, 1], [..., n].
        weights: How often each point counts; 0 leaves it out; 1 if absent, [..., n].

    Returns:
        In the type of `values`; solved in float64.

    Raises:
        ValueError: No points, or shapes that do not match.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 3.49 to 3.51 and 3.86.
    """
    if values.ndim < 2 or values.shape[-2] == 0:
        raise ValueError(f"values: expected shape [..., n, width] with n > 0, got {list(values.shape)}.")
    if targets.shape != values.shape[:-1]:
        raise ValueError(f"targets: expected shape {list(values.shape[:-1])}, got {list(targets.shape)}.")
    design, factor, mean = with_bias(values).double(), prior.factor.double(), prior.mean.double()
    targets = targets.double()
    count = torch.ones_like(targets) if weights is None else weights.double()
    log_precision = (prior.log_precision[0] + prior.log_precision[1] * targets.abs()).double().clamp(-LOG_RANGE, LOG_RANGE)
    precision = count * log_precision.exp()

    residual = targets - design @ mean
    white = design @ factor
    weighted = white * precision[..., None]
    system = torch.eye(factor.shape[1], dtype=torch.float64, device=values.device) + weighted.mT @ white
    cholesky = torch.linalg.cholesky(system)
    z = torch.cholesky_solve(weighted.mT @ residual[..., None], cholesky)
    left = residual - (white @ z)[..., 0]

    fit = (count * (log_precision - math.log(2 * math.pi))).sum(-1) - (precision * left**2).sum(-1) - z.square().sum((-2, -1))
    evidence = 0.5 * fit - cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Posterior(
        (mean + (factor @ z)[..., 0]).to(values.dtype),
        prior.factor,
        cholesky,
        (evidence / count.sum(-1).clamp(min=1e-9)).to(values.dtype),
        prior.log_logit_scale.exp(),
    )


def solved_parameters(parameters: dict[str, Tensor], posterior: Posterior) -> InrParameters:
    """Return the network with the solved last layer of one task: its logits are those of the posterior."""
    scaled = posterior.logit_scale * posterior.mean
    return {**inr_parameters(parameters), "head_weight": scaled[:-1], "head_bias": scaled[-1]}


def occupancy_loss(occupancy_logits: Tensor, occupancy: Tensor) -> Tensor:
    """Return cross-entropy plus soft Dice loss of points [..., n], averaged over the leading dimensions.

    Source: De Paolis et al., equation 3, its first two terms.
    """
    cross_entropy = binary_cross_entropy_with_logits(occupancy_logits, occupancy)
    probability = occupancy_logits.sigmoid()
    overlap = 2 * (probability * occupancy).sum(-1) + 1
    return cross_entropy + (1 - overlap / (probability.sum(-1) + occupancy.sum(-1) + 1)).mean()


def mean_square(parameters: InrParameters) -> Tensor:
    """Return the mean of all squared weights: the last term of equation 3 of De Paolis et al., without its factor."""
    total = sum(value.square().sum() for value in parameters.values())
    return total / sum(value.numel() for value in parameters.values())


def adapt(
    parameters: InrParameters,
    points: Tensor,
    occupancy: Tensor,
    rates: float | dict[str, Tensor],
    steps: int,
    weight_decay: float = 0.0,
    second_order: bool = True,
) -> InrParameters:
    """Take steps of gradient descent on all weights, each one differentiable: the inner loop of MAML.

    Args:
        parameters: The network's own; where they require gradients, those flow through the steps.
        points: Normalized, [n, 3].
        occupancy: 0 or 1, [n].
        rates: One for all, or one for each weight (Meta-SGD), for the mean of the loss over the points.
        steps: How many.
        weight_decay: Factor of the mean square of the weights.
        second_order: Whether gradients flow through the gradients too.

    Returns:
        The adapted network.

    Source: Finn et al., ICML 2017; Li et al., Meta-SGD, 2017; De Paolis et al., equations 1 and 3.
    """
    names = list(parameters)
    with torch.enable_grad():
        current = {name: value if value.requires_grad else value.detach().requires_grad_() for name, value in parameters.items()}
        for _ in range(steps):
            loss = occupancy_loss(logits(current, points), occupancy) + weight_decay * mean_square(current)
            slopes = torch.autograd.grad(loss, [current[name] for name in names], create_graph=second_order)
            current = {
                name: current[name] - (rates if isinstance(rates, float) else rates[name]) * slope
                for name, slope in zip(names, slopes, strict=True)
            }
    return current


def more_steps(
    parameters: InrParameters, points: Tensor, occupancy: Tensor, steps: int, rate: float = 3e-5, weight_decay: float = 0.0
) -> InrParameters:
    """Go on from a solved network by Adam on all weights, and return the best on the context: never worse than the start.

    Args:
        parameters: As `solved_parameters` or `adapt` returns them.
        points: Normalized, [n, 3].
        occupancy: 0 or 1, [n].
        steps: How many.
        rate: Adam's.
        weight_decay: Factor of the mean square of how far the weights moved.
    """
    start = {name: value.detach().clone() for name, value in parameters.items()}
    current = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(current.values(), lr=rate)
    best, least = start, math.inf
    with torch.enable_grad():
        for step in range(steps + 1):
            fit = occupancy_loss(logits(current, points), occupancy)
            found = float(fit.detach())
            if found < least:
                best, least = {name: value.detach().clone() for name, value in current.items()}, found
            if step == steps:
                break
            moved = mean_square({name: value - start[name] for name, value in current.items()})
            optimizer.zero_grad()
            (fit + weight_decay * moved).backward()
            optimizer.step()
    return best
