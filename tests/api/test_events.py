"""Signals and the journal: one event for every change, in order, to all who listen."""

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually, fail

from taskorch import (
    MemoryJournal,
    Resources,
    RetryPolicy,
    Task,
    TaskContext,
    TaskOrchestrator,
    ValidationFailedError,
    current_context,
)
from taskorch.api.signals import Signals
from taskorch.core.engine import _notices
from taskorch.core.engine._publisher import Publisher
from taskorch.events import (
    SIGNALS,
    AgentJoined,
    AttemptStopping,
    EventsLost,
    HealthReported,
    OrchestratorStarted,
    OrchestratorStopped,
    PerformanceReported,
    StatsReported,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskReady,
    TaskRejected,
    TaskResumed,
    TaskRetrying,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskTimedOut,
    TaskValidated,
)
from taskorch.ext.views import JournalReader


def fields(event: Any, *without: str) -> dict[str, Any]:
    found = attrs.asdict(event, recurse=False)
    for name in ("seq", "at_ns", "_load", *without):
        found.pop(name, None)
    return found


# -- the incarnation of a task ---------------------------------------------------------


def test_a_task_that_completes_has_five_events_with_exact_fields() -> None:
    """Submitted, validated, routed, started, completed: each once, in order."""
    with TaskOrchestrator(resources=Resources(cpu=4)) as orch:
        recorder = Recorder(
            orch,
            "task_submitted",
            "task_validated",
            "task_routed",
            "task_started",
            "task_completed",
        )
        first = orch.submit_task(Task.call(int, id="first"))
        task = Task.call(
            int, "7", id="second", priority=2, after=[first], resources=Resources(cpu=1)
        )
        orch.submit_task(task)
        assert orch.wait(PATIENCE)
        events = [e for e in recorder.events if e.task_id == "second"]
        why = events[2].reason
        assert [type(e) for e in events] == [
            TaskSubmitted,
            TaskValidated,
            TaskRouted,
            TaskStarted,
            TaskCompleted,
        ]
        units = Resources(cpu=1).units
        assert fields(events[0]) == {
            "task_id": "second",
            "type": "int",
            "priority": 2,
            "after": ("first",),
            "requires": None,
            "resources": units,
            "rerun_of": None,
            "timeout_ns": None,
            "idempotent": True,
            "key": events[0].at_ns - 120 * 10**9,
            "not_before_ns": None,
            "deadline_ns": None,
            "expires_ns": None,
            "named": True,
            "join": "all",
            "on_parent_failure": "block",
            "wait": None,
            "trace": None,
            "owner": None,
            "elastic": None,
            "run": None,
            "allow_failure": False,
            "writes": (),
            "budget": "",
            "spends": (),
            "caller": "",
        }
        assert fields(events[1]) == {"task_id": "second", "type": "int"}
        assert fields(events[2]) == {
            "task_id": "second",
            "attempt": 1,
            "agent_id": "local",
            "reason": why,
        }
        assert fields(events[3]) == {
            "task_id": "second",
            "attempt": 1,
            "agent_id": "local",
            "allocation": units,
            "reason": why,
            "choice": None,
            "permit": (),
            "units": (),
        }
        done = events[4]
        assert (done.attempt, done.agent_id) == (1, "local")
        assert done.latency_ns == done.at_ns - events[3].at_ns
        assert done.latency_ms == done.latency_ns / 1e6
        assert done.latency == done.latency_ns / 1e9
        assert done.result == 7
        # Views share the number of the event that they are a view of.
        assert events[0].seq == events[1].seq < events[2].seq == events[3].seq
        assert events[3].seq < done.seq
        assert [e.at_ns for e in events] == sorted(e.at_ns for e in events)
        assert done.timestamp.tzinfo is not None


