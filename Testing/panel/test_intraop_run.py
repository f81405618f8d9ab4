"""Step 4 of IntraopRecon's panel by mouse and keyboard: region, device, the run, cancelling it, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from fake_worker import FakeWorker
from small_case import make_small_case
from Testing.host.hands import OutOfReach, choose, click, wait_until, write
from Testing.host.values import unwrap

from IntraopReconLib.host.TimeLeft import TimeLeft
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
RUN_S = 200
WORDS_OF_OURS = ("gaussian", "splat", "sart", "voxels at", "kernel")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_small_case(tmp_path_factory.mktemp("small"))


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "ball")


def open_step(button) -> None:
    if button.collapsed:
        click(button)


@pytest.fixture
def faked(running, monkeypatch):
    """Return the open panel with a worker that says what the test has laid ready."""
    slicer.util.selectModule(NAME)
    widget, fake = running.widget(NAME), FakeWorker([])
    recon = widget.logic.recon
    recon.close()
    monkeypatch.setattr(recon, "_makeWorker", fake)
    widget.fake = fake
    widget.onSceneChanged()
    yield widget
    recon.close()
    monkeypatch.undo()
    open_step(widget.ui.xraysButton)


def choose_case(panel, case: Path) -> None:
    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    wait_until(lambda: panel.panel.prepared is not None, RUN_S)
    open_step(panel.ui.reconstructionButton)


def run_quickly(panel, case: Path) -> None:
    choose_case(panel, case)
    choose(panel.ui.qualityComboBox, "preview")
    choose(panel.ui.methodComboBox, "voxel")
    click(panel.ui.reconstructButton)


def names(scene) -> set[str]:
    return {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def test_what_cannot_be_used_says_why(panel):
    open_step(panel.ui.reconstructionButton)
    for widget in (panel.ui.reconstructButton, panel.ui.drawRegionButton):
        assert not unwrap(widget).isEnabled()
        assert "step 1" in widget.toolTip
    assert panel.ui.reconstructButton.text == "Reconstruct"


def test_the_worker_says_where_it_computes_and_why(panel):
    open_step(panel.ui.reconstructionButton)
    wait_until(lambda: panel.ui.deviceLabel.text, RUN_S)
    choose(panel.ui.deviceComboBox, "cpu")
    wait_until(lambda: "as chosen" in panel.ui.deviceLabel.text, RUN_S)
    assert panel.parameters.config().device == "cpu"
    choose(panel.ui.deviceComboBox, "auto")
    wait_until(lambda: panel.ui.deviceLabel.text and "as chosen" not in panel.ui.deviceLabel.text, RUN_S)


@pytest.mark.slow
def test_a_region_is_drawn_and_is_what_is_reconstructed(panel, running, case):
    choose_case(panel, case)
    click(panel.ui.drawRegionButton)
    wait_until(lambda: panel.parameters.regionNode is not None, RUN_S)
    node = panel.parameters.regionNode
    assert node.GetDisplayNode().GetHandlesInteractive()
    assert panel.ui.regionSelector.currentNode() is node
    box = Nodes.boxFromRoiNode(node)
    assert np.linalg.norm(box.center_lps_mm) < 10  # where the X-rays cross
    node.SetSize(60.0, 50.0, 40.0)  # as dragging a handle does
    choose(panel.ui.qualityComboBox, "preview")
    choose(panel.ui.methodComboBox, "voxel")
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.nodes is not None or panel.panel.error, RUN_S)
    _, grid = Nodes.arrayFromVolumeNode(panel.nodes.volume)
    np.testing.assert_allclose(grid.extent_mm, [60, 50, 40], atol=2)
    np.testing.assert_allclose(grid.center_lps_mm, Nodes.boxFromRoiNode(node).center_lps_mm, atol=1e-3)
    open_step(panel.ui.reconstructionButton)
    choose(panel.ui.regionSelector, "Automatic")
    assert panel.parameters.config().region is None
    running.scene.RemoveNode(node)


@pytest.mark.slow
def test_the_run_from_start_to_result(panel, running, case):
    said: list[str] = []
    panel.logic.recon.progressed.connect(lambda fraction, message: said.append(panel.ui.statusLabel.text))
    wait_until(lambda: panel.ui.deviceLabel.text, RUN_S)  # the worker is warm
    choose_case(panel, case)
    choose(panel.ui.qualityComboBox, "preview")
    choose(panel.ui.methodComboBox, "auto")
    start = time.monotonic()
    click(panel.ui.reconstructButton)
    assert panel.ui.reconstructButton.text == "Cancel"
    assert panel.ui.progressBar.visible
    with pytest.raises(OutOfReach, match="running"):
        choose(panel.ui.qualityComboBox, "best")
    wait_until(lambda: "ball preview" in names(running.scene) or panel.nodes, RUN_S)
    print(f"First preview after {time.monotonic() - start:.1f} s")
    wait_until(lambda: panel.nodes is not None or panel.panel.error, RUN_S)
    assert panel.panel.error is None
    assert panel.ui.statusLabel.text.startswith("Done: the result is graded")
    assert not panel.ui.resultButton.collapsed
    assert not panel.ui.progressBar.visible
    for text in said:
        assert not any(word in text.lower() for word in WORDS_OF_OURS), text


@pytest.mark.slow
def test_cancel_makes_the_panel_ready_within_a_second(panel, running, sample_case, tmp_path):
    case = shutil.copytree(sample_case / "lumbar", tmp_path / "lumbar", ignore=shutil.ignore_patterns("ground_truth*"))
    choose_case(panel, case)
    choose(panel.ui.qualityComboBox, "best")
    choose(panel.ui.methodComboBox, "splat")
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.ui.progressBar.value > 10, RUN_S)
    start = time.monotonic()
    click(panel.ui.reconstructButton)
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    print(f"Cancel: {time.monotonic() - start:.2f} s")
    assert time.monotonic() - start < 1.5  # the machine may be busy; the logic itself waits .8 s at most
    assert panel.ui.statusLabel.text == "Cancelled."
    assert unwrap(panel.ui.reconstructButton).isEnabled()
    click(panel.ui.reconstructButton)  # and it can be started again
    wait_until(lambda: panel.ui.progressBar.value > 2, RUN_S)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_killed_worker_is_a_sentence_and_the_next_run_goes_on(panel, running, case):
    run_quickly(panel, case)
    os.kill(panel.logic.recon._worker.pid, signal.SIGKILL)
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    assert "memory" in panel.ui.statusLabel.text
    assert running.answers.shown == []
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.nodes is not None or panel.panel.error, RUN_S)
    assert panel.panel.error is None


@pytest.mark.slow
def test_a_scene_that_is_closed_while_it_runs(panel, running, case):
    run_quickly(panel, case)
    wait_until(lambda: "ball preview" in names(running.scene) or panel.nodes, RUN_S)
    running.scene.Clear()
    wait_until(lambda: not panel.logic.recon.isRunning, 20)
    assert panel.nodes is None
    assert not any("ball" in name for name in names(running.scene))


def test_wrong_input_is_a_sentence(panel, running, case):
    (case / "poses.json").write_text("no poses")
    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    wait_until(lambda: not panel.logic.preparation.isRunning and not panel.panel.reasonNotToPrepare(), RUN_S)
    open_step(panel.ui.reconstructionButton)
    wait_until(lambda: unwrap(panel.ui.reconstructButton).isEnabled(), RUN_S)
    click(panel.ui.reconstructButton)
    wait_until(lambda: not panel.logic.recon.isRunning, RUN_S)
    assert "poses.json" in panel.ui.statusLabel.text
    assert "Traceback" not in panel.ui.statusLabel.text
    assert panel.ui.copyDetailsButton.visible
    assert running.answers.shown == []


def test_settings_come_back_with_the_scene(panel, running, tmp_path):
    open_step(panel.ui.reconstructionButton)
    choose(panel.ui.qualityComboBox, "best")
    choose(panel.ui.methodComboBox, "splat")
    choose(panel.ui.deviceComboBox, "cpu")
    node = Nodes.roiNodeFromBox(running.scene, Nodes.Box(np.zeros(3), np.full(3, 50.0), np.eye(3)), "mine")
    choose(panel.ui.regionSelector, "mine")
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.qualityComboBox.currentText == "standard"
    assert panel.ui.regionSelector.currentNode() is None
    loadScene(running.scene, tmp_path / "scene.mrb")
    texts = [getattr(panel.ui, f"{name}ComboBox").currentText for name in ("quality", "method", "device")]
    assert texts == ["best", "splat", "cpu"]
    assert panel.ui.regionSelector.currentNode().GetName() == "mine"
    assert node.GetName() == "mine"


def test_progress_says_how_long_it_takes(faked, case, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(TimeLeft.__init__, "__defaults__", (lambda: now[0],))
    choose_case(faked, case)
    click(faked.ui.reconstructButton)
    said = []
    for seconds, fraction in ((0, 0.0), (1, 0.1), (2, 0.11), (61, 0.2), (121, 0.3), (541, 0.9), (600, 0.99)):
        now[0] = float(seconds)
        faked.fake.events = [{"event": "progress", "fraction": fraction, "message": "Fitting the bone to the X-rays"}]
        before = faked.ui.statusLabel.text
        wait_until(lambda before=before, fraction=fraction: faked.ui.progressBar.value == round(100 * fraction) or before == "", 5)
        said.append(faked.ui.statusLabel.text.removeprefix("Fitting the bone to the X-rays").strip())
    assert said[1:] == [
        "",
        "",
        "(about 8 minutes left)",
        "(about 7 minutes left)",
        "(about a minute left)",
        "(less than a minute left)",
    ]


def test_a_run_that_goes_on_is_measured_by_what_it_does_itself():
    now = [0.0]
    left = TimeLeft(lambda: now[0])
    assert left.sentence(0.6) == ""
    now[0] = 60.0
    assert left.sentence(0.7) == "about 3 minutes left"


def test_the_worker_is_started_when_the_panel_is_opened(faked):
    slicer.util.selectModule("ShapeCompletion")
    faked.fake.requests.clear()
    slicer.util.selectModule(NAME)
    assert "warmup" in [kind for kind, _ in faked.fake.requests]
