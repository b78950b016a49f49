"""Retries, timeouts, deadlines, and work that would not stop."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.tools import (
    PATIENCE,
    Hold,
    Recorder,
    eventually,
    fail,
    pass_time,
    short_grace,
)

from taskorch import (
    Permanent,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskTimeoutError,
    current_context,
)
from taskorch.policies import BackoffRetryHandler


class Flaky:
    """Fails so many times, and then returns the number of its calls."""

    def __init__(self, failures: int, error: type[BaseException] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.times: list[float] = []

    def __call__(self) -> int:
        self.times.append(time.monotonic())
        if len(self.times) <= self.failures:
            raise self.error(f"failure {len(self.times)}")
        return len(self.times)


class FlakyCoroutine(Flaky):
    async def __call__(self) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().__call__()


# -- retries -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Flaky, FlakyCoroutine])
@pytest.mark.parametrize(
    ("failures", "most", "counted"),
    [(2, 3, (2, 1, 0)), (5, 3, (2, 0, 1)), (1, 1, (0, 0, 0))],
)
def test_a_failed_attempt_is_tried_again(kind, failures, most, counted) -> None:
    """
    `max_attempts` counts the first try; by default, there is one.

    The result is the good one's; when all are used up, the last exception is raised.
    """
    with TaskOrchestrator() as orch:
        policy = {"retry": RetryPolicy(most, base=0)} if most > 1 else {}
        handle = orch.submit_task(Task.call(kind(failures), **policy))
        if failures < most:
            assert handle.result(PATIENCE) == failures + 1
        else:
            with pytest.raises(ValueError, match=f"failure {most}"):
                handle.result(PATIENCE)
        assert handle.status.attempts == most
        retries = orch.get_stats().retries
        said = retries.scheduled, retries.recovered, retries.exhausted
        assert said == counted


@pytest.mark.parametrize(
    ("wait", "factors"),
    [("exponential", (1, 2, 4)), ("linear", (1, 2, 3)), ("fixed", (1, 1, 1))],
)
def test_delays_grow_as_the_policy_says(wait, factors) -> None:
    """1, 2, 4 times the base; 1, 2, 3 times; or always the same; and it waits so long."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying")
        flaky = Flaky(3)
        policy = RetryPolicy(4, wait=wait, base=0.01, jitter=0)
        orch.submit_task(Task.call(flaky, retry=policy)).result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert [e.delay for e in recorder.events] == [0.01 * f for f in factors]
        for before, after, factor in zip(
            flaky.times, flaky.times[1:], factors, strict=False
        ):
            assert after - before >= 0.01 * factor


def test_jitter_spreads_and_a_seed_repeats() -> None:
    """±50 % of the base, other for each retry, the same again with the same seed."""

    def delays(seed: int) -> list[float]:
        with TaskOrchestrator(seed=seed, concurrency=1) as orch:
            recorder = Recorder(orch, "task_retrying")
            policy = RetryPolicy(6, wait="fixed", base=0.002)
            orch.submit_task(Task.call(Flaky(5), retry=policy)).result(PATIENCE)
            assert orch.wait(PATIENCE)
            return [e.delay for e in recorder.events]

    first = delays(1)
    assert all(0.001 <= d <= 0.003 for d in first)
    assert len(set(first)) == 5
    assert delays(1) == first
    assert delays(2) != first


@pytest.mark.parametrize(
    ("error", "raised"), [(Permanent, Permanent), (SystemExit, TaskFailedError)]
)
def test_some_errors_end_it_at_once(error, raised) -> None:
    """`Permanent`, whatever its policy, and an exit, which is not to be retried."""
    with TaskOrchestrator() as orch:
        flaky = Flaky(5, error)
        handle = orch.submit_task(Task.call(flaky, retry=RetryPolicy(5, base=0)))
        assert isinstance(handle.exception(PATIENCE), raised)
        assert len(flaky.times) == 1


@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (KeyError, 1),
        (ValueError, 3),
        ((KeyError, ValueError), 3),
        (lambda e: "failure 1" in str(e), 2),
        ((), 1),
    ],
)
def test_retry_on_chooses_the_failures(retry_on, tries) -> None:
    """Classes, several of them, or a predicate over the exception."""
    with TaskOrchestrator() as orch:
        flaky = Flaky(5)
        policy = RetryPolicy(3, base=0, retry_on=retry_on)
        orch.submit_task(Task.call(flaky, retry=policy)).exception(PATIENCE)
        assert len(flaky.times) == tries


