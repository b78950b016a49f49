"""What agents do: attempts under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeAlias

import attrs

from taskorch.errors import AttemptInterrupted
from taskorch.simulation._timeline import Agenda
from taskorch.simulation._work import End, Outcome, end_of

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
