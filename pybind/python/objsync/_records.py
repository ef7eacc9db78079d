"""What calls tell about themselves: tuples with named fields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple

from objsync._native import Unread
from objsync._types import K, V

if TYPE_CHECKING:
    from objsync.errors import Error

__all__ = ["Ack", "Compression", "Conflict", "Event", "Op", "Outcome", "Status", "Version"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Ack(NamedTuple):
    """What a write is answered with: where it stands, and how safe it was by then.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     first, second = d.set("a", 1), d.set("b", 2)
    ...     first.revision < second.revision, second.durability, d.last_ack == second
    (True, 'sync', True)
    """

    revision: int
    """The write's place in the one order of the store."""
    epoch: int
    """Counts the owners of the store: the one that took the write."""
    durability: str
    """``"sync"``: on disk. ``"buffered"``: with the operating system, on disk within a second.
    ``"queued"``: on this machine's disk, to be sent when there is an owner (`revision` is 0)."""


class Op(NamedTuple):
    """Which write: what `OutcomeUnknownError` names and `Object.outcome` asks about.

    >>> Op(3, 7, 2) == Op(3, 7, 2), str(Op(3, 7, 2))
    (True, '3.7.2')
    """

    epoch: int
    """Counts the owners of the store: the one that opened the session."""
    frame: int
    """With the epoch, which session."""
    sequence: int
    """Its number in the session."""

    def __str__(self) -> str:
        return f"{self.epoch}.{self.frame}.{self.sequence}"


class Outcome(NamedTuple):
    """What came of a write, as `Object.outcome` tells it.

    >>> outcome = Outcome(7, Ack(12, 1, "sync"))
    >>> outcome.value, outcome.ack.revision
    (7, 12)
    """

    value: Any
    """What the call would have returned: a number, or whether; ``None`` for a plain write."""
    ack: Ack
    """Where the write stands."""


class Conflict(NamedTuple):
    """A queued write that the owner decided otherwise than its caller was told.

    >>> lost = Conflict("a", "compare_and_set", 1, 2, 5, "the value is another one", EPOCH)
    >>> lost.key, lost.wanted, lost.actual
    ('a', 2, 5)
    """

    key: Any
    """The key; ``None`` where a whole range was to be deleted."""
    operation: str
    """``"set"``, ``"delete"``, ``"compare_and_set"``, ``"incr"``, ``"batch"`` and so on."""
    expected: Any
    """What a compare-and-set expected; ``None`` also for "no such key"."""
    wanted: Any
    """What was to be put; ``None`` when the key was to be deleted."""
    actual: Any
    """What the key has now, as far as this handle knows."""
    reason: str
    """Why it did not happen, or why nobody knows."""
    time: datetime
    """When it was asked for, by this machine's clock."""


def conflict(
    key: Any, operation: str, expected: Any, wanted: Any, actual: Any, reason: str, time_ms: int
) -> Conflict:
    """A `Conflict` whose time is milliseconds since 1970."""
    time = EPOCH + timedelta(milliseconds=time_ms)
    return Conflict(key, operation, expected, wanted, actual, reason, time)


class Event(NamedTuple, Generic[K, V]):
    """One change of one key, as `Object.watch` tells it.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"a": 1}) as d, d.watch() as w:
    ...     d["a"] = 2
    ...     event = next(w)
    >>> event.key, event.value, event.old_value, event.kind, event.origin
    ('a', 2, 1, 'set', 'self')
    """

    key: K
    """The key."""
    value: V | None
    """The value it has now; ``None`` when it was deleted (see `kind`), or cannot be told (see `unread`)."""
    old_value: V | None
    """The value it had before, where this process holds a replica that had it; else ``None``."""
    kind: Literal["set", "delete", "expire", "patch"]
    """What happened: ``"expire"`` when it was removed by itself (a time to live, a lease or a presence
    ended), ``"patch"`` when a part of the value changed (`Object.list_append` and its like)."""
    revision: int
    """The transaction that did it. Several events can share one."""
    origin: str | None
    """``"self"`` for a write of this handle, or, where this process owns the store, of any handle in
    it; else the writer's session. ``None`` also for what nobody asked for."""

    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias:
        return GenericAlias(cls, item)

    @property
    def unread(self) -> Error | None:
        """Why `value` is ``None`` although the key has one; ``None`` in all other events.

        An `InvalidError` where it is more than 4 GiB (`Object.open` reads it in pieces), a `ConflictError`
        where it was replaced since and is no longer kept, a `CorruptError` where it is damaged.
        """
        return None


def unread_event(error: Error, event: Event[Any, Any]) -> Event[Any, Any]:
    """An event whose value cannot be told. There are few, so each has a class of its own: a tuple has no
    room for what is none of its fields."""
    members = {
        "__slots__": (),
        "unread": property(lambda _: error),
        "__reduce__": lambda self: (unread_event, (error, Event(*self))),
    }
    kind: type[Event[Any, Any]] = type("UnreadEvent", (Event,), members)
    return kind(*event)


class _Version(NamedTuple, Generic[K, V]):
    key: K
    """The key."""
    value: V | None
    """The value it had; ``None`` when it was deleted (see `kind`)."""
    revision: int
    """The transaction that did it: `Object.at` reads all as of then."""
    time: datetime | None
    """When the owner of the store decided it, by its clock; ``None`` where `is_oldest_known`."""
    kind: Literal["set", "delete"]
    """What happened."""
    is_oldest_known: bool
    """What came before is no longer kept: so the key was at the oldest revision kept."""

    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias:
        return GenericAlias(cls, item)


