"""The tests and the coverage of a task's parts together, and of all tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.ext.suites._folder import RunFolder, kept_in, write_json
from taskorch.ext.suites._judging import Counts, Measures
from taskorch.ext.suites._model import (
    Suite,
    SuiteTask,
    Template,
    parts_of,
    template_of,
)


def measures_of(
    parts: Sequence[Mapping[str, Any]], covered: tuple[int, int] | None
) -> Measures:
    """Sum the results of *parts*; *covered* is the lines run, and all lines."""
    counts = [Counts(**part["counts"]) for part in parts if part["counts"] is not None]
    return Measures(
        max(part["ended"] for part in parts) - min(part["started"] for part in parts),
        next((code for part in parts if (code := part["exit_code"])), 0),
        sum(counts, Counts()) if counts else None,
        covered,
        max(part["memory_mb"] for part in parts),
    )


def put_together(task: SuiteTask, folder: RunFolder) -> dict[str, Any]:
    """
    Write the results and the report on the worker of *task*, from those of its parts.

    Returns:
        The results; empty if none of its parts has left any.
    """
    records = [kept_in(folder.results(part.id)) for part in task.subtasks]
    records = [one for one in records if one]
    if not records:
        return {}
    measures = measures_of(records, totals_in(folder.coverage(task.id)))
    counts = measures.counts
    results = {
        "task_id": task.id,
        "parts": [one["task_id"] for one in records],
        "started": min(one["started"] for one in records),
        "ended": max(one["ended"] for one in records),
        "duration_seconds": measures.seconds,
        "exit_code": measures.exit_code,
        "counts": None if counts is None else attrs.asdict(counts),
        "pass_rate": measures.pass_rate,
        "coverage": measures.coverage,
        "flaky": [name for one in records for name in one["flaky"]],
    }
    write_json(folder.results(task.id), results)
    if not folder.coverage(task.id).exists():
        write_json(folder.coverage(task.id), {"measured": False})
    workers = {one["task_id"]: one["agent_id"] for one in records}
    used = {n: sum(one[n] for one in records) for n in ("cpu_seconds", "disk_mb")}
    memory = {"memory_mb": measures.memory_mb}
    report = {"task_id": task.id, "agents": workers, **memory, **used}
    write_json(folder.worker_report(task.id), report)
    return results


def cover(task: SuiteTask, template: Template | None, folder: RunFolder) -> None:
    """Write which lines the subtasks of *task* have run, if that was measured."""
    files = [folder.coverage_data(part.id) for part in task.subtasks]
    files = [path for path in files if path.exists()]
    if template is not None and template.coverage and files:
        combine(files, folder.coverage(task.id), template.python, template.cwd)


# -- coverage, combined by coverage.py ---------------------------------------------

#: Seconds for each of its two steps.
_PATIENCE: Final = 300.0


def combined(suite: Suite, folder: RunFolder) -> tuple[int, int] | None:
    """
    Lines that any task has run, and lines that there are; None is not measured.

    `coverage.json` in the folder says which.
    """
    measured = [
        (template, data)
        for part in parts_of(suite)
        if (template := template_of(suite, part))
        and template.coverage
        and (data := folder.coverage_data(part.id)).exists()
    ]
    if not measured:
        return None
    template = measured[0][0]
    files = [data for _, data in measured]
    return combine(files, folder.path / "coverage.json", template.python, template.cwd)


def combine(
    files: Iterable[Path], target: Path, python: str, cwd: Path
) -> tuple[int, int] | None:
    """
    Lines that any of *files* says were run, and lines that there are, or None.

    *target* gets all of it, as JSON. *python* is an interpreter that has coverage.py,
    and *cwd* is where the tests have run.
    """
    whole = f"--data-file={target.with_suffix('.data').resolve()}"
    steps = (
        ["combine", "--keep", "--quiet", whole, *(str(f.resolve()) for f in files)],
        # How much is enough is said by criteria, and not by the project's settings.
        ["json", "--quiet", "--fail-under=0", whole, "-o", str(target.resolve())],
    )
    for step in steps:
        try:
            subprocess.run(  # noqa: S603 - coverage.py, where the tests have run
                [python, "-m", "coverage", *step],
                cwd=cwd,
                check=True,
                capture_output=True,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.SubprocessError):
            return None
    return totals_in(target)


def totals_in(path: Path) -> tuple[int, int] | None:
    """Lines that were run, and lines that there are, by a report of coverage.py."""
    totals = kept_in(path).get("totals", {})
    try:
        return totals["covered_lines"], totals["num_statements"]
    except (KeyError, TypeError):
        return None
