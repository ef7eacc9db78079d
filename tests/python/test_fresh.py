"""How old a read may be, and snapshots."""

from __future__ import annotations

import asyncio
import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from objsync import DiskObject, Object, aio, errors
from programs import Told


def test_fresh_block_sees_what_others_committed_before(folder: Path) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        for number in range(50):
            other.do(f"d['a'] = {number}")
            with d.fresh() as fresh:
                assert fresh is d
                assert d["a"] == number
            other.do(f"d['a'] = {number} + 0.5")
            assert d.get("a", max_stale=0) == number + 0.5


def test_age_is_seconds_or_a_timedelta_and_a_default_is_given(d: Object) -> None:
    d["a"] = 1
    assert d.get("a", max_stale=0.2) == d.get("a", max_stale=timedelta(seconds=1)) == 1
    assert d.get("b", max_stale=0) is None
    assert d.get("b", 7, max_stale=5) == 7
    with pytest.raises(errors.InvalidError, match="max_stale"):
        d.get("a", max_stale=-1)
    with pytest.raises(TypeError, match="max_stale"):
        d.get("a", max_stale="soon")


def test_snapshot_stays_while_the_object_changes(d: Object) -> None:
    d.update({"a": 1, "b": [2], "c": 3})
    with d.snapshot() as s:
        d["a"] = 10
        del d["c"]
        d["d"] = 4
        assert dict(s) == s.copy() == {"a": 1, "b": [2], "c": 3}
        assert list(s) == ["a", "b", "c"] and list(reversed(s)) == ["c", "b", "a"]
        assert len(s) == 3 and "c" in s and "d" not in s
        assert s["b"] == [2] and s.get("d", 0) == 0
        assert dict(s.prefix("b")) == {"b": [2]}
        assert s.revision < d.status.revision
        assert pickle.loads(pickle.dumps(s))["a"] == 1
        with pytest.raises(KeyError):
            s["d"]
    with pytest.raises(errors.ClosedError, match="released"):
        s["a"]
    assert d.copy() == {"a": 10, "b": [2], "d": 4}


def test_snapshot_of_a_peer_holds_what_was_there(folder: Path) -> None:
    with Told(folder / "data.obj") as other, DiskObject(folder / "data.obj") as d:
        other.do("d.update(a=1, b=1)")
        with d.snapshot() as s:
            other.do("d.update(a=2, b=2)")
            assert dict(s) == {"a": 1, "b": 1}
        assert dict(d.snapshot()) == {"a": 2, "b": 2}


def test_awaitable_forms_do_the_same(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject(folder / "data.obj", {"a": 1, "b": 2}) as d:
            async with d.fresh() as fresh:
                assert await fresh["a"] == 1
            assert await d.get("a", max_stale=0.5) == 1
            assert await d.get("c", 9, max_stale=timedelta(0)) == 9
            async with d.snapshot() as s:
                await d.set("a", 5)
                assert await s["a"] == 1
                assert await s.copy() == {"a": 1, "b": 2}
                assert await s.len() == 2
            with pytest.raises(errors.ClosedError):
                await s["a"]
            held = await d.snapshot()
            assert await held["a"] == 5
            held.close()

    asyncio.run(main())
