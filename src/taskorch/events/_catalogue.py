"""
The catalogue: one frozen class for every fact.

A fact travels as a tuple `(class, *fields)` and becomes an instance only when
somebody reads it: `make(fact)`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeAlias

import attrs

from taskorch.model import Agent, Health, Stats, TypeStats, Units

#: `(event class, sequence number, time in ns, …)`: the fields of the class in order.
Fact: TypeAlias = tuple[Any, ...]


@attrs.frozen
class Event:
    """A fact: something that has happened."""

    #: Rises with every fact of one orchestrator. `TaskValidated`, `TaskRouted` and
    #: `TaskTimedOut` share the number of the fact that they are a view of.
    seq: int
    #: Nanoseconds since the epoch, on a clock that never goes back.
    at_ns: int

    #: The number of the schema; it rises when fields change.
    schema: ClassVar[int] = 1

    @property
    def at(self) -> float:
        """Seconds since the epoch."""
        return self.at_ns / 1e9

    @property
    def timestamp(self) -> datetime:
        """The time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC)


@attrs.frozen
class TaskEvent(Event):
    """A fact about one task."""

    task_id: str


# -- the life of a task ------------------------------------------------------------


@attrs.frozen
class TaskSubmitted(TaskEvent):
    """A task was accepted."""

    type: str
    priority: int
    #: Ids of what it waits for.
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    #: The id of the task that this one runs again.
    rerun_of: str | None = None
    #: The most that one attempt may take, in ns.
    timeout_ns: int | None = None
    #: False: after an attempt whose end nobody knows, a person decides.
    idempotent: bool = True
    #: Its place in the queue: lower starts first.
    key: Any = None
    #: Not to start before this time, in ns since the epoch.
    not_before_ns: int | None = None
    #: To have ended by this time, in ns since the epoch.
    deadline_ns: int | None = None
    #: To have begun by this time, in ns since the epoch.
    expires_ns: int | None = None
    #: Whether its id or its idempotency key is of the user's choice.
    named: bool = False
    #: When its parents let it go: `all`, `finished`, `any`, `asked` (a function of the
    #: user's says it), or how many must complete.
    join: str | int = "all"
    #: What follows if that cannot be any more: `block`, `skip`, `fail` or `run`.
    on_parent_failure: str = "block"
    #: It is a wait: for what event, for how many ns, and whether there is a default.
    wait: tuple[str | None, int | None, bool] | None = None


@attrs.frozen
class TaskValidated(TaskEvent):
    """The validator found nothing wrong; a view of `TaskSubmitted`."""

    type: str


@attrs.frozen
class TaskRouted(TaskEvent):
    """An agent was chosen; a view of `TaskStarted`."""

    attempt: int
    agent_id: str
    reason: str


@attrs.frozen
class TaskStarted(TaskEvent):
    """An attempt began."""

    #: Counted from 1.
    attempt: int
    agent_id: str
    #: What it holds of the pools, in millionths.
    allocation: Units = ()
    #: Why this agent.
    reason: str = ""


def _no_result() -> object:
    return None


@attrs.frozen
class TaskCompleted(TaskEvent):
    """The task ended well."""

    attempt: int
    agent_id: str
    #: From the start of the attempt to its end.
    latency_ns: int
    #: What ended it, if no attempt did: `event`, `timeout` (of a wait) or `decision`.
    cause: str = ""
    #: And why.
    reason: str = ""
    _load: Callable[[], object] = attrs.field(
        default=_no_result, alias="load", eq=False, repr=False, kw_only=True
    )

    @property
    def latency(self) -> float:
        """Seconds from the start of the attempt to its end."""
        return self.latency_ns / 1e9

    @property
    def latency_ms(self) -> float:
        """The latency in milliseconds, as the core report has it."""
        return self.latency_ns / 1e6

    @property
    def result(self) -> object:
        """What the task returned, fetched when asked for."""
        return self._load()

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has the result itself, and nowhere to fetch it from.
        values = attrs.astuple(self, recurse=False, filter=_is_no_load)
        return _completed, (self.result, *values)


def _is_no_load(field: attrs.Attribute[object], _: object) -> bool:
    return field.name != "_load"


def _completed(result: object, *values: Any) -> TaskCompleted:
    return TaskCompleted(*values, load=lambda: result)


@attrs.frozen
class TaskFailed(TaskEvent):
    """The task ended badly, for good."""

    #: The last attempt, or 0 if none began.
    attempt: int
    agent_id: str | None
    error_type: str
    message: str
    #: `error`, `timeout`, `deadline`, `expired`, `poisoned`, `component`, `decision`
    #: or `dependency`.
    cause: str
    #: Why it was not tried again.
    reason: str = ""
    #: Whether the last attempt counts against the retry policy.
    charged: bool = False
    #: Ids of the tasks where the failure began, if that was with what it needs.
    root_causes: tuple[str, ...] = ()


