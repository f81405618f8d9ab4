"""How well a prior does on structures that are known whole, beside interpolation: slices are laid through them, and all is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice, surface_distances

from .augment import unwarped
from .calibration import NEAR_LOGIT, expected_calibration_error
from .config import EvaluationConfig
from .cube import CubeView, cube_view
from .layouts import SliceLayout, outline
from .predict import Prediction, predict
from .prior import Prior, load_prior
from .shapes import TrainingShape, load_shapes
from .surface import evaluate
from .trust import judge

Report = Callable[[float, str], None]
_OBLIQUE_LPS = (0.48, 0.6, 0.64)
_SAMPLED_VOXELS = 2_000  # of a case, for calibration


@dataclass(frozen=True, eq=False)
class Measured:
    """One structure on one layout.

    Attributes:
        shape, patient, layout: Which.
        figures: Dice, ASD in mm, by method, evidence, and which method `auto` took.
        logits, distance, inside: Of voxels near the surface, [n], for calibration.
    """

    shape: str
    patient: str
    layout: str
    figures: dict[str, float]
    logits: np.ndarray
    distance: np.ndarray
    inside: np.ndarray


def layouts(config: EvaluationConfig) -> Iterator[tuple[str, SliceLayout]]:
    """Yield the layouts to measure, named such as "axial 8 mm"; each direction and spacing comes with several offsets."""
    for spacing_mm in config.spacings_mm:
        for kind in ("axial", "coronal", "sagittal", "oblique"):
            normal = _OBLIQUE_LPS if kind == "oblique" else None
            for offset_mm in np.arange(0.0, spacing_mm, config.offset_step_mm):
                yield f"{kind} {spacing_mm:g} mm", SliceLayout(kind, spacing_mm, float(offset_mm), normal, keep_empty=config.keep_empty)
    if config.three_planes:
        for offset_mm in (-4.0, 0.0, 4.0):
            yield "three planes", SliceLayout("three", config.spacings_mm[0], offset_mm, None, keep_empty=config.keep_empty)


def measure(prior: Prior, shape: TrainingShape, name: str, layout: SliceLayout, config: EvaluationConfig) -> Measured | None:
    """Complete one structure from one layout; None where a layout misses it.

    Args:
        prior: To be measured.
        shape: Known whole.
        name: Of the layout.
        layout: The planes.
        config: How it is measured.
    """
    known = unwarped(shape, None if config.transform is None else np.array(config.transform))
    room = np.full(3, max(prior.card.extent_mm, 1.3 * float(shape.extent_mm.max())))
    slices = outline(layout, np.zeros(3), room, known.signed_distance, config.pixel_mm)
    if not any(one.mask.any() for one in slices):
        return None
    view = cube_view(slices, prior.card.extent_mm)
    prediction = predict(prior, view, config.steps)
    grid = VoxelGrid.box(np.zeros(3), room, max(config.voxel_mm, float(room.max()) / config.most_voxels))
    truth = known.signed_distance(grid.points_lps_mm().reshape(-1, 3)).reshape(grid.shape_kji) > 0
    return Measured(shape.name, shape.patient, name, *_figures(prior, view, prediction, grid, truth, config))


def _figures(
    prior: Prior, view: CubeView, prediction: Prediction, grid: VoxelGrid, truth: np.ndarray, config: EvaluationConfig
) -> tuple[dict[str, float], np.ndarray, np.ndarray, np.ndarray]:
    plain, _ = evaluate(view, None, grid)
    logits, distance = evaluate(view, prediction.correction, grid)
    figures = {
        "dice interpolate": dice(plain > 0, truth),
        "dice inr": dice(logits > 0, truth),
        "evidence": prediction.evidence,
    }
    if np.isfinite(prior.usual_evidence):  # not while the prior is being trained
        use_prior = judge(prior, view, prediction, "auto").use_prior
        figures["dice auto"] = figures["dice inr" if use_prior else "dice interpolate"]
        figures["auto took inr"] = float(use_prior)
    if config.surface_distances:
        for method, values in (("interpolate", plain), ("inr", logits)):
            figures[f"asd_mm {method}"] = surface_distances(values > 0, truth, grid.spacing_mm).average_mm
    # Chosen without a look at the truth: adding what is wrong elsewhere would make any prediction look overconfident.
    near = np.flatnonzero(np.abs(logits) < NEAR_LOGIT)
    chosen = near[np.random.default_rng(0).integers(len(near), size=_SAMPLED_VOXELS)] if len(near) else near
    return figures, logits.ravel()[chosen], distance.ravel()[chosen], truth.ravel()[chosen]


def summary(measured: list[Measured], prior: Prior) -> dict[str, dict[str, float]]:
    """Return the mean figures by layout, with the calibration error near the surface.

    Args:
        measured: Of several structures and layouts.
        prior: Whose temperature counts.
    """
    result = {}
    for layout in dict.fromkeys(one.layout for one in measured):
        rows = [one for one in measured if one.layout == layout]
        means = {key: float(np.mean([row.figures[key] for row in rows])) for key in rows[0].figures}
        logits, distance, inside = (np.concatenate([getattr(row, key) for row in rows]) for key in ("logits", "distance", "inside"))
        means["calibration error"] = expected_calibration_error(prior.temperature.probability(logits, distance), inside)
        result[layout] = means | {"shapes": float(len({row.shape for row in rows})), "completions": float(len(rows))}
    return result


def evaluate_prior(folder: Path, prior_path: Path | str, config: EvaluationConfig, label: int, report: Report) -> dict[str, Any]:
    """Measure a prior on the segmentations of a folder.

    Args:
        folder: With label volumes of whole structures, of patients that the prior was not trained on.
        prior_path: The prior, or the name of one that ships.
        config: How.
        label: Of the structure.
        report: Told the fraction done.

    Returns:
        `prior`, `shapes` and, by layout, mean figures.

    Raises:
        InputError: No segmentation, or no such prior.
    """
    prior = load_prior(prior_path)
    shapes = load_shapes(folder, label)
    measured = measure_all(prior, shapes, config, report)
    if not measured:
        raise InputError(f"No layout of slices meets the structures in {folder}.", "Give smaller spacings.")
    return {"prior": prior.card.name, "shapes": [shape.name for shape in shapes], "layouts": summary(measured, prior)}


def measure_all(prior: Prior, shapes: list[TrainingShape], config: EvaluationConfig, report: Report) -> list[Measured]:
    """Measure a prior on all structures and layouts; arguments as in `evaluate_prior`."""
    cases = [(shape, name, layout) for shape in shapes for name, layout in layouts(config)]
    measured = []
    for number, (shape, name, layout) in enumerate(cases):
        report(number / len(cases), f"Measuring {shape.name}, {name}")
        one = measure(prior, shape, name, layout, config)
        if one is not None:
            measured.append(one)
    report(1.0, "Measured")
    return measured
