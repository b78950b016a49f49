"""Sizes that are measured, in random worlds: nothing fails for want of what it may have."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import current_context
from taskorch.errors import MemoryLimitError
from taskorch.events import TaskFailed, TaskRetrying, TaskStarted, TaskSubmitted
from taskorch.model import Elastic, ProgramResult, Resources, Task, TaskState
from taskorch.policies import Measured, PoolAllocator
from taskorch.protocols import Allocation
from taskorch.testing import Faults, Outcome, Simulation

MB = 1_000_000
ASKED = 1000
POOL = 3000


def result(memory_mb):
    return ProgramResult(("p",), 0, "", "", None, 1.0, memory_mb=memory_mb)


def use(memory_mb):
    """What a program does that is held to what it was granted."""
    limit = current_context().allocation["memory_mb"]
    if memory_mb > limit:
        msg = f"used {limit} of {limit} MB"
        raise MemoryLimitError(msg, result=result(limit), peak=limit, limit=limit)
    return result(memory_mb)


def world(needs, *, seed=1, allocator=None, capacity=None, **options):
    """Tasks of a few types that ask for the same, and need *needs* of it, in turn."""
    simulation = Simulation(
        seed=seed,
        allocator=allocator or Measured(),
        resources=Resources(memory_mb=POOL),
        concurrency=20,
        **options,
    )
    simulation.agent("here", capabilities={"x"}, max_concurrency=20, capacity=capacity)
    tasks = []
    for number, need in enumerate(needs):
        kind = "ab"[number % 2]
        simulation.work(kind, Outcome(1.0, calls=True))
        tasks.append(
            Task.call(
                use,
                need,
                type=kind,
                id=f"{kind}{number}",
                requires={"x"},
                resources=Resources(memory_mb=ASKED),
            )
        )
    for number, task in enumerate(tasks):
        simulation.at(0.3 * number, lambda task=task: simulation.submit_task(task))
    return simulation


def of(simulation, kind):
    return [event for event in simulation.events if isinstance(event, kind)]


def journal(simulation):
    kept = simulation.world.journal
    assert kept is not None
    return kept


NEEDS = st.lists(
    st.sampled_from([20, 90, 100, 105, 400, 999, 1000]), min_size=12, max_size=40
)


@pytest.mark.needs("recovery")
@settings(max_examples=examples(40))
@given(NEEDS, st.integers(0, 1000), st.sampled_from([0.0, 0.02]))
def test_what_fits_the_request_completes_and_counts_as_one_try(needs, seed, crash):
    """
    Whatever was granted; no task says that it may be tried again.

    One whose workers have died again and again is no worse off than with any allocator.
    """
    faults = Faults(crash=crash, agent_death=crash, points=0.1, for_ever=0)
    simulation = world(needs, seed=seed, faults=faults)
    simulation.run()
    simulation.check()

    failed = of(simulation, TaskFailed)
    assert {event.cause for event in failed} <= {"poisoned"}
    states = [*simulation.acknowledged.values()]
    assert {*states} <= {TaskState.COMPLETED, TaskState.FAILED}
    assert states.count(TaskState.FAILED) <= len(failed)
    for event in of(simulation, TaskStarted):
        granted = dict(event.allocation)["memory_mb"]
        assert granted <= ASKED * MB
        if event.attempt > 1:
            assert granted == ASKED * MB
        assert ("less than it asked for" in event.reason) == (granted < ASKED * MB)
    for event in of(simulation, TaskRetrying):
        if event.cause == "undersized":
            assert (event.attempt, event.charged) == (1, False)
        assert event.cause != "error"


def test_more_runs_at_once_when_sizes_are_known():
    """A hundred tasks that need a tenth of what they ask for."""

    def seconds(allocator):
        simulation = world([100] * 100, allocator=allocator)
        simulation.run()
        return simulation.now

    assert seconds(Measured()) < seconds(PoolAllocator()) / 1.1


def test_more_runs_at_once_on_a_worker_with_a_capacity_of_its_own():
    """What is granted must fit there, and not all that is asked for."""
    own = Resources(memory_mb=ASKED + 200)

    def seconds(allocator):
        simulation = world([100] * 100, allocator=allocator, capacity=own)
        simulation.run()
        simulation.check()
        return simulation.now

    # Five of each type one after the other; then ten at once.
    assert seconds(PoolAllocator()) >= 100
    assert seconds(Measured()) < 45


def test_what_waits_for_a_worker_waits_for_its_size():
    simulation = world([100] * 40, capacity=Resources(memory_mb=ASKED + 200))

    def more(kind, *numbers):
        return [
            Task.call(
                use,
                100,
                type=kind,
                id=f"{kind}-{number}",
                requires={"x"},
                resources=Resources(memory_mb=ASKED),
            )
            for number in numbers
        ]

    tasks = more("new", 0) + more("a", 0, 1) + more("b", 0)
    simulation.at(60, lambda: simulation.submit_tasks(tasks))
    simulation.work("new", Outcome(2.0, calls=True))
    told = []
    simulation.at(60.5, lambda: told.append(str(simulation.explain("a-1"))))
    simulation.run()
    assert "It needs 102 memory_mb, and worker here has 98 free." in told[0]
    assert "It is enough that new-0 ends." in told[0]


def test_an_elastic_request_waits_for_its_least_on_a_worker():
    """What it is told does not hang on who is asked first, the worker or a pool."""
    simulation = world([100, 100], capacity=Resources(memory_mb=ASKED + 200))
    parts = Elastic(Resources(memory_mb=1100), min={"memory_mb": 512})
    task = Task("elastic", id="e", requires={"x"}, resources=parts)
    simulation.at(0.5, lambda: simulation.submit_task(task))
    told = []
    simulation.at(0.6, lambda: told.append(str(simulation.explain("e"))))
    simulation.run()
    assert "needs 512 memory_mb at the least, and worker here has 200 free" in told[0]
    assert "It is enough that a0 ends." in told[0]
    assert simulation.acknowledged["e"] is TaskState.COMPLETED


@pytest.mark.needs("recovery")
def test_one_that_needs_more_is_made_again_with_all_of_it():
    simulation = world([100] * 40 + [900] + [100] * 19)
    simulation.run()
    (retried,) = of(simulation, TaskRetrying)
    assert retried.task_id == "a40"
    assert retried.cause == "undersized"
    assert retried.failure_class == "memory_error"
    assert retried.reason == (
        "now it gets all that it asked for; it had less than that: 102 of 1,000 "
        "memory_mb, since 19 tasks of its type used 100 or less"
    )
    first, second = [e for e in of(simulation, TaskStarted) if e.task_id == "a40"]
    assert dict(first.allocation)["memory_mb"] == 102 * MB
    assert "102 of 1,000 memory_mb, since" in first.reason
    assert dict(second.allocation)["memory_mb"] == ASKED * MB
    assert simulation.get_task_status("a40").attempts == 2


@pytest.mark.needs("recovery")
def test_what_needs_more_than_it_asks_for_fails_as_ever():
    """The second time all of it was too little: that is the fault of the task."""
    simulation = world([100] * 40 + [2000])
    simulation.run()
    (retried,) = of(simulation, TaskRetrying)
    (failed,) = of(simulation, TaskFailed)
    assert (retried.cause, failed.cause) == ("undersized", "error")
    assert (failed.attempt, failed.charged) == (2, True)


def test_a_task_that_must_not_run_twice_gets_all_of_it():
    simulation = world([100] * 40)
    once = Task.call(
        use,
        900,
        type="a",
        id="once",
        requires={"x"},
        resources=Resources(memory_mb=ASKED),
        idempotent=False,
    )
    simulation.at(60, lambda: simulation.submit_task(once))
    simulation.run()
    (started,) = [e for e in of(simulation, TaskStarted) if e.task_id == "once"]
    assert dict(started.allocation)["memory_mb"] == ASKED * MB
    assert len(of(simulation, TaskSubmitted)) == 41


class Miser(PoolAllocator):
    """It grants a hundredth of what is asked for, each time."""

    rigid = False

    def allocate(self, request, pools, context):
        answer = super().allocate(request, pools, context)
        if answer.granted is None:
            return answer
        return Allocation(Resources(memory_mb=10), "it is a miser")


@pytest.mark.needs("recovery")
def test_an_allocator_that_always_grants_too_little_does_not_go_on_for_ever():
    simulation = world([100], allocator=Miser())
    simulation.run()
    (retried,) = of(simulation, TaskRetrying)
    (failed,) = of(simulation, TaskFailed)
    assert retried.reason == (
        "now it gets all that it asked for; it had less than that: it is a miser"
    )
    assert failed.attempt == 2


def test_what_must_not_run_twice_does_not_whoever_granted_too_little():
    simulation = world([], allocator=Miser())
    once = Task.call(
        use,
        100,
        id="once",
        requires={"x"},
        resources=Resources(memory_mb=ASKED),
        idempotent=False,
    )
    simulation.work("call", Outcome(1.0, calls=True))
    simulation.submit_task(once)
    simulation.run()
    (failed,) = of(simulation, TaskFailed)
    assert (failed.attempt, failed.charged) == (1, True)


@pytest.mark.parametrize("kind", [ValueError, KeyError])
def test_another_failure_is_none_of_it(kind):
    def fail():
        raise kind("no")

    simulation = world([100] * 40)
    bad = Task.call(
        fail,
        type="a",
        id="bad",
        requires={"x"},
        resources=Resources(memory_mb=ASKED),
    )
    simulation.at(60, lambda: simulation.submit_task(bad))
    simulation.run()
    (failed,) = of(simulation, TaskFailed)
    assert (failed.task_id, failed.attempt) == ("bad", 1)
    assert not of(simulation, TaskRetrying)


def test_what_waits_for_memory_waits_for_its_size():
    """Not for all that it asks for: the end of one other is enough."""
    simulation = world([100] * 40)
    simulation.at(
        60,
        lambda: simulation.submit_tasks(
            [
                Task.call(
                    use,
                    100,
                    type=kind,
                    id=f"{kind}-{number}",
                    requires={"x"},
                    resources=Resources(memory_mb=ASKED),
                )
                for kind, number in [("new", 0), ("new", 1), ("new", 2), ("a", 0)]
            ]
        ),
    )
    simulation.work("new", Outcome(2.0, calls=True))
    told = []
    simulation.at(60.5, lambda: told.append(str(simulation.explain("a-0"))))
    simulation.run()
    assert "It needs 102 memory_mb, and 0 of 3000 is free." in told[0]
    assert "It is enough that new-0 ends." in told[0]
