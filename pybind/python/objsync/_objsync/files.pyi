"""Values as files, and how large ones are cut; under `objsync._files`."""

from typing import Any, Literal, final

from typing_extensions import Buffer

from objsync._objsync import Handle
from objsync._records import Ack

__all__ = ["Reader", "Unread", "Writer", "chunking", "open_read", "open_write", "set_chunking"]

@final
class Reader:
    """Bytes that are read in pieces; under `objsync.ValueReader`."""

    @property
    def size(self) -> int:
        """Bytes of the value."""

    def tell(self) -> int:
        """Where the next read begins."""

    def seek(self, position: int) -> None:
        """Goes to a place."""

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count` and 1 MiB of them; none at the end."""

    def read_all(self) -> bytes:
        """All that is left."""

@final
class Unread:
    """A large value that is read when it is asked for; under `objsync.Version`."""

    def read(self) -> Any:
        """Reads it, each time anew."""

@final
class Writer:
    """Bytes that are written in pieces; under `objsync.ValueWriter`."""

    def write(self, data: Buffer) -> int:
        """Takes the next bytes; returns how many."""

    def commit(self) -> Ack:
        """Puts what was written under the key; gives its `Ack`."""

    def abort(self) -> None:
        """Forgets what was written: the key stays as it is."""

def chunking(handle: Handle) -> Literal["fixed", "content"]:
    """How a handle cuts large values."""

def set_chunking(handle: Handle, name: str) -> None:
    """Has a handle cut large values otherwise."""

def open_read(handle: Handle, key: Any) -> Reader:
    """Opens the bytes under a key to read them."""

def open_write(handle: Handle, key: Any, chunking: str | None = None) -> Writer:
    """Begins to write bytes under a key."""
