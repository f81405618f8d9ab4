"""Values of the core <-> MRML nodes, and the only place where RAS exists: everything that comes in or goes out here is LPS, mm.

Functions that read a node leave it as it is and give its place in the world, parent transforms included.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import LPS_FROM_RAS, RAS_FROM_LPS, affine, ras_transform_from_lps, transform_points, transform_vectors
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import TriangleMesh

BINARY_LABELMAP, CLOSED_SURFACE = "Binary labelmap", "Closed surface"


@dataclass(frozen=True, eq=False)
class Box:
    """A box in the patient, such as a region of interest.

    Attributes:
        center_lps_mm: [3].
        extent_mm: Full edge lengths along the box's own axes, [3].
        direction: [3, 3], right-handed; columns are the unit LPS directions of the axes.
    """

    center_lps_mm: np.ndarray
    extent_mm: np.ndarray
    direction: np.ndarray


# Volumes


def volumeNodeFromArray(scene, array: np.ndarray, grid: VoxelGrid, name: str):
    """Add a scalar volume node with its display node; voxels [k, j, i], bool ones stored as uint8."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateVolumeNode(node, array, grid)
    node.CreateDefaultDisplayNodes()
    return node


def updateVolumeNode(node, array: np.ndarray, grid: VoxelGrid) -> None:
    """Give a scalar volume node other voxels [k, j, i] and another grid, in one go for whoever watches it."""
    if array.shape != grid.shape_kji:
        raise ValueError(f"array: expected shape {list(grid.shape_kji)}, got {list(array.shape)}.")
    _setVoxels(node, array, grid.lps_from_ijk)


def imageNodeFromView(scene, image: np.ndarray, view: XrayView, name: str):
    """Add an X-ray [row, column] as a volume node of one slice that stands at its detector; the view may be skewed or mirrored."""
    if image.shape != view.size_px[::-1]:
        raise ValueError(f"image: expected shape {list(view.size_px[::-1])}, got {list(image.shape)}.")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    steps = np.stack([view.column_step_lps_mm, view.row_step_lps_mm, view.detector_normal_lps], 1)
    _setVoxels(node, image[np.newaxis], affine(steps, view.detector_origin_lps_mm))
    node.CreateDefaultDisplayNodes()
    return node


def arrayFromVolumeNode(node) -> tuple[np.ndarray, VoxelGrid]:
    """Return a copy of a volume node's voxels [k, j, i] and where they lie.

    Raises:
        InputError: The node has no voxels, is sheared, or has a transform that is not linear.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise InputError(f"The volume {node.GetName()} has no voxels.", "Choose another volume, or load it again.")
    rasFromIjk = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(rasFromIjk)
    lpsFromIjk = LPS_FROM_RAS @ worldFromNode(node) @ _arrayFromMatrix(rasFromIjk)
    return _imageArray(image), _grid(lpsFromIjk, image.GetDimensions(), node.GetName())


def setWindow(node, lowest: float, highest: float) -> None:
    """Show the volume's values from `lowest` (black) to `highest` (white)."""
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(lowest, highest)


# Meshes


def polyDataFromMesh(mesh: TriangleMesh, normals: np.ndarray | None = None) -> vtk.vtkPolyData:
    """Return a mesh as poly data in LPS, with point normals [n, 3], computed if None."""
    polyData = vtk.vtkPolyData()
    polyData.SetPoints(vtkPoints(mesh.points_lps_mm))
    cells = vtk.vtkCellArray()
    offsets = np.arange(len(mesh.triangles) + 1, dtype=np.int64) * 3
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(mesh.triangles.ravel(), deep=True))
    polyData.SetPolys(cells)
    if normals is not None:
        array = numpy_to_vtk(np.ascontiguousarray(normals, np.float32), deep=True)
        array.SetName("Normals")
        polyData.GetPointData().SetNormals(array)
        return polyData
    computed = vtk.vtkPolyDataNormals()
    computed.SetInputData(polyData)
    computed.SplittingOff()
    computed.ConsistencyOff()
    computed.Update()
    return computed.GetOutput()


