"""Voxel grids: where in the patient the voxels of an array [k, j, i] lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .checks import check_array
from .frames import affine, transform_points


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """A box of voxels, in any orientation.

    Attributes:
        size_ijk: Number of voxels along i, j, k.
        spacing_mm: Voxel pitch along i, j, k.
        origin_lps_mm: Centre of voxel (0, 0, 0), [3].
        direction: [3, 3]; columns are the unit LPS directions of i, j, k (ITK's convention).
    """

    size_ijk: tuple[int, int, int]
    spacing_mm: np.ndarray
    origin_lps_mm: np.ndarray
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        size = check_array("size_ijk", self.size_ijk, (3,), dtype=int)
        if (size < 1).any():
            raise ValueError(f"size_ijk: expected at least one voxel along each axis, got {tuple(size)}.")
        object.__setattr__(self, "size_ijk", tuple(int(n) for n in size))
        object.__setattr__(self, "spacing_mm", check_array("spacing_mm", self.spacing_mm, (3,)))
        object.__setattr__(self, "origin_lps_mm", check_array("origin_lps_mm", self.origin_lps_mm, (3,)))
        object.__setattr__(self, "direction", check_array("direction", self.direction, (3, 3)))
        if (self.spacing_mm <= 0).any():
            raise ValueError(f"spacing_mm: expected numbers above zero, got {self.spacing_mm.tolist()}.")
        if not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-4):
            raise ValueError("direction: expected perpendicular unit columns.")

    @classmethod
    def box(cls, center_lps_mm: np.ndarray, extent_mm: np.ndarray, spacing_mm: float, direction=None) -> VoxelGrid:
        """Return the isotropic grid that covers a box.

        Args:
            center_lps_mm: [3].
            extent_mm: Full edge lengths along i, j, k, [3] or one number for a cube.
            spacing_mm: Voxel pitch.
            direction: [3, 3] as in the class, identity by default.
        """
        direction = np.eye(3) if direction is None else np.asarray(direction, float)
        extent = np.broadcast_to(np.asarray(extent_mm, float), (3,))
        size = np.maximum(1, np.ceil(extent / spacing_mm - 1e-6).astype(int))
        origin = np.asarray(center_lps_mm, float) - direction @ ((size - 1) * spacing_mm / 2)
        return cls(tuple(size), np.full(3, float(spacing_mm)), origin, direction)

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Shape of the array that the grid describes."""
        return self.size_ijk[::-1]

    @property
    def lps_from_ijk(self) -> np.ndarray:
        """[4, 4], voxel indices (i, j, k) to LPS mm."""
        return affine(self.direction * self.spacing_mm, self.origin_lps_mm)

    @property
    def extent_mm(self) -> np.ndarray:
        """Full edge lengths along i, j, k, voxel borders included, [3]."""
        return np.asarray(self.size_ijk) * self.spacing_mm

    @property
    def center_lps_mm(self) -> np.ndarray:
        """Centre of the box, [3]."""
        return transform_points(self.lps_from_ijk, (np.asarray(self.size_ijk) - 1) / 2)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm))

    def corners_lps_mm(self) -> np.ndarray:
        """Return the eight corners of the box, voxel borders included, [8, 3]."""
        unit = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
        return transform_points(self.lps_from_ijk, unit * np.asarray(self.size_ijk) - 0.5)

    def points_lps_mm(self) -> np.ndarray:
        """Return the voxel centres, [k, j, i, 3]."""
        k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in self.shape_kji), indexing="ij")
        return transform_points(self.lps_from_ijk, np.stack([i, j, k], -1))

    def coarsened(self, factor: int) -> VoxelGrid:
        """Return the grid over (at least) the same box whose voxels are `factor` times as wide."""
        return VoxelGrid.box(self.center_lps_mm, self.extent_mm, float(self.spacing_mm[0]) * factor, self.direction)
