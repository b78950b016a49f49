"""
Events, each an object of a class of its own.

1. Named in the past tense, subject first; the signal has the same name in snake case.
2. Fields are plain values: ids, numbers, words; never a payload or a result.
3. A class changes by adding fields with defaults behind the others, and then its
   `schema` rises.
4. An object is a tuple that begins with its class, and cannot be changed.

`signals` brings them to listeners, `journal` keeps them, and `kernel` applies them to
the state.

- `_fact`: makes the class of an event.
- `_catalogue`: the classes, one for every event; and views, which have a part of an
  event.
- `ends`: the events that end an attempt, and the state of its task then.
"""

from taskorch.events._catalogue import AT_NS as AT_NS
from taskorch.events._catalogue import CATALOGUE as CATALOGUE
from taskorch.events._catalogue import CAUSED as CAUSED
from taskorch.events._catalogue import CLS as CLS
from taskorch.events._catalogue import KEPT as KEPT
from taskorch.events._catalogue import SEQ as SEQ
from taskorch.events._catalogue import SIGNALS as SIGNALS
from taskorch.events._catalogue import TASK_ID as TASK_ID
from taskorch.events._catalogue import VIEWS as VIEWS
from taskorch.events._catalogue import AgentDraining as AgentDraining
from taskorch.events._catalogue import AgentJoined as AgentJoined
from taskorch.events._catalogue import AgentLost as AgentLost
from taskorch.events._catalogue import AgentProbed as AgentProbed
from taskorch.events._catalogue import AgentRestored as AgentRestored
from taskorch.events._catalogue import AgentReturned as AgentReturned
from taskorch.events._catalogue import AgentTripped as AgentTripped
from taskorch.events._catalogue import AlertCleared as AlertCleared
from taskorch.events._catalogue import AlertRaised as AlertRaised
from taskorch.events._catalogue import AllocationChanged as AllocationChanged
from taskorch.events._catalogue import AnswerRefused as AnswerRefused
from taskorch.events._catalogue import AttemptReturned as AttemptReturned
from taskorch.events._catalogue import AttemptStopping as AttemptStopping
from taskorch.events._catalogue import AttemptWaiting as AttemptWaiting
from taskorch.events._catalogue import BudgetChanged as BudgetChanged
from taskorch.events._catalogue import BudgetExhausted as BudgetExhausted
from taskorch.events._catalogue import BudgetLow as BudgetLow
from taskorch.events._catalogue import BudgetSpent as BudgetSpent
from taskorch.events._catalogue import ComponentFailed as ComponentFailed
from taskorch.events._catalogue import Event as Event
from taskorch.events._catalogue import EventEmitted as EventEmitted
from taskorch.events._catalogue import EventsLost as EventsLost
from taskorch.events._catalogue import ExtensionKept as ExtensionKept
from taskorch.events._catalogue import Fact as Fact
from taskorch.events._catalogue import HealthReported as HealthReported
from taskorch.events._catalogue import JournalDegraded as JournalDegraded
from taskorch.events._catalogue import JournalRestored as JournalRestored
from taskorch.events._catalogue import LateResultIgnored as LateResultIgnored
from taskorch.events._catalogue import OrchestratorStarted as OrchestratorStarted
from taskorch.events._catalogue import OrchestratorStopped as OrchestratorStopped
from taskorch.events._catalogue import PerformanceReported as PerformanceReported
from taskorch.events._catalogue import PolicySlow as PolicySlow
from taskorch.events._catalogue import PolicyViolated as PolicyViolated
from taskorch.events._catalogue import PoolRelieved as PoolRelieved
from taskorch.events._catalogue import PoolSaturated as PoolSaturated
from taskorch.events._catalogue import PoolsChanged as PoolsChanged
from taskorch.events._catalogue import QuestionAnswered as QuestionAnswered
from taskorch.events._catalogue import QuestionAsked as QuestionAsked
from taskorch.events._catalogue import QuestionReminded as QuestionReminded
from taskorch.events._catalogue import QuotaExceeded as QuotaExceeded
from taskorch.events._catalogue import QuotaRelieved as QuotaRelieved
from taskorch.events._catalogue import QuotasChanged as QuotasChanged
from taskorch.events._catalogue import ReceiverFailed as ReceiverFailed
from taskorch.events._catalogue import RecoveryAttempted as RecoveryAttempted
from taskorch.events._catalogue import ResourcesAllocated as ResourcesAllocated
from taskorch.events._catalogue import ResourcesReleased as ResourcesReleased
from taskorch.events._catalogue import ResultRemembered as ResultRemembered
from taskorch.events._catalogue import ResultReused as ResultReused
from taskorch.events._catalogue import ResultsForgotten as ResultsForgotten
from taskorch.events._catalogue import ResultsUsed as ResultsUsed
from taskorch.events._catalogue import ScheduleChanged as ScheduleChanged
from taskorch.events._catalogue import ScheduleFired as ScheduleFired
from taskorch.events._catalogue import ScheduleQueued as ScheduleQueued
from taskorch.events._catalogue import ScheduleSkipped as ScheduleSkipped
from taskorch.events._catalogue import SlotLeaked as SlotLeaked
from taskorch.events._catalogue import SlotRecovered as SlotRecovered
from taskorch.events._catalogue import StartsHeld as StartsHeld
from taskorch.events._catalogue import StartsReleased as StartsReleased
from taskorch.events._catalogue import StatsReported as StatsReported
from taskorch.events._catalogue import TaskBlocked as TaskBlocked
from taskorch.events._catalogue import TaskCancelled as TaskCancelled
from taskorch.events._catalogue import TaskCheckpointed as TaskCheckpointed
from taskorch.events._catalogue import TaskCompleted as TaskCompleted
from taskorch.events._catalogue import TaskDue as TaskDue
from taskorch.events._catalogue import TaskEvent as TaskEvent
from taskorch.events._catalogue import TaskFailed as TaskFailed
from taskorch.events._catalogue import TaskNoted as TaskNoted
from taskorch.events._catalogue import TaskOptionsChanged as TaskOptionsChanged
from taskorch.events._catalogue import TaskParentsAdded as TaskParentsAdded
from taskorch.events._catalogue import TaskProgressed as TaskProgressed
from taskorch.events._catalogue import TaskReady as TaskReady
from taskorch.events._catalogue import TaskRecalled as TaskRecalled
from taskorch.events._catalogue import TaskRejected as TaskRejected
from taskorch.events._catalogue import TaskReleased as TaskReleased
from taskorch.events._catalogue import TaskRenewed as TaskRenewed
from taskorch.events._catalogue import TaskRepointed as TaskRepointed
from taskorch.events._catalogue import TaskReprioritised as TaskReprioritised
from taskorch.events._catalogue import TaskResumed as TaskResumed
from taskorch.events._catalogue import TaskRetrying as TaskRetrying
from taskorch.events._catalogue import TaskRewarded as TaskRewarded
from taskorch.events._catalogue import TaskRouted as TaskRouted
from taskorch.events._catalogue import TaskStarted as TaskStarted
from taskorch.events._catalogue import TaskSubmitted as TaskSubmitted
from taskorch.events._catalogue import TaskSuspended as TaskSuspended
from taskorch.events._catalogue import TaskTimedOut as TaskTimedOut
from taskorch.events._catalogue import TaskUnblocked as TaskUnblocked
from taskorch.events._catalogue import TaskValidated as TaskValidated
from taskorch.events._catalogue import details_of as details_of
from taskorch.events._catalogue import fields_of as fields_of
from taskorch.events._catalogue import make as make
from taskorch.events._catalogue import signal_name as signal_name
from taskorch.events._catalogue import view_of as view_of
from taskorch.events._fact import defaults_of as defaults_of
