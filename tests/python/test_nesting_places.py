"""Live nesting: which element, key and object a change reaches, and what is a conflict."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import objsync
from conftest import Maker
from objsync import DiskObject, LiveList, Object, errors
from objsync._nested_root import UNREAD_COUNT_MAX, Root
from programs import Told

MANY = 70_000
"""More items than one patch takes."""
KEYS = 200
"""More keys than a handle's table of places holds before it is looked through."""


def inserted_before(l: list[Any]) -> None:
    x = l[0]
    l.insert(0, {})
    l.append(5)
    x["k"] = 1


def popped_before(l: list[Any]) -> None:
    x = l[1]
    l.pop(0)
    l.append(5)
    x["k"] = 1


def sorted_before(l: list[Any]) -> None:
    x = l[0]
    l.sort(key=len, reverse=True)
    l.append(3)
    x["k"] = 1


def removed_before(l: list[Any]) -> None:
    x = l[1]
    l.insert(0, {})
    l.remove({})
    l.remove(7)
    l.append(1)
    x["k"] = 1


def moved_on_two_levels(l: list[Any]) -> None:
    x = l[0][0]
    l[0].insert(0, {})
    l.insert(0, [{}])
    x["k"] = 1


def changed_twice_with_another_between(l: list[Any]) -> None:
    x, y = l[0], l[1]
    x["k"] = 1
    l.append({})
    x["k"] = 2
    y["k"] = 3


@pytest.mark.parametrize(
    ("begin", "change"),
    [
        ([{}], inserted_before),
        ([{"m": 1}], inserted_before),
        ([{}, {}], popped_before),
        ([{"a": 1}, {"a": 1, "b": 2}], sorted_before),
        ([7, {"m": 1}], removed_before),
        ([[{}], 5], moved_on_two_levels),
        ([{"id": 1}, {"id": 2}], changed_twice_with_another_between),
    ],
)
def test_element_is_the_one_it_was_after_changes_that_nobody_read(
    d: Object, begin: list[Any], change: Callable[[list[Any]], None]
) -> None:
    expected = copy.deepcopy(begin)
    d["l"] = begin
    change(d["l"])
    change(expected)
    assert d["l"] == expected


def test_element_stays_when_another_part_of_the_value_is_changed(d: Object) -> None:
    d["v"] = {"jobs": [{"id": 1}, {"id": 2}], "n": 0}
    v = d["v"]
    job = v["jobs"][0]
    job["state"] = "running"
    v["n"] = 1
    assert v["jobs"][0] is job
    job["state"] = "done"
    assert d["v"] == {"jobs": [{"id": 1, "state": "done"}, {"id": 2}], "n": 1}


def test_element_that_another_program_moved_right_after_us_is_found(folder: Path) -> None:
    with DiskObject("data.obj", {"l": [{}]}) as d, DiskObject("data.obj") as other:
        l = d["l"]
        x = l[0]
        l.insert(0, {})
        other["l"].append(5)
        d.sync()
        x["k"] = 1
        assert d["l"] == [{}, {"k": 1}, 5]


def test_element_that_was_replaced_by_an_equal_one_has_ended(d: Object) -> None:
    d["l"] = [{}, {}]
    l = d["l"]
    x = l[0]
    l[0] = {}
    with pytest.raises(errors.DetachedError):
        x["k"] = 1
    assert l == [{}, {}]


def test_field_of_any_key_ends_alone(d: Object) -> None:
    d["v"] = {None: {}, "b": {}}
    kept = d["v"][None]
    ended = d["v"]["b"]
    d["v"]["b"] = {}
    kept["k"] = 1
    with pytest.raises(errors.DetachedError):
        ended["k"] = 1
    assert d["v"] == {None: {"k": 1}, "b": {}}


def test_object_that_ends_has_its_own_last_change(d: Object) -> None:
    d["a"] = {"x": {"n": 0}}
    a, x = d["a"], d["a"]["x"]
    x["n"] = 1
    a["x"] = 5
    a["y"] = 6
    d["a"] = 7
    assert x == {"n": 1} and a == {"x": 5, "y": 6}


def test_every_key_has_one_object_however_many_were_read(d: Object) -> None:
    d.update({f"k{n}": [n] for n in range(KEYS)})
    for n in range(KEYS):
        d[f"k{n}"]
    x = d["k0"]
    x.append(1)
    assert d["k0"] is x
    d["k0"] = ["new"]
    with pytest.raises(errors.DetachedError):
        x.append(2)
    with d.watch() as w:
        d["k1"] += ["more"]
        assert next(w).kind == "patch"
    assert d["k0"] == ["new"] and d["k1"] == [1, "more"]


