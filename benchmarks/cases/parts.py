"""What it costs to replace parts of the orchestrator by one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks._figures import Goal, Row
from benchmarks._registry import Run, case
from benchmarks._workloads import CONCURRENCY, pool_one_by_one
from benchmarks.cases.throughput import compare, one_by_one
from taskorch import Task, TaskOrchestrator
from taskorch.protocols import (
    Admission,
    AgentView,
    Allocation,
    AllocationRequest,
    Context,
    Failure,
    Order,
    PoolView,
    RetryDecision,
    Route,
    Verdict,
)


class OwnRouter:
    """Chooses the worker that runs least."""

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """Ask every candidate how much it runs."""
        return Route(min(candidates, key=lambda worker: worker.running).name)


class OwnValidator:
    """Accepts every task."""

    def validate(self, task: Task, context: Context) -> Verdict:
        """Find nothing wrong."""
        return Verdict()


class OwnQueue:
    """Runs higher priorities first, and lets every task in."""

    def order(self, task: Task, context: Context) -> Order:
        """Give the task its key."""
        return Order(key=-task.priority)

    def admit(self, task: Task, context: Context) -> Admission:
        """Let it in."""
        return Admission(admitted=True)


class OwnRetryHandler:
    """Tries three times at once."""

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """Count the attempts."""
        return RetryDecision(retry=failure.attempts < 3)


class OwnAllocator:
    """Grants what was asked for if it is free."""

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Look into every pool that the request names."""
        wanted = request.resources
        for name, amount in wanted.items():
            if pools[name].free < amount:
                return Allocation(None)
        return Allocation(wanted)


@case("own-parts")
def own_parts(run: Run) -> Iterator[Row]:
    """No-ops one by one with five parts of the user's own, asked every time."""
    with TaskOrchestrator(
        router=OwnRouter(),
        validator=OwnValidator(),
        queue=OwnQueue(),
        retry_handler=OwnRetryHandler(),
        allocator=OwnAllocator(),
        concurrency=CONCURRENCY,
    ) as orch:
        yield compare(
            "submit, five own parts",
            orch,
            one_by_one,
            pool_one_by_one,
            Goal.no_less(0.5),
            run,
            note="router, validator, queue, retry handler and allocator of plain "
            "classes, no answer reusable",
        )
