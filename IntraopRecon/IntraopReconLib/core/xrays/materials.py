"""CT becomes soft tissue, bone and metal: how much each attenuates, and what a ray meets of each.

A material is told by its attenuation at 60 keV, as all attenuation of this program. A voxel between 100 and 270 HU is a mixture of soft
tissue and bone; one near the end of the 12 bits of a CT is metal, of the density that its value would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .siddon import line_integrals
from .simulate import BONE_ABOVE_HU, CT_RANGE_HU, SOFT_BELOW_HU, WATER_PER_MM, bounds_lps_mm, resampled, smoothstep

MATERIALS = ("soft", "bone", "metal")  # the order of every array of materials
METAL_FROM_HU, METAL_ABOVE_HU = 2200.0, 2800.0  # no bone or enamel is denser


@dataclass(frozen=True, eq=False)
class MaterialVolumes:
    """What a patient is made of.

    Attributes:
        per_mm: Attenuation per mm at 60 keV of soft tissue, bone and metal, float32 [material, k, j, i].
        grid: Where the voxels lie.
    """

    per_mm: np.ndarray
    grid: VoxelGrid

    @property
    def bone_per_mm(self) -> np.ndarray:
        """Attenuation per mm of bone and metal together, the truth of a standardized reconstruction, [k, j, i]."""
        return self.per_mm[1] + self.per_mm[2]


def materials_from_hounsfield(hu: np.ndarray) -> np.ndarray:
    """Split Hounsfield units into attenuation per mm at 60 keV of soft tissue, bone and metal, float32 [material, ...]."""
    hu = np.clip(np.asarray(hu, np.float32), *CT_RANGE_HU)
    per_mm = WATER_PER_MM * (1 + hu / 1000)
    hard = smoothstep((hu - SOFT_BELOW_HU) / (BONE_ABOVE_HU - SOFT_BELOW_HU))
    metal = smoothstep((hu - METAL_FROM_HU) / (METAL_ABOVE_HU - METAL_FROM_HU))
    return np.stack([per_mm * (1 - hard), per_mm * hard * (1 - metal), per_mm * metal]).astype(np.float32)


def material_volumes(ct: SimpleITK.Image, spacing_mm: float) -> MaterialVolumes:
    """Resample a whole CT and split it into materials.

    Args:
        ct: Hounsfield units.
        spacing_mm: Voxel pitch of the volumes, aligned with LPS.
    """
    low, high = bounds_lps_mm(ct)
    grid = VoxelGrid.box((low + high) / 2, high - low, spacing_mm)
    hu = resampled(ct, grid)
    per_mm = np.empty((len(MATERIALS), *hu.shape), np.float32)
    for k, slab in enumerate(hu):  # slab by slab: whole volumes of intermediate values would fill the memory
        per_mm[:, k] = materials_from_hounsfield(slab)
    return MaterialVolumes(per_mm, grid)


def material_integrals(volumes: MaterialVolumes, view: XrayView, subrays: int = 1) -> np.ndarray:
    """Integrate each material along the rays of a view.

    Args:
        volumes: The patient.
        view: Source and detector.
        subrays: Each pixel is the mean over subrays × subrays rays.

    Returns:
        Line integrals at 60 keV, float32 [material, row, column].
    """
    return np.stack([_integrals(volume, volumes.grid, view, subrays) for volume in volumes.per_mm])


def _integrals(per_mm: np.ndarray, grid: VoxelGrid, view: XrayView, subrays: int) -> np.ndarray:
    """Integrate one material within the box that holds it: metal is in few voxels."""
    spans = [np.flatnonzero(per_mm.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(spans[0]):
        return np.zeros(view.size_px[::-1], np.float32)
    box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    first_ijk = np.array([part.start for part in box[::-1]], float)
    part = per_mm[box]
    return line_integrals(
        part, replace(grid, size_ijk=part.shape[::-1], origin_lps_mm=transform_points(grid.lps_from_ijk, first_ijk)), view, subrays
    )


def ideal_bone(integrals: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return the ideal bone-only DRR of [material, row, column]: bone and metal, no soft tissue, no scatter, no noise, [row, column]."""
    return integrals[1] + integrals[2]
