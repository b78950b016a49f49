"""
The seven policies, listed here and nowhere else.

All that is said of all seven derives from this: the settings and their signatures, what
is refused, who is asked what, the names in errors, and the page about them. What their
methods are, and what they answer, is read from their protocols.

A kind that is a `StartRule` is asked before each start, in its own words.

Decisions: 0152, 0299.
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
    """Let every task start: the default of each kind that is a `StartRule`."""

    def need(self, kind: Kind) -> float:
        """See `StartRule.need`."""
        return 0

    def short(self, need: float, held: float) -> Short | None:
        """See `StartRule.short`."""
        return None


@attrs.frozen(kw_only=True, eq=False)
class Policies:
    """
    The policies of an orchestrator.

    Of each, the name is that of the argument and the word in errors; the type is its
    protocol; and the default is what decides if nothing is said.
    """

    registry: AgentRegistry = attrs.field(factory=CapabilityRegistry)
    router: TaskRouter = attrs.field(factory=PerformanceRouter)
    validator: Validator = attrs.field(factory=StructuralValidator)
    state_machine: StateMachine = attrs.field(factory=StandardStateMachine)
    queue: TaskQueue = attrs.field(factory=PriorityQueue)
    retry_handler: RetryHandler = attrs.field(factory=BackoffRetryHandler)
    allocator: ResourceAllocator = attrs.field(factory=ProportionalAllocator)

    def having(self, optional: type) -> list[Any]:
        """Those that have what *optional* asks for, in the order of `MAY_HAVE`."""
        parts = {kind: getattr(self, name) for name, kind in POLICIES.items()}
        return [
            parts[kind] for kind in MAY_HAVE[optional] if has(parts[kind], optional)
        ]

    def start_rules(self) -> dict[str, StartRule]:
        """Those that are asked before each start, by name, but for the default."""
        return {
            name: part
            for name in START_RULES
            if type(part := getattr(self, name)) is not AnyStart
        }


class PolicySettings(TypedDict, total=False):
    """The same as arguments, for checkers."""

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
#: The names of those that are asked before each start, and say themselves why not.
START_RULES: Final = tuple(
    name for name, protocol in POLICIES.items() if "short" in methods_of(protocol)
)


def check_policies(parts: Policies) -> None:
    """
    Refuse policies that cannot be asked as their protocols say.

    Raises:
        InvalidTaskError: One cannot, or two of its answers contradict each other; it is
            named, and so is what is wrong with it.
    """
    for name, protocol in POLICIES.items():
        check_policy(name, getattr(parts, name), protocol)
    queue = parts.queue
    if has(queue, Backfills) and queue.backfill and has(queue, RanksOwners):
        msg = f"queue={show(queue)}: where owners share, there is no backfill"
        hint = "it keeps room for the first task of one order: choose one of the two"
        raise InvalidTaskError(msg, hint=hint)
