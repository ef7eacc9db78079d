"""What live objects are read from and written to, and what their root wants of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from objsync._nested_edits import Path
from objsync.errors import DetachedError

if TYPE_CHECKING:
    from objsync._nested_root import Root

__all__ = ["Gone", "Node", "Source"]


class Source(Protocol):
    """What live values are read from and written to: the backend of `Root`.

    The compiled half has one for a key of a dictionary. Anything else that can say the same serves as well.
    """

    @property
    def key(self) -> Any:
        """What the value is called in errors."""

    def is_current(self) -> bool:
        """Whether `read` would find what it found last. Asked by every method: it is to be cheap."""

    def read(self) -> tuple[bool, bool, Any, bool]:
        """``(changed, there, value, own)``, compared with the last `read`.

        Without a change the value is not looked at. ``own``: the newest conditional `apply` from here is
        all that has changed it. The value is a plain one that nobody changes afterwards.

        It counts as read from `filled` on: until then nothing is current, and the next `read` compares with
        the one before.
        """

    def filled(self) -> None:
        """All objects have taken what the newest `read` found."""

    def stored(self, value: Any, /) -> Any:
        """A value that is to become a part, as it will be read: plain, and nobody else's."""

    def apply(
        self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...], /
    ) -> int:
        """Changes a part of the value in one step, durable when it returns; returns what the edit says.

        Edits and their arguments: ``append`` (items), ``add``, ``discard`` (members of a set), ``set``
        (field, value), ``delete`` (field), ``remove`` (element), ``incr`` (number), ``merge`` (a dict),
        ``clear``, ``splice`` (start, how many go, items), ``replace`` (value). The numbers: the new length
        of the list, how many members or fields are new or were there, 1 or 0, the new number, how many
        items there were, the new length, nothing.

        Args:
            path: To the container.
            conditional: Only if the value is still what was read last.
            what: The edit.
            arguments: What it takes.

        Raises:
            ConflictError: It is not what was read last.
            NotFoundError: There is no such value or container.
            InvalidError: It is of another type, or gets too large.
        """

    def held(self, root: Root, top: Node, /) -> None:
        """Somebody holds objects now: the root, and the one of the whole value. To be kept weakly."""

    def ended(self) -> None:
        """The object of the whole value has ended: the next read of it makes a new one."""


class Node(Protocol):
    """A live object, as its root sees it."""

    PLAIN: ClassVar[Any]
    _root: Root
    _path: Path
    _base: Any

    def _fill(self, path: Path, base: Any, kept: bool, /) -> None:
        """Takes place and container; ``kept``: nobody but this handle has changed it."""

    def _check(self) -> Any:
        """Brings it up to date; returns the plain container."""


class Gone:
    """The source of a detached object: as it was, for ever."""

    def __init__(self, key: Any, why: str) -> None:
        self.key = key
        self._why = why

    def is_current(self) -> bool:
        return True

    def read(self) -> tuple[bool, bool, Any, bool]:
        return False, True, None, False

    def filled(self) -> None:
        pass

    def stored(self, value: Any) -> Any:
        return value

    def apply(self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...]) -> int:
        raise DetachedError(self._why, self.key)

    def held(self, root: Root, top: Node) -> None:
        pass

    def ended(self) -> None:
        pass
