"""
Checks of the guarantees after every step, from the events alone.

The watch keeps books of its own, apart from the kernel's: attempts and their resources,
ends, and times. It compares them with the state of the kernel, folds the events into a
second kernel and compares that, too, and checks whether any task waits that could run.
It checks only the tasks that a step has touched, so that a run under watch costs little
more than one without.

The guarantees, by the names that a breach has:

    numbered        events are numbered without a gap
    terminal        a task ends once, in one state, and nothing follows
    one attempt     an attempt begins only when none is under way
    fence           only the current attempt ends a task, and only if it really ended
    cancelled       nothing begins after a task was cancelled
    dependencies    a task begins when its join holds: mostly, when all has completed
    ring            no tasks wait for each other
    events          an event ends all waits for it, and those that begin soon after
    instant         what ends at an instant is applied before anything starts
    capacity        no pool, worker or concurrency limit is exceeded
    released        what an attempt held is given back, once
    order           of like tasks, the first in order begins first
    soft            who is above a soft quota begins when nobody within theirs can
    idle            nothing waits while there is all that it needs
    due             what is due happens when it is due
    charged         what was not the task's fault is not counted against it
    held            what may not run twice waits for a person when its end is unknown
    folded          the events lead to the very state that the kernel is in
    committed       nothing begins before what it rests on is in the journal
    acknowledged    what a caller was told survives every crash
    invariants      all that `taskorch.core.kernel.check_invariants` counts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from taskorch.core.kernel import (
    Kernel,
    TaskRow,
    WorkerRow,
    check_invariants,
    differences,
    explain,
    fold,
    passed_over,
    pool_shortage,
    shortage,
    wanted,
)
from taskorch.errors import InternalError
from taskorch.events import (
    AgentDraining,
    AgentJoined,
    AgentLost,
    AgentProbed,
    AgentRestored,
    AgentReturned,
    AgentTripped,
    AllocationChanged,
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    Event,
    EventEmitted,
    LateResultIgnored,
    OrchestratorStarted,
    PoolsChanged,
    QuotasChanged,
    ResourcesAllocated,
    ResourcesReleased,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRecalled,
    TaskReleased,
    TaskRepointed,
    TaskReprioritised,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.kit.checks import find_ring
from taskorch.model import (
    TERMINAL,
    HeldUnits,
    TaskState,
    Units,
)
from taskorch.model.ids import run_by
from taskorch.model.scopes import scopes_overlap
from taskorch.protocols import Entry

_S: Final = TaskState
_QUEUED: Final = TaskState.QUEUED
#: A whole unit, in millionths.
WHOLE: Final = 1_000_000

#: Events that can follow a start in one step, after a failure of a policy.
_AFTER_STARTS: Final = frozenset(
    {
        "TaskStarted",
        "AttemptReturned",
        # The rest that none of the waiting tasks can use.
        "AllocationChanged",
        "ComponentFailed",
        "TaskFailed",
        "TaskBlocked",
        # The ends of tasks that depend on such a task.
        "TaskCancelled",
        "TaskReleased",
        # Events that follow from the answers of policies.
        "PolicySlow",
        # Changes of the pools that follow from all this.
        "PoolSaturated",
        "PoolRelieved",
        "QuotaExceeded",
        "QuotaRelieved",
    }
)
#: The number of steps between two complete counts.
_EVERY: Final = 1_000
#: Causes of a retry that are not the task's fault.
_BLAMELESS: Final = frozenset(
    {
        "lost",
        "missing",
        "interrupted",
        "stopped",
        "unstarted",
        "returned",
        "undersized",
    }
)

#: Causes after which nobody knows what the attempt has done.
_UNKNOWN_END: Final = frozenset({"lost", "missing", "interrupted"})

#: Returns whether an attempt `(epoch, task id, number)` has really completed.
Truth: TypeAlias = Callable[[int, str, int], bool]


class Breach(AssertionError):  # noqa: N818 - of a law, as one says
    """
    A guarantee did not hold.

    Attributes:
        law: Its name: see `taskorch.testing`.
    """

    def __init__(self, law: str, message: str) -> None:
        super().__init__(f"{law}: {message}")
        self.law = law


class _Seen:
    """The state of one task, from its events."""

    __slots__ = (
        "alloc",
        "allow_failure",
        "attempt",
        "blocked",
        "deadline",
        "due",
        "elastic",
        "ended",
        "idempotent",
        "join",
        "joined",
        "left",
        "like",
        "lost",
        "on_failure",
        "owner",
        "parents",
        "place",
        "queue",
        "resources",
        "resume",
        "run_id",
        "slots",
        "timeout",
        "timer",
        "type",
        "under_way",
        "units",
        "wait",
        "worker",
        "writes",
    )

    def __init__(self, event: TaskSubmitted) -> None:
        self.type: str = event.type
        self.elastic: Any = event.elastic
        self.resources: Units = event.resources
        self.owner: str | None = event.owner
        #: The paths that it may write, as literal prefixes.
        self.writes: tuple[str, ...] = event.writes
        #: Its run, or "".
        self.run_id: str = run_by(event.task_id, event.run)
        self.deadline: int | None = event.deadline_ns
        self.parents: tuple[str, ...] = event.after
        self.join: str | int = event.join
        self.on_failure: str = event.on_parent_failure
        #: The event for which it waits, and until when, if it is a wait.
        self.wait: tuple[Any, ...] | None = event.wait
        #: Whether its join, if it is an unusual one, has held.
        self.joined: bool = False
        #: Whether a dependency of it failed, so that it waits for a re-run of that.
        self.blocked: bool = False
        self.timeout: int | None = event.timeout_ns
        self.idempotent: bool = event.idempotent
        self.allow_failure: bool = event.allow_failure
        self.place: tuple[Any, ...] = ()
        #: The key that it shares with like tasks.
        self.like: tuple[Any, ...] = _like(event)
        #: The tasks that are like it, itself included.
        self.queue: _WatchedQueue | None = None
        self.attempt: int = 0
        self.under_way: bool = False
        self.worker: str = ""
        self.alloc: Units = ()
        self.units: HeldUnits = ()
        self.slots: int = 0
        self.ended: TaskState | None = None
        self.lost: int = 0
        #: The end of its running attempt, or of its delay; 0 is never.
        self.timer: int = 0
        self.due: int = 0
        #: The rest of these times while it is suspended.
        self.left: int = 0
        self.resume: int = 0


class _WatchedQueue:
    """The queued tasks that are alike, in order, apart from the kernel's buckets."""

    __slots__ = ("heap", "members")

    def __init__(self) -> None:
        self.members: dict[str, tuple[Any, ...]] = {}
        self.heap: list[tuple[Any, int, str]] = []

    def add(self, task_id: str, place: tuple[Any, ...]) -> None:
        if self.members.get(task_id) != place:
            self.members[task_id] = place
            heappush(self.heap, (*place, task_id))

    def first(self, vetoed: Mapping[TaskRow, None], rows: Mapping[str, TaskRow]) -> Any:
        """Return the first that is not *vetoed*: `(key, number, task id)`, or None."""
        heap, members = self.heap, self.members
        put_back = []
        first = None
        while heap:
            entry = heap[0]
            if members.get(entry[2]) != entry[:2]:
                heappop(heap)
                continue
            if vetoed and rows[entry[2]] in vetoed:
                put_back.append(heappop(heap))
                continue
            first = entry
            break
        for entry in put_back:
            heappush(heap, entry)
        return first