def test_stop_after_is_a_limit_of_time() -> None:
    """No attempt begins later than that after the first one began."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_started", "task_retrying", "task_failed")
        flaky = Flaky(99)
        policy = RetryPolicy(99, wait="fixed", base=0.03, jitter=0, stop_after=0.1)
        handle = orch.submit_task(Task.call(flaky, retry=policy))
        assert handle.exception(PATIENCE) is not None
        assert orch.wait(PATIENCE)
        started, *events = recorder.events
        retrying = [event for event in events if type(event).__name__ == "TaskRetrying"]
        assert len(flaky.times) == 1 + len(retrying) <= 4
        for event in retrying:
            assert event.at + event.delay - started.at <= 0.1 + 1e-6


def test_retry_after_of_the_error_is_the_least_delay() -> None:
    """An exception may say when it is worth another try."""

    class Busy(Exception):
        retry_after = 0.05

    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying")
        flaky = Flaky(1, Busy)
        policy = RetryPolicy(2, base=0.001, jitter=0)
        orch.submit_task(Task.call(flaky, retry=policy)).result(PATIENCE)
        assert recorder.wait_for(1)[0].delay == 0.05
        assert flaky.times[1] - flaky.times[0] >= 0.05


def test_context_variables_and_the_attempt_number() -> None:
    """Each attempt has its number, and begins with the submitter's variables."""
    with TaskOrchestrator() as orch:
        seen: list[tuple[int, tuple[int, int]]] = []

        def work() -> None:
            context = current_context()
            seen.append((context.attempt, context.fence))
            if context.attempt < 3:
                fail(ValueError())

        orch.submit_task(Task.call(work, retry=RetryPolicy(3, base=0))).result(PATIENCE)
        assert seen == [(1, (1, 1)), (2, (1, 2)), (3, (1, 3))]


def test_lost_workers_are_not_charged() -> None:
    """A worker that dies is no fault of the task: it runs again, but not for ever."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying", "task_failed")
        flaky = Flaky(2, BrokenProcessPool)
        assert orch.submit(flaky).result(PATIENCE) == 3
        poison = Flaky(9, BrokenProcessPool)
        error = orch.submit(poison).exception(PATIENCE)
        assert error is not None
        assert len(poison.times) == 3
        assert orch.wait(PATIENCE)
        assert [e.charged for e in recorder.events[:2]] == [False, False]
        assert recorder.events[-1].cause == "poisoned"


# -- timeouts ----------------------------------------------------------------------


def test_a_coroutine_runs_out_of_time() -> None:
    """It is cancelled where it awaits, and fails with TaskTimeoutError."""
    with TaskOrchestrator() as orch:
        steps: list[str] = []

        async def slow() -> None:
            steps.append("began")
            try:
                await asyncio.sleep(60)
            finally:
                steps.append("tidied")

        handle = orch.submit_task(Task.call(slow, timeout=0.02))
        with pytest.raises(TaskTimeoutError, match=r"0\.02"):
            handle.result(PATIENCE)
        # On a busy machine the time may be over before it begins.
        assert steps in (["began", "tidied"], [])


def test_a_thread_runs_out_of_time() -> None:
    """It sees `cancelled`, and its late result is dropped."""
    with TaskOrchestrator() as orch:

        def slow() -> str:
            context = current_context()
            eventually(lambda: context.cancelled)
            return "late"

        handle = orch.submit_task(Task.call(slow, timeout=0.02))
        with pytest.raises(TaskTimeoutError):
            handle.result(PATIENCE)
        assert orch.get_task_status(handle.task_id).result is None
        assert orch.get_stats().failures == {"timeout": 1}


def test_a_timeout_counts_as_a_failure_to_be_retried() -> None:
    """`timeout` is per attempt, and the next attempt has its own."""
    with TaskOrchestrator() as orch:

        async def slow_at_first() -> int:
            attempt = current_context().attempt
            if attempt == 1:
                began.set()
                await asyncio.sleep(60)
            return attempt

        began = threading.Event()
        policy = RetryPolicy(2, base=0)
        handle = orch.submit_task(Task.call(slow_at_first, timeout=3600, retry=policy))
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == 2


def test_a_program_runs_out_of_time() -> None:
    """It is ended, and the task fails with TaskTimeoutError."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.program(["sleep", "60"], timeout=0.05))
        with pytest.raises(TaskTimeoutError):
            handle.result(PATIENCE)


