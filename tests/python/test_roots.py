"""Objects that are one value: a list, a set, or an object of a registered class."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import MutableSequence, MutableSet
from pathlib import Path

import pytest

import objsync
from conftest import Maker
from objsync import DiskObject, errors
from objsync._roots import ROOT
from programs import Told


def test_object_of_a_list_behaves_like_that_list(make: Maker) -> None:
    d = make([3, 1, {"a": [1]}])
    d.append(2)
    d.extend([5, 4])
    d.insert(0, "x")
    d += [6]
    assert d.pop(0) == "x" and d.pop() == 6 and d.index(1) == 1 and d.count(5) == 1
    d[2]["a"].append(2)
    d[0], d[-1] = 30, 40
    assert d == [30, 1, {"a": [1, 2]}, 2, 5, 40] and len(d) == 6 and 5 in d and d != []
    assert list(d) == [*d] and d[1:2] == [1] and list(reversed(d))[0] == 40 and d + [0] == [*d, 0]
    del d[2], d[3:]
    d.remove(1)
    d.sort()
    d.reverse()
    assert d.copy() == [30, 2] and type(d.copy()) is list and bool(d)
    assert repr(d).endswith("[30, 2])") and json.dumps(list(d)) == "[30, 2]"
    d.clear()
    assert not d and d == []
    with pytest.raises(TypeError, match="is a list, not a mapping"):
        d.keys()


def test_object_of_a_set_behaves_like_that_set(make: Maker) -> None:
    d = make({1, 2})
    d.add(3)
    d |= {4}
    d -= {1}
    d.update([5], {6})
    d.discard(9)
    assert d == {2, 3, 4, 5, 6} and 3 in d and len(d) == 5 and d & {2} == {2} and d >= {2, 3}
    assert sorted(d) == [2, 3, 4, 5, 6] and d.copy() == {2, 3, 4, 5, 6} and type(d.copy()) is set
    with pytest.raises(TypeError, match="is a set"):
        d.get(1)


def test_list_is_there_again_whoever_opens_it_and_however(folder: Path) -> None:
    with DiskObject("data.obj", ["first"]) as d:
        d.append("second")
        assert type(d).__name__ == "DiskObject" and isinstance(d, DiskObject)
    with DiskObject("data.obj", []) as d, Told(folder / "data.obj") as other:
        other.do("d.append('third'); d[0] = 'zero'")
        other.do("d += ['fourth']")
        d.sync()
        assert d == ["zero", "second", "third", "fourth"]
        again = pickle.loads(pickle.dumps(d))
        assert again == list(d) and again is not d
        again.close()
    with DiskObject("data.obj") as d:
        assert d.pop() == "fourth"
        with d.watch() as w:
            d.append(5)
            event = next(w)
            assert (event.key, event.kind, event.value[-1]) == (ROOT, "patch", 5)


def test_mapping_does_not_become_a_list_and_other_types_are_refused(folder: Path) -> None:
    with DiskObject("data.obj", {"a": 1}):
        pass
    with pytest.raises(errors.InvalidError, match="holds 1 keys: it is a mapping, and default_value is a list"):
        DiskObject("data.obj", [1])
    for wrong in (5, "text", (1, 2), b"x"):
        with pytest.raises(TypeError, match="default_value is a"):
            DiskObject("other.obj", wrong)
    with pytest.raises(TypeError):
        DiskObject("other.obj", object())
    with DiskObject("new.obj"):
        pass
    with DiskObject("new.obj", [1]) as d:
        assert d == [1], "a dictionary that has nothing in it takes what it is to start with"


def test_operators_take_two_objects_that_are_one_value(make: Maker) -> None:
    s, s2, a, b = make({1, 2}), make({2, 3}), make([1, 2]), make([3])
    assert (s | s2, s & s2, s - s2, s ^ s2) == ({1, 2, 3}, {2}, {1}, {1, 3})
    assert not s <= s2 and s | s2 >= s2 and not s < s2 and {5} | s == {1, 2, 5} and {1, 5} - s == {5}
    assert a < b and b > a and a + b == [1, 2, 3] and [0] + a == [0, 1, 2] and s != s2 and a != b
    same, other = s, a
    s -= s2
    s |= s2
    a += b
    assert s is same and s == {1, 2, 3} and a is other and a == [1, 2, 3]
    with pytest.raises(TypeError):
        s | a


def test_object_of_a_list_matches_as_a_sequence(make: Maker) -> None:
    match make([1, 2, 3]):
        case {}:
            raise AssertionError("it is no mapping")
        case [first, *rest]:
            assert (first, rest) == (1, [2, 3])
        case _:
            raise AssertionError("it does not match")
    assert isinstance(make([]), MutableSequence) and isinstance(make(set()), MutableSet)
    match make({"a": 1}):
        case [*_]:
            raise AssertionError("another object of the same class stays a mapping")
        case {"a": value}:
            assert value == 1


@objsync.value(name="test.Config")
@dataclasses.dataclass
class Config:
    port: int = 80
    name: str = "web"
    tags: list[str] = dataclasses.field(default_factory=list)
    limits: dict[str, int] = dataclasses.field(default_factory=dict)


def test_object_of_a_registered_class_has_its_attributes(make: Maker) -> None:
    d = make(Config(limits={"cpu": 1}))
    assert (d.port, d.name, d.tags) == (80, "web", [])
    d.port = 8080
    d.port += 1
    d.tags.append("a")
    d.tags += ["b"]
    d.limits["cpu"] = 2
    d.limits |= {"ram": 3}
    tags = d.tags
    d.tags.append("c")
    expected = Config(8081, "web", ["a", "b", "c"], {"cpu": 2, "ram": 3})
    assert d == expected and d.copy() == expected and tags == ["a", "b", "c"]
    assert type(d.copy()) is Config and "port" in dir(d) and d.status.role == "owner"
    with pytest.raises(AttributeError):
        d.nothing  # noqa: B018
    with pytest.raises(TypeError, match="is an object of a class, not a mapping"):
        d.items()


def test_two_who_set_two_attributes_both_succeed(folder: Path) -> None:
    with DiskObject("data.obj", Config()) as one, DiskObject("data.obj") as two:
        for number in range(20):
            one.port, two.name = number, str(number)
            one.tags.append(f"one {number}")
            two.tags.append(f"two {number}")
            assert (two.port, one.name) == (number, str(number))
        assert len(one.tags) == 40
    with DiskObject("data.obj") as d:
        assert d.port == 19 and d.tags[-1] == "two 19"


def test_objects_of_registered_classes_inside_are_copies(make: Maker) -> None:
    d = make({"a": {"c": Config(), "t": (Config(),)}, "l": [Config()]})
    for given in (d["a"]["c"], d["a"]["t"][0], d["l"][0], d["l"].copy()[0], d["a"].get("c")):
        given.port = 1
    assert d["a"] == {"c": Config(), "t": (Config(),)} and d["l"] == [Config()]
    changed = d["a"]["c"]
    changed.port = 2
    d["a"]["c"] = changed
    assert d["a"]["c"].port == 2
