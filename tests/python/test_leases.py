"""What ends by itself: times to live, leases, presence, and locks; also when a process is killed."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from objsync import DiskObject, NetworkObject, Object, Transaction, Watch, _loop, aio, errors
from objsync._aio_parts import Opened
from programs import Program, Server, stop_all

DEADLINE_S = 30.0


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


def program(code: str, *arguments: object) -> Program:
    path = Path(f"program-{len(list(Path().glob('program-*')))}.py")
    path.write_text(textwrap.dedent(code))
    return Program(path.resolve(), *map(str, arguments))


@pytest.fixture(params=["owner", "replica", "nothing held"])
def made(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[Object, str]]:
    """A handle in each role, and where another process finds the store."""
    if request.param == "owner":
        with DiskObject("store") as d:
            yield d, str(folder / "store")
        return
    server = Server(folder / "served")
    replica = "auto" if request.param == "replica" else "none"
    with NetworkObject(server.address, replica=replica) as d:
        yield d, str(folder / "served")


def gone(watch: Watch, key: Any) -> None:
    """Waits for the event that removes `key`."""
    while True:
        event = watch.get(DEADLINE_S)
        assert event is not None, f"{key!r} is not removed"
        if event.key == key and event.kind not in ("set", "patch"):
            assert event.kind == "expire"
            return


def passed(d: Object, seconds: float) -> None:
    """Returns when so much time has passed at the owner."""
    with d.watch() as w:
        d.set("clock", "ticks", ttl=seconds)
        gone(w, "clock")


OTHER = """
    import sys
    from objsync import DiskObject, errors
    d = DiskObject(sys.argv[1])
    def said(what):
        print(what, flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        try:
            if what == "lock":
                lock = d.lock(words[0], ttl=float(words[1]))
                lock.acquire()
                said(f"fence {lock.fence}")
            elif what == "write":
                def write(t):
                    t.require(lock)
                    t["value"] = words[0]
                d.transact(write)
                said("written")
            elif what == "unlock":
                lock.release()
                said("released")
            elif what == "present":
                presence = d.presence(words[0], "here")
                said("shown")
            elif what == "lease":
                lease = d.lease(ttl=float(words[1]))
                d.set(words[0], "leased", lease=lease)
                said("leased")
            elif what == "renew":
                d.set(words[0], "again", lease=lease)
                said("renewed")
        except errors.Error as error:
            said(type(error).__name__)
"""


def other(place: str) -> Program:
    return program(OTHER, place)


def ask(process: Program, line: str, wanted: str) -> str:
    process.say(line)
    return process.wait_for(wanted)


@pytest.mark.parametrize("ttl", [0.05, timedelta(milliseconds=50)])
def test_key_with_a_time_to_live_goes_by_itself(made: tuple[Object, str], ttl: Any) -> None:
    d, _ = made
    with d.watch() as w:
        d.set("token", "secret", ttl=ttl)
        gone(w, "token")
    d.sync()
    assert "token" not in d


def test_assignment_takes_the_time_to_live_away(made: tuple[Object, str]) -> None:
    d, _ = made
    d.set("a", 1, ttl=0.05)
    d["a"] = 2
    # Until it was in time: a key that is gone already is made anew, to stay.
    while d.set("n", 1, ttl=0.05) and d.incr("n") != 2:
        del d["n"]
    while d.set("l", [0], ttl=0.05) and d.list_append("l", 1) != 2:
        del d["l"]
    passed(d, 0.2)
    assert (d["a"], d.get("n"), d.get("l")) == (2, None, None)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), timedelta(days=4000)])
def test_time_out_of_bounds_is_refused(d: Object, ttl: Any) -> None:
    for use in (lambda: d.set("a", 1, ttl=ttl), lambda: d.lease(ttl=ttl), lambda: d.lock("l", ttl=ttl)):
        with pytest.raises(errors.InvalidError):
            use()
    with pytest.raises(TypeError, match="timedelta"):
        d.set("a", 1, ttl="soon")
    assert len(d) == 0


def test_lease_is_kept_in_the_background_and_its_end_removes_its_keys(made: tuple[Object, str]) -> None:
    d, _ = made
    with d.lease(ttl=1) as lease:
        assert (lease.ttl, lease.is_alive, lease.id > 0) == (1.0, True, True)
        d.set("a", 1, lease=lease)
        d.set("b", 1, lease=lease, ttl=0.1)
        passed(d, 2.0)
        assert (d.get("a"), d.get("b"), lease.is_alive) == (1, None, True)
    assert (d.get("a"), lease.is_alive) == (None, False)
    lease.close()
    with pytest.raises(errors.LeaseExpiredError) as raised:
        d.set("a", 1, lease=lease)
    assert raised.value.lease == lease.id
    assert isinstance(raised.value, TimeoutError)
    assert pickle.loads(pickle.dumps(raised.value)).lease == lease.id


def test_leases_share_one_thread(folder: Path) -> None:
    with DiskObject("store") as d:
        tasks = Path("/proc/self/task")
        first = d.lease()
        before = len(list(tasks.iterdir()))
        leases = [d.lease() for _ in range(50)]
        assert len(list(tasks.iterdir())) <= before + 2
        assert first.is_alive and all(lease.is_alive for lease in leases)


def test_what_a_killed_process_held_goes(made: tuple[Object, str]) -> None:
    d, place = made
    process = other(place)
    with d.watch() as w:
        ask(process, "lease leased 1", "leased")
        ask(process, "present here", "shown")
        fence = int(ask(process, "lock l 1", "fence").split()[1])
        passed(d, 2.0)
        assert (d["leased"], d["here"]) == ("leased", "here")
        assert not d.lock("l").acquire(blocking=False)
        process.kill()
        gone(w, "here")
        with d.lock("l", timeout=DEADLINE_S) as lock:
            assert lock.fence is not None and lock.fence > fence
        if "leased" in d:
            gone(w, "leased")


def test_process_that_stood_still_is_told_that_it_lost_what_it_held(made: tuple[Object, str]) -> None:
    d, place = made
    process = other(place)
    ask(process, "lock l 1", "fence")
    ask(process, "write first", "written")
    ask(process, "lease leased 1", "leased")
    with d.watch() as w:
        os.kill(process.process.pid, signal.SIGSTOP)
        gone(w, "leased")
        with d.lock("l", timeout=DEADLINE_S):
            os.kill(process.process.pid, signal.SIGCONT)
            ask(process, "write second", "FencedError")
            ask(process, "unlock", "FencedError")
            ask(process, "renew leased", "LeaseExpiredError")
    assert d["value"] == "first"


def test_block_of_a_lost_lock_raises_and_keeps_its_own_error(folder: Path) -> None:
    code = """
        import sys
        from objsync import DiskObject, errors
        with DiskObject(sys.argv[1]) as d:
            for failure in (None, ValueError("mine")):
                try:
                    with d.lock("l", ttl=1) as lock:
                        print("held", flush=True)
                        sys.stdin.readline()
                        if failure:
                            raise failure
                except errors.FencedError as error:
                    print("fenced", error.lock, flush=True)
                except ValueError as error:
                    print("own", error, "lost" in error.__notes__[0], flush=True)
    """
    with DiskObject("store") as d:
        holder = program(code, folder / "store")
        for told in ("fenced l", "own mine True"):
            holder.wait_for("held")
            os.kill(holder.process.pid, signal.SIGSTOP)
            with d.lock("l", timeout=DEADLINE_S):
                os.kill(holder.process.pid, signal.SIGCONT)
                holder.say("leave")
                holder.wait_for(told)


def test_lock_is_held_by_one_at_a_time_over_processes(made: tuple[Object, str]) -> None:
    d, place = made
    code = """
        import sys
        from objsync import DiskObject
        with DiskObject(sys.argv[1]) as d:
            for _ in range(20):
                with d.lock("l"):
                    d["n"] = d.get("n", 0) + 1  # loses some, unless nobody else is at it
            print("done", flush=True)
    """
    processes = [program(code, place) for _ in range(3)]
    for _ in range(20):
        with d.lock("l"):
            d["n"] = d.get("n", 0) + 1
    for process in processes:
        assert process.last_line() == "done"
    d.sync()
    assert d["n"] == 80


def test_lock_answers_as_one_of_threading_does(d: Object) -> None:
    mine, yours = d.lock("l"), d.lock("l", timeout=0.05)
    assert mine.acquire() and mine.locked and mine.name == "l" and mine.ttl == 10
    fence = mine.fence
    assert not yours.acquire(blocking=False)
    assert not yours.acquire(timeout=timedelta(milliseconds=20))
    with pytest.raises(errors.LockTimeoutError) as raised, yours:
        pass
    assert raised.value.lock == "l" and isinstance(raised.value, TimeoutError)
    with pytest.raises(errors.InvalidError, match="one for each thread"):
        mine.acquire()
    with pytest.raises(errors.InvalidError, match="may wait"):
        mine.acquire(blocking=False, timeout=1)
    mine.release()
    assert not mine.locked and mine.fence is None
    with pytest.raises(errors.InvalidError, match="not held"):
        mine.release()
    with yours as held:
        assert held is yours and fence is not None and yours.fence is not None and yours.fence > fence

    def never_held(t: Transaction) -> None:
        t.require(mine)

    with pytest.raises(errors.InvalidError, match="not held"):
        d.transact(never_held)


def test_waiting_thread_gets_the_lock_when_it_is_given_back(d: Object) -> None:
    got = threading.Event()

    def wait() -> None:
        with d.lock("l"):
            got.set()

    with d.lock("l"):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.2)
    assert got.wait(DEADLINE_S)
    thread.join(DEADLINE_S)


def test_lock_lease_and_presence_are_kept_when_the_owner_is_killed(folder: Path) -> None:
    owner = program(
        """
        import sys
        from objsync import DiskObject
        d = DiskObject(sys.argv[1])
        print(d.status.role, flush=True)
        sys.stdin.read()
        """,
        folder / "store",
    )
    owner.wait_for("owner")
    process = other(str(folder / "store"))
    ask(process, "lease leased 2", "leased")
    ask(process, "present here", "shown")
    with DiskObject("store") as d, d.lock("l", ttl=2) as lock, d.presence("me", "here"):
        owner.kill()
        passed(d, 4.0)
        d.sync()
        assert (d.get("leased"), d.get("me"), lock.locked) == ("leased", "here", True)

        def write(t: Transaction) -> None:
            t.require(lock)
            t["value"] = "mine"

        d.transact(write)
        with d.watch(since=0) as w:
            process.kill()
            if d.status.role == "owner":
                gone(w, "here")


def test_presence_is_for_the_block(made: tuple[Object, str]) -> None:
    d, _ = made
    with d.presence("me", {"since": 1}) as presence:
        assert d["me"] == {"since": 1}
    assert "me" not in d
    presence.close()


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, DEADLINE_S))


def test_awaitable_forms_do_what_the_blocking_ones_do(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            async with d.lease(ttl=5) as lease, d.presence("me", 1):
                await d.set("a", 1, lease=lease)
                assert (lease.is_alive, lease.ttl, await d["me"], await d["a"]) == (True, 5, 1, 1)
            assert (await d.len(), lease.is_alive) == (0, False)
            async with d.watch() as w:
                await d.set("b", 1, ttl=0.05)
                kinds = [(await anext(w)).kind, (await anext(w)).kind]
                assert kinds == ["set", "expire"]
            kept = await d.lease()
            await kept.close()
            with pytest.raises(errors.LeaseExpiredError):
                await d.set("a", 1, lease=kept)
            with pytest.raises(errors.InvalidError, match="not opened"):
                _ = d.lease().id

    run(main())


def test_awaitable_lock_is_fair_to_cancelled_tasks(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            counted = 0

            async def count() -> None:
                nonlocal counted
                async with d.lock("l") as lock:
                    seen = counted
                    await d.set("touched", lock.fence)
                    counted = seen + 1

            async with d.lock("l") as lock:
                assert lock.locked and lock.name == "l"
                waiting = asyncio.create_task(count())
                assert not await d.lock("l").acquire(timeout=0.05)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                with pytest.raises(errors.LockTimeoutError):
                    async with d.lock("l", timeout=0.02):
                        pass

                async def write(t: aio.Transaction) -> None:
                    t.require(lock)
                    t["by"] = "holder"

                await d.transact(write)
            await asyncio.gather(*(count() for _ in range(8)))
            assert counted == 8

    run(main())


def test_awaitable_lock_that_was_taken_for_a_cancelled_task_is_given_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            lock = d.lock("l")
            uncut = _loop.call

            def cut(start: Any, *arguments: Any) -> asyncio.Future[Any]:
                # The answer is there, and the task is cancelled before it goes on with it.
                answer = uncut(start, *arguments)
                task = asyncio.current_task()
                assert task is not None
                answer.add_done_callback(lambda _: task.cancel())
                return answer

            async def enter() -> None:
                async with lock:
                    pass

            for take in (lock.acquire, enter):
                task = asyncio.create_task(take())
                with monkeypatch.context() as patched:
                    patched.setattr(_loop, "call", cut)
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert not lock.locked
                assert await lock.acquire(timeout=DEADLINE_S)
                await lock.release()

    run(main())


def test_awaitable_lock_can_be_asked_for_again_once_the_wait_is_over(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d, d.lock("l"):
            waits = d.lock("l")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waits.acquire(), 0.1)
            assert not await waits.acquire(blocking=False)

    run(main())


def test_error_of_a_block_is_not_replaced_by_one_of_leaving_it() -> None:
    class Left(Opened):
        async def _open(self) -> None:
            pass

        async def _close(self) -> None:
            raise errors.UnavailableError("gone")

    async def main() -> None:
        with pytest.raises(ValueError, match="mine") as raised:
            async with Left():
                raise ValueError("mine")
        assert raised.value.__notes__ == ["gone"]
        with pytest.raises(errors.UnavailableError):
            async with Left():
                pass

    run(main())
