"""The progress of a run, an estimate of the time that is left, and the final report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from taskorch.core.engine import (
    Staleness,
    give_error,
    is_skipped,
    recoveries_of,
    row_of,
    spent_by,
)
from taskorch.core.kernel import LEFT_RUNNING, is_forgiven, past_of
from taskorch.core.runs._members import blockers
from taskorch.core.workflows import PhaseReport, TaskReport, Verdict, WorkflowReport
from taskorch.core.workflows._graph import longest_path, order
from taskorch.core.workflows._phases import approval_of, gate_of
from taskorch.core.workflows._status import PhaseStatus, WorkflowStatus, state_of
from taskorch.errors import DependencyFailedError, GateFailedError
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import NS
from taskorch.kit.raised import place_of, told_of
from taskorch.kit.visible import is_text, said
from taskorch.model import TERMINAL, MadeFor, TaskState
from taskorch.model.ids import earlier_ids, run_of, without_run

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.kernel import TaskRow


#: When a task began to run, when it no longer did, in ns, and the detail of the begin.
Spell: TypeAlias = tuple[int, int | None, str]


def spells_of(row: TaskRow) -> Iterator[Spell]:
    """Return when *row* was running: its attempts, without suspensions."""
    began: int | None = None
    for state, at, detail in list(past_of(row)):
        if state is TaskState.RUNNING:
            began = at if began is None else began
        elif began is not None:
            yield began, at, detail
            began = None
    if began is not None:
        yield began, None, ""


def known_ends(rt: Runtime, rows: Iterable[TaskRow]) -> dict[int, int]:
    """
    Return ends for attempts of *rows* that were cut off with a process.

    Their history has them end when the next incarnation began. All that is known is
    that they ran at the time of their last event.

    Returns:
        By the instant in the history, that of the last event before it, in ns.
    """
    last_events: dict[int, int] = {}
    if rt.directory.recovered is None:
        return last_events
    cut_off = {
        end: row.id
        for row in rows
        for _, end, detail in spells_of(row)
        if end is not None and LEFT_RUNNING in detail
    }
    for end, task_id in cut_off.items():
        last = rt.directory.recovered.last_before_incarnation(task_id, end)
        if last is not None:
            last_events[end] = last
    return last_events


_S: Final = TaskState
#: Types of tasks that take no time of their own.
_QUICK: Final = frozenset({"gate", "gather", "reduce"})
#: The latest attempts of a type that an estimate uses.
_SAMPLES: Final = 101


class Run(Protocol):
    """Protocol: a run of a workflow, as far as this module needs it."""

    workflow_id: str
    _rt: Runtime

    @property
    def handles(self) -> Mapping[str, TaskHandle[Any]]:
        """The handles of its tasks, by their ids in the workflow."""
        ...

    def _above(self, among: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return the parents of each task in *among*, as far as they are in it."""
        ...

    def _phases(self) -> dict[str, list[str]]:
        """Return the phases of the run, and the tasks of each, with its gate."""
        ...


def status(run: Run, is_paused: bool) -> WorkflowStatus:
    """Return the progress of *run*, at one instant."""
    rt = run._rt
    handles = run.handles
    with rt.lock:
        rows = {name: row_of(work) for name, work in handles.items()}
        states = {name: row.state for name, row in rows.items()}
        parents = run._above(rows)
        eta, unknown = _estimate(rt, rows, parents)
        stale = Staleness(rt).among(handles)
    state, counts = _sum(rows, states, states)
    running = sum(map(under_way, rows.values()))
    over = all(state in TERMINAL for state in counts)
    allowed = tuple(name for name, row in rows.items() if is_forgiven(row))
    remaining = {
        name
        for name in states
        if states[name] is not _S.COMPLETED and name not in allowed
    }
    return WorkflowStatus(
        run.workflow_id,
        state,
        ReadOnly(states),
        ReadOnly(counts),
        longest_path(parents, remaining),
        pause="" if not is_paused or over else "pausing" if running else "paused",
        running=running,
        asks=tuple(name for name, row in rows.items() if is_asked(row)),
        eta=eta,
        eta_unknown=unknown,
        phases=ReadOnly(
            {
                name: _phase(run, name, members, rows, states)
                for name, members in _phases(run, rows).items()
            }
        ),
        stale=stale,
        parameters=ReadOnly(parameters_of(run)),
        allowed=allowed,
    )


def parameters_of(run: Run) -> dict[str, Any]:
    """Return the parameters of *run*: each of its tasks has them."""
    tasks = (work._task for work in run.handles.values())
    noted = (
        task.metadata.get(MadeFor.PARAMETERS)
        for task in tasks
        if task and task.metadata
    )
    return dict(next(filter(None, noted), {}))


def _phases(run: Run, among: Collection[str]) -> dict[str, list[str]]:
    """Return the phases of *run*, and the known tasks of each."""
    return {
        phase: [name for name in names if name in among]
        for phase, names in run._phases().items()
    }


