"""
Every order of events: all that can happen in a small world, one step after another.

A scope says what there is: a few tasks, two agents, a pool, and how often the world may
misbehave. `search` visits every state that any order of steps can lead to, breadth
first, and holds all laws after each step; if one is broken, it prints the shortest way
there. Where a simulation with random faults looks far, this looks everywhere near.

What the world can do at any time: a task is submitted, what was decided is committed,
an attempt completes or fails, its report comes late, or twice, a worker dies, an agent
is cut off, goes down or returns, time passes until something is due, a task is called
off, the orchestrator crashes and recovers from what was committed.

Two states are the same if nothing that can still happen could tell them apart: the
past is left out, and all times are relative to now.
"""

from __future__ import annotations

import pickle  # What is loaded here was dumped here.
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from io import BytesIO
from random import Random
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs

from taskorch.errors import InternalError
from taskorch.events import (
    CATALOGUE,
    AttemptStopping,
    Event,
    Fact,
    LateResultIgnored,
    OrchestratorStarted,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    make,
)
from taskorch.kernel import (
    AgentRow,
    CancelTask,
    Command,
    EndAttempt,
    Kernel,
    KernelConfig,
    Spec,
    StopAttempt,
    SubmitTask,
    TaskRow,
    check_invariants,
    differences,
    fold,
    recover,
)
from taskorch.kernel._timers import EXPIRE, LEASE, is_alive
from taskorch.model import TERMINAL, Agent, TaskState, Units

__all__ = ("LawBrokenError", "Reach", "Scope", "search")

_S: Final = TaskState
#: One unit of a resource, in millionths.
_ONE: Final = 1_000_000
_POOL: Final = "room"
#: It lives with us, and dies with us.
NEAR: Final = "near"
#: It lives elsewhere, and has a lease.
FAR: Final = "far"
_UP, _CUT, _DOWN = "is up", "is cut off", "is down"

#: The life of the orchestrator, the task and the attempt.
Fence: TypeAlias = tuple[int, str, int]
#: What happens: a verb, and what it is about.
Action: TypeAlias = tuple[Any, ...]

_ALL: Final = frozenset(CATALOGUE)
_ENDS: Final[dict[Any, TaskState]] = {
    TaskCompleted: _S.COMPLETED,
    TaskFailed: _S.FAILED,
    TaskCancelled: _S.CANCELLED,
}
#: What an attempt can lead to.
_OUTCOMES: Final = (*_ENDS, TaskRetrying, TaskBlocked)
#: The place of the id in a fact about a task.
_TASK: Final = 3


class LawBrokenError(AssertionError):
    """A law does not hold; the message names it, and the shortest way there."""


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
    #: Crashes of the orchestrator. With one, facts are kept only by a commit.
    crashes: int = 0
    cancels: int = 0
    #: How often a worker dies, or the agent elsewhere goes down or is cut off.
    deaths: int = 0
    #: How often a report comes twice.
    doubles: int = 0


@attrs.frozen
class Reach:
    """What a search has seen: all that there is to see."""

    states: int
    transitions: int
    #: The steps of the longest of the shortest paths.
    depth: int


def search(scope: Scope, most: int = 1_000_000) -> Reach:
    """
    Visit all that can happen in *scope*, and hold all laws everywhere.

    Raises:
        LawBrokenError: One does not hold.
        ValueError: There are more than *most* states.
    """
    first = _World(scope)
    #: Where each state was found: the number of the one before, and the step.
    origins: list[tuple[int, Action]] = [(-1, ())]
    seen = {first.key(): None}
    queue = deque([(0, 0, list(first.choices()), first.save())])
    transitions = depth = 0
    while queue:
        number, depth, choices, saved = queue.popleft()
        for action in choices:
            transitions += 1
            world = saved.load()
            try:
                world.do(action)
            except (LawBrokenError, InternalError, LookupError) as error:
                path = [*_path(origins, number), action]
                raise LawBrokenError(_told(scope, path, error)) from error
            key = world.key()
            if key in seen:
                continue
            seen[key] = None
            if len(seen) > most:
                msg = f"there are more than {most} states"
                raise ValueError(msg)
            origins.append((number, action))
            number_here = len(origins) - 1
            queue.append((number_here, depth + 1, list(world.choices()), world.save()))
    return Reach(len(seen), transitions, depth)


# -- the kernel's questions --------------------------------------------------------


