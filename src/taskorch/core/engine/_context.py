"""
The context, the arguments and the trace that an attempt is given.

Decision: followers-of-events.
"""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar
from datetime import datetime
from functools import cache, partial
from importlib import import_module
from time import monotonic
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    Self,
    TypeVar,
    cast,
    overload,
)

import attrs

from taskorch.core.engine import _written
from taskorch.core.engine._work import (
    NO_VARIABLES,
    Control,
    Work,
    allowed_error,
    control_of,
    extra_of,
    gone_result,
    names_above,
    parent_named,
    works_above,
)
from taskorch.core.executors._threads import Worker
from taskorch.core.executors.remote import HERE
from taskorch.core.kernel import TaskRow, budgeting, names_of, without_quotas
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    NotRunningError,
    ResultGoneError,
)
from taskorch.events import Event, TaskSubmitted
from taskorch.kit.checks import built_in
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import (
    MadeFor,
    Missing,
    Program,
    Reference,
    Resources,
    Task,
    TaskState,
    replaced,
    submitted_as,
    units_spent,
)
from taskorch.model.ids import run_of, stem_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from taskorch.core.engine._given import Tracer
    from taskorch.core.engine._runtime import Runtime
    from taskorch.model import Units


# -- what the runtime does for traces and meters, with an SDK of OpenTelemetry ---------

# `Runtime.spans` is None until an OpenTelemetry SDK is found, or given; until then
# nothing of OpenTelemetry is imported, and nothing is made.


def find_meters(rt: Runtime, given: MeterProvider | None) -> MeterProvider | None:
    """
    Return *given*, or the provider of this process if it measures and is free.

    Raises:
        InvalidTaskError: What is given is no MeterProvider.
    """
    if given is not None and not callable(getattr(given, "get_meter", None)):
        msg = f"meter_provider is a MeterProvider of OpenTelemetry, not {show(given)}"
        raise InvalidTaskError(msg, hint="opentelemetry.sdk.metrics.MeterProvider()")
    api: Any = sys.modules.get("opentelemetry.metrics")
    if rt.metrics is not None or api is None:
        return None
    found: MeterProvider = api.get_meter_provider() if given is None else given
    # The API has no public name for the proxy that stands in until a provider is set.
    if type(found).__name__ == "_ProxyMeterProvider" or isinstance(
        found.get_meter("taskorch"), api.NoOpMeter
    ):
        return None
    return found


def look_for_sdk(rt: Runtime, given: TracerProvider | None) -> None:
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
        # There is no SDK, or OTEL_SDK_DISABLED switches it off.
        return
    # A journal brings its own clock later, so the method is looked up each time.
    spans: Tracer = built_in("telemetry._spans", "tracer_provider=").Spans(
        found,
        lambda: rt.now(),  # noqa: PLW0108 - see above
        partial(_about, rt),
        partial(_run_of, rt),
    )
    rt.spans = spans
    spans.connect(rt.signals)
    rt.threads.run = partial(_run, rt, spans, rt.threads.run)


def _run(
    rt: Runtime,
    spans: Tracer,
    run: Any,
    worker: Worker,
    item: tuple[TaskRow, int, Work],
) -> Any:
    """Run an attempt on a worker, in its span."""
    row, attempt, work = item
    if work._extra is None and work._executor is rt.threads:
        # The plainest way knows no spans, so it is given variables that have one.
        if spans.has_submission(work._ctx):
            work._ctx = variables_of(rt, row, attempt, work)
        else:
            extra_of(work)
    # The traceback of an error leads to this frame, which must not keep the work: the
    # failure of what nobody can ask for any more is told.
    items = [item]
    del row, attempt, work, item
    return run(worker, items.pop())


def _run_of(rt: Runtime, task_id: str) -> str:
    """Return the workflow run of a task whose attempt is under way; "" if none."""
    return rt.directory.run_of(task_id)


def workflow_span(rt: Runtime, name: str, run_id: str) -> AbstractContextManager[None]:
    """Return the span in which the tasks of a new run are submitted."""
    return nullcontext() if rt.spans is None else rt.spans.workflow(name, run_id)


# -- the context of a submission ---------------------------------------------------


def signed(items: list[tuple[Event, Any]], spans: Tracer) -> None:
    """Add to the submission events in *items* the trace that they belong to."""
    for place, (event, work) in enumerate(items):
        if type(event) is not TaskSubmitted or event.trace is not None:
            continue
        trace = _trace_of(work, spans)
        if trace is not None:
            items[place] = event.__replace__(trace=trace), work


