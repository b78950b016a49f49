"""The end: how long it may take, what is given up, and what the report says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually, in_loop
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    JournalTakenError,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    current_context,
)
from taskorch.api.journal import SqliteJournal

#: Seconds of a grace that nobody waits for, …
LONG = 600.0


@pytest.fixture(autouse=True)
def _soon():
    """… and each test is over long before."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LONG / 10


@pytest.fixture(name="hold")
def fixture_hold():
    """Work that hears nothing."""
    hold = Hold()
    yield hold
    hold.release()


HELD: list[Hold] = []


def held():
    """Work that hears nothing, by its name: a journal can keep it."""
    HELD[-1]()


def begun(orch, hold):
    HELD.append(hold)
    orch.start()
    handle = orch.submit(held)
    hold.wait()
    return handle


def polite():
    while not current_context().cancelled:
        time.sleep(0.002)


# -- how long ----------------------------------------------------------------------


def test_the_grace_is_a_parameter(hold):
    """Work that does not stop is given up after it, and named."""
    orch = TaskOrchestrator(grace=0.05)
    handle = begun(orch, hold)
    report = orch.stop(drain=False)
    assert report.leaked == (f"{handle.task_id} (attempt 1)",)
    assert f"given up: {handle.task_id} (attempt 1)" in str(report)
    assert handle.cancelled()


def test_the_grace_is_that_of_timeouts_and_cancellations_too(hold):
    """It is what any attempt has that was asked to stop."""
    with TaskOrchestrator(grace=timedelta(milliseconds=50)) as orch:
        leaked = Recorder(orch, "slot_leaked")
        handle = begun(orch, hold)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        leaked.wait_for(1)
        hold.release()


@pytest.mark.parametrize("grace", [-1, float("nan"), "soon", None])
def test_a_grace_is_seconds(grace):
    with pytest.raises(InvalidTaskError, match="grace"):
        TaskOrchestrator(grace=grace)


def test_no_time_is_no_time(hold):
    """`timeout=0` without drain gives up at once what runs."""
    orch = TaskOrchestrator(grace=LONG)
    handle = begun(orch, hold)
    waits = orch.submit_task(Task.call(int, not_before=LONG))
    report = orch.stop(drain=False, timeout=0)
    assert report.leaked == (f"{handle.task_id} (attempt 1)",)
    assert {u.task_id for u in report.left} == {handle.task_id, waits.task_id}
    assert handle.cancelled()
    assert waits.cancelled()


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("journal", [True, False])
def test_the_timeout_bounds_the_grace(hold, tmp_path, drain, journal):
    """Also of work that is durable: its next incarnation does it."""
    orch = TaskOrchestrator(
        grace=LONG, journal=tmp_path / "runs.db" if journal else None
    )
    handle = begun(orch, hold)
    report = orch.stop(drain=drain, timeout=0.2)
    assert report.drained is False
    assert report.leaked == (f"{handle.task_id} (attempt 1)",)
    assert [u.task_id for u in report.left] == [handle.task_id]


def test_stop_timeout_bounds_the_end_of_the_block(hold):
    """All of it."""
    with TaskOrchestrator(grace=LONG, stop_timeout=0.2) as orch:
        handle = begun(orch, hold)
    report = orch.stop()
    assert report.leaked == (f"{handle.task_id} (attempt 1)",)


def test_the_drain_leaves_some_of_the_time_to_the_grace():
    """What does not end in time is still asked, and can end in good order."""
    orch = TaskOrchestrator(grace=LONG)
    orch.start()
    asked = threading.Event()

    def work():
        polite()
        asked.set()

    handle = orch.submit(work)
    report = orch.stop(timeout=4)
    assert asked.is_set()
    assert (report.leaked, report.drained) == ((), False)
    assert [u.task_id for u in report.left] == [handle.task_id]


DEAF = 'trap "" TERM; echo $$ > "$0"; while :; do sleep 1; done'


@pytest.mark.parametrize("durable", [False, True])
def test_programs_that_are_given_up_are_killed(tmp_path, durable):
    """None outlives the stop, however deaf it is."""
    pid_file = tmp_path / "pid"
    orch = TaskOrchestrator(
        grace=LONG, journal=tmp_path / "runs.db" if durable else None
    )
    with orch:
        orch.submit_task(Task.program(["sh", "-c", DEAF, str(pid_file)]))
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        report = orch.stop(drain=False, timeout=0)
    assert [u.state for u in report.left] == [TaskState.RUNNING]
    pid = int(pid_file.read_text())
    eventually(lambda: not is_alive(pid), "the program lives")


class Hangs(SqliteJournal):
    """A disk that does not answer any more, once it is told to."""

    def __init__(self, path):
        super().__init__(path, durability="process")
        self.hangs = False
        self.go = threading.Event()

    def append(self, epoch, group):
        if self.hangs:
            assert self.go.wait(LONG)
        super().append(epoch, group)


def test_a_disk_that_hangs_does_not_hold_up_the_stop(tmp_path, caplog):
    """It lets go of the journal as soon as the disk answers."""
    journal = Hangs(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=journal)
    orch.start()
    assert orch.submit(int, "3").result(PATIENCE) == 3
    journal.hangs = True
    try:
        orch.stop(timeout=0.2)
        assert "the journal is not closed yet" in caplog.text
        with pytest.raises(JournalTakenError):
            TaskOrchestrator(journal=tmp_path / "runs.db").start()
    finally:
        journal.go.set()
    orch._rt.committer._thread.join(PATIENCE)
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        assert orch.submit(int, "4").result(PATIENCE) == 4


