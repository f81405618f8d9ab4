"""The files that result folders are made of, each read whole and checked. Imports nothing that a desktop Slicer lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import TriangleMesh, read_vtp


def readVolume(path: Path, remedy: str) -> tuple[np.ndarray, VoxelGrid]:
    """Return the voxels of a scalar volume, float32 [k, j, i], and where they lie.

    Raises:
        InputError: The file is missing, or no scalar volume of finite numbers.
    """
    require(path, remedy)
    try:
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
        grid = VoxelGrid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    except (RuntimeError, ValueError) as error:  # SimpleITK's own error is a RuntimeError
        raise InputError(f"{path} cannot be read as a volume.", remedy) from error
    array = SimpleITK.GetArrayFromImage(image)
    if not np.isfinite(array).all():
        raise InputError(f"{path} holds values that are not numbers.", remedy)
    return array, grid


def readMesh(path: Path, remedy: str) -> TriangleMesh:
    """Return a surface.

    Raises:
        InputError: The file is missing or damaged.
    """
    require(path, remedy)
    mesh = read_vtp(path)
    complete = b"</VTKFile>" in path.read_bytes()[-64:]
    if not (complete and np.isfinite(mesh.points_lps_mm).all()):
        raise InputError(f"{path} is damaged.", remedy)
    return mesh


def readReport(path: Path, remedy: str) -> Any:
    """Return what a JSON file says.

    Raises:
        InputError: The file is missing or damaged.
    """
    require(path, remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged.", remedy) from error


def require(path: Path, remedy: str) -> None:
    """Check that a file is there.

    Raises:
        InputError: It is not.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing.", remedy)


def requireSameGrid(path: Path, grid: VoxelGrid, otherName: str, otherGrid: VoxelGrid, remedy: str) -> None:
    """Check that the voxels of two volumes of one folder lie at the same places.

    Raises:
        InputError: They do not.
    """
    same = grid.size_ijk == otherGrid.size_ijk and np.allclose(grid.lps_from_ijk, otherGrid.lps_from_ijk, atol=1e-3)
    if not same:
        raise InputError(f"{path} and {otherName} do not belong together: their voxels lie elsewhere.", remedy)
