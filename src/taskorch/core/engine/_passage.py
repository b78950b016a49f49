"""The ways in and out: submissions, the work of pool workers, and ends of attempts."""

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

from taskorch.core.engine._attempts import Attempt, outcome_of, usage_of
from taskorch.core.engine._committer import Committer
from taskorch.core.engine._context import (
    BUDGET,
    CURRENT,
    LOCAL,
    AttemptContext,
    context_of,
    current_budget,
    current_or_none,
    resolved,
)
from taskorch.core.engine._documents import (
    document_of,
    document_of_end,
    keep_earlier,
    keep_late,
)
from taskorch.core.engine._loops import PAUSES, yield_gil
from taskorch.core.engine._stale import dependents, is_earlier, parents_of, used_by
from taskorch.core.engine._translation import executor_for
from taskorch.core.engine._waiting import blockade, is_hopeless
from taskorch.core.engine._work import (
    ALL_KEPT,
    LIGHT,
    Emitted,
    Launch,
    Work,
    add_above,
    capture,
    detach_control,
    error_of,
    gone_result,
    is_to_be_redone,
    load_failures,
    note_given,
    nothing,
    task_of,
    unfinished,
    unwanted,
)
from taskorch.core.executors._threads import Worker
from taskorch.core.kernel import AttemptOutcome, Bucket, PolicyFault, Spec, TaskRow
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    InvalidTransitionError,
    PolicyDeniedError,
    ProgramFailedError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.kit.backoff import KeptElsewhere
