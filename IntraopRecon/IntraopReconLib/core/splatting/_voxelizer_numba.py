"""The voxelizer as numba kernels for the CPU: slabs of slices in parallel forward, Gaussians in parallel backward; see `_projector_numba`.

The grid is axis-aligned with unit spacing: `voxelizer` brings the Gaussians into voxel units first.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ._numba_rows import LANES, SUPPORT_SIGMAS, add_row, block_range, row_moments

SLAB_SLICES = 8
REACH_SQUARED = np.float32(SUPPORT_SIGMAS * SUPPORT_SIGMAS)


@numba.njit(fastmath=True)
def _slices(mean, covariance, first_slice, last_slice):
    """Return the slices [first, last) that a Gaussian reaches within [first_slice, last_slice)."""
    half = np.float32(SUPPORT_SIGMAS) * math.sqrt(covariance[5])
    first = max(mean[2] - half, np.float32(first_slice - 1)) + np.float32(1.0)
    last = min(mean[2] + half, np.float32(last_slice - 1)) + np.float32(1.0)
    return int(first), int(last)


@numba.njit(fastmath=True)
def _rows(mean, covariance, dz, rows):
    """Return the rows [first, last) that a Gaussian reaches in the slice at distance dz from its centre."""
    rest = max(REACH_SQUARED - dz * dz / covariance[5], np.float32(0.0))
    half = math.sqrt(rest * max(covariance[3] - covariance[4] * covariance[4] / covariance[5], np.float32(0.0)))
    middle = mean[1] + covariance[4] / covariance[5] * dz
    first = max(middle - half, np.float32(-1.0)) + np.float32(1.0)
    last = min(middle + half, np.float32(rows - 1)) + np.float32(1.0)
    return int(first), int(last)


@numba.njit(fastmath=True)
def _row(mean, precision, dy, dz, columns):
    """Return what a Gaussian is in one row: first column, width in whole blocks, dx at the first, and the exponent's three terms."""
    inverse = np.float32(1.0) / precision[0]
    linear = precision[1] * dy + precision[2] * dz
    constant = precision[3] * dy * dy + np.float32(2.0) * precision[4] * dy * dz + precision[5] * dz * dz
    discriminant = linear * linear - precision[0] * (constant - REACH_SQUARED)
    half = math.sqrt(max(discriminant, np.float32(0.0))) * inverse
    first, width = block_range(mean[0] - linear * inverse, half, columns)
    return first, width, np.float32(first) - mean[0], np.float32(-0.5) * constant, -linear, np.float32(-0.5) * precision[0]


@numba.njit(parallel=True, fastmath=True, cache=True)
def forward(means, covariances, precisions, densities, slices, rows, columns):
    """Return the volume [slices, rows, columns + LANES] of Gaussians; the last LANES columns are padding.

    Args:
        means: [N, 3] voxels (i, j, k).
        covariances, precisions: [N, 6] upper triangles, in voxels.
        densities: [N], central values.
    """
    volume = np.zeros((slices, rows, columns + LANES), np.float32)
    voxels = volume.ravel()
    pitch = columns + LANES
    for slab in numba.prange((slices + SLAB_SLICES - 1) // SLAB_SLICES):
        bottom, top = slab * SLAB_SLICES, min(slices, (slab + 1) * SLAB_SLICES)
        for n in range(means.shape[0]):
            first_slice, last_slice = _slices(means[n], covariances[n], bottom, top)
            for k in range(first_slice, last_slice):
                dz = np.float32(k) - means[n, 2]
                first_row, last_row = _rows(means[n], covariances[n], dz, rows)
                for j in range(first_row, last_row):
                    first, width, start, constant, slope, curve = _row(means[n], precisions[n], np.float32(j) - means[n, 1], dz, columns)
                    add_row(voxels, np.uint64((k * rows + j) * pitch + first), width, start, constant, slope, curve, densities[n])
    return volume


@numba.njit(parallel=True, fastmath=True, cache=True)
def backward(means, covariances, precisions, densities, gradient):
    """Return the gradients by means [N, 3], precisions [N, 6] (off-diagonal entries count twice) and densities [N].

    Args:
        gradient: Gradient by the volume, [slices, rows, columns + LANES]; the padding must be zero.
    """
    count, slices, rows, pitch = means.shape[0], gradient.shape[0], gradient.shape[1], gradient.shape[2]
    columns = pitch - LANES
    voxels = gradient.ravel()
    by_mean = np.zeros((count, 3), np.float32)
    by_precision = np.zeros((count, 6), np.float32)
    by_density = np.zeros(count, np.float32)
    for n in numba.prange(count):
        m0, mx, my, mz = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        first_slice, last_slice = _slices(means[n], covariances[n], 0, slices)
        second = by_precision[n]  # collects the second moments
        for k in range(first_slice, last_slice):
            dz = np.float32(k) - means[n, 2]
            first_row, last_row = _rows(means[n], covariances[n], dz, rows)
            for j in range(first_row, last_row):
                dy = np.float32(j) - means[n, 1]
                first, width, start, constant, slope, curve = _row(means[n], precisions[n], dy, dz, columns)
                s0, s1, s2 = row_moments(voxels, np.uint64((k * rows + j) * pitch + first), width, start, constant, slope, curve)
                m0 += s0
                mx += s1
                my += s0 * dy
                mz += s0 * dz
                second[0] += s2
                second[1] += s1 * dy
                second[2] += s1 * dz
                second[3] += s0 * dy * dy
                second[4] += s0 * dy * dz
                second[5] += s0 * dz * dz
        a, d = precisions[n], densities[n]
        by_density[n] = m0
        by_mean[n, 0] = d * (a[0] * mx + a[1] * my + a[2] * mz)
        by_mean[n, 1] = d * (a[1] * mx + a[3] * my + a[4] * mz)
        by_mean[n, 2] = d * (a[2] * mx + a[4] * my + a[5] * mz)
        for c in range(6):
            second[c] *= d * (np.float32(-0.5) if c in (0, 3, 5) else np.float32(-1.0))
    return by_mean, by_precision, by_density
