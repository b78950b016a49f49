"""A small world: one state of it, what can happen next, and which states are alike."""

from __future__ import annotations

import pickle  # What is loaded here was dumped here.
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from io import BytesIO
from random import Random
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs
from tests.core.kernel.commands import (
    CancelTask,
    Command,
    EndAttempt,
    SubmitTask,
    handle,
)
from tests.worlds.simulation.audit import (
    ALL,
    CUT,
    DOWN,
    FAR,
    NEAR,
    ONE,
    OUTCOMES,
    POOL,
    TASK,
    UP,
    Action,
    Audit,
    Fence,
    S,
    hold,
    law,
    law_of_charges,
)

from taskorch.core.kernel import (
    Again,
    Kernel,
    KernelConfig,
    Spec,
    StopAttempt,
    TaskRow,
    WorkerRow,
    check_invariants,
    differences,
    fold,
    recover,
)
from taskorch.core.kernel._queue import EXPIRE, LEASE, is_alive
from taskorch.events import (
    Event,
    LateResultIgnored,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
)
from taskorch.model import TERMINAL, Agent, TaskState, Units


@attrs.frozen
class Scope:
    """
    What there is, and how often the world may do what on one path.

    Times are whole nanoseconds, and best small: it is their order that matters.
    """

    #: Of each task, the numbers (from 1) of those that must complete before it.
    after: tuple[tuple[int, ...], ...] = ((), ())
    #: Of what each task needs 1; None: they need nothing.
    room: int | None = 1
    #: Failures that count before a task has failed.
    attempts: int = 2
    delay_ns: int = 0
    lease_ns: int = 4
    grace_ns: int = 2
    timeout_ns: int | None = None
    max_age_ns: int | None = None
    #: Crashes of the orchestrator. With one, events are kept only by a commit.
    crashes: int = 0
    cancels: int = 0
    #: How often a local worker dies, or a remote one goes down or is cut off.
    deaths: int = 0
    #: How often a report comes twice.
    doubles: int = 0


