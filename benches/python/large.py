"""A large value in and out, beside writing and hashing a file of its size: one JSON line a figure.

large.py --program OBJSYNC [--quick] [--directory DIR]

A ratio is the time that the floor takes by that of the value: 1 is as fast, 0.5 half as fast. The
floor of putting is to write, sync and hash a file (SHA-256, one thread); that of getting to read and
hash it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import say
from objsync import DiskObject, NetworkObject

MIB = 1 << 20
PIECE = MIB


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def floors(folder: Path, data: bytes) -> tuple[float, float]:
    """Seconds of writing and hashing a file, and of reading and hashing it."""
    path = folder / "floor"

    def write() -> None:
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(data), PIECE):
                file.write(data[start : start + PIECE])
            os.fsync(file.fileno())

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.read(PIECE):
                pass

    hashing = timed(lambda: hashlib.sha256(data).digest())
    written, was_read = timed(write), timed(read)
    path.unlink()
    mib = len(data) / MIB
    say("large: write and sync a file", mib / written, "MiB/s")
    say("large: SHA-256 of it", mib / hashing, "MiB/s")
    return written + hashing, was_read + hashing


def measure(where: str, d: DiskObject | NetworkObject, data: bytes, floor: tuple[float, float]) -> None:
    put_floor, get_floor = floor
    view = memoryview(data)
    got: list[bytes] = []

    def stream_in() -> None:
        with d.open("streamed", "wb") as file:
            for start in range(0, len(view), PIECE):
                file.write(view[start : start + PIECE])

    def stream_out() -> None:
        with d.open("put") as file:
            while file.read(PIECE):
                pass

    def figure(name: str, seconds: float, floor: float) -> None:
        say(f"large: {where} {name}", len(data) / MIB / seconds, "MiB/s")
        say(f"large: {where} {name}, by the floor", floor / seconds, "times")

    figure("put", timed(lambda: d.set("put", data)), put_floor)
    figure("get", timed(lambda: got.append(d["put"])), get_floor)
    if got.pop() != data:
        sys.exit("what came back is not what was put")
    figure("put again", timed(lambda: d.set("again", data)), put_floor)
    d.clear()
    # Other bytes, or none of them would have to be stored.
    data = bytes(reversed(data[: len(data) // 2])) + data[len(data) // 2 :]
    view = memoryview(data)
    figure("open wb", timed(stream_in), put_floor)
    d["put"] = data
    figure("open rb", timed(stream_out), get_floor)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--program", required=True)
    cli.add_argument("--quick", action="store_true")
    cli.add_argument("--directory", type=Path)
    args = cli.parse_args()
    data = os.urandom((64 if args.quick else 1024) * MIB)
    with tempfile.TemporaryDirectory(dir=args.directory) as folder:
        floor = floors(Path(folder), data)
        with DiskObject(Path(folder) / "store") as d:
            measure("owner", d, data, floor)
        os.environ["OBJSYNC_HOME"] = folder
        peer(args.program, Path(folder), data, floor)


def peer(program: str, folder: Path, data: bytes, floor: tuple[float, float]) -> None:
    import socket
    import subprocess

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = [program, "serve", "--port", str(port), "--data-dir", str(folder / "served")]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with NetworkObject("localhost", port, promote=False, timeout=30) as d:
                measure("peer", d, data, floor)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
