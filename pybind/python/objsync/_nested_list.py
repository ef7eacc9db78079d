"""A list of a dictionary that other programs share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, SupportsIndex

from objsync._nested import KINDS, SIMPLE, Live, released
from objsync._nested_root import Index, Path, Root

__all__ = ["LiveList"]

Planned = tuple[str, tuple[Any, ...], Any, dict[int, int] | None]

_getitem, _setitem = list.__getitem__, list.__setitem__
_new: Any = list.__new__
_ALL = slice(None)


class LiveList(Live, list[Any]):
    """A list inside a dictionary: reads see what is there now, changes are stored when they return.

    `append`, `extend` and `remove` are done by the owner of the store on what is there then: two that append
    both succeed. What names an index or an order (``l[i] = x``, `insert`, slices, ``pop(i)``, `reverse`) is
    done if the list is still as it was read, and raises `errors.ConflictError` if it is not. ``pop()`` and
    `sort` are decided anew instead. Iteration walks a copy.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"jobs": ["sweep"]}) as d:
    ...     d["jobs"].append("wash")
    ...     d["jobs"] += ["dry"]
    ...     d["jobs"].pop(0), d["jobs"]
    ('sweep', ['wash', 'dry'])
    >>> with DiskObject("more.obj", {"numbers": [3, 1]}) as d:
    ...     numbers = d["numbers"]
    ...     numbers.extend([2, 1]); numbers.insert(0, 9); numbers.remove(9)
    ...     numbers.sort(); numbers.reverse()
    ...     numbers.index(2), numbers.count(1), numbers.copy()
    ...     numbers.clear()
    ...     numbers
    (1, 2, [3, 2, 1, 1])
    []
    """

    __slots__ = ("__weakref__", "_base", "_path", "_root")
    __hash__ = None

    PLAIN: ClassVar[Any] = list

    def _fill(self, path: Path, base: list[Any]) -> None:
        self._path, self._base = path, base
        _setitem(self, _ALL, base)

    def _all(self) -> list[Any]:
        """The elements as they are given out."""
        return [
            value if type(value) in SIMPLE else self._given(Index(index), value)
            for index, value in enumerate(self._ready())
        ]

    # Reads

    def __getitem__(self, place: Any) -> Any:
        root = self._root
        if not root.is_current() or len(self._base) != list.__len__(self):
            self._ready()
        value = _getitem(self, place)
        if type(value) in SIMPLE:
            return value
        if isinstance(place, slice):
            return self._all()[place]
        index = operator.index(place)
        return self._given(Index(index if index >= 0 else index + len(self._base)), value)

    def __len__(self) -> int:
        return len(self._ready())

    def __contains__(self, item: object) -> bool:
        return item in self._ready()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._all()[::-1])

    def index(self, item: Any, *bounds: SupportsIndex) -> int:
        """The place of the first element that equals `item`; `ValueError` when there is none."""
        return list.index(self._ready(), item, *bounds)

    def count(self, item: Any, /) -> int:
        """How many elements equal `item`."""
        return list.count(self._ready(), item)

    def copy(self) -> list[Any]:
        """A plain list of the same elements: containers in it are live, as in any shallow copy."""
        return self._all()

    def __repr__(self) -> str:
        return repr(self._ready())

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self._ready(), _ready(other))

    def __ne__(self, other: object) -> bool:
        return list.__ne__(self._ready(), _ready(other))

    def __lt__(self, other: Any) -> bool:
        return list.__lt__(self._ready(), _ready(other))

    def __le__(self, other: Any) -> bool:
        return list.__le__(self._ready(), _ready(other))

    def __gt__(self, other: Any) -> bool:
        return list.__gt__(self._ready(), _ready(other))

    def __ge__(self, other: Any) -> bool:
        return list.__ge__(self._ready(), _ready(other))

    def __add__(self, other: Any) -> Any:
        return self._all() + (other._all() if isinstance(other, LiveList) else other)

    def __radd__(self, other: Any) -> Any:
        return other + self._all() if isinstance(other, list) else NotImplemented

    def __mul__(self, count: Any) -> Any:
        return self._all() * count

    def __rmul__(self, count: Any) -> Any:
        return count * self._all()

    # Changes that mean the same whatever others do meanwhile

    def append(self, item: Any, /) -> None:
        """Adds to the end."""
        self._intact()
        self._root.patch(self, "append", (item,))

    def extend(self, items: Iterable[Any], /) -> None:
        """Adds several to the end, in one step."""
        added = tuple(items)
        self._intact()
        if added:
            self._root.patch(self, "append", added)

    def __iadd__(self, items: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(items)
        return self

    def clear(self) -> None:
        """Removes every element."""
        base = self._check()
        self._root.patch(self, "clear")
        for index, value in enumerate(base):
            if type(value) in KINDS:
                self._root.drop((*self._path, Index(index)))

    def remove(self, item: Any, /) -> None:
        """Removes the first element that equals `item`; `ValueError` when there is none."""
        base = self._check()
        if item not in base:
            raise ValueError("list.remove(x): x not in list")
        stored = base[base.index(item)]
        # The owner knows equal numbers, and else compares what is stored. Where elements in the list move,
        # or it finds none, this process says which one goes.
        if (
            type(stored) in SIMPLE
            and Index not in map(type, self._path)
            and self._root.patch(self, "remove", (stored,))
        ):
            return

        def plan() -> Planned:
            base = self._check()
            if item not in base:
                raise ValueError("list.remove(x): x not in list")
            return _spliced(base, base.index(item), 1, ())

        self._root.decide(self, plan, again=True)

    # Changes of what is at a place

    def pop(self, place: SupportsIndex = -1, /) -> Any:
        """Removes the element at a place, by default the last, and returns it.

        Without a place, nobody else gets what this returns: it is decided anew where others were faster.
        """
        index = operator.index(place)

        def plan() -> Planned:
            base = self._check()
            if not base:
                raise IndexError("pop from empty list")
            at = index + len(base) if index < 0 else index
            if not 0 <= at < len(base):
                raise IndexError("pop index out of range")
            what, arguments, _, moves = _spliced(base, at, 1, ())
            return what, arguments, base[at], moves

        return released(self, self._root.decide(self, plan, again=index == -1))

    def insert(self, place: SupportsIndex, item: Any, /) -> None:
        """Puts `item` before the element at a place."""

        def plan() -> Planned:
            base = self._check()
            at = slice(place, None).indices(len(base))[0]
            return _spliced(base, at, 0, (item,))

        self._root.decide(self, plan, again=False)

    def __setitem__(self, place: Any, value: Any) -> None:
        if isinstance(place, slice):
            self._change(lambda elements: elements.__setitem__(place, value))
            return
        index = operator.index(place)

        def plan() -> Planned | None:
            base = self._check()
            at = index + len(base) if index < 0 else index
            if not 0 <= at < len(base):
                raise IndexError("list assignment index out of range")
            return None if self._is_own(Index(at), value) else _spliced(base, at, 1, (value,))

        self._root.decide(self, plan, again=False)

    def __delitem__(self, place: Any) -> None:
        self._change(lambda elements: elements.__delitem__(place))

    def reverse(self) -> None:
        """Turns the order round."""
        self._change(list.reverse)

    def __imul__(self, count: SupportsIndex) -> Any:  # type: ignore[misc]
        self._change(lambda elements: elements.__imul__(count), again=True)
        return self

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sorts the list as it is when that is decided."""

        def plan() -> Planned | None:
            base = self._check()
            elements = self._all()
            rank = (lambda at: elements[at]) if key is None else (lambda at: key(elements[at]))
            order = sorted(range(len(base)), key=rank, reverse=reverse)
            if order == list(range(len(base))):
                return None
            moves = {old: new for new, old in enumerate(order)}
            return "replace", ([base[old] for old in order],), None, moves

        self._root.decide(self, plan, again=True)

    def _change(self, change: Callable[[list[Any]], Any], again: bool = False) -> None:
        """Does to the list what `change` does to a plain one, in one step."""

        def plan() -> Planned | None:
            base = self._check()
            # Told apart by themselves, not by what they equal: elements carry where they were.
            marks: list[Any] = [_Mark(index, value) for index, value in enumerate(base)]
            change(marks)
            return _changed(base, marks)

        self._root.decide(self, plan, again)


