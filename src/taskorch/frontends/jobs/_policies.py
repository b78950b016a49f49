"""The queue and the router of the orchestrator of jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskorch.adaptive import LearnedValue
from taskorch.frontends.jobs._record import JobRecord
from taskorch.model import Task
from taskorch.policies import PerformanceRouter, ScoreQueue
from taskorch.protocols import AgentView, Context, Route


class JobRouter(PerformanceRouter):
    """The router of jobs: its reason says what was chosen for the job, and why."""

    def __init__(self, records: Mapping[str, JobRecord]) -> None:
        super().__init__()
        self._records = records

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """See `TaskRouter.route`."""
        route = super().route(task, candidates, context)
        record = self._records.get((task.metadata or {}).get("job_id", ""))
        if record is None or not record.why:
            return route
        return Route(route.agent, f"{route.reason}; {record.why}")

    def __deepcopy__(self, memo: object) -> PerformanceRouter:
        # A simulation knows no jobs of this process.
        return PerformanceRouter()


class JobQueue(ScoreQueue):
    """
    The queue of jobs; what was picked for one is said as its first unit begins.

    Args:
        weights: As of ScoreQueue.
        learners: Asked for what picks values for jobs, by their first units.
        restored: Called at the start with what gives the payloads of kept events.
        recalled: Called then with the journal and the number of its last fact.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        learners: Callable[[], tuple[LearnedValue, ...]],
        restored: Callable[[Callable[[str], Any]], None],
        recalled: Callable[[Any, int], None],
    ) -> None:
        super().__init__(weights)
        self._learners = learners
        self._restored = restored
        self._recalled = recalled
        self._orch: Any = None
        #: What gives documents by names.
        self._kept: Callable[[str], Mapping[str, Any]] | None = None

    def attach(self, orchestrator: Any) -> None:
        """See `Learned.attach`."""
        self._orch = orchestrator
        for part in self._learners():
            part.attach(orchestrator)

    def join(self, part: LearnedValue) -> None:
        """Have one more learn, as those that were there from the beginning."""
        if self._kept is not None:
            part.restore(self._kept)
        part.attach(self._orch)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """See `Learned.choice_of`: what was picked, all together."""
        choices = [part.choice_of(task_id, attempt) for part in self._learners()]
        picked = [one for one in choices if one is not None]
        if not picked:
            return None
        arms, chances = zip(*picked, strict=True)
        return " + ".join(arms), math.prod(chances)

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """See `Learned.restore`."""
        self._kept = kept
        for part in self._learners():
            part.restore(kept)
        self._restored(kept)

    def recall(self, journal: Any, last: int) -> None:
        """See `Learned.recall`."""
        self._recalled(journal, last)

    def __deepcopy__(self, memo: object) -> ScoreQueue:
        # In a simulation nothing is learnt.
        return ScoreQueue(self.weights)
