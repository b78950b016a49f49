"""
OpenTelemetry spans of submissions, attempts, decisions, workflows and phases.

A span is begun where its context is needed: where a task is submitted, and in an
attempt that looks at it. All others are made from events, on the publisher's thread,
and there all spans end: an exporter may raise or block, and no task waits for it.

A span's context as text is the `traceparent` of W3C Trace Context. It is read from
environments and journals, which anybody may have written: malformed text is no context.

Decision: followers-of-events.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import lru_cache
from itertools import islice
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs
from opentelemetry import context, trace
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taskorch.events import (
    AttemptStopping,
    Event,
    OrchestratorStopped,
    SlotLeaked,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    signal_name,
)
from taskorch.ext.telemetry import _conventions as names
from taskorch.ext.telemetry._conventions import AnySignals
from taskorch.ext.telemetry._runs import Runs, start
from taskorch.kit.fence import log_of
from taskorch.kit.people import act_alone
from taskorch.model import Resources
from taskorch.model.ids import PHASE_LIMIT

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes, AttributeValue


_FORMAT: Final = TraceContextTextMapPropagator()
#: Environment variables with the trace context of the parent process.
_PARENT: Final = "TRACEPARENT"
_STATE: Final = "TRACESTATE"
#: The most characters of a context: later versions may be longer than this one.
_LONGEST: Final = 512
#: Cached contexts once they were parsed: attempts of one batch share theirs.
_MANY_READ: Final = 1_024
_NONE: Final = context.Context()


def text_of(span: trace.SpanContext) -> str | None:
    """Return the context of *span* as text; None if it is invalid."""
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def parsed(text: object, state: str = "") -> trace.SpanContext | None:
    """Return the context in *text* with its vendors' *state*; None if malformed."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    # The vendors' part may be left out; the trace is the same without it.
    return _parsed(text, state if len(state) <= _LONGEST else "")


@lru_cache(maxsize=_MANY_READ)
def _parsed(text: str, state: str) -> trace.SpanContext | None:
    carrier = {"traceparent": text, "tracestate": state}
    span = trace.get_current_span(_FORMAT.extract(carrier, _NONE)).get_span_context()
    return span if span.is_valid else None


def inherited() -> trace.SpanContext | None:
    """
    Return the trace context in the environment of this process, if there is one.

    Raises:
        ValueError: The variable is malformed.
    """
    text = os.environ.get(_PARENT, "")
    if not text:
        return None
    parent = parsed(text, os.environ.get(_STATE, ""))
    if parent is None:
        msg = f"{_PARENT} is no traceparent of W3C Trace Context"
        raise ValueError(msg)
    return parent


@contextmanager
def inside(text: str) -> Iterator[None]:
    """Make the context in *text* the current one within the block, if it is valid."""
    parent = parsed(text)
    if parent is None:
        yield
        return
    span = trace.NonRecordingSpan(parent)
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)


def environment_of(span: trace.Span) -> dict[str, str]:
    """Return the environment variables that pass the context of *span* on."""
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier, trace.set_span_in_context(span, _NONE))
    return {name.upper(): text for name, text in carrier.items()}


_LOG: Final = log_of(__name__)
#: Entries of each kind that are kept for sure, the latest: the event at which one would
#: have been removed may have been lost.
_MANY: Final = 10_000
#: Submissions that are not accepted yet: as many as events that wait for one listener.
_PENDING: Final = 100_000
#: The most links of one span: those of an attempt to its parents.
_LINKS: Final = 128

K = TypeVar("K")
V = TypeVar("V")


class Latest(dict[K, V]):
    """A mapping that keeps the latest *many*, and drops older ones now and then."""

    def __init__(self, many: int = _MANY) -> None:
        super().__init__()
        self._many = many
        self._too_many = 2 * many

    def __setitem__(self, key: K, value: V) -> None:
        dict.__setitem__(self, key, value)
        if len(self) > self._too_many:
            # Many are dropped at once: a dict looks long for its first key where many
            # have gone.
            for first in list(islice(self, len(self) - self._many)):
                self.pop(first, None)


