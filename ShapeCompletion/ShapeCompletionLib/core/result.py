"""The result folder of a completion: written whole or not at all."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ShapeCompletionLib.core.completion import Completion, NextSlice
from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.config_check import config_to_json
from ShapeCompletionLib.core.sampling import Context
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import TriangleMesh, write_stl, write_vtp
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready, now_utc, package_versions
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.volumes import write_volume

CONFIDENCE = "confidence"  # name of the mesh's point array
FILES = {"shape": "shape.nrrd", "probability": "probability.nrrd", "mesh_vtp": "shape.vtp", "report_json": "report.json"}
STL_FILE = "shape.stl"  # written where it is asked for
REPORT_FORMAT = "SparseAnatomy shape report"
_PACKAGES = ("numpy", "scipy", "numba", "torch", "SimpleITK", "vtk")


def write_completion(
    out: Path, completion: Completion, context: Context, config: CompletionConfig, provenance: Mapping[str, Any], compressed: bool = True
) -> dict[str, Path]:
    """Write the result folder of INTERFACES.

    Everything is written beside its final place first. If anything fails, an earlier result in the folder stays as it was.

    Args:
        out: The folder; it is made, and files of other names in it are left alone.
        completion: The result.
        context: What it was made from.
        config: With which settings.
        provenance: What else the report should say of the inputs, such as `inputs_sha256`; JSON-ready.
        compressed: Whether the files are; it takes a third of the time of a completion.

    Returns:
        Path by name, as `FILES`.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    report = {**provenance, **_report(completion, context, config)}
    values = (completion.grid, completion.probability, completion.mesh, completion.confidence)
    return write_files(out, *values, report, compressed=compressed)


def check_not_foreign(out: Path) -> None:
    """Refuse a folder in which a result would replace files that are of no earlier shape.

    Raises:
        InputError: It holds such files.
    """
    taken = [name for name in (*FILES.values(), STL_FILE) if (out / name).exists()]
    if taken and not _is_shape_report(out / FILES["report_json"]):
        raise InputError(f"{out} holds a file {taken[0]} that is of no earlier shape.", "Choose another folder, such as a new one.")


def _is_shape_report(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["format"] == REPORT_FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        return False


def write_files(
    out: Path,
    grid: VoxelGrid,
    probability: np.ndarray,
    mesh: TriangleMesh,
    confidence: np.ndarray,
    report: Mapping[str, Any],
    with_stl: bool = False,
    compressed: bool = True,
) -> dict[str, Path]:
    """Write the files of a result folder, all of them or none.

    Args:
        out: As `write_completion`.
        grid: Where the voxels lie.
        probability: float [k, j, i]; inside the structure it exceeds a half.
        mesh: The surface.
        confidence: One per point of the mesh, float32 [n].
        report: What `report.json` says.
        with_stl: Whether the surface is also written as STL.
        compressed: Whether the files are.

    Returns:
        Path by name, as `FILES`.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    text = json.dumps(json_ready(report), indent=1, allow_nan=False)

    def write(folder: Path) -> None:
        write_volume(folder / FILES["shape"], probability > 0.5, grid, np.uint8, compressed)
        write_volume(folder / FILES["probability"], probability, grid, compressed=compressed)
        write_vtp(mesh, folder / FILES["mesh_vtp"], {CONFIDENCE: confidence}, compressed)
        (folder / FILES["report_json"]).write_text(text, encoding="utf-8")
        if with_stl:
            write_stl(mesh, folder / STL_FILE)

    names = [*FILES.values(), *([STL_FILE] if with_stl else [])]
    write_together(out, names, write, [] if with_stl or not (Path(out) / STL_FILE).exists() else [STL_FILE])
    return {role: Path(out) / name for role, name in FILES.items()}


def _report(completion: Completion, context: Context, config: CompletionConfig) -> dict[str, Any]:
    grid = completion.grid
    return {
        "format": REPORT_FORMAT,
        "version": 1,
        "notice": RESEARCH_USE_ONLY,
        "created_utc": now_utc(),
        "method": completion.method,
        "reason": completion.reason,
        "prior": completion.prior,
        "agreement": completion.agreement,
        "evidence": completion.evidence,
        "warnings": list(dict.fromkeys([*context.warnings, *completion.warnings])),
        "next_slice": None if completion.next_slice is None else _next_slice(completion.next_slice),
        "slices": {"number": len(context.slices), "empty": sum(not plane.mask.any() for plane in context.slices)},
        "shape": {
            "volume_ml": completion.mesh.volume_mm3 / 1000,
            "area_cm2": completion.mesh.area_mm2 / 100,
            "triangles": len(completion.mesh.triangles),
            "voxels": int(completion.shape.sum()),
        },
        "grid": {
            "size_ijk": list(grid.size_ijk),
            "spacing_mm": grid.spacing_mm,
            "origin_lps_mm": grid.origin_lps_mm,
            "direction_lps_from_ijk": grid.direction,
        },
        "seconds": completion.seconds,
        "device": completion.device,
        "settings": config_to_json(config),
        "versions": _versions(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Return what this process runs on: what is loaded stays so, and to look it up takes longer than to write a file."""
    return package_versions(_PACKAGES)


def _next_slice(plane: NextSlice) -> dict[str, Any]:
    return {
        "center_lps_mm": plane.center_lps_mm,
        "normal_lps": plane.normal_lps,
        "extent_mm": plane.extent_mm,
        "gain": plane.gain,
    }
