"""How old a read may be, snapshots, lost writes and conflicts, to await."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from objsync import _loop
from objsync._aio_parts import Opened, Past
from objsync._native import Handle, PastHandle, native
from objsync._records import Conflict, Op, Outcome
from objsync._types import K, V

__all__ = ["Conflicts", "Fresh", "Reads", "Snapshot"]

AnyReads = TypeVar("AnyReads", bound="Reads")


class Reads(Generic[K, V]):
    """What `Object` can do beside plain reads and writes.

    Cancelling any of these changes nothing, but that `outcome` may have settled its session.
    """

    _handle: Handle[K, V]

    def fresh(self: AnyReads) -> Fresh[AnyReads]:
        """``async with d.fresh():`` reads in the block see all that was committed before it."""
        return Fresh(self)

    def snapshot(self) -> Snapshot[K, V]:
        """All of it as it is at this very moment, to read (see `objsync.Object.snapshot`).

        Open it with ``async with``, or with ``await``, and close it then.
        """
        return Snapshot(self._handle)

    def outcome(self, op: Op) -> _loop.Call[Outcome | None]:
        """What came of a write that raised `OutcomeUnknownError` (see `objsync.Object.outcome`).

        Cancelled: the answer may be settled all the same; ask again.
        """
        return _loop.call(native.outcome_of, self._handle, op)

    @property
    def conflicts(self) -> Conflicts:
        """Queued writes that the owner decided otherwise (see `objsync.Object.conflicts`)."""
        return Conflicts(self._handle)


class Fresh(Generic[AnyReads]):
    """Entered, it is a barrier: see `Reads.fresh`."""

    def __init__(self, reads: AnyReads) -> None:
        self._reads = reads

    async def __aenter__(self) -> AnyReads:
        await _loop.call(native.sync, self._reads._handle)
        return self._reads

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Snapshot(Opened, Past[K, V]):
    """A dictionary as it was when it was opened, to read; as `objsync.Snapshot`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a": 1}) as d:
    ...         async with d.snapshot() as s:
    ...             await d.set("a", 2)
    ...             return await s["a"], await s.copy(), await d["a"]
    >>> asyncio.run(main())
    (1, {'a': 1}, 2)
    """

    def __init__(self, dictionary: Handle[K, V]) -> None:
        self._dictionary = dictionary

    async def _open(self) -> None:
        handle: PastHandle = await _loop.call(native.snapshot_begin, self._dictionary)
        Past.__init__(self, handle)

    async def _close(self) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the moment. Harmless when repeated."""
        self._handle.release()


class Conflicts:
    """Queued writes that the owner decided otherwise, the oldest first; as `objsync.Conflicts`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d:
    ...         await d.conflicts.clear()
    ...         return len(d.conflicts)
    >>> asyncio.run(main())
    0
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __iter__(self) -> Iterator[Conflict]:
        return iter(native.conflicts(self._handle))

    def __len__(self) -> int:
        return len(native.conflicts(self._handle))

    def __bool__(self) -> bool:
        return self._handle.status.conflicts > 0

    def clear(self) -> _loop.Call[None]:
        """Forgets those so far; makes room in the queue.

        Cancelled: they may be forgotten all the same.
        """
        future: _loop.Call[Any] = _loop.call(native.conflicts_clear, self._handle)
        return future
