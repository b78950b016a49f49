"""What has become of all tasks."""

from __future__ import annotations

from collections.abc import Container, Mapping

import attrs

from taskorch._base._visible import counted
from taskorch.frontends.workspace._claims import Claims
from taskorch.frontends.workspace._layout import WorkspaceLayout, phase_of
from taskorch.frontends.workspace._scan import WorkspacePlan
from taskorch.frontends.workspace._status import Status, StatusRefusedError, gate_of

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
    """

    total: int
    completed: tuple[str, ...]
    left: Mapping[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether all tasks have completed."""
        return not self.left

    def __str__(self) -> str:
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
    return Report(len(plan.ids), tuple(completed), unfinished)


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
