"""
Which tasks a list has: they are found before a status is made of any.

Memory has the rows of the tasks, and the journal has indexes: of the facts that ended
tasks badly, of ids by their beginnings, of submissions in order, and of times. A status
is made of what is given out, and read from the journal a page at a time.

Decision: 0278.
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
from taskorch.model.ids import earlier_ids, has_number, next_id, numbered, stem_of
from taskorch.runtime._reports import later_of, since_when, status_of, told_state
from taskorch.runtime._stale import Staleness
from taskorch.runtime._work import Work, allowed_error

if TYPE_CHECKING:
    from taskorch.events import TaskFailed
    from taskorch.kernel import TaskRow
    from taskorch.runtime._directory import Recollection
    from taskorch.runtime._runtime import Runtime

#: Tasks that are looked at under the lock at once.
_PAGE: Final = 200
#: As many of them at least are read at once from the journal.
_FEW: Final = 50
#: The most submissions that are asked for at once.
_MANY: Final = 20_000
#: What a journal looks for in its rows.
_SIFTED: Final = frozenset({"type", "owner", "metadata", "agent"})
#: What ended a task, of what few end with.
_RARE: Final = {
    TaskState.FAILED: "TaskFailed",
    TaskState.CANCELLED: "TaskCancelled",
}


class _Wanted:
    """What a filter comes to in one orchestrator, when it is asked."""

    def __init__(self, runtime: Runtime, which: TaskFilter) -> None:
        self.asked = which
        fields = dict(which.fields)
        self.state: TaskState | None = fields.pop("state", None)
        self.mended: bool | None = fields.pop("mended", None)
        pattern: str | None = fields.get("id")
        #: The only id that passes.
        self.one = pattern if pattern and not re.search(r"[*?\[]", pattern) else None
        self._fits = re.compile(translate(pattern or "*")).match
        self.type: str | None = fields.get("type")
        self.agent: str | None = fields.get("agent")
        since, longer = fields.pop("since", None), fields.pop("older_than", None)
        self._committed = runtime.committed
        #: Submitted then or later.
        self.since_ns = 0 if since is None else _since_ns(runtime, since)
        #: In their state since before then.
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
        """Under the lock: whether all but the state holds of the task of *work*."""
        row = work._row
        return (
            all(matches(take(work), value) for matches, take, value in self._tests)
            and row.submitted_ns >= self.since_ns
            and (self.in_state_ns is None or since_when(row) < self.in_state_ns)
        )

    def may_be(self, task_id: str) -> bool:
        """Whether a task of this id that has left memory may be among them."""
        return (self.state is None or self.state in TERMINAL) and self._fits(
            task_id
        ) is not None

    def may_have(self, row: TaskRow) -> bool:
        """Not under the lock: whether the task of *row* may be among them."""
        state = self.state
        # An end that is not kept yet is not told yet.
        if state is not None and row.state is not state and not self.is_untold(row):
            return False
        if self.type is not None and row.bucket.spec.type != self.type:
            return False
        if self.agent is not None and _agent_of(row) != self.agent:
            return False
        return row.submitted_ns >= self.since_ns and self._fits(row.id) is not None

    def is_untold(self, row: TaskRow) -> bool:
        """Whether the task of *row* has ended, and its end is not kept yet."""
        work: Work | None = row.cargo
        if work is None or row.state not in TERMINAL:
            return False
        return work._visible_after > self._committed

    def is_moving(self, row: TaskRow) -> bool:
        """Whether its attempts, of which an agent is asked, may not be kept yet."""
        is_over = row.state in TERMINAL and not self.is_untold(row)
        return self.agent is not None and not is_over


def _since_ns(runtime: Runtime, since: datetime | float) -> int:
    if isinstance(since, datetime):
        return ns_of(since)
    return runtime.now() - int(since * NS)


def _option(name: str) -> Callable[[Work], Any]:
    """What finds the value of an option of a task."""
    usual = OPTIONS[name].default if name in OPTIONS else None

    def take(work: Work) -> Any:
        task = work._task
        return usual if task is None else getattr(task, name)

    return take


def _agent_of(row: TaskRow) -> str | None:
    return None if row.agent is None else row.agent.name


#: What is known without the task itself, of which a plain call has none.
_VALUE_OF: Final[dict[str, Callable[[Work], Any]]] = {
    "type": lambda work: work._row.bucket.spec.type,
    "id": lambda work: work._row.id,
    "agent": lambda work: _agent_of(work._row),
}


def _contains(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    try:
        return found is not None and all(
            name in found and found[name] == value for name, value in wanted.items()
        )
    except BaseException as error:
        # Values of the user's, which cannot be compared: they are not the same.
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
    The statuses of the tasks that are *asked* for, the first submitted first.

    Which tasks there are, and which of those in memory may be among them, is looked at
    when this is called. Each status is of the moment at which its page was made.

    Args:
        runtime: Whose tasks they are.
        asked: What holds of them.
        most: At most so many; no more statuses are made.
        after: Only those behind this task, if it is known.
        newest: The last submitted first.
    """
    listing = _Listing(runtime, asked, is_newest=newest)
    return listing.statuses(listing.names(after), most)


