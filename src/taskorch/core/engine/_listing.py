"""
Lists of tasks: the tasks are found before their statuses are made.

Memory has the rows of the tasks, and the journal has indexes: of the events that ended
tasks badly, of ids by their beginnings, of submissions in order, and of times. A status
is made only of tasks that are returned, and read from the journal a page at a time.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase, translate
from functools import partial
from heapq import merge
from itertools import chain, islice, takewhile
from operator import attrgetter, eq, itemgetter, ne
from typing import TYPE_CHECKING, Any, Final, cast

from taskorch.core.engine._reports import later_of, since_when, status_of, told_state
from taskorch.core.engine._stale import Staleness
from taskorch.core.engine._work import Work, allowed_error
from taskorch.kit.fence import is_values
from taskorch.kit.limits import NS
from taskorch.kit.words import ns_of
from taskorch.model import (
    OPTIONS,
    TERMINAL,
    FailedRun,
    FailureCause,
    TaskFilter,
    TaskState,
    TaskStatus,
)
from taskorch.model.ids import earlier_ids, has_number, numbered, stem_of

if TYPE_CHECKING:
    from taskorch.core.engine._directory import Recollection
    from taskorch.core.engine._runtime import Runtime
    from taskorch.core.kernel import TaskRow
    from taskorch.events import TaskFailed

#: The number of tasks that are looked at under the lock at once.
_PAGE: Final = 200
#: The fewest tasks that are read from the journal at once.
_FEW: Final = 50
#: The most submissions that are asked for at once.
_MANY: Final = 20_000
#: Fields of a filter that a journal looks for in its rows.
_SIFTED: Final = frozenset({"type", "owner", "metadata", "agent"})
#: Events with which only few tasks end, by state.
_RARE: Final = {
    TaskState.FAILED: "TaskFailed",
    TaskState.CANCELLED: "TaskCancelled",
}


class _Wanted:
    """A filter as one orchestrator applies it."""

    def __init__(self, runtime: Runtime, which: TaskFilter) -> None:
        self.asked = which
        fields = dict(which.fields)
        self.state: TaskState | None = fields.pop("state", None)
        self.mended: bool | None = fields.pop("mended", None)
        pattern: str | None = fields.get("id")
        #: The only id that passes.
        self.one = pattern if pattern and not re.search(r"[*?\[]", pattern) else None
        fits = re.compile(translate(pattern)).match if pattern else None
        self._fits: Callable[[str], object] | None = fits
        self.type: str | None = fields.get("type")
        self.worker: str | None = fields.get("agent")
        self.owner: str | None = fields.get("owner")
        self.metadata: dict[str, Any] | None = fields.get("metadata")
        since, longer = fields.pop("since", None), fields.pop("older_than", None)
        self._committed = runtime.committed
        #: Tasks pass that were submitted at this time or later.
        self.since_ns = 0 if since is None else _since_ns(runtime, since)
        #: Tasks pass that have been in their state since before this time.
        self.in_state_ns = None if longer is None else runtime.now() - int(longer * NS)
        self._tests = [
            (
                _MATCHES[TaskFilter.FIELDS[name].how],
                _VALUE_OF.get(name, _option(name)),
                value,
            )
            for name, value in fields.items()
        ]

    def has(self, work: Work) -> bool:
        """Return whether *work* passes, whatever its state; hold the lock."""
        row = work._row
        return (
            all(matches(take(work), value) for matches, take, value in self._tests)
            and row.submitted_ns >= self.since_ns
            and (self.in_state_ns is None or since_when(row) < self.in_state_ns)
        )

    def may_be(self, task_id: str) -> bool:
        """Return whether a task of this id that has left memory may pass."""
        may_end = self.state is None or self.state in TERMINAL
        return may_end and (self._fits is None or self._fits(task_id) is not None)

    def may_have(self, row: TaskRow) -> bool:
        """Return whether the task of *row* may pass; do not hold the lock."""
        state = self.state
        # An end that is not kept yet is not reported yet.
        if state is not None and row.state is not state and not self.is_untold(row):
            return False
        if self.type is not None and row.bucket.spec.type != self.type:
            return False
        if self.worker is not None and _worker_of(row) != self.worker:
            return False
        if self.owner is not None and row.bucket.spec.owner != self.owner:
            return False
        work: Work | None = row.cargo
        if self.metadata is not None and work is not None:
            task = work._task
            if task is None or not _contains(task.metadata, self.metadata):
                return False
        # A task that was submitted later has not been in its state for so long.
        if self.in_state_ns is not None and row.submitted_ns >= self.in_state_ns:
            return False
        if self._fits is not None and self._fits(row.id) is None:
            return False
        return row.submitted_ns >= self.since_ns

    def is_untold(self, row: TaskRow) -> bool:
        """Return whether the task of *row* has ended, and its end is not kept yet."""
        work: Work | None = row.cargo
        if work is None or row.state not in TERMINAL:
            return False
        return work._visible_after > self._committed

    def is_moving(self, row: TaskRow) -> bool:
        """Return whether attempts that the filter asks for may not be kept yet."""
        if self.worker is None:
            return False
        return row.state not in TERMINAL or self.is_untold(row)


def _since_ns(runtime: Runtime, since: datetime | float) -> int:
    if isinstance(since, datetime):
        return ns_of(since)
    return runtime.now() - int(since * NS)


def _option(name: str) -> Callable[[Work], Any]:
    """Return a function that finds the value of an option of a task."""
    usual = OPTIONS[name].default if name in OPTIONS else None

    def take(work: Work) -> Any:
        task = work._task
        return usual if task is None else getattr(task, name)

    return take


def _worker_of(row: TaskRow) -> str | None:
    return None if row.worker is None else row.worker.name


#: Values that are known without the task itself, which a plain call does not have.
_VALUE_OF: Final[dict[str, Callable[[Work], Any]]] = {
    "type": lambda work: work._row.bucket.spec.type,
    "id": lambda work: work._row.id,
    "agent": lambda work: _worker_of(work._row),
}


def _contains(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    try:
        if found is None:
            return False
        for name, value in wanted.items():
            if name not in found or not found[name] == value:  # noqa: SIM201 - as asked
                return False
        return True
    except BaseException as error:
        # Values of the user's that cannot be compared count as different.
        if not is_values(error):
            raise
        return False


def _is_like(found: str, pattern: str) -> bool:
    return fnmatchcase(found, pattern)


_MATCHES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equal": eq,
    "pattern": _is_like,
    "contains": _contains,
}


def listed(
    runtime: Runtime,
    asked: TaskFilter,
    most: int | None = None,
    *,
    after: str = "",
    newest: bool = False,
) -> Iterator[TaskStatus]:
    """
    Return the statuses of the tasks that are *asked* for, the first submitted first.

    The tasks are looked up when this is called. Each status is of the moment at which
    its page was made.

    Args:
        runtime: The runtime of the tasks.
        asked: The filter.
        most: The most statuses; no more are made.
        after: Only tasks behind this one, if it is known.
        newest: The last submitted first.
    """
    listing = _Listing(runtime, asked, is_newest=newest)
    return listing.statuses(listing.names(after), most)


class _Listing:
    """One list of tasks; memory is looked through once, when this is made."""

    def __init__(self, runtime: Runtime, asked: TaskFilter, *, is_newest: bool) -> None:
        self._rt = runtime
        self._which = which = _Wanted(runtime, asked)
        self._is_newest = is_newest
        self._until = runtime.committed
        kernel = runtime.kernel
        with runtime.lock:
            # One copy, which C makes fast.
            rows = list(kernel.tasks.values())
            ever = (
                *(kernel.pending, kernel.queued, kernel.active, kernel.retrying),
                *(kernel.blocked, kernel.suspended),
                *(kernel.completed, kernel.failed, kernel.cancelled),
            )
        #: The tasks in memory, in the order of their submission, and whether each may
        #: pass.
        self._here = {row.id: which.may_have(row) for row in rows}
        #: The ids among these that the journal may not find by this filter.
        self._moving = [r.id for r in rows if self._here[r.id] and which.is_moving(r)]
        self._failed = {r.id for r in rows if r.state is TaskState.FAILED}
        #: All tasks with the asked end that have left memory, if these are many.
        self._ended: frozenset[str] | None = None
        self._recovered: Recollection | None = None
        if sum(ever) > len(rows) and which.state in (None, *TERMINAL):
            # Tasks that have not ended are in memory.
            self._recovered = runtime.directory.recovered

    # -- which they are ------------------------------------------------------------

    def names(self, after: str = "") -> Iterator[str]:
        """Return the ids of tasks that may pass, in order; those behind *after*."""
        which, recovered = self._which, self._recovered
        here = [name for name, passes in self._here.items() if passes]
        if recovered is None:
            if which.mended:
                # They count as mended by a later run, or because the failure is
                # allowed.
                later = filter(has_number, self._here)
                early = {*chain.from_iterable(map(earlier_ids, later))}
                here = [name for name in here if name in early or name in self._failed]
            if after in self._here:
                before = {*takewhile(partial(ne, after), self._here)}
                is_newest = self._is_newest
                here = [n for n in here if n != after and (n in before) is is_newest]
            return iter(here[::-1] if self._is_newest else here)
        if which.one is not None:
            return iter(self._in_order(recovered, [which.one, *here], after))
        if which.mended:
            # They count as mended by a later run, or because the failure is allowed.
            early = self._run_again(recovered)
            here = [name for name in here if name in early or name in self._failed]
            failed = self._ended_by(recovered, _RARE[TaskState.FAILED])
            gone = [*early, *(event.task_id for event in failed if event.allowed)]
            return iter(self._in_order(recovered, [*gone, *here], after))
        kind = None if which.state is None else _RARE.get(which.state)
        if kind is not None:
            events = self._ended_by(recovered, kind)
            if which.mended is False and which.state is TaskState.FAILED:
                events = (event for event in events if not event.allowed)
            gone = [event.task_id for event in events]
            if len(gone) <= _MANY:
                gone = self._sifted(recovered, gone)
                return iter(self._in_order(recovered, [*gone, *here], after))
            self._ended = frozenset(gone)
        return self._through(recovered, after)

    def _sifted(self, recovered: Recollection, gone: list[str]) -> list[str]:
        """Return those of *gone* that may pass, by the journal."""
        asked = self._which.asked
        if _SIFTED.isdisjoint(asked.fields):
            return gone
        most, until = len(gone) + 1, self._until
        passing = recovered.journal.candidates(asked, 0, until, most, among=gone)
        return [name for _, name in passing]

    def _ended_by(self, recovered: Recollection, kind: str) -> Iterator[Any]:
        return recovered.journal.ended_by(kind, self._until)

    def _run_again(self, recovered: Recollection) -> set[str]:
        """Return the runs of tasks that have a later one."""
        later = [name for name in self._here if has_number(name)]
        asked = TaskFilter(id=numbered("*", "*"))
        for page in _pages(recovered, asked, 0, self._until, is_newest=False):
            later += [name for _, name in page if has_number(name)]
        return {*chain.from_iterable(map(earlier_ids, later))}

    def _may_be(self, task_id: str) -> bool:
        here = self._here.get(task_id)
        return self._which.may_be(task_id) if here is None else here

    def _numbers(self, recovered: Recollection, names: Iterable[str]) -> dict[str, int]:
        """Return the place of each of *names* in the order of submissions, if known."""
        names, until = [*names], self._until
        began = recovered.journal.began(names)
        numbers = {name: seq for name, seq in began.items() if seq <= until}
        if len(numbers) < len(names):
            # Tasks on their way into the journal come last.
            places = {name: until + 1 + i for i, name in enumerate(self._here)}
            late = [n for n in names if n not in numbers and n in places]
            numbers |= {name: places[name] for name in late}
        return numbers

    def _bounds(self, recovered: Recollection, after: str) -> tuple[int, int]:
        """Return the two places, both excluded, between which the tasks are."""
        since = self._which.since_ns
        first = recovered.journal.last_until(since - 1) if since > 0 else 0
        last = sys.maxsize
        if self._which.in_state_ns is not None:
            # A task that was submitted later has not been in its state for so long.
            old = recovered.journal.last_until(self._which.in_state_ns)
            last = old + 1 if old < self._until else last
        place = self._numbers(recovered, [after]).get(after, 0) if after else 0
        if not self._is_newest:
            return max(first, place), last
        return first, min(place or last, last)

    def _in_order(
        self, recovered: Recollection, names: Iterable[str], after: str
    ) -> list[str]:
        """Return those of *names* that may pass, in the order of submission."""
        first, last = self._bounds(recovered, after)
        numbers = self._numbers(recovered, dict.fromkeys(filter(self._may_be, names)))
        within = [name for name, number in numbers.items() if first < number < last]
        return sorted(within, key=numbers.__getitem__, reverse=self._is_newest)

    def _through(self, recovered: Recollection, after: str) -> Iterator[str]:
        """Yield all tasks that may pass; each next page is looked for when needed."""
        first, last = self._bounds(recovered, after)
        late = self._in_order(recovered, self._late(recovered), after)
        numbers = self._numbers(recovered, late)
        coming = ((numbers[name], name) for name in late)
        kept = self._kept(recovered, first, min(last, self._until + 1))
        key, previous = itemgetter(0), ""
        for _, name in merge(coming, kept, key=key, reverse=self._is_newest):
            if name != previous:
                yield name
            previous = name

    def _late(self, recovered: Recollection) -> list[str]:
        """Return tasks in memory that the journal may not find, being unkept."""
        names, late = list(self._here), list[str]()
        while page := names[-_PAGE:]:
            del names[-_PAGE:]
            numbers = self._numbers(recovered, page)
            unkept = [name for name in page if numbers[name] > self._until]
            late = unkept + late
            if len(unkept) < len(page):
                break
        return [*dict.fromkeys([*self._moving, *late])]

    def _kept(
        self, recovered: Recollection, first: int, last: int
    ) -> Iterator[tuple[int, str]]:
        """Yield the tasks between two places in the journal, in growing pages."""
        asked, is_newest = self._which.asked, self._is_newest
        for page in _pages(recovered, asked, first, last - 1, is_newest=is_newest):
            names = [name for _, name in page if self._may_be(name)]
            passing = {*self._as_asked(recovered, names)}
            yield from (each for each in page if each[1] in passing)

    def _as_asked(self, recovered: Recollection, names: list[str]) -> Iterator[str]:
        """Return those of a page that ended as the filter asks."""
        state, ended = self._which.state, self._ended
        if ended is not None:
            return (name for name in names if name in self._here or name in ended)
        if state is None:
            return iter(names)
        ends = recovered.ends([name for name in names if name not in self._here])
        return (name for name in names if ends.get(name, state) is state)

    # -- how they stand ------------------------------------------------------------

    def statuses(self, names: Iterator[str], most: int | None) -> Iterator[TaskStatus]:
        """Yield up to *most* statuses of *names*, each page at one moment."""
        room = sys.maxsize if most is None else most
        while room and (page := list(islice(names, min(_PAGE, max(room, _FEW))))):
            some = self._statuses(page, room)
            room -= len(some)
            yield from some

    def _statuses(self, ids: list[str], room: int) -> list[TaskStatus]:
        """Return statuses of the tasks of one page, in the order of *ids*."""
        runtime, recovered = self._rt, self._rt.directory.recovered
        with runtime.lock:
            # This needs the lock: the kernel replaces the dict when many have left
            # memory.
            tasks = runtime.kernel.tasks
            works = {name: tasks[name].cargo for name in ids if name in tasks}
            if len(works) == len(ids) or recovered is None:
                return self._made(ids, works, Staleness(runtime), room)
        gone = [name for name in ids if name not in works and self._which.may_be(name)]
        if self._which.state in _RARE:
            gone = self._unless_mended(gone)
        staleness = Staleness(runtime)
        kept = staleness.recovered
        assert kept is not None  # noqa: S101 - it reads what is recovered
        kept.latest_of({*map(stem_of, gone)})
        past = recovered.works_of(chain.from_iterable(kept.entries_of(gone).values()))
        ended = {n: work for n, work in past.items() if work._row.state in TERMINAL}
        # A later run that has left memory may not be known.
        again = [name for name in ended if not kept.is_latest(name)]
        runtime.directory.recall_later(again, runtime.lock)
        with runtime.lock:
            # Those above may be in memory, and would go on meanwhile.
            kept.look(gone)
            statuses = self._made(ids, works | ended, staleness, room)
        for work in past.values():
            # No other code has it after this: see `recollect`.
            work._row.cargo = None
        return statuses

    def _unless_mended(self, gone: list[str]) -> list[str]:
        """Return those of *gone*, which ended badly, that pass `mended`."""
        runtime, wanted = self._rt, self._which.mended
        if wanted is not False:
            # An allowed failure counts as mended, which the task itself says.
            return gone
        runtime.directory.recall_later(gone, runtime.lock)
        with runtime.lock:
            return [name for name in gone if not later_of(runtime, name)[1]]

    def _made(
        self,
        ids: list[str],
        works: Mapping[str, Work],
        staleness: Staleness,
        room: int,
    ) -> list[TaskStatus]:
        """Return the statuses of the tasks that pass; hold the lock."""
        in_order = (works[name] for name in ids if name in works)
        return [
            status_of(self._rt, work._row, work, staleness)
            for work in islice(filter(self._is_wanted, in_order), room)
        ]

    def _is_wanted(self, work: Work) -> bool:
        """Return whether the task of *work* passes; hold the lock."""
        which, row = self._which, work._row
        state = told_state(self._rt, work)
        if which.state not in (None, state) or not which.has(work):
            return False
        if which.mended is None:
            return True
        is_allowed = state is TaskState.FAILED and allowed_error(work) is not None
        return which.mended is (is_allowed or bool(later_of(self._rt, row.id, work)[1]))


def _pages(
    recovered: Recollection,
    asked: TaskFilter,
    after: int,
    until: int,
    *,
    is_newest: bool,
) -> Iterator[Sequence[tuple[int, str]]]:
    """Yield the tasks between two places in the journal, in growing pages."""
    journal, most = recovered.journal, _PAGE
    while page := journal.candidates(asked, after, until, most, newest=is_newest):
        yield page
        if is_newest:
            until = page[-1][0] - 1
        else:
            after = page[-1][0]
        most = min(2 * most, _MANY)


# -- what failed, without a status of any ----------------------------------------------


def failures(runtime: Runtime) -> tuple[FailureCause, ...]:
    """
    Return the failures that were not mended since, by cause, as the events say.

    Raises:
        JournalError: The journal cannot be read.
    """
    with runtime.lock:
        rows = list(runtime.kernel.tasks.values())
    here = {row.id for row in rows}
    recovered, gone = runtime.directory.recovered, list[FailedRun]()
    if recovered is not None and runtime.kernel.failed:
        events = recovered.journal.ended_by("TaskFailed", runtime.committed)
        for event in cast("Iterator[TaskFailed]", events):
            name, error = event.task_id, (event.error_type, event.message)
            if name not in here and not event.allowed:
                gone.append(FailedRun(name, *error, event.at_ns))
        failed = [row.id for row in rows if row.state is TaskState.FAILED]
        names = [*(each.task_id for each in gone), *failed]
        runtime.directory.recall_later(names, runtime.lock)
    with runtime.lock:
        present = [*filter(None, (_failure(runtime, row) for row in rows))]
        every = sorted([*gone, *present], key=attrgetter("at_ns"))
        later = [(each, *later_of(runtime, each.task_id)) for each in every]
    return FailureCause.of(
        # The bare id of an earlier run means the latest, so the run is named.
        each._replace(task_id=_named(each.task_id)) if rerun else each
        for each, rerun, mended_by in later
        if not mended_by
    )


def _named(task_id: str) -> str:
    return task_id if has_number(task_id) else numbered(task_id, 1)


def _failure(runtime: Runtime, row: TaskRow) -> FailedRun | None:
    """Return how *row* failed, if that is kept and not allowed; hold the lock."""
    work: Work | None = row.cargo
    if row.state is not TaskState.FAILED or work is None or row.extra is None:
        return None
    is_told = work._visible_after <= runtime.committed
    if not is_told or row.extra.error is None or allowed_error(work) is not None:
        return None
    kind, message, _ = row.extra.error
    return FailedRun(row.id, kind, message, row.ended_ns)
