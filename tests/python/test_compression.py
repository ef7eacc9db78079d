"""Compressed dictionaries: small values shrink too, and everybody reads them."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from objsync import CompressedDiskObject, Compression, DiskObject, NetworkObject
from programs import program
from value_strategies import values

COUNT = 3000


def user(number: int) -> dict[str, Any]:
    return {
        "name": f"user-{number * 7919 % 100_003}",
        "mail": f"u{number}@example.org",
        "roles": ["reader", "writer"],
        "city": ["Bergen", "Lisboa", "Gdansk", "Cork"][number % 4],
        "active": number % 3 == 0,
    }


USERS = {f"user:{number:05}": user(number) for number in range(COUNT)}


def how(d: CompressedDiskObject) -> Compression:
    compression = d.status.compression
    assert compression is not None
    return compression


def test_small_values_shrink_and_status_tells_how_much(folder: Path) -> None:
    with CompressedDiskObject("small", durability="buffered") as d:
        d.update(USERS)
        told = how(d)
        assert (told.level, told.values, told.trainings) == (5, COUNT, 1)
        assert told.dictionary is not None
        assert told.trained_at is not None and told.trained_at.tzinfo is not None
        assert told.ratio is not None and told.ratio > 2
        assert told.ratio == told.plain_bytes / told.stored_bytes
        assert told.compress_mb_s is not None and told.compress_mb_s > 0
        assert d == USERS
        assert how(d).decompress_mb_s is not None
    with CompressedDiskObject("plain", dictionary=False) as d:
        assert d.status.compression is not None
        assert d.status.compression.ratio is None
        d.update(USERS)
        assert how(d).dictionary is None
        assert how(d).ratio < told.ratio  # type: ignore[operator]
    with DiskObject("small") as same:
        assert same == USERS
        assert same.status.compression is None


def test_values_of_a_dictionary_are_changed_in_place_by_anybody(folder: Path) -> None:
    with CompressedDiskObject("store", {"list": [USERS["user:00000"]]}) as d:
        d.update(USERS)
        d["list"] = [user(number) for number in range(5)]
        address = d.serve("127.0.0.1", 0)
        with NetworkObject(address, promote=False) as other:
            assert other == {**USERS, "list": [user(number) for number in range(5)]}
            assert other.compare_and_set("user:00001", user(1), user(2))
            other.update({"user:00003": user(4)})
            other.sync()
            assert d["user:00001"] == user(2)
            assert d["user:00003"] == user(4)
            before = d.status.revision
            other["user:00001"] = user(9)
            assert other.at(before)["user:00001"] == user(2)
            assert [version.value for version in other.history("user:00001")] == [
                user(9),
                user(2),
                user(1),
            ]


@pytest.mark.parametrize("level", [0, 23, 100])
def test_level_that_is_none_is_refused_and_named(folder: Path, level: int) -> None:
    with pytest.raises(ValueError, match=f"compression_level {level}: it is 1 to 22"):
        CompressedDiskObject("store", compression_level=level)
    assert not Path("store").exists()


@pytest.mark.parametrize("level", [1, 22])
def test_first_and_last_level_work(folder: Path, level: int) -> None:
    with CompressedDiskObject("store", compression_level=level) as d:
        d.update(USERS)
        assert how(d).level == level
        assert d == USERS


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=8))
def test_every_value_comes_back_from_a_store_with_a_dictionary(
    trained: CompressedDiskObject, given_values: list[Any]
) -> None:
    for number, value in enumerate(given_values):
        trained[number] = value
        # It is a live one, and stands for the value.
        again = copy.deepcopy(trained[number])
        assert type(again) is type(value)
        assert again == value


def test_list_that_was_packed_with_a_dictionary_is_changed_by_whoever_holds_it(folder: Path) -> None:
    wanted: list[Any] = [USERS[name] for name in list(USERS)[:5]]
    with CompressedDiskObject("store", compression_level=9) as d:
        d.update(USERS)
        assert how(d).dictionary is not None
        d["list"] = wanted
        with NetworkObject(d.serve(), replica="full") as n:
            for number, by in enumerate([d, n, d, n]):
                by["list"].append(number)
                wanted.append(number)
                n.sync()
                assert d["list"] == n["list"] == wanted
    with CompressedDiskObject("store") as d:
        assert d["list"] == wanted


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("trained") / "store"
    with CompressedDiskObject(path, durability="buffered") as d:
        d.update(USERS)
        assert how(d).dictionary is not None
        yield d


def test_raw_export_is_read_by_another_zstd(folder: Path) -> None:
    extra = {"blob": b"\x00\xff" * 50, "text": "words \u00e9", ("a", 1): {"n": 1}, "../up": "x"}
    with CompressedDiskObject("store") as d:
        d.update({**USERS, **extra})
    command = [program(), "--to", "./store", "export", "--raw", "out"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    seen = {}
    for line in Path("out/index.jsonl").read_text().splitlines():
        entry = json.loads(line)
        packed = Path("out", entry["file"]).read_bytes()
        plain = zstandard.ZstdDecompressor().decompress(packed)
        assert len(plain) == entry["bytes"]
        key = entry["key"] if isinstance(entry["key"], str) else tuple(entry["key"]["$tuple"])
        seen[key] = {
            "bytes": lambda plain: plain,
            "text": lambda plain: plain.decode(),
            "json": json.loads,
        }[entry["content"]](plain)
    assert seen == {**USERS, **extra}


def test_status_of_the_program_tells_of_compression(folder: Path) -> None:
    with CompressedDiskObject("store") as d:
        d.update(USERS)
        number = how(d).dictionary
    command = [program(), "--to", "./store", "status"]
    run = subprocess.run([*command, "--json"], check=True, capture_output=True, timeout=60)
    told = json.loads(run.stdout)["compression"]
    assert told["dictionary"] == number
    assert told["ratio"] > 2
    text = subprocess.run(command, check=True, capture_output=True, timeout=60, text=True).stdout
    assert f"dictionary {number} of 2" in text
