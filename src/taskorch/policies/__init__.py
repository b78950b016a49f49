"""
The policies that come with the library: a default for each protocol, and a second one.

1. They know the protocols and the model, and nothing of the kernel: your own class can
   do all that they can.
2. They keep no important state: each answer follows from the question and its context.
   Some keep state that may be lost at any time: SourceRegistry its last reading,
   QuotaRetryHandler its tokens, Measured the usage of tasks, ForeseeingAllocator and
   AgentPool the past load.
3. Time is `context.now` and chance is `context.random`; they ask for no other.
4. Every answer has a reason, one short phrase with the numbers.
5. tenacity is imported when one of its strategies is used, jsonschema when a schema is.

- `_kinds`: the seven, listed once, with their defaults.
- `_validator`: faults of a task.
- `_state_machine`: the table of states, and a view of it with four.
- `_queue`: the order of tasks.
- `_registry`: the workers that match a task; also from external records.
- `_router`: the choice among them.
- `_allocator`, `_shares`: grants: all or nothing, or a share; the division.
- `_measured`: grants by the measured usage of a type.
- `_foreseeing`: grants that leave room for an expected load.
- `_rhythm`: load that recurs by the time of day.
- `_retry`: whether and when to try again.
- `_agent_pool`: the number of workers of a type.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late
from taskorch.policies._allocator import (
    PoolAllocator as PoolAllocator,
    ProportionalAllocator as ProportionalAllocator,
)
from taskorch.policies._queue import (
    DeadlineQueue as DeadlineQueue,
    FairShareQueue as FairShareQueue,
    FifoQueue as FifoQueue,
    PriorityQueue as PriorityQueue,
    ScoreQueue as ScoreQueue,
)
from taskorch.policies._registry import (
    CapabilityRegistry as CapabilityRegistry,
    SourceRegistry as SourceRegistry,
)
from taskorch.policies._retry import (
    BackoffRetryHandler as BackoffRetryHandler,
    QuotaRetryHandler as QuotaRetryHandler,
    TenacityRetryHandler as TenacityRetryHandler,
)
from taskorch.policies._router import (
    LeastLoadedRouter as LeastLoadedRouter,
    PerformanceRouter as PerformanceRouter,
)
from taskorch.policies._state_machine import (
    FourStateMachine as FourStateMachine,
    StandardStateMachine as StandardStateMachine,
)
from taskorch.policies._validator import (
    StructuralValidator as StructuralValidator,
    ValidatorChain as ValidatorChain,
)

if TYPE_CHECKING:
    from taskorch.ext.json_schema import (
        JsonSchemaValidator as JsonSchemaValidator,
    )
    from taskorch.policies._agent_pool import (
        AgentPool as AgentPool,
        PoolSample as PoolSample,
    )
    from taskorch.policies._foreseeing import ForeseeingAllocator as ForeseeingAllocator
    from taskorch.policies._measured import Measured as Measured

#: The names that are loaded on first use, each with its module.
_LATE = {
    "AgentPool": "_agent_pool",
    "ForeseeingAllocator": "_foreseeing",
    "JsonSchemaValidator": "taskorch.ext.json_schema",
    "Measured": "_measured",
    "PoolSample": "_agent_pool",
}

if not TYPE_CHECKING:
    # Type checkers know the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
