"""Classes of users: what is registered comes back as what it was, whatever became of the class."""

from __future__ import annotations

import copy
import dataclasses
import enum
import fractions
import json
import pathlib
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, namedtuple
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest

import objsync
from objsync import DiskObject, Object, Unregistered, _classes
from objsync import _objsync as native
from objsync.errors import InvalidError, RebuildError, UnserialisableError

NAME_BYTES_MAX = 255


def stored(value: Any) -> Any:
    return native.decode_value(native.encode_value(value))


@objsync.value
@dataclasses.dataclass
class User:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    friends: list[User] = dataclasses.field(default_factory=list)
    seen: int = dataclasses.field(default=0, init=False)


@objsync.value
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: float
    y: float = 0.0


@objsync.value
@dataclasses.dataclass
class Admin(User):
    level: int = 1


class Colour(enum.Enum):
    RED = object()
    BLUE = (1, 2)
    AZURE = BLUE


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    A = "a"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Pair(NamedTuple):
    left: int
    right: int = 0


for kind in (Colour, Level, Kind, Right, Pair):
    objsync.value(kind)


@pytest.mark.parametrize(
    "value",
    [
        User("ada", ["x"], [User("bob")]),
        Point(x=1.5),
        Admin("root", level=3),
        *Colour,
        Level.HIGH,
        Kind.A,
        Right.READ | Right.WRITE,
        Right(0),
        Pair(1),
        {"a": [Point(x=1), (Level.LOW, Kind.A)], "b": {Level.LOW: Pair(1, 2)}},
        {Point(x=1), Colour.RED},
    ],
    ids=repr,
)
def test_object_comes_back_equal_and_of_its_class(value: Any) -> None:
    back = stored(value)
    assert back == value
    # The order of a set is that in which its elements came.
    assert isinstance(value, set) or repr(back) == repr(value)
    assert native.encode_value(back) == native.encode_value(value)


def test_enum_is_the_very_member_and_an_int_enum_no_int() -> None:
    assert stored(Colour.AZURE) is Colour.BLUE
    assert stored([Level.LOW])[0] is Level.LOW
    assert type(stored({"k": Kind.A})["k"]) is Kind


def test_dictionary_gives_each_reader_an_object_of_his_own(d: Object) -> None:
    d["u"] = User("ada")
    first = d["u"]
    first.tags.append("mine")
    first.name = "eve"
    assert d["u"] == User("ada")
    d["p"] = (Point(x=1), Level.LOW)
    assert d["p"] == (Point(x=1), Level.LOW)


def test_field_without_init_comes_back() -> None:
    user = User("ada")
    user.seen = 7
    assert stored(user).seen == 7


def test_subclass_that_is_not_registered_itself_is_refused() -> None:
    @dataclasses.dataclass
    class Guest(User):
        pass

    with pytest.raises(UnserialisableError, match=r"@objsync\.value") as caught:
        native.encode_value([Guest("g")])
    assert caught.value.path == "value[0]"


def make_class(name: str, **fields: Any) -> Any:
    """A dataclass as another version of a program has it; a field with ``...`` has no default."""
    spec = [
        (field, Any) if default is ... else (field, Any, dataclasses.field(default=default))
        for field, default in fields.items()
    ]
    cls = dataclasses.make_dataclass(name, spec, namespace={"__module__": "versions"})
    return objsync.value(name="versions.Item")(cls)


def test_field_that_was_added_takes_its_default() -> None:
    payload = native.encode_value(make_class("Item", a=...)(1))
    assert vars(native.decode_value(payload)) == {"a": 1}
    make_class("Item", a=..., b=9)
    assert vars(native.decode_value(payload)) == {"a": 1, "b": 9}


def test_field_that_was_removed_is_kept_for_programs_that_know_it() -> None:
    payload = native.encode_value(make_class("Item", a=..., b=...)(1, [2]))
    older = make_class("Item", a=...)
    item = native.decode_value(payload)
    assert item == older(1)
    item.a = 5
    changed = native.encode_value(item)
    newer = make_class("Item", a=..., b=...)
    assert native.decode_value(changed) == newer(5, [2])


def test_field_that_is_missing_without_a_default_is_an_error_that_shows_what_is_there(d: Object) -> None:
    d["old"] = make_class("Item", a=...)(1)
    make_class("Item", a=..., b=...)
    with pytest.raises(RebuildError, match="versions.Item.*'b'.*default") as caught:
        d["old"]
    assert (caught.value.name, caught.value.value) == ("versions.Item", {"a": 1})
    assert isinstance(caught.value, InvalidError) and isinstance(caught.value.__cause__, TypeError)


def test_field_that_nothing_can_keep_is_refused() -> None:
    payload = native.encode_value(make_class("Item", a=..., b=...)(1, 2))
    objsync.value(name="versions.Item")(
        dataclasses.make_dataclass("Item", ["a"], slots=True, namespace={"__module__": "versions"})
    )
    with pytest.raises(RebuildError, match="no field b"):
        native.decode_value(payload)


