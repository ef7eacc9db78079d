"""The calls of each event loop that are on their way."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from objsync._native import Calls

__all__ = ["call"]

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
