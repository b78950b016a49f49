"""The opening of a journal: it is read, and unfinished tasks are taken up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine._committer import Committer
from taskorch.core.engine._directory import Recollection, no_worker, work_of
from taskorch.core.engine._documents import (
    error_of_document,
    recall_earlier,
    recall_late,
)
from taskorch.core.engine._identity import changed_task
from taskorch.core.engine._work import (
    NEVER,
    Emitted,
    Work,
    added_by,
    extra_of,
    note_bonds,
    set_result,
    tried,
    turn,
    why_unresolvable,
)
from taskorch.core.kernel import (
    LOCAL,
    Kernel,
    Restoration,
    TaskRow,
    budgeting,
    fold,
    recover,
    take_snapshot,
)
from taskorch.errors import InternalError, InvalidTaskError, JournalError
from taskorch.events import (
    CATALOGUE,
    TASK_ID,
    AgentJoined,
    BudgetSpent,
    Event,
    EventEmitted,
    LateResultIgnored,
    RecoveryAttempted,
    ResultsUsed,
    TaskCheckpointed,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRenewed,
    TaskRepointed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kit.checks import built_in
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.interrupts import (
    INTERRUPTS,
    defers_interrupts,
    guard,
    takes_interrupts,
)
from taskorch.model import TERMINAL, Agent, Retention, Task, TaskState
from taskorch.model.ids import stem_of
from taskorch.protocols import DurableJournal, Entry

if TYPE_CHECKING:
    from taskorch.core.engine._attempts import WorkerRunner
    from taskorch.core.engine._runtime import Runtime, TaskEngine

# -- folding: what the events of earlier incarnations lead to --------------------------

# It gives the kernel the events, and tasks their work. The simulation folds its
# journals by it, too; and tasks that have left memory come back by it, in a kernel of
# their own.


#: Events that change only data which is kept beside a task.
_BESIDE: Final = frozenset(
    {
        LateResultIgnored,
        RecoveryAttempted,
        ResultsUsed,
        TaskCheckpointed,
        TaskRenewed,
        TaskRetrying,
    }
)


class Folding:
    """
    Applies the events of earlier incarnations, and gives the tasks their work again.

    The runtime, or a simulated one, has a kernel that is new; or there is one *apart*.
    """

    def __init__(self, rt: TaskEngine, apart: Kernel | None = None) -> None:
        self._rt = rt
        self._apart = apart
        self._kernel = apart or rt.kernel
        #: Works of tasks that the user named.
        self._named: list[Work] = []

    def fold(self, entry: Entry, apply: Callable[..., None] | None = None) -> None:
        """
        Apply one event, with its document.

        It is about a task that gets a row, or an event from outside. *apply* gives it
        with its cargo to the kernel; None folds it.
        """
        event: Any
        event, document = entry
        kernel, cls = self._kernel, type(event)
        cargo: Work | None = None
        if cls is TaskSubmitted:
            cargo = self._submitted(event, document)
        elif cls is TaskCompleted:
            set_result(kernel.tasks[event.task_id].cargo, document)
        elif cls is TaskFailed:
            kernel.tasks[event.task_id].cargo._error = error_of_document(
                event, document
            )
        elif cls is TaskOptionsChanged:
            work = kernel.tasks[event.task_id].cargo
            work._task = changed_task(work._task, event, document)
        elif cls is TaskParentsAdded:
            note_bonds(kernel.tasks[event.task_id].cargo, event)
        elif cls is TaskRepointed:
            self.note_turned(event)
        elif cls in _BESIDE:
            self._keep_beside(event, document)
        given: Any = Emitted(document) if cls is EventEmitted else cargo
        if apply is None:
            fold(kernel, event, given)
        else:
            apply(event, given)
        if cargo is not None:
            cargo._row = kernel.tasks[event.task_id]

    def note_turned(self, event: Event) -> None:
        """Let tasks wait for the next run of their parent, if *event* says so."""
        if type(event) is not TaskRepointed:
            return
        for name in event.dependents:
            if name in self._kernel.tasks:
                turn(self._kernel.tasks[name].cargo, event.task_id, event.rerun_id)

    def _keep_beside(self, event: Any, document: Any) -> None:
        """Keep data for the task and its user that the kernel does not need."""
        row = self._kernel.tasks.get(event.task_id)
        if row is None:
            return
        if type(event) is LateResultIgnored:
            recall_late(row.cargo, event, document)
        elif type(event) is RecoveryAttempted:
            extra = extra_of(row.cargo)
            extra.recoveries = (*extra.recoveries, tried(event))
        elif type(event) in (ResultsUsed, TaskRenewed):
            note_bonds(row.cargo, event)
        elif type(event) is TaskRetrying:
            if document is not None:
                recall_earlier(row.cargo, event, document)
        else:
            extra_of(row.cargo).checkpoint = document

    def _submitted(self, event: TaskSubmitted, task: Task) -> Work:
        work = work_of(self._rt, task)
        work._after = event.after
        if event.trace is not None:
            extra_of(work).trace = event.trace
        if self._apart is not None:
            return work
        self._rt.directory.reruns.note(event.task_id)
        if adder := added_by(work):
            self._rt.directory.reruns.adders.add(stem_of(adder))
        if task.idempotency_key is not None:
            self._rt.directory.keys[task.idempotency_key] = event.task_id
        rt = self._rt
        can_be_asked = rt.committer is not None or rt.directory.recovered
        if event.named and not can_be_asked:
            self._named.append(work)
        return work

    def reconnect(self) -> None:
        """Give tasks the works of their parents, after the folding."""
        named, self._named = self._named, []
        for work in named:
            row = work._row
            if row.id not in self._kernel.tasks:
                # Without a journal, nothing could be asked for it later.
                self._rt.submission.remember(row, work)
        for row in self._kernel.tasks.values():
            if row.links is not None:
                parents = row.links.parents
                row.cargo._above = tuple(
                    [self._rt.directory.known(p.id) for p in parents]
                )


def apply_in_order(
    folding: Folding, restoration: Restoration, entries: list[Entry]
) -> None:
    """Apply the events before a snapshot about its tasks, and those they need."""
    entries.sort(key=lambda entry: entry[0].seq)
    for entry in entries:
        if restoration.is_kept(entry[0][TASK_ID]):
            folding.fold(entry, restoration.fold)
        else:
            folding.note_turned(entry[0])
            restoration.fold(entry[0])


def folded(
    rt: TaskEngine,
    asked: Iterable[Entry],
    more: Callable[[Collection[str]], Iterable[Entry]],
) -> tuple[dict[str, Work], Kernel]:
    """
    Return the tasks that *asked* are about, and the kernel of theirs with their rows.

    Args:
        rt: The runtime, whose own kernel stays as it is.
        asked: All events of these tasks, with their documents.
        more: Gives those of the tasks that they depend on.
    """
    from taskorch.events.ends import ENDS  # noqa: PLC0415 - of what is over

    told = [*asked]
    ids = [event.task_id for event, _ in told if type(event) is TaskSubmitted]
    config = attrs.evolve(rt.kernel.config, keep_finished=len(ids))
    kernel = Kernel(config, rt.kernel.deciders, Random(0))  # noqa: S311 - it is not asked
    state = take_snapshot(kernel, 0) | {"tasks": ids, "places": [*range(len(ids))]}
    state["counters"]["seq"] = sys.maxsize
    restoration = Restoration(kernel, state)
    entries = [*told]
    missing = restoration.missing(event for event, _ in entries)
    while missing:
        above = list(more(missing))
        entries += above
        missing = restoration.missing(event for event, _ in above)
    for event, _ in entries:
        if type(event) is TaskStarted and event.agent_id not in kernel.workers:
            # The rest of its state does not matter here.
            fold(kernel, AgentJoined(0, event.at_ns, Agent(event.agent_id)))
    apply_in_order(Folding(rt, kernel), restoration, entries)
    works = {name: kernel.tasks[name].cargo for name in ids}
    for event, _ in told:
        work, kind = works.get(event[TASK_ID]), type(event)
        if work is None:
            continue
        if ENDS.get(kind) in TERMINAL:
            work._visible_after = event.seq
        if work._row.bucket.spec.budget and kind in (BudgetSpent, TaskStarted, *ENDS):
            # The events of the task do not say which budgets there were.
            budgeting().recall_spent(work._row, event)
    return works, kernel


# -- rereading: from a journal to the state that its events lead to --------------------

# It begins with the latest snapshot, if there is one that can be used; later events are
# applied as they come. A new incarnation does this, and so does a reader.


#: The errors of an event that does not fit the state before it.
_MISFITS: Final = (AssertionError, AttributeError, LookupError, TypeError)


class Rereading:
    """
    Folds the events of *journal* into the kernel of *rt*, which has not begun yet.

    The journal need not be claimed.

    Args:
        rt: The runtime, which has done nothing yet.
        journal: The journal to read.
        ended: Whether tasks that had ended and were in memory at the time of the
            snapshot come back into it. If not, only the journal knows them, like those
            that left memory before.
    """

    def __init__(
        self, rt: Runtime, journal: DurableJournal, *, ended: bool = True
    ) -> None:
        self._rt = rt
        self._journal = journal
        self._ended = ended
        # The events bring the pools and workers, up to the end of the last incarnation.
        rt.new_kernel()
        self.folding: Folding = Folding(rt)
        #: The number of the last event that was applied, and the time of the latest.
        self.last: int = 0
        self.at_ns: int = 0
        #: The number of the snapshot that it began with; 0 if none.
        self.snapshot_at: int = 0

    def run(self) -> None:
        """
        Apply all events.

        Raises:
            JournalError: It cannot be read.
        """
        self.begin()
        self.apply(self._journal.read(after=self.last))

    def begin(self) -> None:
        """
        Begin with the latest snapshot, if there is one.

        Raises:
            JournalError: It cannot be read.
        """
        found = self._journal.snapshot()
        if found is not None and self._restore(found[1]):
            self.snapshot_at = self.last

    def apply(self, entries: Iterable[Entry]) -> None:
        """
        Apply *entries*, which come after all that were applied.

        Raises:
            JournalError: One does not fit those before it.
        """
        fold = self.folding.fold
        for entry in entries:
            event = entry[0]
            try:
                fold(entry)
            except _MISFITS as error:
                where, kind = self._journal.description(), type(event).__name__
                msg = (
                    f"{where} is damaged: event {event.seq}, {kind}, does not fit what "
                )
                msg += f"came before it ({type(error).__name__}: {error})"
                hint = "restore it from a copy: events before it may be missing"
                raise JournalError(msg, hint=hint) from error
            self.last, self.at_ns = event.seq, max(self.at_ns, event.at_ns)

    def _restore(self, state: dict[str, Any]) -> bool:
        """Begin with a snapshot; return whether that worked."""
        rt, journal = self._rt, self._journal
        entries: list[Entry] = []
        if not self._ended:
            state, entries = self._open_of(state)
        try:
            restoration = Restoration(rt.kernel, state)
        except ValueError:
            return False
        until = restoration.seq
        read = {entry[0][TASK_ID] for entry in entries}
        others = [name for name in restoration.ids if name not in read]
        entries += journal.select(others, until)
        later = journal.facts(until)
        missing = restoration.missing(chain((event for event, _ in entries), later))
        while missing:
            more = list(journal.select(missing, until))
            entries += more
            missing = restoration.missing(event for event, _ in more)
        apply_in_order(self.folding, restoration, entries)
        self._keep_events(restoration)
        try:
            restoration.finish()
        except (InternalError, LookupError):
            rt.new_kernel()
            self.folding = Folding(rt)
            return False
        if not self._ended:
            # A later run may be known by its end alone.
            for name in rt.kernel.evicted.by_id:
                rt.directory.reruns.note(name)
        self.last, self.at_ns = until, restoration.at_ns
        return True

    def _open_of(self, state: dict[str, Any]) -> tuple[dict[str, Any], list[Entry]]:
        """
        Return a snapshot without most of the tasks that had ended.

        Tasks stay if later events are about them, since the counters of the snapshot
        have them as open. So do those that open tasks depend on, in all of their runs:
        `explain` names how they failed.

        Returns:
            The snapshot, and the events about its open tasks.
        """
        ended, until = {*self._journal.ends(state["tasks"])}, state["counters"]["seq"]
        for event in self._journal.facts(until):
            if isinstance(event, TaskEvent):
                ended.discard(event.task_id)
        names = [name for name in state["tasks"] if name not in ended]
        entries = list(self._journal.select(names, until))
        above: set[str] = set()
        for event, _ in entries:
            if isinstance(event, TaskSubmitted | TaskParentsAdded):
                above.update(map(stem_of, event.after))
        places = zip(state["tasks"], state["places"], strict=True)
        kept = {
            name: place
            for name, place in places
            if name not in ended or stem_of(name) in above
        }
        return state | {"tasks": [*kept], "places": [*kept.values()]}, entries

    def _keep_events(self, restoration: Restoration) -> None:
        """Fold the events from outside that no task had waited for."""
        numbers = dict.fromkeys(restoration.events)
        if not numbers:
            return
        # They are kept for a while only, so they are among the last.
        for entry in self._journal.read(after=min(numbers) - 1):
            number = entry[0].seq
            if number > restoration.seq:
                break
            if number in numbers:
                self.folding.fold(entry, restoration.fold)


# -- recovery: a new incarnation opens the journal, and takes up what is there ---------


_ALL: Final = frozenset(CATALOGUE)
#: The number of replayed events after which an incarnation begins with a snapshot.
_REPLAYED: Final = 2_000
#: States in which callers that wait are woken.
_SETTLED: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED}
)


class Recovery:
    """Opens the journal of a runtime that has done nothing yet; under its lock."""

    def __init__(self, rt: Runtime) -> None:
        assert rt.committer is not None  # noqa: S101 - the runtime is durable
        self._rt = rt
        self._committer = rt.committer
        self._journal = rt.committer.journal

    def run(self) -> None:
        """
        Claim the journal, fold it, and take up the unfinished tasks.

        Raises:
            JournalError: It cannot be used.
        """
        rt, journal = self._rt, self._journal
        rt.epoch = journal.claim()
        rt.name_incarnation()
        self._prune()
        if self._committer.can_be_asked:
            rt.directory.recovered = Recollection(rt, journal, folded)
        past = Rereading(rt, journal)
        past.run()
        kernel = rt.kernel
        now_ns = MonotonicClock(not_before=past.at_ns).now_ns
        rt.now = now_ns
        self._sweep()
        committer = self._committer
        snapshots = committer.snapshots
        snapshots.at = past.snapshot_at or snapshots.at
        # An incarnation may not live until one is due, and the next replays all anew.
        snapshots.is_asked_for = past.last - past.snapshot_at > _REPLAYED
        committer.commits.committed = committer.last = rt.committed = past.last
        past.folding.reconnect()
        if rt.directory.recovered is not None:
            # The journal knows all of them, and takes less room.
            kernel.forget_ended()
            keys, tasks = rt.directory.keys, kernel.tasks
            rt.directory.keys = {key: i for key, i in keys.items() if i in tasks}
        for row in kernel.tasks.values():
            if row.state not in _SETTLED:
                row.cargo._visible_after = NEVER
        # From now on, only kept tasks leave memory: see `Committer`.
        kernel.keep_finished()
        for row in kernel.finished:
            rt.weights.note(row, rt.weights.weigh(row.cargo, row.cargo._value, None))
        rt.weights.let_go(committer.last)
        kernel.listen([], _ALL)
        if rt.governor is not None:
            rt.governor.recall(past.last)
        recover(kernel, rt.epoch, now_ns())
        if rt.takes_up:
            self._take_up(now_ns)

    def _prune(self) -> None:
        """
        Delete what the retention of the journal does not keep, now and later.

        Raises:
            InvalidTaskError: The journal says how long things are kept, and the
                extension that deletes them is missing.
        """
        rt, journal = self._rt, self._journal
        retention = journal.retention()
        call = (
            "" if retention == Retention() else "keep_for= or keep_latest= of a journal"
        )
        pruning = built_in("retention", call)
        if pruning is not None:
            pruning.prune(journal, rt.epoch, retention, rt.now())
            if self._committer.can_be_asked:
                rt.pruner = pruning.Pruner(rt, self._committer)

    def _take_up(self, now_ns: Callable[[], int]) -> None:
        """Add the pools and workers, and hold tasks that lack what they need."""
        rt, kernel = self._rt, self._rt.kernel
        kernel.change_pools(rt.pools, now_ns(), named=rt.named)
        joining, rt.joining = rt.joining, []
        for info in joining:
            kernel.add_worker(info, now_ns())
        for row in list(kernel.tasks.values()):
            self._check_needs(row, now_ns())
        rows = kernel.tasks.values()
        rt.lost.rows = {
            row: None
            for row in rows
            if row.state not in TERMINAL and row.cargo is not None
            if why_unresolvable(row.cargo)
        }
        kinds = {row.bucket.spec: row for row in rows if row.state not in TERMINAL}
        for spec, row in kinds.items():
            if no_worker(kernel, row, now_ns()):
                rt.orphans[spec] = None

    def _sweep(self) -> None:
        """End the programs of earlier incarnations, before anything runs again."""
        rt, journal = self._rt, self._journal
        identity, logs = journal.identity(), journal.logs_folder()
        if identity:
            # The first incarnation does this, too: its process may lose the right to
            # read later.
            from taskorch.core.executors._programs._sweep import sweep  # noqa: PLC0415 - of a journal

            if rt.epoch > 1:
                sweep(f"{identity}.")
            rt.run_id = f"{identity}.{rt.epoch}"
        if logs is not None:
            from pathlib import Path  # noqa: PLC0415 - for files beside a journal

            folder = Path(logs)
            rt.attempts.programs.logs = folder
            if rt.output_bytes:
                from taskorch.core.engine._output import KeptOutput  # noqa: PLC0415 - likewise

                rt.output = KeptOutput(folder, rt.output_bytes)

    def _check_needs(self, row: TaskRow, now: int) -> None:
        """Put *row* on hold if what it needs is gone; release it if that is back."""
        kernel = self._rt.kernel
        if row.state is TaskState.QUEUED:
            why = why_unresolvable(row.cargo) or no_worker(kernel, row, now)
            if why:
                kernel.miss(row, why, now)
        else:
            self._rt.directory.release_if_back(row, now)


# -- the journal is read when it is first needed, and is looked up from then on --------


@defers_interrupts
def open_journal(rt: Runtime) -> None:
    """
    Read the journal, once, and take up the tasks of earlier incarnations.

    Raises:
        JournalError: It cannot be used; this orchestrator has ended.
        NotRunningError: It was stopped meanwhile.
    """
    with rt.opening:
        if rt.opened:
            return
        rt.refuse_submission()
        assert rt.committer is not None  # noqa: S101 - only then is it called
        # A submission before the start opens the journal, too.
        guard(rt)
        try:
            wait_for_turn(rt)
            with rt.lock:
                Recovery(rt).run()
                rt.opened = True
                rt.committer.journal.when_lost(rt.fail_stop)
                if rt.governor is not None:
                    rt.governor.look(rt.now())
                rt.settle(rt.now())
                rt.opened_at = rt.committer.last
            rt.loops.opened_here()
            rt.lost.watch()
            if rt.pruner is not None and rt.takes_up:
                rt.pruner.begin()
            # The event that this incarnation has begun is kept before anything is done
            # in it.
            rt.committer.wait_kept(rt.committer.last)
            rt.carry_out_declared()
        except BaseException as error:
            if rt.opened and not rt.closed and isinstance(error, INTERRUPTS):
                # The commit goes on; only the wait for it was interrupted.
                raise
            # Whatever was taken up is left as it was, as by a crash.
            rt.opened = False
            rt.lifecycle.end_start()
            cause = None if rt.fault is None else rt.fault.__cause__
            if isinstance(error, InternalError) and isinstance(cause, JournalError):
                raise cause from None
            raise
        if rt.closed:
            # A stop came meanwhile, and may not have waited for this.
            rt.lifecycle.end_start()
            rt.refuse_submission()


@takes_interrupts
def wait_for_turn(rt: Runtime) -> None:
    """
    Wait until the journal may be claimed, or *rt* is stopped meanwhile.

    Raises:
        JournalError: It cannot be used.
        NotRunningError: *rt* has stopped.
    """
    assert rt.committer is not None  # noqa: S101 - only then is it called
    rt.committer.journal.wait_for_turn(lambda: rt.closed)
    if rt.closed:
        rt.refuse_submission()


def durable(rt: Runtime) -> Committer | None:
    """
    Return the committer, if there is one, ready for a submission.

    Raises:
        JournalError: The journal cannot be used, or not now.
        NotRunningError: It has stopped.
        WouldBlockError: The caller is on an event loop, and would block it.
    """
    if rt.committer is not None:
        if not rt.opened:
            rt.open()
        if rt.closed:
            # This comes before a document is made: at the exit nothing can be imported.
            rt.refuse_submission()
        rt.committer.refuse()
    return rt.committer


def look_up(rt: Runtime, *names: str) -> None:
    """
    Prepare for a question about tasks *names*: read the journal first.

    Raises:
        JournalError: It cannot be read.
        NotRunningError: It was not read before the end.
    """
    rt.deciders.refuse_reentry()
    rt.recall(names)
    committer = rt.committer
    if committer is not None and not committer.is_idle():
        # Answers have kept events only, so those on their way, mostly few, are awaited.
        committer.flush()


def recall(rt: Runtime, names: Iterable[str]) -> None:
    """
    Look in the journal for tasks of *names* that have left memory.

    Raises:
        JournalError: It cannot be read.
    """
    if not rt.opened:
        rt.open()
    rt.directory.recall(names, rt.lock)


# -- workers ---------------------------------------------------------------------------


def add_worker(
    rt: Runtime, info: Agent, runner: WorkerRunner, *, again: bool = False
) -> None:
    """
    Let a worker join; *again*: it reports its abilities anew, and keeps its tasks.

    Before the journal has been read, the worker joins once it has been.

    Raises:
        InvalidTaskError: The name is taken.
    """

    def join(*, is_back: bool = False) -> None:
        if info.name in [LOCAL, *rt.runners] and not is_back:
            msg = f"there is a worker {info.name!r} already"
            raise InvalidTaskError(msg, hint="give it another name")
        rt.runners[info.name] = runner

    def change(now: int) -> None:
        # The kernel knows the workers of earlier incarnations, too.
        known = rt.kernel.workers.get(info.name)
        # A worker of another process may come back once it counts as lost.
        join(is_back=again or (known is not None and known.lost))
        rt.kernel.add_worker(info, now, goes_on=again)
        if rt.kernel.blocked and rt.committer is not None:
            for row in list(rt.kernel.tasks.values()):
                rt.directory.release_if_back(row, now)

    if not rt.opened:
        with rt.opening:
            if not rt.opened:
                join(is_back=again)
                others = [each for each in rt.joining if each.name != info.name]
                rt.joining = [*others, info]
                return
    rt.step(change)
