"""
A task as the runtime has it: the call, its result, and the data beside it.

Decisions: executors, retention, rooms-and-loading.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from copy import copy
from threading import Lock
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, TypeAlias

import attrs

from taskorch.core.engine._deciders import PolicyDeciders, copy_containers, failure_of
from taskorch.core.executors._threads import Worker
from taskorch.core.kernel import SKIPPED, Effect, Stop, TaskRow, is_waiting
from taskorch.errors import (
    ComponentError,
    DependencyFailedError,
    NotRunningError,
    ResultGoneError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
    TaskFailure,
    UnwantedResultError,
)
from taskorch.events import (
    RecoveryAttempted,
    ResultsUsed,
    TaskParentsAdded,
    TaskRenewed,
)
from taskorch.kit.checks import built_in
from taskorch.kit.ends import strip
from taskorch.kit.fence import is_values
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import NS
from taskorch.kit.people import act_alone, caller
from taskorch.kit.plain import GONE
from taskorch.kit.visible import show
from taskorch.kit.words import moment
from taskorch.model import (
    TERMINAL,
    Call,
    MadeFor,
    Missing,
    Question,
    RecoveryAttempt,
    Task,
    TaskState,
    Units,
    Wait,
    call_type,
    named,
    question_of,
    task_of_call,
)
from taskorch.model.ids import stem_of
from taskorch.policies._kinds import POLICIES

if TYPE_CHECKING:
    from taskorch.core.engine._given import Tracer
    from taskorch.core.engine._loops import LoopHost
    from taskorch.core.engine._publisher import Publisher
    from taskorch.core.kernel import Kernel
    from taskorch.errors import InternalError, JournalError
    from taskorch.events import Event
    from taskorch.protocols import AttemptExecutor


# -- what is to be done about attempts, in the order in which it was decided -----------

# Effects are decided under the lock and done outside, by whichever thread has left the
# lock first. Without an order of its own, a SIGSTOP could follow the SIGCONT that
# revokes it, and the kernel would take a stopped program for running.


class EffectQueue:
    """Effects that are still to be carried out on one attempt."""

    __slots__ = ("_carrier", "_todo")

    def __init__(self) -> None:
        self._todo: deque[Effect] = deque()
        #: Held by the thread that carries them out.
        self._carrier = threading.Lock()

    def append(self, effect: Effect) -> None:
        """Add *effect*, the latest decision; hold the lock of the runtime."""
        self._todo.append(effect)

    def drain(self, carry_out: Callable[[Effect], object]) -> None:
        """
        Carry out all effects, unless another thread does; do not hold that lock.

        The other thread then carries out these, too: this one does not wait, since the
        other may be in a callback of the user's that waits for it.
        """
        while self._todo and self._carrier.acquire(blocking=False):
            try:
                while self._todo:
                    carry_out(self._todo.popleft())
            finally:
                self._carrier.release()


# -- what the runtime keeps of one task: the cargo of its row --------------------------


#: The metadata key for the id of the task run that has added a task. Earlier versions
#: wrote True.
ADDED: Final = MadeFor.ADDED
#: The number of an event that has not come yet.
NEVER: Final = 1 << 62
#: The number of the last kept event when nothing is waited for any more.
ALL_KEPT: Final = NEVER << 1

#: The hint for a task that has ended because of what it needed.
_RERUN_BOTH: Final = "orch.rerun_task(id) of a root cause, and then of this task"
#: A further hint for one that failed in an earlier incarnation.
RERUN_FAILED: Final = "TaskOrchestrator(rerun_failed=True), when it is submitted again"
NOTHING_LATE: Final[Mapping[int, Any]] = ReadOnly({})
NOTHING_TURNED: Final[Mapping[str, str]] = ReadOnly({})
#: Never changed: see `note_used`.
NOTHING_USED: Final[dict[str, None]] = {}
#: Held while a part of a work is made that two threads may ask for at once.
_MAKING: Final = Lock()


#: Why an attempt is to stop, as it is told: the orchestrator may also stop, or have
#: begun a later attempt in its place.
StopReason: TypeAlias = Stop | Literal["stop", "abandoned"]


class Control:
    """State of a running attempt that says whether it is to stop, and why."""

    __slots__ = (
        "attempt",
        "effects",
        "executor",
        "handle",
        "interrupted",
        "usage",
        "why",
    )

    def __init__(self, attempt: int) -> None:
        self.attempt: int = attempt
        self.why: StopReason = ""
        #: Whether a checkpoint has stopped it: the request may have been withdrawn
        #: since.
        self.interrupted: bool = False
        #: The executor that can stop and suspend it, and its handle there; None before
        #: it was begun and after its end.
        self.executor: AttemptExecutor[Any] | None = None
        self.handle: Any = None
        #: The effects that are to be carried out on it, once there were any.
        self.effects: EffectQueue | None = None
        #: The resources that its handler has measured.
        self.usage: Units = ()

    @property
    def is_to_end(self) -> bool:
        """Whether the attempt is to end, and not only at its next checkpoint."""
        return self.why not in ("", "suspend")

    def attach(self, executor: AttemptExecutor[Any], handle: Any) -> bool:
        """
        Note that *executor* can stop and suspend it, by *handle*.

        Returns:
            Whether it was told to end before: then only the caller stops it. If a
            coroutine is cancelled twice, its cleanup is cut off.
        """
        with _MAKING:
            self.handle, self.executor = handle, executor
            return self.is_to_end

    def detach(self) -> None:
        """Drop the references from an ended attempt's control to its work."""
        with _MAKING:
            self.executor = self.handle = None

    def tell(self, why: StopReason) -> tuple[AttemptExecutor[Any] | None, Any]:
        """Tell it to stop; return the executor and handle to stop it by."""
        with _MAKING:
            self.why = why
            return self.executor, self.handle


