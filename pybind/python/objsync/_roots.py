"""Objects that are one value: a list, a set, or an object of a registered class.

Such a value lies under one reserved key of the namespace, `ROOT`. Whoever opens the namespace then gets an
object with the face of that value in place of that of a mapping, whatever `default_value` was given.

Not here: what the methods do; a face hands them on to the live object of the value (`_nested`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from objsync import _settings
from objsync._native import native, native_live
from objsync._nested import KINDS, LiveList, LiveSet, attach
from objsync._nested_root import same
from objsync._show import place_shown
from objsync.errors import ConflictError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from objsync._nested_root import Node, Path, Root
    from objsync._objects import Object

__all__ = ["ROOT", "content", "give_face"]

ROOT: Final = ("__root__",)
"""The key of a value that is a whole object. A mapping is better off without it."""

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
    face = FACES.get(type(value), ValueFace)
    handle.__class__ = _faced(type(handle), face)


_made: dict[tuple[type, type], type] = {}
_read: Any = native.Handle.__getitem__
_compare_and_set: Any = native.Handle._compare_and_set


def _faced(cls: type, face: type[Face]) -> type:
    """A subclass of `cls` with a face."""
    if issubclass(cls, Face):
        return cls
    made = _made.get((cls, face))
    if made is None:
        body = {"__doc__": cls.__doc__, "__module__": cls.__module__, "_plain_class": cls}
        made = type(cls.__name__, (face, cls), body | _members(face.LIVE))
        _made[cls, face] = made
    return made


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

    def __repr__(self) -> str:
        name = self._plain_class.__name__
        place = place_shown(self._recipe[0])  # type: ignore[attr-defined]
        try:
            return f"{name}({place!r}, {self._whole()!r})"
        except Exception as error:  # a repr that raises hides the error it was asked for
            return f"<{name} {place!r}: {error}>"

    def __eq__(self, other: object) -> bool:
        return bool(self is other or self._whole() == other)

    def copy(self) -> Any:
        """The value as it is now, plain."""
        return copy.deepcopy(self._whole())


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Face, *_: Any, **__: Any) -> Any:
        raise TypeError(f"this object is {self.KIND}, not a mapping: it has no {name}()")

    refuse.__name__ = name
    return refuse


def _handed_on(name: str) -> Callable[..., Any]:
    def hand_on(self: Face, *arguments: Any, **named: Any) -> Any:
        return getattr(self._whole(), name)(*arguments, **named)

    hand_on.__name__ = name
    return hand_on


def _in_place(name: str) -> Callable[..., Any]:
    def change(self: Face, other: Any) -> Any:
        done = getattr(self._whole(), name)(other)
        return done if done is NotImplemented else self

    change.__name__ = name
    return change


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


UNSHARED: Final = frozenset(
    {"__module__", "__doc__", "__slots__", "__weakref__", "__hash__", "__repr__", "__eq__", "__ne__"}
)
IN_PLACE: Final = frozenset({"__iadd__", "__imul__", "__ior__", "__iand__", "__isub__", "__ixor__"})
OF_A_MAPPING: Final = (
    *("keys", "values", "items", "get", "setdefault", "popitem", "update", "range", "prefix", "fromkeys"),
)


def _members(live: type | None) -> dict[str, Any]:
    """What a face has that hands on what a live class has, and refuses what only a mapping has."""
    members: dict[str, Any] = {name: _refused(name) for name in OF_A_MAPPING}
    for name in vars(live) if live else ():
        dunder = name.startswith("__")
        if name in ("copy", "PLAIN") or (name.startswith("_") and not dunder) or name in UNSHARED:
            continue
        members[name] = _in_place(name) if name in IN_PLACE else _handed_on(name)
    return members


class ValueFace(Face):
    """An object that is one of a registered class: its attributes are those of the value.

    Names that every object of ours has, such as `status` and `close`, stay what they are: read such an
    attribute of ``d.copy()``. Setting one puts the whole value, if it is still the one that was changed, and else
    changes what is there then: two who set two attributes both succeed.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._whole(), name)
        if type(value) in KINDS:
            return attach(Attribute(self, name), value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        self._change(lambda whole: setattr(whole, name, value))

    def __delattr__(self, name: str) -> None:
        self._change(lambda whole: delattr(whole, name))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._whole())})

    def _change(self, change: Callable[[Any], Any]) -> None:
        while True:
            before = self._whole()
            after = copy.deepcopy(before)
            change(after)
            if self._swap(before, after):
                return

    def _swap(self, before: Any, after: Any) -> bool:
        return bool(_compare_and_set(self, ROOT, (before,), (after,)))


class Attribute:
    """The source of a container that is an attribute: changes put the whole value again."""

    def __init__(self, face: ValueFace, name: str) -> None:
        self.key = name
        self._face = face
        self._read: Any = face._whole()
        self._found = self._read

    def is_current(self) -> bool:
        return same(self._face._whole(), self._read)

    def read(self) -> tuple[bool, bool, Any, bool]:
        whole = self._face._whole()
        self._found = whole
        if same(whole, self._read):
            return False, True, None, False
        return True, hasattr(whole, self.key), getattr(whole, self.key, None), False

    def filled(self) -> None:
        self._read = self._found

    def stored(self, value: Any) -> Any:
        return native.decode_value(native.encode_value(value))

    def apply(self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...]) -> int:
        while True:
            before = self._face._whole()
            if conditional and not same(before, self._read):
                raise ConflictError(f"attribute {self.key} was changed by others", self.key)
            value = getattr(before, self.key, None)
            if type(value) not in KINDS:
                raise NotFoundError(f"attribute {self.key} is no container any more")
            number, value = native_live.patched(value, path, what, arguments)
            after = copy.deepcopy(before)
            setattr(after, self.key, value)
            if self._face._swap(before, after):
                return number

    def held(self, root: Root, top: Node) -> None:
        pass

    def ended(self) -> None:
        pass


FACES: Final[dict[type, type[Face]]] = {LiveList: ListFace, LiveSet: SetFace}
