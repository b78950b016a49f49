"""The queue, the router and the allocator of the orchestrator of jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from taskorch.ext.jobs._tasks import HALVED
from taskorch.ext.learning import LearnedValue
from taskorch.model import Resources, Task
from taskorch.policies import PerformanceRouter, ProportionalAllocator, ScoreQueue
from taskorch.protocols import (
    AgentView,
    Allocation,
    AllocationRequest,
    Context,
    PoolView,
    Route,
)

_THREADS: Final = "threads"


class JobRouter(PerformanceRouter):
    """Router of jobs, whose reason tells the values chosen for the job, and why."""

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """See `TaskRouter.route`."""
        route = super().route(task, candidates, context)
        why = (task.metadata or {}).get("why")
        return Route(route.agent, f"{route.reason}; {why}") if why else route

    def __deepcopy__(self, memo: object) -> PerformanceRouter:
        # A simulation knows no jobs of this process.
        return PerformanceRouter()


class JobAllocator(ProportionalAllocator):
    """
    Allocator of jobs, which grants half the threads under pressure.

    A running unit gives the other half back at its next checkpoint, and gets it again
    at a checkpoint after the pressure.

    Args:
        chunks: As for `ProportionalAllocator`.
        pressed: Returns the nearly full pools, if pressure affects threads.
        relief: The share of a pool below which its pressure ends.
    """

    def __init__(
        self,
        chunks: Mapping[str, float],
        pressed: Callable[[], Collection[str]],
        relief: float,
    ) -> None:
        super().__init__(chunks)
        self._pressed = pressed
        self._relief = relief

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """See `ResourceAllocator.allocate`."""
        answer = super().allocate(request, pools, context)
        # The pool of threads does not count: it is not full any more once units give
        # half their threads back, and then they would get all of them again.
        full = [
            name
            for name in sorted(self._pressed())
            if name != _THREADS and name in pools
            # The pressure may have ended without an event yet.
            if pools[name].used >= self._relief * pools[name].total
        ]
        asked = request.resources[_THREADS]
        if not full or answer.granted is None or not asked:
            return answer
        half = max(1, asked // 2)
        asks_half = (request.task.metadata or {}).get(HALVED, False)
        if asks_half or answer.granted[_THREADS] <= half:
            return answer
        granted = Resources.of({**answer.granted, _THREADS: half}, "granted")
        pools_full = f"{' and '.join(full)} {'is' if len(full) == 1 else 'are'}"
        why = f"{half:g} of {asked:g} threads, while {pools_full} nearly full"
        is_whole = answer.granted == request.resources
        return Allocation(granted, why if is_whole else f"{answer.reason}; {why}")

    def __deepcopy__(self, memo: object) -> ProportionalAllocator:
        # A simulation knows no pressure of this process.
        return ProportionalAllocator(self.chunks)


class JobQueue(ScoreQueue):
    """
    Queue of jobs, which records the picked values as the first unit begins.

    Args:
        weights: As for `ScoreQueue`.
        learners: Returns the learners that pick values for jobs, by their first units.
        restored: Called at the start with the function that returns stored documents.
        recalled: Called then with the journal and the number of its last event.
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
        #: The function that returns stored documents by name.
        self._kept: Callable[[str], Mapping[str, Any]] | None = None

    def attach(self, orchestrator: Any) -> None:
        """See `Learned.attach`."""
        self._orch = orchestrator
        for part in self._learners():
            part.attach(orchestrator)

    def join(self, part: LearnedValue) -> None:
        """Add one more learner, as if it had been there from the beginning."""
        if self._kept is not None:
            part.restore(self._kept)
        part.attach(self._orch)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """Return all values picked for the attempt; see `Learned.choice_of`."""
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
        """See `Recalls.recall`."""
        self._recalled(journal, last)

    def __deepcopy__(self, memo: object) -> ScoreQueue:
        # In a simulation nothing is learnt.
        return ScoreQueue(self.weights)
