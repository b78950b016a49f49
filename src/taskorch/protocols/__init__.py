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

from taskorch.protocols._attempt_executor import Attempt as Attempt
from taskorch.protocols._attempt_executor import AttemptExecutor as AttemptExecutor
from taskorch.protocols._attempt_executor import Executor as Executor
from taskorch.protocols._context import AgentView as AgentView
from taskorch.protocols._context import Contender as Contender
from taskorch.protocols._context import Context as Context
from taskorch.protocols._context import OwnerView as OwnerView
from taskorch.protocols._context import PoolView as PoolView
from taskorch.protocols._context import StateView as StateView
from taskorch.protocols._driver import AddAgent as AddAgent
from taskorch.protocols._driver import Cancel as Cancel
from taskorch.protocols._driver import ChangePools as ChangePools
from taskorch.protocols._driver import Command as Command
from taskorch.protocols._driver import Driver as Driver
from taskorch.protocols._driver import DriverView as DriverView
from taskorch.protocols._driver import RemoveAgent as RemoveAgent
from taskorch.protocols._driver import Resume as Resume
from taskorch.protocols._driver import SetPriority as SetPriority
from taskorch.protocols._driver import Submit as Submit
from taskorch.protocols._driver import Suspend as Suspend
from taskorch.protocols._driver import Tick as Tick
from taskorch.protocols._driver import commands_of as commands_of
from taskorch.protocols._durable_journal import DurableJournal as DurableJournal
from taskorch.protocols._durable_journal import Entry as Entry
from taskorch.protocols._durable_journal import Group as Group
from taskorch.protocols._durable_journal import Journal as Journal
from taskorch.protocols._optional import MAY_HAVE as MAY_HAVE
from taskorch.protocols._optional import AsksOthers as AsksOthers
from taskorch.protocols._optional import Backfills as Backfills
from taskorch.protocols._optional import Classifies as Classifies
from taskorch.protocols._optional import GrantsChunks as GrantsChunks
from taskorch.protocols._optional import GrantsWhole as GrantsWhole
from taskorch.protocols._optional import Hears as Hears
from taskorch.protocols._optional import Learns as Learns
from taskorch.protocols._optional import Named as Named
from taskorch.protocols._optional import RanksOwners as RanksOwners
from taskorch.protocols._optional import Recalls as Recalls
from taskorch.protocols._optional import Recommends as Recommends
from taskorch.protocols._optional import SetsGrace as SetsGrace
from taskorch.protocols._optional import WaitsForBetter as WaitsForBetter
from taskorch.protocols._optional import WatchesTransitions as WatchesTransitions
from taskorch.protocols._policies import Admission as Admission
from taskorch.protocols._policies import AgentRegistry as AgentRegistry
from taskorch.protocols._policies import Allocation as Allocation
from taskorch.protocols._policies import (
    AllocationRequest as AllocationRequest,
)
from taskorch.protocols._policies import Failure as Failure
from taskorch.protocols._policies import Finding as Finding
from taskorch.protocols._policies import Match as Match
from taskorch.protocols._policies import Order as Order
from taskorch.protocols._policies import Permit as Permit
from taskorch.protocols._policies import (
    ResourceAllocator as ResourceAllocator,
)
from taskorch.protocols._policies import RetryDecision as RetryDecision
from taskorch.protocols._policies import RetryHandler as RetryHandler
from taskorch.protocols._policies import Reuse as Reuse
from taskorch.protocols._policies import Route as Route
from taskorch.protocols._policies import StateMachine as StateMachine
from taskorch.protocols._policies import TaskQueue as TaskQueue
from taskorch.protocols._policies import TaskRouter as TaskRouter
from taskorch.protocols._policies import Transition as Transition
from taskorch.protocols._policies import Validator as Validator
from taskorch.protocols._policies import Verdict as Verdict
from taskorch.protocols._told import AlertAction as AlertAction
from taskorch.protocols._told import AlertCondition as AlertCondition
from taskorch.protocols._told import Projection as Projection
from taskorch.protocols._told import Receiver as Receiver
from taskorch.protocols._told import Recovery as Recovery
