"""What the panel says."""

from __future__ import annotations

from ShapeCompletionLib.core.prior_card import PriorCard, available_priors
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host.Translate import tr as _

from .CompletionFolder import CompletedShape
from .Outlines import Outline, describeOutline, readOutline
from .PriorCardText import usualEvidence

_ALIKE, _MUCH_ALIKE = 0.85, 0.95  # Dice of the shape and plain interpolation


def priorCards() -> dict[str, PriorCard]:
    """Return the cards of the priors that ship, by name; none where they are not installed."""
    try:
        return {card.name: card for card in available_priors()}
    except InputError:
        return {}


def foundSentence(node, segmentId: str) -> str:
    """Return which slices are outlined in a segment, or why none are found; empty where no segment is chosen."""
    if node is None or not segmentId:
        return ""
    try:
        return outlineSentence(readOutline(node, segmentId))
    except InputError as error:
        return error.message


def outlineSentence(outline: Outline) -> str:
    """Return which slices are outlined, or why none are found."""
    try:
        return describeOutline(outline)
    except InputError as error:
        return error.message


def doneSentence(shape: CompletedShape) -> str:
    """Return how a shape was made."""
    seconds = sum(shape.seconds.values())
    if shape.prior is None:
        text = _("Done in {seconds:.1f} s, by interpolation between the slices. {reason}")
    else:
        text = _("Done in {seconds:.1f} s, from what was learned of the anatomy ({prior}). {reason}")
    return text.format(seconds=seconds, prior=shape.prior, reason=shape.reason).strip()


def agreementSentence(shape: CompletedShape) -> str:
    """Return how far a shape is from plain interpolation: a number with a word."""
    if shape.prior is None:
        return _("it is plain interpolation")
    if shape.agreement >= _MUCH_ALIKE:
        text = _("{percent:.0f} %: hardly differs from plain interpolation")
    elif shape.agreement >= _ALIKE:
        text = _("{percent:.0f} %: differs in places from plain interpolation")
    else:
        text = _("{percent:.0f} %: differs much from plain interpolation")
    return text.format(percent=100 * shape.agreement)


def evidenceSentence(shape: CompletedShape, card: PriorCard | None) -> str:
    """Return how well the slices fit a prior, beside what is usual for it."""
    if shape.evidence is None:
        return _("no prior was tried")
    usual = None if card is None or shape.prior != card.name else usualEvidence(card)
    if usual is None:
        return _("{evidence:.2f} per point").format(evidence=shape.evidence)
    if shape.evidence < usual[0]:
        text = _("{evidence:.2f} per point: lower than in the prior's tests ({low:.2f} to {high:.2f})")
    elif shape.evidence > usual[1]:
        text = _("{evidence:.2f} per point: higher than in the prior's tests ({low:.2f} to {high:.2f})")
    else:
        text = _("{evidence:.2f} per point: as in the prior's tests ({low:.2f} to {high:.2f})")
    return text.format(evidence=shape.evidence, low=usual[0], high=usual[1])
