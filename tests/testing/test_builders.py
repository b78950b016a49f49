"""The builders: what a policy is given, made by hand."""

from __future__ import annotations

from random import Random

import attrs
import pytest

from taskorch.model import NO_RESOURCES, Performance, Resources, Task, TaskState
from taskorch.policies import BackoffRetryHandler, PerformanceRouter, PoolAllocator
from taskorch.protocols import AllocationRequest
from taskorch.testing._builders import (
    make_agent,
    make_context,
    make_failure,
    make_pool,
    make_task,
)


def test_a_worker_is_idle_and_untried_unless_told_otherwise():
    worker = make_agent()

    assert worker.name == "agent"
    assert worker.capabilities == ()
    assert worker.max_concurrency is None
    assert worker.running == 0
    assert worker.capacity is None
    assert worker.used is NO_RESOURCES
    assert worker.performance("any") == Performance()


def test_capabilities_are_names_and_not_letters():
    with pytest.raises(TypeError, match="capabilities: a list of names"):
        make_agent("a", "gpu")


def test_performance_may_depend_on_the_type():
    good, bad = Performance(9, 0, 0.5), Performance(0, 9)
    known = {"x": good}
    by_type = make_agent(performance=known)
    known["x"] = bad

    assert by_type.performance("x") == good
    assert by_type.performance("y") == Performance()
    assert make_agent(performance=bad).performance("y") == bad
    assert (
        make_agent(performance=lambda name: {"y": good}[name]).performance("y") == good
    )


def test_a_context_is_empty_unless_told_otherwise():
    context = make_context()

    assert context.now == 0
    assert (context.view.queued, context.view.running) == (0, 0)
    assert list(context.view.agents()) == []
    assert dict(context.view.pools()) == {}
    assert context.view.state_of("a") is None


def test_a_context_shows_what_it_is_told():
    workers, pool = [make_agent("b"), make_agent("a")], make_pool("cpu", 1)
    context = make_context(
        now=5.0,
        agents=workers,
        pools=[pool],
        queued=3,
        running=2,
        states={"t": TaskState.BLOCKED},
    )

    assert list(context.view.agents()) == workers
    assert dict(context.view.pools()) == {"cpu": pool}
    assert context.view.state_of("t") is TaskState.BLOCKED
    assert repr(context) == "<context at 5 s: <2 workers, 1 pool, 3 queued, 2 running>>"
    assert dict(make_context(pools={"cpu": pool}).view.pools()) == {"cpu": pool}


def test_equal_seeds_give_equal_draws():
    draws = [make_context(seed=seed).random.random() for seed in (0, 0, 1)]

    assert draws[0] == draws[1] == Random(0).random()
    assert draws[0] != draws[2]


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (make_agent(), "running"),
        (make_pool("cpu", 1), "free"),
        (make_context(), "now"),
        (make_context().view, "queued"),
    ],
)
def test_nothing_can_be_changed(view, name):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(view, name, 1)


def test_the_mappings_of_a_context_cannot_be_changed():
    view = make_context(pools=[make_pool("cpu", 1)]).view

    with pytest.raises(TypeError):
        view.pools()["cpu"] = make_pool("cpu", 2)


def test_a_task_has_an_id():
    assert make_task() == Task("work", id="task-1")
    assert make_task("x", id="a", payload=1, priority=2) == Task(
        "x", 1, id="a", priority=2
    )
    assert make_task(id=None).id is None


def test_a_failure_is_a_first_one_unless_told_otherwise():
    failure = make_failure()
    assert failure.task == make_task()
    assert isinstance(failure.error, RuntimeError)
    assert attrs.astuple(failure, recurse=False)[2:6] == (1, 0.0, 0.0, "agent")

    error, task = KeyError("a"), make_task("x")
    failure = make_failure(
        error, 3, task=task, elapsed=9.0, last_delay=2.0, agent="ann"
    )
    assert attrs.astuple(failure, recurse=False)[:6] == (
        task,
        error,
        3,
        9.0,
        2.0,
        "ann",
    )


def test_policies_of_the_library_take_what_they_make():
    workers = [make_agent("a", running=1), make_agent("b")]
    context = make_context(agents=workers)
    request = AllocationRequest(make_task(), workers[0], Resources(cpu=2))
    pools = {"cpu": make_pool("cpu", 4, 1)}

    assert PerformanceRouter(0).route(make_task(), workers, context).agent == "b"
    assert PoolAllocator().allocate(request, pools, context).granted is None
    assert not BackoffRetryHandler().decide(make_failure(), context).retry
