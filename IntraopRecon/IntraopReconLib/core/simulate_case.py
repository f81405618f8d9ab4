"""A CT becomes a case folder: X-rays, poses and the volume that a reconstruction of them should find."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import SimpleITK

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.staging import new_folder

from .calibration.fiducials import KIND_OF_SIZE, Fiducials, write_fiducials
from .calibration.poses import PosedImage, write_poses
from .case import POSES_FILE
from .config import Jig, SimulationConfig
from .reconstruction import Report, silent
from .simulate_realistic import Anatomy, write_realistic_xrays
from .xrays.dicom_writer import XraySeries, write_xray
from .xrays.simulate import (
    AIR_INTENSITY,
    EDGE_MM,
    add_noise,
    attenuation_volume,
    bone_centroid_lps_mm,
    random_poses,
    read_ct,
    simulate_views,
)
from .xrays.simulate_beads import SteelBalls, place_beads, shadows

TRUE_POSES_FILE, FIDUCIALS_FILE = "ground_truth_poses.json", "fiducials.mrk.json"


def simulate_case(ct_path: Path, out: Path, config: SimulationConfig, report: Report = silent) -> None:
    """Simulate X-rays of a CT and write them as a case folder: `xrays/`, `poses.json`, `ground_truth.nrrd`.

    With beads also `fiducials.mrk.json`, and the true poses once more as `ground_truth_poses.json`, so that a calibration may replace
    `poses.json`. The beads are in the X-rays only, not in the ground truth. Realistic X-rays come with what standardization should make of
    them: `ideal/view_000.nrrd`, …, the attenuation of bone and metal alone.

    The folder appears when it is complete, and not at all if anything fails.

    Args:
        ct_path: CT in Hounsfield units: NRRD, NIfTI, MetaImage or whatever else SimpleITK reads.
        out: The case folder; new or empty.
        config: What is simulated.
        report: Told about the progress.

    Raises:
        InputError: The CT, the settings or the folder will not do.
        ResourceError: The disk is full or the volume too large for the memory.
        Cancelled: From `report`.
    """
    _check_settings(config)
    with new_folder(out) as folder:
        report(0.0, "Reading the CT")
        ct = read_ct(ct_path)
        center = np.array(config.center_lps_mm if config.center_lps_mm is not None else bone_centroid_lps_mm(ct), float)
        report(0.05, "Preparing the anatomy")
        volume, grid = attenuation_volume(ct, center, config.radius_mm)
        seeds = np.random.SeedSequence(config.seed).spawn(3)
        poses_rng, noise_rng, beads_rng = (np.random.default_rng(seed) for seed in seeds)
        views = random_poses(config, center, poses_rng)
        balls = place_beads(config, ct, center, (volume, grid), beads_rng) if config.beads else None
        (folder / "xrays").mkdir()
        if config.realistic:
            anatomy = Anatomy(ct, center, grid, balls)
            volume = write_realistic_xrays(folder, anatomy, views, config, lambda done, text: report(0.15 + 0.85 * done, text))
        else:
            attenuation = simulate_views(volume, grid, views, lambda done, message: report(0.15 + 0.8 * done, message))
            if balls is not None:
                for image, view in zip(attenuation, views, strict=True):
                    image += shadows(balls, view)
            report(0.95, "Writing the X-rays")
            _write_xrays(folder, add_noise(attenuation, config.photons_per_pixel, noise_rng), views, center)
        _write_ground_truth(folder / "ground_truth.nrrd", volume, grid)
        if balls is not None:
            _write_fiducials(folder / FIDUCIALS_FILE, balls)
            shutil.copyfile(folder / POSES_FILE, folder / TRUE_POSES_FILE)
    report(1.0, "Done")


def _write_ground_truth(path: Path, volume: np.ndarray, grid: VoxelGrid) -> None:
    """Write the mean over 2 × 2 × 2 of the projected voxels, float32 per mm, rounded to 2⁻²⁰ per mm so that it compresses well."""
    nk, nj, ni = (n // 2 for n in volume.shape)
    truth = volume.reshape(nk, 2, nj, 2, ni, 2).mean(axis=(1, 3, 5), dtype=np.float64)
    image = SimpleITK.GetImageFromArray((np.rint(truth * 2**20) / 2**20).astype(np.float32))
    image.SetSpacing((2 * grid.spacing_mm).tolist())
    image.SetOrigin((grid.origin_lps_mm + grid.spacing_mm / 2).tolist())
    image.SetMetaData("quantity", "attenuation per mm")
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error


def _write_xrays(folder: Path, intensity: np.ndarray, views: Sequence[XrayView], center: np.ndarray) -> None:
    """Write `xrays/view_000.dcm`, … and `poses.json`."""
    sources = np.stack([view.source_lps_mm for view in views])
    key = hashlib.sha256(intensity.tobytes() + sources.tobytes()).hexdigest()
    series = XraySeries(key, f"{len(views)} X-rays simulated from CT", center)
    posed = []
    for number, (image, view) in enumerate(zip(intensity, views, strict=True)):
        name = f"xrays/view_{number:03d}.dcm"
        write_xray(folder / name, image, view, series, number + 1)
        posed.append(PosedImage(image=name, view=view, air_intensity=AIR_INTENSITY))
    write_poses(folder / POSES_FILE, posed)


def _write_fiducials(path: Path, balls: SteelBalls) -> None:
    """Write where the beads are, and their sizes."""
    sizes = ["large" if large else "small" for large in balls.is_large]
    labels = tuple(f"{size}-{sizes[: number + 1].count(size)}" for number, size in enumerate(sizes))
    write_fiducials(path, Fiducials(balls.center_lps_mm, np.array([KIND_OF_SIZE[size] for size in sizes]), labels))


def _check_settings(config: SimulationConfig) -> None:
    """Raise InputError for settings that make no picture."""
    rules = [
        ("views", 1 <= config.views <= 1000, "between 1 and 1000"),
        ("seed", config.seed >= 0, "0 or more"),
        ("size", 32 <= config.size_px <= 4096, "between 32 and 4096 pixels"),
        ("radius", config.radius_mm is None or EDGE_MM < config.radius_mm < 1000, f"above {EDGE_MM:g} and below 1000 mm"),
        ("instruments", config.realistic or not config.instruments, "left out unless the X-rays are realistic"),
        ("photons", config.photons_per_pixel is None or 1 <= config.photons_per_pixel <= 1e9, "between 1 and 1e9"),
        ("jig", config.jig in get_args(Jig), " or ".join(get_args(Jig))),
        ("center", config.center_lps_mm is None or np.isfinite(config.center_lps_mm).all(), "three numbers"),
    ]
    for name, holds, expected in rules:
        if not holds:
            raise InputError(f"The setting {name} must be {expected}.", f"Correct {name}.")
