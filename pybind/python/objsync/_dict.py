"""What `Object` has of a dict beside `MutableMapping`, and what a storage of the user's own builds on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from objsync._native import Handle, native
from objsync._types import K, V

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

__all__ = ["DictLike", "Hooks", "pairs"]


class Hooks:
    """What a subclass of `Object` with a storage of its own can use, and replace."""

    def serialise(self, value: Any) -> bytes:
        """The bytes of a value, for a `save` of one's own; `deserialise` is the way back.

        A subclass may give another form. This one is objsync's: it knows the types of values that
        `Object` lists, and holds no pickle.

        Raises:
            UnserialisableError: A part of the value is of another type; ``.path`` tells where.
            InvalidError: It is over 8 MiB, or nested too deep.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.deserialise(d.serialise({"a": {1, 2}}))
        {'a': {1, 2}}
        """
        return native.encode_value(value)

    def deserialise(self, stored: bytes) -> Any:
        """The value of bytes that `serialise` made; `CorruptError` where they are none.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.deserialise(d.serialise({"a": (1, 2)}))
        {'a': (1, 2)}
        """
        return native.decode_value(stored)


class DictLike(Hooks, Handle[K, V], MutableMapping[K, V]):
    """What `Object` can do because a dict can."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if hasattr(cls, "load") and hasattr(cls, "save"):
            from objsync import _own  # not above: it has subclasses of this class

            _own.adopt(cls)

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(self.items()) | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | dict(self.items()) if isinstance(other, Mapping) else NotImplemented

    def __ior__(
        self, other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]]
    ) -> Self:
        self.update(other)
        return self

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None, /, *place: Any, **options: Any) -> Self:
        """Opens an object and puts `value` under each of `keys`; what else is there stays.

        Args:
            keys: The keys.
            value: The value of each.
            place: What the class takes, such as a path.
            options: What the class takes by name.

        >>> from objsync import DiskObject
        >>> with DiskObject.fromkeys(["a", "b"], 0, "data.obj") as d:
        ...     d.copy()
        {'a': 0, 'b': 0}
        """
        made = cls(*place, **options)
        try:
            if isinstance(made, DictLike) and type(made).__setitem__ is Handle.__setitem__:
                made.update((key, value) for key in keys)
            else:  # as dict does where a class has a __setitem__ of its own
                for key in keys:
                    made[key] = value
        except BaseException:
            if isinstance(made, DictLike):
                made.close()
            raise
        return made


def pairs(
    other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]],
) -> Iterable[tuple[Any, Any]]:
    """The pairs of what a dict can be updated from."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return ((key, other[key]) for key in other.keys())  # type: ignore[index]
    return other