class Origin(Protocol):
    """Protocol: the data on a task that the span of an attempt needs."""

    @property
    def type(self) -> str:
        """The type of the task."""
        ...

    @property
    def trace(self) -> str | None:
        """The context of the submission, as text, if there is one."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Ids of the task's parents."""
        ...


@attrs.define(eq=False)
class SubmissionSpan:
    """The span of a submission, as its tasks and their attempts know it."""

    #: The spans that it belongs to.
    spans: Spans | None
    identity: SpanContext
    #: The same as text; None: the SDK has failed, and there is none.
    text: str | None
    #: The caller's context, in which this is the current span.
    within: context.Context
    #: The span, until the first task was accepted.
    span: Span | None = None


class _Attempt(NonRecordingSpan):
    """
    The span of an attempt, as code inside of the attempt sees it.

    It is begun at its first use, inside the attempt or at the event of its start. Most
    attempts do not use it, and their threads make no spans. While the real span is
    under way, calls are passed on to it; its event ends it.
    """

    def __init__(self, spans: Spans, task_id: str, number: int, began: int) -> None:
        self._spans = spans
        self.task_id = task_id
        self.number = number
        self.began = began
        #: The data about the task that it needs, until it is begun.
        self.origin: Origin | None = None
        #: None: the span is not begun.
        self.identity: SpanContext | None = None
        #: The real span, while it is under way.
        self.span: Span | None = None

    def get_span_context(self) -> SpanContext:
        """Return the context of the span, which is begun if need be."""
        identity = self.identity
        if identity is None:
            # Samplers and processors may look at the current span, which must not be
            # this one.
            identity = Context().run(self._spans.begin, self)
        return identity

    def _begun(self) -> Span:
        self.get_span_context()
        return self.span or INVALID_SPAN

    def is_recording(self) -> bool:
        """Return whether calls are kept: it is sampled, and not over."""
        return self._begun().is_recording()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._begun().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self._begun().set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        self._begun().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._begun().add_link(context, attributes)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self._begun().record_exception(exception, attributes, timestamp, escaped)

    @property
    def within(self) -> context.Context:
        """A context in which it is the current span."""
        return trace.set_span_in_context(self.span or self, _NOTHING)

    def __repr__(self) -> str:
        return f"<span of attempt {self.number} of {self.task_id}>"


@attrs.frozen(eq=False)
class StepSpan:
    """The span of a step of an attempt; the attempt ends it."""

    span: Span
    now: Callable[[], int]

    def current(self) -> AbstractContextManager[Any]:
        """Make it the current span within the block."""
        quiet = {"record_exception": False, "set_status_on_exception": False}
        return trace.use_span(self.span, **quiet)

    def end(self, error: str = "", message: str = "") -> None:
        """End the span now; *error* is the class of the step's error."""
        if error:
            self.span.set_attribute(names.ERROR_TYPE, error)
            self.span.set_status(Status(StatusCode.ERROR, message))
        self.span.end(self.now())


#: A context in which no span is current.
_NOTHING: Final = context.Context()
#: The submission that a context was captured for.
_SUBMISSION: Final[ContextVar[SubmissionSpan]] = ContextVar("taskorch_submission")


