"""
Commits of events: in groups, in order, before what they allow is done.

Decision: durable-commits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from heapq import heappop, heappush
from time import monotonic
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
)

from taskorch.core.engine._asyncio import asyncio, asyncio_loop, resolve, resolve_on
from taskorch.core.engine._documents import document_of
from taskorch.core.engine._loops import Latch, release_if_mine
from taskorch.core.engine._work import (
    NEVER,
    Emitted,
    MakesSteps,
    Work,
    extra_of,
)
from taskorch.core.kernel import TaskRow, budgeting, take_snapshot
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalUnavailableError,
    NotRunningError,
    TaskorchError,
    WouldBlockError,
)
from taskorch.events import (
    CLS,
    SEQ,
    Event,
    EventEmitted,
    HealthReported,
    JournalDegraded,
    JournalRestored,
    LateResultIgnored,
    PerformanceReported,
    StatsReported,
    TaskBlocked,
    TaskCancelled,
    TaskCheckpointed,
    TaskCompleted,
    TaskFailed,
    TaskNoted,
    TaskOptionsChanged,
    TaskProgressed,
    TaskReady,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskUnblocked,
    make,
)
from taskorch.kit.backoff import Backoff, KeptElsewhere
from taskorch.kit.interrupts import (
    begin_thread,
    defers_interrupts,
    join,
    takes_interrupts,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.model import TERMINAL, TaskState, Units
from taskorch.protocols import DurableJournal, Entry, Group, Journal

if TYPE_CHECKING:
    from taskorch.core.engine._deciders import PolicyDeciders
    from taskorch.core.engine._governs import Governs
    from taskorch.core.engine._notices import Notices
    from taskorch.core.engine._work import Weights
    from taskorch.core.kernel import AttemptOutcome, Kernel


# -- a journal of the user's that keeps events, and can be asked for nothing else ------


class BareJournal(DurableJournal):
    """
    A `Journal` in the place of a `DurableJournal`: it has no snapshots.

    It is never asked for single tasks, since all of it would be read each time.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def claim(self) -> int:
        return self._journal.claim()

    def document(self, value: object) -> object:
        return self._journal.document(value)

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        self._journal.append(epoch, group)

    def read(self, after: int = 0) -> Iterator[Entry]:
        # A journal of the user's may return plain tuples, which are equal to events.
        return ((make(event), value) for event, value in self._journal.read(after))

    def close(self) -> None:
        self._journal.close()

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def snapshot(self) -> None:
        """Return None, as there are no snapshots."""

    def description(self) -> str:
        """Name of the journal, and the limits that it sets."""
        name = type(self._journal).__name__
        return f"{name} is no DurableJournal: what has left memory is forgotten"


# -- commit, then release: which events are kept, and who waits for that ---------------

# `Commits` does no input or output: the controller asks for the group to append, and
# reports the outcome. It holds a lock around every call.


G = TypeVar("G", bound=Sized)
T = TypeVar("T")

#: Function that is called once an event is kept.
Release: TypeAlias = Callable[[], object]


class Commits(Generic[G]):
    """
    Events on their way into the journal: in groups, one at a time.

    A group that could not be written stays in hand, exactly as it is, until it could:
    meanwhile no other is begun, and what comes is pending behind it.

    Args:
        committed: The number of the last event that is kept already.
        make: The function that makes a new group; None makes lists.
    """

    __slots__ = (
        "_failed",
        "_group",
        "_make",
        "_nothing",
        "_number",
        "_waiting",
        "committed",
        "pending",
    )

    def __init__(self, committed: int = 0, make: Callable[[], G] | None = None) -> None:
        self._make = cast("Callable[[], G]", list if make is None else make)
        #: The number of the last event that is kept.
        self.committed: int = committed
        #: The events that are in no group yet.
        self.pending: G = self._make()
        #: The group in hand while none is.
        self._nothing: G = self._make()
        self._group: G = self._nothing
        self._failed: bool = False
        self._waiting: list[tuple[int, int, Release]] = []
        self._number: int = 0

    @property
    def degraded(self) -> bool:
        """Whether writing a group has failed, and the group is still in hand."""
        return self._failed

    def when(self, seq: int, release: Release) -> None:
        """Call *release* once event number *seq* is kept; at once if it is."""
        if seq <= self.committed:
            release()
            return
        self._number += 1
        heappush(self._waiting, (seq, self._number, release))

    def begin(self) -> G | None:
        """
        Return the next group to append, which is all that is pending.

        None if there is nothing, or if another is in hand: then it is its turn.
        """
        if self._group or not self.pending:
            return None
        self._group, self.pending = self.pending, self._make()
        return self._group

    @property
    def in_hand(self) -> G:
        """Return the group that was begun and is not kept yet; empty if none is."""
        return self._group

    def failed(self) -> None:
        """Note that writing the group failed, or that its outcome is unknown."""
        self._failed = True

    def succeeded(self, last: int) -> list[Release]:
        """Note that the group is kept, up to event *last*; return what follows."""
        self.committed = last
        self._group = self._nothing
        self._failed = False
        waiting = self._waiting
        released: list[Release] = []
        while waiting and waiting[0][0] <= self.committed:
            released.append(heappop(waiting)[2])
        return released


