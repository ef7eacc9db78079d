"""Several reads and writes that happen as one, or are run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from objsync._native import Attempts, Handle, TransactionHandle
from objsync._types import K, V
from objsync._views import Items, Keys, RangeReader, Values
from objsync.errors import Error, InvalidError

if TYPE_CHECKING:
    from objsync._native import Lock

__all__ = ["Transaction", "Transactions", "end", "refuse_nested", "running", "transact"]

T = TypeVar("T")


class Transaction(MutableMapping[K, V]):
    """A dictionary at one moment, with changes on top; what the function of `Object.transact` gets.

    It reads as the dictionary does, and sees what it has itself changed. What is read is noted, ranges
    with the keys that were not there, and checked when the function has returned; so read what the
    decision rests on, and no more: `len` and a whole iteration read all keys.

    It can be used until its function returns.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"ann": 70, "bob": 30}) as d:
    ...     def move(t):
    ...         t["ann"] -= 20
    ...         t["bob"] += 20
    ...         return t["bob"], dict(t.prefix("a")), "carl" in t
    ...     d.transact(move)
    (50, {'ann': 50}, False)
    >>> with DiskObject("data.obj") as d, d.lock("accounts") as lock:
    ...     def close_all(t):
    ...         t.require(lock)
    ...         seen = t.get("carl"), list(t.keys()), list(t.values()), list(t.items()), dict(t.range("b"))
    ...         last = t.popitem(), t.copy()
    ...         t.clear()
    ...         return seen, last
    ...     d.transact(close_all)
    ((None, ['ann', 'bob'], [50, 50], [('ann', 50), ('bob', 50)], {'bob': 50}), (('bob', 50), {'ann': 50}))
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, handle: TransactionHandle) -> None:
        self._handle = handle

    @property
    def revision(self) -> int:
        """As of when it reads."""
        return self._handle.revision

    def _scan(
        self,
        what: str,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
    ) -> Iterator[Any]:
        return self._handle._scan(what, start, stop, prefix, reverse)

    def _entries(self, what: str, reverse: bool = False) -> Iterator[Any]:
        return self._scan(what, reverse=reverse)

    def __getitem__(self, key: K) -> V:
        value: V = self._handle[key]
        return value

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value of `key`; `default` when there is no such key."""
        return self._handle.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._handle

    def __len__(self) -> int:
        return len(self._handle)

    def __bool__(self) -> bool:
        return any(True for _ in self)  # reads up to the first key, where len reads all

    def __iter__(self) -> Iterator[K]:
        return self._entries("keys")

    def __reversed__(self) -> Iterator[K]:
        return self._entries("keys", reverse=True)

    def __setitem__(self, key: K, value: V) -> None:
        self._handle[key] = value

    def __delitem__(self, key: K) -> None:
        del self._handle[key]

    def popitem(self) -> tuple[K, V]:
        """Removes the last entry in key order and returns it; `KeyError` when there is none."""
        for key, value in self._entries("items", reverse=True):
            self._handle.discard(key)
            return key, value
        raise KeyError("popitem(): the dictionary is empty")

    def clear(self) -> None:
        """Deletes every key; at most as many as fit into one transaction."""
        for key in list(self):
            self._handle.discard(key)

    def keys(self) -> Keys[K]:
        """The keys in order: a view, as of ``dict.keys()``."""
        return Keys(self)

    def values(self) -> Values[V]:
        """The values in the order of their keys: a view, as of ``dict.values()``."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """The (key, value) pairs in the order of keys: a view, as of ``dict.items()``."""
        return Items(self)

    def range(self, start: K | None = None, stop: K | None = None) -> RangeReader[K, V]:
        """The entries with keys from `start` to before `stop`; ``None`` for no bound."""
        return RangeReader(self, start, stop)

    def prefix(self, prefix: str | bytes | tuple[Any, ...]) -> RangeReader[K, V]:
        """The entries whose keys begin so (see `Object.prefix`)."""
        return RangeReader(self, prefix=prefix)

    def copy(self) -> dict[K, V]:
        """All of it in a plain dict."""
        return dict(self.items())

    def require(self, lock: Lock) -> None:
        """Demands that `lock` is held, by this very object, when the transaction happens.

        Raises:
            FencedError: It is known to be lost already. Else `Object.transact` raises it, if it is
                lost by then.
            InvalidError: This object never took it.
        """
        self._handle.require(lock)

    def __repr__(self) -> str:
        return f"<Transaction at revision {self.revision}>"


class Running:
    """That a function of a transaction runs. Tasks that it starts inherit it, and may outlive it."""

    def __init__(self) -> None:
        self.is_over = False


_running: ContextVar[Running | None] = ContextVar("objsync_transaction", default=None)


def refuse_nested() -> None:
    """Refuses a transaction inside of the function of another."""
    outer = _running.get()
    if outer is not None and not outer.is_over:
        raise InvalidError(
            "a transaction cannot begin inside of another one: use the one that was given"
        )


@contextmanager
def running() -> Iterator[None]:
    """Marks that the function of a transaction runs, here and in what it starts."""
    mark = Running()
    token = _running.set(mark)
    try:
        yield
    finally:
        mark.is_over = True
        _running.reset(token)


def end(attempts: Attempts, transaction: TransactionHandle) -> None:
    """Ends a transaction that is not run again whatever it read: no error, the cause is another one."""
    with suppress(Error):
        attempts.give_up(transaction)


def transact(handle: Handle[K, V], run: Callable[[Transaction[K, V]], T]) -> T:
    """Runs a function until nothing that it read has changed meanwhile."""
    refuse_nested()
    attempts = Attempts(handle)
    while True:
        transaction = attempts.begin()
        try:
            with running():
                result = run(Transaction(transaction))
        except Exception:
            if attempts.give_up(transaction):
                continue
            raise
        except BaseException:
            end(attempts, transaction)
            raise
        if isinstance(result, CoroutineType):
            result.close()
            end(attempts, transaction)
            raise TypeError(
                f"{run!r} returned a coroutine: an async function is for objsync.aio, "
                "which has to see that it is one"
            )
        if attempts.commit(transaction):
            return result


class Transactions(Handle[K, V]):
    """What `Object` can do with transactions."""

    def transact(self, fn: Callable[[Transaction[K, V]], T]) -> T:
        """Runs `fn` on one moment of the dictionary, and makes what it changes: all of it or nothing.

        If anything that it read has changed by then, ranges with their missing keys included, nothing
        is changed, and `fn` is called again on a later moment, after a random pause. So it should do
        nothing besides what it does to its `Transaction`, which it is called with, and within a
        minute: for longer no moment is held.

        Strictly serializable: it is as if `fn` had run alone, at some time between call and return,
        also when it only reads. `last_ack` tells where it stands. Nobody waits for a transaction, and
        none can begin inside of another.

        Args:
            fn: Called with a `Transaction`. What it raises is raised here, and nothing is changed.

        Returns:
            What `fn` returned.

        Raises:
            ConflictError: Others were faster each time until the timeout; ``.key`` is what they
                changed.
            FencedError: A lock that it demanded (`Transaction.require`) is lost.
            InvalidError: It is over a limit: 16 MiB of changes, 65,536 keys or 1,024 ranges read.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj", {"ann": 100, "bob": 0}) as d:
        ...     def move(t):
        ...         if t["ann"] < 30:
        ...             raise ValueError("not enough")
        ...         t["ann"] -= 30
        ...         t["bob"] += 30
        ...         return t["ann"]
        ...     d.transact(move), d["bob"]
        (70, 30)
        """
        return transact(self, fn)
