"""How far a result is from the truth, where there is one: `metrics.json`."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice, isosurface_distances, psnr_db, ssim_map, volume_error_percent
from SparseAnatomyLib.provenance import json_ready
from SparseAnatomyLib.volumes import read_volume, resampled

from .xrays.simulate import CT_RANGE_HU, attenuation_from_hounsfield, check_hounsfield

_MOST_PER_MM, _LEAST_PER_MM = 5.0, -1.0  # no attenuation lies beyond, and every CT does
_DEFINITIONS = {
    "box": "every voxel of the result's grid that lies inside the ground truth",
    "covered": "the voxels of the box that rays of two different directions cross (coverage above 0)",
    "seen_by_all": "the voxels of the box that every view sees inside its mask",
    "psnr": "20 log10(peak / rmse), peak = the ground truth's maximum in the box",
    "ssim": "Gaussian window of 1.5 voxels (sigma), range = the same peak",
    "bone": "voxels above the result's bone threshold, in the result and in the ground truth alike",
    "surface": "where the volume crosses the bone threshold between neighboring voxels; the box's own border is none",
    "asd": "average symmetric surface distance, weighted by area",
    "hd95": "the larger of the two directed distances that 95 % of a surface's area keeps within",
    "nsd": "share of both surfaces' area within 1 or 2 mm of the other",
    "volume_error": "(result - truth) / truth",
    "null": "not finite, such as the distance to a surface that does not exist",
}


def evaluate(result: Path, ground_truth: Path) -> dict[str, Any]:
    """Compare a result with the truth and write `metrics.json` into the result's folder.

    The truth is resampled onto the result's grid (linearly; where it is at least twice as fine, after averaging). A CT is converted
    to bone-enhanced attenuation as `simulate` does it, at half the result's voxel pitch, then averaged. What lies outside the truth is not
    compared.

    Args:
        result: A result folder.
        ground_truth: Attenuation per mm (`ground_truth.nrrd` of a simulated case) or a CT in Hounsfield units.

    Returns:
        What was written; numbers that are not finite are None. `psnr_3d_db`, `ssim_3d`, `dice` and all surface metrics are over the whole
        box; `psnr_3d_covered_db`, `psnr_3d_seen_by_all_db` and their like over those voxels alone.

    Raises:
        InputError: A file is missing or unreadable, or the truth does not overlap the result.
        ResourceError: metrics.json could not be written.
    """
    result, ground_truth = Path(result), Path(ground_truth)
    if not result.is_dir():
        raise InputError(f"{result} is not a folder with a result.", "Give the folder that was named with --out.")
    volume, grid = read_volume(result / "volume.nrrd")
    coverage, coverage_grid = read_volume(result / "coverage.nrrd")
    if grid.size_ijk != coverage_grid.size_ijk:
        message = f"{result / 'coverage.nrrd'} and volume.nrrd do not belong together: they differ in size."
        raise InputError(message, "Reconstruct the case again.")
    threshold = _bone_threshold_per_mm(result / "report.json")
    truth, inside, quantity = _truth_on_grid(ground_truth, grid)
    regions = {"": inside, "_covered": inside & (coverage > 0), "_seen_by_all": inside & _seen_by_all(result / "views.npz", grid)}
    metrics = json_ready(
        {
            "format": "SparseAnatomy metrics",
            "version": 1,
            "ground_truth": quantity,
            "peak_per_mm": truth.max(),
            "bone_threshold_per_mm": threshold,
            **_region_metrics(volume, truth, regions, threshold),
            **_surface_metrics(np.where(inside, volume, 0), truth, threshold, grid),
            "definitions": _DEFINITIONS,
        }
    )
    _write_json(result / "metrics.json", metrics)
    return metrics


def _region_metrics(volume: np.ndarray, truth: np.ndarray, regions: dict[str, np.ndarray], threshold: float) -> dict[str, float]:
    """Return the metrics of voxels, over each region; its name ends theirs. The truth is 0 outside the box."""
    peak = float(truth.max())
    large_enough = min(volume.shape) >= 11  # for the window of SSIM
    similarity = ssim_map(volume, truth, peak) if large_enough else np.full(volume.shape, np.nan)
    bone, true_bone = volume > threshold, truth > threshold
    metrics = {}
    for name, region in regions.items():
        metrics[f"compared{name}_percent"] = 100 * float(region.mean())
        metrics[f"psnr_3d{name}_db"] = psnr_db(volume, truth, peak, region)
        metrics[f"ssim_3d{name}"] = float(similarity[region].mean(dtype=np.float64)) if region.any() else float("nan")
        metrics[f"dice{name}"] = dice(region & bone, region & true_bone)
    return metrics


def _surface_metrics(volume: np.ndarray, truth: np.ndarray, threshold: float, grid: VoxelGrid) -> dict[str, float]:
    """Return the metrics of the bone's surface and volume; both volumes are 0 outside the box."""
    surfaces = isosurface_distances(volume, truth, threshold, grid.spacing_mm)
    return {
        "asd_mm": surfaces.average_mm,
        "hd95_mm": surfaces.hd95_mm,
        "nsd_1mm": surfaces.nsd(1.0),
        "nsd_2mm": surfaces.nsd(2.0),
        "volume_error_percent": volume_error_percent(volume > threshold, truth > threshold),
    }


