"""
The runtime: it drives the kernel under one short lock, and acts on its decisions.

One step is: enter the lock, tell the kernel what happened, let it choose what starts
next, leave the lock, start that. A worker that ends an attempt takes its next one in
the same step.

Decisions: rooms-and-loading, simulation.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from taskorch.core.engine import _committer, _end, _notices, _opening, _passage
from taskorch.core.engine._attempts import (
    Attempts,
    Strategies,
    WorkerRunner,
    tidy,
    usage_of,
)
from taskorch.core.engine._committer import Committer
from taskorch.core.engine._context import LOCAL as THREAD_LOCAL, AttemptContext, signed
from taskorch.core.engine._deciders import PolicyDeciders, check_chunks
from taskorch.core.engine._directory import (
    Directory,
    LostFunctions,
    hold_orphans,
)
from taskorch.core.engine._documents import keep_late
from taskorch.core.engine._loops import LoopHost, yield_gil
from taskorch.core.engine._notices import Notices, ResourceExhaustion, Saturation
from taskorch.core.engine._publisher import Publisher
from taskorch.core.engine._stale import note_left_out
from taskorch.core.engine._submission import Submission
from taskorch.core.engine._timer import TimerThread
from taskorch.core.engine._waiting import Waiting
from taskorch.core.engine._work import (
    ALL_KEPT,
    Emitted,
    Launch,
    Weights,
    Work,
    forget_task,
    result_of_wait,
    set_result,
    task_of,
    unwanted,
    whom,
)
from taskorch.core.executors._threads import Worker, WorkerThreads
from taskorch.core.journal import MemoryJournal
from taskorch.core.kernel import (
    LOCAL,
    AttemptOutcome,
    Bucket,
    Kernel,
    KernelConfig,
    PolicyFault,
    Spec,
    TaskRow,
    describe,
)
from taskorch.core.signals import Signals
from taskorch.errors import (
    ComponentError,
    InternalError,
    JournalError,
    UnknownTaskError,
)
from taskorch.events import Event, PolicySlow, TaskReady
from taskorch.kit.checks import built_in
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.interrupts import DEFERRED, defers_interrupts, raise_deferred
from taskorch.kit.limits import BLOCKING_SECONDS
from taskorch.kit.machine import host, machine_labels
from taskorch.kit.people import CALLING, caller_name
from taskorch.kit.visible import said
from taskorch.model import (
    TERMINAL,
    Agent,
    HealthCheck,
    Missing,
    Resources,
    TaskState,
    UnitNames,
    Units,
)
from taskorch.policies._kinds import Policies
from taskorch.protocols import AttemptExecutor, Journal

if TYPE_CHECKING:
    from taskorch.core.engine._given import Caching, Meter, Pruning, Tracer
    from taskorch.core.engine._governs import Governs
    from taskorch.core.engine._output import KeptOutput
    from taskorch.core.engine._publisher import Receiver
    from taskorch.core.engine._succession import Succession

T = TypeVar("T")

#: When so many tasks have left memory, other data about them is dropped, too.
_MANY: Final = 64


class TaskEngine:
    """
    The engine: accepts tasks, finds them by ids, acts on them and ends attempts.

    It is a `Runtime`, or a simulated one. They differ in how they make a step, in their
    clock, and in the executors of attempts. All other code about tasks is shared, and
    calls this class.
    """

    __slots__ = (
        "_config",
        "_random",
        "context_class",
        "deciders",
        "directory",
        "kernel",
        "submission",
        "work_class",
    )

    #: Keeps everything; None: nothing outlives the process.
    committer: Committer | None
    #: Judges submissions and starts, if there are policies as data.
    governor: Governs | None
    #: All executors, by name.
    executors: Mapping[str, AttemptExecutor[Any]]
    #: Whether a task that failed in an earlier incarnation runs again if submitted
    #: again.
    rerun_failed: bool
    #: Makes spans, if an SDK of OpenTelemetry is there.
    spans: Tracer | None
    #: Held around every call of the kernel.
    lock: threading.Lock
    #: Parts that are made when they are first needed: two threads get the same one.
    first_made: dict[str, Any]
    #: Returns the time in ns.
    now: Callable[[], int]
    #: Returns the committer, if there is one; called before a submission.
    durable: ClassVar[Callable[..., Committer | None]]
    #: Looks in the journal for tasks of some names that have left memory.
    recall: ClassVar[Callable[..., None]]
    #: Raises if no new task may come in.
    refuse_new: ClassVar[Callable[..., None]]
    #: Returns whether the orchestrator has stopped, and a task had ended by then.
    is_left: ClassVar[Callable[..., bool]]
    #: Lets calls in its block wait for a slow journal.
    patience: ClassVar[Callable[..., AbstractContextManager[None]]]

    #: The class that finds the task an id means.
    _directory_class: type[Directory] = Directory

    # Ways in.
    submit_tasks: Final = _passage.submit_tasks
    submit_run: Final = _passage.submit_run
    rerun: Final = _passage.rerun
    add_parents: Final = _passage.add_parents
    emit: Final = _passage.emit
    control: Final = _passage.control

    # Reports of running tasks.
    checkpoint: Final = _committer.checkpoint
    keep_value: Final = _committer.keep_value
    progress: Final = _committer.progress
    spend: Final = _committer.spend

    def __init__(
        self,
        parts: Policies,
        config: KernelConfig,
        random: Random,
        pools: Resources,
        work_class: type[Work],
        context_class: type[AttemptContext],
    ) -> None:
        self.deciders: PolicyDeciders = PolicyDeciders(parts, task_of)
        self._random = random
        self._config = config
        #: The classes of handles and of contexts.
        self.work_class: type[Work] = work_class
        self.context_class: type[AttemptContext] = context_class
        self.new_kernel(pools.units, pools.unit_names)
        #: Finds the task that an id means.
        self.directory: Directory = self._directory_class(self)
        self.submission: Submission = Submission(self)

    def new_kernel(self, pools: Units = (), named: UnitNames = ()) -> None:
        """Make an empty kernel with *pools*, of which some have *named* units."""
        self.kernel: Kernel = Kernel(
            self._config, self.deciders, self._random, pools, named
        )
        self.kernel.hand_over = self._hand_over
        self.kernel.whom = whom
        self.deciders.bind(self.kernel)
        if self.deciders.governor is not None:
            self.kernel.judge_starts(judged=True)

    # -- what differs --------------------------------------------------------------

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """The prefix and the numbers of new ids, for code that makes many."""
        raise NotImplementedError

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """
        Make *change*, given the time, and act on what the kernel decides.

        With *keep*, return only once it is kept, if there is a journal.
        """
        raise NotImplementedError

    def note_fault(self, fault: PolicyFault, task_id: str | None) -> None:
        """Record that a policy failed, for a task or for none."""
        raise NotImplementedError

    def publish(self) -> None:
        """Publish the events that have not been; hold the lock."""
        raise NotImplementedError

    def refuse_submission(self) -> None:
        """Raise if nothing may come in."""
        raise NotImplementedError

    # -- what both do --------------------------------------------------------------

    def new_id(self) -> str:
        """Return a new id."""
        prefix, numbers = self.id_parts
        return prefix + str(next(numbers))

    @property
    def succession(self) -> Succession:
        """Runs tasks again."""
        from taskorch.core.engine._succession import Succession  # noqa: PLC0415 - few are run again

        return Succession(self, self.submission.preparation)

    @property
    def memo(self) -> Caching:
        """
        The cache of results, made at its first use.

        Raises:
            InvalidTaskError: The extension was deleted.
        """
        parts = self.first_made
        if "memo" not in parts:
            memo = built_in("memo", "cache= of a task").Memo
            parts.setdefault("memo", memo(self))
        cache: Caching = parts["memo"]
        return cache

    def made(self, task_id: str) -> tuple[Work, Any] | None:
        """Return a task and its result, or None if it has no result; hold the lock."""
        try:
            work = self.directory.known(task_id)
        except UnknownTaskError:
            return None
        value = work._value
        if type(value) is Missing or (
            work._error is not None and not issubclass(type(value), Missing)
        ):
            return None
        return work, value

    @defers_interrupts
    def kernel_bucket(self, spec: Spec) -> Bucket:
        """Return the bucket of *spec*."""
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
        """Return the work of a task."""
        return self.work_class(self, fn, args, kwargs, executor, ctx)

    def note(self, cls: type[Event], *fields: Any) -> None:
        """Record an event; do not hold the lock."""
        self.step(lambda now: self.kernel.note(cls, now, *fields))

    def component_error(
        self, fault: PolicyFault, task_id: str | None
    ) -> ComponentError:
        """Return the caller's error for a policy that failed; report it to all."""
        self.note_fault(fault, task_id)
        kind, message = said(fault.error)
        msg = f"the {fault.component} failed: {kind}: {message}"
        return ComponentError(msg, component=fault.component, task_id=task_id)

    def end_as_told(
        self,
        row: TaskRow,
        attempt: int,
        work: Work,
        how: AttemptOutcome,
        value: Any,
        error: BaseException | None,
    ) -> None:
        """End an attempt as *how* says; hold the lock."""
        now = self.now()
        if how == "completed":
            error = unwanted(work, value)
            if error is None:
                if row.attempt == attempt and row.state not in TERMINAL:
                    work._value = value
                end, used = self.kernel.end_attempt, usage_of(value)
                if not end(row, attempt, "completed", now, usage=used):
                    keep_late(work, attempt, value)
                return
            how = "failed"
        described = ("", "") if error is None else said(error)
        _passage.end_ill(
            self, row, attempt, work, how, error, now, (), error, described
        )

    def _hand_over(self, work: Work, emitted: Emitted | None) -> None:
        """End a wait with the value of its event, or its default; hold the lock."""
        value = result_of_wait(work, emitted)
        set_result(work, value)
        committer = self.committer
        if committer is None:
            return
        if work in committer.documents:
            # Its submission, of the same step, has a document, and its event goes
            # first.
            self.publish()
        if emitted is None:
            committer.documents[work] = committer.journal.document(value)
            return
        if emitted.document is None:
            emitted.document = committer.journal.document(value)
        committer.documents[work] = emitted.document


