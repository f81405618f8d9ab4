"""Where another outline would tell most: the plane near which the most voxels are expected to be wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

from .completion import NextSlice
from .layouts import NORMALS_LPS
from .sampling import Slice

_DOUBTFUL = 0.05  # expected share of wrong voxels below which a place is taken for known
_SAME_DIRECTION = 0.94  # cosine; a patient's axis this close to an outlined direction is no other direction
_AS_GOOD = 0.98  # of what the best plane settles: nothing tells such planes apart
_ROOM = 1.2


def next_slice(
    probability: np.ndarray, distance_mm: np.ndarray, grid: VoxelGrid, slices: Sequence[Slice], reach_mm: float
) -> NextSlice | None:
    """Find the plane, parallel to the slices or across one of the patient's axes, that would tell most.

    A calibrated voxel of probability p is wrong with probability min(p, 1 - p). A plane is thought to settle what lies in it, less and
    less up to `reach_mm` beside it; what is that near to a slice already, that slice has told its share of. Of planes that are as good,
    side by side, the middle one is taken.

    Args:
        probability: Calibrated, float32 [k, j, i].
        distance_mm: To the nearest slice, of the same shape.
        grid: Where its voxels lie.
        slices: What is outlined already.
        reach_mm: How far an outline tells something.

    Returns:
        The plane, or None where nothing is doubtful.
    """
    wrong = np.minimum(probability, 1 - probability)
    places = np.argwhere(wrong > _DOUBTFUL)
    if not len(places):
        return None
    points = transform_points(grid.lps_from_ijk, places[:, ::-1].astype(float))
    untold = np.minimum(distance_mm[tuple(places.T)] / reach_mm, 1.0)
    volume_mm3 = wrong[tuple(places.T)] * untold.astype(float) * grid.voxel_volume_mm3
    found = [(*_best_height(points @ normal, volume_mm3, reach_mm), normal) for normal in _directions(slices)]
    gain, height, normal = max(found, key=lambda one: one[0])
    near = np.abs(points @ normal - height) < reach_mm / 2
    middle = np.average(points[near], axis=0, weights=volume_mm3[near])
    center = middle + (height - middle @ normal) * normal
    extent = 2 * _ROOM * float(np.linalg.norm(points[near] - center, axis=1).max())
    return NextSlice(center, normal, extent, gain)


def _directions(slices: Sequence[Slice]) -> list[np.ndarray]:
    """Return the distinct normals of the slices, and those of the patient's axes that are none of them."""
    directions: list[np.ndarray] = []
    for normal in [*(one.normal_lps for one in slices), *map(np.array, NORMALS_LPS.values())]:
        if all(abs(float(normal @ other)) < _SAME_DIRECTION for other in directions):
            directions.append(np.asarray(normal, float))
    return directions


def _best_height(heights: np.ndarray, volume_mm3: np.ndarray, reach_mm: float) -> tuple[float, float]:
    """Return what the best plane across a direction settles, in mm³, and its height along it in mm."""
    step = reach_mm / 8
    first = heights.min() - reach_mm
    bins = ((heights - first) / step).astype(int)
    weights = np.bincount(bins, volume_mm3, minlength=int(bins.max()) + 9)
    settled = np.convolve(weights, np.bartlett(17), mode="same")
    best = int(np.argmax(settled))
    worse = np.flatnonzero(settled < _AS_GOOD * settled[best])
    last = int(worse[worse > best].min(initial=len(settled))) - 1
    middle = (int(worse[worse < best].max(initial=-1)) + 1 + last) / 2
    return float(settled[best]), float(first + (middle + 0.5) * step)
