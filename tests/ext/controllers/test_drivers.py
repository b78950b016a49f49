"""What is asked by time, by a real clock."""

from __future__ import annotations

import threading
import time

import pytest

from taskorch import Task, TaskOrchestrator, TaskState
from taskorch.errors import InvalidTaskError
from taskorch.events import ComponentFailed, TaskCompleted
from taskorch.model import Agent
from taskorch.protocols import AddAgent, Cancel, ChangePools, Submit


def test_an_event_wakes_it_and_so_does_a_word():
    class Echo:
        name = "echo"
        watches = (TaskCompleted,)
        seen = threading.Event()

        def tick(self, view, now):
            assert view.wall > 0
            assert view.state_of("nobody") is None
            assert str(view.get_stats())
            if view.state_of("first") is TaskState.COMPLETED:
                assert "completed" in str(view.explain("first"))
                self.seen.set()
            return [], None

    echo = Echo()
    with TaskOrchestrator() as orch:
        orch.drivers.add(echo)
        orch.submit_task(Task.call(abs, 1, id="first"))
        assert echo.seen.wait(60)
        echo.seen.clear()
        orch.drivers.wake("echo")
        assert echo.seen.wait(60)
        assert orch.drivers.remove("echo")
        assert not orch.drivers.remove("echo")
        with pytest.raises(InvalidTaskError, match="no driver"):
            orch.drivers.wake("echo")


@pytest.mark.parametrize(
    "nudged",
    [
        True,
        pytest.param(
            False, marks=pytest.mark.slow("waits until the clock is looked at")
        ),
    ],
)
@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0])
def test_a_controller_that_names_no_time_is_asked_when_the_clock_is_set(
    monkeypatch, seconds, nudged
):
    class Watch:
        watches = ()

        def __init__(self, name):
            self.name = name
            self.asked = threading.Event()

        def tick(self, view, now):
            self.asked.set()
            return [], None

    watch, other = Watch("watch"), Watch("other")
    real, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    with TaskOrchestrator() as orch:
        orch.drivers.add(watch)
        assert watch.asked.wait(60)
        watch.asked.clear()
        shift[0] = seconds
        if nudged:
            # All are looked at sooner, and this one alone would be asked.
            orch.drivers.add(other)
        assert watch.asked.wait(60)


def test_a_controller_that_fails_is_said_in_an_event_and_in_health_and_stops_nothing():
    class Bad:
        name = "bad"

        def tick(self, view, now):
            return [Cancel("nobody", "no reason")], None

    said = threading.Event()
    with TaskOrchestrator() as orch:
        events = []
        orch.signals.component_failed.connect(lambda e: (events.append(e), said.set()))
        orch.drivers.add(Bad())
        assert said.wait(60)
        assert orch.submit(abs, -2).result() == 2
        assert isinstance(events[0], ComponentFailed)
        assert events[0].component == "driver bad"
        assert "driver bad" in str(orch.health())


def test_commands_change_pools_and_add_workers():
    class Once:
        name = "once"

        def tick(self, view, now):
            worker = Agent("helper", ("t", "paint"), 1)
            add = AddAgent(worker, lambda task, context: "painted")
            return [
                ChangePools({"seats": 3}),
                add,
                Submit(Task("t", id="t", requires=["paint"])),
            ], None

    with TaskOrchestrator(resources={"cpu": 1}) as orch:
        done = threading.Event()
        orch.signals.task_completed.connect(lambda event: done.set())
        orch.drivers.add(Once())
        assert done.wait(60)
        assert orch.handle("t").result() == "painted"
        assert orch.resources.usage()["seats"].total == 3
