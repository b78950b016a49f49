"""The facts of one run: its tasks, their times, and their definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.ext.comparing._sizes import Sizes, sizes_of
from taskorch.ext.comparing._surroundings import Around, Surroundings
from taskorch.kit.raised import told_of
from taskorch.kit.visible import visible
from taskorch.kit.words import outcome
from taskorch.model import (
    MadeFor,
    Missing,
    Question,
    Task,
    TaskState,
    TaskStatus,
    Wait,
)
from taskorch.model.ids import name_of, run_of, stem_of

_BAD: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


@attrs.frozen
class TaskFacts:
    """
    One task of a run; of one that was run again, its latest run.

    Attributes:
        name: Its id in the workflow; "" if it is the whole run.
        status: Its status.
        needs: Names of the tasks that it waits for.
        begun: When its first attempt began, in seconds since the epoch; None: not yet.
        ended: When its last attempt ended; None: it has not.
        work: Seconds that its attempts took.
        task: The task as it was submitted; None if nobody knows any more.
        codes: The digests of the functions that it called, by their names; None: they
            are not known.
        is_cause: Whether it failed, or was cancelled, by itself.
        ready: When its first attempt could have begun, but for workers and resources;
            None: unknown.
        sizes: How large its result is; None: unknown, or it is no data.
        machine: The known properties of the machine of its latest attempt: see
            `Surroundings.machine`.
    """

    name: str
    status: TaskStatus
    needs: tuple[str, ...]
    begun: float | None
    ended: float | None
    work: float
    task: Task | None = None
    codes: Mapping[str, str] | None = None
    is_cause: bool = False
    ready: float | None = None
    sizes: Sizes | None = None
    machine: Mapping[str, str] | None = None

    @property
    def has_left(self) -> bool:
        """Whether it has left memory, so that only its state is known."""
        # Each task that is known has a type.
        return self.status.state.is_terminal and not self.status.type

    @property
    def is_rerun(self) -> bool:
        """Whether it was run again, by a person or a program, after it had ended."""
        return stem_of(self.status.task_id) != self.status.task_id

    @property
    def awaits(self) -> str:
        """The thing that a wait or a question waits for, in words; "": neither."""
        payload: Any = None if self.task is None else self.task.payload
        if not issubclass(type(payload), Wait):
            return ""
        if issubclass(type(payload), Question):
            return "an answer"
        event = payload.event
        return "its time" if event is None else f"the event {visible(event)}"

    @property
    def queued(self) -> float | None:
        """Seconds that it waited once it was ready; None: unknown."""
        if self.begun is None or self.ready is None:
            return None
        return self.begun - self.ready

    @property
    def error(self) -> str:
        """The error in a line; "" if it completed, or has not ended."""
        return "" if self.status.error is None else line_of(self.status.error)


def line_of(error: BaseException) -> str:
    """Return an error in a line."""
    kind, message = told_of(error)
    return visible(f"{kind}: {message}".partition("\n")[0].removesuffix(": "))


@attrs.frozen
class RunFacts:
    """
    One run.

    Attributes:
        run_id: Its id.
        tasks: Its tasks, by their names.
        began: When it was submitted, or, if that is unknown, when its first attempt
            began; in seconds since the epoch.
        ended: When its last one ended; None while it goes on.
        parameters: The parameters of its workflow.
        state: Its state, in words: `completed, 1 failure allowed`.
        around: The workers, slots, pools and holds around its tasks.
    """

    run_id: str
    tasks: Mapping[str, TaskFacts]
    began: float | None
    ended: float | None
    parameters: Mapping[str, Any]
    state: str
    around: Around = attrs.field(factory=Around)

    @property
    def seconds(self) -> float | None:
        """The seconds from its start to its end; None: unknown, or not yet."""
        if self.began is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.began)


def _refuse_part(orch: Any, task_id: str) -> None:
    """
    Refuse a task of a workflow's run, which is compared with the whole run.

    Raises:
        InvalidTaskError: It is one.
    """
    run_id = run_of(stem_of(task_id))
    with suppress(UnknownTaskError):
        if run_id and name_of(task_id) in orch.workflows.get(run_id).handles:
            msg = f"{task_id} is a task of the run {run_id}, and runs are compared"
            raise InvalidTaskError(msg, hint=f"give {run_id!r}, and the other's run")


def facts_of(
    orch: Any, run_id: str, surroundings: Surroundings | None = None
) -> RunFacts:
    """
    Ask for the facts of a run.

    Args:
        orch: The orchestrator, or a simulation.
        run_id: The run of a workflow, or a task on its own.
        surroundings: The surroundings of all tasks; None: nobody knows.

    Raises:
        UnknownTaskError: There is no such run.
        InvalidTaskError: It is a task of a run.
        JournalError: The journal cannot be read.
    """
    around = Surroundings() if surroundings is None else surroundings
    above: Mapping[str, tuple[str, ...]] = {}
    versions: Sequence[Any] = ()
    try:
        run = orch.workflows.get(run_id)
    except UnknownTaskError:
        handles: Mapping[str, Any] = {"": orch.handle(run_id)}
        _refuse_part(orch, handles[""].task_id)
        statuses = {"": handles[""].status}
        state = statuses[""].state.value
        causes = {""} if statuses[""].state in _BAD else set()
    else:
        report = run.report()
        state = outcome(report.state.value, len(report.allowed))
        causes = {
            each.name
            for each in report.tasks
            if each.state in _BAD and not each.root_causes
        }
        handles = run.handles
        statuses = {name: each.status for name, each in handles.items()}
        above = run.dependencies
        versions = orch.workflows.versions(run_id)
    came = [each.submitted.timestamp() for each in statuses.values() if each.submitted]
    is_over = all(each.state.is_terminal for each in statuses.values())
    latest = [each.ended.timestamp() for each in statuses.values() if each.ended]
    around.reach(max(latest, default=0.0) if is_over else math.inf)
    tasks = {
        name: _task(
            name,
            each,
            (*above.get(name, ()), *_adder(each)),
            handles[name]._task,  # noqa: SLF001 - as pages do
            versions,
            around,
            is_cause=name in causes,
        )
        for name, each in statuses.items()
    }
    begun = [each.begun for each in tasks.values() if each.begun is not None]
    ended = [each.ended for each in tasks.values() if each.ended is not None]
    # Of a task that has left memory nobody knows when it ended: it may be the last one.
    is_over = is_over and not any(each.has_left for each in tasks.values())
    noted = (MadeFor(each.metadata).parameters for each in statuses.values())
    began = min(came or begun) if begun else None
    end = max(ended, default=None) if is_over else None
    return RunFacts(
        run_id,
        tasks,
        began,
        end,
        dict(next(filter(None, noted), {})),
        state,
        Around()
        if began is None
        else around.during(began, math.inf if end is None else end),
    )


def _adder(status: TaskStatus) -> tuple[str, ...]:
    """The task that has added it, if one has."""
    adder = name_of(stem_of(MadeFor(status.metadata).adder))
    return (adder,) if adder else ()


def _task(
    name: str,
    status: TaskStatus,
    needs: tuple[str, ...],
    task: Task | None,
    versions: Sequence[Any],
    around: Surroundings,
    *,
    is_cause: bool,
) -> TaskFacts:
    spells = _spells(status)
    if task is not None and issubclass(type(task.payload), Wait) and status.ended:
        # It has no attempt: it counts as one that began when it ended.
        spells = [(status.history[-1].at, status.history[-1].at)]
    return TaskFacts(
        name,
        status,
        needs,
        spells[0][0] if spells else None,
        # The history has it to the nanosecond, as the beginning of what came after it.
        status.history[-1].at if status.state.is_terminal and spells else None,
        sum(end - begin for begin, end in spells),
        task,
        _codes(versions, status, task),
        is_cause,
        _ready(status),
        sizes_of(status.result),
        # A worker may join and begin at once: the history has it to the nanosecond.
        around.machine(status.agent_id, spells[-1][0] if spells else None),
    )


def _ready(status: TaskStatus) -> float | None:
    """Return when a task was last queued before its first attempt; None: unknown."""
    ready = None
    for step in status.history:
        if step.state is TaskState.RUNNING:
            return ready
        ready = step.at if step.state is TaskState.QUEUED else None
    return None


def _spells(status: TaskStatus) -> list[tuple[float, float]]:
    """Return the starts and ends of its attempts; an unfinished one has no length."""
    steps = status.history
    return [
        (step.at, later.at)
        for step, later in zip(steps, (*steps[1:], *steps[-1:]), strict=True)
        if step.state is TaskState.RUNNING
    ]


def _codes(
    versions: Sequence[Any], status: TaskStatus, task: Task | None
) -> Mapping[str, str] | None:
    """Return the code digests of the latest attempt of a task; None: unknown."""
    if task is None or status.started is None or not versions:
        return None
    # The first version is noted when the first tasks may have begun already.
    had = versions[0]
    for version in versions:
        if version.since <= status.started:
            had = version
    called: dict[str, str] = had.called_by(task)
    function = getattr(task.payload, "fn", None)
    if issubclass(type(function), Missing):
        # Who only reads a journal cannot import what it calls.
        name = _name_of(function)
        return {**called, name: had.codes[name]} if name in had.codes else None
    return called


def _name_of(function: Any) -> str:
    """Return the name of a missing function, as a version of a run has it."""
    module, _, member = str(function.name).rpartition(":")
    return f"{module.partition('@')[0]}.{member}"
