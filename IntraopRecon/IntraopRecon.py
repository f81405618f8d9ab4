"""The Slicer module IntraopRecon: metadata, panel, logic and self-test. Everything they do is done in IntraopReconLib."""

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

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.demo import sample_case
from IntraopReconLib.host import SelfTest, XRays
from IntraopReconLib.host.ParameterNode import ParameterNode
from IntraopReconLib.host.ReconLogic import ReconLogic
from IntraopReconLib.host.ResultNodes import ResultNodes
from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.Reload import forgetModules

RESEARCH_USE_ONLY = "Research use only, not a medical device: not for diagnosis, treatment or navigation."
SAMPLES = {"lumbar": "IntraopReconLumbar", "thorax": "IntraopReconThorax"}
POLL_INTERVAL_MS = 50


class IntraopRecon(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "Intraoperative Reconstruction"
        self.parent.categories = ["SparseAnatomy"]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseAnatomy contributors"]
        self.parent.helpText = (
            "Makes a bone volume and a bone surface from 20 to 30 C-arm X-rays, taken from any directions whose geometry is known. "
            f"<p><b>{RESEARCH_USE_ONLY}</b></p>"
        )
        self.parent.acknowledgementText = (
            f"{RESEARCH_USE_ONLY} Methods after IXGS (arXiv 2504.14699) and R²-Gaussian (arXiv 2405.20693). "
            "The sample cases are simulated from public CT: see ATTRIBUTION.md beside them."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the bundled cases in the Sample Data module."""
    import SampleData

    icon = Path(__file__).parent / "Resources" / "Icons" / "IntraopRecon.png"
    for name, title in SAMPLES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="SparseAnatomy",
            sampleName=title,
            thumbnailFileName=str(icon),
            customDownloader=lambda source, name=name: chooseSample(name),
        )


def chooseSample(name: str) -> None:
    """Open the module on a bundled case."""
    try:
        ParameterNode(slicer.mrmlScene).update(caseFolder=str(sample_case(name)), resultFolder=str(_sampleResultFolder(name)))
    except SparseAnatomyError as error:
        slicer.util.errorDisplay(str(error))
        return
    slicer.util.selectModule("IntraopRecon")
    slicer.util.getModuleWidget("IntraopRecon").onSceneChanged()  # a panel that was open already is not entered again


def _sampleResultFolder(name: str) -> Path:
    """Return a folder that may be written to, as the installed sample cases may not."""
    return Path(slicer.app.temporaryPath) / "SparseAnatomy" / name


class IntraopReconLogic(ScriptedLoadableModuleLogic):
    """The logic of Slicer's console: `slicer.util.getModuleLogic("IntraopRecon").reconstruct(caseFolder)`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.recon = ReconLogic(slicer.mrmlScene)

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
    """The panel: case, quality and method, one button, and how it goes."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.parameters = self.nodes = None

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/IntraopRecon.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = IntraopReconLogic()
        recon = self.logic.recon
        recon.progressed.connect(self.onProgress)
        recon.warned.connect(self.onWarning)
        recon.finished.connect(self.onFinished)
        recon.failed.connect(self.onFailed)
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", recon.poll)
        self.ui.noticeLabel.text = RESEARCH_USE_ONLY
        self.ui.caseFolderPath.connect("currentPathChanged(QString)", self.onCaseFolderChanged)
        self.ui.qualityComboBox.connect("currentTextChanged(QString)", lambda text: self.parameters.update(quality=text))
        self.ui.methodComboBox.connect("currentTextChanged(QString)", lambda text: self.parameters.update(method=text))
        self.ui.reconstructButton.connect("clicked(bool)", self.onReconstructOrCancel)
        self.ui.showXraysCheckBox.connect("toggled(bool)", self.onShowXrays)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneChanged)
        self.onSceneClosed()

    def enter(self) -> None:
        """Show what the scene says when the module is opened."""
        self.onSceneChanged()

    def cleanup(self) -> None:
        """Stop the worker before the application goes."""
        self.removeObservers()
        if self.logic is not None:
            self.timer.stop()
            self.logic.recon.close()

    def onReload(self) -> None:
        """Load the libraries again too: for developers."""
        forgetModules("IntraopReconLib", "SparseAnatomyLib")
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneClosed(self, caller=None, event=None) -> None:
        """Begin anew: stop what runs for a scene that is gone."""
        self.logic.recon.cancel()
        self.ui.statusLabel.text, self.ui.warningsLabel.text = environmentSentence(), ""
        self.onSceneChanged()

    def onSceneChanged(self, caller=None, event=None) -> None:
        """Take the settings of the scene."""
        if self.nodes is not None and self.nodes.volume.GetScene() is None:
            self.nodes = None
        self.parameters = ParameterNode(slicer.mrmlScene)
        settings = self.parameters.settings
        self.ui.qualityComboBox.setCurrentText(settings.quality)
        self.ui.methodComboBox.setCurrentText(settings.method)
        self.ui.caseFolderPath.setCurrentPath(settings.caseFolder)
        self.updateButtons()

    def onCaseFolderChanged(self, path: str) -> None:
        """Keep the case in the scene; its result goes beside it."""
        if path != self.parameters.settings.caseFolder:
            self.parameters.update(caseFolder=path, resultFolder="")
        self.updateButtons()

    def updateButtons(self) -> None:
        """Let the user do what can be done now."""
        running = self.logic.recon.isRunning
        self.ui.reconstructButton.text = "Cancel" if running else "Reconstruct"
        self.ui.reconstructButton.enabled = running or (isReady() and bool(self.parameters.settings.caseFolder))
        self.ui.settingsBox.enabled = not running
        self.ui.progressBar.visible = running
        self.ui.showXraysCheckBox.enabled = self.nodes is not None
        self.ui.warningsLabel.visible = bool(self.ui.warningsLabel.text)

    def onReconstructOrCancel(self, _checked: bool = False) -> None:
        """Start, or stop what runs."""
        recon = self.logic.recon
        if recon.isRunning:
            self.ui.statusLabel.text = "Stopping …"
            recon.cancel()
            return
        try:
            recon.start(Path(self.parameters.settings.caseFolder), self.parameters.resultFolder, self.parameters.config())
        except SparseAnatomyError as error:
            self.onFailed(error)
            return
        self.ui.warningsLabel.text = ""
        self.onProgress(0.0, "Starting …")
        self.timer.start(POLL_INTERVAL_MS)
        self.updateButtons()

    def onProgress(self, fraction: float, message: str) -> None:
        """Show how far it is."""
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.statusLabel.text = message

    def onWarning(self, message: str) -> None:
        """Keep what the user should read."""
        self.ui.warningsLabel.text = f"{self.ui.warningsLabel.text}\n{message}".strip()
        self.updateButtons()

    def onFinished(self, nodes: ResultNodes) -> None:
        """Show the result."""
        self.timer.stop()
        self.nodes = nodes
        self.ui.statusLabel.text = f"Done: the result is graded {nodes.grade} and lies in {self.parameters.resultFolder}."
        slicer.util.resetThreeDViews()
        self.ui.showXraysCheckBox.checked = False
        self.updateButtons()

    def onFailed(self, error: SparseAnatomyError) -> None:
        """Say what is wrong and what to do."""
        self.timer.stop()
        self.ui.statusLabel.text = str(error)
        self.updateButtons()
        if error.kind != "cancelled":
            slicer.util.errorDisplay(str(error))

    def onShowXrays(self, checked: bool) -> None:
        """Show or hide the X-rays in 3D."""
        if self.nodes is not None:
            XRays.setVisible(self.nodes.xrays, checked)


class IntraopReconTest(ScriptedLoadableModuleTest):
    """Runs in Slicer and in the project's test host alike."""

    def runTest(self) -> None:
        """Reconstruct the sample case in the panel, load it by the logic, close the scene."""
        slicer.mrmlScene.Clear()
        widget, folder = slicer.util.getModuleWidget("IntraopRecon"), _sampleResultFolder(SelfTest.CASE)
        SelfTest.checkResult(SelfTest.reconstructInPanel(widget, folder))
        SelfTest.checkResult(slicer.util.getModuleLogic("IntraopRecon").loadResult(folder))
        SelfTest.checkReset(widget)
        self.delayDisplay("IntraopRecon: passed")
