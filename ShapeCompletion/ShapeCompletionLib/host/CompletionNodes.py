"""A completed shape in the scene: a segment, its surface colored by confidence, the probability, and the slice to outline next."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import Folders, Nodes
from SparseAnatomyLib.host.SliceViews import showPlane
from SparseAnatomyLib.host.WorkerLogic import Adding, finished

from .CompletionFolder import CONFIDENCE, CompletedShape, shapeOf

NEXT_SLICE_NAME = "Next slice"
OUTLINE_COLOR = (0.98, 0.72, 0.25)
PLANE_COLOR = (0.45, 0.80, 1.0)
CONFIDENCE_COLORS = ((0.0, (0.36, 0.11, 0.42)), (0.35, (0.76, 0.24, 0.40)), (0.65, (0.94, 0.58, 0.36)), (1.0, (0.97, 0.93, 0.82)))
"""From unsure to sure: ever lighter, so that it reads in grey and with any color vision; what is sure looks like bone."""
_COLORS = 256
_SOURCE, _SEGMENT = "ShapeCompletion.Source", "ShapeCompletion.Segment"  # on the output segmentation: what it was made from
_REPORT = "ShapeCompletion.Report"  # what report.json says
_MODEL, _PROBABILITY, _NEXT = "ShapeCompletion.Model", "ShapeCompletion.Probability", "ShapeCompletion.NextSlice"


@dataclass(frozen=True, eq=False)
class CompletionNodes:
    """The nodes of a completed shape, and what is known of it.

    Attributes:
        segmentation: vtkMRMLSegmentationNode of one segment; an outline in slices.
        model: vtkMRMLModelNode with the point scalar `confidence`, shown as color.
        probability: vtkMRMLScalarVolumeNode, 0 to 1.
        nextSlice: vtkMRMLMarkupsPlaneNode of the slice that would help most; hidden where there is none.
        shape: What was read.
    """

    segmentation: Any
    model: Any
    probability: Any
    nextSlice: Any
    shape: CompletedShape


def showCompletion(scene, shape: CompletedShape, source, segmentId: str) -> CompletionNodes:
    """Bring a completed shape into the scene, all of it or nothing; what an earlier run for the same segment has made is updated.

    Args:
        scene: vtkMRMLScene.
        shape: The values.
        source: vtkMRMLSegmentationNode that it was made from; it is not changed.
        segmentId: Which of its segments.
    """
    return finished(showingCompletion(scene, shape, source, segmentId))


def showingCompletion(scene, shape: CompletedShape, source, segmentId: str) -> Adding:
    """Do what `showCompletion` does, step by step; the generator returns the CompletionNodes."""
    output = findCompletion(scene, source, segmentId)
    isNew = output is None
    name = _nameOf(source, segmentId)
    folder = Folders.folderItem(scene, name) if isNew else None
    with Folders.Added(scene, folder) as added:
        polyData = _polyData(shape)
        yield
        with added.step():
            if isNew:
                output = _newSegmentation(scene, source, segmentId, name)
            else:
                _placeInWorld(output)
            probability = _showProbability(scene, output, shape)
        if isNew:
            yield  # an update is quick, and a cancel between its steps would leave half of it
        with added.step():
            model = _showModel(scene, output, polyData)
            _showSegment(output, shape, probability, model)
        if isNew:
            yield
        with added.step():
            nextSlice = _showNextSlice(scene, output, shape)
            output.SetAttribute(_REPORT, json.dumps(shape.report))
            if isNew:
                for node in (output, model, probability, nextSlice):
                    Folders.moveToFolder(scene, node, folder)
    return CompletionNodes(output, model, probability, nextSlice, shape)


def _nameOf(source, segmentId: str) -> str:
    """Return the name of the result; where there are several segments, each has its own."""
    segmentation = source.GetSegmentation()
    segment = f" {segmentation.GetSegment(segmentId).GetName()}" if segmentation.GetNumberOfSegments() > 1 else ""
    return f"{source.GetName()}{segment} completed"


def _placeInWorld(output) -> None:
    """Take the nodes of an earlier run out of transforms, such as of their folder: outlines are read, and shapes come, in world space."""
    for node in (output, *(output.GetNodeReference(role) for role in (_MODEL, _PROBABILITY, _NEXT))):
        if node is not None:
            node.SetAndObserveTransformNodeID(None)


def findCompletion(scene, source, segmentId: str):
    """Return the segmentation node that an earlier run for a segment has made, or None."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
        if node.GetNodeReferenceID(_SOURCE) == source.GetID() and node.GetAttribute(_SEGMENT) == segmentId:
            return node
    return None


