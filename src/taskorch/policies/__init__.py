"""
The policies that come with the library: a default for each protocol, and a second one.

1. They know the protocols and the model, and nothing of the kernel: whatever they can
   do, a class of yours can do.
2. They keep no state that matters: each answer follows from the question and its
   context. Some remember what may be lost at any time: SourceRegistry what it read
   last, QuotaRetryHandler its tokens, Measured what tasks used, what foresees when a
   load came.
3. Time is `context.now` and chance is `context.random`; they ask for no other.
4. Every answer says why, in one short phrase with the numbers in it.
5. tenacity is imported when a strategy of its is met, jsonschema when a schema is,
   and neither before.

- `_kinds`: the seven, listed once, with their defaults.
- `_validator`, `_json_schema`: what is wrong with a task; with a payload.
- `_state_machine`: the table of states, as it is, and seen as four.
- `_queue`: in which order tasks run.
- `_registry`: which workers can do a task; from records outside, too.
- `_router`: which of them does it.
- `_allocator`, `_shares`: who gets what: all or nothing, or a share; its sums.
- `_measured`: who gets how much: what tasks of a type have used.
- `_foreseeing`: the same, with room for a load that is expected.
- `_rhythm`: which load recurs by the time of day.
- `_retry`: whether and when to try again.
- `_agent_pool`: how many workers of a type there are.
- `_words`: how numbers stand in a reason.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late
from taskorch.policies._allocator import PoolAllocator as PoolAllocator
from taskorch.policies._allocator import ProportionalAllocator as ProportionalAllocator
from taskorch.policies._queue import DeadlineQueue as DeadlineQueue
from taskorch.policies._queue import FairShareQueue as FairShareQueue
from taskorch.policies._queue import FifoQueue as FifoQueue
from taskorch.policies._queue import PriorityQueue as PriorityQueue
from taskorch.policies._queue import ScoreQueue as ScoreQueue
from taskorch.policies._registry import CapabilityRegistry as CapabilityRegistry
from taskorch.policies._registry import SourceRegistry as SourceRegistry
from taskorch.policies._retry import BackoffRetryHandler as BackoffRetryHandler
from taskorch.policies._retry import QuotaRetryHandler as QuotaRetryHandler
from taskorch.policies._retry import TenacityRetryHandler as TenacityRetryHandler
from taskorch.policies._router import LeastLoadedRouter as LeastLoadedRouter
from taskorch.policies._router import PerformanceRouter as PerformanceRouter
from taskorch.policies._state_machine import FourStateMachine as FourStateMachine
from taskorch.policies._state_machine import (
    StandardStateMachine as StandardStateMachine,
)
from taskorch.policies._validator import StructuralValidator as StructuralValidator
from taskorch.policies._validator import ValidatorChain as ValidatorChain

if TYPE_CHECKING:
    from taskorch.policies._agent_pool import AgentPool as AgentPool
    from taskorch.policies._agent_pool import PoolSample as PoolSample
    from taskorch.policies._foreseeing import ForeseeingAllocator as ForeseeingAllocator
    from taskorch.policies._json_schema import (
        JsonSchemaValidator as JsonSchemaValidator,
    )
    from taskorch.policies._measured import Measured as Measured

#: What is loaded when it is first asked for, and the module that has it.
_LATE = {
    "AgentPool": "_agent_pool",
    "ForeseeingAllocator": "_foreseeing",
    "JsonSchemaValidator": "_json_schema",
    "Measured": "_measured",
    "PoolSample": "_agent_pool",
}

if not TYPE_CHECKING:
    # Checkers have the names from the imports above, and no others.

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
