"""A third-party scripted module, written for Slicer, runs in the test host as it is: clicks, settings, self-test, reload, scene close."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from Testing.host.desktop import desktop
from Testing.host.hands import click, write

SCRIPT = Path(__file__).parent / "modules" / "BrightVoxels" / "BrightVoxels.py"


@pytest.fixture(scope="module")
def running():
    with desktop() as running:
        running.load(SCRIPT)
        running.main_window.show()
        yield running


def test_metadata(running):
    module = slicer.modules.brightvoxels
    assert module.title == "Bright Voxels"
    assert module.categories == ("Examples",)
    assert Path(module.path) == SCRIPT
    assert "BrightVoxels" in slicer.util.moduleNames()


def test_clicks(running):
    slicer.util.selectModule("BrightVoxels")
    ui = running.widget("BrightVoxels").ui
    assert not ui.applyButton.enabled
    import SampleData

    volume = SampleData.downloadSample("BrightVoxelsRamp")
    ui.inputSelector.setCurrentNode(volume)
    assert ui.applyButton.enabled
    click(ui.applyButton)
    assert ui.countLabel.text == "39 voxels"
    click(ui.invertCheckBox)
    click(ui.applyButton)
    assert ui.countLabel.text == "21 voxels"
    write(ui.thresholdSlider, "50.5")
    click(ui.applyButton)
    assert ui.countLabel.text == "51 voxels"
    click(ui.inputsCollapsibleButton)
    assert not ui.thresholdSlider.visible


def test_settings_are_in_the_scene_and_go_with_it(running):
    widget = running.widget("BrightVoxels")
    assert widget._parameterNode.threshold == 50.5
    with pytest.raises(ValueError, match="from 0 to 100"):
        widget._parameterNode.threshold = 101.0
    slicer.mrmlScene.Clear()
    assert not widget.ui.applyButton.enabled
    assert widget.logic is slicer.util.getModuleLogic("BrightVoxels")


def test_self_test_and_reload(running):
    slicer.selfTests["BrightVoxels"](msec=10)
    before = running.widget("BrightVoxels")
    before.onReload()
    after = running.widget("BrightVoxels")
    assert after is not before
    assert type(after) is not type(before)
    assert slicer.modules.BrightVoxelsWidget is after
    assert after.ui.applyButton.text == "Apply"