class _Rules:
    """The policies: plain ones, which keep nothing."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.aging_ns: int | None = 0
        self.admits_all: bool = True
        self.watches: frozenset[tuple[TaskState | None, TaskState]] | None = frozenset()
        self.rigid: bool = True
        self.max_age_ns: int | None = scope.max_age_ns

    def match(
        self, row: TaskRow, agents: Sequence[AgentRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """Everybody can do everything."""
        del row, now
        return tuple(agent.name for agent in agents), "", True

    def route(
        self, row: TaskRow, candidates: Sequence[AgentRow], now: int
    ) -> tuple[AgentRow, str, bool]:
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
    ) -> tuple[bool, int, str]:
        """Up to so many attempts."""
        del error, cause, elapsed_ns, now
        charged = 0 if row.more is None else row.more.charged
        return charged < self.scope.attempts, self.scope.delay_ns, ""

    def allocate(
        self, row: TaskRow, agent: AgentRow, request: Units, now: int
    ) -> tuple[Units | None, str, bool]:
        """All of it: a rigid allocator is asked only about what fits."""
        del row, agent, now
        return request, "", True


# -- what the facts say ------------------------------------------------------------


class _Audit:
    """
    What the facts say, read one after the other and believed by nobody.

    It knows of the kernel's rows nothing: where both have an opinion, they must agree.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.epoch = 1
        self.submitted: dict[str, None] = {}
        self.ended: dict[str, TaskState] = {}
        #: The attempts that are current, and what each of them holds.
        self.current: dict[str, tuple[Fence, str, Units]] = {}
        #: What attempts hold that would not stop.
        self.leaked: dict[tuple[str, int], tuple[str, Units]] = {}
        #: Why current attempts were asked to stop.
        self.stopping: dict[str, str] = {}
        self.called_off: dict[str, None] = {}
        self.charged: dict[str, int] = {}
        for fact in facts:
            self._read(fact)

    def _read(self, fact: Fact) -> None:
        cls = fact[0]
        if cls is OrchestratorStarted:
            self.epoch = fact[3]
        elif cls is TaskSubmitted:
            _hold(fact[3] not in self.submitted, "a task is submitted once")
            self.submitted[fact[3]] = None
        elif cls is TaskStarted:
            self._started(*fact[3:7])
        elif cls is SlotLeaked:
            fence, agent, alloc = self._pop(fact[3])
            self.leaked[fence[1], fence[2]] = agent, alloc
        elif cls is SlotRecovered:
            released = self.leaked.pop((fact[3], fact[4]), None) is not None
            _hold(released, "what a leak holds is released once")
        elif cls is AttemptStopping:
            self.stopping[fact[3]] = fact[5]
            if fact[5] == "cancel":
                self.called_off[fact[3]] = None
        elif cls in _ENDS:
            self._over(fact)
        elif cls is TaskRetrying:
            self._charge(fact)
            self.stopping.pop(fact[3], None)
            _hold(
                fact[3] in self.current or fact[8] == "timeout",
                "only an attempt is tried again",
            )
            self.current.pop(fact[3], None)

    def _started(self, task_id: str, attempt: int, agent: str, alloc: Units) -> None:
        _hold(task_id not in self.current, "a task has one current attempt at most")
        _hold(task_id not in self.ended, "what has ended does not start")
        _hold(
            task_id not in self.called_off, "nothing starts once its cancel is recorded"
        )
        _hold(task_id in self.submitted, "what starts was submitted")
        self.current[task_id] = (self.epoch, task_id, attempt), agent, alloc

    def _pop(self, task_id: str) -> tuple[Fence, str, Units]:
        _hold(task_id in self.current, "only what is under way can end")
        return self.current.pop(task_id)

    def _over(self, fact: Fact) -> None:
        cls, task_id = fact[0], fact[3]
        _hold(task_id not in self.ended, "a task ends once")
        self.ended[task_id] = _ENDS[cls]
        self.stopping.pop(task_id, None)
        known = self.current.pop(task_id, None)
        if cls is TaskCompleted:
            is_current = known is not None and known[0][2] == fact[4]
            _hold(is_current, "it is the current attempt that completes")
        elif cls is TaskFailed:
            self._charge(fact)
        else:
            self.called_off[task_id] = None

    def _charge(self, fact: Fact) -> None:
        event: Any = make(fact)
        if event.charged:
            fault = event.cause in ("error", "timeout")
            _hold(fault, "a task is charged for its own faults only")
            self.charged[event.task_id] = self.charged.get(event.task_id, 0) + 1

    def holding(self) -> list[tuple[str, Units]]:
        """Agent and resources of all attempts that hold any."""
        return [
            *[(agent, alloc) for _, agent, alloc in self.current.values()],
            *self.leaked.values(),
        ]


