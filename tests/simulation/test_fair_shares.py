"""Nobody starves: owners that share, and kinds of tasks that block themselves."""

from math import ceil

import pytest
from tests.simulation.disasters import run_through_disasters

from taskorch.model import Resources, Task, TaskState
from taskorch.policies import FairShareQueue, PriorityQueue
from taskorch.testing import Simulation

LONGEST = 10.0


def crowd(seed, slots, **options):
    """Owners of unlike weight, one of whom sends far more than can be done."""
    weights = {"loud": 5.0, "quiet": 0.2}
    simulation = Simulation(
        seed=seed, queue=FairShareQueue(weights), concurrency=slots, **options
    )
    simulation.agent("here", capabilities={"x"}, max_concurrency=slots)
    simulation.work("x", lambda task, attempt, random: random.uniform(1, LONGEST))
    return simulation


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_no_owner_waits_longer_than_the_formula_says(slots):
    """The k-th of an owner starts at most k * L * (1 + ceil(n / S)) later."""
    simulation = crowd(3, slots)
    submitted = {}

    def submit(owner, count):
        names = [f"{owner}/{len(submitted) + number}" for number in range(count)]
        submitted.update(dict.fromkeys(names, simulation.now))
        simulation.submit_tasks([Task("x", id=name, owner=owner) for name in names])

    owners = ["loud", "quiet", "other", "late"]
    submit("loud", 150)
    for number in range(6):
        simulation.at(7.0 + 40 * number, lambda: submit("loud", 20))
        simulation.at(5.0 + 40 * number, lambda: submit("quiet", 2))
        simulation.at(11.0 + 40 * number, lambda: submit("other", 3))
    simulation.at(100.0, lambda: submit("late", 4))
    simulation.run()

    assert len(simulation.attempts) == len(submitted)
    started = {one.task_id: one.start for one in simulation.attempts}
    bound = LONGEST * (1 + ceil(len(owners) / slots))
    waits = dict.fromkeys(owners, 0.0)
    for owner in owners:
        mine = [name for name in submitted if name.startswith(f"{owner}/")]
        for name in mine:
            ahead = [
                other
                for other in mine
                if submitted[other] <= submitted[name] < started[other]
            ]
            # What is queued before it, itself included.
            place = 1 + sum(started[other] < started[name] for other in ahead)
            wait = started[name] - submitted[name]
            assert wait <= place * bound
            waits[owner] = max(waits[owner], wait)
    # And the loud one is the one who waits.
    assert waits["loud"] > 2 * max(waits["quiet"], waits["other"], waits["late"])


@pytest.mark.parametrize("backfill", [False, True])
def test_a_kind_that_waits_for_its_pool_starves_no_other(backfill):
    """
    Two pools of 20; in one, 1,000 tasks of a higher priority wait for 19 that run.

    A scheduler that looks at some of the first only never comes to the second pool
    (apache/airflow#45636). Here those of the second start at once, all that fit.
    """
    simulation = Simulation(
        seed=1,
        resources=Resources(first=20, second=20),
        concurrency=64,
        queue=PriorityQueue(backfill=backfill),
    )
    simulation.agent("here", capabilities={"x"}, max_concurrency=64)
    simulation.work("x", 5.0)
    before = [Task("x", id=f"b/{n}", resources={"first": 1}) for n in range(19)]
    simulation.submit_tasks(before)
    many = [
        Task("x", id=f"m/{n}", resources={"first": 1}, priority=2) for n in range(1_000)
    ]
    few = [
        Task("x", id=f"f/{n}", resources={"second": 1}, priority=1) for n in range(100)
    ]
    simulation.submit_tasks([*many, *few])
    simulation.run(until=simulation.now + 1)
    started = [one.task_id for one in simulation.attempts]
    assert sum(name.startswith("f/") for name in started) == 20
    assert sum(name.startswith("m/") for name in started) == 1
    simulation.run(until=simulation.now + 30)
    states = {
        name: simulation.get_task_status(f"f/{name}").state for name in range(100)
    }
    assert set(states.values()) == {TaskState.COMPLETED}


def test_a_kind_that_blocks_itself_starves_no_other_owner():
    """The same of owners: what cannot start now is no reason to wait for the others."""
    simulation = crowd(1, 8, resources=Resources(gpu=1, cpu=8))
    tasks = [
        Task("x", id=f"gpu/{n}", owner="loud", resources={"gpu": 1}) for n in range(300)
    ]
    tasks += [
        Task("x", id=f"cpu/{n}", owner="quiet", resources={"cpu": 1}) for n in range(7)
    ]
    simulation.submit_tasks(tasks)
    simulation.run(until=simulation.now + 0.5)
    started = sorted(one.task_id for one in simulation.attempts)
    assert started == [*(f"cpu/{n}" for n in range(7)), "gpu/0"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_goes_wrong_all_guarantees_hold(seed):
    owners = (None, "ann", "ben", "cy")

    def options(number):
        return {
            "owner": owners[number % 4],
            "resources": {"cpu": (1, 2, 0.5)[number % 3]},
        }

    queue = FairShareQueue({"ann": 2}, by_demand=seed % 2 == 0)
    run_through_disasters(seed, queue, options)
