"""Workers, and the templates from which they are spawned."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import (
    check_count,
    check_exact,
    check_fraction,
    check_seconds,
    is_name,
)
from taskorch.kit.frozen import frozen, shown
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.model._program import Program
from taskorch.model._resources import Resources
from taskorch.model._task import NO_RESOURCES, Task


def _as_said(capacity: Resources | None) -> Resources | None:
    """Return the amounts of a capacity, with those of 0."""
    if capacity is not None and not isinstance(capacity, Resources):
        msg = f"capacity: Resources or None, not {capacity!r}"
        raise InvalidTaskError(msg, hint="capacity=Resources(cpu=2)")
    if capacity is None or not capacity.zeros:
        return capacity
    none_of = [(name, 0) for name in capacity.zeros]
    units = tuple(sorted([*capacity.units, *none_of]))
    return Resources.from_units(units, capacity.unit_names)


def _as_asked(request: Resources) -> Resources:
    """Return a request, or refuse one with named units."""
    unchecked: object = request
    # The validator checks values of other types.
    is_named = isinstance(unchecked, Resources) and unchecked.unit_names != ()
    return request.unnamed("request") if is_named else request


@frozen
class Breaker:
    """
    Circuit breaker: when a failing worker gets no more work, and for how long.

    It counts the latest ends of attempts on the worker, and, for one with several
    capabilities, those for each capability. It opens if enough different tasks have
    failed there, most attempts there failed, and most of the other workers do better:
    tasks that fail everywhere are at fault themselves. Once it has been open for its
    time it is half-open: a number of attempts are let through, as probes. If all
    complete, it is closed; if one fails, it is open for twice as long, up to 16 times
    the first duration.

    A task that failed on a worker where most tasks fail waits for another worker.

    Attributes:
        failures: How many different tasks must have failed.
        within: The time in seconds in which they failed.
        open: Seconds until the first probe.
        probes: Attempts at once while it is half-open; all must complete.
        rate: The least share of the ends in that time that are failures, from 0 to 1.
        most_open: The most of the workers (with that capability) that are without work
            because of breakers at once, as a share above 0, to 1. Workers without a
            breaker count, too. Of two or more one always may be; one that is alone with
            what it does is not, unless this is 1.
    """

    failures: int = 5
    within: float = 60.0
    open: float = 30.0
    probes: int = 1
    rate: float = 0.5
    most_open: float = 0.5

    __repr__ = shown


def check_breaker(breaker: Breaker | None) -> Breaker | None:
    """
    Return *breaker* if its values are valid.

    Raises:
        InvalidTaskError: It is no `Breaker`, or a value is out of its range.
    """
    if breaker is None:
        return None
    if not isinstance(breaker, Breaker):
        msg = f"breaker: a Breaker is needed, not {show(breaker)}"
        raise InvalidTaskError(msg, hint="Breaker(failures=5, open=30)")
    check_count("breaker: failures", breaker.failures, least=1)
    check_count("breaker: probes", breaker.probes, least=1)
    check_seconds("breaker: within", breaker.within, zero=False)
    check_seconds("breaker: open", breaker.open, zero=False)
    check_fraction("breaker: rate", breaker.rate)
    check_fraction("breaker: most_open", breaker.most_open)
    if not breaker.most_open:
        msg = "breaker: most_open=0 lets none open, so that it has no effect"
        raise InvalidTaskError(msg, hint="breaker=None, or most_open=0.5")
    return breaker


@frozen
class Agent:
    """
    Description of a worker when it joins.

    The built-in worker `local` runs plain functions and programs.

    Attributes:
        name: Its name.
        capabilities: Its capabilities, sorted.
        max_concurrency: Attempts that it runs at once; None is without limit.
        capacity: Its resources. It bounds only the resources that it names; pools bound
            the others. None names nothing; 0 means that it has none.
        request: The default request of a task on it.
        lease: Seconds without a sign of life after which it counts as lost; None for a
            worker in the process of the orchestrator.
        breaker: Its circuit breaker; None if it always gets work.
        labels: Labels of its machine, such as `platform:linux`, sorted; others are
            unknown.
        host: The name of its machine; "" if unknown.
        LOCAL: The name of the built-in worker.
    """

    LOCAL: ClassVar[str] = "local"

    name: str
    capabilities: tuple[str, ...] = ()
    max_concurrency: int | None = None
    capacity: Resources | None = attrs.field(default=None, converter=_as_said)
    request: Resources = attrs.field(default=NO_RESOURCES, converter=_as_asked)
    lease: float | None = None
    breaker: Breaker | None = None
    labels: tuple[str, ...] = ()
    host: str = ""

    __repr__ = shown


@frozen
class Performance:
    """
    Record of a worker at one type of task: a projection of events.

    Attempts that were cancelled, suspended or lost are not counted.

    Attributes:
        completed: Attempts that completed.
        failed: Attempts that failed.
        latency: Exponentially weighted moving average of the latency of completed
            attempts, in seconds (weight of the newest 0.2), or None before the first.
    """

    completed: int = 0
    failed: int = 0
    latency: float | None = None

    @property
    def success_rate(self) -> float:
        """
        The share of attempts that completed, from 0 to 1.

        By Laplace's rule of succession, (completed + 1) / (attempts + 2): a worker
        without attempts has one half.
        """
        return (self.completed + 1) / (self.completed + self.failed + 2)


#: The types of coding workers, which have templates from the start.
CODING_TYPES: Final = ("code", "test", "review", "document")
#: The kinds of workers: labels for people.
AGENT_KINDS: Final = (*CODING_TYPES, "utility", "hybrid")
#: The highest level of a capability; each level below it is a name of its own.
MAX_LEVEL: Final = 100
_LEVEL: Final = r"[0-9]{1,9}"
#: The keys of labels about the machine of a worker, with the form of their values.
_LABELS: Final = {
    "machine": r"[a-z0-9_.-]{1,100}",
    "platform": r"[a-z]{1,50}[0-9]{0,9}",
    "python": r"[0-9]{1,3}\.[0-9]{1,3}",
}
#: Other words for some of them.
_OTHER_LABELS: Final = {
    **dict.fromkeys(("platform:macos", "platform:mac", "platform:osx"), "darwin"),
    **dict.fromkeys(("platform:win32", "platform:win", "platform:win64"), "windows"),
    **dict.fromkeys(("machine:amd64", "machine:x64", "machine:x86-64"), "x86_64"),
    **dict.fromkeys(("machine:aarch64", "machine:armv8"), "arm64"),
}
#: The form of a capability with a level above the first.
_WITH_LEVEL: Final = r"([^:]+):([2-9]|[1-9][0-9]|100)"

AgentState: TypeAlias = Literal[
    "starting", "idle", "busy", "draining", "quarantined", "lost", "failed"
]


class Capability(str):
    """
    A skill of a worker, with its level: `Capability("test", level=2)`.

    It is the name that a task requires: `Task(…, requires=[Capability("test", 2)])` is
    for workers whose level of it is 2 or higher.

    Args:
        name: The name of the skill.
        level: From 1 to 100; 1 is the name alone.

    Raises:
        InvalidTaskError: The name is invalid, or the level is out of its range.
    """

    __slots__ = ()

    def __new__(cls, name: str, level: int = 1) -> Self:
        """Make the capability of a name and a level."""
        if not is_name(name) or ":" in name:
            msg = f"a capability is a name without a colon, not {show(name)}"
            raise InvalidTaskError(msg)
        _check_level(name, level)
        return super().__new__(cls, name if level == 1 else f"{name}:{level}")

    @property
    def name(self) -> str:
        """Name without the level."""
        return self.partition(":")[0]

    @property
    def level(self) -> int:
        """Level, from 1."""
        return int(self.partition(":")[2] or 1)


def _check_level(name: str, level: object) -> None:
    check_count(f"capability {name}: level", level, least=1)
    if isinstance(level, int) and level > MAX_LEVEL:
        msg = f"capability {name}: level is at most {MAX_LEVEL}, not {level}"
        raise InvalidTaskError(msg)


def level_names(levels: Mapping[str, int]) -> tuple[str, ...]:
    """
    Return the capabilities for *levels*: a name for each level up to the given one.

    Raises:
        InvalidTaskError: A name or a level is invalid.
    """
    names: list[str] = []
    for name, most in levels.items():
        _check_level(name, most)
        names += [str(Capability(name, level)) for level in range(1, most + 1)]
    return tuple(sorted(names))


def is_label(name: str) -> bool:
    """Return whether *name* is a label of a machine, such as `platform:linux`."""
    key, _, value = name.partition(":")
    return key in _LABELS and bool(value) and re.fullmatch(_LEVEL, value) is None


def check_label(name: str) -> str:
    """
    Return *name* if a worker may have it as a label.

    Raises:
        InvalidTaskError: The label is invalid.
    """
    key, _, value = name.partition(":")
    form = _LABELS.get(key)
    right = _OTHER_LABELS.get(name.lower(), value.lower())
    if form is not None and re.fullmatch(form, value) and right == value:
        return name
    if key == "python":
        right = ".".join(value.split(".")[:2])
    msg = f"label {show(name)}: no machine says that of itself"
    hint = "machine:x86_64, platform:linux, python:3.12"
    if form is not None and right != value and re.fullmatch(form, right):
        hint = f"{key}:{right}"
    raise InvalidTaskError(msg, hint=hint)


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """
    Return the *labels* of a worker, sorted, each once.

    Raises:
        InvalidTaskError: One is invalid, or two contradict each other.
    """
    every = tuple(sorted({check_label(each) for each in labels}))
    keys = [label.partition(":")[0] for label in every]
    for key in keys:
        if keys.count(key) > 1:
            both = ", ".join(label for label in every if label.startswith(f"{key}:"))
            msg = f"labels: a machine is of one {key}, and not {both}"
            raise InvalidTaskError(msg)
    return every


def is_able(
    task: Task[Any], capabilities: Collection[str], labels: Collection[str]
) -> bool:
    """
    Return whether a worker with these *capabilities* and *labels* can do *task*.

    It must have the capabilities that the task requires, or the task's type if it
    requires none. Labels only say where a task may run: if a task requires nothing
    else, its worker needs its type as a capability, too. Every worker can run a
    program.
    """
    needs = (task.type,) if task.requires is None else tuple(task.requires)
    others = [need for need in needs if need not in capabilities]
    if not others:
        return True
    return all(need in labels for need in others) and (
        len(others) < len(needs)
        or task.type in capabilities
        or isinstance(task.payload, Program)
    )


def levels_of(names: Any, whole: Collection[str] = ()) -> dict[str, int]:
    """
    Return the levels of capabilities, given as names or as a mapping.

    Args:
        names: The capabilities, as `["test:3", "code"]` or `{"test": 3, "code": 1}`.
        whole: Names that are taken as they are, with a colon or without.

    Raises:
        InvalidTaskError: A name or a level is invalid.
    """
    if isinstance(names, Mapping):
        for name, level in names.items():
            Capability(name, level)
        return dict(names)
    if isinstance(names, str) or not isinstance(names, Iterable):
        msg = f"capabilities are names, or levels by names, not {show(names)}"
        raise InvalidTaskError(msg, hint="capabilities={'test': 3}")
    levels: dict[str, int] = {}
    for each in names:
        text = each if is_text(each) else Capability(each)
        name, colon, level = text.partition(":")
        if text in whole or not colon:
            name, level = text if text in whole else Capability(text), "1"
        elif is_label(text):
            name, level = check_label(text), "1"
        elif not re.fullmatch(_LEVEL, level):
            msg = f"capability {show(text)}: its level is a number from 1 to "
            msg += f"{MAX_LEVEL}, not {show(level)}"
            hint = meant(text, whole, f"'{name}:2' is level 2 of {name}")
            raise InvalidTaskError(msg, hint=hint)
        else:
            Capability(name, int(level))
        levels[str(name)] = max(levels.get(name, 1), int(level))
    return levels


def levels_had(names: Iterable[str]) -> dict[str, int]:
    """
    Return the levels of a worker's capabilities, from their names.

    A worker may join with any names: a name without a level is taken as it is.
    """
    levels: dict[str, int] = {}
    for each in names:
        match = re.fullmatch(_WITH_LEVEL, each)
        name, level = (match[1], int(match[2])) if match else (each, 1)
        levels[name] = max(levels.get(name, 1), level)
    return levels


@lru_cache(maxsize=256)
def _ids(name: str, names: str) -> re.Pattern[str]:
    """Return the pattern of the ids that *names* makes for workers of a template."""
    text, fields = "", []
    try:
        for literal, field, _, _ in Formatter().parse(names):
            text += re.escape(literal)
            if field is not None:
                fields.append(field)
                text += "[0-9]+" if field == "number" else re.escape(name)
        pattern = re.compile(text)
        ids = [names.format(type=name, number=number) for number in (1, 9_999)]
    except (AttributeError, LookupError, ValueError, TypeError):
        fields, ids, pattern = [], [], re.compile("")
    is_fit = sorted({*fields, "type"}) == ["number", "type"]
    if not is_fit or fields.count("number") > 1 or not all(map(pattern.fullmatch, ids)):
        msg = f"template {name!r}: names {show(names)} makes no ids"
        raise InvalidTaskError(msg, hint="names='{type}-{number}'")
    return pattern


@frozen
class AgentTemplate:
    """
    Template of the workers of a type: `orch.agents.template(…)`.

    A bad level, `check:hgih`, is refused, in a task too. Without `names`, the id of a
    worker is its template and a number. A missing command is refused. A program ends
    with its worker, and with the orchestrator, however that ends.

    SIGKILL follows SIGTERM after the grace, at least a second. After `kill -9` of the
    orchestrator, a program ends before the next incarnation starts. A `service` worker
    says its own concurrency and capabilities, and is refused if it lacks those of its
    template; its log has 64 MiB, new for each process. Workers that join by themselves
    may have any names of capabilities, such as `worker:gpu`; a task may require such a
    name once a worker has it.

    Attributes:
        name: The type of worker.
        kind: A label for people: `code`, `test`, `review`, `document`, `utility` or
            `hybrid`. It decides nothing, since tasks require capabilities.
        executor: `auto`, `thread`, `asyncio`, `process` or `program`, as for
            `orch.agent`; `lines`: one program for each worker, which reads tasks and
            writes answers, a line of JSON each; `service`: a command that joins by
            HTTP, such as `taskorch agent`.
        capabilities: Their capabilities, each with its level, from 1.
        affinities: Types of tasks for which they are better than others, each with a
            weight: among workers that match, `match` names the highest first.
        handler: `handler(task, context)`, unless the executor is `lines` or `service`.
        start: The command, for `lines` or `service`; `{id}` in it is the id of the
            worker.
        max_concurrency: Attempts that each runs at once.
        capacity: The capacity of each; None names nothing.
        request: The default request of a task on it.
        breaker: The circuit breaker of each.
        spawn_timeout: Seconds in which a started worker has to join.
        names: The pattern for ids that are not given, with `{type}` and `{number}`,
            such as `agent_{number:03}`.
    """

    name: str
    kind: str = "utility"
    executor: str = "auto"
    capabilities: Mapping[str, int] = attrs.field(factory=dict)
    affinities: Mapping[str, float] = attrs.field(factory=dict)
    handler: Any = None
    start: tuple[str, ...] = ()
    max_concurrency: int | None = 1
    capacity: Resources | None = None
    request: Resources | None = None
    breaker: Breaker | None = attrs.field(factory=Breaker)
    spawn_timeout: float = 30.0
    names: str = "{type}-{number}"

    __repr__ = shown

    def id_of(self, number: int) -> str:
        """Return the id of the worker of this *number*, from 1."""
        return self.names.format(type=self.name, number=number)

    def has_named(self, agent_id: str) -> bool:
        """
        Return whether *agent_id* is an id that the template makes.

        Raises:
            InvalidTaskError: `names` makes no ids.
        """
        return _ids(self.name, self.names).fullmatch(agent_id) is not None

    def agent(self, agent_id: str) -> Agent:
        """Return a worker of this type, with this id, as it joins."""
        return Agent(
            agent_id,
            level_names(self.capabilities),
            self.max_concurrency,
            self.capacity,
            self.request or Resources(),
            breaker=self.breaker,
        )


@frozen
class AgentHealth:
    """
    Health of a worker: `orch.agents.health("agent_007")`.

    Attributes:
        id: Its id.
        status: `idle`, `busy`, `draining`, `quarantined` (a breaker is open, or only
            lets probes through), `lost`, `starting` or `failed`.
        healthy: Whether it gets work.
        reasons: Why it gets no work, or none of some kind.
        heartbeat_age: Seconds since its last sign of life; None for a worker in the
            process of the orchestrator.
        success_rate: The share of its attempts that completed; None before the first.
        latency: The moving average of the latency of completed attempts, in seconds.
        breakers: The state of each breaker that has opened before, by capability; "" is
            for the whole worker.
    """

    id: str
    status: AgentState
    healthy: bool
    reasons: tuple[str, ...] = ()
    heartbeat_age: float | None = None
    success_rate: float | None = None
    latency: float | None = None
    breakers: Mapping[str, str] = attrs.field(factory=dict)


@frozen
class AgentInstance:
    """
    A worker at one instant.

    Attributes:
        id: Its id.
        type: The template that it was spawned from; None if it joined by itself.
        kind: The label of its template.
        capabilities: Its capabilities, each with its level.
        status: The status, as in its health.
        health: Its health.
        allocation: The resources that its attempts hold.
        workload: Number of attempts that it runs.
        slots: The most attempts that it runs at once; None is without limit.
        pid: The process that was started for it, if there is one.
        tasks: The ids of the tasks that it runs, in the order of their submission.
        labels: Labels of its machine: `{"platform": "linux"}`.
        capacity: The most of each resource that one task can have there, by its own
            capacity and by the pools.
        units: The amount held of each of its own named units, by resource.
    """

    id: str
    type: str | None
    kind: str
    capabilities: Mapping[str, int]
    status: AgentState
    health: AgentHealth
    allocation: Resources
    workload: int
    slots: int | None
    pid: int | None = None
    tasks: tuple[str, ...] = ()
    labels: Mapping[str, str] = attrs.field(factory=dict)
    capacity: Resources = NO_RESOURCES
    units: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the document, in the form of requests and plans: see their schemas."""
        health = self.health
        return {
            "id": self.id,
            "type": self.type,
            "kind": self.kind,
            "capabilities": [
                {"name": name, "level": level}
                for name, level in self.capabilities.items()
            ],
            "status": self.status,
            "health": {
                "status": health.status,
                "healthy": health.healthy,
                "reasons": [*health.reasons],
                "heartbeatAge": health.heartbeat_age,
                "successRate": health.success_rate,
                "latency": health.latency,
                "breakers": dict(health.breakers),
            },
            "allocation": {**self.allocation},
            "workload": [{"id": task_id} for task_id in self.tasks],
            "maxConcurrency": self.slots,
            "pid": self.pid,
            "labels": {**self.labels},
            "capacity": {**self.capacity},
            "units": {name: {**units} for name, units in self.units.items()},
        }


