"""One JSON file as a dictionary whose every change is saved: an Object with a storage of its own.

    python json_file.py settings.json window.width 800
    python json_file.py settings.json

Sets a value, its path given with dots, or shows the file.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from objsync import Object


class JsonFile(Object):
    """A dict or list in a JSON file; the file is replaced as a whole, so nobody reads half of it."""

    def __init__(self, path: str, default_value: Any = None) -> None:
        self.path = Path(path)
        super().__init__(default_value)  # loads; so it comes after what load() needs

    def load(self) -> Any:
        return self.deserialise(self.path.read_bytes())  # FileNotFoundError: nothing is there yet

    def save(self, value: Any) -> None:
        new = self.path.with_suffix(".new")
        with open(new, "wb") as file:
            file.write(self.serialise(value))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def serialise(self, value: Any) -> bytes:
        return json.dumps(value, indent=1).encode()

    def deserialise(self, stored: bytes) -> Any:
        return json.loads(stored)


def main() -> None:
    path, *change = sys.argv[1:]
    with JsonFile(path, {"window": {"width": 640}, "recent": []}) as settings:
        if change:
            *parents, last = change[0].split(".")
            place = settings
            for name in parents:
                place = place[name]
            place[last] = json.loads(change[1])
            settings["recent"].append(change[0])
        print(json.dumps(dict(settings)))


if __name__ == "__main__":
    main()
