"""What the objects of `objsync.aio` hand out: iterations, batches and pipelines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from objsync import _loop
from objsync._native import (
    Handle,
    Pages,
    PastHandle,
    TransactionHandle,
    native,
    native_transactions,
)
from objsync._records import Ack
from objsync._types import K, V

__all__ = ["Batch", "Entries", "Opened", "Past", "Pipeline", "RangeReader", "RangeView"]

T = TypeVar("T")
Item = TypeVar("Item")

UNANSWERED_MAX: Final = 1024
"""Writes of a pipeline in flight before `Pipeline.set` waits for the oldest."""


AnyHandle = Handle | PastHandle | TransactionHandle
"""What can be read in key order."""


def _of_kind(
    handle: AnyHandle,
    now: Callable[..., None],
    past: Callable[..., None],
    in_transaction: Callable[..., None],
) -> Callable[..., None]:
    """That of three native calls which reads from such a handle."""
    if isinstance(handle, PastHandle):
        return past
    return in_transaction if isinstance(handle, TransactionHandle) else now


class Opened:
    """Opened by ``await`` or ``async with``, closed at the end of the block."""

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError

    async def _opened(self) -> Self:
        await self._open()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._close()
        except Exception as failure:
            # What the block raised is what the caller should see.
            if error is None:
                raise
            error.add_note(str(failure))


class Entries(Generic[Item]):
    """Keys, values or items in key order, all of one moment; for ``async for``.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a": 1, "b": 2}) as d:
    ...         return [key async for key in d.keys(reverse=True)]
    >>> asyncio.run(main())
    ['b', 'a']
    """

    def __init__(
        self, handle: AnyHandle, what: str, bounds: dict[str, Any], reverse: bool
    ) -> None:
        self._start = _of_kind(handle, native.pages, native.past_pages, native_transactions.transact_pages)
        self._scan = (handle, what, tuple(bounds.values()), reverse)
        self._pages: Pages | None = None
        self._answers = _loop.Answers()
        self._ready: deque[Item] = deque()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if not self._ready:
            if self._pages is None:
                self._pages = await _loop.call(self._start, *self._scan)
            self._ready.extend(await self._answers.ask(self._pages.next_page))
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()


class RangeReader(_loop.Awaited, Generic[K, V]):
    """A part of a dictionary, by range or prefix of keys, to iterate.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a": 1, "b": 2}) as d, d.snapshot() as s:
    ...         some = s.range("b")
    ...         keys, values = [key async for key in some.keys()], [value async for value in some.values()]
    ...         return keys, values, [item async for item in some.items()]
    >>> asyncio.run(main())
    (['b'], [2], [('b', 2)])
    """

    def __init__(
        self,
        handle: AnyHandle,
        *,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
    ) -> None:
        self._handle = handle
        self._bounds = {"start": start, "stop": stop, "prefix": prefix}

    def keys(self, *, reverse: bool = False) -> Entries[K]:
        """The keys in order, or from the last to the first."""
        return Entries(self._handle, "keys", self._bounds, reverse)

    def values(self, *, reverse: bool = False) -> Entries[V]:
        """The values, in the order of their keys."""
        return Entries(self._handle, "values", self._bounds, reverse)

    def items(self, *, reverse: bool = False) -> Entries[tuple[K, V]]:
        """The (key, value) pairs, in the order of their keys."""
        return Entries(self._handle, "items", self._bounds, reverse)

    def __aiter__(self) -> AsyncIterator[K]:
        return self.keys()

    def __getitem__(self, key: Any) -> Awaitable[Any]:
        return self._get(key, None, True)

    def get(self, key: Any, default: Any = None) -> Awaitable[Any]:
        """The value of `key` if it lies in the range; `default` when there is no such key.

        Cancelled: nothing happens.
        """
        return self._get(key, default, False)

    def contains(self, key: Any) -> Awaitable[bool]:
        """Whether there is such a key in the range.

        Cancelled: nothing happens.
        """
        return self._contains(key)

    def len(self) -> Awaitable[int]:
        """How many keys there are: one pass over the keys of the range.

        Cancelled: nothing happens.
        """
        return self._count()

    async def _get(self, key: Any, default: Any, is_required: bool) -> Any:
        if Handle._in_range(key, **self._bounds):
            start = _of_kind(self._handle, native.get, native.past_get, native_transactions.transact_get)
            return await _loop.call(start, self._handle, key, default, is_required)
        if is_required:
            raise KeyError(key)
        return default

    async def _contains(self, key: Any) -> bool:
        return await self._get(key, self, False) is not self

    async def _count(self) -> int:
        count = 0
        async for _ in self.keys():
            count += 1
        return count


class RangeView(RangeReader[K, V]):
    """A part of a dictionary, by range or prefix of keys: it can be iterated and cleared.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"a:1": 1, "a:2": 2, "b": 3}) as d:
    ...         return await d.prefix("a:").clear(), await d.copy()
    >>> asyncio.run(main())
    (2, {'b': 3})
    """

    _handle: Handle

    async def clear(self) -> int:
        """Deletes every key; how many there were.

        Cancelled: it may still happen, and then to its end.
        """
        return await asyncio.to_thread(self._handle._delete_range, **self._bounds)


class Past(RangeReader[K, V]):
    """A dictionary as it was at one revision, to read; made by `Object.at`. As `objsync.Past`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d:
    ...         first = await d.set("a", 1)
    ...         await d.set("a", 2)
    ...         past = await d.at(first.revision)
    ...         print(await past.len(), await past.contains("b"))
    ...         return await past["a"], await past.copy(), await d["a"]
    >>> asyncio.run(main())
    1 False
    (1, {'a': 1}, 2)
    """

    _handle: PastHandle

    def __init__(self, handle: PastHandle) -> None:
        super().__init__(handle)

    @property
    def revision(self) -> int:
        """As of when it is read."""
        return self._handle.revision

    def __getitem__(self, key: K) -> _loop.Call[V]:
        return _loop.call(native.past_get, self._handle, key, None, True)

    @overload
    def get(self, key: K, default: None = None) -> _loop.Call[V | None]: ...
    @overload
    def get(self, key: K, default: V) -> _loop.Call[V]: ...
    @overload
    def get(self, key: K, default: T) -> _loop.Call[V | T]: ...
    def get(self, key: K, default: Any = None) -> _loop.Call[Any]:
        """The value that `key` had; `default` when there was no such key.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_get, self._handle, key, default, False)

    def contains(self, key: object) -> _loop.Call[bool]:
        """Whether there was such a key.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_contains, self._handle, key)

    def len(self) -> _loop.Call[int]:
        """How many keys there were.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_count, self._handle)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeReader[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader[K, V]:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeReader(self._handle, prefix=prefix)

    async def copy(self) -> dict[K, V]:
        """All of it in a plain dict.

        Cancelled: nothing happens.
        """
        return {key: value async for key, value in self.items()}


class Batch(Generic[K, V]):
    """Changes collected for one transaction, made when the ``async with`` block ends well.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj", {"old": 0}) as d:
    ...         async with d.batch() as b:
    ...             b["a"] = 1
    ...             del b["old"]
    ...         return await d.copy()
    >>> asyncio.run(main())
    {'a': 1}
    """

    def __init__(self, handle: Handle[K, V]) -> None:
        self._batch = handle.batch()

    def __setitem__(self, key: K, value: V) -> None:
        self._batch[key] = value

    def __delitem__(self, key: K) -> None:
        del self._batch[key]

    def __len__(self) -> int:
        return len(self._batch)

    @property
    def ack(self) -> Ack | None:
        """Where the transaction stands, once it was made."""
        return self._batch.ack

    def clear(self) -> None:
        """Forgets what was collected."""
        self._batch.clear()

    async def commit(self) -> None:
        """Makes the transaction now; what is collected later is for another one.

        Cancelled: it may still happen, as a whole.
        """
        await asyncio.to_thread(self._batch.commit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.commit()
        else:
            self.clear()


class Pipeline(Generic[K, V]):
    """Writes that are sent in order without waiting for each answer.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d, d.pipeline() as p:
    ...         await p.set("a", 1)
    ...         await p.set("b", 2)
    ...         await p.delete("a")
    ...         await p.finish()
    ...         return await d.copy()
    >>> asyncio.run(main())
    {'b': 2}
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._unanswered: deque[_loop.Call[Ack]] = deque()
        self._failure: BaseException | None = None
        self._ack: Ack | None = None

    @property
    def ack(self) -> Ack | None:
        """Where the newest write that was answered stands."""
        return self._ack

    async def set(self, key: K, value: V) -> None:
        """Starts a write; waits only when many are unanswered.

        Cancelled: the write was handed over all the same, and what it raises is raised at the end.
        """
        self._unanswered.append(_loop.call(native.set, self._handle, key, value))
        await self._answered(UNANSWERED_MAX)

    async def delete(self, key: K) -> None:
        """Starts a removal; waits only when many are unanswered. A missing key is a `KeyError`.

        Cancelled: the write was handed over all the same, and what it raises is raised at the end.
        """
        self._unanswered.append(_loop.call(native.delete, self._handle, key))
        await self._answered(UNANSWERED_MAX)

    async def finish(self) -> None:
        """Waits for every answer and raises the first failure.

        Cancelled: every write still happens, or is refused; call it again to hear of failures.
        """
        await self._answered(0)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _answered(self, rest: int) -> None:
        while len(self._unanswered) > rest:
            try:
                # Shielded: a task that is cancelled here still hears of the failure at the end.
                self._ack = await asyncio.shield(self._unanswered[0])
            except Exception as error:  # later writes go on; the first failure is raised at the end
                self._failure = self._failure or error
            self._unanswered.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.finish()
        else:
            await self._answered(0)
