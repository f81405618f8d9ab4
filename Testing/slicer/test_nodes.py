"""LPS values through real MRML nodes and back, with a phantom that no flip leaves unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("slicer")

import vtk
from small_scene import BALLS, CENTER_LPS_MM, THRESHOLD_PER_MM, balls_per_mm, oblique_grid, views
from vtk.util.numpy_support import vtk_to_numpy

from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Folders, Nodes, SceneFiles
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.Nodes import Box
from SparseAnatomyLib.mesh import mesh_from_field, voxels_above

MOVE = affine(Rotation.from_euler("zyx", [40, 10, -25], degrees=True).as_matrix(), np.array([7.0, -3.0, 11.0]))


@pytest.fixture(scope="module")
def headless() -> HeadlessScene:
    return HeadlessScene()


@pytest.fixture
def scene(headless: HeadlessScene):
    yield headless.scene
    headless.scene.Clear(False)


def _volume(scene):
    grid = oblique_grid()
    return Nodes.volumeNodeFromArray(scene, balls_per_mm(grid), grid, "volume"), grid


def test_volume_round_trip(scene):
    node, grid = _volume(scene)
    array, back = Nodes.arrayFromVolumeNode(node)
    np.testing.assert_array_equal(array, balls_per_mm(grid))
    assert array.dtype == np.float32
    np.testing.assert_allclose(back.lps_from_ijk, grid.lps_from_ijk, atol=1e-9)


def test_volume_stands_where_slicer_looks_for_it(scene):
    """Slicer's own words: a ball to the patient's left is at negative R."""
    node, _grid = _volume(scene)
    for offset, _ in BALLS.values():
        left, posterior, superior = CENTER_LPS_MM + offset
        ijk_from_ras = vtk.vtkMatrix4x4()
        node.GetRASToIJKMatrix(ijk_from_ras)
        i, j, k, _ = np.rint(ijk_from_ras.MultiplyPoint((-left, -posterior, superior, 1.0))).astype(int)
        assert node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0) == pytest.approx(0.03)


def test_reading_gives_copies_and_changes_nothing(scene):
    node, grid = _volume(scene)
    before = node.GetMTime(), node.GetImageData().GetMTime()
    array, _ = Nodes.arrayFromVolumeNode(node)
    array[:] = 7
    assert (node.GetMTime(), node.GetImageData().GetMTime()) == before
    np.testing.assert_array_equal(Nodes.arrayFromVolumeNode(node)[0], balls_per_mm(grid))


def test_writing_does_not_share_memory_with_the_caller(scene):
    grid = oblique_grid()
    array = balls_per_mm(grid)
    node = Nodes.volumeNodeFromArray(scene, array, grid, "volume")
    array[:] = 7
    assert Nodes.arrayFromVolumeNode(node)[0].max() < 1


def test_left_handed_grid_survives(scene):
    direction = oblique_grid().direction * [1, 1, -1]
    grid = VoxelGrid((5, 6, 7), [1, 2, 3], [4, 5, 6], direction)
    node = Nodes.volumeNodeFromArray(scene, np.arange(210).reshape(7, 6, 5).astype(np.int16), grid, "left-handed")
    array, back = Nodes.arrayFromVolumeNode(node)
    np.testing.assert_allclose(back.lps_from_ijk, grid.lps_from_ijk, atol=1e-9)
    assert array[6, 5, 4] == 209


def test_update_in_place_keeps_the_node(scene):
    node, grid = _volume(scene)
    coarse = grid.coarsened(2)
    Nodes.updateVolumeNode(node, balls_per_mm(coarse), coarse)
    array, back = Nodes.arrayFromVolumeNode(node)
    assert array.shape == coarse.shape_kji
    np.testing.assert_allclose(back.lps_from_ijk, coarse.lps_from_ijk, atol=1e-9)


@pytest.mark.parametrize("kind", ["volume", "mesh", "roi", "points"])
def test_parent_transforms_count(scene, kind: str):
    transform = Nodes.transformNodeFromLps(scene, MOVE, "move")
    grid = oblique_grid()
    if kind == "volume":
        node, _ = _volume(scene)
        node.SetAndObserveTransformNodeID(transform.GetID())
        moved, expected = Nodes.arrayFromVolumeNode(node)[1].center_lps_mm, grid.center_lps_mm
    elif kind == "mesh":
        mesh = mesh_from_field(balls_per_mm(grid), grid, THRESHOLD_PER_MM)
        node = Nodes.modelNodeFromPolyData(scene, Nodes.polyDataFromMesh(mesh), "bone")
        node.SetAndObserveTransformNodeID(transform.GetID())
        moved, expected = Nodes.meshFromModelNode(node).points_lps_mm[17], mesh.points_lps_mm[17]
    elif kind == "roi":
        node = Nodes.roiNodeFromBox(scene, Box(CENTER_LPS_MM, grid.extent_mm, grid.direction), "region")
        node.SetAndObserveTransformNodeID(transform.GetID())
        moved, expected = Nodes.boxFromRoiNode(node).center_lps_mm, CENTER_LPS_MM
    else:
        node = Nodes.pointsNodeFromArray(scene, [CENTER_LPS_MM], ["c"], "points")
        node.SetAndObserveTransformNodeID(transform.GetID())
        moved, expected = Nodes.arrayFromPointsNode(node)[0], CENTER_LPS_MM
    np.testing.assert_allclose(moved, transform_points(MOVE, expected), atol=1e-4)


def test_a_warped_volume_is_refused(scene):
    node, _ = _volume(scene)
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    warp.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="not linear"):
        Nodes.arrayFromVolumeNode(node)


def test_an_empty_volume_is_refused(scene):
    with pytest.raises(InputError, match="no voxels"):
        Nodes.arrayFromVolumeNode(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_mesh_round_trip_keeps_points_and_inside(scene):
    grid = oblique_grid()
    mesh = mesh_from_field(balls_per_mm(grid), grid, THRESHOLD_PER_MM)
    node = Nodes.modelNodeFromPolyData(scene, Nodes.polyDataFromMesh(mesh), "bone")
    back = Nodes.meshFromModelNode(node)
    np.testing.assert_allclose(back.points_lps_mm, mesh.points_lps_mm, atol=1e-4)
    np.testing.assert_array_equal(back.triangles, mesh.triangles)
    assert back.volume_mm3 == pytest.approx(mesh.volume_mm3, rel=1e-4)
    assert back.volume_mm3 > 0


def test_model_without_surface_is_refused(scene):
    with pytest.raises(InputError, match="no surface"):
        Nodes.meshFromModelNode(scene.AddNewNodeByClass("vtkMRMLModelNode", "nothing"))


def test_a_segment_holds_its_voxels_and_the_surface_of_a_model(scene):
    volume, grid = _volume(scene)
    field = balls_per_mm(grid)
    mesh = mesh_from_field(field, grid, THRESHOLD_PER_MM)
    inside = voxels_above(field, grid, THRESHOLD_PER_MM)
    model = Nodes.modelNodeFromPolyData(scene, Nodes.polyDataFromMesh(mesh), "bone")
    node = Nodes.segmentationNodeFromLabels(scene, volume, "segmentation", "Bone")
    Nodes.setSegment(node, inside.astype(np.uint8), grid, model)
    segment = node.GetSegmentation().GetNthSegmentID(0)
    assert node.GetSegmentation().GetSourceRepresentationName() == "Binary labelmap"
    labels, where = Nodes.labelsFromSegmentationNode(node, segment)
    np.testing.assert_allclose(where.lps_from_ijk, grid.lps_from_ijk, atol=1e-6)
    np.testing.assert_array_equal(labels, inside)
    surface = Nodes.meshFromSegmentationNode(node, segment)
    np.testing.assert_allclose(surface.points_lps_mm, mesh.points_lps_mm, atol=1e-4)
    node.GetSegmentation().RemoveRepresentation("Closed surface")
    assert node.CreateClosedSurfaceRepresentation()  # what Slicer makes of the voxels is the same surface
    made = Nodes.meshFromSegmentationNode(node, segment)
    assert made.volume_mm3 == pytest.approx(mesh.volume_mm3, rel=0.1)
    np.testing.assert_allclose(made.points_lps_mm.max(0), mesh.points_lps_mm.max(0), atol=2.5)


def test_normals_that_are_given_are_taken(scene):
    _, grid = _volume(scene)
    mesh = mesh_from_field(balls_per_mm(grid), grid, THRESHOLD_PER_MM)
    computed = vtk_to_numpy(Nodes.polyDataFromMesh(mesh).GetPointData().GetNormals())
    given = vtk_to_numpy(Nodes.polyDataFromMesh(mesh, -computed).GetPointData().GetNormals())
    np.testing.assert_array_equal(given, -computed)


def test_empty_segment_is_refused(scene):
    volume, _ = _volume(scene)
    node = Nodes.segmentationNodeFromLabels(scene, volume, "segmentation", "Bone")
    with pytest.raises(InputError, match="empty"):
        Nodes.labelsFromSegmentationNode(node, node.GetSegmentation().GetNthSegmentID(0))


def test_roi_round_trip(scene):
    direction = Rotation.from_euler("xyz", [5, -10, 15], degrees=True).as_matrix()
    box = Box(CENTER_LPS_MM, np.array([30.0, 40.0, 50.0]), direction)
    back = Nodes.boxFromRoiNode(Nodes.roiNodeFromBox(scene, box, "region"))
    np.testing.assert_allclose(back.center_lps_mm, box.center_lps_mm, atol=1e-9)
    np.testing.assert_allclose(back.extent_mm, box.extent_mm)
    np.testing.assert_allclose(back.direction, box.direction, atol=1e-9)


def test_roi_as_slicer_draws_it_lies_along_the_patient(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "drawn")
    node.SetCenter(-10.0, 20.0, 30.0)  # RAS
    node.SetSize(40.0, 50.0, 60.0)
    box = Nodes.boxFromRoiNode(node)
    np.testing.assert_allclose(box.center_lps_mm, [10, -20, 30])
    np.testing.assert_allclose(box.extent_mm, [40, 50, 60])
    np.testing.assert_allclose(box.direction, np.eye(3), atol=1e-12)


def test_roi_that_was_never_placed_is_refused(scene):
    with pytest.raises(InputError, match="not been placed"):
        Nodes.boxFromRoiNode(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "nowhere"))


@pytest.mark.parametrize("view", views())
def test_view_pose_round_trip(scene, view):
    node = Nodes.transformNodeFromView(scene, view, "pose")
    same = Nodes.viewAtTransformNode(view, node)
    np.testing.assert_allclose(same.projection_matrix, view.projection_matrix, atol=1e-9)
    moved = Nodes.viewAtTransformNode(view, Nodes.transformNodeFromView(scene, view.transformed(MOVE), "moved"))
    point = np.array([3.0, 4.0, 5.0])
    np.testing.assert_allclose(moved.project(transform_points(MOVE, point)), view.project(point), atol=1e-6)
    np.testing.assert_allclose(moved.source_lps_mm, transform_points(MOVE, view.source_lps_mm), atol=1e-6)


def test_scaled_pose_is_refused(scene):
    node = Nodes.transformNodeFromLps(scene, np.diag([0.001, 0.001, 0.001, 1]), "metres")
    with pytest.raises(InputError, match="scales"):
        Nodes.viewAtTransformNode(views()[0], node)


def test_folders_nest(scene):
    outer = Folders.folderItem(scene, "outer")
    inner = Folders.folderItem(scene, "inner", outer)
    node, _ = _volume(scene)
    Folders.moveToFolder(scene, node, outer)
    Folders.moveToFolder(scene, node, inner)
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == inner
    assert hierarchy.GetItemParent(inner) == outer
    Folders.removeItem(scene, outer)
    assert scene.IsNodePresent(node)


def test_scene_is_saved_whole_or_not_at_all(scene, tmp_path):
    _volume(scene)
    path = SceneFiles.saveScene(scene, tmp_path / "case.mrb")
    whole = path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["case.mrb"]
    with pytest.raises(InputError, match=r"\.mrb"):
        SceneFiles.saveScene(scene, tmp_path / "case.zip")
    with pytest.raises(InputError, match="no folder"):
        SceneFiles.saveScene(scene, tmp_path / "nowhere" / "case.mrb")
    assert path.read_bytes() == whole


def test_a_failed_save_keeps_the_earlier_file(scene, tmp_path, monkeypatch):
    path = SceneFiles.saveScene(scene, tmp_path / "case.mrb")
    whole = path.read_bytes()
    monkeypatch.setattr(SceneFiles, "isIntact", lambda _: False)  # as a full disk leaves it
    with pytest.raises(ResourceError, match="could not be saved"):
        SceneFiles.saveScene(scene, path)
    assert path.read_bytes() == whole
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_a_damaged_scene_file_leaves_the_scene_alone(scene, tmp_path, damage: str):
    _volume(scene)
    path = SceneFiles.saveScene(scene, tmp_path / "case.mrb")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("no scene")
    else:
        path.unlink()
    before = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match=r"case\.mrb"):
        SceneFiles.loadScene(scene, path)
    assert scene.GetNumberOfNodes() == before
