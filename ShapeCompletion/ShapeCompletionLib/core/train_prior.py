"""From segmentations to a prior that knows how good it is: measured and calibrated on patients left out, then trained on all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.work_device import WorkDevice

from .calibration import Temperature, fit_temperature
from .config import EvaluationConfig, TrainingConfig
from .evaluate import Measured, measure_all, summary
from .meta_train import Training, train
from .prior import Prior, save_prior
from .prior_card import PriorCard
from .shapes import TrainingShape

Report = Callable[[float, str], None]
_MEASURING_SHARE = 0.15  # of the time of a fold
_USUAL = 0.05  # share of shapes of the prior's kind that fit it less than usual


@dataclass(frozen=True)
class PriorInfo:
    """What the card says besides what is measured."""

    title: str
    trained_on: str
    licence: str
    command: str


def train_prior(
    shapes: list[TrainingShape],
    out: Path,
    info: PriorInfo,
    config: TrainingConfig,
    evaluation: EvaluationConfig,
    report: Report,
    start: Prior | None = None,
    device: WorkDevice | None = None,
) -> Path:
    """Train a prior; a run that was killed goes on from the checkpoints in `OUT.training/`, and so does one with more steps than they have.

    They stay there until `remove_checkpoints`.

    The patients are split into folds; for each, a prior is trained on the others and measured on it. These measurements give the card's
    figures, the temperature and the usual evidence. The prior that is kept is then trained on all.

    Args:
        shapes: All structures.
        out: The prior's file, ending with `.pt`; its card comes beside it.
        info: For the card.
        config: Of the training.
        evaluation: Of the measurements.
        report: Told the fraction done.
        start: A prior whose residual network every training starts from; it must not know the patients.
        device: Where it is trained; measured and calibrated it is on the CPU, and there by default trained too.

    Raises:
        InputError: Too few patients for the folds.
    """
    folds = patient_folds(shapes, config.folds, config.seed)
    parts = len(folds) + 1
    work = _checkpoints(out)
    measured: list[Measured] = []
    for number, held_out in enumerate(folds):
        part = _part(report, number, parts)
        others = [shape for shape in shapes if shape.patient not in held_out]
        training = train(others, config, work / f"fold_{number}.pt", _scaled(part, 0, 1 - _MEASURING_SHARE), start, device)
        prior = _prior(training, out, info, Temperature(1.0, 0.0), -np.inf)
        test = _spread([shape for shape in shapes if shape.patient in held_out], config.measured_shapes // len(folds))
        measured += measure_all(prior, test, evaluation, _scaled(part, 1 - _MEASURING_SHARE, 1))
    temperature, usual = calibrated(measured)
    training = train(shapes, config, work / "all.pt", _part(report, len(folds), parts), start, device)
    prior = _prior(training, out, info, temperature, usual)
    card = replace(prior.card, figures=summary(measured, prior))
    path = save_prior(replace(prior, card=card), out)
    return path


def remove_checkpoints(out: Path) -> None:
    """Remove what the training of a prior can go on from; `out` as in `train_prior`."""
    folder = _checkpoints(out)
    for leftover in sorted(folder.glob("*.pt*")):
        leftover.unlink()
    with suppress(OSError):  # somebody keeps a file there
        folder.rmdir()


def _checkpoints(out: Path) -> Path:
    return out.with_suffix(".training")


def _spread(shapes: list[TrainingShape], most: int) -> list[TrainingShape]:
    """Return so many shapes at most, evenly over all of them."""
    places = np.unique(np.linspace(0, len(shapes) - 1, min(len(shapes), max(most, 1))).round().astype(int))
    return [shapes[place] for place in places]


def patient_folds(shapes: list[TrainingShape], folds: int, seed: int) -> list[set[str]]:
    """Split the patients into folds of about as many shapes each.

    Raises:
        InputError: Fewer patients than folds.
    """
    patients = sorted({shape.patient for shape in shapes}, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())
    folds = max(folds, 2)  # one fold would leave nobody to train on
    if len(patients) < folds:
        raise InputError(
            f"The segmentations are of {len(patients)} patients; {folds} are needed to measure the prior on patients that it "
            "was not trained on.",
            "Add segmentations of other patients.",
        )
    count = {name: sum(shape.patient == name for shape in shapes) for name in patients}
    result: list[set[str]] = [set() for _ in range(folds)]
    for name in sorted(patients, key=lambda name: -count[name]):  # stable: patients of as many shapes stay in their shuffled order
        min(result, key=lambda fold: sum(count[one] for one in fold)).add(name)
    return result


def calibrated(measured: list[Measured]) -> tuple[Temperature, float]:
    """Return the temperature that fits patients left out, and the evidence that all but one in twenty of their layouts exceed."""
    logits, distance, inside = (np.concatenate([getattr(one, key) for one in measured]) for key in ("logits", "distance", "inside"))
    return fit_temperature(logits, distance, inside), float(np.quantile([one.figures["evidence"] for one in measured], _USUAL))


def _prior(training: Training, out: Path, info: PriorInfo, temperature: Temperature, usual_evidence: float) -> Prior:
    card = PriorCard(
        name=out.stem,
        title=info.title,
        trained_on=info.trained_on,
        licence=info.licence,
        extent_mm=training.config.extent_mm,
        sha256="",
        seconds=round(training.cpu_s, 1),
        steps=training.steps,
        command=info.command + "".join(f", going on from --steps {steps}" for steps in reversed(training.earlier)),
    )
    inr = {name: value.detach().cpu() for name, value in training.inr.items()}
    return Prior(card, inr, training.average.eval().cpu(), temperature, usual_evidence)


def _part(report: Report, number: int, parts: int) -> Report:
    name = f"Fold {number + 1} of {parts - 1}" if number < parts - 1 else "All patients"
    return lambda fraction, message: report((number + fraction) / parts, f"{name}: {message}")


def _scaled(report: Report, first: float, last: float) -> Report:
    return lambda fraction, message: report(first + (last - first) * fraction, message)
