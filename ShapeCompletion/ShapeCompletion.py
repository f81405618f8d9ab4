"""The Slicer module ShapeCompletion: metadata, panel, logic and self-test. Everything they do is done in ShapeCompletionLib."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.host import Samples, SelfTest
from ShapeCompletionLib.host.CompletionLogic import DEFAULT_PRIOR, CompletionLogic
from ShapeCompletionLib.host.CompletionNodes import CompletionNodes, setNextSliceVisible
from ShapeCompletionLib.host.ParameterNode import ParameterNode
from ShapeCompletionLib.host.Sentences import doneSentence, foundSentence, priorChoices
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Reload import forgetModules

RESEARCH_USE_ONLY = "Research use only, not a medical device: not for diagnosis, treatment or navigation."
POLL_INTERVAL_MS = 50


class ShapeCompletion(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "Shape Completion"
        self.parent.categories = ["SparseAnatomy"]
        self.parent.dependencies = ["IntraopRecon"]
        self.parent.contributors = ["SparseAnatomy contributors"]
        help = "Makes a whole shape from a few outlined slices, in any directions, and shows how sure it is of every part."
        self.parent.helpText = f"{help} <p><b>{RESEARCH_USE_ONLY}</b></p>"
        self.parent.acknowledgementText = (
            f"{RESEARCH_USE_ONLY} After De Paolis et al., Fast Medical Shape Reconstruction via Meta-learned Implicit Neural "
            "Representations. What each prior was trained on, and its licence, is told by the card beside it."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the bundled outlines in the Sample Data module."""
    import SampleData

    icon = Path(__file__).parent / "Resources" / "Icons" / "ShapeCompletion.png"
    for path in Samples.sampleFiles():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="SparseAnatomy",
            sampleName=Samples.sampleTitle(path),
            thumbnailFileName=str(icon),
            customDownloader=lambda source, path=path: chooseSample(path),
        )


def chooseSample(path: Path) -> None:
    """Load outlines that ship and open the module on them."""
    try:
        Samples.chooseSample(slicer.mrmlScene, path)
    except SparseAnatomyError as error:
        slicer.util.errorDisplay(str(error))
        return
    slicer.util.selectModule("ShapeCompletion")
    slicer.util.getModuleWidget("ShapeCompletion").onSceneChanged()  # a panel that was open already is not entered again


