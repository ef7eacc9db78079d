"""CPython's own tests of mappings, for all three objects.

`BasicTestMappingProtocol` is used as `test_shelve` uses it: on objects that the test opens and closes.
`TestMappingProtocol` and `TestHashMappingProtocol` want to make a mapping without naming a place, so they
get subclasses that find one. `EXCEPTIONS` lists what is left out of them, and why; the rest of each such
test is run in the form below, and CPython's own form is seen to fail.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from test import mapping_tests
from typing import Any, ClassVar

import pytest

from conftest import free_port
from objsync import CompressedDiskObject, DiskObject, NetworkObject, Object
from programs import ROOT

_numbers = itertools.count()

STORED_KEYS = "keys are of the types that can be stored, not objects of any class"
EXCEPTIONS = {
    "test_copy": "`copy()` gives a dict, not a second store",
    "test_setdefault": STORED_KEYS,
    "test_getitem": STORED_KEYS,
    "test_pop": STORED_KEYS,
    "test_eq": STORED_KEYS,
    "test_repr": "`repr` tells what and where an object is, not its content",
    "test_repr_deep": "an object is not a value of another one",
}
"""Tests of CPython that are not run as they are: name and reason, as docs/mapping.md has them."""


class Opened:
    """Opens objects in a folder of the test, and closes them after it."""

    folder: ClassVar[Path]
    opened: ClassVar[list[Object]] = []

    def setUp(self) -> None:
        Opened.folder = Path(tempfile.mkdtemp(prefix="objsync-mapping-"))
        os.environ["OBJSYNC_HOME"] = str(Opened.folder / "home")

    def tearDown(self) -> None:
        while Opened.opened:
            Opened.opened.pop().close()
        shutil.rmtree(Opened.folder)


def temporary(kind: type[Object]) -> type[Object]:
    """`kind`, made like a dict: on a new store, filled by the arguments."""

    class Temporary(kind):  # type: ignore[misc, valid-type]
        def __init__(self, other: Any = (), /, **named: Any) -> None:
            if kind is NetworkObject:
                super().__init__("127.0.0.1", free_port(), durability="buffered")
            else:
                super().__init__(Opened.folder / str(next(_numbers)), durability="buffered")
            Opened.opened.append(self)
            self.update(other, **named)

    return Temporary


class BasicMappingTest(Opened, mapping_tests.BasicTestMappingProtocol):
    kind: type[Object]

    def type2test(self, *args: Any, **named: Any) -> Object:
        return temporary(self.kind)(*args, **named)

    def _reference(self) -> dict[Any, Any]:
        return {"key1": "value1", "key2": 2, "key3": (1, 2, 3)}


class WholeMappingTest(Opened, mapping_tests.TestHashMappingProtocol):
    def test_copy(self) -> None:
        d = self._full_mapping({1: 1, 2: 2, 3: 3})
        self.assertEqual(d.copy(), {1: 1, 2: 2, 3: 3})
        self.assertIs(type(d.copy()), dict)
        self.assertEqual(self._empty_mapping().copy(), {})
        self.assertRaises(TypeError, d.copy, None)

    def test_setdefault(self) -> None:
        mapping_tests.TestMappingProtocol.test_setdefault(self)

    def test_getitem(self) -> None:
        mapping_tests.TestMappingProtocol.test_getitem(self)

    def test_pop(self) -> None:
        mapping_tests.TestMappingProtocol.test_pop(self)

    def test_repr(self) -> None:
        d = self._full_mapping({1: 2, "a": [3]})
        self.assertRegex(repr(d), r"^<Temporary \S+ owner rev \d+, 2 keys>$")

    def test_repr_deep(self) -> None:
        d = self._full_mapping({"deep": "x" * 100_000})
        self.assertLess(len(repr(d)), 200)

    def test_eq(self) -> None:
        self.assertEqual(self._empty_mapping(), self._empty_mapping())
        self.assertEqual(self._full_mapping({1: 2}), self._full_mapping({1: 2}))
        self.assertNotEqual(self._full_mapping({1: 2}), self._full_mapping({1: 3}))
        self.assertNotEqual(self._full_mapping({1: 2}), 5)


class DiskBasicTest(BasicMappingTest):
    kind = DiskObject


class CompressedBasicTest(BasicMappingTest):
    kind = CompressedDiskObject


class NetworkBasicTest(BasicMappingTest):
    kind = NetworkObject


class DiskWholeTest(WholeMappingTest):
    type2test = temporary(DiskObject)


class CompressedWholeTest(WholeMappingTest):
    type2test = temporary(CompressedDiskObject)


class NetworkWholeTest(WholeMappingTest):
    type2test = temporary(NetworkObject)


# The bases are not tests themselves.
del BasicMappingTest, WholeMappingTest


def test_every_test_of_cpython_is_run() -> None:
    loader = unittest.TestLoader()
    theirs = set(loader.getTestCaseNames(mapping_tests.TestHashMappingProtocol))
    assert theirs == set(loader.getTestCaseNames(DiskWholeTest))
    assert {name for name in vars(DiskWholeTest.__mro__[1]) if name.startswith("test_")} == set(EXCEPTIONS)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception_is_needed(name: str) -> None:
    theirs = type("Theirs", (Opened, mapping_tests.TestHashMappingProtocol), {"type2test": temporary(DiskObject)})
    result = theirs(name).run()
    assert result is not None and not result.wasSuccessful(), f"{name} passes as CPython has it"


@pytest.mark.parametrize(("name", "reason"), EXCEPTIONS.items())
def test_exception_is_documented(name: str, reason: str) -> None:
    page = (ROOT / "docs" / "mapping.md").read_text()
    assert f"| `{name}` | {reason} |" in page