class _Mark:
    """An element of a list while that is changed: where it was."""

    __slots__ = ("index", "value")

    def __init__(self, index: int, value: Any) -> None:
        self.index = index
        self.value = value


def _changed(base: list[Any], marks: list[Any]) -> Planned | None:
    """The smallest splice that makes `marks` of `base`."""
    same = [
        type(mark) is _Mark and mark.index == index
        for index, mark in enumerate(marks[: len(base)])
    ]
    head = same.index(False) if False in same else len(same)
    shift, tail = len(marks) - len(base), 0
    while tail < min(len(base), len(marks)) - head:
        mark = marks[-1 - tail]
        if type(mark) is not _Mark or mark.index != len(marks) - 1 - tail - shift:
            break
        tail += 1
    gone = len(base) - head - tail
    added = marks[head : len(marks) - tail]
    if not gone and not added:
        return None
    items = tuple(mark.value if type(mark) is _Mark else mark for mark in added)
    moves: dict[int, int] = {}
    for index, mark in enumerate(marks):
        if type(mark) is _Mark:
            moves.setdefault(mark.index, index)
    return "splice", (head, gone, *items), None, moves


def _spliced(base: list[Any], start: int, gone: int, items: tuple[Any, ...]) -> Planned:
    shift = len(items) - gone
    moves = {index: index for index in range(start)}
    moves.update((index, index + shift) for index in range(start + gone, len(base)))
    return "splice", (start, gone, *items), None, moves


def _ready(other: Any) -> Any:
    return other._ready() if isinstance(other, Live) else other


def _make(root: Root, path: Path, base: list[Any]) -> LiveList:
    node: LiveList = _new(LiveList)
    node._root, node._path, node._base = root, path, base
    _setitem(node, _ALL, base)
    return node


Root.classes[list] = _make
