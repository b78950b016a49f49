"""
A task as the runtime has it: the call, its result, and what it holds.

Decisions: 0022, 0066, 0273.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from copy import copy
from datetime import UTC, datetime
from threading import Lock
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import attrs

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
from taskorch.executors._threads import Worker
from taskorch.kernel import SKIPPED, Effect, Stop, TaskRow, is_waiting
from taskorch.kit.checks import is_there
from taskorch.kit.ends import strip
from taskorch.kit.fence import is_values
from taskorch.kit.limits import NS
from taskorch.kit.people import act_alone, caller
from taskorch.kit.plain import GONE
from taskorch.kit.read_only import ReadOnly
from taskorch.kit.visible import show
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
from taskorch.runtime._deciders import PolicyDeciders, copy_containers, failure_of

if TYPE_CHECKING:
    from taskorch.errors import InternalError, JournalError
    from taskorch.events import Event
    from taskorch.kernel import Kernel
    from taskorch.protocols import AttemptExecutor
    from taskorch.runtime._loops import LoopHost
    from taskorch.runtime._publisher import Publisher
    from taskorch.telemetry._spans import Spans


# -- what is to be done about attempts, in the order in which it was decided -----------

# It is decided under the lock and done outside, by whichever thread has left the lock
# first: without an order of its own, a SIGSTOP could follow the SIGCONT that takes it
# back, and the kernel would take a program for running that stands still.


class EffectQueue:
    """What is still to be done about one attempt."""

    __slots__ = ("_carrier", "_todo")

    def __init__(self) -> None:
        self._todo: deque[Effect] = deque()
        #: Held by the thread that carries them out.
        self._carrier = threading.Lock()

    def append(self, effect: Effect) -> None:
        """Under the lock of the runtime: *effect* is the latest decision."""
        self._todo.append(effect)

    def drain(self, carry_out: Callable[[Effect], object]) -> None:
        """
        Outside that lock: do all that is left, unless another thread is at it.

        That one then does what was to be done here, too: nobody waits for it, since it
        may be in a callback of the user's that waits for us.
        """
        while self._todo and self._carrier.acquire(blocking=False):
            try:
                while self._todo:
                    carry_out(self._todo.popleft())
            finally:
                self._carrier.release()


# -- what the runtime keeps of one task: the cargo of its row --------------------------


#: What the metadata of a task says that another task of its run has added: the id of
#: that, of the run which did. Earlier taskorch wrote True.
ADDED: Final = MadeFor.ADDED
#: The number of a fact that has not come yet.
NEVER: Final = 1 << 62
#: As the number of the last fact that is kept: nothing is waited for any more.
ALL_KEPT: Final = NEVER << 1

#: What to do about a task that has ended because of what it needed.
_RERUN_BOTH: Final = "orch.rerun_task(id) of a root cause, and then of this task"
#: What else to do about one that failed in an earlier life.
RERUN_FAILED: Final = "TaskOrchestrator(rerun_failed=True), when it is submitted again"
NOTHING_LATE: Final[Mapping[int, Any]] = ReadOnly({})
NOTHING_TURNED: Final[Mapping[str, str]] = ReadOnly({})
#: Never changed: see `note_used`.
NOTHING_USED: Final[dict[str, None]] = {}
#: Held while a part of a work is made that two threads may ask for at once.
_MAKING: Final = Lock()


#: Why an attempt is to stop, as it is told: the orchestrator may stop as well, or have
#: begun a later attempt in its place.
StopReason: TypeAlias = Stop | Literal["stop", "abandoned"]


class Control:
    """What a running attempt is told: to stop, and why."""

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
        #: A checkpoint has told it so: what it was asked may be taken back since.
        self.interrupted: bool = False
        #: What stops and holds it, as far as it can, and what that finds it by; None
        #: before it was begun and after its end.
        self.executor: AttemptExecutor[Any] | None = None
        self.handle: Any = None
        #: What is still to be done about it, once there was anything.
        self.effects: EffectQueue | None = None
        #: What its handler has measured that it used.
        self.usage: Units = ()

    @property
    def is_to_end(self) -> bool:
        """Whether the attempt was told to end, not only at its next checkpoint."""
        return self.why not in ("", "suspend")

    def attach(self, executor: AttemptExecutor[Any], handle: Any) -> bool:
        """
        From now on *executor* stops and holds it, by *handle*.

        Returns:
            Whether it was told to end before: then the caller stops it, and nobody
            else does. A coroutine that is cancelled twice is cut off as it tidies up.
        """
        with _MAKING:
            self.handle, self.executor = handle, executor
            return self.is_to_end

    def detach(self) -> None:
        """Drop the references from an ended attempt's control to its work."""
        with _MAKING:
            self.executor = self.handle = None

    def tell(self, why: StopReason) -> tuple[AttemptExecutor[Any] | None, Any]:
        """Tell it to stop: the caller has it stopped by what is returned."""
        with _MAKING:
            self.why = why
            return self.executor, self.handle


