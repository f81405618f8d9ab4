"""What refined poses say about the shots: a patient who moved between two of them, poses that were far off, X-rays that fit no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_RUN = 3  # views on either side of a step
LEAST_STEP_MM, LEAST_STEP_DEG = 1.0, 0.7
SURE_OF_STEP = 7.5  # F statistic above which all views from one on were shifted; random corrections reach it once in some hundred cases
SURE_OF_RUN = 12.0  # of a run that ends before the last view: there are more of them
FAR_OFF = 5.0  # times what was expected of a pose


@dataclass(frozen=True, eq=False)
class PatientMotion:
    """A rigid motion between shots.

    Attributes:
        views: The shots that lie apart from the others, in order, [n].
        shift_mm: By how much, at the center of the region.
        turn_deg: And how far turned.
    """

    views: np.ndarray
    shift_mm: float
    turn_deg: float


def alone(corrections: np.ndarray, sigma_mm: np.ndarray) -> np.ndarray:
    """Return which views' corrections, [view, 6], lie far from those of all others but one: blunders, no patient's motion."""
    shifts = corrections[:, 3:]
    distances = np.sort(np.linalg.norm(shifts[:, None] - shifts, axis=-1), axis=1)
    return distances[:, LEAST_RUN - 1] > FAR_OFF * sigma_mm


def find_motion(corrections: np.ndarray, beams: np.ndarray, used: np.ndarray) -> PatientMotion | None:
    """Look for a run of views whose corrections share a step, in the order of the shots.

    Every run is held against the hypothesis of none: an F test of one shift (or one turn) of the run's corrections, shifts along the beam
    left out, which images hardly show.

    Args:
        corrections: Rotation vectors (radians) and shifts (mm), [view, 6].
        beams: Directions of the views' beams, [view, 3].
        used: Which corrections can be believed, bool [view].

    Returns:
        The smaller part of the views that moved against the rest, or None.
    """
    across = np.eye(3) - beams[:, :, None] * beams[:, None, :]
    whole = np.broadcast_to(np.eye(3), across.shape)
    shots = np.flatnonzero(used)
    best, found = 1.0, None
    for first in range(LEAST_RUN, len(shots)):
        for end in range(first + LEAST_RUN, len(shots) + 1):
            run = shots[first:end]
            if len(shots) - len(run) < LEAST_RUN:
                continue
            inside = np.isin(np.arange(len(used)), run)
            shift, shift_f = _step(corrections[:, 3:], across, inside, used)
            turn, turn_f = _step(corrections[:, :3], whole, inside, used)
            shift_mm, turn_deg = float(np.linalg.norm(shift)), float(np.rad2deg(np.linalg.norm(turn)))
            sure = SURE_OF_STEP if end == len(shots) else SURE_OF_RUN
            score = max(shift_f * (shift_mm > LEAST_STEP_MM), turn_f * (turn_deg > LEAST_STEP_DEG)) / sure
            if score > best:
                smaller = run if 2 * len(run) <= len(shots) else np.setdiff1d(shots, run)
                best, found = score, PatientMotion(smaller, shift_mm, turn_deg)
    return found


def _step(vectors: np.ndarray, across: np.ndarray, inside: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the step between the views inside a run and those outside, as `across` [view, 3, 3] sees vectors [view, 3], and its F."""

    def mean(part: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the mean of a part's vectors, and the sum of squares that it leaves."""
        seen = np.einsum("vij,vj->vi", across[part], vectors[part])
        value = np.linalg.lstsq(across[part].sum(0), seen.sum(0), rcond=None)[0]
        return value, float(((seen - np.einsum("vij,j->vi", across[part], value)) ** 2).sum())

    (within, left_within), (beyond, left_beyond), (_, left) = mean(inside), mean(used & ~inside), mean(used)
    remaining = left_within + left_beyond
    freedom = max(float(np.trace(across[used].sum(0))) - 6, 1.0)
    return within - beyond, (left - remaining) / 3 / max(remaining / freedom, 1e-12)


def sentences(
    names: Sequence[str], corrections: np.ndarray, sigma_mm: np.ndarray, left_out: np.ndarray, moved: PatientMotion | None
) -> list[str]:
    """Say what was found, for the user.

    Args:
        names: Of the views, in the order of the shots.
        corrections: Rotation vectors (radians) and shifts (mm) that remain when the patient's motion is taken away, [view, 6].
        sigma_mm: Expected error of the calibrated poses, [view].
        left_out: Views that fit no others, bool [view].
        moved: The patient's motion.
    """
    found = []
    for index in np.flatnonzero(left_out):
        found.append(
            f"{names[index]} was left out: the other X-rays do not explain it, wherever it is placed near its pose. It may be of another "
            "patient or its pose may be wrong; check it or calibrate it again."
        )
    shifts = np.linalg.norm(corrections[:, 3:], axis=1)
    for index in np.flatnonzero(~left_out & (shifts > FAR_OFF * sigma_mm)):
        found.append(f"The pose of {names[index]} was off by {shifts[index]:.0f} mm; it was corrected. Check its calibration.")
    if moved is not None:
        found.append(_motion_sentence(names, np.flatnonzero(~left_out), moved))
    return found


def _motion_sentence(names: Sequence[str], shots: np.ndarray, moved: PatientMotion) -> str:
    """Say between which of the shots the patient moved."""
    apart = np.isin(shots, moved.views)
    steps = [f"{names[shots[n]]} and {names[shots[n + 1]]}" for n in np.flatnonzero(apart[1:] != apart[:-1])]
    which = ", ".join(names[index] for index in moved.views)
    return (
        f"The patient seems to have moved between {', and again between '.join(steps)}: these X-rays lie {moved.shift_mm:.1f} mm and "
        f"{moved.turn_deg:.1f} degrees from the others: {which}. The poses were corrected for it; coordinates are those of the others."
    )
