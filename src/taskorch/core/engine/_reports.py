"""
Status, lists, health, statistics, and explanations.

Decisions: quotas-and-budgets, reruns.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from taskorch.core.engine._documents import describe_late, earlier_of, late_of
from taskorch.core.engine._runtime import Runtime
from taskorch.core.engine._stale import Cause, Staleness, is_left_out
from taskorch.core.engine._waiting import blockade, some_of
from taskorch.core.engine._work import (
    Work,
    added_by,
    allowed_error,
    give_error,
    is_cached,
    note_given,
    task_of,
)
from taskorch.core.kernel import (
    GOING,
    NOT_STARTED,
    Kernel,
    Search,
    TaskRow,
    WorkerRow,
    awaits,
    budgeting,
    call_of_answer,
    explain as explain_row,
    hold_of_starts,
    moves_of,
    names_of,
    past_of,
    without_quotas,
    words_of_hold,
    words_of_holds,
)
from taskorch.errors import ProgramFailedError, UnknownTaskError
from taskorch.events import HealthReported, PerformanceReported, StatsReported
from taskorch.kit.checks import built_in
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import BLOCKING_SECONDS, FAULT_SECONDS, HELD_SECONDS, NS
from taskorch.kit.raised import place_of, told_of
from taskorch.kit.visible import counted, is_text, show, visible
from taskorch.kit.words import in_words, some
from taskorch.model import (
    TERMINAL,
    AgentStats,
    Blocker,
    Durations,
    Explanation,
    Health,
    HealthCheck,
    HistoryEntry,
    Missing,
    ProgramResult,
    QueueStats,
    RecoveryAttempt,
    Remedy,
    Resources,
    RetryStats,
    StateStats,
    Stats,
    Stuck,
    TaskState,
    TaskStatus,
    TypeStats,
    quantile,
)
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.metrics import MeterProvider

    from taskorch.core.engine._given import Meter
    from taskorch.core.kernel import TypeRow, Waits


# -- starts that are held back, by hand or by alerts: what is kept, and is in the log --


_LOG: Final = log_of("taskorch.starts")


def hold(runtime: Runtime, who: str, most: int, why: str, *, lasts: bool) -> None:
    """Hold starts back; if the hold *lasts*, return once it is kept."""
    changed = runtime.step(
        lambda now: runtime.kernel.hold_starts(who, most, why, now, lasts=lasts),
        keep=lasts,
    )
    if changed:
        _LOG.warning("%s", visible(words_of_hold(who, most, why)))


def release(runtime: Runtime, who: str) -> bool:
    """Release the starts that *who* holds back; return False if it held none."""
    _, _, lasts = runtime.kernel.holds.get(who, (0, "", True))
    # The journal may not have been opened yet, which makes another kernel.
    changed: bool = runtime.step(
        lambda now: runtime.kernel.release_starts(who, now), keep=lasts
    )
    if changed:
        _LOG.info("%s", visible(f"{who} holds no starts back any more"))
    return changed


def tell_of_earlier(runtime: Runtime) -> None:
    """Log which holds of earlier incarnations go on."""
    for who, (most, why, _) in runtime.kernel.holds.items():
        words = words_of_hold(who, most, why)
        _LOG.warning("%s", visible(f"{words} It was so in an earlier incarnation."))


# -- who holds up all others, while it lasts: a policy that is asked, or a coroutine ---


def blocked(runtime: Runtime) -> list[HealthCheck]:
    """
    Return health checks for what blocks all others; take no lock, and do not wait.

    Whether the loop is blocked is known from the second call on: the first one has
    it answer as soon as it can.
    """
    found = []
    now = monotonic()
    for component, since, ident in runtime.deciders.asked():
        if now - since > BLOCKING_SECONDS:
            said = f"the {component} has been asked for {now - since:.0f} s"
            found.append(HealthCheck(component, "degraded", said + _where(ident)))
    since, ident, name = runtime.loops.unanswered()
    if now - since > BLOCKING_SECONDS:
        who = f"task {name}" if name else "something"
        said = f"{who} has blocked the event loop for {now - since:.0f} s"
        found.append(HealthCheck("loop", "degraded", said + _where(ident)))
    runtime.notices.are_blocked({check.component: check.detail for check in found})
    return found


def _where(ident: int) -> str:
    """Return the innermost call of a thread, if it exists still."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return ""
    last = traceback.extract_stack(frame)[-1]
    return f": in {last.name}, {last.filename}:{last.lineno}"


