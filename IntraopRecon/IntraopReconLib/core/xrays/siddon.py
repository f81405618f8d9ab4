"""Exact line integrals through piecewise-constant voxels: every ray is cut at every voxel border that it crosses.

It drives the simulation and serves as ground truth; a reconstruction never uses it, so that no method is judged with its own projector.
Source: Siddon, Fast calculation of the exact radiological path for a three-dimensional CT array, Medical Physics 12(2), 1985; the walk from
voxel to voxel follows Amanatides and Woo, A fast voxel traversal algorithm for ray tracing, Eurographics 1987.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from SparseAnatomyLib.frames import transform_points, transform_vectors
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid


def line_integrals(attenuation_per_mm: np.ndarray, grid: VoxelGrid, view: XrayView, subrays: int = 1) -> np.ndarray:
    """Integrate a volume along the rays from the source to the pixels of one view.

    Args:
        attenuation_per_mm: [k, j, i] on `grid`; zero outside it.
        grid: Where the voxels lie.
        view: Source and detector.
        subrays: Each pixel is the mean over subrays × subrays rays spread evenly over its area.

    Returns:
        Attenuation (line integrals, dimensionless), float32 [row, column].

    Raises:
        ValueError: The volume's shape is not the grid's.
    """
    if attenuation_per_mm.shape != grid.shape_kji:
        raise ValueError(f"attenuation_per_mm: expected shape {list(grid.shape_kji)}, got {list(attenuation_per_mm.shape)}.")
    volume = np.ascontiguousarray(attenuation_per_mm, dtype=np.float32)
    ijk_from_lps = np.linalg.inv(grid.lps_from_ijk)
    # Voxel n reaches from n to n + 1 in the kernel's coordinates.
    source, origin = transform_points(ijk_from_lps, np.stack([view.source_lps_mm, view.detector_origin_lps_mm])) + 0.5
    column, row = transform_vectors(ijk_from_lps, np.stack([view.column_step_lps_mm, view.row_step_lps_mm]))
    attenuation = np.empty(view.size_px[::-1], np.float32)
    _integrate_view(volume, grid.spacing_mm, source, origin, column, row, subrays, attenuation)
    return attenuation


@njit(parallel=True, cache=True)
def _integrate_view(volume, spacing, source, origin, column, row, subrays, attenuation):
    for r in prange(attenuation.shape[0]):
        for c in range(attenuation.shape[1]):
            total = 0.0
            for sub_row in range(subrays):
                for sub_column in range(subrays):
                    down = r + (sub_row + 0.5) / subrays - 0.5
                    right = c + (sub_column + 0.5) / subrays - 0.5
                    di = origin[0] + right * column[0] + down * row[0] - source[0]
                    dj = origin[1] + right * column[1] + down * row[1] - source[1]
                    dk = origin[2] + right * column[2] + down * row[2] - source[2]
                    length_mm = np.sqrt((di * spacing[0]) ** 2 + (dj * spacing[1]) ** 2 + (dk * spacing[2]) ** 2)
                    total += length_mm * _integrate_ray(volume, source[0], source[1], source[2], di, dj, dk)
            attenuation[r, c] = total / (subrays * subrays)


@njit(cache=True)
def _integrate_ray(volume, si, sj, sk, di, dj, dk):
    """Sum over voxels of value × share of the ray inside; the ray runs from s (share 0) to s + d (share 1)."""
    nk, nj, ni = volume.shape
    enter, leave = _clip(si, di, ni, 0.0, 1.0)
    enter, leave = _clip(sj, dj, nj, enter, leave)
    enter, leave = _clip(sk, dk, nk, enter, leave)
    if leave <= enter:
        return 0.0
    i, step_i, next_i, gap_i = _first_border(si, di, ni, enter)
    j, step_j, next_j, gap_j = _first_border(sj, dj, nj, enter)
    k, step_k, next_k, gap_k = _first_border(sk, dk, nk, enter)
    total = 0.0
    here = enter
    while 0 <= i < ni and 0 <= j < nj and 0 <= k < nk:
        border = min(next_i, next_j, next_k, leave)
        total += volume[k, j, i] * (border - here)
        if border >= leave:
            break
        here = border
        if border == next_i:
            i += step_i
            next_i += gap_i
        elif border == next_j:
            j += step_j
            next_j += gap_j
        else:
            k += step_k
            next_k += gap_k
    return total


@njit(cache=True)
def _clip(s, d, n, enter, leave):
    """Narrow the shares between which the ray lies within 0 and n along one axis."""
    if d == 0.0:
        return (enter, leave) if 0.0 <= s < n else (1.0, 0.0)
    first, last = -s / d, (n - s) / d
    if first > last:
        first, last = last, first
    return max(enter, first), min(leave, last)


@njit(cache=True)
def _first_border(s, d, n, enter):
    """Return the voxel at the entry, the step to the next, the share at the first border and the gap between borders, along one axis."""
    index = min(max(int(np.floor(s + enter * d)), 0), n - 1)
    if d > 0.0:
        return index, 1, max((index + 1 - s) / d, enter), 1.0 / d
    if d < 0.0:
        return index, -1, max((index - s) / d, enter), -1.0 / d
    return index, 0, np.inf, np.inf
