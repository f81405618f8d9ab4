"""The commands `intraop-recon ...`: arguments to core, a progress bar, an exit code."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from IntraopReconLib.core.config import Device, Jig, Method, Orbit, Quality, ReconstructionConfig, RefinePoses, SimulationConfig
from IntraopReconLib.core.standardization_config import StandardizeMethod
from IntraopReconLib.pose_commands import ExportPoses, ImportPoses
from IntraopReconLib.training_commands import TrainStandardizer
from SparseAnatomyLib.commandline import progress_bar, run_command
from SparseAnatomyLib.errors import InputError

_RECONSTRUCTION = ReconstructionConfig()
_SIMULATION = SimulationConfig()


@dataclass(frozen=True)
class Demo:
    """Reconstruct the bundled sample case, measure it against its CT, and make the Slicer scene with pictures."""

    out: Path = Path("demo-output")
    """Where everything goes."""
    case: Literal["lumbar", "thorax", "lumbar-beads"] = "lumbar"
    """Which of the bundled cases; lumbar-beads is calibrated from the beads in its X-rays first."""
    quality: Quality = _RECONSTRUCTION.quality
    """Effort."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.demo import run_demo

        run_demo(self.case, self.out, self.quality)


@dataclass(frozen=True)
class Simulate:
    """Make a case folder with X-rays simulated from a CT, their poses and the ground truth."""

    ct: tyro.conf.Positional[Path]
    """CT volume in Hounsfield units (NRRD, NIfTI, MetaImage)."""
    out: Path
    """The case folder; new or empty."""
    views: int = _SIMULATION.views
    """Number of X-rays."""
    seed: int = _SIMULATION.seed
    """Same seed, same poses and noise."""
    size: int = _SIMULATION.size_px
    """Rows and columns of each X-ray."""
    center: tuple[float, float, float] | None = _SIMULATION.center_lps_mm
    """Isocenter and center of what is imaged, LPS millimeters; the centroid of the bone if absent."""
    whole: bool = False
    """Keep the anatomy beyond 92 mm from the center, as in a patient; the X-rays then show only part of it."""
    orbit: Orbit = _SIMULATION.orbit
    """Poses all over an arc of 200 degrees, or on a circle."""
    realistic: bool = _SIMULATION.realistic
    """The whole patient on a table, spectrum, scatter, noise and blur, stored as a C-arm would, with the bone alone beside it."""
    instruments: bool = _SIMULATION.instruments
    """Screws, wires and tools may lie in realistic X-rays; they are in the ground truth too."""
    beads: bool = _SIMULATION.beads
    """Balls of steel in the picture, as a calibration jig has them, and their positions in fiducials.mrk.json."""
    jig: Jig = _SIMULATION.jig
    """Beads in a volume around the anatomy, on a thin belt around the patient, or stuck on the skin."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.simulate_case import simulate_case

        config = SimulationConfig(
            views=self.views,
            seed=self.seed,
            size_px=self.size,
            orbit=self.orbit,
            center_lps_mm=self.center,
            radius_mm=None if self.whole else _SIMULATION.radius_mm,
            realistic=self.realistic,
            instruments=self.instruments,
            beads=self.beads,
            jig=self.jig,
        )
        with progress_bar() as report:
            simulate_case(self.ct, self.out, config, report)
        case = shlex.quote(str(self.out))
        calibrate = f"intraop-recon calibrate {case} && " if self.beads else ""
        print(f"{self.views} X-rays are in {self.out}. Reconstruct them with: {calibrate}intraop-recon reconstruct {case} --out RESULT")


@dataclass(frozen=True)
class Calibrate:
    """Find the pose of each X-ray from the beads in it: writes poses.json, and a report into the folder calibration of the case."""

    case: tyro.conf.Positional[Path]
    """Case folder with `xrays/`."""
    fiducials: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mrk.json")] = None
    """Slicer markups with the beads' 3D positions; fiducials.mrk.json of the case by default."""
    intrinsics: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Source-detector distance and pixel pitch of the C-arm; those in the X-rays by default."""
    distortion: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """For image intensifiers: X-ray (DICOM) of a distortion grid, or the correction that was fitted from one (.json)."""
    known_distance: Annotated[float | None, tyro.conf.arg(metavar="MM")] = None
    """Without fiducials: distance between the two beads that are furthest apart; the beads are then found from the X-rays."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.calibrate_case import CalibrationFiles, calibrate_case

        files = CalibrationFiles(self.fiducials, self.intrinsics, self.distortion, self.known_distance)
        with progress_bar() as report:
            found = calibrate_case(self.case, files, report)
        for warning in found.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        counts = ", ".join(f"{count} {grade}" for grade, count in found.grades.items())
        without = f" ({found.without_pose} without a pose)" if found.without_pose else ""
        print(f"X-rays: {counts}{without}. Look at {found.paths['report_html']} before you use {found.paths['poses']}.")
        if "fiducials" in found.paths:
            print(f"The beads that were found are in {found.paths['fiducials']}; remove it to find them anew.")


