"""CPython's own tests of mappings, for all three objects.

`BasicTestMappingProtocol` is used as `test_shelve` uses it: on objects that the test opens and closes.
`TestMappingProtocol` and `TestHashMappingProtocol` want to make a mapping without naming a place, so they
get subclasses that find one. Left out of them is what contradicts what our objects are:

* `copy()` gives a dict, so the lines of `test_copy` that say otherwise are replaced below;
* keys and values that are objects of any class, which `TestHashMappingProtocol` is mostly about.
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

from conftest import free_port
from objsync import CompressedDiskObject, DiskObject, NetworkObject, Object

_numbers = itertools.count()


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

        @classmethod
        def fromkeys(cls, keys: Any, value: Any = None) -> Any:
            made = cls()
            for key in keys:
                made[key] = value
            return made

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
        mapping_tests.BasicTestMappingProtocol.test_setdefault(self)
        d = self._empty_mapping()
        self.assertIsNone(d.setdefault("key0"))
        d.setdefault("key0", [])
        self.assertIsNone(d.setdefault("key0"))
        d.setdefault("key", []).append(3)
        self.assertEqual(d["key"], [3])
        d.setdefault("key", []).append(4)
        self.assertEqual(len(d["key"]), 2)

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
