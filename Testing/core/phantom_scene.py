"""An asymmetric phantom of a few ellipsoids, its exact X-rays, and what is true of it: small enough to reconstruct in a second."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.acquisition import Acquisition, prepare
from IntraopReconLib.core.config import ReconstructionConfig, Region, SimulationConfig
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

CENTER_LPS_MM = (12.0, -30.0, 85.0)
REGION = Region(CENTER_LPS_MM, (72.0, 66.0, 60.0))
SPACING_MM = 3.0
SUBSAMPLES = 3  # per pixel, voxel and axis


@dataclass(frozen=True)
class Ellipsoid:
    """A homogeneous ellipsoid: its center relative to the scene's, half axes in mm, their orientation and its attenuation per mm."""

    center_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    degrees: tuple[float, float, float]
    attenuation_per_mm: float

    def to_unit_ball(self, vectors: np.ndarray) -> np.ndarray:
        """Map vectors [..., 3] to where the ellipsoid is the unit ball."""
        return vectors @ Rotation.from_euler("zyx", self.degrees, degrees=True).as_matrix() / np.array(self.half_axes_mm)

    def chords_mm(self, view: XrayView, pixels: np.ndarray) -> np.ndarray:
        """Return how long the rays to pixels (column, row) [..., 2] run inside, [...]."""
        rays = view.pixel_lps_mm(pixels) - view.source_lps_mm
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        direction = self.to_unit_ball(rays)
        start = self.to_unit_ball(view.source_lps_mm - np.array(CENTER_LPS_MM) - np.array(self.center_mm))
        a, b, c = (direction**2).sum(-1), direction @ start, start @ start - 1
        return 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a


PHANTOM = (
    Ellipsoid((0, 0, 0), (26, 19, 22), (20, 0, 10), 0.004),
    Ellipsoid((-9, 6, 4), (9, 5, 7), (40, 10, 0), 0.03),
    Ellipsoid((12, -5, -8), (5, 7, 10), (0, 30, 60), 0.04),
    Ellipsoid((3, 9, -12), (4, 4, 4), (0, 0, 0), 0.05),
)
BEYOND = Ellipsoid((0, 20, 48), (22, 16, 12), (10, 0, 0), 0.02)  # outside the region, in the way of the rays


def poses(count: int = 14, orbit: str = "arbitrary", seed: int = 3, size_px: int = 52) -> list[XrayView]:
    """Return views around the phantom, with images that are not square, pixels that are not either, and an off-center principal point."""
    config = SimulationConfig(views=count, size_px=size_px, orbit=orbit, detector_mm=2.9 * size_px)
    full = random_poses(config, np.array(CENTER_LPS_MM), np.random.default_rng(seed))
    first, size = (3, 1), (size_px - 4, size_px - 8)
    stretched = [replace(view, row_step_lps_mm=1.15 * view.row_step_lps_mm) for view in full]
    return [view.cropped(first, size) for view in stretched]


def radiograph(view: XrayView, phantom=PHANTOM) -> np.ndarray:
    """Return the phantom's exact line integrals, float32 [row, column]: the mean over each pixel."""
    offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    columns, rows = np.meshgrid(np.arange(view.size_px[0], dtype=float), np.arange(view.size_px[1], dtype=float))
    image = np.zeros(columns.shape)
    for right in offsets:
        for down in offsets:
            pixels = np.stack([columns + right, rows + down], -1)
            image += sum(e.attenuation_per_mm * e.chords_mm(view, pixels) for e in phantom)
    return (image / SUBSAMPLES**2).astype(np.float32)


def measured(views: list[XrayView], phantom=PHANTOM) -> list[MeasuredView]:
    """Return the X-rays of the phantom without noise."""
    images = [radiograph(view, phantom) for view in views]
    return [
        MeasuredView(f"xrays/view_{n:03}.dcm", i, np.ones(i.shape, bool), v) for n, (i, v) in enumerate(zip(images, views, strict=True))
    ]


def truth(grid: VoxelGrid, phantom=PHANTOM) -> np.ndarray:
    """Return the phantom's attenuation per mm, the mean over each voxel, float32 [k, j, i]."""
    fine = grid.coarsened(1 / SUBSAMPLES)
    points = fine.points_lps_mm() - np.array(CENTER_LPS_MM)
    inside = [e.attenuation_per_mm * ((e.to_unit_ball(points - np.array(e.center_mm)) ** 2).sum(-1) < 1) for e in phantom]
    k, j, i = grid.shape_kji
    return sum(inside).reshape(k, SUBSAMPLES, j, SUBSAMPLES, i, SUBSAMPLES).mean((1, 3, 5)).astype(np.float32)


def psnr_3d_db(volume: np.ndarray, expected: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of a volume; peak = maximum of what is expected."""
    return float(20 * np.log10(expected.max() / np.sqrt(np.mean((volume - expected) ** 2))))


def config(**changes) -> ReconstructionConfig:
    """Return settings that take about a second."""
    return ReconstructionConfig(**{"quality": "preview", "spacing_mm": SPACING_MM, "region": REGION, **changes})


def acquisition(count: int = 14, **changes) -> Acquisition:
    """Return the phantom's X-rays in the frame of the region."""
    return prepare(measured(poses(count, **changes)), REGION, seed=0)


def a_rigid_motion() -> np.ndarray:
    """Return an oblique rotation with a shift, [4, 4]."""
    return affine(Rotation.from_euler("zyx", (35, -20, 50), degrees=True).as_matrix(), np.array([-40.0, 15.0, 60.0]))


def moved(views: list[MeasuredView], b_from_a: np.ndarray) -> list[MeasuredView]:
    """Return the same X-rays of a scene that was carried along."""
    return [replace(view, geometry=view.geometry.transformed(b_from_a)) for view in views]


def moved_region(region: Region, b_from_a: np.ndarray) -> Region:
    """Return the region that was carried along by a rigid motion."""
    linear = b_from_a[:3, :3]
    center = linear @ np.array(region.center_lps_mm) + b_from_a[:3, 3]
    direction = linear @ np.array(region.direction)
    return Region(tuple(center.tolist()), region.extent_mm, tuple(map(tuple, direction.tolist())))
