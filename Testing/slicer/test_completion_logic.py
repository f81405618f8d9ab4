"""Completions through the worker: what is sent, what comes into the scene, and that what the user has drawn is never touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

pytest.importorskip("slicer")

import slicer
from fake_worker import FakeWorker
from small_completion import SLICE_INDICES, grid_of_ct, outlined_labels, probability_of, write_completion

from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.planes import Plane
from ShapeCompletionLib.host.CompletionLogic import DEBOUNCE_S, CompletionLogic
from ShapeCompletionLib.host.Outlines import addOutlines
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene


class Scene:
    """A scene with an outlined segment, a logic with a fake worker, and a clock that the test turns."""

    def __init__(self, tmp_path: Path) -> None:
        self.headless = HeadlessScene()
        self.scene = self.headless.scene
        self.node, self.segment = addOutlines(self.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "spine", "L3")
        self.now_s = 100.0
        self.worker = FakeWorker([])
        self.logic = CompletionLogic(self.scene, self.worker, lambda: self.now_s)
        self.folder = write_completion(tmp_path / "result")
        self.finished: list[Any] = []
        self.failed: list[Any] = []
        self.logic.finished.connect(self.finished.append)
        self.logic.failed.connect(self.failed.append)

    def answer(self, folder: Path | None = None) -> dict[str, Any]:
        folder = folder or self.folder
        names = {"shape": "shape.nrrd", "probability": "probability.nrrd", "mesh": "shape.vtp", "report": "report.json"}
        return {"event": "result", "paths": {role: str(folder / name) for role, name in names.items()}}

    def names(self) -> list[str]:
        return sorted(self.scene.GetNthNode(n).GetName() for n in range(self.scene.GetNumberOfNodes()))

    def draw(self, index: int = 20) -> None:
        """Outline another slice, as the segment editor does."""
        labels, grid = Nodes.labelsFromSegmentationNode(self.node, self.segment)
        labels[index] = probability_of(grid)[index] > 0.5
        labelmap = Nodes.labelmapFromArray(labels, grid)
        self.node.GetSegmentation().GetSegment(self.segment).GetRepresentation("Binary labelmap").DeepCopy(labelmap)
        self.node.GetSegmentation().GetSegment(self.segment).GetRepresentation("Binary labelmap").Modified()

    def go_live(self) -> None:
        """Watch the segment and let the first result come."""
        self.logic.live(self.node)
        self.wait(0)
        self.worker.events = [self.answer()]
        self.wait(0)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.logic.poll()
        while self.logic.isLoading:
            self.logic.poll()

    def sent(self) -> np.ndarray:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(self.worker.requests[-1][1]["segmentation"]))

    def input_state(self) -> tuple:
        """Return everything that would show a change of the segmentation that the user draws in."""
        segmentation = self.node.GetSegmentation()
        segment = segmentation.GetSegment(self.segment)
        labels, grid = Nodes.labelsFromSegmentationNode(self.node, self.segment)
        times = [item.GetMTime() for item in (self.node, segmentation, segment, segment.GetRepresentation("Binary labelmap"))]
        names = [self.node.GetName(), segment.GetName(), *segment.GetColor()]
        count = segmentation.GetNumberOfSegments()
        return (
            labels.tobytes(),
            grid.lps_from_ijk.tobytes(),
            times,
            names,
            count,
            segmentation.GetConversionParameter("Reference image geometry"),
        )


@pytest.fixture
def scene(tmp_path: Path):
    made = Scene(tmp_path)
    yield made
    made.logic.close()


def test_complete_sends_the_outline_and_returns_the_nodes(scene):
    sent = []
    scene.worker.events = [{"event": "started"}, {"event": "progress", "fraction": 0.5, "message": "One step"}, scene.answer()]
    config = CompletionConfig(method="inr", steps=3)
    nodes = scene.logic.complete(
        scene.node, "L3", "vertebra", config, [Plane(0, 6)], lambda: sent.append(scene.sent()) if not sent else None
    )
    kind, payload = scene.worker.requests[0]
    assert kind == "complete"
    assert payload["label"] == 1
    assert payload["prior"] == "vertebra"
    assert payload["planes"] == ["k:6"]
    assert CompletionConfig(**payload["config"]) == config
    json.dumps(payload)
    np.testing.assert_array_equal(sent[0], outlined_labels(grid_of_ct()))
    assert nodes.shape.method == "inr"
    assert not Path(payload["segmentation"]).parent.exists()  # the job's folder is gone
    np.testing.assert_array_equal(np.unique(np.nonzero(sent[0])[0]), SLICE_INDICES)


def test_a_segment_cropped_to_what_is_drawn_is_sent_on_the_whole_volume(scene):
    labels, grid = outlined_labels(grid_of_ct()), grid_of_ct()
    segment = scene.node.GetSegmentation().GetSegment(scene.segment)
    labelmap = Nodes.labelmapFromArray(labels, grid)
    slicer.vtkOrientedImageDataResample.CopyImage(labelmap, segment.GetRepresentation("Binary labelmap"), [8, 30, 6, 30, 6, 22])
    cropped, _ = Nodes.labelsFromSegmentationNode(scene.node, scene.segment)
    assert cropped.shape == (17, 25, 23)
    scene.logic.start(scene.node)
    image = SimpleITK.ReadImage(scene.worker.requests[0][1]["segmentation"])
    expected = np.zeros_like(labels)
    expected[6:23, 6:31, 8:31] = labels[6:23, 6:31, 8:31]
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), expected)
    np.testing.assert_allclose(image.GetOrigin(), grid.origin_lps_mm, atol=1e-4)


def test_a_parent_transform_is_part_of_what_is_sent(scene):
    angle = np.deg2rad(30)
    turn = affine([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]], [5.0, -7.0, 11.0])
    parent = Nodes.transformNodeFromLps(scene.scene, turn, "navigation")
    scene.node.SetAndObserveTransformNodeID(parent.GetID())
    scene.logic.start(scene.node)
    image = SimpleITK.ReadImage(scene.worker.requests[0][1]["segmentation"])
    np.testing.assert_allclose(image.GetOrigin(), (turn @ [*grid_of_ct().origin_lps_mm, 1])[:3], atol=1e-4)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), turn[:3, :3], atol=1e-5)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), outlined_labels(grid_of_ct()))


def test_the_users_segmentation_is_never_changed(scene):
    before = scene.input_state()
    scene.worker.events = [scene.answer()]
    scene.logic.complete(scene.node, idle=lambda: None)
    scene.go_live()
    scene.logic.stopLive()
    assert len(scene.finished) == 2
    assert scene.input_state() == before


def test_the_segment_editors_undo_still_undoes_the_last_stroke(scene):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(scene.node.GetSegmentation())
    before = Nodes.labelsFromSegmentationNode(scene.node, scene.segment)[0]
    history.SaveState()
    scene.draw()
    drawn = Nodes.labelsFromSegmentationNode(scene.node, scene.segment)[0]
    assert drawn.sum() > before.sum()
    scene.worker.events = [scene.answer()]
    scene.logic.complete(scene.node, idle=lambda: None)
    history.RestorePreviousState()
    np.testing.assert_array_equal(Nodes.labelsFromSegmentationNode(scene.node, scene.segment)[0], before)
    history.RestoreNextState()
    np.testing.assert_array_equal(Nodes.labelsFromSegmentationNode(scene.node, scene.segment)[0], drawn)


@pytest.mark.parametrize(("kind", "error"), [("input", InputError), ("resource", ResourceError), ("cancelled", Cancelled)])
def test_a_failure_is_a_message_and_leaves_the_scene(scene, kind: str, error: type):
    scene.worker.events = [scene.answer()]
    nodes = scene.logic.complete(scene.node, idle=lambda: None)
    before, probability = scene.names(), Nodes.arrayFromVolumeNode(nodes.probability)[0]
    scene.worker.events = [{"event": "failure", "kind": kind, "message": "One slice is not enough.", "remedy": "Outline another."}]
    with pytest.raises(error) as caught:
        scene.logic.complete(scene.node, idle=lambda: None)
    assert (caught.value.message, caught.value.remedy) == ("One slice is not enough.", "Outline another.")
    assert scene.names() == before
    np.testing.assert_array_equal(Nodes.arrayFromVolumeNode(nodes.probability)[0], probability)
    assert not scene.logic.isRunning


def test_a_first_failure_leaves_nothing_behind(scene):
    before = scene.names()
    (scene.folder / "shape.vtp").write_bytes(b"this is no mesh")
    scene.worker.events = [scene.answer()]
    with pytest.raises(InputError, match=r"shape\.vtp"):
        scene.logic.complete(scene.node, idle=lambda: None)
    assert scene.names() == before


@pytest.mark.parametrize("fault", ["no node", "no segment", "several", "empty"])
def test_nothing_to_complete_is_refused_before_anything_starts(scene, fault: str):
    segment = "L3"
    node = None if fault == "no node" else scene.node
    if fault == "no segment":
        segment = "L9"
    elif fault == "several":
        scene.node.GetSegmentation().AddEmptySegment("other", "other")
        segment = ""
    elif fault == "empty":
        scene.node.GetSegmentation().AddEmptySegment("L4", "L4")
        segment = "L4"
    with pytest.raises(InputError) as caught:
        scene.logic.start(node, segment)
    assert caught.value.remedy
    assert scene.worker.requests == []


def test_a_second_start_is_refused_and_cancel_ends_the_first(scene):
    scene.logic.start(scene.node)
    with pytest.raises(InputError, match="already running"):
        scene.logic.start(scene.node)
    folder = Path(scene.worker.requests[0][1]["segmentation"]).parent
    assert folder.is_dir()
    scene.logic.cancel()
    scene.logic.poll()
    assert isinstance(scene.failed[0], Cancelled)
    assert not folder.exists()


def test_a_refused_call_from_the_console_leaves_the_panels_run_alone(scene):
    scene.logic.start(scene.node, "L3")
    for segment in ("no such segment", "L3"):
        with pytest.raises(InputError):
            scene.logic.complete(scene.node, segment)
    assert scene.logic.isRunning and scene.worker.cancelled == []


def test_a_segmentation_that_is_removed_meanwhile_costs_nothing(scene):
    scene.logic.live(scene.node)
    scene.wait(0)
    before = scene.names()
    scene.scene.RemoveNode(scene.node)
    scene.worker.events = [scene.answer()]
    scene.wait(0)
    assert isinstance(scene.failed[0], Cancelled)
    assert not scene.logic.isLive
    assert scene.names() == [name for name in before if name != "spine"]


# Live


def test_live_completes_at_once_and_again_when_the_hand_rests(scene):
    scene.go_live()
    assert len(scene.worker.requests) == len(scene.finished) == 1
    scene.draw(20)
    scene.wait(0.7 * DEBOUNCE_S)
    scene.draw(12)
    scene.wait(0.7 * DEBOUNCE_S)
    assert len(scene.worker.requests) == 1
    scene.wait(0.4 * DEBOUNCE_S)
    assert len(scene.worker.requests) == 2
    assert set(np.nonzero(scene.sent())[0]) == {*SLICE_INDICES, 12, 20}


def test_live_is_not_triggered_by_its_own_output_nor_by_what_is_no_edit(scene):
    scene.go_live()
    scene.node.GetSegmentation().GetSegment(scene.segment).SetColor(1, 0, 0)
    scene.node.GetSegmentation().AddEmptySegment("other", "other")
    scene.node.GetDisplayNode().SetOpacity(0.5)
    for _ in range(5):
        scene.wait(DEBOUNCE_S)
    assert len(scene.worker.requests) == 1
    assert len(scene.finished) == 1


def test_a_result_that_an_edit_has_overtaken_is_dropped_and_the_new_outline_is_sent(scene):
    before = scene.names()
    scene.logic.live(scene.node)
    scene.wait(0)
    folder = Path(scene.worker.requests[0][1]["segmentation"]).parent
    scene.draw()
    scene.worker.events = [scene.answer()]
    scene.wait(0.1 * DEBOUNCE_S)
    assert scene.finished == []
    assert scene.names() == before
    assert not folder.exists()
    scene.wait(DEBOUNCE_S)
    assert len(scene.worker.requests) == 2
    scene.worker.events = [scene.answer()]
    scene.wait(0)
    assert len(scene.finished) == 1


def test_an_edit_waits_for_the_run_in_flight_and_its_failure_is_not_shown(scene):
    scene.logic.live(scene.node)
    scene.wait(0)
    scene.draw()
    scene.wait(2 * DEBOUNCE_S)
    assert len(scene.worker.requests) == 1
    scene.worker.events = [{"event": "failure", "kind": "input", "message": "One slice.", "remedy": "Outline another."}]
    scene.wait(0)
    assert scene.failed == []
    assert len(scene.worker.requests) == 2


def test_a_color_changed_during_a_run_does_not_cost_its_result(scene):
    scene.logic.live(scene.node)
    scene.wait(0)
    scene.node.GetSegmentation().GetSegment(scene.segment).SetColor(0, 1, 0)
    scene.worker.events = [scene.answer()]
    scene.wait(0)
    assert len(scene.finished) == 1


def test_moving_the_patient_completes_again(scene):
    scene.go_live()
    parent = Nodes.transformNodeFromLps(scene.scene, affine(np.eye(3), np.array([9.0, 0, 0])), "navigation")
    scene.node.SetAndObserveTransformNodeID(parent.GetID())
    scene.wait(2 * DEBOUNCE_S)
    assert len(scene.worker.requests) == 2


def test_a_live_failure_is_told_once_and_the_last_result_stays(scene):
    scene.go_live()
    before = scene.names()
    scene.node.GetSegmentation().RemoveSegment(scene.segment)
    for _ in range(4):
        scene.wait(DEBOUNCE_S)
    assert len(scene.failed) == 1
    assert isinstance(scene.failed[0], InputError)
    assert scene.names() == before


def test_after_live_edits_start_nothing(scene):
    scene.go_live()
    scene.logic.stopLive()
    scene.draw()
    scene.wait(2 * DEBOUNCE_S)
    assert len(scene.worker.requests) == 1


def test_warming_up_starts_the_worker_and_disturbs_nothing(scene):
    scene.logic.warmUp()
    assert [kind for kind, _ in scene.worker.requests] == ["warmup"]
    scene.worker.events = [{"event": "failure", "id": "id1", "kind": "input", "message": "No.", "remedy": ""}]
    scene.logic.poll()
    assert not scene.logic.isRunning
    assert scene.failed == []


def test_closing_removes_the_jobs_folder(scene):
    scene.logic.start(scene.node)
    folder = Path(scene.worker.requests[0][1]["segmentation"]).parent
    scene.logic.close()
    assert scene.worker.stopped
    assert not folder.exists()