class _Books:
    """The state of the world by the events so far."""

    def __init__(
        self,
        concurrency: int,
        grace_ns: int,
        poison: int,
        totals: dict[str, int],
        named: dict[str, tuple[str, ...]],
    ) -> None:
        self.concurrency = concurrency
        self.grace_ns = grace_ns
        self.poison = poison
        self.seq = 0
        self.epoch = 1
        self.number = 0
        self.tasks: dict[str, _Seen] = {}
        self.children: dict[str, list[str]] = {}
        self.queues: dict[Any, _WatchedQueue] = {}
        self.running = 0
        self.on: dict[str, int] = {}
        #: The sizes of the pools.
        self.totals = totals
        #: The resources that people hold.
        self.allocations: dict[str, tuple[str, Units]] = {}
        self.quotas: dict[tuple[str, str], Units] = {}
        #: The sizes of soft quotas, by their pools; and the latest attempt that has
        #: exceeded one of them, or "".
        self.soft: dict[str, int] = {}
        self.last_above: str = ""
        #: For each rate, the number of attempts that may start, and the time of that
        #: number.
        self.tokens: dict[tuple[str, str], tuple[Fraction, int]] = {}
        self.used: dict[str, int] = {}
        self.used_on: dict[tuple[str, str], int] = {}
        #: The names of units, of pools and of workers; and how much is held of each, by
        #: the worker that owns it or "", the resource and the name.
        self.named: dict[str, tuple[str, ...]] = named
        self.own: dict[str, dict[str, tuple[str, ...]]] = {}
        self.units: dict[tuple[str, str, str], int] = {}
        self.units_by_hand: dict[str, HeldUnits] = {}
        self.units_leaked: dict[tuple[str, int], tuple[str, HeldUnits]] = {}
        self.leaks: dict[tuple[str, int], tuple[str, Units, int]] = {}
        #: `(when, task id, what)`.
        self.dues: list[tuple[int, str, str]] = []
        #: Tasks that wait, by their events; and the times until which events are kept.
        self.awaiting: dict[str, dict[str, None]] = {}
        self.kept: dict[str, int] = {}
        #: Tasks whose wait ends in this step, because of an event.
        self.heard: dict[str, str] = {}
        #: The tasks that the step has touched, and its starts, with their places.
        self.touched: dict[str, None] = {}
        self.started: list[tuple[str, _Seen]] = []
        self.submitted: list[str] = []
        self.freed = False

    # -- the events ----------------------------------------------------------------

    def read(self, event: Any) -> None:
        """Enter *event*, an event; an impossible one is a breach."""
        cls, seq = type(event), event.seq
        if seq != self.seq + 1:
            _breach("numbered", f"event {seq} follows event {self.seq}")
        self.seq = seq
        if cls is TaskStarted:
            self.begin(event)
        elif cls is TaskSubmitted:
            self.submit(event)
        elif cls is TaskCompleted:
            self.end(event.task_id, _S.COMPLETED, event.attempt)
        else:
            enter = _RARE.get(cls)
            if enter is not None:
                enter(self, event)

    def submit(self, event: TaskSubmitted) -> None:
        task_id, now = event.task_id, event.at_ns
        if task_id in self.tasks:
            _breach("terminal", f"{task_id} was submitted twice")
        seen = self.tasks[task_id] = _Seen(event)
        seen.place = (event.key, self.number)
        self.number += 1
        seen.queue = self.queue_of(seen)
        for parent in seen.parents:
            self.children.setdefault(parent, []).append(task_id)
        if event.not_before_ns is not None and event.not_before_ns > now:
            seen.due = event.not_before_ns
            heappush(self.dues, (event.not_before_ns, task_id, "delay"))
        if event.deadline_ns is not None:
            heappush(self.dues, (event.deadline_ns, task_id, "deadline"))
        if event.expires_ns is not None:
            heappush(self.dues, (event.expires_ns, task_id, "age"))
        self.touched[task_id] = None
        if seen.parents:
            self.submitted.append(task_id)

    def queue_of(self, seen: _Seen) -> _WatchedQueue:
        """Return the queue of like tasks; a quota separates the tasks of a run."""
        kinds = ("workflow", "soft workflow")
        of_run = any((kind, seen.run_id) in self.quotas for kind in kinds)
        run_id = seen.run_id if of_run else ""
        like = (seen.type, *seen.like, seen.writes, run_id)
        queue = self.queues.get(like)
        if queue is None:
            queue = self.queues[like] = _WatchedQueue()
        return queue

    def move(self, task_id: str, seen: _Seen) -> None:
        """Put the task into the queue where it belongs now."""
        assert seen.queue is not None  # noqa: S101 - set at submission
        seen.queue.members.pop(task_id, None)
        seen.queue = self.queue_of(seen)
        self.touched[task_id] = None

    def begin(self, event: Event) -> None:
        _, _, now, task_id, attempt, worker, alloc, *_ = event
        seen = self.tasks[task_id]
        if seen.ended is not None:
            law = "cancelled" if seen.ended is _S.CANCELLED else "terminal"
            _breach(law, f"{task_id} is {seen.ended}, and attempt {attempt} begins")
        if seen.under_way:
            _breach("one attempt", f"{task_id}: {attempt} begins beside {seen.attempt}")
        if attempt != seen.attempt + 1:
            _breach("one attempt", f"{task_id}: {attempt} follows {seen.attempt}")
        if not seen.joined:
            self.check_parents(task_id, seen)
        if seen.due > now:
            remaining = (seen.due - now) / 1e9
            _breach(
                "due", f"{task_id} begins, and its delay goes on for {remaining:g} s"
            )
        seen.due = 0
        seen.attempt = attempt
        self.check_writes(task_id, seen)
        seen.under_way = True
        seen.worker = worker
        seen.alloc = alloc
        self.begin_units(event, seen)
        if seen.elastic is not None:
            self.check_part(f"{task_id}, attempt {attempt}", seen, alloc)
        seen.slots = 1
        seen.left = 0
        if seen.timeout is not None:
            seen.timer = now + seen.timeout
            heappush(self.dues, (seen.timer, task_id, "timeout"))
        # Without quotas, an attempt that holds nothing has nothing to check.
        if (alloc or self.quotas) and alloc != self.charged(alloc, seen):
            _breach("capacity", f"{task_id} began, and its quota does not know of it")
        if self.tokens:
            self.take_tokens(task_id, seen, now)
        self.hold(worker, alloc, 1)
        self.grant(task_id, alloc)
        soft = ((name, self.soft.get(name)) for name, _ in alloc)
        above = any(limit is not None and self.used[n] > limit for n, limit in soft)
        self.last_above = task_id if above else ""
        self.touched[task_id] = None
        self.started.append((task_id, seen))

    def check_writes(self, task_id: str, seen: _Seen) -> None:
        """Check that nobody else may write the files of *seen*, which begins."""
        leaking = {name for name, _ in self.leaks}
        for name, other in self.tasks.items() if seen.writes else ():
            if not other.writes or not (other.under_way or name in leaking):
                continue
            if scopes_overlap(seen.writes, other.writes):
                _breach("writes", f"{task_id} begins, and {name} may write the same")

    def take_tokens(self, task_id: str, seen: _Seen, now: int) -> None:
        """Take a token of each rate that holds for the task."""
        for whose in _subjects(seen):
            if whose in self.tokens:
                tokens = self.tokens_of(whose, now) - 1
                self.tokens[whose] = tokens, now
                if tokens < 0:
                    _breach("rate", f"{task_id} begins, and {whose} may not yet")

    def check_parents(self, task_id: str, seen: _Seen) -> None:
        """Check that all parents of a beginning task have completed."""
        if seen.parents and (seen.join, seen.on_failure) != ("all", "block"):
            _breach("dependencies", f"{task_id} begins, and was not released")
        for parent in seen.parents:
            above = self.tasks[parent]
            state = above.ended
            if state is _S.FAILED and above.allow_failure:
                continue
            if state is not _S.COMPLETED:
                _breach("dependencies", f"{task_id} begins, and {parent} is {state}")

    def release(self, event: TaskReleased) -> None:
        seen = self.tasks[event.task_id]
        total = len(seen.parents)
        # Later tasks of the same batch may be unknown yet.
        states = [self.tasks[name] for name in seen.parents if name in self.tasks]
        done = sum(parent.ended is _S.COMPLETED for parent in states)
        ended = sum(parent.ended is not None or parent.blocked for parent in states)
        forgiven = sum(p.ended is _S.FAILED and p.allow_failure for p in states)
        over = ended == total
        holds = {
            "all": done + forgiven == total,
            "finished": over,
            "any": done > 0,
            "asked": ended > 0,
        }
        if not (
            holds[seen.join] if isinstance(seen.join, str) else done >= seen.join
        ) and not (seen.on_failure == "run" and over):
            how = f"{done} of {total} completed"
            _breach("dependencies", f"{event.task_id} is released, and {how}")
        seen.joined = True
        self.touched[event.task_id] = None

    def recall(self, event: TaskRecalled) -> None:
        """Let a released task wait again, because a parent is not complete now."""
        seen = self.tasks[event.task_id]
        if not seen.joined or seen.join != "finished" or seen.attempt:
            _breach("dependencies", f"{event.task_id} is recalled, and may begin")
        seen.joined = False
        self.touched[event.task_id] = None
        self.suspect_rings()

    def hold(self, worker: str, alloc: Units, slots: int) -> None:
        self.running += slots
        self.on[worker] = self.on.get(worker, 0) + slots
        for name, units in alloc:
            self.used[name] = self.used.get(name, 0) + units
            self.used_on[worker, name] = self.used_on.get((worker, name), 0) + units

    def grant(self, who: str, alloc: Units) -> None:
        """Grant *alloc* to *who*, and check that so much was free."""
        for name, _ in alloc:
            total = self.total_of(name)
            if total is not None and self.used[name] > total:
                held = f"{self.used[name]} is held, and {total} is"
                _breach("capacity", f"{who} was granted {name}, of which {held}")

    def begin_units(self, event: Any, seen: _Seen) -> None:
        if event.units or self.named or self.own:
            seen.units = event.units
            self.hold_units(event.agent_id, event.units)
            who, worker = event.task_id, event.agent_id
            self.check_units(who, worker, event.allocation, event.units)

    def hold_units(self, worker: str, units: HeldUnits, sign: int = 1) -> None:
        for resource, name, many, is_own in units:
            key = worker if is_own else "", resource, name
            self.units[key] = self.units.get(key, 0) + sign * many

    def check_units(
        self, who: str, worker: str, alloc: Units, units: HeldUnits
    ) -> None:
        """Check that the named units of *who* were free."""
        for resource, many in alloc:
            own = self.own.get(worker, {}).get(resource)
            names = self.named.get(resource) if own is None else own
            mine = [unit for unit in units if unit[0] == resource]
            if names is None and not mine:
                continue
            if sum(unit[2] for unit in mine) != many:
                _breach("capacity", f"{who} has {many} {resource}, and units {mine}")
            for _, name, part, is_own in mine:
                used = self.units[worker if is_own else "", resource, name]
                if is_own is (own is None) or name not in (names or ()):
                    _breach("capacity", f"{who} has {resource} {name}: there is none")
                if used > WHOLE or (many >= WHOLE and part != WHOLE):
                    _breach("capacity", f"{who} has {part} of {name}: {used} is held")
            if many < WHOLE and len(mine) > 1:
                _breach("capacity", f"{who} has parts of several: {mine}")

    def total_of(self, name: str) -> int | None:
        """Return the size of a pool, with removed units that are still held."""
        total = self.totals.get(name)
        if total is None or name not in self.named:
            return total
        gone = [
            used
            for (worker, resource, unit), used in self.units.items()
            if (worker, resource) == ("", name) and unit not in self.named[name]
        ]
        return total + sum(gone)

    def free(self, task_id: str, seen: _Seen) -> None:
        """End the attempt under way."""
        seen.under_way = False
        seen.timer = 0
        self.give_back(seen.worker, seen.alloc, seen.slots)
        self.hold_units(seen.worker, seen.units, -1)
        seen.alloc = seen.units = ()
        seen.slots = 0
        self.touched[task_id] = None

    def give_back(self, worker: str, alloc: Units, slots: int) -> None:
        self.hold(worker, tuple((name, -units) for name, units in alloc), -slots)
        self.freed = True

    def end(self, task_id: str, state: TaskState, attempt: int | None = None) -> None:
        seen = self.tasks[task_id]
        if seen.ended is not None:
            _breach("terminal", f"{task_id} is {seen.ended}, and becomes {state}")
        if attempt is not None and attempt != seen.attempt:
            _breach("fence", f"{task_id}: {attempt} ended it, not {seen.attempt}")
        if seen.under_way:
            self.free(task_id, seen)
        if seen.wait is not None:
            self.awaiting.get(seen.wait[0] or "", {}).pop(task_id, None)
            self.heard.pop(task_id, None)
        seen.ended = state
        seen.due = 0
        self.touched[task_id] = None
        for child in self.children.get(task_id, ()):
            self.touched[child] = None

    def fail(self, event: TaskFailed) -> None:
        seen = self.tasks[event.task_id]
        if event.cause == "poisoned" and seen.lost + 1 < self.poison:
            _breach("charged", f"{event.task_id} is poisoned after {seen.lost + 1}")
        self.end(event.task_id, _S.FAILED, event.attempt)

    def cancel(self, event: TaskCancelled) -> None:
        self.end(event.task_id, _S.CANCELLED)

    def retry(self, event: TaskRetrying) -> None:
        seen = self.tasks[event.task_id]
        if seen.ended is not None:
            _breach("terminal", f"{event.task_id} is {seen.ended}, and is retried")
        if event.attempt != seen.attempt:
            _breach("fence", f"{event.task_id}: {event.attempt}, not {seen.attempt}")
        if event.charged == (event.cause in _BLAMELESS):
            _breach("charged", f"{event.task_id}: {event.cause} was charged")
        if event.cause in _UNKNOWN_END and not seen.idempotent:
            _breach("held", f"{event.task_id} is tried again: {event.cause}")
        if event.cause == "lost":
            seen.lost += 1
        if seen.under_way:
            self.free(event.task_id, seen)
        if event.delay_ns:
            seen.due = event.at_ns + event.delay_ns
            heappush(self.dues, (seen.due, event.task_id, "delay"))
        self.touched[event.task_id] = None

    def touch(self, event: Any) -> None:
        self.touched[event.task_id] = None
        for child in self.children.get(event.task_id, ()):
            self.touched[child] = None

    def block(self, event: TaskBlocked) -> None:
        seen = self.tasks[event.task_id]
        if event.cause != "dependency" and seen.under_way:
            self.free(event.task_id, seen)
        seen.blocked = event.cause == "dependency"
        if event.cause == "lost":
            seen.lost += 1
        # From here on a person decides about it, not its parents.
        seen.joined = seen.joined or event.cause == "join"
        if event.cause == "event" and seen.wait is not None:
            self.begin_wait(event, seen, *seen.wait[:2])
        self.touch(event)

    def begin_wait(
        self, event: TaskBlocked, seen: _Seen, name: str | None, timeout: int | None
    ) -> None:
        task_id, now = event.task_id, event.at_ns
        if timeout is not None:
            seen.due = now + timeout
            heappush(self.dues, (seen.due, task_id, "delay"))
        if name is not None:
            self.awaiting.setdefault(name, {})[task_id] = None
            if self.kept.get(name, 0) > now:
                self.heard[task_id] = name

    def emit(self, event: EventEmitted) -> None:
        waiting = self.awaiting.get(event.name, {})
        if event.let_go != len(waiting):
            who = ", ".join(waiting) or "nobody"
            _breach("events", f"{event.name} lets go {event.let_go}, and {who} waits")
        self.heard.update(dict.fromkeys(waiting, event.name))
        if event.until_ns:
            self.kept[event.name] = event.until_ns

    def unblock(self, event: TaskUnblocked) -> None:
        self.tasks[event.task_id].blocked = False
        self.touch(event)

    def suspend(self, event: TaskSuspended) -> None:
        seen = self.tasks[event.task_id]
        if event.held:
            seen.left = max(1, seen.timer - event.at_ns) if seen.timer else 0
            seen.timer = 0
        elif seen.under_way:
            self.free(event.task_id, seen)
        seen.resume, seen.due = max(1, seen.due - event.at_ns) if seen.due else 0, 0
        self.touched[event.task_id] = None

    def resume(self, event: TaskResumed) -> None:
        seen = self.tasks[event.task_id]
        if event.held and seen.left and event.reason == "continued":
            seen.timer = event.at_ns + seen.left
            seen.left = 0
            heappush(self.dues, (seen.timer, event.task_id, "timeout"))
        elif not event.held and seen.resume:
            seen.due, seen.resume = event.at_ns + seen.resume, 0
            heappush(self.dues, (seen.due, event.task_id, "delay"))
        self.touched[event.task_id] = None

    def due(self, event: TaskDue) -> None:
        seen = self.tasks[event.task_id]
        if seen.due > event.at_ns:
            remaining = (seen.due - event.at_ns) / 1e9
            _breach("due", f"{event.task_id}: its delay goes on for {remaining:g} s")
        seen.due = 0
        self.touched[event.task_id] = None

    def stop(self, event: AttemptStopping) -> None:
        seen = self.tasks[event.task_id]
        if event.why in ("timeout", "deadline", "cancel"):
            if event.why == "timeout":
                seen.timer = 0
            when = event.at_ns + self.grace_ns
            heappush(self.dues, (when, event.task_id, f"grace {seen.attempt}"))
        self.touched[event.task_id] = None

    def yield_slot(self, event: AttemptWaiting) -> None:
        seen = self.tasks[event.task_id]
        if event.returned:
            self.free(event.task_id, seen)
            return
        seen.slots = 0
        self.give_back(seen.worker, (), 1)
        self.touched[event.task_id] = None

    def reclaim_slot(self, event: AttemptReturned) -> None:
        seen = self.tasks[event.task_id]
        seen.slots = 1
        self.hold(seen.worker, (), 1)
        self.touched[event.task_id] = None

    def change_allocation(self, event: AllocationChanged) -> None:
        seen = self.tasks[event.task_id]
        subject = f"{event.task_id}, attempt {event.attempt}"
        if not seen.under_way or event.attempt != seen.attempt:
            _breach("grants", f"{subject}: its allocation changes, and it does not run")
        if event.before != seen.alloc:
            _breach("grants", f"{subject} held {seen.alloc}, not {event.before}")
        if seen.elastic is None:
            _breach("grants", f"{subject} is rigid, and its allocation changes")
        self.check_part(subject, seen, event.after)
        self.give_back(seen.worker, seen.alloc, 0)
        self.hold(seen.worker, event.after, 0)
        before = dict(event.before)
        more = [pair for pair in event.after if pair[1] > before.get(pair[0], 0)]
        self.grant(subject, tuple(more))
        seen.alloc = event.after
        self.touched[event.task_id] = None

    def check_part(self, subject: str, seen: _Seen, alloc: Units) -> None:
        """Check that the grant for an elastic request is a useful part of it."""
        if alloc != self.charged(alloc, seen):
            _breach(
                "grants", f"{subject} holds {alloc}, and its quotas do not know of it"
            )
        alloc = _of_pools(alloc)
        asked, held = dict(seen.resources), dict(alloc)
        for name, units in alloc:
            if units > asked.get(name, 0):
                _breach("grants", f"{subject} holds {units} {name} of {asked}")
        for name, units in seen.elastic[0]:
            if units > held.get(name, 0):
                _breach("grants", f"{subject} holds {held}, less {name} than {units}")

    def leak(self, event: SlotLeaked) -> None:
        seen = self.tasks[event.task_id]
        key = event.task_id, event.attempt
        self.leaks[key] = seen.worker, seen.alloc, seen.slots
        self.units_leaked[key] = seen.worker, seen.units
        seen.units = ()
        seen.under_way = False
        seen.timer = 0
        seen.alloc = ()
        seen.slots = 0
        self.touched[event.task_id] = None

    def recover_slot(self, event: SlotRecovered) -> None:
        leak = self.leaks.pop((event.task_id, event.attempt), None)
        if leak is None:
            _breach("released", f"{event.task_id}: {event.attempt} had not leaked")
        else:
            self.give_back(*leak)
            worker, units = self.units_leaked.pop((event.task_id, event.attempt))
            self.hold_units(worker, units, -1)

    def ignore(self, event: LateResultIgnored) -> None:
        seen = self.tasks.get(event.task_id)
        if seen is None or self.epoch > 1:
            # An attempt of an earlier incarnation, of which no event was kept, may have
            # the same number as one of this.
            return
        if seen.under_way and event.attempt == seen.attempt:
            _breach("fence", f"{event.task_id}: {event.attempt} counts, and is ignored")

    def repoint(self, event: TaskRepointed) -> None:
        for child in event.dependents:
            seen = self.tasks[child]
            old, new = event.task_id, event.rerun_id
            seen.parents = tuple(new if p == old else p for p in seen.parents)
            self.children.setdefault(new, []).append(child)
            self.touched[child] = None
        self.touched[event.task_id] = None
        self.suspect_rings()

    def suspect_rings(self) -> None:
        """Note that waits have changed, so that any task may be in a cycle."""
        self.submitted += [name for name, each in self.tasks.items() if not each.ended]

    def extend(self, event: TaskParentsAdded) -> None:
        seen = self.tasks[event.task_id]
        seen.parents += event.after
        seen.joined = False
        for parent in event.after:
            self.children.setdefault(parent, []).append(event.task_id)
        self.touch(event)
        self.suspect_rings()

    def reorder(self, event: TaskReprioritised) -> None:
        seen = self.tasks[event.task_id]
        seen.place = (event.key, seen.place[1])
        self.touched[event.task_id] = None

    def change(self, event: TaskOptionsChanged) -> None:
        task_id, seen = event.task_id, self.tasks[event.task_id]
        if seen.ended is not None:
            _breach("terminal", f"{task_id} is {seen.ended}, and has other options")
        seen.like = _like(event)
        self.move(task_id, seen)
        seen.elastic, seen.resources = event.elastic, event.resources
        seen.place = (event.key, seen.place[1])
        # The timeout of a running attempt does not change.
        seen.timeout, seen.idempotent = event.timeout_ns, event.idempotent
        seen.owner = event.owner
        if event.due_ns is not None:
            seen.due = event.due_ns
            heappush(self.dues, (event.due_ns, task_id, "delay"))
        if event.deadline_ns != seen.deadline and event.deadline_ns is not None:
            heappush(self.dues, (event.deadline_ns, task_id, "deadline"))
        seen.deadline = event.deadline_ns
        self.touched[task_id] = None

    def live(self, event: OrchestratorStarted) -> None:
        self.epoch = event.epoch

    def change_worker(self, _: Event) -> None:
        self.freed = True

    def join(self, event: AgentJoined) -> None:
        capacity = event.agent.capacity
        own = {} if capacity is None else dict(capacity.unit_names)
        self.own[event.agent.name] = own
        self.freed = True

    def allocate(self, event: ResourcesAllocated) -> None:
        name = event.allocation_id
        if name in self.allocations:
            _breach("released", f"allocation {name} was granted twice")
        alloc = self.charged(event.resources, event.owner)
        self.allocations[name] = event.owner, alloc
        self.hold("", alloc, 0)
        self.grant(name, alloc)
        self.units_by_hand[name] = event.units
        self.hold_units("", event.units)
        self.check_units(name, "", event.resources, event.units)

    def release_by_hand(self, event: ResourcesReleased) -> None:
        name = event.allocation_id
        _, alloc = self.allocations.pop(name, ("", ()))
        if _of_pools(alloc) != event.resources:
            _breach("released", f"allocation {name} was not held")
        self.give_back("", alloc, 0)
        self.hold_units("", self.units_by_hand.pop(name, ()), -1)

    def charged(self, alloc: Units, who: _Seen | str) -> Units:
        """Return *alloc* with its share of quotas, of a task or an owner."""
        had = held = dict(_of_pools(alloc))
        for whose in _subjects(who):
            for name, _ in self.quotas.get(whose, ()):
                units = had.get(name, 0)
                if name == "tasks":
                    units = 0 if isinstance(who, str) else 1_000_000
                if units:
                    held = {**held, f"quota:{whose[0]}={whose[1]}:{name}": units}
        return tuple(sorted(held.items()))

    def tokens_of(self, whose: tuple[str, str], now: int) -> Fraction:
        """Return how many attempts of *whose* quota may start at *now*."""
        tokens, since = self.tokens[whose]
        limits = dict(self.quotas[whose])
        more = Fraction(limits["starts_per_second"] * (now - since), 10**15)
        return min(Fraction(limits["burst"], 10**6), tokens + more)

    def change_rate(
        self, whose: tuple[str, str], limits: dict[str, int], now: int
    ) -> None:
        """Give a new rate all its tokens, and a changed one the old rest."""
        tokens = Fraction(limits.get("burst", 0), 10**6)
        if whose in self.tokens:
            tokens = min(tokens, self.tokens_of(whose, now))
            del self.tokens[whose]
        if "burst" in limits:
            self.tokens[whose] = tokens, now

    def change_quotas(self, event: QuotasChanged) -> None:
        for kind, who, limits in event.quotas:
            self.change_rate((kind, who), dict(limits), event.at_ns)
            limits_of = self.soft if kind.startswith("soft ") else self.totals
            for name, _ in self.quotas.pop((kind, who), ()):
                limits_of.pop(f"quota:{kind}={who}:{name}", None)
            if limits:
                self.quotas[kind, who] = limits
            for name, units in limits:
                if name not in ("starts_per_second", "burst"):
                    limits_of[f"quota:{kind}={who}:{name}"] = units
        runs = {who for kind, who, _ in event.quotas if kind.endswith("workflow")}
        for task_id, seen in self.tasks.items() if runs else ():
            if seen.run_id in runs:
                self.move(task_id, seen)
        self.recharge()
        self.freed = True

    def recharge(self) -> None:
        """Count the held amounts again, by the present quotas."""
        for task_id, seen in self.tasks.items():
            if seen.under_way and (task_id, seen.attempt) not in self.leaks:
                alloc = self.charged(seen.alloc, seen)
                self.swap(seen.worker, seen.alloc, alloc)
                seen.alloc = alloc
        for key, (worker, had, slots) in self.leaks.items():
            seen = self.tasks[key[0]]
            alloc = self.charged(had, seen)
            self.swap(worker, had, alloc)
            self.leaks[key] = worker, alloc, slots
        for name, (tenant, had) in self.allocations.items():
            alloc = self.charged(had, tenant)
            self.swap("", had, alloc)
            self.allocations[name] = tenant, alloc

    def swap(self, worker: str, had: Units, has: Units) -> None:
        """Replace the amounts that count against quotas."""
        self.hold(worker, tuple((name, -units) for name, units in had), 0)
        self.hold(worker, has, 0)

    def change_pools(self, event: PoolsChanged) -> None:
        for name in event.gone:
            if self.used.get(name):
                _breach("released", f"{name} is gone, and {self.used[name]} is held")
            del self.totals[name]
        self.totals.update(event.totals)
        for name in (*event.gone, *dict(event.totals)):
            self.named.pop(name, None)
        self.named.update(event.units)
        self.freed = True


