"""The upper part of the panel: what is to be completed and how. What is chosen is kept in the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Outlines import Outline
from .ParameterNode import ParameterNode
from .PriorCardText import cardText
from .Sentences import foundSentence, outlineSentence, priorCards


class SettingsSection:
    """Shows the settings of a scene and keeps what the user changes.

    Attributes:
        parameters: The settings; None before `show`.
        cards: The cards of the priors that can be chosen, by name.
    """

    def __init__(self, ui: Any, onChanged: Callable[[], None]) -> None:
        """Fill the choices and connect the widgets.

        Args:
            ui: The panel's widgets by name.
            onChanged: Called after a setting was kept.
        """
        self.ui, self._onChanged, self._usable = ui, onChanged, Usable()
        self.parameters: ParameterNode | None = None
        self.cards = priorCards()
        self._isShowing = self._isResting = False
        self.ui.stepsHintLabel.text = _("One step is usually best: more rarely help, and take longer.")
        self.ui.priorComboBox.addItems([card.title for card in self.cards.values()])
        self.ui.segmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onNode)
        self.ui.segmentSelector.connect("currentSegmentChanged(QString)", self._onSegment)
        self.ui.priorComboBox.connect("currentIndexChanged(int)", lambda index: self._keep(prior=list(self.cards)[index]))
        self.ui.methodComboBox.connect("currentTextChanged(QString)", lambda text: self._keep(method=text))
        self.ui.stepsSlider.connect("valueChanged(double)", lambda value: self._keep(steps=round(value)))
        self.ui.spacingSpinBox.connect("valueChanged(double)", lambda value: self._keep(spacingMm=float(value)))
        self.ui.liveCheckBox.connect("toggled(bool)", lambda checked: self._keep(live=checked))

    def show(self, parameters: ParameterNode) -> None:
        """Take the settings of a scene."""
        self.parameters = parameters
        settings, node = parameters.settings, parameters.segmentationNode
        self._isShowing, self._isResting = True, False
        try:
            self.ui.methodComboBox.setCurrentText(settings.method)
            if settings.prior in self.cards:
                self.ui.priorComboBox.setCurrentIndex(list(self.cards).index(settings.prior))
            self.ui.stepsSlider.value = settings.steps
            self.ui.spacingSpinBox.value = settings.spacingMm
            self.ui.liveCheckBox.checked = settings.live
            self.ui.segmentSelector.setCurrentNode(node)
            self.ui.segmentSelector.setCurrentSegmentID(settings.segmentId)
        finally:
            self._isShowing = False
        self._onSegment()

    def rest(self, _caller: Any = None, _event: Any = None) -> None:
        """Keep nothing until the next `show`: while a scene is closed or added to, the selectors lose what they show."""
        self._isResting = True

    def update(self, isRunning: bool) -> None:
        """Let the user do what can be done now, and say what the prior is."""
        settings = self.parameters.settings
        card = self.cards.get(settings.prior)
        self.ui.aboutLabel.text = _("The priors are not installed.") if card is None else cardText(card)
        noPrior = _("Plain interpolation uses no prior: choose the method auto or inr.") if settings.method == "interpolate" else ""
        self._usable.allow(self.ui.priorComboBox, noPrior)
        self._usable.allow(self.ui.stepsSlider, noPrior)
        self._usable.allow(self.ui.liveCheckBox, "" if settings.live or isReady() else environmentSentence("completions"))
        self._usable.allow(self.ui.completeButton, self._reasonNotToComplete(isRunning))

    def find(self) -> None:
        """Say what is outlined now."""
        self.ui.foundLabel.text = foundSentence(self.parameters.segmentationNode, self.parameters.settings.segmentId)

    def showOutline(self, node, segmentId: str, outline: Outline) -> None:
        """Say what is being completed, where it is what is chosen."""
        if node is self.parameters.segmentationNode and segmentId == self.parameters.settings.segmentId:
            self.ui.foundLabel.text = outlineSentence(outline)

    def _reasonNotToComplete(self, isRunning: bool) -> str:
        settings = self.parameters.settings
        if settings.live:
            return _("The shape follows your edits: switch that off to complete by hand.")
        if isRunning:
            return ""
        if not isReady():
            return environmentSentence("completions")
        if self.parameters.segmentationNode is None or not settings.segmentId:
            return _("Choose the segment in which you have outlined slices first.")
        return ""

    def _onNode(self, node: Any) -> None:
        """Take another segmentation, and its segment where it has but one: Slicer's selector begins with none."""
        segmentation = None if node is None or self._isQuiet else node.GetSegmentation()
        if segmentation is not None and segmentation.GetNumberOfSegments() == 1:
            self.ui.segmentSelector.setCurrentSegmentID(segmentation.GetNthSegmentID(0))
        self._onSegment()

    def _onSegment(self, _new: Any = None) -> None:
        if not self._isQuiet:
            node = self.ui.segmentSelector.currentNode()
            self.parameters.segmentationNode = node
            self._keep(segmentId=(self.ui.segmentSelector.currentSegmentID() or "") if node is not None else "")

    @property
    def _isQuiet(self) -> bool:
        return self._isShowing or self._isResting

    def _keep(self, **changes: Any) -> None:
        if not self._isQuiet:
            self.parameters.update(**changes)
            self.find()
            self._onChanged()
