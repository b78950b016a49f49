"""
`workspace.yaml`: what holds for a whole workspace. All of it is optional.

And worker programs: what is run for a task, and by which name it goes.
"""

from __future__ import annotations

import re
import shlex
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.budgets._declared import BUDGET, BUDGETS, BudgetEntry, DeclaredBudgets
from taskorch.ext.coding._coding import RUNNERS
from taskorch.ext.task_files._fields import (
    COUNT,
    LINE,
    LINES,
    WORD,
    CommandLine,
    Duration,
    Paths,
    Problem,
    problems_of,
    read_fields,
)
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.kit.forms import (
    POLICIES,
    AnyNames,
    DocumentOf,
    Each,
    FaultList,
    Flag,
    Number,
    ReadMapping,
    Text,
    field,
    may_be,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import nearest
from taskorch.model import Enforce
from taskorch.model.ids import has_segments, id_problem

if TYPE_CHECKING:
    # Few workspaces have policies: only these load the code that judges.
    from taskorch.ext.governance import (  # noqa: TC004
        ConstitutionalRuntime,
        Policy,
    )


@attrs.frozen
class AgentProgram:
    """
    A program that does tasks.

    Attributes:
        name: Its name; its slots are `name-1`, `name-2` and so on.
        args: The program and its arguments; `{task_file}`, `{task_id}` and `{outputs}`
            stand for the file of the task, its id, and the folder for what it makes.
        stdin: Whether it reads the Markdown of the task file from its standard input.
        capabilities: Its capabilities.
        limit: At once; None is without limit.
    """

    name: str
    args: tuple[str, ...] = attrs.field(
        metadata=may_be(CommandLine(), name="command", is_needed=False)
    )
    stdin: bool = attrs.field(default=False, metadata=may_be(Flag()))
    capabilities: tuple[str, ...] = attrs.field(default=(), metadata=may_be(LINES))
    limit: int | None = attrs.field(default=None, metadata=may_be(COUNT))


DEFAULT_AGENT: Final = AgentProgram("agent", ("agent", "run", "{task_file}"))

#: Commands that run known coding agents without a person.
PRESETS: Final[Mapping[str, AgentProgram]] = {
    agent.name: agent
    for agent in (
        DEFAULT_AGENT,
        *(AgentProgram(one.name, one.args, one.stdin) for one in RUNNERS.values()),
    )
}


def agent_program(command: str, agents: Mapping[str, AgentProgram]) -> AgentProgram:
    """
    The worker that *command* means: one of *agents*, a preset, or a command line.

    Its name is that of none of *agents*, unless it is that one.

    Raises:
        InvalidTaskError: It is none of these.
    """
    for programs in (agents, PRESETS):
        if command in programs:
            return programs[command]
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        msg = f"the agent {command!r} cannot be split as a shell does: {error}"
        raise InvalidTaskError(msg) from error
    if not words or not words[0]:
        presets = ", ".join(PRESETS)
        msg = "the program of the agent is missing"
        hint = f"a command line such as 'agent run {{task_file}}', or one of {presets}"
        raise InvalidTaskError(msg, hint=hint)
    name = DEFAULT_AGENT.name
    while name in agents:
        name = f"default-{name}"
    return AgentProgram(name, words)


FILE: Final = "workspace.yaml"
_HOUR: Final = 3600.0
_MAX_BYTES: Final = 1 << 18
#: Prefix that gives a phase its place: `01-` of `01-analysis`.
_NUMBER: Final = re.compile(r"[0-9]+[-_.]")


@attrs.frozen
class PhaseRule:
    """
    The rules for the tasks of a phase.

    Attributes:
        limit: Tasks at once; None is without limit.
        timeout: Seconds for a task; None is for ever.
        gate: Files that must exist before the next phase.
        approval: Whether it needs an approval.
        budget: The budget that its tasks draw on that do not say so themselves.
    """

    limit: int | None = attrs.field(default=None, metadata=may_be(COUNT))
    timeout: float | None = attrs.field(default=None, metadata=may_be(Duration()))
    gate: tuple[str, ...] = attrs.field(
        default=(), metadata=may_be(Paths("a gate is in the folder of the workspace"))
    )
    approval: bool = attrs.field(default=False, metadata=may_be(Flag()))
    budget: str | None = attrs.field(default=None, metadata=may_be(BUDGET))


#: Rules of the phases that the protocol names.
PHASES: Final[Mapping[str, PhaseRule]] = {
    "analysis": PhaseRule(6, 8 * _HOUR),
    "planning": PhaseRule(3, 6 * _HOUR),
    "implementation": PhaseRule(10, 12 * _HOUR),
    "validation": PhaseRule(2, 4 * _HOUR),
    "optimization": PhaseRule(5, 20 * _HOUR),
}


@attrs.frozen
class Folders:
    """
    Where its files are.

    Attributes:
        tasks: The folder of task files.
        workspace: The folder for status, outputs, logs and pids.
    """

    tasks: str = field(WORD, default="tasks")
    workspace: str = field(WORD, default="workspace")


@attrs.frozen
class LimitsEntry:
    """
    Limits of tasks.

    Attributes:
        max_concurrent_agents: Tasks at once.
        max_cpu_per_agent: Cores of a task.
        max_memory_gb: GiB of a task.
        enforce: Whether a program is held to the amounts of its task, and of what that
            does not say, to these limits; or only if possible.
        measured: Whether programs share the memory of this machine, and each reserves
            what others of its worker have used, if that is less than its task says.
    """

    max_concurrent_agents: int = field(COUNT, default=10)
    max_cpu_per_agent: float = field(Number(), default=4.0)
    max_memory_gb: float = field(Number(), default=8.0)
    enforce: Enforce = field(Flag("if possible"), default=False)
    measured: bool = field(Flag(), default=False)

    @property
    def max_memory_mb(self) -> float:
        """The most memory of a task, in MiB."""
        return 1024 * self.max_memory_gb


@attrs.frozen
class WorkspaceConfig:
    """
    The configuration of a workspace.

    Attributes:
        title: For the dashboard.
        folders: Where its files are.
        agent: The agent of a task that names none.
        agents: More workers, by name.
        phases: Rules by the name of a phase, with or without its number.
        limits: Limits of tasks.
        grace: Seconds between asking a program to end and killing it.
        budgets: The amounts that tasks may spend.
        budget: The budget of tasks that name none, in phases that name none.
        policies: The policies of the workspace.
        governance: What judges by these and by the setting of that name; None: nothing
            does.
        repairs: By class of failure, a program that mends what a task runs in.
    """

    title: str = ""
    folders: Folders = Folders()
    agent: AgentProgram = DEFAULT_AGENT
    agents: Mapping[str, AgentProgram] = attrs.field(factory=dict[str, AgentProgram])
    phases: Mapping[str, PhaseRule] = PHASES
    limits: LimitsEntry = LimitsEntry()
    grace: float = 10.0
    budgets: DeclaredBudgets = attrs.field(factory=DeclaredBudgets)
    budget: str | None = None
    policies: tuple[Policy, ...] = ()
    governance: ConstitutionalRuntime | None = attrs.field(default=None, eq=False)
    repairs: Mapping[str, list[str]] = attrs.field(factory=dict[str, list[str]])

    @property
    def programs(self) -> dict[str, AgentProgram]:
        """All workers by their names: `agent` first, which may be one of the others."""
        first = {self.agent.name: self.agent}
        return first | {**self.agents} | first

    def rule(self, phase: str) -> tuple[str, PhaseRule]:
        """Return the key under which the rule of a phase stands, and the rule."""
        key = _NUMBER.sub("", phase, count=1)
        for name in (phase, key):
            if name in self.phases:
                return name, self.phases[name]
        return key, PhaseRule()

    def timeout_of(self, task: TaskFile) -> float | None:
        """Seconds that a task may take: its own, or those of its phase."""
        if task.timeout is not None:
            return task.timeout
        return self.rule(task.phase)[1].timeout

    def budget_of(self, task: TaskFile) -> str | None:
        """The budget that a task draws on: its own, or that of its phase, or of all."""
        return task.budget or self.rule(task.phase)[1].budget or self.budget


def _check_class(name: str) -> None:
    # Few documents name classes of failures: only these load their names.
    from taskorch.ext.recovery import class_of  # noqa: PLC0415

    class_of(name)


@attrs.frozen
class RecoveryEntry:
    """
    The recovery after a failure, by the class of the failure.

    Attributes:
        repairs: By class of failure, a program and its arguments that mend what a task
            runs in, inside the failed attempt.
    """

    repairs: Mapping[str, list[str]] = field(
        AnyNames(
            Each(
                Text(is_any=True), least=1, needs="a list, a program and its arguments,"
            ),
            check=_check_class,
        )
    )


@attrs.frozen
class WorkspaceEntry:
    """
    All of `workspace.yaml`.

    Attributes:
        title: For the dashboard.
        folders: Where its files are.
        agent: The usual worker: a name, or a command line.
        stdin: Whether that reads the task file from standard input.
        agents: More workers, by name.
        phases: Rules by the name of a phase, with or without its number.
        limits: Limits of tasks.
        grace: The time between SIGTERM and SIGKILL.
        budgets: The amounts that tasks may spend, by name of a budget.
        budget: The budget of tasks that name none, in phases that name none.
        policies: Policies that judge the tasks, or files of such.
        recovery: The recovery after a failure, by its class.
    """

    title: str = field(LINE)
    folders: Folders = field(DocumentOf(Folders, make=Folders, nulls=True))
    agent: str = field(LINE, default="agent")
    stdin: bool = field(Flag())
    agents: Mapping[str, AgentProgram] = field(
        AnyNames(DocumentOf(AgentProgram, nulls=True))
    )
    phases: Mapping[str, PhaseRule] = field(AnyNames(DocumentOf(PhaseRule, nulls=True)))
    limits: LimitsEntry = field(DocumentOf(LimitsEntry, make=LimitsEntry, nulls=True))
    grace: float = field(Duration(), default="10s")
    budgets: Mapping[str, BudgetEntry] = field(BUDGETS)
    budget: str = field(BUDGET)
    policies: list[Any] = field(POLICIES)
    recovery: RecoveryEntry = field(DocumentOf(RecoveryEntry, nulls=True))


def read_config(root: Path, problems: list[Problem]) -> WorkspaceConfig:
    """Read `workspace.yaml` in *root*; add its faults to *problems*."""

    def unusable(why: str) -> WorkspaceConfig:
        problems.append(Problem(FILE, 1, 1, why))
        return WorkspaceConfig()

    try:
        with (root / FILE).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            return unusable(f"it has more than {_MAX_BYTES:,} bytes")
        text = data.removeprefix(BOM_UTF8).decode()
    except FileNotFoundError:
        return WorkspaceConfig()
    except OSError as error:
        return unusable(f"this file cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        return unusable("it is no UTF-8: save it as that")
    entry, _ = read_fields(WorkspaceEntry, text, FILE, problems)
    if entry is None:
        return WorkspaceConfig()
    faults = FaultList()
    config = _config(entry, root, faults)
    if not problems and not faults:
        _note_misspelt(entry, root / config.folders.tasks, faults)
    problems += problems_of(FILE, faults.placed)
    return config


def _policies(entry: ReadMapping, root: Path, faults: FaultList) -> tuple[Policy, ...]:
    if "policies" not in entry.nodes:
        return ()
    # Few workspaces have policies: only these load the code that judges.
    from taskorch.ext.governance._reading import policies_in  # noqa: PLC0415
    from taskorch.ext.task_files._policies import unfit  # noqa: PLC0415

    policies = policies_in(entry, root, faults)
    for policy in policies:
        fault = unfit(policy)
        if fault is not None:
            faults.add(entry.at("policies"), fault)
    return policies


def _config(entry: ReadMapping, root: Path, faults: FaultList) -> WorkspaceConfig:
    usual = WorkspaceConfig()
    folders: Folders = entry.get("folders", usual.folders)
    if folders.tasks == folders.workspace:
        text = "tasks and workspace must be two folders"
        faults.add(entry.at("folders"), text, "folders")
    limits: LimitsEntry = entry.get("limits", usual.limits)
    for name in ("max_cpu_per_agent", "max_memory_gb"):
        if limits.enforce and not getattr(limits, name):
            text = f"{name}: no program can be held to 0: with enforce, say more"
            faults.add(entry.at("limits"), text, "limits")
    agents = _agents(entry.part("agents"), faults)
    budgets = DeclaredBudgets.of(entry.part("budgets"), faults)
    budgets.check(entry, "", faults)
    for name, rules in entry.part("phases").values.items():
        budgets.check(rules, f"phases.{name}", faults)
    return WorkspaceConfig(
        title=entry.get("title", usual.title),
        folders=folders,
        agent=_agent(entry, agents, faults),
        agents=agents,
        phases=_phases(entry.part("phases")),
        grace=entry.get("grace", usual.grace),
        limits=limits,
        budgets=budgets,
        budget=entry.get("budget"),
        policies=_policies(entry, root, faults),
        repairs=entry.part("recovery").part("repairs").values,
    )


def _note_misspelt(entry: ReadMapping, tasks: Path, faults: FaultList) -> None:
    """Note rules of phases that there are not, if there is one of nearly that name."""
    folders = [path.name for path in tasks.glob("*") if path.is_dir()]
    names = {*PHASES, *folders, *(_NUMBER.sub("", name, count=1) for name in folders)}
    section = entry.part("phases")
    for name in section.nodes:
        key = _NUMBER.sub("", name, count=1)
        near = nearest(key, names, 0.8)
        if not names & {name, key} and near:
            text = f"there is no phase {name!r}; did you mean {near!r}?"
            faults.add(section.at(name), text)


def _phases(section: ReadMapping) -> dict[str, PhaseRule]:
    phases = dict(PHASES)
    for name, rules in section.values.items():
        values = {**rules.values, "gate": tuple(rules.get("gate", ()))}
        usual = phases.get(name, PhaseRule())
        phases[name] = attrs.evolve(usual, **values)
    return phases


def _agent(
    entry: ReadMapping, agents: Mapping[str, AgentProgram], faults: FaultList
) -> AgentProgram:
    program = DEFAULT_AGENT
    try:
        program = agent_program(entry.get("agent", program.name), agents)
    except InvalidTaskError as error:
        faults.add(entry.at("agent"), error.message)
    return attrs.evolve(program, stdin=entry.get("stdin", program.stdin))


def _agents(section: ReadMapping, faults: FaultList) -> dict[str, AgentProgram]:
    programs: dict[str, AgentProgram] = {}
    for name, one in section.values.items():
        if id_problem(name) is not None or has_segments(name):
            text = f"the name of an agent is one safe word, not {show(name, 60)}"
            faults.add(section.at(name), text)
            continue
        usual = PRESETS.get(name)
        args = one.get("command") or (usual.args if usual else None)
        if args is None and "command" not in one.nodes:
            faults.add(section.at(name), f"agents: {name} has no command")
        programs[name] = AgentProgram(
            name,
            args or DEFAULT_AGENT.args,
            stdin=one.get("stdin", bool(usual and usual.stdin)),
            capabilities=tuple(one.get("capabilities", ())),
            limit=one.get("limit"),
        )
    return programs