@pytest.mark.parametrize(
    "change",
    [
        lambda l: l.__setitem__(0, "x"),
        lambda l: l.insert(0, "x"),
        lambda l: l.pop(0),
        lambda l: l.__delitem__(0),
        lambda l: l.reverse(),
        lambda l: l.__setitem__(slice(0, 1), []),
    ],
    ids="set insert pop del reverse slice".split(),
)
def test_what_names_a_place_is_a_conflict_when_others_changed_the_list_since_it_was_read(
    folder: Path, change: Callable[[Any], Any]
) -> None:
    with DiskObject("data.obj", {"l": [1, 2], "n": 0}) as d, DiskObject("data.obj") as other:
        l = d["l"]
        assert l[0] == 1
        other["l"].insert(0, "theirs")
        d.sync()
        with pytest.raises(errors.ConflictError) as raised:
            change(l)
        assert raised.value.key == "l" and d["l"] == ["theirs", 1, 2]
        change(l)
        l.append(3)
        l.insert(0, 4)
        assert l[0] == 4 and l[-1] == 3, "what was changed from here is no conflict"


def test_element_that_grows_while_others_insert_is_not_put_over_theirs(folder: Path) -> None:
    with DiskObject("data.obj", {"l": [["a"]]}) as d, DiskObject("data.obj") as other:
        l = d["l"]

        def overtaken() -> Any:
            other["l"].insert(0, ["theirs"])
            d.sync()
            yield "x"

        with pytest.raises(errors.ConflictError):
            l[0] += overtaken()
        assert d["l"] == [["theirs"], ["a", "x"]]


def test_iterable_is_taken_once_though_the_change_is_decided_anew(folder: Path) -> None:
    with DiskObject("data.obj", {"v": {"l": [1], "n": 0}}) as d, DiskObject("data.obj") as other:
        l = d["v"]["l"]

        def overtaken() -> Any:
            other["v"]["n"] += 1
            yield from (4, 5)

        l[:] = overtaken()
        assert d["v"] == {"l": [4, 5], "n": 1}


def test_difference_of_a_set_keeps_what_others_add_meanwhile(folder: Path) -> None:
    with DiskObject("data.obj", {"s": {1, 2}}) as d, DiskObject("data.obj") as other:
        s = d["s"]

        def overtaken(member: int) -> Any:
            other["s"].add(member)
            d.sync()
            len(s)
            yield 1

        s.difference_update(overtaken(7))
        assert d["s"] == {2, 7}
        s.intersection_update({2, 7}, (one for n in [8] for one in (*overtaken(n), 2, 7)))
        assert d["s"] == {2, 7, 8}


class Fragile:
    readable = True

    def __init__(self, value: int) -> None:
        self.value = value


@pytest.fixture
def fragile() -> None:
    def decode(value: int) -> Fragile:
        if not Fragile.readable:
            raise ValueError("not now")
        return Fragile(value)

    Fragile.readable = True
    objsync.register(Fragile, name="Fragile", encode=lambda one: one.value, decode=decode)


def test_value_that_could_not_be_read_is_read_again(d: Object, fragile: None) -> None:
    d["a"] = {"n": 1}
    a = d["a"]
    d.transact(lambda t: t.__setitem__("b", {"n": 2, "o": Fragile(3)}))
    b = d["b"]
    d.list_append("log", 1)
    b["n"] = 3
    Fragile.readable = False
    for _ in range(3):
        with pytest.raises(errors.RebuildError):
            b["n"]
    Fragile.readable = True
    assert b["n"] == 3 and a["n"] == 1


def test_pop_of_what_cannot_be_given_out_removes_nothing(d: Object, fragile: None) -> None:
    d["a"] = {"o": Fragile(1), "l": [Fragile(2)]}
    a, l = d["a"], d["a"]["l"]
    assert len(a) == 2 and len(l) == 1
    Fragile.readable = False
    for pop in (lambda: a.pop("o"), l.pop):
        with pytest.raises(errors.RebuildError):
            pop()
    Fragile.readable = True
    assert d["a"]["o"].value == 1 and d["a"]["l"][0].value == 2


def test_what_reads_a_set_past_its_methods_sees_what_was_changed_from_here(d: Object) -> None:
    d["s"] = {1}
    s = d["s"]
    s.add(2)
    assert set(s) == {1, 2}
    s.discard(1)
    assert {*s} == {2} == frozenset() | s == frozenset(s)
    s |= {3, 4}
    s &= {2, 3}
    s ^= {5}
    assert {7: 0, 2: 0}.keys() - s == {7} and frozenset(s) == {2, 3, 5}
    d["copy"] = {"s": frozenset(s)}
    assert d["copy"]["s"] == {2, 3, 5}


def test_members_that_are_equal_are_one_member(folder: Path) -> None:
    with DiskObject("data.obj", {"s": {1}}) as d, DiskObject("data.obj") as other:
        s = d["s"]
        s.add((1, 2))
        s.add((1.0, 2))
        other["s"].add((3, 4))
        s.update([(3.0, 4), (5, 6)])
        s.remove((1.0, 2))
        s.discard((3.0, 4))
        d.sync()
        assert d["s"] == {1, (5, 6)} == other["s"]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [((1, 2), (1.0, 2)), (5, Decimal(5)), (2**70, float(2**70)), (frozenset({1}), frozenset({True}))],
)
def test_what_lies_under_an_equal_key_is_reached(d: Object, stored: Any, asked: Any) -> None:
    d["m"] = {stored: {"x": 0}}
    d["m"][asked]["x"] = 3
    d["m"].get(asked)["y"] = 4
    assert d["m"] == {stored: {"x": 3, "y": 4}} and d["m"][asked] is d["m"][stored]


