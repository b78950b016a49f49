"""Jobs that learn how many threads a unit should have, while the work changes.

Each job indexes the documentation of the packages that are installed here. In the first
half a document is waited for before it can be read, as if it came over a network; in
the second half it is there. Waiting wants many threads, counting words wants few, and
nobody tells which it is: each job is rewarded for how soon it was done, less what its
threads cost. The picture shows a job in each line: its threads, and its reward.
"""

from __future__ import annotations

import time
from collections import Counter
from importlib.metadata import distributions

from taskorch.ext.jobs import Job, JobSystem, Unit

JOBS = 60
UNITS = 2
DOCUMENTS = 32

jobs = JobSystem(
    {
        "resource_pools": {
            "compute_units_total": 8,
            "thread_pool": {"max_threads": 32},
            "allocation_algorithm": {"min_chunk": {"compute_units": 2}},
        },
        "tadpole_execution": {
            "multithreading": {
                "default_threads_per_tadpole": 4,
                "max_threads_per_tadpole": 8,
            }
        },
    },
    floor=1,  # it may try what it likes
    memory=30,  # and soon forgets how it was
)


def documents() -> list[str]:
    """As many texts of the packages that are installed, some of them repeatedly."""
    found = [package.read_text("METADATA") or "" for package in distributions()]
    return [found[place % len(found)][:20_000] for place in range(DOCUMENTS)]


TEXTS = documents()


@jobs.objective("index-documents")
def index(unit: Unit, job: Job) -> int:
    """One unit: count the words of its share of the documents."""
    words: Counter[str] = Counter()

    def read(place: int) -> Counter[str]:
        time.sleep(job.metadata["wait"])
        return Counter(TEXTS[place].lower().split())

    for counted in unit.threads.map(read, unit.share(range(DOCUMENTS))):
        words.update(counted)
    unit.tell({"unit": unit.id, "done": len(words)})
    return len(words)


def main() -> None:
    """Run all jobs, one after the other, and draw what was learnt."""
    chosen: list[int] = []
    with jobs.orchestrator(seed=3) as orch:
        for number in range(JOBS):
            began = time.perf_counter()
            name = f"night-{number}"
            body = {
                "job_id": name,
                "objective": "index-documents",
                "tadpole_count": UNITS,
                "requested_resources": {
                    "compute_units": 4,
                    "memory_mb": 0,
                    "bandwidth_mbps": 0,
                },
                "metadata": {"wait": 0.01 if number < JOBS // 2 else 0.0},
            }
            threads = jobs.assign_job(body)["threads"]
            jobs.result(name)
            seconds = time.perf_counter() - began
            orch.wait()
            value = max(-1.0, min(1.0, 1 - 10 * seconds - 0.05 * threads))
            jobs.reward(name, value)
            orch.wait()
            chosen.append(threads)
            if number in {0, JOBS // 2}:
                print("waiting" if number < JOBS // 2 else "counting")
            print(f"{number:4}  {'#' * threads:8}  {value:+.2f}")
        print()
        for one in jobs.learned()["thread_pool_configuration"]:
            print(f"{one.arm} threads: {one.mean:+.2f} of {one.pulls:.0f} rewards")
        told = [f"{n}={v:.3f}" for n, v in jobs.metrics().items() if v is not None]
        print(", ".join(told))


if __name__ == "__main__":
    main()
