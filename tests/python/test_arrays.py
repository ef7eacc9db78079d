"""numpy: arrays and scalars come back as what they were, as views of the stored bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from objsync import DiskObject, Object
from objsync import _objsync as native
from objsync.errors import CorruptError, UnserialisableError

VALUE_BYTES_MAX = (8 << 20) - 3


def stored(value: Any) -> Any:
    return native.decode_value(native.encode_value(value))


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, of one dtype, shape and order."""
    flags = [(a.flags.c_contiguous, a.flags.f_contiguous) for a in (one, other)]
    return (
        type(one) is type(other)
        and (one.dtype, one.shape) == (other.dtype, other.shape)
        and one.dtype.isalignedstruct == other.dtype.isalignedstruct
        and flags[0] == flags[1]
        and one.tobytes() == other.tobytes()
    )


dtypes = (
    nps.scalar_dtypes()
    | nps.byte_string_dtypes()
    | nps.unicode_string_dtypes()
    | nps.datetime64_dtypes()
    | nps.timedelta64_dtypes()
    | nps.array_dtypes(nps.scalar_dtypes(), allow_subarrays=True)
    | nps.nested_dtypes(nps.scalar_dtypes(), max_leaves=4)
)


@given(dtypes.flatmap(lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, min_side=0))), st.booleans())
def test_array_comes_back_bit_by_bit(array: Any, fortran: bool) -> None:
    array = np.asarray(array, order="F" if fortran else "C")
    assert same(stored(array), array)
    assert same(stored({"a": [array]})["a"][0], array)


@given(nps.scalar_dtypes().flatmap(lambda dtype: nps.arrays(dtype, ())))
def test_scalar_comes_back_as_one_of_numpy(array: Any) -> None:
    scalar = array[()]
    back = stored((scalar,))[0]
    assert type(back) is type(scalar) and back.dtype == scalar.dtype
    assert back.tobytes() == scalar.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4)[:, ::2, 1:],
        np.arange(10)[::-1],
        np.broadcast_to(np.arange(3), (4, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    ],
    ids=["sliced", "backwards", "broadcast", "swapped"],
)
def test_array_with_gaps_comes_back_in_c_order(array: Any) -> None:
    back = stored(array)
    assert np.array_equal(back, array) and back.flags.c_contiguous


def test_transposed_array_keeps_its_order() -> None:
    assert stored(np.arange(6).reshape(2, 3).T).flags.f_contiguous


def test_structured_array_keeps_gaps_alignment_and_inner_shapes() -> None:
    dtype = np.dtype([("a", "i1"), ("b", ">f8", (2, 3)), ("c", [("d", "M8[ns]")])], align=True)
    array = np.zeros(3, dtype)
    array["b"] = 1.5
    assert same(stored(array), array)
    titled = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "titles": ["t", None]})
    assert same(stored(np.zeros(2, titled)), np.zeros(2, titled))
    apart = np.dtype({"names": ["x", "y"], "formats": ["<i2", "S3"], "offsets": [4, 1], "itemsize": 20})
    assert stored(np.zeros(2, apart)).dtype == apart


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (np.array([None, 1]), "tolist"),
        (np.zeros(2, [("a", "i4"), ("b", "O")]), "tolist"),
        (np.zeros(2, np.dtype((np.record, [("a", "i4")]))), "astype"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "tolist"),
        (np.rec.array([(1,)], dtype=[("a", "i4")]), r"numpy\.asarray"),
        (np.ma.array([1]), r"numpy\.asarray"),
        (np.dtype("f8"), "stands for"),
        (type("Mine", (np.ndarray,), {})((2,)), r"numpy\.asarray"),
    ],
    ids=["objects", "object-field", "record-dtype", "strings", "record", "masked", "dtype", "subclass"],
)
def test_array_that_cannot_be_stored_is_refused_with_its_place_and_a_remedy(value: Any, remedy: str) -> None:
    with pytest.raises(UnserialisableError, match=remedy) as caught:
        native.encode_value({"a": [value]})
    assert caught.value.path == "value['a'][0]"


def owner_of(array: Any) -> Any:
    """What an array lies on in the end."""
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.obj if isinstance(array, memoryview) else array.base
    return array


@pytest.mark.parametrize("kind", [DiskObject])
def test_array_that_is_read_is_a_view_of_the_stored_bytes(folder: Path, kind: Any) -> None:
    array = np.arange(50_000.0).reshape(100, 500)
    with kind("data.obj") as d:
        d["a"] = array
        first, second = d["a"], d["a"]
        assert same(first, array) and first.flags.aligned
        assert type(owner_of(first)).__name__ == "StoredBytes"
        assert owner_of(first) is owner_of(second)
    # The view outlives its dictionary.
    assert first.sum() == array.sum()


