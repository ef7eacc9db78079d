"""Live nesting: containers of a dictionary are dicts, lists and sets that write through."""

from __future__ import annotations

import bisect
import copy
import dataclasses
import decimal
import heapq
import json
import operator
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from conftest import Maker
from objsync import DiskObject, LiveDict, LiveList, LiveSet, Object, errors
from objsync._nested_root import Root
from programs import Told

Change = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """A value with every live object replaced by what it is."""
    return copy.deepcopy(value)


# One row for each method, and each form of it: what is there first, and what is done to it.
DICT: list[tuple[str, Change]] = [
    ("set", lambda d: d.__setitem__("new", [1])),
    ("set again", lambda d: d.__setitem__("a", 5)),
    ("set number", lambda d: d.__setitem__(1.0, "one")),
    ("del", lambda d: d.__delitem__("a")),
    ("del missing", lambda d: d.__delitem__("none")),
    ("pop", lambda d: d.pop("a")),
    ("pop container", lambda d: d.pop("l")),
    ("pop missing", lambda d: d.pop("none")),
    ("pop default", lambda d: d.pop("none", 7)),
    ("popitem", lambda d: d.popitem()),
    ("setdefault", lambda d: d.setdefault("a", 2)),
    ("setdefault new", lambda d: d.setdefault("new", [])),
    ("setdefault none", lambda d: d.setdefault("new")),
    ("update", lambda d: d.update({"a": 2, "z": 3}, b=4)),
    ("update pairs", lambda d: d.update([("y", 1), ("a", 0)])),
    ("update nothing", lambda d: d.update()),
    ("|=", lambda d: operator.ior(d, {"a": 9, "l": 0})),
    ("clear", lambda d: d.clear()),
    ("set unhashable", lambda d: d.__setitem__([], 1)),
    ("exotic key", lambda d: d.update({10**30: 1, (1, 2): 2})),
    ("nested", lambda d: d["d"].__setitem__("x", {"y": 1})),
    ("nested list", lambda d: d["l"].append({})),
]
LIST: list[tuple[str, Change]] = [
    ("append", lambda v: v.append(7)),
    ("append container", lambda v: v.append({"a": [1]})),
    ("extend", lambda v: v.extend(iter([1, 2]))),
    ("extend nothing", lambda v: v.extend([])),
    ("+=", lambda v: operator.iadd(v, (8, 9))),
    ("*=", lambda v: operator.imul(v, 2)),
    ("*= 0", lambda v: operator.imul(v, 0)),
    ("*= 1", lambda v: operator.imul(v, 1)),
    ("insert", lambda v: v.insert(1, "x")),
    ("insert far", lambda v: v.insert(99, "x")),
    ("insert negative", lambda v: v.insert(-1, "x")),
    ("remove", lambda v: v.remove(1)),
    ("remove equal", lambda v: v.remove(1.0)),
    ("remove container", lambda v: v.remove({"k": 0})),
    ("remove missing", lambda v: v.remove("none")),
    ("pop", lambda v: v.pop()),
    ("pop first", lambda v: v.pop(0)),
    ("pop negative", lambda v: v.pop(-2)),
    ("pop far", lambda v: v.pop(99)),
    ("clear", lambda v: v.clear()),
    ("set", lambda v: v.__setitem__(1, "x")),
    ("set negative", lambda v: v.__setitem__(-1, [1])),
    ("set far", lambda v: v.__setitem__(99, 1)),
    ("slice", lambda v: v.__setitem__(slice(1, 3), ["x", "y", "z"])),
    ("slice empty", lambda v: v.__setitem__(slice(1, 1), ["x"])),
    ("slice stepped", lambda v: v.__setitem__(slice(None, None, 2), ["x"] * 3)),
    ("slice wrong", lambda v: v.__setitem__(slice(None, None, 2), ["x"])),
    ("slice all", lambda v: v.__setitem__(slice(None), [])),
    ("del", lambda v: v.__delitem__(0)),
    ("del negative", lambda v: v.__delitem__(-1)),
    ("del far", lambda v: v.__delitem__(99)),
    ("del slice", lambda v: v.__delitem__(slice(1, 3))),
    ("del stepped", lambda v: v.__delitem__(slice(None, None, 2))),
    ("reverse", lambda v: v.reverse()),
    ("sort by repr", lambda v: v.sort(key=repr)),
    ("sort down", lambda v: v.sort(key=repr, reverse=True)),
    ("sort what has no order", lambda v: v.sort()),
    ("insort", lambda v: bisect.insort(v, 5, key=repr)),
    ("nested", lambda v: v[2].__setitem__("k", 2)),
    ("nested list", lambda v: v[3].append(5)),
]
SET: list[tuple[str, Change]] = [
    ("add", lambda s: s.add("x")),
    ("add there", lambda s: s.add(1.0)),
    ("add unhashable", lambda s: s.add([])),
    ("discard", lambda s: s.discard(1)),
    ("discard missing", lambda s: s.discard("none")),
    ("remove", lambda s: s.remove(True)),
    ("remove missing", lambda s: s.remove("none")),
    ("remove tuple", lambda s: s.remove((1.0, 2))),
    ("remove set", lambda s: s.remove({5})),
    ("update", lambda s: s.update([1, 2], {"x"})),
    ("update nothing", lambda s: s.update()),
    ("|=", lambda s: operator.ior(s, {"x", 1})),
    ("&=", lambda s: operator.iand(s, {1, "a"})),
    ("-=", lambda s: operator.isub(s, {1, "none"})),
    ("^=", lambda s: operator.ixor(s, {1, "x"})),
    ("|= list", lambda s: operator.ior(s, [1])),
    ("intersection_update", lambda s: s.intersection_update([1, 2], [1])),
    ("difference_update", lambda s: s.difference_update([1], ["a"])),
    ("symmetric_difference_update", lambda s: s.symmetric_difference_update([1, "x"])),
    ("clear", lambda s: s.clear()),
]
VALUES: dict[str, Any] = {
    "dict": {"a": 1, 1: 2, "l": [1], "d": {"x": 1}},
    "list": [1, "two", {"k": 0}, [3], 1],
    "set": {1, "a", (1, 2), frozenset({5})},
}
ROWS = [
    pytest.param(kind, change, id=f"{kind} {name}")
    for kind, table in (("dict", DICT), ("list", LIST), ("set", SET))
    for name, change in table
]


