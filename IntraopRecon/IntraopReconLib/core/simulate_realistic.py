"""Realistic X-rays of a CT into a case folder: what a C-arm would store, and beside it the bone alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .calibration.poses import PosedImage, write_poses
from .case import POSES_FILE
from .config import SimulationConfig
from .reconstruction import Report, silent
from .simulation_config import RealisticRanges
from .xrays.dicom_writer import XraySeries, write_stored
from .xrays.scene import bone_truth, draw_scene, take_xray
from .xrays.simulate_beads import SteelBalls

IDEAL_FOLDER = "ideal"
SCENE_SEED, VIEW_SEED = 3, 4  # after those of poses, noise and beads
IDEAL_STEP = 2.0**-14  # to which ideal attenuation is rounded, so that it compresses well


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is simulated.

    Attributes:
        ct: Hounsfield units.
        center_lps_mm: Isocenter, [3].
        truth_grid: Voxels of what a reconstruction should find.
        balls: Beads, or None.
    """

    ct: SimpleITK.Image
    center_lps_mm: np.ndarray
    truth_grid: VoxelGrid
    balls: SteelBalls | None


def write_realistic_xrays(
    folder: Path,
    anatomy: Anatomy,
    views: Sequence[XrayView],
    config: SimulationConfig,
    report: Report = silent,
    ranges: RealisticRanges | None = None,
) -> np.ndarray:
    """Write `xrays/view_000.dcm`, …, `ideal/view_000.nrrd`, … and `poses.json`.

    One system takes all X-rays of a case; from one to the next only its collimator and the noise change. `poses.json` tells the air's
    intensity where the system stores it.

    Args:
        folder: The case; `xrays` is there.
        anatomy: What is simulated.
        views: Sources and detectors.
        config: Seed, and whether instruments lie in the beam.
        report: Told about the progress.
        ranges: What scene and system are drawn from; the usual by default.

    Returns:
        Attenuation per mm of bone and metal on `anatomy.truth_grid`, float32 [k, j, i].

    Raises:
        ResourceError: The CT is too large.
        OSError: A file cannot be written.
    """
    report(0.0, "Preparing the patient")
    ranges = RealisticRanges() if ranges is None else ranges
    rng = np.random.default_rng([config.seed, SCENE_SEED])
    scene = draw_scene(anatomy.ct, anatomy.center_lps_mm, anatomy.balls, config.instruments, ranges, rng)
    key = hashlib.sha256(repr((config, scene.look, scene.exposure)).encode())
    key.update(np.stack([view.source_lps_mm for view in views]).tobytes() + scene.patient.per_mm[1].tobytes())
    series = XraySeries(key.hexdigest(), f"{len(views)} realistic X-rays simulated from CT", anatomy.center_lps_mm)
    (folder / IDEAL_FOLDER).mkdir()
    posed = []
    for number, view in enumerate(views):
        report(0.2 + 0.7 * number / len(views), f"Simulating X-ray {number + 1} of {len(views)}")
        stored, ideal = take_xray(scene, view, f"IMG {number + 1}", np.random.default_rng([config.seed, VIEW_SEED, number]))
        name = f"view_{number:03d}"
        write_stored(folder / "xrays" / f"{name}.dcm", stored, view, series, number + 1)
        write_ideal(folder / IDEAL_FOLDER / f"{name}.nrrd", ideal, view)
        posed.append(PosedImage(image=f"xrays/{name}.dcm", view=view, air_intensity=stored.air_value))
    write_poses(folder / POSES_FILE, posed)
    report(0.92, "Writing what a reconstruction should find")
    return bone_truth(anatomy.ct, anatomy.truth_grid, scene)


def write_ideal(path: Path, attenuation: np.ndarray, view: XrayView) -> None:
    """Write what bone and metal alone attenuate, [row, column], with the pixel pitch at the detector.

    Raises:
        OSError: The file cannot be written.
    """
    image = SimpleITK.GetImageFromArray((np.rint(attenuation / IDEAL_STEP) * IDEAL_STEP).astype(np.float32))
    image.SetSpacing(view.pixel_pitch_mm.tolist())
    image.SetMetaData("quantity", "attenuation of bone and metal")
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error
