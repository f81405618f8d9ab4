"""The user's hands: real mouse and keyboard events on what is visible and enabled; and a watch on the GUI thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QEvent, QEventLoop, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QRadioButton,
    QScrollArea,
    QSlider,
    QWidget,
)

from .ctk_widgets import ctkCollapsibleButton
from .values import unwrap

_LEFT = Qt.MouseButton.LeftButton


class OutOfReach(AssertionError):
    """A user could not do this."""


def _reach(widget: Any) -> QWidget:
    """Return the widget if a user could use it now, scrolled into view."""
    cpp = unwrap(widget)
    QApplication.processEvents()
    if not cpp.isVisible():
        raise OutOfReach(f"{cpp.objectName()} is not visible")
    if not cpp.isEnabled():
        raise OutOfReach(f"{cpp.objectName()} is disabled: {cpp.toolTip()}")
    parent = cpp.parentWidget()
    while parent is not None and not isinstance(parent, QScrollArea):
        parent = parent.parentWidget()
    if parent is not None:
        parent.ensureWidgetVisible(cpp)
        QApplication.processEvents()
    if cpp.visibleRegion().isEmpty():
        raise OutOfReach(f"{cpp.objectName()} is hidden behind something or clipped")
    return cpp


def click(widget: Any) -> None:
    """Click with the left button: on the indicator of check boxes, the heading of what collapses, in the middle of everything else."""
    cpp = _reach(widget)
    if isinstance(cpp, ctkCollapsibleButton):
        place = QPoint(cpp.width() // 2, cpp.head_px() // 2)
    else:
        place = QPoint(8, cpp.height() // 2) if isinstance(cpp, QCheckBox | QRadioButton) else cpp.rect().center()
    if not isinstance(cpp, QAbstractButton | QLineEdit):
        raise OutOfReach(f"{cpp.objectName()} is nothing that is clicked: use another hand")
    QTest.mouseClick(cpp, _LEFT, Qt.KeyboardModifier.NoModifier, place)
    QApplication.processEvents()


def choose(widget: Any, text: str) -> None:
    """Choose an item of a combo box, by opening it with the mouse and going to the item with the keyboard."""
    cpp = _reach(widget)
    combo = cpp if isinstance(cpp, QComboBox) else cpp.findChild(QComboBox)
    index = combo.findText(text)
    if index < 0:
        raise OutOfReach(f"{cpp.objectName()} offers no {text!r}, but {[combo.itemText(n) for n in range(combo.count())]}")
    combo.setFocus()
    QTest.keyClick(combo, Qt.Key.Key_Home)
    for _ in range(combo.count()):
        if combo.currentIndex() == index:
            break
        QTest.keyClick(combo, Qt.Key.Key_Down)
    QApplication.processEvents()
    if combo.currentIndex() != index:
        raise OutOfReach(f"{cpp.objectName()} stays at {combo.currentText()!r}")


def write(widget: Any, text: str) -> None:
    """Click into a line, select what is there and type."""
    cpp = _reach(widget)
    line = cpp if isinstance(cpp, QLineEdit) else cpp.findChild(QLineEdit)
    click(line)
    QTest.keyClick(line, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(line, Qt.Key.Key_Delete)
    if text.isascii():
        QTest.keyClicks(line, text)
    else:  # QTest has no such keys
        QApplication.clipboard().setText(text)
        QTest.keyClick(line, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(line, Qt.Key.Key_Return)
    QApplication.processEvents()


def select_cell(widget: Any, row: int, column: int = 0, on_check_box: bool = False) -> None:
    """Click on a cell of a table, list or tree, or on the check box in it."""
    cpp = _reach(widget)
    table = cpp if isinstance(cpp, QAbstractItemView) else cpp.findChild(QAbstractItemView)
    index = table.model().index(row, column)
    if not index.isValid():
        raise OutOfReach(f"{cpp.objectName()} has no cell ({row}, {column})")
    table.scrollTo(index)
    place = table.visualRect(index)
    point = QPoint(place.left() + 10, place.center().y()) if on_check_box else place.center()
    QTest.mouseClick(table.viewport(), _LEFT, Qt.KeyboardModifier.NoModifier, point)
    QApplication.processEvents()


def slide(widget: Any, steps: int) -> None:
    """Move a slider by steps of its arrow keys, to the left where negative."""
    cpp = _reach(widget)
    slider = cpp if isinstance(cpp, QSlider) else cpp.findChild(QSlider)
    slider.setFocus()
    for _ in range(abs(steps)):
        QTest.keyClick(slider, Qt.Key.Key_Right if steps > 0 else Qt.Key.Key_Left)
    QApplication.processEvents()


def drop(widget: Any, paths: list[Any]) -> None:
    """Drag files or folders onto a widget and let go."""
    cpp = _reach(widget)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    middle = QPointF(cpp.rect().center())
    manner = (Qt.DropAction.CopyAction, data, _LEFT, Qt.KeyboardModifier.NoModifier)
    for event in (QDragEnterEvent(middle, *manner), QDropEvent(middle, *manner)):
        event.setAccepted(False)
        if not cpp.acceptDrops() or not QApplication.sendEvent(cpp, event) or not event.isAccepted():
            raise OutOfReach(f"{cpp.objectName()} takes no files")
    QApplication.processEvents()


def click_at(widget: Any, x: float, y: float, right: bool = False, double: bool = False) -> None:
    """Click on a place of a widget, such as a picture."""
    cpp, button = _reach(widget), Qt.MouseButton.RightButton if right else _LEFT
    QTest.mouseClick(cpp, button, Qt.KeyboardModifier.NoModifier, QPointF(x, y).toPoint())
    if double:
        QTest.mouseDClick(cpp, button, Qt.KeyboardModifier.NoModifier, QPointF(x, y).toPoint())
    QApplication.processEvents()


def drag(widget: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the left button at one place of a widget, move the mouse to another in two moves, and let go."""
    cpp, (first, last) = _reach(widget), (QPointF(*start), QPointF(*end))
    none = Qt.KeyboardModifier.NoModifier
    QTest.mousePress(cpp, _LEFT, none, first.toPoint())
    for place in ((first + last) / 2, last):
        moved = QMouseEvent(QEvent.Type.MouseMove, place, cpp.mapToGlobal(place), Qt.MouseButton.NoButton, _LEFT, none)
        QApplication.sendEvent(cpp, moved)
    QTest.mouseRelease(cpp, _LEFT, none, last.toPoint())
    QApplication.processEvents()


