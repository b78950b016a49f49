"""Crowds of workers: who gets the work, and what a router of the user's is shown."""

from collections import Counter

import pytest

from taskorch.events import TaskStarted
from taskorch.model import Breaker, RetryPolicy, Task
from taskorch.policies import LeastLoadedRouter, PerformanceRouter
from taskorch.protocols import Route
from taskorch.testing import Outcome, Simulation

CROWD = 60
BAD = Outcome(0.001, error=OSError("no disk"))


def crowd(many=CROWD, bad=(), *, limit=1, breaker=None, seed=3, **options):
    """A simulation of so many workers, of which the *bad* ones fail at once."""
    simulation = Simulation(seed, check=False, concurrency=many * 9, **options)
    for number in range(many):
        simulation.agent(
            f"a{number}",
            capabilities={"x"},
            max_concurrency=limit,
            breaker=breaker,
            work=BAD if number in bad else 1.0,
        )
    return simulation


def tasks(many, **options):
    return [Task("t", requires={"x"}, **options) for _ in range(many)]


def attempts(simulation):
    """How many attempts each worker has begun."""
    started = (event for event in simulation.events if isinstance(event, TaskStarted))
    return Counter(event.agent_id for event in started)


@pytest.mark.parametrize("breaker", [None, Breaker()], ids=["no breaker", "breaker"])
@pytest.mark.parametrize("limit", [1, 4])
def test_a_black_hole_in_a_crowd_gets_next_to_nothing(limit, breaker):
    """Though it is free whenever anybody comes, and a backlog waits for the others."""
    simulation = crowd(bad={7}, limit=limit, breaker=breaker)
    retry = RetryPolicy(max_attempts=3, wait="fixed", base=0)
    simulation.submit_tasks(tasks(700, retry=retry))
    simulation.run()
    # Without breakers, a task or two come back to it until their attempts are over.
    most = 0 if breaker else 3
    assert simulation.get_stats().state_machine.failed <= most
    assert attempts(simulation)["a7"] <= 15


def test_the_one_good_worker_of_a_crowd_is_found():
    """And once it is, tasks wait for it rather than fail elsewhere."""
    simulation = crowd(bad=set(range(CROWD)) - {30}, router=PerformanceRouter(0.0))
    simulation.submit_tasks(tasks(800))
    simulation.run()
    begun = attempts(simulation)
    # Seven failures are what it takes to know one that fails, beside the good one.
    assert all(begun[f"a{number}"] <= 8 for number in range(CROWD) if number != 30)
    assert simulation.get_stats().state_machine.completed == begun["a30"] >= 300


def test_in_a_crowd_what_comes_one_after_another_does_not_all_go_to_one():
    """Though that one is idle each time, and has the best record."""
    simulation = crowd(many=60)
    for number in range(600):
        simulation.at(number * 2.0, lambda: simulation.submit_tasks(tasks(1)))
    simulation.run()
    begun = attempts(simulation)
    assert sum(begun.values()) == 600
    assert len(begun) >= 35
    assert max(begun.values()) <= 300


@pytest.mark.parametrize(
    "router", [None, LeastLoadedRouter(choices=2)], ids=["default", "two choices"]
)
def test_the_same_seed_makes_the_same_choices(router):
    """Whom it draws is in the seed; another seed draws others."""

    def run(seed):
        simulation = crowd(seed=seed, bad={1, 5}, router=router)
        simulation.submit_tasks(tasks(150))
        simulation.run()
        return [
            (event.task_id, event.agent_id, event.reason)
            for event in simulation.events
            if isinstance(event, TaskStarted)
        ]

    assert run(4) == run(4) != run(5)


class Rotating:
    """A router that keeps what it was shown, and changes it."""

    def __init__(self):
        self.shown = []
        self.kept = []

    def route(self, task, candidates, context):
        names = [worker.name for worker in candidates]
        assert all(worker.running < worker.max_concurrency for worker in candidates)
        self.shown.append(names)
        self.kept.append(candidates)
        return Route(names[len(self.shown) % len(names)], "in turn")


def test_a_router_of_the_users_is_shown_all_with_room_in_their_order():
    """Those that joined first come first; what it keeps does not change any more."""
    router = Rotating()
    simulation = crowd(router=router)
    simulation.submit_tasks(tasks(200))
    simulation.run()
    everybody = [f"a{number}" for number in range(CROWD)]
    busy, free = set(), {name: at for at, name in enumerate(everybody)}
    for number in range(CROWD):
        left = [name for name in everybody if name not in busy]
        assert router.shown[number] == left
        busy.add(left[(number + 1) % len(left)])
    for names, kept in zip(router.shown, router.kept, strict=True):
        assert names == [worker.name for worker in kept]
        assert [free[name] for name in names] == sorted(free[name] for name in names)


def test_what_a_router_does_to_its_list_is_its_own():
    """One that empties it is asked about all of them the next time."""

    class Emptying(Rotating):
        def route(self, task, candidates, context):
            route = super().route(task, candidates, context)
            candidates.clear()
            return route

    router = Emptying()
    simulation = crowd(many=40, router=router)
    simulation.submit_tasks(tasks(40))
    simulation.run()
    assert [len(names) for names in router.shown] == list(range(40, 0, -1))