@attrs.frozen
class TaskRetrying(TaskEvent):
    """An attempt failed, and there will be another."""

    attempt: int
    agent_id: str
    error_type: str
    message: str
    #: `error` or `timeout`; `lost` (its worker died), `missing` (its agent does not
    #: know of it), `interrupted` (the orchestrator stopped) or `stopped`.
    cause: str
    #: Until the next attempt may start.
    delay_ns: int
    #: False if the attempt was lost through no fault of the task's.
    charged: bool
    reason: str = ""

    @property
    def delay(self) -> float:
        """Seconds until the next attempt may start."""
        return self.delay_ns / 1e9


@attrs.frozen
class TaskBlocked(TaskEvent):
    """The task cannot go on by itself."""

    #: Ids of failed dependencies; empty where a person must decide.
    blocked_by: tuple[str, ...]
    #: Ids of the tasks where the failure began.
    root_causes: tuple[str, ...]
    reason: str
    #: `dependency`; or what became of the attempt that a person must judge: `lost`,
    #: `missing` or `interrupted`; or `join`: a person must say whether it may go on; or
    #: `event`: it waits for one from outside.
    cause: str = "dependency"
    error_type: str = ""
    message: str = ""


@attrs.frozen
class TaskReleased(TaskEvent):
    """The join of a task with terms of its own holds: it waits for no other task."""

    reason: str


@attrs.frozen
class TaskUnblocked(TaskEvent):
    """What blocked the task is gone: it waits as before."""

    reason: str


@attrs.frozen
class TaskSuspended(TaskEvent):
    """The task was put aside."""

    #: True for a stopped program: its attempt goes on later, and keeps what it holds.
    held: bool


@attrs.frozen
class TaskResumed(TaskEvent):
    """A suspended task goes on."""

    #: True for a program that was continued in the same attempt.
    held: bool
    reason: str = ""


@attrs.frozen
class TaskDue(TaskEvent):
    """A delay of the task is over: `not_before`, or before a retry, or of a wait."""


@attrs.frozen
class TaskCancelled(TaskEvent):
    """The task was called off, and its work has ended or been given up."""

    reason: str
    #: Ids of the tasks where the failure began for which it was skipped.
    root_causes: tuple[str, ...] = ()


@attrs.frozen
class TaskReprioritised(TaskEvent):
    """The priority was changed."""

    priority: int
    #: Its new place in the queue: lower starts first.
    key: Any = None


@attrs.frozen
class TaskOptionsChanged(TaskEvent):
    """The task was submitted again with other options: these hold from now on."""

    #: The names of those that are others.
    changed: tuple[str, ...]
    priority: int
    #: Its place in the queue: lower starts first.
    key: Any = None
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    timeout_ns: int | None = None
    idempotent: bool = True
    #: If it waits for a date, and that has changed: when it is over, in ns since the
    #: epoch.
    due_ns: int | None = None
    #: To have ended by this time, in ns since the epoch.
    deadline_ns: int | None = None


@attrs.frozen
class TaskRepointed(TaskEvent):
    """Dependents of the task now wait for its re-run."""

    rerun_id: str
    dependents: tuple[str, ...]


@attrs.frozen
class TaskParentsAdded(TaskEvent):
    """The task waits for more tasks than it was submitted with."""

    #: Ids of those that were added.
    after: tuple[str, ...]


@attrs.frozen
class TaskRejected(TaskEvent):
    """The validator refused a task; nothing was accepted."""

    type: str
    findings: tuple[tuple[str, str], ...]


# -- attempts ----------------------------------------------------------------------


@attrs.frozen
class AttemptStopping(TaskEvent):
    """A running attempt was asked to stop."""

    attempt: int
    #: `cancel`, `suspend`, `timeout` or `deadline`.
    why: str
    reason: str = ""


@attrs.frozen
class TaskTimedOut(TaskEvent):
    """An attempt ran out of time; a view of `AttemptStopping`."""

    attempt: int
    why: str


@attrs.frozen
class AttemptWaiting(TaskEvent):
    """An attempt waits for another task, and gave its slot back meanwhile."""

    attempt: int


@attrs.frozen
class AttemptReturned(TaskEvent):
    """An attempt that waited has its slot again."""

    attempt: int


@attrs.frozen
class LateResultIgnored(TaskEvent):
    """An attempt that is not the current one ended: nothing comes of it."""

    attempt: int
    outcome: str


@attrs.frozen
class SlotLeaked(TaskEvent):
    """Work would not stop in its grace: its slot and resources stay taken."""

    attempt: int
    agent_id: str


@attrs.frozen
class SlotRecovered(TaskEvent):
    """Work that would not stop has ended after all: its slot is free again."""

    attempt: int
    agent_id: str


@attrs.frozen
class TaskProgressed(TaskEvent):
    """A task reported how far it is."""

    attempt: int
    value: Any


@attrs.frozen
class TaskCheckpointed(TaskEvent):
    """A running task left a state for its next attempt."""

    attempt: int


# -- from outside ------------------------------------------------------------------