def modelNodeFromPolyData(scene, polyDataLps: vtk.vtkPolyData, name: str, isHidden: bool = False):
    """Add a model node with its display node; the poly data, lines or surface, is in LPS and copied.

    `isHidden` keeps it out of the user's lists of data, which look at that only when a node is added.
    """
    node = scene.CreateNodeByClass("vtkMRMLModelNode")
    node.UnRegister(None)
    node.SetName(name)
    node.SetHideFromEditors(isHidden)
    node = scene.AddNode(node)
    updateModelNode(node, polyDataLps)
    node.CreateDefaultDisplayNodes()
    return node


def updateModelNode(node, polyDataLps: vtk.vtkPolyData) -> None:
    """Give a model node another surface."""
    node.SetAndObservePolyData(transformedPolyData(polyDataLps, RAS_FROM_LPS))


def meshFromModelNode(node) -> TriangleMesh:
    """Return a model's surface.

    Raises:
        InputError: The model has no surface, or a transform that is not linear.
    """
    return _meshFromRas(node.GetPolyData(), worldFromNode(node), f"The model {node.GetName()}")


# Segmentations


def segmentationNodeFromLabels(scene, referenceVolumeNode, name: str, segmentName: str):
    """Add a segmentation of one empty segment on the voxels of a volume; `setSegment` fills it."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(referenceVolumeNode)
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(BINARY_LABELMAP)
    segment = slicer.vtkSegment()
    segment.SetName(segmentName)
    segment.AddRepresentation(BINARY_LABELMAP, slicer.vtkOrientedImageData())
    segmentation.AddSegment(segment)
    return node


def setSegment(node, labels: np.ndarray, grid: VoxelGrid, model) -> None:
    """Give the first segment its voxels [k, j, i], which are what is saved and edited, and a model's surface as its closed surface.

    Slicer would take half a second to compute the surface from the voxels.
    """
    surface = vtk.vtkPolyData()
    surface.SetPoints(model.GetPolyData().GetPoints())
    surface.SetPolys(model.GetPolyData().GetPolys())
    segment = node.GetSegmentation().GetNthSegment(0)
    wasModifying = node.StartModify()
    segment.AddRepresentation(BINARY_LABELMAP, labelmapFromArray(labels, grid))
    segment.AddRepresentation(CLOSED_SURFACE, surface)
    node.EndModify(wasModifying)


def labelmapFromArray(labels: np.ndarray, grid: VoxelGrid):
    """Return voxels [k, j, i] as a segment holds them, as vtkOrientedImageData."""
    labelmap = _withVoxels(slicer.vtkOrientedImageData(), labels)
    labelmap.SetImageToWorldMatrix(_matrixFromArray(RAS_FROM_LPS @ grid.lps_from_ijk))
    return labelmap


def meshFromSegmentationNode(node, segmentId: str) -> TriangleMesh:
    """Return a segment's closed surface.

    Raises:
        InputError: The segment has none, or the node a transform that is not linear.
    """
    polyData = vtk.vtkPolyData()
    node.GetClosedSurfaceRepresentation(segmentId, polyData)
    return _meshFromRas(polyData, worldFromNode(node), f"The segment {segmentId} of {node.GetName()}")


def labelsFromSegmentationNode(node, segmentId: str) -> tuple[np.ndarray, VoxelGrid]:
    """Return a segment's voxels, uint8 [k, j, i] of 0 and 1, and where they lie.

    Raises:
        InputError: The segment is empty, or the node has a transform that is not linear.
    """
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segmentId, image)
    if min(image.GetDimensions()) < 1 or image.GetPointData().GetScalars() is None:
        raise InputError(f"The segment {segmentId} of {node.GetName()} is empty.", "Choose a segment that has been drawn.")
    rasFromIjk = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(rasFromIjk)
    firstIjk = np.array(image.GetExtent()[::2], float)
    lpsFromIjk = LPS_FROM_RAS @ worldFromNode(node) @ _arrayFromMatrix(rasFromIjk) @ affine(np.eye(3), firstIjk)
    return (_imageArray(image) != 0).astype(np.uint8), _grid(lpsFromIjk, image.GetDimensions(), node.GetName())


# Markups


def roiNodeFromBox(scene, box: Box, name: str):
    """Add a markups ROI node with its display node."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.CreateDefaultDisplayNodes()
    node.SetROIType(node.ROITypeBox)
    direction = np.array(box.direction, float)
    if np.linalg.det(direction) < 0:
        direction[:, 2] *= -1  # the box is the same
    node.SetSize(*np.asarray(box.extent_mm, float))
    node.SetAndObserveObjectToNodeMatrix(_matrixFromArray(RAS_FROM_LPS @ affine(direction, box.center_lps_mm)))
    return node


