"""Why a call failed: one class for each thing a caller can do about it.

Every class derives from `Error` and from the builtin that a user would catch; each survives pickling.
The classes follow the error kinds of the protocol, whose number is `Error.number`.

>>> from objsync import DiskObject, errors
>>> with DiskObject("data.obj") as d:
...     try:
...         d["x" * 5000] = 1
...     except ValueError as error:
...         print(type(error).__name__, isinstance(error, errors.Error))
InvalidError True
"""

from __future__ import annotations

import errno
import os
from typing import Any, ClassVar

from objsync._records import Op

__all__ = [
    "BypassedError",
    "CallInterruptedError",
    "ClosedError",
    "ConflictError",
    "CorruptError",
    "DeniedError",
    "DependencyError",
    "DetachedError",
    "Error",
    "FencedError",
    "FullError",
    "HistoryGapError",
    "InvalidError",
    "LeaseExpiredError",
    "LockTimeoutError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PastRetentionError",
    "RebuildError",
    "SnapshotExpiredError",
    "StoreNotFoundError",
    "UnavailableError",
    "UnserialisableError",
    "UnsupportedError",
]


class Error(Exception):
    """Whatever objsync raises, apart from `KeyError` for a key that is not there.

    >>> str(Error("what happened"))
    'what happened'
    """

    number: ClassVar[int] = 0
    """The kind's number on the wire; 0 for `Error` itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        """What happened: the thing, the value and the limit."""

    def __str__(self) -> str:
        # Not inherited: KeyError shows its argument's repr, OSError looks for an errno.
        return self.message


class InvalidError(Error, ValueError):
    """The request itself is wrong (too long, too large, malformed): change it.

    Nothing was changed.
    """

    number: ClassVar[int] = 1


class UnserialisableError(InvalidError, TypeError):
    """A key or a value holds something of a type that is not stored. Nothing was changed.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     try:
    ...         d["k"] = {"a": [1, print]}
    ...     except TypeError as error:
    ...         print(error.path, error.type_name)
    value['a'][1] builtin_function_or_method
    """

    def __init__(self, message: str, path: str, type_name: str) -> None:
        super().__init__(message)
        self.args = (message, path, type_name)  # pickle rebuilds from args
        self.path = path
        """Where it is, as a Python expression such as ``value['a'][3]``."""
        self.type_name = type_name
        """Its type, with the module unless that is builtins."""


class RebuildError(InvalidError):
    """A stored object's class does not take what was stored: it has changed since.

    >>> error = RebuildError("stored object of class 'app.User' cannot be built", "app.User", {"id": 7})
    >>> error.name, error.value
    ('app.User', {'id': 7})
    """

    def __init__(self, message: str, name: str, value: Any) -> None:
        super().__init__(message)
        self.args = (message, name, value)  # pickle rebuilds from args
        self.name = name
        """The name of the class, as it stands in the store."""
        self.value = value
        """What was stored of the object."""


class PastRetentionError(InvalidError, LookupError):
    """The revision asked for is no longer kept: ask for a later one.

    Not a `KeyError`, so that it is never taken for a key that was not there.

    >>> error = PastRetentionError("revision 3 is no longer kept", 3, 7)
    >>> error.revision, error.oldest
    (3, 7)
    """

    def __init__(self, message: str, revision: int, oldest: int) -> None:
        super().__init__(message)
        self.args = (message, revision, oldest)  # pickle rebuilds from args
        self.revision = revision
        """The revision asked for."""
        self.oldest = oldest
        """The oldest revision that can be read."""


class NotFoundError(Error, KeyError):
    """There is no such namespace or link. A missing key is a plain `KeyError`."""

    number: ClassVar[int] = 2


class StoreNotFoundError(NotFoundError, FileNotFoundError):
    """There is no store at a path, and the object was to be opened for reading only.

    >>> StoreNotFoundError("there is no store at /srv/data.obj", "/srv/data.obj").path
    '/srv/data.obj'
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = os.fspath(path)
        """The path given."""
        self.errno = errno.ENOENT
        # Pickle rebuilds from args, and would add the filename to them if it were set.
        self.args = (message, self.path)

    def __str__(self) -> str:
        return self.message


class ConflictError(Error, RuntimeError):
    """Something changed in between: read again and decide again. Nothing was done.

    >>> ConflictError("key 'a' was changed by others", "a").key
    'a'
    """

    number: ClassVar[int] = 3

    def __init__(self, message: str, key: Any = None) -> None:
        super().__init__(message)
        self.args = (message, key)  # pickle rebuilds from args
        self.key = key
        """The key that others changed; ``None`` where it is not known or there is none."""


class DetachedError(ConflictError, LookupError):
    """The value that a live object stood for was replaced or removed: read it again. Nothing was done.

    Reading the object goes on to give what it was last.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"a": {"b": 1}}) as d:
    ...     old = d["a"]
    ...     del d["a"]
    ...     try:
    ...         old["b"] = 2
    ...     except LookupError as error:
    ...         print(error.key, old)
    a {'b': 1}
    """


