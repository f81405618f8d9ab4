"""Whether X-rays are standardized, and by what: decided once for a case, and said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from IntraopReconLib.core.config import Standardize
from IntraopReconLib.core.standardization_config import StandardizationConfig
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.resources import resource
from SparseAnatomyLib.work_device import WorkDevice

from .classical import ClassicalStandardizer
from .standardizer import Standardizer
from .trust import background_level, is_export, noise_of

WEIGHTS = "Standardizer/bone.pt"  # within Resources
LOOKED_AT = 8  # views tell what a case shows
BRIGHTEST_BEHIND = 0.2  # attenuation of the brightest pixels where no open field is seen: at least that of some soft tissue
MOST_SATURATED = 0.01  # of a computed image


@dataclass(frozen=True)
class Decision:
    """Whether the X-rays of a case are standardized.

    Attributes:
        applies: Whether they are.
        reason: Why, in one sentence.
    """

    applies: bool
    reason: str


@dataclass(frozen=True)
class Chosen:
    """What standardizes.

    Attributes:
        standardizer: The one that is used.
        weights_sha256: Of the network's weights; None without a network.
        device: Where the network runs; None without a network, or before that is chosen.
        warning: Why another one than asked for is used; empty if there is nothing to say.
    """

    standardizer: Standardizer
    weights_sha256: str | None = None
    warning: str = ""
    device: WorkDevice | None = None


def decide(views: Sequence[MeasuredView], asked: Standardize, config: StandardizationConfig) -> Decision:
    """Decide whether the views are X-rays, which are standardized, or computed images of bone (DRRs), which already are.

    What the files state goes first: a derivation that says DRR, then a tube's voltage and exposure. Else the content tells: behind the
    bones of a bone-enhanced image hardly anything is left.

    Args:
        views: Of one case.
        asked: `on` and `off` leave nothing to decide.
        config: Thresholds.
    """
    if asked != "auto":
        return Decision(asked == "on", f"The X-rays were {'' if asked == 'on' else 'not '}standardized, as asked for.")
    facts = [view.stored for view in views if view.stored is not None]
    if _most(sum(one.origin.shows_bone_only for one in facts), views):
        reason = "The X-rays were not standardized: their files say that they show bone only (computed, or standardized before)."
        return Decision(False, reason)
    if _most(sum(one.origin.was_exposed for one in facts), views):
        return Decision(True, "The X-rays were standardized: their files state a tube voltage and an exposure, as those of a C-arm.")
    levels = [_background_level(view, config) for view in views[:: max(1, len(views) // LOOKED_AT)]]
    level = float(np.median(levels)) if levels else float("inf")
    if level < config.trust.least_background:
        return Decision(
            False,
            f"The X-rays were not standardized: the background behind the bones is {level:.2f}, as in computed images of bone or in a bare "
            f"specimen (with soft tissue it is {config.trust.least_background:g} or more).",
        )
    behind = f"the background behind the bones is {level:.1f}" if np.isfinite(level) else "they are not like computed images"
    return Decision(True, f"The X-rays were standardized: {behind}, as soft tissue makes it.")


def choose(config: StandardizationConfig) -> Chosen:
    """Return the standardizer that is asked for, or the classical one where the network cannot be had.

    Raises:
        InputError: The network is asked for by name or by its weights, and these are missing, damaged or changed.
    """
    classical = ClassicalStandardizer(config.classical)
    if config.method == "classical":
        return Chosen(classical)
    try:
        weights = config.weights or _shipped_weights()  # without them, torch is not needed
        from .network import NetworkStandardizer

        network = NetworkStandardizer.load(weights)
    except ImportError:
        error = InputError("The network for standardization cannot be loaded: PyTorch is not installed.", "Install PyTorch.")
    except InputError as caught:
        error = caught
    else:
        return Chosen(network, network.card.sha256)
    if config.method == "network" or config.weights is not None:
        raise InputError(error.message, f"{error.remedy} Or use the classical standardizer (--method classical).")
    told = error.message.replace(str(_folder_of_weights()) + os.sep, "")  # reports tell no folders
    return Chosen(classical, warning=f"{told} The X-rays were standardized without a network instead, which is less exact.")


def _folder_of_weights() -> Path:
    try:
        return resource(WEIGHTS).parent
    except InputError:
        return Path(WEIGHTS).parent


def _shipped_weights() -> Path:
    """Return the file of the weights that ship."""
    try:
        return resource(WEIGHTS)
    except InputError:
        message = "This version comes without a trained network for standardization."
        raise InputError(message, "Train one on your own CTs: intraop-recon train-standardizer.") from None


def _most(count: int, views: Sequence[MeasuredView]) -> bool:
    return 2 * count > len(views)


def _background_level(view: MeasuredView, config: StandardizationConfig) -> float:
    """Return the attenuation behind the bones; infinite for an image that no program computed."""
    facts = view.stored
    if facts is not None and (facts.saturated_share > MOST_SATURATED or is_export(view, config.trust)):
        return float("inf")
    if noise_of(view.attenuation, view.mask, config.trust).falls(config.trust):  # reversed: soft tissue looks like air
        return float("inf")
    unseen = BRIGHTEST_BEHIND if facts is not None and not facts.air_is_known else 0.0
    return background_level(view, config.trust, config.classical) + unseen
