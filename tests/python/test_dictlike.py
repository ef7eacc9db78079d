"""What people do with a dict, done with each object."""

from __future__ import annotations

import collections
import copy
import json
import pickle
import string
import types
from collections.abc import Callable, ItemsView, KeysView, MutableMapping, ValuesView
from pathlib import Path
from typing import Any

import pytest

from conftest import Maker
from objsync import MISSING, CompressedDiskObject, DiskObject, NetworkObject, Object, errors

CONTENT = {"b": 2, "a": 1, "c": [3]}


@pytest.fixture
def filled(d: Object) -> Object:
    d.update(CONTENT)
    return d


def test_update_takes_what_dict_update_takes(d: Object) -> None:
    class WithKeys:
        def keys(self) -> list[str]:
            return ["keys"]

        def __getitem__(self, key: str) -> str:
            return key

    model: dict[Any, Any] = {}
    # Each makes its arguments anew: an iterator is used up by the first who reads it.
    forms: list[Callable[[], tuple[Any, ...]]] = [
        lambda: (), lambda: ({"a": 1},), lambda: ([("b", 2), ["c", 3]],), lambda: (iter([("f", 9)]),),
        lambda: (WithKeys(),), lambda: (zip("gh", range(2), strict=True),), lambda: (collections.Counter("aab"),),
        lambda: (["xy"],), lambda: ({"e": 7},),
    ]  # fmt: skip
    for form in forms:
        for named in ({}, {"d": 4, "self": 5, "other": 6}, {"e": 8}):
            d.update(*form(), **named)
            model.update(*form(), **named)
    assert d == model
    for wrong in (5, None, [1], ["abc"]):
        with pytest.raises((TypeError, ValueError)):
            d.update(wrong)
    with pytest.raises(TypeError):
        d.update({}, {})
    assert d == model


def test_update_of_pairs_and_names_is_one_transaction(d: Object) -> None:
    d["first"] = 0
    before = d.last_ack.revision
    d.update({"a": 1}, b=2)
    assert d.last_ack.revision == before + 1
    with pytest.raises(TypeError):
        d.update({"a": 5}, b=object())
    assert d == {"first": 0, "a": 1, "b": 2}


def test_unions_are_those_of_dict(filled: Object, make: Maker) -> None:
    with make({"a": 5, "z": 6}) as other:
        for right in ({"a": 5, "z": 6}, other, types.MappingProxyType({"a": 5, "z": 6})):
            assert type(filled | right) is dict
            assert filled | right == CONTENT | {"a": 5, "z": 6}
            assert right | filled == {"a": 5, "z": 6} | CONTENT
    with pytest.raises(TypeError):
        filled | [("a", 1)]
    with pytest.raises(TypeError):
        [("a", 1)] | filled
    same = filled
    filled |= {"a": 7}
    filled |= [("y", 8)]
    assert filled is same
    assert same == CONTENT | {"a": 7, "y": 8}


def test_copies_into_every_mapping_of_the_standard_library(filled: Object) -> None:
    for made in (dict(filled), collections.OrderedDict(filled), collections.UserDict(filled), {**filled},
                 collections.defaultdict(int, filled), types.MappingProxyType(filled), filled.copy()):  # fmt: skip
        assert made == CONTENT
    assert type(filled.copy()) is dict
    assert json.loads(json.dumps(dict(filled))) == CONTENT
    counts = collections.Counter({"a": 1})
    counts.update({key: value for key, value in filled.items() if key != "c"})
    assert counts == {"a": 2, "b": 2}


def test_copy_is_a_dict_of_its_own(filled: Object) -> None:
    copied = filled.copy()
    copied["c"].append(4)
    copied["d"] = 4
    assert filled == CONTENT


def test_copy_module_gives_another_handle_of_the_same_dictionary(filled: Object) -> None:
    for copier in (copy.copy, copy.deepcopy):
        with copier(filled) as other:
            assert type(other) is type(filled) and other is not filled
            other["d"] = copier.__name__
            filled.sync()
            assert filled["d"] == copier.__name__
    assert filled == CONTENT | {"d": "deepcopy"}


