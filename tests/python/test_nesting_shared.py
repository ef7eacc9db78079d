"""Live nesting between handles, processes and after a kill."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from objsync import DiskObject, errors
from programs import Told, stop_all

ROUNDS = 40
scalars = st.sampled_from([0, 1, True, 2.5, "a", "b", None, (1, 2)])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", 1]), inner, max_size=3),
        st.frozensets(scalars, max_size=3).map(set),
    ),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


class SharedContainers(RuleBasedStateMachine):
    """Goal: whatever is done through two handles to containers inside a value, both see what a plain
    value is after the same. An object that is held is the one of its place, or refuses changes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        place = Path(self.folder.name) / "data.obj"
        self.handles = [DiskObject(place, durability="buffered") for _ in range(2)]
        self.model: Any = {}
        self.held: list[Any] = []

    @initialize(value=st.dictionaries(st.sampled_from(["d", "l", "s"]), values, min_size=1))
    def begin(self, value: dict[str, Any]) -> None:
        self.handles[0]["v"] = value
        self.model = copy.deepcopy(value)

    def container(self, which: int, path: list[int]) -> tuple[Any, Any]:
        """A container somewhere inside, live and in the model."""
        live, model = self.handles[which]["v"], self.model
        for step in path:
            places = range(len(model)) if isinstance(model, list) else list(model)
            inner = [p for p in places if isinstance(model[p], dict | list)] if not isinstance(model, set) else []
            if not inner:
                break
            place = inner[step % len(inner)]
            live, model = live[place], model[place]
        return live, model

    def both(self, live: Any, model: Any, name: str, *arguments: Any) -> None:
        results = []
        for target in (live, model):
            given_to = copy.deepcopy(arguments)
            try:
                results.append((None, copy.deepcopy(getattr(target, name)(*given_to))))
            except (KeyError, IndexError, ValueError, TypeError) as error:
                results.append((type(error), None))
        if not name.startswith("__i"):
            assert results[0] == results[1], (name, arguments)

    @rule(
        which=st.integers(0, 1),
        path=st.lists(st.integers(0, 9), max_size=3),
        name=st.integers(0, 30),
        key=st.sampled_from(["x", "y", 1, 1.0]),
        value=values,
        at=st.integers(-4, 4),
        to=st.integers(-4, 4),
        keep=st.booleans(),
    )
    def change(
        self, which: int, path: list[int], name: int, key: Any, value: Any, at: int, to: int, keep: bool
    ) -> None:
        live, model = self.container(which, path)
        member = "m" if isinstance(value, dict | list | set) else value
        if isinstance(model, dict):
            rows: list[tuple[Any, ...]] = [
                ("__setitem__", key, value),
                ("__setitem__", key, value),
                ("__delitem__", key),
                ("pop", key, None),
                ("setdefault", key, value),
                ("update", {key: value, "z": member}),
                ("__ior__", {key: value}),
                ("popitem",),
            ]
        elif isinstance(model, list):
            rows = [
                ("append", value),
                ("append", value),
                ("extend", [value, member]),
                ("__iadd__", [value]),
                ("insert", at, value),
                ("pop",),
                ("pop", at),
                ("remove", member),
                ("__setitem__", at, value),
                ("__setitem__", slice(at, to), [value, member]),
                ("__delitem__", slice(at, to)),
                ("__delitem__", slice(None, None, -2)),
                ("reverse",),
                ("clear",),
            ]
        else:
            rows = [
                ("add", member),
                ("discard", member),
                ("update", [member, key]),
                ("__ixor__", {member, key}),
                ("__iand__", {member, key}),
                ("__isub__", {member}),
            ]
        row = rows[name % len(rows)]
        if keep:
            self.held.append(live)
        self.both(live, model, *row)

    @invariant()
    def both_handles_see_what_a_plain_value_is(self) -> None:
        for handle in self.handles:
            if self.model:
                assert handle["v"] == self.model
                assert copy.deepcopy(handle["v"]) == handle.copy()["v"]

    @invariant()
    def object_that_is_held_is_that_of_its_place_or_refuses(self) -> None:
        for live in self.held[-4:]:
            repr(live)
            place = self.model
            try:
                for step in live._path:
                    place = place[step]
            except (KeyError, IndexError, TypeError):
                place = None
            if type(live._root.source).__name__ == "Gone":
                with pytest.raises(errors.DetachedError):
                    live.clear()
            else:
                assert live == place

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
        self.folder.cleanup()


