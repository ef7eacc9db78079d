"""Many threads on one handle, forks, pickles, and the ends that a handle can come to."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from conftest import Maker
from objsync import MISSING, DiskObject, NetworkObject, Object, errors
from programs import Program, Told, program, stop_all

DEADLINE_S = 60.0
SEEDS = range(int(os.environ.get("OBJSYNC_SEEDS", "2")))
THREADS = 6


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


def together(*works: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread of its own, all from one moment on; what they return, or the first error."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        start.wait(DEADLINE_S)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(DEADLINE_S) for future in [pool.submit(begin, work) for work in works]]


# Threads


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_on_one_handle_are_each_like_a_dict(make: Maker, seed: int) -> None:
    """Each thread has keys of its own, in which it must see a dict; what all share must add up."""
    print(f"seed {seed}")
    with make({"total": 0}, durability="buffered") as d:

        def work(number: int) -> tuple[dict[Any, Any], int, list[int]]:
            chance, model, added = random.Random(f"{seed}-{number}"), {}, 0
            taken: list[int] = []
            for turn in range(150):
                key, value = (number, chance.randrange(6)), [turn, {"by": number}]
                what = chance.randrange(9)
                if what == 0:
                    d[key] = model[key] = value
                elif what == 1:
                    assert d.pop(key, None) == model.pop(key, None)
                elif what == 2:
                    assert d.setdefault(key, value) == model.setdefault(key, value)
                elif what == 3:
                    pairs = {(number, place): turn for place in range(chance.randrange(4))}
                    d.update(pairs)
                    model.update(pairs)
                elif what == 4:
                    assert d.get(key, MISSING) == model.get(key, MISSING) and (key in d) == (key in model)
                elif what == 5:
                    assert dict(d.prefix((number,)).items()) == model
                elif what == 6:
                    d.incr("total", turn)
                    added += turn
                elif what == 7:
                    d.list_append("all", (number, turn))
                    taken.append(turn)
                else:
                    assert d.compare_and_set(key, model.get(key, MISSING), turn)
                    model[key] = turn
            return model, added, taken

        done = together(*[lambda number=number: work(number) for number in range(THREADS)])
        everything = {key: value for model, _, _ in done for key, value in model.items()}
        assert d.pop("total") == sum(added for _, added, _ in done)
        appended = d.pop("all")
        for number, (_, _, taken) in enumerate(done):
            assert [turn for by, turn in appended if by == number] == taken, "in the order of its thread"
        assert d == everything


def test_threads_that_close_and_read_end_well(make: Maker) -> None:
    for _ in range(10):
        d = make({"a": 1}, durability="buffered")
        raised: list[str] = []

        def use(d: Object = d, raised: list[str] = raised) -> None:
            try:
                while True:
                    d["a"], d.get("b"), list(d.items())
                    d.set("a", 1)
            except Exception as error:
                raised.append(type(error).__name__)

        together(use, use, d.close, d.close)
        assert raised == ["ClosedError", "ClosedError"]


def test_threads_that_change_one_live_list_lose_and_double_nothing(make: Maker) -> None:
    """A plan of one thread is not taken for one of what another has read meanwhile."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with make({"l": [], "d": {}}, durability="buffered") as d:
            shared, fields = d["l"], d["d"]

            def work(number: int) -> tuple[list[Any], list[Any]]:
                put, taken = [], []
                for turn in range(60):
                    with suppress(errors.ConflictError):
                        shared.insert(0, (number, turn))
                        put.append((number, turn))
                    shared.append((number, turn, "end"))
                    put.append((number, turn, "end"))
                    if turn % 3 == 0:
                        with suppress(IndexError):
                            taken.append(shared.pop())
                    fields[number] = turn
                    assert fields[number] == turn
                return put, taken

            done = together(*[lambda number=number: work(number) for number in range(4)])
            put = [entry for entries, _ in done for entry in entries]
            taken = [entry for _, entries in done for entry in entries]
            assert sorted(put) == sorted(taken + list(d["l"]))
            assert d["d"] == dict.fromkeys(range(4), 59)
    finally:
        sys.setswitchinterval(before)


# Processes that hammer one key

HAMMER = """
import os
def hammer(rounds):
    won, held = 0, []
    for turn in range(rounds):
        if d.setdefault(("round", turn), os.getpid()) == os.getpid():
            won += 1
        token = d.pop("token", None)
        if token is None:
            d.sync()
        else:
            held.append(token)
            d["token"] = token + 1
        try:
            d.set_add("seen", d.pop(("item", turn)))
        except KeyError:
            d.sync()
        d.incr("count")
    print(repr((won, held)), flush=True)
"""


