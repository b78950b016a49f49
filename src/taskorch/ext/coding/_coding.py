"""
Known coding agents, and the templates for them.

One table has the command of each for use without a person, also for task files. Its
arguments and the form of its output follow the documentation of the runner.

Decision: coding-agents.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.core.engine import incarnation_of
from taskorch.errors import AgentProgramError, InvalidTaskError, ProgramFailedError
from taskorch.ext.coding import _coding_work
from taskorch.ext.coding._coding_work import MOST_SAID, WorkFolder, inherited, prompt_of
from taskorch.kit.checks import is_number
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import AgentTemplate, Program, ProgramResult, Task


@attrs.frozen
class RunnerReport:
    """
    Report of a runner at the end of its work.

    Attributes:
        output: The last text of its output.
        spent: Its consumption by resource: `tokens`, and `usd` if it reports that.
        refused: Names of the tools that it was not allowed to use.
        fault: Why it has not done the work; "" if it has.
    """

    output: str
    spent: Mapping[str, float] = attrs.field(factory=dict[str, float])
    refused: tuple[str, ...] = ()
    fault: str = ""


def _messages(text: str) -> list[dict[str, Any]]:
    """Yield the JSON objects in *text* that begin a line, without other text."""
    messages: list[dict[str, Any]] = []
    for begin in _BEGINS.finditer(text):
        with suppress(ValueError, RecursionError):
            messages.append(json.JSONDecoder().raw_decode(text, begin.start())[0])
    return messages


def _inside(message: Any, *keys: str) -> Any:
    """Return the value in *message* below *keys*; None: there is none."""
    for key in keys:
        message = message.get(key) if isinstance(message, dict) else None
    return message


def _sum(amounts: Iterable[Any]) -> float | None:
    """Return the sum of *amounts*; None: there is none, or one is no amount."""
    values = [*amounts]
    return (
        sum(values)
        if values and all(is_number(v, 0, _MOST_SPENT) for v in values)
        else None
    )


def _amounts(**amounts: float | None) -> dict[str, float]:
    return {name: much for name, much in amounts.items() if much is not None}


def _of_claude(text: str) -> RunnerReport | None:
    """Parse `claude -p --output-format json`; cached tokens count."""
    for message in _messages(text):
        if message.get("type") != "result":
            continue
        usage = _inside(message, "usage")
        counts = usage if isinstance(usage, dict) else {}
        every = ("cache_creation_input_tokens", "cache_read_input_tokens")
        tokens = [counts.get("input_tokens"), counts.get("output_tokens")]
        tokens += [counts.get(name, 0) for name in every]
        output = str(message.get("result") or "")
        fault = str(output or message.get("subtype")) if message.get("is_error") else ""
        denials = message.get("permission_denials")
        return RunnerReport(
            output[-MOST_SAID:],
            _amounts(tokens=_sum(tokens), usd=_sum([message.get("total_cost_usd")])),
            tuple(
                str(_inside(denial, "tool_name"))
                for denial in (denials if isinstance(denials, list) else ())
            ),
            fault,
        )
    return None


def _of_codex(text: str) -> RunnerReport | None:
    """Parse `codex exec --json`; cached tokens are part of the input."""
    output, fault, is_over = "", "", False
    # A turn without its usage makes the sum unknown.
    turns: list[float | None] = []
    for message in _messages(text):
        kind = message.get("type")
        if kind == "item.completed":
            item = message.get("item")
            if _inside(item, "type") == "agent_message":
                output = str(_inside(item, "text") or "")
        elif kind == "turn.completed":
            names = ("input_tokens", "output_tokens")
            turns.append(_sum(_inside(message, "usage", name) for name in names))
            is_over = True
        elif kind == "turn.failed":
            fault, is_over = str(_inside(message, "error", "message")), True
    if not is_over:
        return None
    spent = _amounts(tokens=_sum(turns))
    return RunnerReport(output[-MOST_SAID:], spent, fault=fault)


def _of_gemini(text: str) -> RunnerReport | None:
    """Parse `gemini --output-format json`; the tokens of all models count."""
    for message in _messages(text):
        models = _inside(message, "stats", "models")
        counts = models.values() if isinstance(models, dict) else ()
        tokens = _sum(_inside(each, "tokens", "total") for each in counts)
        why = _inside(message, "error", "message")
        if "response" in message or why is not None:
            output = str(message.get("response") or "")
            fault = "" if why is None else str(why)
            spent = _amounts(tokens=tokens)
            return RunnerReport(output[-MOST_SAID:], spent, fault=fault)
    return None


@attrs.frozen
class CodingRunner:
    """
    Program that does the work of a coding agent, and its arguments.

    Attributes:
        name: Its name, which is that of its program.
        args: The program and its arguments; `{task_file}` stands for the file with the
            prompt.
        stdin: Whether it reads the prompt from its standard input.
        edits: Arguments with which it may change files.
        looks: Arguments with which it may not change files, if it needs any.
        report: Arguments with which it reports as `read` reads it.
        read: The parser of that report; None: it has no known report.
        kept: Arguments with which it speaks the Agent Client Protocol; None: it cannot.
    """

    name: str
    args: tuple[str, ...]
    stdin: bool = False
    edits: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    read: Callable[[str], RunnerReport | None] | None = None
    kept: tuple[str, ...] | None = None

    def command(self, *more: str) -> tuple[str, ...]:
        """Return its arguments with *more*; these stand before a last `-`."""
        place = len(self.args) - (self.args[-1] == "-")
        return (*self.args[:place], *more, *self.args[place:])


#: The known runners, in the order in which they are looked for.
RUNNERS: Final[Mapping[str, CodingRunner]] = {
    runner.name: runner
    for runner in (
        CodingRunner(
            "aider",
            ("aider", "--yes-always", "--message-file", "{task_file}"),
            looks=("--chat-mode", "ask"),
        ),
        CodingRunner(
            "claude",
            ("claude", "-p"),
            stdin=True,
            edits=("--permission-mode", "acceptEdits"),
            report=("--output-format", "json"),
            read=_of_claude,
        ),
        CodingRunner(
            "codex",
            ("codex", "exec", "-"),
            stdin=True,
            edits=("--sandbox", "workspace-write"),
            report=("--json",),
            read=_of_codex,
        ),
        CodingRunner(
            "gemini",
            ("gemini",),
            stdin=True,
            edits=("--approval-mode", "auto_edit"),
            report=("--output-format", "json"),
            read=_of_gemini,
            kept=("--acp",),
        ),
        CodingRunner("goose", ("goose", "run", "-i", "{task_file}"), kept=("acp",)),
    )
}

_ALONE: Final = (
    "Nobody answers questions: decide, and say what you assumed. Commit nothing. "
    "At the end, say in a few sentences"
)
#: The instructions for a coding agent of each type.
INSTRUCTIONS: Final[Mapping[str, str]] = {
    "code": "You change the code of the project in this folder. Do what is asked and "
    f"nothing else, in the style of the code around it. {_ALONE} what you changed.",
    "test": "You write tests for the project in this folder, in the style of its "
    "tests. Each holds a promise, and would fail without it. Leave the code itself as "
    "it is. "
    f"{_ALONE} what the tests hold, and what they found.",
    "review": "You review the project in this folder, and change no file. Look for "
    "faults, for what is unclear, and for what no test holds. "
    f"{_ALONE} what you found: the worst first, each with its file and line.",
    "document": "You write the documentation of the project in this folder, in the "
    "style of its pages. Say only what the code does. Leave the code itself as it is. "
    f"{_ALONE} what you wrote.",
}
#: The types that change no file.
_READERS: Final = frozenset(("review",))
#: The largest amount that counts as spent; a larger one is a mistake.
_MOST_SPENT: Final = 1e12
#: The options of `Program` that the programs of coding agents may have.
_OPTIONS: Final = (
    "enforce",
    "env",
    "inherit_env",
    "limits",
    "network",
    "reads",
    "writes",
)
#: The place at which a JSON object may begin.
_BEGINS: Final = re.compile(r"^\{", re.MULTILINE)
_OWN: Final = "orch.agents.coding(['my-agent', '{task_file}']) names your own"
#: The file by which a program reads its standard input.
_STDIN_FILE: Final = "/dev/stdin"
_PROGRAM: Final = _coding_work.__file__


@attrs.frozen
class CodingHandler:
    """
    Handler for the tasks of coding agents of one type: each is a run of the runner.

    Attributes:
        runner: The runner; of its arguments, only its report is of interest.
        args: The command.
        instructions: The text before the task in its prompt.
        folder: The folder.
        worktree: Whether each task gets a worktree of its own.
        options: More of `Program`.
    """

    runner: CodingRunner
    args: tuple[str, ...]
    instructions: str
    folder: str
    worktree: bool
    options: Mapping[str, Any]

    def __call__(
        self, task: Task[Any], context: Any
    ) -> Generator[Program, ProgramResult, dict[str, Any]]:
        """
        Do *task*: yield the program, and return its result.

        Raises:
            InvalidTaskError: Its payload is no prompt, or it can have no worktree.
            AgentProgramError: The runner reports that it has not done the task.
            ProgramFailedError: The runner has failed.
        """
        try:
            prompt = prompt_of(self.instructions, task.payload, task.writes)
            place = WorkFolder(
                self.folder,
                context.task_id,
                context.attempt,
                worktree=self.worktree,
                run_id=incarnation_of(context),
            )
        except ValueError as error:
            msg = f"task {context.task_id}: {error}"
            raise InvalidTaskError(msg, task_id=context.task_id) from None
        options = dict(self.options)
        if options["inherit_env"] is True:
            options["inherit_env"] = frozenset(inherited())
        program = Program(self.args, cwd=place.path, stdin=prompt, **options)
        try:
            result = yield program
        except ProgramFailedError as error:
            if error.result is not None:
                place.note_spent(self._report(error.result, context).spent)
            raise
        report = self._report(result, context)
        place.note_spent(report.spent)
        if report.fault:
            msg = f"{self.runner.name}: {report.fault[:2000]} (task {context.task_id})"
            raise AgentProgramError(msg, hint="", task_id=context.task_id)
        log = result.log_path
        return place.result(
            runner=self.runner.name,
            exit_code=result.exit_code,
            output=report.output,
            refused=[*report.refused],
            spent=place.spent,
            log=None if log is None else str(log),
            enforced=result.enforced,
            unenforced=[*result.unenforced],
        )

    def _report(self, result: ProgramResult, context: Any) -> RunnerReport:
        """Return the runner's report, or its last output, and record what it spent."""
        text, read = result.stdout_tail, self.runner.read
        report = None if read is None else read(text)
        if report is None and read is not None and result.log_path is not None:
            # A long report begins before the tail of the output.
            with suppress(OSError):
                report = read(result.log_path.read_text(errors="replace"))
        if report is None:
            return RunnerReport(text)
        try:
            if report.spent:
                context.spent(**report.spent)
        except InvalidTaskError:
            # The budget may not count this resource; the report still shows it.
            for name, much in report.spent.items():
                with suppress(InvalidTaskError):
                    context.spent(**{name: much})
        return report


