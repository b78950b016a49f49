"""
The seven policies, listed here and nowhere else.

All code about the seven derives from this list: the settings and their signatures,
checks, calls, the names in errors, and the reference page. Their methods, and the types
of their answers, are read from the protocols.

A kind that is a `StartRule` is asked before each start, by its own methods.

Decision: options-and-settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.members import has, methods_of
from taskorch.kit.visible import show
from taskorch.policies._allocator import ProportionalAllocator
from taskorch.policies._queue import PriorityQueue
from taskorch.policies._registry import CapabilityRegistry
from taskorch.policies._retry import BackoffRetryHandler
from taskorch.policies._router import PerformanceRouter
from taskorch.policies._state_machine import StandardStateMachine
from taskorch.policies._validator import StructuralValidator
from taskorch.protocols import (
    MAY_HAVE,
    AgentRegistry,
    Backfills,
    RanksOwners,
    ResourceAllocator,
    RetryHandler,
    StateMachine,
    TaskQueue,
    TaskRouter,
    Validator,
)
from taskorch.protocols._optional import check_policy

if TYPE_CHECKING:
    from taskorch.kit.extension import Kind, Short, StartRule


class AnyStart:
    """The default of each kind of `StartRule`: every task may start."""

    def need(self, kind: Kind) -> float:
        """Return 0, as no task is limited: see `StartRule.need`."""
        return 0

    def short(self, need: float, held: float) -> Short | None:
        """Return None, as no task must wait: see `StartRule.short`."""
        return None


@attrs.frozen(kw_only=True, eq=False)
class Policies:
    """
    The policies of an orchestrator.

    Each field has the name of the argument and of the policy in errors, the type of its
    protocol, and the default policy.
    """

    registry: AgentRegistry = attrs.field(factory=CapabilityRegistry)
    router: TaskRouter = attrs.field(factory=PerformanceRouter)
    validator: Validator = attrs.field(factory=StructuralValidator)
    state_machine: StateMachine = attrs.field(factory=StandardStateMachine)
    queue: TaskQueue = attrs.field(factory=PriorityQueue)
    retry_handler: RetryHandler = attrs.field(factory=BackoffRetryHandler)
    allocator: ResourceAllocator = attrs.field(factory=ProportionalAllocator)

    def having(self, optional: type) -> list[Any]:
        """Return the policies with the methods of *optional*, by `MAY_HAVE`."""
        parts = {kind: getattr(self, name) for name, kind in POLICIES.items()}
        return [
            parts[kind] for kind in MAY_HAVE[optional] if has(parts[kind], optional)
        ]

    def start_rules(self) -> dict[str, StartRule]:
        """Return the rules asked before each start, by name, without the default."""
        return {
            name: part
            for name in START_RULES
            if type(part := getattr(self, name)) is not AnyStart
        }


class PolicySettings(TypedDict, total=False):
    """Policies as keyword arguments, for type checkers."""

    registry: AgentRegistry | None
    router: TaskRouter | None
    validator: Validator | None
    state_machine: StateMachine | None
    queue: TaskQueue | None
    retry_handler: RetryHandler | None
    allocator: ResourceAllocator | None


#: The protocol of each policy, by its name.
POLICIES: Final[Mapping[str, type]] = {
    field.name: cast("type", field.type)
    for field in attrs.fields(attrs.resolve_types(Policies))
}
#: The names of the policies that are asked before each start, by their own methods.
START_RULES: Final = tuple(
    name for name, protocol in POLICIES.items() if "short" in methods_of(protocol)
)


def check_policies(parts: Policies) -> None:
    """
    Refuse policies that do not fulfil their protocols.

    Raises:
        InvalidTaskError: One does not, or two of its answers contradict each other; the
            message names it and the fault.
    """
    for name, protocol in POLICIES.items():
        check_policy(name, getattr(parts, name), protocol)
    queue = parts.queue
    if has(queue, Backfills) and queue.backfill and has(queue, RanksOwners):
        msg = f"queue={show(queue)}: where owners share, there is no backfill"
        hint = "it keeps room for the first task of one order: choose one of the two"
        raise InvalidTaskError(msg, hint=hint)
