"""Off-screen pictures of a completed shape: what was outlined, the surface with its confidence, the slice to outline next, and slices."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ShapeCompletionLib.core.planes import Plane
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SliceViews import framedPointsRas
from SparseAnatomyLib.host.Snapshot import SLICES, Note, PictureSize, View3D, requireOffscreen, slicePicture, writePictures

from .CompletionNodes import OUTLINE_COLOR, CompletionNodes, setNextSliceVisible, sourceOf
from .Outlines import Outline, readOutline

DRAWN_COLOR = (0.10, 0.28, 0.55)
_LINE_WIDTH_PX = 4
_FILL_OPACITY = 0.35
_LEGEND_SIZE = (0.065, 0.4)  # of the picture; its text grows with it
_LEGEND_ROOM = 0.14  # of the picture's width


def pictureCompletion(
    headless: HeadlessScene, nodes: CompletionNodes, pictureFolder: Path, size: PictureSize | None = None
) -> dict[str, Path]:
    """Draw a completed shape that is in a headless scene.

    Args:
        headless: Whose scene it is; it is left as it was.
        nodes: What `showCompletion` returned.
        pictureFolder: Where the PNG files are written; it is made.
        size: Pixels.

    Returns:
        PNG files by title.

    Raises:
        ResourceError: There is no off-screen OpenGL, or the files cannot be written.
        InputError: The segmentation that the shape was made from is no longer there.
    """
    requireOffscreen()
    size = size or PictureSize()
    framed = framedPointsRas(nodes.model, nodes.probability)
    with _aside(headless.scene, nodes) as outlined:
        pictures = _pictures3d(headless, nodes, outlined, framed, size.view3d)
    for orientation in SLICES:
        note = Note("line: completed shape", OUTLINE_COLOR)
        pictures[f"{orientation} slice"] = slicePicture(headless, orientation, (nodes.probability, None), framed, size.slice, note)
    return writePictures(pictures, Path(pictureFolder))


def _pictures3d(headless: HeadlessScene, nodes: CompletionNodes, outlined: list, framed: np.ndarray, size: tuple[int, int]) -> dict:
    """Return 3D pictures by title: what is outlined, the shape, and the shape with the slice to outline next."""
    view = View3D(headless, size)
    legend = _legend(headless.scene, nodes.model)
    for node in outlined:
        node.SetDisplayVisibility(True)
    pictures = {"Outlined slices": view.picture(framed, _LEGEND_ROOM)}
    for node in outlined:
        node.SetDisplayVisibility(False)
    nodes.model.GetDisplayNode().SetVisibility(True)
    legend.SetVisibility(True)
    pictures["Completed shape"] = view.picture(framed, _LEGEND_ROOM)
    if nodes.shape.nextSlice is not None:
        setNextSliceVisible(nodes, True)
        pictures["Next slice"] = view.picture(np.vstack([framed, _planeCornersRas(nodes)]), _LEGEND_ROOM)
    view.close()
    headless.scene.RemoveNode(legend)
    return pictures


@contextmanager
def _aside(scene, nodes: CompletionNodes):
    """Hide what the scene shows in 3D, and give models of the outlines, hidden too; afterwards all is as it was."""
    outlined = _outlineNodes(scene, readOutline(*sourceOf(nodes)))
    shown = [nodes.model.GetDisplayNode(), nodes.nextSlice.GetDisplayNode(), *_segmentationDisplays(scene)]
    before = [display.GetVisibility() for display in shown]
    for display in [*shown, *(node.GetDisplayNode() for node in outlined)]:
        display.SetVisibility(False)
    try:
        yield outlined
    finally:
        for display, visible in zip(shown, before, strict=True):
            display.SetVisibility(visible)
        for node in outlined:
            scene.RemoveNode(node.GetDisplayNode())
            scene.RemoveNode(node)


def _legend(scene, model):
    """Add a legend for the picture, hidden: views show only the legends that were added after them."""
    own = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(model)
    legend = scene.AddNewNodeByClass("vtkMRMLColorLegendDisplayNode")
    legend.SetVisibility(False)
    legend.SetTitleText(own.GetTitleText())
    legend.SetNumberOfLabels(own.GetNumberOfLabels())
    legend.SetAndObservePrimaryDisplayNode(model.GetDisplayNode())
    for style in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        style.SetFontFamilyToArial()
    legend.SetSize(*_LEGEND_SIZE)
    model.AddAndObserveDisplayNodeID(legend.GetID())
    return legend


def _segmentationDisplays(scene) -> list:
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"))]
    return [node.GetDisplayNode() for node in nodes if node.GetDisplayNode() is not None]


def _planeCornersRas(nodes: CompletionNodes) -> np.ndarray:
    corners = vtk.vtkPoints()
    nodes.nextSlice.GetPlaneCornerPointsWorld(corners)
    return np.array([corners.GetPoint(n) for n in range(corners.GetNumberOfPoints())])


def _outlineNodes(scene, outline: Outline) -> list:
    """Add the outlines on the drawn planes as two models: lines, and what they enclose."""
    lines, areas = vtk.vtkAppendPolyData(), vtk.vtkAppendPolyData()
    for plane in outline.planes:
        contours = _contours(outline.labels.take(plane.index, plane.axis), plane, outline.grid)
        fill = vtk.vtkContourTriangulator()
        fill.SetInputData(contours)
        fill.Update()
        lines.AddInputData(contours)
        areas.AddInputData(fill.GetOutput())
    nodes = []
    for name, append, opacity in (("Outlines", lines, 1.0), ("Outlined areas", areas, _FILL_OPACITY)):
        append.Update()
        node = Nodes.modelNodeFromPolyData(scene, append.GetOutput(), name)
        display = node.GetDisplayNode()
        display.SetColor(*DRAWN_COLOR)
        display.SetLighting(False)
        display.SetLineWidth(_LINE_WIDTH_PX)
        display.SetOpacity(opacity)
        nodes.append(node)
    return nodes


def _contours(mask: np.ndarray, plane: Plane, grid: VoxelGrid) -> vtk.vtkPolyData:
    """Return the outlines of a mask [row, column] in one plane of a grid, in LPS."""
    padded = np.pad(mask, 1).astype(np.float32)
    image = vtk.vtkImageData()
    image.SetDimensions(padded.shape[1], padded.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(), deep=True))
    contour = vtk.vtkMarchingSquares()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.Update()
    lines = vtk.vtkPolyData()
    lines.SetLines(contour.GetOutput().GetLines())
    columnsRows = np.array([contour.GetOutput().GetPoint(n)[:2] for n in range(contour.GetOutput().GetNumberOfPoints())]).reshape(-1, 2) - 1
    kji = np.insert(columnsRows[:, ::-1], plane.axis, plane.index, axis=1)
    lines.SetPoints(Nodes.vtkPoints(transform_points(grid.lps_from_ijk, kji[:, ::-1])))
    return lines
