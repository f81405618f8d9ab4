"""`complete(context, prior, config)`: slices of a structure become the whole structure. The steps, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field
from SparseAnatomyLib.metrics import dice
from SparseAnatomyLib.work_device import WorkDevice

from .calibration import INTERPOLATION, Temperature
from .completion import Completion
from .config import CompletionConfig
from .context_check import check_context
from .cube import CubeView, cube_view
from .device import choose_device
from .next_slice import next_slice
from .predict import Prediction, predict
from .prior import Prior
from .refine import LOGITS_PER_VOXEL
from .sampling import MAX_VOXELS, Context
from .slice_voxels import beyond_images, impose_outlines
from .surface import SMALLEST_ISLAND, confidence_at, evaluate, reaches_border, whole_grid
from .trust import AGREEMENT, Verdict, judge

Report = Callable[[float, str], None]
_TELLING_VOXELS = 500  # of the cube inside the structure
_CUT_OFF = "The completed shape is cut off at the border of the result: outline the structure where it ends, or use larger voxels."


def complete(
    context: Context, prior: Prior | None = None, config: CompletionConfig | None = None, report: Report | None = None
) -> Completion:
    """Complete a structure from slices.

    Args:
        context: What is outlined, and the grid of the result, which grows where the shape reaches farther.
        prior: What is known of such structures; without one the slices are interpolated.
        config: How; `CompletionConfig()` by default.
        report: Told the fraction done and what is done; raises Cancelled to stop.

    Returns:
        The shape, its surface and how sure they are.

    Raises:
        InputError: The slices cannot be completed, or method `inr` has no prior.
        ResourceError: A graphics card is asked for that cannot be used.
        Cancelled: By `report`.
    """
    config, report = config or CompletionConfig(), _forward(report or _ignore)
    if config.method == "inr" and prior is None:
        raise InputError("The method inr needs a prior.", "Choose a prior, or the method auto or interpolate.")
    clock = _Clock()
    with clock("check"):
        warnings = check_context(context)
    device = WorkDevice(choose_device(config.device, lambda message: report(0.0, message)))
    done = device.run(lambda where: _completed(context, prior, config, report, clock, where), "the shape was completed")
    return replace(done, warnings=(*warnings, *done.warnings, *device.failures), device=device.sentence)


def _completed(context: Context, prior: Prior | None, config: CompletionConfig, report: Report, clock: _Clock, device: str) -> Completion:
    """Complete a structure on a device: all that PyTorch and the kernels of the cube compute. The rest is small, and done on the CPU."""
    report(0.1, "Reading the slices")
    with clock("interpolation"):
        extent_mm = prior.card.extent_mm if prior else float(np.ptp(context.grid.corners_lps_mm(), 0).max())
        view = cube_view(context.slices, extent_mm, device)
        view.field_and_distance  # noqa: B018  (timed here)
    prediction, verdict = None, Verdict(False, "No prior was chosen, so the slices were interpolated.", ())
    if prior is not None and config.method != "interpolate":
        report(0.3, "Fitting the prior")
        with clock("prior"):
            prediction = predict(prior, view, config.steps)
        with clock("trust"):
            verdict = judge(prior, view, prediction, config.method)
    elif config.method == "interpolate":
        verdict = Verdict(False, "Interpolation was asked for.", ())
    report(0.6, "Evaluating near the surface")
    used = prediction if verdict.use_prior else None
    with clock("surface"):
        grid, logits, distance = _on_grid(view, used, context)
        impose_outlines(view, logits, grid)
        if not (logits > 0).any():
            message = f"No voxel of {grid.spacing_mm.max():.2g} mm is inside the shape: it is smaller than the voxels of the result."
            raise InputError(message, "Use smaller voxels.")
        logits = _without_specks(logits, distance, float(grid.spacing_mm.max()) / 2 / view.voxel_mm)
    with clock("probability"):
        temperature = prior.temperature if prior is not None and used else INTERPOLATION
        probability = temperature.probability(logits, distance)
    report(0.8, "Making the surface")
    with clock("mesh"):
        mesh = mesh_from_field(*_around_shape(logits, grid), 0.0, keep_triangles=1.0)
        confidence = confidence_at(mesh.points_lps_mm, logits, distance, grid, temperature)
    with clock("next slice"):
        distance_mm = view.field_and_distance[1] * view.voxel_mm
        plane = next_slice(_in_cube(view, used, temperature), distance_mm, view.grid, context.slices, _reach_mm(view))
    agreement = _agreement(view, used, logits, grid)
    report(1.0, "Done")
    return Completion(
        grid=grid,
        probability=probability,
        mesh=mesh,
        confidence=confidence,
        method="inr" if used else "interpolate",
        reason=verdict.reason,
        prior=prior.card.name if prior is not None and used else None,
        agreement=agreement,
        evidence=prediction.evidence if prediction else None,
        next_slice=plane,
        warnings=(*verdict.warnings, *_disagreement(agreement), *_cut_off(logits)),
        seconds=clock.seconds,
    )


def _on_grid(view: CubeView, prediction: Prediction | None, context: Context) -> tuple[VoxelGrid, np.ndarray, np.ndarray]:
    """Return the grid of the result, the context's or one that holds more, and what `evaluate` returns there."""
    correction = prediction.correction if prediction else None
    logits, distance = evaluate(view, correction, context.grid)
    grid = whole_grid(logits, context.grid, _cube_logits(view, prediction), view.grid, MAX_VOXELS)
    if grid is context.grid:
        return grid, logits, distance
    logits, distance = evaluate(view, correction, grid)
    for flat in beyond_images(context.slices, grid):  # slices were cut to the smaller grid; what is not outlined in a plane is outside
        logits.ravel()[flat] = -np.abs(logits.ravel()[flat])
    return grid, logits, distance


