"""Ray-driven projection (Joseph) and voxel-driven backprojection of a volume, as numba kernels in voxel units."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(fastmath=True, error_model="numpy")
def _clip(start, slope, size, first, last):
    """Narrow the planes [first, last] to those in which start + plane · slope lies between the outermost voxel centres."""
    low, high = np.float32(0.0), np.float32(size - 1)
    if abs(slope) < np.float32(1e-7):
        return (first, last) if low <= start <= high else (np.float32(1.0), np.float32(0.0))
    a, b = (low - start) / slope, (high - start) / slope
    return max(first, min(a, b)), min(last, max(a, b))


@numba.njit(fastmath=True, error_model="numpy")
def _along_ray(voxels, sizes, strides, first, count, ray):
    """Return the sum over `count` planes from `first` of the volume, interpolated where the ray (start and slope of b, of c) meets them."""
    _, height, width = sizes
    start_b, slope_b, start_c, slope_c = ray
    last_b, last_c = np.float32(max(height - 2, 0)), np.float32(max(width - 2, 0))
    along, across_b, across_c = np.int32(strides[0]), np.int32(strides[1]), np.int32(strides[2])
    next_b, next_c = np.int32(across_b if height > 1 else 0), np.int32(across_c if width > 1 else 0)
    total = np.float32(0.0)
    for n in range(np.int32(count)):
        plane = np.int32(n) + np.int32(first)
        b, c = start_b + np.float32(plane) * slope_b, start_c + np.float32(plane) * slope_c
        ib, ic = np.int32(min(max(b, np.float32(0.0)), last_b)), np.int32(min(max(c, np.float32(0.0)), last_c))
        fb, fc = b - np.float32(ib), c - np.float32(ic)
        at = plane * along + ib * across_b + ic * across_c
        v00, v01 = voxels[np.uint64(np.uint32(at))], voxels[np.uint64(np.uint32(at + next_c))]
        v10, v11 = voxels[np.uint64(np.uint32(at + next_b))], voxels[np.uint64(np.uint32(at + next_b + next_c))]
        near, far = v00 + fc * (v01 - v00), v10 + fc * (v11 - v10)
        total += near + fb * (far - near)
    return total


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def forward(voxels, sizes, strides, rays, rows, columns):
    """Return line integrals and the lengths of the rays within the volume, both [rows, columns] in voxel units.

    Args:
        voxels: The volume, flat, of fewer than 2³¹ voxels.
        sizes, strides: Of its axes (a, b, c) in voxels; a is the one that the rays run along most.
        rays: Source, detector origin, column step and row step in voxel units, [3] each as (a, b, c).

    Source: Joseph, IEEE Transactions on Medical Imaging 1 (1982) 192.
    """
    planes, height, width = sizes
    source, origin, column_step, row_step = rays
    sums, lengths = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    for r in numba.prange(rows):
        for c in range(columns):
            da = origin[0] + c * column_step[0] + r * row_step[0] - source[0]
            inverse = np.float32(1.0) / da
            slope_b = (origin[1] + c * column_step[1] + r * row_step[1] - source[1]) * inverse
            slope_c = (origin[2] + c * column_step[2] + r * row_step[2] - source[2]) * inverse
            start_b, start_c = np.float32(source[1] - source[0] * slope_b), np.float32(source[2] - source[0] * slope_c)
            slope_b, slope_c = np.float32(slope_b), np.float32(slope_c)
            first, last = _clip(start_b, slope_b, height, np.float32(0.0), np.float32(planes - 1))
            first, last = _clip(start_c, slope_c, width, first, last)
            if last < first:
                continue
            step = math.sqrt(np.float32(1.0) + slope_b * slope_b + slope_c * slope_c)
            plane = math.ceil(first)
            count = math.floor(last) - plane + 1
            sums[r, c] = step * _along_ray(voxels, sizes, strides, plane, count, (start_b, slope_b, start_c, slope_c))
            lengths[r, c] = (last - first) * step
    return sums, lengths


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def backward(volume, image, matrix):
    """Add to each voxel of the volume [k, j, i] the image's value where the voxel projects to; nothing outside the image.

    Args:
        volume: Changed in place.
        image: [rows + 3, columns + 3], within a border of zeros, one pixel before and two after.
        matrix: [3, 4], voxel indices (i, j, k) to homogeneous pixels (column, row) of the bordered image.
    """
    slices, height, width = volume.shape
    rows, columns = image.shape
    voxels, pixels, m = volume.ravel(), image.ravel(), matrix
    right, bottom, pitch = np.float32(columns - 2), np.float32(rows - 2), np.int32(columns)
    for k in numba.prange(slices):
        for j in range(height):
            x = m[0, 1] * np.float32(j) + m[0, 2] * np.float32(k) + m[0, 3]
            y = m[1, 1] * np.float32(j) + m[1, 2] * np.float32(k) + m[1, 3]
            w = m[2, 1] * np.float32(j) + m[2, 2] * np.float32(k) + m[2, 3]
            line = np.uint64((k * height + j) * width)
            for i in range(np.int32(width)):
                inverse = np.float32(1.0) / (w + m[2, 0] * np.float32(i))
                column = min(max((x + m[0, 0] * np.float32(i)) * inverse, np.float32(0.0)), right)
                row = min(max((y + m[1, 0] * np.float32(i)) * inverse, np.float32(0.0)), bottom)
                ic, ir = np.int32(column), np.int32(row)
                fc, fr = column - np.float32(ic), row - np.float32(ir)
                offset, below = np.uint64(np.uint32(ir * pitch + ic)), np.uint64(np.uint32(ir * pitch + ic + pitch))
                upper = pixels[offset] + fc * (pixels[offset + np.uint64(1)] - pixels[offset])
                lower = pixels[below] + fc * (pixels[below + np.uint64(1)] - pixels[below])
                voxels[line + np.uint64(i)] += upper + fr * (lower - upper)