# -- attempts that are held back until what they need is kept --------------------------


class HeldBack:
    """
    Attempts that the kernel has started, and that wait for a commit before they begin.

    A task begins once its submission is kept. One that must not run twice begins once
    its start is kept: the next incarnation then knows that it may have run.

    Args:
        commits: Says when an event is kept.
        begin: Called once an attempt may begin, with its task and number.
        end: Called with these where an attempt ends before that, and with how and why.
    """

    __slots__ = ("_begin", "_commits", "_end", "attempts")

    def __init__(
        self,
        commits: Commits[Any],
        begin: Callable[[TaskRow, int], object],
        end: Callable[[TaskRow, int, AttemptOutcome, tuple[str, str]], object],
    ) -> None:
        self._end = end
        self._commits = commits
        self._begin = begin
        #: The attempts that wait, by task and number.
        self.attempts: dict[tuple[TaskRow, int], None] = {}

    def take(self, row: TaskRow, submitted: int, last: int) -> bool:
        """
        Hold back the attempt of *row* that was just started, unless it may begin.

        Args:
            row: The task.
            submitted: The number of the event that says how it may begin.
            last: The number of the last event of the step that has started it.

        Returns:
            Whether it is held back.
        """
        seq = submitted if row.bucket.spec.idempotent else last
        if seq <= self._commits.committed:
            return False
        self.attempts[row, row.attempt] = None
        self._commits.when(seq, partial(self._let_go, row, row.attempt))
        return True

    def _let_go(self, row: TaskRow, attempt: int) -> None:
        """Let an attempt begin, since the events that it waited for are kept."""
        if (row, attempt) not in self.attempts:
            return
        del self.attempts[row, attempt]
        if row.attempt == attempt and row.state is TaskState.RUNNING:
            self._begin(row, attempt)
        else:
            # The attempt was given up before it began.
            self._end(row, attempt, "stopped", ("", ""))

    def on(self, worker: str) -> list[tuple[str, int]]:
        """Return ids and numbers of attempts that *worker* has not heard of."""
        return [
            (row.id, attempt)
            for row, attempt in self.attempts
            if row.worker is not None and row.worker.name == worker
        ]

    def call_off(self) -> None:
        """End the attempts before they begin, because of a stop."""
        called_off, self.attempts = self.attempts, {}
        described = ("AttemptLostError", "the orchestrator stopped before it began")
        for row, attempt in called_off:
            self._end(row, attempt, "interrupted", described)


# -- commit, then release, with threads: who writes the journal, and who waits for
# that

# A thread that has to wait for a commit makes it, with all that is pending. Threads
# that come meanwhile wait for it, and find theirs done. Events that no thread waits
# for, mostly ends of attempts, are committed by a thread of its own.


#: Seconds that a caller waits for a commit before the outcome is reported as unknown.
_COMMIT_TIMEOUT_S: Final = 5.0
#: Pauses between two tries to write.
_PAUSES: Final = Backoff(0.05, 1.0)
#: Seconds that events which nobody waits for are collected into one group.
_BATCH_DELAY_S: Final = 0.002
#: Seconds that events are collected after a group of more than so many.
_MIN_GAP_S: Final = 0.0005
_MANY: Final = 100
#: The most characters of a reported value that its event has.
_MOST_SHOWN: Final = 10_000
#: Idle seconds after which the journal may do its maintenance.
_IDLE_BEFORE_MAINTENANCE_S: Final = 0.02
#: Events between two snapshots: at least so many, and this many per task in memory.
_SNAPSHOT_EVENTS: Final = 50_000
_SNAPSHOT_SHARE: Final = 4
#: Events of the moment, which listeners hear and no journal keeps.
_PASSING: Final = frozenset(
    {StatsReported, HealthReported, PerformanceReported, TaskReady}
)
#: Events after which the state of a handle is settled once they are kept.
_SETTLING: Final = frozenset({TaskFailed, TaskCancelled, TaskBlocked})
_DOCUMENTED: Final = frozenset(
    {
        TaskFailed,
        TaskRetrying,
        TaskCheckpointed,
        TaskNoted,
        TaskOptionsChanged,
        EventEmitted,
        LateResultIgnored,
    }
)


class _Local(threading.local):
    """The events that the calling thread is to wait for later."""

    #: Numbers of the events, inside `Committer.deferred`; None outside.
    deferred: list[int] | None = None
    #: Whether no call need wait any more, inside `Committer.patient`; None outside.
    is_over: Callable[[], bool] | None = None


class SaysQuiet(Protocol):
    """
    Protocol: knows which callers wait.

    Attributes:
        quiet: Called once when nothing can proceed any more.
    """

    quiet: list[Callable[[], object]]

    def say_quiet(self) -> None:
        """Wake those who wait until nothing can proceed; hold the lock."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Tell each loop once of all that is woken in the block; hold the lock."""
        ...


