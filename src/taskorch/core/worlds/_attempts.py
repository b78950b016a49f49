"""
Attempts in virtual time, of threads, programs and remote workers.

Messages to and from workers may be lost, doubled or late. So each heartbeat repeats the
important ones: an order that a worker does not name, a request to stop that it has not
followed. A worker does nothing twice, and a fence (epoch, task, attempt) tells which
attempt is current.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskorch.core.engine import (
    CURRENT,
    AttemptContext,
    Commits,
    HeldBack,
    Work,
    context_of,
    is_cached,
    outcome_of,
    resolved,
    task_of,
    usage_of,
)
from taskorch.core.kernel import AttemptOutcome, Kernel, TaskRow
from taskorch.core.worlds import _workers
from taskorch.core.worlds._clockwork import Agenda
from taskorch.core.worlds._run import (
    End,
    Fence,
    Outcome,
    SimulatedRun,
    is_call,
    nanoseconds,
)
from taskorch.core.worlds._workers import InProcessWorker, RemoteWorker, Report
from taskorch.errors import AttemptLostError, UsageError
from taskorch.model import Program, Task, TaskState
from taskorch.protocols import Attempt, AttemptExecutor, Entry

if TYPE_CHECKING:
    from taskorch.core.engine import Caching


class AttemptIncarnation(Protocol):
    """The interface of an incarnation for attempts and executors."""

    epoch: int
    kernel: Kernel
    timeline: Agenda

    @property
    def world(self) -> _workers.WorkerWorld:
        """The world, which has the workers."""
        ...

    @property
    def memo(self) -> Caching:
        """The cache of results of like tasks."""
        ...

    def now(self) -> int:
        """Return the time in ns by the clock of the process."""
        ...

    def note_progress(self, row: TaskRow, attempt: int, value: Any) -> None:
        """Note the progress of an attempt."""
        ...

    def end_as_told(
        self,
        row: TaskRow,
        attempt: int,
        work: Work,
        how: AttemptOutcome,
        value: Any,
        error: BaseException | None,
    ) -> None:
        """End an attempt as it reported."""
        ...


class SimulatedAttempt:
    """An attempt of an incarnation: see `taskorch.protocols.Attempt`."""

    __slots__ = ("_incarnation", "_work", "number", "row")

    def __init__(
        self, incarnation: AttemptIncarnation, row: TaskRow, number: int
    ) -> None:
        self._incarnation = incarnation
        self._work: Work = row.cargo
        self.row: TaskRow = row
        self.number: int = number

    @property
    def task_id(self) -> str:
        return self.row.id

    @property
    def fence(self) -> tuple[int, int]:
        return self._incarnation.epoch, self.number

    @property
    def full_fence(self) -> Fence:
        """The fence with the task, for remote workers."""
        return self._incarnation.epoch, self.row.id, self.number

    @property
    def task(self) -> Task[Any]:
        return task_of(self.row)

    @property
    def is_program(self) -> bool:
        """True if the attempt is a program, and can be paused."""
        return isinstance(self.task.payload, Program)

    @property
    def context(self) -> AttemptContext:
        """The context of the attempt, for its function."""
        return context_of(self._work, self.number)

    @property
    def cancelled(self) -> bool:
        extra = self.row.extra
        is_told = extra is not None and bool(extra.stop)
        return is_told or self.row.attempt != self.number

    def run(self) -> None:
        try:
            fn, args, kwargs = self.call()
            value = self.variables().run(fn, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is the task's
            self.end(error=error)
        else:
            self.end(value)

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        del elsewhere
        called = resolved(self._work)
        if not is_cached(self._work):
            return called
        return self._incarnation.memo.elsewhere(self.row, self.task, *called)

    def variables(self) -> Context:
        variables = self._work._ctx.copy()
        variables.run(CURRENT.set, self.context)
        return variables

    def portable(self) -> Callable[[], Any]:
        msg = "in a simulation there is no other process"
        raise UsageError(msg, hint="say what the work comes to")

    def told(self, what: str, value: Any) -> None:
        del what, value
        self.portable()

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        how: AttemptOutcome = "completed"
        if error is not None:
            how, error, _ = outcome_of(error, self.task_id, asked=True)
        self.over(how, value, error)

    def over(
        self, how: AttemptOutcome, value: Any, error: BaseException | None
    ) -> None:
        """End the attempt; *how* is the kernel's word for the outcome."""
        end = self._incarnation.end_as_told
        end(self.row, self.number, self._work, how, value, error)

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        timeline = self._incarnation.timeline
        timeline.at(timeline.now, lambda _: self.end(value, error))

    def unstarted(self, error: BaseException) -> None:
        self.over("unstarted", None, error)


