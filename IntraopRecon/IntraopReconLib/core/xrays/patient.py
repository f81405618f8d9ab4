"""The patient of a CT, without the table that he or she was lying on: its edges are as dense as bone."""

from __future__ import annotations

import numpy as np
import SimpleITK
from scipy import ndimage

from SparseAnatomyLib.grid import VoxelGrid

from .materials import MaterialVolumes, material_volumes
from .simulate import WATER_PER_MM

BODY_PER_MM = 0.6 * WATER_PER_MM  # denser is the patient or a table
STEP_MM, OPENING = 3.0, 2  # of a coarse grid; steps on it of what ties a table to the patient
BODY_MARGIN_MM = 6.0  # that is kept around


def patient_volumes(ct: SimpleITK.Image, spacing_mm: float) -> tuple[MaterialVolumes, np.ndarray]:
    """Return the materials of a CT as `material_volumes` does, nothing where the patient is not, and where that is, bool [k, j, i]."""
    volumes = material_volumes(ct, spacing_mm)
    inside = body(volumes)
    volumes.per_mm[:, ~inside] = 0
    return volumes, inside


def body(volumes: MaterialVolumes) -> np.ndarray:
    """Return the patient without the table of the CT, lungs and bowel included, bool [k, j, i]."""
    step = max(1, round(STEP_MM / float(volumes.grid.spacing_mm[0])))
    dense = volumes.per_mm[:, ::step, ::step, ::step].sum(0) > BODY_PER_MM
    labels, count = ndimage.label(ndimage.binary_opening(dense, iterations=OPENING))
    if count == 0:
        return np.ones(volumes.grid.shape_kji, bool)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    whole = ndimage.binary_dilation(largest, iterations=round(BODY_MARGIN_MM / STEP_MM))
    whole = np.stack([ndimage.binary_fill_holes(np.pad(axial, 1))[1:-1, 1:-1] for axial in whole])
    return _finer(whole, step, volumes.grid.shape_kji)


def without_table(truth: np.ndarray, grid: VoxelGrid, patient: MaterialVolumes) -> None:
    """Set to zero, in place, what of a volume [k, j, i] lies where the patient is not; both grids are aligned with LPS."""
    spacing = patient.grid.spacing_mm
    i, j, k = (
        np.clip(np.rint((first + np.arange(count) * step - origin) / pitch), 0, size - 1).astype(int)
        for first, count, step, origin, size, pitch in zip(
            grid.origin_lps_mm, grid.size_ijk, grid.spacing_mm, patient.grid.origin_lps_mm, patient.grid.size_ijk, spacing, strict=True
        )
    )
    truth[~patient.per_mm[:, k[:, None, None], j[:, None], i].any(0)] = 0


def _finer(mask: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask of every `step`-th voxel for all voxels."""
    for axis in range(3):
        mask = mask.repeat(step, axis)
    return mask[tuple(slice(length) for length in shape)]
