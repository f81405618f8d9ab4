"""The lower part of the panel: how far the result is to be trusted, what of it is shown, where to look next, and saving it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ShapeCompletionLib.core.prior_card import PriorCard
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.failures import explain
from SparseAnatomyLib.host.PathEdit import followPath
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .CompletionNodes import CompletionNodes, goToNextSlice, setConfidenceVisible, setNextSliceVisible
from .ParameterNode import ParameterNode
from .SaveResult import saveShape
from .Sentences import agreementSentence, evidenceSentence


class ResultSection:
    """Shows one result, or none."""

    def __init__(self, ui: Any, scene: Any, say: Callable[[str], None], fail: Callable[[SparseAnatomyError], None]) -> None:
        """Connect the widgets.

        Args:
            ui: The panel's widgets by name.
            scene: vtkMRMLScene.
            say: Tells the user something.
            fail: Tells the user what is wrong.
        """
        self.ui, self._scene, self._say, self._fail, self._usable = ui, scene, say, fail, Usable()
        self._nodes: CompletionNodes | None = None
        self._parameters: ParameterNode | None = None
        self.ui.confidenceCheckBox.connect("toggled(bool)", self._onConfidence)
        self.ui.nextSliceCheckBox.connect("toggled(bool)", self._onNextSlice)
        self.ui.goToButton.connect("clicked(bool)", self._onGoTo)
        followPath(self.ui.saveFolderPath, self._onFolder)
        self.ui.saveButton.connect("clicked(bool)", self._onSave)

    def show(self, parameters: ParameterNode, nodes: CompletionNodes | None, card: PriorCard | None) -> None:
        """Show a result, as the settings say.

        Args:
            parameters: Of the scene.
            nodes: The result; None for none.
            card: Of the prior that is chosen.
        """
        isNew = nodes is not None and nodes is not self._nodes
        self._parameters, self._nodes = parameters, nodes
        settings = parameters.settings
        self.ui.confidenceCheckBox.checked = settings.showConfidence
        self.ui.nextSliceCheckBox.checked = settings.showNextSlice
        if self.ui.saveFolderPath.currentPath != settings.saveFolder:
            self.ui.saveFolderPath.setCurrentPath(settings.saveFolder)
        none = _("no result yet")
        self.ui.agreementLabel.text = none if nodes is None else agreementSentence(nodes.shape)
        self.ui.warningsLabel.text = "" if nodes is None else "\n".join(nodes.shape.warnings)
        self.ui.warningsLabel.visible = bool(self.ui.warningsLabel.text)
        self.ui.evidenceLabel.text = none if nodes is None else evidenceSentence(nodes.shape, card)
        if isNew:  # otherwise it stays as the user may have it elsewhere
            setConfidenceVisible(nodes, settings.showConfidence)
            setNextSliceVisible(nodes, settings.showNextSlice)
        self._update()

    def _update(self) -> None:
        nodes = self._nodes
        noResult = "" if nodes is not None else _("There is no result yet: complete a shape first.")
        noPlane = noResult or ("" if nodes.shape.nextSlice is not None else _("No other slice would help: nothing is left in doubt."))
        noFolder = noResult or ("" if self.ui.saveFolderPath.currentPath else _("Choose the folder to save to first."))
        self._usable.allow(self.ui.confidenceCheckBox, noResult)
        self._usable.allow(self.ui.nextSliceCheckBox, noPlane)
        self._usable.allow(self.ui.goToButton, noPlane)
        self._usable.allow(self.ui.saveButton, noFolder)

    def _onConfidence(self, checked: bool) -> None:
        self._parameters.update(showConfidence=checked)
        if self._nodes is not None:
            setConfidenceVisible(self._nodes, checked)

    def _onNextSlice(self, checked: bool) -> None:
        self._parameters.update(showNextSlice=checked)
        if self._nodes is not None:
            setNextSliceVisible(self._nodes, checked)

    def _onGoTo(self, _checked: bool = False) -> None:
        view = goToNextSlice(self._scene, self._nodes)
        if view:
            self._say(_("The view {view} shows the next slice: outline the structure there.").format(view=view))
        else:
            self._say(_("No slice view is open: choose a layout with slice views."))

    def _onFolder(self, path: str) -> None:
        if path != self._parameters.settings.saveFolder:
            self._parameters.update(saveFolder=path)
        self._update()

    def _onSave(self, _checked: bool = False) -> None:
        try:
            paths = saveShape(self._nodes.shape, self.ui.saveFolderPath.currentPath)
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            self._fail(explain(error))
            return
        names = ", ".join(path.name for path in paths)
        self._say(_("Saved to {folder}: {names}.").format(folder=paths[0].parent, names=names))
