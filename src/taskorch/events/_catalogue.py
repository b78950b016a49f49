"""
The catalogue: one class for every event.

An event is one object from beginning to end: listeners get it, journals keep it, and
the fold applies it.

Decision: events-and-recovery.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Final, NoReturn, Self

import attrs

from taskorch.events._event import FieldsForAttrs, beside, defaults_of, frozen
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

#: The indexes of the class, the number and the time in every event, and of the task's
#: id in an event about a task.
CLS: Final = 0
SEQ: Final = 1
AT_NS: Final = 2
TASK_ID: Final = 3


@frozen
class Event(tuple[Any, ...]):  # noqa: SLOT001 - `frozen` gives it some
    """
    An event that has happened.

    Attributes:
        seq: A number that rises with every event of one orchestrator. `TaskValidated`,
            `TaskRouted` and `TaskTimedOut` share the number of the event that they are
            a view of, and `TaskReady` has that of the event that released the task.
        at_ns: Nanoseconds since the epoch, on a clock that never goes back.
    """

    seq: int
    at_ns: int

    #: The number of the schema; it rises when fields change.
    schema: ClassVar[int] = 1

    __attrs_attrs__: ClassVar[FieldsForAttrs] = FieldsForAttrs()

    @property
    def at(self) -> float:
        """Time in seconds since the epoch."""
        return self.at_ns / 1e9

    @property
    def timestamp(self) -> datetime:
        """The time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={x!r}" for name, x in fields_of(self).items())
        return f"{type(self).__name__}({fields})"

    def __replace__(self, **changes: Any) -> Self:
        """Return the event with other values of some fields, for `copy.replace`."""
        return type(self)(**{**fields_of(self), **changes})

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self[SEQ:]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __delattr__(self, name: str) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError


@frozen
class TaskEvent(Event):
    """
    An event about one task.

    Attributes:
        task_id: The id of the task.
    """

    task_id: str


# -- the history of a task ---------------------------------------------------------


@frozen
class TaskSubmitted(TaskEvent):
    """
    A task was accepted.

    Attributes:
        type: The type of the task.
        priority: The priority of the task.
        after: Ids of its parents.
        requires: Capabilities that the worker must have; None for the built-in worker.
        resources: The resources that it asks for, in millionths.
        rerun_of: The id of the task that this one runs again.
        timeout_ns: The most that one attempt may take, in ns.
        idempotent: False if a person must decide after an attempt with an unknown end.
        key: Its key in the queue: the lowest starts first.
        not_before_ns: The time before which it must not start, in ns since the epoch.
        deadline_ns: The time by which it must have ended, in ns since the epoch.
        expires_ns: The time by which it must have begun, in ns since the epoch.
        named: True if the user chose its id or its idempotency key.
        join: Its join: `all`, `finished`, `any`, `asked` (a function of the user
            decides), or how many parents must complete.
        on_parent_failure: The rule if its join can never hold: `block`, `skip`, `fail`
            or `run`.
        wait: For a wait: the event, the timeout in ns, and whether there is a default;
            for a question with reminders, also the ns between two of them.
        trace: The span in which it was submitted, as a `traceparent` of W3C Trace
            Context: its attempts belong to that trace, in later incarnations too.
        owner: Its tenant.
        elastic: For an elastic request: the named least amounts, in millionths; the
            weight, in millionths; and the fallback.
        run: Its run of a workflow, if its id does not name it, or "". None stands for
            the part of its id before the first slash, if it has one.
        writes: The paths that it may write, each up to the first wildcard; "" is
            everything.
        budget: The budget that it draws on, or "".
        spends: The amounts of it that each attempt reserves, in millionths.
        caller: The proved name of the caller, or "".
        allow_failure: True if its failure is allowed: see `TaskFailed.allowed`.
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

    It is made only if somebody listens, each time that a task is queued: on submission,
    or after its last parent, a delay, a retry or a suspension. No journal has it.
    """


