"""The objects: dictionaries on disk and on the network, with one face."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from objsync import _registry, _roots, _settings, _show
from objsync._dict import DictLike, pairs
from objsync._files import Files
from objsync._leases import Leases
from objsync._native import Batch, Lease, Lock, Pipeline, Presence
from objsync._past import Past
from objsync._reads import Reads
from objsync._records import Event, Version
from objsync._transaction import Transactions
from objsync._types import ABSENT, MISSING, Absent, K, Missing, V, maybe
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

Settings = dict[str, Any]
AnyObject = TypeVar("AnyObject", bound="Object")
T = TypeVar("T")
UNPICKLED: Final = frozenset({"_recipe", "_live_attributes"})
"""Attributes of a handle that do not go with it: it is opened anew. A subclass's own go along."""


class Object(
    Transactions[K, V], Leases[K, V], Reads[K, V], Files, DictLike[K, V], MutableMapping[K, V]
):
    """A dictionary that is on disk and that other processes share live; the base of all objects.

    Keys: str, int, float, bool, bytes, None, UUID, datetime, and tuples of those, at most 4 KiB when
    encoded; ``1``, ``1.0`` and ``True`` are one key, as in a dict. Iteration is in the order of keys
    (None, numbers, str, bytes, datetime, UUID, tuple), and sees one moment of the dictionary.

    Values: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex, Decimal,
    datetime, date, time, timedelta, UUID, numpy arrays, objects of classes given to `objsync.value` or
    `objsync.register`, and what is made of those; at most 8 MiB (docs/values.md). Bytes, str and arrays
    by themselves can be far larger, see `open`. A bytearray comes back as bytes. Another type is a
    `TypeError` that says where it is; a subclass is another type.

    A dict, a list or a set comes back as a `LiveDict`, `LiveList` or `LiveSet`: it is one, sees what is
    there now, and changes of it are stored when they return, each as one step. What else can change comes
    back as a copy, and so does all that transactions, snapshots and the past return.

    Every method that can wait releases the interpreter's lock; Ctrl-C interrupts it. Handles can be
    used from any thread, survive `os.fork` (the child becomes a client of its own), and can be
    pickled: the other process opens the same dictionary.

    Not made directly: see `DiskObject`, `CompressedDiskObject` and `NetworkObject`. A subclass with
    ``load(self)`` and ``save(self, value)`` keeps one value on a storage of its own (docs/mapping.md).
    """

    __hash__ = None  # type: ignore[assignment]

    _recipe: tuple[str, Settings]

    def __init__(self, default_value: Any = None) -> None:
        what = "is not made directly" if type(self) is Object else "gives no load() and save(value)"
        raise TypeError(f"{type(self).__name__} {what}: see the documentation of objsync.Object")

    def _start(self, kind: Literal["path", "target"], place: str, settings: Settings) -> None:
        self._recipe = (place, {k: v for k, v in settings.items() if k != "content"})
        if kind == "path":
            self._open(place, settings)
        else:
            self._connect(place, settings)
        _registry.add(self)
        _roots.give_face(self, settings.get("content"))

    def __reduce__(self) -> tuple[Any, ...]:
        others = {name: value for name, value in vars(self).items() if name not in UNPICKLED}
        return (_reopen, (type(self), *self._recipe), others or None)

    # Views

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._scan(what, reverse=reverse, live=True)

    def keys(self) -> Keys[K]:
        """The keys in order: a view, as of ``dict.keys()``.

        >>> with DiskObject("data.obj", {"b": 2, "a": 1, 10: 0}) as d:
        ...     list(d.keys()), list(reversed(d.keys()))
        ([10, 'a', 'b'], ['b', 'a', 10])
        """
        return Keys(self)

    def values(self) -> Values[V]:
        """The values in the order of their keys: a view, as of ``dict.values()``."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """The (key, value) pairs in the order of keys: a view, as of ``dict.items()``.

        >>> with DiskObject("data.obj", {"b": 2, "a": 1}) as d:
        ...     list(d.items())
        [('a', 1), ('b', 2)]
        """
        return Items(self)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeView[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound.

        >>> with DiskObject("data.obj", {1: "a", 2: "b", 3: "c"}) as d:
        ...     dict(d.range(2)), dict(d.range(stop=2))
        ({2: 'b', 3: 'c'}, {1: 'a'})
        """
        return RangeView(self, start, stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeView[K, V]:
        """The entries whose keys begin with a text, with bytes, or with these elements of a tuple.

        >>> with DiskObject("data.obj", {("ada", 1): "x", ("ada", 2): "y", ("bob", 1): "z"}) as d:
        ...     list(d.prefix(("ada",)))
        [('ada', 1), ('ada', 2)]
        """
        return RangeView(self, prefix=prefix)

    # Writes

    @overload
    def pop(self, key: K, default: Absent = ABSENT) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: K, default: Any = ABSENT) -> Any:
        """Removes `key` and returns its value, which no other process then gets.

        Args:
            key: The key.
            default: Returned when there is no such key; without it, that is a `KeyError`.

        >>> with DiskObject("data.obj", {"a": 1}) as d:
        ...     d.pop("a"), d.pop("a", None)
        (1, None)
        """
        return self._pop(key, () if default is ABSENT else (default,))

    def clear(self) -> None:
        """Deletes every key; in several transactions when there are many."""
        self._delete_range()

    def update(
        self,
        other: SupportsKeysAndGetItem[K, V] | Iterable[tuple[K, V]] = (),
        /,
        **named: V,
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
        self._update(chain(pairs(other), named.items()))

    def compare_and_set(self, key: K, expected: V | Missing, new: V | Missing) -> bool:
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

    # The whole

    def copy(self) -> dict[K, V]:
        """All of it, as it is at one moment, in a plain dict."""
        return dict(self._scan("items"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if self is other:
            return True
        return len(self) == len(other) and self.copy() == dict(other.items())

    def __repr__(self) -> str:
        return _show.line(self, self, getattr(self, "_recipe", ("",))[0])

    def _repr_html_(self) -> str:
        return _show.table(self, self, getattr(self, "_recipe", ("",))[0])

    # Others

    def watch(
        self,
        callback: Callable[[Event[K, V]], object] | None = None,
        *,
        key: K | Missing = MISSING,
        prefix: str | bytes | tuple[Any, ...] | None = None,
        since: int | None = None,
    ) -> Watch[K, V]:
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

    def at(self, revision: int) -> Past[K, V]:
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
        self, key: K, *, limit: int | None = 1000, before: int | None = None
    ) -> list[Version[K, V]]:
        """What `key` was, newest first, as far back as log and snapshots go (see `at`).

        The parts of the log that wrote the key are read for it, so it is not for a hot path. Large
        values are read when their `Version.value` is.

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


class DiskObject(Object[K, V]):
    """A dictionary in a directory.

    The first process that opens it owns it; others that open the same path work through the owner,
    and one of them takes over when it goes.

    Args:
        path: The directory; made if it is not there.
        default_value: What a dictionary that does not exist yet starts with.
        durability: ``"sync"``: a write that returned survives a power cut. ``"buffered"``: it
            survives the end of the process, and a power cut after about a second.
        namespace: Which dictionary of the store.
        readonly: Refuse every write through this handle with `DeniedError`, and make no store. A store
            that nobody has open can then be read on a full disk or a read-only file system too.

    Raises:
        StoreNotFoundError: There is no store, and it is to be read only.
        InvalidError: The path is a file, or an argument is wrong.
        UnavailableError: Another process holds the store and does not answer.
        CorruptError: The store is damaged; ``objsync check`` tells where.
        UnsupportedError: A later version of objsync made the store.

    >>> with DiskObject("data.obj", {"visits": 0}) as d:
    ...     d["visits"] += 1
    >>> with DiskObject("data.obj", {"visits": 0}) as d:
    ...     d["visits"]
    1

    And what a dict does besides, or a store:

    >>> d = DiskObject("other.obj", {"a": 1})
    >>> d.setdefault("b", 2), list(d.values()), d.popitem(), d.copy()
    (2, [1, 2], ('b', 2), {'a': 1})
    >>> d.sync() >= d.last_ack.revision, d.flush() >= d.last_ack.revision
    (True, True)
    >>> d.clear()
    >>> len(d), d.close()
    (0, None)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_value: Any = None,
        *,
        durability: Literal["sync", "buffered"] = "sync",
        namespace: str = "default",
        readonly: bool = False,
    ) -> None:
        settings = {
            "content": _roots.content(default_value),
            "durability": durability,
            "namespace": namespace,
            "readonly": readonly,
        }
        self._start("path", _settings.absolute(path), settings)


class CompressedDiskObject(Object[K, V]):
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
        default_value: Any = None,
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
            "content": _roots.content(default_value),
            "durability": durability,
            "namespace": namespace,
            "readonly": readonly,
        }
        self._start("path", _settings.absolute(path), settings)


class NetworkObject(Object[K, V]):
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

    >>> with DiskObject("data.obj", {"a": 1}) as d, NetworkObject(d.serve()) as n:
    ...     n["b"] = 2
    ...     n["a"], d["b"]
    (1, 2)
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        default_value: Any = None,
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
            "content": _roots.content(default_value),
            "durability": durability,
            "link": link,
            "namespace": namespace,
            "offline": offline,
            "prefix": prefix,
            "promote": promote,
            "replica": replica,
            "timeout": timeout,
        }
        self._start("target", _settings.target(host, port), settings)


def _reopen(kind: type[AnyObject], place: str, settings: Settings) -> AnyObject:
    """Opens a handle as the pickled one was opened."""
    handle = kind.__new__(kind)
    handle._start("target" if issubclass(kind, NetworkObject) else "path", place, settings)
    return handle
