"""The evaluation of `surface` on a graphics card: what its kernels in numba say, for all voxels at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from SparseAnatomyLib.grid import VoxelGrid

from ._interpolate_torch import ijk_of
from .cube import CubeView
from .refine import FIELD_LIMIT, LOGITS_PER_VOXEL

_BLOCK = 2**22  # voxels of the grid that are looked up together


class Limits(NamedTuple):
    """Of the logit: what is nearer to the surface is looked at finely; beyond, a voxel of the cube stands for what is nearest to it."""

    near: float
    saturated: float


def evaluate(
    view: CubeView, correction: Tensor | None, grid: VoxelGrid, pixels: Sequence[tuple[np.ndarray, np.ndarray]], limits: Limits
) -> tuple[Tensor, Tensor]:
    """Evaluate the completed shape on a grid.

    Args:
        view: The slices in their cube, on a device.
        correction: Of the residual network, float32 [k, j, i] of the cube, on that device; None for the interpolation alone.
        grid: Any orientation.
        pixels: Flat indices of voxels that are pixels, and whether these are inside, of the slices where the cube may contradict them.
        limits: See there.

    Returns:
        As `surface.evaluate`, on the device.
    """
    cube = _Cube(view, correction, grid, limits)
    size = int(np.prod(grid.size_ijk))
    device = cube.logits.device
    known = [torch.from_numpy(np.concatenate([one[part].ravel() for one in pixels])).to(device) for part in (0, 1)] if pixels else None
    logits, distances = torch.empty(2, size, device=device).unbind()
    for start in range(0, size, _BLOCK):
        flat = torch.arange(start, min(start + _BLOCK, size), device=device)
        values, apart = cube.coarse(ijk_of(flat, grid))
        near = (values.abs() < limits.near).nonzero()[:, 0]
        if known is not None:
            place, inside = known
            here = (place >= start) & (place < start + len(flat))
            place, inside = place[here] - start, inside[here]
            near = torch.cat([near, place[(values[place] > 0) != inside]])
        if len(near):
            values[near], apart[near] = cube.fine(flat[near], grid)
        logits[start : start + len(flat)], distances[start : start + len(flat)] = values, apart
    return logits.reshape(grid.shape_kji), distances.reshape(grid.shape_kji)


class _Cube:
    """What the cube says at voxels of a grid."""

    def __init__(self, view: CubeView, correction: Tensor | None, grid: VoxelGrid, limits: Limits) -> None:
        self._view, self._limits = view, limits
        field, self._distance = view.tensors
        self._correction = torch.zeros_like(field) if correction is None else correction
        outlined = LOGITS_PER_VOXEL * field.clamp(-FIELD_LIMIT, FIELD_LIMIT)
        self.logits = outlined + self._distance.clamp(max=1) * self._correction
        self._unclear = _unclear(outlined, self.logits, self._distance, limits.near).ravel()
        matrix = (np.linalg.inv(view.grid.lps_from_ijk) @ grid.lps_from_ijk)[:3].astype(np.float32)
        self._cube_from_grid = torch.from_numpy(matrix).to(field.device)
        self._both = torch.stack([self.logits, self._distance])

    def coarse(self, ijk: Tensor) -> tuple[Tensor, Tensor]:
        """Return logit and distance to the nearest slice from the cube alone, as the kernel `coarse`; voxels are homogeneous [4, n]."""
        inside, outside = self._place(ijk)
        edge = self.logits.shape[0]
        i, j, k = (inside + 0.5).long()
        nearest = (k * edge + j) * edge + i
        value, distance = self.logits.ravel()[nearest], self._distance.ravel()[nearest]
        between = _trilinear(self._both, inside)
        is_fine = value.abs() < self._limits.saturated
        value, distance = torch.where(is_fine, between[0], value), torch.where(is_fine, between[1], distance)
        return torch.where(self._unclear[nearest], 0, value - LOGITS_PER_VOXEL * outside), distance + outside

    def fine(self, flat: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
        """Return the same from the slices themselves, as the kernel `blend`; voxels are flat indices [n]."""
        field, distance = (each / self._view.voxel_mm for each in self._view.field_on_card.on_grid(grid, flat))
        inside, outside = self._place(ijk_of(flat, grid))
        correction = _trilinear(self._correction[None], inside)[0]
        logit = LOGITS_PER_VOXEL * field.clamp(-FIELD_LIMIT, FIELD_LIMIT) + distance.clamp(max=1) * correction
        return logit - LOGITS_PER_VOXEL * outside, distance

    def _place(self, ijk: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest places within the cube, indices i, j, k [3, n], and how many of its voxels outside the voxels are, [n]."""
        place = self._cube_from_grid @ ijk
        inside = place.clamp(0, self.logits.shape[0] - 1)
        return inside, (place - inside).square().sum(0).sqrt()


def _unclear(outlined: Tensor, logits: Tensor, distance: Tensor, near: float) -> Tensor:
    """Return what `surface._unclear` does."""
    decides = ((outlined > 0) != (logits > 0)) | ((outlined.abs() < near) & (logits.abs() >= near))
    decides &= distance < 2
    return functional.max_pool3d(decides.float()[None, None], 3, 1, 1)[0, 0] > 0


def _trilinear(volumes: Tensor, ijk: Tensor) -> Tensor:
    """Return cubes [c, k, j, i] between their voxels, at indices i, j, k [3, n] within them; [c, n]."""
    places = (ijk.T * (2 / (volumes.shape[-1] - 1)) - 1)[None, None, None]
    return functional.grid_sample(volumes[None], places, mode="bilinear", padding_mode="border", align_corners=True)[0, :, 0, 0]
