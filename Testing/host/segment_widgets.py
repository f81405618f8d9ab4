"""The widgets of Slicer's Segmentations module that panels use, with the properties, signals and slots of their headers."""

from __future__ import annotations

from typing import ClassVar

import slicer
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from .mrml_widgets import Observer, qMRMLNodeComboBox, qMRMLWidget
from .ui_loader import stand_in
from .wrapping import invokable


@stand_in
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Chooses a segmentation and one of its segments."""

    _currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {**qMRMLWidget.SIGNALS, "currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged(PyObject)"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._segment, self._observer = None, "", Observer(self)
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
            self._node = node
            kinds = slicer.vtkSegmentation
            self._observer.watch(node, (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified), self._populate)
            self._populate()
        self._currentNodeChanged.emit(node)

    def _populate(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        count = segmentation.GetNumberOfSegments() if segmentation else 0
        ids = [segmentation.GetNthSegmentID(n) for n in range(count)]
        first = ["None"] if self._nodes.property("noneEnabled") else []
        self._segments.blockSignals(True)
        self._segments.clear()
        self._segments.setVisible(count > 0)
        self._message.setText("No node is selected" if segmentation is None else "No segments in segmentation")
        self._message.setVisible(count == 0)
        for name in first if count else []:
            self._segments.addItem(name, "")
        for id in ids:
            self._segments.addItem(segmentation.GetSegment(id).GetName(), id)
        stays = self._segment in ids or (first and not self._segment)
        self._segments.setCurrentIndex(self._segments.findData(self._segment) if stays else -1)
        self._segments.blockSignals(False)
        if count and not stays:
            self._segments.setCurrentIndex(len(first))

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
    SIGNALS: ClassVar[dict[str, str]] = {**qMRMLWidget.SIGNALS, "selectionChanged(QItemSelection,QItemSelection)": "_selectionChanged()"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._observer, self._table = None, Observer(self), QTableWidget(0, 1, self)
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
