"""Spans of runs of workflows, and of their phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Final

import attrs
from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from taskorch.events import (
    Event,
    OrchestratorStopped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskParentsAdded,
    TaskStarted,
    TaskSubmitted,
    TaskUnblocked,
)
from taskorch.ext.telemetry import _conventions as names
from taskorch.kit.fence import is_values, log_of
from taskorch.model.ids import has_segments, last_of, split_last, stem_of, without_run

_LOG: Final = log_of(__name__)

#: The type of the task that ends a phase, and the last parts of the ids of gates and
#: approvals.
_GATE: Final = "gate"
_APPROVAL: Final = "approval"


@attrs.define(eq=False)
class _OpenPhase:
    """A phase under way."""

    name: str
    #: The begin of the first of its tasks; 0: none has begun.
    began: int = 0
    error: str = ""


@attrs.define(eq=False)
class _OpenRun:
    """A run under way."""

    span: Span
    name: str
    #: Ids of its tasks that may still proceed.
    live: dict[str, None] = attrs.field(factory=dict[str, None])
    #: The phases by the ids of their tasks, gates and approvals.
    phases: dict[str, _OpenPhase] = attrs.field(factory=dict[str, _OpenPhase])
    #: Why its tasks failed or are blocked, by the ids of their first runs.
    errors: dict[str, str] = attrs.field(factory=dict[str, str])
    cancelled: bool = False


def start(
    tracer: trace.Tracer,
    name: str,
    parent: context.Context | None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    links: Sequence[Link] = (),
    start_time: int | None = None,
) -> Span:
    """
    Start a span of *tracer*; return an invalid one if that raises.

    Samplers and processors are the user's, and a task must not fail for them.
    """
    try:
        return tracer.start_span(name, parent, kind, attributes, links, start_time)
    except BaseException as error:
        # Samplers and processors may raise anything.
        if not is_values(error):
            raise
        _LOG.warning("a span could not be begun", exc_info=True)
        return trace.INVALID_SPAN


class Runs:
    """
    The spans of runs that begin in this incarnation.

    *run_of* returns the run of a task, or "".
    """

    def __init__(self, tracer: trace.Tracer, run_of: Callable[[str], str]) -> None:
        self._tracer = tracer
        self._run_of = run_of
        self._lock = Lock()
        self._runs: dict[str, _OpenRun] = {}
        #: Events that are handled; a stop besides.
        self.takes: dict[type[Event], Callable[[_OpenRun, Any], None]] = {
            TaskSubmitted: self._submitted,
            TaskParentsAdded: self._added,
            TaskStarted: self._started,
            TaskCompleted: self._completed,
            TaskFailed: self._failed,
            TaskCancelled: self._cancelled,
            TaskBlocked: self._blocked,
            TaskUnblocked: self._unblocked,
        }

    @property
    def under_way(self) -> bool:
        """Whether there is a run, to which an event may matter."""
        return bool(self._runs)

    def begin(
        self, name: str, run_id: str, caller: context.Context | None, now: int
    ) -> Span:
        """Start and return the span of a run."""
        span = start(
            self._tracer,
            f"RUN {name}",
            caller,
            SpanKind.SERVER,
            {names.ACTION: "RUN", names.PIPELINE: name, names.RUN_ID: run_id},
            start_time=now,
        )
        with self._lock:
            self._runs[run_id] = _OpenRun(span, name)
        return span

    def refused(self, run_id: str, error: str, now: int) -> None:
        """End the span of a run whose tasks were refused."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            run.errors[""] = error
            _end(run, now)

    def attributes_of(self, run_id: str) -> Mapping[str, str]:
        """Return the attributes about the run on the span of an attempt."""
        if not run_id:
            return {}
        run = self._runs.get(run_id)
        more = {} if run is None else {names.PIPELINE: run.name}
        return {names.RUN_ID: run_id, **more}

    # -- what happens --------------------------------------------------------------

    def take(self, event: Event) -> None:
        if isinstance(event, OrchestratorStopped):
            self._stopped(event.at_ns)
            return
        name = getattr(event, "task_id", "")
        run_id = name and self._run_of(name)
        taking = self.takes.get(type(event))
        if not run_id or taking is None:
            return
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return
            taking(run, event)
            if run.live:
                return
            del self._runs[run_id]
        _end(run, event.at_ns)

    def _submitted(self, run: _OpenRun, event: TaskSubmitted) -> None:
        name = event.task_id
        run.live[name] = None
        again = None if event.rerun_of is None else run.phases.get(event.rerun_of)
        if again is not None:
            run.phases[name] = again
        before, last = split_last(stem_of(name))
        if again is None and event.type == _GATE == last and has_segments(before):
            phase = _OpenPhase(without_run(before))
            run.phases[name] = phase
            self._join(run, phase, event.after)
        elif last == _APPROVAL and len(event.after) == 1:
            of_gate = run.phases.get(event.after[0])
            if of_gate is not None:
                run.phases[name] = of_gate

    def _join(self, run: _OpenRun, phase: _OpenPhase, members: tuple[str, ...]) -> None:
        """Add those of *members* that are in no other phase to *phase*."""
        for member in members:
            run.phases.setdefault(member, phase)

    def _added(self, run: _OpenRun, event: TaskParentsAdded) -> None:
        phase = run.phases.get(event.task_id)
        if phase is not None and _is(event.task_id, _GATE):
            self._join(run, phase, event.after)

    def _started(self, run: _OpenRun, event: TaskStarted) -> None:
        phase = run.phases.get(event.task_id)
        if phase is not None and not phase.began:
            phase.began = event.at_ns

    def _completed(self, run: _OpenRun, event: TaskCompleted) -> None:
        self._over(run, event)

    def _failed(self, run: _OpenRun, event: TaskFailed) -> None:
        error = "" if event.allowed else event.error_type or event.cause
        self._over(run, event, error)

    def _cancelled(self, run: _OpenRun, event: TaskCancelled) -> None:
        run.cancelled = run.cancelled or not event.root_causes
        self._over(run, event)

    def _blocked(self, run: _OpenRun, event: TaskBlocked) -> None:
        if event.blocked_by:
            self._over(run, event, "DependencyFailedError")

    def _unblocked(self, run: _OpenRun, event: TaskUnblocked) -> None:
        run.live[event.task_id] = None
        run.errors.pop(stem_of(event.task_id), None)

    def _over(self, run: _OpenRun, event: Any, error: str = "") -> None:
        """Note that a task can proceed no more; a gate or approval ends its phase."""
        name = event.task_id
        run.live.pop(name, None)
        phase = run.phases.get(name)
        # A task that was run again counts with its latest run.
        run.errors.pop(stem_of(name), None)
        if error:
            run.errors[stem_of(name)] = error
            if phase is not None:
                phase.error = phase.error or error
        if phase is None or not (_is(name, _GATE) or _is(name, _APPROVAL)):
            return
        if any(run.phases.get(other) is phase for other in run.live):
            # An approval is still to come, or a task that the gate did not wait for.
            return
        self._end_phase(run, phase, event.at_ns)

    def _end_phase(self, run: _OpenRun, phase: _OpenPhase, at: int) -> None:
        span = start(
            self._tracer,
            f"phase {phase.name}",
            trace.set_span_in_context(run.span, context.Context()),
            attributes={
                names.TASK_NAME: phase.name,
                names.TASK_RESULT: names.FAILURE if phase.error else names.SUCCESS,
            },
            start_time=phase.began or at,
        )
        if phase.error:
            span.set_attribute(names.ERROR_TYPE, phase.error)
            span.set_status(Status(StatusCode.ERROR, phase.error))
        span.end(at)

    def _stopped(self, at: int) -> None:
        with self._lock:
            runs, self._runs = self._runs, {}
        for run in runs.values():
            run.cancelled = True
            _end(run, at)


def _is(task_id: str, kind: str) -> bool:
    return last_of(stem_of(task_id)) == kind


def _end(run: _OpenRun, at: int) -> None:
    result = names.CANCELLATION if run.cancelled else names.SUCCESS
    if run.errors:
        result = names.FAILURE
        error = next(iter(run.errors.values()))
        run.span.set_attribute(names.ERROR_TYPE, error)
        run.span.set_status(Status(StatusCode.ERROR, error))
    run.span.set_attribute(names.PIPELINE_RESULT, result)
    run.span.end(at)
