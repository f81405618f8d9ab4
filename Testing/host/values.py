"""What passes between a module script and Qt: PythonQt's forms of values on one side, PySide's on the other."""

from __future__ import annotations

import enum
import os
from typing import Any

import numpy as np
import shiboken6


class NotInSlicer(AttributeError):
    """Something that desktop Slicer would refuse, or that the test host does not know."""


class Enum(int):
    """A value of a C++ enum: an int, as PythonQt has it, that remembers what it is in PySide."""

    def __new__(cls, value: enum.Enum) -> Enum:
        number = super().__new__(cls, value.value)
        number.cpp = value
        return number

    def __or__(self, other: int) -> int:
        return _enum(self.cpp | self._like(other))

    def __and__(self, other: int) -> int:
        return _enum(self.cpp & self._like(other))

    def __invert__(self) -> int:
        return _enum(~self.cpp)

    __ror__, __rand__ = __or__, __and__

    def _like(self, other: int) -> Any:
        return other.cpp if isinstance(other, Enum) else type(self.cpp)(other)


def _enum(value: Any) -> int:
    return Enum(value) if isinstance(value, enum.Enum) else value


def wrap(value: Any) -> Any:
    """Return a value as PythonQt would give it: wrapped objects, ints for enums, tuples for lists."""
    from .wrapping import wrapper_of

    if isinstance(value, enum.Enum):
        return Enum(value)
    if isinstance(value, shiboken6.Shiboken.Object):
        return wrapper_of(value)
    if isinstance(value, list | tuple):
        return tuple(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    return value


def unwrap(value: Any) -> Any:
    """Return a value as PySide takes it; what PythonQt does not convert is a TypeError."""
    from .wrapping import Wrapper

    if isinstance(value, Wrapper):
        return value._cpp
    if isinstance(value, Enum):
        return value.cpp
    if isinstance(value, list | tuple):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    if isinstance(value, os.PathLike):
        raise TypeError(f"PythonQt does not convert {type(value).__name__} to QString: write str(path).")
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, int | float):
        raise TypeError(f"PythonQt does not convert numpy's {type(value).__name__}: write float(value) or int(value).")
    return value


_NUMBERS = (int, float)
_ACCEPTED = {"QString": str, "int": _NUMBERS, "uint": _NUMBERS, "double": _NUMBERS, "float": _NUMBERS}


def check_property_value(owner: str, name: str, type_name: str, value: Any) -> Any:
    """Return a value as a property of such a type takes it.

    Raises:
        AttributeError: PythonQt would not convert it.
    """
    if type_name == "bool":
        return bool(value)  # PythonQt asks Python for the truth of anything
    accepted = _ACCEPTED.get(type_name)
    if accepted is not None and not isinstance(value, accepted):
        raise NotInSlicer(f"Property {name} of {owner} is a {type_name} and does not accept {value!r} of type {type(value).__name__}.")
    if type_name in ("int", "uint"):
        return int(value)
    return unwrap(value)
