"""Several reads and writes that happen as one, for an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from objsync import _loop
from objsync._aio_leases import Lock
from objsync._aio_parts import RangeReader
from objsync._dict import pairs
from objsync._native import Attempts, Handle, TransactionHandle, native_transactions
from objsync._transaction import end, refuse_nested, running
from objsync._transaction import transact as transact_blocking
from objsync._types import ABSENT, Absent, K, V

if TYPE_CHECKING:
    import objsync

__all__ = ["Transaction", "Transactions", "transact"]

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

    def __getitem__(self, key: K) -> _loop.Call[V]:
        return _loop.call(native_transactions.transact_get, self._handle, key, None, True)

    @overload
    def get(self, key: K, default: None = None) -> _loop.Call[V | None]: ...
    @overload
    def get(self, key: K, default: V) -> _loop.Call[V]: ...
    @overload
    def get(self, key: K, default: T) -> _loop.Call[V | T]: ...
    def get(self, key: K, default: Any = None) -> _loop.Call[Any]:
        """The value of `key`; `default` when there is no such key.

        Cancelled: nothing happens.
        """
        return _loop.call(native_transactions.transact_get, self._handle, key, default, False)

    def contains(self, key: object) -> _loop.Call[bool]:
        """Whether there is such a key.

        Cancelled: nothing happens.
        """
        return _loop.call(native_transactions.transact_contains, self._handle, key)

    def len(self) -> _loop.Call[int]:
        """How many keys there are: reads all of them.

        Cancelled: nothing happens.
        """
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
    async def pop(self, key: K, default: Absent = ABSENT) -> V: ...
    @overload
    async def pop(self, key: K, default: V) -> V: ...
    @overload
    async def pop(self, key: K, default: T) -> V | T: ...
    async def pop(self, key: K, default: Any = ABSENT) -> Any:
        """Removes `key` and returns its value; without a default, `KeyError` when it is missing.

        Cancelled: the entry stays.
        """
        is_required = default is ABSENT
        value = await _loop.call(native_transactions.transact_get, self._handle, key, default, is_required)
        self._handle.discard(key)
        return value

    async def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of `key`, which is put there if the key is missing.

        Cancelled: nothing happens.
        """
        value: Any = await self._get(key, self, False)
        if value is self:
            self[key] = value = default
        return value

    async def popitem(self) -> tuple[K, V]:
        """Removes the last entry in key order and returns it; `KeyError` when there is none.

        Cancelled: the entry stays.
        """
        async for key, value in self.items(reverse=True):
            self._handle.discard(key)
            return key, value
        raise KeyError("popitem(): the dictionary is empty")

    def update(
        self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **named: Any
    ) -> None:
        """Puts many pairs, at once as ``t[k] = v`` does."""
        for key, value in [*pairs(other), *named.items()]:
            self[key] = value

    async def clear(self) -> None:
        """Removes every key: reads all of them.

        Cancelled: some may be removed; the transaction does not happen unless it goes on.
        """
        for key in [key async for key in self.keys()]:
            self._handle.discard(key)

    async def copy(self) -> dict[K, V]:
        """All of it in a plain dict.

        Cancelled: nothing happens.
        """
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


class Transactions(Generic[K, V]):
    """What `Object` can do with transactions."""

    _handle: Handle

    async def transact(
        self,
        fn: Callable[[Transaction[K, V]], Awaitable[T]] | Callable[[objsync.Transaction[K, V]], T],
    ) -> T:
        """Runs `fn` on one moment of the dictionary, and makes what it changes, all or nothing.

        As `objsync.Object.transact`. An async function is run here, with a `Transaction` of this
        module; any other function in a thread, with an `objsync.Transaction`.

        Cancelled: while an async function runs, nothing is changed; later, its changes may still
        happen, all or nothing. A function in a thread is not stopped, and its changes happen.

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
        result: T = await transact(self._handle, fn)
        return result
