"""Step 5 of the panel: the result."""

from __future__ import annotations

from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Panel import Panel


class ResultSection:
    """Shows one result, or none."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()

    def show(self) -> None:
        """Take what the scene says."""

    def update(self) -> None:
        """Show the result."""
        nodes = self._panel.nodes
        self.ui.resultLabel.text = _("There is no result yet: reconstruct a case first.") if nodes is None else nodes.grade
