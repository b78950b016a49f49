"""
The catalogue: one class for every fact.

A fact is noted as an object of its class, and stays that: listeners get it, journals
keep it, and the fold applies it.

Decision: 0001.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Final, NoReturn, Self, TypeAlias

import attrs

from taskorch.events._fact import FieldsForAttrs, beside, defaults_of, frozen
from taskorch.model import (
    ANSWER_TO,
    Agent,
    Health,
    HeldUnits,
    Stats,
    TypeStats,
    UnitNames,
    Units,
    asked_of,
)

#: Where every fact has its class, its number and its time, and one about a task its id.
CLS: Final = 0
SEQ: Final = 1
AT_NS: Final = 2
TASK_ID: Final = 3


@frozen
class Event(tuple[Any, ...]):  # noqa: SLOT001 - `frozen` gives it some
    """
    An event: something that has happened.

    Attributes:
        seq: Rises with every event of one orchestrator. `TaskValidated`, `TaskRouted`
            and `TaskTimedOut` share the number of the event that they are a view of,
            and `TaskReady` that of the event that let the task go.
        at_ns: Nanoseconds since the epoch, on a clock that never goes back.
    """

    seq: int
    at_ns: int

    #: The number of the schema; it rises when fields change.
    schema: ClassVar[int] = 1

    __attrs_attrs__: ClassVar[FieldsForAttrs] = FieldsForAttrs()

    @property
    def at(self) -> float:
        """Seconds since the epoch."""
        return self.at_ns / 1e9

    @property
    def timestamp(self) -> datetime:
        """The time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={x!r}" for name, x in fields_of(self).items())
        return f"{type(self).__name__}({fields})"

    def __replace__(self, **changes: Any) -> Self:
        """The event with other values of some fields; `copy.replace` calls it."""
        return type(self)(**{**fields_of(self), **changes})

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self[SEQ:]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __delattr__(self, name: str) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError


#: What is noted, and kept in a journal.
Fact: TypeAlias = Event


@frozen
class TaskEvent(Event):
    """
    An event about one task.

    Attributes:
        task_id: The id of the task.
    """

    task_id: str


# -- the life of a task ------------------------------------------------------------


@frozen
class TaskSubmitted(TaskEvent):
    """
    A task was accepted.

    Attributes:
        type: The type of the task.
        priority: The priority of the task.
        after: Ids of what it waits for.
        requires: Capabilities that the worker must have; None: it runs here.
        resources: What it asks for, in millionths.
        rerun_of: The id of the task that this one runs again.
        timeout_ns: The most that one attempt may take, in ns.
        idempotent: False: after an attempt whose end nobody knows, a person decides.
        key: Its place in the queue: lower starts first.
        not_before_ns: Not to start before this time, in ns since the epoch.
        deadline_ns: To have ended by this time, in ns since the epoch.
        expires_ns: To have begun by this time, in ns since the epoch.
        named: Whether its id or its idempotency key is of the user's choice.
        join: When its parents let it go: `all`, `finished`, `any`, `asked` (a function
            of the user's says it), or how many must complete.
        on_parent_failure: What follows if that cannot be any more: `block`, `skip`,
            `fail` or `run`.
        wait: It is a wait: for what event, for how many ns, and whether there is a
            default; of a question with reminders, after how many ns each comes.
        trace: The span in which it was submitted, as a `traceparent` of W3C Trace
            Context: its attempts belong to that trace, in later incarnations too.
        owner: For whom it is done.
        elastic: Of a request that may be granted in part: the least that was named, in
            millionths; the weight, in millionths; and the fallback.
        run: The run of a workflow that it is of, where its id does not say it; "" is
            none. None: what stands before the first slash of its id, if it has one.
        writes: What it may write: the folders and files before the first wildcard of
            each path; "" is everything.
        budget: The budget that it draws on; "" is none.
        spends: How much of it each attempt reserves, in millionths.
        caller: Who asked for it; "": nobody whose name was proved.
        allow_failure: Whether its failure is allowed: see `TaskFailed.allowed`.
    """

    type: str
    priority: int
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    rerun_of: str | None = None
    timeout_ns: int | None = None
    idempotent: bool = True
    key: Any = None
    not_before_ns: int | None = None
    deadline_ns: int | None = None
    expires_ns: int | None = None
    named: bool = False
    join: str | int = "all"
    on_parent_failure: str = "block"
    wait: tuple[Any, ...] | None = None
    trace: str | None = None
    owner: str | None = None
    elastic: tuple[Units, int, str] | None = None
    run: str | None = None
    writes: tuple[str, ...] = ()
    budget: str = ""
    spends: Units = ()
    caller: str = ""
    allow_failure: bool = False


@frozen
class TaskValidated(TaskEvent):
    """
    The validator found nothing wrong; a view of `TaskSubmitted`.

    Attributes:
        type: The type of the task.
    """

    type: str


