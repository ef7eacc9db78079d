"""Jobs that outlive their worker: one that is killed in the middle of a job loses its lock.

    lasting_jobs.py [ADDRESS] [JOBS]
"""

import multiprocessing
import sys
import time

from objsync import NetworkObject


def work(address: str, name: str) -> None:
    with NetworkObject(address, namespace="lasting jobs") as d, d.presence(("worker", name), "here"):
        while todo := [key for key, state in d.prefix("job:").items() if state != "done"]:
            for key in todo:
                lock = d.lock(key, ttl=1)
                if lock.acquire(blocking=False):
                    do(d, lock, key, name)
                    lock.release()
            time.sleep(0.05)  # the rest is in the hands of others, for as long as they live


def do(d: NetworkObject, lock, key: str, name: str) -> None:
    def finish(t) -> None:
        t.require(lock)  # whoever lost the lock changes nothing
        if t[key] != "done":
            t[key] = "done"
            t[("done by", name)] = t.get(("done by", name), 0) + 1

    if name == "mortal":
        d[key] = "begun"
        time.sleep(60)  # what is killed here never ends its job
    d.transact(finish)


def main(address: str = "localhost:8080", count: str = "20") -> None:
    with NetworkObject(address, namespace="lasting jobs") as d:
        d.clear()
        d.update((f"job:{number:04}", "new") for number in range(int(count)))
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work, args=(address, name)) for name in ("mortal", "ada", "bob")]
        with d.watch() as changes:
            workers[0].start()
            next(event for event in changes if event.value == "begun")
            workers[0].kill()
            gone = next(event for event in changes if event.kind == "expire")
            print(gone.key[1], "is gone")
        for worker in workers[1:]:
            worker.start()
        for worker in workers[1:]:
            worker.join()
        d.sync()
        done = {name: number for (_, name), number in d.prefix(("done by",)).items()}
        print(f"{sum(done.values())} of {count} done:", done)


if __name__ == "__main__":
    main(*sys.argv[1:])