class Rules:
    """The policies: plain ones, which keep nothing."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.aging_ns: int | None = 0
        self.admits_all: bool = True
        self.watches: frozenset[tuple[TaskState | None, TaskState]] | None = frozenset()
        self.rigid: bool = True
        self.ranks = self.backfills = self.learns = False
        self.max_age_ns: int | None = scope.max_age_ns

    def match(
        self, row: TaskRow, workers: Sequence[WorkerRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """Everybody can do everything."""
        del row, now
        return tuple(worker.name for worker in workers), "", True

    def route(
        self, row: TaskRow, candidates: Sequence[WorkerRow], now: int
    ) -> tuple[WorkerRow, str, bool]:
        """The one elsewhere is the more interesting."""
        del row, now
        return candidates[-1], "", True

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        """Not asked: `aging_ns` is the whole rule."""
        raise NotImplementedError

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        """Not asked: everything is admitted."""
        raise NotImplementedError

    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        """Not asked: nothing is watched."""
        raise NotImplementedError

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """Up to so many attempts."""
        del error, cause, elapsed_ns, now
        charged = 1 + (0 if row.extra is None else row.extra.charged)
        return Again(charged < self.scope.attempts, self.scope.delay_ns)

    def changed(self, row: TaskRow, answer: Again) -> None:
        """Not told: nothing is changed."""
        raise NotImplementedError

    def allocate(
        self, row: TaskRow, worker: WorkerRow, request: Units, now: int
    ) -> tuple[Units | None, str, bool]:
        """All of it: a rigid allocator is asked only about what fits."""
        del row, worker, now
        return request, "", True


#: Classes of which all instances are values here, which copies of a state may share.
_SHARED_CLASSES: Final = (
    Agent,
    KernelConfig,
    MappingProxyType,
    Random,
    Spec,
    TaskState,
    Rules,
)
_SHARED: Final[dict[int, object]] = {}


def _shared(number: int) -> object:
    return _SHARED[number]


def _share(value: object) -> tuple[Any, ...]:
    _SHARED[id(value)] = value
    return _shared, (id(value),)


class _Pickler(pickle.Pickler):
    """Copies a kernel as it is: a fold takes as long, and leaves out how it waits."""

    dispatch_table = dict.fromkeys(_SHARED_CLASSES, _share)


class World:
    """One state: the orchestrator, and all around it that decides what may follow."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.rules = Rules(scope)
        self.now = 2
        self.facts: tuple[Event, ...] = ()
        self.audit = Audit(())
        #: How many of the events are committed, and what is left if the rest is lost.
        self.committed = 0
        self.kept: Durable = ()
        self.acknowledged: dict[str, None] = {}
        self.settled: dict[str, TaskState] = {}
        #: Attempts that somebody works at, whoever still wants to know; and where.
        self.out: dict[Fence, str] = {}
        #: Those of them that were asked to stop.
        self.asked: frozenset[Fence] = frozenset()
        #: Reports that come a second time.
        self.copies: tuple[tuple[Fence, str], ...] = ()
        self.far: str = UP
        self.crashes: int = scope.crashes
        self.cancels: int = scope.cancels
        self.deaths: int = scope.deaths
        self.doubles: int = scope.doubles
        self.saved: bytes = b""
        self.kernel: Kernel = self._new_kernel()
        near = Agent(NEAR, max_concurrency=1)
        far = Agent(FAR, max_concurrency=1, lease=scope.lease_ns / 1e9)
        self.workers: dict[str, Agent] = {NEAR: near, FAR: far}
        self._listen()
        for worker in self.workers.values():
            self.kernel.add_worker(worker, self.now)
        self.kernel.paused = False
        self._settle([])
        self._commit()

    def _new_kernel(self) -> Kernel:
        scope = self.scope
        config = KernelConfig(grace_ns=scope.grace_ns, refuse_unknown=False)
        pools = () if scope.room is None else ((POOL, scope.room * ONE),)
        return Kernel(config, self.rules, Random(0), pools)

    def _listen(self) -> None:
        self.kernel.listen([], ALL)

    def save(self) -> World:
        """A copy that holds still until it is loaded."""
        other = copy(self)
        buffer = BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.kernel)
        other.saved = buffer.getvalue()
        del other.kernel
        return other

    def load(self) -> World:
        """A copy that can go on."""
        other = copy(self)
        other.kernel = pickle.loads(self.saved)
        return other

    # -- what can happen -----------------------------------------------------------

    def choices(self) -> Iterator[Action]:
        """All that can happen now."""
        kernel = self.kernel
        number = len(kernel.tasks)
        if number < len(self.scope.after):
            # Tasks are alike, or one needs the other: this order stands for all.
            yield ("submit", number + 1)
        if self.committed < len(self.facts):
            yield ("commit",)
        for fence in self.out:
            yield from self._ends(fence)
        for fence, outcome in self.copies:
            yield ("end", fence, outcome, "again")
        if any(is_alive(timer) for timer in kernel.timers):
            yield ("tick",)
        if self.cancels:
            for row in kernel.tasks.values():
                if row.state not in TERMINAL and row.id not in self.audit.called_off:
                    yield ("cancel", row.id)
        yield from self._faults()

    def _faults(self) -> Iterator[Action]:
        if self.far != UP or self.kernel.workers[FAR].lost:
            yield ("back",)
        elif self.deaths:
            yield ("away", CUT)
            yield ("away", DOWN)
        if self.crashes:
            yield ("crash",)

    def _ends(self, fence: Fence) -> Iterator[Action]:
        if not self._has_begun(fence):
            return
        asked = fence in self.asked
        for outcome in ("completed", "failed", "stopped"):
            if outcome != "stopped" or asked:
                yield ("end", fence, outcome, "")
                if self.doubles:
                    yield ("end", fence, outcome, "twice")
        if self.deaths and self.out[fence] == NEAR:
            yield ("end", fence, "lost", "")

    def _has_begun(self, fence: Fence) -> bool:
        """An attempt begins once the submission of its task is committed."""
        return fence[1] in self.acknowledged

    def _is_current(self, fence: Fence) -> bool:
        known = self.audit.current.get(fence[1])
        return known is not None and known[0] == fence

    # -- what happens --------------------------------------------------------------

    def do(self, action: Action) -> None:
        """
        Let *action* happen, and hold the laws.

        Raises:
            LawBrokenError: One does not hold.
            InternalError: Likewise.
            LookupError: Likewise; the state is not even consistent.
        """
        verb, *rest = action
        before, start = self.audit, len(self.facts)
        if verb == "crash":
            start = self.committed
        self._settle(getattr(self, f"_{verb}")(*rest))
        if not self.crashes:
            # Nobody could lose anything any more.
            self._commit()
        new = self.facts[start:]
        law_of_charges(action, new)
        if verb == "end":
            self._law_of_reports(rest[0], rest[1], before, new)
        self._laws()

    def _settle(self, commands: list[Command]) -> None:
        """A step: the kernel handles *commands*, and what it says is done."""
        kernel = self.kernel
        starts, effects = handle(kernel, commands, self.now)
        if kernel.sink:
            self.facts += tuple(event for event, _ in kernel.sink)
            kernel.sink.clear()
            self.audit = Audit(self.facts)
        if starts:
            begun = {
                (kernel.epoch, row.id, row.attempt): row.worker.name
                for row in starts
                if row.worker is not None
            }
            self.out = {**self.out, **begun}
        stops = [
            (kernel.epoch, effect.row.id, effect.attempt)
            for effect in effects
            if isinstance(effect, StopAttempt)
        ]
        self.asked |= {fence for fence in stops if fence in self.out}
        # What is held back stops at once: it never began.
        idle = [f for f in stops if f in self.asked and not self._has_begun(f)]
        if idle:
            self._forget(idle)
            self._settle([_stopped(fence) for fence in idle])

    def _submit(self, number: int) -> list[Command]:
        scope = self.scope
        resources = () if scope.room is None else ((POOL, ONE),)
        spec = Spec("work", (), resources, scope.timeout_ns)
        after = tuple(f"t{parent}" for parent in scope.after[number - 1])
        return [SubmitTask(f"t{number}", spec, after=after)]

    def _commit(self) -> list[Command]:
        if self.committed < len(self.facts):
            known, self.acknowledged = self.acknowledged, self.audit.submitted
            self.settled = self.audit.ended
            # What was abandoned before it could begin never begins.
            never = [
                fence
                for fence in self.out
                if fence[1] not in known and not self._is_current(fence)
            ]
            self._forget(never)
            self.committed = len(self.facts)
            self.kept = _durable(self.kernel)
        return []

    def _forget(self, fences: Iterable[Fence]) -> None:
        """Nobody works at *fences* any more."""
        gone = frozenset(fences)
        if gone:
            self.out = {f: worker for f, worker in self.out.items() if f not in gone}
            self.asked -= gone

    def _end(self, fence: Fence, outcome: str, how: str) -> list[Command]:
        epoch, task_id, attempt = fence
        worker = self.out.get(fence)
        if how == "again":
            at = self.copies.index((fence, outcome))
            self.copies = self.copies[:at] + self.copies[at + 1 :]
        else:
            self._forget([fence])
        if how == "twice":
            self.doubles -= 1
            self.copies = (*self.copies, (fence, outcome))
        if outcome == "lost":
            self.deaths -= 1
        if worker == NEAR and outcome == "completed":
            # As the runtime does it for what runs in its own process.
            self.kernel.complete(self.kernel.tasks[task_id], attempt, self.now)
            return []
        return [EndAttempt(task_id, attempt, outcome, epoch=epoch)]

    def _tick(self) -> list[Command]:
        kernel = self.kernel
        when = min(timer[0] for timer in kernel.timers if is_alive(timer))
        self.now = max(self.now, when)
        if self.far == UP and not kernel.workers[FAR].lost:
            # Signs of life come in time.
            self._beat()
        return []

    def _beat(self) -> None:
        # With those that are still held back: a commit takes no longer than a lease.
        named = [
            (task_id, attempt)
            for (epoch, task_id, attempt), worker in self.out.items()
            if worker == FAR and epoch == self.kernel.epoch
        ]
        self.kernel.beat(FAR, named, self.now)

    def _cancel(self, task_id: str) -> list[Command]:
        self.cancels -= 1
        return [CancelTask(task_id)]

    def _away(self, how: str) -> list[Command]:
        self.deaths -= 1
        self.far = how
        if how == DOWN:
            self._forget(f for f, worker in self.out.items() if worker == FAR)
        return []

    def _back(self) -> list[Command]:
        if self.far == DOWN:
            self.kernel.add_worker(self.workers[FAR], self.now)
        else:
            self._beat()
        self.far = UP
        return []

    def _crash(self) -> list[Command]:
        """All that is not committed is lost, and all that ran in our own process."""
        self.crashes -= 1
        epoch = self.kernel.epoch + 1
        self._forget(
            fence
            for fence, worker in self.out.items()
            if worker == NEAR or not self._has_begun(fence)
        )
        self.copies = tuple(c for c in self.copies if c[0] in self.out)
        self.facts = self.facts[: self.committed]
        self.audit = Audit(self.facts)
        self.kernel = self._folded()
        self._listen()
        recover(self.kernel, epoch, self.now)
        self.kernel.add_worker(self.workers[NEAR], self.now)
        self.kernel.paused = False
        return []

    def _folded(self) -> Kernel:
        kernel = self._new_kernel()
        for event in self.facts:
            fold(kernel, event)
        return kernel

    # -- the laws ------------------------------------------------------------------

    def _laws(self) -> None:
        kernel, audit = self.kernel, self.audit
        for task_id in self.acknowledged:
            hold(task_id in kernel.tasks, "a committed submission is there")
        for task_id, state in self.settled.items():
            hold(kernel.tasks[task_id].state is state, "a committed end stands")
        self._law_of_books(audit.holding())
        for row in kernel.tasks.values():
            known = audit.current.get(row.id)
            fence = (kernel.epoch, row.id, row.attempt)
            runs = known is not None and known[0] == fence
            hold(runs == (row.state is S.RUNNING), "who runs is in the events")
            hold(audit.ended.get(row.id) == _ended(row), "who has ended, likewise")
            charged = 0 if row.extra is None else row.extra.charged
            if row.state not in TERMINAL:
                hold(
                    audit.charged.get(row.id, 0) == charged, "what is charged, likewise"
                )
        law(differences(kernel, self._folded()), "the fold of the events is the state")
        law(self._runnable(), "nothing waits that could run")
        law(self._stuck(), "nothing that was accepted is forgotten")
        check_invariants(kernel)

    def _law_of_books(self, holding: list[tuple[str, Units]]) -> None:
        """Nothing is taken twice, or more than there is; all comes back, once."""
        kernel = self.kernel
        for pool in kernel.pools.values():
            used = sum(units for _, alloc in holding for _, units in alloc)
            hold(pool.used == used, "a pool gives what its holders have")
            hold(used <= pool.total, "a pool gives what there is")
        for name, worker in kernel.workers.items():
            running = sum(holder == name for holder, _ in holding)
            hold(worker.running == running, "a worker's slots are its attempts'")
            hold(not (worker.lost and running), "a lost worker keeps no slot")

    def _runnable(self) -> list[str]:
        kernel = self.kernel
        if any(pool.total - pool.used < ONE for pool in kernel.pools.values()):
            return []
        if all(worker.lost or worker.running for worker in kernel.workers.values()):
            return []
        return [row.id for row in kernel.tasks.values() if row.state is S.QUEUED]

    def _stuck(self) -> list[str]:
        """Who is neither at an end nor blocked, if nothing is to be waited for."""
        kernel = self.kernel
        if (
            self.out
            or kernel.leaked
            or self.far != UP
            or any(worker.lost for worker in kernel.workers.values())
            or any(is_alive(timer) and timer[2] != LEASE for timer in kernel.timers)
        ):
            return []
        return [
            f"{row.id} is {row.state}"
            for row in kernel.tasks.values()
            if row.state not in TERMINAL and row.state is not S.BLOCKED
        ]

    def _law_of_reports(
        self, fence: Fence, outcome: str, before: Audit, new: Sequence[Event]
    ) -> None:
        """The report of a current attempt counts, and no other."""
        task_id = fence[1]
        told = [
            event[0] for event in new if len(event) > TASK and event[TASK] == task_id
        ]
        known = before.current.get(task_id)
        if known is None or known[0] != fence:
            changes = [cls for cls in told if cls in OUTCOMES]
            hold(told[:1] == [LateResultIgnored], "a late result is noted")
            law([cls.__name__ for cls in changes], "a late result changes nothing")
            return
        why = before.stopping.get(task_id, "")
        expected: type[Event]
        if why == "cancel":
            expected = TaskCancelled
        elif outcome == "completed" and not why:
            expected = TaskCompleted
        else:
            charged = 0 if outcome == "lost" and not why else 1
            charged += before.charged.get(task_id, 0)
            last = charged >= self.scope.attempts
            expected = TaskFailed if last else TaskRetrying
        hold(told[:1] == [expected], "the report of a current attempt counts")

    # -- which state this is -------------------------------------------------------

    def key(self) -> tuple[Any, ...]:
        """What this state is for all that can still happen."""
        now, kernel = self.now, self.kernel
        durable = _durable(kernel)
        return (
            _since(durable, now),
            # What a crash would leave, if that is something else.
            None
            if not self.crashes or durable == self.kept
            else _since(self.kept, now),
            tuple(self.acknowledged),
            _passing(kernel, now),
            tuple(sorted(self.out.items())),
            self.asked,
            tuple(sorted(self.copies)),
            (self.far, self.crashes, self.cancels, self.deaths, self.doubles),
        )


