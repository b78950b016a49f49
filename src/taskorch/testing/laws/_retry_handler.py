"""Whether a RetryHandler keeps its laws."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from taskorch._base._limits import MAX_ATTEMPTS, MAX_SECONDS
from taskorch.errors import AttemptLostError, Permanent, TaskTimeoutError
from taskorch.protocols import Failure, RetryDecision, RetryHandler
from taskorch.testing._builders import make_failure
from taskorch.testing.laws._case import Case, brief, cases, maker, twice
from taskorch.testing.laws._worlds import (
    QuestionWorld,
    Tasks,
    agent_source,
    some_world,
    task_source,
)

#: Failures that are told one by one; after them, their number is doubled each time.
_ONE_BY_ONE: Final = 20
#: Seconds that each attempt of a task takes which fails again and again.
_TAKES: Final = 60.0
#: No float is larger, and so no number of seconds: an int may be.
_MAX: Final = sys.float_info.max


class _RetryAfterError(Exception):
    """An error that says itself when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__("come back later")
        self.retry_after = retry_after


def check_retry_handler(
    handler: RetryHandler | Callable[[], RetryHandler],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of RetryHandler.

    How the laws are seen:

    - 2: one object is told of a task that fails again and again, at first one by one
      and then in leaps, up to twice as often as any RetryPolicy allows. A handler that
      lets chance decide when to stop ends here by chance.
    - 3: two questions with equal contexts, with the generator of the module `random` in
      two states. A handler that counts is to be given as a class: then the second
      question goes to a new object.

    Args:
        handler: The handler, or what makes one.
        seed: Of the questions.
        examples: How many tasks to let fail.
        tasks: Tasks to ask about, or what makes one of a `random.Random`; their retry
            policies are what the handler has to follow.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(handler, RetryHandler), task_source(tasks)
    draw_agents = agent_source(None)
    for case in cases(RetryHandler, "check_retry_handler", seed, examples, 4):
        world = some_world(case.random, draw, draw_agents)
        failure = _some_failure(case.random, world)
        with case.chance(1):
            decision = _ask(case, make(), failure, world)
        with case.chance(2):
            again = _ask(case, make(), failure, world)
        case.expect(again == decision, 3, twice(decision, again))
        _check_end(case, make(), failure, world)


def _ask(
    case: Case, handler: RetryHandler, failure: Failure, world: QuestionWorld
) -> RetryDecision:
    decision = case.ask(
        handler.decide, RetryDecision, failure=failure, context=world.context()
    )
    case.form(decision, retry=bool, delay=int | float, reason=str)
    delay = decision.delay
    if isinstance(delay, bool) or not 0 <= delay <= _MAX:
        case.fail(1, f"It answered {brief(decision)}.")
    return decision


def _check_end(
    case: Case, handler: RetryHandler, failure: Failure, world: QuestionWorld
) -> None:
    elapsed, delay, asked, last = 0.0, 0.0, 0, ""
    for attempts in _counts():
        # The attempts in between are taken to have had the same delay.
        elapsed = min(elapsed + (attempts - asked) * (_TAKES + delay), MAX_SECONDS)
        asked = attempts
        next_failure = make_failure(
            failure.error,
            attempts,
            task=failure.task,
            elapsed=elapsed,
            last_delay=delay,
            agent=failure.agent,
        )
        decision = _ask(case, handler, next_failure, world.later(elapsed))
        if not decision.retry:
            return
        delay, last = decision.delay, brief(decision)
    policy = failure.task.retry
    case.fail(
        2,
        f"After {asked:,} failures of a task with {brief(policy)} it answered {last}.",
    )


def _counts() -> Iterator[int]:
    yield from range(1, _ONE_BY_ONE)
    attempts = _ONE_BY_ONE
    while attempts <= 2 * MAX_ATTEMPTS:
        yield attempts
        attempts *= 2


def _some_failure(random: Random, world: QuestionWorld) -> Failure:
    attempts = random.choice((1, 1, 2, 3, 7, 1_000))
    return make_failure(
        _some_error(random),
        attempts,
        task=world.task,
        elapsed=random.choice((0.0, 0.25, 99.0, 1e7)),
        last_delay=random.choice((0.0, 1.5, 60.0)) if attempts > 1 else 0.0,
        agent=random.choice(("ann", "local")),
    )


def _some_error(random: Random) -> Exception:
    asked = random.choice((0, 5, 1e9, -1, math.nan, math.inf, 10**400, "soon", None))
    return random.choice(
        (
            ValueError("no good"),
            OSError(28, "no space left"),
            ConnectionError(),
            KeyError("a"),
            Permanent("never"),
            TaskTimeoutError("out of time", task_id=None),
            AttemptLostError("its worker died"),
            _RetryAfterError(asked),
        )
    )
