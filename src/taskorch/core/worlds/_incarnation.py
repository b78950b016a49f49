"""
One incarnation of an orchestrator in virtual time, until its end or its crash.

A crash loses exactly the state of this object.

Decision: simulation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, Final, Protocol

import attrs

from taskorch.core.engine import (
    AttemptContext,
    Commits,
    Directory,
    Folding,
    HeldBack,
    Work,
    row_of,
    tidy,
)
from taskorch.core.kernel import (
    LEASE,
    RETAINED,
    Effect,
    HoldAttempt,
    KernelConfig,
    PolicyFault,
    ReleaseAttempt,
    ReturnSlot,
    StopAttempt,
    TaskRow,
    TellAllocation,
    is_alive,
)
from taskorch.core.worlds import _hosting, _workers
from taskorch.core.worlds._attempts import InProcess, Remotes, SimulatedAttempt
from taskorch.core.worlds._clockwork import Agenda, Clockwork
from taskorch.core.worlds._hosting import Hosting
from taskorch.core.worlds._journal import SimulatedJournal
from taskorch.core.worlds._workers import InProcessWorker, RemoteWorker
from taskorch.errors import (
    AttemptInterrupted,
    InternalError,
    JournalUnavailableError,
)
from taskorch.events import (
    CATALOGUE,
    TASK_ID,
    Event,
    EventEmitted,
    TaskCompleted,
    TaskOptionsChanged,
    TaskReady,
    TaskSubmitted,
)
from taskorch.kit.extension import Limit
from taskorch.kit.limits import NS
from taskorch.model import TERMINAL, Resources, Task, TaskState
from taskorch.policies._kinds import Policies
from taskorch.protocols import AttemptExecutor, Entry


class StepRandom(Random):
    """
    A random source that depends on the seed and the instant, not on earlier draws.

    So two plans that differ in one thing get the same draws everywhere else ("common
    random numbers"), and a run with one fault less stays like the run with it.
    """

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        super().__init__(0)
        self._name = name
        self._clock = clock
        self._at = -1
        self._step = 0
        self._fresh = False

    def renew(self) -> None:
        """Begin a step with draws of its own."""
        now = self._clock()
        self._step = self._step + 1 if now == self._at else 0
        self._at = now
        self._fresh = True

    def random(self) -> float:
        """Return a number from 0 up to, not including, 1."""
        if self._fresh:
            self._begin()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """Return *k* random bits."""
        if self._fresh:
            self._begin()
        return super().getrandbits(k)

    def _begin(self) -> None:
        """Make the first draw of a step."""
        self._fresh = False
        super().seed(f"{self._name}/{self._at}/{self._step}")


_ALL: Final = frozenset(CATALOGUE)
#: Timers that change nothing by themselves.
_IDLE: Final = frozenset({LEASE, RETAINED})


@attrs.frozen(eq=False)
class Setup:
    """The settings of an orchestrator, the same in each incarnation."""

    parts: Policies
    config: KernelConfig
    pools: Resources
    seed: int
    #: The limits that the program declares, by name, for each incarnation.
    limits: Mapping[str, Limit] = attrs.field(factory=dict[str, Limit])


class IncarnationWorld(_workers.WorkerWorld, _hosting.HostingWorld, Protocol):
    """The interface of the world for an incarnation, besides those for its parts."""

    setup: Setup
    journal: SimulatedJournal | None
    listens: bool
    tells_ready: bool
    is_mortal: bool
    id_parts: tuple[str, Iterator[int]]

    @property
    def work_class(self) -> type[Work]:
        """The class of task handles."""
        ...

    @property
    def context_class(self) -> type[AttemptContext]:
        """The class of the contexts of attempts."""
        ...

    def stepped(self, incarnation: Incarnation, items: list[tuple[Event, Any]]) -> None:
        """Take note of the new events of a step, which are in memory only."""
        ...

    def kept(self, group: list[Entry]) -> None:
        """Take note that a group is in the journal."""
        ...

    def maybe_crash(self, stage: str, event: Event) -> None:
        """Let the process die at a stage of *event*, or not."""
        ...


class _Directory(Directory):
    """A directory where handles of earlier incarnations stand for the same runs."""

    def _of_work(self, work: Work, by: Task) -> Work:
        return self.known(row_of(work).id)


class Incarnation(Clockwork, Hosting):
    """
    One incarnation of an orchestrator.

    The code of the runtime takes in, folds and ends tasks: the interface that it needs
    stands under "as a runtime".
    """

    _directory_class = _Directory

    #: See `Stats.glue`: all simulated tasks are somebody's.
    glue: tuple[str, ...] = ()
    #: See `AgentStats.stands_by`.
    stand_ins: frozenset[str] = frozenset()

    def __init__(self, world: IncarnationWorld, epoch: int) -> None:
        setup = world.setup
        self.world: IncarnationWorld = world
        self.timeline: Agenda = world.timeline
        self.epoch = epoch
        self._draws = StepRandom(f"{setup.seed}/{epoch}", self._truth)
        super().__init__(
            setup.parts,
            setup.config,
            self._draws,
            setup.pools,
            world.work_class,
            world.context_class,
        )
        for name, limit in setup.limits.items():
            self.deciders.add_limit(name, limit)
        if world.nature.prodding:
            self.kernel.points = world.nature
        #: The latest event of the step, if there is one.
        self._latest: Event | None = None
        #: The system's clock is so many ns ahead; unlike ours, it may be set meanwhile.
        self.ahead_ns = 0
        self.commits: Commits[list[Entry]] | None = (
            None if world.journal is None else Commits()
        )
        self.in_process: InProcess = InProcess(self)
        self.remotes: Remotes = Remotes(self)
        self._grace: float = setup.config.grace_ns / NS
        #: Attempts that wait for a commit before they begin, if there is a journal.
        self.held_back: HeldBack | None = (
            None
            if self.commits is None
            else HeldBack(self.commits, self._begin, self._call_off)
        )
        #: The time until which an effect on an attempt is still to come.
        self._busy: dict[tuple[str, int], int] = {}
        #: The numbers of this incarnation's events of submissions, and of changes of
        #: options.
        self.submitted_at: dict[str, int] = {}

        # As a runtime:
        self.executors: Mapping[str, AttemptExecutor[Any]] = dict.fromkeys(
            ("thread", "asyncio", "program", "process"), self.in_process
        )
        self.lock: threading.Lock = threading.Lock()
        self.publisher: SimpleNamespace = SimpleNamespace(lost=0)
        # A simulation has nothing of these kinds.
        self.committer: Any = None
        self.governor: Any = None
        self.strategies: Any = None
        self.first_made: dict[str, Any] = {}
        self.spans: Any = None
        self.rerun_failed: bool = False
        self.opened_at: int = -1
        self.committed: int = 0
        self.folding: Folding = Folding(self)
        self._host(world, self.in_process.holdable)

    def publish(self) -> None:
        """Do nothing: events are handed over at the end of each step."""

    def listen(self) -> None:
        """Begin to tell events, after the ones of earlier incarnations were folded."""
        if self.world.listens or self.commits is not None:
            sink = self.kernel.sink or []
            self.kernel.listen(sink, _ALL, ready=self.world.tells_ready)

    def wall(self) -> int:
        """Return the time in ns by the system's clock."""
        return self.timeline.now + self.ahead_ns

    def _truth(self) -> int:
        return self.timeline.now

    # -- steps ---------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a step, with draws of its own."""
        self._draws.renew()
        super().begin()

    def is_busy(self) -> bool:
        """Return whether a timer is set that is not idle."""
        timers = self.kernel.timers
        return any(timer[2] not in _IDLE and is_alive(timer) for timer in timers)

    def settle(self) -> None:
        """End a step, and begin to write its events."""
        super().settle()
        if self.commits is not None and self.commits.pending:
            if self._latest is not None and self.world.is_mortal:
                self.world.maybe_crash("sent", self._latest)
            self.write()

    def tidy(self) -> None:
        """Tidy up the tasks that have ended; tell the world of the new events."""
        kernel = self.kernel
        if kernel.touched or kernel.dropped:
            self._tidy_up()
        items = kernel.sink
        self._latest = items[-1][0] if items else None
        if items is None:
            return
        if items:
            kernel.sink = []
            if self.commits is not None:
                events = [item for item in items if type(item[0]) is not TaskReady]
                self.commits.pending += map(self._entry, events)
        self.world.stepped(self, items)

    def _tidy_up(self) -> None:
        kernel = self.kernel
        touched, kernel.touched = kernel.touched, []
        for row, job in touched:
            if job is not None and row.state in TERMINAL:
                tidy(row, job)
        dropped, kernel.dropped = kernel.dropped, []
        for row in dropped:
            job, row.cargo = row.cargo, None
            self.submitted_at.pop(row.id, None)
            if job is not None:
                self.submission.remember(row, job)

    # -- commits -------------------------------------------------------------------

    def write(self) -> None:
        """Begin to write pending entries, unless a write is under way."""
        commits = self.commits
        if commits is None or commits.begin() is None:
            return
        took = self.world.nature.commit_ns
        if took:
            self.timeline.at(self.timeline.now + took, self._append)
        else:
            self._append(None)

    def _append(self, _: None) -> None:
        commits, world = self.commits, self.world
        assert commits is not None  # noqa: S101 - there is something to append
        assert world.journal is not None  # noqa: S101 - and where
        group = commits.in_hand
        try:
            world.nature.write(world.journal, self.epoch, group)
        except JournalUnavailableError:
            commits.failed()
            self.kernel.pause()
            when = self.timeline.now + world.nature.retry_ns
            self.timeline.at(when, self._append)
            return
        except ValueError as error:
            msg = f"a group was appended that does not follow the last: {error}"
            raise InternalError(msg) from error
        if world.is_mortal:
            world.maybe_crash("kept", group[-1][0])
        was_degraded = commits.degraded
        released = commits.succeeded(group[-1][0].seq)
        if was_degraded:
            self.kernel.unpause()
        world.kept(group)
        for release in released:
            release()
        if world.is_mortal:
            world.maybe_crash("told", group[-1][0])
        self.write()

    def _entry(self, item: tuple[Event, Any]) -> Entry:
        """Return the journal entry of an event; note the number of a submission."""
        event, job = item
        if type(event) is TaskSubmitted or type(event) is TaskOptionsChanged:
            self.submitted_at[event[TASK_ID]] = event.seq
            return event, job._task
        if type(event) is TaskCompleted:
            return event, job._value
        if type(event) is EventEmitted:
            return event, job.value
        return event, None

    # -- attempts ------------------------------------------------------------------

    def launch(self, starts: list[TaskRow]) -> None:
        """Begin each attempt once that is safe."""
        held_back = self.held_back
        for row in starts:
            submitted = self.submitted_at.get(row.id, 0)
            if held_back is None or not held_back.take(row, submitted, self.kernel.seq):
                self._begin(row, row.attempt)

    def _begin(self, row: TaskRow, number: int) -> None:
        attempt = SimulatedAttempt(self, row, number)
        if attempt.cancelled:
            self._call_off(row, number)
            return
        assert row.worker is not None  # noqa: S101 - it has been started
        # A worker that has left may be heard of later, and counts as present.
        is_remote = self.remotes.knows(row.worker.name)
        executor = self.remotes if is_remote else self.in_process
        executor.begin(attempt)

    def _call_off(self, row: TaskRow, number: int, *_: object) -> None:
        """End an attempt before it begins, after the step that is under way."""
        error = AttemptInterrupted("stopped before it began")
        SimulatedAttempt(self, row, number).end_soon(error=error)

    def note_progress(self, row: TaskRow, attempt: int, value: Any) -> None:
        """Note the progress of an attempt."""
        self.progress(row.cargo, attempt, value)

    def see_to(self, effect: Effect) -> None:
        """
        Carry out an effect that is no start, now or later.

        As in a runtime, the effects on one attempt keep the order of their decisions,
        and those on two attempts may come in any order. A slot is given back at once.
        """
        if isinstance(effect, TellAllocation):
            # Nobody here has a copy of the attempt.
            return
        if isinstance(effect, ReturnSlot):
            self._carry_out(effect)
            return
        row, attempt, now = effect.row, effect.attempt, self.timeline.now
        key = (row.id, attempt)
        late = self.world.nature.late(row.id, attempt, type(effect).__name__)
        when = max(now + late, self._busy.get(key, 0))
        if when > now:
            self._busy[key] = when
            self.timeline.at(when, self._carry_out, effect)
        else:
            self._busy.pop(key, None)
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        row, attempt = effect.row, effect.attempt
        run = self.in_process.runs.get((row.id, attempt))
        executor: AttemptExecutor[Any] = self.remotes
        begun: Any = (row, attempt)
        if run is not None:
            executor, begun = self.in_process, run
        if isinstance(effect, StopAttempt):
            executor.stop(begun, self._grace)
        elif isinstance(effect, HoldAttempt):
            executor.hold(begun)
        elif isinstance(effect, ReleaseAttempt):
            executor.resume(begun)
        elif run is not None:
            # The attempt has a slot again.
            self.in_process.run_rest(run)

    def join(self, worker: InProcessWorker | RemoteWorker) -> None:
        """Add a worker to this incarnation."""
        if isinstance(worker, RemoteWorker):
            self.remotes.join(worker, worker.instance)
        else:
            self.kernel.add_worker(worker.info, self.now())

    def submit(self, tasks: Sequence[Task], run: str = "") -> list[str]:
        """
        Take in *tasks*, of the *run* of a workflow or of none (""); return their ids.

        Raises:
            UsageError: One was refused, and so none was accepted.
        """
        return [row_of(work).id for work in self.submit_tasks(tasks, run=run)]

    def state_of(self, task_id: str) -> TaskState | None:
        """Return the state of a task; None if there is none."""
        kernel = self.kernel
        row = kernel.tasks.get(task_id)
        return kernel.evicted.get(task_id) if row is None else row.state

    # -- as a runtime --------------------------------------------------------------

    @property
    def id_parts(self) -> tuple[str, Iterator[int]]:
        """The parts of new ids: a prefix and a counter."""
        return self.world.id_parts

    def note_fault(self, fault: PolicyFault, task_id: str | None) -> None:
        """Record that a policy failed, for a task or for none."""
        self.kernel.note_fault(task_id, fault, self.now())
