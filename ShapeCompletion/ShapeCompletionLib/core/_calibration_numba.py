"""The kernel of `calibration`: millions of probabilities in one pass."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, parallel=True)
def probability(logits, distance, base, per_voxel, lowest, highest, near):
    """Return what `Temperature.probability` says, float32 [n].

    Args:
        logits, distance: Float32 [n].
        base, per_voxel, lowest, highest: Of the temperature, between `lowest` and `highest`.
        near: What exceeds this, either way, counts in full.
    """
    result = np.empty(len(logits), np.float32)
    for n in numba.prange(len(logits)):
        clipped = min(max(logits[n], -near), near)
        scaled = clipped / max(min(base + per_voxel * distance[n], highest), lowest) + (logits[n] - clipped)
        result[n] = np.float32(1) / (np.float32(1) + np.exp(-scaled))
    return result