def currentCompletion(scene, source, segmentId: str, known: CompletionNodes | None = None) -> CompletionNodes | None:
    """Return the completion of a segment that is in the scene, such as after the scene was loaded.

    Args:
        scene: vtkMRMLScene.
        source: vtkMRMLSegmentationNode with the outlines, or None.
        segmentId: Which of its segments.
        known: What was current before; it is returned if it still is.

    Returns:
        The nodes; None where there are none, or where the user has taken some of them away.
    """
    output = None if source is None else findCompletion(scene, source, segmentId)
    if output is None:
        return None
    nodes = [output, *(output.GetNodeReference(role) for role in (_MODEL, _PROBABILITY, _NEXT))]
    if None in nodes or None in [node.GetDisplayNode() for node in nodes]:
        return None
    if known is not None and [known.segmentation, known.model, known.probability, known.nextSlice] == nodes:
        return known
    _colorNode(scene)
    try:
        return CompletionNodes(*nodes, _readShape(*nodes[:3]))
    except (InputError, ValueError):
        return None


def _readShape(output, model, probability) -> CompletedShape:
    """Return the shape that nodes hold."""
    report = json.loads(output.GetAttribute(_REPORT) or "null")
    values, grid = Nodes.arrayFromVolumeNode(probability)
    array = model.GetPolyData().GetPointData().GetArray(CONFIDENCE) if model.GetPolyData() else None
    if array is None:
        raise InputError(f"{model.GetName()} does not say how sure it is.", "Complete the shape again.")
    surface = (Nodes.meshFromModelNode(model), vtk_to_numpy(array).astype(np.float32))
    return shapeOf(report, grid, (values > 0.5).astype(np.uint8), values.astype(np.float32), surface)


def sourceOf(nodes: CompletionNodes) -> tuple[Any, str]:
    """Return the segmentation node, and the id of its segment, that a shape was made from.

    Raises:
        InputError: It is no longer in the scene.
    """
    source = nodes.segmentation.GetNodeReference(_SOURCE)
    if source is None:
        raise InputError(f"What {nodes.segmentation.GetName()} was made from is no longer in the scene.", "Load it again.")
    return source, nodes.segmentation.GetAttribute(_SEGMENT)


def setNextSliceVisible(nodes: CompletionNodes, visible: bool) -> None:
    """Show or hide the plane of the next slice; where there is none it stays hidden."""
    nodes.nextSlice.GetDisplayNode().SetVisibility(visible and nodes.shape.nextSlice is not None)


def setConfidenceVisible(nodes: CompletionNodes, visible: bool) -> None:
    """Color the surface by its confidence, with the legend; or show it in the color of bone."""
    nodes.model.GetDisplayNode().SetScalarVisibility(visible)
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(nodes.model)
    if legend is not None:
        legend.SetVisibility(visible)


def goToNextSlice(scene, nodes: CompletionNodes) -> str:
    """Move the slice view that looks most nearly along it to the next slice; return the view's name, empty where there is no view."""
    plane = nodes.nextSlice
    extent_mm = max(plane.GetSizeWorld())
    return showPlane(scene, np.array(plane.GetCenterWorld()), np.array(plane.GetNormalWorld()), extent_mm)


def _newSegmentation(scene, source, segmentId: str, name: str):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetNodeReferenceID(_SOURCE, source.GetID())
    node.SetAttribute(_SEGMENT, segmentId)
    node.GetSegmentation().SetSourceRepresentationName(Nodes.BINARY_LABELMAP)
    segment = slicer.vtkSegment()
    segment.SetName(source.GetSegmentation().GetSegment(segmentId).GetName())
    segment.SetColor(*OUTLINE_COLOR)
    segment.AddRepresentation(Nodes.BINARY_LABELMAP, slicer.vtkOrientedImageData())
    node.GetSegmentation().AddSegment(segment)
    display = node.GetDisplayNode()
    display.SetPreferredDisplayRepresentationName2D(Nodes.CLOSED_SURFACE)
    display.SetVisibility3D(False)  # the model shows the same, with its confidence
    display.SetVisibility2DFill(False)
    display.SetSliceIntersectionThickness(2)
    return node


def _showSegment(node, shape: CompletedShape, probability, model) -> None:
    """Give the output its voxels, and the model's points as its closed surface."""
    node.SetReferenceImageGeometryParameterFromVolumeNode(probability)
    Nodes.setSegment(node, shape.labels, shape.grid, model)


