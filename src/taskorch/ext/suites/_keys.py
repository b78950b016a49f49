"""The names that a configuration may have: a section is a class, a name a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import attrs

from taskorch.core.workflows._phases import OnFailure
from taskorch.ext.budgets._declared import BUDGET, BUDGETS, BudgetEntry
from taskorch.ext.recovery import AlertRule
from taskorch.ext.recovery._handler import FailureHandling, RecoverySection
from taskorch.ext.suites._criteria import Criteria
from taskorch.ext.suites._model import GLUE, Limits, Mode, Monitoring, Template
from taskorch.kit.forms import (
    AMOUNT,
    POLICIES,
    AnyNames,
    DocumentOf,
    Each,
    Either,
    Flag,
    Number,
    OneOf,
    Text,
    field,
    one_of,
)
from taskorch.kit.limits import MAX_SECONDS, PRIORITIES
from taskorch.model.forms import ID, SCOPES

_SOME: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Number(most=MAX_SECONDS)
_TIMEOUT: Final = Number(most=MAX_SECONDS, is_above=True)
_SHARE: Final = Number(most=1)
_PORT: Final = Number(least=1, most=65_535, is_whole=True)
_WORDS: Final = Each(Text(is_any=True), needs="a list of texts")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_USUAL: Final = Limits()


@attrs.frozen
class HeldByTask:
    """
    The resources that a task holds while it runs; each key has several names.

    Attributes:
        memory_mb: MiB.
        cpu_cores: Cores.
        disk_mb: MiB.
        timeout_seconds: Seconds for an attempt.
    """

    memory_mb: float = field(AMOUNT, "mem_mb", "ram_mb")
    cpu_cores: float = field(AMOUNT, "cpu", "cpus", "cores", "num_cpus", "vcpus")
    disk_mb: float = field(Number())
    timeout_seconds: float = field(_TIMEOUT, "timeout")


@attrs.frozen
class ClassAllocation(HeldByTask):
    """
    The resources that tasks of a class hold unless they state others.

    Attributes:
        max_parallel: How many of them run at once.
        budget: The budget that they draw on.
    """

    max_parallel: int | None = field(_SOME)
    budget: str = field(BUDGET)


@attrs.frozen
class Subtask:
    """
    A part of a task: what it does not say is as the task says.

    Attributes:
        id: Its id: one word.
        name: The name for people.
        resources: Its resources while it runs.
        success_criteria: When it counts as a success.
        arguments: The `{arguments}` of its template.
        writes: Paths that it may write; tasks that may write the same do not run
            together.
        budget: The budget that it draws on: it reserves what its `resources` name of
            it.
    """

    id: str = field(ID, is_needed=True)
    name: str = field(Text())
    resources: HeldByTask = field(DocumentOf(HeldByTask, rest=AMOUNT))
    success_criteria: Criteria = field(DocumentOf(Criteria))
    arguments: list[str] = field(_WORDS)
    writes: list[str] = field(SCOPES)
    budget: str = field(BUDGET)


@attrs.frozen
class TaskEntry(Subtask):
    """
    A test task.

    Attributes:
        template: The name of its template.
        dependencies: Tasks that must succeed before.
        subtasks: Parts that run in its place: ids, or what differs.
        priority: Higher runs first.
        role: The name of its worker in messages.
        shards: Parts of its files that pytest runs at once.
    """

    template: str = field(Text())
    dependencies: list[str] = field(Each(ID, needs="a list of ids"))
    subtasks: list[Any] = field(
        Each(Either(ID, DocumentOf(Subtask)), needs="a list of ids")
    )
    priority: str = field(OneOf(PRIORITIES), default="normal")
    role: str = field(Text())
    shards: int = field(Number(least=1, most=999, is_whole=True), default=1)


def _check_class(name: str) -> None:
    if name in GLUE:
        msg = f"{name} is a type of tasks that the suite adds: give it another name"
        raise ValueError(msg)


@attrs.frozen
class AboutSuite:
    """
    The suite as a whole.

    Attributes:
        name: Its name.
        version: Its version.
        log_level: The least level that is shown.
        api_port: The port of the service.
        metrics_port: The port of the service's metrics.
        task_definitions: The tasks, by class: `unit_tests` and the like.
        budget: The budget that all tasks draw on that do not say so themselves.
    """

    name: str = field(Text(), default="suite")
    version: str = field(Text(), default="")
    log_level: str = field(one_of(*_LEVELS), default="INFO")
    api_port: int = field(_PORT, default=8080)
    metrics_port: int = field(_PORT, default=9090)
    task_definitions: Mapping[str, Any] = field(
        AnyNames(
            Each(DocumentOf(TaskEntry), needs="a list of tasks"), check=_check_class
        )
    )
    budget: str = field(BUDGET)


@attrs.frozen
class WorkerLimits:
    """
    Limits of all workers of this process.

    Attributes:
        max_agents: At most.
        total_memory_mb: MiB that all may reserve.
        total_cpu_cores: Cores that all may reserve.
        enforce: Whether a test task is ended that takes more than it has reserved.
        measured: Whether a test task reserves the memory that others of its class have
            used, if that is less than it says.
    """

    max_agents: int | None = field(_SOME)
    total_memory_mb: float = field(AMOUNT)
    total_cpu_cores: float = field(AMOUNT)
    enforce: bool = field(Flag(), default=False)
    measured: bool = field(Flag(), default=False)


@attrs.frozen
class WorkerPoolSection:
    """
    A worker pool that follows the work.

    Attributes:
        min_agents: At least.
        max_agents: At most.
        scale_up_threshold: The load above which it grows.
        scale_down_threshold: The share of the settling time in which a worker must be
            needed.
        settle_seconds: The settling time: seconds before it shrinks.
        agent_timeout: Seconds of silence until a worker elsewhere is lost.
    """

    min_agents: int = field(_SOME, default=1)
    max_agents: int | None = field(_SOME)
    scale_up_threshold: float = field(_SHARE, default=_USUAL.scale_up)
    scale_down_threshold: float = field(_SHARE, default=_USUAL.scale_down)
    settle_seconds: float = field(_SECONDS, default=_USUAL.settle)
    agent_timeout: float | None = field(_TIMEOUT)


@attrs.frozen
class SuitePhaseEntry:
    """
    A phase: the tasks of a class.

    Attributes:
        tests: The class of its tasks.
        mode: How they follow each other.
        timeout_seconds: Seconds for the phase.
        on_failure: The effect of a failure.
    """

    tests: str = field(Text(), is_needed=True)
    mode: Mode = field(one_of(*get_args(Mode)))
    timeout_seconds: float | None = field(_TIMEOUT, "timeout")
    on_failure: OnFailure = field(one_of(*get_args(OnFailure)), default="stop")


@attrs.frozen
class SuiteConfiguration:
    """
    All of a configuration of a suite.

    Attributes:
        orchestrator: The suite as a whole, and its tasks.
        resource_allocation: Usual resources of tasks, by class.
        agent_limits: Limits of all workers of this process.
        failure_handling: The steps after a failure.
        agent_pool: A worker pool that follows the work.
        recovery: The recovery after a failure, by its class.
        monitoring: The measurements and logs.
        alerts: Rules beside the usual five; `"off"` removes one.
        phases: Phases in order, if not the usual ones.
        templates: How tasks are run.
        budgets: The amounts that tasks may spend in a run, by name of a budget.
        policies: Policies that judge the tasks, or files of such.
    """

    orchestrator: AboutSuite = field(DocumentOf(AboutSuite))
    resource_allocation: Mapping[str, ClassAllocation] = field(
        AnyNames(DocumentOf(ClassAllocation, rest=AMOUNT))
    )
    agent_limits: WorkerLimits = field(DocumentOf(WorkerLimits))
    failure_handling: FailureHandling = field(DocumentOf(FailureHandling))
    agent_pool: WorkerPoolSection = field(DocumentOf(WorkerPoolSection))
    recovery: RecoverySection = field(DocumentOf(RecoverySection))
    monitoring: Monitoring = field(DocumentOf(Monitoring))
    alerts: Mapping[str, AlertRule] = field(
        AnyNames(Either(one_of("off"), DocumentOf(AlertRule)))
    )
    phases: Mapping[str, SuitePhaseEntry] = field(AnyNames(DocumentOf(SuitePhaseEntry)))
    templates: Mapping[str, Template] = field(AnyNames(DocumentOf(Template)))
    budgets: Mapping[str, BudgetEntry] = field(BUDGETS)
    policies: list[Any] = field(POLICIES)


#: The form of all of a configuration.
CONFIGURATION: Final = DocumentOf(SuiteConfiguration)
