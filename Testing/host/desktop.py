"""The desktop: puts Slicer's names into sys.modules, loads scripted modules, and takes everything out again."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import shiboken6
import slicer
import slicer.util
from PySide6.QtCore import QCoreApplication, QEvent, QSettings
from PySide6.QtWidgets import QApplication

from SparseAnatomyLib.host.HeadlessScene import HeadlessScene

from . import ctk_widgets, dialogs, segment_widgets, signals
from .application import (
    qSlicerApplication,
    qSlicerMainWindow,
    qSlicerModuleManager,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)
from .dicom import Dicom
from .parameter_nodes import parameter_node_module
from .qt_module import QtModule
from .scripted_modules import Modules, i18n_module, sample_data_module, scripted_module
from .ui_loader import stand_ins
from .values import NotInSlicer, wrap
from .views import qSlicerLayoutManager
from .wrapping import wrapper_class


def _make_immortal() -> None:
    """Keep None, True and False from being deallocated, as Python 3.12 does by itself.

    PySide 6.12 gives up a reference to True at every `emit` and to None at every `processEvents`, until Python 3.11 aborts.
    """
    if sys.version_info < (3, 12):
        for value in (None, True, False):
            ctypes.c_ssize_t.from_address(id(value)).value += 1 << 40


_make_immortal()


class CtkModule(types.ModuleType):
    """The module `ctk` of Slicer."""

    def __getattr__(self, name: str) -> Any:
        if name in stand_ins and stand_ins[name].__module__ == ctk_widgets.__name__:
            return wrapper_class(stand_ins[name])
        raise NotInSlicer(f"The test host knows no ctk.{name}.")


class Desktop:
    """A running Slicer.

    Attributes:
        headless: The scene and its logics.
        app: What slicer.app is.
        answers: What the user does with windows that come up.
        dicom: What the DICOM database holds and what is selected in its browser.
    """

    def __init__(self) -> None:
        self.application = QApplication.instance() or QApplication(["Slicer"])
        self.headless = HeadlessScene()
        self.view_node = self.headless.scene.AddNode(slicer.vtkMRMLViewNode())
        self.view_node.SetName("View1")
        self.view_node.SetSingletonTag("1")
        self.answers = dialogs.answers
        self.dicom = Dicom()
        self.module_manager = qSlicerModuleManager()
        self.layout_manager = qSlicerLayoutManager(self)
        self.app = qSlicerApplication(self)
        self.main_window = qSlicerMainWindow(self)
        self.selected = ""
        self._scripts: dict[str, types.ModuleType] = {}

    @property
    def errors(self) -> list[BaseException]:
        """What was raised in slots; a test fails on it at the end."""
        return signals.errors

    @property
    def scene(self):
        """The scene."""
        return self.headless.scene

    def load(self, *paths: Path) -> None:
        """Load module scripts, in the order of their dependencies, and end the start-up of the application."""
        for path in paths:
            self._load(Path(path).resolve())
        self.app.startupCompleted.emit()

    def _load(self, path: Path) -> None:
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        script = importlib.util.module_from_spec(spec)
        sys.modules[name] = self._scripts[name] = script
        spec.loader.exec_module(script)
        module = qSlicerScriptedLoadableModule(str(path), name)
        module._desktop = self
        module.python = getattr(script, name)(wrap(module))
        missing = [other for other in module.property("dependencies") if other not in self.module_manager.loaded]
        if missing:
            raise NotInSlicer(f"{name} depends on {', '.join(missing)}, which is not loaded.")
        self.module_manager.loaded[name] = module
        slicer.modules.add(module)
        setattr(slicer.modules, f"{name}Instance", module.python)

    def make_widget(self, module: qSlicerScriptedLoadableModule, place: qSlicerScriptedLoadableModuleWidget) -> Any:
        """Return a new object of a module's widget class, from the script as it was loaded last."""
        name = module.property("name")
        widget = getattr(sys.modules[name], f"{name}Widget")(wrap(place))
        setattr(slicer.modules, f"{name}Widget", widget)
        return widget

    def select_module(self, name: str) -> None:
        """Show a module in the panel."""
        if name not in self.module_manager.loaded:
            raise NotInSlicer(f"There is no module {name}.")
        if self.selected and self.selected != name:
            self.module_manager.loaded[self.selected].widgetRepresentation().exit()
        place = self.module_manager.loaded[name].widgetRepresentation()
        self.selected = name
        self.main_window.show_panel(place)
        place.enter()

    def widget(self, name: str) -> Any:
        """Return the module's own widget object."""
        return self.module_manager.loaded[name].widgetRepresentation().self()

    def draw(self) -> None:
        """Draw all views; the 3D view from the front, so that what is visible fills it."""
        for view in self.layout_manager.views():
            view.forceRender()
        self.layout_manager.views()[0].lookFromAnterior()
        self.layout_manager.views()[0].forceRender()

    def close(self) -> None:
        """Unload the modules, close the windows."""
        for name in reversed(self.module_manager.loaded):
            self.module_manager.moduleAboutToBeUnloaded.emit(name)
        for view in self.layout_manager.views():
            view.finish()
        places = [module._widget for module in self.module_manager.loaded.values() if module._widget is not None]
        for widget in (*places, self.main_window):
            widget.close()
            shiboken6.delete(widget)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        shutil.rmtree(self.app.property("temporaryPath"), ignore_errors=True)


