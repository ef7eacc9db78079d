"""Debian's package index as a live dictionary: a dict for each package, under its name.

    load [ADDRESS] [TAG] [FILE...]  store it (default: what apt-get update fetched)
    copy [ADDRESS] [TAG]            hold a copy until a load with that tag is done
"""

import glob
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping

from objsync import NetworkObject


def lines(path: str) -> Iterator[str]:
    reader = ["cat"] if path.endswith("_Packages") else ["/usr/lib/apt/apt-helper", "cat-file"]
    with subprocess.Popen([*reader, path], stdout=subprocess.PIPE, encoding="utf-8") as process:
        yield from process.stdout or ()


def packages(text: Iterable[str]) -> Iterator[dict[str, str]]:
    package, field = dict[str, str](), ""
    for line in text:
        if line == "\n":  # ends each package, the last one too
            yield package
            package = {}
        elif line[0] in " \t":  # goes on from the line before
            package[field] += "\n" + line.strip()
        else:
            field, _, value = line.partition(":")
            package[field] = value.strip()


def digest(d: Mapping) -> str:
    content = sorted((k, sorted(v.items())) for k, v in d.items() if isinstance(v, dict))
    return f"{len(content)} packages, {hashlib.sha256(repr(content).encode()).hexdigest()}"


def load(address: str = "localhost:8080", tag: str = "1", *files: str) -> None:
    with NetworkObject(address, timeout=30) as d:
        with d.pipeline() as p:
            for path in files or sorted(glob.glob("/var/lib/apt/lists/*_Packages*")):
                for package in packages(lines(path)):
                    p[package["Package"]] = {**package, "Tag": tag}
        d[f"(loaded {tag})"] = True
        print(digest(d), d.status.role, flush=True)


def copy(address: str = "localhost:8080", tag: str = "1") -> None:
    with NetworkObject(address, replica="full", timeout=30) as d:
        with d.watch() as changes:
            print(f"{len(d)} packages before", flush=True)
            count = next(n for n, event in enumerate(changes) if event.key == f"(loaded {tag})")
        print(digest(d), d.status.role, f"after {count} changes", flush=True)


if __name__ == "__main__":
    {"load": load, "copy": copy}[sys.argv[1]](*sys.argv[2:])
