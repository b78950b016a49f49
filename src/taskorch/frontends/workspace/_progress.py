"""How far a workspace is, as its files say it: phases, gates, and what waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

from taskorch._base._visible import counted
from taskorch.frontends.workspace._config import WorkspaceConfig
from taskorch.frontends.workspace._files import (
    missing_inputs,
    missing_outputs,
    why_shut,
)
from taskorch.frontends.workspace._layout import WorkspaceLayout, by_numbers
from taskorch.frontends.workspace._scan import WorkspacePlan
from taskorch.frontends.workspace._status import (
    Status,
    StatusRefusedError,
    read_status,
)

#: Ids that a line names.
_NAMED = 5


@attrs.frozen
class PhaseCounts:
    """
    How many tasks of a phase are in which state.

    Attributes:
        phase: Its name; empty for tasks in none.
        total: All.
        completed: Of these, so many are done,
        running: run,
        blocked: cannot run, since others have failed,
        failed: and have failed. What is left waits.
    """

    phase: str
    total: int
    completed: int
    running: int
    blocked: int
    failed: int


class WorkspaceProgress:
    """The status of all tasks, of one moment."""

    def __init__(
        self, layout: WorkspaceLayout, config: WorkspaceConfig, plan: WorkspacePlan
    ) -> None:
        self._layout = layout
        self._config = config
        self._plan = plan
        self.statuses: dict[str, Status] = {}
        #: Why status files are not believed, by the ids of their tasks.
        self.refused: dict[str, str] = {}
        for task_id in plan.ids:
            try:
                status = read_status(layout.status(task_id), task_id)
            except StatusRefusedError as error:
                path = layout.shown(layout.status(task_id))
                self.refused[task_id] = f"{path} is not believed: {error}"
            else:
                if status is not None:
                    self.statuses[task_id] = status

    def has_completed(self, task_id: str) -> bool:
        """Whether a task has completed."""
        status = self.statuses.get(task_id)
        return status is not None and status.status == "completed"

    def phases(self) -> list[PhaseCounts]:
        """Counts of each phase."""
        phase_counts: list[PhaseCounts] = []
        for phase, ids in self._plan.phases.items():
            states: Mapping[str, int] = Counter(
                self.statuses[task_id].status
                for task_id in ids
                if task_id in self.statuses
            )
            counts = [
                states.get(name, 0)
                for name in ("completed", "running", "blocked", "failed")
            ]
            phase_counts.append(PhaseCounts(phase, len(ids), *counts))
        return phase_counts

    def why_shut(self, phase: str) -> list[str]:
        """Why the gate behind a phase is shut; empty if it is open."""
        ids = self._plan.phases.get(phase, ())
        unfinished = self.left_in(phase)
        reasons = [unfinished] if unfinished else []
        for task_id in ids:
            missing = self.missing_of(task_id)
            reasons += [f"{path} of {task_id} is not there" for path in missing]
        return reasons + why_shut(self._layout, phase, self._config.rule(phase)[1])

    def left_in(self, phase: str) -> str:
        """Names of the tasks of a phase that have not completed; "" if all have."""
        ids = self._plan.phases.get(phase, ())
        unfinished = [task_id for task_id in ids if not self.has_completed(task_id)]
        if not unfinished:
            return ""
        names = ", ".join(unfinished[:_NAMED]) + (
            ", …" if len(unfinished) > _NAMED else ""
        )
        verb = "has" if len(unfinished) == 1 else "have"
        of = counted(len(ids), "task")
        return f"{len(unfinished)} of {of} {verb} not completed: {names}"

    def missing_of(self, task_id: str) -> list[str]:
        """What a task that has completed should have made, and is not there."""
        task = self._plan.tasks.get(task_id)
        if task is None or not self.has_completed(task_id):
            return []
        return missing_outputs(self._layout, task)

    def shut_before(self, phase: str) -> dict[str, list[str]]:
        """The phases before *phase* whose gates are shut, and why they are."""
        shut: dict[str, list[str]] = {}
        for name in self._plan.phases:
            is_before = name and by_numbers(name) < by_numbers(phase)
            if is_before and (why := self.why_shut(name)):
                shut[name] = why
        return shut

    def obstacles(self, task_id: str) -> list[str]:
        """What keeps a task from being launched; empty if nothing does."""
        plan = self._plan
        if task_id in self.refused:
            return [self.refused[task_id]]
        task = plan.tasks.get(task_id)
        if task is None:
            path = self._layout.task_file(task_id)
            return [
                str(problem)
                for problem in plan.problems
                if problem.path == path and problem.stops
            ]
        reasons: list[str] = []
        for other in plan.after[task_id]:
            if other not in plan.known:
                reasons.append(f"it waits for {other}, which does not exist")
            elif not self.has_completed(other):
                reasons.append(f"it waits for {other}, which {self._is(other)}")
        if not reasons:
            missing = missing_inputs(self._layout, task)
            reasons += [f"its input {path} is not there" for path in missing]
        for phase, why in self.shut_before(task.phase).items() if task.phase else ():
            reasons += [f"the gate of {phase} is shut: {one}" for one in why]
        return reasons

    def _is(self, task_id: str) -> str:
        if task_id in self.refused:
            return "has a status file that is not believed"
        status = self.statuses.get(task_id)
        if status is None:
            return "has not begun"
        return {"running": "runs", "failed": "has failed", "blocked": "is blocked"}.get(
            status.status, status.status
        )
