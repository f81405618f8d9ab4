"""A volume into X-ray views and back: the geometry around the kernels of `_projection_numba`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SparseAnatomyLib.frames import transform_points, transform_vectors
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from . import _projection_numba

BORDER = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class ViewOnGrid:
    """One view in the voxel units of one isotropic grid.

    Attributes:
        axes: The volume's axes (0 = k, 1 = j, 2 = i), that along which the rays run most first.
        rays: Source, detector origin, column step and row step in voxel units, [3] each, ordered as `axes`.
        matrix: [3, 4], voxel indices (i, j, k) to homogeneous pixels of an image with a border of one pixel.
        size_px: (columns, rows).
        spacing_mm: Voxel pitch.
    """

    axes: tuple[int, int, int]
    rays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    matrix: np.ndarray
    size_px: tuple[int, int]
    spacing_mm: float

    @classmethod
    def of(cls, view: XrayView, grid: VoxelGrid) -> ViewOnGrid:
        """Bring a view into the units of a grid.

        Raises:
            ValueError: The grid is not isotropic.
        """
        if not np.allclose(grid.spacing_mm, grid.spacing_mm[0]):
            raise ValueError(f"grid: expected one spacing along all axes, got {grid.spacing_mm.tolist()}.")
        ijk_from_lps = np.linalg.inv(grid.lps_from_ijk)
        points = transform_points(ijk_from_lps, np.stack([view.source_lps_mm, view.detector_origin_lps_mm]))
        steps = transform_vectors(ijk_from_lps, np.stack([view.column_step_lps_mm, view.row_step_lps_mm]))
        kji = np.concatenate([points, steps])[:, ::-1]
        center = kji[1] + (view.size_px[0] - 1) / 2 * kji[2] + (view.size_px[1] - 1) / 2 * kji[3]
        along = int(np.argmax(np.abs(center - kji[0])))
        axes = (along, *(axis for axis in range(3) if axis != along))
        rays = tuple(np.ascontiguousarray(vector[list(axes)], np.float32) for vector in kji)
        matrix = (BORDER @ view.projection_matrix @ grid.lps_from_ijk).astype(np.float32)
        return cls(axes, rays, matrix, view.size_px, float(grid.spacing_mm[0]))


def project_volume(volume: np.ndarray, view: ViewOnGrid) -> tuple[np.ndarray, np.ndarray]:
    """Integrate a volume along the rays of a view.

    Args:
        volume: Attenuation per mm, float32 [k, j, i].
        view: The view on the volume's grid.

    Returns:
        Line integrals and lengths of the rays between the outermost voxel centres in mm, both float32 [row, column].
    """
    columns, rows = view.size_px
    volume = np.ascontiguousarray(volume)
    strides = (volume.shape[1] * volume.shape[2], volume.shape[2], 1)
    sizes, strides = (tuple(values[axis] for axis in view.axes) for values in (volume.shape, strides))
    sums, lengths = _projection_numba.forward(volume.ravel(), sizes, strides, view.rays, rows, columns)
    return sums * np.float32(view.spacing_mm), lengths * np.float32(view.spacing_mm)


def add_backprojection(volume: np.ndarray, image: np.ndarray, view: ViewOnGrid) -> None:
    """Add to each voxel the image's value, interpolated, where the voxel projects to.

    Args:
        volume: float32 [k, j, i], contiguous, changed in place.
        image: float32 [row, column].
        view: The view on the volume's grid.

    Raises:
        ValueError: The volume is not contiguous.
    """
    if not volume.flags.c_contiguous:
        raise ValueError("volume: expected a contiguous array, got a view of a larger or transposed one.")
    _projection_numba.backward(volume, np.pad(image, (1, 2)), view.matrix)
