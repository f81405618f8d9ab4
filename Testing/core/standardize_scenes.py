"""X-rays of a few bones in a trunk, quick to make and with a known truth, for the tests of the standardization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage
from xray_datasets import write, xray_dataset

from IntraopReconLib.core.calibration.poses import PosedImage, write_poses
from IntraopReconLib.core.xrays.radiograph import MeasuredView, Radiograph, attenuation
from IntraopReconLib.core.xrays.stored import Origin, stored_facts
from SparseAnatomyLib.geometry import XrayView

SIZE, PITCH_MM = 160, 1.6
AIR = 60_000
EXPOSED = {"KVP": "70", "XRayTubeCurrent": 10, "ExposureTime": 20}


def view_geometry(number: int = 0, size: int = SIZE, pitch_mm: float = PITCH_MM) -> XrayView:
    """Return the views of a circular orbit."""
    angle = np.deg2rad(35 * number)
    forward = np.array([np.sin(angle), np.cos(angle), 0])
    column, row = np.array([np.cos(angle), -np.sin(angle), 0]) * pitch_mm, np.array([0, 0, -pitch_mm])
    return XrayView(-600 * forward, 420 * forward - (size - 1) / 2 * (column + row), column, row, (size, size))


def bones(size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Return the attenuation of a column of blocks and of ribs, [row, column]."""
    row, column = np.mgrid[:size, :size] / size
    rng = np.random.default_rng(seed)
    width = np.clip(1 - ((column - 0.5) / 0.08) ** 2, 0, 1)  # a round cross-section, as bones have
    spine = 1.2 * width * (np.sin(34 * row + rng.uniform(0, 6)) > -0.6)
    ribs = 0.6 * (np.abs(np.sin(22 * (row - 0.4 * (column - 0.5) ** 2))) < 0.2) * (np.abs(column - 0.5) > 0.1)
    return ndimage.gaussian_filter(spine + ribs, 1.6)


def soft_tissue(size: int = SIZE) -> np.ndarray:
    """Return the attenuation of a trunk with an open field beside it, [row, column]."""
    row, column = np.mgrid[:size, :size] / size
    chord = np.sqrt(np.clip(1 - ((column - 0.45) / 0.5) ** 2, 0, 1))
    return (3.4 * chord * (1 - 0.25 * (row - 0.3) ** 2)).astype(np.float32)


def counted(line_integrals: np.ndarray, photons: float = 30_000, seed: int = 0) -> np.ndarray:
    """Return intensities relative to air as a detector counts them: Poisson noise, blurred as light spreads."""
    photon_count = np.random.default_rng(seed).poisson(photons * np.exp(-line_integrals))
    return ndimage.gaussian_filter(photon_count / photons, 0.5)


def stored_values(line_integrals: np.ndarray, photons: float = 30_000, seed: int = 0, scatter: float = 0.0) -> np.ndarray:
    """Return 16-bit values, AIR where nothing attenuates."""
    return np.clip(np.rint(AIR * (counted(line_integrals, photons, seed) + scatter)), 0, 2**16 - 1).astype(np.uint16)


def xray(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return stored values of an X-ray, and the attenuation of its bone."""
    bone = bones(seed=seed)
    return stored_values(bone + soft_tissue(), seed=seed), bone.astype(np.float32)


def measured(
    folder: Path, stored: np.ndarray, bits: int = 16, air: float | None = AIR, origin: Origin | None = None, **tags
) -> MeasuredView:
    """Return the view of stored values, as a case gives it; a file stands between."""
    radiograph = read_back(folder, stored, bits, **tags)
    image = attenuation(radiograph, air)
    rows, columns = stored.shape
    assert rows == columns
    geometry = view_geometry(size=rows, pitch_mm=SIZE * PITCH_MM / rows)
    return MeasuredView("xrays/view.dcm", image.attenuation, image.mask, geometry, None, stored_facts(radiograph, image, origin))


def read_back(folder: Path, stored: np.ndarray, bits: int = 16, **tags) -> Radiograph:
    """Write stored values and read them."""
    from IntraopReconLib.core.xrays.dicom import read_radiographs

    dataset = xray_dataset(stored[None].astype(np.uint16), bits, **{"BitsAllocated": 8 if bits == 8 else 16, **tags})
    return read_radiographs(write(folder / "view.dcm", dataset))[0]


def write_xray_case(folder: Path, images: list[np.ndarray], air: float | None = AIR, **tags) -> Path:
    """Write a case of stored values, one DICOM file and one pose an image, and return its folder."""
    (folder / "xrays").mkdir(parents=True)
    posed = []
    for number, stored in enumerate(images):
        name = f"xrays/view_{number:03d}.dcm"
        write(folder / name, xray_dataset(stored[None], 16, **tags))
        posed.append(PosedImage(name, view_geometry(number), 0, air, 0.3, "green"))
    write_poses(folder / "poses.json", posed)
    return folder
