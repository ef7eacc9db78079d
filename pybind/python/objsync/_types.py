"""The types of keys and values, by which an object is declared: ``NetworkObject[str, int]``.

They default to Any, so an object that is not declared takes and gives what is there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # the default is not in Python before 3.13

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

__all__ = ["K", "V"]
