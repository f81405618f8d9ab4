"""The controls of ShapeCompletion's panel by mouse and keyboard, on a small shape that a worker of the test's own has completed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicer
from faked_shape import NAME, complete, faked_shape
from PySide6.QtWidgets import QApplication
from small_completion import NEXT_SLICE, write_completion
from Testing.host.hands import OutOfReach, choose, click, slide, write
from Testing.host.values import unwrap

from ShapeCompletionLib.core.prior_card import PriorCard
from ShapeCompletionLib.host.CompletionFolder import readCompletion
from ShapeCompletionLib.host.PriorCardText import cardText
from ShapeCompletionLib.host.Sentences import evidenceSentence
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene
from SparseAnatomyLib.host.SliceViews import showPlane

RESULT_WIDGETS = ("confidenceCheckBox", "nextSliceCheckBox", "goToButton", "saveButton")
FILES = {"shape.nrrd", "probability.nrrd", "shape.vtp", "shape.stl", "report.json"}


@pytest.fixture
def panel(running, tmp_path):
    """Return the open panel on outlines, with a worker that answers with a small result."""
    with faked_shape(running, tmp_path / "answer") as panel:
        yield panel


def is_usable(widget) -> bool:
    return unwrap(widget).isEnabled()


# What is to be done


def test_the_card_of_the_prior_is_told_in_a_few_lines(panel):
    with pytest.raises(OutOfReach):
        slide(panel.ui.stepsSlider, 1)
    click(panel.ui.aboutButton)
    assert unwrap(panel.ui.aboutLabel).isVisible()
    text = panel.ui.aboutLabel.text
    assert text.startswith("Trained on")
    assert re.search(r"Slices 8 mm apart: 0\.\d\d \(0\.\d\d\)\n", text)
    assert "License: " in text
    choose(panel.ui.priorComboBox, "Hippocampus")
    assert "hippocampi" in panel.ui.aboutLabel.text
    assert panel.parameters.settings.prior == "hippocampus"


CARD = PriorCard(
    name="rib",
    title="Rib",
    trained_on="24 ribs.",
    licence="CC0",
    extent_mm=96.0,
    sha256="",
    seconds=1.0,
    steps=1,
    command="",
    figures={
        "axial 8 mm": {"dice inr": 0.8, "dice interpolate": 0.5, "evidence": 0.2},
        "oblique 8 mm": {"dice inr": 0.9, "dice interpolate": 0.6, "evidence": 0.3},
        "three planes": {"dice inr": 0.75, "dice interpolate": 0.7, "evidence": 0.1},
        "axial 16 mm": {"shapes": 3},
    },
)


def test_a_card_as_text():
    assert cardText(CARD).splitlines() == [
        "Trained on 24 ribs.",
        "Dice on patients it was not trained on, 1 at best (in brackets: plain interpolation):",
        "Slices 8 mm apart: 0.85 (0.55)",
        "Three planes: 0.75 (0.70)",
        "License: CC0",
    ]
    assert cardText(replace(CARD, figures={})).splitlines() == ["Trained on 24 ribs.", "License: CC0"]


@pytest.mark.parametrize(("evidence", "says"), [(0.05, "lower than in"), (0.2, "as in"), (0.4, "higher than in")])
def test_evidence_beside_what_is_usual(tmp_path, evidence: float, says: str):
    shape = readCompletion(write_completion(tmp_path / "result", prior="rib", evidence=evidence))
    assert evidenceSentence(shape, CARD) == f"{evidence:.2f} per point: {says} the prior's tests (0.10 to 0.30)"
    assert evidenceSentence(shape, None) == evidenceSentence(shape, replace(CARD, figures={})) == f"{evidence:.2f} per point"


def test_steps_and_spacing_reach_the_worker_and_the_scene(panel, running, tmp_path):
    click(panel.ui.advancedButton)
    slide(panel.ui.stepsSlider, 100)
    write(panel.ui.spacingSpinBox, "1.5")
    complete(panel)
    config = panel.worker.requests[-1][1]["config"]
    assert config["spacing_mm"] == 1.5
    assert 1 < config["steps"] == panel.parameters.settings.steps == panel.ui.stepsSlider.value
    steps = config["steps"]
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert (panel.ui.stepsSlider.value, panel.ui.spacingSpinBox.value) == (1, 0)
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert (panel.ui.stepsSlider.value, panel.ui.spacingSpinBox.value) == (steps, 1.5)


def test_what_cannot_be_used_says_why_in_its_tooltip(panel):
    usual = panel.ui.priorComboBox.toolTip
    choose(panel.ui.methodComboBox, "interpolate")
    for widget in (panel.ui.priorComboBox, panel.ui.stepsSlider):
        assert not is_usable(widget)
        assert "uses no prior" in widget.toolTip
    choose(panel.ui.methodComboBox, "auto")
    assert is_usable(panel.ui.priorComboBox)
    assert panel.ui.priorComboBox.toolTip == usual
    for name in RESULT_WIDGETS:
        assert not is_usable(getattr(panel.ui, name))
        assert "no result yet" in getattr(panel.ui, name).toolTip
    choose(panel.ui.segmentSelector.findChildren("QComboBox")[-1], "None")
    assert "Choose the segment" in panel.ui.completeButton.toolTip
    click(panel.ui.liveCheckBox)
    assert "follows your edits" in panel.ui.completeButton.toolTip
    click(panel.ui.liveCheckBox)


# The result


@pytest.mark.parametrize(
    ("changes", "agreement", "evidence"),
    [
        ({}, "93 %: differs in places from plain interpolation", "0.40 per point"),
        ({"agreement": 0.97, "evidence": 90.0}, "97 %: hardly differs from plain interpolation", "90.00 per point: higher than in"),
        ({"agreement": 0.7, "evidence": -90.0}, "70 %: differs much from plain interpolation", "-90.00 per point: lower than in"),
        ({"prior": None, "method": "interpolate"}, "it is plain interpolation", "0.40 per point"),
        ({"prior": None, "method": "interpolate", "evidence": None}, "it is plain interpolation", "no prior was tried"),
    ],
)
def test_how_far_to_trust_it(panel, changes: dict, agreement: str, evidence: str):
    complete(panel, **changes)
    assert panel.ui.agreementLabel.text == agreement
    assert panel.ui.evidenceLabel.text.startswith(evidence)


def test_colors_of_confidence_come_and_go(panel):
    complete(panel)
    display = panel.nodes.model.GetDisplayNode()
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(panel.nodes.model)
    assert display.GetScalarVisibility()
    assert legend.GetVisibility()
    click(panel.ui.confidenceCheckBox)
    assert not display.GetScalarVisibility()
    assert not legend.GetVisibility()
    complete(panel)  # another result is shown as the user has it
    assert not display.GetScalarVisibility()
    click(panel.ui.confidenceCheckBox)
    assert display.GetScalarVisibility()
    assert legend.GetVisibility()


def test_what_is_hidden_elsewhere_stays_hidden_until_the_next_result(panel):
    complete(panel)
    panel.nodes.nextSlice.GetDisplayNode().SetVisibility(False)
    choose(panel.ui.methodComboBox, "interpolate")
    assert not panel.nodes.nextSlice.GetDisplayVisibility()
    complete(panel)
    assert panel.nodes.nextSlice.GetDisplayVisibility()


def _slice_nodes(scene) -> dict:
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLSliceNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode"))]
    return {node.GetLayoutName(): node for node in nodes}


def _matrix(node) -> np.ndarray:
    return np.array([[node.GetSliceToRAS().GetElement(row, column) for column in range(4)] for row in range(4)])


def test_go_to_the_next_slice(panel, running):
    complete(panel)
    before = {name: _matrix(node) for name, node in _slice_nodes(running.scene).items()}
    click(panel.ui.goToButton)
    assert "view Red" in panel.ui.statusLabel.text
    after = {name: _matrix(node) for name, node in _slice_nodes(running.scene).items()}
    np.testing.assert_array_equal(after["Yellow"], before["Yellow"])
    np.testing.assert_allclose(after["Red"][:3, 3], Nodes.rasFromLps(np.array(NEXT_SLICE["center_lps_mm"])), atol=1e-4)
    np.testing.assert_allclose(np.abs(after["Red"][:3, 2] @ Nodes.rasFromLps(np.array(NEXT_SLICE["normal_lps"]))), 1, atol=1e-6)
    assert min(_slice_nodes(running.scene)["Red"].GetFieldOfView()[:2]) >= NEXT_SLICE["extent_mm"]
    for node, orientation in zip(_slice_nodes(running.scene).values(), ("Axial", "Sagittal", "Coronal"), strict=True):
        node.SetOrientation(orientation)


@pytest.mark.parametrize(
    ("normal", "view"),
    [([0, 0, -2], "Red"), ([0.1, 0, 1], "Red"), ([1, 0, 0], "Yellow"), ([-1, 0.3, 0.2], "Yellow"), ([0.3, 1, 0.4], "Green")],
)
def test_a_view_turns_as_little_as_can_be(normal: list[float], view: str):
    headless = HeadlessScene()
    before = _matrix(_slice_nodes(headless.scene)[view])
    assert showPlane(headless.scene, np.array([5.0, -6.0, 7.0]), np.array(normal, float), 40.0) == view
    after = _matrix(_slice_nodes(headless.scene)[view])
    np.testing.assert_allclose(after[:3, :3].T @ after[:3, :3], np.eye(3), atol=1e-9)
    assert np.sign(np.linalg.det(after[:3, :3])) == np.sign(np.linalg.det(before[:3, :3]))  # nothing is mirrored
    assert (np.diag(before[:3, :3].T @ after[:3, :3]) > 0.7).all()  # left stays left, up stays up
    np.testing.assert_allclose(np.abs(after[:3, 2] @ normal), np.linalg.norm(normal), atol=1e-6)
    np.testing.assert_allclose(after[:3, 3], [5, -6, 7], atol=1e-6)


def test_without_a_next_slice_there_is_nowhere_to_go(panel):
    complete(panel, next_slice=None)
    for widget in (panel.ui.nextSliceCheckBox, panel.ui.goToButton):
        assert not is_usable(widget)
        assert "No other slice" in widget.toolTip
    assert not panel.nodes.nextSlice.GetDisplayVisibility()


def test_a_result_that_is_taken_away_is_let_go(panel, running):
    complete(panel)
    running.scene.RemoveNode(panel.nodes.model)
    assert panel.nodes is None
    assert not is_usable(panel.ui.confidenceCheckBox)
    complete(panel)
    assert is_usable(panel.ui.confidenceCheckBox)


# Saving


def test_save_writes_the_files_of_a_result(panel, tmp_path):
    complete(panel)
    assert "Choose the folder" in panel.ui.saveButton.toolTip
    write(panel.ui.saveFolderPath, str(tmp_path / "saved"))
    click(panel.ui.saveButton)
    assert panel.ui.statusLabel.text.startswith(f"Saved to {tmp_path / 'saved'}: shape.nrrd")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == FILES
    saved, made = readCompletion(tmp_path / "saved"), readCompletion(panel.folder)
    np.testing.assert_array_equal(saved.probability, made.probability)
    np.testing.assert_array_equal(saved.labels, made.labels)
    np.testing.assert_array_equal(saved.mesh.points_lps_mm, made.mesh.points_lps_mm)
    np.testing.assert_array_equal(saved.confidence, made.confidence)
    assert saved.report == made.report
    assert b"SPACE=LPS" in (tmp_path / "saved" / "shape.stl").read_bytes()[:80]
    complete(panel, agreement=0.5)
    click(panel.ui.saveButton)  # the earlier result is replaced
    assert readCompletion(tmp_path / "saved").agreement == 0.5


def test_places_that_will_not_do_are_said_in_the_panel(panel, running, tmp_path, monkeypatch):
    complete(panel)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text(json.dumps({"format": "SparseAnatomy reconstruction report"}))
    for place, says in (
        ("nowhere", "full path"),
        (str(tmp_path / "file"), "not a folder"),
        (str(tmp_path / "other"), "holds a file report"),
    ):
        write(panel.ui.saveFolderPath, place)
        click(panel.ui.saveButton)
        assert says in panel.ui.statusLabel.text
        click(panel.ui.copyDetailsButton)
        copied = QApplication.clipboard().text()
        assert says in copied
        assert "Remedy: Choose" in copied
        assert "Traceback" not in copied
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer", "file", "other"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["report.json"]
    assert running.answers.shown == []
    write(panel.ui.saveFolderPath, str(tmp_path / "saved"))
    click(panel.ui.saveButton)
    assert not unwrap(panel.ui.copyDetailsButton).isVisible()


# Scenes


def test_a_saved_scene_brings_the_result_back(panel, running, tmp_path):
    complete(panel)
    click(panel.ui.confidenceCheckBox)
    write(panel.ui.saveFolderPath, str(tmp_path / "saved"))
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.agreementLabel.text == "no result yet"
    assert panel.ui.saveFolderPath.currentPath == ""
    assert panel.ui.confidenceCheckBox.checked
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.ui.agreementLabel.text.startswith("93 %")
    assert not panel.ui.confidenceCheckBox.checked
    click(panel.ui.goToButton)
    click(panel.ui.saveButton)
    saved, made = readCompletion(tmp_path / "saved"), readCompletion(panel.folder)
    np.testing.assert_array_equal(saved.probability, made.probability)
    np.testing.assert_array_equal(saved.labels, made.labels)
    np.testing.assert_allclose(saved.mesh.points_lps_mm, made.mesh.points_lps_mm, atol=1e-3)
    np.testing.assert_allclose(saved.confidence, made.confidence, atol=1e-5)
    assert saved.report == made.report


def test_a_scene_of_an_earlier_version_opens(panel, running, tmp_path):
    complete(panel)
    panel.nodes.segmentation.RemoveAttribute("ShapeCompletion.Report")
    settings = {
        "segmentId": panel.parameters.settings.segmentId,
        "prior": "pancreas",
        "method": "inr",
        "live": False,
        "showNextSlice": True,
    }
    panel.parameters.node.SetParameter("Settings", json.dumps(settings))
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.ui.methodComboBox.currentText == "inr"
    assert panel.ui.priorComboBox.currentText == "Pancreas"
    assert panel.ui.stepsSlider.value == 1
    assert panel.ui.confidenceCheckBox.checked
    assert panel.nodes is None
    assert is_usable(panel.ui.completeButton)


def test_each_segment_has_a_result_of_its_own(panel, running):
    complete(panel)
    node = panel.parameters.segmentationNode
    node.GetSegmentation().AddEmptySegment("second", "Second")
    segments = panel.ui.segmentSelector.findChildren("QComboBox")[-1]
    choose(segments, "Second")
    assert panel.nodes is None
    assert not is_usable(panel.ui.goToButton)
    choose(segments, "L3")
    assert panel.ui.agreementLabel.text.startswith("93 %")


def test_the_widgets_that_the_sections_use_are_in_the_panel(panel, repository: Path):
    from Testing.host.lint import problems

    for name in ("SettingsSection", "ResultSection"):
        source = (repository / NAME / "ShapeCompletionLib" / "host" / f"{name}.py").read_text(encoding="utf-8")
        assert problems(source, vars(panel.ui)) == []
