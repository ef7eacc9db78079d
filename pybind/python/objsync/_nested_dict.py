"""A dict of a dictionary that other programs share."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from objsync._nested import SIMPLE, Live, is_simple_key, odd_keys, released
from objsync._nested_edits import KINDS
from objsync._nested_root import Path, Planned, Root

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

__all__ = ["LiveDict"]

_clear, _len, _update = dict.clear, dict.__len__, dict.update
_new: Any = dict.__new__


class LiveDict(Live, dict[Any, Any]):
    """A dict inside a dictionary: reads see what is there now, changes are stored when they return.

    Setting, updating and deleting fields is done by the owner of the store on what is there then, so what
    others do to other fields meanwhile is kept. Iteration walks a copy. It is made by reading; calling
    the class makes a plain dict.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"cfg": {"x": {"y": 1}}}) as d:
    ...     d["cfg"]["x"]["y"] += 1
    ...     d["cfg"]["tags"] = ["a"]
    ...     d["cfg"]["tags"].append("b")
    ...     d["cfg"], d["cfg"] is d["cfg"]
    ({'x': {'y': 2}, 'tags': ['a', 'b']}, True)
    >>> with DiskObject("more.obj", {"v": {"a": 1, "b": 2, "c": 3, "d": 4}}) as d:
    ...     v = d["v"]
    ...     v.pop("a"), v.popitem(), v.setdefault("e", 5), v.get("z", 0), v.copy()
    ...     v.update(b=0)
    ...     list(v.keys()), list(v.values()), list(v.items())
    ...     v.clear()
    ...     v, v.fromkeys("x")
    (1, ('d', 4), 5, 0, {'b': 2, 'c': 3, 'e': 5})
    (['b', 'c', 'e'], [0, 3, 5], [('b', 0), ('c', 3), ('e', 5)])
    ({}, {'x': None})
    """

    __slots__ = ("__weakref__", "_base", "_path", "_root")
    __hash__ = None

    PLAIN: ClassVar[Any] = dict

    def _fill(self, path: Path, base: dict[Any, Any], kept: bool) -> None:
        self._path, self._base = path, base
        _clear(self)
        _update(self, base)

    # Reads

    def __getitem__(self, key: Any) -> Any:
        if not self._root.is_current() or len(self._base) != _len(self):
            self._ready()
        base = self._base
        value = base[key]
        if type(value) in SIMPLE:
            return value
        return self._given(key if type(key) is str else _stored_key(base, key), value)

    def get(self, key: Any, default: Any = None, /) -> Any:
        """The value of `key`; `default` when there is none."""
        base = self._ready()
        if key not in base:
            return default
        value = base[key]
        return value if type(value) in SIMPLE else self._given(_stored_key(base, key), value)

    def __contains__(self, key: object) -> bool:
        return key in self._ready()

    def __len__(self) -> int:
        return len(self._ready())

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._ready()))

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self._ready())[::-1])

    def keys(self) -> Any:
        """The keys, as a view."""
        return Keys(self)

    def values(self) -> Any:
        """The values, as a view."""
        return Values(self)

    def items(self) -> Any:
        """The (key, value) pairs, as a view."""
        return Items(self)

    def copy(self) -> dict[Any, Any]:
        """A plain dict with the same items: containers in it are live, as in any shallow copy."""
        base = self._ready()
        if SIMPLE.issuperset(map(type, base.values())):
            return dict(base)
        with self._root.lock:
            return {key: self._given(key, value) for key, value in self._base.items()}

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None, /) -> Any:
        """A plain dict."""
        return dict.fromkeys(iterable, value)

    def __eq__(self, other: object) -> bool:
        theirs = _ready(other)
        return bool(self._ready() == theirs) if isinstance(theirs, dict) else NotImplemented

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __or__(self, other: Any) -> Any:
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __repr__(self) -> str:
        return repr(self._ready())

    # Changes

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self._is_own(key, value):
            self._set({key: self._stored(value)})

    def _set(self, fields: dict[Any, Any]) -> None:
        if all(map(is_simple_key, fields)) and fields.keys().isdisjoint(odd_keys(self._base)):
            self._intact()
            if len(fields) == 1:
                self._root.patch(self, "set", next(iter(fields.items())))
            else:
                self._root.patch(self, "merge", (fields,))
            return

        def plan(base: dict[Any, Any]) -> Planned:
            return "merge", ({_known_key(base, key): value for key, value in fields.items()},), None, None

        self._root.decide(self, plan, again=True)

    def __delitem__(self, key: Any) -> None:
        if key not in self._check() or not self._delete(key):
            raise KeyError(key)

    def _delete(self, key: Any) -> bool:
        if is_simple_key(key) and key not in odd_keys(self._base):
            return self._root.patch(self, "delete", (key,)) > 0

        def plan(base: dict[Any, Any]) -> Planned | None:
            return ("delete", (_known_key(base, key),), True, None) if key in base else None

        return bool(self._root.decide(self, plan, again=True))

    def pop(self, key: Any, /, *default: Any) -> Any:
        """Removes `key` and returns its value, which no other process then gets."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")

        def plan(base: dict[Any, Any]) -> Planned | None:
            if key not in base:
                return None
            return "delete", (_known_key(base, key),), (released(base[key]),), None

        popped = self._root.decide(self, plan, again=True)
        if popped is not None:
            return popped[0]
        if default:
            return default[0]
        raise KeyError(key)

    def popitem(self) -> tuple[Any, Any]:
        """Removes the last item and returns it, which no other process then gets."""

        def plan(base: dict[Any, Any]) -> Planned:
            if not base:
                raise KeyError("popitem(): dictionary is empty")
            key = next(reversed(base))
            return "delete", (key,), (key, released(base[key])), None

        item: tuple[Any, Any] = self._root.decide(self, plan, again=True)
        return item

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """The value of `key`; if there is none, `default`, which is put there."""

        def plan(base: dict[Any, Any]) -> Planned | None:
            return None if key in base else ("set", (key, self._stored(default)), None, None)

        self._root.decide(self, plan, again=True)
        return self.get(key, default)

    def update(
        self,
        other: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]] = (),
        /,
        **named: Any,
    ) -> None:
        """Puts many fields at once."""
        fields = dict(other, **named)
        changed = {key: self._stored(value) for key, value in fields.items() if not self._is_own(key, value)}
        if changed:
            self._set(changed)
        else:
            self._intact()

    def __ior__(self, other: Any) -> Any:
        if not isinstance(other, Mapping) and not hasattr(other, "__iter__"):
            return NotImplemented
        self.update(other)
        return self

    def clear(self) -> None:
        """Removes every item."""
        self._check()
        self._root.patch(self, "clear")

    def incr(self, key: Any, by: int = 1) -> int:
        """Adds to an integer and returns its new value; a missing field counts as 0.

        Decided by the owner of the store, so no count is lost between processes.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"hits": {}}) as d:
        ...     d["hits"].incr("home"), d["hits"].incr("home", 10)
        (1, 11)
        """
        return self._root.patch(self, "incr", (by,), (_stored_key(self._check(), key),))


