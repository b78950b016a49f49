"""What the contestants are given to do, and how the peers do it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from benchmarks._timing import time_once

CONCURRENCY = 10
"""How many tasks run at once, for every contestant that has a limit."""


def noop() -> None:
    """Do nothing."""


def identity(number: int) -> int:
    """Do nothing to a number: `map` needs a function of one argument."""
    return number


async def noop_coroutine() -> None:
    """Do nothing, as a coroutine."""


class Blockers:
    """Functions that occupy slots until they are released."""

    def __init__(self) -> None:
        self._started = threading.Semaphore(0)
        self._gate = threading.Event()

    def block(self) -> None:
        """Hold a slot."""
        self._started.release()
        self._gate.wait()

    def wait_started(self, count: int) -> None:
        """Wait until `count` of them hold theirs."""
        for _ in range(count):
            if not self._started.acquire(timeout=30.0):
                raise RuntimeError("the blocking tasks did not start in 30 s")

    def occupy(self, submit: Callable[[Callable[[], None]], object]) -> None:
        """Fill every slot and wait until all are taken."""
        for _ in range(CONCURRENCY):
            submit(self.block)
        self.wait_started(CONCURRENCY)

    def release(self) -> None:
        """Let them all end."""
        self._gate.set()


class EventCounter:
    """A receiver that says when as many events as expected have come."""

    def __init__(self) -> None:
        self._seen = 0
        self._expected = 0
        self._complete = threading.Event()

    def expect(self, count: int) -> None:
        """Start to count."""
        self._seen = 0
        self._expected = count
        self._complete.clear()

    def receive(self, event: object) -> None:
        """Take one event."""
        self._seen += 1
        if self._seen == self._expected:
            self._complete.set()

    def wait(self) -> None:
        """Wait until all have come."""
        if not self._complete.wait(30.0):
            raise RuntimeError(f"{self._seen} of {self._expected} events came")


def pool_one_by_one(pool: ThreadPoolExecutor, count: int) -> None:
    """Submit no-ops to a pool one by one, then take every result."""
    futures = [pool.submit(noop) for _ in range(count)]
    for future in futures:
        future.result()


def pool_map(pool: ThreadPoolExecutor, count: int) -> None:
    """Send a range through the `map` of a pool."""
    for _ in pool.map(identity, range(count)):
        pass


async def gather_noops(count: int) -> None:
    """Run no-op coroutines with bare asyncio, all at once."""
    await asyncio.gather(*(noop_coroutine() for _ in range(count)))


def pool_alone(count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops one by one, in a process that does not know of taskorch."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        while True:
            yield {"seconds": time_once(lambda: pool_one_by_one(pool, count))}
