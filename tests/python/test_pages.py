"""Every code block of docs/ runs and shows what its page says it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from page_run import Page, PageError
from pages import DOCS, RUN, Block, blocks, pages
from programs import DEADLINE_S, ROOT

OTHER = ("rust", "text", "json", "toml", "ini")
"""Languages that are shown and not run here."""


def run(all_of_it: list[Block], folder: Path) -> Page:
    page = Page(folder)
    try:
        page.run(all_of_it)
    finally:
        page.close()
    return page


def with_code() -> list[str]:
    return [page for page in pages() if any(block.language in RUN for block in blocks(page))]


@pytest.mark.timeout(4 * DEADLINE_S)
@pytest.mark.parametrize("name", with_code())
def test_page_runs_and_shows_what_it_says(name: str, tmp_path: Path) -> None:
    page = run(blocks(name), tmp_path)
    if name.startswith("coming-from/"):
        printed = list(page.printed.items())
        assert len(printed) == 2, f"{name} has the same program twice: {[file for file, _ in printed]}"
        (theirs, said), (ours, answered) = printed
        assert said == answered and said.strip(), f"{theirs} prints\n{said}\nand {ours}\n{answered}"


def test_every_block_says_its_language_and_why_it_is_not_run() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.language in RUN + OTHER or not block.language, block.place
            if block.not_run is not None:
                assert len(block.not_run) > 10, f"{block.place}: why is it not run?"


def test_no_python_of_a_page_is_left_out() -> None:
    left_out = [block.place for page in pages() for block in blocks(page) if block.language == "python" and block.not_run]
    assert not left_out


def test_rust_of_each_page_is_a_documentation_test() -> None:
    library = (ROOT / "tests" / "src" / "lib.rs").read_text()
    for page in pages():
        if any(block.language == "rust" for block in blocks(page)):
            assert f'include_str!("../../docs/{page}")' in library, f"docs/{page} is not in tests/src/lib.rs"


def test_every_page_is_in_the_navigation() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"^ +- (?:.*: )?([\w./-]+\.md)$", site, re.M))
    decisions = {str(path.relative_to(DOCS)) for path in (DOCS / "decisions").glob("0*.md")}
    assert set(pages()) - decisions - {"README.md"} <= named


WRONG = {
    "value": "```python\n1 + 1   # -> 3\n```",
    "line": "```python\nprint('a')\nprint('b')   # -> b\n```",
    "error": "```python\n{}['a']   # raises ValueError\n```",
    "no error": "```python\nlen('a')   # raises ValueError\n```",
    "failing": "```python\n{}['a']\n```",
    "doctest": "```python\n>>> 1 + 1\n3\n```",
    "command": "```sh\nfalse\n```",
    "command before another": "```sh\nfalse\ntrue\n```",
    "output": "```console\n$ echo a\nb\n```",
    "file": '```python title="a.py"\nprint(1)  # -> 2\n```',
    "file that fails": '```python title="a.py"\n1 / 0\n```',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_page_that_is_wrong_is_found(text: str, tmp_path: Path) -> None:
    with pytest.raises(PageError):
        run(blocks("a.md", text), tmp_path)


RIGHT = """
```python title="greet.py"
print("hello")
```

```python
a = 1 + 1
for n in range(2):
    n          # -> 0
               # -> 1
{}["x"]        # raises KeyError
```

```console
$ word=x; echo "a \\
> b"
a b
$ python greet.py
hello
```

1. A block in a list

    ```python
    >>> a
    2
    ```

<!-- not run: nobody could want that -->
```sh
exit 1
```

```sh
test $word = x
```
"""


def test_page_that_is_right_passes(tmp_path: Path) -> None:
    run(blocks("a.md", RIGHT), tmp_path)
