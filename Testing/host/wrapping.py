"""PythonQt's wrappers: properties as attributes, only what the class has in C++, nothing new on its objects."""

from __future__ import annotations

import enum
import inspect
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDialog, QMenu

from . import dialogs
from .signals import BoundSignal, connect, disconnect, guarded, signature_of
from .values import Enum, NotInSlicer, check_property_value, unwrap, wrap

PYSIDE_ONLY = frozenset({"tr", "receivers", "connectNotify", "disconnectNotify", "snake_case"})
QT6_ONLY = frozenset({"position", "globalPosition", "scenePosition", "deviceIndependentSize", "checkStateChanged", "points"})
_RENAMED = {"exec_": "exec", "print_": "print"}

_classes: dict[type, type] = {}
_wrappers: weakref.WeakValueDictionary[int, Wrapper] = weakref.WeakValueDictionary()


def invokable(function: Callable) -> Callable:
    """Mark a method of a stand-in as Q_INVOKABLE or a slot of the class that it stands for: scripts may call it."""
    function.is_invokable = True
    return function


class WrapperType(type):
    """Looks up what a class has: enum values, static functions, methods."""

    def __getattr__(cls, name: str) -> Any:
        cpp_class = cls.__dict__.get("_cpp_class") or next((base._cpp_class for base in cls.__mro__ if "_cpp_class" in vars(base)), None)
        if cpp_class is None or name.startswith("_") or not hasattr(cpp_class, _RENAMED.get(name, name)):
            raise NotInSlicer(f"{cls.__name__} has no {name}.")
        value = getattr(cpp_class, _RENAMED.get(name, name))
        if isinstance(value, type) and issubclass(value, enum.Enum):
            raise NotInSlicer(f"PythonQt has the values of {cls.__name__}.{name} on {cls.__name__} itself: {cls.__name__}.VALUE.")
        if isinstance(value, enum.Enum):
            return Enum(value)
        if isinstance(value, type) and issubclass(value, shiboken6.Shiboken.Object):
            return wrapper_class(value)
        if isinstance(value, int | str):
            return value
        if not _is_public(cpp_class, name):
            raise NotInSlicer(f"{cls.__name__} has no {name}.")
        return Method(cpp_class, value, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        if "_cpp_class" in vars(cls) and not name.startswith("__"):
            raise NotInSlicer(f"{cls.__name__} is a C++ class: it takes no new attribute {name}.")
        super().__setattr__(name, value)


class Method:
    """A method that takes and gives what PythonQt does; no keywords."""

    def __init__(self, owner: Any, function: Callable[..., Any], name: str) -> None:
        self._owner, self._function, self.__name__ = owner, function, name

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{self.__name__}() takes no keyword arguments in PythonQt, got {', '.join(keywords)}.")
        if self.__name__ in ("exec", "exec_") and isinstance(self._owner, QDialog):
            return dialogs.run(self._owner)
        if self.__name__ in ("exec", "exec_", "popup") and isinstance(self._owner, QMenu):
            raise NotInSlicer("The test host opens no menus: trigger the action.")
        if self.__name__ == "singleShot":
            args = tuple(_guard(arg) if callable(arg) else arg for arg in args)
        plain = [unwrap(arg) for arg in args]
        try:
            return wrap(self._function(*plain))
        except DeprecationWarning:  # of Qt 6, where warnings are errors; Slicer has Qt 5
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return wrap(self._function(*plain))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (self._owner, self.__name__) == (other._owner, other.__name__)

    def __hash__(self) -> int:
        return hash((id(self._owner), self.__name__))


def _guard(function: Callable[[], Any]) -> Callable[[], None]:
    def guard() -> None:
        with guarded():
            function()

    return guard


class Wrapper(metaclass=WrapperType):
    """The Python side of a C++ object."""

    __slots__ = ("__weakref__", "_cpp")

    def __init__(self, *args: Any, **keywords: Any) -> None:
        if keywords:
            raise TypeError(f"{type(self).__name__}() takes no keyword arguments in PythonQt, got {', '.join(keywords)}.")
        cls = type(self)
        is_direct = "_cpp_class" in vars(cls)
        cpp = (cls._cpp_class if is_direct else _shell_class(cls))(*[unwrap(arg) for arg in args])
        object.__setattr__(self, "_cpp", cpp)
        _wrappers[id(cpp)] = self
        if not is_direct:
            cpp.python_side = self

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_cpp", "_cpp_class"):
            return object.__getattribute__(self, name)
        if _is_python_attribute(self, name):
            return object.__getattribute__(self, name)
        return _lookup(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        cpp = _alive(self)
        owner = type(self).__name__
        if isinstance(cpp, QObject):
            meta = cpp.metaObject()
            index = meta.indexOfProperty("objectName" if name == "name" else name)
            if index >= 0:
                _set_property(cpp, owner, meta.property(index), value)
                return
            if any(bytes(key.data()).decode() == name for key in cpp.dynamicPropertyNames()):
                cpp.setProperty(name, unwrap(value))
                return
        if "_cpp_class" not in vars(type(self)):
            object.__setattr__(self, name, value)
            return
        raise NotInSlicer(f"Attribute '{name}' does not exist and creation of new attributes on {owner} objects is not allowed.")

    def __repr__(self) -> str:
        cpp = object.__getattribute__(self, "_cpp")
        if not isinstance(cpp, QObject):
            return repr(cpp)
        return f"{type(self).__name__} (C++ object {cpp.objectName() if shiboken6.isValid(cpp) else 'deleted'!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wrapper):
            return False
        return self._cpp is other._cpp if isinstance(self._cpp, QObject) else bool(self._cpp == other._cpp)

    def __hash__(self) -> int:
        return id(self._cpp) if isinstance(self._cpp, QObject) else hash(self._cpp)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._cpp)


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: Wrapper, *others: Any) -> Any:
        function = getattr(type(_alive(self)), name, None)
        return NotImplemented if function is None else wrap(function(self._cpp, *[unwrap(other) for other in others]))

    return operate


