"""The voxelizer as Warp kernels, for CUDA and the CPU: tiles of voxels in parallel forward, Gaussians in parallel backward.

The grid is axis-aligned with unit spacing: `voxelizer` brings the Gaussians into voxel units first.
"""

from __future__ import annotations

import math

import torch
import warp as wp
from torch import Tensor

from IntraopReconLib.core.voxels._warp_launch import array, launch, launch_blocks

from ._warp_tiles import REACH, Six, filled, lists_by_tile, symmetric, tile_range

COLUMNS, ROWS, SLICES = 8, 4, 4  # of a tile: a block of threads

Moments = wp.types.vector(10, wp.float32)  # 1, x, y, z, xx, xy, xz, yy, yz, zz


@wp.struct
class Field:
    """Gaussians in voxel units: means (i, j, k), upper triangles of covariances and precisions, central values."""

    means: wp.array(dtype=wp.vec3)
    covariances: wp.array(dtype=Six)
    precisions: wp.array(dtype=Six)
    densities: wp.array(dtype=float)


@wp.func
def _unit(precision: Six, d: wp.vec3) -> float:
    """Return a Gaussian of central value one at an offset from its mean; nothing beyond its reach."""
    square = wp.dot(d, symmetric(precision) @ d)
    if square > REACH * REACH:
        return 0.0
    return wp.exp(-0.5 * square)


@wp.kernel(enable_backward=False)
def _make_boxes(field: Field, size: wp.vec3i, boxes: wp.array2d(dtype=wp.int32)):
    n = wp.tid()
    mean = field.means[n]
    c = field.covariances[n]
    slices = tile_range(mean[2], REACH * wp.sqrt(c[5]), size[2], SLICES)
    rows = tile_range(mean[1], REACH * wp.sqrt(c[3]), size[1], ROWS)
    columns = tile_range(mean[0], REACH * wp.sqrt(c[0]), size[0], COLUMNS)
    boxes[n, 0] = slices[0]
    boxes[n, 1] = slices[1]
    boxes[n, 2] = rows[0]
    boxes[n, 3] = rows[1]
    boxes[n, 4] = columns[0]
    boxes[n, 5] = columns[1]


@wp.kernel(enable_backward=False)
def _fill(
    field: Field, starts: wp.array(dtype=wp.int32), lists: wp.array(dtype=wp.int32), tiles: wp.vec2i, volume: wp.array3d(dtype=float)
):
    tile, lane = wp.tid()
    first_slice = tile // (tiles[0] * tiles[1]) * SLICES
    first_row = tile // tiles[0] % tiles[1] * ROWS
    first_column = tile % tiles[0] * COLUMNS
    for voxel in range(lane, SLICES * ROWS * COLUMNS, wp.block_dim()):
        k = first_slice + voxel // (ROWS * COLUMNS)
        j = first_row + voxel // COLUMNS % ROWS
        i = first_column + voxel % COLUMNS
        if k < volume.shape[0] and j < volume.shape[1] and i < volume.shape[2]:
            value = wp.float32(0.0)
            for item in range(starts[tile], starts[tile + 1]):
                n = lists[item]
                value += field.densities[n] * _unit(field.precisions[n], wp.vec3(float(i), float(j), float(k)) - field.means[n])
            volume[k, j, i] = value


@wp.func
def _first(low: float, size: int) -> int:
    """Return the first index at or above `low`, of `size`."""
    return int(wp.ceil(wp.clamp(low, 0.0, float(size))))


