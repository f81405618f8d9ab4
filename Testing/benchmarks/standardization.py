"""Standardization on a patient whom the network was not trained on: images, pathology, volumes.

    python -m Testing.benchmarks.standardization --weights WEIGHTS.pt --ct CT.nrrd [--part images pathology volumes timing]

The weights come from `intraop-recon train-standardizer --cts CTS --held-out NAME`. A run with all parts writes
Testing/benchmarks/results/standardization_NAME.json; every run prints its tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from IntraopReconLib.core.bone import bone_threshold
from IntraopReconLib.core.config import ReconstructionConfig, Region, SimulationConfig
from IntraopReconLib.core.reconstruct import reconstruct
from IntraopReconLib.core.simulation_config import ExposureRanges
from IntraopReconLib.core.standardization.classical import ClassicalStandardizer
from IntraopReconLib.core.standardization.network import NetworkStandardizer
from IntraopReconLib.core.standardization.pairs import LEAST_SIGNAL, without_contrast_agent
from IntraopReconLib.core.standardization.standardize import standardize_views
from IntraopReconLib.core.standardization.standardizer import Standardizer
from IntraopReconLib.core.xrays.exposure import draw_exposure, expose
from IntraopReconLib.core.xrays.materials import MaterialVolumes, ideal_bone, material_integrals
from IntraopReconLib.core.xrays.patient import patient_volumes
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from IntraopReconLib.core.xrays.simulate import bone_centroid_lps_mm, random_poses, read_ct
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice, psnr_db, ssim
from SparseAnatomyLib.volumes import resampled

from .pathology import KINDS, changed_integrals, contrast_recovery, insert
from .provenance import provenance, write_result
from .scenes import REPOSITORY
from .table import provenance_line, table

RESULTS = REPOSITORY / "Testing" / "benchmarks" / "results"
PARTS = ("images", "pathology", "volumes", "timing")
SEED = 20261121
SPACING_MM, IMAGE_PX, VOLUME_PX, VOLUME_MM, VOLUME_VOXELS = 1.25, 512, 256, 192.0, 128
IMAGE_VIEWS, PATHOLOGY_VIEWS, PATHOLOGIES = 16, 4, 6
ORBITS = (("arbitrary", 5), ("arbitrary", 15), ("arbitrary", 25), ("arbitrary", 50), ("circular", 25))
LEAST_RECOVERY = {"fracture": 0.6, "lytic": 0.6, "screw": 0.8}  # the release gate
COMPARED_RADIUS_MM = 88.0
TIMED_VIEWS = 25


@dataclass(frozen=True, eq=False)
class Patient:
    """A CT, and where its isocenter is."""

    name: str
    volumes: MaterialVolumes
    center_lps_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class Shot:
    """One simulated X-ray: as measured, and its ideal."""

    view: XrayView
    attenuation: np.ndarray
    ideal: np.ndarray

    @property
    def pixel_mm(self) -> float:
        """Pitch at the detector."""
        return float(self.view.pixel_pitch_mm.mean())


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.standardization", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="trained without this CT")
    parser.add_argument("--ct", type=Path, required=True)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    network = NetworkStandardizer.load(options.weights)
    if options.ct.name in network.card.inputs:
        print(f"{options.weights.name} was trained on {options.ct.name}: hold it out.", file=sys.stderr)
        return 2
    standardizers: dict[str, Standardizer] = {"classical": ClassicalStandardizer(), "network": network}
    patient = load_patient(options.ct)
    measures = {"images": measure_images, "pathology": measure_pathology, "volumes": measure_volumes, "timing": measure_timing}
    result: dict[str, Any] = {
        "provenance": provenance(torch.get_num_threads(), sys.argv[1:], "standardization"),
        "card": network.card.command,
    }
    for part in options.part:
        result[part] = measures[part](patient, standardizers)
        print(shown(part, result[part]), flush=True)
    if len(options.part) == len(PARTS):
        write_result(RESULTS / f"standardization_{patient.name}.json", result)
    print(provenance_line(result["provenance"]))
    return gate(result.get("pathology"))


def load_patient(path: Path) -> Patient:
    """Read a CT; what is full of contrast agent counts as soft tissue, and its table as nothing, as in training."""
    ct = read_ct(path)
    return Patient(path.name.split(".")[0], without_contrast_agent(patient_volumes(ct, SPACING_MM)[0]), bone_centroid_lps_mm(ct))


def shots(patient: Patient, config: SimulationConfig, rng: np.random.Generator) -> Iterator[Shot]:
    """Take X-rays at random poses, each with an exposure of its own."""
    for view in random_poses(config, patient.center_lps_mm, rng):
        integrals = material_integrals(patient.volumes, view)
        exposure = draw_exposure(ExposureRanges(), rng)
        pitch = float(view.pixel_pitch_mm.mean())
        yield Shot(view, _attenuation(expose(integrals, pitch, exposure, rng)), ideal_bone(integrals))


def measure_images(patient: Patient, standardizers: dict[str, Standardizer]) -> dict[str, dict[str, float]]:
    """Hold standardized images against ideal bone DRRs; peak: the largest value of the ideal image."""
    rng, rows = np.random.default_rng(SEED), {}
    for shot in shots(patient, SimulationConfig(views=IMAGE_VIEWS, size_px=IMAGE_PX), rng):
        peak, everywhere = float(shot.ideal.max()), np.ones(shot.ideal.shape, bool)
        images, seconds = {"raw": shot.attenuation}, {"raw": 0.0}
        for name, standardizer in standardizers.items():
            before = time.process_time()
            images[name] = standardizer.bone(shot.attenuation, everywhere, shot.pixel_mm)
            seconds[name] = time.process_time() - before
        for name, image in images.items():
            row = (psnr_db(image, shot.ideal, peak), ssim(image, shot.ideal, peak), seconds[name])
            rows.setdefault(name, []).append(row)
    return {
        name: {
            "psnr_db": float(np.mean([row[0] for row in values])),
            "worst_psnr_db": float(np.min([row[0] for row in values])),
            "ssim": float(np.mean([row[1] for row in values])),
            "cpu_s_per_image": float(np.median([row[2] for row in values])),
        }
        for name, values in rows.items()
    }


def measure_pathology(patient: Patient, standardizers: dict[str, Standardizer]) -> dict[str, dict[str, float]]:
    """Put pathology into the bone and measure how much of its contrast is left, by kind; medians over places and views."""
    rng = np.random.default_rng(SEED + 1)
    found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in ("raw", *standardizers)}
    for view in random_poses(SimulationConfig(views=PATHOLOGY_VIEWS, size_px=IMAGE_PX), patient.center_lps_mm, rng):
        healthy = material_integrals(patient.volumes, view)
        pitch, everywhere = float(view.pixel_pitch_mm.mean()), np.ones(healthy.shape[1:], bool)
        for kind in KINDS:
            for _ in range(PATHOLOGIES):
                change = changed_integrals(insert(kind, patient.volumes, _place(patient, rng), rng), view)
                exposure, noise = draw_exposure(ExposureRanges(), rng), int(rng.integers(2**31))
                pair = [
                    _attenuation(expose(np.maximum(each, 0), pitch, exposure, np.random.default_rng(noise)))
                    for each in (healthy, healthy + change)
                ]
                ideal = ideal_bone(change)
                found["raw"][kind].append(contrast_recovery(pair[1] - pair[0], ideal))
                for name, standardizer in standardizers.items():
                    without, with_it = (standardizer.bone(each, everywhere, pitch) for each in pair)
                    found[name][kind].append(contrast_recovery(with_it - without, ideal))
    return {
        name: {kind: float(np.median(values)) for kind, values in kinds.items()}
        | {f"{kind}_lowest_tenth": float(np.quantile(values, 0.1)) for kind, values in kinds.items()}
        for name, kinds in found.items()
    }


def measure_volumes(patient: Patient, standardizers: dict[str, Standardizer]) -> dict[str, dict[str, float]]:
    """Reconstruct from raw, standardized and ideal views: PSNR-3D and Dice of bone, where every view sees."""
    grid = VoxelGrid.box(patient.center_lps_mm, VOLUME_MM, VOLUME_MM / VOLUME_VOXELS)
    truth = _on_grid(patient.volumes, grid)
    k, j, i = np.indices(grid.shape_kji)
    points = transform_points(grid.lps_from_ijk, np.stack([i, j, k], -1))
    inside = np.linalg.norm(points - patient.center_lps_mm, axis=-1) < COMPARED_RADIUS_MM
    region = Region(tuple(map(float, patient.center_lps_mm)), (VOLUME_MM,) * 3)
    config = ReconstructionConfig(method="voxel", spacing_mm=VOLUME_MM / VOLUME_VOXELS, region=region)
    threshold = bone_threshold(truth, inside.astype(np.float32)).value_per_mm
    rows = {}
    for orbit, count in ORBITS:
        rng = np.random.default_rng(SEED + 2)
        taken = list(shots(patient, SimulationConfig(views=count, size_px=VOLUME_PX, orbit=orbit), rng))
        for name in ("raw", *standardizers, "ideal"):
            volume = reconstruct([_measured(shot, name, standardizers) for shot in taken], config).attenuation_per_mm
            rows[f"{orbit} {count} {name}"] = {
                "psnr_3d_db": psnr_db(volume, truth, float(truth[inside].max()), inside),
                "dice": dice((volume > threshold) & inside, (truth > threshold) & inside),
            }
    return rows


def measure_timing(patient: Patient, standardizers: dict[str, Standardizer]) -> dict[str, dict[str, float]]:
    """Time what `intraop-recon standardize` does with a case, its uncertainty and its warnings included; files are not counted."""
    taken = list(shots(patient, SimulationConfig(views=TIMED_VIEWS, size_px=IMAGE_PX), np.random.default_rng(SEED + 3)))
    views = [MeasuredView(str(number), shot.attenuation, np.ones(shot.ideal.shape, bool), shot.view) for number, shot in enumerate(taken)]
    rows = {}
    for name, standardizer in standardizers.items():
        standardize_views(views[:1], standardizer)  # warm
        wall, cpu = time.perf_counter(), time.process_time()
        done = standardize_views(views, standardizer)
        rows[name] = {
            "views": len(views),
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "used_as_asked": sum(one.used == name for one in done),
        }
    return rows


def gate(pathology: dict[str, dict[str, float]] | None) -> int:
    """Return 0 if the network keeps enough of every pathology's contrast, or was not asked; 1 with a sentence a kind otherwise."""
    if pathology is None:
        return 0
    failed = [kind for kind in KINDS if not pathology["network"][kind] >= LEAST_RECOVERY[kind]]
    for kind in failed:
        print(f"Release gate: {pathology['network'][kind]:.2f} of the contrast of a {kind} is left, {LEAST_RECOVERY[kind]} is asked for.")
    return 1 if failed else 0


