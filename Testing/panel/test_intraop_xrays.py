"""Step 1 of IntraopRecon's panel by mouse and keyboard: X-rays come in, are looked at, and are skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import slicer
from bead_case import READ_S, VIEWS, bead_case, read_case
from PySide6.QtCore import Qt
from Testing.host.hands import OutOfReach, click, drop, select_cell, wait_until, watch_blocks, write
from Testing.host.values import unwrap

from IntraopReconLib.core.calibrate_case import calibrate_case
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """Return a case with poses; nobody writes into it."""
    folder = bead_case(tmp_path_factory.mktemp("xrays") / "knee")
    calibrate_case(folder)
    return folder


def cells(table) -> list[list[str]]:
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def shown_planes(scene) -> list[str]:
    """Return the names of the pictures that stand in 3D: of strips of triangles, in which frusta have none."""
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLModelNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLModelNode"))]
    return [node.GetName() for node in nodes if node.GetPolyData().GetNumberOfStrips() and node.GetDisplayVisibility()]


def test_the_empty_panel_says_what_to_do(panel):
    assert "Choose a folder" in panel.ui.viewsLabel.text
    with pytest.raises(OutOfReach, match="Choose the folder of the X-rays first"):
        click(panel.ui.readButton)
    with pytest.raises(OutOfReach, match="poses are known"):
        click(panel.ui.showXraysCheckBox)


def test_the_xrays_of_a_case_are_in_the_table_and_in_3d(panel, running, calibrated):
    write(panel.ui.caseFolderPath, str(calibrated))
    with watch_blocks() as blocks:
        wait_until(lambda: panel.ui.viewsTable.rowCount == VIEWS, READ_S)
        wait_until(lambda: not panel.ui.viewsTable.item(VIEWS - 1, 0).icon().isNull())
    print(f"GUI thread: blocked for {blocks.wall_ms:.0f} ms at most, of which it computed {blocks.cpu_ms:.0f} ms")
    assert blocks.cpu_ms < 100
    rows = cells(panel.ui.viewsTable)
    assert [row[0] for row in rows] == [f"view_{number:03d}" for number in range(VIEWS)]
    assert all("°" in row[1] for row in rows)
    assert {row[2] for row in rows} <= {"green", "amber"}
    assert panel.ui.viewsLabel.text.startswith(f"{VIEWS} X-rays, of which {VIEWS} will be used.")
    assert len(shown_planes(running.scene)) == VIEWS
    click(panel.ui.showXraysCheckBox)
    assert shown_planes(running.scene) == []
    click(panel.ui.showXraysCheckBox)
    assert len(shown_planes(running.scene)) == VIEWS


def test_a_skipped_xray_is_kept_out_of_3d_and_of_the_request(panel, running, calibrated):
    read_case(panel, calibrated)
    select_cell(panel.ui.viewsTable, 1, on_check_box=True)
    assert panel.parameters.skipped == ("xrays/view_001.dcm",)
    assert len(shown_planes(running.scene)) == VIEWS - 1
    assert f"{VIEWS - 1} will be used" in panel.ui.viewsLabel.text
    select_cell(panel.ui.viewsTable, 1, on_check_box=True)
    assert panel.parameters.skipped == ()
    select_cell(panel.ui.viewsTable, 3, 1)
    assert panel.parameters.settings.currentView == "xrays/view_003.dcm"
    assert panel.panel.current.name == "xrays/view_003.dcm"


def test_a_folder_of_files_becomes_a_case_at_a_click(panel, calibrated, tmp_path):
    folder = shutil.copytree(calibrated / "xrays", tmp_path / "from the tower")
    write(panel.ui.caseFolderPath, str(folder))
    wait_until(lambda: not panel.logic.preparation.isRunning, READ_S)
    assert panel.panel.prepared is None
    click(panel.ui.readButton)
    wait_until(lambda: panel.panel.prepared is not None, READ_S)
    case = Path(panel.ui.caseFolderPath.currentPath)
    assert case == Path(slicer.app.defaultScenePath) / "SparseAnatomy" / "from the tower"
    assert len(list((case / "xrays").iterdir())) == VIEWS
    assert "no pose" in cells(panel.ui.viewsTable)[0]
    assert "find them in step 2" in panel.ui.viewsLabel.text
    assert sorted(path.name for path in folder.iterdir()) == [f"view_{number:03d}.dcm" for number in range(VIEWS)]


def test_files_are_dropped_on_the_panel(panel, calibrated, tmp_path):
    files = sorted((calibrated / "xrays").iterdir())[:3]
    drop(panel.ui.noticeLabel.parentWidget(), files)
    wait_until(lambda: panel.ui.viewsTable.rowCount == 3, READ_S)
    assert panel.ui.statusLabel.text.startswith("3 X-rays of")
    drop(panel.ui.noticeLabel.parentWidget(), [calibrated])
    wait_until(lambda: panel.ui.viewsTable.rowCount == VIEWS, READ_S)
    assert panel.ui.caseFolderPath.currentPath == str(calibrated)


def test_the_selection_of_the_dicom_browser(panel, running, calibrated):
    click(panel.ui.dicomButton)
    assert "Open Slicer's DICOM module" in panel.ui.statusLabel.text
    running.dicom.add("1.2.3", sorted((calibrated / "xrays").iterdir()))
    running.dicom.open_module(slicer.modules)
    click(panel.ui.dicomButton)
    assert "Nothing is selected" in panel.ui.statusLabel.text
    running.dicom.select("1.2.3")
    click(panel.ui.dicomButton)
    wait_until(lambda: panel.ui.viewsTable.rowCount == VIEWS, READ_S)


def test_what_is_no_xray_is_a_sentence_with_a_remedy(panel, running, tmp_path):
    (tmp_path / "notes.txt").write_text("no X-ray")
    drop(panel.ui.noticeLabel.parentWidget(), [tmp_path / "notes.txt"])
    wait_until(lambda: "notes.txt is not a DICOM file" in panel.ui.statusLabel.text, READ_S)
    click(panel.ui.copyDetailsButton)
    assert "Remedy: Choose X-ray images" in running.app.clipboard().text()
    assert running.answers.shown == []


def test_a_saved_scene_restores_the_step(panel, running, calibrated, tmp_path):
    read_case(panel, calibrated)
    select_cell(panel.ui.viewsTable, 2, on_check_box=True)
    select_cell(panel.ui.viewsTable, 3, 1)
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.viewsTable.rowCount == 0
    assert panel.ui.caseFolderPath.currentPath == ""
    loadScene(running.scene, tmp_path / "scene.mrb")
    wait_until(lambda: panel.ui.viewsTable.rowCount == VIEWS, READ_S)
    assert unwrap(panel.ui.viewsTable.item(2, 0)).checkState() == Qt.CheckState.Unchecked
    assert panel.ui.viewsTable.currentRow() == 3
    assert len(shown_planes(running.scene)) == VIEWS - 1  # made once again, not loaded a second time


def test_another_folder_while_one_is_read(panel, calibrated, tmp_path):
    other = bead_case(tmp_path / "other")
    drop(panel.ui.noticeLabel.parentWidget(), [calibrated])
    drop(panel.ui.noticeLabel.parentWidget(), [other])
    wait_until(lambda: panel.ui.caseFolderPath.currentPath == str(other), READ_S)
    assert not any(view.hasPose for view in panel.panel.prepared.views)


def test_a_scene_that_is_closed_while_xrays_are_read(panel, running, calibrated):
    drop(panel.ui.noticeLabel.parentWidget(), [calibrated])
    running.scene.Clear()
    wait_until(lambda: not panel.logic.preparation.isRunning, READ_S)
    assert panel.ui.viewsTable.rowCount == 0
    assert shown_planes(running.scene) == []
