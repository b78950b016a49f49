"""
Stale results: their task depends on, or was added by, a task that ran again since.

Nothing is stored for that: it follows from the runs that a task has had as its parents,
or has asked for the results of, from the run that has added it, and from the latest
runs there are. A run counts from its submission on, even if it brings the same result
as the one before.

A task is stale, too, that ran without a task which was blocked, and which went on since
as the same run. Times, and in a journal numbers, say which of the two came first.

Every decision on what runs again for that is made here: for a re-run, a restart, a
submission of existing tasks, and for the previews of these.

Decisions: joins-and-stale-tasks, reruns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from taskorch.core.engine._work import (
    ADDED,
    Work,
    added_by,
    is_gone,
    is_skipped,
    names_above,
    since_of,
)
from taskorch.core.kernel import SKIPPED, TaskRow, hangs_on, is_broken, is_under_way
from taskorch.events import (
    Event,
    ResultsUsed,
    TaskCancelled,
    TaskCompleted,
    TaskParentsAdded,
    TaskRenewed,
    TaskRepointed,
    TaskStarted,
    TaskSubmitted,
    TaskUnblocked,
)
from taskorch.model import TERMINAL, Task, TaskState
from taskorch.model.ids import number_of, stem_of
from taskorch.protocols import Entry

if TYPE_CHECKING:
    from taskorch.core.engine._reruns import Reruns
    from taskorch.core.kernel import Kernel

_COMPLETED: Final = TaskState.COMPLETED
#: The most tasks above one that the journal is asked for.
_MOST: Final = 1_000


class Recalled(Protocol):
    """Protocol: reads tasks that have left memory in a journal."""

    def entries_of(self, ids: Collection[str]) -> dict[str, list[Entry]]:
        """Return the events about many runs of tasks, by their ids."""
        ...

    def rows_of(self, ids: Collection[str]) -> list[TaskRow]:
        """Return tasks in the journal, as rows of no kernel."""
        ...

    def latest_of(self, stems: Collection[str]) -> dict[str, str]:
        """Return the latest run of each task, by the id that all its runs have."""
        ...


class KnowsRuns(Protocol):
    """Protocol: knows the runs of each task."""

    reruns: Reruns

    @property
    def recovered(self) -> Recalled | None:
        """Reads tasks that have left memory; None if no journal can."""
        ...


class Known(Protocol):
    """Protocol: a runtime or a simulated one, as far as staleness needs it."""

    kernel: Kernel

    @property
    def directory(self) -> KnowsRuns:
        """The runs of each task."""
        ...


class Cause(NamedTuple):
    """The reason why a task is stale."""

    #: The task, or one that it depends on, which used an earlier run of another task.
    task_id: str
    #: That earlier run; or the latest, which had been blocked when the task began.
    had: str
    #: Whether that run has added the task; else the task has used its result.
    by_adder: bool = False


#: A task, and whether all its dependencies count. For tasks that it has added, only
#: those count that it was given, and not results that it has asked for since.
_Node: TypeAlias = tuple[TaskRow, bool]


class Staleness:
    """
    A runtime at one moment: finds out whether tasks are stale.

    The caller has the lock, and asks one instance about many tasks: findings about one
    serve for those that depend on it, and the journal is asked once for each.

    Attributes:
        kernel: The tasks in memory.
        reruns: The runs of each task.
        recovered: What has been read in the journal; None if it cannot be asked.
    """

    def __init__(self, rt: Known) -> None:
        self.kernel: Kernel = rt.kernel
        self.reruns: Reruns = rt.directory.reruns
        self.recovered: Kept | None = _kept(rt)
        self._found: dict[_Node, Cause | None] = {}

    @property
    def directory(self) -> Staleness:
        """The runs of each task, too."""
        return self

    def look(self, works: Iterable[Work]) -> None:
        """Read at once about those of *works* that have left memory."""
        rows = (work._row for work in works)
        gone = [row.id for row in rows if row.id not in self.kernel.tasks]
        if self.recovered:
            self.recovered.look(gone)

    def among(self, works: Mapping[str, Work]) -> tuple[str, ...]:
        """Return the names of those of *works* that are stale."""
        # Where no task was run again, few can be stale.
        is_each = not self.reruns.is_empty
        if is_each:
            self.look(works.values())
        return tuple(
            name
            for name, work in works.items()
            if (is_each or may_run_without(work)) and self.cause(work) is not None
        )

    def cause(self, work: Work) -> Cause | None:
        """Return why *work* is stale; None if it is not, or has a later run."""
        found = self._found
        if work._row.id not in self.kernel.tasks:
            return (
                None if self.recovered is None else self.recovered.cause(work._row.id)
            )
        reruns = self.reruns
        if reruns.is_empty:
            late = _late(self, work)
            return Cause(work._row.id, late) if late else None
        if not reruns.is_latest(work._row.id):
            return None
        begun: set[_Node] = set()
        first = (work._row, True)
        todo = [first]
        while todo:
            node = todo.pop()
            if node in found:
                continue
            cause = self._own_cause(*node)
            if cause is not None:
                found[node] = cause
                continue
            above = self._above(*node)
            # A task that has begun and is not decided yet is on the path to this one.
            unknown = [n for n in above if n not in found and n not in begun]
            if unknown:
                begun.add(node)
                todo += [node, *unknown]
                continue
            causes = (found.get(n) for n in above)
            cause = next((cause for cause in causes if cause is not None), None)
            found[node] = self._cause_gone(*node) if cause is None else cause
        return found.get(first)

    def _own_cause(self, row: TaskRow, with_used: bool) -> Cause | None:
        had = replaced(self, row.cargo, with_used=with_used)
        if had:
            return Cause(row.id, had)
        if is_outdated(self, row.cargo):
            return Cause(row.id, added_by(row.cargo), by_adder=True)
        return None

    def _above(self, row: TaskRow, with_used: bool) -> list[_Node]:
        """Return the tasks in memory that a task depends on, or was added by."""
        tasks = self.kernel.tasks
        runs = self._runs_above(row, with_used)
        return [(tasks[name], used) for name, used in runs if name in tasks]

    def _runs_above(self, row: TaskRow, with_used: bool) -> list[tuple[str, bool]]:
        """Return the ids of tasks that a task depends on, or was added by."""
        names = runs_above(self, row.cargo, with_used=with_used)
        runs = [(name, True) for name in names]
        adder = added_by(row.cargo)
        if adder:
            latest = self.reruns.latest(stem_of(adder))
            runs.append((latest, False))
        return runs

    def _cause_gone(self, row: TaskRow, with_used: bool) -> Cause | None:
        """Return why a task is stale because of one out of memory; or None."""
        kept, tasks = self.recovered, self.kernel.tasks
        if kept is None:
            return None
        causes = (
            kept.cause(name, with_used=used)
            for name, used in self._runs_above(row, with_used)
            if name not in tasks
        )
        return next((cause for cause in causes if cause is not None), None)


def replaced(rt: Known, work: Work, *, with_used: bool = True) -> str:
    """
    Return a run that *work* used and a later one replaced; else ""; hold the lock.

    It may also be a run that was blocked when *work* began, and went on since. A run
    that the task was given although there was a later one already does not count. For a
    task that has left memory, the journal is read.
    """
    row, tasks, reruns = work._row, rt.kernel.tasks, rt.directory.reruns
    if row.id not in tasks:
        kept = _kept(rt)
        if kept is None:
            return ""
        # A handle whose task has left memory does not know the parents any more.
        is_known = work._task is not None and not may_run_without(work)
        names = (*names_above(work), *used_by(work))
        if is_known and all(map(kept.is_latest, names)):
            return ""
        return kept.replaced(row.id)
    if reruns.is_empty:
        return _late(rt, work)
    for name in runs_above(rt, work, with_used=with_used):
        latest = reruns.latest(stem_of(name))
        newest = tasks.get(latest)
        if number_of(latest) > number_of(name) and (
            newest is None or newest.seq > row.seq
        ):
            return name
    return _late(rt, work)


def is_due(rt: Known, work: Work) -> bool:
    """
    Return whether *work* used a run that was replaced; hold the lock.

    It need not if there is a later run of it, or if the new definition of its workflow
    run lacks it; nor if the task that added it starts anew, and adds it again.
    """
    is_last = rt.directory.reruns.is_latest(work._row.id) and not is_gone(work._row)
    return is_last and bool(replaced(rt, work)) and not is_outdated(rt, work)


def goes_with(parent: Work, child: Work) -> bool:
    """
    Return whether *child* runs again if its parent *parent* does; hold the lock.

    Else it still waits for the parent, and goes on to its new run.
    """
    return parent._row.state is _COMPLETED or not hangs_on(child._row)


def may_run_without(work: Work) -> bool:
    """Return whether *work* may run without the result of some parent."""
    task = work._task
    return task is not None and _may_lack(task)


def _may_lack(task: Task | TaskSubmitted) -> bool:
    if task.join == "asked" or callable(task.join):
        return False
    return task.join != "all" or task.on_parent_failure == "run"


def _late(rt: Known, work: Work) -> str:
    """
    Return a parent that was unblocked after *work* began; hold the lock.

    Return "" if there is none, or if it did not matter.
    """
    row, tasks = work._row, rt.kernel.tasks
    terms = None if row.links is None else row.links.terms
    if terms is None or not (terms.joined and row.attempt) or terms.join == "asked":
        return ""
    if not (row.state in TERMINAL or is_under_way(row)):
        # Its next attempt is given the results that exist then.
        return ""
    if row.state is TaskState.CANCELLED:
        return ""
    late = ""
    before = 0
    for name in parents_of(work):
        parent = tasks.get(name)
        if parent is None:
            kept = _kept(rt)
            return "" if kept is None else kept.late(row.id)
        if parent.state is _COMPLETED and parent.ended_ns <= row.started_ns:
            before += 1
        elif not is_broken(parent) or _went_on(parent, row.started_ns):
            late = late or name
    return "" if _sufficed(terms.join, before) else late


def _went_on(parent: TaskRow, since_ns: int) -> bool:
    """Return whether *parent* was unblocked after a time, however it ended."""
    past = () if parent.extra is None else parent.extra.past or ()
    return any(state is TaskState.PENDING and at > since_ns for state, at, _ in past)


def _sufficed(join: str | int, done: int) -> bool:
    """Return whether *done* completed parents met *join* without the others."""
    return join not in _ALL and done >= (join if isinstance(join, int) else 1)


def is_outdated(rt: Known, work: Work) -> bool:
    """
    Return whether a task that had added *work* makes all anew since; hold the lock.

    The task that it adds again is another run of the same one.
    """
    adder = added_by(work)
    reruns = rt.directory.reruns
    latest = reruns.latest(stem_of(adder))
    if latest == adder:
        return False
    row = rt.kernel.tasks.get(latest)
    if row is not None:
        since = since_of(row.cargo)
    elif rt.directory.recovered is not None:
        since = _since(_entries(rt.directory.recovered, latest))
    else:
        return False
    return bool(since) and number_of(adder) < number_of(since)


def is_left_out(rt: Known, work: Work) -> bool:
    """
    Return whether the task that added *work* completed without it; hold the lock.

    It is also left out if the new definition of its workflow run lacks it. Then it is
    no part of its run any more.
    """
    adder = added_by(work)
    if is_gone(work._row) or not adder:
        return is_gone(work._row)
    latest = rt.directory.reruns.latest(stem_of(adder))
    row = rt.kernel.tasks.get(latest)
    if not is_outdated(rt, work):
        if row is None and (recovered := rt.directory.recovered) is not None:
            # It has left memory.
            row = next(iter(recovered.rows_of((latest,))), None)
        return row is not None and is_left_out(rt, row.cargo)
    state = rt.kernel.evicted.get(latest) if row is None else row.state
    return state is _COMPLETED


def added_below(
    rt: Known, work: Work, is_meant: Callable[[Work], bool] | None = None
) -> list[Work]:
    """
    Return tasks in memory that runs of *work* have added, however indirectly.

    With *is_meant*, of those that they have added themselves, only these are returned,
    with all that these have added. The caller holds the lock.
    """
    reruns, first = rt.directory.reruns, stem_of(work._row.id)
    if first not in reruns.adders:
        return []
    below: dict[str, list[Work]] = {}
    for row in rt.kernel.tasks.values():
        adder = added_by(row.cargo)
        if adder and row.run == work._row.run:
            below.setdefault(stem_of(adder), []).append(row.cargo)
    works = below.pop(first, [])
    works = works if is_meant is None else [*filter(is_meant, works)]
    for added in works:
        works += below.pop(stem_of(added._row.id), ())
    return works


def note_left_out(rt: Known, row: TaskRow, now: int) -> None:
    """
    Record the tasks that only earlier runs of a task have added; hold the lock.

    They are a part of the run until the latest, *row*, has completed.
    """
    work: Work = row.cargo
    if row.state is not _COMPLETED or work is None:
        return

    def is_old(added: Work) -> bool:
        is_latest = rt.directory.reruns.is_latest(added._row.id)
        return is_latest and is_outdated(rt, added)

    works = added_below(rt, work, is_old)
    stems = tuple(dict.fromkeys(stem_of(each._row.id) for each in works))
    if stems:
        rt.directory.reruns.left.update(stems)
        since = since_of(work)
        rt.kernel.note(TaskRenewed, now, work._row.id, since, "", stems, cargo=work)


def is_earlier(rt: Known, work: Work, other_id: str) -> bool:
    """
    Return whether *work* was submitted before another task; hold the lock.

    Return True if neither memory nor the journal knows.
    """
    row, other = work._row, rt.kernel.tasks.get(other_id)
    if other is not None and row.id in rt.kernel.tasks:
        return row.seq < other.seq
    kept = _kept(rt)
    if kept is None:
        return True
    began = kept.began(row.id)
    # A submission that is not kept yet has come a moment ago.
    return began > 0 and began < (kept.began(other_id) or began + 1)


def _kept(rt: Known) -> Kept | None:
    """Return a finder that reads the journal, if there is one."""
    recovered, reruns = rt.directory.recovered, rt.directory.reruns
    if recovered is None or isinstance(recovered, Kept):
        return recovered
    return Kept(recovered, reruns.latest)


def _entries(recovered: Recalled, task_id: str) -> list[Entry]:
    return recovered.entries_of((task_id,))[task_id]


def used_by(work: Work) -> Collection[str]:
    """Return ids of the tasks whose results the attempts of *work* have asked for."""
    return () if work._extra is None else work._extra.used


def named_above(rt: Known, work: Work) -> Collection[str]:
    """
    Return ids of all tasks that *work* depends on or has asked for; hold the lock.

    A handle whose task has left memory does not have them, so the journal is read.
    """
    row = work._row
    has_forgotten = work._task is None and row.id not in rt.kernel.tasks
    kept = _kept(rt) if has_forgotten else None
    if kept is None:
        return (*names_above(work), *used_by(work))
    return kept.named_above(row.id)


def _since(entries: Iterable[Entry]) -> str:
    """Return the `since` of the last `TaskRenewed` in the events about a task."""
    since = ""
    for event, _ in entries:
        if type(event) is TaskRenewed:
            since = event.since
    return since


class Kept:
    """
    Finds stale tasks from the events in a journal, of which it reads each once.

    Args:
        recovered: Reads the journal.
        known: Gives the latest run of a task that memory knows, by the id that all
            its runs have: one of a moment ago is not in the journal yet.
    """

    def __init__(self, recovered: Recalled, known: Callable[[str], str]) -> None:
        self._recovered = recovered
        self._known = known
        self._entries: dict[str, list[Entry]] = {}
        self._latest: dict[str, str] = {}
        self._rows_of = cache(lambda name: recovered.rows_of((name,)))
        #: The runs that were looked at, with all that they depend on.
        self._seen: set[str] = set()
        #: Runs that are known not to be stale.
        self._fresh: set[tuple[str, bool]] = set()

    def look(self, ids: Collection[str]) -> None:
        """Read at once about many runs, and about all that they depend on."""
        if not self._seen.issuperset(ids):
            self._seen.update(ids)
            self._read(ids)
            parents = [name for each in ids for name in self.named_above(each)]
            self._read([*parents, *filter(None, map(self._added_by, ids))])

    def _read(self, ids: Collection[str]) -> None:
        """Read about many runs, and about the latest of the same tasks."""
        latest = self.latest_of({stem_of(each) for each in ids})
        self.entries_of({*ids, *latest.values()})

    def entries_of(self, ids: Collection[str]) -> dict[str, list[Entry]]:
        """Return the events about runs of tasks, with their documents, in order."""
        unread = [each for each in ids if each not in self._entries]
        if unread:
            self._entries |= self._recovered.entries_of(unread)
        return {each: self._entries[each] for each in ids}

    def latest_of(self, stems: Collection[str]) -> dict[str, str]:
        """Return the latest run of each task, by the id that all its runs have."""
        unread = [each for each in stems if each not in self._latest]
        if unread:
            self._latest |= self._recovered.latest_of(unread)
        return {
            each: max(self._known(each), self._latest[each], key=number_of)
            for each in stems
        }

    def rows_of(self, ids: Collection[str]) -> list[TaskRow]:
        """Return tasks in the journal, as rows of no kernel."""
        return [row for each in ids for row in self._rows_of(each)]

    def latest(self, stem: str) -> str:
        """Return the latest run of a task, by the id that all its runs have."""
        return self.latest_of((stem,))[stem]

    def is_latest(self, task_id: str) -> bool:
        """Return whether a run of a task is the latest."""
        return self.latest(stem_of(task_id)) == task_id

    def cause(self, task_id: str, *, with_used: bool = True) -> Cause | None:
        """
        Return why a run of a task is stale; None if it is not, or has a later run.

        Only a limited number of its dependencies are looked at.
        """
        if not self.is_latest(task_id):
            return None
        seen = {(task_id, with_used): None}
        level = [*seen]
        while level and len(seen) < _MOST:
            self.look([name for name, _ in level])
            above: list[tuple[str, bool]] = []
            for name, used in level:
                had = self.replaced(name, with_used=used)
                if had:
                    return Cause(name, had)
                adder = self._added_by(name)
                if adder and self._is_outdated(adder):
                    return Cause(name, adder, by_adder=True)
                above += ((run, True) for run in self.runs_above(name, with_used=used))
                if adder:
                    above.append((self.latest(stem_of(adder)), False))
            level = [
                node
                for node in dict.fromkeys(above)
                if node not in seen and node not in self._fresh
            ]
            seen |= dict.fromkeys(level)
        self._fresh.update(seen)
        return None

    def replaced(self, task_id: str, *, with_used: bool = True) -> str:
        """Return a run that *task_id* used and that was replaced: see `replaced`."""
        for name in self.runs_above(task_id, with_used=with_used):
            stem = stem_of(name)
            latest = self.latest(stem)
            if latest == name:
                continue
            # A submission that is not kept yet has come a moment ago.
            began = 0 if latest != self._latest[stem] else self.began(latest)
            if not began or began > self.began(task_id):
                return name
        return self.late(task_id)

    def late(self, task_id: str) -> str:
        """Return a parent that was blocked and went on: see `_late`."""
        submitted: TaskSubmitted | None = None
        start = 0
        for event in self._events(task_id):
            if type(event) is TaskSubmitted:
                submitted = event
            elif type(event) is TaskStarted:
                start = event.seq
            elif type(event) is TaskCancelled:
                return ""
        if submitted is None or not start or not _may_lack(submitted):
            return ""
        opened = {name: self._opened(name) for name in self._parents(task_id)}
        late = next((name for name, seq in opened.items() if seq > start), "")
        before = sum(
            0 < seq < start and self._has_completed(name)
            for name, seq in opened.items()
        )
        return "" if _sufficed(submitted.join, before) else late

    def _opened(self, task_id: str) -> int:
        """Return the number of its last end of a blockade, or completion; or 0."""
        seqs = [
            event.seq
            for event in self._events(task_id)
            if type(event) in (TaskUnblocked, TaskCompleted)
        ]
        return max(seqs, default=0)

    def _has_completed(self, task_id: str) -> bool:
        return any(type(event) is TaskCompleted for event in self._events(task_id))

    def _parents(self, task_id: str) -> list[str]:
        """Return the runs that *task_id* depended on in the end: see `parents_of`."""
        names: list[str] = []
        for event in self._events(task_id):
            if isinstance(event, TaskSubmitted | TaskParentsAdded):
                names += event.after
        return _newest([self._turned(name, task_id) for name in names])

    def _added_by(self, task_id: str) -> str:
        """Return the id of the task that has added it: see `added_by`."""
        for event, task in _entries(self, task_id):
            if type(event) is TaskSubmitted and isinstance(task, Task):
                adder = (task.metadata or {}).get(ADDED)
                return adder if isinstance(adder, str) else ""
        return ""

    def _is_outdated(self, adder: str) -> bool:
        since = _since(_entries(self, self.latest(stem_of(adder))))
        return bool(since) and number_of(adder) < number_of(since)

    def _events(self, task_id: str) -> list[Event]:
        return [event for event, _ in _entries(self, task_id)]

    def began(self, task_id: str) -> int:
        """Return the number of the submission; 0 if none is known."""
        entries = _entries(self, task_id)
        return entries[0][0].seq if entries else 0

    def runs_above(self, task_id: str, *, with_used: bool = True) -> list[str]:
        """Return runs that *task_id* waited for, or asked for: see `runs_above`."""
        used: list[str] = []
        join: str | int = "all"
        for event in self._events(task_id):
            if type(event) is TaskSubmitted:
                submitted: TaskSubmitted = event
                join = submitted.join
            elif type(event) is ResultsUsed and with_used:
                used += event.of
            elif type(event) is TaskCancelled and not event.reason.startswith(SKIPPED):
                return []
        parents = self._parents(task_id)
        if join not in _ALL:
            done = [name for name in parents if self._has_completed(name)]
            parents = _that_count(join, parents, done)
        return _newest([*parents, *used]) if used else parents

    def named_above(self, task_id: str) -> list[str]:
        """Return all tasks that *task_id* waited or asked for, by their ids then."""
        names: list[str] = []
        for event in self._events(task_id):
            if isinstance(event, TaskSubmitted | TaskParentsAdded):
                names += event.after
            elif isinstance(event, ResultsUsed):
                names += event.of
        return names

    def _turned(self, name: str, task_id: str) -> str:
        """Return the run whose result *task_id* got, after it had waited for *name*."""
        for event in self._events(name):
            if type(event) is TaskRepointed and task_id in event.dependents:
                return self._turned(event.rerun_id, task_id)
        return name


#: Joins for which each parent counts.
_ALL: Final = ("all", "finished", "asked")


def _that_count(join: str | int, found: list[str], done: list[str]) -> list[str]:
    """Return those of the parents *found* that satisfied *join*; *done* completed."""
    if join in _ALL:
        return found
    # If some parents were enough, the others do not matter.
    return done if len(done) >= (join if isinstance(join, int) else 1) else found


def _newest(names: list[str]) -> list[str]:
    """Return the latest run of each task among *names*."""
    newest: dict[str, str] = {}
    for name in names:
        stem = stem_of(name)
        other = newest.get(stem)
        if other is None or number_of(name) > number_of(other):
            newest[stem] = name
    return list(newest.values())


def runs_above(rt: Known, work: Work, *, with_used: bool = True) -> list[str]:
    """
    Return the ids of the runs on which the result of *work* depends; hold the lock.

    They are its parents and, *with_used*, tasks whose results it has asked for. For a
    task that has left memory, the journal is read.
    """
    row = work._row
    if row.id not in rt.kernel.tasks:
        kept = _kept(rt)
        return [] if kept is None else kept.runs_above(row.id, with_used=with_used)
    if row.state is TaskState.CANCELLED and not is_skipped(row):
        return []
    parents = parents_of(work)
    used = used_by(work) if with_used else ()
    terms = None if row.links is None else row.links.terms
    if terms is not None and terms.joined:
        tasks, evicted = rt.kernel.tasks, rt.kernel.evicted
        done = [
            name
            for name in parents
            if _COMPLETED is (tasks[name].state if name in tasks else evicted.get(name))
        ]
        parents = _that_count(terms.join, parents, done)
    return _newest([*parents, *used]) if used else parents


def parents_of(work: Work) -> list[str]:
    """Return the ids of the runs that *work* depended on in the end; hold the lock."""
    turned = {} if work._extra is None else work._extra.turned
    runs: list[str] = []
    for name in names_above(work):
        run = name
        while run in turned:
            run = turned[run]
        runs.append(run)
    return _newest(runs) if runs else runs


def dependents(rt: Known, row: TaskRow) -> list[TaskRow]:
    """
    Return tasks in memory that depend on *row*, even indirectly; hold the lock.

    Each comes after all of them that it depends on.
    """
    below: dict[str, list[TaskRow]] = {}
    for each in rt.kernel.tasks.values():
        is_linked = each.links is not None or used_by(each.cargo)
        if is_linked and rt.directory.reruns.is_latest(each.id):
            for name in runs_above(rt, each.cargo):
                below.setdefault(stem_of(name), []).append(each)
    # A depth-first search; the task that it leaves last comes first.
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
