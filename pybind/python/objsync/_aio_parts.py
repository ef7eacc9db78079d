"""What the objects of `objsync.aio` hand out: iterations, batches, pipelines and watches."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from objsync import _loop
from objsync._native import (
    Events,
    Handle,
    Pages,
    PastHandle,
    TransactionHandle,
    native,
    native_transactions,
)
from objsync._records import Ack, Event
from objsync._types import K, V

__all__ = ["Batch", "Entries", "Opened", "Past", "Pipeline", "RangeReader", "RangeView", "Watch"]

T = TypeVar("T")
Item = TypeVar("Item")

UNANSWERED_MAX: Final = 1024
"""Writes of a pipeline in flight before `Pipeline.set` waits for the oldest."""


AnyHandle = Handle | PastHandle | TransactionHandle
"""What can be read in key order."""


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
        self._start: Callable[..., None] = native.pages
        if isinstance(handle, PastHandle):
            self._start = native.past_pages
        elif isinstance(handle, TransactionHandle):
            self._start = native_transactions.transact_pages
        self._scan = (handle, what, tuple(bounds.values()), reverse)
        self._pages: Pages | None = None
        self._ready: deque[Item] = deque()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if not self._ready:
            if self._pages is None:
                self._pages = await _loop.call(self._start, *self._scan)
            self._ready.extend(await _loop.call(self._pages.next_page))
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()


class RangeReader(Generic[K, V]):
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
        """Deletes every key; how many there were."""
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

    def __getitem__(self, key: K) -> asyncio.Future[V]:
        return _loop.call(native.past_get, self._handle, key, None, True)

    @overload
    def get(self, key: K, default: None = None) -> asyncio.Future[V | None]: ...
    @overload
    def get(self, key: K, default: V) -> asyncio.Future[V]: ...
    @overload
    def get(self, key: K, default: T) -> asyncio.Future[V | T]: ...
    def get(self, key: K, default: Any = None) -> asyncio.Future[Any]:
        """The value that `key` had; `default` when there was no such key."""
        return _loop.call(native.past_get, self._handle, key, default, False)

    def contains(self, key: object) -> asyncio.Future[bool]:
        """Whether there was such a key."""
        return _loop.call(native.past_contains, self._handle, key)

    def len(self) -> asyncio.Future[int]:
        """How many keys there were."""
        return _loop.call(native.past_count, self._handle)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeReader[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader[K, V]:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeReader(self._handle, prefix=prefix)

    async def copy(self) -> dict[K, V]:
        """All of it in a plain dict."""
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await asyncio.to_thread(self._batch.commit)
        else:
            self._batch.clear()


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
        self._unanswered: deque[asyncio.Future[Ack]] = deque()
        self._failure: BaseException | None = None

    async def set(self, key: K, value: V) -> None:
        """Starts a write; waits only when many are unanswered."""
        self._unanswered.append(_loop.call(native.set, self._handle, key, value))
        await self._answered(UNANSWERED_MAX)

    async def delete(self, key: K) -> None:
        """Starts a removal; waits only when many are unanswered. A missing key is a `KeyError`."""
        self._unanswered.append(_loop.call(native.delete, self._handle, key))
        await self._answered(UNANSWERED_MAX)

    async def finish(self) -> None:
        """Waits for every answer and raises the first failure."""
        await self._answered(0)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _answered(self, rest: int) -> None:
        while len(self._unanswered) > rest:
            try:
                await self._unanswered.popleft()
            except Exception as error:  # later writes go on; the first failure is raised at the end
                self._failure = self._failure or error

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


class Watch(Opened, Generic[K, V]):
    """A stream of changes in order, each once; for ``async for``.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d, d.watch() as w:
    ...         await d.set("a", 1)
    ...         async for event in w:
    ...             w.close()
    ...             return event.kind, event.key, event.value
    >>> asyncio.run(main())
    ('set', 'a', 1)
    """

    def __init__(
        self,
        handle: Handle,
        callback: Callable[[Event[K, V]], object] | None,
        key: tuple[Any, ...],
        prefix: str | bytes | tuple[Any, ...] | None,
        since: int | None,
    ) -> None:
        self._watch = (handle, key, prefix, since)
        self._callback = callback
        self._events: Events[K, V] | None = None
        self._task: asyncio.Task[None] | None = None

    async def _open(self) -> None:
        self._events = await _loop.call(native.watch, *self._watch)
        if self._callback is not None:
            self._task = asyncio.create_task(self._call_back(self._callback))

    async def _close(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream. Harmless when repeated."""
        if self._events is not None:
            self._events.close()

    def __aiter__(self) -> AsyncIterator[Event[K, V]]:
        return self

    async def __anext__(self) -> Event[K, V]:
        if self._events is None:
            await self._open()
        event: Event[K, V] | None = await _loop.call(native.next_event, self._events)
        if event is None:
            raise StopAsyncIteration
        return event

    async def _call_back(self, callback: Callable[[Event[K, V]], object]) -> None:
        async for event in self:
            try:
                result = callback(event)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # one bad event must not end the stream
                context = {"message": "a watch's callback failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
