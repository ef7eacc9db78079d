"""What the objects do besides being mappings."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Maker
from objsync import MISSING, CompressedDiskObject, DiskObject, NetworkObject, Object, errors

DEADLINE_S = 20.0


def test_content_is_used_for_a_new_store_only(make: Maker) -> None:
    with make({"a": 1}, place="store") as d:
        assert d == {"a": 1}
        d["a"] = 2
    with make({"a": 1, "b": 1}, place="store") as d:
        assert d == {"a": 2}


def test_content_is_used_for_a_new_namespace_of_an_old_store(folder: Path) -> None:
    with DiskObject("store", {"a": 1}) as d, DiskObject("store", {"b": 2}, namespace="other") as other:
        assert (d, other) == ({"a": 1}, {"b": 2})


@pytest.mark.parametrize("content", [(("a", 1),), 5, "ab"])
def test_content_that_no_object_has_the_face_of_is_refused(make: Maker, content: Any) -> None:
    with pytest.raises(TypeError, match="default_value is a"):
        make(content)


def test_content_that_cannot_be_stored_makes_no_store(folder: Path) -> None:
    with pytest.raises(TypeError):
        DiskObject("store", {"a": object()})
    assert not (folder / "store").exists()


def test_object_is_a_mutable_mapping_without_a_hash(d: Object) -> None:
    assert isinstance(d, MutableMapping)
    with pytest.raises(TypeError, match="unhashable"):
        hash(d)
    match d:
        case {}:
            pass
        case _:
            raise AssertionError("it does not match as a mapping")


def test_tuple_that_was_read_can_be_changed_inside_without_changing_the_store(d: Object) -> None:
    value = (1, [2], {"deep": {"deeper": [1]}}, {3})
    d["key"] = value
    for _ in range(3):  # from the store, then from the cache
        read = d["key"]
        assert read == value
        read[1].append(3)
        read[2]["deep"]["deeper"].clear()
        read[3].add(4)


def test_value_that_was_assigned_can_be_changed_without_changing_the_store(d: Object) -> None:
    value = [1]
    d["key"] = value
    value.append(2)
    assert d["key"] == [1]


def test_immutable_value_is_read_as_one_object(d: Object) -> None:
    d["key"] = ("a", 1.5, frozenset({1}))
    d["key"]
    assert d["key"] is d["key"]


def test_read_after_write_by_any_handle_sees_it(make: Maker) -> None:
    with make(place="store") as one, make(place="store") as other:
        for number in range(100):
            writer, reader = (one, other) if number % 2 else (other, one)
            writer["key"] = number
            reader.sync()
            assert writer["key"] == reader["key"] == number


def test_missing_key_is_a_key_error_with_the_key(d: Object) -> None:
    for key in ["nobody", (1, 2), 7]:
        for call in (d.__getitem__, d.__delitem__, d.pop):
            with pytest.raises(KeyError) as caught:
                call(key)
            assert caught.value.args == (key,)
            assert not isinstance(caught.value, errors.Error)


def test_batch_is_one_transaction(d: Object) -> None:
    d["old"] = 0
    before = d.last_ack.revision
    with d.batch() as b:
        b["a"], b["b"] = 1, 2
        del b["old"]
        assert len(b) == 3
        assert "a" not in d
    assert d == {"a": 1, "b": 2}
    assert b.ack.revision == before + 1 == d.last_ack.revision


def test_batch_that_raises_changes_nothing(d: Object) -> None:
    with pytest.raises(ZeroDivisionError), d.batch() as b:
        b["a"] = 1
        raise ZeroDivisionError
    with pytest.raises(TypeError), d.batch() as b:
        b["a"] = 1
        b["b"] = object()
    assert d == {}


def test_batch_over_the_limit_is_refused_whole(d: Object) -> None:
    with pytest.raises(ValueError, match="limit"), d.batch() as b:
        for place in range(5):
            b[place] = [os.urandom(4 << 20)]
    assert len(d) == 0


def test_update_over_the_limit_of_a_transaction_goes_in_several(d: Object) -> None:
    d["first"] = 0
    before = d.last_ack.revision
    d.update((place, os.urandom(4 << 20)) for place in range(9))
    assert len(d) == 10
    assert d.last_ack.revision > before + 1


def test_update_with_something_that_cannot_be_stored_changes_nothing(d: Object) -> None:
    with pytest.raises(TypeError):
        d.update({"a": 1, "b": object()})
    assert d == {}


def test_pipeline_writes_in_order_and_tells_where_it_ended(d: Object) -> None:
    with d.pipeline() as p:
        for number in range(1000):
            p["last"] = number
            p[number] = number
        del p[0]
    assert d["last"] == 999
    assert len(d) == 1000
    assert p.ack == d.last_ack
    with pytest.raises(errors.ClosedError):
        p["more"] = 1


def test_pipeline_that_raises_has_written_what_went_before(d: Object) -> None:
    with pytest.raises(ZeroDivisionError), d.pipeline() as p:
        p["a"] = 1
        raise ZeroDivisionError
    assert d == {"a": 1}


def test_incr_counts_from_zero_and_refuses_what_is_no_int(d: Object) -> None:
    assert [d.incr("n"), d.incr("n", 10), d.incr("n", by=-1)] == [1, 11, 10]
    assert d["n"] == 10
    d["text"] = "x"
    with pytest.raises(ValueError):
        d.incr("text")
    assert d["text"] == "x"
    d["most"] = 2**63 - 1
    with pytest.raises(ValueError):
        d.incr("most")
    with pytest.raises(OverflowError):
        d.incr("n", 2**64)


def test_compare_and_set_compares_as_python_does(d: Object) -> None:
    d["key"] = {"a": 1, "b": [2]}
    assert d.compare_and_set("key", {"b": [2], "a": 1.0}, "new")
    assert not d.compare_and_set("key", "old", "newer")
    assert not d.compare_and_set("key", MISSING, "newer")
    assert not d.compare_and_set("none", "old", "newer")
    assert d.compare_and_set("key", "new", MISSING)
    assert d.compare_and_set("key", MISSING, None)
    assert d == {"key": None}


def test_increments_from_many_threads_are_all_counted(d: Object) -> None:
    threads = [threading.Thread(target=lambda: [d.incr("n") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert d["n"] == 400


def test_pop_gives_each_entry_to_one_thread(d: Object) -> None:
    d.update((number, number) for number in range(100))
    got: list[int] = []

    def take() -> None:
        while True:
            try:
                got.append(d.popitem()[0])
            except KeyError:
                return

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(got) == list(range(100))


def test_range_and_prefix_are_views_of_a_part(d: Object) -> None:
    d.update({"a": 1, "b:1": 2, "b:2": 3, "c": 4, 5: 6})
    part = d.prefix("b:")
    assert (len(part), list(part), "b:1" in part, "a" in part) == (2, ["b:1", "b:2"], True, False)
    assert part["b:1"] == 2
    with pytest.raises(KeyError):
        part["a"]
    assert list(d.range(None, "b").items()) == [(5, 6), ("a", 1)]
    assert dict(d.range("b:2")) == {"b:2": 3, "c": 4}
    assert list(reversed(d.range("a", "c").values())) == [3, 2, 1]
    assert part.clear() == 2
    assert d == {5: 6, "a": 1, "c": 4}


def test_iteration_sees_one_moment(d: Object) -> None:
    d.update((number, 0) for number in range(3))
    seen = []
    for key in d:
        seen.append(key)
        d[key + 100] = 0
        d.pop(2, None)
    assert seen == [0, 1, 2]


def test_union_gives_a_dict(d: Object) -> None:
    d["a"] = 1
    assert d | {"b": 2} == {"a": 1, "b": 2}
    assert {"a": 0, "b": 2} | d == {"a": 1, "b": 2}
    d |= {"c": 3}
    assert isinstance(d, Object) and d == {"a": 1, "c": 3}


def test_acknowledgements_rise_and_tell_the_durability(make: Maker) -> None:
    with make(durability="buffered") as d:
        assert d.last_ack is None
        first, second = d.set("a", 1), d.set("b", 2)
        assert first.revision < second.revision
        assert first.epoch == second.epoch
        assert first.durability == "buffered"
        assert d.last_ack == second
        assert d.flush() >= second.revision


def test_status_tells_role_and_place(make: Maker) -> None:
    with make() as d:
        d["a"] = 1
        status = d.status
        assert (status.role, status.namespace, status.lag) == ("owner", "default", 0)
        assert status.revision == d.last_ack.revision
        assert status.directory is not None
    assert d.status.role == "closed"


def test_closed_object_says_so(make: Maker) -> None:
    d = make({"a": 1})
    d["a"]
    d.close()
    d.close()
    calls = [lambda: d["a"], lambda: d.set("a", 1), lambda: len(d), lambda: list(d), lambda: d.watch(),
             lambda: d.incr("n"), lambda: d.sync(), lambda: "a" in d, lambda: d.update(a=1)]  # fmt: skip
    for call in calls:
        with pytest.raises(errors.ClosedError, match="closed"):
            call()
    assert "closed" in repr(d)


def test_handle_survives_pickling(make: Maker) -> None:
    with make(place="store") as d:
        d["a"] = 1
        with pickle.loads(pickle.dumps(d)) as other, copy.copy(d) as third:
            assert type(other) is type(d)
            other["b"] = 2
            third.sync()
            assert third == {"a": 1, "b": 2}


def test_read_only_handle_refuses_writes(folder: Path) -> None:
    with DiskObject("store", {"a": 1}) as d, DiskObject("store", readonly=True) as reader:
        for call in [lambda: reader.set("a", 2), lambda: reader.incr("n"), lambda: reader.clear()]:
            with pytest.raises(PermissionError):
                call()
        with pytest.raises(PermissionError), reader.pipeline() as p:
            p["a"] = 2
        with pytest.raises(PermissionError), reader.batch() as b:
            b["a"] = 2
        d["a"] = 3
        reader.sync()
        assert reader["a"] == 3


def test_compressed_values_take_less_room(folder: Path) -> None:
    def size(path: Path) -> int:
        return sum(file.stat().st_blocks for file in path.rglob("*.log"))

    pairs = {number: "words " * 2000 for number in range(500)}
    with DiskObject("plain", durability="buffered") as plain:
        plain.update(pairs)
    with CompressedDiskObject("small", compression_level=3, durability="buffered") as small:
        small.update(pairs)
        assert small == pairs
    with DiskObject("small") as same:
        assert same == pairs


def test_network_object_is_found_by_address_in_any_form(port: int) -> None:
    with NetworkObject("127.0.0.1", port) as d:
        d["a"] = 1
        for again in (NetworkObject(f"127.0.0.1:{port}"), NetworkObject("localhost", port)):
            with again:
                assert again["a"] == 1


def test_network_object_with_a_prefix_sees_that_part(port: int) -> None:
    with NetworkObject("127.0.0.1", port, {"a:1": 1, "b:1": 2}) as d:
        with NetworkObject("127.0.0.1", port, prefix="a:") as part:
            assert list(part.items()) == [("a:1", 1)]
        assert len(d) == 2


@pytest.mark.parametrize("replica", ["auto", "full", "none"])
def test_any_kind_of_replica_reads_the_same(port: int, replica: str) -> None:
    with NetworkObject("127.0.0.1", port, {"a": [1]}) as d:
        with NetworkObject("127.0.0.1", port, replica=replica) as other:
            assert (other["a"], len(other), list(other), other.get("b")) == ([1], 1, ["a"], None)
            d["b"] = 2
            other.sync()
            assert other["b"] == 2


def test_served_object_is_reached_at_its_address(folder: Path) -> None:
    with DiskObject("store", {"a": 1}) as d:
        address = d.serve("127.0.0.1", 0)
        with NetworkObject(address, promote=False) as other:
            assert other["a"] == 1
