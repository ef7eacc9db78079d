"""Several reads and writes that happen as one, for an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from objsync import _loop
from objsync._aio_leases import Lock
from objsync._aio_parts import RangeReader
from objsync._native import Attempts, Handle, TransactionHandle, native_transactions
from objsync._transaction import end, refuse_nested, running
from objsync._transaction import transact as transact_blocking
from objsync._types import K, V

__all__ = ["Transaction", "transact"]

T = TypeVar("T")


class Transaction(RangeReader[K, V]):
    """A dictionary at one moment, with changes on top; what the function of `Object.transact` gets.

    Reads are awaited, and noted and checked as those of `objsync.Transaction` are; changes are made
    at once, for this transaction to see: ``t[k] = v`` and ``del t[k]``.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async def rename(t):
    ...         if await t.contains("old"):
    ...             t["new"] = await t.pop("old")
    ...         return await t.len(), await t.copy()
    ...     async with aio.DiskObject("data.obj", {"old": 1}) as d:
    ...         return await d.transact(rename)
    >>> asyncio.run(main())
    (1, {'new': 1})
    """

    _handle: TransactionHandle

    def __init__(self, handle: TransactionHandle) -> None:
        super().__init__(handle)

    @property
    def revision(self) -> int:
        """As of when it reads."""
        return self._handle.revision

    def __getitem__(self, key: K) -> asyncio.Future[V]:
        return _loop.call(native_transactions.transact_get, self._handle, key, None, True)

    @overload
    def get(self, key: K, default: None = None) -> asyncio.Future[V | None]: ...
    @overload
    def get(self, key: K, default: V) -> asyncio.Future[V]: ...
    @overload
    def get(self, key: K, default: T) -> asyncio.Future[V | T]: ...
    def get(self, key: K, default: Any = None) -> asyncio.Future[Any]:
        """The value of `key`; `default` when there is no such key."""
        return _loop.call(native_transactions.transact_get, self._handle, key, default, False)

    def contains(self, key: object) -> asyncio.Future[bool]:
        """Whether there is such a key."""
        return _loop.call(native_transactions.transact_contains, self._handle, key)

    def len(self) -> asyncio.Future[int]:
        """How many keys there are: reads all of them."""
        return _loop.call(native_transactions.transact_count, self._handle)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeReader[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader[K, V]:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeReader(self._handle, prefix=prefix)

    def __setitem__(self, key: K, value: V) -> None:
        self._handle[key] = value

    def __delitem__(self, key: K) -> None:
        # Whether it is there would have to be awaited.
        self._handle.discard(key)

    @overload
    async def pop(self, key: K, /) -> V: ...
    @overload
    async def pop(self, key: K, default: V, /) -> V: ...
    @overload
    async def pop(self, key: K, default: T, /) -> V | T: ...
    async def pop(self, key: K, /, *default: Any) -> Any:
        """Removes `key` and returns its value; without a default, `KeyError` when it is missing."""
        value = await _loop.call(native_transactions.transact_get, self._handle, key, *(default or (None,)), not default)
        self._handle.discard(key)
        return value

    async def copy(self) -> dict[K, V]:
        """All of it in a plain dict."""
        return {key: value async for key, value in self.items()}

    def require(self, lock: Lock) -> None:
        """Demands that `lock` is held when this happens (see `objsync.Transaction.require`)."""
        self._handle.require(lock.native)


async def transact(handle: Handle, run: Callable[[Any], Any]) -> Any:
    """Runs a function until nothing that it read has changed meanwhile."""
    if not is_async(run):
        return await asyncio.to_thread(transact_blocking, handle, run)
    refuse_nested()
    attempts = Attempts(handle)
    while True:
        transaction = await _loop.call(native_transactions.transact_begin, attempts)
        try:
            with running():
                result = await run(Transaction(transaction))
        except Exception:
            if attempts.give_up(transaction):
                continue
            raise
        except BaseException:
            end(attempts, transaction)
            raise
        if await _loop.call(native_transactions.transact_commit, attempts, transaction):
            return result


def is_async(run: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    call = getattr(run, "__call__", None)  # noqa: B004 - of an object that is called, its method tells
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(call)
