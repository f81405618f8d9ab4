"""The commands that exchange poses with other programs."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from IntraopReconLib.core.calibration_config import CoordinateSystem, LengthUnit, PoseFileSettings, PoseFormat

_SETTINGS = PoseFileSettings()


@dataclass(frozen=True)
class ImportPoses:
    """Read poses that another program wrote and write them as the case's poses.json."""

    case: tyro.conf.Positional[Path]
    """Case folder with `xrays/`."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """3x4 matrices (text, JSON), RTK geometry (XML), transforms of Slicer (.tfm, .h5) or MayaCam files, or a folder of these."""
    intrinsics: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Pixel pitch and source-detector distance (JSON); the tags of the X-rays tell them otherwise."""
    coordinate_system: CoordinateSystem = _SETTINGS.coordinate_system
    """Of the file's points."""
    unit: LengthUnit = _SETTINGS.unit
    """Of the file's lengths."""
    rows_up: bool = _SETTINGS.rows_up
    """The file counts the rows of the image from the bottom."""
    first_pixel: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="U V")] = _SETTINGS.first_pixel_mm
    """RTK: origin of the projection images in mm; without it, their middle is the origin."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.pose_exchange import import_into_case

        settings = PoseFileSettings(self.coordinate_system, self.unit, self.rows_up, self.first_pixel)
        posed, warnings = import_into_case(self.case, self.files, settings, self.intrinsics)
        _warn(warnings)
        command = f"intraop-recon reconstruct {shlex.quote(str(self.case))} --out RESULT"
        print(f"{len(posed)} poses are in {self.case / 'poses.json'}. Reconstruct with: {command}")


@dataclass(frozen=True)
class ExportPoses:
    """Write the poses of a case for another program."""

    case: tyro.conf.Positional[Path]
    """Case folder with `poses.json`."""
    out: Path
    """The file; for slicer, mayacam and mayacam1, which have a file a camera, the folder."""
    format: PoseFormat
    """Which kind of file."""

    def run(self) -> None:
        """Run it."""
        from IntraopReconLib.core.pose_exchange import export_from_case

        written, warnings = export_from_case(self.case, self.out, self.format)
        _warn(warnings)
        print(f"The poses are in {self.out}." if len(written) == 1 else f"{len(written)} files are in {self.out}.")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)
