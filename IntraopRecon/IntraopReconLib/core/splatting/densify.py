"""Adaptive density control: Gaussians are cloned, split and pruned, and the optimizer's memory follows them.

Free functions over the Gaussians and their Adam optimizer, whose parameter groups stand in the order of `Gaussians.named()`.

Source: Kerbl et al., 3D Gaussian Splatting, ACM Transactions on Graphics 42 (2023), section 5; R²-Gaussian, arXiv 2405.20693, section 4.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import Gaussians, rotation_rows

SPLIT_SHRINK = 1.6  # a split Gaussian's halves are narrower by this (3D Gaussian Splatting)


def select(gaussians: Gaussians, optimizer: torch.optim.Optimizer, indices: Tensor) -> Gaussians:
    """Keep the Gaussians with these indices (an index may come twice), their optimizer state with them.

    Args:
        gaussians: Parameters of the optimizer.
        optimizer: Adam; changed in place.
        indices: [M].

    Returns:
        The M Gaussians, which are the optimizer's new parameters.
    """
    chosen = {}
    for group, (name, old) in zip(optimizer.param_groups, gaussians.named().items(), strict=True):
        new = old.detach()[indices].clone().requires_grad_()
        state = optimizer.state.pop(old, {})
        optimizer.state[new] = {key: value[indices].clone() if value.shape == old.shape else value for key, value in state.items()}
        group["params"] = [new]
        chosen[name] = new
    return Gaussians(**chosen)


def prune(gaussians: Gaussians, optimizer: torch.optim.Optimizer, keep: Tensor) -> Gaussians:
    """Keep only the Gaussians where `keep` [N] is true."""
    return select(gaussians, optimizer, torch.nonzero(keep)[:, 0])


def clone(gaussians: Gaussians, optimizer: torch.optim.Optimizer, which: Tensor) -> Gaussians:
    """Double the Gaussians where `which` [N] is true, each with half the density: the field stays as it is.

    The copies begin without memory: with that of their originals, which get the same gradients, the two would never part.
    """
    doubled = torch.nonzero(which)[:, 0]
    grown = select(gaussians, optimizer, torch.cat([torch.arange(len(gaussians), device=doubled.device), doubled]))
    with torch.no_grad():
        grown.log_densities[doubled] -= math.log(2)
        grown.log_densities[len(gaussians) :] -= math.log(2)
    for parameter in grown.named().values():
        for value in optimizer.state[parameter].values():
            if value.shape == parameter.shape:
                value[len(gaussians) :] = 0
    return grown


def split(gaussians: Gaussians, optimizer: torch.optim.Optimizer, which: Tensor, generator: torch.Generator) -> Gaussians:
    """Replace the Gaussians where `which` [N] is true by two narrower ones each, drawn from within; their mass is kept."""
    parents = torch.nonzero(which)[:, 0]
    grown = select(gaussians, optimizer, torch.cat([torch.nonzero(~which)[:, 0], parents, parents]))
    children = slice(len(gaussians) - len(parents), None)
    with torch.no_grad():
        scales = grown.log_scales[children].exp()
        local = scales * torch.randn(scales.shape, generator=generator).to(scales.device)  # drawn on the CPU: the same on any device
        rows = torch.stack(rotation_rows(grown.quaternions[children]), 1)  # [M, 3, 3]
        grown.means_mm[children] += (rows @ local[:, :, None])[:, :, 0]
        grown.log_scales[children] -= math.log(SPLIT_SHRINK)
        grown.log_densities[children] += 3 * math.log(SPLIT_SHRINK) - math.log(2)
    return grown
