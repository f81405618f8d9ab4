"""Step 1 of the panel: which X-rays there are and which are used."""

from __future__ import annotations

from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from . import XRays
from .Panel import Panel


class XRaysSection:
    """Shows the X-rays of the case."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self.ui.caseFolderPath.connect("currentPathChanged(QString)", self._onFolder)
        self.ui.showXraysCheckBox.connect("toggled(bool)", self._onShow)

    def show(self) -> None:
        """Take what the scene says."""
        self.ui.caseFolderPath.setCurrentPath(self._panel.parameters.settings.caseFolder)

    def update(self) -> None:
        """Let the user do what can be done now."""
        self.ui.caseFolderPath.enabled = not self._panel.recon.isRunning
        self._usable.allow(self.ui.dicomButton, _("This comes with a later version."))
        self._usable.allow(self.ui.showXraysCheckBox, "" if self._panel.nodes else _("There is no result yet: reconstruct a case first."))

    def _onFolder(self, path: str) -> None:
        """Keep the case in the scene; its result goes beside it."""
        if path != self._panel.parameters.settings.caseFolder:
            self._panel.keep(caseFolder=path, resultFolder="")

    def _onShow(self, checked: bool) -> None:
        if self._panel.nodes is not None:
            XRays.setVisible(self._panel.nodes.xrays, checked)
