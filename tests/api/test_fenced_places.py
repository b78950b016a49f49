"""
Whatever a value of a user's does, what judges, watches or shows it lives.

The laws go over tables: a new option of a task, verb, or route is in them by itself; a
new place where values are seen takes a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.api.tools import PATIENCE
from tests.house.hostile import VALUES, Unforeseen

from taskorch import (
    RetryPolicy,
    Task,
    TaskHandle,
    TaskorchError,
    TaskOrchestrator,
    current_context,
)
from taskorch.api.verbs.table import VERBS, as_json, bound
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule
from taskorch.model import OPTIONS, Cache
from taskorch.policies import ValidatorChain
from taskorch.protocols import Finding, RetryDecision, Verdict

#: Of the values those that stop a step, if one looks at them in it.
GRAVE = ("Unforeseen from all", "a mapping of Unforeseen", "no class", "no __hash__")


# -- what tasks do with a value --------------------------------------------------------


def keep(*values: Any, **named: Any) -> int:
    del values, named
    return 1


def give(name: str) -> Any:
    return VALUES[name]()


async def give_later(name: str) -> Any:
    return VALUES[name]()


def report(name: str) -> int:
    current_context().progress(VALUES[name]())
    return 1


def keep_going(name: str) -> int:
    current_context().checkpoint(VALUES[name]())
    return 1


def fail(name: str) -> None:
    raise ValueError(VALUES[name]())


def note(name: str) -> None:
    error = ValueError("noted")
    error.__notes__ = [VALUES[name]()]
    raise error


def group(name: str) -> None:
    raise BaseExceptionGroup("several", [ValueError(VALUES[name]()), Unforeseen()])


def spend(name: str) -> int:
    current_context().spent(tokens=VALUES[name]())
    return 1


def say(name: str) -> int:
    print(VALUES[name]())
    return 1


def attributes(name: str) -> None:
    error = ValueError("with fields")
    error.args = VALUES[name]()
    raise error


class Telling(Exception):
    """An error whose own text is a value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> Any:
        return VALUES[self.name]()

    __repr__ = __str__


def tell(name: str) -> None:
    raise Telling(name)


# -- parts of a program that answer with a value ---------------------------------------


class Part:
    """A validator, or what decides of retries, that gives the value of a task."""

    def __init__(self, about: str) -> None:
        self.about = about

    def validate(self, task: Task[Any], context: Any) -> Any:
        del context
        metadata = task.metadata or {}
        if "name" not in metadata:
            return Verdict()
        value = VALUES[metadata["name"]]()
        if self.about == "verdict":
            return value
        if self.about == "path":
            return Verdict((Finding(value, "x"),))
        return Verdict((Finding("x", value),))

    def decide(self, failure: Any, context: Any) -> Any:
        del context
        value = VALUES[failure.task.metadata["name"]]()
        if self.about == "decision":
            return value
        if self.about == "delay":
            return RetryDecision(retry=True, delay=value)
        return RetryDecision(retry=False, reason=value)


class Place(NamedTuple):
    """How the value of a name comes to a place, and the parts that are there."""

    do: Callable[[TaskOrchestrator, str], Any]
    parts: Callable[[], dict[str, Any]] = dict


def by(
    fn: Callable[..., Any], **options: Any
) -> Callable[[TaskOrchestrator, str], Any]:
    """A task that calls *fn* with the name of the value."""
    return lambda orch, name: orch.submit_task(Task.call(fn, name, **options))


def named(fn: Callable[..., Any]) -> Callable[[TaskOrchestrator, str], Any]:
    return lambda orch, name: orch.submit_task(
        Task.call(fn, name, metadata={"name": name})
    )


def given(**options: Callable[[Any], Any]) -> Callable[[TaskOrchestrator, str], Any]:
    """A task whose options are made of the value."""
    return lambda orch, name: orch.submit_task(
        Task.call(keep, **{each: make(give(name)) for each, make in options.items()})
    )


def masking() -> dict[str, Any]:
    rule = Rule("r", "task.payload.args[0].x", "equals", "masked")
    change = {"payload.args[0].x": "masked"}
    policies = [Policy("p", "s", "low", rules=[rule], change=change, types="keep")]
    return {"governance": ConstitutionalRuntime(policies)}


def traced() -> dict[str, Any]:
    spans, readers = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    return {
        "tracer_provider": tracing,
        "meter_provider": MeterProvider(metric_readers=[readers]),
    }


def with_receivers(orch: TaskOrchestrator, name: str) -> Any:
    """A task that fails by the value, where all who hear of it fail, too."""
    if name == GRAVE[0]:

        def raises(told: Any) -> None:
            assert repr(told)
            raise Unforeseen

        for signal in (orch.signals.task_submitted, orch.signals.task_failed):
            signal.connect(raises, weak=False)
        orch.notify(raises)
    return by(fail)(orch, name)


