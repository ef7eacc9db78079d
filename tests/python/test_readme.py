"""The README's Python runs as it stands."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from programs import ROOT


@pytest.fixture
def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def run(block: str, folder: Path, port: int) -> str:
    code = block.replace("8080", str(port))
    environment = {**os.environ, "OBJSYNC_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


def test_first_block_makes_a_dictionary_and_reads_it(tmp_path: Path, free_udp_port: int) -> None:
    assert run(python_blocks()[0], tmp_path, free_udp_port) == "42 2 True\n"


def test_second_block_shows_all_three_objects(tmp_path: Path, free_udp_port: int) -> None:
    lines = run(python_blocks()[1], tmp_path, free_udp_port).splitlines()
    assert lines[0].startswith("{'visits': 2}"), lines
    assert "True owner" in lines, lines
    # The callback runs beside the program, so its line may come before or after that one.
    assert "state is now ready" in lines, lines
    # Run again, the files are there and the content for a new store is not used.
    again = run(python_blocks()[1], tmp_path, free_udp_port).splitlines()
    assert again[0].startswith("{'visits': 4}"), again


def test_every_block_is_run_here() -> None:
    assert len(python_blocks()) == 2