class _InProcessRun(SimulatedRun):
    """An attempt in the orchestrator's process: its end is reported at once."""

    __slots__ = ("reports_to",)

    def __init__(
        self, worker: str, attempt: SimulatedAttempt, outcome: Outcome, now: int
    ) -> None:
        super().__init__(worker, attempt.full_fence, outcome, now)
        self.reports_to: SimulatedAttempt = attempt


class InProcess(AttemptExecutor[_InProcessRun]):
    """The executor for workers without a lease, which die with their process."""

    def __init__(self, incarnation: AttemptIncarnation) -> None:
        self._incarnation = incarnation
        self.timeline: Agenda = incarnation.timeline
        #: The unfinished runs, by task and number.
        self.runs: dict[tuple[str, int], _InProcessRun] = {}

    # -- as an executor ------------------------------------------------------------

    def begin(self, attempt: Attempt) -> _InProcessRun:
        """Begin *attempt*, and schedule its end."""
        assert isinstance(attempt, SimulatedAttempt)  # noqa: S101 - of a simulation
        row, world, timeline = attempt.row, self._incarnation.world, self.timeline
        assert row.worker is not None  # noqa: S101 - it has been started
        worker = world.workers[row.worker.name]
        assert isinstance(worker, InProcessWorker)  # noqa: S101 - see Incarnation
        now = timeline.now
        outcome = world.outcome(row.cargo._task, attempt.full_fence, row.worker.name)
        run = _InProcessRun(row.worker.name, attempt, outcome, now)
        self.runs[row.id, attempt.number] = run
        world.began(run)
        nature = world.nature
        ns = nanoseconds(outcome.seconds * nature.pace(run) / worker.speed)
        run.schedule_progress(ns, timeline, self._progress)
        if outcome.waits and not attempt.is_program:
            pause = min(ns, nanoseconds(outcome.waits))
            run.left_ns = (ns - pause) // 2
            run.next = timeline.at(now + run.left_ns, self._pause, (run, pause))
        elif not outcome.hang:
            run.schedule_end(now + ns, timeline, self._over)
        fate = nature.fate(run, ns)
        if fate is not None:
            act = self._kill if fate.kind == "dies" else self._delay
            timeline.at(now + fate.after_ns, act, (run.worker, fate.back_ns))
        return run

    def stop(self, begun: _InProcessRun, grace: float) -> None:
        """End the attempt now, unless it is stubborn."""
        del grace
        if begun.interrupt():
            self.cut(begun)

    def can_hold(self) -> bool:
        """Programs can be held: see `holdable`."""
        return True

    def holdable(self, row: TaskRow) -> bool:
        """Return whether *row* runs here, and can be paused."""
        run = self.runs.get((row.id, row.attempt))
        return run is not None and run.reports_to.is_program

    def hold(self, begun: _InProcessRun) -> None:
        """Stop the attempt's time."""
        begun.left_ns = begun.due_ns - self.timeline.now if begun.due_ns else -1
        begun.unschedule(self.timeline)

    def resume(self, begun: _InProcessRun) -> None:
        """Let the attempt's time go on."""
        is_held = not begun.due_ns and begun.left_ns >= 0
        if is_held and begun.reports_to.is_program:
            self.run_rest(begun)

    # -- its work ------------------------------------------------------------------

    def run_rest(self, run: _InProcessRun) -> None:
        """Schedule the end of *run* for the rest of its time after a pause."""
        if run.end[0] != "stopped":
            run.schedule_end(self.timeline.now + run.left_ns, self.timeline, self._over)

    def _over(self, run: _InProcessRun) -> None:
        """Report the end of an attempt."""
        how, result, error = run.end
        attempt = run.reports_to
        if how == "completed" and run.outcome.calls and is_call(attempt.task):
            how, result, error = _call(attempt)
        run.over(how, self.timeline.now)
        del self.runs[run.task_id, run.attempt]
        attempt.over(how, result, error)

    def _progress(self, step: tuple[_InProcessRun, Any]) -> None:
        run, value = step
        if not run.how:
            self._incarnation.note_progress(run.reports_to.row, run.attempt, value)

    def _pause(self, waiting: tuple[_InProcessRun, int]) -> None:
        """Let an attempt wait for other work, without its slot."""
        run, pause = waiting
        incarnation = self._incarnation
        incarnation.kernel.yield_slot(
            run.reports_to.row, run.attempt, incarnation.now()
        )
        run.next = self.timeline.at(self.timeline.now + pause, self._return, run)

    def _return(self, run: _InProcessRun) -> None:
        incarnation = self._incarnation
        run.next = 0
        if incarnation.kernel.reclaim_slot(
            run.reports_to.row, run.attempt, incarnation.now()
        ):
            self.run_rest(run)

    def _kill(self, fate: tuple[str, int | None]) -> None:
        """Kill the processes of a worker; other ones take their place."""
        for run in list(self.runs.values()):
            if run.worker == fate[0]:
                msg = f"task {run.task_id}: its worker was killed"
                run.end = ("lost", None, AttemptLostError(msg, task_id=run.task_id))
                self.cut(run)

    def _delay(self, fate: tuple[str, int | None]) -> None:
        """Let a worker hang for a while, or for ever."""
        name, back_ns = fate
        for run in self.runs.values():
            if run.worker != name or not run.due_ns:
                continue
            if back_ns is None:
                run.unschedule(self.timeline)
            else:
                run.schedule_end(run.due_ns + back_ns, self.timeline, self._over)

    def cut(self, run: _InProcessRun) -> None:
        """End *run* now."""
        run.schedule_end(self.timeline.now, self.timeline, self._over)


