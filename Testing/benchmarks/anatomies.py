"""Further scenes, apart from the two that stand: other places of the CTs, other numbers of views, other orbits.

The thoracic spine and the shoulder were looked at when the polish after the splats was chosen, and these two, the sternum and the hip
when `auto` was told how early to decide. When it was told where it cannot decide, all but the whole chest were looked at. No other setting
was chosen on the upper lumbar spine, or on the CT with contrast agent.

They are made when the benchmark runs, by the simulation that users have, with seeds of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from IntraopReconLib.core.xrays.simulate import AIR_INTENSITY, add_noise, attenuation_volume, random_poses, read_ct, simulate_views
from SparseAnatomyLib.geometry import XrayView

from .scenes import Scene, data_folder

HELD_OUT = 10
RADIUS_MM = 92.0
SEED = 411


@dataclass(frozen=True)
class Anatomy:
    """What to make a scene of.

    Attributes:
        name: For the table.
        ct: File in the data's `ct` folder.
        center_lps_mm: Isocenter.
        views: To reconstruct from.
        orbit: `arbitrary` or `circular`.
        truncated: Whether the whole body is in the beam, as in the operating room, or only what every view sees.
    """

    name: str
    ct: str
    center_lps_mm: tuple[float, float, float]
    views: int = 25
    orbit: str = "arbitrary"
    truncated: bool = False


_SPINE = Anatomy("thoracic spine", "thorax_1mm.nrrd", (-11, 225, -560))
_LUMBAR = Anatomy("upper lumbar spine", "lumbar_pelvis_3mm.nrrd", (-2, -111, 335))
ANATOMIES = (
    _SPINE,
    Anatomy("shoulder", "thorax_1mm.nrrd", (-128, 185, -475)),
    Anatomy("sternum and ribs", "thorax_1mm.nrrd", (-11, 125, -590)),
    Anatomy("hip with a metal screw", "lumbar_pelvis_3mm.nrrd", (100, -130, 186)),
    Anatomy("upper chest with contrast agent", "thorax_contrast_1p5mm.nrrd", (24, -182, 692)),
    Anatomy("spine with contrast agent", "thorax_contrast_1p5mm.nrrd", (35, -115, 719)),
    _LUMBAR,
    replace(_LUMBAR, name="upper lumbar spine, 20 views", views=20),
    replace(_LUMBAR, name="upper lumbar spine, 50 views", views=50),
    replace(_LUMBAR, name="upper lumbar spine, circular orbit", orbit="circular"),
    replace(_LUMBAR, name="upper lumbar spine, 5 views", views=5),
    replace(_SPINE, name="thoracic spine, whole chest in the beam", truncated=True),
)


def build_scene(anatomy: Anatomy) -> Scene:
    """Simulate a scene: noisy views to reconstruct from, clean ones held out, and the truth on 128³ voxels of 1.5 mm."""
    config = SimulationConfig(views=anatomy.views, orbit=anatomy.orbit)
    center = np.array(anatomy.center_lps_mm, float)
    poses_rng, held_out_rng, noise_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(SEED).spawn(3))
    poses = random_poses(config, center, poses_rng)
    others = random_poses(replace(config, views=HELD_OUT, orbit="arbitrary"), center, held_out_rng)

    ct = read_ct(Path(data_folder()) / "ct" / anatomy.ct)
    fine, fine_grid = attenuation_volume(ct, center, RADIUS_MM)
    imaged, imaged_grid = attenuation_volume(ct, center, None) if anatomy.truncated else (fine, fine_grid)
    stored = add_noise(simulate_views(imaged, imaged_grid, poses), config.photons_per_pixel, noise_rng)
    noisy = -np.log(np.maximum(stored, 1) / AIR_INTENSITY)
    clean = simulate_views(fine, fine_grid, others)
    truth = fine.reshape(*(n for size in fine.shape for n in (size // 2, 2))).mean((1, 3, 5))
    return Scene(anatomy.name, _views(noisy, poses), _views(clean, others), truth, fine_grid.coarsened(2))


def _views(images: np.ndarray, poses: list[XrayView]) -> list[MeasuredView]:
    return [
        MeasuredView(f"view {index:02d}", image.astype(np.float32), np.ones(image.shape, bool), pose)
        for index, (image, pose) in enumerate(zip(images, poses, strict=True))
    ]
