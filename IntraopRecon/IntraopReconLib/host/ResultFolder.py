"""A result folder read as values, whole and checked, before the scene is touched. Imports nothing that a desktop Slicer lacks."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import ResultFiles
from SparseAnatomyLib.host.Nodes import Box
from SparseAnatomyLib.mesh import TriangleMesh

_REMEDY = "Reconstruct the case again."
_GEOMETRY = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px")


@dataclass(frozen=True, eq=False)
class ResultXray:
    """An X-ray that went into a result.

    Attributes:
        name: The view's name within the case.
        attenuation: Line integrals, float32 [row, column].
        mask: False where a pixel says nothing, bool [row, column].
        geometry: Source and detector.
    """

    name: str
    attenuation: np.ndarray
    mask: np.ndarray
    geometry: XrayView


@dataclass(frozen=True, eq=False)
class Result:
    """What a result folder holds.

    Attributes:
        grid: Where the voxels of volume and coverage lie.
        attenuationPerMm: float32 [k, j, i].
        coverage: float32 [k, j, i]; 0 is unknown.
        mesh: The bone surface; it may be empty.
        boneThresholdPerMm: Above it is bone.
        xrays: In the order of the case.
        region: The box that was reconstructed.
        grade: `good` or `poor`.
        warnings: Sentences for the user.
    """

    grid: VoxelGrid
    attenuationPerMm: np.ndarray
    coverage: np.ndarray
    mesh: TriangleMesh
    boneThresholdPerMm: float
    xrays: list[ResultXray]
    region: Box
    grade: str
    warnings: list[str]


def readResult(folder: Path) -> Result:
    """Read a result folder.

    Raises:
        InputError: The folder or one of its files is missing, incomplete or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no result folder {folder}.", "Choose a folder that a reconstruction has written.")
    volume, grid = readVolume(folder / "volume.nrrd")
    coverage, coverageGrid = readVolume(folder / "coverage.nrrd")
    ResultFiles.requireSameGrid(folder / "coverage.nrrd", coverageGrid, "volume.nrrd", grid, _REMEDY)
    report = ResultFiles.readReport(folder / "report.json", _REMEDY)
    try:
        threshold = float(report["bone"]["threshold_per_mm"])
        region = _regionBox(report["settings"].get("region"), grid)
        grade, warnings = str(report["grade"]), [str(text) for text in report["warnings"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'report.json'} is incomplete or damaged.", _REMEDY) from error
    mesh = ResultFiles.readMesh(folder / "bone.vtp", _REMEDY)
    return Result(grid, volume, coverage, mesh, threshold, readXrays(folder / "views.npz"), region, grade, warnings)


def readVolume(path: Path) -> tuple[np.ndarray, VoxelGrid]:
    """Return the voxels of a scalar volume, float32 [k, j, i], and where they lie; raises as `ResultFiles.readVolume`."""
    return ResultFiles.readVolume(path, _REMEDY)


def readXrays(path: Path) -> list[ResultXray]:
    """Return the X-rays of `views.npz`.

    Raises:
        InputError: The file is missing, incomplete or damaged.
    """
    ResultFiles.require(path, _REMEDY)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a damaged file open
            geometry = {key: arrays[key] for key in _GEOMETRY}
            return [_xray(arrays, geometry, index, str(name)) for index, name in enumerate(arrays["name"])]
    except (OSError, KeyError, IndexError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is incomplete or damaged.", _REMEDY) from error


def _xray(arrays, geometry: dict[str, np.ndarray], index: int, name: str) -> ResultXray:
    view = XrayView(**{key: values[index] for key, values in geometry.items()})
    attenuation = arrays[f"attenuation_{index:03d}"].astype(np.float32)
    mask = arrays[f"mask_{index:03d}"].astype(bool)
    if attenuation.shape != view.size_px[::-1] or mask.shape != attenuation.shape:
        raise ValueError(f"{name}: expected {view.size_px[::-1]} pixels, got {attenuation.shape} and {mask.shape}.")
    return ResultXray(name, np.nan_to_num(attenuation), mask, view)


def _regionBox(region: dict[str, Any] | None, grid: VoxelGrid) -> Box:
    if region is None:
        return Box(grid.center_lps_mm, grid.extent_mm, grid.direction)
    values = (np.array(region[key], float) for key in ("center_lps_mm", "extent_mm", "direction"))
    return Box(*values)
