"""Line integrals together with how they change when the rays move: numba kernels in voxel units, beside those of `_projection_numba`."""

from __future__ import annotations

import math

import numba
import numpy as np

from ._projection_numba import _clip


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def values_and_slopes(volume):
    """Return the volume [k, j, i] with its central differences along k, j and i, float32 [k, j, i, 4]; half of them at the borders."""
    slices, rows, columns = volume.shape
    half = np.float32(0.5)
    field = np.empty((slices, rows, columns, 4), np.float32)
    for k in numba.prange(slices):
        up, down = min(k + 1, slices - 1), max(k - 1, 0)
        for j in range(rows):
            on, back = min(j + 1, rows - 1), max(j - 1, 0)
            for i in range(columns):
                right, left = min(i + 1, columns - 1), max(i - 1, 0)
                field[k, j, i, 0] = volume[k, j, i]
                field[k, j, i, 1] = half * (volume[up, j, i] - volume[down, j, i])
                field[k, j, i, 2] = half * (volume[k, on, i] - volume[k, back, i])
                field[k, j, i, 3] = half * (volume[k, j, right] - volume[k, j, left])
    return field


@numba.njit(fastmath=True, error_model="numpy")
def _along_ray(field, sizes, strides, slopes, first, count, ray):
    """Return sums over `count` planes from `first`: the value, the three slopes, and the three slopes times the plane's number."""
    _, height, width = sizes
    start_b, slope_b, start_c, slope_c = ray
    last_b, last_c = np.float32(max(height - 2, 0)), np.float32(max(width - 2, 0))
    along, across_b, across_c = 4 * strides[0], 4 * strides[1], 4 * strides[2]
    next_b, next_c = (across_b if height > 1 else 0), (across_c if width > 1 else 0)
    value = np.float32(0.0)
    by_a, by_b, by_c = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    times_a, times_b, times_c = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for n in range(count):
        plane = first + n
        number = np.float32(plane)
        b, c = start_b + number * slope_b, start_c + number * slope_c
        ib, ic = np.int64(min(max(b, np.float32(0.0)), last_b)), np.int64(min(max(c, np.float32(0.0)), last_c))
        fb, fc = b - np.float32(ib), c - np.float32(ic)
        w11 = fb * fc
        w10, w01 = fb - w11, fc - w11
        w00 = np.float32(1.0) - fb - w01
        p00 = plane * along + ib * across_b + ic * across_c
        p01, p10, p11 = p00 + next_c, p00 + next_b, p00 + next_b + next_c
        value += w00 * field[p00] + w01 * field[p01] + w10 * field[p10] + w11 * field[p11]
        s = slopes[0]
        a_here = w00 * field[p00 + s] + w01 * field[p01 + s] + w10 * field[p10 + s] + w11 * field[p11 + s]
        s = slopes[1]
        b_here = w00 * field[p00 + s] + w01 * field[p01 + s] + w10 * field[p10 + s] + w11 * field[p11 + s]
        s = slopes[2]
        c_here = w00 * field[p00 + s] + w01 * field[p01 + s] + w10 * field[p10 + s] + w11 * field[p11 + s]
        by_a, by_b, by_c = by_a + a_here, by_b + b_here, by_c + c_here
        times_a, times_b, times_c = times_a + number * a_here, times_b + number * b_here, times_c + number * c_here
    return value, by_a, by_b, by_c, times_a, times_b, times_c


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def forward_with_motion(field, sizes, strides, slopes, rays, rows, columns):
    """Return line integrals and their derivatives by a rigid motion of the rays, [7, rows, columns] in voxel units.

    First the line integral, as `_projection_numba.forward`; then the integral of the gradient g, by (a, b, c): what a shift of the rays
    changes; then the integral of r × g, by (a, b, c), r from voxel 0: what a turn changes.

    Args:
        field: As `values_and_slopes` returns it, flat.
        sizes, strides: Of the volume's axes (a, b, c) in voxels; a is the one that the rays run along most.
        slopes: Where the slopes along a, b and c stand in the field's last axis.
        rays: Source, detector origin, column step and row step in voxel units, [3] each as (a, b, c).
    """
    planes, height, width = sizes
    source, origin, column_step, row_step = rays
    result = np.zeros((7, rows, columns), np.float32)
    for r in numba.prange(rows):
        for c in range(columns):
            da = origin[0] + c * column_step[0] + r * row_step[0] - source[0]
            inverse = np.float32(1.0) / da
            slope_b = np.float32((origin[1] + c * column_step[1] + r * row_step[1] - source[1]) * inverse)
            slope_c = np.float32((origin[2] + c * column_step[2] + r * row_step[2] - source[2]) * inverse)
            start_b, start_c = np.float32(source[1] - source[0] * slope_b), np.float32(source[2] - source[0] * slope_c)
            first, last = _clip(start_b, slope_b, height, np.float32(0.0), np.float32(planes - 1))
            first, last = _clip(start_c, slope_c, width, first, last)
            if last < first:
                continue
            step = math.sqrt(np.float32(1.0) + slope_b * slope_b + slope_c * slope_c)
            plane = math.ceil(first)
            count = math.floor(last) - plane + 1
            sums = _along_ray(field, sizes, strides, slopes, plane, count, (start_b, slope_b, start_c, slope_c))
            value, by_a, by_b, by_c, times_a, times_b, times_c = sums
            result[0, r, c] = step * value
            result[1, r, c], result[2, r, c], result[3, r, c] = step * by_a, step * by_b, step * by_c
            # r = (n, start_b + n · slope_b, start_c + n · slope_c) on plane n
            result[4, r, c] = step * (start_b * by_c + slope_b * times_c - start_c * by_b - slope_c * times_b)
            result[5, r, c] = step * (start_c * by_a + slope_c * times_a - times_c)
            result[6, r, c] = step * (times_b - start_b * by_a - slope_b * times_a)
    return result
