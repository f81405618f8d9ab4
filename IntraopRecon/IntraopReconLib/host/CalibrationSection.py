"""Step 2 of the panel: where each X-ray was taken from, by the beads in it or from a file."""

from __future__ import annotations

from typing import Any

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.PathEdit import followPath
from SparseAnatomyLib.host.PictureView import Edits, PictureView
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .BeadMarks import BeadEdits, Placed, beadMarks, foundBeads, legendText
from .Panel import Panel
from .PreparationLogic import CALIBRATE, DESCRIBE, IMPORT, Prepared
from .PreparedCase import XrayCard
from .ViewTable import ViewTable, gradeText


class CalibrationSection:
    """Finds the poses of the X-rays, shows how well they fit, and lets the beads be edited by hand."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets and the logic."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self._isShowing, self._isStopping, self._shown, self._name = False, False, None, ""
        headers = (_("X-ray"), _("Beads"), _("Off by"), _("Grade"))
        self._table = ViewTable(self.ui.residualsTable, headers, panel.goTo)
        self._picture = PictureView(self.ui.beadsPicture, edits=Edits(self._onMoved, self._onAdded, self._onRemoved))
        logic = panel.preparation
        logic.progressed.connect(self._onProgress)
        logic.warned.connect(panel.warn)
        logic.finished.connect(self._onPrepared)
        logic.failed.connect(self._onFailed)
        self.ui.jigSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onJig)
        followPath(self.ui.jigFilePath, lambda path: self._keep(jigFile=path))
        self.ui.knownDistanceSpinBox.connect("valueChanged(double)", lambda value: self._keep(knownDistanceMm=float(value)))
        self.ui.calibrateButton.connect("clicked(bool)", self._onCalibrateOrCancel)
        self.ui.resetBeadsButton.connect("clicked(bool)", self._onReset)
        followPath(self.ui.poseFilePath, lambda path: self._keep(poseFile=path))
        self.ui.poseFolderButton.connect("clicked(bool)", self._onPoseFolder)
        self.ui.poseSystemComboBox.connect("currentTextChanged(QString)", lambda text: self._keep(poseSystem=text))
        self.ui.poseUnitComboBox.connect("currentTextChanged(QString)", lambda text: self._keep(poseUnit=text))
        self.ui.poseRowsUpCheckBox.connect("toggled(bool)", lambda checked: self._keep(poseRowsUp=checked))
        self.ui.loadPosesButton.connect("clicked(bool)", self._onLoadPoses)

    def show(self) -> None:
        """Take what the scene says."""
        parameters = self._panel.parameters
        settings = parameters.settings
        self._isShowing = True
        try:
            self.ui.jigSelector.setCurrentNode(parameters.jigNode)
            for widget, path in ((self.ui.jigFilePath, settings.jigFile), (self.ui.poseFilePath, settings.poseFile)):
                if widget.currentPath != path:
                    widget.setCurrentPath(path)
            self.ui.knownDistanceSpinBox.value = settings.knownDistanceMm
            self.ui.poseSystemComboBox.setCurrentText(settings.poseSystem)
            self.ui.poseUnitComboBox.setCurrentText(settings.poseUnit)
            self.ui.poseRowsUpCheckBox.checked = settings.poseRowsUp
        finally:
            self._isShowing = False

    def update(self) -> None:
        """Let the user do what can be done now, and show the beads of the X-ray that is looked at."""
        panel, settings = self._panel, self._panel.parameters.settings
        reason = panel.reasonNotToPrepare() or panel.reasonNotRead() or ("" if isReady() else environmentSentence())
        jigNode = _("The points of the scene that are chosen above are taken.") if panel.parameters.jigNode else ""
        noFile = "" if settings.poseFile else _("Choose the pose file first.")
        self.ui.calibrateButton.text = _("Cancel") if self._isRunning else _("Find the poses")
        self._usable.allow(self.ui.calibrateButton, "" if self._isRunning else reason)
        self._usable.allow(self.ui.jigFilePath, jigNode)
        self._usable.allow(self.ui.loadPosesButton, reason or noFile)
        self._usable.allow(self.ui.residualsTable, "" if panel.prepared else _("Read the X-rays in step 1 first."))
        self._fillTable()
        self._showPicture(panel.current)

    @property
    def _isRunning(self) -> bool:
        return self._panel.preparation.job in (CALIBRATE, IMPORT)

    def _fillTable(self) -> None:
        prepared = self._panel.prepared
        if self.ui.calibrationButton.collapsed:
            return  # filled when it is opened: new X-rays keep the window long enough with the table of step 1
        if prepared is not self._shown:
            self._shown = prepared
            self._table.fill(prepared.views if prepared else (), lambda view: (_beadsText(view), _rmsText(view), gradeText(view)))
            self._picture.show(None)
            self._name = ""
        if self._panel.current is not None:
            self._table.goTo(self._panel.current.name)

    def _showPicture(self, view: XrayCard | None) -> None:
        """Show an X-ray with its beads."""
        edits = BeadEdits(self._panel.parameters.settings.editedBeads)
        if view is None:
            self.ui.beadsLabel.text = self.ui.beadsLegendLabel.text = ""
            self._usable.allow(self.ui.resetBeadsButton, _("Read the X-rays in step 1 first."))
            return
        if view.name != self._name:
            self._name = view.name
            self._picture.show(view.picture, view.sizePx)
        self._picture.setMarks(*beadMarks(view, edits))
        self.ui.beadsLegendLabel.text = legendText(view) if view.beads or edits.isEdited(view) else ""
        self.ui.beadsLabel.text = _stateText(view, edits)
        isTheirs = edits.isEdited(view) or view.isByHand
        self._usable.allow(self.ui.resetBeadsButton, "" if isTheirs else _("The beads of this X-ray were not edited."))

    def placeOnPicture(self, column: float, row: float) -> tuple[float, float]:
        """Return where a place of the X-ray is on its picture, in pixels of the widget."""
        return self._picture.pointOnLabel(column, row)

    # Editing beads

    def _edit(self, change: Any) -> None:
        """Change the beads of the X-ray that is looked at."""
        view = self._panel.current
        if view is None or self._panel.preparation.isRunning:
            return
        edits = BeadEdits(self._panel.parameters.settings.editedBeads)
        placed = edits.placed(view)
        change(placed)
        if placed:
            edits.set(view, placed)
            self._panel.keep(editedBeads=edits.text)
        else:
            self._panel.say(_("An X-ray without beads has no pose: take its check mark away in step 1 instead."))

    def _onMoved(self, index: int, column: float, row: float) -> None:
        def move(placed: Placed) -> None:
            placed[index][:2] = [column, row]

        self._edit(move)

    def _onAdded(self, column: float, row: float) -> None:
        self._edit(lambda placed: placed.append([column, row, ""]))

    def _onRemoved(self, index: int) -> None:
        self._edit(lambda placed: placed.pop(index))

    def _onReset(self, _checked: bool = False) -> None:
        edits = BeadEdits(self._panel.parameters.settings.editedBeads)
        edits.reset(self._panel.current)
        self._panel.keep(editedBeads=edits.text)

    # Finding and loading poses

    def _onJig(self, node: Any) -> None:
        if not self._isShowing and not self._panel.isSceneChanging:
            self._panel.parameters.jigNode = node
            self._panel.changed.emit()

    def _keep(self, **changes: Any) -> None:
        if not self._isShowing:
            self._panel.keep(**changes)

    def _onCalibrateOrCancel(self, _checked: bool = False) -> None:
        panel, parameters = self._panel, self._panel.parameters
        if self._isRunning:
            self._isStopping = True
            panel.say(_("Stopping …"))
            panel.preparation.cancel()
            return
        settings, more = parameters.settings, {}
        if parameters.jigNode is None and settings.jigFile:
            more["fiducials"] = settings.jigFile
        if settings.knownDistanceMm > 0:
            more["known_distance_mm"] = settings.knownDistanceMm
        beads = BeadEdits(settings.editedBeads).byKey(panel.prepared.views)
        self._start(lambda: panel.preparation.calibrate(str(panel.prepared.folder), beads, parameters.jigNode, **more))

    def _onPoseFolder(self, _checked: bool = False) -> None:
        """Choose a folder of pose files: the button of the path itself offers files alone."""
        import qt

        before = self.ui.poseFilePath.currentPath
        folder = qt.QFileDialog.getExistingDirectory(self.ui.poseFolderButton, _("Folder of the pose files"), before)
        if folder:
            self.ui.poseFilePath.setCurrentPath(folder)

    def _onLoadPoses(self, _checked: bool = False) -> None:
        panel, settings = self._panel, self._panel.parameters.settings
        more = {"coordinate_system": settings.poseSystem, "unit": settings.poseUnit, "rows_up": settings.poseRowsUp}
        self._start(lambda: panel.preparation.importPoses(str(panel.prepared.folder), [settings.poseFile], **more))

    def _start(self, start: Any) -> None:
        try:
            start()
        except SparseAnatomyError as error:
            self._panel.fail(error)
            return
        self._panel.warn()
        self._panel.say(_("Starting …"))
        self._panel.changed.emit()

    def _onProgress(self, fraction: float, message: str) -> None:
        text = _("{message} ({percent:.0f} %)")
        self._panel.sayOfReading(text.format(message=message, percent=100 * fraction))

    def _onPrepared(self, prepared: Prepared) -> None:
        panel = self._panel
        if prepared.what == DESCRIBE or not prepared.isDone:
            return
        posed = [view for view in prepared.case.views if view.hasPose]
        if prepared.what == CALIBRATE:
            panel.parameters.update(editedBeads="")
            grades = [sum(view.grade == grade for view in posed) for grade in ("green", "amber", "red")]
            done = _("The poses of {posed} of {count} X-rays were found: {green} green, {amber} amber, {red} red.")
            text = done.format(posed=len(posed), count=len(prepared.case.views), green=grades[0], amber=grades[1], red=grades[2])
        else:
            text = _("{posed} of {count} X-rays have a pose from the file.").format(posed=len(posed), count=len(prepared.case.views))
        panel.say(text)
        panel.changed.emit()

    def _onFailed(self, error: SparseAnatomyError) -> None:
        """Say that what the user has stopped is stopped; everything else is said in step 1."""
        stopping, self._isStopping = self._isStopping, False
        if error.kind == "cancelled" and stopping:
            self._panel.fail(error)


def _beadsText(view: XrayCard) -> str:
    found = foundBeads(view)
    return f"{sum(bead.number is not None for bead in found)} / {len(found)}" if view.isCalibrated else ""


def _rmsText(view: XrayCard) -> str:
    return "" if view.rmsPx is None else f"{view.rmsPx:.2f} px"


def _stateText(view: XrayCard, edits: BeadEdits) -> str:
    """Return what is known of the beads of an X-ray."""
    if edits.isEdited(view):
        return _("You have edited the beads of this X-ray: find the poses again to see what comes of it.")
    if not view.isCalibrated:
        return _("The beads of this X-ray have not been searched for.") if not view.hasPose else _("The pose of this X-ray is from a file.")
    return " ".join(view.problems) or _("The pose explains the beads of this X-ray.")
