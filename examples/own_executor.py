"""
An executor of your own: each attempt in a process of its own.

A process can be killed and held, so a task on it can be cancelled, and suspended where
it stands; on a thread it cannot. One that dies takes no other task with it.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from taskorch import Task, TaskOrchestrator
from taskorch.errors import AttemptInterrupted
from taskorch.protocols import Attempt, AttemptExecutor

SPAWN = multiprocessing.get_context("spawn")


class Processes(AttemptExecutor[BaseProcess]):
    """Runs each attempt in a process of its own."""

    def begin(self, attempt: Attempt) -> BaseProcess:
        ours, theirs = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=work, args=(theirs, attempt.portable()))
        process.start()
        theirs.close()
        Thread(target=self._wait, args=(attempt, process, ours), daemon=True).start()
        return process

    def _wait(self, attempt: Attempt, process: BaseProcess, ours: Connection) -> None:
        value, error = None, None
        try:
            value = ours.recv()
        except EOFError:
            stopped = AttemptInterrupted("it was killed")
            lost = BrokenExecutor("its process has died")
            error = stopped if attempt.cancelled else lost
        process.join()
        attempt.end(value, error)

    def stop(self, begun: BaseProcess, grace: float) -> None:
        begun.kill()

    def can_hold(self) -> bool:
        return True

    def hold(self, begun: BaseProcess) -> None:
        self._signal(begun, signal.SIGSTOP)

    def resume(self, begun: BaseProcess) -> None:
        self._signal(begun, signal.SIGCONT)

    def _signal(self, begun: BaseProcess, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if begun.is_alive() and begun.pid is not None:
                os.kill(begun.pid, number)


def work(theirs: Connection, call: Callable[[], Any]) -> None:
    """In the other process: do it, and send back what came of it."""
    theirs.send(call())


def main() -> None:
    with TaskOrchestrator(executors={"own": Processes()}) as orch:
        power = orch.submit_task(Task.call(pow, 2, 10, executor="own"))
        print(power.result())
        endless = orch.submit_task(Task.call(time.sleep, 3600, executor="own"))
        until(orch, endless.task_id, "running")
        orch.suspend_task(endless.task_id)
        until(orch, endless.task_id, "suspended")
        orch.resume_task(endless.task_id)
        endless.cancel()
        until(orch, endless.task_id, "cancelled")


def until(orch: TaskOrchestrator, task_id: str, state: str) -> None:
    while orch.get_task_status(task_id).state != state:
        time.sleep(0.01)
    print(state)


if __name__ == "__main__":
    main()
