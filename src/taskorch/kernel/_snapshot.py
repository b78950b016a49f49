"""
Snapshots: they spare a new life the fold of all that ended long ago.

A snapshot holds no rows. It names the tasks that were in memory, and has the sums over
all facts before it: counters, agents with their records, types. Of these facts, only
those about its tasks are then folded, and a few about tasks that they wait for and that
have left memory: `Restoration` says which, and leaves the kernel where the fold of all
of them would have.

Decision: 0013.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import attrs

from taskorch.errors import InternalError
from taskorch.events import (
    TASK_ID,
    EventEmitted,
    Fact,
    ResultRemembered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskParentsAdded,
    TaskRepointed,
    TaskSubmitted,
    TaskUnblocked,
)
from taskorch.kernel import (
    _allocations,
    _application,
    _breakers,
    _dependencies,
    _holds,
    _quotas,
    _schedules,
)
from taskorch.kernel._fold import COUNTERS, fold, parent_of
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import AgentRow, PoolRow, Record, TaskRow, TypeRow
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, Agent, Breaker, Resources, TaskState, Units

#: Rises when what a snapshot consists of changes.
_SCHEMA: Final = 4
#: Counters of what has happened. The others count what is in memory: there the facts
#: that are folded must come to the same.
_SUMS: Final = (
    "seq",
    "epoch",
    "submissions",
    "completed",
    "failed",
    "cancelled",
    "retries_scheduled",
    "retries_recovered",
    "retries_exhausted",
)


# -- taking ------------------------------------------------------------------------


def take_snapshot(kernel: KernelState, now: int) -> dict[str, Any]:
    """
    What a life that begins after the latest fact cannot read from its own tasks.

    It is of the kind that JSON keeps, and shares nothing that changes with *kernel*.
    It may be taken between any two steps, and holds for the fact of the number
    `kernel.seq`. No fact so far is later than *now*.
    """
    # Tasks that have ended and left memory, whose leaked attempts still hold something.
    gone = {
        leak.row.id: leak.row
        for leak in kernel.leaked.values()
        if leak.row.id not in kernel.tasks
    }
    return {
        "schema": _SCHEMA,
        "at_ns": now,
        "counters": {name: getattr(kernel, name) for name in COUNTERS},
        # In order of their submission, with their places in it.
        "tasks": list(kernel.tasks),
        "places": [row.seq for row in kernel.tasks.values()],
        "gone": list(gone),
        "gone_places": [row.seq for row in gone.values()],
        "agents": [_agent_out(agent) for agent in kernel.agents.values()],
        "pools": [
            [name, pool.total]
            for name, pool in kernel.pools.items()
            if not pool.is_quota
        ],
        "quotas": [
            [*subject, _units_out(_quotas.limits_of(kernel, subject))]
            for subject in kernel.quotas
        ],
        "rates": [
            [*subject, rate.spent, rate.at_ns] for subject, rate in kernel.rates.items()
        ],
        "allocations": [
            [row.id, row.owner, _units_out(row.units), row.since_ns]
            for row in kernel.allocations.values()
        ],
        "remembered": [
            [key, task_id, kind, [list(part) for part in parts], at_ns]
            for key, (task_id, kind, parts, at_ns) in kernel.remembered.items()
        ],
        "holds": [[who, *hold] for who, hold in kernel.holds.items()],
        "schedules": [
            [name, *told, [*kernel.waiting_slots[name]], [*kernel.filled_slots[name]]]
            for name, told in kernel.schedules.items()
        ],
        "types": {name: _type_out(row) for name, row in kernel.types.items()},
        "causes": dict(kernel.causes),
        # The facts of the events that are kept: with each, there is a document.
        "events": [event.seq for event in kernel.retained.values()],
    }


def _agent_out(agent: AgentRow) -> dict[str, Any]:
    info = agent.info
    return {
        "name": info.name,
        "capabilities": list(info.capabilities),
        "max_concurrency": info.max_concurrency,
        "capacity": None if info.capacity is None else _units_out(info.capacity.units),
        "request": _units_out(info.request.units),
        "lease": info.lease,
        "breaker": None if info.breaker is None else attrs.asdict(info.breaker),
        "lost": agent.lost,
        "draining": agent.draining,
        "breakers": [
            [name, one.state, one.since_ns, one.until_ns, one.trips, one.passed]
            for name, one in agent.breakers.items()
        ],
        "completed": agent.completed,
        "failed": agent.failed,
        "records": {
            name: [record.completed, record.failed, record.latency_ns]
            for name, record in agent.records.items()
        },
    }


def _agent_in(told: dict[str, Any]) -> Agent:
    capacity = told["capacity"]
    if capacity is not None:
        capacity = Resources.from_units(_units_in(capacity))
    return Agent(
        told["name"],
        capabilities=tuple(told["capabilities"]),
        max_concurrency=told["max_concurrency"],
        capacity=capacity,
        request=Resources.from_units(_units_in(told["request"])),
        lease=told["lease"],
        # There were none before this.
        breaker=Breaker(**told["breaker"]) if told.get("breaker") else None,
    )


def _units_out(units: Units) -> list[list[Any]]:
    return [list(pair) for pair in units]


def _units_in(told: list[list[Any]]) -> Units:
    return tuple((name, units) for name, units in told)


def _type_out(row: TypeRow) -> dict[str, Any]:
    return {
        "completed": row.completed,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "failures": dict(row.failures),
        "samples": [list(sample) for sample in row.samples],
    }


def without_tasks(state: dict[str, Any], ids: Collection[str]) -> dict[str, Any]:
    """
    What `take_snapshot` gave, without tasks that have ended: their facts are gone.

    The sums are those over all facts all the same. None of these tasks holds a slot.
    """
    names = zip(state["tasks"], state["places"], strict=True)
    left = [(name, place) for name, place in names if name not in ids]
    return {
        **state,
        "tasks": [name for name, _ in left],
        "places": [place for _, place in left],
    }


# -- restoring ---------------------------------------------------------------------


class Restoration:
    """
    The way of a new kernel to the state of which a snapshot was taken.

    Its methods are called in this order: `missing` until there is nothing more,
    `fold` for each fact up to that of the snapshot that is about one of `ids`, and
    `finish`. Later facts are folded as always. The kernel is new and paused, and tells
    nobody; *state* is what `take_snapshot` gave.

    Raises:
        ValueError: Another version of us took it. Fold all facts instead.
    """

    def __init__(self, kernel: KernelState, state: dict[str, Any]) -> None:
        schema = state.get("schema")
        if schema != _SCHEMA:
            msg = f"a snapshot of schema {schema!r}, and {_SCHEMA} is known"
            raise ValueError(msg)
        self._kernel = kernel
        self._state = state
        #: The tasks of which all facts are folded.
        self._places: dict[str, int] = dict(
            zip(state["tasks"], state["places"], strict=True)
        )
        self._places.update(zip(state["gone"], state["gone_places"], strict=True))
        self._ids: dict[str, None] = dict.fromkeys(self._places)
        #: Tasks that were submitted after the snapshot: nothing is missing of them.
        self._later: dict[str, None] = {}
        for told in state["agents"]:
            agent = kernel.agents[told["name"]] = AgentRow(_agent_in(told))
            agent.lost = told["lost"]
            agent.draining = told.get("draining", "")
            kernel.agents_version += 1
        for name in state["types"]:
            kernel.types[name] = TypeRow()
        kernel.pools = {name: PoolRow(name, total) for name, total in state["pools"]}
        quotas = [(*whose, _units_in(limits)) for *whose, limits in state["quotas"]]
        _quotas.apply(kernel, quotas, state["at_ns"])
        # Older snapshots know nothing of these three.
        for key, task_id, kind, parts, at_ns in state.get("remembered", ()):
            made = tuple((name, digest) for name, digest in parts)
            kernel.remembered[key] = task_id, kind, made, at_ns
        for name, document, done_ns, *slots in state.get("schedules", ()):
            # Those of earlier versions know nothing of single slots.
            _schedules.restore(kernel, name, (document, done_ns), slots or ((), ()))
        for who, most, reason, lasts in state.get("holds", ()):
            _holds.restore(kernel, who, (most, reason, lasts))
        for name, owner, units, since_ns in state["allocations"]:
            _allocations.grant(kernel, name, owner, _units_in(units), since_ns)

    @property
    def seq(self) -> int:
        """Number of the last fact that the snapshot includes."""
        seq: int = self._state["counters"]["seq"]
        return seq

    @property
    def at_ns(self) -> int:
        """Time of the snapshot: no fact before is later, whatever its task."""
        at_ns: int = self._state["at_ns"]
        return at_ns

    @property
    def ids(self) -> list[str]:
        """The tasks whose facts are needed, as far as is known."""
        return list(self._ids)

    @property
    def events(self) -> list[int]:
        """The numbers of the facts of events from outside that are to be folded too."""
        numbers: list[int] = self._state["events"]
        return numbers

    def is_kept(self, task_id: str) -> bool:
        """
        Whether the task gets a row: what the driver keeps with it is needed.

        Of other tasks, the facts are enough.
        """
        return task_id in self._places

    def missing(self, facts: Iterable[Fact]) -> list[str]:
        """
        Further tasks whose facts are needed, because of *facts*.

        These are at first those up to the snapshot about `ids`, and all after it; then
        those up to the snapshot about what was missing. The tasks are now among `ids`.
        """
        found: dict[str, None] = {}
        seq = self.seq
        for fact in facts:
            names: tuple[str, ...] = ()
            if type(fact) is TaskSubmitted:
                late = fact.seq > seq
                if late:
                    self._later[fact.task_id] = None
                if late or fact.task_id in self._places:
                    # The parents of the task.
                    names = fact.after
            elif type(fact) is TaskParentsAdded and (
                fact.seq > seq or fact.task_id in self._places
            ):
                names = fact.after
            elif type(fact) is TaskRepointed and fact.seq <= seq:
                # The re-run, which its dependents have waited for since.
                names = (fact.rerun_id,)
            for name in names:
                if name not in self._ids and name not in self._later:
                    found[name] = None
        self._ids.update(found)
        return list(found)

    def fold(self, fact: Fact, cargo: Any = None) -> None:
        """
        Apply a fact up to the snapshot that is about one of `ids`, or of `events`.

        They come in the order of their numbers. The *cargo* is what the driver keeps
        with the submission of a task that `is_kept`.
        """
        kernel, cls = self._kernel, type(fact)
        place = self._places.get(fact[TASK_ID])
        if cls is ResultRemembered:
            # What is remembered now is in the snapshot; the rest was forgotten since.
            return
        if cls is EventEmitted:
            fold(kernel, fact, cargo)
        elif place is not None:
            if cls is TaskSubmitted:
                kernel.submissions = place
            fold(kernel, fact, cargo)
        elif cls is TaskRepointed:
            # The task has no row; those that waited for it may have one.
            fold(kernel, fact)
        elif cls in _SEEN_BELOW:
            row = parent_of(kernel, fact[TASK_ID], fact.at_ns)
            _SEEN_BELOW[cls](kernel, row, fact)
            kernel.undecided.clear()

    def finish(self) -> None:
        """
        Set what is a sum; the kernel is where the fold of all facts would have led.

        Of what has left memory, `evicted` knows what was needed only.

        Raises:
            InternalError: The facts led elsewhere than the snapshot says. The kernel is
                of no use: fold all facts into another one.
        """
        kernel, state = self._kernel, self._state
        wrong = self._evict()
        counters = state["counters"]
        wrong += [
            f"{name}: {getattr(kernel, name)}, not {counters[name]}"
            for name in COUNTERS
            if name not in _SUMS and getattr(kernel, name) != counters[name]
        ]
        if wrong:
            msg = f"the facts do not lead to the snapshot: {'; '.join(wrong)}"
            raise InternalError(msg)
        for name in _SUMS:
            setattr(kernel, name, counters[name])
        for told in state["agents"]:
            agent = kernel.agents[told["name"]]
            _count_agent(agent, told)
            _breakers.restore(kernel, agent, told.get("breakers", ()))
        for name, told in state["types"].items():
            _count_type(kernel.types[name], told)
        # Of what began before there was a quota, no fact that was folded says that.
        _quotas.recharge(kernel)
        # There were none before this.
        for kind, subject, spent, at_ns in state.get("rates", ()):
            rate = kernel.rates[kind, subject]
            rate.spent, rate.at_ns = spent, at_ns
        for pool in kernel.pools.values():
            pool.owed = max(0, pool.used - pool.total)
        kernel.causes = dict(state["causes"])

    def _evict(self) -> list[str]:
        """Remove the tasks that were out of memory; ids of tasks in the wrong place."""
        kernel = self._kernel
        for task_id in self._state["gone"]:
            left = kernel.tasks.pop(task_id, None)
            if left is not None:
                left.cargo = None
                kernel.not_folded[task_id] = left
        kernel.finished = deque(
            row for row in kernel.finished if row.id in kernel.tasks
        )
        wrong = [
            f"{task_id} is {row.state}, and not in memory"
            for task_id, row in kernel.not_folded.items()
            if row.state not in TERMINAL
        ]
        kernel.evicted.update(
            (name, row.state) for name, row in kernel.not_folded.items()
        )
        kernel.not_folded.clear()
        wrong += [
            f"of {task_id}, nothing is known"
            for task_id in self._state["tasks"]
            if task_id not in kernel.tasks and task_id not in kernel.evicted
        ]
        return wrong


def _count_agent(agent: AgentRow, told: dict[str, Any]) -> None:
    agent.completed = told["completed"]
    agent.failed = told["failed"]
    agent.records = {}
    for name, (completed, failed, latency_ns) in told["records"].items():
        record = agent.records[name] = Record()
        record.completed, record.failed = completed, failed
        record.latency_ns = latency_ns


def _count_type(row: TypeRow, told: dict[str, Any]) -> None:
    row.completed = told["completed"]
    row.failed = told["failed"]
    row.cancelled = told["cancelled"]
    row.failures = dict(told["failures"])
    row.samples.clear()
    row.samples.extend(tuple(sample) for sample in told["samples"])


# -- what those who wait for a task see of it ---------------------------------------
#
# Of a task that has left memory there is only a stand-in in `not_folded`. It waits
# for nothing itself, so what *it* waited for need not be known.


def _blocked(kernel: KernelState, row: TaskRow, fact: Fact) -> None:
    event: Any = fact
    if event.cause != "dependency":
        # A person decides: it may complete after all.
        return
    row.state = TaskState.BLOCKED
    row_extra(row)
    _dependencies.broke(kernel, row)


def _unblocked(kernel: KernelState, row: TaskRow, _fact: Fact) -> None:
    if row.state is not TaskState.BLOCKED:
        return
    row.state = TaskState.QUEUED
    for child in _dependencies.links_of(row).dependents:
        _dependencies.absolve(kernel, child, row.id, "")


def _completed(kernel: KernelState, row: TaskRow, fact: Fact) -> None:
    row.state = TaskState.COMPLETED
    _dependencies.release(kernel, row, fact.at_ns)


def _ended_badly(kernel: KernelState, row: TaskRow, fact: Fact) -> None:
    event: Any = fact
    extra = row_extra(row)
    if type(fact) is TaskFailed:
        row.state = TaskState.FAILED
        extra.error = (event.error_type, event.message, event.cause)
    else:
        row.state = TaskState.CANCELLED
        extra.stop_reason = event.reason
    _application.pass_on(extra, event.root_causes)
    _dependencies.broke(kernel, row)


_SEEN_BELOW: Final[dict[Any, Callable[[KernelState, TaskRow, Fact], None]]] = {
    TaskBlocked: _blocked,
    TaskUnblocked: _unblocked,
    TaskCompleted: _completed,
    TaskFailed: _ended_badly,
    TaskCancelled: _ended_badly,
}
