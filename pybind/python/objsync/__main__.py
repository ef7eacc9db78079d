"""``python -m objsync``: what only Python can do; all else is the program ``objsync``.

    python -m objsync import-pickle old.zst new.obj --trust
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from objsync._pickles import import_pickle


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, or 1 when it failed."""
    parser = argparse.ArgumentParser("python -m objsync", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("import-pickle", help="make a store of a pickled state")
    command.add_argument("file", help="a pickle of a dict, plain or compressed with zstd")
    command.add_argument("store", help="the store to make; it must not be there")
    command.add_argument(
        "--trust", action="store_true", help="needed: loading a pickle runs the code that stands in it"
    )
    given = parser.parse_args(arguments)
    try:
        count = import_pickle(given.file, given.store, trust=given.trust)
    except Exception as error:  # a pickle can raise anything
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{count} keys")
    return 0


if __name__ == "__main__":
    sys.exit(main())