def _sum(
    rows: Mapping[str, TaskRow],
    states: Mapping[str, TaskState],
    among: Collection[str],
) -> tuple[TaskState, dict[TaskState, int]]:
    """Return the state of a group of tasks, and how many are in each state."""
    count = Counter(states[name] for name in among)
    counts = {state: count[state] for state in TaskState if count[state]}
    stuck = sum(blockers(rows[name]) != () for name in among)
    skipped = sum(is_skipped(rows[name]) for name in among)
    allowed = sum(is_forgiven(rows[name]) for name in among)
    # If every task was skipped, the state is not COMPLETED.
    skipped *= skipped < len(among)
    return state_of(counts, stuck, skipped, allowed), counts


def under_way(row: TaskRow) -> bool:
    """Return whether an attempt does more than wait for other tasks."""
    return row.state is _S.RUNNING and (row.extra is None or not row.extra.yielded)


def is_asked(row: TaskRow) -> bool:
    """Return whether *row* waits for a decision."""
    return row.state is _S.BLOCKED and not blockers(row)


def _phase(
    run: Run,
    name: str,
    members: Collection[str],
    rows: Mapping[str, TaskRow],
    states: Mapping[str, TaskState],
) -> PhaseStatus:
    state, counts = _sum(rows, states, members)
    verdict = ""
    if not all(decision.passed for decision in _verdicts(run, name)):
        verdict = "failed"
    elif is_skipped(rows[gate_of(name)]):
        verdict = "skipped"
    elif state is _S.COMPLETED:
        verdict = "passed"
    elif (end := approval_of(name)) in rows and is_asked(rows[end]):
        verdict = "waiting for approval"
    return PhaseStatus(
        name,
        state,
        counts.get(_S.COMPLETED, 0),
        len(members),
        counts.get(_S.RUNNING, 0),
        verdict,
        counts.get(_S.BLOCKED, 0),
    )


# -- estimates ---------------------------------------------------------------------


def _estimate(
    runtime: Runtime,
    rows: Mapping[str, TaskRow],
    parents: Mapping[str, Collection[str]],
) -> tuple[float | None, str]:
    """Return the seconds that are left, or why nobody knows; hold the lock."""
    remaining: dict[str, float] = {}
    durations: dict[str, float | None] = {}
    now = runtime.now()
    for name, row in rows.items():
        if row.state in TERMINAL or blockers(row):
            continue
        if row.state in (_S.SUSPENDED, _S.BLOCKED):
            return None, f"{name} is {row.state}"
        kind = row.bucket.spec.type
        if kind not in durations:
            durations[kind] = _duration(runtime, kind)
        duration = durations[kind]
        if duration is None:
            return None, f"no task of type {kind!r} has completed yet"
        if row.state is _S.RUNNING:
            duration = max(0.0, duration - (now - row.started_ns) / NS)
        remaining[name] = duration
    if not remaining:
        done = all(r.state is _S.COMPLETED or is_forgiven(r) for r in rows.values())
        return (0.0, "") if done else (None, "nothing more runs by itself")
    ends: dict[str, float] = {}
    for name in order(parents):
        if name in remaining:
            above = (ends[parent] for parent in parents[name] if parent in ends)
            ends[name] = remaining[name] + max(above, default=0.0)
    longest = max(ends.values(), default=0.0)
    concurrency = runtime.kernel.config.concurrency
    return max(longest, sum(remaining.values()) / concurrency), ""


def _duration(runtime: Runtime, kind: str) -> float | None:
    """Return the median seconds of the latest attempts of a type."""
    if kind in _QUICK:
        return 0.0
    type_row = runtime.kernel.types.get(kind)
    if type_row is None or not type_row.samples:
        return None
    latest = list(type_row.samples)[-_SAMPLES:]
    return median(ended - started for _, _, started, ended in latest) / NS


# -- reports -----------------------------------------------------------------------


def report(run: Run) -> WorkflowReport:
    """Return the report of *run*."""
    handles = run.handles
    phases = _phases(run, handles)
    phase_of = {name: phase for phase, names in phases.items() for name in names}
    before = _rows_before(run, handles)
    all_rows = [*map(row_of, handles.values()), *chain(*before.values())]
    ends = known_ends(run._rt, all_rows)
    with run._rt.lock:
        rows = {name: row_of(work) for name, work in handles.items()}
        states = {name: row.state for name, row in rows.items()}
        stale = Staleness(run._rt).among(handles)
        reports = (
            _task(
                run.workflow_id,
                name,
                work,
                phase_of.get(name, ""),
                [*before[name], row_of(work)],
                ends,
            )
            for name, work in handles.items()
        )
        tasks = tuple(attrs.evolve(t, stale=t.name in stale) for t in reports)
    state, counts = _sum(rows, states, states)
    by_name = {task.name: task for task in tasks}
    phase_reports = tuple(
        _phase_report(run, name, [by_name[n] for n in names], rows, states)
        for name, names in phases.items()
    )
    return WorkflowReport(
        run.workflow_id,
        state,
        _span(tasks),
        sum(task.duration or 0.0 for task in tasks),
        phase_reports,
        tasks,
        ReadOnly({str(state): count for state, count in counts.items()}),
    )


