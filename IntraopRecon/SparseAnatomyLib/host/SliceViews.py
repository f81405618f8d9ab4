"""What the slice views show: a volume with another over it, centered on the anatomy and large."""

from __future__ import annotations

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

FRAME = 1.12
"""How much wider than the anatomy a picture is."""
_SAME_DIRECTION = 0.99999  # cosine; a view this close to a plane is not turned


def showInSliceViews(scene, volume, over=None) -> None:
    """Show a volume in all slice views of a scene, with another over it where there is one."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        showVolume(scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode"), volume, over)


def showVolume(composite, volume, over=None) -> None:
    """Show a volume in one slice view, by its vtkMRMLSliceCompositeNode; its label layer stays."""
    composite.SetBackgroundVolumeID(volume.GetID())
    composite.SetForegroundVolumeID(over.GetID() if over else None)
    composite.SetForegroundOpacity(1.0)


def aimSliceViews(scene, volume, pointsRas: np.ndarray) -> None:
    """Center all slice views of a scene on points [n, 3] and show them large."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
        aimSliceView(scene.GetNthNodeByClass(n, "vtkMRMLSliceNode"), volume, pointsRas)


def aimSliceView(sliceNode, volume, pointsRas: np.ndarray) -> None:
    """Center a slice view on points [n, 3]; show them large, and as little as can be beyond the volume."""
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    lowest, highest = bounds[::2], bounds[1::2]
    extent = min(FRAME * float(np.ptp(pointsRas, axis=0).max()), float((highest - lowest).max()))
    room, middle = np.maximum(highest - lowest - extent, 0) / 2, (lowest + highest) / 2
    center = np.clip((pointsRas.min(0) + pointsRas.max(0)) / 2, middle - room, middle + room)
    width, height, _ = sliceNode.GetDimensions()
    shorter = min(width, height)
    sliceNode.SetFieldOfView(extent * width / shorter, extent * height / shorter, sliceNode.GetFieldOfView()[2])
    sliceNode.JumpSliceByCentering(*center)


def framedPointsRas(model, volume) -> np.ndarray:
    """Return what pictures frame, [n, 3]: the points of a model, or the corners of the volume where the model has none."""
    if model.GetPolyData().GetNumberOfPoints():
        return vtk_to_numpy(model.GetPolyData().GetPoints().GetData()).astype(float)
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    return np.stack(np.meshgrid(*bounds.reshape(3, 2), indexing="ij"), -1).reshape(-1, 3)


def showPlane(scene, centerRas: np.ndarray, normalRas: np.ndarray, extentMm: float) -> str:
    """Turn and move the slice view that looks most nearly along a normal, so that it shows this plane; the other views stay.

    Args:
        scene: vtkMRMLScene.
        centerRas: Of the plane, mm, [3]; it comes to the middle of the view.
        normalRas: [3].
        extentMm: Edge length of the square that is to be seen.

    Returns:
        Name of the view, such as `Red`; empty where the scene has none.
    """
    views = [scene.GetNthNodeByClass(n, "vtkMRMLSliceNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode"))]
    if not views:
        return ""
    normal = np.asarray(normalRas, float) / np.linalg.norm(normalRas)
    alongs = [abs(float(normal @ _axis(view, 2))) for view in views]
    view = views[int(np.argmax(alongs))]
    if max(alongs) < _SAME_DIRECTION:
        _turn(view, normal)
    width, height, _ = view.GetDimensions()
    shorter = max(min(width, height), 1)
    view.SetFieldOfView(FRAME * extentMm * width / shorter, FRAME * extentMm * height / shorter, view.GetFieldOfView()[2])
    view.JumpSliceByCentering(*np.asarray(centerRas, float).tolist())
    return view.GetLayoutName()


def _turn(view, normal: np.ndarray) -> None:
    """Turn a slice view by as little as can be until it looks along a normal or against it; what is left and what is up stay so."""
    normal = normal * (1 if float(normal @ _axis(view, 2)) > 0 else -1)
    up = _axis(view, 1) - float(_axis(view, 1) @ normal) * normal
    up /= np.linalg.norm(up)
    right = np.cross(up, normal)
    right *= 1 if float(right @ _axis(view, 0)) > 0 else -1  # Slicer's own views are left-handed
    for column, axis in enumerate((right, up, normal)):
        for row in range(3):
            view.GetSliceToRAS().SetElement(row, column, float(axis[row]))
    view.UpdateMatrices()


def _axis(view, column: int) -> np.ndarray:
    """Return an axis of a slice view, RAS: 0 to the right, 1 up, 2 along its normal."""
    matrix = view.GetSliceToRAS()
    axis = np.array([matrix.GetElement(row, column) for row in range(3)])
    return axis / np.linalg.norm(axis)
