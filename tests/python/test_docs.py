"""Documentation: every public thing has some, and every example in it runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import objsync
from objsync import _objsync as native
from objsync import aio, errors

MODULES = ["objsync", *(f"objsync.{module.name}" for module in pkgutil.iter_modules(objsync.__path__))]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for test in finder.find(module, name):
            if test.examples:
                found[test.name] = test
    return [found[name] for name in sorted(found)]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example_in_a_docstring_runs(example: doctest.DocTest, folder: Path) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


def test_examples_are_found_on_both_sides() -> None:
    names = [example.name for example in examples()]
    assert "objsync._objsync.Handle.incr" in names
    assert "objsync._objects.Object.pop" in names
    assert len(names) > 20


def public() -> Iterator[tuple[str, Any]]:
    for module in (objsync, aio, errors):
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isroutine(thing)):
                continue
            yield f"{module.__name__}.{name}", thing
            if not inspect.isclass(thing):
                continue
            for member, value in inspect.getmembers(thing):
                ours = str(getattr(value, "__module__", None) or getattr(thing, "__module__")).startswith("objsync")
                if member.startswith("_") or not ours or not callable(value):
                    continue
                # What a file has by Python is described there.
                if value in (getattr(io.BufferedReader, member, None), getattr(io.BufferedWriter, member, None)):
                    continue
                if hasattr(BaseException, member) or hasattr(tuple, member):
                    continue
                yield f"{module.__name__}.{name}.{member}", value


@pytest.mark.parametrize(("name", "thing"), list(public()), ids=lambda part: part if isinstance(part, str) else "")
def test_public_thing_has_a_docstring(name: str, thing: Any) -> None:
    doc = inspect.getdoc(thing)
    assert doc, f"{name} has no docstring"
    assert doc.partition("\n\n")[0].endswith((".", ";")), f"{name}: the first line is no sentence"


WITHOUT_EXAMPLE = {
    "objsync.Missing": "the type of MISSING, whose examples are those of compare_and_set",
    "objsync.Object": "not made directly: its methods have examples, on DiskObject",
    "objsync.ValueReader": "made by Object.open, whose example reads one",
    "objsync.Lease.close": "what the end of the with block calls",
    "objsync.Presence.close": "what the end of the with block calls",
    "objsync.Lock.release": "what the end of the with block calls",
    **dict.fromkeys(
        (f"objsync.aio.{name}" for name in (
            "RangeReader.contains", "RangeReader.get", "RangeReader.len", "RangeView.contains", "RangeView.get",
            "RangeView.len", "Transaction.setdefault", "Transaction.update")),
        "what the blocking face writes as with a dict",
    ),
    **dict.fromkeys(
        (f"objsync.{name}" for name in (
            "ValueReader.peek", "ValueReader.readinto", "ValueReader.readinto1", "ValueWriter.abort",
            "ValueWriter.close", "ValueWriter.detach", "ValueWriter.readinto", "ValueWriter.readinto1")),
        "a method of Python's binary files",
    ),
    **dict.fromkeys(
        (f"objsync.errors.{name}" for name in (
            "CallInterruptedError", "ClosedError", "CorruptError", "DeniedError", "FencedError", "FullError",
            "InvalidError", "LeaseExpiredError", "LockTimeoutError", "NotFoundError", "UnavailableError",
            "UnsupportedError")),
        "a message and a name or less: test_failures.py raises what can be raised",
    ),
}  # fmt: skip
"""Public things that need no example, and why."""
OBJECTS = ("Object", "DiskObject", "CompressedDiskObject", "NetworkObject")


def shown(name: str) -> bool:
    """Whether an example shows it: its own, that of its class, or that of the same thing that blocks."""
    docs = {known: inspect.getdoc(thing) or "" for known, thing in public()}
    if ">>>" in docs.get(name, ""):
        return True
    module, _, rest = name.removeprefix("objsync.").rpartition("aio.")
    owner, _, member = rest.partition(".")
    prefix = "objsync.aio" if name.startswith("objsync.aio.") else "objsync"
    kind = getattr(errors if module == "errors." else aio if prefix == "objsync.aio" else objsync, owner, None)
    owners = OBJECTS if owner in OBJECTS else [base.__name__ for base in getattr(kind, "__mro__", ())]
    used = re.compile(rf"(>>>|\.\.\.) .*\.{member}\(")
    if member and any(used.search(docs.get(f"{prefix}.{one}", "")) for one in owners):
        return True
    return prefix != "objsync" and (f"objsync.{rest}" in WITHOUT_EXAMPLE or shown(f"objsync.{rest}"))


@pytest.mark.parametrize("name", [name for name, _ in public()])
def test_public_thing_has_an_example_or_says_why_not(name: str) -> None:
    assert shown(name) != (name in WITHOUT_EXAMPLE), f"{name}: an example, or a reason in WITHOUT_EXAMPLE"


STUBS = sorted((Path(objsync.__file__).parent / "_objsync").glob("*.pyi"))


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_docstrings_of_the_stub_are_those_of_the_module(path: Path) -> None:
    part = native if path.stem == "__init__" else getattr(native, path.stem)
    stub = ast.parse(path.read_text())
    for node in stub.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        thing = getattr(part, node.name)
        assert inspect.getdoc(thing) == ast.get_docstring(node), node.name
        for member in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(member, ast.FunctionDef) and ast.get_docstring(member):
                doc = inspect.getdoc(getattr(thing, member.name))
                assert doc == ast.get_docstring(member), f"{node.name}.{member.name}"


def test_every_part_of_the_compiled_module_has_a_stub() -> None:
    parts = {name for name, part in inspect.getmembers(native) if inspect.ismodule(part)}
    assert {path.stem for path in STUBS} == {"__init__"} | parts


def test_programs_on_the_page_of_values_run_in_its_order(folder: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "values.md"
    programs = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(programs) == 5
    for program in programs:
        exec(compile(program, str(page), "exec", dont_inherit=True), {"__name__": "page"})
