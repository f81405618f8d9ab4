"""A result in the scene: volume, bone, coverage, region of interest and X-rays, in one subject hierarchy folder, ready to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Folders, Nodes
from SparseAnatomyLib.host.SliceViews import aimSliceViews, framedPointsRas, showInSliceViews

from . import XRays
from .ResultFolder import Result
from .XRays import XrayNodes

BONE_COLOR = (0.93, 0.87, 0.75)
OUTLINE_COLOR = (0.98, 0.72, 0.25)
UNKNOWN_COLOR = (0.26, 0.28, 0.38)
UNKNOWN_COVERAGE = 0.05
"""Coverage up to which a voxel counts as unknown: next to nothing constrains it."""


@dataclass(frozen=True, eq=False)
class ResultNodes:
    """The nodes of a result.

    Attributes:
        folder: Subject hierarchy item.
        volume: vtkMRMLScalarVolumeNode, attenuation per mm.
        volumeRendering: Its vtkMRMLVolumeRenderingDisplayNode with the bone preset, hidden: the bone model shows the same.
        coverage: vtkMRMLScalarVolumeNode; as a slice view's foreground it covers what is unknown and nothing else.
        segmentation: vtkMRMLSegmentationNode of one segment.
        bone: vtkMRMLModelNode.
        roi: vtkMRMLMarkupsROINode around what was reconstructed, hidden.
        xrays: The X-rays' nodes.
        grade: `good` or `poor`.
        warnings: Sentences for the user.
    """

    folder: int
    volume: Any
    volumeRendering: Any
    coverage: Any
    segmentation: Any
    bone: Any
    roi: Any
    xrays: XrayNodes
    grade: str
    warnings: list[str]


def addResult(scene, result: Result, name: str, previewNode=None) -> ResultNodes:
    """Bring a result into the scene, all of it or nothing.

    Args:
        scene: vtkMRMLScene.
        result: The values.
        name: What the user calls the case.
        previewNode: The volume node that has shown previews and becomes the result's.
    """
    folder = Folders.folderItem(scene, name)
    with Folders.Added(scene, folder) as added, added.step():
        coverage = _coverageNode(scene, result, f"{name} coverage")
        volume = _volumeNode(scene, result.attenuationPerMm, result.grid, f"{name} volume", previewNode)
        highest = max(float(np.percentile(result.attenuationPerMm, 99.95)), 1.2 * result.boneThresholdPerMm)
        Nodes.setWindow(volume, 0.0, highest)
        bone = Nodes.modelNodeFromPolyData(scene, Nodes.polyDataFromMesh(result.mesh), f"{name} bone")
        segmentation = Nodes.segmentationNodeFromMesh(scene, result.mesh, volume, f"{name} segmentation", "Bone")
        _styleBone(bone, segmentation)
        roi = Nodes.roiNodeFromBox(scene, result.region, f"{name} region")
        roi.GetDisplayNode().SetVisibility(False)
        roi.LockedOn()
        for node in (volume, segmentation, bone, coverage, roi):
            Folders.moveToFolder(scene, node, folder)
        rendering = _volumeRendering(scene, volume, result.boneThresholdPerMm)
        xrays = XRays.addXrays(scene, result.xrays, folder)
    showInSliceViews(scene, volume, coverage)
    aimSliceViews(scene, volume, framedPointsRas(bone, volume))
    return ResultNodes(folder, volume, rendering, coverage, segmentation, bone, roi, xrays, result.grade, result.warnings)


def showPreview(scene, array: np.ndarray, grid: VoxelGrid, name: str, previewNode=None):
    """Show an intermediate volume and return its node: `previewNode` with other voxels, or a new one where that is None or gone."""
    isNew = not Folders.isInScene(scene, previewNode)
    node = _volumeNode(scene, array, grid, f"{name} preview", previewNode)
    if isNew:
        Nodes.setWindow(node, 0.0, max(float(np.percentile(array, 99.95)), 1e-3))
        showInSliceViews(scene, node)
    return node


def _volumeNode(scene, array: np.ndarray, grid: VoxelGrid, name: str, previewNode):
    if not Folders.isInScene(scene, previewNode):
        return Nodes.volumeNodeFromArray(scene, array, grid, name)
    Nodes.updateVolumeNode(previewNode, array, grid)
    previewNode.SetName(name)
    return previewNode


def _coverageNode(scene, result: Result, name: str):
    """Add the coverage so that, laid over the volume, it paints what is unknown in one color and leaves the rest free."""
    node = Nodes.volumeNodeFromArray(scene, result.coverage, result.grid, name)
    colors = scene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{name} colors")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(2)
    colors.SetColor(0, "unknown", *UNKNOWN_COLOR, 1.0)
    colors.SetColor(1, "known", 1.0, 1.0, 1.0, 1.0)
    colors.SetHideFromEditors(True)
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(colors.GetID())
    Nodes.setWindow(node, 0.0, 2 * UNKNOWN_COVERAGE)
    display.SetApplyThreshold(True)
    display.AutoThresholdOff()
    display.SetThreshold(float(min(0.0, result.coverage.min())), UNKNOWN_COVERAGE)
    display.SetInterpolate(False)
    return node


def _styleBone(bone, segmentation) -> None:
    """Show the bone as a surface in 3D and as an outline in slices."""
    display = bone.GetDisplayNode()
    display.SetColor(*BONE_COLOR)
    display.SetAmbient(0.12)
    display.SetDiffuse(0.88)
    display.SetSpecular(0.12)
    display.SetPower(12)
    display.SetVisibility2D(False)
    segment = segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetColor(*OUTLINE_COLOR)
    outline = segmentation.GetDisplayNode()
    outline.SetPreferredDisplayRepresentationName2D("Closed surface")
    outline.SetVisibility3D(False)
    outline.SetVisibility2DFill(False)
    outline.SetSliceIntersectionThickness(1)


def _volumeRendering(scene, volume, threshold: float):
    """Add a volume rendering display in which bone is what exceeds the threshold."""
    propertyNode = scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode", f"{volume.GetName()} bone preset")
    opacity = vtk.vtkPiecewiseFunction()
    for share, value in ((0.0, 0.0), (0.7, 0.0), (1.0, 0.25), (1.5, 0.8), (4.0, 0.95)):
        opacity.AddPoint(share * threshold, value)
    color = vtk.vtkColorTransferFunction()
    for share, rgb in ((0.0, (0.25, 0.12, 0.08)), (0.8, (0.62, 0.38, 0.26)), (1.1, (0.86, 0.74, 0.58)), (1.8, (0.97, 0.94, 0.87))):
        color.AddRGBPoint(share * threshold, *rgb)
    gradient = vtk.vtkPiecewiseFunction()
    gradient.AddPoint(0.0, 1.0)
    prop = propertyNode.GetVolumeProperty()
    prop.SetInterpolationTypeToLinear()
    prop.ShadeOn()
    prop.SetAmbient(0.2)
    prop.SetDiffuse(0.85)
    prop.SetSpecular(0.15)
    propertyNode.SetScalarOpacity(opacity)
    propertyNode.SetColor(color)
    propertyNode.SetGradientOpacity(gradient)
    display = scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    display.SetAndObserveVolumePropertyNodeID(propertyNode.GetID())
    display.SetVisibility(False)
    volume.AddAndObserveDisplayNodeID(display.GetID())
    return display
