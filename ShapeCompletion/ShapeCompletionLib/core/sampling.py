"""What has been outlined: slices of any orientation. What lies outside them is unknown, not background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import ndimage

from ShapeCompletionLib.core.planes import Plane, find_planes
from SparseAnatomyLib.checks import check_array, check_choice, check_positive
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid

MAX_VOXELS = 256**3
MIN_MARGIN_MM = 5.0  # of the result's grid around what is outlined
EDGE_WARNING = "The outline touches the edge of the volume; what lies beyond is a guess."
LayoutKind = Literal["axial", "coronal", "sagittal", "oblique", "three"]
LAYOUT_KINDS: tuple[LayoutKind, ...] = ("axial", "coronal", "sagittal", "oblique", "three")
_NORMALS_LPS = {"axial": (0.0, 0.0, 1.0), "coronal": (0.0, 1.0, 0.0), "sagittal": (1.0, 0.0, 0.0)}


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


@dataclass(frozen=True)
class SliceLayout:
    """Planes to look at a whole shape through, for training and evaluation.

    Attributes:
        kind: Direction of the planes by LPS axes, `oblique` with a normal of its own; `three` is one axial, one coronal and one sagittal
            plane through the centroid of the shape.
        spacing_mm: Distance between the planes; without meaning for `three`.
        offset_mm: The planes pass at this distance, plus multiples of the spacing, from the center of the grid's first voxel, along
            the normal; for `three` each is moved by it from the centroid.
        normal_lps: For `oblique`.
        keep_empty: Keep planes that miss the structure: they are known to be empty. Otherwise only what was outlined is known.
    """

    kind: LayoutKind
    spacing_mm: float = 8.0
    offset_mm: float = 0.0
    normal_lps: tuple[float, float, float] | None = None
    keep_empty: bool = False

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, LAYOUT_KINDS)
        check_positive("spacing_mm", self.spacing_mm)
        if (self.normal_lps is not None) != (self.kind == "oblique"):
            raise ValueError(f"normal_lps: expected a vector for oblique planes and None for others, got {self.normal_lps}.")
        if self.normal_lps is not None and not np.linalg.norm(check_array("normal_lps", self.normal_lps, (3,))) > 0:
            raise ValueError("normal_lps: expected a vector longer than zero.")


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
    result, warnings = _result_grid(grid, low, high, _margins_mm(drawn, low, high, spacing_kji), spacing_mm)
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


def slice_mask(mask: np.ndarray, grid: VoxelGrid, layout: SliceLayout) -> Context:
    """Look at a whole shape through planes, for training and evaluation.

    Args:
        mask: The whole shape, bool [k, j, i].
        grid: Where its voxels lie; the context's grid as well.
        layout: The planes.
    """
    field, field_grid = signed_distance_mm(mask, grid)
    return slice_field(field, field_grid, grid, layout)


def signed_distance_mm(mask: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, VoxelGrid]:
    """Return the distance to the surface of a mask, positive inside, in a box around it.

    Args:
        mask: bool [k, j, i].
        grid: Where its voxels lie.

    Returns:
        float32 [k, j, i] in mm, positive exactly at the voxels inside, and where its voxels lie: those of `grid`, with a border of
        background about the mask.

    Raises:
        ValueError: The mask is empty or of another shape.
    """
    mask = np.asarray(mask, bool)
    if mask.shape != grid.shape_kji or not mask.any():
        raise ValueError(f"mask: expected voxels inside, of shape {list(grid.shape_kji)}, got shape {list(mask.shape)}.")
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside = np.pad(mask[box], 2)
    spacing = grid.spacing_mm[::-1]
    half = grid.spacing_mm.min() / 2  # the surface lies between voxel centers
    outer = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inner = ndimage.distance_transform_edt(inside, sampling=spacing)
    field = np.where(inside, inner - half, half - outer).astype(np.float32)
    first = np.array([part.start - 2 for part in box])[::-1]
    return field, VoxelGrid(inside.shape[::-1], grid.spacing_mm, transform_points(grid.lps_from_ijk, first.astype(float)), grid.direction)


def slice_field(field: np.ndarray, field_grid: VoxelGrid, grid: VoxelGrid, layout: SliceLayout) -> Context:
    """Do as `slice_mask`, from a field that is positive inside; beyond its grid is background.

    Args:
        field: float [k, j, i], such as from `signed_distance_mm`.
        field_grid: Where its voxels lie.
        grid: What the planes cover, and the context's grid.
        layout: The planes.
    """
    inside = np.argwhere(field > 0)[:, ::-1].astype(float)
    points = transform_points(field_grid.lps_from_ijk, inside)
    slices = []
    for normal, positions in _layout_planes(layout, grid, points):
        for position in positions:
            plane = _sample_plane(field, field_grid, grid, normal, position)
            if layout.keep_empty or plane.mask.any():
                slices.append(plane)
    return Context(tuple(slices), grid)


def _layout_planes(layout: SliceLayout, grid: VoxelGrid, points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return unit normals [3] with the positions [n] of planes along each, in mm from the LPS origin; points [m, 3] are the shape's."""
    if layout.kind == "three":
        center = points.mean(0)
        normals = [np.array(normal) for normal in _NORMALS_LPS.values()]
        return [(normal, np.array([normal @ center + layout.offset_mm])) for normal in normals]
    normal = np.array(layout.normal_lps if layout.normal_lps is not None else _NORMALS_LPS[layout.kind], float)
    normal /= np.linalg.norm(normal)
    anchor = normal @ grid.origin_lps_mm + layout.offset_mm
    reached = (_center_corners(grid) if layout.keep_empty else points) @ normal
    half_voxel = grid.spacing_mm.max() / 2
    first = np.ceil((reached.min() - half_voxel - anchor) / layout.spacing_mm - 1e-6)
    last = np.floor((reached.max() + half_voxel - anchor) / layout.spacing_mm + 1e-6)
    return [(normal, anchor + layout.spacing_mm * np.arange(first, last + 1))]