class Spans:
    """
    The tracer of an orchestrator, from now on.

    *now* is the orchestrator's clock, in ns since the epoch, as in the events. *about*
    returns the known data of a task that was submitted in an earlier incarnation, and
    *run_of* the run of any task, or "".
    """

    def __init__(
        self,
        provider: trace.TracerProvider,
        now: Callable[[], int],
        about: Callable[[str], Origin],
        run_of: Callable[[str], str],
    ) -> None:
        self._tracer = provider.get_tracer("taskorch", names.version())
        self._now = now
        self._about = about
        self._run_of = run_of
        self._lock = Lock()
        #: Held while the span of an attempt, and those of its parents, are begun.
        self._beginning = RLock()
        #: Submissions that were not accepted yet, by their contexts as text.
        self._submitting: Latest[str, SubmissionSpan] = Latest(_PENDING)
        #: Accepted submissions, and the latest of earlier incarnations.
        self._accepted: Latest[str, SubmissionSpan] = Latest()
        self._origins: Latest[str, Origin] = Latest()
        #: Attempts under way, by task and number.
        self._open: dict[str, dict[int, _Attempt]] = {}
        #: The latest attempt of each task, to which dependents are linked.
        self._last: Latest[str, _Attempt] = Latest()
        self._runs = Runs(self._tracer, run_of)
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
        #: The trace context in the environment of this process.
        self._inherited: context.Context | None = None
        try:
            self._inherited = _in(inherited())
        except ValueError as error:
            _LOG.warning("%s: it is ignored, and traces begin here", error)

    def connect(self, signals: AnySignals) -> None:
        for cls in dict.fromkeys((*self._takes, *self._runs.takes)):
            getattr(signals, signal_name(cls)).connect(self.take)

    # -- where a task is submitted -------------------------------------------------

    def capture(self) -> Context:
        """
        Return the caller's context variables, with the span of a submission as current.

        It is not made current for the caller. It ends when the first task that was
        submitted by it has been accepted; if none is, there is no such span.
        """
        variables = copy_context()
        variables.run(self._submit)
        return variables

    def _submit(self) -> None:
        act_alone()
        span = start(
            self._tracer,
            "submit",
            self._caller(),
            SpanKind.PRODUCER,
            start_time=self._now(),
        )
        here = span.get_span_context()
        # The span itself is not kept in the context, which lives as long as the task.
        within = trace.set_span_in_context(NonRecordingSpan(here))
        text = text_of(here)
        submission = SubmissionSpan(self, here, text, within)
        if text is not None:
            if span.is_recording():
                submission.span = span
            with self._lock:
                self._submitting[text] = submission
        context.attach(within)
        _SUBMISSION.set(submission)

    def trace_in(self, variables: Context) -> str | None:
        """Return the trace context in *variables* in which a task was submitted."""
        submission = variables.get(_SUBMISSION)
        if submission is not None and submission.spans is self:
            return submission.text
        # It came before there was an SDK. Two threads cannot enter one context, so it
        # is copied.
        return text_of(variables.copy().run(trace.get_current_span).get_span_context())

    def has_submission(self, variables: Context) -> bool:
        """Return whether *variables* hold the submission of these spans."""
        submission = variables.get(_SUBMISSION)
        return submission is not None and submission.spans is self

    def _caller(self) -> context.Context | None:
        """Return the context of the caller; None is the current one."""
        if self._inherited is None:
            return None
        is_in_trace = trace.get_current_span().get_span_context().is_valid
        return None if is_in_trace else self._inherited

    @contextmanager
    def workflow(self, name: str, run_id: str) -> Iterator[None]:
        """Submit the tasks of a run inside its span, which ends when all have ended."""
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
        if origin.after:
            # A span begun later then finds those that it is linked to begun.
            span.get_span_context()
        variables.run(_make_current, span)

    def environment(
        self, task_id: str, attempt: int, origin: Origin, began: int
    ) -> Mapping[str, str]:
        """Return the variables that pass the context of an attempt to its program."""
        return environment_of(self._attempt(task_id, attempt, origin, began))

    def step(
        self,
        attempt: tuple[str, int],
        name: str,
        number: int,
        *,
        is_kept: bool,
        is_here: bool,
    ) -> StepSpan:
        """
        Begin the span of a step: below the current span, if the caller *is here*.

        Else it is below that of the *attempt*, which is in another process.
        """
        above = None
        if not is_here:
            with self._lock:
                begun = self._open.get(attempt[0], {}).get(attempt[1])
            above = _NOTHING if begun is None else begun.within
        attributes = {
            names.STEP: name,
            names.STEP_NUMBER: number,
            names.STEP_KEPT: is_kept,
        }
        kind, now = SpanKind.INTERNAL, self._now()
        span = start(self._tracer, name, above, kind, attributes, (), now)
        return StepSpan(span, self._now)

    def _attempt(
        self, task_id: str, number: int, origin: Origin, began: int
    ) -> _Attempt:
        """Return the span of an attempt, made at the first call."""
        with self._lock:
            attempts = self._open.get(task_id)
            span = None if attempts is None else attempts.get(number)
            if span is not None:
                return span
            latest = self._last.get(task_id)
            if latest is not None and number <= latest.number:
                # The attempt has ended: the event of its start was late, as exporting
                # is slow.
                return latest
            span = _Attempt(self, task_id, number, began)
            span.origin = origin
            if attempts is None:
                self._open[task_id] = {number: span}
            else:
                attempts[number] = span
            self._last[task_id] = span
            return span

    def begin(self, attempt: _Attempt, worker: str = "") -> SpanContext:
        """
        Begin the span of *attempt*, unless it is begun; return its context.

        The *worker* that makes the attempt may be added later.
        """
        with self._beginning:
            if attempt.identity is None:
                attempt.span = self._begin(attempt, worker)
                attempt.identity = attempt.span.get_span_context()
                attempt.origin = None
            elif worker and attempt.span is not None:
                attempt.span.set_attribute(names.WORKER, worker)
            return attempt.identity

    def _begin(self, attempt: _Attempt, worker: str) -> Span:
        origin, task_id = attempt.origin, attempt.task_id
        assert origin is not None  # noqa: S101 - it is not begun
        with self._lock:
            submission = self._submission(origin.trace)
        links = [] if submission is None else [Link(submission.identity)]
        for name in origin.after:
            if len(links) == _LINKS:
                break
            last = self._last.get(name)
            if last is not None:
                links.append(Link(last.get_span_context()))
        attributes: dict[str, str | int] = {
            names.TASK_NAME: origin.type,
            names.TASK_RUN_ID: f"{task_id}:{attempt.number}",
            names.TASK_ID: task_id,
            names.ATTEMPT: attempt.number,
        }
        if worker:
            attributes[names.WORKER] = worker
        attributes.update(self._runs.attributes_of(self._run_of(task_id)))
        return start(
            self._tracer,
            origin.type or "task",
            _NOTHING if submission is None else submission.within,
            SpanKind.CONSUMER,
            attributes,
            links,
            attempt.began,
        )

    def _submission(self, text: str | None) -> SubmissionSpan | None:
        """Return the submission with this context; hold the lock."""
        if text is None:
            return None
        submission = self._accepted.get(text) or self._submitting.get(text)
        if submission is None:
            read = parsed(text)
            if read is None:
                return None
            within = trace.set_span_in_context(NonRecordingSpan(read), _NOTHING)
            submission = self._accepted[text] = SubmissionSpan(None, read, text, within)
        return submission

    # -- what happens --------------------------------------------------------------

    def take(self, event: Event) -> None:
        taking = self._takes.get(type(event))
        if taking is not None:
            taking(event)
        if self._runs.under_way:
            self._runs.take(event)

    def _submitted(self, event: TaskSubmitted) -> None:
        at = event.at_ns
        text = event.trace
        span = None
        with self._lock:
            self._origins[event.task_id] = event
            submission = self._submitting.pop(text, None) if text else None
            if submission is None:
                submission = self._submission(text)
            elif text:
                self._accepted[text] = submission
                span, submission.span = submission.span, None
        if submission is not None:
            self._decide("validate", submission.within, at)
        if span is not None:
            span.set_attribute(names.TASK_NAME, event.type)
            span.end(at)

    def _started(self, event: TaskStarted) -> None:
        name, attempt, at = event.task_id, event.attempt, event.at_ns
        origin = self._origins.get(name) or self._about(name)
        begun = self._attempt(name, attempt, origin, at)
        self.begin(begun, event.agent_id)
        within = begun.within
        worker: dict[str, Any] = {names.WORKER: event.agent_id}
        if event.reason:
            worker[names.REASON] = event.reason
        self._decide("route", within, at, worker)
        amounts: dict[str, Any] | None = None
        if event.allocation:
            held = Resources.from_units(event.allocation)
            # The limit of a phase is no resource: the id of the run is in its name.
            amounts = {
                f"{names.HELD}.{name}": held[name]
                for name in held
                if not PHASE_LIMIT.fullmatch(name)
            }
        self._decide("allocate", within, at, amounts)

    def _decide(
        self,
        name: str,
        above: context.Context,
        at: int,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a decision as a span without duration, as events have one time."""
        start(self._tracer, name, above, SpanKind.INTERNAL, attributes, (), at).end(at)

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
            begun = self._open.get(event.task_id, {}).get(event.attempt)
        if begun is not None:
            self._decide("retry", begun.within, event.at_ns, attributes)
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
        # The result of this attempt is unknown.
        error = event.error_type or event.cause
        self._end_all(event.task_id, event.at_ns, names.ERROR, error, event.message)

    def _cancelled(self, event: TaskCancelled) -> None:
        self._act("cancel", event, event.reason)
        self._end_all(event.task_id, event.at_ns, names.CANCELLATION)
        self._over(event.task_id)

    def _suspended(self, event: TaskSuspended) -> None:
        self._act("suspend", event)
        if event.held:
            self._say(event.task_id, "suspended", event)
        else:
            self._end_all(event.task_id, event.at_ns, names.CANCELLATION, "suspended")

    def _resumed(self, event: TaskResumed) -> None:
        self._act("resume", event)
        if event.held:
            self._say(event.task_id, "resumed", event)

    def _stopping(self, event: AttemptStopping) -> None:
        self._say(event.task_id, f"stopping: {event.why}", event)

    def _leaked(self, event: SlotLeaked) -> None:
        self._say(event.task_id, "slot leaked", event)

    def _say(self, task_id: str, words: str, event: Event) -> None:
        with self._lock:
            attempts = list(self._open.get(task_id, {}).values())
        for begun in attempts:
            if begun.span is not None:
                begun.span.add_event(words, timestamp=event.at_ns)

    def _act(self, name: str, event: TaskEvent, reason: str = "") -> None:
        """Add an action on a task below its attempt, or else its submission."""
        task_id = event.task_id
        with self._lock:
            attempts = list(self._open.get(task_id, {}).values())
            above = [attempt.within for attempt in attempts]
            origin = self._origins.get(task_id)
            if not above and origin is not None:
                submission = self._submission(origin.trace)
                above = [] if submission is None else [submission.within]
        attributes = {names.TASK_ID: task_id}
        if reason:
            attributes[names.REASON] = reason
        for each in above:
            self._decide(name, each, event.at_ns, attributes)

    def _over(self, task_id: str) -> None:
        with self._lock:
            self._origins.pop(task_id, None)

    def _stopped(self, event: OrchestratorStopped) -> None:
        """End all spans: the tasks go on in another incarnation, if at all."""
        with self._lock:
            unended = list(self._open)
        for task_id in unended:
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
            begun = attempts.pop(attempt, None)
            if not attempts:
                self._open.pop(task_id, None)
        if begun is None:
            return
        # The event of its start may have been lost.
        self.begin(begun)
        span, begun.span = begun.span, None
        assert span is not None  # noqa: S101 - nobody else ends it
        span.set_attribute(names.TASK_RESULT, result)
        if error:
            span.set_attribute(names.ERROR_TYPE, error)
        if error and result != names.CANCELLATION:
            span.set_status(Status(StatusCode.ERROR, message or error))
        span.end(at)


def _in(span: SpanContext | None) -> context.Context | None:
    """Return the context of a span of another process or thread."""
    if span is None:
        return None
    return trace.set_span_in_context(NonRecordingSpan(span), context.Context())


def _make_current(span: Span) -> None:
    context.attach(trace.set_span_in_context(span))