def test_setdefault_and_pop_are_atomic_between_processes(make: Maker, tmp_path: Path) -> None:
    rounds, processes = 60, 3
    with make({"token": 0}, place="store", durability="buffered") as d:
        d.update({("item", turn): turn for turn in range(rounds)})
        place = d.status.address if isinstance(d, NetworkObject) else tmp_path / "store"
        others = [Told(place, durability="buffered") for _ in range(processes)]
        for other in others:
            other.do(HAMMER)
        results = [eval(text) for text in together(*[
            lambda other=other: other.do(f"hammer({rounds})") for other in others])]  # fmt: skip
        d.sync()
        assert sum(won for won, _ in results) == rounds, "one process wins each round"
        held = sorted(token for _, tokens in results for token in tokens)
        assert held == list(range(len(held))) and held, "nobody held what another one held"
        assert d["token"] == len(held)
        assert d["count"] == rounds * processes
        left = {key[1] for key in d.prefix(("item",))}
        assert d.get("seen", set()) | left == set(range(rounds)) and not d.get("seen", set()) & left
        assert {d[("round", turn)] for turn in range(rounds)} <= {other.pid for other in others}


def test_popitem_gives_each_entry_to_one_process(make: Maker, tmp_path: Path) -> None:
    with make(dict.fromkeys(range(90), "entry"), place="store", durability="buffered") as d:
        place = d.status.address if isinstance(d, NetworkObject) else tmp_path / "store"
        others = [Told(place, durability="buffered") for _ in range(2)]
        take = (
            "taken = []\nwhile True:\n    try:\n        taken.append(d.popitem()[0])\n"
            "    except KeyError:\n        break\nprint(repr(taken))"
        )
        first, second = (eval(text) for text in together(*[lambda other=other: other.do(take) for other in others]))
        assert sorted(first + second) == list(range(90))
        d.sync()
        assert not d


# Fork, spawn and pickles


def child_of(work: Callable[[], None]) -> int:
    """Runs `work` in a fork and returns its exit code."""
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


def test_child_and_its_child_are_clients_of_their_own(d: Object) -> None:
    d["by"] = []
    with d.watch(prefix="by") as w:

        def child() -> None:
            d.list_append("by", "child")
            assert child_of(lambda: d.list_append("by", "grandchild")) == 0
            d.list_append("by", "child again")
            assert d.status.role == "peer"

        assert child_of(child) == 0
        assert d["by"] == ["child", "grandchild", "child again"]
        assert d.status.role == "owner", "the parent is what it was"
        assert [len(next(w).value) for _ in range(3)] == [1, 2, 3], "and its watch goes on"


def test_fork_beside_threads_that_write_disturbs_nobody(d: Object) -> None:
    stop = threading.Event()

    def write() -> int:
        count = 0
        while not stop.is_set():
            count += 1
            d.incr("parent")
        return count

    def fork() -> list[int]:
        try:
            return [child_of(lambda: d.incr("child")) for _ in range(8)]
        finally:
            stop.set()

    one, two, codes = together(write, write, fork)
    assert codes == [0] * 8
    d.sync()
    assert d == {"parent": one + two, "child": 8}


def add(d: Object, by: int) -> int:
    d.incr("n", by)
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_handle_goes_to_a_pool_of_processes(make: Maker, method: str) -> None:
    with make({"n": 0}, place="store") as d:
        with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
            pids = set(pool.map(add, [d] * 10, range(10)))
        d.sync()
        assert d["n"] == 45 and os.getpid() not in pids


