"""Volumes from one grid onto another, and the mean of several."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from SparseAnatomyLib.grid import VoxelGrid


def resample(volume: np.ndarray, source: VoxelGrid, target: VoxelGrid) -> np.ndarray:
    """Interpolate a volume [k, j, i] linearly onto another grid of the same orientation; the border continues outwards.

    Args:
        volume: On `source`.
        source: Grid of the volume.
        target: Grid of the result.

    Returns:
        float32 [k, j, i] on `target`.
    """
    result = volume.astype(np.float32)
    shift = source.direction.T @ (target.origin_lps_mm - source.origin_lps_mm)
    for axis, (count, size) in enumerate(zip(target.size_ijk, source.size_ijk, strict=True)):
        position = np.clip((shift[axis] + np.arange(count) * target.spacing_mm[axis]) / source.spacing_mm[axis], 0, size - 1)
        low = position.astype(int)
        fraction = (position - low).astype(np.float32)
        array_axis = 2 - axis
        shape = [-1 if a == array_axis else 1 for a in range(3)]
        near, far = np.take(result, low, array_axis), np.take(result, np.minimum(low + 1, size - 1), array_axis)
        far -= near  # in place: these are volumes, which may be large
        far *= fraction.reshape(shape)
        far += near
        del near
        result = far
    return result


def mean_volume(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of at least one volume, float32; they may be made one after the other, and none is kept or changed."""
    total, count = np.zeros(1, np.float32), 0
    for count, volume in enumerate(volumes, 1):
        total = volume.copy() if count == 1 else np.add(total, volume, out=total)
    return np.divide(total, np.float32(count), out=total)