@frozen
class TaskRouted(TaskEvent):
    """
    A worker was chosen; a view of `TaskStarted`.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The id of the worker.
        reason: The reason.
    """

    attempt: int
    agent_id: str
    reason: str


@frozen
class TaskStarted(TaskEvent):
    """
    An attempt began.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The id of the worker.
        allocation: The amounts that it holds of the pools, in millionths.
        reason: The reason for this worker; and the reason if it got less than it
            asked for.
        choice: The choice of a policy that learns: the name of the arm, and the
            probability of that choice; None if no policy learns.
        permit: The rules that allowed it, if rules were asked: the hash of the set of
            policies, then each rule as `policy/rule`, with `@` and the number of the
            event that satisfied it, or with `~` and the waiver, or `people`.
        units: The named units, such as GPUs, that it holds: for each the resource, the
            name, the amount in millionths, and whether the unit is the worker's own.
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
        agent_id: The id of the worker.
        latency_ns: The duration of the attempt, in ns.
        cause: The cause of its end, if no attempt ended it: `event`, `timeout` (of a
            wait) or `decision`.
        reason: The reason of that; or the reason why it was not suspended first, as
            asked.
        usage: The measured resource usage of the attempt, in millionths: `memory_mb`
            and `processes` at their peak, `cpu_seconds` and `written_mb`; empty if it
            was not measured.
        caller: The proved name of the caller, or "".
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
        """Result of the task, fetched on access."""
        return None if self._load is None else self._load()

    def with_result(self, load: Callable[[], object]) -> TaskCompleted:
        """Return the same event with a result that *load* fetches."""
        event = tuple.__new__(TaskCompleted, self)
        event.__dict__["_load"] = load
        return event

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has the result itself, since it has nowhere to fetch
        # it from.
        return _completed, (self.result, *self[SEQ:])


def _completed(result: object, *values: Any) -> TaskCompleted:
    return TaskCompleted(*values).with_result(lambda: result)


@frozen
class TaskFailed(TaskEvent):
    """
    The task failed for good.

    Attributes:
        attempt: The last attempt, or 0 if none began.
        agent_id: The id of the worker.
        error_type: The class of the error.
        message: The message of the error.
        cause: `error`, `timeout`, `deadline`, `expired`, `poisoned`, `component`,
            `decision` or `dependency`.
        reason: The reason why it was not tried again.
        charged: True if the last attempt counts as a try.
        root_causes: Ids of the tasks where the failure began, if it came from its
            parents.
        usage: The resource usage of the last attempt, as in `TaskCompleted`.
        failure_class: The class of the failure, such as `memory_error`; "" if no
            attempt of its own failed.
        caller: The proved name of the caller, or "".
        allowed: True if its failure is allowed: its dependents go on.
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

    If people are asked first, `TaskBlocked` follows, and they decide.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The id of the worker.
        error_type: The class of the error.
        message: The message of the error.
        cause: `error` or `timeout`; `lost` (its worker died), `missing` (its worker
            does not know it, or has left), `interrupted` (the orchestrator stopped),
            `stopped`, `unstarted` (the system had no thread, process or descriptor for
            it), `returned` (its worker gave it back before it began) or `undersized`
            (it was granted less memory than it asked for, and that was too little).
        delay_ns: Nanoseconds until the next attempt may start.
        charged: True if the attempt counts as a try; False if its loss is no fault of
            the task.
        reason: The reason.
        usage: The resource usage, as in `TaskCompleted`.
        failure_class: The class of the failure, as in `TaskFailed`.
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
        blocked_by: Ids of failed parents; empty if a person must decide.
        root_causes: Ids of the tasks where the failure began.
        reason: The reason.
        cause: `dependency`; `lost`, `missing` or `interrupted` for the end of an
            attempt that a person must judge; `gone` if its worker or function is
            missing; `join` if a person must say whether it may go on; `event` if it
            waits for an event from outside; `asked` if the retry handler, or a policy,
            asks a person, with the question as the reason; or `policy` if policies deny
            its start.
        error_type: The class of the error.
        message: The message of the error.
        caller: The proved name of the caller, or "".
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
        reason: The reason.
        caller: The proved name of the caller, or "".
    """

    reason: str
    caller: str = ""


@frozen
class TaskRecalled(TaskEvent):
    """
    The released task waits for its parents again.

    It had not begun, and a parent that had ended, or was blocked, is to run after all.

    Attributes:
        reason: The reason.
        caller: The proved name of the caller, or "".
    """

    reason: str
    caller: str = ""


@frozen
class TaskUnblocked(TaskEvent):
    """
    The task is no longer blocked: it waits as before.

    Attributes:
        reason: The reason.
        caller: The proved name of the caller, or "".
    """

    reason: str
    caller: str = ""


@frozen
class TaskSuspended(TaskEvent):
    """
    The task was suspended.

    Attributes:
        held: True for a program that is stopped in place: its attempt continues later,
            and keeps its resources.
        caller: The proved name of the caller, or "".
    """

    held: bool
    caller: str = ""


@frozen
class TaskResumed(TaskEvent):
    """
    A suspended task was resumed.

    Attributes:
        held: True for a program that was continued in the same attempt.
        reason: The reason.
        caller: The proved name of the caller, or "".
    """

    held: bool
    reason: str = ""
    caller: str = ""


@frozen
class TaskDue(TaskEvent):
    """A delay of the task is over: of a `not_before`, a retry or a wait."""


@frozen
class TaskCancelled(TaskEvent):
    """
    The task was cancelled; its work ended or was given up.

    Attributes:
        reason: The reason.
        root_causes: Ids of the tasks where the failure began, if it was skipped for
            one.
        caller: The proved name of the caller, or "".
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
        key: Its new key in the queue: the lowest starts first.
        caller: The proved name of the caller, or "".
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
        changed: The names of the changed options.
        priority: Its priority.
        key: Its key in the queue: the lowest starts first.
        requires: Capabilities that the worker must have; None for the built-in worker.
        resources: The resources that it asks for, in millionths.
        timeout_ns: The timeout of an attempt, in ns; None is for ever.
        idempotent: True if an attempt that was cut off may be run again.
        due_ns: The new time that it waits for, in ns since the epoch, if that has
            changed.
        deadline_ns: The time by which it must have ended, in ns since the epoch; None
            is never.
        owner: Its tenant.
        elastic: The elastic request, as in `TaskSubmitted`.
        avoid: Workers that it avoids as long as there is another.
        reason: The retry handler's reason; "" if it was submitted with them.
        spends: The amounts of its budget that each attempt reserves, in millionths.
        caller: The proved name of the caller, or "".
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
        caller: The proved name of the caller, or "".
    """

    rerun_id: str
    dependents: tuple[str, ...]
    caller: str = ""


@frozen
class TaskParentsAdded(TaskEvent):
    """
    The task waits for more tasks than it was submitted with.

    A task that was cancelled while it waited will wait for them when it runs again.

    Attributes:
        after: Ids of the added parents.
        caller: The proved name of the caller, or "".
    """

    after: tuple[str, ...]
    caller: str = ""


@frozen
class TaskRenewed(TaskEvent):
    """
    The re-run adds again to its run: calls of a map, questions.

    Attributes:
        since: The id of the first run of the task whose added tasks still belong to it:
            this one, or an earlier one, after which only failed tasks were added again.
        caller: The proved name of the caller, or "".
        left: Once it completes, ids of tasks that earlier runs of it had added, and it
            has not: they are no part of the run any more.
    """

    since: str
    caller: str = ""
    left: tuple[str, ...] = ()


@frozen
class ResultsUsed(TaskEvent):
    """
    A running task asked for results of tasks that it does not depend on.

    If one of these is run again, the result of the task is stale.

    Attributes:
        attempt: The number of the attempt, from 1.
        of: Ids of the other tasks.
    """

    attempt: int
    of: tuple[str, ...]


@frozen
class TaskRejected(TaskEvent):
    """
    The validator refused a task; nothing was accepted.

    Attributes:
        type: The type of the task.
        findings: The faults, each with its path and its text.
        caller: The proved name of the caller, or "".
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
        why: The kind of stop: `cancel`, `suspend`, `timeout` or `deadline`.
        reason: The reason.
        caller: The proved name of the caller, or "".
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
        why: The limit that was reached: `timeout` or `deadline`.
    """

    attempt: int
    why: str


@frozen
class AttemptWaiting(TaskEvent):
    """
    An attempt waits for another task, without its slot.

    Attributes:
        attempt: The number of the attempt, from 1.
        returned: Whether its function has returned, and it only waits until its value
            is kept: without its slot, its resources and its time limit.
    """

    attempt: int
    returned: bool = False


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
        outcome: The outcome of the attempt.
        error_type: The class of its error, or "".
        message: The message of its error.
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
        before: The amounts that it held, in millionths.
        after: The amounts that it holds from now on, in millionths.
        reason: The reason.
    """

    attempt: int
    before: Units
    after: Units
    reason: str = ""