# -- dates -------------------------------------------------------------------------


def test_a_deadline_passes_before_it_could_run() -> None:
    """A task that still waits when its deadline passes fails without an attempt."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        ran: list[int] = []
        handle = orch.submit_task(Task.call(ran.append, 1, deadline=0.02))
        with pytest.raises(TaskTimeoutError, match="deadline"):
            handle.result(PATIENCE)
        hold.release()
        assert orch.wait(PATIENCE)
        assert ran == []
        assert orch.get_stats().failures == {"deadline": 1}


def test_a_deadline_ends_a_running_attempt_and_all_retries() -> None:
    """It is for the task, not for one attempt."""
    with TaskOrchestrator() as orch:
        began = Recorder(orch, "task_started")

        async def slow() -> None:
            await asyncio.sleep(60)

        policy = RetryPolicy(9, base=0)
        handle = orch.submit_task(Task.call(slow, deadline=3600, retry=policy))
        began.wait_for(1)
        pass_time(orch, 3600)
        with pytest.raises(TaskTimeoutError):
            handle.result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert len(began.events) == 1


def test_a_deadline_as_a_date() -> None:
    """Aware datetimes will do for both dates."""
    with TaskOrchestrator() as orch:
        now = datetime.now(UTC)
        task = Task.call(
            time.time,
            not_before=now + timedelta(seconds=0.05),
            deadline=now + timedelta(seconds=60),
        )
        assert orch.submit_task(task).result(PATIENCE) >= now.timestamp() + 0.05 - 0.002


def test_not_before_in_seconds() -> None:
    """It stays PENDING until then, and explain says for how long."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, not_before=3600))
        assert orch.get_task_status(handle.task_id).state == "pending"
        assert "may not start for another" in str(orch.explain(handle.task_id))
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == 0
        began = time.monotonic()
        handle = orch.submit_task(Task.call(time.monotonic, not_before=0.02))
        assert handle.result(PATIENCE) - began >= 0.02


# -- work that would not stop ------------------------------------------------------


def stuck(hold: Hold) -> tuple[TaskOrchestrator, Any]:
    orch = TaskOrchestrator(concurrency=2)
    orch.start()
    short_grace(orch)
    handle = orch.submit_task(Task.call(hold, "late", id="stuck"))
    hold.wait()
    return orch, handle


def test_a_leaked_slot_is_reported_and_recovered() -> None:
    """Events, statistics and health say so, until the function ends after all."""
    hold = Hold()
    orch, handle = stuck(hold)
    recorder = Recorder(orch, "slot_leaked", "slot_recovered", "late_result_ignored")
    orch.cancel_task("stuck")
    assert handle.exception(PATIENCE) is not None
    stats = orch.get_stats()
    assert (stats.leaked, stats.agents["local"].leaked) == (1, 1)
    assert stats.state_machine.cancelled == 1
    health = orch.health()
    assert health.status == "degraded"
    assert "1 held" in next(c for c in health.checks if c.component == "slots").detail
    assert health.ready
    # The other slot still works.
    assert orch.submit(int).result(PATIENCE) == 0
    hold.release()
    recorder.wait_for(3)
    assert recorder.names() == ["SlotLeaked", "LateResultIgnored", "SlotRecovered"]
    assert (recorder.events[0].agent_id, recorder.events[0].attempt) == ("local", 1)
    assert orch.get_stats().leaked == 0
    assert orch.health().status == "ok"
    assert handle.cancelled()
    report = orch.stop()
    assert report.leaked == ()


