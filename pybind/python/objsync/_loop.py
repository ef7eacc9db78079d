"""The calls of each event loop that are on their way."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from objsync._native import Calls

__all__ = ["Answers", "call"]

_calls: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Calls] = weakref.WeakKeyDictionary()


def call(start: Callable[..., None], *arguments: Any) -> asyncio.Future[Any]:
    """Starts a native call on the running loop; the future has its answer.

    Cancelling the future drops the call before the task that awaits it goes on; that does not take
    back a write which was handed over.
    """
    loop = asyncio.get_running_loop()
    calls = _calls.get(loop)
    if calls is None:
        calls = _calls[loop] = Calls()
        loop.add_reader(calls.fileno(), calls.drain)
    future = loop.create_future()
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
