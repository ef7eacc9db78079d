"""The cache of decoded values: bounded, and never in the way of what is true."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject, Object

CACHE_BYTES_MAX = 64 << 20
MIB = 1 << 20


def test_cache_is_bounded_by_the_size_of_the_values(folder: Path) -> None:
    with DiskObject("store", durability="buffered") as d:
        for number in range(150):
            d[number] = bytes(MIB)
        tracemalloc.start()
        try:
            for number in range(150):
                assert len(d[number]) == MIB
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert MIB < held_bytes <= CACHE_BYTES_MAX + 2 * MIB


@pytest.mark.parametrize("value", [1, "text", [1, 2], {"a": [1]}, {1}, (1, [2]), None, b"x"], ids=repr)
def test_every_change_of_a_cached_value_is_seen(d: Object, value: Any) -> None:
    d["key"] = value
    assert d["key"] == d["key"] == value
    changes = [
        (lambda: d.set("key", [value]), [value]),
        (lambda: d.update(key=5), 5),
        (lambda: d.incr("key"), 6),
        (lambda: d.compare_and_set("key", 6, value), value),
    ]
    for change, expected in changes:
        change()
        assert d["key"] == d["key"] == expected
    with d.batch() as b:
        b["key"] = "batch"
    assert d["key"] == d["key"] == "batch"
    del d["key"]
    assert d.get("key", "gone") == "gone"
    d["key"] = value
    d.clear()
    assert "key" not in d and d.get("key", "gone") == "gone"


def test_equal_keys_of_other_types_share_what_is_cached(d: Object) -> None:
    d[1] = "one"
    assert [d[1], d[1.0], d[True]] == ["one"] * 3
    d[True] = "two"
    assert [d[1], d[1.0], d[True]] == ["two"] * 3
    d["a"], d[b"a"] = "text", "bytes"
    assert [d["a"], d[b"a"], d["a"], d[b"a"]] == ["text", "bytes", "text", "bytes"]
