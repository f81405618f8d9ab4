"""Simulated X-rays beside real ones of a C-arm: a picture of both, and what can be measured of both.

    python -m Testing.benchmarks.realism [--data DIR] [--pictures FOLDER] [--quick]

Writes Resources/Screenshots/realistic_simulation.png, of simulated X-rays only, and Testing/benchmarks/results/realism.json, and prints its
table, which the README quotes. Beside real X-rays they are drawn into the folder of --pictures: those do not ship.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulation_config import InstrumentRanges, LookRanges, RealisticRanges
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.exposure import Exposure
from IntraopReconLib.core.xrays.instrument_placement import KINDS, bone_points_lps_mm, random_instruments
from IntraopReconLib.core.xrays.looks import INTENSIFIER_SHARE, draw_look
from IntraopReconLib.core.xrays.materials import MaterialVolumes
from IntraopReconLib.core.xrays.scene import Scene, draw_scene, take_xray
from IntraopReconLib.core.xrays.simulate import carm_view, read_ct
from IntraopReconLib.core.xrays.simulate_beads import LARGE_RADIUS_MM, SMALL_RADIUS_MM, SteelBalls
from IntraopReconLib.core.xrays.solids import nothing

from .image_statistics import NOISE_BANDS, Statistics, open_field, statistics
from .provenance import provenance, write_result
from .scenes import REPOSITORY, data_folder
from .table import fill_readme, provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "realism.json"
PICTURE = REPOSITORY / "Resources" / "Screenshots" / "realistic_simulation.png"
README_MARKS = ("<!-- realism:start -->", "<!-- realism:end -->")
TILE_PX, GRAYS = 380, 96
SPECIMEN_RADIUS_MM, SPECIMEN_BONE, SPECIMEN_SOFT = 48.0, 0.65, 0.12
REAL_RADIUS_PX, REAL_PIXEL_MM = 508, 215 / 1008  # (0018,1612) Radius of Circular Shutter, (0018,1149) Field of View Dimension(s)
REAL = {
    "specimen, from the side": ("NA_Orbit_30_Spine_01.dcm", "Fiducial_Orbit_30_Spine_01.dcm", "Fiducial_Orbit_30_Spine_02.dcm"),
    "specimen, from the front": ("NA_Centered_0_Spine_01.dcm", "Fiducial_Centered_0_Spine_01.dcm"),
}
HEADER = ("", "grays, 5 / 25 / 50 / 75 / 95 % of the field", "noise", "its power below .12 / .25 / .5 a pixel", "edges, mm", "veil")


@dataclass(frozen=True)
class Shot:
    """One simulated X-ray.

    Attributes:
        title: Row of the table.
        ct: File in `ct`.
        center_lps_mm: Isocenter.
        orbit_deg, tilt_deg, roll_deg: Of the C-arm.
        seed: Of collimator, noise, instruments and what `looks` leaves open.
        exposure: How it is taken.
        looks: What the system is drawn from.
        instruments: Which kinds lie in the beam.
        specimen: Whether the spine alone is taken, in a little soft tissue, in air.
        beads: Whether balls of a calibration phantom lie around it.
        size_px, detector_mm: Of the image.
        statistics: Whether it is measured beside real X-rays.
    """

    title: str
    ct: str
    center_lps_mm: tuple[float, float, float]
    orbit_deg: float
    tilt_deg: float
    roll_deg: float
    seed: int
    exposure: Exposure
    looks: LookRanges
    instruments: tuple[str, ...] = ()
    specimen: bool = False
    beads: bool = False
    size_px: int = 1024
    detector_mm: float = 1024 * REAL_PIXEL_MM
    statistics: bool = False


THORAX, LUMBAR = "thorax_1mm.nrrd", "lumbar_pelvis_3mm.nrrd"
INTENSIFIER = LookRanges(
    intensifier=1.0, curves=("linear",), bits=(12,), saturates=1.0, text=0.0, ramp=1.0, vignetting=(0.0, 0.04), iris_share=(0.92, 0.95)
)
FLAT_PANEL = LookRanges(intensifier=0.0, monochrome1=0.0, curves=("logarithm",), bits=(12,), text=0.0)
SPECIMEN = Exposure(61.0, 0.0, 320.0, 0.015, 30.0, 0.002, 0.2, 0.22, 2.4)
BRIGHT = replace(SPECIMEN, photons=4000.0, electronic_photons=9.0, scatter=0.03, glare=0.12)
PATIENT = Exposure(77.0, 0.1, 1500.0, 0.06, 40.0, 0.05, 0.2, 0.25, 2.0)
SHOTS = (
    Shot(
        "specimen, from the side", THORAX, (0.0, 215.0, -560.0), 78, 2, 92, 1, SPECIMEN, replace(INTENSIFIER, brightness=(0.16, 0.16)),
        specimen=True, beads=True, statistics=True,
    ),
    Shot(
        "specimen, from the front", THORAX, (0.0, 215.0, -560.0), 4, -3, 88, 2, BRIGHT,
        replace(INTENSIFIER, brightness=(0.28, 0.28)), specimen=True, statistics=True,
    ),
    Shot("lumbar spine, screws", LUMBAR, (-4.8, -118.0, 330.0), 38, 8, 4, 6, PATIENT, INTENSIFIER, ("pedicle_screws",), detector_mm=300),
    Shot("spine from the side, wires", THORAX, (0.0, 205.0, -610.0), 82, 3, -6, 5, PATIENT, INTENSIFIER, ("k_wires",), detector_mm=260),
    Shot("chest with leads", THORAX, (15.0, 190.0, -540.0), 8, 6, -3, 4, PATIENT, FLAT_PANEL, ("leads",), detector_mm=358),
    Shot("hip, an old screw and a clamp", LUMBAR, (85.0, -120.0, 168.0), 20, 0, 8, 8, PATIENT, FLAT_PANEL, ("clamp",), detector_mm=260),
)  # fmt: skip


def specimen(patient: MaterialVolumes, center_lps_mm: np.ndarray) -> MaterialVolumes:
    """Return a dry spine in little soft tissue: bone near the canal and what it encloses, and a small share of all other tissue."""
    grid, bone = patient.grid, patient.per_mm[1]
    spacing = float(grid.spacing_mm[0])
    axes = [grid.origin_lps_mm[n] + grid.spacing_mm[n] * np.arange(grid.size_ijk[n]) for n in range(3)]
    near = np.hypot(axes[0] - center_lps_mm[0], axes[1][:, None] - center_lps_mm[1]) < 1.2 * SPECIMEN_RADIUS_MM  # [j, i]
    weight = (bone > 0.02) * near
    sums = np.maximum(weight.sum((1, 2)), 1)
    middle_y = ndimage.gaussian_filter1d((weight.sum(2) @ axes[1]) / sums, 25 / spacing)
    spine = np.hypot(axes[0] - center_lps_mm[0], axes[1][:, None] - middle_y[:, None, None]) < SPECIMEN_RADIUS_MM
    kept = ndimage.binary_opening((bone > 0.008) & spine, iterations=1)
    labels, _ = ndimage.label(kept)
    kept = labels == np.bincount(labels[labels > 0]).argmax()
    closed = ndimage.binary_closing(kept, iterations=round(2 / spacing))
    share = ndimage.gaussian_filter(ndimage.binary_dilation(closed, iterations=1).astype(np.float32), 1.0)  # no stairs of voxels
    per_mm = SPECIMEN_BONE * share * patient.per_mm
    per_mm[0] += SPECIMEN_SOFT * (1 - share) * patient.per_mm[0]
    return MaterialVolumes(per_mm.astype(np.float32), grid)


def phantom(center_lps_mm: np.ndarray) -> SteelBalls:
    """Return 18 balls of steel in two rows beside the spine, two of them large, much as on a plate."""
    along = np.linspace(-52, 52, 8)
    places = [(30 + 9 * np.sin(z / 9), -30.0 + 6 * np.cos(z / 7), z) for z in along] + [
        (-22 - 9 * np.cos(z / 11), -62.0 + 8 * np.sin(z / 9), z + 3) for z in along
    ]
    places += [(4.0, -47.0, -16.0), (3.0, -46.0, 26.0)]
    return SteelBalls(center_lps_mm + np.array(places), np.repeat([SMALL_RADIUS_MM * 0.75, LARGE_RADIUS_MM * 0.9], [16, 2]))


def take(shot: Shot, patient: Scene, size_px: int) -> np.ndarray:
    """Return the stored values of one X-ray as shares of the full scale, [row, column]."""
    center = np.array(shot.center_lps_mm)
    config = SimulationConfig(size_px=size_px, detector_mm=shot.detector_mm)
    view = carm_view(config, center, *np.deg2rad([shot.orbit_deg, shot.tilt_deg, shot.roll_deg]), 640.0)
    rng = np.random.default_rng(shot.seed)
    ranges = InstrumentRanges(**{kind: float(kind in shot.instruments) for kind in KINDS})
    points = bone_points_lps_mm(patient.patient.per_mm[1], patient.patient.grid, center, 35.0)
    scene = replace(
        patient,
        patient=specimen(patient.patient, center) if shot.specimen else patient.patient,
        instruments=random_instruments(points, center, ranges, rng) if shot.instruments else nothing(),
        table=nothing() if shot.specimen else patient.table,
        balls=phantom(center) if shot.beads else None,
        exposure=replace(shot.exposure, photons=shot.exposure.photons * (shot.size_px / size_px) ** 2),
        look=draw_look(shot.looks, rng),
        looks=shot.looks,
    )
    stored, _ = take_xray(scene, view, "", rng)
    return stored.pixels / (2**stored.bits - 1)


def patients(data: Path) -> dict[str, Scene]:
    """Return each CT that is shot, on a table."""
    shots = {shot.ct: shot for shot in SHOTS}
    return {
        name: draw_scene(
            read_ct(data / "ct" / name),
            np.array(shot.center_lps_mm),
            None,
            False,
            RealisticRanges(table=1.0),
            np.random.default_rng(0),
        )
        for name, shot in shots.items()
    }


def measure_real(folder: Path) -> dict[str, list[tuple[np.ndarray, Statistics]]]:
    """Return the real X-rays as shares of the full scale, and their statistics, by row of the table."""
    found = {}
    for title, names in REAL.items():
        found[title] = []
        for name in names:
            (radiograph,) = read_radiographs(folder / name)
            image = radiograph.intensity.copy()
            image[0] = 0  # a ramp of grays
            measured = statistics(image, REAL_PIXEL_MM, REAL_RADIUS_PX, open_field(image, REAL_RADIUS_PX))
            found[title].append((image / 4095, measured))
    return found


def measure_simulated(image: np.ndarray, shot: Shot) -> Statistics:
    """Return the statistics of a simulated X-ray of an intensifier with a linear curve."""
    radius = INTENSIFIER_SHARE * image.shape[0] / 2
    image = image.copy()
    image[0] = 0
    return statistics(image, shot.detector_mm / image.shape[0], radius, open_field(image, radius))


def tile(image: np.ndarray, linear: bool) -> np.ndarray:
    """Return an image as a monitor shows it: linear ones as stored, others within a window about their field; uint8, TILE_PX square."""
    if not linear:
        low, high = np.percentile(image[open_field(np.exp(8 * image), None)], (0.5, 99.5))
        image = np.clip((image - low) / (high - low), 0, 1)
    else:
        bright = np.percentile(image[image > 0.02], 99)
        image = np.clip(image / max(bright, 0.45) * 0.95, 0, 1)
    small = Image.fromarray((255 * image).astype(np.float32)).resize((TILE_PX, TILE_PX), Image.Resampling.BOX)
    return (np.rint(np.asarray(small) / 255 * (GRAYS - 1)) * (255 / (GRAYS - 1))).clip(0, 255).astype(np.uint8)


def sheet(tiles: list[np.ndarray], columns: int) -> Image.Image:
    """Return tiles in rows, with thin gaps."""
    gap = 4
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * (TILE_PX + gap) - gap, columns * (TILE_PX + gap) - gap), 255, np.uint8)
    for number, picture in enumerate(tiles):
        top, left = (number // columns) * (TILE_PX + gap), (number % columns) * (TILE_PX + gap)
        canvas[top : top + TILE_PX, left : left + TILE_PX] = picture
    return Image.fromarray(canvas)


def markdown(result: dict[str, Any]) -> str:
    """Return the table."""
    lines = []
    for row in result["rows"]:
        grays = " / ".join(f"{row['grays'][percent]:.2f}" for percent in ("5", "25", "50", "75", "95"))
        shares = " / ".join(f"{share:.2f}" for share in row["noise_shares"])
        lines.append([row["title"], grays, f"{row['noise']:.2%}", shares, f"{row['edge_mm']:.2f}", f"{row['veil']:.1%}"])
    return f"{table(HEADER, lines)}\n\n{provenance_line(result['provenance'])}"


def _row(title: str, measured: list[Statistics]) -> dict[str, Any]:
    """Return the mean of several images' statistics."""
    dicts = [asdict(each) for each in measured]
    return {
        "title": title,
        "images": len(dicts),
        "grays": {str(percent): float(np.mean([each["grays"][percent] for each in dicts])) for percent in dicts[0]["grays"]},
        "noise": float(np.mean([each["noise"] for each in dicts])),
        "noise_bands": NOISE_BANDS,
        "noise_shares": np.mean([each["noise_shares"] for each in dicts], axis=0).tolist(),
        "edge_mm": float(np.mean([each["edge_mm"] for each in dicts])),
        "veil": float(np.mean([each["veil"] for each in dicts])),
    }


