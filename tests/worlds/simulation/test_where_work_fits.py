"""Units with names, labels and measured sizes in one world: what runs fits where it runs."""

from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples
from tests.worlds.simulation.test_measured import MB, use

from taskorch.errors import UnsatisfiableError
from taskorch.events import TaskFailed, TaskStarted
from taskorch.model import Elastic, NamedUnits, Resources, Task
from taskorch.policies import Measured, ProportionalAllocator
from taskorch.testing import Faults, Outcome, Simulation

PLATFORMS = ("platform:linux", "platform:windows")
NAMES = ("0", "1", "2")
CHUNKS = {"cpu": 1, "memory_mb": 256, "gpu": 0.5}
#: What a task of each type uses, of which it asks for far more.
USED = {"a": (40, 40, 40, 300), "b": (90,)}


def units(least=1):
    names = st.lists(st.sampled_from(NAMES), min_size=least, max_size=3, unique=True)
    return names.map(lambda some: NamedUnits(*some))


WORKERS = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(PLATFORMS),
            "is_far": st.booleans(),
            "slots": st.integers(1, 4),
            "memory_mb": st.sampled_from((None, 400, 1000)),
            "gpu": st.none() | units() | st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=4,
)
TASKS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from("ab"),
            "label": st.sampled_from((None, *PLATFORMS)),
            "gpu": st.sampled_from((0, 0, 0.25, 0.5, 0.6, 1, 2)),
            "elastic": st.sampled_from((False, False, False, True)),
            "once": st.sampled_from((False, False, False, True)),
        }
    ),
    min_size=8,
    max_size=30,
)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(("suspend", "resume", "resize", "shrink", "cancel", "crash")),
        st.integers(0, 30),
        units(least=0),
    ),
    max_size=12,
)


def capacity_of(worker):
    amounts = {name: worker[name] for name in ("memory_mb", "gpu")}
    amounts = {name: much for name, much in amounts.items() if much is not None}
    return Resources(**amounts) if amounts else None


def task_of(number, one):
    amounts = {"memory_mb": 400, "cpu": 1}
    if one["gpu"]:
        amounts["gpu"] = one["gpu"]
    resources = Resources(**amounts)
    if one["elastic"]:
        least = {"gpu": min(0.5, one["gpu"])} if one["gpu"] else {}
        resources = Elastic(
            resources,
            min=amounts | {"memory_mb": 256} | least,
            fallback="all_or_nothing" if number % 3 else "best_effort",
        )
    used = USED[one["kind"]]
    return Task.call(
        use,
        used[number % len(used)],
        type=one["kind"],
        id=f"t{number}",
        requires=["x"] if one["label"] is None else ["x", one["label"]],
        resources=resources,
        idempotent=not one["once"],
        retry=50,
    )


def act(simulation, what, number, names):
    task_id = f"t{number}"
    if not simulation.is_up or task_id not in simulation.acknowledged:
        return
    if what == "suspend":
        simulation.suspend_task(task_id)
    elif what == "resume":
        simulation.resume_task(task_id)
    elif what == "cancel":
        simulation.cancel_task(task_id)
    elif what == "crash":
        simulation.crash()
    elif what == "resize":
        simulation.resize({"gpu": names})
    else:
        simulation.resize({"memory_mb": 100 * (number + 1)})


def look(simulation):
    """What is said of each task that has not ended; nothing of it is ours alone."""
    for task_id, state in simulation.acknowledged.items():
        if simulation.is_up and state is None:
            status = simulation.get_task_status(task_id)
            told = str(simulation.explain(task_id))
            assert "quota:" not in told
            for resource, names in status.units.items():
                need = status.allocation[resource]
                assert len(names) == max(1, need)
                assert all(name in told for name in names)


def check_starts(simulation, wanted, labels):
    """Each attempt ran on a machine that its task names, with as much as it may have."""
    for event in simulation.events:
        if isinstance(event, TaskStarted):
            one = wanted[event.task_id]
            assert one["label"] in (None, labels[event.agent_id])
            granted = dict(event.allocation)
            whole = 400 * MB
            assert granted["memory_mb"] <= whole
            if not one["elastic"] and (one["once"] or event.attempt > 1):
                assert granted["memory_mb"] == whole
            gpu = granted.get("gpu", 0)
            assert gpu == one["gpu"] * MB or (one["elastic"] and gpu >= MB / 2)
        if isinstance(event, TaskFailed) and event.failure_class == "memory_error":
            # Nobody makes that again, or it asks for a part itself.
            one = wanted[event.task_id]
            assert one["once"] or one["elastic"]


@pytest.mark.slow("many random worlds")
@settings(max_examples=examples(60), deadline=None)
@given(WORKERS, TASKS, ACTS, units(), st.integers(0, 9999), st.booleans())
def test_what_runs_fits_where_it_runs_and_all_that_can_end_ends(
    workers, tasks, acts, pool, seed, fair
):
    """
    Whoever dies, is suspended or lost, and whatever comes or goes meanwhile.

    The watch counts amounts and units again, of pools and of each worker.
    """
    faults = (
        Faults.none()
        if fair
        else Faults(
            crash=0.02,
            agent_death=0.05,
            agent_hang=0.03,
            zombie=0.05,
            points=0.1,
            for_ever=0,
        )
    )
    total = {"cpu": 8, "memory_mb": 3000, "gpu": pool}
    simulation = Simulation(
        seed,
        faults=faults,
        allocator=Measured(ProportionalAllocator(CHUNKS)),
        resources=Resources(**total),
        concurrency=8,
        unknown_capability="wait",
    )
    labels = {}
    for number, worker in enumerate(workers):
        labels[f"w{number}"] = worker["label"]
        simulation.agent(
            f"w{number}",
            capabilities={"x"},
            labels={worker["label"]},
            max_concurrency=worker["slots"],
            capacity=capacity_of(worker),
            lease=9.0 if worker["is_far"] else None,
        )
    for kind in "ab":
        simulation.work(kind, Outcome(1.5, calls=True))
    wanted = {}
    left = list(acts)
    for number, one in enumerate(tasks):
        with suppress(UnsatisfiableError):
            simulation.submit_task(task_of(number, one))
            wanted[f"t{number}"] = one
        simulation.run(until=simulation.now + 0.3)
        if left:
            act(simulation, *left.pop())
        look(simulation)
    # In the end everything is there, and goes on.
    simulation.run(until=simulation.now + 60)
    while not simulation.is_up:
        simulation.run(until=simulation.now + 60)
    simulation.resize(total)
    for task_id, state in simulation.acknowledged.items():
        if state is None:
            simulation.resume_task(task_id)
    simulation.run()
    simulation.check()

    check_starts(simulation, wanted, labels)
    incarnation = simulation.world.incarnation
    assert not any(row.used for row in incarnation.kernel.beside.values())
