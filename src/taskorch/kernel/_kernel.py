"""
The kernel: commands in, facts and effects out.

The two commands of the plain path, `submit` and `complete`, and the choice of what
starts next are written out here for speed; everything else lives beside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from attrs import evolve

from taskorch.errors import DuplicateTaskError, InternalError
from taskorch.events import (
    AgentJoined,
    Event,
    Fact,
    LateResultIgnored,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kernel import (
    _admission,
    _attempts,
    _books,
    _control,
    _dependencies,
    _dispatch,
    _edges,
    _joins,
    _leases,
    _options,
    _parking,
    _tick,
    _timers,
    _waits,
)
from taskorch.kernel._commands import (
    AddParents,
    CancelTask,
    ChangeOptions,
    Command,
    DecideTask,
    EmitEvent,
    EndAttempt,
    ExpireTasks,
    ResumeTask,
    SetPriority,
    SubmitTask,
    SuspendTask,
)
from taskorch.kernel._deciders import Deciders
from taskorch.kernel._effects import Effect
from taskorch.kernel._faults import describe
from taskorch.kernel._history import remember
from taskorch.kernel._state import (
    AgentRow,
    Bucket,
    Kept,
    KernelConfig,
    Leak,
    More,
    PoolRow,
    Record,
    Spec,
    TaskRow,
    Terms,
    TypeRow,
)
from taskorch.kernel._transitions import TRANSITIONS
from taskorch.model import Agent, PoolStats, TaskState, Units
from taskorch.protocols import AgentView, PoolView

if TYPE_CHECKING:
    # The generator itself comes in from outside.
    from random import Random

_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING
_COMPLETED: Final = TaskState.COMPLETED

#: Buckets and types kept before idle ones are forgotten.
_MANY: Final = 4_096
_OTHER: Final = "(other)"


class DecisionContext:
    """What every policy is given: see `taskorch.protocols.Context`."""

    __slots__ = ("_kernel", "now_ns", "random")

    def __init__(self, kernel: Kernel, random: Random) -> None:
        self._kernel = kernel
        self.now_ns: int = 0
        self.random: Random = random

    @property
    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return self.now_ns / 1e9

    @property
    def view(self) -> KernelView:
        """The state around the question."""
        return KernelView(self._kernel)


class KernelView:
    """The state as a policy sees it; read only, and live."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def queued(self) -> int:
        """Tasks that wait for a slot, an agent or resources."""
        return self._kernel.queued + self._kernel.admitting

    @property
    def running(self) -> int:
        """Attempts under way."""
        return self._kernel.active

    def agents(self) -> Sequence[AgentView]:
        """All agents, in the order in which they joined."""
        return [agent.view for agent in self._kernel.agents.values()]

    def pools(self) -> dict[str, PoolView]:
        """All pools, by name."""
        return {name: pool.view for name, pool in self._kernel.pools.items()}

    def state_of(self, task_id: str) -> TaskState | None:
        """The state of a task, or None if it is not known."""
        row = self._kernel.tasks.get(task_id)
        return self._kernel.retired.get(task_id) if row is None else row.state


class FaultPoints(Protocol):
    """Protocol: decides where, in a simulation, the unusual but legal happens."""

    def hit(self, name: str) -> bool:
        """Whether it happens now at the point *name*."""
        ...


def _nothing(cargo: Any, event: Any) -> None:
    """For a driver that keeps nothing."""


