"""Debian's package index, live: two loads, a copy in another process, and a server that is killed.

The index is the one that `apt-get update` fetched; on a machine without one, a made one of the same
shape and size.
"""

from __future__ import annotations

import glob
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import objsync
from programs import DEADLINE_S, EXAMPLES, Program, Server, stop_all

sys.path.insert(0, str(EXAMPLES))
import debian_index  # noqa: E402

PACKAGES_MIN = 60_000
SCRIPT = EXAMPLES / "debian_index.py"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OBJSYNC_HOME", str(tmp_path / "home"))
    yield
    stop_all()


def made_index(path: Path, count: int) -> Path:
    """An index of the shape of Debian's: fields, a folded description, names in order."""
    chance = random.Random(7)
    words = ["library", "for", "shared", "tools", "of", "the", "small", "documentation", "runtime"]
    with path.open("w") as out:
        for number in range(count):
            size = chance.randrange(1_000, 10_000_000)
            text = " ".join(chance.choices(words, k=60))
            out.write(
                f"Package: made-{number:06}\nVersion: 1.{number % 40}-{number % 7}\n"
                f"Installed-Size: {size // 1024}\nMaintainer: Somebody <somebody@example.org>\n"
                f"Architecture: amd64\nDepends: libc6 (>= 2.36), made-{chance.randrange(count):06}\n"
                f"Description: {text[:60]}\n {text[60:160]}\n {text[160:260]}\nSection: misc\n"
                f"Priority: optional\nFilename: pool/main/m/made/made-{number:06}_amd64.deb\n"
                f"Size: {size}\nSHA256: {chance.randbytes(32).hex()}\n\n"
            )
    return path


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files to load: Debian's main index if it is here, else a made one."""
    here = [
        path
        for path in sorted(glob.glob("/var/lib/apt/lists/*_main_binary-*_Packages*"))
        if sum(1 for _ in debian_index.packages(debian_index.lines(path))) >= PACKAGES_MIN
    ]
    made = tmp_path_factory.mktemp("lists") / "made_Packages"
    return here[:1] or [str(made_index(made, PACKAGES_MIN))]


def counted(line: str) -> tuple[str, str]:
    """The part of a line that tells the content, and the role behind it."""
    content, _, rest = line.partition(", ")
    digest, role, *_ = rest.split()
    return f"{content}, {digest}", role


def expected(files: list[str], tag: str) -> str:
    packages = (p for path in files for p in debian_index.packages(debian_index.lines(path)))
    return debian_index.digest({p["Package"]: {**p, "Tag": tag} for p in packages})


@pytest.mark.timeout(600)
def test_load_goes_on_when_its_server_is_killed_and_all_copies_end_equal(
    tmp_path: Path, index: list[str]
) -> None:
    server = Server(tmp_path / "store")
    address = server.address.replace("127.0.0.1", "localhost")

    first_copy = Program(SCRIPT, "copy", address, "first")
    first_copy.wait_for("0 packages before")
    load = Program(SCRIPT, "load", address, "first", *index)
    wanted = expected(index, "first")
    assert counted(load.last_line()) == (wanted, "peer")
    assert counted(first_copy.last_line()) == (wanted, "peer")

    # The second load gives every package a new tag; its server dies when a part of it is done.
    copy = Program(SCRIPT, "copy", address, "second")
    assert copy.next_line(time.monotonic() + DEADLINE_S) != "0 packages before"
    load = Program(SCRIPT, "load", address, "second", *index)
    with objsync.NetworkObject(address, promote=False, replica="none") as watcher:
        with watcher.watch() as changes:
            seen = sum(1 for _, event in zip(range(5_000), changes))
    assert seen == 5_000
    server.kill()

    wanted = expected(index, "second")
    load_content, load_role = counted(load.last_line())
    copy_content, copy_role = counted(copy.last_line())
    assert load_content == copy_content == wanted
    assert "owner" in (load_role, copy_role), "somebody took over"

    with objsync.DiskObject(tmp_path / "store") as on_disk:
        assert on_disk.status.role == "owner"
        assert debian_index.digest(on_disk) == wanted


def test_made_index_reads_as_debian_writes_it(tmp_path: Path) -> None:
    path = made_index(tmp_path / "x_Packages", 3)
    packages = list(debian_index.packages(debian_index.lines(str(path))))
    assert [package["Package"] for package in packages] == ["made-000000", "made-000001", "made-000002"]
    assert packages[0]["Description"].count("\n") == 2
    assert packages[2]["Priority"] == "optional"