def test_array_that_is_read_cannot_be_written_and_its_shape_is_the_reader_s_own(d: Object) -> None:
    d["a"] = np.arange(1000)
    first = d["a"]
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 7
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True
    assert d["a"] is not first
    assert d["a"].copy().flags.writeable
    assert d["a"].shape == (1000,)


def test_array_in_containers_is_cached_as_others_are(d: Object) -> None:
    d["a"] = {"x": [np.arange(3)], "s": np.float32(1.5)}
    for _ in range(3):
        value = d["a"]
        assert same(value["x"][0], np.arange(3)) and type(value["s"]) is np.float32
        first, again = value["x"], d["a"]["x"]
        first.append(0)
        first.pop()
        assert first is again and same(first[0], np.arange(3))
    d["a"]["x"].insert(0, [np.arange(2)])
    inner = d["a"]["x"][0]
    d["a"]["x"].append(np.arange(4))
    inner.append(1)
    assert same(d["a"]["x"][0][0], np.arange(2)) and inner[1] == 1


def test_array_is_compared_by_its_bytes(d: Object) -> None:
    d["a"], d["b"] = np.arange(3), {"x": np.arange(3)}
    assert not d.compare_and_set("a", np.arange(4), 1) and not d.compare_and_set("a", np.arange(3.0), 1)
    assert not d.compare_and_set("b", {"x": np.zeros(3)}, 1)
    assert d.compare_and_set("b", {"x": np.arange(3)}, 2) and d.compare_and_set("a", np.arange(3), 1)
    assert d.copy() == {"a": 1, "b": 2}


def test_array_goes_through_every_way_of_writing_and_reading(d: Object) -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    revision = d.set("a", array).revision
    with d.batch() as b, d.pipeline() as p:
        b["b"], p["c"] = array, array
    d.transact(lambda t: t.update(d=t["a"]))
    d.list_append("l", array)
    assert all(same(d[key], array) for key in "abcd") and same(d["l"][0], array)
    with d.watch() as w:
        d["e"] = array
        assert same(next(w).value, array)
    assert same(d.at(revision)["a"], array) and same(d.history("a")[0].value, array)
    assert same(d.pop("e"), array)


def test_changing_an_array_after_the_write_changes_nothing(d: Object) -> None:
    array = np.arange(10)
    d["a"] = array
    array[:] = 0
    assert d["a"].sum() == 45


def test_array_over_the_limit_is_refused(d: Object) -> None:
    with pytest.raises(ValueError, match=f"the limit is {VALUE_BYTES_MAX} bytes"):
        native.encode_value(np.zeros(VALUE_BYTES_MAX + 1, "u1"))


def test_scalar_of_numpy_is_no_number_of_python_and_equal_to_one() -> None:
    back = stored({np.int64(1): np.bool_(True)})
    assert back == {1: True}
    assert type(next(iter(back))) is np.int64


def body(form: int, shape: list[int], dtype: Any, raw: bytes, padding: int = 0) -> bytes:
    head = bytes([form, len(shape), padding]) + b"".join(n.to_bytes(8, "big") for n in shape)
    data = head + native.encode_value(dtype) + bytes(padding) + raw
    return b"\xc8" + len(data).to_bytes(2, "big") + b"\x10" + data


def test_payload_of_an_array_is_as_documented() -> None:
    array = np.array([1, 2], "<i2")
    assert native.encode_value(array).hex() == "c713100001000000000000000002a33c693201000200"
    assert native.encode_value(np.float32(1.5)).hex() == "c70b10020000a33c66340000c03f"
    assert same(native.decode_value(body(0, [2], "<i2", b"\1\0\2\0", padding=5)), array)


DEEP: Any = "<i4"
for _ in range(30):
    DEEP = {"base": DEEP, "shape": [1]}


