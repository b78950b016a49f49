"""
Removal of tasks that ended long ago from the journal, while others work.

Tasks that are bound together stay or go together: those that wait for each other, in
however many steps, the tasks of one run, the runs of one task, and the tasks that a
note is about. So the remaining tasks find their inputs, and a new incarnation folds the
rest as if the removed ones had never been.

While the orchestrator works, tasks go in batches. An event that comes meanwhile and
names a task keeps all tasks bound to it. No group of events is written while a batch is
removed, so none can name what the batch takes away.

Decision: retention.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import attrs

from taskorch.core.kernel import has_effect, without_tasks
from taskorch.errors import (
    JournalError,
    JournalUnavailableError,
    NotRunningError,
)
from taskorch.events import (
    Event,
    ExtensionKept,
    ScheduleFired,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskNoted,
    TaskParentsAdded,
    TaskRepointed,
    TaskSubmitted,
)
from taskorch.kit.fence import log_of
from taskorch.kit.frozen import frozen
from taskorch.kit.interrupts import begin_thread
from taskorch.kit.limits import NS
from taskorch.kit.plain import BACKFILLS, SCHEDULES, VERSIONS
from taskorch.kit.visible import counted
from taskorch.model import Retention
from taskorch.model.ids import run_by, stem_of
from taskorch.protocols import DurableJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskorch.core.kernel import Kernel

_ENDS: Final = (TaskCompleted, TaskFailed, TaskCancelled)
#: Seconds between two checks whether something may go.
_LOOK: Final = 60.0
#: Seconds until the next search, or the number of new events, if they are as many as
#: there were before: a search reads them all.
_SELDOM: Final = 3_600.0
_MANY: Final = 20_000
#: The least and the most tasks of a batch, and its intended seconds. Much of the cost
#: is the same for few tasks and for many.
_BATCH: Final = (300, 1_000)
_SHORT: Final = 0.04
#: Rows that leave memory at once, and single events that leave the journal at once.
_ROWS: Final = 500
_EVENTS: Final = 1_000
T = TypeVar("T")

_LOG: Final = log_of("taskorch.pruning")


@frozen
class Pruned:
    """
    The numbers of what has left the journal, or would leave it.

    Attributes:
        tasks: How many tasks.
        runs: How many runs of workflows, and single tasks of schedules, these were.
        facts: How many events about no task, such as of ticks.
        dry_run: Whether nothing was removed.
    """

    tasks: int
    runs: int
    facts: int
    dry_run: bool = False

    def __str__(self) -> str:
        verb = "Would forget" if self.dry_run else "Forgot"
        runs = f" of {counted(self.runs, 'run')}" if self.runs else ""
        return f"{verb} {counted(self.tasks, 'task')}{runs}."

    def to_dict(self) -> dict[str, Any]:
        """Return it in its JSON form."""
        return {**attrs.asdict(self), "text": str(self)}


@attrs.frozen
class Bundle:
    """
    Tasks that stay or go together, and have ended.

    Attributes:
        ids: The tasks.
        runs: Their runs of workflows, and the single tasks of schedules.
        schedules: The schedules that have made some of them.
        ended_ns: When the last of them ended.
    """

    ids: tuple[str, ...]
    runs: tuple[str, ...]
    schedules: tuple[str, ...]
    ended_ns: int


Bundles: TypeAlias = list[Bundle]
Retentions: TypeAlias = Mapping[str, Retention]


class EndedTasks:
    """The tasks and events that may leave the journal, collected from its events."""

    def __init__(self) -> None:
        self._bound = _Bound()
        self._ended: dict[str, int] = {}
        self._runs: dict[str, str] = {}
        #: Schedules by their work: a task, without the number of a re-run, or a run.
        self._schedule_of: dict[str, str] = {}
        #: The documents of schedules, by name.
        self._schedules: dict[str, str] = {}
        #: The scheduled times that have their task: number, time, id of the task or
        #: run.
        self._fired: list[tuple[int, int, str]] = []
        #: The progress of backfills, from their documents, by id.
        self._backfills: dict[str, str] = {}
        #: The number and the time of the event that wrote each document, by extension
        #: and key.
        self._kept: dict[tuple[str, str], tuple[int, int]] = {}
        #: Numbers and times of events about no task that change nothing any more.
        self._told: list[tuple[int, int]] = []
        self.count: int = 0

    def take(self, events: Iterable[Event]) -> None:
        """Note *events*, which are in order."""
        for event in events:
            self.count += 1
            if isinstance(event, TaskEvent):
                self._take_of_task(event)
            elif isinstance(event, ScheduleFired):
                stem = stem_of(event.task_id)
                self._schedule_of[stem] = event.name
                self._fired.append((event.seq, event.at_ns, stem))
            elif isinstance(event, ExtensionKept):
                self._take_of_extension(event)
            elif not has_effect(type(event)):
                self._told.append((event.seq, event.at_ns))

    def _take_of_task(self, event: Any) -> None:
        task_id = event.task_id
        if type(event) is TaskSubmitted:
            run = run_by(task_id, event.run)
            if run:
                self._runs[task_id] = run
            self._bound.bind(task_id, stem_of(task_id), *event.after, *_as_name(run))
            self._ended.pop(task_id, None)
        elif type(event) is TaskParentsAdded:
            self._bound.bind(task_id, *event.after)
        elif type(event) is TaskRepointed:
            self._bound.bind(task_id, *event.dependents)
        elif type(event) is TaskNoted:
            for name in event.needs:
                self._bound.bind(task_id, name, *_as_name(name))
        elif type(event) in _ENDS:
            self._ended[task_id] = event.at_ns

    def _take_of_extension(self, event: ExtensionKept) -> None:
        name, this = (event.extension, event.key), (event.seq, event.at_ns)
        if event.extension == BACKFILLS:
            self._backfills[event.key] = event.document
        elif event.extension == SCHEDULES:
            self._schedules[event.key] = event.document
        before = self._kept.pop(name, None)
        if before is not None:
            self._told.append(before)
        if event.document:
            self._kept[name] = this
        else:
            self._told.append(this)

    @property
    def retentions(self) -> dict[str, Retention]:
        """The retention of each schedule that has one of its own."""
        retentions = {
            name: retention_of(document) for name, document in self._schedules.items()
        }
        return {name: each for name, each in retentions.items() if each != Retention()}

    def over(self) -> Bundles:
        """Return all ended bundles that no backfill waits for; the latest first."""
        ids_by_root: dict[str, list[str]] = {}
        for task_id in self._bound.names():
            ids_by_root.setdefault(self._bound.root(task_id), []).append(task_id)
        waited_for = {
            name for document in self._backfills.values() for name in _runs_of(document)
        }
        bundles: Bundles = []
        for ids in ids_by_root.values():
            if not all(task_id in self._ended for task_id in ids):
                continue
            wholes = {self._runs.get(i) or stem_of(i) for i in ids}
            if not waited_for.isdisjoint(wholes):
                continue
            made = wholes & self._schedule_of.keys()
            runs = {run for i in ids if (run := self._runs.get(i))} | made
            schedules = {self._schedule_of[each] for each in made}
            ended_ns = max(self._ended[task_id] for task_id in ids)
            bundles.append(
                Bundle(tuple(ids), tuple(runs), tuple(sorted(schedules)), ended_ns)
            )
        bundles.sort(key=lambda bundle: -bundle.ended_ns)
        return bundles

    def superseded(self, gone: Bundles) -> list[int]:
        """
        Return the numbers of events about no task that are not needed once *gone* is.

        They are as old as that, and the remaining events give the same state.
        """
        if not gone:
            return []
        until_ns = max(bundle.ended_ns for bundle in gone)
        ids = {name for bundle in gone for name in (*bundle.runs, *bundle.ids)}
        ids.update(map(stem_of, [*ids]))
        staying = self._schedule_of.keys() - ids
        numbers = [seq for seq, at_ns in self._told if at_ns <= until_ns]
        # The event still says which schedule has made a task or run that stays.
        numbers += [
            seq
            for seq, at_ns, stem in self._fired
            if at_ns <= until_ns and stem not in staying
        ]
        return sorted(numbers)


def retention_of(document: str) -> Retention:
    """Return how long the work of a schedule is kept, from its document."""
    fields = json.loads(document) if document else {}
    if type(fields) is not dict:
        return Retention()
    # Another program may have written the document: a value that is no number is
    # ignored.
    age, most = fields.get("keep_for"), fields.get("keep_latest")
    return Retention(
        age if isinstance(age, int | float) and age >= 0 else None,
        most if isinstance(most, int) and most >= 0 else None,
    )


def going(
    past: EndedTasks,
    retention: Retention,
    now: int,
    *,
    schedule: str = "",
    by_hand: bool = False,
) -> Bundles:
    """
    Return the bundles that are not kept, and that nothing needs.

    Args:
        past: The ended tasks.
        retention: How long they are kept, unless their schedule has its own retention.
        now: The time, in ns.
        schedule: Only work of this schedule, whose latest runs are counted.
        by_hand: Whether the retention of schedules is ignored.
    """
    own = {} if by_hand else past.retentions
    kept: Counter[str] = Counter()
    gone: Bundles = []
    for bundle in past.over():
        if schedule and schedule not in bundle.schedules:
            continue
        # The latest of a schedule are counted in runs, others in tasks.
        names = [
            each
            for each in bundle.schedules
            if each in own or (by_hand and each == schedule)
        ]
        rules = [(each, own.get(each, retention), len(bundle.runs)) for each in names]
        if len(names) < max(1, len(bundle.schedules)):
            rules.append(("", retention, len(bundle.ids)))
        goes = True
        for name, rule, count in rules:
            kept[name] += count
            is_old = rule.age is not None and bundle.ended_ns < now - int(rule.age * NS)
            is_many = rule.most is not None and kept[name] > rule.most
            goes = goes and (is_old or is_many)
        if goes:
            gone.append(bundle)
    return gone


def prune(
    journal: DurableJournal,
    epoch: int,
    retention: Retention,
    now: int,
    *,
    schedule: str = "",
    by_hand: bool = False,
) -> int:
    """
    Remove what *retention* does not keep from *journal*; return the number of tasks.

    The caller has claimed the journal as *epoch*, and nobody works with its content.

    Raises:
        JournalError: It cannot be read or written.
    """
    if retention == Retention():
        return 0
    saved = journal.snapshot()
    past = EndedTasks()
    past.take(journal.facts())
    gone = going(past, retention, now, schedule=schedule, by_hand=by_hand)
    ids = {name for bundle in gone for name in bundle.ids}
    if saved is not None:
        # One of these still holds slots: the event of its end is to come.
        holding = {*saved[1].get("gone", ())}
        gone = [bundle for bundle in gone if holding.isdisjoint(bundle.ids)]
        ids = {name for bundle in gone for name in bundle.ids}
    if not ids:
        return 0
    if saved is not None:
        # The snapshot holds the sums over all removed events: a crash in the middle
        # leaves them.
        seq, state = saved
        saved = seq, without_tasks(state, ids)
        journal.save(epoch, *saved)
    if not journal.forget(epoch, ids):
        return 0
    numbers = past.superseded(gone)
    if numbers:
        journal.forget_events(epoch, numbers)
    journal.make_room(epoch)
    if saved is not None and journal.snapshot() is None:
        journal.save(epoch, *saved)
    return len(ids)


def foreseen(
    journal: DurableJournal,
    retention: Retention,
    now: int,
    *,
    schedule: str = "",
    by_hand: bool = False,
) -> Pruned:
    """
    Return what `prune` would remove, without removing anything.

    Raises:
        JournalError: It cannot be read.
    """
    past = EndedTasks()
    past.take(journal.facts())
    gone = going(past, retention, now, schedule=schedule, by_hand=by_hand)
    return _pruned(gone, past.superseded(gone), dry_run=True)


class Rings(Protocol):
    """Protocol: the timer."""

    def repeat(self, seconds: float, call: Callable[[], object]) -> Any:
        """Call a function every *seconds*."""
        ...


class Forgets(Protocol):
    """Protocol: the later runs of tasks, by their ids."""

    def forget(self, task_id: str) -> None:
        """Forget all runs of the task of a run."""
        ...


class Leaves(Protocol):
    """
    Protocol: the directory, which finds tasks by their ids.

    Attributes:
        keys: Idempotency keys.
        leaving: Tasks that are just leaving the journal.
        departures: How often a removal has begun or ended.
    """

    keys: dict[str, str]
    leaving: frozenset[str]
    departures: int

    @property
    def reruns(self) -> Forgets:
        """The later runs of tasks, by their ids."""
        ...


class HoldsEvents(Protocol):
    """
    Protocol: the writer of the journal.

    Attributes:
        last: The number of the latest event.
        listen: The callback for each event that is handed to it.
        journal: The journal.
    """

    last: int
    listen: Callable[[list[tuple[Any, Any]]], object] | None
    journal: DurableJournal

    def wait_kept(self, seq: int) -> None:
        """Return once the event of that number is kept."""
        ...

    def save_now(self) -> bool:
        """Save a snapshot; return whether that has worked."""
        ...

    def apart(self, act: Callable[[], T]) -> T:
        """Call *act* while no events are written."""
        ...


class LosesRuns(Protocol):
    """Protocol: the known runs of workflows."""

    def forget(self, run_ids: Iterable[str]) -> None:
        """Forget the runs of these ids."""
        ...


class Prunes(Protocol):
    """
    Protocol: what the pruner needs of the runtime.

    Attributes:
        kernel: The rows of the tasks.
        lock: The lock of the kernel.
        now: Returns the time, in ns.
        name: The prefix of names of threads.
        epoch: The number of this incarnation, for the fence.
        closed: Whether it has ended.
        draining: Whether it is about to stop.
        runs: The known runs of workflows, once that was needed.
    """

    kernel: Kernel
    lock: threading.Lock
    now: Callable[[], int]
    name: str
    epoch: int
    closed: bool
    draining: bool
    runs: LosesRuns | None

    @property
    def timer(self) -> Rings:
        """The timer."""
        ...

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Hold the lock, call *change*, and carry out its consequences."""
        ...

    def evict(self, ids: Iterable[str]) -> None:
        """Let those of *ids* leave memory whose ends are kept; hold the lock."""
        ...

    @property
    def directory(self) -> Leaves:
        """The directory of tasks."""
        ...


