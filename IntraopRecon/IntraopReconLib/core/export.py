"""A result for other programs: the volume as NRRD, the bone as STL."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field, write_stl
from SparseAnatomyLib.staging import check_result_folder, write_together
from SparseAnatomyLib.volumes import write_volume

from .config import SMALLEST_ISLAND_MM3


def export_nrrd(path: Path, volume: np.ndarray, grid: VoxelGrid) -> Path:
    """Write attenuation per mm, float32 [k, j, i], LPS space; a file of that name is replaced.

    Returns:
        The path.

    Raises:
        InputError: The folder cannot be written to.
        ResourceError: The disk is full or fails.
    """
    return _replaced(path, float(volume.nbytes), lambda partial: write_volume(partial, volume, grid))


def export_stl(path: Path, volume: np.ndarray, grid: VoxelGrid, threshold_per_mm: float) -> Path:
    """Write the bone surface at a threshold, LPS mm; arguments, returns and raises else as `export_nrrd`.

    Raises:
        InputError: Nothing exceeds the threshold.
    """
    mesh = mesh_from_field(volume, grid, threshold_per_mm, SMALLEST_ISLAND_MM3)
    if not len(mesh.triangles):
        raise InputError("There is no bone surface: nothing exceeds the threshold.", "Choose a lower threshold.")
    return _replaced(path, 50.0 * len(mesh.triangles), lambda partial: write_stl(mesh, partial))


def _replaced(path: Path, needed_bytes: float, write: Callable[[Path], None]) -> Path:
    path = Path(os.path.abspath(path))
    check_result_folder(path.parent, needed_bytes)
    write_together(path.parent, [path.name], lambda folder: write(folder / path.name))
    return path