@frozen
class TaskReady(TaskEvent):
    """
    The task is queued.

    Said while somebody listens, each time: of a task that is queued as it comes, after
    its last parent, a delay, a retry or a suspension. No journal has it.
    """


@frozen
class TaskRouted(TaskEvent):
    """
    A worker was chosen; a view of `TaskStarted`.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The worker.
        reason: Why.
    """

    attempt: int
    agent_id: str
    reason: str


@frozen
class TaskStarted(TaskEvent):
    """
    An attempt began.

    Attributes:
        attempt: Counted from 1.
        agent_id: The worker.
        allocation: What it holds of the pools, in millionths.
        reason: Why this worker; and why it holds less than it asks for, if that is no
            elastic request.
        choice: What a policy that learns has chosen for it: the name of the arm, and
            how probable it was that this one would be chosen; None: nobody learns.
        permit: By what it was allowed, where rules were asked: the hash of the set of
            policies, then each rule, as `policy/rule`; with `@` and the number of the
            event that satisfied it, or with `~` and the waiver, or `people`.
        units: Of each unit with a name, such as a GPU, of which it holds something: the
            resource, its name, how much in millionths, and whether it is the worker's
            own.
    """

    attempt: int
    agent_id: str
    allocation: Units = ()
    reason: str = ""
    choice: tuple[str, float] | None = None
    permit: tuple[str, ...] = ()
    units: HeldUnits = ()


@frozen
class TaskCompleted(TaskEvent):
    """
    The task completed.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The worker.
        latency_ns: From the start of the attempt to its end.
        cause: What ended it, if no attempt did: `event`, `timeout` (of a wait) or
            `decision`.
        reason: And why; or why it was not suspended before, though it was to be.
        usage: What the attempt was seen to use, in millionths: `memory_mb` and
            `processes` at their peak, `cpu_seconds` and `written_mb`; nothing where
            nobody measured it.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    attempt: int
    agent_id: str
    latency_ns: int
    cause: str = ""
    reason: str = ""
    usage: Units = ()
    caller: str = ""
    _load: Callable[[], object] | None = beside(
        alias="load", default=None, kw_only=True
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
        return None if self._load is None else self._load()

    def with_result(self, load: Callable[[], object]) -> TaskCompleted:
        """The same event, whose result *load* fetches."""
        fact = tuple.__new__(TaskCompleted, self)
        fact.__dict__["_load"] = load
        return fact

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has the result itself, and nowhere to fetch it from.
        return _completed, (self.result, *self[SEQ:])


def _completed(result: object, *values: Any) -> TaskCompleted:
    return TaskCompleted(*values).with_result(lambda: result)


@frozen
class TaskFailed(TaskEvent):
    """
    The task failed for good.

    Attributes:
        attempt: The last attempt, or 0 if none began.
        agent_id: The worker.
        error_type: The class of the error.
        message: What the error says.
        cause: `error`, `timeout`, `deadline`, `expired`, `poisoned`, `component`,
            `decision` or `dependency`.
        reason: Why it was not tried again.
        charged: Whether the last attempt counts against the retry policy.
        root_causes: Ids of the tasks where the failure began, if that was with what it
            needs.
        usage: As of `TaskCompleted`, of the last attempt.
        failure_class: What kind of failure it was, such as `memory_error`; "" where
            no attempt of its own failed.
        caller: Who asked for it; "": nobody whose name was proved.
        allowed: Whether its failure is allowed: the tasks that wait for it go on.
    """

    attempt: int
    agent_id: str | None
    error_type: str
    message: str
    cause: str
    reason: str = ""
    charged: bool = False
    root_causes: tuple[str, ...] = ()
    usage: Units = ()
    failure_class: str = ""
    caller: str = ""
    allowed: bool = False


@frozen
class TaskRetrying(TaskEvent):
    """
    An attempt failed, and there will be another.

    If people are asked first, `TaskBlocked` follows, and they say whether.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The worker.
        error_type: The class of the error.
        message: What the error says.
        cause: `error` or `timeout`; `lost` (its worker died), `missing` (its worker
            does not know of it, or has left), `interrupted` (the orchestrator stopped),
            `stopped`, `unstarted` (the system had no thread, process or descriptor for
            it), `returned` (its worker gave it back before it began) or `undersized`
            (it was granted less memory than it asked for, and that was too little).
        delay_ns: Until the next attempt may start.
        charged: False if the attempt was lost through no fault of the task's.
        reason: Why.
        usage: As of `TaskCompleted`.
        failure_class: As of `TaskFailed`.
    """

    attempt: int
    agent_id: str
    error_type: str
    message: str
    cause: str
    delay_ns: int
    charged: bool
    reason: str = ""
    usage: Units = ()
    failure_class: str = ""

    @property
    def delay(self) -> float:
        """Seconds until the next attempt may start."""
        return self.delay_ns / 1e9


@frozen
class TaskBlocked(TaskEvent):
    """
    The task cannot go on by itself.

    Attributes:
        blocked_by: Ids of failed dependencies; empty where a person must decide.
        root_causes: Ids of the tasks where the failure began.
        reason: Why.
        cause: `dependency`; or what became of the attempt that a person must judge:
            `lost`, `missing` or `interrupted`; or `gone`: what it needs is gone; or
            `join`: a person must say whether it may go on; or `event`: it waits for one
            from outside; or `asked`: the retry handler, or a policy, asks a person, and
            the reason is the question; or `policy`: policies deny its start.
        error_type: The class of the error.
        message: What the error says.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    blocked_by: tuple[str, ...]
    root_causes: tuple[str, ...]
    reason: str
    cause: str = "dependency"
    error_type: str = ""
    message: str = ""
    caller: str = ""


