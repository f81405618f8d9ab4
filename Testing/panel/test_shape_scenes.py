"""Scenes in ShapeCompletion's panel: undone, saved and gone on with, closed while something is under way, and of an earlier version."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import slicer
from faked_shape import answer, complete, draw, faked_shape
from small_completion import grid_of_ct, outlined_labels
from Testing.host.hands import click, wait_until
from Testing.host.values import unwrap

from ShapeCompletionLib.host.Outlines import addOutlines, readOutline
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

OLDER = Path(__file__).parent / "scenes" / "shape_completion_2026-11-21.mrb"


@pytest.fixture
def panel(running, tmp_path):
    with faked_shape(running, tmp_path / "answer") as panel:
        yield panel


def sent(panel) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(panel.worker.requests[-1][1]["segmentation"]))


def completed(running) -> list[str]:
    names = [running.scene.GetNthNode(n).GetName() for n in range(running.scene.GetNumberOfNodes())]
    return sorted(name for name in names if name and "completed" in name)


def follow(panel) -> None:
    """Click on live updates and let the first result come."""
    before = len(panel.worker.requests)
    click(panel.ui.liveCheckBox)
    wait_until(lambda: len(panel.worker.requests) == before + 1, 20)
    answer(panel)


# Undo


def test_a_stroke_that_is_undone_is_followed_back(panel, running):
    follow(panel)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(panel.parameters.segmentationNode.GetSegmentation())
    first = readOutline(panel.parameters.segmentationNode, panel.parameters.settings.segmentId).labels
    history.SaveState()
    draw(panel, 12, inside=True)
    wait_until(lambda: len(panel.worker.requests) == 2, 20)
    drawn = sent(panel)
    assert drawn[12].any()
    answer(panel, agreement=0.5)
    assert panel.ui.agreementLabel.text.startswith("50 %")
    for act, expected in ((history.RestorePreviousState, first), (history.RestoreNextState, drawn)):
        before = len(panel.worker.requests)
        act()
        wait_until(lambda before=before: len(panel.worker.requests) == before + 1, 20)
        np.testing.assert_array_equal(sent(panel), expected)
        answer(panel)
        assert panel.ui.agreementLabel.text.startswith("93 %")
    assert panel.ui.foundLabel.text
    assert running.answers.shown == []
    click(panel.ui.liveCheckBox)


def test_a_result_that_is_undone_is_let_go_and_made_again(panel, running):
    scene = running.scene
    scene.SetUndoOn()
    try:
        scene.SaveStateForUndo()
        complete(panel)
        nodes = panel.nodes
        for node in (nodes.segmentation, nodes.model, nodes.probability, nodes.nextSlice):
            node.SetUndoEnabled(True)  # as an application may by default
        scene.Undo()
        assert panel.nodes is None
        assert panel.ui.agreementLabel.text == "no result yet"
        assert not unwrap(panel.ui.saveButton).isEnabled()
        complete(panel)
        assert panel.nodes is not None
        for name in ("spine completed", "spine completed surface", "spine completed probability"):
            assert completed(running).count(name) == 1
    finally:
        scene.ClearUndoStack()
        scene.SetUndoOff()


# Saved, and gone on with


def test_a_scene_saved_while_edits_are_followed_goes_on_following(panel, running, tmp_path):
    follow(panel)
    saveScene(running.scene, tmp_path / "scene.mrb")
    before = completed(running)
    running.scene.Clear()
    assert not panel.ui.liveCheckBox.checked
    assert not panel.logic.completion.isLive
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.ui.liveCheckBox.checked
    wait_until(lambda: len(panel.worker.requests) == 2, 20)  # the outlines may have been edited elsewhere
    answer(panel)
    draw(panel, 12, inside=True)
    wait_until(lambda: len(panel.worker.requests) == 3, 20)
    assert sent(panel)[12].any()
    answer(panel, agreement=0.5)
    assert panel.ui.agreementLabel.text.startswith("50 %")
    assert completed(running) == before  # the result of the scene is updated, none added
    click(panel.ui.liveCheckBox)


def test_warnings_come_back_with_a_scene_and_go_with_the_segment_that_they_are_of(panel, running, tmp_path):
    complete(panel, warnings=["Much is a guess."])
    assert panel.ui.warningsLabel.text == "Much is a guess."
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.warningsLabel.text == ""
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.ui.warningsLabel.text == "Much is a guess."
    complete(panel, warnings=["Much is a guess."])
    node, segmentId = addOutlines(running.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "other", "L4")
    panel.ui.segmentSelector.setCurrentNode(node)
    panel.ui.segmentSelector.setCurrentSegmentID(segmentId)
    assert panel.ui.warningsLabel.text == ""
    assert not panel.ui.statusLabel.text.startswith("Done")


def test_a_segmentation_of_one_segment_needs_no_second_choice(panel, running):
    running.scene.Clear()
    node, segmentId = addOutlines(running.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "other", "L4")
    panel.ui.segmentSelector.setCurrentNode(node)
    assert panel.parameters.settings.segmentId == segmentId
    assert panel.ui.foundLabel.text == "5 axial slices, 8 mm apart"


def test_a_scene_that_is_added_leaves_the_segment_and_the_settings(panel, running, tmp_path):
    node, segmentId = panel.parameters.segmentationNode, panel.parameters.settings.segmentId
    other = HeadlessScene()
    other.scene.AddNewNodeByClass("vtkMRMLTextNode", "Note")
    other.scene.Commit(str(tmp_path / "other.mrml"))
    running.scene.SetURL(str(tmp_path / "other.mrml"))
    running.scene.Import()
    assert panel.parameters.segmentationNode is node and panel.ui.segmentSelector.currentNode() is node
    assert panel.parameters.settings.segmentId == segmentId


def test_colors_that_a_file_has_lost_come_back(panel, running):
    complete(panel)
    colors = panel.nodes.model.GetDisplayNode().GetColorNode()
    assert not colors.GetHideFromEditors()
    before = [colors.GetLookupTable().GetTableValue(n) for n in range(256)]
    for n in range(256):
        colors.SetColor(n, "", 0.0, 0.0, 0.0, 0.0)
    panel.nodes = None
    panel.updatePanel()
    assert panel.nodes is not None
    np.testing.assert_allclose([colors.GetLookupTable().GetTableValue(n) for n in range(256)], before)


def test_a_scene_of_an_earlier_version_opens_and_goes_on(panel, running, tmp_path):
    running.scene.Clear()
    loadScene(running.scene, shutil.copy(OLDER, tmp_path))
    assert panel.ui.segmentSelector.currentNode().GetName() == "spine"
    assert panel.ui.foundLabel.text == "5 axial slices, 8 mm apart"
    assert (panel.ui.methodComboBox.currentText, panel.ui.priorComboBox.currentText) == ("inr", "Pancreas")
    assert not panel.ui.nextSliceCheckBox.checked
    assert panel.ui.confidenceCheckBox.checked  # that version had no such setting
    assert panel.ui.agreementLabel.text == "no result yet"  # nor a report in the scene
    before = completed(running)
    assert before
    complete(panel)
    assert panel.ui.agreementLabel.text.startswith("93 %")
    assert completed(running) == before
    assert not panel.nodes.nextSlice.GetDisplayVisibility()
    click(panel.ui.nextSliceCheckBox)
    assert panel.nodes.nextSlice.GetDisplayVisibility()
    click(panel.ui.goToButton)
    assert "next slice" in panel.ui.statusLabel.text
    assert running.answers.shown == []


# Closed while something is under way


def begins_anew(panel, running) -> None:
    wait_until(lambda: not panel.logic.completion.isRunning, 20)
    assert panel.nodes is None
    assert panel.ui.completeButton.text == "Complete"
    assert not unwrap(panel.ui.completeButton).isEnabled()
    assert not panel.ui.progressBar.visible
    assert not panel.logic.completion.isLive
    assert completed(running) == []
    assert running.answers.shown == []


def test_a_scene_that_is_closed_while_a_shape_is_computed(panel, running):
    click(panel.ui.completeButton)
    job = Path(panel.worker.requests[-1][1]["segmentation"]).parent
    running.scene.Clear()
    begins_anew(panel, running)
    assert not job.exists()


def test_a_scene_that_is_closed_while_the_result_comes_in(panel, running, monkeypatch):
    monkeypatch.setattr("SparseAnatomyLib.host.WorkerLogic.STEPS_S", 0.0)  # one step a poll
    click(panel.ui.completeButton)
    panel.worker.events = [{"event": "result", "paths": {"shape": str(panel.folder / "shape.nrrd")}}]
    for _ in range(3):
        panel.logic.completion.poll()
    assert panel.logic.completion.isLoading
    assert completed(running)
    running.scene.Clear()
    begins_anew(panel, running)


def test_a_scene_that_is_closed_while_edits_are_followed(panel, running):
    follow(panel)
    draw(panel, 12, inside=True)  # and before the hand has rested
    running.scene.Clear()
    begins_anew(panel, running)
    assert not panel.ui.liveCheckBox.checked
    assert len(panel.worker.requests) == 1


def test_a_segmentation_that_is_removed_while_edits_are_followed(panel, running):
    follow(panel)
    running.scene.RemoveNode(panel.parameters.segmentationNode)
    wait_until(lambda: not panel.logic.completion.isLive, 20)
    assert panel.nodes is None
    assert panel.ui.foundLabel.text == ""
    assert running.answers.shown == []
    click(panel.ui.liveCheckBox)