class Extra:
    """What only some tasks have."""

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
        #: What was tried to mend its attempts.
        self.recoveries: tuple[RecoveryAttempt, ...] = ()
        self.checkpoint: Any = None
        #: Nobody needs to hear how it ends.
        self.is_watched: bool = False
        self.control: Control | None = None
        #: What attempts brought that did not count any more: see `_documents`.
        self.late: Mapping[int, Any] = NOTHING_LATE
        #: What attempts raised after which there was another: see `_documents`.
        self.earlier: Mapping[int, Any] = NOTHING_LATE
        #: The `traceparent` of its submission, once the fact of that says it.
        self.trace: str | None = None
        #: Ids of parents that came later: the submission did not name them.
        self.added: tuple[str, ...] = ()
        #: Of parents that were run again while it waited, the next run, by the one.
        self.turned: Mapping[str, str] = NOTHING_TURNED
        #: The run of its task from which on what was added is its own: see
        #: `TaskRenewed`. Empty: all that was ever added is.
        self.since: str = ""
        #: Once it has left memory: what its metadata says of who has added it.
        self.adder: Any = None
        #: Ids of the tasks whose results its attempts have asked for.
        self.used: dict[str, None] = NOTHING_USED
        #: What extensions keep in memory of the task, by their names: see `_noted`.
        self.own: dict[str, Any] = {}


def tried(event: RecoveryAttempted) -> RecoveryAttempt:
    """What *event* tells was tried to mend an attempt."""
    names = attrs.fields_dict(RecoveryAttempt)
    return RecoveryAttempt(*(getattr(event, name) for name in names))


class Emitted:
    """What came with an event from outside: the cargo of its fact."""

    __slots__ = ("document", "value")

    def __init__(self, value: Any, document: Any = None) -> None:
        self.value: Any = value
        #: What a durable orchestrator keeps of it, once that is made.
        self.document: Any = document


class Holder(Protocol):
    """
    What a task asks of the runtime that has it.

    Attributes:
        kernel: Has the rows of the tasks.
        committed: The last fact that is kept.
        opened_at: The last fact of earlier lives.
        halted: Whether it has left to its next life what has not ended.
        fault: A fault of our own, after which nothing starts.
    """

    kernel: Kernel
    committed: int
    opened_at: int
    halted: bool
    fault: InternalError | JournalError | None

    def drop(self) -> None:
        """Under the lock: let go what is kept of tasks that have left memory."""
        ...


class MakesSteps(Holder, Protocol):
    """
    A runtime, as its parts see it: a lock, a clock, and the steps that are made.

    Attributes:
        lock: Guards the kernel.
        now: Says the time, in ns.
        name: What threads are named after.
        epoch: The number of this life, for the fence.
        started: Whether what was submitted may begin.
        opened: Whether the journal has been read.
        begins: Whether what is queued may begin.
        closed: Whether it has ended.
        draining: Whether it is about to stop.
        wanted: The events that those who listen want to hear of.
        deciders: Asks the policies.
        loops: Has the loop of coroutines.
        publisher: Hands over facts.
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

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Enter the lock, make *change*, and do what follows from it."""
        ...

    def settle(self, now: int) -> Launch | None:
        """Under the lock: let the kernel choose, and note what is to be done."""
        ...

    def launch(self, launch: Launch | None) -> None:
        """Outside the lock: do what the step said."""
        ...

    def wake(self, work: Work) -> None:
        """Tell those who wait for *work*."""
        ...

    def is_quiet(self) -> bool:
        """Whether nothing can proceed without input from outside."""
        ...

    def refuse_submission(self) -> None:
        """Under the lock: called where tasks come in."""
        ...

    def fail_stop(self, error: BaseException) -> None:
        """A fault of our own: nothing starts any more, and nobody waits for ever."""
        ...

    def interrupted(self, error: BaseException) -> None:
        """An exception from outside has cut a step short: nobody knows where."""
        ...


