"""X-rays before a reconstruction, through the worker: what is told, in which order, and what is left in the scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

from fake_worker import FakeWorker
from small_scene import views

from IntraopReconLib.host.BeadMarks import BeadEdits, beadMarks, legendText, magnification
from IntraopReconLib.host.CaseFrames import showFrames
from IntraopReconLib.host.PreparationLogic import CALIBRATE, DESCRIBE, IMPORT, PreparationLogic
from IntraopReconLib.host.PreparedCase import XrayCard, readPrepared
from SparseAnatomyLib.errors import InputError, SparseAnatomyError
from SparseAnatomyLib.host import Nodes

FAILURE = {"event": "failure", "kind": "input", "message": "No X-ray could be calibrated.", "remedy": "Look at the beads."}
BEADS = [
    {"center_px": [10, 20], "radius_px": 2.0, "size": "small", "origin": "detected", "number": 3, "residual_px": [0.1, -0.2]},
    {"center_px": [30, 5], "radius_px": 2.5, "size": "large", "origin": "detected", "number": None, "residual_px": None},
    {"center_px": [7, 7], "radius_px": 2.0, "size": "small", "origin": "expected", "number": 1, "residual_px": None},
]


def described(folder: Path, beads: list[dict] | None = None) -> dict[str, Any]:
    """Write what the worker describes of a case of one X-ray, and return its result."""
    folder.mkdir(parents=True)
    view = {
        "name": "xrays/a.dcm", "key": "a", "thumbnail": "s.png", "picture": "l.png", "size_px": [48, 40], "angles_deg": [30.0, -5.0],
        "grade": "green", "reprojection_rms_px": 0.2, "has_pose": True, "is_calibrated": True, "placed_by_hand": False,
        "beads": BEADS if beads is None else beads, "problems": [],
    }  # fmt: skip
    (folder / "xrays.json").write_text(json.dumps({"case": "knee", "notes": ["A note."], "views": [view]}))
    geometry = views()[0]
    columns, rows = geometry.size_px
    arrays = {"name": np.array(["xrays/a.dcm"]), "attenuation_000": np.zeros((rows, columns), np.float16)}
    arrays["mask_000"] = np.ones((rows, columns), bool)
    for attribute in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px"):
        arrays[attribute] = np.array([getattr(geometry, attribute)])
    np.savez(folder / "frames.npz", **arrays)
    paths = {"case": str(folder.parent / "knee"), "description": str(folder / "xrays.json"), "frames": str(folder / "frames.npz")}
    return {"event": "result", "paths": paths}


def run(logic: PreparationLogic, polls: int = 12) -> list[tuple[str, Any]]:
    """Poll and return what was told, in order."""
    told: list[tuple[str, Any]] = []
    logic.finished.connect(lambda prepared: told.append(("finished", prepared)))
    logic.failed.connect(lambda error: told.append(("failed", error)))
    for _ in range(polls):
        logic.poll()
    return told


def models(scene) -> list[str]:
    """Return the models that are not hidden from the user's lists."""
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLModelNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLModelNode"))]
    return [node.GetName() for node in nodes if not node.GetHideFromEditors()]


def test_a_case_is_described_and_stands_in_the_scene_hidden(headless, tmp_path):
    worker = FakeWorker([described(tmp_path / "out")])
    logic = PreparationLogic(headless.scene, tmp_path / "cases", worker)
    logic.describe(["somewhere"])
    assert logic.job == DESCRIBE
    with pytest.raises(InputError, match="already"):
        logic.describe(["elsewhere"])
    listed = []
    headless.scene.AddObserver(headless.scene.NodeAddedEvent, lambda *_: listed.extend(models(headless.scene)))
    [(what, prepared)] = run(logic)
    assert (what, prepared.what, logic.job) == ("finished", DESCRIBE, "")
    assert worker.requests[0][1]["cases"] == str(tmp_path / "cases")
    [view] = prepared.case.views
    assert (view.sizePx, view.anglesDeg, view.rmsPx, prepared.case.notes) == ((48, 40), (30.0, -5.0), 0.2, ("A note.",))
    node = prepared.frames.planes["xrays/a.dcm"]
    assert not node.GetSaveWithScene()
    assert not node.GetDisplayVisibility()
    assert listed == []  # Slicer's lists of data look when a node is added
    showFrames(headless.scene, prepared.frames, {"xrays/a.dcm"}, "xrays/a.dcm")
    assert node.GetDisplayVisibility()
    logic.close()
    assert worker.stopped