def _sample_plane(field: np.ndarray, field_grid: VoxelGrid, grid: VoxelGrid, normal: np.ndarray, position: float) -> Slice:
    """Look at a field on a plane, over all of a grid, with pixels as wide as the grid's finest voxels."""
    across = int(np.argmin(np.abs(normal @ grid.direction)))  # the grid's axis that lies best in the plane
    column = grid.direction[:, across] - normal * (normal @ grid.direction[:, across])
    column /= np.linalg.norm(column)
    row = np.cross(normal, column)
    pixel = float(grid.spacing_mm.min())
    offsets = (_center_corners(grid) - grid.origin_lps_mm) @ np.stack([column, row], 1)
    first = np.floor(offsets.min(0) / pixel + 1e-6)
    size = np.ceil(offsets.max(0) / pixel - 1e-6) - first + 1
    foot = grid.origin_lps_mm + normal * (position - normal @ grid.origin_lps_mm)
    origin = foot + pixel * (first[0] * column + first[1] * row)
    columns, rows = size.astype(int)
    ijk_from_lps = np.linalg.inv(field_grid.lps_from_ijk)
    starts, steps = (transform_points(ijk_from_lps, origin), pixel * np.stack([column, row]) @ ijk_from_lps[:3, :3].T)
    ijk = starts + np.arange(rows)[:, None, None] * steps[1] + np.arange(columns)[None, :, None] * steps[0]
    nearest = np.round(ijk)  # what lies on a voxel is to be exactly that voxel
    ijk = np.where(np.abs(ijk - nearest) < 1e-6, nearest, ijk)
    values = ndimage.map_coordinates(field, ijk[..., ::-1].transpose(2, 0, 1), order=1, mode="constant", cval=-1.0)
    return Slice(values > 0, origin, pixel * column, pixel * row)


def _center_corners(grid: VoxelGrid) -> np.ndarray:
    """Return the centers of the grid's eight corner voxels, [8, 3] LPS mm."""
    unit = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    return transform_points(grid.lps_from_ijk, unit * (np.asarray(grid.size_ijk) - 1.0))


def _drawn_box(labels: np.ndarray, drawn: Sequence[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest indices k, j, i of what the planes show, [3] and [3]."""
    low, high = np.array(labels.shape), np.zeros(3, int)
    for plane in drawn:
        places = np.insert(np.argwhere(labels.take(plane.index, plane.axis)), plane.axis, plane.index, axis=1)
        low, high = np.minimum(low, places.min(0)), np.maximum(high, places.max(0))
    return low, high


def _margins_mm(drawn: Sequence[Plane], low: np.ndarray, high: np.ndarray, spacing_kji: np.ndarray) -> np.ndarray:
    """Return how far the structure may reach beyond what is outlined along k, j, i, [3]."""
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
