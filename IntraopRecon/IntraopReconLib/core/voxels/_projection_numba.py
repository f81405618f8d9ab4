"""Ray-driven projection (Joseph) and voxel-driven backprojection of a volume, as numba kernels in voxel units."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(fastmath=True)
def _clip(start, slope, size, first, last):
    """Narrow the planes [first, last] to those in which start + plane · slope lies between the outermost voxel centres."""
    low, high = np.float32(0.0), np.float32(size - 1)
    if abs(slope) < np.float32(1e-7):
        return (first, last) if low <= start <= high else (np.float32(1.0), np.float32(0.0))
    a, b = (low - start) / slope, (high - start) / slope
    return max(first, min(a, b)), min(last, max(a, b))


@numba.njit(parallel=True, fastmath=True, cache=True)
def forward(volume, source, origin, column_step, row_step, rows, columns):
    """Return line integrals and the lengths of the rays within the volume, both [rows, columns] in voxel units.

    Args:
        volume: [a, b, c], its first axis the one that the rays run along most.
        source, origin, column_step, row_step: The view in voxel units, [3] as (a, b, c).

    Source: Joseph, IEEE Transactions on Medical Imaging 1 (1982) 192.
    """
    planes, height, width = volume.shape
    voxels = volume.ravel()
    sums, lengths = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    for r in numba.prange(rows):
        for c in range(columns):
            da = origin[0] + c * column_step[0] + r * row_step[0] - source[0]
            inverse = np.float32(1.0) / da
            slope_b = (origin[1] + c * column_step[1] + r * row_step[1] - source[1]) * inverse
            slope_c = (origin[2] + c * column_step[2] + r * row_step[2] - source[2]) * inverse
            start_b, start_c = source[1] - source[0] * slope_b, source[2] - source[0] * slope_c
            first, last = _clip(start_b, slope_b, height, np.float32(0.0), np.float32(planes - 1))
            first, last = _clip(start_c, slope_c, width, first, last)
            if last < first:
                continue
            step = math.sqrt(np.float32(1.0) + slope_b * slope_b + slope_c * slope_c)
            total = np.float32(0.0)
            first_plane, last_plane = np.int32(math.ceil(first)), np.int32(math.floor(last))
            for a in range(np.int32(last_plane - first_plane + 1)):
                plane = np.float32(a + first_plane)
                b, c_ = start_b + plane * slope_b, start_c + plane * slope_c
                ib = np.int32(min(max(b, np.float32(0.0)), np.float32(height) - np.float32(1.001)))
                ic = np.int32(min(max(c_, np.float32(0.0)), np.float32(width) - np.float32(1.001)))
                fb, fc = b - np.float32(ib), c_ - np.float32(ic)
                offset = np.uint64(((a + first_plane) * np.int32(height) + ib) * np.int32(width) + ic)
                near = voxels[offset] + fc * (voxels[offset + np.uint64(1)] - voxels[offset])
                offset += np.uint64(width)
                far = voxels[offset] + fc * (voxels[offset + np.uint64(1)] - voxels[offset])
                total += near + fb * (far - near)
            sums[r, c] = total * step
            lengths[r, c] = (last - first) * step
    return sums, lengths


@numba.njit(parallel=True, fastmath=True, cache=True)
def backward(volume, image, matrix):
    """Add to each voxel of the volume [k, j, i] the image's value where the voxel projects to; nothing outside the image.

    Args:
        volume: Changed in place.
        image: [rows + 3, columns + 3], within a border of zeros, one pixel before and two after.
        matrix: [3, 4], voxel indices (i, j, k) to homogeneous pixels (column, row) of the bordered image.
    """
    slices, height, width = volume.shape
    rows, columns = image.shape
    pixels = image.ravel()
    m = matrix
    right, bottom = np.float32(columns - 2), np.float32(rows - 2)
    for k in numba.prange(slices):
        for j in range(height):
            line = volume[k, j]
            x = m[0, 1] * j + m[0, 2] * k + m[0, 3]
            y = m[1, 1] * j + m[1, 2] * k + m[1, 3]
            w = m[2, 1] * j + m[2, 2] * k + m[2, 3]
            for i in range(np.int32(width)):
                inverse = np.float32(1.0) / (w + m[2, 0] * np.float32(i))
                column = min(max((x + m[0, 0] * np.float32(i)) * inverse, np.float32(0.0)), right)
                row = min(max((y + m[1, 0] * np.float32(i)) * inverse, np.float32(0.0)), bottom)
                ic, ir = np.int32(column), np.int32(row)
                fc, fr = column - np.float32(ic), row - np.float32(ir)
                offset = np.uint64(ir * np.int32(columns) + ic)
                above = pixels[offset] + fc * (pixels[offset + np.uint64(1)] - pixels[offset])
                offset += np.uint64(columns)
                below = pixels[offset] + fc * (pixels[offset + np.uint64(1)] - pixels[offset])
                line[i] += above + fr * (below - above)
