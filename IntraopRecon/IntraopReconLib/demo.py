"""The demo: the bundled X-rays become a bone volume, a surface, a report with pictures and a Slicer scene, measured against the CT."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.config import Quality, ReconstructionConfig
from SparseAnatomyLib.commandline import progress_bar
from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.resources import resource
from SparseAnatomyLib.staging import check_result_folder
from SparseAnatomyLib.vtk_messages import quiet_vtk

_FIGURES = (("psnr_3d_db", "PSNR-3D", "dB"), ("ssim_3d", "SSIM-3D", ""), ("dice", "Dice of bone", ""), ("asd_mm", "Surface distance", "mm"))
_TRUTH_OF = {"lumbar-beads": "lumbar"}  # the same spine, whose ground truth ships once
_TRUE_POSES = "ground_truth_poses.json"
_MADE = ("poses.json", "calibration")  # where somebody has calibrated the sample itself
_COPY_BYTES = 10_000_000


def run_demo(name: str, out: Path, quality: Quality) -> None:
    """Run it and print where everything is. A case with beads is calibrated first, in a copy in the result folder.

    Args:
        name: Of a sample case.
        out: The result folder.
        quality: Effort.

    Raises:
        InputError: The sample case is missing, or the folder will not do.
        ResourceError: Memory or disk will not do.
    """
    case, truth = sample_case(name), sample_case(_TRUTH_OF.get(name, name)) / "ground_truth.nrrd"
    from IntraopReconLib.core.evaluate import evaluate
    from IntraopReconLib.core.pipeline import reconstruct_case
    from SparseAnatomyLib.provenance import result_warnings

    start_s, lines, places, notes = time.monotonic(), [], {}, []
    with progress_bar() as report:
        first = 0.0
        if (case / _TRUE_POSES).exists():
            first = 0.25
            case, places, lines, notes = _calibrated(case, Path(out) / name, _share(report, 0.0, first))
        paths = reconstruct_case(case, out, ReconstructionConfig(quality=quality), _share(report, first, 0.8))
        report(0.82, "Comparing with the CT")
        metrics = evaluate(out, truth)
        extras, scene_notes = _scene(out, name, report)
    for sentence in (*notes, *result_warnings(paths), *scene_notes):
        print(f"Warning: {sentence}", file=sys.stderr)
    print(f"Sample case {name}: {len(list((case / 'xrays').iterdir()))} X-rays, done in {time.monotonic() - start_s:.0f} s.")
    lines += [(title, f"{_figure(metrics.get(key))} {unit}".rstrip()) for key, title, unit in _FIGURES]
    places |= {"Report": paths["report_html"], "Bone volume": paths["volume"], "Bone surface": paths["mesh_stl"], **extras}
    for title, text in (*lines, *places.items()):
        print(f"  {title:17s} {text}")


def sample_case(name: str) -> Path:
    """Return the folder of a bundled case, in the repository or in the installed extension.

    Raises:
        InputError: It is not there.
    """
    return resource(f"SampleCase/{name}")


def _calibrated(bundled: Path, case: Path, report: Callable[..., None]) -> tuple[Path, dict[str, Path], list[tuple[str, str]], list[str]]:
    """Calibrate a copy of a bundled case; return its folder, files by title, figures by title, and warnings."""
    from IntraopReconLib.core.calibrate_case import calibrate_case

    check_result_folder(case, _COPY_BYTES)
    shipped = (path for path in bundled.rglob("*") if path.relative_to(bundled).parts[0] not in _MADE)
    for file in sorted(path for path in shipped if path.is_file()):
        copy = case / file.relative_to(bundled)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    (case / "poses.json").unlink(missing_ok=True)  # of an earlier demo
    calibration = calibrate_case(case, report=report)
    grades = ", ".join(f"{count} {grade}" for grade, count in calibration.grades.items())
    lines = [("Poses from beads", grades), ("Source position", f"{_source_error_mm(case):.2g} mm off (median)")]
    return case, {"Calibration": calibration.paths["report_html"]}, lines, calibration.warnings


def _source_error_mm(case: Path) -> float:
    """Return the median distance between the calibrated and the true positions of the source."""
    from IntraopReconLib.core.calibration.poses import read_poses

    found, true = ({posed.image: posed.view.source_lps_mm for posed in read_poses(case / name)} for name in ("poses.json", _TRUE_POSES))
    return float(np.median([np.linalg.norm(found[image] - true[image]) for image in found]))


def _scene(out: Path, name: str, report: Callable[..., None]) -> tuple[dict[str, Path], list[str]]:
    """Make the scene and put pictures of it into the report; return the files by title, and what could not be done."""
    if importlib.util.find_spec("slicer") is None:
        return {}, ["The Slicer scene and its pictures were left out. To have them: pip install -e '.[host]'"]
    from IntraopReconLib.core.report import add_pictures
    from IntraopReconLib.host.ResultFolder import readResult
    from IntraopReconLib.host.ResultNodes import addResult
    from IntraopReconLib.host.Snapshot import pictureScene
    from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
    from SparseAnatomyLib.host.SceneFiles import saveScene

    report(0.86, "Building the Slicer scene")
    with quiet_vtk():
        headless = HeadlessScene()
        nodes = addResult(headless.scene, readResult(out), name)
        extras = {"Slicer scene": saveScene(headless.scene, out / "scene.mrb")}
        report(0.92, "Drawing pictures")
        try:
            pictures = pictureScene(headless, nodes, out / "pictures")
        except ResourceError as error:
            return extras, [str(error)]
    add_pictures(out, pictures)
    report(1.0, "Done")
    return {**extras, "Pictures": out / "pictures"}, []


def _share(report: Callable[..., None], start: float, end: float) -> Callable[..., None]:
    def report_part(fraction: float, message: str, preview: Any = None) -> None:
        report(start + (end - start) * fraction, message)

    return report_part


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
