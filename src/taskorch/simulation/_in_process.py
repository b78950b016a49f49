"""What threads, the loop and programs do in a runtime, in virtual time."""

from __future__ import annotations

from asyncio import CancelledError
from inspect import iscoroutine
from typing import Any

from taskorch.errors import AttemptLostError
from taskorch.kernel import TaskRow
from taskorch.protocols import Attempt, AttemptExecutor
from taskorch.runtime._attempts import outcome_of
from taskorch.runtime._context import CURRENT
from taskorch.simulation._agents import InProcessAgent
from taskorch.simulation._attempt import AttemptLife, SimulatedAttempt
from taskorch.simulation._run import SimulatedRun
from taskorch.simulation._timeline import Agenda
from taskorch.simulation._work import End, Outcome, is_call, nanoseconds


class _InProcessRun(SimulatedRun):
    """An attempt in the orchestrator's process: its end is reported at once."""

    __slots__ = ("reports_to",)

    def __init__(
        self, agent: str, attempt: SimulatedAttempt, outcome: Outcome, now: int
    ) -> None:
        super().__init__(agent, attempt.full_fence, outcome, now)
        self.reports_to: SimulatedAttempt = attempt


class InProcess(AttemptExecutor[_InProcessRun]):
    """Runs the attempts of agents without a lease, which die with their life."""

    def __init__(self, life: AttemptLife) -> None:
        self._life = life
        self.timeline: Agenda = life.timeline
        #: What is under way, by task and number.
        self.runs: dict[tuple[str, int], _InProcessRun] = {}

    # -- as an executor ------------------------------------------------------------

    def begin(self, attempt: Attempt) -> _InProcessRun:
        """Begin *attempt*, and schedule its end."""
        assert isinstance(attempt, SimulatedAttempt)  # noqa: S101 - of a simulation
        row, world, timeline = attempt.row, self._life.world, self.timeline
        assert row.agent is not None  # noqa: S101 - it has been started
        agent = world.agents[row.agent.name]
        assert isinstance(agent, InProcessAgent)  # noqa: S101 - see Life
        now = timeline.now
        outcome = world.outcome(row.cargo._task, attempt.full_fence, row.agent.name)
        run = _InProcessRun(row.agent.name, attempt, outcome, now)
        self.runs[row.id, attempt.number] = run
        world.began(run)
        nature = world.nature
        ns = nanoseconds(outcome.seconds * nature.pace(run) / agent.speed)
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
            timeline.at(now + fate.after_ns, act, (run.agent, fate.back_ns))
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
        """Whether *row* runs here, and can be stopped where it stands."""
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

    # -- what it does --------------------------------------------------------------

    def run_rest(self, run: _InProcessRun) -> None:
        """What was left of the time of *run* when it stood still passes now."""
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
            self._life.note_progress(run.reports_to.row, run.attempt, value)

    def _pause(self, waiting: tuple[_InProcessRun, int]) -> None:
        """An attempt waits for other work, without its slot."""
        run, pause = waiting
        life = self._life
        life.kernel.yield_slot(run.reports_to.row, run.attempt, life.now())
        run.next = self.timeline.at(self.timeline.now + pause, self._return, run)

    def _return(self, run: _InProcessRun) -> None:
        life = self._life
        run.next = 0
        if life.kernel.reclaim_slot(run.reports_to.row, run.attempt, life.now()):
            self.run_rest(run)

    def _kill(self, fate: tuple[str, int | None]) -> None:
        """The workers of an agent die; others take their place."""
        for run in list(self.runs.values()):
            if run.agent == fate[0]:
                msg = f"task {run.task_id}: its worker was killed"
                run.end = ("lost", None, AttemptLostError(msg, task_id=run.task_id))
                self.cut(run)

    def _delay(self, fate: tuple[str, int | None]) -> None:
        """An agent hangs for a while, or for ever."""
        name, back_ns = fate
        for run in self.runs.values():
            if run.agent != name or not run.due_ns:
                continue
            if back_ns is None:
                run.unschedule(self.timeline)
            else:
                run.schedule_end(run.due_ns + back_ns, self.timeline, self._over)

    def cut(self, run: _InProcessRun) -> None:
        """*run* ends now."""
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
