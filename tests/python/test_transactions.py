"""Transactions: one moment to read, all changes or none, run again when somebody was faster."""

from __future__ import annotations

import asyncio
import pickle
import random
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Maker
from objsync import (
    DiskObject,
    NetworkObject,
    Object,
    Transaction,
    _aio_transaction,
    _transaction,
    aio,
    errors,
)
from objsync._native import Attempts, TransactionHandle, native_transactions
from programs import Program, Server, stop_all

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_all()


def program(code: str, *arguments: object) -> Program:
    path = Path(f"program-{len(list(Path().glob('program-*')))}.py")
    path.write_text(textwrap.dedent(code))
    return Program(path.resolve(), *map(str, arguments))


@pytest.fixture(params=["owner", "replica", "nothing held"])
def pair(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[Object, Object]]:
    """A handle under test in each role, and one that is a client of its own."""
    if request.param == "owner":
        with DiskObject("store") as d, DiskObject("store") as other:
            yield d, other
        return
    server = Server(folder / "served")
    replica = "auto" if request.param == "replica" else "none"
    with NetworkObject(server.address, replica=replica) as d, NetworkObject(server.address) as other:
        yield d, other


def test_transaction_is_a_mapping_that_sees_its_own_changes(d: Object) -> None:
    d.update({"a": 1, "b": [2], ("t", 1): "x", ("t", 2): "y"})

    def work(t: Transaction) -> tuple[Any, ...]:
        t["c"] = {3}
        t["b"] = (2,)
        del t["a"]
        assert (t["b"], t.get("a"), t.get("a", 0), "c" in t, "a" in t, len(t)) == ((2,), None, 0, True, False, 4)
        assert list(t) == ["b", "c", ("t", 1), ("t", 2)]
        assert list(reversed(t)) == [("t", 2), ("t", 1), "c", "b"]
        assert dict(t.range("b", "c")) == {"b": (2,)}
        assert list(t.prefix(("t",)).values()) == ["x", "y"]
        assert (t.keys() & {"b", "z"}, ("c", {3}) in t.items(), bool(t)) == ({"b"}, True, True)
        assert (t.pop("c"), t.pop("c", None), t.setdefault("n", 5)) == ({3}, None, 5)
        assert t.popitem() == (("t", 2), "y")
        with pytest.raises(KeyError):
            t["zz"]
        with pytest.raises(KeyError):
            del t["zz"]
        assert t.copy() == dict(t.items()) == t
        return tuple(t)

    assert d.transact(work) == ("b", "n", ("t", 1))
    assert d.copy() == {"b": (2,), "n": 5, ("t", 1): "x"}
    ack = d.last_ack
    assert ack is not None and d.at(ack.revision) == d.copy()


def test_what_the_function_raises_passes_unchanged_and_nothing_is_done(d: Object) -> None:
    failure = LookupError("mine")

    def work(t: Transaction) -> None:
        t["a"] = 1
        raise failure

    with pytest.raises(LookupError) as raised:
        d.transact(work)
    assert raised.value is failure
    assert len(d) == 0


def test_clear_of_a_transaction_is_undone_when_it_fails(d: Object) -> None:
    d.update({"a": 1, "b": 2})

    def work(t: Transaction) -> None:
        t.clear()
        assert not t and len(t) == 0
        raise ValueError

    with pytest.raises(ValueError):
        d.transact(work)
    assert len(d) == 2


def test_function_runs_again_when_a_key_or_a_range_that_it_read_changed(pair: tuple[Object, Object]) -> None:
    d, other = pair
    d.update({"job:1": 1, "x": 1})
    meddling = [lambda: other.update({"job:2": 2}), lambda: other.pop("job:1"), lambda: other.incr("x")]
    runs = 0

    def work(t: Transaction) -> tuple[int, int]:
        nonlocal runs
        runs += 1
        seen = len(t.prefix("job:")), t["x"]
        if meddling:
            meddling.pop(0)()
        t["seen"] = seen
        return seen

    assert d.transact(work) == (1, 2)
    assert runs == 4
    assert d["seen"] == (1, 2)


def test_conflict_until_the_timeout_names_the_key(folder: Path) -> None:
    server = Server(folder / "served")
    with NetworkObject(server.address, timeout=0.4) as d, NetworkObject(server.address) as other:

        def work(t: Transaction) -> None:
            t.get(("busy", 1))
            other.incr(("busy", 1))
            t["never"] = 1

        with pytest.raises(errors.ConflictError) as raised:
            d.transact(work)
        assert raised.value.key == ("busy", 1)
        assert "busy" in str(raised.value)
        assert pickle.loads(pickle.dumps(raised.value)).key == ("busy", 1)
        assert "never" not in d


