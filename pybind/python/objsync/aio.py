"""The objects of `objsync` for an event loop: the same names, to `await`.

The calls are those of the blocking objects, on the same core; only how one waits differs.

>>> import asyncio
>>> from objsync import aio
>>> async def main():
...     async with aio.DiskObject("data.obj", {"visits": 0}) as d:
...         await d.set("name", "Ada")
...         await d.incr("visits")
...         print(await d["name"], await d.get("nobody"), await d.len())
...         print([item async for item in d.items()])
>>> asyncio.run(main())
Ada None 2
[('name', 'Ada'), ('visits', 1)]
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from objsync import _loop, _registry, _settings, _show
from objsync._aio_files import Files
from objsync._aio_leases import Lease, Leases, Lock, Presence
from objsync._aio_parts import (
    Batch,
    Entries,
    Opened,
    Past,
    Pipeline,
    RangeReader,
    RangeView,
)
from objsync._aio_transaction import Transaction, Transactions
from objsync._aio_reads import Conflicts, Reads, Snapshot
from objsync._aio_watch import Watch
from objsync._dict import pairs
from objsync._native import Handle, native, native_leases
from objsync._objects import MISSING, Missing, Settings
from objsync._records import Ack, Event, Status, Version
from objsync._types import ABSENT, Absent, K, V, maybe

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "MISSING",
    "Batch",
    "CompressedDiskObject",
    "Conflicts",
    "DiskObject",
    "Entries",
    "Lease",
    "Lock",
    "NetworkObject",
    "Object",
    "Past",
    "Pipeline",
    "Presence",
    "RangeReader",
    "RangeView",
    "Snapshot",
    "Transaction",
    "Watch",
]

T = TypeVar("T")


class Object(Opened, RangeView[K, V], Reads[K, V], Transactions[K, V], Leases[K, V], Files):
    """A shared dictionary for an event loop; the base of all objects of this module.

    Open it with ``await`` or ``async with``. What keys and values can be, what a write means and
    what is raised is as for `objsync.Object`. What becomes of a call that is cancelled stands in each
    method; a write that was handed over is never taken back. A handle that was pickled is to be opened.

    Cancelled: opening leaves no store open; the same handle can be opened again.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     d = await aio.DiskObject("data.obj", {"a": 1})
    ...     print(await d.contains("a"), (await d.delete("a")).durability, await d.len())
    ...     async with d.fresh():
    ...         print(await d.get("a"))
    ...     await d.close()
    >>> asyncio.run(main())
    True sync 0
    None
    """

    def __init__(self, kind: Literal["path", "target"], place: str, settings: Settings) -> None:
        RangeView.__init__(self, Handle())
        self._opening = (native.open if kind == "path" else native.connect, place, settings)
        self._is_open = False

    def __reduce__(self) -> tuple[Any, ...]:
        _, place, settings = self._opening
        kept = {name: value for name, value in settings.items() if name != "content"}
        return _unopened, (type(self), place, kept)

    @classmethod
    async def fromkeys(cls, keys: Iterable[Any], value: Any = None, /, *place: Any, **options: Any) -> Self:
        """Opens an object and puts `value` under each of `keys` (see `objsync.Object.fromkeys`).

        Cancelled: it may be filled all the same; the handle is closed.
        """
        made = cls(*place, **options)
        try:
            await made
            await made.update((key, value) for key in keys)
        except BaseException:
            await made.close()
            raise
        return made

    async def _open(self) -> None:
        if self._is_open:
            return
        start, place, settings = self._opening
        opened = _loop.call(start, self._handle, place, settings)
        try:
            await opened
        finally:
            # It can have been opened while this task was being cancelled: then it is, for the next.
            if opened.done() and not opened.cancelled() and not opened.exception():
                self._is_open = True
                _registry.add(self._handle)

    def __repr__(self) -> str:
        return _show.line(self, self._handle, self._opening[1])

    def _repr_html_(self) -> str:
        return _show.table(self, self._handle, self._opening[1])

    # Reads

    def __getitem__(self, key: K) -> _loop.Call[V]:
        return _loop.call(native.get, self._handle, key, None, True)

    @overload
    def get(
        self, key: K, default: None = None, *, max_stale: float | timedelta | None = None
    ) -> _loop.Call[V | None]: ...
    @overload
    def get(
        self, key: K, default: V, *, max_stale: float | timedelta | None = None
    ) -> _loop.Call[V]: ...
    @overload
    def get(
        self, key: K, default: T, *, max_stale: float | timedelta | None = None
    ) -> _loop.Call[V | T]: ...
    def get(
        self, key: K, default: Any = None, *, max_stale: float | timedelta | None = None
    ) -> _loop.Call[Any]:
        """The value of `key`; `default` when there is no such key.

        With `max_stale`, no older than so many seconds (see `objsync.Object.get`).

        Cancelled: nothing happens.
        """
        if max_stale is not None:
            return _loop.call(native.read_within, self._handle, key, default, max_stale)
        return _loop.call(native.get, self._handle, key, default, False)

    def contains(self, key: object) -> _loop.Call[bool]:
        """Whether there is such a key.

        Cancelled: nothing happens.
        """
        return _loop.call(native.contains, self._handle, key)

    def len(self) -> _loop.Call[int]:
        """How many keys there are.

        Cancelled: nothing happens.
        """
        return _loop.call(native.count, self._handle)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeView[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeView(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeView[K, V]:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeView(self._handle, prefix=prefix)

    async def copy(self) -> dict[K, V]:
        """All of it, as it is at one moment, in a plain dict.

        Cancelled: nothing happens.
        """
        return {key: value async for key, value in self.items()}

    # Writes

    def set(
        self,
        key: K,
        value: V,
        ttl: float | timedelta | None = None,
        lease: Lease | None = None,
    ) -> _loop.Call[Ack]:
        """Puts `value` under `key`; with `ttl` or `lease`, it is removed by itself.

        See `objsync.Object.set`.

        Cancelled: the write may still happen, as a whole.
        """
        if ttl is None and lease is None:
            return _loop.call(native.set, self._handle, key, value)
        under = None if lease is None else lease.native
        return _loop.call(native_leases.set_leased, self._handle, key, value, ttl, under)

    def list_append(self, key: K, *items: Any) -> _loop.Call[int]:
        """Adds to the end of a list; its new length.

        Cancelled: the write may still happen, as a whole.
        """
        return _loop.call(native_leases.patch_value, self._handle, "list_append", key, items)

    def set_add(self, key: K, *items: Any) -> _loop.Call[int]:
        """Adds to a set; how many were not there.

        Cancelled: the write may still happen, as a whole.
        """
        return _loop.call(native_leases.patch_value, self._handle, "set_add", key, items)

    def set_discard(self, key: K, *items: Any) -> _loop.Call[int]:
        """Removes from a set; how many were there.

        Cancelled: the write may still happen, as a whole.
        """
        return _loop.call(native_leases.patch_value, self._handle, "set_discard", key, items)

    def delete(self, key: K) -> _loop.Call[Ack]:
        """Deletes `key`; `KeyError` when it is not there.

        Cancelled: the write may still happen, as a whole.
        """
        return _loop.call(native.delete, self._handle, key)

    def incr(self, key: K, by: int = 1) -> _loop.Call[int]:
        """Adds to an integer, a missing one counting as 0; the new value.

        Cancelled: the write may still happen, as a whole.
        """
        return _loop.call(native.incr, self._handle, key, by)

    async def compare_and_set(self, key: K, expected: V | Missing, new: V | Missing) -> bool:
        """Puts `new` if the value of `key` equals `expected`; whether it did.

        `MISSING` stands for "no such key", as for `objsync.Object.compare_and_set`.

        Cancelled: the write may still happen, as a whole.
        """
        pair = maybe(expected), maybe(new)
        return await asyncio.to_thread(self._handle._compare_and_set, key, *pair)

    @overload
    async def setdefault(self: Object[K, T | None], key: K, default: None = None) -> T | None: ...
    @overload
    async def setdefault(self, key: K, default: V) -> V: ...
    async def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of `key`, which is put there if the key is missing.

        Cancelled: the write may still happen, as a whole.
        """
        return await asyncio.to_thread(self._handle.setdefault, key, default)

    @overload
    async def pop(self, key: K, default: Absent = ABSENT) -> V: ...
    @overload
    async def pop(self, key: K, default: V) -> V: ...
    @overload
    async def pop(self, key: K, default: T) -> V | T: ...
    async def pop(self, key: K, default: Any = ABSENT) -> Any:
        """Removes `key` and returns its value, which no other process then gets.

        Cancelled: the entry may still be removed; its value is then found by `history` alone.
        """
        return await asyncio.to_thread(self._handle._pop, key, () if default is ABSENT else (default,))

    async def popitem(self) -> tuple[K, V]:
        """Removes the last entry in key order and returns it; `KeyError` when there is none.

        Cancelled: the entry may still be removed; its value is then found by `history` alone.
        """
        return await asyncio.to_thread(self._handle.popitem)

    async def update(
        self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **named: V
    ) -> None:
        """Puts many pairs: one transaction up to 16 MiB, above that several in order.

        Cancelled: it may still happen, and then to its end.
        """
        all_pairs = [*pairs(other), *named.items()]
        await asyncio.to_thread(self._handle._update, all_pairs)

    def batch(self) -> Batch[K, V]:
        """``async with d.batch() as b: b[k] = v``: one transaction, all of it or nothing."""
        return Batch(self._handle)

    def pipeline(self) -> Pipeline[K, V]:
        """``async with d.pipeline() as p: await p.set(k, v)``: many writes in flight."""
        return Pipeline(self._handle)

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

        Open it with ``await`` or ``async with``, then iterate with ``async for``. A callback is
        called on the event loop, and awaited if it is a coroutine function.
        """
        return Watch(self._handle, callback, maybe(key), prefix, since)

    async def at(self, revision: int) -> Past[K, V]:
        """The dictionary as it was at a revision, to read (see `objsync.Object.at`).

        Cancelled: nothing happens.
        """
        return Past(await _loop.call(native.at, self._handle, revision))

    def history(
        self, key: K, *, limit: int | None = 1000, before: int | None = None
    ) -> _loop.Call[list[Version[K, V]]]:
        """What `key` was, newest first (see `objsync.Object.history`).

        Cancelled: nothing happens.
        """
        return _loop.call(native.history, self._handle, key, before, limit)

    def sync(self) -> _loop.Call[int]:
        """Waits until this process has all that was committed before; how far that is.

        Cancelled: nothing happens.
        """
        return _loop.call(native.sync, self._handle)

    def flush(self) -> _loop.Call[int]:
        """Makes what this handle wrote survive a power cut; up to which revision.

        Cancelled: the disk may be synced all the same.
        """
        return _loop.call(native.flush, self._handle)

    @property
    def status(self) -> Status:
        """How the handle is; asks nobody."""
        return self._handle.status

    @property
    def last_ack(self) -> Ack | None:
        """The acknowledgement of this handle's newest answered write."""
        return self._handle.last_ack

    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Makes the store reachable at another address too; returns that address.

        Cancelled: it may be served all the same, until the object is closed.
        """
        host = f"[{host}]" if ":" in host else host
        return await asyncio.to_thread(self._handle._serve, f"{host}:{port}")

    async def close(self) -> None:
        """Closes the handle: started writes are finished, watches end.

        Cancelled: it may be closed all the same; call it again to be sure.
        """
        await asyncio.to_thread(self._handle.close)

    async def _close(self) -> None:
        await self.close()


class DiskObject(Object[K, V]):
    """A dictionary in a directory; arguments and errors as for `objsync.DiskObject`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a": 1}) as d:
    ...         return await d["a"]
    >>> asyncio.run(main())
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


class CompressedDiskObject(Object[K, V]):
    """A `DiskObject` whose values are zstd; as `objsync.CompressedDiskObject`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.CompressedDiskObject("text.zst", {"page": "words " * 1000}) as d:
    ...         return len(await d["page"])
    >>> asyncio.run(main())
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


class NetworkObject(Object[K, V]):
    """The dictionary served at an address; as `objsync.NetworkObject`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a": 1}) as d:
    ...         async with aio.NetworkObject(await d.serve()) as n:
    ...             return await n["a"], await n.len()
    >>> asyncio.run(main())
    (1, 1)
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


def _unopened(kind: type[Object], place: str, settings: Settings) -> Object:
    """A handle to open as the pickled one was opened."""
    handle = kind.__new__(kind)
    Object.__init__(handle, "target" if issubclass(kind, NetworkObject) else "path", place, settings)
    return handle
