"""Values as files: bytes that are read and written in pieces, and never whole in memory."""

from __future__ import annotations

import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from objsync._native import Handle, native_files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from objsync._objsync.files import Reader, Writer
    from objsync._records import Ack

__all__ = ["Files", "ValueReader", "ValueWriter"]

BUFFER_BYTES: Final = 256 << 10
"""To what small reads and writes are gathered."""


class _RawReader(io.RawIOBase):
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self.readall() if size < 0 else self.reader.read(size)

    def readall(self) -> bytes:
        return self.reader.read_all()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.reader.read(len(view))
        view[: len(data)] = data
        return len(data)

    def tell(self) -> int:
        return self.reader.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self.reader.tell()
        elif whence == io.SEEK_END:
            offset += self.reader.size
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence {whence}: it is 0, 1 or 2")
        if offset < 0:
            raise ValueError(f"seek to byte {offset}: it is before the start of the value")
        self.reader.seek(offset)
        return offset


class ValueReader(io.BufferedReader):
    """Bytes of a dictionary, read in pieces; made by `Object.open`.

    A binary file as ``open(path, "rb")`` gives one: `read`, `readinto`, `seek`, `tell`, iteration over
    lines. It reads the value that was there when it was opened, also after that was replaced, for as
    long as the store keeps it. At most some 10 MiB of the value are in memory.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        super().__init__(_RawReader(reader), BUFFER_BYTES)

    @property
    def size(self) -> int:
        """Bytes of the whole value."""
        return self._reader.size


    def peek(self, size: int = 0, /) -> bytes:
        """Some of the next bytes, without going on."""
        return super().peek(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills a buffer with the next bytes; returns how many there were."""
        return super().readinto(buffer)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """As `readinto`, with what needs at most one fetch."""
        return super().readinto1(buffer)


class _RawWriter(io.RawIOBase):
    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.written = 0
        self.is_wanted = True
        self.is_complete = False
        """Its file was closed on purpose, with all that was written. Whoever else closes this one, such
        as the garbage collector, has a part of the value."""
        self.ack: Ack | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        # What is left in a buffer as a writer is given up goes nowhere.
        count = self.writer.write(data) if self.is_wanted else memoryview(data).nbytes
        self.written += count
        return count

    def tell(self) -> int:
        return self.written

    def abort(self) -> None:
        self.is_wanted = False
        self.writer.abort()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self.is_wanted and self.is_complete:
                self.ack = self.writer.commit()
        finally:
            self.abort()
            super().close()


class ValueWriter(io.BufferedWriter):
    """Bytes on their way into a dictionary; made by `Object.open`.

    A binary file as ``open(path, "wb")`` gives one, without `seek`. What is written leaves in pieces,
    and the key changes when the file is closed, all at once. Left by an exception, or never closed,
    it changes nothing. At most some 16 MiB of the value are in memory.

    What wraps it and closes it with itself, such as `io.TextIOWrapper` in a ``with`` block of its own,
    closes it after an exception too, and a part of the value is put. So give the wrapper no block:
    leave the file's, with the wrapper flushed or detached before.

    >>> from objsync import DiskObject
    >>> with DiskObject("data.obj") as d:
    ...     with d.open("notes", "wb") as f:
    ...         text = io.TextIOWrapper(f, encoding="utf-8")
    ...         _ = text.write("first line")
    ...         text.flush()
    ...     d["notes"]
    b'first line'
    """

    def __init__(self, writer: Writer) -> None:
        self._raw = _RawWriter(writer)
        super().__init__(self._raw, BUFFER_BYTES)

    @property
    def ack(self) -> Ack | None:
        """Where the write stands, once the file was closed."""
        return self._raw.ack

    def close(self) -> None:
        """Puts what was written under the key; on disk, at the handle's level, when it returns.

        Raises what the dictionary does when a value is put; then the key stays as it was.
        """
        if self.closed:
            return
        try:
            self.flush()
        except BaseException:
            self.abort()
            raise
        self._raw.is_complete = True
        super().close()

    def detach(self) -> io.RawIOBase:
        """Refused, with `io.UnsupportedOperation`: what is under it cannot be closed on its own."""
        raise io.UnsupportedOperation("detach")

    def _dealloc_warn(self, _source: object) -> None:
        # So Python's text files say that they were never closed, right before they do it themselves.
        self._raw.abort()

    def flush(self) -> None:
        """Hands over what is gathered here. Nobody sees it before the file is closed."""
        super().flush()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Not of a file that is written: `io.UnsupportedOperation`."""
        raise io.UnsupportedOperation("readinto")

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Not of a file that is written: `io.UnsupportedOperation`."""
        raise io.UnsupportedOperation("readinto1")

    def abort(self) -> None:
        """Forgets what was written, and closes the file: the key stays as it was."""
        self._raw.abort()
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if not self.closed:
            self.abort()


