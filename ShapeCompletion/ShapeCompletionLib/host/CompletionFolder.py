"""The folder that a completion leaves behind, read whole and checked, before the scene is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ShapeCompletionLib.core.completion import NextSlice
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import ResultFiles
from SparseAnatomyLib.mesh import TriangleMesh

CONFIDENCE = "confidence"
_REMEDY = "Complete the shape again."


@dataclass(frozen=True, eq=False)
class CompletedShape:
    """What a result folder holds.

    Attributes:
        grid: Where the voxels lie.
        labels: 1 inside the structure, uint8 [k, j, i].
        probability: That a voxel is inside, float32 [k, j, i].
        mesh: The surface; it may be empty.
        confidence: How sure each point of the mesh is, 0 to 1, float32 [n].
        method: `inr` or `interpolate`.
        reason: One sentence why; may be empty.
        prior: Name of the prior, None where none was used.
        agreement: Dice coefficient with plain interpolation.
        evidence: As in `Completion`.
        nextSlice: None where nothing is left to learn.
        warnings: Sentences for the user.
        seconds: Wall time by stage.
        report: All that `report.json` says; JSON-ready.
    """

    grid: VoxelGrid
    labels: np.ndarray
    probability: np.ndarray
    mesh: TriangleMesh
    confidence: np.ndarray
    method: str
    reason: str
    prior: str | None
    agreement: float
    evidence: float | None
    nextSlice: NextSlice | None
    warnings: list[str]
    seconds: dict[str, float]
    report: dict[str, Any]


def readCompletion(folder: Path) -> CompletedShape:
    """Read a result folder.

    Raises:
        InputError: The folder or one of its files is missing, incomplete or damaged.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # of a path too long for a file system, Path.is_dir raises an OSError
        raise InputError(f"There is no result folder {folder}.", "Choose a folder that a completion has written.")
    probability, grid = ResultFiles.readVolume(folder / "probability.nrrd", _REMEDY)
    shape, shapeGrid = ResultFiles.readVolume(folder / "shape.nrrd", _REMEDY)
    ResultFiles.requireSameGrid(folder / "shape.nrrd", shapeGrid, "probability.nrrd", grid, _REMEDY)
    mesh = ResultFiles.readMesh(folder / "shape.vtp", _REMEDY)
    confidence = _readConfidence(folder / "shape.vtp", len(mesh.points_lps_mm))
    report = ResultFiles.readReport(folder / "report.json", _REMEDY)
    return shapeOf(report, grid, (shape > 0.5).astype(np.uint8), probability, (mesh, confidence))


def shapeOf(
    report: dict[str, Any], grid: VoxelGrid, labels: np.ndarray, probability: np.ndarray, surface: tuple[TriangleMesh, np.ndarray]
) -> CompletedShape:
    """Return a shape from its values and what its report says.

    Args:
        report: As in `report.json`.
        grid: Where the voxels lie.
        labels: uint8 [k, j, i].
        probability: float32 [k, j, i].
        surface: The mesh, and the confidence of its points.

    Raises:
        InputError: The report is incomplete or damaged.
    """
    try:
        said = _said(report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("The result's report.json is incomplete or damaged.", _REMEDY) from error
    return CompletedShape(grid, labels, probability, *surface, **said)


def _said(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says, by the names of CompletedShape."""
    following, prior, evidence = report["next_slice"], report["prior"], report["evidence"]
    return {
        "method": str(report["method"]),
        "reason": str(report["reason"]),
        "prior": None if prior is None else str(prior),
        "agreement": float(report["agreement"]),
        "evidence": None if evidence is None else float(evidence),
        "nextSlice": None if following is None else _nextSlice(following),
        "warnings": [str(text) for text in report["warnings"]],
        "report": report,
        "seconds": {str(stage): float(value) for stage, value in report["seconds"].items()},
    }


def _nextSlice(values: dict[str, Any]) -> NextSlice:
    center, normal = (np.array(values[key], float) for key in ("center_lps_mm", "normal_lps"))
    extent, gain = float(values["extent_mm"]), float(values["gain"])
    fits = center.shape == normal.shape == (3,) and np.isfinite([*center, *normal, extent, gain]).all() and extent > 0
    if not (fits and np.linalg.norm(normal) > 0):
        raise ValueError(f"next_slice: expected a plane, got {values}.")
    return NextSlice(center, normal / np.linalg.norm(normal), extent, gain)


def _readConfidence(path: Path, points: int) -> np.ndarray:
    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    array = reader.GetOutput().GetPointData().GetArray(CONFIDENCE)
    values = np.zeros(0) if array is None else vtk_to_numpy(array)
    if values.shape != (points,) or not np.isfinite(values).all():
        raise InputError(f"{path} does not say how sure the surface is.", _REMEDY)
    return np.clip(values, 0, 1).astype(np.float32)