def shown(part: str, rows: dict[str, dict[str, float]]) -> str:
    """Return a part's rows as a table."""
    titles = list(next(iter(rows.values())))
    return table((part, *titles), [(name, *(f"{row[title]:.3g}" for title in titles)) for name, row in rows.items()])


def _measured(shot: Shot, name: str, standardizers: dict[str, Standardizer]) -> MeasuredView:
    everywhere = np.ones(shot.ideal.shape, bool)
    if name in standardizers:
        image = standardizers[name].bone(shot.attenuation, everywhere, shot.pixel_mm)
    else:
        image = shot.attenuation if name == "raw" else shot.ideal
    return MeasuredView(name, image.astype(np.float32), everywhere, shot.view)


def _attenuation(signal: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(signal, LEAST_SIGNAL)).astype(np.float32)


def _place(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Return a place within bone near the isocenter, [3]."""
    bone = np.argwhere(patient.volumes.per_mm[1] > 0.02)[:, ::-1]
    points = transform_points(patient.volumes.grid.lps_from_ijk, bone.astype(float))
    near = points[np.linalg.norm(points - patient.center_lps_mm, axis=1) < 70.0]
    return near[rng.integers(len(near))]


def _on_grid(volumes: MaterialVolumes, grid: VoxelGrid) -> np.ndarray:
    """Return bone and metal per mm on another grid, by linear interpolation, [k, j, i]."""
    return resampled(volumes.bone_per_mm, volumes.grid, grid, 0.0)


if __name__ == "__main__":
    sys.exit(main())