@frozen
class SlotLeaked(TaskEvent):
    """
    An attempt did not stop within its grace; it keeps its slot and resources.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The id of the worker.
    """

    attempt: int
    agent_id: str


@frozen
class SlotRecovered(TaskEvent):
    """
    A leaked attempt ended: its slot is free again.

    Attributes:
        attempt: The number of the attempt, from 1.
        agent_id: The id of the worker.
    """

    attempt: int
    agent_id: str


@frozen
class TaskProgressed(TaskEvent):
    """
    A task reported its progress.

    Attributes:
        attempt: The number of the attempt, from 1.
        value: The reported progress.
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
        message: Its error, the fault of its answer, or with `retry` the error of the
            attempt.
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
    An extension keeps a note with a task, which is removed with the task.

    Attributes:
        attempt: The number of the attempt that made the note; 0 if none did.
        extension: The name of the extension.
        key: The key of the note.
        note: The note, as JSON text; "" removes the note of this key.
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

    It is a question of a task, the approval of a phase, or a question about a failure.

    Attributes:
        text: The question.
        failure: True if it is about a failure: see `TaskOrchestrator.escalations`.
    """

    text: str
    failure: bool = False


@frozen
class QuestionAnswered(TaskEvent):
    """
    Somebody answered a question; the next event has the effect.

    Attributes:
        by: The person who answered.
        choice: Their choice.
        note: Their note.
        changes: The changes that they ask for, as JSON has them.
        caller: The proved name of the caller, or "".
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
        by: The person who answered.
        choice: Their choice.
        why: The reason.
        caller: The proved name of the caller, or "".
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
        times: How many reminders there were.
    """

    times: int