_RARE: Final[dict[type[Event], Callable[[_Books, Any], None]]] = {
    TaskFailed: _Books.fail,
    TaskCancelled: _Books.cancel,
    TaskRetrying: _Books.retry,
    TaskBlocked: _Books.block,
    TaskReleased: _Books.release,
    TaskRecalled: _Books.recall,
    TaskUnblocked: _Books.unblock,
    TaskSuspended: _Books.suspend,
    TaskResumed: _Books.resume,
    TaskDue: _Books.due,
    TaskReprioritised: _Books.reorder,
    TaskOptionsChanged: _Books.change,
    TaskRepointed: _Books.repoint,
    TaskParentsAdded: _Books.extend,
    AttemptStopping: _Books.stop,
    AttemptWaiting: _Books.yield_slot,
    AttemptReturned: _Books.reclaim_slot,
    AllocationChanged: _Books.change_allocation,
    SlotLeaked: _Books.leak,
    SlotRecovered: _Books.recover_slot,
    LateResultIgnored: _Books.ignore,
    OrchestratorStarted: _Books.live,
    EventEmitted: _Books.emit,
    AgentJoined: _Books.join,
    AgentLost: _Books.change_worker,
    AgentReturned: _Books.change_worker,
    AgentTripped: _Books.change_worker,
    AgentProbed: _Books.change_worker,
    AgentRestored: _Books.change_worker,
    AgentDraining: _Books.change_worker,
    PoolsChanged: _Books.change_pools,
    QuotasChanged: _Books.change_quotas,
    ResourcesAllocated: _Books.allocate,
    ResourcesReleased: _Books.release_by_hand,
}


