"""A list of a dictionary that other programs share."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, SupportsIndex

from objsync._nested import SIMPLE, Live, released
from objsync._nested_root import Index, Path, Planned, Root, same

__all__ = ["LiveList"]

_len, _setitem = list.__len__, list.__setitem__
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

    __slots__ = ("__weakref__", "_base", "_path", "_root", "_seen")
    __hash__ = None

    PLAIN: ClassVar[Any] = list

    _seen: list[Any]
    """`_base` as it was given out last, but for what was changed from here: what names an index means this."""

    def _fill(self, path: Path, base: list[Any], kept: bool) -> None:
        if kept and same(self._seen, self._base):
            self._seen = base
        self._path, self._base = path, base
        _setitem(self, _ALL, base)

    def _ready(self) -> list[Any]:
        self._seen = self._now()
        return self._seen

    def _all(self) -> list[Any]:
        """The elements as they are given out."""
        base = self._ready()
        if SIMPLE.issuperset(map(type, base)):
            return list(base)
        with self._root.lock:
            return [self._given(Index(index), value) for index, value in enumerate(self._base)]

    # Reads

    def __getitem__(self, place: Any) -> Any:
        if not self._root.is_current() or len(self._base) != _len(self):
            self._now()
        self._seen = base = self._base
        value = base[place]
        if type(value) in SIMPLE:
            return value
        if isinstance(place, slice):
            return self._all()[place]
        index = operator.index(place)
        return self._given(Index(index if index >= 0 else index + len(base)), value)

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
        items = (self._stored(item),)
        self._intact()
        self._root.patch(self, "append", items)

    def extend(self, items: Iterable[Any], /) -> None:
        """Adds several to the end, in one step."""
        added = tuple(map(self._stored, items))
        self._intact()
        if added:
            self._root.patch(self, "append", added)

    def __iadd__(self, items: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(items)
        return self

    def clear(self) -> None:
        """Removes every element."""
        self._check()
        self._root.patch(self, "clear")

    def remove(self, item: Any, /) -> None:
        """Removes the first element that equals `item`; `ValueError` when there is none."""
        base = self._check()
        if item not in base:
            raise ValueError("list.remove(x): x not in list")
        element = base[base.index(item)]
        # The owner knows equal numbers, and else compares what is stored. Where elements in the list move,
        # or it finds none, this process says which one goes.
        if (
            type(element) in SIMPLE
            and Index not in map(type, self._path)
            and self._root.patch(self, "remove", (element,))
        ):
            return

        def plan(base: list[Any]) -> Planned:
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

        def plan(base: list[Any]) -> Planned:
            if not base:
                raise IndexError("pop from empty list")
            at = index + len(base) if index < 0 else index
            if not 0 <= at < len(base):
                raise IndexError("pop index out of range")
            what, arguments, _, moves = _spliced(base, at, 1, ())
            return what, arguments, released(base[at]), moves

        return self._root.decide(self, plan, again=index == -1)

    def insert(self, place: SupportsIndex, item: Any, /) -> None:
        """Puts `item` before the element at a place."""
        index, items = operator.index(place), (self._stored(item),)

        def plan(base: list[Any]) -> Planned:
            return _spliced(base, slice(index, None).indices(len(base))[0], 0, items)

        self._root.decide(self, plan, again=False)

    def __setitem__(self, place: Any, value: Any) -> None:
        if isinstance(place, slice):
            elements = list(map(self._stored, value))
            self._change(lambda marks: marks.__setitem__(place, elements))
            return
        index = operator.index(place)
        count = len(self._now())
        if self._is_own(Index(index + count if index < 0 else index), value):
            return
        items = (self._stored(value),)

        def plan(base: list[Any]) -> Planned:
            at = index + len(base) if index < 0 else index
            if not 0 <= at < len(base):
                raise IndexError("list assignment index out of range")
            return _spliced(base, at, 1, items)

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
        """Sorts the list as it is when that is decided; `ValueError` when `key` changes it."""

        def plan(base: list[Any]) -> Planned | None:
            elements, (_, edits) = self._all(), self._root.edits
            if self._base is not base:
                # It is planned anew: what is given to `key` now does not count.
                elements = [released(value) for value in base]
            rank = elements.__getitem__ if key is None else (lambda at: key(elements[at]))
            order = sorted(range(len(base)), key=rank, reverse=reverse)
            editor, edits_now = self._root.edits
            if edits_now != edits and editor == threading.get_ident() and not same(self._now(), base):
                raise ValueError("list modified during sort")
            if order == list(range(len(base))):
                return None
            moves = {old: new for new, old in enumerate(order)}
            return "replace", ([base[old] for old in order],), None, moves

        self._root.decide(self, plan, again=True)

    def _change(self, change: Callable[[list[Any]], Any], again: bool = False) -> None:
        """Does to the list what `change` does to a plain one, in one step."""

        def plan(base: list[Any]) -> Planned | None:
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
    node._root, node._path, node._base, node._seen = root, path, base, base
    _setitem(node, _ALL, base)
    return node


Root.classes[list] = _make