def _phase_report(
    run: Run,
    name: str,
    tasks: list[TaskReport],
    rows: Mapping[str, TaskRow],
    states: Mapping[str, TaskState],
) -> PhaseReport:
    state, counts = _sum(rows, states, [task.name for task in tasks])
    return PhaseReport(
        name,
        state,
        counts.get(_S.COMPLETED, 0),
        len(tasks),
        _span(tasks),
        tuple(_verdicts(run, name)),
    )


def _span(tasks: Iterable[TaskReport]) -> float | None:
    """Return the seconds from the first start to the last end."""
    begun = [task.started for task in tasks if task.started is not None]
    ended = [task.ended for task in tasks if task.ended is not None]
    return max(0.0, max(ended) - min(begun)) if begun and ended else None


def _rows_before(
    run: Run, handles: Mapping[str, TaskHandle[Any]]
) -> dict[str, list[TaskRow]]:
    """Return the rows of earlier runs of tasks, as far as they are known."""
    earlier = {name: earlier_ids(work.task_id) for name, work in handles.items()}
    ids = [*chain(*earlier.values())]
    run._rt.recall(ids)
    works = run._rt.directory.known_all(ids)
    return {
        name: [row_of(works[each]) for each in ids if each in works]
        for name, ids in earlier.items()
    }


def _task(
    run_id: str,
    name: str,
    work: TaskHandle[Any],
    phase: str,
    rows: Sequence[TaskRow],
    ends: Mapping[int, int],
) -> TaskReport:
    """Return the report of a task with the *rows* of its runs; the last is *work*'s."""
    row = row_of(work)
    spells = [spell for each in rows for spell in spells_of(each)]
    took = [
        max(0, ends.get(end, end) - began)
        for began, end, _ in spells
        if end is not None
    ]
    error = give_error(work) if row.state in TERMINAL else None
    text = ""
    if error is not None:
        kind, text = told_of(error)
        if kind != type(error).__name__ or not hasattr(error, "task_id"):
            text = f"{kind}: {text}".removesuffix(": ")
    return TaskReport(
        name,
        row.id,
        row.bucket.spec.type,
        row.state,
        phase,
        min(began for began, _, _ in spells) / NS if spells else None,
        row.ended_ns / NS if row.ended_ns else None,
        sum(took) / NS if took else None,
        sum(each.attempt for each in rows),
        None if row.worker is None else row.worker.name,
        text,
        tuple((without_run(i) if run_of(i) == run_id else i) for i in roots_of(work)),
        place_of(error),
        spent=spent_by(rows),
        allowed=is_forgiven(row),
        repairs=tuple(map(str, recoveries_of(work))),
    )


def roots_of(work: TaskHandle[Any]) -> tuple[str, ...]:
    """Return ids of tasks whose failure kept *work* from completing, without itself."""
    row = row_of(work)
    if row.extra is None or row.state is _S.COMPLETED:
        return ()
    if row.state is _S.FAILED:
        error = give_error(work)
        return error.root_causes if isinstance(error, DependencyFailedError) else ()
    if row.state is _S.CANCELLED or blockers(row):
        # The present state is not asked for: that would be a walk for each down a long
        # chain.
        return row.extra.first_roots
    return ()


def _verdicts(run: Run, phase: str) -> list[Verdict]:
    """Return the verdict of the gate of a phase, and the approver's."""
    verdicts: list[Verdict] = []
    for name in (gate_of(phase), approval_of(phase)):
        work = run.handles.get(name)
        if work is None:
            continue
        row = row_of(work)
        if row.state not in TERMINAL:
            continue
        at = row.ended_ns / NS if row.ended_ns else None
        if row.state is _S.COMPLETED:
            verdict = _verdict_in(work._value, at)
            verdicts += [] if verdict is None else [verdict]
        elif row.state is _S.FAILED:
            error = give_error(work)
            if isinstance(error, GateFailedError):
                verdicts.append(Verdict(False, "gate", "", at, error.findings))  # noqa: FBT003 - as it is declared
            elif not isinstance(error, DependencyFailedError):
                extra = row.extra
                described = None if extra is None else extra.error
                message = "" if error is None else said(error)[1]
                message = message if described is None else described[1]
                by = "gate" if name == gate_of(phase) else "nobody"
                verdicts.append(_no(by, message, at))
    return verdicts


def _verdict_in(result: object, at: float | None) -> Verdict | None:
    """Return the verdict that a result holds; None if it is a result of the user's."""
    match result:
        case {"passed": bool(passed), "by": str(by), **others}:
            note, checks = others.get("note", ""), others.get("checks", [])
        case _:
            return None
    if not is_text(note) or not isinstance(checks, list | tuple):
        return None
    if not all(map(_is_check, checks)):
        return None
    return Verdict(passed, by, note, at, tuple(map(tuple, checks)))


def _is_check(value: object) -> bool:
    match value:
        case [str(), bool(), str()]:
            return True
    return False


def _no(by: str, message: str, at: float | None) -> Verdict:
    """Return a verdict of which only the text is left, which may name who gave it."""
    note = message
    _, rejected, rest = message.partition("rejected by ")
    if rejected:
        by, _, note = rest.partition(": ")
    return Verdict(passed=False, by=by, note=note, at=at)
