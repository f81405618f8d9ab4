"""The qMRML widgets that panels use, with the properties, signals and slots of their headers."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from .ctk_widgets import ctkSliderWidget
from .signals import guarded
from .ui_loader import stand_in
from .wrapping import invokable


class _Observer:
    """Observes VTK objects for as long as a widget lives."""

    def __init__(self) -> None:
        self._observed: list[tuple[Any, int]] = []

    def watch(self, target: Any, events: tuple[Any, ...], function) -> None:
        """Observe these events of a target, or nothing where it is None, instead of what was observed before."""
        self.stop()
        if target is not None:
            self._observed = [(target, target.AddObserver(event, lambda *_args: _call(function))) for event in events]

    def stop(self) -> None:
        for target, tag in self._observed:
            target.RemoveObserver(tag)
        self._observed = []


def _call(function) -> None:
    with guarded():
        function()


@stand_in
class qMRMLWidget(QWidget):
    """A widget that knows a scene; it hands it on only where the panel connects mrmlSceneChanged."""

    _sceneChanged = Signal(object)
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "_sceneChanged(PyObject)"}

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
    SIGNALS = {
        "currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged(PyObject)",
        "currentNodeChanged(bool)": "_hasNodeChanged(bool)",
        "nodeAdded(vtkMRMLNode*)": "_nodeAdded(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "_nodeAdded(PyObject)",
        "nodeActivated(vtkMRMLNode*)": "_nodeActivated(PyObject)",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene, self._observer, self._combo, self._shown = None, _Observer(), QComboBox(self), ""
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
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent, scene.EndCloseEvent) if scene else ()
        self._observer.watch(scene, events, self._update)
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


for _name in ("setNodeTypes", "setNoneEnabled", "setAddEnabled", "setRemoveEnabled", "setShowHidden", "setRenameEnabled", "setEditEnabled"):

    def _setter(self, value, name=_name[3].lower() + _name[4:]) -> None:
        self.setProperty(name, value)

    setattr(qMRMLNodeComboBox, _name, invokable(_setter))


@stand_in
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Chooses a segmentation and one of its segments."""

    _currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    SIGNALS = {**qMRMLWidget.SIGNALS, "currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged(PyObject)"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._segment, self._observer = None, "", _Observer()
        self._nodes, self._segments, self._message = qMRMLNodeComboBox(self), QComboBox(self), QLabel("No node is selected", self)
        self._nodes._types = ["vtkMRMLSegmentationNode"]
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self._nodes, self._segments, self._message):
            layout.addWidget(widget)
        self._segments.hide()
        self._nodes._currentNodeChanged.connect(self._on_node)
        self._segments.currentIndexChanged.connect(self._on_segment)
        self._sceneChanged.connect(self._nodes.setMRMLScene)

    def _on_node(self, node) -> None:
        if node is not self._node:
            import slicer

            self._node = node
            self._observer.watch(node, (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved), self._populate)
            self._populate()
        self._currentNodeChanged.emit(node)

    def _populate(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        count = segmentation.GetNumberOfSegments() if segmentation else 0
        self._segments.clear()
        self._segments.setVisible(count > 0)
        self._message.setText("No node is selected" if segmentation is None else "No segments in segmentation")
        self._message.setVisible(count == 0)
        if not count:
            return
        self._segments.blockSignals(True)
        if self._nodes.property("noneEnabled"):
            self._segments.addItem("None", "")
        for n in range(count):
            self._segments.addItem(segmentation.GetNthSegment(n).GetName(), segmentation.GetNthSegmentID(n))
        self._segments.setCurrentIndex(-1)
        self._segments.blockSignals(False)
        self._segments.setCurrentIndex(1 if self._nodes.property("noneEnabled") else 0)

    def _on_segment(self, index: int) -> None:
        if self._node is not None:
            self._segment = self._segments.itemData(index) or ""
            self.currentSegmentChanged.emit(self._segment)

    @invokable
    def currentNode(self):
        return self._nodes.currentNode()

    @invokable
    def currentNodeID(self) -> str:
        return self._nodes.property("currentNodeID")

    @invokable
    def currentSegmentID(self) -> str:
        return self._segment

    @invokable
    def setCurrentNode(self, node) -> None:
        self._nodes.setCurrentNode(node)

    @invokable
    def setCurrentNodeID(self, node_id: str) -> None:
        self._nodes.setCurrentNodeID(node_id)

    @invokable
    def setCurrentSegmentID(self, segment: str) -> None:
        if not segment and self._nodes.property("noneEnabled"):
            self._segments.setCurrentIndex(0)
        elif self._segments.findData(segment) >= 0:
            self._segments.setCurrentIndex(self._segments.findData(segment))

    @invokable
    def setNoneEnabled(self, enabled: bool) -> None:
        self._nodes.setProperty("noneEnabled", enabled)

    noneEnabled = Property(bool, lambda self: self._nodes.property("noneEnabled"), setNoneEnabled)
    segmentationNodeSelectorVisible = Property(
        bool, lambda self: self._nodes.isVisibleTo(self), lambda self, visible: self._nodes.setVisible(visible)
    )


@stand_in
class qMRMLSegmentsTableView(qMRMLWidget):
    """The segments of a segmentation, of which some may be selected."""

    _selectionChanged = Signal()
    SIGNALS = {**qMRMLWidget.SIGNALS, "selectionChanged(QItemSelection,QItemSelection)": "_selectionChanged()"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._observer, self._table = None, _Observer(), QTableWidget(0, 1, self)
        self._table.setHorizontalHeaderLabels(["Name"])
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        QVBoxLayout(self).addWidget(self._table)
        self._table.itemSelectionChanged.connect(self._selectionChanged)

    def _populate(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        self._table.setRowCount(segmentation.GetNumberOfSegments() if segmentation else 0)
        for row in range(self._table.rowCount()):
            item = QTableWidgetItem(segmentation.GetNthSegment(row).GetName())
            item.setData(Qt.ItemDataRole.UserRole, segmentation.GetNthSegmentID(row))
            self._table.setItem(row, 0, item)

    @invokable
    def segmentationNode(self):
        return self._node

    @invokable
    def setSegmentationNode(self, node) -> None:
        import slicer

        self._node = node
        self._observer.watch(node, (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved), self._populate)
        self._populate()

    @invokable
    def selectedSegmentIDs(self) -> list[str]:
        return [index.data(Qt.ItemDataRole.UserRole) for index in self._table.selectionModel().selectedRows()]

    @invokable
    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        self._table.clearSelection()
        for row in range(self._table.rowCount()):
            self._table.item(row, 0).setSelected(self._table.item(row, 0).data(Qt.ItemDataRole.UserRole) in ids)

    @invokable
    def clearSelection(self) -> None:
        self._table.clearSelection()

    @invokable
    def tableWidget(self) -> QTableView:
        return self._table

    @invokable
    def setSelectionMode(self, mode: int) -> None:
        self._table.setSelectionMode(QAbstractItemView.SelectionMode(int(mode)))

    segmentCount = Property(int, lambda self: self._table.rowCount())
    selectionMode = Property(int, lambda self: self._table.selectionMode().value, setSelectionMode)
    headerVisible = Property(
        bool,
        lambda self: self._table.horizontalHeader().isVisibleTo(self),
        lambda self, visible: self._table.horizontalHeader().setVisible(visible),
    )


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    """A slider that knows a scene, whose units it would show."""

    @invokable
    def setMRMLScene(self, scene) -> None:
        self._scene = scene

    @invokable
    def mrmlScene(self):
        return getattr(self, "_scene", None)
