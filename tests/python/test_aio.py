"""The awaitable form of each call, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject, aio, errors

DEADLINE_S = 20.0


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, DEADLINE_S))


@pytest.fixture(params=["disk", "compressed", "network"])
def made(request: pytest.FixtureRequest, port: int) -> aio.Object:
    if request.param == "disk":
        return aio.DiskObject("store")
    if request.param == "compressed":
        return aio.CompressedDiskObject("store", compression_level=3)
    return aio.NetworkObject("127.0.0.1", port)


def test_each_call_does_what_its_blocking_form_does(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            ack = await d.set("a", [1])
            assert ack == d.last_ack
            assert await d["a"] == [1]
            assert (await d.get("b"), await d.get("b", 5)) == (None, 5)
            assert (await d.contains("a"), await d.contains("b")) == (True, False)
            assert await d.incr("n", 5) == 5
            assert await d.setdefault("a", 0) == [1]
            assert await d.compare_and_set("a", [1], (2,))
            assert not await d.compare_and_set("a", [1], (3,))
            assert await d.compare_and_set("b", aio.MISSING, "new")
            assert await d.pop("b") == "new"
            assert await d.pop("b", None) is None
            await d.update({"x:1": 1, "x:2": 2}, y=3)
            assert await d.len() == 5
            assert await d.copy() == {"a": (2,), "n": 5, "x:1": 1, "x:2": 2, "y": 3}
            assert [key async for key in d.prefix("x:")] == ["x:1", "x:2"]
            assert [v async for v in d.range("x:2").values(reverse=True)] == [3, 2]
            assert await d.prefix("x:").clear() == 2
            assert await d.popitem() == ("y", 3)
            await d.delete("n")
            assert await d.sync() >= ack.revision
            assert await d.flush() >= ack.revision
            assert d.status.role == "owner"
            assert [key async for key in d] == ["a"]

    run(main())


def test_missing_key_is_a_key_error(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            for call in (lambda: d["k"], lambda: d.delete("k"), lambda: d.pop("k")):
                with pytest.raises(KeyError, match="k"):
                    await call()

    run(main())


def test_many_writes_are_in_flight_at_once_and_in_order(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            await asyncio.gather(*(d.set("last", number) for number in range(500)))
            assert await d["last"] == 499
            async with d.pipeline() as p:
                for number in range(2000):
                    await p.set(number, number)
            assert await d.len() == 2001

    run(main())


def test_pipeline_raises_the_first_failure_at_its_end(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            with pytest.raises(KeyError, match="first"):
                async with d.pipeline() as p:
                    await p.delete("first")
                    await p.delete("second")
                    await p.set("a", 1)
            assert await d["a"] == 1

    run(main())


def test_batch_is_all_or_nothing(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            async with d.batch() as b:
                b["a"], b["b"] = 1, 2
            assert b.ack == d.last_ack
            with pytest.raises(ZeroDivisionError):
                async with d.batch() as b:
                    del b["a"]
                    raise ZeroDivisionError
            assert await d.copy() == {"a": 1, "b": 2}

    run(main())


def test_watch_tells_changes_to_a_loop_and_to_a_callback(made: aio.Object) -> None:
    async def main() -> None:
        seen: asyncio.Queue[Any] = asyncio.Queue()
        async with made as d, d.watch(prefix="a") as w, d.watch(seen.put):
            await d.set("b", 1)
            await d.set("a", 2)
            event = await anext(aiter(w))
            assert (event.key, event.value, event.kind) == ("a", 2, "set")
            assert [(await seen.get()).key, (await seen.get()).key] == ["b", "a"]

    run(main())


def test_blocking_watch_can_be_awaited(folder: Path) -> None:
    async def main() -> None:
        with DiskObject("store") as d, d.watch() as w:
            d["a"] = 1
            async for event in w:
                assert event.key == "a"
                break

    run(main())


def test_closing_ends_a_watch_that_is_awaited(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            w = await d.watch()
            waiting = asyncio.ensure_future(anext(aiter(w)))
            await asyncio.sleep(0)
            w.close()
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(main())


def test_cancelled_wait_for_an_event_loses_no_event(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d, d.watch() as w:
            for number in range(20):
                waiting = asyncio.ensure_future(anext(aiter(w)))
                await asyncio.sleep(0)
                if number % 2:
                    # The event is on its way, and arrives after nobody waits any more.
                    written = d.set("key", number)
                    waiting.cancel()
                    await written
                else:
                    waiting.cancel()
                    await d.set("key", number)
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                event = await anext(aiter(w))
                assert event.value == number

    run(main())


def test_iteration_goes_on_after_a_cancelled_step(made: aio.Object) -> None:
    async def main() -> None:
        async with made as d:
            await d.update((number, number) for number in range(1000))
            entries = d.keys()
            assert await anext(entries) == 0
            for _ in range(998):
                step = asyncio.ensure_future(anext(entries))
                await asyncio.sleep(0)
                if not step.done():
                    step.cancel()
                    break
            assert [key async for key in entries][-1] == 999

    run(main())


def test_failure_to_open_is_raised_where_it_is_awaited(port: int) -> None:
    async def main() -> None:
        with pytest.raises(errors.UnavailableError):
            await aio.NetworkObject("127.0.0.1", port, promote=False, timeout=0.2)
        with pytest.raises(ValueError):
            await aio.DiskObject(Path(__file__))

    run(main())


def test_each_event_loop_has_its_own_calls(folder: Path) -> None:
    d = aio.DiskObject("store")

    async def write(number: int) -> int:
        await d.set("a", number)
        value: int = await d["a"]
        return value

    async def opened() -> None:
        await d

    run(opened())
    assert [run(write(number)) for number in range(3)] == [0, 1, 2]
    run(d.close())


def test_answers_on_their_way_are_coroutines_too(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("data.obj") as d:
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(d.set(number, number))
            read = [asyncio.create_task(d.get(number)) for number in range(20)]
            assert await asyncio.gather(*read) == list(range(20))
            assert list((await d.copy()).values()) == list(range(20))
            lacking = asyncio.create_task(d["none"])
            with pytest.raises(KeyError, match="none"):
                await lacking
            late = asyncio.create_task(d.incr("n"))
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            assert await d.sync() and await d.get(0) == 0

    asyncio.run(main())


def test_what_cannot_be_awaited_says_what_to_write(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("data.obj", {"a": 1}) as d, d.snapshot() as s:
            for one in (d, d.prefix("a"), s, s.range("a")):
                mixed: Any = one
                with pytest.raises(TypeError, match=r"await d.contains\(key\)"):
                    "a" in mixed  # noqa: B015
                with pytest.raises(TypeError, match="async for key in d"):
                    list(mixed)
                with pytest.raises(TypeError, match=r"await d.len\(\) > 0"):
                    bool(mixed)

    asyncio.run(main())
