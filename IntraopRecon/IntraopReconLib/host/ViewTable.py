"""A table of X-rays: one row each, of which one is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from SparseAnatomyLib.host.Translate import tr as _

from .PreparedCase import XrayCard

GRADE_COLORS = {"green": "#2c7a4b", "amber": "#b86e00", "red": "#9c2a1d"}
THUMBNAIL_PX = (56, 42)
_ROW_PX = 26
_TICK_MS = 5  # between two pictures that are loaded


class ViewTable:
    """Fills a QTableWidget and tells what the user does with it.

    Attributes:
        isFilling: Whether its cells change because of the program, not of the user.
    """

    def __init__(self, table: Any, headers: Sequence[str], onCurrent: Callable[[str], None], onUsed: Callable | None = None) -> None:
        """Set a table up.

        Args:
            table: QTableWidget.
            headers: Of the columns; the first one holds the names.
            onCurrent: Takes the name of the X-ray that the user goes to.
            onUsed: Takes the name and whether it is checked; names have no check boxes if None.
        """
        import qt

        self._table, self._onCurrent, self._onUsed = table, onCurrent, onUsed
        self._names: list[str] = []
        self._pictures: list[tuple[int, Path]] = []
        self.isFilling = False
        table.setColumnCount(len(headers))
        table.setHorizontalHeaderLabels(list(headers))
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setIconSize(qt.QSize(*THUMBNAIL_PX))
        table.setWordWrap(False)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(qt.QHeaderView.Fixed)  # to fit them to each cell as it comes would take long
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        table.verticalHeader().setDefaultSectionSize(_ROW_PX if onUsed is None else THUMBNAIL_PX[1] + 4)
        table.connect("currentCellChanged(int,int,int,int)", self._onCell)
        if onUsed is not None:
            table.connect("itemChanged(QTableWidgetItem*)", self._onItem)
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", self._loadPicture)

    def fill(self, views: Sequence[XrayCard], cells: Callable[[XrayCard], Sequence[str]], skipped: Sequence[str] = ()) -> None:
        """Show X-rays; with check boxes also their pictures, one at a time.

        Args:
            views: The X-rays.
            cells: Returns the texts of an X-ray after its name; the last one is its grade.
            skipped: Names of those that are not checked.
        """
        import qt

        self.isFilling = True
        self._names = [view.name for view in views]
        self._table.clearContents()
        self._table.setRowCount(len(views))
        setItem, isChecked = self._table.setItem, self._onUsed is not None  # looked up once: a table has many cells
        flags = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
        for row, view in enumerate(views):
            toolTip = "\n".join([view.name, *view.problems])
            for column, text in enumerate([shortName(view.name), *cells(view)]):
                item = qt.QTableWidgetItem(text)
                item.setFlags(flags | qt.Qt.ItemIsUserCheckable if column == 0 else flags)
                item.setToolTip(toolTip)
                if column == 0 and isChecked:
                    item.setCheckState(qt.Qt.Unchecked if view.name in skipped else qt.Qt.Checked)
                setItem(row, column, item)
            item.setForeground(qt.QBrush(qt.QColor(GRADE_COLORS.get(view.grade, "#808080"))))
        for column in range(1, self._table.columnCount):
            self._table.resizeColumnToContents(column)
        self.isFilling = False
        self._pictures = [(row, view.thumbnail) for row, view in enumerate(views)] if self._onUsed is not None else []
        self._timer.start()

    def goTo(self, name: str) -> None:
        """Make an X-ray the current one."""
        if name in self._names and self._table.currentRow() != self._names.index(name):
            self.isFilling = True
            self._table.setCurrentCell(self._names.index(name), 0)
            self.isFilling = False

    def _loadPicture(self) -> None:
        import qt

        if not self._pictures:
            self._timer.stop()
            return
        row, path = self._pictures.pop(0)
        self.isFilling = True
        if row < self._table.rowCount:
            self._table.item(row, 0).setIcon(qt.QIcon(qt.QPixmap(str(path))))
        self.isFilling = False

    def _onCell(self, row: int, _column: int, _oldRow: int, _oldColumn: int) -> None:
        if not self.isFilling and 0 <= row < len(self._names):
            self._onCurrent(self._names[row])

    def _onItem(self, item: Any) -> None:
        import qt

        if not self.isFilling and item.column() == 0:
            self._onUsed(self._names[item.row()], item.checkState() == qt.Qt.Checked)


def shortName(name: str) -> str:
    """Return a view's name without its folder and the file's ending."""
    return name.rsplit("/", 1)[-1].replace(".dcm", "")


def anglesText(view: XrayCard) -> str:
    """Return where the C-arm stood: LAO is towards the patient's left, CRA towards the head."""
    if view.anglesDeg is None:
        return _("not known")
    primary, secondary = (round(angle) for angle in view.anglesDeg)
    return f"{'RAO' if primary < 0 else 'LAO'} {abs(primary)}° {'CAU' if secondary < 0 else 'CRA'} {abs(secondary)}°"


def gradeText(view: XrayCard) -> str:
    """Return how good the pose of an X-ray is."""
    if not view.hasPose:
        return _("no pose")
    return {"green": _("green"), "amber": _("amber"), "red": _("red")}.get(view.grade, _("not graded"))
