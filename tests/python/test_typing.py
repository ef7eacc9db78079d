"""The types: stubs and modules agree, and a program that uses the package right passes mypy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin

import pytest

import objsync
from objsync import aio

SAMPLE = '''
import asyncio
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

from objsync import (
    Ack, CompressedDiskObject, DiskObject, Event, NetworkObject, Object, Past, Transaction, Version, aio
)

def fill(d: MutableMapping[Any, Any]) -> None:
    d["a"] = 1

def seen(event: Event) -> None:
    print(event.key, event.value, event.kind == "set")

def use(d: Object) -> Ack:
    fill(d)
    total: int = d.incr("n") + len(d)
    d.update({"a": 1}, b=2)
    d.update([("c", 3)])
    with d.batch() as b, d.pipeline() as p:
        b["x"] = p["y"] = total
    for key, value in d.prefix("a").items():
        print(key, value)
    with d.watch(seen, prefix="a"), d.watch() as w:
        for event in w:
            seen(event)
    role: str = d.status.role
    print(role, d.compare_and_set("a", 1, 2), d | {"a": 1}, d.copy())
    past: Past = d.at(7)
    versions: list[Version] = d.history("a", limit=5)
    print(past["a"], dict(past.prefix("a")), [version.time for version in versions])
    def move(t: Transaction) -> int:
        t["a"] = t.get("b", 0) + len(t.prefix("c"))
        return 7
    moved: int = d.transact(move)
    appended: int = d.list_append("l", 1, 2) + d.set_add("s", 1) + d.set_discard("s", 1)
    with d.lock("name", ttl=5, timeout=timedelta(seconds=1)) as lock, d.presence("k", 1):
        fence: int | None = lock.fence
        d.transact(lambda t: t.require(lock))
    with d.lease(ttl=timedelta(seconds=3)) as lease:
        d.set("a", 1, lease=lease)
    print(moved, appended, fence, lease.is_alive)
    return d.set("a", 1, ttl=2.5)

with DiskObject("a", {"b": 1}, durability="buffered") as d:
    use(d)
with CompressedDiskObject("a", compression_level=3) as c:
    use(c)
with NetworkObject("localhost", 8080, promote=False, replica="none") as n:
    use(n)

async def main() -> int:
    async with aio.DiskObject("a") as d:
        ack: Ack = await d.set("a", 1)
        async for key, value in d.items():
            print(key, value, ack.revision)
        async def move(t: aio.Transaction) -> int:
            t["a"] = await t.get("b", 0)
            return 7
        moved: int = await d.transact(move)
        async with d.lock("name") as lock, d.presence("k", 1):
            print(lock.fence, moved)
        async with d.lease(ttl=3) as lease:
            await d.set("a", 1, ttl=2, lease=lease)
        return await d.incr("n")

asyncio.run(main())
'''

WRONG = '''
from objsync import DiskObject, NetworkObject
DiskObject("a", durability="never")
NetworkObject("a", "8080")
DiskObject("a").incr("n", "1")
'''


WRONG_TYPES = '''
from objsync import DiskObject, Event, NetworkObject
d: DiskObject[str, int] = DiskObject("a")
d[1] = 1
d["a"] = "text"
d.update({"a": "text"})
d.compare_and_set("a", 1, "text")
with d.batch() as b:
    b["a"] = None
def seen(event: Event[str, str]) -> None: ...
d.watch(seen)
text: str = d["a"]
'''


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MYPY_CACHE_DIR": str(Path("mypy-cache").resolve())}
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, env=environment, timeout=110
    )


def test_package_is_marked_as_typed() -> None:
    assert (Path(objsync.__file__).parent / "py.typed").exists()


def test_program_that_uses_the_package_right_passes_strict_mypy(folder: Path) -> None:
    Path("sample.py").write_text(SAMPLE)
    checked = mypy("mypy", "--strict", "sample.py")
    assert checked.returncode == 0, checked.stdout


def test_program_that_uses_it_wrong_is_told_so(folder: Path) -> None:
    Path("wrong.py").write_text(WRONG)
    checked = mypy("mypy", "--strict", "wrong.py")
    assert checked.stdout.count("error: Argument") == 3, checked.stdout


PROGRAM = Path(__file__).with_name("typed_program.py")


def test_typed_program_passes_and_each_type_is_the_one_that_stands_there(folder: Path) -> None:
    checked = mypy("mypy", "--strict", str(PROGRAM))
    assert checked.returncode == 0, checked.stdout
    revealed = re.findall(r":(\d+): note: Revealed type is \"(.*)\"", checked.stdout)
    found = {int(line): text.replace("builtins.", "") for line, text in revealed}
    lines = enumerate(PROGRAM.read_text().splitlines(), 1)
    wanted = {number: line.split("  # ")[1] for number, line in lines if "reveal_type(" in line and "  # " in line}
    assert found == wanted
    assert len(wanted) > 40


def test_wrong_keys_and_values_of_a_declared_object_are_told(folder: Path) -> None:
    Path("wrong.py").write_text(WRONG_TYPES)
    checked = mypy("mypy", "--strict", "wrong.py")
    told = {int(line) for line in re.findall(r"wrong.py:(\d+): error", checked.stdout)}
    assert told == {4, 5, 6, 7, 9, 11, 12}, checked.stdout


def test_declared_object_is_the_same_class_when_it_runs(folder: Path) -> None:
    with objsync.DiskObject[str, int]("data.obj") as d:
        assert type(d) is objsync.DiskObject
    for kind in (objsync.NetworkObject, objsync.Object, objsync.Batch, objsync.Pipeline, objsync.Watch, objsync.Event,
                 objsync.Transaction, objsync.Past, objsync.RangeView, aio.NetworkObject, aio.Transaction, aio.Watch):  # fmt: skip
        assert get_origin(kind[str, int]) is kind and get_args(kind[str, int]) == (str, int)


def test_package_itself_passes_strict_mypy(folder: Path) -> None:
    checked = mypy("mypy", "--strict", "-p", "objsync")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.timeout(240)
def test_stubs_and_modules_agree(folder: Path) -> None:
    checked = mypy("mypy.stubtest", "objsync")
    assert checked.returncode == 0, checked.stdout + checked.stderr
