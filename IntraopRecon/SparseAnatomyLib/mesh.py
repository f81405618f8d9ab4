"""Scalar field on a voxel grid -> closed triangle mesh in LPS mm, and its files. The one place in the libraries that meshes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from .checks import check_array, check_positive
from .frames import transform_points
from .grid import VoxelGrid

if TYPE_CHECKING:
    from vtkmodules.vtkCommonDataModel import vtkPolyData

_STL_HEADER = "SparseAnatomy surface, mm. SPACE=LPS"


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A surface; normals by the right-hand rule point from inside (above the level) to outside.

    Attributes:
        points_lps_mm: float32 [n, 3].
        triangles: Indices into the points, int64 [m, 3].
    """

    points_lps_mm: np.ndarray
    triangles: np.ndarray

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume, cavities subtracted."""
        a, b, c = self._corners()
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    @property
    def area_mm2(self) -> float:
        """Area of the surface."""
        a, b, c = self._corners()
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    def _corners(self) -> np.ndarray:
        """Corners of the triangles about the mesh's middle, float64 [3, m, 3]."""
        points = self.points_lps_mm.astype(float)
        if len(points):
            points -= points.mean(0)
        return points[self.triangles].transpose(1, 0, 2)


def mesh_from_field(
    field: np.ndarray, grid: VoxelGrid, level: float, smallest_island_mm3: float = 0.0, keep_triangles: float = 0.5
) -> TriangleMesh:
    """Mesh where a field exceeds a level.

    Where the field exceeds the level at the border of the grid, the surface closes along the border voxels' outer faces. It is smoothed
    with a windowed sinc (pass band 0.1, which keeps the volume) and thinned without changing its topology.

    Args:
        field: float [k, j, i].
        grid: Where its voxels lie.
        level: The surface's value, in the field's unit.
        smallest_island_mm3: Separate pieces (26-connected voxels above the level) of less volume are left out.
        keep_triangles: Share of the triangles to keep when thinning, 0 to 1; 1 thins nothing.

    Returns:
        The mesh, without points where nothing exceeds the level.

    Source: Taubin, Zhang and Golub, ECCV 1996 (smoothing); Schroeder et al., Flying Edges, LDAV 2015.
    """
    field = check_array("field", field, grid.shape_kji, dtype=np.float32)
    check_positive("keep_triangles", keep_triangles)
    level = float(np.float32(level))
    inside = voxels_above(field, grid, level, smallest_island_mm3)
    if not inside.any():
        return TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))
    closed = np.pad(field, 1, mode="edge")
    left_out = np.pad(~inside & (field > level), 1, mode="edge")
    closed[left_out] = 2 * level - closed[left_out]
    shell = np.pad(np.zeros(field.shape, bool), 1, constant_values=True)
    closed[shell] = np.minimum(level - np.abs(closed[shell] - level), np.nextafter(np.float32(level), np.float32(-np.inf)))
    points_ijk, triangles = _contour(closed, level, keep_triangles)
    if np.linalg.det(grid.direction) < 0:  # a left-handed grid turns the triangles inside out
        triangles = triangles[:, ::-1]
    return TriangleMesh(transform_points(grid.lps_from_ijk, points_ijk - 1.0).astype(np.float32), np.ascontiguousarray(triangles))


def voxels_above(field: np.ndarray, grid: VoxelGrid, level: float, smallest_island_mm3: float = 0.0) -> np.ndarray:
    """Return the voxels that `mesh_from_field` encloses, bool [k, j, i]; arguments as there."""
    return _without_small_islands(field > np.float32(level), smallest_island_mm3 / grid.voxel_volume_mm3)


def write_vtp(mesh: TriangleMesh, path: Path, point_scalars: Mapping[str, np.ndarray] | None = None, compressed: bool = True) -> None:
    """Write VTK XML PolyData with point normals; field data `SPACE` says LPS, as Slicer writes and reads it.

    Args:
        mesh: The surface.
        path: The file.
        point_scalars: By name, a value for each point, float32 [n]; the first is the active one.
        compressed: Not so where it is read again at once.

    Raises:
        ValueError: Scalars of another number than the points.
        OSError: The file could not be written; nothing is left under its name.
    """
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    writer = vtkXMLPolyDataWriter()
    writer.SetCompressorTypeToZLib() if compressed else writer.SetCompressorTypeToNone()
    writer.SetDataModeToAppended()
    writer.SetEncodeAppendedData(compressed)
    scalars = {name: check_array(name, values, (len(mesh.points_lps_mm),), np.float32) for name, values in (point_scalars or {}).items()}
    _write(writer, _to_vtk(mesh, scalars), Path(path))


def write_stl(mesh: TriangleMesh, path: Path) -> None:
    """Write binary STL; its header says `SPACE=LPS`, as Slicer writes and reads it.

    Raises:
        OSError: The file could not be written; nothing is left under its name.
    """
    from vtkmodules.vtkIOGeometry import vtkSTLWriter

    writer = vtkSTLWriter()
    writer.SetFileTypeToBinary()
    writer.SetHeader(_STL_HEADER)
    if len(mesh.triangles):
        _write(writer, _to_vtk(mesh), Path(path))
    else:  # which VTK refuses to write
        Path(path).write_bytes(_STL_HEADER.encode().ljust(84, b"\0"))


