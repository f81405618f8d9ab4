"""How the beads of a jig lie: extents, flatness, and the mirror planes and half turns that it nearly has."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import linear_sum_assignment

from .jig_checks import principal_extents

IMPROVEMENTS = 20  # of the center and the axes of a symmetry


@dataclass(frozen=True, eq=False)
class JigLayout:
    """How beads lie, in the unit of their coordinates.

    Attributes:
        extent_mm: From end to end along the principal axes, largest first, [3].
        plane_rms_mm: RMS distance from the best plane.
        symmetry_rms_mm: For each sign pattern along the principal axes, (-1, 1, 1) being a mirror across the largest, the RMS distance from
            the beads so turned or mirrored to the beads they fall upon, one to one; translation and small turns are fitted.
    """

    extent_mm: np.ndarray
    plane_rms_mm: float
    symmetry_rms_mm: dict[tuple[int, int, int], float]


def jig_layout(position_mm: np.ndarray) -> JigLayout:
    """Describe beads [B, 3]."""
    centered = position_mm - position_mm.mean(0)
    axes = np.linalg.svd(centered, full_matrices=False)[2]
    along = centered @ axes.T
    signs = [sign for sign in product((1, -1), repeat=3) if sign != (1, 1, 1)]
    symmetry = {sign: _symmetry_rms(along, np.array(sign)) for sign in signs}
    return JigLayout(np.ptp(along, axis=0), float(principal_extents(position_mm)[2]), symmetry)


def _symmetry_rms(points: np.ndarray, signs: np.ndarray) -> float:
    """Return the RMS distance from points [B, 3] with signs applied to the points, after the best small rigid motion."""
    image = points * signs
    for _ in range(IMPROVEMENTS):
        rows, columns = linear_sum_assignment(((image[:, None] - points[None]) ** 2).sum(-1))
        source, target = image[rows], points[columns]
        u, _, vt = np.linalg.svd((source - source.mean(0)).T @ (target - target.mean(0)))
        turn = (u * [1, 1, np.linalg.det(u @ vt)]) @ vt
        image = (image - source.mean(0)) @ turn + target.mean(0)
    return float(np.sqrt(((image[rows] - points[columns]) ** 2).sum(1).mean()))