# -- who is less patient -----------------------------------------------------------


@pytest.mark.parametrize("first", [{}, {"drain": False}, {"timeout": LONG}])
def test_the_less_patient_of_two_decides(hold, first):
    """In the drain and in the grace; both have the same report."""
    orch = TaskOrchestrator(grace=LONG)
    begun(orch, hold)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(orch.stop(**first)))
    thread.start()
    eventually(lambda: orch._rt.waiting.quiet)
    assert orch.stop(drain=False, timeout=0) is orch.stop()
    thread.join(PATIENCE)
    assert reports == [orch.stop()]
    assert orch.wait(0) is True


def run_script(script, *args):
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("journal", ["", "runs.db"])
def test_a_stop_whose_drain_is_interrupted_again_has_stopped(journal, tmp_path):
    """After the first, all goes on; after the second nothing is left for the exit."""
    script = """
import os, signal, sys, threading, time
from taskorch import Task, TaskOrchestrator
signal.signal(signal.SIGINT, signal.default_int_handler)
orch = TaskOrchestrator(journal=sys.argv[1] or None)
orch.start()
orch.submit_task(Task.call(int, not_before=600))

def press():
    while not orch._rt.waiting.quiet:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

for _ in range(2):
    presses = threading.Thread(target=press)
    presses.start()
    try:
        orch.stop()
    except KeyboardInterrupt:
        presses.join()
        print(orch.submit(int, "3").result() if not orch._rt.closed else "stopped")
print(len(orch.stop().left), orch.stop().drained)
"""
    done = run_script(script, journal and str(tmp_path / journal))
    assert (done.stdout, done.stderr) == ("3\nstopped\n1 False\n", "")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("how", "journal"), [("block", "runs.db"), ("call", "")])
def test_a_second_interrupt_leaves_no_time(how, journal, tmp_path):
    """The first ends the block or its drain; the second the grace. All is shut."""
    script = """
import os, signal, sys, threading, time
from taskorch import TaskOrchestrator
signal.signal(signal.SIGINT, signal.default_int_handler)
how, journal = sys.argv[1:]
orch = TaskOrchestrator(grace=600, journal=journal or None)
began, go = threading.Event(), threading.Event()

def hold():
    began.set()
    go.wait(60)

def press():
    began.wait()
    os.kill(os.getpid(), signal.SIGINT)
    while not orch._rt.closed or not orch._rt.waiting.quiet:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

def sleep():
    # In parts: one that comes in the moment in which a sleep begins does not end it.
    while True:
        time.sleep(0.01)

threading.Thread(target=press, daemon=True).start()
try:
    if how == "block":
        with orch:
            orch.submit(hold)
            sleep()
    else:
        orch.start()
        try:
            orch.submit(hold)
            sleep()
        finally:
            orch.stop(drain=False)
except KeyboardInterrupt:
    report = orch.stop()
    print(len(report.left), len(report.leaked))
go.set()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
def ours():
    return [t.name for t in threading.enumerate() if t.name.startswith("taskorch")]
while ours():
    time.sleep(0.001)
if journal:
    TaskOrchestrator(journal=journal).stop()
"""
    done = run_script(script, how, str(tmp_path / journal) if journal else "")
    assert (done.stdout, done.returncode) == ("1 1\n", 0)
    said = (
        "the block ended by KeyboardInterrupt; 1 task was left"
        if how == "block"
        else ""
    )
    assert done.stderr.partition(",")[0].strip() == said


@pytest.mark.parametrize("raises", [False, True])
def test_an_async_block_that_is_cancelled_again_leaves_no_time(hold, raises):
    """The first time ends the drain, if there is one; the next time the grace."""
    reports = []

    async def block(orch):
        async with orch:
            orch.submit(hold)
            await asyncio.to_thread(hold.wait)
            if raises:
                raise LookupError

    async def main():
        orch = TaskOrchestrator(grace=LONG)
        task = asyncio.ensure_future(block(orch))
        rt = orch._rt
        if not raises:
            await asyncio.to_thread(
                eventually, lambda: rt.waiting.quiet and not rt.closed
            )
            task.cancel()
        await asyncio.to_thread(eventually, lambda: rt.waiting.quiet and rt.closed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reports.append(await orch.aio.stop())

    in_loop(main)()
    assert len(reports[0].leaked) == 1


# -- what it counts ----------------------------------------------------------------


def test_each_task_is_counted_once():
    """As what it was when all was told to stop."""
    orch = TaskOrchestrator(grace=LONG)
    orch.start()
    orch.submit(int).result(PATIENCE)
    bad = orch.submit(int, "x")
    assert isinstance(bad.exception(PATIENCE), ValueError)
    orch.submit(abs, bad)
    gone = orch.submit_task(Task.call(int, not_before=LONG))
    gone.cancel()
    orch.submit_task(Task.call(int, not_before=LONG))
    orch.submit(polite)
    report = orch.stop(drain=False)
    counts = (report.completed, report.failed, report.cancelled, len(report.left))
    assert counts == (1, 1, 1, 3)
    assert str(report).startswith("1 completed, 1 failed, 1 cancelled, 3 left\n")
    assert "given up" not in str(report)
