"""Convex solids in the beam: what their material attenuates, exactly, along every ray; screws and tools are put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from SparseAnatomyLib.checks import check_array, check_positive
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

SUBRAYS = 4  # per pixel and axis
MOST_PLANES = 6
NO_PLANE = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Solids:
    """Solids, each the intersection of a quadric with half-spaces; where solids overlap, their attenuation adds up.

    A point x lies in a solid of center c if |shape (x - c)| <= 1 and normal · (x - c) <= offset for each of its planes.

    Attributes:
        center_lps_mm: [S, 3].
        shape: 1/mm, [S, 3, 3]; identity / r for a ball, of rank 2 for a cylinder, 0 for what planes alone bound.
        planes: (normal, offset in mm), [S, MOST_PLANES, 4].
        per_mm: Attenuation per mm at 60 keV, [S]; negative for a hole in another solid.
        reach_mm: Radius of a ball about the center that holds the solid, [S].
    """

    center_lps_mm: np.ndarray
    shape: np.ndarray
    planes: np.ndarray
    per_mm: np.ndarray
    reach_mm: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.center_lps_mm)
        shapes = {"center_lps_mm": (3,), "shape": (3, 3), "planes": (MOST_PLANES, 4), "per_mm": (), "reach_mm": ()}
        for name, shape in shapes.items():
            object.__setattr__(self, name, check_array(name, getattr(self, name), (count, *shape)))

    def __len__(self) -> int:
        return len(self.center_lps_mm)

    def moved(self, b_from_a: np.ndarray) -> Solids:
        """Return the solids after a rigid motion, [4, 4]."""
        rotation = np.asarray(b_from_a, float)[:3, :3]
        planes = self.planes.copy()
        planes[..., :3] = self.planes[..., :3] @ rotation.T
        return Solids(transform_points(b_from_a, self.center_lps_mm), self.shape @ rotation.T, planes, self.per_mm, self.reach_mm)


def nothing() -> Solids:
    """Return no solids."""
    return Solids(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, MOST_PLANES, 4)), np.empty(0), np.empty(0))


def join(*parts: Solids) -> Solids:
    """Return all solids of several sets."""
    names = ("center_lps_mm", "shape", "planes", "per_mm", "reach_mm")
    parts = parts or (nothing(),)
    return Solids(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _solid(center: np.ndarray, shape: np.ndarray, planes: Sequence[Sequence[float]], per_mm: float, reach_mm: float) -> Solids:
    padded = [*planes, *[NO_PLANE] * (MOST_PLANES - len(planes))]
    return Solids(np.array([center]), np.array([shape]), np.array([padded]), np.array([per_mm]), np.array([reach_mm]))


def ball(center_mm: np.ndarray, radius_mm: float, per_mm: float, cut: np.ndarray | None = None) -> Solids:
    """Return a ball, or what a plane through its center leaves of it: the side that the normal `cut` points away from."""
    check_positive("radius_mm", radius_mm)
    planes = [] if cut is None else [(*_unit(cut), 0.0)]
    return _solid(np.asarray(center_mm, float), np.eye(3) / radius_mm, planes, per_mm, radius_mm)


def cylinder(
    start_mm: np.ndarray, end_mm: np.ndarray, radius_mm: float, per_mm: float, cuts: Sequence[tuple[np.ndarray, float]] = ()
) -> Solids:
    """Return a cylinder between two points, with flat ends.

    Args:
        start_mm: Middle of one end, [3].
        end_mm: Middle of the other end, [3].
        radius_mm: Radius.
        per_mm: Attenuation per mm.
        cuts: Planes that cut it lengthwise or across: (normal, distance from the cylinder's middle along it); what lies beyond goes.
    """
    check_positive("radius_mm", radius_mm)
    start, end = np.asarray(start_mm, float), np.asarray(end_mm, float)
    length = check_positive("length_mm", float(np.linalg.norm(end - start)))
    axis = (end - start) / length
    planes = [(*axis, length / 2), (*-axis, length / 2), *((*_unit(normal), offset) for normal, offset in cuts)]
    return _solid((start + end) / 2, (np.eye(3) - np.outer(axis, axis)) / radius_mm, planes, per_mm, float(np.hypot(length / 2, radius_mm)))


def block(center_mm: np.ndarray, half_edges_mm: np.ndarray, per_mm: float) -> Solids:
    """Return a box along the axes."""
    half = check_array("half_edges_mm", half_edges_mm, (3,))
    planes = [(*sign * row, float(edge)) for row, edge in zip(np.eye(3), half, strict=True) for sign in (1, -1)]
    return _solid(np.asarray(center_mm, float), np.zeros((3, 3)), planes, per_mm, float(np.linalg.norm(half)))


def tapered(start_mm: np.ndarray, first_half_mm: np.ndarray, last_half_mm: np.ndarray, length_mm: float, per_mm: float) -> Solids:
    """Return a bar along z whose rectangular section (half widths along x and y) narrows evenly over its length."""
    first, last = check_array("first_half_mm", first_half_mm, (2,)), check_array("last_half_mm", last_half_mm, (2,))
    center = np.asarray(start_mm, float) + [0.0, 0.0, length_mm / 2]
    planes = [(0.0, 0.0, sign, length_mm / 2) for sign in (1.0, -1.0)]
    for axis in (0, 1):
        steep = np.hypot(1.0, slope := (first[axis] - last[axis]) / length_mm)
        for sign in (1.0, -1.0):
            planes.append((*(sign * np.eye(3)[axis] + [0, 0, slope]) / steep, (first[axis] + last[axis]) / 2 / steep))
    return _solid(center, np.zeros((3, 3)), planes, per_mm, float(np.hypot(length_mm / 2, np.linalg.norm(np.maximum(first, last)))))


def wire(points_mm: np.ndarray, radius_mm: float, per_mm: float) -> Solids:
    """Return a wire through points, [P, 3]: straight pieces that meet in the planes that halve their angles, so that none overlap."""
    points = check_array("points_mm", points_mm, (None, 3))
    if len(points) < 2:
        raise ValueError("points_mm: expected at least two points, got fewer.")
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    axes = steps / lengths[:, None]
    miters = np.concatenate([axes[:1], axes[:-1] + axes[1:], axes[-1:]])
    miters /= np.linalg.norm(miters, axis=1, keepdims=True)
    pieces = []
    for n, (axis, length) in enumerate(zip(axes, lengths, strict=True)):
        center = (points[n] + points[n + 1]) / 2
        planes = [(*miters[n + 1], miters[n + 1] @ (points[n + 1] - center)), (*-miters[n], miters[n] @ (center - points[n]))]
        slack = radius_mm * max(1 / abs(float(miter @ axis)) for miter in miters[n : n + 2])
        shape = (np.eye(3) - np.outer(axis, axis)) / radius_mm
        pieces.append(_solid(center, shape, planes, per_mm, length / 2 + slack))
    return join(*pieces)


def pose(origin_mm: np.ndarray, z_axis: np.ndarray, towards: np.ndarray = (1.0, 0.3, 0.2)) -> np.ndarray:
    """Return the rigid matrix [4, 4] that moves the origin to a point, and z to a direction, with x as near to `towards` as can be."""
    z = _unit(z_axis)
    x = np.asarray(towards, float) - (np.asarray(towards, float) @ z) * z
    if np.linalg.norm(x) < 1e-6:
        x = np.cross(z, [0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [0.0, 0.0, 1.0])
    x = _unit(x)
    return affine(np.stack([x, np.cross(z, x), z], 1), np.asarray(origin_mm, float))


def _unit(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, float)
    return vector / np.linalg.norm(vector)


def solid_integrals(solids: Solids, view: XrayView, subrays: int = SUBRAYS) -> np.ndarray:
    """Integrate solids along the rays from the source to the pixels: exact chords, averaged over each pixel's area.

    Args:
        solids: Any number; those behind the source or the detector shadow nothing.
        view: Source and detector.
        subrays: Each pixel is the mean over subrays × subrays rays.

    Returns:
        Attenuation at 60 keV (line integrals, dimensionless, not negative), float32 [row, column].
    """
    attenuation = np.zeros(view.size_px[::-1])
    boxes = np.array([_shadow_box(center, reach, view) for center, reach in zip(solids.center_lps_mm, solids.reach_mm, strict=True)])
    if len(solids):
        offset = solids.center_lps_mm - view.source_lps_mm
        vectors = (view.detector_origin_lps_mm - view.source_lps_mm, view.column_step_lps_mm, view.row_step_lps_mm)
        _integrate(boxes, offset, solids.shape, solids.planes, solids.per_mm, vectors, subrays, attenuation)
    return np.maximum(attenuation, 0).astype(np.float32)


def _shadow_box(center: np.ndarray, reach: float, view: XrayView) -> tuple[int, int, int, int]:
    """Return the first and last-plus-one row and column that the shadow of a ball may reach."""
    columns, rows = view.size_px
    depth = float(view.depth_mm(center))
    if depth + reach <= 0 or depth - reach >= view.source_to_detector_mm:
        return 0, 0, 0, 0
    if depth - reach < 1.0:
        return 0, rows, 0, columns
    distance = float(np.linalg.norm(center - view.source_lps_mm))
    around = reach * view.source_to_detector_mm * distance / (depth - reach) ** 2 / view.pixel_pitch_mm + 1
    middle = view.project(center)
    low = np.clip(np.floor(middle - around), 0, view.size_px).astype(int)
    high = np.clip(np.ceil(middle + around) + 1, 0, view.size_px).astype(int)
    return int(low[1]), int(high[1]), int(low[0]), int(high[0])


@njit(parallel=True, cache=True)
def _integrate(boxes, offset, shape, planes, per_mm, vectors, subrays, attenuation):
    origin, column, row = vectors
    for r in prange(attenuation.shape[0]):
        for s in range(len(offset)):
            if r < boxes[s, 0] or r >= boxes[s, 1]:
                continue
            for c in range(boxes[s, 2], boxes[s, 3]):
                total = 0.0
                for sub in range(subrays * subrays):
                    down = r + (sub // subrays + 0.5) / subrays - 0.5
                    right = c + (sub % subrays + 0.5) / subrays - 0.5
                    x = origin[0] + right * column[0] + down * row[0]
                    y = origin[1] + right * column[1] + down * row[1]
                    z = origin[2] + right * column[2] + down * row[2]
                    total += _chord(x, y, z, offset[s], shape[s], planes[s])
                attenuation[r, c] += per_mm[s] * total / (subrays * subrays)


@njit(cache=True)
def _chord(x, y, z, offset, shape, planes):
    """Return how much of the ray from the source to (x, y, z) from it lies within a solid with its center at `offset` from the source."""
    enter, leave = 0.0, 1.0
    for p in range(planes.shape[0]):
        slope = planes[p, 0] * x + planes[p, 1] * y + planes[p, 2] * z
        room = planes[p, 3] + planes[p, 0] * offset[0] + planes[p, 1] * offset[1] + planes[p, 2] * offset[2]
        if slope > 0.0:
            leave = min(leave, room / slope)
        elif slope < 0.0:
            enter = max(enter, room / slope)
        elif room < 0.0:
            return 0.0
        if leave <= enter:
            return 0.0
    a, b, c = 0.0, 0.0, -1.0
    for n in range(3):
        along = shape[n, 0] * x + shape[n, 1] * y + shape[n, 2] * z
        beside = shape[n, 0] * offset[0] + shape[n, 1] * offset[1] + shape[n, 2] * offset[2]
        a += along * along
        b += along * beside
        c += beside * beside
    if a > 0.0:
        root = b * b - a * c
        if root <= 0.0:
            return 0.0
        root = np.sqrt(root)
        enter, leave = max(enter, (b - root) / a), min(leave, (b + root) / a)
    elif c > 0.0:
        return 0.0
    return max(leave - enter, 0.0) * np.sqrt(x * x + y * y + z * z)


def add_to_volume(volume: np.ndarray, grid: VoxelGrid, solids: Solids) -> None:
    """Add what solids attenuate per mm to the voxels whose centers they hold.

    Args:
        volume: Attenuation per mm, [k, j, i] on `grid`; changed in place.
        grid: Where the voxels lie; aligned with LPS.
        solids: Any number.
    """
    size = np.array(grid.size_ijk)
    metal = np.zeros(volume.shape, np.float32)
    for center, shape, planes, per_mm, reach in zip(
        solids.center_lps_mm, solids.shape, solids.planes, solids.per_mm, solids.reach_mm, strict=True
    ):
        low = np.clip(np.floor((center - reach - grid.origin_lps_mm) / grid.spacing_mm), 0, size).astype(int)
        high = np.clip(np.ceil((center + reach - grid.origin_lps_mm) / grid.spacing_mm) + 1, 0, size).astype(int)
        if (low >= high).any():
            continue
        axes = [grid.origin_lps_mm[n] + grid.spacing_mm[n] * np.arange(low[n], high[n]) - center[n] for n in range(3)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        inside = (np.square(points @ shape.T).sum(-1) <= 1) & (points @ planes[:, :3].T <= planes[:, 3]).all(-1)
        metal[low[2] : high[2], low[1] : high[1], low[0] : high[0]] += np.float32(per_mm) * inside.transpose(2, 1, 0)
    volume += np.maximum(metal, 0)
