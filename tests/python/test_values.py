"""Values: what goes in comes out, and what cannot be stored is refused by name and place."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Maker
from objsync import DiskObject
from objsync import _objsync as native
from objsync.errors import CorruptError, InvalidError, UnserialisableError
from value_strategies import values

DEPTH_MAX = 200
VALUE_BYTES_MAX = (8 << 20) - 3


def stored(value: Any) -> Any:
    return native.decode_value(native.encode_value(value))


def types_of(value: Any) -> Any:
    """The types in a value, down to the leaves: 1 == 1.0 == True would hide a change."""
    if isinstance(value, dict):
        return dict, [(types_of(key), types_of(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [types_of(item) for item in value]
    return type(value)


@given(values)
def test_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    back = stored(value)
    assert back == value
    assert types_of(back) == types_of(value)
    assert native.encode_value(back) == native.encode_value(value)


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 2**16, 2**32, 2**63, 2**64, 2**64 + 1, 10**400])
def test_int_comes_back_at_every_border(number: int) -> None:
    for near in (number - 1, number, -number, -number - 1):
        assert stored(near) == near


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_special_float_comes_back_bit_by_bit(number: float) -> None:
    assert stored(number).hex() == number.hex()


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1.50", "-0E+7", "1E-999999"])
def test_decimal_comes_back_with_its_digits(text: str) -> None:
    assert str(stored(decimal.Decimal(text))) == str(decimal.Decimal(text))


def test_datetime_keeps_its_zone_and_fold() -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    twice = datetime.datetime(2020, 10, 25, 2, 30, tzinfo=berlin)
    for moment in (twice, twice.replace(fold=1)):
        back = stored(moment)
        assert (back.tzinfo, back.fold, back.utcoffset()) == (berlin, moment.fold, moment.utcoffset())
    assert stored(datetime.time(1, 2, tzinfo=berlin)).tzinfo is berlin


def test_datetime_of_a_zone_without_a_name_keeps_its_offset() -> None:
    class Summer(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            return datetime.timedelta(hours=2)

    moment = datetime.datetime(2020, 6, 1, tzinfo=Summer())
    back = stored(moment)
    assert back == moment
    assert back.tzinfo == datetime.timezone(datetime.timedelta(hours=2))


def test_bytearray_comes_back_as_bytes() -> None:
    assert types_of(stored(bytearray(b"ab"))) is bytes


def test_equal_sets_have_equal_bytes() -> None:
    one, other = set(range(100)), set(reversed(range(100)))
    assert native.encode_value(one) == native.encode_value(other)


def test_names_of_many_dicts_share_one_object() -> None:
    first, second = stored({"field": 1}), stored({"field": 2})
    assert next(iter(first)) is next(iter(second))


class Text(str):
    pass


class Number(int):
    pass


class Time(datetime.datetime):
    pass


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class User:
    name: str


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "path", "remedy"),
    [
        ({"a": [0, 1, 2, Colour.RED]}, "value['a'][3]", ".value"),
        ([Level.LOW], "value[0]", ".value"),
        ((User("ada"),), "value[0]", "dataclasses.asdict()"),
        ({"p": Point(1, 2)}, "value['p']", "tuple()"),
        (collections.OrderedDict(a=1), "value", "dict()"),
        ([collections.defaultdict(int)], "value[0]", "dict()"),
        ({(1, Colour.RED): 1}, "list(value)[0][1]", ".value"),
        ({frozenset([Colour.RED])}, "list(list(value)[0])[0]", ".value"),
        ({"f": print}, "value['f']", "dict"),
        ({"t": int}, "value['t']", "name"),
        (iter([]), "value", "list()"),
        ([Text("a")], "value[0]", "str()"),
        ({"n": Number(1)}, "value['n']", "int()"),
        ({Text("k"): 1}, "list(value)[0]", "str()"),
        ([collections.Counter("a")], "value[0]", "dict()"),
        ([Time(2020, 1, 1)], "value[0]", "register()"),
        ([range(3)], "value[0]", "list()"),
        ([memoryview(b"a")], "value[0]", "bytes()"),
        ([array.array("d", [1.0])], "value[0]", "bytes()"),
        ([pathlib.Path("a")], "value[0]", "str()"),
        ([fractions.Fraction(1, 3)], "value[0]", "objsync.register()"),
        ([...], "value[0]", "register()"),
        ([User("ada")], "value[0]", "@objsync.value"),
        (object(), "value", "dict"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_unknown_type_is_refused_with_its_place_and_a_remedy(value: Any, path: str, remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        native.encode_value(value)
    assert isinstance(caught.value, UnserialisableError)
    assert caught.value.path == path
    assert caught.value.type_name in str(caught.value)
    assert remedy in str(caught.value)


def test_path_in_the_message_leads_to_the_culprit() -> None:
    value = {"a": [(1, {Colour.RED: 2})]}
    with pytest.raises(UnserialisableError) as caught:
        native.encode_value(value)
    assert eval(caught.value.path, {"value": value, "list": list}) is Colour.RED


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_deepest_value_is_stored_and_one_deeper_is_refused() -> None:
    assert stored(nested(DEPTH_MAX)) == nested(DEPTH_MAX)
    with pytest.raises(InvalidError, match=f"the limit is {DEPTH_MAX} levels"):
        native.encode_value(nested(DEPTH_MAX + 1))


def test_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(ValueError, match="contains itself"):
        native.encode_value(value)


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}])
def test_half_of_a_surrogate_pair_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        native.encode_value(value)


@pytest.mark.parametrize("value", ["x" * VALUE_BYTES_MAX, b"x" * VALUE_BYTES_MAX, [b"x" * 1000] * 8400])
def test_value_over_the_limit_is_refused_with_the_limit(value: Any) -> None:
    with pytest.raises(ValueError, match=f"the limit is {VALUE_BYTES_MAX} bytes"):
        native.encode_value(value)


def test_dict_that_changes_while_it_is_stored_is_refused() -> None:
    victim: dict[Any, Any] = {}

    class Zone(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            victim["new"] = 1
            return datetime.timedelta(0)

    victim.update(a=datetime.datetime(2020, 1, 1, tzinfo=Zone()), b=2)
    with pytest.raises(ValueError, match="changed size"):
        native.encode_value(victim)


def test_error_of_a_value_s_own_code_is_raised_as_it_is() -> None:
    class Zone(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        native.encode_value([datetime.datetime(2020, 1, 1, tzinfo=Zone())])


@given(values, st.data())
def test_damaged_payload_is_refused_or_read_but_never_worse(value: Any, data: st.DataObject) -> None:
    payload = bytearray(native.encode_value(value))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged in (bytes(payload), bytes(payload[:cut])):
        try:
            native.decode_value(damaged)
        except (CorruptError, ValueError, TypeError, ArithmeticError):
            pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x01\x02",
        b"\xa1\xff",
        b"\xd4\x63\x00",
        b"\x91" * 300 + b"\xc0",
    ],
    ids=["nothing", "no-marker", "long-list", "long-dict", "long-str", "long-ext", "rest", "utf8",
         "unknown-ext", "deep"],
)
def test_malformed_payload_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptError, match="malformed at byte"):
        native.decode_value(payload)


def test_uuid_comes_back() -> None:
    name = uuid.uuid4()
    assert stored(name) == name and isinstance(stored(name), uuid.UUID)


def test_refused_value_changes_nothing_by_any_way_of_writing(make: Maker) -> None:
    bad = {"a": [object()]}
    with make({"a": 1, "l": [1], "s": {1}}) as d:
        before, revision = d.copy(), d.status.revision
        ways: list[Callable[[], Any]] = [
            lambda: d.set("a", bad), lambda: d.update(b=2, c=bad), lambda: d.setdefault("z", bad),
            lambda: d.compare_and_set("a", 1, bad), lambda: d.list_append("l", 2, bad),
            lambda: d.transact(lambda t: t.update(a=bad)), lambda: d.presence("p", bad).__enter__(),
        ]  # fmt: skip
        for write in ways:
            with pytest.raises(TypeError, match=r"value\['a'\]\[0\]"):
                write()
        with pytest.raises(TypeError), d.batch() as batch:
            batch["b"] = 2
            batch["c"] = bad
        with pytest.raises(TypeError), d.pipeline() as pipeline:
            pipeline["c"] = bad
        assert (d.copy(), d.status.revision) == (before, revision)


def test_values_of_every_type_survive_the_store_being_opened_again(folder: pathlib.Path) -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    everything = {
        "scalars": [None, True, -(2**70), 1.5, -0.0, math.inf, 2j, "text", b"bytes", decimal.Decimal("1.50")],
        "times": (datetime.datetime(2020, 10, 25, 2, 30, tzinfo=berlin, fold=1), datetime.date.min,
                  datetime.time(1, tzinfo=datetime.timezone.utc), datetime.timedelta.min),
        "sets": {frozenset({1, (2, "x")}), uuid.UUID(int=7)},
        (1, None): {1: {2.5: {b"k": []}}},
    }  # fmt: skip
    with DiskObject("data.obj") as d:
        d["all"] = everything
    with DiskObject("data.obj") as d:
        back = d.copy()["all"]
    assert back == everything and types_of(back) == types_of(everything)
    assert back["times"][0].tzinfo is berlin and back["times"][0].fold == 1


def test_keys_of_a_dict_that_are_equal_are_one_as_in_python() -> None:
    five, decimal_five = native.encode_value(5), native.encode_value(decimal.Decimal(5))
    both = b"\x82" + decimal_five + native.encode_value("first") + five + native.encode_value("last")
    read = native.decode_value(both)
    assert read == {5: "last"} and type(next(iter(read))) is decimal.Decimal