def _ready(other: Any) -> Any:
    return other._ready() if isinstance(other, Live) else other


def _stored_key(base: dict[Any, Any], key: Any) -> Any:
    """The key as it is stored, which is what the owner of the store knows it by; of a simple one it is a guess."""
    return key if is_simple_key(key) else _known_key(base, key)


def _known_key(base: dict[Any, Any], key: Any) -> Any:
    """The key as it is stored, by a look at all keys where there can be one that is equal and another."""
    if key not in base or (is_simple_key(key) and key not in odd_keys(base)):
        return key
    return next((known for known in base if known == key), key)


class Keys(KeysView[Any]):
    """The keys of a `LiveDict`."""

    _mapping: LiveDict

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The dict, to be read only."""
        return MappingProxyType(self._mapping)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"dict_keys({list(self)!r})"


class Values(ValuesView[Any]):
    """The values of a `LiveDict`."""

    _mapping: LiveDict

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The dict, to be read only."""
        return MappingProxyType(self._mapping)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._mapping.copy().values()))

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __repr__(self) -> str:
        return f"dict_values({list(self)!r})"


class Items(ItemsView[Any, Any]):
    """The items of a `LiveDict`."""

    _mapping: LiveDict

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The dict, to be read only."""
        return MappingProxyType(self._mapping)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(list(self._mapping.copy().items()))

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return iter(list(self)[::-1])

    def __repr__(self) -> str:
        return f"dict_items({list(self)!r})"


def _make(root: Root, path: Path, base: dict[Any, Any]) -> LiveDict:
    node: LiveDict = _new(LiveDict)
    node._root, node._path, node._base = root, path, base
    _update(node, base)
    return node


Root.classes[dict] = _make
