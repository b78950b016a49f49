"""
One runner at work: hands tasks to an orchestrator, and takes in what changes.

A task file becomes a task of the orchestrator's, after those that it waits for and
after the gate of the phase before; a gate is a task, too. What cannot be handed over
yet, since its file is wrong or something that it waits for is not there, is held back
and looked at again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

import attrs

from taskorch._handles import TaskHandle
from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import DependencyFailedError
from taskorch.events import TaskBlocked, TaskUnblocked
from taskorch.frontends.workspace._budgets import short_of
from taskorch.frontends.workspace._claims import Claims
from taskorch.frontends.workspace._config import WorkspaceConfig
from taskorch.frontends.workspace._layout import KINDS, WorkspaceLayout, by_numbers
from taskorch.frontends.workspace._progress import (
    missing_inputs,
    missing_outputs,
    unmade_inputs,
    why_shut,
)
from taskorch.frontends.workspace._scan import Scanner, WorkspacePlan
from taskorch.frontends.workspace._status import StatusRefusedError, gate_of
from taskorch.frontends.workspace._task_file import TaskFile
from taskorch.frontends.workspace._tasks import (
    add_agent,
    judged,
    orchestrator_for,
    spends,
    task_for,
)
from taskorch.frontends.workspace._work import (
    Failed,
    NotYet,
    TaskFileWorker,
    Tell,
    unkept,
    waits_for,
)
from taskorch.model import BudgetUsage, Task
from taskorch.model.ids import stem_of

#: Seconds between two looks at the files, at least and at most …
_LOOK: Final = 0.5
_LONGEST_LOOK: Final = 2.0
#: … and how many times as long as one takes: ten thousand files take a tenth of one.
_TIMES_LONGER: Final = 20


class GateShutError(Failed):
    """A phase has not passed; the message says why, and `blames` names the cause."""

    def __init__(self, blames: str, why: str) -> None:
        super().__init__(why)
        self.blames = blames


@attrs.define
class _PhaseGate:
    """What stands before and behind a phase, as tasks of the orchestrator."""

    #: Its tasks wait for this: all phases before have passed.
    entry: TaskHandle[Any]
    #: It has passed.
    exit: TaskHandle[Any]


class WorkspaceSession:
    """
    A runner of a workspace, in a `with` block.

    *tell* takes lines for people; with a *phase*, the tasks of that alone are run.
    """

    def __init__(
        self,
        layout: WorkspaceLayout,
        config: WorkspaceConfig,
        scanner: Scanner,
        *,
        tell: Tell,
        phase: str | None = None,
    ) -> None:
        self._layout = layout
        self._config = config
        self._scanner = scanner
        self._phase = phase
        self._tell = tell
        self.claims = Claims(layout, config.budgets)
        self.plan: WorkspacePlan = scanner.scan()
        self.orchestrator: TaskOrchestrator = orchestrator_for(config)
        self.worker = TaskFileWorker(
            self.orchestrator,
            layout,
            self.claims,
            find=self._find,
            tell=tell,
            held_up=lambda task_id: len(self.plan.held_up_by(task_id)),
            judged=partial(judged, config),
            draws=lambda task: (config.budget_of(task), spends(task)),
            enforce=config.enforce,
            maxima=config.maxima,
            measured=config.measured,
            mends=bool(config.repairs),
        )
        for agent in config.programs.values():
            add_agent(self.orchestrator, agent, self.worker.handler(agent))
        signals = self.orchestrator.signals
        signals.task_blocked.connect(self._blocked)
        signals.task_unblocked.connect(self._unblocked)
        # Failures are reported in the files, and by `tell`.
        signals.task_failed.connect(_ignore)
        self._lock = threading.RLock()
        self._handles: dict[str, TaskHandle[Any]] = {}
        self._completed: set[str] = set()
        self._gates: dict[str, _PhaseGate] = {}
        #: Why tasks are held back.
        self.held: dict[str, str] = {}
        #: How budgets stood at the latest look.
        self._usages: list[BudgetUsage] = []
        #: The budgets of which it was told that a task waits for more than there is.
        self._told_short: set[str] = set()

    def __enter__(self) -> Self:
        for kind in KINDS:
            folder = self._layout.folder(kind)
            folder.mkdir(parents=True, exist_ok=True)
            for phase in self.plan.phases:
                (folder / phase).mkdir(exist_ok=True)
        self.claims.open()
        try:
            self.orchestrator.start()
        except BaseException:
            self.claims.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.worker.is_stopping = kind is not None
        try:
            self.orchestrator.stop(drain=kind is None)
        finally:
            self.claims.close()

    def run(self) -> None:
        """Go on until nothing can proceed, and nothing new has come."""
        idle = False
        while True:
            began = time.monotonic()
            if not self.look() and idle:
                return
            pause = _TIMES_LONGER * (time.monotonic() - began)
            idle = self.orchestrator.wait(min(max(pause, _LOOK), _LONGEST_LOOK))

    def look(self) -> bool:
        """
        Take in what has changed: new files, and tasks that are to be run again.

        Returns:
            Whether there was anything.
        """
        with self._lock:
            self.plan = self._scanner.scan()
            self._completed = set(filter(self._has_status, self._completed))
            before, self._usages = self._usages, self.claims.usages()
            if [usage.total for usage in before] != [u.total for u in self._usages]:
                # There is more of one: whether that is enough is told again.
                self._told_short.clear()
            again = [task_id for task_id in self._handles if self._is_again(task_id)]
            for task_id in again:
                task = self._handles[task_id]
                self._handles[task_id] = self.orchestrator.rerun_task(task.task_id)
            fresh = self._hand_over()
            return bool(again or fresh or self._open_gates())

    def _open_gates(self) -> bool:
        """Check again the shut gates whose reason is gone; whether any opened."""
        opened = is_shut = False
        for phase in sorted(self._gates, key=by_numbers):
            gate = self._gates[phase]
            if _has_failed(gate.entry) and not is_shut:
                gate.entry = self.orchestrator.rerun_task(gate.entry.task_id)
                opened = True
            if _has_failed(gate.exit):
                tasks = [self._handles[task_id] for task_id in self._of(phase)]
                is_shut = any(map(_has_failed, tasks)) or (
                    all(task.done() for task in tasks)
                    and self._why_shut(phase) is not None
                )
                if not is_shut:
                    gate.exit = self.orchestrator.rerun_task(gate.exit.task_id)
                    opened = True
        return opened

    def _is_again(self, task_id: str) -> bool:
        """Whether a task that has ended here is to be looked at again."""
        if task_id in self._completed or not self._handles[task_id].done():
            return False
        error = self._handles[task_id].exception()
        if error is None and self._has_status(task_id):
            # Nor need it be asked at every look how it has ended.
            self._completed.add(task_id)
            return False
        if isinstance(error, OSError):
            # Again at once, it would fail again at once.
            self.held[task_id] = unkept(error)
            return False
        if isinstance(error, NotYet) and task_id in self.plan.tasks:
            task = self.plan.tasks[task_id]
            missing = missing_inputs(self._layout, task)
            why = waits_for(missing) if missing else self._lacks(task)
            if why is not None:
                self.held[task_id] = why
                return False
            self.held.pop(task_id, None)
        try:
            status = self.claims.status(task_id)
            if status is not None and status.status == "running":
                return self.claims.holder(task_id) != self.claims.runner
        except (StatusRefusedError, OSError):
            # What cannot be told now is asked again at the next look.
            return False
        is_failed = status is not None and status.status == "failed"
        return not is_failed and task_id in self.plan.tasks

    def _has_status(self, task_id: str) -> bool:
        """Whether a task that has ended has its file: to retry it removes that."""
        return os.path.exists(self._layout.status(task_id))  # noqa: PTH110 - it is a text

    def launch(self, task_id: str) -> TaskHandle[Any]:
        """Hand one task over, and nothing else."""
        with self._lock:
            if task_id not in self._handles:
                task = task_for(self._config, self.plan.tasks[task_id])
                self._handles[task_id] = self.orchestrator.submit_task(task)
            return self._handles[task_id]

    # -- handing over ----------------------------------------------------------------

    def _hand_over(self) -> list[str]:
        """Hand over what can be, after what it waits for; the ids."""
        plan = self.plan
        fresh: list[str] = []
        for phase in plan.phases:
            if self._phase not in (None, phase):
                continue
            is_gated = phase != "" and self._phase is None
            if is_gated and phase not in self._gates:
                entry = self._gate_task(self._enter, phase, self._exits_before(phase))
                self._gates[phase] = _PhaseGate(entry, entry)
                fresh += self._hand_over_phase(phase)
                tasks = [entry, *(self._handles[i] for i in self._of(phase))]
                self._gates[phase].exit = self._gate_task(self._leave, phase, tasks)
            else:
                fresh += self._hand_over_phase(phase)
        return fresh

    def _hand_over_phase(self, phase: str) -> list[str]:
        plan = self.plan
        todo = [
            task_id
            for task_id in plan.phases[phase]
            if task_id not in self._handles and task_id not in self._completed
        ]
        fresh: list[str] = []
        for task_id in plan.in_order(todo):
            self.held.pop(task_id, None)
            why = self._not_yet(task_id)
            if why is not None:
                self.held[task_id] = why
                continue
            if task_id in self._completed:
                continue
            after: list[Any] = [
                self._handles[other]
                for other in plan.after[task_id]
                if other in self._handles
            ]
            if phase in self._gates:
                after.append(self._gates[phase].entry)
            task = task_for(self._config, plan.tasks[task_id], after=after)
            self._handles[task_id] = self.orchestrator.submit_task(task)
            fresh.append(task_id)
        return fresh

    def _not_yet(self, task_id: str) -> str | None:
        """Why a task cannot be handed over, or None; notes what has completed."""
        try:
            status = self.claims.status(task_id)
        except StatusRefusedError as error:
            return self._not_believed(task_id, error)
        task = self.plan.tasks.get(task_id)
        if task is None:
            return "its file has problems: taskorch workspace lint shows them"
        if status is not None and status.status == "completed":
            missing = missing_outputs(self._layout, task)
            if missing:
                return f"it is completed, but {missing[0]} is not there"
            self._completed.add(task_id)
            return None
        if status is not None and status.status == "blocked":
            # Of an earlier run: it is found out anew.
            self.claims.reset(task_id, "blocked")
        for other in self.plan.after[task_id]:
            try:
                if other in self._handles or self._has_completed(other):
                    continue
            except StatusRefusedError as error:
                return f"it waits for {other}: {self._not_believed(other, error)}"
            note = "" if other in self.plan.known else ", which does not exist"
            return f"it waits for {other}{note}"
        # What another task makes may come while that runs.
        missing = unmade_inputs(self._layout, task, self.plan.known)
        return waits_for(missing) if missing else self._lacks(task)

    def _lacks(self, task: TaskFile) -> str | None:
        """Why policies deny a task, or of which budget too little is left, or None."""
        denied, _ = judged(self._config, task)
        if denied is not None:
            if denied not in self._told_short:
                self._told_short.add(denied)
                self._tell("alert", f"ALERT: {task.task_id}: {denied}")
            return denied
        budget, units = self._config.budget_of(task), spends(task)
        short = short_of(self._config.budgets, self._usages, budget, units)
        if short is None:
            return None
        if short.is_hopeless and short.name not in self._told_short:
            self._told_short.add(short.name)
            self._tell("alert", f"ALERT: {task.task_id}: {short.text}")
        return short.text

    def _not_believed(self, task_id: str, why: StatusRefusedError) -> str:
        path = self._layout.shown(self._layout.status(task_id))
        return f"{path} is not believed: {why}"

    def _has_completed(self, task_id: str) -> bool:
        """
        Whether a task has completed, in this run or, with a phase, before it.

        Raises:
            StatusRefusedError: Its status file cannot be believed.
        """
        if task_id in self._completed:
            return True
        if self._phase is None or task_id not in self.plan.tasks:
            return False
        status = self.claims.status(task_id)
        return status is not None and status.status == "completed"

    def _find(self, task_id: str) -> tuple[TaskFile, float | None] | None:
        if self._config.governance is not None:
            # What was allowed may be another file by now.
            with self._lock:
                self.plan = self._scanner.scan()
        task = self.plan.tasks.get(task_id)
        if task is None:
            return None
        return task, self._config.timeout_of(task)

    # -- gates -------------------------------------------------------------------------

    def _gate_task(
        self, look: Callable[[str], Any], phase: str, after: list[TaskHandle[Any]]
    ) -> TaskHandle[Any]:
        task = Task.call(look, phase, type="gate", after=after)
        return self.orchestrator.submit_task(task)

    def _exits_before(self, phase: str) -> list[TaskHandle[Any]]:
        place = by_numbers(phase)
        gates = self._gates.items()
        return [gate.exit for name, gate in gates if by_numbers(name) < place]

    def _of(self, phase: str) -> Iterator[str]:
        """The tasks of a phase that were handed over."""
        for task_id in self.plan.phases.get(phase, ()):
            if task_id in self._handles:
                yield task_id

    def _enter(self, phase: str) -> Any:
        """Begin *phase* once all phases before it have passed."""
        with self._lock:
            self.look()
            return self._after_those(self._enter, phase, self._exits_before(phase))

    def _leave(self, phase: str) -> Any:
        """The tasks of the phase have completed, unless others have come."""
        with self._lock:
            self.look()
            tasks = [self._handles[task_id] for task_id in self._of(phase)]
            later = self._after_those(self._leave, phase, tasks)
            if later is None:
                shut = self._why_shut(phase)
                if shut is not None:
                    blames, why = shut
                    self._tell("error", f"The gate of {phase} is shut: {why}")
                    raise GateShutError(blames, why)
            return later

    def _after_those(
        self, look: Callable[[str], Any], phase: str, tasks: list[TaskHandle[Any]]
    ) -> TaskHandle[Any] | None:
        """The same look again, once those of *tasks* have ended that have not yet."""
        unfinished = [task for task in tasks if not task.done()]
        return self._gate_task(look, phase, unfinished) if unfinished else None

    def _why_shut(self, phase: str) -> tuple[str, str] | None:
        """Why a phase has not passed: what is to blame, a task or the gate; and why."""
        ids = self.plan.phases.get(phase, ())
        for task_id in ids:
            if task_id in self.held:
                return task_id, f"{task_id}: {self.held[task_id]}"
        for task_id in ids:
            task = self.plan.tasks.get(task_id)
            missing = [] if task is None else missing_outputs(self._layout, task)
            if missing:
                return task_id, f"{task_id}: {missing[0]} is not there"
        _, rule = self._config.rule(phase)
        why = why_shut(self._layout, phase, rule)
        return (gate_of(phase), why[0]) if why else None

    # -- what the orchestrator tells ---------------------------------------------------

    def _blocked(self, event: TaskBlocked) -> None:
        task_id = self._file_of(event.task_id)
        if task_id is None or event.cause != "dependency":
            return
        by = self._blamed(event.root_causes)
        if by is not None and not self._waits(by):
            # Where that cannot be written, or what is there cannot be believed, it
            # waits: the next run finds it out anew.
            with suppress(OSError, StatusRefusedError):
                self.claims.block(task_id, by)

    def _unblocked(self, event: TaskUnblocked) -> None:
        task_id = self._file_of(event.task_id)
        if task_id is not None:
            self.claims.reset(task_id, "blocked")

    def _waits(self, task_id: str) -> bool:
        """Whether a task that has come to an end here waits for what lacks."""
        handle = self._handles.get(task_id)
        return handle is not None and isinstance(handle.exception(), NotYet)

    def _file_of(self, task_id: str) -> str | None:
        """The id of the file whose task, or run of it, this is."""
        stem = stem_of(task_id)
        return stem if stem in self._handles else None

    def _blamed(self, roots: Iterable[str]) -> str | None:
        """The task file where a failure began: behind a gate, if it was one."""
        for root in roots:
            task_id = self._file_of(root)
            if task_id is not None:
                return task_id
            error = self.orchestrator.handle(root).exception()
            if isinstance(error, GateShutError):
                return error.blames
            if isinstance(error, DependencyFailedError):
                blamed = self._blamed(error.root_causes)
                if blamed is not None:
                    return blamed
        return None


def _has_failed(handle: TaskHandle[Any]) -> bool:
    return handle.done() and handle.exception() is not None


def _ignore(_event: object) -> None:
    pass
