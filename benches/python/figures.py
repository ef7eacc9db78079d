"""The figures objsync is measured by, from Python: prints one JSON line a figure.

figures.py --program OBJSYNC [--quick] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nesting
from objsync import CompressedDiskObject, DiskObject, NetworkObject


def record(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"user-{number}",
        "tags": ["alpha", "beta", str(number % 97)],
        "score": number * 0.5,
        "active": number % 2 == 0,
        "payload": f"{number * 2654435761 % 2**64:016x}" * 4,
    }


def say(figure: str, value: float, unit: str) -> None:
    print(json.dumps({"figure": figure, "value": value, "unit": unit}), flush=True)


def each(figure: str, items: Iterable[Any], call: Callable[[Any], object]) -> None:
    """Times single calls."""
    times = []
    for item in items:
        start = time.perf_counter_ns()
        call(item)
        times.append(time.perf_counter_ns() - start)
    say_times(figure, times)


def say_times(figure: str, times_ns: list[int]) -> None:
    times_ns.sort()
    say(f"{figure} p50", times_ns[len(times_ns) // 2] / 1e3, "us")
    say(f"{figure} p99", times_ns[len(times_ns) * 99 // 100] / 1e3, "us")


def together(figure: str, items: list[Any], call: Callable[[Any], object]) -> None:
    """Times many calls as one: for calls near the clock's own cost."""
    start = time.perf_counter_ns()
    for item in items:
        call(item)
    say(figure, (time.perf_counter_ns() - start) / 1e3 / len(items), "us")


def local(folder: Path, scale: int) -> None:
    count = 50_000 // scale
    pairs = [(f"user:{n:08}", record(n)) for n in range(count)]
    mixed = [pairs[n * 7919 % count] for n in range(count)]
    path = folder / "local"
    with DiskObject(path, durability="buffered") as d:
        each("local set buffered", mixed, lambda pair: d.__setitem__(*pair))
        together("local get", mixed, lambda pair: d[pair[0]])
        together("local get of 100 keys", mixed[:100] * (count // 100), lambda pair: d[pair[0]])
        start = time.perf_counter_ns()
        seen = sum(1 for _ in d.items())
        say("local items", (time.perf_counter_ns() - start) / 1e3 / seen, "us")
        start = time.perf_counter_ns()
        d.update((f"batch:{n:08}", value) for n, (_, value) in enumerate(pairs))
        say("local update", (time.perf_counter_ns() - start) / 1e3 / count, "us")
        each("local delete", mixed[: count // 2], lambda pair: d.__delitem__(pair[0]))
    start = time.perf_counter_ns()
    with DiskObject(path) as d:
        assert d[f"batch:{count - 1:08}"] == record(count - 1)
        say("local open and read", (time.perf_counter_ns() - start) / 1e6, "ms")
        each("local set sync", mixed[: max(20, 600 // scale)], lambda pair: d.__setitem__(*pair))
    with CompressedDiskObject(folder / "compressed", durability="buffered") as d:
        each("compressed set buffered", mixed[: count // 5], lambda pair: d.__setitem__(*pair))


def network(folder: Path, program: str, scale: int) -> None:
    command = [program, "--json", "serve", "--port", "0", "--data-dir", str(folder / "network")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    address = json.loads(server.stdout.readline())["address"]
    try:
        measure_network(address, scale)
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


def measure_network(address: str, scale: int) -> None:
    count = 2_000 // scale
    pairs = [(f"k:{n:08}", record(n)) for n in range(count)]
    d = NetworkObject(address, durability="buffered")
    each("network set buffered", pairs, lambda pair: d.__setitem__(*pair))
    together("network get", pairs * 5, lambda pair: d[pair[0]])
    each("network incr", range(count), lambda _: d.incr("counter"))
    with NetworkObject(address) as safe:
        each("network set sync", pairs[: count // 4], lambda pair: safe.__setitem__(*pair))
    seen(address, d, count)
    many = [(f"p:{n:08}", record(n)) for n in range(20_000 // scale)]
    start = time.perf_counter_ns()
    with d.pipeline() as p:
        for key, value in many:
            p[key] = value
    say("network set pipelined", len(many) / (time.perf_counter_ns() - start) * 1e9, "per s")
    start = time.perf_counter_ns()
    with NetworkObject(address) as late:
        keys = sum(1 for _ in late.items())
        say("network join", (time.perf_counter_ns() - start) / 1e6, "ms")
        say("network join keys", keys, "keys")
    d.close()


def seen(address: str, d: NetworkObject, count: int) -> None:
    """From the start of a set to the callback in another process."""
    command = [sys.executable, __file__, "--watch", address, "--count", str(count)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline().strip() == "ready"
    for n in range(count):
        d[f"seen:{n % 50}"] = {"sent_ns": time.monotonic_ns()}
        time.sleep(0.0005)  # as a program that does something else between
    say_times("network seen", json.loads(child.stdout.readline()))
    child.wait(20)
    child.stdout.close()


def watch(address: str, count: int) -> None:
    """The second process of `seen`."""
    delays: list[int] = []
    with NetworkObject(address) as d, d.watch(prefix="seen:") as changes:
        print("ready", flush=True)
        for event in changes:
            delays.append(time.monotonic_ns() - event.value["sent_ns"])
            if len(delays) == count:
                break
        print(json.dumps(delays), flush=True)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--program", default="objsync")
    cli.add_argument("--quick", action="store_true")
    cli.add_argument("--directory")
    cli.add_argument("--watch")
    cli.add_argument("--count", type=int)
    args = cli.parse_args()
    if args.watch:
        return watch(args.watch, args.count)
    scale = 10 if args.quick else 1
    with tempfile.TemporaryDirectory(dir=args.directory) as folder:
        local(Path(folder), scale)
        nesting.reads(Path(folder), scale)
        nesting.changes(Path(folder), scale)
        network(Path(folder), args.program, scale)


if __name__ == "__main__":
    main()
