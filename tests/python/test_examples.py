"""Every example is run, and does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from objsync import NetworkObject
from programs import EXAMPLES, Program, Server, stop_all

TIMEOUT_S = 60


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OBJSYNC_HOME", str(tmp_path / "home"))
    yield Server(tmp_path / "store")
    stop_all()


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_counters_lose_no_number(server: Server) -> None:
    counters = [Program(EXAMPLES / "counter.py", server.address, "200") for _ in range(2)]
    lines = [counter.last_line() for counter in counters]
    numbers = [tuple(map(int, re.findall(r"\d+", line))) for line in lines]
    assert max(last for _, last in numbers) == 400, lines
    assert min(first for first, _ in numbers) == 1, lines


def test_chat_of_two_hears_each_other_and_keeps_what_was_said(server: Server) -> None:
    ada = Program(EXAMPLES / "chat.py", "ada", server.address)
    ada.wait_for("-- ada is here")
    bob = Program(EXAMPLES / "chat.py", "bob", server.address)
    bob.wait_for("-- bob is here")
    ada.say("hello bob")
    bob.wait_for("ada: hello bob")
    bob.say("hello ada")
    ada.wait_for("bob: hello ada")
    assert ada.end_of_input() == bob.end_of_input() == 0
    late = Program(EXAMPLES / "chat.py", "eve", server.address)
    late.wait_for("-- eve is here")
    assert late.seen[-3:] == ["ada: hello bob", "bob: hello ada", "-- eve is here"]
    assert late.end_of_input() == 0


def test_notes_are_taken_without_a_connection_and_sent_on_return(server: Server) -> None:
    notes = Program(EXAMPLES / "offline.py", server.address)
    notes.wait_for("-- ready")
    notes.say("milk two litres")
    notes.wait_for("sync, 0 queued")
    server.kill()
    notes.say("bread one loaf")
    notes.wait_for("queued, 1 queued")
    notes.say("bread")
    notes.wait_for("one loaf")
    back = Server(server.directory, port=int(server.address.rpartition(":")[2]))
    deadline = time.monotonic() + TIMEOUT_S
    with NetworkObject(back.address) as d:
        while d.get("bread") != "one loaf":
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        assert d["milk"] == "two litres"
    assert notes.end_of_input() == 0


def test_program_obeys_a_changed_configuration_while_it_runs(server: Server) -> None:
    program = Program(EXAMPLES / "live_config.py", "run", server.address)
    program.wait_for("running with {'greeting': 'hello', 'interval': '60'}")
    assert run("live_config.py", "set", "greeting", "moin", server.address) == "greeting: hello -> moin\n"
    program.wait_for("greeting is now moin")
    run("live_config.py", "set", "stop", "yes", server.address)
    assert program.last_line() == "stop is now yes"


def test_each_job_is_done_by_one_worker(server: Server) -> None:
    line = run("work_queue.py", server.address, "60", "3")
    assert line.startswith("60 of 60 done:"), line
    assert sum(int(count) for count in re.findall(r": (\d+)", line.partition("done:")[2])) == 60


def test_job_of_a_killed_worker_is_done_by_another_and_each_once(server: Server) -> None:
    lines = run("lasting_jobs.py", server.address, "12").splitlines()
    assert lines[0] == "mortal is gone"
    assert lines[1].startswith("12 of 12 done:") and "mortal" not in lines[1], lines


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_can_be_read_at_once(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 60, f"{path.name} has {len(lines)} lines"
    assert lines[0].startswith('"""'), f"{path.name} does not say what it is"


def test_every_example_is_run_here() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tests, f"no test runs {path.name}"