# -- who has held something by hand for long, while tasks wait for it: a leak, perhaps


def held_for_long(runtime: Runtime) -> list[HealthCheck]:
    """Return health checks for allocations by hand; take no lock."""
    kernel = runtime.kernel
    if not kernel.allocations:
        return []
    now = runtime.now()
    told = []
    for row in list(kernel.allocations.values()):
        seconds = (now - row.since_ns) / NS
        wanted = [name for name, _ in row.units if _is_wanted(kernel, name)]
        if wanted and seconds > HELD_SECONDS:
            what = ", ".join(wanted)
            told.append(
                f"allocation {row.id} has been held by {row.owner} "
                f"for {seconds / 3_600:.1f} h, and tasks wait for {what}"
            )
    return [HealthCheck("resources", "degraded" if told else "ok", "; ".join(told))]


def _is_wanted(kernel: Kernel, name: str) -> bool:
    """Return whether tasks wait for a pool."""
    pool = kernel.pools.get(name)
    if pool is None:
        return False
    places = list(pool.short.values())
    return bool(pool.parked) or any(place.members for place in places)


# -- what the orchestrator says of itself: status, statistics, health ------------------


#: The states of a component, from the best.
_ORDER: Final = ("ok", "degraded", "failed")
#: The most statuses that are made under the lock at once.
_SLICE: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final[Mapping[str, Any]] = ReadOnly({})


