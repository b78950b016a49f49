"""What the orchestrator says of itself: status, statistics, health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._limits import FAULT_SECONDS, NS
from taskorch._visible import counted
from taskorch.errors import ProgramFailedError, UnknownTaskError
from taskorch.events import HealthReported, PerformanceReported, StatsReported
from taskorch.kernel import (
    GOING,
    AgentRow,
    TaskRow,
    awaits,
    moves_of,
    past_of,
    without_quotas,
    words_of_holds,
)
from taskorch.model import (
    TERMINAL,
    AgentStats,
    Durations,
    Health,
    HealthCheck,
    HistoryEntry,
    ProgramResult,
    QueueStats,
    Resources,
    RetryStats,
    StateStats,
    Stats,
    TaskState,
    TaskStatus,
    TypeStats,
)
from taskorch.model._explanation import in_words, some
from taskorch.model._quantile import quantile
from taskorch.model._read_only import ReadOnly
from taskorch.runtime._blocked import blocked
from taskorch.runtime._earlier import earlier_of
from taskorch.runtime._held import held_for_long
from taskorch.runtime._late import late_of
from taskorch.runtime._runtime import Runtime
from taskorch.runtime._stale import Staleness
from taskorch.runtime._waiting import blockade
from taskorch.runtime._work import Work, give_error, note_given

if TYPE_CHECKING:
    from pathlib import Path

    from taskorch.kernel import TypeRow

#: What a component may be, from the best.
_ORDER: Final = ("ok", "degraded", "failed")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final[Mapping[str, Any]] = ReadOnly({})


def status(runtime: Runtime, task_id: str) -> TaskStatus:
    """
    The status of one task.

    Raises:
        UnknownTaskError: There is none.
    """
    with runtime.lock:
        task_id = runtime.directory.reruns.latest(task_id)
        row = runtime.kernel.tasks.get(task_id)
        if row is not None:
            return status_of(runtime, row, row.cargo)
        state = runtime.kernel.evicted.get(task_id)
        label = "" if state is None else runtime.deciders.label(state)
    if state is None:
        msg = f"no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=task_id)
    if runtime.directory.recovered is not None:
        work = runtime.directory.recovered.recollect(task_id, state)
        with runtime.lock:
            return status_of(runtime, work._row, work)
    return TaskStatus(
        task_id, "", state, label, None, None, 0, (), None, Resources(), ()
    )


def status_of(
    runtime: Runtime, row: TaskRow, work: Work, staleness: Staleness | None = None
) -> TaskStatus:
    """Under the lock: the status of the task of *row*."""
    label = runtime.deciders.label
    extra, state = row.extra, row.state
    past = past_of(row)
    error = give_error(work)
    if state in TERMINAL and work._visible_after > runtime.committed:
        # Its end is not kept yet, and may come to nothing.
        past = past[:-1]
        state, error = past[-1][0], None
    history = tuple(
        HistoryEntry(state, label(state), ns / 1e9, detail)
        for state, ns, detail in past
    )
    blocked_by: tuple[str, ...] = ()
    if extra is not None and row.state is TaskState.BLOCKED:
        word = "event" if awaits(row) else "decision"
        blocked_by = tuple(extra.blocked_by) or (word,)
        if extra.blocked_by:
            error = blockade(row)
            note_given(work, error)
    metadata = None if work._task is None else work._task.metadata
    rerun, mended_by = _later(runtime, row.id)
    return TaskStatus(
        task_id=row.id,
        type=row.bucket.spec.type,
        state=state,
        label=label(state),
        result=work._value if state is TaskState.COMPLETED else None,
        error=error,
        attempts=row.attempt,
        history=history,
        agent_id=None if row.agent is None else row.agent.name,
        allocation=Resources.from_units(without_quotas(row.alloc)),
        blocked_by=blocked_by,
        priority=0 if extra is None else extra.priority,
        progress=None if work._extra is None else work._extra.progress,
        submitted=_moment(row.submitted_ns),
        started=_moment(row.started_ns),
        ended=_moment(row.ended_ns) if state in TERMINAL else None,
        metadata=_NOTHING if metadata is None else metadata,
        log_path=_log_path(row, work),
        late_results=late_of(work),
        owner=row.bucket.spec.owner,
        earlier_errors=earlier_of(work),
        recovery_attempts=() if work._extra is None else work._extra.recoveries,
        stopping=extra.stop_reason if extra is not None and extra.stop else "",
        stale=(staleness or Staleness(runtime)).cause(work) is not None,
        rerun=rerun,
        mended_by=mended_by,
    )


def _later(runtime: Runtime, task_id: str) -> tuple[str, str]:
    """Under the lock: the latest run after this one, and the first that completed."""
    later = runtime.directory.reruns.later_than(task_id)
    if not later:
        return "", ""
    good = (name for name in later if _state(runtime, name) is TaskState.COMPLETED)
    return later[-1], next(good, "")


def _state(runtime: Runtime, task_id: str) -> TaskState | None:
    """Under the lock: the state of a run, as far as it is told already."""
    row = runtime.kernel.tasks.get(task_id)
    if row is None:
        return runtime.kernel.evicted.get(task_id)
    if row.cargo._visible_after > runtime.committed and row.state in TERMINAL:
        return None
    return row.state


def _moment(ns: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=ns // 1_000) if ns else None


def _log_path(row: TaskRow, work: Work) -> Path | None:
    """The log of the program that the latest attempt of *row* runs, or has run."""
    control = None if work._extra is None else work._extra.control
    if control is not None and row.state not in TERMINAL:
        executor = control.executor
        if executor is None or control.attempt != row.attempt:
            return None
        return executor.log_path(control.handle)
    error = work._error
    ended = error.result if isinstance(error, ProgramFailedError) else work._value
    return ended.log_path if isinstance(ended, ProgramResult) else None


def since_when(row: TaskRow) -> int:
    """Time at which *row* entered its state."""
    if row.extra is not None and row.extra.past:
        return moves_of(row)[-1][1]
    return row.ended_ns or row.started_ns or row.ready_ns or row.submitted_ns


def stats(runtime: Runtime) -> Stats:
    """Counts, quantiles and uses of the orchestrator, at one instant."""
    with runtime.lock:
        found = _totals(runtime)
        kinds = runtime.kernel.types.items()
        samples = {name: (row, list(row.samples)) for name, row in kinds}
    # The sorting is done without the lock.
    types = {name: _type(row, taken) for name, (row, taken) in samples.items()}
    return attrs.evolve(found, types=ReadOnly(types))


def coverage(runtime: Runtime) -> dict[str, float]:
    """By type, the coverage in percent of the latest result in memory that has one."""
    found: dict[str, tuple[int, float]] = {}
    with runtime.lock:
        rows = list(runtime.kernel.tasks.values())
    for row in rows:
        # What is read without the lock changes once, when the task ends.
        work = row.cargo
        if row.state is not TaskState.COMPLETED or work is None:
            continue
        percent = _percent(work._value)
        kind = row.bucket.spec.type
        if percent is not None and row.ended_ns >= found.get(kind, (0, 0.0))[0]:
            found[kind] = row.ended_ns, percent
    return {kind: percent for kind, (_, percent) in found.items()}


def _percent(result: object) -> float | None:
    """What a result says of coverage: a share of a suite's, or a percentage."""
    if not isinstance(result, dict):
        return None
    for name, times in (("coverage_percentage", 1.0), ("coverage", 100.0)):
        said = result.get(name)
        if isinstance(said, int | float) and not isinstance(said, bool):
            percent = times * said
            if 0 <= percent <= 100:  # noqa: PLR2004 - else it is something else
                return percent
    return None


