"""slicer.parameterNodeWrapper: a class of annotated fields becomes a typed view of a parameter node, as far as modules use it.

Texts, numbers, booleans, paths, enums and references to nodes; defaults; limits of numbers and texts; connections to widgets that
carry the property SlicerParameterName.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import vtk

from .values import NotInSlicer

_PLAIN = {str: "", int: 0, float: 0.0, bool: False}


@dataclass(frozen=True)
class Default:
    """The value that a field has at first."""

    value: Any


@dataclass(frozen=True)
class WithinRange:
    """A number from minimum to maximum."""

    minimum: float
    maximum: float

    def check(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"expected a value from {self.minimum} to {self.maximum}, got {value!r}")


@dataclass(frozen=True)
class Minimum:
    """A number from minimum."""

    minimum: float

    def check(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"expected at least {self.minimum}, got {value!r}")


@dataclass(frozen=True)
class Maximum:
    """A number to maximum."""

    maximum: float

    def check(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"expected at most {self.maximum}, got {value!r}")


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    choices: Any

    def check(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"expected one of {self.choices}, got {value!r}")


class _Field:
    """Reads and writes one field of a parameter node."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        notes = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()
        kind = typing.get_args(annotation)[0] if notes else annotation
        options = [option for option in typing.get_args(kind) if option is not types.NoneType]
        self.name, self.type, self.is_optional = name, options[0] if options else kind, bool(options)
        self.checks = [note for note in notes if hasattr(note, "check")]
        self.is_node = isinstance(self.type, type) and issubclass(self.type, vtk.vtkObjectBase)
        self.is_enum = isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        if not (self.is_node or self.is_enum or self.type in _PLAIN or self.type is pathlib.Path):
            raise NotInSlicer(f"The test host's parameterNodeWrapper knows no field of type {kind}.")
        given = [note.value for note in notes if isinstance(note, Default)]
        self.default = default if default is not None else next(iter(given), self._first())

    def _first(self) -> Any:
        if self.is_optional or self.is_node:
            return None
        if self.is_enum:
            return next(iter(self.type))
        return pathlib.Path() if self.type is pathlib.Path else _PLAIN[self.type]

    def read(self, node) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if text == "" and not node.HasParameter(self.name):
            return self.default
        if self.is_enum:
            return self.type[text]
        return text == "true" if self.type is bool else self.type(text)

    def write(self, node, value: Any) -> None:
        if self.is_node:
            if value is not None and not isinstance(value, self.type):
                raise ValueError(f"{self.name}: expected a {self.type.__name__}, got {value!r}")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, (int, float) if self.type is float else self.type):
            raise ValueError(f"{self.name}: expected a {self.type.__name__}, got {value!r}")
        for check in self.checks:
            check.check(value)
        text = value.name if self.is_enum else str(value).lower() if self.type is bool else str(value)
        node.SetParameter(self.name, text)


_WIDGETS: tuple[tuple[str, str, str, str], ...] = (  # class, how it is read, how it is written, its signal
    ("qMRMLNodeComboBox", "currentNode", "setCurrentNode", "currentNodeChanged(vtkMRMLNode*)"),
    ("ctkSliderWidget", "value", "setValue", "valueChanged(double)"),
    ("ctkPathLineEdit", "currentPath", "setCurrentPath", "currentPathChanged(QString)"),
    ("QDoubleSpinBox", "value", "setValue", "valueChanged(double)"),
    ("QSpinBox", "value", "setValue", "valueChanged(int)"),
    ("QSlider", "value", "setValue", "valueChanged(int)"),
    ("QAbstractButton", "checked", "setChecked", "toggled(bool)"),
    ("QComboBox", "currentText", "setCurrentText", "currentTextChanged(QString)"),
    ("QLineEdit", "text", "setText", "textChanged(QString)"),
)


class _Connector:
    """Keeps a widget and a field alike."""

    def __init__(self, widget, field: _Field, changed: Callable[[Any], None]) -> None:
        found = next((row for row in _WIDGETS if widget.inherits(row[0]) or widget.className() == row[0]), None)
        if found is None:
            raise NotInSlicer(f"The test host connects no {widget.className()} to a parameter node.")
        self._widget, self._field, self._changed = widget, field, changed
        _, self._reader, self._writer, self._signal = found
        widget.connect(self._signal, self._on_change)

    def disconnect(self) -> None:
        self._widget.disconnect(self._signal, self._on_change)

    def show(self, value: Any) -> None:
        if self._field.is_enum:
            value = value.name
        getattr(self._widget, self._writer)(str(value) if self._field.type is pathlib.Path else value)

    def _on_change(self) -> None:
        value = getattr(self._widget, self._reader)
        value = value() if callable(value) else value
        if self._field.is_enum:
            value = self._field.type[value]
        elif self._field.type in (pathlib.Path, int, float) and value is not None:
            value = self._field.type(value)
        self._changed(value)


def _make_property(field: _Field) -> property:
    return property(lambda self: field.read(self.parameterNode), lambda self, value: field.write(self.parameterNode, value))


class _Wrapped:
    """What a wrapped class has besides its fields."""

    def __init__(self, parameterNode) -> None:
        self.parameterNode = parameterNode
        self._connections: dict[int, tuple[list[_Connector], int]] = {}
        for name, field in self.allParameters.items():
            if not field.is_node and not parameterNode.HasParameter(name) and field.default is not None:
                field.write(parameterNode, field.default)

    def getValue(self, name: str) -> Any:
        return self.allParameters[name].read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self.allParameters[name].write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self.allParameters[name].default)

    def connectGui(self, gui) -> int:
        widgets = [widget for widget in vars(gui).values() if hasattr(widget, "property") and widget.property("SlicerParameterName")]
        return self.connectParametersToGui({widget.property("SlicerParameterName"): widget for widget in widgets})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        tag = len(self._connections)
        connectors = {
            name: _Connector(widget, self.allParameters[name], lambda value, name=name: self.setValue(name, value))
            for name, widget in mapping.items()
        }

        def show(*_args) -> None:
            for name, connector in connectors.items():
                connector.show(self.getValue(name))

        show()
        self._connections[tag] = list(connectors.values()), self.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
        return tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._connections.pop(tag)
        self.RemoveObserver(observer)
        for connector in connectors:
            connector.disconnect()

    def AddObserver(self, event: Any, function: Callable[..., None], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, function, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Make a class of annotated fields the typed view of a parameter node; a decorator, with or without brackets."""
    if cls is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _Field(name, hint, getattr(cls, name, None)) for name, hint in hints.items()}
    body = {**{name: _make_property(field) for name, field in fields.items()}, "allParameters": fields, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Wrapped, cls), body)


def parameter_node_module() -> types.ModuleType:
    """Return a module `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for value in (parameterNodeWrapper, Default, WithinRange, Minimum, Maximum, Choice):
        setattr(module, value.__name__, value)
    return module
