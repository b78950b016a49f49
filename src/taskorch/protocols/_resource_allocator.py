"""Who gets what of the pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import Fallback, Resources, Task
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
        least: Of an elastic request, what it cannot do without, in whole chunks; None:
            it is rigid, and granted whole or not at all.
        weight: How much an elastic one counts, for what it asks for.
        fallback: Where its share is not free, `"best_effort"` starts with less, from
            its least up, and `"all_or_nothing"` waits.
        held: Of an elastic one that runs, what it holds; None: it is to start. What is
            granted then takes the place of that, and may use it.
    """

    task: Task
    agent: AgentView
    resources: Resources
    least: Resources | None = None
    weight: float = 1
    fallback: Fallback = "best_effort"
    held: Resources | None = None


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
    attribute `rigid` (`GrantsWhole`), it grants all of what fits and nothing of what
    does not, and nothing to an elastic request whose least does not fit: then the
    kernel looks at the books itself and asks only where there is room, so that a task
    which waits for resources costs nothing.

    It may have an attribute `chunks` (`GrantsChunks`), a mapping of resources to the
    sizes of the pieces in which it grants them: the least of an elastic request is one
    of each, or what the request names, rounded up to whole ones. What that does not
    name is granted whole; without it, so is every elastic request. One that learns has
    what `Learns` says.

    About an elastic request it is asked again while the task runs: at each of its
    checkpoints and, after the first, when resources come free: then only a larger grant
    counts.

    Laws:
        1. A grant never exceeds what is free in any pool, and what is held already.
        2. A grant never exceeds the request, and is never less than the least of an
           elastic one.
        3. A request that fits into what is free is not refused for ever.
        4. It changes none of its arguments.
        5. A part of an elastic request is whole chunks of what `chunks` names, or all
           that is asked for of it; of what that does not name it is all.
    """

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """What *request* gets of *pools* now."""
        ...
