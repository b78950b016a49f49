"""
OpenTelemetry spans of submissions, attempts, decisions, workflows and phases.

A span is begun where its context is needed: where a task is submitted, and where its
attempt begins. All else is made of events, on the publisher's thread, and there all
spans end: what exports them may raise or block, and no task waits for it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from threading import Lock
from typing import Any, Final, Protocol, TypeVar

import attrs
from opentelemetry import context, trace
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)

from taskorch.events import (
    AttemptStopping,
    Event,
    OrchestratorStopped,
    SlotLeaked,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    signal_name,
)
from taskorch.model import Resources
from taskorch.telemetry import _conventions as names
from taskorch.telemetry._carrier import environment_of, inherited, parsed, text_of
from taskorch.telemetry._runs import Runs, start

_LOG: Final = logging.getLogger(__name__)
#: Of each kind of thing that is remembered, the most: an event that was lost may have
#: been the one at which it would have been forgotten.
_MANY: Final = 10_000
#: Links of one span: those of an attempt to what it waited for.
_LINKS: Final = 128

K = TypeVar("K")
V = TypeVar("V")


class _Signals(Protocol):
    def __getattr__(self, name: str) -> Any: ...


class Latest(OrderedDict[K, V]):
    """A mapping that forgets what came first once it has too much."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > _MANY:
            self.popitem(last=False)


@attrs.frozen
class Origin:
    """What the span of an attempt must know of the task."""

    type: str
    #: The context of the submission, as text, if there is one.
    trace: str | None = None
    #: Ids of what it waited for.
    after: tuple[str, ...] = ()


