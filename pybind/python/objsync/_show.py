"""How an object shows itself: one line for `repr`, a table for a notebook.

Both ask only what this process knows, never wait, and never raise: a `repr` that raises hides the error it
was asked for. A link's secret is never shown.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from objsync._native import Handle
    from objsync._records import Status

__all__ = ["line", "place_shown", "table"]

SHOWN_KEYS: Final = 10
"""Keys that the table of a notebook lists."""
SHOWN_CHARS: Final = 80
"""Characters of one key, or of a reason, that are shown."""


def place_shown(place: str) -> str:
    """A path or an address as it is, a link without its secret."""
    return place if "://" not in place else place.partition("?")[0]


def line(shown: Any, handle: Handle, place: str) -> str:
    """What an object is, where, in which role, at which revision, with how many keys."""
    name = type(shown).__name__
    try:
        place = place_shown(place)
        status = handle.status
        parts = [_at(status, place), status.role]
        if status.role != "closed":
            parts.append(f"rev {status.revision},")
            parts.append("keys not counted" if status.keys is None else _count(status.keys, "key"))
        if status.namespace != "default":
            parts.append(f"in {status.namespace!r}")
        if status.reason:
            parts.append(f"({_cut(status.reason)})")
        return f"<{name} {' '.join(parts)}>"
    except Exception:
        return f"<{name} {place!r} closed>" if place else f"<{name} not open>"


def table(shown: Any, handle: Handle, place: str) -> str:
    """The same as HTML, with the size on disk and the first keys where this process holds them."""
    import html  # few programs show tables

    try:
        rows = _rows(handle, place)
    except Exception:
        return f"<code>{html.escape(line(shown, handle, place))}</code>"
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table><caption>{html.escape(type(shown).__name__)}</caption>{cells}</table>"


def _rows(handle: Handle, place: str) -> list[tuple[str, str]]:
    status = handle.status
    place = place_shown(place)
    rows = [
        ("role", status.role),
        ("address", status.address or place),
        ("namespace", status.namespace),
        ("revision", str(status.revision)),
        ("keys", "not counted" if status.keys is None else str(status.keys)),
        ("size", _size(status.directory)),
    ]
    # Elsewhere each key would be a question to the owner.
    if status.role == "owner" or (status.role == "peer" and status.keys is not None):
        first = [_cut(repr(key)) for key in islice(handle, SHOWN_KEYS + 1)]
        more = ", ..." if len(first) > SHOWN_KEYS else ""
        rows.append(("first keys", ", ".join(first[:SHOWN_KEYS]) + more))
    return rows


def _at(status: Status, place: str) -> str:
    """The address where that is what the object was opened by, else the directory."""
    is_path = os.path.isabs(place)
    return _cut(repr(place)) if is_path else _cut(status.address or place)


def _size(directory: str | None) -> str:
    if directory is None:
        return "on another machine"
    total = 0
    with os.scandir(directory) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in [directory, *folders]:
        with os.scandir(folder) as entries:
            total += sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file())
    return f"{total / 2**20:.1f} MiB on disk"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
