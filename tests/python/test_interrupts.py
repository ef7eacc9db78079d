"""Ctrl-C, threads and waiting: a call that waits holds nobody up."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from objsync import DiskObject, NetworkObject

DEADLINE_S = 20.0
SOON_S = 0.2


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


@contextmanager
def signal_soon(handler: Callable[..., object]) -> Iterator[None]:
    """A signal that arrives while the block waits."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, SOON_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_interrupts_opening(silent_port: int) -> None:
    started = time.monotonic()
    with signal_soon(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        NetworkObject("127.0.0.1", silent_port, promote=False, timeout=60)
    assert time.monotonic() - started < DEADLINE_S


def test_ctrl_c_interrupts_a_watch_and_the_object_works_on(folder: Path) -> None:
    with DiskObject("store") as d, d.watch() as w:
        with signal_soon(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
            next(w)
        d["a"] = 1
        assert next(w).key == "a"


def test_handler_that_does_not_raise_lets_the_call_go_on(folder: Path) -> None:
    called = threading.Event()
    with DiskObject("store") as d, d.watch() as w:
        with signal_soon(lambda *_: called.set()):
            assert w.get(5 * SOON_S) is None
        assert called.is_set()


def test_handler_may_use_the_object_that_waits(folder: Path) -> None:
    with DiskObject("store") as d, d.watch() as w:
        with signal_soon(lambda *_: d.set("from", "handler")):
            assert w.get(DEADLINE_S).key == "from"
        assert d["from"] == "handler"


def test_other_threads_run_while_one_waits(silent_port: int) -> None:
    failed = threading.Event()

    def wait() -> None:
        with pytest.raises(ConnectionError):
            NetworkObject("127.0.0.1", silent_port, promote=False, timeout=1)
        failed.set()

    thread = threading.Thread(target=wait)
    thread.start()
    turns = 0
    while not failed.wait(0.001):
        turns += 1
    thread.join(DEADLINE_S)
    assert turns > 50
