"""
Keeping facts: in groups, in order, before what they allow is done.

Decision: 0015.
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

import attrs

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
    EventEmitted,
    Fact,
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
from taskorch.kernel import TaskRow, take_snapshot
from taskorch.kit.backoff import Backoff
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
from taskorch.runtime._asyncio import asyncio, asyncio_loop, resolve, resolve_on
from taskorch.runtime._documents import document_of
from taskorch.runtime._loops import Latch, release_if_mine
from taskorch.runtime._work import NEVER, Emitted, MakesSteps, Work, extra_of, task_of

if TYPE_CHECKING:
    from taskorch.kernel import AttemptOutcome, Kernel
    from taskorch.runtime._deciders import PolicyDeciders
    from taskorch.runtime._governs import Governs
    from taskorch.runtime._notices import Notices
    from taskorch.runtime._work import Weights


# -- a journal of the user's that keeps facts, and can be asked for nothing else -------


class BareJournal(DurableJournal):
    """
    A `Journal` in the place of a `DurableJournal`: it has no snapshots.

    It is asked for no task: all of it would be read each time.
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
        # It may give back plain tuples, which are equal to facts.
        return ((make(fact), value) for fact, value in self._journal.read(after))

    def close(self) -> None:
        self._journal.close()

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def snapshot(self) -> None:
        """None: there are no snapshots."""

    def description(self) -> str:
        """Name of the journal, and what is lost with it."""
        name = type(self._journal).__name__
        return f"{name} is no DurableJournal: what has left memory is forgotten"


# -- commit, then release: which facts are kept, and who waits for that ----------------

# It does no input or output: the driver asks for the group that is to be appended,
# and says what became of it. It holds a lock around every call.


G = TypeVar("G", bound=Sized)
T = TypeVar("T")

#: What is to be done once a fact is kept.
Release: TypeAlias = Callable[[], object]


class Commits(Generic[G]):
    """
    Facts on their way into the journal: in groups, one at a time.

    A group that could not be written stays in hand, exactly as it is, until it could:
    meanwhile no other is begun, and what comes is pending behind it.

    Args:
        committed: The number of the last fact that is kept already.
        make: What makes a new group; None makes lists.
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
        #: The number of the last fact that is kept.
        self.committed: int = committed
        #: What is in no group yet.
        self.pending: G = self._make()
        #: What is in hand if nothing is.
        self._nothing: G = self._make()
        self._group: G = self._nothing
        self._failed: bool = False
        self._waiting: list[tuple[int, int, Release]] = []
        self._number: int = 0

    @property
    def degraded(self) -> bool:
        """Whether a group could not be written, and is still in hand."""
        return self._failed

    def when(self, seq: int, release: Release) -> None:
        """Call *release* once the fact number *seq* is kept: now, if it is."""
        if seq <= self.committed:
            release()
            return
        self._number += 1
        heappush(self._waiting, (seq, self._number, release))

    def begin(self) -> G | None:
        """
        The next group to append, which is all that is pending.

        None if there is nothing, or if another is in hand: then it is its turn.
        """
        if self._group or not self.pending:
            return None
        self._group, self.pending = self.pending, self._make()
        return self._group

    @property
    def in_hand(self) -> G:
        """The group that was begun and is not kept yet; empty if there is none."""
        return self._group

    def failed(self) -> None:
        """The group in hand could not be written, or nobody knows whether it was."""
        self._failed = True

    def succeeded(self, last: int) -> list[Release]:
        """The group in hand is kept, to fact *last*: what is to be done, in order."""
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
    its start is kept: the next life then knows that it may have run.

    Args:
        commits: Says when a fact is kept.
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
        #: Those that wait, by task and number.
        self.attempts: dict[tuple[TaskRow, int], None] = {}

    def take(self, row: TaskRow, submitted: int, last: int) -> bool:
        """
        Hold back the attempt of *row* that was just started, unless it may begin.

        Args:
            row: The task.
            submitted: The number of the fact that says how it may begin.
            last: The number of the last fact of the step that has started it.

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
        """Let an attempt begin, for what it waited for is kept."""
        if (row, attempt) not in self.attempts:
            return
        del self.attempts[row, attempt]
        if row.attempt == attempt and row.state is TaskState.RUNNING:
            self._begin(row, attempt)
        else:
            # It was given up before it began.
            self._end(row, attempt, "stopped", ("", ""))

    def on(self, agent: str) -> list[tuple[str, int]]:
        """Return ids and numbers of those for *agent*, which cannot know of them."""
        return [
            (row.id, attempt)
            for row, attempt in self.attempts
            if row.agent is not None and row.agent.name == agent
        ]

    def call_off(self) -> None:
        """End them before they begin, for a stop."""
        called_off, self.attempts = self.attempts, {}
        described = ("AttemptLostError", "the orchestrator stopped before it began")
        for row, attempt in called_off:
            self._end(row, attempt, "interrupted", described)


