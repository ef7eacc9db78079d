"""A set of a dictionary that other programs share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from objsync._nested import Live, is_simple_key, odd_keys
from objsync._nested_root import Path, Planned, Root

__all__ = ["LiveSet"]

_differ, _difference, _update = set.symmetric_difference_update, set.symmetric_difference, set.update
_new: Any = set.__new__


class LiveSet(Live, set[Any]):
    """A set inside a dictionary: reads see what is there now, changes are stored when they return.

    Adding and removing is done by the owner of the store on what is there then, so what others add or remove
    meanwhile is kept. ``^=`` is decided anew where others were faster. Iteration walks a copy.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"tags": {"a", "b"}}) as d:
    ...     d["tags"].add("c")
    ...     d["tags"] -= {"a"}
    ...     sorted(d["tags"])
    ['b', 'c']
    >>> with DiskObject("more.obj", {"s": {1, 2, 3}}) as d:
    ...     s = d["s"]
    ...     s.union({4}), s.intersection({1}), s.difference({1}), s.symmetric_difference({3, 4})
    ...     s.isdisjoint({7}), s.issubset({1, 2, 3, 4}), s.issuperset({1}), s.copy()
    ...     s.update({4, 5, 6, 7}); s.discard(9); s.remove(7); s.add(8)
    ...     s.difference_update({6}); s.intersection_update({1, 5, 8})
    ...     s.symmetric_difference_update({8, 9})
    ...     sorted([s.pop(), s.pop(), s.pop()])
    ...     s.clear()
    ({1, 2, 3, 4}, {1}, {2, 3}, {1, 2, 4})
    (True, True, True, {1, 2, 3})
    [1, 5, 9]
    """

    __slots__ = ("_base", "_path", "_root")
    __hash__ = None

    PLAIN: ClassVar[Any] = set

    def _fill(self, path: Path, base: set[Any], kept: bool) -> None:
        self._path, self._base = path, base
        # In one step: C may be reading it in another thread.
        _differ(self, _difference(self, base))

    # Reads

    def __contains__(self, item: object) -> bool:
        return item in self._ready()

    def __len__(self) -> int:
        return len(self._ready())

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._ready()))

    def __repr__(self) -> str:
        return repr(self._ready())

    def copy(self) -> set[Any]:
        """A plain set."""
        return set(self._ready())

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set of what is in this or in any of the others."""
        return set.union(self._ready(), *map(_ready, others))

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set of what is in this and in all others."""
        return set.intersection(self._ready(), *map(_ready, others))

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set of what is in this and in none of the others."""
        return set.difference(self._ready(), *map(_ready, others))

    def symmetric_difference(self, other: Iterable[Any], /) -> set[Any]:
        """A plain set of what is in one of the two only."""
        return set.symmetric_difference(self._ready(), _ready(other))

    def isdisjoint(self, other: Iterable[Any], /) -> bool:
        """Whether nothing is in both."""
        return set.isdisjoint(self._ready(), _ready(other))

    def issubset(self, other: Iterable[Any], /) -> bool:
        """Whether all of it is in the other."""
        return set.issubset(self._ready(), _ready(other))

    def issuperset(self, other: Iterable[Any], /) -> bool:
        """Whether all of the other is in it."""
        return set.issuperset(self._ready(), _ready(other))

    def __eq__(self, other: object) -> bool:
        return set.__eq__(self._ready(), _ready(other))

    def __ne__(self, other: object) -> bool:
        return set.__ne__(self._ready(), _ready(other))

    def __lt__(self, other: Any) -> bool:
        return set.__lt__(self._ready(), _ready(other))

    def __le__(self, other: Any) -> bool:
        return set.__le__(self._ready(), _ready(other))

    def __gt__(self, other: Any) -> bool:
        return set.__gt__(self._ready(), _ready(other))

    def __ge__(self, other: Any) -> bool:
        return set.__ge__(self._ready(), _ready(other))

    def __or__(self, other: Any) -> Any:
        return set.__or__(self._ready(), _ready(other))

    def __and__(self, other: Any) -> Any:
        return set.__and__(self._ready(), _ready(other))

    def __sub__(self, other: Any) -> Any:
        return set.__sub__(self._ready(), _ready(other))

    def __xor__(self, other: Any) -> Any:
        return set.__xor__(self._ready(), _ready(other))

    def __ror__(self, other: Any) -> Any:
        return other | self._ready() if isinstance(other, AbstractSet) else NotImplemented

    def __rand__(self, other: Any) -> Any:
        return other & self._ready() if isinstance(other, AbstractSet) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return other - self._ready() if isinstance(other, AbstractSet) else NotImplemented

    def __rxor__(self, other: Any) -> Any:
        return other ^ self._ready() if isinstance(other, AbstractSet) else NotImplemented

    # Changes

    def add(self, item: Any, /) -> None:
        """Puts `item` in."""
        hash(item)
        self._add([item])

    def update(self, *others: Iterable[Any]) -> None:
        """Puts all of the others in."""
        self._add(set().union(*map(_ready, others)))

    def _add(self, items: Iterable[Any]) -> None:
        members = tuple(map(self._stored, items))
        if all(map(is_simple_key, members)) and not set(members).intersection(odd_keys(self._base)):
            self._intact()
            if members:
                self._root.patch(self, "add", members)
            return

        # Of others, only Python knows which of them are equal.
        def plan(base: set[Any]) -> Planned | None:
            new = tuple(member for member in members if member not in base)
            return ("add", new, None, None) if new else None

        self._root.decide(self, plan, again=True)

    def discard(self, item: Any, /) -> None:
        """Removes `item` if it is there."""
        self._discard(item)

    def remove(self, item: Any, /) -> None:
        """Removes `item`; `KeyError` when it is not there."""
        if not self._discard(item):
            raise KeyError(item)

    def _discard(self, item: Any) -> bool:
        if isinstance(item, set):
            item = frozenset(_ready(item))
        if item not in self._check():
            return False
        if is_simple_key(item) and item not in odd_keys(self._base):
            return self._root.patch(self, "discard", (item,)) > 0

        def plan(base: set[Any]) -> Planned | None:
            if item not in base:
                return None
            return "discard", (next(known for known in base if known == item),), True, None

        return bool(self._root.decide(self, plan, again=True))

    def pop(self) -> Any:
        """Removes any item and returns it, which no other process then gets."""
        while True:
            base = self._check()
            if not base:
                raise KeyError("pop from an empty set")
            item = next(iter(base))
            if self._root.patch(self, "discard", (item,)):
                return item
            self._root.refresh()

    def clear(self) -> None:
        """Removes every item."""
        self._check()
        self._root.patch(self, "clear")

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Removes what is in any of the others."""
        base = self._check()
        self._keep(base, set.difference(base, *map(_ready, others)))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Removes what is not in all of the others."""
        base = self._check()
        self._keep(base, set.intersection(base, *map(_ready, others)))

    def _keep(self, base: set[Any], kept: set[Any]) -> None:
        gone = base - kept
        if gone:
            self._root.patch(self, "discard", tuple(gone))

    def symmetric_difference_update(self, other: Iterable[Any], /) -> None:
        """Removes what is in both, and puts in what is in the other only."""
        others = set(map(self._stored, _ready(other)))

        def plan(base: set[Any]) -> Planned | None:
            return ("replace", (base ^ others,), None, None) if others else None

        self._root.decide(self, plan, again=True)

    def __ior__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.update(other)
        return self

    def __iand__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __isub__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.difference_update(other)
        return self

    def __ixor__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self


def _ready(other: Any) -> Any:
    return other._ready() if isinstance(other, Live) else other


def _make(root: Root, path: Path, base: set[Any]) -> LiveSet:
    node: LiveSet = _new(LiveSet)
    node._root, node._path, node._base = root, path, base
    _update(node, base)
    return node


Root.classes[set] = _make
