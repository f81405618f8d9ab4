"""The signed distance field between slices, for any set of planes: parallel, oblique to each other, crossing, or one of each.

Between two neighbors of a stack the field is the linear blend of their in-plane signed distances (shape-based interpolation: Raya and
Udupa, IEEE Transactions on Medical Imaging 9(1), 1990). Stacks of different orientation are blended by the inverse square of the distance
to their nearest slices, so that each slice is met exactly. Beyond a stack's last slice the shape tapers off as if an empty slice came next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SparseAnatomyLib.grid import VoxelGrid

from ._distance_torch import signed_distances
from ._interpolate_numba import evaluate_on_grid
from .sampling import Slice

SAME_STACK_DEG = 20.0  # planes outlined by hand are never quite parallel


@dataclass(frozen=True, eq=False)
class InterpolationField:
    """Slices, prepared for evaluation; made by `interpolation_field`.

    Attributes:
        slices: The slices, stack by stack, each in order along its normal.
        distances_mm: In-plane signed distances of all slices, positive inside, one after the other, float32 [pixels].
        starts: Where in them each slice starts, int64 [slice].
        shapes: Rows and columns of each slice, int64 [slice, 2].
        frames: Origin, unit column direction, unit row direction, normal, column spacing, row spacing of each, float32 [slice, 14].
        stacks: Number of the stack of each, ascending from 0, int64 [slice].
        gaps_mm: Distance at which an empty slice is thought beyond the end of each stack, float32 [stack].
        radii_mm: Largest inscribed radius in each slice; of an empty one how far the structure is at least, float32 [slice].
    """

    slices: tuple[Slice, ...]
    distances_mm: np.ndarray
    starts: np.ndarray
    shapes: np.ndarray
    frames: np.ndarray
    stacks: np.ndarray
    gaps_mm: np.ndarray
    radii_mm: np.ndarray

    def pixel_centers_lps_mm(self, pixels: np.ndarray) -> np.ndarray:
        """Return where pixels lie, given by their places in `distances_mm` [n]; [n, 3]."""
        of_slice = self._slice_of(pixels)
        rows, columns = np.divmod(pixels - self.starts[of_slice], self.shapes[of_slice, 1])
        frames = self.frames[of_slice]
        return frames[:, :3] + (columns * frames[:, 12])[:, None] * frames[:, 3:6] + (rows * frames[:, 13])[:, None] * frames[:, 6:9]

    def in_empty_slice(self, pixels: np.ndarray) -> np.ndarray:
        """Return whether pixels, given as in `pixel_centers_lps_mm`, are of slices that do not show the structure, bool [n]."""
        empty = np.array([not one.mask.any() for one in self.slices])
        return empty[self._slice_of(pixels)]

    def _slice_of(self, pixels: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, pixels, side="right") - 1

    def on_grid(self, grid: VoxelGrid, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate on a grid.

        Args:
            grid: Any orientation.
            where: Flat indices of the voxels wanted, int64 [n]; all by default.

        Returns:
            The signed distance in mm, positive inside, and the distance to the nearest slice in mm; float32 [k, j, i], or [n].
        """
        flat = np.arange(np.prod(grid.size_ijk)) if where is None else np.asarray(where, np.int64)
        slices = (self.distances_mm, self.starts, self.shapes, self.frames, self.radii_mm)
        field, nearest = evaluate_on_grid(
            grid.lps_from_ijk.astype(np.float32), np.array(grid.size_ijk), flat, slices, self.stacks, self.gaps_mm
        )
        return (field.reshape(grid.shape_kji), nearest.reshape(grid.shape_kji)) if where is None else (field, nearest)


