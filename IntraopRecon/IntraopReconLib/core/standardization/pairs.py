"""Training pairs: a realistic X-ray and its bone alone, and both once more with anomalies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.reconstruction import Report, silent
from IntraopReconLib.core.training_config import PairRanges, StandardizerTraining
from IntraopReconLib.core.xrays.exposure import draw_exposure, expose
from IntraopReconLib.core.xrays.materials import MaterialVolumes, ideal_bone, material_integrals
from IntraopReconLib.core.xrays.patient import patient_volumes
from IntraopReconLib.core.xrays.simulate import WATER_PER_MM, random_poses, read_ct
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.geometry import XrayView

from .anomalies import draw_anomalies, draw_organs

VIEW_PX = 400
SPACING_MM = 1.5
LEAST_SIGNAL = 1e-4  # of air, a logarithm of -9: no detector tells less
CONTRAST_FROM_HU, CONTRAST_CORE_MM, CONTRAST_LEAST_CM3 = 130.0, 6.0, 25.0
CONTRAST_BORDER_MM = 9.0


@dataclass(frozen=True, eq=False)
class TrainingView:
    """What the rays of one view meet.

    Attributes:
        integrals: Of soft tissue, bone and metal at 60 keV, float16 [material, row, column].
        pixel_mm: Pitch at the detector.
        measured: A real X-ray whose bone is known: what is not bone, its noise included, stands for soft tissue.
    """

    integrals: np.ndarray
    pixel_mm: float
    measured: bool = False


@dataclass(frozen=True, eq=False)
class Pair:
    """Two X-rays that differ by anomalies only, and the bone of each.

    Attributes:
        attenuation: Without and with anomalies, float32 [2, row, column]; 0 outside the mask.
        bone: The ideal bone-only DRRs, float32 [2, row, column].
        mask: The imaged field, bool [row, column].
    """

    attenuation: np.ndarray
    bone: np.ndarray
    mask: np.ndarray


def training_views(ct_path: Path, count: int, seed: int, report: Report = silent) -> list[TrainingView]:
    """Project a CT from random sides, at places along its bones.

    Args:
        ct_path: Hounsfield units.
        count: Number of views.
        seed: Same seed, same views.
        report: Told about the progress.

    Raises:
        InputError: The file is not a CT.
    """
    rng = np.random.default_rng(seed)
    volumes = without_contrast_agent(patient_volumes(read_ct(ct_path), SPACING_MM)[0])
    bone = np.argwhere(volumes.per_mm[1] > 0.03)
    views = []
    for number in range(count):
        report(number / count, f"Projecting {ct_path.name}, view {number + 1} of {count}")
        k, j, i = bone[rng.integers(len(bone))]
        center = transform_points(volumes.grid.lps_from_ijk, np.array([i, j, k], float))
        center = center + (volumes.grid.center_lps_mm - center) * rng.uniform(0, 0.7)
        config = SimulationConfig(views=1, size_px=VIEW_PX, detector_mm=rng.uniform(250, 400), radius_mm=None)
        config = replace(config, arc_deg=0.0, tilt_deg=40.0, roll_deg=180.0, source_to_isocenter_mm=(550.0, 750.0))
        view = _turned(config, center, rng)
        views.append(TrainingView(material_integrals(volumes, view).astype(np.float16), config.detector_mm / VIEW_PX))
    return views


def _turned(config: SimulationConfig, center_lps_mm: np.ndarray, rng: np.random.Generator) -> XrayView:
    """Return one view from any side around the patient."""
    turned = random_poses(config, center_lps_mm, rng)[0]
    angle = rng.uniform(0, 2 * np.pi)
    lps_from_lps = np.eye(4)
    lps_from_lps[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    lps_from_lps[:3, 3] = center_lps_mm - lps_from_lps[:3, :3] @ center_lps_mm
    return turned.transformed(lps_from_lps)


def without_contrast_agent(volumes: MaterialVolumes) -> MaterialVolumes:
    """Count vessels and organs full of contrast agent, which a CT shows as bright as bone, as soft tissue.

    Bone is nowhere as massive: what is brighter than 130 HU and deeper than 6 mm under its surface, in a piece of more than 25 cm³, with a
    border of 9 mm, is no bone. Small vessels remain.
    """
    spacing = float(volumes.grid.spacing_mm[0])
    smooth = ndimage.gaussian_filter(volumes.per_mm.sum(0), 1.0 / spacing)
    bright = smooth > WATER_PER_MM * (1 + CONTRAST_FROM_HU / 1000)
    depth_mm = spacing * ndimage.distance_transform_edt(bright)
    labels, count = ndimage.label(depth_mm > CONTRAST_CORE_MM)
    if not count:
        return volumes
    cm3 = ndimage.sum_labels(np.ones_like(smooth), labels, range(1, count + 1)) * spacing**3 / 1000
    large = np.isin(labels, 1 + np.flatnonzero(cm3 > CONTRAST_LEAST_CM3))
    agent = bright & (ndimage.distance_transform_edt(~large) * spacing < CONTRAST_BORDER_MM)
    per_mm = volumes.per_mm.copy()
    per_mm[0] = np.where(agent, per_mm.sum(0), per_mm[0])
    per_mm[1:] = np.where(agent, 0, per_mm[1:])
    return MaterialVolumes(per_mm, volumes.grid)


def draw_pair(view: TrainingView, training: StandardizerTraining, rng: np.random.Generator) -> Pair:
    """Draw one pair from a view: a part of it, another patient's build, anomalies, an exposure, and what a detector does to it."""
    ranges = training.pairs
    integrals, pixel_mm = _crop(view, training, rng)
    if not view.measured:
        bare = rng.random() < ranges.no_soft_share
        integrals = draw_organs(integrals, pixel_mm, int(rng.integers(ranges.organs[0], ranges.organs[1] + 1)), rng)
        integrals[0] *= 1 + ranges.fat * rng.uniform() * _smooth_field(integrals.shape[1:], rng).clip(-1, 1)
        integrals[0] *= rng.uniform(0, 0.15) if bare else rng.uniform(*ranges.soft)
        integrals[1] *= rng.uniform(*ranges.bone)
    changed = draw_anomalies(integrals, pixel_mm, int(rng.integers(ranges.anomalies[0], ranges.anomalies[1] + 1)), rng)
    exposure, noise = draw_exposure(training.exposures, rng), int(rng.integers(2**31))
    if view.measured:
        attenuation = np.stack([integrals.sum(0), changed.sum(0)])
    else:
        images = [expose(each, pixel_mm, exposure, np.random.default_rng(noise)) for each in (integrals, changed)]
        attenuation = -np.log(np.maximum(np.stack(images), LEAST_SIGNAL))
    attenuation = attenuation * rng.uniform(*ranges.gain) + rng.uniform(*ranges.offset)
    attenuation += ranges.vignetting * rng.uniform() * _smooth_field(attenuation.shape[1:], rng)
    mask = _field(attenuation.shape[1:], ranges, rng)
    bone = np.stack([ideal_bone(integrals), ideal_bone(changed)])
    return Pair((attenuation * mask).astype(np.float32), bone.astype(np.float32), mask)


