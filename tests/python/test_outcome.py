"""What came of a write whose answer was lost."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from pathlib import Path

import pytest

from conftest import free_port
from objsync import NetworkObject, Op, aio, errors
from programs import Told


def stop(pid: int) -> None:
    """Stops a process, and returns once none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    states = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
    while any(state.read_text().rpartition(")")[2].split()[0] != "T" for state in states):
        pass


def lose(other: Told, d: NetworkObject, key: str, by: int) -> Op:
    """Increments while the owner stands still: its answer does not come in time."""
    stop(other.pid)
    try:
        with pytest.raises(errors.OutcomeUnknownError) as raised:
            d.incr(key, by)
    finally:
        os.kill(other.pid, signal.SIGCONT)
    op = raised.value.op
    assert op is not None
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.op == op and str(again) == str(raised.value)
    assert str(op) == f"{op.epoch}.{op.frame}.{op.sequence}"
    return op


def test_lost_write_is_asked_about_by_its_number(folder: Path) -> None:
    port = free_port()
    with Told(f"localhost:{port}") as other:
        with NetworkObject("localhost", port, promote=False, timeout=0.5) as d:
            d["n"] = 1
            op = lose(other, d, "n", 4)
            outcome = d.outcome(pickle.loads(pickle.dumps(op)))
            assert outcome is not None
            assert outcome.value == 5 and outcome.ack.revision > 0
            assert d.outcome(op) == outcome, "it stays so"
            assert d["n"] == 5
            d["word"] = "x"
            refused = lose(other, d, "word", 1)
            with pytest.raises(errors.InvalidError):
                d.outcome(refused)


def test_write_that_was_not_done_is_told_as_such(folder: Path) -> None:
    port = free_port()
    with Told(f"localhost:{port}") as other:
        with NetworkObject("localhost", port, timeout=0.5) as d:
            d["n"] = 1
            stop(other.pid)
            with pytest.raises(errors.OutcomeUnknownError) as raised:
                d.incr("n")
            other.kill()
            op = raised.value.op
            assert op is not None
            while d.status.role != "owner":
                pass
            assert d.outcome(op) is None
            assert d["n"] == 1


def test_nobody_knows_of_a_session_that_was_never_there(folder: Path) -> None:
    async def main() -> None:
        async with aio.DiskObject(folder / "data.obj") as d:
            op = Op(1, 12345, 1)
            with pytest.raises(errors.OutcomeUnknownError) as raised:
                await d.outcome(op)
            assert raised.value.op == op

    asyncio.run(main())
