"""The card of a prior as a short text for people: what it was trained on, how well it does, its license."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ShapeCompletionLib.core.prior_card import PriorCard
from SparseAnatomyLib.host.Translate import tr as _

_DIRECTIONS = ("axial", "coronal", "sagittal", "oblique")
_LEARNED, _PLAIN, _EVIDENCE = "dice inr", "dice interpolate", "evidence"


def cardText(card: PriorCard) -> str:
    """Return a few lines on a prior; what its card does not tell is left out."""
    lines = [_("Trained on {what}").format(what=card.trained_on)]
    measured = [
        _("{layout}: {learned:.2f} ({plain:.2f})").format(layout=layout, learned=learned, plain=plain)
        for layout, (learned, plain) in _accuracies(card.figures).items()
    ]
    if measured:
        lines.append(_("Dice on patients it was not trained on, 1 at best (in brackets: plain interpolation):"))
        lines += measured
    lines.append(_("License: {licence}").format(licence=card.licence))
    return "\n".join(lines)


def usualEvidence(card: PriorCard) -> tuple[float, float] | None:
    """Return the lowest and the highest mean evidence of the layouts that a prior was measured with; None where its card tells none."""
    values = [float(figures[_EVIDENCE]) for figures in card.figures.values() if _EVIDENCE in figures]
    return (min(values), max(values)) if values else None


def _accuracies(figures: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the Dice of the prior and of interpolation by layout, averaged over the directions of parallel slices."""
    grouped: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for layout, measures in figures.items():
        direction, _space, distance = layout.partition(" ")
        name = _("slices {distance} apart").format(distance=distance) if direction in _DIRECTIONS else layout.capitalize()
        if _LEARNED in measures and _PLAIN in measures:
            grouped[name[:1].upper() + name[1:]].append((float(measures[_LEARNED]), float(measures[_PLAIN])))
    return {name: tuple(sum(column) / len(pairs) for column in zip(*pairs, strict=True)) for name, pairs in grouped.items()}
