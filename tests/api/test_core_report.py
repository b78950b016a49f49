"""
The core report (seed 002): its three usage examples in Python, and its ten criteria.

`docs` map each criterion to the test whose name carries its number.
"""

import ast
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually, fail

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    ValidationFailedError,
    current_context,
)
from taskorch.errors import UnknownCapabilityError
from taskorch.policies import (
    BackoffRetryHandler,
    CapabilityRegistry,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    StandardStateMachine,
    StructuralValidator,
)


def with_reviewer(orch: TaskOrchestrator) -> TaskOrchestrator:
    """A worker for the reports' favourite kind of task."""

    @orch.agent("reviewer", capabilities={"code-review"}, max_concurrency=4)
    def review(task, context) -> dict[str, Any]:
        return {"lines": len(task.payload["code"].splitlines())}

    return orch


# -- usage examples ----------------------------------------------------------------


def test_example_basic_task_submission(capsys) -> None:
    """Start, submit a task with an id, a type and a payload, and hear of it."""
    orchestrator = with_reviewer(TaskOrchestrator())
    orchestrator.start()
    handle = orchestrator.submit_task(
        Task("code-review", {"code": "a\nb", "requirements": "…"}, id="task-123")
    )
    print(f"Task {handle.task_id} accepted: {handle.result(PATIENCE)}")
    orchestrator.stop()
    assert capsys.readouterr().out == "Task task-123 accepted: {'lines': 2}\n"


def test_example_task_monitoring(capsys) -> None:
    """Listen to completed and failed tasks, and read the statistics."""
    with with_reviewer(TaskOrchestrator()) as orchestrator:

        @orchestrator.signals.task_completed.connect
        def completed(event) -> None:
            assert 0 <= event.latency_ms < PATIENCE * 1000
            print(f"Task {event.task_id} completed: {event.result}")

        @orchestrator.signals.task_failed.connect
        def failed(event) -> None:
            print(f"Task {event.task_id} failed: {event.message}")

        orchestrator.submit_task(Task("code-review", {"code": ""}, id="good"))
        assert orchestrator.wait(PATIENCE)
        orchestrator.submit_task(Task("code-review", {"oops": ""}, id="bad"))
        assert orchestrator.wait(PATIENCE)
        stats = orchestrator.get_stats()
        print(
            f"{stats.queue.queued} tasks queued, "
            f"{stats.state_machine.completed} completed"
        )
    assert capsys.readouterr().out == (
        "Task good completed: {'lines': 0}\n"
        "Task bad failed: 'code'\n"
        "0 tasks queued, 1 completed\n"
    )


def test_example_task_control() -> None:
    """Cancel a task, suspend and resume one, and check the status of a third."""
    with TaskOrchestrator(concurrency=2) as orchestrator:
        hold = Hold()

        def long() -> None:
            eventually(lambda: current_context().checkpoint())

        orchestrator.submit_task(Task.call(long, id="task-123"))
        orchestrator.submit_task(Task.call(hold, id="task-789"))
        hold.wait()
        orchestrator.submit_task(Task.call(int, id="task-456"))

        # Before a slot becomes free for it.
        assert orchestrator.suspend_task("task-456")
        assert orchestrator.cancel_task("task-123")

        assert orchestrator.get_task_status("task-456").state == "suspended"
        assert orchestrator.resume_task("task-456")

        status = orchestrator.get_task_status("task-789")
        how = "finished" if status.is_terminal else "running"
        assert f"Task is {status.state}, {how}" == "Task is running, running"
        hold.release()
        assert orchestrator.wait(PATIENCE)
        states = [
            orchestrator.get_task_status(f"task-{n}").state.value
            for n in (123, 456, 789)
        ]
        assert states == ["cancelled", "completed", "completed"]


# -- acceptance criteria -----------------------------------------------------------


def test_criterion_1_accepts_and_processes_task_requests() -> None:
    """Work for workers, functions, coroutines and programs is accepted and done."""

    async def coroutine(n: int) -> int:
        return n + 1

    with with_reviewer(TaskOrchestrator()) as orch:
        handles = orch.submit_tasks(
            [
                Task("code-review", {"code": "x"}),
                Task.call(pow, 2, 3),
                Task.call(coroutine, 1),
                Task.program(["echo", "hello"]),
            ]
        )
        results = [handle.result(PATIENCE) for handle in handles]
        assert results[:3] == [{"lines": 1}, 8, 2]
        assert results[3].stdout_tail == "hello\n"


