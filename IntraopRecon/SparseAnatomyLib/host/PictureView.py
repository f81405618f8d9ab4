"""A picture with marks on it in a label of a panel: the wheel magnifies, and points can be moved, added and removed by the mouse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .Events import filterEvents

_NEAR_PX = 7  # on the screen: this far beside a point still takes it
_STEP, _LARGEST_MAGNIFICATION = 1.25, 16.0
_BACKGROUND, _LINE_PX = "#202020", 1.6
_HALO, _HALO_PX = "#000000", 3.2  # under every line, so that it stands out on bright bone as well


@dataclass(frozen=True)
class Mark:
    """A ring on the picture.

    Attributes:
        column, row: Its center in pixels of the image; 0 is the center of the first pixel.
        radius: In pixels of the image.
        color: Such as `#ff0000`.
        isDotted: Whether its line is dotted.
        text: Beside it.
        arrow: From its center, (columns, rows); none if None.
    """

    column: float
    row: float
    radius: float
    color: str
    isDotted: bool = False
    text: str = ""
    arrow: tuple[float, float] | None = None


@dataclass(frozen=True)
class Edits:
    """What is called when the user edits points; each takes the place in pixels of the image.

    Attributes:
        moved: (index, column, row), when the mouse lets go.
        added: (column, row).
        removed: (index).
    """

    moved: Callable[[int, float, float], None]
    added: Callable[[float, float], None]
    removed: Callable[[int], None]


class PictureView:
    """Shows one picture in a QLabel."""

    def __init__(self, label: Any, arrowColor: str = "#ffd23f", edits: Edits | None = None) -> None:
        """Take a label.

        Args:
            label: QLabel; its size is that of the view.
            arrowColor: Of all arrows.
            edits: Told what the user does with points; None where they cannot be edited.
        """
        self._label, self._arrowColor, self._edits = label, arrowColor, edits
        self._pixmap, self._over, self._sizePx, self._marks = None, None, (1, 1), ()
        self._editable, self._share = 0, None
        self._zoom, self._center = 1.0, (0.0, 0.0)
        self._dragged, self._place, self._last = -1, None, (0, 0)
        label.setMouseTracking(True)
        self._filter = filterEvents(label, self._onEvent)

    def show(self, path: Path | None, sizePx: tuple[int, int] = (1, 1)) -> None:
        """Show a picture.

        Args:
            path: Its file; None for none.
            sizePx: (columns, rows) of the image that it is a picture of, in whose pixels marks are given.
        """
        import qt

        self._pixmap = None if path is None else qt.QPixmap(str(path))
        self._over, self._share, self._marks, self._editable = None, None, (), 0
        self._sizePx, self._zoom, self._center = sizePx, 1.0, (sizePx[0] / 2 - 0.5, sizePx[1] / 2 - 0.5)
        self.draw()

    def showOver(self, path: Path | None, share: float) -> None:
        """Show another picture of the same image at the right of a line.

        Args:
            path: Its file; None keeps what is there.
            share: Of the width that the first picture keeps, 0 to 1.
        """
        import qt

        if path is not None:
            self._over = qt.QPixmap(str(path))
        self._share = share
        self.draw()

    def setMarks(self, marks: Sequence[Mark], editable: int = 0) -> None:
        """Show marks; the first `editable` of them are points that the user can move and remove."""
        self._marks, self._editable = tuple(marks), editable
        self.draw()

    def pointOnLabel(self, column: float, row: float) -> tuple[float, float]:
        """Return where a place of the image is on the label."""
        scale = self._scale()
        return (
            self._label.width / 2 + (column - self._center[0]) * scale,
            self._label.height / 2 + (row - self._center[1]) * scale,
        )

    def draw(self) -> None:
        """Draw everything anew."""
        import qt

        ratio = self._label.devicePixelRatioF()
        width, height = self._label.width, self._label.height
        canvas = qt.QPixmap(max(round(width * ratio), 1), max(round(height * ratio), 1))
        canvas.setDevicePixelRatio(ratio)
        canvas.fill(qt.QColor(_BACKGROUND) if self._pixmap is not None else qt.QColor(0, 0, 0, 0))
        if self._pixmap is not None and not self._pixmap.isNull():
            painter = qt.QPainter()
            painter.begin(canvas)
            painter.setRenderHint(qt.QPainter.Antialiasing, True)
            painter.setRenderHint(qt.QPainter.SmoothPixmapTransform, self._scale() < 3)  # large pixels are seen as they are
            self._drawPictures(painter, width, height)
            for index, mark in enumerate(self._marks):
                self._drawMark(painter, mark, self._place if index == self._dragged else None)
            painter.end()
        self._label.setPixmap(canvas)

    def _drawPictures(self, painter: Any, width: float, height: float) -> None:
        import qt

        scale = self._scale()
        left, top = self.pointOnLabel(-0.5, -0.5)
        target = qt.QRectF(left, top, self._sizePx[0] * scale, self._sizePx[1] * scale)
        painter.drawPixmap(target, self._pixmap, qt.QRectF(self._pixmap.rect()))
        if self._over is not None and self._share is not None:
            line = left + self._share * self._sizePx[0] * scale
            painter.save()
            painter.setClipRect(qt.QRectF(line, 0, max(width - line, 0), height))
            painter.drawPixmap(target, self._over, qt.QRectF(self._over.rect()))
            painter.restore()
            painter.setPen(qt.QPen(qt.QBrush(qt.QColor("#ffd23f")), _LINE_PX))
            painter.drawLine(qt.QPointF(line, top), qt.QPointF(line, top + target.height()))

    def _drawMark(self, painter: Any, mark: Mark, place: tuple[float, float] | None) -> None:
        import qt

        x, y = self.pointOnLabel(*(place or (mark.column, mark.row)))
        radius = max(mark.radius * self._scale() + 2, 4.0)
        for pen in _pens(mark.color, mark.isDotted):
            painter.setPen(pen)
            painter.drawEllipse(qt.QPointF(x, y), radius, radius)
        if mark.arrow is not None and place is None:
            self._drawArrow(painter, (x, y), self.pointOnLabel(mark.column + mark.arrow[0], mark.row + mark.arrow[1]))
        if mark.text:
            left, base = x + radius + 1, y - radius + 3
            painter.setPen(qt.QColor(_HALO))
            for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                painter.drawText(qt.QPointF(left + step[0], base + step[1]), mark.text)
            painter.setPen(qt.QColor(mark.color))
            painter.drawText(qt.QPointF(left, base), mark.text)

    def _drawArrow(self, painter: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
        import qt

        angle, length = math.atan2(end[1] - start[1], end[0] - start[0]), math.dist(start, end)
        tips = [(min(5.0, length) * math.cos(angle + turn), min(5.0, length) * math.sin(angle + turn)) for turn in (2.6, -2.6)]
        for pen in _pens(self._arrowColor):
            painter.setPen(pen)
            painter.drawLine(qt.QPointF(*start), qt.QPointF(*end))
            for tip in tips:
                painter.drawLine(qt.QPointF(*end), qt.QPointF(end[0] + tip[0], end[1] + tip[1]))

    # The mouse

    def _onEvent(self, event: Any) -> bool:
        import qt

        kind = event.type()
        if kind == qt.QEvent.Resize:
            self.draw()
        if self._pixmap is None:
            return False
        if kind == qt.QEvent.Wheel:
            self._magnify(event.angleDelta().y() > 0)
            return True
        if kind in (qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonDblClick, qt.QEvent.MouseMove, qt.QEvent.MouseButtonRelease):
            self._onMouse(kind, event)
        return False

    def _onMouse(self, kind: int, event: Any) -> None:
        import qt

        x, y = event.pos().x(), event.pos().y()
        before, self._last = self._last, (x, y)
        isLeft, point = event.button() == qt.Qt.LeftButton, self._imagePoint(x, y)
        if kind == qt.QEvent.MouseMove and event.buttons() & qt.Qt.LeftButton:
            self._drag(point, (x - before[0], y - before[1]))
        elif kind == qt.QEvent.MouseButtonPress and isLeft:
            self._dragged, self._place = self._nearest(x, y), None
        elif kind == qt.QEvent.MouseButtonPress and self._edits is not None and (index := self._nearest(x, y)) >= 0:
            self._edits.removed(index)
        elif (
            kind == qt.QEvent.MouseButtonDblClick
            and isLeft
            and self._edits is not None
            and self._nearest(x, y) < 0
            and self._isInside(point)
        ):
            self._edits.added(*point)
        elif kind == qt.QEvent.MouseButtonRelease and isLeft:
            index, place = self._dragged, self._place
            self._dragged, self._place = -1, None
            if index >= 0 and place is not None:
                self._edits.moved(index, *place)

    def _drag(self, point: tuple[float, float], step: tuple[int, int]) -> None:
        """Move the point that is held, or the picture where none is."""
        if self._dragged >= 0:
            if self._isInside(point):
                self._place = point
        elif self._zoom > 1:
            scale = self._scale()
            self._aim((self._center[0] - step[0] / scale, self._center[1] - step[1] / scale))
        self.draw()

    def _magnify(self, isNearer: bool) -> None:
        """Magnify so that what is under the mouse stays there."""
        kept = self._imagePoint(*self._last)
        self._zoom = min(max(self._zoom * (_STEP if isNearer else 1 / _STEP), 1.0), _LARGEST_MAGNIFICATION)
        now = self._imagePoint(*self._last)
        self._aim((self._center[0] + kept[0] - now[0], self._center[1] + kept[1] - now[1]))
        self.draw()

    def _aim(self, center: tuple[float, float]) -> None:
        """Look at a place of the image; at its middle where nothing is magnified."""
        middle = [size / 2 - 0.5 for size in self._sizePx]
        inside = [min(max(value, -0.5), size - 0.5) for value, size in zip(center, self._sizePx, strict=True)]
        self._center = tuple(inside if self._zoom > 1 else middle)

    def _nearest(self, x: float, y: float) -> int:
        """Return the editable mark that a place on the label is in or near to, -1 for none."""
        if self._edits is None:
            return -1
        places = [math.dist((x, y), self.pointOnLabel(mark.column, mark.row)) for mark in self._marks[: self._editable]]
        reach = [max(mark.radius * self._scale(), _NEAR_PX) for mark in self._marks[: self._editable]]
        near = [index for index, (distance, limit) in enumerate(zip(places, reach, strict=True)) if distance <= limit]
        return min(near, key=lambda index: places[index]) if near else -1

    def _imagePoint(self, x: float, y: float) -> tuple[float, float]:
        scale = self._scale()
        return self._center[0] + (x - self._label.width / 2) / scale, self._center[1] + (y - self._label.height / 2) / scale

    def _isInside(self, point: tuple[float, float]) -> bool:
        return all(-0.5 <= value <= size - 0.5 for value, size in zip(point, self._sizePx, strict=True))

    def _scale(self) -> float:
        """Return how many pixels of the screen one of the image takes."""
        columns, rows = self._sizePx
        return self._zoom * min(self._label.width / max(columns, 1), self._label.height / max(rows, 1))


def _pens(color: str, isDotted: bool = False) -> list[Any]:
    """Return the pens that draw a line one after the other: a dark one beneath, then its color."""
    import qt

    pens = []
    for name, width in ((_HALO, _HALO_PX), (color, _LINE_PX)):
        pen = qt.QPen(qt.QBrush(qt.QColor(name)), width)
        if isDotted:
            pen.setStyle(qt.Qt.DotLine)
        pens.append(pen)
    return pens[1:] if isDotted else pens
