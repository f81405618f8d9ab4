"""Closed planar contours -> slices: curves drawn in any plane, islands and holes included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ShapeCompletionLib.core.sampling import MIN_MARGIN_MM, Context, Slice, affordable_spacing_mm, margin_mm
from SparseAnatomyLib.checks import check_array, check_positive
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid

LARGEST_BEND = 0.02  # of a contour out of its plane, relative to its size
LARGEST_BEND_MM = 0.5  # which is let pass at any size
SAME_DIRECTION_DEG = 1.0  # contours so parallel may lie in one plane
MAX_PIXELS = 4096  # along an edge of a slice


@dataclass(frozen=True, eq=False)
class _Outline:
    """A contour, points [n, 3], with the plane that fits it best: center [3] and axes [3, 3], rows in-plane, in-plane, normal."""

    points: np.ndarray
    center: np.ndarray
    axes: np.ndarray


def slice_from_contours(contours: Sequence[np.ndarray], spacing_mm: float, margin: float = MIN_MARGIN_MM) -> Slice:
    """Rasterize closed contours of one plane; where two overlap is outside (a hole), by the even-odd rule.

    Args:
        contours: Points in order, each [n, 3] LPS mm; the last is joined to the first.
        spacing_mm: Pixel size.
        margin: Background about the contours, in mm.

    Raises:
        InputError: A contour has no area or is not planar, or they lie in different planes.
    """
    check_positive("spacing_mm", spacing_mm)
    if not contours:
        raise InputError("There is no contour.", "Draw closed curves around the structure on two planes or more.")
    outlines = [_fit_plane(points) for points in contours]
    first = max(outlines, key=lambda outline: np.ptp(outline.points, axis=0).max())
    if not all(_in_one_plane(first, other, spacing_mm) for other in outlines):
        raise InputError("The contours of one slice lie in different planes.", "Give contours of different planes as slices of their own.")
    column, row = first.axes[:2]
    points = [outline.points - first.center for outline in outlines]
    flat = [np.stack([part @ column, part @ row], 1) for part in points]
    low = np.concatenate(flat).min(0) - margin
    size = np.ceil((np.concatenate(flat).max(0) + margin - low) / spacing_mm).astype(int) + 1
    if size.max() > MAX_PIXELS:
        raise InputError(f"A contour takes {size.max()} pixels along an edge.", "Choose a larger spacing, or check the contour's points.")
    mask = np.zeros(size[::-1], bool)
    for polygon in flat:
        mask ^= _rasterize((polygon - low) / spacing_mm, mask.shape)
    return Slice(mask, first.center + low[0] * column + low[1] * row, spacing_mm * column, spacing_mm * row)


def context_from_contours(contours: Sequence[np.ndarray], spacing_mm: float = 1.0) -> Context:
    """Make slices of closed planar contours, those of one plane together, and a grid around them.

    Args:
        contours: Each [n, 3] LPS mm, in any order.
        spacing_mm: Voxel spacing of the result and pixel size of the slices.

    Raises:
        InputError: As `slice_from_contours`.
    """
    check_positive("spacing_mm", spacing_mm)
    if not contours:
        raise InputError("There is no contour.", "Draw closed curves around the structure on two planes or more.")
    groups: list[list[_Outline]] = []
    for outline in map(_fit_plane, contours):
        group = next((group for group in groups if _in_one_plane(group[0], outline, spacing_mm)), None)
        groups.append([outline]) if group is None else group.append(outline)
    direction = _common_direction([group[0] for group in groups])
    along = np.concatenate([outline.points for group in groups for outline in group]) @ direction
    low, high = along.min(0), along.max(0)
    margins = np.full(3, margin_mm(high - low))
    positions = np.sort([group[0].center @ direction[:, 2] for group in groups])
    if len(groups) > 1 and _all_parallel([group[0] for group in groups]):
        margins[2] = max(margins[2], float(np.median(np.diff(positions))))
    extent = high - low + 2 * margins
    spacing, warnings = affordable_spacing_mm(extent, spacing_mm)
    grid = VoxelGrid.box(direction @ ((low + high) / 2), extent, spacing, direction)
    margin = float(margins.max())
    slices = tuple(slice_from_contours([outline.points for outline in group], spacing, margin) for group in groups)
    return Context(slices, grid, warnings)


def _fit_plane(points_lps_mm: np.ndarray) -> _Outline:
    try:
        points = check_array("points_lps_mm", points_lps_mm, (None, 3))
    except ValueError as error:
        raise InputError("A contour holds something else than points in space.", "Draw the contour again.") from error
    redraw = "Draw a closed curve around the structure, in one plane."
    if len(points) < 3:
        raise InputError(f"A contour has {len(points)} points, and a closed curve needs three or more.", redraw)
    center = points.mean(0)
    _, spread, axes = np.linalg.svd(points - center, full_matrices=False)
    size = float(np.abs((points - center) @ axes[0]).max())
    if size == 0 or spread[1] < 1e-6 * spread[0]:
        raise InputError("A contour encloses no area.", redraw)
    bend = float(np.abs((points - center) @ axes[2]).max())
    if bend > max(LARGEST_BEND_MM, LARGEST_BEND * 2 * size):
        raise InputError(f"A contour is not planar: it leaves its plane by {bend:.1f} mm.", redraw)
    normal = axes[2] * np.sign(axes[2][np.argmax(np.abs(axes[2]))])
    column = np.eye(3)[np.argmin(np.abs(normal))]
    column = column - normal * (column @ normal)
    column /= np.linalg.norm(column)
    return _Outline(points, center, np.stack([column, np.cross(normal, column), normal]))


def _parallel(one: _Outline, other: _Outline) -> bool:
    return bool(abs(one.axes[2] @ other.axes[2]) >= np.cos(np.radians(SAME_DIRECTION_DEG)))


def _all_parallel(outlines: Sequence[_Outline]) -> bool:
    return all(_parallel(outlines[0], other) for other in outlines[1:])


def _in_one_plane(one: _Outline, other: _Outline, spacing_mm: float) -> bool:
    return _parallel(one, other) and bool(abs((other.center - one.center) @ one.axes[2]) < min(LARGEST_BEND_MM, spacing_mm / 2))


def _common_direction(outlines: Sequence[_Outline]) -> np.ndarray:
    """Return axes as columns, [3, 3]: those of the planes where all are parallel, LPS otherwise."""
    return outlines[0].axes.T if _all_parallel(outlines) else np.eye(3)


def _rasterize(polygon_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixel centers are inside a polygon, by the even-odd rule.

    Args:
        polygon_px: (column, row) of its corners, [n, 2].
        shape: Rows and columns.
    """
    crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
    rows = np.arange(shape[0])
    for (x0, y0), (x1, y1) in zip(polygon_px, np.roll(polygon_px, -1, axis=0), strict=True):
        hit = rows[(np.minimum(y0, y1) <= rows) & (rows < np.maximum(y0, y1))]
        if len(hit):
            first_right = np.ceil(x0 + (hit - y0) / (y1 - y0) * (x1 - x0))  # of the edge
            crossings[hit, np.clip(first_right, 0, shape[1]).astype(int)] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
