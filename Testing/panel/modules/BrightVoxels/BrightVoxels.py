"""An ordinary scripted module, as third parties write them: it knows nothing of the test host."""

import logging
from typing import Annotated, Optional

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin


class BrightVoxels(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Bright Voxels")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.dependencies = []
        self.parent.contributors = ["Nobody in particular"]
        self.parent.helpText = _("Counts the voxels above a threshold and keeps them.")
        self.parent.acknowledgementText = _("Thanks.")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="BrightVoxels", sampleName="BrightVoxelsRamp", uris=[], fileNames=[], customDownloader=lambda source: makeRamp()
    )


def makeRamp():
    return slicer.util.addVolumeFromArray(np.arange(60.0).reshape(3, 4, 5), name="Ramp")


@parameterNodeWrapper
class BrightVoxelsParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(0, 100)] = 20
    invert: bool = False
    label: str = "bright"
    result: Optional[vtkMRMLScalarVolumeNode] = None


class BrightVoxelsWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/BrightVoxels.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = BrightVoxelsLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)

    def onSceneStartClose(self, caller, event) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            firstVolumeNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if firstVolumeNode:
                self._parameterNode.inputVolume = firstVolumeNode

    def setParameterNode(self, inputParameterNode) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None) -> None:
        if self._parameterNode and self._parameterNode.inputVolume:
            self.ui.applyButton.toolTip = _("Count")
            self.ui.applyButton.enabled = True
        else:
            self.ui.applyButton.toolTip = _("Choose a volume first")
            self.ui.applyButton.enabled = False

    def onApplyButton(self) -> None:
        with slicer.util.tryWithErrorDisplay(_("Counting failed."), waitCursor=True):
            parameters = self._parameterNode
            count = self.logic.process(self.ui.inputSelector.currentNode(), parameters.threshold, parameters.invert)
            self.ui.countLabel.text = _("{count} voxels").format(count=count)


class BrightVoxelsLogic(ScriptedLoadableModuleLogic):
    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)

    def getParameterNode(self):
        return BrightVoxelsParameterNode(super().getParameterNode())

    def process(self, inputVolume, threshold, invert=False) -> int:
        if not inputVolume:
            raise ValueError("Choose a volume.")
        logging.info("Counting")
        values = slicer.util.arrayFromVolume(inputVolume)
        return int(np.count_nonzero((values > threshold) != invert))


class BrightVoxelsTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_BrightVoxels1()

    def test_BrightVoxels1(self):
        self.delayDisplay("Starting the test")
        registerSampleData()
        import SampleData

        volume = SampleData.downloadSample("BrightVoxelsRamp")
        self.delayDisplay("Loaded test data set")
        logic = BrightVoxelsLogic()
        self.assertEqual(logic.process(volume, 20), 39)
        self.assertEqual(logic.process(volume, 20, True), 21)
        self.delayDisplay("Test passed")