def test_alias_reads_what_was_stored_under_an_older_name() -> None:
    payload = native.encode_value(make_class("Item", a=...)(1))
    _classes._by_name.clear()
    newer = objsync.value(name="shop.Item", aliases=["versions.Item"])(dataclasses.make_dataclass("New", ["a"]))
    assert native.decode_value(payload) == newer(1)
    assert b"shop.Item" in native.encode_value(newer(1))


def test_member_that_is_gone_and_content_of_another_shape_are_errors() -> None:
    class Size(enum.Enum):
        BIG = 1

    objsync.value(name="versions.Size")(Size)
    for content in ("SMALL", 7, {"a": 1}):
        with pytest.raises(RebuildError):
            stored(Unregistered("versions.Size", content))
    for content in ([1], {1: 2}, "x"):
        with pytest.raises(RebuildError):
            stored(Unregistered(f"{__name__}.User", content))


def test_reader_without_the_class_can_look_copy_and_write_back(d: Object) -> None:
    item = make_class("Item", a=..., b=...)(1, Point(x=2))
    payload = native.encode_value({"in": item})
    d["a"] = {"in": item}
    _classes._by_name.pop("versions.Item")
    unknown = d["a"]["in"]
    assert unknown == Unregistered("versions.Item", {"a": 1, "b": Point(x=2)})
    assert repr(unknown) == "Unregistered('versions.Item', {'a': 1, 'b': Point(x=2, y=0.0)})"
    assert native.encode_value(d["a"]) == payload
    d["b"] = d["a"]
    assert len({unknown, d["b"]["in"]}) == 1
    again = make_class("Item", a=..., b=...)
    assert d["b"]["in"] == again(1, Point(x=2)) == d["a"]["in"]


READER = """
import sys, objsync
with objsync.DiskObject(sys.argv[1]) as d:
    print(repr(d["u"]))
    d["copy"] = d["u"]
assert "app" not in sys.modules
"""


