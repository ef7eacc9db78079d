"""Keys: what may be one, and their order."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objsync import Object
from objsync import _objsync as native
from objsync.errors import InvalidError, UnserialisableError
from value_strategies import keys

KEY_BYTES_MAX = 4096
SAME = [1, 1.0, True]
IN_ORDER: list[Any] = [
    None,
    float("-inf"), -(10**30), -1.5, -1, 0, 5e-324, 0.5, 1, 1.5, 2, 10**30, float("inf"),
    "", "\0", "\0a", "a", "a\0", "aa", "b", "\xe9", "\U0001f600",
    b"", b"\0", b"a", b"\xff",
    datetime.datetime.min, datetime.datetime(1969, 12, 31), datetime.datetime(2020, 1, 1),
    datetime.datetime(1969, 12, 31, tzinfo=datetime.timezone.utc),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    uuid.UUID(int=0), uuid.UUID(int=2**127),
    (), (None,), (1,), (1, "a"), (1, "b"), (2,), ("a",), ("a", 1), ("a\0",), ("b",), ((),), ((1,),),
]  # fmt: skip


@given(keys)
def test_key_comes_back_equal(key: Any) -> None:
    assert native.decode_key(native.encode_key(key)) == key


def kinds_of_keys() -> st.SearchStrategy[tuple[Any, Any]]:
    """Two keys of one kind, or of tuples of the same kinds, which Python can compare."""
    numbers = st.integers() | st.integers(-(2**300), 2**300) | st.floats(allow_nan=False) | st.booleans()
    aware = st.datetimes(timezones=st.just(datetime.timezone.utc))
    kinds = [numbers, st.text(max_size=8), st.binary(max_size=8), st.uuids(), st.datetimes(), aware]
    one = st.sampled_from(kinds)
    several = st.lists(one, max_size=3).map(lambda parts: st.tuples(*parts))
    return (one | several).flatmap(lambda kind: st.tuples(kind, kind))


@given(kinds_of_keys())
def test_order_of_bytes_is_the_order_that_python_gives(pair: tuple[Any, Any]) -> None:
    one, other = pair
    low, high = native.encode_key(one), native.encode_key(other)
    assert (low < high, low == high) == (one < other, one == other)


@given(keys, keys)
def test_keys_have_one_encoding_exactly_if_they_are_equal(one: Any, other: Any) -> None:
    assert (native.encode_key(one) == native.encode_key(other)) == (one == other)


def test_order_of_bytes_is_the_order_of_keys() -> None:
    encoded = [native.encode_key(key) for key in IN_ORDER]
    for (low, low_key), (high, high_key) in itertools.pairwise(zip(encoded, IN_ORDER, strict=True)):
        assert low < high, f"{low_key!r} before {high_key!r}"


def test_dictionary_iterates_in_that_order(d: Object) -> None:
    d.update((key, place) for place, key in reversed(list(enumerate(IN_ORDER))))
    assert list(d) == IN_ORDER
    assert list(d.values()) == list(range(len(IN_ORDER)))
    assert list(reversed(d)) == IN_ORDER[::-1]


def test_one_and_one_point_zero_and_true_are_one_key(d: Object) -> None:
    for key in SAME:
        d[key] = key
        assert [d[other] for other in SAME] == [key] * 3
    assert list(d) == [1] and type(next(iter(d))) is int


def test_aware_datetime_is_a_key_by_its_moment(d: Object) -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    summer = datetime.datetime(2020, 10, 25, 2, 30, tzinfo=berlin)
    d[summer], d[summer.replace(fold=1)] = "first", "second"
    # Python takes the two for equal within one zone; the moments are an hour apart.
    assert (d[summer], d[summer.replace(fold=1)], len(d)) == ("first", "second", 2)
    assert d[summer.astimezone(datetime.timezone.utc)] == "first"


class Name(str):
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "key",
    [[1], {}, {1}, frozenset(), object(), decimal.Decimal(1), 1j, datetime.date(2020, 1, 1), bytearray(b"a"),
     Name("a"), Colour.RED, (1, [2]), int],
    ids=lambda key: type(key).__name__,
)  # fmt: skip
def test_key_of_another_type_is_a_type_error_everywhere(d: Object, key: Any) -> None:
    d["a"] = 1
    calls = [
        lambda: d[key],
        lambda: d.get(key),
        lambda: key in d,
        lambda: d.set(key, 1),
        lambda: d.pop(key, None),
        lambda: d.setdefault(key, 1),
        lambda: d.incr(key),
        lambda: d.update([("b", 1), (key, 1)]),
        lambda: d.range(key).clear(),
    ]
    for call in calls:
        with pytest.raises(UnserialisableError, match="key is a"):
            call()
    assert d == {"a": 1}


def test_longest_key_is_stored_and_one_longer_is_refused(d: Object) -> None:
    longest = "x" * (KEY_BYTES_MAX - 3)
    d[longest] = 1
    assert d[longest] == 1
    with pytest.raises(ValueError, match=f"the limit is {KEY_BYTES_MAX} bytes"):
        d[longest + "x"] = 1
    assert list(d) == [longest]


@pytest.mark.parametrize("key", [float("nan"), "\ud800", (1, float("nan"))])
def test_key_that_could_not_be_found_again_is_refused(d: Object, key: Any) -> None:
    with pytest.raises(InvalidError):
        d[key] = 1
    assert len(d) == 0


def test_key_deeper_than_the_limit_is_refused() -> None:
    key: tuple[Any, ...] = ()
    for _ in range(199):
        key = (key,)
    assert native.decode_key(native.encode_key(key)) == key
    with pytest.raises(InvalidError, match="the limit is 200"):
        native.encode_key((key,))


@pytest.mark.parametrize("encoded", [b"", b"\x00", b"\x30a", b"\x22\x22", b"\xff", b"\x70"])
def test_malformed_key_is_refused(encoded: bytes) -> None:
    with pytest.raises(OSError, match="malformed"):
        native.decode_key(encoded)
