"""Large values in one piece, half written, in a long history, or larger than the memory there is."""

from __future__ import annotations

import asyncio
import gc
import io
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Maker
from objsync import DiskObject, NetworkObject, Object, aio

MIB = 1 << 20


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


HIGHEST = """
    from pathlib import Path

    def highest():
        "The most memory this process has had, in MiB."
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
"""
"""Unlike `resource.getrusage` it knows nothing of the process that started this one."""


def run(code: str) -> str:
    code = textwrap.dedent(HIGHEST) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# In one piece: as older programs, first contents on a peer and handles that queue store them


@pytest.fixture
def inline(folder: Path, port: int) -> Path:
    """A store of which every value is in one piece, made by a handle that queues."""
    with DiskObject(folder / "inline") as owner:
        address = owner.serve("127.0.0.1", port)
        with NetworkObject(address, offline="queue") as d:
            d["bytes"] = noise(100_000)
            d["text"] = "x" * 100_000
            d["last"] = noise(100_000, 3)
            assert d.compare_and_set("bytes", noise(100_000), noise(100_000, 2)) is True
            assert d.compare_and_set("bytes", noise(100_000), b"no") is False
            owner["chunks"] = noise(100_000)
            d.sync()
            assert d.compare_and_set("chunks", noise(100_000), noise(70_000)) is True
            assert d["chunks"] == noise(70_000)
    return folder / "inline"


def test_large_values_in_one_piece_are_popped_and_swapped(inline: Path) -> None:
    with DiskObject(inline) as d:
        assert d.compare_and_set("bytes", b"other", b"no") is False
        assert d.compare_and_set("bytes", noise(100_000, 2), noise(100_000, 4)) is True
        assert d.pop("bytes") == noise(100_000, 4)
        assert d.popitem() == ("text", "x" * 100_000)
        assert d.pop("last") == noise(100_000, 3)
        assert d.setdefault("chunks", b"no") == noise(70_000)


def test_large_default_value_is_popped_and_swapped(make: Maker) -> None:
    value = {"a": b"q" * 100_000, "b": "q" * 100_000, "c": b"r" * 100_000}
    with make(value) as d:
        assert d.compare_and_set("a", b"q" * 100_000, b"r" * 100_000) is True
        assert d.pop("a") == b"r" * 100_000
        assert d.popitem() == ("c", b"r" * 100_000)
        assert d.pop("b") == "q" * 100_000
        assert len(d) == 0


# Half written


