"""The progress of a workspace, from its files: phases, gates, and waiting tasks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from taskorch.ext.task_files._config import PhaseRule, WorkspaceConfig
from taskorch.ext.task_files._layout import WorkspaceLayout, by_numbers
from taskorch.ext.task_files._scan import WorkspacePlan, maker_of
from taskorch.ext.task_files._status import (
    Status,
    StatusRefusedError,
    gate_of,
    phase_of_gate,
    read_status,
)
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.ext.task_files._tasks import lacking
from taskorch.kit.visible import counted
from taskorch.kit.words import amounts_in_words
from taskorch.model import BudgetUsage
from taskorch.model.ids import folder_of


def missing_inputs(
    layout: WorkspaceLayout, task: TaskFile, makers: Container[str] = ()
) -> list[str]:
    """Missing inputs of *task* that none of *makers* makes: each path, and why."""
    if not task.inputs:
        return []
    unmade = [name for name in task.inputs if maker_of(name, makers) is None]
    return missing_files(layout, layout.folder("outputs"), unmade)


def missing_outputs(layout: WorkspaceLayout, task: TaskFile) -> list[str]:
    """Missing outputs of *task*, the files that its gate asks for included."""
    if not task.outputs and not task.gate:
        return []
    return [
        *missing_files(layout, layout.outputs(task.task_id), task.outputs),
        *missing_files(layout, layout.root, task.gate),
    ]


def why_shut(layout: WorkspaceLayout, phase: str, rule: PhaseRule) -> list[str]:
    """Return why the gate of a phase is shut, apart from its tasks."""
    missing = missing_files(layout, layout.root, rule.gate)
    why = [f"{path} is not there" for path in missing]
    if rule.approval and not layout.approval(phase).is_file():
        command = f"taskorch workspace approve {phase} --by NAME"
        why.append(f"nobody has approved it ({command})")
    return why


def missing_files(
    layout: WorkspaceLayout, folder: Path, names: Iterable[str]
) -> list[str]:
    """Return the paths of the *names* that are no files in *folder*."""
    return [
        f"{layout.shown(folder / name)}{why}"
        for name in names
        if (why := _problem(layout, folder / name)) is not None
    ]


def _problem(layout: WorkspaceLayout, path: Path) -> str | None:
    """Return why *path* does not count as a file; None if it does."""
    try:
        if not path.exists():
            return " (a link that leads nowhere)" if path.is_symlink() else ""
        if path.is_dir():
            return " (it is a folder)"
        if not path.is_file():
            return " (it is no file)"
        real = os.path.realpath(path)
        if not Path(real).is_relative_to(os.path.realpath(layout.root)):
            return " (a link that leads out of the workspace)"
    except OSError as error:
        return f" ({error.strerror or error})"
    return None


#: The most ids that a line names.
_NAMED = 5


@attrs.define(eq=False)
class WorkspaceProgress:
    """The status of all tasks, of one moment, and the usage of each budget."""

    layout: WorkspaceLayout
    config: WorkspaceConfig
    plan: WorkspacePlan
    usages: Sequence[BudgetUsage]
    statuses: dict[str, Status] = attrs.field(init=False, factory=dict[str, Status])
    #: Why status files are not believed, by task id.
    refused: dict[str, StatusRefusedError] = attrs.field(
        init=False, factory=dict[str, StatusRefusedError]
    )

    def __attrs_post_init__(self) -> None:
        for task_id in self.plan.ids:
            try:
                status = read_status(self.layout, task_id)
            except StatusRefusedError as error:
                self.refused[task_id] = error
            else:
                if status is not None:
                    self.statuses[task_id] = status

    def has_completed(self, task_id: str) -> bool:
        """Return whether a task has completed."""
        status = self.statuses.get(task_id)
        return status is not None and status.status == "completed"

    def dashboard(self, title: str) -> str:
        """The page of the protocol: each phase with its counts; then the budgets."""
        lines = [f"=== {title} Status ==="]
        for phase, ids in self.plan.phases.items():
            statuses = (self.statuses[name] for name in ids if name in self.statuses)
            states = Counter(status.status for status in statuses)
            share = states["completed"] * 100 // max(1, len(ids))
            lines += [
                "",
                f"Phase: {phase or '(none)'}",
                f"  Total: {len(ids)}",
                f"  Completed: {states['completed']} ({share}%)",
                f"  Running: {states['running']}",
                f"  Blocked: {states['blocked']}",
            ]
            if states["failed"]:
                lines.append(f"  Failed: {states['failed']}")
        budgets = [f"Budget {usage}" for usage in self.usages]
        return "\n".join([*lines, "", *budgets] if budgets else lines)

    def why_shut(self, phase: str) -> list[str]:
        """Return why the gate behind a phase is shut; empty if it is open."""
        ids = self.plan.phases.get(phase, ())
        unfinished = self.left_in(phase)
        reasons = [unfinished] if unfinished else []
        for task_id in ids:
            missing = self.missing_of(task_id)
            reasons += [f"{path} of {task_id} is not there" for path in missing]
        return reasons + why_shut(self.layout, phase, self.config.rule(phase)[1])

    def left_in(self, phase: str) -> str:
        """Names of the tasks of a phase that have not completed; "" if all have."""
        ids = self.plan.phases.get(phase, ())
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
        """Return the missing outputs of a task that has completed."""
        task = self.plan.tasks.get(task_id)
        if task is None or not self.has_completed(task_id):
            return []
        return missing_outputs(self.layout, task)

    def shut_before(self, phase: str) -> dict[str, list[str]]:
        """The phases before *phase* whose gates are shut, and why they are."""
        shut: dict[str, list[str]] = {}
        for name in self.plan.phases:
            is_before = name and by_numbers(name) < by_numbers(phase)
            if is_before and (why := self.why_shut(name)):
                shut[name] = why
        return shut

    def obstacles(self, task_id: str) -> list[str]:
        """Return the reasons why a task cannot be launched; empty if it can."""
        plan = self.plan
        if task_id in self.refused:
            return [str(self.refused[task_id])]
        task = plan.tasks.get(task_id)
        if task is None:
            path = self.layout.task_file(task_id)
            return [
                str(problem)
                for problem in plan.problems
                if problem.path == path and problem.stops
            ]
        reasons: list[str] = []
        for other in plan.after[task_id]:
            if other not in plan.known:
                reasons.append(plan.waits(other))
            elif not self.has_completed(other):
                reasons.append(f"it waits for {other}, which {self._is(other)}")
        if not reasons:
            missing = missing_inputs(self.layout, task)
            reasons += [f"its input {path} is not there" for path in missing]
        for phase, why in self.shut_before(task.phase).items() if task.phase else ():
            reasons += [f"the gate of {phase} is shut: {one}" for one in why]
        return [*reasons, *(o.text for o in lacking(self.config, task, self.usages))]

    def _is(self, task_id: str) -> str:
        if task_id in self.refused:
            return "has a status file that is not believed"
        status = self.statuses.get(task_id)
        if status is None:
            return "has not begun"
        return {"running": "runs", "failed": "has failed", "blocked": "is blocked"}.get(
            status.status, status.status
        )


_AGAIN: Final = "taskorch workspace retry"


def _blocker(progress: WorkspaceProgress, by: str) -> tuple[str, str]:
    """Return the blocker that a status names, and the command that helps."""
    phase = phase_of_gate(by)
    if not phase and progress.has_completed(by):
        phase = folder_of(by)
    if not phase:
        return by, f"{_AGAIN} {by}"
    for other in progress.statuses:
        if folder_of(other) == phase and progress.missing_of(other):
            # An output of the task is gone.
            return gate_of(phase), f"{_AGAIN} {other}"
    return gate_of(phase), "once that is mended: taskorch workspace run"


def why(progress: WorkspaceProgress, task_id: str, log: str | None) -> str:
    """Explain the state of a task; *log* is the path of its log, if there is one."""
    status = progress.statuses.get(task_id)
    if status is not None and status.status == "completed":
        spent = f", spent {amounts_in_words(status.spent)}" if status.spent else ""
        return f"{task_id} completed at {status.completed_at}{spent}."
    if status is not None and status.status == "running":
        by = f" by {status.agent_id}" if status.agent_id else ""
        return f"{task_id} runs{by} since {status.started_at}."
    if status is not None and status.status == "failed":
        lines = [f"{task_id} has failed: {status.error or 'no reason is given'}."]
        if log is not None:
            lines.append(f"  What it printed: {log}")
        return "\n".join([*lines, f"  → {_AGAIN} {task_id}"])
    obstacles = progress.obstacles(task_id)
    if status is not None and status.status == "blocked":
        by, remedy = _blocker(progress, status.blocked_by or "")
        lines = [f"{task_id} is blocked by {by}."]
        lines += [f"  {obstacle}" for obstacle in obstacles]
        return "\n".join([*lines, f"  → {remedy}"])
    if not obstacles:
        return f"{task_id} can be launched: taskorch workspace run does it."
    return "\n".join([f"{task_id} waits:", *(f"  {text}" for text in obstacles)])


#: The most tasks of one kind that a page names.
_SHOWN = 20


@attrs.frozen
class Report:
    """
    The report on the tasks of a workspace; `str()` of it is a page for people.

    Attributes:
        total: How many tasks there are.
        completed: The ids of those that have completed.
        left: Why each of the others has not, by id.
        budgets: How each budget stands.
        phase: The only phase whose tasks these are; "": they are all.
    """

    total: int
    completed: tuple[str, ...]
    left: Mapping[str, str]
    budgets: tuple[BudgetUsage, ...] = ()
    phase: str = ""

    @property
    def is_complete(self) -> bool:
        """True once all tasks have completed."""
        return not self.left

    def __str__(self) -> str:
        budgets = [f"Budget {usage}" for usage in self.budgets]
        return "\n".join([*budgets, self._outcome])

    @property
    def _outcome(self) -> str:
        if self.is_complete:
            if self.phase:
                return f"All tasks of phase {self.phase} are complete."
            return "All tasks complete!" if self.total else "There are no tasks."
        verb = "is" if len(self.completed) == 1 else "are"
        of = counted(self.total, "task")
        lines = [f"{len(self.completed)} of {of} {verb} complete. The rest:"]
        by_kind: dict[str, list[tuple[str, str]]] = {}
        for task_id, why in self.left.items():
            by_kind.setdefault(why.partition(" ")[0], []).append((task_id, why))
        for kind in sorted(by_kind, key=_rank):
            rest = by_kind[kind]
            width = max(len(task_id) for task_id, _ in rest[:_SHOWN])
            lines += [f"  {task_id:<{width}}  {why}" for task_id, why in rest[:_SHOWN]]
            if len(rest) > _SHOWN:
                lines.append(f"  and {len(rest) - _SHOWN} more {kind.rstrip(':,')}")
        if "failed:" in by_kind:
            lines.append("Once they are mended: taskorch workspace run --retry-failed")
        return "\n".join(lines)


def report_on(progress: WorkspaceProgress, held: Mapping[str, str]) -> Report:
    """Return the report on all tasks; *held* says why some are held back."""
    ids = [task_id for task_id in progress.plan.ids if task_id not in held]
    completed = dict.fromkeys(filter(progress.has_completed, ids))
    unfinished = {
        task_id: f"waiting: {held[task_id]}"
        if task_id in held
        else _why(progress, task_id, completed)
        for task_id in progress.plan.ids
        if task_id not in completed
    }
    total, usages = len(progress.plan.ids), tuple(progress.usages)
    return Report(total, tuple(completed), unfinished, usages)


def _why(progress: WorkspaceProgress, task_id: str, completed: Container[str]) -> str:
    refused, status = progress.refused.get(task_id), progress.statuses.get(task_id)
    if refused is not None:
        return f"refused: {refused.path}: {refused.why}"
    if status is None:
        return "waiting"
    if status.status == "failed":
        log = progress.layout.log(task_id)
        where = f" (see {progress.layout.shown(log)})" if log.exists() else ""
        return f"failed: {status.error or 'no reason is given'}{where}"
    if status.status == "blocked":
        by = status.blocked_by or ""
        if by in completed:
            by = gate_of(folder_of(by)) if folder_of(by) else by
        return f"blocked by {by}"
    return f"running since {status.started_at}"


def _rank(kind: str) -> int:
    # The most important lines stand last, where they stay on the screen.
    return ["waiting", "waiting:", "running", "blocked", "refused:", "failed:"].index(
        kind
    )
