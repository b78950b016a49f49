"""
The runtime: drives the kernel under one short lock, and does what it says.

One step is: enter the lock, tell the kernel what happened, let it choose what starts
next, leave the lock, start that. A worker that ends an attempt takes its next one in
the same step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

from taskorch._visible import said, visible
from taskorch.errors import (
    ComponentError,
    InternalError,
    InvalidTaskError,
    InvalidTransitionError,
    JournalError,
    NotRunningError,
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
    TaskCheckpointed,
    TaskProgressed,
)
from taskorch.executors._threads import Worker, WorkerThreads
from taskorch.journal import MemoryJournal
from taskorch.kernel import (
    LOCAL,
    AgentRow,
    Bucket,
    Kernel,
    KernelConfig,
    PolicyFault,
    Spec,
    StopAttempt,
    TaskRow,
    describe,
    is_under_way,
)
from taskorch.model import TERMINAL, Agent, TaskState, Units
from taskorch.model._limits import BLOCKING_SECONDS
from taskorch.model._show import show
from taskorch.protocols import AttemptExecutor, Journal
from taskorch.runtime import _calls, _intake
from taskorch.runtime._attempts import (
    AgentRunner,
    Attempts,
    tidy,
)
from taskorch.runtime._clock import MonotonicClock
from taskorch.runtime._committer import Committer
from taskorch.runtime._context import LOCAL as THREAD_LOCAL
from taskorch.runtime._context import AttemptContext
from taskorch.runtime._deciders import Parts, PolicyDeciders, check_parts
from taskorch.runtime._directory import Directory
from taskorch.runtime._driver import Launch
from taskorch.runtime._gil import yield_gil
from taskorch.runtime._interrupts import (
    DEFERRED,
    INTERRUPTS,
    defers_interrupts,
    guard,
    raise_deferred,
    unguard,
)
from taskorch.runtime._kept import document_of
from taskorch.runtime._loops import LoopHost
from taskorch.runtime._notices import Notices
from taskorch.runtime._orphans import hold_orphans, take_up
from taskorch.runtime._publisher import Publisher, Receiver
from taskorch.runtime._recovery import Recovery
from taskorch.runtime._room import Room
from taskorch.runtime._submission import Submission
from taskorch.runtime._timer import TimerThread
from taskorch.runtime._tracing import signed
from taskorch.runtime._waiting import Waiting
from taskorch.runtime._work import (
    NEVER,
    Emitted,
    Work,
    extra_of,
    gone_of,
    result_of_wait,
    set_result,
    task_of,
)
from taskorch.signals import Signals

if TYPE_CHECKING:
    from taskorch.telemetry._metrics import Metrics
    from taskorch.telemetry._spans import Spans

_LOG: Final = logging.getLogger(__name__)
#: Events that are reported at an interval, while somebody listens.
MONITORING: Final = (StatsReported, HealthReported, PerformanceReported)
#: What to do about a task of another orchestrator.
_FOREIGN: Final = "wait there, with handle.result(), and hand over what it returns"
#: Tasks of a batch for which it is worth while to let the garbage collector rest.
_MANY: Final = 1_000


class Runtime:
    """
    One orchestrator: its parts, and the steps that they make together.

    The facade is a thin layer over it. A verb is a function of its own, below, which
    says what it asks; what makes it a method is that it is named here.
    """

    # Plain calls, on their way in and to the end.
    submit_call: Final = _calls.submit_call
    submit_calls: Final = _calls.submit_calls
    knows: Final = _calls.knows
    run = _calls.run
    finish = _calls.finish

    # What else comes in.
    submit_tasks: Final = _intake.submit_tasks
    submit_run: Final = _intake.submit_run
    rerun: Final = _intake.rerun
    add_parents: Final = _intake.add_parents
    emit: Final = _intake.emit

    def __init__(  # noqa: PLR0915 - all that there is
        self,
        *,
        parts: Parts,
        config: KernelConfig,
        pools: Units,
        executors: Mapping[str, AttemptExecutor[Any]],
        journal: MemoryJournal | Journal,
        seed: int | None,
        monitor_interval: float,
        work_class: type[Work],
        context_class: type[AttemptContext],
        report: Callable[[Any], None],
        rerun_failed: bool = False,
    ) -> None:
        check_parts(parts)
        random = Random(seed)  # noqa: S311 - for decisions, not for secrets
        self.name = "taskorch"
        self.lock = threading.Lock()
        self.now = MonotonicClock().now_ns
        self.deciders = PolicyDeciders(parts, task_of)
        self._random = random
        self._config = config
        self._pools = pools
        self.new_kernel()
        #: Which task an id means.
        self.directory = Directory(self)
        #: What is handed out of a task, and what an attempt of one is given.
        self.work_class = work_class
        self.context_class = context_class
        #: Says how things stand, to those who listen.
        self._report = report
        self.monitor_interval = monitor_interval
        #: Keeps events in memory, if asked to.
        self.memory: MemoryJournal | None = None
        #: Keeps everything; None: nothing outlives the process.
        self.committer: Committer | None = None
        #: The number of this life of the orchestrator, for the fence.
        self.epoch = 1
        #: Whether the journal has been read; nothing is done before it has.
        self.opened = True
        self._opening = threading.Lock()
        #: The last fact that is kept: what is settled by a later one is not told yet.
        self.committed = 0
        #: The last fact of earlier lives, and of taking up what they have left.
        self.opened_at = -1
        #: Whether what had failed by then runs again when it is submitted again.
        self.rerun_failed = rerun_failed
        #: It has ended, and left what has not to its next life.
        self.halted = False
        #: Marks the programs of this life.
        self.run_id: str = ""
        if isinstance(journal, MemoryJournal):
            self.memory = journal
            self.epoch = journal.claim()
        else:
            self.committer = Committer(self, journal)
            self.opened = False
        self.runners: dict[str, AgentRunner] = {}
        #: Agents that join when the journal has been read.
        self.joining: list[Agent] = [Agent(LOCAL)]
        #: What those who listen want to hear of.
        self.wanted: frozenset[type[Event]] = frozenset()
        #: Of tasks of earlier lives that wait, what no agent can do that is here.
        self.orphans: dict[Spec, None] = {}
        self.closed = False
        #: The manager of workflows, once it was needed.
        self.manager: Any = None
        #: A fault of our own, after which nothing starts.
        self.fault: InternalError | JournalError | None = None
        self.started = False
        #: Makes spans, if there is an SDK for them.
        self.spans: Spans | None = None
        #: Measures, likewise.
        self.metrics: Metrics | None = None

        self._seed = seed
        self.name_life()
        self._numbers: Iterator[int] = count(1)
        #: What calls come to, by the names of their functions.
        self.known_calls: dict[str, _calls.KnownCall] = {}
        self.submission = Submission(self)
        self.loops: LoopHost = LoopHost(self.name, self.fail_stop)
        self.threads: WorkerThreads = WorkerThreads(
            self.name,
            self.run,
            THREAD_LOCAL,
            config.concurrency,
            self.fail_stop,
        )
        self._idle = self.threads.idle
        self.attempts = Attempts(self, executors)
        self.executors = self.attempts.executors
        self.publisher = Publisher(self)
        self.signals = Signals(self.receivers_changed)
        self.room = Room(self)
        self.timer = TimerThread(self)
        self.waiting = Waiting(self)
        self.notices = Notices(self)
        self._changing = threading.Lock()
        self.receivers_changed()
        if self.opened:
            self.kernel.add_agent(self.joining.pop(), self.now())

    def new_kernel(self) -> None:
        """Begin with nothing."""
        self.kernel = Kernel(self._config, self.deciders, self._random, self._pools)
        self.kernel.hand_over = self._hand_over
        self.deciders.bind(self.kernel)

    def name_life(self) -> None:
        """Ids of one life differ from those of any other."""
        seed: int | str | None = self._seed
        if seed is not None and self.epoch > 1:
            seed = f"{seed}/{self.epoch}"
        seeded = Random(seed) if seed is not None else Random()  # noqa: S311
        self._prefix = f"{seeded.getrandbits(40):010x}-"
        self.run_id = self._prefix.rstrip("-")

    @defers_interrupts
    def open(self) -> None:
        """
        Read the journal, once, and take up what earlier lives have left.

        Raises:
            JournalError: It cannot be used; this orchestrator has ended.
        """
        with self._opening:
            if self.opened:
                return
            self.refuse_submission()
            assert self.committer is not None  # noqa: S101 - else nothing is opened
            # A submission opens it, too, before the start.
            guard(self)
            try:
                with self.lock:
                    Recovery(self).run()
                    self.opened = True
                    self.settle(self.now())
                    self.opened_at = self.committer.last
                self.loops.opened_here()
                # Before anything else is: that this life has begun.
                self.committer.keep(self.committer.last)
            except BaseException as error:
                if self.opened and isinstance(error, INTERRUPTS):
                    # Only the wait for the commit is over.
                    raise
                self.closed = True
                unguard(self)
                self.committer.abandon()
                self.timer.close(0)
                cause = None if self.fault is None else self.fault.__cause__
                if isinstance(error, InternalError) and isinstance(cause, JournalError):
                    raise cause from None
                raise

    def durable(self) -> Committer | None:
        """
        What keeps the facts, if they are kept: called before something is submitted.

        Raises:
            JournalError: The journal cannot be used, or not now.
            WouldBlockError: The caller is on an event loop, and would block it.
        """
        if self.committer is not None:
            if not self.opened:
                self.open()
            self.committer.refuse()
        return self.committer

    def is_quiet(self) -> bool:
        """Whether nothing can proceed without input from outside."""
        kernel, committer = self.kernel, self.committer
        if committer is not None and committer.trouble:
            # Nothing starts, and what has not begun yet does not either.
            return kernel.active == len(committer.held)
        if self.closed:
            # What is due later is for the next life.
            calm = not (kernel.active or kernel.starts)
        else:
            calm = kernel.quiescent()
        return calm and (committer is None or committer.is_idle())

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

    def _settle(self, now: int) -> Launch | None:  # noqa: C901, PLR0912 - one step, in order
        kernel = self.kernel
        if self.fault is not None:
            return None
        if kernel.open or kernel.returning:
            kernel.dispatch(now)
        if self.orphans and kernel.parked:
            hold_orphans(self, now)
        if kernel.touched:
            self._touch()
        if kernel.dropped:
            self._drop()
        if self.deciders.slow:
            self._say_slow(now)
        if self.notices.due:
            self.notices.hand_over()
        if kernel.sink:
            self.publish()
        if self.committer is not None and self.committer.documents:
            # Of what was refused, or ended for nothing.
            self.committer.documents.clear()
        if kernel.timers:
            self.timer.look(kernel.timers[0][0])
        if self.waiting.quiet and self.is_quiet():
            self.waiting.say_quiet()
        if self.committer is not None:
            starts = self.committer.starts(kernel.starts)
        else:
            starts = [(row, row.attempt, row.cargo) for row in kernel.starts]
        if not starts and not kernel.effects:
            kernel.starts = []
            return None
        launch = Launch([self._assign(*start) for start in starts])
        kernel.starts = []
        if kernel.effects:
            launch.told = self.attempts.in_order(kernel.effects)
            kernel.effects = []
        return launch

    def _assign(
        self, row: TaskRow, attempt: int, work: Work
    ) -> tuple[TaskRow, int, Work, Worker | None]:
        worker = None
        if self._idle and self.attempts.executor_of(row, work) is self.threads:
            worker = self._idle.pop()
        return row, attempt, work, worker

    def launch(self, launch: Launch | None) -> None:
        """Outside the lock: do what the step said."""
        if launch is None:
            return
        if launch.told:
            self.attempts.carry_out(launch.told)
        for row, attempt, work, worker in launch.starts:
            if worker is not None:
                self.threads.start((row, attempt, work), worker)
            else:
                self.attempts.begin(row, attempt, work)

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """
        Enter the lock, make *change*, and do what follows from it.

        Args:
            change: What is done, under the lock.
            keep: Whether to return only once it is kept, in a durable orchestrator.
        """
        self.deciders.refuse_reentry()
        committer = self.committer
        if committer is not None:
            if not self.opened:
                self.open()
            if keep:
                committer.refuse()
                result, last = self._step(change, committer)
                committer.keep(last)
                return result
        return self._step(change, None)[0]

    @defers_interrupts
    def _step(
        self, change: Callable[[int], Any], committer: Committer | None
    ) -> tuple[Any, int]:
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
                    if committer is not None:
                        committer.hush = True
                    try:
                        result = change(now)
                    finally:
                        launch = self.settle(now)
                        if committer is not None:
                            committer.hush = False
                    return result, 0 if committer is None else committer.last
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
        finally:
            if DEFERRED:
                raise_deferred()

    def interrupted(self, error: BaseException) -> None:
        """
        An exception from outside has cut a step short: nobody knows where.

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
            if row.state in TERMINAL:
                tidy(row, work)
                if row.state is TaskState.FAILED:
                    self.notices.note_failed(row, work)
            if work._waiters is not None and self.committer is None:
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
            if row.state is TaskState.FAILED:
                self.notices.forget(row.id, work)
            if self.committer is None:
                # A journal remembers better.
                self.submission.remember(row, work)
            # Whoever has the handle keeps the result, and not what led to it.
            work._task = work._extra = None
            work._above = work._after = ()
            work._args, work._kwargs = (), {}

    def _say_slow(self, now: int) -> None:
        slow, self.deciders.slow = self.deciders.slow, []
        for component, seconds in slow:
            self.kernel.note(PolicySlow, now, component, seconds)
            if seconds > BLOCKING_SECONDS:
                # Handlers of the log's are the user's, and this is under the lock.
                slow_one = component, seconds
                self.publisher.put([(self.notices.policy_was_slow, slow_one)])

    def publish(self) -> None:
        """Under the lock: hand over the facts that have not been told."""
        items = self.kernel.sink
        if not items:
            return
        if self.spans is not None:
            signed(items)
        if self.committer is not None:
            self.committer.take(items)
            items.clear()
            return
        if self.memory is not None and self.memory.keep_events:
            # What belongs to the facts stays with the tasks.
            self.memory.append(self.epoch, [(fact, None) for fact, _ in items])
        if self.publisher.receivers:
            self.publisher.put(items)
        items.clear()

    @defers_interrupts
    def fail_stop(self, error: BaseException) -> None:
        """
        A fault of our own: nothing starts any more, and nobody waits for ever.

        What the state says can no longer be trusted, so every task that has not ended
        fails with an InternalError, as does every later submission; so does one whose
        end is not kept, and will not be. If it is the journal that is lost, its error
        takes the place of ours, and what is under way is asked to stop.
        """
        with self.lock:
            if self.fault is not None:
                return
            if isinstance(error, InternalError | JournalError):
                # What is wrong with a journal is no fault of ours.
                self.fault = _again(error)
            else:
                self.fault = InternalError(f"taskorch itself failed: {describe(error)}")
            self.fault.__cause__ = error
            message = self.fault.message
            _LOG.critical("%s", visible(message), exc_info=error)
            kernel = self.kernel
            under_way = [row for row in kernel.tasks.values() if is_under_way(row)]
            # Nothing more will be kept: what the state says now is told.
            kept, self.committed = self.committed, NEVER
            left = [
                row
                for row in kernel.tasks.values()
                if row.state not in TERMINAL or row.cargo._settled > kept
            ]
            kernel.collapse(left, message, self.now())
            for row in left:
                work: Work | None = row.cargo
                if work is not None:
                    work._error = None
                    if work._waiters is not None:
                        self.wake(work)
            self.waiting.say_quiet()
            self.waiting.return_all()
            if self.committer is not None:
                self.committer.lost()
            told = []
            if isinstance(error, JournalError):
                told = self.attempts.in_order(
                    [StopAttempt(row, row.attempt, "stop") for row in under_way]
                )
        self.attempts.carry_out(told)

    def is_left(self, row: TaskRow) -> bool:
        """
        Whether the orchestrator has stopped, and *row* had ended by then.

        Raises:
            NotRunningError: It has stopped, and left *row* to its next life.
        """
        if not self.closed or self.committer is None:
            return False
        if row.state not in TERMINAL:
            msg = (
                f"the orchestrator has stopped, and left task {row.id} to its next life"
            )
            hint = "open the journal again, and do it there"
            raise NotRunningError(msg, hint=hint, task_id=row.id)
        return True

    @defers_interrupts
    def halt(self) -> None:
        """What has not ended is left to the next life: nobody here waits for it."""
        if self.committer is None:
            return
        with self.lock:
            self.halted = True
            for row in self.kernel.tasks.values():
                work: Work | None = row.cargo
                if work is not None and work._waiters is not None:
                    self.wake(work)

    def refuse_submission(self) -> None:
        """
        Under the lock: called where tasks come in.

        Raises:
            NotRunningError: It has stopped.
            InternalError: It has failed.
        """
        if self.fault is not None:
            fault = self.fault
            raise _again(fault) from fault
        if self.closed:
            msg = "the orchestrator has stopped"
            raise NotRunningError(msg, hint="make a new one: it cannot be restarted")

    # -- tasks ---------------------------------------------------------------------

    def look_up(self, *names: str) -> None:
        """
        Called where something is asked for: the journal has been read by then.

        Raises:
            JournalError: It cannot be.
            NotRunningError: It was not read before the end.
        """
        self.deciders.refuse_reentry()
        self.recall(names)
        committer = self.committer
        if committer is not None and not committer.is_idle():
            # What is told is what is kept, and mostly that is a matter of a moment.
            committer.flush()

    def recall(self, names: Sequence[str]) -> None:
        """
        Look in the journal for tasks of *names* that have left memory.

        Raises:
            JournalError: It cannot be read.
        """
        if not self.opened:
            self.open()
        directory = self.directory
        recovered = directory.recovered
        if recovered is None:
            return
        unknown = directory.unknown(names)
        while unknown:
            found = recovered.ends(unknown)
            with self.lock:
                unknown = directory.recalled(found)

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """What an id is made of, for those who make many."""
        return self._prefix, self._numbers

    def new_id(self) -> str:
        """A new id."""
        return self._prefix + str(next(self._numbers))

    @defers_interrupts
    def kernel_bucket(self, spec: Spec) -> Bucket:
        """The bucket of *spec*."""
        self.deciders.refuse_reentry()
        with self.lock:
            return self.kernel.bucket(spec)

    def new_work(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        executor: AttemptExecutor[Any] | None,
        ctx: Context,
    ) -> Work:
        """The work of a task."""
        return self.work_class(self, fn, args, kwargs, executor, ctx)

    def _hand_over(self, work: Work, emitted: Emitted | None) -> None:
        """Under the lock: a wait ends well, with what came, or with its default."""
        value = result_of_wait(work, emitted)
        set_result(work, value)
        committer = self.committer
        if committer is None:
            return
        if work in committer.documents:
            # Of its submission, in this very step: that is handed over first.
            self.publish()
        if emitted is None:
            committer.documents[work] = committer.journal.document(value)
            return
        if emitted.document is None:
            emitted.document = committer.journal.document(value)
        committer.documents[work] = emitted.document

    def hold_if_asked(self, row: TaskRow, attempt: int) -> None:
        """A program has begun: it may have been suspended while it was on its way."""

        def change(now: int) -> None:
            extra = row.extra
            asked = extra is not None and extra.suspending and extra.stop == "suspend"
            if asked and row.attempt == attempt:
                # Not at a checkpoint, of which it has none, but where it stands.
                self.kernel.resume(row, now)
                with suppress(InvalidTransitionError):
                    self.kernel.suspend(row, now, holdable=True)

        self.step(change)

    def hold_gone(self, row: TaskRow, attempt: int, work: Work) -> None:
        """What the task calls is gone: a person decides, or it comes back."""
        described = ("InvalidTaskError", gone_of(work))
        self.step(
            lambda now: self.kernel.end_attempt(
                row, attempt, "gone", now, None, described
            )
        )

    def checkpoint(self, work: Work, attempt: int, state: Any) -> None:
        """
        A running task leaves *state* for its next attempt; that is not waited for.

        Raises:
            InvalidTaskError: The journal cannot keep it.
        """
        committer = self.committer
        document = None
        if committer is not None:
            document = document_of(committer.journal.document, "state", state)
        row = work._row

        def change(now: int) -> None:
            if row.attempt == attempt:
                if committer is not None:
                    committer.documents[work] = document
                self.kernel.note(TaskCheckpointed, now, row.id, attempt, cargo=work)

        self.step(change)

    def progress(self, work: Work, attempt: int, value: Any) -> None:
        """A task reported *value*."""
        row = work._row
        extra_of(work).progress = value
        if self.committer is not None:
            try:
                self.committer.journal.document(value)
            except InvalidTaskError:
                # The status has it as it is.
                value = show(value)

        if self.kernel.sink is None:
            # Nobody listens: it has its number, and that is all.
            self.deciders.refuse_reentry()
            with self.lock:
                if row.attempt == attempt:
                    self.kernel.note(TaskProgressed, self.now(), row.id, attempt)
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
            # The kernel knows those of earlier lives, too.
            if info.name in [LOCAL, *self.runners]:
                msg = f"there is an agent {info.name!r} already"
                raise InvalidTaskError(msg, hint="give it another name")
            self.runners[info.name] = runner
            joined = self.kernel.add_agent(info, now)
            if self.kernel.blocked and self.committer is not None:
                for row in list(self.kernel.tasks.values()):
                    take_up(self.kernel, row, now)
            return joined

        if not self.opened:
            with self._opening:
                if not self.opened:
                    if info.name in [LOCAL, *self.runners]:
                        msg = f"there is an agent {info.name!r} already"
                        raise InvalidTaskError(msg, hint="give it another name")
                    self.runners[info.name] = runner
                    self.joining.append(info)
                    return
        self.step(change)

    # -- facts ---------------------------------------------------------------------

    def note(self, cls: type[Event], *fields: Any) -> None:
        """Record a fact; not under the lock."""
        self.step(lambda now: self.kernel.note(cls, now, *fields))

    def note_locked(self, cls: type[Event], *fields: Any) -> None:
        """Under the lock: record a fact and publish it."""
        self.kernel.note(cls, self.now(), *fields)
        if self.kernel.sink:
            self.publish()

    def receivers_changed(self) -> None:
        """A receiver came or went: listen for what is wanted, and for no more."""
        self.deciders.refuse_reentry()
        with self._changing:
            self._listen()

    @defers_interrupts
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
        keep = self.memory is None or self.memory.keep_events
        with self.lock:
            self.publisher.receivers = wanted
            self.wanted = frozenset(facts)
            if not self.opened:
                # The facts of earlier lives are told to nobody.
                return
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
        self.notices.receiver_failed(receiver, error)
        described = said(error)
        self.step(
            lambda now: self.kernel.note(
                ReceiverFailed, now, receiver.signal, receiver.name, *described
            )
        )

    @defers_interrupts
    def component_error(
        self, fault: PolicyFault, task_id: str | None
    ) -> ComponentError:
        """What a caller is told of a policy that failed; says it to all, too."""
        with self.lock:
            now = self.now()
            self.kernel.note_fault(task_id, fault, now)
            launch = self.settle(now)
        self.launch(launch)
        kind, message = said(fault.error)
        msg = f"the {fault.component} failed: {kind}: {message}"
        return ComponentError(msg, component=fault.component, task_id=task_id)

    def begin_work(self) -> None:
        """Start what has been submitted."""
        self.started = True

        def change(now: int) -> None:
            del now
            if self.committer is None or not self.committer.trouble:
                self.kernel.unpause()

        self.step(change)

    def report(self) -> None:
        """Monitoring: say how things stand, to those who listen."""
        self._report(self)


def _again(fault: InternalError | JournalError) -> InternalError | JournalError:
    """A copy of *fault*, for somebody else to raise."""
    return type(fault)(fault.message, hint=fault.hint)
