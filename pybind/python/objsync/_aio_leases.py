"""Leases, locks and presence, for an event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from objsync import _loop, _native
from objsync._aio_parts import Opened
from objsync._native import Handle, native_leases
from objsync._types import K, V
from objsync.errors import InvalidError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Lease", "Leases", "Lock", "Presence"]


class Lease(Opened):
    """What lies under it is there for as long as this process keeps it; made by `Object.lease`.

    As `objsync.Lease`; open it with ``await`` or ``async with``.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d:
    ...         async with d.lease(ttl=10) as lease:
    ...             await d.set("worker", "busy", lease=lease)
    ...             before = await d.contains("worker")
    ...         return before, await d.contains("worker")
    >>> asyncio.run(main())
    (True, False)
    """

    def __init__(self, handle: Handle, ttl: float | timedelta) -> None:
        self._asked = (handle, ttl)
        self._lease: _native.Lease | None = None

    async def _open(self) -> None:
        self._lease = await _loop.call(native_leases.lease_begin, *self._asked)

    async def _close(self) -> None:
        await self.close()

    @property
    def native(self) -> _native.Lease:
        """The lease that was begun."""
        if self._lease is None:
            raise InvalidError("the lease was not opened: use await or async with")
        return self._lease

    @property
    def id(self) -> int:
        """Its number in the store."""
        return self.native.id

    @property
    def ttl(self) -> float:
        """Seconds that it lasts after it was last kept."""
        return self.native.ttl

    @property
    def is_alive(self) -> bool:
        """Whether it is there as far as this process knows; asks nobody."""
        return self._lease is not None and self._lease.is_alive

    async def close(self) -> None:
        """Ends it, and removes what lies under it. Harmless when repeated.

        Cancelled: it may still end; call it again to be sure.
        """
        await _loop.call(native_leases.lease_close, self.native)


class Presence(Opened):
    """A key that is there for as long as this process is connected; made by `Object.presence`.

    As `objsync.Presence`; open it with ``await`` or ``async with``.
    """

    def __init__(self, handle: Handle, key: Any, value: Any) -> None:
        self._asked = (handle, key, value)
        self._presence: _native.Presence | None = None

    async def _open(self) -> None:
        self._presence = await _loop.call(native_leases.presence_begin, *self._asked)

    async def _close(self) -> None:
        await self.close()

    async def close(self) -> None:
        """Removes the key. Harmless when repeated.

        Cancelled: it may still end; call it again to be sure.
        """
        if self._presence is not None:
            await _loop.call(native_leases.presence_close, self._presence)


class Lock:
    """A lock that one holds at a time, in whatever process; made by `Object.lock`.

    As `objsync.Lock`; for ``async with``. One object holds it once: for several tasks make one each.
    A task that is cancelled while it waits leaves nothing behind.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d:
    ...         async with d.lock("report") as lock:
    ...             return lock.locked, await d.lock("report").acquire(blocking=False)
    >>> asyncio.run(main())
    (True, False)
    """

    def __init__(self, lock: _native.Lock) -> None:
        self.native = lock

    @property
    def name(self) -> Any:
        """The name that it was made with."""
        return self.native.name

    @property
    def ttl(self) -> float:
        """Seconds that it outlives a holder that does not keep it."""
        return self.native.ttl

    @property
    def fence(self) -> int | None:
        """A number that grows with each holder; ``None`` while this object does not hold it."""
        return self.native.fence

    @property
    def locked(self) -> bool:
        """Whether this object holds it as far as this process knows; asks nobody."""
        return self.native.locked

    async def acquire(
        self, blocking: bool = True, timeout: float | timedelta | None = None
    ) -> bool:
        """Takes the lock; whether it did. `timeout` is seconds to wait, or a timedelta.

        Cancelled: the lock is not held; if it was taken just then, it is given back.
        """
        taken: bool = await self._taken(
            _loop.call(native_leases.lock_acquire, self.native, blocking, timeout)
        )
        return taken

    async def _taken(self, answer: _loop.Call[Any]) -> Any:
        try:
            return await answer
        except BaseException:
            # The lock can have been taken while this task was being cancelled: nobody would know.
            if answer.done() and not answer.cancelled() and not answer.exception():
                if answer.result():
                    left = _loop.call(native_leases.lock_release, self.native)
                    left.add_done_callback(lambda left: left.cancelled() or left.exception())
            raise

    async def release(self) -> None:
        """Gives it back. `FencedError` when it was lost meanwhile.

        Cancelled: it may still be given back; `locked` tells, and else it ends with its `ttl`.
        """
        await _loop.call(native_leases.lock_release, self.native)

    async def __aenter__(self) -> Self:
        await self._taken(_loop.call(native_leases.lock_enter, self.native))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except Exception as failure:
            # What the block raised is what the caller should see.
            if error is None:
                raise
            error.add_note(str(failure))


class Leases(Generic[K, V]):
    """What `Object` can do with what ends by itself."""

    _handle: Handle

    def lease(self, ttl: float | timedelta = 10) -> Lease:
        """A lease, to open with ``await`` or ``async with`` (see `objsync.Object.lease`)."""
        return Lease(self._handle, ttl)

    def presence(self, key: K, value: V) -> Presence:
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
