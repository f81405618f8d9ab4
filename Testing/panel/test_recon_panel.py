"""The panel of IntraopRecon by mouse and keyboard, with the real worker on the sample case."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from Testing.host.hands import choose, click, wait_until, watch_blocks, write

from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
RUN_S = 240


@pytest.fixture
def case(sample_case: Path, tmp_path: Path) -> Path:
    """Return a copy of the sample case."""
    return shutil.copytree(sample_case / "lumbar", tmp_path / "lumbar", ignore=shutil.ignore_patterns("ground_truth*"))


def start(panel, case: Path, quality: str = "preview", method: str = "voxel") -> None:
    """Type the folder, choose and press the button."""
    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    open_step(panel.ui.reconstructionButton)
    choose(panel.ui.qualityComboBox, quality)
    choose(panel.ui.methodComboBox, method)
    click(panel.ui.reconstructButton)


def open_step(button) -> None:
    """Open a step of the panel, which closes the others."""
    if button.collapsed:
        click(button)


def names(scene) -> set[str]:
    return {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def test_the_empty_panel_lets_nothing_be_started(panel):
    assert not panel.ui.reconstructButton.enabled
    assert not panel.ui.showXraysCheckBox.enabled
    assert not panel.ui.progressBar.visible
    assert panel.ui.statusLabel.text.startswith("Ready")
    assert "not a medical device" in panel.ui.noticeLabel.text


def test_a_folder_without_a_case_is_said_with_what_to_do(panel, running, tmp_path):
    start(panel, tmp_path / "nowhere")
    assert "There is no case folder" in panel.ui.statusLabel.text
    assert running.answers.shown == []
    click(panel.ui.copyDetailsButton)
    assert "Remedy: Choose the folder" in running.app.clipboard().text()
    (tmp_path / "empty").mkdir()
    start(panel, tmp_path / "empty")
    wait_until(lambda: not panel.logic.recon.isRunning)
    assert "Traceback" not in panel.ui.statusLabel.text
    assert panel.ui.copyDetailsButton.visible
    assert panel.ui.reconstructButton.text == "Reconstruct"
    assert panel.ui.qualityComboBox.enabled


def test_browse(panel, running, case):
    open_step(panel.ui.xraysButton)
    running.answers.files[:] = [str(case)]
    browse = panel.ui.caseFolderPath.findChildren("QToolButton")[0]
    click(browse)
    assert panel.parameters.settings.caseFolder == str(case)
    assert panel.ui.reconstructButton.enabled


@pytest.mark.slow
def test_from_an_empty_scene_to_the_result_and_on(panel, running, case, tmp_path, record_property):
    with watch_blocks() as blocks:
        start(panel, case)
        assert panel.ui.reconstructButton.text == "Cancel"
        assert not panel.ui.qualityComboBox.enabled
        assert panel.ui.progressBar.visible
        wait_until(lambda: panel.nodes is not None or not panel.logic.recon.isRunning, RUN_S)
    record_property("gui_thread_blocked_ms", round(blocks.wall_ms))
    record_property("gui_thread_computed_ms", round(blocks.cpu_ms))
    print(f"GUI thread: blocked for {blocks.wall_ms:.0f} ms at most, of which it computed {blocks.cpu_ms:.0f} ms")
    assert running.answers.shown == []
    assert panel.ui.statusLabel.text.startswith("Done: the result is graded")
    assert (case / "result" / "volume.nrrd").is_file()
    planes = panel.nodes.xrays.planes
    open_step(panel.ui.xraysButton)
    click(panel.ui.showXraysCheckBox)
    assert all(plane.GetDisplayVisibility() for plane in planes)
    click(panel.ui.showXraysCheckBox)
    assert not any(plane.GetDisplayVisibility() for plane in planes)
    # save, close, load: the panel says again what it said, and goes on
    before = names(running.scene)
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.caseFolderPath.currentPath == ""
    assert not panel.ui.showXraysCheckBox.enabled
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert {"lumbar volume", "lumbar bone"} <= names(running.scene) & before
    assert panel.ui.caseFolderPath.currentPath == str(case)
    assert (panel.ui.qualityComboBox.currentText, panel.ui.methodComboBox.currentText) == ("preview", "voxel")
    open_step(panel.ui.reconstructionButton)
    click(panel.ui.reconstructButton)
    assert panel.ui.reconstructButton.text == "Cancel"


@pytest.mark.slow
def test_cancel_comes_within_seconds_and_the_next_run_works(panel, running, case):
    start(panel, case, "best", "ixgs")  # which takes minutes, so that it is not done before it is cancelled
    wait_until(lambda: panel.ui.progressBar.value > 2, RUN_S)
    before = time.monotonic()
    click(panel.ui.reconstructButton)
    assert panel.ui.statusLabel.text == "Stopping …"
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    print(f"Cancel: {time.monotonic() - before:.1f} s")
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.ui.reconstructButton.text == "Reconstruct"
    assert running.answers.shown == []
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.ui.progressBar.value > 2, RUN_S)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_killed_worker_is_a_sentence_and_the_next_run_goes_on(panel, running, case):
    start(panel, case, "best", "ixgs")
    wait_until(lambda: panel.ui.progressBar.value > 2, RUN_S)
    os.kill(panel.logic.recon._worker.pid, signal.SIGKILL)
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    assert "memory" in panel.ui.statusLabel.text
    assert running.answers.shown == []
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.ui.progressBar.value > 2, RUN_S)


@pytest.mark.slow
def test_a_scene_that_is_closed_while_it_runs(panel, running, case):
    start(panel, case)
    wait_until(lambda: panel.ui.progressBar.value > 0 or not panel.logic.recon.isRunning, RUN_S)
    running.scene.Clear()
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    assert panel.ui.reconstructButton.text == "Reconstruct"
    assert not panel.ui.reconstructButton.enabled
    assert running.answers.shown == []
    assert not any("lumbar" in name for name in names(running.scene))
