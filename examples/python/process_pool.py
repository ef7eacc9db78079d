"""Counts words in many processes at once, all of which write to one dictionary.

    python process_pool.py words.obj text.txt ...

A handle goes to a worker like any argument: the worker opens the same dictionary for itself.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from objsync import DiskObject


def count(words: DiskObject, path: str) -> int:
    texts = Path(path).read_text().split()
    with words.pipeline() as p:
        p[("file", path)] = len(texts)
    for word in texts:
        words.incr(("word", word.strip(".,:;").lower()))
    return len(texts)


def main() -> None:
    place, *paths = sys.argv[1:]
    with DiskObject(place, durability="buffered") as words, ProcessPoolExecutor(2) as pool:
        total = sum(pool.map(count, [words] * len(paths), paths))
        words.sync()
        counts = sorted(words.prefix(("word",)).items(), key=lambda item: -item[1])
        print(f"{total} words:", ", ".join(f"{key[1]} {n}" for key, n in counts[:3]))


if __name__ == "__main__":
    main()
