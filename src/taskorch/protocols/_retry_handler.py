"""Whether a failed attempt is tried again, and when."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from taskorch._frozen import frozen
from taskorch.model import Task
from taskorch.protocols._context import Context


@frozen
class Failure:
    """
    An attempt that failed.

    Attributes:
        task: The task.
        error: What it raised, or a `TaskTimeoutError`, or a `ProgramFailedError`.
        attempts: Attempts charged to the task so far, this one included.
        elapsed: Seconds from the start of the first attempt to now.
        last_delay: The delay before this attempt in seconds; 0 before the first.
        agent: The agent that ran the attempt.
    """

    task: Task
    error: BaseException
    attempts: int
    elapsed: float
    last_delay: float
    agent: str


@frozen
class RetryDecision:
    """
    The answer of a RetryHandler.

    Attributes:
        retry: Whether there is another attempt.
        delay: Seconds until the next attempt may start.
        reason: Why; the event and `explain` show it.
    """

    retry: bool
    delay: float = 0.0
    reason: str = ""


@runtime_checkable
class RetryHandler(Protocol):
    """
    Protocol: decides after a failure.

    It is asked under the orchestrator's lock: it must be fast and do no I/O.

    Laws:
        1. A delay is a finite number of seconds, 0 or more.
        2. It ends: for every policy with finite limits there is a number of failures
           after which the answer is no.
        3. Randomness comes from `context.random` only.
        4. It changes none of its arguments.
    """

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """What follows *failure*."""
        ...