def status(runtime: Runtime, task_id: str) -> TaskStatus:
    """
    Return the status of one task.

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
    """Return the status of the task of *row*; hold the lock."""
    label = runtime.deciders.label
    kernel, read = runtime.kernel, runtime.directory.recovered
    if read and row.id not in kernel.tasks:
        kernel = read.apart
    extra, state = row.extra, row.state
    past = past_of(row)
    error = give_error(work)
    if state in TERMINAL and work._visible_after > runtime.committed:
        # Its end is not kept yet, and may be lost.
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
    staleness = staleness or Staleness(runtime)
    rerun, mended_by = later_of(runtime, row.id, work, staleness)
    return TaskStatus(
        task_id=row.id,
        type=row.bucket.spec.type,
        state=state,
        label=label(state),
        result=work._value if state is TaskState.COMPLETED else None,
        error=error,
        attempts=row.attempt,
        history=history,
        agent_id=None if row.worker is None else row.worker.name,
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
        recovery_attempts=recoveries_of(work),
        stopping=extra.stop_reason if extra is not None and extra.stop else "",
        stale=staleness.cause(work) is not None,
        rerun=rerun,
        mended_by=mended_by,
        units=ReadOnly(dict(names_of(kernel, row.alloc))),
        spent=spent_by([row]),
        allowed=state is TaskState.FAILED and allowed_error(work) is not None,
    )


def statuses_of(runtime: Runtime, works: Iterable[Work]) -> list[TaskStatus]:
    """Return the status of each of many tasks; what is in the journal is read once."""
    rest = iter(works)
    statuses: list[TaskStatus] = []
    while part := [*islice(rest, _SLICE)]:
        with runtime.lock:
            staleness = Staleness(runtime)
            staleness.look(part)
            statuses += [status_of(runtime, w._row, w, staleness) for w in part]
    return statuses


def recoveries_of(work: Work) -> tuple[RecoveryAttempt, ...]:
    """Return what mended the attempts of a task, or tried to."""
    return () if work._extra is None else work._extra.recoveries


def spent_by(rows: Iterable[TaskRow]) -> Mapping[str, float] | None:
    """Return what the runs of a task have spent of budgets; None if unknown."""
    spent: dict[str, int] | None = None
    for row in rows:
        if row.extra is None or row.extra.paid is None:
            if row.bucket.spec.budget and row.attempt:
                return None
            continue
        spent = spent or {}
        for name, units in row.extra.paid.items():
            spent[name] = spent.get(name, 0) + units
    if spent is None:
        return None
    return ReadOnly({name: units / 1e6 for name, units in spent.items()})


def later_of(
    runtime: Runtime,
    task_id: str,
    work: Work | None = None,
    staleness: Staleness | None = None,
) -> tuple[str, str]:
    """
    Return the latest run after this one, and the first completed; hold the lock.

    For a task that is no part of its run any more, both are the run of the task that
    had added it, and completed without it.
    """
    reruns = runtime.directory.reruns
    later = reruns.later_than(task_id)
    if not later:
        row = runtime.kernel.tasks.get(task_id)
        work = row.cargo if row is not None else work
        adder = "" if reruns.is_empty or work is None else added_by(work)
        if work is None or not adder or not is_left_out(staleness or runtime, work):
            return "", ""
        latest = reruns.latest(stem_of(adder))
        return latest, latest
    good = (name for name in later if _state(runtime, name) is TaskState.COMPLETED)
    return later[-1], next(good, "")


def _state(runtime: Runtime, task_id: str) -> TaskState | None:
    """Return the state of a run, as far as it is kept; hold the lock."""
    row = runtime.kernel.tasks.get(task_id)
    if row is None:
        return runtime.kernel.evicted.get(task_id)
    if row.cargo._visible_after > runtime.committed and row.state in TERMINAL:
        return None
    return row.state


def told_state(runtime: Runtime, work: Work) -> TaskState:
    """Return the state of a task, as far as it is kept; hold the lock."""
    row: TaskRow = work._row
    if row.state in TERMINAL and work._visible_after > runtime.committed:
        # Its end is not kept yet, and may be lost.
        return past_of(row)[-2][0]
    return row.state


def _moment(ns: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=ns // 1_000) if ns else None


def _log_path(row: TaskRow, work: Work) -> Path | None:
    """Return the log of the latest program of *row*."""
    control = None if work._extra is None else work._extra.control
    if control is not None and row.state not in TERMINAL:
        executor = control.executor
        if executor is None or control.attempt != row.attempt:
            return None
        return executor.log_path(control.handle)
    ended = _program_result(work)
    return None if ended is None else ended.log_path


def _program_result(work: Work) -> ProgramResult | None:
    """Return the result of the latest program of a task, if it has ended."""
    error = work._error
    ended = error.result if isinstance(error, ProgramFailedError) else work._value
    # The `__class__` of a value is the user's, and may raise.
    return ended if type(ended) is ProgramResult else None


def since_when(row: TaskRow) -> int:
    """Return the time at which *row* entered its state."""
    if row.extra is not None and row.extra.past:
        return moves_of(row)[-1][1]
    return row.ended_ns or row.started_ns or row.ready_ns or row.submitted_ns


def stats(runtime: Runtime) -> Stats:
    """Return counts, quantiles and uses of the orchestrator, at one instant."""
    with runtime.lock:
        found = _totals(runtime)
        kinds = runtime.kernel.types.items()
        samples = {name: (row, list(row.samples)) for name, row in kinds}
    # The sorting is done without the lock.
    types = {name: _type(row, taken) for name, (row, taken) in samples.items()}
    return attrs.evolve(found, types=ReadOnly(types))


def coverage(runtime: Runtime) -> dict[str, float]:
    """Return, by type, the coverage in percent of the latest result that has one."""
    found: dict[str, tuple[int, float]] = {}
    with runtime.lock:
        rows = list(runtime.kernel.tasks.values())
    for row in rows:
        # This is read without the lock, as it changes only once, when the task ends.
        work = row.cargo
        if row.state is not TaskState.COMPLETED or work is None:
            continue
        percent = _percent(work._value)
        kind = row.bucket.spec.type
        if percent is not None and row.ended_ns >= found.get(kind, (0, 0.0))[0]:
            found[kind] = row.ended_ns, percent
    return {kind: percent for kind, (_, percent) in found.items()}


def _percent(result: object) -> float | None:
    """Return the coverage in a result: a share of a suite's, or a percentage."""
    if type(result) is not dict:
        return None
    for name, times in (("coverage_percentage", 1.0), ("coverage", 100.0)):
        said = result.get(name)
        if isinstance(said, int | float) and not isinstance(said, bool):
            percent = times * said
            if 0 <= percent <= 100:  # noqa: PLR2004 - else it is not a percentage
                return percent
    return None