def interpolation_field(slices: tuple[Slice, ...], device: str = "cpu") -> InterpolationField:
    """Prepare slices for interpolation.

    Args:
        slices: At least one with the structure in it; empty ones are known to be background.
        device: Where their distances are computed.

    Raises:
        ValueError: No slice shows the structure.
    """
    if not any(one.mask.any() for one in slices):
        raise ValueError("slices: expected at least one that shows the structure.")
    ordered, stacks = _stacked(slices)
    maps = [_signed_distance(one) for one in ordered] if device == "cpu" else signed_distances(ordered, device)
    radii = np.array([max(float(m.max()), 0.0) for m in maps], np.float32)
    gaps = np.array([_gap_mm([s for s, g in zip(ordered, stacks, strict=True) if g == stack], radii) for stack in range(stacks[-1] + 1)])
    radii = _radii_of_empty_slices(ordered, stacks, gaps, radii)
    maps = [np.full(one.mask.shape, -r, np.float32) if not one.mask.any() else m for one, m, r in zip(ordered, maps, radii, strict=True)]
    sizes = [m.size for m in maps]
    return InterpolationField(
        tuple(ordered),
        np.concatenate([m.ravel() for m in maps]).astype(np.float32),
        np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        np.array([m.shape for m in maps], np.int64),
        np.array([_frame(one) for one in ordered], np.float32),
        np.array(stacks, np.int64),
        gaps.astype(np.float32),
        radii,
    )


def _signed_distance(one: Slice) -> np.ndarray:
    """Return the distance of each pixel to the outline, positive inside, float32 [row, column]; the outline runs between pixels."""
    column, row = one.pixel_spacing_mm
    if not one.mask.any():
        return np.zeros(one.mask.shape, np.float32)
    padded = np.pad(one.mask, 1)  # beyond the image is outside
    half = min(column, row) / 2
    inside = ndimage.distance_transform_edt(padded, sampling=(row, column))
    outside = ndimage.distance_transform_edt(~padded, sampling=(row, column))
    signed = np.where(padded, np.maximum(inside - half, half / 2), -np.maximum(outside - half, half / 2))
    return signed[1:-1, 1:-1].astype(np.float32)


def _stacked(slices: tuple[Slice, ...]) -> tuple[list[Slice], list[int]]:
    """Return the slices stack by stack, each in order along its normal, and the number of the stack of each."""
    groups: list[list[Slice]] = []
    for one in slices:
        cosines = [abs(one.normal_lps @ group[0].normal_lps) for group in groups]
        near = [n for n, cosine in enumerate(cosines) if cosine > np.cos(np.radians(SAME_STACK_DEG))]
        if near:
            groups[max(near, key=lambda n: cosines[n])].append(one)
        else:
            groups.append([one])
    ordered, stacks = [], []
    for number, group in enumerate(groups):
        normal = group[0].normal_lps
        ordered += sorted(group, key=lambda one: float(normal @ _center(one)))
        stacks += [number] * len(group)
    return ordered, stacks


def _center(one: Slice) -> np.ndarray:
    rows, columns = one.mask.shape
    return one.origin_lps_mm + (rows - 1) / 2 * one.row_step_lps_mm + (columns - 1) / 2 * one.column_step_lps_mm


def _gap_mm(group: list[Slice], radii: np.ndarray) -> float:
    """Return the median distance between a stack's neighbors; for a single slice, twice the largest radius of any."""
    if len(group) < 2:
        return 2 * max(float(radii.max()), 1.0)
    normal = group[0].normal_lps
    return max(float(np.median(np.diff([normal @ _center(one) for one in group]))), 0.1)


def _radii_of_empty_slices(ordered: list[Slice], stacks: list[int], gaps: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the radii with those of empty slices filled in, in mm.

    Next to a slice that shows the structure an empty one has the radius of that slice, so that the shape ends halfway; farther away the
    radius grows by the distance.
    """
    result = radii.copy()
    for n, one in enumerate(ordered):
        if not one.mask.any():
            shown = [m for m, other in enumerate(ordered) if stacks[m] == stacks[n] and other.mask.any()]
            apart = [abs(float(one.normal_lps @ (_center(ordered[m]) - _center(one)))) for m in shown]
            beyond = [float(radii[m]) + max(d - float(gaps[stacks[n]]), 0.0) for m, d in zip(shown, apart, strict=True)]
            result[n] = min(beyond, default=float(radii.max()))
    return result


def _frame(one: Slice) -> np.ndarray:
    column, row = one.pixel_spacing_mm
    return np.concatenate([one.origin_lps_mm, one.column_step_lps_mm / column, one.row_step_lps_mm / row, one.normal_lps, [column, row]])
