"""Questions to a journal, answered by the code that answers an orchestrator."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Unpack

import attrs

from taskorch.core.engine import (
    AttemptContext,
    Recollection,
    Rereading,
    Runtime,
    Work,
    _reports,
    failures,
    folded,
    listed,
)
from taskorch.core.journal import MemoryJournal, SqlJournal, open_journal
from taskorch.core.journal._logs import log_of
from taskorch.core.journal._values import only_looking
from taskorch.core.kernel import (
    Kernel,
    KernelConfig,
    hold_of_starts,
)
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import (
    Event,
    OrchestratorStarted,
    OrchestratorStopped,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskParentsAdded,
    TaskSubmitted,
    make,
)
from taskorch.ext.questions import opened_questions
from taskorch.ext.views._past import PastJournal, past_of
from taskorch.kit.checks import check_seconds
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.kit.words import stamp
from taskorch.model import (
    TERMINAL,
    Blocker,
    Explanation,
    FailureCause,
    FilterFields,
    OpenQuestion,
    Remedy,
    Resources,
    Stats,
    Stuck,
    TaskFilter,
    TaskLog,
    TaskState,
    TaskStatus,
)
from taskorch.model.ids import has_number, next_id, run_id_of, stem_of
from taskorch.policies._kinds import Policies
from taskorch.protocols import DurableJournal, Entry

_RUN_IT: Final = Remedy("start", "Run the program again that has this journal.")
#: The reason why no task starts.
NOBODY: Final = Blocker(
    "not_started",
    "No orchestrator has its journal open: nothing starts.",
    remedies=(_RUN_IT,),
)
_WAS_RUNNING: Final = Blocker(
    "not_started",
    "No orchestrator has its journal open: so it was when the last one ended. The next "
    "one runs it again, or asks a person if it must not run twice.",
    remedies=(_RUN_IT,),
)
#: States that a person must end, whether there is an orchestrator or not.
_HELD: Final = (TaskState.BLOCKED, TaskState.SUSPENDED)
#: Blockers that hold whoever runs the task; others depend on the workers, slots and
#: amounts of the next orchestrator.
_LASTING: Final = frozenset(
    {
        *("not_started", "dependency", "delay", "deadline", "event", "decision"),
        *("suspended", "terminal"),
    }
)
_LASTING_CAUSES: Final = frozenset(
    {"dependency", "suspended", "decision", "event", "gone"}
)


def explained(explanation: Explanation, kernel: Kernel, nobody: Blocker) -> Explanation:
    """
    Return *explanation* without the parts that only an orchestrator knows.

    *nobody* is the reason why no task starts.
    """
    if explanation.state in TERMINAL:
        return explanation
    if explanation.state is TaskState.RUNNING:
        return attrs.evolve(explanation, blockers=(_WAS_RUNNING,), agent="", granted="")
    now, later = (
        _lasting(explanation.blockers, kernel),
        _lasting(explanation.then, kernel),
    )
    # A blocker that ends with time needs an orchestrator that looks at the clock.
    if explanation.state not in _HELD or any(each.until is not None for each in now):
        first = [each for each in (*now, *later) if each.kind == "not_started"]
        now = (*(first or [nobody]), *(each for each in now if each not in first))
        later = tuple(each for each in later if each not in first)
    return attrs.evolve(explanation, blockers=now, then=later, more_agents=0)


def stuck_whoever_opens(groups: Iterable[Stuck]) -> tuple[Stuck, ...]:
    """Return the *groups* that stay stuck whoever opens the journal."""
    return tuple(group for group in groups if group.kind in _LASTING_CAUSES)


def _lasting(blockers: Sequence[Blocker], kernel: Kernel) -> tuple[Blocker, ...]:
    return tuple(
        _of_its_parent(each, kernel) for each in blockers if each.kind in _LASTING
    )


def _of_its_parent(blocker: Blocker, kernel: Kernel) -> Blocker:
    """Return *blocker*; that of a task that was running says so."""
    name = blocker.name
    parent = kernel.tasks.get(name) if blocker.kind == "dependency" else None
    if parent is None or parent.state is not TaskState.RUNNING:
        return blocker
    detail = f"It needs {name}, which was running when the last orchestrator ended."
    words = f"{name} must complete."
    remedies = (Remedy("complete", words, (name,)),)
    return attrs.evolve(blocker, detail=detail, remedies=remedies)


__all__ = ("JournalOwner", "JournalReader", "Outcomes")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The number of events that are applied at once.
_SLICE: Final = 20_000
#: Tasks of a page.
_PAGE: Final = 200
#: More attempts than ever run at once, as the number of slots is not known.
_ANY: Final = 1_000_000
_UNKNOWN_LIMITS: Final = Blocker(
    "not_started",
    "An earlier taskorch wrote its journal, which does not say how many slots and "
    "resources there are: ask its orchestrator.",
)
_ENDS: Final = {
    "TaskCompleted": "completed",
    "TaskFailed": "failed",
    "TaskCancelled": "cancelled",
}


@frozen
class JournalOwner:
    """
    The orchestrator that opened a journal last.

    Attributes:
        epoch: The number of its incarnation; 0: nobody has opened the journal yet.
        pid: Its process.
        host: The machine of its process.
        since: When it began, in UTC, as in `2026-11-21T20:12:10Z`.
        lives: Whether it still has the journal open; None: unknown from here.
    """

    epoch: int
    pid: int | None
    host: str
    since: str
    lives: bool | None


@frozen
class Outcomes:
    """
    How many tasks ended within an interval.

    Attributes:
        begin: When the interval began.
        completed: Tasks that completed.
        failed: Tasks that failed.
        cancelled: Tasks that were cancelled.
    """

    begin: datetime
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class JournalReader:
    """
    Reads a journal, as of its last commit: while its leader runs, and without a claim.

    It writes nothing: neither into the journal nor beside it. Each question is answered
    as of the last commit before it, by the code that answers an orchestrator; the
    policies are those that come with the library. The functions that tasks call are
    not imported. It may be used from any thread. A question about all tasks takes about
    a second with 10,000 finished tasks.

    Args:
        journal: The path of one in a file, the address of one in PostgreSQL, or a
            `DurableJournal`, which is not claimed.
        at: The number of an event, or a moment, one without a zone in local time: all
            is answered as of then. None: as of the last commit.

    Attributes:
        until: The number of the last event that is read; None: each that comes.

    Raises:
        JournalUnavailableError: It cannot be read now, or not by this user.
        JournalError: There is none, or it is damaged, or of a newer taskorch.
        InvalidTaskError: *journal* is neither, or there is no such event.
    """

    def __init__(
        self,
        journal: str | os.PathLike[str] | DurableJournal,
        *,
        at: int | datetime | None = None,
    ) -> None:
        #: The journal as one of the library's own, which answers more questions.
        self._file: SqlJournal | None = None
        if isinstance(journal, str | os.PathLike):
            journal = open_journal(journal)
        if isinstance(journal, SqlJournal):
            journal.check_readable()
            self._file = journal
        elif not isinstance(journal, DurableJournal):
            msg = f"{show(journal)} is no path, and no journal that can be asked"
            raise InvalidTaskError(msg, hint="JournalReader('runs.db')")
        self._whole: DurableJournal = journal
        self._journal: DurableJournal = journal
        self.until: int | None = None
        if at is not None:
            past = past_of(journal, at)
            self._journal, self._file, self.until = past, None, past.until
        self._mutex = threading.RLock()
        self._past: _Past | None = None

    def __repr__(self) -> str:
        return f"JournalReader({self._journal!r})"

    # -- one task ------------------------------------------------------------------

    def events(self, task_id: str, *, earlier: bool = False) -> list[Event]:
        """
        Return all events of one task, in order.

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first.
            earlier: Whether those of its earlier runs are to come before them.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: See `JournalReader`.
        """
        with only_looking():
            name = self._latest(task_id)
            events = self._events(name)
            if not events:
                raise _unknown(name)
            before: list[Event] = []
            each = stem_of(name)
            while earlier and each != name:
                before += [event for event, _ in self._events(each)]
                each = next_id(each)
        return [*before, *(event for event, _ in events)]

    def happened(self, after: int = 0) -> Iterator[Event]:
        """
        Yield all events of all tasks, in order.

        Args:
            after: Only events after the one of this number: see `last`.

        Raises:
            JournalError: While iterating: see `JournalReader`.
        """
        return self._journal.facts(after)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """
        Yield all events of all tasks in order, each with the value kept beside it.

        The value is the task of a submission, the result of a completion, or the
        payload of an event from outside; for most events it is None.

        Args:
            after: Only events after the one of this number.

        Raises:
            JournalError: While iterating: see `JournalReader`.
        """
        entries = self._journal.read(after)
        while True:
            with only_looking():
                some = list(islice(entries, _PAGE))
            yield from some
            if len(some) < _PAGE:
                return

    def get_task_status(self, task_id: str) -> TaskStatus:
        """
        Return the state of a task, with its history.

        Only its own events are read, and those of the tasks that it waits for.

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: See `JournalReader`.
        """
        with only_looking():
            name = self._latest(task_id)
            runtime, past = _runtime(self._journal)
            runtime.committed = sys.maxsize
            work = past.recollect_all((name,)).get(name)
            if work is None:
                raise _unknown(name)
            runtime.directory.reruns.note(self._latest(stem_of(name)))
            runtime.directory.recall_later((name,))
            return _reports.statuses_of(runtime, (work,))[0]

    def log(
        self, task_id: str, *, attempt: int | None = None, after: int | None = None
    ) -> TaskLog:
        """
        Return the log and output of a task: see `TaskOrchestrator.log`.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: See `JournalReader`.
            OSError: The log was kept, and cannot be read.
        """
        status = self.get_task_status(task_id)
        folder = self._journal.logs_folder()
        return log_of(None if folder is None else Path(folder), status, attempt, after)

    def _latest(self, task_id: str) -> str:
        """Return the id of the run that *task_id* means."""
        if not isinstance(task_id, str):
            msg = f"an id is a text, not {show(task_id)}"
            raise UnknownTaskError(msg)
        if has_number(task_id):
            return run_id_of(task_id)
        name = task_id
        while self._events(later := next_id(name)):
            name = later
        return name

    def _events(self, task_id: str) -> list[Entry]:
        """Return the events of one run of a task."""
        return list(self._journal.about((task_id,), sys.maxsize))

    def _above(self, task_id: str) -> tuple[str, ...]:
        """Return the parents of a task, including those added later."""
        said = TaskSubmitted, TaskParentsAdded
        events = (each for each in self.events(task_id) if isinstance(each, said))
        return tuple(dict.fromkeys(name for each in events for name in each.after))

    # -- all of them ---------------------------------------------------------------

    def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> Iterator[TaskStatus]:
        """
        Yield all tasks that meet all conditions; see `TaskFilter`.

        Raises:
            InvalidTaskError: An argument is not well formed, or there is no such state.
            JournalError: See `JournalReader`; while iterating, too.
        """
        return self._some_tasks(TaskFilter.of(state, fields), None)

    def _some_tasks(
        self,
        which: TaskFilter,
        most: int | None,
        after: str = "",
        *,
        newest: bool = False,
    ) -> Iterator[TaskStatus]:
        """Yield at most *most* tasks, first or last; only those behind *after*."""
        with self._mutex:
            runtime = self._current().runtime
            return self._pages(listed(runtime, which, most, after=after, newest=newest))

    def _pages(self, statuses: Iterator[TaskStatus]) -> Iterator[TaskStatus]:
        while True:
            # The lock is not held, as the caller's own code runs between two of them.
            with self._mutex, only_looking():
                page = list(islice(statuses, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return

    def failures(self) -> tuple[FailureCause, ...]:
        """
        Return the failures that nothing has mended, by cause; commonest first.

        Raises:
            JournalError: See `JournalReader`.
        """
        with self._mutex, only_looking():
            return failures(self._current().runtime)

    def get_stats(self) -> Stats:
        """
        Return counts, times and resources, as of the last commit.

        Raises:
            JournalError: See `JournalReader`.
        """
        with self._mutex:
            return _reports.stats(self._current().runtime)

    def kept(self) -> dict[str, dict[str, Any]]:
        """
        Return the documents of extensions by name and key: see `orch.kept`.

        Raises:
            JournalError: See `JournalReader`.
        """
        with self._mutex:
            kept = self._current().runtime.kernel.kept
            return {
                name: {key: json.loads(text) for key, text in documents.items()}
                for name, documents in kept.items()
            }

    def count(self) -> int:
        """
        Return how many tasks the journal has; `get_stats` also counts removed ones.

        Raises:
            JournalError: See `JournalReader`.
        """
        if self._file is not None:
            return self._file.count()
        many, after = 0, 0
        while page := self._journal.submitted(after, sys.maxsize, _SLICE):
            many, after = many + len(page), page[-1][0]
        return many

    def explain(self, task_id: str) -> Explanation:
        """
        Explain why a task does not run, or how it ended, as of the last commit.

        The router, and all other code of the user in its orchestrator, is not asked.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: See `JournalReader`.
        """
        with self._mutex, only_looking():
            past, lives = self._current(), self.owner.lives is not False
            runtime = past.runtime
            name = self._latest(task_id)
            runtime.directory.recall((name,))
            if not runtime.directory.is_known(name):
                raise _unknown(name)
            if lives and past.knows_limits:
                runtime.kernel.unpause()
            else:
                runtime.kernel.pause()
            paused = _why_paused(runtime.kernel, lives=lives)
            explanation = _reports.explanation(
                runtime,
                name,
                runtime.now(),
                estimates=lives and past.knows_limits,
                paused=paused,
            )
            if lives:
                return explanation
            return explained(explanation, runtime.kernel, paused)

    def stuck(self) -> tuple[Stuck, ...]:
        """
        Return the groups of tasks that can never proceed as things stand, by cause.

        If no orchestrator has the journal open, these are the ones that stay stuck
        whoever opens it.

        Raises:
            JournalError: See `JournalReader`.
        """
        with self._mutex:
            groups = _reports.stuck(self._current().runtime)
            return (
                groups if self.owner.lives is not False else stuck_whoever_opens(groups)
            )

    def _questions(self) -> list[OpenQuestion]:
        """Return the open questions, which cannot be answered here."""
        with self._mutex:
            runtime = self._current().runtime
            with runtime.lock:
                return opened_questions(runtime, _takes_no_answer)

    def outcomes(self, every: float | timedelta = 3_600.0) -> list[Outcomes]:
        """
        Return results over time: how many tasks ended, and how.

        Args:
            every: The length of an interval, in seconds or as a timedelta: an hour.

        Returns:
            One for each interval in which a task ended, in order.

        Raises:
            InvalidTaskError: *every* is no time above zero.
            JournalError: See `JournalReader`.
        """
        length = int(check_seconds("every", every, zero=False) * NS)
        by_period: dict[int, dict[str, int]] = {}
        for (period, kind), count in self._ends_by_time(length).items():
            by_period.setdefault(period, {})[_ENDS[kind]] = count
        return [
            Outcomes(
                _EPOCH + timedelta(microseconds=period * length // 1_000), **counts
            )
            for period, counts in sorted(by_period.items())
        ]

    def _ends_by_time(self, length: int) -> dict[tuple[int, str], int]:
        if self._file is not None:
            return self._file.ends_by_time(length)
        counts: dict[tuple[int, str], int] = {}
        for event, _ in self._journal.read():
            if type(event) in (TaskCompleted, TaskFailed, TaskCancelled):
                key = event.at_ns // length, type(event).__name__
                counts[key] = counts.get(key, 0) + 1
        return counts

    # -- the journal ---------------------------------------------------------------

    @property
    def last(self) -> int:
        """
        The number of the last event that is kept: it rises when something happens.

        Raises:
            JournalError: See `JournalReader`.
        """
        if self.until is not None:
            return self.until
        if self._file is not None:
            return self._file.last
        return max((event.seq for event, _ in self._journal.read()), default=0)

    @property
    def uid(self) -> str:
        """
        Id of the journal, 32 hexadecimal digits; "": it has none yet.

        Raises:
            JournalError: See `JournalReader`.
        """
        whole = self._whole
        return whole.owner().get("uid") or "" if isinstance(whole, SqlJournal) else ""

    @property
    def has_left_out(self) -> bool:
        """
        Whether retention has removed some events up to `until`.

        Tasks that were there then may be missing; those that are there are unchanged.

        Raises:
            JournalError: See `JournalReader`.
        """
        whole = self._whole
        return isinstance(whole, SqlJournal) and whole.has_left_out(self.until)

    @property
    def owner(self) -> JournalOwner:
        """
        The orchestrator that opened the journal last, as far as the journal says.

        Raises:
            JournalError: See `JournalReader`.
        """
        if isinstance(self._journal, PastJournal):
            return _owner_then(self._journal)
        if self._file is None:
            return JournalOwner(0, None, "", "", lives=None)
        record = self._file.owner()
        if not record.get("epoch"):
            return JournalOwner(0, None, "", "", lives=False)
        lives = self._file.owner_lives(record)
        return JournalOwner(
            record["epoch"], record["pid"], record["host"], record["since"], lives
        )

    def _current(self) -> _Past:
        """Return the state from all kept events."""
        incarnation = 0 if self._file is None else self._file.owner().get("epoch", 0)
        with only_looking():
            if self._past is None or self._past.incarnation != incarnation:
                # A task that ended long ago may have left the journal when an
                # incarnation began.
                self._past = _Past(self._journal, self._file, incarnation)
            self._past.catch_up()
            return self._past


def _owner_then(journal: PastJournal) -> JournalOwner:
    """Return the known data of the owner of the journal at that time."""
    began = journal.latest_start()
    if began is None:
        return JournalOwner(0, None, "", "", lives=False)
    later = (type(event) for event, _ in journal.read(began.seq))
    since = stamp(began.at_ns / NS)
    return JournalOwner(
        began.epoch, None, "", since, lives=OrchestratorStopped not in later
    )


def _takes_no_answer(*_: object, **__: object) -> bool:
    msg = "a journal that is read takes no answers"
    raise InvalidTaskError(msg, hint="taskorch answer, with its service's URL")


def _why_paused(kernel: Kernel, *, lives: bool) -> Blocker:
    """Return why nothing starts."""
    held = hold_of_starts(kernel, lasts=not lives)
    if held is None:
        return _UNKNOWN_LIMITS if lives else NOBODY
    if lives:
        return held
    detail = f"{NOBODY.detail} In its next incarnation, too: {held.detail}"
    remedies = (*NOBODY.remedies, *held.remedies)
    return attrs.evolve(NOBODY, detail=detail, remedies=remedies)


class _Past:
    """The state of a journal, in a runtime that does nothing."""

    def __init__(
        self,
        journal: DurableJournal,
        file: SqlJournal | None,
        incarnation: int,
    ) -> None:
        #: The number of the incarnation in which it was read.
        self.incarnation = incarnation
        began: OrchestratorStarted | None = None
        if isinstance(journal, PastJournal):
            began = journal.latest_start()
        elif file is not None:
            latest = file.latest_of("OrchestratorStarted")
            began = None if latest is None else make(latest[0])
        self.knows_limits = began is not None and began.concurrency > 0
        slots = _ANY if began is None else began.concurrency or _ANY
        self.runtime, _ = _runtime(journal, slots)
        self._journal = journal
        # A list finds ended tasks in the file, without their events.
        self._rereading = Rereading(self.runtime, journal, ended=file is None)
        self._rereading.begin()

    def catch_up(self) -> None:
        """Apply the events since the last call."""
        rereading, runtime = self._rereading, self.runtime
        entries = self._journal.read(after=rereading.last)
        while some := list(islice(entries, _SLICE)):
            # Of tasks that have left memory, only the ends are known.
            runtime.directory.recall(_parents(some))
            rereading.apply(some)
        runtime.committed = rereading.last
        if isinstance(self._journal, PastJournal):
            runtime.now = partial(int, self._journal.now_ns)
        else:
            runtime.now = MonotonicClock(not_before=rereading.at_ns).now_ns


def _parents(entries: Iterable[Entry]) -> list[str]:
    """Return the parents of tasks submitted in *entries* that are not among them."""
    names: dict[str, None] = {}
    here: set[str] = set()
    for event, _ in entries:
        if type(event) is TaskSubmitted:
            here.add(event.task_id)
            names.update(dict.fromkeys(event.after))
        elif type(event) is TaskParentsAdded:
            names.update(dict.fromkeys(event.after))
    return [name for name in names if name not in here]


def _runtime(
    journal: DurableJournal, slots: int = _ANY
) -> tuple[Runtime, Recollection]:
    """Return a runtime that is never started, and what it reads of the past."""
    runtime = Runtime(
        parts=Policies(),
        config=KernelConfig(concurrency=slots),
        pools=Resources(),
        executors={},
        journal=MemoryJournal(),
        seed=0,
        monitor_interval=_ANY,
        work_class=Work,
        context_class=AttemptContext,
        report=_reports.report,
    )
    # The runtime has no worker of its own.
    runtime.new_kernel()
    runtime.directory.recovered = past = Recollection(runtime, journal, folded)
    return runtime, past


def _unknown(task_id: str) -> UnknownTaskError:
    msg = f"no task has the id {task_id!r}"
    hint = "look for it by a part of its id: orch.tasks(id='*part*')"
    return UnknownTaskError(msg, hint=hint, task_id=task_id)
