"""The compiled half of the package. Its public face is written in Python: see `objsync`."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from types import GenericAlias, TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, final, overload

from typing_extensions import disjoint_base

from objsync._objsync import files as files
from objsync._objsync import leases as leases
from objsync._objsync import live as live
from objsync._objsync import transactions as transactions
from objsync._objsync import values as values
from objsync._objsync.leases import Lease
from objsync._records import Ack, Conflict, Event, Op, Outcome, Status, Version
from objsync._types import K, V

__all__ = [
    "Batch", "Calls", "Events", "Handle", "Pages", "PastHandle", "Pipeline", "ScanIterator",
    "__version__", "at", "clear_conflicts", "conflicts", "conflicts_clear", "connect",
    "contains", "count", "decode_key", "decode_value", "delete", "encode_key", "encode_value",
    "files", "flush", "get", "history", "incr", "leases", "live", "next_event", "open", "outcome",
    "outcome_of", "pages", "past_contains", "past_count", "past_get", "past_pages", "read_within",
    "set", "snapshot", "snapshot_begin", "sync", "transactions", "values", "watch",
]  # fmt: skip

__version__: str

_T = TypeVar("_T")
_What = Literal["keys", "values", "items"]
_Seconds = float | timedelta

@disjoint_base
class Handle(Generic[K, V]):
    """A handle on a dictionary; Python's objects are subclasses of it."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _open(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None: ...
    def _connect(self, target: str, settings: dict[str, Any]) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __getitem__(self, key: K, /) -> V: ...
    @overload
    def get(self, key: K, default: None = None, *, max_stale: _Seconds | None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V, *, max_stale: _Seconds | None = None) -> V: ...
    @overload
    def get(self, key: K, default: _T, *, max_stale: _Seconds | None = None) -> V | _T:
        """The value of `key`; `default` when there is no such key.

        Args:
            key: The key.
            default: Returned when there is no such key.
            max_stale: Seconds, or a timedelta: how old the answer may be. From memory if this handle
                made a barrier (`sync`, `fresh`, or this) so lately, else by one round trip; 0 sees
                all that was committed before. Without an owner that is an `UnavailableError`.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a": 1}) as d:
        ...     d.get("a"), d.get("b"), d.get("b", 0), d.get("a", max_stale=0.2)
        (1, None, 0, 1)
        """

    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __setitem__(self, key: K, value: V, /) -> None: ...
    def __delitem__(self, key: K, /) -> None: ...
    def __iter__(self) -> Iterator[K]: ...
    def __reversed__(self) -> Iterator[K]: ...
    def _scan(
        self,
        what: _What | str,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        live: bool = False,
    ) -> ScanIterator: ...
    @staticmethod
    def _in_range(key: Any, start: Any = None, stop: Any = None, prefix: Any = None) -> bool: ...
    def _delete_range(self, start: Any = None, stop: Any = None, prefix: Any = None) -> int: ...
    def set(
        self,
        key: K,
        value: V,
        ttl: float | timedelta | None = None,
        lease: Lease | None = None,
    ) -> Ack:
        """Puts `value` under `key`, as ``d[key] = value`` does; returns where the write stands.

        Args:
            key: The key.
            value: The value.
            ttl: Seconds, or a timedelta, after which the owner of the store removes the key; 1 ms to
                10 years. Any later assignment of the key takes that away; `incr`, `list_append` and
                their like keep it.
            lease: A lease (see `Object.lease`) at whose end the key is removed.

        Raises:
            LeaseExpiredError: The lease has ended.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.set("a", 1).durability, d.set("token", "secret", ttl=60).durability
        ('sync', 'sync')
        """

    def list_append(self, key: K, *items: Any) -> int:
        """Adds to the end of a list and returns its new length; a missing key counts as an empty one.

        Decided by the owner of the store, so nothing is lost between processes.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.list_append("jobs", "sweep", "wash"), d.list_append("jobs", "dry"), d["jobs"]
        (2, 3, ['sweep', 'wash', 'dry'])
        """

    def set_add(self, key: K, *items: Any) -> int:
        """Adds to a set and returns how many were not there; a missing key counts as an empty one.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.set_add("tags", "red", "blue"), d.set_add("tags", "red"), sorted(d["tags"])
        (2, 0, ['blue', 'red'])
        """

    def set_discard(self, key: K, *items: Any) -> int:
        """Removes from a set and returns how many were there; a missing key counts as an empty one.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"tags": {"red", "blue"}}) as d:
        ...     d.set_discard("tags", "red", "green"), d["tags"]
        (1, {'blue'})
        """

    def incr(self, key: K, by: int = 1) -> int:
        """Adds to an integer and returns its new value; a missing key counts as 0.

        Decided by the owner of the store, so no count is lost between processes.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.incr("visits"), d.incr("visits", 10)
        (1, 11)
        """

    def _compare_and_set(self, key: Any, expected: tuple[Any, ...], new: tuple[Any, ...]) -> bool: ...
    def _payload(self, key: Any) -> bytes | None: ...
    def _swap(self, key: Any, expected: bytes, new: bytes) -> bool: ...
    @overload
    def setdefault(self: Handle[K, _T | None], key: K, default: None = None) -> _T | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V:
        """The value of `key`; if there is none, `default`, which is put there."""

    def _pop(self, key: Any, default: tuple[Any, ...]) -> Any: ...
    def popitem(self) -> tuple[K, V]:
        """Removes the last entry in key order and returns it; `KeyError` when there is none."""

    def _update(self, pairs: Iterable[tuple[Any, Any]]) -> Ack | None: ...
    def batch(self) -> Batch[K, V]:
        """``with d.batch() as b: b[k] = v``: one transaction, all of it or nothing.

        At most 16 MiB. If the block raises, nothing is written.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a": 1}) as d:
        ...     with d.batch() as b:
        ...         b["b"] = 2
        ...         del b["a"]
        ...     d.copy()
        {'b': 2}
        """

    def pipeline(self) -> Pipeline[K, V]:
        """``with d.pipeline() as p: p[k] = v``: many acknowledged writes in flight.

        Sent in order, each a transaction of its own; the end of the block waits for all answers and
        raises the first failure.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     with d.pipeline() as p:
        ...         for i in range(1000):
        ...             p[i] = str(i)
        ...     len(d)
        1000
        """

    def _watch(
        self, key: tuple[Any, ...], prefix: Any = None, since: int | None = None
    ) -> Events[K, V]: ...
    def _at(self, revision: int) -> PastHandle: ...
    def _history(
        self, key: Any, before: int | None = None, limit: int | None = None
    ) -> list[Version[K, V]]: ...
    @property
    def last_ack(self) -> Ack | None:
        """The acknowledgement of this handle's newest answered write; ``None`` before the first."""

    @property
    def status(self) -> Status:
        """How the handle is, from what it knows itself: asks nobody."""

    def sync(self) -> int:
        """Waits until this process has all that was committed before the call.

        Every read after it sees at least that. Returns how far that is: a revision.
        """

    def flush(self) -> int:
        """Makes everything this handle wrote survive a power cut; returns up to which revision."""

    def _serve(self, address: str) -> str: ...
    def close(self) -> None:
        """Closes the handle: started writes are finished, watches end. Harmless when repeated.

        Any other call then raises `ClosedError`. When the last handle of the owning process closes,
        the store does, and another process takes over.
        """

