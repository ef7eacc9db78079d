"""A value in memory as the source of live values, each change of which is saved as a whole.

What `objsync._nested` is over a key of a store, it is here over a storage of the user's own.

Invariants
* The value is never changed: a change makes a new one, which has the unchanged parts in common with it.
* It takes the place of the old one after `save` has returned. So what `save` raises changes nothing.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, Final

from objsync._nested import KINDS, Live, attach
from objsync._nested_root import Node, Path, Root
from objsync.errors import ConflictError, Error, InvalidError, NotFoundError

__all__ = ["Held", "taken"]


def taken(value: Any) -> Any:
    """A plain copy of a value, with dict, list and set for live ones."""
    if isinstance(value, Live):
        value = value._plain()
    kind = type(value)
    if kind is dict:
        return {key: taken(item) for key, item in value.items()}
    if kind is list:
        return [taken(item) for item in value]
    if kind is set:
        return set(value)
    return copy.deepcopy(value)


class Held:
    """The source of the live objects of one value that is saved as a whole.

    Args:
        key: What the value is called in errors.
        value: What is there now: a dict, a list or a set. It is taken in as a copy.
        save: Gets the whole, plain and new, before a change is seen. What it raises ends the change.
    """

    def __init__(self, key: Any, value: Any, save: Callable[[Any], object]) -> None:
        self.key = key
        self.lock = threading.RLock()
        self._save = save
        self._value = taken(value)
        # Changes so far; how many the live objects have heard of, and were told; which was the newest
        # conditional one.
        self._changes = self._heard = self._told = 0
        self._conditional: int | None = None
        self._end: Error | None = None
        self._root: Root | None = None
        self._top: Any = attach(self, self._value)

    def value(self) -> Any:
        """The whole, plain and new."""
        return taken(self._value)

    def top(self) -> Any:
        """The live object of the whole."""
        assert self._root is not None, "it was made by attach()"
        # Not under `lock`: a root holds its own while it asks this source to change.
        self._top = top = self._root.top()
        return top

    def replace(self, value: Any) -> None:
        """Saves another value in place of the whole."""
        self.apply((), False, "replace", (value,))

    def end(self, why: Error) -> None:
        """Has every later change of a live object raise `why`."""
        self._end = why

    # What live objects ask

    def is_current(self) -> bool:
        return self._heard == self._changes

    def read(self) -> tuple[bool, bool, Any, bool]:
        with self.lock:
            changed = self._heard != self._changes
            own = self._conditional == self._changes == self._heard + 1
            self._told = self._changes
            return changed, True, self._value, own

    def filled(self) -> None:
        self._heard = self._told

    def stored(self, value: Any, /) -> Any:
        return taken(value)

    def apply(self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...], /) -> int:
        with self.lock:
            if self._end is not None:
                raise self._end
            if conditional and self._heard != self._changes:
                raise ConflictError(f"{self.key} was changed meanwhile", self.key)
            changed, answer = self._changed(self._value, path, what, taken(list(arguments)))
            self._save(taken(changed))
            self._value = changed
            self._changes += 1
            if conditional:
                self._conditional = self._changes
            return answer

    def held(self, root: Root, top: Node, /) -> None:
        self._root = root

    def ended(self) -> None:
        pass

    def _changed(self, place: Any, path: Path, what: str, arguments: list[Any]) -> tuple[Any, int]:
        """What becomes of what lies at a place, and what the edit says."""
        if not path:
            return _edited(place, what, arguments)
        if type(place) not in KINDS or type(place) is set:
            raise NotFoundError(f"{self.key}: there is no {path[0]!r} in a {type(place).__name__}")
        step = path[0]
        if len(path) == 1 and what == "incr" and type(place) is dict:
            number = place.get(step, 0) + arguments[0]
            return place | {step: number}, number
        try:
            part, answer = self._changed(place[step], path[1:], what, arguments)
        except LookupError as error:
            if isinstance(error, Error):
                raise
            raise NotFoundError(f"{self.key}: there is no {step!r}") from error
        new = place.copy()
        new[step] = part
        return new, answer


def _edited(place: Any, what: str, arguments: list[Any]) -> tuple[Any, int]:
    edit = _EDITS.get((type(place), what)) or _EDITS.get((object, what))
    if edit is None:
        raise InvalidError(f"a {type(place).__name__} has no {what!r}")
    new = place.copy()
    answer = edit(new, *arguments)
    return (arguments[0], 0) if what == "replace" else (new, answer)


def _append(place: list[Any], *items: Any) -> int:
    place.extend(items)
    return len(place)


def _splice(place: list[Any], start: int, gone: int, *items: Any) -> int:
    place[start : start + gone] = items
    return len(place)


def _remove(place: list[Any], item: Any) -> int:
    if item not in place:
        return 0
    place.remove(item)
    return 1


def _add(place: set[Any], *members: Any) -> int:
    before = len(place)
    place.update(members)
    return len(place) - before


def _discard(place: set[Any], *members: Any) -> int:
    before = len(place)
    place.difference_update(members)
    return before - len(place)


def _set(place: dict[Any, Any], field: Any, value: Any) -> int:
    return _merge(place, {field: value})


def _delete(place: dict[Any, Any], field: Any) -> int:
    before = len(place)
    place.pop(field, None)
    return before - len(place)


def _merge(place: dict[Any, Any], fields: dict[Any, Any]) -> int:
    before = len(place)
    place.update(fields)
    return len(place) - before


def _clear(place: Any) -> int:
    count = len(place)
    place.clear()
    return count


def _replace(place: Any, value: Any) -> int:
    return 0


_EDITS: Final[dict[tuple[type, str], Callable[..., int]]] = {
    (list, "append"): _append,
    (list, "splice"): _splice,
    (list, "remove"): _remove,
    (set, "add"): _add,
    (set, "discard"): _discard,
    (dict, "set"): _set,
    (dict, "delete"): _delete,
    (dict, "merge"): _merge,
    (object, "clear"): _clear,
    (object, "replace"): _replace,
}
"""What each edit does to a copy of a container, and says: see `objsync._nested_root.Source`."""
