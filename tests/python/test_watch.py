"""Changes as they happen."""

from __future__ import annotations

import asyncio
import copy
import pickle
import queue
import threading
from pathlib import Path

import pytest

from conftest import Maker
from objsync import DiskObject, Event, NetworkObject, Object, _records, aio, errors
from programs import Server

DEADLINE_S = 20.0


def test_watch_tells_each_change_once_and_in_order(make: Maker) -> None:
    with make(place="store") as d, make(place="store") as other, d.watch() as w:
        d["a"] = 1
        d["a"] = [2]
        other.sync()
        del other["a"]
        events = [w.get(DEADLINE_S) for _ in range(3)]
    changes = [(event.kind, event.key, event.value) for event in events]
    assert changes == [("set", "a", 1), ("set", "a", [2]), ("delete", "a", None)]
    assert {event.origin for event in events} == {"self"}
    assert events[0].revision < events[1].revision < events[2].revision


def test_batch_is_told_with_one_revision(d: Object) -> None:
    with d.watch() as w:
        with d.batch() as b:
            b["a"], b["b"] = 1, 2
        first, second = next(w), next(w)
    assert {first.key, second.key} == {"a", "b"}
    assert first.revision == second.revision == b.ack.revision


def test_watch_of_a_prefix_tells_nothing_else(d: Object) -> None:
    with d.watch(prefix="job:") as w:
        d["other"] = 0
        d["job:1"] = 1
        assert next(w).key == "job:1"
        assert w.get(0) is None


def test_watch_since_a_revision_starts_there(d: Object) -> None:
    d["a"] = 1
    since = d.last_ack.revision
    d["b"] = 2
    d["c"] = 3
    with d.watch(since=since) as w:
        assert [next(w).key, next(w).key] == ["b", "c"]


def test_callback_gets_events_and_may_write(d: Object) -> None:
    seen: queue.Queue[Event] = queue.Queue()

    def callback(event: Event) -> None:
        if event.key == "question":
            d["answer"] = 42
        seen.put(event)

    with d.watch(callback):
        d["question"] = "?"
        assert [seen.get(timeout=DEADLINE_S).key for _ in range(2)] == ["question", "answer"]


def test_callback_that_raises_is_logged_and_called_again(
    d: Object, caplog: pytest.LogCaptureFixture
) -> None:
    seen: queue.Queue[Event] = queue.Queue()

    def callback(event: Event) -> None:
        seen.put(event)
        raise ZeroDivisionError("a fault of the callback")

    with d.watch(callback):
        d["a"] = 1
        d["b"] = 2
        d["c"] = 3
        # The third one is called once the first two were logged.
        assert [seen.get(timeout=DEADLINE_S).key for _ in range(3)] == ["a", "b", "c"]
    told = [record for record in caplog.records if record.name == "objsync"]
    assert len(told) >= 2
    assert told[0].exc_info is not None and told[0].exc_info[0] is ZeroDivisionError


LARGE = bytes(range(256)) * (5 << 12)
"""5 MiB: more than is fetched ahead."""


def write_three(server: Server) -> None:
    """Changes that come together, of which the second has a large value."""
    with NetworkObject(server.address, promote=False) as writer, writer.batch() as b:
        b["a"], b["big"], b["c"] = 1, LARGE, 3


def test_large_value_whose_server_is_away_is_told_when_it_is_back(folder: Path) -> None:
    server = Server(folder / "served")
    with (
        NetworkObject(server.address, promote=False, replica="none", timeout=0.3) as d,
        d.watch() as w,
    ):
        write_three(server)
        assert next(w).key == "a"
        server.kill()
        for _ in range(2):
            with pytest.raises(errors.UnavailableError):
                next(w)
        assert not w.closed
        Server(server.directory, port=int(server.address.rpartition(":")[2]))
        seen: list[Event] = []
        while len(seen) < 2:
            try:
                seen.append(next(w))
            except errors.UnavailableError:
                continue
    assert [(event.key, event.value, event.unread) for event in seen] == [
        ("big", LARGE, None),
        ("c", 3, None),
    ]


