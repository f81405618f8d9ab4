"""Where the Gaussians start: sampled from a coarse volume, or at random as published."""

from __future__ import annotations

import math

import numpy as np
import torch

from SparseAnatomyLib.grid import VoxelGrid

from .gaussians import Gaussians
from .projector import Cameras, project

LEAST_SHARE = 0.05  # of the peak: fainter voxels get no Gaussian
SAMPLING_POWER = 0.5  # between even coverage of the occupied voxels (0) and proportion to attenuation (1)
WIDTH = 0.75  # standard deviation over the mean distance of the Gaussians


def from_volume(volume: np.ndarray, grid: VoxelGrid, count: int, rng: np.random.Generator) -> Gaussians:
    """Sample round Gaussians from the occupied voxels of a coarse volume.

    Args:
        volume: Attenuation per mm, [k, j, i].
        grid: Of the volume.
        count: Number of Gaussians.
        rng: Source of chance.

    Raises:
        ValueError: The volume holds nothing.
    """
    peak = float(volume.max())
    if not peak > 0:
        raise ValueError("volume: expected some attenuation, got none.")
    occupied = np.flatnonzero(volume.ravel() > LEAST_SHARE * peak)
    density = volume.ravel()[occupied].astype(float)
    chance = density**SAMPLING_POWER
    drawn = rng.choice(len(occupied), count, p=chance / chance.sum())
    kji = np.stack(np.unravel_index(occupied[drawn], volume.shape), -1) + rng.random((count, 3)) - 0.5
    means = grid.origin_lps_mm + (kji[:, ::-1] * grid.spacing_mm) @ grid.direction.T
    sigma = WIDTH * (len(occupied) * grid.voxel_volume_mm3 / count) ** (1 / 3)
    return _round(means, np.full(count, sigma), density[drawn])


def at_random(extent_mm: np.ndarray, count: int, rng: np.random.Generator) -> Gaussians:
    """Scatter round Gaussians over a box at the origin, as IXGS does (arXiv 2504.14699, methods): no orbit is assumed.

    Args:
        extent_mm: Edge lengths of the box, [3].
        count: Number of Gaussians.
        rng: Source of chance.
    """
    means = (rng.random((count, 3)) - 0.5) * extent_mm
    sigma = WIDTH * (float(np.prod(extent_mm)) / count) ** (1 / 3)
    return _round(means, np.full(count, sigma), np.full(count, 1e-3))


def fit_density(gaussians: Gaussians, cameras: Cameras, images: torch.Tensor, weights: torch.Tensor) -> None:
    """Scale all densities by the one factor that explains the images best, in place.

    Args:
        gaussians: In the frame of the cameras.
        cameras: The views.
        images, weights: [view, row, column].
    """
    with torch.no_grad():
        along, square = 0.0, 1e-12
        for view in range(len(cameras)):  # one by one: all views of many Gaussians would be large
            projected = project(gaussians, cameras[view : view + 1])[0]
            weighted = weights[view] * projected
            along += float((weighted * images[view]).sum())
            square += float((weighted * projected).sum())
        gaussians.log_densities += math.log(max(along / square, 1e-6))


def _round(means: np.ndarray, sigmas: np.ndarray, densities: np.ndarray) -> Gaussians:
    quaternions = np.zeros((len(means), 4))
    quaternions[:, 0] = 1
    arrays = (means, np.repeat(np.log(sigmas)[:, None], 3, 1), quaternions, np.log(np.maximum(densities, 1e-6)))
    return Gaussians(*(torch.tensor(array, dtype=torch.float32) for array in arrays))
