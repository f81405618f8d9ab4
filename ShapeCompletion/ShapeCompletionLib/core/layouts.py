"""How slices are laid through a structure: for training and for measuring, where the whole structure is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from SparseAnatomyLib.checks import check_array, check_choice, check_positive

from .sampling import Slice

LayoutKind = Literal["axial", "coronal", "sagittal", "oblique", "three"]
LAYOUT_KINDS: tuple[LayoutKind, ...] = ("axial", "coronal", "sagittal", "oblique", "three")
NORMALS_LPS = {"axial": (0.0, 0.0, 1.0), "coronal": (0.0, 1.0, 0.0), "sagittal": (1.0, 0.0, 0.0)}


@dataclass(frozen=True)
class SliceLayout:
    """Planes to look at a whole shape through.

    Attributes:
        kind: Direction of the planes by LPS axes, `oblique` with a normal of its own; `three` is one axial, one coronal and one sagittal
            plane.
        spacing_mm: Distance between the planes; without meaning for `three`.
        offset_mm: The planes pass at this distance, plus multiples of the spacing, from the center of what is looked at, along the
            normal; those of `three` at this distance alone.
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
        normal = np.array(NORMALS_LPS[layout.kind] if layout.normal_lps is None else layout.normal_lps, float)
        normal /= np.linalg.norm(normal)
        reach = float(np.abs(normal) @ extent_mm) / 2
        first = -reach + (layout.offset_mm + reach) % layout.spacing_mm
        planes = [(normal, height) for height in np.arange(first, reach, layout.spacing_mm)]
    slices = [outline_plane(normal, height, center_lps_mm, extent_mm, signed_distance, pixel_mm) for normal, height in planes]
    return tuple(one for one in slices if layout.keep_empty or one.mask.any())


def outline_plane(
    normal: np.ndarray,
    height: float,
    center_lps_mm: np.ndarray,
    extent_mm: np.ndarray,
    signed_distance: Callable[[np.ndarray], np.ndarray],
    pixel_mm: float,
) -> Slice:
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
