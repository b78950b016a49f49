"""What a run would do, and when: simulated, and nothing is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

import attrs

from taskorch.frontends.workspace._config import WorkspaceConfig
from taskorch.frontends.workspace._layout import WorkspaceLayout, phase_of
from taskorch.frontends.workspace._progress import (
    WorkspaceProgress,
    missing_files,
    unmade_inputs,
)
from taskorch.frontends.workspace._scan import WorkspacePlan
from taskorch.frontends.workspace._tasks import (
    add_agent,
    judged,
    orchestrator_for,
    task_for,
)
from taskorch.frontends.workspace._work import waits_for
from taskorch.kit.visible import counted
from taskorch.kit.words import duration
from taskorch.model import Task
from taskorch.model.ids import joined

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
    What a run would do; `str()` of it is a page for people.

    Attributes:
        steps: The tasks that would be run, in the order in which they would begin.
        seconds: How long all of it would take.
        completed: How many tasks are complete already.
        not_run: Why others would not be run, by id.
        missing: Files that are needed, and that nothing makes: what for.
        guessed: How many tasks there is no estimate for.
        noted: What policies say of tasks that would be run all the same, by id.
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
    layout: WorkspaceLayout,
    config: WorkspaceConfig,
    plan: WorkspacePlan,
    *,
    phase: str | None,
    retry_failed: bool,
) -> DryRun:
    """What a run would do."""
    progress = WorkspaceProgress(layout, config, plan)
    planner = _Planner(layout, config, plan, progress, phase, retry_failed=retry_failed)
    tasks = planner.tasks()
    seconds, guessed = _estimates(plan, progress, planner.run)
    durations = seconds | dict.fromkeys(planner.gates, 0.0)
    steps: list[DryRunStep] = []
    total = 0.0
    if tasks:
        orch = orchestrator_for(config)
        for agent in config.programs.values():
            add_agent(orch, agent, _nothing)
        report = orch.simulate(tasks, durations)
        total = report.makespan
        names = set(planner.run)
        steps = [
            DryRunStep(
                entry.task_id,
                entry.start,
                entry.end - entry.start,
                config.timeout_of(plan.tasks[entry.task_id]),
            )
            for entry in report.schedule
            if entry.task_id in names
        ]
    done = sum(1 for task_id in plan.ids if progress.has_completed(task_id))
    missing = _missing(layout, config, plan, [*planner.run, *planner.not_run])
    return DryRun(
        tuple(sorted(steps, key=lambda step: (step.start, step.task_id))),
        total,
        done,
        planner.not_run,
        missing,
        guessed,
        planner.noted,
    )


class _Planner:
    """Plans a dry run: tasks for an orchestrator that simulates them."""

    def __init__(
        self,
        layout: WorkspaceLayout,
        config: WorkspaceConfig,
        plan: WorkspacePlan,
        progress: WorkspaceProgress,
        phase: str | None,
        *,
        retry_failed: bool,
    ) -> None:
        self._layout = layout
        self._config = config
        self._plan = plan
        self._progress = progress
        self._phase = phase
        self._retry_failed = retry_failed
        self.run: dict[str, None] = {}
        self.gates: list[str] = []
        self.not_run: dict[str, str] = {}
        self.noted: dict[str, str] = {}

    def tasks(self) -> list[Task[Any]]:
        """The tasks that would be run, and gates between the phases."""
        tasks: list[Task[Any]] = []
        gate: str | None = None
        shut: str | None = None
        for phase, ids in self._plan.phases.items():
            if self._phase not in (None, phase):
                continue
            ours: list[str] = []
            for task_id in self._plan.in_order(ids):
                if self._progress.has_completed(task_id):
                    continue
                why = f"the gate of {shut} stays shut" if shut and phase else None
                why = why or self._why_not(task_id)
                if why is not None:
                    self.not_run[task_id] = why
                    continue
                self.run[task_id] = None
                ours.append(task_id)
                after = [i for i in self._plan.after[task_id] if i in self.run]
                if gate is not None and phase:
                    after.append(gate)
                file = self._plan.tasks[task_id]
                tasks.append(task_for(self._config, file, after=after))
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
        if task_id in self._progress.refused:
            return self._progress.refused[task_id]
        if task_id not in self._plan.tasks:
            return "its file has problems"
        status = self._progress.statuses.get(task_id)
        failed = status is not None and status.status == "failed"
        if failed and not self._retry_failed:
            return "it has failed: --retry-failed runs it again"
        for other in self._plan.after[task_id]:
            if other in self.run or self._progress.has_completed(other):
                continue
            note = "" if other in self._plan.known else ", which does not exist"
            return f"it waits for {other}{note}"
        task = self._plan.tasks[task_id]
        missing = unmade_inputs(self._layout, task, self._plan.known)
        denied, finding = judged(self._config, task)
        if finding is not None:
            self.noted[task_id] = finding
        return waits_for(missing) if missing else denied


def _estimates(
    plan: WorkspacePlan, progress: WorkspaceProgress, ids: Mapping[str, None]
) -> tuple[dict[str, float], int]:
    """Seconds that each will take, and for how many nothing is known."""
    by_phase: dict[str, list[float]] = {}
    for task_id, status in progress.statuses.items():
        if status.duration_seconds is not None:
            durations = by_phase.setdefault(phase_of(task_id), [])
            durations.append(status.duration_seconds)
    usual = {phase: median(durations) for phase, durations in by_phase.items()}
    seconds: dict[str, float] = {}
    guessed = 0
    for task_id in ids:
        estimate = plan.tasks[task_id].estimate
        if estimate is None:
            estimate = usual.get(plan.tasks[task_id].phase)
        guessed += estimate is None
        seconds[task_id] = _UNKNOWN if estimate is None else estimate
    return seconds, guessed


def _missing(
    layout: WorkspaceLayout,
    config: WorkspaceConfig,
    plan: WorkspacePlan,
    ids: Iterable[str],
) -> dict[str, str]:
    """Files that are needed, and that no task makes."""
    missing: dict[str, str] = {}
    for task_id in ids:
        if task_id in plan.tasks:
            for path in unmade_inputs(layout, plan.tasks[task_id], plan.known):
                missing[path] = f"an input of {task_id}"
    for phase in plan.phases:
        rule = config.rule(phase)[1]
        for path in missing_files(layout, layout.root, rule.gate):
            missing[path] = f"the gate of {phase}"
        if rule.approval and not layout.approval(phase).is_file():
            missing[f"an approval of {phase}"] = "its gate"
    return missing


def _nothing(*_: object) -> None:
    """In the place of what would be done."""