class Watch:
    """
    A watch over a kernel, which checks the guarantees after every step.

    Args:
        new_kernel: Makes a kernel like the one that is watched, for the fold.
        entries: Returns the entries of the journal after a crash.
        truth: Returns whether an attempt has really completed, where that is known.
        begun: Returns the attempts that have really begun, where that is known.
    """

    def __init__(
        self,
        new_kernel: Callable[[], Kernel],
        entries: Callable[[], Iterable[Entry]] = tuple,
        truth: Truth | None = None,
        begun: Callable[[], Iterable[tuple[int, str, int]]] = tuple,
    ) -> None:
        self._new_kernel = new_kernel
        self._entries = entries
        self._truth = truth
        self._begun = begun
        self._acknowledged: dict[str, TaskState | None] = {}
        self._folded = new_kernel()
        self._books = self._new_books()
        self._steps = 0

    def _new_books(self) -> _Books:
        config = self._folded.config
        pools = self._folded.pools
        totals = {name: pool.total for name, pool in pools.items()}
        return _Books(
            config.concurrency,
            config.grace_ns,
            config.poison_attempts,
            totals,
            {n: tuple(p.units.units) for n, p in pools.items() if p.units is not None},
        )

    def step(
        self, kernel: Kernel, items: Iterable[tuple[Event, Any]], now: int
    ) -> None:
        """
        Check a step of the kernel.

        Args:
            kernel: The kernel after the step.
            items: The events of the step, in order, each with its cargo.
            now: The time of the step in ns.

        Raises:
            Breach: A guarantee does not hold.
        """
        books = self._books
        read, folded, truth = books.read, self._folded, self._truth
        starting = False
        cls: Any = None
        event: Any
        for event, cargo in items:
            cls = type(event)
            if cls is TaskStarted:
                starting = True
            # After a failure of a policy, a wait whose event has come may complete.
            elif (
                starting
                and cls.__name__ not in _AFTER_STARTS
                and not (cls is TaskCompleted and not event.attempt)
            ):
                kind = cls.__name__
                _breach("instant", f"{kind} {event.seq} follows a start at one instant")
            if cls is TaskCompleted and truth is not None:
                self._check_end(event, kernel.epoch, truth)
            read(event)
            fold(folded, event, cargo)
        if books.seq != kernel.seq:
            _breach("numbered", f"{kernel.seq - books.seq} events were not told")
        self._check_step(kernel, now)
        if starting and cls is TaskStarted and books.last_above:
            self._check_soft(kernel, kernel.tasks[books.last_above], now)
        self._steps += 1
        if not self._steps % _EVERY:
            self.finished(kernel)

    def _check_end(self, event: TaskCompleted, epoch: int, truth: Truth) -> None:
        task_id, attempt = event.task_id, event.attempt
        # If it is not under way, a person has decided so.
        if self._books.tasks[task_id].under_way and not truth(epoch, task_id, attempt):
            _breach(
                "fence",
                f"{task_id}: attempt {attempt} of this incarnation has not ended",
            )

    def _check_begun(self) -> None:
        """Check that all begun attempts of the last incarnation are kept."""
        books = self._books
        for epoch, task_id, attempt in self._begun():
            seen = books.tasks.get(task_id)
            if seen is None:
                _breach("committed", f"{task_id} has begun, and was never submitted")
            elif not seen.idempotent and (epoch, attempt) > (books.epoch, seen.attempt):
                _breach("committed", f"{task_id}: nobody knows of attempt {attempt}")

    def _check_step(self, kernel: Kernel, now: int) -> None:
        books = self._books
        touched, books.touched = books.touched, {}
        started, books.started = books.started, []
        wrong = differences(kernel, self._folded, touched)
        if wrong:
            _breach("folded", "; ".join(wrong))
        for task_id, name in books.heard.items():
            _breach("events", f"{name} came, and {task_id} waits")
        rows = kernel.tasks
        entered = False
        for task_id in touched:
            row = rows.get(task_id)
            seen = books.tasks[task_id]
            queue = seen.queue
            assert queue is not None  # noqa: S101 - set at submission
            if row is not None and row.state is _QUEUED:
                queue.add(task_id, seen.place)
                entered = True
            else:
                queue.members.pop(task_id, None)
        if books.submitted:
            self._check_rings()
        self._check_books(kernel)
        for task_id, seen in started:
            self._check_order(kernel, task_id, seen)
        if (entered or books.freed) and not kernel.paused:
            books.freed = False
            self._check_idle(kernel, now)
        if books.dues and books.dues[0][0] <= now:
            self._check_dues(rows, now)

    def _check_books(self, kernel: Kernel) -> None:
        books = self._books
        if kernel.running != books.running or books.running > books.concurrency:
            law = "capacity" if books.running > books.concurrency else "released"
            _breach(law, f"{books.running} slots are taken, not {kernel.running}")
        for name, pool in kernel.pools.items():
            used = books.used.get(name, 0)
            total = books.soft.get(name, books.total_of(name))
            limit = pool.total - pool.beyond
            if total != limit:
                _breach("capacity", f"of {name}, there is {total}, not {limit}")
            if used != pool.used:
                _breach("released", f"of {name}, {used} is held, not {pool.used}")
        on = books.on
        for name, worker in kernel.workers.items():
            running = worker.running
            if running > worker.limit or worker.capacity or running != on.get(name, 0):
                self._check_worker(name, worker)

    def _check_worker(self, name: str, worker: WorkerRow) -> None:
        books = self._books
        running = books.on.get(name, 0)
        if running != worker.running:
            _breach("released", f"{name} runs {running}, not {worker.running}")
        if running > worker.limit:
            _breach("capacity", f"{name} runs {running} of {worker.limit}")
        for resource, total in worker.capacity.items():
            used = books.used_on.get((name, resource), 0)
            if used > total:
                _breach("capacity", f"{name}: {used} {resource} of {total}")
            if used != worker.used.get(resource, 0):
                booked = worker.used.get(resource, 0)
                _breach("released", f"{name}: {used} {resource} is held, not {booked}")

    def _check_order(self, kernel: Kernel, task_id: str, seen: _Seen) -> None:
        queue = seen.queue
        assert queue is not None  # noqa: S101 - set at submission
        if not queue.members:
            return
        first = queue.first(kernel.vetoed, kernel.tasks)
        if first is not None and first[:2] < seen.place:
            _breach("order", f"{task_id} has begun, and {first[2]} was before it")

    def _check_soft(self, kernel: Kernel, last: TaskRow, now: int) -> None:
        firsts = [
            kernel.tasks[first[2]]
            for queue in self._books.queues.values()
            if queue.members
            and (first := queue.first(kernel.vetoed, kernel.tasks)) is not None
        ]
        row = passed_over(kernel, last, firsts, now)
        if row is not None:
            _breach("soft", f"{last.id} is above its quota, and {row.id} had to wait")

    def _check_idle(self, kernel: Kernel, now: int) -> None:
        books = self._books
        if books.running >= books.concurrency:
            return
        for queue in books.queues.values():
            if not queue.members:
                continue
            first = queue.first(kernel.vetoed, kernel.tasks)
            if first is None:
                continue
            row = kernel.tasks[first[2]]
            if _seems_free(kernel, row):
                explanation = explain(kernel, row, now)
                if explanation.runnable:
                    _breach(
                        "idle", f"{row.id} waits, and nothing keeps it: {explanation}"
                    )

    def _check_rings(self) -> None:
        books = self._books
        submitted, books.submitted = books.submitted, []
        tasks = {name: books.tasks[name] for name in submitted}
        # A released or ended task waits for nobody.
        ring = find_ring(
            {
                name: () if seen.joined or seen.ended else seen.parents
                for name, seen in tasks.items()
            }
        )
        if ring:
            _breach("ring", f"{' → '.join((*ring, ring[0]))} was accepted")

    def _check_dues(self, rows: Mapping[str, TaskRow], now: int) -> None:
        books = self._books
        dues = books.dues
        while dues and dues[0][0] <= now:
            when, task_id, kind = heappop(dues)
            seen = books.tasks[task_id]
            row = rows.get(task_id)
            if seen.ended is not None or row is None:
                continue
            stopping = row.extra is not None and row.extra.stop != ""
            late = False
            if kind == "timeout":
                late = seen.under_way and seen.timer == when and not stopping
            elif kind == "delay":
                # An end at the same instant may have released it already.
                held = row.extra is not None and row.extra.due_ns == when
                late = seen.due == when and held
            elif kind == "deadline":
                is_due = seen.under_way or row.state is not _S.RUNNING
                late = seen.deadline == when and is_due and not stopping
            elif kind == "age":
                late = seen.attempt == 0
            else:
                late = seen.under_way and kind == f"grace {seen.attempt}" and stopping
            if late:
                over = (now - when) / 1e9
                _breach("due", f"{task_id}: its {kind} was over {over:g} s ago")

    # -- crashes -------------------------------------------------------------------

    def crashed(self, acknowledged: Mapping[str, TaskState | None]) -> None:
        """
        Note that the kernel has crashed.

        Args:
            acknowledged: The answers to callers: a task was accepted (None), or has
                ended so.
        """
        self._acknowledged = dict(acknowledged)

    def recovered(self, kernel: Kernel, now: int) -> None:  # noqa: ARG002 - an observer's
        """
        Check a new incarnation of the kernel, whose first events come in `step` next.

        Raises:
            Breach: A guarantee does not hold.
        """
        self._folded = self._new_kernel()
        self._books = self._new_books()
        for event, cargo in self._entries():
            self._books.read(event)
            fold(self._folded, event, cargo)
        self._books.started.clear()
        self._books.submitted.clear()
        self._check_begun()
        for task_id, row in kernel.tasks.items():
            seen = self._books.tasks.get(task_id)
            if seen is not None and row.state is _QUEUED and seen.queue is not None:
                seen.queue.add(task_id, seen.place)
        for task_id, state in self._acknowledged.items():
            kept = kernel.tasks.get(task_id)
            current = kernel.evicted.get(task_id) if kept is None else kept.state
            if current is None:
                _breach("acknowledged", f"{task_id} was accepted, and is gone")
            if state is not None and current is not state:
                _breach("acknowledged", f"{task_id} was {state}, and is {current}")

    def finished(self, kernel: Kernel) -> None:
        """
        Count everything again, and compare everything.

        Raises:
            Breach: Something does not add up.
        """
        try:
            check_invariants(kernel)
        except InternalError as error:
            law = "invariants"
            raise Breach(law, error.message) from error
        wrong = differences(kernel, self._folded)
        if wrong:
            _breach("folded", "; ".join(wrong))
        for task_id, row in kernel.tasks.items():
            ended = self._books.tasks[task_id].ended
            if (row.state in TERMINAL) != (ended is not None):
                _breach("terminal", f"{task_id} is {row.state}, not {ended}")


