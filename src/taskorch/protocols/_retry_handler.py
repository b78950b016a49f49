"""Whether a failed attempt is tried again, and when."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import NO_RESOURCES, Elastic, Resources, Task
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
        kind: What kind of failure it is, such as `memory_error`: see
            `taskorch.recovery.classify`.
        usage: What the attempt was seen to use: `memory_mb` at its peak, and
            `cpu_seconds`; nothing where nobody measured it.
        first_timeout: The timeout that was stated, in seconds, where earlier failures
            have made it another, in earlier processes too; None: it is as it was.
    """

    task: Task
    error: BaseException
    attempts: int
    elapsed: float
    last_delay: float
    agent: str
    kind: str = ""
    usage: Resources = NO_RESOURCES
    first_timeout: float | None = None


@frozen
class RetryDecision:
    """
    The answer of a RetryHandler.

    Attributes:
        retry: Whether there is another attempt.
        delay: Seconds until the next attempt may start.
        reason: Why; the event and `explain` show it.
        resources: What the next attempts ask for; None: what the last did. More than
            any agent that could do the task has is not applied, and that is said.
        timeout: Seconds that each of the next attempts may take; None: as before.
        avoid: Agents that the next attempts do not go to, besides those that were named
            before, as long as there is another.
        ask: A question to a person. The task is held, and what waits for it waits on,
            until `orch.decide` says what becomes of it. It is asked instead of another
            attempt: `retry` is False.
        kind: What kind of failure it was, if the handler knows better than
            `Failure.kind`.
    """

    retry: bool
    delay: float = 0.0
    reason: str = ""
    resources: Resources | Elastic | None = None
    timeout: float | None = None
    avoid: Collection[str] = ()
    ask: str = ""
    kind: str = ""


@runtime_checkable
class RetryHandler(Protocol):
    """
    Protocol: decides after a failure.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. It may
    have what `SetsGrace`, `Classifies` and `Recommends` say.

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
