"""What ends by itself: leases, presence and locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from objsync._native import Handle, Lease, Lock, Presence, native_leases
from objsync._types import K, V

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Leases"]


class Leases(Handle[K, V]):
    """What `Object` can do with leases."""

    def lease(self, ttl: float | timedelta = 10) -> Lease:
        """Begins a lease: what is put under it is there for as long as this process keeps it.

        Args:
            ttl: Seconds, or a timedelta, that it outlives this process or its connection.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d, d.lease(ttl=10) as lease:
        ...     d.set("worker", "busy", lease=lease).durability, lease.is_alive
        ('sync', True)
        """
        return native_leases.lease(self, ttl)

    def presence(self, key: K, value: V) -> Presence:
        """Puts `value` under `key` for as long as the block lasts and this process is connected.

        When the process ends, is cut off or hangs, the key goes by itself: at once where the owner of
        the store sees the connection end, else within 3 seconds. After a reconnect it is put again.
        Another write of the key takes it out of that; the last one wins.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     with d.presence("user:ada", {"since": "now"}):
        ...         print(list(d.prefix("user:")))
        ...     print(list(d.prefix("user:")))
        ['user:ada']
        []
        """
        return native_leases.presence(self, key, value)

    def lock(
        self,
        name: Any,
        ttl: float | timedelta = 10,
        timeout: float | timedelta | None = None,
    ) -> Lock:
        """A lock by name, which one process, thread or task holds at a time: for ``with``.

        It is held over a change of owner, and kept for as long as the block lasts. A holder that is
        gone or hangs for `ttl` loses it; then leaving the block raises `FencedError`, and so does a
        transaction that demands it (`Transaction.require`).

        Args:
            name: What a key can be; it is no key of the dictionary.
            ttl: Seconds, or a timedelta, that it outlives a holder which does not keep it.
            timeout: Seconds to wait while somebody else holds it; ``None`` for ever.

        Raises:
            LockTimeoutError: On entering the block: somebody else held it for `timeout`.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     with d.lock("report") as first:
        ...         pass
        ...     with d.lock("report", timeout=1) as second:
        ...         second.locked
        True
        """
        return native_leases.lock(self, name, ttl, timeout)
