"""What the slice views show: a volume with another over it, centered on the anatomy and large."""

from __future__ import annotations

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

FRAME = 1.12
"""How much wider than the anatomy a picture is."""


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
