"""Reconstructions through the worker: previews, results, and failures that cost nothing that was in the scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

from fake_worker import FakeWorker
from scene_checks import check_content
from small_scene import THRESHOLD_PER_MM, balls_per_mm, oblique_grid, write_nrrd, write_result_folder

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.scene_files import write_scene_files
from IntraopReconLib.host import ReconLogic as ReconLogicModule
from IntraopReconLib.host.ReconLogic import ReconLogic
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host import WorkerLogic as WorkerLogicModule
from SparseAnatomyLib.mesh import read_vtp


@pytest.fixture
def result_folder(tmp_path: Path) -> Path:
    return write_result_folder(tmp_path / "balls")


def _preview(folder: Path, factor: float = 1.0, coarse: int = 2) -> dict[str, Any]:
    grid = oblique_grid().coarsened(coarse)
    path = folder / f"preview_{coarse}.nrrd"
    write_nrrd(path, (factor * balls_per_mm(grid)).astype(np.float32), grid)
    return {"event": "preview", "path": str(path)}


def _result(folder: Path) -> dict[str, Any]:
    return {"event": "result", "paths": {"volume": str(folder / "volume.nrrd")}}


def _case(tmp_path: Path) -> Path:
    folder = tmp_path / "patient"
    folder.mkdir()
    return folder


def load(logic: ReconLogic) -> None:
    """Poll until the result that has come is in the scene."""
    logic.poll()
    while logic.isLoading:
        logic.poll()


def test_previews_update_one_node_that_becomes_the_result(headless, result_folder, tmp_path):
    worker = FakeWorker(
        [
            {"event": "started"},
            {"event": "progress", "fraction": 0.3, "message": "Coarse"},
            _preview(tmp_path, coarse=3),
            _preview(tmp_path, coarse=2),
            {"event": "warning", "message": "Few views."},
            _result(result_folder),
        ]
    )
    logic = ReconLogic(headless.scene, worker)
    seen: list[Any] = []
    logic.progressed.connect(lambda *values: seen.append(values))
    logic.warned.connect(seen.append)
    logic.finished.connect(seen.append)
    logic.start(_case(tmp_path), result_folder, ReconstructionConfig(quality="best"))
    for _ in range(3):
        logic.poll()
    preview = headless.scene.GetFirstNodeByName("patient preview")
    assert Nodes.arrayFromVolumeNode(preview)[0].shape == oblique_grid().coarsened(3).shape_kji
    logic.poll()
    assert Nodes.arrayFromVolumeNode(preview)[0].shape == oblique_grid().coarsened(2).shape_kji
    assert logic.isRunning
    logic.poll()
    load(logic)
    assert not logic.isRunning
    assert seen[:2] == [(0.3, "Coarse"), "Few views."]
    assert seen[2].volume is preview
    assert preview.GetName() == "patient volume"
    np.testing.assert_array_equal(Nodes.arrayFromVolumeNode(preview)[0], balls_per_mm(oblique_grid()))
    assert preview.GetNumberOfDisplayNodes() == 2
    kind, payload = worker.requests[0]
    assert kind == "reconstruct"
    assert Path(payload["case"]).name == "patient"
    assert payload["config"] == ReconstructionConfig(quality="best").to_json()
    json.dumps(payload)


def test_reconstruct_waits_and_returns_the_nodes(headless, result_folder, tmp_path):
    waited: list[int] = []
    logic = ReconLogic(headless.scene, FakeWorker([{"event": "started"}, _preview(tmp_path), _result(result_folder)]))
    nodes = logic.reconstruct(_case(tmp_path), result_folder, idle=lambda: waited.append(1))
    assert nodes.volume.GetName() == "patient volume"
    assert waited


@pytest.mark.parametrize(("kind", "error"), [("input", InputError), ("resource", ResourceError), ("internal", SparseAnatomyError)])
def test_a_failure_is_a_message_and_costs_nothing(headless, result_folder, tmp_path, kind: str, error: type):
    worker = FakeWorker([_preview(tmp_path), {"event": "failure", "kind": kind, "message": "View 3 is black.", "remedy": "Remove it."}])
    logic = ReconLogic(headless.scene, worker)
    earlier = logic.loadResult(result_folder)
    with pytest.raises(error) as caught:
        logic.reconstruct(_case(tmp_path), tmp_path / "out", idle=lambda: None)
    assert (caught.value.message, caught.value.remedy) == ("View 3 is black.", "Remove it.")
    assert headless.scene.IsNodePresent(earlier.volume)
    assert headless.scene.GetFirstNodeByName("patient preview") is not None
    check_content(headless.scene)
    assert not logic.isRunning


def test_cancel_ends_the_run_and_another_can_start(headless, result_folder, tmp_path):
    worker = FakeWorker([{"event": "started"}])
    logic = ReconLogic(headless.scene, worker)
    failed: list[SparseAnatomyError] = []
    logic.failed.connect(failed.append)
    case = _case(tmp_path)
    logic.start(case, result_folder)
    logic.poll()
    with pytest.raises(InputError, match="already running"):
        logic.start(case, result_folder)
    logic.cancel()
    logic.poll()
    assert worker.cancelled == ["id1"]
    assert isinstance(failed[0], Cancelled)
    worker.events = [_result(result_folder)]
    assert logic.reconstruct(case, result_folder, idle=lambda: None).grade == "good"


def test_an_interrupted_wait_cancels_the_run(headless, result_folder, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    worker = FakeWorker([])
    logic = ReconLogic(headless.scene, worker)
    with pytest.raises(KeyboardInterrupt):
        logic.reconstruct(_case(tmp_path), result_folder, idle=interrupt)
    assert worker.cancelled == ["id1"]


def test_a_result_that_cannot_be_read_is_a_failure(headless, result_folder, tmp_path):
    (result_folder / "bone.vtp").unlink()
    with pytest.raises(InputError, match=r"bone\.vtp"):
        ReconLogic(headless.scene, FakeWorker([_result(result_folder)])).reconstruct(_case(tmp_path), result_folder, idle=lambda: None)


def test_a_preview_that_is_gone_or_half_written_does_no_harm(headless, result_folder, tmp_path):
    gone = {"event": "preview", "path": str(tmp_path / "gone.nrrd")}
    (tmp_path / "half.nrrd").write_bytes((result_folder / "volume.nrrd").read_bytes()[:300])
    half = {"event": "preview", "path": str(tmp_path / "half.nrrd")}
    logic = ReconLogic(headless.scene, FakeWorker([gone, half, _result(result_folder)]))
    assert logic.reconstruct(_case(tmp_path), result_folder, idle=lambda: None).grade == "good"


def test_a_preview_node_that_the_user_deletes_is_made_anew(headless, result_folder, tmp_path):
    logic = ReconLogic(headless.scene, FakeWorker([_preview(tmp_path, coarse=3), _preview(tmp_path), _result(result_folder)]))
    logic.start(_case(tmp_path), result_folder)
    logic.poll()
    headless.scene.RemoveNode(headless.scene.GetFirstNodeByName("patient preview"))
    logic.poll()
    assert headless.scene.GetFirstNodeByName("patient preview") is not None
    headless.scene.Clear(False)
    load(logic)
    assert headless.scene.GetFirstNodeByName("patient volume") is not None


def test_events_of_another_request_are_not_ours(headless, tmp_path):
    worker = FakeWorker([{"event": "failure", "id": "old", "kind": "input", "message": "No.", "remedy": ""}])
    logic = ReconLogic(headless.scene, worker)
    logic.start(_case(tmp_path), tmp_path / "out")
    logic.poll()
    assert logic.isRunning
    logic.close()
    assert worker.stopped
    assert not logic.isRunning


def test_a_missing_case_is_refused_before_anything_starts(headless, tmp_path):
    worker = FakeWorker([])
    with pytest.raises(InputError, match="no case folder"):
        ReconLogic(headless.scene, worker).start(tmp_path / "nowhere", tmp_path / "out")
    assert worker.requests == []


def test_an_error_of_our_own_is_a_message_too(headless, result_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(ReconLogicModule, "addingResult", fail)
    with pytest.raises(SparseAnatomyError, match="log file") as caught:
        ReconLogic(headless.scene, FakeWorker([_result(result_folder)])).reconstruct(_case(tmp_path), result_folder, idle=lambda: None)
    assert caught.value.kind == "internal"
    Path(caught.value.remedy.rsplit(": ", 1)[1]).unlink()


# Step by step


def _loading(headless, result_folder, tmp_path) -> tuple[ReconLogic, list[Any]]:
    """Return a logic that has taken the first step of bringing a result in, and what its signals tell."""
    logic, told = ReconLogic(headless.scene, FakeWorker([_result(result_folder)])), []
    logic.finished.connect(told.append)
    logic.failed.connect(told.append)
    logic.start(_case(tmp_path), result_folder)
    logic.poll()
    assert logic.isLoading
    assert logic.isRunning
    return logic, told


@pytest.fixture
def small_steps(monkeypatch):
    """Let each poll take one step."""
    monkeypatch.setattr(WorkerLogicModule, "STEPS_S", 1e-9)


@pytest.mark.usefixtures("small_steps")
def test_a_result_comes_in_step_by_step_and_is_the_same(headless, result_folder, tmp_path):
    logic, told = _loading(headless, result_folder, tmp_path)
    polls = 1
    while logic.isLoading:
        logic.poll()
        polls += 1
    assert polls > 8  # volume, coverage, surface, segment, and each X-ray on its own
    headless.scene.GetFirstNodeByName("patient volume").SetName("balls volume")
    for part in ("coverage", "bone", "segmentation", "region"):
        headless.scene.GetFirstNodeByName(f"patient {part}").SetName(f"balls {part}")
    check_content(headless.scene)
    assert [type(item).__name__ for item in told] == ["ResultNodes"]


def test_the_end_is_told_in_a_poll_of_its_own_however_fast_the_steps_are(headless, result_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(WorkerLogicModule, "STEPS_S", 60.0)
    logic, told = _loading(headless, result_folder, tmp_path)
    assert not told  # all steps but the last fit into the first poll
    logic.poll()
    assert [type(item).__name__ for item in told] == ["ResultNodes"]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("steps", range(0, 7, 2))
def test_cancel_while_it_comes_in_takes_all_of_it_back(headless, result_folder, tmp_path, steps: int):
    before = {headless.scene.GetNthNode(n) for n in range(headless.scene.GetNumberOfNodes())}
    logic, told = _loading(headless, result_folder, tmp_path)
    for _ in range(steps):
        logic.poll()
    headless.scene.AddNewNodeByClass("vtkMRMLModelNode", "of the user")
    logic.cancel()
    assert [type(error) for error in told] == [Cancelled]
    assert not logic.isRunning
    after = {headless.scene.GetNthNode(n) for n in range(headless.scene.GetNumberOfNodes())} - before
    assert [node.GetName() for node in after if not node.IsA("vtkMRMLSubjectHierarchyNode")] == ["of the user"]


@pytest.mark.usefixtures("small_steps")
def test_a_scene_that_is_closed_while_it_comes_in_stays_empty(headless, result_folder, tmp_path):
    logic, told = _loading(headless, result_folder, tmp_path)
    for _ in range(5):
        logic.poll()
    headless.scene.Clear(False)
    load(logic)
    assert [type(error) for error in told] == [Cancelled]
    assert not any("patient" in (headless.scene.GetNthNode(n).GetName() or "") for n in range(headless.scene.GetNumberOfNodes()))


def test_a_worker_that_does_not_listen_to_a_cancel_is_not_waited_for(headless, result_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(WorkerLogicModule, "CANCEL_S", 0.0)
    worker = FakeWorker([])
    worker.cancel = worker.cancelled.append
    logic, failed = ReconLogic(headless.scene, worker), []
    logic.failed.connect(failed.append)
    logic.start(_case(tmp_path), result_folder)
    logic.cancel()
    worker.events = [{"event": "progress", "fraction": 0.5, "message": "Still at it"}, _preview(tmp_path), _result(result_folder)]
    for _ in range(5):
        logic.poll()
    assert [type(error) for error in failed] == [Cancelled]
    assert not logic.isRunning
    assert headless.scene.GetFirstNodeByName("patient preview") is None


def test_previews_that_come_together_are_shown_once(headless, result_folder, tmp_path, monkeypatch):
    shown: list[Path] = []
    monkeypatch.setattr(ReconLogic, "_bringPreview", lambda self, path: shown.append(path))
    worker = FakeWorker([])
    logic = ReconLogic(headless.scene, worker)
    logic.start(_case(tmp_path), result_folder)
    previews = [_preview(tmp_path, coarse=coarse) for coarse in (4, 3, 2)]
    worker.poll = lambda: [worker._deliver({"id": "id1", **event}) for event in previews]
    logic.poll()
    assert shown == [Path(previews[-1]["path"])]


def test_the_folder_of_the_job_is_removed(headless, result_folder, tmp_path):
    worker = FakeWorker([])
    logic = ReconLogic(headless.scene, worker)
    logic.start(_case(tmp_path), result_folder)
    scene = Path(worker.requests[0][1]["scene"])
    assert scene.is_dir()
    logic.cancel()
    logic.poll()
    assert not scene.exists()


# What the worker lays ready


def test_what_the_worker_lays_ready_is_what_the_folder_holds(headless, result_folder, tmp_path):
    paths = {role: str(path) for role, path in write_scene_files(result_folder, tmp_path / "scene").items()}
    logic = ReconLogic(headless.scene, FakeWorker([{"event": "result", "paths": {"volume": str(result_folder / "volume.nrrd"), **paths}}]))
    prepared = logic.reconstruct(_case(tmp_path), result_folder, idle=lambda: None)
    loaded = logic.loadResult(result_folder)
    for role in ("volume", "coverage"):
        first, second = (Nodes.arrayFromVolumeNode(getattr(nodes, role)) for nodes in (prepared, loaded))
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_allclose(first[1].lps_from_ijk, second[1].lps_from_ijk)
    first, second = (
        Nodes.labelsFromSegmentationNode(n.segmentation, n.segmentation.GetSegmentation().GetNthSegmentID(0))[0] for n in (prepared, loaded)
    )
    np.testing.assert_array_equal(first, second)
    first, second = (Nodes.meshFromModelNode(nodes.bone) for nodes in (prepared, loaded))
    np.testing.assert_array_equal(first.points_lps_mm, second.points_lps_mm)
    np.testing.assert_array_equal(first.triangles, second.triangles)
    assert prepared.grade == loaded.grade
    assert prepared.thresholdPerMm == loaded.thresholdPerMm == THRESHOLD_PER_MM
    assert prepared.resultFolder == str(result_folder)
    assert prepared.volume.GetDisplayNode().GetWindowLevelMax() == pytest.approx(loaded.volume.GetDisplayNode().GetWindowLevelMax())


@pytest.mark.parametrize("name", ["volume.npy", "coverage.npy", "labels.npy", "surface.npz", "scene.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_damage_of_what_was_laid_ready_is_one_sentence(headless, result_folder, tmp_path, name: str, damage: str):
    paths = {role: str(path) for role, path in write_scene_files(result_folder, tmp_path / "scene").items()}
    path = tmp_path / "scene" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"this is no result")
    before = headless.scene.GetNumberOfNodes()
    logic = ReconLogic(headless.scene, FakeWorker([{"event": "result", "paths": {"volume": str(result_folder / "volume.nrrd"), **paths}}]))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        logic.reconstruct(_case(tmp_path), result_folder, idle=lambda: None)
    assert headless.scene.GetNumberOfNodes() == before


def test_a_preview_has_a_surface_in_3d_that_the_result_replaces(headless, result_folder, tmp_path):
    logic, told = ReconLogic(headless.scene, FakeWorker([_preview(tmp_path, coarse=3), _preview(tmp_path)])), []
    logic.previewed.connect(told.append)
    logic.start(_case(tmp_path), result_folder)
    logic.poll()
    model = headless.scene.GetFirstNodeByName("patient preview bone")
    first = Nodes.meshFromModelNode(model)
    logic.poll()
    assert told == [True, False]
    assert headless.scene.GetFirstNodeByName("patient preview bone") is model
    second = Nodes.meshFromModelNode(model)
    assert len(second.points_lps_mm) > len(first.points_lps_mm)
    fine = read_vtp(result_folder / "bone.vtp")
    for bound in (np.min, np.max):
        np.testing.assert_allclose(bound(second.points_lps_mm, 0), bound(fine.points_lps_mm, 0), atol=5)  # a coarse voxel
    logic._worker.events = [_result(result_folder)]
    load(logic)
    assert headless.scene.GetFirstNodeByName("patient preview bone") is None
    assert headless.scene.GetFirstNodeByName("patient bone") is not None
