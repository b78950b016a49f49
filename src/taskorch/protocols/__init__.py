"""
The protocols: seven policies, four services, a controller, and four listeners.

1. The laws of a protocol stand in its docstring, numbered.
2. A policy is asked one question and answers with a value that carries its reason.
3. A policy keeps no important state: that is the orchestrator's.
4. An answer that says `reusable` is not asked for again for like tasks: that is the
   fast path, for your classes as for ours. It counts only from the class that defines
   the method: a class that overrides a method of ours is asked each time, until it sets
   `reusable` (or `watches`, or `rigid`) itself.
5. Optional methods of a policy have protocols of their own: `MAY_HAVE`.

- `_context`: the context of a decision.
- `_policies`: the seven policies, and the reuse of their answers.
- `_driver`: controllers, which act by time.
- `_attempt_executor`: executors of attempts.
- `_durable_journal`: journals, in memory and durable.
- `_told`: code that follows events, or is called after a failure.
- `_optional`: optional methods of policies.
"""

from taskorch.protocols._attempt_executor import (
    Attempt as Attempt,
    AttemptExecutor as AttemptExecutor,
    Executor as Executor,
)
from taskorch.protocols._context import (
    AgentView as AgentView,
    Contender as Contender,
    Context as Context,
    OwnerView as OwnerView,
    PoolView as PoolView,
    StateView as StateView,
)
from taskorch.protocols._driver import (
    AddAgent as AddAgent,
    Cancel as Cancel,
    ChangePools as ChangePools,
    Command as Command,
    Driver as Driver,
    DriverView as DriverView,
    RemoveAgent as RemoveAgent,
    Resume as Resume,
    SetPriority as SetPriority,
    Submit as Submit,
    Suspend as Suspend,
    Tick as Tick,
    commands_of as commands_of,
)
from taskorch.protocols._durable_journal import (
    DurableJournal as DurableJournal,
    Entry as Entry,
    Group as Group,
    Journal as Journal,
)
from taskorch.protocols._optional import (
    MAY_HAVE as MAY_HAVE,
    AsksOthers as AsksOthers,
    Backfills as Backfills,
    Classifies as Classifies,
    GrantsChunks as GrantsChunks,
    GrantsWhole as GrantsWhole,
    Hears as Hears,
    Learns as Learns,
    Named as Named,
    RanksOwners as RanksOwners,
    Recalls as Recalls,
    Recommends as Recommends,
    SetsGrace as SetsGrace,
    WaitsForBetter as WaitsForBetter,
    WatchesTransitions as WatchesTransitions,
)
from taskorch.protocols._policies import (
    Admission as Admission,
    AgentRegistry as AgentRegistry,
    Allocation as Allocation,
    AllocationRequest as AllocationRequest,
    Failure as Failure,
    Finding as Finding,
    Match as Match,
    Order as Order,
    Permit as Permit,
    ResourceAllocator as ResourceAllocator,
    RetryDecision as RetryDecision,
    RetryHandler as RetryHandler,
    Reuse as Reuse,
    Route as Route,
    StateMachine as StateMachine,
    TaskQueue as TaskQueue,
    TaskRouter as TaskRouter,
    Transition as Transition,
    Validator as Validator,
    Verdict as Verdict,
)
from taskorch.protocols._told import (
    AlertAction as AlertAction,
    AlertCondition as AlertCondition,
    Projection as Projection,
    Receiver as Receiver,
    Recovery as Recovery,
)