def _trace_of(work: Work, spans: Tracer) -> str | None:
    """Return the trace context in which *work* was submitted, as text."""
    kept = None if work._extra is None else work._extra.trace
    return kept or spans.trace_in(work._ctx)


class _Origin(NamedTuple):
    """Type, trace and dependencies of a task, for its span."""

    type: str
    trace: str | None = None
    after: tuple[str, ...] = ()


def _origin_of(row: TaskRow, work: Work, spans: Tracer) -> _Origin:
    trace = _trace_of(work, spans)
    return _Origin(row.bucket.spec.type, trace, names_above(work))


def _about(rt: Runtime, task_id: str) -> _Origin:
    """Return the origin of a task that an earlier incarnation has submitted."""
    row = rt.kernel.tasks.get(task_id)
    work: Work | None = None if row is None else row.cargo
    if row is None or work is None or rt.spans is None:
        return _Origin("")
    return _origin_of(row, work, rt.spans)


# -- the context of an attempt -----------------------------------------------------


def variables_of(rt: Runtime, row: TaskRow, attempt: int, work: Work) -> Context:
    """Return the context variables of an attempt, in which its span is current."""
    found = work._ctx.copy()
    spans = rt.spans
    if spans is not None:
        origin = _origin_of(row, work, spans)
        spans.enter(found, row.id, attempt, origin, row.started_ns)
    return found


#: The environment variable that tells a process its units, by resource.
_VARIABLES: Final = {"gpu": "CUDA_VISIBLE_DEVICES"}


def units_there(rt: Runtime, row: TaskRow) -> dict[str, tuple[str, ...]]:
    """
    Return the names of the units of the attempt of *row* where it runs, by resource.

    The pools have units of this machine, which no worker elsewhere has.
    """
    worker = row.worker
    if not rt.kernel.has_units or worker is None:
        return {}
    return {
        resource: units
        for resource, units in names_of(rt.kernel, row.alloc).items()
        if resource in worker.units or not worker.lease_ns
    }


def variables_of_units(rt: Runtime, row: TaskRow) -> dict[str, str]:
    """Return the environment variables for the units of the attempt of *row*."""
    return {
        _VARIABLES[resource]: ",".join(units)
        for resource, units in units_there(rt, row).items()
        if resource in _VARIABLES
    }


def as_attempted(
    program: Program, rt: Runtime, row: TaskRow, attempt: int, work: Work
) -> Program:
    """Return *program* with its trace and units in variables that it leaves unset."""
    variables = {**_carried(rt, row, attempt, work), **variables_of_units(rt, row)}
    return (
        attrs.evolve(program, env={**variables, **program.env})
        if variables
        else program
    )


def trace_of(rt: Runtime, row: TaskRow, attempt: int, work: Work) -> str | None:
    """Return the trace context of an attempt, for another process: see `inside`."""
    return _carried(rt, row, attempt, work).get("TRACEPARENT")


def _carried(rt: Runtime, row: TaskRow, attempt: int, work: Work) -> Mapping[str, str]:
    spans = rt.spans
    if spans is None:
        return {}
    origin = _origin_of(row, work, spans)
    return spans.environment(row.id, attempt, origin, row.started_ns)


def inside(text: str | None) -> AbstractContextManager[None]:
    """Let the block, in another process, belong to the trace of `trace_of`."""
    if text is None:
        return nullcontext()
    within: AbstractContextManager[None]
    within = built_in("telemetry._spans", "a trace").inside(text)
    return within


# -- what a running task is given: its context -----------------------------------------


class _Local(threading.local):
    """The pool worker of the calling thread, if it is one."""

    #: None for other threads. The class has it, since asking a thread-local for an
    #: attribute that it lacks takes half a microsecond more.
    worker: Worker | None = None


LOCAL: Final = _Local()
#: The context of the attempt that a coroutine belongs to.
CURRENT: Final[ContextVar[AttemptContext | None]] = ContextVar(
    "taskorch_current", default=None
)
#: The budget of submissions that name none.
BUDGET: Final[ContextVar[str]] = ContextVar("taskorch_budget", default="")
LOG: Final = log_of("taskorch.task")