class Work:
    """
    A task as the runtime has it: the call to make, and its result or error.

    The public handle is a subclass, so that a task is one object less.
    """

    #: Among the arguments of another task: see `taskorch.model._arguments`.
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
        # Any above: the public type of a handle does not drag the runtime along. In a
        # simulation it is the life that stands for one.
        self._rt: Holder = runtime
        self._row: TaskRow = None  # type: ignore[assignment]  # set at submission
        self._fn = fn
        self._args = args
        self._kwargs = kwargs or NO_KWARGS
        #: Where it runs; None: where its agent does.
        self._executor = executor
        self._ctx = ctx
        self._task: Task | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], object]] | None = None
        self._extra: Extra | None = None
        #: The handles of its parents, while it lives: those that it was submitted
        #: with, in that order, and then those that were added.
        self._above: tuple[Work, ...] = ()
        #: The ids by which its submission named them; None: those that they have.
        self._after: tuple[str, ...] | None = ()
        #: In a durable orchestrator, the number of the fact that must be kept before
        #: what became of the task may be told; until that comes, NEVER and the number
        #: of the one that must be kept before an attempt may begin. In one integer,
        #: since every task has it.
        self._visible_after = 0

    @property
    def _begin_after(self) -> int:
        """The number of the fact that must be kept before an attempt may begin."""
        settled = self._visible_after
        return settled - NEVER if settled >= NEVER else settled

    def _kept_value(self) -> Any:
        return self._value


#: Shared by all calls without keyword arguments; never handed out, only unpacked.
NO_KWARGS: Final[dict[str, Any]] = {}
#: Never entered, only copied.
NO_VARIABLES: Final = Context()


def capture(spans: Spans | None) -> Context:
    """
    The caller's context variables, for tasks that it submits.

    What is returned is never entered, only copied, so many tasks may share it. With
    *spans*, the span of the submission is the current one in them.
    """
    if spans is not None:
        return spans.capture()
    found = copy_context()
    if not len(found):
        # As mostly: nobody asks, and it is one object less for each task.
        return NO_VARIABLES
    if caller() is not None:
        found.run(act_alone)
    return found


def extra_of(work: Work) -> Extra:
    """The rarer part of *work*, made if need be."""
    extra = work._extra
    if extra is None:
        with _MAKING:
            extra = work._extra
            if extra is None:
                extra = work._extra = Extra()
    return extra


def is_cached(work: Work) -> bool:
    """Whether the result of *work* may be that of a like task."""
    task = work._task
    return task is not None and task.cache is not None


def note_cache(work: Work) -> None:
    """What may have the result of a like task does not take the quickest way."""
    if is_cached(work):
        extra_of(work)


def after_of(work: Work) -> tuple[str, ...]:
    """The ids by which the submission of *work* named its parents."""
    after = work._after
    return tuple([w._row.id for w in work._above]) if after is None else after


def names_above(work: Work) -> tuple[str, ...]:
    """The ids of all that *work* comes after, as they were called then."""
    extra = work._extra
    return after_of(work) if extra is None else after_of(work) + extra.added


def adder_of(work: Work) -> Any:
    """What the metadata of *work* says of the task that has added it: see `ADDED`."""
    task = work._task
    if task is None:
        return None if work._extra is None else work._extra.adder
    return None if task.metadata is None else task.metadata.get(ADDED)


