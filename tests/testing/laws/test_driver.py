"""check_driver: right ones pass, and each planted mistake is named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.testing.laws.tools import violation

from taskorch import Task
from taskorch.ext.jobs import JobSystem
from taskorch.ext.recovery import Alerts
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool
from taskorch.protocols import Cancel, Driver, Submit
from taskorch.testing.laws import check_driver
from taskorch.testing.laws._case import laws_of


class Right:
    """A task an hour, and nothing for long in the queue."""

    name = "hourly"
    watches = ()

    def tick(self, view, now):
        hour = int(now // 3_600)
        said = [Submit(Task("work", id=f"hour/{hour}"))]
        return [*said, *self.more(view, now)], self.next(now)

    def more(self, view, now):
        return [Cancel(one.task_id, "late") for one in view.tasks("queued")]

    def next(self, now):
        return (now // 3_600 + 1) * 3_600


class Waits(Right):
    """It comes only when it is woken."""

    def next(self, now):
        return None


class Twice(Right):
    def more(self, view, now):
        return [Submit(Task("work"))]


class Does(Right):
    def more(self, view, now):
        for one in view.tasks("running"):
            view._orch.cancel_task(one.task_id)
        return []


class NeverRests(Right):
    def next(self, now):
        return now


class SaysText(Right):
    def next(self, now):
        return datetime.fromtimestamp(now, UTC)


@pytest.mark.parametrize("made", [Right, Waits, Right()])
def test_right_ones_pass(made):
    check_driver(made, examples=5)


def test_those_of_the_library_pass():
    check_driver(Alerts, examples=3)
    check_driver(lambda: AgentPool(AgentTemplate("work")), examples=3)
    check_driver(lambda: JobSystem({}).cycles, examples=3)


@pytest.mark.parametrize(
    ("made", "law"), [(Twice, 2), (Does, 1), (NeverRests, 3), (SaysText, 0)]
)
def test_each_mistake_is_named(made, law):
    assert violation(check_driver, made, examples=30).law == law


def test_its_laws_are_those_of_the_protocol():
    assert sorted(laws_of(Driver)) == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="tick"):
        check_driver(object())
