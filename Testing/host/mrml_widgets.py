"""The qMRML widgets that panels use, with the properties, signals and slots of their headers."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QSizePolicy,
    QWidget,
)

from .ctk_widgets import ctkSliderWidget
from .signals import guarded
from .ui_loader import stand_in
from .wrapping import invokable


class Observer:
    """Observes VTK objects for as long as a widget lives."""

    def __init__(self, owner: QWidget) -> None:
        self._owner = weakref.ref(owner)
        self._observed: list[tuple[Any, int]] = []
        self._function: Callable[[], None] | None = None

    def watch(self, target: Any, events: tuple[Any, ...], function) -> None:
        """Observe these events of a target, or nothing where it is None, instead of what was observed before."""
        self.stop()
        if target is not None:
            self._function = function
            self._observed = [(target, target.AddObserver(event, self._called)) for event in events]

    def _called(self, *_args) -> None:
        """Pass an event on. No closure: garbage collection clears those before the scene they observe, which calls them once more."""
        owner = self._owner() if hasattr(self, "_owner") else None
        if owner is None or not shiboken6.isValid(owner):
            self.stop()
            return
        with guarded():
            self._function()

    def stop(self) -> None:
        for target, tag in getattr(self, "_observed", []):
            target.RemoveObserver(tag)
        self._observed = []


@stand_in
class qMRMLWidget(QWidget):
    """A widget that knows a scene; it hands it on only where the panel connects mrmlSceneChanged."""

    _sceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "_sceneChanged(PyObject)"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    @invokable
    def mrmlScene(self):
        return self._scene

    @invokable
    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self._sceneChanged.emit(scene)


def _option(name: str) -> Property:
    """Return a property that is one of the options of a node combo box."""

    def give(self) -> bool:
        return self._options[name]

    def take(self, value: bool) -> None:
        self._options[name] = value
        self._update()

    return Property(bool, give, take)


@stand_in
class qMRMLNodeComboBox(QWidget):
    """Chooses one of the scene's nodes of some types; disabled until it has a scene."""

    _currentNodeChanged = Signal(object)
    _hasNodeChanged = Signal(bool)
    _nodeAdded = Signal(object)
    _nodeActivated = Signal(object)
    currentNodeIDChanged = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged(PyObject)",
        "currentNodeChanged(bool)": "_hasNodeChanged(bool)",
        "nodeAdded(vtkMRMLNode*)": "_nodeAdded(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "_nodeAdded(PyObject)",
        "nodeActivated(vtkMRMLNode*)": "_nodeActivated(PyObject)",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene, self._observer, self._rebuilding = None, Observer(self), Observer(self)
        self._combo, self._shown = QComboBox(self), ""
        self._options = dict.fromkeys(("showHidden", "noneEnabled", "editEnabled", "renameEnabled"), False)
        self._options |= dict.fromkeys(("showChildNodeTypes", "addEnabled", "removeEnabled", "selectNodeUponCreation"), True)
        self._types, self._hidden_types, self._none, self._base = [], [], "None", ""
        self._attributes: list[tuple[str, str, str | None]] = []
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.currentIndexChanged.connect(self._on_index)
        self._combo.activated.connect(lambda _index: self._nodeActivated.emit(self.currentNode()))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setEnabled(False)

    # What is there

    def _is_offered(self, node) -> bool:
        if not any(node.IsA(name) if self._options["showChildNodeTypes"] else node.GetClassName() == name for name in self._types):
            return False
        if any(node.IsA(name) for name in self._hidden_types) or (node.GetHideFromEditors() and not self._options["showHidden"]):
            return False
        rules = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in rules)

    def _nodes(self) -> list[Any]:
        nodes = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())] if self._scene else []
        return [node for node in nodes if self._is_offered(node)]

    def _update(self) -> None:
        """Show the scene's nodes; keep the choice, or take the first node where none may not be chosen."""
        known = {self._combo.itemData(n) for n in range(self._combo.count())}
        nodes = self._nodes()
        self._combo.blockSignals(True)
        self._combo.clear()
        if self._options["noneEnabled"] or not nodes:
            self._combo.addItem(self._none if self._options["noneEnabled"] else "Select a node", "")
        for node in nodes:
            self._combo.addItem(node.GetName(), node.GetID())
        index = self._combo.findData(self._shown)
        self._combo.setCurrentIndex(max(index, 0))
        self._combo.blockSignals(False)
        self._on_index()
        for node in nodes:
            if node.GetID() not in known:
                self._nodeAdded.emit(node)

    def _follow(self) -> None:
        """Follow single nodes; those of a scene that is being closed or imported come and go at its end, all at once."""
        if not (self._scene.IsClosing() or self._scene.IsImporting()):
            self._update()

    def _rebuild(self) -> None:
        """Take all rows out and in again, as Slicer does when a scene was closed or imported: the choice is lost, and that is told."""
        self._combo.clear()
        self._on_index()
        self._update()

    def _on_index(self, _index: int = 0) -> None:
        shown = self._combo.currentData() or ""
        if shown != self._shown:
            self._shown = shown
            self._currentNodeChanged.emit(self.currentNode())
            self._hasNodeChanged.emit(bool(shown))
            self.currentNodeIDChanged.emit(shown)

    # Slots and invokables

    @invokable
    def mrmlScene(self):
        return self._scene

    @invokable
    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        self.setEnabled(scene is not None)
        self._observer.watch(
            scene, (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent) if scene else (), self._follow
        )
        self._rebuilding.watch(scene, (scene.EndCloseEvent, scene.EndImportEvent) if scene else (), self._rebuild)
        self._update()

    @invokable
    def currentNode(self):
        return self._scene.GetNodeByID(self._shown) if self._scene and self._shown else None

    @invokable
    def setCurrentNode(self, node) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    @invokable
    def setCurrentNodeID(self, node_id: str) -> None:
        self._combo.setCurrentIndex(self._combo.findData(node_id or ""))

    @invokable
    def setCurrentNodeIndex(self, index: int) -> None:
        nodes = self._nodes()
        self.setCurrentNode(nodes[index] if 0 <= index < len(nodes) else None)

    @invokable
    def nodeCount(self) -> int:
        return len(self._nodes())

    @invokable
    def nodeFromIndex(self, index: int):
        nodes = self._nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    @invokable
    def addNode(self, kind: str = ""):
        node = self._scene.AddNewNodeByClass(kind or self._types[0], self._base)
        if self._options["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        return node

    @invokable
    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    @invokable
    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, None if value is None else str(value)))
        self._update()

    def _set(self, **values) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self._update()

    currentNodeID = Property(str, lambda self: self._shown, setCurrentNodeID)
    nodeTypes = Property("QStringList", lambda self: self._types, lambda self, value: self._set(_types=list(value)))
    hideChildNodeTypes = Property("QStringList", lambda self: self._hidden_types, lambda self, value: self._set(_hidden_types=list(value)))
    noneDisplay = Property(str, lambda self: self._none, lambda self, value: self._set(_none=value))
    baseName = Property(str, lambda self: self._base, lambda self, value: self._set(_base=value))
    showHidden, noneEnabled, editEnabled = _option("showHidden"), _option("noneEnabled"), _option("editEnabled")
    renameEnabled, showChildNodeTypes = _option("renameEnabled"), _option("showChildNodeTypes")
    addEnabled, removeEnabled = _option("addEnabled"), _option("removeEnabled")
    selectNodeUponCreation = _option("selectNodeUponCreation")


def _setter(name: str):
    """Return a method that sets a property."""
    return invokable(lambda self, value: self.setProperty(name, value))


for _name in ("setNodeTypes", "setNoneEnabled", "setAddEnabled", "setRemoveEnabled", "setShowHidden", "setRenameEnabled", "setEditEnabled"):
    setattr(qMRMLNodeComboBox, _name, _setter(_name[3].lower() + _name[4:]))


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    """A slider that knows a scene, whose units it would show."""

    @invokable
    def setMRMLScene(self, scene) -> None:
        self._scene = scene

    @invokable
    def mrmlScene(self):
        return getattr(self, "_scene", None)