class Version(_Version[K, V]):
    """What a key was from one revision on, as `Object.history` lists it.

    A large value (bytes, str and arrays above 64 KiB) is read when it is asked for, each time anew, so
    that a long list of them need not fit into memory. That can wait, and raise what reading a key
    does; `ConflictError` when the store no longer keeps it. In a coroutine:
    ``await asyncio.to_thread(lambda: version.value)``. A pickle holds the value itself.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     d["a"] = 1
    ...     version = d.history("a")[0]
    >>> version.value, version.kind, version.time.tzname()
    (1, 'set', 'UTC')
    """

    __slots__ = ()

    @property
    def value(self) -> V | None:
        """The value it had; ``None`` when it was deleted (see `kind`)."""
        value: V | None = _read(super().__getitem__(1))
        return value

    # As a tuple it has the value too, not what stands for one that was not read.

    def __iter__(self) -> Iterator[Any]:
        return map(_read, super().__iter__())

    def __getitem__(self, index: Any, /) -> Any:
        found = super().__getitem__(index)
        return tuple(map(_read, found)) if isinstance(index, slice) else _read(found)

    def __contains__(self, value: object, /) -> bool:
        return value in tuple(self)

    def __eq__(self, other: object, /) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object, /) -> bool:
        return tuple(self) != tuple(other) if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))


def _read(value: Any) -> Any:
    return value.read() if isinstance(value, Unread) else value


def version(
    key: Any,
    value: Any,
    revision: int,
    time_ms: int | None,
    kind: Literal["set", "delete"],
    is_oldest_known: bool,
) -> Version:
    """A `Version` whose time is milliseconds since 1970."""
    time = None if time_ms is None else EPOCH + timedelta(milliseconds=time_ms)
    return Version(key, value, revision, time, kind, is_oldest_known)


class Compression(NamedTuple):
    """How a `CompressedDiskObject` compresses: what it wrote and read since it was opened.

    A value counts each time that it is written or read; reads that the cache of decoded values
    answers do not count.

    >>> from objsync import CompressedDiskObject
    >>> with CompressedDiskObject("data.zst", compression_level=9) as d:
    ...     d.update({n: f"user {n}, reader and writer, of Bergen" for n in range(2000)})
    ...     how = d.status.compression
    ...     how.level, how.values, how.ratio > 1.5, how.dictionary is not None
    (9, 2000, True, True)
    """

    level: int
    """zstd's level, 1 to 22."""
    dictionary: int | None
    """The zstd dictionary that new values are packed with, by its number; ``None`` while there is
    none."""
    trained_at: datetime | None
    """When that was added to the store, by the owner's clock, in UTC."""
    trainings: int
    """How often this handle has trained a dictionary, whether it paid or not."""
    values: int
    """Values written and read."""
    plain_bytes: int
    """Bytes of them before compression, as MessagePack."""
    stored_bytes: int
    """Bytes that they take in the store, with their headers of three bytes."""
    ratio: float | None
    """`plain_bytes` through `stored_bytes`; ``None`` before the first value."""
    compress_mb_s: float | None
    """Million bytes compressed in a second of one thread; ``None`` before the first value."""
    decompress_mb_s: float | None
    """Million bytes decompressed in a second of one thread; ``None`` before the first value."""


def compression(
    level: int, dictionary: int | None, trained_ms: int | None, counts: tuple[Any, ...]
) -> Compression:
    """A `Compression` whose time is milliseconds since 1970."""
    trained_at = None if trained_ms is None else EPOCH + timedelta(milliseconds=trained_ms)
    return Compression(level, dictionary, trained_at, *counts)


class Status(NamedTuple):
    """How a handle is, from what it knows itself: asking costs no round trip.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     d.status.role
    'owner'
    """

    role: Literal["owner", "peer", "offline", "closed"]
    """``"owner"``: this process holds the store. ``"peer"``: it is connected to the one that does.
    ``"offline"``: nobody was found yet, or the owner has just gone."""
    address: str | None
    """Where the store is served, if known."""
    directory: str | None
    """The store's directory, if it is on this machine."""
    namespace: str
    """The dictionary's name within the store."""
    store: str | None
    """The store's id, in hex."""
    epoch: int | None
    """Counts the owners of the store."""
    revision: int
    """How far this handle has seen the history."""
    lag: int
    """Revisions that are known to exist and that this handle has not seen."""
    peers: int | None
    """Connected peers, when this process is the owner."""
    keys: int | None
    """Keys in the dictionary, where that is known without asking."""
    unanswered: int
    """Writes without an answer yet."""
    owner_pid: int | None
    """Process id of the owner, if it is on this machine."""
    reason: str | None
    """Why the handle is offline, as far as known."""
    stale_s: float
    """Seconds since this process was last told of changes; 0.0 for an owner and while connected."""
    queued: int
    """Writes that wait on this machine's disk (``NetworkObject(offline="queue")``)."""
    conflicts: int
    """Queued writes that the owner decided otherwise (see `Object.conflicts`), not cleared yet."""
    compression: Compression | None
    """How a `CompressedDiskObject` compresses; ``None`` for other handles."""