@frozen
class TaskReleased(TaskEvent):
    """
    The join of a task holds: it waits for no other task.

    Attributes:
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    reason: str
    caller: str = ""


@frozen
class TaskRecalled(TaskEvent):
    """
    The released task waits for its parents again.

    It had not begun, and something that had ended, or was blocked, is to run after all.

    Attributes:
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    reason: str
    caller: str = ""


@frozen
class TaskUnblocked(TaskEvent):
    """
    The task is no longer blocked: it waits as before.

    Attributes:
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    reason: str
    caller: str = ""


@frozen
class TaskSuspended(TaskEvent):
    """
    The task was suspended.

    Attributes:
        held: True for a stopped program: its attempt continues later, and keeps what it
            holds.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    held: bool
    caller: str = ""


@frozen
class TaskResumed(TaskEvent):
    """
    A suspended task was resumed.

    Attributes:
        held: True for a program that was continued in the same attempt.
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    held: bool
    reason: str = ""
    caller: str = ""


@frozen
class TaskDue(TaskEvent):
    """A delay of the task is over: `not_before`, or before a retry, or of a wait."""


@frozen
class TaskCancelled(TaskEvent):
    """
    The task was cancelled; its work ended or was given up.

    Attributes:
        reason: Why.
        root_causes: Ids of the tasks where the failure began for which it was skipped.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    reason: str
    root_causes: tuple[str, ...] = ()
    caller: str = ""


@frozen
class TaskReprioritised(TaskEvent):
    """
    The priority was changed.

    Attributes:
        priority: The new priority.
        key: Its new place in the queue: lower starts first.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    priority: int
    key: Any = None
    caller: str = ""


@frozen
class TaskOptionsChanged(TaskEvent):
    """
    The task has other options from now on.

    It was submitted again with them, or the retry handler chose them for its next
    attempts.

    Attributes:
        changed: The names of the options that are others.
        priority: Its priority.
        key: Its place in the queue: lower starts first.
        requires: Capabilities that the worker must have; None: it runs here.
        resources: What it needs, in whole units.
        timeout_ns: How long an attempt may take, in ns; None is for ever.
        idempotent: Whether an attempt that was cut off may be run again.
        due_ns: If it waits for a date, and that has changed: when that is, in ns since
            the epoch.
        deadline_ns: To have ended by this time, in ns since the epoch; None is never.
        owner: For whom it is done.
        elastic: As of `TaskSubmitted`.
        avoid: Workers that it does not go to as long as there is another.
        reason: Why the retry handler chose them; "" if it was submitted with them.
        spends: How much of its budget each attempt reserves, in millionths.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    changed: tuple[str, ...]
    priority: int
    key: Any = None
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    timeout_ns: int | None = None
    idempotent: bool = True
    due_ns: int | None = None
    deadline_ns: int | None = None
    owner: str | None = None
    elastic: tuple[Units, int, str] | None = None
    avoid: tuple[str, ...] = ()
    reason: str = ""
    spends: Units = ()
    caller: str = ""


@frozen
class TaskRepointed(TaskEvent):
    """
    Dependents of the task now wait for its re-run.

    Attributes:
        rerun_id: The id of the new task.
        dependents: Ids of the tasks that depend on the new one from now on.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    rerun_id: str
    dependents: tuple[str, ...]
    caller: str = ""


@frozen
class TaskParentsAdded(TaskEvent):
    """
    The task waits for more tasks than it was submitted with.

    One that was cancelled while it waited does so when it runs again.

    Attributes:
        after: Ids of those that were added.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    after: tuple[str, ...]
    caller: str = ""


@frozen
class TaskRenewed(TaskEvent):
    """
    The re-run adds again to its run: calls of a map, questions.

    Attributes:
        since: The id of the run of the task from which on what was added is its own:
            this one, or an earlier one, after which only what failed was made again.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    since: str
    caller: str = ""


@frozen
class ResultsUsed(TaskEvent):
    """
    A running task asked for results of tasks that it does not depend on.

    If one of these is run again, what the task came to is stale.

    Attributes:
        attempt: The number of the attempt, from 1.
        of: Ids of the others.
    """

    attempt: int
    of: tuple[str, ...]


@frozen
class TaskRejected(TaskEvent):
    """
    The validator refused a task; nothing was accepted.

    Attributes:
        type: The type of the task.
        findings: Where, and what is wrong there.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    type: str
    findings: tuple[tuple[str, str], ...]
    caller: str = ""


