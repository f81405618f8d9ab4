"""What has been outlined: slices of any orientation. What lies outside them is unknown, not background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ShapeCompletionLib.core.planes import Plane, find_planes
from SparseAnatomyLib.checks import check_array, check_positive
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

MAX_VOXELS = 256**3
MIN_MARGIN_MM = 5.0  # of the result's grid around what is outlined
EDGE_WARNING = "The outline touches the edge of the volume; what lies beyond is a guess."


@dataclass(frozen=True, eq=False)
class Slice:
    """One outlined plane.

    Attributes:
        mask: True inside the structure, bool [row, column].
        origin_lps_mm: Center of pixel (0, 0), [3].
        column_step_lps_mm: Vector from a pixel to the next column, [3].
        row_step_lps_mm: Vector from a pixel to the next row, perpendicular to it, [3].
    """

    mask: np.ndarray
    origin_lps_mm: np.ndarray
    column_step_lps_mm: np.ndarray
    row_step_lps_mm: np.ndarray

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask, bool)
        if mask.ndim != 2 or mask.size == 0:
            raise ValueError(f"mask: expected shape [row, column], got {list(mask.shape)}.")
        object.__setattr__(self, "mask", mask)
        for name in ("origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm"):
            object.__setattr__(self, name, check_array(name, getattr(self, name), (3,)))
        column, row = self.pixel_spacing_mm
        if not (column > 0 and row > 0):
            raise ValueError("column_step_lps_mm, row_step_lps_mm: expected vectors longer than zero.")
        if abs(self.column_step_lps_mm @ self.row_step_lps_mm) > 1e-3 * column * row:
            raise ValueError("row_step_lps_mm: expected a vector perpendicular to column_step_lps_mm.")

    @cached_property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance between columns and between rows."""
        return float(np.linalg.norm(self.column_step_lps_mm)), float(np.linalg.norm(self.row_step_lps_mm))

    @cached_property
    def normal_lps(self) -> np.ndarray:
        """Unit normal of the plane, [3]."""
        column, row = self.pixel_spacing_mm
        return np.cross(self.column_step_lps_mm / column, self.row_step_lps_mm / row)

    def points_lps_mm(self) -> np.ndarray:
        """Return the pixel centers, [row, column, 3]."""
        rows, columns = (np.arange(n, dtype=float)[:, None] for n in self.mask.shape)
        return self.origin_lps_mm + rows[:, None] * self.row_step_lps_mm + columns[None] * self.column_step_lps_mm


@dataclass(frozen=True, eq=False)
class Context:
    """The slices of one structure, and the grid on which the whole structure is wanted.

    Attributes:
        slices: What was outlined.
        grid: Isotropic.
        warnings: What the clinician should know of how they were taken from the segmentation.
    """

    slices: tuple[Slice, ...]
    grid: VoxelGrid
    warnings: tuple[str, ...] = ()


def context_from_labels(
    labels: np.ndarray, grid: VoxelGrid, planes: Sequence[Plane] | None = None, spacing_mm: float | None = None
) -> Context:
    """Take the outlined planes of a label volume.

    The result's grid has the direction of the volume, its voxels lie on the volume's where spacings allow, and it reaches beyond what is
    outlined: along an axis with parallel slices by the distance between them, and by a seventh of the size or 5 mm at least.
    Slices are cut to that grid: what lies farther out tells nothing about it.

    Args:
        labels: True inside the structure, bool [k, j, i].
        grid: Where its voxels lie.
        planes: Observed planes, where even an empty one is known to be so; found by default.
        spacing_mm: Of the result; the finest voxel spacing of the volume by default.

    Raises:
        InputError: Nothing is outlined, it is outlined everywhere, or a plane is outside the volume.
    """
    labels = np.asarray(labels, bool)
    if labels.shape != grid.shape_kji:
        raise ValueError(f"labels: expected shape {list(grid.shape_kji)}, got {list(labels.shape)}.")
    spacing_kji = grid.spacing_mm[::-1]
    if not labels.any():
        raise InputError("Nothing is outlined in this segment.", "Outline the structure on two slices or more.")
    observed = tuple(sorted(set(planes))) if planes is not None else find_planes(labels, spacing_kji)
    for plane in observed:
        if plane.index >= labels.shape[plane.axis]:
            raise InputError(
                f"The volume has no plane {plane}; it has {labels.shape[plane.axis]} along that axis, counted from 0.",
                "Name planes that are in the volume.",
            )
    drawn = [plane for plane in observed if labels.take(plane.index, plane.axis).any()]
    if not drawn:
        raise InputError("Nothing is outlined in the planes named.", "Name planes in which the structure is outlined.")
    low, high = _drawn_box(labels, drawn)
    result, warnings = _result_grid(grid, low, high, margins_mm(drawn, low, high, spacing_kji), spacing_mm)
    if (low == 0).any() or (high == np.array(labels.shape) - 1).any():
        warnings += (EDGE_WARNING,)
    return Context(tuple(_plane_slice(labels, grid, plane, result) for plane in observed), result, warnings)


