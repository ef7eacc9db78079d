"""An extension of griffe: shows the doctests of docstrings as code.

A docstring here has its example as a bare doctest behind its text, as `doctest` reads it; to Markdown that is a
quotation.
"""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """A docstring with a fence around each doctest, which ends at an empty line."""
    lines: list[str] = []
    is_open = False
    for line in text.splitlines():
        if line.startswith(">>> ") and not is_open:
            lines.append("```pycon")
            is_open = True
        elif is_open and not line.strip():
            lines.append("```")
            is_open = False
        lines.append(line)
    return "\n".join([*lines, "```"] if is_open else lines)


class Doctests(griffe.Extension):
    """Fences doctests before the docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """For each thing that has a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