def added_by(work: Work) -> str:
    """The id of the task, and of the run of that, which has added *work*, or ""."""
    adder = adder_of(work)
    return adder if isinstance(adder, str) else ""


def forget_task(work: Work) -> None:
    """
    Under the lock: *work* leaves memory, without all that only its attempts need.

    The handle, if there is one, keeps the result, and who has added the task.
    """
    adder, extra = adder_of(work), None
    if adder is not None:
        extra = Extra()
        extra.adder = adder
    # In this order: others ask without the lock.
    work._extra, work._task = extra, None
    work._above = work._after = ()
    work._args, work._kwargs = (), NO_KWARGS


def is_to_be_redone(work: Work) -> bool:
    """Whether *work* failed, was cancelled or asks somebody: a re-run adds it anew."""
    has_failed = work._row.state in (TaskState.FAILED, TaskState.CANCELLED)
    return has_failed or question_in(work) is not None


def since_of(work: Work) -> str:
    """From which run of its task on what was added is that of *work*: see `Extra`."""
    return "" if work._extra is None else work._extra.since


def note_used(work: Work, task_ids: Iterable[str]) -> tuple[str, ...]:
    """
    Under the lock: note that *work* has asked for the results of tasks.

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
    """Note what *event* says of the tasks on which *work* depends, or that it adds."""
    if isinstance(event, TaskRenewed):
        extra_of(work).since = event.since
    elif isinstance(event, ResultsUsed):
        note_used(work, event.of)
    else:
        extra_of(work).added += event.after


def works_above(work: Work) -> dict[str, Work]:
    """Works of the parents of a living task, by the ids they had then."""
    # What ends meanwhile lets go of the works last.
    above = work._above
    return dict(zip(names_above(work), above, strict=False)) if above else {}


def parent_named(task_id: str, parents: Mapping[str, Work]) -> Work | None:
    """The parent *task_id*, or another run of that task, from *parents* by id."""
    found = parents.get(task_id)
    if found is None:
        stem = stem_of(task_id)
        of_it = (work for name, work in parents.items() if stem_of(name) == stem)
        found = next(of_it, None)
    return found


def place_under(work: Work, parents: Mapping[str, Work]) -> None:
    """*work* comes after *parents*, by the ids that they have, or were given."""
    work._after = tuple(parents)
    work._above = tuple(parents.values())


def add_above(work: Work, parents: Mapping[str, Work]) -> None:
    """Under the lock: *work* comes after *parents* too."""
    work._after = after_of(work)
    extra_of(work).added += tuple(parents)
    if work._row.state not in TERMINAL:
        work._above += tuple(parents.values())


def turn(work: Work, parent_id: str, rerun_id: str) -> None:
    """Under the lock: *work* waits for the next run of a parent, in its place."""
    extra = extra_of(work)
    extra.turned = {**extra.turned, parent_id: rerun_id}


def forget_above(work: Work) -> None:
    """Under the lock: *work* has ended, and needs the results of no others."""
    if work._above:
        work._after = after_of(work)
        work._above = ()


def control_of(work: Work, attempt: int) -> Control:
    """What the attempt is told; one that is not the newest any more is to stop."""
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
    """The attempt has ended; what stopped it leads to the work."""
    control = None if work._extra is None else work._extra.control
    if control is not None and control.attempt == attempt:
        control.detach()


def row_of(work: Work) -> TaskRow:
    """The row of *work*, which has one: also of one that the kernel has let go."""
    return work._row


def task_of(row: TaskRow, left: Work | None = None) -> Task:
    """The task of *row* as the user's policies see it: with its id."""
    # Of one that has left memory, the row does not lead there.
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
        # It was given none, or is that of a workflow, which other runs have too.
        after = task.after if task.id is None else after_of(work)
        task = work._task = named(task, row.id, after)
    return task


def set_result(work: Work, value: Any) -> None:
    """*work*, which has its row, completes with *value*, as the journal gave it."""
    work._value = value
    if isinstance(value, Missing):
        task_id = work._row.id
        msg = f"task {task_id} has completed, and its result is lost: {value.why}"
        hint = "bring that back and open the journal again, or run the task again"
        work._error = ResultGoneError(msg, hint=hint, task_id=task_id)