def test_criterion_2_complete_lifecycle() -> None:
    """A task goes from PENDING over QUEUED and RUNNING to COMPLETED, and no further."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        first = orch.submit(hold)
        handle = orch.submit_task(Task.call(int, after=[first]))
        assert orch.get_task_status(handle.task_id).state is TaskState.PENDING
        hold.release()
        handle.result(PATIENCE)
        status = orch.get_task_status(handle.task_id)
        assert [entry.state for entry in status.history] == [
            TaskState.PENDING,
            TaskState.QUEUED,
            TaskState.RUNNING,
            TaskState.COMPLETED,
        ]
        assert status.is_terminal
        assert orch.cancel_task(handle.task_id) is False


def test_criterion_3_invalid_tasks_are_rejected_with_proper_messages() -> None:
    """Every fault of a task is named at once, and what nobody can do as well."""
    with with_reviewer(TaskOrchestrator()) as orch:
        rejected = Recorder(orch, "task_rejected")
        wrong: dict[str, Any] = {"id": "../up", "priority": "high", "timeout": -1}
        bad = Task("code-review", **wrong)
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(bad)
        assert {path for path, _ in caught.value.findings} == {
            "id",
            "priority",
            "timeout",
        }
        assert rejected.wait_for(1)[0].findings == caught.value.findings
        with pytest.raises(UnknownCapabilityError, match="did you mean 'code-review'"):
            orch.submit_task(Task("code-rewiev"))
        assert list(orch.tasks()) == []


def test_criterion_4_failed_tasks_are_retried_with_exponential_backoff() -> None:
    """1, 2, 4 times the base, ±50 % by default, until it succeeds or gives up."""
    with TaskOrchestrator(seed=1) as orch:
        recorder = Recorder(orch, "task_retrying")
        calls: list[int] = []

        def flaky() -> int:
            calls.append(1)
            if len(calls) < 4:
                fail(ConnectionError("try again"))
            return len(calls)

        policy = RetryPolicy(max_attempts=4, base=0.01)
        assert orch.submit_task(Task.call(flaky, retry=policy)).result(PATIENCE) == 4
        assert orch.wait(PATIENCE)
        for event, ceiling in zip(recorder.events, (0.01, 0.02, 0.04), strict=True):
            assert 0.5 * ceiling <= event.delay <= 1.5 * ceiling
        assert len({e.delay for e in recorder.events}) == 3
        assert orch.get_stats().retries.recovered == 1


def spy(cls: type, asked: list[str]) -> Any:
    """A policy of the user's: the default one, and a note of every question."""

    class Spy(cls):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name in {
                "matches",
                "route",
                "validate",
                "check",
                "order",
                "admit",
                "decide",
                "allocate",
            }:
                asked.append(f"{cls.__name__}.{name}")
            return super().__getattribute__(name)

    return Spy()


def test_criterion_5_all_components_are_integrated() -> None:
    """Registry, router, validator, state machine, queue, retries, allocator: all asked."""
    asked: list[str] = []
    orch = TaskOrchestrator(
        registry=spy(CapabilityRegistry, asked),
        router=spy(PerformanceRouter, asked),
        validator=spy(StructuralValidator, asked),
        state_machine=spy(StandardStateMachine, asked),
        queue=spy(PriorityQueue, asked),
        retry_handler=spy(BackoffRetryHandler, asked),
        allocator=spy(PoolAllocator, asked),
        resources=Resources(cpu=1),
    )
    asked.clear()
    with with_reviewer(orch):
        review = Task("code-review", {}, resources=Resources(cpu=1))
        assert orch.submit_task(review).exception(PATIENCE) is not None
    assert set(asked) >= {
        "CapabilityRegistry.matches",
        "PerformanceRouter.route",
        "StructuralValidator.validate",
        "PriorityQueue.order",
        "PriorityQueue.admit",
        "BackoffRetryHandler.decide",
        "PoolAllocator.allocate",
    }


