"""The objects: dictionaries on disk and on the network, with one face."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from enum import Enum
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from objsync import _registry, _settings
from objsync._leases import Leases
from objsync._native import Batch, Lease, Lock, Pipeline, Presence
from objsync._past import Past
from objsync._reads import Reads
from objsync._records import Event, Version
from objsync._transaction import Transactions
from objsync._views import Items, Keys, RangeView, Values
from objsync._watch import Watch

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

__all__ = [
    "MISSING",
    "Batch",
    "CompressedDiskObject",
    "DiskObject",
    "Lease",
    "Lock",
    "Missing",
    "NetworkObject",
    "Object",
    "Pipeline",
    "Presence",
]

SHOWN_ITEMS: Final = 20
"""Items that `repr` shows; a dictionary can be larger than memory."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "objsync.MISSING"


MISSING: Final = Missing.MISSING
"""Stands for "no such key" in `Object.compare_and_set`."""

Settings = dict[str, Any]
AnyObject = TypeVar("AnyObject", bound="Object")


class Object(Transactions, Leases, Reads, MutableMapping[Any, Any]):
    """A dictionary that is on disk and that other processes share live; the base of all objects.

    Keys: str, int, float, bool, bytes, None, UUID, datetime, and tuples of those, at most 4 KiB when
    encoded; ``1``, ``1.0`` and ``True`` are one key, as in a dict. Iteration is in the order of keys
    (None, numbers, str, bytes, datetime, UUID, tuple), and sees one moment of the dictionary.

    Values: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex, Decimal,
    datetime, date, time, timedelta, UUID, and what is made of those; at most 8 MiB. A bytearray comes
    back as bytes. Another type is a `TypeError` that says where it is; a subclass is another type.

    What a read returns is the caller's own: changing it changes nothing in the dictionary. To change
    a value, assign it again.

    Every method that can wait releases the interpreter's lock; Ctrl-C interrupts it. Handles can be
    used from any thread, survive `os.fork` (the child becomes a client of its own), and can be
    pickled: the other process opens the same dictionary.

    Not made directly: see `DiskObject`, `CompressedDiskObject` and `NetworkObject`.
    """

    __hash__ = None  # type: ignore[assignment]

    _recipe: tuple[str, Settings]

    def __init__(self, kind: Literal["path", "target"], place: str, settings: Settings) -> None:
        self._recipe = (place, {k: v for k, v in settings.items() if k != "content"})
        if kind == "path":
            self._open(place, settings)
        else:
            self._connect(place, settings)
        _registry.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), *self._recipe))

    # Views

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._scan(what, reverse=reverse)

    def keys(self) -> Keys:
        """The keys in order: a view, as of ``dict.keys()``.

        >>> with DiskObject("data.obj", {"b": 2, "a": 1, 10: 0}) as d:
        ...     list(d.keys()), list(reversed(d.keys()))
        ([10, 'a', 'b'], ['b', 'a', 10])
        """
        return Keys(self)

    def values(self) -> Values:
        """The values in the order of their keys: a view, as of ``dict.values()``."""
        return Values(self)

    def items(self) -> Items:
        """The (key, value) pairs in the order of keys: a view, as of ``dict.items()``.

        >>> with DiskObject("data.obj", {"b": 2, "a": 1}) as d:
        ...     list(d.items())
        [('a', 1), ('b', 2)]
        """
        return Items(self)

    def range(self, start: Any = None, stop: Any = None) -> RangeView:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound.

        >>> with DiskObject("data.obj", {1: "a", 2: "b", 3: "c"}) as d:
        ...     dict(d.range(2)), dict(d.range(stop=2))
        ({2: 'b', 3: 'c'}, {1: 'a'})
        """
        return RangeView(self, start, stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeView:
        """The entries whose keys begin with a text, with bytes, or with these elements of a tuple.

        >>> with DiskObject("data.obj", {("ada", 1): "x", ("ada", 2): "y", ("bob", 1): "z"}) as d:
        ...     list(d.prefix(("ada",)))
        [('ada', 1), ('ada', 2)]
        """
        return RangeView(self, prefix=prefix)

    # Writes

    def pop(self, key: Any, /, *default: Any) -> Any:
        """Removes `key` and returns its value, which no other process then gets.

        Args:
            key: The key.
            default: Returned when there is no such key; without it, that is a `KeyError`.

        >>> with DiskObject("data.obj", {"a": 1}) as d:
        ...     d.pop("a"), d.pop("a", None)
        (1, None)
        """
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        return self._pop(key, default)

    def clear(self) -> None:
        """Deletes every key; in several transactions when there are many."""
        self._delete_range()

    def update(
        self,
        other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]] = (),
        /,
        **named: Any,
    ) -> None:
        """Puts many pairs: one transaction up to 16 MiB, above that several in order.

        `last_ack` tells where they stand. If a pair cannot be stored, the transactions before its own
        are done and nothing after.

        >>> with DiskObject("data.obj") as d:
        ...     d.update({"a": 1}, b=2)
        ...     d.update([("c", 3)])
        ...     d.copy()
        {'a': 1, 'b': 2, 'c': 3}
        """
        self._update(pairs(other))
        if named:
            self._update(named.items())

    def compare_and_set(self, key: Any, expected: Any, new: Any) -> bool:
        """Puts `new` if the value of `key` equals `expected`; returns whether it did.

        Decided by the owner of the store: of several processes that try, one succeeds.

        Args:
            key: The key.
            expected: The value that must be there; `MISSING` for "no such key".
            new: The value to put; `MISSING` to delete the key.

        >>> from objsync import MISSING
        >>> with DiskObject("data.obj", {"job": "new"}) as d:
        ...     d.compare_and_set("job", "new", "mine"), d.compare_and_set("job", "new", "yours")
        ...     d.compare_and_set("lock", MISSING, 1)
        (True, False)
        True
        """
        return self._compare_and_set(key, maybe(expected), maybe(new))

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(
        self, other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]]
    ) -> Self:
        self.update(other)
        return self

    # The whole

    def copy(self) -> dict[Any, Any]:
        """All of it, as it is at one moment, in a plain dict."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if self is other:
            return True
        return len(self) == len(other) and self.copy() == dict(other.items())

    def __repr__(self) -> str:
        name, place = type(self).__name__, self._recipe[0]
        try:
            items = list(islice(self.items(), SHOWN_ITEMS + 1))
        except Exception as error:  # a repr that raises hides the error it was asked for
            return f"<{name} {place!r}: {error}>"
        shown = ", ".join(f"{key!r}: {value!r}" for key, value in items[:SHOWN_ITEMS])
        more = ", ..." if len(items) > SHOWN_ITEMS else ""
        return f"{name}({place!r}, {{{shown}{more}}})"

    # Others

    def watch(
        self,
        callback: Callable[[Event], object] | None = None,
        *,
        key: Any = MISSING,
        prefix: str | bytes | tuple[Any, ...] | None = None,
        since: int | None = None,
    ) -> Watch:
        """Follows the changes that any process makes, in order, each once.

        Args:
            callback: Called with each `Event` in a thread of its own; it may use the dictionary. What
                it raises is logged (logger ``objsync``), and the stream goes on. Without a callback,
                iterate over the result, also with ``async for``.
            key: Only this one. Thousands of watches of one handle share what they cost.
            prefix: Only keys that begin so (see `prefix`).
            since: The changes after this revision; without it, those from now on.

        Raises `errors.HistoryGapError`, once, where changes that were not told yet are no longer kept, or
        were taken back with a history that has ended, and then goes on behind them. An object with a
        copy of its own tells there of each key that differs now, with the revision `oldest` of the
        error. The revision of an event is a place to go on from (`since`) once an event with a
        higher one has come: until then others may share it.

        >>> with DiskObject("data.obj") as d, d.watch() as w:
        ...     d["a"] = 1
        ...     del d["a"]
        ...     [(event.kind, event.key, event.value) for event in (next(w), next(w))]
        [('set', 'a', 1), ('delete', 'a', None)]
        """
        return Watch(self._watch(maybe(key), prefix, since), callback)

    def at(self, revision: int) -> Past:
        """The dictionary as it was at a revision, to read: a mapping.

        Every write has one (`Ack.revision`, `Event.revision`, `Version.revision`). A revision that no
        write of this dictionary has stands for the one before it. Kept are an hour or 1 GiB of log,
        whichever ends first, and the newest snapshot before that.

        Args:
            revision: At most the newest one that the owner of the store has.

        Raises:
            PastRetentionError: It is no longer kept; ``.oldest`` is the oldest that can be read.
            InvalidError: It is not there yet.

        >>> with DiskObject("data.obj") as d:
        ...     first = d.set("a", 1).revision
        ...     d["a"] = 2
        ...     d.at(first)["a"], d["a"]
        (1, 2)
        """
        return Past(self, self._at(revision))

    def history(
        self, key: Any, *, limit: int | None = 1000, before: int | None = None
    ) -> list[Version]:
        """What `key` was, newest first, as far back as log and snapshots go (see `at`).

        The parts of the log that wrote the key are read for it, so it is not for a hot path.

        Args:
            key: The key; it need not be there now.
            limit: At most so many; ``None`` for all, which has to fit into memory.
            before: Only what was before this revision, to go on where a list ended.

        >>> with DiskObject("data.obj") as d:
        ...     d["a"] = 1
        ...     d["a"] = 2
        ...     del d["a"]
        ...     [(version.kind, version.value) for version in d.history("a")]
        [('delete', None), ('set', 2), ('set', 1)]
        """
        return self._history(key, before, limit)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Makes the store reachable at another address too; returns that address.

        Only in the process that owns the store (see `status`); elsewhere `DeniedError`. Port 0 takes
        any free one. Whoever is not this user on this machine needs a link (``objsync link``).
        """
        host = f"[{host}]" if ":" in host else host
        return self._serve(f"{host}:{port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class DiskObject(Object):
    """A dictionary in a directory.

    The first process that opens it owns it; others that open the same path work through the owner,
    and one of them takes over when it goes.

    Args:
        path: The directory; made if it is not there.
        default_value: What a dictionary that does not exist yet starts with.
        durability: ``"sync"``: a write that returned survives a power cut. ``"buffered"``: it
            survives the end of the process, and a power cut after about a second.
        namespace: Which dictionary of the store.
        readonly: Refuse every write through this handle with `DeniedError`. A store that nobody
            has open can then be read on a full disk or a read-only file system too.

    Raises:
        InvalidError: The path is a file, or an argument is wrong.
        UnavailableError: Another process holds the store and does not answer.
        CorruptError: The store is damaged; ``objsync check`` tells where.
        UnsupportedError: A later version of objsync made the store.

    >>> with DiskObject("data.obj", {"visits": 0}) as d:
    ...     d["visits"] += 1
    >>> with DiskObject("data.obj", {"visits": 0}) as d:
    ...     d["visits"]
    1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_value: Mapping[Any, Any] | None = None,
        *,
        durability: Literal["sync", "buffered"] = "sync",
        namespace: str = "default",
        readonly: bool = False,
    ) -> None:
        settings = {
            "content": _settings.content(default_value),
            "durability": durability,
            "namespace": namespace,
            "readonly": readonly,
        }
        super().__init__("path", _settings.absolute(path), settings)


