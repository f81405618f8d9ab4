"""Widgets that can be used only now and then: while they cannot, their tooltip says why."""

from __future__ import annotations

from typing import Any


class Usable:
    """Enables and disables the widgets of one panel."""

    def __init__(self) -> None:
        self._toolTips: dict[str, str] = {}

    def allow(self, widget: Any, reason: str = "") -> None:
        """Let a widget be used, with the tooltip that it has in the panel's file; or not, with the reason as its tooltip.

        Args:
            widget: Of the panel; it has a name of its own.
            reason: Why it cannot be used now, for the user; empty if it can.
        """
        usual = self._toolTips.setdefault(widget.objectName, widget.toolTip)
        widget.enabled = not reason
        widget.toolTip = reason or usual
