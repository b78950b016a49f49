"""Beginning and end: with, start, stop, drain, reports, threads, quiet."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import (
    PATIENCE,
    Hold,
    Recorder,
    eventually,
    fail,
    in_loop,
    short_grace,
    threads_since,
)
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    current_context,
)
from taskorch.errors import InternalError, InvalidTransitionError
from taskorch.protocols import Permit


@pytest.fixture(name="our_threads")
def fixture_our_threads() -> Callable[[], list[str]]:
    """The names of the threads that the test has begun and not ended."""
    before = set(threading.enumerate())
    return lambda: threads_since(before)


# -- starting ----------------------------------------------------------------------


def test_making_one_starts_nothing() -> None:
    """No thread, no work, before the block is entered."""
    before = threading.active_count()
    orch = TaskOrchestrator()
    orch.submit(int)
    orch.submit_task(Task.call(int, priority=3))
    assert threading.active_count() == before
    assert "not started" in repr(orch)
    report = orch.stop()
    assert (report.cancelled, len(report.left)) == (0, 2)


def test_who_waits_for_one_that_was_never_started_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskorch.core.engine._waiting._MOMENT", 0.01)
    orch = TaskOrchestrator()
    handle = orch.submit(len, [1])
    with pytest.raises(TimeoutError, match="has not been started"):
        handle.result(0.05)
    caplog.clear()
    waiting = threading.Thread(target=handle.result)
    waiting.start()
    eventually(lambda: "waits for a task, but the orchestrator has" in caplog.text)
    with orch:
        waiting.join(PATIENCE)
        assert not waiting.is_alive()


@in_loop
async def test_so_is_who_awaits_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskorch.core.engine._waiting._MOMENT", 0.01)
    orch = TaskOrchestrator()
    waiting = asyncio.ensure_future(orch.submit(len, [1]))
    while "waits for a task, but the orch" not in caplog.text:  # noqa: ASYNC110 - a log
        await asyncio.sleep(0.002)
    async with orch:
        assert await waiting == 1


def test_who_waits_until_another_starts_it_is_told_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskorch.core.engine._waiting._MOMENT", PATIENCE)
    orch = TaskOrchestrator()
    handle = orch.submit(len, [1])
    starting = threading.Timer(0.01, orch.start)
    starting.start()
    assert handle.result(2 * PATIENCE) == 1
    starting.join()
    orch.stop()
    assert "waits" not in caplog.text


@pytest.mark.parametrize("timeout", ["5", [5], object()])
def test_a_patience_is_a_duration(timeout: Any) -> None:
    with TaskOrchestrator() as orch:
        handle = orch.submit(time.sleep, 0)
        waits: list[Callable[..., Any]] = [orch.wait, orch.stop, handle.exception]
        for wait in waits:
            with pytest.raises(InvalidTaskError, match="timeout: a duration is"):
                wait(timeout=timeout)
        with pytest.raises(InvalidTaskError, match="timeout: a duration is"):
            orch.map(len, ["x"], timeout=timeout)


def test_start_is_idempotent() -> None:
    """A second start changes nothing, from whichever thread."""
    orch = TaskOrchestrator()
    recorder = Recorder(orch, "orchestrator_started")
    threads = [threading.Thread(target=orch.start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    with orch:
        assert orch.submit(int).result(PATIENCE) == 0
    assert len(recorder.events) == 1


def test_no_restart() -> None:
    """What has stopped cannot be started again, and says so."""
    orch = TaskOrchestrator()
    orch.start()
    orch.stop()
    with pytest.raises(InvalidTransitionError, match="cannot be started again"):
        orch.start()
    with pytest.raises(InvalidTransitionError), orch:
        pass


def test_queries_and_handles_work_after_the_stop() -> None:
    """Status, statistics, lists, health, explanations and results stay readable."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, "3", id="x"))
    assert handle.result() == 3
    assert handle.future().result(PATIENCE) == 3
    assert orch.get_task_status("x").result == 3
    assert orch.handle("x") is handle
    assert [s.task_id for s in orch.tasks()] == ["x"]
    assert orch.get_stats().state_machine.completed == 1
    assert orch.health().ready is False
    assert "completed" in str(orch.explain("x"))
    assert orch.cancel_task("x") is False
    assert orch.wait(PATIENCE) is True
    called: list[Any] = []
    handle.add_done_callback(called.append)
    eventually(lambda: called == [handle])
    assert "stopped" in repr(orch)


# -- the drain ---------------------------------------------------------------------


