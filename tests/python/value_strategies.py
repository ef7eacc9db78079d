"""Every kind of key and value, for hypothesis."""

from __future__ import annotations

import zoneinfo
from datetime import timedelta, timezone

from hypothesis import strategies as st

MICROSECONDS_PER_DAY = 86_400_000_000
big_ints = st.integers(min_value=-(2**200), max_value=2**200)
fixed_zones = st.integers(-MICROSECONDS_PER_DAY + 1, MICROSECONDS_PER_DAY - 1).map(
    lambda micros: timezone(timedelta(microseconds=micros))
)
named_zones = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata"]).map(
    zoneinfo.ZoneInfo
)
zones = st.none() | fixed_zones | named_zones
moments = st.datetimes(timezones=zones, allow_imaginary=True)

plain_keys = (
    st.none()
    | st.booleans()
    | st.integers()
    | big_ints
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.binary(max_size=50)
    | st.uuids()
    | st.datetimes()
)
keys = st.recursive(plain_keys, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)

hashable_scalars = (
    st.none()
    | st.booleans()
    | big_ints
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | moments
    | st.dates()
    | st.times(timezones=st.none() | fixed_zones)
    | st.timedeltas()
    | st.uuids()
)
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashables,
    lambda inner: st.lists(inner, max_size=4)
    | st.lists(inner, max_size=4).map(tuple)
    | st.sets(hashables, max_size=4)
    | st.dictionaries(hashables, inner, max_size=4),
    max_leaves=15,
)