# -- attempts ----------------------------------------------------------------------


@frozen
class AttemptStopping(TaskEvent):
    """
    A running attempt was asked to stop.

    Attributes:
        attempt: The number of the attempt, from 1.
        why: `cancel`, `suspend`, `timeout` or `deadline`.
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    attempt: int
    why: str
    reason: str = ""
    caller: str = ""


@frozen
class TaskTimedOut(TaskEvent):
    """
    An attempt ran out of time; a view of `AttemptStopping`.

    Attributes:
        attempt: The number of the attempt, from 1.
        why: What ran out.
    """

    attempt: int
    why: str


@frozen
class AttemptWaiting(TaskEvent):
    """
    An attempt waits for another task, without its slot.

    Attributes:
        attempt: The number of the attempt, from 1.
    """

    attempt: int


@frozen
class AttemptReturned(TaskEvent):
    """
    An attempt that waited has its slot again.

    Attributes:
        attempt: The number of the attempt, from 1.
    """

    attempt: int


@frozen
class LateResultIgnored(TaskEvent):
    """
    An attempt ended that is not the current one; it changes nothing.

    Attributes:
        attempt: The number of the attempt, from 1.
        outcome: How it ended.
        error_type: The class of what it raised, or "".
        message: Its message.
    """

    schema: ClassVar[int] = 2

    attempt: int
    outcome: str
    error_type: str = ""
    message: str = ""


@frozen
class AllocationChanged(TaskEvent):
    """
    The share of a running elastic request changed.

    Attributes:
        attempt: The number of the attempt, from 1.
        before: What it held, in millionths.
        after: What it holds from now on, in millionths.
        reason: Why so much.
    """

    attempt: int
    before: Units
    after: Units
    reason: str = ""


@frozen
class SlotLeaked(TaskEvent):
    """
    Work did not stop in its grace; it keeps slot and resources.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The worker.
    """

    attempt: int
    agent_id: str


@frozen
class SlotRecovered(TaskEvent):
    """
    Leaked work ended: its slot is free again.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The worker.
    """

    attempt: int
    agent_id: str


@frozen
class TaskProgressed(TaskEvent):
    """
    A task reported its progress.

    Attributes:
        attempt: The number of the attempt, from 1.
        value: What was reported.
    """

    attempt: int
    value: Any


@frozen
class RecoveryAttempted(TaskEvent):
    """
    A repair of a failed attempt: see `TaskOrchestrator.recover`.

    Attributes:
        attempt: The number of the attempt, from 1.
        level: 1 inside the failed attempt; 2 before the next one.
        kind: The class of the failure, such as `import_error`.
        action: The name of the function that tried.
        result: `retry` (the attempt is run again), `escalate` (it counts as failed),
            `done` (of level 2) or `failed` (the function itself raised).
        message: What it raised, or is wrong with its answer.
    """

    attempt: int
    level: int
    kind: str
    action: str
    result: str
    message: str = ""


@frozen
class TaskCheckpointed(TaskEvent):
    """
    A running task left a state for its next attempt.

    Attributes:
        attempt: The number of the attempt, from 1.
    """

    attempt: int


@frozen
class TaskNoted(TaskEvent):
    """
    An extension keeps something with a task: it goes when the task does.

    Attributes:
        attempt: The number of the attempt in which it was; 0: in none.
        extension: The name of the extension.
        key: What the note is about.
        note: The note, as JSON text; "" takes back the one of this key.
        needs: The tasks and runs that the note is about: they leave the journal with
            the task, and not before.
    """

    attempt: int
    extension: str
    key: str
    note: str
    needs: tuple[str, ...] = ()


# -- questions ---------------------------------------------------------------------


@frozen
class QuestionAsked(TaskEvent):
    """
    A question was asked; a view of `TaskBlocked`.

    By a question, by the approval of a phase, or about a failure.

    Attributes:
        text: What is asked.
        failure: Whether it is about a failure: see `TaskOrchestrator.escalations`.
    """

    text: str
    failure: bool = False


@frozen
class QuestionAnswered(TaskEvent):
    """
    Somebody answered a question; the next event has the effect.

    Attributes:
        by: Who.
        choice: What they chose.
        note: What they wrote.
        changes: What they want changed, as JSON has it.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    by: str
    choice: str
    note: str = ""
    changes: Any = None
    caller: str = ""


