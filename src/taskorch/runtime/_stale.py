"""
Which results are stale: what they depend on was run again since.

Nothing is kept of that: it follows from the runs that a task has had as its parents, and
from the latest runs there are. A run counts from its submission on, even if it brings
the same result as the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from taskorch.kernel import Kernel, TaskRow
from taskorch.model import TaskState
from taskorch.runtime._directory import Directory
from taskorch.runtime._reruns import stem_of
from taskorch.runtime._work import Work, is_skipped, names_above


class Owner(Protocol):
    """What is asked of a runtime, or of what stands for one."""

    kernel: Kernel
    directory: Directory


class Cause(NamedTuple):
    """Why a task is stale."""

    #: The task itself, or one that it depends on: this had an earlier run.
    task_id: str
    #: That earlier run.
    had: str


class Staleness:
    """
    Whether tasks are stale, at one moment.

    The caller has the lock, and asks one of these about many tasks: what has been found
    out of one is known for those that depend on it.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._found: dict[TaskRow, Cause | None] = {}

    def cause(self, work: Work) -> Cause | None:
        """Why the task of *work* is stale; None if it is not, or has a later run."""
        owner, found = self._owner, self._found
        if work._row.id not in owner.kernel.tasks:
            had = replaced(owner, work)
            return Cause(work._row.id, had) if had else None
        if not owner.directory.reruns.is_latest(work._row.id):
            return None
        tasks = owner.kernel.tasks
        todo = [work._row]
        while todo and not owner.directory.reruns.is_empty:
            row = todo.pop()
            if row in found:
                continue
            had = replaced(owner, row.cargo)
            if had:
                found[row] = Cause(row.id, had)
                continue
            # What has left memory is not followed further.
            above = [tasks[name] for name in runs_above(owner, row) if name in tasks]
            unknown = [parent for parent in above if parent not in found]
            if unknown:
                todo += [row, *unknown]
                continue
            causes = (found[parent] for parent in above)
            found[row] = next((cause for cause in causes if cause is not None), None)
        return found.get(work._row)


def replaced(owner: Owner, work: Work) -> str:
    """
    Under the lock: a run that *work* depends on, after which there was a later one.

    Empty if there is none. Of a run that it was given although there was a later one
    already, nothing is to be said. Where it has left memory, the journal is asked.
    """
    row, tasks, reruns = work._row, owner.kernel.tasks, owner.directory.reruns
    if row.id not in tasks:
        return _replaced_of_gone(owner, work)
    for name in () if reruns.is_empty else runs_above(owner, row):
        latest = reruns.latest(stem_of(name))
        newest = tasks.get(latest)
        if latest != name and (newest is None or newest.seq > row.seq):
            return name
    return ""


def _replaced_of_gone(owner: Owner, work: Work) -> str:
    directory, row = owner.directory, work._row
    names = names_above(work)
    if directory.recovered is None or not names:
        return ""
    _learn_runs(directory, (stem_of(row.id), *map(stem_of, names)))
    if not directory.reruns.is_latest(row.id):
        return ""
    # While it waited, it went on to later runs.
    until = row.started_ns or row.ended_ns
    for name in names:
        latest = directory.latest(stem_of(name))._row
        if latest.id != name and latest.submitted_ns > until:
            return name
    return ""


def runs_above(owner: Owner, row: TaskRow) -> list[str]:
    """Under the lock: the ids of the runs on which the result of *row* depends."""
    if row.state is TaskState.CANCELLED and not is_skipped(row):
        return []
    work: Work = row.cargo
    turned = {} if work._extra is None else work._extra.turned
    found: list[str] = []
    for name in names_above(work):
        run = name
        while run in turned:
            run = turned[run]
        found.append(run)
    terms = None if row.links is None else row.links.terms
    if terms is None or not terms.joined or terms.join in ("all", "finished", "asked"):
        return found
    # Of some that had to complete, the others do not matter.
    kernel = owner.kernel
    done = [
        name
        for name in found
        if TaskState.COMPLETED
        is (kernel.tasks[name].state if name in kernel.tasks else kernel.retired.get(name))
    ]
    least = terms.join if isinstance(terms.join, int) else 1
    return done if len(done) >= least else found


def _learn_runs(directory: Directory, stems: Iterable[str]) -> None:
    """Learn from the journal of later runs, which may have left memory."""
    assert directory.recovered is not None  # noqa: S101 - the caller looked
    names = dict.fromkeys(stems)
    for stem in names:
        for name in directory.recovered.ids(f"{stem}~"):
            directory.reruns.note(name)
    directory.recall(names)


def dependents(owner: Owner, row: TaskRow) -> list[TaskRow]:
    """
    Under the lock: what depends on *row*, however indirectly, of what is in memory.

    Each comes after all of it that it depends on.
    """
    below: dict[str, list[TaskRow]] = {}
    for each in owner.kernel.tasks.values():
        if each.links is not None and owner.directory.reruns.is_latest(each.id):
            for name in runs_above(owner, each):
                below.setdefault(stem_of(name), []).append(each)
    # In depth first, and what is left last comes first.
    found: dict[TaskRow, None] = {}
    seen = {row}
    todo = [(row, iter(below.get(stem_of(row.id), ())))]
    while todo:
        each, rest = todo[-1]
        child = next(rest, None)
        if child is None:
            found[each] = None
            todo.pop()
        elif child not in seen:
            seen.add(child)
            todo.append((child, iter(below.get(stem_of(child.id), ()))))
    del found[row]
    return list(found)[::-1]
