"""Training shapes, varied: turned, scaled, bent, mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.grid import VoxelGrid

from ._warp_numba import sample_warped
from .shapes import TrainingShape

_BEND_KNOTS, _BEND_LATTICE = 5, 21
_SMOOTHLY = ndimage.zoom(np.eye(_BEND_KNOTS), (_BEND_LATTICE / _BEND_KNOTS, 1), order=3)  # cubic splines between the knots


@dataclass(frozen=True, eq=False)
class WarpedShape:
    """A training shape seen through a warp.

    Attributes:
        shape: The shape.
        shape_from_lps_mm: Affine map of the patient's points to the shape's own, [4, 4].
        bend_mm: Displacement before it, on a lattice over `bend_grid`, float32 [3, k, j, i].
        bend_grid: Where the lattice lies.
    """

    shape: TrainingShape
    shape_from_lps_mm: np.ndarray
    bend_mm: np.ndarray
    bend_grid: VoxelGrid

    def signed_distance(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return the signed distance at points [n, 3], float32 [n], positive inside; in mm before the warp's scale."""
        index = np.linalg.inv(self.shape.grid.lps_from_ijk) @ self.shape_from_lps_mm
        bend_index = np.linalg.inv(self.bend_grid.lps_from_ijk)
        return sample_warped(
            self.shape.signed_distance_mm,
            np.float32(self.shape.grid.spacing_mm[0]),
            index[:3].astype(np.float32),
            self.bend_mm,
            bend_index[:3].astype(np.float32),
            np.ascontiguousarray(points_lps_mm, np.float32),
        )


def unwarped(shape: TrainingShape, transform: np.ndarray | None = None) -> WarpedShape:
    """Return the shape as it is, centered on the origin; or after a transform [4, 4] of the centered shape."""
    shape_from_lps = affine(np.eye(3), shape.center_lps_mm)
    if transform is not None:
        shape_from_lps = shape_from_lps @ np.linalg.inv(transform)
    return WarpedShape(shape, shape_from_lps, np.zeros((3, 2, 2, 2), np.float32), VoxelGrid.box(np.zeros(3), 2.0, 1.0))


def warped(shape: TrainingShape, extent_mm: float, mirror: bool, rng: np.random.Generator) -> WarpedShape:
    """Return a random variation of a shape, centered near the origin.

    Args:
        shape: The shape.
        extent_mm: Edge length of the box that is looked at; bends scale with it.
        mirror: Whether left and right may be swapped.
        rng: Source of all chance.
    """
    wide = rng.random() < 0.35
    turn = Rotation.from_rotvec(rng.normal(size=3) * np.radians(25.0 if wide else 6.0)).as_matrix()
    stretch = np.exp(rng.normal(0, 0.08)) * np.exp(rng.normal(0, 0.06, 3))
    shear = np.eye(3) + rng.normal(0, 0.04, (3, 3))
    linear = turn @ shear @ np.diag(stretch)
    if mirror and rng.random() < 0.5:
        linear = linear @ np.diag([-1.0, 1.0, 1.0])
    shape_from_lps = affine(np.eye(3), shape.center_lps_mm) @ np.linalg.inv(affine(linear, rng.normal(0, 0.02 * extent_mm, 3)))
    knots = rng.normal(0, 0.02 * extent_mm, (3, *[_BEND_KNOTS] * 3))
    bend = np.einsum("ckji,zk,yj,xi->czyx", knots, *[_SMOOTHLY] * 3, optimize=True).astype(np.float32)
    grid = VoxelGrid.box(np.zeros(3), extent_mm, extent_mm / _BEND_LATTICE)
    return WarpedShape(shape, shape_from_lps, bend, grid)
