"""IntraopRecon.py in the test host: its metadata, its samples, and that panel and script agree on the widgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("slicer")

import slicer
from module_panels import choices, load_modules, used_widgets, widgets
from Testing.host.desktop import desktop

from IntraopReconLib.core.config import Method, Quality

NAME = "IntraopRecon"


@pytest.fixture(scope="module")
def running(repository: Path):
    with desktop() as running:
        load_modules(repository, running)
        yield running


@pytest.fixture
def script(running):
    """Return the module script, as Slicer has imported it."""
    return sys.modules[NAME]


def test_metadata(running):
    module = slicer.modules.intraoprecon
    assert module.title == "Intraoperative Reconstruction"
    assert module.categories
    assert module.contributors
    assert not module.icon.isNull()
    assert "Research use only, not a medical device" in module.helpText
    assert "Research use only, not a medical device" in module.acknowledgementText


def test_the_four_classes_that_slicer_looks_for(script):
    for suffix in ("", "Widget", "Logic", "Test"):
        assert f"ScriptedLoadableModule{suffix}" in [base.__name__ for base in getattr(script, f"{NAME}{suffix}").__mro__]


def test_sample_data_are_the_bundled_cases(script, running):
    import SampleData

    sources = {name: source for name, source in SampleData.SampleDataLogic.sources.items() if name.startswith(NAME)}
    assert list(sources) == list(script.SAMPLES.values())
    for source in sources.values():
        SampleData.downloadSample(source.sampleName)
        folder = Path(running.widget(NAME).ui.caseFolderPath.currentPath)
        assert source.sampleName == script.SAMPLES[folder.name]
        assert any((folder / "xrays").iterdir())
        assert (folder / "poses.json").is_file() is (folder.name != "lumbar-beads")  # whose poses the user is to find
        assert Path(slicer.app.temporaryPath) in folder.parents  # results are written beside the X-rays
    assert slicer.util.selectedModule() == NAME


def test_the_panel_has_every_widget_that_the_script_uses(repository: Path):
    used = used_widgets(repository, NAME)
    assert used
    assert used <= set(widgets(repository, NAME))


@pytest.mark.parametrize(("widget", "expected"), [("qualityComboBox", get_args(Quality)), ("methodComboBox", get_args(Method))])
def test_the_panel_offers_what_the_settings_know(repository: Path, widget: str, expected: tuple[str, ...]):
    assert choices(widgets(repository, NAME)[widget]) == expected
