"""What the objects of `objsync.aio` hand out: iterations, batches, pipelines and watches."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Self

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

__all__ = ["Batch", "Entries", "Opened", "Past", "Pipeline", "RangeReader", "RangeView", "Watch"]

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


class Entries:
    """Keys, values or items in key order, all of one moment; for ``async for``."""

    def __init__(
        self, handle: AnyHandle, what: str, bounds: dict[str, Any], reverse: bool
    ) -> None:
        self._start = _of_kind(handle, native.pages, native.past_pages, native_transactions.transact_pages)
        self._scan = (handle, what, tuple(bounds.values()), reverse)
        self._pages: Pages | None = None
        self._answers = _loop.Answers()
        self._ready: deque[Any] = deque()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._ready:
            if self._pages is None:
                self._pages = await _loop.call(self._start, *self._scan)
            self._ready.extend(await self._answers.ask(self._pages.next_page))
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()


class RangeReader:
    """A part of a dictionary, by range or prefix of keys, to iterate."""

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

    def keys(self, *, reverse: bool = False) -> Entries:
        """The keys in order, or from the last to the first."""
        return Entries(self._handle, "keys", self._bounds, reverse)

    def values(self, *, reverse: bool = False) -> Entries:
        """The values, in the order of their keys."""
        return Entries(self._handle, "values", self._bounds, reverse)

    def items(self, *, reverse: bool = False) -> Entries:
        """The (key, value) pairs, in the order of their keys."""
        return Entries(self._handle, "items", self._bounds, reverse)

    def __aiter__(self) -> AsyncIterator[Any]:
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


class RangeView(RangeReader):
    """A part of a dictionary, by range or prefix of keys: it can be iterated and cleared."""

    _handle: Handle

    async def clear(self) -> int:
        """Deletes every key; how many there were.

        Cancelled: it may still happen, and then to its end.
        """
        return await asyncio.to_thread(self._handle._delete_range, **self._bounds)


class Past(RangeReader):
    """A dictionary as it was at one revision, to read; made by `Object.at`. As `objsync.Past`.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d:
    ...         first = await d.set("a", 1)
    ...         await d.set("a", 2)
    ...         past = await d.at(first.revision)
    ...         return await past["a"], await past.copy(), await d["a"]
    >>> asyncio.run(main())
    (1, {'a': 1}, 2)
    """

    _handle: PastHandle

    def __init__(self, handle: PastHandle) -> None:
        super().__init__(handle)

    @property
    def revision(self) -> int:
        """As of when it is read."""
        return self._handle.revision

    def __getitem__(self, key: Any) -> asyncio.Future[Any]:
        return _loop.call(native.past_get, self._handle, key, None, True)

    def get(self, key: Any, default: Any = None) -> asyncio.Future[Any]:
        """The value that `key` had; `default` when there was no such key.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_get, self._handle, key, default, False)

    def contains(self, key: Any) -> asyncio.Future[bool]:
        """Whether there was such a key.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_contains, self._handle, key)

    def len(self) -> asyncio.Future[int]:
        """How many keys there were.

        Cancelled: nothing happens.
        """
        return _loop.call(native.past_count, self._handle)

    def range(self, start: Any = None, stop: Any = None) -> RangeReader:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self._handle, start=start, stop=stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader:
        """The entries whose keys begin so (see `objsync.Object.prefix`)."""
        return RangeReader(self._handle, prefix=prefix)

    async def copy(self) -> dict[Any, Any]:
        """All of it in a plain dict.

        Cancelled: nothing happens.
        """
        return {key: value async for key, value in self.items()}


class Batch:
    """Changes collected for one transaction, made when the ``async with`` block ends well."""

    def __init__(self, handle: Handle) -> None:
        self._batch = handle.batch()

    def __setitem__(self, key: Any, value: Any) -> None:
        self._batch[key] = value

    def __delitem__(self, key: Any) -> None:
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


class Pipeline:
    """Writes that are sent in order without waiting for each answer."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._unanswered: deque[asyncio.Future[Ack]] = deque()
        self._failure: BaseException | None = None
        self._ack: Ack | None = None

    @property
    def ack(self) -> Ack | None:
        """Where the newest write that was answered stands."""
        return self._ack

    async def set(self, key: Any, value: Any) -> None:
        """Starts a write; waits only when many are unanswered.

        Cancelled: the write was handed over all the same, and what it raises is raised at the end.
        """
        self._unanswered.append(_loop.call(native.set, self._handle, key, value))
        await self._answered(UNANSWERED_MAX)

    async def delete(self, key: Any) -> None:
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


class Watch(Opened):
    """A stream of changes in order, each once; for ``async for``.

    >>> import asyncio
    >>> from objsync import aio
    >>> async def main():
    ...     async with aio.DiskObject("data.obj") as d, d.watch() as w:
    ...         await d.set("a", 1)
    ...         async for event in w:
    ...             return event.kind, event.key, event.value
    >>> asyncio.run(main())
    ('set', 'a', 1)
    """

    def __init__(
        self,
        handle: Handle,
        callback: Callable[[Event], object] | None,
        key: tuple[Any, ...],
        prefix: str | bytes | tuple[Any, ...] | None,
        since: int | None,
    ) -> None:
        self._watch = (handle, key, prefix, since)
        self._callback = callback
        self._events: Events | None = None
        self._answers = _loop.Answers()
        self._task: asyncio.Task[None] | None = None

    async def _open(self) -> None:
        self._events = await _loop.call(native.watch, *self._watch)
        if self._callback is not None:
            self._task = asyncio.create_task(self._call_back(self._callback))

    async def _close(self) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether nothing more can come."""
        return self._events is not None and self._events.closed

    def close(self) -> None:
        """Ends the stream. Harmless when repeated."""
        if self._events is not None:
            self._events.close()

    async def get(self, timeout: float) -> Event | None:
        """The next change; ``None`` when there is none within `timeout` seconds, or at the end.

        Cancelled: no change is lost; the next who asks gets it.
        """
        try:
            return await asyncio.wait_for(anext(self), timeout)
        except (TimeoutError, StopAsyncIteration):
            return None

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._events is None:
            await self._open()
        event: Event | None = await self._answers.ask(native.next_event, self._events)
        if event is None:
            raise StopAsyncIteration
        return event

    async def _call_back(self, callback: Callable[[Event], object]) -> None:
        async for event in self:
            try:
                result = callback(event)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # one bad event must not end the stream
                context = {"message": "a watch's callback failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
