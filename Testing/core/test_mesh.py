"""Meshes: where they lie, which way they face, and that their files say so."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOGeometry import vtkSTLReader
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field, read_vtp, write_stl, write_vtp

RADIUS_MM = 15.0
ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def make_grid(direction=ROTATION, spacing_mm=(1.0, 1.2, 1.5)):
    return VoxelGrid((48, 40, 36), spacing_mm, [10.0, -200.0, 333.0], direction)


def ball(grid, center_lps_mm, radius_mm=RADIUS_MM):
    return radius_mm - np.linalg.norm(grid.points_lps_mm() - center_lps_mm, axis=-1)


def edges(mesh):
    """Undirected edges with how many triangles run along each in either direction, [e], [e]."""
    directed = np.concatenate([mesh.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    _, inverse = np.unique(np.sort(directed, 1), axis=0, return_inverse=True)
    ascending = directed[:, 0] < directed[:, 1]
    return np.bincount(inverse[ascending], minlength=inverse.max() + 1), np.bincount(inverse[~ascending], minlength=inverse.max() + 1)


def assert_watertight(mesh):
    up, down = edges(mesh)
    np.testing.assert_array_equal(up, down)


@pytest.mark.parametrize("keep_triangles", [1.0, 0.5])
def test_sphere_has_its_volume_area_and_place(keep_triangles):
    grid = make_grid()
    center = transform_points(grid.lps_from_ijk, np.array([22.3, 19.1, 16.8]))
    mesh = mesh_from_field(ball(grid, center), grid, 0.0, keep_triangles=keep_triangles)
    assert mesh.volume_mm3 == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.01)
    assert mesh.area_mm2 == pytest.approx(4 * np.pi * RADIUS_MM**2, rel=0.01)
    np.testing.assert_allclose(np.linalg.norm(mesh.points_lps_mm - center, axis=1), RADIUS_MM, atol=0.15)
    assert_watertight(mesh)


def test_thinning_keeps_about_the_share_asked_for():
    grid = make_grid()
    full, half = (mesh_from_field(ball(grid, grid.center_lps_mm), grid, 0.0, keep_triangles=keep) for keep in (1.0, 0.5))
    assert len(half.triangles) == pytest.approx(len(full.triangles) / 2, rel=0.1)


@pytest.mark.parametrize("mirror", [1, -1])
def test_normals_point_outward_in_left_handed_grids_too(mirror):
    grid = make_grid(ROTATION * [1, 1, mirror])
    mesh = mesh_from_field(ball(grid, grid.center_lps_mm), grid, 0.0)
    a, b, c = mesh.points_lps_mm[mesh.triangles].astype(float).transpose(1, 0, 2)
    outward = np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3 - grid.center_lps_mm)
    assert (outward > 0).all()
    assert mesh.volume_mm3 > 0


def test_cavity_is_subtracted_and_faces_inward():
    grid = make_grid()
    shell = 4.0 - np.abs(np.linalg.norm(grid.points_lps_mm() - grid.center_lps_mm, axis=-1) - 12.0)
    mesh = mesh_from_field(shell, grid, 0.0)
    assert mesh.volume_mm3 == pytest.approx(4 / 3 * np.pi * (16**3 - 8**3), rel=0.02)


def test_surface_is_closed_where_the_anatomy_leaves_the_grid():
    grid = make_grid()
    corner = grid.corners_lps_mm()[0]
    mesh = mesh_from_field(ball(grid, corner, 25.0), grid, 0.0)
    assert_watertight(mesh)
    assert mesh.volume_mm3 == pytest.approx(4 / 3 * np.pi * 25**3 / 8, rel=0.06)
    assert_watertight(mesh_from_field(np.ones(grid.shape_kji), grid, 0.5))


def test_noise_gives_a_closed_surface():
    grid = make_grid()
    mesh = mesh_from_field(np.random.default_rng(0).normal(size=grid.shape_kji), grid, 1.0)
    assert_watertight(mesh)


def test_small_islands_are_left_out_by_volume():
    grid = make_grid()
    at = transform_points(grid.lps_from_ijk, np.array([[14.0, 14, 14], [38, 30, 27]]))
    field = np.maximum(ball(grid, at[0], 12.0), ball(grid, at[1], 4.0))
    small = 4 / 3 * np.pi * 4**3
    with_island, without = (mesh_from_field(field, grid, 0.0, smallest_island_mm3=volume) for volume in (0.7 * small, 1.3 * small))
    assert with_island.volume_mm3 - without.volume_mm3 == pytest.approx(small, rel=0.1)
    assert np.linalg.norm(without.points_lps_mm - at[1], axis=1).min() > 10


def test_nothing_above_the_level_gives_an_empty_mesh(tmp_path):
    grid = make_grid()
    mesh = mesh_from_field(np.zeros(grid.shape_kji), grid, 0.5)
    assert len(mesh.points_lps_mm) == len(mesh.triangles) == 0
    assert mesh.volume_mm3 == mesh.area_mm2 == 0
    write_vtp(mesh, tmp_path / "empty.vtp")
    write_stl(mesh, tmp_path / "empty.stl")
    assert len(read_vtp(tmp_path / "empty.vtp").triangles) == 0


def test_field_must_fit_the_grid():
    with pytest.raises(ValueError, match="field: expected shape"):
        mesh_from_field(np.zeros((3, 4, 5)), make_grid(), 0.5)


@pytest.fixture(scope="module")
def mesh():
    grid = make_grid()
    return mesh_from_field(ball(grid, grid.center_lps_mm), grid, 0.0)


def test_vtp_round_trip_states_lps_and_carries_normals(mesh, tmp_path):
    path = tmp_path / "bone.vtp"
    write_vtp(mesh, path)
    back = read_vtp(path)
    np.testing.assert_array_equal(back.points_lps_mm, mesh.points_lps_mm)
    np.testing.assert_array_equal(back.triangles, mesh.triangles)
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    poly = reader.GetOutput()
    assert poly.GetFieldData().GetAbstractArray("SPACE").GetValue(0) == "LPS"
    normals = vtk_to_numpy(poly.GetPointData().GetNormals())
    outward = mesh.points_lps_mm - make_grid().center_lps_mm
    assert (np.einsum("ij,ij->i", normals, outward / np.linalg.norm(outward, axis=1)[:, None]) > 0.9).all()
    assert list(tmp_path.iterdir()) == [path]


def test_stl_round_trip_states_lps(mesh, tmp_path):
    path = tmp_path / "bone.stl"
    write_stl(mesh, path)
    content = path.read_bytes()
    assert b"SPACE=LPS" in content[:80]
    assert struct.unpack("<I", content[80:84])[0] == len(mesh.triangles)
    reader = vtkSTLReader()
    reader.SetFileName(str(path))
    reader.Update()
    bounds = np.reshape(reader.GetOutput().GetBounds(), (3, 2))
    np.testing.assert_allclose(bounds, np.stack([mesh.points_lps_mm.min(0), mesh.points_lps_mm.max(0)], 1), atol=1e-3)


@pytest.mark.parametrize("suffix", ["vtp", "stl"])
def test_slicer_puts_the_mesh_where_the_patient_is(mesh, tmp_path, suffix):
    slicer = pytest.importorskip("slicer")
    path = tmp_path / f"bone.{suffix}"
    (write_vtp if suffix == "vtp" else write_stl)(mesh, path)
    scene = slicer.vtkMRMLScene()
    storage, model = slicer.vtkMRMLModelStorageNode(), slicer.vtkMRMLModelNode()
    scene.AddNode(storage)
    scene.AddNode(model)
    storage.SetFileName(str(path))
    assert storage.ReadData(model)
    points_ras = vtk_to_numpy(model.GetPolyData().GetPoints().GetData())
    np.testing.assert_allclose(points_ras.min(0)[:2], -mesh.points_lps_mm.max(0)[:2], atol=1e-3)
    np.testing.assert_allclose(points_ras.max(0)[2], mesh.points_lps_mm.max(0)[2], atol=1e-3)


@pytest.mark.parametrize("write", [write_vtp, write_stl])
def test_failed_writing_leaves_nothing(mesh, tmp_path, write):
    with pytest.raises(OSError, match="could not be written"):
        write(mesh, tmp_path / "no" / "bone.mesh")
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError):
        write(mesh, path)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(OSError):
        read_vtp(tmp_path / "none.vtp")