@frozen
class AnswerRefused(TaskEvent):
    """
    An answer to a question did not count.

    Attributes:
        by: Whose.
        choice: What they chose.
        why: Why not.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    by: str
    choice: str
    why: str
    caller: str = ""


@frozen
class QuestionReminded(TaskEvent):
    """
    The reminder of an open question.

    Attributes:
        times: How often that has been said.
    """

    times: int


@frozen
class TaskRewarded(TaskEvent):
    """
    Somebody rewarded an attempt; the task does not change.

    Attributes:
        attempt: The number of the attempt, from 1.
        value: From -1 to 1.
        source: Who says so.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    attempt: int
    value: float
    source: str
    caller: str = ""


@frozen
class PolicyViolated(TaskEvent):
    """
    Policies are violated: by a task that was submitted, or was to start, or since.

    Attributes:
        moment: When it was judged: `submit`, `start`, `progress`, `result` or `verb`.
        decision: What follows: `allow`, `ask` or `deny`.
        policies_hash: What tells the set of policies from any other.
        violations: Each as policy, rule, severity, message, the waiver that covers it,
            or "", what there is, and what follows: `allow`, `ask`, `deny`, `change`.
        changes: The paths of what was changed in the task.
        verb: What somebody asked for; "": that is not what was judged.
        caller: Who asked for it; "": nobody whose name was proved.
        type: The type of a task that was refused; "": none was.
    """

    moment: str
    decision: str
    policies_hash: str
    violations: tuple[tuple[str, ...], ...] = ()
    changes: tuple[str, ...] = ()
    verb: str = ""
    caller: str = ""
    type: str = ""


# -- from outside ------------------------------------------------------------------


@frozen
class EventEmitted(Event):
    """
    An event from outside happened, for which tasks may wait.

    Attributes:
        name: The name of the event.
        let_go: How many tasks had waited for it.
        until_ns: Until when it is kept for tasks that come to wait for it, in ns since
            the epoch; 0: it is not.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    name: str
    let_go: int
    until_ns: int = 0
    caller: str = ""


@frozen
class ExtensionKept(Event):
    """
    An extension keeps a document of its state, or drops it.

    Attributes:
        extension: The name of the extension.
        key: The key of the document.
        document: The document, as JSON text; "" drops it.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    extension: str
    key: str
    document: str
    caller: str = ""


# -- alerts ------------------------------------------------------------------------


@frozen
class AlertRaised(Event):
    """
    An alert fires.

    Attributes:
        name: The name of its rule.
        severity: `info`, `warning` or `critical`.
        action: What is done about it, in a word; "" is nothing.
        message: What was measured.
    """

    name: str
    severity: str
    action: str
    message: str


@frozen
class AlertCleared(Event):
    """
    An alert is over, and its action undone.

    Attributes:
        name: The name of its rule.
        seconds: How long it lasted.
        message: What was measured.
    """

    name: str
    seconds: float
    message: str


# -- starts that are held ----------------------------------------------------------


@frozen
class StartsHeld(Event):
    """
    Starts are on hold: nothing new starts, or only so much.

    Attributes:
        by: Who holds them; they have one hold, and this one takes its place.
        most: How many attempts may run at once; 0: nothing starts.
        reason: Why.
        lasts: Whether that outlives this life of the orchestrator.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    by: str
    most: int
    reason: str
    lasts: bool = True
    caller: str = ""


@frozen
class StartsReleased(Event):
    """
    Starts are no longer on hold.

    Attributes:
        by: Who held them.
        reason: Why, where they did not say so themselves.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    by: str
    reason: str = ""
    caller: str = ""


# -- agents, parts and receivers ---------------------------------------------------


@frozen
class AgentJoined(Event):
    """
    A worker was added.

    Attributes:
        agent: What is known of it.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    agent: Agent
    caller: str = ""


@frozen
class AgentLost(Event):
    """
    A worker is silent, or left: it loses its attempts.

    Attributes:
        agent_id: The worker.
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    agent_id: str
    reason: str
    caller: str = ""


@frozen
class AgentReturned(Event):
    """
    A lost worker gives a sign of life.

    Attributes:
        agent_id: The worker.
    """

    agent_id: str


@frozen
class AgentTripped(Event):
    """
    A worker's circuit breaker opened: no work of that kind for a while.

    Attributes:
        agent_id: The worker.
        capability: For which capability; "" is for all that it does.
        until_ns: When the first probe may go there, in ns since the epoch.
        reason: Why.
    """

    agent_id: str
    capability: str
    until_ns: int
    reason: str


@frozen
class AgentProbed(Event):
    """
    A worker's circuit breaker is half-open: it gets a few attempts as probes.

    Attributes:
        agent_id: The worker.
        capability: For which capability; "" is for all that it does.
    """

    agent_id: str
    capability: str


@frozen
class AgentRestored(Event):
    """
    A worker's circuit breaker is closed again: it gets work as before.

    Attributes:
        agent_id: The worker.
        capability: For which capability; "" is for all that it does.
        reason: Why.
    """

    agent_id: str
    capability: str
    reason: str


