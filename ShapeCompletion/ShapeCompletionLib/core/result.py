"""The result folder of a completion: written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ShapeCompletionLib.core.completion import Completion, NextSlice
from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.config_check import config_to_json
from ShapeCompletionLib.core.sampling import Context
from SparseAnatomyLib.mesh import write_vtp
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready, now_utc, package_versions
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.volumes import write_volume

CONFIDENCE = "confidence"  # name of the mesh's point array
FILES = {"shape": "shape.nrrd", "probability": "probability.nrrd", "mesh_vtp": "shape.vtp", "report_json": "report.json"}
_OF_AN_EARLIER_RESULT = ("metrics.json",)
_PACKAGES = ("numpy", "scipy", "numba", "torch", "SimpleITK", "vtk")


def write_completion(
    out: Path, completion: Completion, context: Context, config: CompletionConfig, provenance: Mapping[str, Any]
) -> dict[str, Path]:
    """Write the result folder of INTERFACES.

    Everything is written beside its final place first. If anything fails, an earlier result in the folder stays as it was.

    Args:
        out: The folder; it is made, and files of other names in it are left alone.
        completion: The result.
        context: What it was made from.
        config: With which settings.
        provenance: What else the report should say of the inputs, such as `inputs_sha256`; JSON-ready.

    Returns:
        Path by name, as `FILES`.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    report = json_ready({**provenance, **_report(completion, context, config)})

    def write(folder: Path) -> None:
        write_volume(folder / FILES["shape"], completion.shape, completion.grid, np.uint8)
        write_volume(folder / FILES["probability"], completion.probability, completion.grid)
        write_vtp(completion.mesh, folder / FILES["mesh_vtp"], {CONFIDENCE: completion.confidence})
        (folder / FILES["report_json"]).write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")

    write_together(out, list(FILES.values()), write, _OF_AN_EARLIER_RESULT)
    return {role: Path(out) / name for role, name in FILES.items()}


def _report(completion: Completion, context: Context, config: CompletionConfig) -> dict[str, Any]:
    grid = completion.grid
    return {
        "format": "SparseAnatomy shape report",
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
        "settings": config_to_json(config),
        "versions": package_versions(_PACKAGES),
    }


def _next_slice(plane: NextSlice) -> dict[str, Any]:
    return {
        "center_lps_mm": plane.center_lps_mm,
        "normal_lps": plane.normal_lps,
        "extent_mm": plane.extent_mm,
        "gain": plane.gain,
    }