@attrs.frozen
class EventEmitted(Event):
    """Something has happened outside, for which tasks may wait."""

    name: str
    #: How many tasks it let go.
    let_go: int
    #: Until when it is kept for tasks that come to wait for it, in ns since the epoch;
    #: 0: it is not.
    until_ns: int = 0


# -- agents, parts and receivers ---------------------------------------------------


@attrs.frozen
class AgentJoined(Event):
    """An agent was added."""

    agent: Agent


@attrs.frozen
class AgentLost(Event):
    """Nothing is heard of an agent: its attempts are lost, and it gets no others."""

    agent_id: str
    reason: str


@attrs.frozen
class AgentReturned(Event):
    """An agent that was lost is heard of again."""

    agent_id: str


@attrs.frozen
class ComponentFailed(Event):
    """A part of the user's raised, or returned what its protocol does not allow."""

    component: str
    error_type: str
    message: str
    task_id: str | None


@attrs.frozen
class PolicySlow(Event):
    """A policy took long, while everybody waited for the lock."""

    component: str
    seconds: float


@attrs.frozen
class ReceiverFailed(Event):
    """A receiver of a signal, or a done-callback, raised."""

    signal: str
    receiver: str
    error_type: str
    message: str


@attrs.frozen
class EventsLost(Event):
    """A receiver was so slow that events were dropped before it."""

    signal: str
    receiver: str
    lost: int


# -- the orchestrator --------------------------------------------------------------


@attrs.frozen
class OrchestratorStarted(Event):
    """It takes up work."""

    #: The number of this life; with the number of an attempt, its fence.
    epoch: int = 1


@attrs.frozen
class OrchestratorStopped(Event):
    """It has stopped."""


@attrs.frozen
class JournalDegraded(Event):
    """The journal cannot be written: nothing new starts until it can."""

    reason: str


@attrs.frozen
class JournalRestored(Event):
    """The journal can be written again; nothing was lost."""


@attrs.frozen
class StatsReported(Event):
    """Monitoring: the statistics, at an interval while somebody listens."""

    stats: Stats


@attrs.frozen
class HealthReported(Event):
    """Monitoring: the health, at an interval while somebody listens."""

    health: Health


@attrs.frozen
class PerformanceReported(Event):
    """Monitoring: times by type, at an interval while somebody listens."""

    types: dict[str, TypeStats]


CATALOGUE: Final[tuple[type[Event], ...]] = (
    TaskSubmitted,
    TaskValidated,
    TaskRouted,
    TaskStarted,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskReleased,
    TaskBlocked,
    TaskUnblocked,
    TaskSuspended,
    TaskResumed,
    TaskDue,
    TaskCancelled,
    TaskReprioritised,
    TaskOptionsChanged,
    TaskRepointed,
    TaskParentsAdded,
    TaskRejected,
    AttemptStopping,
    TaskTimedOut,
    AttemptWaiting,
    AttemptReturned,
    LateResultIgnored,
    SlotLeaked,
    SlotRecovered,
    TaskProgressed,
    TaskCheckpointed,
    EventEmitted,
    AgentJoined,
    AgentLost,
    AgentReturned,
    ComponentFailed,
    PolicySlow,
    ReceiverFailed,
    EventsLost,
    OrchestratorStarted,
    OrchestratorStopped,
    JournalDegraded,
    JournalRestored,
    StatsReported,
    HealthReported,
    PerformanceReported,
)


def signal_name(cls: type[Event]) -> str:
    """The name of the signal of *cls*: its own in snake case."""
    name = cls.__name__
    return "".join(
        ("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name)
    )


#: Event classes by the names of their signals.
SIGNALS: Final[dict[str, type[Event]]] = {signal_name(c): c for c in CATALOGUE}


def make(fact: Fact) -> Event:
    """The event of *fact*."""
    event: Event = fact[0](*fact[1:])
    return event


def view_of(cls: type[Event], fact: Fact) -> Event | None:
    """
    The event of class *cls* that *fact* contains, or None.

    A fact contains itself; some contain another event too: see `VIEWS`.
    """
    if fact[0] is cls:
        return make(fact)
    if cls is TaskValidated:
        return TaskValidated(fact[1], fact[2], fact[3], fact[4])
    if cls is TaskRouted:
        return TaskRouted(fact[1], fact[2], fact[3], fact[4], fact[5], fact[7])
    if cls is TaskTimedOut and fact[5] in ("timeout", "deadline"):
        return TaskTimedOut(fact[1], fact[2], fact[3], fact[4], fact[5])
    return None


#: Which events each fact contains, in the order in which they are sent.
VIEWS: Final[dict[type[Event], tuple[type[Event], ...]]] = {
    **{cls: (cls,) for cls in CATALOGUE},
    TaskSubmitted: (TaskSubmitted, TaskValidated),
    TaskStarted: (TaskRouted, TaskStarted),
    AttemptStopping: (AttemptStopping, TaskTimedOut),
}