def current_budget() -> str:
    """Return the budget of the caller's block, or else of its attempt; or ""."""
    budget, worker = BUDGET.get(), LOCAL.worker
    if budget:
        return budget
    if worker is not None and worker.current is not None:
        row: TaskRow
        row, _, _ = worker.current
        return row.bucket.spec.budget
    inside: object = CURRENT.get()
    if not isinstance(inside, AttemptContext):
        # In another process the context is a copy, and the budget is not known.
        return ""
    return inside._row.bucket.spec.budget


def result_of(parent: Work) -> Any:
    """
    Return the result of a dependency; None if it has not completed.

    If it failed, and was allowed to, return its error.

    Raises:
        ResultGoneError: It has left memory, and was named by its id.
    """
    if parent._row.state is not TaskState.COMPLETED:
        return allowed_error(parent)
    value = parent._value
    if parent._error is None and not issubclass(type(value), Missing):
        # So are most of them.
        return value
    gone = gone_result(parent)
    if gone is not None:
        raise gone
    return parent._value


def has_result(parent: Work) -> bool:
    """Return whether *parent* has a result, or an allowed error in its place."""
    is_completed = parent._row.state is TaskState.COMPLETED
    return is_completed or allowed_error(parent) is not None


class Results(Mapping[str, Any]):
    """
    The results of the completed tasks that this one depends on, by id.

    Of a failure that was allowed, it has the error. The keys are the ids that were
    given, whichever run of a task it was.
    """

    __slots__ = ("_parents",)

    def __init__(self, parents: Mapping[str, Work]) -> None:
        self._parents: dict[str, Work] = {}
        for task_id, parent in parents.items():
            stem = stem_of(task_id)
            self._parents[task_id if stem in self._parents else stem] = parent

    def __getitem__(self, task_id: str) -> Any:
        parent = parent_named(task_id, self._parents)
        if parent is None or not has_result(parent):
            raise KeyError(task_id)
        return result_of(parent)

    def __iter__(self) -> Iterator[str]:
        for task_id, parent in list(self._parents.items()):
            if has_result(parent):
                yield task_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Results({', '.join(self)})"


T = TypeVar("T")


class Added(property, Generic[T]):
    """
    An attribute that an extension adds to the context of a task: a line there.

    Args:
        place: Function that makes the value of the context, as `module:name`.
        text: Its docstring.
    """

    def __init__(self, place: str, text: str) -> None:
        def ask(context: Any) -> Any:
            # An object of awaitables leads to the context that it belongs to.
            return answer_of(place)(getattr(context, "_context", context))

        super().__init__(ask, doc=text)

    if TYPE_CHECKING:

        @overload
        def __get__(self, context: None, owner: type, /) -> Self: ...

        @overload
        def __get__(self, context: object, owner: type | None = None, /) -> T: ...

        def __get__(self, context: Any, owner: Any = None, /) -> Any: ...


def answer_of(place: str) -> Callable[..., Any]:
    """Return the function of an extension at *place*, `module:name`."""
    module, _, name = place.partition(":")
    member: Callable[..., Any] = getattr(import_module(module), name)
    return member


def ask_at_home(task: tuple[str, int], place: str, question: Any) -> Any:
    """
    Call the function at *place* beside the orchestrator, from a worker process.

    It is given the context of the attempt there, and *question*.

    Raises:
        NotRunningError: There is no way to the orchestrator.
    """
    if HERE.link is None:
        msg = "a step does not reach the orchestrator from this process"
        hint = "use executor='process', or a thread"
        raise NotRunningError(msg, hint=hint)
    return HERE.link.ask("extension", task, (place, question))


