"""The demo: the bundled X-rays become a bone volume, a surface, a report with pictures and a Slicer scene, measured against the CT."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IntraopReconLib.core.config import Quality, ReconstructionConfig
from SparseAnatomyLib.commandline import progress_bar
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.vtk_messages import quiet_vtk

_FIGURES = (("psnr_3d_db", "PSNR-3D", "dB"), ("ssim_3d", "SSIM-3D", ""), ("dice", "Dice of bone", ""), ("asd_mm", "Surface distance", "mm"))


def run_demo(name: str, out: Path, quality: Quality) -> None:
    """Run it and print where everything is.

    Args:
        name: Of a sample case.
        out: The result folder.
        quality: Effort.

    Raises:
        InputError: The sample case is missing, or the folder will not do.
        ResourceError: Memory or disk will not do.
    """
    case = sample_case(name)
    from IntraopReconLib.core.evaluate import evaluate
    from IntraopReconLib.core.pipeline import reconstruct_case
    from SparseAnatomyLib.provenance import result_warnings

    start_s = time.monotonic()
    with progress_bar() as report:
        paths = reconstruct_case(case, out, ReconstructionConfig(quality=quality), _share(report, 0.8))
        report(0.82, "Comparing with the CT")
        metrics = evaluate(out, case / "ground_truth.nrrd")
        extras, notes = _scene(out, name, report)
    for sentence in (*result_warnings(paths), *notes):
        print(f"Warning: {sentence}", file=sys.stderr)
    print(f"Sample case {name}: {len(list((case / 'xrays').iterdir()))} X-rays, done in {time.monotonic() - start_s:.0f} s.")
    for key, title, unit in _FIGURES:
        print(f"  {title:17s} {_figure(metrics.get(key))} {unit}".rstrip())
    places = {"Report": paths["report_html"], "Bone volume": paths["volume"], "Bone surface": paths["mesh_stl"], **extras}
    for title, path in places.items():
        print(f"  {title:17s} {path}")


def sample_case(name: str) -> Path:
    """Return the folder of a bundled case, in the repository or in the installed extension.

    Raises:
        InputError: It is not there.
    """
    package = Path(__file__).resolve().parent
    for root in (package.parents[1], package.parent):
        folder = root / "Resources" / "SampleCase" / name
        if folder.is_dir():
            return folder
    raise InputError(f"The sample case {name} is not installed.", "Run the demo from a checkout of the repository.")


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


def _share(report: Callable[..., None], share: float) -> Callable[..., None]:
    def report_part(fraction: float, message: str, preview: Any = None) -> None:
        report(share * fraction, message)

    return report_part


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
