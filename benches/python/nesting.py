"""What live nesting costs: prints one JSON line a figure.

nesting.py [--quick] [--directory DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import figures

from objsync import DiskObject

READS = 50_000
PATCHES = 2_000
PAD = ["x" * 90] * 1000
"""Makes a value of some 92 KB."""


def reads(folder: Path, scale: int) -> None:
    count = READS // scale
    with DiskObject(folder / "reads", durability="buffered") as d:
        d.update((f"k{n}", {"x": {"y": n}, "l": [1, 2]}) for n in range(count))
        d["plain"] = 5
        keys = [f"k{n}" for n in range(count)]
        figures.together("nested read, first", keys, d.__getitem__)
        figures.together("nested read, not held", keys, d.__getitem__)
        held = d["k1"]
        figures.together("nested read, held", ["k1"] * count, d.__getitem__)
        figures.together("immutable read", ["plain"] * count, d.__getitem__)
        figures.together("field of a held dict", ["l"] * count, held.__getitem__)


def changes(folder: Path, scale: int) -> None:
    count = PATCHES // scale
    with DiskObject(folder / "changes", durability="buffered") as d:
        d["small"], d["large"], d["log"] = {"n": 0}, {"n": 0, "pad": PAD}, []
        small, large, log = d["small"], d["large"], d["log"]
        figures.each("patch of a field, small value", range(count), lambda n: small.__setitem__("n", n))
        figures.each("patch of a field, 92 KB", range(count), lambda n: large.__setitem__("n", n))
        figures.each("put of the whole, 92 KB", range(count), lambda n: d.__setitem__("whole", {"n": n, "pad": PAD}))
        figures.each("append", range(count), log.append)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--quick", action="store_true")
    cli.add_argument("--directory")
    args = cli.parse_args()
    scale = 20 if args.quick else 1
    with tempfile.TemporaryDirectory(dir=args.directory) as folder:
        reads(Path(folder), scale)
        changes(Path(folder), scale)


if __name__ == "__main__":
    main()
