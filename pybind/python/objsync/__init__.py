"""A persistent dictionary that other programs share live.

`d["x"] = 1` in one process is on disk when it returns, and in everybody's dictionary a moment later;
a read is a look into local memory.

>>> from objsync import DiskObject
>>> with DiskObject("data.obj", {"visits": 0}) as d:
...     d["visits"] += 1
...     d["user:7"] = {"name": "Ada", "tags": {"admin", "staff"}}
...     sorted(d)
['user:7', 'visits']

| you write | the store is |
|---|---|
| `DiskObject("data.obj")` | that directory |
| `CompressedDiskObject("data.zst", compression_level=5)` | that directory, values compressed |
| `NetworkObject("host", 8080)` | the one served at that address |

Whoever opens a store first owns it and serves the others; when it goes, another takes over.
`objsync.aio` has the same names to `await`; `objsync.errors` has the exceptions.
"""

from objsync import errors
from objsync._classes import Unregistered, register, value
from objsync._files import ValueReader, ValueWriter
from objsync._native import __version__
from objsync._objects import (
    MISSING,
    Batch,
    CompressedDiskObject,
    DiskObject,
    Lease,
    Lock,
    Missing,
    NetworkObject,
    Object,
    Pipeline,
    Presence,
)
from objsync._nested import LiveDict, LiveList, LiveSet
from objsync._past import Past
from objsync._pickles import import_pickle
from objsync._reads import Conflicts, Snapshot
from objsync._records import Ack, Compression, Conflict, Event, Op, Outcome, Status, Version
from objsync._transaction import Transaction
from objsync._views import RangeReader, RangeView
from objsync._watch import Watch
from objsync.errors import Error

__all__ = [
    "MISSING",
    "Ack",
    "Batch",
    "CompressedDiskObject",
    "Compression",
    "Conflict",
    "Conflicts",
    "DiskObject",
    "Error",
    "Event",
    "Lease",
    "LiveDict",
    "LiveList",
    "LiveSet",
    "Lock",
    "Missing",
    "NetworkObject",
    "Object",
    "Op",
    "Outcome",
    "Past",
    "Pipeline",
    "Presence",
    "RangeReader",
    "RangeView",
    "Snapshot",
    "Status",
    "Transaction",
    "Unregistered",
    "ValueReader",
    "ValueWriter",
    "Version",
    "Watch",
    "__version__",
    "errors",
    "import_pickle",
    "register",
    "value",
]
