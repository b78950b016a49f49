"""The ways in and out: what comes in, how workers go on, how attempts end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from time import sleep
from types import CodeType, CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    InvalidTransitionError,
    PolicyDeniedError,
    ProgramFailedError,
    ResultGoneError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.executors._threads import Worker
from taskorch.kernel import AttemptOutcome, Bucket, PolicyFault, Spec, TaskRow
from taskorch.kit.described import declared
from taskorch.kit.ends import strip, unawaited
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.visible import show
from taskorch.model import (
    NO_RETRY,
    TERMINAL,
    Call,
    Task,
    TaskState,
    Units,
    call_type,
    may_refer,
    references,
    refuse_in,
    task_of_call,
)
from taskorch.model.ids import earlier_ids, number_of, stem_of
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._attempts import Attempt, outcome_of, usage_of
from taskorch.runtime._committer import Committer
from taskorch.runtime._context import (
    BUDGET,
    CURRENT,
    LOCAL,
    AttemptContext,
    context_of,
    current_budget,
    current_or_none,
    resolved,
)
from taskorch.runtime._documents import (
    document_of,
    document_of_end,
    keep_earlier,
    keep_late,
)
from taskorch.runtime._loops import PAUSES, yield_gil
from taskorch.runtime._stale import dependents, is_earlier, parents_of, used_by
from taskorch.runtime._translation import executor_for
from taskorch.runtime._waiting import blockade, is_hopeless
from taskorch.runtime._work import (
    ALL_KEPT,
    LIGHT,
    Emitted,
    Launch,
    Work,
    add_above,
    capture,
    detach_control,
    error_of,
    is_to_be_redone,
    load_failures,
    note_given,
    nothing,
    task_of,
    unfinished,
    unwanted,
)

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime, TaskEngine
    from taskorch.runtime._submission import Renewing

# -- an attempt whose function has returned the handle of another task: it ends as
# that does

# It is as if it waited for the result, and no thread did: it has given its slot back,
# and its timeout, its cancellation and all else about it are those of an attempt that
# waits.


def adopt_result_of(
    rt: Runtime, row: TaskRow, attempt: int, work: Work, target: Work
) -> None:
    """Have the attempt end with the outcome of *target*, without waiting for that."""
    if target._rt is not rt:
        # Nothing here would be told of its end.
        rt.finish(row, attempt, work, None, _foreign(target, row.id))
        return
    _Ending(rt, row, attempt, work, target).begin()


def _foreign(target: Work, task_id: str) -> UnknownTaskError:
    """The error of a task that has returned the handle of another orchestrator."""
    msg = f"task {task_id} returned {target!r}, which is of another orchestrator"
    hint = "wait there, with handle.result(), and return what it returns"
    return UnknownTaskError(msg, hint=hint, task_id=task_id)


class _Ending:
    """The end of an attempt, once that of another task is known."""

    def __init__(
        self, rt: Runtime, row: TaskRow, attempt: int, work: Work, target: Work
    ) -> None:
        self._rt = rt
        self._row = row
        self._attempt = attempt
        self._work = work
        self._target = target
        self._context = context_of(work, attempt)
        self._is_over = False
        #: What listens to the other task.
        self._waiter: Callable[[], object] | None = None

    def begin(self) -> None:
        """Begin to wait; a wait that could never end fails the attempt."""
        waiting = self._rt.waiting
        waiting.note_used(self._context, (self._target,))
        if self._context.cancelled:
            self._finish(None, AttemptInterrupted(self._context._control.why))
            return
        try:
            waiting.enter(self._context, (self._target._row,))
        except TaskorchError as error:
            self._finish(None, error)
            return
        waiting.note(self._context, self._stop)
        self._listen()
        if self._context.cancelled:
            # It was told between the two.
            self._stop()

    def _listen(self) -> None:
        when = self._rt.waiting.when
        self._waiter = when(self._target, _is_known, self._tell)
        if self._is_over:
            # It was told before this came back.
            self._listen_no_more()

    def _listen_no_more(self) -> None:
        # Each refers to the other.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._rt.waiting.remove(self._target, waiter)

    def _tell(self) -> None:
        """Under the lock: something has become of the other task."""
        # Not here: a step of the kernel is under way.
        self._rt.publisher.put([(self._conclude, None)])

    def _stop(self) -> None:
        """The attempt is to stop."""
        with self._rt.lock:
            self._tell()

    def _conclude(self, _: None) -> None:
        """On the publisher's thread: the wait is over, and so is the attempt."""
        rt, target = self._rt, self._target
        if self._is_over:
            return
        is_told = rt.waiting.is_told(target)
        if not (self._context.cancelled or is_told):
            # A re-run has let it go meanwhile.
            self._listen()
            return
        self._is_over = True
        self._listen_no_more()
        rt.waiting.forget(self._context, (target._row,), self._stop)
        if self._context.cancelled:
            self._finish(None, AttemptInterrupted(self._context._control.why))
            return
        if target._row.state is TaskState.CANCELLED:
            # What the user's StateMachine forbids, or fails at, ends as a failure.
            with suppress(InvalidTransitionError, PolicyFault, TaskorchError):
                self._cancel()
        self._finish(*_end_of(target))

    def _cancel(self) -> None:
        rt, row = self._rt, self._row
        why = f"{self._target._row.id}, as which it was to end, was cancelled"

        def change(now: int) -> None:
            if row.attempt == self._attempt:
                rt.kernel.cancel(row, now, why)

        rt.step(change)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._rt.finish(self._row, self._attempt, self._work, value, error)


