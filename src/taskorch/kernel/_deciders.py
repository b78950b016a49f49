"""
The questions that the kernel asks.

The runtime answers them with the user's policies: it makes the `Task` that a policy
sees, guards the call and checks the answer. The kernel knows rows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from taskorch.kernel._rows import AgentRow, Candidates, Share, Spec, TaskRow
from taskorch.model import Elasticity, TaskState, Units


class PolicyFault(Exception):  # noqa: N818 - not an error of the caller's
    """
    A policy raised, or answered what its protocol does not allow.

    Attributes:
        component: Which part: `router`, `queue`, ….
        error: What it raised, or a ValueError that says what was wrong.
    """

    def __init__(self, component: str, error: BaseException) -> None:
        super().__init__(component, error)
        self.component = component
        self.error = error


class PolicyGone(PolicyFault):
    """What the answer needs was there in an earlier life only."""


@attrs.frozen
class Again:
    """What follows a failed attempt."""

    retry: bool
    delay_ns: int = 0
    reason: str = ""
    #: What kind of failure it was, or "".
    kind: str = ""
    #: What the next attempts are to be like; None: as the last.
    spec: Spec | None = None
    #: The question to a person, who decides instead; "": nobody is asked.
    ask: str = ""
    #: The driver's own: what goes with the spec.
    cargo: Any = None


class Deciders(Protocol):
    """Protocol: the policies, as the kernel asks them. All raise PolicyFault."""

    #: Nanoseconds that one level of priority is worth, if that is the whole rule.
    aging_ns: int | None
    #: Whether admission needs no asking.
    admits_all: bool
    #: Nanoseconds that a task may wait before it expires, where admission is not
    #: asked.
    max_age_ns: int | None
    #: The transitions that the StateMachine wants to be asked about; None is all.
    watches: frozenset[tuple[TaskState | None, TaskState]] | None
    #: Whether the allocator `GrantsWhole`, the queue `RanksOwners` or `Backfills`, and
    #: any of them `Learns`: see these protocols.
    rigid: bool
    ranks: bool
    backfills: bool
    learns: bool

    def match(
        self, row: TaskRow, agents: Sequence[AgentRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """Names of the agents that match, why, and whether that can be kept."""
        ...

    def route(
        self, row: TaskRow, candidates: Candidates, now: int
    ) -> tuple[AgentRow, str, bool]:
        """The agent, why, and whether that can be kept."""
        ...

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        """The key of the task in the queue."""
        ...

    def standing(self, share: Share, now: int) -> float:
        """Standing of an owner; the lowest is served first. Asked if it `ranks`."""
        ...

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        """Why the task may not join the queue (or None), and its largest age in ns."""
        ...

    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        """Why the transition is forbidden, or None."""
        ...

    def join(self, row: TaskRow, states: dict[str, TaskState], now: int) -> bool:
        """Whether the task may go on, by the states of its parents."""
        ...

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """What follows a failure that is not charged yet."""
        ...

    def changed(self, row: TaskRow, answer: Again) -> None:
        """The task has the spec of *answer* from now on."""
        ...

    def allocate(
        self,
        row: TaskRow,
        agent: AgentRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        """
        What is granted (None: nothing now), why, and whether that can be kept.

        Args:
            row: The task.
            agent: The agent that is to run it, or does.
            request: What it asks for of the pools.
            now: The time in ns.
            least: Of an elastic request, what it cannot do without.
            held: Of one that runs, what it holds of the pools.
        """
        ...

    def choice(self, row: TaskRow) -> tuple[str, float] | None:
        """The arm that was chosen for the attempt that begins; asked if it `learns`."""
        ...

    def expected(self, row: TaskRow) -> int | None:
        """How long an attempt takes, in ns, as its user said; None: nothing was."""
        ...

    def least(self, request: Units, elastic: Elasticity) -> Units:
        """What an elastic *request* cannot do without; what is not named, all of it."""
        ...
