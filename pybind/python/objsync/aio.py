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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from objsync import _aio_transaction, _loop, _objects, _registry, _settings
from objsync._aio_leases import Lease, Lock, Presence
from objsync._aio_parts import (
    Batch,
    Entries,
    Opened,
    Past,
    Pipeline,
    RangeReader,
    RangeView,
    Watch,
)
from objsync._aio_transaction import Transaction
from objsync._aio_reads import Conflicts, Reads, Snapshot
from objsync._native import Handle, native, native_leases
from objsync._objects import MISSING, Settings
from objsync._records import Ack, Event, Status, Version

if TYPE_CHECKING:
    from datetime import timedelta

    import objsync

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


class Object(Opened, RangeView, Reads):
    """A shared dictionary for an event loop; the base of all objects of this module.

    Open it with ``await`` or ``async with``. What keys and values can be, what a write means and
    what is raised is as for `objsync.Object`. Cancelling a call does not take back a write that was
    handed over.
    """

    def __init__(self, kind: Literal["path", "target"], place: str, settings: Settings) -> None:
        RangeView.__init__(self, Handle())
        self._opening = (native.open if kind == "path" else native.connect, place, settings)

    async def _open(self) -> None:
        start, place, settings = self._opening
        await _loop.call(start, self._handle, place, settings)
        _registry.add(self._handle)

    # Reads

    def __getitem__(self, key: Any) -> asyncio.Future[Any]:
        return _loop.call(native.get, self._handle, key, None, True)

    def get(
        self, key: Any, default: Any = None, *, max_stale: float | timedelta | None = None
    ) -> asyncio.Future[Any]:
        """The value of `key`; `default` when there is no such key.

        With `max_stale`, no older than so many seconds (see `objsync.Object.get`).
        """
        if max_stale is not None:
            return _loop.call(native.read_within, self._handle, key, default, max_stale)
        return _loop.call(native.get, self._handle, key, default, False)

    def contains(self, key: Any) -> asyncio.Future[bool]:
        """Whether there is such a key."""
        return _loop.call(native.contains, self._handle, key)

    def len(self) -> asyncio.Future[int]:
        """How many keys there are."""
        return _loop.call(native.count, self._handle)

    def range(self, start: Any = None, stop: Any = None) -> RangeView:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeView(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeView:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeView(self._handle, prefix=prefix)

    async def copy(self) -> dict[Any, Any]:
        """All of it, as it is at one moment, in a plain dict."""
        return {key: value async for key, value in self.items()}

    # Writes

    def set(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | None = None,
        lease: Lease | None = None,
    ) -> asyncio.Future[Ack]:
        """Puts `value` under `key`; with `ttl` or `lease`, it is removed by itself.

        See `objsync.Object.set`.
        """
        if ttl is None and lease is None:
            return _loop.call(native.set, self._handle, key, value)
        under = None if lease is None else lease.native
        return _loop.call(native_leases.set_leased, self._handle, key, value, ttl, under)

    def list_append(self, key: Any, *items: Any) -> asyncio.Future[int]:
        """Adds to the end of a list; its new length."""
        return _loop.call(native_leases.patch_value, self._handle, "list_append", key, items)

    def set_add(self, key: Any, *items: Any) -> asyncio.Future[int]:
        """Adds to a set; how many were not there."""
        return _loop.call(native_leases.patch_value, self._handle, "set_add", key, items)

    def set_discard(self, key: Any, *items: Any) -> asyncio.Future[int]:
        """Removes from a set; how many were there."""
        return _loop.call(native_leases.patch_value, self._handle, "set_discard", key, items)

    def delete(self, key: Any) -> asyncio.Future[Ack]:
        """Deletes `key`; `KeyError` when it is not there."""
        return _loop.call(native.delete, self._handle, key)

    def incr(self, key: Any, by: int = 1) -> asyncio.Future[int]:
        """Adds to an integer, a missing one counting as 0; the new value."""
        return _loop.call(native.incr, self._handle, key, by)

    async def compare_and_set(self, key: Any, expected: Any, new: Any) -> bool:
        """Puts `new` if the value of `key` equals `expected`; whether it did.

        `MISSING` stands for "no such key", as for `objsync.Object.compare_and_set`.
        """
        pair = _objects.maybe(expected), _objects.maybe(new)
        return await asyncio.to_thread(self._handle._compare_and_set, key, *pair)

    async def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, which is put there if the key is missing."""
        return await asyncio.to_thread(self._handle.setdefault, key, default)

    async def pop(self, key: Any, /, *default: Any) -> Any:
        """Removes `key` and returns its value, which no other process then gets."""
        return await asyncio.to_thread(self._handle._pop, key, default)

    async def popitem(self) -> tuple[Any, Any]:
        """Removes the last entry in key order and returns it; `KeyError` when there is none."""
        return await asyncio.to_thread(self._handle.popitem)

    async def update(
        self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **named: Any
    ) -> None:
        """Puts many pairs: one transaction up to 16 MiB, above that several in order."""
        pairs = [*_objects.pairs(other), *named.items()]
        await asyncio.to_thread(self._handle._update, pairs)

    def batch(self) -> Batch:
        """``async with d.batch() as b: b[k] = v``: one transaction, all of it or nothing."""
        return Batch(self._handle)

    def pipeline(self) -> Pipeline:
        """``async with d.pipeline() as p: await p.set(k, v)``: many writes in flight."""
        return Pipeline(self._handle)

    async def transact(
        self,
        fn: Callable[[Transaction], Awaitable[T]] | Callable[[objsync.Transaction], T],
    ) -> T:
        """Runs `fn` on one moment of the dictionary, and makes what it changes, all or nothing.

        As `objsync.Object.transact`. An async function is run here, with a `Transaction` of this
        module; any other function in a thread, with an `objsync.Transaction`.

        Cancelled while an async function runs, nothing is changed; cancelled later, its changes may
        still happen. A function in a thread is not stopped, and its changes happen.

        >>> import asyncio
        >>> from objsync import aio
        >>> async def move(t):
        ...     t["ann"] = await t["ann"] - 30
        ...     t["bob"] = await t.get("bob", 0) + 30
        ...     return await t["bob"]
        >>> async def main():
        ...     async with aio.DiskObject("data.obj", {"ann": 100}) as d:
        ...         return await d.transact(move), await d.transact(lambda t: t["ann"])
        >>> asyncio.run(main())
        (30, 70)
        """
        result: T = await _aio_transaction.transact(self._handle, fn)
        return result

    # What ends by itself

    def lease(self, ttl: float | timedelta = 10) -> Lease:
        """A lease, to open with ``await`` or ``async with`` (see `objsync.Object.lease`)."""
        return Lease(self._handle, ttl)

    def presence(self, key: Any, value: Any) -> Presence:
        """``async with d.presence(k, v)``: the key is there for as long as this is connected.

        See `objsync.Object.presence`.
        """
        return Presence(self._handle, key, value)

    def lock(
        self,
        name: Any,
        ttl: float | timedelta = 10,
        timeout: float | timedelta | None = None,
    ) -> Lock:
        """A lock by name, for ``async with`` (see `objsync.Object.lock`)."""
        return Lock(native_leases.lock(self._handle, name, ttl, timeout))

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

        Open it with ``await`` or ``async with``, then iterate with ``async for``. A callback is
        called on the event loop, and awaited if it is a coroutine function.
        """
        return Watch(self._handle, callback, _objects.maybe(key), prefix, since)

    async def at(self, revision: int) -> Past:
        """The dictionary as it was at a revision, to read (see `objsync.Object.at`)."""
        return Past(await _loop.call(native.at, self._handle, revision))

    def history(
        self, key: Any, *, limit: int | None = 1000, before: int | None = None
    ) -> asyncio.Future[list[Version]]:
        """What `key` was, newest first (see `objsync.Object.history`)."""
        return _loop.call(native.history, self._handle, key, before, limit)

    def sync(self) -> asyncio.Future[int]:
        """Waits until this process has all that was committed before; how far that is."""
        return _loop.call(native.sync, self._handle)

    def flush(self) -> asyncio.Future[int]:
        """Makes what this handle wrote survive a power cut; up to which revision."""
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
        """Makes the store reachable at another address too; returns that address."""
        host = f"[{host}]" if ":" in host else host
        return await asyncio.to_thread(self._handle._serve, f"{host}:{port}")

    async def close(self) -> None:
        """Closes the handle: started writes are finished, watches end."""
        await asyncio.to_thread(self._handle.close)

    async def _close(self) -> None:
        await self.close()


class DiskObject(Object):
    """A dictionary in a directory; arguments and errors as for `objsync.DiskObject`."""

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
    """A `DiskObject` whose values are zstd; as `objsync.CompressedDiskObject`."""

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
    """The dictionary served at an address; as `objsync.NetworkObject`."""

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
