"""The containers of a storage of the user's own: dict, list and set whose changes are saved.

Each is a real dict, list or set, so that C code, `json`, `isinstance` and patterns see its content. A
method that changes one runs on a copy of it; the tree's `Tree.save` then gets the whole, and only
when that returned is the container changed. So an error on the way changes nothing.

Invariants
* Every dict, list and set in a tree that can be reached by items of dicts and lists is one of ours.
* Each of ours lies at one place: what is assigned is taken in as a copy.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from objsync.errors import InvalidError

__all__ = ["OwnDict", "OwnList", "OwnSet", "Tree", "plain"]

_DICT_CHANGES: Final = (
    "__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update",
)  # fmt: skip
_LIST_CHANGES: Final = (
    "__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop",
    "remove", "reverse", "sort",
)  # fmt: skip
_SET_CHANGES: Final = (
    "__iand__", "__ior__", "__isub__", "__ixor__", "add", "clear", "difference_update", "discard",
    "intersection_update", "pop", "remove", "symmetric_difference_update", "update",
)  # fmt: skip


class OwnDict(dict[Any, Any]):
    """A dict of a storage of the user's own: every change is saved before the method returns."""

    __slots__ = ("__weakref__", "_tree")
    _tree: Tree

    def _refill(self, content: dict[Any, Any]) -> None:
        items = self._tree.taken(content.values(), dict.values(self))
        # Never empty in between: other threads read while this one writes.
        for key in [key for key in self if key not in content]:
            dict.__delitem__(self, key)
        dict.update(self, zip(content, items, strict=True))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (plain(self),)


class OwnList(list[Any]):
    """A list of a storage of the user's own: every change is saved before the method returns."""

    __slots__ = ("__weakref__", "_tree")
    _tree: Tree

    def _refill(self, content: list[Any]) -> None:
        list.__setitem__(self, slice(None), self._tree.taken(content, self))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (plain(self),)


class OwnSet(set[Any]):
    """A set of a storage of the user's own: every change is saved before the method returns."""

    __slots__ = ("_tree",)
    _tree: Tree

    def _refill(self, content: set[Any]) -> None:
        set.intersection_update(self, content)
        set.update(self, content)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return set, (plain(self),)


Own = OwnDict | OwnList | OwnSet
_PLAIN: Final[dict[type, type]] = {OwnDict: dict, OwnList: list, OwnSet: set}
_OWN: Final[dict[type, type[Own]]] = {dict: OwnDict, list: OwnList, set: OwnSet}


def _changing(kind: type, name: str) -> Callable[..., Any]:
    """The method `name` of dict, list or set, as one that saves."""
    change = getattr(kind, name)

    @functools.wraps(change)
    def method(self: Own, /, *arguments: Any, **named: Any) -> Any:
        tree = getattr(self, "_tree", None)
        if tree is None:  # made by its class alone, as some libraries do: an ordinary container
            return change(self, *arguments, **named)
        result = tree.change(self, lambda trial: change(trial, *arguments, **named))
        if name == "setdefault":
            return cast("OwnDict", self)[arguments[0]]  # what was taken in, not what was given
        return plain(result) if name in ("pop", "popitem") else result

    return method


for _kind, _names in ((OwnDict, _DICT_CHANGES), (OwnList, _LIST_CHANGES), (OwnSet, _SET_CHANGES)):
    for _name in _names:
        setattr(_kind, _name, _changing(_PLAIN[_kind], _name))


def plain(value: Any, instead: tuple[Own, Any] | None = None) -> Any:
    """The value with dict, list and set for ours, all new down to what is none of ours.

    With `instead`, the second stands where the first is.
    """
    if instead is not None and value is instead[0]:
        return plain(instead[1])
    kind = type(value)
    if kind is OwnDict or kind is dict:
        return {key: plain(item, instead) for key, item in value.items()}
    if kind is OwnList or kind is list:
        return [plain(item, instead) for item in value]
    if kind is OwnSet or kind is set:
        return set(value)
    return copy.deepcopy(value)


class Tree:
    """A value and all that is in it, saved as one whole whenever something in it changes.

    Args:
        value: What is there now; it is taken in as a copy.
        save: Gets the whole, plain and new, before a change is seen. What it raises ends the change.
    """

    def __init__(self, value: Any, save: Callable[[Any], object]) -> None:
        self.lock = threading.RLock()
        self._save = save
        self.root = self._take(value)

    def change(self, container: Own, change: Callable[[Any], Any]) -> Any:
        """Has `change` change a copy of `container`, saves the whole with it, and then takes it over.

        Returns what `change` did; the container itself for its copy.
        """
        with self.lock:
            if not _holds(self.root, container):
                kind = _PLAIN[type(container)].__name__
                raise InvalidError(f"this {kind} was replaced or removed: read it again to change it")
            trial = _PLAIN[type(container)](container)
            result = change(trial)
            self._save(plain(self.root, (container, trial)))
            container._refill(trial)
            return container if result is trial else result

    def replace(self, root: Any) -> None:
        """Saves another value in place of the whole, and then takes it over."""
        with self.lock:
            taken = self._take(root)
            self._save(plain(root))
            self.root = taken

    def taken(self, items: Iterable[Any], before: Iterable[Any]) -> list[Any]:
        """What stands for `items` here; those of ours that were there before stay, once each."""
        stay = {id(item) for item in before if isinstance(item, Own)}
        taken = []
        for item in items:
            if id(item) in stay:
                stay.remove(id(item))
                taken.append(item)
            else:
                taken.append(self._take(item))
        return taken

    def _take(self, value: Any) -> Any:
        content = plain(value)
        kind: Any = _OWN.get(type(content))
        if kind is None:
            return content
        made = kind.__new__(kind)
        made._tree = self
        made._refill(content)
        return made


def _holds(place: Any, container: Own) -> bool:
    """Whether a container can be reached from a place."""
    if place is container:
        return True
    items: Iterable[Any] = ()
    if isinstance(place, OwnDict):
        items = place.values()
    elif isinstance(place, OwnList):
        items = place
    return any(_holds(item, container) for item in items)
