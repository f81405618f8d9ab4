"""A result folder read again: what a reconstruction has written, checked."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volumes import read_volume

_REMEDY = "Reconstruct the case again."


@dataclass(frozen=True, eq=False)
class ReadResult:
    """What a result folder holds, without its surface and its X-rays.

    Attributes:
        grid: Where the voxels lie.
        attenuation_per_mm: float32 [k, j, i].
        coverage: float32 [k, j, i]; 0 is unknown.
        bone_threshold_per_mm: Above it is bone.
        report: What report.json says.
    """

    grid: VoxelGrid
    attenuation_per_mm: np.ndarray
    coverage: np.ndarray
    bone_threshold_per_mm: float
    report: dict[str, Any]


def read_result(folder: Path) -> ReadResult:
    """Read a result folder.

    Raises:
        InputError: The folder or one of its files is missing, incomplete or damaged, or they do not belong together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no result folder {folder}.", "Choose a folder that a reconstruction has written.")
    report = read_report(folder)
    try:
        threshold = float(report["bone"]["threshold_per_mm"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{folder / 'report.json'} is incomplete or damaged.", _REMEDY) from error
    volume, grid = read_volume(folder / "volume.nrrd")
    coverage, coverage_grid = read_volume(folder / "coverage.nrrd")
    if grid.size_ijk != coverage_grid.size_ijk or not np.allclose(grid.lps_from_ijk, coverage_grid.lps_from_ijk, atol=1e-3):
        raise InputError(f"{folder / 'coverage.nrrd'} and volume.nrrd do not belong together: their voxels lie elsewhere.", _REMEDY)
    return ReadResult(grid, volume, coverage, threshold, report)


def read_report(folder: Path) -> dict[str, Any]:
    """Return what report.json of a result says.

    Raises:
        InputError: It is missing or damaged.
    """
    path = Path(folder) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there.", "Choose a folder that a reconstruction has written.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read.", _REMEDY) from error
    if not isinstance(report, dict):
        raise InputError(f"{path} is incomplete or damaged.", _REMEDY)
    return report


def read_comparison(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one X-ray of a result beside what the volume says of it.

    Args:
        folder: Result folder.
        name: The view's name within the case.

    Returns:
        Measured and reprojected attenuation, float32 [row, column]; mask of the pixels that count.

    Raises:
        InputError: There is no such view, or the file is missing, damaged or of an earlier version.
    """
    path = Path(folder) / "views.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = [str(item) for item in arrays["name"]]
            if name not in names:
                raise InputError(f"{path} has no X-ray {name}.", "Choose another X-ray.")
            index = names.index(name)
            if f"reprojection_{index:03d}" not in arrays:
                raise InputError(f"{path} holds no reprojections: an earlier version has written it.", _REMEDY)
            measured, reprojected = (arrays[f"{kind}_{index:03d}"].astype(np.float32) for kind in ("attenuation", "reprojection"))
            mask = arrays[f"mask_{index:03d}"].astype(bool)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there.", "Choose a folder that a reconstruction has written.") from error
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is incomplete or damaged.", _REMEDY) from error
    if not measured.shape == reprojected.shape == mask.shape:
        raise InputError(f"{path} is incomplete or damaged.", _REMEDY)
    return np.nan_to_num(measured), np.nan_to_num(reprojected), mask
