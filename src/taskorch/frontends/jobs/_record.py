"""What has become of a job: a projection of the facts about its units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import attrs

from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.frontends.jobs._contract import Job
from taskorch.model.ids import has_number, in_run, last_of, stem_of

ENDED: Final = ("completed", "failed")
End = TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled
_ENDS: Final = (TaskCompleted, TaskRetrying, TaskFailed, TaskCancelled)
#: Before the id of a job in that of its run.
PREFIX: Final = "job-"


def unit_id(job_id: str, index: int) -> str:
    """A UUID of version 4 for a unit, the same in later lives."""
    digest = hashlib.sha256(f"{job_id}/{index}".encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


def unit_task_id(job_id: str, index: int) -> str:
    """The id of the task that a unit of a job is."""
    return in_run(f"{PREFIX}{job_id}", unit_id(job_id, index))


@attrs.define
class JobRecord:
    """A job, what its units ask for, and what has become of them."""

    job: Job
    #: As its user has asked for it: a judgement may have changed it since.
    asked: Job
    units: int
    threads: int
    weight: float
    score: Mapping[str, float]
    #: Which kind of unit does it, where that was learnt; None: any may.
    specialization: str | None = None
    #: Whether a later life does what follows from its facts and was not done.
    is_followed: bool = True
    #: What was chosen for it, and by what record: for `explain` of its units.
    why: str = ""
    submitted_ns: int = 0
    ended_ns: int = 0
    state: str = "queued"
    #: Compute units times seconds: of attempts that completed, and of all.
    useful: float = 0.0
    spent: float = 0.0
    #: Seconds that threads have worked in this life, and that they were granted.
    busy: float = 0.0
    granted: float = 0.0
    #: Who has said how good it was, and of which of its units that is kept.
    rewards: dict[str, float] = attrs.Factory(dict)
    rewarded: dict[str, set[str]] = attrs.Factory(dict)
    #: What the latest run of a unit raised that has failed, by the id of the unit.
    errors: dict[str, str] = attrs.Factory(dict)
    #: The number of the last fact that it follows, and the state that was told of.
    seq: int = 0
    told: str = "queued"
    #: When attempts began that have not ended, and their compute units.
    _begun: dict[tuple[str, int], tuple[int, float]] = attrs.Factory(dict)
    _completed: set[str] = attrs.Factory(set)
    #: Units whose first run has failed, that were run again, and that failed again.
    _failed: set[str] = attrs.Factory(set)
    _run_again: set[str] = attrs.Factory(set)
    _failed_again: set[str] = attrs.Factory(set)

    @property
    def unit_ids(self) -> list[str]:
        """The ids of the tasks of its units, in their order."""
        job_id = self.job.job_id
        return [unit_task_id(job_id, index) for index in range(self.units)]

    @property
    def latency(self) -> float:
        """Seconds from the assignment to the end, once it has ended."""
        return (self.ended_ns - self.submitted_ns) / 1e9

    @property
    def to_recover(self) -> list[str]:
        """The ids of units that have failed once, and were not run again."""
        return sorted(self._failed - self._run_again)

    @property
    def recoveries(self) -> int:
        """How many units were run again after a failure."""
        return len(self._run_again)

    @property
    def has_failed_again(self) -> bool:
        """Whether a unit has failed that had been run again."""
        return bool(self._failed_again)

    def was_run_again(self, task_id: str) -> bool:
        """Whether a unit was run again."""
        return task_id in self._run_again

    def recover(self, task_id: str) -> None:
        """The unit is run again from now on."""
        self._run_again.add(task_id)

    def unrewarded(self, source: str) -> list[str]:
        """The ids of units of which the word of *source* is not kept."""
        return [each for each in self.unit_ids if each not in self.rewarded[source]]

    def take_in(self, event: Event) -> None:
        """Follow a fact about a unit, once."""
        if event.seq <= self.seq:
            return
        before, self.seq = self.state, event.seq
        if isinstance(event, TaskEvent):
            task_id, again = stem_of(event.task_id), has_number(event.task_id)
            if again and task_id in self._failed:
                self._run_again.add(task_id)
            if isinstance(event, TaskSubmitted) and not again:
                # As the status has it, to the microsecond.
                first = event.at_ns // 1_000 * 1_000
                self.submitted_ns = min(self.submitted_ns or first, first)
            elif isinstance(event, TaskStarted):
                self._begin(event, is_again=again)
            elif isinstance(event, TaskRewarded):
                self.rewards.setdefault(event.source, event.value)
                self.rewarded.setdefault(event.source, set()).add(task_id)
            elif isinstance(event, _ENDS):
                self._end(event, task_id, is_again=again)
        if self.state != before and self.state in ENDED:
            self.ended_ns = event.at_ns

    def _begin(self, event: TaskStarted, *, is_again: bool) -> None:
        held = {name: units / 1e6 for name, units in event.allocation}
        key = event.task_id, event.attempt
        self._begun[key] = event.at_ns, held.get("compute_units", 1.0)
        if self.state == "queued" or (self.state == "failed" and is_again):
            self.state = "running"

    def _end(self, event: End, task_id: str, *, is_again: bool) -> None:
        key = event.task_id, getattr(event, "attempt", 0)
        began_ns, held = self._begun.pop(key, (event.at_ns, 0.0))
        spent = (event.at_ns - began_ns) / 1e9 * held
        self.spent += spent
        if isinstance(event, TaskFailed):
            words = f"{event.error_type}: {event.message}"
            self.errors[last_of(task_id)] = words.removesuffix(": ")
        if isinstance(event, TaskCompleted):
            self.errors.pop(last_of(task_id), None)
            self.useful += spent
            self._completed.add(task_id)
            if len(self._completed) >= self.units:
                self.state = "completed"
        elif not isinstance(event, TaskRetrying):
            self.state = "failed"
            if isinstance(event, TaskFailed):
                (self._failed_again if is_again else self._failed).add(task_id)
