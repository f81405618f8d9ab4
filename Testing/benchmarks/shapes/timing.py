"""What a completion costs, stage by stage, beside the paper's pipeline and the baselines, in one warm process.

    python -m Testing.benchmarks.shapes.timing PREPARED TIMING.json

A vertebra in a cube of 128³ voxels of 1 mm, outlined on a sagittal plane every 8 mm. Everything runs once before it is measured. Weights do
not change what a step costs: where a method was not trained, those that it starts from are timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from ShapeCompletionLib.core import complete as complete_module
from ShapeCompletionLib.core.completion import Completion
from ShapeCompletionLib.core.config import CompletionConfig, TrainingConfig
from ShapeCompletionLib.core.cube import cube_view
from ShapeCompletionLib.core.inr import initialise
from ShapeCompletionLib.core.meta_train import Training
from ShapeCompletionLib.core.predict import predict
from ShapeCompletionLib.core.prior import Prior, load_prior
from ShapeCompletionLib.core.prior_card import available_priors
from ShapeCompletionLib.core.sampling import Context, context_from_labels
from ShapeCompletionLib.core.segmentation_file import read_segmentation
from ShapeCompletionLib.core.shapes import TrainingShape, load_shapes
from ShapeCompletionLib.core.surface import evaluate
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.mesh import mesh_from_field
from SparseAnatomyLib.resources import resource

from . import itk_contours
from .baselines import MAML, AutoDecoder, complete, naive
from .cases import AXES, Case, make_case
from .ours import prior_so_far
from .prepare import VERTEBRA_PATIENTS

RUNS, SLOW_RUNS = 20, 3
AUTO_DECODER_STEPS = 100
_PRIOR = "vertebra"

Row = dict[str, Any]


def measure_timing(shapes: list[TrainingShape], threads: int, runs: int = RUNS, slow_runs: int = SLOW_RUNS, voxel_mm: float = 1.0) -> Row:
    """Time everything on the first shape.

    Args:
        shapes: Of vertebrae.
        threads: Of every library.
        runs: Of what is fast.
        slow_runs: Of what is not.
        voxel_mm: Of the grid.

    Returns:
        `rows`, each with `name`, `runs`, medians `wall_ms` and `cpu_ms`; `stages` of ours with the same; `grid`, `shape`, `prior`.
    """
    torch.set_num_threads(threads)
    case = make_case(shapes[0], "sagittal", 8.0, 3, voxel_mm)
    drawn = tuple(one for one in case.slices if one.mask.any())
    context, (prior, origin) = Context(drawn, case.grid), _prior(shapes[0])
    ours = lambda: complete_module.complete(context, prior)  # noqa: E731
    plain = lambda: complete_module.complete(context, None, CompletionConfig("interpolate"))  # noqa: E731
    network = initialise(MAML.layers, MAML.width, MAML.first_omega, torch.Generator().manual_seed(0))
    decoder = AutoDecoder(shapes[:1], 0.0)
    rows = [
        timed("ours (slices to mesh, with confidence and next slice)", ours, runs),
        timed("interpolation (the same stages)", plain, runs),
        timed(
            "the paper's pipeline, 1 step on all pixels, every voxel, mesh",
            lambda: _meshed(naive(network, case.slices, case.grid), case),
            slow_runs,
        ),
        timed(
            f"auto-decoder, {AUTO_DECODER_STEPS} steps on 1,024 pixels, near the surface, mesh",
            lambda: _meshed(complete(decoder, case.view, case.grid, AUTO_DECODER_STEPS), case),
            slow_runs,
        ),
        _itk_row(case, threads, runs),
    ]
    return {"rows": rows, "stages": stages(ours, runs), "grid": list(case.grid.size_ijk), "shape": case.shape, "prior": origin}


def timed(name: str, work: Callable[[], Any], runs: int) -> Row:
    """Return the median wall and processor time of a piece of work, in ms, after one run that does not count."""
    work()
    wall, cpu = [], []
    for _ in range(runs):
        start = time.perf_counter(), time.process_time()
        work()
        wall.append(1e3 * (time.perf_counter() - start[0]))
        cpu.append(1e3 * (time.process_time() - start[1]))
    return {"name": name, "runs": runs, "wall_ms": float(np.median(wall)), "cpu_ms": float(np.median(cpu))}


def stages(work: Callable[[], Any], runs: int) -> list[Row]:
    """Return the median times of the stages of completions, in ms: wall, and from as many runs again by the processor's clock."""
    wall = [work().seconds for _ in range(runs)]
    with mock.patch.object(complete_module, "time", SimpleNamespace(perf_counter=time.process_time)):
        cpu = [work().seconds for _ in range(runs)]
    return [
        {
            "name": name,
            "wall_ms": 1e3 * float(np.median([one[name] for one in wall])),
            "cpu_ms": 1e3 * float(np.median([one[name] for one in cpu])),
        }
        for name in wall[0]
    ]


