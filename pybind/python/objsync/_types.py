"""The types of keys and values, by which an object is declared: ``NetworkObject[str, int]``; and `MISSING`.

The two default to Any, so an object that is not declared takes and gives what is there.
"""

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # the default is not in Python before 3.13

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

__all__ = ["ABSENT", "MISSING", "Absent", "K", "Missing", "V", "maybe"]


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "objsync.MISSING"


MISSING: Final = Missing.MISSING
"""Stands for "no such key" in `Object.compare_and_set`."""


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "ABSENT"


ABSENT: Final = Absent.ABSENT
"""Stands for a default that was not given: anything else, `MISSING` too, can be one."""


def maybe(value: Any) -> tuple[Any, ...]:
    """A value in a tuple; an empty one for `MISSING`."""
    return () if value is MISSING else (value,)
