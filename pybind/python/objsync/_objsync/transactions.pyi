"""Several reads and writes as one."""

import asyncio
from typing import Any, Self, final

from objsync._objsync import Calls, Handle, ScanIterator
from objsync._objsync.leases import Lock

__all__ = [
    "Attempts",
    "TransactionHandle",
    "transact_begin",
    "transact_commit",
    "transact_contains",
    "transact_count",
    "transact_get",
    "transact_pages",
]

@final
class TransactionHandle:
    """A dictionary at one moment, with changes on top; `objsync.Transaction` is its public face."""

    @property
    def revision(self) -> int:
        """As of when it reads."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def get(self, key: Any, default: Any = None, /) -> Any:
        """The value of `key`; `default` when there is no such key."""

    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __delitem__(self, key: Any, /) -> None: ...
    def discard(self, key: Any) -> None:
        """Removes a key, whether it is there or not."""

    def require(self, lock: Lock) -> None:
        """Demands that a lock is held when the transaction happens."""

    def _scan(
        self,
        what: str,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
    ) -> ScanIterator: ...

@final
class Attempts:
    """The attempts at one transaction."""

    def __new__(cls, handle: Handle) -> Self: ...
    def begin(self) -> TransactionHandle:
        """A transaction at a moment that holds what made the attempt before fail."""

    def commit(self, transaction: TransactionHandle) -> bool:
        """Makes its changes; false when what it read has changed, so that it has to be run again."""

    def give_up(self, transaction: TransactionHandle) -> bool:
        """Ends a transaction that has failed; true when it has to be run again, because its moment is
        no longer held.
        """

_Future = asyncio.Future[Any]

def transact_begin(calls: Calls, future: _Future, attempts: Attempts) -> None:
    """`Attempts.begin`; completes with `TransactionHandle`."""

def transact_commit(
    calls: Calls, future: _Future, attempts: Attempts, transaction: TransactionHandle
) -> None:
    """`Attempts.commit`; completes with whether it was made."""

def transact_get(
    calls: Calls,
    future: _Future,
    transaction: TransactionHandle,
    key: Any,
    default: Any,
    is_required: bool,
) -> None:
    """The value of a key; `default` when there is none, or `KeyError` when `is_required`."""

def transact_contains(
    calls: Calls, future: _Future, transaction: TransactionHandle, key: Any
) -> None:
    """Whether there is such a key."""

def transact_count(calls: Calls, future: _Future, transaction: TransactionHandle) -> None:
    """How many keys there are."""

def transact_pages(
    calls: Calls,
    future: _Future,
    transaction: TransactionHandle,
    what: str,
    bounds: tuple[Any, Any, Any],
    reverse: bool,
) -> None:
    """Starts to read keys, values or items; completes with `Pages`."""