def test_program_that_lacks_the_class_copies_it_and_imports_nothing(folder: pathlib.Path) -> None:
    with DiskObject("data.obj") as d:
        d["u"] = Unregistered("app.Thing", {"id": 7})
    (folder / "app.py").write_text("raise SystemExit('it was imported')")
    ran = subprocess.run(
        [sys.executable, "-c", READER, "data.obj"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "Unregistered('app.Thing', {'id': 7})"), ran.stderr
    with DiskObject("data.obj") as d:
        assert d["copy"] == Unregistered("app.Thing", {"id": 7})


@attrs.define
class Account:
    owner: str
    balance: int = 0


class Order(pydantic.BaseModel):
    id: int
    lines: list[str] = []


def test_classes_of_attrs_and_pydantic_come_back_through_register(d: Object) -> None:
    objsync.register(Account, encode=attrs.asdict, decode=lambda fields: Account(**fields))
    objsync.register(Order, encode=Order.model_dump, decode=Order.model_validate)
    d["all"] = [Account("ada", 3), Order(id=1, lines=["x"])]
    assert d["all"] == [Account("ada", 3), Order(id=1, lines=["x"])]
    with pytest.raises(RebuildError, match="valid"):
        stored(Unregistered(f"{__name__}.Order", {"id": "none"}))


@pytest.mark.parametrize(
    ("cls", "encode", "decode", "value"),
    [
        (fractions.Fraction, lambda f: (f.numerator, f.denominator), lambda v: fractions.Fraction(*v),
         fractions.Fraction(1, 3)),
        (pathlib.PurePosixPath, str, pathlib.PurePosixPath, pathlib.PurePosixPath("/a/b")),
        (OrderedDict, list, lambda pairs: OrderedDict(pairs), OrderedDict()),
        (Counter, dict, Counter, Counter("abca")),
        (range, lambda r: (r.start, r.stop, r.step), lambda v: range(*v), range(1, 9, 2)),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else "",
)  # fmt: skip
def test_classes_of_the_standard_library_can_be_registered(cls: Any, encode: Any, decode: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        native.encode_value(value)
    objsync.register(cls, encode=encode, decode=decode)
    assert stored(value) == value and type(stored(value)) is cls


def test_error_inside_an_object_names_the_attribute() -> None:
    value = {"a": [0, User("ada", ["x", print])]}
    with pytest.raises(UnserialisableError) as caught:
        native.encode_value(value)
    assert caught.value.path == "value['a'][1].tags[1]"
    assert eval(caught.value.path, {"value": value}) is print
    objsync.register(Account, encode=lambda account: [account.owner], decode=Account)
    with pytest.raises(UnserialisableError) as caught:
        native.encode_value([Account(print)])
    assert caught.value.path == "encode(value[0])[0]"


def test_encode_that_raises_or_gives_the_object_itself_changes_nothing(d: Object) -> None:
    objsync.register(Account, encode=lambda account: account, decode=lambda v: v)
    with pytest.raises(InvalidError, match="contains itself"):
        d["a"] = Account("ada")

    def fail(order: Order) -> Any:
        raise ZeroDivisionError

    objsync.register(Order, encode=fail, decode=Order)
    with pytest.raises(ZeroDivisionError):
        d["a"] = [1, Order(id=1)]
    assert not d


def test_content_that_changes_while_it_is_stored_does_no_harm() -> None:
    unknown = Unregistered("app.Thing", {"a": Account("ada"), "b": 1})

    def encode(account: Account) -> str:
        unknown.value["new"] = 1
        return account.owner

    objsync.register(Account, encode=encode, decode=Account)
    assert stored(unknown) == Unregistered("app.Thing", {"a": Account("ada"), "b": 1})


def test_unregistered_object_can_be_copied_and_pickled() -> None:
    unknown = Unregistered("app.Thing", {"a": [1]})
    for again in (copy.deepcopy(unknown), pickle.loads(pickle.dumps(unknown))):
        assert again == unknown and again.value["a"] is not unknown.value["a"]
    assert unknown != Unregistered("app.Other", {"a": [1]}) and unknown != {"a": [1]}


def test_object_that_holds_itself_is_refused() -> None:
    user = User("ada")
    user.friends.append(user)
    with pytest.raises(InvalidError, match="contains itself; the limit is 200 levels"):
        native.encode_value(user)


def test_depth_of_objects_is_what_a_reader_takes() -> None:
    deepest: Any = 1
    for _ in range(100):
        deepest = Point(x=deepest)
    assert stored(deepest) == deepest
    with pytest.raises(InvalidError, match="the limit is 200 levels"):
        native.encode_value([deepest])


def test_set_takes_no_object_that_python_could_not_put_there(d: Object) -> None:
    d["s"] = {1}
    with pytest.raises(InvalidError, match="unhashable type: 'User'"):
        d.set_add("s", User("ada"))
    d.set_add("s", Point(x=1), Level.LOW)
    assert d["s"] == {1, Point(x=1), Level.LOW}


def test_name_that_is_taken_and_name_that_is_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="is that of"):
        objsync.value(name=f"{__name__}.User")(dataclasses.make_dataclass("Other", []))
    for name in ("", "n" * (NAME_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match=f"the limit is {NAME_BYTES_MAX} bytes"):
            objsync.value(name=name)(dataclasses.make_dataclass("Other", []))
    longest = objsync.value(name="n" * NAME_BYTES_MAX)(dataclasses.make_dataclass("Other", []))
    assert stored(longest()) == longest()


def test_class_that_is_made_again_takes_the_place_of_the_old_one() -> None:
    first = make_class("Item", a=...)
    payload = native.encode_value(first(1))
    second = make_class("Item", a=...)
    assert type(native.decode_value(payload)) is second
    assert native.encode_value(first(1)) == payload


@pytest.mark.parametrize("cls", [int, dict, list, str, type(None)])
def test_class_that_is_stored_as_it_is_cannot_be_registered(cls: Any) -> None:
    with pytest.raises(TypeError, match="is stored as it is"):
        objsync.register(cls, encode=str, decode=cls)


def test_class_that_could_not_be_built_again_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"objsync\.register"):
        objsync.value(type("Plain", (), {}))

    @dataclasses.dataclass
    class Varied:
        a: dataclasses.InitVar[int] = 1

    with pytest.raises(TypeError, match="InitVar"):
        objsync.value(Varied)

    @dataclasses.dataclass(init=False)
    class Bare:
        a: int

    with pytest.raises(TypeError, match="not made by calling it"):
        objsync.value(Bare)
    with pytest.raises(TypeError, match="both"):
        objsync.register(Account, encode=attrs.asdict)
    with pytest.raises(TypeError, match="no class"):
        objsync.value(7)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "payload", [b"\xc7\x01\x11\xa1", b"\xd4\x11\x01", b"\xd4\x11\xa0", b"\xc7\x03\x11\xa1a\xc1", b"\xc7\x04\x11\xa1a\x01\x01"],
    ids=["cut-name", "no-name", "no-content", "bad-content", "rest"],
)  # fmt: skip
def test_malformed_object_is_corrupt(payload: bytes) -> None:
    with pytest.raises(OSError, match="malformed at byte"):
        native.decode_value(payload)


def test_named_tuple_that_is_not_registered_is_refused() -> None:
    with pytest.raises(UnserialisableError, match="objsync.value"):
        native.encode_value(namedtuple("Loose", "a")(1))


def test_what_live_objects_use_takes_apart_and_builds() -> None:
    name, fields = _classes.fields_of(User("ada")) or ("", {})
    assert (name, fields["name"]) == (f"{__name__}.User", "ada")
    fields["name"] = "eve"
    assert _classes.rebuild(name, fields) == (User("eve"), False)
    assert _classes.fields_of(Level.LOW) is None and _classes.fields_of({}) is None
    assert _classes.is_registered(Level.LOW) and not _classes.is_registered({})
    assert not _classes.is_registered(Unregistered("a", 1))
    assert json.dumps(fields["tags"]) == "[]"
