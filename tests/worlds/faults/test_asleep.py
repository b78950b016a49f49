"""The process was stopped, or held up: whom it could not hear meanwhile is not lost."""

from __future__ import annotations

import signal
import time
from typing import Any

from tests.api.tools import eventually, pass_time
from tests.worlds.faults.tools import PATIENCE, Process, say

from taskorch import TaskOrchestrator
from taskorch.core.engine._attempts import WorkerRunner
from taskorch.model import Agent
from taskorch.protocols import Admission, Order

LEASE = 1.0


def far_away(orch: TaskOrchestrator, lease: float = LEASE) -> Any:
    """A worker with a lease joins; its row."""
    info = Agent("far", capabilities={"x"}, lease=lease)
    orch._rt.add_worker(info, WorkerRunner("far", print, orch._rt.threads))
    return orch._rt.kernel.workers["far"]


def beat(orch: TaskOrchestrator) -> None:
    orch._rt.step(lambda now: orch._rt.kernel.beat("far", (), now))


def live_with_a_worker() -> None:
    """It gives a sign of life twenty times in its lease."""
    with TaskOrchestrator() as orch:
        worker = far_away(orch)
        lost: list[Any] = []
        orch.signals.agent_lost.connect(lost.append)
        say("ready")
        for _ in range(100):
            time.sleep(LEASE / 20)
            beat(orch)
        orch.wait(1)
        say(len(lost), worker.lost)


def test_no_worker_is_lost_since_the_process_was_stopped() -> None:
    """Whichever thread runs first when it goes on."""
    with Process(live_with_a_worker) as process:
        assert process.line() == "ready"
        for _ in range(4):
            time.sleep(LEASE / 4)
            process.hold()
            time.sleep(1.6 * LEASE)
            process.send(signal.SIGCONT)
        assert process.line() == "0 False"


def test_who_is_silent_after_a_sleep_is_lost_after_a_lease() -> None:
    """One lease, and not another for each look."""
    with TaskOrchestrator() as orch:
        worker = far_away(orch, lease=0.4)
        pass_time(orch, 60)
        eventually(lambda: worker.lost)


class Slow:
    """A queue that takes longer than a lease to answer."""

    slow = False

    def order(self, task: Any, context: Any) -> Order:
        if self.slow:
            time.sleep(2 * LEASE)
        return Order(0)

    def admit(self, task: Any, context: Any) -> Any:
        return Admission(admitted=True)


def test_no_worker_is_lost_since_a_policy_held_the_lock() -> None:
    """Its signs of life waited for that, too."""
    queue = Slow()
    with TaskOrchestrator(queue=queue) as orch:
        worker = far_away(orch)
        lost: list[Any] = []
        orch.signals.agent_lost.connect(lost.append)
        queue.slow = True
        orch.submit(int).result(PATIENCE)
        queue.slow = False
        # Before it can say anything, the timer has looked.
        time.sleep(LEASE / 4)
        beat(orch)
        orch.submit(int).result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert (lost, worker.lost) == ([], False)
