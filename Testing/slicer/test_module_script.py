"""IntraopRecon.py imported with the least of a desktop: its metadata, and that panel and script agree on the widgets."""

from __future__ import annotations

import types
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("slicer")

import slicer
from module_stubs import choices, import_script, register_samples, used_widgets, widgets

from IntraopReconLib.core.config import Method, Quality

NAME = "IntraopRecon"


@pytest.fixture
def module(repository: Path, monkeypatch):
    """Return the module script, imported as Slicer would."""
    return import_script(repository, monkeypatch, NAME)


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
    chosen = []
    monkeypatch.setattr(module, "chooseSample", chosen.append)
    for source in register_samples(module, monkeypatch):
        assert Path(source["thumbnailFileName"]).is_file()
        source["customDownloader"](None)
    assert chosen == list(module.SAMPLES)
    assert all((module.sample_case(name) / "poses.json").is_file() for name in chosen)


def test_the_panel_has_every_widget_that_the_script_uses(repository: Path):
    used = used_widgets(repository, NAME)
    assert used
    assert used <= set(widgets(repository, NAME))


@pytest.mark.parametrize(("widget", "expected"), [("qualityComboBox", get_args(Quality)), ("methodComboBox", get_args(Method))])
def test_the_panel_offers_what_the_settings_know(repository: Path, widget: str, expected: tuple[str, ...]):
    assert choices(widgets(repository, NAME)[widget]) == expected