class AttemptContext:
    """
    The part of a task's context that needs the runtime only.

    `TaskContext` adds the rest, such as its workflow. The runtime is told which class
    to make, as it is for handles.
    """

    __slots__ = ("_control", "_row", "_rt", "_weak", "attempt")

    def __init__(self, work: Work, attempt: int, control: Control) -> None:
        # The work keeps the error of its attempt, whose frames lead to the context.
        self._weak = weakref.ref(work)
        # Any: this module sees more of the runtime than the class of works declares.
        rt: Any = work._rt
        self._rt: Runtime = rt
        self._row = work._row
        self._control = control
        #: The number of the attempt, from 1.
        self.attempt: int = attempt

    @property
    def _work(self) -> Work:
        """The work of the attempt; a stand-in once that has left memory."""
        work = self._weak()
        if work is None:
            work = Work(self._rt, None, (), {}, None, NO_VARIABLES)
            work._row = self._row
        return work

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._row.id

    @property
    def fence(self) -> tuple[int, int]:
        """
        (incarnation of the orchestrator, attempt), which rises with every attempt.

        Hand it to whatever the task writes to, and let that refuse a lower one.
        """
        return (self._rt.epoch, self.attempt)

    @property
    def results(self) -> Mapping[str, Any]:
        """
        The results of the tasks that this one depends on, by id.

        A task that did not complete, where `join` or `on_parent_failure` lets this one
        run without it, has none. If it completes meanwhile, its result appears.
        """
        return Results(works_above(self._work))

    @property
    def workflow(self) -> Any:
        """The workflow run that the task is part of: see `TaskContext`."""
        return None

    def _begin_run(self, workflow: Any, run_id: str, given: Mapping[str, Any]) -> Any:
        """Begin a run of a workflow; `TaskContext` implements it."""
        raise NotImplementedError

    def _deployed_since(self, began: datetime) -> bool:
        """Return whether it went over to what is deployed; see `TaskContext`."""
        raise NotImplementedError

    @property
    def _run_id(self) -> str:
        """The id of the workflow run that the task is part of; "" if none."""
        return self._row.run

    @property
    def _made_for(self) -> MadeFor:
        task = self._work._task
        return MadeFor(None if task is None else task.metadata)

    @property
    def schedule(self) -> str | None:
        """The name of the schedule that made the task; None if none did."""
        return self._made_for.schedule

    @property
    def slot(self) -> datetime | None:
        """
        The scheduled time that the task is for, in the time zone of its schedule.

        For a task of `trigger` it is the time of that call. None: no schedule has made
        it.
        """
        return self._made_for.slot

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters that `orch.schedules.trigger` was given for the task."""
        return self._made_for.parameters

    @property
    def cancelled(self) -> bool:
        """
        Whether the attempt is to end now, because it is cancelled or out of time.

        A thread cannot be stopped from outside: ask this now and then, or call
        `checkpoint`.
        """
        return self._control.is_to_end

    @property
    def time_left(self) -> float | None:
        """
        Seconds until the attempt's `timeout` or the task's `deadline`; 0 when over.

        The sooner of the two; None if it has neither. A timeout does not go on while
        the task is suspended.
        """
        extra = self._row.extra
        if extra is None:
            return None
        ends = [at for at in (extra.timer, extra.deadline_ns) if at]
        return max(0, min(ends) - self._rt.now()) / NS if ends else None

    @property
    def allocation(self) -> Resources:
        """
        The resources that the attempt holds; for an elastic request, at this moment.

        They shrink only in `checkpoint`, and grow, from the first one on, when
        resources come free.
        """
        return Resources.from_units(without_quotas(self._row.alloc))

    def units(self, resource: str) -> tuple[str, ...]:
        """
        Return the names of the attempt's units of *resource*, such as `"gpu"`.

        Return None if its units have no names. Programs and worker processes find those
        of `gpu` in the variable `CUDA_VISIBLE_DEVICES`; a thread has no variables of
        its own.
        """
        return names_of(self._rt.kernel, self._row.alloc).get(resource, ())

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `task_id` and `attempt`."""
        return logging.LoggerAdapter(
            LOG, {"task_id": self.task_id, "attempt": self.attempt}
        )

    def _note_usage(self, usage: Resources) -> None:
        """Note the resources that the attempt used, as our handler measured them."""
        self._control.usage = usage.units

    def checkpoint(self, state: Any = None) -> None:
        """
        Keep *state* for the next attempt, and stop here if the attempt is to stop.

        The next attempt finds the state in `restored`: of a durable orchestrator also
        after a crash, once this has returned. While its journal cannot be written, this
        waits.

        What was granted of an elastic request shrinks here to its share, if others
        contend: look at `allocation` after it, and use no more.

        Raises:
            InvalidTaskError: The journal cannot keep *state*.
            AttemptInterrupted: The task is being cancelled or suspended, or is out
                of time. Let it pass.
        """
        self._keep(state)
        self._take_share()
        stop_if_asked(self)

    def _keep(self, state: Any) -> None:
        extra = extra_of(self._work)
        if self._control is extra.control:
            rt = self._rt
            told = rt.committer is not None or rt.kernel.sink is not None
            if told and (state is not None or extra.checkpoint is not None):
                committer = rt.committer
                if committer is not None:
                    committer.refuse_to_block()
                rt.checkpoint(self._work, self.attempt, state)
                if committer is not None:
                    committer.wait_kept_unless(committer.last, lambda: self.cancelled)
            extra.checkpoint = state

    def _take_share(self) -> None:
        """Take the resources that an elastic request was granted by now."""
        kernel, row, attempt = self._rt.kernel, self._row, self.attempt
        if row in kernel.holders:
            self._rt.step(lambda now: kernel.adjust(row, attempt, now))

    @property
    def restored(self) -> Any:
        """
        The state of the last checkpoint of an earlier attempt, or None.

        Raises:
            ResultGoneError: There is one, and its class is gone or was changed since.
        """
        extra = self._work._extra
        state: Any = None if extra is None else extra.checkpoint
        if issubclass(type(state), Missing):
            state = state.look()
        if issubclass(type(state), Missing):
            msg = f"the checkpoint of task {self.task_id} is lost: {state.why}"
            hint = "bring that back, or submit the task anew"
            raise ResultGoneError(msg, hint=hint, task_id=self.task_id)
        return state

    def spent(self, **amounts: float) -> None:
        """
        Say what the attempt has spent of its budget since it said so last.

        In a durable orchestrator it is kept once this has returned, and waits for that.
        What it has reserved is reduced by it; more than that counts, too. As it ends,
        the rest of what it reserved comes back. An attempt that never says anything of
        a resource has spent all that it reserved; so has one that is cut off.

        It cannot be called in a process pool, Ray or Dask of your own. Amounts are kept
        in whole millionths.

        Args:
            amounts: By resource, such as `tokens=1_840, eur=0.02`. Of a task without
                a budget, there is the event only.

        Raises:
            InvalidTaskError: An amount is negative, or no number; or its budget, and
                those above, have no resource of that name. Then nothing is counted.
            NotRunningError: The attempt has ended, or was given up.
        """
        self._spend_units(units_spent(amounts))

    def _spend_units(self, units: Units) -> None:
        """Count *units* as spent; a durable orchestrator waits until they are kept."""
        committer = self._rt.committer
        if committer is not None:
            committer.refuse_to_block()
        self._rt.spend(self._work, self.attempt, units)
        if committer is not None:
            committer.wait_kept_unless(committer.last, lambda: self.cancelled)

    def _told(self, what: str, value: Any) -> Any:
        """Do as `Attempt.told` with `"spending"` and `"reserved"`, for our handlers."""
        if what == "spending":
            self._spend_units(value)
            return None
        if not self._row.bucket.spec.budget:
            return None
        budgets = budgeting()
        with self._rt.lock:
            return budgets.reserved_of(self._row)

    def remote(self) -> RemoteContext:
        """Return a copy for another process."""
        row, work = self._row, self._work
        copy = RemoteContext(row.id, self.attempt, self.fence)
        if work._above:
            copy.results = dict(self.results)
        if row.alloc:
            copy._held = without_quotas(row.alloc)
            copy._units = dict(names_of(self._rt.kernel, row.alloc))
        if (restored := self.restored) is not None:
            copy.restored = restored
        if (time_left := self.time_left) is not None:
            # The clock is the machine's, so it holds in the other process, too.
            copy._ends = monotonic() + time_left
        if self._run_id:
            copy._in_workflow = True
        if self._rt.output is not None:
            copy.output_left = self._rt.output.most
        task = work._task
        if task is not None and task.metadata:
            made_for = MadeFor(task.metadata)
            if made_for.schedule is not None:
                copy.schedule, copy.slot = made_for.schedule, made_for.slot
                copy.parameters = dict(made_for.parameters)
        return copy

    def remote_of_call(self) -> RemoteContext:
        """
        Return a `remote` context for a function that may never ask for one.

        It has only results and checkpoints that can be pickled. Those that the function
        needs are among its arguments; others must not keep it from running.
        """
        copy = self.remote()
        if copy.results:
            copy.results = {
                task_id: result
                for task_id, result in copy.results.items()
                if _can_be_pickled(result)
            }
        if copy.restored is not None and not _can_be_pickled(copy.restored):
            copy.restored = None
        return copy

    def __repr__(self) -> str:
        return f"<TaskContext {self.task_id} attempt {self.attempt}>"