class BypassedError(ConflictError):
    """A live object was changed past its methods, by C code that takes it for a plain container.

    That change was not stored, and is taken back: the object holds again what is stored. ``docs/nesting.md``
    lists such code; give it a copy.

    >>> import heapq
    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj", {"heap": [1, 3]}) as d:
    ...     heap = d["heap"]
    ...     heapq.heappush(heap, 2)
    ...     try:
    ...         len(heap)
    ...     except RuntimeError as error:
    ...         print(type(error).__name__, heap)
    BypassedError [1, 3]
    """


class FencedError(ConflictError):
    """A lock was lost: the lease under it ended, and somebody else may have held it since.

    A transaction that demanded the lock changed nothing; what else was done while it was held may
    have met another holder.
    """

    def __init__(self, message: str, lock: Any = None) -> None:
        super().__init__(message)
        self.args = (message, lock)
        self.lock = lock
        """The name of the lock."""


class LockTimeoutError(ConflictError, TimeoutError):
    """Somebody else held the lock for as long as the caller waited: wait longer, or try again."""

    def __init__(self, message: str, lock: Any = None) -> None:
        super().__init__(message)
        self.args = (message, lock)
        self.lock = lock
        """The name of the lock."""


class LeaseExpiredError(ConflictError, TimeoutError):
    """The lease has ended, and what lay under it is removed: begin another one."""

    def __init__(self, message: str, lease: int | None = None) -> None:
        super().__init__(message)
        self.args = (message, lease)
        self.lease = lease
        """The number of the lease."""


class HistoryGapError(ConflictError, LookupError):
    """Changes that a watch has not told of are no longer kept.

    Raised once, and only where every change is wanted: the next event of the same watch is the first one
    after ``oldest``, or where the object has a copy of its own, each key that differs as of ``oldest``
    comes before. Who only needs how things are reads the object and goes on.

    >>> error = HistoryGapError("the changes after revision 3 up to 7 are no longer kept", 3, 7, True)
    >>> error.after, error.oldest, error.same_history
    (3, 7, True)
    """

    def __init__(self, message: str, after: int, oldest: int, same_history: bool) -> None:
        super().__init__(message)
        self.args = (message, after, oldest, same_history)  # pickle rebuilds from args
        self.after = after
        """The revision up to which the watch has told everything."""
        self.oldest = oldest
        """The revision it goes on after: what lies between ``after`` and this, included, is missing."""
        self.same_history = same_history
        """Whether ``after`` lies on the store's history. If not, an owner ended uncleanly or a backup took
        its place: what was told of revisions above ``oldest`` may be void, and they are told anew."""


class SnapshotExpiredError(ConflictError, LookupError):
    """A snapshot is held no longer: too much has changed since, or it was held too long. Take a new one.

    >>> SnapshotExpiredError("the snapshot at revision 3 is no longer held", 3).revision
    3
    """

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.args = (message, revision)
        self.revision = revision
        """The revision of the snapshot."""


class DeniedError(Error, PermissionError):
    """This process may not do that: a link with more rights, or another server, is needed."""

    number: ClassVar[int] = 4


class UnavailableError(Error, ConnectionError):
    """Nobody answered, or not in time, and nothing was done: trying again is safe."""

    number: ClassVar[int] = 5


class CorruptError(Error, OSError):
    """Stored bytes are damaged. Trying again does not help; ``objsync check`` tells where."""

    number: ClassVar[int] = 6


class FullError(Error, OSError):
    """The disk or a bound of the store is full: make room. The write was not done."""

    number: ClassVar[int] = 7


class ClosedError(Error, ValueError):
    """The object is closed, or its store refuses writes after a failed one: open it again."""

    number: ClassVar[int] = 8


class OutcomeUnknownError(Error, TimeoutError):
    """The write was sent, its answer did not come in time: it may or may not have happened.

    `Object.outcome` asks which, given `op`.

    >>> error = OutcomeUnknownError("no answer in time", Op(3, 7, 2))
    >>> str(error.op)
    '3.7.2'
    """

    number: ClassVar[int] = 9

    def __init__(self, message: str, op: Op | None = None) -> None:
        super().__init__(message)
        self.args = (message, op)  # pickle rebuilds from args
        self.op = op
        """Which write; ``None`` where nobody can be asked."""


def unanswered(message: str, op: tuple[int, int, int]) -> OutcomeUnknownError:
    """The error for a write with these numbers."""
    return OutcomeUnknownError(message, Op(*op))


class UnsupportedError(Error, RuntimeError):
    """A format or protocol version that this version of objsync does not know: upgrade it."""

    number: ClassVar[int] = 10


class DependencyError(UnsupportedError, ImportError):
    """A value needs a package that is not installed here: install it, and read again.

    >>> DependencyError("the value has a numpy array in it: pip install numpy", "numpy").package
    'numpy'
    """

    def __init__(self, message: str, package: str) -> None:
        super().__init__(message)
        self.args = (message, package)  # pickle rebuilds from args
        self.package = package
        """Its name, as ``pip install`` takes it."""


class CallInterruptedError(Error, InterruptedError):
    """The caller was interrupted while it waited. A write may or may not have happened.

    Ctrl-C raises `KeyboardInterrupt` as everywhere; this is for an interrupt without an exception.
    """

    number: ClassVar[int] = 11