# -- commit, then release, with threads: who writes the journal, and who waits for
# that

# Whoever has to wait for a commit makes it, with all that is pending; others who come
# meanwhile wait for it, and find theirs done. What nobody waits for, the end of an
# attempt mostly, is committed by a thread of its own.


#: Seconds that a caller waits for a commit before it is told that nobody knows.
_COMMIT_TIMEOUT_S: Final = 5.0
#: Between two tries to write.
_PAUSES: Final = Backoff(0.05, 1.0)
#: Seconds that facts wait for company if nobody waits for them.
_BATCH_DELAY_S: Final = 0.002
#: Seconds that they wait for it anyhow, after a group of so many.
_MIN_GAP_S: Final = 0.0005
_MANY: Final = 100
#: Seconds without anything to write after which the journal may put itself in order.
_IDLE_BEFORE_MAINTENANCE_S: Final = 0.02
#: Facts between two snapshots, at the least; and as many for every task in memory.
_SNAPSHOT_FACTS: Final = 50_000
_SNAPSHOT_SHARE: Final = 4
#: Of the moment: they are told, and not kept.
_PASSING: Final = frozenset(
    {StatsReported, HealthReported, PerformanceReported, TaskReady}
)
#: With these, what a handle says is settled once they are kept.
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
    """What the calling thread waits for later."""

    #: Inside `Committer.deferred`, the numbers of the facts; None: it is not inside.
    deferred: list[int] | None = None


class SaysQuiet(Protocol):
    """What knows who waits.

    Attributes:
        quiet: Called once when nothing can proceed any more.
    """

    quiet: list[Callable[[], object]]

    def say_quiet(self) -> None:
        """Under the lock: nothing can proceed; tell those who wait for that."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Under the lock: of those who are woken in here, each loop hears once."""
        ...


class MeasuresCommits(Protocol):
    """What measures, if there is an SDK for it."""

    def committed(self, seconds: float) -> None:
        """Note that a commit has taken that long."""
        ...


class HearsTasks(Protocol):
    """
    What is asked for what running tasks say: of a runtime, or of a simulated life.

    Attributes:
        committer: Keeps facts; None: nothing outlives the process.
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
        """The policies as data, if there are some."""
        ...

    def now(self) -> int:
        """Say the time, in ns."""
        ...

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Make *change*, and do what follows from it."""
        ...


class Keeps(MakesSteps, HearsTasks, Protocol):
    """
    What the way into the journal asks of the runtime.

    Attributes:
        notices: Logs troubles.
        weights: The bytes that finished tasks hold.
    """

    notices: Notices
    weights: Weights

    @property
    def metrics(self) -> MeasuresCommits | None:
        """Measures, if there is an SDK for it."""
        ...

    @property
    def waiting(self) -> SaysQuiet:
        """Knows who waits."""
        ...


