"""Values in parts, and files of values."""

import os
from typing import Any

__all__ = ["join_value", "split_value", "unpack_zstd"]

def split_value(value: Any, bytes_min: int) -> tuple[bytes, bytes] | None:
    """Head and content of the stored bytes of a bytes, str or array of at least `bytes_min` bytes."""

def join_value(head: bytes, content: bytes) -> Any:
    """The value of a head and its content."""

def unpack_zstd(path: str | os.PathLike[str]) -> bytes:
    """What a file that zstd compressed holds; all of it in memory."""
