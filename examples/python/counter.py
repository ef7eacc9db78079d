"""Processes that count together: no number is lost, whoever serves.

    counter.py [ADDRESS] [TIMES]      run it in two terminals at once
"""

import sys

from objsync import NetworkObject


def main(address: str = "localhost:8080", times: str = "1000") -> None:
    with NetworkObject(address) as d:
        first = d.incr("counter")
        for _ in range(int(times) - 1):
            last = d.incr("counter")
        print(f"from {first} to {last}, as {d.status.role}")


if __name__ == "__main__":
    main(*sys.argv[1:])