def totals(runtime: Runtime) -> Stats:
    """Return counts without the quantiles of each type: see `stats`."""
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
            0 if runtime.strategies is None else runtime.strategies.repaired,
        ),
        resources=ReadOnly(kernel.pool_stats()),
        agents=ReadOnly(
            {
                name: _worker(worker, now, stands_by=name in waiting)
                for name, worker in kernel.workers.items()
            }
        ),
        types=ReadOnly({}),
        failures=ReadOnly(dict(kernel.causes)),
        leaked=len(kernel.leaked),
        events_lost=runtime.publisher.lost,
        holds=tuple(words_of_holds(kernel)),
        glue=runtime.glue,
        violations=_violations(runtime),
    )


def _violations(runtime: Runtime) -> Mapping[str, Mapping[str, int]]:
    """Return the counts of violations, by severity and by policy: see `Stats`."""
    counts: dict[str, dict[str, int]] = {}
    if runtime.governor is not None:
        for (severity, policy), count in runtime.governor.violated.items():
            counts.setdefault(severity, {})[policy] = count
    return ReadOnly({name: ReadOnly(each) for name, each in counts.items()})


def _standing_by(runtime: Runtime) -> list[str]:
    """Return idle workers of `stand_ins` whose abilities others have, too."""
    if not runtime.stand_ins:
        return []
    others = {
        capability
        for name, worker in runtime.kernel.workers.items()
        if name not in runtime.stand_ins and not worker.lost
        for capability in worker.info.capabilities
    }
    return [
        name
        for name in runtime.stand_ins
        if (worker := runtime.kernel.workers.get(name)) is not None
        # A worker without capabilities only runs tasks that hold others together.
        and not (worker.running and worker.info.capabilities)
        and others.issuperset(worker.info.capabilities)
    ]