def _without_specks(logits: np.ndarray, distance: np.ndarray, outlined: float) -> np.ndarray:
    """Return logits with what the network has put beside the shape outside, in place; what was outlined stays, however small.

    Args:
        logits: Of being inside, [k, j, i].
        distance: To the nearest slice, [k, j, i].
        outlined: Distance up to which a voxel counts as outlined.
    """
    boxes = ndimage.find_objects((logits > 0).view(np.uint8))
    if not boxes:
        return logits
    part = logits[boxes[0]]
    pieces, count = ndimage.label(part > 0, np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        speck = sizes < SMALLEST_ISLAND * sizes[1:].sum()
        speck[np.unique(pieces[distance[boxes[0]] <= outlined])] = False
        speck[0] = False
        part[speck[pieces]] *= -1
    return logits


def _around_shape(logits: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, VoxelGrid]:
    """Return the part of a field in which it is positive, with a voxel around it, and where its voxels lie."""
    boxes = ndimage.find_objects((logits > 0).view(np.uint8))
    if not boxes:
        return logits, grid
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in boxes[0])
    part = logits[box]
    first = np.array([one.start for one in box[::-1]], float)
    return part, VoxelGrid(part.shape[::-1], grid.spacing_mm, transform_points(grid.lps_from_ijk, first), grid.direction)


def _in_cube(view: CubeView, prediction: Prediction | None, temperature: Temperature) -> np.ndarray:
    """Return the calibrated probability over the cube, float32 [k, j, i]."""
    return temperature.probability(_cube_logits(view, prediction), view.field_and_distance[1])


def _cube_logits(view: CubeView, prediction: Prediction | None) -> np.ndarray:
    return LOGITS_PER_VOXEL * view.field_and_distance[0] if prediction is None else prediction.logits


def _agreement(view: CubeView, prediction: Prediction | None, logits: np.ndarray, grid: VoxelGrid) -> float:
    """Return the Dice coefficient of interpolation and completion: in the cube, or in the result where the cube is too coarse to tell."""
    if prediction is None:
        return 1.0
    interpolated = view.field_and_distance[0] > 0
    if interpolated.sum() >= _TELLING_VOXELS:
        return dice(prediction.logits > 0, interpolated)
    return dice(logits > 0, evaluate(view, None, grid)[0] > 0)


def _cut_off(logits: np.ndarray) -> tuple[str, ...]:
    return (_CUT_OFF,) if reaches_border(logits) else ()


def _disagreement(agreement: float) -> tuple[str, ...]:
    if agreement >= AGREEMENT:
        return ()
    return (
        f"The completed shape and plain interpolation agree in {100 * agreement:.0f} % only (Dice): much of the shape comes from the "
        "prior. Outline the suggested next slice to be surer.",
    )


def _reach_mm(view: CubeView) -> float:
    """Return half the smallest distance between slices of a stack: so far an outline tells something."""
    return max(float(view.interpolation.gaps_mm.min()) / 2, 2 * view.voxel_mm)


def _ignore(fraction: float, message: str) -> None:
    """Report to nobody."""


def _forward(report: Report) -> Report:
    """Return a report that never goes back: what failed on a card is done again."""
    told = 0.0

    def report_forward(fraction: float, message: str) -> None:
        nonlocal told
        told = max(told, fraction)
        report(told, message)

    return report_forward


@dataclass(frozen=True, eq=False)
class _Clock:
    """Wall time by stage."""

    seconds: dict[str, float]

    def __init__(self) -> None:
        object.__setattr__(self, "seconds", {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start