def coding_templates(
    runner: str | Iterable[str] | None,
    *,
    folder: str | os.PathLike[str] = ".",
    types: Iterable[str],
    instructions: Mapping[str, str] | None = None,
    arguments: Iterable[str] = (),
    reuse: bool = False,
    worktree: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[AgentTemplate]:
    """
    Make the templates of `WorkerManager.coding`.

    Raises:
        InvalidTaskError: As there.
    """
    place = Path(folder).resolve()
    if not place.is_dir():
        msg = f"there is no folder {os.fspath(folder)!r} for coding agents"
        raise InvalidTaskError(msg, hint="folder= is that of the project")
    texts = {**INSTRUCTIONS, **(instructions or {})}
    names = [types] if isinstance(types, str) else [*types]
    for name in (*names, *(instructions or {})):
        if name not in INSTRUCTIONS:
            msg = f"there is no type {show(name)} of coding agents"
            raise InvalidTaskError(msg, hint=meant(name, INSTRUCTIONS, _listed()))
    if isinstance(arguments, str):
        msg = "arguments are a list, not one text"
        raise InvalidTaskError(msg, hint=f"arguments={arguments.split()}")
    more, chosen = tuple(arguments), _runner(runner)
    program = _checked(options or {}, reuse=reuse)
    if reuse and chosen.kept is None:
        able = [one.name for one in RUNNERS.values() if one.kept is not None]
        msg = f"{chosen.name} speaks no protocol by which it could be kept for more"
        hint = f"reuse=False; these do: {', '.join(able)}, and a command of yours may"
        raise InvalidTaskError(msg, hint=hint)
    templates: list[AgentTemplate] = []
    for name in names:
        edits = name not in _READERS
        template = AgentTemplate(name, name, capabilities={name: 1})
        if chosen.kept is not None and reuse:
            work = {
                "name": chosen.name,
                "args": [chosen.args[0], *chosen.kept, *more],
                "instructions": texts[name],
                "folder": str(place),
                "worktree": worktree,
                "edits": edits,
            }
            start = (sys.executable, "-I", "-S", _PROGRAM, json.dumps(work))
            template = attrs.evolve(template, executor="lines", start=start)
        else:
            rights = chosen.edits if edits else chosen.looks
            held = dict(program)
            if not edits and held.get("enforce"):
                held.setdefault("writes", ())
            args = chosen.command(*rights, *chosen.report, *more)
            handler = CodingHandler(
                chosen,
                tuple(arg.replace("{task_file}", _STDIN_FILE) for arg in args),
                texts[name],
                str(place),
                worktree,
                held,
            )
            template = attrs.evolve(template, executor="program", handler=handler)
        templates.append(template)
    return templates


def _listed() -> str:
    return ", ".join(INSTRUCTIONS)


def _runner(runner: str | Iterable[str] | None) -> CodingRunner:
    """
    Return the runner of this name or command, with the path of its program.

    Raises:
        InvalidTaskError: It is not known, or not installed.
    """
    if runner is None:
        installed = next(
            (one for one in RUNNERS.values() if shutil.which(one.name)), None
        )
        if installed is None:
            msg = f"no coding agent is installed: none of {', '.join(RUNNERS)} is on "
            msg += "the PATH"
            raise InvalidTaskError(msg, hint=_OWN)
        chosen = installed
    elif isinstance(runner, str):
        if runner not in RUNNERS:
            msg = f"there is no known coding agent {runner!r}"
            raise InvalidTaskError(msg, hint=meant(runner, RUNNERS, _OWN))
        chosen = RUNNERS[runner]
    else:
        args = tuple(map(str, runner))
        if not args or not args[0]:
            msg = "the command of a coding agent is empty"
            raise InvalidTaskError(msg, hint=_OWN)
        chosen = CodingRunner(Path(args[0]).name, args, kept=args[1:])
    path = shutil.which(chosen.args[0])
    if path is None:
        msg = f"coding agent {chosen.args[0]!r} is not on the PATH, or no program"
        raise InvalidTaskError(msg, hint="install it, or name another")
    return attrs.evolve(chosen, args=(str(Path(path).absolute()), *chosen.args[1:]))


def _checked(options: Mapping[str, Any], *, reuse: bool) -> Mapping[str, Any]:
    """
    Check the options for the programs of coding agents and return them.

    Raises:
        InvalidTaskError: There is none of this name, or one runner is kept for all.
    """
    for name in options:
        if name not in _OPTIONS:
            msg = f"coding agents have no option {name!r}"
            hint = meant(name, _OPTIONS, f"there are {', '.join(_OPTIONS)}")
            raise InvalidTaskError(msg, hint=hint)
        if reuse:
            msg = f"{name} holds the program of one task, and a kept runner does many"
            raise InvalidTaskError(msg, hint=f"leave out {name} or reuse")
    usual = {"inherit_env": True, **options}
    Program(["x"], **usual)
    return usual
