"""What a simulation says when it is given what it cannot use: at once, and in words."""

import asyncio
import math

import pytest

from taskorch.errors import (
    InvalidTaskError,
    UsageError,
)
from taskorch.model import Task
from taskorch.protocols import RetryDecision
from taskorch.testing import Breach, Faults, Outcome, Simulation


def world(**options):
    """A simulation with one worker, which does `x`."""
    simulation = Simulation(**options)
    simulation.agent("a", capabilities={"x"})
    return simulation


class Stubborn:
    """A retry handler that never gives up."""

    def decide(self, failure, context):
        return RetryDecision(retry=True, delay=0.0, reason="again")


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"seed": "x"}, "seed is an int, not 'x'"),
        ({"seed": True}, "seed is an int, not True"),
        ({"resources": {"cpu": -1}}, "cpu"),
        ({"concurrency": 0}, "concurrency is an integer of 1 or more, not 0"),
        ({"keep_finished": -1}, "keep_finished is an integer of 0 or more, not -1"),
        ({"unknown_capability": "go"}, "'go' is not 'refuse' or 'wait'"),
        ({"faults": {"lose": 0.1}}, "faults is a Faults, not"),
        ({"keep": "crash"}, "keep is a collection of names"),
        ({"check": 5}, "check is True, False or an Observer, not 5"),
    ],
)
def test_an_option_is_what_it_says(option, why):
    with pytest.raises(InvalidTaskError, match=why):
        Simulation(**option)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"capabilities": "build"}, "a collection of names, .* not 'build'"),
        ({"capabilities": {1}}, "a name that can be printed, not 1"),
        ({"max_concurrency": 0}, "max_concurrency is an integer of 1 or more, not 0"),
        ({"capacity": {"cpu": 1}}, "capacity is Resources"),
        ({"request": {"cpu": 1}}, "request is Resources"),
        ({"lease": 0}, "lease: 0 seconds"),
        ({"speed": 0}, "speed is a number above 0"),
        ({"speed": math.nan}, "speed is a number above 0"),
    ],
)
def test_a_worker_that_cannot_be_does_not_join(option, why):
    simulation = Simulation()

    with pytest.raises(InvalidTaskError, match=why):
        simulation.agent("b", **option)

    simulation.agent("b", capabilities={"x"})
    simulation.check()


@pytest.mark.parametrize(
    "what", [-1, math.nan, math.inf, "long", None, True, Outcome, 1e300]
)
def test_work_that_cannot_be_is_refused_when_it_is_said(what):
    simulation = world()
    with pytest.raises(InvalidTaskError):
        simulation.work("x", what)
    if what is not None:
        with pytest.raises(InvalidTaskError):
            simulation.submit_task(Task("x"), what)
    assert simulation.tasks() == []


def test_work_that_is_async_is_refused():
    async def work(task, attempt, random):
        return 1.0

    with pytest.raises(InvalidTaskError, match="not an async function"):
        world().work("x", work)


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": -1},
        {"seconds": "1"},
        {"waits": -1},
        {"error": "boom"},
        {"error": OSError},
        {"progress": "half"},
    ],
)
def test_an_outcome_that_cannot_be_is_refused(fields):
    (name,) = fields
    with pytest.raises(InvalidTaskError, match=name):
        Outcome(**fields)


@pytest.mark.parametrize(
    "work", [lambda: 1.0, lambda task, n, random: "a", lambda task, n, random: 1 / 0]
)
def test_what_goes_wrong_in_the_work_of_a_task_names_the_task(work):
    simulation = world()
    with pytest.raises((TypeError, InvalidTaskError, ZeroDivisionError)) as caught:
        simulation.submit_task(Task("x", id="t"), work)

    assert caught.value.__notes__ == ["in the work of task t, attempt 1"]


@pytest.mark.parametrize("tasks", [Task("x"), None, 5])
def test_what_is_no_collection_of_tasks_is_refused(tasks):
    with pytest.raises(InvalidTaskError, match="collection of tasks"):
        world().submit_tasks(tasks)


def test_what_cannot_be_called_is_refused_when_it_is_said():
    with pytest.raises(InvalidTaskError, match="not 5"):
        world().at(1.0, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay_seconds", 5),
        ("delay_seconds", (5, 1)),
        ("delay_seconds", (-5, 1)),
        ("slow_factor", (1, math.inf)),
        ("slow_factor", ("1", "2")),
        ("commit_seconds", -1),
        ("commit_seconds", math.nan),
    ],
)
def test_faults_have_ranges(field, value):
    with pytest.raises(ValueError, match=field):
        Faults(**{field: value})


def test_faults_are_shown_as_they_are_written():
    faults = Faults(lose=0.1, jump_seconds=(-5.0, 5.0))
    assert repr(faults) == "Faults(lose=0.1, jump_seconds=(-5.0, 5.0))"
    assert repr(Faults()) == "Faults()"


# -- what must not hang ----------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("until", [None, 5.0])
def test_a_task_that_is_tried_for_ever_is_a_breach(monkeypatch, check, until):
    """Even where no time passes."""
    monkeypatch.setattr("taskorch.testing._simulation._MOST_ATTEMPTS", 100)
    simulation = world(retry_handler=Stubborn(), check=check)
    simulation.submit_task(Task("x", id="t"), Outcome(0.0, error=OSError("down")))

    with pytest.raises(Breach, match="t begins 101 times: its retry handler") as caught:
        simulation.run(until)

    assert caught.value.law == "ends"


def ticking(simulation, seconds):
    def tick():
        simulation.at(simulation.now + seconds, tick)

    simulation.at(0.0, tick)


def test_a_run_without_an_end_is_given_up():
    simulation = world()
    ticking(simulation, 60.0)

    with pytest.raises(UsageError, match=r"after 100 steps, .* run\(until="):
        simulation.run(steps=100)


def test_a_run_with_an_end_may_take_as_many_steps_as_time_brings():
    simulation = world()
    ticking(simulation, 60.0)
    assert simulation.run(until=60_000.0, steps=100).now == 60_000.0


def test_what_calls_itself_at_one_instant_is_given_up(monkeypatch):
    monkeypatch.setattr("taskorch.core.worlds._world._AT_ONCE", 100)
    simulation = world()
    ticking(simulation, 0.0)

    with pytest.raises(UsageError, match="after 100 steps, at 0 s"):
        simulation.run(until=10.0)


def test_time_does_not_pass_inside_of_time():
    simulation = world()
    simulation.at(1.0, simulation.run)

    with pytest.raises(UsageError, match="while time passes already"):
        simulation.run()

    assert simulation.run(until=5.0).now == 5.0


def test_what_breaks_a_step_does_not_break_the_next():
    """A caller may look at what is there, and go on."""
    simulation = world()
    simulation.at(1.0, lambda: 1 / 0)
    task_id = simulation.submit_task(Task("x"))

    with pytest.raises(ZeroDivisionError):
        simulation.run()

    simulation.run()
    assert simulation.get_task_status(task_id).state == "completed"


# -- calls of functions ----------------------------------------------------------------


def test_an_async_function_fails_and_says_what_to_do():
    async def fetch():
        await asyncio.sleep(0)

    simulation = Simulation()
    task_id = simulation.submit_task(Task.call(fetch))
    known = simulation.submit_task(Task.call(fetch), Outcome(5.0, result="page"))

    simulation.run()

    status = simulation.get_task_status(task_id)
    assert status.state == "failed"
    assert "submit_task(task, work=5.0)" in str(status.error)
    assert simulation.get_task_status(known).result == "page"
