"""The calls of each event loop that are on their way, and what cannot be awaited."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Never, TypeVar

from objsync._native import Calls

__all__ = ["Answers", "Awaited", "Call", "call"]

T = TypeVar("T")
_calls: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Calls] = weakref.WeakKeyDictionary()


class Call(asyncio.Future[T], Coroutine[Any, Any, T]):
    """An answer on its way. Also a coroutine, for what takes no future: `create_task`, `asyncio.run`."""

    _steps: Generator[Any, None, T] | None = None

    def _step(self) -> Generator[Any, None, T]:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps

    def send(self, value: Any) -> Any:
        """As of a coroutine."""
        return self._step().send(value)

    def throw(self, *raised: Any) -> Any:
        """As of a coroutine."""
        return self._step().throw(*raised)

    def close(self) -> None:
        """As of a coroutine that nobody awaits: the call is dropped."""
        self.cancel()


def call(start: Callable[..., None], *arguments: Any) -> Call[Any]:
    """Starts a native call on the running loop; the future has its answer.

    Cancelling the future drops the call before the task that awaits it goes on; that does not take
    back a write which was handed over.
    """
    loop = asyncio.get_running_loop()
    calls = _calls.get(loop)
    if calls is None:
        calls = _calls[loop] = Calls()
        loop.add_reader(calls.fileno(), calls.drain)
    future: Call[Any] = Call(loop=loop)
    start(calls, future, *arguments)
    if not future.done():
        future.add_done_callback(calls.forget)
    return future


class Answers:
    """Answers of which each is given once: of an iteration, or of a stream.

    A task can be cancelled after its answer has come and before it runs again. The answer then waits
    here for the next who asks.
    """

    def __init__(self) -> None:
        self._left: deque[asyncio.Future[Any]] = deque()

    async def ask(self, start: Callable[..., None], *arguments: Any) -> Any:
        """As `call`; first what was left by tasks that were cancelled."""
        if self._left:
            return self._left.popleft().result()
        answer = call(start, *arguments)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                self._left.append(answer)
            raise


class Awaited:
    """What has to be awaited, and so has no place in `in`, `for`, `list`, `len` and truth.

    No object is a `Never`: type checkers refuse a plain loop too.
    """

    def __contains__(self: Never, key: Any) -> bool:  # type: ignore[misc]
        raise TypeError("`in` cannot be awaited: write `await d.contains(key)`")

    def __iter__(self: Never) -> Iterator[Any]:  # type: ignore[misc]
        raise TypeError("a plain iteration cannot be awaited: write `async for key in d`")

    def __bool__(self: Never) -> bool:  # type: ignore[misc]
        raise TypeError("a truth cannot be awaited: write `await d.len() > 0`")