def read_vtp(path: Path) -> TriangleMesh:
    """Read what `write_vtp` wrote.

    Raises:
        OSError: There is no such file.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return _from_vtk(reader.GetOutput(), vtk_to_numpy)


def write_surface(mesh: TriangleMesh, path: Path) -> None:
    """Write a mesh with its point normals as raw arrays, which a scene takes without computing anything.

    Raises:
        OSError: The file could not be written.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy

    normals = np.zeros_like(mesh.points_lps_mm)
    if len(mesh.triangles):
        normals = vtk_to_numpy(_to_vtk(mesh).GetPointData().GetNormals()).astype(np.float32)
    np.savez(path, points_lps_mm=mesh.points_lps_mm, triangles=mesh.triangles, normals=normals)


def read_surface(path: Path) -> tuple[TriangleMesh, np.ndarray]:
    """Read what `write_surface` wrote: the mesh, and the unit normals of its points, float32 [n, 3].

    Raises:
        OSError, KeyError, ValueError, zipfile.BadZipFile: There is no such file, or it is damaged.
    """
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        points, triangles, normals = (arrays[name] for name in ("points_lps_mm", "triangles", "normals"))
    if points.shape != normals.shape or points.shape[1:] != (3,) or triangles.shape[1:] != (3,):
        raise ValueError(f"{path}: expected points, normals and triangles of three numbers each.")
    return TriangleMesh(points, triangles), normals


def _without_small_islands(inside: np.ndarray, smallest_voxels: float) -> np.ndarray:
    if smallest_voxels <= 1:
        return inside
    labels, count = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    sizes = np.zeros(count + 1, np.int64)
    for piece in labels:  # slice by slice: numpy counts and indexes by 64 bits, which are many for a large volume
        sizes += np.bincount(piece.ravel(), minlength=count + 1)
    keep = sizes >= smallest_voxels
    keep[0] = False
    return np.stack([keep[piece] for piece in labels])


def _contour(field: np.ndarray, level: float, keep_triangles: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points (i, j, k) [n, 3] and triangles [m, 3], smoothed and thinned, of a field [k, j, i]."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkDecimatePro, vtkFlyingEdges3D, vtkWindowedSincPolyDataFilter

    image = vtkImageData()
    image.SetDimensions(*field.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(field).ravel()))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, level)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.ReleaseDataFlagOn()
    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(contour.GetOutputPort())
    smooth.SetNumberOfIterations(20)
    smooth.SetPassBand(0.1)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    last = smooth
    if keep_triangles < 1:
        smooth.ReleaseDataFlagOn()
        last = vtkDecimatePro()
        last.SetInputConnection(smooth.GetOutputPort())
        last.SetTargetReduction(1 - keep_triangles)
        last.PreserveTopologyOn()
        last.SplittingOff()
        last.BoundaryVertexDeletionOff()
    last.Update()
    mesh = _from_vtk(last.GetOutput(), vtk_to_numpy)
    return mesh.points_lps_mm, mesh.triangles


def _from_vtk(poly, vtk_to_numpy) -> TriangleMesh:
    if poly.GetNumberOfPolys() == 0:
        return TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))
    triangles = vtk_to_numpy(poly.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return TriangleMesh(vtk_to_numpy(poly.GetPoints().GetData()).astype(np.float32), triangles.astype(np.int64))


def _to_vtk(mesh: TriangleMesh, point_scalars: Mapping[str, np.ndarray] | None = None) -> vtkPolyData:
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals

    points, cells, poly = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(mesh.points_lps_mm, deep=True))
    offsets = np.arange(len(mesh.triangles) + 1, dtype=np.int64) * 3
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(mesh.triangles.ravel(), deep=True))
    poly.SetPoints(points)
    poly.SetPolys(cells)
    normals = vtkPolyDataNormals()
    normals.SetInputData(poly)
    normals.SplittingOff()
    normals.ConsistencyOff()  # the triangles are consistent, and cavities must keep theirs
    normals.AutoOrientNormalsOff()
    normals.Update()
    poly = normals.GetOutput()
    space = vtkStringArray()
    space.SetName("SPACE")
    space.InsertNextValue("LPS")
    poly.GetFieldData().AddArray(space)
    for number, (name, values) in enumerate((point_scalars or {}).items()):
        array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        array.SetName(name)
        poly.GetPointData().AddArray(array)
        if number == 0:
            poly.GetPointData().SetActiveScalars(name)
    return poly


def _write(writer, poly: vtkPolyData, path: Path) -> None:
    """Write to a temporary name, then rename."""
    from vtkmodules.vtkCommonCore import vtkCommand

    partial = path.with_name(path.name + ".partial")
    complaints: list[str] = []
    writer.AddObserver(vtkCommand.ErrorEvent, lambda *_: complaints.append("VTK reports an error"))
    writer.SetFileName(str(partial))
    writer.SetInputData(poly)
    try:
        if writer.Write() != 1 or writer.GetErrorCode() or complaints:
            raise OSError(f"{path}: the mesh could not be written.")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