class Extra:
    """Data that only some tasks have."""

    __slots__ = (
        "added",
        "adder",
        "checkpoint",
        "control",
        "earlier",
        "is_watched",
        "late",
        "own",
        "progress",
        "recoveries",
        "since",
        "trace",
        "turned",
        "used",
    )

    def __init__(self) -> None:
        self.progress: Any = None
        #: The recoveries that were tried for its attempts.
        self.recoveries: tuple[RecoveryAttempt, ...] = ()
        self.checkpoint: Any = None
        #: Whether its end needs no record, since a caller has asked for it.
        self.is_watched: bool = False
        self.control: Control | None = None
        #: Late results of attempts that were given up: see `_documents`.
        self.late: Mapping[int, Any] = NOTHING_LATE
        #: Errors of attempts that were followed by another: see `_documents`.
        self.earlier: Mapping[int, Any] = NOTHING_LATE
        #: The `traceparent` of its submission, once that event has it.
        self.trace: str | None = None
        #: Ids of parents that were added after the submission.
        self.added: tuple[str, ...] = ()
        #: The next run of each parent that was run again while it waited.
        self.turned: Mapping[str, str] = NOTHING_TURNED
        #: The run of the task from which on added tasks are its own: see `TaskRenewed`.
        #: Empty: all that were ever added are.
        self.since: str = ""
        #: The task that has added it, from its metadata, once it has left memory.
        self.adder: Any = None
        #: Ids of the tasks whose results its attempts have asked for.
        self.used: dict[str, None] = NOTHING_USED
        #: Data that extensions keep of the task in memory, by their names: see
        #: `_noted`.
        self.own: dict[str, Any] = {}


def tried(event: RecoveryAttempted) -> RecoveryAttempt:
    """Return the recovery that *event* tells of."""
    names = attrs.fields_dict(RecoveryAttempt)
    return RecoveryAttempt(*(getattr(event, name) for name in names))


class Emitted:
    """The value of an event from outside: the cargo of its record."""

    __slots__ = ("document", "value")

    def __init__(self, value: Any, document: Any = None) -> None:
        self.value: Any = value
        #: The document that a durable orchestrator keeps of it, once made.
        self.document: Any = document


class Holder(Protocol):
    """
    Protocol: what a task asks of the runtime that has it.

    Attributes:
        kernel: Has the rows of the tasks.
        committed: The last event that is kept.
        opened_at: The last event of earlier incarnations.
        litter: What is freed once the lock is.
        halted: Whether it has left its unfinished tasks to its next incarnation.
        fault: A fault of our own, after which nothing starts.
        directory: Knows the runs that were run again.
    """

    directory: Any
    kernel: Kernel
    committed: int
    opened_at: int
    litter: list[Any]
    halted: bool
    fault: InternalError | JournalError | None

    def drop(self) -> None:
        """Drop the data about tasks that have left memory; hold the lock."""
        ...


