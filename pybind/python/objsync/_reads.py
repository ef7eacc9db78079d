"""How old a read may be, snapshots, what came of a lost write, and what was queued."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from objsync._native import Handle, native
from objsync._past import Past
from objsync._records import Conflict, Op, Outcome
from objsync._types import K, V

if TYPE_CHECKING:
    from objsync._objects import Object

__all__ = ["Conflicts", "Fresh", "Reads", "Snapshot"]

AnyReads = TypeVar("AnyReads", bound="Reads")


class Reads(Handle[K, V]):
    """What `Object` can do beside plain reads and writes."""

    def fresh(self) -> Fresh[Self]:
        """``with d.fresh():`` reads in the block see all that was committed before it.

        Entering costs one round trip; the reads then come from memory as always.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a": 1}) as d, d.fresh():
        ...     d["a"]
        1
        """
        return Fresh(self)

    def snapshot(self: Object[K, V]) -> Snapshot[K, V]:  # type: ignore[misc]
        """``with d.snapshot() as s:`` all of it as it is at this very moment, to read: a mapping.

        It sees everything that was committed before. One round trip, and memory for what changes
        meanwhile: it expires (`SnapshotExpiredError`) after a minute where this process owns the
        store, and elsewhere once 64 MiB have changed. A process that does not hold the whole
        dictionary reads it at the owner, as of `at`.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"a": 1, "b": 2}) as d, d.snapshot() as s:
        ...     d["a"] = 5
        ...     dict(s), s["a"], d["a"]
        ({'a': 1, 'b': 2}, 1, 5)
        """
        return Snapshot(self, native.snapshot(self))

    def outcome(self, op: Op) -> Outcome | None:
        """What came of a write that raised `OutcomeUnknownError`, whose ``.op`` this is.

        ``None``: it was not done, and never will be. The answer is final, whoever owns the store by
        then. It can be asked about the last 1,024 such writes of a session, for a day.

        Raises:
            OutcomeUnknownError: Nobody knows any more.
            InvalidError: The owner had refused the write; so for any error that it would have raised.

        >>> from objsync import DiskObject, Op, errors
        >>> with DiskObject("data.obj") as d:
        ...     try:
        ...         d.outcome(Op(1, 999, 1))
        ...     except errors.OutcomeUnknownError as error:
        ...         print(error.op)
        1.999.1
        """
        return native.outcome(self, op)

    @property
    def conflicts(self) -> Conflicts:
        """Queued writes that the owner decided otherwise (``NetworkObject(offline="queue")``).

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     list(d.conflicts), bool(d.conflicts)
        ([], False)
        """
        return Conflicts(self)


class Fresh(Generic[AnyReads]):
    """Entered, it is a barrier: see `Object.fresh`."""

    def __init__(self, handle: AnyReads) -> None:
        self._handle = handle

    def __enter__(self) -> AnyReads:
        self._handle.sync()
        return self._handle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Snapshot(Past[K, V]):
    """A dictionary as it was when `Object.snapshot` was called: a mapping to read.

    Closed at the end of the ``with`` block, or by `close`; then a read raises `ClosedError`. Pickled,
    it is read as of `Object.at`.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"a": 1}) as d:
    ...     s = d.snapshot()
    ...     d["a"] = 2
    ...     s["a"], s.close()
    (1, None)
    """

    def close(self) -> None:
        """Lets go of the moment. Harmless when repeated."""
        self._handle.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Conflicts:
    """Queued writes that the owner decided otherwise than their callers were told, the oldest first.

    Kept on disk until `clear`.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     d.conflicts.clear()
    ...     len(d.conflicts)
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

    def __repr__(self) -> str:
        return f"<Conflicts {native.conflicts(self._handle)}>"

    def clear(self) -> None:
        """Forgets those so far; makes room in the queue."""
        native.clear_conflicts(self._handle)
