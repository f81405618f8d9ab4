"""IntraopRecon.py imported with the least of a desktop: its metadata, and that panel and script agree on the widgets."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("slicer")

import slicer

from IntraopReconLib.core.config import Method, Quality


class _App:
    def __init__(self) -> None:
        self.connections = []

    def connect(self, signal, function):
        self.connections.append((signal, function))


class _Base:
    def __init__(self, parent=None) -> None:
        self.parent = parent


@pytest.fixture
def module(repository: Path, monkeypatch):
    """Return the module script, imported as Slicer would."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic", "Test"):
        setattr(base, f"ScriptedLoadableModule{name}", type(f"ScriptedLoadableModule{name}", (_Base,), {}))
    util = types.ModuleType("slicer.util")
    util.VTKObservationMixin = type("VTKObservationMixin", (), {})
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", base)
    monkeypatch.setitem(sys.modules, "slicer.util", util)
    monkeypatch.setitem(sys.modules, "qt", types.ModuleType("qt"))
    monkeypatch.setattr(slicer, "app", _App(), raising=False)
    spec = importlib.util.spec_from_file_location("IntraopRecon", repository / "IntraopRecon" / "IntraopRecon.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_metadata(module):
    parent = types.SimpleNamespace()
    module.IntraopRecon(parent)
    assert parent.title == "Intraoperative Reconstruction"
    assert parent.categories
    assert parent.contributors
    assert "Research use only, not a medical device" in parent.helpText
    assert "Research use only, not a medical device" in parent.acknowledgementText
    assert [signal for signal, _ in slicer.app.connections] == ["startupCompleted()"]


def test_the_four_classes_that_slicer_looks_for(module):
    for suffix in ("", "Widget", "Logic", "Test"):
        assert f"ScriptedLoadableModule{suffix}" in [base.__name__ for base in getattr(module, f"IntraopRecon{suffix}").__mro__]


def test_sample_data_are_the_bundled_cases(module, monkeypatch):
    registered = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    module.registerSampleData()
    chosen = []
    monkeypatch.setattr(module, "chooseSample", chosen.append)
    for source in registered:
        assert Path(source["thumbnailFileName"]).is_file()
        source["customDownloader"](None)
    assert chosen == list(module.SAMPLES)
    assert all((module.sample_case(name) / "poses.json").is_file() for name in chosen)


def _ui(repository: Path) -> ElementTree.Element:
    return ElementTree.parse(repository / "IntraopRecon" / "Resources" / "UI" / "IntraopRecon.ui").getroot()


def test_the_panel_has_every_widget_that_the_script_uses(repository: Path):
    script = (repository / "IntraopRecon" / "IntraopRecon.py").read_text()
    used = set(re.findall(r"self\.ui\.(\w+)", script))
    names = {widget.get("name") for widget in _ui(repository).iter("widget")}
    assert used
    assert used <= names


@pytest.mark.parametrize(("widget", "choices"), [("qualityComboBox", get_args(Quality)), ("methodComboBox", get_args(Method))])
def test_the_panel_offers_what_the_settings_know(repository: Path, widget: str, choices: tuple[str, ...]):
    box = next(element for element in _ui(repository).iter("widget") if element.get("name") == widget)
    assert tuple(item.findtext("property/string") for item in box.iter("item")) == choices
