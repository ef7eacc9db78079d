"""A dictionary as it was at one revision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

from objsync._native import PastHandle
from objsync._show import SHOWN_ITEMS, place_shown, value_shown
from objsync._types import K, V
from objsync._views import Items, Keys, RangeReader, Values

if TYPE_CHECKING:
    from objsync._objects import Object

__all__ = ["Past"]

T = TypeVar("T")


class Past(Mapping[K, V]):
    """A dictionary as it was at one revision: a mapping to read, made by `Object.at`.

    Keys, values and the order of iteration are as of the dictionary. Each read goes to the files of
    the process that owns the store, so it costs more than one of the present: some tens of
    microseconds there, a round trip elsewhere. `len` costs a walk over all keys the first time.

    Where this process owns the store, it stays readable while older log is removed; elsewhere a read
    raises `errors.PastRetentionError` once the revision is gone. It can be pickled.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"a": 1}) as d:
    ...     before = d.at(d.status.revision)
    ...     d["a"] = 2
    ...     d["b"] = 3
    ...     before["a"], "b" in before, dict(before), d["a"]
    (1, False, {'a': 1}, 2)
    >>> with DiskObject("data.obj") as d, d.snapshot() as s:
    ...     s.get("c", 0), list(s.keys()), list(s.values()), list(s.items()), s.copy() == dict(s.range("a"))
    (0, ['a', 'b'], [2, 3], [('a', 2), ('b', 3)], True)
    """

    def __init__(self, mapping: Object[K, V], handle: PastHandle) -> None:
        self._mapping = mapping
        self._handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self._mapping).at, (self._mapping, self.revision))

    @property
    def revision(self) -> int:
        """As of when it is read."""
        return self._handle.revision

    def _scan(
        self,
        what: str,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
    ) -> Iterator[Any]:
        return self._handle._scan(what, start, stop, prefix, reverse)

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._scan(what, reverse=reverse)

    def __getitem__(self, key: K) -> V:
        value: V = self._handle[key]
        return value

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value that `key` had; `default` when there was no such key."""
        return self._handle.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._handle

    def __len__(self) -> int:
        return len(self._handle)

    def __iter__(self) -> Iterator[K]:
        return self._entries("keys")

    def __reversed__(self) -> Iterator[K]:
        return self._entries("keys", reverse=True)

    def keys(self) -> Keys[K]:
        """The keys in order: a view, as of ``dict.keys()``."""
        return Keys(self)

    def values(self) -> Values[V]:
        """The values in the order of their keys: a view, as of ``dict.values()``."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """The (key, value) pairs in the order of keys: a view, as of ``dict.items()``."""
        return Items(self)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeReader[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self, start, stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader[K, V]:
        """The entries whose keys begin so (see `Object.prefix`).

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a:1": 1, "a:2": 2, "b": 3}) as d:
        ...     dict(d.at(d.status.revision).prefix("a:"))
        {'a:1': 1, 'a:2': 2}
        """
        return RangeReader(self, prefix=prefix)

    def copy(self) -> dict[K, V]:
        """All of it in a plain dict."""
        return dict(self.items())

    def __repr__(self) -> str:
        what = f"Past of {place_shown(self._mapping._recipe[0])!r} at revision {self.revision}"
        try:
            return f"<{what}, {value_shown(dict(islice(self.items(), SHOWN_ITEMS + 1)))}>"
        except Exception as error:  # a repr that raises hides the error it was asked for
            return f"<{what}: {error}>"