def _crop(view: TrainingView, training: StandardizerTraining, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Cut a square out of a view and resize it; return it and its pitch."""
    rows, columns = view.integrals.shape[1:]
    edge = min(round(rng.uniform(*training.pairs.field_mm) / view.pixel_mm), rows, columns)
    row, column = int(rng.integers(rows - edge + 1)), int(rng.integers(columns - edge + 1))
    part = view.integrals[:, row : row + edge, column : column + edge].astype(np.float32)
    size = (training.input_px, training.input_px)
    return _resized(np.ascontiguousarray(part), size, "bilinear"), view.pixel_mm * edge / training.input_px


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a field of values about -1 to 1 that varies slowly over the image, [row, column]."""
    return _resized(rng.uniform(-1, 1, (1, 4, 4)).astype(np.float32), shape, "bicubic")[0]


def _resized(images: np.ndarray, shape: tuple[int, ...], mode: str) -> np.ndarray:
    """Resize images [n, row, column]; what is made smaller is averaged."""
    return functional.interpolate(torch.from_numpy(images)[None], shape, mode=mode, antialias=True)[0].numpy()


def _field(shape: tuple[int, ...], ranges: PairRanges, rng: np.random.Generator) -> np.ndarray:
    """Return the imaged field: all, or a disk, bool [row, column]."""
    if rng.random() >= ranges.round_field_share:
        return np.ones(shape, bool)
    down, right = (np.linspace(-1, 1, n) for n in shape)
    radius, (row, column) = rng.uniform(0.8, 1.3), rng.uniform(-0.25, 0.25, 2)
    return (down[:, None] - row) ** 2 + (right - column) ** 2 < radius**2
