"""What a scene needs of a result, computed and written so that Slicer's GUI thread has only to copy it: raw arrays and one JSON file.

The volume and the coverage alone take Slicer 150 ms to unpack, the segment's voxels and its surface 500 ms to compute.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import TriangleMesh, mesh_from_field, read_vtp, voxels_above, write_surface

from .config import SMALLEST_ISLAND_MM3
from .result_folder import read_result

VOLUME, COVERAGE, LABELS, SURFACE, VALUES = "volume.npy", "coverage.npy", "labels.npy", "surface.npz", "scene.json"
_BRIGHTEST_PERCENTILE = 99.95


class SceneValues(TypedDict):
    """What scene.json says."""

    grid: dict[str, list]
    window_per_mm: float
    threshold_per_mm: float
    region: dict[str, Any] | None
    grade: str
    warnings: list[str]


def write_scene_files(result: Path, folder: Path) -> dict[str, Path]:
    """Write what a scene needs of a result folder.

    Args:
        result: The result folder.
        folder: Where the files go; it is made.

    Returns:
        `scene`: the folder; `views`: the X-rays' file of the result.

    Raises:
        InputError: The result is missing, incomplete or damaged.
        OSError: The files cannot be written.
    """
    read = read_result(result)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VOLUME, read.attenuation_per_mm)
    np.save(folder / COVERAGE, read.coverage)
    mesh = read_vtp(Path(result) / "bone.vtp")
    write_bone(folder, read.attenuation_per_mm, read.grid, read.bone_threshold_per_mm, mesh)
    highest = max(float(np.percentile(read.attenuation_per_mm, _BRIGHTEST_PERCENTILE)), 1.2 * read.bone_threshold_per_mm)
    values: SceneValues = {
        "grid": grid_values(read.grid),
        "window_per_mm": highest,
        "threshold_per_mm": read.bone_threshold_per_mm,
        "region": read.report.get("settings", {}).get("region"),
        "grade": read.report.get("grade", ""),
        "warnings": read.report.get("warnings", []),
    }
    (folder / VALUES).write_text(json.dumps(values), encoding="utf-8")
    return {"scene": folder, "views": Path(result) / "views.npz"}


def write_bone(folder: Path, volume: np.ndarray, grid: VoxelGrid, threshold_per_mm: float, mesh: TriangleMesh | None = None) -> None:
    """Write the voxels of the bone and its surface.

    Args:
        folder: Where they go.
        volume: Attenuation per mm, float32 [k, j, i].
        grid: Where the voxels lie.
        threshold_per_mm: Bone is what exceeds it.
        mesh: The surface at this threshold; computed if None.

    Raises:
        OSError: The files cannot be written.
    """
    labels = voxels_above(volume, grid, threshold_per_mm, SMALLEST_ISLAND_MM3)
    np.save(folder / LABELS, labels.astype(np.uint8))
    write_surface(mesh or mesh_from_field(volume, grid, threshold_per_mm, SMALLEST_ISLAND_MM3), folder / SURFACE)


def grid_values(grid: VoxelGrid) -> dict[str, list]:
    """Return a grid as JSON-ready values."""
    return {
        "size_ijk": list(grid.size_ijk),
        "spacing_mm": grid.spacing_mm.tolist(),
        "origin_lps_mm": grid.origin_lps_mm.tolist(),
        "direction": grid.direction.tolist(),
    }


def grid_from_values(values: dict[str, list]) -> VoxelGrid:
    """Return the grid of `grid_values`; raises KeyError, TypeError and ValueError for anything else."""
    arrays = [np.array(values[name], float) for name in ("spacing_mm", "origin_lps_mm", "direction")]
    return VoxelGrid(tuple(values["size_ijk"]), *arrays)
