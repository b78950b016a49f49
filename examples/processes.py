"""
Calls that need a core each, in worker processes: one is out of time, and one dies.

    python examples/processes.py
"""

import logging
import math
import os
import time

from taskorch import Task, TaskOrchestrator, TaskTimeoutError, current_context

log = logging.getLogger("primes")


def count_primes(first: int, last: int) -> int:
    """The same function as on a thread: it reports, and logs."""
    found = 0
    for number in range(first, last):
        found += all(number % n for n in range(2, math.isqrt(number) + 1))
    current_context().progress(last)
    log.info("%d below %d", found, last)
    return found


def never_ends() -> None:
    while True:
        time.sleep(1)


def dies_at_first() -> str:
    """Its first worker is gone in the middle; the next attempt goes on behind it."""
    context = current_context()
    if context.restored is None:
        context.checkpoint("half of it")
        os._exit(1)
    return f"attempt {context.attempt} went on with {context.restored}"


def main() -> None:
    logging.basicConfig(format="%(name)s: %(message)s", level="INFO")
    with TaskOrchestrator(executors={"process": 2}, grace=0.5) as orch:
        stuck = orch.submit_task(Task.call(never_ends, executor="process", timeout=1))
        parts = [
            Task.call(count_primes, n, n + 2_500, executor="process")
            for n in range(2, 10_002, 2_500)
        ]
        counts = [handle.result() for handle in orch.submit_tasks(parts)]
        print(f"{sum(counts)} primes in {len(counts)} parts")
        lost = orch.submit_task(Task.call(dies_at_first, executor="process"))
        print(lost.result())
        try:
            stuck.result()
        except TaskTimeoutError as error:
            print(error)


if __name__ == "__main__":
    main()
