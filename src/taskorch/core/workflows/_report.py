"""The final report on a run, as a value that can be kept, shown and sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from taskorch.core.workflows._status import listed
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import amounts_in_words, duration, moment, outcome, sum_of
from taskorch.model import TaskState

#: The most tasks that the text of a report lists, of those that did not complete.
_SHOWN: Final = 50
#: The most characters of an error that it shows.
_LINE: Final = 200
#: Characters that Markdown interprets wherever they stand.
_SIGNS: Final = re.compile(r"[\\|*`\[\]~]")


@attrs.frozen
class Verdict:
    """
    The verdict of a gate.

    Attributes:
        passed: Whether the phase passed.
        by: The name of the person who gave it, or `gate`.
        note: The comment on it, or an empty text.
        at: When, in seconds since the epoch, if that is known.
        checks: Each check, whether it holds, and why not.
    """

    passed: bool
    by: str
    note: str = ""
    at: float | None = None
    checks: tuple[tuple[str, bool, str], ...] = ()


@attrs.frozen
class PhaseReport:
    """
    One phase of a run.

    Attributes:
        name: The name of the phase.
        state: The state, as of a workflow.
        completed: How many of its tasks completed.
        total: How many tasks it has; its gate is one of them.
        duration: From the start of its first task to the end of its gate, in seconds.
        verdicts: The verdicts of its gate; none until the gate has ended.
    """

    name: str
    state: TaskState
    completed: int
    total: int
    duration: float | None
    verdicts: tuple[Verdict, ...] = ()


@attrs.frozen
class TaskReport:
    """
    One task of a run; of one that was run again, the latest run.

    Attributes:
        name: Its id in the workflow.
        task_id: Its id in the orchestrator.
        type: Its type.
        state: Its state when the report was made.
        phase: The phase that it belongs to, or an empty text.
        started: When the first attempt of its first run began, in seconds since the
            epoch.
        ended: When its latest run ended, in seconds since the epoch.
        duration: Seconds that the attempts of all its runs took, without the time
            between them. One that a crash cut off counts until the journal's last event
            before that.
        attempts: How many attempts all its runs had.
        agent: The worker of its latest attempt.
        error: Why it did not complete.
        root_causes: Where that began, if not with itself: ids in the workflow, or of
            other tasks.
        where: The line that failed, as in `flow.py:12 in work`; "" if nobody knows.
        stale: Whether it has what one that it depends on had come to before that was
            run again: see `TaskStatus.stale`.
        spent: What the attempts of all its runs count as having spent of its budget, by
            resource; None: none has drawn on one, or nobody knows any more.
        allowed: Whether it failed, and its failure is allowed.
        repairs: What mended its failed attempts, or tried to, a sentence each.
    """

    name: str
    task_id: str
    type: str
    state: TaskState
    phase: str = ""
    started: float | None = None
    ended: float | None = None
    duration: float | None = None
    attempts: int = 0
    agent: str | None = None
    error: str = ""
    root_causes: tuple[str, ...] = ()
    where: str = ""
    stale: bool = False
    spent: Mapping[str, float] | None = None
    allowed: bool = False
    repairs: tuple[str, ...] = ()


@attrs.frozen
class WorkflowReport:
    """
    The report on a run; `str()` of it is a page of text.

    Attributes:
        workflow_id: The id of the run.
        state: As that of `WorkflowStatus`.
        duration: From the start of its first attempt to the end of the last, in
            seconds: with what was between them, as a time in which no process ran.
        work: The sum of the durations of its tasks: what all attempts took together.
        phases: Its phases, in order.
        tasks: Its tasks, in the order of the workflow.
        totals: How many tasks are in which state.
    """

    workflow_id: str
    state: TaskState
    duration: float | None
    work: float
    phases: tuple[PhaseReport, ...]
    tasks: tuple[TaskReport, ...]
    totals: Mapping[str, int]

    @property
    def failures(self) -> tuple[TaskReport, ...]:
        """The tasks where failures began that are not allowed."""
        bad = (TaskState.FAILED, TaskState.CANCELLED)
        own = (t for t in self.tasks if t.state in bad and not t.root_causes)
        return tuple(t for t in own if not t.allowed)

    @property
    def allowed(self) -> tuple[TaskReport, ...]:
        """The tasks that failed, and whose failure is allowed."""
        return tuple(task for task in self.tasks if task.allowed)

    @property
    def _outcome(self) -> str:
        return outcome(self.state, len(self.allowed))

    @property
    def held_up(self) -> tuple[TaskReport, ...]:
        """The tasks that did not run, or failed, because of these."""
        return tuple(t for t in self.tasks if t.root_causes and not t.allowed)

    @property
    def stale(self) -> tuple[TaskReport, ...]:
        """The tasks with results of runs that are not the latest any more."""
        return tuple(task for task in self.tasks if task.stale)

    @property
    def repairs(self) -> tuple[str, ...]:
        """The repairs of failed attempts, each with its task."""
        return tuple(
            f"{task.name}: {text}" for task in self.tasks for text in task.repairs
        )

    @property
    def spent(self) -> Mapping[str, float]:
        """The sum that its tasks have spent of budgets, as far as it is known."""
        return sum_of(task.spent for task in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return attrs.asdict(self, value_serializer=_plain)

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        lines = [
            f"# {self.workflow_id}: {self._outcome}",
            "",
            f"{self._summary()}.",
            "",
        ]
        if self.phases:
            lines += [
                "| phase | state | tasks | time | gate |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {p.name} | {p.state} | {p.completed} of {p.total} | "
                f"{_time(p.duration)} | {cell('; '.join(map(_verdict, p.verdicts)))} |"
                for p in self.phases
            ]
            lines.append("")
        for title, tasks in self._troubles():
            lines += [f"## {title}", ""]
            lines += [f"- {cell(line)}" for line in _task_lines(tasks)]
            lines.append("")
        if self.repairs:
            lines += ["## What was repaired", ""]
            lines += [*[f"- {cell(line)}" for line in self.repairs], ""]
        lines += ["| task | state | attempts | time |", "|---|---|---|---|"]
        lines += [
            f"| {t.name} | {t.state} | {t.attempts} | {_time(t.duration)} |"
            for t in self.tasks
        ]
        return visible("\n".join(lines)) + "\n"

    def __str__(self) -> str:
        lines = [f"{self.workflow_id} is {self._outcome}: {self._summary()}"]
        for phase in self.phases:
            line = f"  phase {phase.name} is {phase.state}: {phase.completed} of "
            line += counted(phase.total, "task")
            if phase.duration is not None:
                line += f", {duration(phase.duration)}"
            lines.append(line)
            lines += [f"    {_verdict(verdict)}" for verdict in phase.verdicts]
        for title, tasks in self._troubles():
            lines += [f"{title}:", *[f"  {line}" for line in _task_lines(tasks)]]
        if self.repairs:
            lines += ["What was repaired:", *[f"  {line}" for line in self.repairs]]
        return visible("\n".join(lines))

    def _troubles(self) -> Iterable[tuple[str, tuple[TaskReport, ...]]]:
        if self.failures:
            yield "What failed", self.failures
        if self.held_up:
            yield "What that held up", self.held_up
        if self.allowed:
            yield "What failed, and may", self.allowed
        if self.stale:
            yield "What is stale: a restart runs it again", self.stale

    def _summary(self) -> str:
        if not self.tasks:
            return "no tasks"
        text = ", ".join([counted(len(self.tasks), "task"), *listed(self.totals)])
        attempts = sum(task.attempts for task in self.tasks)
        # A single attempt each is what is expected, and is not mentioned.
        if any(task.attempts > 1 for task in self.tasks):
            text += f", {counted(attempts, 'attempt')}"
        if self.spent:
            text += f", spent {amounts_in_words(self.spent)}"
        if self.duration is None:
            return text
        return f"{text}, in {_time(self.duration)} ({_time(self.work)} of work)"


def _plain(_owner: object, _field: object, value: Any) -> Any:
    if isinstance(value, TaskState):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _time(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _verdict(verdict: Verdict) -> str:
    text = "passed" if verdict.passed else "not passed"
    if verdict.by not in ("gate", "nobody"):
        text = "approved" if verdict.passed else "rejected"
    text += f" by {verdict.by}" if verdict.by != "nobody" else ""
    if verdict.at is not None:
        text += f" at {moment(verdict.at)}"
    why = [detail or check for check, holds, detail in verdict.checks if not holds]
    reasons = "; ".join([*why, verdict.note] if verdict.note else why)
    return f"{text}: {reasons}" if reasons else text


def _task_lines(tasks: tuple[TaskReport, ...]) -> list[str]:
    lines = []
    for task in tasks[:_SHOWN]:
        skipped = task.state is TaskState.CANCELLED and task.root_causes
        line = f"{task.name} {'skipped' if skipped else task.state}"
        if task.attempts > 1:
            line += f" after {task.attempts} attempts"
        if task.root_causes:
            line += f", because of {', '.join(task.root_causes)}"
        elif task.error:
            error = " ".join(task.error.split())
            line += f": {error if len(error) <= _LINE else error[: _LINE - 1] + '…'}"
            line += f" (at {task.where})" if task.where else ""
        lines.append(line)
    if len(tasks) > _SHOWN:
        lines.append(f"… and {len(tasks) - _SHOWN:,} more")
    return lines


def cell(text: str) -> str:
    """Return *text* escaped for Markdown."""
    return _SIGNS.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))