def affordable_spacing_mm(extent_mm: np.ndarray, wanted_mm: float) -> tuple[float, tuple[str, ...]]:
    """Return the spacing at which a box has `MAX_VOXELS` at most, and a warning where that is not the one wanted.

    Args:
        extent_mm: Edge lengths of the box, [3].
        wanted_mm: Voxel spacing wanted.
    """
    spacing = wanted_mm
    while np.prod(np.ceil(extent_mm / spacing) + 2) > MAX_VOXELS:
        spacing *= max(1.01, float(np.prod(extent_mm / spacing) / MAX_VOXELS) ** (1 / 3))
    if spacing == wanted_mm:
        return spacing, ()
    return spacing, (f"The structure is too large for voxels of {wanted_mm:.2g} mm: the result has voxels of {spacing:.2g} mm.",)


def margin_mm(size_mm: np.ndarray) -> float:
    """Return how far a structure may reach beyond what is outlined of it, whose edge lengths are `size_mm` [3]."""
    return max(MIN_MARGIN_MM, 0.15 * float(np.median(size_mm)))


def _drawn_box(labels: np.ndarray, drawn: Sequence[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest indices k, j, i of what the planes show, [3] and [3]."""
    low, high = np.array(labels.shape), np.zeros(3, int)
    for plane in drawn:
        places = np.insert(np.argwhere(labels.take(plane.index, plane.axis)), plane.axis, plane.index, axis=1)
        low, high = np.minimum(low, places.min(0)), np.maximum(high, places.max(0))
    return low, high


def margins_mm(drawn: Sequence[Plane], low: np.ndarray, high: np.ndarray, spacing_kji: np.ndarray) -> np.ndarray:
    """Return how far a structure may reach beyond what is outlined along k, j, i, [3].

    Args:
        drawn: The planes that show something.
        low: Lowest indices k, j, i of what they show, [3].
        high: Highest ones.
        spacing_kji: Voxel spacing in mm, [3].
    """
    margins = np.full(3, margin_mm((high - low + 1) * spacing_kji))
    for axis in range(3):
        indices = sorted(plane.index for plane in drawn if plane.axis == axis)
        if len(indices) > 1:
            margins[axis] = max(margins[axis], float(np.median(np.diff(indices))) * spacing_kji[axis])
    return margins


def _result_grid(
    grid: VoxelGrid, low: np.ndarray, high: np.ndarray, margins_mm: np.ndarray, spacing_mm: float | None
) -> tuple[VoxelGrid, tuple[str, ...]]:
    """Return the isotropic grid over indices low..high (k, j, i) and the margins, a voxel of it on the voxel at `low`."""
    wanted = float(grid.spacing_mm.min()) if spacing_mm is None else check_positive("spacing_mm", float(spacing_mm))
    first, last, margins = (np.asarray(part, float)[::-1] for part in (low, high, margins_mm))
    spacing, warnings = affordable_spacing_mm((last - first) * grid.spacing_mm + 2 * margins, wanted)
    before = np.ceil(margins / spacing)
    size = before + np.ceil(((last - first) * grid.spacing_mm + margins) / spacing) + 1
    corner = transform_points(grid.lps_from_ijk, first) - grid.direction @ (before * spacing)
    return VoxelGrid(tuple(size.astype(int)), np.full(3, spacing), corner, grid.direction), warnings


def _plane_slice(labels: np.ndarray, grid: VoxelGrid, plane: Plane, result: VoxelGrid) -> Slice:
    """Return a plane of the volume as far as the result's grid reaches."""
    corners = transform_points(np.linalg.inv(grid.lps_from_ijk), result.corners_lps_mm())[:, ::-1]
    first = np.clip(np.floor(corners.min(0)), 0, np.array(labels.shape) - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0)), 0, np.array(labels.shape) - 1).astype(int)
    first[plane.axis] = plane.index
    row_axis, column_axis = sorted({0, 1, 2} - {plane.axis})
    mask = labels.take(plane.index, plane.axis)[first[row_axis] : last[row_axis] + 1, first[column_axis] : last[column_axis] + 1]
    steps = (grid.direction * grid.spacing_mm).T[::-1]  # vectors of a step along k, j, i
    origin = transform_points(grid.lps_from_ijk, first[::-1].astype(float))
    return Slice(mask, origin, steps[column_axis], steps[row_axis])