def _stopped(fence: Fence) -> Command:
    epoch, task_id, attempt = fence
    return EndAttempt(task_id, attempt, "stopped", epoch=epoch)


#: Of each task, what survives a crash; the last two are times.
Durable: TypeAlias = tuple[tuple[Any, ...], ...]


def _durable(kernel: Kernel) -> Durable:
    expires = {
        row.id: when
        for when, _, kind, row, _ in kernel.timers
        if kind == EXPIRE and isinstance(row, TaskRow) and row.attempt == 0
    }
    return tuple(
        (row.id, row.state, 0, "", 0, 0, 0, 0)
        if row.state in TERMINAL
        else _durable_row(row, expires.get(row.id, 0))
        for row in kernel.tasks.values()
    )


def _durable_row(row: TaskRow, expires_ns: int) -> tuple[Any, ...]:
    extra = row.extra
    if extra is None:
        return row.id, row.state, row.attempt, "", 0, 0, 0, expires_ns
    return (
        row.id,
        row.state,
        row.attempt,
        extra.stop,
        extra.charged,
        extra.crashes,
        extra.due_ns,
        expires_ns,
    )


def _since(durable: Durable, now: int) -> Durable:
    return tuple(
        (*row[:-2], *[_until(when, now) for when in row[-2:]]) for row in durable
    )


