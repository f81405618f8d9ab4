"""What has been outlined: slices of any orientation. What lies outside them is unknown, not background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.grid import VoxelGrid


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

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance between columns and between rows."""
        return float(np.linalg.norm(self.column_step_lps_mm)), float(np.linalg.norm(self.row_step_lps_mm))

    @property
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
    """The slices of one structure, and the grid on which the whole structure is wanted."""

    slices: tuple[Slice, ...]
    grid: VoxelGrid
