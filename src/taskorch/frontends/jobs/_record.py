"""What has become of a job: a projection of the facts about its units."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
)
from taskorch.frontends.jobs._contract import Job

ENDED = ("completed", "failed")


@attrs.define
class Record:
    """A job, what its units ask for, and what has become of them."""

    job: Job
    units: int
    threads: int
    weight: float
    score: Mapping[str, float]
    submitted_ns: int = 0
    ended_ns: int = 0
    state: str = "queued"
    recoveries: int = 0
    #: Compute units times seconds: of attempts that completed, and of all.
    useful: float = 0.0
    spent: float = 0.0
    #: Seconds that threads have worked in this life, and that they were granted.
    busy: float = 0.0
    granted: float = 0.0
    #: Who has said how good it was.
    rewards: dict[str, float] = attrs.Factory(dict)
    #: The number of the last fact that it follows, and the state that was told of.
    seq: int = 0
    told: str = "queued"
    #: When attempts began that have not ended, and their compute units.
    _begun: dict[tuple[str, int], tuple[int, float]] = attrs.Factory(dict)
    _completed: set[str] = attrs.Factory(set)

    @property
    def latency(self) -> float:
        """Seconds from the assignment to the end, once it has ended."""
        return (self.ended_ns - self.submitted_ns) / 1e9

    def take_in(self, event: Event) -> None:
        """Follow a fact about a unit, once."""
        if event.seq <= self.seq:
            return
        before, self.seq = self.state, event.seq
        if isinstance(event, TaskStarted):
            held = {name: units / 1e6 for name, units in event.allocation}
            key = event.task_id, event.attempt
            self._begun[key] = event.at_ns, held.get("compute_units", 1.0)
            is_again = "~" in event.task_id
            if before == "queued" or (before == "failed" and is_again):
                self.recoveries += is_again
                self.state = "running"
        elif isinstance(event, TaskRewarded):
            self.rewards.setdefault(event.source, event.value)
        elif isinstance(event, TaskCompleted):
            self._end(event, is_useful=True)
            self._completed.add(event.task_id.partition("~")[0])
            if len(self._completed) >= self.units:
                self.state = "completed"
        elif isinstance(event, TaskRetrying | TaskFailed | TaskCancelled):
            self._end(event, is_useful=False)
            if not isinstance(event, TaskRetrying):
                self.state = "failed"
        if self.state != before and self.state in ENDED:
            self.ended_ns = event.at_ns

    def _end(
        self,
        event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled,
        *,
        is_useful: bool,
    ) -> None:
        key = event.task_id, getattr(event, "attempt", 0)
        began_ns, held = self._begun.pop(key, (event.at_ns, 0.0))
        spent = (event.at_ns - began_ns) / 1e9 * held
        self.spent += spent
        self.useful += spent * is_useful