def done(change: Change, value: Any) -> Any:
    """What a change returns, or the type of what it raises."""
    try:
        result = change(value)
    except Exception as error:
        return type(error)
    return plain(result)


@pytest.mark.parametrize("place", ["top", "field", "element"])
@pytest.mark.parametrize(("kind", "change"), ROWS)
def test_change_is_that_of_a_plain_container_and_is_stored(
    make: Maker, kind: str, change: Change, place: str
) -> None:
    value, expected = copy.deepcopy(VALUES[kind]), copy.deepcopy(VALUES[kind])
    around = {"top": value, "field": {"f": value}, "element": [0, value]}[place]
    d = make({"k": around})
    inner = {"top": lambda: d["k"], "field": lambda: d["k"]["f"], "element": lambda: d["k"][1]}[place]
    live = inner()
    raised, expected_raised = done(change, live), done(change, expected)
    if isinstance(expected_raised, type):
        assert isinstance(raised, type) and issubclass(raised, expected_raised)
    else:
        assert raised == expected_raised
    assert live == expected and inner() is live
    stored = d.copy()["k"]
    stored = stored if place == "top" else stored["f" if place == "field" else 1]
    assert stored == expected and type(stored) is type(expected)
    if kind == "dict":
        assert list(stored) == list(expected), "the order is that of a dict"


def test_set_gives_away_each_item_once(d: Object) -> None:
    d["s"] = {1, 2, 3}
    assert {d["s"].pop(), d["s"].pop(), d["s"].pop()} == {1, 2, 3}
    with pytest.raises(KeyError):
        d["s"].pop()


def test_value_that_is_held_is_the_same_object_and_sees_what_is_there(d: Object) -> None:
    d["a"] = {"x": {"y": [1]}}
    a = d["a"]
    assert d["a"] is a and d["a"]["x"] is a["x"] and a["x"]["y"] is d["a"]["x"]["y"]
    assert d.get("a") is a and dict(d.items())["a"] is a and next(iter(d.values())) is a
    y = a["x"]["y"]
    d["a"]["x"]["y"].append(2)
    assert y == [1, 2] and a == {"x": {"y": [1, 2]}}
    del a
    assert d["a"]["x"]["y"] is y, "also when what it lies in was let go"


