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
_BLOCK = 2**25  # voxels times slices that are looked at together: some 100 MB an array


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
        self._starts = torch.from_numpy(field.starts).to(self._device)
        self._shapes = torch.from_numpy(field.shapes).to(self._device)
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
        parts = [self._at(ijk_of(flat, grid), planes) for flat in where.split(max(_BLOCK // widest, 1))]
        field, nearest = (torch.cat(each) for each in zip(*parts, strict=True))
        return field, nearest

    def _at(self, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return field and distance at voxels, homogeneous [4, n]; the stacks are blended."""
        total, weights, closest = (torch.zeros_like(ijk[0]) for _ in range(3))
        closest += _FAR_MM
        for stack in range(len(self._stacks)):
            value, distance = self._of_stack(stack, ijk, planes)
            weight = 1 / (distance * distance + _EPSILON_MM**2)
            total, weights, closest = total + weight * value, weights + weight, torch.minimum(closest, distance)
        return total / weights, closest

    def _of_stack(self, stack: int, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field of a stack, and the distance to the nearest slice's image."""
        (first, last), gap = self._stacks[stack], float(self._field.gaps_mm[stack])
        heights = planes[0, first:last] @ ijk  # [slice, n]
        below, n_below = torch.where(heights >= 0, heights, _FAR_MM).min(0)
        above, n_above = torch.where(heights < 0, -heights, _FAR_MM).min(0)
        low, outside_low = self._in_plane(first + n_below, ijk, planes)
        high, outside_high = self._in_plane(first + n_above, ijk, planes)
        has_low, has_high = below < _FAR_MM, above < _FAR_MM
        to_low = torch.where(has_low, (below * below + outside_low * outside_low).sqrt(), _FAR_MM)
        to_high = torch.where(has_high, (above * above + outside_high * outside_high).sqrt(), _FAR_MM)
        share = below / (above + below)
        between = low * (1 - share) + high * share
        end, apart = torch.where(has_low, low, high), torch.where(has_low, below, above)
        beyond = self._beyond(end, apart, self._radii[first + torch.where(has_low, n_below, n_above)], gap)
        return torch.where(has_low & has_high, between, beyond), torch.minimum(to_low, to_high)

    @staticmethod
    def _beyond(end: Tensor, apart: Tensor, radius: Tensor, gap: float) -> Tensor:
        """Return the field beyond a stack's last slice, where it tapers off."""
        share, empty = apart / gap, torch.minimum(-radius, end)
        return torch.where(share <= 1, end * (1 - share) + empty * share, empty - (apart - gap) * radius / gap)

    def _in_plane(self, number: Tensor, ijk: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the in-plane signed distance of the slice of a number, one a voxel, and how far outside its image that is."""
        column, row = ((planes[part, number] * ijk.T).sum(1) for part in (1, 2))
        rows, columns = self._shapes[number].unbind(1)
        column_pitch, row_pitch = self._pitches[number].unbind(1)
        inside_column = torch.minimum(column.clamp(min=0), (columns - 1).to(column.dtype))
        inside_row = torch.minimum(row.clamp(min=0), (rows - 1).to(row.dtype))
        outside = torch.hypot((column - inside_column) * column_pitch, (row - inside_row) * row_pitch)
        c0 = torch.minimum(inside_column.long(), (columns - 2).clamp(min=0))
        r0 = torch.minimum(inside_row.long(), (rows - 2).clamp(min=0))
        c1, r1 = torch.minimum(c0 + 1, columns - 1), torch.minimum(r0 + 1, rows - 1)
        at_column, at_row = inside_column - c0, inside_row - r0
        above, below = (
            self._distances[self._starts[number] + r * columns + c0] * (1 - at_column)
            + self._distances[self._starts[number] + r * columns + c1] * at_column
            for r in (r0, r1)
        )
        return above * (1 - at_row) + below * at_row - outside, outside


def ijk_of(flat: Tensor, grid: VoxelGrid) -> Tensor:
    """Return the indices of voxels, given by their flat ones [n], homogeneous, float32 [4, n]."""
    columns, rows, _ = grid.size_ijk
    i, j, k = flat % columns, (flat // columns) % rows, flat // (columns * rows)
    return torch.stack([i, j, k, torch.ones_like(i)]).float()


def _planes(field: InterpolationField, lps_from_ijk: np.ndarray) -> Tensor:
    """Return a voxel's height above each slice, along the stack's first normal, its column and its row; float32 [3, slice, 4].

    All three are affine in the voxel's indices. They are combined in float64, so that far from the origin nothing is lost.
    """
    frames = field.frames.astype(np.float64)
    first = np.searchsorted(field.stacks, field.stacks)
    normals = frames[:, 9:12] * np.where((frames[:, 9:12] * frames[first, 9:12]).sum(1) < 0, -1, 1)[:, None]
    directions = np.stack([normals, frames[:, 3:6] / frames[:, 12:13], frames[:, 6:9] / frames[:, 13:14]])
    relative = lps_from_ijk[None, :3] - np.concatenate([np.zeros((len(frames), 3, 3)), frames[:, :3, None]], 2)
    return torch.from_numpy(np.einsum("psx,sxh->psh", directions, relative).astype(np.float32))
