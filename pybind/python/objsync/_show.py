"""How an object shows itself: one line for `repr`, a table for a notebook.

Both ask only what this process knows, never wait, and never raise: a `repr` that raises hides the error it
was asked for. A link's secret is never shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from objsync._nested import Live

if TYPE_CHECKING:
    from objsync._native import Handle
    from objsync._records import Status

__all__ = ["line", "place_shown", "table", "value_shown"]

SHOWN_KEYS: Final = 10
"""Keys that the table of a notebook lists."""
SHOWN_CHARS: Final = 80
"""Characters of one key, of a text, or of a reason, that are shown."""
SHOWN_ITEMS: Final = 20
"""Items of a container that are shown."""
SHOWN_ITEMS_INSIDE: Final = 6
"""Items of a container in another one that are shown."""
SHOWN_LEVELS: Final = 3
"""Containers in one another that are shown."""
SHOWN_VALUE_CHARS: Final = 200
"""Characters of a value that are shown."""


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


def table(
    shown: Any, handle: Handle, place: str, value: Callable[[], Any] | None = None
) -> str:
    """The same as HTML, with the size on disk and the first keys where this process holds them.

    `value`: gives the value of an object that is one, which is shown in place of keys.
    """
    import html  # few programs show tables

    try:
        rows = _rows(handle, place, value)
    except Exception:
        return f"<code>{html.escape(line(shown, handle, place))}</code>"
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table><caption>{html.escape(type(shown).__name__)}</caption>{cells}</table>"


def _rows(
    handle: Handle, place: str, value: Callable[[], Any] | None
) -> list[tuple[str, str]]:
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
    if value is not None:
        return [row for row in rows if row[0] != "keys"] + [("value", value_shown(value()))]
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


def _cut(text: str, chars: int = SHOWN_CHARS) -> str:
    return text if len(text) <= chars else text[: chars - 3] + "..."


def value_shown(value: Any) -> str:
    """A value in at most `SHOWN_VALUE_CHARS` characters, and in one line; what is live as its plain one.

    Of containers and texts no more is looked at than is shown. It raises what the `repr` of an object in
    the value raises.
    """
    return _cut(_shown(value, SHOWN_LEVELS), SHOWN_VALUE_CHARS)


def _shown(value: Any, levels: int) -> str:
    if isinstance(value, Live):
        value = value._plain()
    kind: Any = type(value)
    if kind in (str, bytes, bytearray):
        return _cut(repr(value[:SHOWN_CHARS]) + ("..." if len(value) > SHOWN_CHARS else ""))
    if kind is int and value.bit_length() > 4 * SHOWN_CHARS:
        return f"<int of {value.bit_length()} bits>"  # Python may refuse to write it out
    if kind not in _BRACKETS or not value:
        # Of one object as a whole more is worth to be seen than of one among others.
        return _cut(" ".join(repr(value).split()), SHOWN_VALUE_CHARS if levels == SHOWN_LEVELS else SHOWN_CHARS)
    start, end = _BRACKETS[kind]
    if not levels:
        return f"{start}...{end}"
    count = SHOWN_ITEMS if levels == SHOWN_LEVELS else SHOWN_ITEMS_INSIDE
    if kind is dict:
        pairs = islice(value.items(), count)
        items = [f"{_shown(key, levels - 1)}: {_shown(item, levels - 1)}" for key, item in pairs]
    else:
        items = [_shown(item, levels - 1) for item in islice(value, count)]
    if len(value) > count:
        items.append("...")
    comma = "," if kind is tuple and len(value) == 1 else ""
    return f"{start}{', '.join(items)}{comma}{end}"


_BRACKETS: Final = {
    dict: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    list: ("[", "]"),
    set: ("{", "}"),
    tuple: ("(", ")"),
}
