"""The way in for states that an older program kept as pickles: the only place that loads one.

objsync itself never writes a pickle and never reads one, on disk or from a peer.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from objsync._native import native_values
from objsync._objects import DiskObject, Object
from objsync.errors import DeniedError, InvalidError

__all__ = ["import_pickle"]

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
SHOWN_EVERY: Final = 5000
"""Keys between two steps of the progress that a terminal shows; fewer keys show none."""


def import_pickle(
    path: str | os.PathLike[str],
    into: Object | str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
) -> Any:
    """Reads the state that another program has pickled, such as a ``.pkl`` or ``.zst`` of blockdevice.

    **A pickle is a program: loading it runs code that stands in it**, with all that this process may
    do. Read only files that you, or somebody you would let log in as you, have made.

    Args:
        path: A file on this machine: a pickle of the whole state, or one that zstd has compressed (told
            by its first bytes, not by its name).
        into: Where to put the state, a mapping: an open object, as one transaction of at most 16 MiB; or
            the path of a new store, of any size, which is there whole or not at all. ``None`` to have
            the state returned instead.
        trust: Must be ``True``: says that the code in the file may run.

    Returns:
        How many keys were put; without `into`, the state as pickle made it.

    Raises:
        DeniedError: `trust` is not ``True``; nothing was loaded.
        InvalidError: The path is an address or no regular file; the store is there already; the state is
            too large for one transaction: then give a path.
        TypeError: The state is no mapping, or a value is of a type that is not stored (the error says where):
            load the state without `into`, change it, and put it yourself.

    What pickle itself raises goes through, such as ``ModuleNotFoundError`` for a class whose module is not
    here. Cost: all of the state in memory, twice while it is unpacked.

    >>> import pickle
    >>> with open("old.pkl", "wb") as file:
    ...     pickle.dump({"a": 1, ("b", 2): [3]}, file)
    >>> import_pickle("old.pkl", "new.obj", trust=True)
    2
    >>> with DiskObject("new.obj") as d:
    ...     d.copy()
    {'a': 1, ('b', 2): [3]}
    """
    if trust is not True:
        raise DeniedError(
            f"loading {os.fspath(path)!r} would run the code that stands in it: pass trust=True if you know who made it"
        )
    file = _regular(path)
    if into is not None and not isinstance(into, Object):
        _must_be_new(os.fspath(into))
    state = _load(file)
    if into is None:
        return state
    if not isinstance(state, Mapping):
        raise TypeError(
            f"the state in {file!r} is a {type(state).__name__}, no mapping: "
            "load it without into=, and put it under a key"
        )
    if isinstance(into, Object):
        _into_object(state, into)
    else:
        _into_new_store(state, os.fspath(into))
    return len(state)


def _regular(path: str | os.PathLike[str]) -> str:
    file = os.fspath(path)
    if "://" in file or file.startswith(("//", "\\\\")):
        raise InvalidError(f"path {file!r} is an address: a pickle is read from this machine only")
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise InvalidError(f"path {file!r} is no regular file")
    return file


def _load(file: str) -> Any:
    import pickle  # nothing else in this package needs it

    with open(file, "rb") as opened:
        if opened.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC:
            return pickle.loads(native_values.unpack_zstd(file))
        opened.seek(0)
        return pickle.load(opened)


def _into_object(state: Mapping[Any, Any], target: Object) -> None:
    with target.batch() as batch:
        for key, value in _shown(state):
            batch[key] = value


def _must_be_new(path: str) -> None:
    if os.path.lexists(path):
        raise InvalidError(f"store {path!r} is there already: give a new path, or the open object")


def _into_new_store(state: Mapping[Any, Any], path: str) -> None:
    """Makes the store under another name, and gives it its own when all is on disk."""
    import shutil  # takes longer to import than most of this package

    folder, name = os.path.split(os.path.abspath(path))
    part = os.path.join(folder, f".{name}.importing-{os.getpid()}")
    try:
        with DiskObject(part, durability="buffered") as store:
            store.update(_shown(state))
            store.flush()
        _must_be_new(path)
        os.rename(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _shown(state: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """The items of the state; on a terminal, how many have gone."""
    is_shown = len(state) > SHOWN_EVERY and sys.stderr.isatty()
    for count, item in enumerate(state.items(), 1):
        yield item
        if is_shown and (count % SHOWN_EVERY == 0 or count == len(state)):
            end = "\n" if count == len(state) else ""
            print(f"\rimported {count} of {len(state)} keys", end=end, file=sys.stderr, flush=True)
