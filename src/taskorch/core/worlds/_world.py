"""
The world around an orchestrator, which survives it, and the passing of time.

Decision: simulation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, TypeVar

import attrs

from taskorch.core.engine import AttemptContext, Work
from taskorch.core.kernel import recover
from taskorch.core.worlds._clockwork import BEGINNING, Agenda
from taskorch.core.worlds._incarnation import Incarnation, Setup
from taskorch.core.worlds._journal import SimulatedJournal
from taskorch.core.worlds._nature import Nature
from taskorch.core.worlds._run import (
    Fence,
    Outcome,
    SimulatedRun,
    What,
    as_outcome,
    as_what,
    is_call,
    nanoseconds,
)
from taskorch.core.worlds._workers import InProcessWorker, RemoteWorker
from taskorch.errors import InvalidTaskError, NotRunningError, UsageError
from taskorch.events import (
    TASK_ID,
    Event,
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
)
from taskorch.kit.fence import SimulatedDeath
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import TERMINAL, Agent, Task, TaskState
from taskorch.model.ids import stem_of
from taskorch.protocols import Entry

T = TypeVar("T")

#: The state in which a task has ended, by its event.
_ENDS: Final[dict[type[Event], TaskState]] = {
    TaskCompleted: TaskState.COMPLETED,
    TaskFailed: TaskState.FAILED,
    TaskCancelled: TaskState.CANCELLED,
}
_NOW: Final = Outcome(0.0, calls=True)
#: Heartbeats alone are a reason to go on for so many leases.
_PATIENCE: Final = 20
_UNKNOWN: Final = Outcome()
#: More steps than this at one instant count as an endless loop.
_AT_ONCE: Final = 10_000_000


class _Crash(SimulatedDeath):
    """The crash of the process, after which nothing is tidied up."""

    def __init__(self, down_ns: int) -> None:
        super().__init__(down_ns)
        self.down_ns = down_ns


class World:
    """
    The world of an orchestrator: time, workers, the journal, and its callers.

    Without a journal, the orchestrator cannot crash. *listens* says whether `stepped`
    is told of events.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        nature: Nature | None = None,
        journal: SimulatedJournal | None = None,
        listens: bool = False,
    ) -> None:
        self.setup = setup
        self.nature: Nature = Nature() if nature is None else nature
        self.journal = journal
        self.listens = listens
        #: Whether `stepped` gets `TaskReady` events, too.
        self.tells_ready = False
        self.timeline: Agenda = Agenda()
        self.workers: dict[str, InProcessWorker | RemoteWorker] = {}
        #: The parts of new ids, for tasks without one.
        self.id_parts: tuple[str, Iterator[int]] = ("task-", count(1))
        #: The outcomes of work, by type and by task.
        self.by_type: dict[str, What] = {}
        #: The outcome of all work on a worker, for some workers.
        self.by_worker: dict[str, What] = {}
        self.by_id: dict[str, What] = {}
        #: The answers to callers: a task was accepted (None), or ended so.
        self.acknowledged: dict[str, TaskState | None] = {}
        #: Whether `maybe_crash` needs to be asked.
        self.is_mortal: bool = self.nature.mortal and journal is not None
        #: The system's clock is so many ns ahead of the truth.
        self.ahead_ns: int = 0
        #: The number of crashes of the orchestrator.
        self.crashes: int = 0
        self.incarnation: Incarnation | None = None
        #: Submissions that are not kept yet, so that their callers have no answer.
        self._unanswered: dict[int, tuple[Sequence[Task], Sequence[str], str]] = {}
        self._numbers = count(1)
        self._inside = False
        #: Whether a step, or a part of one, is just ending.
        self._settling = False
        #: The time since which there are only heartbeats.
        self._calm_since: int | None = None
        #: The number and stage of the event at which it crashes, and for how many ns.
        self._planned_crash: tuple[int, str, int] | None = None
        #: The number of ns for which it crashes at the end of this step.
        self._crash_after_step: int | None = None
        self._begin_incarnation()
        self.add_worker(Agent(Agent.LOCAL))

    # -- for subclasses ------------------------------------------------------------

    def began(self, run: SimulatedRun) -> None:
        """Note that a worker has begun an attempt."""

    def stepped(self, incarnation: Incarnation, items: list[tuple[Event, Any]]) -> None:
        """Take note of the new events of a step, which are in memory only."""
        if items and self.is_mortal:
            self.maybe_crash("made", items[-1][0])

    def refused(self, ids: Sequence[str], error: UsageError) -> None:
        """Take note that a submission after a crash was refused."""

    def died(self) -> None:
        """Take note of a crash of the orchestrator."""

    def recovered(self, incarnation: Incarnation) -> None:
        """Take note that the orchestrator lives again, before its workers do."""

    #: The classes of task handles, and of the contexts of attempts.
    work_class: type[Work] = Work
    context_class: type[AttemptContext] = AttemptContext

    # -- the work ------------------------------------------------------------------

    def outcome(self, task: Task, fence: Fence, worker: str = "") -> Outcome:
        """Return the outcome of an attempt at *task* on this worker."""
        work = self.by_worker.get(worker)
        if work is None and self.by_id:
            work = self.by_id.get(fence[1])
            if work is None:
                work = self.by_id.get(stem_of(fence[1]))
        if work is None:
            work = self.by_type.get(task.type)
        if work is None:
            return _NOW if is_call(task) else _UNKNOWN
        if isinstance(work, Outcome):
            return work
        if not callable(work):
            return as_outcome(work)
        epoch, task_id, attempt = fence
        if task.id is None:
            task = attrs.evolve(task, id=task_id)
        name = f"{self.setup.seed}/{epoch}/{task_id}/{attempt}"
        try:
            return as_outcome(work(task, attempt, Random(name)))  # noqa: S311 - no secret
        except Exception as error:
            error.add_note(f"in the work of task {task_id}, attempt {attempt}")
            raise

    # -- workers --------------------------------------------------------------------

    def add_worker(self, info: Agent, speed: float = 1.0) -> None:
        """
        Add a worker, which joins.

        Raises:
            InvalidTaskError: The name is taken.
        """
        if info.name in self.workers:
            msg = f"there is a worker {info.name!r} already"
            raise InvalidTaskError(msg, hint="give it another name")
        worker: InProcessWorker | RemoteWorker
        if info.lease is None:
            worker = InProcessWorker(info, speed)
        else:
            worker = RemoteWorker(self, info, speed)
            worker.wake()
        self.workers[info.name] = worker
        if self.incarnation is not None:
            incarnation = self.incarnation
            self.do(lambda: incarnation.join(worker))

    def remove_agent(self, name: str) -> None:
        """Remove a worker for good, if there is one."""
        worker = self.workers.pop(name, None)
        if isinstance(worker, RemoteWorker):
            worker.go()

    def end_endless(self) -> None:
        """End the attempts that would not end by themselves."""
        for worker in self.workers.values():
            if isinstance(worker, RemoteWorker):
                for run in worker.runs.values():
                    if run.is_endless:
                        worker.cut(run)
        if self.incarnation is not None:
            executor = self.incarnation.in_process
            for run in executor.runs.values():
                if run.is_endless:
                    executor.cut(run)

    def send(
        self,
        kind: str,
        worker: str,
        fence: Fence | None,
        act: Callable[[Any], object],
        subject: Any,
        idle: bool = False,
    ) -> None:
        """Send a message, in as many copies as will arrive."""
        for ns in self.nature.travel(kind, worker, fence):
            self.timeline.at(self.timeline.now + ns, act, subject, idle=idle)

    def hear(self, message: tuple[str, RemoteWorker, Any]) -> None:
        """Give a message to the orchestrator, if it lives."""
        if self.incarnation is not None:
            self.incarnation.remotes.hear(*message)

    # -- callers -------------------------------------------------------------------

    def living(self) -> Incarnation:
        """
        Return the incarnation of the orchestrator.

        Raises:
            NotRunningError: It is dead at the moment.
        """
        if self.incarnation is None:
            msg = "the orchestrator has crashed, and is not up again yet"
            raise NotRunningError(msg, hint="let time pass with run()")
        return self.incarnation

    def do(self, act: Callable[[], T]) -> T:
        """
        Call *act* in a step of the orchestrator, or as a part of one.

        Raises:
            NotRunningError: It is dead at the moment.
        """
        incarnation = self.living()
        if self._inside:
            return act()
        self._inside = True
        try:
            incarnation.begin()
            try:
                return act()
            finally:
                self._end_step(incarnation)
        finally:
            self._inside = False

    def do_apart(self, act: Callable[[], T]) -> T:
        """
        Call *act* in a step of its own, though it is called inside another.

        Earlier changes are kept apart from it: the process may die between them.

        Raises:
            NotRunningError: It is dead at the moment.
        """
        incarnation = self.living()
        if not self._inside or self._settling or self._crash_after_step is not None:
            return self.do(act)
        self._settle(incarnation)
        incarnation.begin()
        try:
            return act()
        finally:
            self._settle(incarnation)
            incarnation.begin()

    def _settle(self, incarnation: Incarnation) -> None:
        self._settling = True
        try:
            incarnation.settle()
        finally:
            self._settling = False

    def _end_step(self, incarnation: Incarnation) -> None:
        if self._crash_after_step is not None:
            down_ns, self._crash_after_step = self._crash_after_step, None
            self._die(down_ns)
            return
        try:
            self._settle(incarnation)
        except _Crash as crash:
            self._die(crash.down_ns)

    def submit(
        self, tasks: Iterable[Task], what: What | None = None, run: str = ""
    ) -> list[str]:
        """
        Submit tasks; while the orchestrator is dead, they wait until it lives.

        *what* is the outcome of their work, or else the outcome by type; *run* is their
        run of a workflow, or "".

        Raises:
            UsageError: One was refused, and so none was accepted.
        """
        work = None if what is None else as_what(what)
        if isinstance(tasks, Task) or not isinstance(tasks, Iterable):
            msg = f"a collection of tasks is needed, not {show(tasks)}"
            raise InvalidTaskError(msg, hint="submit_task(…) takes one")
        batch = list(tasks)
        for task in batch:
            if not isinstance(task, Task):
                msg = f"a Task is submitted, not {show(task)}"
                raise InvalidTaskError(msg)
        if self.incarnation is None:
            ids = [self._id_of(task) for task in batch]
            self._unanswered[next(self._numbers)] = (batch, ids, run)
            self._note_work(ids, work)
            return ids
        return self.do(lambda: self._note_work(self._submit(batch, run), work))

    def _note_work(self, ids: list[str], work: What | None) -> list[str]:
        if work is not None:
            self.by_id.update(dict.fromkeys(ids, work))
        return ids

    def _submit(self, tasks: Sequence[Task], run: str = "") -> list[str]:
        incarnation = self.incarnation
        assert incarnation is not None  # noqa: S101 - `do` has looked
        ids = incarnation.submit(tasks, run)
        if incarnation.commits is not None and ids:
            number = next(self._numbers)
            self._unanswered[number] = (tasks, ids, run)
            incarnation.commits.when(
                incarnation.kernel.seq, lambda: self._answer(number)
            )
            self._acknowledge_ends(incarnation, ids)
        return ids

    def _acknowledge_ends(self, incarnation: Incarnation, ids: Iterable[str]) -> None:
        """Tell callers of resubmitted tasks that these have ended."""
        for task_id in ids:
            state = incarnation.state_of(task_id)
            if state in TERMINAL:
                tell = partial(self.acknowledged.__setitem__, task_id, state)
                assert incarnation.commits is not None  # noqa: S101 - the caller looked
                incarnation.commits.when(incarnation.kernel.seq, tell)

    def _id_of(self, task: Task) -> str:
        prefix, numbers = self.id_parts
        return task.id or prefix + str(next(numbers))

    def _answer(self, number: int) -> None:
        """Tell a caller that its submission is kept."""
        for task_id in self._unanswered.pop(number)[1]:
            self.acknowledged.setdefault(task_id, None)

    def kept(self, group: list[Entry]) -> None:
        """Take note that a group is in the journal."""
        for event, _ in group:
            state = _ENDS.get(type(event))
            if state is not None:
                self.acknowledged[event[TASK_ID]] = state

    def set_clock(self, ahead_ns: int) -> None:
        """Set the system's clock, to so many ns ahead of the truth."""
        self.ahead_ns = ahead_ns
        if self.incarnation is not None:
            self.incarnation.ahead_ns = ahead_ns

    # -- crashes and restarts ------------------------------------------------------

    def maybe_crash(self, stage: str, event: Event) -> None:
        """
        Let the process die at a stage of *event*, the latest event, or not.

        Raises:
            _Crash: The process dies here.
        """
        planned = self._planned_crash
        if planned is not None and stage == planned[1] and event.seq >= planned[0]:
            self._planned_crash = None
            raise _Crash(planned[2])
        if self.nature.mortal:
            down_ns = self.nature.dies(stage, event)
            if down_ns is not None:
                raise _Crash(down_ns)

    def crash_at(self, event: int, stage: str, down_ns: int) -> None:
        """Let the process die at a stage of the event of this number."""
        self._planned_crash = (event, stage, down_ns)
        self.is_mortal = self.journal is not None

    def crash(self, down_ns: int) -> None:
        """
        Let the process die, now or at the end of this step.

        Raises:
            NotRunningError: It is dead.
            UsageError: It has no journal, so that nothing would be left.
        """
        self.living()
        if self.journal is None:
            msg = "it has no journal: nothing would be left after a crash"
            raise UsageError(msg)
        if self._inside:
            self._crash_after_step = down_ns
        else:
            self._die(down_ns)

    def _die(self, down_ns: int) -> None:
        incarnation, self.incarnation = self.incarnation, None
        self.crashes += 1
        assert incarnation is not None  # noqa: S101 - only the living die
        for run in incarnation.in_process.runs.values():
            run.over("died", self.timeline.now)
        self.timeline.forget(incarnation)
        self.timeline.forget(incarnation.in_process)
        if incarnation.commits is not None and self.journal is not None:
            group = incarnation.commits.in_hand or incarnation.commits.pending
            frames = self.nature.torn(len(group)) if group else 0
            if frames:
                self.journal.tear(incarnation.epoch, group, frames)
        self.died()
        self.timeline.at(self.timeline.now + down_ns, self._restart)

    def _restart(self, _: None) -> None:
        try:
            self._begin_incarnation()
        except _Crash as crash:
            self.crashes += 1
            self.timeline.at(self.timeline.now + crash.down_ns, self._restart)

    def _begin_incarnation(self) -> None:
        """
        Begin an incarnation: a first one, or one that opens the journal of another.

        Raises:
            _Crash: It dies while it recovers.
        """
        epoch = 1 if self.journal is None else self.journal.claim()
        incarnation = Incarnation(self, epoch)
        if self.journal is None or (epoch == 1 and not self.journal.last):
            self.incarnation = incarnation
            incarnation.listen()
            incarnation.kernel.unpause()
            incarnation.kernel.note(OrchestratorStarted, incarnation.now(), epoch)
            return
        self._recover(incarnation)
        self.incarnation = incarnation
        self.recovered(incarnation)
        for worker in self.workers.values():
            if isinstance(worker, InProcessWorker):
                incarnation.join(worker)
        incarnation.kernel.unpause()
        unanswered, self._unanswered = self._unanswered, {}
        for tasks, ids, run in unanswered.values():
            named = [
                attrs.evolve(task, id=task_id)
                for task, task_id in zip(tasks, ids, strict=True)
            ]
            try:
                self._submit(named, run)
            except UsageError as error:
                self.refused(ids, error)
        # Callers who wait for a task ask again for its state.
        self._acknowledge_ends(
            incarnation, [name for name, end in self.acknowledged.items() if not end]
        )

    def _recover(self, incarnation: Incarnation) -> None:
        journal = self.journal
        assert journal is not None  # noqa: S101 - it is what is recovered from
        last_ns = 0
        for entry in journal.read():
            incarnation.folding.fold(entry)
            event = entry[0]
            last_ns = event.at_ns
            if self.is_mortal:
                self.maybe_crash("recovering", event)
        incarnation.folding.reconnect()
        # The time between two incarnations passes by the wall clock, but never
        # backwards.
        incarnation.ahead_ns = self.ahead_ns + self.nature.jump()
        incarnation.shift_ns = max(last_ns, incarnation.wall()) - self.timeline.now
        incarnation.listen()
        recover(incarnation.kernel, incarnation.epoch, incarnation.now())
        assert incarnation.commits is not None  # noqa: S101 - there is a journal
        incarnation.commits.committed = journal.last

    # -- time ----------------------------------------------------------------------

    def run(self, until_ns: int | None = None, steps: int = sys.maxsize) -> None:
        """
        Run until the given time, or until nothing proceeds by itself.

        The run may take that many *steps*; with *until_ns*, that many in a row during
        which no time passes.

        Raises:
            UsageError: There were not enough steps; or time passes already.
        """
        if self._inside:
            msg = "run() was called while time passes already"
            raise UsageError(msg, hint="what is called from inside must return")
        used = 0
        while (when := self._next()) is not None:
            if until_ns is None:
                if self._is_quiet():
                    return
            elif when > until_ns:
                break
            elif when > self.timeline.now:
                used = 0
            if used >= steps:
                raise self._endless(used)
            used += 1
            self._step(when)
        if until_ns is not None:
            self.timeline.now = max(self.timeline.now, until_ns)

    def _endless(self, steps: int) -> UsageError:
        seconds = (self.timeline.now - BEGINNING) / NS
        msg = f"after {steps:,} steps, at {seconds:g} s, there is no end in sight"
        hint = "give run(until=…) an end; or, if that is how much there is, more steps="
        return UsageError(msg, hint=hint)

    def _next(self) -> int | None:
        """Return the time of the next action."""
        return (
            self.timeline if self.incarnation is None else self.incarnation
        ).next_due()

    def _is_quiet(self) -> bool:
        """Return whether nothing changes any more by itself."""
        incarnation = self.incarnation
        if self.timeline.pressing or (
            incarnation is not None and incarnation.is_busy()
        ):
            self._calm_since = None
            return False
        if incarnation is None or not self._awaits_signs(incarnation):
            return True
        # Heartbeats come within a lease or two, unless there is a fault.
        if self._calm_since is None:
            self._calm_since = self.timeline.now
        leases = [a.info.lease for a in self.workers.values() if a.info.lease]
        patience = nanoseconds(_PATIENCE * max(leases, default=0.0))
        return self.timeline.now - self._calm_since > patience

    def _awaits_signs(self, incarnation: Incarnation) -> bool:
        return incarnation.remotes.awaits_signs() or any(
            # A report has no answer yet; or this incarnation has not heard of the
            # worker, which may have work to do.
            worker.reports
            or (incarnation.kernel.queued and not incarnation.remotes.knows(name))
            for name, worker in self.workers.items()
            if isinstance(worker, RemoteWorker) and worker.is_there
        )

    def _step(self, when: int) -> None:
        """Carry out everything that is due at one instant."""
        timeline = self.timeline
        timeline.now = max(timeline.now, when)
        self._inside = True
        try:
            if self.incarnation is not None:
                self.incarnation.begin()
            if not timeline.carry_out(_AT_ONCE):
                raise self._endless(_AT_ONCE)
        except _Crash as crash:
            self._die(crash.down_ns)
        finally:
            try:
                if self.incarnation is not None:
                    self._end_step(self.incarnation)
            finally:
                self._inside = False
