"""
Waits: for a task, for quiet, and inside a task.

A task that waits for another gives its slot back meanwhile, never its resources, so
nested work cannot fill all slots with waits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from taskorch.core.engine._asyncio import asyncio, asyncio_loop, resolve_on
from taskorch.core.engine._context import (
    CURRENT,
    LOCAL,
    AttemptContext,
    current_or_none,
)
from taskorch.core.engine._loops import Latch, seconds_until, wait_for_lock
from taskorch.core.engine._work import (
    NOTHING_USED,
    RERUN_FAILED,
    Work,
    failed_earlier,
    first_error,
    note_used,
    task_of,
    why_unresolvable,
)
from taskorch.core.kernel import (
    TaskRow,
    awaits,
    held_in,
    is_delayed,
    is_under_way,
    wanted,
    would_fit,
)
from taskorch.errors import (
    AttemptInterrupted,
    DependencyFailedError,
    WouldBlockError,
    WouldDeadlockError,
)
from taskorch.events import ResultsUsed
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.limits import NS
from taskorch.kit.words import moment
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime
    from taskorch.core.kernel import Kernel, WorkerRow
    from taskorch.model import Units

_log = log_of(__name__)

_BLOCKED: Final = TaskState.BLOCKED
#: The reason why a wait may be for ever.
UNSTARTED: Final = (
    "the orchestrator has not been started: call orch.start(), or enter `with orch:`"
)
#: The most results that one event names as asked for.
_MANY: Final = 500
#: Seconds after which that is logged: another thread may be about to start it.
_MOMENT: Final = 1.0


class Meeting(Protocol):
    """Protocol: a wait of several attempts for each other."""

    def missing(self) -> tuple[int, Iterable[TaskRow]]:
        """Return how many must come, and who may; the lock is held."""
        ...

    def words(self) -> str:
        """Return a sentence for an explanation; the lock is held."""
        ...


#: The targets of a wait, of which any ends it; none for a time.
Targets: TypeAlias = tuple[TaskRow, ...] | Meeting


def some_of(targets: Targets) -> tuple[int, Iterable[TaskRow]]:
    """Return how many of which tasks end a wait for *targets*; hold the lock."""
    if isinstance(targets, tuple):
        return min(1, len(targets)), targets
    return targets.missing()


class _Foreign(tuple[TaskRow, ...]):
    """Tasks of other orchestrators: whether they can end is not known here."""

    __slots__ = ()


_FOREIGN: Final = _Foreign()


def is_settled(row: TaskRow) -> bool:
    """Return whether callers that wait for *row* get an answer: an end or a block."""
    state = row.state
    if state is _BLOCKED:
        return row.extra is not None and bool(row.extra.blocked_by)
    return state in TERMINAL


def _earlier(row: TaskRow, roots: Sequence[str]) -> str | None:
    """Return the hint if one of *roots* failed in an earlier incarnation."""
    tasks = row.cargo._rt.kernel.tasks
    for root in roots:
        found = tasks.get(root)
        if (
            found is not None
            and found.cargo is not None
            and failed_earlier(found.cargo)
        ):
            again = f"orch.rerun_task({stem_of(root)!r}) runs again what failed"
            when = f"in an earlier incarnation, on {moment(found.ended_ns // NS)}"
            return f"{again} {when}; so does {RERUN_FAILED}"
    return None


def unresolvable_root(work: Work) -> TaskRow | None:
    """
    Return the task at or above *work* whose function is unresolvable; or None.

    Hold the lock, unless the task's dependencies cannot change. Only a journal with
    such a task is searched.
    """
    if not getattr(work._rt, "lost", None):
        return None
    todo, seen = [work._row], {work._row.id}
    while todo:
        row = todo.pop()
        if row.state in TERMINAL or row.state is TaskState.RUNNING:
            continue
        if awaits(row):
            # An event from outside ends such a wait.
            continue
        terms = None if row.links is None else row.links.terms
        calls = terms is None or terms.wait is None
        if calls and row.cargo is not None and why_unresolvable(row.cargo):
            return row
        for parent in _needed(row):
            if parent.id not in seen:
                seen.add(parent.id)
                todo.append(parent)
    return None


def is_hopeless(work: Work) -> bool:
    """Return whether *work* is settled, or waits for an unresolvable function."""
    return is_settled(work._row) or unresolvable_root(work) is not None


def blockade(row: TaskRow) -> DependencyFailedError:
    """Return the error of a task that is blocked by what it needs."""
    extra = row.extra
    root = None if is_settled(row) else unresolvable_root(row.cargo)
    if root is not None:
        after = "" if root is row else f"needs {root.id}, which "
        msg = f"task {row.id} {after}cannot run: {why_unresolvable(root.cargo)}"
        above = () if root is row else (root.id,)
        hint = (
            "it goes on in the first incarnation that finds it; or orch.decide("
            f"{stem_of(root.id)!r}, 'complete' | 'fail')"
        )
        return DependencyFailedError(msg, root_causes=above, hint=hint, task_id=row.id)
    by = () if extra is None else tuple(extra.blocked_by)
    roots = () if extra is None else extra.roots
    msg = f"task {row.id} is blocked: {', '.join(by)} did not complete"
    error = DependencyFailedError(
        msg, root_causes=roots, hint=_earlier(row, roots), task_id=row.id
    )
    error.__cause__ = first_error(row.cargo, roots)
    return error


class Waiting:
    """The waits of threads and coroutines for tasks, slots and quiet."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        #: Functions to call once nothing can proceed any more; under the lock.
        self.quiet: list[Callable[[], object]] = []
        #: Whether the stop is in a hurry, so that waits for quiet end.
        self.hurried: bool = False
        #: Functions that wake the attempts that wait inside a task: `(id, attempt)`.
        self._inside: dict[tuple[str, int], list[Callable[[], object]]] = {}
        #: The waits that one attempt is in: each is for any of a few tasks.
        self._waits: dict[tuple[str, int], list[Targets]] = {}
        #: The attempts that sleep, `(id, attempt)`, and until when, in ns.
        self._sleeps: dict[tuple[str, int, int], None] = {}
        #: The waiting attempts that hold resources.
        self._holders: set[tuple[str, int]] = set()
        #: Futures that their loop resolves together, while many waiters are woken.
        self._together: dict[asyncio.AbstractEventLoop, list[Any]] | None = None
        #: Functions to call when an attempt has its slot again.
        self._returns: dict[tuple[str, int], Callable[[], object]] = {}

    # -- for a task ----------------------------------------------------------------

    @defers_interrupts
    def add(self, work: Work, waiter: Callable[[], object]) -> bool:
        """
        Call *waiter* when *work* is settled; return False if it is already.

        The caller has refused policies before, which would wait within a step.
        """
        with self._rt.lock:
            if self.is_told(work):
                return False
            if work._waiters is None:
                work._waiters = []
            work._waiters.append(waiter)
            if self._rt.committer is not None and is_settled(work._row):
                # Its end is on its way to the journal, without haste.
                self._rt.committer.poke()
            return True

    @defers_interrupts
    def when(
        self,
        work: Work,
        is_so: Callable[[Work], bool],
        tell: Callable[[], object],
    ) -> Callable[[], object]:
        """
        Call *tell* once *is_so* holds of *work*, under the lock; perhaps at once.

        A task that is blocked, on hold for a decision or unblocked wakes its waiters
        without having ended: this one then waits on.

        Returns:
            The waiter, for `remove`.
        """
        watch = _Watch(work, is_so, tell)
        self._rt.deciders.refuse_reentry()
        with self._rt.lock:
            watch()
        return watch

    @defers_interrupts
    def remove(self, work: Work, waiter: Callable[[], object]) -> None:
        """Remove *waiter* from those called at the end of *work*."""
        with self._rt.lock:
            if work._waiters is not None and waiter in work._waiters:
                work._waiters.remove(waiter)

    def abandon(self, work: Work, waiter: Callable[[], object]) -> None:
        """
        Remove *waiter* without the lock; one more call of it may come.

        The garbage collector closes an unfinished generator anywhere, even under the
        lock.
        """
        waiters = work._waiters
        if waiters is not None:
            with suppress(ValueError):
                waiters.remove(waiter)

    def wait(self, work: Work, timeout: float | None) -> bool:
        """
        Block until *work* is settled; return whether it is.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: It could never be.
            AttemptInterrupted: The caller is an attempt that is to stop.
        """
        rt = self._rt
        rt.deciders.refuse_reentry()
        row = work._row
        if row.state in TERMINAL and work._visible_after <= rt.committed:
            # This is quick, without the lock: for most tasks only the end matters.
            return True
        inside = self._inside_of()
        is_mine = rt.loops.is_mine()
        if inside is None and not is_mine:
            return self._block(work, timeout)
        if self.is_told(work):
            return True
        if is_mine or inside is None:
            msg = f"result() of task {row.id} would block the event loop"
            raise WouldBlockError(msg, task_id=row.id)
        latch = Latch()
        with self.holding(inside, (row,), latch.set):
            return self._block_inside(inside, work, latch, timeout)

    def is_from_within(self) -> bool:
        """Return whether the caller is a task of ours, or on the loop of coroutines."""
        return self._inside_of() is not None or self._rt.loops.is_mine()

    def _inside_of(self) -> AttemptContext | None:
        """Return the context of the task of ours that the caller is part of."""
        if LOCAL.worker is None and CURRENT.get() is None:
            # Mostly the program waits, and no task.
            return None
        inside = current_or_none()
        if inside is None or inside._rt is not self._rt:
            return None
        row = inside._row
        runs = row.attempt == inside.attempt and row.state is TaskState.RUNNING
        # Code that an attempt has left running still has its context variables.
        return inside if runs or inside.cancelled else None

    def _block(self, work: Work, timeout: float | None) -> bool:
        latch = threading.Lock()
        latch.acquire()
        row, rt = work._row, self._rt
        end = None if timeout is None else monotonic() + timeout
        while self.add(work, latch.release):
            if not self._wait_for_lock(latch, end):
                self.remove(work, latch.release)
                return self.is_told(work)
            if row.state in TERMINAL and work._visible_after <= rt.committed:
                # The reason is that of `wait`. `add` asks again about blockades.
                break
        return True

    def _wait_for_lock(self, latch: Any, end: float | None) -> bool:
        """Wait for *latch*; log if the orchestrator was not started."""
        if self._rt.started:
            return wait_for_lock(latch, end)
        soon = monotonic() + _MOMENT
        if end is None or soon < end:
            if wait_for_lock(latch, soon):
                return True
            self._say_unstarted()
        return wait_for_lock(latch, end)

    def _say_unstarted(self) -> None:
        if not self._rt.started:
            _log.warning("taskorch: somebody waits for a task, but %s", UNSTARTED)

    def is_told(self, work: Work) -> bool:
        """Return whether callers that wait for *work* need wait no more."""
        rt = self._rt
        if work._visible_after <= rt.committed and is_settled(work._row):
            return True
        if rt.halted:
            return True
        # Asked here first, since there is hardly ever one, and each wait asks twice.
        return bool(rt.lost.rows) and unresolvable_root(work) is not None

    def _block_inside(
        self,
        inside: AttemptContext,
        work: Work,
        latch: Latch,
        timeout: float | None,
    ) -> bool:
        end = None if timeout is None else monotonic() + timeout
        try:
            while self.add(work, latch.set):
                if inside.cancelled:
                    raise AttemptInterrupted(inside._control.why)
                if not latch.wait(seconds_until(end)):
                    return self.is_told(work)
        finally:
            self.remove(work, latch.set)
        return True

    def until(self, latch: Latch, works: Sequence[Work], timeout: float | None) -> bool:
        """
        Block until *latch* is set, which any of *works* does; return whether it is.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: None of them could ever do it.
            AttemptInterrupted: The caller is an attempt that is to stop.
        """
        rt = self._rt
        rt.deciders.refuse_reentry()
        end = None if timeout is None else monotonic() + timeout
        if rt.loops.is_mine() and not latch.is_set():
            msg = "as_completed() would block the event loop"
            raise WouldBlockError(msg, hint="use asyncio.as_completed")
        inside = self._inside_of()
        if inside is None or latch.is_set():
            return latch.wait(seconds_until(end))
        foreign = any(work._rt is not rt for work in works)
        targets = _FOREIGN if foreign else tuple(work._row for work in works)
        woken = False
        with self.holding(inside, targets, latch.set):
            if not inside.cancelled:
                woken = latch.wait(seconds_until(end))
        if inside.cancelled:
            raise AttemptInterrupted(inside._control.why)
        return woken

    # -- inside a task -------------------------------------------------------------

    def used(self, works: Sequence[Work]) -> None:
        """Note, if the caller is a task, that it has asked for results of *works*."""
        inside = self._inside_of()
        # A policy may look at results without being noted.
        if inside and self._rt.deciders.asking != threading.get_ident():
            self.note_used(inside, works)

    @defers_interrupts
    def note_used(self, inside: AttemptContext, works: Sequence[Work]) -> None:
        """Note that the attempt of *inside* has asked for the results of *works*."""
        work, row = inside._work, inside._row
        known = NOTHING_USED if work._extra is None else work._extra.used
        ids = [w._row.id for w in works if w._row.id not in known]
        kernel, number = self._rt.kernel, inside.attempt

        def change(part: Sequence[str], now: int) -> None:
            if row.attempt == number and row.state is TaskState.RUNNING:
                fresh = note_used(work, part)
                kernel.note(ResultsUsed, now, row.id, number, fresh, cargo=work)

        for start in range(0, len(ids), _MANY):
            self._rt.step(partial(change, ids[start : start + _MANY]))

    @defers_interrupts
    def enter(self, inside: AttemptContext, targets: Targets) -> None:
        """
        Begin a wait of the attempt of *inside* for any of *targets*.

        Raises:
            WouldDeadlockError: None of them can ever end.
        """
        row = inside._row
        key = (row.id, inside.attempt)
        kernel = self._rt.kernel

        def change(now: int) -> None:
            waits = self._waits.setdefault(key, [])
            waits.append(targets)
            if row.alloc or _room_of(row)[1]:
                self._holders.add(key)
            # The parties of a meeting are counted once they have come: see `left`.
            if isinstance(targets, tuple) and (holders := self._deadlock(row)):
                in_ring = self._in_ring(row)
                self._end_wait(key, targets)
                raise _would_deadlock(row, targets, holders, in_ring=in_ring)
            if len(waits) == 1 and not kernel.yield_slot(row, inside.attempt, now):
                self._call_off_return(row, key)
                self._unjam(row)

        self._rt.step(change)

    def _call_off_return(self, row: TaskRow, key: tuple[str, int]) -> None:
        """
        Let the attempt go on without the slot that it waits for; hold the lock.

        One of its branches has ended its wait, and another has begun one: with the
        slot, that one would keep others from what it waits for.
        """
        returned = self._returns.pop(key, None)
        if returned is not None:
            self._rt.kernel.forgo_slot(row)
            returned()

    def _unjam(self, row: TaskRow) -> None:
        """
        Let an attempt go on without a slot if all threads of its executor wait.

        The slot may be of one that waits for a thread. Hold the lock.
        """
        own, room = _room_of(row)
        if not room:
            return
        tasks = self._rt.kernel.tasks
        held = [
            key
            for key in {**self._returns, **self._waits}
            if self._is_under_way(key) and _room_of(tasks[key[0]])[0] is own
        ]
        # Those that wait for slots come first.
        if len(held) >= room and held[0] in self._returns:
            self._call_off_return(tasks[held[0][0]], held[0])

    @contextmanager
    def holding(
        self, inside: AttemptContext, targets: Targets, wake: Callable[[], object]
    ) -> Iterator[None]:
        """
        Wait on this thread for any of *targets*; *wake* ends it if it is to stop.

        Raises:
            WouldDeadlockError: None of them can ever end.
        """
        self.enter(inside, targets)
        self.note(inside, wake)
        key = (inside.task_id, inside.attempt)
        try:
            yield
        finally:
            self._forget(key, wake)
            latch = threading.Event()
            if not self.leave(inside, targets, latch.set):
                latch.wait()

    def note(self, inside: AttemptContext, wake: Callable[[], object]) -> None:
        """Call *wake* if the attempt, which waits, is to stop."""
        key = (inside.task_id, inside.attempt)
        with self._rt.lock:
            self._inside.setdefault(key, []).append(wake)

    def forget(
        self, inside: AttemptContext, targets: Targets, wake: Callable[[], object]
    ) -> None:
        """End a wait together with its attempt, which needs no slot any more."""
        key = (inside.task_id, inside.attempt)
        self._forget(key, wake)
        with self._rt.lock:
            self._end_wait(key, targets)

    @defers_interrupts
    def leave(
        self, inside: AttemptContext, targets: Targets, returned: Callable[[], object]
    ) -> bool:
        """
        End a wait; return whether the attempt goes on at once.

        If not, *returned* is called when it has its slot again.
        """
        row = inside._row
        key = (row.id, inside.attempt)

        def change(now: int) -> bool:
            if not self._end_wait(key, targets):
                return True
            if inside.cancelled or self._rt.fault is not None:
                # It is to end, and needs no slot for that; or there will be no more
                # slots.
                return True
            if self._rt.kernel.reclaim_slot(row, inside.attempt, now):
                return True
            self._returns[key] = returned
            self._unjam(row)
            return False

        result: bool = self._rt.step(change)
        return result

    def waits_of(self, row: TaskRow) -> Sequence[Targets]:
        """Return the waits that the attempt of *row* is in."""
        return self._waits.get((row.id, row.attempt), ())

    def sleeps(self, inside: AttemptContext, until_ns: int, *, is_over: bool) -> None:
        """Note that a sleep of the attempt begins, or is over."""
        sleep = inside.task_id, inside.attempt, until_ns
        with self._rt.lock:
            if is_over:
                self._sleeps.pop(sleep, None)
            else:
                self._sleeps[sleep] = None

    def sleeping(self, now: int) -> dict[str, int]:
        """
        Return how long running tasks still sleep inside, in ns; hold the lock.

        One with several sleeps is taken to wait for all of them, and one that waits for
        tasks, too, for these.
        """
        rests: dict[str, int] = {}
        for task_id, attempt, until_ns in [*self._sleeps]:
            row = self._rt.kernel.tasks.get(task_id)
            is_latest = row is not None and row.attempt == attempt
            if row is None or not is_latest or row.state is not TaskState.RUNNING:
                # A worker process has died meanwhile.
                del self._sleeps[task_id, attempt, until_ns]
            elif not any(self._waits.get((task_id, attempt), ())):
                rests[task_id] = max(1, until_ns - now, rests.get(task_id, 0))
        return rests

    def _end_wait(self, key: tuple[str, int], targets: Targets) -> bool:
        """End a wait; return whether it was the attempt's last; hold the lock."""
        waits = self._waits[key]
        waits.remove(targets)
        if waits:
            return False
        del self._waits[key]
        self._holders.discard(key)
        return True

    def returned(self, row: TaskRow, attempt: int) -> None:
        """Let an attempt go on that has its slot again, or needs none."""
        returned = self._returns.pop((row.id, attempt), None)
        if returned is not None:
            returned()

    def return_all(self) -> None:
        """End all waits for slots, as no attempt will get one; hold the lock."""
        returns, self._returns = self._returns, {}
        for returned in returns.values():
            returned()

    def interrupt(self, row: TaskRow, attempt: int) -> None:
        """End the waits of an attempt that is to stop."""
        with self._rt.lock:
            wakes = list(self._inside.get((row.id, attempt), ()))
        for wake in wakes:
            wake()
        self.returned(row, attempt)

    def _forget(self, key: tuple[str, int], wake: Callable[[], object]) -> None:
        with self._rt.lock:
            wakes = self._inside[key]
            wakes.remove(wake)
            if not wakes:
                del self._inside[key]

    # -- deadlocks -----------------------------------------------------------------

    def _deadlock(self, row: TaskRow) -> tuple[str, ...]:
        """Return names of tasks that keep the waits of *row* from ending, if any."""
        if not self._holders and not self._in_ring(row):
            return ()
        waiting = self.left(row.id)
        return holders_of(waiting.values()) if row.id in waiting else ()

    def left(self, sought: str = "") -> dict[str, tuple[TaskRow, list[Targets]]]:
        """
        Return the attempts that wait for ever, the latest first; hold the lock.

        As in Dijkstra's banker's algorithm: let every task that does not wait end,
        and then, one after another, every waiting task with targets that fit into
        the free resources; tasks that are left at the end wait for ever. The search
        ends early if the task *sought* does not.
        """
        kernel = self._rt.kernel
        waiting: dict[str, tuple[TaskRow, list[Targets]]] = {}
        # The latest wait comes first: the earlier ones mostly wait for its task.
        for (task_id, attempt), waits in reversed(self._waits.items()):
            found = kernel.tasks.get(task_id)
            if found and found.attempt == attempt and is_under_way(found):
                waiting[task_id] = (found, waits)
        free = _Free(kernel)
        for found, _ in waiting.values():
            free.take(found)
        progress = True
        while progress:
            progress = False
            for name, (found, waits) in list(waiting.items()):
                if all(self._can_end(targets, free, waiting) for targets in waits):
                    del waiting[name]
                    if name == sought:
                        return waiting
                    free.give_back(found)
                    progress = True
        return waiting

    def _in_ring(self, row: TaskRow) -> bool:
        """Return whether *row* waits, however indirectly, for itself."""
        todo, seen = [row], {row.id}
        while todo:
            found = todo.pop()
            waits = self.waits_of(found)
            below = [target for each in waits for target in some_of(each)[1]]
            below += _needed(found)
            for target in below:
                if target is row:
                    return True
                if target.id not in seen and not is_settled(target):
                    seen.add(target.id)
                    todo.append(target)
        return False

    def _can_end(
        self,
        targets: Targets,
        free: _Free,
        waiting: dict[str, tuple[TaskRow, list[Targets]]],
    ) -> bool:
        """Return whether enough of *targets* can run with no more than *free*."""
        least, rows = some_of(targets)
        able = (row for row in rows if self._can_run(row, free, waiting))
        return len(list(islice(able, least))) == least

    def _can_run(
        self,
        target: TaskRow,
        free: _Free,
        waiting: dict[str, tuple[TaskRow, list[Targets]]],
    ) -> bool:
        todo, seen = [target], {target.id}
        while todo:
            row = todo.pop()
            if is_settled(row) or awaits(row):
                continue
            if row.id in waiting:
                return False
            if not free.has_thread(row):
                return False
            if row.state is not TaskState.RUNNING and not free.holds(row):
                return False
            for parent in _needed(row):
                if parent.id not in seen:
                    seen.add(parent.id)
                    todo.append(parent)
        return True

    # -- in a coroutine ------------------------------------------------------------

    async def wait_async(self, work: Work) -> None:
        """Wait on the running loop until *work* is settled."""
        if self.is_told(work):
            return
        inside = self._inside_of()
        if inside is None:
            await self.until_settled(work)
            return
        targets = (work._row,)
        self.enter(inside, targets)
        try:
            await self.until_settled(work)
        finally:
            await self.leave_async(inside, targets)

    async def until_settled(self, work: Work) -> None:
        """Wait in a coroutine until *work* has ended, or cannot go on."""
        self._rt.deciders.refuse_reentry()
        loop = asyncio_loop(f"task {work._row.id}")
        if not self._rt.started:
            loop.call_later(_MOMENT, self._say_unstarted)
        while True:
            future: asyncio.Future[None] = loop.create_future()

            def wake(future: asyncio.Future[None] = future) -> None:
                if self._together is None:
                    resolve_on(loop, [future])
                else:
                    self._together.setdefault(loop, []).append(future)

            if not self.add(work, wake):
                return
            try:
                await future
            finally:
                self.remove(work, wake)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell each loop once of all that is woken in the block; hold the lock."""
        self._together = {}
        try:
            yield
        finally:
            woken, self._together = self._together, None
            for loop, futures in woken.items():
                resolve_on(loop, futures)

    async def leave_async(self, inside: AttemptContext, targets: Targets) -> None:
        """Do as `leave` in a coroutine, and wait until there is a slot again."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self.leave(inside, targets, lambda: resolve_on(loop, [future])):
            return
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                # It goes on without a slot only if it is to end.
                cancelled = error
                if inside.cancelled:
                    break
        if cancelled is not None:
            raise cancelled

    # -- for quiet -----------------------------------------------------------------

    def are_at_rest(self) -> bool:
        """
        Return whether nothing runs, and the journal has all waits; hold the lock.

        Attempts wait for tasks, or at steps; tasks wait for an event or for people. A
        task that waits for its own time is not at rest, unless it polls.
        """
        kernel = self._rt.kernel
        resting = sum(
            self._is_under_way(key)
            for key, waits in self._waits.items()
            if not any(each is _FOREIGN for each in waits)
        )
        if resting < kernel.active or any(limit.is_timed for limit in kernel.limits):
            return False
        return not kernel.delayed or not any(
            is_delayed(row)
            and not awaits(row)
            and task_of(row).retry.retry_if_result is None
            for row in kernel.tasks.values()
        )

    def _is_under_way(self, key: tuple[str, int]) -> bool:
        row = self._rt.kernel.tasks.get(key[0])
        return (
            row is not None and row.attempt == key[1] and row.state is TaskState.RUNNING
        )

    def say_quiet(self) -> None:
        """Wake those who wait until nothing can proceed; hold the lock."""
        quiet, self.quiet = self.quiet, []
        for wake in quiet:
            wake()

    @defers_interrupts
    def forget_quiet(self, wake: Callable[[], object]) -> None:
        """Remove *wake* from those called when the orchestrator is quiet."""
        with self._rt.lock:
            if wake in self.quiet:
                self.quiet.remove(wake)

    def until_quiet(self, timeout: float | None) -> bool:
        """
        Block until nothing can proceed and listeners have had all events.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        rt = self._rt
        self.refuse_within("wait()")
        end = None if timeout is None else monotonic() + timeout
        while True:
            latch = Latch()
            with rt.lock:
                # This is checked under the lock: `hurry` wakes only those that it
                # finds.
                if self.hurried:
                    return False
                calm = rt.is_quiet()
                if not calm:
                    self.quiet.append(latch.set)
            if not calm:
                try:
                    if not latch.wait(seconds_until(end)):
                        return False
                finally:
                    self.forget_quiet(latch.set)
                continue
            if not rt.publisher.flush(seconds_until(end)):
                return False
            # Both at one instant: a task that a listener submitted may have ended
            # meanwhile, with an event to publish.
            with rt.publisher.excused(), rt.lock:
                if rt.is_quiet() and rt.publisher.is_served():
                    return True

    def refuse_within(self, what: str) -> None:
        """
        Refuse to wait for all work in a place where some of it would never end.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        rt = self._rt
        rt.deciders.refuse_reentry()
        inside = self._inside_of()
        if inside is not None:
            msg = f"{what} inside the task {inside.task_id} would wait for that task"
            raise WouldDeadlockError(
                msg,
                holders=(inside.task_id,),
                hint="call it from outside, or from a receiver of a signal",
                task_id=inside.task_id,
            )
        if rt.loops.is_mine():
            name = what.partition("(")[0]
            msg = f"{what} would block the event loop"
            raise WouldBlockError(msg, hint=f"use await orch.aio.{name}()")

    @defers_interrupts
    def hurry(self) -> None:
        """End all waits for quiet."""
        with self._rt.lock:
            self.hurried = True
            self.say_quiet()
            self._rt.publisher.hurry()


