"""Agent programs: what is run for a task, and by which name it goes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

import attrs

from taskorch._documents.forms import Flag, may_be
from taskorch.errors import InvalidTaskError
from taskorch.frontends.workspace._fields import COUNT, LINES, CommandLine


@attrs.frozen
class AgentProgram:
    """
    A program that does tasks.

    Attributes:
        name: Its name; its slots are `name-1`, `name-2` and so on.
        args: The program and its arguments; `{task_file}`, `{task_id}` and `{outputs}`
            stand for the file of the task, its id, and the folder for what it makes.
        stdin: Whether it reads the Markdown of the task file from its standard input.
        capabilities: What it is capable of.
        limit: How many of it run at once; None is without limit.
    """

    name: str
    args: tuple[str, ...] = attrs.field(
        metadata=may_be(CommandLine(), name="command", is_needed=False)
    )
    stdin: bool = attrs.field(default=False, metadata=may_be(Flag()))
    capabilities: tuple[str, ...] = attrs.field(default=(), metadata=may_be(LINES))
    limit: int | None = attrs.field(default=None, metadata=may_be(COUNT))


def filled(word: str, names: Mapping[str, str]) -> str:
    """*word* with what the names in it stand for; other braces stay as they are."""
    for name, text in names.items():
        word = word.replace(f"{{{name}}}", text)
    return word


DEFAULT_AGENT: Final = AgentProgram("agent", ("agent", "run", "{task_file}"))

#: How known coding agents are run without a person.
PRESETS: Final[Mapping[str, AgentProgram]] = {
    agent.name: agent
    for agent in (
        DEFAULT_AGENT,
        AgentProgram(
            "aider", ("aider", "--yes-always", "--message-file", "{task_file}")
        ),
        AgentProgram("claude", ("claude", "-p"), stdin=True),
        AgentProgram("codex", ("codex", "exec", "-"), stdin=True),
        AgentProgram("gemini", ("gemini",), stdin=True),
        AgentProgram("goose", ("goose", "run", "-i", "{task_file}")),
    )
}


def agent_program(command: str, agents: Mapping[str, AgentProgram]) -> AgentProgram:
    """
    The agent that *command* means: one of *agents*, a preset, or a command line.

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
