"""
What an act would touch, without doing it: for whoever asks a person first.

It is true at the moment of the question, and binds nothing.

Decision: 0213.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from taskorch._managers._manager import (
    WorkflowManager,
    _asks_too_early,
    _backwards,
    _is_undone,
)
from taskorch.kernel import hangs_on
from taskorch.kit.visible import counted
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import name_of, stem_of
from taskorch.runtime import added_by, may_run_without, runs_above

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from taskorch._managers._run import WorkflowRun
    from taskorch.runtime import Work


@attrs.frozen
class Foreseen:
    """
    What an act would touch.

    Attributes:
        task_ids: The tasks, or the runs, or what would be made, in their order.
        text: What would become of them, in a sentence or two.
        does_something: Whether there is anything to do.
        parameters: What a form asks for: `name`, what it `is`, whether it is `needed`,
            else its `value`.
    """

    task_ids: tuple[str, ...]
    text: str
    does_something: bool = True
    parameters: Sequence[Mapping[str, Any]] = ()


def restarted(manager: WorkflowManager, run_id: str) -> list[str]:
    """
    The tasks that `manager.restart` would run again now, parents before dependents.

    Raises:
        UnknownTaskError: There is no such run.
    """
    return _again(manager.get(run_id), lambda w: _is_undone(w) or _asks_too_early(w))


def many_tasks(ids: Collection[str], one: str, many: str) -> str:
    """How many tasks do something: the verb of one, and that of many."""
    return f"{counted(len(ids), 'task')} {one if len(ids) == 1 else many}"


def restart_of_run(manager: WorkflowManager, run_id: str) -> Foreseen:
    """
    What `manager.restart` would touch.

    Raises:
        UnknownTaskError: There is no such run.
    """
    ids = restarted(manager, run_id)
    if not ids:
        text = "Nothing of it failed or was cancelled."
        return Foreseen((), text, does_something=False)
    opened = {*open_of(manager.get(run_id))}.difference(ids)
    text = f"Runs {counted(len(ids), 'task')} again."
    if opened:
        text += f" {many_tasks(opened, 'that waited goes', 'that waited go')} on."
    return Foreseen(tuple(ids), text)


def cancel_of_run(manager: WorkflowManager, run_id: str) -> Foreseen:
    """
    What `manager.cancel` would touch.

    Raises:
        UnknownTaskError: There is no such run.
    """
    ids = open_of(manager.get(run_id))
    if not ids:
        return Foreseen((), "All its tasks have ended.", does_something=False)
    return Foreseen(tuple(ids), f"Cancels {counted(len(ids), 'task')}.")


def cancel_of_task(orch: Any, task_id: str) -> Foreseen:
    """
    What `orch.cancel_task` would touch.

    Raises:
        UnknownTaskError: There is no such task.
    """
    status = orch.get_task_status(task_id)
    if status.state in TERMINAL:
        text = f"It has ended already: it is {status.state}."
        return Foreseen((), text, does_something=False)
    waiting = waiting_for(orch, task_id)
    text = f"Cancels {status.task_id}, which is {status.state}."
    if waiting:
        text += f" {many_tasks(waiting, 'waits', 'wait')} for it, and will lack it."
    return Foreseen((status.task_id,), text)


def rerun_of_task(orch: Any, task_id: str) -> Foreseen:
    """
    What `orch.rerun_task` would touch.

    Raises:
        UnknownTaskError: There is no such task.
    """
    status = orch.get_task_status(task_id)
    if status.state not in TERMINAL:
        text = f"It has not ended: it is {status.state}."
        return Foreseen((), text, does_something=False)
    ids = rerun(orch, task_id)
    text = f"Runs {counted(len(ids), 'task')} again."
    if len(ids) > 1:
        text += " The others had its earlier result."
    waiting = [i for i in waiting_for(orch, task_id) if i not in ids]
    if waiting:
        text += f" {many_tasks(waiting, 'waits', 'wait')} for what it comes to."
    return Foreseen(tuple(ids), text)


def rerun(orch: Any, task_id: str) -> list[str]:
    """
    The tasks that `orch.rerun_task` would run again now, itself first.

    Raises:
        UnknownTaskError: There is no such task.
    """
    work = orch.handle(task_id)
    if not work._row.run:
        return [work.task_id]
    stem = stem_of(work.task_id)
    run = orch.workflows.get(work._row.run)
    return _again(run, lambda each: stem_of(each._row.id) == stem)


def _again(run: WorkflowRun, is_first: Callable[[Work], bool]) -> list[str]:
    """The first ones, and those that have had what one of these has come to."""
    again: dict[str, str] = {}
    renewed: set[str] = set()
    #: What is blocked, and goes on as the same run.
    freed: set[str] = set()
    ordered = _backwards(run)[::-1]
    size = -1
    # What has asked for a result may stand before the task that had it.
    while size < len(again) + len(freed):
        size = len(again) + len(freed)
        with run._rt.lock:
            for name, work in ordered:
                if name not in again:
                    _foresee(run, name, work, is_first, again, renewed, freed)
    return [*again.values()]


def _foresee(
    run: WorkflowRun,
    name: str,
    work: Work,
    is_first: Callable[[Work], bool],
    again: dict[str, str],
    renewed: set[str],
    freed: set[str],
) -> None:
    """Under the lock: enter a task in what becomes of it, by what becomes of others."""
    if name_of(added_by(work)) in renewed:
        # What has added it makes all anew.
        renewed.add(name)
        return
    row = work._row
    had = {name_of(each) for each in runs_above(run._rt, work)}
    has_begun = row.state in TERMINAL or not hangs_on(row)
    if not (has_begun or (again.keys() | freed).isdisjoint(had)):
        freed.add(name)
    is_stale = has_begun and (
        not again.keys().isdisjoint(had)
        or (bool(row.attempt) and may_run_without(work) and not freed.isdisjoint(had))
    )
    if is_first(work) or is_stale:
        again[name] = row.id
        if row.state is TaskState.COMPLETED:
            renewed.add(name)


def open_of(run: WorkflowRun) -> list[str]:
    """The tasks of a run that have not ended."""
    return [
        work.task_id for work in run.handles.values() if work._row.state not in TERMINAL
    ]


def waiting_for(orch: Any, task_id: str) -> list[str]:
    """The tasks in memory that wait for a task, however indirectly."""
    rt = orch._rt
    with rt.lock:
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        ids: dict[str, None] = {}
        todo = [] if row is None else [row]
        while todo:
            links = todo.pop().links
            for each in () if links is None else links.dependents:
                if each.state not in TERMINAL and each.id not in ids:
                    ids[each.id] = None
                    todo.append(each)
    return [*ids]
