"""What the events of a small world say, believed by nobody, and the laws over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from taskorch.events import (
    CATALOGUE,
    AttemptStopping,
    Event,
    OrchestratorStarted,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    make,
)
from taskorch.model import TaskState, Units

S: Final = TaskState
#: One unit of a resource, in millionths.
ONE: Final = 1_000_000
POOL: Final = "room"
#: It lives with us, and dies with us.
NEAR: Final = "near"
#: It lives elsewhere, and has a lease.
FAR: Final = "far"
UP, CUT, DOWN = "is up", "is cut off", "is down"

#: The incarnation of the orchestrator, the task and the attempt.
Fence: TypeAlias = tuple[int, str, int]
#: What happens: a verb, and what it is about.
Action: TypeAlias = tuple[Any, ...]

ALL: Final = frozenset(CATALOGUE)
ENDS: Final[dict[Any, TaskState]] = {
    TaskCompleted: S.COMPLETED,
    TaskFailed: S.FAILED,
    TaskCancelled: S.CANCELLED,
}
#: What an attempt can lead to.
OUTCOMES: Final = (*ENDS, TaskRetrying, TaskBlocked)
#: The place of the id in an event about a task.
TASK: Final = 3


class LawBrokenError(AssertionError):
    """A law does not hold; the message names it, and the shortest way there."""


class Audit:
    """
    What the events say, read one after the other and believed by nobody.

    It knows of the kernel's rows nothing: where both have an opinion, they must agree.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.epoch = 1
        self.submitted: dict[str, None] = {}
        self.ended: dict[str, TaskState] = {}
        #: The attempts that are current, and what each of them holds.
        self.current: dict[str, tuple[Fence, str, Units]] = {}
        #: What attempts hold that would not stop.
        self.leaked: dict[tuple[str, int], tuple[str, Units]] = {}
        #: Why current attempts were asked to stop.
        self.stopping: dict[str, str] = {}
        self.called_off: dict[str, None] = {}
        self.charged: dict[str, int] = {}
        for event in events:
            self._read(event)

    def _read(self, event: Event) -> None:
        cls = event[0]
        if cls is OrchestratorStarted:
            self.epoch = event[3]
        elif cls is TaskSubmitted:
            hold(event[3] not in self.submitted, "a task is submitted once")
            self.submitted[event[3]] = None
        elif cls is TaskStarted:
            self._started(*event[3:7])
        elif cls is SlotLeaked:
            fence, worker, alloc = self._pop(event[3])
            self.leaked[fence[1], fence[2]] = worker, alloc
        elif cls is SlotRecovered:
            released = self.leaked.pop((event[3], event[4]), None) is not None
            hold(released, "what a leak holds is released once")
        elif cls is AttemptStopping:
            self.stopping[event[3]] = event[5]
            if event[5] == "cancel":
                self.called_off[event[3]] = None
        elif cls in ENDS:
            self._over(event)
        elif cls is TaskRetrying:
            self._charge(event)
            self.stopping.pop(event[3], None)
            hold(
                event[3] in self.current or event[8] == "timeout",
                "only an attempt is tried again",
            )
            self.current.pop(event[3], None)

    def _started(self, task_id: str, attempt: int, worker: str, alloc: Units) -> None:
        hold(task_id not in self.current, "a task has one current attempt at most")
        hold(task_id not in self.ended, "what has ended does not start")
        hold(
            task_id not in self.called_off, "nothing starts once its cancel is recorded"
        )
        hold(task_id in self.submitted, "what starts was submitted")
        self.current[task_id] = (self.epoch, task_id, attempt), worker, alloc

    def _pop(self, task_id: str) -> tuple[Fence, str, Units]:
        hold(task_id in self.current, "only what is under way can end")
        return self.current.pop(task_id)

    def _over(self, event: Event) -> None:
        cls, task_id = event[0], event[3]
        hold(task_id not in self.ended, "a task ends once")
        self.ended[task_id] = ENDS[cls]
        self.stopping.pop(task_id, None)
        known = self.current.pop(task_id, None)
        if cls is TaskCompleted:
            is_current = known is not None and known[0][2] == event[4]
            hold(is_current, "it is the current attempt that completes")
        elif cls is TaskFailed:
            self._charge(event)
        else:
            self.called_off[task_id] = None

    def _charge(self, told: Event) -> None:
        event: Any = make(told)
        if event.charged:
            fault = event.cause in ("error", "timeout")
            hold(fault, "a task is charged for its own faults only")
            self.charged[event.task_id] = self.charged.get(event.task_id, 0) + 1

    def holding(self) -> list[tuple[str, Units]]:
        """Worker and resources of all attempts that hold any."""
        return [
            *[(worker, alloc) for _, worker, alloc in self.current.values()],
            *self.leaked.values(),
        ]


def hold(holds: bool, law: str) -> None:
    if not holds:
        raise LawBrokenError(law)


def law(found: Sequence[str], law: str) -> None:
    """Hold a law that has found something against itself, or nothing."""
    if found:
        msg = f"{law}: {'; '.join(found)}"
        raise LawBrokenError(msg)


def law_of_charges(action: Action, new: Sequence[Event]) -> None:
    """A task is charged for what it did itself: nothing else counts against it."""
    for told in new:
        if told[0] not in (TaskRetrying, TaskFailed):
            continue
        event: Any = make(told)
        if event.charged and event.cause == "error":
            reported = action[0] == "end" and action[1][1:] == (
                event.task_id,
                event.attempt,
            )
            hold(
                reported and action[2] == "failed",
                "a task is charged for its own faults only",
            )
