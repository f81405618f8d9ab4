"""What the steps of IntraopRecon's panel share: its widgets, the settings of the scene, the result, and what is said to the user.

Each step is a section of its own, with two methods: `show` takes what the scene says (a new scene, one that was loaded), and `update` lets
the user do what can be done now. Whoever changes something calls `changed.emit()`, which updates all sections.
"""

from __future__ import annotations

from typing import Any, Protocol

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.Translate import tr as _

from .CaseFrames import CaseFrames, removeFrames
from .ParameterNode import ParameterNode
from .PreparationLogic import CALIBRATE, DESCRIBE, IMPORT, STANDARDIZE, PreparationLogic
from .PreparedCase import PreparedCase, XrayCard
from .ReconLogic import ReconLogic
from .ResultErrands import ResultErrands
from .ResultNodes import ResultNodes, currentResult
from .StandardizedPreview import StandardizedPreview

LEAST_VIEWS = 2  # as in core.case


class Section(Protocol):
    """One step of the panel."""

    def show(self) -> None:
        """Take what the scene says."""

    def update(self) -> None:
        """Let the user do what can be done now."""


class Panel:
    """What the sections share.

    Attributes:
        ui: The panel's widgets by name.
        scene: vtkMRMLScene.
        recon: Runs reconstructions.
        preparation: Reads X-rays and finds their poses.
        prepared: The X-rays of the case as they were read last; None before.
        frames: The X-rays of the case in the 3D view; None where no pose is known.
        standardized: What a standardization makes of them; None before the user has asked for that.
        errands: What the worker does for a result that is in the scene.
        parameters: The settings of the scene.
        nodes: The result that is shown; None for none.
        error: What was said last, if it was an error.
        isSceneChanging: Whether a scene is being closed or added to: what selectors then tell is not of the user's making.
        changed: Signal(): settings, nodes or what runs have changed.
    """

    def __init__(self, ui: Any, scene: Any, recon: ReconLogic, preparation: PreparationLogic) -> None:
        """Begin with what the scene says."""
        self.ui, self.scene, self.recon, self.preparation = ui, scene, recon, preparation
        self.prepared: PreparedCase | None = None
        self.frames: CaseFrames | None = None
        self.standardized: StandardizedPreview | None = None
        self.errands = ResultErrands(recon)
        self.parameters = ParameterNode(scene)
        self.nodes: ResultNodes | None = None
        self.error: SparseAnatomyError | None = None
        self.isSceneChanging = False
        self.changed = Signal()
        self._isReadingQuiet = False

    def readScene(self) -> None:
        """Take the settings of the scene, and let go of nodes that are no longer in it."""
        self.parameters = ParameterNode(self.scene)
        self.nodes = currentResult(self.scene, self.parameters.resultNode, self.nodes)

    @property
    def current(self) -> XrayCard | None:
        """The X-ray that is looked at: the first one until the user goes to another."""
        return None if self.prepared is None else self.prepared.view(self.parameters.settings.currentView)

    def goTo(self, name: str) -> None:
        """Look at another X-ray."""
        if name != self.parameters.settings.currentView:
            self.keep(currentView=name)

    def usedViews(self) -> list[XrayCard]:
        """Return the X-rays that a reconstruction takes: those with a usable pose that the user does not skip."""
        skipped = self.parameters.skipped
        return [view for view in (self.prepared.views if self.prepared else ()) if view.isUsable and view.name not in skipped]

    def reasonNotToPrepare(self) -> str:
        """Return why the X-rays and their poses cannot be changed now; empty if they can."""
        if self.recon.isRunning:
            return _("A reconstruction is running: wait until it is done, or cancel it.")
        if self.preparation.job in (CALIBRATE, IMPORT):
            return _("The poses are being found: wait until that is done, or cancel it.")
        if self.preparation.job == STANDARDIZE:
            return _("The X-rays are being standardized: wait until that is done, or cancel it.")
        return ""

    def reasonNotRead(self) -> str:
        """Return why nothing can be done with the X-rays yet; empty if they have been read."""
        if self.preparation.job == DESCRIBE:
            return _("The X-rays are being read: wait until that is done.")
        return "" if self.prepared else _("Read the X-rays in step 1 first.")

    def reasonTooFew(self) -> str:
        """Return why the X-rays that are used are not enough for a reconstruction; empty if they are, or are not known yet."""
        if self.prepared is None or len(self.usedViews()) >= LEAST_VIEWS:
            return ""
        if sum(view.isUsable for view in self.prepared.views) >= LEAST_VIEWS:
            return _("Fewer than two X-rays are used: give more of them a check mark in step 1.")
        return _("The poses of the X-rays are not known: find them in step 2 first.")

    def forgetCase(self) -> None:
        """Let go of X-rays that are no longer those of the folder."""
        self.prepared = self.frames = self.standardized = None
        removeFrames(self.scene)

    def keep(self, **changes: Any) -> None:
        """Keep settings in the scene and update the panel."""
        self.parameters.update(**changes)
        self.changed.emit()

    def say(self, text: str, error: SparseAnatomyError | None = None) -> None:
        """Tell the user something; of an error the details may be copied."""
        self.error = error
        self.ui.statusLabel.text = text
        self.ui.copyDetailsButton.visible = error is not None

    def sayOfReading(self, text: str, isOver: bool = False) -> None:
        """Tell how far the reading of X-rays is, unless a reconstruction was begun meanwhile: what that says must not be written over."""
        if not self._isReadingQuiet:
            self.say(text)
        self._isReadingQuiet = self._isReadingQuiet and not isOver

    def quietReading(self) -> None:
        """Let what is being read say nothing more where a reconstruction has the word; called when either begins."""
        self._isReadingQuiet = self.preparation.isRunning and self.recon.isRunning

    def fail(self, error: SparseAnatomyError) -> None:
        """Say what is wrong and what to do; no window, as the user may be working in the views."""
        self.say(str(error), None if error.kind == "cancelled" else error)
        self.changed.emit()

    def warn(self, *messages: str) -> None:
        """Keep what the user should read; without messages, forget what was there."""
        self.ui.warningsLabel.text = "\n".join([self.ui.warningsLabel.text, *messages]).strip() if messages else ""
        self.ui.warningsLabel.visible = bool(self.ui.warningsLabel.text)