def test_fromkeys_opens_an_object_and_fills_it(folder: Path, port: int) -> None:
    with DiskObject.fromkeys("ab", 0, "disk", namespace="n") as d:
        assert (type(d), dict(d), d.status.namespace) == (DiskObject, {"a": 0, "b": 0}, "n")
    with DiskObject.fromkeys(["b", "c"], None, "disk", namespace="n") as d:
        assert d == {"a": 0, "b": None, "c": None}
    with CompressedDiskObject.fromkeys(range(3), [], path="small") as d:
        assert d == {0: [], 1: [], 2: []}
    with NetworkObject.fromkeys("a", 1, "127.0.0.1", port) as d:
        assert d == {"a": 1}


def test_fromkeys_that_fails_leaves_no_open_handle(folder: Path) -> None:
    with pytest.raises(TypeError):
        DiskObject.fromkeys(["a", object()], 0, "disk")
    with DiskObject("disk") as d:
        assert (d.status.role, dict(d)) == ("owner", {})


def test_fromkeys_uses_a_setitem_of_the_class(folder: Path) -> None:
    class Doubling(DiskObject):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, 2 * value)

    with Doubling.fromkeys("ab", 2, "disk") as d:
        assert d == {"a": 4, "b": 4}


def test_keys_are_iterated_in_their_order_and_in_reverse(d: Object) -> None:
    for key in ["b", 10, "a", 9, (1, 2), None]:
        d[key] = key
    expected = [None, 9, 10, "a", "b", (1, 2)]
    assert list(d) == list(d.keys()) == list(d.values()) == expected
    assert list(reversed(d)) == list(reversed(d.keys())) == list(reversed(d.values())) == expected[::-1]
    assert list(reversed(d.items())) == [(key, key) for key in expected[::-1]]
    taken = [d.popitem() for _ in expected]
    assert taken == [(key, key) for key in expected[::-1]]
    with pytest.raises(KeyError, match="empty"):
        d.popitem()


def test_views_are_views_with_set_operations(filled: Object) -> None:
    del filled["c"]
    model = {"a": 1, "b": 2}
    keys, values, items = filled.keys(), filled.values(), filled.items()
    assert isinstance(keys, KeysView) and isinstance(values, ValuesView) and isinstance(items, ItemsView)
    others: list[Any] = [{"a", "x"}, {"x": 1}.keys(), frozenset(), ["a", "b"], keys]
    for other in others:
        for operate in (lambda one, two: one & two, lambda one, two: one | two, lambda one, two: one - two,
                        lambda one, two: one ^ two, lambda one, two: one.isdisjoint(two)):  # fmt: skip
            if isinstance(other, list) and operate(model.keys(), other) is None:
                continue
            assert operate(keys, other) == operate(model.keys(), other)
    assert items & {("a", 1), ("a", 2)} == {("a", 1)}
    assert {("a", 1), ("c", 3)} - items == {("c", 3)}
    assert keys == {"a", "b"} and keys <= {"a", "b", "c"} and keys > {"a"} and items == model.items()
    assert ("a", 1) in items and ("a", 2) not in items and ("x", 1) not in items
    assert 1 in values and 5 not in values
    assert (len(keys), len(values), len(items)) == (2, 2, 2)
    filled["d"] = 4
    assert "d" in keys and 4 in values and ("d", 4) in items and len(keys) == 3, "a view follows"


def test_equality_is_that_of_dicts(filled: Object, make: Maker) -> None:
    assert filled == CONTENT and CONTENT == filled
    assert filled != {"a": 1} and filled != 5 and filled != list(CONTENT)
    assert filled == collections.OrderedDict(CONTENT) == filled
    with make(CONTENT) as other:
        assert filled == other and not filled != other
        other["a"] = 2
        assert filled != other


def test_truth_and_length_are_those_of_the_content(d: Object) -> None:
    assert not d and len(d) == 0
    d["a"] = 0
    assert d and len(d) == 1
    d.clear()
    assert not d


def test_names_as_keys_go_where_keywords_go(filled: Object) -> None:
    def names(**named: Any) -> dict[str, Any]:
        return named

    assert names(**filled) == CONTENT
    assert "{a}-{b}".format_map(filled) == "1-2"
    assert "%(a)s-%(b)s" % filled == "1-2"
    assert string.Template("$a-$b").substitute(filled) == "1-2"
    filled[1] = 1
    with pytest.raises(TypeError, match="strings"):
        names(**filled)


