"""numpy arrays and scalars, for the codec: imported when the first one is met, never before.

What comes from stored bytes is checked here before numpy sees it: a dtype is one of those that
`description` writes, of elements without objects, and its elements are exactly the bytes that are there.
"""

from __future__ import annotations

import re
from typing import Any, Final

from objsync.errors import DependencyError

try:
    import numpy as np
except ImportError as _missing:
    raise DependencyError(
        "the value has a numpy array in it, and numpy is not installed: pip install numpy", "numpy"
    ) from _missing

__all__ = ["build", "take_apart"]

C_ORDER: Final = 0
FORTRAN_ORDER: Final = 1
SCALAR: Final = 2

DTYPE_DEPTH_MAX: Final = 16
"""Structured dtypes inside structured dtypes."""
SIMPLE = re.compile(r"[<>|][biufcSUVmM][0-9]{0,10}(\[[0-9]{0,10}[a-zA-Z]{1,2}\])?")

SUBCLASS = "the subclass would be lost, so store numpy.asarray() of it"
OBJECTS = "it holds Python objects, so store .tolist() of it, or .astype() a type of numbers or text"
OTHER = "its dtype {} is not one that is stored, so store .tolist() or .astype() of it"

_known: dict[np.dtype[Any], Any] = {}
"""Descriptions of dtypes that were met; numpy has few that a program uses."""
KNOWN_MAX: Final = 1000


def take_apart(thing: Any) -> tuple[int, tuple[int, ...], Any, Any] | str:
    """Form, shape, dtype and elements of an array or a scalar; or a remedy where it is not stored.

    The elements are copied only where they do not lie one after the other.
    """
    form = C_ORDER
    array: Any
    if type(thing) is np.ndarray:
        array = thing
    elif isinstance(thing, np.generic):
        form, array = SCALAR, np.asarray(thing)
        if array.dtype.type is not type(thing):
            return SUBCLASS
    else:
        return SUBCLASS if isinstance(thing, np.ndarray) else "store what it stands for"
    dtype = array.dtype
    if dtype.hasobject:
        return OBJECTS
    described = _known.get(dtype)
    if described is None or dtype.names is not None:
        described = description(dtype)
        if not _is_exact(described, dtype):
            return OTHER.format(dtype)
        if len(_known) < KNOWN_MAX:
            _known[dtype] = described
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
    elif array.flags.f_contiguous:
        form, flat = FORTRAN_ORDER, array.T.reshape(-1)
    else:
        flat = np.ascontiguousarray(array).reshape(-1)
    raw = flat.view(np.uint8) if flat.size and dtype.itemsize else b""
    return form, array.shape, described, raw


def description(dtype: np.dtype[Any]) -> Any:
    """A dtype as a value: its short name, or names, formats and offsets of its fields."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": description(base), "shape": list(shape)}
    if dtype.names is None:
        return dtype.str
    assert dtype.fields is not None, "it has names"
    fields = [dtype.fields[name] for name in dtype.names]
    titles = [field[2] if len(field) > 2 else None for field in fields]
    return {
        "names": list(dtype.names),
        "formats": [description(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
        "align": dtype.isalignedstruct,
        **({"titles": titles} if any(title is not None for title in titles) else {}),
    }


def _is_exact(described: Any, dtype: np.dtype[Any]) -> bool:
    """Whether the description says all of it: that a dtype is one of records, for one, it does not."""
    try:
        again = dtype_of(described)
    except (TypeError, ValueError):
        return False
    return again == dtype and again.type is dtype.type


def dtype_of(described: Any, depth: int = 0) -> np.dtype[Any]:
    """The dtype of a description, which may come from anybody."""
    if depth > DTYPE_DEPTH_MAX:
        raise ValueError("a dtype that is nested too deep")
    if isinstance(described, str):
        if not SIMPLE.fullmatch(described):
            raise ValueError("no dtype")
        return np.dtype(described)
    if not isinstance(described, dict):
        raise ValueError("no dtype")
    if described.keys() == {"base", "shape"}:
        return np.dtype((dtype_of(described["base"], depth + 1), tuple(described["shape"])))
    if described.keys() - {"titles"} != {"names", "formats", "offsets", "itemsize", "align"}:
        raise ValueError("no dtype")
    fields: dict[str, Any] = {
        "names": described["names"],
        "formats": [dtype_of(inner, depth + 1) for inner in described["formats"]],
        "offsets": described["offsets"],
        "itemsize": described["itemsize"],
    }
    if "titles" in described:
        fields["titles"] = described["titles"]
    return np.dtype(fields, align=described["align"] is True)  # type: ignore[call-overload,no-any-return]


def build(form: int, shape: tuple[int, ...], described: Any, raw: Any) -> Any:
    """The array or scalar of its parts, a view of `raw`; ``None`` where they do not fit together."""
    try:
        dtype = dtype_of(described)
        count = 1
        for length in shape:
            count *= length
        is_sound = form in (C_ORDER, FORTRAN_ORDER) or (form == SCALAR and shape == ())
        # Elements without bytes could be any number of them.
        if not is_sound or dtype.hasobject or (dtype.itemsize == 0 and count > 1):
            return None
        if count * dtype.itemsize != memoryview(raw).nbytes:
            return None
        array: Any = np.ndarray(shape, dtype, raw, order="F" if form == FORTRAN_ORDER else "C")
    except (TypeError, ValueError, OverflowError, SyntaxError, MemoryError):
        return None
    return array[()] if form == SCALAR else array
