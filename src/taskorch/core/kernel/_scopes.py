"""
Exclusive write paths: two tasks that may write one file do not run together.

A task declares the literal prefixes of the paths that it may write, each a folder or a
file with all below it. They are granular locks (J. N. Gray et al., *Granularity of
locks and degrees of consistency in a shared data base*, 1976): a start takes all of
each prefix, and with each a unit of every folder above. So two prefixes exclude each
other if one is the other or above it, and nothing else does. A task takes all of its
locks as it starts, or none, so they make no deadlock.

A lock is a pool of its own, and the units that an attempt holds include it. So it comes
back with all other units, however the attempt ends. A task waits at a lock as others do
at a pool.

A task with many paths would wait for ever while tasks with few paths keep coming. So
the first waiting task in order has the *turn*. A task that was submitted after the turn
began, or is less urgent, does not pass it if both may write the same path. As soon as
its locks are free, the next task has the turn. Some attempts keep their locks for an
unknown time. A task that waits for these gets no turn: it would delay the others, and
an attempt that waits for one of them would never end.

Decisions: scopes-and-sandboxes, start-decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from taskorch.core.kernel import _queue
from taskorch.core.kernel._rows import (
    SCOPE,
    UNLIMITED,
    Bucket,
    LockRow,
    PoolRow,
    Shortage,
    StartLimit,
    TaskRow,
)
from taskorch.core.kernel._state import MANY, KernelState
from taskorch.model import Units
from taskorch.model.scopes import above_of, lock_of


def locks_of(kernel: KernelState, bucket: Bucket) -> tuple[LockRow, ...]:
    """Return the locks that a start of a task of *bucket* takes whole."""
    if bucket.locks is None:
        bucket.locks = tuple(
            [_lock(kernel, lock_of(prefix)) for prefix in bucket.spec.writes]
        )
    return bucket.locks


def units_of(kernel: KernelState, bucket: Bucket) -> list[tuple[LockRow, int]]:
    """Return the needed locks and folders above them, each with the amount it needs."""
    locks = locks_of(kernel, bucket)
    above = dict.fromkeys([folder for lock in locks for folder in lock.above])
    return [(lock, UNLIMITED) for lock in locks] + [(folder, 1) for folder in above]


def held_in(kernel: KernelState, alloc: Units) -> Counter[str]:
    """Count what *alloc* has of each pool, and of the folders above its locks."""
    held = Counter(dict(alloc))
    for name, _ in alloc:
        lock = kernel.beside.get(name)
        if isinstance(lock, LockRow):
            held.update([folder.name for folder in lock.above])
    return held


def _lock(kernel: KernelState, path: str) -> LockRow:
    lock = kernel.beside.get(f"{SCOPE}{path}")
    if not isinstance(lock, LockRow):
        # The top folder comes first, so that each lock finds the folders above it.
        above = [_lock(kernel, folder) for folder in reversed(above_of(path))]
        lock = LockRow(path, tuple(above))
        kernel.beside[lock.name] = lock
    return lock


class Scopes(StartLimit):
    """Limit of starts by the paths that tasks may write."""

    def __init__(self) -> None:
        #: The number of hidden pools above which unused ones are dropped.
        self.most: int = MANY
        #: The task with the turn: it waits for locks, and no later task passes it.
        #: Checked: `check_scopes`.
        self.first: TaskRow | None = None
        #: The number of submissions when its turn began: earlier tasks may pass it.
        self.first_after: int = 0
        #: The place of tasks that wait for a turn; one unit is in use while a task has
        #: it. Checked: `check_scopes`.
        self.turn: PoolRow = PoolRow("turn", 1)
        #: The place of tasks whose locks are free, but that may not pass the `first`.
        #: Checked: `check_scopes`.
        self.passing: PoolRow = PoolRow("passing", 1)
        #: Attempts that hold locks and whose end is unknown: they wait for other tasks,
        #: are stopped in place, or did not stop. Checked: `check_scopes`.
        self.writers: dict[tuple[str, int], Bucket] = {}
        #: Buckets that get no turn, since one of these keeps them waiting.
        self.ineligible: dict[Bucket, None] = {}

    def concerns(self, bucket: Bucket) -> bool:
        return bucket.spec.writes != ()

    def must_wait(
        self,
        kernel: KernelState,
        bucket: Bucket,
        row: TaskRow,
        now: int,
    ) -> bool:
        if bucket.locks is None and len(kernel.beside) > self.most:
            self._forget_idle(kernel)
        place_at = _queue.place_at
        short = _queue.short_lock(locks_of(kernel, bucket))
        if short is not None:
            places = [place_at(bucket, *short)]
            if self.first is not row and not self._takes_turn(kernel, row):
                places.append(place_at(bucket, self.turn, 1))
        else:
            self.turns_away(kernel, row)
            if self.first is None or not self._comes_after(kernel, row, self.first):
                return False
            places = [place_at(bucket, self.passing, 1)]
        _queue.park(kernel, bucket, row, places)
        if bucket.workers_version < 0:
            kernel.parked_any[bucket] = None
        return True

    def shortages(
        self,
        kernel: KernelState,
        row: TaskRow,
        now: int,
    ) -> Iterator[Shortage]:
        """Yield the locks that others hold, or the task whose turn it is."""
        shorts = [
            Shortage("scope", lock.name, much, lock.total - lock.used, None, lock)
            for lock, much in units_of(kernel, row.bucket)
            if much > lock.total - lock.used
        ]
        yield from shorts
        first = self.first
        if not shorts and first is not None and self._comes_after(kernel, row, first):
            yield Shortage("turn", first.id)

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        locks = locks_of(kernel, row.bucket)
        return tuple([(lock.name, UNLIMITED) for lock in locks])

    def stays(self, kernel: KernelState, row: TaskRow, attempt: int) -> None:
        bucket, first = row.bucket, self.first
        self.writers[row.id, attempt] = bucket
        if first is not None and _exclude(kernel, first.bucket, bucket):
            self.turns_away(kernel, first)
            self.ineligible[first.bucket] = None

    def goes_on(self, kernel: KernelState, row: TaskRow, attempt: int) -> None:
        """Let the tasks that wait for the writer have a turn again."""
        if self.writers.pop((row.id, attempt), None) is not None:
            _queue.reopen_all(kernel, self.ineligible)

    def turns_away(self, kernel: KernelState, row: TaskRow) -> None:
        """Pass the turn on, if *row* had it."""
        if self.first is not row:
            return
        self.first = None
        self.turn.used = 0
        # All tasks that waited behind this one are looked at, whichever is next.
        passing, self.passing = self.passing, PoolRow("passing", 1)
        passing.used = 0
        _queue.wake_some(kernel, self.turn.short)
        _queue.wake_some(kernel, passing.short)

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        return all(
            much <= lock.total - taken.get(lock.name, 0)
            for lock, much in units_of(kernel, bucket)
        )

    def _takes_turn(self, kernel: KernelState, row: TaskRow) -> bool:
        """Give *row* the turn, or leave it to the next; return False if it is taken."""
        if self.first is not None:
            return False
        for writer in self.writers.values():
            if _exclude(kernel, row.bucket, writer):
                # It gets no turn, and leaves it to the next.
                self.ineligible[row.bucket] = None
                return True
        self.first, self.first_after = row, kernel.submissions
        self.turn.used = self.passing.used = 1
        return True

    def _comes_after(self, kernel: KernelState, row: TaskRow, first: TaskRow) -> bool:
        """Return whether *row* may not pass *first*, whose turn it is."""
        if (row.key, row.seq) < (first.key, first.seq):
            return False
        early = row.seq < self.first_after and _urgency(row) >= _urgency(first)
        return not early and _exclude(kernel, row.bucket, first.bucket)

    def _forget_idle(self, kernel: KernelState) -> None:
        """Drop the locks that nobody holds and no bucket refers to."""
        in_hand = {
            lock: None
            for bucket in kernel.buckets.values()
            for below in bucket.locks or ()
            for lock in (below, *below.above)
        }
        kernel.beside = {
            name: pool
            for name, pool in kernel.beside.items()
            if pool.used or not isinstance(pool, LockRow) or pool in in_hand
        }
        self.most = MANY + 2 * len(kernel.beside)


def _urgency(row: TaskRow) -> int:
    return 0 if row.extra is None else row.extra.priority


def _exclude(kernel: KernelState, one: Bucket, other: Bucket) -> bool:
    """Return whether tasks of the two buckets may write the same path."""
    others = locks_of(kernel, other)
    return any(
        lock is its or lock in its.above or its in lock.above
        for lock in locks_of(kernel, one)
        for its in others
    )
