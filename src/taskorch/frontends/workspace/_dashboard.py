"""What people are shown of how far a workspace is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch.frontends.workspace._layout import phase_of
from taskorch.frontends.workspace._progress import PhaseCounts, WorkspaceProgress
from taskorch.frontends.workspace._status import gate_of, phase_of_gate

_AGAIN: Final = "taskorch workspace retry"


def dashboard(title: str, phases: Iterable[PhaseCounts]) -> str:
    """The page of the protocol: each phase with its counts."""
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
        return f"{task_id} completed at {status.completed_at}."
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