@contextmanager
def desktop() -> Iterator[Desktop]:
    """Give a running Slicer; afterwards sys.modules, sys.path and the package slicer are as before.

    Raises:
        AssertionError: A slot or an overridden method raised something.
    """
    modules, path, names = dict(sys.modules), list(sys.path), dict(vars(slicer))
    util = dict(vars(slicer.util))
    dialogs.reset()
    signals.forget()
    settings = _own_settings()
    running = Desktop()
    try:
        _install(running)
        yield running
    except BaseException:
        with suppress(Exception):  # what has gone wrong already is what counts
            running.close()
        raise
    else:
        running.close()
        assert not signals.errors, f"{len(signals.errors)} slots raised: {signals.errors[0]!r}"
    finally:
        signals.forget()
        for name in set(sys.modules) - set(modules):
            if name in ("qt", "ctk", "SampleData") or name in running._scripts or name.startswith("slicer."):
                del sys.modules[name]
        sys.modules.update({name: module for name, module in modules.items() if sys.modules.get(name) is not module})
        sys.path[:] = path
        for namespace, before in ((vars(slicer), names), (vars(slicer.util), util)):
            for name in set(namespace) - set(before):
                del namespace[name]
            namespace.update(before)
        shutil.rmtree(settings, ignore_errors=True)


def _install(running: Desktop) -> None:
    """Put the names of the desktop where module scripts look for them."""
    qt, ctk = QtModule(), CtkModule("ctk")
    parts = {part.__name__: part for part in (scripted_module(), i18n_module(), parameter_node_module())}
    sys.modules.update({"qt": qt, "ctk": ctk, "SampleData": sample_data_module(), **parts})
    for name, part in parts.items():
        setattr(slicer, name.split(".")[1], part)
    slicer.app, slicer.mrmlScene = wrap(running.app), running.headless.scene
    slicer.modules, slicer.selfTests, slicer.dicomDatabase = Modules(), {}, wrap(running.dicom.database)
    for name, cls in stand_ins.items():
        if name.startswith("q"):
            setattr(slicer, name, wrapper_class(cls))
    assert segment_widgets.qMRMLSegmentSelectorWidget.__name__ in stand_ins


def _own_settings() -> Path:
    """Keep QSettings in a folder of the test's own and return it."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="SlicerTestHostSettings-"))
    QCoreApplication.setOrganizationName("TestHost")
    QCoreApplication.setApplicationName("Slicer")
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    return folder