@frozen
class TaskRewarded(TaskEvent):
    """
    Somebody rewarded an attempt; the task does not change.

    Attributes:
        attempt: The number of the attempt, from 1.
        value: The reward, from -1 to 1.
        source: The author of the reward.
        caller: The proved name of the caller, or "".
    """

    attempt: int
    value: float
    source: str
    caller: str = ""


@frozen
class PolicyViolated(TaskEvent):
    """
    Policies are violated by a task: on submission, before a start, or later.

    Attributes:
        moment: The moment of the judgement: `submit`, `start`, `progress`, `result` or
            `verb`.
        decision: The ruling: `allow`, `ask` or `deny`.
        policies_hash: The hash of the set of policies.
        violations: The violations, each as policy, rule, severity, message, waiver or
            "", present values, and ruling: `allow`, `ask`, `deny`, `change`.
        changes: The paths of changed values in the task.
        verb: The verb that was judged; "" if no verb was.
        caller: The proved name of the caller, or "".
        type: The type of a refused task; "" if none was refused.
    """

    moment: str
    decision: str
    policies_hash: str
    violations: tuple[tuple[str, ...], ...] = ()
    changes: tuple[str, ...] = ()
    verb: str = ""
    caller: str = ""
    type: str = ""


# -- events from outside -----------------------------------------------------------


