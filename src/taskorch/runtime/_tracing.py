"""
What the runtime does for traces, if there is an SDK of OpenTelemetry.

`Runtime.spans` is None until an OpenTelemetry SDK is found, or given; until then
nothing of OpenTelemetry is imported, and nothing is made.

Decision: 0041.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import Fact, TaskSubmitted
from taskorch.executors._threads import Worker, WorkerThreads
from taskorch.kernel import Kernel, TaskRow
from taskorch.model import Program
from taskorch.model._ids import run_of
from taskorch.model._show import show
from taskorch.runtime._work import Work, extra_of, names_above
from taskorch.signals import Signals

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from taskorch.telemetry._spans import Spans


class Traced(Protocol):
    """What has spans, if there is an SDK for them."""

    @property
    def spans(self) -> Spans | None:
        """What makes them, if there is."""
        ...


class TracingHost(Protocol):
    """What making spans asks of a runtime."""

    kernel: Kernel
    #: The `Directory`, which stands above this.
    directory: Any
    signals: Signals
    spans: Spans | None
    threads: WorkerThreads

    def now(self) -> int:
        """The time in ns."""
        ...


def look_for_sdk(rt: TracingHost, given: TracerProvider | None) -> None:
    """
    Make spans from now on, if an SDK is configured for this process, or *given*.

    Raises:
        InvalidTaskError: What is given is no TracerProvider.
    """
    if given is not None and not callable(getattr(given, "get_tracer", None)):
        msg = f"tracer_provider is a TracerProvider of OpenTelemetry, not {show(given)}"
        raise InvalidTaskError(msg, hint="opentelemetry.sdk.trace.TracerProvider()")
    api: Any = sys.modules.get("opentelemetry.trace")
    if rt.spans is not None or api is None:
        return
    found = api.get_tracer_provider() if given is None else given
    if isinstance(found, api.ProxyTracerProvider) or isinstance(
        found.get_tracer("taskorch"), api.NoOpTracer
    ):
        # There is no SDK, or OTEL_SDK_DISABLED says that it is not to be used.
        return
    from taskorch.telemetry._spans import Spans  # noqa: PLC0415 - where they are made

    # A journal brings a clock of its own.
    rt.spans = Spans(
        found,
        lambda: rt.now(),  # noqa: PLW0108 - see above
        partial(_about, rt),
        partial(_run_of, rt),
    )
    rt.spans.connect(rt.signals)
    rt.threads.run = partial(_run, rt, rt.spans, rt.threads.run)


def _run(
    rt: TracingHost,
    spans: Spans,
    run: Any,
    worker: Worker,
    item: tuple[TaskRow, int, Work],
) -> Any:
    """Run an attempt on a worker, in its span."""
    row, attempt, work = item
    if work._extra is None and work._executor is rt.threads:
        # The plainest way knows no spans: it is given variables that do.
        if spans.has_submission(work._ctx):
            work._ctx = variables_of(rt, row, attempt, work)
        else:
            extra_of(work)
    del row, work
    return run(worker, item)


def _run_of(rt: TracingHost, task_id: str) -> str:
    """The run of a workflow that a task is of, whose attempt is under way; or ""."""
    row = rt.kernel.tasks.get(task_id)
    run_id: str = run_of(task_id) if row is None else rt.directory.run_of(row)
    return run_id


def workflow_span(rt: Traced, name: str, run_id: str) -> AbstractContextManager[None]:
    """What the tasks of a new run are submitted in."""
    return nullcontext() if rt.spans is None else rt.spans.workflow(name, run_id)


# -- the context of a submission ---------------------------------------------------


def signed(items: list[tuple[Fact, Any]], spans: Spans) -> None:
    """Add to the facts of submissions in *items* the trace they belong to."""
    for place, (fact, work) in enumerate(items):
        if type(fact) is not TaskSubmitted or fact.trace is not None:
            continue
        trace = _trace_of(work, spans)
        if trace is not None:
            items[place] = fact.__replace__(trace=trace), work


def _trace_of(work: Work, spans: Spans) -> str | None:
    """The context in which *work* was submitted, as text."""
    kept = None if work._extra is None else work._extra.trace
    return kept or spans.trace_in(work._ctx)


class _Origin(NamedTuple):
    """What is known of a task."""

    type: str
    trace: str | None = None
    after: tuple[str, ...] = ()


def _origin_of(row: TaskRow, work: Work, spans: Spans) -> _Origin:
    trace = _trace_of(work, spans)
    return _Origin(row.bucket.spec.type, trace, names_above(work))


def _about(rt: TracingHost, task_id: str) -> _Origin:
    """What is known of a task that this life has not seen come."""
    row = rt.kernel.tasks.get(task_id)
    work: Work | None = None if row is None else row.cargo
    if row is None or work is None or rt.spans is None:
        return _Origin("")
    return _origin_of(row, work, rt.spans)


# -- the context of an attempt -----------------------------------------------------


def variables_of(rt: Traced, row: TaskRow, attempt: int, work: Work) -> Context:
    """The context variables of an attempt: its own, in which its span is current."""
    found = work._ctx.copy()
    spans = rt.spans
    if spans is not None:
        origin = _origin_of(row, work, spans)
        spans.enter(found, row.id, attempt, origin, row.started_ns)
    return found


def in_trace(
    program: Program, rt: Traced, row: TaskRow, attempt: int, work: Work
) -> Program:
    """*program*, handed the context of its attempt, if its environment names none."""
    found = _carried(rt, row, attempt, work)
    return attrs.evolve(program, env={**found, **program.env}) if found else program


def trace_of(rt: Traced, row: TaskRow, attempt: int, work: Work) -> str | None:
    """The context of an attempt, for another process of ours: see `inside`."""
    return _carried(rt, row, attempt, work).get("TRACEPARENT")


def _carried(rt: Traced, row: TaskRow, attempt: int, work: Work) -> Mapping[str, str]:
    spans = rt.spans
    if spans is None:
        return {}
    origin = _origin_of(row, work, spans)
    return spans.environment(row.id, attempt, origin, row.started_ns)


def inside(text: str | None) -> AbstractContextManager[None]:
    """In another process: what is done within belongs to the trace of `trace_of`."""
    if text is None:
        return nullcontext()
    from taskorch.telemetry._carrier import inside as within  # noqa: PLC0415 - traced

    return within(text)