class Kernel:
    """
    The state machine of one orchestrator.

    Not thread-safe: the driver holds a lock around every call. After a call the
    driver takes what is in `starts`, `effects` and `touched`, and empties them.

    Args:
        config: What does not change.
        deciders: The answers of the policies.
        random: The only source of randomness, for policies.
        pools: The resources that there are, in millionths.
    """

    def __init__(  # noqa: PLR0915 - all that there is
        self,
        config: KernelConfig,
        deciders: Deciders,
        random: Random,
        pools: Units = (),
    ) -> None:
        self.config = config
        self.deciders = deciders
        self.context: DecisionContext = DecisionContext(self, random)
        self.concurrency: int = config.concurrency
        #: Finished tasks beyond which the oldest leaves memory; a driver may raise it
        #: and say itself when they `retire`.
        self.keep: int = config.keep_finished
        #: Whether the StateMachine wants to be asked about anything.
        self.watched: bool = deciders.watches is None or bool(deciders.watches)
        #: Whether the allocator grants what fits, whole, and nothing else: then it is
        #: asked only about what fits.
        self.rigid: bool = bool(getattr(deciders, "rigid", False))
        #: Whether a submission needs nobody's consent: see `consider`.
        self.plain = False
        #: Nothing starts before the driver is ready, or while it drains to stop.
        self.paused = True

        self.tasks: dict[str, TaskRow] = {}
        #: How many there were at once, since it was made smaller.
        self.most_tasks: int = _MANY
        #: Finished tasks that have left memory.
        self.retired: dict[str, TaskState] = {}
        #: Those of them that had dependencies, or names of the user's choice.
        self.dropped: list[TaskRow] = []
        self.finished: deque[TaskRow] = deque()
        self.agents: dict[str, AgentRow] = {}
        #: Rises when an agent joins: what was said of the agents is out of date.
        self.agents_version: int = 0
        self.pools: dict[str, PoolRow] = {
            name: PoolRow(name, units) for name, units in pools
        }
        self.buckets: dict[Spec, Bucket] = {}
        self.bucket_no: int = 0
        self.most_buckets: int = _MANY
        self.types: dict[str, TypeRow] = {}
        #: Buckets that may have something to start: `(key, seq, bucket)`.
        self.open: list[tuple[Any, int, Bucket]] = []
        #: How many of these have been replaced by others.
        self.stale_entries = 0
        #: Buckets that have something to start, and nowhere to start it.
        self.parked: dict[Bucket, None] = {}
        #: Those of them that a policy put off: asked again when something changes.
        self.parked_any: dict[Bucket, None] = {}
        #: Tasks whose start the StateMachine vetoed, until something changes.
        self.vetoed: dict[TaskRow, None] = {}
        #: Attempts that wait to have their slot again.
        self.returning: deque[TaskRow] = deque()
        #: Attempts that would not stop: what they still hold.
        self.leaked: dict[tuple[str, int], Leak] = {}
        self.timers: list[_timers.Timer] = []
        self.timer_no = 0
        #: With more than this, those that have lost their meaning are taken out.
        self.most_timers = _timers.FEW_TIMERS

        #: Slots taken; leaked ones count, those of waiting attempts do not.
        self.running: int = 0
        #: Tasks that are RUNNING.
        self.active: int = 0
        self.queued: int = 0
        #: Tasks of the batch that is being considered.
        self.admitting = 0
        self.pending: int = 0
        self.retrying = 0
        self.blocked = 0
        self.suspended = 0
        self.completed: int = 0
        self.failed = 0
        self.cancelled = 0
        self.submissions: int = 0
        #: The number of this life of the orchestrator: see `recover`.
        self.epoch: int = 1
        #: Facts of an earlier life are being applied: what follows from each of them
        #: is in facts of its own.
        self.folding = False
        #: Parents of a batch that is being folded, before their own submissions.
        self.unborn: dict[str, TaskRow] = {}
        #: Tasks with terms of their own about which something is to be decided, and
        #: whether that is being done.
        self.changed: deque[TaskRow] = deque()
        self.looking = False
        #: Tasks that wait, by their events; and events that nobody waited for.
        self.awaited: dict[str, dict[TaskRow, None]] = {}
        self.kept: dict[str, Kept] = {}
        #: Called when a wait ends well, before that is told, with the cargo of the task
        #: and that of its event (None: its time is over).
        self.hand_over: Callable[[Any, Any], object] = _nothing
        #: Places in our own code where a simulation makes the unusual happen.
        self.points: FaultPoints | None = None
        #: PENDING tasks that wait only for a time, and RETRYING ones.
        self.delayed = 0
        self.retries_scheduled = 0
        self.retries_recovered = 0
        self.retries_exhausted = 0
        self.causes: dict[str, int] = {}

        self.seq: int = 0
        #: Where facts go, as `(fact, cargo)`; None: nobody listens.
        self.sink: list[tuple[Fact, Any]] | None = None
        self.tell_submitted: bool = False
        self.tell_started: bool = False
        self.tell_completed: bool = False
        self.starts: list[TaskRow] = []
        self.effects: list[Effect] = []
        #: Tasks, with their cargo, that ended or were blocked otherwise than plainly.
        self.touched: list[tuple[TaskRow, Any]] = []

    # -- facts ---------------------------------------------------------------------

    def note(self, cls: type[Event], now: int, *fields: Any, cargo: Any = None) -> None:
        """Record a fact."""
        self.seq += 1
        if self.sink is not None:
            self.sink.append(((cls, self.seq, now, *fields), cargo))

    def move(self, row: TaskRow, after: TaskState, now: int, detail: str = "") -> None:
        """
        Change the state of *row*, with its counters and its history.

        The plain path changes them in place instead.
        """
        before = row.state
        if after not in TRANSITIONS[before]:
            msg = f"{row.id}: no transition from {before} to {after}"
            raise InternalError(msg)
        self.count(before, -1)
        self.count(after, 1)
        remember(row, after, now, detail)
        row.state = after

    def count(self, state: TaskState, change: int) -> None:
        """Adjust the counter of *state*; queued tasks are counted by `enqueue`."""
        if state is _RUNNING:
            self.active += change
        elif state is not _QUEUED:
            name = state.value
            setattr(self, name, getattr(self, name) + change)

    def listen(
        self, sink: list[tuple[Fact, Any]] | None, classes: frozenset[type[Event]]
    ) -> None:
        """Send facts to *sink*; of the three frequent ones only those in *classes*."""
        self.sink = sink
        self.tell_submitted = sink is not None and TaskSubmitted in classes
        self.tell_started = sink is not None and TaskStarted in classes
        self.tell_completed = sink is not None and TaskCompleted in classes

    # -- set-up --------------------------------------------------------------------

    def add_agent(self, info: Agent, now: int) -> AgentRow:
        """
        An agent joins; what nobody could do before may start now.

        One whose name is known has started anew: what it had is lost.
        """
        row = self.agents.get(info.name)
        if row is None:
            row = self.agents[info.name] = AgentRow(info)
        else:
            _leases.lose(self, row, now, "it has started anew")
        self.note(AgentJoined, now, info)
        _leases.join(self, row, info, now)
        return row

    def beat(
        self, name: str, attempts: Iterable[tuple[str, int]], now: int
    ) -> list[tuple[str, int]]:
        """
        An agent with a lease gives a sign of life.

        Args:
            name: Its name.
            attempts: Task and number of all that it runs, of this epoch.
            now: The time in ns.

        Returns:
            Those of *attempts* that are not current any more: it is to stop them.
        """
        return _leases.beat(self, self.agents[name], attempts, now)

    def bucket(self, spec: Spec) -> Bucket:
        """The bucket of like tasks."""
        if self.points is not None and self.points.hit("buckets.forget"):
            self._forget_idle()
        found = self.buckets.get(spec)
        if found is None:
            if len(self.buckets) > self.most_buckets:
                self._forget_idle()
                self.most_buckets = _MANY + 2 * len(self.buckets)
            self.bucket_no += 1
            type_row = self._type_row(spec.type)
            found = self.buckets[spec] = Bucket(spec, type_row, self.bucket_no)
        return found

    def _forget_idle(self) -> None:
        for spec, bucket in list(self.buckets.items()):
            if not bucket.size and bucket.parked is None and bucket.entry is None:
                del self.buckets[spec]
                bucket.forgotten = True
                # So that it does not take the plain path.
                bucket.checked = -1

    def _type_row(self, name: str) -> TypeRow:
        found = self.types.get(name)
        if found is None:
            if len(self.types) >= _MANY:
                name = _OTHER
            found = self.types.setdefault(name, TypeRow())
        return found

    # -- the plain path ------------------------------------------------------------

    def submit(  # noqa: C901 - written out for speed
        self,
        task_id: str,
        bucket: Bucket,
        cargo: Any,
        now: int,
        priority: int = 0,
        parents: tuple[TaskRow, ...] = (),
        *,
        named: bool = False,
    ) -> TaskRow:
        """
        Accept a task that may start as soon as all its parents have completed.

        Args:
            task_id: Its id.
            bucket: That of like tasks.
            cargo: The driver's own.
            now: The time in ns.
            priority: Its priority.
            parents: What it waits for, each once.
            named: Whether its id is of the user's choice.

        Raises:
            UsageError: It is refused; nothing has changed.
        """
        row = TaskRow(task_id, self.submissions, bucket, cargo, now)
        row.named = named
        known = bucket.checked == self.agents_version and not self.watched
        max_age = None
        if known and not self.plain and not priority and not parents:
            # A queue of the user's is asked, and nobody else.
            row.key, max_age = _admission.ask_queue(self, row, 0, now)
            if max_age is not None:
                _timers.arm(self, now + max_age, _timers.EXPIRE, row, 0)
        elif not known or not self.plain:
            admitted = _admission.consider(
                self, row, now, priority=priority, parents=parents
            )
            _admission.accept(self, admitted, now)
            return row
        if priority:
            row.key = now - priority * (self.deciders.aging_ns or 0)
            row.more = More()
            row.more.priority = priority
        self.submissions += 1
        self.tasks[task_id] = row
        if parents:
            _dependencies.attach(row, parents)
        self.seq += 1
        if self.tell_submitted:
            self.tell_of_submission(row, now, priority, max_age, parents=parents)
        if parents and row.links is not None and row.links.waiting:
            # As in `settle`.
            row.state = _PENDING
            row.ready_ns = 0
            self.pending += 1
            if row.more is not None and row.more.blocked_by:
                _dependencies.reconsider(self, row, now)
            return row
        # As in `enqueue`.
        self.queued += 1
        first = bucket.push(row)
        if bucket.parked is not None:
            if first:
                _parking.head_came(self, bucket, row)
        elif bucket.entry is None:
            bucket.entry = entry = (row.key, row.seq, bucket)
            heappush(self.open, entry)
        elif first:
            _parking.open_bucket(self, bucket, row)
        return row

    def submit_general(
        self,
        task_id: str,
        bucket: Bucket,
        cargo: Any,
        now: int,
        *,
        priority: int = 0,
        parents: Sequence[TaskRow] = (),
        not_before_ns: int | None = None,
        deadline_ns: int | None = None,
        rerun_of: TaskRow | None = None,
        terms: Terms | None = None,
    ) -> TaskRow:
        """
        Accept a task of any kind.

        Raises:
            UsageError: It is refused; nothing has changed.
        """
        row = TaskRow(task_id, self.submissions, bucket, cargo, now)
        admitted = _admission.consider(
            self,
            row,
            now,
            priority=priority,
            parents=parents,
            not_before_ns=not_before_ns,
            deadline_ns=deadline_ns,
            rerun_of=rerun_of,
            terms=terms,
        )
        _admission.accept(self, admitted, now)
        return row

    def consider(
        self,
        row: TaskRow,
        now: int,
        *,
        priority: int = 0,
        parents: Sequence[TaskRow] = (),
        not_before_ns: int | None = None,
        deadline_ns: int | None = None,
        rerun_of: TaskRow | None = None,
        terms: Terms | None = None,
    ) -> _admission.Admitted:
        """
        Ask all who must agree to *row*; nothing changes.

        Raises:
            UsageError: It is refused.
        """
        return _admission.consider(
            self,
            row,
            now,
            priority=priority,
            parents=parents,
            not_before_ns=not_before_ns,
            deadline_ns=deadline_ns,
            rerun_of=rerun_of,
            terms=terms,
        )

    def accept(self, admitted: _admission.Admitted, now: int) -> None:
        """Take in a task that was considered in this step."""
        _admission.accept(self, admitted, now)

    def tell_of_submission(
        self,
        row: TaskRow,
        now: int,
        priority: int,
        max_age: int | None = None,
        admitted: _admission.Admitted | None = None,
        parents: Sequence[TaskRow] = (),
    ) -> None:
        """
        The fact of a submission, for those who listen.

        Args:
            row: The task.
            now: The time in ns.
            priority: Its priority.
            max_age: How long it may wait, in ns.
            admitted: What else was settled of it; None: it has no dates and terms.
            parents: What it waits for.
        """
        spec = row.bucket.spec
        terms: tuple[Any, ...] = ()
        rerun_of = not_before_ns = deadline_ns = None
        if admitted is not None:
            terms = _admission.told(admitted.terms)
            parents = admitted.parents
            rerun_of = None if admitted.rerun_of is None else admitted.rerun_of.id
            not_before_ns = admitted.not_before_ns
            deadline_ns = admitted.deadline_ns
        fact = (
            TaskSubmitted,
            self.seq,
            now,
            row.id,
            spec.type,
            priority,
            tuple([parent.id for parent in parents]),
            spec.requires,
            spec.resources,
            rerun_of,
            spec.timeout_ns,
            spec.idempotent,
            row.key,
            not_before_ns,
            deadline_ns,
            None if max_age is None else now + max_age,
            row.named,
            *terms,
        )
        assert self.sink is not None  # noqa: S101 - set with tell_submitted
        self.sink.append((fact, row.cargo))

    def enqueue(self, row: TaskRow) -> None:
        """Put *row*, which is QUEUED, into its bucket."""
        self.queued += 1
        bucket = row.bucket
        if bucket.forgotten:
            bucket = row.bucket = self.bucket(bucket.spec)
        first = bucket.push(row)
        if bucket.parked is not None:
            if first:
                _parking.head_came(self, bucket, row)
        elif first or bucket.entry is None:
            _parking.open_bucket(self, bucket, row)

    def dequeue(self, row: TaskRow) -> None:
        """Take *row* out of its bucket by the side door."""
        self.queued -= 1
        bucket = row.bucket
        bucket.leave(row)
        if self.points is not None and self.points.hit("bucket.compact"):
            bucket.compact()
        if bucket.parked is not None and (
            not bucket.size or _parking.is_whimsical(bucket)
        ):
            _parking.reopen(self, bucket)

    def requeue(self, row: TaskRow, now: int, detail: str = "") -> None:
        """Put a task that has left the queue into it again, at its old place."""
        row.ready_ns = now
        self.move(row, _QUEUED, now, detail)
        row.ticket += 1
        self.enqueue(row)

    def complete(  # noqa: C901 - written out for speed
        self, row: TaskRow, attempt: int, now: int
    ) -> bool:
        """
        The attempt ended well; whether that counts.

        A late result, of an attempt that is not the current one, does not.
        """
        if row.more is not None or row.attempt != attempt or row.state is not _RUNNING:
            return _attempts.end(self, row, attempt, "completed", now)
        agent = row.agent
        assert agent is not None  # noqa: S101 - it runs
        self.running -= 1
        self.active -= 1
        self.completed += 1
        agent.running -= 1
        agent.completed += 1
        row.state = _COMPLETED
        row.ended_ns = now
        bucket = row.bucket
        started = row.started_ns
        record = agent.records.get(bucket.spec.type)
        if record is None:
            record = self.record(agent, bucket.spec.type)
        record.add(now - started)
        type_row = bucket.type_row
        type_row.completed += 1
        type_row.samples.append((row.submitted_ns, row.ready_ns, started, now))
        if row.alloc:
            _books.release(self, agent, row.alloc)
            row.alloc = ()
        if agent.slots.heap:
            _parking.wake(self, agent.slots)
        if self.vetoed or self.parked_any:
            _parking.stir(self)
        self.seq += 1
        if self.tell_completed and self.sink is not None:
            fact = (
                TaskCompleted,
                self.seq,
                now,
                row.id,
                attempt,
                agent.name,
                now - started,
            )
            self.sink.append((fact, row.cargo))
        links = row.links
        if links is not None:
            links.parents = ()
            if links.dependents:
                _dependencies.release(self, row, now)
        finished = self.finished
        finished.append(row)
        if len(finished) > self.keep:
            self.retire()
        if self.changed:
            _joins.look(self, now)
        return True

    def record(self, agent: AgentRow, task_type: str) -> Record:
        """The record of *agent* at *task_type*."""
        found = agent.records.get(task_type)
        if found is None:
            if len(agent.records) >= _MANY:
                task_type = _OTHER
            found = agent.records.setdefault(task_type, Record())
        return found

    def retire(self) -> None:
        """Let the oldest finished task leave memory."""
        row = self.finished.popleft()
        tasks = self.tasks
        if len(tasks) > self.most_tasks:
            self.most_tasks = len(tasks)
        elif len(tasks) < self.most_tasks >> 3:
            # A dict stays as large as it has been.
            self.tasks = tasks = dict(tasks)
            self.most_tasks = _MANY + len(tasks)
        del tasks[row.id]
        self.retired[row.id] = row.state
        if row.links is not None or row.named:
            # The driver has more to let go of, or to remember.
            self.dropped.append(row)
        else:
            row.cargo = None

    def dispatch(self, now: int) -> None:  # noqa: C901 - written out for speed
        """Start all that can start, the first in order first."""
        if self.returning:
            _attempts.serve_returning(self, now)
        heap = self.open
        concurrency = self.concurrency
        while heap and self.running < concurrency and not self.paused:
            entry = heap[0]
            bucket = entry[2]
            if bucket.entry is not entry:
                heappop(heap)
                continue
            row = bucket.head()
            if row is None:
                heappop(heap)
                bucket.entry = None
                if bucket.caller is not None:
                    _parking.pass_on(self, bucket)
                continue
            if (row.seq != entry[1] or row.key is not entry[0]) and (
                len(heap) > 1 or bucket.caller is not None
            ):
                # The head has changed since: look again at where it belongs.
                bucket.entry = entry = (row.key, row.seq, bucket)
                heapreplace(heap, entry)
                if bucket.caller is not None:
                    _parking.pass_on(self, bucket)
                continue
            agent = bucket.route
            if agent is None or bucket.route_version != self.agents_version:
                _dispatch.place(self, bucket, row, now)
                continue
            if agent.running >= agent.limit:
                _parking.park(self, bucket, row, (agent.slots,))
                continue
            # As in `start`.
            bucket.pop(row)
            self.queued -= 1
            row.state = _RUNNING
            row.started_ns = now
            row.attempt += 1
            row.agent = agent
            row.reason = bucket.route_reason
            agent.running += 1
            self.running += 1
            self.active += 1
            self.seq += 1
            if row.more is not None or bucket.spec.timeout_ns is not None:
                _dispatch.started(self, row, agent, now)
            if self.tell_started:
                self.tell_of_start(row, now)
            self.starts.append(row)
            if bucket.caller is not None:
                _parking.pass_on(self, bucket)

    def look(self, now: int) -> None:
        """Decide what is to be decided about tasks with terms of their own."""
        _joins.look(self, now)

    def start(
        self, row: TaskRow, agent: AgentRow, alloc: Units, now: int, reason: str
    ) -> None:
        """Begin an attempt of *row*, the head of its bucket, on *agent*."""
        row.bucket.pop(row)
        self.queued -= 1
        row.state = _RUNNING
        row.started_ns = now
        row.attempt += 1
        row.agent = agent
        agent.running += 1
        self.running += 1
        self.active += 1
        if alloc:
            row.alloc = alloc
            _books.take(self, agent, alloc)
        self.seq += 1
        row.reason = reason
        if (
            row.more is not None
            or row.bucket.spec.timeout_ns is not None
            or agent.lease_ns
        ):
            _dispatch.started(self, row, agent, now)
        if self.tell_started:
            self.tell_of_start(row, now)
        self.starts.append(row)

    def tell_of_start(self, row: TaskRow, now: int) -> None:
        """The fact of a start, for those who listen."""
        assert self.sink is not None  # noqa: S101 - set with tell_started
        assert row.agent is not None  # noqa: S101 - it has just started
        fact = (
            TaskStarted,
            self.seq,
            now,
            row.id,
            row.attempt,
            row.agent.name,
            row.alloc,
            row.reason,
        )
        self.sink.append((fact, row.cargo))

    # -- everything else -----------------------------------------------------------

    def end_attempt(
        self,
        row: TaskRow,
        attempt: int,
        outcome: str,
        now: int,
        error: BaseException | None = None,
        described: tuple[str, str] = ("", ""),
    ) -> bool:
        """
        An attempt has ended; whether that counts.

        Args:
            row: Its task.
            attempt: Its number: with the row, the fence.
            outcome: `completed`, `failed`, `stopped` (as it was asked to) or `lost`
                (its worker died).
            now: The time in ns.
            error: What it raised; handed to the retry handler, not kept.
            described: The error's type and message.
        """
        return _attempts.end(self, row, attempt, outcome, now, error, described)

    def cancel(self, row: TaskRow, now: int, reason: str) -> bool:
        """Call *row* off; False if it has ended."""
        return _control.cancel(self, row, now, reason)

    def suspend(self, row: TaskRow, now: int, *, holdable: bool) -> bool:
        """Put *row* aside; False if it has ended or is suspended already."""
        return _control.suspend(self, row, now, holdable=holdable)

    def resume(self, row: TaskRow, now: int) -> bool:
        """Let *row* go on; False if it is not suspended."""
        return _control.resume(self, row, now)

    def set_priority(self, row: TaskRow, priority: int, now: int) -> bool:
        """Move *row* in the queue; False if it has ended."""
        return _control.set_priority(self, row, priority, now)

    def consider_change(
        self,
        row: TaskRow,
        seen: TaskRow,
        now: int,
        *,
        names: tuple[str, ...],
        priority: int,
        not_before_ns: int | None = None,
        deadline_ns: int | None = None,
    ) -> _options.Change:
        """
        Ask all who must agree to other options of *row*; nothing changes.

        Args:
            row: The task.
            seen: A row that is in no kernel, for the policies: as it will be then.
            now: The time in ns.
            names: The options that are others.
            priority: The new one, if it is among them; likewise the dates.
            not_before_ns: Not to start before this time, in ns.
            deadline_ns: To have ended by this time, in ns.

        Raises:
            UsageError: They are refused: it has ended, or nobody could do it.
        """
        return _options.consider(
            self,
            row,
            seen,
            now,
            names=names,
            priority=priority,
            not_before_ns=not_before_ns,
            deadline_ns=deadline_ns,
        )

    def change_options(self, change: _options.Change, now: int) -> None:
        """Let a task have options that were considered in this step."""
        _options.take(self, change, now)

    def decide(self, row: TaskRow, verdict: str, now: int, reason: str = "") -> bool:
        """
        Settle *row*, which is held for a person, or waits; False if it has ended.

        Args:
            row: The task.
            verdict: `retry`, `fail` or `complete`.
            now: The time in ns.
            reason: Why, for its history.

        Raises:
            InvalidTransitionError: It is not held, or cannot be run.
        """
        return _control.decide(self, row, verdict, now, reason)

    def emit(self, name: str, cargo: Any, keep_ns: int, now: int) -> int:
        """
        An event has come: let go all who wait for it; how many.

        Args:
            name: Its name.
            cargo: The driver's own, for `hand_over`.
            keep_ns: If nobody waits for it, how long it is kept for those who come.
            now: The time in ns.
        """
        return _waits.emit(self, name, cargo, keep_ns, now)

    def expire(self, older_than_ns: int, now: int) -> list[TaskRow]:
        """Fail every task that has been queued for longer; which ones."""
        return _control.expire(self, older_than_ns, now)

    def repoint(self, row: TaskRow, rerun: TaskRow, now: int) -> None:
        """Let what waits for *row* wait for *rerun* instead."""
        _dependencies.repoint(self, row, rerun, now)

    def add_parents(
        self, row: TaskRow, parents: Sequence[TaskRow], now: int
    ) -> tuple[TaskRow, ...]:
        """
        Let *row* wait for *parents* too; those of them that are new to it.

        Raises:
            InvalidTransitionError: It does not wait for other tasks any more.
            CycleError: They wait for it, however indirectly.
        """
        return _edges.add_parents(self, row, parents, now)

    def yield_slot(self, row: TaskRow, attempt: int, now: int) -> bool:
        """The attempt waits for another task: its slot is free meanwhile."""
        return _attempts.yield_slot(self, row, attempt, now)

    def reclaim_slot(self, row: TaskRow, attempt: int, now: int) -> bool:
        """The wait is over; True if the attempt has its slot at once."""
        return _attempts.reclaim_slot(self, row, attempt, now)

    def tick(self, now: int) -> None:
        """Do what is due by *now*."""
        _tick.tick(self, now)

    def next_due(self) -> int | None:
        """When `tick` has something to do, in ns, or None."""
        return self.timers[0][0] if self.timers else None

    def row(self, task_id: str) -> TaskRow:
        """
        The row of a task in memory.

        Raises:
            KeyError: There is none.
        """
        return self.tasks[task_id]

    def pool_stats(self) -> dict[str, PoolStats]:
        """The pools as values."""
        return {
            name: PoolStats(pool.total / 1e6, pool.used / 1e6)
            for name, pool in self.pools.items()
        }

    def quiescent(self) -> bool:
        """Whether nothing can proceed without input from outside."""
        return not (self.active or self.starts or self.delayed)

    def handle(
        self, commands: Sequence[Command], now: int
    ) -> tuple[list[TaskRow], list[Effect]]:
        """
        Apply *commands*, all of the same instant, and then start what can start.

        What is due at that instant comes before the commands: an attempt that ends
        just as its timeout is over is too late.

        Returns:
            The rows whose attempts are to be started, and the other effects.

        Raises:
            UsageError: A command was refused, whole; those before it stand, and what
                they let start is started by the next call.
            KeyError: A command names a task that is not in memory, likewise; the end
                of an attempt may.
        """
        self.tick(now)
        for command in commands:
            self.apply(command, now)
        self.dispatch(now)
        starts, self.starts = self.starts, []
        effects, self.effects = self.effects, []
        # Facts say it too, to those who drive the kernel by commands.
        self.touched.clear()
        self.dropped.clear()
        return starts, effects

    def apply(self, command: Command, now: int) -> None:  # noqa: C901 - one a command
        """
        Apply one *command*; what it lets start is started by `dispatch`.

        Raises:
            UsageError: It was refused, whole.
            KeyError: It names a task that is not in memory; the end of an attempt may.
        """
        match command:
            case SubmitTask():
                self._apply_submit(command, now)
            case EndAttempt():
                self._apply_end(command, now)
            case CancelTask():
                self.cancel(self.row(command.task_id), now, command.reason)
            case SuspendTask():
                self.suspend(self.row(command.task_id), now, holdable=command.holdable)
            case ResumeTask():
                self.resume(self.row(command.task_id), now)
            case SetPriority():
                self.set_priority(self.row(command.task_id), command.priority, now)
            case ChangeOptions():
                self._apply_change(command, now)
            case AddParents():
                parents = [self.row(task_id) for task_id in command.after]
                self.add_parents(self.row(command.task_id), parents, now)
            case DecideTask():
                row = self.row(command.task_id)
                self.decide(row, command.verdict, now, command.reason)
            case EmitEvent():
                self.emit(command.name, command.cargo, command.keep_ns, now)
            case ExpireTasks():
                self.expire(command.older_than_ns, now)
            case _:
                assert_never(command)

    def _apply_submit(self, command: SubmitTask, now: int) -> None:
        if command.task_id in self.tasks or command.task_id in self.retired:
            msg = f"there is a task {command.task_id} already"
            raise DuplicateTaskError(msg, task_id=command.task_id)
        self.submit_general(
            command.task_id,
            self.bucket(command.spec),
            command.cargo,
            now,
            priority=command.priority,
            parents=[self.row(task_id) for task_id in command.after],
            not_before_ns=command.not_before_ns,
            deadline_ns=command.deadline_ns,
            terms=None if command.terms is None else evolve(command.terms),
        )

    def _apply_change(self, command: ChangeOptions, now: int) -> None:
        row = self.row(command.task_id)
        bucket = self.bucket(command.spec)
        seen = TaskRow(row.id, row.seq, bucket, row.cargo, row.submitted_ns)
        change = self.consider_change(
            row,
            seen,
            now,
            names=command.names,
            priority=command.priority,
            not_before_ns=command.not_before_ns,
            deadline_ns=command.deadline_ns,
        )
        self.change_options(change, now)

    def _apply_end(self, command: EndAttempt, now: int) -> None:
        task_id, attempt = command.task_id, command.attempt
        # The task of an attempt that would not stop may have left memory.
        leak = self.leaked.get((task_id, attempt))
        row = self.tasks.get(task_id) if leak is None else leak.row
        if row is None or command.epoch not in (None, self.epoch):
            # Of another life, or long over: there is nothing that it could change.
            self.note(LateResultIgnored, now, task_id, attempt, command.outcome)
            return
        error = command.error
        described = ("", "")
        if error is not None:
            described = (type(error).__name__, describe(error).partition(": ")[2])
        self.end_attempt(row, attempt, command.outcome, now, error, described)
