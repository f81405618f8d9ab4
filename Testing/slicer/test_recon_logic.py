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
from small_scene import balls_per_mm, oblique_grid, write_nrrd, write_result_folder

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.host import ReconLogic as ReconLogicModule
from IntraopReconLib.host.ReconLogic import ReconLogic
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene


@pytest.fixture
def headless() -> HeadlessScene:
    return HeadlessScene()


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
    logic.poll()
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
    logic.poll()
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

    monkeypatch.setattr(ReconLogicModule, "addResult", fail)
    with pytest.raises(SparseAnatomyError, match="log file") as caught:
        ReconLogic(headless.scene, FakeWorker([_result(result_folder)])).reconstruct(_case(tmp_path), result_folder, idle=lambda: None)
    assert caught.value.kind == "internal"
    Path(caught.value.remedy.rsplit(": ", 1)[1]).unlink()