@pytest.mark.parametrize(
    ("begin", "change"),
    [
        ([0], lambda l: l.extend(range(MANY))),
        ([0], lambda l: l.__setitem__(slice(0, 0), range(MANY))),
        ({0}, lambda s: s.update(range(MANY))),
        (set(range(MANY)), lambda s: s.intersection_update({1})),
        (set(range(MANY)), lambda s: operator.isub(s, set(range(1, MANY)))),
        ({0: 0}, lambda m: m.update(dict.fromkeys(range(MANY), 1))),
    ],
    ids="extend slice update intersection_update difference dict.update".split(),
)
def test_change_of_more_items_than_one_patch_names_is_still_one_step(
    folder: Path, begin: Any, change: Callable[[Any], Any]
) -> None:
    with DiskObject("data.obj", {"v": begin}, durability="buffered") as d:
        before, expected = d.status.revision, copy.deepcopy(begin)
        change(d["v"])
        change(expected)
        assert d["v"] == expected and d.status.revision == before + 1


def test_arguments_are_refused_as_by_a_plain_list(d: Object) -> None:
    d["l"] = [3, 2, 1]
    with pytest.raises(TypeError):
        d["l"].insert(None, 0)
    with pytest.raises(ValueError, match="modified during sort"):
        d["l"].sort(key=lambda one: d["l"].append(0) or one)
    assert d["l"] == [3, 2, 1, 0, 0, 0]


def test_views_name_the_dict_they_are_of(d: Object) -> None:
    d["m"] = {"a": 1}
    for view in (d["m"].keys(), d["m"].values(), d["m"].items()):
        assert view.mapping == {"a": 1}
        with pytest.raises(TypeError):
            view.mapping["a"] = 2


def test_list_that_was_appended_to_takes_changes_by_index(make: Maker) -> None:
    d = make({"l": [1]})
    l = d["l"]
    l.append(2)
    assert d["l"] is l
    l.extend([3])
    l.insert(0, 0)
    del l[1]
    assert l == [0, 2, 3]


@pytest.mark.parametrize("where", ["_take", "_fill_to", "_moved"])
def test_change_that_is_broken_off_half_way_ends_the_objects_and_none_writes_elsewhere(
    d: Object, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    d["jobs"] = [{"id": number} for number in range(3)]
    jobs = d["jobs"]
    job = jobs[1]
    whole = getattr(Root, where)

    def broken_off(*arguments: Any) -> Any:
        monkeypatch.setattr(Root, where, whole)
        raise KeyboardInterrupt

    monkeypatch.setattr(Root, where, broken_off)
    with pytest.raises(KeyboardInterrupt):
        jobs.insert(0, {"id": -1})
    with pytest.raises(errors.DetachedError):
        job["done"] = True
    assert d["jobs"] == [{"id": number} for number in range(-1, 3)] and d["jobs"] is d["jobs"]
    d["jobs"][2]["done"] = True
    assert d.copy()["jobs"][2] == {"id": 1, "done": True}


def test_read_that_is_broken_off_half_way_ends_the_objects_and_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d['l'] = [1, 2, 3]; d['m'] = {'x': [1]}")
        d.sync()
        held, inner = d["l"], d["m"]["x"]
        other.do("d['l'].insert(0, 'new'); d['m']['y'] = 1")
        d.sync()
        fill = LiveList._fill

        def broken_off(*arguments: Any) -> Any:
            monkeypatch.setattr(LiveList, "_fill", fill)
            raise KeyboardInterrupt

        monkeypatch.setattr(LiveList, "_fill", broken_off)
        with pytest.raises(KeyboardInterrupt):
            len(held)
        with pytest.raises(errors.DetachedError):
            held.pop(0)
        inner.append(2)
        assert d["l"].pop(0) == "new" and d.copy() == {"l": [1, 2, 3], "m": {"x": [1, 2], "y": 1}}


def test_object_that_is_only_written_lets_go_of_what_others_remove(folder: Path) -> None:
    with DiskObject(folder / "data.obj", {"l": [], "s": set()}, durability="buffered") as d:
        with DiskObject(folder / "data.obj") as other:
            held, members = d["l"], d["s"]
            for number in range(3 * UNREAD_COUNT_MAX):
                held.append(number)
                members.add(number)
                if number % 100 == 99:
                    other["l"], other["s"] = [], set()
            root = held._root
            known = len(root.value) + sum(map(len, root._late.values()))
            assert known <= UNREAD_COUNT_MAX + 100 and len(members._base) <= UNREAD_COUNT_MAX + 100
            assert len(held) == len(other["l"]) < 100
