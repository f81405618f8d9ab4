"""The views of a case, standardized where they are X-rays, and what is to be told about that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from SparseAnatomyLib.work_device import WorkDevice

from .case import Case
from .config import Standardize
from .device import choose_standardizer_device
from .reconstruction import Report, silent
from .standardization.choice import Chosen, Decision, choose, decide
from .standardization.standardize import StandardizedView, standardize_views
from .standardization.trust import noise_of
from .standardization_config import StandardizationConfig
from .xrays.radiograph import MeasuredView

QUIET_KINDS = ("bare", "computed")  # findings that call for nothing


@dataclass(frozen=True, eq=False)
class Standardization:
    """What was done with the views of a case.

    Attributes:
        decision: Whether they were standardized, and why.
        chosen: By what; None if they were not.
        views: Before and after, in the order of the case's views; none if they were not.
        seconds: Wall time.
        warnings: Sentences for the user.
    """

    decision: Decision
    chosen: Chosen | None
    views: list[StandardizedView]
    seconds: float
    warnings: list[str]

    @property
    def device(self) -> str | None:
        """Where the network ran, and why, in one sentence; None without a network."""
        return None if self.chosen is None or self.chosen.device is None else self.chosen.device.sentence

    def to_json(self) -> dict[str, Any]:
        """Return what reports say about it, JSON-ready but for numpy."""
        return {
            "applies": self.decision.applies,
            "reason": self.decision.reason,
            "method": None if self.chosen is None else self.chosen.standardizer.name,
            "weights_sha256": None if self.chosen is None else self.chosen.weights_sha256,
            "device": self.device,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            "views": [view_data(view) for view in self.views],
        }


def standardized_case(case: Case, asked: Standardize, config: StandardizationConfig | None = None, report: Report = silent) -> Case:
    """Return the case with standardized views, or with those it has, and in both cases with what is to be told about that.

    Args:
        case: As `load_case` returned it: beads taken out, distortion corrected.
        asked: `auto` leaves computed images as they are.
        config: By what, and thresholds.
        report: Told about the progress; may raise Cancelled.

    Raises:
        InputError: The network is asked for by name and cannot be had.
        ResourceError: A graphics card is asked for that cannot be used.
    """
    config, started = config or StandardizationConfig(), time.perf_counter()
    decision = decide(case.views, asked, config)
    if not decision.applies:
        warnings = [] if asked == "off" else _reversed(case.views, config)
        done = Standardization(decision, None, [], time.perf_counter() - started, warnings)
        return replace(case, warnings=[*case.warnings, *warnings], standardization=done)
    chosen = _placed(choose(config), config, report)
    views = standardize_views(case.views, chosen.standardizer, config, report)
    failures = chosen.device.failures if chosen.device else []
    warnings = [*([chosen.warning] if chosen.warning else []), *failures, *finding_sentences(views)]
    done = Standardization(decision, chosen, views, time.perf_counter() - started, warnings)
    return replace(case, views=[one.view for one in views], warnings=[*case.warnings, *warnings], standardization=done)


def _placed(chosen: Chosen, config: StandardizationConfig, report: Report) -> Chosen:
    """Return what standardizes, its network on the device that is to be used; nothing is tried where there is no network."""
    if chosen.weights_sha256 is None:
        told = "The classical standardizer runs on the CPU, also where a graphics card is asked for." if "cuda" in config.device else ""
        return replace(chosen, warning=" ".join(filter(None, (chosen.warning, told))))
    device = WorkDevice(choose_standardizer_device(config.device, lambda message: report(0.0, message)))
    return replace(chosen, standardizer=chosen.standardizer.on(device), device=device)


def view_data(view: StandardizedView) -> dict[str, Any]:
    """Return what reports say about one view."""
    mask = view.view.mask
    return {
        "name": view.original.name,
        "used": view.used,
        "findings": [{"kind": finding.kind, "use": finding.use, "reason": finding.reason} for finding in view.findings],
        "mean_removed": float(view.difference[mask].mean()) if mask.any() else None,
        "mean_bone": float(view.view.attenuation[mask].mean()) if mask.any() and view.used != "original" else None,
        "rms_uncertainty": float(np.sqrt(np.mean(view.uncertainty[mask] ** 2))) if mask.any() and view.used != "original" else None,
    }


def finding_sentences(views: Sequence[StandardizedView]) -> list[str]:
    """Return the findings as sentences, those of one kind together: the first in full, with how many others there are."""
    sentences = []
    found = [(view.original.name, finding) for view in views for finding in view.findings if finding.kind not in QUIET_KINDS]
    for kind in dict.fromkeys(finding.kind for _, finding in found):
        alike = [(name, finding) for name, finding in found if finding.kind == kind]
        name, finding = alike[0]
        others = "" if len(alike) == 1 else f" (and {len(alike) - 1} other X-ray{'s' if len(alike) > 2 else ''})"
        sentences.append(f"{name}{others}: {finding.reason}")
    return sentences


def _reversed(views: Sequence[MeasuredView], config: StandardizationConfig) -> list[str]:
    """Return a warning for images that look reversed, which no reconstruction survives."""
    names = [view.name for view in views if noise_of(view.attenuation, view.mask, config.trust).falls(config.trust)]
    return [f"{name}: its noise falls with its brightness, so its polarity may be reversed. Check it." for name in names]
