"""Many processes and one dictionary: live, after fork, through multiprocessing, and after a kill."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Maker
from objsync import DiskObject, NetworkObject, Object
from programs import Program, stop_all

DEADLINE_S = 30.0


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


def program(code: str, *arguments: object) -> Program:
    path = Path(f"program-{len(list(Path().glob('program-*')))}.py")
    path.write_text(textwrap.dedent(code))
    return Program(path.resolve(), *map(str, arguments))


def in_fork(work: Any) -> int:
    """Runs `work` in a forked child and returns its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    signal.alarm(int(DEADLINE_S))
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.alarm(0)


OTHER = """
    import sys
    from objsync import DiskObject
    with DiskObject(sys.argv[1]) as d, d.watch() as w:
        d["other"] = "here"
        print(d.status.role, flush=True)
        for event in w:
            print(event.kind, event.key, event.value, event.old_value, flush=True)
            if event.key == "stop":
                break
"""


def test_two_processes_see_each_other_s_writes(folder: Path) -> None:
    with DiskObject("store") as d, d.watch(prefix="other") as w:
        other = program(OTHER, folder / "store")
        event = w.get(DEADLINE_S)
        assert event.value == "here"
        assert event.origin not in ("self", None)
        other.wait_for("peer")
        d["mine"] = {"a": (1, 2)}
        other.wait_for("set mine {'a': (1, 2)} None")
        d["mine"] = 3
        other.wait_for("set mine 3 {'a': (1, 2)}")
        d["stop"] = True
        assert other.last_line() == "set stop True None"
        assert d == {"mine": 3, "other": "here", "stop": True}


WRITER = """
    import sys
    from objsync import DiskObject
    d = DiskObject(sys.argv[1], durability=sys.argv[2])
    print("open", flush=True)
    number = 0
    while True:
        d[number] = [number, "x" * 100]
        print(number, flush=True)
        number += 1
"""


@pytest.mark.parametrize("durability", ["sync", "buffered"])
def test_kill_loses_nothing_that_was_acknowledged(folder: Path, durability: str) -> None:
    writer = program(WRITER, folder / "store", durability)
    writer.wait_for("100")
    writer.kill()
    last, deadline = 100, time.monotonic() + DEADLINE_S
    while (line := writer.next_line(deadline)) is not None:
        last = int(line)
    with DiskObject("store") as d:
        assert d.status.role == "owner"
        assert len(d) in (last + 1, last + 2)
        assert all(d[number] == [number, "x" * 100] for number in range(last + 1))


OWNER = """
    import sys
    from objsync import NetworkObject
    d = NetworkObject("127.0.0.1", int(sys.argv[1]))
    d["owner"] = True
    print(d.status.role, flush=True)
    sys.stdin.readline()
"""


def test_peer_takes_over_when_the_owner_is_killed(port: int) -> None:
    owner = program(OWNER, port)
    owner.wait_for("owner")
    with NetworkObject("127.0.0.1", port) as d:
        assert d.status.role == "peer"
        assert d["owner"] is True
        d["before"] = 1
        owner.kill()
        d["after"] = 2
        assert d.status.role == "owner"
        assert d == {"owner": True, "before": 1, "after": 2}


def test_forked_child_works_through_its_parent(make: Maker) -> None:
    with make(place="store") as d:
        d["parent"] = [1]
        assert d["parent"] == [1]

        def child() -> None:
            assert d["parent"] == [1]
            d["child"] = os.getpid()
            assert d.incr("n") == 1
            assert d.status.role == "peer", d.status

        assert in_fork(child) == 0
        d.sync()
        assert d["child"] != os.getpid()
        assert d.incr("n") == 2


def test_forked_child_that_closes_or_drops_leaves_the_parent_alone(make: Maker) -> None:
    with make(place="store") as d:
        d["a"] = 1

        def child() -> None:
            d.close()

        assert in_fork(child) == 0
        d["b"] = 2
        assert d == {"a": 1, "b": 2}
        assert d.status.role == "owner"


def test_forked_child_does_not_see_stale_cached_values(d: Object) -> None:
    d["a"] = "old"
    assert d["a"] == d["a"] == "old"
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(read, 1)
            d.sync()
            code = 0 if d["a"] == "new" else 2
        finally:
            os._exit(code)
    d["a"] = "new"
    os.write(write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(read)
    os.close(write)


FORKING_OWNER = """
    import os, signal, sys
    from objsync import DiskObject
    d = DiskObject(sys.argv[1])
    d["a"] = 1
    child = os.fork()
    if child == 0:
        signal.pause()
    print("child", child, flush=True)
    sys.stdin.readline()
"""


def test_sleeping_child_does_not_keep_a_dead_owner_alive(folder: Path) -> None:
    owner = program(FORKING_OWNER, folder / "store")
    child = int(owner.wait_for("child").split()[1])
    try:
        owner.process.kill()
        owner.process.wait(DEADLINE_S)
        with DiskObject("store") as d:
            assert d.status.role == "owner"
            d["b"] = 2
            assert d == {"a": 1, "b": 2}
    finally:
        os.kill(child, signal.SIGKILL)


def work(d: Object, name: str) -> int:
    for _ in range(20):
        d.incr("n")
    d[name] = os.getpid()
    return len(d["content"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_object_goes_to_the_processes_of_a_pool(make: Maker, method: str) -> None:
    if method == "forkserver":
        # One of an earlier test has the environment of that, with another OBJSYNC_HOME.
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    with make({"content": [1, 2, 3]}, place="store") as d:
        with multiprocessing.get_context(method).Pool(2) as pool:
            jobs = [pool.apply_async(work, (d, f"worker-{number}")) for number in range(2)]
            assert [job.get(DEADLINE_S) for job in jobs] == [3, 3]
            pool.close()
            pool.join()
        d.sync()
        assert d["n"] == 40
        assert os.getpid() not in (d["worker-0"], d["worker-1"])


def test_python_ends_while_objects_and_watches_are_open(folder: Path) -> None:
    ending = program(
        """
        import sys, threading
        from objsync import DiskObject
        d = DiskObject(sys.argv[1])
        w = d.watch(lambda event: None)
        blocked = threading.Thread(target=lambda: list(d.watch()))
        blocked.start()
        d["a"] = 1
        print("done", flush=True)
        d.close()
        DiskObject(sys.argv[1])["b"] = 2
        """,
        folder / "store",
    )
    assert ending.last_line() == "done"
    assert ending.errors() == ""
    with DiskObject("store") as d:
        assert d == {"a": 1, "b": 2}