@pytest.mark.parametrize(
    ("form", "shape", "dtype", "raw"),
    [
        (0, [2], "|O", bytes(16)),
        (0, [2], "O", bytes(16)),
        (0, [1], "i4,i4", bytes(8)),
        (0, [1], {"names": ["a"], "formats": ["|O"], "offsets": [0], "itemsize": 8, "align": False}, bytes(8)),
        (0, [3], "<i4", bytes(8)),
        (0, [1], "<i4", bytes(8)),
        (0, [2**63, 2**63], "<i4", b""),
        (0, [2**62, 0], "<i4", b""),
        (0, [2**40], "|V0", b""),
        (0, [2**64 - 1, 0], "|u1", b""),
        (2, [1], "<i4", bytes(4)),
        (3, [1], "<i4", bytes(4)),
        (0, [1], "<i9999999999", bytes(4)),
        (0, [0], "|V9999999999", b""),
        (0, [1], 7, bytes(4)),
        (0, [1], ["<i4"], bytes(4)),
        (0, [1], {"names": ["a"], "formats": ["<i4"], "offsets": [-4], "itemsize": 4, "align": False}, bytes(4)),
        (0, [1], {"names": ["a"], "formats": ["<i4"], "offsets": [100], "itemsize": 4, "align": False}, bytes(4)),
        (0, [1], {"names": ["a", "a"], "formats": ["<i4"] * 2, "offsets": [0, 4], "itemsize": 8, "align": False}, bytes(8)),
        (0, [1], {"names": [7], "formats": ["<i4"], "offsets": [0], "itemsize": 4, "align": False}, bytes(4)),
        (0, [1], {"base": "<i4", "shape": [2**40, 2**40]}, bytes(4)),
        (0, [1], {"base": "<i4", "shape": "x"}, bytes(4)),
        (0, [1], DEEP, bytes(4)),
        (0, [1] * 200, "<i4", bytes(4)),
    ],
    ids=str,
)  # fmt: skip
def test_hostile_array_is_corrupt_and_takes_no_memory(form: int, shape: list[int], dtype: Any, raw: bytes) -> None:
    with pytest.raises(CorruptError, match="malformed at byte"):
        native.decode_value(body(form, shape, dtype, raw))


@pytest.mark.parametrize("cut", range(1, 20))
def test_array_that_is_cut_is_corrupt(cut: int) -> None:
    payload = native.encode_value(np.array([1, 2], "<i2"))
    with pytest.raises(CorruptError):
        native.decode_value(payload[:-cut])
    short = bytes([payload[0], payload[1] - cut]) + payload[2:-cut] if cut < 19 else b"\xc7\x00\x10"
    with pytest.raises(CorruptError):
        native.decode_value(short)


WITHOUT = """
import sys
sys.modules["numpy"] = None
import objsync
with objsync.DiskObject("data.obj") as d:
    d["other"] = {"a": 1}
    try:
        d["a"]
    except ImportError as error:
        print(error, error.package)
assert "objsync._arrays" not in sys.modules
"""


def test_without_numpy_an_array_is_an_error_that_names_the_remedy_and_the_rest_works(folder: Path) -> None:
    with DiskObject("data.obj") as d:
        d["a"] = [np.arange(3)]
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "pip install numpy" in ran.stdout
    again = "import sys, objsync; objsync.DiskObject('x.obj', {'a': [1, (2,)]}).close(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", again], timeout=60, check=True)


@pytest.mark.parametrize(
    "value",
    [b"x" * 70_000, b"", "\xe9" * 40_000, np.arange(20_000.0), np.arange(70_000, dtype=">i2").reshape(7, -1).T, np.arange(10)],
    ids=["bytes", "empty", "text", "array", "fortran", "short"],
)  # fmt: skip
def test_large_value_in_two_parts_is_the_payload_and_comes_back(value: Any) -> None:
    head, content = native.values.split_value(value, 0) or (b"", b"")
    assert head + content == native.encode_value(value)
    assert len(head) < 100
    back = native.values.join_value(head, content)
    assert same(back, value) if isinstance(value, np.ndarray) else back == value
    assert native.values.split_value(value, len(content) + 1) is None


@pytest.mark.parametrize("value", [1, None, [b"x"], bytearray(b"x"), np.float64(1)])
def test_other_values_are_not_split_by_accident(value: Any) -> None:
    split = native.values.split_value(value, 100)
    assert split is None


def test_parts_that_do_not_belong_together_are_corrupt() -> None:
    head, content = native.values.split_value(np.arange(100), 0) or (b"", b"")
    for cut in range(len(head)):
        with pytest.raises(CorruptError):
            native.values.join_value(head[:cut], content)
    for damaged in (content[:-1], content + b"x", b""):
        with pytest.raises(CorruptError):
            native.values.join_value(head, damaged)
    with pytest.raises(CorruptError):
        native.values.join_value(b"\xd9\x01", b"\xff")