@frozen
class AgentDraining(Event):
    """
    A worker drains: it gets no new work; or it works again.

    Attributes:
        agent_id: The worker.
        draining: False: it gets work again.
        reason: Why.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    agent_id: str
    draining: bool
    reason: str
    caller: str = ""


@frozen
class PoolsChanged(Event):
    """
    Resource pools were added, removed or changed in size.

    Attributes:
        totals: The pools that are new or of another size, each with its total, in
            millionths.
        gone: The pools that are not there any more.
        before: Of those in `totals`, what the total was, in millionths; a pool that is
            not named is new.
        caller: Who asked for it; "": nobody whose name was proved.
        units: Of those in `totals` whose units have names: these names.
    """

    totals: Units
    gone: tuple[str, ...] = ()
    before: Units = ()
    caller: str = ""
    units: UnitNames = ()


@frozen
class PoolSaturated(Event):
    """
    A resource pool is nearly used up; reported once, to listeners only.

    Attributes:
        pool: The resource.
        used: How much is held, in millionths.
        total: How much there is, in millionths.
    """

    pool: str
    used: int
    total: int


@frozen
class PoolRelieved(Event):
    """
    A saturated resource pool has room again.

    Attributes:
        pool: The resource.
        used: How much is held, in millionths.
        total: How much there is, in millionths.
    """

    pool: str
    used: int
    total: int


@frozen
class QuotaExceeded(Event):
    """
    A soft quota is exceeded; reported once, to listeners only.

    Attributes:
        kind: Whom the quota is for: `type`, `owner` or `workflow`.
        subject: Which.
        resource: What it bounds; `tasks` is how many run.
        used: How much they have, in millionths.
        limit: How much the quota is, in millionths.
    """

    kind: str
    subject: str
    resource: str
    used: int
    limit: int


@frozen
class QuotaRelieved(Event):
    """
    A soft quota is no longer exceeded.

    Attributes:
        kind: Whom the quota is for: `type`, `owner` or `workflow`.
        subject: Which.
        resource: What it bounds; `tasks` is how many run.
        used: How much they have, in millionths.
        limit: How much the quota is, in millionths.
    """

    kind: str
    subject: str
    resource: str
    used: int
    limit: int


@frozen
class QuotasChanged(Event):
    """
    Quotas were set, changed or removed.

    Attributes:
        quotas: Whom each is for (`type`, `owner` or `workflow`, or `soft type` and so
            on; and which), and its limits, in millionths, in which `tasks` is how many
            may run at once, `starts_per_second` how many may start in a second, and
            `burst` how many of these at one moment; without limits, there is no quota
            any more.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    quotas: tuple[tuple[str, str, Units], ...]
    caller: str = ""


@frozen
class BudgetChanged(Event):
    """
    A budget was set, or there is more or less of it than before.

    Attributes:
        budget: Its name.
        totals: How much there is of each resource, in millionths.
        parent: The budget that it is part of; "" is none.
        is_open: Whether it keeps no task from starting any more.
        declared: How much there was to be, as it was declared last.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    budget: str
    totals: Units
    parent: str = ""
    is_open: bool = False
    declared: Units = ()
    caller: str = ""


@frozen
class BudgetSpent(TaskEvent):
    """
    An attempt said what it has spent, by `context.spent`.

    Attributes:
        attempt: The number of the attempt, from 1.
        spent: How much of each resource, in millionths.
    """

    attempt: int
    spent: Units


@frozen
class BudgetLow(Event):
    """
    Four fifths of a budget are spent; said once, until there is more of it.

    Attributes:
        budget: Its name.
        resource: The resource.
        spent: How much is spent, in millionths.
        total: How much there is in all, in millionths.
    """

    budget: str
    resource: str
    spent: int
    total: int


@frozen
class BudgetExhausted(Event):
    """
    A task cannot start, since its budget is used up: people are asked.

    Attributes:
        budget: Its name.
        resource: The resource.
        spent: How much is spent, in millionths.
        total: How much there is in all, in millionths.
        need: How much the task reserves, in millionths.
        number: How often this was so, with this time.
    """

    budget: str
    resource: str
    spent: int
    total: int
    need: int
    number: int


@frozen
class ResultRemembered(TaskEvent):
    """
    A task is about to make a result for the cache.

    Attributes:
        kind: The type of the task.
        key: What like tasks have in common, as a digest.
        parts: The names of its arguments, each with a digest of its value.
        reason: Why there was no such result: which argument differs from the nearest,
            or that it has expired.
    """

    kind: str
    key: str
    parts: tuple[tuple[str, str], ...]
    reason: str


@frozen
class ResultReused(TaskEvent):
    """
    A task takes a cached result.

    Attributes:
        key: What they have in common, as a digest.
        source_id: The id of that task.
        reason: How old the result is, or that it was waited for.
    """

    key: str
    source_id: str
    reason: str


@frozen
class ResultsForgotten(Event):
    """
    Cached results were cleared: like tasks run again.

    Attributes:
        keys: The keys of these results.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    keys: tuple[str, ...]
    caller: str = ""


