"""Runs one page of docs/ in a folder of its own: its Python, its shell, its files.

Ports and names of machines that a page speaks of are replaced by what this machine has free, and what is
printed is told with the page's own again.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import free_port
from page_python import OPTIONS
from pages import Block
from programs import DEADLINE_S

PORTS = ("8080", "8081", "8082", "6379")
"""Each is a free one, the same on all of a page."""
MACHINES = {"server.example": "127.0.0.1", "0.0.0.0": "127.0.0.1"}
REDIS = """
import sys
from fakeredis import TcpFakeServer
server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])))
print("ready")
server.serve_forever()
"""


class PageError(AssertionError):
    """A block did not do what its page says."""


class Page:
    """One page while it is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "OBJSYNC_HOME": str(folder / "home"),
            "OBJSYNC_TO": f"127.0.0.1:{self.ports['8080']}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "error",
        }
        self._python: subprocess.Popen[str] | None = None
        self._shell: Shell | None = None
        self._redis: subprocess.Popen[str] | None = None
        self.printed: dict[str, str] = {}
        """What each file that was run has printed."""

    def run(self, all_of_it: list[Block]) -> None:
        """Runs the blocks in their order."""
        shell = "".join(block.code for block in all_of_it if block.language in ("sh", "console"))
        if any("redis.Redis(" in block.code for block in all_of_it):
            self.serve_redis()
        for block in all_of_it:
            if block.not_run is not None:
                continue
            if block.title:
                (self.folder / block.title).write_text(self.here(block.code))
                if block.language == "python" and block.title not in shell:
                    self.printed[block.title] = self.run_file(block)
            elif block.language == "python":
                self.run_python(block)
            elif block.language == "sh":
                self.run_shell(block, block.code, None)
            elif block.language == "console":
                for command, output in commands(block.code):
                    self.run_shell(block, command, output)

    def here(self, text: str) -> str:
        """A page's text as it is run on this machine."""
        for shown, used in {**self.ports, **MACHINES}.items():
            text = text.replace(shown, used)
        return text

    def there(self, text: str) -> str:
        """What was printed here, as the page would have it."""
        for shown, used in self.ports.items():
            text = text.replace(used, shown)
        return text.replace(str(self.folder), ".")

    def run_file(self, block: Block) -> str:
        """Runs a file by itself, and compares what it prints with the `# ->` in it."""
        assert block.title
        done = subprocess.run(
            [sys.executable, block.title], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=DEADLINE_S,
        )
        if done.returncode:
            raise PageError(f"{block.place}: {block.title} failed\n{done.stderr}")
        printed = self.there(done.stdout)
        shown = re.findall(r"# -> (.*)$", block.code, re.M)
        if shown:
            compare(block, "\n".join(shown), printed)
        return printed

    def serve_redis(self) -> None:
        """Serves what a page takes for a Redis server."""
        command = [sys.executable, "-u", "-c", REDIS, self.ports["6379"]]
        self._redis = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._redis.stdout
        if self._redis.stdout.readline() != "ready\n":
            raise PageError("fakeredis does not serve")

    def run_python(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("page_python.py"))],
                cwd=self.folder, env=self.environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
        assert self._python.stdin and self._python.stdout
        request = {"code": self.here(block.code), "place": block.place}
        self._python.stdin.write(json.dumps(request) + "\n")
        self._python.stdin.flush()
        if not select.select([self._python.stdout], [], [], DEADLINE_S)[0]:
            raise PageError(f"{block.place}: no end within {DEADLINE_S} s")
        answer = self._python.stdout.readline()
        error = json.loads(answer)["error"] if answer else "its process ended"
        if error:
            raise PageError(f"{block.place}: {self.there(error)}\n{block.code}")

    def run_shell(self, block: Block, commands: str, output: str | None) -> None:
        if self._shell is None:
            self._shell = Shell(self.folder, self.environment)
        printed = self.there(self._shell.run(self.here(commands), block.place))
        if output is not None:
            compare(block, output, printed)
        for port in re.findall(r"objsync serve\b.*--port (\d+)", commands):
            self._shell.wait_until_served(self.ports.get(port, port))

    def close(self) -> None:
        """Ends whatever the page has started."""
        for process in (self._python, self._redis):
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
        if self._shell is not None:
            self._shell.close()


class Shell:
    """The shell of a page: variables, jobs and the folder are kept from block to block."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.runs = 0
        self.process = subprocess.Popen(
            ["bash", "-s"], cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        self._say("set -euo pipefail")

    def _say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def run(self, code: str, place: str) -> str:
        """Runs commands; what they print, errors too. One that fails is a `PageError`."""
        # What a job prints later goes to the output of the block that started it.
        self.runs += 1
        script, output = self.folder / f".commands-{self.runs}", self.folder / f".output-{self.runs}"
        script.write_text(code)
        self._say(f"source '{script}' >'{output}' 2>&1 </dev/null; echo done")
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], DEADLINE_S)[0]:
            raise PageError(f"{place}: no end within {DEADLINE_S} s\n{code}")
        printed = output.read_text() if output.exists() else ""
        if self.process.stdout.readline() != "done\n":
            raise PageError(f"{place}: a command failed\n{code}\n{printed}")
        return printed

    def wait_until_served(self, port: str) -> None:
        """Waits for the owner that a block has started in the background."""
        deadline = time.monotonic() + DEADLINE_S
        command = ["objsync", "--to", f"127.0.0.1:{port}", "--timeout", "1", "status"]
        while subprocess.run(command, env=self.environment, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise PageError(f"nobody serves at {port}")

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        # Its jobs are in its session: without job control they share its group.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def commands(code: str) -> list[tuple[str, str]]:
    """The commands of a ```console block, each with what it prints."""
    found: list[tuple[str, str]] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:] + "\n", ""))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (found[-1][0] + line[2:] + "\n", "")
        else:
            assert found, f"a console block starts with a command, not with {line!r}"
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def compare(block: Block, wanted: str, got: str) -> None:
    """What is shown and what was printed, blanks at line ends and at the end apart."""
    checker = doctest.OutputChecker()
    if not checker.check_output(wanted.strip() + "\n", got.strip() + "\n", OPTIONS):
        raise PageError(f"{block.place}: the page shows\n{wanted}\nand it prints\n{got}\n{block.code}")
