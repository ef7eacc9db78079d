"""The way to the compiled half, which says plainly when it cannot be loaded."""

import sys
import sysconfig

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError(
        "objsync needs the interpreter lock, and this is a free-threaded Python: "
        f"use the usual build of Python {sys.version_info.major}.{sys.version_info.minor}"
    )

from objsync._objsync import (
    Batch,
    Calls,
    Events,
    Handle,
    Pages,
    PastHandle,
    Pipeline,
    __version__,
)
from objsync import _objsync as native
from objsync._objsync import files as native_files
from objsync._objsync import leases as native_leases
from objsync._objsync import live as native_live
from objsync._objsync import transactions as native_transactions
from objsync._objsync import values as native_values
from objsync._objsync.files import Unread
from objsync._objsync.leases import Lease, Lock, Presence
from objsync._objsync.transactions import Attempts, TransactionHandle

__all__ = [
    "Attempts",
    "Batch",
    "Calls",
    "Events",
    "Handle",
    "Lease",
    "Lock",
    "Pages",
    "PastHandle",
    "Pipeline",
    "Presence",
    "TransactionHandle",
    "Unread",
    "__version__",
    "native",
    "native_files",
    "native_leases",
    "native_live",
    "native_transactions",
    "native_values",
]
