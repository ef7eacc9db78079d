"""Notes taken with or without a connection: what is written away from the owner is sent on return.

    offline.py ADDRESS                type "name text" to note it, "name" to read it; Ctrl-D leaves
"""

import sys

from objsync import NetworkObject


def main(address: str = "localhost:8080") -> None:
    with NetworkObject(address, offline="queue") as notes:
        notes.sync()  # from here on all of it is in memory
        print("-- ready", flush=True)
        for line in sys.stdin:
            name, _, text = line.strip().partition(" ")
            if not text:
                print(notes.get(name), flush=True)
                continue
            was = notes.get(name)
            # Whoever changed the note meanwhile is not overwritten: that is a conflict to look at.
            if was is None:
                ack = notes.set(name, text)
                print(f"{ack.durability}, {notes.status.queued} queued", flush=True)
            else:
                print(f"changed: {notes.compare_and_set(name, was, text)}", flush=True)
            for conflict in notes.conflicts:
                print(f"{conflict.key} is {conflict.actual!r}, not {conflict.wanted!r}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