def main() -> int:
    """Simulate, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder that holds ct/, and carm/ if there is one")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of simulated beside real X-rays")
    parser.add_argument("--quick", action="store_true", help="small images; writes no results")
    options = parser.parse_args()
    if not (options.data / "ct").is_dir():
        print(f"There are no CTs in {options.data}; say where they are with --data.", file=sys.stderr)
        return 2
    scenes = patients(options.data)
    images = [take(shot, scenes[shot.ct], 256 if options.quick else shot.size_px) for shot in SHOTS]
    real = measure_real(options.data / "carm") if (options.data / "carm").is_dir() else {}
    rows = []
    for shot, image in zip(SHOTS, images, strict=True):
        if shot.statistics:
            rows.append(_row(f"simulated {shot.title}", [measure_simulated(image, shot)]))
            if shot.title in real:
                rows.append(_row(f"real {shot.title} ({len(real[shot.title])} X-rays)", [measured for _, measured in real[shot.title]]))
    result = {"provenance": provenance(1, sys.argv[1:], "realism"), "rows": rows}
    tiles = [tile(image, shot.looks.curves == ("linear",)) for shot, image in zip(SHOTS, images, strict=True)]
    if not options.quick:
        write_result(RESULT, result)
        fill_readme(REPOSITORY / "README.md", markdown(result), README_MARKS)
        sheet(tiles, 3).save(PICTURE, optimize=True)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        beside = [tile(image, True) for found in real.values() for image, _ in found]
        sheet(beside + tiles, 3).save(options.pictures / "realism.png")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