class MakesSteps(Holder, Protocol):
    """
    Protocol: a runtime, as its parts see it: a lock, a clock, and steps.

    Attributes:
        lock: Guards the kernel.
        now: Returns the time, in ns.
        name: The name that threads are named after.
        epoch: The number of this incarnation, for the fence.
        started: Whether submitted tasks may begin.
        opened: Whether the journal has been read.
        begins: Whether queued tasks may begin.
        closed: Whether it has ended.
        draining: Whether it is about to stop.
        wanted: The classes of events that have listeners.
        deciders: Asks the policies.
        loops: Has the loop of coroutines.
        publisher: Publishes events.
        is_left_outside: Tells whether the caller is no task that goes on, and no
            listener.
    """

    lock: threading.Lock
    now: Callable[[], int]
    name: str
    epoch: int
    started: bool
    opened: bool
    begins: bool
    closed: bool
    draining: bool
    wanted: frozenset[type[Event]]
    deciders: PolicyDeciders
    loops: LoopHost
    publisher: Publisher
    is_left_outside: ClassVar[Callable[..., bool]]

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Enter the lock, make *change*, and act on what the kernel decides."""
        ...

    def settle(self, now: int) -> Launch | None:
        """Let the kernel choose, and return what is to be done; hold the lock."""
        ...

    def launch(self, launch: Launch | None) -> None:
        """Do what a step has decided; do not hold the lock."""
        ...

    def wake(self, work: Work) -> None:
        """Wake the callers that wait for *work*."""
        ...

    def is_quiet(self) -> bool:
        """Return whether nothing can proceed without input from outside."""
        ...

    def refuse_submission(self) -> None:
        """Raise if no task may come in; hold the lock."""
        ...

    def fail_stop(self, error: BaseException) -> None:
        """Stop everything because of a fault of our own."""
        ...

    def interrupted(self, error: BaseException) -> None:
        """Stop everything, as an exception from outside has cut a step short."""
        ...


class Work:
    """
    A task as the runtime has it: the call to make, and its result or error.

    The public handle is a subclass, so that a task is one object less.
    """

    #: Whether it is a dependency among arguments: see `taskorch.model._arguments`.
    stands_for_result = True

    __slots__ = (
        "__weakref__",
        "_above",
        "_after",
        "_args",
        "_ctx",
        "_error",
        "_executor",
        "_extra",
        "_fn",
        "_kwargs",
        "_row",
        "_rt",
        "_task",
        "_value",
        "_visible_after",
        "_waiters",
    )

    def __init__(
        self,
        runtime: Any,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        executor: AttemptExecutor[Any] | None,
        ctx: Context,
    ) -> None:
        # Any above: the public type of a handle does not import the runtime. In a
        # simulation it is the simulated one.
        self._rt: Holder = runtime
        self._row: TaskRow = None  # type: ignore[assignment]  # set at submission
        self._fn = fn
        self._args = args
        self._kwargs = kwargs or NO_KWARGS
        #: The executor; None: that of its worker.
        self._executor = executor
        self._ctx = ctx
        self._task: Task | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], object]] | None = None
        self._extra: Extra | None = None
        #: The handles of its parents, until it ends: those that it was submitted with,
        #: in that order, and then those that were added.
        self._above: tuple[Work, ...] = ()
        #: The ids by which its submission named them; None: those that they have.
        self._after: tuple[str, ...] | None = ()
        #: In a durable orchestrator, the number of the event that must be kept before
        #: the task's end may be reported; until that comes, NEVER plus the number of
        #: the one that must be kept before an attempt may begin. It is one integer,
        #: since every task has it.
        self._visible_after = 0

    @property
    def _begin_after(self) -> int:
        """The number of the event that must be kept before an attempt may begin."""
        settled = self._visible_after
        return settled - NEVER if settled >= NEVER else settled

    def _kept_value(self) -> Any:
        return self._value


#: Shared by all calls without keyword arguments; never handed out, only unpacked.
NO_KWARGS: Final[dict[str, Any]] = {}
#: Never entered, only copied.
NO_VARIABLES: Final = Context()


def capture(spans: Tracer | None) -> Context:
    """
    Return the caller's context variables, for tasks that it submits.

    They are never entered, only copied, so many tasks may share them. With *spans*, the
    span of the submission is the current one in them.
    """
    if spans is not None:
        return spans.capture()
    found = copy_context()
    if not len(found):
        # Mostly there are none, and it is one object less for each task.
        return NO_VARIABLES
    if caller() is not None:
        found.run(act_alone)
    return found


def extra_of(work: Work) -> Extra:
    """Return the rarer data of *work*, made if need be."""
    extra = work._extra
    if extra is None:
        with _MAKING:
            extra = work._extra
            if extra is None:
                extra = work._extra = Extra()
    return extra


def is_cached(work: Work) -> bool:
    """Return whether *work* may have a cached result."""
    task = work._task
    return task is not None and task.cache is not None


def note_cache(work: Work) -> None:
    """Keep *work* from the quickest way, if it may have a cached result."""
    if is_cached(work):
        extra_of(work)


def after_of(work: Work) -> tuple[str, ...]:
    """Return the ids by which the submission of *work* named its parents."""
    after = work._after
    return tuple([w._row.id for w in work._above]) if after is None else after


def names_above(work: Work) -> tuple[str, ...]:
    """Return the ids of all parents of *work*, as they were at the time."""
    extra = work._extra
    return after_of(work) if extra is None else after_of(work) + extra.added


def adder_of(work: Work) -> Any:
    """Return what the metadata of *work* says of the task that added it."""
    task = work._task
    if task is None:
        return None if work._extra is None else work._extra.adder
    return None if task.metadata is None else task.metadata.get(ADDED)


def added_by(work: Work) -> str:
    """Return the id of the task run that has added *work*, or ""."""
    adder = adder_of(work)
    return adder if isinstance(adder, str) else ""


def forget_task(work: Work) -> None:
    """
    Drop data that only attempts of *work* need; hold the lock.

    The handle, if there is one, keeps the result and the id of the task that added it.
    """
    adder, extra = adder_of(work), None
    if adder is not None:
        extra = Extra()
        extra.adder = adder
    # The order matters, since other threads read it without the lock.
    work._extra, work._task = extra, None
    work._above = work._after = ()
    work._args, work._kwargs = (), NO_KWARGS


def is_to_be_redone(work: Work) -> bool:
    """Return whether a re-run adds *work* anew: it did not complete, or asks."""
    has_failed = work._row.state in (TaskState.FAILED, TaskState.CANCELLED)
    return has_failed or question_in(work) is not None


def since_of(work: Work) -> str:
    """Return the run of its task from which on added tasks are its own: see `Extra`."""
    return "" if work._extra is None else work._extra.since


def note_used(work: Work, task_ids: Iterable[str]) -> tuple[str, ...]:
    """
    Note that *work* has asked for the results of tasks; hold the lock.

    Returns:
        The ids of those that are new.
    """
    extra = extra_of(work)
    fresh = tuple([task_id for task_id in task_ids if task_id not in extra.used])
    if extra.used is NOTHING_USED:
        extra.used = {}
    extra.used.update(dict.fromkeys(fresh))
    return fresh


def note_bonds(work: Work, event: TaskParentsAdded | TaskRenewed | ResultsUsed) -> None:
    """Note the tasks that *work* depends on or adds, by *event*."""
    if isinstance(event, TaskRenewed):
        extra_of(work).since = event.since
        work._rt.directory.reruns.left.update(event.left)
    elif isinstance(event, ResultsUsed):
        note_used(work, event.of)
    else:
        extra_of(work).added += event.after


def works_above(work: Work) -> dict[str, Work]:
    """Return the parents of an unfinished task, by the ids that they had then."""
    # A task that ends meanwhile lets go of the works last.
    above = work._above
    return dict(zip(names_above(work), above, strict=False)) if above else {}


def parent_named(task_id: str, parents: Mapping[str, Work]) -> Work | None:
    """Return the parent *task_id*, or another run of that task, from *parents*."""
    found = parents.get(task_id)
    if found is None:
        stem = stem_of(task_id)
        of_it = (work for name, work in parents.items() if stem_of(name) == stem)
        found = next(of_it, None)
    return found


def place_under(work: Work, parents: Mapping[str, Work]) -> None:
    """Make *parents* the parents of *work*, by these ids."""
    work._after = tuple(parents)
    work._above = tuple(parents.values())


def add_above(work: Work, parents: Mapping[str, Work]) -> None:
    """Add *parents* to the parents of *work*; hold the lock."""
    work._after = after_of(work)
    extra_of(work).added += tuple(parents)
    if work._row.state not in TERMINAL:
        work._above += tuple(parents.values())


def turn(work: Work, parent_id: str, rerun_id: str) -> None:
    """Let *work* wait for the next run of a parent, in its place; hold the lock."""
    extra = extra_of(work)
    extra.turned = {**extra.turned, parent_id: rerun_id}


def forget_above(work: Work) -> None:
    """Drop the parents of *work*, which has ended; hold the lock."""
    if work._above:
        work._after = after_of(work)
        work._above = ()


def control_of(work: Work, attempt: int) -> Control:
    """Return the control of an attempt; one that is not the newest is to stop."""
    extra = extra_of(work)
    control = extra.control
    if control is not None and control.attempt == attempt:
        return control
    with _MAKING:
        control = extra.control
        if control is None or control.attempt < attempt:
            control = extra.control = Control(attempt)
        elif control.attempt > attempt:
            control = Control(attempt)
            control.why = "abandoned"
        return control


def detach_control(work: Work, attempt: int) -> None:
    """Detach the control of an attempt that has ended, which leads to the work."""
    control = None if work._extra is None else work._extra.control
    if control is not None and control.attempt == attempt:
        control.detach()


def row_of(work: Work) -> TaskRow:
    """Return the row of *work*, even if the kernel has dropped it."""
    return work._row


def told_row(work: Work) -> TaskRow | None:
    """Return the row of *work*; None while its end is not kept, and nobody told."""
    return work._row if work._visible_after <= work._rt.committed else None


def task_of(row: TaskRow, left: Work | None = None) -> Task:
    """Return the task of *row* as the user's policies see it: with its id."""
    # The row of a task that has left memory does not lead to the work.
    work: Work = row.cargo if left is None else left
    task = work._task
    if task is None:
        fn = work._fn
        if fn is None:  # pragma: no cover - only plain calls come without a task
            return Task(row.bucket.spec.type, id=row.id)
        name = call_type(fn)
        task = task_of_call(name, fn, work._args, work._kwargs, row.id)
        work._task = task
    elif task.id != row.id:
        # The task had no id, or is that of a workflow, which other runs share.
        after = task.after if task.id is None else after_of(work)
        task = work._task = named(task, row.id, after)
    return task


