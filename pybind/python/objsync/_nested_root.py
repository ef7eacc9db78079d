"""The root of live values: one for each key whose value somebody holds.

A root knows what was read of the value last, and the live objects of its containers. They ask it whether
what they hold is current; if not, it reads, in the thread that asked, and has each of them take what lies
at its place now. An object whose place is gone, or holds another type, is detached: it keeps what it was,
and refuses every change.

Invariants
* Objects know their root, the root knows them weakly: nothing keeps a value in memory but who uses it.
* The value as it was read is never changed and never given out: objects hold copies of its containers.
* A change that names a place in a list is conditional on the revision the path was made from.

Not here: what a method does (`_nested`), how bytes change (the owner of the store).
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from objsync._native import native, native_live
from objsync.errors import ClosedError, ConflictError, DetachedError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Index", "Node", "Path", "Root", "Source", "same"]

Path = tuple[Any, ...]
"""The way from the value of a key to a container in it: fields of dicts, and `Index` for lists."""

ATTEMPTS_MAX: Final = 1000
"""How often one change is decided anew because others were faster."""
_beginning: Final = threading.RLock()
SWEEP_COUNT_MIN: Final = 16
"""Objects that may be gone before a root forgets them."""


class Index(int):
    """A step of a path: a place in a list, where a plain int is the key of a dict."""

    __slots__ = ()


class Source(Protocol):
    """What live values are read from and written to: the backend of `Root`.

    The compiled half has one for a key of a dictionary. Anything else that can say the same serves as well.
    One whose values are not of the types that objsync stores also has two functions
    of its class: `fresh(value)`, a copy that the caller may change, and `same(one, other)`, which never raises.
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
        """

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

    def _fill(self, path: Path, base: Any, /) -> None: ...


class Gone:
    """The source of a detached object: as it was, for ever."""

    def __init__(self, key: Any, why: str) -> None:
        self.key = key
        self._why = why

    def is_current(self) -> bool:
        return True

    def read(self) -> tuple[bool, bool, Any, bool]:
        return False, True, None, False

    def apply(self, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...]) -> int:
        raise DetachedError(self._why, self.key)

    def held(self, root: Root, top: Node) -> None:
        pass

    def ended(self) -> None:
        pass


class Root:
    """The live objects of one value, and what was read of it last."""

    __slots__ = (
        *("__weakref__", "_moves", "_nodes", "_sweep_at"),
        *("fresh", "is_current", "lock", "same", "source", "value"),
    )

    classes: ClassVar[dict[type, Callable[[Root, Path, Any], Node]]] = {}
    """How an object for a plain container is made."""

    def __init__(self, source: Source, value: Any) -> None:
        self.source = source
        self.value = value
        self.is_current = source.is_current
        kind = type(source)  # not of the source itself, which may ask its root for what it has not
        self.fresh: Callable[[Any], Any] = getattr(kind, "fresh", native_live.fresh)
        self.same: Callable[[Any, Any], bool] = getattr(kind, "same", same)
        # Held from a plan to what comes of it: another thread that reads in between would have the source
        # take the plan for one of what it read.
        self.lock = threading.RLock()
        self._nodes: dict[Path, weakref.ref[Any]] = {}
        self._sweep_at = SWEEP_COUNT_MIN
        self._moves: tuple[Path, dict[int, int]] | None = None

    # Objects

    @classmethod
    def of(cls, source: Source, top: Node) -> Root:
        """The root of an object that did without one until now: only its source was asked."""
        with _beginning:
            known = top._root
            if type(known) is cls:  # another thread was faster
                return known
            root = cls(source, top._base)
            root._nodes[()] = weakref.ref(top)
            top._root = root
            source.held(root, top)
            return root

    def node(self, path: Path, value: Any) -> Any:
        """The object for the container `value` at `path`: the same for as long as somebody holds it."""
        nodes = self._nodes
        known = nodes.get(path)
        if known is not None:
            node = known()
            if node is not None:
                return node
        node = self.classes[type(value)](self, path, value)
        if len(nodes) >= self._sweep_at:
            self._nodes = nodes = {path: ref for path, ref in nodes.items() if ref() is not None}
            self._sweep_at = max(SWEEP_COUNT_MIN, 2 * len(nodes))
        nodes[path] = weakref.ref(node)
        return node

    def top(self) -> Any:
        """The object of the whole value as it is now; ``None`` where that is no container any more."""
        if not self.is_current():
            self.refresh()
        if type(self.value) not in self.classes:
            return None
        node = self.node((), self.value)
        self.source.held(self, node)
        return node

    def replaced(self) -> None:
        """The whole value was replaced through this handle: all objects of the old one end."""
        self.drop(())
        self.value = None
        self.source.ended()

    def drop(self, path: Path) -> None:
        """What lay at `path` was replaced: the objects of it, and of what is in it, end."""
        count = len(path)
        for at in [at for at in self._nodes if at[:count] == path]:
            node = self._nodes.pop(at)()
            if node is not None:
                self._detach(node)

    def _detach(self, node: Node) -> None:
        key = self.source.key
        steps = "".join(f"[{step!r}]" for step in node._path)
        why = (
            f"the value at {key!r}{steps} was replaced or removed, and this object is what it was: "
            "read it again"
        )
        gone = Root(Gone(key, why), node._base)
        gone.fresh, gone.same = self.fresh, self.same
        node._root, node._path = gone, ()
        gone._nodes[()] = weakref.ref(node)

    # Reads

    def refresh(self) -> None:
        """Reads the value anew, and has all objects take it."""
        with self.lock:
            try:
                changed, there, value, own = self.source.read()
            except ClosedError:
                return  # What was known can still be read; a change is refused by the source.
            if changed:
                self._renew(value if there else None, own)

    def _renew(self, new: Any, own: bool) -> None:
        old, self.value = self.value, new
        moves, self._moves = (self._moves if own else None), None
        nodes, self._nodes = self._nodes, {}
        lists: dict[Path, dict[int, int]] = {}
        for path, known in nodes.items():
            node = known()
            if node is None:
                continue
            found = _follow(path, old, new, lists, own, moves, self.same)
            if found is None or type(found[1]) is not node.PLAIN:
                self._detach(node)
                if not path:
                    self.source.ended()
                continue
            place, value = found
            node._fill(place, value)
            self._nodes[place] = known

    # Changes

    def patch(
        self, node: Node, what: str, arguments: tuple[Any, ...] = (), steps: Path = ()
    ) -> int:
        """A change that means the same whatever others do meanwhile; `steps`: from the node on."""
        for _ in range(ATTEMPTS_MAX):
            try:
                with self.lock:
                    # A path through a list is the right one only as of what was read.
                    path = node._path + steps
                    through_list = Index in map(type, path)
                    return node._root.send(node, path, through_list, what, arguments)
            except ConflictError as conflict:
                self._retry(node, conflict)
        raise self._overtaken()

    def decide(
        self,
        node: Node,
        plan: Callable[[], tuple[str, tuple[Any, ...], Any, dict[int, int] | None] | None],
        again: bool,
    ) -> Any:
        """A change that depends on what is there: planned, and done if nothing has changed since.

        Args:
            node: What is changed.
            plan: Gives edit, arguments, what to return, and where the elements of a list go (`None` for
                "they stay"); or ``None`` for "nothing is to be done".
            again: Whether a plan that was overtaken is made anew; if not, only when it was something else
                that has changed.
        """
        for _ in range(ATTEMPTS_MAX):
            with self.lock:
                planned = plan()
                before = node._base
                if planned is None:
                    return None
                what, arguments, result, moves = planned
                root = node._root
                try:
                    root.send(node, node._path, True, what, arguments)
                except ConflictError as conflict:
                    self._retry(node, conflict)
                    if not again and not self.same(node._base, before):
                        raise
                    continue
                root._moves = None if moves is None else (node._path, moves)
                return result
        raise self._overtaken()

    def send(
        self, node: Node, path: Path, conditional: bool, what: str, arguments: tuple[Any, ...]
    ) -> int:
        self._moves = None
        try:
            return self.source.apply(path, conditional, what, arguments)
        except (NotFoundError, InvalidError) as error:
            # The place is gone, or holds another type: that is what is to be told.
            if not self.is_current():
                self.refresh()
            if node._root is not self:
                node._root.source.apply((), False, what, arguments)
            raise error

    def _retry(self, node: Node, conflict: ConflictError) -> None:
        if isinstance(conflict, DetachedError):
            raise conflict
        root = node._root
        if not root.is_current():
            root.refresh()
        if node._root is not root:
            raise DetachedError(cast("Gone", node._root.source)._why, conflict.key) from conflict

    def _overtaken(self) -> ConflictError:
        key = self.source.key
        text = f"key {key!r} was changed by others during each of {ATTEMPTS_MAX} attempts"
        return ConflictError(text, key)


def _follow(
    path: Path,
    old: Any,
    new: Any,
    lists: dict[Path, dict[int, int]],
    own: bool,
    moves: tuple[Path, dict[int, int]] | None,
    same: Callable[[Any, Any], bool],
) -> tuple[Path, Any] | None:
    """Where what lay at `path` of `old` lies in `new`, and what it is there."""
    place: list[Any] = []
    for depth, step in enumerate(path):
        if type(old) is not type(new):
            return None
        if type(new) is list:
            at = path[:depth]
            to = lists.get(at)
            if to is None:
                if not own:
                    to = _aligned(old, new, same)
                elif moves is not None and moves[0] == at:
                    to = moves[1]
                else:
                    to = dict(zip(range(len(old)), range(len(new)), strict=False))
                lists[at] = to
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


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same as they are stored: arrays have no `==` that says so, NaN is none."""
    return one is other or (
        type(one) is type(other) and native.encode_value(one) == native.encode_value(other)
    )


def _aligned(
    old: list[Any], new: list[Any], same: Callable[[Any, Any], bool]
) -> dict[int, int]:
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
