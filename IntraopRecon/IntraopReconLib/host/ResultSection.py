"""Step 5 of the panel: the result, how it is shown, how it explains the X-rays, and saving it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import InputError, SparseAnatomyError
from SparseAnatomyLib.failures import explain
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.Environment import environmentSentence, isReady, reasonWithout
from SparseAnatomyLib.host.Folders import itemName
from SparseAnatomyLib.host.PathEdit import followPath
from SparseAnatomyLib.host.PictureView import PictureView
from SparseAnatomyLib.host.SceneFiles import saveScene
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable
from SparseAnatomyLib.host.WorkerLogic import Errand
from SparseAnatomyLib.staging import check_result_folder

from .CoarseBone import CoarseBone
from .Panel import Panel
from .ResultFolder import PreparedBone
from .ResultNodes import ResultNodes, currentResult, setBone, setCoverageVisible
from .XRays import displayName, viewName

COMPARISONS = ("measured", "reprojected", "difference")
FORMATS = ("mrb", "nrrd", "stl", "dicom")
_SCENE_BYTES = 50e6
_REST_MS = 150  # after the last move of the slider the worker makes the fine surface
_RANGE = (0.25, 3.0)  # of the slider, in shares of the threshold that the reconstruction has chosen


class ResultSection:
    """Shows one result, or none."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets."""
        import qt

        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self._shown: ResultNodes | None = None
        self._coarse: CoarseBone | None = None
        self._wanted: float | None = None  # a threshold that the worker has not been asked for yet
        self._isAsked, self._isSaving, self._isShowing = False, False, False
        self._comparison: tuple[Any, ...] = ()
        self._picture = PictureView(self.ui.comparisonPicture)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.connect("timeout()", self._refine)
        ui = self.ui
        ui.thresholdSlider.connect("valueChanged(double)", self._onThreshold)
        ui.chosenThresholdButton.connect("clicked(bool)", self._onChosenThreshold)
        ui.coverageCheckBox.connect("toggled(bool)", self._onCoverage)
        ui.comparisonViewComboBox.connect("currentIndexChanged(int)", self._onView)
        ui.comparisonKindComboBox.connect("currentIndexChanged(int)", self._onKind)
        ui.reportButton.connect("clicked(bool)", self._onReport)
        ui.formatComboBox.connect("currentIndexChanged(int)", self._onFormat)
        followPath(ui.saveFolderPath, self._onFolder)
        ui.saveButton.connect("clicked(bool)", self._onSave)

    def show(self) -> None:
        """Take what the scene says."""
        settings = self._panel.parameters.settings
        self._isShowing = True
        try:
            self.ui.coverageCheckBox.checked = settings.showCoverage
            self.ui.comparisonKindComboBox.setCurrentIndex(COMPARISONS.index(settings.comparison))
            self.ui.formatComboBox.setCurrentIndex(FORMATS.index(settings.saveFormat))
            if self.ui.saveFolderPath.currentPath != settings.saveFolder:
                self.ui.saveFolderPath.setCurrentPath(settings.saveFolder)
        finally:
            self._isShowing = False

    def update(self) -> None:
        """Show the result of now, and let the user do what can be done with it."""
        panel = self._panel
        panel.nodes = currentResult(panel.scene, panel.parameters.resultNode, panel.nodes)
        if panel.nodes is not self._shown:
            self._take(panel.nodes)
        nodes = panel.nodes
        self.ui.resultLabel.text = self._summary()
        none = _("There is no result yet: reconstruct a case first.") if nodes is None else ""
        busy = none or self._reasonBusy()
        for widget in (self.ui.thresholdSlider, self.ui.chosenThresholdButton):
            self._usable.allow(widget, busy)
        self._usable.allow(self.ui.coverageCheckBox, none)
        noFiles = none or self._reasonNoFile("views.npz")
        for widget in (self.ui.comparisonViewComboBox, self.ui.comparisonKindComboBox):
            self._usable.allow(widget, noFiles or busy)
        self._usable.allow(self.ui.reportButton, none or self._reasonNoFile("report.html"))
        self._usable.allow(self.ui.formatComboBox, none)
        self._usable.allow(self.ui.saveFolderPath, none)
        self._usable.allow(self.ui.saveButton, busy or self._reasonNotToSave())
        self._compare()

    def _summary(self) -> str:
        nodes = self._panel.nodes
        if nodes is None:
            return _("There is no result yet: reconstruct a case first.")
        grade = {"good": _("good"), "poor": _("poor")}.get(nodes.grade, nodes.grade)
        return _("{name}: graded {grade}.").format(name=nodes.volume.GetName(), grade=grade)

    def _reasonBusy(self) -> str:
        if self._panel.recon.isRunning:
            return _("A reconstruction is running: wait until it is done, or cancel it.")
        return "" if isReady() else environmentSentence()

    def _reasonNoFile(self, name: str) -> str:
        folder = self._panel.nodes.resultFolder
        if folder and os.path.isfile(os.path.join(folder, name)):
            return ""
        return _("The folder of this result is no longer there: reconstruct the case again.")

    def _reasonNotToSave(self) -> str:
        if self._isSaving:
            return _("The result is being saved.")
        if self._panel.parameters.settings.saveFormat == "dicom" and (reason := reasonWithout("highdicom")):
            return reason
        return "" if self.ui.saveFolderPath.currentPath else _("Choose the folder to save to first.")

    def _take(self, nodes: ResultNodes | None) -> None:
        """Show another result, or none."""
        self._shown, self._coarse, self._wanted, self._comparison = nodes, None, None, ()
        self._timer.stop()
        self._isShowing = True
        try:
            self.ui.comparisonViewComboBox.clear()
            self._picture.show(None)
            if nodes is None:
                return
            self.ui.comparisonViewComboBox.addItems([displayName(viewName(node)) for node in nodes.xrays.images])
            low, high = (share * nodes.chosenPerMm for share in _RANGE)
            self.ui.thresholdSlider.minimum, self.ui.thresholdSlider.maximum = low, max(high, nodes.thresholdPerMm)
            self.ui.thresholdSlider.value = nodes.thresholdPerMm
        finally:
            self._isShowing = False
        setCoverageVisible(self._panel.scene, nodes, self._panel.parameters.settings.showCoverage)

    # The threshold

    def _onThreshold(self, value: float) -> None:
        """Show a coarse surface at once; the fine one comes when the hand rests."""
        nodes = self._panel.nodes
        if self._isShowing or nodes is None:
            return
        if self._coarse is None:
            self._coarse = CoarseBone(nodes.volume)
        Nodes.updateModelNode(nodes.bone, self._coarse.surface(value))
        self._wanted = value
        self._timer.start()

    def _onChosenThreshold(self, _checked: bool = False) -> None:
        self.ui.thresholdSlider.value = self._panel.nodes.chosenPerMm

    def _refine(self) -> None:
        """Let the worker make the surface of the last threshold, one at a time."""
        nodes, value = self._panel.nodes, self._wanted
        if nodes is None or value is None or self._isAsked:
            return
        self._wanted = None
        try:
            self._panel.errands.bone(
                nodes, value, lambda bone, grid: self._onBone(nodes, bone, grid), lambda error: self._onNoBone(nodes, error)
            )
        except SparseAnatomyError as error:
            self._panel.fail(error)
            return
        self._isAsked = True

    def _onBone(self, nodes: ResultNodes, bone: PreparedBone, grid: VoxelGrid) -> None:
        self._isAsked = False
        if nodes is self._panel.nodes and self._wanted is None:
            try:
                setBone(nodes, bone, grid)
            except InputError as error:
                self._panel.fail(error)
        elif self._wanted is not None:
            self._refine()

    def _onNoBone(self, nodes: ResultNodes, error: SparseAnatomyError) -> None:
        self._isAsked = False
        if nodes is self._panel.nodes:  # otherwise it is of a result that has gone
            self._panel.fail(error)
        elif self._wanted is not None:
            self._refine()

    # How it is shown

    def _onCoverage(self, checked: bool) -> None:
        if not self._isShowing:
            self._panel.parameters.update(showCoverage=checked)
            if self._panel.nodes is not None:
                setCoverageVisible(self._panel.scene, self._panel.nodes, checked)

    def _onView(self, index: int) -> None:
        if not self._isShowing and self._panel.nodes is not None and index >= 0:
            self._panel.goTo(viewName(self._panel.nodes.xrays.images[index]))
            self._compare()

    def _onKind(self, index: int) -> None:
        if not self._isShowing:
            self._panel.keep(comparison=COMPARISONS[max(index, 0)])

    def _compare(self) -> None:
        """Show the X-ray that is looked at, as far as that is not shown already; only while this step is open."""
        panel, nodes, settings = self._panel, self._panel.nodes, self._panel.parameters.settings
        if nodes is None or self.ui.resultButton.collapsed or self._reasonNoFile("views.npz") or self._reasonBusy():
            return
        names = [viewName(node) for node in nodes.xrays.images]
        name = settings.currentView if settings.currentView in names else names[0] if names else ""
        wanted = (nodes, name, settings.comparison)
        if not name or wanted == self._comparison:
            return
        self._comparison = wanted
        self._isShowing = True
        self.ui.comparisonViewComboBox.setCurrentIndex(names.index(name))
        self._isShowing = False
        columns, rows, _slices = nodes.xrays.images[names.index(name)].GetImageData().GetDimensions()
        try:
            panel.errands.compare(
                nodes,
                name,
                settings.comparison,
                lambda path: self._onPicture(wanted, path, (columns, rows)),
                lambda error: self._onNoPicture(wanted, error),
            )
        except SparseAnatomyError as error:
            self._onNoPicture(wanted, error)

    def _onPicture(self, wanted: tuple[Any, ...], path: Path, sizePx: tuple[int, int]) -> None:
        if wanted == self._comparison:
            self._picture.show(path, sizePx)

    def _onNoPicture(self, wanted: tuple[Any, ...], error: SparseAnatomyError) -> None:
        if wanted == self._comparison:  # otherwise it is of a result that has gone
            self._picture.show(None)
            self._panel.say(str(error), error)

    # Files

    def _onReport(self, _checked: bool = False) -> None:
        import qt

        path = Path(self._panel.nodes.resultFolder) / "report.html"
        if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
            self._panel.say(_("No program opens web pages here: the report is {path}.").format(path=path))

    def _onFormat(self, index: int) -> None:
        if not self._isShowing:
            self._panel.keep(saveFormat=FORMATS[max(index, 0)])

    def _onFolder(self, path: str) -> None:
        if path != self._panel.parameters.settings.saveFolder:
            self._panel.keep(saveFolder=path)

    def _onSave(self, _checked: bool = False) -> None:
        panel, settings = self._panel, self._panel.parameters.settings
        name = itemName(panel.scene, panel.nodes.folder) or "result"
        try:
            folder = Path(settings.saveFolder)
            if not folder.is_absolute():
                raise InputError(f"{folder} is not the full path of a folder.", "Choose the folder with the button beside it.")
            if settings.saveFormat == "mrb":
                self._saveScene(folder / f"{name}.mrb")
                return
            errand = Errand(self._onSaved, self._onNotSaved, lambda fraction, message: panel.say(message))
            panel.errands.export(panel.nodes, name, settings.saveFormat, str(folder), settings.caseFolder or None, errand)
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            panel.fail(explain(error))
            return
        self._isSaving = True
        panel.say(_("Saving …"))
        panel.changed.emit()

    def _saveScene(self, path: Path) -> None:
        """Save the scene, the user's own nodes included: only Slicer can, and nothing must change meanwhile, so it rests for that time."""
        import qt

        check_result_folder(path.parent, _SCENE_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._panel.say(_("Saving the scene: Slicer rests until it is written …"))
        self.ui.statusLabel.repaint()  # now, as nothing is drawn while it is written
        qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            saveScene(self._panel.scene, path)
        finally:
            qt.QApplication.restoreOverrideCursor()
        self._panel.say(_("Saved to {path}.").format(path=path))

    def _onSaved(self, paths: dict[str, str]) -> None:
        self._isSaving = False
        path = paths.get("dicom") or next(iter(paths.values()), "")
        self._panel.say(_("Saved to {path}.").format(path=path))
        self._panel.changed.emit()

    def _onNotSaved(self, error: SparseAnatomyError) -> None:
        self._isSaving = False
        self._panel.fail(error)