def boxFromRoiNode(node) -> Box:
    """Return the box of a markups ROI node; its axes are named so that they lie as close as possible to left, posterior, superior.

    Raises:
        InputError: The ROI has not been placed, or is sheared.
    """
    extent = np.zeros(3)
    node.GetSizeWorld(extent)
    if node.GetNumberOfControlPoints() < 1 or not (extent > 0).all():
        raise InputError(f"The region of interest {node.GetName()} has not been placed.", "Draw it in the views, or choose none.")
    lpsFromBox = LPS_FROM_RAS @ _arrayFromMatrix(node.GetObjectToWorldMatrix())
    direction = lpsFromBox[:3, :3] / np.linalg.norm(lpsFromBox[:3, :3], axis=0)
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError(f"The region of interest {node.GetName()} is sheared by its transform.", "Remove the transform from it.")
    axes = _axesAlongPatient(direction)
    return Box(lpsFromBox[:3, 3], np.abs(axes).T @ extent, direction @ axes)


def _axesAlongPatient(direction: np.ndarray) -> np.ndarray:
    """Return the signed permutation [3, 3], a rotation, that brings the columns of `direction` closest to the patient's axes."""
    signed = [np.eye(3)[:, order] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
    return max((axes for axes in signed if np.linalg.det(axes) > 0), key=lambda axes: np.trace(direction @ axes))


def pointsNodeFromArray(scene, pointsLps: np.ndarray, labels: list[str], name: str):
    """Add a locked markups point list with its display node; points [n, 3]."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.CreateDefaultDisplayNodes()
    for point, label in zip(transform_points(RAS_FROM_LPS, np.asarray(pointsLps, float)), labels, strict=True):
        node.AddControlPoint(vtk.vtkVector3d(*point), label)
    node.LockedOn()
    return node


def arrayFromPointsNode(node) -> np.ndarray:
    """Return the positions of a markups point list, [n, 3]."""
    points = np.array([node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())], float)
    return transform_points(LPS_FROM_RAS, points.reshape(-1, 3))


# Transforms


def transformNodeFromView(scene, view: XrayView, name: str):
    """Add a linear transform node with a view's pose: from camera coordinates (x along the columns, z to the detector) to the world."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(_matrixFromArray(RAS_FROM_LPS @ view.lps_from_camera))
    return node


def viewAtTransformNode(view: XrayView, node) -> XrayView:
    """Return the view moved rigidly, source and detector together, to a transform node's pose; InputError where it is not rigid."""
    world = vtk.vtkMatrix4x4()
    if not node.IsTransformToWorldLinear():
        raise InputError(f"The transform {node.GetName()} is not linear.", "Choose a linear transform.")
    node.GetMatrixTransformToWorld(world)
    lpsFromCamera = LPS_FROM_RAS @ _arrayFromMatrix(world)
    rotation = lpsFromCamera[:3, :3]
    if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-4) or np.linalg.det(rotation) < 0:
        raise InputError(f"The transform {node.GetName()} scales, shears or mirrors.", "Choose one that only rotates and shifts.")
    return view.transformed(lpsFromCamera @ np.linalg.inv(view.lps_from_camera))


