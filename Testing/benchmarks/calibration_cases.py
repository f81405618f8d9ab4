"""From pixels to a volume: X-rays with beads simulated from CT, calibrated with nothing but their tags and the jig's file, reconstructed.

    python -m Testing.benchmarks.calibration_cases [--quick]

A whole run writes Testing/benchmarks/results/calibration_cases.json; every run prints its tables. --quick leaves out the reconstructions.
Seconds a view are processor time of all that `calibrate` does, pictures included; those of the first row include compiling the kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.calibrate_case import calibrate_case
from IntraopReconLib.core.calibration.calibration_file import FILE, FOLDER
from IntraopReconLib.core.calibration.camera import rotation_angle_deg
from IntraopReconLib.core.calibration.fiducials import KIND_OF_SIZE, Fiducials, read_fiducials
from IntraopReconLib.core.calibration.poses import PosedImage, read_poses
from IntraopReconLib.core.config import Jig, ReconstructionConfig, SimulationConfig
from IntraopReconLib.core.evaluate import evaluate
from IntraopReconLib.core.pipeline import reconstruct_case
from IntraopReconLib.core.reconstruction import silent
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.core.xrays.simulate_beads import LARGE_RADIUS_MM, SMALL_RADIUS_MM
from SparseAnatomyLib.geometry import XrayView

from .provenance import provenance, write_result
from .scenes import REPOSITORY, data_folder
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "calibration_cases.json"
CENTERS = {"lumbar": ("lumbar_pelvis_3mm.nrrd", (0.0, -125.0, 300.0)), "thorax": ("thorax_1mm.nrrd", (-10.0, 205.0, -560.0))}
SEED = 11  # that of no shipped case
FOUND_MM = 3.0  # at the detector, between a detection and the bead it belongs to
POSE_HEADER = (
    "", "beads found %", "apart, found %", "false", "wrong size", "center px median", "p95", "green / amber / red / none",
    "rotation ° median", "p95", "source mm median", "p95", "at the isocenter mm median", "p95", "s a view",
)  # fmt: skip
VOLUME_HEADER = ("", "PSNR-3D dB", "SSIM-3D", "Dice", "surface distance mm")
VOLUME_FIGURES = ("psnr_3d_db", "ssim_3d", "dice", "asd_mm")


@dataclass(frozen=True)
class BeadCase:
    """What is simulated.

    Attributes:
        anatomy: One of `CENTERS`.
        jig: Kind of jig.
        size_px: Of the X-rays.
        reconstructed: Whether volumes are compared too.
    """

    anatomy: str
    jig: Jig
    size_px: int
    reconstructed: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.anatomy}, {self.jig}, {self.size_px} px"

    def config(self, beads: bool = True) -> SimulationConfig:
        """Return the settings of the simulation."""
        return SimulationConfig(seed=SEED, size_px=self.size_px, center_lps_mm=CENTERS[self.anatomy][1], beads=beads, jig=self.jig)

    @property
    def ct(self) -> Path:
        """The CT."""
        return data_folder() / "ct" / CENTERS[self.anatomy][0]


BEAD_CASES = (
    *(BeadCase(anatomy, jig, 256, jig == "volume") for anatomy in CENTERS for jig in ("volume", "belt", "patient")),
    *(BeadCase(anatomy, "volume", 512) for anatomy in CENTERS),
)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.calibration_cases", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the reconstructions")
    options = parser.parse_args()
    threads = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))
    result: dict[str, Any] = {"provenance": provenance(threads, sys.argv[1:], "calibration_cases"), "rows": []}
    for case in BEAD_CASES:
        with tempfile.TemporaryDirectory() as folder:
            result["rows"].append(measure(case, Path(folder), case.reconstructed and not options.quick))
        print(json.dumps(result["rows"][-1]), flush=True)
    print(f"\n{markdown(result)}")
    if not options.quick:
        write_result(RESULT, result)
    return 0


def measure(bead_case: BeadCase, folder: Path, reconstructed: bool) -> dict[str, Any]:
    """Simulate, calibrate and, if asked, reconstruct one case.

    Args:
        bead_case: What to simulate.
        folder: For the files; empty.
        reconstructed: Whether volumes are compared.

    Returns:
        Name, figures of detection, poses and volumes.
    """
    case = folder / "case"
    simulate_case(bead_case.ct, case, bead_case.config())
    (case / "poses.json").unlink()  # the calibration shall know nothing of the truth
    start = time.process_time()
    calibrate_case(case)
    seconds = (time.process_time() - start) / bead_case.config().views
    truth = read_poses(case / "ground_truth_poses.json")
    found = {posed.image: posed for posed in read_poses(case / "poses.json")}
    figures = {"name": bead_case.name, "calibration_s_a_view": seconds, **detection(case, truth), **pose_errors(found, truth, bead_case)}
    if reconstructed:
        figures["volumes"] = volumes(bead_case, case, folder)
    return figures


def detection(case: Path, truth: list[PosedImage]) -> dict[str, Any]:
    """Compare the beads that were detected with where they are.

    Returns:
        Share found, of all that are in the image and of those whose shadow touches no other; number of false ones and of those whose size
        is wrong; distances between the detected and the projected centers in pixels.
    """
    jig, document = read_fiducials(case / "fiducials.mrk.json"), json.loads((case / FOLDER / FILE).read_text(encoding="utf-8"))
    record = {view["image"]: [bead for bead in view["beads"] if bead["origin"] != "expected"] for view in document["views"]}
    found, apart, errors, false, wrong = [], [], [], 0, 0
    for posed in truth:
        seen, alone = _projected(jig, posed.view)
        detected = record[posed.image]
        distance = np.linalg.norm(seen[:, None] - np.array([bead["center_px"] for bead in detected]).reshape(1, -1, 2), axis=-1)
        limit = FOUND_MM / posed.view.pixel_pitch_mm[0]
        false += int((distance.min(0) > limit).sum())
        nearest = distance.argmin(1)
        hit = (distance.min(1) <= limit) & (distance.argmin(0)[nearest] == np.arange(len(seen)))
        wrong += sum(KIND_OF_SIZE[detected[nearest[bead]]["size"]] != int(jig.kind[bead]) for bead in np.flatnonzero(hit))
        found.append(hit)
        apart.append(alone)
        errors.append(distance.min(1)[hit])
    found, apart, errors = np.concatenate(found), np.concatenate(apart), np.concatenate(errors)
    shares = {"found": float(found.mean()), "found_of_apart": float(found[apart].mean()), "beads": len(found), "apart": int(apart.sum())}
    return {**shares, "false": false, "wrong_size": wrong, "center_px": _quantiles(errors)}


def _projected(jig: Fiducials, view: XrayView) -> tuple[np.ndarray, np.ndarray]:
    """Return where the beads appear, (column, row) [B, 2], and whether their shadows touch no other, bool [B]."""
    seen = view.project(jig.position_lps_mm)
    radius = np.where(jig.kind == KIND_OF_SIZE["large"], LARGE_RADIUS_MM, SMALL_RADIUS_MM)
    radius = radius * view.source_to_detector_mm / view.depth_mm(jig.position_lps_mm) / view.pixel_pitch_mm[0]
    gap = np.linalg.norm(seen[:, None] - seen, axis=-1) - radius[:, None] - radius
    np.fill_diagonal(gap, np.inf)
    return seen, gap.min(1) > 0


def pose_errors(found: dict[str, PosedImage], truth: list[PosedImage], bead_case: BeadCase) -> dict[str, Any]:
    """Compare poses with the truth.

    Returns:
        Number of views by grade; errors of the rotation (degrees), of the source (mm), and RMS over points within 80 mm of the isocenter of
        how far off they appear, at their own depth (mm): what a reconstruction sees of the error.
    """
    grades = {"green": 0, "amber": 0, "red": 0, "none": 0}
    rotation, source, isocenter = [], [], []
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(200, 3))
    ball *= 80 * rng.random((200, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    points = np.array(CENTERS[bead_case.anatomy][1]) + ball
    for posed in truth:
        one = found.get(posed.image)
        grades["none" if one is None else one.grade] += 1
        if one is None:
            continue
        rotation.append(rotation_angle_deg(one.view.lps_from_camera[:3, :3], posed.view.lps_from_camera[:3, :3]))
        source.append(float(np.linalg.norm(one.view.source_lps_mm - posed.view.source_lps_mm)))
        shift_px = np.linalg.norm(one.view.project(points) - posed.view.project(points), axis=1)
        shift_mm = shift_px * posed.view.pixel_pitch_mm[0] * posed.view.depth_mm(points) / posed.view.source_to_detector_mm
        isocenter.append(float(np.sqrt((shift_mm**2).mean())))
    return {"grades": grades, "rotation_deg": _quantiles(rotation), "source_mm": _quantiles(source), "isocenter_mm": _quantiles(isocenter)}


def volumes(bead_case: BeadCase, case: Path, folder: Path) -> list[dict[str, Any]]:
    """Reconstruct with true and with calibrated poses, with the beads taken out and left in, and without beads.

    Returns:
        A row each.
    """
    clean, left_in, true = (folder / name for name in ("clean", "left_in", "true"))
    simulate_case(bead_case.ct, clean, bead_case.config(beads=False))
    shutil.copytree(case, left_in, ignore=shutil.ignore_patterns("calibration"))
    shutil.copytree(case, true)
    shutil.copyfile(case / "ground_truth_poses.json", true / "poses.json")
    rows = []
    for name, source in (
        ("no beads, true poses", clean),
        ("beads taken out, true poses", true),
        ("beads taken out, calibrated poses", case),
        ("beads left in, calibrated poses", left_in),
    ):
        reconstruct_case(source, folder / "result", ReconstructionConfig(), silent)
        metrics = evaluate(folder / "result", case / "ground_truth.nrrd")
        rows.append({"name": name, **{figure: metrics[figure] for figure in VOLUME_FIGURES}})
        shutil.rmtree(folder / "result")
    return rows


def _quantiles(values: Any) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95)), "max": float(np.max(values))}


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as tables, with where they come from."""
    lines = []
    for row in result["rows"]:
        shares = [f"{100 * row[name]:.1f}" for name in ("found", "found_of_apart")]
        center = [f"{row['center_px'][key]:.3f}" for key in ("median", "p95")]
        grades = " / ".join(str(count) for count in row["grades"].values())
        errors = [f"{row[name][key]:.3f}" for name in ("rotation_deg", "source_mm", "isocenter_mm") for key in ("median", "p95")]
        lines.append(
            [row["name"], *shares, row["false"], row["wrong_size"], *center, grades, *errors, f"{row['calibration_s_a_view']:.2f}"]
        )
    texts = [table(POSE_HEADER, lines)]
    for row in result["rows"]:
        if "volumes" in row:
            volume_lines = [[one["name"], *(f"{one[figure]:.3g}" for figure in VOLUME_FIGURES)] for one in row["volumes"]]
            texts += [f"**{row['name']}**", table(VOLUME_HEADER, volume_lines)]
    return "\n\n".join([*texts, provenance_line(result["provenance"])])


if __name__ == "__main__":
    sys.exit(main())
