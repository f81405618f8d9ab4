"""The panel of ShapeCompletion by mouse and keyboard, with the real worker on the sample outlines."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pytest
import slicer
from Testing.host.hands import choose, click, wait_until, watch_blocks

from ShapeCompletionLib.host import Samples
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "ShapeCompletion"
RUN_S = 120


@pytest.fixture
def panel(running):
    """Return the open panel on an empty scene."""
    slicer.util.selectModule(NAME)
    widget = running.widget(NAME)
    widget.onSceneChanged()
    yield widget
    if widget.ui.liveCheckBox.checked:
        click(widget.ui.liveCheckBox)
    if widget.logic.completion.isRunning:
        widget.logic.completion.cancel()
        wait_until(lambda: not widget.logic.completion.isRunning, 20)


@pytest.fixture
def outlined(panel):
    """Return the sample's node, chosen by the Sample Data module while the panel is open."""
    import SampleData

    SampleData.downloadSample("ShapeCompletionVertebraSlices")
    return panel.parameters.segmentationNode


def names(scene) -> set[str]:
    return {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def is_idle(panel) -> bool:
    return not panel.logic.completion.isRunning


def test_the_empty_panel_lets_nothing_be_started(panel):
    assert not panel.ui.completeButton.enabled
    assert not panel.ui.progressBar.visible
    assert panel.ui.foundLabel.text == ""
    assert panel.ui.statusLabel.text


def test_a_sample_that_is_chosen_shows_in_the_open_panel(panel, outlined):
    assert panel.ui.segmentSelector.currentNode() is outlined
    assert outlined.GetSegmentation().GetSegment(panel.ui.segmentSelector.currentSegmentID()).GetName() == "Vertebra"
    assert "slices" in panel.ui.foundLabel.text
    assert panel.ui.completeButton.enabled


def test_segments_are_chosen_by_hand(panel, outlined):
    outlined.GetSegmentation().AddEmptySegment("second", "Second")
    segments = panel.ui.segmentSelector.findChildren("QComboBox")[-1]
    choose(segments, "Second")
    assert panel.parameters.settings.segmentId == "second"
    assert panel.ui.foundLabel.text
    choose(segments, "None")
    assert not panel.ui.completeButton.enabled
    choose(segments, "Vertebra")
    assert panel.ui.completeButton.enabled
    running_scene = outlined.GetScene()
    running_scene.RemoveNode(outlined)
    assert not panel.ui.completeButton.enabled
    assert panel.ui.foundLabel.text == ""


def test_an_empty_segment_is_said_with_what_to_do(panel, running, outlined):
    outlined.GetSegmentation().AddEmptySegment("second", "Second")
    choose(panel.ui.segmentSelector.findChildren("QComboBox")[-1], "Second")
    click(panel.ui.completeButton)
    wait_until(lambda: is_idle(panel))
    assert "Traceback" not in panel.ui.statusLabel.text
    assert "Outline the structure" in panel.ui.statusLabel.text
    assert panel.ui.copyDetailsButton.visible
    assert running.answers.shown == []


@pytest.mark.slow
def test_from_an_empty_scene_to_the_result_and_on(panel, running, outlined, tmp_path, record_property):
    with watch_blocks() as blocks:
        click(panel.ui.completeButton)
        assert panel.ui.completeButton.text == "Cancel"
        wait_until(lambda: panel.nodes is not None or running.answers.shown, RUN_S)
    record_property("gui_thread_blocked_ms", round(blocks.wall_ms))
    record_property("gui_thread_computed_ms", round(blocks.cpu_ms))
    print(f"GUI thread: blocked for {blocks.wall_ms:.0f} ms at most, of which it computed {blocks.cpu_ms:.0f} ms")
    assert running.answers.shown == []
    assert panel.ui.statusLabel.text.startswith("Done in")
    plane = panel.nodes.nextSlice
    assert plane.GetDisplayVisibility()
    click(panel.ui.nextSliceCheckBox)
    assert not plane.GetDisplayVisibility()
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.nodes is None
    assert not panel.ui.completeButton.enabled
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert "slices" in panel.ui.foundLabel.text
    assert not panel.ui.nextSliceCheckBox.checked
    count = running.scene.GetNumberOfNodes()
    click(panel.ui.completeButton)
    wait_until(lambda: is_idle(panel), RUN_S)
    assert panel.ui.statusLabel.text.startswith("Done in")
    assert running.scene.GetNumberOfNodes() == count  # the earlier result is updated, not added to


@pytest.mark.slow
def test_edits_are_followed(panel, running, outlined):
    click(panel.ui.liveCheckBox)
    assert not panel.ui.completeButton.enabled
    wait_until(lambda: panel.nodes is not None, RUN_S)
    before = panel.nodes.model.GetPolyData().GetNumberOfPoints()
    segmentId = panel.parameters.settings.segmentId
    labels, grid = Nodes.labelsFromSegmentationNode(outlined, segmentId)
    drawn = np.flatnonzero(labels.any((1, 2)))
    labels[drawn[-1]] = 0  # the eraser takes a slice
    labelmap = outlined.GetSegmentation().GetSegment(segmentId).GetRepresentation("Binary labelmap")
    labelmap.DeepCopy(Nodes.labelmapFromArray(labels, grid))
    start = time.monotonic()
    labelmap.Modified()
    wait_until(lambda: panel.nodes.model.GetPolyData().GetNumberOfPoints() != before, RUN_S)
    print(f"A shape after an edit: {time.monotonic() - start:.2f} s")
    assert running.answers.shown == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_cancel_and_kill(panel, running, outlined):
    click(panel.ui.completeButton)
    click(panel.ui.completeButton)
    wait_until(lambda: is_idle(panel), 20)
    assert panel.ui.statusLabel.text == "Cancelled."
    assert running.answers.shown == []
    assert Samples.sampleFiles()
    click(panel.ui.completeButton)
    os.kill(panel.logic.completion._worker.pid, signal.SIGKILL)
    wait_until(lambda: is_idle(panel), 20)
    assert "memory" in panel.ui.statusLabel.text
    click(panel.ui.completeButton)
    wait_until(lambda: is_idle(panel), RUN_S)
    assert panel.ui.statusLabel.text.startswith("Done in")


@pytest.mark.slow
def test_a_scene_that_is_closed_while_it_runs(panel, running, outlined):
    click(panel.ui.completeButton)
    running.scene.Clear()
    wait_until(lambda: is_idle(panel), RUN_S)
    assert panel.ui.completeButton.text == "Complete"
    assert not panel.ui.completeButton.enabled
    assert not any("completed" in name for name in names(running.scene))
