"""`workspace.yaml`: what holds for a whole workspace. All of it is optional."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from taskorch._base._vocabulary import nearest
from taskorch.errors import InvalidTaskError
from taskorch.frontends.workspace._agents import (
    DEFAULT_AGENT,
    PRESETS,
    AgentProgram,
    agent_program,
)
from taskorch.frontends.workspace._fields import Fields
from taskorch.frontends.workspace._problems import Problem
from taskorch.frontends.workspace._task_file import TaskFile
from taskorch.model import id_problem
from taskorch.model._ids import has_segments
from taskorch.model._show import show

FILE: Final = "workspace.yaml"
_HOUR: Final = 3600.0
_MAX_BYTES: Final = 1 << 18
#: What stands before the name of a phase to give it its place: `01-` of `01-analysis`.
_NUMBER: Final = re.compile(r"[0-9]+[-_.]")


@attrs.frozen
class PhaseRule:
    """
    The rules for the tasks of a phase.

    Attributes:
        limit: How many of its tasks run at once; None is without limit.
        timeout: Seconds that one of them may take; None is for ever.
        gate: Files that must be there before the next phase begins.
        approval: Whether somebody must have approved it before that.
    """

    limit: int | None = None
    timeout: float | None = None
    gate: tuple[str, ...] = ()
    approval: bool = False


#: Those of the protocol.
_PHASES: Final[Mapping[str, PhaseRule]] = {
    "analysis": PhaseRule(6, 8 * _HOUR),
    "planning": PhaseRule(3, 6 * _HOUR),
    "implementation": PhaseRule(10, 12 * _HOUR),
    "validation": PhaseRule(2, 4 * _HOUR),
    "optimization": PhaseRule(5, 20 * _HOUR),
}


@attrs.frozen
class WorkspaceConfig:
    """
    What holds for a workspace.

    Attributes:
        title: For the dashboard.
        tasks: The name of the folder with the task files.
        workspace: The name of the folder for status, outputs, logs and pids.
        agent: Who does a task that does not say by whom.
        agents: Others, by their names.
        phases: Rules by the name of a phase, or by that without its number.
        max_agents: Tasks that run at once.
        max_cpu: Cores that one task may take.
        max_memory_mb: MiB that one task may take.
        grace: Seconds between asking a program to end and killing it.
    """

    title: str = ""
    tasks: str = "tasks"
    workspace: str = "workspace"
    agent: AgentProgram = DEFAULT_AGENT
    agents: Mapping[str, AgentProgram] = attrs.field(factory=dict[str, AgentProgram])
    phases: Mapping[str, PhaseRule] = _PHASES
    max_agents: int = 10
    max_cpu: float = 4.0
    max_memory_mb: float = 8 * 1024.0
    grace: float = 10.0

    @property
    def programs(self) -> dict[str, AgentProgram]:
        """All agents by their names: `agent` first, which may be one of the others."""
        first = {self.agent.name: self.agent}
        return first | {**self.agents} | first

    def rule(self, phase: str) -> tuple[str, PhaseRule]:
        """What holds for a phase, and the key under which it stands."""
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


def read_config(root: Path, problems: list[Problem]) -> WorkspaceConfig:
    """What `workspace.yaml` in *root* says; what is wrong goes to *problems*."""
    try:
        with (root / FILE).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            problems.append(
                Problem(FILE, 1, 1, f"it has more than {_MAX_BYTES:,} bytes")
            )
            return WorkspaceConfig()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        return WorkspaceConfig()
    except OSError as error:
        message = f"this file cannot be read: {error.strerror or error}"
        problems.append(Problem(FILE, 1, 1, message))
        return WorkspaceConfig()
    except UnicodeDecodeError:
        problems.append(Problem(FILE, 1, 1, "it is no UTF-8: save it as that"))
        return WorkspaceConfig()
    fields = Fields.of_text(FILE, text, 0, problems)
    if fields is None:
        return WorkspaceConfig()
    config = _config(fields)
    if not problems:
        _note_misspelt(fields, root / config.tasks)
    return config


def _config(fields: Fields) -> WorkspaceConfig:
    usual = WorkspaceConfig()
    title = fields.text("title") or usual.title
    tasks, workspace = usual.tasks, usual.workspace
    folders = fields.mapping("folders")
    if folders is not None:
        tasks = _folder(folders, "tasks", tasks)
        workspace = _folder(folders, "workspace", workspace)
        folders.note_unknown(all_of_them=True)
        if tasks == workspace:
            fields.note("folders", "folders: tasks and workspace must be two folders")
    limits = fields.mapping("limits")
    most: dict[str, float] = {}
    if limits is not None:
        most = {
            "max_agents": limits.count("max_concurrent_agents") or usual.max_agents,
            "max_cpu": limits.amount("max_cpu_per_agent", usual.max_cpu),
            "max_memory_mb": 1024
            * limits.amount("max_memory_gb", usual.max_memory_mb / 1024),
        }
        limits.note_unknown(all_of_them=True)
    agents = _agents(fields)
    config = WorkspaceConfig(
        title=title,
        tasks=tasks,
        workspace=workspace,
        agent=_agent(fields, agents),
        agents=agents,
        phases=_phases(fields),
        grace=fields.seconds("grace") or usual.grace,
        **most,  # type: ignore[arg-type]
    )
    fields.note_unknown(all_of_them=True)
    return config


def _note_misspelt(fields: Fields, tasks: Path) -> None:
    """Note rules of phases that there are not, if there is one of nearly that name."""
    section = fields.mapping("phases")
    folders = [path.name for path in tasks.glob("*") if path.is_dir()]
    names = {*_PHASES, *folders, *(_NUMBER.sub("", name, count=1) for name in folders)}
    for name in () if section is None else section.names():
        key = _NUMBER.sub("", name, count=1)
        near = nearest(key, names, 0.8)
        if section is not None and not names & {name, key} and near:
            section.note(name, f"there is no phase {name!r}; did you mean {near!r}?")


def _folder(fields: Fields, name: str, usual: str) -> str:
    folder = fields.text(name)
    if folder is None:
        return usual
    if id_problem(folder) is not None or has_segments(folder):
        fields.note(name, f"{name}: the name of a folder is one safe word")
        return usual
    return folder


def _phases(fields: Fields) -> dict[str, PhaseRule]:
    phases = dict(_PHASES)
    section = fields.mapping("phases")
    for name in () if section is None else section.names():
        rules = section.mapping(name) if section is not None else None
        if rules is None:
            continue
        usual = phases.get(name, PhaseRule())
        phases[name] = PhaseRule(
            rules.count("limit") or usual.limit,
            rules.seconds("timeout") or usual.timeout,
            rules.paths("gate", "a gate is in the folder of the workspace"),
            rules.flag("approval"),
        )
        rules.note_unknown(all_of_them=True)
    return phases


def _agent(fields: Fields, agents: Mapping[str, AgentProgram]) -> AgentProgram:
    program = DEFAULT_AGENT
    try:
        program = agent_program(fields.text("agent") or program.name, agents)
    except InvalidTaskError as error:
        fields.note("agent", error.message)
    return attrs.evolve(program, stdin=fields.flag("stdin", usual=program.stdin))


def _agents(fields: Fields) -> dict[str, AgentProgram]:
    programs: dict[str, AgentProgram] = {}
    section = fields.mapping("agents")
    for name in () if section is None else section.names():
        one = section.mapping(name) if section is not None else None
        if one is None or section is None:
            continue
        if id_problem(name) is not None or has_segments(name):
            section.note(
                name, f"the name of an agent is one safe word, not {show(name, 60)}"
            )
            continue
        usual = PRESETS.get(name)
        args = one.command("command") or (usual.args if usual else None)
        if args is None:
            section.note(name, f"agents: {name} has no command")
            args = DEFAULT_AGENT.args
        programs[name] = AgentProgram(
            name,
            args,
            stdin=one.flag("stdin", usual=bool(usual and usual.stdin)),
            capabilities=one.texts("capabilities"),
            limit=one.count("limit"),
        )
        one.note_unknown(all_of_them=True)
    return programs
