"""Changes as they happen, for an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic

from objsync import _loop
from objsync._aio_parts import Opened
from objsync._native import Events, Handle, native
from objsync._records import Event
from objsync._types import K, V

__all__ = ["Watch"]


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

    async def get(self, timeout: float) -> Event[K, V] | None:
        """The next change; ``None`` when there is none within `timeout` seconds, or at the end.

        Cancelled: no change is lost; the next who asks gets it.
        """
        try:
            return await asyncio.wait_for(anext(self), timeout)
        except (TimeoutError, StopAsyncIteration):
            return None

    def __aiter__(self) -> AsyncIterator[Event[K, V]]:
        return self

    async def __anext__(self) -> Event[K, V]:
        if self._events is None:
            await self._open()
        event: Event[K, V] | None = await self._answers.ask(native.next_event, self._events)
        if event is None:
            raise StopAsyncIteration
        return event

    async def _call_back(self, callback: Callable[[Event[K, V]], object]) -> None:
        while True:
            try:
                async for event in self:
                    await _call(callback, event)
                return
            except Exception as error:
                # Told once, as a gap is, or it may pass, as the absence of an owner does.
                _report(error)
                if self.closed:
                    return


async def _call(callback: Callable[[Event[K, V]], object], event: Event[K, V]) -> None:
    try:
        result = callback(event)
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # one bad event must not end the stream
        _report(error)


def _report(error: Exception) -> None:
    context = {"message": "a watch's callback failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