def test_transaction_inside_of_another_is_refused_also_from_a_thread_that_it_started(d: Object) -> None:
    def nested(t: Transaction) -> None:
        t["a"] = 1
        d.transact(lambda t: None)

    with pytest.raises(errors.InvalidError, match="inside of another"):
        d.transact(nested)
    assert "a" not in d
    assert d.transact(lambda t: "after") == "after"


def test_transaction_cannot_be_used_after_its_end(d: Object) -> None:
    kept = d.transact(lambda t: t)
    for use in (lambda: kept["a"], lambda: kept.update(a=1), lambda: list(kept), lambda: len(kept)):
        with pytest.raises(errors.InvalidError, match="ended"):
            use()


def test_async_function_for_the_blocking_form_is_a_type_error(d: Object) -> None:
    async def work(t: Transaction) -> None:
        t["a"] = 1

    with pytest.raises(TypeError, match="coroutine"):
        d.transact(work)
    assert "a" not in d


def test_value_that_cannot_be_stored_is_refused_where_it_is_put(d: Object) -> None:
    def work(t: Transaction) -> None:
        with pytest.raises(TypeError):
            t["a"] = print
        t["b"] = 1

    d.transact(work)
    assert d == {"b": 1}


def test_transaction_that_reads_too_many_keys_is_refused_by_the_limit(folder: Path) -> None:
    with DiskObject("store") as d:
        with pytest.raises(errors.InvalidError, match="65536"):
            d.transact(lambda t: [t.get(number) for number in range(65_537)])


TRANSFERS = """
    import random, sys
    from objsync import DiskObject
    with DiskObject(sys.argv[1]) as d:
        dice = random.Random(int(sys.argv[2]))
        def move(t):
            one, two = dice.sample(range(5), 2)
            amount = dice.randint(1, 9)
            if t["account", one] < amount:
                return False
            t["account", one] -= amount
            t["account", two] += amount
            t["moves"] = t.get("moves", 0) + 1
            return True
        print("ready", flush=True)
        print(sum(d.transact(move) for _ in range(40)), flush=True)
"""


def test_transfers_of_processes_and_threads_keep_the_sum_while_owners_are_killed(folder: Path) -> None:
    accounts = {("account", number): 20 for number in range(5)}
    victim = program(
        """
        import sys
        from objsync import DiskObject
        d = DiskObject(sys.argv[1], {("account", number): 20 for number in range(5)})
        print(d.status.role, flush=True)
        sys.stdin.read()
        """,
        folder / "store",
    )
    victim.wait_for("owner")
    workers = [program(TRANSFERS, folder / "store", seed) for seed in range(3)]
    for worker in workers:
        worker.wait_for("ready")
    with DiskObject("store") as d:
        totals: list[int] = []

        def audit() -> None:
            for _ in range(30):
                totals.append(d.transact(lambda t: sum(t.prefix(("account",)).values())))

        auditor = threading.Thread(target=audit)
        auditor.start()
        victim.kill()
        moves = sum(int(worker.last_line()) for worker in workers)
        auditor.join(DEADLINE_S)
        d.sync()
        assert totals == [sum(accounts.values())] * 30
        assert d["moves"] == moves
        assert sum(d.prefix(("account",)).values()) == 100
        assert all(amount >= 0 for amount in d.prefix(("account",)).values())


def test_random_transactions_of_threads_equal_a_model_in_the_order_of_their_revisions(folder: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with DiskObject("store") as d:
        done: list[tuple[int, int, int, int]] = []

        def work(number: int) -> None:
            dice = random.Random(seed + number)
            with DiskObject("store") as mine:
                for _ in range(25):
                    key, other = dice.randrange(4), dice.randrange(4)

                    def step(t: Transaction) -> tuple[int, int]:
                        count = len(t.range(0, 3))
                        t[key] = t.get(other, 0) * 3 + count
                        t["last"] = t.get("last", 0) + 1
                        return t["last"], t[key]

                    order, value = mine.transact(step)
                    done.append((order, key, other, value))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        model: dict[int, int] = {}
        assert sorted(order for order, *_ in done) == list(range(1, 101))
        for _, key, other, value in sorted(done):
            expected = model.get(other, 0) * 3 + sum(1 for held in model if held < 3)
            assert value == expected, f"seed {seed}"
            model[key] = value
        assert dict(d.range(0, 4)) == model


def test_lists_and_sets_are_changed_in_part(d: Object) -> None:
    assert d.list_append("l", 1, [2]) == 2
    assert d.list_append("l") == 2
    assert d.list_append("l", {"a": None}) == 3
    assert d["l"] == [1, [2], {"a": None}]
    assert d.set_add("s", 1, "a", (1, 2)) == 3
    assert d.set_add("s", 1, 1.0, True, "b") == 1
    assert d["s"] == {1, "a", (1, 2), "b"}
    assert d.set_discard("s", "a", "zz") == 1
    assert d.set_discard("none", 1) == 0
    assert d["s"] == {1, (1, 2), "b"}
    d["n"] = 1
    for wrong in (
        lambda: d.list_append("n", 1),
        lambda: d.set_add("l", 1),
        lambda: d.set_add("s", []),
        lambda: d.set_add("s", (1, [2])),
        lambda: d.set_discard("s", (1, [2])),
        lambda: d.set_add("s", bytearray(b"x")),
    ):
        with pytest.raises(errors.InvalidError):
            wrong()
    with pytest.raises(errors.InvalidError, match='"n"'):
        d.list_append("n", 1)
    assert d["n"] == 1


def test_appends_of_threads_are_all_there(make: Maker) -> None:
    with make() as d:

        def append(number: int) -> None:
            for item in range(50):
                d.list_append("l", (number, item))

        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert sorted(d["l"]) == [(number, item) for number in range(4) for item in range(50)]
        for number in range(4):
            mine = [item for who, item in d["l"] if who == number]
            assert mine == sorted(mine)


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, DEADLINE_S))


