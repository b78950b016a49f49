"""The second implementation of each protocol, in an orchestrator: all, and one by one."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    ValidationFailedError,
)
from taskorch.policies import (
    DeadlineQueue,
    FourStateMachine,
    JsonSchemaValidator,
    LeastLoadedRouter,
    PoolAllocator,
    QuotaRetryHandler,
    SourceRegistry,
)

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0}},
    "required": ["n"],
    "additionalProperties": False,
}
PARTS = {
    "registry": lambda: SourceRegistry(lambda: {n: ["double"] for n in ("ann", "bob")}),
    "router": lambda: LeastLoadedRouter(choices=1),
    "validator": lambda: JsonSchemaValidator({"double": SCHEMA}),
    "state_machine": FourStateMachine,
    "queue": lambda: DeadlineQueue(default=60),
    "retry_handler": lambda: QuotaRetryHandler(tokens=100, refill_per_second=0),
    "allocator": PoolAllocator,
}


class Busy(Exception):
    """As a server says it: come back at once."""

    retry_after = "0"


@contextmanager
def doubling(**parts):
    """An orchestrator with two workers that double, and fail at first now and then."""
    failed: set[int] = set()

    def double(task, context):
        number = task.payload["n"]
        if number % 5 == 0 and number not in failed:
            failed.add(number)
            raise Busy(number)
        assert context.allocation["cpu"] in (0.5, 1, 1.5, 2)
        return 2 * number

    options = {name: part() for name, part in parts.items()}
    with TaskOrchestrator(resources=Resources(cpu=3), seed=1, **options) as orch:
        for name, most in (("ann", 2), ("bob", 3)):
            orch.agent(name, capabilities={"double"}, max_concurrency=most)(double)
        yield orch


@pytest.mark.parametrize("names", [*([name] for name in PARTS), [*PARTS]], ids="-".join)
def test_work_is_done_as_with_the_defaults(names) -> None:
    """Each of them alone, and all seven: all results are there, and nothing is held."""
    with doubling(**{name: PARTS[name] for name in names}) as orch:
        handles = orch.submit_tasks(
            [
                Task(
                    "double",
                    {"n": number},
                    id=f"d{number}",
                    deadline=600 if number % 3 else None,
                    resources=Resources(cpu=2 if number % 2 else 0.5),
                    retry=RetryPolicy(2, base=0),
                )
                for number in range(40)
            ]
        )
        assert [handle.result(PATIENCE) for handle in handles] == list(range(0, 80, 2))
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        assert (stats.retries.scheduled, stats.retries.recovered) == (8, 8)
        assert stats.resources["cpu"].used == 0
        assert {orch.get_task_status(f"d{n}").agent_id for n in range(40)} == {
            "ann",
            "bob",
        }


def test_the_least_loaded_worker_is_chosen_and_explained() -> None:
    """Half of two slots is more than a quarter of four."""
    with TaskOrchestrator(router=LeastLoadedRouter()) as orch:
        holds = [Hold() for _ in range(3)]

        def work(task, context):
            return holds[task.payload](task.payload)

        orch.agent("two", capabilities={"work"}, max_concurrency=2)(work)
        orch.agent("four", capabilities={"work"}, max_concurrency=4)(work)
        handles = []
        for number, hold in enumerate(holds):
            handles.append(orch.submit_task(Task("work", number, id=f"w{number}")))
            hold.wait()
        workers = [orch.get_task_status(f"w{number}").agent_id for number in range(3)]
        assert workers == ["two", "four", "four"]
        assert "1 running of 4; least of 2 workers" in str(orch.explain("w2"))
        for hold in holds:
            hold.release()
        assert [handle.result(PATIENCE) for handle in handles] == [0, 1, 2]


def test_a_payload_that_does_not_fit_is_refused_with_every_fault() -> None:
    """The caller gets the findings, and nothing was submitted."""
    with doubling(validator=PARTS["validator"]) as orch:
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(Task("double", {"m": 1, "n": "x"}))
        assert sorted(caught.value.findings) == [
            ("payload.m", "it is not known here; the names known: n"),
            ("payload.n", "a whole number is needed, not 'x'"),
        ]
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
        assert len(list(orch.tasks())) == 1


def test_the_earliest_deadline_runs_first() -> None:
    """Seconds and dates are on one clock; then the priority counts."""
    order: list[str] = []
    with TaskOrchestrator(queue=DeadlineQueue(), concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        soon = datetime.now(UTC) + timedelta(seconds=300)
        for name, deadline, priority in (
            ("never", None, 0),
            ("urgent", None, 5),
            ("late", 900, 9),
            ("soon", soon, 0),
            ("middle", 600, 0),
        ):
            orch.submit_task(
                Task.call(
                    order.append, name, id=name, deadline=deadline, priority=priority
                )
            )
        assert orch.set_priority("never", 6)
        hold.release()
        assert orch.wait(PATIENCE)
    assert order == ["soon", "middle", "late", "never", "urgent"]
