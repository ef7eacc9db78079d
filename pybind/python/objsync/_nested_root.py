"""The root of live values: one for each key whose value somebody holds.

A root knows what was read of the value last, with what was changed from here since, and the live objects of
its containers. They ask it whether what they hold is current; if not, it reads, in the thread that asked, and
has each of them take what lies at its place now. An object whose place is gone, or holds another type, is
detached: it keeps what it was, and refuses every change.

Invariants
* Objects know their root, the root knows them weakly: nothing keeps a value in memory but who uses it.
* The value is never changed and never given out: objects hold copies of its containers.
* `lock` is held for whatever changes which object lies where and what it holds: reading anew, sending a change and
  taking it in, making an object. So under it the container of an object is what lies at its path in `value`.
* Who only reads takes no lock while the value is current. It is current only after all objects have taken it; an
  object's path is written before its container; and `_nodes` is either right for the paths there are, or empty.
* A change that was done is at once part of `value`, with the objects that it moves or ends: what others did in
  between is then all that a later read differs in.
* A change that names a place in a list is conditional on the revision the path was made from.
* No code of users runs under the lock but that of their codecs, and no other root's lock is asked for: what is to be
  stored was made plain before, and a plan is made outside of it.

Not here: what a method does (`_nested`), how bytes change (the owner of the store).
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from objsync._native import native_live
from objsync._nested_edits import (
    Index,
    Moves,
    Path,
    edited,
    follow,
    gone_from,
    moves_of,
    part_of,
    same,
    with_part,
)
from objsync._nested_source import Gone, Node, Source
from objsync.errors import ClosedError, ConflictError, DetachedError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Index", "Node", "Path", "Planned", "Root", "Source", "same"]

Planned = tuple[str, tuple[Any, ...], Any, "Moves | None"]
"""Edit, arguments, what to return, and where the elements of a list go (`None` for "they stay")."""

ATTEMPTS_MAX: Final = 1000
"""How often one change is decided anew because others were faster."""
_beginning: Final = threading.RLock()
UNREAD_COUNT_MAX: Final = 1024
"""Changes from here after which the value is read though nobody asks for it."""
SWEEP_COUNT_MIN: Final = 16
"""Objects that may be gone before a root forgets them."""


class Root:
    """The live objects of one value, and what is known of it."""

    __slots__ = (
        "__weakref__", "_late", "_nodes", "_sweep_at", "_torn", "_unread_count", "_within",
        "edits", "is_current", "lock", "source", "value",
    )  # fmt: skip

    classes: ClassVar[dict[type, Callable[[Root, Path, Any], Node]]] = {}
    """How an object for a plain container is made."""

    def __init__(self, source: Source, value: Any) -> None:
        self.source = source
        self.value = value
        self.is_current = source.is_current
        self.lock = threading.RLock()
        self.edits = (0, 0)
        """The thread of the newest change from here, and how many there were."""
        self._nodes: dict[Path, weakref.ref[Any]] = {}
        self._late: dict[Path, list[Any]] = {}
        """What was appended to lists and is not in `value` yet: many appends do not copy the list each."""
        self._sweep_at = SWEEP_COUNT_MIN
        self._torn: dict[Path, weakref.ref[Any]] | None = None
        """The objects of a change or a read that is under way, or was broken off half way."""
        self._within = 0
        """Above 0 while it is under way."""
        self._unread_count = 0
        """Changes from here since the value was last read."""

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
        """The object of the container `value` at `path`: the same for as long as somebody holds it."""
        with self.lock:
            self._mend()
            nodes = self._nodes
            known = nodes.get(path)
            node = None if known is None else known()
            if node is not None:
                return node
            node = self.classes[type(value)](self, path, value)
            if len(nodes) >= self._sweep_at:
                self._nodes = nodes = {path: ref for path, ref in nodes.items() if ref() is not None}
                self._sweep_at = max(SWEEP_COUNT_MIN, 2 * len(nodes))
            nodes[path] = weakref.ref(node)
            return node

    def child(self, node: Node, step: Any, value: Any) -> Any:
        """The object of the container at `step` of an object, where `value` was a moment ago."""
        with self.lock:
            root, path = node._root, (*node._path, step)
            if root is self:
                try:
                    now = node._base[step]
                except LookupError:
                    now = None
                if type(now) in self.classes:
                    return self.node(path, now)
                # Another thread has replaced it since: what was there is what this is.
                apart = self.classes[type(value)](self, path, value)
                self._detach(apart)
                return apart
        return root.child(node, step, value)

    def top(self) -> Any:
        """The object of the whole value as it is now; ``None`` where that is no container any more."""
        if not self.is_current():
            self.refresh()
        with self.lock:
            if type(self.value) not in self.classes:
                return None
            node = self.node((), self.value)
            if node.PLAIN is list:
                node._seen = node._base
            self.source.held(self, node)
            return node

    def replaced(self) -> None:
        """The whole value was replaced through this handle: all objects of the old one end."""
        with self.lock:
            self._settle()
            nodes, self._nodes = self._nodes, {}
            for known in nodes.values():
                node = known()
                if node is not None:
                    self._detach(node)
            self.value = None
            self.source.ended()

    def _detach(self, node: Node) -> None:
        key, path = self.source.key, node._path
        steps = "".join(f"[{step!r}]" for step in path)
        why = (
            f"the value at {key!r}{steps} was replaced or removed, and this object is what it was: "
            "read it again"
        )
        gone = Root(Gone(key, why), None)
        gone._nodes[path] = weakref.ref(node)
        # In one step, with the path as it was: who reads without the lock finds one root or the other.
        node._root = gone

    # Reads

    def refresh(self) -> None:
        """Reads the value anew, and has all objects take it."""
        with self.lock:
            self._mend()
            self._torn = self._nodes
            try:
                self._within += 1
                self._read()
            except ClosedError:
                self._torn = None  # What was known can still be read; a change is refused by the source.
            finally:
                self._within -= 1

    def _read(self) -> None:
        self._settle()
        try:
            changed, there, value, own = self.source.read()
        except MemoryError:
            raise
        except Exception:
            self._torn = None
            raise
        if changed:
            self._renew(value if there else None, own)
        self._unread_count = 0
        self.source.filled()
        self._torn = None

    def _mend(self) -> None:
        """Ends all objects if what was last done here was broken off half way, by Ctrl-C or for lack of memory.

        Nobody knows any more which element is which, and a change must not go to another one. Under the lock.
        """
        torn = self._torn
        if torn is None or self._within > 0:
            return
        for known in (*torn.values(), *self._nodes.values()):
            node = known()
            if node is not None and node._root is self:
                self._detach(node)
        self.source.ended()
        self._nodes, self._late = {}, {}
        changed, there, value, _ = self.source.read()
        if changed:
            self.value = value if there else None
        self.source.filled()
        self._torn = None

    def _renew(self, new: Any, own: bool) -> None:
        old, self.value = self.value, new
        nodes, self._nodes = self._nodes, {}
        lists: dict[Path, Moves] = {}
        left: dict[Path, weakref.ref[Any]] = {}
        for path, known in nodes.items():
            node = known()
            if node is None:
                continue
            found = follow(path, old, new, lists, own)
            if found is None or type(found[1]) is not node.PLAIN:
                self._detach(node)
                if not path:
                    self.source.ended()
                continue
            place, value = found
            node._fill(place, value, own)
            left[place] = known
        self._nodes = left

    # Changes

    def patch(
        self, node: Node, what: str, arguments: tuple[Any, ...] = (), steps: Path = ()
    ) -> int:
        """A change that means the same whatever others do meanwhile; `steps`: from the node on.

        The arguments are plain, and nobody's but the root's.
        """
        if _count(what, arguments) > native_live.PATCH_ITEMS_MAX:
            return cast("int", self.decide(node, lambda _: (what, arguments, 0, None), again=True))
        for _ in range(ATTEMPTS_MAX):
            root = node._root
            with root.lock:
                if node._root is not root:
                    continue
                # A path through a list is the right one only as of what was read.
                conditional = Index in map(type, node._path)
                try:
                    return root.send(node, conditional, what, arguments, None, steps)
                except ConflictError as conflict:
                    root._retry(node, conflict)
        raise self._overtaken()

    def decide(self, node: Node, plan: Callable[[Any], Planned | None], again: bool) -> Any:
        """A change that depends on what is there: planned, and done if nothing has changed since.

        Args:
            node: What is changed.
            plan: Is given the plain container; gives what is to be done, with arguments as for `patch`, or
                ``None`` for nothing. It is called without the lock, maybe several times.
            again: Whether a plan that was overtaken is made anew; if not, only when it was something else
                that has changed, and not the container since it was last read.
        """
        for _ in range(ATTEMPTS_MAX):
            base = node._check()
            root = node._root
            if not again:
                root.undisturbed(node)
            planned = plan(base)
            if planned is None:
                return None
            if root._do(node, base, planned):
                return planned[2]
        raise self._overtaken()

    def _do(self, node: Node, base: Any, planned: Planned) -> bool:
        """Does what was planned for a container, unless that has changed; what else has changed is no matter."""
        what, arguments, _, moves = planned
        for _ in range(ATTEMPTS_MAX):
            with self.lock:
                self._mend()
                if node._root is self and not same(node._base, base):
                    return False
                try:
                    node._root.send(node, True, what, arguments, moves)
                    return True
                except ConflictError as conflict:
                    self._retry(node, conflict)
        raise self._overtaken()

    def undisturbed(self, node: Any) -> None:
        """Raises if others have changed a list since it was last read."""
        with self.lock:
            base, seen = node._base, node._seen
            if seen is base:
                return
            node._seen = base
        if not same(base, seen):
            key = self.source.key
            raise ConflictError(
                f"key {key!r}: others have changed the list since it was read: read it again", key
            )

    def send(
        self,
        node: Node,
        conditional: bool,
        what: str,
        arguments: tuple[Any, ...],
        moves: Moves | None = None,
        steps: Path = (),
    ) -> int:
        """Has the source do a change, and the objects take it. Under the lock."""
        sent, given = what, arguments
        if _count(what, arguments) > native_live.PATCH_ITEMS_MAX:
            sent, given = "replace", (edited(node._base, what, arguments),)
        self._mend()
        if node._root is not self:
            return node._root.source.apply((), False, what, arguments)
        self._torn = self._nodes
        try:
            self._within += 1
            number = self._send(node, (conditional, sent, given, steps), (what, arguments, moves))
        finally:
            self._within -= 1
        self._unread_count += 1
        if self._unread_count >= UNREAD_COUNT_MAX and not self.is_current():
            # Who only writes would never let go of what others have removed.
            self.refresh()
        return number

    def _send(
        self,
        node: Node,
        sent: tuple[bool, str, tuple[Any, ...], Path],
        done: tuple[str, tuple[Any, ...], Moves | None],
    ) -> int:
        conditional, sent_what, given, steps = sent
        what, arguments, moves = done
        try:
            number = self.source.apply((*node._path, *steps), conditional, sent_what, given)
        except (NotFoundError, InvalidError) as error:
            self._torn = None
            # The place is gone, or holds another type: that is what is to be told.
            if not self.is_current():
                self.refresh()
            if node._root is not self:
                node._root.source.apply((), False, what, arguments)
            raise error
        except MemoryError:
            raise
        except Exception:
            self._torn = None
            raise
        if what == "incr":
            self._take(node, "set", (*steps, number), None)
        elif what != "remove" or number:
            self._take(node, what, arguments, moves)
        self._torn = None
        return number

    def _take(
        self, node: Node, what: str, arguments: tuple[Any, ...], moves: Moves | None
    ) -> None:
        """Has the objects be what a change from here made of what was known."""
        self.edits = (threading.get_ident(), self.edits[1] + 1)
        if what == "append":
            # What was read is not current any more: the next read comes by `refresh`.
            self._late.setdefault(node._path, []).extend(arguments)
            return
        self._settle()
        path, base = node._path, node._base
        if moves is None:
            moves = moves_of(base, what, arguments)
        gone = () if moves is not None else gone_from(base, what, arguments)
        self.value = with_part(self.value, path, edited(base, what, arguments))
        nodes, left = self._nodes, self._nodes
        if moves is not None or gone:
            self._nodes = {}
            left = self._moved(nodes, path, gone, moves)
        self._fill_to(path, left)
        self._nodes = left

    def _settle(self) -> None:
        """Has the objects take what was appended."""
        late, self._late = self._late, {}
        for path, items in late.items():
            new = edited(part_of(self.value, path), "append", tuple(items))
            self.value = with_part(self.value, path, new)
            self._fill_to(path, self._nodes)

    def _fill_to(self, path: Path, nodes: dict[Path, weakref.ref[Any]]) -> None:
        """Has the object at `path` take its container, and those around it theirs."""
        for depth in range(len(path) + 1):
            known = nodes.get(path[:depth])
            node = None if known is None else known()
            if node is not None:
                node._fill(node._path, part_of(self.value, node._path), True)

    def _moved(
        self, nodes: dict[Path, weakref.ref[Any]], path: Path, gone: Iterable[Any], moves: Moves | None
    ) -> dict[Path, weakref.ref[Any]]:
        """The objects by their places after what is at `path` has lost or moved some of its parts."""
        left: dict[Path, weakref.ref[Any]] = {}
        depth, ended = len(path), set(gone)
        for place, known in nodes.items():
            node = known()
            if node is None:
                continue
            if len(place) > depth and place[:depth] == path:
                step = place[depth]
                if step in ended or (moves is not None and step not in moves):
                    self._detach(node)
                    continue
                if moves is not None:
                    place = (*path, Index(moves[step]), *place[depth + 1 :])
                    node._fill(place, part_of(self.value, place), True)
            left[place] = known
        return left

    def _retry(self, node: Node, conflict: ConflictError) -> None:
        if isinstance(conflict, DetachedError):
            raise conflict
        if not self.is_current():
            self.refresh()
        if node._root is not self:
            raise DetachedError(cast("Gone", node._root.source)._why, conflict.key) from conflict

    def _overtaken(self) -> ConflictError:
        key = self.source.key
        text = f"key {key!r} was changed by others during each of {ATTEMPTS_MAX} attempts"
        return ConflictError(text, key)


def _count(what: str, arguments: tuple[Any, ...]) -> int:
    """How many items an edit names, for the limit of one patch."""
    return len(arguments[0]) if what == "merge" else len(arguments) if what != "replace" else 1