class Snapshots:
    """
    Snapshots of the state, which make the next opening short.

    One is due after so many facts. It is taken under the lock with the group that goes
    as far as it does, and saved once that is kept.
    """

    def __init__(self, rt: Keeps, journal: DurableJournal, at: int) -> None:
        self._rt = rt
        self._journal = journal
        #: The number of the fact up to which the latest goes.
        self.at: int = at
        #: Whether one is taken with the next group, however few facts it has.
        self.is_asked_for: bool = False
        #: The number of the fact up to which one of this life is kept.
        self.saved_at: int = 0
        #: That which was taken with the group that is in hand.
        self.taken: dict[str, Any] | None = None

    def take_if_due(self, last: int) -> None:
        """Under the lock, with a group up to fact *last*: take one, if it is time."""
        many = max(_SNAPSHOT_FACTS, _SNAPSHOT_SHARE * len(self._rt.kernel.tasks))
        if self.is_asked_for or last - self.at > many:
            self.is_asked_for = False
            self.at = last
            # Without one, only the next opening takes longer.
            with suppress(MemoryError):
                self.taken = self.take()

    def take(self) -> dict[str, Any]:
        """Under the lock: take one of now, with what policies remember."""
        rt = self._rt
        state = take_snapshot(rt.kernel, rt.now())
        if rt.governor is not None:
            rt.governor.save_history(state)
        return state

    def save_taken(self, committed: int) -> None:
        """Save that which was taken with the group that is kept, if one was."""
        if self.taken is not None:
            state, self.taken = self.taken, None
            self.save(state, committed)

    def save(self, state: dict[str, Any], committed: int) -> None:
        """Save one up to fact *committed*, if the journal can keep it."""
        try:
            self._journal.save(self._rt.epoch, committed, state)
        except (JournalError, MemoryError):
            # Only the next opening takes longer; what is wrong will show by itself.
            return
        self.saved_at = committed

    def save_last(self, committed: int) -> None:
        """Save one of the end, if there is more than the latest goes."""
        if committed > self.at:
            with self._rt.lock:
                state = self.take()
            self.save(state, committed)