@frozen
class AgentMatch:
    """
    Result of a match of a worker: `orch.agents.match(…)`.

    Attributes:
        agent: The worker.
        matches: Whether it has all required capabilities, and gets work.
        reason: Why it has this rank, or why it does not match.
        score: The highest comes first.
    """

    agent: AgentInstance
    matches: bool
    reason: str
    score: float = 0.0


@frozen
class ScalingDecision:
    """
    Decision of a worker pool, with its reason: `orch.agents.explain_scaling()`.

    Attributes:
        at: The time, in seconds since the epoch.
        pool: The name of the pool.
        before: The number of workers before.
        after: The number of workers to have.
        reason: The reason, in words, with the samples behind it.
        load: The share of the slots that are, or would be, in use.
    """

    at: float
    pool: str
    before: int
    after: int
    reason: str
    load: float


def check_capabilities(capabilities: Iterable[str]) -> tuple[str, ...]:
    """
    Return *capabilities*, sorted, each once.

    Raises:
        InvalidTaskError: One is no name.
    """
    if isinstance(capabilities, str) or not isinstance(capabilities, Iterable):
        msg = (
            "capabilities is a collection of names, as in {'code-review'}, not "
            f"{show(capabilities)}"
        )
        raise InvalidTaskError(msg)
    wanted: list[Any] = list(capabilities)
    for capability in wanted:
        if not is_name(capability):
            msg = (
                "a capability is a name that can be printed, without a space at "
                f"either end, not {show(capability)}"
            )
            raise InvalidTaskError(msg)
        check_exact("capabilities", capability, "name each capability by itself")
    return tuple(sorted(set(wanted)))
