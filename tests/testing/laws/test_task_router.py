"""check_task_router: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import itertools
import random
from random import Random

import pytest
from tests.testing.laws.tools import each, violation

from taskorch.protocols import Route, TaskRouter
from taskorch.testing._builders import make_agent
from taskorch.testing.laws import check_task_router
from taskorch.testing.laws._case import laws_of


class Right:
    """Any candidate, drawn from the context's generator."""

    def route(self, task, candidates, context):
        return Route(self.choose(candidates, context).name, "drawn")

    def choose(self, candidates, context):
        return context.random.choice(candidates)


class AnswersNothing(Right):
    def route(self, task, candidates, context):
        return None


class AnswersAWorker(Right):
    def route(self, task, candidates, context):
        return Route(self.choose(candidates, context))


class KnowsBetter(Right):
    def route(self, task, candidates, context):
        return Route("zed")


class AsksTheGlobalGenerator(Right):
    def choose(self, candidates, context):
        return random.choice(candidates)


class HasItsOwnGenerator(Right):
    def __init__(self):
        self.random = Random()

    def choose(self, candidates, context):
        return self.random.choice(candidates)


class GivesANumberedReason(Right):
    numbers = itertools.count()

    def route(self, task, candidates, context):
        return Route(self.choose(candidates, context).name, f"{next(self.numbers)}")


class SortsTheList(Right):
    def choose(self, candidates, context):
        candidates.sort(key=lambda worker: worker.running)
        return candidates[0]


class TakesFromTheList(Right):
    def choose(self, candidates, context):
        return candidates.pop()


class ClaimsASlot(Right):
    def choose(self, candidates, context):
        candidates[0].running += 1
        return candidates[0]


class ChangesThePriority(Right):
    def route(self, task, candidates, context):
        task.priority += 1
        return super().route(task, candidates, context)


PLANTED = {
    0: (AnswersNothing, AnswersAWorker),
    1: (KnowsBetter,),
    2: (AsksTheGlobalGenerator, HasItsOwnGenerator, GivesANumberedReason),
    3: (SortsTheList, TakesFromTheList, ClaimsASlot, ChangesThePriority),
}


class RoundRobin:
    def __init__(self):
        self.turn = 0

    def route(self, task, candidates, context):
        self.turn += 1
        return Route(candidates[self.turn % len(candidates)].name)


def test_a_right_one_passes():
    check_task_router(Right(), examples=15)
    check_task_router(Right, seed=1, examples=5)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_task_router, made).law == law
    assert violation(check_task_router, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(TaskRouter)) == set(PLANTED) - {0}


def test_one_that_counts_its_questions_passes_if_each_is_asked_of_a_new_one():
    """The same questions from the start give the same answers: that is the law."""
    check_task_router(RoundRobin, examples=15)

    found = violation(check_task_router, RoundRobin())

    assert found.law == 2
    assert "give the class" in str(found)


def test_the_message_names_law_answer_candidates_and_case():
    workers = [make_agent("a"), make_agent("b")]
    found = violation(
        check_task_router, KnowsBetter(), seed=7, agents=lambda _: workers
    )

    assert str(found) == (
        "TaskRouter law 1: the worker of the answer is one of candidates. It answered "
        "Route(agent='zed', reason='', reusable=False) for candidates a, b. "
        "(case 1, seed 7: check_task_router(..., seed=7))"
    )
    assert (found.protocol, found.law, found.case) == ("TaskRouter", 1, 1)


def test_a_router_is_asked_about_workers_that_match_and_have_room():
    """As the kernel does; whoever they are, each could take the task."""

    class Strict(Right):
        def route(self, task, candidates, context):
            assert candidates
            needs = (task.type,) if task.requires is None else task.requires
            for worker in candidates:
                assert set(needs) <= set(worker.capabilities)
                assert (
                    worker.max_concurrency is None
                    or worker.running < worker.max_concurrency
                )
                assert worker.capacity is None or (
                    worker.used + task.resources
                ).fits_in(worker.capacity)
            assert list(context.view.agents()) == list(candidates)
            return super().route(task, candidates, context)

    check_task_router(Strict(), examples=15)


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="agents: at least one"):
        check_task_router(Right(), agents=[])
    with pytest.raises(ValueError, match="tasks: at least one"):
        check_task_router(Right(), tasks=[])