def _until(when: int, now: int) -> int | None:
    """What is overdue is due now."""
    return max(0, when - now) if when else None


def _passing(kernel: Kernel, now: int) -> tuple[Any, ...]:
    """What a crash takes away: who runs where, what is due when, and who waits how."""
    buckets = dict.fromkeys(row.bucket for row in kernel.tasks.values())
    return (
        tuple(
            (row.id, "" if row.worker is None else row.worker.name)
            for row in kernel.tasks.values()
            if row.state is S.RUNNING
        ),
        # In their order; of two that are alike only the first acts.
        tuple(
            dict.fromkeys(
                (when - now, kind, row.id if isinstance(row, TaskRow) else row.name)
                for when, _, kind, row, _ in sorted(filter(is_alive, kernel.timers))
            )
        ),
        tuple(
            (
                worker.lost,
                worker.heard_ns - now if worker.lease_ns and not worker.lost else 0,
                *[(row.id, seen - now) for row, seen in worker.seen.items()],
            )
            for worker in kernel.workers.values()
        ),
        tuple(
            (
                *fence,
                leak.worker.name,
                leak.seen_ns - now if leak.worker.lease_ns else 0,
            )
            for fence, leak in kernel.leaked.items()
        ),
        tuple(
            (bucket.parked is not None, bucket.entry is not None, bucket.stale > 0)
            for bucket in buckets
        ),
    )


def _ended(row: TaskRow) -> TaskState | None:
    return row.state if row.state in TERMINAL else None
