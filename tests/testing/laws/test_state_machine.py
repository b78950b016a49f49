"""check_state_machine: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.testing.laws.tools import each, violation

from taskorch.core.kernel import TRANSITIONS
from taskorch.model import Task, TaskState
from taskorch.protocols import Permit, StateMachine
from taskorch.testing.laws import check_state_machine
from taskorch.testing.laws._case import laws_of
from taskorch.testing.laws._policies import POSSIBLE


class Right:
    """Nothing is suspended while it runs."""

    watches = ((TaskState.RUNNING, TaskState.SUSPENDED), (None, TaskState.QUEUED))

    def check(self, transition, context):
        return Permit((transition.before, transition.after) != self.watches[0], "no")

    def label(self, state):
        return state.value.title()


class SaysYes(Right):
    def check(self, transition, context):
        return True


class WatchesStates(Right):
    watches = (TaskState.RUNNING,)

    def check(self, transition, context):
        return Permit(True)


class ForbidsMoreThanItWatches(Right):
    watches = Right.watches

    def check(self, transition, context):
        return Permit(transition.after is not TaskState.SUSPENDED)


class WatchesNothing(Right):
    watches = ()

    def check(self, transition, context):
        return Permit(transition.after is not TaskState.CANCELLED)


class LacksAName(Right):
    def label(self, state):
        return {TaskState.QUEUED: "waiting", TaskState.RUNNING: "busy"}.get(state)


class LeavesANameEmpty(Right):
    def label(self, state):
        return "" if state is TaskState.BLOCKED else super().label(state)


class NamesByChance(Right):
    def label(self, state):
        return random.choice(("task ", "job ")) + state


class NumbersItsNames(Right):
    numbers = itertools.count()

    def label(self, state):
        return f"{state} {next(self.numbers)}"


class RenamesTheTransition(Right):
    def check(self, transition, context):
        transition.reason = "mine"
        return super().check(transition, context)


PLANTED = {
    0: (SaysYes, WatchesStates),
    1: (ForbidsMoreThanItWatches, WatchesNothing),
    2: (LacksAName, LeavesANameEmpty, NamesByChance, NumbersItsNames),
    3: (RenamesTheTransition,),
}


def test_a_right_one_passes():
    check_state_machine(Right(), examples=15)
    check_state_machine(Right, seed=1, examples=5)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_state_machine, made).law == law
    assert violation(check_state_machine, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(StateMachine)) == set(PLANTED) - {0}


def test_one_that_does_not_say_what_it_watches_may_forbid_anything():
    class Forbids(Right):
        watches = None

        def check(self, transition, context):
            return Permit(False)

    check_state_machine(Forbids(), examples=15)


def test_what_is_watched_may_be_named_by_text():
    class Texts(Right):
        watches = (("running", "suspended"),)

        def check(self, transition, context):
            return Permit((transition.before, transition.after) != self.watches[0])

    check_state_machine(Texts(), examples=15)


def test_every_transition_of_the_table_is_asked_about_and_no_other():
    seen = set()

    class Watching(Right):
        def check(self, transition, context):
            assert (transition.task_id, transition.type) == ("a", "x")
            seen.add((transition.before, transition.after))
            return super().check(transition, context)

    check_state_machine(Watching(), tasks=[Task("x", id="a")])

    assert seen == {(b, a) for b, some in TRANSITIONS.items() for a in some}


def test_the_table_is_the_kernels():
    assert {b: some for b, some in TRANSITIONS.items() if some} == POSSIBLE
