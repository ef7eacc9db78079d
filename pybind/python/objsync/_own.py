"""The faces of `Object` over a storage of the user's own, which loads and saves one value as a whole.

Trail: `m["a"]["b"] = 1` -> `LiveDict.__setitem__` -> `Held.apply` -> `Kept.save` -> the user's `save`.

A class that gives `load` and `save` gets `_FACES`, of `OwnStorage`, in the place of `Object`: see `adopt`. What is
kept in memory is a dict, a list, a set, or the attributes of an object; what the user's methods see is
always the plain value.
"""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

from objsync._dict import DictLike, Hooks
from objsync._faces import unwrapped
from objsync._objects import MISSING, CompressedDiskObject, DiskObject, NetworkObject, Object
from objsync._own_source import Held
from objsync._show import value_shown
from objsync.errors import ClosedError, DetachedError, Error

__all__ = ["OwnStorage", "adopt"]

_READS: Final = (
    "__contains__", "__getitem__", "__iter__", "__len__", "__reversed__", "get", "items", "keys", "values",
)  # fmt: skip
_OPERATORS: Final = (
    "__add__", "__and__", "__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__mul__", "__or__", "__radd__",
    "__rand__", "__rmul__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__",
)  # fmt: skip
_CHANGES: Final = ("__delitem__", "__setitem__", "clear", "pop", "popitem", "setdefault", "update")
_CHANGES_IN_PLACE: Final = ("__iadd__", "__iand__", "__imul__", "__ior__", "__isub__", "__ixor__")
_STORES: Final = (DiskObject, CompressedDiskObject, NetworkObject)


def adopt(kind: type[Any]) -> None:
    """Puts `OwnStorage` where `Object` is among the bases of a class with `load` and `save`.

    Not for subclasses of `DiskObject` and its like, which keep what they are.
    """
    # By the order of resolution: `issubclass` would remember that `kind` is none of them.
    if not any(base in kind.__mro__ for base in (OwnStorage, *_STORES)):
        bases = tuple(_FACES if base is Object else base for base in kind.__bases__)
        kind.__bases__ = bases if _FACES in bases else (*bases, _FACES)


class Kept:
    """A value as the user's methods know it, and the source of its live objects."""

    def __init__(self, name: str, value: Any, save: Callable[[Any], object]) -> None:
        self._save = save
        self._template: Any = None
        kind = next((kind for kind in (dict, list, set) if isinstance(value, kind)), None)
        if kind is not None:
            value = kind(value)  # what is live is exactly one of these
        else:
            self._template, value = value, _attributes(value)
        self.held = Held(name, value, self.save)

    @property
    def is_object(self) -> bool:
        """Whether the value is an object with attributes, and what is held are these."""
        return self._template is not None

    def value(self) -> Any:
        """The plain value, new."""
        return self._built(self.held.value())

    def save(self, content: Any) -> None:
        """Has the user's `save` keep what is about to be held."""
        self._save(self._built(content))

    def call(self, owner: Any, name: str, /, *arguments: Any, **named: Any) -> Any:
        """Calls a method of the object, and saves what has become of it.

        Returns what the method returns; `owner` where that is the object itself, of which this is a copy.
        """
        with self.held.lock:
            value = self.value()
            result = getattr(value, name)(*arguments, **named)
            self.held.replace(_attributes(value))
            return owner if result is value else result

    def _built(self, content: Any) -> Any:
        if self._template is None:
            return content
        made = copy.copy(self._template)
        for name in _attributes(made).keys() - content.keys():
            object.__delattr__(made, name)
        for name, value in content.items():
            object.__setattr__(made, name, value)
        return made


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, also of one with slots; `TypeError` for what has none to set."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    if not hasattr(value, "__dict__") and not slots:
        name = type(value).__name__
        raise TypeError(f"a {name} is no root: it is a dict, a list, a set or an object with attributes")
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return held | getattr(value, "__dict__", {})


def _slots(kind: type) -> Iterable[str]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return (name for name in names if name not in ("__dict__", "__weakref__"))