def _seems_free(kernel: Kernel, row: TaskRow) -> bool:
    """Return whether a worker and the pools seem to have room for *row*."""
    bucket = row.bucket
    if bucket.workers_version < 0:
        return True
    need = bucket.need
    if need and kernel.rigid and pool_shortage(kernel, need) is not None:
        return False
    return any(
        worker.running < worker.limit
        and not worker.lost
        and (not worker.capacity or shortage(worker, wanted(bucket, worker)) is None)
        for worker in bucket.workers
    )


def _like(event: TaskSubmitted | TaskOptionsChanged) -> tuple[Any, ...]:
    needs = event.requires, event.resources, event.elastic
    avoid = getattr(event, "avoid", ())
    return (*needs, event.timeout_ns, event.idempotent, event.owner, avoid)


def _subjects(who: _Seen | str) -> list[tuple[str, str]]:
    """Return the owners of quotas for a task or an owner, with soft ones."""
    if isinstance(who, str):
        names = {"owner": who}
    else:
        names = {"type": who.type, "owner": who.owner or "", "workflow": who.run_id}
    hard = [(kind, name) for kind, name in names.items() if name]
    return hard + [(f"soft {kind}", name) for kind, name in hard]


def _of_pools(alloc: Units) -> Units:
    """Return the part of *alloc* that comes from pools, not from quotas."""
    return tuple(pair for pair in alloc if not pair[0].startswith("quota:"))


def _breach(law: str, message: str) -> None:
    raise Breach(law, message)