for _name in ("add", "sub", "mul", "rmul", "truediv", "neg", "lt", "le", "gt", "ge", "len", "getitem", "contains"):
    type.__setattr__(Wrapper, f"__{_name}__", _operator(f"__{_name}__"))


def wrapper_class(cpp_class: type) -> type:
    """Return the class that stands for one of PySide's or of the stand-ins."""
    if cpp_class not in _classes:
        bases = [wrapper_class(base) for base in cpp_class.__bases__ if issubclass(base, shiboken6.Shiboken.Object)]
        bases = [base for base in bases if base is not Wrapper] or [Wrapper]
        names = {name: _base_method(cpp_class, name) for name in dir(cpp_class) if name in _VIRTUAL or name.endswith("Event")}
        body = {"__slots__": (), "_cpp_class": cpp_class, "__doc__": f"Stands for {cpp_class.__name__} in C++.", **names}
        _classes[cpp_class] = WrapperType(cpp_class.__name__, tuple(bases), body)
    return _classes[cpp_class]


_classes[shiboken6.Shiboken.Object] = Wrapper
_VIRTUAL = frozenset({"event", "eventFilter", "sizeHint", "minimumSizeHint", "accept", "reject", "done", "data", "rowCount", "columnCount"})


def wrapper_of(cpp: Any) -> Wrapper:
    """Return the wrapper of a PySide object, always the same for the same object."""
    known = getattr(cpp, "python_side", None) if isinstance(cpp, QObject) else None
    known = known or _wrappers.get(id(cpp))
    if known is not None and object.__getattribute__(known, "_cpp") is cpp:
        return known
    wrapper = object.__new__(wrapper_class(_public_class(type(cpp))))
    object.__setattr__(wrapper, "_cpp", cpp)
    _wrappers[id(cpp)] = wrapper
    return wrapper


def _public_class(cls: type) -> type:
    """Return the nearest class that scripts may know."""
    return next(base for base in cls.__mro__ if not base.__name__.startswith("_") and "python_side" not in vars(base))


def _alive(wrapper: Wrapper) -> Any:
    cpp = object.__getattribute__(wrapper, "_cpp")
    if not shiboken6.isValid(cpp):
        raise ValueError(f"Trying to use a destroyed {type(wrapper).__name__} object.")
    return cpp


def _is_python_attribute(wrapper: Wrapper, name: str) -> bool:
    """Whether a Python subclass of a C++ class, or its object, has an attribute of its own."""
    cls = type(wrapper)
    if "_cpp_class" in vars(cls):
        return False
    owners = [base for base in cls.__mro__ if base is not Wrapper and "_cpp_class" not in vars(base)]
    return name in object.__getattribute__(wrapper, "__dict__") or any(name in vars(base) for base in owners)