def test_callback_goes_on_when_the_server_of_a_large_value_is_back(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(folder / "served")
    seen: queue.Queue[Event] = queue.Queue()
    may_go_on = threading.Event()

    def callback(event: Event) -> None:
        seen.put(event)
        assert may_go_on.wait(DEADLINE_S)

    with (
        NetworkObject(server.address, promote=False, replica="none", timeout=0.3) as d,
        d.watch(callback),
    ):
        write_three(server)
        assert seen.get(timeout=DEADLINE_S).key == "a"
        server.kill()
        may_go_on.set()
        with pytest.raises(queue.Empty):
            seen.get(timeout=1)
        Server(server.directory, port=int(server.address.rpartition(":")[2]))
        big, last = (seen.get(timeout=DEADLINE_S) for _ in range(2))
    assert (big.key, big.value, last.key) == ("big", LARGE, "c")
    told = [record.exc_info for record in caplog.records if record.name == "objsync"]
    assert any(info is not None and info[0] is errors.UnavailableError for info in told)


def test_awaitable_callback_goes_on_when_the_server_of_a_large_value_is_back(folder: Path) -> None:
    server = Server(folder / "served")

    async def main() -> list[tuple[str, int | bytes]]:
        seen: asyncio.Queue[Event] = asyncio.Queue()
        failures: asyncio.Queue[object] = asyncio.Queue()
        may_go_on = asyncio.Event()

        async def callback(event: Event) -> None:
            seen.put_nowait(event)
            await may_go_on.wait()

        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.put_nowait(context["exception"])
        )
        opened = aio.NetworkObject(server.address, promote=False, replica="none", timeout=0.3)
        async with opened as d, d.watch(callback):
            await asyncio.to_thread(write_three, server)
            events = [await asyncio.wait_for(seen.get(), DEADLINE_S)]
            server.kill()
            may_go_on.set()
            failed = await asyncio.wait_for(failures.get(), DEADLINE_S)
            assert isinstance(failed, errors.UnavailableError)
            port = int(server.address.rpartition(":")[2])
            await asyncio.to_thread(Server, server.directory, port=port)
            events += [await asyncio.wait_for(seen.get(), DEADLINE_S) for _ in range(2)]
        return [(event.key, event.value) for event in events]

    assert asyncio.run(main()) == [("a", 1), ("big", LARGE), ("c", 3)]


def test_event_of_a_damaged_value_says_so_and_the_next_one_comes(folder: Path) -> None:
    with DiskObject("data.obj") as d, d.watch() as w:
        d["big"] = LARGE
        d["c"] = 3
        for pack in Path("data.obj").rglob("*.pack"):
            content = bytearray(pack.read_bytes())
            content[1_000] ^= 1
            pack.write_bytes(content)
        big, last = next(w), next(w)
    assert (big.key, big.value, big.kind, last.key, last.unread) == ("big", None, "set", "c", None)
    assert isinstance(big, Event)
    assert isinstance(big.unread, errors.CorruptError)


def test_event_without_its_value_says_why_and_survives_pickling() -> None:
    event: Event = Event("k", None, None, "set", 7, None)
    assert event.unread is None
    unread = _records.unread_event(errors.InvalidError("too long"), event)
    for told in (unread, pickle.loads(pickle.dumps(unread)), copy.copy(unread)):
        key, value, old_value, kind, revision, origin = told
        assert (key, value, old_value, kind, revision, origin) == tuple(event) and told == event
        assert isinstance(told, Event)
        assert isinstance(told.unread, errors.InvalidError) and str(told.unread) == "too long"


def test_key_is_watched_alone_whatever_it_is(d: Object) -> None:
    with d.watch(key=None) as none, d.watch(key="a") as a, d.watch(key=("a", 1)) as pair:
        for key in ("a", "ab", None, ("a", 1), ("a", 2), "a"):
            d[key] = str(key)
        assert next(none).key is None
        assert [next(a).key for _ in range(2)] == ["a", "a"]
        assert next(pair).key == ("a", 1)
        assert none.get(timeout=0) is a.get(timeout=0) is pair.get(timeout=0) is None
    with pytest.raises(errors.InvalidError, match="key and a prefix"):
        d.watch(key="a", prefix="a")


def test_thousands_of_watches_of_one_object_each_hear_of_their_key(d: Object) -> None:
    watches = [d.watch(key=number) for number in range(5_000)]
    d.update({number: str(number) for number in range(5_000)})
    for number, watch in enumerate(watches):
        event = watch.get(timeout=DEADLINE_S)
        assert event is not None and (event.key, event.value) == (number, str(number))


def test_closing_ends_the_iteration_of_another_thread(d: Object) -> None:
    w = d.watch()
    ended = threading.Event()
    thread = threading.Thread(target=lambda: (list(w), ended.set()))
    thread.start()
    w.close()
    w.close()
    assert ended.wait(DEADLINE_S)
    thread.join(DEADLINE_S)
    assert w.closed


def test_closing_the_object_ends_its_watches(make: Maker) -> None:
    d = make()
    w = d.watch()
    d.close()
    assert list(w) == []


def test_watch_that_nobody_reads_loses_nothing(d: Object) -> None:
    count = 5000
    with d.watch() as w:
        with d.pipeline() as p:
            for number in range(count):
                p["key"] = number
        assert [next(w).value for _ in range(count)] == list(range(count))
