"""The figures can be measured: every one of them, by the script that does it."""

from __future__ import annotations

import json
import subprocess
import sys

from programs import ROOT, program


def test_every_python_figure_is_measured() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "benches/python/figures.py"), "--quick"]
    done = subprocess.run(
        [*command, "--program", program()], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    figures = {line["figure"]: line for line in map(json.loads, done.stdout.splitlines())}
    for name in ("local get", "local set sync p50", "network seen p99", "network set pipelined"):
        assert figures[name]["value"] > 0, figures
    for name in ("nested read, first", "nested read, held", "append p50"):
        assert figures[name]["value"] > 0, figures
    # What the client read at the end is what was written before.
    assert figures["network join keys"]["value"] == 200 + 1 + 50 + 2_000