def test_it_is_what_it_looks_like(d: Object) -> None:
    value = {"d": {"a": 1}, "l": [1, {"b": [2]}], "s": {1, 2}, "t": (1, [2])}
    d["v"] = value
    v = d["v"]
    assert isinstance(v, dict) and isinstance(v["l"], list) and isinstance(v["s"], set)
    assert (type(v), type(v["l"]), type(v["s"])) == (LiveDict, LiveList, LiveSet)
    assert v == value and value == v and not v != value and v["l"] == value["l"] and v["s"] == {2, 1}
    assert repr(v) == repr(value) and str(v["l"]) == str(value["l"])
    without = {k: x for k, x in value.items() if k in "dl"}
    del v["s"], v["t"]
    assert json.loads(json.dumps(v)) == without and json.dumps(v["l"]) == json.dumps(without["l"])
    for copied in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        assert copied == without and type(copied) is dict and type(copied["l"][1]) is dict
    shallow = copy.copy(v)
    assert type(shallow) is dict and shallow["l"] is v["l"], "as of any shallow copy"
    assert {**v} == dict(v) == v | {} == {} | v == without
    assert [*v["l"]] == list(v["l"]) == v["l"] + [] == [] + v["l"] == v["l"] * 1 == without["l"]
    assert v["l"][::-1] == without["l"][::-1] and v["l"] < [2] and sorted(v) == ["d", "l"]
    match v:
        case {"l": [1, {"b": [number]}], **rest}:
            assert number == 2 and rest == {"d": {"a": 1}}
        case _:
            pytest.fail("no pattern matched")
    with pytest.raises(TypeError):
        hash(v)
    made = [LiveDict(a=1), LiveDict([("a", 1)]), LiveList("ab"), LiveSet("a"), type(v)((k, k) for k in v)]
    assert made == [{"a": 1}, {"a": 1}, ["a", "b"], {"a"}, {"d": "d", "l": "l"}]
    assert [type(one) for one in made] == [dict, dict, list, set, dict], "code that makes another gets a plain one"


def test_values_go_through_dataclasses_that_are_made_plain_again(d: Object) -> None:
    kind = dataclasses.make_dataclass("Config", ["limits", "tags"])
    d["cfg"] = {"limits": {"cpu": 1}, "tags": [{"a": 1}]}
    plain_one = dataclasses.asdict(kind(**d["cfg"]))
    assert plain_one == d["cfg"] and type(plain_one["limits"]) is dict and type(plain_one["tags"]) is list
    plain_one["limits"]["cpu"] = 2
    assert d["cfg"]["limits"]["cpu"] == 1


@pytest.mark.parametrize("odd", [decimal.Decimal(5), numpy.int64(5), 5 + 0j], ids=["Decimal", "numpy", "complex"])
def test_key_that_equals_a_stored_one_of_another_type_is_that_key(d: Object, odd: Any) -> None:
    d["h"], d["s"] = {odd: 1, "n": {odd: 1}}, {odd, "a"}
    h, s = d["h"], d["s"]
    h[5] += 1
    h["n"][5] = 7
    h.update({5: 3, 6: 4})
    assert h == {5: 3, 6: 4, "n": {5: 7}} and d.copy()["h"] == h and type(next(iter(h))) is type(odd)
    assert h.pop(5) == 3 and 5 not in h and 5 not in d.copy()["h"]
    del h["n"][5]
    s.add(5)
    assert len(d.copy()["s"]) == 2
    s.discard(5)
    assert d.copy()["s"] == {"a"} == s and d.copy()["h"] == {6: 4, "n": {}}


def test_views_of_a_dict_are_those_of_a_dict(d: Object) -> None:
    plain_one = {"a": 1, "b": [2], "c": 1}
    d["v"] = plain_one
    v = d["v"]
    assert list(v.keys()) == list(plain_one) and list(v.values()) == list(plain_one.values())
    assert list(v.items()) == list(plain_one.items()) and repr(v.keys()) == repr(plain_one.keys())
    assert list(reversed(v)) == ["c", "b", "a"] == list(reversed(v.keys()))
    assert list(reversed(v.items()))[0] == ("c", 1) and list(reversed(v.values())) == [1, [2], 1]
    assert v.keys() & {"a", "z"} == {"a"} and v.keys() == {"a", "b", "c"} and ("a", 1) in v.items()
    for key, value in v.items():
        if key == "b":
            value.append(3)
        else:
            v[key] = 0
    assert v == {"a": 0, "b": [2, 3], "c": 0}
    keys = v.keys()
    v["d"] = 1
    assert len(keys) == 4, "a view is of what is there"