def _hold(holds: bool, law: str) -> None:
    if not holds:
        raise LawBrokenError(law)


def _law(found: Sequence[str], law: str) -> None:
    """Hold a law that has found something against itself, or nothing."""
    if found:
        msg = f"{law}: {'; '.join(found)}"
        raise LawBrokenError(msg)


# -- the world ---------------------------------------------------------------------

#: Classes of which all instances are values here, which copies of a state may share.
_SHARED_CLASSES: Final = (
    Agent,
    KernelConfig,
    MappingProxyType,
    Random,
    Spec,
    TaskState,
    _Rules,
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


class _World:
    """One state: the orchestrator, and all around it that decides what may follow."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.rules = _Rules(scope)
        self.now = 2
        self.facts: tuple[Fact, ...] = ()
        self.audit = _Audit(())
        #: How many of the facts are committed, and what is left if the rest is lost.
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
        self.far: str = _UP
        self.crashes: int = scope.crashes
        self.cancels: int = scope.cancels
        self.deaths: int = scope.deaths
        self.doubles: int = scope.doubles
        self.saved: bytes = b""
        self.kernel: Kernel = self._new_kernel()
        near = Agent(NEAR, max_concurrency=1)
        far = Agent(FAR, max_concurrency=1, lease=scope.lease_ns / 1e9)
        self.agents: dict[str, Agent] = {NEAR: near, FAR: far}
        self._listen()
        for agent in self.agents.values():
            self.kernel.add_agent(agent, self.now)
        self.kernel.paused = False
        self._settle([])
        self._commit()

    def _new_kernel(self) -> Kernel:
        scope = self.scope
        config = KernelConfig(grace_ns=scope.grace_ns, refuse_unknown=False)
        pools = () if scope.room is None else ((_POOL, scope.room * _ONE),)
        return Kernel(config, self.rules, Random(0), pools)  # noqa: S311 - never drawn

    def _listen(self) -> None:
        self.kernel.listen([], _ALL)

    def save(self) -> _World:
        """A copy that holds still until it is loaded."""
        other = copy(self)
        buffer = BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.kernel)
        other.saved = buffer.getvalue()
        del other.kernel
        return other

    def load(self) -> _World:
        """A copy that can go on."""
        other = copy(self)
        other.kernel = pickle.loads(self.saved)  # noqa: S301 - `save` has made it
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
        if self.far != _UP or self.kernel.agents[FAR].lost:
            yield ("back",)
        elif self.deaths:
            yield ("away", _CUT)
            yield ("away", _DOWN)
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
        _law_of_charges(action, new)
        if verb == "end":
            self._law_of_reports(rest[0], rest[1], before, new)
        self._laws()

    def _settle(self, commands: list[Command]) -> None:
        """A step: the kernel handles *commands*, and what it says is done."""
        kernel = self.kernel
        starts, effects = kernel.handle(commands, self.now)
        if kernel.sink:
            self.facts += tuple(fact for fact, _ in kernel.sink)
            kernel.sink.clear()
            self.audit = _Audit(self.facts)
        if starts:
            begun = {
                (kernel.epoch, row.id, row.attempt): row.agent.name
                for row in starts
                if row.agent is not None
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
        resources = () if scope.room is None else ((_POOL, _ONE),)
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
            self.out = {f: agent for f, agent in self.out.items() if f not in gone}
            self.asked -= gone

    def _end(self, fence: Fence, outcome: str, how: str) -> list[Command]:
        epoch, task_id, attempt = fence
        agent = self.out.get(fence)
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
        if agent == NEAR and outcome == "completed":
            # As the runtime does it for what runs in its own process.
            self.kernel.complete(self.kernel.tasks[task_id], attempt, self.now)
            return []
        return [EndAttempt(task_id, attempt, outcome, epoch=epoch)]

    def _tick(self) -> list[Command]:
        kernel = self.kernel
        when = min(timer[0] for timer in kernel.timers if is_alive(timer))
        self.now = max(self.now, when)
        if self.far == _UP and not kernel.agents[FAR].lost:
            # Signs of life come in time.
            self._beat()
        return []

    def _beat(self) -> None:
        # With those that are still held back: a commit takes no longer than a lease.
        named = [
            (task_id, attempt)
            for (epoch, task_id, attempt), agent in self.out.items()
            if agent == FAR and epoch == self.kernel.epoch
        ]
        self.kernel.beat(FAR, named, self.now)

    def _cancel(self, task_id: str) -> list[Command]:
        self.cancels -= 1
        return [CancelTask(task_id)]

    def _away(self, how: str) -> list[Command]:
        self.deaths -= 1
        self.far = how
        if how == _DOWN:
            self._forget(f for f, agent in self.out.items() if agent == FAR)
        return []

    def _back(self) -> list[Command]:
        if self.far == _DOWN:
            self.kernel.add_agent(self.agents[FAR], self.now)
        else:
            self._beat()
        self.far = _UP
        return []

    def _crash(self) -> list[Command]:
        """All that is not committed is lost, and all that ran in our own process."""
        self.crashes -= 1
        epoch = self.kernel.epoch + 1
        self._forget(
            fence
            for fence, agent in self.out.items()
            if agent == NEAR or not self._has_begun(fence)
        )
        self.copies = tuple(c for c in self.copies if c[0] in self.out)
        self.facts = self.facts[: self.committed]
        self.audit = _Audit(self.facts)
        self.kernel = self._folded()
        self._listen()
        recover(self.kernel, epoch, self.now)
        self.kernel.add_agent(self.agents[NEAR], self.now)
        self.kernel.paused = False
        return []

    def _folded(self) -> Kernel:
        kernel = self._new_kernel()
        for fact in self.facts:
            fold(kernel, fact)
        return kernel

    # -- the laws ------------------------------------------------------------------

    def _laws(self) -> None:
        kernel, audit = self.kernel, self.audit
        for task_id in self.acknowledged:
            _hold(task_id in kernel.tasks, "a committed submission is there")
        for task_id, state in self.settled.items():
            _hold(kernel.tasks[task_id].state is state, "a committed end stands")
        self._law_of_books(audit.holding())
        for row in kernel.tasks.values():
            known = audit.current.get(row.id)
            fence = (kernel.epoch, row.id, row.attempt)
            runs = known is not None and known[0] == fence
            _hold(runs == (row.state is _S.RUNNING), "who runs is in the facts")
            _hold(audit.ended.get(row.id) == _ended(row), "who has ended, likewise")
            charged = 0 if row.more is None else row.more.charged
            if row.state not in TERMINAL:
                _hold(
                    audit.charged.get(row.id, 0) == charged, "what is charged, likewise"
                )
        _law(differences(kernel, self._folded()), "the fold of the facts is the state")
        _law(self._runnable(), "nothing waits that could run")
        _law(self._stuck(), "nothing that was accepted is forgotten")
        check_invariants(kernel)

    def _law_of_books(self, holding: list[tuple[str, Units]]) -> None:
        """Nothing is taken twice, or more than there is; all comes back, once."""
        kernel = self.kernel
        for pool in kernel.pools.values():
            used = sum(units for _, alloc in holding for _, units in alloc)
            _hold(pool.used == used, "a pool gives what its holders have")
            _hold(used <= pool.total, "a pool gives what there is")
        for name, agent in kernel.agents.items():
            running = sum(holder == name for holder, _ in holding)
            _hold(agent.running == running, "an agent's slots are its attempts'")
            _hold(not (agent.lost and running), "a lost agent keeps no slot")

    def _runnable(self) -> list[str]:
        kernel = self.kernel
        if any(pool.total - pool.used < _ONE for pool in kernel.pools.values()):
            return []
        if all(agent.lost or agent.running for agent in kernel.agents.values()):
            return []
        return [row.id for row in kernel.tasks.values() if row.state is _S.QUEUED]

    def _stuck(self) -> list[str]:
        """Who is neither at an end nor blocked, if nothing is to be waited for."""
        kernel = self.kernel
        if (
            self.out
            or kernel.leaked
            or self.far != _UP
            or any(agent.lost for agent in kernel.agents.values())
            or any(is_alive(timer) and timer[2] != LEASE for timer in kernel.timers)
        ):
            return []
        return [
            f"{row.id} is {row.state}"
            for row in kernel.tasks.values()
            if row.state not in TERMINAL and row.state is not _S.BLOCKED
        ]

    def _law_of_reports(
        self, fence: Fence, outcome: str, before: _Audit, new: Sequence[Fact]
    ) -> None:
        """The report of a current attempt counts, and no other."""
        task_id = fence[1]
        told = [fact[0] for fact in new if len(fact) > _TASK and fact[_TASK] == task_id]
        known = before.current.get(task_id)
        if known is None or known[0] != fence:
            changes = [cls for cls in told if cls in _OUTCOMES]
            _hold(told[:1] == [LateResultIgnored], "a late result is noted")
            _law([cls.__name__ for cls in changes], "a late result changes nothing")
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
        _hold(told[:1] == [expected], "the report of a current attempt counts")

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
    more = row.more
    if more is None:
        return row.id, row.state, row.attempt, "", 0, 0, 0, expires_ns
    return (
        row.id,
        row.state,
        row.attempt,
        more.stop,
        more.charged,
        more.crashes,
        more.due_ns,
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
            (row.id, "" if row.agent is None else row.agent.name)
            for row in kernel.tasks.values()
            if row.state is _S.RUNNING
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
                agent.lost,
                agent.heard_ns - now if agent.lease_ns and not agent.lost else 0,
                *[(row.id, seen - now) for row, seen in agent.seen.items()],
            )
            for agent in kernel.agents.values()
        ),
        tuple(
            (*fence, leak.agent.name, leak.seen_ns - now if leak.agent.lease_ns else 0)
            for fence, leak in kernel.leaked.items()
        ),
        tuple(
            (bucket.parked is not None, bucket.entry is not None, bucket.stale > 0)
            for bucket in buckets
        ),
    )


def _ended(row: TaskRow) -> TaskState | None:
    return row.state if row.state in TERMINAL else None


def _law_of_charges(action: Action, new: Sequence[Fact]) -> None:
    """A task is charged for what it did itself: nothing else counts against it."""
    for fact in new:
        if fact[0] not in (TaskRetrying, TaskFailed):
            continue
        event: Any = make(fact)
        if event.charged and event.cause == "error":
            reported = action[0] == "end" and action[1][1:] == (
                event.task_id,
                event.attempt,
            )
            _hold(
                reported and action[2] == "failed",
                "a task is charged for its own faults only",
            )


# -- telling -----------------------------------------------------------------------


def _path(origins: Sequence[tuple[int, Action]], number: int) -> list[Action]:
    """The steps that lead to a state."""
    path: list[Action] = []
    while number:
        number, action = origins[number]
        path.append(action)
    return path[::-1]


def _told(scope: Scope, path: Sequence[Action], error: Exception) -> str:
    """What is broken, and the way there: each step with the facts that it made."""
    lines = [f"{type(error).__name__}: {error}", f"in {scope}", "after:"]
    world = _World(scope)
    for number, action in enumerate(path, 1):
        lines.append(f"{number:4}. {_say(world, action)}")
        known = world.facts
        with suppress(LawBrokenError, InternalError, LookupError):
            world.do(action)
        lines += [f"          {_say_fact(f)}" for f in world.facts if f not in known]
    return "\n".join(lines)


def _say(world: _World, action: Action) -> str:
    verb, *rest = action
    if verb == "end":
        (epoch, task_id, attempt), outcome, how = rest
        which = f"attempt {attempt} of {task_id}, begun in life {epoch}"
        twice = {"": "", "twice": ", and will say so again", "again": " (said again)"}
        return f"{which}: {outcome}{twice[how]}"
    if verb == "submit":
        return f"t{rest[0]} is submitted"
    if verb == "tick":
        return "time passes until something is due"
    if verb == "away":
        return f"{FAR} {rest[0]}"
    if verb == "crash":
        lost = len(world.facts) - world.committed
        return f"the orchestrator crashes: {lost} facts are lost; and recovers"
    return {
        "commit": "all facts are committed",
        "cancel": f"{rest and rest[0]} is called off",
        "back": f"{FAR} is back",
    }[verb]


def _say_fact(fact: Fact) -> str:
    fields = ", ".join(str(field) for field in fact[3:] if field not in (None, (), ""))
    return f"{fact[0].__name__} {fields}"
