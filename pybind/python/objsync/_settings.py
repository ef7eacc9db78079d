"""What the constructors take, made into the settings that the compiled half reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from objsync.errors import InvalidError

__all__ = ["LINK_SCHEME", "absolute", "content", "target"]

LINK_SCHEME = "objsync://"
PORT_MAX = 65_535


def content(default_value: Mapping[Any, Any] | None) -> list[tuple[Any, Any]] | None:
    """The pairs that a new dictionary starts with."""
    if default_value is None:
        return None
    if not isinstance(default_value, Mapping):
        name = type(default_value).__name__
        raise TypeError(f"default_value is a {name}: it is a mapping, such as a dict, or None")
    pairs: Iterable[tuple[Any, Any]] = default_value.items()
    return list(pairs)


def absolute(path: str | os.PathLike[str]) -> str:
    """The path as it is from any working directory, so that a pickled handle finds it."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path is {type(text).__name__}: it is a str or a path of one, such as 'data.obj'")
    if not text:
        raise InvalidError("path '': it names no directory")
    return os.path.abspath(text)


def target(host: str, port: int | None) -> str:
    """``host:port``, or a link as it is."""
    if not isinstance(host, str):
        raise TypeError(f"host is a {type(host).__name__}: it is a str, such as 'localhost'")
    if port is None or host.startswith(LINK_SCHEME):
        return host
    if not isinstance(port, int) or isinstance(port, bool):
        what = "it is an int; a first content is named, default_value="
        raise TypeError(f"port is a {type(port).__name__}: {what}")
    if not 0 < port <= PORT_MAX:
        raise InvalidError(f"port {port}: it is 1 to {PORT_MAX}")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
