"""The demo: a vertebra outlined on a few slices becomes whole, beside interpolation and the truth, with a Slicer scene and pictures."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ShapeCompletionLib.core.config import CompletionConfig
from SparseAnatomyLib.commandline import progress_bar
from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.resources import resource
from SparseAnatomyLib.vtk_messages import quiet_vtk

PRIOR, SLICES, WHOLE = "vertebra", "vertebra_slices.nrrd", "vertebra_whole.nrrd"
_FIGURES = (("dice", "Dice", ""), ("asd_mm", "Surface distance", " mm"))


def run_demo(out: Path) -> None:
    """Run it and print where everything is.

    Args:
        out: The result folder.

    Raises:
        InputError: The sample or the prior is missing, or the folder will not do.
        ResourceError: Memory or disk will not do.
    """
    slices, whole = sample_file(SLICES), sample_file(WHOLE, "Truth")
    from ShapeCompletionLib.core.pipeline import complete_file

    start_s = time.monotonic()
    plain = CompletionConfig(method="interpolate")
    with progress_bar() as report:
        complete_file(slices, out / "interpolation", None, 1, plain, lambda fraction, message: report(0.2 * fraction, message))
        paths = complete_file(slices, out, PRIOR, 1, CompletionConfig(), lambda fraction, message: report(0.2 + 0.4 * fraction, message))
        report(0.65, "Comparing with the whole vertebra")
        figures = {"interpolation": compare(out / "interpolation" / "shape.nrrd", whole), "completed": compare(paths["shape"], whole)}
        extras, notes = _scene(slices, out, report)
    for sentence in notes:
        print(f"Warning: {sentence}", file=sys.stderr)
    print(f"Sample vertebra, done in {time.monotonic() - start_s:.0f} s.")
    for key, title, unit in _FIGURES:
        print(f"  {title:17s} {figures['completed'][key]:.3f}{unit} (interpolation {figures['interpolation'][key]:.3f}{unit})")
    for title, path in {"Report": paths["report_json"], "Shape": paths["shape"], "Surface": paths["mesh_vtp"], **extras}.items():
        print(f"  {title:17s} {path}")


def sample_file(name: str, folder: str = "") -> Path:
    """Return a file of the sample, in the repository or in the installed extension.

    Raises:
        InputError: It is not there.
    """
    return resource("SampleShapes") / folder / name


def compare(shape: Path, whole: Path) -> dict[str, float]:
    """Return how close a shape is to the truth: `dice`, and `asd_mm`, the average distance of the surfaces.

    Args:
        shape: Label volume.
        whole: Label volume; it is looked up at the shape's voxels.

    Raises:
        InputError: One of them cannot be read.
    """
    import SimpleITK

    from SparseAnatomyLib.metrics import dice, surface_distances
    from SparseAnatomyLib.volumes import read_volume, sitk_image

    values, grid = read_volume(shape)
    truth = SimpleITK.Resample(sitk_image(*read_volume(whole)), sitk_image(values, grid), SimpleITK.Transform(), SimpleITK.sitkLinear)
    mask, inside = values > 0.5, SimpleITK.GetArrayFromImage(truth) > 0.5
    return {"dice": dice(mask, inside), "asd_mm": surface_distances(mask, inside, np.asarray(grid.spacing_mm)).average_mm}


def _scene(slices: Path, out: Path, report: Callable[..., None]) -> tuple[dict[str, Path], list[str]]:
    """Make the scene and pictures of it; return the files by title, and what could not be done."""
    if importlib.util.find_spec("slicer") is None:
        return {}, ["The Slicer scene and its pictures were left out. To have them: pip install -e '.[host]'"]
    from ShapeCompletionLib.host.CompletionFolder import readCompletion
    from ShapeCompletionLib.host.CompletionNodes import showCompletion
    from ShapeCompletionLib.host.Samples import loadSample
    from ShapeCompletionLib.host.Snapshot import pictureCompletion
    from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
    from SparseAnatomyLib.host.SceneFiles import saveScene

    report(0.7, "Building the Slicer scene")
    with quiet_vtk():
        headless = HeadlessScene()
        source, segment = loadSample(headless.scene, slices)
        nodes = showCompletion(headless.scene, readCompletion(out), source, segment)
        extras = {"Slicer scene": saveScene(headless.scene, out / "scene.mrb")}
        report(0.8, "Drawing pictures")
        try:
            pictureCompletion(headless, nodes, out / "pictures")
        except ResourceError as error:
            return extras, [str(error)]
    report(1.0, "Done")
    return {**extras, "Pictures": out / "pictures"}, []
