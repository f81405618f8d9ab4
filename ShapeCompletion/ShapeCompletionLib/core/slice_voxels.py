"""What the pixels of slices say of a grid's voxels: which voxels are pixels, and which side of the outline they must be on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

from .cube import CubeView
from .sampling import Slice

_SAME_PLACE = 1e-3  # voxels
_FAINT = np.float32(0.1)  # a logit close to the surface


def impose_outlines(view: CubeView, logits: np.ndarray, grid: VoxelGrid) -> None:
    """Put the voxel nearest to each pixel of a slice on the pixel's side, in place; not on grids coarser than the pixels.

    On voxels that are pixels this changes nothing. Where planes run between the voxels, it decides the few that the surface passes by.

    Args:
        view: The slices.
        logits: Of being inside, [k, j, i].
        grid: Where the voxels lie.
    """
    voxel_mm = float(grid.spacing_mm.max())
    fine = [voxel_mm <= (1 + _SAME_PLACE) * min(one.pixel_spacing_mm) for one in view.interpolation.slices]
    signed_mm = np.where(np.repeat(fine, [one.mask.size for one in view.interpolation.slices]), view.interpolation.distances_mm, np.inf)
    near = np.flatnonzero(np.abs(signed_mm) < 2 * voxel_mm)
    ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), view.interpolation.pixel_centers_lps_mm(near).astype(float))
    nearest = np.rint(ijk).astype(np.int64)
    within = ((nearest >= 0) & (nearest < grid.size_ijk)).all(1)
    order = np.argsort(-((ijk - nearest)[within] ** 2).sum(1), kind="stable")  # the nearest pixel has the last word
    flat = np.ravel_multi_index(tuple(nearest[within][order].T[::-1]), grid.shape_kji)
    side = np.zeros(logits.size, np.int8)
    side[flat] = np.where(signed_mm[near][within][order] > 0, 1, -1)
    wrong = flat[(logits.ravel()[flat] > 0) != (side[flat] > 0)]
    logits.ravel()[wrong] = _FAINT * side[wrong]


def contradictions(slices: Sequence[Slice], logits: np.ndarray, grid: VoxelGrid) -> list[np.ndarray]:
    """Return the voxels that are pixels of slices and lie on the other side than these, flat indices [n] for each slice.

    The cube cannot tell what is between slices that are nearer to each other than its voxels.

    Args:
        slices: What is outlined; those that do not run along the grid have no pixels that are voxels.
        logits: Of being inside, [k, j, i].
        grid: Where the voxels lie.
    """
    return [flat[(logits.ravel()[flat] > 0) != inside] for flat, inside in pixels_that_are_voxels(slices, grid)]


def pixels_that_are_voxels(slices: Sequence[Slice], grid: VoxelGrid) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the voxels that are pixels, flat indices [row, column], and whether these are inside, for each slice that has any."""
    found = []
    for one in slices:
        place = _place_in(one, grid)
        if place is not None:
            (columns, at_columns), (rows, at_rows) = (_pixels_on_voxels(*line) for line in place.lines)
            found.append((place.flat(at_columns, at_rows), one.mask[np.ix_(rows, columns)]))
    return found


def beyond_images(slices: Sequence[Slice], grid: VoxelGrid) -> list[np.ndarray]:
    """Return the voxels that lie in the planes of slices beyond what their pixels show, flat indices [n] for each slice."""
    found = []
    for one in slices:
        place = _place_in(one, grid)
        if place is not None:
            within = [
                np.abs((np.arange(line.voxels) - line.first) / line.step - (line.pixels - 1) / 2) <= line.pixels / 2 for line in place.lines
            ]
            found.append(place.flat(*(np.arange(line.voxels) for line in place.lines))[~(within[0][None] & within[1][:, None])])
    return found


class _Line(NamedTuple):
    """Where the pixels of a row or a column lie along an axis of a grid, in voxels."""

    first: float
    step: float
    pixels: int
    voxels: int


class _Place(NamedTuple):
    """A slice that is a layer of a grid: the layer, its axis, those of the slice's columns and rows, and where these lie along them."""

    layer: int
    axes: tuple[int, int, int]
    lines: tuple[_Line, _Line]
    size_ijk: tuple[int, int, int]

    def flat(self, at_columns: np.ndarray, at_rows: np.ndarray) -> np.ndarray:
        """Return the flat indices of voxels of the layer, [rows, columns]."""
        across, column_axis, row_axis = self.axes
        strides = np.array([1, self.size_ijk[0], self.size_ijk[0] * self.size_ijk[1]])
        return self.layer * strides[across] + at_columns[None] * strides[column_axis] + at_rows[:, None] * strides[row_axis]


def _place_in(one: Slice, grid: VoxelGrid) -> _Place | None:
    """Return where a slice lies in a grid; None where it is no layer of it."""
    grid_from_lps = np.linalg.inv(grid.lps_from_ijk)
    first = transform_points(grid_from_lps, one.origin_lps_mm)
    steps = np.stack([one.column_step_lps_mm, one.row_step_lps_mm]) @ grid_from_lps[:3, :3].T
    axes = tuple(int(axis) for axis in np.abs(steps).argmax(1))
    counts = one.mask.shape[::-1]
    across = 3 - sum(axes)
    if axes[0] == axes[1] or not _is_along(steps, axes, counts):
        return None
    layer = round(float(first[across]))
    if abs(first[across] - layer) > _SAME_PLACE or not 0 <= layer < grid.size_ijk[across]:
        return None
    lines = (_Line(first[axis], steps[n, axis], counts[n], grid.size_ijk[axis]) for n, axis in enumerate(axes))
    return _Place(layer, (across, *axes), tuple(lines), grid.size_ijk)


def _is_along(steps: np.ndarray, axes: tuple[int, int], counts: tuple[int, int]) -> bool:
    """Tell whether so many steps [2, 3] leave their axes by less than what counts as the same place."""
    beside = steps.copy()
    beside[[0, 1], axes] = 0
    return bool((np.abs(beside).max(1) * counts < _SAME_PLACE).all())


def _pixels_on_voxels(first: float, step: float, pixels: int, voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels along a line lie on voxels, and on which; arguments as of a `_Line`."""
    place = first + step * np.arange(pixels)
    whole = np.rint(place).astype(np.int64)
    same = (np.abs(place - whole) < _SAME_PLACE) & (whole >= 0) & (whole < voxels)
    return np.flatnonzero(same), whole[same]
