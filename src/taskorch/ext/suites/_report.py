"""The final report of a run, as a value that can be kept and sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from taskorch.core.workflows import TaskReport, WorkflowReport
from taskorch.ext.suites import _words
from taskorch.ext.suites._attempt import with_stop
from taskorch.ext.suites._folder import History, RunFolder, kept_in
from taskorch.ext.suites._judging import Counts, share_of
from taskorch.ext.suites._model import Suite, SuiteTask, parts_of, template_of
from taskorch.ext.suites._results import BAD
from taskorch.ext.suites._whole import combined, cover, put_together
from taskorch.kit.plain import fields_of
from taskorch.kit.visible import counted
from taskorch.kit.words import amounts_in_words, duration, sum_of
from taskorch.model import TaskState
from taskorch.model.ids import stem_of

#: The most tests that are named as the slowest.
_SLOWEST: Final = 10


@attrs.frozen
class Slice:
    """
    One attempt, as a bar in a picture.

    Attributes:
        task: The id of the task.
        attempt: The number of the attempt.
        agent: The worker that did it.
        start: When it began, in seconds since the epoch.
        end: When it ended. One that was killed with the process of the run ended when
            that had left its last trace.
        outcome: `completed`, `retrying`, `failed` or `cancelled`.
    """

    task: str
    attempt: int
    agent: str
    start: float
    end: float
    outcome: str


@attrs.frozen
class TaskPart:
    """
    The report on one task.

    Attributes:
        id: Its id.
        name: The name for people.
        phase: The phase that it belongs to.
        status: What it is called of a task: `completed_success` and so on; `blocked`
            is one that has never begun, because of others.
        agent: The worker that did the task last.
        attempts: How often it was tried.
        seconds: The seconds that all attempts took.
        counts: How many tests came to what.
        coverage: The share of lines that it has run.
        error: Why it has not succeeded.
        because: The tasks because of which it has never begun.
        tests: Its tests, as they stand in its results.
        flaky: Tests that have failed, and then passed, without a change.
        log: The output of the task.
        part_of: The task that it is a subtask or a shard of.
        memory_mb: MiB that its largest process used at most.
        granted_mb: MiB that it was granted.
        spent: What all attempts count as having spent of its budget, by resource; None:
            it draws on none.
        repairs: What mended its failed attempts, or tried to, a sentence each.
    """

    id: str
    name: str
    phase: str
    status: str
    agent: str = ""
    attempts: int = 0
    seconds: float = 0.0
    counts: Counts | None = None
    coverage: float | None = None
    error: str = ""
    because: tuple[str, ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()
    flaky: tuple[str, ...] = ()
    log: str = ""
    part_of: str = ""
    memory_mb: float | None = None
    granted_mb: float | None = None
    spent: Mapping[str, float] | None = None
    repairs: tuple[str, ...] = ()

    @property
    def over_memory(self) -> str:
        """Memory beyond what the task was granted, in words; or empty."""
        used, granted = self.memory_mb, self.granted_mb
        if not used or not granted or used <= granted:
            return ""
        return f"{used:,.0f} of {granted:,.0f} MB"

    @property
    def in_words(self) -> str:
        """The status of the task, in words."""
        if self.because:
            return f"never began, because of {', '.join(self.because)}"
        words = {"completed_success": "passed", "completed_failure": "failed"}
        return words.get(self.status, self.status)

    @property
    def has_passed(self) -> bool:
        """True if the task has succeeded."""
        return self.status == _words.STATUS[TaskState.COMPLETED]


@attrs.frozen
class SuiteReport:
    """
    The final report of a run.

    Attributes:
        suite: The name of the suite.
        passed: Whether all of it has succeeded.
        started: When the first attempt began, in seconds since the epoch, or None.
        seconds: From then to the end of the last one.
        work: The seconds that all attempts took together.
        phases: The names of the phases, and whether each has passed.
        over_time: The phases whose time was over.
        tasks: The tasks, in order.
        slices: All attempts, as bars.
        covered: Lines that any task has run, and lines that there are.
        version: The version of the suite.
        notes: The keys of its configuration without effect, and why.
        over_runs: Whether tests that failed or were flaky are flaky or broken, by this
            run and the latest before it.
        unmeasured: The tasks that ran without the coverage that was asked for: their
            logs say why.
    """

    suite: str
    passed: bool
    started: float | None
    seconds: float
    work: float
    phases: Mapping[str, bool]
    over_time: tuple[str, ...]
    tasks: tuple[TaskPart, ...]
    slices: tuple[Slice, ...]
    covered: tuple[int, int] | None = None
    unmeasured: tuple[str, ...] = ()
    version: str = ""
    notes: tuple[str, ...] = ()
    over_runs: Mapping[str, str] = attrs.field(factory=dict[str, str])

    @property
    def title(self) -> str:
        """The name and the version of the suite."""
        return f"{self.suite} {self.version}".rstrip()

    @property
    def headline(self) -> str:
        """The report in a sentence."""
        good = sum(task.has_passed for task in self.whole)
        text = f"{good} of {counted(len(self.whole), 'task')} succeeded"
        split = {task.part_of for task in self.tasks}
        parts = [task for task in self.tasks if task.id not in split]
        if len(parts) != len(self.whole):
            done = sum(task.has_passed for task in parts)
            text += f", in {done} of {counted(len(parts), 'part')}"
        if self.counts.total:
            text += f": {self.counts}"
        if self.coverage is not None:
            text += f"; {self.coverage:.1%} of the lines are covered"
        if self.unmeasured:
            text += f"; no coverage was measured of {', '.join(self.unmeasured)}"
        if self.over_memory:
            many = counted(len(self.over_memory), "task")
            text += f"; {many} used more memory than granted ({self.over_memory[0]})"
        if self.spent:
            text += f"; spent {amounts_in_words(self.spent)}"
        return f"{text}; {duration(self.seconds)} ({duration(self.work)} of work)."

    @property
    def whole(self) -> list[TaskPart]:
        """The tasks as the configuration has them: no subtasks, no shards."""
        return [task for task in self.tasks if not task.part_of]

    @property
    def counts(self) -> Counts:
        """Number of tests by outcome."""
        wholes = {task.part_of for task in self.tasks}
        of_parts = (t.counts for t in self.tasks if t.counts and t.id not in wholes)
        return sum(of_parts, Counts())

    @property
    def coverage(self) -> float | None:
        """The share of lines that any task has run; 1 where there are none."""
        return None if self.covered is None else share_of(self.covered)

    @property
    def failures(self) -> list[tuple[TaskPart, Mapping[str, Any]]]:
        """The tests that failed, with their tasks."""
        return [
            (task, test)
            for task in self.tasks
            for test in task.tests
            if test["outcome"] in BAD
        ]

    @property
    def over_memory(self) -> list[str]:
        """The tasks that used more memory than they were granted, and how much."""
        return [f"{t.id}: {t.over_memory}" for t in self.tasks if t.over_memory]

    @property
    def spent(self) -> Mapping[str, float]:
        """Amounts that the tasks have spent of budgets in all, by resource."""
        return sum_of(task.spent for task in self.whole)

    @property
    def spent_lines(self) -> list[str]:
        """Lines of spent budgets: one for each task, and one for all together."""
        amounts = {task.id: task.spent for task in self.tasks if task.spent is not None}
        if self.spent:
            amounts["in all"] = self.spent
        return [
            f"{name}: {amounts_in_words(spent) or 'nothing'}"
            for name, spent in amounts.items()
        ]

    @property
    def slowest(self) -> list[tuple[TaskPart, Mapping[str, Any]]]:
        """The tests that took longest, the slowest first."""
        every = [(task, test) for task in self.tasks for test in task.tests]
        every.sort(key=lambda both: -both[1]["seconds"])
        return every[:_SLOWEST]

    @property
    def repairs(self) -> list[str]:
        """The repairs of failed attempts, each with its task."""
        return [f"{task.id}: {text}" for task in self.whole for text in task.repairs]

    @property
    def flaky(self) -> list[str]:
        """The tests that have failed, and then passed, without a change."""
        return [name for task in self.tasks for name in task.flaky]

    @property
    def flaky_lines(self) -> list[str]:
        """The flaky tests, each with its outcome over the latest runs."""
        return [self.named(name) for name in self.flaky]

    def named(self, name: str) -> str:
        """Return the id of a test, with its outcome over the latest runs."""
        over_runs = self.over_runs.get(name)
        return f"{name} ({over_runs})" if over_runs else name

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can say it."""
        counts = self.counts
        return {
            "suite": self.suite,
            "version": self.version,
            "status": "completed" if self.passed else "failed",
            "started": self.started,
            "duration_seconds": self.seconds,
            "work_seconds": self.work,
            "test_results": {
                "total_tests": counts.total,
                **attrs.asdict(counts),
                "pass_rate": counts.pass_rate,
                "coverage": self.coverage,
            },
            "phases": dict(self.phases),
            "over_time": list(self.over_time),
            "over_memory": self.over_memory,
            "spent": self.spent,
            "tasks": [_task(task) for task in self.tasks],
            "failures": [{"task_id": task.id, **test} for task, test in self.failures],
            "slowest": [
                {"task_id": task.id, "id": test["id"], "seconds": test["seconds"]}
                for task, test in self.slowest
            ],
            "flaky": self.flaky,
            "over_runs": dict(self.over_runs),
            "notes": list(self.notes),
            "timeline": [attrs.asdict(one) for one in self.slices],
        }


