"""Live values: what a dict, a list or a set of a dictionary comes back as.

They are subclasses, so all that takes a dict, a list or a set takes them; each method that changes them is
one patch, durable when it returns, and each that reads them sees what is there now. What all three have in
common is here; `_nested_root` keeps them current, `_nested_dict`, `_nested_list` and `_nested_set` are the
classes.

Invariants
* `_base` is the plain container as it is known, and what methods read. What C holds of an object (its "raw"
  content) is a copy of it, with the same items. Where it is not, something has changed it past its methods.
* A plain container in it is given out as a live object of its own; other items that can change, as copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from objsync._native import native_live
from objsync._nested_edits import KINDS, SIMPLE
from objsync._nested_root import Index, Path, Root
from objsync.errors import BypassedError, UnserialisableError

if TYPE_CHECKING:
    from objsync._nested_root import Source

__all__ = ["KINDS", "SIMPLE", "Index", "Live", "LiveDict", "LiveList", "LiveSet", "attach", "released"]

PLAIN_KEYS: Final = frozenset({str, bytes, bool, type(None)})
"""Types of keys that are simple whatever their value (`is_simple_key`)."""
WORD_MAX: Final = 2**63
"""Numbers below this are one key of a dict if they are equal, to the owner of the store too."""


class Live:
    """What the three have in common."""

    __slots__ = ()

    PLAIN: ClassVar[Any]
    _root: Root
    _path: Path
    _base: Any

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """A plain dict, list or set: what code wants that makes another ``type(x)(...)``.

        A live value comes out of a dictionary only.
        """
        return cls.PLAIN(*arguments, **named)

    def _fill(self, path: Path, base: Any, kept: bool) -> None:
        raise NotImplementedError

    def _now(self) -> Any:
        """Brings it up to date; returns the plain container, which nobody may change."""
        root = self._root
        if not root.is_current():
            root.refresh()
        base = self._base
        if self.PLAIN.__len__(self) != len(base):
            with self._root.lock:  # another thread may have been filling it
                base = self._base
                if self.PLAIN.__len__(self) != len(base):
                    self._bypassed()
        return base

    _ready = _now
    """As `_now`, for a caller that gives out what it finds."""

    def _check(self) -> Any:
        """As `_now`, before a change: all of it is compared."""
        return self._compared(self._now())

    def _intact(self) -> Any:
        """As `_check`, before a change that means the same whatever is there: nothing is read for it."""
        # What lies in a list is named by its place, which is to be that of now.
        return self._compared(self._now() if Index in map(type, self._path) else self._base)

    def _compared(self, base: Any) -> Any:
        if not native_live.same_items(self, base):
            with self._root.lock:  # another thread may have been filling it
                base = self._base
                if not native_live.same_items(self, base):
                    self._bypassed()
        return base

    def _bypassed(self) -> NoReturn:
        self._fill(self._path, self._base, True)
        name, key = type(self).__name__, self._root.source.key
        raise BypassedError(
            f"a {name} in the value of {key!r} was changed past its methods; that was not stored and is "
            "taken back: give such code a copy",
            key,
        )

    def _stored(self, value: Any) -> Any:
        """A value as it will be read: made before a change takes a lock, as other objects may be asked for it."""
        return value if type(value) in SIMPLE else self._root.source.stored(value)

    def _given(self, step: Any, value: Any) -> Any:
        """An item as it is given out."""
        kind = type(value)
        if kind in SIMPLE:
            return value
        if kind not in KINDS:
            return released(value)
        root, path = self._root, self._path
        known = root._nodes.get((*path, step))
        node = None if known is None else known()
        # Found without the lock, it is the right one if this object has not been moved since.
        if node is None or self._path is not path or self._root is not root:
            node = self._root.child(self, step, value)
        if type(node) is LiveList:
            node._seen = node._base
        return node

    def _is_own(self, step: Any, value: Any) -> bool:
        """Whether `value` is the live object at that very place: putting it there changes nothing."""
        return (
            isinstance(value, Live)
            and value._root is self._root
            and value._path == (*self._path, step)
        )

    def _plain(self) -> Any:
        """What it holds, for reading only: no copy."""
        return self._ready()

    def __copy__(self) -> Any:
        return self.copy()  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._ready(), memo)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        # Plain, so that it can be read where there is no such dictionary. A set has no order to keep.
        base = self._ready()
        return (self.PLAIN, (list(base.items()) if type(base) is dict else list(base),))


def released(value: Any) -> Any:
    """A value that has left its container: plain, and the caller's own."""
    if type(value) in SIMPLE:
        return value
    if type(value) is bytearray:  # of other storage: the codec makes it bytes
        return value.copy()
    try:
        return native_live.fresh(value)
    except UnserialisableError:  # other storage takes what the codec does not
        return copy.deepcopy(value)


def is_simple_key(key: Any) -> bool:
    """Whether the owner of the store takes two such keys for one exactly where Python does."""
    kind = type(key)
    if kind is str or kind is bytes or kind is bool or key is None:
        return True
    if kind is int:
        return bool(-WORD_MAX <= key < WORD_MAX)
    return kind is float and bool(abs(key) < WORD_MAX / 2 or not key.is_integer())


def odd_keys(base: Iterable[Any]) -> list[Any]:
    """The keys of a dict, or members of a set, that can equal a simple one and are another for the owner of the store."""
    if PLAIN_KEYS.issuperset(map(type, base)):
        return []
    return [key for key in base if not is_simple_key(key)]


def attach(source: Source, value: Any) -> Any:
    """The live object of a whole value of which nobody holds one yet."""
    root = Root(source, value)
    node = root.node((), value)
    source.held(root, node)
    return node


from objsync._nested_dict import LiveDict  # noqa: E402
from objsync._nested_list import LiveList  # noqa: E402
from objsync._nested_set import LiveSet  # noqa: E402