def test_set_operations_are_those_of_a_set(d: Object) -> None:
    d["s"], other = {1, 2, 3}, {3, 4}
    s = d["s"]
    for operation in (operator.or_, operator.and_, operator.sub, operator.xor):
        assert operation(s, other) == operation({1, 2, 3}, other)
        assert operation(other, s) == operation(other, {1, 2, 3})
        assert type(operation(s, other)) is set
    assert s.union([9]) == {1, 2, 3, 9} and s.intersection([1]) == {1} and s.difference([1]) == {2, 3}
    assert s.isdisjoint({7}) and s.issubset({1, 2, 3, 4}) and s.issuperset({1})
    assert s <= {1, 2, 3} and s < {1, 2, 3, 4} and {1} < s and s >= {1} and s > {1} and 2 in s
    assert s.symmetric_difference([3, 4]) == {1, 2, 4} and s.copy() == {1, 2, 3} == frozenset(s)


def test_object_that_is_put_in_its_own_place_changes_nothing(d: Object) -> None:
    d["a"] = {"l": [1], "n": [[0]]}
    before = d.status.revision
    d["a"] = d["a"]
    d["a"]["l"] = d["a"]["l"]
    d["a"]["n"][0] = d["a"]["n"][0]
    assert d.status.revision == before
    d["a"]["l"] += [2]
    d["a"]["n"][0] += [1]
    d["a"] |= {"x": 1}
    assert d["a"] == {"l": [1, 2], "n": [[0, 1]], "x": 1}


def test_object_that_is_put_elsewhere_is_a_copy(d: Object) -> None:
    d["a"] = {"l": [1]}
    d["b"] = d["a"]
    d["a"]["m"] = d["a"]["l"]
    d["c"] = [d["a"], {"in": d["a"]["l"]}]
    d["a"]["l"].append(2)
    assert d.copy() == {
        "a": {"l": [1, 2], "m": [1]},
        "b": {"l": [1]},
        "c": [{"l": [1], "m": [1]}, {"in": [1]}],
    }


def test_object_of_a_replaced_value_is_what_it_was_and_refuses_changes(d: Object) -> None:
    d.update({"a": {"x": [1]}, "b": [1], "c": {1}})
    a, x, b, c = d["a"], d["a"]["x"], d["b"], d["c"]
    d["a"] = {"x": [2]}
    del d["b"]
    d["c"] = 5
    assert (a, x, b, c) == ({"x": [1]}, [1], [1], {1})
    for change in (
        lambda: a.update(y=1),
        lambda: x.append(1),
        lambda: b.append(1),
        lambda: b.pop(),
        lambda: c.add(1),
        lambda: c.clear(),
    ):
        with pytest.raises(errors.DetachedError, match="read it again") as raised:
            change()
        assert raised.value.key in "abc" and isinstance(raised.value, LookupError)
    assert d.copy() == {"a": {"x": [2]}, "c": 5} and d["a"] is not a
    d["b"] = b
    b2 = d["b"]
    assert b2 == [1] and b2 is not b, "the last value of an old object can be put back"


def _in_a_batch(d: Object) -> None:
    with d.batch() as batch:
        batch["a"] = {"x": 2}


def _in_a_pipeline(d: Object) -> None:
    with d.pipeline() as pipeline:
        pipeline["a"] = {"x": 2}


@pytest.mark.parametrize(
    "replace",
    [
        lambda d: d.update({"a": {"x": 2}, "b": {}}),
        lambda d: d.set("a", {"x": 2}),
        lambda d: d.compare_and_set("a", {"x": 1}, {"x": 2}),
        lambda d: d.transact(lambda t: t.__setitem__("a", {"x": 2})),
        _in_a_batch,
        _in_a_pipeline,
        lambda d: (d.clear(), d.set("a", {"x": 2})),
        lambda d: (d.prefix("a").clear(), d.set("a", {"x": 2})),
        lambda d: (d.popitem(), d.set("a", {"x": 2})),
        lambda d: (d.pop("a"), d.set("a", {"x": 2})),
    ],
    ids="update set compare_and_set transact batch pipeline clear clear_of_a_prefix popitem pop".split(),
)
def test_every_way_to_replace_a_value_ends_its_objects(d: Object, replace: Callable[[Object], Any]) -> None:
    d["a"] = {"x": 1}
    a = d["a"]
    replace(d)
    with pytest.raises(errors.DetachedError):
        a["y"] = 3
    assert d["a"] == {"x": 2} and d["a"] is not a


