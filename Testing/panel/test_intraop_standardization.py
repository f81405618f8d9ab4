"""Step 3 of IntraopRecon's panel by mouse and keyboard: what a standardization makes of the X-rays."""

from __future__ import annotations

from pathlib import Path

import pytest
from bead_case import VIEWS, bead_case, open_step, read_case
from Testing.host.hands import OutOfReach, choose, click, select_cell, slide, wait_until, watch_blocks
from Testing.host.values import unwrap

from IntraopReconLib.core.calibrate_case import calibrate_case
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
RUN_S = 240


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """Return a case with poses; nobody writes into it."""
    folder = bead_case(tmp_path_factory.mktemp("standardization") / "knee")
    calibrate_case(folder)
    return folder


def open_case(panel, folder: Path) -> None:
    read_case(panel, folder)
    open_step(panel.ui.standardizationButton)


def picture(panel) -> bytes:
    return bytes(unwrap(panel.ui.standardizationPicture).pixmap().toImage().constBits())


def test_nothing_can_be_seen_without_xrays_and_poses(panel, case):
    open_step(panel.ui.standardizationButton)
    with pytest.raises(OutOfReach, match="Read the X-rays in step 1 first"):
        click(panel.ui.tryStandardizationButton)
    for widget in (panel.ui.beforeAfterSlider, panel.ui.shownComboBox):
        assert not widget.enabled
        assert "Nothing has been standardized yet" in widget.toolTip
    open_case(panel, case)
    open_step(panel.ui.xraysButton)
    for row in range(VIEWS - 1):
        select_cell(panel.ui.viewsTable, row, on_check_box=True)
    open_step(panel.ui.standardizationButton)
    with pytest.raises(OutOfReach, match="Fewer than two"):
        click(panel.ui.tryStandardizationButton)


@pytest.mark.slow
def test_before_and_after(panel, running, case):
    open_case(panel, case)
    choose(panel.ui.standardizeComboBox, "on")
    with watch_blocks() as blocks:
        click(panel.ui.tryStandardizationButton)
        assert panel.ui.tryStandardizationButton.text == "Cancel"
        wait_until(lambda: not panel.logic.preparation.isRunning, RUN_S)
    print(f"GUI thread: blocked for {blocks.wall_ms:.0f} ms at most, of which it computed {blocks.cpu_ms:.0f} ms")
    assert blocks.cpu_ms < 100
    assert panel.ui.statusLabel.text == "The X-rays were standardized, as asked for."
    assert panel.ui.standardizationLabel.text
    middle = picture(panel)
    slide(panel.ui.beforeAfterSlider, 20)
    assert picture(panel) != middle
    slide(panel.ui.beforeAfterSlider, -20)
    assert picture(panel) == middle
    for index in (1, 2):
        panel.ui.shownComboBox.setCurrentIndex(index)
        assert picture(panel) != middle
    choose(panel.ui.shownComboBox, "bone")
    assert picture(panel) == middle
    choose(panel.ui.standardizedViewComboBox, "view_002")
    assert panel.panel.current.name == "xrays/view_002.dcm"
    assert picture(panel) != middle
    assert running.answers.shown == []


def test_off_and_auto_say_what_they_do(panel, case):
    open_case(panel, case)
    choose(panel.ui.standardizeComboBox, "off")
    assert panel.parameters.config().standardize == "off"
    assert panel.ui.standardizationLabel.text == "The X-rays are reconstructed as they are."
    with pytest.raises(OutOfReach, match="choose auto or on"):
        click(panel.ui.tryStandardizationButton)
    choose(panel.ui.standardizeComboBox, "auto")
    click(panel.ui.tryStandardizationButton)
    wait_until(lambda: not panel.logic.preparation.isRunning, RUN_S)
    assert panel.panel.standardized is not None
    assert panel.ui.statusLabel.text == panel.panel.standardized.reason
    assert panel.ui.beforeAfterSlider.enabled == panel.panel.standardized.applies


def test_cancel_and_a_saved_scene(panel, running, case, tmp_path):
    open_case(panel, case)
    choose(panel.ui.standardizeComboBox, "on")
    click(panel.ui.tryStandardizationButton)
    click(panel.ui.tryStandardizationButton)
    wait_until(lambda: not panel.logic.preparation.isRunning, 5)
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.panel.standardized is None
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.standardizeComboBox.currentText == "auto"
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.ui.standardizeComboBox.currentText == "on"
