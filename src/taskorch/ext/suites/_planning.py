"""The dry run: what would be done in which order, and how long it would take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from taskorch.api._contexts import TaskContext
from taskorch.ext.simulation._plans._report import SimulationReport
from taskorch.ext.suites._folder import History, RunFolder
from taskorch.ext.suites._model import Suite, SuitePhase, SuiteTask, parts_of
from taskorch.ext.suites._sharding import shards_of
from taskorch.ext.suites._translation import (
    add_workers,
    declare_budgets,
    orchestrator_of,
    pools_of,
    workers_of,
    workflow_of,
)
from taskorch.kit.visible import counted
from taskorch.kit.words import duration
from taskorch.model import Task

#: Seconds of a task of which nothing at all is known.
_UNKNOWN = 60.0
#: Seconds before its timeout at which a task has ended in time.
_IN_TIME = 1e-6


def plan(suite: Suite, folder: Path, governance: Any = None) -> str:
    """
    Return a text: what a run would do, in order, its duration, and what is missing.

    Args:
        suite: The suite.
        folder: Where its runs keep their files: earlier ones say how long tasks take.
        governance: Policies besides those of the suite, as `TaskOrchestrator` takes
            them.
    """
    history = History.read(RunFolder(folder).history)
    return "\n".join(_lines(shards_of(suite), history, governance)) + "\n"


def _lines(suite: Suite, history: History, governance: Any) -> Iterator[str]:
    parts = parts_of(suite)
    yield _head(suite, parts)
    report = _simulated(suite, history, governance) if parts else None
    times: dict[str, tuple[float, float]] = {}
    for one in report.schedule if report else ():
        start, _ = times.get(one.task_id, (one.start, 0.0))
        times[one.task_id] = start, one.end
    for phase in suite.phases:
        yield ""
        yield from _phase(suite, phase, times, history)
    if report is not None:
        yield ""
        yield f"It would take {duration(report.makespan)}."
        yield from _basis(parts, history)
        yield from report.assumed
    for name, amount in pools_of(suite).items():
        if amount and name in suite.limits.resources:
            yield f"All together may reserve {amount:g} {name}; use is not bounded."
    if suite.missing:
        yield ""
        yield "Before it can be run:"
        yield from (f"  {place}: {message}" for place, message in suite.missing)
    if suite.without_effect:
        yield ""
        yield "Without effect:"
        yield from (f"  {place}: {message}" for place, message in suite.without_effect)


def _head(suite: Suite, parts: Sequence[SuiteTask]) -> str:
    more = sum(len(task.subtasks) - 1 for task in suite.tasks if task.shards > 1)
    tasks = counted(len(parts) - more, "task")
    if more > 0:
        tasks += f" in {len(parts)} parts"
    many = len(workers_of(suite))
    workers = counted(many, "worker")
    if suite.limits.is_pool and suite.limits.min_agents < many:
        workers = f"{suite.limits.min_agents} to {workers}"
    return f"{suite.title}: {tasks}, {workers}"


def _phase(
    suite: Suite,
    phase: SuitePhase,
    times: Mapping[str, tuple[float, float]],
    history: History,
) -> Iterator[str]:
    """A phase and its tasks; *times* has the start and the end of each."""
    limits = [phase.mode.replace("_", " ")]
    if phase.max_parallel is not None:
        limits.append(f"{phase.max_parallel} at once")
    if phase.timeout is not None:
        limits.append(f"at most {duration(phase.timeout)}")
    yield f"{phase.name} ({phase.kind}): {', '.join(limits)}"
    run = [part for task in phase.tasks for part in task.run]
    spans = [times[part.id] for part in run if part.id in times]
    if phase.timeout is not None and spans:
        takes = max(end for _, end in spans) - min(start for start, _ in spans)
        if takes > phase.timeout:
            consequence = "what has not ended by then would be cancelled"
            yield f"  It would take {duration(takes)}: {consequence}."
    starts = {part.id: times.get(part.id, (0.0, 0.0))[0] for part in run}
    for part in sorted(run, key=lambda part: starts[part.id]):
        start = starts[part.id] if part.id in times else None
        yield f"  {_line(suite, part, start, history)}"


def _line(suite: Suite, part: SuiteTask, start: float | None, history: History) -> str:
    text = part.id if part.name == part.id else f"{part.id} {part.name}"
    if start is not None:
        text = f"{'at ' + duration(start) if start else 'at once':>14}  {text}"
    remarks = []
    if part.dependencies:
        remarks.append(f"after {', '.join(part.dependencies)}")
    if part.id in history.tasks:
        remarks.append(f"took {duration(history.tasks[part.id])}")
    if part.template is not None and part.template in suite.templates:
        remarks.append(part.template)
    return f"{text} ({'; '.join(remarks)})" if remarks else text


def _basis(parts: list[SuiteTask], history: History) -> Iterator[str]:
    timed = sum(part.id in history.tasks for part in parts)
    if timed == len(parts):
        yield "Tasks take what they took in earlier runs."
        return
    estimate = "the mean of the others" if timed else f"{duration(_UNKNOWN)} each"
    usual = _usual(history)
    if any(part.timeout is not None and part.timeout < usual for part in parts):
        estimate += ", or as its timeout if that is less"
    yield (
        f"Of {len(parts) - timed} of them nothing is known yet: taken as {estimate}. "
        "A run will tell."
    )


def _usual(history: History) -> float:
    """Seconds that a task takes of which nothing is known."""
    return mean(history.tasks.values()) if history.tasks else _UNKNOWN


def _simulated(suite: Suite, history: History, governance: Any) -> SimulationReport:
    usual = _usual(history)
    # All else is ours, and takes no time.
    times = {
        part.id: history.tasks.get(
            part.id, min(usual, (part.timeout or math.inf) - _IN_TIME)
        )
        for part in parts_of(suite)
    }

    def seconds(task: Any) -> float:
        return times.get(task.id, 0.0)

    orchestrator = orchestrator_of(suite, governance=governance)
    declare_budgets(orchestrator, suite)
    add_workers(orchestrator, suite, lambda _name: _never)
    return orchestrator.simulate(workflow_of(suite), seconds)


def _never(_task: Task, _context: TaskContext) -> None:
    """Do nothing, in the place of a worker: a plan runs nothing."""
