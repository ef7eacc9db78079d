"""Typed code of a user: mypy --strict passes over it, and says of each `reveal_type` what stands behind it.

Checked by test_typing.py; never run.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import MutableMapping
from dataclasses import dataclass

import objsync
from objsync import CompressedDiskObject, DiskObject, Event, NetworkObject, Object, aio


@objsync.value
@dataclass
class User:
    name: str
    age: int = 0


@objsync.value(name="app.Level")
class Level(enum.IntEnum):
    LOW = 1


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


objsync.register(Money, encode=lambda money: money.cents, decode=lambda stored: Money(stored))


def reads(d: NetworkObject[str, User]) -> None:
    reveal_type(d["a"])  # typed_program.User
    reveal_type(d.get("a"))  # typed_program.User | None
    reveal_type(d.get("a", 7))  # typed_program.User | int
    reveal_type(d.get("a", User("b"), max_stale=1.0))  # typed_program.User
    reveal_type(d.pop("a"))  # typed_program.User
    reveal_type(d.pop("a", None))  # typed_program.User | None
    reveal_type(d.popitem())  # tuple[str, typed_program.User]
    reveal_type(d.setdefault("a", User("b")))  # typed_program.User
    reveal_type(d.copy())  # dict[str, typed_program.User]
    reveal_type(list(d))  # list[str]
    reveal_type(list(reversed(d)))  # list[str]
    reveal_type(next(iter(d.keys())))  # str
    reveal_type(next(iter(d.values())))  # typed_program.User
    reveal_type(next(iter(d.items())))  # tuple[str, typed_program.User]
    reveal_type(d.range("a", "b"))  # objsync._views.RangeView[str, typed_program.User]
    reveal_type(d.prefix("a")["ab"])  # typed_program.User
    reveal_type(d.incr("n"))  # int
    reveal_type(d.set("a", User("b")))  # tuple[int, int, str, fallback=objsync._records.Ack]


def moments(d: DiskObject[int, list[str]]) -> None:
    reveal_type(d.at(3))  # objsync._past.Past[int, list[str]]
    reveal_type(d.at(3)[1])  # list[str]
    reveal_type(d.history(1)[0].value)  # list[str] | None
    with d.snapshot() as s:
        reveal_type(s[1])  # list[str]
    with d.batch() as b, d.pipeline() as p:
        reveal_type(b)  # objsync._objsync.Batch[int, list[str]]
        reveal_type(p)  # objsync._objsync.Pipeline[int, list[str]]
        b[1] = p[2] = ["x"]
    with d.fresh() as f:
        reveal_type(f)  # objsync._objects.DiskObject[int, list[str]]


def changes(d: CompressedDiskObject[str, float]) -> float:
    def seen(event: Event[str, float]) -> None:
        reveal_type(event.key)  # str
        reveal_type(event.value)  # float | None

    with d.watch(seen), d.watch(key="a") as w:
        reveal_type(w)  # objsync._watch.Watch[str, float]
        reveal_type(next(w).old_value)  # float | None
    return d.transact(lambda t: t["a"] + t.get("b", 0.5))


def undeclared(d: Object) -> None:
    reveal_type(d["a"])  # Any
    reveal_type(DiskObject("a", {"b": 1}))  # objsync._objects.DiskObject[Any, Any]
    d[1], d["a"] = 2, None


def mapping(d: MutableMapping[str, int]) -> None:
    d["a"] = 1


mapping(NetworkObject[str, int]("localhost", 8080))
typed: DiskObject[tuple[str, int], bytes] = DiskObject("data.obj")
typed["a", 1] = b"x"


async def main(d: aio.NetworkObject[str, User]) -> None:
    reveal_type(await d["a"])  # typed_program.User
    reveal_type(await d.get("a"))  # typed_program.User | None
    reveal_type(await d.pop("a", None))  # typed_program.User | None
    reveal_type(await d.copy())  # dict[str, typed_program.User]
    async for key, user in d.items():
        reveal_type((key, user))  # tuple[str, typed_program.User]
    async for key in d.prefix("a"):
        reveal_type(key)  # str
    async with d.watch() as w, d.batch() as b, d.snapshot() as s:
        b["a"] = await s["a"]
        async for event in w:
            reveal_type(event.value)  # typed_program.User | None

    async def rename(t: aio.Transaction[str, User]) -> int:
        reveal_type(await t["a"])  # typed_program.User
        return 7

    reveal_type(await d.transact(rename))  # int


reveal_type(User("a").age)  # int
reveal_type(Level.LOW)  # Literal[typed_program.Level.LOW]?
asyncio.run(main(aio.NetworkObject("localhost", 8080)))
