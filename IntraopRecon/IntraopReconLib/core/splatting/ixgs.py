"""The published recipe, to compare with: random start, one view an iteration, L1 + SSIM + TV, adaptive density control.

Source: IXGS, arXiv 2504.14699, which keeps R²-Gaussian's settings (arXiv 2405.20693, section 5.1 and supplement) but for the random start.
Lengths are in units of the normalized volume [-1, 1]³, as published: half an edge of the box is one. One thing differs: densities and
scales are activated by the exponential here, by softplus and a bounded sigmoid there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from IntraopReconLib.core.acquisition import Acquisition
from IntraopReconLib.core.config import IxgsSettings
from SparseAnatomyLib.grid import VoxelGrid

from .densify import clone, prune, split
from .fit import FitState, Level
from .gaussians import Gaussians
from .losses import ssim, total_variation, weighted_l1
from .projector import project
from .voxelizer import voxelize


def fit_ixgs(
    acquisition: Acquisition,
    indices: np.ndarray,
    gaussians: Gaussians,
    spacing_mm: float,
    settings: IxgsSettings,
    seed: int,
    after_step: Callable[[FitState], None],
    kernel: str | None = None,
) -> Gaussians:
    """Run the published recipe.

    Args:
        acquisition: At full resolution.
        indices: The views that enter.
        gaussians: The random start, on the device to compute on.
        spacing_mm: Voxel pitch of the subvolumes whose total variation counts.
        settings: The published settings.
        seed: Draws views, subvolumes and splits.
        after_step: Called after each iteration; for progress and cancellation.
        kernel: As for `project`.

    Returns:
        The fitted Gaussians, on the same device.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    unit_mm = float(acquisition.extent_mm.max()) / 2
    gaussians = Gaussians(**{name: value.detach().requires_grad_() for name, value in gaussians.named().items()})
    state = FitState(gaussians, torch.optim.Adam([{"params": [parameter]} for parameter in gaussians.named().values()], eps=1e-15))
    device, peak = gaussians.means_mm.device, float(acquisition.attenuation.max())
    level = Level.of(acquisition).to(device)
    gradients, visits = torch.zeros(len(gaussians), device=device), 0
    for step in range(settings.iterations):
        _set_rates(state, settings, step, unit_mm)
        chosen = rng.permutation(indices)[:1]
        projected, measured = project(state.gaussians, level.cameras[chosen], kernel), level.images[chosen]
        mask = (level.weights[chosen] > 0).float()
        loss = weighted_l1(projected, measured, mask) + settings.ssim_weight * (1 - ssim(projected, measured, peak, mask))
        subvolume = voxelize(state.gaussians, _random_subvolume(acquisition, spacing_mm, settings.tv_voxels, rng))
        (loss + settings.tv_weight * unit_mm * total_variation(subvolume)).backward()
        gradients += state.gaussians.means_mm.grad.norm(dim=1) * unit_mm
        visits += 1
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step = step + 1
        if _densifies(settings, state.step):
            state.gaussians = _control_density(state, gradients / visits, settings, unit_mm, generator)
            gradients, visits = torch.zeros(len(state.gaussians), device=device), 0
        after_step(state)
    return state.gaussians


def _set_rates(state: FitState, settings: IxgsSettings, step: int, unit_mm: float) -> None:
    share = step / settings.iterations
    for index, group in enumerate(state.optimizer.param_groups):
        first, last = settings.first_rates[index], settings.last_rates[index]
        group["lr"] = first * (last / first) ** share * (unit_mm if index == 0 else 1.0)


def _densifies(settings: IxgsSettings, step: int) -> bool:
    until = settings.densify_until_share * settings.iterations
    return settings.densify_from < step <= until and step % settings.densify_every == 0


def _random_subvolume(acquisition: Acquisition, spacing_mm: float, voxels: int, rng: np.random.Generator) -> VoxelGrid:
    room = np.maximum(acquisition.extent_mm - voxels * spacing_mm, 0)
    return VoxelGrid.box((rng.random(3) - 0.5) * room, np.full(3, voxels * spacing_mm), spacing_mm)


def _control_density(
    state: FitState, gradients: torch.Tensor, settings: IxgsSettings, unit_mm: float, generator: torch.Generator
) -> Gaussians:
    """Clone what is small and pulled, split what is large and pulled, remove what is faint."""
    grown, before = state.gaussians, len(state.gaussians)
    pulled = gradients > settings.gradient_threshold
    if before + int(pulled.sum()) <= settings.most_gaussians:
        large = grown.log_scales.detach().exp().amax(1) > settings.split_scale * unit_mm
        grown = clone(grown, state.optimizer, pulled & ~large)
        added = torch.zeros(len(grown) - before, dtype=torch.bool, device=pulled.device)
        grown = split(grown, state.optimizer, torch.cat([pulled & large, added]), generator)
    keep = grown.densities_per_mm().detach() * unit_mm > settings.least_density
    return prune(grown, state.optimizer, keep) if bool(keep.any()) else grown
