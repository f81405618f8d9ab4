"""Slicer's DICOM database and browser: as much as modules ask of what is in one and selected in the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

from .ui_loader import stand_in
from .values import NotInSlicer, wrap
from .wrapping import invokable


@stand_in
class ctkDICOMDatabase(QObject):
    """Which files belong to which series."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._files: dict[str, list[str]] = {}

    @invokable
    def filesForSeries(self, seriesUID: str) -> list[str]:
        return self._files.get(seriesUID, [])


@stand_in
class ctkDICOMTableManager(QWidget):
    """The tables of patients, studies and series."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._series: list[str] = []

    @invokable
    def currentSeriesSelection(self) -> list[str]:
        return self._series


@stand_in
class ctkDICOMBrowser(QWidget):
    """The browser in the DICOM module."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._manager = ctkDICOMTableManager(self)

    @invokable
    def dicomTableManager(self) -> ctkDICOMTableManager:
        return self._manager


class _Python(SimpleNamespace):
    """An object of the DICOM module's own script."""

    def __getattr__(self, name: str) -> Any:
        raise NotInSlicer(f"The test host knows no {name} of the DICOM module.")


class Dicom:
    """What a test says that the database holds and the user has selected.

    Attributes:
        database: What slicer.dicomDatabase is.
    """

    def __init__(self) -> None:
        self.database = ctkDICOMDatabase()
        self._browser: ctkDICOMBrowser | None = None

    def add(self, series_uid: str, files: list[Any]) -> None:
        """Import files as a series."""
        self.database._files[series_uid] = [str(file) for file in files]

    def open_module(self, modules: Any) -> None:
        """Open the DICOM module for the first time, which makes its widget."""
        self._browser = ctkDICOMBrowser()
        modules.DICOMWidget = _Python(browserWidget=_Python(dicomBrowser=wrap(self._browser)))

    def select(self, *series_uids: str) -> None:
        """Select series in the browser."""
        self._browser._manager._series = list(series_uids)
