"""Finds what works in PySide and not in PythonQt, without running it: in the sources of host/ and of the module scripts.

What a script does with the widgets of its panel is compared with the widgets themselves: properties that are called, methods that are
assigned to, names and signals that do not exist.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from .signals import signatures
from .values import NotInSlicer, unwrap
from .wrapping import QT6_ONLY, Method

_BANNED_IMPORT = re.compile(r"^(PySide|PyQt|qtpy|shiboken|Testing)")
_ONLY_PYSIDE = {"Signal", "Slot", "Property", "QtCore", "QtGui", "QtWidgets"}
_EVENT_NAMES = {"event", "mouseEvent", "dropEvent"}


def problems(source: str, widgets: dict[str, Any] | None = None) -> list[str]:
    """Return what PythonQt would refuse, as `line: what`.

    Args:
        source: Python.
        widgets: The panel's widgets by name: what `self.ui.NAME` is.
    """
    tree = ast.parse(source)
    found = sorted({*_imports(tree), *_qt_names(tree), *_constructors(tree), *_events(tree), *_panel(tree, widgets or {})})
    return [f"{line}: {text}" for line, text in found]


Problem = tuple[int, str]


def _imports(tree: ast.AST) -> Iterator[Problem]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from ((node.lineno, f"imports {name}") for name in names if _BANNED_IMPORT.match(name))


def _dotted(node: ast.AST) -> str:
    """Return `a.b.c` of attributes of a name, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner else ""


def _qt_names(tree: ast.AST) -> Iterator[Problem]:
    import qt

    for node in ast.walk(tree):
        parts = _dotted(node).split(".")
        if parts[0] != "qt" or len(parts) < 2:
            continue
        if parts[1] in _ONLY_PYSIDE:
            yield node.lineno, f"qt.{parts[1]} is PySide's own"
            continue
        value: Any = qt
        try:
            for part in parts[1:]:
                value = getattr(value, part)
        except AttributeError as error:
            yield node.lineno, str(error)


def _constructors(tree: ast.AST) -> Iterator[Problem]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.keywords and re.match(r"^(qt\.|ctk\.|slicer\.q)", _dotted(node.func)):
            yield node.lineno, f"{_dotted(node.func)} takes no keyword arguments"


def _events(tree: ast.AST) -> Iterator[Problem]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in QT6_ONLY and _dotted(node.value) in _EVENT_NAMES:
            yield node.lineno, f"{_dotted(node)} is of Qt 6"


def _panel(tree: ast.AST, widgets: dict[str, Any]) -> Iterator[Problem]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        match = re.fullmatch(r"self\.ui\.(\w+)\.(\w+)", _dotted(node)) if isinstance(node, ast.Attribute) else None
        if match is None or not widgets:
            continue
        name, attribute = match.groups()
        if name not in widgets:
            yield node.lineno, f"the panel has no widget {name}"
            continue
        yield from _use(node, widgets[name], f"{name}.{attribute}", id(node) in called)
    yield from _connections(tree, widgets)


def _use(node: ast.Attribute, widget: Any, name: str, is_called: bool) -> Iterator[Problem]:
    try:
        value = getattr(widget, node.attr)
    except NotInSlicer as error:
        yield node.lineno, str(error)
        return
    is_method = isinstance(value, Method) or callable(value)
    if is_called and not is_method:
        yield node.lineno, f"{name} is a property and cannot be called"
    if isinstance(node.ctx, ast.Store) and is_method:
        yield node.lineno, f"{name} is no property and cannot be assigned to"


def _connections(tree: ast.AST, widgets: dict[str, Any]) -> Iterator[Problem]:
    for node in ast.walk(tree):
        match = re.fullmatch(r"self\.ui\.(\w+)\.connect", _dotted(node.func)) if isinstance(node, ast.Call) else None
        if match is None or match.group(1) not in widgets or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        if node.args[0].value not in signatures(unwrap(widgets[match.group(1)])):
            yield node.lineno, f"{match.group(1)} has no signal {node.args[0].value}"