def test_object_is_matched_by_patterns(filled: Object) -> None:
    match filled:
        case {"missing": _}:
            raise AssertionError("there is no such key")
        case {"a": int(number), "c": [3], **rest}:
            assert (number, rest) == (1, {"b": 2})
        case _:
            raise AssertionError("it is a mapping")


def test_chain_map_reads_through_and_writes_to_the_first(filled: Object) -> None:
    chain = collections.ChainMap(filled, {"a": 5, "z": 6})
    assert (chain["a"], chain["z"], len(chain)) == (1, 6, 4)
    chain["new"] = 7
    del chain["b"]
    assert filled == {"a": 1, "c": [3], "new": 7}
    assert dict(chain.new_child({"a": 0}))["a"] == 0


def test_code_for_any_mutable_mapping_runs_unchanged(d: Object) -> None:
    def group(words: list[str], into: MutableMapping[str, list[str]]) -> None:
        for word in words:
            into[word[0]] = [*into.get(word[0], []), word]

    def move(mapping: MutableMapping[str, Any], old: str, new: str) -> None:
        mapping[new] = mapping.pop(old)

    model: dict[str, list[str]] = {}
    for mapping in (d, model):
        group(["ant", "bee", "ape"], mapping)
        move(mapping, "a", "z")
        mapping.setdefault("q", []), mapping.setdefault("q", ["other"])
        mapping.update(sorted(mapping.items()), extra=["x"])
    assert d == model
    assert sorted(d, key=d.get) == sorted(model, key=model.get)  # type: ignore[arg-type]
    assert max(d, key=lambda key: len(d[key])) == "z"


def test_default_of_get_and_pop_is_returned_as_it_is(d: Object) -> None:
    default = object()
    assert d.get("a", default) is d.pop("a", default) is default
    for wrong in (lambda: d.pop(), lambda: d.pop("a", 1, 2), lambda: d.setdefault(), lambda: d.get()):
        with pytest.raises(TypeError):
            wrong()


def test_keys_that_are_deleted_are_gone(filled: Object) -> None:
    del filled["a"]
    assert "a" not in filled and filled.get("a") is None
    with pytest.raises(KeyError):
        del filled["a"]
    filled.clear()
    filled.clear()
    assert filled == {}


def test_iteration_is_of_one_moment_while_others_write(make: Maker) -> None:
    with make(dict.fromkeys(range(5000), "old"), place="store") as d, make(place="store") as other:
        seen = {}
        for key, value in d.items():
            if key % 500 == 0:
                other.update(dict.fromkeys(range(key, 5000, 7), "new"))
                other.pop(key + 1, None)
                d.sync()
            seen[key] = value
        assert seen == dict.fromkeys(range(5000), "old")
        assert len(d) < 5000


def test_subclass_takes_its_attributes_along(folder: Path) -> None:
    with Named("store", name="first") as d:
        d["a"] = 1
        for other in (pickle.loads(pickle.dumps(d)), copy.copy(d)):
            with other:
                assert (type(other), other.name, other["a"]) == (Named, "first", 1)


class Named(DiskObject):
    def __init__(self, path: str, name: str) -> None:
        super().__init__(path)
        self.name = name


def test_object_is_not_made_directly() -> None:
    with pytest.raises(TypeError, match="Object is not made directly"):
        Object()

    class Half(Object):
        def load(self) -> Any:
            return {}

    with pytest.raises(TypeError, match="Half gives no load"):
        Half()


def test_bare_name_is_a_path_in_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in ((DiskObject, "data.pkl"), (CompressedDiskObject, "data.zst"), (DiskObject, Path("plain"))):
        with kind(name, {"a": 1}) as d:
            (folder / "elsewhere").mkdir(exist_ok=True)
            monkeypatch.chdir(folder / "elsewhere")
            d["b"] = 2  # the path was that of when it was opened
            with pickle.loads(pickle.dumps(d)) as other:
                assert other == {"a": 1, "b": 2}
            monkeypatch.chdir(folder)
        assert (folder / name).is_dir()
        with kind(folder / name, {"never": "used"}) as d:
            assert d == {"a": 1, "b": 2}