def _task(task: TaskPart) -> dict[str, Any]:
    fields = fields_of(attrs.evolve(task, tests=()))
    del fields["tests"]
    return fields


def made(
    suite: Suite,
    folder: RunFolder,
    report: WorkflowReport,
    slices: tuple[Slice, ...],
    over_time: Sequence[str] = (),
) -> SuiteReport:
    """Make the report of a run that has ended, from the files of its tasks."""
    reports = {task.name: task for task in report.tasks}
    latest = {one.task: one.attempt for one in slices}
    tasks = tuple(
        part
        for phase in suite.phases
        for task in phase.tasks
        for part in _parts(suite, phase.name, task, reports, folder, latest)
    )
    tasks = tuple(_with_causes(suite, tasks))
    history = History.read(folder.history)
    return SuiteReport(
        suite.name,
        report.state == TaskState.COMPLETED,
        min((one.start for one in slices), default=None),
        report.duration or 0.0,
        report.work,
        {
            phase.name: all(t.has_passed for t in tasks if t.phase == phase.name)
            for phase in suite.phases
        },
        tuple(over_time),
        tasks,
        slices,
        combined(suite, folder),
        tuple(_unmeasured(suite, tasks)),
        version=suite.version,
        notes=tuple(f"{place}: {message}" for place, message in suite.without_effect),
        over_runs={
            test["id"]: text
            for task in tasks
            for test in task.tests
            if test["outcome"] in BAD or test["id"] in task.flaky
            if (text := history.over_runs({"flaky": task.flaky}, test))
        },
    )