@dataclass(frozen=True)
class Standardize:
    """Turn the X-rays of a case into images of bone alone, as reconstruction works on them: a new case folder, originals included."""

    case: tyro.conf.Positional[Path]
    """Case folder: `xrays/` and `poses.json`."""
    out: Path
    """The standardized case folder; new or empty."""
    method: StandardizeMethod = "auto"
    """The trained network, the classical way (a wide background is taken off), or the network where its weights are there."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE.pt")] = None
    """Weights that `train-standardizer` wrote; by default those that were installed, where there are any."""
    device: Device = _RECONSTRUCTION.device
    """Where the network runs."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.standardize_case import FILE, standardize_case

        with progress_bar() as report:
            done = standardize_case(self.case, self.out, self.method, report, self.weights, self.device)
        for warning in done.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        if done.device:
            print(done.device)
        words = {"network": "by the network", "classical": "without a network", "original": "left as they are"}
        counts = ", ".join(f"{done.used[used]} {words[used]}" for used in words if done.used.get(used))
        print(f"X-rays: {counts}. Look at the pictures in {self.out / 'standardization'} and at {self.out / FILE} before you go on:")
        print(f"intraop-recon reconstruct {shlex.quote(str(self.out))} --out RESULT")


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct bone from the X-rays of a case folder; a run that was interrupted goes on where it was."""

    case: tyro.conf.Positional[Path]
    """Case folder: `xrays/` and `poses.json`."""
    out: Path
    """The result folder: volume, coverage, bone surface and report."""
    quality: Quality = _RECONSTRUCTION.quality
    """Effort."""
    method: Method = _RECONSTRUCTION.method
    """Gaussians (splat), voxels (voxel), whichever explains the X-rays better (auto), or the published recipe (ixgs)."""
    device: Device = _RECONSTRUCTION.device
    """Where the work is done."""
    spacing: float = _RECONSTRUCTION.spacing_mm
    """Voxel spacing of the result in mm."""
    roi: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mrk.json")] = None
    """Slicer ROI (.mrk.json) to reconstruct; by default a box around what half of the X-rays show whole."""
    seed: int = _RECONSTRUCTION.seed
    """Same seed, same result (on the same machine)."""
    refine_poses: RefinePoses = _RECONSTRUCTION.refine_poses
    """Move the X-rays' poses to where their images agree; auto does so with poses that `calibrate` measured."""
    no_standardize: bool = False
    """Take the X-rays as they are. By default real X-rays are turned into images of bone alone first, computed ones (DRRs) are not."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.roi import read_region

        region = read_region(self.roi) if self.roi else None
        standardize = "off" if self.no_standardize else _RECONSTRUCTION.standardize
        settings = self.method, self.quality, self.device, self.spacing, region, self.seed
        config = ReconstructionConfig(*settings, refine_poses=self.refine_poses, standardize=standardize)
        from IntraopReconLib.core.pipeline import reconstruct_case
        from SparseAnatomyLib.provenance import result_warnings

        with progress_bar() as report:
            paths = reconstruct_case(self.case, self.out, config, report)
        for warning in result_warnings(paths):
            print(f"Warning: {warning}", file=sys.stderr)
        print(f"The bone volume is {paths['volume']}. Read {paths['report_html']} before you use it.")


@dataclass(frozen=True)
class Evaluate:
    """Measure a result against the CT it should equal and write metrics.json into it."""

    result: tyro.conf.Positional[Path]
    """Result folder."""
    ground_truth: Path
    """Attenuation per mm as `simulate` writes it (ground_truth.nrrd), or a CT in Hounsfield units."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.evaluate import evaluate

        print_metrics(evaluate(self.result, self.ground_truth))


@dataclass(frozen=True)
class Export:
    """Write a result for other programs: as DICOM, a series that CT viewers read and a segmentation of the bone."""

    result: tyro.conf.Positional[Path]
    """Result folder."""
    dicom: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Where the DICOM files go; new or empty, or an earlier export."""
    case: Path | None = None
    """Case folder whose X-rays say patient and study; by default the folder that the result lies in, and nobody where that has none."""
    threshold: Annotated[float | None, tyro.conf.arg(metavar="PER_MM")] = None
    """Attenuation per mm from which on it is bone; the one that the reconstruction has chosen by default."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.dicom_export import DicomSource, export_dicom, identity_of_result
        from IntraopReconLib.core.result_folder import read_result

        read = read_result(self.result)
        identity = identity_of_result(self.result, self.case)
        threshold = read.bone_threshold_per_mm if self.threshold is None else self.threshold
        if not (math.isfinite(threshold) and threshold > 0):
            raise InputError(f"The threshold {threshold:g} is no attenuation.", "Choose a number above zero, such as 0.015 per mm.")
        with progress_bar() as report:
            export_dicom(self.dicom, DicomSource(read.attenuation_per_mm, read.grid, threshold, identity), report)
        whose = "anonymous" if identity.is_anonymous else "of the patient whom the X-rays name"
        print(f"The DICOM files are in {self.dicom}, {whose}. Values are Hounsfield-like, not calibrated HU.")


def print_metrics(metrics: dict) -> None:
    """Print the single numbers among the metrics, one a line."""
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            print(f"{name:32s} {value:.4g}")


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[ImportPoses, tyro.conf.subcommand("import-poses")]
    | Annotated[ExportPoses, tyro.conf.subcommand("export-poses")]
    | Annotated[Standardize, tyro.conf.subcommand("standardize")]
    | Annotated[TrainStandardizer, tyro.conf.subcommand("train-standardizer")]
    | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)
_DESCRIPTION = (
    "Bone volumes from arbitrarily posed C-arm X-rays. Research use only. Exit codes: 0 done, 2 bad input, 3 cancelled, 4 resources, "
    "1 anything else."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code. (Arguments that make no sense, and --help, end the process here: 2 and 0.)
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    command = tyro.cli(Command, args=arguments, prog="intraop-recon", description=_DESCRIPTION, config=config)
    return run_command(command.run)


if __name__ == "__main__":
    sys.exit(main())
