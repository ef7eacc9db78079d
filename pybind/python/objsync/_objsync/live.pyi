"""Live values."""

from typing import Any, Final, TypeVar, final

from objsync._nested_root import Node, Path, Root

__all__ = ["PATCH_ITEMS_MAX", "Place", "fresh", "patched", "same_items"]

PATCH_ITEMS_MAX: Final[int]
"""Most items that one change of a part of a value can name."""

_Value = TypeVar("_Value")

def fresh(value: _Value) -> _Value:
    """A value inside a live one, free to change where it can be changed at all."""

def patched(
    value: _Value, path: Path, what: str, arguments: tuple[Any, ...]
) -> tuple[int, _Value]:
    """What a patch makes of a value that lies elsewhere: the number of the edit, and the value after it."""

def same_items(one: Any, other: Any) -> bool:
    """Whether two containers hold the very same objects, in the same order; a set: as many."""

@final
class Place:
    """Where a value lies: a key of a dictionary, and what of it was read last."""

    @property
    def key(self) -> Any:
        """The key, as it was first asked for."""

    def is_current(self) -> bool:
        """Whether what was read last is what a read would give now."""

    def read(self) -> tuple[bool, bool, Any, bool]:
        """Reads the value: `(changed, there, value, own)`. `own`: since the last read nothing but the
        newest conditional patch from here has changed it. It counts as read from `filled` on: one
        that could not be decoded, and one that the objects have not taken yet, are read again.
        """

    def filled(self) -> None:
        """The objects have taken what the newest `read` found."""

    def stored(self, value: _Value) -> Any:
        """A value as it will be read: plain, and nobody else's."""

    def apply(
        self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...]
    ) -> int:
        """Changes a part of the value; returns the number of the edit.

        `path` has a field of a dict, or an `Index`, for each step; `conditional`: only if the value
        is still what was read last.
        """

    def held(self, root: Root, top: Node) -> None:
        """Remembers, without holding them, the root of the objects and the object of the whole value."""

    def ended(self) -> None:
        """Nobody gets the object of the whole value any more: it has ended."""
