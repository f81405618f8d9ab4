"""What the numba kernels of the projector and the voxelizer share: 2D Gaussians drawn into an image, an image's moments under them.

A footprint is eight float32: column, row, conic a, b, c, amplitude, half height, half width. It stands for
amplitude · exp(-½ (a dx² + 2 b dx dy + c dy²)); the half height bounds dy, the half width bounds dx about a row's own middle -b/a · dy.

Speed comes from loops that become vector instructions and branches that are easy to foresee: all rows of a footprint are equally wide (a
parallelogram about the ellipse), in whole blocks that images are padded to hold. Offsets are unsigned: numba then leaves out its test for
negative indices, which no vector loop survives.

Numba's cache looks only at the file that a kernel stands in: after a change here, touch those that import it.
"""

from __future__ import annotations

import math

import numba
import numpy as np

SUPPORT_SIGMAS = 4.0  # beyond, a Gaussian is below 4e-4 of its peak
FOOTPRINT = 8
LANES = 8  # columns a block when drawing
BLOCK = 16  # columns a block when gathering: with 8, LLVM unrolls the loop before it can vectorize it
PADDING = 16  # columns that images have behind the last, for the last block


@numba.njit(fastmath=True, error_model="numpy")
def exp_negative(x):
    """Return exp(x) for -16 <= x <= 0 to a part in 10⁶: a polynomial for exp(x / 16), then four squarings, no branches."""
    y = x * np.float32(0.0625)
    p = np.float32(1.0) + y * (
        np.float32(1.0) + y * (np.float32(0.49999989) + y * (np.float32(0.1666648) + y * (np.float32(0.0416388) + y * np.float32(0.0080))))
    )
    p = p * p
    p = p * p
    p = p * p
    return p * p


@numba.njit(fastmath=True, error_model="numpy")
def rows_within(middle, half, first_row, last_row):
    """Return the rows [first, last) of [first_row, last_row) that lie within [middle - half, middle + half]."""
    first = max(middle - half, np.float32(first_row - 1)) + np.float32(1.0)
    last = min(middle + half, np.float32(last_row - 1)) + np.float32(1.0)
    return int(first), int(last)


@numba.njit(fastmath=True, error_model="numpy")
def _add_row(pixels, offset, width, start, constant, slope, curve, amplitude):
    """Add amplitude · exp(constant + dx · (slope + curve · dx)) to `width` flat pixels from `offset`; dx of the first is `start`."""
    for i in range(np.int32(width)):
        dx = start + np.float32(i)
        exponent = max(constant + dx * (slope + curve * dx), np.float32(-16.0))
        pixels[offset + np.uint64(i)] += amplitude * exp_negative(exponent)


@numba.njit(fastmath=True, error_model="numpy")
def draw(f, pixels, origin, columns, first_row, last_row):
    """Add a footprint to the rows [first_row, last_row) of an image.

    Args:
        f: [FOOTPRINT].
        pixels: Flat, float32; rows are columns + PADDING apart.
        origin: Offset of the image's first pixel.
        columns, first_row, last_row: The part to draw into.
    """
    pitch = columns + PADDING
    first_row, last_row = rows_within(f[1], f[6], first_row, last_row)
    if last_row <= first_row:
        return
    half, lean = f[7], -f[3] / f[2]
    width = np.int32(min(np.float32(2.0) * half, np.float32(columns))) // np.int32(LANES) * np.int32(LANES) + np.int32(LANES)
    for r in range(first_row, last_row):
        dy = np.float32(r) - f[1]
        left, right = f[0] + lean * dy - half, f[0] + lean * dy + half
        if right < np.float32(0.0) or left > np.float32(columns - 1):
            continue
        first = np.int32(min(max(left + np.float32(0.999), np.float32(0.0)), np.float32(pitch - width)))
        constant, slope, curve = np.float32(-0.5) * f[4] * dy * dy, -f[3] * dy, np.float32(-0.5) * f[2]
        _add_row(pixels, np.uint64(origin + r * pitch + first), width, np.float32(first) - f[0], constant, slope, curve, f[5])


