"""The module `qt` of Slicer: every class of Qt under one name, without what is PySide's own."""

from __future__ import annotations

import enum
import types
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from .dialogs import QDesktopServices, QFileDialog, QInputDialog
from .ui_loader import QUiLoader
from .values import Enum, NotInSlicer
from .wrapping import wrapper_class

_MODULES = (QtWidgets, QtGui, QtCore)
_OWN = {cls.__name__: cls for cls in (QDesktopServices, QFileDialog, QInputDialog, QUiLoader)}
_NOT_WRAPPED = {"QEnum", "QFlag", "QtMsgType", "QT_TR_NOOP", "QByteArrayView", "QStringConverter", "QPermission", "QCalendarPermission"}


class QtNamespace:
    """`qt.Qt`: enum values directly on it."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(QtCore.Qt, name, None)
        if isinstance(value, enum.Enum):
            return Enum(value)
        if isinstance(value, type):
            raise NotInSlicer(f"PythonQt has the values of Qt.{name} on qt.Qt itself: qt.Qt.VALUE.")
        raise NotInSlicer(f"qt.Qt has no {name}.")


class QtModule(types.ModuleType):
    """Gives classes when they are asked for, and says so when there is none."""

    def __init__(self) -> None:
        super().__init__("qt", "Stands for Slicer's qt.")
        self.Qt = QtNamespace()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        cls = _OWN.get(name) or next((getattr(module, name) for module in _MODULES if hasattr(module, name)), None)
        if not name.startswith("Q") or name in _NOT_WRAPPED or not isinstance(cls, type) or not issubclass(cls, shiboken6.Shiboken.Object):
            raise NotInSlicer(f"Slicer's module qt has no {name}.")
        return wrapper_class(cls)
