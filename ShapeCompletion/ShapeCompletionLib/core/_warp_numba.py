"""The kernel of `augment`: a shape's signed distances through a warp, point by point, in parallel."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)
def trilinear(array, k, j, i):
    """Return an array [k, j, i] between its voxels; beyond its border, the border's value."""
    kk = min(max(k, np.float32(0)), np.float32(array.shape[0] - 1))
    jj = min(max(j, np.float32(0)), np.float32(array.shape[1] - 1))
    ii = min(max(i, np.float32(0)), np.float32(array.shape[2] - 1))
    k0, j0, i0 = min(int(kk), array.shape[0] - 2), min(int(jj), array.shape[1] - 2), min(int(ii), array.shape[2] - 2)
    fk, fj, fi = kk - np.float32(k0), jj - np.float32(j0), ii - np.float32(i0)
    near = (array[k0, j0, i0] * (1 - fi) + array[k0, j0, i0 + 1] * fi) * (1 - fj) + (
        array[k0, j0 + 1, i0] * (1 - fi) + array[k0, j0 + 1, i0 + 1] * fi
    ) * fj
    far = (array[k0 + 1, j0, i0] * (1 - fi) + array[k0 + 1, j0, i0 + 1] * fi) * (1 - fj) + (
        array[k0 + 1, j0 + 1, i0] * (1 - fi) + array[k0 + 1, j0 + 1, i0 + 1] * fi
    ) * fj
    return near * (1 - fk) + far * fk


@numba.njit(cache=True, fastmath=True, parallel=True)
def sample_warped(field, spacing, shape_from_lps, bend, bend_ijk_from_lps, points):
    """Return a shape's signed distances at points of the patient.

    Args:
        field: Signed distance in mm, float32 [k, j, i].
        spacing: Of the field's voxels, mm.
        shape_from_lps: The field's voxel indices (i, j, k) from LPS mm, float32 [3, 4].
        bend: Displacement in LPS mm on a coarse lattice, float32 [3, k, j, i].
        bend_ijk_from_lps: The lattice's indices from LPS mm, float32 [3, 4].
        points: LPS mm, float32 [n, 3].
    """
    result = np.empty(len(points), np.float32)
    top = np.array([field.shape[2] - 1, field.shape[1] - 1, field.shape[0] - 1], np.float32)
    for n in numba.prange(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        m = bend_ijk_from_lps
        i = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        j = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        k = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        x, y, z = x + trilinear(bend[0], k, j, i), y + trilinear(bend[1], k, j, i), z + trilinear(bend[2], k, j, i)
        m = shape_from_lps
        i = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        j = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        k = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        di = i - min(max(i, np.float32(0)), top[0])
        dj = j - min(max(j, np.float32(0)), top[1])
        dk = k - min(max(k, np.float32(0)), top[2])
        result[n] = trilinear(field, k, j, i) - spacing * np.sqrt(di * di + dj * dj + dk * dk)
    return result