from taskorch.kit.described import declared
from taskorch.kit.ends import strip, unawaited
from taskorch.kit.interrupts import begin_thread, defers_interrupts
from taskorch.kit.visible import said, show
from taskorch.model import (
    NO_RETRY,
    TERMINAL,
    Call,
    Missing,
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

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime, TaskEngine
    from taskorch.core.engine._submission import Renewing

# -- an attempt whose function has returned the handle of another task: it ends as
# that does

# It waits for the result without a thread: it gives its slot back, and has its timeout
# and cancellation like any attempt that waits.


def adopt_result_of(
    rt: Runtime, row: TaskRow, attempt: int, work: Work, target: Work
) -> None:
    """Let the attempt end as *target* does, without waiting on a thread."""
    if target._rt is not rt:
        # This orchestrator would not hear of its end.
        rt.finish(row, attempt, work, None, _foreign(target, row.id))
        return
    _Ending(rt, row, attempt, work, target).begin()


def _foreign(target: Work, task_id: str) -> UnknownTaskError:
    """Return the error of a task that returned another orchestrator's handle."""
    msg = f"task {task_id} returned {target!r}, which is of another orchestrator"
    hint = "wait there, with handle.result(), and return what it returns"
    return UnknownTaskError(msg, hint=hint, task_id=task_id)


class _Ending:
    """An attempt that ends as soon as another task has ended."""

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
        #: The listener to the other task.
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
            # The attempt was told to stop between the two calls.
            self._stop()

    def _listen(self) -> None:
        when = self._rt.waiting.when
        self._waiter = when(self._target, _is_known, self._tell)
        if self._is_over:
            # The end was told before this call returned.
            self._listen_no_more()

    def _listen_no_more(self) -> None:
        # The two objects refer to each other.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._rt.waiting.remove(self._target, waiter)

    def _tell(self) -> None:
        """Note that the other task has ended or is blocked; hold the lock."""
        # A step of the kernel is under way, so the attempt ends on another thread.
        self._rt.publisher.put([(self._conclude, None)])

    def _stop(self) -> None:
        """Note that the attempt is to stop."""
        with self._rt.lock:
            self._tell()

    def _conclude(self, _: None) -> None:
        """End the attempt, now that the wait is over; on the publisher's thread."""
        rt, target = self._rt, self._target
        if self._is_over:
            return
        is_told = rt.waiting.is_told(target)
        if not (self._context.cancelled or is_told):
            # A re-run has released the other task meanwhile.
            self._listen()
            return
        self._is_over = True
        self._listen_no_more()
        rt.waiting.forget(self._context, (target._row,), self._stop)
        if self._context.cancelled:
            self._finish(None, AttemptInterrupted(self._context._control.why))
            return
        if target._row.state is TaskState.CANCELLED:
            # If the user's StateMachine forbids the cancellation, or fails, that is a
            # failure.
            with suppress(InvalidTransitionError, PolicyFault, TaskorchError):
                self._cancel()
        if issubclass(type(target._value), Missing):
            # It may come from far away, and the listeners have their turn meanwhile.
            begin_thread(lambda: self._finish(*_end_of(target)), f"{rt.name}-end")
        else:
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
    # Tasks left to the next incarnation need not be known: each attempt is told to
    # stop.
    return is_hopeless(work)


def _end_of(target: Work) -> tuple[Any, BaseException | None]:
    """Return the result of *target*, or the error that its `result()` raises."""
    row = target._row
    try:
        gone = gone_result(target)
    except TaskorchError as error_of_store:
        return None, error_of_store
    if gone is not None:
        return None, gone
    if row.state is TaskState.COMPLETED:
        return target._value, None
    if row.state in TERMINAL:
        error = error_of(target)
    else:
        error = blockade(row) if is_hopeless(target) else unfinished(target)
    note_given(target, error)
    return None, error


# -- what comes in: tasks, runs of workflows, re-runs, dependencies, and events --------


#: The most tasks that run again in one step, for which the lock is held briefly.
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
    Submit tasks, all or none; *run* is the workflow run that they are of, or "".

    *renewing* decides which of those that exist are made again.

    Raises:
        UsageError: One was refused; none is accepted.
    """
    rt.deciders.refuse_reentry()
    if not isinstance(tasks, Iterable):
        msg = f"a list of tasks is submitted, not {show(tasks)}"
        raise InvalidTaskError(msg, hint="use submit_task(task) for one task")
    if rt.committer is not None:
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
    Decides which existing tasks a re-run makes again when it submits them.

    It makes those again that came while an earlier run was under way, which asked for
    their results: all of them if it had completed, or had come after other runs; else
    those that did not complete, and questions.
    """

    decides: bool = False

    def admitted(self, now: int) -> None:
        """Do nothing."""

    def __init__(self, rt: TaskEngine, inside: AttemptContext) -> None:
        self._rt = rt
        self._inside = inside

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Return whether *work* is made again; *is_other*: as another task."""
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
        """Return whether tasks that *work* has added are made again, too."""
        return work._row.state is TaskState.COMPLETED


def submit_run(
    rt: TaskEngine,
    run_id: str,
    tasks: Mapping[str, Task],
    above: Mapping[str, Iterable[str]],
) -> dict[str, Work] | None:
    """
    Submit the tasks of a workflow under the ids of a new run.

    The *tasks* are by their ids in the workflow; *above* has, for each, the ids of its
    parents.

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


def rerun(
    rt: TaskEngine,
    task_id: str,
    *,
    downstream: bool = False,
    before: Callable[[int], object] = int,
) -> Work:
    """
    Run a finished task again, after *before*, which has the lock.

    With *downstream*, run again the tasks in memory that depend on it. Those that have
    not ended are cancelled, unless they wait for the task.

    Raises:
        UnknownTaskError: There is none, or it has left memory, and no journal has
            it.
        InvalidTransitionError: It has not ended; or it was run again, and this is
            not the latest run.
        CycleError: It would wait for a task that is to wait for it.
    """
    rt.recall((task_id,))

    works: list[Work] = []
    # It is loaded before the lock is held.
    succession = rt.succession

    def change(now: int) -> Work:
        rt.refuse_new()
        before(now)
        again = succession.rerun(task_id, now, anew=True)
        if downstream:
            works.extend(row.cargo for row in dependents(rt, again._row))
        return again

    result: Work = rt.step(change, keep=True)
    _rerun_stale(rt, works)
    return result


def rerun_below(rt: TaskEngine, task_id: str) -> None:
    """Run again the tasks in memory that had the result of an earlier run."""
    with rt.lock:
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        rows = [] if row is None else dependents(rt, row)
    _rerun_stale(rt, [row.cargo for row in rows])


def _rerun_stale(rt: TaskEngine, works: Sequence[Work]) -> None:
    succession = rt.succession

    def go_on(part: Sequence[Work], now: int) -> None:
        rt.refuse_submission()
        for work in part:
            succession.rerun_stale(work, now)

    # The run that these follow is kept, and must not stay half done.
    with rt.patience():
        for start in range(0, len(works), _RERUNS):
            rt.step(partial(go_on, works[start : start + _RERUNS]), keep=True)


def add_parents(rt: TaskEngine, task_id: str, parent_ids: Iterable[str]) -> None:
    """
    Make a waiting task wait for more tasks, all of them or none.

    Their results are in its `context.results`. Tasks that it waits for already, or that
    have completed, are accepted, too.

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
    Emit an event from outside; return the number of tasks that it releases.

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
            # No task waits for it, so the event itself is kept.
            committer.documents[emitted] = document
        return rt.kernel.emit(name, emitted, keep_ns, now)

    let_go: int = rt.step(change, keep=True)
    return let_go


def control(rt: TaskEngine, task_id: str, act: Callable[[TaskRow, int], bool]) -> bool:
    """
    Call *act* on the latest run of a task; return False if it left memory.

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

# These functions are methods of the runtime; a module of their own keeps both readable.


_SLICE: Final = 512
_MANY: Final = 4_096


@attrs.frozen
class KnownCall:
    """
    Bucket and executor for calls of functions with one name.

    Attributes:
        code: That of the function, if it is a plain one without attributes, which could
            change its options.
        bucket: The bucket of its tasks.
        executor: Its executor.
    """

    code: CodeType | None
    bucket: Bucket
    executor: AttemptExecutor[Any]


def _acquire(lock: threading.Lock) -> None:
    """
    Acquire *lock*, which was not free, without queueing if possible; on a worker.

    `locked()` is False for a moment after a thread has got the lock. On a worker no
    interrupt comes between this and the `try` that follows.
    """
    for pause in PAUSES:
        sleep(pause)
        if lock.acquire(blocking=False):
            return
    lock.acquire()


def submit_calls(  # noqa: C901, PLR0912 - written out for speed
    rt: Runtime,
    fn: Callable[..., Any],
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
    ctx: Context | None = None,
    by: str | None = None,
) -> list[Work]:
    """
    Submit calls of *fn*, in slices, between which other threads have their turn.

    Args:
        rt: The runtime.
        fn: The function.
        calls: The arguments of each call, and those by names.
        ctx: The context in which they run; None is that of the caller.
        by: The name of their executor; None is that of the kind of *fn*.

    Raises:
        UsageError: One was refused; those of the slices before it are accepted.
    """
    ctx = capture(rt.spans) if ctx is None else ctx
    known = None
    if type(fn) is FunctionType:
        name = fn.__qualname__
        known = rt.known_calls.get(name if by is None else (name, by))
    if known is None or known.code is not fn.__code__ or fn.__dict__:
        known = None
    is_asked = rt.governor is not None and rt.governor.is_asked_of(fn)
    is_told = known is None and declared(fn) is not None
    # A budget is named by a block, or by the task that the caller is in.
    is_in_task = LOCAL.worker is not None or CURRENT.get() is not None
    has_budget = (is_in_task or BUDGET.get()) and current_budget()
    is_kept = by is not None and rt.committer is not None
    if is_told or is_asked or _refer(calls) or has_budget or is_kept:
        return submit_tasks(
            rt,
            [
                Task.call(fn, *args, kwargs=kwargs, executor=by)
                for args, kwargs in calls
            ],
        )
    committer = None if rt.committer is None else rt.durable()
    if known is None or known.bucket.forgotten:
        known = _known_call(rt, fn, by)
    bucket, executor, make = known.bucket, known.executor, rt.work_class
    works: list[Work] = []
    for args, kwargs in calls:
        # A comprehension is a call, until CPython 3.12.
        works.append(make(rt, fn, args, kwargs, executor, ctx))
    if by is not None:
        for work in works:
            work._task = Task.call(
                fn, *work._args, kwargs=work._kwargs or None, executor=by
            )
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
    """Take in *works*, which wait for nothing; hold the lock."""
    if rt.draining or rt.closed or rt.fault is not None:
        rt.refuse_new()
    if documents and rt.committer is not None:
        rt.committer.documents.update(zip(works, documents, strict=True))
    submit, prefix, numbers = rt.kernel.submit, rt._prefix, rt._numbers
    for work in works:
        task_id = prefix + str(next(numbers))
        if work._task is not None:
            # The task is of our own making, and needs no copy with the id.
            object.__setattr__(work._task, "id", task_id)
        work._row = submit(task_id, bucket, work, now)


def _refer(calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> bool:
    """Return whether an argument is, or contains, a reference to a task."""
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
    """Return the documents that a journal keeps of calls of *fn*."""
    write = committer.call_documents(kind, fn)
    return [
        committer.document(Task(kind, Call(fn, args, kwargs)))
        if kwargs
        else write(args)
        for args, kwargs in calls
    ]


def _known_call(rt: Runtime, fn: Callable[..., Any], by: str | None) -> KnownCall:
    """
    Return bucket and executor for calls of *fn* by the executor *by*.

    Raises:
        InvalidTaskError: *fn* cannot be called, or not by this executor.
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
    executor = executor_for(fn, by, rt.executors)
    code = fn.__code__ if type(fn) is FunctionType and not fn.__dict__ else None
    name = call_type(fn)
    key = name if by is None else (name, by)
    known = rt.known_calls.get(key)
    if known is None or known.bucket.forgotten:
        if len(rt.known_calls) > _MANY:
            rt.known_calls.clear()
        bucket = rt.kernel_bucket(Spec(name))
    else:
        bucket = known.bucket
    known = rt.known_calls[key] = KnownCall(code, bucket, executor)
    return known


def knows(rt: Runtime, fn: Callable[..., Any]) -> bool:
    """Return whether calls of *fn* are accepted without asking a validator."""
    known = rt.known_calls.get(call_type(fn))
    if known is None or known.bucket.forgotten:
        return False
    if rt.governor is not None and rt.governor.is_asked_of(fn):
        return False
    return known.bucket.verdict is True


def _validate_call(rt: Runtime, bucket: Bucket, work: Work) -> None:
    fn = work._fn or nothing
    task = work._task
    if task is None:
        task = task_of_call(bucket.spec.type, fn, work._args, work._kwargs)
    if rt.submission.preparation.validate(task, formed=True):
        bucket.verdict = True
    else:
        # Other code will ask for the task, too.
        work._task = task


def run(rt: Runtime, worker: Worker, item: tuple[TaskRow, int, Work] | Attempt) -> Any:
    """Do one attempt, end it, and take the next in the same step; on a worker."""
    row, attempt, work = worker.current = item
    handed = False
    value: Any = None
    error: BaseException | None = None
    if work._executor is rt.threads and work._extra is None:
        args, kwargs = work._args, work._kwargs
        try:
            if work._above and (args or kwargs):
                _, args, kwargs = resolved(work)
            # Without the stars, Python packs no arguments.
            if kwargs:
                value = work._ctx.copy().run(work._fn, *args, **kwargs)  # type: ignore[arg-type]
            elif args:
                value = work._ctx.copy().run(work._fn, *args)  # type: ignore[arg-type]
            else:
                value = work._ctx.copy().run(work._fn)  # type: ignore[arg-type]
        except BaseException as raised:  # noqa: BLE001 - the error is the task's
            error = raised
        del args, kwargs
    else:
        handed, value, error = rt.attempts.perform(row, attempt, work)
    if error is not None and not handed and rt.strategies is not None:
        handed, value, error = rt.strategies.mend(row, attempt, work, error)
    worker.current = None
    try:
        if handed:
            # The attempt goes on elsewhere: the thread is free, the slot is not.
            return _next(rt, worker)
        if type(value) is CoroutineType:
            value, error = None, unawaited(value, row.id)
        if type(value) is rt.work_class:
            adopt_result_of(rt, row, attempt, work, value)
            return _next(rt, worker)
        return _end(rt, row, attempt, work, value, error, worker=worker)
    finally:
        # An error's frames lead to this one, so its locals would keep the task alive.
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
    kept: Any = None,
) -> None:
    """End an attempt on any thread but a worker: see `_end`."""
    try:
        if issubclass(type(value), Work):
            adopt_result_of(rt, row, attempt, work, value)
            return
        if rt.lock.locked():
            yield_gil(rt.lock)
        _end(rt, row, attempt, work, value, error, used or usage_of(value), kept=kept)
    except Exception as fault:  # noqa: BLE001 - the error is ours
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
    kept: Any = None,
) -> tuple[TaskRow, int, Work] | None:
    """
    End an attempt, and begin those that can begin then; every end comes here.

    Args:
        rt: The runtime.
        row: The task.
        attempt: The number of the attempt.
        work: The work that it has done.
        value: The value that it has returned.
        error: The error that it has raised; None: it has returned.
        used: The resources that it was measured to use.
        worker: The worker that calls this, which rests if there is nothing for it.
        kept: The document of a value that was on its way when the function returned.

    Returns:
        The next attempt of the worker.
    """
    if work._extra is not None and not used:
        control = work._extra.control
        if control is not None and control.attempt == attempt:
            used = control.usage
    committer, lock, kernel = rt.committer, rt.lock, rt.kernel
    document = kept
    if kept is None:
        task = work._task
        if task is not None and error is None and task.retry is not NO_RETRY:
            error = unwanted(work, value)
        if rt.governor is not None and error is None:
            error = rt.governor.result_error(work, attempt, value)
        if committer is not None and (value is not None or error is not None):
            document, error = document_of_end(committer.document, row.id, value, error)
            if type(document) is KeptElsewhere:
                if _ends_later(rt, row, attempt, work, value, used, document):
                    if worker is not None:
                        _next(rt, worker)
                    return None
                document = document.result()
    described = "", ""
    if error is not None:
        load_failures()
        # What takes long for a large error is done before anybody waits for the lock.
        described = said(error)
        rt.deciders.judge_ahead(error)
    weight = rt.weights.weigh(work, value, error)
    first = following = launch = settled = None
    if not lock.acquire(blocking=False):
        _acquire(lock)
    try:
        now = rt.now()
        # What goes may be large: it is freed once the lock is.
        oldest = kernel.finished[0].cargo if kernel.finished else None
        going = work._error, work._above, oldest
        if committer is not None and document is not None:
            committer.documents[work] = document
        if error is None:
            # This is `TaskEngine.end_as_told`, without another call for each task.
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
            end_badly(rt, row, attempt, work, error, now, described, used)
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
            # The commit decides which attempts may begin.
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
            # This comes last: until the lock and the GIL are free, they could only wait
            # on.
            rt.wake(settled)
    finally:
        lock.release()
        if error is not None:
            rt.deciders.forget_ahead(error)
    try:
        if rt.litter:
            rt.litter.clear()
        if launch is not None:
            rt.launch(launch)
        return following
    finally:
        # An error's frames lead to this one, so its locals would keep the task alive.
        del starts, following, launch, settled, error, oldest, going


def _ends_later(
    rt: Runtime,
    row: TaskRow,
    attempt: int,
    work: Work,
    value: Any,
    used: Units,
    document: KeptElsewhere,
) -> bool:
    """
    Let the attempt hold nothing from now on, and end once *document* is known.

    Returns:
        False if it ends now: its value is kept already, or it was asked to stop.
    """
    committer, kernel = rt.committer, rt.kernel
    assert committer is not None  # noqa: S101 - it makes documents
    if document.done() or not rt.step(
        lambda now: kernel.yield_slot(row, attempt, now, returned=True)
    ):
        document.give_up()
        return False
    detach_control(work, attempt)
    no_limit = rt.timer.repeat(document.patience, document.is_late)

    def end(_: object) -> None:
        no_limit()
        committer.elsewhere.discard(document)
        finish(rt, row, attempt, work, value, None, used, document.result())

    committer.elsewhere.add(document)
    document.add_done_callback(end)
    if rt.closed:
        document.give_up()
    return True


def _first(rt: Runtime, launch: Launch) -> tuple[TaskRow, int, Work] | None:
    """Return the attempt that the caller, a worker, can begin itself; hold the lock."""
    for number, (row, attempt, work, worker) in enumerate(launch.starts):
        if worker is not None or rt.attempts.executor_of(row, work) is rt.threads:
            del launch.starts[number]
            if worker is not None:
                rt._idle.append(worker)
            return row, attempt, work
    return None


def _next(rt: Runtime, worker: Worker) -> None:
    """Let a worker rest whose attempt goes on elsewhere; on that worker."""
    with rt.lock:
        launch = rt.settle(rt.now())
        _rest(rt, worker)
    rt.launch(launch)


def _rest(rt: Runtime, worker: Worker) -> None:
    """Put *worker* among the idle ones, or let it end; hold the lock."""
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
    told: tuple[str, str],
    used: Units = (),
) -> None:
    """End an attempt that raised *error*, which says *told*; hold the lock."""
    control = None if work._extra is None else work._extra.control
    asked = (
        control is not None
        and control.attempt == attempt
        and (control.why != "" or control.interrupted)
    )
    strip(error)
    outcome, seen, described = outcome_of(error, row.id, asked=asked, described=told)
    stops = control is not None and control.why == "stop"
    ended = outcome in ("stopped", "lost") or isinstance(error, ProgramFailedError)
    if stops and ended:
        # The orchestrator stops, so its next incarnation takes the task up.
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
    End an attempt that has not completed, for *error* if it raised; hold the lock.

    Callers are given *seen*. Its type and message, *described*, are in events.
    """
    # A program that is suspended can be killed from outside.
    if row.attempt == attempt and row.state in (
        TaskState.RUNNING,
        TaskState.SUSPENDED,
    ):
        work._error = seen
    # A retry policy names the error that was raised, not the wrapper for callers.
    used = used or usage_of(getattr(error, "result", None))
    counts = rt.kernel.end_attempt(row, attempt, outcome, now, error, described, used)
    if outcome == "failed" and seen is not None:
        if not counts:
            keep_late(work, attempt, seen, described[0])
        elif row.state not in TERMINAL:
            keep_earlier(work, attempt, seen, described)
