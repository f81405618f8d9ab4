"""QUiLoader with the ctk and qMRML widgets; it refuses what Qt would pass over: unknown classes, properties, signals and slots."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtUiTools
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject
from PySide6.QtWidgets import QLayout, QWidget

from .values import NotInSlicer, wrap

stand_ins: dict[str, type] = {}
"""The widgets of ctk and Slicer, by name."""


def stand_in(cls: type) -> type:
    """Let .ui files and scripts make widgets of a class."""
    stand_ins[cls.__name__] = cls
    return cls


class QUiLoader(QtUiTools.QUiLoader):
    """Loads panels as Slicer's does."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._problems: list[str] = []

    def createWidget(self, className: str, parent: QWidget | None = None, name: str = "") -> QWidget | None:
        if className in stand_ins:
            widget = stand_ins[className](parent)
            widget.setObjectName(name)
            return widget
        if className not in self.availableWidgets():
            self._problems.append(f"the test host knows no widget {className}")
            className = "QWidget"
        return super().createWidget(className, parent, name)

    def load(self, device: QIODevice, parent: QWidget | None = None) -> QWidget | None:
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        later = _take_constants(root)
        buffer = QBuffer()
        buffer.setData(QByteArray(ElementTree.tostring(root)))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise NotInSlicer(f"Qt could not load the panel: {self.errorString()}")
        objects = {child.objectName(): child for child in [widget, *widget.findChildren(QObject)]}
        for name, prop, number in later:
            objects[name].setProperty(prop, number)
        self._problems += _unknown_properties(root, objects)
        for connection in connections if connections is not None else ():
            self._connect(objects, {part.tag: part.text for part in connection})
        if self._problems:
            raise NotInSlicer(f"In the panel: {'; '.join(self._problems)}.")
        return widget

    def _connect(self, objects: dict[str, QObject], parts: dict[str, str]) -> None:
        sender, receiver = (wrap(objects[parts[end]]) for end in ("sender", "receiver"))
        slot = parts["slot"].split("(")[0]
        if not hasattr(receiver, slot):
            self._problems.append(f"{parts['receiver']} has no slot {parts['slot']}")
            return
        sender.connect(parts["signal"], getattr(receiver, slot))


def _take_constants(root: ElementTree.Element) -> list[tuple[str, str, int]]:
    """Take the values of stand-ins' enums, which Qt cannot know, out of a panel; return widget, property and number of each."""
    taken = []
    for widget in root.iter("widget"):
        for prop in list(widget.findall("property")):
            value = prop.find("set") if prop.find("set") is not None else prop.find("enum")
            words = re.findall(r"(\w+)::(\w+)", value.text or "") if value is not None else []
            if words and all(owner in stand_ins for owner, _ in words):
                numbers = [getattr(stand_ins[owner], name) for owner, name in words]
                taken.append((widget.get("name"), prop.get("name"), sum(set(numbers))))
                widget.remove(prop)
    return taken


def _unknown_properties(root: ElementTree.Element, objects: dict[str, Any]) -> list[str]:
    """Return what a panel sets and no object has; layouts and spacers have settings that are no properties."""
    problems = []
    for widget in root.iter("widget"):
        cpp = objects.get(widget.get("name"))
        if cpp is None:
            problems.append(f"there is no {widget.get('name')}")
        elif not isinstance(cpp, QLayout):
            for prop in widget.findall("property"):
                is_known = cpp.metaObject().indexOfProperty(prop.get("name")) >= 0 or prop.get("stdset") == "0"
                if not is_known:
                    problems.append(f"{widget.get('name')} ({widget.get('class')}) has no property {prop.get('name')}")
    return problems
