"""A running Slicer for the tests of panels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from Testing.host.desktop import Desktop, desktop
from Testing.host.hands import click, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "Testing" / "slicer"))  # its small_completion, small_scene and fake_worker
SCRIPTS = [REPOSITORY / name / f"{name}.py" for name in ("IntraopRecon", "ShapeCompletion")]


@pytest.fixture(scope="module")
def slicer_with_modules():
    """Return a desktop with both modules, one for the tests of a file."""
    with desktop() as running:
        running.load(*SCRIPTS)
        running.main_window.show()
        yield running


@pytest.fixture
def running(slicer_with_modules: Desktop):
    """Return that desktop with an empty scene; afterwards nothing must have been raised in a slot."""
    yield slicer_with_modules
    slicer_with_modules.answers.act = None
    slicer_with_modules.answers.shown.clear()
    slicer_with_modules.scene.Clear()
    errors = list(slicer_with_modules.errors)
    slicer_with_modules.errors.clear()
    assert errors == []


@pytest.fixture
def panel(running):
    """Return the open panel of Intraoperative Reconstruction, its first step open; the workers are real and stay from test to test."""
    import slicer

    slicer.util.selectModule("IntraopRecon")
    widget = running.widget("IntraopRecon")
    widget.onSceneChanged()
    _open_first_step(widget)
    yield widget
    for logic in (widget.logic.recon, widget.logic.preparation):
        logic.cancel()
        wait_until(lambda logic=logic: not logic.isRunning, 20)
    _open_first_step(widget)


def _open_first_step(widget) -> None:
    if widget.ui.xraysButton.collapsed:
        click(widget.ui.xraysButton)