def _with_causes(suite: Suite, parts: Sequence[TaskPart]) -> Iterator[TaskPart]:
    """The tasks, of which those that never began name all that kept them from it."""
    lost = {
        part.id: part.phase for part in parts if part.attempts and not part.has_passed
    }
    above = {
        part.id: task.dependencies
        for task in suite.tasks
        for part in (task, *task.subtasks)
    }
    inside = {
        task.id: [each.id for each in task.subtasks]
        for task in suite.tasks
        if task.subtasks
    }
    for part in parts:
        if not part.because:
            yield part
            continue
        needed, todo = set[str](), [part.id]
        while todo:
            name = todo.pop()
            if name not in needed:
                needed.add(name)
                todo += [*above.get(name, ()), *inside.get(name, ())]
        # A gate stops its tasks because of every failure before it. A cause that was
        # cancelled before it began is not in `lost`.
        stopped = {lost[name] for name in (lost.keys() & part.because) - needed}
        failed = {
            name for name, phase in lost.items() if name in needed or phase in stopped
        }
        causes = {*part.because, *failed}
        order = [each.id for each in parts if each.id in causes - inside.keys()]
        others = [name for name in part.because if name not in order]
        yield attrs.evolve(part, because=(*order, *others))


def _unmeasured(suite: Suite, parts: Iterable[TaskPart]) -> Iterator[str]:
    ran = {one.id for one in parts if one.counts is not None and one.coverage is None}
    for part in parts_of(suite):
        template = template_of(suite, part)
        if part.id in ran and template is not None and template.coverage:
            yield part.id


