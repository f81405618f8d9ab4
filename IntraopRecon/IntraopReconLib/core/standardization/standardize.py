"""Real X-rays become images of bone alone, each with what was taken away, how sure that is, and what is odd about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from IntraopReconLib.core.calibration.inpaint import fill
from IntraopReconLib.core.calibration_config import InpaintSettings
from IntraopReconLib.core.reconstruction import Report, silent
from IntraopReconLib.core.standardization_config import StandardizationConfig
from IntraopReconLib.core.xrays.radiograph import MeasuredView

from .classical import ClassicalStandardizer
from .standardizer import Standardizer
from .trust import Finding, find_oddities, uncertainty, unsure, use_of


@dataclass(frozen=True, eq=False)
class StandardizedView:
    """One X-ray before and after.

    Attributes:
        original: As it was measured, beads taken out.
        view: What a reconstruction uses: attenuation of bone, with the mask carried along less the rim of the field; the original where
            nothing could be made of it.
        used: `network`, `classical`, or `original`.
        uncertainty: Standard deviation over several looks, in attenuation, float32 [row, column]; 0 for an original.
        findings: What is odd, the gravest first.
    """

    original: MeasuredView
    view: MeasuredView
    used: str
    uncertainty: np.ndarray
    findings: tuple[Finding, ...]

    @property
    def difference(self) -> np.ndarray:
        """What was taken away: attenuation before less that after, float32 [row, column]; 0 outside the mask."""
        return np.where(self.view.mask, self.original.attenuation - self.view.attenuation, 0).astype(np.float32)

    @property
    def sentences(self) -> list[str]:
        """The findings for the user, with the name of the view."""
        return [f"{self.original.name}: {finding.reason}" for finding in self.findings]


def standardize_views(
    views: Sequence[MeasuredView], standardizer: Standardizer, config: StandardizationConfig | None = None, report: Report = silent
) -> list[StandardizedView]:
    """Standardize X-rays, one by one.

    An image that is not as the standardizer expects is standardized without a network or left as it is, and says why: nothing is made up.

    Args:
        views: Calibrated X-rays, beads taken out.
        standardizer: Learned or not.
        config: Thresholds.
        report: Told about the progress; may raise Cancelled.

    Returns:
        One a view, in the same order.
    """
    config = config or StandardizationConfig()
    done = []
    for number, view in enumerate(views):
        report(number / len(views), f"Standardizing X-ray {number + 1} of {len(views)}")
        done.append(_standardized(view, standardizer, config))
    return done


def _standardized(original: MeasuredView, standardizer: Standardizer, config: StandardizationConfig) -> StandardizedView:
    findings = find_oddities(original, config.trust, config.classical)
    view, use = _without_graphics(original), use_of(findings)
    if use == "original":
        return StandardizedView(original, view, "original", np.zeros(view.mask.shape, np.float32), tuple(findings))
    classical = ClassicalStandardizer(config.classical)
    chosen = classical if use == "classical" else standardizer
    pixel_mm = float(view.geometry.pixel_pitch_mm.mean())
    seen = replace(view, mask=view.mask | (view.attenuation != 0))  # beads and letters were filled in: no standardizer trips over the holes
    bone, spread = chosen.bone(seen.attenuation, seen.mask, pixel_mm), uncertainty(chosen, seen, config.trust)
    if chosen.name != classical.name and (doubts := unsure(chosen.name, bone, spread, view.mask, config.trust)):
        findings, chosen = [*doubts, *findings], classical
        bone, spread = chosen.bone(seen.attenuation, seen.mask, pixel_mm), uncertainty(chosen, seen, config.trust)
    inside = _without_rim(view.mask, config.rim_mm / pixel_mm)
    kept = replace(view, attenuation=np.where(inside, bone, 0).astype(np.float32), mask=inside)
    return StandardizedView(original, kept, chosen.name, np.where(inside, spread, 0).astype(np.float32), tuple(findings))


def _without_rim(mask: np.ndarray, width_px: float) -> np.ndarray:
    """Take the rim of the field away, where a collimator half covers the beam and looks like bone; holes within stay as they are."""
    outside = np.pad(np.zeros_like(mask), 1, constant_values=True)
    outside = ndimage.binary_propagation(outside, mask=~np.pad(mask, 1))[1:-1, 1:-1]
    return mask & (ndimage.distance_transform_edt(~outside) > width_px) if outside.any() else mask


def _without_graphics(view: MeasuredView) -> MeasuredView:
    """Take letters out of the image and of its mask."""
    graphics = None if view.stored is None else view.stored.graphics
    if graphics is None:
        return view
    filled = fill(view.attenuation, view.mask | graphics, graphics, InpaintSettings())
    return replace(view, attenuation=filled.astype(np.float32), mask=view.mask & ~graphics)