class RemoteContext:
    """
    A copy of a context, in another process.

    In worker processes of ours its methods reach the orchestrator; elsewhere it can
    only be read.
    """

    # Attributes with these defaults are not sent.
    results: Mapping[str, Any] = ReadOnly({})
    restored: Any = None
    schedule: str | None = None
    slot: datetime | None = None
    parameters: Mapping[str, Any] = ReadOnly({})
    #: The `traceparent` of the attempt's span, if it has one.
    trace: str | None = None
    #: The most characters of its output that are still kept; 0: none are.
    output_left: int = 0
    _held: Units = ()
    _units: Mapping[str, tuple[str, ...]] = ReadOnly({})
    _ends: float | None = None
    _in_workflow: bool = False
    key: Added[str] = Added(
        "taskorch.ext.steps._book:key_elsewhere", "See `TaskContext`."
    )
    step: Added[Any] = Added(
        "taskorch.ext.steps._calls:step_elsewhere", "See `TaskContext`."
    )
    sleep: Added[Any] = Added(
        "taskorch.ext.steps._sleep:sleep_elsewhere", "See `TaskContext`."
    )
    wait: Added[Any] = Added(
        "taskorch.ext.steps._waits:wait_elsewhere", "See `TaskContext`."
    )
    ask: Added[Any] = Added(
        "taskorch.ext.steps._waits:ask_elsewhere", "See `TaskContext`."
    )
    child: Added[Any] = Added(
        "taskorch.ext.steps._waits:child_elsewhere", "See `TaskContext`."
    )

    def __init__(self, task_id: str, attempt: int, fence: tuple[int, int]) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.fence = fence

    @property
    def cancelled(self) -> bool:
        """See `TaskContext.cancelled`; False in processes that are not ours."""
        return HERE.link is not None and HERE.link.is_to_end

    @property
    def allocation(self) -> Resources:
        """See `TaskContext.allocation`; as of the start, or the last checkpoint."""
        return Resources.from_units(self._held)

    def units(self, resource: str) -> tuple[str, ...]:
        """See `TaskContext.units`."""
        return self._units.get(resource, ())

    @property
    def time_left(self) -> float | None:
        """See `TaskContext.time_left`, as things stood when the attempt began."""
        return None if self._ends is None else max(0.0, self._ends - monotonic())

    @property
    def _run_id(self) -> str:
        """The id of the run of a workflow that the task is part of, or ""."""
        return run_of(self.task_id) if self._in_workflow else ""

    @property
    def workflow(self) -> None:
        """
        None for a task that is part of no workflow.

        Raises:
            NotRunningError: It is part of one, which cannot be reached from here.
        """
        if self._in_workflow:
            hint = "let a task that runs on a thread add tasks, and meet others"
            self._refuse("workflow", hint)

    @property
    def aio(self) -> NoReturn:
        """Refuse: a waiting method needs the orchestrator's own process."""
        self._refuse("aio")

    def progress(self, value: Any) -> None:
        """
        See `TaskContext.progress`; only from worker processes of ours.

        For a task of Ray or Dask itself nobody would hear it, so nothing happens.
        """
        if HERE.link is None and HERE.drops_progress:
            return
        if HERE.link is None:
            self._refuse("progress()")
        HERE.link.tell("progress", (self.task_id, self.attempt), value)

    def spent(self, **amounts: float) -> None:
        """See `TaskContext.spent`; only from worker processes of ours."""
        units = units_spent(amounts)
        if HERE.link is None:
            self._refuse("spent()")
        HERE.link.ask("spent", (self.task_id, self.attempt), units)

    def checkpoint(self, state: Any = None) -> None:
        """See `TaskContext.checkpoint`; only from worker processes of ours."""
        if HERE.link is None:
            self._refuse("checkpoint()")
        task = self.task_id, self.attempt
        self._held = HERE.link.ask("checkpoint", task, state)
        self.restored = state

    def _refuse(self, what: str, hint: str = "return what you have to say") -> NoReturn:
        msg = f"context.{what} does not reach the orchestrator from another process"
        raise NotRunningError(msg, hint=hint)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger of the other process."""
        return logging.LoggerAdapter(
            LOG, {"task_id": self.task_id, "attempt": self.attempt}
        )


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except BaseException as error:
        # The `__reduce__` of the value may raise anything.
        if not is_values(error):
            raise
        return False
    return True


def call_with(
    context: RemoteContext,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call *fn*, in the other process, so that it may ask for its *context*."""
    token = CURRENT.set(cast("AttemptContext", context))
    under_way = _send_printed() if context.output_left else None
    if under_way is not None:
        under_way.append(context)
    try:
        with inside(context.trace):
            return fn(*args, **kwargs)
    finally:
        CURRENT.reset(token)
        if under_way is not None:
            under_way.remove(context)


