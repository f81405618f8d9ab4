"""A case that is reconstructed in a second or two: a ball of bone seen by twelve small X-rays."""

from __future__ import annotations

from pathlib import Path

import SimpleITK

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case

VIEWS = 12


def make_small_case(folder: Path) -> Path:
    """Simulate the case in a folder and return the case folder `ball` in it."""
    ball = SimpleITK.GaussianSource(SimpleITK.sitkFloat32, [40] * 3, [9, 6, 12], [0] * 3, 2000.0, [-39.0] * 3, [2.0] * 3)
    SimpleITK.WriteImage(SimpleITK.Cast(ball - 1000.0, SimpleITK.sitkInt16), str(folder / "ct.nrrd"))
    config = SimulationConfig(views=VIEWS, size_px=64, center_lps_mm=(0.0, 0.0, 0.0), radius_mm=None)
    simulate_case(folder / "ct.nrrd", folder / "ball", config)
    return folder / "ball"
