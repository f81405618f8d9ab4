"""Step 3 of the panel: real X-rays become images of bone, and what was changed can be seen."""

from __future__ import annotations

from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Panel import Panel


class StandardizationSection:
    """Says whether X-rays are standardized and shows what that changed."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()

    def show(self) -> None:
        """Take what the scene says."""

    def update(self) -> None:
        """Let the user do what can be done now."""
        self._usable.allow(self.ui.standardizeCheckBox, _("This comes with a later version."))
