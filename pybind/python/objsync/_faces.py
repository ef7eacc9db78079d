"""What an object has that is one value, and no mapping: the faces of a list and of a set.

A face is put between an object's class and its bases' methods: it hands on what the value has to the live
object of the value (`_nested`), and refuses what only a mapping has.

Not here: which object gets which face (`_roots`), objects of registered classes (`_value_face`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Final

from objsync import _show
from objsync._native import native
from objsync._nested import LiveList, LiveSet

__all__ = ["NO_MAPPING", "ROOT", "Face", "ListFace", "SetFace", "members", "refused", "unwrapped"]

ROOT: Final = ("__root__",)
"""The key of a value that is a whole object. A mapping is better off without it."""

_read: Any = native.Handle.__getitem__


class Face:
    """What all objects have in common that are one value."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    _plain_class: ClassVar[type]
    KIND: ClassVar[str] = "an object of a class"
    LIVE: ClassVar[type | None] = None

    def _whole(self) -> Any:
        return _read(self, ROOT)

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = super().__reduce__()
        reopen, (_, *rest), *state = reduced
        return (reopen, (self._plain_class, *rest), *state)

    def _place(self) -> str:
        return _show.place_shown(self._recipe[0])  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        name, place = self._plain_class.__name__, self._place()
        try:
            return f"{name}({place!r}, {_show.value_shown(self._whole())})"
        except Exception as error:  # a repr that raises hides the error it was asked for
            return f"<{name} {place!r}: {error}>"

    def _repr_html_(self) -> str:
        return _show.table(self, self, self._place(), self._whole)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return bool(self is other or self._whole() == unwrapped(other))

    def copy(self) -> Any:
        """The value as it is now, plain."""
        return copy.deepcopy(self._whole())


class ListFace(Face):
    """An object that is a list."""

    __slots__ = ()
    KIND: ClassVar[str] = "a list"
    LIVE: ClassVar[type | None] = LiveList


class SetFace(Face):
    """An object that is a set."""

    __slots__ = ()
    KIND: ClassVar[str] = "a set"
    LIVE: ClassVar[type | None] = LiveSet


def unwrapped(other: Any) -> Any:
    """The value of an object that is one value; anything else as it is. Operators of list and set take no other."""
    return other._whole() if isinstance(other, Face) else other


UNSHARED: Final = frozenset(
    {"__module__", "__doc__", "__slots__", "__weakref__", "__hash__", "__repr__", "__eq__", "__ne__"}
)
IN_PLACE: Final = frozenset({"__iadd__", "__imul__", "__ior__", "__iand__", "__isub__", "__ixor__"})
OPERATORS: Final = frozenset(
    {
        *("__add__", "__and__", "__or__", "__sub__", "__xor__", "__lt__", "__le__", "__gt__", "__ge__"),
        *("__radd__", "__rand__", "__ror__", "__rsub__", "__rxor__"),
    }
)
NO_MAPPING: Final = (
    *("keys", "values", "items", "get", "setdefault", "popitem", "update", "range", "prefix", "fromkeys"),
    *("set", "incr", "compare_and_set", "list_append", "set_add", "set_discard", "batch", "pipeline"),
    *("open", "lease", "presence"),
)
"""Methods that name keys: beside the value there are none. What the value has of such a name wins."""


def refused(name: str) -> Callable[..., Any]:
    """A method that a mapping has and this object does not have."""

    def refuse(self: Face, *_: Any, **__: Any) -> Any:
        raise TypeError(f"this object is {self.KIND}, not a mapping: it has no {name}()")

    refuse.__name__ = name
    return refuse


def _handed_on(name: str) -> Callable[..., Any]:
    def hand_on(self: Face, *arguments: Any, **named: Any) -> Any:
        return getattr(self._whole(), name)(*arguments, **named)

    hand_on.__name__ = name
    return hand_on


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: Face, other: Any) -> Any:
        return getattr(self._whole(), name)(unwrapped(other))

    operate.__name__ = name
    return operate


def _in_place(name: str) -> Callable[..., Any]:
    def change(self: Face, other: Any) -> Any:
        done = getattr(self._whole(), name)(unwrapped(other))
        return done if done is NotImplemented else self

    change.__name__ = name
    return change


def members(live: type) -> dict[str, Any]:
    """What a face has that hands on what a live class has, and refuses what only a mapping has."""
    found: dict[str, Any] = {name: refused(name) for name in NO_MAPPING}
    for name in vars(live):
        dunder = name.startswith("__")
        if name in ("copy", "PLAIN") or (name.startswith("_") and not dunder) or name in UNSHARED:
            continue
        make = _in_place if name in IN_PLACE else _operator if name in OPERATORS else _handed_on
        found[name] = make(name)
    return found
