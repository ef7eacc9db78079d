"""Calls that are cancelled at any moment: nothing is lost, doubled or half done, and the handle goes on.

The moments come from a seed: before the call begins, some turns of the loop after, some time after, or
after its answer has come and before its task runs again. `OBJSYNC_SEEDS` is how many seeds there are.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject, aio
from programs import Told, stop_all

DEADLINE_S = 60.0
SEEDS = range(int(os.environ.get("OBJSYNC_SEEDS", "2")))
NOTHING = "nothing is there"
STANDING = threading.Event()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


@pytest.fixture(params=["owner", "peer"])
def place(request: pytest.FixtureRequest, folder: Path) -> Path:
    """A store whose owner is this process, or another one."""
    if request.param == "peer":
        Told(folder / "store", durability="buffered")
    return folder / "store"


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, DEADLINE_S))


async def cancelled(chance: random.Random, start: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[bool, Any]:
    """Runs what is started and cancels it at some moment; whether it was in time, and what came if not."""
    task = asyncio.ensure_future(start())
    moment = chance.choice(["turns", "time", "answered", "answered"])
    if moment == "turns":
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        task.cancel()
    elif moment == "time":
        await asyncio.sleep(chance.random() * 0.003)
        task.cancel()
    else:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # The answer comes while the loop stands still; then it is read and the task cancelled in one turn.
        STANDING.wait(0.001)
        asyncio.get_running_loop().call_later(0, task.cancel)
    try:
        return False, await task
    except asyncio.CancelledError:
        return True, None


async def settled(d: aio.Object) -> dict[Any, Any]:
    """The content, once what was handed over is done.

    One thread does the calls of threads in order, and a write waits for all that were handed over before.
    """
    await asyncio.to_thread(lambda: None)
    await d.set(None, "a barrier")
    await d.sync()
    content = await d.copy()
    del content[None]
    return content


def one_thread() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


Change = tuple[str, Callable[[aio.Object], Coroutine[Any, Any, Any]], Callable[[dict[Any, Any]], Any]]


def a_change(chance: random.Random, turn: int) -> Change:
    """A random change: its name, as it is made, and what it makes of a dict."""
    key, other = chance.sample("abc", 2)

    async def batch(d: aio.Object) -> None:
        async with d.batch() as b:
            b[key] = turn
            del b[other]

    async def transact(d: aio.Object) -> None:
        async def move(t: aio.Transaction) -> None:
            t[other] = await t.pop(key, NOTHING)
            await t.setdefault("t", turn)

        await d.transact(move)

    async def awaited(call: Callable[[], Any]) -> Any:
        return await call()

    def batched(m: dict[Any, Any]) -> None:
        m[key] = turn
        m.pop(other, None)

    def moved(m: dict[Any, Any]) -> None:
        m[other] = m.pop(key, NOTHING)
        m.setdefault("t", turn)

    return chance.choice([
        ("set", lambda d: awaited(lambda: d.set(key, turn)), lambda m: m.__setitem__(key, turn)),
        ("incr", lambda d: awaited(lambda: d.incr("n", 1)), lambda m: m.__setitem__("n", m.get("n", 0) + 1)),
        ("append", lambda d: awaited(lambda: d.list_append("l", turn)), lambda m: m.__setitem__("l", [*m.get("l", []), turn])),
        ("add", lambda d: awaited(lambda: d.set_add("s", turn % 5)), lambda m: m.__setitem__("s", m.get("s", set()) | {turn % 5})),
        ("pop", lambda d: awaited(lambda: d.pop(key, NOTHING)), lambda m: m.pop(key, NOTHING)),
        ("popitem", lambda d: awaited(lambda: d.popitem()), lambda m: m.pop(max(m, default=None), None)),
        ("setdefault", lambda d: awaited(lambda: d.setdefault(key, turn)), lambda m: m.setdefault(key, turn)),
        ("update", lambda d: awaited(lambda: d.update({key: turn}, b=-turn)), lambda m: m.update({key: turn}, b=-turn)),
        ("swap", lambda d: awaited(lambda: d.compare_and_set(key, aio.MISSING, turn)), lambda m: m.setdefault(key, turn)),
        ("clear", lambda d: awaited(lambda: d.prefix("a").clear()), lambda m: m.pop("a", None)),
        ("batch", batch, batched),
        ("transact", transact, moved),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_change_happens_once_or_not_at_all(place: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def main() -> int:
        one_thread()
        in_time = 0
        async with aio.DiskObject(place, {"n": 0}, durability="buffered") as d:
            before = await settled(d)
            for turn in range(120):
                name, change, on_dict = a_change(chance, turn)
                after = {key: value.copy() if isinstance(value, list | set) else value for key, value in before.items()}
                on_dict(after)
                was_cancelled, _ = await cancelled(chance, lambda change=change: change(d))  # type: ignore[misc]
                now = await settled(d)
                assert now in (before, after), (turn, name)
                assert was_cancelled or now == after, (turn, name)
                in_time += was_cancelled
                before = now
        return in_time

    assert run(main()) > 10, "some were cancelled in time"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_wait_for_an_event_loses_none_and_doubles_none(place: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def write(d: aio.Object, number: int, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await d.set("e", number)

    async def main() -> int:
        in_time = 0
        async with aio.DiskObject(place, durability="buffered") as d, d.watch(prefix="e") as w:
            with DiskObject(place) as blocking, blocking.watch(prefix="e") as second:
                for stream in (w, second):
                    seen: list[int] = []
                    for number in range(60):
                        written = asyncio.ensure_future(write(d, number, chance.randrange(4)))
                        was_cancelled, event = await cancelled(chance, lambda stream=stream: anext(aiter(stream)))
                        await written
                        in_time += was_cancelled
                        if event is not None:
                            seen.append(event.value)
                    if stream is w:
                        while len(seen) < 60:
                            event = await w.get(DEADLINE_S)
                            seen.append(event.value)
                        assert seen == list(range(60))
                        assert await w.get(0) is None
                    else:
                        while len(seen) < 120:
                            seen.append((await anext(aiter(second))).value)
                        assert seen == [*range(60), *range(60)]
        return in_time

    assert run(main()) >= 3, "some were cancelled in time"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_step_of_an_iteration_skips_nothing(place: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def main() -> int:
        in_time = 0
        async with aio.DiskObject(place, durability="buffered") as d:
            # Some pages of 256 KiB: most steps are answered from a page that is here.
            await d.update((number, bytes(40_000)) for number in range(100))
            for _ in range(5):
                entries, seen = d.items(), []
                while len(seen) < 100:
                    was_cancelled, entry = await cancelled(chance, lambda entries=entries: anext(entries))
                    in_time += was_cancelled
                    if entry is not None:
                        seen.append(entry[0])
                assert seen == list(range(100))
                with pytest.raises(StopAsyncIteration):
                    await anext(entries)
        return in_time

    assert run(main()) > 10, "some were cancelled in time"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_pipeline_has_written_in_order_what_was_handed_over(place: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def main() -> None:
        async with aio.DiskObject(place, durability="buffered") as d:
            for turn in range(20):
                handed: list[int] = []

                async def write(turn: int = turn, handed: list[int] = handed) -> None:
                    async with d.pipeline() as p:
                        for number in range(1500):
                            handed.append(number)
                            await p.set((turn, number), number)

                await cancelled(chance, write)
                await d.sync()
                there = [key[1] async for key in d.prefix((turn,))]
                assert there in (handed, handed[:-1]), "none is missing in between"

    run(main())


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_opening_and_closing_leave_a_handle_that_works(folder: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def main() -> None:
        one_thread()
        for turn in range(12):
            d = aio.DiskObject(folder / "store", durability="buffered")
            await cancelled(chance, lambda d=d: opened(d))
            await d
            assert await d.incr("n") == turn + 1
            await cancelled(chance, d.close)
            await d.close()
            assert d.status.role == "closed"

    async def opened(d: aio.Object) -> None:
        await d

    run(main())
    with DiskObject(folder / "store") as d:
        assert (d["n"], d.status.role) == (12, "owner")


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_block_on_a_new_handle_keeps_no_store(folder: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def use() -> None:
        async with aio.DiskObject(folder / "store", durability="buffered") as d:
            await d.incr("n")

    async def main() -> None:
        one_thread()
        for _ in range(20):
            await cancelled(chance, use)
        await asyncio.to_thread(lambda: None)

    run(main())
    with Told(folder / "store") as other:
        assert other.do("print(d.status.role)") == "owner"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_wait_for_a_lock_a_lease_or_a_presence_leaves_none(place: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def hold(made: Any) -> None:
        async with made:
            await asyncio.sleep(0)

    async def main() -> None:
        async with aio.DiskObject(place, durability="buffered") as d:
            for _ in range(15):
                await cancelled(chance, lambda: hold(d.lock("one", ttl=60)))
                await cancelled(chance, lambda: hold(d.presence("here", 1)))
                await cancelled(chance, lambda: hold(d.lease(ttl=60)))
            assert await d.lock("one").acquire(timeout=DEADLINE_S / 3)
            deadline = time.monotonic() + DEADLINE_S / 3
            while await d.contains("here"):
                assert time.monotonic() < deadline, "the presence of nobody"
                await d.sync()
            assert await d.len() == 0

    run(main())


def test_cancelled_write_of_a_pipeline_still_tells_its_failure(place: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject(place) as d:
            p = d.pipeline()
            await p.delete("nobody")
            finishing = asyncio.ensure_future(p.finish())
            await asyncio.sleep(0)
            finishing.cancel()
            try:
                await finishing
            except asyncio.CancelledError:
                with pytest.raises(KeyError, match="nobody"):
                    await p.finish()
            except KeyError:
                pass  # the answer was there at once
            await p.set("a", 1)
            await p.finish()
            assert p.ack == d.last_ack and await d["a"] == 1

    run(main())