def _is_known(work: Work) -> bool:
    # What is left to the next life need not be known: each attempt is told to stop.
    return is_hopeless(work)


def _end_of(target: Work) -> tuple[Any, BaseException | None]:
    """The result of *target*, or what `result()` of it raises."""
    row = target._row
    if isinstance(target._error, ResultGoneError):
        return None, target._error
    if row.state is TaskState.COMPLETED:
        return target._value, None
    if row.state in TERMINAL:
        error = error_of(target)
    else:
        error = blockade(row) if is_hopeless(target) else unfinished(target)
    note_given(target, error)
    return None, error


# -- what comes in: tasks, runs of workflows, re-runs, dependencies, and events --------


#: Tasks that are run again in one step: the lock is held for a few milliseconds.
_RERUNS: Final = 500


def submit_tasks(
    rt: TaskEngine,
    tasks: Iterable[Task],
    *,
    replace: bool = False,
    run: str = "",
    renewing: Renewing | None = None,
) -> list[Work]:
    """
    Submit tasks, all or none; *run* is that of a workflow that they are of, or "".

    What says which of those that are there are made again is *renewing*.

    Raises:
        UsageError: One was refused; none is accepted.
    """
    rt.deciders.refuse_reentry()
    if not isinstance(tasks, Iterable):
        msg = f"a list of tasks is submitted, not {show(tasks)}"
        raise InvalidTaskError(msg, hint="use submit_task(task) for one task")
    rt.durable()
    tasks = tasks if isinstance(tasks, list | tuple) else list(tasks)
    submission = rt.submission
    batch = submission.preparation.prepare(tasks, run)
    if batch.needs_more or batch.ids or batch.refs or batch.have_keys:
        if rt.directory.recovered is not None:
            rt.recall(submission.names(batch))
        inside = None if renewing is not None else current_or_none()
        if inside is not None and number_of(inside.task_id) > 1:
            rt.recall(earlier_ids(inside.task_id))
            renewing = _OfEarlierRuns(rt, inside)

    def change(now: int) -> list[Work]:
        rt.refuse_new()
        admitted = submission.admit(batch, now, replace=replace, renewing=renewing)
        if renewing is not None:
            renewing.admitted(now)
        return admitted

    works: list[Work]
    try:
        works = rt.step(change, keep=True)
    except PolicyDeniedError as denied:
        if rt.governor is not None:
            rt.governor.refuse(denied.verdict)
        raise
    return works


