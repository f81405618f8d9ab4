"""Step 2 of the panel: where each X-ray was taken from, by the beads in it or from a file."""

from __future__ import annotations

from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Panel import Panel


class CalibrationSection:
    """Finds the poses of the X-rays and shows how well they fit."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()

    def show(self) -> None:
        """Take what the scene says."""

    def update(self) -> None:
        """Let the user do what can be done now."""
        for widget in (self.ui.calibrateButton, self.ui.loadPosesButton):
            self._usable.allow(widget, _("This comes with a later version."))