def _lookup(wrapper: Wrapper, name: str) -> Any:
    """Find an attribute in PythonQt's order: property, signal, method, enum value."""
    cpp = _alive(wrapper)
    if isinstance(cpp, QObject):
        if cpp.metaObject().indexOfProperty("objectName" if name == "name" else name) >= 0:
            return wrap(cpp.property("objectName" if name == "name" else name))
        if name in _OF_EVERY_OBJECT:
            return types.MethodType(_OF_EVERY_OBJECT[name], cpp)
        signature = signature_of(cpp, name)
        if signature is not None:
            return BoundSignal(cpp, signature)
        if any(bytes(key.data()).decode() == name for key in cpp.dynamicPropertyNames()):
            return wrap(cpp.property(name))
    known = _RENAMED.get(name, name)
    if not name.startswith("_") and _is_public(type(cpp), known):
        value = getattr(cpp, known)
        if callable(value) and not isinstance(value, type):
            return Method(cpp, value, name)
    return getattr(type(wrapper), name)


def _is_public(cls: type, name: str) -> bool:
    """Whether scripts see a method: all that Qt has, and of stand-ins what is marked."""
    if name in PYSIDE_ONLY or (name in QT6_ONLY and "Event" in cls.__name__):
        return False
    owners = [base for base in cls.__mro__ if name in vars(base)]
    if not owners:
        return False
    of_qt = any(base.__module__.startswith("PySide6") for base in owners)
    return of_qt or getattr(inspect.getattr_static(owners[0], name), "is_invokable", False)


def _set_property(cpp: QObject, owner: str, prop: Any, value: Any) -> None:
    name = prop.name()
    if not prop.isWritable():
        raise NotInSlicer(f"Property {name} of {owner} is not writable.")
    if not cpp.setProperty(name, check_property_value(owner, name, prop.typeName(), value)):
        raise NotInSlicer(f"Property {name} of {owner} does not accept {value!r}.")


def _base_method(cpp_class: type, name: str) -> Callable[..., Any]:
    """Return what `super().name(...)` finds in a Python subclass."""

    def call(self: Wrapper, *args: Any) -> Any:
        return wrap(getattr(cpp_class, name)(self._cpp, *[unwrap(arg) for arg in args]))

    call.__name__ = name
    return call


def _shell_class(cls: type) -> type:
    """Return a PySide class whose virtual methods call those that a Python subclass overrides."""
    direct = next(base for base in cls.__mro__ if "_cpp_class" in vars(base))
    own = cls.__mro__[: cls.__mro__.index(direct)]
    names = {name for base in own for name, value in vars(base).items() if callable(value) and not name.startswith("_")}
    body = {name: _trampoline(direct._cpp_class, name) for name in names if name in _VIRTUAL or name.endswith("Event")}
    return type(cls.__name__, (direct._cpp_class,), {"python_side": None, **body})


def _trampoline(cpp_class: type, name: str) -> Callable[..., Any]:
    def call(cpp: Any, *args: Any) -> Any:
        try:
            method = getattr(cpp.python_side, name)
        except AttributeError:  # still under construction, or on its way out
            return getattr(cpp_class, name)(cpp, *args)
        with guarded():
            return unwrap(method(*[wrap(arg) for arg in args]))
        return getattr(cpp_class, name)(cpp, *args)

    return call


def _find_children(cpp: QObject, class_name: str = "QObject", name: str = "") -> tuple[Any, ...]:
    found = [child for child in cpp.findChildren(QObject) if child.inherits(unwrap_name(class_name))]
    return tuple(wrap(child) for child in found if not name or child.objectName() == name)


def unwrap_name(class_name: str | type) -> str:
    """Return the name of a class given by its name or as a class."""
    return class_name if isinstance(class_name, str) else class_name.__name__


_OF_EVERY_OBJECT = {
    "connect": lambda cpp, signal, *receiver: connect(cpp, signal, *receiver),
    "disconnect": lambda cpp, signal, *receiver: disconnect(cpp, signal, *receiver),
    "className": lambda cpp: cpp.metaObject().className(),
    "findChildren": _find_children,
    "findChild": lambda cpp, class_name="QObject", name="": next(iter(_find_children(cpp, class_name, name)), None),
}