@pytest.mark.needs("recovery")
def test_a_task_that_fails_tells_type_and_message() -> None:
    """TaskFailed names the exception's class, its text and the cause."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_failed")
        orch.submit_task(Task.call(fail, ValueError("it: broke"), id="x"))
        event = recorder.wait_for(1)[0]
        assert fields(event, "reason") == {
            "task_id": "x",
            "attempt": 1,
            "agent_id": "local",
            "error_type": "ValueError",
            "message": "it: broke",
            "cause": "error",
            "charged": True,
            "usage": (),
            "failure_class": "logic_error",
            "root_causes": (),
            "caller": "",
            "allowed": False,
        }


@pytest.mark.needs("recovery")
def test_a_retry_is_told_with_its_delay() -> None:
    """TaskRetrying says what failed, when it goes on, and why."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_started", "task_retrying", "task_failed")
        policy = RetryPolicy(2, base=0.01, jitter=0)
        orch.submit_task(Task.call(fail, ValueError("no"), id="x", retry=policy))
        assert orch.wait(PATIENCE)
        assert recorder.names() == [
            "TaskStarted",
            "TaskRetrying",
            "TaskStarted",
            "TaskFailed",
        ]
        retrying = recorder.events[1]
        assert isinstance(retrying, TaskRetrying)
        assert fields(retrying, "reason") == {
            "task_id": "x",
            "attempt": 1,
            "agent_id": "local",
            "error_type": "ValueError",
            "message": "no",
            "cause": "error",
            "delay_ns": 10_000_000,
            "charged": True,
            "usage": (),
            "failure_class": "logic_error",
        }
        assert retrying.delay == 0.01
        assert "attempt 2 of 2" in retrying.reason
        started = recorder.events[2]
        assert started.attempt == 2
        assert started.at_ns - retrying.at_ns >= 10_000_000


def test_control_is_told() -> None:
    """Suspended, resumed and cancelled tasks have one event each."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_suspended", "task_resumed", "task_cancelled")
        orch.submit_task(Task.call(int, id="x", not_before=60))
        orch.suspend_task("x")
        orch.suspend_task("x")
        orch.resume_task("x")
        orch.cancel_task("x")
        orch.cancel_task("x")
        assert orch.wait(PATIENCE)
        assert [type(e) for e in recorder.events] == [
            TaskSuspended,
            TaskResumed,
            TaskCancelled,
        ]
        assert recorder.events[0].held is False
        assert recorder.events[2].reason == "cancelled by the user"


def test_a_running_task_is_asked_to_stop_before_it_is_cancelled() -> None:
    """AttemptStopping comes at the request, TaskCancelled at the end."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "attempt_stopping", "task_cancelled")
        began = threading.Event()

        def work() -> None:
            began.set()
            eventually(lambda: current_context().checkpoint())

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        handle.cancel()
        assert orch.wait(PATIENCE)
        stopping, cancelled = recorder.events
        assert isinstance(stopping, AttemptStopping)
        assert (stopping.attempt, stopping.why) == (1, "cancel")
        assert stopping.reason == "cancelled by the user"
        assert cancelled.seq > stopping.seq


def test_a_timeout_is_told() -> None:
    """TaskTimedOut is a view of AttemptStopping, and TaskFailed has the cause."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_timed_out", "attempt_stopping", "task_failed")
        task = Task.call(asyncio.sleep, 60, id="x", timeout=0.01)
        orch.submit_task(task)
        assert orch.wait(PATIENCE)
        assert recorder.names() == ["AttemptStopping", "TaskTimedOut", "TaskFailed"]
        stopping, timed_out, failed = recorder.events
        assert isinstance(timed_out, TaskTimedOut)
        assert fields(timed_out) == {"task_id": "x", "attempt": 1, "why": "timeout"}
        assert stopping.seq == timed_out.seq
        assert (failed.error_type, failed.cause) == ("TaskTimeoutError", "timeout")


def test_a_cancellation_is_not_told_as_a_timeout() -> None:
    """A receiver of timeouts alone hears nothing of other stops."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_timed_out")
        began = threading.Event()

        async def work() -> None:
            began.set()
            await asyncio.sleep(60)

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        handle.cancel()
        assert orch.wait(PATIENCE)
        assert recorder.events == []


