"""
Which task an id means: one in memory, one in the journal, or one that is lost.

Decisions: durable-commits, reruns.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, islice, pairwise
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine._attempts import GONE
from taskorch.core.engine._reruns import Reruns, refuse_itself
from taskorch.core.engine._translation import executor_for
from taskorch.core.engine._work import (
    NO_VARIABLES,
    Work,
    note_cache,
    why_unresolvable,
)
from taskorch.core.kernel import (
    Bucket,
    Kernel,
    PolicyFault,
    Spec,
    TaskRow,
    TypeRow,
    WorkerRow,
    is_unresolvable,
)
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    JournalUnavailableError,
    NotRunningError,
    ResultGoneError,
    UnknownTaskError,
)
from taskorch.events import (
    TASK_ID,
    Event,
    OrchestratorStarted,
)
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.visible import show
from taskorch.model import (
    TERMINAL,
    Call,
    Missing,
    Program,
    Task,
    TaskState,
    call_type,
    submitted_as,
)
from taskorch.model.ids import next_id, run_of, stem_of
from taskorch.protocols import AttemptExecutor, DurableJournal, Entry

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime, TaskEngine

# -- tasks of earlier incarnations on hold, whose function or worker is gone ----------


def hold_orphans(rt: Runtime, now: int) -> None:
    """Put tasks of earlier incarnations on hold whose workers are gone."""
    kernel, orphans = rt.kernel, rt.orphans
    for bucket in [each for each in kernel.parked if each.spec in orphans]:
        for row in bucket.rows():
            why = no_worker(kernel, row, now)
            if not why:
                orphans.pop(bucket.spec, None)
                break
            kernel.miss(row, why, now)


def no_worker(kernel: Kernel, row: TaskRow, now: int) -> str:
    """Return why no worker will be able to do *row*, as far as is known; or ""."""
    bucket = row.bucket
    if bucket.spec.requires is None or not kernel.config.refuse_unknown:
        return ""
    try:
        kernel.match(bucket, row, now)
    except PolicyFault:
        return ""
    if any(_may_come(worker) for worker in bucket.matching):
        return ""
    needs = ", ".join(bucket.spec.requires)
    return f"no worker can do {needs} any more"


def _may_come(worker: WorkerRow) -> bool:
    # A worker in another process, which has a lease, may register again.
    return not worker.lost or worker.info.lease is not None


# -- the works of tasks that were submitted in an earlier incarnation ------------------


def work_of(rt: TaskEngine, task: Task) -> Work:
    """Return the work of *task*, which an earlier incarnation has submitted."""
    payload = task.payload
    work: Work
    if isinstance(payload, Call):
        fn = payload.fn
        executor: AttemptExecutor[Any] | None = GONE
        if not isinstance(fn, Missing):
            try:
                executor = executor_for(fn, payload.executor, rt.executors)
            except InvalidTaskError as error:
                fn = Missing(call_type(fn), error.message)
        work = rt.new_work(fn, payload.args, payload.kwargs, executor, NO_VARIABLES)
    elif isinstance(payload, Missing):
        work = rt.new_work(payload, (), {}, GONE, NO_VARIABLES)
    else:
        is_program = isinstance(payload, Program)
        executor = rt.executors["program"] if is_program else None
        work = rt.new_work(None, (), {}, executor, NO_VARIABLES)
    work._task = task
    note_cache(work)
    return work


def lost_by(work: Work) -> list[Missing]:
    """Return the functions that *work* needs and that were missing at the last look."""
    task = work._task
    if task is None:
        return []
    payload: Any = task.payload
    called = payload.fn if isinstance(payload, Call) else payload
    return [each for each in (called, task.join) if isinstance(each, Missing)]


# -- what a journal knows of tasks that have left memory -------------------------------


_ENDED: Final = {
    "TaskCompleted": TaskState.COMPLETED,
    "TaskFailed": TaskState.FAILED,
    "TaskCancelled": TaskState.CANCELLED,
}


class Recollection:
    """
    Reads tasks that have left memory in the journal.

    Args:
        rt: The runtime.
        journal: The journal.
        fold: Makes tasks of their entries: see `folded`.
    """

    def __init__(self, rt: Runtime, journal: DurableJournal, fold: Any) -> None:
        self._rt = rt
        self._fold = fold
        self.journal = journal
        #: The kernel of the tasks that were read last; before, that of all others.
        self.apart: Kernel = rt.kernel

    def ends(self, ids: Collection[str]) -> dict[str, TaskState]:
        """Return the final states of those of *ids* that have ended."""
        found = self.journal.ends(ids)
        return {task_id: _ENDED[kind] for task_id, kind in found.items()}

    def ids(self, prefix: str) -> Sequence[str]:
        """Return the ids that begin with *prefix*, in order."""
        return self.journal.ids(prefix)

    def entries_of(self, ids: Collection[str]) -> dict[str, list[Entry]]:
        """Return the events about many runs, by their ids."""
        entries: dict[str, list[Entry]] = {task_id: [] for task_id in ids}
        for entry in self.journal.about(ids, self._rt.committed):
            entries[entry[0][TASK_ID]].append(entry)
        return entries

    def latest_of(self, stems: Collection[str]) -> dict[str, str]:
        """Return the latest run of each task, by the id that all its runs have."""
        latest: dict[str, str] = {}
        found = {stem: stem for stem in stems}
        while found:
            latest |= found
            later = {stem: next_id(name) for stem, name in found.items()}
            # All runs of a task leave the journal together, so that none is missing.
            began = self.journal.began(later.values())
            found = {stem: name for stem, name in later.items() if name in began}
        return latest

    def of_classes(
        self, classes: Collection[type[Event]], until_ns: int, most: int
    ) -> list[Event]:
        """
        Return the latest events of classes of which there are few, until a time.

        There are at most so many of each class; all of them are in their order.
        """
        from taskorch.core.journal import SqlJournal  # noqa: PLC0415 - seldom needed

        if isinstance(self.journal, SqlJournal):
            names = [each.__name__ for each in classes]
            entries = self.journal.of_kinds(names, until_ns, most)
            return [event for event, _ in entries]
        latest = {each: deque[Event](maxlen=most) for each in classes}
        for event, _ in self.journal.read():
            if event.at_ns > until_ns:
                break
            if type(event) in latest:
                latest[type(event)].append(event)
        return sorted(chain.from_iterable(latest.values()), key=attrgetter("seq"))

    def id_of_key(self, key: str) -> str | None:
        """Return the task that was submitted with an idempotency key."""
        return self.journal.id_of_key(key)

    def last_before_incarnation(self, task_id: str, began: int) -> int | None:
        """
        Return the time of the last event before the incarnation of time *began*.

        Args:
            task_id: A task that the earlier incarnation left, as an event says.
            began: A time, in ns.

        Returns:
            The time, in ns; None if no incarnation began then.
        """
        about = self.journal.select((task_id,), self._rt.committed)
        number = next((event.seq for event, _ in about if event.at_ns == began), 0)
        # An incarnation begins with one event for each task that was left, all at the
        # same time.
        for many in (100, 100_000):
            first = max(0, number - many)
            events = [event for event, _ in islice(self.journal.read(first), many)]
            for last, event in pairwise(events):
                if type(event) is OrchestratorStarted and event.at_ns == began:
                    at: int = last.at_ns
                    return at
            if not events or events[0].at_ns < began:
                # All events of that time have been seen.
                break
        return None

    def recollect(
        self, task_id: str, state: TaskState, read: Mapping[str, Work] | None = None
    ) -> Work:
        """
        Return a handle for a task that has ended, with its result or its error.

        Args:
            task_id: Its id.
            state: How it has ended.
            read: What was read already, of this task or of others.

        Raises:
            JournalUnavailableError: Its end is still on its way into the journal.
            ResultGoneError: The journal does not know it.
        """
        rt = self._rt
        work = (read or {}).get(task_id) or self.recollect_all((task_id,)).get(task_id)
        ended = work is not None and work._row.state in TERMINAL
        commits = None if rt.committer is None else rt.committer.commits
        on_its_way = commits is not None and bool(commits.pending or commits.in_hand)
        if not ended and (work is not None or on_its_way):
            msg = f"task {task_id} is {state}, and its end is not kept yet"
            raise JournalUnavailableError(msg, outcome="refused", hint="ask again")
        if work is None:
            msg = f"task {task_id} is {state}, and its events are not in the journal"
            raise ResultGoneError(msg, task_id=task_id)
        # As for all tasks out of memory, the row does not lead back to the handle.
        work._row.cargo = None
        return work

    def recollect_all(self, ids: Collection[str]) -> dict[str, Work]:
        """Return the tasks of *ids* in the journal, with rows of another kernel."""
        return self.works_of(self.journal.select(ids, self._rt.committed))

    def rows_of(self, ids: Collection[str]) -> list[TaskRow]:
        """Return the tasks of *ids* in the journal, as rows of another kernel."""
        return [work._row for work in self.recollect_all(ids).values()]

    def works_of(self, entries: Iterable[Entry]) -> dict[str, Work]:
        """Return the tasks that *entries* are about, each with its entries in order."""
        until = self._rt.committed
        works: dict[str, Work]
        works, self.apart = self._fold(
            self._rt, entries, lambda ids: self.journal.about(ids, until)
        )
        self.add_roots(works)
        return works

    def add_roots(self, works: dict[str, Work]) -> None:
        """Give tasks that failed because of others the first error of those."""
        roots = {
            name: extra.first_roots[0]
            for name, work in works.items()
            if (extra := work._row.extra) is not None and extra.first_roots
        }
        gone = {*roots.values()} - self._rt.kernel.tasks.keys()
        if not gone:
            return
        unread = gone - works.keys()
        above = works | (self.recollect_all(unread) if unread else {})
        for name, root in roots.items():
            if root in gone and root in above:
                works[name]._above = (*works[name]._above, above[root])


# -- the tasks of one orchestrator by their ids: in memory, or in its journal ----------


#: The hint for a task of another orchestrator.
_FOREIGN: Final = "wait there, with handle.result(), and hand over what it returns"


class Directory:
    """
    Finds the task, and the run of it, that an id means.

    The caller has the lock, except for questions about a single id.
    """

    def __init__(self, rt: TaskEngine) -> None:
        self._rt = rt
        #: The latest runs of tasks that were run again.
        self.reruns: Reruns = Reruns()
        #: Reads tasks that have left memory, if there is a journal that can.
        self.recovered: Recollection | None = None
        #: The ids of tasks by idempotency keys.
        self.keys: dict[str, str] = {}
        #: Tasks that are just leaving the journal, which may still find them; and how
        #: often such a departure has begun or ended.
        self.leaving: frozenset[str] = frozenset()
        self.departures: int = 0

    def is_known(self, task_id: str) -> bool:
        """Return whether such a run exists or did, as far as memory goes."""
        kernel = self._rt.kernel
        return task_id in kernel.tasks or task_id in kernel.evicted

    def is_gone(self, work: Work) -> bool:
        """Return whether a task left the journal since it was found; hold the lock."""
        return self.departures > 0 and not self.is_known(work._row.id)

    def run_of(self, task_id: str) -> str:
        """
        Return the workflow run of a task, by its id; "" if it has none.

        For a task that has left memory only the ids say it.
        """
        row = self._rt.kernel.tasks.get(task_id)
        if row is not None:
            return row.run
        run_id = run_of(task_id)
        is_known = run_id in self._rt.kernel.runs or self.recovered is not None
        return run_id if is_known else ""

    def row(self, task_id: str) -> TaskRow:
        """
        Return the row of a run of a task, by the id of the run.

        Raises:
            UnknownTaskError: There is none.
        """
        return self.known(task_id)._row

    def known(
        self,
        task_id: str,
        by: Task | None = None,
        read: Mapping[str, Work] | None = None,
    ) -> Work:
        """
        Return the work of a run of a task, by the id of the run.

        Raises:
            UnknownTaskError: There is none.
        """
        kernel = self._rt.kernel
        row = kernel.tasks.get(task_id)
        if row is not None and row.cargo is not None:
            work: Work = row.cargo
            return work
        state = kernel.evicted.get(task_id)
        if state is not None:
            if self.recovered is not None:
                return self.recovered.recollect(task_id, state, read)
            return _gone(self._rt, task_id, state)
        who = "" if by is None else f"{_name_of(by)} needs {task_id!r}, but "
        msg = f"{who}no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=task_id)

    def known_all(self, ids: Iterable[str]) -> dict[str, Work]:
        """Return the works of those runs of tasks that exist or did, read at once."""
        kernel, past = self._rt.kernel, self.recovered
        names = [each for each in ids if self.is_known(each)]
        gone = [each for each in names if each not in kernel.tasks]
        read = past.recollect_all(gone) if past is not None and gone else {}
        return {each: self.known(each, read=read) for each in names}

    def latest(self, task_id: str) -> Work:
        """
        Return the work of the run that *task_id* means, mostly the latest.

        Raises:
            UnknownTaskError: There is none.
        """
        return self.known(self.reruns.latest(task_id))

    def find(self, ref: Any, by: Task) -> Work:
        """
        Return the work of *ref*, an id, a handle or a submitted Task.

        Raises:
            UnknownTaskError: There is none.
            CycleError: It is a run of *by* itself, the task that depends on it.
        """
        work = self._of_work(ref, by) if isinstance(ref, Work) else self._find(ref, by)
        refuse_itself(work._row.id, by)
        return work

    def _find(self, ref: Any, by: Task) -> Work:
        if isinstance(ref, str):
            return self.known(self.reruns.latest(ref), by)
        if not isinstance(ref, Task):
            msg = f"{_name_of(by)} needs {show(ref)}, which is no id, handle or task"
            raise UnknownTaskError(msg, task_id=by.id)
        name = submitted_as(ref) or ref.id
        if name is None:
            msg = f"{_name_of(by)} needs {_name_of(ref)}, which was not submitted"
            hint = "submit it first, or in the same list of tasks"
            raise UnknownTaskError(msg, hint=hint, task_id=by.id)
        name = self.reruns.latest(stem_of(name))
        if not self.is_known(name):
            msg = (
                f"{_name_of(by)} needs task {name}, which was not submitted here, or "
                "was submitted to another orchestrator since"
            )
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        return self.known(name, by)

    def _of_work(self, work: Work, by: Task) -> Work:
        """Return the work that a handle means: a later run, if this one failed."""
        home: object = work._rt
        if home is not self._rt:
            msg = f"{_name_of(by)} needs {work!r}, which is of another orchestrator"
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        row = work._row
        if self.is_gone(work):
            msg = f"{_name_of(by)} needs task {row.id}, which has left the journal"
            hint = "hand over what it has made instead: handle.result()"
            raise UnknownTaskError(msg, hint=hint, task_id=by.id)
        if row.state not in (TaskState.FAILED, TaskState.CANCELLED):
            return work
        latest = self.reruns.latest(stem_of(row.id))
        return work if latest == row.id else self.known(latest)

    # -- what has left memory ------------------------------------------------------

    def recall(self, names: Iterable[str], lock: Lock | None = None) -> None:
        """
        Look in the journal for tasks of *names* that have left memory.

        It is read without the *lock*, unless the caller has that: then it is None.

        Raises:
            JournalError: It cannot be read.
        """
        if self.recovered is None:
            return
        unknown = self._unknown(names)
        while unknown:
            departures = self.departures
            ends = self.recovered.ends(unknown)
            with nullcontext() if lock is None else lock:
                if departures != self.departures:
                    # Some of it may have left the journal since it was asked.
                    continue
                unknown = self._recalled(
                    {name: ends[name] for name in ends if name not in self.leaving}
                )

    def recall_later(self, names: Collection[str], lock: Lock | None = None) -> None:
        """
        Look in the journal for later runs of the tasks of *names*.

        It finds those between a run and a later one in memory, too.

        Raises:
            JournalError: It cannot be read.
        """
        self.recall(map(stem_of, names), lock)
        self.recall(chain.from_iterable(map(self.reruns.later_than, names)), lock)

    def _unknown(self, names: Iterable[str]) -> set[str]:
        """Return the latest runs of *names* that memory does not know."""
        latest = map(self.reruns.latest, names)
        return {name for name in latest if not self.is_known(name)}

    def _recalled(self, found: Mapping[str, TaskState]) -> set[str]:
        """Note tasks that have ended; return re-runs that may have, too."""
        self._rt.kernel.remember_ended(found)
        for name in found:
            self.reruns.note(name)
        return self._unknown(self.reruns.next_id(name) for name in found)

    # -- what was missing when the journal was opened ----------------------------------

    def bring_back(self, work: Work) -> None:
        """Give *work* functions that were missing and are here; hold the lock."""
        task, lost = work._task, lost_by(work)
        if task is None or not lost:
            return
        found = {id(each): each.look() for each in lost}
        payload: Any = task.payload
        join: Any = found.get(id(task.join), task.join)
        if isinstance(payload, Call):
            payload = attrs.evolve(payload, fn=found.get(id(payload.fn), payload.fn))
        else:
            payload = found.get(id(payload), payload)
        back = work_of(self._rt, attrs.evolve(task, payload=payload, join=join))
        work._task, work._fn, work._executor = back._task, back._fn, back._executor
        work._args, work._kwargs = back._args, back._kwargs
        note_cache(work)

    def release_if_back(self, row: TaskRow, now: int) -> None:
        """Release *row*, which is on hold, if the function it needs is here now."""
        if not is_unresolvable(row):
            return
        self.bring_back(row.cargo)
        kernel = self._rt.kernel
        if not why_unresolvable(row.cargo) and not no_worker(kernel, row, now):
            # A veto of the user's StateMachine leaves it where it is.
            with suppress(InvalidTransitionError, PolicyFault):
                kernel.decide(row, "retry", now)


def _gone(rt: TaskEngine, task_id: str, state: TaskState) -> Work:
    """Return a handle for a task that has left memory."""
    work = rt.new_work(None, (), {}, None, NO_VARIABLES)
    # As for all tasks out of memory, the row does not lead back to the handle.
    row = TaskRow(task_id, 0, Bucket(Spec(""), TypeRow()), None, 0)
    row.state = state
    row.run = rt.directory.run_of(task_id)
    work._row = row
    msg = (
        f"task {task_id} is {state}, and finished so long ago that its result has "
        "left memory"
    )
    work._error = ResultGoneError(msg, task_id=task_id)
    return work


def _name_of(task: Task) -> str:
    return f"task {task.id}" if task.id else f"a task of type {task.type!r}"


# -- functions that were not here as the journal was opened, and may come later --------


#: Seconds between two looks.
_LOOK: Final = 0.25


class LostFunctions:
    """
    Looks repeatedly for functions that were missing when the journal was opened.

    They mostly stand below the line that opens it: in a script, in a file that
    `taskorch serve` loads, under a decorator of the orchestrator.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        #: The tasks that need them; changed under the lock.
        self.rows: dict[TaskRow, None] = {}
        #: Modules that cannot be imported: they are not tried again.
        self._broken: set[str] = set()
        #: Guards the next attribute.
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self.rows)

    def add(self, row: TaskRow) -> None:
        """Look for the functions that *row* needs; do not hold the runtime's lock."""
        with self._rt.lock:
            self.rows[row] = None
        self.watch()

    @defers_interrupts
    def watch(self) -> None:
        """Look until all functions are here; do not hold the controller's lock."""
        with self._lock:
            if self.rows and self._end is None:
                self._end = self._rt.timer.repeat(_LOOK, self.look)

    def look(self) -> None:
        """Look for them; release tasks on hold whose function is here now."""
        rt = self._rt
        with rt.lock:
            names = {each.name for row in self.rows for each in lost_by(row.cargo)}
        for name in names:
            self._load(name.rpartition(":")[0])
        with suppress(NotRunningError):
            rt.step(self._look)
        with self._lock:
            if not self.rows and self._end is not None:
                self._end()
                self._end = None

    def _look(self, now: int) -> None:
        gone: set[str] = set()
        for row in list(self.rows):
            work = row.cargo
            if row.state in TERMINAL:
                del self.rows[row]
                continue
            if not gone.isdisjoint(each.name for each in lost_by(work)):
                continue
            self._rt.directory.bring_back(work)
            missing = lost_by(work)
            gone.update(each.name for each in missing)
            if not missing:
                del self.rows[row]
                self._rt.directory.release_if_back(row, now)

    def _load(self, module: str) -> None:
        """Import a module that has come meanwhile."""
        if not module or module in sys.modules or module in self._broken:
            return
        if "@" in module:
            # The module of a script cannot be imported by its name.
            return
        try:
            if find_spec(module) is not None:
                import_module(module)
        except Exception:  # noqa: BLE001 - a module that is imported may raise anything
            self._broken.add(module)