@numba.njit(fastmath=True, error_model="numpy")
def _gather_row(pixels, offset, sums, at, blocks, start, exponent_terms, dy):
    """Add pixel · unit Gaussian · (1, dy, dy²) of so many blocks of a row to sums [block, 3, BLOCK], flat from `at`."""
    constant, slope, curve = exponent_terms
    for _ in range(blocks):
        for i in range(np.int32(BLOCK)):
            dx = start + np.float32(i)
            exponent = max(constant + dx * (slope + curve * dx), np.float32(-16.0))
            weight = pixels[offset + np.uint64(i)] * exp_negative(exponent)
            sums[at + np.uint64(i)] += weight
            sums[at + np.uint64(BLOCK + i)] += weight * dy
            sums[at + np.uint64(2 * BLOCK + i)] += weight * dy * dy
        start += np.float32(BLOCK)
        offset += np.uint64(BLOCK)
        at += np.uint64(3 * BLOCK)


@numba.njit(fastmath=True, error_model="numpy")
def sums_for(columns):
    """Return the scratch memory that `moments` wants for images of so many columns."""
    return np.zeros(3 * BLOCK * (columns // BLOCK + 2), np.float32)


@numba.njit(fastmath=True, error_model="numpy")
def moments(f, pixels, origin, columns, rows, sums):
    """Return the sums over an image of pixel · unit Gaussian · (1, dx, dy, dx², dx dy, dy²).

    Sums are kept by column, so that adding across lanes is done once a footprint and not once a row.

    Args:
        f, pixels, origin, columns: As for `draw`; the padding must be zero.
        rows: The image's rows.
        sums: Scratch memory from `sums_for`, zero on entry and on return.
    """
    pitch = columns + PADDING
    first_row, last_row = rows_within(f[1], f[6], 0, rows)
    x, y, a, b, c, half, lean = f[0], f[1], f[2], f[3], f[4], f[7], -f[3] / f[2]
    reach = math.sqrt(half * half + lean * lean * f[6] * f[6])
    left, right = max(x - reach, np.float32(0.0)), min(x + reach, np.float32(columns - 1))
    m0, mx, my, mxx, mxy, myy = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    if right < left or last_row <= first_row:
        return m0, mx, my, mxx, mxy, myy
    first = int(left)
    blocks, start = (int(right) - first) // BLOCK + 1, np.float32(first) - x
    for r in range(first_row, last_row):
        dy = np.float32(r) - y
        middle = lean * dy - start
        begin = int(max(middle - half, np.float32(0.0))) // BLOCK
        end = min(int(max(middle + half, np.float32(0.0))) // BLOCK + 1, blocks)
        offset, at = np.uint64(origin + r * pitch + first + begin * BLOCK), np.uint64(begin * 3 * BLOCK)
        exponent_terms = np.float32(-0.5) * c * dy * dy, -b * dy, np.float32(-0.5) * a
        _gather_row(pixels, offset, sums, at, end - begin, start + np.float32(begin * BLOCK), exponent_terms, dy)
    for block in range(blocks):
        for i in range(np.int32(BLOCK)):
            at = np.uint64(block * 3 * BLOCK + i)
            dx = start + np.float32(block * BLOCK) + np.float32(i)
            s0, s1, s2 = sums[at], sums[at + np.uint64(BLOCK)], sums[at + np.uint64(2 * BLOCK)]
            m0 += s0
            mx += s0 * dx
            my += s1
            mxx += s0 * dx * dx
            mxy += s1 * dx
            myy += s2
        sums[block * 3 * BLOCK : (block + 1) * 3 * BLOCK] = np.float32(0.0)
    return m0, mx, my, mxx, mxy, myy
