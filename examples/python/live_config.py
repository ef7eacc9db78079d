"""A program that follows its configuration while it runs.

    live_config.py run [ADDRESS]                  the program: prints each change it obeys
    live_config.py set NAME VALUE [ADDRESS]       change it, from anywhere
"""

import sys

from objsync import NetworkObject

DEFAULTS = {"greeting": "hello", "interval": "60"}


def run(address: str = "localhost:8080") -> None:
    with NetworkObject(address, default_value=DEFAULTS, namespace="config") as config:
        watch = config.watch()
        print("running with", dict(config), flush=True)
        for event in watch:
            # A read is a look into local memory: no need to keep a copy of your own.
            print(f"{event.key} is now {config[event.key]}", flush=True)
            if event.key == "stop":
                return


def set_value(name: str, value: str, address: str = "localhost:8080") -> None:
    with NetworkObject(address, default_value=DEFAULTS, namespace="config") as config:
        before = config.get(name)
        config[name] = value
        print(f"{name}: {before} -> {value}")


if __name__ == "__main__":
    {"run": run, "set": set_value}[sys.argv[1]](*sys.argv[2:])