def test_a_blocked_task_tells_by_whom() -> None:
    """TaskBlocked names the direct dependencies and where the failure began."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_blocked")
        orch.submit_tasks(
            [
                Task.call(fail, ValueError(), id="bad"),
                Task.call(int, id="child", after=["bad"]),
                Task.call(int, id="grandchild", after=["child"]),
            ]
        )
        assert orch.wait(PATIENCE)
        child, grandchild = recorder.events
        assert isinstance(child, TaskBlocked)
        assert (child.blocked_by, child.root_causes) == (("bad",), ("bad",))
        assert (grandchild.blocked_by, grandchild.root_causes) == (
            ("child",),
            ("bad",),
        )


def test_a_refused_task_is_told_with_all_findings() -> None:
    """TaskRejected carries what the error carries."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_rejected")
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(Task.call(int, id="no good", priority="high"))
        event = recorder.wait_for(1)[0]
        assert isinstance(event, TaskRejected)
        assert event.findings == caught.value.findings
        assert {path for path, _ in event.findings} == {"id", "priority"}


def test_workers_and_the_orchestrator_are_told() -> None:
    """Workers that join, the start and the stop are events as well."""
    seen: list[Any] = []
    orch = TaskOrchestrator()
    for name in ("agent_joined", "orchestrator_started", "orchestrator_stopped"):
        orch.signals.__getattr__(name).connect(seen.append)
    with orch:

        @orch.agent("reviewer", capabilities={"review"})
        def review(task, context) -> None: ...

    assert [type(e) for e in seen] == [
        AgentJoined,
        OrchestratorStarted,
        AgentJoined,
        OrchestratorStopped,
    ] or [type(e) for e in seen] == [
        OrchestratorStarted,
        AgentJoined,
        OrchestratorStopped,
    ]
    assert seen[-2].agent.name == "reviewer"


# -- order -------------------------------------------------------------------------


def test_numbers_rise_and_each_receiver_sees_the_same_order() -> None:
    """Whatever runs at once, every receiver gets the events by rising numbers."""
    with TaskOrchestrator() as orch:
        names = ("task_submitted", "task_started", "task_completed")
        one, two = Recorder(orch, *names), Recorder(orch, *names)
        for _ in orch.map(pow, range(200), [2] * 200):
            pass
        assert orch.wait(PATIENCE)
        seqs = [e.seq for e in one.events]
        assert len(seqs) == 600
        assert seqs == sorted(seqs)
        assert seqs == [e.seq for e in two.events]
        by_task: dict[str, list[str]] = {}
        for event in one.events:
            by_task.setdefault(event.task_id, []).append(type(event).__name__)
        assert set(map(tuple, by_task.values())) == {
            ("TaskSubmitted", "TaskStarted", "TaskCompleted")
        }


def test_receivers_are_called_in_the_order_of_connection() -> None:
    """And on the publisher's thread."""
    with TaskOrchestrator() as orch:
        seen: list[str] = []
        threads: list[str] = []

        def first(event) -> None:
            seen.append("first")
            threads.append(threading.current_thread().name)

        orch.signals.task_completed.connect(first)
        orch.signals.task_completed.connect(lambda e: seen.append("second"))
        orch.signals.task_completed.connect(lambda e: seen.append("third"))
        orch.submit(int)
        assert orch.wait(PATIENCE)
        assert seen == ["first", "second", "third"]
        assert threads == ["taskorch-publisher"]