class Committer:
    """
    The way of the facts of one runtime into its journal, which that has claimed.

    The lock of the runtime guards all but the writing.
    """

    def __init__(self, rt: Keeps, journal: Journal) -> None:
        self._rt = rt
        self.journal: DurableJournal = (
            journal if isinstance(journal, DurableJournal) else BareJournal(journal)
        )
        #: Whether it can be asked for the tasks that have left memory.
        self.can_be_asked: bool = self.journal is journal
        #: Entries, or what the journal has made of them already.
        self.commits: Commits[Group] = Commits(make=self.journal.new_group)
        #: Makes of a value what is kept of it, for a group.
        self.document: Callable[[Any], Any] = self.journal.text
        #: Gives, for a type and a function, what makes documents of arguments.
        self.call_documents: Callable[
            [str, Callable[..., Any]], Callable[[tuple[Any, ...]], Any]
        ] = self.journal.call_texts
        #: Why the journal cannot be written; empty if it can.
        self.trouble: str = ""
        #: What is to be kept beside the next fact of a task: itself, or its result.
        self.documents: dict[Work | Emitted, Any] = {}
        #: Attempts that may begin now: what they waited for is kept.
        self.ready: list[tuple[TaskRow, int, Work]] = []
        self.held_back: HeldBack = HeldBack(self.commits, self._ready, self._end)
        #: The number of the last fact that is on its way.
        self.last: int = 0
        #: Whether the latest group was large: then the next can wait for more.
        self._is_busy = False
        #: The caller of this step will commit its facts: the thread is not woken.
        self.caller_will_commit = False
        #: Facts to tell, with their cargo, once they are kept: pending, and in hand.
        self._unpublished: list[tuple[Fact, Any]] = []
        self._publishing: list[tuple[Fact, Any]] = []
        #: Works whose end is in facts on their way, for their waiters.
        self._unsettled: list[Work] = []
        self._settling: list[Work] = []
        self._loops: list[tuple[int, asyncio.AbstractEventLoop, Any]] = []
        #: Threads that wait for the end of the trouble.
        self._latches: set[Latch] = set()
        # One that knows whose it is: see release_if_mine.
        self._writing = threading.RLock()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        #: Whether the thread has been woken, and whether a caller waits for it.
        self._woken = False
        self._hurry = False
        self._closing = False
        #: The thread has come to its end; and it is to let go of the journal then.
        self._has_ended = False
        self._is_late = False
        self._local = _Local()
        #: Who hears of all facts at once, under the lock.
        self.listen: Callable[[list[tuple[Fact, Any]]], object] | None = None
        # A journal that keeps no snapshots is never due one: no fact is so far.
        first = 0 if self.can_be_asked else sys.maxsize
        self.snapshots: Snapshots = Snapshots(rt, self.journal, first)

    # -- under the lock ------------------------------------------------------------

    def accept(  # noqa: C901, PLR0912 - hot
        self, items: list[tuple[Fact, Any]]
    ) -> None:
        """Facts of a step: they are kept soon, and then told."""
        commits, documents = self.commits, self.documents
        pending = commits.pending
        keep = pending.keep
        unsettled = self._unsettled
        hurry = False
        last = self.last
        for fact, work in items:
            cls, seq = type(fact), fact[SEQ]
            if cls is TaskStarted:
                keep(fact, None)
            elif cls is TaskCompleted:
                work._visible_after = seq
                unsettled.append(work)
                hurry = hurry or work._waiters is not None
                keep(fact, documents.pop(work, None) if documents else None)
            elif cls is TaskSubmitted:
                work._visible_after = NEVER + seq
                keep(fact, documents.pop(work))
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
                    # It begins with what is kept: whether it may run twice, above all.
                    work._visible_after = NEVER + seq
                document = None
                # What ends the task in the same step has it: see `bring_late`.
                if cls in _DOCUMENTED and not (
                    (cls is TaskRetrying and work._row.state in TERMINAL)
                    # The retry handler's choice, which the fact has itself.
                    or (isinstance(fact, TaskOptionsChanged) and fact.reason)
                ):
                    document = documents.pop(work, None)
                keep(fact, document)
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
        """Whether the attempt of *row* may begin, and no other is to be let go."""
        return (
            not self.ready
            and row.bucket.spec.idempotent
            and row.cargo._begin_after <= self.commits.committed
            and self.journal.is_owned()
        )

    def starts(self, rows: list[TaskRow]) -> list[tuple[TaskRow, int, Work]]:
        """
        The attempts that may begin now; those of *rows* that may not are held back.

        So is each, until its start is kept, if the journal may be another's by now.
        """
        begun, self.ready = self.ready, []
        if not rows:
            return begun
        is_owned, last = self.journal.is_owned(), self.last
        are_held_back = False
        for row in rows:
            work, submitted = row.cargo, last
            if is_owned:
                # As `Work._begin_after`, without a call more for each start.
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
        """Whether nothing is on its way; in trouble, nothing gets there by itself."""
        commits = self.commits
        if self.trouble or self._rt.fault is not None:
            return True
        return not (commits.pending or commits.in_hand)

    def poke(self, *, hurry: bool = True) -> None:
        """Wake the thread to write facts; without *hurry*, after a short delay."""
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
        Called where something is asked for that must be kept.

        Raises:
            WouldBlockError: The caller is on an event loop, and would block it.
            JournalUnavailableError: Nothing can be kept now, and nothing was done.
        """
        self.refuse_to_block()
        if self.trouble:
            if self._closing or self._rt.fault is not None:
                # It will not be written any more, by this one.
                self._rt.refuse_submission()
            msg = f"the journal cannot be written: {self.trouble}"
            raise JournalUnavailableError(msg, outcome="refused")

    def refuse_to_block(self) -> None:
        """
        Called before something is waited for.

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

        A disk that is full for a while is no failure of the task's.
        """
        while True:
            try:
                self.wait_kept(seq)
            except JournalUnavailableError:
                if is_over():
                    raise
            else:
                return

    @takes_interrupts
    def wait_kept(self, seq: int) -> None:
        """
        Wait until the fact number *seq* is kept.

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
                self._wait(seq, end)
                continue
            try:
                if not self._writing.acquire(timeout=max(0.0, end - monotonic())):
                    self._give_up()
                if seq > self.commits.committed and not self.trouble:
                    self._commit()
            finally:
                release_if_mine(self._writing)

    def flush(self) -> None:
        """Wait until all that is on its way is kept, if it can be."""
        deferred = self._local.deferred
        self._local.deferred = None
        try:
            if not self.trouble:
                self.wait_kept(self.last)
        except TaskorchError:
            # Callers that need the journal are told.
            return
        finally:
            self._local.deferred = deferred

    def _wait(self, seq: int, end: float) -> None:
        latch = Latch()
        with self._rt.lock:
            if self._rt.fault is not None:
                return
            self.commits.when(seq, latch.set)
            self._latches.add(latch)
        try:
            if not latch.wait(max(0.0, end - monotonic())):
                self._give_up()
        finally:
            self._latches.discard(latch)

    def lost(self) -> None:
        """Under the lock: nothing will be kept any more, and nobody waits for that."""
        # Nor does what was held back begin any more.
        self.held_back.attempts.clear()
        for latch in tuple(self._latches):
            latch.set()
        self._settle_loops(self._loops, value=False)
        self._loops = []

    def recovers(self, timeout: float | None) -> bool:
        """Wait a while for the end of the trouble, if there is any; whether it came."""
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

    def _give_up(self) -> None:
        msg = f"nobody knows whether it was kept: {self.trouble or 'the disk is slow'}"
        hint = "submit the same again, with the same id or idempotency key: it settles"
        raise JournalUnavailableError(msg, outcome="unknown", hint=hint)

    def _is_deferred(self) -> bool:
        return self._local.deferred is not None

    @contextmanager
    def deferred(self) -> Iterator[list[int]]:
        """
        What the caller asks for in here waits for no commit: for coroutines.

        Yields:
            The numbers of the facts that are to be waited for.
        """
        seqs: list[int] = []
        self._local.deferred = seqs
        try:
            yield seqs
        finally:
            self._local.deferred = None

    async def wait_kept_async(self, seqs: list[int]) -> None:
        """
        Wait on the running loop until the facts of these numbers are kept.

        Raises:
            JournalUnavailableError: They are not, and nobody knows whether they will.
            TaskorchError: The orchestrator has failed, or lost its journal.
        """
        seq = max(seqs, default=0)
        if seq <= self.commits.committed:
            return
        loop = asyncio_loop("a method of orch.aio", "orch.method")
        future: asyncio.Future[bool] = loop.create_future()
        rt = self._rt
        with rt.lock:
            if seq <= self.commits.committed:
                return
            if rt.fault is not None:
                rt.refuse_submission()
            self._loops.append((seq, loop, future))
        patience = loop.call_later(_COMMIT_TIMEOUT_S, resolve, [future], False)  # noqa: FBT003
        try:
            if not await future:
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
                    # A caller that waits needs one fact of many.
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
        """Whether there is something to do for `_upkeep`; what ails it is said."""
        if not self.journal.needs_upkeep():
            return False
        troubles = self.journal.troubles()
        if troubles:
            self._rt.notices.journal_ails("; ".join(troubles))
        return True

    def _upkeep(self) -> None:
        # What is wrong will show by itself: the next group is written, or is not.
        with suppress(JournalError):
            self.journal.upkeep(self._rt.epoch)

    @defers_interrupts
    def _commit(self) -> bool:
        """
        Append a group, with `_writing` held; whether another may follow.

        What is wrong with the journal stops everything, unless it may pass.
        """
        rt, journal = self._rt, self.journal
        if rt.fault is not None:
            return False
        with rt.lock:
            group = self.commits.in_hand or self._begin()
        if not group:
            return False
        began = monotonic()
        try:
            # What it has made itself, it takes.
            journal.append(rt.epoch, cast("Sequence[Entry]", group))
        except JournalUnavailableError as error:
            self._degrade(error.message)
            return False
        except MemoryError:
            # Nothing is torn: the group is in hand still, and is written another time.
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
            # Most groups are far from it.
            if snapshots.is_asked_for or self.last - snapshots.at > _SNAPSHOT_FACTS:
                snapshots.take_if_due(self.last)
        return group

    def _release(self) -> None:  # noqa: C901 - one step, in order
        """The group in hand is kept: let go what waited for that, and tell of it."""
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
        except Exception as error:  # noqa: BLE001 - it is ours
            rt.fail_stop(error)
        except BaseException as error:
            if inside:
                rt.interrupted(error)
            raise

    def _evict(self) -> bool:
        """
        Under the lock: let the oldest finished tasks leave memory, but not many.

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

    def _publish(self, items: list[tuple[Fact, Any]]) -> None:
        """Under the lock: those who listen hear of *items*."""
        rt = self._rt
        if rt.publisher.receivers:
            wanted = rt.wanted
            items = [item for item in items if item[0][CLS] in wanted]
            if items:
                rt.publisher.put(items)

    def _tell_loops(self, committed: int) -> None:
        """Wake the coroutines that wait: one call a loop, however many they are."""
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
            fact = rt.kernel.own_fact(JournalDegraded, rt.now(), why)
            self.commits.pending.keep(fact, None)
            self.last = fact.seq
            # Publish now: a receiver need not wait until all is kept.
            self._publish([(fact, None)])
            if rt.waiting.quiet and rt.is_quiet():
                rt.waiting.say_quiet()
            self.poke()

    # -- snapshots -----------------------------------------------------------------

    def apart(self, act: Callable[[], T]) -> T:
        """Do something while no group is being written: not with the lock held."""
        with self._writing:
            return act()

    def save_now(self) -> bool:
        """Save a snapshot of now, or with the next group; whether it is kept."""
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
        Have the thread write all facts on their way, and wait; whether it has.

        Unlike `flush`, it is not longer under way than *timeout* on a disk that hangs.
        """
        latch = Latch()
        with self._rt.lock:
            if self.trouble or self._rt.fault is not None:
                return False
            self.commits.when(self.last, latch.set)
            self.poke()
        return latch.wait(timeout)

    def abandon(self) -> None:
        """The opening has failed: let go of the journal, and write no more."""
        with self._rt.lock:
            self._closing = True
            if self._thread is not None and self._wake.locked():
                self._wake.release()
        self.journal.close()

    def close(self, timeout: float) -> bool:
        """
        Write what is left, if that can be done in time; whether the journal is closed.

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
                well = rt.fault is None and not self.trouble
                if well and monotonic() < end:
                    self.snapshots.save_last(self.commits.committed)
                self.journal.close()
                return True
            with rt.lock:
                # Now it may, after all.
                ended, self._is_late = self._has_ended, True
            if ended:
                self.journal.close()
            return ended
        finally:
            release_if_mine(self._writing)


# -- what an attempt says while it is under way: how far it is, what it spends ---------

# What an attempt says that was given up, or has ended, changes nothing.


#: The states of a task whose attempt is under way.
_UNDER_WAY: Final = frozenset({TaskState.RUNNING, TaskState.SUSPENDED})


def checkpoint(rt: HearsTasks, work: Work, attempt: int, state: Any) -> None:
    """
    A running task leaves *state* for its next attempt; that is not waited for.

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
    """Under the lock: *work* is about to complete with *value*, which somebody says."""
    work._value, work._error = value, None
    if rt.committer is not None:
        rt.committer.documents[work] = rt.committer.journal.document(value)


