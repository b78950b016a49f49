"""check_agent_registry: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import random

import pytest
from tests.testing.laws.tools import each, violation

from taskorch.model import Task
from taskorch.protocols import AgentRegistry, Match
from taskorch.testing._builders import make_agent
from taskorch.testing.laws import check_agent_registry
from taskorch.testing.laws._case import laws_of


class Right:
    """All workers that can do the task, by their names."""

    def matches(self, task, agents, context):
        return Match(tuple(a.name for a in agents if self.can(a, task)), "as it is")

    def can(self, worker, task):
        needs = (task.type,) if task.requires is None else task.requires
        return all(need in worker.capabilities for need in needs)


class AnswersNames(Right):
    def matches(self, task, agents, context):
        return super().matches(task, agents, context).agents


class AnswersWorkers(Right):
    def matches(self, task, agents, context):
        return Match(tuple(a for a in agents if self.can(a, task)))


class Invents(Right):
    def matches(self, task, agents, context):
        return super().matches(task, agents, context) if agents else Match(("zed",))


class Repeats(Right):
    def matches(self, task, agents, context):
        return Match(super().matches(task, agents, context).agents * 2)


class LeavesOutTheBusy(Right):
    def can(self, worker, task):
        most = worker.max_concurrency
        return super().can(worker, task) and (most is None or worker.running < most)


class PutsTheIdleFirst(Right):
    def matches(self, task, agents, context):
        ranked = sorted(agents, key=lambda worker: worker.running)
        return super().matches(task, ranked, context)


class AsksTheContextHowBusy(Right):
    def matches(self, task, agents, context):
        return (
            Match(())
            if context.view.running
            else super().matches(task, agents, context)
        )


class Draws(Right):
    def matches(self, task, agents, context):
        names = [worker.name for worker in agents]
        random.shuffle(names)
        return Match(tuple(names))


class Remembers(Right):
    def __init__(self):
        self.asked = 0

    def matches(self, task, agents, context):
        self.asked += 1
        return super().matches(task, agents[self.asked % 2 :], context)


class EmptiesTheList(Right):
    def matches(self, task, agents, context):
        answer = super().matches(task, agents, context)
        agents.clear()
        return answer


class MarksTheTask(Right):
    def matches(self, task, agents, context):
        if isinstance(task.metadata, dict):
            task.metadata["seen"] = True
        return super().matches(task, agents, context)


class CountsOnTheWorker(Right):
    def matches(self, task, agents, context):
        for worker in agents:
            worker.running += 1
        return super().matches(task, agents, context)


PLANTED = {
    0: (AnswersNames, AnswersWorkers),
    1: (Invents, Repeats),
    2: (LeavesOutTheBusy, PutsTheIdleFirst, AsksTheContextHowBusy),
    3: (Draws, Remembers),
    4: (EmptiesTheList, MarksTheTask, CountsOnTheWorker),
}


def test_a_right_one_passes():
    check_agent_registry(Right(), examples=15)
    check_agent_registry(Right, seed=1, examples=5)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_agent_registry, made).law == law
    assert violation(check_agent_registry, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(AgentRegistry)) == set(PLANTED) - {0}


def test_workers_and_tasks_of_the_users_are_asked_about():
    """Only they are, and of the workers at least one."""
    seen = set()

    class Watching(Right):
        def matches(self, task, agents, context):
            seen.add((task.type, *(worker.name for worker in agents)))
            return super().matches(task, agents, context)

    workers = iter([make_agent("a", ["x"]), make_agent("b")])
    check_agent_registry(Watching, tasks=[Task("x")], agents=workers, examples=15)

    assert seen == {("x", "a"), ("x", "b"), ("x", "a", "b")}


def test_workers_and_tasks_can_be_made_for_each_question():
    seen = set()

    class Watching(Right):
        def matches(self, task, agents, context):
            seen.add((task.priority, len(agents)))
            return super().matches(task, agents, context)

    check_agent_registry(
        Watching,
        tasks=lambda dice: Task("x", priority=dice.randrange(2)),
        agents=lambda dice: [make_agent("a")] * dice.randrange(2),
    )

    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}
