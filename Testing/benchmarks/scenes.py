"""Benchmark scenes: X-rays to reconstruct from, clean X-rays held out, and the truth, in one npz layout.

The two standing scenes lie in the folder of data that do not ship; `anatomies.py` makes further ones in the same layout.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from IntraopReconLib.core.config import Region
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

REPOSITORY = Path(__file__).resolve().parents[2]
STANDING = ("lumbar", "thorax")
COMPARED_RADIUS_MM = 88.0  # every view sees this sphere; outside it, SART blows up voxels that few rays touch


def data_folder() -> Path:
    """Return the folder of data that do not ship: SPARSEANATOMY_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("SPARSEANATOMY_DATA") or REPOSITORY.parent / "shared" / "data")


@dataclass(frozen=True, eq=False)
class Scene:
    """What a method gets, and what it is held against.

    Attributes:
        name: Short, for the table.
        views: To reconstruct from, with noise.
        held_out: Clean, of other poses.
        ground_truth_per_mm: [k, j, i] on `grid`.
        grid: Where the truth lies, and where methods reconstruct.
    """

    name: str
    views: list[MeasuredView]
    held_out: list[MeasuredView]
    ground_truth_per_mm: np.ndarray
    grid: VoxelGrid

    @property
    def region(self) -> Region:
        """The grid's box, as `reconstruct` takes it."""
        return Region(tuple(self.grid.center_lps_mm.tolist()), tuple(self.grid.extent_mm.tolist()))

    @property
    def peak_per_mm(self) -> float:
        """The truth's maximum: the peak of PSNR-3D."""
        return float(self.ground_truth_per_mm.max())

    @property
    def compared(self) -> np.ndarray:
        """Where volumes are compared: the sphere of COMPARED_RADIUS_MM around the box's center, bool [k, j, i]."""
        return np.linalg.norm(self.grid.points_lps_mm() - self.grid.center_lps_mm, axis=-1) < COMPARED_RADIUS_MM

    def coarsened(self, factor: int) -> Scene:
        """Return the scene with pixels and voxels `factor` times as wide: the same code, a fraction of the work."""
        grid = self.grid.coarsened(factor)
        blocks = [n // factor * factor for n in self.grid.shape_kji]
        truth = self.ground_truth_per_mm[: blocks[0], : blocks[1], : blocks[2]]
        truth = truth.reshape(blocks[0] // factor, factor, blocks[1] // factor, factor, blocks[2] // factor, factor).mean((1, 3, 5))
        return Scene(self.name, _binned(self.views, factor), _binned(self.held_out, factor), truth, grid)


def load_scene(path: Path) -> Scene:
    """Read a scene.

    Args:
        path: npz with `attenuation` [view, row, column], the four vectors of `XrayView` [view, 3], `n_train` (the first views are to
            reconstruct from, the others held out) and `ground_truth_per_mm` [k, j, i] with `ground_truth_spacing_mm` and
            `ground_truth_origin_lps_mm`.
    """
    with np.load(path) as arrays:
        attenuation = arrays["attenuation"].astype(np.float32)
        vectors = [arrays[name] for name in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")]
        size_px = attenuation.shape[:0:-1]
        views = [
            MeasuredView(f"view {index:02d}", image, np.ones(image.shape, bool), XrayView(*(v[index] for v in vectors), size_px))
            for index, image in enumerate(attenuation)
        ]
        truth = arrays["ground_truth_per_mm"].astype(np.float32)
        spacing = np.broadcast_to(arrays["ground_truth_spacing_mm"], (3,))
        grid = VoxelGrid(truth.shape[::-1], spacing, arrays["ground_truth_origin_lps_mm"])
        train = int(arrays["n_train"])
    return Scene(path.stem, views[:train], views[train:], truth, grid)


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene as `load_scene` reads it."""
    views = scene.views + scene.held_out
    names = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")
    np.savez(
        path,
        attenuation=np.stack([view.attenuation for view in views]),
        n_train=len(scene.views),
        ground_truth_per_mm=scene.ground_truth_per_mm,
        ground_truth_spacing_mm=scene.grid.spacing_mm,
        ground_truth_origin_lps_mm=scene.grid.origin_lps_mm,
        **{name: np.stack([getattr(view.geometry, name) for view in views]) for name in names},
    )


def _binned(views: list[MeasuredView], factor: int) -> list[MeasuredView]:
    result = []
    for view in views:
        geometry = view.geometry.binned(factor)
        columns, rows = geometry.size_px
        image = view.attenuation[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean((1, 3))
        result.append(MeasuredView(view.name, image, np.ones(image.shape, bool), geometry))
    return result