def _truth_on_grid(path: Path, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the truth per mm on the grid (0 outside it), where it is known (bool), both [k, j, i], and what was given."""
    array, truth_grid = read_volume(path)
    if array.max() > _MOST_PER_MM or array.min() < _LEAST_PER_MM:
        check_hounsfield(path, float(array.min()), float(array.max()))
        quantity = "CT in Hounsfield units, converted to bone-enhanced attenuation"
        fine = VoxelGrid(
            tuple(2 * n for n in grid.size_ijk),
            grid.spacing_mm / 2,
            grid.origin_lps_mm - grid.direction @ (grid.spacing_mm / 4),
            grid.direction,
        )
        attenuation = attenuation_from_hounsfield(resampled(array, truth_grid, fine, CT_RANGE_HU[0]))
        nk, nj, ni = grid.shape_kji
        truth = attenuation.reshape(nk, 2, nj, 2, ni, 2).mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)
    else:
        quantity = "attenuation per mm"
        truth = resampled(array, truth_grid, grid, 0.0)
    inside = resampled(np.ones_like(array), truth_grid, grid, 0.0) > 0.5
    if not inside.any():
        raise InputError(f"{path} does not overlap the result.", "Give the ground truth of the same case, in the same patient coordinates.")
    truth[~inside] = 0
    if not truth.max() > 0:
        raise InputError(f"{path} shows nothing where the result lies.", "Give the ground truth of the same case.")
    return truth, inside, quantity


def _seen_by_all(path: Path, grid: VoxelGrid) -> np.ndarray:
    """Return where every view of `views.npz` sees a voxel's center inside its mask, bool [k, j, i]."""
    seen = np.ones(grid.shape_kji, bool)
    names = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px")
    try:
        with path.open("rb") as file, np.load(file) as views:
            for index, geometry in enumerate(zip(*(views[name] for name in names), strict=True)):
                _leave_what_is_seen(seen, XrayView(*geometry), views[f"mask_{index:03d}"], grid)
    except (OSError, EOFError, KeyError, IndexError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is missing or damaged.", "Reconstruct the case again.") from error
    return seen


def _leave_what_is_seen(seen: np.ndarray, view: XrayView, mask: np.ndarray, grid: VoxelGrid) -> None:
    """Clear `seen` [k, j, i] where a voxel's center does not lie before the pixels of a mask [row, column]; slice by slice."""
    matrix = view.projection_matrix @ grid.lps_from_ijk
    j, i = np.ogrid[: seen.shape[1], : seen.shape[2]]
    in_plane = matrix[:, :1, None] * i + matrix[:, 1:2, None] * j + matrix[:, 3:, None]
    for k, seen_slice in enumerate(seen):
        column, row, depth = in_plane + matrix[:, 2:3, None] * k
        with np.errstate(divide="ignore", invalid="ignore"):
            column, row = np.rint(column / depth), np.rint(row / depth)
        seen_slice &= (depth > 0) & (column >= 0) & (column < view.size_px[0]) & (row >= 0) & (row < view.size_px[1])
        seen_slice[seen_slice] = mask[row[seen_slice].astype(int), column[seen_slice].astype(int)]


def _bone_threshold_per_mm(path: Path) -> float:
    try:
        threshold = float(json.loads(path.read_text(encoding="utf-8"))["bone"]["threshold_per_mm"])
        if not 0 < threshold < math.inf:
            raise ValueError("a threshold that is no attenuation")
        return threshold
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is missing or damaged.", "Reconstruct the case again.") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ResourceError(f"{path} could not be written: {error.strerror}.", "Check the disk and the folder's permissions.") from error
    finally:
        partial.unlink(missing_ok=True)