class _Watch:
    """
    A waiter that waits on until its condition holds.

    It is no function, which would have to refer to itself in order to wait on: only
    the garbage collector would ever free such a cycle.
    """

    __slots__ = ("_is_so", "_tell", "_work")

    def __init__(
        self, work: Work, is_so: Callable[[Work], bool], tell: Callable[[], object]
    ) -> None:
        self._work = work
        self._is_so = is_so
        self._tell = tell

    def __call__(self) -> None:
        """Call the waiter if its condition holds, or wait on; hold the lock."""
        work = self._work
        rt = work._rt
        told = (
            rt.halted or work._visible_after <= rt.committed or unresolvable_root(work)
        )
        if told and self._is_so(work):
            self._tell()
        else:
            if work._waiters is None:
                work._waiters = []
            work._waiters.append(self)


class _Free:
    """Free resources, while the waiting tasks keep what they hold."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        #: The free units, by resource, and by worker and resource.
        self._left: dict[str | tuple[str, str], int] = {
            name: pool.total for name, pool in kernel.pools.items()
        }
        for worker in kernel.workers.values():
            for name, units in worker.capacity.items():
                self._left[worker.name, name] = units
        #: The units that waiting tasks hold, by name: there are too many locks to list,
        #: and the rest of a budget changes with spending.
        self._taken: Counter[str] = Counter()
        #: The threads of each executor on which waiting tasks are.
        self._threads: Counter[object] = Counter()

    def _places(self, row: TaskRow) -> Iterator[tuple[str | tuple[str, str], int]]:
        for name, units in row.alloc:
            yield name, units
            if row.worker is not None:
                yield (row.worker.name, name), units

    def take(self, row: TaskRow) -> None:
        """Subtract the resources that *row* holds and keeps."""
        self._taken.update(held_in(self._kernel, row.alloc))
        self._threads[_room_of(row)[0]] += 1
        for place, units in self._places(row):
            if place in self._left:
                self._left[place] -= units

    def give_back(self, row: TaskRow) -> None:
        """Add the resources that *row* held, as if the task had ended."""
        self._taken.subtract(held_in(self._kernel, row.alloc))
        self._threads[_room_of(row)[0]] -= 1
        for place, units in self._places(row):
            if place in self._left:
                self._left[place] += units

    def has_thread(self, row: TaskRow) -> bool:
        """Return whether *row* has, or may get, a thread that no other waits on."""
        workers: Sequence[WorkerRow | None] = row.bucket.workers or [None]
        places = [_room_of(row, worker) for worker in workers]
        return any(not room or self._threads[own] < room for own, room in places)

    def holds(self, row: TaskRow) -> bool:
        """Return whether some worker could run *row* with the free resources."""
        bucket = row.bucket
        for limit in bucket.limits:
            if not limit.leaves(self._kernel, bucket, self._taken):
                return False
        workers = bucket.workers
        if 0 <= bucket.workers_version != self._kernel.workers_version:
            # A worker that has joined since may be able to.
            workers = list(self._kernel.workers.values())
        return not workers or any(
            self._leaves(worker, wanted(bucket, worker)) for worker in workers
        )

    def _leaves(self, worker: WorkerRow, need: Units) -> bool:
        """Return whether *worker* has *need* free: the amounts, and named units."""
        left = self._left
        return would_fit(self._kernel, worker, need, self._taken) and all(
            units <= left.get(name, units)
            and units <= left.get((worker.name, name), units)
            for name, units in need
        )


def _needed(row: TaskRow) -> Sequence[TaskRow]:
    """Return tasks that must end before *row* can go on; none if only some need to."""
    links = row.links
    if links is None:
        return ()
    terms = links.terms
    if terms is None:
        return links.parents
    is_of_all = terms.join in ("all", "finished") and not terms.joined
    return links.parents if is_of_all else ()


def _room_of(row: TaskRow, worker: WorkerRow | None = None) -> tuple[object, int]:
    """Return the executor of *row*, perhaps on *worker*, and its room; 0: any."""
    work = row.cargo
    executor = work._rt.attempts.executor_of(row, work, worker)
    return executor, getattr(executor, "room", 0)


def holders_of(waiting: Iterable[tuple[TaskRow, object]]) -> tuple[str, ...]:
    """Return the tasks in *waiting* that hold resources, or else all of them."""
    rows = [row for row, _ in waiting]
    return tuple([row.id for row in rows if row.alloc] or [row.id for row in rows])


def _would_deadlock(
    row: TaskRow, targets: Sequence[TaskRow], holders: tuple[str, ...], *, in_ring: bool
) -> WouldDeadlockError:
    names = ", ".join(target.id for target in targets)
    hint = None
    if holders == (row.id,) and row in targets:
        msg = f"task {row.id} waits for itself, and would never end"
        hint = "return what it has; whoever needs that waits for the task from outside"
    elif in_ring:
        which = "which waits" if len(targets) == 1 else "one of which waits"
        msg = (
            f"task {row.id} waits for {names}, {which} for {row.id} in its turn, "
            "directly or through others: none of them would ever end"
        )
        hint = "let one of them end without the result of the other"
    else:
        msg = (
            f"task {row.id} waits for {names}, which cannot end before "
            f"{', '.join(holders)} lets go of what it holds"
        )
    return WouldDeadlockError(msg, holders=holders, hint=hint, task_id=row.id)