def _showProbability(scene, output, shape: CompletedShape):
    node = output.GetNodeReference(_PROBABILITY)
    if node is None:
        node = Nodes.volumeNodeFromArray(scene, shape.probability, shape.grid, f"{output.GetName()} probability")
        Nodes.setWindow(node, 0.0, 1.0)
        output.SetNodeReferenceID(_PROBABILITY, node.GetID())
    else:
        Nodes.updateVolumeNode(node, shape.probability, shape.grid)
    return node


def _polyData(shape: CompletedShape):
    """Return the surface with its confidence, in LPS."""
    polyData = Nodes.polyDataFromMesh(shape.mesh)
    scalars = numpy_to_vtk(shape.confidence, deep=True)
    scalars.SetName(CONFIDENCE)
    polyData.GetPointData().SetScalars(scalars)
    return polyData


def _showModel(scene, output, polyData):
    node = output.GetNodeReference(_MODEL)
    if node is None:
        node = Nodes.modelNodeFromPolyData(scene, polyData, f"{output.GetName()} surface")
        _styleModel(scene, node)
        output.SetNodeReferenceID(_MODEL, node.GetID())
    else:
        Nodes.updateModelNode(node, polyData)
    return node


def _styleModel(scene, model) -> None:
    """Color the surface by its confidence, with a legend."""
    display = model.GetDisplayNode()
    display.SetColor(*CONFIDENCE_COLORS[-1][1])  # without the colors of confidence
    display.SetAndObserveColorNodeID(_colorNode(scene).GetID())
    display.SetActiveScalarName(CONFIDENCE)
    display.SetScalarVisibility(True)
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0.0, 1.0)
    display.SetAmbient(0.3)  # shading and highlights must not be taken for confidence
    display.SetDiffuse(0.65)
    display.SetSpecular(0.0)
    display.SetVisibility2D(False)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(model)
    legend.SetTitleText("Confidence")
    legend.SetNumberOfLabels(3)
    legend.SetVisibility2D(False)


def _colorNode(scene):
    """Return the colors of confidence, one node for the whole scene; one from a file, which may lack them, gets them again."""
    tag = "ShapeCompletionConfidence"
    node = scene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLColorTableNode")
        node.UnRegister(None)
        node.SetSingletonTag(tag)
        node.SetName("Confidence")
        node = scene.AddNode(node)
    node.SetTypeToUser()
    node.SetHideFromEditors(False)  # what is hidden, Slicer saves without its values
    node.SetNumberOfColors(_COLORS)
    places = np.linspace(0, 1, _COLORS)
    stops = [place for place, _ in CONFIDENCE_COLORS]
    channels = [np.interp(places, stops, [color[channel] for _, color in CONFIDENCE_COLORS]) for channel in range(3)]
    for index, color in enumerate(np.stack(channels, 1).tolist()):
        node.SetColor(index, f"{places[index]:.2f}", *color, 1.0)
    return node


def _showNextSlice(scene, output, shape: CompletedShape):
    """Show the plane; where it is new or was missing it becomes visible, otherwise it stays as the user has it."""
    node = output.GetNodeReference(_NEXT)
    if node is None:
        node = _newPlane(scene)
        output.SetNodeReferenceID(_NEXT, node.GetID())
    following = shape.nextSlice
    wasMissing = node.GetNumberOfControlPoints() == 0
    if following is None:
        node.RemoveAllControlPoints()
        node.GetDisplayNode().SetVisibility(False)
        return node
    node.LockedOff()
    node.SetCenterWorld(*Nodes.rasFromLps(following.center_lps_mm))
    node.SetNormalWorld(*Nodes.rasFromLps(following.normal_lps))
    node.SetSizeWorld(following.extent_mm, following.extent_mm)
    node.LockedOn()
    if wasMissing:
        node.GetDisplayNode().SetVisibility(True)
    return node


def _newPlane(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", NEXT_SLICE_NAME)
    node.CreateDefaultDisplayNodes()
    node.SetPlaneType(node.PlaneTypePointNormal)
    node.SetSizeMode(node.SizeModeAbsolute)
    display = node.GetDisplayNode()
    display.SetSelectedColor(*PLANE_COLOR)
    display.SetColor(*PLANE_COLOR)
    display.SetFillOpacity(0.25)
    display.SetOutlineOpacity(0.9)
    display.SetNormalVisibility(False)
    display.SetHandlesInteractive(False)
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(True)
    display.SetTextScale(3.0)  # more would reach the color legend in a small view
    label = display.GetTextProperty()
    label.SetBackgroundColor(0.08, 0.12, 0.18)
    label.SetBackgroundOpacity(0.6)
    return node