def set_result(work: Work, value: Any) -> None:
    """Let *work*, which has its row, complete with *value*, perhaps of a journal."""
    work._value, work._error = value, None
    if issubclass(type(value), Missing):
        task_id = work._row.id
        msg = f"task {task_id} has completed, and its result is lost: {value.why}"
        hint = "bring that back and open the journal again, or run the task again"
        work._error = ResultGoneError(msg, hint=hint, task_id=task_id)


def set_error(work: Work, error: BaseException) -> None:
    """Let *error* be why *work* failed, if it does."""
    work._error = error


def gone_result(work: Work) -> ResultGoneError | None:
    """Return why the result of *work*, which completed, is lost; None if it is not."""
    value, error = work._value, work._error
    if issubclass(type(value), Missing):
        try:
            back = value.look()
        except ResultGoneError as gone:
            return gone
        if back is not value:
            # The class stands below the line that opens the journal, and is defined
            # now.
            work._value = back
            error = work._error = None
    return error if isinstance(error, ResultGoneError) else None


def result_of_wait(work: Work, emitted: Emitted | None) -> Any:
    """Return the result of a wait: that of the event, or, at its end, the default."""
    if emitted is not None:
        return emitted.value
    payload: Any = None if work._task is None else work._task.payload
    if isinstance(payload, Missing):
        return payload
    return payload.default if isinstance(payload, Wait) else None


