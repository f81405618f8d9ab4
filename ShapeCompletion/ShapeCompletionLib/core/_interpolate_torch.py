"""The field of `interpolate` on a graphics card: what `_interpolate_numba` says, for all voxels at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from SparseAnatomyLib.grid import VoxelGrid

if TYPE_CHECKING:
    from ShapeCompletionLib.core.interpolate import InterpolationField

_EPSILON_MM = 1e-3
_FAR_MM = 1e9
_BLOCK = 2**26  # numbers that are held at a time for voxels that are looked at together: some 250 MB an array
_NUMBERS_PER_VOXEL = 64  # beside one for each slice


class FieldOnCard:
    """An interpolation field whose slices lie on a device.

    Args:
        field: The slices.
        device: Where.
    """

    def __init__(self, field: InterpolationField, device: str) -> None:
        self._field, self._device = field, torch.device(device)
        self._distances = torch.from_numpy(field.distances_mm).to(self._device)
        self._radii = torch.from_numpy(field.radii_mm).to(self._device)
        pixels = np.concatenate([field.shapes[:, ::-1], field.starts[:, None]], 1)  # columns, rows, first pixel
        self._pixels = torch.from_numpy(pixels).to(self._device)
        self._pitches = torch.from_numpy(field.frames[:, 12:14]).to(self._device)
        ends = np.searchsorted(field.stacks, np.arange(field.stacks[-1] + 2))
        self._stacks = [(int(first), int(last)) for first, last in itertools.pairwise(ends)]

    def on_grid(self, grid: VoxelGrid, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Evaluate on a grid.

        Args:
            grid: Any orientation.
            where: Flat indices of the voxels wanted, int64 [n], on the device; all by default.

        Returns:
            As `InterpolationField.on_grid`, on the device: float32 [k, j, i], or [n].
        """
        if where is None:
            flat = torch.arange(int(np.prod(grid.size_ijk)), device=self._device)
            field, nearest = self.on_grid(grid, flat)
            return field.reshape(grid.shape_kji), nearest.reshape(grid.shape_kji)
        planes = _planes(self._field, grid.lps_from_ijk).to(self._device)
        widest = max(last - first for first, last in self._stacks)
        parts = [self._at(ijk_of(flat, grid), planes) for flat in where.split(_BLOCK // (_NUMBERS_PER_VOXEL + widest))]
        field, nearest = (torch.cat(each) for each in zip(*parts, strict=True))
        return field, nearest

    def _at(self, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return field and distance at voxels, homogeneous [4, n]; the stacks are blended."""
        if len(self._stacks) == 1:
            return self._of_stack(0, ijk, planes)
        values, distances = (
            torch.stack(each) for each in zip(*(self._of_stack(n, ijk, planes) for n in range(len(self._stacks))), strict=True)
        )
        weights = 1 / (distances.square() + _EPSILON_MM**2)
        return (weights * values).sum(0) / weights.sum(0), distances.amin(0)

    def _of_stack(self, stack: int, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field of a stack, and the distance to the nearest slice's image."""
        (first, last), gap = self._stacks[stack], float(self._field.gaps_mm[stack])
        heights = planes[first:last, 0] @ ijk  # [slice, n]
        sides = torch.stack([torch.where(heights >= 0, heights, _FAR_MM), torch.where(heights < 0, -heights, _FAR_MM)])
        apart, number = sides.min(1)  # of the nearest slices below and above, [2, n]
        number = number + first
        value, outside = self._in_plane(number, ijk, planes)
        is_there = apart < _FAR_MM
        distance = torch.where(is_there, torch.hypot(apart, outside), _FAR_MM).amin(0)
        share = apart[0] / (apart[0] + apart[1])
        between = value[0] * (1 - share) + value[1] * share
        end, beyond, number = (torch.where(is_there[0], *each) for each in (value, apart, number))
        return torch.where(is_there.all(0), between, _tapered(end, beyond, self._radii[number], gap)), distance

    def _in_plane(self, number: Tensor, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the in-plane signed distance of slices below voxels, and how far outside their images that is, [2, n].

        Args:
            number: Of the slices, [2, n].
            ijk: The voxels, [4, n].
            planes: As `_planes` returns them.
        """
        pixels = self._pixels[number]
        size, start = pixels[..., :2], pixels[..., 2]  # columns and rows
        place = (planes[number, 1:] * ijk.T[:, None]).sum(-1)  # column and row, [2, n, 2]
        inside = place.clamp(min=0).minimum((size - 1).to(place.dtype))
        outside = ((place - inside) * self._pitches[number]).square().sum(-1).sqrt()
        low = inside.long().minimum((size - 2).clamp(min=0))
        corners = torch.stack([low, (low + 1).minimum(size - 1)], -1)  # [2, n, column and row, first and second]
        share = inside - low
        weights = torch.stack([1 - share, share], -1)
        columns, rows = corners.unbind(-2)
        pixel = start[..., None, None] + (rows * size[..., :1])[..., None] + columns[..., None, :]
        values = (self._distances[pixel] * weights[..., 0, None, :]).sum(-1)
        return (values * weights[..., 1, :]).sum(-1) - outside, outside


def _tapered(end: Tensor, apart: Tensor, radius: Tensor, gap: float) -> Tensor:
    """Return the field beyond a stack's last slice, where it ends."""
    share, empty = apart / gap, torch.minimum(-radius, end)
    return torch.where(share <= 1, end * (1 - share) + empty * share, empty - (apart - gap) * radius / gap)


def ijk_of(flat: Tensor, grid: VoxelGrid) -> Tensor:
    """Return the indices of voxels, given by their flat ones [n], homogeneous, float32 [4, n]."""
    columns, rows, _ = grid.size_ijk
    i, j, k = flat % columns, (flat // columns) % rows, flat // (columns * rows)
    return torch.stack([i, j, k, torch.ones_like(i)]).float()


def _planes(field: InterpolationField, lps_from_ijk: np.ndarray) -> Tensor:
    """Return a voxel's height above each slice, along the stack's first normal, its column and its row; float32 [slice, 3, 4].

    All three are affine in the voxel's indices. They are combined in float64, so that far from the origin nothing is lost.
    """
    frames = field.frames.astype(np.float64)
    first = np.searchsorted(field.stacks, field.stacks)
    normals = frames[:, 9:12] * np.where((frames[:, 9:12] * frames[first, 9:12]).sum(1) < 0, -1, 1)[:, None]
    directions = np.stack([normals, frames[:, 3:6] / frames[:, 12:13], frames[:, 6:9] / frames[:, 13:14]])
    relative = lps_from_ijk[None, :3] - np.concatenate([np.zeros((len(frames), 3, 3)), frames[:, :3, None]], 2)
    return torch.from_numpy(np.einsum("psx,sxh->sph", directions, relative).astype(np.float32))
