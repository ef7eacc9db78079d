"""Changes as they happen, by callback, by iteration, or with ``async for``."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from objsync import _registry
from objsync._native import Events, native
from objsync._records import Event
from objsync._types import K, V

if TYPE_CHECKING:
    from objsync._loop import Answers

__all__ = ["Watch"]


class Watch(Generic[K, V]):
    """A stream of changes in order, each once, over reconnects and changes of owner.

    Made by `Object.watch`. It holds a bounded number of changes for a reader that is slow; then the
    reader gets them from the owner again. Closing the object ends it too.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d, d.watch(prefix="job:") as w:
    ...     d["other"] = 0
    ...     d["job:1"] = "new"
    ...     event = next(w)
    >>> event.key, event.value, event.kind
    ('job:1', 'new', 'set')
    >>> w.close()  # harmless when repeated
    """

    def __init__(self, events: Events[K, V], callback: Callable[[Event[K, V]], object] | None = None) -> None:
        self._events = events
        self._answers: Answers | None = None
        self._thread: threading.Thread | None = None
        if callback is not None:
            self._thread = threading.Thread(
                target=_call_back, args=(events, callback), name="objsync-watch", daemon=True
            )
            self._thread.start()
            _registry.add_thread(self._thread)

    @property
    def closed(self) -> bool:
        """Whether nothing more can come."""
        return self._events.closed

    def close(self) -> None:
        """Ends the stream, for whoever waits on it. Harmless when repeated.

        A callback that is running finishes, and is not waited for.
        """
        self._events.close()

    def get(self, timeout: float) -> Event[K, V] | None:
        """The next change; ``None`` when there is none within `timeout` seconds, or at the end.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     print(d.watch().get(timeout=0))
        None
        """
        return self._events.get(timeout)

    def __iter__(self) -> Iterator[Event[K, V]]:
        return self

    def __next__(self) -> Event[K, V]:
        return next(self._events)

    def __aiter__(self) -> AsyncIterator[Event[K, V]]:
        return self

    async def __anext__(self) -> Event[K, V]:
        from objsync import _loop  # asyncio takes longer to import than all of this package

        if self._answers is None:
            self._answers = _loop.Answers()
        event: Event[K, V] | None = await self._answers.ask(native.next_event, self._events)
        if event is None:
            raise StopAsyncIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _call_back(events: Events[K, V], callback: Callable[[Event[K, V]], object]) -> None:
    while True:
        try:
            for event in events:
                _call(callback, event)
            return
        except Exception:
            # Told once, as a gap is, or it may pass, as the absence of an owner does.
            _report()
            if events.closed:
                return


def _call(callback: Callable[[Event], object], event: Event) -> None:
    try:
        callback(event)
    except Exception:
        # One bad event must not end the stream.
        _report()


def _report() -> None:
    """Logs what was raised."""
    import logging  # takes longer to import than all of this package

    logging.getLogger("objsync").exception("a watch's callback failed")