class _PrintSender:
    """
    Sends what a task prints in a worker process to the orchestrator.

    The output of threads that a task starts is its own while no other task is under
    way.
    """

    def __init__(self) -> None:
        self.under_way: list[RemoteContext] = []

    def printed(self, text: str) -> None:
        context: object = CURRENT.get()
        if context is None and len(self.under_way) == 1:
            (context,) = self.under_way
        if not isinstance(context, RemoteContext) or context.output_left <= 0:
            return
        context.output_left -= len(text)
        if HERE.link is not None:
            HERE.link.tell("printed", (context.task_id, context.attempt), text)

    def logged(self, record: logging.LogRecord) -> None:
        """Do nothing: records are passed to the orchestrator already."""

    def starts(self, thread: threading.Thread) -> None:
        """Do nothing: the task of a thread is the one that is under way."""


@cache
def _send_printed() -> list[RemoteContext]:
    """Send output from now on, for good; return the contexts under way."""
    sender = _PrintSender()
    _written.begin(sender)
    return sender.under_way


def context_of(work: Work, attempt: int) -> AttemptContext:
    """Return the context of the running attempt of *work*."""
    make: type[AttemptContext] = runtime_of(work).context_class
    return make(work, attempt, control_of(work, attempt))


def runtime_of(holder: Any) -> Runtime:
    """Return the whole runtime that has a task, an attempt or an orchestrator."""
    return holder._rt  # type: ignore[no-any-return]


