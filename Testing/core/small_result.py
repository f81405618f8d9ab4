"""A small reconstruction that looks like a real one, for the tests of what is written about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from IntraopReconLib.core.case import Case
from IntraopReconLib.core.reconstruction import CurvePoint, Reconstruction, ViewFit
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

SPACING_MM = 2.0
CENTER_LPS_MM = np.array([5.0, -20.0, 130.0])
BONE_RADIUS_MM = 14.0
BONE_PER_MM = 0.03
SIZE_IJK = (24, 26, 28)


def oblique_grid() -> VoxelGrid:
    """Return a grid whose axes are turned and whose sizes differ."""
    turn, tilt = np.radians([20.0, -12.0])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    return VoxelGrid.box(CENTER_LPS_MM, np.array(SIZE_IJK) * SPACING_MM, SPACING_MM, about_z @ about_x)


def ball_per_mm(grid: VoxelGrid, center_lps_mm: np.ndarray = CENTER_LPS_MM) -> np.ndarray:
    """Return a ball of bone with a soft edge of one voxel, float32 [k, j, i]."""
    distance = np.linalg.norm(grid.points_lps_mm() - center_lps_mm, axis=-1)
    return (BONE_PER_MM * np.clip(0.5 + (BONE_RADIUS_MM - distance) / SPACING_MM, 0, 1)).astype(np.float32)


def small_case(views: int = 3) -> Case:
    """Return X-rays from around the patient, each of its own size, with a masked corner."""
    measured = []
    for index in range(views):
        angle = np.pi * index / views
        towards = np.array([np.sin(angle), np.cos(angle), 0.0])
        right, down = np.cross([0, 0, -1.0], towards), np.array([0, 0, -1.0])
        columns, rows = 40 + 2 * index, 44
        source = CENTER_LPS_MM - 600 * towards
        first = source + 1000 * towards - 2 * ((columns - 1) / 2 * right + (rows - 1) / 2 * down)
        view = XrayView(source, first, 2 * right, 2 * down, (columns, rows))
        mask = np.ones((rows, columns), bool)
        mask[:6, :6] = False
        middle = (view.all_pixels_lps_mm() - view.pixel_lps_mm([(columns - 1) / 2, (rows - 1) / 2])) / 25
        image = np.exp(-(middle**2).sum(-1)).astype(np.float32)
        measured.append(MeasuredView(f"xrays/view_{index:03d}.dcm", image, mask, view))
    hashes = {view.name: f"{index:064x}" for index, view in enumerate(measured)}
    return Case(Path("case"), measured, ["xrays/view_001.dcm: the air intensity was estimated."], hashes)


def small_reconstruction(case: Case, **changes) -> Reconstruction:
    """Return a result for the case; its last view was withheld, and its corner (0, 0, 0) is unknown."""
    grid = oblique_grid()
    coverage = np.ones(grid.shape_kji, np.float32)
    coverage[:8, :8, :8] = 0
    last = len(case.views) - 1
    values = {
        "grid": grid,
        "attenuation_per_mm": ball_per_mm(grid),
        "coverage": coverage,
        "method": "voxel",
        "reprojections": [0.95 * view.attenuation for view in case.views],
        "fits": [ViewFit(view.name, index == last, 38.0 - index, 0.97) for index, view in enumerate(case.views)],
        "candidates": {"voxel": 0.02, "splat": 0.03},
        "curve": [CurvePoint(0.5, "coarse", 0.2), CurvePoint(1.0, "coarse", 0.1), CurvePoint(2.0, "fine", 0.03)],
        "seconds": {"coarse": 1.0, "fine": 1.0},
        "grade": "good",
        "warnings": [],
    }
    return Reconstruction(**(values | changes))
