"""A queue of work for many processes: each job is done by exactly one of them.

    work_queue.py [ADDRESS] [JOBS] [WORKERS]
"""

import multiprocessing
import sys
from collections import Counter

from objsync import NetworkObject


def work(address: str, name: str) -> None:
    with NetworkObject(address, namespace="jobs") as jobs:
        for key, job in list(jobs.prefix("job:").items()):
            # Only one worker finds the job as it was; the others take the next.
            if jobs.compare_and_set(key, job, {**job, "state": "running", "by": name}):
                result = job["n"] ** 2
                jobs[key] = {**job, "state": "done", "by": name, "result": result}


def main(address: str = "localhost:8080", count: str = "200", workers: str = "4") -> None:
    with NetworkObject(address, namespace="jobs") as jobs:
        jobs.clear()
        jobs.update((f"job:{n:06}", {"n": n, "state": "new"}) for n in range(int(count)))
        context = multiprocessing.get_context("spawn")
        names = [f"worker {n}" for n in range(int(workers))]
        processes = [context.Process(target=work, args=(address, name)) for name in names]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        jobs.sync()  # from here on we see all that they wrote
        done = [job for job in jobs.values() if job["state"] == "done"]
        assert all(job["result"] == job["n"] ** 2 for job in done)
        print(f"{len(done)} of {len(jobs)} done:", dict(Counter(job["by"] for job in done)))


if __name__ == "__main__":
    main(*sys.argv[1:])
