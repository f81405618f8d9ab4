"""The voxelizer as numba kernels for the CPU: slabs of slices in parallel forward, Gaussians in parallel backward; see `_projector_numba`.

A slice through a 3D Gaussian is a 2D Gaussian, a footprint as X-rays have them. The grid is axis-aligned with unit spacing: `voxelizer`
brings the Gaussians into voxel units first.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ._numba_rows import FOOTPRINT, PADDING, SUPPORT_SIGMAS, draw, moments, rows_within, sums_for

SLAB_SLICES = 8  # slices that one thread draws at a time
CHUNK = 64  # Gaussians that one thread gathers for at a time


@numba.njit(fastmath=True, error_model="numpy")
def _slice(mean, covariance, precision, dz, f):
    """Write into f [FOOTPRINT] what a Gaussian of central value one is in the slice at distance dz from its centre."""
    share = dz / covariance[5]
    rest = np.float32(SUPPORT_SIGMAS * SUPPORT_SIGMAS) - dz * share
    height = max(covariance[3] - covariance[4] * covariance[4] / covariance[5], np.float32(0.0))
    f[0], f[1] = mean[0] + covariance[2] * share, mean[1] + covariance[4] * share
    f[2], f[3], f[4] = precision[0], precision[1], precision[3]
    f[5] = math.exp(np.float32(-0.5) * dz * share)
    f[6] = math.sqrt(rest * height) if rest > np.float32(0.0) else np.float32(-1.0)
    f[7] = math.sqrt(max(rest, np.float32(0.0)) / precision[0])


@numba.njit(fastmath=True, error_model="numpy")
def _half_depth(covariance):
    return np.float32(SUPPORT_SIGMAS) * math.sqrt(covariance[5])


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def forward(means, covariances, precisions, densities, slices, rows, columns):
    """Return the volume [slices, rows, columns + PADDING] of Gaussians; what lies in the padding means nothing.

    Args:
        means: [N, 3] voxels (i, j, k).
        covariances, precisions: [N, 6] upper triangles, in voxels.
        densities: [N], central values.
    """
    pitch = columns + PADDING
    volume = np.zeros((slices, rows, pitch), np.float32)
    voxels = volume.ravel()
    for slab in numba.prange((slices + SLAB_SLICES - 1) // SLAB_SLICES):
        f = np.empty(FOOTPRINT, np.float32)
        bottom, top = slab * SLAB_SLICES, min(slices, (slab + 1) * SLAB_SLICES)
        for n in range(means.shape[0]):
            first, last = rows_within(means[n, 2], _half_depth(covariances[n]), bottom, top)
            for k in range(first, last):
                _slice(means[n], covariances[n], precisions[n], np.float32(k) - means[n, 2], f)
                f[5] *= densities[n]
                draw(f, voxels, k * rows * pitch, columns, 0, rows)
    return volume


@numba.njit(fastmath=True, error_model="numpy")
def _add_slice(f, slice_moments, mean, dz, first, second):
    """Add one slice's moments, about its own centre, to those about the mean: first (1, x, y, z), second (xx, xy, xz, yy, yz, zz)."""
    m0, mx, my, mxx, mxy, myy = slice_moments
    sx, sy, weight = f[0] - mean[0], f[1] - mean[1], f[5]
    m0 *= weight
    mx, my = weight * mx + sx * m0, weight * my + sy * m0
    first[0] += m0
    first[1] += mx
    first[2] += my
    first[3] += dz * m0
    second[0] += weight * mxx + np.float32(2.0) * sx * mx - sx * sx * m0
    second[1] += weight * mxy + sx * my + sy * mx - sx * sy * m0
    second[2] += dz * mx
    second[3] += weight * myy + np.float32(2.0) * sy * my - sy * sy * m0
    second[4] += dz * my
    second[5] += dz * dz * m0


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def backward(means, covariances, precisions, densities, gradient):
    """Return the gradients by means [N, 3], precisions [N, 6] (off-diagonal entries count twice) and densities [N].

    Args:
        gradient: Gradient by the volume, [slices, rows, columns + PADDING]; the padding must be zero.
    """
    count, slices, rows, pitch = means.shape[0], gradient.shape[0], gradient.shape[1], gradient.shape[2]
    columns = pitch - PADDING
    voxels = gradient.ravel()
    by_mean = np.zeros((count, 3), np.float32)
    by_precision = np.zeros((count, 6), np.float32)
    by_density = np.zeros(count, np.float32)
    for chunk in numba.prange((count + CHUNK - 1) // CHUNK):
        f, sums = np.empty(FOOTPRINT, np.float32), sums_for(columns)
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            first, second = np.zeros(4, np.float32), by_precision[n]  # second collects the second moments
            bottom, top = rows_within(means[n, 2], _half_depth(covariances[n]), 0, slices)
            for k in range(bottom, top):
                dz = np.float32(k) - means[n, 2]
                _slice(means[n], covariances[n], precisions[n], dz, f)
                _add_slice(f, moments(f, voxels, k * rows * pitch, columns, rows, sums), means[n], dz, first, second)
            a, d = precisions[n], densities[n]
            by_density[n] = first[0]
            by_mean[n, 0] = d * (a[0] * first[1] + a[1] * first[2] + a[2] * first[3])
            by_mean[n, 1] = d * (a[1] * first[1] + a[3] * first[2] + a[4] * first[3])
            by_mean[n, 2] = d * (a[2] * first[1] + a[4] * first[2] + a[5] * first[3])
            for c in range(6):
                second[c] *= d * (np.float32(-0.5) if c in (0, 3, 5) else np.float32(-1.0))
    return by_mean, by_precision, by_density
