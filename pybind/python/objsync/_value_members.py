"""What Python asks a class for and not its objects: `len`, `in`, operators, calls.

A face of an object of a registered class gets what that class has. What the bases of every object of ours have
of a mapping is put out of the way: where the class has nothing of it, it is Python that says so.

Not here: how an object is read and changed (`_value_face`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from objsync._faces import NO_MAPPING, refused, unwrapped

if TYPE_CHECKING:
    from objsync._value_face import ValueFace

__all__ = ["members_of"]

_ALWAYS_READ: Final[dict[str, Callable[..., Any]]] = {
    "__bool__": bool, "__contains__": operator.contains, "__getitem__": operator.getitem, "__iter__": iter,
    "__len__": len, "__reversed__": reversed,
}  # fmt: skip
"""A mapping has these: where the class has none, it is Python that says so."""
_ALWAYS_CHANGE: Final[dict[str, Callable[..., Any]]] = {
    "__delitem__": operator.delitem,
    "__setitem__": operator.setitem,
}
_BINARY: Final = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift"),
    *("and", "or", "xor"),
)
_READ: Final = (
    *("__lt__", "__le__", "__gt__", "__ge__", "__neg__", "__pos__", "__abs__", "__invert__", "__int__"),
    *("__float__", "__complex__", "__index__", "__round__", "__trunc__", "__floor__", "__ceil__", "__bytes__"),
    *("__fspath__", "__length_hint__", *(f"__{name}__" for name in _BINARY), *(f"__r{name}__" for name in _BINARY)),
)
_CHANGE: Final = ("__call__", "__next__")
_IN_PLACE: Final = tuple(f"__i{name}__" for name in _BINARY)


def members_of(kind: type) -> dict[str, Any]:
    """What the face of an object of this class has beside `ValueFace`."""
    found: dict[str, Any] = {name: _OwnOrRefused(name) for name in (*NO_MAPPING, "pop", "clear")}
    found |= {name: _always(name, read, False) for name, read in _ALWAYS_READ.items()}
    found |= {name: _always(name, change, True) for name, change in _ALWAYS_CHANGE.items()}
    for names, make in ((_READ, _reading), (_CHANGE, _changing), (_IN_PLACE, _changing_in_place)):
        # The comparisons that every object has compare nothing.
        found |= {name: make(name) for name in names if any(name in vars(base) for base in kind.__mro__[:-1])}
    for name in ("__or__", "__ror__", "__ior__"):
        found.setdefault(name, lambda self, other: NotImplemented)
    return found


class _OwnOrRefused:
    """What the class has of a name that a mapping has too; else a method that refuses."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refuse = refused(name)

    def __get__(self, face: Any, owner: type | None = None) -> Any:
        if face is None:
            return self._refuse
        try:
            return face._attribute(self._name)
        except AttributeError:
            return MethodType(self._refuse, face)


def _always(name: str, act: Callable[..., Any], changes: bool) -> Callable[..., Any]:
    def read(self: ValueFace, *arguments: Any) -> Any:
        return self._read_by(act, *arguments)

    def change(self: ValueFace, *arguments: Any) -> Any:
        return self._edit(lambda whole: (whole, act(whole, *arguments)))

    return _named(change if changes else read, name)


def _reading(name: str) -> Callable[..., Any]:
    def method(self: ValueFace, *arguments: Any) -> Any:
        return self._read_by(lambda whole: _own(whole, name)(whole, *map(unwrapped, arguments)))

    return _named(method, name)


def _changing(name: str) -> Callable[..., Any]:
    def method(self: ValueFace, *arguments: Any, **named: Any) -> Any:
        return self._edit(lambda whole: (whole, _own(whole, name)(whole, *arguments, **named)))

    return _named(method, name)


def _changing_in_place(name: str) -> Callable[..., Any]:
    def method(self: ValueFace, other: Any) -> Any:
        def change(whole: Any) -> tuple[Any, Any]:
            done = _own(whole, name)(whole, unwrapped(other))
            return (whole, done) if done is NotImplemented else (done, done)

        return self._edit(change)

    return _named(method, name)


def _own(whole: Any, name: str) -> Callable[..., Any]:
    found = getattr(type(whole), name, None)
    if found is None:  # another program has put an object of another class
        raise TypeError(f"{type(whole).__name__!r} object has no {name}")
    return found  # type: ignore[no-any-return]


def _named(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    method.__name__ = name
    return method
