"""The completed shape on the grid that is wanted: everything costly only near the surface."""

from __future__ import annotations

import numpy as np

from SparseAnatomyLib.grid import VoxelGrid

from ._surface_numba import blend, coarse
from .cube import CubeView
from .refine import FIELD_LIMIT, LOGITS_PER_VOXEL

_NEAR = 3.0 * LOGITS_PER_VOXEL  # of the logit: farther than three voxels of the cube from the surface no detail changes the sign


def evaluate(view: CubeView, correction: np.ndarray | None, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the completed shape on a grid.

    The cube is looked up everywhere; the slices themselves are interpolated anew, at the grid's resolution, near the surface only.

    Args:
        view: The slices in their cube.
        correction: Of the residual network, float32 [k, j, i] of the cube; None for the interpolation alone.
        grid: Any orientation.

    Returns:
        Logit of being inside, before calibration, and the distance to the nearest slice in voxels of the cube; float32 [k, j, i].
    """
    field, distance = view.field_and_distance
    corrected = np.zeros_like(field) if correction is None else correction
    cube_from_grid = (np.linalg.inv(view.grid.lps_from_ijk) @ grid.lps_from_ijk)[:3].astype(np.float32)
    size = np.array(grid.size_ijk)
    limits = (np.float32(FIELD_LIMIT), np.float32(LOGITS_PER_VOXEL))
    logits, distances = coarse(field, distance, corrected, cube_from_grid, size, *limits)
    near = np.flatnonzero(np.abs(logits) < _NEAR)
    if len(near):
        fine, fine_distance = view.interpolation.on_grid(grid, near)
        voxel = np.float32(view.voxel_mm)
        blend(logits, distances, near, fine / voxel, fine_distance / voxel, corrected, cube_from_grid, size, *limits)
    return logits.reshape(grid.shape_kji), distances.reshape(grid.shape_kji)