class Pruner:
    """Removes tasks that ended long ago from the journal and memory, meanwhile."""

    def __init__(self, rt: Prunes, committer: HoldsEvents) -> None:
        self._rt = rt
        self._committer = committer
        #: A lock, so that one removal runs at a time.
        self._turn = threading.Lock()
        #: Tasks and runs that events have named since the search began.
        self._named: set[str] = set()
        #: The time of the last search, and the number of events then and now.
        self._looked = -_SELDOM
        self._events = 0
        self._seq = 0
        self._batch = _BATCH[0]

    @property
    def journal_retention(self) -> Retention:
        """The retention of the journal."""
        return self._committer.journal.retention()

    # -- from time to time ---------------------------------------------------------

    def begin(self) -> None:
        """Start to look again and again, until the orchestrator stops."""
        self._seq = self._committer.last
        self._rt.timer.repeat(_LOOK, self.look)

    def look(self) -> None:
        """Start a removal on its own thread, if something may go."""
        rt = self._rt
        fresh = self._committer.last - self._seq
        is_due = monotonic() - self._looked > _SELDOM or fresh > max(
            _MANY, self._events
        )
        if not is_due or rt.closed or rt.draining or not self.settings():
            return
        with suppress(RuntimeError):
            begin_thread(self._keep_small, f"{rt.name}-pruning")

    def settings(self) -> bool:
        """Return whether the journal or a schedule has a retention."""
        with self._rt.lock:
            documents = [*self._rt.kernel.kept.get(SCHEDULES, {}).values()]
        kept = [self.journal_retention, *map(retention_of, documents)]
        return any(each != Retention() for each in kept)

    def _keep_small(self) -> None:
        try:
            pruned = self.run(self.journal_retention)
        except NotRunningError:
            return
        except JournalError as error:
            # The writers of the journal report its troubles.
            _LOG.info("nothing has left the journal: %s", error)
            return
        if pruned.tasks:
            _LOG.info("%s", pruned)

    # -- once ----------------------------------------------------------------------

    def run(
        self,
        retention: Retention,
        *,
        schedule: str = "",
        by_hand: bool = False,
        dry_run: bool = False,
    ) -> Pruned:
        """
        Remove what *retention* does not keep: see `going`.

        Raises:
            JournalError: The journal cannot be read or written.
            NotRunningError: The orchestrator stops.
        """
        rt, committer = self._rt, self._committer
        with self._turn:
            with rt.lock:
                self._named = set()
                committer.listen = self._hear
                last = committer.last
            try:
                committer.wait_kept(last)
                past = EndedTasks()
                past.take(self._events_now())
                self._looked, self._events, self._seq = monotonic(), past.count, last
                now = rt.now()
                gone = going(past, retention, now, schedule=schedule, by_hand=by_hand)
                if dry_run:
                    return _pruned(gone, past.superseded(gone), dry_run=True)
                return self._let_go(past, gone)
            finally:
                with rt.lock:
                    committer.listen = None

    def _events_now(self) -> Iterator[Event]:
        for number, event in enumerate(self._committer.journal.facts()):
            if not number % _EVENTS:
                self._refuse_stopped()
            yield event

    def _refuse_stopped(self) -> None:
        if self._rt.closed:
            msg = "the orchestrator has stopped"
            raise NotRunningError(msg)

    def _hear(self, items: Iterable[tuple[Any, Any]]) -> None:
        """Note the names in *items*, events that come meanwhile; hold the lock."""
        named = self._named
        for event, _ in items:
            if isinstance(event, TaskEvent):
                about: Any = event
                named.add(stem_of(about.task_id))
                if type(event) is TaskSubmitted:
                    named.add(run_by(about.task_id, event.run))
                for others in ("after", "dependents", "needs"):
                    named.update(map(stem_of, getattr(about, others, ())))

    def _let_go(self, past: EndedTasks, gone: Bundles) -> Pruned:
        committer = self._committer
        if not gone:
            return _pruned(gone, ())
        self._evict(gone)
        # The snapshot names none of the removed tasks, and has the sums over all
        # events.
        if not committer.save_now():
            msg = "nothing has left the journal: it could not keep a snapshot before"
            raise JournalUnavailableError(msg, outcome="refused", hint="try again")
        committer.journal.prepare_to_forget(self._rt.epoch)
        went: Bundles = []
        for batch in self._batches(gone):
            self._refuse_stopped()
            began = monotonic()
            went += committer.apart(partial(self._forget, batch))
            took = monotonic() - began
            least, most = _BATCH
            factor = min(2.0, _SHORT / max(took, 0.001))
            self._batch = min(max(least, int(self._batch * factor)), most)
        self._forget_versions(went)
        numbers = past.superseded(went)
        epoch, journal = self._rt.epoch, committer.journal
        for place in range(0, len(numbers), _EVENTS):
            self._refuse_stopped()
            part = numbers[place : place + _EVENTS]
            committer.apart(partial(journal.forget_events, epoch, part))
        self._events -= len(numbers)
        return _pruned(went, numbers)

    def _batches(self, gone: Bundles) -> Iterator[Bundles]:
        """Yield batches, the oldest first; larger ones if the last ones were quick."""
        batch: Bundles = []
        count = 0
        for bundle in reversed(gone):
            if batch and count + len(bundle.ids) > self._batch:
                yield batch
                batch, count = [], 0
            batch.append(bundle)
            count += len(bundle.ids)
        if batch:
            yield batch

    def _evict(self, gone: Bundles) -> None:
        """Let tasks that are to leave the journal leave memory."""
        rt = self._rt
        ids = [task_id for bundle in gone for task_id in bundle.ids]
        for place in range(0, len(ids), _ROWS):
            with rt.lock:
                rt.evict(ids[place : place + _ROWS])
        with rt.lock:
            keys, tasks = rt.directory.keys, rt.kernel.tasks
            rt.directory.keys = {key: i for key, i in keys.items() if i in tasks}

    def _forget(self, batch: Bundles) -> Bundles:
        """Remove *batch* but for tasks named meanwhile; return what has gone."""
        rt, journal = self._rt, self._committer.journal
        with rt.lock:
            held = {row.id for row in (each.row for each in rt.kernel.leaked.values())}
            went = [each for each in batch if self._may_go(each, held)]
            ids = {task_id for bundle in went for task_id in bundle.ids}
            runs = {run for bundle in went for run in bundle.runs}
            self._leave(ids, runs)
            rt.directory.leaving = frozenset(ids)
            rt.directory.departures += 1
        try:
            if ids and not journal.forget(rt.epoch, ids):
                return []
        finally:
            with rt.lock:
                rt.directory.leaving = frozenset()
                rt.directory.departures += 1
        return went

    def _forget_versions(self, went: Bundles) -> None:
        """Remove the documents with the versions of removed runs."""
        kernel = self._rt.kernel
        runs = [run for bundle in went for run in bundle.runs]

        def change(now: int) -> None:
            documents = kernel.kept.get(VERSIONS, {})
            for run in runs:
                if run in documents and run not in self._named:
                    kernel.keep_document(VERSIONS, run, "", now)

        if not kernel.kept.get(VERSIONS, {}).keys().isdisjoint(runs):
            self._rt.step(change)

    def _may_go(self, bundle: Bundle, held: Collection[str]) -> bool:
        """Return whether no event has named a task bound to it; hold the lock."""
        named, tasks = self._named, self._rt.kernel.tasks
        return (
            named.isdisjoint(bundle.runs)
            and named.isdisjoint(map(stem_of, bundle.ids))
            and tasks.keys().isdisjoint(bundle.ids)
            and not any(task_id in held for task_id in bundle.ids)
        )

    def _leave(self, ids: Collection[str], runs: Collection[str]) -> None:
        """Forget these tasks and runs in memory; hold the lock."""
        rt = self._rt
        rt.kernel.forget_tasks(ids, runs)
        for task_id in ids:
            rt.directory.reruns.forget(task_id)
        if rt.runs is not None:
            rt.runs.forget(runs)


