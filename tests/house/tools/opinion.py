"""
A second opinion of runs of workflows: what must become of one, from its plan alone.

It knows the phases, tasks and gates as they were drawn, which of the runs of a task
fail, and what somebody decided; nothing of how `orch.workflows` brings it about. What
it checks, by the names that a breach has:

    phases      nothing of a phase begins before the gate, or approval, before it opened
    gates       a gate asks when all of its phase has ended, of just what completed
    parallel    no more tasks of a phase run at once than it allows
    paused      nothing begins of what is paused
    approvals   the first decision about an approval is the one that holds
    room        an added task finds room, or is refused
    verdict     each task is in the end in the state that follows from the plan
    counted     a status and a report count what has completed, and say so of a phase
    kept        what completed is run again by a restart only if it is stale
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from taskorch.core.workflows._phases import approval_of, gate_of
from taskorch.events import (
    Event,
    OrchestratorStarted,
    SlotLeaked,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskReleased,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
)
from taskorch.model import TaskState
from taskorch.model.ids import first_of, has_segments, is_below, name_of, number_of
from taskorch.testing import Breach

_S: Final = TaskState
#: Events after which an attempt does not run any more.
_OVER: Final = (
    TaskCompleted,
    TaskFailed,
    TaskCancelled,
    TaskRetrying,
    TaskSuspended,
    TaskBlocked,
    SlotLeaked,
)


@attrs.frozen
class ScriptedTask:
    """A task of a phase."""

    name: str
    after: tuple[str, ...] = ()
    #: Of its runs, how many of the first ones fail.
    fails: int = 0
    #: How many tasks each of its attempts adds, in two calls.
    adds: tuple[int, int] = (0, 0)


@attrs.frozen
class Gate:
    """What a gate asks for, beside that all has completed."""

    #: Of the results, how many there must be; None: nobody asks.
    least: int | None = None
    #: Of its runs, how many of the first ones are told no.
    says_no: int = 0
    #: Whether an approval is needed, and what is decided if none comes before the end.
    approval: bool = False
    approves: bool = True


@attrs.frozen
class ScriptedPhase:
    """A phase, its tasks in an order in which they can run."""

    name: str
    tasks: tuple[ScriptedTask, ...]
    gate: Gate
    on_failure: str
    max_parallel: int | None

    @property
    def end(self) -> str:
        """What the next phase waits for."""
        return approval_of(self.name) if self.gate.approval else gate_of(self.name)


@attrs.frozen
class ScriptedWorkflow:
    """A workflow, and what its tasks do."""

    phases: tuple[ScriptedPhase, ...]
    max_added: int

    def task(self, name: str) -> ScriptedTask:
        """A task by its name; one that was added does nothing in particular."""
        for phase in self.phases:
            for task in phase.tasks:
                if task.name == name:
                    return task
        return ScriptedTask(name)

    def index(self, name: str) -> int:
        """The number of the phase that a task, gate or approval is of."""
        first = first_of(name)
        for number, phase in enumerate(self.phases):
            if first == phase.name or any(t.name == first for t in phase.tasks):
                return number
        law = "room"
        raise Breach(law, f"{name} is of no phase")

    def is_in(self, name: str, part: str) -> bool:
        """Whether a task is, or is of, what is called *part*; "" is all."""
        if not part or name == part or is_below(name, part):
            return True
        return self.phases[self.index(name)].name == part


@attrs.define
class Known:
    """What has really happened, as far as `predict` takes it as given."""

    #: The tasks that were added, by their names.
    added: Sequence[str]
    #: Of each task, the number of its latest run.
    runs: Mapping[str, int]
    #: What was decided about each approval.
    decided: Mapping[str, bool]


def predict(plan: ScriptedWorkflow, happened: Known) -> dict[str, TaskState]:
    """The state of each task once nothing goes on by itself."""
    states: dict[str, TaskState] = {}
    before: str | None = None
    skips = False
    for phase in plan.phases:
        members: list[str] = []
        for task in phase.tasks:
            above = [*task.after, *([before] if before else [])]
            members.append(task.name)
            if any(states[name] is not _S.COMPLETED for name in above):
                states[task.name] = _not_begun(skips)
            else:
                fails = happened.runs[task.name] <= task.fails
                states[task.name] = _S.FAILED if fails else _S.COMPLETED
            added = [n for n in happened.added if is_below(n, task.name)]
            states.update(dict.fromkeys(added, _S.COMPLETED))
            members += added
        begun = before is None or states[before] is _S.COMPLETED
        done = [name for name in members if states[name] is _S.COMPLETED]
        gate = gate_of(phase.name)
        skipping = skips or phase.on_failure == "skip"
        goes_on = phase.on_failure == "continue"
        if goes_on:
            states[gate] = _S.COMPLETED if begun else _S.FAILED
        elif not begun or len(done) < len(members):
            states[gate] = _not_begun(skipping)
        else:
            opens = passes(phase, len(done), happened.runs[gate])
            states[gate] = _S.COMPLETED if opens else _S.FAILED
        if phase.gate.approval:
            name = phase.end
            if states[gate] is not _S.COMPLETED:
                states[name] = _not_begun(skipping)
            elif happened.decided[name] or goes_on:
                states[name] = _S.COMPLETED
            else:
                states[name] = _S.FAILED
        before, skips = phase.end, skipping
    return states


def _not_begun(skips: bool) -> TaskState:
    """The state of what cannot begin."""
    return _S.CANCELLED if skips else _S.BLOCKED


def passes(phase: ScriptedPhase, completed: int, run: int) -> bool:
    """Whether what a gate asks for, beside that all completed, holds."""
    gate = phase.gate
    return gate.least is None or (completed >= gate.least and run > gate.says_no)


class Hearing:
    """
    Goes through all that was decided, in order, and holds what must not begin when.

    Args:
        plan: What the run is of.
    """

    def __init__(self, plan: ScriptedWorkflow) -> None:
        self._plan = plan
        self._events: list[Event] = []
        self._states: dict[str, tuple[TaskState, str]] = {}
        self._running: set[str] = set()
        self._paused: set[str] = set()
        self._parts: set[str] = set()
        #: Of each run of a gate, whether its phase has passed.
        self.verdicts: dict[str, bool] = {}
        #: What has completed in one of its runs.
        self._done: set[str] = set()

    def hear(self, log: Iterable[Any]) -> None:
        """
        Read a log: events, and texts that say what was paused and resumed.

        Raises:
            Breach: Something began that must not.
        """
        for item in log:
            if isinstance(item, str):
                self._note(item)
            elif isinstance(item, Event):
                if self._events and item.seq <= self._events[-1].seq:
                    self._forget(item.seq)
                self._events.append(item)
                self._read(item, held=False)

    def _note(self, text: str) -> None:
        head, _, names = text.partition(": ")
        kind, _, part = head.partition(" ")
        if kind == "paused":
            self._paused.update(names.split())
            self._parts.add(part)
        elif kind == "resumed":
            self._paused.difference_update(names.split())
            is_in = self._plan.is_in
            self._parts = {
                p for p in self._parts if part and not (p and is_in(p, part))
            }
        elif kind == "crash":
            # The pause may not have been kept.
            self._paused.clear()
            self._parts.clear()

    def _forget(self, number: int) -> None:
        """A crash took the events from *number* on."""
        events = [event for event in self._events if event.seq < number]
        self._events, self._states, self._running = events, {}, set()
        self.verdicts, self._done = {}, set()
        for event in events:
            self._read(event, held=True)

    def _read(self, event: Any, *, held: bool) -> None:
        """Enter *event*; *held*: it was checked before."""
        cls = type(event)
        if cls is OrchestratorStarted:
            self._running.clear()
        elif cls is TaskReleased and not held:
            self._release(name_of(event.task_id))
        elif cls in (TaskSubmitted, TaskStarted, *_OVER):
            self._change(event, held=held)

    def _change(self, event: TaskEvent, *, held: bool) -> None:
        """A task comes, begins, or its attempt is over."""
        cls, task_id = type(event), event.task_id
        name = name_of(task_id)
        _, latest = self._states.get(name, (_S.PENDING, task_id))
        if number_of(task_id) < number_of(latest):
            # It was run again before its end.
            self._running.discard(task_id)
            return
        if cls is TaskSubmitted:
            self._enter(name)
        elif cls is TaskStarted:
            if not held:
                self._begin(name)
            self._running.add(task_id)
        else:
            self._running.discard(task_id)
        if cls is TaskCompleted:
            self._done.add(name)
            self._pass(name, task_id)
        state = _ENDS.get(cls, _S.PENDING)
        if isinstance(event, TaskBlocked) and event.blocked_by:
            state = _S.BLOCKED
        self._states[name] = (state, task_id)

    def _enter(self, name: str) -> None:
        """A task is submitted: if it is added to what is paused, it is paused too."""
        phase = self._plan.phases[self._plan.index(name)]
        # A gate that was skipped has given no verdict: its next run waits for it.
        is_late = self._is(gate_of(phase.name), _S.COMPLETED, _S.FAILED)
        is_added = name not in self._states and has_segments(name)
        is_below = any(self._plan.is_in(name, part) for part in self._parts)
        if is_added and is_below and not is_late:
            self._paused.add(name)

    def _pass(self, name: str, task_id: str) -> None:
        """A gate has asked: whether its phase has passed."""
        number = self._plan.index(name)
        phase = self._plan.phases[number]
        if name == gate_of(phase.name):
            members = self._members(number)
            done = sum(self._is(member, _S.COMPLETED) for member in members)
            holds = passes(phase, done, number_of(task_id))
            self.verdicts[task_id] = holds and done == len(members)

    def _is(self, name: str, *states: TaskState) -> bool:
        return name in self._states and self._states[name][0] in states

    def _begin(self, name: str) -> None:
        plan = self._plan
        number = plan.index(name)
        phase = plan.phases[number]
        if name in self._paused:
            _breach("paused", f"{name} begins, and is paused")
        goes_on = phase.on_failure == "continue"
        is_gate = name == gate_of(phase.name)
        if number and not (is_gate and goes_on):
            end = plan.phases[number - 1].end
            # What was added since it had opened does not wait for it to open again.
            is_added = has_segments(name) and name not in (
                phase.end,
                gate_of(phase.name),
            )
            if not (self._is(end, _S.COMPLETED) or (is_added and end in self._done)):
                _breach("phases", f"{name} begins, and {end} has not opened")
        members = self._members(number)
        if is_gate:
            if not goes_on:
                self._expect_ended(name, members, _S.COMPLETED)
            return
        limit = phase.max_parallel
        running = [task_id for task_id in self._running if name_of(task_id) in members]
        if limit is not None and len(running) >= limit:
            _breach("parallel", f"{name} begins beside {', '.join(running)}")

    def _release(self, name: str) -> None:
        """A gate is released that asks whatever has become of its phase."""
        number = self._plan.index(name)
        phase = self._plan.phases[number]
        if name == gate_of(phase.name) and phase.on_failure == "continue":
            ends = (_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.BLOCKED)
            self._expect_ended(name, self._members(number), *ends)

    def _members(self, number: int) -> list[str]:
        """The tasks of a phase, without its gate and approval."""
        phase = self._plan.phases[number]
        ours = (gate_of(phase.name), approval_of(phase.name))
        return [
            n for n in self._states if self._plan.index(n) == number if n not in ours
        ]

    def _expect_ended(
        self, gate: str, members: Iterable[str], *ends: TaskState
    ) -> None:
        for name in members:
            if not self._is(name, *ends):
                _breach("gates", f"{gate} asks, and {name} has not ended")


_ENDS: Final[Mapping[type[Event], TaskState]] = {
    TaskCompleted: _S.COMPLETED,
    TaskFailed: _S.FAILED,
    TaskCancelled: _S.CANCELLED,
}


def _breach(law: str, message: str) -> None:
    raise Breach(law, message)
