"""Work, and attempts under way."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from random import Random
from typing import Any, Final, Self, TypeAlias, cast

import attrs

from taskorch.core.kernel import AttemptOutcome
from taskorch.core.worlds._clockwork import Agenda
from taskorch.errors import AttemptInterrupted, AttemptLostError, InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import Call, Task

#: The seconds of work of which nothing is known.
_SECONDS: Final = 1.0


@attrs.frozen
class Outcome:
    """
    The outcome of one attempt.

    Raises:
        InvalidTaskError: A value is no number of seconds, or the error is no exception.
    """

    #: Its duration on a worker of speed 1.
    seconds: float = _SECONDS
    result: Any = None
    #: The error that it raises; None: it completes.
    error: BaseException | None = None
    #: Whether its function is called at the end: it gives the result or the error.
    calls: bool = False
    #: Whether its worker dies of it.
    crash: bool = False
    #: Whether it never ends by itself.
    hang: bool = False
    #: Whether it ignores a request to stop.
    stubborn: bool = False
    #: The progress that it reports on the way, at equal distances.
    progress: tuple[Any, ...] = ()
    #: The seconds, in the middle, for which it waits for other work without its slot; a
    #: remote worker does not wait.
    waits: float = 0.0

    def __attrs_post_init__(self) -> None:
        check_seconds("seconds", self.seconds)
        if self.waits:
            check_seconds("waits", self.waits)
        error: object = self.error
        if error is not None and not isinstance(error, BaseException):
            msg = (
                f"error: an exception is needed, as in OSError('…'), not {show(error)}"
            )
            raise InvalidTaskError(msg)
        progress: object = self.progress
        if not isinstance(progress, tuple):
            msg = f"progress is a tuple of reports, not {show(progress)}"
            raise InvalidTaskError(msg)


#: The work of a type: seconds, an outcome, or a function of the task, the number of the
#: attempt and a random source that returns either.
What: TypeAlias = float | Outcome | Callable[[Task, int, Random], "float | Outcome"]


def as_outcome(work: object) -> Outcome:
    """
    Return *work* as an outcome.

    Raises:
        InvalidTaskError: It is neither that nor a number of seconds, from 0 to a
            hundred years.
    """
    if isinstance(work, Outcome):
        return work
    if isinstance(work, int | float) and not isinstance(work, bool):
        return Outcome(work)
    msg = f"work takes seconds, or has an Outcome, not {show(work)}"
    raise InvalidTaskError(msg)


def as_what(work: object) -> What:
    """
    Check *work* as the work of a type, and return it.

    Raises:
        InvalidTaskError: It is neither a number of seconds, an outcome nor a function
            that returns one of these.
    """
    if not callable(work):
        return as_outcome(work)
    if isinstance(work, type) or iscoroutinefunction(work):
        kind = "a class" if isinstance(work, type) else "an async function"
        msg = f"work is seconds, an Outcome or a plain function, not {kind}"
        hint = "as in lambda task, attempt, random: 5.0"
        raise InvalidTaskError(msg, hint=hint)
    return cast("What", work)


#: The outcome of an attempt, its result and its error.
End: TypeAlias = tuple[AttemptOutcome, Any, "BaseException | None"]


def end_of(outcome: Outcome, task_id: str) -> End:
    """Return how an attempt ends by itself."""
    if outcome.crash:
        msg = f"task {task_id}: its worker died"
        return "lost", None, AttemptLostError(msg, task_id=task_id)
    if outcome.error is not None:
        return "failed", None, outcome.error
    return "completed", outcome.result, None


def nanoseconds(seconds: float) -> int:
    """Return *seconds* in ns."""
    return int(seconds * NS)


def is_call(task: Task | None) -> bool:
    """Return whether *task* is a call of a function."""
    return task is not None and isinstance(task.payload, Call)


#: `(epoch, task id, attempt)`: an attempt of an incarnation.
Fence: TypeAlias = tuple[int, str, int]


@attrs.frozen
class Attempt:
    """An attempt as a worker made it, whatever the orchestrator knows of it."""

    task_id: str
    attempt: int
    worker: str
    #: Seconds since the beginning.
    start: float
    #: Seconds since the beginning; None: it has not ended.
    end: float | None
    #: `completed`, `failed`, `stopped` or `lost`; `died` with its worker or with the
    #: orchestrator; `running`.
    outcome: str
    #: The number of the incarnation that began it.
    epoch: int


class SimulatedRun:
    """One attempt under way."""

    __slots__ = (
        "attempt",
        "began_ns",
        "due_ns",
        "end",
        "ended_ns",
        "epoch",
        "how",
        "lease_ns",
        "left_ns",
        "next",
        "outcome",
        "task_id",
        "worker",
    )

    def __init__(self, worker: str, fence: Fence, outcome: Outcome, now: int) -> None:
        self.worker: str = worker
        self.epoch: int = fence[0]
        self.task_id: str = fence[1]
        self.attempt: int = fence[2]
        self.outcome: Outcome = outcome
        self.began_ns: int = now
        self.ended_ns: int = 0
        #: The time of its end; 0: nobody knows.
        self.due_ns: int = 0
        #: The rest of its time when it was paused.
        self.left_ns: int = 0
        #: The number of its next action on the timeline; 0: there is none.
        self.next: int = 0
        #: The way in which it will end.
        self.end: End = end_of(outcome, self.task_id)
        #: The way in which it has ended, or "".
        self.how: str = ""
        #: The lease of its worker; 0: it has none.
        self.lease_ns: int = 0

    @property
    def fence(self) -> Fence:
        """The incarnation, the task and the number of the attempt."""
        return self.epoch, self.task_id, self.attempt

    @property
    def is_endless(self) -> bool:
        """True if the attempt will not end by itself."""
        return not self.due_ns and not self.how

    def schedule_end(
        self, when: int, timeline: Agenda, act: Callable[[Self], object]
    ) -> None:
        """Schedule the end for *when*, in place of an earlier one."""
        self.unschedule(timeline)
        self.due_ns = when
        self.next = timeline.at(when, act, self)

    def schedule_progress(
        self, ns: int, timeline: Agenda, act: Callable[[tuple[Self, Any]], object]
    ) -> None:
        """Schedule reports of progress at equal distances within *ns*."""
        steps = self.outcome.progress
        for number, value in enumerate(steps, 1):
            when = self.began_ns + ns * number // (len(steps) + 1)
            timeline.at(when, act, (self, value), idle=True)

    def unschedule(self, timeline: Agenda) -> None:
        """Cancel the scheduled end."""
        self.due_ns = 0
        if self.next:
            timeline.cancel(self.next)
            self.next = 0

    def interrupt(self) -> bool:
        """Interrupt the attempt; return False if it does not stop for that."""
        if self.how or self.outcome.stubborn:
            return False
        self.end = ("stopped", None, AttemptInterrupted("it was asked to stop"))
        return True

    def over(self, how: str, now: int) -> None:
        """Note the end of the attempt."""
        self.how = how
        self.ended_ns = now
