"""Step 4 of the panel: how to reconstruct, and how it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .DeviceBox import DeviceBox
from .Panel import Panel
from .ResultNodes import ResultNodes
from .TimeLeft import TimeLeft

REGION_NAME = "Region to reconstruct"
_REGION_COLOR = (0.98, 0.72, 0.25)


class ReconstructionSection:
    """Starts and stops reconstructions."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets and the logic."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self._timeLeft, self._isShowing, self._drawing = TimeLeft(), False, False
        self._device = DeviceBox(panel)
        recon, ui = panel.recon, self.ui
        recon.progressed.connect(self._onProgress)
        recon.warned.connect(panel.warn)
        recon.finished.connect(self._onFinished)
        recon.previewed.connect(self._onPreviewed)
        recon.failed.connect(panel.fail)
        ui.regionSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onRegion)
        ui.drawRegionButton.connect("clicked(bool)", self._onDrawRegion)
        ui.qualityComboBox.connect("currentTextChanged(QString)", lambda text: self._keep(quality=text))
        ui.methodComboBox.connect("currentTextChanged(QString)", lambda text: self._keep(method=text))
        ui.reconstructButton.connect("clicked(bool)", self._onReconstructOrCancel)

    def show(self) -> None:
        """Take what the scene says."""
        settings = self._panel.parameters.settings
        self._isShowing = True
        try:
            self.ui.qualityComboBox.setCurrentText(settings.quality)
            self.ui.methodComboBox.setCurrentText(settings.method)
            self.ui.regionSelector.setCurrentNode(self._panel.parameters.regionNode)
        finally:
            self._isShowing = False
        self._device.show()

    def update(self) -> None:
        """Let the user do what can be done now."""
        running = self._panel.recon.isRunning
        self.ui.reconstructButton.text = _("Cancel") if running else _("Reconstruct")
        self._usable.allow(self.ui.reconstructButton, "" if running else self._reasonNotTo())
        busy = _("A reconstruction is running: wait until it is done, or cancel it.") if running else ""
        for widget in (self.ui.regionSelector, self.ui.qualityComboBox, self.ui.methodComboBox, self.ui.deviceComboBox):
            self._usable.allow(widget, busy)
        self._usable.allow(self.ui.drawRegionButton, busy or self._reasonNotToDraw())
        self.ui.progressBar.visible = running

    def _reasonNotTo(self) -> str:
        panel = self._panel
        if not isReady():
            return environmentSentence()
        if not panel.parameters.settings.caseFolder:
            return _("Choose the X-rays in step 1 first.")
        return panel.reasonNotToPrepare() or panel.reasonTooFew()

    def _reasonNotToDraw(self) -> str:
        if not isReady():
            return environmentSentence()
        if not self._panel.parameters.settings.caseFolder:
            return _("Choose the X-rays in step 1 first.")
        return _("The region is being made.") if self._drawing else ""

    def _keep(self, **changes: Any) -> None:
        if not self._isShowing:
            self._panel.keep(**changes)

    # Region

    def _onRegion(self, node: Any) -> None:
        """Take another region, and show that one alone."""
        if not self._isShowing and not self._panel.isSceneChanging:
            before = self._panel.parameters.regionNode
            for region, visible in ((before, False), (node, True)):
                if region is not None and region.GetDisplayNode() is not None:
                    region.GetDisplayNode().SetVisibility(visible)
            self._panel.parameters.regionNode = node
            self._panel.changed.emit()

    def _onDrawRegion(self, _checked: bool = False) -> None:
        """Make a region that has handles in the views; it begins as the one that would be reconstructed without."""
        panel = self._panel
        try:
            panel.errands.region(panel.parameters.settings.caseFolder, self._onBox, self._onNoBox)
        except SparseAnatomyError as error:
            panel.fail(error)
            return
        self._drawing = True
        panel.changed.emit()

    def _onBox(self, box: Nodes.Box) -> None:
        self._drawing = False
        node = Nodes.roiNodeFromBox(self._panel.scene, box, REGION_NAME)
        display = node.GetDisplayNode()
        display.SetColor(*_REGION_COLOR)
        display.SetSelectedColor(*_REGION_COLOR)
        display.SetFillOpacity(0.08)
        display.SetHandlesInteractive(True)
        display.SetPropertiesLabelVisibility(False)
        self.ui.regionSelector.setCurrentNode(node)
        self._panel.say(_("Drag the handles of the region in the views: what lies within is reconstructed."))
        self._panel.changed.emit()

    def _onNoBox(self, error: SparseAnatomyError) -> None:
        self._drawing = False
        self._panel.fail(error)

    # Running

    def _onReconstructOrCancel(self, _checked: bool = False) -> None:
        panel, recon = self._panel, self._panel.recon
        if recon.isRunning:
            panel.say(_("Stopping …"))
            recon.cancel()
            return
        parameters = panel.parameters
        try:
            config = replace(parameters.config(), device=self._device.device)
            recon.start(Path(parameters.settings.caseFolder), parameters.resultFolder, config, parameters.skipped)
        except SparseAnatomyError as error:
            panel.fail(error)
            return
        panel.warn()
        panel.quietReading()
        self._timeLeft = TimeLeft()
        self._onProgress(0.0, _("Starting …"))
        panel.changed.emit()

    def _onProgress(self, fraction: float, message: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        left = self._timeLeft.sentence(fraction)
        self._panel.say(f"{message} ({left})" if left else message)

    def _onPreviewed(self, isFirst: bool) -> None:
        """Look at the first preview; the X-rays around it would hide it, and come back in step 1."""
        if isFirst:
            self.ui.showXraysCheckBox.checked = False
            slicer.util.resetThreeDViews()

    def _onFinished(self, nodes: ResultNodes) -> None:
        """Show the result in the next step."""
        panel = self._panel
        panel.nodes = nodes
        panel.parameters.resultNode = nodes.volume
        done = _("Done: the result is graded {grade} and lies in {folder}.")
        panel.say(done.format(grade=nodes.grade, folder=panel.parameters.resultFolder))
        region = panel.parameters.regionNode
        if region is not None and region.GetDisplayNode() is not None:
            region.GetDisplayNode().SetVisibility(False)  # it stands around what is to be seen
        slicer.util.resetThreeDViews()
        self.ui.resultButton.collapsed = False
        panel.changed.emit()