def _call(attempt: SimulatedAttempt) -> End:
    """Call the function of a task, which may ask for its context."""
    try:
        fn, args, kwargs = attempt.call()
        token = CURRENT.set(attempt.context)
        try:
            value = fn(*args, **kwargs)
        finally:
            CURRENT.reset(token)
    except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - it is the task's
        how, shown, _ = outcome_of(error, attempt.task_id, asked=False)
        return how, None, shown
    if iscoroutine(value):
        value.close()
        msg = (
            f"a simulation has no event loop for {value.__qualname__}(): say what "
            "its work comes to, as in submit_task(task, work=5.0)"
        )
        return "failed", None, TypeError(msg)
    return "completed", value, None


_RUNNING: Final = TaskState.RUNNING


class RemotesIncarnation(AttemptIncarnation, Protocol):
    """The interface of an incarnation for the executor of remote workers."""

    commits: Commits[list[Entry]] | None
    held_back: HeldBack | None


class _Session:
    """One instance of a remote worker."""

    __slots__ = ("instance", "sent", "worker")

    def __init__(self, worker: RemoteWorker, instance: int) -> None:
        self.worker: RemoteWorker = worker
        self.instance: int = instance
        #: Attempts that the worker was told to begin.
        self.sent: dict[tuple[str, int], TaskRow] = {}