def gone_result(work: Work) -> ResultGoneError | None:
    """Why the result of *work*, which has completed, cannot be had; None: it can."""
    value, error = work._value, work._error
    if type(value) is Missing:
        back = value.look()
        if back is not value:
            # Its class stands below the line that opens the journal.
            work._value = back
            error = work._error = None
    return error if isinstance(error, ResultGoneError) else None


def result_of_wait(work: Work, emitted: Emitted | None) -> Any:
    """What *work*, a wait that ends well, completes with; None: its time is over."""
    if emitted is not None:
        return emitted.value
    payload: Any = None if work._task is None else work._task.payload
    if isinstance(payload, Missing):
        return payload
    return payload.default if isinstance(payload, Wait) else None


def why_unresolvable(work: Work) -> str:
    """What *work* needs and is gone, in a sentence; empty if nothing is."""
    join = None if work._task is None else work._task.join
    if isinstance(join, Missing) and is_waiting(work._row):
        return join.why
    return work._fn.why if isinstance(work._fn, Missing) else ""


def nothing() -> None:
    """What is called where there is nothing to call."""


def unfinished(work: Work) -> NotRunningError:
    """The error of a task that its orchestrator left for its next life."""
    task_id = work._row.id
    msg = f"the orchestrator has stopped, and task {task_id} has not ended"
    hint = "it goes on when the journal is opened again"
    return NotRunningError(msg, hint=hint, task_id=task_id)