def test_criterion_6_performance_tracking_captures_all_lifecycle_events() -> None:
    """Every event of a task carries its time, and the statistics agree with them."""
    with with_reviewer(TaskOrchestrator()) as orch:
        recorder = Recorder(
            orch,
            "task_submitted",
            "task_validated",
            "task_routed",
            "task_started",
            "task_completed",
        )
        task = Task("code-review", {"code": "x"}, id="x")
        orch.submit_task(task).result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert recorder.names() == [
            "TaskSubmitted",
            "TaskValidated",
            "TaskRouted",
            "TaskStarted",
            "TaskCompleted",
        ]
        submitted, *_, started, completed = recorder.events
        stats = orch.get_stats()
        times = stats.types["code-review"]
        assert times.running is not None
        assert times.total is not None
        assert times.running.p50 == completed.latency
        assert times.total.p50 == (completed.at_ns - submitted.at_ns) / 1e9
        assert completed.latency_ns == completed.at_ns - started.at_ns
        record = stats.agents["reviewer"].performance["code-review"]
        assert record.latency == completed.latency


def test_criterion_7_errors_are_handled_gracefully() -> None:
    """Failing tasks, routers and receivers harm nothing but what they are about."""

    class BrokenRouter(PerformanceRouter):
        def route(self, task, candidates, context):
            if task.metadata:
                msg = "lost my way"
                raise OSError(msg)
            return super().route(task, candidates, context)

    with with_reviewer(TaskOrchestrator(router=BrokenRouter())) as orch:
        orch.signals.task_completed.connect(lambda e: fail(ValueError("receiver")))
        failures = Recorder(orch, "component_failed", "receiver_failed")
        lost = orch.submit_task(Task("code-review", {}, metadata={"lost": True}))
        error = lost.exception(PATIENCE)
        assert "router" in str(error)
        assert "lost my way" in str(error)
        assert orch.submit(fail, ValueError()).exception(PATIENCE) is not None
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
        assert orch.wait(PATIENCE)
        names = [type(e).__name__ for e in failures.events]
        assert names == ["ComponentFailed", "ReceiverFailed"]
        assert orch.health().ready


def test_criterion_8_end_to_end_workflow() -> None:
    """Fetch, review in parallel, retry, merge: with workers, functions and programs."""
    with with_reviewer(TaskOrchestrator(resources=Resources(cpu=2))) as orch:
        attempts: list[int] = []

        def fetch() -> list[str]:
            attempts.append(1)
            if len(attempts) == 1:
                fail(ConnectionError())
            return ["a\nb", "c"]

        def reviews(files: list[str]) -> list[int]:
            handles = [
                orch.submit_task(
                    Task("code-review", {"code": f}, resources=Resources(cpu=1))
                )
                for f in files
            ]
            return [handle.result(PATIENCE)["lines"] for handle in handles]

        source = orch.submit_task(
            Task.call(fetch, retry=RetryPolicy(2, base=0.001), id="fetch")
        )
        counts = orch.submit(reviews, source)
        total = orch.submit(sum, counts)
        said = orch.submit_task(Task.program(["echo", "done"], after=[total]))
        assert said.result(PATIENCE).stdout_tail == "done\n"
        assert total.result() == 3
        report = orch.stop()
    assert (report.completed, report.failed, report.left) == (6, 0, ())
    assert report.drained


def test_criterion_9_high_throughput() -> None:
    """A thousand tasks end within a minute; the benchmarks say how much faster."""
    with TaskOrchestrator() as orch:
        assert sum(orch.map(int, range(1000), timeout=60)) == 499_500


def test_criterion_10_twenty_tests_and_more() -> None:
    """The report's 20 unit tests have their like here, for each of its categories."""
    here = Path(__file__).parent
    counts = {}
    for name in ("submit", "control", "stats", "lifecycle", "events", "retries"):
        tree = ast.parse((here / f"test_{name}.py").read_text(encoding="utf-8"))
        counts[name] = sum(
            isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            for node in tree.body
        )
    assert all(count >= 4 for count in counts.values())
    assert sum(counts.values()) >= 20