def test_a_leaked_slot_is_not_counted_as_free() -> None:
    """With all slots leaked nothing starts, and the orchestrator is not ready."""
    holds = [Hold(), Hold()]
    orch = TaskOrchestrator(concurrency=2)
    with orch:
        short_grace(orch)
        handles = [orch.submit(hold) for hold in holds]
        for hold, handle in zip(holds, handles, strict=True):
            hold.wait()
            handle.cancel()
            assert handle.exception(PATIENCE) is not None
        waiting = orch.submit(int)
        assert not orch.health().ready
        # What is queued may start once a call ends, whenever that is.
        assert not orch.wait(0.01)
        assert not waiting.done()
        assert "slots are taken" in str(orch.explain(waiting.task_id))
        holds[0].release()
        assert waiting.result(PATIENCE) == 0
        holds[1].release()


def test_a_leaked_slot_stands_in_the_stop_report() -> None:
    """`StopReport.leaked` names the attempt."""
    hold = Hold()
    orch, _ = stuck(hold)
    report = orch.stop(drain=False)
    assert report.leaked == ("stuck (attempt 1)",)
    assert report.left[0].task_id == "stuck"
    hold.release()


def test_an_abandoned_attempt_learns_that_it_is() -> None:
    """After a retry has begun, the old thread is still to stop, and changes nothing."""
    with TaskOrchestrator() as orch:
        short_grace(orch)
        first, second = threading.Event(), threading.Event()
        seen: list[Any] = []

        def work() -> str:
            if current_context().attempt == 2:
                current_context().checkpoint("from the second")
                second.set()
                eventually(lambda: len(seen) == 2)
                return f"second {current_context().restored}"
            first.set()
            assert second.wait(PATIENCE)
            seen.append(current_context().cancelled)
            try:
                current_context().checkpoint("from the first")
            except BaseException as error:
                seen.append(type(error).__name__)
            return "first"

        policy = RetryPolicy(2, base=0)
        handle = orch.submit_task(Task.call(work, timeout=3600, retry=policy))
        assert first.wait(PATIENCE)
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == "second from the second"
        assert seen == [True, "AttemptInterrupted"]
        eventually(lambda: orch.get_stats().leaked == 0)


def stubborn(kind: str, began: threading.Event, go: threading.Event) -> Any:
    """A function whose first attempt ends for nobody, and late."""

    def work() -> str:
        if current_context().attempt == 1:
            began.set()
            assert go.wait(PATIENCE)
            return "late"
        return "in time"

    async def work_async() -> str:
        if current_context().attempt == 1:
            began.set()
            going = asyncio.ensure_future(asyncio.to_thread(go.wait, PATIENCE))
            while not going.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(going)
            return "late"
        return "in time"

    return work if kind == "thread" else work_async


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_a_late_result_does_not_replace_the_one_of_the_retry(kind) -> None:
    """The handle keeps what the attempt returned that counted."""
    began, go = threading.Event(), threading.Event()
    with TaskOrchestrator() as orch:
        short_grace(orch)
        late = Recorder(orch, "late_result_ignored")
        policy = RetryPolicy(2, base=0)
        task = Task.call(stubborn(kind, began, go), timeout=3600, retry=policy)
        handle = orch.submit_task(task)
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == "in time"
        go.set()
        late.wait_for(1)
        assert handle.result(PATIENCE) == "in time"


def test_a_cancelled_program_is_ended_with_a_grace() -> None:
    """SIGTERM first: a program may tidy up."""
    with TaskOrchestrator() as orch:
        script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
        handle = orch.submit_task(Task.program(["sh", "-c", script]))
        eventually(lambda: orch._rt.attempts.holdable(handle._row))
        handle.cancel()
        assert handle.exception(PATIENCE) is not None
        assert handle.cancelled()
        assert orch.get_stats().leaked == 0


def test_a_retry_handler_is_told_the_seconds_since_the_first_attempt() -> None:
    told: list[float] = []
    delays: list[float] = []

    class Handler(BackoffRetryHandler):
        def decide(self, failure: Any, context: Any) -> Any:
            told.append(failure.elapsed)
            delays.append(failure.last_delay)
            return super().decide(failure, context)

    begin = time.monotonic()
    with TaskOrchestrator(retry_handler=Handler()) as orch:
        retry = RetryPolicy(2, base=0.001)
        orch.submit_task(Task.call(divmod, 1, 0, retry=retry)).exception(PATIENCE)
    assert len(told) == 2
    assert delays[0] == 0.0 < delays[1] < 1.0
    assert 0 < told[0] < told[1] <= time.monotonic() - begin