def test_writer_under_a_text_file_that_is_dropped_stores_nothing(d: Object) -> None:
    d["a"] = "old"
    text = io.TextIOWrapper(d.open("a", "wb"), encoding="utf-8")
    text.write("half " * 100_000)
    del text
    gc.collect()
    assert d["a"] == "old"

    def fails() -> None:
        text = io.TextIOWrapper(d.open("a", "wb"), encoding="utf-8")
        text.write("half " * 100_000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    gc.collect()
    assert d["a"] == "old"


def test_writer_under_a_text_file_stores_what_was_closed_on_purpose(d: Object) -> None:
    with io.TextIOWrapper(d.open("a", "wb"), encoding="utf-8") as text:
        text.write("whole")
    assert d["a"] == b"whole"
    with pytest.raises(ZeroDivisionError), d.open("a", "wb") as f:
        text = io.TextIOWrapper(f, encoding="utf-8")
        text.write("half")
        text.flush()
        1 / 0  # noqa: B018
    del text
    assert d["a"] == b"whole"


def test_writer_is_not_detached_and_what_is_under_it_commits_nothing(d: Object) -> None:
    d["a"] = "old"
    f = d.open("a", "wb")
    f.write(noise(300_000))
    with pytest.raises(io.UnsupportedOperation, match="detach"):
        f.detach()
    f.raw.close()
    assert d["a"] == "old" and f.closed
    f = d.open("a", "wb")
    f.write(b"new")
    f.close()
    f.close()
    assert d["a"] == b"new"


# In a long history


def test_history_of_large_values_is_read_as_it_is_looked_at(folder: Path) -> None:
    more = run(
        """
        from objsync import DiskObject
        MIB = 1 << 20
        with DiskObject("store", durability="buffered") as d:
            for number in range(40):
                d["a"] = bytes([number]) * (8 * MIB)
            before = highest()
            versions = d.history("a")
            assert [version.value[0] for version in versions] == list(reversed(range(40)))
            assert all(len(version.value) == 8 * MIB for version in versions)
            print(highest() - before)
        """
    )
    assert int(more) < 100, f"{more} MiB more, for 320 MiB of versions"


def test_version_is_the_same_tuple_whether_it_was_read_or_not(d: Object) -> None:
    one, other = noise(300_000, 1), noise(300_000, 2)
    d["a"] = one
    first = d.set("a", "text " * 50_000).revision
    d["a"] = other
    newest, text, oldest = versions = d.history("a")
    assert "<bytes of 300000 bytes, not read>" in repr(newest)
    assert (newest.value, text.value, oldest.value) == (other, "text " * 50_000, one)
    assert newest[1] == other and oldest[1:3] == (one, oldest.revision)
    key, value, revision, *_ = text
    assert (key, value, revision) == ("a", "text " * 50_000, first)
    assert other in newest and one not in newest
    assert versions == d.history("a") and newest != oldest
    assert hash(newest) == hash(d.history("a", limit=1)[0])
    assert newest == tuple(newest) and not newest != tuple(newest)  # noqa: SIM202
    assert newest._replace(value=1).value == 1
    assert newest._asdict()["value"] == other
    again = pickle.loads(pickle.dumps(newest))
    assert again == newest and again.value == other and type(again) is type(newest)


def test_awaitable_history_has_the_values_too(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            await d.set("a", noise(300_000))
            [version] = await d.history("a")
            assert await asyncio.to_thread(lambda: version.value) == noise(300_000)

    asyncio.run(main())


# Larger than the memory there is

LIMITED = """
    import asyncio, resource
    from objsync import DiskObject, aio
    MIB = 1 << 20

    def limit(more):
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more * MIB, resource.RLIM_INFINITY))

    with DiskObject("store", durability="buffered") as d:
        d["text"] = "x" * (300 * MIB)
        d["bytes"] = b"y" * (300 * MIB)
        d["small"] = 1
        limit(150)
        reads = [
            lambda: d["text"],
            lambda: d["bytes"],
            lambda: d.get("text"),
            lambda: d.pop("text"),
            lambda: list(d.values()),
            lambda: d.history("text")[0].value,
            lambda: d.open("bytes").read(),
        ]
        for place, read in enumerate(reads):
            try:
                read()
            except MemoryError as error:
                told = str(error)
                assert not told or "key" in told and "read it in pieces" in told, told
            else:
                raise AssertionError(f"read {place} had the memory")
        assert d["small"] == 1 and set(d) == {"bytes", "small", "text"}
        with d.open("bytes") as f:
            assert f.read(10) == b"y" * 10
    print("went on")
"""


def test_value_for_which_there_is_no_memory_is_a_memory_error(folder: Path) -> None:
    assert run(LIMITED) == "went on"


def test_value_whose_chunks_are_gone_takes_no_memory_for_its_size(folder: Path) -> None:
    with DiskObject("store", durability="buffered") as d:
        d["bytes"], d["text"] = b"y" * (300 * MIB), "x" * (300 * MIB)
    for pack in Path("store/packs").iterdir():
        pack.unlink()
    more = run(
        """
        from objsync import DiskObject, errors
        with DiskObject("store") as d:
            before = highest()
            for key in ["bytes", "text"]:
                try:
                    d[key]
                except errors.ConflictError as error:
                    assert key in str(error)
            print(highest() - before)
        """
    )
    assert int(more) < 50, f"{more} MiB more, for nothing"
