"""The kernel of `calibration`: millions of probabilities in one pass."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, parallel=True)
def probability(logits, distance, base, per_voxel, lowest, near):
    """Return what `Temperature.probability` says, float32 [n].

    Args:
        logits, distance: Float32 [n].
        base, per_voxel, lowest: Of the temperature, at least `lowest`.
        near: What exceeds this, either way, counts in full.
    """
    result = np.empty(len(logits), np.float32)
    for n in numba.prange(len(logits)):
        clipped = min(max(logits[n], -near), near)
        scaled = clipped / max(base + per_voxel * distance[n], lowest) + (logits[n] - clipped)
        result[n] = np.float32(1) / (np.float32(1) + np.exp(-scaled))
    return result
