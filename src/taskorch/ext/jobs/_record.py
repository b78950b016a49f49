"""State of a job, a projection of the events of its units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from uuid import UUID

import attrs

from taskorch.events import (
    AllocationChanged,
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
from taskorch.ext.jobs._contract import Job
from taskorch.model import Units
from taskorch.model.ids import has_number, in_run, last_of, stem_of

ENDED: Final = ("completed", "failed")
End = TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled
_ENDS: Final = (TaskCompleted, TaskRetrying, TaskFailed, TaskCancelled)
#: The prefix of the id of a job's run, before the id of the job.
PREFIX: Final = "job-"


def unit_id(job_id: str, index: int) -> str:
    """Return the UUID of a unit, in the form of version 4, the same in later runs."""
    digest = hashlib.sha256(f"{job_id}/{index}".encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


@lru_cache
def unit_task_id(job_id: str, index: int) -> str:
    """Return the id of the task that a unit of a job is."""
    return in_run(f"{PREFIX}{job_id}", unit_id(job_id, index))


@attrs.define
class JobRecord:
    """Job, the needs of its units, and their progress."""

    job: Job
    #: The job as its user has asked for it, before a judgement may have changed it.
    asked: Job
    units: int
    threads: int
    weight: float
    score: Mapping[str, float]
    #: The specialisation that does it, if that was learnt; None: any.
    specialization: str | None = None
    #: Whether a later run does its missing follow-ups.
    is_followed: bool = True
    #: The values chosen for it, and why, for `explain` of its units.
    why: str = ""
    #: Whether its units ask for half the threads, because it was made under pressure.
    is_halved: bool = False
    submitted_ns: int = 0
    ended_ns: int = 0
    state: str = "queued"
    #: Compute units times seconds: of attempts that completed, and of all.
    useful: float = 0.0
    spent: float = 0.0
    #: Seconds that threads have worked in this run, and that they were granted.
    busy: float = 0.0
    granted: float = 0.0
    #: The rewards by source, and the units for which each is stored.
    rewards: dict[str, float] = attrs.Factory(dict)
    rewarded: dict[str, set[str]] = attrs.Factory(dict)
    #: The number of threads of each running unit, by its id.
    threads_held: dict[str, int] = attrs.Factory(dict)
    #: The error of the latest run of each failed unit, by its id.
    errors: dict[str, str] = attrs.Factory(dict)
    #: The number of its last event, and the state that was reported last.
    seq: int = 0
    told: str = "queued"
    #: Whether its begin was reported.
    is_told_to_begin: bool = False
    #: The ids of the tasks of its units, in their order.
    unit_ids: list[str] = attrs.field(init=False)
    #: The starts of running attempts, and their compute units.
    _begun: dict[tuple[str, int], tuple[int, float]] = attrs.Factory(dict)
    #: The units that exist: all of them, once the first has begun.
    _made: set[str] = attrs.Factory(set)
    _completed: set[str] = attrs.Factory(set)
    #: Units whose first run has failed, that were run again, and that failed again.
    _failed: set[str] = attrs.Factory(set)
    _run_again: set[str] = attrs.Factory(set)
    _failed_again: set[str] = attrs.Factory(set)

    def __attrs_post_init__(self) -> None:
        # These are computed once, since each is a digest and is used often.
        job_id = self.job.job_id
        self.unit_ids = [unit_task_id(job_id, index) for index in range(self.units)]

    @property
    def has_begun(self) -> bool:
        """True if a unit has begun and all units are made."""
        return self.state != "queued" and len(self._made) >= self.units

    @property
    def latency(self) -> float:
        """Seconds from the assignment to the end, once the job has ended."""
        return (self.ended_ns - self.submitted_ns) / 1e9

    @property
    def to_recover(self) -> list[str]:
        """Ids of units that have failed once and were not run again."""
        return sorted(self._failed - self._run_again)

    @property
    def recoveries(self) -> int:
        """Number of units that were run again after a failure."""
        return len(self._run_again)

    @property
    def has_failed_again(self) -> bool:
        """True if a unit that was run again has failed again."""
        return bool(self._failed_again)

    def was_run_again(self, task_id: str) -> bool:
        """Return whether a unit was run again."""
        return task_id in self._run_again

    def recover(self, task_id: str) -> None:
        """Note that the unit is run again."""
        self._run_again.add(task_id)

    def unrewarded(self, source: str) -> list[str]:
        """Return the ids of units that have no reward of *source* yet."""
        return [each for each in self.unit_ids if each not in self.rewarded[source]]

    def take_in(self, event: Event) -> None:
        """Update the record by an event about a unit, once."""
        if event.seq <= self.seq:
            return
        before, self.seq = self.state, event.seq
        if isinstance(event, TaskEvent):
            task_id, again = stem_of(event.task_id), has_number(event.task_id)
            if again and task_id in self._failed:
                self._run_again.add(task_id)
            if isinstance(event, TaskSubmitted) and not again:
                self._made.add(task_id)
                # This is rounded to microseconds, as in the status.
                first = event.at_ns // 1_000 * 1_000
                self.submitted_ns = min(self.submitted_ns or first, first)
            elif isinstance(event, TaskStarted):
                self._begin(event, is_again=again)
            elif isinstance(event, AllocationChanged):
                self._hold(task_id, event.after)
            elif isinstance(event, TaskRewarded):
                self.rewards.setdefault(event.source, event.value)
                self.rewarded.setdefault(event.source, set()).add(task_id)
            elif isinstance(event, _ENDS):
                self._end(event, task_id, is_again=again)
        if self.state != before and self.state in ENDED:
            self.ended_ns = event.at_ns

    def _hold(self, task_id: str, allocation: Units) -> None:
        held = dict(allocation)
        self.threads_held[last_of(task_id)] = held.get("threads", 0) // 1_000_000

    def _begin(self, event: TaskStarted, *, is_again: bool) -> None:
        self._hold(stem_of(event.task_id), event.allocation)
        held = {name: units / 1e6 for name, units in event.allocation}
        key = event.task_id, event.attempt
        self._begun[key] = event.at_ns, held.get("compute_units", 1.0)
        if self.state == "queued" or (self.state == "failed" and is_again):
            self.state = "running"

    def _end(self, event: End, task_id: str, *, is_again: bool) -> None:
        self.threads_held.pop(last_of(task_id), None)
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