def totals(runtime: Runtime) -> Stats:
    """Counts without the quantiles of each type, which need sorting: see `stats`."""
    with runtime.lock:
        return _totals(runtime)


def _totals(runtime: Runtime) -> Stats:
    kernel = runtime.kernel
    now = runtime.now()
    heads = [bucket.head() for bucket in kernel.buckets.values() if bucket.size]
    ready = [row.ready_ns for row in heads if row is not None]
    oldest = (now - min(ready)) / 1e9 if ready else None
    waiting = _standing_by(runtime)
    return Stats(
        queue=QueueStats(kernel.queued, kernel.active, oldest),
        state_machine=StateStats(
            pending=kernel.pending,
            queued=kernel.queued,
            running=kernel.active,
            retrying=kernel.retrying,
            blocked=kernel.blocked,
            suspended=kernel.suspended,
            completed=kernel.completed,
            failed=kernel.failed,
            cancelled=kernel.cancelled,
        ),
        retries=RetryStats(
            kernel.retries_scheduled,
            kernel.retries_recovered,
            kernel.retries_exhausted,
        ),
        resources=ReadOnly(kernel.pool_stats()),
        agents=ReadOnly(
            {
                name: _agent(agent, now, stands_by=name in waiting)
                for name, agent in kernel.agents.items()
            }
        ),
        types=ReadOnly({}),
        failures=ReadOnly(dict(kernel.causes)),
        leaked=len(kernel.leaked),
        events_lost=runtime.publisher.lost,
        holds=tuple(words_of_holds(kernel)),
        glue=runtime.glue,
    )


