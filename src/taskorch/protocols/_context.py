"""The context in which a policy decides."""

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
        """Labels of the worker's machine, such as `platform:linux`, sorted."""
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
        """Capacity of the worker; None if only the pools limit it."""
        ...

    @property
    def used(self) -> Resources:
        """Resources that the worker's attempts hold."""
        ...

    @property
    def is_lost(self) -> bool:
        """True if the worker's lease is over, so that it gets no work."""
        ...

    def performance(self, task_type: str) -> Performance:
        """Return the record of the worker at tasks of *task_type*."""
        ...


class PoolView(Protocol):
    """A resource as it stands now; read only, and live."""

    @property
    def name(self) -> str:
        """Name of the resource."""
        ...

    @property
    def total(self) -> float:
        """Total amount."""
        ...

    @property
    def free(self) -> float:
        """Amount that is not held."""
        ...

    @property
    def used(self) -> float:
        """Amount that is held; it exceeds the total if that was reduced."""
        ...


@frozen
class Contender:
    """
    Like elastic requests, which contend for the same resources.

    Attributes:
        resources: The amounts that each asks for of the pools.
        least: The least amounts that each needs of the pools.
        weight: The weight of each, relative to its size.
        fallback: The rule if a whole share is not free.
        waiting: The number of waiting ones that could start, as far as slots go.
        held: The amounts of the pools that each running one holds, in order of their
            starts.
    """

    resources: Resources
    least: Resources
    weight: float
    fallback: Fallback
    waiting: int = 0
    held: tuple[Resources, ...] = ()


class OwnerView(Protocol):
    """A tenant as it stands now; read only, and live."""

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
        """Number of the tenant's tasks that wait for a slot, a worker or resources."""
        ...

    @property
    def held(self) -> Resources:
        """Resources held for the tenant, those of `orch.resources` included."""
        ...

    @property
    def wanted(self) -> Resources:
        """Resources that the tenant holds, plus those that its queued tasks ask for."""
        ...

    @property
    def share(self) -> float:
        """
        Dominant share of the tenant.

        The largest part, from 0 to 1, that it holds of any pool or of the slots.
        """
        ...

    @property
    def demand(self) -> float:
        """Dominant share of held and wanted resources; above 1, there is too little."""
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
        """Return all workers, in the order in which they joined."""
        ...

    def pools(self) -> Mapping[str, PoolView]:
        """Return all pools, by name."""
        ...

    def contenders(self) -> Sequence[Contender]:
        """Return the elastic requests that contend; waiting ones in their order."""
        ...

    def state_of(self, task_id: str) -> TaskState | None:
        """Return the state of a task, or None if it is not known."""
        ...


class Context(Protocol):
    """
    Context that every policy gets beside its question.

    New information comes as new attributes, so your policy keeps working.
    """

    @property
    def now(self) -> float:
        """Time in seconds since the epoch, on a clock that never goes back."""
        ...

    @property
    def random(self) -> Random:
        """Random generator of the orchestrator: with it, a seed repeats the run."""
        ...

    @property
    def view(self) -> StateView:
        """State at the time of the question."""
        ...
