"""What the Warp kernels of the projector and the voxelizer share: which Gaussians reach which tile.

Warp compiles one source for the CPU and for CUDA. A block of threads draws a tile of the image or volume, each thread a pixel, from the
list of the Gaussians that reach it; or it gathers for one Gaussian. Lists keep the order of the Gaussians, sums are taken in a fixed order,
and nothing is added by atomics: the same input gives the same bits. On the CPU a block is one thread, which does all of the block's work.

Importing this module costs a second, and the first launch a compilation: import it where it is used, after `projector.prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import warp as wp
from torch import Tensor

from IntraopReconLib.core.voxels._warp_launch import array, launch

from ._numba_rows import SUPPORT_SIGMAS

REACH = SUPPORT_SIGMAS * 1.005  # a little more, so that rounding leaves nothing out

Six = wp.types.vector(6, wp.float32)


@wp.func
def symmetric(c: Six) -> wp.mat33:
    """Return the matrix of the upper triangle (xx, xy, xz, yy, yz, zz)."""
    return wp.mat33(c[0], c[1], c[2], c[1], c[3], c[4], c[2], c[4], c[5])


@wp.func
def tile_range(middle: float, half: float, size: int, edge: int) -> wp.vec2i:
    """Return the tiles [first, last) of so many pixels that [middle - half, middle + half] reaches, of an image of `size` pixels."""
    low = wp.max(middle - half, 0.0)
    high = wp.min(middle + half, float(size - 1))
    if low <= high:
        return wp.vec2i(int(low) // edge, int(high) // edge + 1)
    return wp.vec2i(0, 0)


@wp.kernel(enable_backward=False)
def _list_tiles(
    boxes: wp.array2d(dtype=wp.int32),
    ends: wp.array(dtype=wp.int64),
    rows: int,
    columns: int,
    tiles: wp.array(dtype=wp.int32),
    owners: wp.array(dtype=wp.int32),
):
    n = wp.tid()
    place = wp.int32(0)
    if n > 0:
        place = int(ends[n - 1])
    for z in range(boxes[n, 0], boxes[n, 1]):
        for y in range(boxes[n, 2], boxes[n, 3]):
            for x in range(boxes[n, 4], boxes[n, 5]):
                tiles[place] = (z * rows + y) * columns + x
                owners[place] = n
                place += 1


def lists_by_tile(boxes: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return for each tile what reaches it.

    Args:
        boxes: The tiles that each footprint reaches, as [first, last) along each axis of `shape`, [footprint, 6] int32.
        shape: Number of tiles along each axis; the first is the view or the slice.

    Returns:
        Where each tile's list begins, and where the last ends, [tile + 1] int32; and the lists of footprints, one after the other, int32.
    """
    ends = (boxes[:, 1::2] - boxes[:, ::2]).prod(1).cumsum(0)
    length = int(ends[-1]) if len(ends) else 0  # the one number that the host waits for: memory is taken by it
    tiles, owners = (torch.empty(length, dtype=torch.int32, device=boxes.device) for _ in range(2))
    launch(_list_tiles, len(boxes), [array(boxes), array(ends), shape[1], shape[2], array(tiles), array(owners)], boxes.device)
    tiles, order = torch.sort(tiles, stable=True)
    edges = torch.arange(math.prod(shape) + 1, dtype=torch.int32, device=boxes.device)
    return torch.searchsorted(tiles, edges, out_int32=True), owners[order]


def filled(struct: type, tensors: Sequence[Tensor]) -> wp.StructInstance:
    """Return a struct of arrays with tensors for its fields, in their order."""
    instance = struct()
    for (name, variable), tensor in zip(struct.vars.items(), tensors, strict=True):
        setattr(instance, name, array(tensor, variable.type.dtype))
    return instance