def transformNodeFromLps(scene, lpsBFromLpsA: np.ndarray, name: str):
    """Add a linear transform node from a transform [4, 4] between two LPS frames."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(_matrixFromArray(ras_transform_from_lps(lpsBFromLpsA)))
    return node


# RAS, for those who place cameras and read pictures


def rasFromLps(pointsLps: np.ndarray) -> np.ndarray:
    """Return points or directions [..., 3] as VTK's world wants them."""
    return transform_vectors(RAS_FROM_LPS, np.asarray(pointsLps, float))


def lpsFromRas(pointsRas: np.ndarray) -> np.ndarray:
    """Return points or directions [..., 3] of VTK's world in LPS."""
    return transform_vectors(LPS_FROM_RAS, np.asarray(pointsRas, float))


def worldFromNode(node) -> np.ndarray:
    """Return what the parent transforms do to a node, [4, 4] in RAS.

    Raises:
        InputError: A parent transform is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()} has a transform that is not linear.", "Harden it (Transforms module), then try again.")
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return _arrayFromMatrix(matrix)


def vtkPoints(points: np.ndarray) -> vtk.vtkPoints:
    """Return points [n, 3] as VTK holds them, copied, in the same frame."""
    result = vtk.vtkPoints()
    result.SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float32), deep=True))
    return result


def _setVoxels(node, array: np.ndarray, lpsFromIjk: np.ndarray) -> None:
    image = _withVoxels(vtk.vtkImageData(), array)
    wasModifying = node.StartModify()
    node.SetIJKToRASMatrix(_matrixFromArray(RAS_FROM_LPS @ lpsFromIjk))
    node.SetAndObserveImageData(image)
    node.EndModify(wasModifying)


def _withVoxels(image: vtk.vtkImageData, array: np.ndarray) -> vtk.vtkImageData:
    voxels = array.astype(np.uint8) if array.dtype == bool else np.ascontiguousarray(array)
    image.SetDimensions(*voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
    return image


def _imageArray(image: vtk.vtkImageData) -> np.ndarray:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).copy()


def _grid(lpsFromIjk: np.ndarray, size, name: str) -> VoxelGrid:
    spacing = np.linalg.norm(lpsFromIjk[:3, :3], axis=0)
    try:
        return VoxelGrid(tuple(size), spacing, lpsFromIjk[:3, 3], lpsFromIjk[:3, :3] / spacing)
    except ValueError as error:
        raise InputError(f"The voxels of {name} are sheared.", "Resample it to a regular grid.") from error


def transformedPolyData(polyData: vtk.vtkPolyData, matrix: np.ndarray) -> vtk.vtkPolyData:
    """Return poly data, normals included, moved by a transform [4, 4]."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(_matrixFromArray(matrix))
    transformer = vtk.vtkTransformPolyDataFilter()
    transformer.SetInputData(polyData)
    transformer.SetTransform(transform)
    transformer.Update()
    result = vtk.vtkPolyData()
    result.DeepCopy(transformer.GetOutput())
    return result


def _meshFromRas(polyData: vtk.vtkPolyData | None, worldFromPolyData: np.ndarray, what: str) -> TriangleMesh:
    if polyData is None or polyData.GetNumberOfPolys() + polyData.GetNumberOfStrips() == 0:
        raise InputError(f"{what} has no surface.", "Choose another one.")
    triangulate = vtk.vtkTriangleFilter()
    triangulate.SetInputData(polyData)
    triangulate.PassVertsOff()
    triangulate.PassLinesOff()
    triangulate.Update()
    surface = triangulate.GetOutput()
    lpsFromPolyData = LPS_FROM_RAS @ worldFromPolyData
    points = transform_points(lpsFromPolyData, vtk_to_numpy(surface.GetPoints().GetData()).astype(float))
    triangles = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    if np.linalg.det(lpsFromPolyData[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    return TriangleMesh(points.astype(np.float32), np.ascontiguousarray(triangles))


def _matrixFromArray(array: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, float).ravel())
    return matrix


def _arrayFromMatrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
