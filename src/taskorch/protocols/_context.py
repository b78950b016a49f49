"""What a policy may see when it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from taskorch.kit.frozen import frozen
from taskorch.model import Fallback, Performance, Resources, TaskState

if TYPE_CHECKING:
    from random import Random


class AgentView(Protocol):
    """A worker as it stands now; read only, and live."""

    @property
    def name(self) -> str:
        """Name of the worker."""
        ...

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Capabilities of the worker, sorted."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What the worker's machine is, such as `platform:linux`, sorted."""
        ...

    @property
    def max_concurrency(self) -> int | None:
        """Attempts that it runs at once; None is without limit."""
        ...

    @property
    def running(self) -> int:
        """Number of attempts that the worker runs now."""
        ...

    @property
    def capacity(self) -> Resources | None:
        """Capacity of the worker; None: only the pools are its limit."""
        ...

    @property
    def used(self) -> Resources:
        """Resources that the agent's attempts hold."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the worker is lost, as one with a lease may be, and gets no work."""
        ...

    def performance(self, task_type: str) -> Performance:
        """How well it has done at tasks of *task_type*."""
        ...


class PoolView(Protocol):
    """A resource as it stands now; read only, and live."""

    @property
    def name(self) -> str:
        """Name of the resource."""
        ...

    @property
    def total(self) -> float:
        """How much there is."""
        ...

    @property
    def free(self) -> float:
        """How much nobody holds."""
        ...

    @property
    def used(self) -> float:
        """How much is held: more than there is, where that has become less."""
        ...


@frozen
class Contender:
    """
    Like elastic requests, which contend for what is divided.

    Attributes:
        resources: All that each of them asks for, of the pools.
        least: What each cannot do without, of the pools.
        weight: How much each counts, for what it asks for.
        fallback: What follows where a whole share is not free.
        waiting: How many wait that could start, as far as slots go.
        held: What each of those holds of the pools that run, the first to start first.
    """

    resources: Resources
    least: Resources
    weight: float
    fallback: Fallback
    waiting: int = 0
    held: tuple[Resources, ...] = ()


class OwnerView(Protocol):
    """A tenant of tasks as it stands now; read only, and live."""

    @property
    def name(self) -> str | None:
        """Name of the tenant; None for all tasks without a tenant."""
        ...

    @property
    def running(self) -> int:
        """Number of slots that attempts of the tenant hold."""
        ...

    @property
    def queued(self) -> int:
        """Number of the owner's tasks that wait for a slot, a worker or resources."""
        ...

    @property
    def held(self) -> Resources:
        """Resources held for the owner, those of `orch.resources` included."""
        ...

    @property
    def wanted(self) -> Resources:
        """What is held for it, and what its queued tasks ask for."""
        ...

    @property
    def share(self) -> float:
        """
        Dominant share of the tenant.

        Of each pool and of the slots, it holds a part of what there is, from 0 to 1:
        this is the largest of these.
        """
        ...

    @property
    def demand(self) -> float:
        """Dominant share of what the tenant holds and wants; above 1, too little."""
        ...


class StateView(Protocol):
    """The orchestrator's state; read only, and live."""

    @property
    def queued(self) -> int:
        """Tasks that wait for a slot, a worker or resources."""
        ...

    @property
    def running(self) -> int:
        """Attempts under way."""
        ...

    def agents(self) -> Sequence[AgentView]:
        """All workers, in the order in which they joined."""
        ...

    def pools(self) -> Mapping[str, PoolView]:
        """All pools, by name."""
        ...

    def contenders(self) -> Sequence[Contender]:
        """The elastic requests that contend; of those that wait, the first first."""
        ...

    def state_of(self, task_id: str) -> TaskState | None:
        """The state of a task, or None if it is not known."""
        ...


class Context(Protocol):
    """
    What every policy is given beside its question.

    New facts come as new attributes, so a policy of yours keeps working.
    """

    @property
    def now(self) -> float:
        """Seconds since the epoch, on a clock that never goes back."""
        ...

    @property
    def random(self) -> Random:
        """The orchestrator's generator: draw from it, and a seed repeats the run."""
        ...

    @property
    def view(self) -> StateView:
        """The state around the question."""
        ...
