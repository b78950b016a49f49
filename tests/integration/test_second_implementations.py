"""The second implementation of each protocol, in an orchestrator: all, and one by one."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, eventually, fail

from taskorch import (
    Elastic,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    ValidationFailedError,
    current_context,
)
from taskorch.errors import InvalidTransitionError, UnknownCapabilityError
from taskorch.policies import (
    DeadlineQueue,
    FourStateMachine,
    JsonSchemaValidator,
    LeastLoadedRouter,
    PoolAllocator,
    ProportionalAllocator,
    QuotaRetryHandler,
    SourceRegistry,
)
from taskorch.protocols import Permit

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
    """An orchestrator with two agents that double, and fail at first now and then."""
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


def test_a_source_says_who_does_what() -> None:
    """After a refresh, what was refused is done; the reason names the source."""
    records = {"ann": ["draw"]}
    registry = SourceRegistry(lambda: records, max_age=None)
    with TaskOrchestrator(registry=registry) as orch:
        for name in ("ann", "bob"):
            orch.agent(name, capabilities=())(lambda task, context, name=name: name)
        assert orch.submit_task(Task("draw")).result(PATIENCE) == "ann"
        with pytest.raises(UnknownCapabilityError):
            orch.submit_task(Task("write"))
        records = {"bob": ["draw", "write"]}
        assert orch.submit_task(Task("draw")).result(PATIENCE) == "ann"
        registry.refresh()
        assert orch.submit_task(Task("draw")).result(PATIENCE) == "bob"
        assert orch.submit_task(Task("write")).result(PATIENCE) == "bob"


def test_a_source_is_read_again_while_work_goes_on() -> None:
    """Nobody asks for it: a question that finds the records old sets it going."""
    records = {"ann": ["draw"]}
    registry = SourceRegistry(lambda: records, max_age=0.001)
    with TaskOrchestrator(registry=registry) as orch:
        for name in ("ann", "bob"):
            orch.agent(name, capabilities=())(lambda task, context, name=name: name)
        assert orch.submit_task(Task("draw")).result(PATIENCE) == "ann"
        records = {"bob": ["draw"]}
        eventually(lambda: orch.submit_task(Task("draw")).result(PATIENCE) == "bob")


def test_the_least_loaded_agent_is_chosen_and_explained() -> None:
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
        agents = [orch.get_task_status(f"w{number}").agent_id for number in range(3)]
        assert agents == ["two", "four", "four"]
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


def test_four_states_are_shown() -> None:
    """The label is one of four; the state is the task's own."""
    with TaskOrchestrator(state_machine=FourStateMachine()) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="a"))
        hold.wait()
        orch.submit_task(Task.call(int, id="b", after=["a"]))
        orch.submit_task(Task.call(int, id="c", after=["a"]))
        assert orch.cancel_task("c")

        def shown(task_id):
            status = orch.get_task_status(task_id)
            return status.state, status.label

        assert shown("a") == (TaskState.RUNNING, "running")
        assert shown("b") == (TaskState.PENDING, "queued")
        assert shown("c") == (TaskState.CANCELLED, "failed")
        hold.release()
        assert orch.wait(PATIENCE)
        assert shown("b") == (TaskState.COMPLETED, "completed")
        history = [entry.label for entry in orch.get_task_status("b").history]
        assert history == ["queued", "queued", "running", "completed"]


def test_a_subclass_of_the_four_states_may_forbid() -> None:
    """Who has no word for it need not allow it."""

    class NoPause(FourStateMachine):
        watches = tuple((state, TaskState.SUSPENDED) for state in TaskState)

        def check(self, transition, context):
            return Permit(False, "there are four states, and none is suspended")

    with TaskOrchestrator(state_machine=NoPause()) as orch:
        orch.submit_task(Task.call(int, id="later", not_before=600))
        with pytest.raises(InvalidTransitionError, match="none is suspended"):
            orch.suspend_task("later")
        assert orch.cancel_task("later")


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


def test_a_storm_of_retries_is_cut_off() -> None:
    """Of a hundred attempts that each task may make, twelve are made by all of them."""
    handler = QuotaRetryHandler(tokens=2, refill_per_second=0)
    with TaskOrchestrator(retry_handler=handler) as orch:
        recorder = Recorder(orch, "task_retrying")
        policy = RetryPolicy(100, base=0)
        calls = [
            Task.call(fail, OSError("down"), type="down", retry=policy)
            for _ in range(10)
        ]
        for handle in orch.submit_tasks(calls):
            assert isinstance(handle.exception(PATIENCE), OSError)
        assert orch.wait(PATIENCE)
        statuses = list(orch.tasks())
        assert sum(status.attempts for status in statuses) == 12
        assert "0 of 2 tokens left for 'down'" in recorder.wait_for(2)[1].reason


def test_what_is_free_is_shared_by_those_that_wait() -> None:
    """Four tasks that could use all four cpus run together, with one each."""
    together = threading.Barrier(4)

    def work() -> float:
        # Before any of them ends, and leaves its part to the others.
        held = current_context().allocation["cpu"]
        together.wait(PATIENCE)
        return held

    allocator = ProportionalAllocator({"cpu": 1})
    with TaskOrchestrator(allocator=allocator, resources=Resources(cpu=4)) as orch:
        wants = Elastic(Resources(cpu=4))
        handles = orch.submit_tasks([Task.call(work, resources=wants) for _ in "1234"])
        assert [handle.result(PATIENCE) for handle in handles] == [1, 1, 1, 1]
        alone = orch.submit_task(
            Task.call(lambda: current_context().allocation["cpu"], resources=wants)
        )
        assert alone.result(PATIENCE) == 4


def test_a_pool_allocator_lets_who_wants_all_wait_for_all() -> None:
    """It runs when enough has been released."""
    allocator = PoolAllocator()
    with TaskOrchestrator(allocator=allocator, resources=Resources(cpu=4)) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="first", resources=Resources(cpu=1)))
        hold.wait()
        wants = Elastic(Resources(cpu=4))
        second = orch.submit_task(Task.call(int, id="second", resources=wants))
        blockers = orch.explain("second").blockers
        assert [(b.kind, b.name, b.holders) for b in blockers] == [
            ("resource", "cpu", ("first",))
        ]
        hold.release()
        assert second.result(PATIENCE) == 0
