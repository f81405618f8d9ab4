"""A list of functions to call: what Qt's signals are, without Qt, so that logic runs in tests and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls every connected function with what is emitted, in the order of connection.

    >>> done = Signal()
    >>> done.connect(print)
    >>> done.emit("volume", 3)
    volume 3
    """

    def __init__(self) -> None:
        self._functions: list[Callable[..., Any]] = []

    def connect(self, function: Callable[..., Any]) -> None:
        """Call `function` at every emit; once, however often it is connected."""
        if function not in self._functions:
            self._functions.append(function)

    def disconnect(self, function: Callable[..., Any]) -> None:
        """Call `function` no more; one that is not connected is no error."""
        if function in self._functions:
            self._functions.remove(function)

    def emit(self, *values: Any) -> None:
        """Call the functions that are connected now."""
        for function in list(self._functions):
            function(*values)
