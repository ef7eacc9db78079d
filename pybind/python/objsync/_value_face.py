"""Objects that are one object of a registered class: its attributes and methods are those of the object.

Trail: `d.n = 1`, `d.method()` -> `ValueFace._edit` (a copy is changed) -> `Handle._swap`; `d.tags.append("a")` ->
`LiveList.append` -> `Attribute.apply` -> `Handle._swap`.

Invariants
* What takes the place of the value was made from exactly the stored bytes that it replaces. The bytes are
  compared, and not objects: what an older program has stored of a class is encoded otherwise by this one.
* What the class's stored form does not have is not taken silently: `AttributeError`.
* One root of live objects per attribute, for as long as somebody holds one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from objsync._faces import ROOT, Face
from objsync._native import native, native_live
from objsync._nested import KINDS, Live, attach
from objsync._nested_root import ATTEMPTS_MAX, Root, same
from objsync.errors import ClosedError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from objsync._nested_root import Node, Path

__all__ = ["ValueFace"]

_payload: Any = native.Handle._payload
_swap: Any = native.Handle._swap
_making: Final = threading.RLock()
_NOTHING: Final = object()


class ValueFace(Face):
    """An object that is one of a registered class: its attributes and methods are those of the value.

    Names that every object has, such as `status` and `close`, stay what they are: read such an
    attribute of ``d.copy()``; but what a mapping has and the class has too, such as `get`, is the class's.
    Setting an attribute puts the whole value, and so does a method that has changed it. It is run on a
    copy, and run again on what is there then if others have changed the value meanwhile.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._attribute(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or hasattr(_of_class(self._plain_class, name), "__set__"):
            object.__setattr__(self, name, value)
            return
        root = self._roots().get(name)
        if isinstance(value, Live) and value._root is root and not value._path:
            return  # `d.tags += [1]` puts what was changed already back to its own place

        def change(whole: Any) -> tuple[Any, Any]:
            setattr(whole, name, value)
            return whole, None

        self._edit(change, name)
        self._replaced(name)

    def __delattr__(self, name: str) -> None:
        def change(whole: Any) -> tuple[Any, Any]:
            delattr(whole, name)
            return whole, None

        self._edit(change, name)
        self._replaced(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._whole())})

    # Reads

    def _attribute(self, name: str) -> Any:
        root = self._roots().get(name)
        top = None if root is None else root.top()
        if top is not None:
            return top
        whole = self._whole()
        value = getattr(whole, name)
        if type(value) in KINDS:
            return self._live(name)
        return self._method(name, value) if _is_method(whole, name, value) else value

    def _live(self, name: str) -> Any:
        stored = self._stored()
        value = getattr(native.decode_value(stored), name)
        if type(value) not in KINDS:
            return value  # others were faster
        with _making:
            root = self._roots().get(name)
            if root is None:
                top = attach(Attribute(self, name, stored), value)
                self._roots()[name] = top._root
                return top
        return root.top()

    def _roots(self) -> WeakValueDictionary[str, Root]:
        held: Any = self.__dict__
        found: WeakValueDictionary[str, Root] | None = held.get("_live_attributes")
        return held.setdefault("_live_attributes", WeakValueDictionary()) if found is None else found

    def _method(self, name: str, found: Any) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            return self._edit(lambda whole: (whole, getattr(whole, name)(*arguments, **named)))

        method.__name__, method.__doc__ = name, found.__doc__
        return method

    def _read_by(self, read: Callable[..., Any], *arguments: Any) -> Any:
        whole = self._whole()
        result = read(whole, *arguments)
        return self if result is whole else result

    def _stored(self) -> bytes:
        stored: bytes | None = _payload(self, ROOT)
        if stored is None:
            raise KeyError(ROOT)
        return stored

    # Changes

    def _replaced(self, name: str) -> None:
        root = self._roots().pop(name, None)
        if root is not None:
            root.replaced()

    def _edit(self, change: Callable[[Any], tuple[Any, Any]], name: str | None = None) -> Any:
        """Changes a copy of the value and puts it in place, if it is then another one.

        Args:
            change: Gets the copy; gives what is to be put, and the result. Called again when others were faster.
            name: The attribute that it sets or deletes.
        """
        for _ in range(ATTEMPTS_MAX):
            before = self._stored()
            whole = native.decode_value(before)
            after, result = change(whole)
            if isinstance(result, CoroutineType):
                result.close()
                raise TypeError(
                    "an async method cannot be called here: it would be over before it has run; use d.copy()"
                )
            if self._put(before, after, name) is not None:
                return self if result is whole or result is after else result
        raise ConflictError(f"the object was changed by others during each of {ATTEMPTS_MAX} attempts", ROOT)

    def _put(self, before: bytes, whole: Any, name: str | None) -> bytes | None:
        """Has `whole` replace what is stored as `before`; what is stored then, or `None` if others were faster."""
        after: bytes = native.encode_value(whole)
        # What an older program stored of the class is encoded otherwise now, changed or not.
        if after == before or after == native.encode_value(native.decode_value(before)):
            if name is not None:
                _check_stored(whole, native.decode_value(before), name)
            return before
        return after if _swap(self, ROOT, before, after) else None


