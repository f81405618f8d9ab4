"""X-rays in the scene: each as an image, as a plane that stands at its detector, and with its source and the frustum of its rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.host import Folders, Nodes
from SparseAnatomyLib.host.WorkerLogic import Adding

from .ResultFolder import ResultXray

PLANE_SIZE_PX = 160  # of the longer side at most: as large as a plane appears in 3D; the image node has every pixel
FRUSTUM_COLOR = (0.95, 0.75, 0.3)
_VIEW = "IntraopRecon.View"
_SOURCE_DIAMETER_MM = 14.0


@dataclass(frozen=True, eq=False)
class XrayNodes:
    """The nodes of all X-rays of a result.

    Attributes:
        images: vtkMRMLScalarVolumeNodes of one slice, in the order of the case; attenuation line integrals.
        planes: vtkMRMLModelNodes, the same pictures in 3D, seen from the source's side only.
        frusta: vtkMRMLModelNodes of lines from the source to the detector's corners.
        sources: One vtkMRMLMarkupsFiducialNode with a point for each X-ray.
    """

    images: list[Any]
    planes: list[Any]
    frusta: list[Any]
    sources: Any


def addingXrays(scene, xrays: Sequence[ResultXray], parentFolder: int, added: Folders.Added) -> Adding:
    """Add the nodes of X-rays, one at a step, in folders of their own; planes, frusta and sources are hidden at first.

    Args:
        scene: vtkMRMLScene.
        xrays: Each is read when its turn comes.
        parentFolder: Subject hierarchy item.
        added: What is taken back if it does not get to the end.

    Returns:
        A generator that returns the XrayNodes.
    """
    folders = [Folders.folderItem(scene, name, parentFolder) for name in ("X-ray images", "X-ray planes", "X-ray frusta")]
    nodes: tuple[list, list, list] = ([], [], [])
    names, views = [], []
    for xray in xrays:
        names.append(displayName(xray.name))
        views.append(xray.geometry)
        for kind, (make, folder) in enumerate(zip((_imageNode, planeNode, frustumNode), folders, strict=True)):
            with added.step():
                node = make(scene, xray, names[-1])
                Folders.moveToFolder(scene, node, folder)
                nodes[kind].append(node)
        yield
    with added.step():
        sources = _sourcesNode(scene, views, names)
        Folders.moveToFolder(scene, sources, parentFolder)
    return XrayNodes(*nodes, sources)


def setVisible(nodes: XrayNodes, visible: bool) -> None:
    """Show or hide planes, frusta and sources in 3D."""
    for node in (*nodes.planes, *nodes.frusta, nodes.sources):
        if node.GetDisplayNode() is not None:  # it goes first where a user takes the node away
            node.GetDisplayNode().SetVisibility(visible)


def viewName(imageNode) -> str:
    """Return the name within the case of the X-ray that an image node shows."""
    return imageNode.GetAttribute(_VIEW) or imageNode.GetName()


def displayName(viewName: str) -> str:
    """Return a view's name without its folder and the file's ending."""
    return viewName.rsplit("/", 1)[-1].replace(".dcm", "")


def displayRange(xray: ResultXray) -> tuple[float, float]:
    """Return the attenuation that is shown black and the one that is shown white, from the pixels that count."""
    pixels = xray.attenuation[xray.mask] if xray.mask.any() else xray.attenuation
    lowest, highest = np.percentile(pixels, [1, 99.8])
    return float(lowest), float(max(highest, lowest + 1e-3))


def planePolyData(xray: ResultXray) -> vtk.vtkPolyData:
    """Return a picture as a surface in LPS: a point for each (binned) pixel, its grey as RGB point data `X-ray`, masked ones black.

    Point colors, unlike textures, are saved with the scene. The surface's front looks to the source.
    """
    factor = -(-max(xray.geometry.size_px) // PLANE_SIZE_PX)
    view = xray.geometry.binned(factor) if factor > 1 else xray.geometry
    columns, rows = view.size_px
    blocks = np.where(xray.mask, xray.attenuation, -np.inf)[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    lowest, highest = displayRange(xray)
    grey = (np.clip((blocks - lowest) / (highest - lowest), 0, 1) * 255).mean((1, 3)).round().astype(np.uint8)
    colors = numpy_to_vtk(np.repeat(grey.reshape(-1, 1), 3, axis=1), deep=True)
    colors.SetName("X-ray")
    polyData = vtk.vtkPolyData()
    polyData.SetPoints(Nodes.vtkPoints(view.all_pixels_lps_mm().reshape(-1, 3)))
    polyData.GetPointData().SetScalars(colors)
    polyData.SetStrips(_strips(rows, columns, view.is_mirrored))
    return polyData


def _strips(rows: int, columns: int, mirrored: bool) -> vtk.vtkCellArray:
    """Return one triangle strip for each pair of rows; its front faces the source."""
    index = np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
    pair = (index[:-1], index[1:]) if not mirrored else (index[1:], index[:-1])
    connectivity = np.stack(pair, -1).reshape(rows - 1, 2 * columns)
    cells = vtk.vtkCellArray()
    offsets = np.arange(rows, dtype=np.int64) * 2 * columns
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(connectivity.ravel(), deep=True))
    return cells


def _imageNode(scene, xray: ResultXray, name: str):
    """Add a picture as a volume of one slice."""
    node = Nodes.imageNodeFromView(scene, xray.attenuation, xray.geometry, name)
    Nodes.setWindow(node, *displayRange(xray))
    node.SetAttribute(_VIEW, xray.name)
    return node


def planeNode(scene, xray: ResultXray, name: str, isHelper: bool = False):
    """Add a picture as a surface that is seen from the source's side only, not shown yet; a helper is no data of the user's."""
    node = Nodes.modelNodeFromPolyData(scene, planePolyData(xray), f"{name} plane", isHelper)
    display = node.GetDisplayNode()
    display.SetVisibility(False)
    display.SetActiveScalarName("X-ray")
    display.SetScalarVisibility(True)
    display.SetScalarRangeFlag(display.UseDirectMapping)
    display.SetLighting(False)
    display.SetBackfaceCulling(True)  # from behind, a plane would hide the anatomy and show a mirrored image
    display.SetVisibility2D(False)
    return node


def frustumNode(scene, xray: ResultXray, name: str, isHelper: bool = False):
    """Add the lines from a source to the corners of its detector, not shown yet; a helper is no data of the user's."""
    view = xray.geometry
    columns, rows = view.size_px
    corners = view.pixel_lps_mm(np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]]) - 0.5)
    lines = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)]
    polyData = vtk.vtkPolyData()
    polyData.SetPoints(Nodes.vtkPoints(np.vstack([view.source_lps_mm, corners])))
    cells = vtk.vtkCellArray()
    for line in lines:
        cells.InsertNextCell(2, line)
    polyData.SetLines(cells)
    node = Nodes.modelNodeFromPolyData(scene, polyData, f"{name} frustum", isHelper)
    display = node.GetDisplayNode()
    display.SetVisibility(False)
    display.SetColor(*FRUSTUM_COLOR)
    display.SetOpacity(0.35)
    display.SetLighting(False)
    display.SetVisibility2D(False)
    return node


def _sourcesNode(scene, views: list[XrayView], names: list[str]):
    node = Nodes.pointsNodeFromArray(scene, np.array([view.source_lps_mm for view in views]).reshape(-1, 3), names, "X-ray sources")
    display = node.GetDisplayNode()
    display.SetVisibility(False)
    display.SetSelectedColor(*FRUSTUM_COLOR)
    display.SetColor(*FRUSTUM_COLOR)
    display.SetUseGlyphScale(False)
    display.SetGlyphSize(_SOURCE_DIAMETER_MM)
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetVisibility2D(False)
    return node