def why_unresolvable(work: Work) -> str:
    """Return a sentence on the function that *work* lacks; "" if it lacks none."""
    join = None if work._task is None else work._task.join
    if isinstance(join, Missing) and is_waiting(work._row):
        return join.why
    return work._fn.why if isinstance(work._fn, Missing) else ""


def nothing() -> None:
    """Do nothing, in the place of a function where there is none."""


def unfinished(work: Work) -> NotRunningError:
    """Return the error of a task that is left for the next incarnation."""
    task_id = work._row.id
    msg = f"the orchestrator has stopped, and task {task_id} has not ended"
    hint = "it goes on when the journal is opened again"
    return NotRunningError(msg, hint=hint, task_id=task_id)


def first_error(work: Work, roots: tuple[str, ...]) -> BaseException | None:
    """Return the error of the first of *roots*, for which *work* failed, if known."""
    tasks = work._rt.kernel.tasks
    above = {parent._row.id: parent for parent in work._above}
    for root in roots:
        row = tasks.get(root)
        found = above.get(root) if row is None else row.cargo
        error = None if found is None else error_of(found)
        if error is not None:
            return error
    return None


def load_failures() -> None:
    """
    Import the rules for failures, before any thread holds the lock for one.

    That takes a tenth of a second, and a program without failures needs none of it.
    """
    built_in("recovery")


