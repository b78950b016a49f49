"""A suite: what its configuration says, checked, in words of ours."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.ext.governance import Policy
from taskorch.ext.recovery import AlertRule, Row, Rule
from taskorch.ext.suites._criteria import Criteria
from taskorch.kit.forms import AnyNames, Each, Number, Size, Text, may_be
from taskorch.kit.limits import MAX_SECONDS
from taskorch.model import NO_RESOURCES, Resources

#: The id of a run of a suite in its journal.
RUN: Final = "suite"
#: How the tasks of a phase follow each other.
Mode: TypeAlias = Literal["parallel", "sequential_with_parallel_subtasks", "sequential"]
#: Types of the tasks that a suite has besides those that it names.
GLUE: Final = ("gate", "approval", "order", "gather", "shards")
_NO_CRITERIA: Final = Criteria()
_TEXT: Final = Text(is_any=True)
_WORDS: Final = Each(_TEXT, needs="a list of texts")
_ARGV: Final = Each(_TEXT, least=1, needs="a list, a program and its arguments,")
_SECONDS: Final = Number(most=MAX_SECONDS, is_above=True)


@attrs.frozen
class Template:
    """
    How a test task is run.

    If `env` sets more than `PYTEST_…`, each task starts an interpreter of its own,
    since many variables are read only then.

    In a report in JUnit XML (`.xml`), disabled, ignored, suppressed or not run, as
    element, `status` or `result`, means skipped. `flakyFailure` passed, and is flaky.
    Two cases of one name are two tests. Document types are refused in any encoding;
    printed text that looks like one is not. A report in JSON has any of `passed`,
    `failed`, `errors`, `skipped`, `xfailed`, `xpassed`, `not_run`, and the values
    `pass_rate`, `coverage`, `speedup`, `serial_seconds`, `parallel_seconds`,
    `memory_efficiency`.

    Attributes:
        name: The name by which tasks refer to it.
        pytest: The arguments of pytest; or None.
        command: A program and its arguments; or None.
        arguments: The text for `{arguments}`, by the ids of tasks.
        results: The command's report, JUnit XML or JSON; None: its exit code counts.
        coverage: Packages or folders for coverage.
        env: Variables to set.
        cwd: Its folder.
        python: The interpreter for pytest.
    """

    name: str
    pytest: tuple[str, ...] | None = attrs.field(default=None, metadata=may_be(_WORDS))
    command: tuple[str, ...] | None = attrs.field(default=None, metadata=may_be(_ARGV))
    arguments: Mapping[str, tuple[str, ...]] = attrs.field(
        factory=dict, hash=False, metadata=may_be(AnyNames(_WORDS))
    )
    results: str | None = attrs.field(default=None, metadata=may_be(Text()))
    coverage: tuple[str, ...] = attrs.field(default=(), metadata=may_be(_WORDS))
    env: Mapping[str, str] = attrs.field(
        factory=dict, hash=False, metadata=may_be(AnyNames(_TEXT))
    )
    cwd: Path = attrs.field(default=Path(), metadata=may_be(Text()))
    python: str = attrs.field(factory=lambda: sys.executable, metadata=may_be(Text()))


@attrs.frozen
class SuiteTask:
    """
    One test task.

    With shards, its files are balanced by earlier durations, at first by numbers of
    tests. `arguments` may mix files, folders and options. Files without tests go into
    the first part, as their lines may count. Changed files, settings or packages are
    collected again. `pass_rate`, `coverage` and `execution_time_max` judge all parts
    together. All parts may write the same, so shards have no `writes`.

    Attributes:
        id: Its id.
        name: The name for people.
        kind: The class of tests that it belongs to, such as `unit_tests`.
        template: The name of its template; None: none is named.
        dependencies: The ids of the tasks that must have succeeded before.
        resources: Its resources while it runs.
        timeout: Seconds that an attempt may take; None is without limit.
        criteria: When it counts as a success.
        subtasks: The subtasks that run in its place.
        priority: Higher runs first.
        role: The name of its worker in messages.
        arguments: What stands for `{arguments}` of its template; None: the template
            says.
        shards: Parts of its files that pytest runs at once.
        writes: Paths that it may write; None: nothing is said of that.
        budget: The budget that it draws on, by what its resources name of it; or None.
    """

    id: str
    name: str
    kind: str
    template: str | None = None
    dependencies: tuple[str, ...] = ()
    resources: Resources = NO_RESOURCES
    timeout: float | None = None
    criteria: Criteria = _NO_CRITERIA
    subtasks: tuple[SuiteTask, ...] = ()
    priority: int = 0
    role: str = ""
    arguments: tuple[str, ...] | None = None
    shards: int = 1
    writes: tuple[str, ...] | None = None
    budget: str | None = None

    @property
    def run(self) -> tuple[SuiteTask, ...]:
        """Tasks that run for this one: its subtasks, or itself."""
        return self.subtasks or (self,)


@attrs.frozen
class SuitePhase:
    """
    A phase: all tasks of one class.

    A time limit cancels what is left of it. A run that goes on counts the time of
    earlier processes, and not the time between.

    In a sequential phase, a task starts when the one before has ended, however that
    ended.

    Attributes:
        name: The name of the phase.
        kind: The class of its tasks.
        mode: How they follow each other.
        tasks: Its tasks.
        timeout: Seconds for all of it, if the configuration says so; None is without
            limit.
        max_parallel: Tasks at once; None is without limit.
        on_failure: The rule after a failed task: `stop`, `continue` or `skip`.
    """

    name: str
    kind: str
    mode: Mode
    tasks: tuple[SuiteTask, ...] = ()
    timeout: float | None = None
    max_parallel: int | None = None
    on_failure: Literal["stop", "continue", "skip"] = "stop"


@attrs.frozen
class Limits:
    """
    The fleet of workers.

    Together they reserve at most `resources`, or what this machine has (of its disk,
    the free part), or what the largest task needs. Reports and the webhook name use
    above `memory_max`.

    Attributes:
        min_agents: At least.
        max_agents: How many there are at most; None: as many as there are cores.
        resources: The resources that all may reserve together; others are not limited.
        scale_up: The load above which there are to be more of them.
        scale_down: The share of the settling time in which a worker must be needed.
        settle: The settling time: seconds before it shrinks.
        is_pool: Whether there are as many as there is work for, from `min_agents` to
            `max_agents`; else they are all there from the beginning.
        enforce: Whether a test task is ended that takes more than it has reserved.
        measured: Whether a test task reserves the memory that others of its class have
            used, if that is less than it says.
    """

    min_agents: int = 1
    max_agents: int | None = None
    resources: Resources = NO_RESOURCES
    scale_up: float = 0.8
    scale_down: float = 0.3
    settle: float = 300.0
    is_pool: bool = False
    enforce: bool = False
    measured: bool = False


@attrs.frozen
class Retries:
    """
    The steps after a failure; durations are in seconds.

    `tests_again` is the default where `recovery` has `max_retries` and its `matrix` no
    row for `logic_error` or `calculation_error`. Of more than 20 failed tests of a task
    none runs again. A file that pytest writes, by `--junitxml`, is then of the last
    process. A retry runs the test that ended the attempt before, or its process, last:
    those behind it have run then.

    Of several failed tests, the least retryable class counts; a command is classed by
    its exit and its last output.

    A program of `repairs` runs in the folder of the template, with its `env`, within
    the timeout of the attempt; one at a time, in the process of the suite, also for
    workers elsewhere. Each timeout is a cause of its own for the webhook, with the test
    under way or the last line of a command; a phase or run lists its cancelled `tasks`.
    `over_memory` names all tasks that used more memory than was granted, which may have
    passed. A continued run sends what a crash held up, and repeats nothing; a dead
    listener delays the end by ten seconds at most.

    Attributes:
        max_retries: Attempts after the first.
        delay: Seconds before each.
        escalation_threshold: Failures after which messages say that a person is needed.
        grace: The seconds that an attempt has to end when it is asked to.
        tests_again: Whether a failed test of pytest is run once more, alone, before it
            counts.
    """

    max_retries: int = 0
    delay: float = 0.0
    escalation_threshold: int | None = None
    grace: float = 10.0
    tests_again: bool = False


@attrs.frozen
class Monitoring:
    """
    Settings for measurements and logs; durations are in seconds.

    `Suite.without_effect` names the settings without effect.

    Attributes:
        metrics_interval: Seconds between measurements.
        health_check_interval: Seconds between checks of a worker.
        agent_timeout: Without a sign of life, after which a worker is lost that comes
            from elsewhere and does not say itself; None: as the service has it.
        log_rotation_size: Bytes of a log; then a new one begins.
        log_retention_days: Days that an old one stays.
        log_level: From which level on something is told: INFO is all, WARNING what did
            not succeed.
        human_notification_webhook: The webhook for failures that are final.
        webhook_secret_env: The variable that has the secret by which it is signed.
        webhook_may_be_private: Whether it may be private.
        api_port: The port of the service.
        metrics_port: The port of the service's metrics.
    """

    metrics_interval: float = attrs.field(default=10.0, metadata=may_be(_SECONDS))
    health_check_interval: float = attrs.field(default=30.0, metadata=may_be(_SECONDS))
    agent_timeout: float | None = None
    log_rotation_size: int = attrs.field(default=100_000_000, metadata=may_be(Size()))
    log_retention_days: float = attrs.field(
        default=7, metadata=may_be(Number(is_above=True))
    )
    log_level: str = "INFO"
    human_notification_webhook: str | None = None
    webhook_secret_env: str | None = None
    webhook_may_be_private: bool = False
    api_port: int = 8080
    metrics_port: int = 9090


@attrs.frozen
class Suite:
    """
    A suite of tests, as its configuration describes it.

    A run that goes on, also with `failed`, goes on with what was spent of its budgets;
    after a kill, all that tests under way had reserved counts. A new run has all of it
    again.

    Attributes:
        name: Its name.
        version: Its version.
        phases: Its phases, in order.
        templates: How tasks are run, by name.
        limits: The fleet of workers.
        retries: The steps after a failure.
        monitoring: The measurements and logs.
        recovery: Whether what follows a failure depends on what kind it is.
        matrix: The differences from the usual matrix of recovery, by class of failures.
        classes: Rules for the class of a failure, before ours.
        repairs: By class of failure, a program that mends what a task runs in.
        alerts: The rules that differ from the usual five, by name; None of one: it is
            not watched. None: there are no alerts at all.
        missing: The parts that must be added before it can run, with places.
        without_effect: The keys without effect, and why, with places.
        budgets: The amounts that its tasks may spend in a run.
        policies: The policies that judge its tasks.
    """

    name: str = "suite"
    version: str = ""
    phases: tuple[SuitePhase, ...] = ()
    templates: Mapping[str, Template] = attrs.field(factory=dict, hash=False)
    limits: Limits = Limits()
    retries: Retries = Retries()
    monitoring: Monitoring = Monitoring()
    recovery: bool = False
    matrix: Mapping[str, Row] = attrs.field(factory=dict, hash=False)
    classes: tuple[Rule, ...] = ()
    repairs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, hash=False)
    alerts: Mapping[str, AlertRule | None] | None = attrs.field(
        default=None, hash=False
    )
    missing: tuple[tuple[str, str], ...] = ()
    without_effect: tuple[tuple[str, str], ...] = ()
    budgets: DeclaredBudgets = attrs.field(factory=DeclaredBudgets)
    policies: tuple[Policy, ...] = ()

    @property
    def title(self) -> str:
        """Name and version of the suite."""
        return f"{self.name} {self.version}".rstrip()

    @property
    def tasks(self) -> tuple[SuiteTask, ...]:
        """All tasks, in order."""
        return tuple(task for phase in self.phases for task in phase.tasks)


def parts_of(suite: Suite) -> list[SuiteTask]:
    """Return the tasks that run, with subtasks in the place of their task."""
    return [part for task in suite.tasks for part in task.run]


def phases_of(suite: Suite) -> dict[str, SuitePhase]:
    """Return the phase of each task that runs, by its id."""
    return {
        part.id: phase
        for phase in suite.phases
        for task in phase.tasks
        for part in task.run
    }


def template_of(suite: Suite, task: SuiteTask) -> Template | None:
    """The template of a task, if there is one."""
    return suite.templates.get(task.template or "")
