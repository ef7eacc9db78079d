"""Values as files, for an event loop: opened with `await`, read and written in threads."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, overload

from objsync import _files
from objsync._files import ValueReader, ValueWriter
from objsync._native import Handle, native_files

__all__ = ["Files"]


class Files:
    """What `objsync.aio.Object` has for values that are too large for memory."""

    _handle: Handle

    @property
    def chunking(self) -> Literal["fixed", "content"]:
        """How this handle cuts large values (see `objsync.Object.chunking`)."""
        return native_files.chunking(self._handle)

    @chunking.setter
    def chunking(self, name: Literal["fixed", "content"]) -> None:
        native_files.set_chunking(self._handle, name)

    @overload
    async def open(self, key: Any, mode: Literal["rb"] = "rb") -> ValueReader: ...
    @overload
    async def open(
        self,
        key: Any,
        mode: Literal["wb"],
        *,
        chunking: Literal["fixed", "content"] | None = None,
    ) -> ValueWriter: ...
    async def open(
        self,
        key: Any,
        mode: Literal["rb", "wb"] = "rb",
        *,
        chunking: Literal["fixed", "content"] | None = None,
    ) -> ValueReader | ValueWriter:
        """The bytes under `key` as a binary file, read or written in pieces (see `objsync.Object.open`).

        The file is the blocking one: use it in a thread, so that the event loop goes on.

        Cancelled: nothing was written; a file that was opened all the same is closed unused.

        >>> import asyncio
        >>> from objsync import aio
        >>> async def main():
        ...     async with aio.DiskObject("data.obj") as d:
        ...         f = await d.open("film", "wb")
        ...         await asyncio.to_thread(f.write, bytes(1_000_000))
        ...         await asyncio.to_thread(f.close)
        ...         f = await d.open("film")
        ...         return f.size, len(await asyncio.to_thread(f.read))
        >>> asyncio.run(main())
        (1000000, 1000000)
        """
        return await asyncio.to_thread(_files.opened, self._handle, key, mode, chunking)