class Attribute:
    """The source of a container that is an attribute: changes put the whole value again."""

    def __init__(self, face: ValueFace, name: str, stored: bytes) -> None:
        self.key = name
        self._face = face
        # What was read last; and what the newest conditional change has made of just that.
        self._read = self._found = stored
        self._own: bytes | None = None

    def is_current(self) -> bool:
        try:
            return bool(_payload(self._face, ROOT) == self._read)
        except ClosedError:
            return False  # `read` says so, and what was known is read on

    def read(self) -> tuple[bool, bool, Any, bool]:
        try:
            stored = self._face._stored()
        except KeyError:
            return True, False, None, False
        if stored == self._read:
            return False, True, None, False
        whole = native.decode_value(stored)
        self._found = stored
        return True, hasattr(whole, self.key), getattr(whole, self.key, None), stored == self._own

    def filled(self) -> None:
        if self._found != self._read:
            self._read, self._own = self._found, None

    def stored(self, value: Any, /) -> Any:
        return native.decode_value(native.encode_value(value))

    def apply(self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...], /) -> int:
        for _ in range(ATTEMPTS_MAX):
            before = self._face._stored()
            if conditional and before != self._read:
                raise ConflictError(f"attribute {self.key} was changed by others", self.key)
            whole = native.decode_value(before)
            value = getattr(whole, self.key, None)
            if type(value) not in KINDS:
                raise NotFoundError(f"attribute {self.key} is no container any more")
            number, value = native_live.patched(value, path, what, arguments)
            setattr(whole, self.key, value)
            stored = self._face._put(before, whole, self.key)
            if stored is not None:
                self._own = stored if conditional else None
                return number
        raise ConflictError(
            f"attribute {self.key} was changed by others during each of {ATTEMPTS_MAX} attempts", self.key
        )

    def held(self, root: Root, top: Node, /) -> None:
        pass

    def ended(self) -> None:
        pass


def _check_stored(changed: Any, stored: Any, name: str) -> None:
    """Refuses a change of an attribute that has changed nothing of what is stored."""
    one, other = getattr(changed, name, _NOTHING), getattr(stored, name, _NOTHING)
    if not _is_equal(one, other):
        kind = type(changed).__name__
        raise AttributeError(
            f"what is stored of a {kind} has no attribute {name!r} of its own: nothing was written",
            name=name,
            obj=stored,
        )


def _is_equal(one: Any, other: Any) -> bool:
    try:
        if one is other or bool(one == other):
            return True
    except Exception:  # arrays have no single truth
        pass
    try:
        return same(one, other)
    except Exception:  # what cannot be stored is not what is stored
        return False


def _of_class(kind: type, name: str) -> Any:
    """What a class has of a name, as it stands there."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _is_method(whole: Any, name: str, value: Any) -> bool:
    if not callable(value) or name in getattr(whole, "__dict__", ()):
        return False
    found = _of_class(type(whole), name)
    return found is not None and not isinstance(found, (staticmethod, classmethod, property, type))
