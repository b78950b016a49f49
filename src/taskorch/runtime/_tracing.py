"""
What the runtime does for traces, if there is an SDK of OpenTelemetry.

`Runtime.spans` is None until an OpenTelemetry SDK is found, or given; until then
nothing of OpenTelemetry is imported, and nothing is made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import CLS, Fact, TaskSubmitted, make, place_of
from taskorch.executors._threads import Worker, WorkerThreads
from taskorch.kernel import Kernel, TaskRow
from taskorch.model import Program
from taskorch.model._show import show
from taskorch.runtime._work import NO_VARIABLES, Work, extra_of, names_above
from taskorch.signals import Signals

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from taskorch.telemetry._spans import Origin, Spans

_TRACE: Final = place_of(TaskSubmitted, "trace")
_OWNER: Final = place_of(TaskSubmitted, "owner")
_JOIN: Final = place_of(TaskSubmitted, "join")


class Traced(Protocol):
    """What has spans, if there is an SDK for them."""

    @property
    def spans(self) -> Spans | None:
        """What makes them, if there is."""
        ...


class Owner(Protocol):
    """What making spans asks of a runtime."""

    kernel: Kernel
    signals: Signals
    spans: Spans | None
    threads: WorkerThreads

    def now(self) -> int:
        """The time in ns."""
        ...


def look_for_sdk(rt: Owner, given: TracerProvider | None) -> None:
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
    rt.spans = Spans(found, lambda: rt.now(), partial(_about, rt))  # noqa: PLW0108
    rt.spans.connect(rt.signals)
    rt.threads.run = partial(_run, rt.threads.run)


def _run(run: Any, worker: Worker, item: tuple[TaskRow, int, Work]) -> Any:
    """On a worker: no attempt goes the plainest way, which knows no spans."""
    _, _, work = item
    extra_of(work)
    del work
    return run(worker, item)


def workflow_span(rt: Traced, name: str, run_id: str) -> AbstractContextManager[None]:
    """What the tasks of a new run are submitted in."""
    return nullcontext() if rt.spans is None else rt.spans.workflow(name, run_id)


# -- the context of a submission ---------------------------------------------------


def signed(items: list[tuple[Fact, Any]]) -> None:
    """Let the facts of submissions among *items* say for whose trace they are."""
    last: Context | None = None
    text: str | None = None
    for place, (fact, work) in enumerate(items):
        if fact[CLS] is not TaskSubmitted or (
            len(fact) > _TRACE and fact[_TRACE] is not None
        ):
            continue
        if work._ctx is not last:
            last, text = work._ctx, _trace_in(work._ctx)
        trace = text if work._extra is None else work._extra.trace or text
        if trace is not None:
            extra_of(work).trace = trace
            event = make(fact)
            rest = event.join, event.on_parent_failure, event.wait, trace
            items[place] = (*fact[:_JOIN], *rest, *fact[_OWNER:]), work


def _trace_in(variables: Context) -> str | None:
    """The context of the span that is the current one in *variables*, as text."""
    if variables is NO_VARIABLES:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - there are spans

    from taskorch.telemetry._carrier import text_of  # noqa: PLC0415

    # A context is entered by one at a time.
    return text_of(variables.copy().run(trace.get_current_span).get_span_context())


def _origin_of(row: TaskRow, work: Work) -> Origin:
    from taskorch.telemetry._spans import Origin  # noqa: PLC0415 - there are spans

    kept = None if work._extra is None else work._extra.trace
    trace = kept or _trace_in(work._ctx)
    return Origin(row.bucket.spec.type, trace, names_above(work))


def _about(rt: Owner, task_id: str) -> Origin:
    """What is known of a task that this life has not seen come."""
    from taskorch.telemetry._spans import Origin  # noqa: PLC0415 - there are spans

    row = rt.kernel.tasks.get(task_id)
    work: Work | None = None if row is None else row.cargo
    return Origin("") if row is None or work is None else _origin_of(row, work)


# -- the context of an attempt -----------------------------------------------------


def variables_of(rt: Traced, row: TaskRow, attempt: int, work: Work) -> Context:
    """The context variables of an attempt: its own, in which its span is current."""
    found = work._ctx.copy()
    if rt.spans is not None:
        rt.spans.enter(found, row.id, attempt, _origin_of(row, work), row.started_ns)
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
    if rt.spans is None:
        return {}
    origin = _origin_of(row, work)
    return rt.spans.environment(row.id, attempt, origin, row.started_ns)


def inside(text: str | None) -> AbstractContextManager[None]:
    """In another process: what is done within belongs to the trace of `trace_of`."""
    if text is None:
        return nullcontext()
    from taskorch.telemetry._carrier import inside as within  # noqa: PLC0415 - traced

    return within(text)
