"""
Which results are stale: what they depend on was run again since.

Nothing is kept of that: it follows from the runs that a task has had as its parents,
and from the latest runs there are. A run counts from its submission on, even if it
brings the same result as the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from taskorch.events import (
    CLS,
    Fact,
    TaskCancelled,
    TaskCompleted,
    TaskParentsAdded,
    TaskRepointed,
    TaskSubmitted,
)
from taskorch.kernel import SKIPPED, Kernel, TaskRow
from taskorch.model import TaskState
from taskorch.runtime._directory import Directory
from taskorch.runtime._reruns import number_of, stem_of
from taskorch.runtime._work import Work, is_skipped, names_above

_COMPLETED: Final = TaskState.COMPLETED
#: Tasks above one that the journal is asked for.
_MOST: Final = 1_000


class StaleHost(Protocol):
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

    def __init__(self, host: StaleHost) -> None:
        self._owner = host
        self._found: dict[TaskRow, Cause | None] = {}
        self._kept: Kept | None = _kept(host)

    def cause(self, work: Work) -> Cause | None:
        """Why the task of *work* is stale; None if it is not, or has a later run."""
        owner, found = self._owner, self._found
        if work._row.id not in owner.kernel.tasks:
            return None if self._kept is None else self._kept.cause(work._row.id)
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
            above = [
                tasks[name] for name in runs_above(owner, row.cargo) if name in tasks
            ]
            unknown = [parent for parent in above if parent not in found]
            if unknown:
                todo += [row, *unknown]
                continue
            causes = (found[parent] for parent in above)
            found[row] = next((cause for cause in causes if cause is not None), None)
        return found.get(work._row)


def replaced(host: StaleHost, work: Work) -> str:
    """
    Under the lock: a run that *work* depends on, after which there was a later one.

    Empty if there is none. Of a run that it was given although there was a later one
    already, nothing is to be said. Where it has left memory, the journal is asked.
    """
    row, tasks, reruns = work._row, host.kernel.tasks, host.directory.reruns
    if row.id not in tasks:
        kept = _kept(host)
        if kept is None or all(map(kept.is_latest, names_above(work))):
            return ""
        return kept.replaced(row.id)
    for name in () if reruns.is_empty else runs_above(host, work):
        latest = reruns.latest(stem_of(name))
        newest = tasks.get(latest)
        if number_of(latest) > number_of(name) and (
            newest is None or newest.seq > row.seq
        ):
            return name
    return ""


def _kept(host: StaleHost) -> Kept | None:
    """What the journal says of what has left memory, if there is one."""
    recovered = host.directory.recovered
    return None if recovered is None else Kept(recovered.facts, recovered.latest)


class Kept:
    """
    Finds stale tasks from the facts in a journal.

    Args:
        facts_of: Gives the facts about a run of a task, in order.
        latest: Gives the latest run of a task, by the id that all its runs have.
    """

    def __init__(
        self, facts_of: Callable[[str], Iterable[Fact]], latest: Callable[[str], str]
    ) -> None:
        self._facts_of, self._latest = facts_of, latest
        self._known: dict[str, list[Fact]] = {}
        #: What is known not to be stale.
        self._fresh: set[str] = set()

    def is_latest(self, task_id: str) -> bool:
        """Whether a run of a task is the latest."""
        return self._latest(stem_of(task_id)) == task_id

    def cause(self, task_id: str) -> Cause | None:
        """
        Why a run of a task is stale; None if it is not, or has a later run.

        Only so many of those that it depends on are looked at.
        """
        if not self.is_latest(task_id):
            return None
        seen = {task_id: None}
        todo = [task_id]
        while todo and len(seen) < _MOST:
            name = todo.pop()
            had = self.replaced(name)
            if had:
                return Cause(name, had)
            for above in self.runs_above(name):
                if above not in seen and above not in self._fresh:
                    seen[above] = None
                    todo.append(above)
        self._fresh.update(seen)
        return None

    def replaced(self, task_id: str) -> str:
        """The run whose result replaced one that *task_id* used: see `replaced`."""
        for name in self.runs_above(task_id):
            latest = self._latest(stem_of(name))
            if latest != name and self._began(latest) > self._began(task_id):
                return name
        return ""

    def _facts(self, task_id: str) -> list[Fact]:
        found = self._known.get(task_id)
        if found is None:
            found = self._known[task_id] = list(self._facts_of(task_id))
        return found

    def _began(self, task_id: str) -> int:
        """The number of the submission."""
        facts = self._facts(task_id)
        return facts[0].seq if facts else 0

    def runs_above(self, task_id: str) -> list[str]:
        """Runs that *task_id* waited for: see `runs_above`."""
        found: list[str] = []
        join: str | int = "all"
        for fact in self._facts(task_id):
            if type(fact) is TaskSubmitted:
                submitted: TaskSubmitted = fact
                join = submitted.join
                found += submitted.after
            elif type(fact) is TaskParentsAdded:
                found += fact.after
            elif type(fact) is TaskCancelled and not fact.reason.startswith(SKIPPED):
                return []
        found = [self._turned(name, task_id) for name in found]
        done = [
            n for n in found if any(f[CLS] is TaskCompleted for f in self._facts(n))
        ]
        return _that_count(join, found, done)

    def _turned(self, name: str, task_id: str) -> str:
        """The run that *task_id* had, after it had waited for *name*."""
        for fact in self._facts(name):
            if type(fact) is TaskRepointed and task_id in fact.dependents:
                return self._turned(fact.rerun_id, task_id)
        return name


def _that_count(join: str | int, found: list[str], done: list[str]) -> list[str]:
    """Those of the parents *found* that satisfied *join*; *done* have completed."""
    if join in ("all", "finished", "asked"):
        return found
    # Where some had to complete, the others do not matter, unless it ran without.
    return done if len(done) >= (join if isinstance(join, int) else 1) else found


def runs_above(host: StaleHost, work: Work) -> list[str]:
    """
    Under the lock: the ids of the runs on which the result of *work* depends.

    Where it has left memory, the journal is asked.
    """
    row = work._row
    if row.id not in host.kernel.tasks:
        kept = _kept(host)
        return [] if kept is None else kept.runs_above(row.id)
    if row.state is TaskState.CANCELLED and not is_skipped(row):
        return []
    turned = {} if work._extra is None else work._extra.turned
    found: list[str] = []
    for name in names_above(work):
        run = name
        while run in turned:
            run = turned[run]
        found.append(run)
    terms = None if row.links is None else row.links.terms
    if terms is None or not terms.joined:
        return found
    tasks, evicted = host.kernel.tasks, host.kernel.evicted
    done = [
        name
        for name in found
        if _COMPLETED is (tasks[name].state if name in tasks else evicted.get(name))
    ]
    return _that_count(terms.join, found, done)


def dependents(host: StaleHost, row: TaskRow) -> list[TaskRow]:
    """
    Under the lock: what depends on *row*, however indirectly, of what is in memory.

    Each comes after all of it that it depends on.
    """
    below: dict[str, list[TaskRow]] = {}
    for each in host.kernel.tasks.values():
        if each.links is not None and host.directory.reruns.is_latest(each.id):
            for name in runs_above(host, each.cargo):
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