class ShapeCompletionLogic(ScriptedLoadableModuleLogic):
    """The logic of Slicer's console: `slicer.util.getModuleLogic("ShapeCompletion").complete(segmentationNode, "L3")`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.completion = CompletionLogic(slicer.mrmlScene)

    def complete(self, segmentationNode, segment="", prior=DEFAULT_PRIOR, config: CompletionConfig | None = None) -> CompletionNodes:
        """Complete a segment (id or name), wait, and return the nodes that are now in the scene.

        Raises:
            SparseAnatomyError: What is wrong, and the remedy.
        """
        return self.completion.complete(segmentationNode, segment, prior, config, idle=slicer.app.processEvents)


class ShapeCompletionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: segment, anatomy and method, one button, and how sure the result is."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.parameters = self.nodes = None

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ShapeCompletion.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ShapeCompletionLogic()
        completion = self.logic.completion
        completion.progressed.connect(self.onProgress)
        completion.finished.connect(self.onFinished)
        completion.failed.connect(self.onFailed)
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", completion.poll)
        self.timer.start(POLL_INTERVAL_MS)
        self.priors = priorChoices()
        self.ui.priorComboBox.addItems(list(self.priors.values()))
        self.ui.segmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentChanged)
        self.ui.segmentSelector.connect("currentSegmentChanged(QString)", self.onSegmentChanged)
        self.ui.priorComboBox.connect("currentIndexChanged(int)", lambda index: self.keep(prior=list(self.priors)[index]))
        self.ui.methodComboBox.connect("currentTextChanged(QString)", lambda text: self.keep(method=text))
        self.ui.liveCheckBox.connect("toggled(bool)", lambda checked: self.keep(live=checked))
        self.ui.completeButton.connect("clicked(bool)", self.onCompleteOrCancel)
        self.ui.nextSliceCheckBox.connect("toggled(bool)", self.onShowNextSlice)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneChanged)
        self.onSceneClosed()

    def enter(self) -> None:
        """Show what the scene says when the module is opened, and let the worker get ready."""
        self.onSceneChanged()
        if isReady():
            self.logic.completion.warmUp(self.parameters.settings.prior)

    def cleanup(self) -> None:
        """Stop the worker before the application goes."""
        self.removeObservers()
        if self.logic is not None:
            self.timer.stop()
            self.logic.completion.close()

    def onReload(self) -> None:
        """Load the libraries again too: for developers."""
        forgetModules("ShapeCompletionLib", "SparseAnatomyLib")
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneClosed(self, caller=None, event=None) -> None:
        """Begin anew: stop what runs for a scene that is gone."""
        self.logic.completion.cancel()
        self.ui.statusLabel.text, self.ui.warningsLabel.text = environmentSentence("completions"), ""
        self.onSceneChanged()

    def onSceneChanged(self, caller=None, event=None) -> None:
        """Take the settings of the scene."""
        if self.nodes is not None and self.nodes.segmentation.GetScene() is None:
            self.nodes = None
        self.parameters = ParameterNode(slicer.mrmlScene)
        settings, node = self.parameters.settings, self.parameters.segmentationNode
        self.ui.methodComboBox.setCurrentText(settings.method)
        if settings.prior in self.priors:
            self.ui.priorComboBox.setCurrentIndex(list(self.priors).index(settings.prior))
        self.ui.nextSliceCheckBox.checked = settings.showNextSlice
        self.ui.segmentSelector.setCurrentNode(node)
        self.ui.segmentSelector.setCurrentSegmentID(settings.segmentId)
        self.ui.liveCheckBox.checked = settings.live
        self.updateButtons()

    def onSegmentChanged(self, _new=None) -> None:
        """Keep what is chosen in the scene."""
        self.parameters.segmentationNode = self.ui.segmentSelector.currentNode()
        self.keep(segmentId=self.ui.segmentSelector.currentSegmentID() or "")

    def keep(self, **changes) -> None:
        """Keep settings in the scene, and follow edits with them."""
        self.parameters.update(**changes)
        self.restartLive()

    def restartLive(self) -> None:
        """Follow edits of what is chosen now, with the settings of now."""
        completion, settings, node = self.logic.completion, self.parameters.settings, self.parameters.segmentationNode
        completion.stopLive()
        if settings.live and node is not None and settings.segmentId and isReady():
            try:
                completion.live(node, settings.segmentId, settings.prior, self.parameters.config())
            except SparseAnatomyError as error:
                self.ui.statusLabel.text = str(error)
        self.updateButtons()

    def updateButtons(self) -> None:
        """Let the user do what can be done now, and say what is outlined."""
        running, settings, node = self.logic.completion.isRunning, self.parameters.settings, self.parameters.segmentationNode
        self.ui.completeButton.text = "Cancel" if running else "Complete"
        isChosen = node is not None and bool(settings.segmentId)
        self.ui.completeButton.enabled = not settings.live and (running or (isReady() and isChosen))
        self.ui.progressBar.visible = running
        self.ui.warningsLabel.visible = bool(self.ui.warningsLabel.text)
        self.ui.foundLabel.text = foundSentence(node, settings.segmentId)

    def onCompleteOrCancel(self, _checked: bool = False) -> None:
        """Start, or stop what runs; while edits are followed the button rests."""
        completion, settings = self.logic.completion, self.parameters.settings
        if completion.isRunning:
            self.ui.statusLabel.text = "Stopping …"
            completion.cancel()
            return
        try:
            completion.start(self.parameters.segmentationNode, settings.segmentId, settings.prior, self.parameters.config())
        except SparseAnatomyError as error:
            self.onFailed(error)
            return
        self.onProgress(0.0, "Starting …")
        self.updateButtons()

    def onProgress(self, fraction: float, message: str) -> None:
        """Show how far it is."""
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.statusLabel.text = message

    def onFinished(self, nodes: CompletionNodes) -> None:
        """Show the result and what the user should know of it."""
        if self.nodes is None:
            slicer.util.resetThreeDViews()
        self.nodes = nodes
        self.ui.statusLabel.text = doneSentence(nodes.shape)
        self.ui.warningsLabel.text = "\n".join(nodes.shape.warnings)
        setNextSliceVisible(nodes, self.ui.nextSliceCheckBox.checked)
        self.updateButtons()

    def onFailed(self, error: SparseAnatomyError) -> None:
        """Say what is wrong and what to do; without a window while the user draws."""
        self.ui.statusLabel.text = str(error)
        self.updateButtons()
        if error.kind != "cancelled" and not self.logic.completion.isLive:
            slicer.util.errorDisplay(str(error))

    def onShowNextSlice(self, checked: bool) -> None:
        """Show or hide the plane of the next slice."""
        self.parameters.update(showNextSlice=checked)
        if self.nodes is not None:
            setNextSliceVisible(self.nodes, checked)


class ShapeCompletionTest(ScriptedLoadableModuleTest):
    """Runs in Slicer and in the project's test host alike."""

    def runTest(self) -> None:
        """Complete the bundled outlines in the panel, then by the logic, close the scene."""
        slicer.mrmlScene.Clear()
        widget = slicer.util.getModuleWidget("ShapeCompletion")
        SelfTest.checkResult(SelfTest.completeInPanel(widget))
        SelfTest.checkResult(slicer.util.getModuleLogic("ShapeCompletion").complete(widget.parameters.segmentationNode))
        SelfTest.checkReset(widget)
        self.delayDisplay("ShapeCompletion: passed")
