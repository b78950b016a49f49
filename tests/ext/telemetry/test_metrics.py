"""What a reader of metrics collects."""

from __future__ import annotations

import gc
import threading

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.api.tools import eventually
from tests.ext.telemetry.tools import run

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext.telemetry import _metrics

PATIENCE = 60.0


class Measuring:
    """An SDK whose metrics are collected when a test asks for them."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def orchestrator(self, **options) -> TaskOrchestrator:
        return TaskOrchestrator(meter_provider=self.provider, **options)

    def scopes(self) -> set:
        data = self._reader.get_metrics_data()
        found = [
            scope.scope for r in data.resource_metrics for scope in r.scope_metrics
        ]
        return {(scope.name, scope.version) for scope in found}

    def points(self, name: str) -> list:
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return [point for metric in found for point in metric.data.data_points]

    def values(self, name: str) -> dict:
        return {tuple(p.attributes.values()): p.value for p in self.points(name)}


@pytest.fixture
def measuring() -> Measuring:
    return Measuring()


def fail() -> None:
    msg = "no"
    raise ValueError(msg)


def double(n: int = 1) -> int:
    return 2 * n


def test_tasks_pools_and_workers_are_told_as_they_are_now(measuring):
    began, go = threading.Event(), threading.Event()

    def hold(*_) -> None:
        began.set()
        go.wait(PATIENCE)

    orch = measuring.orchestrator(resources={"cpu": 4}, concurrency=1)
    orch.agent("worker", capabilities={"work"}, max_concurrency=3)(hold)
    with orch:
        orch.submit_task(Task("work", resources={"cpu": 3}))
        assert began.wait(PATIENCE)
        orch.submit(double)
        orch.submit(double)
        try:
            assert measuring.values("taskorch.tasks") == {
                ("pending",): 0,
                ("queued",): 2,
                ("running",): 1,
                ("retrying",): 0,
                ("blocked",): 0,
                ("suspended",): 0,
            }
            assert measuring.values("taskorch.pool.usage") == {("cpu",): 3.0}
            assert measuring.values("taskorch.pool.limit") == {("cpu",): 4.0}
            assert measuring.values("taskorch.agent.usage") == {
                ("local",): 0,
                ("worker",): 1,
            }
            assert measuring.values("taskorch.agent.limit") == {("worker",): 3}
            assert measuring.values("taskorch.queue.age")[()] > 0
        finally:
            go.set()
        orch.wait()
        assert measuring.values("taskorch.queue.age") == {(): 0.0}
        assert measuring.values("taskorch.slots.leaked") == {(): 0}
        assert measuring.values("taskorch.events.lost") == {(): 0}


def test_how_long_attempts_took_has_buckets_of_seconds(measuring):
    with measuring.orchestrator() as orch:
        orch.submit_task(Task.call(threading.Event().wait, 0.02, type="nap")).result()
    (point,) = measuring.points("taskorch.attempt.duration")
    assert 0.02 <= point.sum < PATIENCE
    assert point.explicit_bounds[0] == 0.001
    assert dict(point.attributes) == {
        "cicd.pipeline.task.name": "nap",
        "cicd.pipeline.task.run.result": "success",
    }


def test_how_long_commits_took(measuring, tmp_path):
    with measuring.orchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit(double).result()
    (point,) = measuring.points("taskorch.journal.commit.duration")
    assert point.count >= 1
    assert point.sum > 0


def test_a_histogram_that_raises_loses_no_commit(measuring, tmp_path, caplog):
    orch = measuring.orchestrator(journal=tmp_path / "runs.db")

    class Raises:
        def record(self, _seconds):
            raise OSError

    orch._rt.metrics._process.commits = Raises()
    with orch:
        assert orch.submit(double, 3).result() == 6
    assert "the duration of a commit was not noted" in caplog.text


def test_all_orchestrators_of_a_process_are_added_up(measuring):
    with measuring.orchestrator() as one, measuring.orchestrator() as other:
        one.submit(double).result()
        other.submit(double).result()
        one.wait()
        other.wait()
        ended = measuring.values("taskorch.tasks.ended")
    assert ended["completed",] == 2


def test_an_orchestrator_that_is_gone_is_not_kept_for_its_metrics(measuring):
    with measuring.orchestrator() as orch:
        orch.submit(double).result()
    process = orch._rt.metrics._process
    assert len(process.sources) == 1
    del orch
    gc.collect()
    assert len(process.sources) == 0


def test_names_beyond_the_first_hundred_are_one(measuring, monkeypatch):
    monkeypatch.setattr(_metrics, "MANY", 2)
    with measuring.orchestrator(resources={"a": 1, "b": 2, "c": 4, "d": 8}) as orch:
        for name in "xyzx":
            orch.submit_task(Task.call(double, type=name)).result()
    types = {
        p.attributes["cicd.pipeline.task.name"]
        for p in measuring.points("taskorch.attempt.duration")
    }
    assert types == {"x", "y", "other"}
    assert measuring.values("taskorch.pool.limit") == {
        ("a",): 1,
        ("b",): 2,
        ("other",): 12,
    }


def test_a_hundred_names_are_told_apart(measuring):
    """As many as the guide says, before `other` stands for the rest."""
    pools = {f"p{n:03}": 1 for n in range(103)}
    with measuring.orchestrator(resources=pools):
        limits = measuring.values("taskorch.pool.limit")
    assert len(limits) == 101
    assert limits["other",] == 3


def test_the_age_of_the_queue_is_that_of_the_oldest_of_all(measuring):
    go = threading.Event()
    one, other = (measuring.orchestrator(concurrency=1) for _ in range(2))
    with one, other:
        try:
            for orch in (one, other):
                for _ in range(2):
                    orch.submit(go.wait, PATIENCE)
            eventually(
                lambda: all(
                    (o.get_stats().queue.oldest or 0) > 0.1 for o in (one, other)
                )
            )
            told = measuring.values("taskorch.queue.age")[()]
            oldest = max(o.get_stats().queue.oldest for o in (one, other))
        finally:
            go.set()
    assert 0.1 < told <= oldest


def test_a_slot_that_is_held_by_what_would_not_stop_is_told(measuring):
    began, go = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go.wait(PATIENCE)

    leaked = threading.Event()
    with measuring.orchestrator(grace=0) as orch:
        orch.signals.slot_leaked.connect(lambda _: leaked.set(), weak=False)
        handle = orch.submit(hold)
        try:
            assert began.wait(PATIENCE)
            handle.cancel()
            assert leaked.wait(PATIENCE)
            assert measuring.values("taskorch.slots.leaked") == {(): 1}
        finally:
            go.set()
        eventually(lambda: measuring.values("taskorch.slots.leaked") == {(): 0})


def test_an_attempt_that_is_put_aside_has_ended(measuring):
    with measuring.orchestrator() as orch:
        began = threading.Event()

        def asks() -> None:
            from taskorch import current_context

            began.set()
            context = current_context()
            while True:
                context.checkpoint()

        handle = orch.submit_task(Task.call(asks, id="a", type="asks"))
        assert began.wait(PATIENCE)
        aside = threading.Event()
        orch.signals.task_suspended.connect(lambda _: aside.set())
        orch.suspend_task("a")
        assert aside.wait(PATIENCE)
        orch.cancel_task("a")
        handle.exception()
    (point,) = measuring.points("taskorch.attempt.duration")
    assert point.attributes["cicd.pipeline.task.run.result"] == "cancellation"


def test_a_program_that_is_stopped_where_it_stands_is_one_attempt(measuring, tmp_path):
    wait = "until [ -e go ]; do sleep 0.02; done"
    with measuring.orchestrator() as orch:
        began, held = threading.Event(), threading.Event()
        orch.signals.task_started.connect(lambda _: began.set(), weak=False)
        orch.signals.task_suspended.connect(lambda _: held.set(), weak=False)
        handle = orch.submit_task(
            Task.program(["sh", "-c", wait], cwd=tmp_path, id="p")
        )
        assert began.wait(PATIENCE)
        assert orch.suspend_task("p")
        assert held.wait(PATIENCE)
        assert orch.resume_task("p")
        (tmp_path / "go").touch()
        handle.result(PATIENCE)
    (point,) = measuring.points("taskorch.attempt.duration")
    assert point.count == 1
    assert point.attributes["cicd.pipeline.task.run.result"] == "success"


SETUP = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.ext.telemetry.tools import run
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
"""
USE = """
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    orch.submit(int, 3).result()
"""
ASK = """
data = reader.get_metrics_data()
print(sum(len(s.metrics) for r in data.resource_metrics for s in r.scope_metrics) if data else 0)
"""


def test_an_sdk_that_is_set_for_the_process_is_found():
    (count,) = run(SETUP + USE + ASK)
    assert int(count) > 8


def test_the_api_alone_is_none():
    ask = "print(orch._rt.metrics)"
    assert run("import opentelemetry.metrics\n" + USE + ask) == ["None"]
    assert TaskOrchestrator(meter_provider=NoOpMeterProvider())._rt.metrics is None


def test_a_provider_is_one():
    with pytest.raises(InvalidTaskError, match="MeterProvider"):
        TaskOrchestrator(meter_provider="otel")