def incarnation_of(context: AttemptContext) -> str:
    """Return the id of the incarnation that makes the attempt."""
    return runtime_of(context).run_id


def work_of(context: AttemptContext) -> Work:
    """Return the work of an attempt; a stand-in once that has left memory."""
    return context._work


def stop_if_asked(context: AttemptContext) -> None:
    """
    Stop here if the attempt is to stop.

    Raises:
        AttemptInterrupted: It is.
    """
    control = context._control
    if control.why:
        control.interrupted = True
        raise AttemptInterrupted(control.why)


async def checkpoint_async(context: AttemptContext, state: Any) -> None:
    """Do as `AttemptContext.checkpoint` does, on the running loop."""

    def keep() -> None:
        context._keep(state)
        context._take_share()

    await until_kept(context, keep)
    stop_if_asked(context)


async def until_kept(context: AttemptContext, act: Callable[[], None]) -> None:
    """Call *act*; with a journal, wait until its changes are kept."""
    committer = context._rt.committer
    if committer is None:
        act()
        return
    with committer.deferred() as seqs:
        act()
    await committer.wait_kept_async(seqs)


def current_or_none() -> AttemptContext | None:
    """Return the context of the task that the caller is part of; or None."""
    worker = LOCAL.worker
    if worker is not None and worker.current is not None:
        _, attempt, work = worker.current
        return context_of(work, attempt)
    return CURRENT.get()


def current_context() -> AttemptContext:
    """
    Return the context of the task that the caller runs in.

    Raises:
        NotRunningError: The caller is not part of a task.
    """
    found = current_or_none()
    if found is None:
        msg = "there is no current task here"
        raise NotRunningError(msg, hint="call it inside a task")
    return found


# -- what a task calls: with results in the place of what it depends on ----------------


def resolved(work: Work) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """Return the function and arguments, with results for dependencies."""
    fn, args, kwargs = work._fn, work._args, work._kwargs
    if work._above and (args or kwargs):
        parents = works_above(work)
        args, kwargs = replaced(args, kwargs, lambda ref: _value(ref, parents))
    return fn, args, kwargs


def _value(arg: Any, parents: Mapping[str, Work]) -> Any:
    if isinstance(arg, Work):
        # If the task was run again meanwhile, the parent is another run.
        return result_of(parent_named(arg._row.id, parents) or arg)
    if isinstance(arg, Task):
        arg = Reference(submitted_as(arg) or arg.id or "")
    if isinstance(arg, Reference):
        # The reference was a handle in an earlier incarnation.
        parent = parent_named(arg.task_id, parents)
        assert parent is not None  # noqa: S101 - a reference is a dependency
        return result_of(parent)
    return arg
