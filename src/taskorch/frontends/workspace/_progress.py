"""How far a workspace is, as its files say it: phases, gates, and what waits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from taskorch.frontends.workspace._budgets import short_of
from taskorch.frontends.workspace._claims import Claims
from taskorch.frontends.workspace._config import PhaseRule, WorkspaceConfig
from taskorch.frontends.workspace._layout import WorkspaceLayout, by_numbers, phase_of
from taskorch.frontends.workspace._scan import WorkspacePlan, maker_of
from taskorch.frontends.workspace._status import (
    Status,
    StatusRefusedError,
    gate_of,
    phase_of_gate,
    read_status,
)
from taskorch.frontends.workspace._task_file import TaskFile
from taskorch.frontends.workspace._tasks import judged, spends
from taskorch.kit.visible import counted
from taskorch.kit.words import amounts_in_words
from taskorch.model import BudgetUsage


def missing_inputs(layout: WorkspaceLayout, task: TaskFile) -> list[str]:
    """What a task needs and is not there: each path, and why it does not count."""
    if not task.inputs:
        return []
    return missing_files(layout, layout.folder("outputs"), task.inputs)


def unmade_inputs(
    layout: WorkspaceLayout, task: TaskFile, task_ids: Container[str]
) -> list[str]:
    """Missing inputs of *task* that no task in *task_ids* makes."""
    unmade = [name for name in task.inputs if maker_of(name, task_ids) is None]
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
    """What the gate of a phase waits for, besides its tasks."""
    missing = missing_files(layout, layout.root, rule.gate)
    why = [f"{path} is not there" for path in missing]
    if rule.approval and not layout.approval(phase).is_file():
        command = f"taskorch workspace approve {phase} --by NAME"
        why.append(f"nobody has approved it ({command})")
    return why


def missing_files(
    layout: WorkspaceLayout, folder: Path, names: Iterable[str]
) -> list[str]:
    """Those of *names* that are no files in *folder*, as paths in the workspace."""
    missing: list[str] = []
    for name in names:
        path = folder / name
        why = _problem(layout, path)
        if why is not None:
            missing.append(f"{layout.shown(path)}{why}")
    return missing


def _problem(layout: WorkspaceLayout, path: Path) -> str | None:
    """Why *path* does not count as a file: None if it does."""
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
        self,
        layout: WorkspaceLayout,
        config: WorkspaceConfig,
        plan: WorkspacePlan,
        usages: Sequence[BudgetUsage] = (),
    ) -> None:
        #: How budgets stand.
        self.usages = usages
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
        denied, _ = judged(self._config, task)
        reasons += [] if denied is None else [denied]
        budget, units = self._config.budget_of(task), spends(task)
        short = short_of(self._config.budgets, self.usages, budget, units)
        return reasons if short is None else [*reasons, short.text]

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


def dashboard(
    title: str, phases: Iterable[PhaseCounts], usages: Iterable[BudgetUsage] = ()
) -> str:
    """The page of the protocol: each phase with its counts; then the budgets."""
    lines = [f"=== {title} Status ==="]
    for phase in phases:
        share = phase.completed * 100 // max(1, phase.total)
        lines += [
            "",
            f"Phase: {phase.phase or '(none)'}",
            f"  Total: {phase.total}",
            f"  Completed: {phase.completed} ({share}%)",
            f"  Running: {phase.running}",
            f"  Blocked: {phase.blocked}",
        ]
        if phase.failed:
            lines.append(f"  Failed: {phase.failed}")
    budgets = [f"Budget {usage}" for usage in usages]
    lines += ["", *budgets] if budgets else []
    return "\n".join(lines)


def _blocker(progress: WorkspaceProgress, by: str) -> tuple[str, str]:
    """What blocks a task, by what its status says of that, and what helps."""
    phase = phase_of_gate(by)
    if not phase and progress.has_completed(by):
        phase = phase_of(by)
    if not phase:
        return by, f"{_AGAIN} {by}"
    for other in progress.statuses:
        if phase_of(other) == phase and progress.missing_of(other):
            # What it has made is gone.
            return gate_of(phase), f"{_AGAIN} {other}"
    return gate_of(phase), "once that is mended: taskorch workspace run"


def why(progress: WorkspaceProgress, task_id: str, log: str | None) -> str:
    """Why a task is where it is; *log* is the path of its log, if there is one."""
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


#: Tasks of one kind that a page names.
_SHOWN = 20


@attrs.frozen
class Report:
    """
    What has become of the tasks of a workspace; `str()` of it is a page for people.

    Attributes:
        total: How many tasks there are.
        completed: The ids of those that have completed.
        left: Why each of the others has not, by id.
        budgets: How each budget stands.
    """

    total: int
    completed: tuple[str, ...]
    left: Mapping[str, str]
    budgets: tuple[BudgetUsage, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all tasks have completed."""
        return not self.left

    def __str__(self) -> str:
        budgets = [f"Budget {usage}" for usage in self.budgets]
        return "\n".join([*budgets, self._outcome])

    @property
    def _outcome(self) -> str:
        if self.is_complete:
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


def report_on(
    layout: WorkspaceLayout,
    plan: WorkspacePlan,
    claims: Claims,
    held: Mapping[str, str] | None = None,
) -> Report:
    """
    What has become of the tasks in *plan*, as their status files say it.

    *held* says why some are held back.
    """
    completed: list[str] = []
    unfinished: dict[str, str] = {}
    for task_id in plan.ids:
        if held and task_id in held:
            unfinished[task_id] = f"waiting: {held[task_id]}"
            continue
        try:
            status = claims.status(task_id)
        except StatusRefusedError as error:
            path = layout.shown(layout.status(task_id))
            unfinished[task_id] = f"refused: {path}: {error}"
            continue
        if status is not None and status.status == "completed":
            completed.append(task_id)
        else:
            unfinished[task_id] = _why(layout, status, completed)
    return Report(len(plan.ids), tuple(completed), unfinished, tuple(claims.usages()))


def _why(
    layout: WorkspaceLayout, status: Status | None, completed: Container[str]
) -> str:
    if status is None:
        return "waiting"
    if status.status == "failed":
        log = layout.log(status.task_id)
        where = f" (see {layout.shown(log)})" if log.exists() else ""
        return f"failed: {status.error or 'no reason is given'}{where}"
    if status.status == "blocked":
        by = status.blocked_by or ""
        if by in completed:
            by = gate_of(phase_of(by)) if phase_of(by) else by
        return f"blocked by {by}"
    return f"running since {status.started_at}"


def _rank(kind: str) -> int:
    # What matters most stands last, where it is still on the screen.
    return ["waiting", "waiting:", "running", "blocked", "refused:", "failed:"].index(
        kind
    )