TestSharedContainers = SharedContainers.TestCase
TestSharedContainers.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_two_processes_that_change_one_value_lose_nothing(folder: Path) -> None:
    work = (
        "for n in range({count}):\n"
        "    d['v']['log'].append(({name!r}, n))\n"
        "    d['v']['log2'] += [n]\n"
        "    d['v'][f'{name}-{{n}}'] = n\n"
        "    d['v']['set'].add(({name!r}, n))\n"
        "    d['v']['n'].incr('hits')\n"
        "    d['v']['deep']['x'][{name!r}] = n"
    )
    begin = {"log": [], "log2": [], "set": set(), "n": {}, "deep": {"x": {}}}
    with Told(folder / "data.obj", durability="buffered") as one, Told(folder / "data.obj") as two:
        one.do(f"d['v'] = {begin!r}")
        two.do("d.sync()")
        for name, other in (("one", one), ("two", two)):
            other.say(__import__("json").dumps(work.format(count=ROUNDS, name=name)))
        one.wait_for("> done")
        two.wait_for("> done")
        two.do("d.sync()")
        with DiskObject(folder / "data.obj") as d:
            value = d.copy()["v"]
    pairs = {(name, n) for name in ("one", "two") for n in range(ROUNDS)}
    assert set(value["log"]) == pairs and len(value["log"]) == 2 * ROUNDS
    for name in ("one", "two"):
        own = [n for who, n in value["log"] if who == name]
        assert own == list(range(ROUNDS)), "each one's own are in order"
        assert all(value[f"{name}-{n}"] == n for n in range(ROUNDS))
    assert sorted(value["log2"]) == sorted([*range(ROUNDS)] * 2)
    assert value["set"] == pairs and value["n"] == {"hits": 2 * ROUNDS}
    assert value["deep"] == {"x": {"one": ROUNDS - 1, "two": ROUNDS - 1}}


def test_each_item_of_a_list_is_popped_by_one_process(folder: Path) -> None:
    take = "got = []\nwhile True:\n    try: got.append(d['jobs'].pop())\n    except IndexError: break\nprint(got)"
    with Told(folder / "data.obj", durability="buffered") as one, Told(folder / "data.obj") as two:
        one.do(f"d['jobs'] = list(range({ROUNDS}))")
        two.do("d.sync()")
        for other in (one, two):
            other.say(__import__("json").dumps(take))
        got = [eval(other.wait_for("[")) for other in (one, two)]
    assert sorted(got[0] + got[1]) == list(range(ROUNDS))


def test_change_that_returned_is_there_after_a_kill(folder: Path) -> None:
    for round_ in range(3):
        with Told(folder / "data.obj") as other:
            other.do("d.setdefault('v', {'l': [], 'd': {}, 's': set()})")
            other.do(f"d['v']['l'].append({round_}); d['v']['d'][{round_}] = [1]")
            other.do(f"d['v']['d'][{round_}].insert(0, 'x'); d['v']['s'] |= {{{round_}}}")
            other.process.kill()
            other.process.wait()
        with DiskObject(folder / "data.obj") as d:
            done = range(round_ + 1)
            expected = {"l": [*done], "d": {n: ["x", 1] for n in done}, "s": {*done}}
            assert d["v"] == expected


def test_object_sees_what_another_process_does_and_ends_with_its_value(folder: Path) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d['v'] = {'x': {'y': 1}, 'l': [1]}")
        d.sync()
        v, x, items = d["v"], d["v"]["x"], d["v"]["l"]
        other.do("d['v']['x']['y'] = 2; d['v']['l'].append(2); d['v']['new'] = 1")
        d.sync()
        assert (x, items, v["new"]) == ({"y": 2}, [1, 2], 1) and d["v"] is v
        other.do("d['v']['x'] = 5")
        d.sync()
        assert x == {"y": 2} and v["x"] == 5
        with pytest.raises(errors.DetachedError):
            x["y"] = 3
        other.do("del d['v']")
        with pytest.raises(errors.DetachedError):
            v["late"] = 1
        with pytest.raises(errors.DetachedError):
            items.append(3)
        assert "v" not in d
        other.do("d['v'] = [1]")
        d.sync()
        assert d["v"] == [1] and v["l"] == [1, 2], "what it was when it ended"
