"""What the panel says."""

from __future__ import annotations

from ShapeCompletionLib.core.prior_card import available_priors
from SparseAnatomyLib.errors import InputError

from .CompletionFolder import CompletedShape
from .Outlines import describeOutline, readOutline


def priorChoices() -> dict[str, str]:
    """Return the titles of the priors that ship, by name; none where they are not installed."""
    try:
        return {card.name: card.title for card in available_priors()}
    except InputError:
        return {}


def foundSentence(node, segmentId: str) -> str:
    """Return which slices are outlined in a segment, or why none are found; empty where no segment is chosen."""
    if node is None or not segmentId:
        return ""
    try:
        return describeOutline(readOutline(node, segmentId))
    except InputError as error:
        return error.message


def doneSentence(shape: CompletedShape) -> str:
    """Return how a shape was made and how well it fits."""
    seconds = sum(shape.seconds.values())
    if shape.prior is None:
        how = "by interpolation between the slices"
    else:
        how = f"from what was learned of the anatomy ({shape.prior}); it agrees with plain interpolation to {shape.agreement:.0%}"
    return f"Done in {seconds:.1f} s, {how}. {shape.reason}".strip()