def test_pickle_holds_place_and_arguments_and_a_secret_only_with_a_link(folder: Path, port: int) -> None:
    with DiskObject("store", {"content": "not in the pickle"}, namespace="n") as d:
        pickled = pickle.dumps(d)
        assert str(folder / "store").encode() in pickled and b"not in the pickle" not in pickled
        assert (folder / "store" / "key").read_bytes() not in pickled
        assert (folder / "store" / "key").stat().st_mode & 0o777 == 0o600
    with NetworkObject("127.0.0.1", port, {"a": 1}) as owner:
        command = [program(), "--json", "--to", owner.status.address, "link"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        assert made.returncode == 0, made.stderr
        link = json.loads(made.stdout)["link"]
        with NetworkObject(link) as d:
            pickled = pickle.dumps(d)
            assert link.partition("key=")[2].encode() in pickled, "it is what the other process gets in with"
            with pickle.loads(pickled) as other, copy.deepcopy(d) as third:
                assert other == third == {"a": 1}


def test_closed_handle_is_pickled_as_one_that_opens(make: Maker) -> None:
    d = make({"a": 1}, place="store")
    d.close()
    with pickle.loads(pickle.dumps(d)) as other:
        assert other == {"a": 1}


# Ends


def test_handle_that_nobody_holds_is_closed(folder: Path) -> None:
    d = DiskObject("store", {"a": 1})
    d.myself = [d]  # type: ignore[attr-defined]  # a cycle
    gone = weakref.ref(d)
    with d.watch():
        pass
    del d
    gc.collect()
    assert gone() is None
    with Told(folder / "store") as other:
        assert other.do("print(d.status.role, dict(d))") == "owner {'a': 1}"


def test_view_or_iteration_keeps_its_handle(folder: Path) -> None:
    items = DiskObject("store", {"a": 1, "b": 2}).items()
    iteration = iter(DiskObject("store").keys())
    gc.collect()
    assert list(items) == [("a", 1), ("b", 2)]
    assert list(iteration) == ["a", "b"]


def ended(code: str, *arguments: object) -> Program:
    path = Path("ending.py")
    # A shell that runs the tests in the background has its children ignore Ctrl-C.
    head = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    path.write_text(head + textwrap.dedent(code))
    return Program(path.resolve(), *map(str, arguments))


ENDINGS = {
    "open handles, a cycle and a lock": """
        d = DiskObject(sys.argv[1])
        d.myself = d
        lock = d.lock("l")
        lock.acquire()
        other = DiskObject(sys.argv[1], namespace="other")
        views = d.items(), iter(d), d.batch(), d.pipeline(), d.snapshot()
        d["a"] = 1
    """,
    "a __del__ that writes": """
        class Keeper:
            def __init__(self): self.d = DiskObject(sys.argv[1])
            def __del__(self): self.d["a"] = 1; self.d.close()
        keeper = Keeper()
        del keeper
        class Late(Keeper):
            def __del__(self):
                try: self.d["late"] = 1
                except Exception: pass  # everything was closed before
        late = Late()
    """,
    "a thread that is blocked": """
        d = DiskObject(sys.argv[1])
        w = d.watch()
        threading.Thread(target=lambda: list(w), daemon=True).start()
        def wait():
            try: d.lock("l").acquire() and d.lock("l").acquire()
            except errors.ClosedError: pass
        threading.Thread(target=wait).start()
        d["a"] = 1
    """,
    "an event loop that was left": """
        async def main():
            d = await aio.DiskObject(sys.argv[1])
            await d.set("a", 1)
            asyncio.ensure_future(anext(aiter(await d.watch())))
            asyncio.ensure_future(d.lock("l").acquire())
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "an exception": """
        d = DiskObject(sys.argv[1])
        d["a"] = 1
        d.pipeline()["b"] = 1
        sys.exit(0)
    """,
}


@pytest.mark.parametrize("name", ENDINGS)
def test_python_ends_well_with(name: str, folder: Path) -> None:
    head = "import asyncio, sys, threading\nfrom objsync import DiskObject, aio, errors\n"
    process = ended(head + textwrap.dedent(ENDINGS[name]) + '\nprint("end", flush=True)\n', folder / "store")
    if name == "an exception":
        assert process.end_of_input() == 0
    else:
        assert process.last_line() == "end"
    assert process.errors() == ""
    with DiskObject("store") as d:
        assert d["a"] == 1 and d.status.role == "owner"


def test_ctrl_c_in_a_call_that_waits_ends_it_and_the_handle_goes_on(folder: Path) -> None:
    process = ended(
        """
        import sys
        from objsync import DiskObject
        with DiskObject(sys.argv[1]) as d, DiskObject(sys.argv[1]) as other:
            with other.lock("l"), d.watch() as w:
                for wait in (lambda: next(w), lambda: d.lock("l").acquire(), lambda: list(w)):
                    try:
                        print("waiting", flush=True)
                        wait()
                    except KeyboardInterrupt:
                        d.incr("n")
                        assert next(w).value == d["n"]
        print("end", d.status.role, flush=True)
        """,
        folder / "store",
    )
    for _ in range(3):
        process.wait_for("waiting")
        # The line is said just before the call: a signal in between is KeyboardInterrupt all the same.
        process.process.send_signal(signal.SIGINT)
    assert process.last_line() == "end closed"
    with DiskObject("store") as d:
        assert d["n"] == 3


def test_ctrl_c_in_an_event_loop_cancels_and_closes(folder: Path) -> None:
    process = ended(
        """
        import asyncio, sys
        from objsync import aio
        async def main():
            async with aio.DiskObject(sys.argv[1]) as d, d.watch() as w:
                await d.set("a", 1)
                await anext(aiter(w))
                print("waiting", flush=True)
                try:
                    await anext(aiter(w))
                finally:
                    await d.set("b", 2)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("end", flush=True)
        """,
        folder / "store",
    )
    process.wait_for("waiting")
    process.process.send_signal(signal.SIGINT)
    assert process.last_line() == "end"
    assert process.errors() == ""
    with DiskObject("store") as d:
        assert d == {"a": 1, "b": 2}


