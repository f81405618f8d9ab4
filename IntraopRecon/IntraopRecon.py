"""The Slicer module IntraopRecon: metadata, panel, logic and self-test. Everything they do is done in IntraopReconLib."""

from __future__ import annotations

import shutil
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

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.demo import sample_case
from IntraopReconLib.host import SelfTest
from IntraopReconLib.host.CalibrationSection import CalibrationSection
from IntraopReconLib.host.Panel import Panel
from IntraopReconLib.host.ParameterNode import ParameterNode
from IntraopReconLib.host.PreparationLogic import PreparationLogic
from IntraopReconLib.host.ReconLogic import ReconLogic
from IntraopReconLib.host.ReconstructionSection import ReconstructionSection
from IntraopReconLib.host.ResultNodes import ResultNodes
from IntraopReconLib.host.ResultSection import ResultSection
from IntraopReconLib.host.StandardizationSection import StandardizationSection
from IntraopReconLib.host.XRaysSection import XRaysSection
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.ErrorDetails import errorDetails
from SparseAnatomyLib.host.InstallLine import InstallLine
from SparseAnatomyLib.host.Reload import forgetModules

RESEARCH_USE_ONLY = _("Research use only, not a medical device: not for diagnosis, treatment or navigation.")
SAMPLES = {"lumbar": "IntraopReconLumbar", "thorax": "IntraopReconThorax", "lumbar-beads": "IntraopReconLumbarBeads"}
SECTIONS = (XRaysSection, CalibrationSection, StandardizationSection, ReconstructionSection, ResultSection)
STEPS = ("xraysButton", "calibrationButton", "standardizationButton", "reconstructionButton", "resultButton")
POLL_INTERVAL_MS = 50


class IntraopRecon(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Intraoperative Reconstruction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "SparseAnatomy")]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseAnatomy contributors"]
        help = _("Makes a bone volume and a bone surface from 20 to 30 C-arm X-rays, taken from any directions.")
        self.parent.helpText = f"{help} <p><b>{RESEARCH_USE_ONLY}</b></p>"
        thanks = _(
            "Methods after IXGS (arXiv 2504.14699) and R²-Gaussian (arXiv 2405.20693). The sample cases are simulated from public CT: see "
            "ATTRIBUTION.md beside them."
        )
        self.parent.acknowledgementText = f"{RESEARCH_USE_ONLY} {thanks}"
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the bundled cases in the Sample Data module."""
    import SampleData

    icon = Path(__file__).parent / "Resources" / "Icons" / "IntraopRecon.png"
    shared = {"category": "SparseAnatomy", "thumbnailFileName": str(icon), "uris": [], "fileNames": []}  # Slicer takes the lists' lengths
    for name, title in SAMPLES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            sampleName=title, customDownloader=lambda source, name=name: chooseSample(name), **shared
        )


def chooseSample(name: str) -> None:
    """Open the module on a bundled case."""
    try:
        # Poses found, beads moved by hand and results are written beside the X-rays, and where Slicer is installed often nothing may be.
        case = shutil.copytree(sample_case(name), _writableFolder() / "cases" / name, dirs_exist_ok=True)
        ParameterNode(slicer.mrmlScene).update(caseFolder=str(case), resultFolder=str(_writableFolder() / name))
    except (OSError, SparseAnatomyError) as error:
        slicer.util.errorDisplay(_("The sample case cannot be opened: {reason}").format(reason=error))
        return
    slicer.util.selectModule("IntraopRecon")
    slicer.util.getModuleWidget("IntraopRecon").onSceneChanged()  # a panel that was open already is not entered again


def _writableFolder() -> Path:
    """Return the folder of what is made from samples."""
    return Path(slicer.app.temporaryPath) / "SparseAnatomy"


class IntraopReconLogic(ScriptedLoadableModuleLogic):
    """The logic of Slicer's console: `slicer.util.getModuleLogic("IntraopRecon").reconstruct(caseFolder)`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.recon = ReconLogic(slicer.mrmlScene)
        self.preparation = PreparationLogic(slicer.mrmlScene, Path(slicer.app.defaultScenePath) / "SparseAnatomy")

    def reconstruct(
        self, caseFolder: str | Path, resultFolder: str | Path | None = None, config: ReconstructionConfig | None = None
    ) -> ResultNodes:
        """Reconstruct a case, wait, and return the nodes that are now in the scene.

        Raises:
            SparseAnatomyError: What is wrong, and the remedy.
        """
        return self.recon.reconstruct(Path(caseFolder), Path(resultFolder or Path(caseFolder) / "result"), config, slicer.app.processEvents)

    def loadResult(self, folder: str | Path) -> ResultNodes:
        """Load a result folder into the scene.

        Raises:
            InputError: The folder is missing, incomplete or damaged.
        """
        return self.recon.loadResult(Path(folder))


class IntraopReconWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: five steps, one below the other in the order of the work, of which one is open; above them what is said to the user."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    @property
    def parameters(self) -> ParameterNode:
        """The settings of the scene."""
        return self.panel.parameters

    @property
    def nodes(self) -> ResultNodes | None:
        """The result that is shown."""
        return self.panel.nodes

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/IntraopRecon.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = IntraopReconLogic()
        self.panel = Panel(self.ui, slicer.mrmlScene, self.logic.recon, self.logic.preparation)
        self.sections = [make(self.panel) for make in SECTIONS]
        for section in self.sections:
            self.panel.changed.connect(section.update)
        self.installLine = InstallLine(self.ui.noticeLabel, self.moduleName, self.onReadiness)
        self.panel.changed.connect(self.installLine.update)
        self.steps = [getattr(self.ui, name) for name in STEPS]
        for step in self.steps:
            step.connect("contentsCollapsed(bool)", lambda collapsed, step=step: self.onStep(step, collapsed))
        self.timer = qt.QTimer()
        for logic in (self.logic.recon, self.logic.preparation):
            self.timer.connect("timeout()", logic.poll)
        self.timer.start(POLL_INTERVAL_MS)
        self.ui.copyDetailsButton.connect("clicked(bool)", self.onCopyDetails)
        for event in (slicer.mrmlScene.StartCloseEvent, slicer.mrmlScene.StartImportEvent):
            self.addObserver(slicer.mrmlScene, event, self.onSceneChanging)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.onSceneClosed()

    def enter(self) -> None:
        """Show what the scene says when the module is opened, and let the worker get ready."""
        self.onSceneChanged()
        if isReady():
            self.logic.recon.warmUp()
            self.logic.preparation.warmUp()

    def cleanup(self) -> None:
        """Stop the worker before the application goes."""
        self.removeObservers()
        if self.logic is not None:
            self.timer.stop()
            self.installLine.close()
            self.panel.errands.close()
            self.logic.recon.close()
            self.logic.preparation.close()

    def onReload(self) -> None:
        """Load the libraries again too: for developers."""
        forgetModules("IntraopReconLib", "SparseAnatomyLib")
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneChanging(self, caller=None, event=None) -> None:
        """Let the selectors lose what they show without a consequence, until the scene is closed or added to."""
        self.panel.isSceneChanging = True

    def onSceneClosed(self, caller=None, event=None) -> None:
        """Begin anew: stop what runs for a scene that is gone."""
        self.logic.recon.cancel()
        self.logic.preparation.cancel()
        self.panel.forgetCase()
        self.panel.errands.forget()
        self.panel.warn()
        self.panel.say(environmentSentence())
        self.onSceneChanged()

    def onSceneChanged(self, caller=None, event=None) -> None:
        """Take the settings of the scene."""
        self.panel.isSceneChanging = False
        self.panel.readScene()
        for section in self.sections:
            section.show()
        self.panel.changed.emit()

    def onNodeRemoved(self, caller=None, event=None) -> None:
        """Let go of a result that the user takes away."""
        if self.nodes is not None and not self.panel.isSceneChanging and not slicer.mrmlScene.IsBatchProcessing():
            self.panel.changed.emit()

    def onReadiness(self) -> None:
        """Say what can be done once packages are being installed, or are there, and let the worker get ready."""
        self.panel.say(environmentSentence())
        self.enter()

    def onStep(self, step, collapsed: bool) -> None:
        """Close the other steps when one is opened, so that all headings stay in sight."""
        for other in self.steps:
            if not collapsed and other is not step:
                other.collapsed = True
        if not collapsed:
            self.panel.changed.emit()

    def onCopyDetails(self, _checked: bool = False) -> None:
        """Put what is known of the error into the clipboard."""
        qt.QApplication.clipboard().setText(errorDetails(self.panel.error, self.moduleName))


class IntraopReconTest(ScriptedLoadableModuleTest):
    """Runs in Slicer and in the project's test host alike."""

    def runTest(self) -> None:
        """Reconstruct the sample case in the panel, load it by the logic, close the scene."""
        slicer.mrmlScene.Clear()
        widget, folder = slicer.util.getModuleWidget("IntraopRecon"), _writableFolder() / SelfTest.CASE
        SelfTest.checkResult(SelfTest.reconstructInPanel(widget, folder))
        SelfTest.checkResult(slicer.util.getModuleLogic("IntraopRecon").loadResult(folder))
        SelfTest.checkReset(widget)
        self.delayDisplay("IntraopRecon: passed")
