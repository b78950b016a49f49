"""
Every error that taskorch raises, in one tree.

    TaskorchError
    ├── UsageError                    an impossible call
    │   ├── InvalidTaskError          (ValueError) a task or an option is malformed
    │   │   └── UnkeptResultError     the journal cannot keep what a task returned
    │   ├── ValidationFailedError     (ValueError) the validator refused; .findings
    │   ├── DuplicateTaskError        a known id with other content; .differences
    │   ├── UnknownTaskError          (LookupError) no task has this id
    │   ├── UnknownAgentError         (LookupError) no worker has this name
    │   ├── UnknownCapabilityError    no worker can do it; .capability, .known
    │   ├── UnsatisfiableError        more than there will ever be; .need, .most
    │   ├── ResourcesTakenError       too little is free now; .resource, .holders
    │   ├── AllocationError           it is released already, or somebody else's
    │   ├── CycleError                dependencies in a ring; .cycle
    │   ├── PlanningError             no plan meets the request; .conflict, .trace
    │   ├── InvalidTransitionError    not from this state; .story
    │   ├── NotRunningError           (RuntimeError) not started yet, or stopped
    │   ├── QueueFullError            admission refused; .reason
    │   ├── ReentryError              a policy called the orchestrator that asked it
    │   ├── WouldBlockError           it would block the loop that must do the work
    │   └── WouldDeadlockError        the wait could never end; .holders
    ├── TaskFailure                   a task did not complete
    │   ├── TaskFailedError           .type, .message, .traceback
    │   ├── UnwantedResultError       `retry_if_result` holds for it; .result
    │   ├── TaskTimeoutError          its attempt or its deadline ran out
    │   ├── TaskExpiredError          it waited longer than it may
    │   ├── TaskCancelledError        it was cancelled; .reason
    │   ├── DependencyFailedError     what it needs has failed; .root_causes
    │   ├── TooManyFailuresError      more calls failed than a map allows; .failed
    │   ├── ProgramFailedError        a program ended badly; .result
    │   │   ├── MemoryLimitError      it passed its limit; .peak, .limit, .how
    │   │   └── UnenforceableError    what it declares cannot be held here
    │   ├── AttemptLostError          the worker died under it
    │   │   └── OutcomeUnknownError   nobody knows what it has done elsewhere
    │   ├── ResultGoneError           its result has left memory, or is lost
    │   ├── ComponentError            a policy failed; .component
    │   ├── GateFailedError           a phase of a workflow has not passed; .findings
    │   └── WorkflowFailedError       (ExceptionGroup) it cannot complete; .failures
    ├── JournalError                  the journal cannot be used
    │   ├── JournalUnavailableError   it cannot be written now; .outcome
    │   └── JournalTakenError         another leader writes it now
    ├── StoreUnavailableError         a store of large values does not answer
    └── InternalError                 a fault of taskorch itself: please report it

Outside the tree: `Permanent`, which a task raises to say that a retry is no use,
and `AttemptInterrupted`, which `TaskContext.checkpoint` raises inside a task that
is to stop.

Every error has a stable `code`, and a `hint` that says what to do next. All can be
pickled. None derives from a builtin timeout or cancellation: `TimeoutError` from
`result(timeout=…)` means only that the caller ran out of patience.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

from taskorch.kit.visible import visible
from taskorch.kit.vocabulary import unknown_option

__all__ = (
    "AgentProgramError",
    "AllocationError",
    "AnswerRefusedError",
    "AttemptInterrupted",
    "AttemptLostError",
    "ComponentError",
    "CycleError",
    "DependencyFailedError",
    "DuplicateTaskError",
    "GateFailedError",
    "InternalError",
    "InvalidTaskError",
    "InvalidTransitionError",
    "JournalError",
    "JournalTakenError",
    "JournalUnavailableError",
    "MemoryLimitError",
    "NotRunningError",
    "OutcomeUnknownError",
    "Permanent",
    "PlanningError",
    "PolicyDeniedError",
    "ProgramFailedError",
    "QueueFullError",
    "ReentryError",
    "ResourcesTakenError",
    "ResultGoneError",
    "StepError",
    "StoreUnavailableError",
    "TaskCancelledError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskFailure",
    "TaskTimeoutError",
    "TaskorchError",
    "TooManyFailuresError",
    "UnenforceableError",
    "UnkeptResultError",
    "UnknownAgentError",
    "UnknownCapabilityError",
    "UnknownTaskError",
    "UnsatisfiableError",
    "UnwantedResultError",
    "UsageError",
    "ValidationFailedError",
    "WorkflowFailedError",
    "WouldBlockError",
    "WouldDeadlockError",
    "leaves",
)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from taskorch.kit.vocabulary import no_name  # noqa: PLC0415 - for errors

        raise no_name(__name__, name)


def _rebuild(
    cls: type[TaskorchError], message: str, state: dict[str, Any]
) -> TaskorchError:
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


def _rebuild_group(
    cls: type[WorkflowFailedError],
    message: str,
    failures: Mapping[str, BaseException],
    state: dict[str, Any],
) -> WorkflowFailedError:
    error = cls(message, failures=failures)
    vars(error).update(state)
    return error


def _as_error(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    kind = type(error).__name__
    wrapped = TaskFailedError(f"{kind}: {error}".removesuffix(": "), type=kind)
    wrapped.__cause__ = error
    return wrapped


def leaves(error: BaseException, most: int = 6_000) -> Iterator[BaseException]:
    """
    The exceptions in *error*, a group, that are none; of any other, itself.

    Only the first *most* exceptions and groups are looked at, as others may wait for
    it; with -1, all are.
    """
    stack = [iter((error,))]
    while stack:
        for each in stack[-1]:
            if not most:
                return
            most -= 1
            if isinstance(each, BaseExceptionGroup):
                stack.append(iter(each.exceptions))
                break
            yield each
        else:
            stack.pop()


class _Hint:
    """The text of a remedy; None stands for the one of the class."""

    def __get__(self, error: object | None, cls: type) -> str:
        if error is None:
            raise AttributeError
        text: str = vars(error)["hint"]
        return text

    def __set__(self, error: TaskorchError, text: str | None) -> None:
        vars(error)["hint"] = error.default_hint if text is None else text


def _field(*, kw_only: bool = True) -> Any:
    """Declare a field without a default, for type checkers."""
    del kw_only


class _Signature:
    """The signature of a class of errors, with its fields by name."""

    def __get__(self, error: object, cls: type[TaskorchError]) -> Any:
        from inspect import Parameter, Signature  # noqa: PLC0415 - asked for by few

        if cls.__init__ is not TaskorchError.__init__:
            own = Signature.from_callable(cls.__init__)
            return own.replace(parameters=[*own.parameters.values()][1:])
        named = {"hint": None, "task_id": None, **cls._fields}
        return Signature(
            [
                Parameter("message", Parameter.POSITIONAL_OR_KEYWORD),
                *(
                    Parameter(name, Parameter.KEYWORD_ONLY, default=default)
                    for name, default in named.items()
                ),
            ]
        )


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(_field,))
class _DescribedError(Exception):
    """The constructor of errors by keywords, for type checkers."""


class TaskorchError(_DescribedError):
    """
    The root of all errors of taskorch.

    Args:
        message: What happened, and where.
        hint: The remedy; each class has a general one.
        task_id: The task concerned, if one is.
    """

    #: A stable name for programs; the message is for people.
    code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    message: str = _field(kw_only=False)
    hint: _Hint = _Hint()
    task_id: str | None = None

    #: The further fields of the errors of a class, with their defaults.
    _fields: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {
            name: vars(cls)[name]
            for name, kind in cls.__annotations__.items()
            if name in vars(cls) and "ClassVar" not in str(kind)
        }
        cls._fields = {**cls._fields, **own}

    if not TYPE_CHECKING:
        __signature__ = _Signature()

        def __init__(
            self,
            message: str,
            *,
            hint: str | None = None,
            task_id: str | None = None,
            **fields: Any,
        ) -> None:
            super().__init__(message)
            for name in fields:
                if name not in self._fields:
                    raise unknown_option(type(self).__name__, name, self._fields)
            # A group has a `message` of its own that says the same and cannot be set.
            vars(self).update(self._fields, **fields, message=message, task_id=task_id)
            self.hint = hint

    def __str__(self) -> str:
        text = f"{self.message} ({self.hint})" if self.hint else self.message
        return visible(text)

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take keywords, so the default of (cls, args) would fail.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


class UsageError(TaskorchError):
    """The call asked for something impossible."""

    code = "usage"


class InvalidTaskError(UsageError, ValueError):
    """A task, an option or an argument is not well formed."""

    code = "invalid_task"


class UnkeptResultError(InvalidTaskError):
    """
    The journal cannot keep the task's result: the task fails at once.

    It is not tried again, since it would return the like again.
    """

    code = "unkept_result"


class ValidationFailedError(UsageError, ValueError):
    """
    The validator refused a task.

    Attributes:
        findings: Every finding, as `(path, message)` pairs.
    """

    code = "validation_failed"
    default_hint = "mend every finding and submit again"

    findings: tuple[tuple[str, str], ...] = ()


class DuplicateTaskError(UsageError):
    """
    A task with this id, or this idempotency key, exists with other content.

    Attributes:
        differences: In what it differs, as `(task id, field, what it was, what it is)`;
            empty if what it was has left memory.
    """

    code = "duplicate_task"
    default_hint = "use another id"

    differences: tuple[tuple[str, str, str, str], ...] = ()


class UnknownTaskError(UsageError, LookupError):
    """No task has this id."""

    code = "unknown_task"
    default_hint = "orch.tasks() lists the tasks that are known"


class UnknownAgentError(UsageError, LookupError):
    """No worker has this name."""

    code = "unknown_agent"


class UnknownCapabilityError(UsageError):
    """
    No worker has the capabilities of the task.

    Attributes:
        capability: The missing capability.
        known: The known capabilities.
    """

    code = "unknown_capability"

    capability: str = ""
    known: tuple[str, ...] = ()


class UnsatisfiableError(UsageError):
    """
    The task asks for more than any worker or resource pool will ever have.

    Attributes:
        resource: The resource that is short.
        need: How much the task asks for.
        most: The most there is.
    """

    code = "unsatisfiable"

    resource: str = ""
    need: float = 0.0
    most: float = 0.0


class ResourcesTakenError(UsageError):
    """
    A resource exists, but too little is free.

    Attributes:
        resource: The resource that is short.
        need: How much was asked for.
        free: How much is free.
        holders: Who holds it: ids of tasks, and allocations by hand.
    """

    code = "resources_taken"
    default_hint = "allocate(…, timeout=…) waits for it"

    resource: str = ""
    need: float = 0.0
    free: float = 0.0
    holders: tuple[str, ...] = ()


class AllocationError(UsageError):
    """
    The allocation is gone, or not the caller's.

    Attributes:
        allocation_id: Its id.
        owner: Its owner, if it is there.
    """

    code = "allocation"

    allocation_id: str = ""
    owner: str = ""


class CycleError(UsageError):
    """
    Tasks depend on each other in a ring.

    Attributes:
        cycle: The ids of one ring; each needs the next, and the last the first.
    """

    code = "cycle"
    default_hint = "remove one of these dependencies"

    cycle: tuple[str, ...] = ()


class PlanningError(UsageError):
    """
    No plan meets a request.

    Attributes:
        conflict: The fewest of its constraints that cannot hold together, in words;
            empty if it is not for them.
        trace: The attempts, and where each ended.
    """

    code = "no_plan"
    default_hint = "change the request, or say more of how it can be done"

    def __init__(
        self,
        message: str,
        *,
        conflict: tuple[str, ...] = (),
        trace: tuple[str, ...] = (),
        hint: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, task_id=task_id)
        self.conflict = conflict
        self.trace = trace


class InvalidTransitionError(UsageError):
    """
    The task's state does not allow this, or the state machine vetoed it.

    Attributes:
        story: The task's history, as `(state, seconds since the epoch)`.
    """

    code = "invalid_transition"

    story: tuple[tuple[str, float], ...] = ()


class AnswerRefusedError(InvalidTransitionError):
    """
    An answer to a question does not count.

    It comes too early, too late or twice, or by somebody who may not answer. The events
    of the task have it, as an `AnswerRefused`.
    """

    code = "answer_refused"


class NotRunningError(UsageError, RuntimeError):
    """
    The orchestrator has not been started, or it has stopped.

    An executor raises a RuntimeError then, and so it is one.
    """

    code = "not_running"


class QueueFullError(UsageError):
    """The queue did not admit the task."""

    code = "queue_full"
    default_hint = "wait for tasks to finish, or have a queue that admits more"


class ReentryError(UsageError):
    """A policy called its orchestrator."""

    code = "reentry"
    default_hint = "a policy decides from its arguments and its context alone"


class WouldBlockError(UsageError):
    """The call would block the event loop that must do the work."""

    code = "would_block"
    default_hint = "await the handle, or use orch.aio"


class WouldDeadlockError(UsageError):
    """
    The task waits for work that cannot start before the task itself ends.

    Attributes:
        holders: The ids of the tasks that hold what is needed.
    """

    code = "would_deadlock"
    default_hint = (
        "ask for less, or give the waiting task no resources and no writes, and its "
        "executor more threads"
    )

    holders: tuple[str, ...] = ()


class TaskFailure(TaskorchError):  # noqa: N818 - what became of a task, not ours
    """A task did not complete."""

    code = "task_failure"


class TaskFailedError(TaskFailure):
    """
    A task failed, and its own exception cannot be raised here.

    Attributes:
        type: The name of the exception's class.
        traceback: The traceback as text, or "".
    """

    code = "task_failed"

    type: str = ""
    traceback: str = ""


class UnwantedResultError(TaskFailure):
    """
    An attempt returned what `RetryPolicy(retry_if_result=…)` does not want.

    Attributes:
        result: The returned value.
    """

    code = "unwanted_result"

    result: object = None


class TaskTimeoutError(TaskFailure):
    """An attempt ran longer than its timeout, or the task missed its deadline."""

    code = "task_timeout"


class TaskExpiredError(TaskFailure):
    """The task waited in the queue for longer than it may."""

    code = "task_expired"


class TaskCancelledError(TaskFailure):
    """
    The task was cancelled.

    Attributes:
        reason: Why, in a few words.
    """

    code = "task_cancelled"

    reason: str = ""


class DependencyFailedError(TaskFailure):
    """
    The task is blocked by a dependency that did not complete.

    Its `__cause__` is what the first of the root causes raised, if that is known.

    Attributes:
        root_causes: The ids of the tasks where the failure began.
    """

    code = "dependency_failed"
    default_hint = "orch.rerun_task(id) of a root cause unblocks what depends on it"

    root_causes: tuple[str, ...] = ()


class TooManyFailuresError(TaskFailure):
    """
    More calls of a map failed than its `allow_failures` allows.

    Its `__cause__` is the error of the first.

    Attributes:
        failed: The ids of the calls that failed.
    """

    code = "too_many_failures"
    default_hint = "allow more of them, or mend what failed and run the map again"

    failed: tuple[str, ...] = ()


class ProgramFailedError(TaskFailure):
    """
    A program could not be started, or ended with another code than 0.

    Attributes:
        result: The `ProgramResult`, or None if it could not be started.
    """

    code = "program_failed"

    result: Any = None


class MemoryLimitError(ProgramFailedError):
    """
    A program, with all that it had started, passed its limit of memory and was ended.

    Attributes:
        peak: MiB that it had at the most, as far as that was seen.
        limit: MiB that it could have.
        how: The way in which the limit was held: "cgroup-v2", "cgroup-v1" or "watch".
    """

    code = "memory_limit"
    default_hint = "grant it more memory_mb, or let it use less"

    peak: float = 0.0
    limit: float = 0.0
    how: str = ""


class AgentProgramError(TaskFailure):
    """
    The program of a worker could not be started, refused, or gave no answer.

    It is that of a worker whose template has `executor="lines"`.
    """

    code = "agent_program"


class AttemptLostError(TaskFailure):
    """The worker that ran an attempt died under it."""

    code = "attempt_lost"


class OutcomeUnknownError(AttemptLostError):
    """
    Nobody knows whether an attempt took effect elsewhere.

    An attempt may raise it itself, with its `task_id`: it is made again, or held for a
    decision if the task says `idempotent=False`.
    """

    code = "outcome_unknown"


class ResultGoneError(TaskFailure):
    """
    The task completed, but its result is gone.

    It finished so long ago that its result has left memory; or the class of what the
    journal kept is gone, or was changed; or the node of a cluster is gone that had it.
    """

    code = "result_gone"
    default_hint = "keep the handle, or raise keep_finished and keep_finished_mb"


class ComponentError(TaskFailure):
    """
    A policy raised, or returned what its protocol does not allow.

    Attributes:
        component: The role of the policy: `router`, `validator`, `queue`, …
    """

    code = "component"

    component: str = ""


class GateFailedError(TaskFailure):
    """
    A phase of a workflow has not passed its gate.

    Attributes:
        findings: Every check, as `(check, whether it holds, why not)`.
    """

    code = "gate_failed"
    default_hint = "mend that, and orch.workflows.restart(id) looks again"

    findings: tuple[tuple[str, bool, str], ...] = ()


class WorkflowFailedError(  # pyright: ignore[reportIncompatibleVariableOverride]
    TaskFailure, ExceptionGroup[Exception]
):
    """
    A workflow cannot complete: tasks failed, and the others ended.

    It is a group of the errors of these tasks, for `except*`.

    Attributes:
        failures: The errors of the tasks where that began, by their ids in the
            workflow; what only waits for these is not among them. What `except*` and
            `split` give has those of its part.
        exceptions: The same, without the ids.
    """

    code = "workflow_failed"
    default_hint = "orch.workflows.restart(id) runs again what failed"

    def __new__(
        cls,
        message: str,
        *,
        failures: Mapping[str, BaseException] | None = None,
        hint: str | None = None,
        task_id: str | None = None,
    ) -> Self:
        """Make a group of *failures*, which is not empty and has errors only."""
        del hint, task_id
        errors = [_as_error(error) for error in (failures or {}).values()]
        return super().__new__(cls, message, errors or [TaskFailure(message)])

    def __init__(
        self,
        message: str,
        *,
        failures: Mapping[str, BaseException] | None = None,
        hint: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, task_id=task_id)
        self.failures: Mapping[str, BaseException] = failures or {}

    def derive(self, excs: Sequence[Exception], /) -> WorkflowFailedError:  # type: ignore[override]
        """Return the part of the error with the exceptions *excs*."""
        part: dict[str, BaseException] = {}
        for error in excs:
            # A part of a failure that is a group is another object than that.
            leaf = next(leaves(error, most=-1))
            names = (
                name
                for name, each in zip(self.failures, self.exceptions, strict=False)
                if name not in part
                and any(leaf is one for one in leaves(each, most=-1))
            )
            part[next(names, f"#{len(part)}")] = error
        return type(self)(
            self.message, failures=part, hint=self.hint, task_id=self.task_id
        )

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(vars(self))
        return _rebuild_group, (type(self), self.message, state.pop("failures"), state)


class JournalError(TaskorchError):
    """The journal cannot be used."""

    code = "journal"


class JournalUnavailableError(JournalError):
    """
    The journal cannot be written now.

    Attributes:
        outcome: `"unknown"`: what was to be written may have been kept or not, and
            submitting the same again settles it. `"refused"`: nothing was kept.
    """

    code = "journal_unavailable"
    default_hint = "see orch.health(); it goes on by itself once writing works again"

    outcome: str = "unknown"


class JournalTakenError(JournalError):
    """Another orchestrator has the journal; this one may not write."""

    code = "journal_taken"
    default_hint = "stop this one: the other has taken over its work"


class StoreUnavailableError(TaskorchError):
    """The store of a large value does not answer; its objects are still there."""

    code = "store_unavailable"
    default_hint = "nothing is lost: ask again once the store answers"


class InternalError(TaskorchError):
    """A fault of taskorch itself."""

    code = "internal"
    default_hint = "this is a bug in taskorch: please report it with this message"


class Permanent(Exception):  # noqa: N818 - reads as a statement where it is raised
    """Raised by a task to say that a retry is of no use: it fails at once."""


class PolicyDeniedError(ValidationFailedError, Permanent):
    """
    Policies deny a task, its result, or a command.

    Attributes:
        verdict: The `taskorch.ext.governance.Verdict`, with the violations.
    """

    code = "policy_denied"
    default_hint = "a waiver lets it pass, or other policies do"

    verdict: Any = None


class StepError(UsageError, Permanent):
    """
    A step was asked for as it cannot be, or differs from the one that is kept.

    The task fails at once: another attempt would ask for the same.
    """

    code = "step"


class UnenforceableError(ProgramFailedError, Permanent):
    """
    This machine cannot hold a limit or a scope: nothing was started.

    To try it again here is of no use.
    """

    code = "unenforceable"
    default_hint = (
        "`taskorch doctor` says what can be held; enforce='if possible' runs it anyway"
    )


class AttemptInterrupted(BaseException):
    """
    Raised inside a task by `TaskContext.checkpoint` when the attempt is to stop.

    It derives from BaseException so that an `except Exception` of the task's does
    not swallow it. Let it pass; `finally` blocks run as usual.
    """