@frozen
class EventEmitted(Event):
    """
    An event from outside happened that tasks may wait for.

    Attributes:
        name: The name of the event.
        let_go: How many tasks had waited for it.
        until_ns: The time until which it is kept for later waits, in ns since the
            epoch; 0 if it is not kept.
        caller: The proved name of the caller, or "".
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
        caller: The proved name of the caller, or "".
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
        action: The action, in a word; "" for none.
        message: The measured values, in words.
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
        seconds: Its duration in seconds.
        message: The measured values, in words.
    """

    name: str
    seconds: float
    message: str


# -- holds of starts ---------------------------------------------------------------


@frozen
class StartsHeld(Event):
    """
    Starts are on hold: no new attempt, or only a few, may run.

    Attributes:
        by: The author of the hold; this hold replaces an earlier one of the same
            author.
        most: How many attempts may run at once; 0 if none may start.
        reason: The reason.
        lasts: True if the hold outlives this incarnation of the orchestrator.
        caller: The proved name of the caller, or "".
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
        by: The author of the hold.
        reason: The reason, if the author did not release it.
        caller: The proved name of the caller, or "".
    """

    by: str
    reason: str = ""
    caller: str = ""


# -- workers, policies and listeners -----------------------------------------------


@frozen
class AgentJoined(Event):
    """
    A worker was added.

    Attributes:
        agent: The description of the worker.
        caller: The proved name of the caller, or "".
    """

    agent: Agent
    caller: str = ""


@frozen
class AgentLost(Event):
    """
    A worker is silent, or left: it loses its attempts.

    Attributes:
        agent_id: The id of the worker.
        reason: The reason.
        caller: The proved name of the caller, or "".
    """

    agent_id: str
    reason: str
    caller: str = ""


@frozen
class AgentReturned(Event):
    """
    A lost worker gives a sign of life.

    Attributes:
        agent_id: The id of the worker.
    """

    agent_id: str


@frozen
class AgentTripped(Event):
    """
    A worker's circuit breaker opened: no work of that kind for a while.

    Attributes:
        agent_id: The id of the worker.
        capability: The capability; "" for the whole worker.
        until_ns: The time of the first probe, in ns since the epoch.
        reason: The reason.
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
        agent_id: The id of the worker.
        capability: The capability; "" for the whole worker.
    """

    agent_id: str
    capability: str


@frozen
class AgentRestored(Event):
    """
    A worker's circuit breaker is closed again: it gets work as before.

    Attributes:
        agent_id: The id of the worker.
        capability: The capability; "" for the whole worker.
        reason: The reason.
    """

    agent_id: str
    capability: str
    reason: str


@frozen
class AgentDraining(Event):
    """
    A worker drains, so it gets no new work; or it gets work again.

    Attributes:
        agent_id: The id of the worker.
        draining: True if it drains; False if it gets work again.
        reason: The reason.
        caller: The proved name of the caller, or "".
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
        totals: The new and changed pools, each with its total in millionths.
        gone: The removed pools.
        before: The earlier totals of pools in `totals`, in millionths; a pool without
            one is new.
        caller: The proved name of the caller, or "".
        units: The names of the units of pools in `totals` with named units.
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
        used: The amount that is held, in millionths.
        total: The total amount, in millionths.
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
        used: The amount that is held, in millionths.
        total: The total amount, in millionths.
    """

    pool: str
    used: int
    total: int


