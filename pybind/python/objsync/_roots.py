"""Objects that are one value: a list, a set, or an object of a registered class.

Such a value lies under one reserved key of the namespace, `ROOT`. Whoever opens the namespace then gets an
object with the face of that value in place of that of a mapping, whatever `default_value` was given.

Not here: what the methods do: see `_faces` for lists and sets, `_value_face` and `_value_members` for objects
of classes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, MutableSet
from typing import TYPE_CHECKING, Any, Final

from objsync import _settings
from objsync._faces import ROOT, Face, ListFace, SetFace, members
from objsync._native import native
from objsync._nested import LiveList, LiveSet
from objsync._show import place_shown
from objsync._value_face import ValueFace
from objsync._value_members import members_of
from objsync.errors import InvalidError

if TYPE_CHECKING:
    from objsync._objects import Object

__all__ = ["ROOT", "content", "give_face"]

PLAIN_TYPES: Final = frozenset({str, int, float, bool, bytes, complex, bytearray, tuple, frozenset, range})
"""Types that no object has the face of: nothing of them can change."""


def content(default_value: Any) -> list[tuple[Any, Any]] | None:
    """The pairs that a new dictionary starts with."""
    if default_value is None or isinstance(default_value, Mapping):
        return _settings.content(default_value)
    if type(default_value) in PLAIN_TYPES:
        name = type(default_value).__name__
        raise TypeError(
            f"default_value is a {name}: it is a mapping, a list, a set, an object of a registered class, "
            "or None"
        )
    # What is no value is refused by the codec, which says what to do.
    native.encode_value(default_value)
    return [(ROOT, default_value)]


def give_face(handle: Object, wanted: list[tuple[Any, Any]] | None) -> None:
    """Gives a handle that was just opened the face of the value it is, if it is one.

    Args:
        handle: The handle.
        wanted: What a new dictionary was to start with.
    """
    read = native.Handle.get
    value = read(handle, ROOT)
    if value is None and wanted is not None and len(wanted) == 1 and wanted[0][0] == ROOT:
        if len(handle):
            raise InvalidError(
                f"{place_shown(handle._recipe[0])!r} holds {len(handle)} keys: it is a mapping, and default_value is a "
                f"{type(wanted[0][1]).__name__}"
            )
        _compare_and_set(handle, ROOT, (), (wanted[0][1],))
        value = read(handle, ROOT)
    if value is None:
        return
    handle.__class__ = _faced(type(handle), type(value))


_made: dict[tuple[type, type], type] = {}
_compare_and_set: Any = native.Handle._compare_and_set


def _faced(cls: type, kind: type) -> type:
    """A subclass of `cls` with the face of a value of type `kind`."""
    if issubclass(cls, Face):
        return cls
    made = _made.get((cls, kind))
    if made is None:
        face = FACES.get(kind, ValueFace)
        body = {"__doc__": cls.__doc__, "__module__": cls.__module__, "_plain_class": cls}
        body |= members_of(kind) if face.LIVE is None else members(face.LIVE)
        made = type(cls.__name__, (face, cls), body)
        if kind in ABSTRACT:
            ABSTRACT[kind].register(made)  # for a sequence also what `match` goes by
        _made[cls, kind] = made
    return made


FACES: Final[dict[type, type[Face]]] = {LiveList: ListFace, LiveSet: SetFace}
ABSTRACT: Final[dict[type, Any]] = {LiveList: MutableSequence, LiveSet: MutableSet}
