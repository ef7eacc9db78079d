"""Plain values that live objects were filled with: what an edit makes of them, and where their parts lie after it.

Nothing here changes a value: an edit gives a new one, which has the unchanged parts in common with the old.

Not here: who may see it, and when (`_nested_root`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from objsync._native import native
from objsync.errors import Error

__all__ = [
    "KINDS",
    "SIMPLE",
    "Index",
    "Moves",
    "Path",
    "edited",
    "follow",
    "gone_from",
    "moves_of",
    "part_of",
    "same",
    "with_part",
]

Path = tuple[Any, ...]
"""The way from the value of a key to a container in it: fields of dicts, and `Index` for lists."""
Moves = dict[int, int]
"""Where the elements of a list go; one that is missing goes away."""


class Index(int):
    """A step of a path: a place in a list, where a plain int is the key of a dict."""

    __slots__ = ()


KINDS: Final = frozenset({dict, list, set})
"""The types that are live inside a value. In a tuple they are plain: it cannot change."""
SIMPLE: Final = frozenset({str, int, float, bool, type(None), bytes, complex, Index})
"""Types that are given out as they are."""
EXACT: Final = frozenset({str, int, bool, bytes, type(None)})
"""Types whose values are stored alike exactly if they are equal."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same as they are stored: arrays have no `==` that says so, NaN is none."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) in EXACT:
        return bool(one == other)
    try:
        return native.encode_value(one) == native.encode_value(other)
    except (Error, RecursionError):  # other storage takes what the codec does not
        pass
    try:
        return bool(one == other)
    except Exception:  # arrays have no single truth; of a user's class nothing is known
        return False


def part_of(value: Any, path: Path) -> Any:
    """What lies at `path`."""
    for step in path:
        value = value[step]
    return value


def with_part(value: Any, path: Path, part: Any) -> Any:
    """`value` with another part at `path`."""
    if not path:
        return part
    new = value.copy()
    new[path[0]] = with_part(value[path[0]], path[1:], part)
    return new


def edited(base: Any, what: str, arguments: tuple[Any, ...]) -> Any:
    """What an edit makes of a container: see `objsync._nested_root.Source`."""
    if what == "replace":
        return arguments[0]
    new = base.copy()
    _EDITS[what](new, arguments)
    return new


def _splice(place: list[Any], arguments: tuple[Any, ...]) -> None:
    start, gone = arguments[:2]
    place[start : start + gone] = arguments[2:]


def _remove(place: list[Any], arguments: tuple[Any, ...]) -> None:
    if arguments[0] in place:
        place.remove(arguments[0])


_EDITS: Final[dict[str, Callable[[Any, tuple[Any, ...]], object]]] = {
    "append": lambda place, items: place.extend(items),
    "splice": _splice,
    "remove": _remove,
    "add": lambda place, members: place.update(members),
    "discard": lambda place, members: place.difference_update(members),
    "set": lambda place, pair: place.__setitem__(*pair),
    "delete": lambda place, field: place.pop(field[0], None),
    "merge": lambda place, fields: place.update(fields[0]),
    "clear": lambda place, _: place.clear(),
}


def gone_from(base: Any, what: str, arguments: tuple[Any, ...]) -> Iterable[Any]:
    """The steps whose containers end by an edit that moves none."""
    if what in ("set", "delete"):
        return [arguments[0]] if type(base.get(arguments[0])) in KINDS else ()
    if what == "merge":
        return [key for key in arguments[0] if type(base.get(key)) in KINDS]
    if what == "clear" and type(base) is dict:
        return list(base)
    if what == "clear" and type(base) is list:
        return list(map(Index, range(len(base))))
    return ()


def moves_of(base: Any, what: str, arguments: tuple[Any, ...]) -> Moves | None:
    """Where the elements of a list go by an edit that names none of them by its place."""
    if what != "remove" or arguments[0] not in base:
        return None
    at = base.index(arguments[0])
    return {index: index - (index > at) for index in range(len(base)) if index != at}


def follow(
    path: Path, old: Any, new: Any, lists: dict[Path, Moves], kept: bool
) -> tuple[Path, Any] | None:
    """Where what lay at `path` of `old` lies in `new`, and what it is there.

    Args:
        path: The way in `old`.
        old: What was known.
        new: What was read.
        lists: Where the elements of lists are, as far as that was found out: filled here.
        kept: Whether both are the same.
    """
    if kept:
        try:
            return path, part_of(new, path)
        except (LookupError, TypeError):
            return None
    place: list[Any] = []
    for depth, step in enumerate(path):
        if type(old) is not type(new):
            return None
        if type(new) is list:
            at = path[:depth]
            to = lists.get(at)
            if to is None:
                lists[at] = to = _aligned(old, new)
            index = to.get(step)
            if index is None:
                return None
            old, new = old[step], new[index]
            place.append(Index(index))
        elif type(new) is dict:
            if step not in new or step not in old:
                return None
            old, new = old[step], new[step]
            place.append(step)
        else:
            return None
    return tuple(place), new


def _aligned(old: list[Any], new: list[Any]) -> Moves:
    """Where the elements of a list are after others changed it, as far as that is beyond doubt.

    What both begin with and what both end with has stayed; of the rest nobody can tell whether an element
    was changed or another one took its place.
    """
    shorter = min(len(old), len(new))
    head = 0
    while head < shorter and same(old[head], new[head]):
        head += 1
    tail = 0
    while tail < shorter - head and same(old[-1 - tail], new[-1 - tail]):
        tail += 1
    stayed = {index: index for index in range(head)}
    shift = len(new) - len(old)
    stayed.update((index, index + shift) for index in range(len(old) - tail, len(old)))
    return stayed
