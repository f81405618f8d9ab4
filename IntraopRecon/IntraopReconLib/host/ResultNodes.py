"""A result in the scene: volume, bone, coverage, region of interest and X-rays, in one subject hierarchy folder, ready to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Folders, Nodes
from SparseAnatomyLib.host.SliceViews import aimSliceViews, framedPointsRas, showInSliceViews
from SparseAnatomyLib.host.WorkerLogic import REST, Adding, finished

from . import XRays
from .CoarseBone import CoarseBone
from .ResultFolder import BoneSource, ResultSource
from .XRays import XrayNodes

BONE_COLOR = (0.93, 0.87, 0.75)
OUTLINE_COLOR = (0.98, 0.72, 0.25)
UNKNOWN_COLOR = (0.26, 0.28, 0.38)
UNKNOWN_COVERAGE = 0.05
"""Coverage up to which a voxel counts as unknown: next to nothing constrains it."""


# Node references of the volume to what belongs to it, so that a saved scene brings the result back
_ROLES = ("volumeRendering", "coverage", "segmentation", "bone", "roi")
_XRAY_ROLES = ("images", "planes", "frusta")
_SOURCES = "sources"
_FACTS = "IntraopRecon.Result"
_PREVIEW_SURFACE, _PREVIEW_SHARE = "previewSurface", 0.35  # of the brightest voxels: about what is chosen as bone in the end


@dataclass(eq=False)
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
        chosenPerMm: The bone threshold that the reconstruction has chosen.
        thresholdPerMm: That of the surface as it is shown.
        resultFolder: Where the files are; empty where that is not known.
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
    chosenPerMm: float
    thresholdPerMm: float
    resultFolder: str


def addResult(scene, result: ResultSource, name: str, previewNode=None) -> ResultNodes:
    """Bring a result into the scene, all of it or nothing: arguments as `addingResult`."""
    return finished(addingResult(scene, result, name, previewNode))


def addingResult(scene, result: ResultSource, name: str, previewNode=None) -> Adding:
    """Bring a result into the scene step by step.

    Args:
        scene: vtkMRMLScene.
        result: The values; each part is read when its turn comes.
        name: What the user calls the case.
        previewNode: The volume node that has shown previews and becomes the result's.

    Returns:
        A generator that returns the ResultNodes.
    """
    folder = Folders.folderItem(scene, name)
    with Folders.Added(scene, folder) as added:
        unknown = result.coverage  # to read a volume takes as long as to add its node: each is a step of its own
        yield
        with added.step():
            coverage = _coverageNode(scene, unknown, result.grid, f"{name} coverage")
        yield
        attenuation = result.attenuationPerMm
        yield
        with added.step():
            volume = _volumeNode(scene, attenuation, result.grid, f"{name} volume", previewNode)
            Nodes.setWindow(volume, 0.0, result.windowPerMm)
            rendering = _volumeRendering(scene, volume, result.boneThresholdPerMm)
        yield
        with added.step():
            bone = Nodes.modelNodeFromPolyData(scene, Nodes.polyDataFromMesh(result.mesh, result.normals), f"{name} bone")
            _removePreviewSurface(scene, volume)
        yield
        with added.step():
            segmentation = Nodes.segmentationNodeFromLabels(scene, volume, f"{name} segmentation", "Bone")
            Nodes.setSegment(segmentation, result.labels, result.grid, bone)
            _styleBone(bone, segmentation)
            roi = Nodes.roiNodeFromBox(scene, result.region, f"{name} region")
            roi.GetDisplayNode().SetVisibility(False)
            roi.LockedOn()
            for node in (volume, segmentation, bone, coverage, roi):
                Folders.moveToFolder(scene, node, folder)
        yield
        xrays = yield from XRays.addingXrays(scene, result.xrays, folder, added)
        facts = (result.grade, result.warnings, result.boneThresholdPerMm, result.boneThresholdPerMm, result.folder)
        nodes = ResultNodes(folder, volume, rendering, coverage, segmentation, bone, roi, xrays, *facts)
        with added.step():
            _remember(nodes)
            showInSliceViews(scene, volume, coverage)
        yield REST
        aimSliceViews(scene, volume, framedPointsRas(bone, volume))
    return nodes


def setBone(nodes: ResultNodes, bone: BoneSource, grid: VoxelGrid) -> None:
    """Show the bone at another threshold, as surface and as segment."""
    Nodes.updateModelNode(nodes.bone, Nodes.polyDataFromMesh(bone.mesh, bone.normals))
    Nodes.setSegment(nodes.segmentation, bone.labels, grid, nodes.bone)
    nodes.thresholdPerMm = bone.boneThresholdPerMm
    _setOpacity(nodes.volumeRendering.GetVolumePropertyNode(), bone.boneThresholdPerMm)
    _remember(nodes)


def setCoverageVisible(scene, nodes: ResultNodes, visible: bool) -> None:
    """Cover what is unknown in the slice views, or leave the volume alone there."""
    showInSliceViews(scene, nodes.volume, nodes.coverage if visible else None)


def currentResult(scene, volume, known: ResultNodes | None = None) -> ResultNodes | None:
    """Return the result that a volume belongs to, such as after the scene was loaded.

    Args:
        scene: vtkMRMLScene.
        volume: vtkMRMLScalarVolumeNode of a result, or None.
        known: What was current before; it is returned if it still is.

    Returns:
        The nodes; None where there is no result, or where the user has taken some of it away.
    """
    if not Folders.isInScene(scene, volume) or volume.GetAttribute(_FACTS) is None:
        return None
    parts = [volume.GetNodeReference(_reference(role)) for role in (*_ROLES, _SOURCES)]
    lists = [_references(volume, role) for role in _XRAY_ROLES]
    found = [*parts, *(node for nodes in lists for node in nodes)]
    if not all(Folders.isInScene(scene, node) for node in found):
        return None
    if known is not None and known.volume is volume and known.bone is parts[_ROLES.index("bone")]:
        return known
    try:
        facts = json.loads(volume.GetAttribute(_FACTS))
        said = (facts["grade"], facts["warnings"], float(facts["chosen_per_mm"]), float(facts["threshold_per_mm"]), facts["folder"])
    except (ValueError, KeyError, TypeError):
        return None
    return ResultNodes(Folders.parentItem(scene, volume), volume, *parts[:-1], XrayNodes(*lists, parts[-1]), *said)


def _remember(nodes: ResultNodes) -> None:
    """Keep in the volume node what `currentResult` needs."""
    for role in _ROLES:
        nodes.volume.SetNodeReferenceID(_reference(role), getattr(nodes, role).GetID())
    nodes.volume.SetNodeReferenceID(_reference(_SOURCES), nodes.xrays.sources.GetID())
    for role in _XRAY_ROLES:
        for n, node in enumerate(getattr(nodes.xrays, role)):
            nodes.volume.SetNthNodeReferenceID(_reference(role), n, node.GetID())
    facts = {"grade": nodes.grade, "warnings": nodes.warnings, "folder": nodes.resultFolder}
    facts |= {"chosen_per_mm": nodes.chosenPerMm, "threshold_per_mm": nodes.thresholdPerMm}
    nodes.volume.SetAttribute(_FACTS, json.dumps(facts))


def _reference(role: str) -> str:
    return f"IntraopRecon.{role}"


def _references(volume, role: str) -> list[Any]:
    return [volume.GetNthNodeReference(_reference(role), n) for n in range(volume.GetNumberOfNodeReferences(_reference(role)))]


def showPreview(scene, array: np.ndarray, grid: VoxelGrid, name: str, previewNode=None):
    """Show an intermediate volume, with a coarse surface, and return its node: `previewNode`, or a new one where that is gone."""
    isNew = not Folders.isInScene(scene, previewNode)
    node = _volumeNode(scene, array, grid, f"{name} preview", previewNode)
    highest = max(float(np.percentile(array[::2, ::2, ::2], 99.95)), 1e-3)
    surface = CoarseBone.ofArray(array, grid).surface(_PREVIEW_SHARE * highest)
    model = node.GetNodeReference(_reference(_PREVIEW_SURFACE))
    if model is None:
        model = Nodes.modelNodeFromPolyData(scene, surface, f"{name} preview bone")
        model.GetDisplayNode().SetColor(*BONE_COLOR)
        model.GetDisplayNode().SetVisibility2D(False)
        node.SetNodeReferenceID(_reference(_PREVIEW_SURFACE), model.GetID())
    else:
        Nodes.updateModelNode(model, surface)
    if isNew:
        Nodes.setWindow(node, 0.0, highest)
        showInSliceViews(scene, node)
        aimSliceViews(scene, node, framedPointsRas(model, node))
    return node


def _removePreviewSurface(scene, volume) -> None:
    """Take away the surface of the preview that a volume was."""
    model = volume.GetNodeReference(_reference(_PREVIEW_SURFACE))
    if model is not None:
        for n in reversed(range(model.GetNumberOfDisplayNodes())):
            scene.RemoveNode(model.GetNthDisplayNode(n))
        scene.RemoveNode(model)


def _volumeNode(scene, array: np.ndarray, grid: VoxelGrid, name: str, previewNode):
    if not Folders.isInScene(scene, previewNode):
        return Nodes.volumeNodeFromArray(scene, array, grid, name)
    Nodes.updateVolumeNode(previewNode, array, grid)
    previewNode.SetName(name)
    return previewNode


def _coverageNode(scene, values: np.ndarray, grid: VoxelGrid, name: str):
    """Add the coverage so that, laid over the volume, it paints what is unknown in one color and leaves the rest free."""
    node = Nodes.volumeNodeFromArray(scene, values, grid, name)
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
    display.SetThreshold(float(min(0.0, values.min())), UNKNOWN_COVERAGE)
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
    gradient = vtk.vtkPiecewiseFunction()
    gradient.AddPoint(0.0, 1.0)
    prop = propertyNode.GetVolumeProperty()
    prop.SetInterpolationTypeToLinear()
    prop.ShadeOn()
    prop.SetAmbient(0.2)
    prop.SetDiffuse(0.85)
    prop.SetSpecular(0.15)
    propertyNode.SetGradientOpacity(gradient)
    _setOpacity(propertyNode, threshold)
    display = scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    display.SetAndObserveVolumePropertyNodeID(propertyNode.GetID())
    display.SetVisibility(False)
    volume.AddAndObserveDisplayNodeID(display.GetID())
    return display


def _setOpacity(propertyNode, threshold: float) -> None:
    opacity = vtk.vtkPiecewiseFunction()
    for share, value in ((0.0, 0.0), (0.7, 0.0), (1.0, 0.25), (1.5, 0.8), (4.0, 0.95)):
        opacity.AddPoint(share * threshold, value)
    color = vtk.vtkColorTransferFunction()
    for share, rgb in ((0.0, (0.25, 0.12, 0.08)), (0.8, (0.62, 0.38, 0.26)), (1.1, (0.86, 0.74, 0.58)), (1.8, (0.97, 0.94, 0.87))):
        color.AddRGBPoint(share * threshold, *rgb)
    propertyNode.SetScalarOpacity(opacity)
    propertyNode.SetColor(color)