def seconds_on(device: str, runs: int = RUNS) -> Row:
    """Return what a completion of the sample vertebra takes on a device of PyTorch, in ms, medians of warm runs.

    Returns:
        `grid`; `occupancy_ms`, from the outlined slices to which voxels are inside, in the memory of the CPU; `mesh_ms`, to the surface
        with its confidence and the next slice, all checks included; and its stages, each named such as `prior ms`. A card goes on while
        the CPU does: what it has not done at the end of a stage counts to the next one.

    Raises:
        RuntimeError: The device failed.
    """
    context = context_from_labels(*read_segmentation(resource("SampleShapes") / "vertebra_slices.nrrd", 1))
    prior, choice = load_prior(_PRIOR), DeviceChoice(device, "torch", "Measured.")

    def occupancy() -> np.ndarray:
        view = cube_view(context.slices, prior.card.extent_mm, device)
        return evaluate(view, predict(prior, view).correction, context.grid)[0] > 0

    def whole() -> Completion:
        done = complete_module.complete(context, prior)
        if done.device != choice.sentence:
            raise RuntimeError(done.device)
        return done

    with mock.patch.object(complete_module, "choose_device", lambda wanted, say: choice):
        row = {"grid": " x ".join(map(str, context.grid.size_ijk)), "occupancy_ms": timed("", occupancy, runs)["wall_ms"]}
        done = [whole() for _ in range(runs + 1)][1:]
        row["mesh_ms"] = timed("", whole, runs)["wall_ms"]
    return row | {f"{stage} ms": 1e3 * float(np.median([one.seconds[stage] for one in done])) for stage in done[0].seconds}


def _meshed(logits: np.ndarray, case: Case) -> Any:
    return mesh_from_field(logits, case.grid, 0.0, keep_triangles=1.0)


def _itk_row(case: Case, threads: int, runs: int) -> Row:
    name = "ITK contour interpolation, no mesh"
    if not itk_contours.available():
        return {"name": name, "failure": f"needs {itk_contours.PACKAGE}"}
    _, wall_s, cpu_s = itk_contours.interpolate([case.sparse_labels] * runs, [AXES[case.kind]] * runs, threads)
    return {"name": name, "runs": runs, "wall_ms": 1e3 * float(np.median(wall_s)), "cpu_ms": 1e3 * float(np.median(cpu_s))}


def _prior(shape: TrainingShape) -> tuple[Prior, str]:
    """Return the prior that ships, or an untrained one of the same networks, and which of them it is."""
    try:
        if _PRIOR in [card.name for card in available_priors()]:
            return load_prior(_PRIOR), _PRIOR
    except InputError:
        pass
    prior = prior_so_far(Training([shape], TrainingConfig()))
    return replace(prior, usual_evidence=-np.inf), "untrained"


def main(prepared: Path, result: Path, threads: int) -> None:
    """Measure in this process and write the result."""
    shapes = load_shapes(prepared / "vertebra", 1, VERTEBRA_PATIENTS)
    result.write_text(json.dumps(measure_timing(shapes, threads)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