@frozen
class QuotaExceeded(Event):
    """
    A soft quota is exceeded; reported once, to listeners only.

    Attributes:
        kind: The kind of the quota: `type`, `owner` or `workflow`.
        subject: The name of the type, tenant or run.
        resource: The resource that it bounds; `tasks` is the number of running tasks.
        used: The amount in use, in millionths.
        limit: The limit, in millionths.
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
        kind: The kind of the quota: `type`, `owner` or `workflow`.
        subject: The name of the type, tenant or run.
        resource: The resource that it bounds; `tasks` is the number of running tasks.
        used: The amount in use, in millionths.
        limit: The limit, in millionths.
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
        quotas: The quotas, each with the kind of its subject (`type`, `owner` or
            `workflow`, or `soft type` and so on), the name of its subject, and its
            limits in millionths; empty limits remove it. The limit `tasks` is the
            number of running tasks, `starts_per_second` that of starts in a second, and
            `burst` that of starts at one moment.
        caller: The proved name of the caller, or "".
    """

    quotas: tuple[tuple[str, str, Units], ...]
    caller: str = ""


@frozen
class BudgetChanged(Event):
    """
    A budget was declared, raised or reduced.

    Attributes:
        budget: Its name.
        totals: The total of each resource, in millionths.
        parent: The budget that it is part of, or "".
        is_open: True if it stops no task any more.
        declared: The totals of the latest declaration, in millionths.
        caller: The proved name of the caller, or "".
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
    An attempt reported its spending by `context.spent`.

    Attributes:
        attempt: The number of the attempt, from 1.
        spent: The amount of each resource, in millionths.
    """

    attempt: int
    spent: Units


@frozen
class BudgetLow(Event):
    """
    Four fifths of a budget are spent; reported once, until it is raised.

    Attributes:
        budget: Its name.
        resource: The resource.
        spent: The spent amount, in millionths.
        total: The total amount, in millionths.
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
        spent: The spent amount, in millionths.
        total: The total amount, in millionths.
        need: The amount that the task reserves, in millionths.
        number: How often this has happened, including this time.
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
        key: The digest that like tasks have in common.
        parts: The names of its arguments, each with a digest of its value.
        reason: The reason for the miss: the argument that differs from the nearest
            result, or that it has expired.
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
        key: The digest that both tasks have in common.
        source_id: The id of the task that made the result.
        reason: The age of the result, or that the task waited for it.
    """

    key: str
    source_id: str
    reason: str


@frozen
class ResultsForgotten(Event):
    """
    Cached results were cleared: like tasks run again.

    Attributes:
        keys: The keys of the cleared results.
        caller: The proved name of the caller, or "".
    """

    keys: tuple[str, ...]
    caller: str = ""


@frozen
class ScheduleChanged(Event):
    """
    A schedule was added, changed, paused, resumed or removed.

    Attributes:
        name: The name of the schedule.
        document: The schedule as JSON; "" if it was removed.
        done_ns: The time up to which its ticks are done, in ns since the epoch.
        caller: The proved name of the caller, or "".
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
        slot_ns: The time of the tick, in ns since the epoch.
        task_id: The id of its task, or of its run of a workflow.
        by: `clock`, `trigger` or `backfill`.
        caller: The proved name of the caller, or "".
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
        slot_ns: The time of the tick, in ns since the epoch.
        caller: The proved name of the caller, or "".
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
        slots: The number of ticks.
        reason: The reason.
        caller: The proved name of the caller, or "".
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
        owner: The tenant that holds it.
        resources: The amounts that it holds, in millionths.
        before: The amount of each that was in use before, in millionths.
        units: The named units that it holds: for each the resource, the name, the
            amount in millionths, and False, since no worker owns the unit.
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
        owner: The tenant that held it.
        resources: The amounts that it held, in millionths.
        before: The amount of each that was in use before, in millionths.
    """

    allocation_id: str
    owner: str
    resources: Units
    before: Units


@frozen
class ComponentFailed(Event):
    """
    A policy raised an error, or returned an answer that its protocol does not allow.

    Attributes:
        component: The policy: `router`, `queue`, ….
        error_type: The class of the error.
        message: The message of the error.
        task_id: The task that it was asked about, if it was about one.
    """

    component: str
    error_type: str
    message: str
    task_id: str | None


