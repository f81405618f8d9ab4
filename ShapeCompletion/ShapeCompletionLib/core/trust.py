"""Whether the prior is to be believed: by the evidence of the slices, and by slices that it was not shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice

from .config import Method
from .cube import CubeView
from .interpolate import interpolation_field
from .predict import Prediction, predict
from .prior import Prior
from .sampling import Slice
from .surface import evaluate

# Of interpolation's error on slices left out. Those are twice as far from their neighbors as slices are, and there a prior gains more
# than it will: one that is no more than a little better there would do harm.
_LARGEST_ERROR_SHARE = 0.65
_SMALLEST_SHARE = 0.1  # of the edge of what the prior looks at; six of its voxels show no detail
AGREEMENT = 0.8  # Dice of completion and interpolation below which the prior has made much of the shape


@dataclass(frozen=True)
class Verdict:
    """Whether to use the prior, a sentence why, and what the clinician should know."""

    use_prior: bool
    reason: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """Dice coefficients on slices that were left out, of the prior and of interpolation."""

    prior: float
    interpolation: float
    slices: int


def judge(prior: Prior, view: CubeView, prediction: Prediction, method: Method) -> Verdict:
    """Decide on the prior.

    Slices as probable as the prior's own kind usually makes them are enough, where they show more than a speck (nearly all points of which
    are far outside, which is easy to explain) and where the prior, if it makes much else of them than interpolation does, predicts slices
    left out no worse. Otherwise every second slice is left out and predicted from the others, by the prior and by interpolation, and the
    prior is used if it is clearly better; where too few slices are there for that, interpolation.

    Args:
        prior: What was used.
        view: The slices.
        prediction: What it made of them.
        method: `auto` decides; `inr` warns at most.
    """
    title = prior.card.title
    small = _is_small(view)
    if prediction.evidence >= prior.usual_evidence and not small:
        return _of_a_fit(prior, view, prediction, method)
    unusual = f"The slices are unlike what the prior {title} was trained on"
    if small:
        unusual = f"The structure is too small for the prior {title}, which looks at {view.grid.extent_mm[0]:.0f} mm"
    test = predict_left_out(prior, view)
    if method == "inr":
        worse = test is not None and test.prior < test.interpolation
        return Verdict(True, "The prior was asked for.", (f"{unusual}{', and interpolation explains them better' if worse else ''}.",))
    if test is None:
        return Verdict(False, f"{unusual}, so they were interpolated.", (f"{unusual}: the prior was not used.",))
    figures = _figures(test)
    if 1 - test.prior < _LARGEST_ERROR_SHARE * (1 - test.interpolation):
        return Verdict(True, f"{unusual}, but it helps: {figures}.", ())
    return Verdict(False, f"{unusual}: {figures}, so they were interpolated.", (f"{unusual}: the prior was not used.",))


def _of_a_fit(prior: Prior, view: CubeView, prediction: Prediction, method: Method) -> Verdict:
    """Decide on a prior that the slices fit: where it says something else than interpolation, slices left out must not deny it."""
    fits = f"The slices fit the prior {prior.card.title}"
    if method == "inr" or dice(prediction.logits > 0, view.field_and_distance[0] > 0) >= AGREEMENT:
        return Verdict(True, f"{fits}.", ())
    test = predict_left_out(prior, view)
    if test is None or test.prior >= test.interpolation:
        return Verdict(True, f"{fits}.", ())
    return Verdict(
        False, f"{fits}, but {_figures(test)}, so they were interpolated.", (f"{fits} but it predicts them badly: it was not used.",)
    )


def _figures(test: HeldOut) -> str:
    return f"on {test.slices} slices left out, the prior reaches a Dice of {test.prior:.2f}, interpolation {test.interpolation:.2f}"


def _is_small(view: CubeView) -> bool:
    """Tell whether what is outlined takes a small part of what the prior looks at, along two of the patient's axes or all three."""
    field = view.interpolation
    inside = field.pixel_centers_lps_mm(np.flatnonzero(field.distances_mm > 0))
    return bool(np.median(np.ptp(inside, 0)) < _SMALLEST_SHARE * view.grid.extent_mm[0])


def predict_left_out(prior: Prior, view: CubeView) -> HeldOut | None:
    """Leave out every second inner slice of each stack and predict it from the rest; None where either shows nothing."""
    field = view.interpolation
    left_out = [n for n in range(1, len(field.slices) - 1) if _is_inner(field.stacks, n)]
    kept = tuple(one for n, one in enumerate(field.slices) if n not in left_out)
    if not any(field.slices[n].mask.any() for n in left_out) or not any(one.mask.any() for one in kept):
        return None
    rest = CubeView(view.grid, interpolation_field(kept, view.device), view.device)
    correction = predict(prior, rest).correction
    seen, by_prior, by_interpolation = [], [], []
    for n in left_out:
        grid = _grid_of(field.slices[n])
        seen.append(field.slices[n].mask.ravel())
        by_prior.append(evaluate(rest, correction, grid)[0].ravel() > 0)
        by_interpolation.append(evaluate(rest, None, grid)[0].ravel() > 0)
    truth = np.concatenate(seen)
    return HeldOut(dice(np.concatenate(by_prior), truth), dice(np.concatenate(by_interpolation), truth), len(left_out))


def _is_inner(stacks: np.ndarray, n: int) -> bool:
    """Tell whether a slice stands at an odd place of its stack, between two others."""
    first = int(np.searchsorted(stacks, stacks[n]))
    return (n - first) % 2 == 1 and stacks[n - 1] == stacks[n] == stacks[n + 1]


def _grid_of(one: Slice) -> VoxelGrid:
    """Return the slice's pixels as a grid of one layer."""
    column, row = one.pixel_spacing_mm
    direction = np.stack([one.column_step_lps_mm / column, one.row_step_lps_mm / row, one.normal_lps], 1)
    return VoxelGrid((*one.mask.shape[::-1], 1), np.array([column, row, 1.0]), one.origin_lps_mm, direction)
