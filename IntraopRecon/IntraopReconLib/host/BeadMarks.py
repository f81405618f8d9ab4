"""The beads of an X-ray as rings on its picture, and edits of them by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from SparseAnatomyLib.host.PictureView import Mark
from SparseAnatomyLib.host.Translate import tr as _

from .PreparedCase import Bead, XrayCard

MATCHED, UNEXPLAINED, EXPECTED, PLACED = "#35d07f", "#ff5d4a", "#5fb8ff", "#ffffff"
_ARROW_SHARE = 0.06  # of the image's width: how long the longest residual is drawn
_MAGNIFICATIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_PLACED_RADIUS_PX = 3.0  # of a bead where none was found to tell the size

Placed = list[list]
"""Beads of an X-ray as the user has them: [column, row, size class or ""]."""


class BeadEdits:
    """What the user has changed since the poses were found, as a text that is kept in the scene."""

    def __init__(self, text: str) -> None:
        """Read the text; one that is damaged says nothing."""
        try:
            stored = json.loads(text or "{}")
        except ValueError:
            stored = {}
        self._edits: dict[str, Placed | None] = {}
        for name, placed in stored.items() if isinstance(stored, dict) else ():
            if placed is None or _arePlaced(placed):
                self._edits[name] = placed

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(self._edits) if self._edits else ""

    def isEdited(self, view: XrayCard) -> bool:
        """Whether the beads of an X-ray are other than those of its pose."""
        return view.name in self._edits

    def placed(self, view: XrayCard) -> Placed:
        """Return the beads of an X-ray as the user has them now."""
        edited = self._edits.get(view.name)
        return [list(bead) for bead in edited] if edited else [[bead.column, bead.row, bead.size] for bead in foundBeads(view)]

    def set(self, view: XrayCard, placed: Placed) -> None:
        """Keep the beads of an X-ray as the user has placed them."""
        self._edits[view.name] = placed

    def reset(self, view: XrayCard) -> None:
        """Go back to the beads that are detected."""
        self._edits.pop(view.name, None)
        if view.isByHand:
            self._edits[view.name] = None

    def byKey(self, views: Sequence[XrayCard]) -> dict[str, Placed | None]:
        """Return the edits by the keys of the X-rays, as the worker takes them."""
        return {view.key: self._edits[view.name] for view in views if view.name in self._edits}


def foundBeads(view: XrayCard) -> list[Bead]:
    """Return the beads that were found or placed, without those that the pose merely expects."""
    return [bead for bead in view.beads if bead.origin != "expected"]


def beadMarks(view: XrayCard, edits: BeadEdits) -> tuple[list[Mark], int]:
    """Return rings for all beads of an X-ray, those that can be edited first, and their number."""
    found, times = foundBeads(view), magnification(view)
    known = {(bead.column, bead.row): bead for bead in found}
    radius = sorted(bead.radiusPx for bead in found)[len(found) // 2] if found else _PLACED_RADIUS_PX
    marks = []
    for column, row, _size in edits.placed(view):
        bead = known.get((column, row))
        marks.append(Mark(column, row, radius, PLACED) if bead is None else _mark(bead, times))
    return [*marks, *(_mark(bead, 0) for bead in view.beads if bead.origin == "expected")], len(marks)


def magnification(view: XrayCard) -> int:
    """Return how many times as long residuals are drawn, 0 where there are none."""
    longest = max((math.hypot(*bead.residualPx) for bead in view.beads if bead.residualPx is not None), default=0.0)
    if longest <= 0:
        return 0
    return max((step for step in _MAGNIFICATIONS if step <= _ARROW_SHARE * view.sizePx[0] / longest), default=1)


def legendText(view: XrayCard) -> str:
    """Return what the rings mean, with their colors."""
    words = [
        ("●", MATCHED, _("explained by the pose")),
        ("●", UNEXPLAINED, _("not explained")),
        ("◌", EXPECTED, _("expected, not found")),
        ("○", "#808080", _("placed by hand")),
    ]
    parts = [f'<span style="color:{color}">{sign}</span>&nbsp;{text.replace(" ", "&nbsp;")}' for sign, color, text in words]
    times = magnification(view)
    if times:
        text = _("residual, {times} times as long").format(times=times)
        parts.append(f'<span style="color:#c79a00">→</span>&nbsp;{text.replace(" ", "&nbsp;")}')
    return "&nbsp; ".join(parts)


def _mark(bead: Bead, times: int) -> Mark:
    number = "" if bead.number is None else str(bead.number)
    if bead.origin == "expected":
        return Mark(bead.column, bead.row, bead.radiusPx, EXPECTED, True, number)
    if bead.residualPx is None:
        return Mark(bead.column, bead.row, bead.radiusPx, UNEXPLAINED)
    return Mark(bead.column, bead.row, bead.radiusPx, MATCHED, False, number, tuple(times * part for part in bead.residualPx))


def _arePlaced(beads: object) -> bool:
    """Return whether a value of a scene has the form of placed beads."""
    if not isinstance(beads, list) or not beads:
        return False
    return all(
        isinstance(bead, list) and len(bead) == 3 and isinstance(bead[2], str) and all(type(n) in (int, float) for n in bead[:2])
        for bead in beads
    )
