"""Total variation of volumes: the proximal step, by Chambolle's dual projection.

Source: Chambolle, Journal of Mathematical Imaging and Vision 20 (2004) 89.
"""

from __future__ import annotations

import math

import numba
import numpy as np

DUAL_STEP = 1.0 / 6.0


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def _primal(noisy, dual, weight, floor, result):
    """Write result = max(noisy + weight · div dual, floor)."""
    slices, rows, columns = noisy.shape
    for k in numba.prange(slices):
        for j in range(rows):
            for i in range(columns):
                divergence = dual[0, k, j, i] + dual[1, k, j, i] + dual[2, k, j, i]
                if i > 0:
                    divergence -= dual[0, k, j, i - 1]
                if j > 0:
                    divergence -= dual[1, k, j - 1, i]
                if k > 0:
                    divergence -= dual[2, k - 1, j, i]
                result[k, j, i] = max(noisy[k, j, i] + weight * divergence, floor)


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def _ascend(volume, dual, step):
    """Move the dual field along the gradient of the volume and back into the unit balls."""
    slices, rows, columns = volume.shape
    for k in numba.prange(slices):
        up = min(k + 1, slices - 1)
        for j in range(rows):
            on = min(j + 1, rows - 1)
            for i in range(columns):
                center = volume[k, j, i]
                x = dual[0, k, j, i] + step * ((volume[k, j, i + 1] if i + 1 < columns else center) - center)
                y = dual[1, k, j, i] + step * (volume[k, on, i] - center)
                z = dual[2, k, j, i] + step * (volume[up, j, i] - center)
                shrink = np.float32(1.0) / max(np.float32(1.0), math.sqrt(x * x + y * y + z * z))
                dual[0, k, j, i], dual[1, k, j, i], dual[2, k, j, i] = x * shrink, y * shrink, z * shrink


def denoise(volume: np.ndarray, weight: float, dual: np.ndarray, iterations: int) -> None:
    """Replace a volume by a nearby one of small total variation without negative values, in place.

    It goes towards the minimum over u >= 0 of ½ |u - volume|² + weight · TV(u).

    Args:
        volume: float32 [k, j, i].
        weight: In the volume's unit.
        dual: Where the last call ended (zeros at first), float32 [3, k, j, i]; changed in place, so that a series of calls converges.
        iterations: Steps of this call.
    """
    if weight <= 0:
        np.maximum(volume, 0, out=volume)
        return
    noisy = volume.copy()
    for _ in range(iterations):
        _primal(noisy, dual, np.float32(weight), np.float32(0.0), volume)
        _ascend(volume, dual, np.float32(DUAL_STEP / weight))
    _primal(noisy, dual, np.float32(weight), np.float32(0.0), volume)