class Spans:
    """
    Makes spans of what happens, from now on.

    Args:
        provider: Whose spans they are.
        now: The orchestrator's clock, in ns since the epoch: that of the events.
        about: What is known of a task that was submitted in an earlier life.
    """

    def __init__(
        self,
        provider: trace.TracerProvider,
        now: Callable[[], int],
        about: Callable[[str], Origin],
    ) -> None:
        self._tracer = provider.get_tracer("taskorch")
        self._now = now
        self._about = about
        self._lock = Lock()
        #: Spans of submissions that were not accepted yet, by their contexts as text.
        self._submitting: Latest[str, Span] = Latest()
        #: The contexts of submissions of this life, by their texts.
        self._contexts: Latest[str, SpanContext] = Latest()
        self._origins: Latest[str, Origin] = Latest()
        #: Attempts under way, by task and number.
        self._open: dict[str, dict[int, Span]] = {}
        #: The latest attempt of each task: what comes after it is linked to that.
        self._last: Latest[str, tuple[int, SpanContext]] = Latest()
        self._runs = Runs(self._tracer)
        self._takes: dict[type[Event], Callable[[Any], None]] = {
            TaskSubmitted: self._submitted,
            TaskStarted: self._started,
            TaskCompleted: self._completed,
            TaskFailed: self._failed,
            TaskRetrying: self._retrying,
            TaskBlocked: self._blocked,
            TaskCancelled: self._cancelled,
            TaskSuspended: self._suspended,
            TaskResumed: self._resumed,
            AttemptStopping: self._stopping,
            SlotLeaked: self._leaked,
            OrchestratorStopped: self._stopped,
        }
        self._inherited: SpanContext | None = None
        try:
            self._inherited = inherited()
        except ValueError as error:
            _LOG.warning("%s: it is ignored, and traces begin here", error)

    def connect(self, signals: _Signals) -> None:
        """Receive the events of *signals*."""
        for cls in dict.fromkeys((*self._takes, *self._runs.takes)):
            getattr(signals, signal_name(cls)).connect(self.take)

    # -- where a task is submitted -------------------------------------------------

    def capture(self) -> Context:
        """
        The caller's context variables, in which the span of a submission is current.

        It is not made current for the caller. It ends when the first task that was
        submitted by it has been accepted; if none is, there is no such span.
        """
        found = copy_context()
        found.run(self._submit)
        return found

    def _submit(self) -> None:
        span = self._start(
            "submit", self._caller(), SpanKind.PRODUCER, start_time=self._now()
        )
        here = span.get_span_context()
        text = text_of(here)
        if text is not None:
            with self._lock:
                self._contexts[text] = here
                if span.is_recording():
                    self._submitting[text] = span
        # Not the span itself: the context is kept for as long as the task is.
        context.attach(trace.set_span_in_context(NonRecordingSpan(here)))

    def _caller(self) -> context.Context | None:
        """The context of the caller; None is the one at hand."""
        is_in_trace = trace.get_current_span().get_span_context().is_valid
        return None if is_in_trace else _in(self._inherited)

    @contextmanager
    def workflow(self, name: str, run_id: str) -> Iterator[None]:
        """
        Submit the tasks of a run inside its span, which ends when all have ended.

        Args:
            name: The name of the workflow.
            run_id: The id of the run.
        """
        span = self._runs.begin(name, run_id, self._caller(), self._now())
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield
        except BaseException as error:
            self._runs.refused(run_id, type(error).__name__, self._now())
            raise
        finally:
            context.detach(token)

    # -- where an attempt begins ---------------------------------------------------

    def enter(
        self, variables: Context, task_id: str, attempt: int, origin: Origin, began: int
    ) -> None:
        """Make the span of an attempt the current one in its *variables*."""
        span = self._attempt(task_id, attempt, origin, began)
        variables.run(_make_current, NonRecordingSpan(span.get_span_context()))

    def environment(
        self, task_id: str, attempt: int, origin: Origin, began: int
    ) -> Mapping[str, str]:
        """What hands the context of an attempt down to its program."""
        return environment_of(self._attempt(task_id, attempt, origin, began))

    def _attempt(self, task_id: str, attempt: int, origin: Origin, began: int) -> Span:
        """The span of an attempt, begun by whoever comes first."""
        with self._lock:
            span = self._open.get(task_id, {}).get(attempt)
            if span is None:
                latest, known = self._last.get(task_id, (0, None))
                if known is not None and attempt <= latest:
                    # It has ended: the event of its start was late, as events are
                    # where exporting is slow.
                    return NonRecordingSpan(known)
                span = self._begin(task_id, attempt, origin, began)
                self._open.setdefault(task_id, {})[attempt] = span
                self._last[task_id] = attempt, span.get_span_context()
            return span

    def _begin(self, task_id: str, attempt: int, origin: Origin, began: int) -> Span:
        submitted = self._context_of(origin.trace)
        linked = [] if submitted is None else [submitted]
        linked += [self._last[name][1] for name in origin.after if name in self._last]
        return self._start(
            origin.type or "task",
            _in(submitted) or context.Context(),
            SpanKind.CONSUMER,
            {
                names.TASK_NAME: origin.type,
                names.TASK_RUN_ID: f"{task_id}:{attempt}",
                names.TASK_ID: task_id,
                names.ATTEMPT: attempt,
                **self._runs.attributes_of(task_id),
            },
            [Link(each) for each in linked[:_LINKS]],
            began,
        )

    def _context_of(self, text: str | None) -> SpanContext | None:
        """The context of a submission, of an earlier life or of this one."""
        if text is None:
            return None
        return self._contexts.get(text) or parsed(text)

    # -- what happens --------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Receive an event."""
        taking = self._takes.get(type(event))
        if taking is not None:
            taking(event)
        self._runs.take(event)

    def _submitted(self, event: TaskSubmitted) -> None:
        origin = Origin(event.type, event.trace, event.after)
        with self._lock:
            self._origins[event.task_id] = origin
            span = self._submitting.pop(event.trace or "", None)
        accepted = self._context_of(event.trace)
        if accepted is not None:
            self._decision("validate", _in(accepted), event, {})
        if span is not None:
            span.set_attribute(names.TASK_NAME, event.type)
            span.end(event.at_ns)

    def _started(self, event: TaskStarted) -> None:
        name, attempt = event.task_id, event.attempt
        origin = self._origins.get(name) or self._about(name)
        span = self._attempt(name, attempt, origin, event.at_ns)
        span.set_attribute(names.AGENT, event.agent_id)
        above = trace.set_span_in_context(span, context.Context())
        agent: dict[str, Any] = {names.AGENT: event.agent_id}
        if event.reason:
            agent[names.REASON] = event.reason
        self._decision("route", above, event, agent)
        amounts: dict[str, float] = {}
        if event.allocation:
            held = Resources.from_units(event.allocation)
            amounts = {f"{names.HELD}.{name}": held[name] for name in held}
        self._decision("allocate", above, event, amounts)

    def _decision(
        self,
        name: str,
        above: context.Context | None,
        event: Event,
        attributes: Mapping[str, Any],
    ) -> None:
        """A decision is a span without duration: facts have one time."""
        at = event.at_ns
        self._start(name, above, attributes=attributes, start_time=at).end(at)

    def _start(self, *args: Any, **kwargs: Any) -> Span:
        """A new span; one that stands for nothing, if the SDK fails."""
        return start(self._tracer, *args, **kwargs)

    def _completed(self, event: TaskCompleted) -> None:
        self._end(event.task_id, event.attempt, event.at_ns, names.SUCCESS)
        self._over(event.task_id)

    def _failed(self, event: TaskFailed) -> None:
        self._end_badly(event)
        self._over(event.task_id)

    def _retrying(self, event: TaskRetrying) -> None:
        attributes = {
            names.CAUSE: event.cause,
            names.DELAY: event.delay,
            names.REASON: event.reason,
        }
        with self._lock:
            span = self._open.get(event.task_id, {}).get(event.attempt)
        if span is not None:
            above = trace.set_span_in_context(span, context.Context())
            self._decision("retry", above, event, attributes)
        self._end_badly(event)

    def _end_badly(self, event: TaskFailed | TaskRetrying) -> None:
        self._end(
            event.task_id,
            event.attempt,
            event.at_ns,
            names.result_of(event.cause),
            event.error_type or event.cause,
            event.message,
        )

    def _blocked(self, event: TaskBlocked) -> None:
        # That of an attempt of which nobody knows how it ended.
        error = event.error_type or event.cause
        self._end_all(event.task_id, event.at_ns, names.ERROR, error, event.message)

    def _cancelled(self, event: TaskCancelled) -> None:
        self._end_all(event.task_id, event.at_ns, names.CANCELLATION)
        self._over(event.task_id)

    def _suspended(self, event: TaskSuspended) -> None:
        if event.held:
            self._say(event.task_id, "suspended", event)
        else:
            self._end_all(event.task_id, event.at_ns, names.CANCELLATION, "suspended")

    def _resumed(self, event: TaskResumed) -> None:
        if event.held:
            self._say(event.task_id, "resumed", event)

    def _stopping(self, event: AttemptStopping) -> None:
        self._say(event.task_id, f"stopping: {event.why}", event)

    def _leaked(self, event: SlotLeaked) -> None:
        self._say(event.task_id, "slot leaked", event)

    def _say(self, task_id: str, words: str, event: Event) -> None:
        with self._lock:
            spans = list(self._open.get(task_id, {}).values())
        for span in spans:
            span.add_event(words, timestamp=event.at_ns)

    def _over(self, task_id: str) -> None:
        with self._lock:
            self._origins.pop(task_id, None)

    def _stopped(self, event: OrchestratorStopped) -> None:
        """What has not ended goes on in another life, or nobody knows of it."""
        with self._lock:
            left = list(self._open)
        for task_id in left:
            self._end_all(task_id, event.at_ns, names.CANCELLATION, "stopped")

    def _end_all(
        self, task_id: str, at: int, result: str, error: str = "", message: str = ""
    ) -> None:
        with self._lock:
            attempts = list(self._open.get(task_id, ()))
        for attempt in attempts:
            self._end(task_id, attempt, at, result, error, message)

    def _end(
        self,
        task_id: str,
        attempt: int,
        at: int,
        result: str,
        error: str = "",
        message: str = "",
    ) -> None:
        with self._lock:
            attempts = self._open.get(task_id, {})
            span = attempts.pop(attempt, None)
            if not attempts:
                self._open.pop(task_id, None)
        if span is None:
            return
        span.set_attribute(names.TASK_RESULT, result)
        if error:
            span.set_attribute(names.ERROR_TYPE, error)
        if error and result != names.CANCELLATION:
            span.set_status(Status(StatusCode.ERROR, message or error))
        span.end(at)


def _in(found: SpanContext | None) -> context.Context | None:
    """The context of a span that is elsewhere."""
    if found is None:
        return None
    return trace.set_span_in_context(NonRecordingSpan(found), context.Context())


def _make_current(span: Span) -> None:
    context.attach(trace.set_span_in_context(span))