def turn_wheel(widget: Any, x: float, y: float, steps: int) -> None:
    """Move the mouse to a place of a widget and turn the wheel, away from the user where positive."""
    cpp, place = _reach(widget), QPointF(x, y)
    none, no_button = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.NoButton
    QApplication.sendEvent(cpp, QMouseEvent(QEvent.Type.MouseMove, place, cpp.mapToGlobal(place), no_button, no_button, none))
    for _ in range(abs(steps)):
        angle = QPoint(0, 120 if steps > 0 else -120)
        wheel = QWheelEvent(place, cpp.mapToGlobal(place), QPoint(), angle, no_button, none, Qt.ScrollPhase.NoScrollPhase, False)
        QApplication.sendEvent(cpp, wheel)
    QApplication.processEvents()


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Let the application run until a condition holds.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    if condition():
        return
    loop, end, held = QEventLoop(), time.monotonic() + timeout_s, []

    def look() -> None:
        try:
            if condition():
                held.append(True)
        except Exception as error:
            held.append(error)
        if held or time.monotonic() > end:
            loop.quit()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    loop.exec()
    timer.stop()
    if held and isinstance(held[0], Exception):
        raise held[0]
    if not held:
        raise TimeoutError(f"after {timeout_s} s it was still not so")


@dataclass
class Blocks:
    """How long the GUI thread did not come back to its event loop.

    Attributes:
        wall_ms: The longest such times with their share of computing, as a clock on the wall counts.
        cpu_ms: The most that the GUI thread computed at a stretch: what other programs on the machine do not change.
    """

    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    _last: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def beat(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.wall_ms = max(self.wall_ms, 1e3 * (now[0] - self._last[0]))
        self.cpu_ms = max(self.cpu_ms, 1e3 * (now[1] - self._last[1]))
        self._last = now


BEAT_MS = 10


@contextmanager
def watch_blocks() -> Iterator[Blocks]:
    """Measure the longest time between two beats of a timer of `BEAT_MS`."""
    blocks = Blocks(_last=(time.perf_counter(), time.thread_time()))
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(blocks.beat)
    timer.start(BEAT_MS)
    try:
        yield blocks
    finally:
        timer.stop()