class OwnStorage(Object):
    """What `Object` is to a subclass with a `load` and a `save` of its own; see `objsync.Object`."""

    _kept: Kept | None = None
    _is_closed = False
    _loader: int | None = None
    """The thread that is in `load`, where `load` may look for an attribute that is not there."""

    def __init__(self, default_value: Any = None) -> None:
        self._default_value = default_value
        self._begin()

    def _begin(self) -> Kept:
        kept = self._kept
        if kept is not None:
            return kept
        # Not made in __init__: a subclass need not call that.
        with self.__dict__.setdefault("_beginning", threading.RLock()):
            if self._kept is None:
                self._loader = threading.get_ident()
                try:
                    self._kept = self._loaded()
                finally:
                    self._loader = None
            return self._kept

    def _loaded(self) -> Kept:
        if self._is_closed:
            raise self._closed()
        name, load, save = type(self).__name__, self.load, self.save
        try:
            value = load()
        except FileNotFoundError:
            value = MISSING
        if value is not MISSING:
            return Kept(name, value, save)
        default = self.__dict__.get("_default_value")
        kept = Kept(name, {} if default is None else default, save)
        if default is not None:
            kept.save(kept.held.value())
        return kept

    def _read(self) -> Any:
        kept = self._begin()
        return kept.value() if kept.is_object else kept.held.top()

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        kept = self._begin()
        if kept.is_object:
            return kept.call(self, name, *arguments, **named)
        return getattr(kept.held.top(), name)(*arguments, **named)

    # Attributes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._loader == threading.get_ident():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        kept = self._begin()
        if not kept.is_object:
            return getattr(kept.held.top(), name)
        if name in kept.held.top():
            return kept.held.top()[name]
        found = getattr(kept.value(), name)
        if not callable(found):
            return found
        return lambda *arguments, **named: kept.call(self, name, *arguments, **named)

    def __setattr__(self, name: str, value: Any) -> None:
        kept = self._kept
        if kept is None or not kept.is_object or self._is_mine(name):
            object.__setattr__(self, name, value)
        elif isinstance(getattr(type(kept.value()), name, None), property):
            kept.call(self, "__setattr__", name, value)
        else:
            kept.held.top()[name] = value

    def __delattr__(self, name: str) -> None:
        kept = self._kept
        if kept is None or not kept.is_object or self._is_mine(name):
            object.__delattr__(self, name)
        else:
            kept.call(self, "__delattr__", name)

    def _is_mine(self, name: str) -> bool:
        return name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)

    # The whole

    def copy(self) -> Any:
        """All of it, plain."""
        return self._begin().value()

    def sync(self) -> int:
        """Loads again what the storage holds; containers that were read before are of the past.

        Returns 0: a storage of its own counts no revisions.
        """
        with self.__dict__.setdefault("_beginning", threading.RLock()):
            self._let_go(DetachedError(f"{type(self).__name__} was loaded again: read it again"))
            self._begin()
        return 0

    def close(self) -> None:
        """Lets go of what is in memory; any other call then raises `ClosedError`."""
        self._is_closed = True
        self._let_go(self._closed())

    def _let_go(self, why: Error) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.held.end(why)  # so that containers which are still held cannot be changed

    def _closed(self) -> ClosedError:
        return ClosedError(f"this {type(self).__name__} is closed")

    def __bool__(self) -> bool:
        return bool(self._read())

    def __repr__(self) -> str:
        if self._is_closed:
            return f"<{type(self).__name__}: closed>"
        return f"{type(self).__name__}({value_shown(self._read())})"

    def _repr_html_(self) -> str:
        import html  # few programs show tables

        return f"<code>{html.escape(repr(self))}</code>"

    def __reduce__(self) -> tuple[Any, ...]:
        state = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_kept", "_beginning")
        }
        return _remade, (type(self),), state


def _remade(kind: type[Object]) -> Object:
    return kind.__new__(kind)


class _Absent:
    """Stands for what only the stores of objsync have, such as `watch`.

    Python then asks `OwnStorage.__getattr__`: what is kept may have something of this name.
    """

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError


def _reading(name: str) -> Callable[..., Any]:
    def method(self: OwnStorage, *arguments: Any) -> Any:
        value = self._read()
        found = getattr(value, name, None)
        if found is None and name.startswith("__"):
            raise TypeError(f"{type(self).__name__!r} holds a {type(value).__name__}, without {name}")
        return getattr(value, name)(*arguments)

    return method


def _unwrapped(other: Any) -> Any:
    return other._read() if isinstance(other, OwnStorage) else unwrapped(other)


def _operator(name: str) -> Callable[..., Any]:
    def method(self: OwnStorage, other: Any) -> Any:
        found = getattr(self._read(), name, None)
        return NotImplemented if found is None else found(_unwrapped(other))

    return method


def _changing(name: str) -> Callable[..., Any]:
    def method(self: OwnStorage, *arguments: Any, **named: Any) -> Any:
        return self._call(name, *arguments, **named)

    return method


def _changing_in_place(name: str) -> Callable[..., Any]:
    def method(self: OwnStorage, other: Any) -> Any:
        if not hasattr(self._read(), name):
            return NotImplemented
        result = self._call(name, _unwrapped(other))
        return NotImplemented if result is NotImplemented else self

    return method


_MAKERS: Final = (
    (_READS, _reading),
    (_OPERATORS, _operator),
    (_CHANGES, _changing),
    (_CHANGES_IN_PLACE, _changing_in_place),
)


def _faces() -> type[Any]:
    """`OwnStorage` with the methods of a dict, a list and a set, and without those of a store alone."""
    methods: dict[str, Any] = {"__module__": __name__, "__doc__": OwnStorage.__doc__, "__hash__": None}
    for names, make in _MAKERS:
        for name in names:
            methods[name] = method = make(name)
            method.__name__, method.__qualname__ = name, f"{OwnStorage.__name__}.{name}"
            method.__doc__ = f"As of what is kept: see ``{name}`` of dict, list or set."
    given = vars(Hooks).keys() | vars(DictLike).keys() | vars(OwnStorage).keys() | methods.keys()
    absent = (name for name in dir(Object) if not name.startswith("_") and name not in given)
    methods.update((name, _Absent()) for name in absent)
    return types.new_class(OwnStorage.__name__, (OwnStorage,), {}, lambda body: body.update(methods))


_FACES: Final = _faces()
