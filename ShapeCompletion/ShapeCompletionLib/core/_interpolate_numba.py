"""The kernel of `interpolate`: every voxel on its own, in parallel."""

from __future__ import annotations

import numba
import numpy as np

_EPSILON_MM = np.float32(1e-3)


@numba.njit(cache=True, fastmath=True)
def _height(frame, x, y, z):
    """Return the signed height of a point above a slice's plane."""
    return (x - frame[0]) * frame[9] + (y - frame[1]) * frame[10] + (z - frame[2]) * frame[11]


@numba.njit(cache=True, fastmath=True)
def _in_plane(distances, start, rows, columns, frame, x, y, z):
    """Return a slice's in-plane signed distance below a point, and how far outside its image that is."""
    dx, dy, dz = x - frame[0], y - frame[1], z - frame[2]
    column = (dx * frame[3] + dy * frame[4] + dz * frame[5]) / frame[12]
    row = (dx * frame[6] + dy * frame[7] + dz * frame[8]) / frame[13]
    inside_column = min(max(column, np.float32(0)), np.float32(columns - 1))
    inside_row = min(max(row, np.float32(0)), np.float32(rows - 1))
    outside_column = (column - inside_column) * frame[12]
    outside_row = (row - inside_row) * frame[13]
    outside = np.sqrt(outside_column * outside_column + outside_row * outside_row)
    c0 = min(int(inside_column), max(columns - 2, 0))
    r0 = min(int(inside_row), max(rows - 2, 0))
    c1, r1 = min(c0 + 1, columns - 1), min(r0 + 1, rows - 1)
    fc, fr = inside_column - np.float32(c0), inside_row - np.float32(r0)
    above = distances[start + r0 * columns + c0] * (1 - fc) + distances[start + r0 * columns + c1] * fc
    below = distances[start + r1 * columns + c0] * (1 - fc) + distances[start + r1 * columns + c1] * fc
    return above * (1 - fr) + below * fr - outside, outside


@numba.njit(cache=True, fastmath=True)
def _of_stack(slices, first, last, gap, x, y, z):
    """Return the field of the stack of slices first..last-1 at a point, and the distance to the nearest slice's image."""
    distances, starts, shapes, frames, radii = slices
    big = np.float32(1e9)
    below, above = big, big  # distances to the nearest planes on both sides of the point
    n_below, n_above = -1, -1
    nx, ny, nz = frames[first, 9], frames[first, 10], frames[first, 11]
    for n in range(first, last):
        frame = frames[n]
        height = _height(frame, x, y, z)
        if frame[9] * nx + frame[10] * ny + frame[11] * nz < 0:
            height = -height
        if height >= 0:
            if height < below:
                below, n_below = height, n
        elif -height < above:
            above, n_above = -height, n
    value, nearest = np.float32(0), big
    if n_below >= 0:
        value, outside = _in_plane(distances, starts[n_below], shapes[n_below, 0], shapes[n_below, 1], frames[n_below], x, y, z)
        nearest = np.sqrt(below * below + outside * outside)
    if n_above >= 0:
        other, outside = _in_plane(distances, starts[n_above], shapes[n_above, 0], shapes[n_above, 1], frames[n_above], x, y, z)
        nearest = min(nearest, np.sqrt(above * above + outside * outside))
        if n_below >= 0:
            u = below / (above + below)
            return value * (1 - u) + other * u, nearest
        value, below, n_below = other, above, n_above
    u, radius = below / gap, radii[n_below]  # beyond the last slice
    if u <= 1:
        return value * (1 - u) + min(-radius, value) * u, nearest
    return min(-radius, value) - (below - gap) * radius / gap, nearest


@numba.njit(cache=True, fastmath=True, parallel=True)
def evaluate_on_grid(lps_from_ijk, size, flat, slices, stacks, gaps):
    """Return the field and the distance to the nearest slice at the voxels `flat` of a grid, float32 [n] each.

    `slices` are the arrays of `InterpolationField` that have one entry a slice: distances, starts, shapes, frames, radii.
    """
    field = np.empty(len(flat), np.float32)
    nearest = np.empty(len(flat), np.float32)
    count, last_stack = len(stacks), stacks[-1]
    for n in numba.prange(len(flat)):
        i = np.float32(flat[n] % size[0])
        j = np.float32((flat[n] // size[0]) % size[1])
        k = np.float32(flat[n] // (size[0] * size[1]))
        x = lps_from_ijk[0, 0] * i + lps_from_ijk[0, 1] * j + lps_from_ijk[0, 2] * k + lps_from_ijk[0, 3]
        y = lps_from_ijk[1, 0] * i + lps_from_ijk[1, 1] * j + lps_from_ijk[1, 2] * k + lps_from_ijk[1, 3]
        z = lps_from_ijk[2, 0] * i + lps_from_ijk[2, 1] * j + lps_from_ijk[2, 2] * k + lps_from_ijk[2, 3]
        total, weights, closest, first = np.float32(0), np.float32(0), np.float32(1e9), 0
        for stack in range(last_stack + 1):
            last = first
            while last < count and stacks[last] == stack:
                last += 1
            value, distance = _of_stack(slices, first, last, gaps[stack], x, y, z)
            weight = 1 / (distance * distance + _EPSILON_MM * _EPSILON_MM)
            total += weight * value
            weights += weight
            closest = min(closest, distance)
            first = last
        field[n] = total / weights
        nearest[n] = closest
    return field, nearest
