"""The kernels of `surface`: the cube looked up at the voxels of another grid, in parallel."""

from __future__ import annotations

import numba
import numpy as np

from ShapeCompletionLib.core._warp_numba import trilinear


@numba.njit(cache=True, fastmath=True)
def _place(flat, size, m):
    """Return the cube's indices (i, j, k) of a grid's voxel."""
    return _moved(np.float32(flat % size[0]), np.float32((flat // size[0]) % size[1]), np.float32(flat // (size[0] * size[1])), m)


@numba.njit(cache=True, fastmath=True)
def _moved(i, j, k, m):
    x = m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]
    y = m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]
    z = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
    return x, y, z


@numba.njit(cache=True, fastmath=True)
def _logit(field, distance, correction, limit, slope):
    return slope * min(max(field, -limit), limit) + min(distance, np.float32(1)) * correction


@numba.njit(cache=True, fastmath=True, parallel=True)
def coarse(cube_logits, cube_distance, unclear, cube_from_grid, size, saturated, slope):
    """Return logit and distance to the nearest slice at all voxels of a grid, float32 [n] each, from the cube alone.

    Args:
        cube_logits, cube_distance: Of the cube, float32 [k, j, i].
        unclear: Where the cube cannot tell, and the logit is left at zero, bool [k, j, i].
        cube_from_grid: The cube's indices (i, j, k) from the grid's, float32 [3, 4].
        size: Of the grid along i, j, k.
        saturated: Where the nearest voxel's logit is larger than this, either way, it is taken as it is.
        slope: Logit lost per voxel outside the cube.
    """
    logits = np.empty((size[2], size[1], size[0]), np.float32)
    distances = np.empty((size[2], size[1], size[0]), np.float32)
    last = np.float32(cube_logits.shape[0] - 1)
    for layer in numba.prange(size[2]):
        for row in range(size[1]):
            for column in range(size[0]):
                x, y, z = _moved(np.float32(column), np.float32(row), np.float32(layer), cube_from_grid)
                i, j, k = min(max(x, np.float32(0)), last), min(max(y, np.float32(0)), last), min(max(z, np.float32(0)), last)
                outside = np.sqrt((x - i) * (x - i) + (y - j) * (y - j) + (z - k) * (z - k))
                near = int(k + np.float32(0.5)), int(j + np.float32(0.5)), int(i + np.float32(0.5))
                value, distance = cube_logits[near], cube_distance[near]
                if abs(value) < saturated:
                    value, distance = trilinear(cube_logits, k, j, i), trilinear(cube_distance, k, j, i)
                logits[layer, row, column] = np.float32(0) if unclear[near] else value - slope * outside
                distances[layer, row, column] = distance + outside
    return logits.ravel(), distances.ravel()


@numba.njit(cache=True, fastmath=True, parallel=True)
def blend(coarse, near, fine, correction, cube_from_grid, size, limit, slope):
    """Put the logit of a finer field, and its distances, in place at some voxels.

    Args:
        coarse: Logits and distances, as `coarse` returns them; changed.
        near: The voxels, int64 [n].
        fine: Field and distance to the nearest slice there, float32 [n] each, in voxels of the cube.
        correction: Of the cube, float32 [k, j, i].
        cube_from_grid, size: As in `coarse`.
        limit: Beyond which the field says nothing more.
        slope: Logit per voxel of the field.
    """
    (logits, distances), (field, distance) = coarse, fine
    last = np.float32(correction.shape[0] - 1)
    for n in numba.prange(len(near)):
        i, j, k = _place(near[n], size, cube_from_grid)
        di, dj, dk = i - min(max(i, np.float32(0)), last), j - min(max(j, np.float32(0)), last), k - min(max(k, np.float32(0)), last)
        outside = np.sqrt(di * di + dj * dj + dk * dk)
        distances[near[n]] = distance[n]
        logits[near[n]] = _logit(field[n], distance[n], trilinear(correction, k, j, i), limit, slope) - slope * outside
