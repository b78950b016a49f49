"""
Worker threads that are parked, not polled.

A worker that ends an attempt takes its next one in the same critical section, so a
busy orchestrator hands nothing over; a parked worker waits on a lock of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from taskorch.protocols import Attempt, AttemptExecutor


class Worker:
    """A worker thread, and the attempt that it runs."""

    __slots__ = ("current", "item", "leaving", "lock")

    def __init__(self, item: Any) -> None:
        #: Its next item; without one, it ends.
        self.item: Any = item
        #: Its current item; for the controller only.
        self.current: Any = None
        self.lock: threading.Lock = threading.Lock()
        self.lock.acquire()
        #: Whether it is not to be used again.
        self.leaving: bool = False


class WorkerThreads(AttemptExecutor[None]):
    """
    Worker threads: as many as there are attempts at once.

    A thread cannot be stopped from outside: its code asks whether it is to end. The
    controller begins an attempt on an idle worker by `start`, and `begin` on a new
    thread.

    Args:
        name: The prefix of the threads' names.
        run: Does an item on a worker, and returns the next item, or None. If None,
            it has put the worker into `idle` itself, in its own critical section.
        local: A thread-local that gets the attribute `worker`.
        keep: Idle threads that are kept.
        crashed: Called with an error that *run* raised, which it never should.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Worker, Any], Any],
        local: threading.local,
        keep: int,
        crashed: Callable[[BaseException], object],
    ) -> None:
        self._name = name
        self.run = run
        self._local = local
        self._crashed = crashed
        self._count = 0
        self.keep = keep
        #: Parked workers, the latest last; the controller's lock guards it.
        self.idle: list[Worker] = []
        #: Threads that have not ended, with their workers.
        self._threads: dict[threading.Thread, Worker] = {}

    def begin(self, attempt: Attempt) -> None:
        """Run *attempt* on a new thread; *run* gets the attempt as the item."""
        self.start(attempt, None)

    def start(self, item: Any, worker: Worker | None) -> None:
        """Run *item* on *worker*, taken from `idle`, or on a new thread if None."""
        if worker is not None:
            worker.item = item
            worker.lock.release()
            return
        self._count += 1
        worker = Worker(item)
        thread = threading.Thread(
            target=self._loop,
            args=(worker,),
            name=f"{self._name}-{self._count}",
            daemon=True,
        )
        self._threads[thread] = worker
        try:
            thread.start()
        except BaseException:
            del self._threads[thread]
            raise

    def end_idle(self, *, unassigned: bool = False) -> None:
        """
        End all idle threads; hold the controller's lock.

        Args:
            unassigned: Also those that were taken from `idle`, and never got an item.
        """
        idle, self.idle = self.idle, []
        if unassigned:
            idle = [
                worker
                for worker in self._threads.values()
                if worker.item is None
                and worker.current is None
                and worker.lock.locked()
            ]
        for worker in idle:
            # Without an item, it ends.
            worker.lock.release()

    def ending(self) -> list[threading.Thread]:
        """Return the threads that have nothing to do any more."""
        return [
            thread
            for thread, worker in list(self._threads.items())
            if thread.ident is not None
            and worker.current is None
            and thread is not threading.current_thread()
        ]

    def _loop(self, worker: Worker) -> None:
        self._local.worker = worker
        run = self.run
        park = worker.lock.acquire
        while True:
            item, worker.item = worker.item, None
            if item is None:
                break
            try:
                while item is not None:
                    item = run(worker, item)
                if worker.leaving:
                    break
                park()
            except BaseException as error:  # noqa: BLE001 - a fault of the controller's
                self._crashed(error)
                break
        self._threads.pop(threading.current_thread(), None)
