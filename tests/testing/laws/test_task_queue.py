"""check_task_queue: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from tests.testing.laws.tools import EXAMPLES, each, violation

from taskorch.model import Task
from taskorch.protocols import Admission, Order, TaskQueue
from taskorch.testing.laws import check_task_queue
from taskorch.testing.laws._case import laws_of


class Right:
    """The more urgent first, then the older."""

    def order(self, task, context):
        return Order(self.key(task, context))

    def key(self, task, context):
        return (-task.priority, context.now, task.type)

    def admit(self, task, context):
        return Admission(context.view.queued < 100, "full", max_age=60.0)


class Ages(Right):
    def order(self, task, context):
        return Order(aging=30.0, reusable=True)


class AnswersAKey(Right):
    def order(self, task, context):
        return self.key(task, context)


class SaysNothing(Right):
    def order(self, task, context):
        return Order()


class SaysBoth(Right):
    def order(self, task, context):
        return Order(self.key(task, context), aging=60.0)


class HasAListForKey(Right):
    def key(self, task, context):
        return [task.priority]


class AgesBackwards(Right):
    def order(self, task, context):
        return Order(aging=-1.0)


class AdmitsForNoTime(Right):
    def admit(self, task, context):
        return Admission(True, max_age=math.nan)


class Counts(Right):
    def __init__(self):
        self.numbers = itertools.count()

    def key(self, task, context):
        return next(self.numbers)


class LooksAtTheQueue(Right):
    def key(self, task, context):
        return (context.view.queued, context.now)


class LooksAtTheWorkers(Right):
    def key(self, task, context):
        return len(context.view.agents())


class DrawsLots(Right):
    def key(self, task, context):
        return context.random.random()


class DrawsOtherLots(Right):
    def key(self, task, context):
        return random.random()


class MixesNumbersAndTexts(Right):
    def key(self, task, context):
        return task.type if task.priority else 0


class MixesLengths(Right):
    def key(self, task, context):
        return (
            (task.priority,) if task.timeout is None else (task.priority, task.timeout)
        )


class HasNoNumber(Right):
    def key(self, task, context):
        return math.nan if task.timeout is None else task.timeout


class Ring(int):
    """Rock, paper, scissors."""

    def __lt__(self, other):
        return (other - self) % 3 == 1

    def __gt__(self, other):
        return (self - other) % 3 == 1


class GoesRound(Right):
    def key(self, task, context):
        return Ring(task.priority % 3)


class RaisesThePriority(Right):
    def order(self, task, context):
        task.priority = 0
        return super().order(task, context)


class NotesTheAdmission(Right):
    def admit(self, task, context):
        if task.metadata is not None:
            task.metadata["admitted"] = True
        return super().admit(task, context)


class Shares(Right):
    def standing(self, owner, context):
        return owner.share


class StandsByTheTime(Shares):
    def standing(self, owner, context):
        return context.now


class StandsByTheQueue(Shares):
    def standing(self, owner, context):
        return owner.share / (1 + context.view.queued)


class StandsNowhere(Shares):
    def standing(self, owner, context):
        return owner.name


class HasNoStanding(Shares):
    def standing(self, owner, context):
        return math.nan


PLANTED = {
    0: (
        AnswersAKey,
        SaysNothing,
        SaysBoth,
        HasAListForKey,
        AgesBackwards,
        AdmitsForNoTime,
    ),
    1: (Counts, LooksAtTheQueue, LooksAtTheWorkers, DrawsLots, DrawsOtherLots),
    2: (MixesNumbersAndTexts, MixesLengths, HasNoNumber, GoesRound),
    3: (RaisesThePriority, NotesTheAdmission),
    4: (StandsByTheTime, StandsByTheQueue, StandsNowhere, HasNoStanding),
}


@EXAMPLES
@pytest.mark.parametrize("made", [Right, Ages, Shares])
def test_a_right_one_passes(made, examples):
    check_task_queue(made(), examples=examples)
    check_task_queue(made, seed=1, examples=examples // 4)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_task_queue, made).law == law
    assert violation(check_task_queue, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(TaskQueue)) == set(PLANTED) - {0}


def test_a_queue_that_knows_only_some_tasks_is_asked_about_these():
    class Known(Right):
        def key(self, task, context):
            return {"a": 1, "b": 2}[task.type]

    check_task_queue(Known(), tasks=[Task("a"), Task("b")], examples=15)

    with pytest.raises(KeyError):
        check_task_queue(Known())