def test_the_block_waits_for_all_that_can_proceed(our_threads) -> None:
    """Queued, pending, delayed and retrying work is done when the block is over."""
    attempts: list[int] = []

    def flaky() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            fail(ValueError())

    with TaskOrchestrator(concurrency=2) as orch:
        first = orch.submit(int)
        chain = [first]
        for _ in range(10):
            chain.append(orch.submit(abs, chain[-1]))
        late = orch.submit_task(Task.call(int, not_before=0.05))
        policy = RetryPolicy(5, base=0.01, jitter=0)
        retried = orch.submit_task(Task.call(flaky, retry=policy))
    assert all(h.done() for h in (*chain, late, retried))
    assert orch.get_stats().state_machine.completed == 13
    assert our_threads() == []


def test_the_report_lists_what_was_left() -> None:
    """Blocked and suspended tasks are left, each with its reason, and cancelled."""
    orch = TaskOrchestrator()
    with orch:
        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        blocked = orch.submit_task(Task.call(abs, bad, id="blocked"))
        aside = orch.submit_task(Task.call(int, id="aside", not_before=60))
        orch.suspend_task("aside")
        good = orch.submit(int)
        assert orch.wait(PATIENCE) is True
    report = orch.stop()
    assert (report.completed, report.failed, report.cancelled) == (1, 1, 0)
    assert report.drained is True
    assert report.leaked == ()
    left = {u.task_id: u for u in report.left}
    assert set(left) == {"blocked", "aside"}
    assert left["blocked"].state is TaskState.BLOCKED
    assert "needs bad" in left["blocked"].reason
    assert left["aside"].state is TaskState.SUSPENDED
    assert "waits to be resumed" in left["aside"].reason
    assert "2 left" in str(report)
    for handle in (blocked, aside):
        error = handle.exception(PATIENCE)
        assert isinstance(error, TaskCancelledError)
        assert error.reason == "the orchestrator stopped"
    assert good.result() == 0


