"""A simulation of a run: its tasks and their times; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

import attrs

from taskorch.ext.task_files._progress import (
    WorkspaceProgress,
    missing_files,
    missing_inputs,
)
from taskorch.ext.task_files._tasks import (
    add_agent,
    judged,
    orchestrator_for,
    task_for,
)
from taskorch.ext.task_files._work import waits_for
from taskorch.kit.visible import counted
from taskorch.kit.words import duration
from taskorch.model import Task
from taskorch.model.ids import folder_of, joined

#: Seconds for a task of which nothing is known.
_UNKNOWN = 60.0
_SHOWN = 1000


@attrs.frozen
class DryRunStep:
    """
    A task that would be run.

    Attributes:
        task_id: The id of the task.
        start: Seconds until it would begin.
        seconds: How long it would take.
        timeout: Seconds that it may take; None is for ever.
    """

    task_id: str
    start: float
    seconds: float
    timeout: float | None = None


@attrs.frozen
class DryRun:
    """
    The forecast of a run; `str()` of it is a page for people.

    Attributes:
        steps: The tasks that would be run, in the order in which they would begin.
        seconds: How long all of it would take.
        completed: How many tasks are complete already.
        not_run: Why others would not be run, by id.
        missing: Files that are needed, and that nothing makes: what for.
        guessed: How many tasks there is no estimate for.
        noted: The notes of policies on tasks that would still run, by id.
    """

    steps: tuple[DryRunStep, ...]
    seconds: float
    completed: int
    not_run: Mapping[str, str]
    missing: Mapping[str, str]
    guessed: int
    noted: Mapping[str, str] = {}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        verb = "is" if self.completed == 1 else "are"
        done = f"; {self.completed} {verb} complete already" if self.completed else ""
        yield f"{counted(len(self.steps), 'task')} would be run{done}."
        if self.steps:
            yield ""
            yield f"  {'after':>10}  {'takes':>10}  {'at most':>10}  task"
        for step in self.steps[:_SHOWN]:
            start, takes = duration(step.start), duration(step.seconds)
            most = "" if step.timeout is None else duration(step.timeout)
            yield f"  {start:>10}  {takes:>10}  {most:>10}  {step.task_id}"
        if len(self.steps) > _SHOWN:
            yield f"  and {len(self.steps) - _SHOWN} more"
        if self.steps:
            yield ""
            yield f"All of it would take {duration(self.seconds)}."
        if self.guessed:
            yield (
                f"There is no estimate for {self.guessed} of them: "
                "`estimate: 30m` in a task file gives one."
            )
        for title, rest in (
            ("Missing:", self.missing),
            ("These would not be run:", self.not_run),
            ("Policies say of what would be run:", self.noted),
        ):
            if rest:
                yield ""
                yield title
                yield from (f"  {name}: {text}" for name, text in rest.items())


def dry_run(
    progress: WorkspaceProgress, *, phase: str | None, retry_failed: bool
) -> DryRun:
    """Simulate a run, and return what it would do."""
    plan, config = progress.plan, progress.config
    planner = _Planner(progress, phase, retry_failed)
    tasks = planner.tasks()
    seconds, guessed = _estimates(progress, planner.run)
    steps: list[DryRunStep] = []
    total = 0.0
    if tasks:
        orch = orchestrator_for(config)
        for agent in config.programs.values():
            add_agent(orch, agent, _nothing)
        report = orch.simulate(tasks, seconds | dict.fromkeys(planner.gates, 0.0))
        total = report.makespan
        steps = [
            DryRunStep(
                entry.task_id,
                entry.start,
                entry.end - entry.start,
                config.timeout_of(plan.tasks[entry.task_id]),
            )
            for entry in report.schedule
            if entry.task_id in planner.run
        ]
    return DryRun(
        tuple(sorted(steps, key=lambda step: (step.start, step.task_id))),
        total,
        sum(map(progress.has_completed, plan.ids)),
        planner.not_run,
        _missing(progress, [*planner.run, *planner.not_run]),
        guessed,
        planner.noted,
    )


@attrs.define
class _Planner:
    """Plans a dry run: tasks for an orchestrator that simulates them."""

    progress: WorkspaceProgress
    phase: str | None
    retry_failed: bool
    #: The tasks that would be run, in order.
    run: dict[str, None] = attrs.field(factory=dict[str, None])
    gates: list[str] = attrs.field(factory=list[str])
    not_run: dict[str, str] = attrs.field(factory=dict[str, str])
    noted: dict[str, str] = attrs.field(factory=dict[str, str])

    def tasks(self) -> list[Task[Any]]:
        """The tasks that would be run, and gates between the phases."""
        plan = self.progress.plan
        tasks: list[Task[Any]] = []
        gate: str | None = None
        shut: str | None = None
        for phase, ids in plan.phases.items():
            if self.phase not in (None, phase):
                continue
            ours: list[str] = []
            for task_id in plan.in_order(ids):
                if self.progress.has_completed(task_id):
                    continue
                why = f"the gate of {shut} stays shut" if shut and phase else None
                why = why or self._why_not(task_id)
                if why is not None:
                    self.not_run[task_id] = why
                    continue
                self.run[task_id] = None
                ours.append(task_id)
                after = [i for i in plan.after[task_id] if i in self.run]
                if gate is not None and phase:
                    after.append(gate)
                file = plan.tasks[task_id]
                tasks.append(task_for(self.progress.config, file, after=after))
            if phase and shut is None and any(i in self.not_run for i in ids):
                shut = phase
            if phase:
                behind = joined(f"gate-{len(self.gates)}", phase)
                self.gates.append(behind)
                after = [*ours, gate] if gate else ours
                tasks.append(Task.call(_nothing, type="gate", id=behind, after=after))
                gate = behind
        return tasks

    def _why_not(self, task_id: str) -> str | None:
        progress = self.progress
        plan = progress.plan
        if task_id in progress.refused:
            return str(progress.refused[task_id])
        if task_id not in plan.tasks:
            return "its file has problems"
        status = progress.statuses.get(task_id)
        failed = status is not None and status.status == "failed"
        if failed and not self.retry_failed:
            return "it has failed: --retry-failed runs it again"
        for other in plan.after[task_id]:
            if other not in self.run and not progress.has_completed(other):
                return plan.waits(other)
        task = plan.tasks[task_id]
        missing = missing_inputs(progress.layout, task, plan.known)
        denied, finding = judged(progress.config, task)
        if finding is not None:
            self.noted[task_id] = finding
        return waits_for(missing) if missing else denied


def _estimates(
    progress: WorkspaceProgress, ids: Iterable[str]
) -> tuple[dict[str, float], int]:
    """Seconds that each will take, and for how many nothing is known."""
    by_phase: dict[str, list[float]] = {}
    for task_id, status in progress.statuses.items():
        if status.duration_seconds is not None:
            durations = by_phase.setdefault(folder_of(task_id), [])
            durations.append(status.duration_seconds)
    usual = {phase: median(durations) for phase, durations in by_phase.items()}
    tasks = [progress.plan.tasks[task_id] for task_id in ids]
    estimates = {
        task.task_id: usual.get(task.phase) if task.estimate is None else task.estimate
        for task in tasks
    }
    seconds = {n: _UNKNOWN if much is None else much for n, much in estimates.items()}
    return seconds, list(estimates.values()).count(None)


def _missing(progress: WorkspaceProgress, ids: Iterable[str]) -> dict[str, str]:
    """Files that are needed, and that no task makes."""
    plan, layout = progress.plan, progress.layout
    missing: dict[str, str] = {}
    for task_id in ids:
        if task_id in plan.tasks:
            for path in missing_inputs(layout, plan.tasks[task_id], plan.known):
                missing[path] = f"an input of {task_id}"
    for phase in plan.phases:
        rule = progress.config.rule(phase)[1]
        for path in missing_files(layout, layout.root, rule.gate):
            missing[path] = f"the gate of {phase}"
        if rule.approval and not layout.approval(phase).is_file():
            missing[f"an approval of {phase}"] = "its gate"
    return missing


def _nothing(*_: object) -> None:
    """Do nothing, in the place of an agent or a gate."""
