"""
What an act would touch, without doing it: for whoever asks a person first.

It is true at the moment of the question, and binds nothing.

Decision: 0213.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from taskorch._managers._manager import (
    WorkflowManager,
    _asks_too_early,
    _backwards,
    _is_undone,
)
from taskorch.kernel import hangs_on
from taskorch.model import TERMINAL, TaskState, name_of, stem_of
from taskorch.runtime import added_by, runs_above

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """

    task_ids: tuple[str, ...]
    text: str
    does_something: bool = True


def restarted(manager: WorkflowManager, run_id: str) -> list[str]:
    """
    The tasks that `manager.restart` would run again now, parents before dependents.

    Raises:
        UnknownTaskError: There is no such run.
    """
    return _again(manager.get(run_id), lambda w: _is_undone(w) or _asks_too_early(w))


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
    ordered = _backwards(run)[::-1]
    count = -1
    with run._rt.lock:
        # A map has used what its calls came to, and stands before them.
        while count < len(again):
            count = len(again)
            for name, work in ordered:
                if name_of(added_by(work)) in renewed:
                    # What has added it makes all anew.
                    renewed.add(name)
                    continue
                row = work._row
                had = (name_of(each) for each in runs_above(run._rt, work))
                is_stale = not again.keys().isdisjoint(had) and (
                    row.state in TERMINAL or not hangs_on(row)
                )
                if name not in again and (is_first(work) or is_stale):
                    again[name] = row.id
                    if row.state is TaskState.COMPLETED:
                        renewed.add(name)
    return [*again.values()]


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
