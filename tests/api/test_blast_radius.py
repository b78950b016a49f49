"""
One call of a user's that fails harms itself alone, whatever it raises.

A table has all places where what users give us is called; each raises errors of each
class there, while a neighbour runs and before another one. Methods of policies, signals
and hooks are enumerated; what else of our public names takes a function stands in the
table by its name, or is listed with the reason why nobody stands beside it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import pytest
import yaml
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from tests.api.tools import PATIENCE, Hold, eventually, part
from tests.ext.jobs.test_jobs import EXAMPLE, body
from tests.house.hostile import Unforeseen

import taskorch
from taskorch import RetryPolicy, Task, TaskHandle, TaskOrchestrator, workflow
from taskorch.api.verbs.table import bound
from taskorch.core.inside import Inside
from taskorch.errors import InternalError, InvalidTaskError
from taskorch.ext.jobs import JobSystem
from taskorch.ext.recovery import Alerts, RecoveryHandler, Rule
from taskorch.kit.extension import Extension
from taskorch.kit.fence import log_of
from taskorch.kit.verbs import verb
from taskorch.policies import QuotaRetryHandler, SourceRegistry, TenacityRetryHandler
from taskorch.policies._kinds import POLICIES, Policies

#: One of each kind. An interrupt is meant for the main thread, and has tests of its own.
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: ValueError("broken"),
    Unforeseen,
    lambda: SystemExit(3),
    GeneratorExit,
    asyncio.CancelledError,
    MemoryError,
    lambda: RecursionError("too deep"),
)


class Fault:
    """Raises an error as long as there is one, and counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Callable[[], BaseException] | None = None
        #: How often, and how often before the latest error.
        self.calls = self.before = 0
        #: The jobs that have it, if some have.
        self.jobs: JobSystem | None = None

    def __call__(self, *_: Any, **__: Any) -> Any:
        if self.error is not None:
            self.calls += 1
            raise self.error()
        return None


class Place(NamedTuple):
    """What has the fault in an orchestrator, and is called as something is done."""

    do: Callable[[TaskOrchestrator, Fault], object]
    parts: Callable[[Fault], dict[str, Any]] = lambda _: {}
    #: What is said once, and not for each error.
    begin: Callable[[TaskOrchestrator, Fault], object] = lambda _, __: None


def add(a: int, b: int) -> int:
    return a + b


def fails() -> None:
    raise OSError("the task itself")


def some_work(orch: TaskOrchestrator, _: object = None) -> None:
    """Tasks of some kinds, which may be refused or fail, and what is said of them."""
    if len(orch.agents.list()) == 1:
        worker = orch.agent("worker", capabilities={"work"}, executor="thread")
        worker(lambda task, _: task.payload)
    tasks: tuple[Task[Any], ...] = (
        Task.call(add, 1, 2),
        Task("work", 5, requires=["work"], resources={"cpu": 1}),
        Task.call(fails, retry=RetryPolicy(2, base=0)),
        Task.call(add, 1, 2, cache=True),
    )
    for task in tasks:
        handle = orch.submit_task(task)
        handle.exception(PATIENCE)
        assert str(handle.status)


def sick(name: str, method: str) -> Callable[[Fault], dict[str, Any]]:
    """The standard policy of this *name*, with a *method* that has the fault."""

    def parts(fault: Fault) -> dict[str, Any]:
        base = type(getattr(Policies(), name))
        real = getattr(base, method)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            fault()
            return real(self, *args, **kwargs)

        # That of the standard one may be trusted to be the same each time.
        return {name: type("Sick", (base,), {method: call})()}

    return parts


def methods_of(protocol: type) -> list[str]:
    """What a policy of this protocol must have."""
    return [
        name
        for name, value in vars(protocol).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]


def rule(fault: Fault) -> dict[str, Any]:
    return {"retry_handler": RecoveryHandler(classes=[Rule("logic_error", when=fault)])}