def waive(orch: TaskOrchestrator, name: str) -> None:
    """Ask for a waiver for the reason that the value is."""
    for words in ({"reason": give(name)}, {"requested_by": give(name)}):
        more = {"reason": "x", "requested_by": "ada", "expires": 60, **words}
        bound(orch, "governance.request_waiver")(policy_id="p", pattern="t", **more)


PLACES: dict[str, Place] = {
    "spans and metrics of a result": Place(by(give), traced),
    "spans and metrics of an error": Place(by(tell), traced),
    "receivers that fail": Place(with_receivers),
    "reason of a waiver": Place(waive, masking),
    "result of a worker process": Place(by(give, executor="process")),
    "error of a worker process": Place(by(fail, executor="process")),
    "argument": Place(lambda orch, name: orch.submit(keep, give(name))),
    "argument by name": Place(lambda orch, name: orch.submit(keep, x=give(name))),
    "arguments by name": Place(given(kwargs=lambda value: value)),
    "metadata": Place(given(metadata=lambda value: {"x": value})),
    "all metadata": Place(given(metadata=lambda value: value)),
    "result": Place(by(give)),
    "result of a coroutine": Place(by(give_later)),
    "result of another": Place(
        lambda orch, name: orch.submit(keep, by(give)(orch, name))
    ),
    "result that may be retried": Place(
        by(give, retry=RetryPolicy(retry_if_result=lambda it: it == 5))
    ),
    "progress": Place(by(report)),
    "checkpoint": Place(by(keep_going)),
    "message of an error": Place(by(fail)),
    "reason": Place(
        lambda orch, name: orch.cancel_task(
            orch.submit(keep).task_id, reason=give(name)
        )
    ),
    "id of a task in a verb": Place(lambda orch, name: orch.cancel_task(give(name))),
    "estimates of an explanation": Place(
        lambda orch, name: orch.explain(orch.submit(keep).task_id, estimates=give(name))
    ),
    "cached result": Place(by(give, cache=True)),
    "argument of a cached call": Place(
        lambda orch, name: orch.submit_task(Task.call(keep, give(name), cache=True))
    ),
    "key of a cache": Place(
        lambda orch, name: orch.submit_task(
            Task.call(keep, 1, cache=Cache(key=give(name)))
        )
    ),
    "argument that is masked": Place(
        lambda orch, name: orch.submit(keep, {"x": give(name)}), masking
    ),
    "text of an error": Place(by(tell)),
    "arguments of an error": Place(by(attributes)),
    "note on an error": Place(by(note)),
    "group of errors": Place(by(group)),
    "text of an error that is retried": Place(by(tell, retry=RetryPolicy(2, base=0))),
    "what an attempt spent": Place(by(spend)),
    "what a task prints": Place(by(say)),
    "what says whether a result is worth a retry": Place(
        lambda orch, name: orch.submit_task(
            Task.call(
                keep, retry=RetryPolicy(2, base=0, retry_if_result=lambda _: give(name))
            )
        )
    ),
    "what says whether an error is worth a retry": Place(
        lambda orch, name: orch.submit_task(
            Task.call(
                fail, "NaN", retry=RetryPolicy(2, base=0, retry_on=lambda _: give(name))
            )
        )
    ),
    "what says whether parents suffice": Place(
        lambda orch, name: orch.submit_task(
            Task.call(keep, after=[orch.submit(keep)], join=lambda _: give(name))
        )
    ),
    "details of a question": Place(
        lambda orch, name: (
            orch.submit_task(Task.question("Go?", details={"x": give(name)})) and None
        )
    ),
    "reward": Place(
        lambda orch, name: orch.reward_task(orch.submit(keep).task_id, give(name))
    ),
    "source of a reward": Place(
        lambda orch, name: orch.reward_task(
            orch.submit(keep).task_id, 1, source=give(name)
        )
    ),
    "event": Place(lambda orch, name: orch.emit("e", give(name))),
    "verdict": Place(named(keep), lambda: {"validator": Part("verdict")}),
    "path of a finding": Place(named(keep), lambda: {"validator": Part("path")}),
    "text of a finding": Place(
        named(keep), lambda: {"validator": ValidatorChain(Part("message"))}
    ),
    **{
        f"{about} of a retry": Place(
            lambda orch, name: orch.submit_task(
                Task.call(fail, "NaN", metadata={"name": name})
            ),
            lambda about=about: {"retry_handler": Part(about)},
        )
        for about in ("decision", "delay", "reason")
    },
}


def told_of(error: BaseException, name: str) -> None:
    """A fault of a value's is none of ours, and nothing waits for ever."""
    kind = type(error).__name__
    ours = ("InternalError", "TimeoutError", "AttributeError", "NameError")
    assert kind not in ours, (name, error)


def lives(orch: TaskOrchestrator) -> None:
    """It does what is asked of it, and says what was wrong."""
    assert orch.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    health = orch.health()
    assert health.status in ("ok", "degraded"), str(health)
    assert health.live


