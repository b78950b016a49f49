"""What is asked by time, in virtual time."""

from __future__ import annotations

import pytest

from taskorch import Task, TaskState
from taskorch.errors import InvalidTaskError
from taskorch.events import ComponentFailed, TaskFailed
from taskorch.model import Agent, Resources
from taskorch.protocols import (
    AddAgent,
    Cancel,
    ChangePools,
    RemoveAgent,
    Resume,
    SetPriority,
    Submit,
    Suspend,
)
from taskorch.testing import Simulation

BEGINNING = 1_767_225_600.0


class Hourly:
    """Submits a task for every full hour, by the hour's number."""

    name = "hourly"

    def __init__(self):
        self.asked = []

    def tick(self, view, now):
        hour = int((now - BEGINNING) // 3600)
        self.asked.append(now - BEGINNING)
        return [Submit(Task("job", id=f"hour/{hour}"))], BEGINNING + (hour + 1) * 3600


class Script:
    """Answers with one list of commands after the other, a second apart."""

    def __init__(self, *answers, name="script"):
        self.name = name
        self.answers = list(answers)

    def tick(self, view, now):
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer, now + 1 if self.answers else None


def simulation(**settings):
    sim = Simulation(**settings)
    sim.agent("able", capabilities=("job", "slow", "ok", "bad"), max_concurrency=None)
    return sim


def ids(sim):
    return [status.task_id for status in sim.tasks()]


def test_all_ordinary_commands():
    sim = simulation(resources=Resources(cpu=1))
    sim.work("slow", 100.0)
    worker = Agent("helper", ("slow", "x"), 1)
    sim.drivers.add(
        Script(
            [
                Submit(Task("slow", id="a", resources={"cpu": 1})),
                Submit(Task("slow", id="b", resources={"cpu": 1})),
                Submit(Task("slow", id="c", resources={"cpu": 1})),
            ],
            [SetPriority("c", 5), Suspend("b"), ChangePools({"cpu": 2})],
            [Resume("b"), AddAgent(worker, lambda task, context: None)],
            [Submit(Task("slow", id="d", requires=["x"])), Cancel("a", "no need")],
            [RemoveAgent("helper")],
        )
    )

    sim.run(until=10)

    states = {status.task_id: status.state for status in sim.tasks()}
    assert states["a"] is TaskState.CANCELLED
    assert states["b"] is TaskState.RUNNING
    assert states["c"] is TaskState.RUNNING
    assert states["d"] is not TaskState.RUNNING
    assert "no need" in str(sim.get_task_status("a").error)


def test_a_controller_that_fails_is_said_and_asked_again_and_others_go_on():
    sim = simulation()
    sim.drivers.add(Script(ZeroDivisionError("by zero"), [], [], name="bad"))
    sim.drivers.add(Script([Cancel("nobody", "x")], name="refused"))
    sim.drivers.add(Script([object()], name="silly"))
    sim.drivers.add(Hourly())

    sim.run(until=3600)

    said = [event for event in sim.events if isinstance(event, ComponentFailed)]
    assert {event.component for event in said} == {
        "driver bad",
        "driver refused",
        "driver silly",
    }
    assert "hour/1" in ids(sim)


def test_an_event_that_is_watched_asks_at_once():
    class Again:
        name = "again"
        watches = (TaskFailed,)

        def tick(self, view, now):
            failed = [status.task_id for status in view.tasks("failed")]
            return [Submit(Task("ok", id=f"after/{each}")) for each in failed], None

    sim = simulation()
    sim.work("bad", lambda task, attempt, random: 1 / 0 if attempt < 0 else 1.0)
    sim.drivers.add(Again())
    sim.submit_task(Task("bad", id="t", deadline=0.5))

    sim.run(until=60)

    assert "after/t" in ids(sim)


def test_what_is_no_controller_is_refused():
    sim = simulation()
    sim.drivers.add(Hourly())
    for wrong in (object(), Hourly, Hourly()):
        with pytest.raises(InvalidTaskError):
            sim.drivers.add(wrong)
    with pytest.raises(InvalidTaskError, match="hourly"):
        sim.drivers.wake("other")
    assert sim.drivers.list() == ["hourly"]
    assert sim.drivers.remove("hourly")
    assert not sim.drivers.remove("hourly")
    sim.run(until=7200)
    assert ids(sim) == []


def test_who_is_woken_is_asked_now_whatever_time_it_has_named():
    sim = simulation()
    hourly = Hourly()
    sim.drivers.add(hourly)
    sim.at(60.0, lambda: sim.drivers.wake("hourly"))
    sim.at(90.0, sim.drivers.wake_all)
    sim.run(until=3_000)
    assert hourly.asked == [0.0, 60.0, 90.0]