class Remotes(AttemptExecutor[tuple[TaskRow, int]]):
    """
    The executor for all remote workers of one incarnation.

    It begins and stops attempts there by messages.
    """

    def __init__(self, incarnation: RemotesIncarnation) -> None:
        self._incarnation = incarnation
        self._kernel = incarnation.kernel
        self._epoch = incarnation.epoch
        self._send = incarnation.world.send
        self._sessions: dict[str, _Session] = {}

    def join(self, worker: RemoteWorker, instance: int) -> _Session:
        """Take in a new instance of a worker; an earlier one is lost."""
        session = _Session(worker, instance)
        self._sessions[worker.info.name] = session
        self._kernel.add_worker(worker.info, self._incarnation.now())
        return session

    def knows(self, name: str) -> bool:
        """Return whether this incarnation has heard of the worker."""
        return name in self._sessions

    # -- messages from workers ------------------------------------------------------

    def hear(self, kind: str, worker: RemoteWorker, content: Any) -> None:
        """Take in a message of a remote worker."""
        if kind == "beat":
            self._hear_beat(worker, *content)
        elif kind == "report":
            self._hear_report(worker, content)
        else:
            fence, value = content
            row = self._kernel.tasks.get(fence[1])
            if row is not None and fence[0] == self._epoch:
                self._incarnation.note_progress(row, fence[2], value)

    def _hear_beat(
        self, worker: RemoteWorker, instance: int, named: Sequence[Fence]
    ) -> None:
        name = worker.info.name
        session = self._sessions.get(name)
        if session is None or session.instance < instance:
            session = self.join(worker, instance)
        elif session.instance > instance:
            # An instance that has died since has sent this message.
            return
        ours = [fence[1:] for fence in named if fence[0] == self._epoch]
        # The worker cannot name attempts that wait for a commit before it is told of
        # them.
        if self._incarnation.held_back is not None:
            ours += self._incarnation.held_back.on(name)
        abandoned = self._kernel.beat(name, ours, self._incarnation.now())
        for fence in named:
            if fence[0] != self._epoch or fence[1:] in abandoned:
                self._send_stop(session, fence)
        for key, row in list(session.sent.items()):
            if row.attempt != key[1] or row.state is not _RUNNING:
                del session.sent[key]
            elif key not in ours:
                # The order may have been lost; a worker ignores one that it had before.
                self._send_begin(session, row, key[1])
            elif row.extra is not None and row.extra.stop:
                self._send_stop(session, (self._epoch, *key))

    def _hear_report(self, worker: RemoteWorker, report: Report) -> None:
        _, fence, how, result, error = report
        epoch, task_id, attempt = fence
        incarnation, kernel = self._incarnation, self._kernel
        row = kernel.tasks.get(task_id)
        if epoch == self._epoch and row is not None:
            incarnation.end_as_told(row, attempt, row.cargo, how, result, error)
        else:
            used = usage_of(result) or usage_of(getattr(error, "result", None))
            kernel.end_reported(fence, how, incarnation.now(), error, used)
        # The worker may drop its report once the end is kept.
        if incarnation.commits is None:
            self._send_understood(worker, fence)
        else:
            incarnation.commits.when(
                kernel.seq, lambda: self._send_understood(worker, fence)
            )

    # -- messages to workers --------------------------------------------------------

    def begin(self, attempt: Attempt) -> tuple[TaskRow, int]:
        """Tell the worker of its task to begin *attempt*."""
        row, number = self._kernel.tasks[attempt.task_id], attempt.number
        assert row.worker is not None  # noqa: S101 - it has been started
        session = self._sessions[row.worker.name]
        session.sent[row.id, number] = row
        self._send_begin(session, row, number)
        return row, number

    def stop(self, begun: tuple[TaskRow, int], grace: float) -> None:
        """Tell the worker of the task, if it is a remote one, to stop an attempt."""
        del grace
        row, number = begun
        session = None if row.worker is None else self._sessions.get(row.worker.name)
        if session is not None:
            self._send_stop(session, (self._epoch, row.id, number))

    def _send_begin(self, session: _Session, row: TaskRow, attempt: int) -> None:
        worker = session.worker
        fence = (self._epoch, row.id, attempt)
        order = (session.instance, fence, task_of(row))
        self._send("start", worker.info.name, fence, worker.begin, order)

    def _send_stop(self, session: _Session, fence: Fence) -> None:
        worker = session.worker
        self._send("stop", worker.info.name, fence, worker.stop, fence)

    def _send_understood(self, worker: RemoteWorker, fence: Fence) -> None:
        self._send("answer", worker.info.name, fence, worker.understood, fence)

    # -- whether waiting changes anything ------------------------------------------

    def awaits_signs(self) -> bool:
        """Return whether heartbeats, or their absence, will change anything."""
        kernel = self._kernel
        for name, session in self._sessions.items():
            worker = session.worker
            if any(
                row.attempt == attempt
                and row.state is _RUNNING
                and self._may_end(worker, (self._epoch, task_id, attempt))
                for (task_id, attempt), row in session.sent.items()
            ):
                return True
            if kernel.queued and kernel.workers[name].lost == worker.is_there:
                # Its next beat, or the end of its lease, may let queued tasks start.
                return True
        for (task_id, attempt), leak in kernel.leaked.items():
            elsewhere = self._sessions.get(leak.worker.name)
            if elsewhere is not None and self._may_end(
                elsewhere.worker, (self._epoch, task_id, attempt)
            ):
                return True
        return False

    def _may_end(self, worker: RemoteWorker, fence: Fence) -> bool:
        """Return whether an attempt ends, or its worker is lost or ignores it."""
        run = worker.runs.get(fence)
        return run is None or not run.is_endless or not worker.is_there