def test_object_given_to_update_at_its_own_place_stays_and_loses_nothing(d: Object) -> None:
    d["l"] = [1]
    own = d["l"]
    assert not d.compare_and_set("l", [7], [2])
    d.update({"l": own, "m": own})
    d |= {"l": own}
    own.append(2)
    assert d["l"] is own and d.copy() == {"l": [1, 2], "m": [1]}


def test_object_inside_ends_with_its_place(d: Object) -> None:
    d["a"] = {"x": {"y": 1}, "l": [{"i": 0}, {"i": 1}, {"i": 2}]}
    a = d["a"]
    x, first, second, third = a["x"], *a["l"]
    a["x"] = {"y": 2}
    with pytest.raises(errors.DetachedError):
        x["y"] = 3
    a["l"].pop(0)
    with pytest.raises(errors.DetachedError):
        first["i"] = 9
    second["i"] = 10
    a["l"].sort(key=lambda one: one["i"])
    assert a["l"] == [{"i": 2}, {"i": 10}] and a["l"][1] is second and a["l"][0] is third
    third["i"] = 20
    a["l"].insert(0, {"i": -1})
    second["j"] = 1
    a["l"][1:2] = [{}, {}]
    with pytest.raises(errors.DetachedError):
        third["i"] = 21
    a["l"].reverse()
    second["k"] = 1
    assert a["l"] == [{"i": 10, "j": 1, "k": 1}, {}, {}, {"i": -1}]
    a["l"].clear()
    with pytest.raises(errors.DetachedError):
        second["k"] = 2


def test_list_moves_under_an_object_by_others_and_no_change_goes_to_the_wrong_place(folder: Path) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d['l'] = [{'i': 0}, {'i': 1}, {'i': 2}]")
        d.sync()
        zero, one, two = d["l"]
        other.do("d['l'].insert(0, {'i': -1})")
        two["seen"] = True
        other.do("d['l'][2] = {'i': 'other'}")
        with pytest.raises(errors.DetachedError):
            one["seen"] = True
        zero["seen"] = True
        d.sync()
        expected = [{"i": -1}, {"i": 0, "seen": True}, {"i": "other"}, {"i": 2, "seen": True}]
        assert d["l"] == expected


