"""Live nesting in several threads of one process, which take turns as often as Python can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject, LiveDict, _nested

THREADS = 6
ROUNDS = 60
DEADLINE_S = 60
SWITCH_S = 5e-6


@pytest.fixture(autouse=True)
def many_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    yield
    sys.setswitchinterval(before)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Runs functions in threads at once; raises what they raise, and fails if they hang."""
    pool = ThreadPoolExecutor(len(work))
    try:
        return [done.result(DEADLINE_S) for done in [pool.submit(one) for one in work]]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def test_two_values_that_are_put_into_each_other_at_once_do_not_hang(folder: Path) -> None:
    with DiskObject("data.obj", {"a": {}, "b": {}}, durability="buffered") as d:

        def put(one: Any, other: Any) -> None:
            for n in range(10 * ROUNDS):
                one["n"] = n
                one["x"] = other
                one["x"] = 0

        together(lambda: put(d["a"], d["b"]), lambda: put(d["b"], d["a"]))
        assert d["a"]["n"] == d["b"]["n"] == 10 * ROUNDS - 1


def test_sort_key_may_wait_for_a_thread_that_changes_the_same_value(folder: Path) -> None:
    with (
        DiskObject("data.obj", {"v": {"l": [2, 1], "x": 0}}) as d,
        DiskObject("data.obj") as other,
        ThreadPoolExecutor(1) as pool,
    ):
        v = d["v"]

        def ask(one: int) -> int:
            other["v"]["x"] = one
            d.sync()
            return len(v) and one

        v["l"].sort(key=lambda one: pool.submit(ask, one).result(DEADLINE_S))
        assert d["v"]["l"] == [1, 2]


def test_own_change_is_seen_and_nobody_is_told_of_a_change_past_methods(folder: Path) -> None:
    with DiskObject("data.obj", {"v": {"l": [], "s": set(), "d": {"x": {"k": 0}}}}, durability="buffered") as d:
        v = d["v"]
        l, s, inner = v["l"], v["s"], v["d"]

        def work(name: int) -> None:
            for n in range(ROUNDS):
                l.append((name, n))
                assert l.count((name, n)) == 1
                l.remove((name, n))
                s.add(name)
                assert name in s
                s.remove(name)
                assert name not in s
                inner[f"f{name}"] = n
                assert inner[f"f{name}"] == n and inner["x"]["k"] == 0

        together(*(lambda name=name: work(name) for name in range(THREADS)))
        assert l == [] and s == set()


def test_nothing_is_current_before_all_objects_have_taken_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DiskObject("data.obj", {"v": {"d": {"n": 0}}}) as d, DiskObject("data.obj") as other:
        v, inner = d["v"], d["v"]["d"]
        other["v"]["d"]["n"] = 1
        d.sync()
        fill, current = LiveDict._fill, []

        def watched(self: LiveDict, *given: Any) -> None:
            current.append(v._root.is_current())
            fill(self, *given)

        monkeypatch.setattr(LiveDict, "_fill", watched)
        assert inner["n"] == 1 and current == [False, False] and v._root.is_current()


def test_object_that_another_thread_fills_just_now_was_not_changed_past_its_methods(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DiskObject("data.obj", {"s": {1}}) as d, ThreadPoolExecutor(1) as pool:
        s, compared = d["s"], threading.Event()
        same_items = _nested.native_live.same_items

        class Watched:
            @staticmethod
            def same_items(one: Any, other: Any) -> bool:
                result = same_items(one, other)
                compared.set()
                return result

        monkeypatch.setattr(_nested, "native_live", Watched)
        with s._root.lock:
            set.clear(s)
            adding = pool.submit(s.add, 2)
            assert compared.wait(DEADLINE_S)
            set.add(s, 1)
        adding.result(DEADLINE_S)
        assert s == {1, 2}


def test_reader_finds_what_is_always_there_while_others_change_and_pop_the_rest(folder: Path) -> None:
    many = {"m": {str(n): {"k": n} for n in range(40)}, "l": list(range(100))}
    with DiskObject("data.obj", {"v": many | {f"x{n}": n for n in range(100)}}, durability="buffered") as d:
        v = d["v"]
        m, l, done = v["m"], v["l"], threading.Event()

        def write(name: int) -> None:
            for n in range(4 * ROUNDS):
                v[f"w{name}"] = n
                m[f"z{name}"] = {"q": n}
                assert m.pop(f"z{name}") == {"q": n}

        def read(name: int) -> None:
            while not done.is_set():
                assert v[f"x{name}"] == name and v.get(f"x{name}") == name and f"x{name}" in v
                assert l[name] == name and len(l) == 100 and list(l)[name] == name
                assert m[str(name)]["k"] == name and dict(m.items())["3"]["k"] == 3

        def write_all() -> None:
            try:
                together(*(lambda name=name: write(name) for name in range(2)))
            finally:
                done.set()

        together(write_all, *(lambda name=name: read(name) for name in range(THREADS)))


def test_place_has_one_object_and_it_is_not_stale_whoever_read_it_when(folder: Path) -> None:
    with DiskObject("data.obj", {"v": {"l": []}}, durability="buffered") as d:
        v = d["v"]

        def read() -> Any:
            for _ in range(20):
                x = v["l"]
            return x

        def write() -> Any:
            for n in range(5):
                v["l"].append(n)
            return v["l"]

        for _ in range(4 * ROUNDS):
            v["l"] = []
            found = together(write, *[read] * THREADS)
            truth = v["l"]
            for x in found:
                assert x is truth and x == [0, 1, 2, 3, 4]
            del found, truth, x
