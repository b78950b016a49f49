"""What agents do in virtual time: what is to come, work, and attempts under way."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from inspect import iscoroutinefunction
from random import Random
from typing import Any, Final, Self, TypeAlias, cast

import attrs

from taskorch.errors import AttemptInterrupted, AttemptLostError, InvalidTaskError
from taskorch.kernel import AttemptOutcome
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import Call, Task

#: Where virtual time begins, in ns: the first of January 2026.
BEGINNING: Final = 1_767_225_600_000_000_000

#: `(when, number, act, subject, idle)`: *act* is called with *subject*.
Coming: TypeAlias = tuple[int, int, Callable[[Any], object], Any, bool]


class Agenda:
    """
    What is to come, in order of time, and of entry at one instant.

    What is *idle* (a heartbeat, say) comes again and again: a run ends in spite of it.
    """

    __slots__ = ("_cancelled", "_number", "heap", "now", "pressing")

    def __init__(self) -> None:
        #: The time in ns.
        self.now: int = BEGINNING
        self.heap: list[Coming] = []
        #: How much of what is to come is not idle.
        self.pressing: int = 0
        self._number: int = 0
        #: What is on the heap still, and will not happen.
        self._cancelled: dict[int, None] = {}

    def at(
        self,
        when: int,
        act: Callable[[Any], object],
        subject: Any = None,
        *,
        idle: bool = False,
    ) -> int:
        """Call *act* with *subject* at *when*; a number, to `cancel` it."""
        self._number += 1
        if not idle:
            self.pressing += 1
        heappush(self.heap, (when, self._number, act, subject, idle))
        return self._number

    def cancel(self, number: int) -> None:
        """What is not idle, has this number and is still to come will not happen."""
        self._cancelled[number] = None
        self.pressing -= 1

    def next_due(self) -> int | None:
        """Time of the next action, if there is one."""
        heap, cancelled = self.heap, self._cancelled
        while cancelled and heap and heap[0][1] in cancelled:
            del cancelled[heappop(heap)[1]]
        return heap[0][0] if heap else None

    def pop_due(self) -> Coming | None:
        """Remove and give what is due, if anything is."""
        due = self.next_due()
        if due is None or due > self.now:
            return None
        coming = heappop(self.heap)
        if not coming[4]:
            self.pressing -= 1
        return coming

    def forget(self, owner: object) -> None:
        """Remove what the methods of *owner* were to do."""
        self.heap = [
            coming
            for coming in self.heap
            if coming[1] not in self._cancelled
            and getattr(coming[2], "__self__", None) is not owner
        ]
        heapify(self.heap)
        self._cancelled.clear()
        self.pressing = sum(not coming[4] for coming in self.heap)


#: Seconds that work takes of which nothing is known.
_SECONDS: Final = 1.0


@attrs.frozen
class Outcome:
    """
    What one attempt comes to.

    Raises:
        InvalidTaskError: A number of seconds is none, or the error is no exception.
    """

    #: How long it takes on an agent of speed 1.
    seconds: float = _SECONDS
    result: Any = None
    #: What it raises; None: it completes.
    error: BaseException | None = None
    #: Its function is called at the end, and what it returns or raises is its own.
    calls: bool = False
    #: Its worker dies of it.
    crash: bool = False
    #: It does not end by itself.
    hang: bool = False
    #: It does not stop when it is asked to.
    stubborn: bool = False
    #: What it reports on the way, at equal distances.
    progress: tuple[Any, ...] = ()
    #: Of its seconds, in the middle, it waits for other work and gives its slot back;
    #: on a remote agent it does not.
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


#: What is known of the work of a type: seconds, an outcome, or a function of the
#: task, the number of the attempt and a random source that gives either.
What: TypeAlias = float | Outcome | Callable[[Task, int, Random], "float | Outcome"]


def as_outcome(work: object) -> Outcome:
    """
    *work* as an outcome.

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
    *work* as what is known of some work.

    Raises:
        InvalidTaskError: It is neither a number of seconds, an outcome nor a function
            of which one of them comes.
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
    """How an attempt ends by itself."""
    if outcome.crash:
        msg = f"task {task_id}: its worker died"
        return "lost", None, AttemptLostError(msg, task_id=task_id)
    if outcome.error is not None:
        return "failed", None, outcome.error
    return "completed", outcome.result, None


def nanoseconds(seconds: float) -> int:
    """*seconds* in ns."""
    return int(seconds * NS)


def is_call(task: Task | None) -> bool:
    """Whether *task* is a call of a function."""
    return task is not None and isinstance(task.payload, Call)


#: `(epoch, task id, attempt)`: which try of which life.
Fence: TypeAlias = tuple[int, str, int]


@attrs.frozen
class Attempt:
    """What an agent did: the truth, whatever the orchestrator knows of it."""

    task_id: str
    attempt: int
    agent_id: str
    #: Seconds since the beginning.
    start: float
    #: None: it has not ended.
    end: float | None
    #: `completed`, `failed`, `stopped` or `lost`; `died` with its agent or with the
    #: orchestrator; `running`.
    outcome: str
    #: The life of the orchestrator that began it.
    epoch: int


class SimulatedRun:
    """One attempt under way."""

    __slots__ = (
        "agent",
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
    )

    def __init__(self, agent: str, fence: Fence, outcome: Outcome, now: int) -> None:
        self.agent: str = agent
        self.epoch: int = fence[0]
        self.task_id: str = fence[1]
        self.attempt: int = fence[2]
        self.outcome: Outcome = outcome
        self.began_ns: int = now
        self.ended_ns: int = 0
        #: When it ends; 0: nobody knows.
        self.due_ns: int = 0
        #: Of its time, what was left when it was stopped where it stands.
        self.left_ns: int = 0
        #: The number of what happens to it next on the timeline; 0: nothing does.
        self.next: int = 0
        #: How it will end.
        self.end: End = end_of(outcome, self.task_id)
        #: How it has ended, or "".
        self.how: str = ""
        #: The lease of its agent; 0: it has none.
        self.lease_ns: int = 0

    @property
    def fence(self) -> Fence:
        """Life, task and attempt number."""
        return self.epoch, self.task_id, self.attempt

    @property
    def is_endless(self) -> bool:
        """Whether the attempt will not end by itself."""
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
        """Interrupt the attempt; False if it does not stop for that."""
        if self.how or self.outcome.stubborn:
            return False
        self.end = ("stopped", None, AttemptInterrupted("it was asked to stop"))
        return True

    def over(self, how: str, now: int) -> None:
        """Note the end of the attempt."""
        self.how = how
        self.ended_ns = now
