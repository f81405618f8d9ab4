"""Opening, leaving and reloading the panels: nothing heavy is imported, and an old panel no longer listens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from Testing.host.desktop import desktop
from Testing.host.hands import click, wait_until, write

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("IntraopRecon", "ShapeCompletion")
SCRIPTS = [REPOSITORY / name / f"{name}.py" for name in MODULES]

OPEN = """
import sys, time
sys.path[:0] = PATHS
from Testing.host.desktop import desktop
from pathlib import Path
with desktop() as running:
    import slicer
    running.main_window.show()
    running.load(*map(Path, SCRIPTS))
    for name in ("IntraopRecon", "ShapeCompletion"):
        start = time.perf_counter()
        slicer.util.selectModule(name)
        running.app.processEvents()
        print(f"{name} opens in {time.perf_counter() - start:.2f} s")
    heavy = {"torch", "numba", "matplotlib", "skimage", "jinja2"} & set(sys.modules)
    assert not heavy, heavy
"""


def test_panels_open_without_torch():
    """In a process of its own: the tests themselves import torch. The worker that the panel warms up has it."""
    paths = [str(REPOSITORY / part) for part in (".", *MODULES)]
    program = f"PATHS = {paths!r}\nSCRIPTS = {[str(path) for path in SCRIPTS]!r}\n{OPEN}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    print(result.stdout)


@pytest.fixture
def running():
    """Return a desktop of the test's own: a reload leaves other classes behind."""
    with desktop() as running:
        running.load(*SCRIPTS)
        running.main_window.show()
        yield running


def test_a_reloaded_panel_works_and_the_old_one_is_deaf(running):
    slicer.util.selectModule("IntraopRecon")
    old = running.widget("IntraopRecon")
    old.onReload()
    new = running.widget("IntraopRecon")
    assert new is not old
    assert type(new) is not type(old)
    heard = []
    old.onSceneChanged = lambda *_: heard.append("old")
    write(new.ui.caseFolderPath, "nowhere")
    click(new.ui.reconstructionButton)
    click(new.ui.reconstructButton)
    assert "There is no case folder nowhere" in new.ui.statusLabel.text
    slicer.mrmlScene.Clear()
    assert new.ui.caseFolderPath.currentPath == ""
    assert heard == []
    assert old.logic.recon._worker is None


def test_the_other_module_is_reloaded_and_completes(running):
    import SampleData

    slicer.util.selectModule("ShapeCompletion")
    old = running.widget("ShapeCompletion")
    wait_until(lambda: old.logic.completion._worker is not None)  # it is being warmed up
    old.onReload()
    assert old.logic.completion._worker is None
    new = running.widget("ShapeCompletion")
    SampleData.downloadSample("ShapeCompletionVertebraSlices")
    assert new.ui.completeButton.enabled
    assert "slices" in new.ui.foundLabel.text


def test_settings_outlive_a_change_of_modules(running):
    slicer.util.selectModule("IntraopRecon")
    write(running.widget("IntraopRecon").ui.caseFolderPath, "somewhere")
    slicer.util.selectModule("ShapeCompletion")
    slicer.util.selectModule("IntraopRecon")
    assert running.widget("IntraopRecon").ui.caseFolderPath.currentPath == "somewhere"


def test_logics_are_reached_from_the_console(running):
    recon, shape = (slicer.util.getModuleLogic(name) for name in MODULES)
    assert callable(recon.reconstruct)
    assert callable(recon.loadResult)
    assert callable(shape.complete)
