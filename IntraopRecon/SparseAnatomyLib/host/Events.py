"""Events of widgets that have no signal: what is dropped on them, and the mouse on a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def filterEvents(widget: Any, handle: Callable[[Any], bool]) -> Any:
    """Let a function see every event of a widget first.

    Args:
        widget: QWidget.
        handle: Takes the QEvent; returns whether nobody else is to have it.

    Returns:
        The filter, a QObject: it works for as long as it is kept.
    """
    import qt

    class Filter(qt.QObject):
        """Hands events on."""

        def eventFilter(self, _watched, event) -> bool:
            return handle(event)

    guard = Filter()
    widget.installEventFilter(guard)
    return guard


def takeDrops(widget: Any, onDropped: Callable[[list[str]], None], isReady: Callable[[], bool]) -> Any:
    """Let files and folders be dropped on a widget.

    Args:
        widget: QWidget.
        onDropped: Takes their paths.
        isReady: Whether they can be taken now.

    Returns:
        The filter: keep it.
    """
    import qt

    def handle(event: Any) -> bool:
        if event.type() not in (qt.QEvent.DragEnter, qt.QEvent.Drop):
            return False
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if not paths or not isReady():
            return False
        event.acceptProposedAction()
        if event.type() == qt.QEvent.Drop:
            onDropped(paths)
        return True

    widget.setAcceptDrops(True)
    return filterEvents(widget, handle)
