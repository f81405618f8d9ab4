"""A result folder: written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from SparseAnatomyLib.mesh import mesh_from_field, write_stl, write_vtp
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.volumes import write_volume

from .bone import bone_threshold
from .calibration.poses import read_poses, write_poses
from .case import POSES_FILE, Case
from .config import SMALLEST_ISLAND_MM3
from .reconstruction import Reconstruction, RefinedPose
from .report import render_report, report_data

_NAMES = ("volume.nrrd", "coverage.nrrd", "bone.vtp", "bone.stl", "views.npz", "report.html", "report.json")
_OF_AN_EARLIER_RESULT = ("metrics.json",)
_REFINED = "poses_refined.json"


def write_result(out: Path, reconstruction: Reconstruction, case: Case, bone_threshold_per_mm: float | None = None) -> dict[str, Path]:
    """Write the result folder of INTERFACES, with `views.npz` for the scene.

    Everything is written beside its final place first. If anything fails, an earlier result in the folder stays as it was.

    Args:
        out: The folder; it is made, and files of other names in it are left alone.
        reconstruction: The result.
        case: What was reconstructed; its views in the order of the reconstruction's.
        bone_threshold_per_mm: The user's own bone threshold; chosen from the volume by default.

    Returns:
        Path by name: `volume`, `coverage`, `mesh_vtp`, `mesh_stl`, `views`, `report_html`, `report_json`. Where the poses were refined,
        `poses_refined.json` lies beside them: it can take the place of the case's poses.json.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    names, obsolete = (*_NAMES, *([_REFINED] if reconstruction.poses else [])), (*_OF_AN_EARLIER_RESULT, _REFINED)
    old = [name for name in obsolete if name not in names]
    write_together(out, names, lambda folder: _write_files(folder, reconstruction, case, bone_threshold_per_mm), old)
    keys = ("volume", "coverage", "mesh_vtp", "mesh_stl", "views", "report_html", "report_json")
    return {key: Path(out) / name for key, name in zip(keys, _NAMES, strict=True)}


def _write_files(folder: Path, reconstruction: Reconstruction, case: Case, bone_threshold_per_mm: float | None) -> None:
    volume, grid = reconstruction.attenuation_per_mm, reconstruction.grid
    write_volume(folder / "volume.nrrd", volume, grid)
    write_volume(folder / "coverage.nrrd", reconstruction.coverage, grid)
    threshold = bone_threshold(volume, reconstruction.coverage, bone_threshold_per_mm)
    mesh = mesh_from_field(volume, grid, threshold.value_per_mm, SMALLEST_ISLAND_MM3)
    write_vtp(mesh, folder / "bone.vtp")
    write_stl(mesh, folder / "bone.stl")
    _write_views(folder / "views.npz", case, reconstruction)
    if reconstruction.poses:
        _write_refined_poses(folder / _REFINED, case, reconstruction.poses)
    data = report_data(reconstruction, case, threshold, mesh)
    (folder / "report.json").write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
    (folder / "report.html").write_text(render_report(data, reconstruction, case), encoding="utf-8")


def _write_refined_poses(path: Path, case: Case, poses: Sequence[RefinedPose]) -> None:
    """Write the poses of the case with refined geometry; views that were left out are graded red, so that they stay so."""
    used = {view.name for view in case.views}
    graded = [posed for posed in read_poses(case.folder / POSES_FILE) if posed.grade != "red"]
    calibrated = [posed for posed in graded if used & {posed.image, f"{posed.image}, frame {posed.frame}"}]
    grades = ["red" if pose.left_out else posed.grade for posed, pose in zip(calibrated, poses, strict=True)]
    pairs = zip(calibrated, poses, grades, strict=True)
    write_poses(path, [replace(posed, view=pose.geometry, reprojection_rms_px=None, grade=grade) for posed, pose, grade in pairs])


def _write_views(path: Path, case: Case, reconstruction: Reconstruction) -> None:
    """Write the X-rays with geometry and reprojection, for the scene, and what they were before they were standardized.

    Half precision is exact to 0.4 % of a grey level of 8 bits.
    """
    arrays: dict[str, np.ndarray] = {"name": np.array([view.name for view in case.views])}
    for attribute in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px"):
        arrays[attribute] = np.array([getattr(placed.geometry, attribute) for placed in reconstruction.poses or case.views])
    for index, (view, reprojection) in enumerate(zip(case.views, reconstruction.reprojections, strict=True)):
        arrays[f"attenuation_{index:03d}"] = view.attenuation.astype(np.float16)
        arrays[f"reprojection_{index:03d}"] = reprojection.astype(np.float16)
        arrays[f"mask_{index:03d}"] = view.mask
    for index, standardized in enumerate(case.standardization.views if case.standardization is not None else []):
        arrays[f"original_{index:03d}"] = standardized.original.attenuation.astype(np.float16)
    np.savez_compressed(path, **arrays)
