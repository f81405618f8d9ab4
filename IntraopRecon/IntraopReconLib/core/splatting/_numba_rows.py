"""What the numba kernels of the projector and the voxelizer share: Gaussians along one row of an image or a volume.

Along a row, a Gaussian is amplitude · exp(constant + dx · (slope + curve · dx)), dx being the distance from its centre in pixels. Rows are
worked in blocks of LANES pixels, so that the inner loops have no remainder and become vector instructions; images are padded to hold the
last block. Offsets are unsigned: numba then leaves out its test for negative indices, which no vector loop survives.
"""

from __future__ import annotations

import numba
import numpy as np

LANES = 8
SUPPORT_SIGMAS = 4.0  # beyond, a Gaussian is below 4e-4 of its peak


@numba.njit(fastmath=True)
def exp_negative(x):
    """Return exp(x) for -16 <= x <= 0 to a part in 10⁶: a polynomial for exp(x / 16), then four squarings, no branches."""
    y = x * np.float32(0.0625)
    p = np.float32(1.0) + y * (
        np.float32(1.0)
        + y * (np.float32(0.49999989) + y * (np.float32(0.1666648) + y * (np.float32(0.0416388) + y * np.float32(0.0080))))
    )
    p = p * p
    p = p * p
    p = p * p
    return p * p


@numba.njit(fastmath=True)
def block_range(middle, half, columns):
    """Return the first column of [middle - half, middle + half] within the row, and the columns to its end in whole blocks (0: none)."""
    first = int(max(middle - half, np.float32(0.0)))
    last = int(min(middle + half, np.float32(columns - 1))) + 1
    return first, max(last - first + LANES - 1, 0) // LANES * LANES


@numba.njit(fastmath=True)
def add_row(pixels, offset, width, start, constant, slope, curve, amplitude):
    """Add a Gaussian to `width` flat pixels from `offset`; dx of the first is `start`."""
    for i in range(np.int32(width)):
        dx = start + np.float32(i)
        exponent = max(constant + dx * (slope + curve * dx), np.float32(-16.0))
        pixels[offset + np.uint64(i)] += amplitude * exp_negative(exponent)


@numba.njit(fastmath=True)
def row_moments(pixels, offset, width, start, constant, slope, curve):
    """Return the sums over `width` flat pixels from `offset` of the pixel times the unit Gaussian times 1, dx and dx²."""
    s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0)
    for i in range(np.int32(width)):
        dx = start + np.float32(i)
        exponent = max(constant + dx * (slope + curve * dx), np.float32(-16.0))
        weight = pixels[offset + np.uint64(i)] * exp_negative(exponent)
        s0 += weight
        s1 += weight * dx
        s2 += weight * dx * dx
    return s0, s1, s2
