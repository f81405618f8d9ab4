"""How slices are laid through a structure: for training and for measuring, where the whole structure is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .sampling import Slice, SliceLayout

NORMALS_LPS = {"axial": (0.0, 0.0, 1.0), "coronal": (0.0, 1.0, 0.0), "sagittal": (1.0, 0.0, 0.0)}


def outline(
    layout: SliceLayout,
    center_lps_mm: np.ndarray,
    extent_mm: np.ndarray,
    signed_distance: Callable[[np.ndarray], np.ndarray],
    pixel_mm: float = 1.0,
) -> tuple[Slice, ...]:
    """Outline a structure on the planes of a layout.

    Args:
        layout: Which planes.
        center_lps_mm: Of the box that is looked at, [3].
        extent_mm: Its edge lengths along the patient's axes, [3].
        signed_distance: The structure: LPS points [n, 3] to mm, positive inside.
        pixel_mm: Of the outlines.
    """
    if layout.kind == "three":
        planes = [(np.array(normal), layout.offset_mm) for normal in NORMALS_LPS.values()]
    else:
        normal = np.array(layout.normal_lps or NORMALS_LPS[layout.kind])
        normal /= np.linalg.norm(normal)
        reach = float(np.abs(normal) @ extent_mm) / 2
        first = -reach + (layout.offset_mm + reach) % layout.spacing_mm
        planes = [(normal, height) for height in np.arange(first, reach, layout.spacing_mm)]
    slices = [outline_plane(normal, height, center_lps_mm, extent_mm, signed_distance, pixel_mm) for normal, height in planes]
    return tuple(one for one in slices if layout.keep_empty or one.mask.any())


def outline_plane(normal, height, center_lps_mm, extent_mm, signed_distance, pixel_mm) -> Slice:
    """Outline a structure on the plane across `normal` at `height` mm from the center; arguments as in `outline`."""
    across = np.eye(3)[np.argmin(np.abs(normal))]
    column = np.cross(across, normal)
    column /= np.linalg.norm(column)
    row = np.cross(normal, column)
    columns, rows = (int(np.ceil(float(np.abs(axis) @ extent_mm) / pixel_mm)) + 1 for axis in (column, row))
    origin = center_lps_mm + height * normal - pixel_mm * ((columns - 1) / 2 * column + (rows - 1) / 2 * row)
    one = Slice(np.zeros((rows, columns), bool), origin, pixel_mm * column, pixel_mm * row)
    mask = signed_distance(one.points_lps_mm().reshape(-1, 3)).reshape(rows, columns) > 0
    return Slice(mask, one.origin_lps_mm, one.column_step_lps_mm, one.row_step_lps_mm)