def _standing_by(runtime: Runtime) -> list[str]:
    """Agents of `stand_ins` that do nothing while others can do all that they can."""
    if not runtime.stand_ins:
        return []
    others = {
        capability
        for name, agent in runtime.kernel.agents.items()
        if name not in runtime.stand_ins and not agent.lost
        for capability in agent.info.capabilities
    }
    return [
        name
        for name in runtime.stand_ins
        if (agent := runtime.kernel.agents.get(name)) is not None
        # One that can do nothing by name only holds the others together.
        and not (agent.running and agent.info.capabilities)
        and others.issuperset(agent.info.capabilities)
    ]


def _agent(agent: AgentRow, now: int, *, stands_by: bool) -> AgentStats:
    # Whoever has left in order owes no sign of life.
    is_awaited = agent.lease_ns and not (agent.lost and agent.draining == GOING)
    silent = max(0, now - agent.heard_ns) / NS if is_awaited else None
    return AgentStats(
        running=agent.running,
        max_concurrency=agent.info.max_concurrency,
        completed=agent.completed,
        failed=agent.failed,
        used=agent.view.used,
        capacity=agent.info.capacity,
        performance=ReadOnly(
            {name: record.performance() for name, record in agent.records.items()}
        ),
        leaked=agent.leaked,
        lost=agent.lost,
        silent=silent,
        round_trip=None if agent.lost else agent.round_trip,
        stands_by=stands_by,
    )


def _type(row: TypeRow, samples: list[tuple[int, int, int, int]]) -> TypeStats:
    return TypeStats(
        completed=row.completed,
        failed=row.failed,
        cancelled=row.cancelled,
        queued=_durations(started - ready for _, ready, started, _ in samples),
        running=_durations(ended - started for _, _, started, ended in samples),
        total=_durations(ended - submitted for submitted, _, _, ended in samples),
        failures=ReadOnly(dict(row.failures)),
    )


def _durations(values: Iterable[int]) -> Durations | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return Durations(quantile(ordered, 50) / NS, quantile(ordered, 95) / NS)


def _journal(runtime: Runtime) -> HealthCheck:
    committer = runtime.committer
    if committer is None:
        return HealthCheck("journal", "ok", "in memory: nothing survives the process")
    trouble, said = committer.trouble, list(committer.journal.troubles())
    # The journal itself may say why it cannot be written, and what to do.
    if trouble and not any(words.startswith(trouble) for words in said):
        said.insert(0, trouble)
    if said:
        return HealthCheck("journal", "degraded", "; ".join(said))
    return HealthCheck("journal", "ok", committer.journal.description())


def _queue(runtime: Runtime) -> HealthCheck:
    kernel = runtime.kernel
    counts = f"{kernel.queued} queued, {kernel.active} running"
    holds = words_of_holds(kernel)
    if holds:
        return HealthCheck("queue", "degraded", f"{counts}. {' '.join(holds)}")
    return HealthCheck("queue", "ok", counts)


def _is_missed(runtime: Runtime, agent: AgentRow) -> bool:
    """Whether an agent that is lost should be there."""
    if agent.draining == GOING:
        return False
    # How many of these there are in this life, their pool decides.
    fleet = runtime.fleet
    return fleet is None or not fleet.is_of_earlier_life(agent.name)


