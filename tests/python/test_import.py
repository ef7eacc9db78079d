"""Importing the package: quick, and plain about why it cannot work."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_free_threaded_python_is_told_what_is_wrong() -> None:
    code = """
import sysconfig
ask = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else ask(name)
try:
    import objsync
except ImportError as error:
    print(error)
"""
    assert "free-threaded" in run(code)


def test_asyncio_is_not_imported_for_those_who_block() -> None:
    assert run("import sys, objsync; print('asyncio' in sys.modules)") == "False"


def test_nothing_is_imported_that_few_need() -> None:
    few = "asyncio dataclasses inspect pickle shutil html pathlib decimal uuid logging numpy zstandard".split()
    assert run(f"import sys, objsync; print([name for name in {few} if name in sys.modules])") == "[]"