@workflow
def broken(slot: str) -> None:
    del slot
    FAULT[0]()
    Task.call(add, 1, 2, id="a")


#: That of a function which must be at the top of a module.
FAULT: list[Fault] = [Fault()]


def schedules(orch: TaskOrchestrator, fault: Fault) -> None:
    FAULT[0] = fault
    orch.schedules.add("broken", "@yearly", broken)


def alerts(**conditions: Any) -> Callable[[TaskOrchestrator, Fault], None]:
    def begin(orch: TaskOrchestrator, fault: Fault) -> None:
        made = {name: make(fault) for name, make in conditions.items()}
        watch = Alerts(interval=0.02, rules=[])
        watch.rule("mine", **made)
        orch.watch_alerts(watch)

    return begin


def until_called(_: TaskOrchestrator, fault: Fault) -> None:
    eventually(lambda: fault.calls > fault.before)


def acted(orch: TaskOrchestrator, fault: Fault) -> None:
    """It is over before the next one begins, which is another."""
    until_called(orch, fault)
    fault.error = None
    eventually(lambda: part(orch, "alerts").status == "ok")


class Hostile(Extension):
    name = "hostile"

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def check(self) -> str:
        return str(self.fault() or "")

    @verb("Act.", "not", "POST /act")
    def act(self) -> int:
        return int(self.fault() or 0)


class Controller:
    name = "mine"

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def tick(self, _view: Any, _now: float) -> Any:
        self.fault()
        return [], None


class Command(Controller):
    """What a controller has decided, which cannot be done."""

    def tick(self, _view: Any, _now: float) -> Any:
        return [self], None

    def apply(self, _orch: Any, /) -> None:
        self.fault()


def controlled(cls: type) -> Callable[[TaskOrchestrator, Fault], None]:
    """One that fails is asked again after a while: each error has its own."""

    def do(orch: TaskOrchestrator, fault: Fault) -> None:
        orch.drivers.add(cls(fault))
        until_called(orch, fault)
        orch.drivers.remove("mine")

    return do


def processor(fault: Fault) -> dict[str, Any]:
    class Sick(SpanProcessor):
        def on_start(self, *_: Any, **__: Any) -> None:
            fault()

        on_end = on_start

    tracing = TracerProvider()
    tracing.add_span_processor(Sick())
    return {"tracer_provider": tracing}


