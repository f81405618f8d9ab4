"""Slicer's views and their manager: drawn off-screen by Slicer's own displayable managers, when they are asked to."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from PySide6.QtCore import Property, QObject, QSize, Signal
from PySide6.QtGui import QImage, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget
from vtk.util.numpy_support import vtk_to_numpy

from SparseAnatomyLib.host import Snapshot

from .signals import guarded
from .ui_loader import stand_in
from .wrapping import invokable


class _View(QWidget):
    """Shows what was drawn last."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture, self._window, self._group, self._connected = QPixmap(), None, None, None
        self.setMinimumSize(QSize(120, 90))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def attach(self, desktop, node) -> None:
        """Take the scene and the view's node."""
        self._headless, self._node = desktop.headless, node

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), "black")
        if not self._picture.isNull():
            painter.drawPixmap(self.rect(), self._picture)

    @invokable
    def renderWindow(self):
        if self._window is None:
            ratio = self.devicePixelRatioF()
            self._renderer, self._window = Snapshot._renderWindow((round(self.width() * ratio), round(self.height() * ratio)))
            self._prepare()
        return self._window

    @invokable
    def forceRender(self) -> None:
        image = Snapshot._grab(self.renderWindow())
        width, height, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()
        self._picture = QPixmap.fromImage(QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy())
        self.update()

    def finish(self) -> None:
        """Let go of VTK's objects."""
        if self._window is not None:
            self._group.SetMRMLDisplayableNode(None)
            self._window.Finalize()
        self._window = self._group = self._renderer = None

    def _prepare(self) -> None:
        raise NotImplementedError


@stand_in
class qMRMLThreeDView(_View):
    """A 3D view."""

    def _prepare(self) -> None:
        bottom, top = Snapshot._BACKGROUND_3D
        self._renderer.GradientBackgroundOn()
        self._renderer.DitherGradientOff()  # pictures are a third as large
        self._renderer.SetBackground(*bottom)
        self._renderer.SetBackground2(*top)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self._group = Snapshot._managers(self._headless, factory, Snapshot._MANAGERS_3D, self._renderer, self._node)

    @invokable
    def mrmlViewNode(self):
        return self._node

    @invokable
    def resetFocalPoint(self) -> None:
        if self._window is not None:
            self._renderer.ResetCamera()

    @invokable
    def resetCamera(self) -> None:
        self.resetFocalPoint()

    @invokable
    def lookFromAnterior(self) -> None:
        """Not of Slicer: stand in front of the patient, so that all that is seen fills the view."""
        self.renderWindow()
        self.forceRender()
        bounds = self._renderer.ComputeVisiblePropBounds()
        if bounds[0] <= bounds[1]:
            corners = [[bounds[i], bounds[2 + j], bounds[4 + k]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
            Snapshot._aim(self._renderer, np.array(corners))


@stand_in
class qMRMLSliceView(_View):
    """A slice view."""

    def attach(self, desktop, node, logic=None) -> None:
        super().attach(desktop, node)
        self._logic = logic

    def _prepare(self) -> None:
        self._logic.ResizeSliceNode(*self._window.GetSize())
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper, self._actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(self._actor)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._group = Snapshot._managers(self._headless, factory, Snapshot._MANAGERS_2D, self._renderer, self._node)

    @invokable
    def forceRender(self) -> None:
        self.renderWindow()
        self._logic.UpdatePipeline()
        connection = self._logic.GetImageDataConnection()
        self._actor.SetVisibility(connection is not None)
        if connection is not None:
            self._mapper.SetInputConnection(connection)
        super().forceRender()

    @invokable
    def mrmlSliceNode(self):
        return self._node


@stand_in
class qMRMLThreeDWidget(QWidget):
    """A 3D view with its controller."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = qMRMLThreeDView(self)
        QVBoxLayout(self).addWidget(self._view)
        self.layout().setContentsMargins(0, 0, 0, 0)

    @invokable
    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    @invokable
    def mrmlViewNode(self):
        return self._view._node


@stand_in
class qMRMLSliceWidget(QWidget):
    """A slice view with its controller."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = qMRMLSliceView(self)
        QVBoxLayout(self).addWidget(self._view)
        self.layout().setContentsMargins(0, 0, 0, 0)

    @invokable
    def sliceView(self) -> qMRMLSliceView:
        return self._view

    @invokable
    def sliceLogic(self):
        return self._view._logic

    @invokable
    def mrmlSliceNode(self):
        return self._view._node


@stand_in
class qSlicerLayoutManager(QObject):
    """Four-up: one 3D view and three slice views."""

    layoutChanged = Signal(int)

    def __init__(self, desktop) -> None:
        super().__init__()
        self._desktop = desktop
        self._layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self._threeD, self._slices = qMRMLThreeDWidget(), {}
        self._threeD._view.attach(desktop, desktop.view_node)
        for logic in desktop.headless._sliceLogics:
            widget = qMRMLSliceWidget()
            widget._view.attach(desktop, logic.GetSliceNode(), logic)
            self._slices[logic.GetSliceNode().GetLayoutName()] = widget

    def views(self) -> list[_View]:
        """Return all views, the 3D view first."""
        return [self._threeD._view, *(widget._view for widget in self._slices.values())]

    @invokable
    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        return self._threeD if index == 0 else None

    @invokable
    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slices.get(name)

    @invokable
    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    @invokable
    def mrmlScene(self):
        return self._desktop.headless.scene

    @invokable
    def mrmlSliceLogics(self):
        return self._desktop.headless.applicationLogic.GetSliceLogics()

    @invokable
    def activeMRMLThreeDViewNode(self):
        return self._desktop.view_node

    @invokable
    def setLayout(self, layout: int) -> None:
        self._layout = layout
        self.layoutChanged.emit(layout)

    @invokable
    def resetThreeDViews(self) -> None:
        with guarded():
            self._threeD._view.resetFocalPoint()

    @invokable
    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget._view._logic.FitSliceToAll()

    layout = Property(int, lambda self: self._layout, setLayout)
    threeDViewCount = Property(int, lambda self: 1)
