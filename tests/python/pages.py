"""The pages of docs/ and the code blocks in them, in order.

A block is what its fence says: ```python runs in the page's Python, ```sh in the page's shell, ```console
is commands behind `$ ` with what they print, and a block with a `title` is a file of that name. A comment
`<!-- not run: why -->` on the line before a fence takes its block out, and has to say why.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from programs import ROOT

DOCS = ROOT / "docs"
RUN = ("python", "sh", "console")
"""The languages that are run here; `rust` is a documentation test of the tests' own crate."""

FENCE = re.compile(r"^( *)```(.*)$")
NOT_RUN = re.compile(r"^ *<!-- not run:(.*)-->$")
TITLE = re.compile(r'\btitle="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Of its first line of code, from 1."""
    language: str
    title: str | None
    """The file that it is, if it is one."""
    code: str
    not_run: str | None
    """Why it is not run; none if it is."""

    @property
    def place(self) -> str:
        return f"docs/{self.page}:{self.line}"


def pages() -> list[str]:
    """The pages by their paths below docs/."""
    return sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def blocks(page: str, text: str | None = None) -> list[Block]:
    """The blocks of a page; of `text` where that is given."""
    lines = (DOCS / page).read_text() if text is None else text
    found: list[Block] = []
    opened: tuple[int, str, str, str | None] | None = None
    code: list[str] = []
    before = ""
    for number, line in enumerate(lines.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            reason = NOT_RUN.match(before)
            opened = (number, fence[1], fence[2].strip(), reason[1].strip() if reason else None)
            code = []
        elif opened is not None and fence and fence[1] == opened[1] and not fence[2].strip():
            found.append(_block(page, opened, code))
            opened = None
        elif opened is not None:
            code.append(line)
        before = line
    assert opened is None, f"docs/{page}:{opened[0]}: this block is not closed"
    return found


def _block(page: str, opened: tuple[int, str, str, str | None], code: list[str]) -> Block:
    number, _, info, not_run = opened
    language = info.split(" ")[0]
    title = TITLE.search(info)
    text = textwrap.dedent("\n".join(code)) + "\n"
    return Block(page, number + 1, language, title[1] if title else None, text, not_run)


def page_file(page: str) -> Path:
    """Where a page lies."""
    return DOCS / page
