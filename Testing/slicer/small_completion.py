"""An asymmetric shape outlined on a few slices, and the result folder that a completion of it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from small_scene import write_nrrd

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field, write_vtp

CENTER_LPS_MM = np.array([20.0, -35.0, 60.0])
SLICE_INDICES = (6, 10, 14, 18, 22)
NEXT_SLICE = {"center_lps_mm": [22.0, -33.0, 57.0], "normal_lps": [0.0, 0.6, 0.8], "extent_mm": 45.0, "gain": 210.0}


def grid_of_ct(tilt_deg: float = 0.0) -> VoxelGrid:
    """Return a grid with three spacings and three sizes."""
    direction = Rotation.from_euler("x", tilt_deg, degrees=True).as_matrix()
    size, spacing = np.array([40, 36, 30]), np.array([1.0, 1.2, 2.0])
    return VoxelGrid(tuple(size), spacing, CENTER_LPS_MM - direction @ ((size - 1) * spacing / 2), direction)


def probability_of(grid: VoxelGrid, growth_mm: float = 0.0) -> np.ndarray:
    """Return an ellipsoid with a bump to the patient's left, float32 [k, j, i], soft at its edge."""
    points = grid.points_lps_mm() - CENTER_LPS_MM
    body = 14 * (1 - np.linalg.norm(points / [10.0, 13.0, 20.0], axis=-1))
    bump = 6 - np.linalg.norm(points - [12.0, 0.0, 6.0], axis=-1)
    return np.clip(0.5 + (np.maximum(body, bump) + growth_mm) / 4, 0, 1).astype(np.float32)


def outlined_labels(grid: VoxelGrid) -> np.ndarray:
    """Return the shape on a few slices, uint8 [k, j, i]."""
    whole = (probability_of(grid) > 0.5).astype(np.uint8)
    labels = np.zeros_like(whole)
    labels[list(SLICE_INDICES)] = whole[list(SLICE_INDICES)]
    return labels


def write_completion(folder: Path, growth_mm: float = 0.0, **changes: Any) -> Path:
    """Write a result folder as the worker does; `changes` replace what the report says."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = VoxelGrid.box(CENTER_LPS_MM, [36.0, 38.0, 52.0], 1.0)
    probability = probability_of(grid, growth_mm)
    write_nrrd(folder / "probability.nrrd", probability, grid)
    write_nrrd(folder / "shape.nrrd", (probability > 0.5).astype(np.uint8), grid)
    mesh = mesh_from_field(probability, grid, 0.5)
    nearest = np.abs(mesh.points_lps_mm[:, 2, None] - (CENTER_LPS_MM[2] - 29 + 2 * np.array(SLICE_INDICES))).min(1)
    write_vtp(mesh, folder / "shape.vtp", {"confidence": np.clip(1 - nearest / 12, 0.05, 1)})
    report = {
        "method": "inr",
        "reason": "The prior explains the slices.",
        "agreement": 0.93,
        "evidence": 0.4,
        "prior": "vertebra",
        "next_slice": NEXT_SLICE,
        "warnings": ["The outline touches the edge of the volume."],
        "seconds": {"context": 0.01, "step": 0.05},
    }
    (folder / "report.json").write_text(json.dumps({**report, **changes}))
    return folder