def test_after_a_calibration_the_case_is_described_again(headless, tmp_path):
    worker = FakeWorker([{"event": "result", "paths": {"poses": "p"}}, described(tmp_path / "out")])
    logic = PreparationLogic(headless.scene, tmp_path, worker)
    jig = Nodes.pointsNodeFromArray(headless.scene, np.array([[1.0, 2, 3], [4, 5, 6]]), ["a", "b large"], "jig")
    logic.calibrate("knee", {"a": None}, jig)
    [(what, prepared)] = run(logic)
    assert (what, prepared.what, prepared.isDone) == ("finished", CALIBRATE, True)
    assert [kind for kind, _ in worker.requests] == [CALIBRATE, DESCRIBE]
    assert worker.requests[0][1]["jig"] == [[1.0, 2.0, 3.0, "a"], [4.0, 5.0, 6.0, "b large"]]
    assert worker.requests[1][1]["sources"] == ["knee"]


@pytest.mark.parametrize("job", [CALIBRATE, IMPORT])
def test_a_failure_comes_after_what_it_has_found(headless, tmp_path, job):
    logic = PreparationLogic(headless.scene, tmp_path, FakeWorker([FAILURE, described(tmp_path / "out")]))
    if job == CALIBRATE:
        logic.calibrate("knee", {})
    else:
        logic.importPoses("knee", ["poses.txt"], unit="cm")
    (first, prepared), (second, error) = run(logic)
    assert (first, prepared.what, prepared.isDone, second) == ("finished", job, False, "failed")
    assert isinstance(error, SparseAnatomyError)
    assert error.remedy == "Look at the beads."


def test_a_cancel_is_told_at_once_and_nothing_is_described(headless, tmp_path):
    worker = FakeWorker([])
    logic = PreparationLogic(headless.scene, tmp_path, worker)
    logic.calibrate("knee", {})
    logic.cancel()
    [(what, error)] = run(logic)
    assert (what, error.kind) == ("failed", "cancelled")
    assert len(worker.requests) == 1


def test_another_case_takes_the_place_of_the_first_in_the_scene(headless, tmp_path):
    worker = FakeWorker([described(tmp_path / "one")])
    logic = PreparationLogic(headless.scene, tmp_path, worker)
    logic.describe(["one"])
    run(logic)
    before = headless.scene.GetNumberOfNodesByClass("vtkMRMLModelNode")
    worker.events.append(described(tmp_path / "two"))
    logic.describe(["two"])
    run(logic)
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == before


def test_damaged_descriptions_are_sentences(headless, tmp_path):
    (tmp_path / "xrays.json").write_text('{"views": [{}], "notes": []}')
    with pytest.raises(InputError, match="damaged"):
        readPrepared(tmp_path, tmp_path / "xrays.json")
    paths = {"case": "knee", "description": str(tmp_path / "xrays.json"), "frames": "none"}
    logic = PreparationLogic(headless.scene, tmp_path, FakeWorker([{"event": "result", "paths": paths}]))
    logic.describe(["knee"])
    [(what, error)] = run(logic)
    assert (what, error.kind) == ("failed", "input")


def card(tmp_path: Path, **changes: Any) -> XrayCard:
    prepared = readPrepared(tmp_path, Path(described(tmp_path / f"card{len(list(tmp_path.iterdir()))}")["paths"]["description"]))
    return XrayCard(**{**vars(prepared.views[0]), **changes})


def test_marks_and_edits_of_beads(tmp_path):
    view = card(tmp_path)
    edits = BeadEdits("")
    marks, editable = beadMarks(view, edits)
    assert (len(marks), editable) == (3, 2)
    assert (marks[0].text, marks[2].isDotted) == ("3", True)
    assert marks[0].arrow == pytest.approx((magnification(view) * 0.1, magnification(view) * -0.2))
    assert str(magnification(view)) in legendText(view)
    placed = edits.placed(view)
    placed[0][0] = 11.5
    edits.set(view, placed)
    again = BeadEdits(edits.text)
    assert again.isEdited(view)
    assert again.byKey([view]) == {"a": [[11.5, 20, "small"], [30, 5, "large"]]}
    moved, _ = beadMarks(view, again)
    assert moved[0].color != marks[0].color
    assert moved[1] == marks[1]
    again.reset(view)
    assert again.text == ""
    by_hand = card(tmp_path, isByHand=True)
    again.reset(by_hand)
    assert again.byKey([by_hand]) == {"a": None}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": [[1, 2]]}', '{"a": [[1, "b", ""]]}', '{"a": [[true, 2, ""]]}', '{"a": []}'])
def test_damaged_edits_of_a_scene_say_nothing(text):
    assert BeadEdits(text).text == ""
