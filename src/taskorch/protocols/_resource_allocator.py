"""Who gets what of the pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from taskorch._frozen import frozen
from taskorch.model import Resources, Task
from taskorch.protocols._context import AgentView, Context, PoolView
from taskorch.protocols._reuse import Reuse


@frozen
class AllocationRequest:
    """
    What a task asks for, on the agent that would run it.

    Attributes:
        task: The task.
        agent: The agent that is to run it.
        resources: What the task asks for of the pools.
    """

    task: Task
    agent: AgentView
    resources: Resources


@frozen
class Allocation:
    """
    The answer of a ResourceAllocator: what is granted, or nothing yet.

    Attributes:
        granted: None: nothing now, ask again when something is released.
        reason: Why so much, or nothing.
        reusable: Whether it holds for every like task, whatever the pools: only an
            allocation of nothing can.
    """

    granted: Resources | None
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class ResourceAllocator(Protocol):
    """
    Protocol: decides what a task that is about to start holds.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. The
    kernel keeps the books: it refuses a grant that does not fit. If it has a true
    attribute `rigid`, it grants all of what fits and nothing of what does not: then
    the kernel looks at the books itself and asks only where there is room, so that a
    task which waits for resources costs nothing.

    Laws:
        1. A grant never exceeds what is free in any pool.
        2. A grant never exceeds the request.
        3. A request that fits into what is free is not refused for ever.
        4. It changes none of its arguments.
    """

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """What *request* gets of *pools* now."""
        ...