class Runtime(TaskEngine):
    """
    One orchestrator: its parts, and the steps that they make together.

    The facade is a thin layer over it. Many of its methods are functions of other
    modules, which say by a protocol what they need, and are only named here.
    """

    # The slots are listed as in `KernelState`. The dict has `now`, which a
    # checker takes for a method; and a verb, if one is replaced.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_changing",
        "_idle",
        "_numbers",
        "_prefix",
        "_report",
        "_seed",
        "attempts",
        "begins",
        "closed",
        "committed",
        "committer",
        "declared",
        "draining",
        "driven",
        "epoch",
        "executors",
        "fault",
        "first_made",
        "fleet",
        "glue",
        "governor",
        "halted",
        "joining",
        "known_calls",
        "lifecycle",
        "litter",
        "lock",
        "loops",
        "lost",
        "maps",
        "memory",
        "metrics",
        "monitor_interval",
        "name",
        "named",
        "notices",
        "opened",
        "opened_at",
        "opening",
        "orphans",
        "pools",
        "pruner",
        "publisher",
        "rerun_failed",
        "room",
        "run_id",
        "runners",
        "runs",
        "saturation",
        "signals",
        "spans",
        "stand_ins",
        "started",
        "strategies",
        "takes_up",
        "threads",
        "timer",
        "waiting",
        "wanted",
        "weights",
    )

    # Plain calls, on their way in and to the end.
    submit_calls: Final = _passage.submit_calls
    knows: Final = _passage.knows
    run: Final = _passage.run
    finish: Final = _passage.finish

    # The journal.
    open: Final = _opening.open_journal
    durable: ClassVar[Callable[..., Committer | None]] = _opening.durable
    look_up: Final = _opening.look_up
    recall: ClassVar[Callable[..., None]] = _opening.recall
    add_worker: Final = _opening.add_worker

    # Other ways in.
    rerun_below: Final = _passage.rerun_below

    # The end.
    halt: Final = _end.halt
    is_left: ClassVar[Callable[..., bool]] = _end.is_left
    refuse_new: ClassVar[Callable[..., None]] = _end.refuse_new
    is_left_outside: ClassVar[Callable[..., bool]] = _end.is_left_outside
    patience: ClassVar[Callable[..., AbstractContextManager[None]]] = _end.patience

    def __init__(  # noqa: PLR0915 - it makes all parts
        self,
        *,
        parts: Policies,
        config: KernelConfig,
        pools: Resources,
        executors: Mapping[str, AttemptExecutor[Any]],
        journal: MemoryJournal | Journal,
        seed: int | None,
        monitor_interval: float,
        work_class: type[Work],
        context_class: type[AttemptContext],
        report: Callable[[Any], None],
        rerun_failed: bool = False,
        keep_finished_mb: float | None = None,
        keep_logs_mb: float | None = 0.0,
    ) -> None:
        random = Random(seed)  # noqa: S311 - for decisions, not for secrets
        self.name: str = "taskorch"
        self.lock: threading.Lock = threading.Lock()
        #: What has left memory under the lock; it is freed once the lock is.
        self.litter: list[Any] = []
        self.now: Callable[[], int] = MonotonicClock().now_ns
        check_chunks(parts.allocator, pools.units)
        super().__init__(parts, config, random, pools, work_class, context_class)
        #: The pools of this incarnation; an earlier one may have had more.
        self.pools: Units = pools.units
        self.named: UnitNames = pools.unit_names
        #: Publishes statistics, health and performance, if they have listeners.
        self._report = report
        self.monitor_interval: float = monitor_interval
        #: Keeps events in memory, if asked to.
        self.memory: MemoryJournal | None = None
        #: Keeps everything; None: nothing outlives the process.
        self.committer: Committer | None = None
        #: The number of this incarnation of the orchestrator, for the fence.
        self.epoch: int = 1
        #: Whether the journal has been read; nothing is done before it has.
        self.opened: bool = True
        #: What was declared before the journal was read, and is to be done then.
        self.declared: list[Callable[[], object]] = []
        #: Held by whoever opens, starts or ends it. An RLock: a start opens it, too.
        self.opening: threading.RLock = threading.RLock()
        #: The last event that is kept: ends in later ones are not reported yet.
        self.committed: int = 0
        #: The last event of earlier incarnations, and of taking up their tasks.
        self.opened_at: int = -1
        #: Whether a task that had failed by then runs again if submitted again.
        self.rerun_failed: bool = rerun_failed
        #: Whether it takes up the tasks of earlier incarnations, with its own pools and
        #: workers. If not, it runs nothing: a command only changes the journal.
        self.takes_up: bool = True
        #: Whether it has ended, and left its unfinished tasks to its next incarnation.
        self.halted: bool = False
        #: Tasks of earlier incarnations whose functions were missing at the last look.
        self.lost: LostFunctions = LostFunctions(self)
        #: The mark of the programs of this incarnation.
        self.run_id: str = ""
        if isinstance(journal, MemoryJournal):
            self.memory = journal
            self.epoch = journal.claim()
        else:
            self.committer = Committer(self, journal)
            self.opened = False
        self.runners: dict[str, WorkerRunner] = {}
        #: Workers that join when the journal has been read.
        self.joining: list[Agent] = [Agent(LOCAL, labels=machine_labels(), host=host())]
        #: The classes of events that have listeners.
        self.wanted: frozenset[type[Event]] = frozenset()
        #: Reports pools that are nearly used up.
        self.saturation: Saturation = Saturation()
        #: Specs of waiting tasks of earlier incarnations that no worker can do.
        self.orphans: dict[Spec, None] = {}
        self.closed: bool = False
        #: Whether it is about to stop, so that submissions from outside are refused.
        self.draining: bool = False
        #: Whether queued tasks may begin; not if a stop leaves them to the next
        #: incarnation.
        self.begins: bool = True
        #: Starts and stops it.
        self.lifecycle: Any = None
        #: Maps that have an end, and may have more to submit, by their `id()`.
        self.maps: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        #: Calls the controllers, once there are some.
        self.driven: Any = None
        self.first_made: dict[str, Any] = {}
        #: Judges submissions and starts, if there are policies as data.
        self.governor: Governs | None = None
        #: Types of tasks that only hold others together: see `Stats.glue`.
        self.glue: tuple[str, ...] = ()
        #: Workers that stand in for all others: see `AgentStats.stands_by`.
        self.stand_ins: frozenset[str] = frozenset()
        #: Recovery strategies for failed attempts, once there are some.
        self.strategies: Strategies | None = None
        #: Workers that are spawned, once there are some.
        self.fleet: Any = None
        #: The runs of workflows, once they were needed.
        self.runs: Any = None
        #: A fault of our own, after which nothing starts.
        self.fault: InternalError | JournalError | None = None
        #: Further health checks, such as those of notifications.
        self.health_checks: list[Callable[[], HealthCheck]] = []
        #: Deletes old tasks from the journal, if it says how long they are kept.
        self.pruner: Pruning | None = None
        self.started: bool = False
        #: Makes spans, if an SDK of OpenTelemetry is there.
        self.spans: Tracer | None = None
        #: Measures, if an SDK of OpenTelemetry is there.
        self.metrics: Meter | None = None

        self._seed = seed
        self.name_incarnation()
        self._numbers: Iterator[int] = count(1)
        #: Bucket and executor of calls, by the names of their functions.
        self.known_calls: dict[Any, _passage.KnownCall] = {}
        #: Bytes that are kept of the logs and output of an attempt, with a journal that
        #: has a folder for them; and the object that keeps them.
        self.output_bytes: int = (
            sys.maxsize if keep_logs_mb is None else int(keep_logs_mb * 2**20)
        )
        self.output: KeptOutput | None = None
        #: The bytes that finished tasks hold, and may hold.
        self.weights: Weights = Weights(self, keep_finished_mb)
        self.loops: LoopHost = LoopHost(self.name, self.fail_stop)
        self.threads: WorkerThreads = WorkerThreads(
            self.name,
            self.run,
            THREAD_LOCAL,
            config.concurrency,
            self.fail_stop,
        )
        self._idle = self.threads.idle
        self.attempts: Attempts = Attempts(self, executors)
        self.executors: Mapping[str, AttemptExecutor[Any]] = self.attempts.executors
        self.deciders.is_here = lambda row: self.attempts.is_here(row.cargo._executor)
        self.publisher: Publisher = Publisher(self)
        self.signals: Signals = Signals(self.receivers_changed)
        self.room: ResourceExhaustion = ResourceExhaustion(self)
        self.timer: TimerThread = TimerThread(self)
        self.waiting: Waiting = Waiting(self)
        self.notices: Notices = Notices(self)
        self._changing = threading.Lock()
        self.receivers_changed()
        if self.opened:
            self.kernel.add_worker(self.joining.pop(), self.now())

    # Methods that parts call through a protocol.

    def receivers_changed(self) -> None:
        """Listen to the events that listeners want now."""
        _notices.receivers_changed(self)

    def receiver_failed(self, receiver: Receiver, error: BaseException) -> None:
        """Log and record that a listener raised *error*."""
        _notices.receiver_failed(self, receiver, error)

    def fail_stop(self, error: BaseException) -> None:
        """Stop everything: *error* is a fault of our own."""
        _end.fail_stop(self, error)

    def interrupted(self, error: BaseException) -> None:
        """Stop everything: an exception from outside has cut a step short."""
        _end.interrupted(self, error)

    def refuse_submission(self) -> None:
        """
        Raise if no task may come in; hold the lock.

        Raises:
            NotRunningError: It has stopped.
            InternalError: It has failed.
        """
        _end.refuse_submission(self)

    def name_incarnation(self) -> None:
        """Choose ids that no other incarnation has used."""
        seed: int | str | None = self._seed
        if seed is not None and self.epoch > 1:
            seed = f"{seed}/{self.epoch}"
        seeded = Random(seed) if seed is not None else Random()  # noqa: S311
        self._prefix = f"{seeded.getrandbits(40):010x}-"
        self.run_id = self._prefix.rstrip("-")

    def is_quiet(self) -> bool:
        """Return whether nothing can proceed without input from outside."""
        kernel, committer = self.kernel, self.committer
        if committer is not None and committer.trouble:
            # Attempts that wait for the journal count as active.
            return kernel.active == len(committer.held_back.attempts)
        if self.closed:
            # Tasks that are due later are left to the next incarnation.
            calm = not (kernel.active or kernel.starts)
        elif not self.begins:
            # Attempts without a slot wait for tasks that will not begin.
            calm = not (kernel.running or kernel.claims or kernel.starts)
        elif self.draining and committer is not None and self.waiting.are_at_rest():
            calm = True
        else:
            # Calls that would not stop may end by themselves, but no drain waits for
            # them.
            waits = not self.draining and kernel.waits_for_leaks()
            calm = kernel.quiescent() and not waits
        return calm and (committer is None or committer.is_idle())

    # -- steps ---------------------------------------------------------------------

    def settle(self, now: int) -> Launch | None:  # noqa: C901, PLR0912 - one step, in order
        """
        Let the kernel choose, and return what is to be done; hold the lock.

        Most steps need nothing more, so each part is looked at before it is called.

        Raises:
            InternalError: A fault of ours: `fail_stop` follows.
        """
        kernel, committer = self.kernel, self.committer
        if self.fault is not None:
            return None
        try:
            if kernel.claims:
                for claim in kernel.serve_claims(now):
                    claim.cargo()
            has_room = kernel.running < kernel.concurrency or kernel.moved
            if (
                (kernel.open and has_room)
                or kernel.returning
                or kernel.growing
                or kernel.spent
            ):
                kernel.dispatch(now)
            if self.governor is not None:
                # This comes before finished tasks leave memory.
                self.governor.hear()
            if self.orphans and kernel.parked:
                hold_orphans(self, now)
            if kernel.touched:
                self._touch(now)
            if kernel.dropped and (
                committer is not None
                or len(kernel.dropped) > _MANY
                or not (kernel.queued and kernel.active)
            ):
                self.drop()
            if self.deciders.slow:
                self._say_slow(now)
            if self.wanted:
                self.saturation.look(kernel, now, self.wanted)
            if self.notices.due:
                self.notices.hand_over()
            if kernel.sink:
                self.publish()
            if committer is not None and committer.documents:
                # They are of a submission that was refused, or of an end that did not
                # count.
                committer.documents.clear()
            if kernel.timers and kernel.timers[0][0] < self.timer.until:
                self.timer.wake_by(kernel.timers[0][0])
            if self.waiting.quiet and self.is_quiet():
                self.waiting.say_quiet()
            if not (kernel.starts or kernel.effects or (committer and committer.ready)):
                return None
            if committer is None:
                starts = [(row, row.attempt, row.cargo) for row in kernel.starts]
            else:
                starts = committer.starts(kernel.starts)
            kernel.starts = []
            if not starts and not kernel.effects:
                return None
            launch = Launch([self._assign(*start) for start in starts])
            if kernel.effects:
                launch.told = self.attempts.in_order(kernel.effects)
                kernel.effects = []
            return launch
        except Exception as error:
            msg = f"taskorch itself failed: {describe(error)}"
            raise InternalError(msg) from error

    def _assign(
        self, row: TaskRow, attempt: int, work: Work
    ) -> tuple[TaskRow, int, Work, Worker | None]:
        worker, threads = None, self.threads
        # A work that names this executor needs no look at its worker.
        if self._idle and (
            work._executor is threads or self.attempts.executor_of(row, work) is threads
        ):
            worker = self._idle.pop()
        return row, attempt, work, worker

    def launch(self, launch: Launch | None) -> None:
        """Do what a step has decided; do not hold the lock."""
        self.litter.clear()
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
        Enter the lock, make *change*, and act on what the kernel decides.

        With *keep*, return only once it is kept, in a durable orchestrator.
        """
        if self.deciders.asking or self.deciders.forked:
            self.deciders.refuse_reentry()
        if CALLING.get(None) and (who := caller_name()):
            change = partial(self._asked_by, who, change)
        committer = self.committer
        if committer is not None:
            if not self.opened:
                self.open()
            if keep:
                committer.refuse()
                result, last = self._step(change, committer)
                committer.wait_kept(last)
                return result
        return self._step(change, None)[0]

    def _asked_by(self, who: str, change: Callable[[int], Any], now: int) -> Any:
        """Make *change* in the name of *who*."""
        self.kernel.act_for(who)
        try:
            return change(now)
        finally:
            self.kernel.act_for("")

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
                        committer.caller_will_commit = True
                    try:
                        result = change(now)
                    finally:
                        launch = self.settle(now)
                        if committer is not None:
                            committer.caller_will_commit = False
                    return result, 0 if committer is None else committer.last
            except PolicyFault as fault:
                raise self.component_error(fault, None) from fault.error
            except InternalError as error:
                self.fail_stop(error)
                raise
            finally:
                # Even a refused change may have freed what others need.
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

    def _touch(self, now: int) -> None:
        touched, self.kernel.touched = self.kernel.touched, []
        for row, work in touched:
            if work is None:
                continue
            if row.state in TERMINAL:
                extra = work._extra
                if extra is not None and extra.since:
                    note_left_out(self, row, now)
                tidy(row, work)
                if row.state is TaskState.FAILED:
                    self.notices.note_failed(row, work)
                if row.state is TaskState.CANCELLED or not row.attempt:
                    # No attempt has ended, so nothing else has weighed the task.
                    weight = self.weights.weigh(work, work._value, None)
                    self.weights.note(row, weight)
            elif row.state is TaskState.BLOCKED:
                self.notices.note_failed(row, work)
            if work._waiters is not None and self.committer is None:
                self.wake(work)
        if self.committer is None:
            self.weights.let_go(ALL_KEPT)

    def wake(self, work: Work) -> None:
        """Wake the callers that wait for *work*."""
        waiters, work._waiters = work._waiters, None
        # The list is copied: see `Waiting.abandon`.
        for waiter in tuple(waiters or ()):
            waiter()

    def evict(self, ids: Iterable[str]) -> None:
        """Let those of *ids* leave memory whose ends are kept; hold the lock."""
        assert self.committer is not None  # noqa: S101 - they leave a journal
        tasks, kept = self.kernel.tasks, self.committer.commits.committed
        rows = {
            row
            for task_id in ids
            if (row := tasks.get(task_id)) is not None
            and row.state in TERMINAL
            and row.cargo._visible_after <= kept
        }
        if rows:
            self.kernel.evict_rows(rows)
            self.drop()

    def drop(self) -> None:
        """Drop the data about tasks that have left memory; hold the lock."""
        dropped, self.kernel.dropped = self.kernel.dropped, []
        for row in dropped:
            work, row.cargo = row.cargo, None
            call = work._args, work._kwargs, work._task
            self.litter.append((work, call, work._above, work._extra))
            if row.state is TaskState.FAILED:
                self.notices.forget(row.id, work)
            if self.committer is None:
                # A journal would be asked for tasks that have left memory.
                self.submission.remember(row, work)
            forget_task(work)

    def _say_slow(self, now: int) -> None:
        slow, self.deciders.slow = self.deciders.slow, []
        for component, seconds in slow:
            self.kernel.note(PolicySlow, now, component, seconds)
            if seconds > BLOCKING_SECONDS:
                # Logging runs code of the user, which must not run under the lock.
                slow_one = component, seconds
                self.publisher.put([(self.notices.policy_was_slow, slow_one)])

    def publish(self) -> None:
        """Publish the events that have not been; hold the lock."""
        items = self.kernel.sink
        if not items:
            return
        if self.governor is not None:
            self.governor.hear()
            self.governor.handed_over()
        if self.spans is not None:
            signed(items, self.spans)
        if self.committer is not None:
            self.committer.accept(items)
            items.clear()
            return
        if self.memory is not None and self.memory.keep_events:
            # The cargo would keep tasks in memory. A TaskReady shares its number with
            # another event, and no journal has it.
            kept = [(event, None) for event, _ in items if type(event) is not TaskReady]
            self.memory.append(self.epoch, kept)
        if self.publisher.receivers:
            self.publisher.put(items)
        items.clear()

    # -- tasks ---------------------------------------------------------------------

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """The prefix and the numbers of new ids, for code that makes many."""
        return self._prefix, self._numbers

    def submit_rest(self) -> None:
        """Submit the rest of every map, since a caller waits for all work."""
        for ahead in list(self.maps.values()):
            ahead.fill(whole=True)

    # -- events ---------------------------------------------------------------------

    def note_locked(self, cls: type[Event], *fields: Any) -> None:
        """Record an event and publish it; hold the lock."""
        self.kernel.note(cls, self.now(), *fields)
        if self.kernel.sink:
            self.publish()

    @defers_interrupts
    def note_fault(self, fault: PolicyFault, task_id: str | None) -> None:
        """See `TaskEngine.note_fault`."""
        with self.lock:
            now = self.now()
            self.kernel.note_fault(task_id, fault, now)
            launch = self.settle(now)
        self.launch(launch)

    def declare(self, act: Callable[[], T]) -> T | None:
        """
        Carry out *act* of a program: at once, or when the journal has been read.

        A declaration opens nothing, so that a module with some can be imported.

        Returns:
            Its result, or None if it is not carried out yet.

        Raises:
            NotRunningError: It has stopped.
        """
        if not self.opened:
            with self.opening:
                if not self.opened:
                    self.refuse_submission()
                    self.declared.append(act)
                    return None
        return act()

    def carry_out_declared(self) -> None:
        """Carry out what was declared before; hold the lock of the opening."""
        while self.declared:
            self.declared[0]()
            del self.declared[0]

    def begin_work(self) -> None:
        """
        Start the tasks that have been submitted.

        Raises:
            NotRunningError: It was stopped meanwhile.
            InternalError: It has failed.
        """

        def change(now: int) -> None:
            del now
            self.refuse_submission()
            self.started = True
            if self.begins and not (self.committer and self.committer.trouble):
                self.kernel.unpause()

        self.step(change)
        if self.driven is not None:
            self.driven.begin()

    def report(self) -> None:
        """Publish statistics, health and performance, if they have listeners."""
        self._report(self)
