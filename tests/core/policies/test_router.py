"""PerformanceRouter."""

from __future__ import annotations

from random import Random

from tests.core.policies.fakes import FakeContext, FakeWorker, NoRandom

from taskorch.model import Performance, Task
from taskorch.policies import PerformanceRouter
from taskorch.protocols import TaskRouter

TASK = Task("t")
GREEDY = PerformanceRouter(exploration=0)


def agent(name, completed=0, failed=0, latency=None, limit=None, running=0):
    done = Performance(completed, failed, latency)
    return FakeWorker(name, ("t",), limit, running, done=done)


def test_it_is_a_task_router():
    """It has the methods of its protocol, and shows its option."""
    assert isinstance(PerformanceRouter(), TaskRouter)
    assert repr(PerformanceRouter()) == "PerformanceRouter(exploration=0.1)"


def crowd(many, good=(), **usual):
    """So many agents, of which some have done everything well."""
    workers = [agent(f"a{number}", **usual) for number in range(many)]
    for number in good:
        workers[number].done = Performance(99, 0, 1.0)
    return workers


def chosen(workers, times, router=GREEDY, seed=5):
    """Places of the agents that so many tasks go to, and the last reason."""
    context = FakeContext(random=Random(seed))
    routes = [router.route(TASK, workers, context) for _ in range(times)]
    return [int(route.agent[1:]) for route in routes], routes[-1]


def test_where_those_drawn_mostly_fail_all_are_compared():
    """One good agent among a thousand black holes is not missed."""
    workers = crowd(1_000, good=[617], failed=9)
    places, route = chosen(workers, 20)

    assert set(places) == {617}
    assert route.reason.endswith("best of 1,000 workers")


def test_the_worker_of_a_plan_is_found_among_thousands():
    """It need not be drawn."""
    task = Task("t", metadata={"taskorch.agent": "a4321"})
    context = FakeContext(random=NoRandom())
    route = PerformanceRouter().route(task, crowd(5_000), context)

    assert (route.agent, route.reason) == (
        "a4321",
        "the plan's choice of 5,000 workers",
    )
