"""What is known of one run: its tasks, when they ran, and what they were made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import isroutine
from typing import Any

import attrs

from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.kit.visible import said, visible
from taskorch.model import Call, MadeFor, Task, TaskState, TaskStatus
from taskorch.model.ids import name_of, stem_of


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
    """

    name: str
    status: TaskStatus
    needs: tuple[str, ...]
    begun: float | None
    ended: float | None
    work: float
    task: Task | None = None
    codes: Mapping[str, str] | None = None

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
    """

    run_id: str
    tasks: Mapping[str, TaskFacts]
    began: float | None
    ended: float | None
    parameters: Mapping[str, Any]

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
        statuses = {"": orch.get_task_status(run_id)}
    else:
        handles = run.handles
        statuses = {name: each.status for name, each in handles.items()}
        above = run._above(handles)  # noqa: SLF001 - as pages do
        versions = orch.workflows.versions(run_id)
    tasks = {
        name: _task(
            orch, name, status, (*above.get(name, ()), *_adder(status)), versions
        )
        for name, status in statuses.items()
    }
    begun = [each.begun for each in tasks.values() if each.begun is not None]
    ended = [each.ended for each in tasks.values() if each.ended is not None]
    is_over = all(status.state.is_terminal for status in statuses.values())
    noted = (MadeFor(each.metadata).parameters for each in statuses.values())
    return RunFacts(
        run_id,
        tasks,
        min(begun, default=None),
        max(ended, default=None) if is_over else None,
        dict(next(filter(None, noted), {})),
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
    )


def _spells(status: TaskStatus) -> list[tuple[float, float]]:
    """When its attempts began and ended; one that goes on has no length yet."""
    steps = status.history
    return (
        [
            (step.at, later.at)
            for step, later in zip(steps, [*steps[1:], steps[-1]], strict=True)
            if step.state is TaskState.RUNNING
        ]
        if steps
        else []
    )


def _codes(
    versions: Sequence[Any], status: TaskStatus, task: Task | None
) -> Mapping[str, str] | None:
    """The digests of what the latest attempt of a task called; None: nobody knows."""
    if task is None or status.started is None or not versions:
        return None
    # The first one is noted while the first tasks may have begun.
    had = versions[0].codes
    for version in versions:
        if version.since <= status.started:
            had = version.codes
    return {name: had[name] for name in _called(task) if name in had}


def _called(task: Task) -> Iterator[str]:
    """The names of the functions that a task calls, or hands on."""
    todo: list[Any] = [task.payload] if isinstance(task.payload, Call) else []
    while todo:
        value = todo.pop()
        if isinstance(value, Call):
            todo += [value.fn, *value.args, *value.kwargs.values()]
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        elif isroutine(value):
            yield f"{value.__module__}.{value.__qualname__}"