def read(orch: TaskOrchestrator) -> None:
    """All that is told of tasks can be read, and sent."""
    for one in orch.tasks():
        explained = orch.explain(one.task_id)
        said = one.to_dict(), explained.to_dict()
        assert json.dumps(said, allow_nan=False)
        assert str(one)
        assert repr(one)
        assert str(explained)
        assert isinstance(orch.log(one.task_id).text, str)
    for call in (
        "failures",
        "stuck",
        "questions",
        "escalations",
        "get_stats",
        "health",
    ):
        told = getattr(orch, call)()
        assert str(told)
        assert json.dumps(as_json(told), allow_nan=False)
    assert json.dumps(orch.metrics())


def test_nothing_is_found_by_what_cannot_be_compared() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(keep, metadata={"x": 1})).result(PATIENCE)
        for name, make in VALUES.items():
            assert not [*orch.tasks(metadata={"x": make()})], name


#: Into how many parts the others are divided: each place has one of these.
PARTS = 4


@pytest.mark.parametrize(
    "all_values",
    [False, pytest.param(True, marks=pytest.mark.slow("all values at each place"))],
)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=pytest.mark.slow("a process of its own"))
        if "process" in place
        else place
        for place in PLACES
    ],
)
def test_no_value_at_any_place_ends_the_orchestrator_or_its_next_incarnation(
    place: str, tmp_path: Path, *, all_values: bool
) -> None:
    do, parts = PLACES[place]
    mine = [*PLACES].index(place) % PARTS
    others = [name for name in VALUES if name not in GRAVE]
    names = [*GRAVE, *(others if all_values else others[mine::PARTS])]
    for _ in range(2):
        with TaskOrchestrator(journal=tmp_path / "runs.db", **parts()) as orch:
            begun: dict[str, Any] = {}
            for name in names:
                try:
                    begun[name] = do(orch, name)
                except BaseException as error:
                    told_of(error, name)
            for name, handle in begun.items():
                if isinstance(handle, TaskHandle):
                    error = handle.exception(PATIENCE)
                    if error is not None:
                        told_of(error, name)
            lives(orch)
            read(orch)
            orch.stop(drain=False)


# -- options of tasks ------------------------------------------------------------------

#: How a value stands in an option.
WRAPS: tuple[Callable[[Any], Any], ...] = (
    lambda value: value,
    lambda value: [value],
    lambda value: {"x": value},
)


@pytest.mark.parametrize("option", [*OPTIONS, "payload"])
def test_an_option_of_any_value_is_taken_or_refused_by_its_name(option: str) -> None:
    taken = 0
    with TaskOrchestrator(unknown_capability="wait") as orch:
        for name, make in VALUES.items():
            for wrap in WRAPS:
                fields: dict[str, Any] = {option: wrap(make())}
                try:
                    if option in ("type", "payload"):
                        task = Task(**{"type": "x", **fields})
                    else:
                        task = Task.call(keep, **fields)
                    orch.submit_task(task)
                except MemoryError:
                    # A MemoryError may be the machine's, so it is told as it is.
                    continue
                except (TaskorchError, TypeError) as error:
                    said = str(error)
                else:
                    taken += 1
                    continue
                # A resource, an attempt and what it comes after are named instead.
                words = (option, "resource '", "max_attempts", " needs ")
                assert any(word in said for word in words), (name, said)
                assert "the validator failed" not in said, name
        assert len([*orch.tasks()]) == taken
        lives(orch)
        read(orch)
        orch.stop(drain=False)


# -- arguments of verbs ----------------------------------------------------------------

#: Arguments with which a verb comes as far as it can.
SAID: dict[str, Any] = {
    "verdict": "fail",
    "action": "cancel",
    "requirements": ["x"],
    "expires": 60,
    "resources": {"cpu": 1},
    "totals": {"tokens": 1},
    "task_id": "t",
    **dict.fromkeys(("value", "threshold"), 0.5),
    **dict.fromkeys(("since", "until", "priority"), 1),
}
#: Verbs that wait, or are given whole workflows.
LEFT = ("wait", "simulate", "notify", "prune", "doctor", "workflows.start")


def test_no_argument_of_a_verb_ends_the_orchestrator() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(keep, id="t")).result(PATIENCE)
        for call, verb in VERBS.items():
            if call in LEFT:
                continue
            needed = {each.name for each in verb.arguments if each.is_needed}
            for each in verb.arguments:
                for name in GRAVE:
                    said = {one: SAID.get(one, "x") for one in needed - {each.name}}
                    try:
                        if each.is_many:
                            bound(orch, call)(give(name))
                        else:
                            bound(orch, call)(**said, **{each.name: give(name)})
                    except BaseException as error:
                        told_of(error, f"{call}({each.name})")
                    assert orch.health().live, (call, each.name, name)
        orch.stop(drain=False)
