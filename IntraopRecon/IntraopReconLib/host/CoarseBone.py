"""The bone surface at half the resolution, made in milliseconds: what a slider shows while the worker makes the fine one."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes

_STEP = 2  # voxels; twice as coarse takes an eighth of the time
_SMALL_VOXELS = 80**3


class CoarseBone:
    """Contours one volume at changing thresholds."""

    def __init__(self, volume: Any) -> None:
        """Take every other voxel of a volume.

        Args:
            volume: vtkMRMLScalarVolumeNode.
        """
        self._take(*Nodes.arrayFromVolumeNode(volume), _STEP)

    @classmethod
    def ofArray(cls, array: np.ndarray, grid: VoxelGrid) -> CoarseBone:
        """Take a volume [k, j, i] that is in no node yet; a small one as it is."""
        made = cls.__new__(cls)
        made._take(array, grid, _STEP if array.size > _SMALL_VOXELS else 1)
        return made

    def _take(self, array: np.ndarray, grid: VoxelGrid, step: int) -> None:
        coarse = np.ascontiguousarray(array[::step, ::step, ::step])
        image = vtk.vtkImageData()
        image.SetDimensions(*coarse.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(coarse.ravel(), deep=True))
        self._contour = vtk.vtkFlyingEdges3D()
        self._contour.SetInputData(image)
        self._contour.ComputeNormalsOn()
        self._contour.ComputeScalarsOff()
        self._lpsFromCoarse = grid.lps_from_ijk @ affine(step * np.eye(3), np.zeros(3))

    def surface(self, thresholdPerMm: float) -> vtk.vtkPolyData:
        """Return where the volume exceeds a threshold, LPS mm."""
        self._contour.SetValue(0, thresholdPerMm)
        self._contour.Update()
        return Nodes.transformedPolyData(self._contour.GetOutput(), self._lpsFromCoarse)
