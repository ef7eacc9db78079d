"""`objsync` and `objsync.aio` have the same names, and each awaitable call says what cancelling does."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import objsync
from objsync import aio
from objsync._loop import Awaited
from programs import ROOT

PAGE = ROOT / "docs" / "faces.md"
SPECIAL = (
    "__bool__", "__contains__", "__delitem__", "__eq__", "__enter__", "__exit__", "__getitem__", "__ior__",
    "__iter__", "__len__", "__next__", "__or__", "__reduce__", "__reversed__", "__ror__", "__setitem__",
)  # fmt: skip
READ_ABSENT = {
    "__contains__": "`k in d`", "__eq__": "`d == other`", "__iter__": "`for k in d`", "__len__": "`len(d)`",
    "__reversed__": "`reversed(d)`",
}  # fmt: skip
BLOCK_ABSENT = {"__enter__": "`with d`", "__exit__": "`with d`"}
ABSENT: dict[str, dict[str, str]] = {
    "Object": READ_ABSENT | BLOCK_ABSENT | {
        "__delitem__": "`del d[k]`", "__setitem__": "`d[k] = v`", "__or__": "`d \\| other`", "__ror__": "`d \\| other`",
        "__ior__": "`d \\|= other`", "serialise": "`d.serialise(v)`", "deserialise": "`d.serialise(v)`",
    },
    "Past": READ_ABSENT | {"__reduce__": "`reversed(d)`"},
    "Snapshot": READ_ABSENT | BLOCK_ABSENT | {"__reduce__": "`reversed(d)`"},
    "RangeReader": READ_ABSENT,
    "RangeView": READ_ABSENT,
    "Transaction": READ_ABSENT | {"__bool__": "`bool(t)`"},
    "Batch": BLOCK_ABSENT,
    "Pipeline": BLOCK_ABSENT | {"__delitem__": "`del d[k]`", "__setitem__": "`d[k] = v`"},
    "Watch": BLOCK_ABSENT | {"__iter__": "`for k in d`", "__next__": "`next(w)`"},
    "Lease": BLOCK_ABSENT, "Lock": BLOCK_ABSENT, "Presence": BLOCK_ABSENT,
}  # fmt: skip
"""What each class of `objsync.aio` has not, and the row of docs/faces.md that says what to write instead."""

for _name in ("DiskObject", "CompressedDiskObject", "NetworkObject"):
    ABSENT[_name] = ABSENT["Object"]
SHARED = {
    "Ack", "Compression", "Conflict", "Error", "Event", "LiveDict", "LiveList", "LiveSet", "Missing", "Op", "Outcome", "Status",
    "Unregistered", "ValueReader", "ValueWriter", "Version", "__version__", "errors", "import_pickle", "register", "value",
}  # fmt: skip
"""Names of `objsync` that stand for both faces, or wait for nothing; live values are of the blocking one."""
CLASSES = [name for name in aio.__all__ if inspect.isclass(getattr(aio, name)) and name != "Entries"]


def names(kind: type) -> set[str]:
    public = {name for name in dir(kind) if not name.startswith("_")}
    # What only says that it cannot be awaited is as good as absent.
    bases = [base for base in kind.__mro__ if base not in (object, Awaited)]
    given = {name for base in bases for name in vars(base)}
    return public | given.intersection(SPECIAL)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_both_faces_have_the_same_names(name: str) -> None:
    missing = names(getattr(objsync, name)) - names(getattr(aio, name))
    assert missing == set(ABSENT.get(name, {})), name


@pytest.mark.parametrize("name", CLASSES)
def test_methods_of_both_faces_take_the_same_arguments(name: str) -> None:
    blocking, awaited = getattr(objsync, name), getattr(aio, name)
    for method in names(blocking) & names(awaited):
        one, other = getattr(blocking, method), getattr(awaited, method)
        if method.startswith("_") or not callable(one) or inspect.isclass(one):
            continue
        taken = inspect.signature(one).parameters.items()
        theirs = {name for name, parameter in taken if parameter.kind is not parameter.VAR_KEYWORD}
        assert theirs <= set(inspect.signature(other).parameters), f"{name}.{method}"


def test_modules_of_both_faces_have_the_same_names() -> None:
    assert set(objsync.__all__) - set(aio.__all__) - SHARED == set()


def test_what_is_absent_stands_in_the_documentation() -> None:
    page = PAGE.read_text()
    for rows in ABSENT.values():
        for name, row in rows.items():
            assert f"\n| {row} | " in page, f"{name}: {row}"


def awaitable(kind: type) -> Iterator[tuple[str, str]]:
    """The methods of a class that are awaited, with their documentation."""
    for name in sorted(names(kind)):
        method = inspect.getattr_static(kind, name)
        method = getattr(method, "__func__", method)
        returns = str(getattr(method, "__annotations__", {}).get("return", ""))
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        if inspect.iscoroutinefunction(method) or returns.startswith(("_loop.Call", "Awaitable")):
            yield name, inspect.getdoc(getattr(kind, name)) or ""


def sentence(doc: str) -> str | None:
    """The paragraph of a docstring that says what cancelling does."""
    found = re.search(r"^Cancelled: (.*?)(?:\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    return found and " ".join(found[1].split())


def table() -> str:
    rows: dict[str, list[str]] = {}
    for kind in CLASSES:
        if kind in ("DiskObject", "CompressedDiskObject", "NetworkObject"):
            continue
        for name, doc in awaitable(getattr(aio, kind)):
            rows.setdefault(sentence(doc) or "", []).append(f"`{kind}.{name}`")
    lines = [f"| {', '.join(methods)} | {said} |" for said, methods in sorted(rows.items())]
    return "\n".join(["| cancelled | what comes of it |", "|---|---|", *lines]) + "\n"


@pytest.mark.parametrize("kind", CLASSES)
def test_awaitable_method_says_what_cancelling_does(kind: str) -> None:
    for name, doc in awaitable(getattr(aio, kind)):
        assert sentence(doc), f"{kind}.{name} has no paragraph that begins with 'Cancelled: '"


def test_table_of_the_documentation_is_that_of_the_docstrings() -> None:
    """`UPDATE_DOCS=1` writes it anew."""
    start, end = "from the docstrings -->\n", "<!-- end -->"
    page = PAGE.read_text()
    before, rest = page.split(start)
    written, after = rest.split(end)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(before + start + table() + end + after)
        return
    assert written == table()


def test_parts_of_the_awaited_face_do_what_the_blocking_ones_do(folder: Path) -> None:
    async def main() -> None:
        async with await aio.DiskObject.fromkeys(["a", "b:1", "b:2"], 0, "store") as d:
            part = d.prefix("b:")
            assert (await part["b:1"], await part.get("a"), await part.get("a", 5)) == (0, None, 5)
            assert (await part.contains("b:1"), await part.contains("a"), await part.len()) == (True, False, 2)
            with pytest.raises(KeyError):
                await part["a"]
            past = await d.at(d.status.revision)
            assert (await past.prefix("b:").len(), await past.range("b")["b:2"]) == (2, 0)
            b = d.batch()
            b["x"] = 1
            b.clear()
            b["y"] = 2
            await b.commit()
            assert await d.contains("y") and not await d.contains("x")
            async with d.pipeline() as p:
                await p.set("z", 3)
            assert p.ack == d.last_ack

            async def change(t: aio.Transaction) -> None:
                assert await t.popitem() == ("z", 3)
                assert await t.setdefault("a", 7) == 0 and await t.setdefault("n", 7) == 7
                t.update({"u": 1}, v=2)
                assert await t.prefix("b:").contains("b:1")

            await d.transact(change)
            assert await d.copy() == {"a": 0, "b:1": 0, "b:2": 0, "n": 7, "u": 1, "v": 2, "y": 2}

            async def empty(t: aio.Transaction) -> None:
                await t.clear()
                with pytest.raises(KeyError):
                    await t.popitem()

            async with d.watch() as w:
                assert not w.closed and await w.get(0) is None
                await d.transact(empty)
                event = await w.get(20)
                assert event is not None and event.kind == "delete"
            assert w.closed and await d.len() == 0

    asyncio.run(main())


def test_pickled_handle_of_the_awaited_face_is_to_be_opened(folder: Path, port: int) -> None:
    async def main() -> None:
        for made in (aio.DiskObject("store", {"a": 1}), aio.CompressedDiskObject("small", {"a": 1}, 7),
                     aio.NetworkObject("127.0.0.1", port, {"a": 1})):  # fmt: skip
            async with made as d:
                other = pickle.loads(pickle.dumps(d))
                assert type(other) is type(d)
                with pytest.raises(objsync.errors.ClosedError, match="never opened"):
                    await other["a"]
                async with other:
                    await other.set("b", 2)
                await d.sync()
                assert await d.copy() == {"a": 1, "b": 2}

    asyncio.run(main())


def test_opening_twice_is_one_opening_and_closing_twice_is_harmless(folder: Path) -> None:
    async def main() -> None:
        d = await aio.DiskObject("store")
        assert await d is d
        await d.set("a", 1)
        await d.close()
        await d.close()
        with pytest.raises(objsync.errors.ClosedError, match="closed"):
            await d["a"]

    asyncio.run(main())