def test_what_names_a_place_is_a_conflict_when_others_changed_the_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d['l'] = [1, 2, 3]; d['m'] = {'l': [1], 'n': 0}")
        d.sync()
        live = d["l"]

        def overtaken(change: Callable[[], Any], by: str) -> Any:
            """A change that others come before, after it was planned."""
            send, once = Root.send, iter([by])

            def late(*arguments: Any) -> int:
                for told in once:
                    other.do(told)
                return send(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(Root, "send", late)
                return change()

        for change in (
            lambda: live.__setitem__(0, "x"),
            lambda: live.insert(0, "x"),
            lambda: live.pop(0),
            lambda: live.__delitem__(0),
            lambda: live.reverse(),
            lambda: live.__setitem__(slice(0, 1), []),
        ):
            with pytest.raises(errors.ConflictError) as raised:
                overtaken(change, "d['l'].append(len(d['l']) + 1)")
            assert raised.value.key == "l"
        assert live == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert overtaken(live.pop, "d['l'].append(10)") == 10, "the last there is"
        live.reverse()
        overtaken(live.sort, "d['l'].insert(0, 99)")
        assert live == [1, 2, 3, 4, 5, 6, 7, 8, 9, 99]
        inner = d["m"]["l"]
        overtaken(lambda: inner.insert(0, 0), "d['m']['n'] = 1")
        assert d["m"] == {"l": [0, 1], "n": 1}, "something else has changed"
        assert overtaken(lambda: d["m"].pop("n"), "d['m']['n'] = 2") == 2


def test_change_past_the_methods_is_told_and_taken_back(d: Object) -> None:
    d["l"], d["m"], d["s"] = [3, 1, 2], {"a": 1}, {1}
    live, m, s = d["l"], d["m"], d["s"]
    heapq.heappush(live, 0)
    with pytest.raises(errors.BypassedError, match="past its methods"):
        len(live)
    heapq.heapify(live)
    with pytest.raises(errors.BypassedError):
        live.append(4)
    dict.__setitem__(m, "b", 2)
    with pytest.raises(errors.BypassedError):
        m["a"]
    set.add(s, 2)
    with pytest.raises(errors.BypassedError):
        s.add(3)
    live.append(4)
    assert d.copy() == {"l": [3, 1, 2, 4], "m": {"a": 1}, "s": {1}} and live == [3, 1, 2, 4]


def test_copies_of_what_can_change_are_given_out(d: Object) -> None:
    d["a"] = {"t": ([1], 2)}
    d["a"]["t"][0].append(2)
    assert d["a"]["t"] == ([1], 2)
    gone = d["a"].pop("t")
    gone[0].append(3)
    d["a"]["l"] = [[1]]
    removed = d["a"]["l"].pop()
    removed.append(2)
    assert type(removed) is list and d["a"] == {"l": []}


def test_readonly_object_refuses_as_for_a_key(folder: Path) -> None:
    with DiskObject("data.obj", {"a": {"x": [1]}}):
        pass
    with DiskObject("data.obj", readonly=True) as d:
        for change in (
            lambda: d.__setitem__("a", 1),
            lambda: d["a"].__setitem__("x", 1),
            lambda: d["a"]["x"].append(1),
            lambda: d["a"]["x"].reverse() or d["a"]["x"].pop(0),
        ):
            with pytest.raises(errors.DeniedError):
                change()
        assert d["a"] == {"x": [1]}


def test_value_that_would_grow_too_large_is_refused_with_the_remedy(d: Object) -> None:
    d["a"] = {"x": b"x" * 1_000_000}
    with pytest.raises(ValueError, match=r'"a".* bytes; the limit .* 1048576 bytes: use one key per item'):
        d["a"]["y"] = b"y" * 100_000
    assert list(d["a"]) == ["x"]


def test_one_change_is_one_event_of_kind_patch(folder: Path) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d['a'] = {'l': [3, 1, 2], 's': {1}}")
        d.sync()
        with d.watch() as w:
            for change in (
                "d['a']['x'] = 1",
                "d['a'].update(y=1, z=2)",
                "d['a']['l'] += [5, 4]",
                "d['a']['l'].sort()",
                "d['a']['l'][1:3] = []",
                "d['a']['s'] ^= {1, 2}",
                "d['a'].pop('x')",
                "d['a'].setdefault('q', {})['r'] = 1",
            ):
                other.do(change)
            kinds = [next(w).kind for _ in range(9)]
        assert kinds == ["patch"] * 9
        expected = {"l": [1, 4, 5], "s": {2}, "y": 1, "z": 2, "q": {"r": 1}}
        assert d["a"] == expected


def test_object_outlives_its_handle_to_be_read(folder: Path) -> None:
    with DiskObject("data.obj", {"a": {"x": [1]}}) as d:
        a = d["a"]
    assert a == {"x": [1]} and a["x"] == [1] and json.dumps(a) == '{"x": [1]}'
    with pytest.raises(errors.ClosedError):
        a["x"].append(2)


def test_transactions_and_the_past_give_plain_values(d: Object) -> None:
    d["a"] = {"x": [1]}
    revision = d.last_ack.revision
    assert d.transact(lambda t: type(t["a"])) is dict
    with d.snapshot() as s:
        assert type(s["a"]) is dict and type(s["a"]["x"]) is list
    assert type(d.at(revision)["a"]) is dict and type(d.copy()["a"]["x"]) is list
    assert type(d.pop("a")) is dict


def test_setdefault_gives_what_can_be_changed(d: Object) -> None:
    d.setdefault("l", []).append(1)
    d.setdefault("l", []).append(2)
    assert d["l"] == [1, 2]
    assert d.setdefault("d", {}).setdefault("e", {}).incr("n", 5) == 5
    assert d["d"] == {"e": {"n": 5}}
