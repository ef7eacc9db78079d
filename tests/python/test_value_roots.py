"""Objects that are one object of a registered class: methods, what Python asks a class for, and what is not stored."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

import objsync
from conftest import Maker
from objsync import DiskObject, _classes, errors
from objsync._roots import ROOT
from programs import Told

DEADLINE_S = 60.0


@objsync.value(name="test.Counter")
@dataclasses.dataclass
class Counter:
    n: int = 0
    tags: list[Any] = dataclasses.field(default_factory=list)
    items: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.derived: list[int] = []

    def bump(self, by: int = 1) -> int:
        self.n += by
        self.tags.append(by)
        return self.n

    def become(self, new: Callable[[int], int]) -> int:
        self.n = new(self.n)
        return self.n

    def fail(self) -> None:
        self.n = -1
        raise ValueError("too much")

    def chained(self) -> Self:
        self.n += 1
        return self

    def total(self) -> int:
        """The sum."""
        return sum(self.tags)

    async def waits(self) -> None:
        self.n = -1

    def get(self, key: str) -> int:
        return self.items[key]

    @property
    def double(self) -> int:
        return 2 * self.n

    @double.setter
    def double(self, value: int) -> None:
        self.n = value // 2

    @staticmethod
    def static() -> str:
        return "static"

    def __len__(self) -> int:
        return len(self.tags)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tags)

    def __getitem__(self, place: int) -> Any:
        return self.tags[place]

    def __setitem__(self, place: int, value: Any) -> None:
        self.tags[place] = value

    def __contains__(self, tag: object) -> bool:
        return tag in self.tags

    def __call__(self, by: int) -> int:
        return self.bump(by)

    def __lt__(self, other: Counter) -> bool:
        return self.n < other.n

    def __add__(self, other: Any) -> int:
        return self.n + (other.n if isinstance(other, Counter) else other)

    def __iadd__(self, other: int) -> Self:
        self.n += other
        return self


def test_method_that_changes_the_object_is_saved_when_it_returns(make: Maker) -> None:
    d: Any = make(Counter())
    assert (d.bump(), d.bump(by=2), d.n, d.tags) == (1, 3, 3, [1, 2])
    assert d.chained().chained() is d and d.n == 5
    assert (d.total(), d.total.__doc__, d.double, d.static()) == (3, "The sum.", 10, "static")
    d.double = 8
    assert d.n == 4 and d.copy() == Counter(4, [1, 2])


def test_method_that_changes_nothing_or_raises_writes_nothing(make: Maker) -> None:
    d: Any = make(Counter())
    d.bump()
    before = d.sync()
    d.total(), d.n, d.tags, len(d), list(d), d.get
    with pytest.raises(ValueError, match="too much"):
        d.fail()
    with pytest.raises(TypeError, match="async method"):
        d.waits()
    d.n = 1
    assert d.sync() == before and d.n == 1


def test_methods_of_two_processes_and_of_threads_lose_nothing(folder: Path) -> None:
    home = Path(__file__).parent
    with DiskObject("data.obj", Counter()) as d, Told(folder / "data.obj") as other:
        other.do(f"import sys; sys.path.insert(0, {str(home)!r}); import test_value_roots")
        threads = [threading.Thread(target=lambda: [d.bump() for _ in range(25)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        other.do("[d.bump() for _ in range(50)]")
        for thread in threads:
            thread.join(DEADLINE_S)
        d.sync()
        assert (d.n, len(d.tags)) == (125, 125)


def test_method_that_was_overtaken_runs_again_on_what_is_there_then(folder: Path) -> None:
    with DiskObject("data.obj", Counter()) as d, DiskObject("data.obj") as other:
        seen: list[int] = []

        def meanwhile(n: int) -> int:
            seen.append(n)
            if len(seen) == 1:
                other.bump(10)
            return n + 1

        assert d.become(meanwhile) == 11
        assert seen == [0, 10] and d.n == other.n == 11


def test_attribute_that_is_not_stored_is_refused_by_name(make: Maker) -> None:
    d: Any = make(Counter(1))
    before = d.sync()
    for change in (
        lambda: setattr(d, "typo", 5),
        lambda: setattr(d, "derived", [1]),
        lambda: d.derived.append(1),
        lambda: delattr(d, "derived"),
    ):
        with pytest.raises(AttributeError, match="stored of a Counter has no attribute '(typo|derived)'"):
            change()
    with pytest.raises(AttributeError):
        del d.typo
    with pytest.raises(AttributeError, match="'Counter' object has no attribute 'typo'"):
        d.typo  # noqa: B018
    with pytest.raises(AttributeError):
        d.status = 5
    assert d.sync() == before and d == Counter(1)


def test_what_python_asks_a_class_for_is_that_of_the_class(make: Maker) -> None:
    d: Any = make(Counter(1, [1, [2]], {"a": 7}))
    e: Any = make(Counter(2))
    assert len(d) == 2 and list(d) == [1, [2]] and d[0] == 1 and [2] in d and 5 not in d and bool(d)
    d[0] = 9
    assert d.tags == [9, [2]] and d(1) == 2 and callable(d)
    same = d
    d += 3
    assert d is same and d.n == 5 and d + 1 == 6 and d + e == 7 and e < d and not d < e
    assert d.items == {"a": 7} and d.get("a") == 7
    d.items["b"] = 1
    assert d.get("b") == 1 and not e
    for call in (lambda: d - 1, lambda: 1 + d, lambda: d | d, lambda: int(d), lambda: next(d), lambda: -d):
        with pytest.raises(TypeError):
            call()


@objsync.value(name="test.Bare")
@dataclasses.dataclass
class Bare:
    x: int = 0


def test_what_the_class_has_not_is_the_type_error_of_python(make: Maker) -> None:
    d: Any = make(Bare())
    for call, text in (
        (lambda: list(d), "'Bare' object is not iterable"),
        (lambda: len(d), "object of type 'Bare' has no len"),
        (lambda: d[0], "'Bare' object is not subscriptable"),
        (lambda: d.__setitem__("k", 1), "'Bare' object does not support item assignment"),
        (lambda: d.__delitem__("k"), "'Bare' object does(n't| not) support item deletion"),
        (lambda: 1 in d, "'Bare' is not (a container or )?iterable|argument of type 'Bare'"),
        (lambda: reversed(d), "'Bare' object is not reversible"),
        (lambda: d < d, "'<' not supported"),
        (lambda: d + 1, "unsupported operand"),
        (lambda: d(), "not callable"),
    ):
        with pytest.raises(TypeError, match=text):
            call()
    assert bool(d) and not callable(d) and d != 5
    with pytest.raises(TypeError):
        d["k"] = 1
    for name in KEYED:
        with pytest.raises(TypeError, match=f"not a mapping: it has no {name}"):
            getattr(d, name)("x", 1)


KEYED = (
    *("set", "incr", "batch", "pipeline", "compare_and_set", "list_append", "set_add", "set_discard"),
    *("open", "presence", "lease", "setdefault", "popitem", "range", "prefix"),
)


@pytest.mark.parametrize("value", [[1], {1}])
def test_keys_beside_a_list_or_a_set_are_refused(make: Maker, value: Any) -> None:
    d: Any = make(value)
    for name in KEYED:
        with pytest.raises(TypeError, match=f"not a mapping: it has no {name}"):
            getattr(d, name)("x", 1)
    assert d.transact(lambda t: list(t)) == [ROOT] and d == value


def test_attribute_set_on_an_object_that_an_older_class_stored_ends(folder: Path) -> None:
    class Grown:
        def __init__(self, x: int, y: int = 0) -> None:
            self.x, self.y = x, y
            self.tags: list[int] = [x]

    def decode(fields: Any) -> Grown:
        made = Grown(fields["x"], fields.get("y", 0))
        made.tags = fields.get("tags", made.tags)
        return made

    objsync.register(Grown, name="test.Grown", encode=lambda o: {"x": o.x}, decode=decode)
    for place in "abc":
        DiskObject(place, Grown(1)).close()
    for table in (_classes._by_name, _classes._by_class, _classes.takers):
        table.pop("test.Grown", None)
        table.pop(Grown, None)
    objsync.register(Grown, name="test.Grown", encode=lambda o: dict(vars(o)), decode=decode)
    with DiskObject("a") as a, DiskObject("b") as b, DiskObject("c") as c:
        a.x = 5
        b.tags.append(2)
        before = c.sync()
        c.y = 0
        assert (a.x, a.y, b.tags) == (5, 0, [1, 2]) and c.sync() == before


def test_containers_of_an_attribute_are_those_of_their_place(make: Maker) -> None:
    d: Any = make(Counter(0, [{"a": 1}]))
    tags = d.tags
    assert d.tags is tags and d.tags[0] is tags[0]
    first = tags[0]
    tags.insert(0, {})
    first["b"] = 2
    assert d.tags == [{}, {"a": 1, "b": 2}]
    d.n = 5
    first["b"] = 3
    d.tags += [4]
    tags.append(5)
    assert d.tags == [{}, {"a": 1, "b": 3}, 4, 5] and d.tags is tags
    d.tags = ["new"]
    for old in (lambda: tags.append("x"), lambda: first.update(k=1)):
        with pytest.raises(errors.DetachedError):
            old()
    assert d.tags == ["new"] and tags[-1] == 5
    d.bump()
    assert d.tags == ["new", 1]


def test_container_of_an_attribute_is_read_on_after_close(folder: Path) -> None:
    d: Any = DiskObject("data.obj", Counter(0, [1]))
    tags, again = d.tags, pickle.dumps(d)
    with pickle.loads(again) as other:
        assert other.tags == [1] and other is not d
    d.close()
    assert tags == [1]
    with pytest.raises(errors.ClosedError):
        tags.append(2)


def test_reading_method_runs_on_a_handle_that_only_reads(folder: Path) -> None:
    DiskObject("data.obj", Counter(0, [1, 2])).close()
    with DiskObject("data.obj", readonly=True) as d:
        assert d.total() == 3
        with pytest.raises(errors.DeniedError):
            d.bump()


@objsync.value(name="test.Pair")
class Pair(NamedTuple):
    one: int
    two: list[int]


def test_named_tuple_as_root_is_read_like_one(folder: Path) -> None:
    with DiskObject("data.obj", Pair(1, [2])) as d:
        assert (d.one, list(d), d[1], len(d), d.index([2])) == (1, [1, [2]], [2], 2, 1)
        with pytest.raises(AttributeError):
            d.one = 2
        with pytest.raises(AttributeError):
            d.two.append(3)
        assert d == Pair(1, [2])


def test_object_of_a_class_that_nobody_has_registered_keeps_its_content(folder: Path) -> None:
    DiskObject("data.obj", Bare(3)).close()
    _classes._by_name.pop("test.Bare")
    with DiskObject("data.obj") as d:
        assert d.name == "test.Bare" and d.value == {"x": 3}
        with pytest.raises(AttributeError):
            d.x = 4
        assert d.value == {"x": 3}


def test_property_of_a_subclass_of_the_store_is_its_own(folder: Path) -> None:
    class Mine(DiskObject):
        @property
        def window(self) -> int:
            return self.__dict__.get("_window", 0)

        @window.setter
        def window(self, value: int) -> None:
            self._window = value

    with Mine("data.obj", Bare()) as d:
        d.window = 5
        d.x = 1
        assert d.window == 5 and d.copy() == Bare(1)
