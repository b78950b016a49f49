"""The facade: composes the parts, and decides nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from datetime import timedelta
from functools import partial
from importlib import import_module
from time import monotonic
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from taskorch.errors import InvalidTaskError, InvalidTransitionError
from taskorch.kit.checks import (
    built_in,
    called_as,
    check_count,
    check_reward,
    check_seconds,
    check_text,
    check_word,
    to_patience,
)
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.limits import (
    FOLLOWED_EVENTS,
    KEEP_EVENTS,
    MAX_PRIORITY,
    NS,
    SIGNAL_SECONDS,
)
from taskorch.kit.plain import SCHEDULES, VERSIONS
from taskorch.kit.verbs import (
    COUNT,
    FOR_PROGRAMS,
    NAME,
    NOTE,
    OBJECT,
    PERSON,
    PRIORITY,
    SECONDS,
    TEXT,
    lacks,
    listed,
    verb,
)
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import meant, other_attribute
from taskorch.model import (
    Agent,
    Escalation,
    HealthCheck,
    Resources,
    Retention,
    TaskState,
    check_breaker,
    check_capabilities,
    check_emitted,
)
from taskorch.model.ids import check_id, has_segments

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime
    from inspect import Signature
    from typing import TextIO

    from taskorch.api._aio import AsyncOrchestrator
    from taskorch.api._decorators import TaskDecorator, TaskFunction
    from taskorch.api._extensions import Extensions
    from taskorch.api._options import WithOptions
    from taskorch.api._settings.fields import Settings, SettingsOptions
    from taskorch.core.engine import Runtime, WorkerRunner
    from taskorch.core.handles.handles import DoneAndNotDone, TaskHandle
    from taskorch.core.journal import MemoryJournal
    from taskorch.core.resources import ResourceManager
    from taskorch.core.runs import WorkflowManager, WorkflowRun
    from taskorch.core.signals import Signals
    from taskorch.core.workers._manager import WorkerManager
    from taskorch.core.workflows import Workflow, WorkflowFunction
    from taskorch.events import Event
    from taskorch.ext.budgets._budget import Budget
    from taskorch.ext.comparing import Comparison
    from taskorch.ext.controllers import ControllerManager
    from taskorch.ext.governance import ConstitutionalRuntime
    from taskorch.ext.memo import MemoManager
    from taskorch.ext.notices.following import EventStream
    from taskorch.ext.notices.notifying import Notifier
    from taskorch.ext.notices.show_progress import Progress
    from taskorch.ext.people import Identity, Tokens
    from taskorch.ext.planner import ExecutionPlan, Planner
    from taskorch.ext.recovery import Alerts, RecoveryHandler
    from taskorch.ext.retention import Pruned
    from taskorch.ext.schedules import ScheduleManager
    from taskorch.ext.service._server import Server
    from taskorch.ext.simulation._plans._chance import Durations, Failures
    from taskorch.ext.simulation._plans._report import SimulationReport
    from taskorch.ext.steps import Steps
    from taskorch.model import (
        Breaker,
        Explanation,
        FailureCause,
        FilterFields,
        Health,
        InTime,
        OpenQuestion,
        Promise,
        Stats,
        StopReport,
        Stuck,
        Task,
        TaskFilter,
        TaskLog,
        TaskOptions,
        TaskStatus,
        WhatIf,
    )
    from taskorch.model._task import FunctionOptions
    from taskorch.protocols import Journal, Learns, Projection

P = ParamSpec("P")
T = TypeVar("T")

#: Options that `orch.schedule` passes on to `orch.schedules.add`.
_OPTIONS_OF_SCHEDULES: Final = (
    "zone",
    "catch_up",
    "overlap",
    "jitter",
    "start",
    "end",
    "parameters",
    "keep_for",
    "keep_latest",
)
F = TypeVar("F", bound="Callable[..., Any]")

#: Stands for a missing `max_concurrency`, which depends on the kind of handler.
_BY_KIND: Final[Any] = object()


class SpelledOut:
    """The signature of a class whose constructor takes settings, each by name."""

    def __get__(self, instance: object, owner: type) -> Signature:
        from taskorch.api._settings.fields import signature_of  # noqa: PLC0415 - asked for by few

        return signature_of(owner)


class Part(property, Generic[T]):
    """
    A part of an orchestrator that is made when it is asked for: a line of the facade.

    Args:
        place: Makes it of the runtime, as `module:name`.
        text: Its purpose.
        given: Whether the orchestrator is given to what makes it, too.
        once: Whether one serves for ever, since it joins others as it is made.
        room: Its class, as `module:name`, if that does not make it.
    """

    def __init__(
        self,
        place: str,
        text: str,
        *,
        given: bool = False,
        once: bool = False,
        room: str = "",
    ) -> None:
        def ask(orch: Any) -> Any:
            return self.__get__(orch)

        # A property serves readers of the class: help, and pages of a reference.
        super().__init__(ask, doc=text)
        self._ask, self._place, self._given, self._once = ask, place, given, once
        self._room = room or place
        self._name = ""
        self._make: Callable[..., T] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        kind = str(owner.__annotations__[name])
        self._ask.__annotations__["return"] = kind.removeprefix("Part[")[:-1]

    @overload
    def __get__(self, orch: None, owner: type, /) -> Self: ...

    @overload
    def __get__(self, orch: TaskOrchestrator, owner: type | None = None, /) -> T: ...

    def __get__(
        self, orch: TaskOrchestrator | None, owner: type | None = None, /
    ) -> Self | T:
        if orch is None:
            return self
        if self._once:
            return self._kept(orch)
        make = self._make or self._loaded()
        return make(orch._rt, orch) if self._given else make(orch._rt)

    def _kept(self, orch: TaskOrchestrator) -> T:
        parts = vars(orch)
        if self._name not in parts:
            with orch._once():
                if self._name not in parts:
                    make = self._loaded()
                    sources = (orch._rt, orch) if self._given else (orch._rt,)
                    parts[self._name] = make(*sources)
        part: T = parts[self._name]
        return part

    def room(self) -> type[T]:
        """Return its class, whose methods may be verbs; `object` if it was deleted."""
        room: type[T] = _named(self._room)
        return room

    def _loaded(self) -> Callable[..., T]:
        make: Callable[..., T] = _named(self._place, f"orch.{self._name}")
        self._make = make
        return make


def _named(place: str, call: str = "") -> Any:
    module, _, name = place.partition(":")
    extension = module.removeprefix("taskorch.ext.")
    if extension == module:
        return getattr(import_module(module), name)
    room = built_in(extension, call)
    return object if room is None else getattr(room, name)


class TaskOrchestrator:
    """
    Validates, orders, routes, runs, retries, times and explains tasks.

    Use it in a `with` or an `async with` block. Nothing is started, and no file or
    clock is touched for work, before the block is entered or `start` is called. What is
    declared earlier (schedules, budgets, pools, quotas, workers, listeners) acts from
    then on. What is submitted, asked or kept earlier opens the journal, if there is
    one, and waits until then. All methods may be called from any thread.

    Ctrl-C never leaves an orchestrator that cannot be used; one that comes during a
    step arrives at its end. For that, `start` on the main thread puts a handler in the
    place of Python's own for SIGINT, and the last `stop` takes it back.

    Args:
        registry: Chooses the workers that match a task (`CapabilityRegistry`).
        router: Chooses the one that does it (`PerformanceRouter`).
        validator: Whether a task is accepted (`StructuralValidator`).
        state_machine: A view of the states of your own (`StandardStateMachine`).
        queue: Order and admission (`PriorityQueue`).
        retry_handler: Decides what follows a failure (`BackoffRetryHandler`).
        allocator: Grants resources (`ProportionalAllocator`: all or nothing, and of
            elastic requests a share).
        journal: None keeps all in memory. A path makes tasks durable: they survive the
            process, and go on when it is opened again. So does the address of a
            database: `postgresql://host/database`. Or `SqliteJournal(…)`,
            `PostgresJournal(…)`, `MemoryJournal(…)`, or one of your own.
        durability: Of a journal by its path: `"power"` survives a loss of power;
            `"process"` only the death of the process, but is much faster.
        resources: The resource pools; None is this machine's `cpu`, `memory_mb`,
            `disk_mb`, `bandwidth_mbps` and `gpu`, as far as known. Units may have
            names: see `NamedUnits`. `{"gpu": "found"}` names the GPUs, or raises.
        concurrency: Attempts that run at once.
        executors: Executors of your own, by name: of `concurrent.futures`, or each an
            `AttemptExecutor`. A number for `"process"` is the most worker processes,
            instead of one for each core.
        keep_finished: Finished tasks that stay in memory. Of older ones only the state
            stays, in a byte each, or about a hundred with an id of your own.
        keep_finished_mb: MB, about, of their results, arguments, payloads and errors
            that nobody else has. The oldest leave memory first; the latest few stay.
            None is without limit.
        keep_logs_mb: MB of log and output that are kept of an attempt of a function, in
            files beside the journal; 0 keeps nothing, None all. `log` reads them.
        max_queued: Queued tasks beyond which none is admitted; None is without limit.
        unknown_capability: Whether a task that no worker can do is refused
            (`"refuse"`) or waits for one (`"wait"`).
        stop_timeout: Seconds that the end of the block waits for work; None is for
            ever.
        grace: Seconds, or a timedelta, that an attempt has to stop: when it is
            cancelled, out of time, or still runs at the end. Then it is killed, or
            given up.
        rerun_failed: Whether a task or workflow that failed in an earlier incarnation,
            or is stale, runs again when you submit it again. Within one incarnation it
            stays failed.
        enforce: Whether programs are held to the `memory_mb`, `cpu` and `disk_mb` of
            their tasks, if they do not say so themselves: see `Program`. One that
            cannot be fails, and is not started.
        seed: Repeats every random choice.
        monitor_interval: Seconds between monitoring events, while somebody listens.
        tracer_provider: The provider of OpenTelemetry spans; None is that of the
            process, now or at the start. Without one there are no spans, and
            OpenTelemetry is not imported.
        meter_provider: The provider of OpenTelemetry metrics; None: that of the
            process.
        governance: Policies as data: a `taskorch.ext.governance.ConstitutionalRuntime`,
            or the path of a file of policies.
        extensions: Extensions of yours, each an object of a class that inherits from
            `taskorch.kit.extension.Extension`.

    Raises:
        InvalidTaskError: An argument is out of its range, or a part lacks a method.
    """

    __signature__: Any = SpelledOut()

    # The parts beside the core, each made when it is used.
    agents: Part[WorkerManager] = Part(
        "taskorch.core.workers._manager:WorkerManager",
        "Spawns workers, says how they do, and lets those elsewhere join.",
        given=True,
    )
    alerts: Part[Alerts] = Part(
        "taskorch.ext.recovery._alerts:watched",
        "Rules over what is measured, with actions that are undone.\n\n"
        "With its first use the five of `taskorch.ext.recovery.default_rules` are "
        "watched.",
        given=True,
        once=True,
    )
    drivers: Part[ControllerManager] = Part(
        "taskorch.ext.controllers:controllers_of",
        "Parts that are asked by time what is to be done: `protocols.Driver`.",
        given=True,
    )
    extensions: Part[Extensions] = Part(
        "taskorch.api._extensions:none",
        'Its extensions, by their names: `orch.extensions["licences"]`; or classes.',
        given=True,
        once=True,
    )
    governance: Part[ConstitutionalRuntime] = Part(
        "taskorch.ext.governance._governor:constitution_of",
        "What judges by policies.\n\n"
        "Raises:\n    InvalidTaskError: There are no policies: give `governance=`.",
        room="taskorch.ext.governance._audit:Audits",
    )
    memo: Part[MemoManager] = Part(
        "taskorch.ext.memo:MemoManager",
        "Forgets the results that like tasks would have: see `Cache`.",
    )
    planner: Part[Planner] = Part(
        "taskorch.ext.planner:Planner",
        "Makes plans of requests: estimated, and in a good order.",
        once=True,
    )
    recovery: Part[RecoveryHandler] = Part(
        "taskorch.ext.recovery._handler:handler_of",
        "The recovery handler that it was given as its retry handler.\n\n"
        "Raises:\n    InvalidTaskError: It was given another one.",
    )
    resources: Part[ResourceManager] = Part(
        "taskorch.core.resources:ResourceManager",
        "Changes the pools, says who has what, and takes from them by hand.",
    )
    schedules: Part[ScheduleManager] = Part(
        "taskorch.ext.schedules._manager:schedules_of_orch",
        "The schedules: tasks and workflows at times of cron or at intervals.",
        given=True,
        room="taskorch.ext.schedules:ScheduleManager",
        once=True,
    )
    steps: Part[Steps] = Part(
        "taskorch.ext.steps:Steps",
        "Says which steps of a task are kept, and drops them.",
        given=True,
    )
    workflows: Part[WorkflowManager] = Part(
        "taskorch.core.runs:manager_of",
        "Starts workflows and controls their runs.",
        room="taskorch.core.runs:WorkflowManager",
    )

    def __init__(self, **settings: Unpack[SettingsOptions]) -> None:
        # Many programs import the class and make none: a command, an annotation, a test
        # that is collected.
        from taskorch.api._contexts import TaskContext  # noqa: PLC0415 - see above
        from taskorch.api._settings.fields import SETTINGS, Settings  # noqa: PLC0415 - see above
        from taskorch.core.engine import (  # noqa: PLC0415 - see above
            Lifecycle,
            Runtime,
            _reports,  # noqa: F401 - see above
            machine_resources,
        )
        from taskorch.core.handles.handles import TaskHandle  # noqa: PLC0415 - see above

        # The module of reports is loaded now, because later no file may be openable.
        from taskorch.kit.machine import MEASURED  # noqa: PLC0415 - see above
        from taskorch.protocols import Learns  # noqa: PLC0415 - see above

        said = Settings.of(TaskOrchestrator, settings, SETTINGS)
        self._stop_timeout = said.stop_timeout
        unknown: tuple[str, ...] = ()
        resources = said.resources
        if resources is None:
            resources = machine_resources()
            unknown = tuple(name for name in MEASURED if name not in resources)
        self._rt = Runtime(
            parts=said,
            config=said.of_kernel(unknown),
            pools=resources,
            executors=said.executors or {},
            journal=_journal(said),
            seed=said.seed,
            monitor_interval=said.monitor_interval,
            work_class=TaskHandle,
            context_class=TaskContext,
            report=_report,
            rerun_failed=said.rerun_failed,
            keep_finished_mb=said.keep_finished_mb,
            keep_logs_mb=said.keep_logs_mb,
        )
        #: Held while a part is made that joins others: see `_once`.
        self._making = threading.RLock()
        if said.governance is not None:
            from taskorch.ext.governance._governor import govern  # noqa: PLC0415 - few have it

            govern(self._rt, self, said.governance)
            self._teller()
        self._rt.attempts.programs.enforce = said.enforce
        self._lifecycle = Lifecycle(self._rt)
        if "stop_timeout" in settings:
            self._lifecycle.limit_service(said.stop_timeout)
        self._rt.signals.begins = partial(_follow, self._rt)
        #: The parts that learn from what becomes of tasks.
        self._learners: list[Learns] = said.having(Learns)
        for part in self._learners:
            part.attach(self)
        self._aio: AsyncOrchestrator | None = None
        #: Documents of schedules that are added at the start.
        self._configured: Mapping[str, Any] | None = None
        self._providers = said.tracer_provider, said.meter_provider
        self._look_for_sdk()
        if said.extensions:
            from taskorch.api._extensions import Extensions  # noqa: PLC0415 - few have some

            extensions = Extensions(self._rt, type(self), said.extensions)
            vars(self)["extensions"] = extensions
            self._rt.health_checks += extensions.attach(self)

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        **arguments: Unpack[SettingsOptions],
    ) -> Self:
        """
        An orchestrator with the settings of a file and of the environment.

        A setting is an argument that is a plain value. Arguments here come first, then
        `TASKORCH_NAME` in the environment, the profile, and the rest of the file.

        Args:
            path: The file; None is what `TASKORCH_CONFIG` names, or else the nearest
                `taskorch.toml`, or `pyproject.toml` with a table `tool.taskorch`, in
                the working directory or above it. There need not be one.
            profile: Which table of `profiles` in the file lies over the rest of it;
                None is what `TASKORCH_PROFILE` names.
            arguments: The arguments of the class.

        Raises:
            InvalidTaskError: There is no such setting or profile, or a value is
                invalid: the error names the line, or the variable.
            OSError: The file cannot be read.
        """
        from taskorch.api._settings.configuration import read_configuration  # noqa: PLC0415 - when asked for

        found = read_configuration(path, profile)
        orch = cls(**found.arguments(arguments))
        orch._configured = found.schedules
        return orch

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            extensions = vars(self).get("extensions")
            if extensions and name in extensions:
                return extensions[name]
            return other_attribute(self, name)

    # -- submitting ----------------------------------------------------------------

    @overload
    def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    @overload
    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[Any]:
        """
        Run *fn* with *args* and *kwargs*, as on an Executor.

        A handle, or a task that was submitted, is a dependency and is replaced by its
        result, wherever it is among the arguments: in lists, tuples, sets, dicts, named
        tuples, dataclasses and attrs classes, as deep as they go. Such containers are
        made anew for the call; the others are handed on as they are. A coroutine
        function runs on the loop.

        Raises:
            InvalidTaskError: *fn* is not callable; or a handle is in a container that
                cannot be made anew, such as a subclass of list; or *kwargs* has an
                option of tasks that *fn* does not take: see `options`.
            UsageError: The task was refused.
        """
        if kwargs:
            from taskorch.api._options import refuse_options  # noqa: PLC0415 - if need be

            refuse_options(fn, kwargs)
        # `cast` is avoided, because it is a call.
        handle: Any = self._rt.submit_calls(fn, ((args, kwargs),))[0]
        return handle  # type: ignore[no-any-return]

    def submit_task(self, task: Task[T], *, replace: bool = False) -> TaskHandle[T]:
        """
        Submit one task.

        Under an id, or an idempotency key, that is known, it is the task that is there:
        the one with the same type, payload and dependencies. Its options may be others
        (priority, requires, resources, timeout, expected, deadline, not_before, retry,
        idempotent, metadata, owner): if it has not ended it takes them, from its next
        attempt.

        Args:
            task: The task.
            replace: Whether it takes the place of the one that is there, if that has
                ended and was another: as the next run of it, as `rerun_task` makes.

        Raises:
            DuplicateTaskError: The one that is there is another: it says in what.
            InvalidTransitionError: It is to be replaced, and has not ended.
            UsageError: It was refused: see the subclasses.
        """
        works = self._rt.submit_tasks((task,), replace=replace)
        return cast("TaskHandle[T]", works[0])

    def submit_tasks(self, tasks: Iterable[Task[T]]) -> list[TaskHandle[T]]:
        """
        Submit tasks, all or none. `after` may name later tasks of the same batch.

        They are submitted at one instant: where it is known how long they take, those
        of equal priority start in the order of their latest finish times, the critical
        path first. Tasks that exist already are handled as by `submit_task`.

        Raises:
            UsageError: One was refused, and so none was accepted.
        """
        return cast("list[TaskHandle[T]]", self._rt.submit_tasks(tasks))

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]: ...

    @called_as("options of tasks go before it: orch.options(id='n/{}').map(f, items)")
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[Any]:
        """
        Call *fn* with the items of *iterables*, and yield the results in order.

        Calls are submitted as results are asked for, some thousand ahead, or fewer if
        the results are large. The iterables may be without an end. If they have a
        length, all calls are submitted in any case: before this returns, if there is a
        journal; else at the latest when the orchestrator waits or drains, or when the
        iterator goes before anybody has asked it. Those that have not begun are
        cancelled when the iterator is closed, when a call fails, or when *timeout* is
        over.

        Args:
            fn: The function to call.
            iterables: One for each argument; the shortest ends it.
            timeout: Seconds, or a timedelta, for all of it, from now.
            buffersize: Calls that are submitted before their results are taken, and no
                more, whatever the iterables are.
            allow_failures: How many calls may fail: a number, or a share such as
                `"5%"`. The result of such a call is its `TaskFailedError`. None: the
                first failure that is found ends the map.

        Raises:
            TimeoutError: While iterating: *timeout* is over.
            TooManyFailuresError: While iterating, as soon as it is so: more calls have
                failed than may. A share of iterables without a length is judged at
                their end.
        """
        if allow_failures is not None:
            return self.options().map(
                fn,
                *iterables,
                timeout=timeout,
                buffersize=buffersize,
                allow_failures=allow_failures,
            )
        from taskorch.core.engine import NO_KWARGS, capture  # noqa: PLC0415 - is there
        from taskorch.core.handles.handles import map_calls  # noqa: PLC0415 - is there

        ctx = capture(self._rt.spans)

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            return self._rt.submit_calls(fn, [(args, NO_KWARGS) for args in calls], ctx)

        return map_calls(self._rt, submit, iterables, timeout, buffersize)

    def options(
        self, *, executor: str | None = None, **task_options: Unpack[TaskOptions]
    ) -> WithOptions:
        """
        Submit calls with the options of tasks: `orch.options(retry=3).submit(f, 1)`.

        Args:
            executor: Where they run, as for `Task.call`.
            task_options: The keyword arguments of `Task`. An `id` is for one `submit`;
                for a `map` it is a pattern, such as `"night/{}"`.

        Raises:
            TypeError: There is no such option.
        """
        from taskorch.api._options import CallOptions, WithOptions  # noqa: PLC0415 - when needed

        return WithOptions(self._rt, CallOptions(executor, task_options))

    @overload
    def task(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def task(self, fn: Callable[P, T], /) -> TaskFunction[P, T, T]: ...

    @overload
    def task(
        self, /, *, executor: str | None = None, **task_options: Unpack[FunctionOptions]
    ) -> TaskDecorator: ...

    def task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        executor: str | None = None,
        **task_options: Unpack[FunctionOptions],
    ) -> Any:
        """
        Let a function be submitted here by itself: `@orch.task`, then `f.submit(1)`.

        As `taskorch.task`, and `f.submit`, `f.map` and `f.options` ask this
        orchestrator.

        Args:
            fn: The function, where there are no options.
            executor: Where it runs, as for `Task.call`.
            task_options: As for `taskorch.task`.

        Raises:
            TypeError, InvalidTaskError: As for `taskorch.task`.
        """
        from taskorch.api._decorators import decorated  # noqa: PLC0415 - when needed

        return decorated(fn, self._rt, executor, task_options)

    @called_as("orch.as_completed(handles, timeout=5)")
    def as_completed(
        self,
        handles: Iterable[TaskHandle[T]],
        timeout: float | timedelta | None = None,
    ) -> Iterator[TaskHandle[T]]:
        """
        Yield handles as their tasks end: see `taskorch.as_completed`.

        Raises:
            TimeoutError: Some have not ended within *timeout*.
        """
        from taskorch.core.handles.handles import as_completed  # noqa: PLC0415 - when needed

        return as_completed(handles, timeout)

    @called_as("orch.gather(handles, timeout=5)")
    def gather(
        self,
        handles: Iterable[TaskHandle[T]],
        timeout: float | timedelta | None = None,
    ) -> list[T]:
        """
        Wait for the results of *handles*, and return them in their order.

        Args:
            handles: Of any orchestrators.
            timeout: Seconds, or a timedelta, for all of them together.

        Raises:
            InvalidTaskError: Something is no handle.
            TimeoutError: Some have not ended within *timeout*.
            TaskFailure: What became of the first, in their order, that has no result,
                or its own exception. The others go on.
        """
        those = _handles_of(handles, "gather")
        patience = to_patience(timeout)
        end = None if patience is None else monotonic() + patience
        return [
            each.result(None if end is None else max(0.0, end - monotonic()))
            for each in those
        ]

    # -- workers --------------------------------------------------------------------

    def agent(
        self,
        name: str,
        *,
        capabilities: Iterable[str] = (),
        max_concurrency: int | None = _BY_KIND,
        capacity: Resources | Mapping[str, Any] | None = None,
        request: Resources | Mapping[str, float] | None = None,
        executor: str = "auto",
        breaker: Breaker | None = None,
    ) -> Callable[[F], F]:
        """
        Decorate `handler(task, context)` as a worker.

        Args:
            name: The worker's name.
            capabilities: Its capabilities.
            max_concurrency: Attempts that it runs at once; None is without limit.
                Not given, it is without limit for an `async def`, and 1 otherwise.
            capacity: Its own resources, as Resources or a mapping. It bounds what it
                names, and leaves all else to the pools; None names nothing.
            request: The resources of a task there that states none.
            executor: `"auto"`, `"thread"`, `"asyncio"`, `"process"`, `"program"` (the
                handler returns a `Program`), or a name in `executors`.
            breaker: When it gets no more work because it fails; None: it always does.

        Raises:
            InvalidTaskError: The name is taken, or an argument is out of its range;
                or the handler cannot be called with a task and a context.
        """
        check_id(name)
        names = check_capabilities(capabilities)
        has = (
            None if capacity is None else Resources.of(capacity, "capacity", named=True)
        )
        takes = Resources.of({} if request is None else request, "request")
        check_breaker(breaker)
        if max_concurrency is not _BY_KIND and max_concurrency is not None:
            check_count("max_concurrency", max_concurrency, least=1)

        def add(handler: F) -> F:
            from taskorch.core.engine import (  # noqa: PLC0415 - when needed
                is_coroutine_function,
                refuse_arguments,
            )
            from taskorch.kit.machine import (  # noqa: PLC0415 - when needed
                host,
                machine_labels,
            )

            if not callable(handler):
                msg = f"a worker is a function of (task, context), not {show(handler)}"
                raise InvalidTaskError(msg)
            limit = max_concurrency
            if limit is _BY_KIND:
                limit = None if is_coroutine_function(handler) else 1
            runner = self._runner(name, handler, executor)
            refuse_arguments(name, handler)
            is_here = self._rt.attempts.is_here(runner.executor)
            place = (machine_labels(), host()) if is_here else ((), "")
            info = Agent(name, names, limit, has, takes, None, breaker, *place)
            self._rt.add_worker(info, runner)
            return handler

        return add

    def _runner(
        self, name: str, handler: Callable[..., Any], executor: str
    ) -> WorkerRunner:
        from taskorch.core.engine import (  # noqa: PLC0415 - when needed
            WorkerRunner,
            executor_for,
            is_coroutine_function,
        )

        if executor == "program":
            if is_coroutine_function(handler):
                msg = (
                    f"worker {name!r}: a handler that returns a Program is a plain def"
                )
                raise InvalidTaskError(msg)
            return WorkerRunner(
                name, handler, self._rt.executors["thread"], program=True
            )
        where = executor_for(handler, executor, self._rt.executors)
        return WorkerRunner(name, handler, where)

    def recover(self, failure: str, *, level: int = 1) -> Callable[[F], F]:
        """
        Decorate `recover(task, failure, context)`, which is tried after a failure.

        It runs where the attempt ran (on a thread beside it, if that was no thread of
        ours), while the attempt goes on, with its timeout. It has one try in each
        attempt. If it returns `"retry"`, the attempt is run again; on anything else,
        and if it raises, the attempt has failed, and the retry handler says what
        follows. `TaskStatus.recovery_attempts` and the event `RecoveryAttempted` tell.

        Args:
            failure: The class of failures: see `taskorch.ext.recovery.classify`.
            level: 1 is inside the failed attempt; 2 is before the next one, to reset
                its environment: then its result has no effect.

        Raises:
            InvalidTaskError: There is no such class or level, or there is one already.
        """
        kind: str = built_in("recovery", "recover()").class_of(failure)
        from taskorch.core.engine import Strategies  # noqa: PLC0415 - as above

        if level not in (1, 2):
            msg = f"level is 1 or 2, not {show(level)}"
            raise InvalidTaskError(msg, hint="on level 3, a person is asked")

        def add(strategy: F) -> F:
            if self._rt.strategies is None:
                self._rt.strategies = Strategies(self._rt)
            self._rt.strategies.add(kind, strategy, level)
            return strategy

        return add

    # -- control -------------------------------------------------------------------

    @verb(
        "Cancel a task. `changed` is false if it has ended, or is so already.",
        "commit",
        "POST /tasks/{task_id}/cancel",
        gives="changed",
        refuses=(404, 409),
        remote={"reason": "cancelled over HTTP"},
        command="cancel TASK...: call tasks off",
        is_final=True,
        preview="cancel_of_task",
    )
    def cancel_task(
        self, task_id: str, *, reason: str = "cancelled by the user"
    ) -> bool:
        """
        Cancel a task; False if it has ended.

        A running one is asked to stop, and is CANCELLED when it has, or when its
        grace is over.

        Args:
            task_id: Its id.
            reason: Why: it stands in its error, and in its events.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: The state machine forbids it.
            InvalidTaskError: The *reason* is no text.
        """
        check_text("a reason", reason)
        return self._rt.control(
            task_id,
            lambda row, now: self._rt.kernel.cancel(row, now, reason),
        )

    @verb(
        "Suspend a task. `changed` is false if it has ended, or is so already.",
        "commit",
        "POST /tasks/{task_id}/suspend",
        gives="changed",
        refuses=(404, 409),
        command="suspend TASK...: put tasks aside",
    )
    def suspend_task(self, task_id: str) -> bool:
        """
        Put a task aside; False if it has ended or is suspended.

        A program is stopped where it stands; a running function at its next
        checkpoint, and if it has none it runs to its end: `TaskStatus.stopping` says
        so, and the event `AttemptStopping`; a task that is not running at once. Its
        delays and timeouts stop meanwhile; its deadline goes on.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: It is blocked, and not by a wait for an event; or
                the state machine forbids it.
        """
        rt = self._rt
        return self._rt.control(
            task_id,
            lambda row, now: rt.kernel.suspend(
                row, now, holdable=rt.attempts.holdable(row)
            ),
        )

    @verb(
        "Let a suspended task go on. `changed` is false if it has ended, or is so "
        "already.",
        "commit",
        "POST /tasks/{task_id}/resume",
        gives="changed",
        refuses=(404, 409),
        command="resume TASK...: let tasks go on that were put aside",
    )
    def resume_task(self, task_id: str) -> bool:
        """
        Resume a suspended task; False if it is not suspended.

        Raises:
            UnknownTaskError: No task has this id.
        """
        # The lookup is late, because reading the journal replaces the kernel.
        return self._rt.control(
            task_id,
            lambda row, now: self._rt.kernel.resume(row, now),  # noqa: PLW0108
        )

    @verb(
        "Move a task in the queue.",
        "commit",
        "POST /tasks/{task_id}/priority",
        gives="changed",
        refuses=(404, 422),
        forms={"priority": PRIORITY},
        command="priority TASK PRIORITY: move a task in the queue",
    )
    def set_priority(self, task_id: str, priority: int) -> bool:
        """
        Move a task in the queue; False if it has ended.

        Args:
            task_id: Its id.
            priority: Higher ones start first.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTaskError: *priority* is not an integer within ±1,000,000.
        """
        _check_priority(priority)
        return self._rt.control(
            task_id, lambda row, now: self._rt.kernel.set_priority(row, priority, now)
        )

    @verb(
        "Decide a task that is on hold, or waits.",
        "commit",
        "POST /tasks/{task_id}/decision",
        gives="changed",
        refuses=(404, 409, 422),
        command="decide TASK VERDICT: decide on a task that waits for that",
        is_final=True,
        preview="decision",
    )
    def decide(
        self,
        task_id: str,
        verdict: Literal["retry", "fail", "complete"],
        result: Any = None,
        reason: str = "",
    ) -> bool:
        """
        Settle a task that is held for a decision, or waits; False if it has ended.

        Args:
            task_id: The task.
            verdict: `"retry"` runs it again, `"fail"` ends it, `"complete"` takes
                *result* for its result.
            result: For `"complete"`.
            reason: Why; it stands in the task's history.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: It is not held; or it waits for an event, and is to
                be run; or it is a question that was asked again, and *task_id* does
                not say which run is meant.
            InvalidTaskError: There is no such verdict, or the reason is no text.
        """
        from taskorch.core.engine import question_in, set_result  # noqa: PLC0415 - when needed

        # The import must not happen under the lock.
        built_in("questions")

        check_text("a reason", reason)
        check_word("a verdict", verdict, ("retry", "fail", "complete"))

        committer = self._rt.committer
        document = None
        if committer is not None and verdict == "complete":
            document = committer.journal.document(result)

        def act(row: Any, now: int) -> bool:
            if question_in(row.cargo) is not None:
                questions = built_in("questions", "decide() of a question")
                questions.refuse_bypass(self._rt, task_id, row, verdict)
            if verdict == "complete" and row.state is TaskState.BLOCKED:
                set_result(row.cargo, result)
                if committer is not None:
                    committer.documents[row.cargo] = document
            return self._rt.kernel.decide(row, verdict, now, reason)

        return self._rt.control(task_id, act)

    @verb(
        "Start nothing new, or only while fewer than `most` attempts run.",
        "journal",
        "POST /starts/hold",
        gives="by",
        refuses=(422,),
        forms={"reason": NAME, "by": NAME, "most": COUNT},
        command="hold REASON: let nothing new start",
    )
    def hold_starts(
        self, reason: str, *, by: str = "user", most: int = 0, lasts: bool = True
    ) -> None:
        """
        Start nothing new, or only while fewer than *most* attempts run.

        Running tasks go on. It holds until `release_starts`: with a journal, in later
        incarnations, too. Health is degraded meanwhile, and `explain` says who it is.

        Args:
            reason: Why.
            by: Who holds them: each releases its own, and the strictest counts.
            most: How many may run at once; 0: nothing starts.
            lasts: Whether it outlives this incarnation of the orchestrator.

        Raises:
            InvalidTaskError: *most* is no whole number from 0, or a text cannot be
                shown.
        """
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        check_count("most", most, least=0)
        who = check_text("by", as_text(by))
        why = check_text("a reason", as_text(reason)).rstrip(".") or "no reason given"
        _reports.hold(self._rt, who, most, why, lasts=bool(lasts))

    def note_event(self, event: type[Event], *fields: Any) -> None:
        """Record *event*, which is about no task, with its *fields* after the time."""
        rt = self._rt
        rt.step(lambda now: rt.kernel.note(event, now, *fields))

    @verb(
        "Start again what was held back.",
        "journal",
        "POST /starts/release",
        gives="changed",
        forms={"by": NAME},
        command="release: let tasks start again",
    )
    def release_starts(self, by: str = "user") -> bool:
        """
        Start again what was held back; False if nothing was.

        Args:
            by: Who held it.
        """
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        return _reports.release(self._rt, check_text("by", as_text(by)))

    @verb(
        "The questions that wait for an answer.",
        "journal",
        "GET /questions",
        gives="questions",
        command="questions: show which questions wait for an answer",
    )
    def questions(self) -> list[OpenQuestion]:
        """
        The questions that wait for an answer now, those that wait longest first.

        See `Task.question`. An approval of a phase is one, too, and so is each of the
        `escalations`.
        """
        extension = built_in("questions", "questions()")
        questions: list[OpenQuestion] = extension.open_questions(self._rt, self.answer)
        return questions

    @verb(
        "Failures that were not repaired, by cause.",
        "thread",
        "GET /failures",
        gives="failures",
        lacks=lacks(command="`inspect` shows them"),
    )
    def failures(self) -> tuple[FailureCause, ...]:
        """
        Return the failures that are not yet repaired, by cause, the commonest first.

        Causes are told apart as those of `escalations` are: by the class of the error,
        and by what it says, numbers and the id of the task aside.
        """
        from taskorch.core.engine import _listing  # noqa: PLC0415 - when needed

        self._rt.look_up()
        return _listing.failures(self._rt)

    @verb(
        "The failures about which a person is asked.",
        "journal",
        "GET /escalations",
        gives="escalations",
        command="escalations: show the failures about which a person is asked",
    )
    def escalations(self) -> list[Escalation]:
        """
        Return the questions that are about failures, one for each cause.

        Those tasks are held, and what waits for them waits on. An escalation is
        answered as all questions are, for all its tasks: `"retry"`, whose `changes` are
        resources and a `timeout` for the next attempts; `"skip"` completes them with
        None; `"abort"` fails them; `"complete"` takes `changes={"result": …}` for their
        result.
        """
        return [each for each in self.questions() if isinstance(each, Escalation)]

    @verb(
        "Answer a question.",
        "journal",
        "POST /tasks/{task_id}/answer",
        gives="decided",
        refuses=(404, 409, 422),
        forms={"by": PERSON, "note": NOTE, "changes": {"type": ["object", "null"]}},
        command="answer TASK CHOICE: answer a question",
        is_final=True,
        preview="answer_of_question",
    )
    def answer(
        self,
        task_id: str,
        choice: str,
        *,
        by: str,
        note: str = "",
        changes: dict[str, Any] | None = None,
    ) -> bool:
        """
        Answer a question; whether that decided it.

        An answer is for what was shown. Once a question was asked again, its id alone
        is refused: `sign-off~1` is what was asked first, `sign-off~2` what was asked
        then, and `questions()` has the ids of those that are open.

        Args:
            task_id: Its id: that of its task, with the number of the run if there are
                more; or that of an escalation.
            choice: One of its options.
            by: Who answers.
            note: Their comment, which stands in the history.
            changes: Their changes, as JSON has them: part of the `Answer`; or of what
                an escalation takes.

        Raises:
            AnswerRefusedError: It does not count: it comes too early, too late or
                twice, or *by* may not answer, or nobody knows which of several
                questions is meant. The events of the task say so, too; the hint says
                what is open now.
            UnknownTaskError: No task has this id, or nobody was asked about it.
            InvalidTaskError: An argument is not well formed, or the task is no
                question.
        """
        questions = built_in("questions", "answer()")
        asked = questions.approval_of(self._rt, task_id)
        if asked is not None and choice in ("approve", "reject"):
            approvals = built_in("questions._approvals")
            run, phase = self.workflows.get(asked[0]), asked[1]
            passed = choice == "approve"
            counted: bool = approvals.decide(
                self._rt, run, phase, by, note, changes, passed=passed
            )
        else:
            counted = questions.answer(self._rt, task_id, choice, by, note, changes)
        return counted

    @verb(
        "Send questions, escalations and failures as notifications.",
        "thread",
        lacks=FOR_PROGRAMS,
    )
    def notify(
        self,
        url: str,
        *,
        secret: str | bytes | None = None,
        allow_private: bool = False,
        timeout: float | timedelta = 10.0,
        attempts: int = 5,
        about: Iterable[str] | None = None,
    ) -> Notifier:
        """
        Tell a receiver of questions, escalations and failures.

        Open ones are told when the orchestrator starts, or now. One that is dead or
        slow holds up nothing: `health()` and the log say what it did not get.

        A message is tried again if the connection fails, or the answer is 408, 425, 429
        or 5xx. A process that ends tries waiting messages once, for three seconds. A
        map has the cause of its failed call.

        Args:
            url: A webhook, `https://…`, which gets JSON by POST; or a URL of Apprise,
                such as `mailto://…`, with the extra `notify`.
            secret: The secret that signs a webhook: see `docs/howto/questions.md`.
            allow_private: Whether a webhook may be on this machine, or in a private
                network.
            timeout: Seconds that one attempt at a webhook may take.
            attempts: How often one message is tried, longer and longer apart.
            about: The kinds of messages that it gets, as `docs/howto/told.md` lists
                them: `question`, `failure`, `alert` and so on; None is all of them.

        Raises:
            InvalidTaskError: An argument is not well formed, or the address private.
        """
        receiver: Notifier = built_in("notices.notifying", "notify()").notifier(
            self,
            url,
            secret=secret,
            allow_private=allow_private,
            timeout=timeout,
            attempts=attempts,
            about=about,
        )
        self._rt.health_checks.append(receiver.check)
        self._teller("notify()").add(receiver)
        if self._rt.started:
            receiver._started(None)
        return receiver

    @verb(
        "Reward an attempt, for policies that learn.",
        "commit",
        "POST /tasks/{task_id}/reward",
        gives="changed",
        refuses=(404, 422),
        forms={"value": {"type": "number", "minimum": -1, "maximum": 1}},
        command="reward TASK VALUE: say how good an attempt at a task was",
    )
    def reward_task(
        self,
        task_id: str,
        value: float,
        *,
        attempt: int | None = None,
        source: str = "user",
    ) -> bool:
        """
        Say how good an attempt at a task was; False if there was no such attempt.

        It changes nothing for the task. What learns, such as
        `taskorch.ext.learning.Learned`, hears it, and the journal keeps it.

        Args:
            task_id: The task; it may have ended long ago.
            value: From -1, as bad as can be, to 1.
            attempt: The number of the attempt, from 1; None is the latest.
            source: Who says so: the first word of each source counts.

        Raises:
            UnknownTaskError: No task has this id; or it has left memory, and there is
                no journal that has it.
            InvalidTaskError: *value* is no number from -1 to 1; *attempt* is none from
                1; or *source* is no text.
        """
        from taskorch.core.engine import row_of  # noqa: PLC0415 - when needed
        from taskorch.events import TaskRewarded  # noqa: PLC0415 - when needed

        check_reward(value, source)
        if attempt is not None:
            check_count("attempt", attempt, least=1)
        rt = self._rt
        # A task that has left memory is read from the journal, if there is one.
        work = self.handle(task_id)
        row = row_of(work)

        def change(now: int) -> bool:
            number = row.attempt if attempt is None else attempt
            if not 1 <= number <= row.attempt:
                return False
            fields = row.id, number, float(value), source
            rt.kernel.note(TaskRewarded, now, *fields, cargo=work)
            return True

        return bool(rt.step(change, keep=True))

    @verb(
        "Report an event from outside, for which tasks may wait.",
        "commit",
        "POST /events",
        gives="released",
        refuses=(422,),
        forms={"name": NAME},
        command="emit EVENT: say that an event has come",
    )
    def emit(
        self, name: str, payload: Any = None, *, keep: float | timedelta = KEEP_EVENTS
    ) -> int:
        """
        Say that an event has come: all tasks that wait for it complete.

        See `Task.wait_for`. They complete with *payload*. If no task waits for it, it
        is kept for a while: those that come to wait for it meanwhile complete at once.
        Of several that are kept under one name, the latest counts.

        Args:
            name: Its name.
            payload: The value that came with it.
            keep: For how many seconds it is kept if no task waits for it; 0: not at
                all.

        Returns:
            How many tasks it let go.

        Raises:
            InvalidTaskError: *name* is no name, *keep* no number of seconds, or the
                journal cannot keep *payload*.
            NotRunningError: The orchestrator has stopped.
        """
        check_emitted(name)
        keep_ns = int(check_seconds("keep", keep) * NS)
        return self._rt.emit(name, payload, keep_ns)

    @verb(
        "Run a finished task again.",
        "commit",
        "POST /tasks/{task_id}/rerun",
        gives="task_id",
        status=202,
        refuses=(404, 409, 422),
        forms={"downstream": {"type": ["boolean", "null"]}},
        command="rerun TASK...: run tasks again that have ended",
        preview="rerun_of_task",
    )
    def rerun_task(
        self,
        task_id: str,
        *,
        downstream: bool | None = None,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> TaskHandle[Any]:
        """
        Run a finished task again, as the new task `id~2`, then `id~3`.

        From then on, the id means this run, everywhere, and what waits for the task
        waits for it. Tasks that used the earlier result are stale: `TaskStatus.stale`
        and `explain` say so.

        Args:
            task_id: Its id.
            downstream: Whether to run again, too, what is stale for that, however
                indirectly: what is of the same run of a workflow, and of all other
                tasks those in memory. What has not ended of it is cancelled, and begins
                anew. None: only what is of the same run.
            definition: `"as_deployed"` runs it as it is deployed today; its run goes
                over to today's definition, so what changed in that is run again too.
                `"as_it_was"` keeps arguments and options. None: as deployed, if a
                schedule or a `@workflow` function says what that is.

        Raises:
            UnknownTaskError: No task has this id, or it has left memory, and there is
                no journal that has it.
            InvalidTransitionError: It has not ended; or *task_id* is that of a run
                (`x~1`) after which there was another.
            InvalidTaskError: *downstream* or *definition* is none of these; or the task
                is deployed no more, or not alone, or it is not known what is deployed.
            CycleError: The new run would wait for a task that waits for this one. A
                task may have run although one above it was blocked (`join="any"` and
                the like), and that one may have been let wait for it since.
        """
        if not isinstance(downstream, bool | None):
            msg = f"downstream is True, False or None, not {show(downstream)}"
            raise InvalidTaskError(msg, hint="True runs what depends on it again, too")
        from taskorch.core.runs import restarts_of  # noqa: PLC0415 - when needed

        reruns = restarts_of(self.workflows)
        if reruns.rerun_as(task_id, definition, downstream=downstream):
            if downstream:
                self._rt.rerun_below(task_id)
            return self.handle(task_id)
        if downstream is False:
            again = self._rt.rerun(task_id)
        else:
            again = reruns.rerun(task_id, downstream=bool(downstream))
        return cast("TaskHandle[Any]", again)

    @verb(
        "Change all tasks in memory for which every condition holds.",
        "journal",
        "POST /task-changes",
        gives="task_ids",
        refuses=(422,),
        forms={
            "state": {"enum": [state.value for state in TaskState]},
            "older_than": SECONDS,
            "priority": PRIORITY,
        },
        command="change ACTION: do the same to all tasks of a kind",
        is_final=True,
        preview="change_of_tasks",
    )
    def change_tasks(
        self,
        action: Literal["cancel", "suspend", "resume", "rerun", "set_priority"],
        *,
        ids: str = "*",
        type: str | None = None,  # noqa: A002 - the name that tasks have for it
        state: TaskState | str | None = None,
        older_than: float | timedelta | None = None,
        priority: int | None = None,
    ) -> list[str]:
        """
        Change all tasks in memory for which every condition holds.

        It is done in slices, so that others can go on meanwhile; tasks whose state, or
        the state machine, does not allow it are left out.

        Args:
            action: What `cancel_task`, `suspend_task`, `resume_task`, `rerun_task` and
                `set_priority` do to one task.
            ids: A pattern of their ids: `"nightly/*"`.
            type: A pattern for their types, as in file names.
            state: Their state.
            older_than: They have been in their state for longer, in seconds.
            priority: For `"set_priority"`.

        Returns:
            The ids of those that it changed.

        Raises:
            InvalidTaskError: An argument is not well formed.
        """
        from taskorch.core.runs import _bulk  # noqa: PLC0415 - when needed
        from taskorch.model import TaskFilter  # noqa: PLC0415 - when needed

        if action not in _bulk.ACTIONS:
            names = ", ".join(map(repr, _bulk.ACTIONS))
            msg = f"there is no action {show(action)}: there are {names}"
            raise InvalidTaskError(msg, hint=meant(action, _bulk.ACTIONS) or None)
        if (action == "set_priority") != (priority is not None):
            msg = "priority= and 'set_priority' go together"
            raise InvalidTaskError(msg)
        if priority is not None:
            _check_priority(priority)
        if older_than is not None:
            older_than = check_seconds("older_than", older_than)
        self._rt.look_up()
        return _bulk.change_tasks(
            self._rt,
            action,
            ids=ids,
            type=type,
            state=TaskFilter(state).state,
            older_than=older_than,
            priority=priority,
        )

    @verb(
        "Fail every task that has been queued for longer.",
        "commit",
        "POST /task-expiries",
        gives="task_ids",
        refuses=(422,),
        command="expire SECONDS: fail what has been queued for longer",
        is_final=True,
        preview="expiry_of_tasks",
    )
    def expire_tasks(self, older_than: float | timedelta) -> list[str]:
        """
        Fail every task that has been queued for more than *older_than* seconds.

        Args:
            older_than: Seconds, or a timedelta.

        Returns:
            Their ids.
        """
        ns = int(check_seconds("older_than", older_than) * NS)
        rt = self._rt
        rt.look_up()

        def change(now: int) -> list[Any]:
            if rt.committer is not None:
                # The next incarnation takes the tasks that a stop has left.
                rt.refuse_submission()
            return rt.kernel.expire(ns, now)

        return [row.id for row in rt.step(change, keep=True)]

    # -- questions -----------------------------------------------------------------

    @verb(
        "The handle of a task.",
        "journal",
        lacks=FOR_PROGRAMS,
    )
    def handle(self, task_id: str) -> TaskHandle[Any]:
        """
        The handle of a task: of its latest run, if it was run again.

        `x~1` is the first run of `x`, and `x~2` the second; so it is wherever an id is
        asked for.

        Raises:
            UnknownTaskError: No task has this id.
        """
        self._rt.look_up(task_id)
        with self._rt.lock:
            run_id = self._rt.directory.reruns.latest(task_id)
            return cast("TaskHandle[Any]", self._rt.directory.known(run_id))

    @verb(
        "The state of a task.",
        "journal",
        "GET /tasks/{task_id}",
        refuses=(404,),
        lacks=lacks(command="`inspect` shows it"),
    )
    def get_task_status(self, task_id: str) -> TaskStatus:
        """
        The state of a task, with its history.

        Raises:
            UnknownTaskError: No task has this id.
        """
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        self._rt.look_up(task_id)
        return _reports.status(self._rt, task_id)

    @verb(
        "The log and output of a task.",
        "thread",
        "GET /tasks/{task_id}/log",
        refuses=(404,),
        forms={"attempt": COUNT, "after": COUNT},
        lacks=lacks(command="`logs` shows it"),
    )
    def log(
        self, task_id: str, *, attempt: int | None = None, after: int | None = None
    ) -> TaskLog:
        """
        Return the log and output of a task: of the latest attempt, at most 64 KiB.

        A function's is kept with a journal, up to `keep_logs_mb` of each attempt: what
        it prints, and each record that the level of its logger lets pass. A program's
        is its output.

        Args:
            task_id: Its id.
            attempt: The number of an earlier attempt.
            after: Where to begin, as the `next` of the part before says it; None: the
                end of it.

        Raises:
            UnknownTaskError: No task has this id.
            OSError: It was kept, and cannot be read.
        """
        status = self.get_task_status(task_id)
        from taskorch.core.journal._logs import log_of  # noqa: PLC0415 - few ask

        return log_of(self._rt.attempts.programs.logs, status, attempt, after)

    def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> Iterator[TaskStatus]:
        """
        Go through all tasks that match all arguments, the first submitted first.

        All that was submitted before this was called is looked at once, a page at a
        time, so that others can go on meanwhile: each status is of the moment at which
        its page was made. A durable orchestrator finds those, too, that have left
        memory (see `keep_finished`); for these it reads its journal. In memory they are
        gone.

        Args:
            state: Their state, or a `TaskFilter` that says all.
            fields: What else holds of them: see `TaskFilter`. With `state="queued"` and
                `older_than`, the stale ones.

        Raises:
            InvalidTaskError: An argument is not well formed, or there is no such state.
            JournalUnavailableError: While iterating: the journal cannot be read.
        """
        from taskorch.core.engine import _listing  # noqa: PLC0415 - when needed
        from taskorch.model import TaskFilter  # noqa: PLC0415 - when needed

        self._rt.look_up()
        return _listing.listed(self._rt, TaskFilter.of(state, fields))

    def _some_tasks(
        self,
        which: TaskFilter,
        most: int | None,
        after: str = "",
        *,
        newest: bool = False,
    ) -> Iterator[TaskStatus]:
        """The same, the *most* first, or last, of them: see `_listing.listed`."""
        from taskorch.core.engine import _listing  # noqa: PLC0415 - when needed

        self._rt.look_up()
        return _listing.listed(self._rt, which, most, after=after, newest=newest)

    @verb(
        "Counts and times.",
        "journal",
        "GET /statistics",
        lacks=lacks(command="`inspect` shows them"),
    )
    def get_stats(self) -> Stats:
        """Counts, times and resources, all of one instant."""
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        self._rt.look_up()
        return _reports.stats(self._rt)

    def show_progress(
        self,
        of: WorkflowRun | Iterable[TaskHandle[Any]] | None = None,
        *,
        label: str = "",
        file: TextIO | None = None,
    ) -> AbstractContextManager[Progress]:
        """
        Show how far work is, on one line, within a `with` block.

            with orch.show_progress():
                results = list(orch.map(fetch, urls))

        It says how many tasks have ended of those that there are, how many run, have
        failed, were cancelled and are blocked, how many end in a second, how long the
        rest will take, and which task runs longest. In a terminal and in a notebook the
        line is drawn again and again; elsewhere one comes after 10 s, and others more
        and more rarely. The last one, at the end of the block, stays. There are no
        colours if `NO_COLOR` is set. What is to be printed meanwhile goes above it, by
        `with orch.show_progress() as progress: progress.print("…")`.

        Args:
            of: A run of a workflow, or handles; None is all that had not ended before
                the block, and what comes.
            label: The beginning of the line.
            file: Where it is written; None is the standard error.

        Raises:
            InvalidTaskError: It is neither a run nor handles.
        """
        shown = built_in("notices.show_progress", "progress()")
        self._rt.look_up()
        text = check_text("label", label)
        progress: Progress = shown.progress_of(self._rt, of, text, file)
        return progress

    @verb(
        "The reasons why a task does not run, and what would start it.",
        "not",
        "GET /tasks/{task_id}/explanation",
        refuses=(404,),
        apart=("estimates",),
        lacks=lacks(command="`explain` does more"),
    )
    @called_as("orch.explain(id); orch.in_time(id, deadline='18:00') says what helps")
    def explain(self, task_id: str, *, estimates: bool = True) -> Explanation:
        """
        Why a task does not run, and what would start it; or what became of it.

        `str()` of the answer is for people. All that it rests on is of one moment, and
        the very predicates that schedule were asked.

        Args:
            task_id: Its id.
            estimates: Whether to guess when it starts, and to count its position even
                if it is far back: a person wants that. It may take a look at all that
                is queued, so a program that asks often says False.

        Raises:
            UnknownTaskError: No task has this id in memory.
            ComponentError: A policy failed that was asked.
        """
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        return _reports.explain(self._rt, task_id, estimates=bool(estimates))

    @verb(
        "Two runs of a workflow beside each other: in what they differ, and how much "
        "of the difference in the end each task accounts for.",
        "journal",
        "GET /runs/{earlier}/comparison/{later}",
        gives="comparison",
        refuses=(404,),
        command="diff EARLIER LATER: say in what two runs differ",
    )
    def compare(self, earlier: str, later: str) -> Comparison:
        """
        Compare two runs: a good night and a bad one, or before and after a deploy.

        Tasks are compared by their ids in the workflow, calls of a map by their
        numbers. `str()` of the answer is for people: what to look at first comes first.

        Args:
            earlier: The id of the run that is compared with; or of a task on its own.
            later: The id of the run that is asked about.

        Raises:
            UnknownTaskError: There is no such run.
            JournalError: The journal cannot be read.
        """
        comparing = built_in("comparing", "compare()")
        rt = self._rt
        rt.look_up()
        recollection = rt.directory.recovered
        with rt.lock:
            workers = [worker.info for worker in rt.kernel.workers.values()]
        ask = None if recollection is None else recollection.of_classes
        difference: Comparison = comparing.comparison_of(
            self, earlier, later, ask, workers
        )
        return difference

    @verb(
        "When a task, a run or a schedule's next run ends, and how sure that is.",
        "thread",
        "GET /tasks/{of}/end",
        gives="promise",
        refuses=(404, 422),
        forms={"of": TEXT, "deadline": TEXT},
        apart=("budget",),
        command="when ID: say when a task or a run ends",
    )
    def when(
        self,
        of: str | Workflow | WorkflowFunction[...] | ExecutionPlan | Iterable[Task],
        *,
        deadline: datetime | str | float | None = None,
        budget: float = 5.0,
    ) -> Promise:
        """
        When a task or a run ends: as likely as not, and in nine of ten cases.

        All that is open is carried out in virtual time by the policies that are asked
        here, again and again, with durations and failures as they were measured.
        Nothing of it changes. Of what comes later, the next ticks of schedules are
        counted. The answer names what is left out; `str()` of it is for people.

        Args:
            of: The id of a task or of a run; the name of a schedule, for what it has
                made last, or else for its next tick; or work that is not submitted yet:
                a workflow, a plan, or tasks, as if they were submitted now.
            deadline: A time to be told the risk of: a datetime; `"18:00"`, which is
                today's; an ISO text; or seconds from now. None: its own, if it has one.
            budget: Seconds of processor time after which it says what it has found.

        Raises:
            UnknownTaskError: There is no such task, run or schedule.
            InvalidTaskError: It is open, and that time is over; or the program has not
                declared the work of the schedule.
            UsageError: The work that is not submitted yet is not well formed.
            ComponentError: A policy failed.
        """
        forecasts = self._forecasts("when()")
        work = of if isinstance(of, str) else self._planned(of)
        promise: Promise = forecasts.promise(self._rt, self, work, deadline, budget)
        return promise

    @verb(
        "Open tasks that may end later than their deadlines, the likeliest first.",
        "thread",
        "GET /at-risk",
        gives="promises",
        refuses=(422,),
        apart=("budget",),
        command="at-risk: list the tasks that may miss their deadlines",
    )
    def at_risk(
        self, *, least: float = 0.1, budget: float = 5.0
    ) -> tuple[Promise, ...]:
        """
        Open tasks that may end later than their deadlines, the likeliest first.

        One simulation answers for all, as `when` would for one. Each is taken to go on
        after its deadline.

        Args:
            least: The risk, from 0 to 1, below which a task is left out. Of whom nobody
                knows the end stands there without a risk, and says why.
            budget: Seconds of processor time after which it says what it has found.

        Raises:
            InvalidTaskError: *least* is no such number.
            ComponentError: A policy failed.
        """
        forecasts = self._forecasts("at_risk()")
        promises: tuple[Promise, ...] = forecasts.at_risk(self._rt, least, budget)
        return promises

    @verb(
        "The changes after which a task or a run ends in time.",
        "thread",
        "GET /tasks/{of}/in-time",
        gives="in_time",
        refuses=(404, 422),
        forms={"deadline": TEXT},
        apart=("budget",),
        command="in-time ID: say what would have to change for it to end in time",
    )
    def in_time(
        self,
        of: str,
        *,
        deadline: datetime | str | float | None = None,
        budget: float = 5.0,
    ) -> InTime:
        """
        Find changes with which a task or a run would end in time; make none of them.

        Each answer is the smallest change of its kind after which it ends in time in
        nine of ten cases: its priority, a pool with more in it, more slots, more
        workers of a template, another task or run that waits until it has ended. Where
        no single change is enough, it is two. With each stand the call that makes it,
        and by how much later others end then.

        Args:
            of: The id of a task, or of a run.
            deadline: The time, as in `when`. None: its own.
            budget: Seconds of processor time after which it says what it has found.

        Raises:
            UnknownTaskError: There is no such task or run.
            InvalidTaskError: It has ended; or that time is over, or it has none.
            ComponentError: A policy failed.
        """
        forecasts = self._forecasts("in_time()")
        changes: InTime = forecasts.in_time(self._rt, self, of, deadline, budget)
        return changes

    @verb(
        "The effect of changes on the ends of all open work; nothing is changed.",
        "thread",
        "POST /what-if",
        gives="what_if",
        refuses=(404, 422),
        forms={"priority": OBJECT, "pools": OBJECT, "pause": listed(TEXT)},
        apart=("budget",),
        lacks=lacks(command="`in-time` says which changes help"),
        needs="look",
    )
    def what_if(
        self,
        *,
        priority: Mapping[str, int] | None = None,
        pools: Mapping[str, float] | None = None,
        pause: Iterable[str] = (),
        budget: float = 5.0,
    ) -> WhatIf:
        """
        Forecast the effect of changes on the end of all open work; make none of them.

        `str()` of the answer is a table: each run, and each task on its own, with its
        end as things stand, and its end after all of these changes together.

        Args:
            priority: By ids of tasks or runs, the priority that they would have.
            pools: By names, how much there would be of a resource pool.
            pause: Ids of tasks and runs of which nothing more would begin.
            budget: Seconds of processor time that it may take.

        Raises:
            UnknownTaskError: Nothing that is open has such an id.
            InvalidTaskError: There is no such pool, or a value is invalid.
            ComponentError: A policy failed.
        """
        forecasts = self._forecasts("what_if()")
        priority = {} if priority is None else priority
        pools = {} if pools is None else pools
        effect: WhatIf = forecasts.what_if(self._rt, priority, pools, pause, budget)
        return effect

    @verb(
        "Tasks that can never proceed, and why.",
        "thread",
        "GET /stuck",
        gives="stuck",
        lacks=lacks(command="`explain` without a task shows it"),
    )
    def stuck(self) -> tuple[Stuck, ...]:
        """
        Return the tasks that can never proceed as things stand, by cause.

        A task is named once, with the first cause that was found. Tasks that wait for a
        person (`resume_task`, `decide`) are listed apart: `outside`. It takes time for
        every task in memory, and lets others in between.

        Raises:
            ComponentError: The registry failed.
        """
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        return _reports.stuck(self._rt)

    @verb(
        "The forecast of a workflow or a list of tasks, without running it.",
        "thread",
        lacks=lacks("`POST /simulations` takes documents", "`simulate` takes a file"),
    )
    def simulate(
        self,
        workflow: Workflow | WorkflowFunction[...] | ExecutionPlan | Iterable[Task],
        durations: Durations = None,
        *,
        failures: Failures = None,
        draws: int = 1,
        seed: int = 0,
    ) -> SimulationReport:
        """
        The forecast of a workflow or a list of tasks, without running it.

        The kernel carries it out in virtual time, with the workers, the pools, the
        concurrency and the policies of this orchestrator, as if it were idle and had
        just begun. It need not be started, and nothing of it changes. Policies are
        asked as copies of theirs, where they can be copied; the validator is not
        asked.

        Failures come at the end of an attempt, and match `retry_on`; retries, delays,
        timeouts and deadlines are as in a real run. Durations decide the order,
        distributions by the median of five draws.

        Args:
            workflow: The plan. Of a workflow, ids are those in the workflow. One of
                `orch.planner` says how long its tasks take, where *durations* do not.
            durations: How long attempts take: seconds for all; a function of a `Task`,
                or of a `Task` and a `random.Random` to draw from, that gives seconds; a
                mapping of ids or types to either. `"history"`, which is also what
                stands for whatever is not named: what was measured here of the type,
                the median if there is one draw, drawn anew for each attempt otherwise.
            failures: The attempts that fail: a probability for all; a mapping of ids or
                types to probabilities; or a function of a `Task` and the number of an
                attempt that gives a probability, or the exception that is raised.
            draws: How often chance is asked, for `p50` and `p90`.
            seed: Repeats all that is left to chance.

        Raises:
            InvalidTaskError: An argument is malformed, or nothing is known of how long
                a type takes.
            UsageError: The plan is not well formed.
            ComponentError: A policy failed.
        """
        plans = self._forecasts("simulate()", "_plans._report")
        work = self._planned(workflow)
        report: SimulationReport = plans.simulate(
            self._rt, work, durations, failures, draws, seed
        )
        return report

    def _forecasts(self, call: str, of: str = "_open") -> Any:
        """The forecasts of open work, or of plans, which *call* asks for."""
        forecasts = built_in(f"simulation.{of}", call)
        self._rt.deciders.refuse_reentry()
        return forecasts

    @staticmethod
    def _planned(plan: object) -> object:
        """The workflow, or the tasks, that a plan is."""
        from taskorch.kit.building import as_workflow  # noqa: PLC0415 - when needed

        if "taskorch.ext.planner" in sys.modules:
            from taskorch.ext.planner import ExecutionPlan  # noqa: PLC0415 - is there

            if isinstance(plan, ExecutionPlan):
                return plan.workflow
        return as_workflow(plan)

    def events(
        self,
        *,
        task: str | TaskHandle[Any] | None = None,
        types: str | type[Event] | Iterable[str | type[Event]] | None = None,
        buffer: int = FOLLOWED_EVENTS,
    ) -> EventStream:
        """
        Return the events from now on: `for event in orch.events(task="night/*")`.

        It ends when the orchestrator has stopped. On an event loop, `async for`.

        Args:
            task: The id of a task, a pattern of ids, or a handle; None is all events.
            types: Signals by their names, or classes of events; None is all of them
                but what monitoring reports.
            buffer: Events that are kept until they are taken. The oldest go beyond
                that, and an `EventsLost` says how many.

        Raises:
            InvalidTaskError: An argument is malformed: there is no such event.
            NotRunningError: The orchestrator has stopped.
        """
        following = built_in("notices.following", "events()")
        stream: EventStream = following.EventStream(self._rt, task, types, buffer)
        return stream

    @verb(
        "The health of each component.",
        "not",
        "GET /health",
        lacks=lacks(command="`inspect` shows it"),
    )
    def health(self) -> Health:
        """Check whether the orchestrator is fit for work; it never blocks."""
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        self._rt.deciders.refuse_forked()
        return _reports.health(self._rt)

    @verb(
        "The report of executors beyond this machine.",
        "thread",
        "GET /doctor",
        gives="checks",
        lacks=lacks(command="`doctor` looks at this machine, too"),
    )
    def doctor(self) -> tuple[HealthCheck, ...]:
        """
        Return checks of executors beyond this machine: see `ray` and `dask`.

        The engine, each of its nodes with its versions, and each host. It asks them, so
        that it may take seconds, and starts those that had not been started.
        """
        self._rt.deciders.refuse_reentry()
        found = self._rt.attempts.findings()
        return tuple(
            HealthCheck(f"executor {n}", status, said) for n, status, said in found
        )

    @property
    def signals(self) -> Signals:
        """One signal for every kind of event: `signals.task_completed.connect(f)`."""
        self._rt.deciders.refuse_reentry()
        return self._rt.signals

    @property
    def aio(self) -> AsyncOrchestrator:
        """The same methods as awaitables."""
        if self._aio is None:
            from taskorch.api._aio import AsyncOrchestrator  # noqa: PLC0415 - asyncio's world

            face = self._rt.first_made.setdefault("aio", AsyncOrchestrator(self))
            self._aio = cast("AsyncOrchestrator", face)
        return self._aio

    def budget(
        self, name: str, /, *, parent: str | None = None, **amounts: float
    ) -> Budget:
        """
        Declare a budget: what its tasks spend of it does not come back.

            with orch.budget("release", tokens=200_000, eur=15):
                orch.submit_task(Task("review", diff, resources={"tokens": 20_000}))

        A task that is submitted in the block, or by such a task, or with
        `budget="release"`, draws on it: it reserves its `resources` as it starts, and
        reports its spending by `context.spent`. At four fifths there is an alert, in
        the log, the health and by `notify`. When it is used up, tasks wait and people
        are asked: see `questions`.

        Tasks of a part (`parent`) may reserve resources that only the whole has. The
        state of a budget is `ok`, `low`, `exhausted`, or `open` once people have let it
        finish. After a restart, the process that declares it asks the question.
        `simulate` says if tasks reserve more than is left, and lets none wait for that.
        A task that waits inside for another keeps its reservation: if the other needs
        that, the wait raises `WouldDeadlockError`. A result from the cache has spent
        nothing.

        Args:
            name: Its name. One that is there with the same amounts stays as it is, with
                all that was spent; with others it is changed to these.
            parent: The budget that a new one is part of, and draws on too; None is that
                of the block.
            amounts: How much there is of each resource, in all.

        Raises:
            InvalidTaskError: A name or an amount is invalid, or there is no such
                parent.
        """
        budgets = built_in("budgets._budget", "budget()")
        budget: Budget = budgets.declare(self._rt, name, parent, amounts)
        # This warns people when little of a budget is left.
        self._teller()
        return budget

    def watch_alerts(self, alerts: Alerts) -> None:
        """
        Watch *alerts* from now on: they are `orch.alerts`.

        Raises:
            InvalidTaskError: Others are watched already.
        """
        with self._once():
            alerts.real = self
            self.drivers.add(alerts)
            vars(self)["alerts"] = alerts
            self._rt.health_checks.append(alerts.check)
            self._teller()

    def _once(self) -> AbstractContextManager[Any]:
        """
        While it is held, no other thread makes a part that joins others as it is made.

        Raises:
            ReentryError: The caller is inside a policy, and holds up all others.
        """
        self._rt.deciders.refuse_reentry()
        return self._making

    def _teller(self, call: str = "") -> Any:
        """Return the `TroubleTeller`, which warns people; None: it was deleted."""
        troubles = built_in("notices.troubles", call)
        if self._rt.notices.teller is None and troubles is not None:
            with self._once():
                if self._rt.notices.teller is None:
                    troubles.TroubleTeller(self, self._rt)
        return self._rt.notices.teller

    @verb(
        "Metrics by name: of all, by type of task, by worker.",
        "thread",
        "GET /metrics",
        operation="measured",
        lacks=lacks(command="`inspect` shows some"),
    )
    def metrics(self) -> dict[str, Any]:
        """
        Return the metrics, by name: of the system, of types of tasks, of workers.

        Each name is in `taskorch.ext.recovery.METRICS`, with its unit. A metric that
        nobody has measured is None.
        """
        recovery = built_in("recovery", "metrics()")
        metrics: dict[str, Any] = recovery.metrics_of(self)
        return metrics

    def _latest_coverage(self) -> dict[str, float]:
        """The coverage that the latest results tell of, in percent, by type of task."""
        from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

        return _reports.coverage(self._rt)

    @property
    def journal(self) -> Journal | None:
        """The journal, for later incarnations; None: there is none."""
        committer = self._rt.committer
        return None if committer is None else committer.journal

    @property
    def concurrency(self) -> int:
        """The number of attempts that may run at once."""
        return self._rt.kernel.concurrency

    def kept(self, extension: str) -> MutableMapping[str, Any]:
        """
        The documents that an extension keeps: a mapping from keys to JSON documents.

        An extension is a part of yours, or of the library, that has a state of its own:
        `orch.kept("my_package.tariffs")["2026"] = {"cpu": 0.04}`. Each change is an
        event, `ExtensionKept`. With a journal, a later incarnation of the orchestrator
        finds the documents, also after the older events were pruned. Who uses the same
        name has the same documents; those of an extension that is gone stay until you
        drop them, with `orch.kept(name).clear()`.

        The library uses `adaptive_jobs`, `backfills`, `foresight`, `memo`, `waivers`
        and `population_state.judgement_snapshots`.

        Args:
            extension: Its name; that of a module of yours is nobody else's.

        Raises:
            InvalidTaskError: *extension* is no name.
        """
        from taskorch.kit.kept import kept_by  # noqa: PLC0415 - when needed

        return kept_by(self._rt, extension)

    @called_as(
        "orch.schedules.add('nightly', '0 3 * * *', f); or @orch.schedule('0 3 * * *') "
        "above the function"
    )
    def schedule(
        self,
        when: str | float | timedelta,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Callable[[F], F]:
        """
        Decorate a function that is called again and again: see `orch.schedules.add`.

            @orch.schedule("0 3 * * *", zone="Europe/Berlin")
            def backup(): ...

        Args:
            when: Its times. Or the function, with its times as `cron=`: then it is
                added now, and nothing is decorated.
            name: The name of the schedule; None is that of the function.
            options: `zone`, `catch_up`, `overlap`, `jitter`, `start`, `end`,
                `parameters`, `keep_for` and `keep_latest`.

        Raises:
            InvalidTaskError: An argument cannot be, or the times never come.
        """
        given: Any = when
        if callable(given) and "cron" in options:
            decorate = self.schedule(options.pop("cron"), name=name, **options)
            return cast("Callable[[F], F]", decorate(given))
        unknown = [each for each in options if each not in _OPTIONS_OF_SCHEDULES]
        is_times = isinstance(given, str | int | float)
        if unknown or not (is_times or hasattr(given, "total_seconds")):
            what = f"{unknown[0]!r} is no option" if unknown else "it is given times"
            msg = f"orch.schedule decorates a function, and {what}: nothing is made"
            called = getattr(given, "__name__", "nightly")
            times = next((str(options[each]) for each in unknown), "0 3 * * *")
            hint = f"orch.schedules.add({called!r}, {times!r}, {called})"
            raise InvalidTaskError(msg, hint=hint)

        def add(fn: F) -> F:
            called = getattr(fn, "__name__", "") if name is None else name
            self.schedules.add(called, when, fn, **options)
            return fn

        return add

    # -- start and stop ------------------------------------------------------------

    def start(self) -> None:
        """Begin work."""
        self._rt.deciders.refuse_forked()
        if self._rt.closed:
            msg = "the orchestrator has stopped, and cannot be started again"
            raise InvalidTransitionError(msg, hint="make a new one")
        self._look_for_sdk()
        self._lifecycle.start(self._restore_limits)

    def _look_for_sdk(self) -> None:
        from taskorch.core.engine import find_meters, look_for_sdk  # noqa: PLC0415 - is there

        tracer_provider, meter_provider = self._providers
        look_for_sdk(self._rt, tracer_provider)
        meters = find_meters(self._rt, meter_provider)
        if meters is not None:
            from taskorch.core.engine import measure  # noqa: PLC0415 - when needed

            measure(self._rt, meters)

    def _restore_limits(self) -> None:
        """Restore what earlier incarnations left, before anything begins."""
        from taskorch.kit.members import has  # noqa: PLC0415 - when needed
        from taskorch.protocols import Recalls  # noqa: PLC0415 - when needed

        if self._rt.kernel.holds:
            from taskorch.core.engine import _reports  # noqa: PLC0415 - when needed

            _reports.tell_of_earlier(self._rt)
        if SCHEDULES in self._rt.kernel.kept or self._configured:
            self.schedules.restore(self._configured)
        if self._rt.kernel.budgets:
            built_in("budgets._budget", "a journal with budgets").attend(self._rt)
            self._teller()
        if self._rt.fleet is not None:
            self._rt.fleet.restore()
        # The others hear events that one of them causes while it recalls.
        last = self._rt.committed
        for part in self._learners:
            part.restore(self.kept)
            if has(part, Recalls) and self._rt.committer is not None:
                part.recall(self._rt.committer.journal, last)
        if self._rt.publisher.projections:
            from taskorch.core.engine._projections import begin_all  # noqa: PLC0415 - there

            begin_all(self._rt)
        if any(map(has_segments, self._rt.kernel.tasks)):
            from taskorch.core.runs import _limits  # noqa: PLC0415 - when needed

            _limits.restore(self._rt)
        if VERSIONS in self._rt.kernel.kept:
            from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

            _versions.taken_up(self._rt)

    @overload
    def wait(self, timeout: float | timedelta | None = None) -> bool: ...

    @overload
    def wait(
        self,
        handles: Iterable[TaskHandle[T]],
        /,
        timeout: float | timedelta | None = None,
    ) -> DoneAndNotDone[T]: ...

    @verb(  # type: ignore[misc]  # the first argument may be a timeout, too
        "Wait until nothing can proceed.",
        "thread",
        lacks=FOR_PROGRAMS,
    )
    @called_as("done, not_done = orch.wait(handles, timeout=5)")
    def wait(  # pyright: ignore[reportInconsistentOverload]
        self,
        handles: Iterable[TaskHandle[Any]] | float | timedelta | None = None,
        /,
        timeout: float | timedelta | None = None,
    ) -> bool | DoneAndNotDone:
        """
        Wait until nothing can proceed by itself and all listeners have been served.

        A backfill that goes on is waited for, too; the next tick of a schedule is not.

        Or for some handles: `done, not_done = orch.wait(handles, timeout=5)`, as
        `concurrent.futures.wait` does. Tasks that are blocked for good count as done,
        too.

        Args:
            handles: Handles of any orchestrators; another value is a timeout.
            timeout: Seconds to wait; None is for ever.

        Returns:
            Whether it came to that in time; or which of *handles* are done, and which
            are not.

        Raises:
            InvalidTaskError: Something is no handle, and no duration.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        from taskorch.core.handles.handles import wait_for  # noqa: PLC0415 - when needed

        if isinstance(handles, Iterable):
            return wait_for(_handles_of(handles, "wait"), timeout)
        patience = to_patience(timeout if handles is None else handles)
        self._rt.submit_rest()
        if not self._rt.waiting.until_quiet(patience):
            return False
        schedules = vars(self).get("schedules")
        if schedules is None:
            return True
        from taskorch.ext.schedules import wait_for_backfills  # noqa: PLC0415 - there

        return wait_for_backfills(self._rt, schedules, patience)

    @verb(
        "Let what ended long ago leave the journal and memory, with its logs.",
        "thread",
        "POST /prune",
        operation="prune",
        refuses=(422,),
        forms={"older_than": SECONDS, "keep_latest": COUNT},
        lacks=lacks(command="`prune` has it"),
        is_final=True,
        needs="administer",
        preview="pruning",
    )
    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        keep_latest: int | None = None,
        schedule: str = "",
        dry_run: bool = False,
    ) -> Pruned:
        """
        Let leave the journal what ended long ago, while the orchestrator works.

        Whatever something that has not ended is bound to stays: the runs of one task,
        all that wait for each other, and the tasks of one run go together or not. With
        a task go its events, its result, its log and its cached result.

        Args:
            older_than: Tasks that ended longer ago are removed, in seconds or as a
                timedelta.
            keep_latest: How many ended tasks stay, the latest; of *schedule*, runs.
                Without both, the rules of the journal and the schedules are applied
                now.
            schedule: Only what this schedule has made.
            dry_run: Only say what would go.

        Raises:
            InvalidTaskError: There is no journal that can let anything go, or a value
                is out of its range.
            JournalError: The journal cannot be read or written.
        """
        rt = self._rt
        if older_than is not None:
            older_than = check_seconds("older_than", older_than)
        if keep_latest is not None:
            check_count("keep_latest", keep_latest, least=0)
        if not is_text(schedule):
            msg = f"a schedule is said by its name, not {show(schedule)}"
            raise InvalidTaskError(msg)
        built_in("retention", "prune()")
        rt.look_up()
        if rt.pruner is None:
            msg = "nothing is kept that could be pruned: there is no durable journal"
            raise InvalidTaskError(msg, hint='TaskOrchestrator(journal="runs.db")')
        retention = Retention(older_than, keep_latest)
        by_hand = retention != Retention()
        if not by_hand:
            retention = rt.pruner.journal_retention
        pruned: Pruned = rt.pruner.run(
            retention, schedule=schedule, by_hand=by_hand, dry_run=dry_run
        )
        return pruned

    def stop(
        self, drain: bool = True, timeout: float | timedelta | None = None
    ) -> StopReport:
        """
        Stop: wait for tasks that can proceed, cancel the rest, report unfinished ones.

        While it waits, new tasks are taken from tasks, receivers and callbacks only,
        and health is not ready. After some seconds, the log names the tasks for which
        it waits.

        Running attempts are asked to stop, and have `grace` seconds for that; then they
        are given up, and programs are killed. Called again, it returns the same report;
        while another thread is at it, the less patient of the two decides.

        When it returns, the journal is closed, and the next orchestrator may open it.
        For that alone it waits for up to 5 seconds beyond *timeout*; a journal that is
        not closed by then, since nothing answers, is named in the log.

        Args:
            drain: Whether to wait for tasks that can still proceed; False asks all to
                stop.
            timeout: Seconds that all of it may take, the grace included: the drain
                leaves a quarter to it, or the grace if that is shorter. 0 gives up at
                once what does not end by itself. None is `stop_timeout`.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
            KeyboardInterrupt: It was interrupted. While it waited for work to end,
                nothing has stopped, unless that was interrupted before: then what runs
                was asked to stop. After that, it has ended without waiting further.
            SystemExit: A signal of `stop_on` came while it waited.
        """
        return self._lifecycle.stop(
            drain=drain,
            timeout=self._stop_timeout if timeout is None else to_patience(timeout),
        )

    def serve(
        self,
        *,
        port: int = 8080,
        token: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        agents: bool = False,
        mcp: Collection[str] | None = None,
        tokens: Tokens | str | os.PathLike[str] | None = None,
        identity: Identity | None = None,
        host: str = "127.0.0.1",
        hosts: Iterable[str] = (),
    ) -> Server:
        """
        Serve this orchestrator on this machine: a page to look at, and an HTTP API.

            with TaskOrchestrator() as orch, orch.serve(port=0) as server:
                print(server.page)

        Args:
            port: 0 takes one that is free.
            token: The token that every request must have; None makes one.
                `server.token` has it. Who has it may do all.
            functions: The functions that submitted tasks may call, by name.
            agents: Whether workers may come and ask for work, as `taskorch agent` does.
            mcp: The tools that language models may use at `/mcp`, by name, beside those
                that change nothing. None: there is no such path.
            tokens: NamedUnits tokens, or the path of their file: see
                `taskorch.ext.people.Tokens`. Each request has one of these, or
                *token*.
            identity: Another way to know who asks: see
                `taskorch.ext.people.Identity`.
            host: The address of this machine that it listens on. Others reach one that
                is not loopback, such as `0.0.0.0`; what they send is not encrypted.
            hosts: The names by which others call it, if *host* is none of them.

        Returns:
            The running server, for a `with` block; or call its `stop`.

        Raises:
            ImportError: It needs `pip install 'taskorch[serve]'`; *mcp* needs
                `taskorch[mcp]`, too.
            InvalidTaskError: The port, the token or *host* is none, *hosts* is no
                collection, or *mcp* has a name that is none.
            OSError: The port is taken.
        """
        # The service stands above the facade, and most programs need none.
        service = built_in("service", "serve()")
        secret = service.new_token() if token is None else token
        app = service.create_app(
            self,
            token=secret,
            functions=functions,
            agents=agents,
            page=True,
            mcp=mcp,
            tokens=tokens,
            identity=identity,
            hosts=import_module("taskorch.ext.service._guard").names_at(host, hosts),
        )
        server: Server = service.serve(app, host=host, port=port)
        server.token = secret
        return server

    def stop_on(
        self,
        *signals: int,
        timeout: float | timedelta = SIGNAL_SECONDS,
        drain: bool | None = None,
    ) -> None:
        """
        Stop in good order at *signals*, such as the SIGTERM of a supervisor.

        The first one raises SystemExit on the main thread, or cancels the main task of
        `asyncio.run`, and so ends the `with` or `async with` block, which then waits
        instead of cancelling: in memory for all that can still proceed; with a journal
        for what runs, and the queue is left to the next incarnation. A second one
        cancels what runs, and a third one waits for nothing any more. The process exits
        with 128 and the number of the signal.

        It may be called before the block and in it. A handler that a signal had is
        called first, and is put back at the stop; a signal that is ignored, as nohup
        has it for SIGHUP, stays ignored.

        Args:
            signals: Such as `signal.SIGTERM`.
            timeout: Seconds that the end may take, as that of `stop`. Let it be less
                than the sender of the signal waits before it kills.
            drain: Whether to wait for queued tasks, too; None is in memory only.

        Raises:
            UsageError: This is not the main thread.
            InvalidTaskError: One is no signal, or none that can be handled; or
                *timeout* is no number of seconds, or *drain* not True, False or None.
            NotRunningError: The orchestrator has stopped.
        """
        from taskorch.core.engine import _lifecycle  # noqa: PLC0415 - when needed

        self._rt.deciders.refuse_forked()
        if not isinstance(drain, bool | None):
            msg = f"drain is True, False or None, not {show(drain)}"
            raise InvalidTaskError(msg)
        _lifecycle.stop_on(
            self._lifecycle,
            signals,
            check_seconds("timeout", timeout),
            drain=self._rt.committer is None if drain is None else drain,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # The block is not entered, so that nobody else would stop it.
            self.stop(drain=False)
            raise
        return self

    @defers_interrupts
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from taskorch.core.engine import _lifecycle  # noqa: PLC0415 - when needed

        # After an exception in the block, queued tasks do not begin. A block that has
        # stopped it has the report.
        if not self._rt.closed:
            self._say_unused(error)
            _lifecycle.end_block(self._lifecycle, self._stop_timeout, error)

    def _say_unused(self, error: BaseException | None) -> None:
        """Say which schedules end with the block, that have made nothing in it."""
        schedules = vars(self).get("schedules")
        if error is None and schedules is not None:
            schedules._say_unused()

    async def __aenter__(self) -> Self:
        try:
            await self.aio.start()
        except BaseException:
            # As in `__enter__`.
            await self.aio.stop(drain=False)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from taskorch.core.engine import _lifecycle  # noqa: PLC0415 - when needed

        if not self._rt.closed:
            self._say_unused(error)
            await _lifecycle.end_block_of_coroutine(
                self._lifecycle, self.aio.stop, error
            )

    def __repr__(self) -> str:
        rt = self._rt
        state = "stopped" if rt.closed else "running" if rt.started else "not started"
        kernel = rt.kernel
        return (
            f"<TaskOrchestrator {state}: {kernel.queued} queued, {kernel.active} "
            f"running, {kernel.completed} completed, {kernel.failed} failed>"
        )


def _follow(rt: Runtime, projection: Projection) -> Callable[[], None]:
    """See `Signals.follow`."""
    from taskorch.core.engine._projections import follow  # noqa: PLC0415 - when needed

    return follow(rt, projection)


def _handles_of(handles: Any, method: str) -> list[TaskHandle[Any]]:
    """
    *handles*, as a list.

    Raises:
        InvalidTaskError: Something is no handle.
    """
    from taskorch.core.handles.handles import TaskHandle  # noqa: PLC0415 - when needed

    those: list[Any] = list(handles) if isinstance(handles, Iterable) else [None]
    if not all(isinstance(each, TaskHandle) for each in those):
        msg = f"orch.{method} takes handles, in a list or another iterable"
        raise InvalidTaskError(msg, hint=f"orch.{method}([one, other])")
    return those


def _check_priority(priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int):
        msg = f"a priority is an integer, not {show(priority)}"
        raise InvalidTaskError(msg)
    if abs(priority) > MAX_PRIORITY:
        msg = f"a priority is within ±{MAX_PRIORITY:,}, and not {show(priority)}"
        raise InvalidTaskError(msg)


def _journal(settings: Settings) -> MemoryJournal | Journal:
    """
    The journal that was asked for.

    Raises:
        InvalidTaskError: It belongs to another orchestrator.
    """
    from taskorch.core.journal import MemoryJournal  # noqa: PLC0415 - when needed

    journal = settings.journal
    if journal is None:
        return MemoryJournal()
    if isinstance(journal, MemoryJournal) and journal.is_owned:
        msg = "journal= keeps the events of another orchestrator already"
        raise InvalidTaskError(msg, hint="make a MemoryJournal for each")
    if isinstance(journal, str | os.PathLike):
        from taskorch.core.journal import open_journal  # noqa: PLC0415 - it loads sqlite3

        return open_journal(journal, durability=settings.durability)
    return journal


def _report(rt: Runtime) -> None:
    from taskorch.core.engine import _reports  # noqa: PLC0415 - once somebody listens

    _reports.report(rt)