class _OfEarlierRuns:
    """
    Which of the tasks that a re-run submits are made again, though they are there.

    They are those that came while an earlier run was under way, which has asked for
    their results: all of them if it had completed, or had come after other runs; else
    those that did not complete, and questions.
    """

    decides: bool = False

    def admitted(self, now: int) -> None:
        """Nothing follows."""

    def __init__(self, rt: TaskEngine, inside: AttemptContext) -> None:
        self._rt = rt
        self._inside = inside

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Whether *work* is made again; *is_other*: another task is submitted now."""
        rt, ours = self._rt, self._inside.task_id
        name = stem_of(work._row.id)
        if not is_earlier(rt, work, ours):
            return False
        for earlier_id in earlier_ids(ours):
            if not rt.directory.is_known(earlier_id):
                continue
            earlier = rt.directory.known(earlier_id)
            used = map(stem_of, used_by(earlier))
            came_since = name in used and not is_earlier(rt, work, earlier_id)
            if came_since and (is_other or self._is_to_be(work, earlier)):
                return True
        return False

    def _is_to_be(self, work: Work, earlier: Work) -> bool:
        return (
            earlier._row.state is TaskState.COMPLETED
            or parents_of(earlier) != parents_of(self._inside._work)
            or is_to_be_redone(work)
        )

    def is_anew(self, work: Work) -> bool:
        """Whether what it has added in its turn is made again, too."""
        return work._row.state is TaskState.COMPLETED


def submit_run(
    rt: TaskEngine,
    run_id: str,
    tasks: Mapping[str, Task],
    above: Mapping[str, Iterable[str]],
) -> dict[str, Work] | None:
    """
    Submit the tasks of a workflow as they stand in it, under the ids of a new run.

    The *tasks* are by their ids in the workflow; *above* has, of each, the ids of those
    that it waits for.

    Returns:
        Their works by the same ids; None if some task has options: submit all as
        `submit_tasks` takes them.
    """
    rt.deciders.refuse_reentry()
    rt.durable()
    prepared = rt.submission.preparation.prepare_run(run_id, tasks, above)
    if prepared is None:
        return None
    batch, works = prepared

    def change(now: int) -> bool:
        rt.refuse_new()
        return rt.submission.place(batch, now) is not None

    return works if rt.step(change, keep=True) else None


def rerun(rt: TaskEngine, task_id: str, *, downstream: bool = False) -> Work:
    """
    Run a finished task again.

    Then, if it is to go *downstream*, run again what depends on it, of what is in
    memory; what has not ended of that is cancelled, unless it waits for the task.

    Raises:
        UnknownTaskError: There is none, or it has left memory, and no journal has
            it.
        InvalidTransitionError: It has not ended; or it was run again, and this is
            not the latest run.
        CycleError: It would wait for a task that is to wait for it.
    """
    rt.recall((task_id,))

    works: list[Work] = []

    def change(now: int) -> Work:
        rt.refuse_new()
        again = rt.succession.rerun(task_id, now, anew=True)
        if downstream:
            works.extend(row.cargo for row in dependents(rt, again._row))
        return again

    result: Work = rt.step(change, keep=True)
    _rerun_stale(rt, works)
    return result


def rerun_below(rt: TaskEngine, task_id: str) -> None:
    """Run again what is in memory and had the result of an earlier run of a task."""
    with rt.lock:
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        rows = [] if row is None else dependents(rt, row)
    _rerun_stale(rt, [row.cargo for row in rows])


def _rerun_stale(rt: TaskEngine, works: Sequence[Work]) -> None:
    def go_on(part: Sequence[Work], now: int) -> None:
        rt.refuse_submission()
        for work in part:
            rt.succession.rerun_stale(work, now)

    for start in range(0, len(works), _RERUNS):
        rt.step(partial(go_on, works[start : start + _RERUNS]), keep=True)


def add_parents(rt: TaskEngine, task_id: str, parent_ids: Iterable[str]) -> None:
    """
    Make a waiting task wait for more tasks, all of them or none.

    Their results are in its `context.results`. Those that it waits for already, or
    that have completed, do no harm.

    Raises:
        UnknownTaskError: There is no such task, or it has left memory; or one of
            the others is unknown.
        InvalidTransitionError: It does not wait for other tasks any more.
        CycleError: One of them waits for it, however indirectly.
    """
    names = tuple(parent_ids)

    def change(now: int) -> None:
        rt.refuse_submission()
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        if row is None:
            msg = f"no task in memory has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        works = [rt.directory.find(name, task_of(row)) for name in names]
        rows = [work._row for work in works]
        fresh = rt.kernel.add_parents(row, rows, now)
        by_id = {work._row.id: work for work in works}
        add_above(row.cargo, {parent.id: by_id[parent.id] for parent in fresh})

    rt.recall((task_id, *names))
    rt.step(change, keep=True)


def emit(rt: TaskEngine, name: str, payload: Any, keep_ns: int) -> int:
    """
    Emit an event from outside: release the tasks that wait for it; their number.

    Raises:
        InvalidTaskError: The journal cannot keep *payload*.
    """
    rt.deciders.refuse_reentry()
    committer = rt.durable()
    document = None
    if committer is not None:
        document = document_of(committer.journal.document, "payload", payload)
    emitted = Emitted(payload, document)

    def change(now: int) -> int:
        rt.refuse_submission()
        if committer is not None and keep_ns and name not in rt.kernel.awaited:
            # Nobody waits for it: it is kept itself.
            committer.documents[emitted] = document
        return rt.kernel.emit(name, emitted, keep_ns, now)

    let_go: int = rt.step(change, keep=True)
    return let_go


def control(rt: TaskEngine, task_id: str, act: Callable[[TaskRow, int], bool]) -> bool:
    """
    Call *act* on the latest run of a task; False if it has left memory, or was left.

    Raises:
        UnknownTaskError: No task has this id.
    """

    def change(now: int) -> bool:
        run_id = rt.directory.reruns.latest(task_id)
        row = rt.kernel.tasks.get(run_id)
        if row is None:
            if run_id in rt.kernel.evicted:
                return False
            msg = f"no task has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        return False if rt.is_left(row) else act(row, now)

    rt.recall((task_id,))
    return bool(rt.step(change, keep=True))


# -- calls on their way in, and attempts on theirs to the end --------------------------

# These functions are methods of the runtime; they are here so that both can be read.


_SLICE: Final = 512
_MANY: Final = 4_096


@attrs.frozen
class KnownCall:
    """
    What calls under one name come to.

    Attributes:
        code: That of the function, if it is a plain one without attributes, which could
            say something else of it.
        bucket: Where its tasks wait.
        executor: Who calls it.
    """

    code: CodeType | None
    bucket: Bucket
    executor: AttemptExecutor[Any]


def _acquire(lock: threading.Lock) -> None:
    """
    On a worker: acquire *lock*, which was not free, without queueing for it if it can.

    `locked()` does not know of one that has it and waits for the GIL still. On a worker
    no interrupt comes between this and the `try` that follows.
    """
    for pause in PAUSES:
        sleep(pause)
        if lock.acquire(blocking=False):
            return
    lock.acquire()


def submit_calls(  # noqa: C901 - written out for speed
    rt: Runtime,
    fn: Callable[..., Any],
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
    ctx: Context | None = None,
) -> list[Work]:
    """
    Submit calls of *fn*, in slices: between two, others have their turn.

    Args:
        rt: The runtime.
        fn: The function.
        calls: The arguments of each call, and those by names.
        ctx: The context in which they run; None is that of the caller.

    Raises:
        UsageError: One was refused; those of the slices before it are accepted.
    """
    ctx = capture(rt.spans) if ctx is None else ctx
    known = rt.known_calls.get(fn.__qualname__) if type(fn) is FunctionType else None
    if known is None or known.code is not fn.__code__ or fn.__dict__:
        known = None
    is_asked = rt.governor is not None and rt.governor.is_asked_of(fn)
    is_told = known is None and declared(fn) is not None
    # A budget is named by a block, or by the task that the caller is in.
    is_in_task = LOCAL.worker is not None or CURRENT.get() is not None
    has_budget = (is_in_task or BUDGET.get()) and current_budget()
    if is_told or is_asked or _refer(calls) or has_budget:
        return submit_tasks(
            rt, [Task.call(fn, *args, kwargs=kwargs) for args, kwargs in calls]
        )
    committer = None if rt.committer is None else rt.durable()
    if known is None or known.bucket.forgotten:
        known = _known_call(rt, fn)
    bucket, executor, make = known.bucket, known.executor, rt.work_class
    works: list[Work] = []
    for args, kwargs in calls:
        # A comprehension is a call, until CPython 3.12.
        works.append(make(rt, fn, args, kwargs, executor, ctx))
    for work in works:
        if bucket.verdict is not None:
            break
        _validate_call(rt, bucket, work)
    documents: list[Any] = []
    if committer is not None:
        documents = _documents_of(committer, bucket.spec.type, fn, calls)
    if len(works) <= _SLICE:
        rt.step(
            partial(_place, rt, bucket, works, documents), keep=committer is not None
        )
        return works
    for start in range(0, len(works), _SLICE):
        place = slice(start, start + _SLICE)
        rt.step(partial(_place, rt, bucket, works[place], documents[place]))
    if committer is not None:
        committer.wait_kept(works[-1]._begin_after)
    return works


def _place(
    rt: Runtime, bucket: Bucket, works: list[Work], documents: list[Any], now: int
) -> None:
    """Under the lock: take in *works*, which wait for nothing."""
    if rt.draining or rt.closed or rt.fault is not None:
        rt.refuse_new()
    if documents and rt.committer is not None:
        rt.committer.documents.update(zip(works, documents, strict=True))
    submit, prefix, numbers = rt.kernel.submit, rt._prefix, rt._numbers
    for work in works:
        task_id = prefix + str(next(numbers))
        if work._task is not None:
            # It is of our own making, and needs no copy with the id.
            object.__setattr__(work._task, "id", task_id)
        work._row = submit(task_id, bucket, work, now)


def _refer(calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> bool:
    """Whether an argument is a reference to a task, or has one in it."""
    values: list[Any] = []
    for args, kwargs in calls:
        values += args
        if kwargs:
            values += kwargs.values()
    if LIGHT.issuperset(map(type, values)) or not may_refer(values):
        return False
    return any(references(args, kwargs) for args, kwargs in calls)


def _documents_of(
    committer: Committer,
    kind: str,
    fn: Callable[..., Any],
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
) -> list[Any]:
    """What a journal keeps of calls of *fn*."""
    write = committer.call_documents(kind, fn)
    return [
        committer.document(Task(kind, Call(fn, args, kwargs)))
        if kwargs
        else write(args)
        for args, kwargs in calls
    ]


def _known_call(rt: Runtime, fn: Callable[..., Any]) -> KnownCall:
    """
    What calls of *fn* come to.

    Raises:
        InvalidTaskError: *fn* cannot be called.
    """
    if not callable(fn):
        msg = f"a function is submitted, not {show(fn)}"
        hint = "orch.submit_task(Task(…)) takes tasks"
        if isinstance(fn, CoroutineType):
            fn.close()
            hint = f"submit the function, which is called then: {fn.__name__}"
        raise InvalidTaskError(msg, hint=hint)
    if type(fn) is partial:
        refuse_in(fn)
    executor = executor_for(fn, None, rt.executors)
    code = fn.__code__ if type(fn) is FunctionType and not fn.__dict__ else None
    name = call_type(fn)
    known = rt.known_calls.get(name)
    if known is None or known.bucket.forgotten:
        if len(rt.known_calls) > _MANY:
            rt.known_calls.clear()
        bucket = rt.kernel_bucket(Spec(name))
    else:
        bucket = known.bucket
    known = rt.known_calls[name] = KnownCall(code, bucket, executor)
    return known


def knows(rt: Runtime, fn: Callable[..., Any]) -> bool:
    """Whether calls of *fn* are accepted without asking a validator."""
    known = rt.known_calls.get(call_type(fn))
    if known is None or known.bucket.forgotten:
        return False
    if rt.governor is not None and rt.governor.is_asked_of(fn):
        return False
    return known.bucket.verdict is True


def _validate_call(rt: Runtime, bucket: Bucket, work: Work) -> None:
    fn = work._fn or nothing
    task = task_of_call(bucket.spec.type, fn, work._args, work._kwargs)
    if rt.submission.preparation.validate(task, formed=True):
        bucket.verdict = True
    else:
        # Others will ask for it too.
        work._task = task


def run(rt: Runtime, worker: Worker, item: tuple[TaskRow, int, Work] | Attempt) -> Any:
    """On a worker: do one attempt, end it, and take the next in the same step."""
    row, attempt, work = worker.current = item
    handed = False
    value: Any = None
    error: BaseException | None = None
    if work._executor is rt.threads and work._extra is None:
        args, kwargs = work._args, work._kwargs
        try:
            if work._above and (args or kwargs):
                _, args, kwargs = resolved(work)
            # Without the stars, nothing is packed.
            if kwargs:
                value = work._ctx.copy().run(work._fn, *args, **kwargs)  # type: ignore[arg-type]
            elif args:
                value = work._ctx.copy().run(work._fn, *args)  # type: ignore[arg-type]
            else:
                value = work._ctx.copy().run(work._fn)  # type: ignore[arg-type]
        except BaseException as raised:  # noqa: BLE001 - it is the task's
            error = raised
        del args, kwargs
    else:
        handed, value, error = rt.attempts.perform(row, attempt, work)
    if error is not None and not handed and rt.strategies is not None:
        handed, value, error = rt.strategies.mend(row, attempt, work, error)
    worker.current = None
    try:
        if handed:
            # Something else goes on with it: the thread is free, the slot is not.
            return _next(rt, worker)
        if type(value) is CoroutineType:
            value, error = None, unawaited(value, row.id)
        if type(value) is rt.work_class:
            adopt_result_of(rt, row, attempt, work, value)
            return _next(rt, worker)
        return _end(rt, row, attempt, work, value, error, worker=worker)
    finally:
        # The frames of an error lead to this one: it keeps no task alive.
        del row, item, work, value, error


@defers_interrupts
def finish(
    rt: Runtime,
    row: TaskRow,
    attempt: int,
    work: Work,
    value: Any,
    error: BaseException | None,
    used: Units = (),
) -> None:
    """End an attempt, which was seen to use *used*, on any thread but a worker."""
    try:
        if issubclass(type(value), Work):
            adopt_result_of(rt, row, attempt, work, value)
            return
        if rt.lock.locked():
            yield_gil(rt.lock)
        _end(rt, row, attempt, work, value, error, used or usage_of(value))
    except Exception as fault:  # noqa: BLE001 - it is ours
        rt.fail_stop(fault)
    except BaseException as interrupt:
        rt.interrupted(interrupt)
        raise


def _end(  # noqa: C901, PLR0912, PLR0915 - one step, in order
    rt: Runtime,
    row: TaskRow,
    attempt: int,
    work: Work,
    value: Any,
    error: BaseException | None,
    used: Units = (),
    worker: Worker | None = None,
) -> tuple[TaskRow, int, Work] | None:
    """
    End an attempt, and begin what can begin then; the only way to an end.

    Args:
        rt: The runtime.
        row: The task.
        attempt: The number of the attempt.
        work: What it has done.
        value: What it has returned.
        error: What it has raised; None: it has returned.
        used: What it was seen to use.
        worker: The worker that calls this, which rests if there is nothing for it.

    Returns:
        What the worker does next.
    """
    if work._extra is not None and not used:
        control = work._extra.control
        if control is not None and control.attempt == attempt:
            used = control.usage
    if work._task is not None and error is None and work._task.retry is not NO_RETRY:
        error = unwanted(work, value)
    if rt.governor is not None and error is None:
        error = rt.governor.result_error(work, attempt, value)
    if error is not None:
        load_failures()
    committer, lock, kernel = rt.committer, rt.lock, rt.kernel
    document = None
    if committer is not None and (value is not None or error is not None):
        document, error = document_of_end(committer.document, row.id, value, error)
    weight = rt.weights.weigh(work, value, error)
    first = following = launch = settled = None
    if not lock.acquire(blocking=False):
        _acquire(lock)
    try:
        now = rt.now()
        if committer is not None and document is not None:
            committer.documents[work] = document
        if error is None:
            # As `TaskEngine.end_as_told`, without a call more for each task.
            if row.attempt == attempt and row.state not in TERMINAL:
                work._value = value
            if worker is not None and kernel.open:
                first = kernel.complete_for_next(row, attempt, now)
            if first is None:
                if used:
                    counts = kernel.end_attempt(
                        row, attempt, "completed", now, usage=used
                    )
                else:
                    counts = kernel.complete(row, attempt, now)
                if not counts:
                    keep_late(work, attempt, value)
        else:
            end_badly(rt, row, attempt, work, error, now, used)
        if worker is None:
            detach_control(work, attempt)
        if row.state in TERMINAL:
            if work._waiters is not None and committer is None:
                settled = work
            if weight:
                rt.weights.note(row, weight)
                if committer is None:
                    rt.weights.let_go(ALL_KEPT)
        del row, value, work
        starts = kernel.starts
        if first is not None:
            starts.insert(0, first)
        elif kernel.open or kernel.returning or kernel.growing:
            kernel.dispatch(now)
        if kernel.sink:
            # What was committed says what may begin.
            rt.publish()
        if worker is not None and starts:
            first = starts[0]
            if (
                committer is None or (len(starts) == 1 and committer.may_begin(first))
            ) and (
                first.cargo._executor is rt.threads
                or rt.attempts.executor_of(first, first.cargo) is rt.threads
            ):
                following = (first, first.attempt, first.cargo)
                del starts[0]
        del first
        launch = rt.settle(now)
        if worker is not None and following is None:
            if launch is not None:
                following = _first(rt, launch)
            if following is None:
                _rest(rt, worker)
        if settled is not None:
            # At last: until the lock and the GIL are free, they could only wait on.
            rt.wake(settled)
    finally:
        lock.release()
    try:
        if launch is not None:
            rt.launch(launch)
        return following
    finally:
        # The frames of an error lead to this one: it keeps no task alive.
        del starts, following, launch, settled, error


def _first(rt: Runtime, launch: Launch) -> tuple[TaskRow, int, Work] | None:
    """Under the lock: what the caller, a worker, can begin itself."""
    for number, (row, attempt, work, worker) in enumerate(launch.starts):
        if worker is not None or rt.attempts.executor_of(row, work) is rt.threads:
            del launch.starts[number]
            if worker is not None:
                rt._idle.append(worker)
            return row, attempt, work
    return None


def _next(rt: Runtime, worker: Worker) -> None:
    """On a worker: its attempt goes on elsewhere; it has nothing to do."""
    with rt.lock:
        launch = rt.settle(rt.now())
        _rest(rt, worker)
    rt.launch(launch)


def _rest(rt: Runtime, worker: Worker) -> None:
    """Under the lock: *worker* has nothing to do."""
    if rt.closed or len(rt._idle) >= rt.threads.keep:
        worker.leaving = True
    else:
        rt._idle.append(worker)


def end_badly(
    rt: Runtime,
    row: TaskRow,
    attempt: int,
    work: Work,
    error: BaseException,
    now: int,
    used: Units = (),
) -> None:
    """Under the lock: the attempt raised *error*."""
    control = None if work._extra is None else work._extra.control
    asked = (
        control is not None
        and control.attempt == attempt
        and (control.why != "" or control.interrupted)
    )
    strip(error)
    outcome, seen, described = outcome_of(error, row.id, asked=asked)
    stops = control is not None and control.why == "stop"
    ended = outcome in ("stopped", "lost") or isinstance(error, ProgramFailedError)
    if stops and ended:
        # The orchestrator stops: the next life takes it up.
        outcome = "interrupted"
    end_ill(rt, row, attempt, work, outcome, error, now, used, seen, described)


def end_ill(
    rt: TaskEngine,
    row: TaskRow,
    attempt: int,
    work: Work,
    outcome: AttemptOutcome,
    error: BaseException | None,
    now: int,
    used: Units,
    seen: BaseException | None,
    described: tuple[str, str],
) -> None:
    """
    Under the lock: the attempt has not completed, for *error* if one was raised.

    Callers are told of *seen*. Its type and message, *described*, are in facts.
    """
    # A program that is suspended can be killed from outside.
    if row.attempt == attempt and row.state in (
        TaskState.RUNNING,
        TaskState.SUSPENDED,
    ):
        work._error = seen
    # A retry policy names what is raised, not what it is wrapped in for callers.
    used = used or usage_of(getattr(error, "result", None))
    counts = rt.kernel.end_attempt(row, attempt, outcome, now, error, described, used)
    if outcome == "failed" and seen is not None:
        if not counts:
            keep_late(work, attempt, seen, described[0])
        elif row.state not in TERMINAL:
            keep_earlier(work, attempt, seen, described)