def _agents(runtime: Runtime) -> HealthCheck:
    """Whether all agents are there that were, and get work."""
    every = runtime.kernel.agents.values()
    agents = [agent for agent in every if not agent.lost or _is_missed(runtime, agent)]
    lost = [agent.name for agent in agents if agent.lost]
    shut = [
        agent.name
        for agent in agents
        if any(one.state != "closed" for one in list(agent.breakers.values()))
    ]
    said = []
    if lost:
        said.append(f"{len(lost)} of {len(agents)} are not there: {some(lost)}")
    if shut:
        said.append(f"breakers are open of {some(shut)}")
    return HealthCheck("agents", "degraded" if said else "ok", "; ".join(said))


def _policies(runtime: Runtime) -> list[HealthCheck]:
    """The policies that have failed of late."""
    now = runtime.now()
    return [
        HealthCheck(
            component,
            "degraded",
            f"it has failed {many:,} time{'s' * (many > 1)}, the last one "
            f"{in_words((now - at) / NS)} ago: {said}",
        )
        for component, (many, at, said) in list(runtime.kernel.faults.items())
        if now - at < FAULT_SECONDS * NS
    ]


def health(runtime: Runtime) -> Health:
    """Whether the orchestrator is fit for work."""
    kernel = runtime.kernel
    leaked = len(kernel.leaked)
    lost = runtime.publisher.lost
    slow = [
        receiver.name
        for receivers in list(runtime.publisher.receivers.values())
        for receiver in receivers
        if receiver.own and receiver.busy
    ]
    fault = runtime.fault
    open_ = runtime.started and not runtime.closed and fault is None
    notices = runtime.notices
    why = "not started"
    if runtime.started:
        why = f"stopped: {notices.cut_short}" if notices.cut_short else "stopped"
    if fault is not None:
        why = fault.message
    checks = [
        HealthCheck("scheduler", *_scheduler(runtime, "" if open_ else why)),
        HealthCheck(
            "slots",
            "degraded" if leaked else "ok",
            f"{leaked} held by work that would not stop" if leaked else "",
        ),
        HealthCheck(
            "receivers",
            "degraded" if lost or slow or notices.receivers() else "ok",
            "; ".join(
                [f"slow: {', '.join(slow)}"] * bool(slow)
                + [f"{counted(lost, 'event')} lost"] * bool(lost)
                + notices.receivers()
            ),
        ),
        _queue(runtime),
        _agents(runtime),
        _journal(runtime),
        *_policies(runtime),
        *blocked(runtime),
        *held_for_long(runtime),
        *notices.checks(),
        *(tell() for tell in runtime.health_checks),
    ]
    checks = _together(checks)
    worst = max((check.status for check in checks), key=_ORDER.index)
    ready = open_ and not runtime.draining and leaked < kernel.concurrency
    if runtime.committer is not None and runtime.committer.trouble:
        ready = False
    return Health(worst, open_, ready, tuple(checks))


def _scheduler(runtime: Runtime, why: str) -> tuple[str, str]:
    """Health of the scheduler: status and detail. *why*: the reason it is not open."""
    if why:
        return "failed", why
    if runtime.draining:
        return "degraded", "draining: it takes no new work, and is about to stop"
    return "ok", ""


def _together(checks: Iterable[HealthCheck]) -> list[HealthCheck]:
    """One check of each component: several may have a say in one."""
    found: dict[str, HealthCheck] = {}
    for check in checks:
        other = found.get(check.component, check)
        if other is not check:
            status = max(other.status, check.status, key=_ORDER.index)
            detail = "; ".join(filter(None, (other.detail, check.detail)))
            check = HealthCheck(check.component, status, detail)  # noqa: PLW2901 - both
        found[check.component] = check
    return list(found.values())


def report(runtime: Runtime) -> None:
    """Monitoring: say how things stand, to those who listen."""
    wanted = runtime.publisher.receivers
    if StatsReported in wanted:
        runtime.note(StatsReported, stats(runtime))
    if HealthReported in wanted:
        runtime.note(HealthReported, health(runtime))
    if PerformanceReported in wanted:
        runtime.note(PerformanceReported, dict(stats(runtime).types))
