"""The names that a configuration may have: a section is a class, a name a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import attrs

from taskorch._base._limits import MAX_SECONDS, PRIORITIES
from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._model import Limits, Mode, Monitoring, Template
from taskorch.recovery import AlertRule
from taskorch.recovery._handler import FailureHandling, RecoverySection
from taskorch.workflows._forms import (
    ID,
    Each,
    Either,
    Entry,
    Named,
    Number,
    OneOf,
    Text,
    may_be,
    one_of,
)
from taskorch.workflows._phases import OnFailure

_SOME: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Number(most=MAX_SECONDS)
_TIMEOUT: Final = Number(most=MAX_SECONDS, is_above=True)
_SHARE: Final = Number(most=1)
_PORT: Final = Number(least=1, most=65_535, is_whole=True)
_AMOUNT: Final = Number(is_above=True)
_WORDS: Final = Each(Text(is_any=True), needs="a list of texts")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_USUAL: Final = Limits()


@attrs.frozen
class Held:
    """
    What a task holds while it runs.

    Attributes:
        memory_mb: MiB of memory.
        cpu_cores: Cores.
        disk_mb: MiB of the disk.
        timeout_seconds: Seconds that an attempt may take.
    """

    memory_mb: float = attrs.field(
        default=None, metadata=may_be(_AMOUNT, "mem_mb", "ram_mb")
    )
    cpu_cores: float = attrs.field(
        default=None,
        metadata=may_be(_AMOUNT, "cpu", "cpus", "cores", "num_cpus", "vcpus"),
    )
    disk_mb: float = attrs.field(default=None, metadata=may_be(Number()))
    timeout_seconds: float = attrs.field(
        default=None, metadata=may_be(_TIMEOUT, "timeout")
    )


@attrs.frozen
class Allocation(Held):
    """
    What tasks of a class hold that do not say so themselves.

    Attributes:
        max_parallel: How many of them run at once.
    """

    max_parallel: int | None = attrs.field(default=None, metadata=may_be(_SOME))


@attrs.frozen
class Subtask:
    """
    A part of a task: what it does not say is as the task says.

    Attributes:
        id: Its id: one word.
        name: What people call it.
        resources: What it holds while it runs.
        success_criteria: What must hold for it to have succeeded.
        arguments: What stands for `{arguments}` of its template.
    """

    id: str = attrs.field(metadata=may_be(ID))
    name: str = attrs.field(default=None, metadata=may_be(Text()))
    resources: Held = attrs.field(default=None, metadata=may_be(Entry(Held)))
    success_criteria: Criteria = attrs.field(
        default=None, metadata=may_be(Entry(Criteria))
    )
    arguments: list[str] = attrs.field(default=None, metadata=may_be(_WORDS))


@attrs.frozen
class TaskEntry(Subtask):
    """
    A test task.

    Attributes:
        template: The name of its template.
        dependencies: Ids of the tasks that must have succeeded before.
        subtasks: What is run in its place: ids, or parts that say what differs.
        priority: Higher runs first.
        role: What its agent is called in messages.
        shards: In how many parts its files are run at once, if pytest runs them.
    """

    template: str = attrs.field(default=None, metadata=may_be(Text()))
    dependencies: list[str] = attrs.field(
        factory=list, metadata=may_be(Each(ID, needs="a list of ids"))
    )
    subtasks: list[Any] = attrs.field(
        factory=list,
        metadata=may_be(Each(Either(ID, Entry(Subtask)), needs="a list of ids")),
    )
    priority: str = attrs.field(default="normal", metadata=may_be(OneOf(PRIORITIES)))
    role: str = attrs.field(default=None, metadata=may_be(Text()))
    shards: int = attrs.field(
        default=1, metadata=may_be(Number(least=1, most=999, is_whole=True))
    )


@attrs.frozen
class About:
    """
    The suite as a whole.

    Attributes:
        name: Its name.
        version: Its version.
        log_level: From which level on something is told while it runs.
        api_port: Of the service.
        metrics_port: Of its metrics.
        task_definitions: The tasks, by their class: `unit_tests` and the like.
    """

    name: str = attrs.field(default="suite", metadata=may_be(Text()))
    version: str = attrs.field(default="", metadata=may_be(Text()))
    log_level: str = attrs.field(default="INFO", metadata=may_be(one_of(*_LEVELS)))
    api_port: int = attrs.field(default=8080, metadata=may_be(_PORT))
    metrics_port: int = attrs.field(default=9090, metadata=may_be(_PORT))
    task_definitions: Mapping[str, Any] = attrs.field(
        factory=dict,
        metadata=may_be(Named(Each(Entry(TaskEntry), needs="a list of tasks"))),
    )


@attrs.frozen
class AgentLimits:
    """
    What all agents of this process may be, and hold.

    Attributes:
        max_agents: How many there are at the most.
        total_memory_mb: MiB that all may reserve.
        total_cpu_cores: Cores that all may reserve.
    """

    max_agents: int | None = attrs.field(default=None, metadata=may_be(_SOME))
    total_memory_mb: float = attrs.field(default=None, metadata=may_be(_AMOUNT))
    total_cpu_cores: float = attrs.field(default=None, metadata=may_be(_AMOUNT))


@attrs.frozen
class AgentPool:
    """
    As many agents as there is work for.

    Attributes:
        min_agents: How many there are at least.
        max_agents: How many there are at the most.
        scale_up_threshold: The load above which there are to be more.
        scale_down_threshold: The share of the settling time in which one has to be
            needed.
        settle_seconds: Seconds that are looked back at before there are fewer.
        agent_timeout: Seconds of silence after which an agent from elsewhere is lost.
    """

    min_agents: int = attrs.field(default=1, metadata=may_be(_SOME))
    max_agents: int | None = attrs.field(default=None, metadata=may_be(_SOME))
    scale_up_threshold: float = attrs.field(
        default=_USUAL.scale_up, metadata=may_be(_SHARE)
    )
    scale_down_threshold: float = attrs.field(
        default=_USUAL.scale_down, metadata=may_be(_SHARE)
    )
    settle_seconds: float = attrs.field(
        default=_USUAL.settle, metadata=may_be(_SECONDS)
    )
    agent_timeout: float | None = attrs.field(default=None, metadata=may_be(_TIMEOUT))


@attrs.frozen
class PhaseEntry:
    """
    A phase: the tasks of a class.

    Attributes:
        tests: The class of its tasks.
        mode: How they follow each other.
        timeout_seconds: Seconds for all of it.
        on_failure: What follows if one fails.
    """

    tests: str = attrs.field(metadata=may_be(Text()))
    mode: Mode = attrs.field(default=None, metadata=may_be(one_of(*get_args(Mode))))
    timeout_seconds: float | None = attrs.field(
        default=None, metadata=may_be(_TIMEOUT, "timeout")
    )
    on_failure: OnFailure = attrs.field(
        default="stop", metadata=may_be(one_of(*get_args(OnFailure)))
    )


@attrs.frozen
class Configuration:
    """
    All of a configuration of a suite.

    Attributes:
        orchestrator: The suite as a whole, and its tasks.
        resource_allocation: What tasks hold that do not say so, by their class.
        agent_limits: What all agents of this process may be, and hold.
        failure_handling: What follows a failure.
        agent_pool: As many agents as there is work for.
        recovery: What follows a failure, by what kind it is.
        monitoring: What is measured and kept.
        alerts: Rules that are watched beside the usual four; `"off"` leaves one out.
        phases: Phases, in order, where they are not as usual.
        templates: How tasks are run.
    """

    orchestrator: About = attrs.field(default=None, metadata=may_be(Entry(About)))
    resource_allocation: Mapping[str, Allocation] = attrs.field(
        default=None, metadata=may_be(Named(Entry(Allocation)))
    )
    agent_limits: AgentLimits = attrs.field(
        default=None, metadata=may_be(Entry(AgentLimits))
    )
    failure_handling: FailureHandling = attrs.field(
        default=None, metadata=may_be(Entry(FailureHandling))
    )
    agent_pool: AgentPool = attrs.field(default=None, metadata=may_be(Entry(AgentPool)))
    recovery: RecoverySection = attrs.field(
        default=None, metadata=may_be(Entry(RecoverySection))
    )
    monitoring: Monitoring = attrs.field(
        default=None, metadata=may_be(Entry(Monitoring))
    )
    alerts: Mapping[str, AlertRule] = attrs.field(
        default=None, metadata=may_be(Named(Either(one_of("off"), Entry(AlertRule))))
    )
    phases: Mapping[str, PhaseEntry] = attrs.field(
        default=None, metadata=may_be(Named(Entry(PhaseEntry)))
    )
    templates: Mapping[str, Template] = attrs.field(
        default=None, metadata=may_be(Named(Entry(Template)))
    )


#: The form of all of a configuration.
CONFIGURATION: Final = Entry(Configuration)
