"""A chat of two terminals, or more: what is said is kept.

    chat.py NAME [ADDRESS]            type a line to say it; Ctrl-D leaves
"""

import sys

from objsync import Event, NetworkObject


def show(message: dict[str, str]) -> None:
    print(f"{message['who']}: {message['said']}", flush=True)


def main(name: str, address: str = "localhost:8080") -> None:
    with NetworkObject(address) as room:
        for _, message in room.prefix("chat:").items():
            show(message)

        def hear(event: Event) -> None:
            if event.value["who"] != name:
                show(event.value)

        with room.watch(hear, prefix="chat:"):
            print(f"-- {name} is here", flush=True)
            for line in sys.stdin:
                number = room.incr("chats")  # one order for everybody, and no two the same
                room[f"chat:{number:08}"] = {"who": name, "said": line.rstrip("\n")}


if __name__ == "__main__":
    main(*sys.argv[1:])
