"""
The plain path: calls on their way in, and attempts on theirs to the end.

It is written out for speed. These functions are methods of the runtime; they are here
so that both can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from functools import partial
from itertools import chain
from time import sleep
from types import CodeType, CoroutineType, FunctionType
from typing import Any, Final, Protocol

import attrs

from taskorch._references import KINDS, may_refer, references, refuse_in
from taskorch.errors import (
    ComponentError,
    InternalError,
    InvalidTaskError,
    ProgramFailedError,
)
from taskorch.executors._ends import strip, unawaited
from taskorch.executors._threads import Worker, WorkerThreads
from taskorch.kernel import Bucket, PolicyFault, Spec, TaskRow
from taskorch.model import (
    NO_RETRY,
    TERMINAL,
    Call,
    Task,
    TaskState,
    Units,
    call_type,
    task_of_call,
)
from taskorch.model._options import declared
from taskorch.model._show import show
from taskorch.protocols import AttemptExecutor
from taskorch.runtime import _intake, _returned
from taskorch.runtime._arguments import resolved
from taskorch.runtime._attempt import Attempt, usage_of
from taskorch.runtime._attempts import Attempts, outcome_of
from taskorch.runtime._committer import Committer, Keeps
from taskorch.runtime._documents import document_of_end
from taskorch.runtime._driver import Launch
from taskorch.runtime._earlier import keep_earlier
from taskorch.runtime._gil import PAUSES, yield_gil
from taskorch.runtime._intake import submit_tasks
from taskorch.runtime._interrupts import (
    DEFERRED,
    defers_interrupts,
    raise_deferred,
)
from taskorch.runtime._late import keep_late
from taskorch.runtime._results import unwanted
from taskorch.runtime._returned import adopt_result_of
from taskorch.runtime._translation import executor_for
from taskorch.runtime._weights import LIGHT, Weights
from taskorch.runtime._work import (
    ALL_KEPT,
    NO_KWARGS,
    Work,
    detach_control,
    nothing,
)

_SLICE: Final = 512
_MANY: Final = 4_096
#: Tasks that have left memory, before what else is kept of them is let go.
_MANY_DROPPED: Final = 64


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


class CallHost(_intake.IntakeHost, _returned.ReturnHost, Keeps, Protocol):
    """What the plain path asks of a runtime: most of it, without a detour."""

    attempts: Attempts
    closed: bool
    draining: bool
    #: What agents try themselves when an attempt has failed; None: nothing.
    strategies: Any
    executors: Mapping[str, AttemptExecutor[Any]]
    #: What calls come to, by the names of their functions.
    known_calls: dict[str, KnownCall]
    threads: WorkerThreads
    weights: Weights
    work_class: type[Work]

    _idle: list[Worker]
    _numbers: Iterator[int]
    _prefix: str

    def component_error(
        self, fault: PolicyFault, task_id: str | None
    ) -> ComponentError:
        """What a caller is told of a policy that failed."""
        ...

    def drop(self) -> None:
        """Under the lock: let go what is kept of tasks that have left memory."""
        ...

    def interrupted(self, error: BaseException) -> None:
        """An exception from outside has cut a step short."""
        ...

    def kernel_bucket(self, spec: Spec) -> Bucket:
        """The bucket of *spec*."""
        ...

    def publish(self) -> None:
        """Under the lock: hand over the facts that have not been told."""
        ...

    def start_single(self, now: int) -> tuple[tuple[TaskRow, int, Work], Worker] | None:
        """Under the lock: as `settle`, if no more is to be done than one start."""
        ...

    def wake(self, work: Work) -> None:
        """Tell those who wait for *work*."""
        ...


def _enter(lock: threading.Lock) -> None:
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


@defers_interrupts
def submit_call(  # noqa: C901, PLR0912, PLR0915 - the hot path, written out
    rt: CallHost,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ctx: Context,
) -> Work:
    """
    Submit a call of *fn*.

    Raises:
        UsageError: It was refused.
    """
    known = rt.known_calls.get(fn.__qualname__) if type(fn) is FunctionType else None
    if known is None or known.code is not fn.__code__ or fn.__dict__:
        known = None
        if declared(fn) is not None:
            return submit_tasks(rt, [Task.call(fn, *args, kwargs=kwargs)])[0]
    kinds = KINDS
    for arg in (*args, *kwargs.values()) if kwargs else args:
        if kinds.get(type(arg), kinds) is not None:
            if references(args, kwargs):
                return submit_tasks(rt, [Task.call(fn, *args, kwargs=kwargs)])[0]
            break
    if rt.committer is not None:
        return _submit_call(rt, rt.committer, fn, args, kwargs, ctx)
    if known is None or known.bucket.forgotten:
        known = _known_call(rt, fn)
    bucket = known.bucket
    work = rt.work_class(rt, fn, args, kwargs, known.executor, ctx)
    if bucket.verdict is None:
        _validate_call(rt, bucket, work)
    kernel = rt.kernel
    lock = rt.lock
    if rt.deciders.asking:
        rt.deciders.refuse_reentry()
    task_id = rt._prefix + str(next(rt._numbers))
    if work._task is not None:
        # It is of our own making, and needs no copy with the id.
        object.__setattr__(work._task, "id", task_id)
    if lock.locked():
        yield_gil(lock)
    lone = launch = None
    inside = False
    try:
        try:
            with lock:
                if rt.draining or rt.closed or rt.fault is not None:
                    rt.refuse_new()
                inside = True
                now = rt.now()
                work._row = kernel.submit(task_id, bucket, work, now)
                if kernel.sink or (
                    kernel.running < kernel.concurrency and not kernel.paused
                ):
                    lone = rt.start_single(now)
                    if lone is None:
                        launch = rt.settle(now)
        except PolicyFault as fault:
            raise rt.component_error(fault, task_id) from fault.error
        except InternalError as error:
            rt.fail_stop(error)
            raise
        if lone is not None:
            rt.threads.start(*lone)
        elif launch is not None:
            rt.launch(launch)
    except Exception:
        raise
    except BaseException as error:
        if inside:
            rt.interrupted(error)
        raise
    finally:
        if DEFERRED:
            raise_deferred()
    return work


def _submit_call(
    rt: CallHost,
    committer: Committer,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ctx: Context,
) -> Work:
    """Submit a call of *fn* that is to be kept."""
    rt.durable()
    known = _known_call(rt, fn)
    bucket = known.bucket
    work = rt.work_class(rt, fn, args, kwargs, known.executor, ctx)
    if bucket.verdict is None:
        _validate_call(rt, bucket, work)
    if kwargs:
        call = Task(bucket.spec.type, Call(fn, args, kwargs))
        document = committer.document(call)
    else:
        document = committer.call_documents(bucket.spec.type, fn)(args)

    def change(now: int) -> Work:
        rt.refuse_new()
        committer.documents[work] = document
        task_id = rt._prefix + str(next(rt._numbers))
        work._row = rt.kernel.submit(task_id, bucket, work, now)
        return work

    result: Work = rt.step(change, keep=True)
    return result


def submit_calls(  # noqa: C901 - one call less for each task
    rt: CallHost, fn: Callable[..., Any], calls: list[tuple[Any, ...]], ctx: Context
) -> list[Work]:
    """Submit many calls of *fn*, in slices: between two, others have their turn."""
    if declared(fn) is not None:
        return submit_tasks(rt, [Task.call(fn, *args) for args in calls])
    if may_refer(chain.from_iterable(calls)) and any(map(references, calls)):
        return submit_tasks(rt, [Task.call(fn, *args) for args in calls])
    committer = rt.durable()
    known = _known_call(rt, fn)
    bucket, executor = known.bucket, known.executor
    kernel = rt.kernel
    make = rt.work_class
    works: list[Work] = []
    write = None
    if committer is not None:
        write = committer.call_documents(bucket.spec.type, fn)
    for start in range(0, len(calls), _SLICE):
        some = calls[start : start + _SLICE]
        part = [make(rt, fn, args, NO_KWARGS, executor, ctx) for args in some]
        if bucket.verdict is None:
            for work in part:
                _validate_call(rt, bucket, work)
        documents = [] if write is None else [write(args) for args in some]

        def change(
            now: int, part: list[Work] = part, documents: list[Any] = documents
        ) -> None:
            rt.refuse_new()
            if committer is not None:
                committer.documents.update(zip(part, documents, strict=True))
            prefix, numbers = rt._prefix, rt._numbers
            ids = [prefix + str(next(numbers)) for _ in part]
            rows = kernel.submit_many(ids, bucket, part, now)
            for work, row in zip(part, rows, strict=True):
                work._row = row

        rt.step(change)
        works += part
    if committer is not None and works:
        committer.wait_kept(works[-1]._begin_after)
    return works


def _known_call(rt: CallHost, fn: Callable[..., Any]) -> KnownCall:
    """
    What calls of *fn* come to.

    Raises:
        InvalidTaskError: *fn* cannot be called.
    """
    if not callable(fn):
        msg = f"a function is submitted, not {show(fn)}"
        raise InvalidTaskError(msg, hint="orch.submit_task(Task(…)) takes tasks")
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


def knows(rt: CallHost, fn: Callable[..., Any]) -> bool:
    """Whether calls of *fn* are accepted without asking a validator."""
    known = rt.known_calls.get(call_type(fn))
    if known is None or known.bucket.forgotten:
        return False
    return known.bucket.verdict is True


def _validate_call(rt: CallHost, bucket: Bucket, work: Work) -> None:
    fn = work._fn or nothing
    task = task_of_call(bucket.spec.type, fn, work._args, work._kwargs)
    if rt.submission.validate(task, formed=True):
        bucket.verdict = True
    else:
        # Others will ask for it too.
        work._task = task


def run(  # noqa: C901, PLR0912, PLR0915 - the hot path, written out
    rt: CallHost, worker: Worker, item: tuple[TaskRow, int, Work] | Attempt
) -> Any:
    """On a worker: do one attempt, end it, and take the next in the same step."""
    row, attempt, work = worker.current = item
    value: Any = None
    error: BaseException | None = None
    args, kwargs = work._args, work._kwargs
    threads = rt.threads
    if work._executor is threads and work._extra is None:
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
    else:
        handed, value, error = rt.attempts.perform(row, attempt, work)
        if handed:
            # A program now runs for it: the thread is free, the slot is not.
            return _next(rt, worker, None)
    if error is not None and rt.strategies is not None:
        handed, value, error = rt.strategies.mend(row, attempt, work, error)
        if handed:
            return _next(rt, worker, None)
    if type(value) is CoroutineType:
        value, error = None, unawaited(value, row.id)
    if type(value) is rt.work_class:
        worker.current = None
        adopt_result_of(rt, row, attempt, work, value)
        del item, work, value
        return _next(rt, worker, None)
    if work._task is not None and error is None and work._task.retry is not NO_RETRY:
        error = unwanted(work, value)
    worker.current = None
    if rt.committer is not None:
        try:
            return _end_kept(rt, rt.committer, worker, item, value, error)
        finally:
            # As below.
            del row, item, work, value, error
    weight = 0
    if (
        error is not None
        or type(value) not in LIGHT
        or work._task is not None
        or (args and not LIGHT.issuperset(map(type, args)))
        or kwargs
    ):
        weight = rt.weights.weigh(work, value, error)
    lock = rt.lock
    kernel = rt.kernel
    launch = None
    if not lock.acquire(blocking=False):
        _enter(lock)
    try:
        now = rt.now()
        first = following = None
        if error is None:
            if row.attempt == attempt and row.state not in TERMINAL:
                work._value = value
            if kernel.open:
                first = kernel.complete_for_next(row, attempt, now)
            if first is None and not kernel.complete(row, attempt, now):
                keep_late(work, attempt, value)
        else:
            end_badly(rt, row, attempt, work, error, now)
        if work._waiters is not None and row.state in TERMINAL:
            rt.wake(work)
        if weight and row.state in TERMINAL:
            rt.weights.note(row, weight)
            rt.weights.let_go(ALL_KEPT)
        del value, work, args, kwargs
        starts = kernel.starts
        if first is None:
            if kernel.open or kernel.returning or kernel.growing:
                kernel.dispatch(now)
            if starts:
                first = starts.pop(0)
        if first is not None:
            work = first.cargo
            if (
                work._executor is threads
                or rt.attempts.executor_of(first, work) is threads
            ):
                following = (first, first.attempt, work)
            else:
                starts.insert(0, first)
            del work
        del first
        if following is None:
            _rest(rt, worker)
        if kernel.sink:
            rt.publish()
        if kernel.dropped and (
            len(kernel.dropped) > _MANY_DROPPED or not kernel.active
        ):
            rt.drop()
        if (
            starts
            or kernel.touched
            or kernel.effects
            or kernel.timers
            or rt.waiting.quiet
            or rt.deciders.slow
        ):
            launch = rt.settle(now)
    finally:
        lock.release()
    if launch is not None:
        rt.launch(launch)
    try:
        return following
    finally:
        # The frames of an error lead to this one: it keeps no task alive.
        del row, item, following, starts, launch, error


def _end_kept(  # noqa: C901, PLR0912 - one call less for each
    rt: CallHost,
    committer: Committer,
    worker: Worker,
    item: tuple[TaskRow, int, Work] | Attempt,
    value: Any,
    error: BaseException | None,
) -> Any:
    """On a worker: end an attempt whose end is to be kept, and take the next."""
    row, attempt, work = item
    document = None
    if value is not None or error is not None:
        document, error = document_of_end(committer.document, row.id, value, error)
    weight = rt.weights.weigh(work, value, error)
    lock = rt.lock
    kernel = rt.kernel
    following = launch = None
    if not lock.acquire(blocking=False):
        _enter(lock)
    try:
        now = rt.now()
        if document is not None:
            committer.documents[work] = document
        if error is None:
            if row.attempt == attempt and row.state not in TERMINAL:
                work._value = value
            if not kernel.complete(row, attempt, now):
                keep_late(work, attempt, value)
        else:
            end_badly(rt, row, attempt, work, error, now)
        if weight and row.state in TERMINAL:
            rt.weights.note(row, weight)
        if kernel.open or kernel.returning or kernel.growing:
            kernel.dispatch(now)
        if kernel.sink:
            rt.publish()
        starts = kernel.starts
        if len(starts) == 1 and committer.may_begin(starts[0]):
            first = starts[0]
            if rt.attempts.executor_of(first, first.cargo) is rt.threads:
                following = (first, first.attempt, first.cargo)
                starts.clear()
            del first
        if (
            starts
            or committer.ready
            or kernel.touched
            or kernel.effects
            or kernel.timers
            or rt.waiting.quiet
            or kernel.dropped
            or rt.deciders.slow
            or committer.documents
        ):
            launch = rt.settle(now)
            if launch is not None and following is None:
                following = _first(rt, launch)
        if following is None:
            _rest(rt, worker)
    finally:
        lock.release()
    rt.launch(launch)
    try:
        return following
    finally:
        # The frames of an error lead to the caller's.
        del row, work, item, value, following, starts, launch, error


def _first(rt: CallHost, launch: Launch) -> tuple[TaskRow, int, Work] | None:
    """Under the lock: what the caller, a worker, can begin itself."""
    for number, (row, attempt, work, worker) in enumerate(launch.starts):
        if worker is not None or rt.attempts.executor_of(row, work) is rt.threads:
            del launch.starts[number]
            if worker is not None:
                rt._idle.append(worker)
            return row, attempt, work
    return None


def _next(rt: CallHost, worker: Worker, following: Any) -> Any:
    worker.current = None
    with rt.lock:
        launch = rt.settle(rt.now())
        _rest(rt, worker)
    rt.launch(launch)
    return following


def _rest(rt: CallHost, worker: Worker) -> None:
    """Under the lock: *worker* has nothing to do."""
    if rt.closed or len(rt._idle) >= rt.threads.keep:
        worker.leaving = True
    else:
        rt._idle.append(worker)


def end_badly(
    rt: CallHost,
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
    # A program that is suspended can be killed from outside.
    if row.attempt == attempt and row.state in (
        TaskState.RUNNING,
        TaskState.SUSPENDED,
    ):
        work._error = seen
    # A retry policy names what is raised, not what it is wrapped in for callers.
    used = used or usage_of(getattr(error, "result", None))
    counts = rt.kernel.end_attempt(row, attempt, outcome, now, error, described, used)
    if outcome == "failed":
        if not counts:
            keep_late(work, attempt, seen, described[0])
        elif row.state not in TERMINAL:
            keep_earlier(work, attempt, seen, described)


@defers_interrupts
def finish(  # noqa: C901, PLR0912 - one call less for each
    rt: CallHost,
    row: TaskRow,
    attempt: int,
    work: Work,
    value: Any,
    error: BaseException | None,
    used: Units = (),
) -> None:
    """End an attempt, which was seen to use *used*, on any thread but a worker."""
    try:
        if isinstance(value, Work):
            adopt_result_of(rt, row, attempt, work, value)
            return
        if error is None:
            error = unwanted(work, value)
        committer = rt.committer
        document = None
        if committer is not None:
            document, error = document_of_end(committer.document, row.id, value, error)
        weight = rt.weights.weigh(work, value, error)
        lock = rt.lock
        if lock.locked():
            yield_gil(lock)
        with lock:
            now = rt.now()
            if committer is not None:
                committer.documents[work] = document
            if error is None:
                if row.attempt == attempt and row.state not in TERMINAL:
                    work._value = value
                used = used or usage_of(value)
                if used:
                    counts = rt.kernel.end_attempt(
                        row, attempt, "completed", now, usage=used
                    )
                else:
                    counts = rt.kernel.complete(row, attempt, now)
                if not counts:
                    keep_late(work, attempt, value)
            else:
                end_badly(rt, row, attempt, work, error, now, used)
            detach_control(work, attempt)
            if weight and row.state in TERMINAL:
                rt.weights.note(row, weight)
                if committer is None:
                    rt.weights.let_go(ALL_KEPT)
            if (
                committer is None
                and work._waiters is not None
                and row.state in TERMINAL
            ):
                rt.wake(work)
            launch = rt.settle(now)
        rt.launch(launch)
    except Exception as fault:  # noqa: BLE001 - it is ours
        rt.fail_stop(fault)
    except BaseException as error:
        rt.interrupted(error)
        raise
