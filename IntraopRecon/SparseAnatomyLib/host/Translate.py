"""Slicer's translation where there is a Slicer; the texts as they are with its libraries (slicer-core) alone."""

from __future__ import annotations

try:
    from slicer.i18n import tr, translate
except ImportError:

    def tr(text: str) -> str:
        """Return the text."""
        return text

    def translate(context: str, text: str) -> str:
        """Return the text."""
        return text


__all__ = ["tr", "translate"]
