"""The bone surface at half the resolution, made in milliseconds: what a slider shows while the worker makes the fine one."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.host import Nodes

_STEP = 2  # voxels; twice as coarse takes an eighth of the time


class CoarseBone:
    """Contours one volume at changing thresholds."""

    def __init__(self, volume: Any) -> None:
        """Take every other voxel of a volume.

        Args:
            volume: vtkMRMLScalarVolumeNode.
        """
        array, grid = Nodes.arrayFromVolumeNode(volume)
        coarse = array[::_STEP, ::_STEP, ::_STEP].copy()
        image = vtk.vtkImageData()
        image.SetDimensions(*coarse.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(coarse.ravel(), deep=True))
        self._contour = vtk.vtkFlyingEdges3D()
        self._contour.SetInputData(image)
        self._contour.ComputeNormalsOn()
        self._contour.ComputeScalarsOff()
        self._lpsFromCoarse = grid.lps_from_ijk @ affine(_STEP * np.eye(3), np.zeros(3))

    def surface(self, thresholdPerMm: float) -> vtk.vtkPolyData:
        """Return where the volume exceeds a threshold, LPS mm."""
        self._contour.SetValue(0, thresholdPerMm)
        self._contour.Update()
        return Nodes.transformedPolyData(self._contour.GetOutput(), self._lpsFromCoarse)
