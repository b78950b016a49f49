"""Tasks of one batch start in the order of their latest finish times."""

from datetime import timedelta

import attrs
import pytest

from taskorch import Task, TaskOrchestrator, ValidationFailedError
from taskorch.policies import FifoQueue
from taskorch.testing import Simulation


def simulated(**options):
    """A world in which it is known how long tasks of three types take."""
    simulation = Simulation(seed=1, **options)
    for name, seconds in (("short", 1.0), ("middle", 5.0), ("long", 20.0)):
        simulation.agent(name, capabilities={name}, max_concurrency=1)
        simulation.work(name, seconds)
        simulation.submit_task(Task(name, id=f"known/{name}"))
    simulation.run()
    return simulation


def started(simulation):
    """The ids of what was started since it is known how long it takes, in order."""
    found = sorted(simulation.attempts, key=lambda attempt: attempt.start)
    ids = [attempt.task_id for attempt in found]
    return [task_id for task_id in ids if not task_id.startswith("known")]


def three(**options):
    return [
        Task(kind, id=kind, requires=["all"], **options)
        for kind in ("short", "middle", "long")
    ]


def with_one_for_all(**options):
    simulation = simulated(**options)
    simulation.agent("all", capabilities={"all"}, max_concurrency=1)
    return simulation


def test_the_longest_of_a_batch_starts_first():
    simulation = with_one_for_all()
    assert simulation.submit_tasks(three()) == ["short", "middle", "long"]
    assert started(simulation.run()) == ["long", "middle", "short"]


def test_priority_comes_first_and_a_later_batch_later():
    simulation = with_one_for_all()
    tasks = three()
    tasks[0] = Task("short", id="short", requires=["all"], priority=1)
    simulation.submit_tasks(tasks)
    more = [Task("short", id="s", requires=["all"]), Task("long", id="l")]
    simulation.at(simulation.now + 0.5, lambda: simulation.submit_tasks(more))
    assert started(simulation.run()) == ["short", "l", "long", "middle", "s"]


def test_first_in_first_out_it_stays():
    simulation = with_one_for_all(queue=FifoQueue())
    simulation.submit_tasks(three())
    assert started(simulation.run()) == ["short", "middle", "long"]


@pytest.mark.parametrize("crash_after", [0.25, 6.0])
def test_the_order_outlives_a_crash(crash_after):
    simulation = with_one_for_all()
    first = Task("short", id="first", requires=["all"])
    simulation.submit_tasks([*three(after=["first"]), first])
    simulation.at(simulation.now + crash_after, simulation.crash)
    order = list(dict.fromkeys(started(simulation.run())))
    assert order == ["first", "long", "middle", "short"]


def test_the_critical_path_of_a_batch_comes_first():
    """Alone `b` is longer than `a`; but more comes after `a`."""
    simulation = with_one_for_all()
    a = Task("short", id="a", requires=["all"])
    b = Task("middle", id="b", requires=["all"])
    c = Task("long", id="c", requires=["all"], after=["a"])
    simulation.submit_tasks([b, c, a])
    assert started(simulation.run()) == ["a", "c", "b"]


def test_explain_says_what_puts_it_behind():
    simulation = with_one_for_all()
    like = [Task("short", id=name, requires=["all"]) for name in ("held", "a", "b")]
    simulation.submit_tasks(like)
    simulation.run(until=simulation.now + 0.5)
    assert simulation.explain("a").order == ""
    said = simulation.explain("b")
    assert said.order.startswith("a came at the same time: of such tasks that one is")
    assert f"\n{said.order}.\n" in str(said)
    simulation.set_priority("b", -1)
    assert simulation.explain("b").order == ""


# -- all ways in -------------------------------------------------------------------


def call(note, kind, **options):
    return Task.call(note, options.get("id", kind), type=kind, **options)


def said(orch, note):
    """What the user says of a task comes before what was measured."""
    tasks = [call(note, "short"), call(note, "middle"), call(note, "long", id="l")]
    pairs = zip(tasks, SAID, strict=True)
    return orch.submit_tasks([attrs.evolve(task, expected=e) for task, e in pairs])


SAID = (timedelta(seconds=7), None, 6)


@pytest.mark.parametrize("expected", [-1, float("nan"), True, "5", 1e12])
def test_what_is_no_duration_is_refused(expected):
    """Also where like tasks were accepted before."""
    orch = TaskOrchestrator()
    orch.submit_tasks([Task.call(len, "a") for _ in range(2)])
    bad = Task.call(len, "a", expected=expected)
    for submit in (orch.submit_tasks, orch.submit_task):
        with pytest.raises(ValidationFailedError, match="expected: "):
            submit([bad, bad] if submit == orch.submit_tasks else bad)
    orch.stop()
