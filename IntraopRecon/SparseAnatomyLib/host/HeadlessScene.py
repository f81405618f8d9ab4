"""A MRML scene without the desktop: what Slicer's modules register when it starts, for tests, commands and off-screen pictures."""

from __future__ import annotations

import shutil
import tempfile
import weakref

import slicer
import vtk

_LOGICS = {  # by the name of the Slicer module, under which displayable managers look for them
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}
_SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class HeadlessScene:
    """Owns a scene and the module logics that its node types need; keep it as long as the scene is used.

    Attributes:
        scene: The vtkMRMLScene.
        applicationLogic: Its vtkSlicerApplicationLogic.
    """

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.applicationLogic.SetMRMLScene(self.scene)
        self.applicationLogic.SetSliceLogics(vtk.vtkCollection())
        self.applicationLogic.SetViewLogics(vtk.vtkCollection())
        colors = self.applicationLogic.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        cacheFolder = tempfile.mkdtemp(prefix="SparseAnatomy-")  # where .mrb files are unpacked
        weakref.finalize(self, shutil.rmtree, cacheFolder, ignore_errors=True)
        self.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # as the module Colors does
        self._fileLogics = self._prepareFiles(cacheFolder)
        self._logics = [self._register(name, className) for name, className in _LOGICS.items()]
        patientRightIsScreenLeft = True
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, patientRightIsScreenLeft)
        # the desktop's own slice views, so that what they show is saved with the scene
        self._sliceLogics = [self._addSliceView(name, orientation) for name, orientation in _SLICE_VIEWS.items()]

    def _register(self, name: str, className: str):
        logic = getattr(slicer, className)()
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.applicationLogic)
        self.applicationLogic.SetModuleLogic(name, logic)
        return logic

    def _prepareFiles(self, cacheFolder: str):
        remote = slicer.vtkMRMLRemoteIOLogic()
        remote.SetMRMLScene(self.scene)
        remote.SetMRMLApplicationLogic(self.applicationLogic)
        remote.GetCacheManager().SetRemoteCacheDirectory(cacheFolder)
        manager = slicer.vtkDataIOManagerLogic()
        manager.SetMRMLScene(self.scene)
        manager.SetMRMLApplicationLogic(self.applicationLogic)
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        return remote, manager

    def _addSliceView(self, name: str, orientation: str):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(self.scene)
        node = logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        self.applicationLogic.GetSliceLogics().AddItem(logic)
        return logic
