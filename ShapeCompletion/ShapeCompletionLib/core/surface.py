"""The completed shape on the grid that is wanted: everything costly only near the surface."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import expit
from torch import Tensor

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.work_device import on_host

from . import _surface_torch
from ._surface_numba import blend, coarse
from .calibration import Temperature
from .cube import CubeView
from .interpolate import InterpolationField
from .refine import FIELD_LIMIT, LOGITS_PER_VOXEL
from .slice_voxels import contradictions, pixels_that_are_voxels

_NEAR = 3.0 * LOGITS_PER_VOXEL  # of the logit: farther than three voxels of the cube from the surface no detail changes the sign
SMALLEST_ISLAND = 0.01  # of the shape's volume; less is a speck of the network's
_CLOSE = 4.0  # voxels of the cube; between slices closer than that, the field changes by more than the cube shows
_ROOM_VOXELS = 2.0  # of the cube, around a shape
_SATURATED = 5.0 * LOGITS_PER_VOXEL  # farther still, a voxel of the cube stands for all that is nearest to it


def evaluate(view: CubeView, correction: Tensor | np.ndarray | None, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the completed shape on a grid.

    The cube is looked up everywhere; the slices themselves are interpolated anew, at the grid's resolution, near the surface only.

    Args:
        view: The slices in their cube.
        correction: Of the residual network, float32 [k, j, i] of the cube, on the view's device; None for the interpolation alone.
        grid: Any orientation.

    Returns:
        Logit of being inside, before calibration, and the distance to the nearest slice in voxels of the cube; float32 [k, j, i].
    """
    if view.device != "cpu":
        return _evaluate_on_card(view, correction, grid)
    field, distance = view.field_and_distance
    corrected = np.zeros_like(field) if correction is None else np.asarray(correction)
    cube_from_grid = (np.linalg.inv(view.grid.lps_from_ijk) @ grid.lps_from_ijk)[:3].astype(np.float32)
    size = np.array(grid.size_ijk)
    outlined = LOGITS_PER_VOXEL * np.clip(field, -FIELD_LIMIT, FIELD_LIMIT)
    cube_logits = outlined + np.minimum(distance, 1) * corrected
    unclear = _unclear(outlined, cube_logits, distance)
    slopes = np.float32(_SATURATED), np.float32(LOGITS_PER_VOXEL)
    logits, distances = coarse(cube_logits, distance, unclear, cube_from_grid, size, *slopes)
    near = np.flatnonzero(np.abs(logits) < _NEAR)
    if _closest_mm(view.interpolation) < _CLOSE * view.voxel_mm:
        near = np.concatenate([near, *contradictions(view.interpolation.slices, logits.reshape(grid.shape_kji), grid)])
    if len(near):
        fine, fine_distance = view.interpolation.on_grid(grid, near)
        voxel, limits = np.float32(view.voxel_mm), (np.float32(FIELD_LIMIT), np.float32(LOGITS_PER_VOXEL))
        blend((logits, distances), near, (fine / voxel, fine_distance / voxel), corrected, cube_from_grid, size, *limits)
    return logits.reshape(grid.shape_kji), distances.reshape(grid.shape_kji)


def _evaluate_on_card(view: CubeView, correction: Tensor | None, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    is_close = _closest_mm(view.interpolation) < _CLOSE * view.voxel_mm
    pixels = pixels_that_are_voxels(view.interpolation.slices, grid) if is_close else []
    logits, distance = _surface_torch.evaluate(view, correction, grid, pixels, _surface_torch.Limits(_NEAR, _SATURATED))
    return on_host(logits), on_host(distance)


def _closest_mm(field: InterpolationField) -> float:
    """Return the least distance between neighbors of a stack."""
    normals = field.frames[np.searchsorted(field.stacks, field.stacks), 9:12]
    apart = np.abs(np.diff((field.frames[:, :3] * normals).sum(1)))[np.diff(field.stacks) == 0]
    return float(apart.min(initial=np.inf))


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


def whole_grid(logits: np.ndarray, grid: VoxelGrid, cube_logits: np.ndarray, cube: VoxelGrid, most_voxels: int) -> VoxelGrid:
    """Return a grid that holds a shape which reaches the border of another; that other where none does, or it would be too large.

    Args:
        logits: Of being inside, [k, j, i].
        grid: Where their voxels lie.
        cube_logits: The same shape in a cube that it ends in, [k, j, i].
        cube: Where that cube's voxels lie.
        most_voxels: That a grid may have.
    """
    if not reaches_border(logits):
        return grid
    pieces, _ = ndimage.label(cube_logits > 0, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = np.argwhere((sizes > SMALLEST_ISLAND * sizes.sum())[pieces])[:, ::-1]
    if not len(kept):
        return grid
    ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), transform_points(cube.lps_from_ijk, kept.astype(float)))
    room = np.ceil(_ROOM_VOXELS * cube.spacing_mm.max() / grid.spacing_mm)
    first = np.minimum(np.floor(ijk.min(0)) - room, 0)
    last = np.maximum(np.ceil(ijk.max(0)) + room, np.array(grid.size_ijk) - 1)
    size = (last - first + 1).astype(int)
    if np.prod(size.astype(float)) > most_voxels:
        return grid
    return VoxelGrid(tuple(size), grid.spacing_mm, transform_points(grid.lps_from_ijk, first), grid.direction)


def reaches_border(logits: np.ndarray) -> bool:
    """Tell whether a shape [k, j, i] has voxels at the border of its grid."""
    return any(bool((logits.take(end, axis) > 0).any()) for axis in range(3) for end in (0, -1))


def confidence_at(
    points_lps_mm: np.ndarray, logits: np.ndarray, distance: np.ndarray, grid: VoxelGrid, temperature: Temperature
) -> np.ndarray:
    """Return the probability that the true surface passes within 1 mm of each point, float32 [n].

    With calibrated logits that change by s per mm across the surface, the surface lies within 1 mm where the logit at the point is
    within s of zero: 2·sigmoid(s) - 1. Within a voxel of the cube from a slice, where the network's correction fades, doubt fades with it:
    on the slice the surface is the outline.

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
    apart = distance[tuple(place.T)]
    doubt = 2 - 2 * expit(np.sqrt(slope) / temperature.at(apart))
    return (1 - np.minimum(apart, 1) * doubt).astype(np.float32)
