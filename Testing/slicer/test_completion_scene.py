"""A completed shape in the scene: its nodes, how they look, what a second run and a saved scene make of them, and pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer")

import vtk
from PIL import Image
from scene_checks import folder_names
from small_completion import NEXT_SLICE, grid_of_ct, outlined_labels, probability_of, write_completion
from small_scene import write_nrrd
from vtk.util.numpy_support import vtk_to_numpy

from ShapeCompletionLib.core.planes import Plane
from ShapeCompletionLib.host import CompletionNodes as CompletionNodesModule
from ShapeCompletionLib.host.CompletionFolder import readCompletion
from ShapeCompletionLib.host.CompletionNodes import NEXT_SLICE_NAME, findCompletion, setNextSliceVisible, showCompletion, showingCompletion
from ShapeCompletionLib.host.Outlines import Outline, addOutlines, describeOutline, readOutline
from ShapeCompletionLib.host.ParameterNode import ParameterNode, Settings
from ShapeCompletionLib.host.Snapshot import _contours, pictureCompletion
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes, SceneFiles
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.Snapshot import PictureSize, offscreenProblem
from SparseAnatomyLib.mesh import read_vtp


@pytest.fixture
def source(headless) -> tuple:
    """Return a segmentation node and the id of its segment."""
    return addOutlines(headless.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "spine", "L3")


@pytest.fixture
def nodes(headless, source, tmp_path: Path):
    return showCompletion(headless.scene, readCompletion(write_completion(tmp_path / "result")), *source)


def ids(scene) -> list[str]:
    return [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]


def test_a_completed_shape_comes_into_the_scene_whole(headless, nodes, tmp_path):
    shape = readCompletion(tmp_path / "result")
    segmentation = nodes.segmentation.GetSegmentation()
    assert nodes.segmentation.GetName() == "spine completed"
    assert segmentation.GetNumberOfSegments() == 1
    assert segmentation.GetNthSegment(0).GetName() == "L3"
    labels, grid = Nodes.labelsFromSegmentationNode(nodes.segmentation, segmentation.GetNthSegmentID(0))
    np.testing.assert_array_equal(labels, shape.labels)
    np.testing.assert_allclose(grid.lps_from_ijk, shape.grid.lps_from_ijk, atol=1e-4)
    probability, grid = Nodes.arrayFromVolumeNode(nodes.probability)
    np.testing.assert_array_equal(probability, shape.probability)
    np.testing.assert_allclose(grid.lps_from_ijk, shape.grid.lps_from_ijk, atol=1e-4)
    np.testing.assert_allclose(Nodes.meshFromModelNode(nodes.model).points_lps_mm, shape.mesh.points_lps_mm, atol=1e-3)
    surface = Nodes.meshFromSegmentationNode(nodes.segmentation, segmentation.GetNthSegmentID(0))
    np.testing.assert_allclose(surface.points_lps_mm, shape.mesh.points_lps_mm, atol=1e-3)
    parents = folder_names(headless.scene)
    for node in (nodes.segmentation, nodes.model, nodes.probability, nodes.nextSlice):
        assert parents[node.GetName()] == "spine completed"


def test_the_surface_is_colored_by_its_confidence(nodes, tmp_path):
    shape, display = readCompletion(tmp_path / "result"), nodes.model.GetDisplayNode()
    np.testing.assert_array_equal(vtk_to_numpy(nodes.model.GetPolyData().GetPointData().GetArray("confidence")), shape.confidence)
    assert display.GetScalarVisibility()
    assert display.GetActiveScalarName() == "confidence"
    assert tuple(display.GetScalarRange()) == (0, 1)
    table = np.array([display.GetColorNode().GetLookupTable().GetTableValue(n)[:3] for n in range(256)])
    assert (np.diff(table @ [0.2126, 0.7152, 0.0722]) > 0).all()  # ever lighter


def test_the_next_slice_is_a_labelled_plane(nodes):
    plane = nodes.nextSlice
    assert plane.GetName() == NEXT_SLICE_NAME
    assert plane.GetDisplayNode().GetPropertiesLabelVisibility()
    np.testing.assert_allclose(Nodes.lpsFromRas(plane.GetCenterWorld()), NEXT_SLICE["center_lps_mm"], atol=1e-4)
    np.testing.assert_allclose(Nodes.lpsFromRas(plane.GetNormalWorld()), NEXT_SLICE["normal_lps"], atol=1e-6)
    np.testing.assert_allclose(plane.GetSizeWorld(), [45, 45], atol=1e-4)
    assert plane.GetDisplayVisibility()
    assert plane.GetLocked()


def test_a_second_run_updates_the_nodes_in_place(headless, source, nodes, tmp_path):
    nodes.model.GetDisplayNode().SetOpacity(0.4)
    setNextSliceVisible(nodes, False)
    before = ids(headless.scene)
    moved = {**NEXT_SLICE, "center_lps_mm": [20.0, -30.0, 50.0], "normal_lps": [0.0, 0.0, 2.0], "extent_mm": 30.0}
    shape = readCompletion(write_completion(tmp_path / "second", 2.0, next_slice=moved))
    again = showCompletion(headless.scene, shape, *source)
    assert ids(headless.scene) == before
    assert again.segmentation is nodes.segmentation
    labels, _ = Nodes.labelsFromSegmentationNode(again.segmentation, again.segmentation.GetSegmentation().GetNthSegmentID(0))
    np.testing.assert_array_equal(labels, shape.labels)
    np.testing.assert_allclose(Nodes.meshFromModelNode(nodes.model).points_lps_mm, shape.mesh.points_lps_mm, atol=1e-3)
    assert nodes.model.GetDisplayNode().GetOpacity() == 0.4
    np.testing.assert_allclose(Nodes.lpsFromRas(nodes.nextSlice.GetCenterWorld()), [20, -30, 50], atol=1e-4)
    np.testing.assert_allclose(np.abs(nodes.nextSlice.GetNormalWorld()), [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(nodes.nextSlice.GetSizeWorld(), [30, 30], atol=1e-4)
    assert not nodes.nextSlice.GetDisplayVisibility()  # as the user has left it


def test_without_a_next_slice_the_plane_is_hidden_and_comes_back(headless, source, nodes, tmp_path):
    none = readCompletion(write_completion(tmp_path / "none", next_slice=None))
    finished = showCompletion(headless.scene, none, *source)
    setNextSliceVisible(finished, True)
    assert not finished.nextSlice.GetDisplayVisibility()
    again = showCompletion(headless.scene, nodes.shape, *source)
    assert again.nextSlice is finished.nextSlice
    assert again.nextSlice.GetDisplayVisibility()


def test_nodes_that_the_user_has_deleted_are_made_anew(headless, source, nodes):
    for node in (nodes.model, nodes.probability, nodes.nextSlice):
        headless.scene.RemoveNode(node)
    again = showCompletion(headless.scene, nodes.shape, *source)
    assert again.segmentation is nodes.segmentation
    assert again.model.GetPolyData().GetNumberOfPoints() == len(nodes.shape.mesh.points_lps_mm)
    assert again.nextSlice.GetDisplayVisibility()


def test_two_segments_have_results_of_their_own(headless, source, nodes):
    other = source[0].AddSegmentFromBinaryLabelmapRepresentation(Nodes.labelmapFromArray(outlined_labels(grid_of_ct()), grid_of_ct()), "L4")
    second = showCompletion(headless.scene, nodes.shape, source[0], other)
    assert second.segmentation is not nodes.segmentation
    assert findCompletion(headless.scene, *source) is nodes.segmentation
    assert findCompletion(headless.scene, source[0], other) is second.segmentation
    assert second.model.GetName() == "spine L4 completed surface"


def test_an_update_comes_where_the_outlines_are_whatever_transforms_the_old_result(headless, source, nodes):
    transform = headless.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(shift)
    before, after = np.zeros(6), np.zeros(6)
    nodes.model.GetRASBounds(before)
    for node in (nodes.segmentation, nodes.model, nodes.probability, nodes.nextSlice):
        node.SetAndObserveTransformNodeID(transform.GetID())
    again = showCompletion(headless.scene, nodes.shape, *source)
    again.model.GetRASBounds(after)
    np.testing.assert_allclose(after, before)
    np.testing.assert_allclose(Nodes.lpsFromRas(again.nextSlice.GetCenterWorld()), NEXT_SLICE["center_lps_mm"], atol=1e-4)


def test_an_update_cannot_be_cancelled_halfway(headless, source, nodes):
    fewer = replace(nodes.shape, probability=nodes.shape.probability / 2, report={**nodes.shape.report, "agreement": 0.5})
    adding = showingCompletion(headless.scene, fewer, *source)
    next(adding)
    adding.close()
    assert Nodes.arrayFromVolumeNode(nodes.probability)[0].max() > 0.5
    adding = showingCompletion(headless.scene, fewer, *source)
    next(adding)
    with pytest.raises(StopIteration):
        next(adding)
    assert Nodes.arrayFromVolumeNode(nodes.probability)[0].max() <= 0.5


def test_a_saved_scene_knows_its_results(headless, source, nodes, tmp_path):
    other = HeadlessScene()
    SceneFiles.loadScene(other.scene, SceneFiles.saveScene(headless.scene, tmp_path / "saved.mrb"))
    loaded = other.scene.GetFirstNodeByName("spine")
    count = other.scene.GetNumberOfNodes()
    again = showCompletion(other.scene, nodes.shape, loaded, source[1])
    assert other.scene.GetNumberOfNodes() == count
    assert again.segmentation.GetName() == "spine completed"
    display = again.model.GetDisplayNode()
    assert display.GetColorNode().GetNumberOfColors() == 256
    np.testing.assert_allclose(Nodes.lpsFromRas(again.nextSlice.GetCenterWorld()), NEXT_SLICE["center_lps_mm"], atol=1e-4)


def test_an_error_of_our_own_leaves_the_scene_alone(headless, source, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    shape, before = readCompletion(write_completion(tmp_path / "result")), ids(headless.scene)
    monkeypatch.setattr(CompletionNodesModule, "_showNextSlice", fail)
    with pytest.raises(ZeroDivisionError):
        showCompletion(headless.scene, shape, *source)
    left = set(ids(headless.scene)) - set(before)
    assert all("SubjectHierarchy" in name for name in left)
    assert findCompletion(headless.scene, *source) is None


# The result folder


@pytest.mark.parametrize("name", ["shape.nrrd", "probability.nrrd", "shape.vtp", "report.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_a_damaged_folder_is_one_sentence(tmp_path, name: str, damage: str):
    path = write_completion(tmp_path / "result") / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"this is no result")
    with pytest.raises(InputError) as caught:
        readCompletion(tmp_path / "result")
    assert name in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"agreement": "much"},
        {"warnings": None},
        {"seconds": [1]},
        {"next_slice": {}},
        {"next_slice": {**NEXT_SLICE, "normal_lps": [0, 0, 0]}},
        {"next_slice": {**NEXT_SLICE, "extent_mm": -3}},
        {"next_slice": {**NEXT_SLICE, "center_lps_mm": [0, 0]}},
    ],
)
def test_a_report_that_says_nonsense_is_one_sentence(tmp_path, changes: dict):
    with pytest.raises(InputError, match=r"report\.json is incomplete or damaged"):
        readCompletion(write_completion(tmp_path / "result", **changes))


@pytest.mark.parametrize("report", ["[]", "{}", "3"])
def test_a_report_of_another_kind_is_one_sentence(tmp_path, report: str):
    (write_completion(tmp_path / "result") / "report.json").write_text(report)
    with pytest.raises(InputError, match=r"report\.json"):
        readCompletion(tmp_path / "result")


def test_files_of_two_results_are_refused(tmp_path):
    folder = write_completion(tmp_path / "result")
    grid = VoxelGrid.box([0, 0, 0], [36.0, 38.0, 52.0], 1.0)
    write_nrrd(folder / "shape.nrrd", np.ones(grid.shape_kji, np.uint8), grid)
    with pytest.raises(InputError, match="belong together"):
        readCompletion(folder)


def test_a_surface_without_confidence_is_refused(tmp_path):
    from SparseAnatomyLib.mesh import write_vtp

    folder = write_completion(tmp_path / "result")
    write_vtp(read_vtp(folder / "shape.vtp"), folder / "shape.vtp")
    with pytest.raises(InputError, match="how sure"):
        readCompletion(folder)


def test_what_the_report_says_is_kept(tmp_path):
    shape = readCompletion(write_completion(tmp_path / "result", prior=None, evidence=None, method="interpolate"))
    assert (shape.method, shape.prior, shape.evidence, shape.agreement) == ("interpolate", None, None, 0.93)
    assert shape.warnings == ["The outline touches the edge of the volume."]
    assert json.dumps(shape.seconds) == '{"context": 0.01, "step": 0.05}'
    assert shape.nextSlice.gain == 210
    with pytest.raises(InputError, match="no result folder"):
        readCompletion(tmp_path / "nowhere")


# What is outlined


def _drawn(planes: list[Plane], tilt_deg: float = 0.0) -> Outline:
    grid = grid_of_ct(tilt_deg)
    whole, labels = (probability_of(grid_of_ct()) > 0.5).astype(np.uint8), np.zeros(grid.shape_kji, np.uint8)
    for plane in planes:
        section = [slice(None)] * 3
        section[plane.axis] = plane.index
        labels[tuple(section)] = whole[tuple(section)]
    return Outline(labels, grid)


@pytest.mark.parametrize(
    ("planes", "tilt_deg", "sentence"),
    [
        ([Plane(0, k) for k in (6, 10, 14, 18, 22)], 0, "5 axial slices, 8 mm apart"),
        ([Plane(0, k) for k in (6, 10, 16)], 0, "3 axial slices, 8 to 12 mm apart"),
        ([Plane(1, j) for j in (12, 16, 20)], 0, "3 coronal slices, 4.8 mm apart"),
        ([Plane(2, 18)], 0, "1 sagittal slice"),
        ([Plane(0, k) for k in (8, 14, 20)], 40, "3 oblique slices, 12 mm apart"),
        ([Plane(0, 14), Plane(1, 17), Plane(2, 18)], 0, "1 axial slice; 1 coronal slice; 1 sagittal slice"),
        ([], 0, "No slice that is large enough to count"),
    ],
)
def test_found_slices_are_told_in_words(planes: list[Plane], tilt_deg: float, sentence: str):
    assert describeOutline(_drawn(planes, tilt_deg)) == sentence


def test_an_outline_reads_back_as_it_was_added(headless, source):
    outline = readOutline(*source)
    np.testing.assert_array_equal(outline.labels, outlined_labels(grid_of_ct()))
    np.testing.assert_allclose(outline.grid.lps_from_ijk, grid_of_ct().lps_from_ijk, atol=1e-4)
    assert outline.digest == readOutline(*source).digest
    other = Outline(np.roll(outline.labels, 1, 0), outline.grid)
    assert other.digest != outline.digest


def test_contours_lie_on_their_plane_around_the_structure():
    outline = _drawn([Plane(1, 17)], 25)
    lines = _contours(outline.labels.take(17, 1), Plane(1, 17), outline.grid)
    points = vtk_to_numpy(lines.GetPoints().GetData())
    ijk = (points - outline.grid.origin_lps_mm) @ outline.grid.direction / outline.grid.spacing_mm
    np.testing.assert_allclose(ijk[:, 1], 17, atol=1e-4)
    inside = np.argwhere(outline.labels)[:, ::-1]
    np.testing.assert_allclose(ijk.min(0)[[0, 2]], inside.min(0)[[0, 2]] - 0.5, atol=1e-4)
    np.testing.assert_allclose(ijk.max(0)[[0, 2]], inside.max(0)[[0, 2]] + 0.5, atol=1e-4)


# Settings


def test_settings_are_saved_with_the_scene(headless, source, tmp_path):
    parameters = ParameterNode(headless.scene)
    assert parameters.settings == Settings()
    parameters.segmentationNode = source[0]
    parameters.update(segmentId=source[1], method="interpolate", live=True)
    other = HeadlessScene()
    SceneFiles.loadScene(other.scene, SceneFiles.saveScene(headless.scene, tmp_path / "settings.mrb"))
    read = ParameterNode(other.scene)
    assert read.segmentationNode.GetName() == "spine"
    assert read.settings == Settings(segmentId=source[1], method="interpolate", live=True)
    assert read.config().method == "interpolate"


@pytest.mark.parametrize("change", [{"method": "best"}, {"live": "yes"}, {"prior": 3}])
def test_settings_that_will_not_do_are_refused(headless, change: dict):
    with pytest.raises(ValueError, match=next(iter(change))):
        ParameterNode(headless.scene).update(**change)


# Pictures

needs_opengl = pytest.mark.skipif(bool(offscreenProblem()), reason=offscreenProblem() or "can draw")
TITLES = ["Outlined slices", "Completed shape", "Next slice", "Axial slice", "Coronal slice", "Sagittal slice"]


@needs_opengl
def test_pictures_show_outlines_confidence_and_the_next_slice(headless, source, nodes, tmp_path):
    setNextSliceVisible(nodes, False)
    before = ids(headless.scene)
    paths = pictureCompletion(headless, nodes, tmp_path / "pictures", PictureSize((400, 300), 200))
    assert list(paths) == TITLES
    pictures = {title: np.asarray(Image.open(path).convert("RGB"), float) for title, path in paths.items()}
    warm = {title: (picture[..., 0] - picture[..., 2] > 15).mean() for title, picture in pictures.items()}
    assert warm["Outlined slices"] < 0.002  # nothing but outlines, in blue
    assert ((pictures["Outlined slices"][..., 2] - pictures["Outlined slices"][..., 0]) > 60).mean() > 0.02
    assert warm["Completed shape"] > 0.12
    is_warm = pictures["Completed shape"][..., 0] - pictures["Completed shape"][..., 2] > 15
    columns = np.flatnonzero(is_warm[:, :345].sum(0) > 3)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(0.43 * 400, abs=8)  # in the middle of what the legend leaves free
    purple = pictures["Completed shape"][:, 330:]
    assert ((purple[..., 2] - purple[..., 1] > 30) & (purple[..., 0] - purple[..., 1] > 30)).sum() > 20  # the legend's unsure end
    assert np.abs(pictures["Next slice"] - pictures["Completed shape"]).mean() > 5
    assert ids(headless.scene) == before
    assert not nodes.nextSlice.GetDisplayVisibility()
    assert nodes.model.GetDisplayVisibility()
    assert nodes.model.GetNumberOfDisplayNodes() == 2  # the surface and its legend
