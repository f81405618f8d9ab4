"""What the steps of IntraopRecon's panel share: its widgets, the settings of the scene, the result, and what is said to the user.

Each step is a section of its own, with two methods: `show` takes what the scene says (a new scene, one that was loaded), and `update` lets
the user do what can be done now. Whoever changes something calls `changed.emit()`, which updates all sections.
"""

from __future__ import annotations

from typing import Any, Protocol

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Folders import isInScene
from SparseAnatomyLib.host.Signal import Signal

from .ParameterNode import ParameterNode
from .ReconLogic import ReconLogic
from .ResultNodes import ResultNodes


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
        parameters: The settings of the scene.
        nodes: The result that is shown; None for none.
        error: What was said last, if it was an error.
        changed: Signal(): settings, nodes or what runs have changed.
    """

    def __init__(self, ui: Any, scene: Any, recon: ReconLogic) -> None:
        """Begin with what the scene says."""
        self.ui, self.scene, self.recon = ui, scene, recon
        self.parameters = ParameterNode(scene)
        self.nodes: ResultNodes | None = None
        self.error: SparseAnatomyError | None = None
        self.changed = Signal()

    def readScene(self) -> None:
        """Take the settings of the scene, and let go of nodes that are no longer in it."""
        if self.nodes is not None and not isInScene(self.scene, self.nodes.volume):
            self.nodes = None
        self.parameters = ParameterNode(self.scene)

    def keep(self, **changes: Any) -> None:
        """Keep settings in the scene and update the panel."""
        self.parameters.update(**changes)
        self.changed.emit()

    def say(self, text: str, error: SparseAnatomyError | None = None) -> None:
        """Tell the user something; of an error the details may be copied."""
        self.error = error
        self.ui.statusLabel.text = text
        self.ui.copyDetailsButton.visible = error is not None

    def fail(self, error: SparseAnatomyError) -> None:
        """Say what is wrong and what to do; no window, as the user may be working in the views."""
        self.say(str(error), None if error.kind == "cancelled" else error)
        self.changed.emit()

    def warn(self, *messages: str) -> None:
        """Keep what the user should read; without messages, forget what was there."""
        self.ui.warningsLabel.text = "\n".join([self.ui.warningsLabel.text, *messages]).strip() if messages else ""
        self.ui.warningsLabel.visible = bool(self.ui.warningsLabel.text)
