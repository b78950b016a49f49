"""Many short calls, of which some are stopped and killed: each gets its own result."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from random import Random
from typing import Any

from tests.api.tools import PATIENCE

from taskorch import Task, TaskCancelledError, TaskOrchestrator, TaskTimeoutError

#: Calls at a time: few, so that workers run out of them again and again, and get what
#: others were given.
_BATCH = 10


def own(number: int) -> tuple[int, int]:
    """The number, and who has got it."""
    return number, os.getpid()


def sleep_long(number: int) -> None:
    time.sleep(600)


def expect_own_results(
    orch: TaskOrchestrator,
    executor: str,
    calls: int,
    *,
    seed: int,
    kill_each: int,
    slow_each: int,
) -> None:
    """
    Make *calls*, and compare each result.

    Args:
        orch: With worker processes of this machine.
        executor: Which has them.
        calls: How many there are.
        seed: Of what is cancelled and killed.
        kill_each: Of so many calls, one worker is killed meanwhile.
        slow_each: Of so many calls, one runs out of time.
    """
    dice = Random(seed)
    pids: set[int] = set()
    for first in range(0, calls, _BATCH):
        numbers = range(first, first + _BATCH)
        tasks = [Task.call(own, n, executor=executor) for n in numbers]
        slow: list[Any] = []
        if dice.randrange(slow_each) < _BATCH:
            task = Task.call(sleep_long, first, executor=executor, timeout=0.05)
            slow.append(orch.submit_task(task))
        handles = orch.submit_tasks(tasks)
        cancelled = {
            handle.task_id
            for handle in dice.sample(handles, dice.randrange(4))
            if handle.cancel()
        }
        if pids and dice.randrange(kill_each) < _BATCH:
            # It may be gone already.
            with suppress(ProcessLookupError):
                os.kill(pids.pop(), signal.SIGKILL)
        for number, handle in zip(numbers, handles, strict=True):
            error = (
                handle.exception(PATIENCE) if handle.task_id not in cancelled else None
            )
            assert error is None
            with suppress(TaskCancelledError):
                result, pid = handle.result(PATIENCE)
                assert result == number
                pids.add(pid)
        for handle in slow:
            error = handle.exception(PATIENCE)
            assert isinstance(error, TaskTimeoutError), repr(error)
    assert orch.wait(PATIENCE)
