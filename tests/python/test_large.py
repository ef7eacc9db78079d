"""Large values: what goes into chunks comes back, whole and in pieces, in bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Maker
from objsync import DiskObject, NetworkObject, Object, aio, errors

CHUNK = 64 << 10


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 64 * CHUNK, 64 * CHUNK + 1, 9 << 20])
def test_bytes_and_text_of_every_size_come_back(make: Maker, size: int) -> None:
    data, text = noise(size), "\u00e9" * (size // 2) + "x" * (size % 2)
    with make(place="store") as d:
        d["bytes"] = data
        d["text"] = text
        d["array"] = bytearray(data)
        assert d["bytes"] == data
        assert d["text"] == text
        assert d["array"] == data and type(d["array"]) is bytes
    with make(place="store") as d:
        assert d["bytes"] == data
        assert dict(d.items()) == {"bytes": data, "text": text, "array": data}


def test_every_kind_of_write_and_read(d: Object) -> None:
    one, other = noise(300_000, 1), noise(300_000, 2)
    d.update({"update": one, "small": 1})
    with d.batch() as b:
        b["batch"] = other
    with d.pipeline() as p:
        p["pipeline"] = b"before"
        p["pipeline"] = one
    assert d.setdefault("setdefault", other) == other
    assert d.setdefault("setdefault", one) == other
    assert d.transact(lambda t: t.update({"transact": one}) or t["batch"]) == other
    assert d["transact"] == d["update"] == d["pipeline"] == one
    assert d.get("batch") == d.get("batch", max_stale=0) == other
    assert d.compare_and_set("batch", one, b"no") is False
    assert d.compare_and_set("batch", other, one) is True
    assert d.pop("batch") == one
    assert d.popitem() == ("update", one)
    with d.snapshot() as s:
        d["transact"] = other
        assert s["transact"] == one
    assert [version.value for version in d.history("transact")] == [other, one]


def test_value_that_was_cut_otherwise_is_equal_and_popped(d: Object) -> None:
    data = noise(400_000)
    for key in ["a", "b", "z"]:
        with d.open(key, "wb", chunking="content") as f:
            f.write(data)
    assert d.compare_and_set("a", data, b"swapped") and d["a"] == b"swapped"
    assert d.pop("b") == data
    assert d.popitem() == ("z", data)


def test_handle_is_told_how_to_cut_and_its_pickle_knows(folder: Path) -> None:
    data = noise(2 << 20)
    packs = Path("store/packs")
    with DiskObject("store") as d:
        assert d.chunking == "fixed"
        d.chunking = "content"
        d["a"] = data
        d.flush()
        before = sum(file.stat().st_size for file in packs.iterdir())
        d["a"] = data[:1_000_000] + b"in the middle" + data[1_000_000:]
        d.flush()
        more = sum(file.stat().st_size for file in packs.iterdir()) - before
        assert more < 1 << 20, "most chunks are those of the value before"
        assert d["a"][1_000_000:1_000_013] == b"in the middle"
        with pickle.loads(pickle.dumps(d)) as other:
            assert other.chunking == "content"
        with pytest.raises(ValueError, match="rabin"):
            d.chunking = "rabin"  # type: ignore[assignment]


def test_event_brings_the_whole_value(d: Object) -> None:
    one, other = noise(300_000, 1), noise(300_000, 2)
    with d.watch() as w:
        d["a"] = one
        d["a"] = other
        d["b"] = 1
        first, second, third = next(w), next(w), next(w)
    assert (first.value, second.value, third.value) == (one, other, 1)
    assert second.old_value is None


def test_awaitable_forms(folder: Path) -> None:
    data = noise(3_000_000)

    async def main() -> None:
        async with aio.DiskObject("store") as d:
            await d.set("a", data)
            assert await d["a"] == data
            assert [value async for value in d.values()] == [data]

            source, target = await d.open("a"), await d.open("b", "wb")

            def copy() -> int:
                with source, target:
                    return target.write(source.read())

            assert await asyncio.to_thread(copy) == len(data)
            with pytest.raises(KeyError):
                await d.open("nothing")
            assert await d.pop("b") == data

    asyncio.run(main())


# As files


def test_file_is_read_as_one_of_open_is(d: Object, folder: Path) -> None:
    data = noise(500_000)
    Path("file").write_bytes(data)
    with d.open("a", "wb") as f:
        assert f.writable() and not f.seekable()
        assert f.write(data[:10]) == 10
        f.flush()
        assert "a" not in d
        f.write(memoryview(data)[10:300_000])
        f.write(bytearray(data[300_000:]))
        assert f.tell() == len(data)
    assert f.closed and f.ack is not None and f.ack == d.last_ack
    rng = random.Random(7)
    with open("file", "rb") as plain, d.open("a") as f:
        assert f.size == len(data) and f.readable() and f.seekable()
        for _ in range(200):
            match rng.randrange(4):
                case 0:
                    place, whence = rng.choice([(rng.randrange(500_100), 0), (-rng.randrange(500_000), 2)])
                    assert f.seek(place, whence) == plain.seek(place, whence)
                case 1:
                    count = rng.choice([0, 1, 10, 70_000])
                    assert f.read(count) == plain.read(count)
                case 2:
                    here, there = bytearray(1000), bytearray(1000)
                    assert f.readinto(here) == plain.readinto(there) and here == there
                case 3:
                    assert f.readline() == plain.readline()
            assert f.tell() == plain.tell()
        f.seek(5)
        assert f.read() == data[5:]
        with pytest.raises((ValueError, OSError)):
            f.seek(-1)
    assert io.BytesIO(data).read() == d["a"]


def test_small_file_is_a_value_as_any_other(d: Object) -> None:
    with d.open("a", "wb") as f:
        f.write(b"few")
    assert d["a"] == b"few"
    with d.open("a") as f:
        assert (f.size, f.read(), f.read()) == (3, b"few", b"")
    with d.open("empty", "wb"):
        pass
    assert d["empty"] == b""


def test_reader_goes_on_with_the_value_that_it_opened(d: Object) -> None:
    one, other = noise(3_000_000, 1), noise(3_000_000, 2)
    d["a"] = one
    with d.open("a") as f:
        start = f.read(1000)
        d["a"] = other
        assert start + f.read() == one
    assert d["a"] == other


def test_exception_in_the_block_and_a_writer_that_is_left_store_nothing(d: Object) -> None:
    d["a"] = "old"
    with pytest.raises(ZeroDivisionError), d.open("a", "wb") as f:
        f.write(noise(300_000))
        1 / 0  # noqa: B018
    assert d["a"] == "old" and f.closed and f.ack is None
    f = d.open("a", "wb")
    f.write(noise(300_000))
    del f
    assert d["a"] == "old"
    f = d.open("a", "wb")
    f.abort()
    with pytest.raises(ValueError):
        f.write(b"x")
    assert d["a"] == "old"


def test_wrong_types_modes_and_keys_are_refused_by_name(d: Object) -> None:
    d["list"] = [1]
    d["text"] = "x" * 100_000
    for key, type_name in [("list", "list"), ("text", "str")]:
        with pytest.raises(TypeError, match=f"value of key '{key}' is of type {type_name}: only bytes"):
            d.open(key)
    with pytest.raises(KeyError, match="nothing"):
        d.open("nothing")
    with pytest.raises(ValueError, match="mode 'r': it is 'rb' or 'wb'"):
        d.open("list", "r")  # type: ignore[call-overload]
    with pytest.raises(errors.InvalidError, match='chunking "rabin": it is "fixed" or "content"'):
        d.open("a", "wb", chunking="rabin")  # type: ignore[call-overload]
    with d.open("a", "wb") as f, pytest.raises(TypeError):
        f.write("text")  # type: ignore[arg-type]


def test_read_only_handle_does_not_write(folder: Path) -> None:
    with DiskObject("store") as d:
        d["a"] = noise(100_000)
    with DiskObject("store", readonly=True) as d:
        with pytest.raises(PermissionError):
            d.open("a", "wb")
        with d.open("a") as f:
            assert f.read() == noise(100_000)


def test_handle_that_queues_keeps_values_whole(folder: Path, port: int) -> None:
    with NetworkObject("localhost", port) as owner:
        place = owner.status.directory
        assert place is not None
    code = f"""
        from objsync import NetworkObject
        import sys
        with NetworkObject("localhost", {port}) as d:
            print("ready", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        with NetworkObject("localhost", port, offline="queue") as d:
            d["a"] = noise(300_000)
            assert d["a"] == noise(300_000)
            with pytest.raises(errors.UnsupportedError, match="queues its writes on disk"):
                d.open("a", "wb")


STREAMED = """
    import hashlib, random, resource, sys
    from objsync import DiskObject

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    MIB = 1 << 20
    hashes = [hashlib.sha256(), hashlib.sha256()]
    with DiskObject("store", durability="buffered") as d:
        d["warm"] = bytes(MIB)
        d["warm"]
        before = resident()
        highest = before
        with d.open("a", "wb") as f:
            for turn in range(300):
                piece = random.Random(turn).randbytes(MIB)
                hashes[0].update(piece)
                f.write(piece)
                highest = max(highest, resident())
        with d.open("a") as f:
            assert f.size == 300 * MIB
            while piece := f.read(MIB):
                hashes[1].update(piece)
                highest = max(highest, resident())
    assert hashes[0].digest() == hashes[1].digest()
    print((highest - before) // MIB)
"""


def test_value_larger_than_memory_is_streamed_in_bounded_memory(folder: Path) -> None:
    code = textwrap.dedent(STREAMED)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, f"{done.stdout.strip()} MiB more than before, for a value of 300 MiB"


def test_many_large_values_are_gone_through_in_bounded_memory(folder: Path) -> None:
    code = """
        import resource
        from objsync import DiskObject
        with DiskObject("store", durability="buffered") as d:
            for number in range(40):
                d[number] = bytes([number]) * (8 << 20)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert sum(len(value) for value in d.values()) == 40 * (8 << 20)
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, f"{done.stdout.strip()} MiB more, for 320 MiB of values"


def test_hash_of_what_was_written_is_that_of_what_is_read(make: Maker) -> None:
    seed = 11
    rng = random.Random(seed)
    with make() as d:
        for chunking in ["fixed", "content"]:
            written = hashlib.sha256()
            with d.open("a", "wb", chunking=chunking) as f:
                for _ in range(40):
                    piece = rng.randbytes(rng.randrange(200_000))
                    written.update(piece)
                    f.write(piece)
            with d.open("a") as f:
                read = hashlib.file_digest(f, "sha256")
            assert read.digest() == written.digest(), f"seed {seed}"