def _worker(worker: WorkerRow, now: int, *, stands_by: bool) -> AgentStats:
    # A worker that left in order owes no sign of life.
    is_awaited = worker.lease_ns and not (worker.lost and worker.draining == GOING)
    silent = max(0, now - worker.heard_ns) / NS if is_awaited else None
    return AgentStats(
        running=worker.running,
        max_concurrency=worker.info.max_concurrency,
        completed=worker.completed,
        failed=worker.failed,
        used=worker.view.used,
        capacity=worker.info.capacity,
        performance=ReadOnly(
            {name: record.performance() for name, record in worker.records.items()}
        ),
        leaked=worker.leaked,
        lost=worker.lost,
        silent=silent,
        round_trip=None if worker.lost else worker.round_trip,
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


def _is_missed(runtime: Runtime, worker: WorkerRow) -> bool:
    """Return whether a worker that is lost should be there."""
    if worker.draining == GOING:
        return False
    # Their pool decides how many of these there are in this incarnation.
    fleet = runtime.fleet
    return fleet is None or not fleet.is_of_earlier_incarnation(worker.name)


def _workers(runtime: Runtime) -> HealthCheck:
    """Check whether all known workers are there and get work."""
    every = list(runtime.kernel.workers.values())
    workers = [
        worker for worker in every if not worker.lost or _is_missed(runtime, worker)
    ]
    lost = [worker.name for worker in workers if worker.lost]
    shut = [
        worker.name
        for worker in workers
        if any(one.state != "closed" for one in list(worker.breakers.values()))
    ]
    said = []
    if lost:
        said.append(f"{len(lost)} of {len(workers)} are not there: {some(lost)}")
    if shut:
        said.append(f"breakers are open of {some(shut)}")
    return HealthCheck("agents", "degraded" if said else "ok", "; ".join(said))


def _policies(runtime: Runtime) -> list[HealthCheck]:
    """Return checks of the policies that have failed of late."""
    now = runtime.now()
    return [
        HealthCheck(
            component,
            "degraded",
            f"it has failed {many:,} time{'s' * (many > 1)}, the last one "
            f"{in_words((now - at) / NS)} ago: {said}",
        )
        for component, (many, at, said) in runtime.kernel.faults.copy().items()
        if now - at < FAULT_SECONDS * NS
    ]


def health(runtime: Runtime) -> Health:
    """Check whether the orchestrator is fit for work."""
    leaked = len(runtime.kernel.leaked)
    fault = runtime.fault
    open_ = runtime.started and not runtime.closed and fault is None
    why = "not started"
    if runtime.started:
        cut_short = runtime.notices.cut_short
        why = f"stopped: {cut_short}" if cut_short else "stopped"
    if fault is not None:
        why = fault.message
    own = (_slots, _receivers, _queue, _workers, _journal, _policies)
    asked = [
        *(partial(each, runtime) for each in (*own, blocked, held_for_long)),
        runtime.notices.checks,
        *runtime.health_checks,
    ]
    checks = [HealthCheck("scheduler", *_scheduler(runtime, "" if open_ else why))]
    for ask in asked:
        checks += _found_by(ask)
    checks = _together(checks)
    worst = max((check.status for check in checks), key=_ORDER.index)
    ready = open_ and not runtime.draining and leaked < runtime.kernel.concurrency
    if runtime.committer is not None and runtime.committer.trouble:
        ready = False
    live = open_ or (fault is None and runtime.lifecycle.is_stopping)
    return Health(worst, live, ready, tuple(checks))


def _found_by(ask: Callable[[], object]) -> list[HealthCheck]:
    """Return what a check finds; one that raises or gives another thing says so."""
    try:
        answer: Any = ask()
        checks = [answer] if isinstance(answer, HealthCheck) else list(answer)
        if all(each.status in _ORDER and is_text(each.detail) for each in checks):
            return checks
        fault = f"gave {show(answer)}"
    except BaseException as error:
        if not is_values(error):
            raise
        fault = f"raised {': '.join(filter(None, told_of(error)))}"
    function = getattr(ask, "func", ask)
    name = show(getattr(function, "__qualname__", function))
    return [HealthCheck("checks", "degraded", f"the check {name} {fault}")]


def _slots(runtime: Runtime) -> HealthCheck:
    leaked = len(runtime.kernel.leaked)
    detail = f"{leaked} held by work that would not stop" if leaked else ""
    return HealthCheck("slots", "degraded" if leaked else "ok", detail)


def _receivers(runtime: Runtime) -> HealthCheck:
    lost = runtime.publisher.lost
    each = {
        receiver: None
        for receivers in list(runtime.publisher.receivers.values())
        for receiver in receivers
    }
    slow = [*filter(None, (receiver.trouble() for receiver in each))]
    troubles = [f"slow: {', '.join(slow)}"] * bool(slow)
    troubles += [f"{counted(lost, 'event')} lost"] * bool(lost)
    troubles += runtime.notices.receivers()
    return HealthCheck(
        "receivers", "degraded" if troubles else "ok", "; ".join(troubles)
    )


def _scheduler(runtime: Runtime, why: str) -> tuple[str, str]:
    """Check the scheduler: status and detail. *why*: the reason it is not open."""
    if why:
        return "failed", why
    if runtime.draining:
        return "degraded", "draining: it takes no new work, and is about to stop"
    return "ok", ""


def _together(checks: Iterable[HealthCheck]) -> list[HealthCheck]:
    """Return one check for each component, of which several may speak."""
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
    """Publish statistics, health and performance, if they have listeners."""
    wanted = runtime.publisher.receivers
    if StatsReported in wanted:
        runtime.note(StatsReported, stats(runtime))
    if HealthReported in wanted:
        runtime.note(HealthReported, health(runtime))
    if PerformanceReported in wanted:
        runtime.note(PerformanceReported, dict(stats(runtime).types))


# -- what the runtime does for metrics, if there is an SDK of OpenTelemetry ------------


def measure(rt: Runtime, provider: MeterProvider) -> None:
    """Measure from now on, with the meters of *provider*."""
    metrics = built_in("telemetry._metrics", "meter_provider=").Metrics
    meter: Meter = metrics(provider, partial(stats, rt), partial(_type_of, rt))
    meter.connect(rt.signals)
    rt.metrics = meter


def _type_of(rt: Runtime, task_id: str) -> str:
    row = rt.kernel.tasks.get(task_id)
    return "" if row is None else row.bucket.spec.type


# -- why tasks do not run, or what became of them: what the runtime adds to the kernel


_NOT_STARTED: Final = Blocker(
    "not_started",
    "The orchestrator has not been started.",
    remedies=NOT_STARTED.remedies,
)
_STOPPED: Final = Blocker(
    "not_started", "The orchestrator stops, or has stopped: nothing starts any more."
)


def explain(runtime: Runtime, task_id: str, *, estimates: bool) -> Explanation:
    """
    Explain why a task does not run, or how it ended.

    Raises:
        UnknownTaskError: No task has this id.
        ComponentError: A policy failed that was asked.
    """
    runtime.recall((task_id,))

    def ask(now: int) -> Explanation:
        return explanation(
            runtime, task_id, now, estimates=estimates, paused=_paused(runtime)
        )

    found: Explanation = runtime.step(ask)
    return found


def explanation(
    runtime: Runtime, task_id: str, now: int, *, estimates: bool, paused: Blocker
) -> Explanation:
    """
    Do as `explain`, under the lock; *paused* says why nothing starts, if so.

    Raises:
        UnknownTaskError: No task has this id.
    """
    work = runtime.directory.known(runtime.directory.reruns.latest(task_id))
    row = work._row
    waits = runtime.waiting.waits_of(row)
    inside: dict[str, None] = {}
    meetings = []
    for targets in waits:
        if isinstance(targets, tuple):
            inside.update(dict.fromkeys(target.id for target in targets))
        else:
            meetings.append(targets.words())
    found = explain_row(
        runtime.kernel,
        row,
        now,
        whole=True,
        estimates=estimates,
        paused=paused,
        inside=tuple(inside),
    )
    errors = (
        (work._error, *reversed(list(earlier_of(work).values()))) if found.error else ()
    )
    where = next(filter(None, map(place_of, errors)), "")
    staleness = Staleness(runtime)
    cause = staleness.cause(work)
    if cause is not None:
        latest = (staleness.recovered or staleness.reruns).latest(stem_of(cause.had))
        found = attrs.evolve(found, stale=why_stale(found, cause, latest))
    if runtime.fleet is not None:
        why = runtime.fleet.why_none(row.bucket)
        blockers = tuple(_with_reason(blocker, why) for blocker in found.blockers)
        found = attrs.evolve(found, blockers=blockers)
    blockers = tuple(_with_answers(runtime, row, each) for each in found.blockers)
    found = attrs.evolve(found, blockers=blockers)
    cache = ""
    if is_cached(work):
        cache = runtime.memo.said.get(row.id, "")
    place = runtime.attempts.place(row)
    late = describe_late(work)
    recovery = ""
    if runtime.strategies is not None:
        recovery = runtime.strategies.under_way(row)
    return attrs.evolve(
        found,
        late=late,
        where=where,
        cache=cache,
        place=place,
        recovery=recovery,
        usage=_usage(row, work),
        notes=(*meetings, *_notes_of(work)),
    )


def _notes_of(work: Work) -> tuple[str, ...]:
    """Return the lines that extensions add to the explanation of *work*."""
    own = {} if work._extra is None else work._extra.own
    lines = [line for each in list(own.values()) for line in each.words()]
    if issubclass(type(work._value), Missing):
        lines.append(f"Its result: {work._value.why}.")
    return tuple(lines)


def _usage(row: TaskRow, work: Work) -> str:
    """Return what the latest program of *row* used of its limits, and what held it."""
    result = _program_result(work)
    if result is None:
        return ""
    amounts = {**task_of(row, work).resources, **result.limits}
    used = [
        f"{much:.{digits}f} of {amounts[name]:g} {unit}"
        for name, much, digits, unit in (
            ("memory_mb", result.memory_mb, 0, "MB of memory"),
            ("cpu_seconds", result.cpu_seconds, 1, "seconds of processors"),
            ("processes", result.processes, 0, "processes"),
            ("written_mb", result.written_mb, 1, "MB written"),
        )
        if much is not None and amounts.get(name)
    ]
    clauses = [f"used {', '.join(used)}"] if used else []
    if result.enforced:
        clauses.append(f"was held by {result.enforced}")
    if result.unenforced:
        clauses.append(f"was not held to {', '.join(result.unenforced)}")
    return f"It {', and '.join(clauses)}." if clauses else ""


def _with_reason(blocker: Blocker, why: str) -> Blocker:
    """Add to "no worker can do it" why a worker that could is not there."""
    if blocker.kind != "capability" or not why:
        return blocker
    return attrs.evolve(blocker, detail=f"{blocker.detail.rstrip('.')}: {why}.")


#: A blocker or stuck task, which may wait for a person's answer.
_Waiting = TypeVar("_Waiting", Blocker, Stuck)


def _with_answers(runtime: Runtime, row: TaskRow, blocked: _Waiting) -> _Waiting:
    """Add first which questions are to be answered for *row*, which is *blocked*."""
    kernel, spec = runtime.kernel, row.bucket.spec
    names: list[str] = []
    if blocked.kind == "capability" and runtime.fleet is not None:
        names = runtime.fleet.asked_for(spec.needs if spec.requires else ())
    elif blocked.kind == "budget":
        names = budgeting().questions_of(kernel, spec.budget)
    elif blocked.kind in ("policy", "decision") and runtime.governor is not None:
        names = runtime.governor.waivers_asked_for(row)
    asked = [kernel.tasks.get(runtime.directory.reruns.latest(name)) for name in names]
    answers: tuple[Remedy, ...] = tuple(
        Remedy("decide", call_of_answer(kernel, each), (each.id,))
        for each in asked
        if each is not None and each in kernel.asked
    )
    return attrs.evolve(blocked, remedies=(*answers, *blocked.remedies))


def why_stale(found: Explanation, cause: Cause, latest: str) -> str:
    """
    Return two sentences: why the explained task is stale, and what to call.

    *latest* is the latest run of the task of which the cause had an earlier run.
    """
    if cause.by_adder:
        adder = stem_of(cause.had)
        return (
            f"It is stale: {cause.had} had added {cause.task_id}, and was run again "
            f"since, as {latest}. Call orch.rerun_task({adder!r}), which adds it again "
            "if it is still needed."
        )
    again = f"orch.rerun_task({stem_of(cause.task_id)!r}"
    is_own = cause.task_id == found.task_id
    subject = "it" if is_own else cause.task_id
    why = f"{subject} had {cause.had}, which was run again since, as {latest}"
    if cause.had == latest:
        why = f"{subject} began while {latest} was blocked, which went on since"
    if is_own:
        call = "Call" if found.state in TERMINAL else "Once it has ended, call"
        return f"It is stale: {why}. {call} {again})."
    return f"It is stale: {why}. Call {again}, downstream=True)."


def _paused(runtime: Runtime) -> Blocker:
    """Return why nothing starts, if so."""
    committer = runtime.committer
    if runtime.closed or runtime.fault is not None:
        return _STOPPED
    if committer is not None and committer.trouble:
        why = committer.trouble.rstrip(".")
        detail = f"Nothing starts while the journal cannot be written: {why}."
        words = "Let the journal be written again: that is tried all the time."
        return Blocker("journal", detail, remedies=(Remedy("journal", words),))
    held = hold_of_starts(runtime.kernel)
    return held if held and not runtime.kernel.stopped else _NOT_STARTED


def stuck(runtime: Runtime) -> tuple[Stuck, ...]:
    """
    Return the tasks that can never proceed as things stand, by cause.

    The lock is held for a slice at a time.

    Raises:
        ComponentError: The registry failed.
    """

    def begin(now: int) -> Search:
        waits: dict[TaskRow, Waits] = {}
        for (task_id, attempt), targets in runtime.waiting._waits.items():
            row = runtime.kernel.tasks.get(task_id)
            if row is not None and row.attempt == attempt:
                needs = map(some_of, targets)
                waits[row] = [(least, [*rows]) for least, rows in needs]
        for_ever = [row for row, _ in runtime.waiting.left().values()]
        return Search(runtime.kernel, now, waits, for_ever)

    search: Search = runtime.step(begin)
    slices = search.slices()
    # Only at the end does it give the time instead of None.
    while runtime.step(lambda now: next(slices, now)) is None:
        pass

    def answers(_: int) -> tuple[Stuck, ...]:
        tasks = runtime.kernel.tasks
        return tuple(
            _with_answers(runtime, tasks[group.tasks[0]], group)
            if group.tasks[0] in tasks
            else group
            for group in search.groups
        )

    groups: tuple[Stuck, ...] = runtime.step(answers)
    return groups
