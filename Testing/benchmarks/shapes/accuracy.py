"""The paper's tables on our data: accuracy of every method on patients held out, transfer to other anatomy, and what moving a shape costs.

Everything that learns is trained here, on the same shapes and for the same processor time, in this one process and on one thread.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ShapeCompletionLib.core.config import EvaluationConfig
from ShapeCompletionLib.core.evaluate import measure
from ShapeCompletionLib.core.layouts import SliceLayout
from ShapeCompletionLib.core.predict import predict
from ShapeCompletionLib.core.prior import Prior, load_prior
from ShapeCompletionLib.core.prior_card import PriorCard, available_priors
from ShapeCompletionLib.core.shapes import TrainingShape, load_shapes
from ShapeCompletionLib.core.surface import evaluate
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.metrics import dice, surface_distances

from . import itk_contours
from .baselines import AutoDecoder, Baseline, Convergence, ImplicitAlone, MetaLearned, Pretrained, Trained, near_surface
from .cases import AXES, Case, held_out_fold, make_case
from .ours import train_ours
from .prepare import VERTEBRA_PATIENTS
from .settings import DEFAULT, OURS, Settings

LAYOUTS = (("sagittal", 8.0), ("sagittal", 16.0), ("coronal", 8.0), ("axial", 8.0))
DETAILED = "sagittal 8 mm"  # at all steps and at convergence, as in the paper
STEPS = (1, 50, 100)
CONVERGED = "converged"
_PLANES = (SliceLayout("sagittal", 8.0, keep_empty=True), SliceLayout("axial", 8.0, keep_empty=True))
_SHIFT_MM, _TURN_DEG = 16.0, 45.0

Outcomes = Iterator[tuple[str, int, np.ndarray]]  # at which steps, how many these were, what is inside
Method = Callable[[Case], Outcomes]
Figures = dict[str, Any]


class Progress:
    """Results by name in a file, so that a run that was killed goes on where it was.

    Args:
        path: The file; of other settings, its content is not used.
        settings: Of this run.
        commit: Of the code.
    """

    def __init__(self, path: Path | None, settings: Settings, commit: str) -> None:
        self.path, self.settings = path, {**asdict(settings), "commit": commit}
        self.done: dict[str, Any] = {}
        if path is not None and path.exists():
            state = json.loads(path.read_text())
            self.done = state["done"] if state["settings"] == self.settings else {}

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result, computed unless it is in the file."""
        if name not in self.done:
            self.done[name] = compute()
            if self.path is not None:
                partial = self.path.with_name(f"{self.path.name}.partial")
                partial.write_text(json.dumps({"settings": self.settings, "done": self.done}))
                os.replace(partial, self.path)
        return self.done[name]


def measure_accuracy(prepared: Path, settings: Settings, chosen: Sequence[str] | None, progress: Progress) -> dict[str, Any]:
    """Measure all methods, transfer and robustness.

    Args:
        prepared: Folder that `prepare` wrote.
        settings: How.
        chosen: Methods of METHODS, and nothing but these; by default those of DEFAULT, and all else.
        progress: What is done already.

    Returns:
        `settings`, `fold`, `methods`, and where nothing was chosen `robustness`, `priors` and `transfer`.
    """
    torch.set_num_threads(1)
    shapes = load_shapes(prepared / "vertebra", 1, VERTEBRA_PATIENTS)
    training, held_out = held_out_fold(shapes, settings.folds, settings.seed)
    held_out = held_out[: settings.most_shapes]
    cases = make_cases(held_out, settings)
    result: dict[str, Any] = {
        "settings": asdict(settings),
        "fold": {"held_out": [one.name for one in held_out], "trained_on": [one.name for one in training]},
        "methods": [],
    }
    for name in chosen or DEFAULT:
        if name == OURS:
            found = progress.get(name, lambda: ours(training, held_out, cases, settings))
            result["methods"] += found["methods"]
            result["robustness"] = found["robustness"]
        else:
            result["methods"].append(progress.get(name, lambda name=name: one_method(name, training, cases, settings)))
    if not chosen:
        result["priors"] = prior_figures()
        result["transfer"] = progress.get("transfer", lambda: transfer(prepared, settings))
    return result


