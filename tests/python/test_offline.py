"""Writes that wait on the client's disk for an owner."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from conftest import free_port
from objsync import NetworkObject, Object, aio, errors
from programs import DEADLINE_S, Told


def until(what: str, happened: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.002)


def connect(port: int) -> NetworkObject:
    d = NetworkObject("localhost", port, offline="queue")
    d.sync()  # what it has not joined yet it cannot read on its own
    return d


def test_writes_without_an_owner_are_kept_seen_and_sent(folder: Path) -> None:
    port = free_port()
    other = Told(f"localhost:{port}")
    with connect(port) as d:
        assert d.set("a", 1).durability == "sync"
        assert d.status.stale_s == 0.0 and d.status.queued == 0
        other.kill()
        until("offline", lambda: d.status.role == "offline")
        assert d.set("a", 2).durability == "queued"
        d["b"] = {"x": [1]}
        del d["a"]
        assert d.incr("n") == 1
        assert d.copy() == {"b": {"x": [1]}, "n": 1} and len(d) == 2 and "a" not in d
        assert d.status.stale_s > 0 and d.status.queued == 4
        with pytest.raises(KeyError):
            del d["a"]
        with Told(f"localhost:{port}") as back:
            until("sent", lambda: d.status.queued == 0)
            assert back.do("print(dict(d))") == "{'b': {'x': [1]}, 'n': 1}"
            assert d.status.role == "peer" and d.status.stale_s == 0.0
            assert list(d.conflicts) == []


def test_conflict_stays_until_it_is_cleared(folder: Path) -> None:
    port = free_port()
    other = Told(f"localhost:{port}")
    with Told(f"localhost:{port}", offline="queue") as client:
        client.do("d['a'] = 1; d.sync()")
        other.kill()
        client.do("import threading\nwhile d.status.role != 'offline': threading.Event().wait(0.01)")
        assert client.do("print(d.compare_and_set('a', 1, 'mine'), d['a'])") == "True mine"
        # Another one writes while this one stands still.
        os.kill(client.pid, signal.SIGSTOP)
        with Told(f"localhost:{port}") as back:
            back.do("d['a'] = 'theirs'")
            os.kill(client.pid, signal.SIGCONT)
            client.do("while d.status.queued: threading.Event().wait(0.01)")
            assert client.do("print(d['a'], d.status.conflicts)") == "theirs 1"
            client.do("(c,) = d.conflicts")
            told = client.do("print(c.key, c.operation, c.expected, c.wanted, c.actual, c.time.tzname())")
            assert told == "a compare_and_set 1 mine theirs UTC"
            assert client.do("print(c.reason)") == "the key had another value than expected"
            assert client.do("d.conflicts.clear(); print(len(d.conflicts), bool(d.conflicts))") == "0 False"


def test_next_process_sends_what_a_killed_one_had_queued(folder: Path) -> None:
    port = free_port()
    other = Told(f"localhost:{port}")
    first = Told(f"localhost:{port}", offline="queue")
    first.do("d.sync()")
    other.kill()
    first.do("import threading\nwhile d.status.role != 'offline': threading.Event().wait(0.01)")
    assert first.do("print(d.incr('n'), d.incr('n'), d.incr('n'))") == "1 2 3"
    first.kill()
    with Told(f"localhost:{port}") as back, connect(port) as d:
        until("sent", lambda: d.status.queued == 0)
        assert back.do("print(d['n'])") == "3"


def test_wrong_setting_and_calls_that_need_an_owner_say_so(folder: Path) -> None:
    port = free_port()
    with pytest.raises(errors.InvalidError, match="offline"):
        NetworkObject("localhost", port, offline="perhaps")  # type: ignore[arg-type]
    other = Told(f"localhost:{port}")
    with NetworkObject("localhost", port, offline="queue", timeout=0.5) as d:
        d.sync()
        other.kill()
        until("offline", lambda: d.status.role == "offline")
        with pytest.raises(errors.UnavailableError):
            d.lock("door", timeout=0.2).acquire()
        with pytest.raises(errors.UnavailableError):
            d.transact(lambda t: t.get("a"))


def test_object_without_a_queue_has_no_conflicts(d: Object) -> None:
    assert list(d.conflicts) == [] and len(d.conflicts) == 0 and not d.conflicts
    d.conflicts.clear()
    assert d.status.queued == 0


def test_awaitable_forms_do_the_same(folder: Path) -> None:
    port = free_port()

    async def main() -> None:
        other = Told(f"localhost:{port}")
        async with aio.NetworkObject("localhost", port, offline="queue") as d:
            await d.sync()
            other.kill()
            while d.status.role != "offline":
                await asyncio.sleep(0.01)
            acks = await asyncio.gather(*(d.set(number, number) for number in range(100)))
            assert {ack.durability for ack in acks} == {"queued"}
            assert await d.len() == 100 and await d[42] == 42
            assert list(d.conflicts) == []
            await d.conflicts.clear()

    asyncio.run(main())