class _Listing:
    """One list of tasks; what is in memory is looked at once, when this is made."""

    def __init__(self, runtime: Runtime, asked: TaskFilter, *, is_newest: bool) -> None:
        self._rt = runtime
        self._which = which = _Wanted(runtime, asked)
        self._is_newest = is_newest
        self._until = runtime.committed
        kernel = runtime.kernel
        with runtime.lock:
            # One copy at C's speed.
            rows = list(kernel.tasks.values())
            ever = (
                *(kernel.pending, kernel.queued, kernel.active, kernel.retrying),
                *(kernel.blocked, kernel.suspended),
                *(kernel.completed, kernel.failed, kernel.cancelled),
            )
        #: Those in memory, in the order of their submission, and whether each may pass.
        self._here = {row.id: which.may_have(row) for row in rows}
        #: Those of them that the journal may not find by what is asked.
        self._moving = [r.id for r in rows if self._here[r.id] and which.is_moving(r)]
        self._failed = {r.id for r in rows if r.state is TaskState.FAILED}
        #: All that ended as asked and have left memory, if these are many.
        self._ended: frozenset[str] | None = None
        self._recovered: Recollection | None = None
        if sum(ever) > len(rows) and which.state in (None, *TERMINAL):
            # What has not ended is in memory.
            self._recovered = runtime.directory.recovered

    # -- which they are ------------------------------------------------------------

    def names(self, after: str = "") -> Iterator[str]:
        """The ids of those that may be among them, in order; those behind *after*."""
        which, recovered = self._which, self._recovered
        here = [name for name, passes in self._here.items() if passes]
        if recovered is None:
            if after in self._here:
                before = {*takewhile(partial(ne, after), self._here)}
                is_newest = self._is_newest
                here = [n for n in here if n != after and (n in before) is is_newest]
            return iter(here[::-1] if self._is_newest else here)
        if which.one is not None:
            return iter(self._in_order(recovered, [which.one, *here], after))
        if which.mended:
            # By a later run, or since the failure is allowed.
            early = self._run_again(recovered)
            here = [name for name in here if name in early or name in self._failed]
            failed = self._ended_by(recovered, _RARE[TaskState.FAILED])
            gone = [*early, *(fact.task_id for fact in failed if fact.allowed)]
            return iter(self._in_order(recovered, [*gone, *here], after))
        kind = None if which.state is None else _RARE.get(which.state)
        if kind is not None:
            facts = self._ended_by(recovered, kind)
            if which.mended is False and which.state is TaskState.FAILED:
                facts = (fact for fact in facts if not fact.allowed)
            gone = [fact.task_id for fact in facts]
            if len(gone) <= _MANY:
                gone = self._sifted(recovered, gone)
                return iter(self._in_order(recovered, [*gone, *here], after))
            self._ended = frozenset(gone)
        return self._through(recovered, after)

    def _sifted(self, recovered: Recollection, gone: list[str]) -> list[str]:
        """Those of *gone* that may pass, as far as the journal tells."""
        asked = self._which.asked
        if _SIFTED.isdisjoint(asked.fields):
            return gone
        most, until = len(gone) + 1, self._until
        passing = recovered.journal.candidates(asked, 0, until, most, among=gone)
        return [name for _, name in passing]

    def _ended_by(self, recovered: Recollection, kind: str) -> Iterator[Any]:
        return recovered.journal.ended_by(kind, self._until)

    def _run_again(self, recovered: Recollection) -> set[str]:
        """The runs of tasks that have a later one."""
        later = [name for name in self._here if has_number(name)]
        asked = TaskFilter(id=numbered("*", "*"))
        for page in _pages(recovered, asked, 0, self._until, is_newest=False):
            later += [name for _, name in page if has_number(name)]
        return {*chain.from_iterable(map(earlier_ids, later))}

    def _may_be(self, task_id: str) -> bool:
        here = self._here.get(task_id)
        return self._which.may_be(task_id) if here is None else here

    def _numbers(self, recovered: Recollection, names: Iterable[str]) -> dict[str, int]:
        """Where each of *names* stands in the order of submissions, if known."""
        names, until = [*names], self._until
        began = recovered.journal.began(names)
        numbers = {name: seq for name, seq in began.items() if seq <= until}
        if len(numbers) < len(names):
            # What is on its way into the journal comes last.
            places = {name: until + 1 + i for i, name in enumerate(self._here)}
            late = [n for n in names if n not in numbers and n in places]
            numbers |= {name: places[name] for name in late}
        return numbers

    def _bounds(self, recovered: Recollection, after: str) -> tuple[int, int]:
        """Between which places, both left out, the tasks stand."""
        since = self._which.since_ns
        first = recovered.journal.last_until(since - 1) if since > 0 else 0
        last = sys.maxsize
        if self._which.in_state_ns is not None:
            # What was submitted later is not in its state for so long.
            old = recovered.journal.last_until(self._which.in_state_ns)
            last = old + 1 if old < self._until else last
        place = self._numbers(recovered, [after]).get(after, 0) if after else 0
        if not self._is_newest:
            return max(first, place), last
        return first, min(place or last, last)

    def _in_order(
        self, recovered: Recollection, names: Iterable[str], after: str
    ) -> list[str]:
        """Those of *names* that may be among them, as they were submitted."""
        first, last = self._bounds(recovered, after)
        numbers = self._numbers(recovered, dict.fromkeys(filter(self._may_be, names)))
        within = [name for name, number in numbers.items() if first < number < last]
        return sorted(within, key=numbers.__getitem__, reverse=self._is_newest)

    def _through(self, recovered: Recollection, after: str) -> Iterator[str]:
        """The same of all tasks: the next ones are looked for when these are taken."""
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
        """The tasks in memory that the journal may not find: what came is not kept."""
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
        """Those between two places that the journal finds, in pages that grow."""
        asked, is_newest = self._which.asked, self._is_newest
        for page in _pages(recovered, asked, first, last - 1, is_newest=is_newest):
            names = [name for _, name in page if self._may_be(name)]
            passing = {*self._as_asked(recovered, names)}
            yield from (each for each in page if each[1] in passing)

    def _as_asked(self, recovered: Recollection, names: list[str]) -> Iterator[str]:
        """Those of a page that ended as it is asked for."""
        state, ended = self._which.state, self._ended
        if ended is not None:
            return (name for name in names if name in self._here or name in ended)
        if state is None:
            return iter(names)
        ends = recovered.ends([name for name in names if name not in self._here])
        return (name for name in names if ends.get(name, state) is state)

    # -- how they stand ------------------------------------------------------------

    def statuses(self, names: Iterator[str], most: int | None) -> Iterator[TaskStatus]:
        """The statuses of *names*, as many as *most*, of each page at one moment."""
        room = sys.maxsize if most is None else most
        while room and (page := list(islice(names, min(_PAGE, max(room, _FEW))))):
            some = self._statuses(page, room)
            room -= len(some)
            yield from some

    def _statuses(self, ids: list[str], room: int) -> list[TaskStatus]:
        """Statuses of the tasks of one page, in the order of *ids*."""
        runtime, recovered = self._rt, self._rt.directory.recovered
        with runtime.lock:
            # Under it: the kernel takes another dict when many have left memory.
            tasks = runtime.kernel.tasks
            works = {name: tasks[name].cargo for name in ids if name in tasks}
            if len(works) == len(ids) or recovered is None:
                return self._made(ids, works, Staleness(runtime), room)
        gone = [name for name in ids if name not in works and self._which.may_be(name)]
        if self._which.state in _RARE:
            gone = self._unless_mended(gone)
        entries = recovered.entries_of(gone)
        past = recovered.works_of(chain.from_iterable(entries.values()))
        ended = {n: work for n, work in past.items() if work._row.state in TERMINAL}
        later = recovered.journal.began([next_id(name) for name in past])
        # Of what has left memory it may not be known that it was run again.
        again = [name for name in ended if next_id(name) in later]
        runtime.directory.recall_later(again, runtime.lock)
        alone = {stem_of(name): name for name in past if next_id(name) not in later}
        with runtime.lock:
            staleness = Staleness(runtime)
            staleness.learn({name: entries[name] for name in past}, alone)
            statuses = self._made(ids, works | ended, staleness, room)
        for work in past.values():
            # Nobody has it after this: see `recollect`.
            work._row.cargo = None
        return statuses

    def _unless_mended(self, gone: list[str]) -> list[str]:
        """Those of *gone*, which ended badly, that are mended, or not, as asked."""
        runtime, wanted = self._rt, self._which.mended
        if wanted is not False:
            # What is allowed counts as mended: the task says it.
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
        """Under the lock: the statuses of those that are among them."""
        in_order = (works[name] for name in ids if name in works)
        return [
            status_of(self._rt, work._row, work, staleness)
            for work in islice(filter(self._is_wanted, in_order), room)
        ]

    def _is_wanted(self, work: Work) -> bool:
        """Under the lock: whether the task of *work* is among them."""
        which, row = self._which, work._row
        state = told_state(self._rt, work)
        if which.state not in (None, state) or not which.has(work):
            return False
        if which.mended is None:
            return True
        is_allowed = state is TaskState.FAILED and allowed_error(work) is not None
        return which.mended is (is_allowed or bool(later_of(self._rt, row.id)[1]))


