"""Numbers: statistics and health."""

import asyncio
import re
import threading
import time
from datetime import UTC, datetime

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, fail

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    cli,
)
from taskorch.client import Client
from taskorch.frontends.service import new_token
from taskorch.model import Breaker, Durations
from taskorch.reading import JournalReader
from taskorch.runtime._reports import _durations


def test_an_orchestrator_at_rest() -> None:
    """Nothing has happened, and the numbers say so."""
    with TaskOrchestrator(resources=Resources(cpu=4, gpu=1)) as orch:
        stats = orch.get_stats()
        assert stats.queue.queued == stats.queue.processing == 0
        assert stats.queue.oldest is None
        assert stats.state_machine.total == 0
        assert (stats.retries.scheduled, stats.leaked, stats.events_lost) == (0, 0, 0)
        assert dict(stats.types) == {}
        assert dict(stats.failures) == {}
        assert stats.resources["cpu"].total == 4
        assert stats.resources["gpu"].free == 1
        assert set(stats.agents) == {"local"}


def test_one_task_in_every_state() -> None:
    """Counts per state add up, and the queue's are those of the core report."""
    with TaskOrchestrator(concurrency=1) as orch:
        recorder = Recorder(orch, "task_blocked", "task_retrying")
        orch.submit(int).result(PATIENCE)
        bad = orch.submit(fail, ValueError())
        orch.submit(abs, bad)
        orch.submit_task(
            Task.call(fail, ValueError(), retry=RetryPolicy(2, base=60, jitter=0))
        )
        recorder.wait_for(2)
        orch.cancel_task(orch.submit_task(Task.call(int, not_before=60)).task_id)
        aside = orch.submit_task(Task.call(int, not_before=60))
        orch.suspend_task(aside.task_id)
        hold = Hold()
        running = orch.submit(hold)
        hold.wait()
        orch.submit(abs, running)
        orch.submit(int)
        orch.submit(int)
        stats = orch.get_stats()
        states = stats.state_machine
        assert (states.pending, states.queued, states.running) == (1, 2, 1)
        assert (states.retrying, states.blocked, states.suspended) == (1, 1, 1)
        assert (states.completed, states.failed, states.cancelled) == (1, 1, 1)
        assert states.total == 10
        assert (stats.queue.queued, stats.queue.processing) == (2, 1)
        assert stats.queue.oldest is not None
        assert stats.queue.oldest >= 0
        hold.release()
        orch.stop(drain=False)


def test_times_per_type() -> None:
    """Quantiles of waiting, running and all of it, in seconds, of what completed."""
    with TaskOrchestrator(concurrency=1) as orch:
        for seconds in (0.0, 0.0, 0.0, 0.5):
            orch.submit_task(Task.call(time.sleep, seconds, type="nap"))
        assert orch.wait(PATIENCE)
        nap = orch.get_stats().types["nap"]
        assert (nap.completed, nap.failed, nap.cancelled) == (4, 0, 0)
        assert nap.running is not None
        assert nap.queued is not None
        assert nap.total is not None
        assert 0 <= nap.running.p50 < 0.5 <= nap.running.p95
        assert nap.queued.p50 <= nap.queued.p95
        assert nap.total.p95 >= nap.running.p95


def test_times_are_in_seconds() -> None:
    assert _durations([2_000_000_000]) == Durations(2.0, 2.0)


def test_failures_by_type_and_cause() -> None:
    """By the class of the exception for a type, by the cause for all."""
    with TaskOrchestrator() as orch:
        for error in (ValueError(), ValueError(), KeyError()):
            orch.submit_task(Task.call(fail, error, type="bad"))
        orch.submit_task(Task.call(asyncio.sleep, 60, type="slow", timeout=0.01))
        orch.submit_task(Task.call(int, type="off", not_before=60, id="off"))
        orch.cancel_task("off")
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        assert dict(stats.types["bad"].failures) == {"ValueError": 2, "KeyError": 1}
        assert stats.types["bad"].failed == 3
        assert stats.types["bad"].running is None
        assert dict(stats.types["slow"].failures) == {"TaskTimeoutError": 1}
        assert stats.types["off"].cancelled == 1
        assert dict(stats.failures) == {"error": 3, "timeout": 1}