@frozen
class PolicySlow(Event):
    """
    A policy was slow under the lock; a validator holds no lock.

    Attributes:
        component: The policy: `router`, `queue`, ….
        seconds: The duration of its answer.
    """

    component: str
    seconds: float


@frozen
class ReceiverFailed(Event):
    """
    A listener, or a done-callback, raised an error.

    Attributes:
        signal: The signal.
        receiver: The name of the listener.
        error_type: The class of the error.
        message: The message of the error.
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
        lost: The number of lost events.
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
        concurrency: The most attempts that run at once; 0 if unknown.
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
        reason: The reason.
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
        stats: The result of `get_stats()`.
    """

    stats: Stats


@frozen
class HealthReported(Event):
    """
    Monitoring: the health, at an interval, for listeners.

    Attributes:
        health: The result of `health()`.
    """

    health: Health


@frozen
class PerformanceReported(Event):
    """
    Monitoring: times by type, at an interval, for listeners.

    Attributes:
        types: The statistics of each type of task.
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


#: The events that a caller may have asked for, with the caller in a field.
CAUSED: Final = frozenset(cls for cls in CATALOGUE if "caller" in cls.__match_args__)


@cache
def signal_name(cls: type[Event]) -> str:
    """Return the name of the signal of *cls*: its own name in snake case."""
    name = cls.__name__
    return "".join(
        ("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name)
    )


#: Event classes by the names of their signals.
SIGNALS: Final[dict[str, type[Event]]] = {signal_name(c): c for c in CATALOGUE}


def make(fact: tuple[Any, ...]) -> Any:
    """
    Return the event of *fact*, which may be a plain tuple.

    A user's journal may return an event as a plain tuple, `(class, *fields)`, without
    trailing defaults.
    """
    return fact if isinstance(fact, Event) else fact[CLS](*fact[SEQ:])


def without_result(event: Event) -> Event:
    """Return *event* without the way to a result, which keeps its task in memory."""
    return tuple.__new__(type(event), event)


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of *event* by name; `caller` only if there is one."""
    names = type(event).__match_args__
    fields: dict[str, Any] = dict(zip(names, event[SEQ:], strict=True))
    if not fields.get("caller", True):
        del fields["caller"]
    return fields


def details_of(event: Event) -> dict[str, Any]:
    """Return the fields of *event* after seq and time that are not defaults."""
    usual = defaults_of(type(event))
    return {
        name: value
        for name, value in list(fields_of(event).items())[2:]
        if name not in usual or value != usual[name]
    }


def _asked(blocked: TaskBlocked) -> str:
    """Return the question that people are asked from now on, or ""."""
    if blocked.cause == "asked":
        return blocked.reason
    name = blocked.reason.removeprefix("it waits for ")
    if blocked.cause != "event" or name == blocked.reason:
        return ""
    asked = asked_of(name)
    if asked is not None:
        return f"approve {asked[1]} of {asked[0]}?"
    return name.removeprefix(ANSWER_TO) if name.startswith(ANSWER_TO) else ""


def view_of(cls: type[Event], fact: Event) -> Event | None:
    """
    Return the event of class *cls* that *fact* contains, or None.

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


#: The classes of events that each event contains, in the order in which they are sent.
VIEWS: Final[dict[type[Event], tuple[type[Event], ...]]] = {
    **{cls: (cls,) for cls in CATALOGUE},
    TaskSubmitted: (TaskSubmitted, TaskValidated),
    TaskStarted: (TaskRouted, TaskStarted),
    AttemptStopping: (AttemptStopping, TaskTimedOut),
    TaskBlocked: (TaskBlocked, QuestionAsked),
}

#: The classes of events that a journal keeps, each with a number of its own. Monitoring
#: events, and views of other events, are left out.
KEPT: Final[frozenset[type[Event]]] = (
    frozenset(CATALOGUE)
    - {StatsReported, HealthReported, PerformanceReported, TaskReady}
    - {view for event, views in VIEWS.items() for view in views if view is not event}
)