class CompressedDiskObject(Object):
    """A `DiskObject` that keeps each value as zstd, where that makes it smaller.

    Args:
        path: The directory; made if it is not there.
        default_value: What a dictionary that does not exist yet starts with.
        compression_level: 1 (fast) to 22 (small).
        dictionary: Train zstd dictionaries on the values, so that small ones shrink too
            (``docs/compression.md``); `status` tells how well.
        durability: As for `DiskObject`.
        namespace: As for `DiskObject`.
        readonly: As for `DiskObject`.

    >>> with CompressedDiskObject("text.zst", compression_level=9) as d:
    ...     d["page"] = "words " * 1000
    ...     len(d["page"])
    6000
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_value: Mapping[Any, Any] | None = None,
        compression_level: int = 5,
        *,
        dictionary: bool = True,
        durability: Literal["sync", "buffered"] = "sync",
        namespace: str = "default",
        readonly: bool = False,
    ) -> None:
        settings = {
            "compression": compression_level,
            "dictionary": dictionary,
            "content": _settings.content(default_value),
            "durability": durability,
            "namespace": namespace,
            "readonly": readonly,
        }
        super().__init__("path", _settings.absolute(path), settings)


class NetworkObject(Object):
    """The dictionary that is served at an address.

    When nobody serves a loopback address, the first that asks becomes its owner and serves it; the
    store lies in ``$OBJSYNC_HOME``. When the owner goes, another process takes over on the same files.

    Args:
        host: A host name or address; or ``"host:port"``; or a link, as ``objsync link`` makes it.
        port: The port, unless `host` has it.
        default_value: What a dictionary that does not exist yet starts with.
        namespace: Which dictionary of the store.
        link: Prove this process by this link's key only; then it never becomes the owner.
        durability: As for `DiskObject`; ``None`` for what the owner has chosen.
        promote: Become the owner of a loopback address when nobody serves it.
        replica: How much is held in memory: ``"auto"`` (all up to 256 MiB, above that what was read),
            ``"full"`` or ``"none"``.
        prefix: See and hold only keys that begin so (see `Object.prefix`).
        timeout: Seconds that a call waits for an answer before it raises.
        offline: ``"queue"``: writes go to this machine's disk first (``$OBJSYNC_HOME/queues``), return
            from there while there is no owner, and are sent once, in order, also by a later process;
            see `status`, `conflicts`. Such a handle never becomes the owner.

    Raises:
        InvalidError: An argument is wrong, such as an address without a port.
        UnavailableError: Nobody answers.
        DeniedError: The server is not the one expected, or does not let this process in.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        default_value: Mapping[Any, Any] | None = None,
        *,
        namespace: str = "default",
        link: str | None = None,
        durability: Literal["sync", "buffered"] | None = None,
        promote: bool = True,
        replica: Literal["auto", "full", "none"] = "auto",
        prefix: str | bytes | tuple[Any, ...] | None = None,
        timeout: float = 5.0,
        offline: Literal["wait", "queue"] = "wait",
    ) -> None:
        settings = {
            "content": _settings.content(default_value),
            "durability": durability,
            "link": link,
            "namespace": namespace,
            "offline": offline,
            "prefix": prefix,
            "promote": promote,
            "replica": replica,
            "timeout": timeout,
        }
        super().__init__("target", _settings.target(host, port), settings)


def _reopen(kind: type[AnyObject], place: str, settings: Settings) -> AnyObject:
    """Opens a handle as the pickled one was opened."""
    handle = kind.__new__(kind)
    Object.__init__(handle, "target" if issubclass(kind, NetworkObject) else "path", place, settings)
    return handle


def pairs(
    other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]],
) -> Iterable[tuple[Any, Any]]:
    """The pairs of what a dict can be updated from."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return ((key, other[key]) for key in other.keys())  # type: ignore[index]
    return other


def maybe(value: Any) -> tuple[Any, ...]:
    """A value in a tuple; an empty one for `MISSING`."""
    return () if value is MISSING else (value,)