def test_default_value_is_for_a_dictionary_that_never_was(make: Maker) -> None:
    default = {"a": [1]}
    with make(default, place="store") as d:
        d["a"] = [2]
        default["a"].append(5)
        with make({"b": 1}, place="store") as second:
            assert second == d == {"a": [2]}, "another handle finds it there"
        d.clear()
    with make(default, place="store") as d:
        assert d == {}, "one that was emptied is there all the same"


def test_value_that_cannot_be_stored_leaves_all_as_it_was(make: Maker) -> None:
    wrong = [1, {"deep": object()}]
    with make({"a": [1]}, place="store") as d:
        calls = [
            lambda: d.__setitem__("a", wrong), lambda: d.setdefault("new", wrong), lambda: d.update(a=2, b=wrong),
            lambda: d.__ior__({"b": wrong}), lambda: d.compare_and_set("a", [1], wrong),
            lambda: d.list_append("a", wrong), lambda: d.set_add("s", object()), lambda: d.update([("a", 2), ("b", wrong)]),
            lambda: d.transact(lambda t: t.__setitem__("a", wrong)), lambda: d.set("a", wrong, ttl=5),
        ]  # fmt: skip
        before = d.status.revision
        for call in calls:
            with pytest.raises(errors.UnserialisableError):
                call()
        d.sync()
        assert d.status.revision == before and d == {"a": [1]}
    with make(place="store") as d:
        assert d == {"a": [1]}


def test_context_manager_closes_whatever_the_block_raised(make: Maker) -> None:
    with pytest.raises(ZeroDivisionError), make(place="store") as d:
        d["a"] = 1
        raise ZeroDivisionError
    with pytest.raises(errors.ClosedError, match="closed"):
        d["a"]
    d.close()
    with d:  # entering does not open it again
        pass
    with make(place="store") as again:
        assert again == {"a": 1}


def test_every_use_of_a_closed_object_says_so(make: Maker) -> None:
    d = make({"a": 1})
    d.close()
    views = (d.keys(), d.values(), d.items(), d.range(), d.prefix("a"))
    calls = [d.copy, d.clear, d.popitem, d.flush, d.sync, lambda: d["a"], lambda: d.__setitem__("a", 1), lambda: len(d),
             lambda: d.__delitem__("a"), lambda: bool(d), lambda: d.pop("a", None), lambda: d.setdefault("a"),
             lambda: d | {}, lambda: {} | d, lambda: d == {"a": 1}, lambda: reversed(d), lambda: d.get("a"),
             lambda: d.batch().__exit__(None, None, None) or d.set("a", 1), lambda: d.transact(lambda t: t["a"]),
             lambda: d.lock("a").acquire(), lambda: d.history("a"), lambda: d.at(1),
             *[lambda view=view: list(view) for view in views]]  # fmt: skip
    for place, call in enumerate(calls):
        with pytest.raises(errors.ClosedError, match="closed"):
            call()
            pytest.fail(f"call {place} went through")
    assert "closed" in str(d)


def test_defaults_can_be_named_as_in_the_mixins_of_mutable_mapping(make: Maker) -> None:
    d = make({"a": 1})
    assert (d.get("a", default=0), d.get("b", default=0)) == (1, 0)
    assert d.setdefault("c", default=3) == 3 and d.pop("c", default=0) == 3 and d.pop("c", default=0) == 0
    assert d.pop("c", MISSING) is MISSING
    with pytest.raises(KeyError):
        d.pop("c")
    with d.snapshot() as before:
        assert before.get("b", default=5) == 5
    assert d.transact(lambda t: (t.get("b", default=6), t.pop("b", default=7))) == (6, 7)


def test_refused_value_of_many_is_found_by_the_key_it_was_for(make: Maker) -> None:
    d = make()
    with pytest.raises(TypeError) as refused:
        d.update({"good": 1, "bad": {"x": print}})
    assert refused.value.__notes__ == ["value: the one for the key 'bad'"]
    with pytest.raises(TypeError) as refused, d.batch() as batch:
        batch["worse"] = [print]
    assert refused.value.__notes__ == ["value: the one for the key 'worse'"] and len(d) == 0


@pytest.mark.parametrize(("path", "error"), [("", ValueError), (b"data.obj", TypeError), (5, TypeError)])
def test_path_that_is_none_is_refused(folder: Path, path: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="(?i)path"):
        DiskObject(path)
    assert list(folder.iterdir()) == []
