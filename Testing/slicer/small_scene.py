"""An asymmetric result folder, so that a flip, a swap or a half voxel shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK
from scipy.spatial.transform import Rotation

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field, write_vtp

CENTER_LPS_MM = np.array([12.0, -30.0, 55.0])
BONE_PER_MM = 0.03
THRESHOLD_PER_MM = 0.015
BALLS = {  # offset from the center in LPS mm, radius: one towards each of left, posterior and superior
    "left": (np.array([22.0, 0.0, 0.0]), 9.0),
    "posterior": (np.array([0.0, 18.0, 0.0]), 6.0),
    "superior": (np.array([0.0, 0.0, 26.0]), 7.5),
}


def oblique_grid() -> VoxelGrid:
    """Return a turned grid with three spacings and three sizes, centered on CENTER_LPS_MM."""
    direction = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    size, spacing = np.array([60, 44, 40]), np.array([1.5, 2.0, 2.2])
    return VoxelGrid(tuple(size), spacing, CENTER_LPS_MM - direction @ ((size - 1) * spacing / 2), direction)


def balls_per_mm(grid: VoxelGrid) -> np.ndarray:
    """Return the balls with a soft edge, float32 [k, j, i]."""
    points = grid.points_lps_mm() - CENTER_LPS_MM
    volume = np.zeros(grid.shape_kji, np.float32)
    for offset, radius in BALLS.values():
        distance = np.linalg.norm(points - offset, axis=-1)
        volume = np.maximum(volume, BONE_PER_MM * np.clip(0.5 + (radius - distance) / 3, 0, 1))
    return volume.astype(np.float32)


def views() -> list[XrayView]:
    """Return an anterior view with unequal pitches, and a rolled oblique one that is mirrored."""
    front = XrayView(
        CENTER_LPS_MM + [0, -600, 0], CENTER_LPS_MM + [-90.0, 400, 70.0], np.array([3.0, 0, 0]), np.array([0, 0, -3.5]), (64, 40)
    )
    turn = Rotation.from_euler("zy", [-50, 12], degrees=True).as_matrix()
    column, row = turn @ [-3.2, 0, 0], turn @ [0, 0, -3.2]
    origin = CENTER_LPS_MM + turn @ [0, 400, 0] - 23.5 * column - 24.5 * row
    return [front, XrayView(CENTER_LPS_MM + turn @ [0, -600, 0], origin, column, row, (48, 50))]


def xray(view: XrayView) -> np.ndarray:
    """Return the line integrals through the balls, float32 [row, column]."""
    pixels = view.all_pixels_lps_mm()
    towards = (pixels - view.source_lps_mm) / np.linalg.norm(pixels - view.source_lps_mm, axis=-1, keepdims=True)
    total = np.zeros(pixels.shape[:2])
    for offset, radius in BALLS.values():
        between = CENTER_LPS_MM + offset - view.source_lps_mm
        closest = np.linalg.norm(between - (towards @ between)[..., None] * towards, axis=-1)
        total += BONE_PER_MM * 2 * np.sqrt(np.maximum(radius**2 - closest**2, 0))
    return total.astype(np.float32)


def write_result_folder(folder: Path, with_bone: bool = True) -> Path:
    """Write a result folder as the reconstruction does."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = oblique_grid()
    volume = balls_per_mm(grid) if with_bone else np.zeros(grid.shape_kji, np.float32)
    coverage = np.ones(grid.shape_kji, np.float32)
    coverage[:, :, :5] = 0
    for name, array in (("volume", volume), ("coverage", coverage)):
        write_nrrd(folder / f"{name}.nrrd", array, grid)
    write_vtp(mesh_from_field(volume, grid, THRESHOLD_PER_MM), folder / "bone.vtp")
    arrays = {"name": np.array(["xrays/front.dcm", "xrays/oblique.dcm"])}
    for attribute in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px"):
        arrays[attribute] = np.array([getattr(view, attribute) for view in views()])
    for index, view in enumerate(views()):
        arrays[f"attenuation_{index:03d}"] = xray(view).astype(np.float16)
        arrays[f"mask_{index:03d}"] = np.ones(view.size_px[::-1], bool)
        arrays[f"mask_{index:03d}"][:4, :9] = False
    np.savez_compressed(folder / "views.npz", **arrays)
    report = {"grade": "good", "warnings": [], "bone": {"threshold_per_mm": THRESHOLD_PER_MM}, "settings": {"region": None}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def write_nrrd(path: Path, array: np.ndarray, grid: VoxelGrid) -> None:
    """Write an array [k, j, i] as NRRD."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)
