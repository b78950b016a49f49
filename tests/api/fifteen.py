"""Fifteen programs that are to come to the same wherever their attempts are made."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tests.api.tools import PATIENCE, eventually

from taskorch import (
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    current_context,
)

LOG: Final = logging.getLogger("fifteen")


class OddError(Exception):
    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(f"odd: {what}")
        self.code = code


def add(*numbers: int) -> int:
    return sum(numbers)


def fail(code: int) -> None:
    what = "it fails"
    raise OddError(what, code=code)


def fail_until(number: int) -> int:
    attempt = current_context().attempt
    if attempt < number:
        msg = f"attempt {attempt}"
        raise ValueError(msg)
    return attempt


def report() -> str:
    for done in range(3):
        current_context().progress({"done": done})
    return "reported"


def count_on(most: int) -> list[int]:
    """Count, and fail once half-way: the next attempt goes on from there."""
    context = current_context()
    begun = context.restored or 0
    for number in range(begun, most):
        context.checkpoint(number + 1)
        if number == most // 2 and not begun:
            msg = "half-way"
            raise ValueError(msg)
    return [begun, most]


def until_told() -> None:
    context = current_context()
    context.progress("begun")
    while True:
        context.checkpoint()
        time.sleep(0.01)


def say(words: str) -> None:
    LOG.warning("said %s", words)


def describe() -> tuple[str, int, bool]:
    context = current_context()
    return context.task_id, context.attempt, context.cancelled


def handle(task: Any, context: Any) -> Any:
    return task.type, task.payload, context.task_id


def call(where: str, fn: Any, *args: Any, **options: Any) -> Task[Any]:
    return Task.call(fn, *args, executor=where, **options)


def many(orch: TaskOrchestrator, where: str) -> Any:
    handles = orch.submit_tasks([call(where, add, n, n) for n in range(100)])
    return [handle.result(PATIENCE) for handle in handles]


def errors(orch: TaskOrchestrator, where: str) -> Any:
    error = orch.submit_task(call(where, fail, 7)).exception(PATIENCE)
    assert isinstance(error, OddError)
    return str(error), error.code


def retries(orch: TaskOrchestrator, where: str) -> Any:
    task = call(where, fail_until, 3, retry=RetryPolicy(3, base=0))
    handle = orch.submit_task(task)
    return handle.result(PATIENCE), orch.get_task_status(handle.task_id).attempts


def exhausted(orch: TaskOrchestrator, where: str) -> Any:
    handle = orch.submit_task(call(where, fail_until, 9, retry=RetryPolicy(2, base=0)))
    return repr(handle.exception(PATIENCE))


def diamond(orch: TaskOrchestrator, where: str) -> Any:
    top = orch.submit_task(call(where, add, 1))
    sides = [orch.submit_task(call(where, add, top, n)) for n in (10, 20)]
    return orch.submit_task(call(where, add, *sides)).result(PATIENCE)


def failed_parent(orch: TaskOrchestrator, where: str) -> Any:
    top = orch.submit_task(call(where, fail, 1, id="top"))
    below = orch.submit_task(call(where, add, top, id="below"))
    error = below.exception(PATIENCE)
    return type(error).__name__, orch.get_task_status("below").state.value


def progress(orch: TaskOrchestrator, where: str) -> Any:
    seen: list[Any] = []
    orch.signals.task_progressed.connect(lambda e: seen.append(e.value), weak=False)
    handle = orch.submit_task(call(where, report))
    handle.result(PATIENCE)
    eventually(lambda: len(seen) == 3)
    # Others may follow.
    return seen[:3]


def checkpoints(orch: TaskOrchestrator, where: str) -> Any:
    handle = orch.submit_task(call(where, count_on, 8, retry=RetryPolicy(2, base=0)))
    return handle.result(PATIENCE)


def begun(orch: TaskOrchestrator, where: str, **options: Any) -> Any:
    handle = orch.submit_task(call(where, until_told, **options))
    eventually(lambda: orch.get_task_status(handle.task_id).progress == "begun")
    return handle


def cancelled(orch: TaskOrchestrator, where: str) -> Any:
    handle = begun(orch, where)
    assert handle.cancel()
    return repr(handle.exception(PATIENCE)).replace(handle.task_id, "it")


def timed_out(orch: TaskOrchestrator, where: str) -> Any:
    # Where a worker takes longer to begin than this, it is out of time all the same.
    handle = orch.submit_task(call(where, until_told, timeout=2))
    return type(handle.exception(PATIENCE)).__name__


def suspended(orch: TaskOrchestrator, where: str) -> Any:
    handle = begun(orch, where)
    orch.suspend_task(handle.task_id)

    def state() -> TaskState:
        return orch.get_task_status(handle.task_id).state

    eventually(lambda: state() is TaskState.SUSPENDED)
    orch.resume_task(handle.task_id)
    eventually(lambda: state() is TaskState.RUNNING)
    handle.cancel()
    return type(handle.exception(PATIENCE)).__name__


def logs(orch: TaskOrchestrator, where: str) -> Any:
    heard: list[str] = []
    came = threading.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            came.set()

    ear = Ear()
    LOG.addHandler(ear)
    try:
        orch.submit_task(call(where, say, "a word")).result(PATIENCE)
        assert came.wait(PATIENCE)
    finally:
        LOG.removeHandler(ear)
    return heard


def large(orch: TaskOrchestrator, where: str) -> Any:
    much = b"x" * 5_000_000
    handle = orch.submit_task(call(where, bytes.upper, much))
    below = orch.submit_task(call(where, len, handle))
    return len(handle.result(PATIENCE)), below.result(PATIENCE)


def agents(orch: TaskOrchestrator, where: str) -> Any:
    orch.agent("a", capabilities={"odd"}, executor=where)(handle)
    task = Task("odd", {"n": 1}, id="one")
    return orch.submit_task(task).result(PATIENCE)


def context(orch: TaskOrchestrator, where: str) -> Any:
    return orch.submit_task(call(where, describe, id="who")).result(PATIENCE)


PROGRAMS: Final[tuple[Callable[[TaskOrchestrator, str], Any], ...]] = (
    many,
    errors,
    retries,
    exhausted,
    diamond,
    failed_parent,
    progress,
    checkpoints,
    cancelled,
    timed_out,
    suspended,
    logs,
    large,
    agents,
    context,
)
