"""The Slicer module ShapeCompletion: metadata, panel, logic and self-test. Everything they do is done in ShapeCompletionLib."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
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
from ShapeCompletionLib.host.CompletionNodes import CompletionNodes, currentCompletion
from ShapeCompletionLib.host.ParameterNode import ParameterNode
from ShapeCompletionLib.host.ResultSection import ResultSection
from ShapeCompletionLib.host.Sentences import doneSentence
from ShapeCompletionLib.host.SettingsSection import SettingsSection
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.ErrorDetails import errorDetails
from SparseAnatomyLib.host.InstallLine import InstallLine
from SparseAnatomyLib.host.Reload import forgetModules

RESEARCH_USE_ONLY = _("Research use only, not a medical device: not for diagnosis, treatment or navigation.")
POLL_INTERVAL_MS = 25


class ShapeCompletion(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Shape Completion")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "SparseAnatomy")]
        self.parent.dependencies = ["IntraopRecon"]
        self.parent.contributors = ["SparseAnatomy contributors"]
        help = _("Makes a whole shape from a few outlined slices, in any directions, and shows how sure it is of every part.")
        self.parent.helpText = f"{help} <p><b>{RESEARCH_USE_ONLY}</b></p>"
        thanks = _(
            "After De Paolis et al., Fast Medical Shape Reconstruction via Meta-learned Implicit Neural Representations. What each prior "
            "was trained on, and its license, is told in the panel under About this prior."
        )
        self.parent.acknowledgementText = f"{RESEARCH_USE_ONLY} {thanks}"
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the bundled outlines in the Sample Data module."""
    import SampleData

    icon = Path(__file__).parent / "Resources" / "Icons" / "ShapeCompletion.png"
    shared = {"category": "SparseAnatomy", "thumbnailFileName": str(icon), "uris": [], "fileNames": []}  # Slicer takes the lists' lengths
    for path in Samples.sampleFiles():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            sampleName=Samples.sampleTitle(path), customDownloader=lambda source, path=path: chooseSample(path), **shared
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
    """The panel: settings above, one button, the result below."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.parameters = self.nodes = self.error = self.chosen = None

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
        self.settingsSection = SettingsSection(self.ui, self.onSettingsChanged)
        completion.outlined.connect(self.settingsSection.showOutline)
        self.resultSection = ResultSection(self.ui, slicer.mrmlScene, self.say, self.onFailed)
        self.installLine = InstallLine(self.ui.noticeLabel, self.moduleName, self.onReadiness)
        self.ui.completeButton.connect("clicked(bool)", self.onCompleteOrCancel)
        self.ui.copyDetailsButton.connect("clicked(bool)", self.onCopyDetails)
        for event in (slicer.mrmlScene.StartCloseEvent, slicer.mrmlScene.StartImportEvent):
            self.addObserver(slicer.mrmlScene, event, self.settingsSection.rest)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.onSceneClosed()

    def enter(self) -> None:
        """Show what the scene says when the module is opened, and let the worker get ready."""
        self.installLine.update()
        self.onSceneChanged()
        if isReady():
            self.logic.completion.warmUp(self.parameters.settings.prior)

    def cleanup(self) -> None:
        """Stop the worker before the application goes."""
        self.removeObservers()
        if self.logic is not None:
            self.timer.stop()
            self.installLine.close()
            self.logic.completion.close()

    def onReload(self) -> None:
        """Load the libraries again too: for developers."""
        forgetModules("ShapeCompletionLib", "SparseAnatomyLib")
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneClosed(self, caller=None, event=None) -> None:
        """Begin anew: stop what runs for a scene that is gone."""
        self.logic.completion.cancel()
        self.say(environmentSentence("completions"))
        self.onSceneChanged()

    def onSceneChanged(self, caller=None, event=None) -> None:
        """Take the settings of the scene."""
        self.parameters = ParameterNode(slicer.mrmlScene)
        self.settingsSection.show(self.parameters)

    def onNodeRemoved(self, caller=None, event=None) -> None:
        """Let go of a result that the user takes away."""
        if self.nodes is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.updatePanel()

    def onReadiness(self) -> None:
        """Say what can be done once packages are being installed, or are there, and let the worker get ready."""
        self.say(environmentSentence("completions"))
        self.enter()

    def onSettingsChanged(self) -> None:
        """Follow edits of what is chosen now, with the settings of now."""
        completion, settings, node = self.logic.completion, self.parameters.settings, self.parameters.segmentationNode
        completion.stopLive()
        if self.chosen != (chosen := (node, settings.segmentId)) and not completion.isRunning:
            self.say(environmentSentence("completions"))  # what was said is of another segment
        self.chosen = chosen
        if settings.live and node is not None and settings.segmentId and isReady():
            try:
                completion.live(node, settings.segmentId, settings.prior, self.parameters.config())
            except SparseAnatomyError as error:
                self.say(str(error), error)
        self.updatePanel()

    def updatePanel(self) -> None:
        """Let the user do what can be done now, and show the result of what is chosen."""
        running, settings = self.logic.completion.isRunning, self.parameters.settings
        self.nodes = currentCompletion(slicer.mrmlScene, self.parameters.segmentationNode, settings.segmentId, self.nodes)
        self.settingsSection.update(running)
        self.resultSection.show(self.parameters, self.nodes, self.settingsSection.cards.get(settings.prior))
        self.ui.completeButton.text = _("Cancel") if running else _("Complete")
        self.ui.progressBar.visible = running

    def say(self, text: str, error: SparseAnatomyError | None = None) -> None:
        """Tell the user something, in the panel; of an error the details may be copied."""
        self.error = error
        self.ui.statusLabel.text = text
        self.ui.copyDetailsButton.visible = error is not None

    def onCopyDetails(self, _checked: bool = False) -> None:
        """Put what is known of the error into the clipboard."""
        qt.QApplication.clipboard().setText(errorDetails(self.error, self.moduleName))

    def onCompleteOrCancel(self, _checked: bool = False) -> None:
        """Start, or stop what runs; while edits are followed the button rests."""
        completion, settings = self.logic.completion, self.parameters.settings
        if completion.isRunning:
            self.say(_("Stopping …"))
            completion.cancel()
            return
        try:
            completion.start(self.parameters.segmentationNode, settings.segmentId, settings.prior, self.parameters.config())
        except SparseAnatomyError as error:
            self.onFailed(error)
            return
        self.onProgress(0.0, _("Starting …"))
        self.updatePanel()

    def onProgress(self, fraction: float, message: str) -> None:
        """Show how far it is."""
        self.ui.progressBar.value = round(100 * fraction)
        self.say(message)

    def onFinished(self, nodes: CompletionNodes) -> None:
        """Show the result and what the user should know of it."""
        if self.nodes is None:
            slicer.util.resetThreeDViews()
        self.nodes = nodes
        self.say(doneSentence(nodes.shape))
        self.updatePanel()

    def onFailed(self, error: SparseAnatomyError) -> None:
        """Say in the panel what is wrong and what to do; no window, as the user may be drawing."""
        self.say(str(error), None if error.kind == "cancelled" else error)
        self.settingsSection.find()  # perhaps there is nothing outlined any more
        self.updatePanel()


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