def ended_earlier(work: Work) -> bool:
    """Return whether *work* had ended when this incarnation began."""
    opened_at: int = work._rt.opened_at
    return work._visible_after <= opened_at


def failed_earlier(work: Work) -> bool:
    """Return whether *work* had failed, or was skipped for a failure, by then."""
    row = work._row
    failed = row.state is TaskState.FAILED or is_skipped(row)
    return failed and ended_earlier(work)


def is_skipped(row: TaskRow) -> bool:
    """Return whether *row* was cancelled because what it needs did not complete."""
    return (
        row.state is TaskState.CANCELLED
        and row.extra is not None
        and row.extra.stop_reason.startswith(SKIPPED)
    )


def is_gone(row: TaskRow) -> bool:
    """Return whether the new definition of its workflow run lacks the task of *row*."""
    extra = row.extra
    return (
        row.state is TaskState.CANCELLED
        and extra is not None
        and extra.stop_reason == GONE
    )


#: Whether the caller only looks, like a web page: it is not given an error then.
LOOKS: Final[ContextVar[bool]] = ContextVar("taskorch-looks", default=False)


def note_given(work: Work, error: BaseException | None) -> None:
    """Note that *error*, of *work*, is given to a caller, and need not be logged."""
    # A simulated runtime has none.
    notices = getattr(work._rt, "notices", None)
    if notices is None or LOOKS.get():
        return
    if work._row.state is TaskState.FAILED:
        notices.ask(work)
    if isinstance(error, DependencyFailedError):
        notices.ask_named((work._row.id, *error.root_causes))


def give_error(work: Work) -> BaseException | None:
    """Return why *work* did not complete, in words that every incarnation has."""
    error = raised_by(work)
    note_given(work, error)
    return error


def allowed_error(work: Work) -> TaskFailedError | None:
    """Return the error that is the result of *work*, if its failure was allowed."""
    row = work._row
    if row.state.value != "failed" or row.extra is None or row.extra.error is None:
        return None
    task = work._task
    if not (row.bucket.spec.allow_failure or (task is not None and task.allow_failure)):
        return None
    kind, message, _ = row.extra.error
    message = message.removeprefix(f"task {row.id}: ")
    text = f"task {row.id} raised {kind}: {message}".removesuffix(": ")
    return TaskFailedError(text, type=kind, task_id=row.id)


def error_of(work: Work) -> BaseException | None:
    """Return the error that a wait for *work* raises, if it did not complete."""
    error = raised_by(work)
    if isinstance(error, TaskFailure) and failed_earlier(work):
        return _with_when(error, work._row)
    return error