@final
class PastHandle:
    """A dictionary as it was at one revision; `objsync.Past` is its public face."""

    @property
    def revision(self) -> int:
        """As of when it is read."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def get(self, key: Any, default: Any = None, /) -> Any:
        """The value that `key` had; `default` when there was no such key."""

    def release(self) -> None:
        """Lets go of what is held in memory for it; reads raise `ClosedError` from then on."""

    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def _scan(
        self,
        what: _What | str,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
    ) -> ScanIterator: ...

@final
class ScanIterator:
    """Yields entries in key order. They are decoded one by one, and fetched some 256 KiB at a time."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class Batch(Generic[K, V]):
    """Changes collected for one transaction; made by `Object.batch`.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d, d.batch() as b:
    ...     b["a"] = 1
    ...     b.commit()
    ...     b["b"] = 2
    ...     b.clear()
    ...     d.copy(), b.ack == d.last_ack
    ({'a': 1}, True)
    """

    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __setitem__(self, key: K, value: V, /) -> None: ...
    def __delitem__(self, key: K, /) -> None: ...
    def __len__(self) -> int: ...
    @property
    def ack(self) -> Ack | None:
        """Where the transaction stands, once it was made."""

    def clear(self) -> None:
        """Forgets the changes collected so far."""

    def commit(self) -> None:
        """Makes the changes collected so far, in one transaction."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Pipeline(Generic[K, V]):
    """Writes sent in order without waiting for each answer; made by `Object.pipeline`.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d, d.pipeline() as p:
    ...     p["a"] = 1
    ...     p["b"] = 2
    ...     p.finish()
    ...     d.copy(), p.ack == d.last_ack
    ({'a': 1, 'b': 2}, True)
    """

    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __setitem__(self, key: K, value: V, /) -> None: ...
    def __delitem__(self, key: K, /) -> None: ...
    @property
    def ack(self) -> Ack | None:
        """Where the last write stands, once the pipeline is finished."""

    def finish(self) -> None:
        """Waits for every answer and raises the first failure."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Events(Generic[K, V]):
    """A stream of changes; `objsync.Watch` is its public face."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Event[K, V]: ...
    def get(self, timeout: float) -> Event[K, V] | None:
        """The next event within `timeout` seconds, or none."""

    @property
    def closed(self) -> bool:
        """Whether nothing more can come."""

    def close(self) -> None:
        """Ends the stream."""

@final
class Calls:
    """The calls of one event loop that are on their way."""

    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """The descriptor that becomes readable when a call can go on."""

    def forget(self, future: asyncio.Future[Any]) -> None:
        """Drops the call of a future that is done without it. Called by the event loop."""

    def drain(self) -> None:
        """Lets the calls that were woken go on. Called by the event loop."""

@final
class Pages:
    """An iteration that is read page by page."""

    def next_page(self, calls: Calls, future: asyncio.Future[list[Any]]) -> None:
        """Completes with a list of the next entries; an empty one is the end."""

_Future = asyncio.Future[Any]

def open(
    calls: Calls, future: _Future, handle: Handle, path: str, settings: dict[str, Any]
) -> None:
    """Opens a handle on a directory."""

def connect(
    calls: Calls, future: _Future, handle: Handle, target: str, settings: dict[str, Any]
) -> None:
    """Opens a handle on an address."""

def get(
    calls: Calls, future: _Future, handle: Handle, key: Any, default: Any, is_required: bool
) -> None:
    """The value under a key; `default` when there is none, or `KeyError` when `is_required`."""

def contains(calls: Calls, future: _Future, handle: Handle, key: Any) -> None:
    """Whether there is such a key."""

def count(calls: Calls, future: _Future, handle: Handle) -> None:
    """How many keys there are."""

def set(calls: Calls, future: _Future, handle: Handle, key: Any, value: Any) -> None:
    """Puts a value; completes with its `Ack`."""

def delete(calls: Calls, future: _Future, handle: Handle, key: Any) -> None:
    """Removes a key; `KeyError` when it is missing."""

def incr(calls: Calls, future: _Future, handle: Handle, key: Any, by: int) -> None:
    """Adds to an integer."""

def sync(calls: Calls, future: _Future, handle: Handle) -> None:
    """Waits until the handle has everything that was committed when it was called."""

def flush(calls: Calls, future: _Future, handle: Handle) -> None:
    """Makes what the handle wrote survive a power cut."""

def next_event(calls: Calls, future: _Future, events: Events) -> None:
    """The next event of a watch, or `None` at its end."""

def watch(
    calls: Calls,
    future: _Future,
    handle: Handle,
    key: tuple[Any, ...],
    prefix: Any = None,
    since: int | None = None,
) -> None:
    """Starts to follow changes; completes with `Events`."""

def pages(
    calls: Calls,
    future: _Future,
    handle: Handle,
    what: _What | str,
    bounds: tuple[Any, Any, Any],
    reverse: bool,
) -> None:
    """Starts to read keys, values or items; completes with `Pages`."""

def at(calls: Calls, future: _Future, handle: Handle, revision: int) -> None:
    """The dictionary as it was at a revision; completes with `PastHandle`."""

def history(
    calls: Calls,
    future: _Future,
    handle: Handle,
    key: Any,
    before: int | None = None,
    limit: int | None = None,
) -> None:
    """What a key was, newest first; completes with a list of `Version`."""

def past_get(
    calls: Calls, future: _Future, past: PastHandle, key: Any, default: Any, is_required: bool
) -> None:
    """The value a key had; `default` when there was none, or `KeyError` when `is_required`."""

def past_contains(calls: Calls, future: _Future, past: PastHandle, key: Any) -> None:
    """Whether there was such a key."""

def read_within(
    calls: Calls,
    future: _Future,
    handle: Handle,
    key: Any,
    default: Any,
    max_stale: float | timedelta,
) -> None:
    """As `Handle.get` with `max_stale`; `KeyError` never."""

def snapshot(handle: Handle) -> PastHandle:
    """The dictionary as of this moment."""

def snapshot_begin(calls: Calls, future: _Future, handle: Handle) -> None:
    """As `snapshot`, awaitable."""

def outcome(handle: Handle, op: Op) -> Outcome | None:
    """What came of a write: an `Outcome`, or `None` when it was not done and never will be."""

def outcome_of(calls: Calls, future: _Future, handle: Handle, op: Op) -> None:
    """As `outcome`, awaitable."""

def conflicts(handle: Handle) -> list[Conflict]:
    """Queued writes that the owner decided otherwise, as a list of `Conflict`."""

def clear_conflicts(handle: Handle) -> None:
    """Forgets the conflicts so far."""

def conflicts_clear(calls: Calls, future: _Future, handle: Handle) -> None:
    """As `clear_conflicts`, awaitable."""

def past_count(calls: Calls, future: _Future, past: PastHandle) -> None:
    """How many keys there were."""

def past_pages(
    calls: Calls,
    future: _Future,
    past: PastHandle,
    what: _What | str,
    bounds: tuple[Any, Any, Any],
    reverse: bool,
) -> None:
    """Starts to read keys, values or items of the past; completes with `Pages`."""

def encode_value(value: Any) -> bytes:
    """The stored bytes of a value, before compression."""

def decode_value(payload: bytes) -> Any:
    """The value of stored bytes."""

def encode_key(key: Any) -> bytes:
    """The stored bytes of a key, whose order is the order of keys."""

def decode_key(encoded: bytes) -> Any:
    """The key of stored bytes."""
