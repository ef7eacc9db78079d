"""Classes of users: how their objects become stored values, and how they are built again.

A stored object is the name of its class and its content. The name is looked up among the classes that this
process has registered: nothing is imported by it, no code stands in a value. What the codec and the live
objects use is at the end: `is_registered`, `fields_of`, `rebuild`, and the table `takers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, Flag
from typing import Any, Final, NamedTuple, TypeVar, overload

from objsync.errors import RebuildError

__all__ = ["Unregistered", "fields_of", "is_registered", "rebuild", "register", "takers", "value"]

T = TypeVar("T")

NAME_BYTES_MAX: Final = 255
"""Longest name of a class, in bytes of UTF-8."""

STORED_ALREADY: Final = frozenset(
    {
        *(f"builtins.{name}" for name in ("bool", "int", "float", "complex", "str", "bytes", "bytearray")),
        *(f"builtins.{name}" for name in ("list", "tuple", "dict", "set", "frozenset", "NoneType")),
        *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta")),
        *("decimal.Decimal", "uuid.UUID"),
    }
)
"""Classes that the codec knows itself, and that nobody can register; by name, so that none is imported."""

UNKNOWN: Final = "__objsync_unknown__"
"""Where an object carries fields that its class does not have, so that storing it again keeps them."""


class Unregistered:
    """An object of a class that this process has not registered: its name, and what was stored of it.

    It can be looked into, compared and stored again, which writes the same bytes: who knows the class
    gets it back. Register the class, or import the module that does, and read again.

    >>> Unregistered("shop.Order", {"id": 7})
    Unregistered('shop.Order', {'id': 7})
    """

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        """The name under which the class was registered by who stored the object."""
        self.value = value
        """A dict of its fields, the name of an enum's member, or what the class's ``encode`` made."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Unregistered):
            return NotImplemented
        return (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        # What it holds may have no hash, and it must do as an element of a set as the object did.
        return hash((Unregistered, self.name))

    def __repr__(self) -> str:
        return f"Unregistered({self.name!r}, {self.value!r})"


class Entry(NamedTuple):
    """What is known of one registered class."""

    cls: type
    name: str
    take: Callable[[Any], tuple[str, bool, Any]]
    build: Callable[[Any], Any]
    is_frozen: bool


takers: Final[dict[type, Callable[[Any], tuple[str, bool, Any]]]] = {}
"""By class, the function that takes an object apart: the class's name, whether its content is a dict of
fields, and the content. The codec looks here for every object of a type it does not know."""
_by_name: Final[dict[str, Entry]] = {}
_by_class: Final[dict[type, Entry]] = {}


@overload
def value(cls: type[T], /) -> type[T]: ...
@overload
def value(
    cls: None = None, /, *, name: str | None = None, aliases: Iterable[str] = ()
) -> Callable[[type[T]], type[T]]: ...
def value(
    cls: type[T] | None = None, /, *, name: str | None = None, aliases: Iterable[str] = ()
) -> type[T] | Callable[[type[T]], type[T]]:
    """Lets the objects of a dataclass, an enum or a NamedTuple be stored: a decorator.

    A dataclass and a NamedTuple are stored by the names of their fields and built again by calling
    the class, so ``__post_init__`` runs; a field that was not stored takes its default, and one that the
    class does not have is kept, unseen, where the object has a ``__dict__``. An enum is stored by
    the name of its member, a Flag by its number.

    Args:
        cls: The class; a subclass of it is another class.
        name: What stands in the store; by default the module and the qualified name, which then must
            stay what they are. Give one for a class of a script, whose module is ``__main__``.
        aliases: Names under which older programs have stored it.

    Raises `TypeError` for a class of another kind (see `register`) and for a dataclass with an ``InitVar``,
    and `ValueError` for a name that another class has.

    >>> import dataclasses, objsync
    >>> @objsync.value(name="docs.Point")
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> with objsync.DiskObject("data.obj") as d:
    ...     d["p"] = [Point(1), Point(2, 3)]
    ...     d["p"]
    [Point(x=1, y=0), Point(x=2, y=3)]
    """
    if cls is None:
        return lambda cls: _register_value(cls, name, aliases)
    return _register_value(cls, name, aliases)


def register(
    cls: type[T],
    /,
    *,
    name: str | None = None,
    encode: Callable[[T], Any] | None = None,
    decode: Callable[[Any], T] | None = None,
    aliases: Iterable[str] = (),
) -> None:
    """Lets the objects of any class be stored: of attrs, of pydantic, of the standard library.

    Args:
        cls: The class; a subclass of it is another class.
        name: What stands in the store; by default the module and the qualified name.
        encode: Makes a value of an object. Without it and `decode` the class is as under `value`.
        decode: Makes the object of that value. It gets what anybody who may write has stored.
        aliases: Names under which older programs have stored it.

    Raises `TypeError` for a class that is stored already, and `ValueError` for a name that another has.

    >>> from fractions import Fraction
    >>> import objsync
    >>> objsync.register(Fraction, encode=lambda f: (f.numerator, f.denominator), decode=lambda v: Fraction(*v))
    >>> with objsync.DiskObject("data.obj") as d:
    ...     d["third"] = Fraction(1, 3)
    ...     d["third"]
    Fraction(1, 3)
    """
    if encode is None and decode is None:
        _register_value(cls, name, aliases)
        return
    if encode is None or decode is None:
        raise TypeError(f"register {cls.__qualname__} with both encode and decode, or with neither")
    name = _name_of(cls, name)
    into, back = encode, decode
    _add(Entry(cls, name, lambda thing: (name, False, into(thing)), back, False), aliases)


def _register_value(cls: type[T], name: str | None, aliases: Iterable[str]) -> type[T]:
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class")
    name = _name_of(cls, name)
    if issubclass(cls, Enum):
        entry = _enum(cls, name)
    elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
        entry = _named_tuple(cls, name)
    elif "__dataclass_fields__" in vars(cls):
        entry = _dataclass(cls, name)
    else:
        raise TypeError(
            f"{cls.__qualname__} is no dataclass, enum or NamedTuple itself: "
            "register it with objsync.register(cls, encode=..., decode=...)"
        )
    _add(entry, aliases)
    return cls


def _name_of(cls: type, name: str | None) -> str:
    if ".".join(_place(cls)) in STORED_ALREADY:
        raise TypeError(f"{cls.__qualname__} is stored as it is, and cannot be registered")
    name = f"{cls.__module__}.{cls.__qualname__}" if name is None else name
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise ValueError(
            f"name of a class {name[:60]!r} is {len(name.encode())} bytes; "
            f"it has at least 1, and the limit is {NAME_BYTES_MAX} bytes"
        )
    return name


def _add(entry: Entry, aliases: Iterable[str]) -> None:
    names = [entry.name, *aliases]
    for name in names:
        other = _by_name.get(name)
        # A module that is loaded again, or a cell that is run again, makes the same class anew.
        if other is not None and _place(other.cls) != _place(entry.cls):
            raise ValueError(f"name {name!r} is that of {other.cls!r} already: give another with name=")
    for name in names:
        _by_name[name] = entry
    _by_class[entry.cls] = entry
    takers[entry.cls] = entry.take


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _enum(cls: type[Enum], name: str) -> Entry:
    if issubclass(cls, Flag):
        # Flags are combined, and a combination has no name of its own.
        return Entry(cls, name, lambda flag: (name, False, flag.value), cls, True)

    def build(member: Any) -> Any:
        if not isinstance(member, str):
            raise ValueError(f"{member!r} is no name of a member")
        return cls[member]

    return Entry(cls, name, lambda member: (name, False, member.name), build, True)


def _named_tuple(cls: Any, name: str) -> Entry:
    fields: tuple[str, ...] = cls._fields

    def build(content: Any) -> Any:
        known, unknown = _split(content, fields)
        if unknown:
            raise ValueError(f"there is no field {', '.join(sorted(unknown))}")
        return cls(**known)

    return Entry(
        cls, name, lambda thing: (name, True, dict(zip(fields, thing, strict=True))), build, True
    )


def _dataclass(cls: Any, name: str) -> Entry:
    import dataclasses  # who decorates has them; with inspect, which takes longer than all of this package
    import inspect

    fields = dataclasses.fields(cls)
    variables = [
        field.name
        for field in cls.__dataclass_fields__.values()
        if field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
    ]
    if variables:
        raise TypeError(
            f"{cls.__qualname__} has an InitVar, {', '.join(variables)}, which its objects do not keep: "
            "register it with objsync.register(cls, encode=..., decode=...)"
        )
    names = tuple(field.name for field in fields)
    try:
        inspect.signature(cls).bind(**{field.name: None for field in fields if field.init})
    except TypeError as error:
        raise TypeError(
            f"{cls.__qualname__} is not made by calling it with its fields: {error}; "
            "register it with objsync.register(cls, encode=..., decode=...)"
        ) from None
    later = frozenset(field.name for field in fields if not field.init)

    def take(thing: Any) -> tuple[str, bool, Any]:
        content = {field: getattr(thing, field) for field in names}
        unknown = getattr(thing, UNKNOWN, None)
        return name, True, {**unknown, **content} if unknown else content

    def build(content: Any) -> Any:
        known, unknown = _split(content, names)
        thing = cls(**{field: known[field] for field in known if field not in later})
        for field in later & known.keys():
            object.__setattr__(thing, field, known[field])
        if unknown:
            if not hasattr(thing, "__dict__"):
                raise ValueError(
                    f"there is no field {', '.join(sorted(unknown))}, and no __dict__ to keep it in"
                )
            thing.__dict__[UNKNOWN] = unknown
        return thing

    return Entry(cls, name, take, build, cls.__dataclass_params__.frozen)


def _split(content: Any, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that a class has, and those it does not have."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError("what was stored is no dict of fields")
    known = {name: content[name] for name in names if name in content}
    return known, {name: content[name] for name in content if name not in known}


def _take_unregistered(thing: Unregistered) -> tuple[str, bool, Any]:
    # A copy: an encode of a class inside could change the dict while it is written.
    content = dict(thing.value) if type(thing.value) is dict else thing.value
    return thing.name, type(content) is dict, content


takers[Unregistered] = _take_unregistered


# For the codec, and for live objects whose root is an object of a class.


def is_registered(thing: object) -> bool:
    """Whether an object is of a class whose objects are stored, and is no `Unregistered`."""
    return type(thing) in _by_class


def fields_of(thing: object) -> tuple[str, dict[str, Any]] | None:
    """Name of the class and fields of an object that is stored by fields; ``None`` for any other.

    What `rebuild` gets back, after fields have been changed.
    """
    take = takers.get(type(thing))
    if take is None:
        return None
    name, is_by_field, content = take(thing)
    return (name, content) if is_by_field else None


def rebuild(name: str, content: Any) -> tuple[Any, bool]:
    """The object of a stored name and content, and whether it is one that cannot change.

    Raises `RebuildError` when the class does not take what was stored.
    """
    entry = _by_name.get(name)
    if entry is None:
        return Unregistered(name, content), False
    try:
        return entry.build(content), entry.is_frozen
    except Exception as error:  # whatever a user's class raises
        raise RebuildError(
            f"stored object of class {name!r} cannot be built: {type(error).__name__}: {error}; give new fields "
            "a default, or register the class with a decode that takes what older programs have stored",
            name,
            content,
        ) from error
