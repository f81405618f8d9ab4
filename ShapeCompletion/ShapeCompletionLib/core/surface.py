"""The completed shape on the grid that is wanted: everything costly only near the surface."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import expit

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

from ._surface_numba import blend, coarse
from .calibration import Temperature
from .cube import CubeView
from .refine import FIELD_LIMIT, LOGITS_PER_VOXEL

_NEAR = 3.0 * LOGITS_PER_VOXEL  # of the logit: farther than three voxels of the cube from the surface no detail changes the sign
_SATURATED = 5.0 * LOGITS_PER_VOXEL  # farther still, a voxel of the cube stands for all that is nearest to it


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
    outlined = LOGITS_PER_VOXEL * np.clip(field, -FIELD_LIMIT, FIELD_LIMIT)
    cube_logits = outlined + np.minimum(distance, 1) * corrected
    unclear = _unclear(outlined, cube_logits, distance)
    slopes = np.float32(_SATURATED), np.float32(LOGITS_PER_VOXEL)
    logits, distances = coarse(cube_logits, distance, unclear, cube_from_grid, size, *slopes)
    near = np.flatnonzero(np.abs(logits) < _NEAR)
    if len(near):
        fine, fine_distance = view.interpolation.on_grid(grid, near)
        voxel, limits = np.float32(view.voxel_mm), (np.float32(FIELD_LIMIT), np.float32(LOGITS_PER_VOXEL))
        blend((logits, distances), near, (fine / voxel, fine_distance / voxel), corrected, cube_from_grid, size, *limits)
    return logits.reshape(grid.shape_kji), distances.reshape(grid.shape_kji)


def _unclear(outlined: np.ndarray, logits: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return where the cube cannot tell which side a finer voxel is on, bool [k, j, i].

    Next to a slice the correction fades within a voxel of the cube, to nothing on the slice itself. Where it is what decides there, the
    cells around must be looked at finely, or it would outvote the outline.

    Args:
        outlined: Logits of the interpolation.
        logits: With the correction.
        distance: To the nearest slice in voxels.
    """
    decides = ((outlined > 0) != (logits > 0)) | ((np.abs(outlined) < _NEAR) & (np.abs(logits) >= _NEAR))
    decides &= distance < 2  # more than the diagonal of a cell
    return ndimage.maximum_filter(decides, 3) if decides.any() else decides


def confidence_at(
    points_lps_mm: np.ndarray, logits: np.ndarray, distance: np.ndarray, grid: VoxelGrid, temperature: Temperature
) -> np.ndarray:
    """Return the probability that the true surface passes within 1 mm of each point, float32 [n].

    With calibrated logits that change by s per mm across the surface, the surface lies within 1 mm where the logit at the point is
    within s of zero: 2·sigmoid(s) - 1.

    Args:
        points_lps_mm: On the surface, [n, 3].
        logits: As `evaluate` returns them, [k, j, i].
        distance: As `evaluate` returns it.
        grid: Theirs.
        temperature: Of the calibration.
    """
    ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), points_lps_mm.astype(float))
    place = np.clip(np.rint(ijk[:, ::-1]).astype(int), 0, np.array(grid.shape_kji) - 1)
    slope = np.zeros(len(place))
    for axis, spacing_mm in enumerate(grid.spacing_mm[::-1]):
        below, above = place.copy(), place.copy()
        below[:, axis], above[:, axis] = np.maximum(place[:, axis] - 1, 0), np.minimum(place[:, axis] + 1, grid.shape_kji[axis] - 1)
        apart_mm = np.maximum(above[:, axis] - below[:, axis], 1) * spacing_mm
        slope += ((logits[tuple(above.T)] - logits[tuple(below.T)]) / apart_mm) ** 2
    per_mm = np.sqrt(slope) / temperature.at(distance[tuple(place.T)])
    return (2 * expit(per_mm) - 1).astype(np.float32)
