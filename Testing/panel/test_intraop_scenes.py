"""Scenes in IntraopRecon's panel: undone, saved, closed while something is under way, and of an earlier version."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_worker import FakeWorker
from PySide6.QtWidgets import QApplication
from small_case import make_small_case
from small_scene import write_result_folder
from Testing.host.hands import choose, click, wait_until, write
from Testing.host.values import unwrap

from IntraopReconLib.host import ResultSection
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
RUN_S = 200
OLDER = Path(__file__).parent / "scenes" / "intraop_recon_2026-11-20.mrb"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_small_case(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "ball")


@pytest.fixture
def faked(panel, monkeypatch):
    """Return the open panel, whose reconstructions are by a worker that says what the test has laid ready."""
    recon, panel.fake = panel.logic.recon, FakeWorker([])
    recon.close()
    monkeypatch.setattr(recon, "_makeWorker", panel.fake)
    yield panel
    recon.close()


@pytest.fixture
def shown(faked, tmp_path):
    """Return that panel with a result, its step open."""
    nodes = faked.logic.recon.loadResult(write_result_folder(tmp_path / "knee" / "result"))
    faked.parameters.resultNode = nodes.volume
    faked.onSceneChanged()
    open_step(faked.ui.resultButton)
    return faked


def open_step(button) -> None:
    if button.collapsed:
        click(button)


def choose_case(panel, case: Path) -> None:
    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    wait_until(lambda: panel.panel.prepared is not None, RUN_S)
    open_step(panel.ui.reconstructionButton)


def names(running) -> set[str]:
    return {running.scene.GetNthNode(n).GetName() for n in range(running.scene.GetNumberOfNodes())}


def is_usable(widget) -> bool:
    return unwrap(widget).isEnabled()


# Of an earlier version


@pytest.mark.slow
def test_a_scene_of_an_earlier_version_opens_and_goes_on(panel, running, case, tmp_path):
    loadScene(running.scene, shutil.copy(OLDER, tmp_path))
    assert {"knee volume", "knee bone", "knee coverage"} <= names(running)
    assert panel.ui.caseFolderPath.currentPath == "/cases/knee"
    assert (panel.ui.qualityComboBox.currentText, panel.ui.methodComboBox.currentText) == ("best", "splat")
    assert panel.ui.deviceComboBox.currentText == "auto"  # that version had no such setting
    assert panel.ui.regionSelector.currentNode().GetName() == "knee region"
    assert panel.nodes is None  # nor did its volume say what belongs to it
    assert "no result yet" in panel.ui.thresholdSlider.toolTip
    click(panel.ui.readButton)
    wait_until(lambda: "/cases/knee" in panel.ui.statusLabel.text, RUN_S)  # the case is not on this computer
    assert "Traceback" not in panel.ui.statusLabel.text
    choose_case(panel, case)
    choose(panel.ui.regionSelector, "Automatic")
    choose(panel.ui.qualityComboBox, "preview")
    choose(panel.ui.methodComboBox, "voxel")
    panel.parameters.update(resultFolder="")
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.nodes is not None or panel.panel.error, RUN_S)
    assert panel.panel.error is None, panel.ui.statusLabel.text
    assert panel.nodes.volume.GetName() == "ball volume"
    assert {"knee volume", "ball volume"} <= names(running)
    assert running.answers.shown == []


# Undo


def test_a_region_that_is_moved_and_moved_back(faked, running, case):
    scene = running.scene
    node = Nodes.roiNodeFromBox(scene, Nodes.Box(np.zeros(3), np.full(3, 50.0), np.eye(3)), "mine")
    node.SetUndoEnabled(True)  # as an application may by default
    choose_case(faked, case)
    choose(faked.ui.regionSelector, "mine")
    scene.SetUndoOn()
    try:
        scene.SaveStateForUndo()
        node.SetCenter(10.0, 20.0, 30.0)
        for act, center in ((lambda: None, (-10, -20, 30)), (scene.Undo, (0, 0, 0)), (scene.Redo, (-10, -20, 30))):
            act()
            assert faked.ui.regionSelector.currentNode().GetName() == "mine"
            click(faked.ui.reconstructButton)
            region = faked.fake.requests[-1][1]["config"]["region"]
            np.testing.assert_allclose(region["center_lps_mm"], center, atol=1e-6)
            click(faked.ui.reconstructButton)
            wait_until(lambda: not faked.logic.recon.isRunning, 20)
    finally:
        scene.ClearUndoStack()
        scene.ClearRedoStack()
        scene.SetUndoOff()


def test_a_result_that_is_undone_is_let_go(faked, running, tmp_path):
    scene = running.scene
    scene.SetUndoOn()
    try:
        scene.SaveStateForUndo()
        nodes = faked.logic.recon.loadResult(write_result_folder(tmp_path / "knee" / "result"))
        for node in (nodes.volume, nodes.bone, nodes.segmentation, nodes.coverage, nodes.roi):
            node.SetUndoEnabled(True)
        faked.parameters.resultNode = nodes.volume
        faked.onSceneChanged()
        open_step(faked.ui.resultButton)
        assert faked.nodes is not None
        scene.Undo()
        assert faked.nodes is None
        for widget in (faked.ui.thresholdSlider, faked.ui.coverageCheckBox, faked.ui.saveButton):
            assert not is_usable(widget)
            assert "no result yet" in widget.toolTip
        assert running.answers.shown == []
    finally:
        scene.ClearUndoStack()
        scene.ClearRedoStack()
        scene.SetUndoOff()


# Closed while something is under way


def begins_anew(panel, running) -> None:
    wait_until(lambda: not panel.logic.recon.isRunning and not panel.logic.preparation.isRunning, 20)
    assert panel.nodes is None
    assert panel.panel.prepared is None
    assert panel.ui.caseFolderPath.currentPath == ""
    assert panel.ui.reconstructButton.text == "Reconstruct"
    assert not is_usable(panel.ui.reconstructButton)
    assert not is_usable(panel.ui.saveButton)
    assert not panel.ui.progressBar.visible
    assert not any(word in name for name in names(running) for word in ("ball", "knee"))
    assert running.answers.shown == []


def test_a_scene_that_is_closed_while_xrays_are_read(panel, running, case):
    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    wait_until(lambda: panel.logic.preparation.isRunning, 20)
    running.scene.Clear()
    begins_anew(panel, running)
    assert panel.ui.viewsTable.rowCount == 0


def test_a_scene_that_is_closed_while_the_result_comes_in(faked, running, case, tmp_path, monkeypatch):
    folder = write_result_folder(tmp_path / "knee" / "result")
    choose_case(faked, case)
    monkeypatch.setattr("SparseAnatomyLib.host.WorkerLogic.STEPS_S", 0.0)  # one step a poll
    click(faked.ui.reconstructButton)
    faked.fake.events = [{"event": "result", "paths": {"volume": str(folder / "volume.nrrd")}}]
    recon = faked.logic.recon
    for _ in range(4):
        recon.poll()
    assert recon.isLoading
    assert "ball coverage" in names(running)
    running.scene.Clear()
    begins_anew(faked, running)


def test_a_scene_with_a_result_a_jig_and_a_region_is_closed(shown, running):
    jig = Nodes.pointsNodeFromArray(running.scene, np.zeros((1, 3)), ["1"], "Jig")
    shown.ui.jigSelector.setCurrentNode(jig)
    shown.ui.regionSelector.setCurrentNode(running.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode"))
    assert shown.parameters.jigNode is jig
    running.scene.Clear()
    begins_anew(shown, running)


def test_a_scene_that_is_added_leaves_what_is_chosen(shown, running, tmp_path):
    other, scene = tmp_path / "other.mrml", HeadlessScene().scene
    scene.AddNewNodeByClass("vtkMRMLTextNode", "Note")
    scene.Commit(str(other))
    jig = Nodes.pointsNodeFromArray(running.scene, np.zeros((1, 3)), ["1"], "Jig")
    region = running.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    region.CreateDefaultDisplayNodes()
    shown.ui.jigSelector.setCurrentNode(jig)
    shown.ui.regionSelector.setCurrentNode(region)
    running.scene.SetURL(str(other))
    running.scene.Import()
    assert shown.parameters.jigNode is jig and shown.ui.jigSelector.currentNode() is jig
    assert shown.parameters.regionNode is region and shown.ui.regionSelector.currentNode() is region
    assert region.GetDisplayVisibility()


def test_a_scene_that_is_closed_while_its_result_is_saved(shown, running, tmp_path):
    choose(shown.ui.formatComboBox, "Volume (NRRD)")
    write(shown.ui.saveFolderPath, str(tmp_path / "out"))
    click(shown.ui.saveButton)
    assert shown.ui.statusLabel.text == "Saving …"
    assert "being saved" in shown.ui.saveButton.toolTip
    assert shown.fake.requests[-1][0] == "export"
    asked = {"id": f"id{len(shown.fake.requests)}"}
    running.scene.Clear()
    begins_anew(shown, running)
    shown.fake.events = [{**asked, "event": "result", "paths": {"volume": str(tmp_path / "out" / "result-volume.nrrd")}}]
    wait_until(lambda: shown.ui.statusLabel.text.startswith("Saved to"), 20)  # the file was asked for
    assert "no result yet" in shown.ui.saveButton.toolTip
    assert shown.panel.error is None


def test_a_scene_that_is_closed_while_a_surface_is_computed(shown, running):
    shown.ui.thresholdSlider.value = 1.5 * shown.nodes.chosenPerMm
    wait_until(lambda: shown.fake.requests and shown.fake.requests[-1][0] == "bone", 20)
    asked = {"id": f"id{len(shown.fake.requests)}"}
    running.scene.Clear()
    begins_anew(shown, running)
    shown.fake.events = [{**asked, "event": "failure", "kind": "internal", "message": "The volume has gone.", "remedy": "Try again."}]
    wait_until(lambda: asked["id"] not in shown.logic.recon._errands, 20)
    assert shown.ui.statusLabel.text.startswith("Ready")  # it is of a scene that has gone
    assert shown.panel.error is None


# Saved


def test_the_panel_says_that_slicer_rests_before_it_does(shown, running, tmp_path, monkeypatch):
    said = []

    def save(scene, path: Path) -> Path:
        said.append((shown.ui.statusLabel.text, QApplication.overrideCursor() is not None))
        return saveScene(scene, path)

    monkeypatch.setattr(ResultSection, "saveScene", save)
    choose(shown.ui.formatComboBox, "Scene (.mrb)")
    write(shown.ui.saveFolderPath, str(tmp_path / "out"))
    click(shown.ui.saveButton)
    assert said == [("Saving the scene: Slicer rests until it is written …", True)]
    assert QApplication.overrideCursor() is None
    assert shown.ui.statusLabel.text == f"Saved to {tmp_path / 'out' / 'result.mrb'}."
    assert is_usable(shown.ui.saveButton)