@frozen
class ScheduleChanged(Event):
    """
    A schedule was added, changed, paused, resumed or removed.

    Attributes:
        name: The name of the schedule.
        document: What it is, as JSON; "" if it was removed.
        done_ns: Up to when its slots are done, in ns since the epoch.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    name: str
    document: str
    done_ns: int
    caller: str = ""


@frozen
class ScheduleFired(Event):
    """
    A tick of a schedule came, and has its task.

    Attributes:
        name: The name of the schedule.
        slot_ns: The time of the slot, in ns since the epoch.
        task_id: The id of its task, or of its run of a workflow.
        by: `clock`, `trigger` or `backfill`.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    name: str
    slot_ns: int
    task_id: str
    by: str = "clock"
    caller: str = ""


@frozen
class ScheduleQueued(Event):
    """
    A tick of a schedule came, and waits for the run before.

    Attributes:
        name: The name of the schedule.
        slot_ns: The time of the slot, in ns since the epoch.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    name: str
    slot_ns: int
    caller: str = ""


@frozen
class ScheduleSkipped(Event):
    """
    Ticks of a schedule came, and get no task.

    Attributes:
        name: The name of the schedule.
        slot_ns: The time of the last of them, in ns since the epoch.
        slots: How many they are.
        reason: Why they get none.
        caller: Who asked for it; "": nobody whose name was proved.
    """

    name: str
    slot_ns: int
    slots: int
    reason: str
    caller: str = ""


@frozen
class ResourcesAllocated(Event):
    """
    Resources were allocated from the pools by hand.

    Attributes:
        allocation_id: The id of the allocation.
        owner: Whose it is.
        resources: What it holds, in millionths.
        before: How much of each of these was in use before, in millionths.
        units: Of each unit with a name of which it holds something: the resource, its
            name, how much in millionths, and False, since it is no worker's.
    """

    allocation_id: str
    owner: str
    resources: Units
    before: Units
    units: HeldUnits = ()


@frozen
class ResourcesReleased(Event):
    """
    Resources that were allocated by hand were released.

    Attributes:
        allocation_id: The id of the allocation.
        owner: Whose it was.
        resources: What it held, in millionths.
        before: How much of each of these was in use before, in millionths.
    """

    allocation_id: str
    owner: str
    resources: Units
    before: Units


@frozen
class ComponentFailed(Event):
    """
    A policy raised, or returned what its protocol does not allow.

    Attributes:
        component: Which part: `router`, `queue`, ….
        error_type: The class of the error.
        message: What the error says.
        task_id: The task about which it was asked, if it was about one.
    """

    component: str
    error_type: str
    message: str
    task_id: str | None


@frozen
class PolicySlow(Event):
    """
    A policy took long while all waited; a validator holds up nobody.

    Attributes:
        component: Which part: `router`, `queue`, ….
        seconds: How long it took.
    """

    component: str
    seconds: float


@frozen
class ReceiverFailed(Event):
    """
    A listener, or a done-callback, raised.

    Attributes:
        signal: The signal.
        receiver: The name of the listener.
        error_type: The class of the error.
        message: What the error says.
    """

    signal: str
    receiver: str
    error_type: str
    message: str


@frozen
class EventsLost(Event):
    """
    A listener was so slow that it lost events.

    Attributes:
        signal: The signal.
        receiver: The name of the listener.
        lost: How many.
    """

    signal: str
    receiver: str
    lost: int


# -- the orchestrator --------------------------------------------------------------


@frozen
class OrchestratorStarted(Event):
    """
    The orchestrator started to run tasks.

    Attributes:
        epoch: The number of this incarnation; with the number of an attempt, its fence.
        concurrency: How many attempts run at once at the most; 0: nobody has said it.
    """

    epoch: int = 1
    concurrency: int = 0


@frozen
class OrchestratorStopped(Event):
    """The orchestrator stopped."""


@frozen
class JournalDegraded(Event):
    """
    The journal cannot be written: nothing new starts until it can.

    Attributes:
        reason: Why.
    """

    reason: str


@frozen
class JournalRestored(Event):
    """The journal can be written again; nothing was lost."""


@frozen
class StatsReported(Event):
    """
    Monitoring: the statistics, at an interval, for listeners.

    Attributes:
        stats: What `get_stats()` says.
    """

    stats: Stats


@frozen
class HealthReported(Event):
    """
    Monitoring: the health, at an interval, for listeners.

    Attributes:
        health: What `health()` says.
    """

    health: Health


@frozen
class PerformanceReported(Event):
    """
    Monitoring: times by type, at an interval, for listeners.

    Attributes:
        types: By type of task.
    """

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
    TaskRecalled,
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
    TaskRenewed,
    ResultsUsed,
    TaskRejected,
    TaskReady,
    AttemptStopping,
    TaskTimedOut,
    AttemptWaiting,
    AllocationChanged,
    AttemptReturned,
    LateResultIgnored,
    SlotLeaked,
    SlotRecovered,
    TaskProgressed,
    RecoveryAttempted,
    TaskCheckpointed,
    TaskNoted,
    QuestionAsked,
    QuestionAnswered,
    AnswerRefused,
    QuestionReminded,
    TaskRewarded,
    PolicyViolated,
    EventEmitted,
    AlertRaised,
    AlertCleared,
    StartsHeld,
    StartsReleased,
    AgentJoined,
    AgentLost,
    AgentReturned,
    AgentTripped,
    AgentProbed,
    AgentRestored,
    AgentDraining,
    PoolsChanged,
    PoolSaturated,
    PoolRelieved,
    QuotaExceeded,
    QuotaRelieved,
    QuotasChanged,
    BudgetChanged,
    BudgetSpent,
    BudgetLow,
    BudgetExhausted,
    ResultRemembered,
    ResultReused,
    ResultsForgotten,
    ScheduleChanged,
    ScheduleFired,
    ScheduleQueued,
    ScheduleSkipped,
    ExtensionKept,
    ResourcesAllocated,
    ResourcesReleased,
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


#: The events that somebody may have asked for, and that say who it was.
CAUSED: Final = frozenset(cls for cls in CATALOGUE if "caller" in cls.__match_args__)


@cache
def signal_name(cls: type[Event]) -> str:
    """The name of the signal of *cls*: its own in snake case."""
    name = cls.__name__
    return "".join(
        ("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name)
    )


#: Event classes by the names of their signals.
SIGNALS: Final[dict[str, type[Event]]] = {signal_name(c): c for c in CATALOGUE}


def make(fact: tuple[Any, ...]) -> Any:
    """
    The event of *fact*: an event is one itself.

    A journal of the user's own may give it back as a plain tuple, `(class, *fields)`,
    without what is as usual at its end.
    """
    return fact if isinstance(fact, Event) else fact[CLS](*fact[SEQ:])


def fields_of(event: Event) -> dict[str, Any]:
    """The fields of *event* by their names; `caller` only if there is one."""
    names = type(event).__match_args__
    fields: dict[str, Any] = dict(zip(names, event[SEQ:], strict=True))
    if not fields.get("caller", True):
        del fields["caller"]
    return fields


def details_of(event: Event) -> dict[str, Any]:
    """What *event* says besides its number and its time, but for what is as usual."""
    usual = defaults_of(type(event))
    return {
        name: value
        for name, value in list(fields_of(event).items())[2:]
        if name not in usual or value != usual[name]
    }


def _asked(blocked: TaskBlocked) -> str:
    """What people are asked from now on; empty if they are not."""
    if blocked.cause == "asked":
        return blocked.reason
    name = blocked.reason.removeprefix("it waits for ")
    if blocked.cause != "event" or name == blocked.reason:
        return ""
    asked = asked_of(name)
    if asked is not None:
        return f"approve {asked[1]} of {asked[0]}?"
    return name.removeprefix(ANSWER_TO) if name.startswith(ANSWER_TO) else ""


def view_of(cls: type[Event], fact: Fact) -> Event | None:
    """
    The event of class *cls* that *fact* contains, or None.

    An event contains itself; some contain another event too: see `VIEWS`.
    """
    if cls not in VIEWS[type(fact)]:
        return None
    of: Any = fact
    event: Event | None = None
    if type(fact) is cls:
        event = fact
    elif cls is TaskValidated:
        event = TaskValidated(of.seq, of.at_ns, of.task_id, of.type)
    elif cls is TaskRouted:
        event = TaskRouted(
            of.seq, of.at_ns, of.task_id, of.attempt, of.agent_id, of.reason
        )
    elif cls is QuestionAsked:
        text = _asked(of)
        if text:
            failure = of.cause == "asked"
            event = QuestionAsked(of.seq, of.at_ns, of.task_id, text, failure)
    elif of.why in ("timeout", "deadline"):
        event = TaskTimedOut(of.seq, of.at_ns, of.task_id, of.attempt, of.why)
    return event


#: Which events each fact contains, in the order in which they are sent.
VIEWS: Final[dict[type[Event], tuple[type[Event], ...]]] = {
    **{cls: (cls,) for cls in CATALOGUE},
    TaskSubmitted: (TaskSubmitted, TaskValidated),
    TaskStarted: (TaskRouted, TaskStarted),
    AttemptStopping: (AttemptStopping, TaskTimedOut),
    TaskBlocked: (TaskBlocked, QuestionAsked),
}

#: The classes of events that a journal keeps, each with a number of its own: not those
#: of the moment, nor those that are another one, seen from a different side.
KEPT: Final[frozenset[type[Event]]] = (
    frozenset(CATALOGUE)
    - {StatsReported, HealthReported, PerformanceReported, TaskReady}
    - {view for fact, views in VIEWS.items() for view in views if view is not fact}
)
