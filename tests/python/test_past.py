"""The past: `at` and `history`, through every kind of object and from another process."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import Maker
from objsync import DiskObject, NetworkObject, Object, Past, aio, errors
from programs import ROOT, Server, stop_all
from test_processes import in_fork

TRIMMED = Path(__file__).with_name("data") / "trimmed.tar.gz"
"""A store whose log was trimmed: made by OBJSYNC_TRIMMED_STORE=... cargo test -p objsync past."""


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


def peer_of(server: Server, **options: object) -> NetworkObject:
    host, port = server.address.rsplit(":", 1)
    return NetworkObject(host, int(port), promote=False, **options)


def filled(d: Object) -> tuple[int, int, int]:
    """Three revisions: `a` is 1, then [2] with `b` beside it, then deleted."""
    first = d.set("a", 1).revision
    with d.batch() as batch:
        batch["a"] = [2]
        batch["b"] = ("x", {"y"})
    assert batch.ack
    del d["a"]
    assert d.last_ack
    return first, batch.ack.revision, d.last_ack.revision


def check_past(d: Object) -> None:
    first, second, third = filled(d)
    past = d.at(second)
    assert isinstance(past, Past) and isinstance(past, Mapping)
    assert past.revision == second
    assert (past["a"], past["b"]) == ([2], ("x", {"y"}))
    assert past == {"a": [2], "b": ("x", {"y"})} == past.copy() == dict(past)
    assert past != d
    assert (list(past), list(reversed(past)), len(past)) == (["a", "b"], ["b", "a"], 2)
    assert list(past.items()) == [("a", [2]), ("b", ("x", {"y"}))]
    assert list(past.values()) == [[2], ("x", {"y"})]
    assert list(reversed(past.keys())) == ["b", "a"]
    assert ("a" in past, "never" in past) == (True, False)
    assert (past.get("never"), past.get("never", 0), past.get("a")) == (None, 0, [2])
    with pytest.raises(KeyError) as missing:
        past["never"]
    assert missing.value.args == ("never",)
    past["a"].append(3)
    assert past["a"] == [2], "what a read returns is the caller's own"
    assert dict(past.range("b")) == dict(past.prefix("b")) == {"b": ("x", {"y"})}
    assert not hasattr(past.range("b"), "clear")
    assert d.at(first) == {"a": 1}
    assert d.at(third) == {"b": ("x", {"y"})}
    assert f"at revision {first}, {{'a': 1}}" in repr(d.at(first))


def check_history(d: Object) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    first, second, third = filled(d)
    versions = d.history("a")[:3]
    assert [(v.kind, v.value, v.revision) for v in versions] == [
        ("delete", None, third), ("set", [2], second), ("set", 1, first),
    ]
    for version in versions:
        assert version.key == "a" and not version.is_oldest_known
        assert version.time and before <= version.time <= datetime.now(UTC) + timedelta(seconds=1)
    assert d.history("a", limit=1) == versions[:1]
    assert d.history("a", before=third, limit=1) == versions[1:2]
    assert d.history("a", limit=None)[:3] == versions
    assert d.history("a", limit=0) == d.history("never") == []


def test_past_is_a_mapping_of_that_moment(d: Object) -> None:
    check_past(d)


def test_history_lists_what_a_key_was_newest_first(d: Object) -> None:
    check_history(d)
    d[1.0] = "one"
    assert [version.key for version in d.history(True)] == [1]


@pytest.mark.parametrize("replica", ["auto", "none"])
def test_peer_reads_the_past_of_its_owner(folder: Path, replica: str) -> None:
    with peer_of(Server(folder / "served"), replica=replica) as d:
        check_past(d)
        check_history(d)


def test_object_of_a_part_of_the_keys_sees_that_part_of_the_past(folder: Path) -> None:
    server = Server(folder / "served")
    with peer_of(server) as d, peer_of(server, prefix="x:") as part:
        d["x:1"] = 1
        revision = d.set("y:1", 2).revision
        assert part.at(revision) == {"x:1": 1}
        assert len(part.at(revision)) == 1
        assert part.history("y:1") == []


def test_revision_that_is_not_there_yet_is_invalid(d: Object) -> None:
    newest = d.set("a", 1).revision
    with pytest.raises(errors.InvalidError, match=f"revision {newest + 1} .* the newest is {newest}"):
        d.at(newest + 1)
    with pytest.raises(errors.UnserialisableError):
        d.at(newest)[object()]


def test_past_is_closed_with_its_object_and_can_be_pickled(make: Maker) -> None:
    with make() as d:
        past = d.at(d.set("a", 1).revision)
        d["a"] = 2
        again = pickle.loads(pickle.dumps(past))
        assert again == {"a": 1} and again.revision == past.revision
    with pytest.raises(errors.ClosedError):
        past["a"]
    assert "closed" in repr(past)


def test_forked_child_reads_the_past_its_parent_opened(make: Maker) -> None:
    with make() as d:
        past = d.at(d.set("a", 1).revision)
        d["a"] = 2

        def reads() -> None:
            assert (past["a"], len(past), dict(past)) == (1, 1, {"a": 1})
            assert [version.value for version in d.history("a")] == [2, 1]

        assert in_fork(reads) == 0
        reads()


def test_limit_of_a_history_is_the_one_of_the_limits_page() -> None:
    page = (ROOT / "proto" / "src" / "limits.rs").read_text()
    found = re.search(r"HISTORY_COUNT_DEFAULT: u32 = ([\d_]+);", page)
    assert found
    for kind in (Object, aio.Object):
        default = inspect.signature(kind.history).parameters["limit"].default
        assert default == int(found[1].replace("_", ""))


@pytest.fixture
def trimmed(folder: Path) -> Path:
    with tarfile.open(TRIMMED) as archive:
        archive.extractall(folder / "trimmed", filter="data")
    return folder / "trimmed"


@pytest.mark.parametrize("is_owner", [True, False])
def test_revision_past_the_retention_is_told_with_its_numbers(trimmed: Path, is_owner: bool) -> None:
    with DiskObject(trimmed) if is_owner else peer_of(Server(trimmed)) as d:
        with pytest.raises(errors.PastRetentionError) as told:
            d.at(3)
        error = told.value
        assert error.revision == 3 < error.oldest
        assert str(error) == f"revision 3 is no longer kept; the oldest that can be read is {error.oldest}"
        assert isinstance(error, LookupError) and not isinstance(error, KeyError)
        again = pickle.loads(pickle.dumps(error))
        assert (again.revision, again.oldest, str(again)) == (3, error.oldest, str(error))
        assert d.at(error.oldest)["a"] == "1"
        [known] = d.history("a")
        assert (known.value, known.kind, known.time, known.is_oldest_known) == ("1", "set", None, True)
        assert known.revision < error.oldest


@pytest.mark.parametrize("is_owner", [True, False])
def test_watch_from_before_the_log_hears_which_changes_are_gone_and_goes_on(
    trimmed: Path, is_owner: bool
) -> None:
    with DiskObject(trimmed) if is_owner else peer_of(Server(trimmed)) as d, d.watch(since=3) as w:
        gaps: list[errors.HistoryGapError] = []
        while len(gaps) < 10:
            try:
                event = next(w)
                break
            except errors.HistoryGapError as error:  # once more where the owner goes on to remove log
                gaps.append(error)
        assert (gaps[0].after, gaps[0].same_history) == (3, True)
        ends = [3, *(error.oldest for error in gaps), event.revision]
        assert ends == sorted(set(ends)) and [error.after for error in gaps[1:]] == ends[1:-2]
        assert isinstance(gaps[0], LookupError) and isinstance(gaps[0], errors.ConflictError)


def test_awaitable_forms_do_what_the_blocking_ones_do(folder: Path) -> None:
    async def check(d: aio.Object) -> None:
        first = (await d.set("a", 1)).revision
        await d.update({"a": 2, "b": 3})
        past = await d.at(first)
        assert isinstance(past, aio.Past) and past.revision == first
        assert (await past["a"], await past.get("b"), await past.get("b", 5)) == (1, None, 5)
        with pytest.raises(KeyError):
            await past["b"]
        assert (await past.contains("a"), await past.contains("b"), await past.len()) == (True, False, 1)
        assert await past.copy() == {"a": 1}
        later = await d.at(d.last_ack.revision if d.last_ack else 0)
        assert [key async for key in later] == ["a", "b"]
        assert [pair async for pair in later.items(reverse=True)] == [("b", 3), ("a", 2)]
        assert [value async for value in later.prefix("b").values()] == [3]
        assert [key async for key in later.range("a", "b").keys()] == ["a"]
        assert [version.value for version in await d.history("a")] == [2, 1]
        assert [version.value for version in await d.history("a", limit=1)] == [2]
        assert [version.value for version in await d.history("a", before=first + 1)] == [1]
        with pytest.raises(errors.InvalidError):
            await d.at(later.revision + 1)

    async def main() -> None:
        async with aio.DiskObject("own") as d:
            await check(d)
        host, port = Server(folder / "served").address.rsplit(":", 1)
        async with aio.NetworkObject(host, int(port), promote=False, replica="none") as d:
            await check(d)

    asyncio.run(asyncio.wait_for(main(), 30))
