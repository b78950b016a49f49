"""
One runner at work: it hands tasks to an orchestrator, and follows the files.

A task file becomes a task of the orchestrator's, after those that it waits for, once
the phases before its own have passed. A file that is wrong, or that waits for something
that is not there, is held back and looked at again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import ChainMap
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Any, Final, Self

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.handles.handles import TaskHandle
from taskorch.events import TaskBlocked, TaskUnblocked
from taskorch.ext.task_files._claims import Claims
from taskorch.ext.task_files._config import WorkspaceConfig
from taskorch.ext.task_files._layout import KINDS, WorkspaceLayout
from taskorch.ext.task_files._progress import (
    missing_inputs,
    missing_outputs,
    why_shut,
)
from taskorch.ext.task_files._scan import Scanner, WorkspacePlan
from taskorch.ext.task_files._status import StatusRefusedError, gate_of
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.ext.task_files._tasks import (
    add_agent,
    lacking,
    orchestrator_for,
    task_for,
)
from taskorch.ext.task_files._work import (
    NotYet,
    TaskFileWorker,
    Tell,
    unkept,
    waits_for,
)
from taskorch.model import BudgetUsage
from taskorch.model.ids import stem_of

#: Seconds between two looks at the files, at least and at most …
_LOOK: Final = 0.5
_LONGEST_LOOK: Final = 2.0
#: … and how many times as long as one takes: ten thousand files take a tenth of one.
_TIMES_LONGER: Final = 20


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
            config,
            find=self._find,
            tell=tell,
            held_up=lambda task_id: len(self.plan.held_up_by(task_id)),
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
        #: The tasks that wait for a phase to pass, and the reason why it does not.
        self._behind: dict[str, str | None] = {}
        #: The phases that have passed, with their tasks; why others have not, as told.
        self._passed: dict[str, tuple[str, ...]] = {}
        self._told_shut: dict[str, str] = {}
        #: Reasons why tasks are held back, by id.
        self.held: dict[str, str] = {}
        #: Usage of the budgets at the latest look.
        self._usages: list[BudgetUsage] = []
        #: Names and reasons of which people were told that a task waits in vain.
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
        Note changes: new files, and tasks that are to be run again.

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
            return bool(self._hand_over() or again)

    def _is_again(self, task_id: str) -> bool:
        """Return whether a task that has ended is to be looked at again."""
        if task_id in self._completed or not self._handles[task_id].done():
            return False
        error = self._handles[task_id].exception()
        if error is None and self._has_status(task_id):
            # A later look need not ask for its end again.
            self._completed.add(task_id)
            return False
        if isinstance(error, OSError):
            # Again at once, it would fail again at once.
            self.held[task_id] = unkept(error)
            return False
        if isinstance(error, NotYet) and task_id in self.plan.tasks:
            why = self._lacks(self.plan.tasks[task_id])
            if why is not None:
                self.held[task_id] = why
                return False
            self.held.pop(task_id, None)
        try:
            status = self.claims.status(task_id)
            if status is not None and status.status == "running":
                return self.claims.holder(task_id) != self.claims.runner
        except (StatusRefusedError, OSError):
            # The next look asks again.
            return False
        is_failed = status is not None and status.status == "failed"
        return not is_failed and task_id in self.plan.tasks

    def _has_status(self, task_id: str) -> bool:
        """Return whether a task has its status file: a retry removes it."""
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
        fresh: list[str] = []
        shut: str | None = None
        for phase in self.plan.phases:
            if self._phase not in (None, phase):
                continue
            is_open = shut is None or not phase
            fresh += self._hand_over_phase(phase, is_open=is_open)
            is_gated = is_open and phase != "" and self._phase is None
            if is_gated and not self._has_passed(phase):
                shut = phase
        self._block_behind(None if shut is None else self._blame(shut))
        return fresh

    def _hand_over_phase(self, phase: str, *, is_open: bool) -> list[str]:
        plan, behind = self.plan, self._behind
        todo = [
            task_id
            for task_id in plan.phases[phase]
            if task_id not in self._handles
            and task_id not in self._completed
            and (is_open or task_id not in behind)
        ]
        fresh: dict[str, Any] = {}
        upstream = ChainMap(fresh, self._handles)
        for task_id in plan.in_order(todo):
            self.held.pop(task_id, None)
            why = self._not_yet(task_id, fresh)
            if why is not None:
                self.held[task_id] = why
                continue
            if task_id in self._completed:
                continue
            others = plan.after[task_id]
            later = next((other for other in others if other in behind), None)
            if is_open and phase and later is not None:
                self.held[task_id] = f"it waits for {later}, and so for a later phase"
                continue
            if not is_open or later is not None:
                behind.setdefault(task_id, None)
                continue
            if behind.pop(task_id, None) is not None:
                self.claims.reset(task_id, "blocked")
            after = [upstream[other] for other in others if other in upstream]
            fresh[task_id] = task_for(self._config, plan.tasks[task_id], after=after)
        # All at once: the most important begins first.
        handles = self.orchestrator.submit_tasks(fresh.values())
        self._handles.update(zip(fresh, handles, strict=True))
        return [*fresh]

    def _not_yet(self, task_id: str, fresh: Container[str]) -> str | None:
        """Return why a task cannot be handed over, or None; note completed ones."""
        try:
            status = self.claims.status(task_id)
        except StatusRefusedError as error:
            return str(error)
        task = self.plan.tasks.get(task_id)
        if task is None:
            return "its file has problems: taskorch workspace lint shows them"
        if status is not None and status.status == "completed":
            missing = missing_outputs(self._layout, task)
            if missing:
                return f"it is completed, but {missing[0]} is not there"
            self._completed.add(task_id)
            return None
        is_blocked = status is not None and status.status == "blocked"
        if is_blocked and task_id not in self._behind:
            # An earlier run wrote it: this one finds out anew.
            self.claims.reset(task_id, "blocked")
        for other in self.plan.after[task_id]:
            try:
                if other in fresh or other in self._handles or other in self._behind:
                    continue
                if self._has_completed(other):
                    continue
            except StatusRefusedError as error:
                return f"it waits for {other}: {error}"
            return self.plan.waits(other)
        # An input of another task may come while that task runs.
        return self._lacks(task, self.plan.known)

    def _lacks(self, task: TaskFile, makers: Container[str] = ()) -> str | None:
        """
        Return why inputs, policies or a budget keep a task from starting, or None.

        An input that one of *makers* makes may still come.
        """
        missing = missing_inputs(self._layout, task, makers)
        if missing:
            return waits_for(missing)
        lack = next(lacking(self._config, task, self._usages), None)
        if lack is None:
            return None
        if lack.is_hopeless and lack.name not in self._told_short:
            self._told_short.add(lack.name)
            self._tell(f"ALERT: {task.task_id}: {lack.text}")
        return lack.text

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

    def _find(self, task_id: str) -> TaskFile | None:
        if self._config.governance is not None:
            # The file may have changed since policies allowed it.
            with self._lock:
                self.plan = self._scanner.scan()
        return self.plan.tasks.get(task_id)

    # -- gates -------------------------------------------------------------------------

    def _of(self, phase: str) -> Iterator[str]:
        """The tasks of a phase that were handed over."""
        for task_id in self.plan.phases.get(phase, ()):
            if task_id in self._handles:
                yield task_id

    def _has_passed(self, phase: str) -> bool:
        """Return whether the next phase may begin; tell once why it may not."""
        ids = self.plan.phases[phase]
        if self._passed.get(phase) == ids and self._completed.issuperset(ids):
            return True
        self._passed.pop(phase, None)
        tasks = [self._handles[task_id] for task_id in self._of(phase)]
        if any(not task.done() or _has_failed(task) for task in tasks):
            return False
        shut = self._why_shut(phase)
        if shut is None:
            self._passed[phase] = ids
            self._told_shut.pop(phase, None)
        elif self._told_shut.get(phase) != shut[1]:
            self._told_shut[phase] = shut[1]
            self._tell(f"The gate of {phase} is shut: {shut[1]}")
        return shut is None

    def _blame(self, phase: str) -> str | None:
        """Return the task, or the gate, by which *phase* cannot pass; None: it may."""
        tasks = dict.fromkeys(self._of(phase))
        to_visit = [*tasks]
        for task_id in to_visit:
            if _has_failed(self._handles[task_id]):
                return task_id
            for other in self.plan.after[task_id]:
                if other in self._handles and other not in tasks:
                    tasks[other] = None
                    to_visit.append(other)
        if not all(self._handles[task_id].done() for task_id in tasks):
            return None
        shut = self._why_shut(phase)
        return None if shut is None else shut[0]

    def _block_behind(self, by: str | None) -> None:
        """Mark the tasks that wait for a phase as blocked *by* that; None: by none."""
        by = None if by is None or self._waits(by) else by
        for task_id, earlier in self._behind.items():
            if earlier == by:
                continue
            self._behind[task_id] = by
            # Where that cannot be written, or what is there cannot be believed, it
            # waits: the next run finds it out anew.
            with suppress(OSError, StatusRefusedError):
                if by is None:
                    self.claims.reset(task_id, "blocked")
                else:
                    self.claims.block(task_id, by)

    def _why_shut(self, phase: str) -> tuple[str, str] | None:
        """Return the task or gate that keeps a phase shut, and why; or None."""
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
        by = next(filter(None, map(self._file_of, event.root_causes)), None)
        if by is not None and not self._waits(by):
            with suppress(OSError, StatusRefusedError):
                self.claims.block(task_id, by)

    def _unblocked(self, event: TaskUnblocked) -> None:
        task_id = self._file_of(event.task_id)
        if task_id is not None:
            self.claims.reset(task_id, "blocked")

    def _waits(self, task_id: str) -> bool:
        """Return whether a task has ended here because something is missing."""
        handle = self._handles.get(task_id)
        return handle is not None and isinstance(handle.exception(), NotYet)

    def _file_of(self, task_id: str) -> str | None:
        """The id of the file whose task, or run of it, this is."""
        stem = stem_of(task_id)
        return stem if stem in self._handles else None


def _has_failed(handle: TaskHandle[Any]) -> bool:
    return handle.done() and handle.exception() is not None


def _ignore(_event: object) -> None:
    pass