@contextmanager
def logging_to(fault: Fault) -> Iterator[None]:
    class Sick(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fault()

    handler = Sick()
    log = logging.getLogger("taskorch")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def logged(orch: TaskOrchestrator, fault: Fault) -> None:
    def raises(_: Any) -> None:
        raise ValueError("it is told by the log")

    # That one raises again is only counted.
    raises.__qualname__ = f"raises_{fault.calls}"
    with logging_to(fault):
        orch.signals.task_completed.connect(raises)
        some_work(orch)
        until_called(orch, fault)
        orch.signals.task_completed.disconnect(raises)


#: Of a configuration of jobs; the last is what follows a topic.
DOCUMENT = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
HOOKS = [each.partition("#")[2] for each in JobSystem(DOCUMENT).hooks()]
HOOKS += ["reader", "objective"]


def having_jobs(hook: str) -> Callable[[Fault], dict[str, Any]]:
    def parts(fault: Fault) -> dict[str, Any]:
        jobs = JobSystem(DOCUMENT)

        @jobs.objective("count")
        def count(unit: Any, _job: Any) -> int:
            unit.tell({"done": 1})
            return int(fault() or 1) if hook == "objective" else 1

        if hook == "reader":
            jobs.subscribe("control_plane.job_events", fault)
        elif hook != "objective":
            jobs.hook(hook, fault)
        return {"jobs": jobs}

    return parts


def jobs_done(orch: TaskOrchestrator, fault: Fault) -> None:
    jobs: Any = fault.jobs
    number = len(jobs.all_jobs())
    with suppress(InvalidTaskError):
        jobs.assign_job(body(f"j{number}", reward_signal=0.5))
        with suppress(BaseException):
            jobs.result(f"j{number}", PATIENCE)
    until_called(orch, fault)


async def later(fault: Fault) -> None:
    fault()


def done(orch: TaskOrchestrator, fault: Fault) -> None:
    called = Hold()
    called.release()
    handle: TaskHandle[int] = orch.submit(add, 1, 2)
    handle.add_done_callback(fault)
    handle.add_done_callback(called)
    called.wait()


def submitted(**options: Callable[[Fault], Any]) -> Callable[..., object]:
    """A task with *options* that have the fault."""

    def do(orch: TaskOrchestrator, fault: Fault) -> object:
        made = {name: make(fault) for name, make in options.items()}
        fn = made.pop("fn", add)
        arguments = (1, 2) if fn is add else ()
        return orch.submit_task(Task.call(fn, *arguments, **made)).exception(PATIENCE)

    return do


def joined(orch: TaskOrchestrator, fault: Fault) -> object:
    parent = orch.submit(add, 1, 2)
    return orch.submit_task(
        Task.call(add, 1, 2, after=[parent], join=lambda _: fault() or True)
    ).exception(PATIENCE)


def sourced(orch: TaskOrchestrator, fault: Fault) -> None:
    """It is read on a thread of its own, as somebody asks."""
    while fault.calls == fault.before:
        some_work(orch)


class Refusing(ThreadPoolExecutor):
    """An executor of the user's."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(1)
        self.fault = fault

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.fault()
        return super().submit(*args, **kwargs)


class Source:
    """Capabilities from elsewhere."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def __call__(self) -> dict[str, Any]:
        self.fault()
        return {"worker": ["work"], "local": []}


PLACES: dict[str, Place] = {
    **{
        f"{name}.{method}": Place(some_work, sick(name, method))
        for name, protocol in POLICIES.items()
        for method in methods_of(protocol)
    },
    "a function": Place(submitted(fn=lambda fault: fault)),
    "a coroutine": Place(submitted(fn=lambda fault: partial(later, fault))),
    "a done-callback": Place(done),
    "retry_if_result": Place(
        submitted(retry=lambda fault: RetryPolicy(2, base=0, retry_if_result=fault))
    ),
    "retry_on": Place(
        submitted(
            fn=lambda _: fails,
            retry=lambda fault: RetryPolicy(2, base=0, retry_on=fault),
        )
    ),
    "join": Place(joined),
    "a rule of failures": Place(submitted(fn=lambda _: fails), rule),
    "the key of a handler": Place(
        some_work,
        lambda fault: {"retry_handler": QuotaRetryHandler(key=lambda _: fault() or "")},
    ),
    **{
        f"{name} of tenacity": Place(
            submitted(fn=lambda _: fails),
            lambda fault, name=name: {
                "retry_handler": TenacityRetryHandler(
                    **{"stop": lambda _: False, name: fault}
                )
            },
        )
        for name in ("stop", "wait", "retry")
    },
    "a source of capabilities": Place(
        sourced, lambda fault: {"registry": SourceRegistry(Source(fault), max_age=1e-6)}
    ),
    "the work of a schedule": Place(
        lambda orch, _: orch.schedules.trigger("broken"), begin=schedules
    ),
    "what is done at an alert": Place(
        acted,
        begin=alerts(
            when=lambda fault: lambda _: fault.error is not None,
            action=lambda fault: lambda *_: fault(),
            hold=lambda _: 0,
        ),
    ),
    "an executor": Place(
        submitted(executor=lambda _: "mine"),
        lambda fault: {"executors": {"mine": Refusing(fault)}},
    ),
    "when of an alert": Place(
        until_called, begin=alerts(when=lambda fault: lambda _: bool(fault()))
    ),
    "until of an alert": Place(
        until_called,
        begin=alerts(
            when=lambda _: lambda _: True, until=lambda fault: lambda _: bool(fault())
        ),
    ),
    "a health check of an extension": Place(
        lambda orch, _: orch.health(),
        lambda fault: {"extensions": [Hostile(fault)]},
    ),
    "a health check of a front end": Place(
        lambda orch, _: orch.health(),
        begin=lambda orch, fault: Inside(orch).add_check(fault),
    ),
    "what a front end does again and again": Place(
        lambda *_: None, begin=lambda orch, fault: Inside(orch).repeat(0.01, fault)
    ),
    "a verb of an extension": Place(
        lambda orch, _: bound(orch, "hostile.act")(),
        lambda fault: {"extensions": [Hostile(fault)]},
    ),
    "a controller": Place(controlled(Controller)),
    "a command of a controller": Place(controlled(Command)),
    "a handler of the log": Place(logged),
    **{f"{hook} of jobs": Place(jobs_done, having_jobs(hook)) for hook in HOOKS},
    "a span processor": Place(some_work, processor),
    "every listener": Place(
        some_work,
        begin=lambda orch, fault: [
            getattr(orch.signals, name).connect(fault, weak=False)
            for name in dir(orch.signals)
            if hasattr(getattr(orch.signals, name), "connect")
        ],
    ),
    "listeners that are coroutines": Place(
        some_work,
        begin=lambda orch, fault: [
            getattr(orch.signals, name).connect(lambda _: later(fault), weak=False)
            for name in ("task_submitted", "task_completed", "task_failed")
        ],
    ),
}


@pytest.mark.parametrize(
    "all_kinds",
    [False, pytest.param(True, marks=pytest.mark.slow("errors of all kinds"))],
)
@pytest.mark.parametrize("place", PLACES)
def test_no_error_at_any_place_harms_another_task_or_the_orchestrator(
    place: str, *, all_kinds: bool
) -> None:
    first = [*PLACES].index(place) % 3
    made, fault = PLACES[place], Fault()
    parts = made.parts(fault)
    jobs = parts.pop("jobs", None)
    make = TaskOrchestrator if jobs is None else jobs.orchestrator
    with make(stop_timeout=10, **parts) as orch:
        fault.jobs = jobs
        made.begin(orch, fault)
        for error in ERRORS if all_kinds else ERRORS[first::3]:
            hold, fault.before = Hold(), fault.calls
            beside = orch.submit(hold, "beside")
            hold.wait()
            fault.error = error
            try:
                raised = made.do(orch, fault)
            except BaseException as refusal:
                raised = refusal
            assert not isinstance(raised, InternalError), raised
            until_called(orch, fault)
            fault.error = None
            hold.release()
            assert beside.result(PATIENCE) == "beside", error
            assert orch.submit(add, 1, 2).result(PATIENCE) == 3, error
            assert orch.health().live
            assert "itself failed" not in str(orch.health())


# -- that no place is left out -----------------------------------------------------------

#: Where each function that a public name takes has its place.
TRIED: dict[str, str] = {
    "core.inside.Inside.add_check(check)": "a health check of a front end",
    "core.inside.Inside.repeat(call)": "what a front end does again and again",
    "api._decorators.task(fn)": "a function",
    "api._executor.TaskExecutor.submit(fn)": "a function",
    "core.handles.handles.TaskHandle.add_done_callback(fn)": "a done-callback",
    "core.runs._inside.WorkflowContext.task(fn)": "a function",
    "api._orchestrator.TaskOrchestrator.map(fn)": "a function",
    "api._orchestrator.TaskOrchestrator.submit(fn)": "a function",
    "api._orchestrator.TaskOrchestrator.task(fn)": "a function",
    "ext.jobs._system.JobSystem.hook(function)": "meta_feedback of jobs",
    "ext.jobs._system.JobSystem.subscribe(reader)": "reader of jobs",
    "model._retry_policy.RetryPolicy.__init__(retry_if_result)": "retry_if_result",
    "model._task.Call.__init__(fn)": "a function",
    "model._task.Task.call(fn)": "a function",
    "policies._registry.SourceRegistry.__init__(source)": "a source of capabilities",
    "policies._retry.QuotaRetryHandler.__init__(key)": "the key of a handler",
    "policies._retry.TenacityRetryHandler.__init__(retry)": "retry of tenacity",
    "policies._retry.TenacityRetryHandler.__init__(stop)": "stop of tenacity",
    "policies._retry.TenacityRetryHandler.__init__(wait)": "wait of tenacity",
    "protocols._attempt_executor.Executor.submit(fn)": "an executor",
    "ext.recovery._alerts.AlertRule.of(until)": "until of an alert",
    "ext.recovery._alerts.AlertRule.of(when)": "when of an alert",
    "ext.recovery._alerts.Alerts.rule(until)": "until of an alert",
    "ext.recovery._alerts.Alerts.rule(when)": "when of an alert",
    "ext.recovery._classes.Rule.__init__(when)": "a rule of failures",
    "core.workflows._functions.WorkflowFunction.__init__(fn)": "the work of a schedule",
    "core.workflows._functions.workflow(fn)": "the work of a schedule",
}
#: Modules whose functions are called by who gives them, or for nobody beside them.
APART: dict[str, str] = {
    "ext.command_line.": "a program of its own",
    "ext.client.": "names for functions that are never called there",
    "events.": "what has been kept is read for who asks",
    "core.executors.": "ours, between parts of one executor",
    "ext.hosts.": "ours, between parts of one executor",
    "ext.postgres.": "ours, between a journal and the runtime",
    "ext.mcp.": "ours; names for functions",
    "ext.service.": "names for functions: what they do is a task",
    "ext.suites.": "the caller of `run` is the only one who waits",
    "ext.task_files.": "the program whose workspace it is",
    "ext.governance.": "ours, between the runtime and what governs it",
    "core.journal.": "ours, between a journal and the runtime",
    "kit.": "ours",
    "ext.memo.": "ours: what they do is a task",
    "model._arguments.": "ours",
    "model._question.": "ours: what answers a question",
    "model._missing.": "ours, for what is read of an old journal",
    "ext.planner.": "called for who asks for the plan",
    "protocols._durable_journal.": "ours, between a journal and the runtime",
    "ext.questions.": "ours, between the runtime and what answers",
    "core.engine.": "ours",
    "ext.schedules.": "names for functions",
    "core.signals.": "ours: whether somebody listens",
    "ext.simulation.": "a world in a test",
    "testing.": "a test",
    "core.workflows._building.": "what they do is a task",
    "core.workflows._workflow.": "names for functions",
}
#: The same, of single arguments.
ALSO_APART = {
    "api._orchestrator.TaskOrchestrator.serve(functions)": "names for functions",
    "core.inside.Inside.enter(take)": "ours: it enters what there is",
    "core.inside.Inside.keep_values_by(keeping)": "it needs a journal: test_values_in_stores",
    "core.inside.Inside.patience(is_over)": "ours: whether a front end waits on",
    "ext.remote_workers._runs.Abilities.__init__(functions)": "what they do is a task",
    "ext.jobs._unit.Unit.__init__(heard)": "ours",
    "ext.people.ProxyHeader.__init__(people)": "it fails the request alone",
    "core.kernel._deciders.Deciders.ask_program(ask)": "a part whose answers have a law",
    "model._task.call_of(fn)": "ours",
    "model._task.call_type(fn)": "ours",
    "model._task.task_of_call(fn)": "ours",
    "protocols._driver.AddAgent.__init__(handler)": "what it does is a task",
    "ext.recovery._classes.Rule.holds(text)": "ours",
    "core.runs._inside.AsyncWorkflowContext.task(fn)": "that of WorkflowContext does it",
    **dict.fromkeys(
        (
            "ext.learning._learned.Learned.restore(kept)",
            "ext.learning._learner.Learner.restore(kept)",
            "policies._foreseeing.ForeseeingAllocator.restore(kept)",
            "policies._measured.Measured.restore(kept)",
            "protocols._optional.Learns.restore(kept)",
        ),
        "ours: what has been kept",
    ),
}


#: Modules that users do not import: what is public of them they have elsewhere.
INNER = (
    *("taskorch.core.", "taskorch.ext.controllers", "taskorch.ext.incoming"),
    "taskorch.ext.notices.",
)


def public_modules() -> Iterator[Any]:
    yield taskorch
    for found in walk_packages(taskorch.__path__, "taskorch."):
        is_inner = found.name.startswith(INNER) and found.name != Inside.__module__
        if "._" not in found.name and ".__" not in found.name and not is_inner:
            with suppress(ImportError):
                yield import_module(found.name)


def methods_that_take(cls: type) -> Iterator[Any]:
    """What is defined in *cls* that users call."""
    # Of a frozen class it is written when it is first looked at.
    assert cls.__init__
    for name, value in vars(cls).items():
        method = getattr(value, "__func__", value)
        is_public = not name.startswith("_") or name == "__init__"
        if is_public and inspect.isfunction(method):
            yield method


def taken() -> set[str]:
    """Each argument of a public name that is a function, by where it is defined."""
    values: dict[int, Any] = {}
    for module in public_modules():
        for name in getattr(module, "__all__", dir(module)):
            if not name.startswith("_"):
                with warnings.catch_warnings(action="ignore"):
                    value = getattr(module, name)
                bases = inspect.getmro(value) if inspect.isclass(value) else [value]
                values |= {id(each): each for each in bases}
    found = set()
    for value in values.values():
        if not str(getattr(value, "__module__", "")).startswith("taskorch."):
            continue
        is_class = inspect.isclass(value)
        for function in methods_that_take(value) if is_class else [value]:
            if not inspect.isfunction(function):
                continue
            where = f"{function.__module__}.{function.__qualname__}"
            for name, annotation in function.__annotations__.items():
                if name != "return" and "Callable" in str(annotation):
                    found.add(f"{where.removeprefix('taskorch.')}({name})")
    return found


def test_whatever_public_name_takes_a_function_has_a_place_or_a_reason() -> None:
    """A new one is to be tried above, or nobody stands beside it."""
    found = taken()
    without = {
        each
        for each in found - {*TRIED, *ALSO_APART}
        if not each.startswith(tuple(APART))
    }
    assert not without, "name its place in TRIED, or why it needs none in APART"
    assert {*TRIED.values()} <= {*PLACES}
    assert {*TRIED} <= found, "there is no such argument any more"


def test_all_loggers_of_ours_live_with_what_handlers_raise() -> None:
    """A module takes its own from `taskorch.kit.fence`, or it adds a handler to one."""
    root = Path(taskorch.__file__).parent
    by_hand = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if "logging.getLogger(" in file.read_text(encoding="utf-8")
    }
    assert by_hand == {
        "ext/command_line/__init__.py",
        "ext/command_line/_worker.py",
        "ext/command_line/_terminal.py",
        "core/executors/_processes/_process.py",
        "core/executors/_processes/_telling.py",
        "core/executors/_processes/_worker.py",
        "kit/fence.py",
        "ext/logs/__init__.py",
    }


def test_what_a_handler_raises_is_said_and_so_is_what_was_to_be_logged(
    capfd: Any,
) -> None:
    fault = Fault()
    fault.error = Unforeseen
    with logging_to(fault):
        log_of("taskorch.tried").warning("%s is late", "the train")
    said = capfd.readouterr().err
    assert "Unforeseen" in said
    assert "the train is late" in said
