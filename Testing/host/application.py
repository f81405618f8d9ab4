"""slicer.app, the module manager, the main window: as much of Slicer's application as modules ask for."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from PySide6 import QtWidgets
from PySide6.QtCore import Property, QObject, QSettings, Qt, Signal
from PySide6.QtWidgets import QApplication, QDockWidget, QGridLayout, QMainWindow, QScrollArea, QVBoxLayout, QWidget

from .mrml_widgets import qMRMLWidget
from .ui_loader import stand_in
from .values import NotInSlicer
from .wrapping import invokable

PANEL_WIDTH_PX = 420


@stand_in
class qSlicerApplication(QObject):
    """The application object; Qt's own QApplication stands behind it."""

    startupCompleted = Signal()
    lastWindowClosed = Signal()

    def __init__(self, desktop) -> None:
        super().__init__()
        self._desktop, self._testing = desktop, False
        self._temporary = tempfile.mkdtemp(prefix="SlicerTestHost-")

    @invokable
    def processEvents(self) -> None:
        QApplication.processEvents()

    @invokable
    def layoutManager(self) -> QObject:
        return self._desktop.layout_manager

    @invokable
    def moduleManager(self) -> QObject:
        return self._desktop.module_manager

    @invokable
    def mrmlScene(self):
        return self._desktop.headless.scene

    @invokable
    def applicationLogic(self):
        return self._desktop.headless.applicationLogic

    @invokable
    def testingEnabled(self) -> bool:
        return self._testing

    @invokable
    def setOverrideCursor(self, cursor: Any) -> None:
        QApplication.setOverrideCursor(Qt.CursorShape(cursor))

    @invokable
    def restoreOverrideCursor(self) -> None:
        QApplication.restoreOverrideCursor()

    @invokable
    def pauseRender(self) -> None:
        pass

    resumeRender = pauseRender

    @invokable
    def topLevelWidgets(self) -> list[QWidget]:
        return QApplication.topLevelWidgets()

    @invokable
    def clipboard(self) -> QObject:
        return QApplication.clipboard()

    @invokable
    def keyboardModifiers(self) -> Any:
        return QApplication.keyboardModifiers()

    @invokable
    def openExtensionsManagerDialog(self) -> None:
        self._desktop.answers.opened.append("Extensions Manager")

    @invokable
    def settings(self) -> QSettings:
        return QSettings()

    userSettings = settings

    @invokable
    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{name.lower()}.html"

    applicationName = Property(str, lambda self: "Slicer")
    temporaryPath = Property(str, lambda self: self._temporary)
    defaultScenePath = Property(str, lambda self: os.path.join(self._temporary, "Documents"))
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    majorVersion, minorVersion = Property(int, lambda self: 5), Property(int, lambda self: 10)


def _value(name: str, kind: Any, default: Any) -> Any:
    """Return a property that keeps a value in `_values`."""

    def give(self) -> Any:
        return self._values.get(name, default)

    def take(self, value: Any) -> None:
        self._values[name] = list(value) if kind == "QStringList" else value

    return Property(kind, give, take)


@stand_in
class qSlicerScriptedLoadableModule(QObject):
    """What Slicer's core knows of a scripted module; its attributes are set by the module's own class."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__()
        self._values: dict[str, Any] = {"path": path, "name": name}
        self._widget, self._desktop, self.python = None, None, None

    @invokable
    def widgetRepresentation(self) -> QWidget:
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    @invokable
    def createNewWidgetRepresentation(self) -> QWidget:
        return qSlicerScriptedLoadableModuleWidget(self)

    title, helpText, acknowledgementText = (_value(name, str, "") for name in ("title", "helpText", "acknowledgementText"))
    path, name = _value("path", str, ""), _value("name", str, "")
    categories, dependencies, contributors, associatedNodeTypes = (
        _value(name, "QStringList", []) for name in ("categories", "dependencies", "contributors", "associatedNodeTypes")
    )
    hidden, index = _value("hidden", bool, False), _value("index", int, -1)
    widgetRepresentationCreationEnabled = _value("widgetRepresentationCreationEnabled", bool, True)
    icon = _value("icon", "QIcon", None)


@stand_in
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The place in the module panel; the module's own widget class fills it."""

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        self._module, self._python, self._is_entered = module, None, False
        QVBoxLayout(self)
        self.setMRMLScene(module._desktop.headless.scene)
        self._make()

    def _make(self) -> None:
        self._python = self._module._desktop.make_widget(self._module, self)
        self._python.setup()
        self.layout().addStretch(0)

    @invokable
    def self(self) -> Any:
        return self._python

    @invokable
    def reload(self) -> None:
        self._make()

    @invokable
    def enter(self) -> None:
        if not self._is_entered:
            self._is_entered = True
            self._python.enter()

    @invokable
    def exit(self) -> None:
        if self._is_entered:
            self._is_entered = False
            self._python.exit()

    isEntered = Property(bool, lambda self: self._is_entered)

    @invokable
    def setup(self) -> None:
        raise NotInSlicer("Slicer calls setup() itself.")


@stand_in
class qSlicerModuleManager(QObject):
    """The loaded modules."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, qSlicerScriptedLoadableModule] = {}

    @invokable
    def module(self, name: str) -> QObject | None:
        return self.loaded.get(name)

    @invokable
    def factoryManager(self) -> QObject:
        return self

    @invokable
    def loadedModuleNames(self) -> list[str]:
        return list(self.loaded)

    modulesNames = loadedModuleNames


@stand_in
class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Chooses the module that the panel shows."""

    moduleSelected = Signal(str)

    def __init__(self, desktop) -> None:
        super().__init__()
        self._desktop = desktop

    @invokable
    def selectModule(self, name: str) -> None:
        self._desktop.select_module(name)
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._desktop.selected)


@stand_in
class qSlicerMainWindow(QMainWindow):
    """Module panel at the left, views at the right."""

    def __init__(self, desktop) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(desktop)
        dock = QDockWidget(self)
        dock.setObjectName("PanelDockWidget")
        dock.setTitleBarWidget(QWidget(dock))
        self._scroll = QScrollArea(dock)
        self._scroll.setObjectName("ModulePanel")
        self._scroll.setWidgetResizable(True)
        self._scroll.setMinimumWidth(PANEL_WIDTH_PX)
        dock.setWidget(self._scroll)
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        views = QWidget(self)
        grid = QGridLayout(views)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        manager = desktop.layout_manager
        for place, widget in zip(((0, 1), (0, 0), (1, 1), (1, 0)), [manager._threeD, *manager._slices.values()], strict=True):
            grid.addWidget(widget, *place)
        self.setCentralWidget(views)
        self.resize(1280, 800)

    def show_panel(self, widget: QWidget) -> None:
        """Put a module's widget into the panel; what was there is kept alive."""
        self._scroll.takeWidget()
        self._scroll.setWidget(widget)
        widget.show()

    @invokable
    def moduleSelector(self) -> QWidget:
        return self._selector
