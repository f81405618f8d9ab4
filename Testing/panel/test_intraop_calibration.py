"""Step 2 of IntraopRecon's panel by mouse and keyboard: poses are found, looked at, mended by hand, or loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from bead_case import READ_S, VIEWS, bead_case, open_step, read_case
from Testing.host.hands import OutOfReach, choose, click, click_at, drag, select_cell, turn_wheel, wait_until, watch_blocks, write

from IntraopReconLib.core.calibrate_case import calibrate_case
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.pose_exchange import export_from_case
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
SOLVE_S = 120


@pytest.fixture(scope="module")
def beads(tmp_path_factory) -> Path:
    """Return a case without poses; nobody writes into it."""
    return bead_case(tmp_path_factory.mktemp("calibration") / "knee")


@pytest.fixture(scope="module")
def solved(beads, tmp_path_factory) -> Path:
    """Return it calibrated."""
    folder = shutil.copytree(beads, tmp_path_factory.mktemp("solved") / "knee")
    calibrate_case(folder)
    return folder


def is_idle(panel) -> bool:
    return not panel.logic.preparation.isRunning


def on_picture(panel, column: float, row: float) -> tuple[float, float]:
    """Return where a place of the X-ray is on the picture."""
    return panel.sections[1]._picture.pointOnLabel(column, row)


def column_of(table, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def open_case(panel, folder: Path) -> None:
    read_case(panel, folder)
    open_step(panel.ui.calibrationButton)


def solve(panel) -> None:
    click(panel.ui.calibrateButton)
    assert panel.ui.calibrateButton.text == "Cancel"
    wait_until(lambda: is_idle(panel), SOLVE_S)


def test_nothing_can_be_done_without_xrays(panel):
    open_step(panel.ui.calibrationButton)
    open_step(panel.ui.otherPosesButton)
    for button in (panel.ui.calibrateButton, panel.ui.loadPosesButton, panel.ui.resetBeadsButton):
        with pytest.raises(OutOfReach, match="Read the X-rays in step 1 first"):
            click(button)


def test_poses_are_found_with_the_beads_of_the_case(panel, running, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    open_case(panel, case)
    assert "have not been searched" in panel.ui.beadsLabel.text
    assert panel.ui.beadsLegendLabel.text == ""
    with watch_blocks() as blocks:
        solve(panel)
    print(f"GUI thread: blocked for {blocks.wall_ms:.0f} ms at most, of which it computed {blocks.cpu_ms:.0f} ms")
    assert blocks.cpu_ms < 100
    assert panel.ui.statusLabel.text.startswith(f"The poses of {VIEWS} of {VIEWS} X-rays were found")
    assert set(column_of(panel.ui.residualsTable, 3)) <= {"green", "amber"}
    assert all(text.endswith(" px") for text in column_of(panel.ui.residualsTable, 2))
    assert "explained" in panel.ui.beadsLegendLabel.text
    assert (case / "poses.json").is_file()
    assert running.answers.shown == []
    assert panel.panel.frames is not None
    open_step(panel.ui.xraysButton)
    assert f"{VIEWS} will be used" in panel.ui.viewsLabel.text


def test_the_jig_is_chosen_in_the_scene(panel, running, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    jig = read_fiducials(case / "fiducials.mrk.json")
    (case / "fiducials.mrk.json").unlink()
    node = Nodes.pointsNodeFromArray(running.scene, jig.position_lps_mm, list(jig.labels), "Knee jig")
    open_case(panel, case)
    choose(panel.ui.jigSelector, "Knee jig")
    assert panel.parameters.jigNode is node
    with pytest.raises(OutOfReach, match="points of the scene"):
        write(panel.ui.jigFilePath, "x")
    solve(panel)
    assert panel.ui.statusLabel.text.startswith(f"The poses of {VIEWS} of {VIEWS}")
    np.testing.assert_allclose(read_fiducials(case / "calibration" / "jig.mrk.json").position_lps_mm, jig.position_lps_mm, atol=1e-6)


def test_without_a_jig_a_sentence_says_what_is_needed(panel, running, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    (case / "fiducials.mrk.json").rename(tmp_path / "jig.mrk.json")
    open_case(panel, case)
    solve(panel)
    assert panel.panel.error is not None
    assert panel.panel.error.remedy
    assert panel.ui.copyDetailsButton.visible
    assert running.answers.shown == []
    write(panel.ui.jigFilePath, str(tmp_path / "jig.mrk.json"))
    solve(panel)
    assert panel.ui.statusLabel.text.startswith(f"The poses of {VIEWS} of {VIEWS}")
    assert not panel.ui.copyDetailsButton.visible


def test_beads_are_moved_added_and_removed_by_the_mouse(panel, solved, tmp_path):
    case = shutil.copytree(solved, tmp_path / "knee")
    open_case(panel, case)
    select_cell(panel.ui.residualsTable, 2)
    view = panel.panel.current
    assert view.name == "xrays/view_002.dcm"
    picture = panel.ui.beadsPicture
    found = [bead for bead in view.beads if bead.origin == "detected"]
    with pytest.raises(OutOfReach, match="not edited"):
        click(panel.ui.resetBeadsButton)
    # remove one
    click_at(picture, *on_picture(panel, found[0].column, found[0].row), right=True)
    assert len(json.loads(panel.parameters.settings.editedBeads)[view.name]) == len(found) - 1
    # move another by some pixels
    x, y = on_picture(panel, found[1].column, found[1].row)
    drag(picture, (x, y), (x + 12, y + 9))
    scale = panel.sections[1]._picture._scale()
    moved = json.loads(panel.parameters.settings.editedBeads)[view.name][0]
    np.testing.assert_allclose(moved[:2], [found[1].column + 12 / scale, found[1].row + 9 / scale], atol=1.5 / scale)
    # add one where the first was
    click_at(picture, *on_picture(panel, found[0].column, found[0].row), double=True)
    placed = json.loads(panel.parameters.settings.editedBeads)[view.name]
    assert len(placed) == len(found)
    np.testing.assert_allclose(placed[-1][:2], [found[0].column, found[0].row], atol=1.0)
    assert "edited" in panel.ui.beadsLabel.text
    solve(panel)
    again = next(other for other in panel.panel.prepared.views if other.name == view.name)
    assert again.isByHand
    assert sum(bead.number is None for bead in again.beads if bead.origin == "by hand") >= 1  # the one that was moved off
    assert panel.parameters.settings.editedBeads == ""
    # and back
    click(panel.ui.resetBeadsButton)
    solve(panel)
    assert not any(other.isByHand for other in panel.panel.prepared.views)
    assert not list((case / "calibration").glob("beads_*"))


def test_the_wheel_magnifies_what_is_under_the_mouse(panel, solved):
    open_case(panel, solved)
    picture, view = panel.ui.beadsPicture, panel.sections[1]._picture
    bead = panel.panel.current.beads[0]
    turn_wheel(picture, 1, 1, 0)  # scrolls to it
    x, y = (round(value) for value in on_picture(panel, bead.column, bead.row))
    before = view._imagePoint(x, y)
    turn_wheel(picture, x, y, 6)
    assert view._zoom > 3
    np.testing.assert_allclose(view._imagePoint(x, y), before, atol=1e-6)
    drag(picture, (10, 10), (40, 30))  # the picture itself, where no bead is
    np.testing.assert_allclose(view._imagePoint(x + 30, y + 20), before, atol=1e-6)
    turn_wheel(picture, x, y, -9)
    assert view._zoom == 1.0
    assert panel.parameters.settings.editedBeads == ""


def test_poses_are_loaded_from_a_file(panel, running, solved, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    export_from_case(solved, tmp_path / "poses.txt", "matrices")
    open_case(panel, case)
    open_step(panel.ui.otherPosesButton)
    with pytest.raises(OutOfReach, match="Choose the pose file first"):
        click(panel.ui.loadPosesButton)
    write(panel.ui.poseFilePath, str(tmp_path / "fiction.txt"))
    click(panel.ui.loadPosesButton)
    wait_until(lambda: is_idle(panel), SOLVE_S)
    assert "fiction.txt" in panel.ui.statusLabel.text
    assert panel.ui.copyDetailsButton.visible
    write(panel.ui.poseFilePath, str(tmp_path / "poses.txt"))
    click(panel.ui.loadPosesButton)
    wait_until(lambda: is_idle(panel), SOLVE_S)
    assert panel.ui.statusLabel.text == f"{VIEWS} of {VIEWS} X-rays have a pose from the file."
    assert column_of(panel.ui.residualsTable, 3) == ["not graded"] * VIEWS
    assert panel.panel.frames is not None


def test_poses_with_a_file_a_camera_are_loaded_from_their_folder(panel, running, solved, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    written, _ = export_from_case(solved, tmp_path / "cameras", "mayacam")
    open_case(panel, case)
    open_step(panel.ui.otherPosesButton)
    write(panel.ui.poseFilePath, str(written[0]))
    click(panel.ui.loadPosesButton)
    wait_until(lambda: is_idle(panel), SOLVE_S)
    assert f"Only 1 of {VIEWS} X-rays would have a pose" in panel.ui.statusLabel.text
    for answer in (str(tmp_path / "cameras"), ""):  # a dialog that is closed changes nothing
        running.answers.files.append(answer)
        click(panel.ui.poseFolderButton)
        assert panel.ui.poseFilePath.currentPath == str(tmp_path / "cameras")
    click(panel.ui.loadPosesButton)
    wait_until(lambda: is_idle(panel), SOLVE_S)
    assert panel.ui.statusLabel.text == f"{VIEWS} of {VIEWS} X-rays have a pose from the file."


def test_cancel_leaves_the_case_as_it_was(panel, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    open_case(panel, case)
    click(panel.ui.calibrateButton)
    click(panel.ui.calibrateButton)
    assert panel.ui.statusLabel.text == "Stopping …"
    wait_until(lambda: is_idle(panel), 5)
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.ui.calibrateButton.text == "Find the poses"
    assert not (case / "poses.json").exists()
    solve(panel)
    assert (case / "poses.json").exists()


def test_what_works_on_the_xrays_rests_while_they_are_read_again(panel, solved):
    open_case(panel, solved)
    panel.logic.preparation.describe([str(solved)])
    panel.panel.changed.emit()
    for step, button in ((panel.ui.calibrationButton, "calibrateButton"), (panel.ui.standardizationButton, "tryStandardizationButton")):
        open_step(step)
        with pytest.raises(OutOfReach, match="are being read"):
            click(getattr(panel.ui, button))
    wait_until(lambda: is_idle(panel), READ_S)
    assert panel.ui.statusLabel.text.endswith("have been read.")
    assert panel.ui.tryStandardizationButton.enabled and panel.ui.calibrateButton.enabled


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_killed_worker_is_a_sentence_and_the_next_one_works(panel, running, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    open_case(panel, case)
    click_at(panel.ui.beadsPicture, *on_picture(panel, 30, 30), double=True)
    edited = panel.parameters.settings.editedBeads
    assert edited
    click(panel.ui.calibrateButton)
    os.kill(panel.logic.preparation._worker.pid, signal.SIGKILL)
    wait_until(lambda: is_idle(panel), SOLVE_S)
    assert "memory" in panel.ui.statusLabel.text
    assert panel.ui.copyDetailsButton.visible
    assert panel.parameters.settings.editedBeads == edited
    click(panel.ui.resetBeadsButton)
    solve(panel)
    assert panel.ui.statusLabel.text.startswith(f"The poses of {VIEWS} of {VIEWS}")
    assert running.answers.shown == []


def test_a_scene_that_is_closed_while_poses_are_found(panel, running, beads, tmp_path):
    case = shutil.copytree(beads, tmp_path / "knee")
    open_case(panel, case)
    click(panel.ui.calibrateButton)
    running.scene.Clear()
    wait_until(lambda: is_idle(panel), 5)
    assert panel.ui.calibrateButton.text == "Find the poses"
    assert not panel.ui.calibrateButton.enabled
    assert panel.ui.residualsTable.rowCount == 0
    assert panel.ui.statusLabel.text.startswith("Ready")


def test_a_path_that_is_cleared_is_forgotten(panel):
    open_step(panel.ui.calibrationButton)
    for path, name in ((panel.ui.jigFilePath, "jigFile"), (panel.ui.poseFilePath, "poseFile"), (panel.ui.saveFolderPath, "saveFolder")):
        path.setCurrentPath("something")
        assert getattr(panel.parameters.settings, name) == "something"
        path.setCurrentPath("")
        assert getattr(panel.parameters.settings, name) == ""


def test_a_saved_scene_restores_the_step(panel, running, solved, tmp_path):
    open_case(panel, solved)
    write(panel.ui.jigFilePath, "jig.mrk.json")
    open_step(panel.ui.otherPosesButton)
    choose(panel.ui.poseUnitComboBox, "cm")
    select_cell(panel.ui.residualsTable, 1)
    first = panel.panel.current.beads[0]
    click_at(panel.ui.beadsPicture, *on_picture(panel, first.column, first.row), right=True)
    edited = panel.parameters.settings.editedBeads
    assert edited
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.jigFilePath.currentPath == ""
    assert panel.ui.beadsLabel.text == ""
    loadScene(running.scene, tmp_path / "scene.mrb")
    wait_until(lambda: panel.panel.prepared is not None, READ_S)
    assert panel.ui.jigFilePath.currentPath == "jig.mrk.json"
    assert panel.ui.poseUnitComboBox.currentText == "cm"
    assert panel.parameters.settings.editedBeads == edited
    assert panel.ui.residualsTable.currentRow() == 1
    assert "edited" in panel.ui.beadsLabel.text
