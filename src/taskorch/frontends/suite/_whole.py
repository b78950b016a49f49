"""What the parts of a task, its subtasks or shards, come to together."""

from __future__ import annotations

from typing import Any

import attrs

from taskorch.frontends.suite import _coverage
from taskorch.frontends.suite._folder import RunFolder, kept_in, write_json
from taskorch.frontends.suite._measures import Counts, share_of
from taskorch.frontends.suite._model import SuiteTask, Template


def put_together(task: SuiteTask, folder: RunFolder) -> dict[str, Any]:
    """
    Write the results and the agent report of *task*, from those of its parts.

    Returns:
        The results; empty if none of its parts has left any.
    """
    records = [kept_in(folder.results(part.id)) for part in task.subtasks]
    records = [one for one in records if one]
    if not records:
        return {}
    counts = [Counts(**one["counts"]) for one in records if one["counts"] is not None]
    total = sum(counts, Counts()) if counts else None
    began = min(one["started"] for one in records)
    ended = max(one["ended"] for one in records)
    covered = _coverage.totals_in(folder.coverage(task.id))
    results = {
        "task_id": task.id,
        "parts": [one["task_id"] for one in records],
        "started": began,
        "ended": ended,
        "duration_seconds": ended - began,
        "exit_code": next((c for one in records if (c := one["exit_code"])), 0),
        "counts": None if total is None else attrs.asdict(total),
        "pass_rate": None if total is None else total.pass_rate,
        "coverage": None if covered is None else share_of(covered),
        "flaky": [name for one in records for name in one["flaky"]],
    }
    write_json(folder.results(task.id), results)
    if not folder.coverage(task.id).exists():
        write_json(folder.coverage(task.id), {"measured": False})
    agents = {one["task_id"]: one["agent_id"] for one in records}
    used = {n: sum(one[n] for one in records) for n in ("cpu_seconds", "disk_mb")}
    memory = max(one["memory_mb"] for one in records)
    report = {"task_id": task.id, "agents": agents, "memory_mb": memory, **used}
    write_json(folder.agent_report(task.id), report)
    return results


def cover(task: SuiteTask, template: Template | None, folder: RunFolder) -> None:
    """Write which lines the subtasks of *task* have run, if that was measured."""
    files = [folder.coverage_data(part.id) for part in task.subtasks]
    files = [path for path in files if path.exists()]
    if template is not None and template.coverage and files:
        target = folder.coverage(task.id)
        _coverage.combine(files, target, template.python, template.cwd)
