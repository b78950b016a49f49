"""Estimate of a task's start, from the durations of tasks of its type so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taskorch.core.kernel._dependencies import (
    awaits,
    is_broken,
    is_forgiven,
    is_lost,
    is_waiting,
    least,
)
from taskorch.core.kernel._explain._holders import Holders, ahead, shares_by_hand
from taskorch.core.kernel._explain._parents import how
from taskorch.core.kernel._explain._people import wait_of
from taskorch.core.kernel._reservation import reservation
from taskorch.core.kernel._rows import TaskRow, TimedLimit, WorkerRow
from taskorch.core.kernel._state import KernelState
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import in_words
from taskorch.model import Blocker, Estimate, TaskState

_S: Final = TaskState
#: The most tasks that are followed on the way up.
_MOST: Final = 1_000
#: The most types that the basis names.
_TYPES: Final = 3

#: Kinds of blockers that do not pass by themselves, each with its text.
_OUTSIDE: Final = {
    "suspended": "it is suspended",
    "decision": "somebody must decide",
    "capability": "no worker can do it",
    "not_started": "the orchestrator starts nothing",
    "journal": "the journal cannot be written",
    "event": "it waits for an event",
    "veto": "the state machine does not let it start",
    "policy": "policies do not let it start",
    "allocator": "only the allocator knows when it grants it",
    "deadline": "its deadline comes first",
}


class _UnknownError(Exception):
    """No estimate can be made; the text says why."""


def estimate(
    kernel: KernelState, row: TaskRow, now: int, blockers: Sequence[Blocker]
) -> Estimate:
    """Estimate when *row*, which waits because of *blockers*, may start.

    The estimate uses the mean duration of each type of task. It supposes that running
    and earlier tasks take as long, that the task finds a slot once its parents have
    completed, and that no new task comes before it.
    """
    by_hand = {name for name, *_ in shares_by_hand(kernel)}
    for blocker in blockers:
        why = _OUTSIDE.get(blocker.kind)
        if blocker.holders and by_hand.issuperset(blocker.holders):
            why = "what is held by hand is released when its owner likes"
        if blocker.kind in ("agent", "resource", "budget") and not blocker.holders:
            why = blocker.detail.rstrip(".")
        if blocker.kind == "reservation" and blocker.until is None:
            why = f"nobody knows when {blocker.name} starts, which comes first"
        if why is not None:
            return Estimate(None, why)
    short = {blocker.kind for blocker in blockers}
    if any(blocker.resource for blocker in blockers):
        short.add("resource")
    kept = reservation(kernel, now)
    if kept is not None and kept.row is row and kept.start_ns is not None:
        seconds = max(0.0, (kept.start_ns - now) / NS)
        return Estimate(seconds, "what holds what is reserved for it ends as expected")
    guess = _Guess(kernel, now)
    try:
        seconds = guess.start(row, short)
    except _UnknownError as unknown:
        return Estimate(None, str(unknown))
    firsts = [b.until or 0.0 for b in blockers if b.kind == "reservation"]
    return Estimate(max([seconds, *firsts]), guess.basis())


class _Guess:
    def __init__(self, kernel: KernelState, now: int) -> None:
        self._kernel = kernel
        self._now = now
        self._holders = Holders(kernel)
        #: The time in seconds from now at which each task is expected to complete.
        self._ends: dict[TaskRow, float] = {}
        #: The mean duration of each type, and how many tasks it rests on.
        self._means: dict[str, tuple[float, int]] = {}
        self._notes: list[str] = []

    def basis(self) -> str:
        """Return a sentence that names the basis of the guess."""
        means = [
            f"{name} takes {in_words(mean)} (mean of {many:,})"
            for name, (mean, many) in self._means.items()
        ]
        if len(means) > _TYPES:
            means[_TYPES:] = [f"{counted(len(means) - _TYPES, 'more type')} likewise"]
        return (
            "; ".join([*means, *dict.fromkeys(self._notes)])
            or "it waits for nothing but the clock"
        )

    def start(self, row: TaskRow, short: set[str]) -> float:
        """Return the seconds until *row* may start, given the kinds of its blockers."""
        for other in self._above(row)[:-1]:
            self._ends[other] = self._end(other)
        seconds = self._ready(row)
        if short & {"slot", "agent", "resource"} or row.state is _S.QUEUED:
            seconds = max(seconds, self._queue(row, short - {"rate"}))
        for limit in row.bucket.limits:
            if not isinstance(limit, TimedLimit):
                continue
            before = ahead(row.bucket, row) if row.state is _S.QUEUED else 0
            for wait, words in limit.waits(row.bucket, 1 + (before or 0), self._now):
                if wait / NS > seconds:
                    seconds = wait / NS
                    self._notes.append(words)
        return seconds

    def _above(self, row: TaskRow) -> list[TaskRow]:
        """Return the tasks that *row* waits for, directly or not, and then *row*."""
        order: list[TaskRow] = []
        seen: set[TaskRow] = set()
        stack = [(row, False)]
        while stack:
            found, done = stack.pop()
            if done:
                order.append(found)
                continue
            if found in seen:
                continue
            seen.add(found)
            waiting = 0 if found.links is None else found.links.waiting
            if len(seen) + waiting > _MOST:
                msg = f"more than {_MOST:,} tasks come before it"
                raise _UnknownError(msg)
            stack.append((found, True))
            if is_waiting(found):
                stack += [(parent, False) for parent in _open_parents(found)]
        return order

    def _end(self, row: TaskRow) -> float:
        """Return the seconds until *row*, a parent of another task, completes."""
        wait = wait_of(row)
        if wait is not None and wait[0] is None and row.state is not _S.SUSPENDED:
            # A wait for a time only begins once all parents have ended.
            if awaits(row) and row.extra is not None:
                return (row.extra.due_ns - self._now) / NS
            return self._ready(row) + (wait[1] or 0) / NS
        if row.state in (_S.BLOCKED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED):
            msg = f"it needs {row.id}, which {how(self._kernel, row)}"
            raise _UnknownError(msg)
        if row.state is _S.RUNNING:
            return self._left(row)
        mean, begin = self._mean(row), self._ready(row)
        if row.state is _S.QUEUED:
            begin = max(begin, self._queue(row, {"slot"}))
        return begin + mean

    def _left(self, row: TaskRow) -> float:
        """Return the seconds until *row*, which runs, completes."""
        return max(0.0, self._mean(row) - (self._now - row.started_ns) / NS)

    def _ready(self, row: TaskRow) -> float:
        """Return the seconds until *row* waits for no time and no other task."""
        extra, links = row.extra, row.links
        due = 0 if extra is None else extra.due_ns
        ready = max(0.0, (due - self._now) / NS)
        if links is None or not is_waiting(row):
            return ready
        terms = links.terms
        ends = sorted(self._ends[parent] for parent in _open_parents(row))
        if terms is None:
            return max([ready, *ends])
        lost = is_lost(row)
        if lost and terms.on_failure != "run":
            msg = "what it needs will not complete"
            raise _UnknownError(msg)
        if lost or terms.join in ("all", "finished"):
            return max([ready, *ends])
        if terms.join == "asked":
            msg = "its own join decides"
            raise _UnknownError(msg)
        missing = least(terms) - (len(links.parents) - links.waiting)
        return max([ready, *ends[:missing]])

    def _queue(self, row: TaskRow, short: set[str]) -> float:
        """Return the seconds until *row* would be next, if it joined the queue now."""
        alone = bool(short) and "slot" not in short
        work = self._work_before(row, alone=alone) if row.state is _S.QUEUED else 0.0
        if not short and not work:
            return 0.0
        workers = row.bucket.workers
        many = min(self._kernel.concurrency, sum(worker.limit for worker in workers))
        running = list(self._holders.rows())
        if alone:
            running = [other for other in running if other.worker in workers]
        if "resource" in short:
            many = min(many, self._fit(row, workers))
            running = [other for other in running if other.alloc]
        left: list[float] = []
        unknown: list[str] = []
        for other in running:
            if other.extra is None or not other.extra.yielded:
                try:
                    left.append(self._left(other))
                except _UnknownError as why:
                    unknown.append(str(why))
        if unknown and not left:
            raise _UnknownError(unknown[0])
        together = len(left) + len(unknown)
        note = "1 is running" if together == 1 else f"{together:,} are running"
        if unknown:
            # Tasks of unknown duration are not counted: the task may start earlier than
            # estimated.
            note += f", and of {len(unknown):,} of them nothing is known"
        self._notes.append(note)
        return _pour(left, work, max(1, many - len(unknown)))

    def _work_before(self, row: TaskRow, *, alone: bool) -> float:
        """Return the seconds of work before *row*: in its bucket, or of all tasks."""
        work, count = 0.0, 0
        buckets = [row.bucket]
        if not alone:
            buckets = [b for b in self._kernel.buckets.values() if b.size and b.workers]
        for bucket in buckets:
            head = bucket.head()
            before = ahead(bucket, row)
            if head is None or before == 0:
                continue
            if before is None:
                before = bucket.size
            if bucket is not row.bucket:
                # The other tasks of this bucket wait for their workers.
                before = min(before, sum(worker.limit for worker in bucket.workers))
            count += before
            work += before * self._mean(head)
        if count:
            tasks = "1 task comes" if count == 1 else f"{count:,} tasks come"
            self._notes.append(f"{tasks} before it")
        return work

    def _fit(self, row: TaskRow, workers: list[WorkerRow]) -> int:
        """Return how many tasks like *row* fit into pools or on its workers at once."""
        pools = self._kernel.pools
        fits = []
        for name, units in row.bucket.need:
            limits = [pools[name].total] if name in pools else []
            if all(name in worker.capacity for worker in workers):
                limits.append(sum(worker.capacity[name] for worker in workers))
            fits += [limit // units for limit in limits]
        return min(fits, default=1)

    def _mean(self, row: TaskRow) -> float:
        """Return the seconds that a task like *row* takes."""
        name = row.bucket.spec.type
        if name not in self._means:
            samples = row.bucket.type_row.samples
            if not samples:
                msg = f"no task of type {name} has completed yet"
                raise _UnknownError(msg)
            total = sum(ended - started for _, _, started, ended in samples)
            self._means[name] = (total / len(samples) / NS, len(samples))
        return self._means[name][0]


def _open_parents(row: TaskRow) -> list[TaskRow]:
    """Return the parents of *row* that have not completed, and still may."""
    parents = [] if row.links is None else row.links.parents
    terms = None if row.links is None else row.links.terms
    # Unless all parents must complete, broken ones are not expected to complete any
    # more.
    mends = terms is None or (terms.join == "all" and terms.on_failure != "run")
    return [
        parent
        for parent in dict.fromkeys(parents)
        if parent.state is not _S.COMPLETED
        and not is_forgiven(parent, row.links)
        and (mends or not is_broken(parent))
    ]


def _pour(left: list[float], work: float, many: int) -> float:
    """Return when the next task may start on *many* places.

    Busy places are free in *left* seconds; *work* seconds of other tasks come first and
    are shared out evenly.
    """
    levels = sorted(left)[:many]
    levels = [0.0] * (many - len(levels)) + levels
    level = levels[0]
    for number, above in enumerate(levels[1:], 1):
        room = (above - level) * number
        if work <= room:
            return level + work / number
        work -= room
        level = above
    return level + work / len(levels)