class MeasuresCommits(Protocol):
    """Protocol: measures commits, if an SDK of OpenTelemetry is there."""

    def committed(self, seconds: float) -> None:
        """Note the seconds that a commit has taken."""
        ...


class HearsTasks(Protocol):
    """
    Protocol: hears what running tasks report; a runtime, or a simulated one.

    Attributes:
        committer: Keeps events; None: nothing outlives the process.
        deciders: Asks the policies.
        kernel: Has the rows of the tasks.
        lock: Guards it.
    """

    committer: Committer | None
    deciders: PolicyDeciders
    kernel: Kernel
    lock: threading.Lock

    @property
    def governor(self) -> Governs | None:
        """The policies as data; None if there are none."""
        ...

    def now(self) -> int:
        """Return the time, in ns."""
        ...

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Make *change*, and do what follows from it."""
        ...


class Keeps(MakesSteps, HearsTasks, Protocol):
    """
    Protocol: what the committer asks of the runtime.

    Attributes:
        notices: Logs troubles.
        weights: The bytes that finished tasks hold.
    """

    notices: Notices
    weights: Weights

    @property
    def metrics(self) -> MeasuresCommits | None:
        """The meters, if an SDK of OpenTelemetry is there."""
        ...

    @property
    def waiting(self) -> SaysQuiet:
        """The callers that wait."""
        ...


class Snapshots:
    """
    Snapshots of the state, which shorten the next opening of the journal.

    One is due after a number of events. It is taken under the lock together with the
    group up to whose last event it goes, and saved once that group is kept.
    """

    def __init__(self, rt: Keeps, journal: DurableJournal, at: int) -> None:
        self._rt = rt
        self._journal = journal
        #: The number of the last event in the latest snapshot.
        self.at: int = at
        #: Whether the next group brings a snapshot, however few events it has.
        self.is_asked_for: bool = False
        #: The number of the last event in a snapshot that this incarnation has kept.
        self.saved_at: int = 0
        #: The snapshot that was taken with the group in hand.
        self.taken: dict[str, Any] | None = None

    def take_if_due(self, last: int) -> None:
        """Take one with a group up to event *last*, if due; hold the lock."""
        many = max(_SNAPSHOT_EVENTS, _SNAPSHOT_SHARE * len(self._rt.kernel.tasks))
        if self.is_asked_for or last - self.at > many:
            self.is_asked_for = False
            self.at = last
            # Without a snapshot, only the next opening takes longer.
            with suppress(MemoryError):
                self.taken = self.take()

    def take(self) -> dict[str, Any]:
        """Take a snapshot of now, with the history of policies; hold the lock."""
        rt = self._rt
        state = take_snapshot(rt.kernel, rt.now())
        if rt.governor is not None:
            rt.governor.save_history(state)
        return state

    def save_taken(self, committed: int) -> None:
        """Save the snapshot that was taken with the group, now that this is kept."""
        if self.taken is not None:
            state, self.taken = self.taken, None
            self.save(state, committed)

    def save(self, state: dict[str, Any], committed: int) -> None:
        """Save a snapshot up to event *committed*, if the journal can keep it."""
        try:
            self._journal.save(self._rt.epoch, committed, state)
        except (JournalError, MemoryError):
            # Only the next opening takes longer; a broken journal shows at the next
            # write.
            return
        self.saved_at = committed

    def save_last(self, committed: int) -> None:
        """Save a snapshot at the end, if events have come since the latest one."""
        if committed > self.at:
            with self._rt.lock:
                state = self.take()
            self.save(state, committed)


class Committer:
    """
    Writes the events of one runtime into its journal, which the runtime has claimed.

    The lock of the runtime guards all but the writing.
    """

    def __init__(self, rt: Keeps, journal: Journal) -> None:
        self._rt = rt
        self.journal: DurableJournal = (
            journal if isinstance(journal, DurableJournal) else BareJournal(journal)
        )
        #: Whether the journal can find tasks that have left memory.
        self.can_be_asked: bool = self.journal is journal
        #: Entries, or the rows that the journal has made of them already.
        self.commits: Commits[Group] = Commits(make=self.journal.new_group)
        #: Makes the document of a value, for a group.
        self.document: Callable[[Any], Any] = self.journal.text
        #: Makes, for a type and a function, the function that documents its arguments.
        self.call_documents: Callable[
            [str, Callable[..., Any]], Callable[[tuple[Any, ...]], Any]
        ] = self.journal.call_texts
        #: The reason why the journal cannot be written; empty if it can.
        self.trouble: str = ""
        #: Documents to keep beside the next event of a task: the task, or its result.
        self.documents: dict[Work | Emitted, Any] = {}
        #: Documents on their way to a store, for which ends of attempts wait.
        self.elsewhere: set[KeptElsewhere] = set()
        #: Attempts that may begin now, since the events that they waited for are kept.
        self.ready: list[tuple[TaskRow, int, Work]] = []
        self.held_back: HeldBack = HeldBack(self.commits, self._ready, self._end)
        #: The number of the last event that is on its way.
        self.last: int = 0
        #: Whether the latest group was large, so that the next can collect more.
        self._is_busy = False
        #: Whether the caller of this step commits its events, so that no thread is
        #: woken.
        self.caller_will_commit = False
        #: Events to publish once they are kept, with their cargo: pending, and in hand.
        self._unpublished: list[tuple[Event, Any]] = []
        self._publishing: list[tuple[Event, Any]] = []
        #: Works whose end is in events on their way, for those who wait for them.
        self._unsettled: list[Work] = []
        self._settling: list[Work] = []
        self._loops: list[tuple[int, asyncio.AbstractEventLoop, Any]] = []
        #: Threads that wait until the journal can be written again.
        self._latches: set[Latch] = set()
        # An RLock knows the thread that holds it: see release_if_mine.
        self._writing = threading.RLock()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        #: Whether the thread has been woken, and whether a caller waits for it.
        self._woken = False
        self._hurry = False
        self._closing = False
        #: Whether the thread has ended, and whether it is to close the journal then.
        self._has_ended = False
        self._is_late = False
        self._local = _Local()
        #: Hears all events at once, under the lock.
        self.listen: Callable[[list[tuple[Event, Any]]], object] | None = None
        # A journal without snapshots is never due one, so the number is out of reach.
        first = 0 if self.can_be_asked else sys.maxsize
        self.snapshots: Snapshots = Snapshots(rt, self.journal, first)

    # -- under the lock ------------------------------------------------------------

    def accept(  # noqa: C901, PLR0912 - hot
        self, items: list[tuple[Event, Any]]
    ) -> None:
        """Take the events of a step: they are kept soon, and then published."""
        commits, documents = self.commits, self.documents
        pending = commits.pending
        keep = pending.keep
        unsettled = self._unsettled
        hurry = False
        last = self.last
        for event, work in items:
            cls, seq = type(event), event[SEQ]
            if cls is TaskStarted:
                keep(event, None)
            elif cls is TaskCompleted:
                work._visible_after = seq
                unsettled.append(work)
                hurry = hurry or work._waiters is not None
                keep(event, documents.pop(work, None) if documents else None)
            elif cls is TaskSubmitted:
                work._visible_after = NEVER + seq
                keep(event, documents.pop(work))
            elif cls in _PASSING:
                continue
            else:
                if cls in _SETTLING:
                    work._visible_after = seq
                    unsettled.append(work)
                    hurry = hurry or work._waiters is not None
                elif cls is TaskUnblocked:
                    work._visible_after = NEVER + seq
                    unsettled.append(work)
                elif cls is TaskOptionsChanged and work._visible_after >= NEVER:
                    # The attempt begins once its submission is kept, which says whether
                    # it may repeat.
                    work._visible_after = NEVER + seq
                document = None
                # If the task ends in the same step, that event has the document: see
                # `bring_late`.
                if cls in _DOCUMENTED and not (
                    (cls is TaskRetrying and work._row.state in TERMINAL)
                    # A change by the retry handler stands in the event as a whole.
                    or (isinstance(event, TaskOptionsChanged) and event.reason)
                ):
                    document = documents.pop(work, None)
                keep(event, document)
            last = seq
        is_kept = last > self.last
        self.last = last
        if self.listen is not None:
            self.listen(items)
        if self._rt.wanted:
            self._unpublished += items
        if is_kept or pending:
            if not self.caller_will_commit:
                waited_for = self._unpublished or self._rt.waiting.quiet
                self.poke(hurry=hurry or bool(waited_for))
        elif not commits.in_hand:
            unpublished, self._unpublished = self._unpublished, []
            self._publish(unpublished)

    def may_begin(self, row: TaskRow) -> bool:
        """Return whether only the attempt of *row* is to begin, and may."""
        return (
            not self.ready
            and row.bucket.spec.idempotent
            and row.cargo._begin_after <= self.commits.committed
            and self.journal.is_owned()
        )

    def starts(self, rows: list[TaskRow]) -> list[tuple[TaskRow, int, Work]]:
        """
        Return the attempts that may begin now; hold others of *rows* back.

        If the journal may have another leader by now, each start waits until it is
        kept.
        """
        begun, self.ready = self.ready, []
        if not rows:
            return begun
        is_owned, last = self.journal.is_owned(), self.last
        are_held_back = False
        for row in rows:
            work, submitted = row.cargo, last
            if is_owned:
                # This is `Work._begin_after`, without another call for each start.
                settled = work._visible_after
                submitted = settled - NEVER if settled >= NEVER else settled
            if self.held_back.take(row, submitted, last):
                are_held_back = True
            else:
                begun.append((row, row.attempt, work))
        if are_held_back and not self.caller_will_commit:
            self.poke()
        return begun

    def _ready(self, row: TaskRow, attempt: int) -> None:
        self.ready.append((row, attempt, row.cargo))

    def _end(
        self,
        row: TaskRow,
        attempt: int,
        how: AttemptOutcome,
        described: tuple[str, str],
    ) -> None:
        rt = self._rt
        rt.kernel.end_attempt(row, attempt, how, rt.now(), None, described)

    def is_idle(self) -> bool:
        """Return whether no event is on its way, or none can be written now."""
        commits = self.commits
        if self.trouble or self._rt.fault is not None:
            return True
        return not (commits.pending or commits.in_hand)

    def poke(self, *, hurry: bool = True) -> None:
        """Wake the thread to write events; without *hurry*, after a short delay."""
        if hurry:
            self._hurry = True
        elif self._woken:
            return
        self._woken = True
        # Without the thread, callers that wait write; the start begins it, or raises.
        with suppress(RuntimeError):
            self.begin()
        if self._wake.locked():
            self._wake.release()

    def begin(self) -> None:
        """
        Start the thread, unless it runs.

        Raises:
            RuntimeError: The system has none.
        """
        if self._thread is None and not self._closing:
            self._thread = begin_thread(self._loop, f"{self._rt.name}-journal")

    # -- for those who wait --------------------------------------------------------

    def refuse(self) -> None:
        """
        Raise if nothing can be kept now; called where something must be kept.

        Raises:
            WouldBlockError: The caller is on an event loop, and would block it.
            JournalUnavailableError: Nothing can be kept now, and nothing was done.
        """
        self.refuse_to_block()
        if self.trouble and not self._waits_on():
            if self._closing or self._rt.fault is not None:
                # This orchestrator does not write the journal any more.
                self._rt.refuse_submission()
            msg = f"the journal cannot be written: {self.trouble}"
            raise JournalUnavailableError(msg, outcome="refused")

    def refuse_to_block(self) -> None:
        """
        Raise if the caller may not wait, since it is on an event loop.

        Raises:
            WouldBlockError: The caller is on an event loop, and would block it.
        """
        if not self._is_deferred() and not self._rt.loops.may_block():
            msg = "a durable orchestrator waits for its journal: that blocks the loop"
            hint = (
                "write await orch.aio.submit_task(…) for orch.submit_task(…); "
                "likewise the others; in a task, await context.aio.checkpoint(…)"
            )
            raise WouldBlockError(msg, hint=hint)

    def wait_kept_unless(self, seq: int, is_over: Callable[[], bool]) -> None:
        """
        Wait until *seq* is kept, through any trouble, unless *is_over*.

        A disk that is full for a while must not fail the task.
        """
        with self.patient(is_over):
            self.wait_kept(seq)

    @contextmanager
    def patient(self, is_over: Callable[[], bool]) -> Iterator[None]:
        """Let calls in the block wait through any trouble, unless *is_over*."""
        earlier, self._local.is_over = self._local.is_over, is_over
        try:
            yield
        finally:
            self._local.is_over = earlier

    def _waits_on(self) -> bool:
        """Return whether the caller is one of us, or a task: it waits for any time."""
        is_over = self._local.is_over or self._rt.is_left_outside
        return not (is_over() or self._closing)

    @takes_interrupts
    def wait_kept(self, seq: int) -> None:
        """
        Wait until the event number *seq* is kept.

        Raises:
            JournalUnavailableError: It is not, and nobody knows whether it will be.
            InternalError: The orchestrator has failed.
        """
        if seq <= self.commits.committed:
            return
        deferred = self._local.deferred
        if deferred is not None:
            deferred.append(seq)
            with self._rt.lock:
                self.poke()
            return
        rt = self._rt
        end = monotonic() + _COMMIT_TIMEOUT_S
        while seq > self.commits.committed:
            if rt.fault is not None:
                rt.refuse_submission()
            if self.trouble:
                end = self._wait(seq, end)
                continue
            try:
                if not self._writing.acquire(timeout=max(0.0, end - monotonic())):
                    end = self._give_up()
                    continue
                if seq > self.commits.committed and not self.trouble:
                    self._commit()
            finally:
                release_if_mine(self._writing)

    def flush(self) -> None:
        """Wait until all events on their way are kept, if they can be."""
        deferred = self._local.deferred
        self._local.deferred = None
        try:
            if not self.trouble:
                self.wait_kept(self.last)
        except TaskorchError:
            # Callers that need the journal are told by their own calls.
            return
        finally:
            self._local.deferred = deferred

    def _wait(self, seq: int, end: float) -> float:
        latch = Latch()
        with self._rt.lock:
            if self._rt.fault is not None:
                return end
            self.commits.when(seq, latch.set)
            self._latches.add(latch)
        try:
            is_told = latch.wait(max(0.0, end - monotonic()))
            return end if is_told else self._give_up()
        finally:
            self._latches.discard(latch)

    def lost(self) -> None:
        """Release all who wait, as nothing can be kept any more; hold the lock."""
        # Attempts that were held back never begin.
        self.held_back.attempts.clear()
        for latch in tuple(self._latches):
            latch.set()
        self._settle_loops(self._loops, value=False)
        self._loops = []

    def recovers(self, timeout: float | None) -> bool:
        """Wait until the journal can be written; return whether it came to that."""
        latch = Latch()
        with self._rt.lock:
            if not self.trouble:
                return True
            if self._rt.fault is not None:
                return False
            self.commits.when(self.last, latch.set)
        return latch.wait(
            _COMMIT_TIMEOUT_S if timeout is None else min(timeout, _COMMIT_TIMEOUT_S)
        )

    def _give_up(self) -> float:
        """Raise an error, or return until when to wait: see `_waits_on`."""
        if self._waits_on():
            return monotonic() + _COMMIT_TIMEOUT_S
        msg = f"nobody knows whether it was kept: {self.trouble or 'the disk is slow'}"
        hint = "submit the same again, with the same id or idempotency key: it settles"
        raise JournalUnavailableError(msg, outcome="unknown", hint=hint)

    def _is_deferred(self) -> bool:
        return self._local.deferred is not None

    @contextmanager
    def deferred(self) -> Iterator[list[int]]:
        """
        Let calls in the block wait for no commit: coroutines wait afterwards.

        Yields:
            The numbers of the events that are to be waited for.
        """
        seqs: list[int] = []
        self._local.deferred = seqs
        try:
            yield seqs
        finally:
            self._local.deferred = None

    async def wait_kept_async(self, seqs: list[int]) -> None:
        """
        Wait on the running loop until the events of these numbers are kept.

        Raises:
            JournalUnavailableError: They are not, and nobody knows whether they will.
            TaskorchError: The orchestrator has failed, or lost its journal.
        """
        seq = max(seqs, default=0)
        if seq <= self.commits.committed:
            return
        loop = asyncio_loop("a method of orch.aio", "orch.method")
        rt = self._rt
        while True:
            future: asyncio.Future[bool] = loop.create_future()
            with rt.lock:
                if seq <= self.commits.committed:
                    return
                if rt.fault is not None:
                    rt.refuse_submission()
                self._loops.append((seq, loop, future))
            patience = loop.call_later(_COMMIT_TIMEOUT_S, resolve, [future], False)  # noqa: FBT003
            try:
                if await future:
                    return
                with rt.lock:
                    if rt.fault is not None:
                        rt.refuse_submission()
                self._give_up()
            finally:
                patience.cancel()

    # -- writing -------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - it is ours, whatever it is
            self._rt.fail_stop(error)
        with self._rt.lock:
            self._has_ended = True
            late = self._is_late
        if late:
            self.journal.close()

    def _write(self) -> None:
        failures = 0
        while True:
            if self.trouble and not self._closing:
                self._wake.acquire(timeout=_PAUSES.after(failures))
                failures += 1
            elif not self._closing:
                failures = 0
                self._sleep()
                if self._is_busy:
                    # A caller waits for one event of many, so a short delay collects
                    # the others.
                    self._wake.acquire(timeout=_MIN_GAP_S)
                committed = -1
                while not self._hurry and committed != self.commits.committed:
                    # Another thread has just written, and may write again.
                    committed = self.commits.committed
                    self._wake.acquire(timeout=_BATCH_DELAY_S)
            self._hurry = self._woken = False
            while True:
                with self._writing:
                    if not self._commit():
                        break
            if self._closing or self._rt.fault is not None:
                return

    def _sleep(self) -> None:
        """Wait until there is something to write."""
        pause = _IDLE_BEFORE_MAINTENANCE_S
        while self._needs_upkeep():
            if self._wake.acquire(timeout=pause):
                return
            with self._writing:
                self._upkeep()
            pause = _PAUSES.longest
        self._wake.acquire()

    def _needs_upkeep(self) -> bool:
        """Return whether the journal needs maintenance; report its troubles."""
        # The thread begins before the journal is claimed.
        if not (self._rt.opened and self.journal.needs_upkeep()):
            return False
        troubles = self.journal.troubles()
        if troubles:
            self._rt.notices.journal_ails("; ".join(troubles))
        return True

    def _upkeep(self) -> None:
        # If the journal is broken, the next write shows it.
        with suppress(JournalError):
            self.journal.upkeep(self._rt.epoch)

    @defers_interrupts
    def _commit(self) -> bool:
        """
        Append a group, with `_writing` held; return whether another may follow.

        An error of the journal stops everything, unless it may pass.
        """
        rt, journal = self._rt, self.journal
        if rt.fault is not None or not rt.opened:
            return False
        with rt.lock:
            group = self.commits.in_hand or self._begin()
        if not group:
            return False
        began = monotonic()
        try:
            # The group is of the journal's own class, which it takes.
            journal.append(rt.epoch, cast("Sequence[Entry]", group))
        except JournalUnavailableError as error:
            self._degrade(error.message)
            return False
        except MemoryError:
            # Nothing is written in part: the group is still in hand, and is written
            # later.
            self._degrade("there is no memory left to write to it")
            return False
        except Exception as error:  # noqa: BLE001 - nothing can be kept any more
            rt.fail_stop(error)
            return False
        if rt.metrics is not None:
            rt.metrics.committed(monotonic() - began)
        self._release()
        if self.snapshots.taken is not None:
            self.snapshots.save_taken(self.commits.committed)
        return True

    def _begin(self) -> Group | None:
        group = self.commits.begin()
        if group is not None:
            self._is_busy = len(group) > _MANY
            self._publishing, self._unpublished = self._unpublished, []
            self._settling, self._unsettled = self._unsettled, []
            snapshots = self.snapshots
            # Most groups are far from the next snapshot.
            if snapshots.is_asked_for or self.last - snapshots.at > _SNAPSHOT_EVENTS:
                snapshots.take_if_due(self.last)
        return group

    def _release(self) -> None:  # noqa: C901 - one step, in order
        """Let all go on that waited for the group, which is kept; publish it."""
        rt = self._rt
        inside = False
        try:
            with rt.lock:
                inside = True
                restored, self.trouble = bool(self.trouble), ""
                releases = self.commits.succeeded(self.commits.in_hand.last)
                rt.committed = committed = self.commits.committed
                publishing, self._publishing = self._publishing, []
                settling, self._settling = self._settling, []
                if restored:
                    if rt.started and rt.begins and not rt.closed:
                        rt.kernel.unpause()
                    rt.kernel.note(JournalRestored, rt.now())
                for release in releases:
                    release()
                with rt.waiting.together():
                    for work in settling:
                        if work._waiters is not None:
                            rt.wake(work)
                if publishing:
                    self._publish(publishing)
                if self._loops:
                    self._tell_loops(committed)
                more = self._evict()
                launch = rt.settle(rt.now())
            rt.launch(launch)
            while more:
                with rt.lock:
                    more = self._evict()
                rt.litter.clear()
        except Exception as error:  # noqa: BLE001 - the error is ours
            rt.fail_stop(error)
        except BaseException as error:
            if inside:
                rt.interrupted(error)
            raise

    def _evict(self) -> bool:
        """
        Let the oldest finished tasks leave memory, but not many; hold the lock.

        Returns:
            Whether others may follow.
        """
        kernel = self._rt.kernel
        finished, keep = kernel.finished, kernel.config.keep_finished
        committed, evict = self.commits.committed, kernel.evict
        if self._rt.weights.let_go(committed):
            # Each is read from the journal when it is asked for.
            return len(finished) > keep
        for _ in range(min(_MANY, len(finished) - keep)):
            if finished[0].cargo._visible_after > committed:
                return False
            evict()
        return len(finished) > keep

    def _publish(self, items: list[tuple[Event, Any]]) -> None:
        """Pass *items* to those who listen; hold the lock."""
        rt = self._rt
        if rt.publisher.receivers:
            wanted = rt.wanted
            items = [item for item in items if item[0][CLS] in wanted]
            if items:
                rt.publisher.put(items)

    def _tell_loops(self, committed: int) -> None:
        """Wake the coroutines that wait, with one call for each loop."""
        waiting = self._loops
        self._loops = [each for each in waiting if each[0] > committed]
        self._settle_loops(
            [each for each in waiting if each[0] <= committed], value=True
        )

    def _settle_loops(
        self,
        waiting: list[tuple[int, asyncio.AbstractEventLoop, Any]],
        *,
        value: bool,
    ) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for _, loop, future in waiting:
            by_loop.setdefault(loop, []).append(future)
        for loop, futures in by_loop.items():
            resolve_on(loop, futures, value=value)

    def _degrade(self, why: str) -> None:
        rt = self._rt
        with rt.lock:
            self.commits.failed()
            first, self.trouble = not self.trouble, why
            if not first:
                return
            rt.kernel.pause()
            event = rt.kernel.own_event(JournalDegraded, rt.now(), why)
            self.commits.pending.keep(event, None)
            self.last = event.seq
            # Such events are never kept, so they are published at once.
            self._publish([(event, None)])
            if rt.waiting.quiet and rt.is_quiet():
                rt.waiting.say_quiet()
            self.poke()

    # -- snapshots -----------------------------------------------------------------

    def apart(self, act: Callable[[], T]) -> T:
        """Do something while no group is being written; do not hold the lock."""
        with self._writing:
            return act()

    def save_now(self) -> bool:
        """Save a snapshot now, or with the next group; return whether it is kept."""
        rt, snapshots, state = self._rt, self.snapshots, None
        with self._writing:
            with rt.lock:
                last = self.last
                if self.trouble or rt.fault is not None:
                    return False
                snapshots.is_asked_for = not self.is_idle()
                if not snapshots.is_asked_for:
                    state = snapshots.take()
                    snapshots.at = last
            if state is None:
                self._commit()
            else:
                snapshots.save(state, self.commits.committed)
            return snapshots.saved_at >= last

    # -- the end -------------------------------------------------------------------

    def write_all(self, timeout: float) -> bool:
        """
        Have the thread write all events on their way; return whether it did in time.

        Unlike `flush`, it ends after *timeout* on a disk that hangs.
        """
        latch = Latch()
        with self._rt.lock:
            if self.trouble or self._rt.fault is not None:
                return False
            self.commits.when(self.last, latch.set)
            self.poke()
        return latch.wait(timeout)

    def close(self, timeout: float) -> bool:
        """
        Write what is left, if there is time; return whether the journal is closed.

        Nothing is written if the opening has failed.

        The thread writes, since a disk may never answer. If it does not in time, the
        thread lets go of the journal when it does.
        """
        rt = self._rt
        end = monotonic() + timeout
        with rt.lock:
            if self.commits.pending or self.commits.in_hand:
                self.poke()
            self._closing = True
            thread = self._thread
            if thread is not None and self._wake.locked():
                self._wake.release()
        if thread is not None and thread is not threading.current_thread():
            join(thread, timeout)
        try:
            if self._writing.acquire(timeout=max(0.0, end - monotonic())):
                while self._commit():
                    pass
                well = rt.opened and rt.fault is None and not self.trouble
                if well and monotonic() < end:
                    self.snapshots.save_last(self.commits.committed)
                self.journal.close()
                return True
            with rt.lock:
                # The thread has ended by now, so this thread closes the journal.
                ended, self._is_late = self._has_ended, True
            if ended:
                self.journal.close()
            return ended
        finally:
            release_if_mine(self._writing)


# -- what an attempt says while it is under way: how far it is, what it spends ---------

# Reports of an attempt that was given up, or has ended, change nothing.


#: The states of a task whose attempt is under way.
_UNDER_WAY: Final = frozenset({TaskState.RUNNING, TaskState.SUSPENDED})


def checkpoint(rt: HearsTasks, work: Work, attempt: int, state: Any) -> None:
    """
    Keep *state* of a running task for its next attempt; do not wait for it.

    Raises:
        InvalidTaskError: The journal cannot keep it.
    """
    committer = rt.committer
    document = None
    if committer is not None:
        document = document_of(committer.journal.document, "state", state)
    row = work._row

    def change(now: int) -> None:
        if row.attempt == attempt:
            if committer is not None:
                committer.documents[work] = document
            rt.kernel.note(TaskCheckpointed, now, row.id, attempt, cargo=work)

    rt.step(change)


def keep_value(rt: Keeps, work: Work, value: Any) -> None:
    """Let *work*, about to complete, have the *value* of a decision; hold the lock."""
    work._value, work._error = value, None
    if rt.committer is not None:
        rt.committer.documents[work] = rt.committer.journal.document(value)


def progress(rt: HearsTasks, work: Work, attempt: int, value: Any) -> None:
    """Note that an attempt reports *value*."""
    row, shown = work._row, value
    if rt.governor is not None:
        rt.governor.progressed(work, attempt, value)
    if rt.committer is not None:
        try:
            is_long = len(str(rt.committer.journal.document(value))) > _MOST_SHOWN
        except InvalidTaskError:
            is_long = True
        if is_long:
            # The journal cannot keep the value, or others would wait until it had: the
            # event has its text, the status the value.
            shown = show(value)
    if rt.kernel.sink is None:
        # Nobody listens, and no journal keeps it: the event only takes its number.
        rt.deciders.refuse_reentry()
        with rt.lock:
            note_progress(rt, row, attempt, value, shown, rt.now())
        return
    rt.step(lambda now: note_progress(rt, row, attempt, value, shown, now))


def note_progress(
    rt: HearsTasks, row: TaskRow, attempt: int, value: Any, shown: Any, now: int
) -> None:
    """Under the lock: note the *value* that an attempt reports, *shown* in an event."""
    if row.attempt == attempt and row.state in _UNDER_WAY:
        extra_of(row.cargo).progress = value
        rt.kernel.note(TaskProgressed, now, row.id, attempt, shown, cargo=row.cargo)


def spend(rt: HearsTasks, work: Work, attempt: int, units: Units) -> None:
    """
    Note that an attempt has spent *units*.

    Raises:
        InvalidTaskError: Its budget, and those above, have no resource of that name.
        NotRunningError: It has ended, or was given up.
    """
    row = work._row
    spec = row.bucket.spec
    if spec.budget:
        budgets = budgeting()
        with rt.lock:
            # A budget above may be gone that the task has reserved from.
            resources = budgets.drawn_from(rt.kernel, spec.budget).union(
                dict(spec.spends)
            )
        strange = [name for name, _ in units if name not in resources]
        if strange:
            names = ", ".join(f"{n!r}{guess(n, resources)}" for n in strange)
            msg = f"task {row.id}: the budget {spec.budget!r} has no {names}"
            hint = f"say what is spent of {', '.join(sorted(resources))}"
            raise InvalidTaskError(msg, hint=hint)
    if not rt.step(lambda now: rt.kernel.spend(row, attempt, units, now)):
        msg = f"attempt {attempt} of task {row.id} has ended: it spends nothing more"
        raise NotRunningError(msg, task_id=row.id)