class Files(Handle):
    """What `Object` has for values that are too large for memory."""

    _recipe: tuple[str, dict[str, Any]]

    @property
    def chunking(self) -> Literal["fixed", "content"]:
        """How this handle cuts the large values that it writes (docs/large-values.md).

        ``"fixed"``: every 64 KiB. ``"content"``: so that a later version with bytes put in the middle
        shares the rest with this one. Set, it holds for what is written from then on; readers need not
        know.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     d.chunking = "content"
        ...     d["dump"] = bytes(1_000_000)
        ...     d.chunking
        'content'
        """
        return native_files.chunking(self)

    @chunking.setter
    def chunking(self, name: Literal["fixed", "content"]) -> None:
        native_files.set_chunking(self, name)
        self._recipe[1]["chunking"] = name

    @overload
    def open(self, key: Any, mode: Literal["rb"] = "rb") -> ValueReader: ...
    @overload
    def open(
        self,
        key: Any,
        mode: Literal["wb"],
        *,
        chunking: Literal["fixed", "content"] | None = None,
    ) -> ValueWriter: ...
    def open(
        self,
        key: Any,
        mode: Literal["rb", "wb"] = "rb",
        *,
        chunking: Literal["fixed", "content"] | None = None,
    ) -> ValueReader | ValueWriter:
        """The bytes under `key` as a binary file, read or written in pieces; up to 16 TiB.

        Reading sees the value that is there now, to its end, whatever is put under the key meanwhile.
        Writing changes the key when the file is closed, all at once, and then it is as durable as any
        write of this handle; left by an exception it changes nothing.

        Args:
            key: The key.
            mode: ``"rb"`` to read, ``"wb"`` to write.
            chunking: How a value that is written is cut (docs/large-values.md): ``"fixed"``, every
                64 KiB, or ``"content"``, so that a later version with bytes put in the middle shares
                the rest with this one. Without it, as the handle was told.

        Raises:
            KeyError: To read, and there is no such key.
            TypeError: To read, and the value is not bytes; the message names key and type.

        >>> from objsync import DiskObject
        >>> with DiskObject("data.obj") as d:
        ...     with d.open("film", "wb") as f:
        ...         for _ in range(100):
        ...             _ = f.write(bytes(10_000))
        ...     with d.open("film") as f:
        ...         f.size, f.seek(-2, 2), f.read()
        (1000000, 999998, b'\\x00\\x00')
        """
        return opened(self, key, mode, chunking)


def opened(
    handle: Handle, key: Any, mode: str, chunking: str | None
) -> ValueReader | ValueWriter:
    """As `Files.open`, for any handle."""
    if mode == "rb":
        if chunking is not None:
            raise ValueError("chunking is for a value that is written")
        return ValueReader(native_files.open_read(handle, key))
    if mode == "wb":
        return ValueWriter(native_files.open_write(handle, key, chunking))
    raise ValueError(f"mode {mode!r}: it is 'rb' or 'wb'")
