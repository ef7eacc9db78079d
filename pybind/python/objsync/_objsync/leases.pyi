"""Leases, locks and presence, and changes of a part of a value."""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, final

from objsync._objsync import Calls, Handle

__all__ = [
    "Lease",
    "Lock",
    "Presence",
    "lease",
    "lease_begin",
    "lease_close",
    "lock",
    "lock_acquire",
    "lock_enter",
    "lock_release",
    "patch_value",
    "presence",
    "presence_begin",
    "presence_close",
    "set_leased",
]

@final
class Lease:
    """What lies under it is there for as long as this process keeps it; made by `Object.lease`.

    Kept by a thread that all leases share, and at once again after a reconnect. It ends when it is
    closed, and `ttl` seconds after this process or its connection ended; then the owner of the store
    removes what lies under it.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     with d.lease(ttl=10) as lease:
    ...         d.set("worker", "busy", lease=lease).durability
    ...     "worker" in d
    'sync'
    False
    """

    @property
    def id(self) -> int:
        """Its number in the store."""

    @property
    def ttl(self) -> float:
        """Seconds that it lasts after it was last kept."""

    @property
    def is_alive(self) -> bool:
        """Whether it is there as far as this process knows; asks nobody."""

    def close(self) -> None:
        """Ends it, and removes what lies under it. Harmless when repeated, or when it has ended."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Lock:
    """A lock that one holds at a time, in whatever process; made by `Object.lock`.

    One object holds it once: for several threads make one each. A holder that dies, hangs or is cut
    off for `ttl` seconds loses it. It may not know: what only the holder may do is to be done in a
    transaction that demands the lock (`Transaction.require`).

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     with d.lock("report") as lock:
    ...         def publish(t):
    ...             t.require(lock)
    ...             t["report"] = "by the holder alone"
    ...         d.transact(publish)
    ...         lock.locked, d.lock("report").acquire(blocking=False)
    ...     lock.locked
    (True, False)
    False
    """

    @property
    def name(self) -> Any:
        """The name that it was made with."""

    @property
    def ttl(self) -> float:
        """Seconds that it outlives a holder that does not keep it."""

    @property
    def fence(self) -> int | None:
        """A number that grows with each holder; ``None`` while this object does not hold it."""

    @property
    def locked(self) -> bool:
        """Whether this object holds it as far as this process knows; asks nobody."""

    def acquire(
        self, blocking: bool = True, timeout: float | timedelta | None = None
    ) -> bool:
        """Takes the lock; returns whether it did.

        Args:
            blocking: Wait while somebody else holds it.
            timeout: Seconds to wait, or a timedelta; without it, what `Object.lock` was told.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     mine, yours = d.lock("report"), d.lock("report")
        ...     mine.acquire(), yours.acquire(timeout=0.01)
        ...     mine.release()
        (True, False)
        """

    def release(self) -> None:
        """Gives it back. `FencedError` when it was lost meanwhile, so that another may have held it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Presence:
    """A key that is there for as long as this process is connected; made by `Object.presence`.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     with d.presence("user:ada", "online"):
    ...         d["user:ada"]
    ...     "user:ada" in d
    'online'
    False
    """

    def close(self) -> None:
        """Removes the key. Harmless when repeated."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

_Future = asyncio.Future[Any]

def lease(handle: Handle, ttl: float | timedelta) -> Lease:
    """Begins a lease."""

def lock(
    handle: Handle, name: Any, ttl: float | timedelta, timeout: float | timedelta | None = None
) -> Lock:
    """A lock that is not taken yet."""

def presence(handle: Handle, key: Any, value: Any) -> Presence:
    """Puts a value under a key that is there for as long as this process is connected."""

def set_leased(
    calls: Calls,
    future: _Future,
    handle: Handle,
    key: Any,
    value: Any,
    ttl: float | timedelta | None = None,
    lease: Lease | None = None,
) -> None:
    """Puts a value that may end by itself; completes with its `Ack`."""

def lease_begin(calls: Calls, future: _Future, handle: Handle, ttl: float | timedelta) -> None:
    """Begins a lease; completes with `Lease`."""

def lease_close(calls: Calls, future: _Future, lease: Lease) -> None:
    """Ends a lease."""

def lock_acquire(
    calls: Calls,
    future: _Future,
    lock: Lock,
    blocking: bool = True,
    timeout: float | timedelta | None = None,
) -> None:
    """`Lock.acquire`; completes with whether it was taken."""

def lock_enter(calls: Calls, future: _Future, lock: Lock) -> None:
    """Takes a lock, or fails with `LockTimeoutError`; completes with its fence."""

def lock_release(calls: Calls, future: _Future, lock: Lock) -> None:
    """`Lock.release`."""

def presence_begin(calls: Calls, future: _Future, handle: Handle, key: Any, value: Any) -> None:
    """`presence`; completes with `Presence`."""

def presence_close(calls: Calls, future: _Future, presence: Presence) -> None:
    """`Presence.close`."""

def patch_value(
    calls: Calls, future: _Future, handle: Handle, what: str, key: Any, items: tuple[Any, ...]
) -> None:
    """Changes a part of a value; completes with its number."""