def test_connect_is_a_decorator_and_holds_strongly() -> None:
    """A receiver that nobody else holds stays, until it is disconnected."""
    with TaskOrchestrator() as orch:
        seen: list[str] = []

        class Listener:
            def on(self, event) -> None:
                seen.append(event.task_id)

        orch.signals.task_completed.connect(Listener().on)

        @orch.signals.task_completed.connect
        def again(event) -> None:
            seen.append(event.task_id)

        orch.submit(int)
        assert orch.wait(PATIENCE)
        assert len(seen) == 2
        assert callable(again)


def test_connecting_from_many_threads() -> None:
    """No receiver is lost where several connect at once."""
    with TaskOrchestrator() as orch:
        seen: list[str] = []
        names = ["task_completed", "task_started", "task_submitted", "task_validated"]
        start = threading.Barrier(len(names))

        def connect(name: str) -> None:
            start.wait(PATIENCE)
            for _ in range(20):
                getattr(orch.signals, name).connect(lambda e: seen.append(name))

        threads = [threading.Thread(target=connect, args=(n,)) for n in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        orch.submit(int)
        assert orch.wait(PATIENCE)
        assert sorted(seen) == sorted(names * 20)


def test_threads_that_ask_for_a_signal_first_connect_to_the_same_one() -> None:
    """Who connects while another thread does, to a signal nobody had, is heard."""
    threads_each = 4
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(15):
            signals = Signals(lambda: None)
            start = threading.Barrier(threads_each)

            def connect(signals: Signals = signals, start: Any = start) -> None:
                start.wait(PATIENCE)
                for name in SIGNALS:
                    getattr(signals, name).connect(lambda event: None)

            threads = [threading.Thread(target=connect) for _ in range(threads_each)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            counts = {len(calls) for _, calls in signals.connected().values()}
            assert counts == {threads_each}
    finally:
        sys.setswitchinterval(interval)


def test_unknown_signals_and_wrong_receivers_are_refused() -> None:
    """The error lists the signals; what cannot be called is no receiver."""
    orch = TaskOrchestrator()
    with pytest.raises(AttributeError, match="task_completed"):
        _ = orch.signals.task_compleated
    with pytest.raises(TypeError):
        orch.signals.task_completed.connect("me")
    assert set(SIGNALS) <= set(dir(orch.signals))


def test_nothing_is_made_while_nobody_listens() -> None:
    """Without receivers the kernel has no sink, and there is no publisher."""
    with TaskOrchestrator() as orch:
        assert orch._rt.kernel.sink is None
        orch.submit(int).result(PATIENCE)
        assert orch._rt.publisher._thread is None


# -- receivers that misbehave ------------------------------------------------------


def test_a_receiver_of_failures_that_fails_is_left_alone() -> None:
    """It does not report itself, for ever."""
    with TaskOrchestrator() as orch:
        calls: list[Any] = []

        def broken(event) -> None:
            calls.append(event)
            fail(SystemExit(1))

        orch.signals.receiver_failed.connect(broken)
        orch.signals.task_completed.connect(broken)
        orch.submit(int)
        assert orch.wait(PATIENCE)
        assert len(calls) == 2


def test_a_receiver_that_returns_a_handle_is_no_async_one() -> None:
    """`lambda event: orch.submit(…)` is a plain receiver."""
    with TaskOrchestrator() as orch:
        failures = Recorder(orch, "receiver_failed")
        orch.signals.task_completed.connect(
            lambda e: orch.submit(fail, ValueError()) if e.task_id == "x" else None
        )
        orch.submit_task(Task.call(int, id="x"))
        assert orch.wait(PATIENCE)
        assert failures.events == []
        assert orch.get_stats().state_machine.failed == 1


def test_a_slow_receiver_is_passed_as_soon_as_there_is_a_thread(monkeypatch) -> None:
    """The system had none at first: it is tried again."""
    begin, hold = Publisher._begin, Hold()
    refused, tried_again = threading.Event(), threading.Event()

    def begins(publisher) -> None:
        if hold.began.is_set() and not refused.is_set():
            refused.set()
            fail(RuntimeError("can't start new thread"))
        begin(publisher)
        if refused.is_set():
            tried_again.set()

    monkeypatch.setattr(Publisher, "_begin", begins)
    with TaskOrchestrator() as orch:
        orch._rt.publisher.slow_after = 0.02
        orch.signals.task_completed.connect(hold)
        fast = Recorder(orch, "task_completed")
        orch.submit(int)
        assert tried_again.wait(PATIENCE)
        fast.wait_for(1)
        hold.release()


def test_what_a_slow_receiver_loses_is_counted_and_said() -> None:
    """Beyond its bound the newest events are dropped, before that receiver only."""
    with TaskOrchestrator() as orch:
        publisher = orch._rt.publisher
        publisher.slow_after = 0.02
        lost = Recorder(orch, "events_lost")
        hold = Hold()
        orch.signals.task_completed.connect(hold)
        fast = Recorder(orch, "task_completed")
        orch.submit(int)
        fast.wait_for(1)
        publisher.limit = 3
        for n in range(10):
            orch.submit(int)
            fast.wait_for(n + 2)
        assert sum(e.lost for e in lost.wait_for(1)) >= 1
        hold.release()
        assert orch.wait(PATIENCE)
        assert isinstance(lost.events[0], EventsLost)
        assert lost.events[0].signal == "task_completed"
        assert "Hold" in lost.events[0].receiver
        total = sum(e.lost for e in lost.events)
        assert total == 7
        assert orch.get_stats().events_lost == 7
        assert hold.calls == 11 - 7
        assert orch.health().status == "degraded"


def test_a_receiver_that_was_slow_once_is_served_again() -> None:
    """After it has caught up, it gets later events on a thread of its own, in order."""
    with TaskOrchestrator(concurrency=1) as orch:
        orch._rt.publisher.slow_after = 0.02
        hold = Hold()
        seen: list[tuple[str, str]] = []

        def receiver(event) -> None:
            hold()
            seen.append((event.task_id, threading.current_thread().name))

        orch.signals.task_completed.connect(receiver)
        fast = Recorder(orch, "task_completed")
        orch.submit_task(Task.call(int, id="first"))
        fast.wait_for(1)
        hold.release()
        assert orch.wait(PATIENCE)
        ids = [f"t{n}" for n in range(5)]
        for task_id in ids:
            orch.submit_task(Task.call(int, id=task_id))
        assert orch.wait(PATIENCE)
        assert [task_id for task_id, _ in seen] == ["first", *ids]
        assert {name for _, name in seen[1:]} == {"taskorch-receiver"}


def test_a_receiver_that_is_slow_is_named_each_time(monkeypatch, caplog) -> None:
    """Also when it has a thread of its own, since it was slow before."""
    monkeypatch.setattr(_notices, "_PAUSE", 0)
    with TaskOrchestrator(concurrency=1) as orch:
        orch._rt.publisher.slow_after = 0.02

        def sleepy(event) -> None:
            time.sleep(0.05)

        orch.signals.task_completed.connect(sleepy)
        for count in (1, 2, 3):
            orch.submit(int).result(PATIENCE)
            assert orch.wait(PATIENCE)
            assert caplog.text.count("sleepy, took ") == count
    assert "a receiver of task_completed, " in caplog.text


def test_what_nobody_can_keep_up_with_is_counted_for_those_who_listen() -> None:
    """A full queue drops events, but no callbacks, and counts who would have had them."""
    with TaskOrchestrator(concurrency=1) as orch:
        publisher = orch._rt.publisher
        publisher.slow_after = PATIENCE
        lost = Recorder(orch, "events_lost")
        others = Recorder(orch, "task_failed")
        hold = Hold()
        orch.signals.task_completed.connect(hold)
        orch.submit(int)
        hold.wait()
        publisher.limit = 2
        called: list[Any] = []
        for _ in range(6):
            handle = orch.submit(int)
            handle.result(PATIENCE)
            handle.add_done_callback(called.append)
        hold.release()
        assert orch.wait(PATIENCE)
        assert len(called) == 6
        assert {e.signal for e in lost.events} == {"task_completed"}
        total = sum(e.lost for e in lost.events)
        assert total == orch.get_stats().events_lost
        assert hold.calls + total == 7
        assert others.events == []


def test_a_receiver_of_losses_that_blocks_does_not_spin() -> None:
    """Losing the news of a loss is counted, not told for ever."""
    with TaskOrchestrator() as orch:
        publisher = orch._rt.publisher
        publisher.slow_after = 0.02
        publisher.patience = 0.1
        hold, blocked = Hold(), Hold()
        orch.signals.events_lost.connect(hold)
        orch.signals.task_completed.connect(blocked)
        fast = Recorder(orch, "task_completed")
        orch.submit(int)
        fast.wait_for(1)
        publisher.limit = 1
        for n in range(10):
            orch.submit(int)
            fast.wait_for(n + 2)
        assert orch.wait(PATIENCE)
        before = orch._rt.kernel.seq
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.seq == before
        hold.release()
        blocked.release()


# -- results and monitoring --------------------------------------------------------


def test_the_result_of_an_event_is_fetched_when_asked_for() -> None:
    """TaskCompleted carries no result, but knows where it is."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_completed")
        handle = orch.submit(dict, a=1)
        event = recorder.wait_for(1)[0]
        assert event.result is handle.result()
        assert "result" not in repr(event)


def test_monitoring_reports_at_the_interval() -> None:
    """Statistics, health and performance are reported while somebody listens."""
    with TaskOrchestrator(monitor_interval=0.02) as orch:
        assert orch._rt.kernel.sink is None
        orch.submit(int).result(PATIENCE)
        recorder = Recorder(
            orch, "stats_reported", "health_reported", "performance_reported"
        )
        events = recorder.wait_for(6)
        kinds = [type(e) for e in events[:3]]
        assert kinds == [StatsReported, HealthReported, PerformanceReported]
        stats, health, performance = events[:3]
        assert stats.stats.state_machine.completed == 1
        assert health.health.status == "ok"
        assert performance.types["int"].completed == 1
        for name in ("stats_reported", "health_reported", "performance_reported"):
            orch.signals.__getattr__(name).disconnect(recorder._receive)
        assert orch._rt.kernel.sink is None


def test_only_what_somebody_listens_to_is_reported() -> None:
    """A receiver of health alone gets health alone."""
    with TaskOrchestrator(monitor_interval=0.01) as orch:
        recorder = Recorder(orch, "health_reported")
        assert {type(e) for e in recorder.wait_for(3)} == {HealthReported}


# -- the journal -------------------------------------------------------------------


def test_the_memory_journal_keeps_every_event_without_gaps() -> None:
    """With keep_events the numbers are 1, 2, 3, … and every event is there."""
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal, resources=Resources(cpu=1)) as orch:

        @orch.agent("reviewer", capabilities={"review"})
        def review(task, context) -> str:
            context.progress(0.5)
            return "fine"

        policy = RetryPolicy(2, base=0)
        orch.submit_task(Task("review", id="a"))
        bad = orch.submit_task(Task.call(fail, ValueError(), retry=policy))
        orch.submit(abs, bad)
        aside = orch.submit_task(Task.call(int, not_before=60))
        orch.suspend_task(aside.task_id)
        orch.resume_task(aside.task_id)
        orch.set_priority(aside.task_id, 4)
        late = Task.call(int, not_before=0.01)
        orch.submit(lambda: orch.submit_task(late).result(PATIENCE)).result(PATIENCE)
        orch.cancel_task(aside.task_id)
        assert orch.wait(PATIENCE)
        orch.rerun_task(bad.task_id)
    events = list(journal.events())
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert len(journal) == len(events)
    kinds = {type(e).__name__ for e in events}
    assert kinds >= {
        "AgentJoined",
        "OrchestratorStarted",
        "TaskSubmitted",
        "TaskStarted",
        "TaskProgressed",
        "TaskCompleted",
        "TaskRetrying",
        "TaskFailed",
        "TaskBlocked",
        "TaskSuspended",
        "TaskResumed",
        "TaskReprioritised",
        "TaskCancelled",
        "AttemptWaiting",
        "AttemptReturned",
        "TaskRepointed",
        "TaskUnblocked",
        "OrchestratorStopped",
    }
    assert isinstance(events[-1], OrchestratorStopped)
    tail = list(journal.events(after=events[-3].seq))
    assert tail == events[-2:]
    times = [e.at_ns for e in events]
    assert times == sorted(times)


def test_the_default_journal_keeps_nothing() -> None:
    """Neither journal=None nor MemoryJournal() holds events."""
    journal = MemoryJournal()
    with TaskOrchestrator(journal=journal) as orch:
        recorder = Recorder(orch, "task_completed")
        orch.submit(int)
        recorder.wait_for(1)
    assert list(journal.events()) == []


def test_events_are_frozen() -> None:
    """Nobody changes an event."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_failed")
        orch.submit(fail, ValueError())
        event = recorder.wait_for(1)[0]
        assert isinstance(event, TaskFailed)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.message = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_whoever_listens_hears_of_checkpoints() -> None:
    """In memory, too."""
    with TaskOrchestrator() as orch:
        seen = Recorder(orch, "task_checkpointed")
        handle = orch.submit(lambda: current_context().checkpoint(1))
        handle.result(PATIENCE)
        assert seen.wait_for(1)[0].task_id == handle.task_id


# -- ready -----------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [False, True])
def test_that_a_task_is_ready_is_told_to_those_who_listen_and_kept_nowhere(
    keeps: bool, tmp_path: Path
) -> None:
    """Before it starts: at once, after its parent, in a batch, and for another try."""
    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal if keeps else None) as orch:

        @orch.agent("a", capabilities=["flaky"])
        def flaky(_: object, context: TaskContext) -> None:
            if context.attempt == 1:
                raise ValueError

        recorder = Recorder(orch, "task_completed", "task_ready", "task_started")
        parent = Task.call(int, id="parent")
        orch.submit_tasks([parent, Task.call(int, id="child", after=["parent"])])
        orch.submit_tasks([Task.call(int, id=f"many/{n}") for n in range(3)])
        assert list(orch.map(int, [5, 6], timeout=PATIENCE)) == [5, 6]
        orch.submit_task(Task("flaky", id="again", retry=RetryPolicy(2, base=0)))
        assert orch.wait(PATIENCE)
        incarnation = ["TaskReady", "TaskStarted", "TaskCompleted"]
        for task_id in {event.task_id for event in recorder.events} - {"again"}:
            assert recorder.of(task_id) == incarnation
        assert recorder.of("again") == ["TaskReady", "TaskStarted", *incarnation]
        ended = {e.task_id: e.seq for e in recorder.events if type(e) is TaskCompleted}
        (child,) = (
            e for e in recorder.events if (type(e), e.task_id) == (TaskReady, "child")
        )
        assert child.seq == ended["parent"]
    if keeps:
        assert TaskReady not in map(type, JournalReader(journal).happened())


def test_a_journal_in_memory_has_events_and_not_that_a_task_was_ready() -> None:
    """Nor has `orch.events()`, unless it is asked for by name."""
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal) as orch:
        every, ready = orch.events(), orch.events(types="task_ready")
        orch.submit_task(Task.call(int, id="t")).result()
        orch.wait()
    assert [(type(e), e.task_id) for e in ready] == [(TaskReady, "t")]
    assert TaskReady not in map(type, every)
    assert TaskReady not in map(type, journal.events())
