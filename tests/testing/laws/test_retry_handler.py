"""check_retry_handler: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import math
import random

import pytest
from tests.testing.laws.tools import EXAMPLES, each, violation

from taskorch.ext.recovery import RecoveryHandler
from taskorch.model import RetryPolicy, Task
from taskorch.protocols import RetryDecision, RetryHandler
from taskorch.testing.laws import check_retry_handler
from taskorch.testing.laws._case import laws_of


class Right:
    """As often as the task says, after a delay that is drawn."""

    def decide(self, failure, context):
        return RetryDecision(self.again(failure), self.delay(failure, context), "so")

    def again(self, failure):
        return failure.attempts < failure.task.retry.max_attempts

    def delay(self, failure, context):
        return context.random.uniform(0, failure.task.retry.base)


class Patient(Right):
    """A limit of its own, beyond what is asked one by one."""

    def again(self, failure):
        return failure.attempts < 5_000


class Timed(Right):
    """Up to a month after the first attempt."""

    def again(self, failure):
        return failure.elapsed < 30 * 86_400


class EndsByNumber(Right):
    """At one number exactly, which it is sure to be told."""

    def again(self, failure):
        return failure.attempts != 3


class SaysNo(Right):
    def decide(self, failure, context):
        return False


class DelaysByText(Right):
    def delay(self, failure, context):
        return "1 s"


class GoesBack(Right):
    def delay(self, failure, context):
        return super().delay(failure, context) - 0.001


class IsNotANumber(Right):
    def delay(self, failure, context):
        return math.nan


class WaitsForEver(Right):
    def delay(self, failure, context):
        return math.inf if failure.attempts > 2 else 0.0


class ObeysTheError(Right):
    def delay(self, failure, context):
        asked = getattr(failure.error, "retry_after", None)
        return asked if isinstance(asked, int | float) else 0


class NeverGivesUp(Right):
    def again(self, failure):
        return True


class ForgetsTheLimit(Right):
    def again(self, failure):
        return isinstance(failure.error, OSError) or super().again(failure)


class EndsItsOwnCountOnly(Right):
    def again(self, failure):
        return failure.attempts % 2_000_003 != 0


class DrawsElsewhere(Right):
    def delay(self, failure, context):
        return random.uniform(0, 1)


class NotesOnTheError(Right):
    def decide(self, failure, context):
        failure.error.add_note("seen")
        return super().decide(failure, context)


class CountsOnTheFailure(Right):
    def decide(self, failure, context):
        failure.attempts += 1
        return super().decide(failure, context)


PLANTED = {
    0: (SaysNo, DelaysByText),
    1: (GoesBack, IsNotANumber, WaitsForEver, ObeysTheError),
    2: (NeverGivesUp, ForgetsTheLimit, EndsItsOwnCountOnly),
    3: (DrawsElsewhere,),
    4: (NotesOnTheError, CountsOnTheFailure),
}


@EXAMPLES
@pytest.mark.parametrize("made", [Right, Patient, Timed, EndsByNumber])
def test_a_right_one_passes(made, examples):
    check_retry_handler(made(), examples=examples)
    check_retry_handler(made, seed=1, examples=examples // 4)


@pytest.mark.parametrize("options", [{}, {"escalate": False, "max_retries": 0}])
def test_that_of_recovery_passes(options):
    check_retry_handler(lambda: RecoveryHandler(**options), examples=12)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(check_retry_handler, made).law == law
    assert violation(check_retry_handler, made()).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(RetryHandler)) == set(PLANTED) - {0}


def test_the_policies_of_the_users_tasks_are_followed_to_their_end():
    """A limit that is far away is reached, too."""
    told = []

    class Watching(Right):
        def again(self, failure):
            told.append(failure.attempts)
            return super().again(failure)

    check_retry_handler(
        Watching, examples=1, tasks=[Task("x", retry=RetryPolicy(1_000_000))]
    )

    assert max(told) >= 1_000_000