def first_error(work: Work, roots: tuple[str, ...]) -> BaseException | None:
    """What the first of *roots*, for which *work* failed, raised, if it is known."""
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
    Load what judges failures, before anybody holds the lock for one.

    That takes a tenth of a second, and a program without failures needs none of it.
    """
    if is_there("taskorch.recovery"):
        import taskorch.recovery  # noqa: F401, PLC0415


def ended_earlier(work: Work) -> bool:
    """Whether *work*, which has ended, had when this life took up what was left."""
    opened_at: int = work._rt.opened_at
    return work._visible_after <= opened_at


def failed_earlier(work: Work) -> bool:
    """Whether the task of *work* had failed by then, or was skipped for a failure."""
    row = work._row
    failed = row.state is TaskState.FAILED or is_skipped(row)
    return failed and ended_earlier(work)


def is_skipped(row: TaskRow) -> bool:
    """Whether *row* was cancelled because what it needs did not complete."""
    return (
        row.state is TaskState.CANCELLED
        and row.extra is not None
        and row.extra.stop_reason.startswith(SKIPPED)
    )


def is_gone(row: TaskRow) -> bool:
    """Whether *row* stands for a task that the definition of its run has no more."""
    extra = row.extra
    return (
        row.state is TaskState.CANCELLED
        and extra is not None
        and extra.stop_reason == GONE
    )


#: Whether whoever asks only looks, as a page does: an error is not given to them.
LOOKS: Final[ContextVar[bool]] = ContextVar("taskorch-looks", default=False)


def note_given(work: Work, error: BaseException | None) -> None:
    """Note that *error*, of *work*, is given to a caller, and need not be logged."""
    # A simulated life has none.
    notices = getattr(work._rt, "notices", None)
    if notices is None or LOOKS.get():
        return
    if work._row.state is TaskState.FAILED:
        notices.ask(work)
    if isinstance(error, DependencyFailedError):
        notices.ask_named(error.root_causes)


def give_error(work: Work) -> BaseException | None:
    """Why the task of *work* did not complete, in words that each life has."""
    error = raised_by(work)
    note_given(work, error)
    return error


def allowed_error(work: Work) -> TaskFailedError | None:
    """The error that is the result of *work*, whose failure was allowed; or None."""
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
    """What is raised for who waits for *work*, whose task did not complete."""
    error = raised_by(work)
    if isinstance(error, TaskFailure) and failed_earlier(work):
        return _with_when(error, work._row)
    return error


def _with_when(error: TaskFailure, row: TaskRow) -> TaskFailure:
    """*error* anew, which says that it is of an earlier life, and what to do then."""
    cause, error = error.__cause__, copy(error)
    error.__cause__ = cause
    error.message = f"in an earlier life, on {moment(row.ended_ns)}: {error.message}"
    error.args = (error.message,)
    again = (
        f"orch.rerun_task({stem_of(row.id)!r}) runs it again; so does {RERUN_FAILED}"
    )
    error.hint = "; ".join(filter(None, (error.hint, again)))
    return error


def moment(ns: int) -> str:
    """A time, for people."""
    return f"{datetime.fromtimestamp(ns // NS, UTC):%Y-%m-%d %H:%M:%S} UTC"


def raised_by(work: Work) -> BaseException | None:  # noqa: PLR0911 - one a cause
    """The exception that a wait for *work* raises: see `error_of`."""
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
        assert fault is not None  # noqa: S101 - it says so
        failure: BaseException = type(fault)(message, hint=fault.hint)
        return failure
    if cause == "expired":
        return TaskExpiredError(f"task {row.id} expired: {message}", task_id=row.id)
    if cause == "component":
        # "the router failed: …", or what the task raised, "and then the … failed".
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
    # Errors of ours begin with the task.
    text = message.removeprefix(f"task {row.id}: ")
    return TaskFailedError(f"task {row.id}: {text}", type=kind, task_id=row.id)


@attrs.define(eq=False)
class Launch:
    """What a step says is to be done once the lock is free."""

    starts: list[tuple[TaskRow, int, Work, Worker | None]]
    #: The attempts about which something was decided besides starts.
    told: Sequence[Control] = ()


# -- how many bytes finished tasks hold, about: what leaves memory with them -----------

# Counted is what nobody else refers to: an array that many tasks are given is there
# once, and stays when one of them goes. It is an estimate: of many alike, a few are
# looked at, and what holds little is not counted at all.


_MB: Final = 1 << 20
#: Types of which a value is small, and refers to nothing.
LIGHT: Final = frozenset({type(None), bool, int, float, complex})
#: What is the program's, and no task's.
_SHARED: Final = (type, ModuleType, FunctionType, FrameType)
#: Bytes from which a task is counted.
_LEAST: Final = 4_096
#: Things that are looked at in all, among the parts of one, and how deep.
_MOST: Final = 300
_SAMPLE: Final = 32
_DEPTH: Final = 8
#: Of metadata that are small: how many, and the characters of a text.
_FEW: Final = 8
_SHORT: Final = 100
#: Latest finished tasks that stay, however much they hold, to be asked for.
_LATEST: Final = 8


def _count_of_item(things: list[Any]) -> int:
    return sys.getrefcount(things[0])


def _alone() -> int:
    """How often something is referred to that is in a list and in one more place."""
    place = [object()]
    return _count_of_item([place[0]])


_OWN_REFERENCES: Final = _alone()
#: By how many more while its task ends: our frames, and the task as it was submitted.
_HANDS: Final = 4
#: And a local of a frame, which can be in a dict of them, too.
_LOCAL: Final = 2


class Weights:
    """The bytes that finished tasks hold, and how many they may."""

    __slots__ = ("_by_row", "_look_at", "_most", "_rt", "_total")

    def __init__(self, rt: Holder, most: float | None) -> None:
        self._rt = rt
        self._most = None if most is None else int(most * _MB)
        self._by_row: dict[TaskRow, int] = {}
        self._total = 0
        self._look_at = self._most or 0

    def weigh(self, work: Work, value: Any, error: BaseException | None) -> int:
        """The bytes that *work* holds, which ends with *value* or *error*."""
        task, extra, args = work._task, work._extra, work._args
        if self._most is None:
            return 0
        is_bare = task is None and extra is None and error is None
        if is_bare and not work._kwargs and LIGHT.issuperset(map(type, (value, *args))):
            # As of most tasks.
            return 0
        roots = [value, *args]
        if task is None or type(task.payload) is Call:
            # A mapping of a class of the user's counts as one thing.
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
            # As of most tasks; they are many.
            return 0
        return _size(roots, _HANDS, set(), _DEPTH)

    def note(self, row: TaskRow, size: int) -> None:
        """Under the lock: *row* has ended, and holds *size* bytes."""
        if size >= _LEAST and row not in self._by_row:
            self._by_row[row] = size
            self._total += size

    def let_go(self, committed: float) -> bool:
        """
        Under the lock: let the oldest leave memory while all hold too much.

        Those stay whose end is a later fact than *committed*; the number is that of the
        kernel.

        Returns:
            Whether some have left.
        """
        if self._most is None or self._total <= self._look_at:
            return False
        kernel = self._rt.kernel
        tasks, finished = kernel.tasks, kernel.finished
        # Many have left by themselves.
        self._by_row = {
            row: size for row, size in self._by_row.items() if tasks.get(row.id) is row
        }
        self._total = sum(self._by_row.values())
        # A little further, so as not to look again at once.
        aim = self._most * 3 // 4 if self._total > self._most else self._most
        before = self._total
        while (
            self._total > aim
            and len(finished) > _LATEST
            and finished[0].cargo._visible_after <= committed
        ):
            self._total -= self._by_row.pop(finished[0], 0)
            kernel.evict()
        # Those of a run that goes on stay.
        self._look_at = max(self._most, self._total + self._most // 4)
        if kernel.dropped:
            self._rt.drop()
        return self._total < before


def _is_small(metadata: Mapping[str, Any] | None) -> bool:
    """Whether it is not worth while to look how large *metadata* are."""
    return metadata is None or (
        len(metadata) <= _FEW
        and all(
            type(value) in LIGHT or (type(value) is str and len(value) <= _SHORT)
            for value in metadata.values()
        )
    )


def size_of(result: Any) -> int:
    """The bytes of *result*, about, which a handle and some callers have, too."""
    return _size([result], 2 * _HANDS, set(), _DEPTH)


def _size(things: list[Any], hands: int, seen: set[int], depth: int) -> int:
    """
    The bytes of *things*, and of what only they refer to.

    Args:
        things: A list of the caller's own.
        hands: References that some of them have besides: of frames of ours.
        seen: What has been looked at, by its `id()`.
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
        # What a value says of its class is the user's, and may raise.
        cls = type(thing)
        if cls in LIGHT or issubclass(cls, _SHARED) or id(thing) in seen:
            continue
        seen.add(id(thing))
        try:
            total += sys.getsizeof(thing)
        except BaseException as error:
            # Its __sizeof__ is the user's.
            if not is_values(error):
                raise
            continue
        if depth:
            more = _LOCAL if type(thing) is TracebackType else 0
            total += _size(_parts(thing), more, seen, depth - 1)
    return total * count // max(1, len(places))


