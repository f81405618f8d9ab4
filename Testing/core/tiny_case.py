"""A case small enough for tests of everything around the reconstruction: a ball of bone, four X-rays of 32 × 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

from IntraopReconLib.core.config import ReconstructionConfig, SimulationConfig
from IntraopReconLib.core.reconstruction import CurvePoint, Reconstruction, ViewFit
from IntraopReconLib.core.simulate_case import simulate_case
from SparseAnatomyLib.grid import VoxelGrid


def write_ball_ct(path: Path) -> None:
    """Write a CT of a hollow ball of bone, 60 mm wide, in air."""
    z, y, x = np.mgrid[-40:40:2, -40:40:2, -40:40:2]
    radius = np.sqrt(x**2 + y**2 + z**2)
    hu = np.where(radius < 30, 700.0, -1000.0)
    hu[radius < 15] = 40.0
    image = SimpleITK.GetImageFromArray(hu.astype(np.int16))
    image.SetSpacing((2, 2, 2))
    image.SetOrigin((-40, -40, -40))
    SimpleITK.WriteImage(image, str(path))


def make_tiny_case(folder: Path, views: int = 4) -> Path:
    """Simulate the case into `folder / "case"` and return that."""
    write_ball_ct(folder / "ct.nrrd")
    config = SimulationConfig(views=views, size_px=32, center_lps_mm=(0.0, 0.0, 0.0), radius_mm=None)
    simulate_case(folder / "ct.nrrd", folder / "case", config)
    return folder / "case"


def fake_reconstruction(views, config: ReconstructionConfig) -> Reconstruction:
    """Return a ball of bone as the result of any views."""
    grid = VoxelGrid.box([0, 0, 0], 48, 4.0)
    radius = np.linalg.norm(grid.points_lps_mm(), axis=-1)
    volume = np.clip(0.05 - 0.002 * radius, 0, None).astype(np.float32)
    return Reconstruction(
        grid=grid,
        attenuation_per_mm=volume,
        coverage=np.ones_like(volume),
        method="voxel",
        reprojections=[view.attenuation for view in views],
        fits=[ViewFit(view.name, n == 0, 30.0, 0.9) for n, view in enumerate(views)],
        candidates={"voxel": 0.01},
        curve=[CurvePoint(0.1, "voxel", 0.02)],
        seconds={"voxel": 0.1},
        grade="poor",
        warnings=["Only four X-rays: the shape is rough."],
        config=config,
    )