def _parts(
    suite: Suite,
    phase: str,
    task: SuiteTask,
    reports: Mapping[str, TaskReport],
    folder: RunFolder,
    latest: Mapping[str, int],
) -> list[TaskPart]:
    """Return the report on a task; for one with parts, theirs and their sum."""
    parts = [
        _part(phase, part, reports.get(part.id), folder, latest.get(part.id))
        for part in task.run
    ]
    if not task.subtasks:
        return parts
    if task.shards == 1:
        cover(task, template_of(suite, task), folder)
    results = put_together(task, folder)
    whole = _part(phase, task, reports.get(task.id), folder, latest.get(task.id))
    attempts = max(part.attempts for part in parts)
    lost = [part for part in parts if part.attempts and not part.has_passed]
    if attempts:
        whole = attrs.evolve(
            whole,
            attempts=attempts,
            seconds=sum(part.seconds for part in parts),
            counts=results.get("counts") and Counts(**results["counts"]),
            coverage=results.get("coverage"),
        )
    repairs = tuple(f"{part.id}: {text}" for part in parts for text in part.repairs)
    whole = attrs.evolve(whole, repairs=repairs)
    if any(part.spent is not None for part in parts):
        whole = attrs.evolve(whole, spent=sum_of(part.spent for part in parts))
    if lost:
        # It waits for them for ever, and has not succeeded for all that.
        statuses = [part.status for part in lost]
        failed = _words.STATUS[TaskState.FAILED]
        names = ", ".join(part.id for part in lost)
        whole = attrs.evolve(
            whole,
            status=failed if failed in statuses else statuses[0],
            error=f"{names} did not succeed",
            because=(),
        )
    return [*(attrs.evolve(part, part_of=task.id) for part in parts), whole]


def _part(
    phase: str,
    task: SuiteTask,
    report: TaskReport | None,
    folder: RunFolder,
    latest: int | None,
) -> TaskPart:
    state = TaskState.BLOCKED if report is None else report.state
    status = "blocked" if state is TaskState.BLOCKED else _words.STATUS[state]
    part = TaskPart(task.id, task.name, phase, status)
    if report is None:
        return part
    if not report.attempts:
        # A cause that is a re-run gets the id that its task has in the suite.
        because = tuple(dict.fromkeys(map(stem_of, report.root_causes)))
        return attrs.evolve(part, error=report.error, because=because)
    results = kept_in(folder.results(task.id))
    counts = results.get("counts")
    error = report.error
    if error and results.get("attempt") == latest:
        error = with_stop(error, results)
    return attrs.evolve(
        part,
        agent=report.agent or "",
        attempts=report.attempts,
        seconds=report.duration or 0.0,
        counts=None if counts is None else Counts(**counts),
        coverage=results.get("coverage"),
        error=error,
        tests=tuple(results.get("tests", ())),
        flaky=tuple(results.get("flaky", ())),
        log=results.get("log", ""),
        spent=report.spent,
        memory_mb=results.get("memory_mb"),
        granted_mb=results.get("granted_mb"),
        repairs=report.repairs,
    )
