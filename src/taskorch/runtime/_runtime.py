"""
The runtime: drives the kernel under one short lock, and does what it says.

One step is: enter the lock, tell the kernel what happened, let it choose what starts
next, leave the lock, start that. A worker that ends an attempt takes its next one in
the same step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from itertools import count
from random import Random
from time import sleep
from types import CoroutineType
from typing import Any, Final

import attrs

from taskorch.errors import (
    ComponentError,
    InternalError,
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    UnknownTaskError,
)
from taskorch.events import (
    CATALOGUE,
    VIEWS,
    Event,
    HealthReported,
    PerformanceReported,
    PolicySlow,
    ReceiverFailed,
    StatsReported,
    TaskProgressed,
)
from taskorch.executors._threads import Worker, WorkerThreads
from taskorch.journal import MemoryJournal
from taskorch.kernel import (
    LOCAL,
    AgentRow,
    Bucket,
    Effect,
    Kernel,
    KernelConfig,
    PolicyFault,
    Spec,
    TaskRow,
)
from taskorch.kernel._faults import describe, note_fault
from taskorch.kernel._history import more_of
from taskorch.model import Agent, Call, Task, TaskState, Units, call_type
from taskorch.model._show import show
from taskorch.runtime import _reports
from taskorch.runtime._attempts import (
    Attempts,
    gone,
    outcome_of,
    said,
    strip,
    tidy,
    unawaited,
)
from taskorch.runtime._clock import MonotonicClock
from taskorch.runtime._context import LOCAL as THREAD_LOCAL
from taskorch.runtime._deciders import Parts, PolicyDeciders, check_parts
from taskorch.runtime._loops import LoopHost
from taskorch.runtime._publisher import Publisher, Receiver
from taskorch.runtime._submission import (
    Submission,
    how_to_call,
    references,
)
from taskorch.runtime._timer import TimerThread
from taskorch.runtime._waiting import Waiting
from taskorch.runtime._work import (
    NO_KWARGS,
    THREAD,
    Work,
    extra_of,
    nothing,
    task_of,
)
from taskorch.signals import Signals

__all__ = ("AgentRunner", "Launch", "Runtime", "yield_gil")

_LOG: Final = logging.getLogger("taskorch")
_TERMINAL: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}
)
#: Events that are reported at an interval, while somebody listens.
MONITORING: Final = (StatsReported, HealthReported, PerformanceReported)
#: What to do about a task of another orchestrator.
_FOREIGN: Final = "wait there, with handle.result(), and hand over what it returns"
_SLICE: Final = 512
_MANY: Final = 4_096


def yield_gil(lock: threading.Lock) -> None:
    """
    Let others run until *lock* looks free.

    A thread that queues for a lock owns it as soon as it is released, long before it
    has the GIL again, and everybody queues behind it: a convoy, three to four times
    slower than asking later.
    """
    for _ in range(10):
        sleep(0)
        if not lock.locked():
            return


@attrs.define(eq=False)
class AgentRunner:
    """How an agent does its work."""

    name: str
    handler: Callable[..., Any]
    how: int
    #: The handler returns the program that is to be run.
    program: bool = False
    executor: str | None = None


@attrs.define(eq=False)
class Launch:
    """What a step says is to be done once the lock is free."""

    starts: list[tuple[TaskRow, int, Work, Worker | None]]
    effects: list[Effect]


class Runtime:
    """One orchestrator's engine. The facade is a thin layer over it."""

    def __init__(
        self,
        *,
        parts: Parts,
        config: KernelConfig,
        pools: Units,
        executors: Mapping[str, Any],
        journal: MemoryJournal,
        seed: int | None,
        monitor_interval: float,
        work_class: type[Work],
    ) -> None:
        check_parts(parts)
        random = Random(seed)  # noqa: S311 - for decisions, not for secrets
        self.name = "taskorch"
        self.lock = threading.Lock()
        self.now = MonotonicClock().now_ns
        self.deciders = PolicyDeciders(parts, task_of)
        self.kernel = Kernel(config, self.deciders, random, pools)
        self.deciders.bind(self.kernel)
        self.executors = dict(executors)
        self.journal = journal
        self.work_class = work_class
        self.monitor_interval = monitor_interval
        #: The number of this life of the orchestrator, for the fence.
        self.epoch = journal.claim()
        self.runners: dict[str, AgentRunner] = {}
        #: Idempotency keys.
        self.keys: dict[str, str] = {}
        #: Contents of tasks that have left memory, by the user's ids.
        self.digests: dict[str, bytes | None] = {}
        self.closed = False
        #: A fault of our own, after which nothing starts.
        self.fault: InternalError | None = None
        self.started = False

        # Ids of one life differ from those of any other.
        seeded = Random(seed) if seed is not None else Random()  # noqa: S311
        self._prefix = f"{seeded.getrandbits(40):010x}-"
        self._numbers = count(1)
        self._call_buckets: dict[str, Bucket] = {}
        self.submission = Submission(self)
        self.loops = LoopHost(self.name)
        self.threads = WorkerThreads(
            self.name, self._run, THREAD_LOCAL, config.concurrency, self.fail_stop
        )
        self._idle = self.threads.idle
        self.attempts = Attempts(self)
        self.publisher = Publisher(self)
        self.signals = Signals(self.receivers_changed)
        self.timer = TimerThread(self)
        self.waiting = Waiting(self)
        self._changing = threading.Lock()
        self._ref_types = frozenset({Work, work_class, Task, list})
        self.receivers_changed()
        self.kernel.add_agent(Agent(LOCAL), self.now())

    # -- steps ---------------------------------------------------------------------

    def settle(self, now: int) -> Launch | None:
        """
        Under the lock: let the kernel choose, and note what is to be done.

        Raises:
            InternalError: A fault of ours: `fail_stop` follows.
        """
        try:
            return self._settle(now)
        except Exception as error:
            message = f"taskorch itself failed: {describe(error)}"
            raise InternalError(message) from error

    def _settle(self, now: int) -> Launch | None:
        kernel = self.kernel
        if self.fault is not None:
            return None
        if kernel.open or kernel.returning:
            kernel.dispatch(now)
        if kernel.touched:
            self._touch()
        if kernel.dropped:
            self._drop()
        if self.deciders.slow:
            self._say_slow(now)
        if kernel.sink:
            self._publish()
        if kernel.timers:
            self.timer.look(kernel.timers[0][0])
        if self.waiting.quiet and kernel.quiescent():
            self.waiting.say_quiet()
        if not kernel.starts and not kernel.effects:
            return None
        launch = Launch([self._assign(row) for row in kernel.starts], kernel.effects)
        kernel.starts = []
        kernel.effects = []
        return launch

    def _assign(self, row: TaskRow) -> tuple[TaskRow, int, Work, Worker | None]:
        work: Work = row.cargo
        worker = None
        if self._idle and self.attempts.how_of(row, work) == THREAD:
            worker = self._idle.pop()
        return row, row.attempt, work, worker

    def launch(self, launch: Launch | None) -> None:
        """Outside the lock: do what the step said."""
        if launch is None:
            return
        for effect in launch.effects:
            self.attempts.carry_out(effect)
        for row, attempt, work, worker in launch.starts:
            if worker is not None:
                self.threads.start((row, attempt, work), worker)
            else:
                self.attempts.begin(row, attempt, work)

    def step(self, change: Callable[[int], Any]) -> Any:
        """Enter the lock, make *change*, and do what follows from it."""
        self.deciders.refuse_reentry()
        lock = self.lock
        if lock.locked():
            yield_gil(lock)
        launch = None
        inside = False
        try:
            try:
                with lock:
                    inside = True
                    now = self.now()
                    try:
                        return change(now)
                    finally:
                        launch = self.settle(now)
            except PolicyFault as fault:
                raise self.component_error(fault, None) from fault.error
            except InternalError as error:
                self.fail_stop(error)
                raise
            finally:
                # Even if the change was refused: others may have been let go by it.
                self.launch(launch)
        except Exception:
            raise
        except BaseException as error:
            if inside:
                self.interrupted(error)
            raise

    def interrupted(self, error: BaseException) -> None:
        """
        An exception from outside (Ctrl-C) has cut a step short: nobody knows where.

        What was to start may have been lost, so it stops everything, as a fault does.
        """
        message = f"a step was cut short by {type(error).__name__}"
        fault = InternalError(message, hint="make a new orchestrator")
        fault.__cause__ = error
        # It may have come on the way into a policy, or out of one.
        self.deciders.asking = 0
        self.fail_stop(fault)

    def _touch(self) -> None:
        touched, self.kernel.touched = self.kernel.touched, []
        for row, work in touched:
            if work is None:
                continue
            if row.state in _TERMINAL:
                tidy(row, work)
            if work._waiters is not None:
                self.wake(work)

    def wake(self, work: Work) -> None:
        """Tell those who wait for *work*."""
        waiters, work._waiters = work._waiters, None
        for waiter in waiters or ():
            waiter()

    def _drop(self) -> None:
        dropped, self.kernel.dropped = self.kernel.dropped, []
        for row in dropped:
            work, row.cargo = row.cargo, None
            self.submission.remember(row, work)
            # Whoever has the handle keeps the result, and not what led to it.
            work._task = work._extra = None
            work._args, work._kwargs = (), {}

    def _say_slow(self, now: int) -> None:
        slow, self.deciders.slow = self.deciders.slow, []
        for component, seconds in slow:
            self.kernel.note(PolicySlow, now, component, seconds)

    def _publish(self) -> None:
        items = self.kernel.sink
        assert items is not None  # noqa: S101 - the caller looked
        if self.journal.keep_events:
            # What belongs to the facts stays with the tasks.
            self.journal.append(self.epoch, [(fact, None) for fact, _ in items])
        if self.publisher.receivers:
            self.publisher.put(items)
        items.clear()

    # -- the plain path ------------------------------------------------------------

    def submit_call(  # noqa: C901, PLR0912 - the hot path, written out
        self,
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
        refs = self._ref_types
        given = (*args, *kwargs.values()) if kwargs else args
        for arg in given:
            if type(arg) in refs and references(given):
                return self.submit_tasks([Task.call(fn, *args, kwargs=kwargs)])[0]
        bucket, how = self._call_bucket(fn)
        work = self.work_class(self, fn, args, kwargs, how, ctx)
        if bucket.verdict is None:
            self._validate_call(bucket, work)
        kernel = self.kernel
        lock = self.lock
        if self.deciders.asking:
            self.deciders.refuse_reentry()
        task_id = self._prefix + str(next(self._numbers))
        if work._task is not None:
            # It is of our own making, and needs no copy with the id.
            object.__setattr__(work._task, "id", task_id)
        if lock.locked():
            yield_gil(lock)
        launch = None
        inside = False
        try:
            try:
                with lock:
                    if self.closed or self.fault is not None:
                        self.refuse_submission()
                    inside = True
                    now = self.now()
                    work._row = kernel.submit(task_id, bucket, work, now)
                    if kernel.sink or (
                        kernel.running < kernel.concurrency and not kernel.paused
                    ):
                        launch = self.settle(now)
            except PolicyFault as fault:
                raise self.component_error(fault, task_id) from fault.error
            except InternalError as error:
                self.fail_stop(error)
                raise
            if launch is not None:
                self.launch(launch)
        except Exception:
            raise
        except BaseException as error:
            if inside:
                self.interrupted(error)
            raise
        return work

    def submit_calls(
        self, fn: Callable[..., Any], calls: list[tuple[Any, ...]], ctx: Context
    ) -> list[Work]:
        """Submit many calls of *fn*, in slices: between two, others have their turn."""
        if any(references(args) for args in calls):
            return self.submit_tasks([Task.call(fn, *args) for args in calls])
        bucket, how = self._call_bucket(fn)
        kernel = self.kernel
        make = self.work_class
        works: list[Work] = []
        for start in range(0, len(calls), _SLICE):
            part = [
                make(self, fn, args, NO_KWARGS, how, ctx)
                for args in calls[start : start + _SLICE]
            ]
            if bucket.verdict is None:
                for work in part:
                    self._validate_call(bucket, work)

            def change(now: int, part: list[Work] = part) -> None:
                self.refuse_submission()
                for work in part:
                    task_id = self._prefix + str(next(self._numbers))
                    work._row = kernel.submit(task_id, bucket, work, now)

            self.step(change)
            works += part
        return works

    def _call_bucket(self, fn: Callable[..., Any]) -> tuple[Bucket, int]:
        if not callable(fn):
            msg = f"a function is submitted, not {show(fn)}"
            raise InvalidTaskError(msg, hint="orch.submit_task(Task(…)) takes tasks")
        how = how_to_call(fn, None, ())
        name = call_type(fn)
        bucket = self._call_buckets.get(name)
        if bucket is None or bucket.forgotten:
            if len(self._call_buckets) > _MANY:
                self._call_buckets.clear()
            bucket = self._call_buckets[name] = self.kernel_bucket(Spec(name))
        return bucket, how

    def _validate_call(self, bucket: Bucket, work: Work) -> None:
        payload = Call(work._fn or nothing, work._args, dict(work._kwargs))
        task = Task(bucket.spec.type, payload)
        if self.submission.validate(task, formed=True):
            bucket.verdict = True
        else:
            # Others will ask for it too.
            work._task = task

    def kernel_bucket(self, spec: Spec) -> Bucket:
        """The bucket of *spec*."""
        self.deciders.refuse_reentry()
        with self.lock:
            return self.kernel.bucket(spec)

    def _run(  # noqa: C901, PLR0912, PLR0915 - the hot path, written out
        self, worker: Worker, item: tuple[TaskRow, int, Work]
    ) -> Any:
        """On a worker: do one attempt, end it, and take the next in the same step."""
        row, attempt, work = item
        worker.current = (work, attempt)
        value: Any = None
        error: BaseException | None = None
        if work._how == THREAD and work._extra is None:
            try:
                value = work._ctx.copy().run(work._fn, *work._args, **work._kwargs)  # type: ignore[arg-type]
            except BaseException as raised:  # noqa: BLE001 - it is the task's
                error = raised
        else:
            handed, value, error = self.attempts.perform(row, attempt, work)
            if handed:
                # A program now runs for it: the thread is free, the slot is not.
                return self._next(worker, None)
        if type(value) is CoroutineType:
            value, error = None, unawaited(value, row.id)
        worker.current = None
        lock = self.lock
        if lock.locked():
            yield_gil(lock)
        kernel = self.kernel
        launch = None
        with lock:
            now = self.now()
            if error is None:
                if row.attempt == attempt and row.state not in _TERMINAL:
                    work._value = value
                kernel.complete(row, attempt, now)
            else:
                self.end_badly(row, attempt, work, error, now)
            if work._waiters is not None and row.state in _TERMINAL:
                self.wake(work)
            del value, work
            if kernel.open or kernel.returning:
                kernel.dispatch(now)
            starts = kernel.starts
            following = None
            if starts and self.attempts.how_of(starts[0], starts[0].cargo) == THREAD:
                first = starts.pop(0)
                following = (first, first.attempt, first.cargo)
                del first
            if following is None:
                self._rest(worker)
            if kernel.sink:
                self._publish()
            if (
                starts
                or kernel.touched
                or kernel.effects
                or kernel.timers
                or self.waiting.quiet
                or kernel.dropped
                or self.deciders.slow
            ):
                launch = self.settle(now)
        if launch is not None:
            self.launch(launch)
        try:
            return following
        finally:
            # The frames of an error lead to this one: it keeps no other task alive.
            del following, starts, launch

    def _next(self, worker: Worker, following: Any) -> Any:
        worker.current = None
        with self.lock:
            launch = self.settle(self.now())
            self._rest(worker)
        self.launch(launch)
        return following

    def _rest(self, worker: Worker) -> None:
        """Under the lock: *worker* has nothing to do."""
        if self.closed or len(self._idle) >= self.threads.keep:
            worker.leaving = True
        else:
            self._idle.append(worker)

    def end_badly(
        self, row: TaskRow, attempt: int, work: Work, error: BaseException, now: int
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
        # A program that is suspended can be killed from outside.
        if row.attempt == attempt and row.state in (
            TaskState.RUNNING,
            TaskState.SUSPENDED,
        ):
            work._error = seen
        # A retry policy names what is raised, not what it is wrapped in for callers.
        self.kernel.end_attempt(row, attempt, outcome, now, error, described)

    def finish(
        self,
        row: TaskRow,
        attempt: int,
        work: Work,
        value: Any,
        error: BaseException | None,
    ) -> None:
        """Anywhere but on a worker: the attempt has ended."""
        try:
            self._finish(row, attempt, work, value, error)
        except Exception as fault:  # noqa: BLE001 - it is ours
            self.fail_stop(fault)

    def fail_stop(self, error: BaseException) -> None:
        """
        A fault of our own: nothing starts any more, and nobody waits for ever.

        What the state says can no longer be trusted, so every task that has not ended
        fails with an InternalError, as does every later submission.
        """
        with self.lock:
            if self.fault is not None:
                return
            message = (
                error.message
                if isinstance(error, InternalError)
                else f"taskorch itself failed: {describe(error)}"
            )
            hint = error.hint if isinstance(error, InternalError) else None
            self.fault = InternalError(message, hint=hint)
            self.fault.__cause__ = error
            _LOG.critical(message, exc_info=error)
            kernel = self.kernel
            kernel.paused = True
            kernel.starts.clear()
            kernel.active = kernel.delayed = 0
            for row in list(kernel.tasks.values()):
                if row.state not in _TERMINAL:
                    more_of(row).error = ("InternalError", message, "internal")
                    row.state = TaskState.FAILED
                    row.ended_ns = self.now()
                    if row.cargo is not None and row.cargo._waiters is not None:
                        self.wake(row.cargo)
            self.waiting.say_quiet()

    def refuse_submission(self) -> None:
        """
        Under the lock: called where tasks come in.

        Raises:
            NotRunningError: It has stopped.
            InternalError: It has failed.
        """
        if self.fault is not None:
            fault = self.fault
            raise InternalError(fault.message, hint=fault.hint) from fault
        if self.closed:
            msg = "the orchestrator has stopped"
            raise NotRunningError(msg, hint="make a new one: it cannot be restarted")

    def _finish(
        self,
        row: TaskRow,
        attempt: int,
        work: Work,
        value: Any,
        error: BaseException | None,
    ) -> None:
        lock = self.lock
        if lock.locked():
            yield_gil(lock)
        with lock:
            now = self.now()
            if error is None:
                if row.attempt == attempt and row.state not in _TERMINAL:
                    work._value = value
                self.kernel.complete(row, attempt, now)
            else:
                self.end_badly(row, attempt, work, error, now)
            if work._waiters is not None and row.state in _TERMINAL:
                self.wake(work)
            launch = self.settle(now)
        self.launch(launch)

    # -- tasks ---------------------------------------------------------------------

    def submit_tasks(self, tasks: Iterable[Task]) -> list[Work]:
        """
        Submit tasks, all or none.

        Raises:
            UsageError: One was refused; none is accepted.
        """
        self.deciders.refuse_reentry()
        if not isinstance(tasks, Iterable):
            msg = f"a list of tasks is submitted, not {show(tasks)}"
            raise InvalidTaskError(msg, hint="use submit_task(task) for one task")
        submission = self.submission
        tasks = tasks if isinstance(tasks, list | tuple) else list(tasks)
        works: list[Work] | None = None
        plain = submission.plain(tasks)
        if plain is not None:

            def change_plain(now: int) -> list[Work] | None:
                self.refuse_submission()
                return submission.admit_plain(plain, now)

            works = self.step(change_plain)
        if works is None:
            entries = [submission.prepare(task) for task in tasks]

            def change(now: int) -> list[Work]:
                self.refuse_submission()
                return submission.admit(entries, now)

            works = self.step(change)
        return works or []

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """What an id is made of, for those who make many."""
        return self._prefix, self._numbers

    def new_id(self) -> str:
        """A new id."""
        return self._prefix + str(next(self._numbers))

    def new_work(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        how: int,
        ctx: Context,
    ) -> Work:
        """The work of a task."""
        return self.work_class(self, fn, args, kwargs, how, ctx)

    def name_row(self, row: TaskRow) -> None:
        """The user named *row*: remember what it was when it leaves memory."""
        more_of(row).named = True

    def find(self, ref: Any, by: Task) -> Work:
        """
        The work that *ref* stands for.

        Args:
            ref: An id, a handle, or a submitted Task.
            by: The task that depends on it.

        Raises:
            UnknownTaskError: There is none.
        """
        if isinstance(ref, Work):
            if ref._rt is self:
                return ref
            msg = f"{_name_of(by)} needs {ref!r}, which is of another orchestrator"
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        if isinstance(ref, str):
            return self.known(ref, by)
        if not isinstance(ref, Task):
            msg = f"{_name_of(by)} needs {show(ref)}, which is no id, handle or task"
            raise UnknownTaskError(msg, task_id=by.id)
        name = ref._submitted_as or ref.id
        if name is None:
            msg = f"{_name_of(by)} needs {_name_of(ref)}, which was not submitted"
            hint = "submit it first, or in the same list of tasks"
            raise UnknownTaskError(msg, hint=hint, task_id=by.id)
        if name not in self.kernel.tasks and name not in self.kernel.retired:
            msg = (
                f"{_name_of(by)} needs task {name}, which was not submitted here, or "
                "was submitted to another orchestrator since"
            )
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        return self.known(name, by)

    def known(self, task_id: str, by: Task | None = None) -> Work:
        """
        The work of a task by its id.

        Raises:
            UnknownTaskError: There is none.
        """
        row = self.kernel.tasks.get(task_id)
        if row is not None and row.cargo is not None:
            work: Work = row.cargo
            return work
        state = self.kernel.retired.get(task_id)
        if state is not None:
            return gone(self, task_id, state)
        who = "" if by is None else f"{_name_of(by)} needs {task_id!r}, but "
        msg = f"{who}no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=task_id)

    def rerun(self, task_id: str) -> Work:
        """
        Run a finished task again.

        Raises:
            UnknownTaskError: It is not in memory.
            InvalidTransitionError: It has not ended.
        """

        def change(now: int) -> Work:
            self.refuse_submission()
            return self.submission.rerun(task_id, now)

        result: Work = self.step(change)
        return result

    def hold_if_asked(self, row: TaskRow, attempt: int) -> None:
        """A program has begun: it may have been suspended while it was on its way."""

        def change(now: int) -> None:
            more = row.more
            asked = more is not None and more.aside and more.stop == "suspend"
            if asked and row.attempt == attempt and row.state is TaskState.RUNNING:
                # Not at a checkpoint, of which it has none, but where it stands.
                self.kernel.resume(row, now)
                with suppress(InvalidTransitionError):
                    self.kernel.suspend(row, now, holdable=True)

        self.step(change)

    def progress(self, work: Work, attempt: int, value: Any) -> None:
        """A task reported *value*."""
        row = work._row
        extra_of(work).progress = value

        if self.kernel.sink is None:
            # Nobody listens: it has its number, and that is all.
            self.deciders.refuse_reentry()
            with self.lock:
                if row.attempt == attempt:
                    self.kernel.seq += 1
            return

        def change(now: int) -> None:
            if row.attempt == attempt:
                self.kernel.note(
                    TaskProgressed, now, row.id, attempt, value, cargo=work
                )

        self.step(change)

    # -- agents --------------------------------------------------------------------

    def add_agent(self, info: Agent, runner: AgentRunner) -> None:
        """
        An agent joins.

        Raises:
            InvalidTaskError: The name is taken.
        """

        def change(now: int) -> AgentRow:
            if info.name in self.kernel.agents:
                msg = f"there is an agent {info.name!r} already"
                raise InvalidTaskError(msg, hint="give it another name")
            self.runners[info.name] = runner
            return self.kernel.add_agent(info, now)

        self.step(change)

    # -- facts ---------------------------------------------------------------------

    def note(self, cls: type[Event], *fields: Any) -> None:
        """Record a fact; not under the lock."""
        self.step(lambda now: self.kernel.note(cls, now, *fields))

    def note_locked(self, cls: type[Event], *fields: Any) -> None:
        """Under the lock: record a fact and publish it."""
        self.kernel.note(cls, self.now(), *fields)
        if self.kernel.sink:
            self._publish()

    def receivers_changed(self) -> None:
        """A receiver came or went: listen for what is wanted, and for no more."""
        self.deciders.refuse_reentry()
        with self._changing:
            self._listen()

    def _listen(self) -> None:
        old = {
            (cls, id(receiver.call)): receiver
            for cls, receivers in self.publisher.receivers.items()
            for receiver in receivers
        }
        wanted = {
            cls: tuple(
                old.get((cls, id(call))) or Receiver(name, call) for call in calls
            )
            for cls, (name, calls) in self.signals.connected().items()
        }
        facts = {
            fact: None
            for fact, views in VIEWS.items()
            if any(view in wanted for view in views)
        }
        keep = self.journal.keep_events
        with self.lock:
            self.publisher.receivers = wanted
            sink = self.kernel.sink
            if sink is None and (facts or keep):
                sink = []
            elif not (facts or keep):
                sink = None
            classes = frozenset(CATALOGUE if keep else facts)
            self.kernel.listen(sink, classes)
        self.timer.monitor(any(cls in wanted for cls in MONITORING))

    def receiver_failed(self, receiver: Receiver, error: BaseException) -> None:
        """A receiver raised."""
        described = said(error)
        self.step(
            lambda now: self.kernel.note(
                ReceiverFailed, now, receiver.signal, receiver.name, *described
            )
        )

    def component_error(
        self, fault: PolicyFault, task_id: str | None
    ) -> ComponentError:
        """What a caller is told of a policy that failed; says it to all, too."""
        with self.lock:
            now = self.now()
            note_fault(self.kernel, task_id, fault, now)
            launch = self.settle(now)
        self.launch(launch)
        kind, message = said(fault.error)
        msg = f"the {fault.component} failed: {kind}: {message}"
        return ComponentError(msg, component=fault.component, task_id=task_id)

    def begin_work(self) -> None:
        """Start what has been submitted."""
        self.started = True

        def change(now: int) -> None:
            self.kernel.paused = False
            del now

        self.step(change)

    def report(self) -> None:
        """Monitoring: say how things stand, to those who listen."""
        wanted = self.publisher.receivers
        if StatsReported in wanted:
            self.note(StatsReported, _reports.stats(self))
        if HealthReported in wanted:
            self.note(HealthReported, _reports.health(self))
        if PerformanceReported in wanted:
            self.note(PerformanceReported, dict(_reports.stats(self).types))


def _name_of(task: Task) -> str:
    return f"task {task.id}" if task.id else f"a task of type {task.type!r}"