def _pages(
    recovered: Recollection,
    asked: TaskFilter,
    after: int,
    until: int,
    *,
    is_newest: bool,
) -> Iterator[Sequence[tuple[int, str]]]:
    """What the journal finds for a filter between two places, in pages that grow."""
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
    What has failed and was not mended since, by cause, as the facts say.

    Raises:
        JournalError: The journal cannot be read.
    """
    with runtime.lock:
        rows = list(runtime.kernel.tasks.values())
    here = {row.id for row in rows}
    recovered, gone = runtime.directory.recovered, list[FailedRun]()
    if recovered is not None and runtime.kernel.failed:
        facts = recovered.journal.ended_by("TaskFailed", runtime.committed)
        for fact in cast("Iterator[TaskFailed]", facts):
            name, error = fact.task_id, (fact.error_type, fact.message)
            if name not in here and not fact.allowed:
                gone.append(FailedRun(name, *error, fact.at_ns))
        failed = [row.id for row in rows if row.state is TaskState.FAILED]
        names = [*(each.task_id for each in gone), *failed]
        runtime.directory.recall_later(names, runtime.lock)
    with runtime.lock:
        present = [*filter(None, (_failure(runtime, row) for row in rows))]
        every = sorted([*gone, *present], key=attrgetter("at_ns"))
        later = [(each, *later_of(runtime, each.task_id)) for each in every]
    return FailureCause.of(
        # The bare id of an earlier run means the latest.
        each._replace(task_id=_named(each.task_id)) if rerun else each
        for each, rerun, mended_by in later
        if not mended_by
    )


def _named(task_id: str) -> str:
    return task_id if has_number(task_id) else numbered(task_id, 1)


def _failure(runtime: Runtime, row: TaskRow) -> FailedRun | None:
    """Under the lock: how *row* failed, if that is told, and not allowed."""
    work: Work | None = row.cargo
    if row.state is not TaskState.FAILED or work is None or row.extra is None:
        return None
    is_told = work._visible_after <= runtime.committed
    if not is_told or row.extra.error is None or allowed_error(work) is not None:
        return None
    kind, message, _ = row.extra.error
    return FailedRun(row.id, kind, message, row.ended_ns)
