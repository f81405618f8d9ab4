"""A volume's projection together with its derivatives by a rigid motion of the view: the geometry around `_motion_numba`."""

from __future__ import annotations

import numpy as np

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from . import _motion_numba
from .projection import ViewOnGrid

PARAMETERS = 6


def values_and_slopes(volume: np.ndarray) -> np.ndarray:
    """Return what `project_with_motion` needs of a volume.

    Args:
        volume: Attenuation per mm, float32 [k, j, i].

    Returns:
        The volume and its central differences along k, j and i, float32 [k, j, i, 4].
    """
    return _motion_numba.values_and_slopes(np.ascontiguousarray(volume, np.float32))


def project_with_motion(field: np.ndarray, grid: VoxelGrid, view: XrayView) -> tuple[np.ndarray, np.ndarray]:
    """Integrate a volume along the rays of a view, and say how the integrals change when the view moves.

    The view turns about the origin of the grid's frame and shifts: its points x go to x + ω × x + t. Along a ray r, the line integral of
    µ then grows by ω · ∫ r × ∇µ + t · ∫ ∇µ: all six derivatives in one pass, at three times the cost of the integral.

    Args:
        field: As `values_and_slopes` returns it, of a volume in attenuation per mm.
        grid: Of the volume, isotropic and aligned with its frame.
        view: In the same frame.

    Returns:
        Line integrals, float32 [row, column], and derivatives by ω (per radian) and t (per mm) along x, y and z, float32
        [6, row, column].

    Raises:
        ValueError: The grid is turned.
    """
    if not np.allclose(grid.direction, np.eye(3)):
        raise ValueError("grid: expected one that is aligned with its frame, got a turned one.")
    on_grid = ViewOnGrid.of(view, grid)
    columns, rows = view.size_px
    strides = (field.shape[1] * field.shape[2], field.shape[2], 1)
    sizes, strides, slopes = (tuple(values[axis] for axis in on_grid.axes) for values in (field.shape[:3], strides, (1, 2, 3)))
    sums = _motion_numba.forward_with_motion(field.ravel(), sizes, strides, slopes, on_grid.rays, rows, columns)
    spacing = np.float32(on_grid.spacing_mm)
    xyz = [2 - axis for axis in on_grid.axes]
    shift, turn = np.empty((2, 3, rows, columns), np.float32)
    shift[xyz] = sums[1:4]
    turn[xyz] = sums[4:7] * (spacing * np.linalg.det(np.eye(3, dtype=np.float32)[xyz]))  # a cross product changes sign with its axes
    turn += np.cross(grid.origin_lps_mm.astype(np.float32)[:, None, None], shift, axis=0)
    return sums[0] * spacing, np.concatenate([turn, shift])
