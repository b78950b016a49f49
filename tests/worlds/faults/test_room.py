"""
The system has no thread, process or descriptor left: that passes, and costs nothing.

Each fault is a limit of the system's, in a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually
from tests.worlds.faults.tools import Process, say

from taskorch import NotRunningError, Program, Task, TaskOrchestrator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the limits of others count other things"
)

MIB = 2**20
STACK = 128 * MIB
#: Tasks that find no room.
MANY = 12


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """So much, and no more, meanwhile."""
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def addresses() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def no_threads() -> Any:
    """Their stacks find no addresses; the rest finds some."""
    return limited(resource.RLIMIT_AS, addresses() + STACK // 2)


def no_processes() -> Any:
    """This user may have no more than there are; for root, who may, another one."""
    if os.getuid() == 0:
        os.setresuid(*[2**24 + os.getpid()] * 3)
    return limited(resource.RLIMIT_NPROC, 1)


@contextmanager
def no_descriptors() -> Iterator[None]:
    used = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - numbers
    with limited(resource.RLIMIT_NOFILE, used + 1):
        # Some below the highest may be free.
        fillers = []
        try:
            while True:
                fillers.append(os.dup(0))
        except OSError:
            pass
        try:
            yield
        finally:
            for filler in fillers:
                os.close(filler)


def in_process(live: Callable[..., None], *args: Any) -> None:
    """Run *live* in a process of its own, and see that it comes to its end."""
    with Process(live, *args) as process:
        assert process.line(90) == "end", process.errors()
        assert process.wait() == 0, process.errors()


class Records(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[str] = []
        logger = logging.getLogger("taskorch")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def assert_short(orch: TaskOrchestrator, *words: str) -> None:
    """Health says what there is no room for, and what to do."""
    said: list[str] = []

    def is_short() -> bool:
        # It may say in between that there is room: until what is tried has failed again.
        health = orch.health()
        said[:] = [str(health)]
        return health.status == "degraded"

    eventually(is_short)
    for word in ("room", *words, "ulimit"):
        assert word in said[0], said


def assert_over(orch: TaskOrchestrator, records: Records) -> None:
    """There is room again; health and the log say so, and all may run that might."""
    eventually(lambda: orch.health().status == "ok", str(orch.health()))
    assert orch._rt.kernel.concurrency == orch._rt.kernel.config.concurrency
    assert sum("no room" in said for said in records.said) >= 1, records.said
    # It is logged by another thread, and a moment later.
    eventually(
        lambda: any("room again" in said for said in records.said), str(records.said)
    )


def assert_uncharged(orch: TaskOrchestrator) -> None:
    """Whoever had to wait was not charged for it."""
    assert not orch._rt.kernel.causes
    for row in list(orch._rt.kernel.tasks.values()):
        assert row.extra is None or not row.extra.charged


def live_without_threads(path: Path) -> None:
    """Two workers are there, and no thread more: they do all there is."""
    threading.stack_size(STACK)
    journal = None if path.name == "memory" else path
    records = Records()
    with TaskOrchestrator(journal=journal, concurrency=8, stop_timeout=30) as orch:
        events = Recorder(orch, "task_retrying")
        orch.submit(int, "1").result(PATIENCE)
        with no_threads():
            handles = [orch.submit(time.sleep, 0.01) for _ in range(MANY)]
            handles += [
                orch.submit_task(Task.call(int, "7", id=f"once-{n}", idempotent=False))
                for n in range(2)
            ]
            assert_short(orch, "thread", "of 8")
            # All are done, by those that are there.
            for handle in handles:
                handle.result(PATIENCE)
        assert_over(orch, records)
        assert_uncharged(orch)
        (first, *_) = events.wait_for(1)
        assert (first.cause, first.charged) == ("unstarted", False)
        orch.submit(int, "2").result(PATIENCE)
    say("end")


@pytest.mark.parametrize("where", ["memory", "journal.db"])
def test_without_threads_those_that_are_there_do_all(
    tmp_path: Path, where: str
) -> None:
    in_process(live_without_threads, tmp_path / where)


def live_without_any_thread() -> None:
    """No worker is there, no loop, and no publisher: they begin when they can."""
    threading.stack_size(STACK)
    records = Records()
    with TaskOrchestrator(concurrency=4, stop_timeout=30) as orch:
        told: list[Any] = []
        with no_threads():
            handles = [orch.submit(int, str(n)) for n in range(MANY)]
            handles.append(orch.submit(asyncio.sleep, 0, MANY))
            assert_short(orch, "thread", "room for 0")
            orch.signals.task_completed.connect(told.append)
            orch.signals.task_rejected.connect(told.append)
            orch.signals.task_retrying.connect(told.append)
            eventually(lambda: orch._rt.publisher.queue)
            assert not any(handle.done() for handle in handles)
            assert "no room" in " ".join(records.said)
        assert [h.result(PATIENCE) for h in handles] == list(range(MANY + 1))
        assert_over(orch, records)
        assert_uncharged(orch)
        eventually(lambda: len(told) > MANY)
    say("end")


def test_without_any_thread_all_waits_until_there_is_one() -> None:
    in_process(live_without_any_thread)


def live_with_a_pool_without_threads() -> None:
    threading.stack_size(STACK)
    records = Records()
    calls: list[int] = []
    hold = Hold()
    with (
        ThreadPoolExecutor(4) as pool,
        TaskOrchestrator(executors={"mine": pool}, stop_timeout=30) as orch,
    ):

        def note(number: int) -> None:
            calls.append(number)

        held = orch.submit_task(Task.call(hold, executor="mine"))
        hold.wait()
        with no_threads():
            task = Task.call(note, 1, executor="mine")
            handle = orch.submit_task(task)
            assert_short(orch, "thread")
        handle.result(PATIENCE)
        hold.release()
        held.result(PATIENCE)
        assert_over(orch, records)
        pool.shutdown()
        # The pool had it twice, and has done it once.
        assert calls == [1]
    say("end")


def test_what_a_pool_had_no_thread_for_is_done_once() -> None:
    in_process(live_with_a_pool_without_threads)


def live_without_processes() -> None:
    """Programs wait; what needs no process goes on."""
    records = Records()
    with TaskOrchestrator(concurrency=4, stop_timeout=30) as orch:
        # The guardian, a worker and all modules are there.
        assert orch.submit_task(Task("x", Program(["/bin/true"]))).result(PATIENCE)
        orch.submit(int, "1").result(PATIENCE)
        with no_processes():
            programs = [
                orch.submit_task(Task("x", Program(["/bin/true"]))) for _ in range(3)
            ]
            assert_short(orch, "process")
            # It lasts: by now the programs are only tried once a second.
            time.sleep(2)
            for number in range(MANY):
                assert orch.submit(int, str(number)).result(PATIENCE) == number
            assert not any(handle.done() for handle in programs)
        for handle in programs:
            assert handle.result(PATIENCE).exit_code == 0
        assert_over(orch, records)
        assert_uncharged(orch)
    say("end")


@pytest.mark.slow("waits for two seconds")
def test_without_processes_programs_wait_and_others_go_on() -> None:
    in_process(live_without_processes)


def live_without_descriptors() -> None:
    """Programs wait, the first of all too, and so does the first coroutine."""
    records = Records()
    with TaskOrchestrator(concurrency=4, stop_timeout=30) as orch:
        orch.submit(int, "1").result(PATIENCE)
        with no_descriptors():
            handles = [
                orch.submit_task(Task("x", Program(["/bin/true"]))),
                orch.submit(asyncio.sleep, 0),
            ]
            assert_short(orch, "file")
            assert orch.submit(int, "7").result(PATIENCE) == 7
            assert not any(handle.done() for handle in handles), handles[0].exception()
        for handle in handles:
            handle.result(PATIENCE)
        assert_over(orch, records)
        assert_uncharged(orch)
    say("end")


def test_without_descriptors_programs_and_coroutines_wait() -> None:
    in_process(live_without_descriptors)


def live_to_start_without_threads(path: Path) -> None:
    threading.stack_size(STACK)
    orch = TaskOrchestrator(journal=None if path.name == "memory" else path)
    with no_threads():
        handle = orch.submit_task(Task.call(int, "7", id="seven", not_before=0.01))
        with pytest.raises(NotRunningError, match="no thread") as caught:
            orch.start()
        assert "ulimit" in caught.value.hint
        assert not orch.health().ready
    orch.start()
    assert handle.result(PATIENCE) == 7
    orch.stop()
    say("end")


@pytest.mark.parametrize("where", ["memory", "journal.db"])
def test_a_start_without_threads_is_refused_and_may_be_tried_again(
    tmp_path: Path, where: str
) -> None:
    in_process(live_to_start_without_threads, tmp_path / where)