def allow_repeat(
    rt: HearsTasks, work: Work, attempt: int, *, allowed: bool, reason: str
) -> None:
    """Whether a running task may be run again if nobody knows how it ends: *reason*."""
    row = work._row

    def change(now: int) -> None:
        if rt.kernel.allow_repeat(row, attempt, now, allowed=allowed, reason=reason):
            work._task = attrs.evolve(task_of(row), idempotent=allowed)

    rt.step(change)


def progress(rt: HearsTasks, work: Work, attempt: int, value: Any) -> None:
    """An attempt reports *value*."""
    row, shown = work._row, value
    if rt.governor is not None:
        rt.governor.progressed(work, attempt, value)
    if rt.committer is not None:
        try:
            rt.committer.journal.document(value)
        except InvalidTaskError:
            # The journal cannot keep it: the fact has its text, the status the value.
            shown = show(value)
    if rt.kernel.sink is None:
        # Nobody listens, and no journal keeps it: the fact only takes its number.
        rt.deciders.refuse_reentry()
        with rt.lock:
            note_progress(rt, row, attempt, value, shown, rt.now())
        return
    rt.step(lambda now: note_progress(rt, row, attempt, value, shown, now))


def note_progress(
    rt: HearsTasks, row: TaskRow, attempt: int, value: Any, shown: Any, now: int
) -> None:
    """Under the lock: note the *value* that an attempt reports, *shown* in a fact."""
    if row.attempt == attempt and row.state in _UNDER_WAY:
        extra_of(row.cargo).progress = value
        rt.kernel.note(TaskProgressed, now, row.id, attempt, shown, cargo=row.cargo)


def spend(rt: HearsTasks, work: Work, attempt: int, units: Units) -> None:
    """
    An attempt has spent *units*.

    Raises:
        InvalidTaskError: Its budget, and those above, have no resource of that name.
        NotRunningError: It has ended, or was given up.
    """
    row = work._row
    spec = row.bucket.spec
    if spec.budget:
        from taskorch.kernel import drawn_from  # noqa: PLC0415 - drawn on by few

        with rt.lock:
            # It may have lost one that the task has reserved.
            resources = drawn_from(rt.kernel, spec.budget).union(dict(spec.spends))
        strange = [name for name, _ in units if name not in resources]
        if strange:
            names = ", ".join(f"{n!r}{guess(n, resources)}" for n in strange)
            msg = f"task {row.id}: the budget {spec.budget!r} has no {names}"
            hint = f"say what is spent of {', '.join(sorted(resources))}"
            raise InvalidTaskError(msg, hint=hint)
    if not rt.step(lambda now: rt.kernel.spend(row, attempt, units, now)):
        msg = f"attempt {attempt} of task {row.id} has ended: it spends nothing more"
        raise NotRunningError(msg, task_id=row.id)