def test_awaitable_transaction_does_what_the_blocking_one_does(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store", {"a": 1, "b": 2}) as d:

            async def work(t: aio.Transaction) -> int:
                t["c"] = await t["a"] + await t.get("zz", 5)
                del t["b"]
                assert await t.contains("c") and not await t.contains("b")
                assert [key async for key in t] == ["a", "c"]
                assert [item async for item in t.prefix("c").items()] == [("c", 6)]
                assert (await t.len(), await t.copy()) == (2, {"a": 1, "c": 6})
                assert (await t.pop("zz", None), await t.pop("a")) == (None, 1)
                with pytest.raises(KeyError):
                    await t.pop("a")
                return await t["c"]

            assert await d.transact(work) == 6
            assert await d.copy() == {"c": 6}

            def blocking(t: Transaction) -> int:
                t["c"] += 1
                return t["c"]

            assert await d.transact(blocking) == 7
            assert (await d.list_append("l", 1), await d.set_add("s", 1, 2), await d.set_discard("s", 1)) == (1, 2, 1)

    run(main())


def test_awaitable_transactions_of_many_tasks_lose_nothing(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:

            async def add(t: aio.Transaction) -> None:
                t["n"] = await t.get("n", 0) + 1

            async def add_many() -> None:
                for _ in range(10):
                    await d.transact(add)

            await asyncio.gather(*(add_many() for _ in range(5)))
            assert await d["n"] == 50

    run(main())


def test_awaitable_transaction_that_is_cancelled_while_it_runs_changes_nothing(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            begun = asyncio.Event()

            async def work(t: aio.Transaction) -> None:
                t["a"] = 1
                begun.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(d.transact(work))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await d.contains("a")

            async def nested(t: aio.Transaction) -> None:
                await d.transact(work)

            with pytest.raises(errors.InvalidError, match="inside of another"):
                await d.transact(nested)

    run(main())


def test_task_that_a_transaction_started_may_begin_one_when_it_is_over(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            over = asyncio.Event()

            async def later() -> str:
                await over.wait()

                async def work(t: aio.Transaction) -> str:
                    return "done"

                return await d.transact(work)

            async def start(t: aio.Transaction) -> asyncio.Task[str]:
                return asyncio.create_task(later())

            task = await d.transact(start)
            over.set()
            assert await task == "done"

    run(main())


class Overtaken:
    """Attempts whose time is over by the time that they are given up."""

    def __init__(self, handle: Object) -> None:
        self.transactions = Attempts(handle)

    def begin(self) -> TransactionHandle:
        return self.transactions.begin()

    def give_up(self, transaction: TransactionHandle) -> bool:
        self.transactions.give_up(transaction)
        raise errors.ConflictError("overtaken")


def test_what_ends_a_function_is_raised_although_it_was_overtaken(
    d: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transaction, "Attempts", Overtaken)

    def stop(t: Transaction) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        d.transact(stop)

    async def wait(t: Transaction) -> None:
        pass

    with pytest.raises(TypeError, match="coroutine"):
        d.transact(wait)


def test_cancelled_task_is_told_so_although_its_transaction_was_overtaken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with aio.DiskObject("store") as d:
            given_up = Attempts.give_up

            class Late:
                def __init__(self, handle: Any) -> None:
                    self.attempts = Attempts(handle)

                def give_up(self, transaction: TransactionHandle) -> bool:
                    given_up(self.attempts, transaction)
                    raise errors.ConflictError("overtaken")

            begin = native_transactions.transact_begin
            monkeypatch.setattr(_aio_transaction, "Attempts", Late)

            def begin_late(calls: Any, future: Any, late: Late) -> None:
                begin(calls, future, late.attempts)

            native = SimpleNamespace(transact_begin=begin_late)
            monkeypatch.setattr(_aio_transaction, "native_transactions", native)

            async def stop(t: aio.Transaction) -> None:
                raise asyncio.CancelledError

            with pytest.raises(asyncio.CancelledError):
                await d.transact(stop)

    asyncio.run(main())
