"""A hook of mkdocs: puts pages that lie outside of docs/ into the site, and leads links to where they are there.

In the repository README.md, CONTRIBUTING.md and CHANGELOG.md lie at the top and link into docs/, as a reader of
files wants it; in the site they are pages like the others.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
"""What is taken in, by its path in the repository, and its path in the site."""

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")
RUST = re.compile(r"^```rust\n.*?^```", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads the links of a page to where they are in the site, and hides what Rust hides in its examples."""
    site = page.file.src_uri
    inside = {page: source for source, page in OUTSIDE.items()}
    here = posixpath.dirname(inside.get(site, f"docs/{site}"))

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[1]))
        if target in OUTSIDE:
            target = OUTSIDE[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return link[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(site) or '.')}{link[2] or ''})"

    def without_hidden(block: re.Match[str]) -> str:
        return re.sub(r"^# .*\n", "", block[0], flags=re.M)

    return RUST.sub(without_hidden, LINK.sub(lead, markdown))
