"""Step 4 of the panel: how to reconstruct, and how it goes."""

from __future__ import annotations

from pathlib import Path

import slicer

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Panel import Panel
from .ResultNodes import ResultNodes


class ReconstructionSection:
    """Starts and stops reconstructions."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets and the logic."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        recon = panel.recon
        recon.progressed.connect(self._onProgress)
        recon.warned.connect(panel.warn)
        recon.finished.connect(self._onFinished)
        recon.failed.connect(panel.fail)
        self.ui.qualityComboBox.connect("currentTextChanged(QString)", lambda text: self._panel.parameters.update(quality=text))
        self.ui.methodComboBox.connect("currentTextChanged(QString)", lambda text: self._panel.parameters.update(method=text))
        self.ui.reconstructButton.connect("clicked(bool)", self._onReconstructOrCancel)

    def show(self) -> None:
        """Take what the scene says."""
        settings = self._panel.parameters.settings
        self.ui.qualityComboBox.setCurrentText(settings.quality)
        self.ui.methodComboBox.setCurrentText(settings.method)

    def update(self) -> None:
        """Let the user do what can be done now."""
        running = self._panel.recon.isRunning
        self.ui.reconstructButton.text = _("Cancel") if running else _("Reconstruct")
        self._usable.allow(self.ui.reconstructButton, "" if running else self._reasonNotTo())
        self.ui.settingsBox.enabled = not running
        self.ui.progressBar.visible = running

    def _reasonNotTo(self) -> str:
        if not isReady():
            return environmentSentence()
        return "" if self._panel.parameters.settings.caseFolder else _("Choose the X-rays in step 1 first.")

    def _onReconstructOrCancel(self, _checked: bool = False) -> None:
        panel, recon = self._panel, self._panel.recon
        if recon.isRunning:
            panel.say(_("Stopping …"))
            recon.cancel()
            return
        parameters = panel.parameters
        try:
            recon.start(Path(parameters.settings.caseFolder), parameters.resultFolder, parameters.config(), parameters.skipped)
        except SparseAnatomyError as error:
            panel.fail(error)
            return
        panel.warn()
        self._onProgress(0.0, _("Starting …"))
        panel.changed.emit()

    def _onProgress(self, fraction: float, message: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self._panel.say(message)

    def _onFinished(self, nodes: ResultNodes) -> None:
        panel = self._panel
        panel.nodes = nodes
        done = _("Done: the result is graded {grade} and lies in {folder}.")
        panel.say(done.format(grade=nodes.grade, folder=panel.parameters.resultFolder))
        slicer.util.resetThreeDViews()
        panel.changed.emit()
