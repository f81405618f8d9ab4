"""Step 1 of the panel: which X-rays there are and which are used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Events import takeDrops
from SparseAnatomyLib.host.PathEdit import followPath
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from . import XRays
from .CaseFrames import showFrames
from .DicomSelection import selectedFiles
from .Panel import Panel
from .PreparationLogic import DESCRIBE, Prepared
from .PreparedCase import PreparedCase
from .ViewTable import ViewTable, anglesText, gradeText

_CASE_PARTS = ("xrays", "poses.json")
_REST_MS = 300  # after the last letter of a path


class XRaysSection:
    """Takes X-rays in and shows them in the table and in 3D."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets and the logic."""
        import qt

        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self._next: list[str] | None = None  # what is read when the job that runs has ended
        self._shownNodes: Any = None
        self._table = ViewTable(self.ui.viewsTable, (_("X-ray"), _("Angles"), _("Grade")), panel.goTo, self._onUsed)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.connect("timeout()", self._readCase)
        self._drops = takeDrops(self.ui.noticeLabel.parentWidget(), self._read, self._canRead)
        panel.preparation.finished.connect(self._onPrepared)
        panel.preparation.failed.connect(self._onFailed)
        followPath(self.ui.caseFolderPath, self._onFolder)
        self.ui.readButton.connect("clicked(bool)", lambda _checked: self._read([panel.parameters.settings.caseFolder]))
        self.ui.dicomButton.connect("clicked(bool)", lambda _checked: self._onDicom())
        self.ui.showXraysCheckBox.connect("toggled(bool)", lambda checked: panel.keep(showXrays=checked))

    def show(self) -> None:
        """Take what the scene says; X-rays of a case are looked at again."""
        settings = self._panel.parameters.settings
        if self.ui.caseFolderPath.currentPath != settings.caseFolder:
            self.ui.caseFolderPath.setCurrentPath(settings.caseFolder)
        self.ui.showXraysCheckBox.checked = settings.showXrays
        if self._panel.prepared is None or str(self._panel.prepared.folder) != settings.caseFolder:
            self._forget()
            self._timer.start()

    def update(self) -> None:
        """Let the user do what can be done now, and show which X-rays are used."""
        panel, settings = self._panel, self._panel.parameters.settings
        running = panel.reasonNotToPrepare()
        noFolder = "" if settings.caseFolder else _("Choose the folder of the X-rays first.")
        nothing3D = "" if panel.frames or panel.nodes else _("There are no X-rays whose poses are known: find the poses in step 2 first.")
        self._usable.allow(self.ui.caseFolderPath, running)
        self._usable.allow(self.ui.readButton, running or noFolder)
        self._usable.allow(self.ui.dicomButton, running)
        self._usable.allow(self.ui.showXraysCheckBox, nothing3D)
        self._usable.allow(self.ui.viewsTable, "" if panel.prepared else _("No X-rays have been read yet."))
        self.ui.viewsLabel.text = self._summary()
        if panel.current is not None:
            self._table.goTo(panel.current.name)
        self._updateFrames()

    def _summary(self) -> str:
        """Return what there is and what is used."""
        panel, folder = self._panel, self._panel.parameters.settings.caseFolder
        if panel.preparation.isRunning and panel.prepared is None:
            return _("The X-rays are being read …")
        if panel.prepared is None:
            if not folder:
                return _("Choose a folder of X-rays, drop them on this panel, or take them from the DICOM browser.")
            return _("No X-rays have been read from this folder.")
        used = panel.usedViews()
        text = _("{count} X-rays, of which {used} will be used.").format(count=len(panel.prepared.views), used=len(used))
        withoutPose = sum(not view.hasPose for view in panel.prepared.views)
        if withoutPose:
            text += " " + _("The poses of {count} are not known: find them in step 2.").format(count=withoutPose)
        return " ".join([text, *panel.prepared.notes])

    def _updateFrames(self) -> None:
        """Show the frames of the case in 3D, or those of the result where there is one."""
        panel, checked = self._panel, self._panel.parameters.settings.showXrays
        if panel.nodes is not self._shownNodes:
            self._shownNodes = panel.nodes
            if panel.nodes is not None and checked:
                self.ui.showXraysCheckBox.checked = False  # they would hide the bone; comes back here
                return
        if panel.nodes is not None:
            XRays.setVisible(panel.nodes.xrays, checked)
        if panel.frames is not None:
            shown = {view.name for view in panel.usedViews()} if checked and panel.nodes is None else set()
            showFrames(panel.scene, panel.frames, shown, panel.current.name if panel.current else "")

    # Taking X-rays in

    def _onFolder(self, path: str) -> None:
        """Keep the folder; its result goes beside it. If it is a case, its X-rays are looked at as soon as the hand rests."""
        import qt

        if path.startswith("file:"):  # dropped onto the line itself
            self.ui.caseFolderPath.setCurrentPath(qt.QUrl(path).toLocalFile())
            return
        if path != self._panel.parameters.settings.caseFolder:
            self._forget()
            self._panel.keep(caseFolder=path, resultFolder="", skippedViews="", currentView="", editedBeads="")
            self._timer.start()

    def _readCase(self) -> None:
        """Look at the X-rays of the folder if it has the form of a case."""
        folder = self._panel.parameters.settings.caseFolder
        if folder and isReady() and _isCase(folder):
            self._read([folder])

    def _canRead(self) -> bool:
        return isReady() and not self._panel.recon.isRunning

    def _onDicom(self) -> None:
        files, reason = selectedFiles()
        if files:
            self._read(files)
            return
        self._panel.say(reason)
        if hasattr(slicer.modules, "dicom"):
            slicer.util.selectModule("DICOM")

    def _read(self, sources: Sequence[str]) -> None:
        """Look at X-rays; what runs is stopped first."""
        panel = self._panel
        self._timer.stop()  # what the user asks for now counts
        if not isReady():
            panel.say(environmentSentence())
            return
        if panel.preparation.isRunning:
            self._next = list(sources)
            panel.preparation.cancel()
            return
        try:
            panel.preparation.describe(list(sources))
        except SparseAnatomyError as error:
            panel.fail(error)
            return
        panel.quietReading()
        panel.warn()
        panel.changed.emit()

    def _onPrepared(self, prepared: Prepared) -> None:
        """Show the X-rays as they are now."""
        panel, folder = self._panel, str(prepared.case.folder)
        if prepared.what == DESCRIBE and folder != panel.parameters.settings.caseFolder:
            panel.parameters.update(caseFolder=folder, resultFolder="", skippedViews="", currentView="", editedBeads="")
            self.ui.caseFolderPath.setCurrentPath(folder)
        isFirst = panel.frames is None
        panel.prepared, panel.frames = prepared.case, prepared.frames if prepared.frames.planes else None
        panel.standardized = None
        self._fill(prepared.case)
        if prepared.what == DESCRIBE:
            text = _("{count} X-rays of {case} have been read.")
            panel.sayOfReading(text.format(count=len(prepared.case.views), case=prepared.case.folder.name), isOver=True)
        panel.changed.emit()
        if isFirst and panel.frames is not None and panel.nodes is None:
            slicer.util.resetThreeDViews()
        self._readNext()

    def _onFailed(self, error: SparseAnatomyError) -> None:
        if error.kind == "cancelled":
            self._panel.changed.emit()
        else:
            self._panel.fail(error)
        self._readNext()

    def _readNext(self) -> None:
        sources, self._next = self._next, None
        if sources is not None:
            self._read(sources)

    def _fill(self, case: PreparedCase | None) -> None:
        views = case.views if case is not None else ()
        self._table.fill(views, lambda view: (anglesText(view), gradeText(view)), self._panel.parameters.skipped)

    def _forget(self) -> None:
        """Let go of the X-rays of another folder."""
        self._next = None
        self._panel.preparation.cancel()
        self._panel.forgetCase()
        self._fill(None)

    def _onUsed(self, name: str, used: bool) -> None:
        others = [other for other in self._panel.parameters.skipped if other != name]
        self._panel.keep(skippedViews="\n".join(others if used else [*others, name]))


def _isCase(folder: str) -> bool:
    """Return whether a folder has the form of a case; a path that cannot be looked at has not."""
    try:
        return any((Path(folder) / part).exists() for part in _CASE_PARTS)
    except (OSError, ValueError):
        return False
