"""Real processes for tests: the program `objsync`, and Python programs that are talked to."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "python"
DEADLINE_S = 60.0


class Program:
    """A Python program with its lines of output, each waited for with a deadline."""

    started: ClassVar[list[Program]] = []

    def __init__(self, path: Path, *arguments: str) -> None:
        self._start([sys.executable, "-u", str(path), *arguments])

    def _start(self, command: list[str]) -> None:
        self.started.append(self)
        self.command = command
        self.seen: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._errors: list[str] = []
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self._error_reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr
        self._errors.extend(self.process.stderr)

    def next_line(self, deadline: float) -> str | None:
        """The next line; none at the end of output."""
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"{self.command}: no more output in time; saw {self.seen}") from None
        if line is not None:
            self.seen.append(line)
        return line

    def wait_for(self, wanted: str) -> str:
        """The next line that starts with `wanted`."""
        deadline = time.monotonic() + DEADLINE_S
        while (line := self.next_line(deadline)) is not None:
            if line.startswith(wanted):
                return line
        raise AssertionError(f"{self.command} ended without {wanted!r}: {self.seen}\n{self.errors()}")

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end_of_input(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)

    def last_line(self) -> str:
        """Waits for a good end, and gives the last line of output."""
        deadline = time.monotonic() + DEADLINE_S
        while self.next_line(deadline) is not None:
            pass
        assert self.process.wait(DEADLINE_S) == 0, self.errors()
        return self.seen[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def errors(self) -> str:
        self._error_reader.join(1.0)
        return "".join(self._errors)

    def stop(self) -> None:
        """Ends it whatever it does, and closes its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self._error_reader.join(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()


def program() -> str:
    """The program `objsync`, which `make` puts beside Python."""
    beside = Path(sys.executable).parent / "objsync"
    found = str(beside) if beside.exists() else shutil.which("objsync")
    assert found, "the program objsync is not installed: make install-dev"
    return found


class Server(Program):
    """`objsync serve` on a free port of this machine, or on the one given."""

    def __init__(self, directory: Path, *arguments: str, port: int = 0) -> None:
        self.directory = directory
        serve = [program(), "--json", "serve", "--port", str(port), "--data-dir", str(directory)]
        self._start([*serve, *arguments])
        line = self.next_line(time.monotonic() + DEADLINE_S)
        assert line, self.errors()
        self.address: str = json.loads(line)["address"]


TOLD = """
import json, sys
from objsync import *
place, options = sys.argv[1], json.loads(sys.argv[2])
is_address = ":" in place and "/" not in place
d = NetworkObject(place, **options) if is_address else DiskObject(place, **options)
print("> ready", flush=True)
for line in sys.stdin:
    try:
        exec(json.loads(line))
    except Exception as error:
        print("> error", type(error).__name__, error, flush=True)
    else:
        print("> done", flush=True)
"""


class Told(Program):
    """A process with an object `d` of its own, which does what it is told."""

    def __init__(self, place: Path | str, **options: object) -> None:
        self._start([sys.executable, "-u", "-c", TOLD, str(place), json.dumps(options)])
        self.wait_for("> ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, code: str) -> str:
        """Runs code there; gives the last line that it printed, or an empty one."""
        self.say(json.dumps(code))
        deadline = time.monotonic() + DEADLINE_S
        said = ""
        while (line := self.next_line(deadline)) is not None:
            if line == "> done":
                return said
            assert not line.startswith("> error"), f"{code}: {line}"
            said = line
        raise AssertionError(f"{self.command} ended: {self.errors()}")

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()


def stop_all() -> None:
    """Ends what the test started, so that no process outlives it."""
    while Program.started:
        Program.started.pop().stop()
