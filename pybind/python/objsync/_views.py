"""Views of a dictionary: its keys, values and items, all of them or those of a range."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

from objsync._native import native
from objsync._types import K, V

if TYPE_CHECKING:
    from objsync._objects import Object
    from objsync._past import Past
    from objsync._transaction import Transaction

__all__ = ["Items", "Keys", "RangeReader", "RangeView", "Values"]


class Keys(KeysView[K]):
    """The keys, in order; a set-like view as ``dict.keys()`` is."""

    _mapping: Object | Past | Transaction | RangeReader

    def __iter__(self) -> Iterator[K]:
        return self._mapping._entries("keys")

    def __reversed__(self) -> Iterator[K]:
        return self._mapping._entries("keys", reverse=True)


class Values(ValuesView[V]):
    """The values, in the order of their keys."""

    _mapping: Object | Past | Transaction | RangeReader

    def __iter__(self) -> Iterator[V]:
        return self._mapping._entries("values")

    def __reversed__(self) -> Iterator[V]:
        return self._mapping._entries("values", reverse=True)

    def __contains__(self, value: object) -> bool:
        # One pass, of one moment; the inherited form asks for each key by itself.
        return any(found is value or found == value for found in self)


class Items(ItemsView[K, V]):
    """The (key, value) pairs, in the order of their keys."""

    _mapping: Object | Past | Transaction | RangeReader

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._entries("items")

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._entries("items", reverse=True)


class RangeReader(Mapping[K, V]):
    """The part of a dictionary whose keys lie in a range: a mapping to read.

    Made by `range` and `prefix` of `Past` and `Transaction`; `RangeView` is that of a dictionary as it is now. `len`
    counts, and so costs one pass over the keys of the range.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {1: "a", 2: "b", 3: "c"}) as d:
    ...     some = d.at(d.status.revision).range(2)
    ...     list(some.keys()), list(some.values()), list(some.items())
    ([2, 3], ['b', 'c'], [(2, 'b'), (3, 'c')])
    """

    def __init__(
        self,
        mapping: Object[K, V] | Past[K, V] | Transaction[K, V],
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
    ) -> None:
        self._mapping = mapping
        self._bounds = {"start": start, "stop": stop, "prefix": prefix}

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._mapping._scan(what, **self._bounds, reverse=reverse)

    def __getitem__(self, key: K) -> V:
        if not native.Handle._in_range(key, **self._bounds):
            raise KeyError(key)
        return self._mapping[key]

    def __contains__(self, key: object) -> bool:
        return native.Handle._in_range(key, **self._bounds) and key in self._mapping

    def __iter__(self) -> Iterator[K]:
        return self._entries("keys")

    def __reversed__(self) -> Iterator[K]:
        return self._entries("keys", reverse=True)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> Keys[K]:
        """The keys of the range, in order."""
        return Keys(self)

    def values(self) -> Values[V]:
        """The values of the range, in the order of their keys."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """The (key, value) pairs of the range, in the order of their keys."""
        return Items(self)

    def __repr__(self) -> str:
        bounds = ", ".join(f"{name}={key!r}" for name, key in self._bounds.items() if key is not None)
        return f"<{type(self).__name__} of {type(self._mapping).__name__}, {bounds or 'all keys'}>"


class RangeView(RangeReader[K, V]):
    """The part of a dictionary whose keys lie in a range: a mapping that is read as it is now.

    Made by `Object.range` and `Object.prefix`. Each iteration sees one moment; `len` counts, and so
    costs one pass over the keys of the range.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"a": 1, "b:1": 2, "b:2": 3, "c": 4}) as d:
    ...     dict(d.prefix("b:")), list(reversed(d.range("b", "z")))
    ({'b:1': 2, 'b:2': 3}, ['c', 'b:2', 'b:1'])
    >>> with DiskObject("data.obj") as d:
    ...     view = d.prefix("b:")
    ...     list(view.keys()), list(view.values()), list(view.items())
    (['b:1', 'b:2'], [2, 3], [('b:1', 2), ('b:2', 3)])
    """

    _mapping: Object[K, V]

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._mapping._scan(what, **self._bounds, reverse=reverse, live=True)

    def clear(self) -> int:
        """Deletes every key of the range; returns how many there were.

        Several transactions when there are many: another process can see a part of it.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a:1": 1, "a:2": 2, "b": 3}) as d:
        ...     d.prefix("a:").clear(), list(d)
        (2, ['b'])
        """
        return self._mapping._delete_range(**self._bounds)