def _with_when(error: TaskFailure, row: TaskRow) -> TaskFailure:
    """Return *error* with the time of the earlier incarnation, and a hint."""
    cause, error = error.__cause__, copy(error)
    error.__cause__ = cause
    when = moment(row.ended_ns // NS)
    error.message = f"in an earlier incarnation, on {when}: {error.message}"
    error.args = (error.message,)
    again = (
        f"orch.rerun_task({stem_of(row.id)!r}) runs it again; so does {RERUN_FAILED}"
    )
    error.hint = "; ".join(filter(None, (error.hint, again)))
    return error


def raised_by(work: Work) -> BaseException | None:  # noqa: PLR0911 - one a cause
    """Return the exception that a wait for *work* raises: see `error_of`."""
    row = work._row
    extra = row.extra
    state = row.state.value
    if state == "cancelled":
        reason = "" if extra is None else extra.stop_reason
        msg = f"task {row.id} was cancelled: {reason}"
        return TaskCancelledError(msg, reason=reason, task_id=row.id)
    if state != "failed" or extra is None or extra.error is None:
        return None
    kind, message, cause = extra.error
    raised = work._error
    if cause in ("error", "permanent", "decision", "poisoned") and raised is not None:
        return raised
    if cause == "internal":
        fault = work._rt.fault
        assert fault is not None  # noqa: S101 - such a row has one
        failure: BaseException = type(fault)(message, hint=fault.hint)
        return failure
    if cause == "expired":
        return TaskExpiredError(f"task {row.id} expired: {message}", task_id=row.id)
    if cause == "component":
        # The message is "the router failed: …", or "ValueError: …, and then the …
        # failed".
        names = (*POLICIES, "join")
        name = next((n for n in names if f"the {n} failed: " in message), "")
        failed = ComponentError(
            f"task {row.id}: {message}", component=name, task_id=row.id
        )
        failed.__cause__ = raised
        return failed
    if cause in ("timeout", "deadline", "lost"):
        return failure_of(row)
    if cause == "dependency":
        msg = f"task {row.id}: {message}"
        roots = extra.first_roots
        failed_by = DependencyFailedError(
            msg, root_causes=roots, hint=_RERUN_BOTH, task_id=row.id
        )
        failed_by.__cause__ = first_error(work, roots)
        return failed_by
    # Our own errors begin with the task.
    text = message.removeprefix(f"task {row.id}: ")
    return TaskFailedError(f"task {row.id}: {text}", type=kind, task_id=row.id)


@attrs.define(eq=False)
class Launch:
    """Starts and stops that a step has decided, to be done outside the lock."""

    starts: list[tuple[TaskRow, int, Work, Worker | None]]
    #: The attempts about which something was decided besides starts.
    told: Sequence[Control] = ()


# -- how many bytes finished tasks hold, about: what leaves memory with them -----------

# Only objects without other references count: an array that many tasks are given exists
# once, and stays when one of them goes. It is an estimate: of many alike, a few are
# looked at, and tasks with few bytes do not count at all.


_MB: Final = 1 << 20
#: Types whose values are small, and refer to nothing.
LIGHT: Final = frozenset({type(None), bool, int, float, complex})
#: Types of objects that belong to the program, and to no task.
_SHARED: Final = (type, ModuleType, FunctionType, FrameType)
#: The least bytes of a task that is counted.
_LEAST: Final = 4_096
#: The most objects that are looked at in all, and among the parts of one, and how deep.
_MOST: Final = 300
_SAMPLE: Final = 32
_DEPTH: Final = 8
#: The most entries of metadata that count as small, and characters of a text.
_FEW: Final = 8
_SHORT: Final = 100
#: The latest finished tasks, which stay to be asked for, however much they hold.
_LATEST: Final = 8


def _count_of_item(things: list[Any]) -> int:
    return sys.getrefcount(things[0])


def _alone() -> int:
    """Return the reference count of an object in a list and in one more place."""
    place = [object()]
    return _count_of_item([place[0]])


_OWN_REFERENCES: Final = _alone()
#: The references by our frames and the submitted task, while a task ends.
_HANDS: Final = 4
#: One more for a local variable of a frame, which a dict of them refers to, too.
_LOCAL: Final = 2


class Weights:
    """Bytes that finished tasks hold, and the limit for them."""

    __slots__ = ("_by_row", "_look_at", "_most", "_rt", "_total")

    def __init__(self, rt: Holder, most: float | None) -> None:
        self._rt = rt
        self._most = None if most is None else int(most * _MB)
        self._by_row: dict[TaskRow, int] = {}
        self._total = 0
        self._look_at = self._most or 0

    def weigh(self, work: Work, value: Any, error: BaseException | None) -> int:
        """Return the bytes that *work* holds, which ends with *value* or *error*."""
        task, extra, args = work._task, work._extra, work._args
        if self._most is None:
            return 0
        is_bare = task is None and extra is None and error is None
        if is_bare and not work._kwargs and LIGHT.issuperset(map(type, (value, *args))):
            # Most tasks are so.
            return 0
        roots = [value, *args]
        if task is None or type(task.payload) is Call:
            # A mapping of a class of the user's counts as one object.
            kwargs = work._kwargs
            roots += kwargs.values() if type(kwargs) is dict else (kwargs,)
        else:
            roots.append(task.payload)
        if task is not None and not _is_small(task.metadata):
            roots.append(task.metadata)
        if extra is not None:
            roots += (extra.checkpoint, extra.progress)
        if error is not None:
            strip(error)
            roots.append(error)
        if LIGHT.issuperset(map(type, roots)):
            # Most tasks are so, and they are many.
            return 0
        return _size(roots, _HANDS, set(), _DEPTH)

    def note(self, row: TaskRow, size: int) -> None:
        """Note that *row* has ended, and holds *size* bytes; hold the lock."""
        if size >= _LEAST and row not in self._by_row:
            self._by_row[row] = size
            self._total += size

    def let_go(self, committed: float) -> bool:
        """
        Let the oldest leave memory while all hold too much; hold the lock.

        Tasks stay whose end has a later number than *committed*; the number of tasks to
        keep is the kernel's.

        Returns:
            Whether some have left.
        """
        if self._most is None or self._total <= self._look_at:
            return False
        kernel = self._rt.kernel
        tasks, finished = kernel.tasks, kernel.finished
        # Many have left memory by themselves.
        self._by_row = {
            row: size for row, size in self._by_row.items() if tasks.get(row.id) is row
        }
        self._total = sum(self._by_row.values())
        # Drop some more than needed, so that the next look is not at once.
        aim = self._most * 3 // 4 if self._total > self._most else self._most
        before = self._total
        while (
            self._total > aim
            and len(finished) > _LATEST
            and finished[0].cargo._visible_after <= committed
        ):
            self._total -= self._by_row.pop(finished[0], 0)
            self._rt.litter.append(finished[0].cargo)
            kernel.evict()
        # Tasks of a workflow run that goes on stay.
        self._look_at = max(self._most, self._total + self._most // 4)
        if kernel.dropped:
            self._rt.drop()
        return self._total < before


def _is_small(metadata: Mapping[str, Any] | None) -> bool:
    """Return whether *metadata* are too small to be worth measuring."""
    return metadata is None or (
        len(metadata) <= _FEW
        and all(
            type(value) in LIGHT or (type(value) is str and len(value) <= _SHORT)
            for value in metadata.values()
        )
    )


def size_of(result: Any) -> int:
    """Return the bytes of *result*, about, which a handle and some callers have."""
    return _size([result], 2 * _HANDS, set(), _DEPTH)


def _size(things: list[Any], hands: int, seen: set[int], depth: int) -> int:
    """
    Return the bytes of *things*, and of objects that only they refer to.

    Args:
        things: A list of the caller's own.
        hands: References to some of them by our own frames.
        seen: The objects that have been looked at, by their `id()`.
        depth: How deep it goes.
    """
    count = len(things)
    places = range(0, count, 1 if count <= _SAMPLE else count // _SAMPLE)
    total = 0
    for place in places:
        if len(seen) >= _MOST:
            break
        if sys.getrefcount(things[place]) > _OWN_REFERENCES + hands:
            continue
        thing = things[place]
        # The `__class__` of a value is the user's, and may raise.
        cls = type(thing)
        if cls in LIGHT or issubclass(cls, _SHARED) or id(thing) in seen:
            continue
        seen.add(id(thing))
        try:
            total += sys.getsizeof(thing)
        except BaseException as error:
            # Its `__sizeof__` is the user's.
            if not is_values(error):
                raise
            continue
        if depth:
            more = _LOCAL if type(thing) is TracebackType else 0
            total += _size(_parts(thing), more, seen, depth - 1)
    return total * count // max(1, len(places))


def _parts(thing: Any) -> list[Any]:
    """Return the objects that *thing*, or the frames of a traceback, refer to."""
    if type(thing) is not TracebackType:
        return gc.get_referents(thing)
    found: list[Any] = []
    trace: TracebackType | None = thing
    while trace is not None:
        found += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    return found


# -- results that are failures: see `RetryPolicy.retry_if_result` ----------------------


#: The most characters of a result that the message shows.
_SHOWN = 80


def unwanted(work: Work, value: Any) -> BaseException | None:
    """Return the error of an attempt whose *value* counts as a failure; or None."""
    task = work._task
    holds = None if task is None else task.retry.retry_if_result
    if holds is None:
        return None
    try:
        if not holds(copy_containers(value)):
            return None
    except BaseException as error:  # noqa: BLE001 - the rule is the user's
        return error
    task_id = work._row.id
    msg = f"task {task_id} returned {show(value, _SHOWN)}, which is worth a retry"
    return UnwantedResultError(msg, result=value, task_id=task_id)


def question_in(work: Work | None) -> Question | None:
    """Return the question of *work*; None if it is none, or has left memory."""
    task = None if work is None else work._task
    return None if task is None else question_of(task.payload)


def whom(work: Work | None) -> str:
    """Return who may answer the question of *work*, in words."""
    question = question_in(work)
    return "" if question is None else question.whom