def make_cases(shapes: Sequence[TrainingShape], settings: Settings) -> list[Case]:
    """Return each shape on each of LAYOUTS, with another offset of the first plane for each shape."""
    return [
        make_case(shape, kind, spacing_mm, 5 * number + 3, settings.voxel_mm)
        for kind, spacing_mm in LAYOUTS
        for number, shape in enumerate(shapes)
    ]


def measure_method(method: Method, cases: Sequence[Case]) -> dict[str, dict[str, Figures]]:
    """Return the figures of a method by layout and steps: means and standard deviations over the cases."""
    found: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    for case in cases:
        for at, steps, inside in method(case):
            asd_mm = surface_distances(inside, case.truth, case.grid.spacing_mm).average_mm
            found.setdefault(case.layout, {}).setdefault(at, []).append((dice(inside, case.truth), asd_mm, steps))
    return {layout: {at: _means(values) for at, values in by_steps.items()} for layout, by_steps in found.items()}


def _means(values: list[tuple[float, float, int]]) -> Figures:
    dices, distances, steps = np.array(values).T
    missing = int((~np.isfinite(distances)).sum())
    return {
        "dice": float(dices.mean()),
        "dice_std": float(dices.std()),
        "asd_mm": float(distances.mean()) if not missing else None,  # a surface that is not there is no small error
        "steps": float(steps.mean()),
        "cases": len(values),
    }


def one_method(name: str, training: Sequence[TrainingShape], cases: Sequence[Case], settings: Settings) -> Figures:
    """Return the row of one method of METHODS; with `failure` where it cannot run."""
    try:
        method, trained = _MAKERS[name](training, cases, settings)
    except RuntimeError as error:
        return {"name": name, "failure": str(error)}
    return {"name": name, "trained": asdict(trained) if trained else None, "layouts": measure_method(method, cases)}


def ours(
    training: Sequence[TrainingShape], held_out: Sequence[TrainingShape], cases: Sequence[Case], settings: Settings
) -> dict[str, list[Figures]]:
    """Train ours once; return its rows, with and without refinement, and what moving shapes costs it."""
    prior, trained = train_ours(training, settings.budget_s, settings.seed)
    methods = {"ours, implicit network alone": gradual(ImplicitAlone(prior.inr, trained), settings), OURS: refined(prior)}
    rows = [{"name": name, "trained": asdict(trained), "layouts": measure_method(method, cases)} for name, method in methods.items()]
    return {"methods": rows, "robustness": robustness(prior, held_out)}


def gradual(baseline: Baseline, settings: Settings) -> Method:
    """Return what fits a trained network to a case step by step."""

    def outcomes(case: Case) -> Outcomes:
        fit, convergence, detailed = baseline.fit(case.view), Convergence(), case.layout == DETAILED
        wanted = STEPS if detailed else (STEPS[0], STEPS[-1])
        searching = detailed
        for step in range(1, max(settings.most_steps, STEPS[-1]) + 1):
            fit.step()
            converged = searching and (convergence.reached(fit.loss()) or step == settings.most_steps)
            if step in wanted or converged:
                inside = near_surface(fit.logits, case.view, case.grid) > 0
                if step in wanted:
                    yield str(step), step, inside
                if converged:
                    yield CONVERGED, step, inside
                    searching = False
            if step >= STEPS[-1] and not searching:
                return

    return outcomes


def refined(prior: Prior) -> Method:
    """Return what ships: the steps of the implicit network, then the residual network."""

    def outcomes(case: Case) -> Outcomes:
        for steps in STEPS if case.layout == DETAILED else (STEPS[0], STEPS[-1]):
            prediction = predict(prior, case.view, steps)
            yield str(steps), steps, evaluate(case.view, prediction.correction, case.grid)[0] > 0

    return outcomes


def _interpolation(training: Sequence[TrainingShape], cases: Sequence[Case], settings: Settings) -> tuple[Method, None]:
    return lambda case: iter([("1", 1, evaluate(case.view, None, case.grid)[0] > 0)]), None


def _itk(training: Sequence[TrainingShape], cases: Sequence[Case], settings: Settings) -> tuple[Method, None]:
    if not itk_contours.available():
        raise RuntimeError(f"needs {itk_contours.PACKAGE} (pip install -e '.[bench]')")
    filled, _, _ = itk_contours.interpolate([case.sparse_labels for case in cases], [AXES[case.kind] for case in cases])
    found = {id(case): inside for case, inside in zip(cases, filled, strict=True)}
    return lambda case: iter([("1", 1, found[id(case)])]), None