def _parts(thing: Any) -> list[Any]:
    """What *thing* refers to; of a traceback, what the locals of its frames do."""
    if type(thing) is not TracebackType:
        return gc.get_referents(thing)
    found: list[Any] = []
    trace: TracebackType | None = thing
    while trace is not None:
        found += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    return found


# -- results that are failures: see `RetryPolicy.retry_if_result` ----------------------


#: Characters of a result that the message shows.
_SHOWN = 80


def unwanted(work: Work, value: Any) -> BaseException | None:
    """Why an attempt of *work* that returned *value* failed all the same, if it did."""
    task = work._task
    holds = None if task is None else task.retry.retry_if_result
    if holds is None:
        return None
    try:
        if not holds(copy_containers(value)):
            return None
    except BaseException as error:  # noqa: BLE001 - it is the user's, as the task's are
        return error
    task_id = work._row.id
    msg = f"task {task_id} returned {show(value, _SHOWN)}, which is worth a retry"
    return UnwantedResultError(msg, result=value, task_id=task_id)


def question_in(work: Work | None) -> Question | None:
    """The question that *work* is; None: it is none, or has left memory."""
    task = None if work is None else work._task
    return None if task is None else question_of(task.payload)


def whom(work: Work | None) -> str:
    """Who may answer the question that *work* is, in words."""
    question = question_in(work)
    return "" if question is None else question.whom