def _pruned(
    bundles: Bundles, numbers: Collection[int], *, dry_run: bool = False
) -> Pruned:
    tasks = sum(len(bundle.ids) for bundle in bundles)
    runs = sum(len(bundle.runs) for bundle in bundles)
    return Pruned(tasks, runs, len(numbers), dry_run)


def _as_name(run: str) -> tuple[str, ...]:
    """Return a name for a run that no task can have."""
    return (f"{run}/",) if run else ()


def _runs_of(document: str) -> Iterable[str]:
    """Return the runs that a backfill waits for, from its document."""
    fields = json.loads(document) if document else {}
    # A program may have written the document under the name of backfills.
    runs = fields.get("runs") if isinstance(fields, dict) else None
    return runs if isinstance(runs, dict) else ()


class _Bound:
    """Groups of tasks that must be kept or removed together."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        #: Ids that no task may have, and removed parents, which are only names.
        self._tasks: dict[str, None] = {}

    def bind(self, task_id: str, *others: str) -> None:
        """Bind the task to *others*."""
        self._tasks[task_id] = None
        root = self.root(task_id)
        for other in others:
            self._above[self.root(other)] = root

    def root(self, name: str) -> str:
        """Return the name of the group of *name*."""
        above = self._above.setdefault(name, name)
        while above != name:
            # Halve the way for later calls.
            self._above[name] = above = self._above[above]
            name, above = above, self._above[above]
        return name

    def names(self) -> list[str]:
        return list(self._tasks)
