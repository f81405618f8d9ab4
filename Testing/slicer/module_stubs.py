"""The least of a desktop that a module script needs to be imported, and what its panel file holds."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import slicer


class App:
    """Stands for slicer.app."""

    def __init__(self) -> None:
        self.connections = []

    def connect(self, signal, function):
        self.connections.append((signal, function))


class Base:
    """Stands for the classes that a scripted module's four classes derive from."""

    def __init__(self, parent=None) -> None:
        self.parent = parent


def import_script(repository: Path, monkeypatch, name: str):
    """Return a module script, imported as Slicer would."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    for suffix in ("", "Widget", "Logic", "Test"):
        setattr(base, f"ScriptedLoadableModule{suffix}", type(f"ScriptedLoadableModule{suffix}", (Base,), {}))
    util = types.ModuleType("slicer.util")
    util.VTKObservationMixin = type("VTKObservationMixin", (), {})
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", base)
    monkeypatch.setitem(sys.modules, "slicer.util", util)
    monkeypatch.setitem(sys.modules, "qt", types.ModuleType("qt"))
    monkeypatch.setattr(slicer, "app", App(), raising=False)
    spec = importlib.util.spec_from_file_location(name, repository / name / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def register_samples(script, monkeypatch) -> list[dict]:
    """Let a module script register its sample data and return what it says."""
    registered: list[dict] = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    script.registerSampleData()
    return registered


def widgets(repository: Path, name: str) -> dict[str, ElementTree.Element]:
    """Return the widgets of a module's panel by name."""
    root = ElementTree.parse(repository / name / "Resources" / "UI" / f"{name}.ui").getroot()
    return {widget.get("name"): widget for widget in root.iter("widget")}


def used_widgets(repository: Path, name: str) -> set[str]:
    """Return the names of the widgets that a module script uses."""
    return set(re.findall(r"self\.ui\.(\w+)", (repository / name / f"{name}.py").read_text()))


def choices(widget: ElementTree.Element) -> tuple[str, ...]:
    """Return the items of a combo box."""
    return tuple(item.findtext("property/string") for item in widget.iter("item"))
