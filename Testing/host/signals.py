"""Signals as PythonQt connects them: by their C++ signature, to any callable, with as many values as it takes."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import shiboken6
from PySide6.QtCore import SIGNAL, QMetaMethod, QMetaObject, QObject

from .values import NotInSlicer, unwrap, wrap

errors: list[BaseException] = []
"""What was raised in slots and overridden methods: Slicer prints it, a test fails on it."""

_relays: dict[tuple[int, str], list[tuple[Callable, Callable]]] = {}
"""By sender and signal: the callables and what stands between them and Qt."""


@contextmanager
def guarded():
    """Print and remember what a callback raises instead of letting it into Qt."""
    try:
        yield
    except Exception as error:
        errors.append(error)
        # not traceback's function: it parses Python, which Python 3.11 does not survive within a garbage collection
        sys.__excepthook__(type(error), error, error.__traceback__)


def forget() -> None:
    """Drop every connection and error."""
    _relays.clear()
    errors.clear()


def signatures(cpp: QObject) -> list[str]:
    """Return the signatures of an object's signals in C++'s types."""
    meta = cpp.metaObject()
    methods = (meta.method(n) for n in range(meta.methodCount()))
    found = [bytes(method.methodSignature().data()).decode() for method in methods if method.methodType() == QMetaMethod.MethodType.Signal]
    aliases = getattr(type(cpp), "SIGNALS", {})
    hidden = set(aliases.values())
    return [*aliases, *(signature for signature in found if signature not in hidden)]


def signature_of(cpp: QObject, name: str) -> str | None:
    """Return the longest signature of the signal of that name, or None."""
    found = [signature for signature in signatures(cpp) if signature.split("(")[0] == name]
    return max(found, key=len, default=None)


def connect(cpp: QObject, signal: str, *receiver: Any) -> bool:
    """Call something whenever a signal is emitted.

    Args:
        cpp: The sender.
        signal: Its signature as in C++, such as `clicked(bool)`.
        receiver: A callable, or an object and the name of its slot.

    Raises:
        NotInSlicer: There is no such signal; Slicer would only print it.
    """
    function = _function(receiver)
    known = _known(cpp, signal)
    relay = _relay(function)
    if not QObject.connect(cpp, SIGNAL(known), relay):
        raise NotInSlicer(f"{signal} of {type(cpp).__name__} could not be connected.")
    key = (shiboken6.getCppPointer(cpp)[0], known)
    _relays.setdefault(key, []).append((function, relay))
    return True


def disconnect(cpp: QObject, signal: str, *receiver: Any) -> bool:
    """Call a callable no more; without one, none that is connected to this signal."""
    known = _known(cpp, signal)
    key = (shiboken6.getCppPointer(cpp)[0], known)
    function = _function(receiver) if receiver else None
    gone = [pair for pair in _relays.get(key, []) if function is None or pair[0] == function]
    for pair in gone:
        QObject.disconnect(cpp, SIGNAL(known), pair[1])
        _relays[key].remove(pair)
    return bool(gone)


class BoundSignal:
    """A signal of an object, as an attribute of it."""

    def __init__(self, cpp: QObject, signature: str) -> None:
        self._cpp, self._signature = cpp, signature

    def connect(self, *receiver: Any) -> bool:
        return connect(self._cpp, self._signature, *receiver)

    def disconnect(self, *receiver: Any) -> bool:
        return disconnect(self._cpp, self._signature, *receiver)

    def emit(self, *values: Any) -> None:
        name = _known(self._cpp, self._signature).split("(")[0]
        getattr(self._cpp, name).emit(*[unwrap(value) for value in values])

    __call__ = emit


def _known(cpp: QObject, signal: str) -> str:
    """Return PySide's signature of a signal."""
    normalized = bytes(QMetaObject.normalizedSignature(signal).data()).decode()
    known = signatures(cpp)
    if normalized not in known or "PyObject" in normalized:
        raise NotInSlicer(f"{type(cpp).__name__} has no signal {signal}. It has: {', '.join(sorted(known))}.")
    return getattr(type(cpp), "SIGNALS", {}).get(normalized, normalized)


def _function(receiver: tuple[Any, ...]) -> Callable[..., Any]:
    match receiver:
        case (function,) if callable(function):
            return function
        case (target, str(slot)):
            return getattr(target, re.sub(r"^[12]|\(.*", "", slot))
    raise TypeError(f"expected a callable, or an object and the name of its slot, got {receiver!r}")


def _relay(function: Callable[..., Any]) -> Callable[..., None]:
    taken = _positional(function)

    def relay(*values: Any) -> None:
        with guarded():
            function(*[wrap(value) for value in values[:taken]])

    return relay


def _positional(function: Callable[..., Any]) -> int | None:
    """Return how many values PythonQt hands to a callable at most: what its code takes; None for any number."""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return None
    return code.co_argcount - (1 if inspect.ismethod(function) else 0)