def _learned(train: Callable[..., Baseline], *arguments: str) -> Callable[..., tuple[Method, Trained]]:
    def make(training: Sequence[TrainingShape], cases: Sequence[Case], settings: Settings) -> tuple[Method, Trained]:
        baseline = train(training, settings.budget_s, settings.seed, *arguments)
        return gradual(baseline, settings), baseline.trained

    return make


_MAKERS: dict[str, Callable[..., tuple[Method, Trained | None]]] = {
    "interpolation": _interpolation,
    "ITK contours": _itk,
    "auto-decoder": _learned(AutoDecoder),
    "pre-trained": _learned(Pretrained),
    "MAML": _learned(MetaLearned, "maml"),
    "first-order MAML": _learned(MetaLearned, "fomaml"),
    "Meta-SGD": _learned(MetaLearned, "meta_sgd"),
}


def robustness(prior: Prior, shapes: Sequence[TrainingShape]) -> list[Figures]:
    """Return what ours and interpolation reach on shapes that were moved before they were cut, and on three planes."""
    shift = affine(np.eye(3), np.full(3, _SHIFT_MM / np.sqrt(3)))
    turns = [affine(Rotation.from_rotvec(np.radians(_TURN_DEG) * axis).as_matrix(), np.zeros(3)) for axis in np.eye(3)]
    moves = {"as they are": [np.eye(4)], f"shifted by {_SHIFT_MM:g} mm": [shift], f"turned by {_TURN_DEG:g}°": turns}
    rows = []
    for name, transforms in moves.items():
        configs = [EvaluationConfig(transform=tuple(map(tuple, matrix.tolist()))) for matrix in transforms]
        rows.append({"name": f"every 8 mm, {name}", **_mean_dice(prior, shapes, _PLANES, configs)})
    three = [SliceLayout("three", 8.0, offset_mm, keep_empty=True) for offset_mm in (-4.0, 0.0, 4.0)]
    return [*rows, {"name": "three planes", **_mean_dice(prior, shapes, three, [EvaluationConfig()])}]


def prior_figures() -> list[Figures]:
    """Return what the cards of the priors that ship say, measured on patients left out of their training."""
    keys = ("name", "title", "seconds", "steps", "figures")
    return [{key: getattr(card, key) for key in keys} for card in _cards()]


def transfer(prepared: Path, settings: Settings) -> list[Figures]:
    """Return what each prior that ships makes of anatomy that it never saw."""
    rows = []
    for card in _cards():
        prior = load_prior(card.name)
        for anatomy in _anatomies(prepared):
            if anatomy.name == card.name:
                continue
            shapes = load_shapes(anatomy, 1)[: settings.transfer_shapes]
            rows.append({"prior": card.name, "anatomy": anatomy.name, **_mean_dice(prior, shapes, _PLANES, [None])})
    return rows


def _anatomies(prepared: Path) -> list[Path]:
    folders = {path.parent for path in prepared.rglob("*.nrrd")}
    return sorted(
        folder for folder in folders if folder.relative_to(prepared).as_posix() != "abdomen/pancreas"
    )  # there is a pancreas already


def _mean_dice(
    prior: Prior, shapes: Sequence[TrainingShape], planes: Sequence[SliceLayout], configs: Sequence[EvaluationConfig | None]
) -> Figures:
    """Return the mean figures of `measure` over shapes, layouts and settings; where these are None, voxels grow with the shape."""
    found = []
    for shape in shapes:
        voxel_mm = max(1.0, 1.3 * float(shape.extent_mm.max()) / 128)
        for config in configs:
            found += [measure(prior, shape, "", layout, config or EvaluationConfig(voxel_mm=voxel_mm)) for layout in planes]
    figures = [one.figures for one in found if one is not None]
    keys = [key for key in figures[0] if key.startswith(("dice", "auto"))]
    return {**{key: float(np.mean([one[key] for one in figures])) for key in keys}, "shapes": len(shapes), "completions": len(figures)}


def _cards() -> list[PriorCard]:
    try:
        return available_priors()
    except InputError:
        return []


def main(prepared: Path, result: Path, progress: Path, request: dict[str, Any]) -> None:
    """Measure in this process and write the result."""
    settings = Settings(**request["settings"])
    found = measure_accuracy(prepared, settings, request["methods"], Progress(progress, settings, request["commit"]))
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), json.loads(sys.argv[4]))