def test_retries_are_counted() -> None:
    """Scheduled, recovered and exhausted."""
    with TaskOrchestrator() as orch:
        calls: list[int] = []

        def flaky() -> None:
            calls.append(1)
            if len(calls) < 3:
                fail(ValueError())

        policy = RetryPolicy(3, base=0)
        orch.submit_task(Task.call(flaky, retry=policy)).result(PATIENCE)
        orch.submit_task(Task.call(fail, ValueError(), retry=policy))
        assert orch.wait(PATIENCE)
        retries = orch.get_stats().retries
        assert (retries.scheduled, retries.recovered, retries.exhausted) == (4, 1, 1)


def test_agents_success_rate_and_latency() -> None:
    """The record of an agent at a type of task: Laplace's rate and the EWMA latency."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_completed")

        @orch.agent("reviewer", capabilities={"review"}, max_concurrency=2)
        def review(task, context) -> None:
            if task.payload == "bad":
                fail(ValueError())

        for payload in ("good", "good", "good", "bad"):
            orch.submit_task(Task("review", payload)).exception(PATIENCE)
        assert orch.wait(PATIENCE)
        stats = orch.get_stats().agents["reviewer"]
        assert (stats.completed, stats.failed, stats.running) == (3, 1, 0)
        assert (stats.max_concurrency, stats.capacity, stats.leaked) == (2, None, 0)
        record = stats.performance["review"]
        assert (record.completed, record.failed) == (3, 1)
        assert record.success_rate == (3 + 1) / (4 + 2)
        expected = recorder.events[0].latency
        for event in recorder.events[1:]:
            expected += 0.2 * (event.latency - expected)
        assert record.latency == pytest.approx(expected, rel=1e-6)


def test_resources_and_agents_in_use() -> None:
    """What running tasks hold stands in the pools and at the agents."""
    with TaskOrchestrator(resources=Resources(cpu=4)) as orch:
        hold = Hold()

        @orch.agent(
            "box",
            capabilities={"work"},
            capacity=Resources(cpu=2, slots=3),
            request=Resources(cpu=1, slots=1),
        )
        def work(task, context) -> None:
            hold()

        handle = orch.submit_task(Task("work"))
        hold.wait()
        stats = orch.get_stats()
        assert (stats.resources["cpu"].used, stats.resources["cpu"].free) == (1, 3)
        assert stats.agents["box"].running == 1
        assert stats.agents["box"].used == Resources(cpu=1, slots=1)
        status = orch.get_task_status(handle.task_id)
        assert status.allocation == Resources(cpu=1, slots=1)
        assert status.agent_id == "box"
        hold.release()
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        assert stats.resources["cpu"].used == 0
        assert stats.agents["box"].used == Resources()
        assert orch.get_task_status(handle.task_id).allocation == Resources()


def test_statistics_are_of_one_instant() -> None:
    """While much goes on, every reading adds up."""
    with TaskOrchestrator(concurrency=4, keep_finished=10) as orch:
        ended = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            while not ended.is_set():
                stats = orch.get_stats()
                states = stats.state_machine
                if stats.queue.queued != states.queued or states.running > 4:
                    wrong.append(states)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in orch.map(pow, range(2000), [2] * 2000):
            pass
        ended.set()
        reader.join(PATIENCE)
        assert wrong == []
        assert orch.get_stats().state_machine.completed == 2000


def test_statistics_cannot_be_changed() -> None:
    """They are values."""
    with TaskOrchestrator() as orch:
        orch.submit(int).result(PATIENCE)
        stats = orch.get_stats()
        for mapping in (stats.types, stats.agents, stats.resources, stats.failures):
            with pytest.raises(TypeError):
                mapping["x"] = 1  # type: ignore[index]


def test_health_before_during_and_after() -> None:
    """Live and ready only while it takes work."""
    orch = TaskOrchestrator()
    health = orch.health()
    assert (health.status, health.live, health.ready) == ("failed", False, False)
    assert health.checks[0].detail == "not started"
    with orch:
        health = orch.health()
        assert (health.status, health.live, health.ready) == ("ok", True, True)
        assert [c.component for c in health.checks] == [
            "scheduler",
            "slots",
            "receivers",
            "queue",
            "agents",
            "journal",
        ]
    health = orch.health()
    assert (health.status, health.ready) == ("failed", False)
    assert health.checks[0].detail == "stopped"


def test_health_names_the_slow_receiver() -> None:
    """A receiver that lags behind degrades the health, by name."""
    with TaskOrchestrator() as orch:
        orch._rt.publisher.slow_after = 0.02
        hold = Hold()

        def laggard(event) -> None:
            hold()

        orch.signals.task_completed.connect(laggard)
        fast = Recorder(orch, "task_completed")
        orch.submit(int)
        fast.wait_for(1)
        check = next(c for c in orch.health().checks if c.component == "receivers")
        assert check.status == "degraded"
        assert "laggard" in check.detail
        hold.release()


def test_health_names_the_policy_that_fails() -> None:
    """A router that breaks on every task is not ok, though everything else is."""

    class Broken:
        def route(self, task: object, candidates: object, context: object) -> None:
            msg = "no such map"
            raise LookupError(msg)

    with TaskOrchestrator(router=Broken()) as orch:
        for _ in range(3):
            orch.submit(int).exception(PATIENCE)
        health = orch.health()
        assert health.status == "degraded"
        check = next(c for c in health.checks if c.component == "router")
        assert check.status == "degraded"
        assert "it has failed 3 times" in check.detail
        assert "LookupError: no such map" in check.detail


def test_metrics_have_the_coverage_that_results_tell_of():
    """Of each type the latest: a share as suites have it, or a percentage."""
    with TaskOrchestrator() as orch:

        @orch.agent("tests", capabilities={"unit", "whole", "shop"})
        def do(task, context):
            return task.payload

        for kind, result in (
            ("unit", {"coverage": 0.5}),
            ("unit", {"coverage": 0.75}),
            ("whole", {"coverage_percentage": 96.5}),
            ("shop", {"coverage": 1_200}),
            ("shop", {"coverage": True}),
        ):
            orch.submit_task(Task(kind, result)).result(PATIENCE)
        measured = orch.metrics()["test_coverage_percentage"]
        assert measured == {"unit": 75.0, "whole": 96.5}


def test_whose_breakers_are_open_is_in_health():
    with TaskOrchestrator() as orch:

        @orch.agent("good", capabilities={"do"}, breaker=Breaker(failures=1))
        def good(task, context):
            return 1

        @orch.agent("bad", capabilities={"do"}, breaker=Breaker(failures=1))
        def bad(task, context):
            raise ValueError

        def check():
            return next(c for c in orch.health().checks if c.component == "agents")

        assert check().status == "ok"
        while check().status == "ok":
            orch.submit_task(Task("do", None)).exception(PATIENCE)
        assert (check().status, check().detail) == (
            *("degraded", "breakers are open of bad"),
        )


MENDED = []


def lack(what, number):
    if what in MENDED:
        return
    raise LookupError(f"no {what} for part {number}")


def test_two_causes_of_one_class_are_two(tmp_path, capsys):
    """By Python, over HTTP, in a journal, and at a command line; what was mended is none."""
    path, token = tmp_path / "runs.db", new_token()
    # One after the other: they fail in the order in which they are submitted.
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        for number in range(5):
            orch.submit_task(Task.call(lack, "table", number, id=f"t{number}"))
        for number in range(3):
            orch.submit_task(Task.call(lack, "disk", number, id=f"d{number}"))
        orch.submit_task(Task.call(int, "x", id="odd"))
        orch.wait(PATIENCE)
        assert [(e.error_type, e.pattern, e.count) for e in orch.failures()] == [
            ("LookupError", "no table for part #", 5),
            ("LookupError", "no disk for part #", 3),
            ("ValueError", "invalid literal for int() with base #: 'x'", 1),
        ]
        expected = orch.failures()
        assert expected[1].tasks == ("d0", "d1", "d2")
        assert expected[1].first < expected[1].last <= datetime.now(UTC)
        assert JournalReader(path).failures() == orch.failures()
        with orch.serve(port=0, token=token) as server:
            told = Client(server.url, token=token).failures()
        for cause, document in zip(expected, told, strict=True):
            assert document["tasks"] == [*cause.tasks]
            assert document["count"] == cause.count
            assert datetime.fromisoformat(document["last"]) == cause.last
        assert cli.main(["inspect", str(path)]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"5 +LookupError: no table for part 0\n3 +LookupErr", shown)
        orch.rerun_task("t4")
        orch.wait(PATIENCE)
        assert orch.failures()[0].tasks[-2:] == ("t4~1", "t4~2")
        MENDED.append("table")
        orch.rerun_task("t4")
        orch.wait(PATIENCE)
        assert orch.failures()[0].count == 4
