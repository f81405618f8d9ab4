"""A small shape outlined on a few slices, and a stand-in for the computation, for the tests of what surrounds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

from ShapeCompletionLib.core.completion import Completion, NextSlice
from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.sampling import Context
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field
from SparseAnatomyLib.volumes import sitk_image

TURNED = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
PLANES = (8, 16, 24, 32)
GRID = VoxelGrid((44, 46, 40), [1.0, 1.0, 1.0], [10.0, -200.0, 333.0], TURNED)


def blob(grid: VoxelGrid = GRID) -> np.ndarray:
    """Return an asymmetric solid shape that keeps clear of the edges, bool [k, j, i]."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape_kji), indexing="ij")
    return (k / 0.85) ** 2 + (j / 0.6) ** 2 + ((i - 0.15 * k) / 0.5) ** 2 < 1


def outlined(planes: tuple[int, ...] = PLANES) -> np.ndarray:
    """Return the blob on planes along k only, bool."""
    labels = np.zeros(GRID.shape_kji, bool)
    labels[list(planes)] = blob()[list(planes)]
    return labels


def write_labels(path: Path, labels: np.ndarray, grid: VoxelGrid = GRID, value: int = 1) -> Path:
    """Write a label volume in the format that the name says."""
    SimpleITK.WriteImage(sitk_image(labels.astype(np.uint8) * value, grid, np.uint8), str(path), useCompression=True)
    return path


def small_completion(context: Context, prior: str | None = None, **changes) -> Completion:
    """Return a ball in the middle of the context's grid."""
    grid = context.grid
    distance = np.linalg.norm(grid.points_lps_mm() - grid.center_lps_mm, axis=-1)
    probability = np.clip(0.5 + (10 - distance) / 4, 0, 1).astype(np.float32)
    mesh = mesh_from_field(probability, grid, 0.5)
    values = {
        "confidence": np.linspace(0, 1, len(mesh.points_lps_mm), dtype=np.float32),
        "method": "interpolate" if prior is None else "inr",
        "reason": "The slices are interpolated.",
        "prior": prior,
        "agreement": 0.9,
        "evidence": None if prior is None else 0.4,
        "next_slice": NextSlice(grid.center_lps_mm, np.array([0.0, 0.0, 1.0]), 30.0, 120.0),
        "warnings": ("Few slices.",),
        "seconds": {"complete": 0.1},
    }
    return Completion(grid, probability, mesh, **(values | changes))


def fake_complete(context: Context, prior, config: CompletionConfig, report=None) -> Completion:
    """Stand in for `complete`: report once, and return a ball."""
    if report is not None:
        report(0.5, "completing")
    return small_completion(context, None if prior is None else prior.card.name)
