"""The open handles of this process, closed in order when Python ends.

A store that is closed has no torn tail to look at when it is opened again, and peers learn at once
that their owner goes. A process that is killed loses nothing either.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["add", "add_thread"]

THREAD_WAIT_SECONDS = 2.0
"""How long the end of Python waits for a callback that is running."""


class Closable(Protocol):
    def close(self) -> None: ...


# By id: handles compare as mappings do, and have no hash.
_handles: weakref.WeakValueDictionary[int, Closable] = weakref.WeakValueDictionary()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def add(handle: Closable) -> None:
    """Has `handle` closed when Python ends, if it lives until then."""
    _handles[id(handle)] = handle


def add_thread(thread: threading.Thread) -> None:
    """Has the end of Python wait for `thread`, which ends when its handle closes."""
    _threads.add(thread)


def _forget() -> None:
    # The parent's handles are the parent's to close, and its threads do not run here.
    _handles.clear()
    _threads.clear()


def _close_all() -> None:
    for handle in list(_handles.values()):
        with suppress(Exception):
            handle.close()
    for thread in list(_threads):
        thread.join(THREAD_WAIT_SECONDS)


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget)
