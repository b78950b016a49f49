"""What is known of one run: its tasks, when they ran, and what they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.kit.visible import said, visible
from taskorch.kit.words import outcome
from taskorch.model import MadeFor, Task, TaskState, TaskStatus
from taskorch.model.ids import name_of, stem_of

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
        task: What was submitted; None if nobody knows any more.
        codes: The digests of the functions that it called, by their names; None: they
            are not known.
        is_cause: Whether it failed, or was cancelled, by itself.
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

    @property
    def error(self) -> str:
        """Why it did not complete, in a line; "" if it did, or has not ended."""
        error = self.status.error
        if error is None:
            return ""
        kind, message = said(error)
        return visible(f"{kind}: {message}".partition("\n")[0].removesuffix(": "))


@attrs.frozen
class RunFacts:
    """
    One run.

    Attributes:
        run_id: Its id.
        tasks: Its tasks, by their names.
        began: When its first attempt began, in seconds since the epoch.
        ended: When its last one ended; None while it goes on.
        parameters: What its workflow was given.
        state: Its state, in words: `completed, 1 failure allowed`.
    """

    run_id: str
    tasks: Mapping[str, TaskFacts]
    began: float | None
    ended: float | None
    parameters: Mapping[str, Any]
    state: str

    @property
    def seconds(self) -> float | None:
        """From its begin to its end; None: that is not known, or not yet."""
        if self.began is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.began)


def facts_of(orch: Any, run_id: str) -> RunFacts:
    """
    Ask what is known of a run.

    Args:
        orch: The orchestrator.
        run_id: The run of a workflow, or a task on its own.

    Raises:
        UnknownTaskError: There is no such run.
        JournalError: The journal cannot be read.
    """
    above: Mapping[str, tuple[str, ...]] = {}
    versions: Sequence[Any] = ()
    try:
        run = orch.workflows.get(run_id)
    except UnknownTaskError:
        status = orch.get_task_status(run_id)
        statuses = {"": status}
        state = status.state.value
        causes = {""} if status.state in _BAD else set()
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
    tasks = {
        name: _task(
            orch,
            name,
            each,
            (*above.get(name, ()), *_adder(each)),
            versions,
            is_cause=name in causes,
        )
        for name, each in statuses.items()
    }
    begun = [each.begun for each in tasks.values() if each.begun is not None]
    ended = [each.ended for each in tasks.values() if each.ended is not None]
    is_over = all(each.state.is_terminal for each in statuses.values())
    noted = (MadeFor(each.metadata).parameters for each in statuses.values())
    return RunFacts(
        run_id,
        tasks,
        min(begun, default=None),
        max(ended, default=None) if is_over else None,
        dict(next(filter(None, noted), {})),
        state,
    )


def _adder(status: TaskStatus) -> tuple[str, ...]:
    """The task that has added it, if one has."""
    adder = name_of(stem_of(MadeFor(status.metadata).adder))
    return (adder,) if adder else ()


def _task(
    orch: Any,
    name: str,
    status: TaskStatus,
    needs: tuple[str, ...],
    versions: Sequence[Any],
    *,
    is_cause: bool,
) -> TaskFacts:
    spells = _spells(status)
    ended = status.ended.timestamp() if status.ended and spells else None
    task = None
    with suppress(TaskorchError):
        task = orch.handle(status.task_id)._task  # noqa: SLF001 - as pages do
    return TaskFacts(
        name,
        status,
        needs,
        spells[0][0] if spells else None,
        ended,
        sum(end - begin for begin, end in spells),
        task,
        _codes(versions, status, task),
        is_cause,
    )


def _spells(status: TaskStatus) -> list[tuple[float, float]]:
    """When its attempts began and ended; one that goes on has no length yet."""
    steps = status.history
    return [
        (step.at, later.at)
        for step, later in zip(steps, (*steps[1:], *steps[-1:]), strict=True)
        if step.state is TaskState.RUNNING
    ]


def _codes(
    versions: Sequence[Any], status: TaskStatus, task: Task | None
) -> Mapping[str, str] | None:
    """The digests of what the latest attempt of a task called; None: nobody knows."""
    if task is None or status.started is None or not versions:
        return None
    # The first one is noted while the first tasks may have begun.
    had = versions[0]
    for version in versions:
        if version.since <= status.started:
            had = version
    called: Mapping[str, str] = had.called_by(task)
    return called