@wp.func
def _moments(mean: wp.vec3, covariance: Six, precision: Six, gradient: wp.array3d(dtype=float), lane: int) -> Moments:
    """Return one thread's share of the sums over a volume of voxel · unit Gaussian · (1, offset, products of offsets).

    The threads of a block take turns at the voxels of a parallelepiped about the Gaussian: all its slices are equally high, all their rows
    equally wide, each about its own middle.
    """
    sums = Moments()
    slices = gradient.shape[0]
    rows = gradient.shape[1]
    columns = gradient.shape[2]
    half_depth = REACH * wp.sqrt(covariance[5])
    half_height = REACH * wp.sqrt(wp.max(covariance[3] - covariance[4] * covariance[4] / covariance[5], 0.0))
    half_width = REACH / wp.sqrt(precision[0])
    first_slice = _first(mean[2] - half_depth, slices)
    last_slice = int(wp.floor(wp.clamp(mean[2] + half_depth, -1.0, float(slices - 1))))
    height = int(wp.min(2.0 * half_height, float(rows - 1))) + 1
    width = int(wp.min(2.0 * half_width, float(columns - 1))) + 1
    for voxel in range(lane, (last_slice + 1 - first_slice) * height * width, wp.block_dim()):
        k = first_slice + voxel // (height * width)
        dz = float(k) - mean[2]
        j = _first(mean[1] + covariance[4] / covariance[5] * dz - half_height, rows) + voxel // width % height
        dy = float(j) - mean[1]
        i = _first(mean[0] - (precision[1] * dy + precision[2] * dz) / precision[0] - half_width, columns) + voxel % width
        if j < rows and i < columns:
            dx = float(i) - mean[0]
            weight = gradient[k, j, i] * _unit(precision, wp.vec3(dx, dy, dz))
            sums += weight * Moments(1.0, dx, dy, dz, dx * dx, dx * dy, dx * dz, dy * dy, dy * dz, dz * dz)
    return sums


@wp.kernel(enable_backward=False)
def _gather(
    field: Field,
    gradient: wp.array3d(dtype=float),
    by_means: wp.array(dtype=wp.vec3),
    by_precisions: wp.array(dtype=Six),
    by_densities: wp.array(dtype=float),
):
    n, lane = wp.tid()
    share = _moments(field.means[n], field.covariances[n], field.precisions[n], gradient, lane)
    m = wp.tile_reduce(wp.add, wp.tile(share, preserve_type=True))[0]
    if lane == 0:
        density = field.densities[n]
        by_densities[n] = m[0]
        by_means[n] = density * (symmetric(field.precisions[n]) @ wp.vec3(m[1], m[2], m[3]))
        by_precisions[n] = -density * Six(0.5 * m[4], m[5], m[6], 0.5 * m[7], m[8], 0.5 * m[9])


class _Voxelization(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shape_kji, *field):
        slices, rows, columns = shape_kji
        count, device = len(field[0]), field[0].device
        boxes = torch.empty((count, 6), dtype=torch.int32, device=device)
        launch(_make_boxes, count, [filled(Field, field), wp.vec3i(columns, rows, slices), array(boxes)], device)
        tiles = math.ceil(slices / SLICES), math.ceil(rows / ROWS), math.ceil(columns / COLUMNS)
        starts, lists = lists_by_tile(boxes, tiles)
        volume = torch.empty(shape_kji, device=device)
        drawn = [filled(Field, field), array(starts), array(lists), wp.vec2i(tiles[2], tiles[1]), array(volume)]
        launch_blocks(_fill, len(starts) - 1, drawn, device)
        ctx.save_for_backward(*field)
        return volume

    @staticmethod
    def backward(ctx, gradient):
        field = ctx.saved_tensors
        by_means, by_precisions, by_densities = (field[i].new_empty(field[i].shape) for i in (0, 2, 3))
        by_field = [array(by_means, wp.vec3), array(by_precisions, Six), array(by_densities)]
        launch_blocks(_gather, len(field[0]), [filled(Field, field), array(gradient), *by_field], gradient.device)
        return None, by_means, None, by_precisions, by_densities


def voxelize(means: Tensor, covariances: Tensor, precisions: Tensor, densities: Tensor, shape_kji: tuple[int, int, int]) -> Tensor:
    """Sample Gaussians on a grid of voxels; float32, on the device of the means.

    Args:
        means: [N, 3] voxels (i, j, k).
        covariances, precisions: [N, 6] upper triangles, in voxels; gradients go to the precisions.
        densities: [N], central values.
        shape_kji: Of the grid.

    Returns:
        The volume, [k, j, i].
    """
    return _Voxelization.apply(shape_kji, *(t.float() for t in (means, covariances, precisions, densities)))