def test_stop_is_idempotent() -> None:
    """The second call returns the first one's report, from any thread."""
    orch = TaskOrchestrator()
    orch.start()
    orch.submit(int)
    reports: list[Any] = []
    threads = [
        threading.Thread(target=lambda: reports.append(orch.stop())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(reports) == 3
    assert all(r is reports[0] for r in reports)
    assert orch.stop(drain=False) is reports[0]


def test_stop_without_drain_cancels_at_once() -> None:
    """What runs is asked to stop, and what waits never starts."""
    with TaskOrchestrator(concurrency=1) as orch:
        began = threading.Event()

        def work() -> None:
            began.set()
            eventually(lambda: current_context().checkpoint())

        running, queued = orch.submit(work), orch.submit(int)
        assert began.wait(PATIENCE)
        report = orch.stop(drain=False)
    assert report.cancelled == 0
    assert report.drained is False
    assert {u.state for u in report.left} == {TaskState.RUNNING, TaskState.QUEUED}
    assert running.cancelled()
    assert queued.cancelled()
    reasons = {u.state: u.reason for u in report.left}
    assert reasons[TaskState.RUNNING] == "It was still running."
    assert "slot is taken" in reasons[TaskState.QUEUED]
    assert "starts nothing" not in reasons[TaskState.QUEUED]


def test_the_drain_is_bounded_by_stop_timeout(our_threads) -> None:
    """`stop_timeout` is for the block, `timeout` for the one call."""
    for how in ("block", "call"):
        hold = Hold()
        orch = TaskOrchestrator(stop_timeout=0.05 if how == "block" else None)
        with orch:
            short_grace(orch)
            handle = orch.submit(hold)
            hold.wait()
            if how == "call":
                assert orch.stop(timeout=0.05).drained is False
        report = orch.stop()
        assert report.drained is False
        assert [u.task_id for u in report.left] == [handle.task_id]
        # It would not stop: that is said.
        assert report.leaked == (f"{handle.task_id} (attempt 1)",)
        assert handle.cancelled()
        hold.release()
        eventually(lambda: our_threads() == [])


def test_an_exception_ends_the_block_without_drain() -> None:
    """The exception passes, and what has not begun never does."""
    ran: list[int] = []
    handles: list[Any] = []

    def block() -> None:
        with TaskOrchestrator() as orch:
            task = Task.call(ran.append, 1, not_before=60)
            handles.append(orch.submit_task(task))
            fail(KeyError("mine"))

    with pytest.raises(KeyError, match="mine"):
        block()
    assert handles[0].cancelled()
    assert ran == []


def test_submissions_during_the_drain_are_part_of_it() -> None:
    """Tasks, receivers and callbacks may go on submitting while the block ends."""
    seen: list[str] = []
    with TaskOrchestrator() as orch:

        @orch.signals.task_completed.connect
        def receiver(event) -> None:
            seen.append(event.task_id)
            if event.task_id == "parent":
                orch.submit_task(Task.call(int, id="from-receiver"))

        def parent() -> None:
            orch.submit_task(Task.call(int, id="from-task"))

        orch.submit_task(Task.call(parent, id="parent"))
    assert sorted(seen) == ["from-receiver", "from-task", "parent"]


def test_a_veto_keeps_nothing_alive() -> None:
    """Not even a StateMachine that forbids to cancel hinders the stop."""

    class Never:
        def check(self, transition, context) -> Permit:
            return Permit(transition.after is not TaskState.CANCELLED, "never")

        def label(self, state) -> str:
            return state.value

    with TaskOrchestrator(state_machine=Never()) as orch:
        handle = orch.submit_task(Task.call(int, not_before=60))
        with pytest.raises(InvalidTransitionError):
            handle.cancel()
        report = orch.stop(drain=False)
    assert [u.task_id for u in report.left] == [handle.task_id]
    assert handle.cancelled()


def test_a_registry_that_fails_does_not_hinder_the_stop(our_threads) -> None:
    """The report says that nobody knows why a task was left."""

    class Failing:
        def __init__(self) -> None:
            self.fail = False

        def matches(self, task, agents, context):
            if self.fail:
                msg = "no registry"
                raise OSError(msg)
            from taskorch.protocols import Match

            return Match((), reason="nobody yet")

    registry = Failing()
    orch = TaskOrchestrator(registry=registry, unknown_capability="wait")
    orch.start()
    orch.submit_task(Task("anything", id="left"))
    registry.fail = True
    report = orch.stop(drain=False)
    assert report.left[0].task_id == "left"
    assert our_threads() == []


def test_stop_from_a_receiver_and_from_a_callback(our_threads) -> None:
    """Both may stop the orchestrator; the block then finds it stopped."""
    for how in ("receiver", "callback"):
        reports: list[Any] = []
        done = threading.Event()

        def stop(_: object, reports: list[Any] = reports) -> None:
            reports.append(orch.stop())
            done.set()  # noqa: B023 - used at once

        with TaskOrchestrator() as orch:
            if how == "receiver":
                orch.signals.task_completed.connect(stop)
            handle = orch.submit(int)
            if how == "callback":
                handle.add_done_callback(stop)
            assert done.wait(PATIENCE)
        assert orch.stop() is reports[0]
        assert reports[0].completed == 1
        eventually(lambda: our_threads() == [])


def test_all_threads_are_gone_after_the_stop(our_threads) -> None:
    """Workers, publisher, timer and loop end, also when nested work made many."""
    import asyncio

    for _ in range(5):
        with TaskOrchestrator(concurrency=3) as orch:
            Recorder(orch, "task_completed")

            def dive(n: int, orch: TaskOrchestrator = orch) -> int:
                return 0 if n == 0 else orch.submit(dive, n - 1).result(PATIENCE)

            orch.submit(dive, 10)
            orch.submit(asyncio.sleep, 0)
            orch.submit_task(Task.call(int, timeout=5))
        assert our_threads() == []


# -- quiet -------------------------------------------------------------------------


def test_wait_is_for_all_and_can_be_repeated() -> None:
    """It returns True when all is done, False when patience runs out before."""
    with TaskOrchestrator() as orch:
        assert orch.wait(PATIENCE) is True
        hold = Hold()
        handle = orch.submit(hold)
        assert orch.wait(0.02) is False
        assert orch.wait(0) is False
        hold.release()
        assert orch.wait(PATIENCE) is True
        assert handle.done()
        assert orch.wait() is True


def test_wait_does_not_wait_for_outside_input() -> None:
    """Blocked and suspended tasks, and those that nobody can do, are left out."""
    with TaskOrchestrator(unknown_capability="wait") as orch:
        blocked = orch.submit(abs, orch.submit(fail, ValueError()))
        aside = orch.submit_task(Task.call(int, not_before=60))
        orch.suspend_task(aside.task_id)
        orch.submit_task(Task("nobody-does-this"))
        assert orch.wait(PATIENCE) is True
        assert not blocked.done()


def test_who_waits_already_is_freed_by_a_fault_of_ours() -> None:
    """After a fault nothing proceeds any more, so there is nothing to wait for."""
    orch = TaskOrchestrator()
    orch.start()
    hold = Hold()
    handle = orch.submit(hold)
    hold.wait()
    told: dict[str, object] = {}
    waiters = [
        threading.Thread(target=wait, daemon=True)
        for wait in (
            lambda: told.update(wait=orch.wait()),
            lambda: told.update(task=type(handle.exception())),
        )
    ]
    for waiter in waiters:
        waiter.start()
    eventually(lambda: orch._rt.waiting.quiet and handle._waiters)

    def broken(*_args: object) -> None:
        raise AssertionError

    orch._rt.kernel.complete = broken  # type: ignore[method-assign]
    hold.release()
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert told == {"wait": True, "task": InternalError}
    orch.stop(drain=False, timeout=1)


def test_wait_waits_for_delays() -> None:
    """What will start by itself is waited for."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, not_before=0.05))
        assert orch.wait(PATIENCE) is True
        assert handle.done()


def test_wait_from_many_threads() -> None:
    """Several may wait at once, in tasks' receivers too."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        orch.submit(hold)
        results: list[bool] = []
        threads = [
            threading.Thread(target=lambda: results.append(orch.wait(PATIENCE)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        hold.release()
        for thread in threads:
            thread.join(PATIENCE)
        assert results == [True] * 4


def test_wait_and_submit_race_each_other() -> None:
    """After a submission returned, `wait` does not miss it."""
    with TaskOrchestrator() as orch:
        for n in range(300):
            handle = orch.submit(int, n)
            assert orch.wait(PATIENCE)
            assert handle.done()


# -- the interpreter's end ---------------------------------------------------------


def run_script(
    script: str, *args: str, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_start_without_stop_warns_at_exit(tmp_path) -> None:
    """The interpreter ends, says what was forgotten, and ends the programs."""
    script = """
import sys, time
from pathlib import Path
from taskorch import Task, TaskOrchestrator
orch = TaskOrchestrator()
orch.start()
path = Path(sys.argv[1])
orch.submit_task(Task.program(["sh", "-c", f"echo $$ > {path}; exec sleep 60"]))
orch.submit(int).result(5)
while not path.exists() or not path.read_text().strip():
    time.sleep(0.002)
"""
    done = run_script(script, str(tmp_path / "pid"))
    assert done.returncode == 0
    assert "never stopped" in done.stderr
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not is_alive(pid))


def test_start_without_stop_interrupts_as_a_crash_does(tmp_path) -> None:
    """
    In the next incarnation nothing has failed; late submissions are refused, not hung.
    """
    script = """
import sys, time
from taskorch import Task, TaskOrchestrator, Workflow
orch = TaskOrchestrator(journal=sys.argv[1])
orch.start()
sleep = ["sleep", "60"]
for once in (False, True):
    options = {"idempotent": not once}
    orch.submit_task(Task.program(sleep, id=f"program/{once}", **options))
    call = Task.call(time.sleep, 60, executor="process", id=f"call/{once}", **options)
    orch.submit_task(call)
wf = Workflow("w")
wf.task(print, id="b", after=[wf.add(Task.program(sleep, id="a"))])
orch.workflows.start(wf, id="run")
memory = TaskOrchestrator()
memory.start()
while orch.get_stats().queue.processing < 5:
    time.sleep(0.002)

class Late:
    def __init__(self, orch, done):
        self.orch, self.done = orch, done
    def __del__(self):
        try:
            self.orch.submit(self.done)
        except RuntimeError as error:
            print(type(error).__name__)

late = Late(orch, print), Late(memory, print)
"""
    done = run_script(script, str(tmp_path / "runs.db"))
    assert (done.stdout, done.returncode) == ("NotRunningError\n" * 2, 0)
    assert "the process ended; 6 tasks were left, and are kept" in done.stderr
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        states = {status.task_id: status.state for status in orch.tasks()}
        assert orch.stop(drain=False).failed == 0
    assert states.keys() == {
        *("program/False", "program/True", "call/False", "call/True"),
        *("run/a", "run/b"),
    }
    # They are not safe to run twice: a person decides, as after any crash.
    held = {name for name, state in states.items() if state is TaskState.BLOCKED}
    assert held == {"program/True", "call/True"}


def test_a_stopped_one_says_nothing_at_exit() -> None:
    """With a `with` block there is no warning, even under `-W error`."""
    script = """
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    print(orch.submit(pow, 2, 3).result())
TaskOrchestrator().submit(int)
"""
    done = run_script(script, flags=("-W", "error"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")


@pytest.mark.usefixtures("unmeasured")
def test_an_interrupt_during_the_drain_stops_at_once() -> None:
    """Ctrl-C while the block drains ends all work without waiting for it."""
    script = """
import os, signal, threading, time
from taskorch import Task, TaskOrchestrator
orch = TaskOrchestrator()
# Whoever runs the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt():
    # Once the block waits for its end.
    while not orch._rt.waiting.quiet:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    with orch:
        orch.submit_task(Task.call(int, not_before=600))
except KeyboardInterrupt:
    print(len(orch.stop().left))
"""
    done = run_script(script)
    assert (done.stdout, done.returncode) == ("1\n", 0)
    assert done.stderr.startswith("the block ended by KeyboardInterrupt; 1 task was le")


def test_submissions_from_outside_meet_the_stop() -> None:
    """Threads that submit while it stops get a result or NotRunningError, never a hang."""
    for _ in range(5):
        orch = TaskOrchestrator()
        orch.start()
        refused = threading.Event()
        handles: list[Any] = []

        def submit(
            orch: TaskOrchestrator = orch,
            handles: list[Any] = handles,
            refused: threading.Event = refused,
        ) -> None:
            try:
                while True:
                    handles.append(orch.submit(int))
            except NotRunningError:
                refused.set()

        thread = threading.Thread(target=submit)
        thread.start()
        eventually(lambda handles=handles: len(handles) > 50)
        report = orch.stop(drain=False)
        thread.join(PATIENCE)
        assert refused.is_set()
        assert report.completed + len(report.left) == len(handles)
        for handle in handles:
            assert handle.done()


def test_a_start_without_the_timer_is_refused_and_may_be_tried_again(monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.endswith("timer"):
            raise RuntimeError("can't start new thread")
        start(thread)

    orch = TaskOrchestrator()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(NotRunningError):
            orch.start()
        assert signal.getsignal(signal.SIGINT) is before
    with orch:
        assert orch.submit(int, "4").result(PATIENCE) == 4


def test_a_stop_that_comes_during_a_start_lets_nothing_begin(monkeypatch):
    start, ran = threading.Thread.start, []
    orch = TaskOrchestrator()
    orch.submit(ran.append, 1)
    stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})

    def meanwhile(thread):
        start(thread)
        if thread.name.endswith("timer"):
            start(stopping)
            eventually(lambda: "stopped" in repr(orch))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", meanwhile)
        with pytest.raises(NotRunningError):
            orch.start()
    stopping.join(PATIENCE)
    assert ran == []


@pytest.mark.parametrize("durable", [False, True])
def test_one_that_was_never_used_has_nothing_to_report(
    durable: bool, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    report = TaskOrchestrator(journal=path if durable else None).stop()
    assert (report.completed, report.failed, report.cancelled) == (0, 0, 0)
    assert (report.left, report.leaked) == ((), ())
    assert not path.exists()


@in_loop
async def test_a_block_that_was_stopped_within_was_not_cut_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever stopped it knows what was left."""
    async with TaskOrchestrator() as orch:
        orch.submit(asyncio.sleep, 10 * PATIENCE)
        report = await orch.aio.stop(drain=False)
    assert len(report.left) == 1
    assert "the block ended" not in caplog.text


def test_what_still_runs_as_one_in_memory_stops_may_be_cancelled() -> None:
    """Only what is left to a next incarnation may not; and that says so."""
    hold = Hold()
    orch = TaskOrchestrator()
    with orch:
        handle = orch.submit(hold)
        hold.wait()
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: "stopped" in repr(orch))
        assert handle.cancel()
        hold.release()
        stopping.join(PATIENCE)
    assert not handle.cancel()


def test_no_thread_of_ours_keeps_the_process(tmp_path: Path) -> None:
    """One that is never stopped ends with it."""
    before = {*threading.enumerate()}
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        Recorder(orch, "task_completed")
        orch.submit(int).result(PATIENCE)
        orch.submit(asyncio.sleep, 0).result(PATIENCE)
        ours = {*threading.enumerate()} - before
        names = {thread.name.rpartition("-")[2] for thread in ours}
        assert {"timer", "publisher", "journal", "loop"} <= names
        assert all(thread.daemon for thread in ours)
