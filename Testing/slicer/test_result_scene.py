"""A result in the scene: what comes in, what is saved and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer")

from scene_checks import check_content, folder_names
from small_scene import THRESHOLD_PER_MM, oblique_grid, views, write_nrrd, write_result_folder, xray

from IntraopReconLib.host import ResultNodes as ResultNodesModule
from IntraopReconLib.host import XRays
from IntraopReconLib.host.ReconLogic import ReconLogic
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import Nodes, SceneFiles
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.mesh import read_vtp


@pytest.fixture
def result_folder(tmp_path: Path) -> Path:
    return write_result_folder(tmp_path / "balls")


# Loading


def test_a_result_comes_into_the_scene_whole(headless, result_folder):
    nodes = ReconLogic(headless.scene).loadResult(result_folder)
    check_content(headless.scene)
    parents = folder_names(headless.scene)
    for name in ("volume", "coverage", "segmentation", "bone", "region"):
        assert parents[f"balls {name}"] == "balls"
    assert parents["X-ray sources"] == parents["X-ray images"] == "balls"
    assert (parents["front"], parents["front plane"], parents["oblique frustum"]) == ("X-ray images", "X-ray planes", "X-ray frusta")
    assert nodes.grade == "good"
    assert len(nodes.xrays.images) == len(nodes.xrays.planes) == len(nodes.xrays.frusta) == 2


def test_slices_show_the_volume_and_cover_only_what_is_unknown(headless, result_folder):
    nodes = ReconLogic(headless.scene).loadResult(result_folder)
    for n in range(headless.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = headless.scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == nodes.volume.GetID()
        assert composite.GetForegroundVolumeID() == nodes.coverage.GetID()
    display = nodes.coverage.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() <= 0 <= display.GetUpperThreshold() < 0.2
    assert display.GetColorNode().GetName() == "balls coverage colors"


def test_window_and_bone_preset_fit_the_bone(headless, result_folder):
    nodes = ReconLogic(headless.scene).loadResult(result_folder)
    display = nodes.volume.GetDisplayNode()
    assert display.GetWindowLevelMin() == 0
    assert THRESHOLD_PER_MM < display.GetWindowLevelMax() <= 0.031
    opacity = nodes.volumeRendering.GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    assert opacity.GetValue(0.5 * THRESHOLD_PER_MM) == 0
    assert opacity.GetValue(2 * THRESHOLD_PER_MM) > 0.5


def test_xrays_are_shown_on_demand(headless, result_folder):
    nodes = ReconLogic(headless.scene).loadResult(result_folder)
    shown = [*nodes.xrays.planes, *nodes.xrays.frusta, nodes.xrays.sources]
    assert not any(node.GetDisplayVisibility() for node in shown)
    XRays.setVisible(nodes.xrays, True)
    assert all(node.GetDisplayVisibility() for node in shown)


@pytest.mark.parametrize("view", views())
def test_the_front_of_a_plane_looks_to_the_source(view):
    from IntraopReconLib.host.ResultFolder import ResultXray

    plane = XRays.planePolyData(ResultXray("x", xray(view), np.ones(view.size_px[::-1], bool), view))
    mesh = Nodes._meshFromRas(plane, np.eye(4), "plane")  # turned by half a turn about S, which keeps fronts fronts
    a, b, c = (mesh.points_lps_mm[mesh.triangles] * [-1, -1, 1]).transpose(1, 0, 2)
    towards_source = view.source_lps_mm - a
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), towards_source) > 0).all()


def test_large_images_are_thinned_in_3d_and_whole_as_images(headless):
    from IntraopReconLib.host.ResultFolder import ResultXray
    from SparseAnatomyLib.geometry import XrayView

    view = XrayView([0, -600, 0], [-150, 400, 150], [0.3, 0, 0], [0, 0, -0.3], (1001, 900))
    image = np.linspace(0, 1, 1001, dtype=np.float32)[None].repeat(900, 0)
    plane = XRays.planePolyData(ResultXray("x", image, np.ones(image.shape, bool), view))
    bounds = np.array(plane.GetBounds())
    assert plane.GetNumberOfPoints() == 143 * 128
    np.testing.assert_allclose(bounds[:2], [-150 + 0.9, -150 + 0.3 * 997], atol=1e-3)


def test_a_result_without_bone_loads(headless, tmp_path):
    nodes = ReconLogic(headless.scene).loadResult(write_result_folder(tmp_path / "air", with_bone=False))
    assert nodes.bone.GetPolyData().GetNumberOfPoints() == 0


def test_two_results_stand_side_by_side(headless, result_folder):
    logic = ReconLogic(headless.scene)
    first, second = logic.loadResult(result_folder), logic.loadResult(result_folder)
    assert first.volume is not second.volume
    assert first.folder != second.folder
    np.testing.assert_array_equal(Nodes.arrayFromVolumeNode(first.volume)[0], Nodes.arrayFromVolumeNode(second.volume)[0])


@pytest.mark.parametrize("name", ["volume.nrrd", "coverage.nrrd", "bone.vtp", "views.npz", "report.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_a_damaged_result_is_one_sentence_and_leaves_the_scene_alone(headless, result_folder, name: str, damage: str):
    path = result_folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"this is no result")
    before = headless.scene.GetNumberOfNodes()
    with pytest.raises(InputError) as caught:
        ReconLogic(headless.scene).loadResult(result_folder)
    assert name in caught.value.message
    assert caught.value.remedy
    assert headless.scene.GetNumberOfNodes() == before
    assert folder_names(headless.scene) == {}


def test_files_of_two_results_are_refused(headless, result_folder):
    grid = oblique_grid().coarsened(2)
    write_nrrd(result_folder / "coverage.nrrd", np.ones(grid.shape_kji, np.float32), grid)
    with pytest.raises(InputError, match="belong together"):
        ReconLogic(headless.scene).loadResult(result_folder)


@pytest.mark.parametrize("report", ["[]", "{}", '{"bone": 3}'])
def test_a_report_that_says_nothing_is_refused(headless, result_folder, report: str):
    (result_folder / "report.json").write_text(report)
    with pytest.raises(InputError, match="report.json"):
        ReconLogic(headless.scene).loadResult(result_folder)


def test_an_error_halfway_takes_back_what_was_added(headless, result_folder, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(ResultNodesModule.XRays, "addingXrays", fail)
    before = headless.scene.GetNumberOfNodes()
    with pytest.raises(MemoryError):
        ReconLogic(headless.scene).loadResult(result_folder)
    assert headless.scene.GetNumberOfNodes() == before
    assert folder_names(headless.scene) == {}


# Saving


def test_everything_is_saved_and_read_back(headless, result_folder, tmp_path):
    ReconLogic(headless.scene).loadResult(result_folder)
    path = SceneFiles.saveScene(headless.scene, tmp_path / "balls.mrb")
    other = HeadlessScene()
    SceneFiles.loadScene(other.scene, path)
    check_content(other.scene)
    assert folder_names(other.scene) == folder_names(headless.scene)
    volume = other.scene.GetFirstNodeByName("balls volume")
    assert volume.GetDisplayNode().GetWindowLevelMin() == 0
    assert volume.GetNumberOfDisplayNodes() == 2
    opacity = volume.GetNthDisplayNode(1).GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    assert opacity.GetValue(2 * THRESHOLD_PER_MM) > 0.5
    coverage = other.scene.GetFirstNodeByName("balls coverage").GetDisplayNode()
    assert coverage.GetApplyThreshold()
    assert coverage.GetColorNode().GetName() == "balls coverage colors"
    plane = other.scene.GetFirstNodeByName("front plane").GetDisplayNode()
    assert plane.GetActiveScalarName() == "X-ray"
    assert plane.GetScalarVisibility()
    red = other.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert red.GetBackgroundVolumeID() == volume.GetID()


def test_saving_leaves_the_result_folder_alone(headless, result_folder, tmp_path):
    before = {path.name: path.read_bytes() for path in result_folder.iterdir()}
    ReconLogic(headless.scene).loadResult(result_folder)
    SceneFiles.saveScene(headless.scene, tmp_path / "balls.mrb")
    assert {path.name: path.read_bytes() for path in result_folder.iterdir()} == before


def test_the_bone_in_the_scene_is_that_of_the_folder(headless, result_folder):
    nodes = ReconLogic(headless.scene).loadResult(result_folder)
    mesh = read_vtp(result_folder / "bone.vtp")
    np.testing.assert_allclose(Nodes.meshFromModelNode(nodes.bone).points_lps_mm, mesh.points_lps_mm, atol=1e-4)
