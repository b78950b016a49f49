"""
The command line: `taskorch COMMAND …`.

A command is a verb with a `command=`, or a line in `_OWN` with its purpose and its
module, which is imported only when it is needed. The module has
`add_arguments(parser)`, and the parser is to set `run`: a function of the parsed
arguments that returns the exit code. Commands read arguments, call the library, and
print; a program of the user can do all that they do.

- `_terminal`: reading of arguments, and output for people and programs.
- `_source`, `_target`: reading of a journal or a service; the contents of a file.
- `_run`, `_simulate`, `_plan`: run a workflow or tasks; forecast them; plan a request.
- `_serve`, `_serve_file`: a suite or a journal over HTTP; the orchestrator of a file.
- `_tokens`: tokens of the users of a service.
- `_mcp`: tools for language models, of a journal, a service or a file.
- `_worker`, `_workers`: does the work of a service; lists its workers, alerts, holds.
- `_inspect`, `_explain`, `_logs`: tasks of a journal or a service; the reason why one
  does not run; its log and output.
- `_control`: rerun, restart, cancel, decide, approve, answer and the like.
- `_groups`: commands with several acts, from the table of verbs.
- `_waivers`: list, ask for and revoke waivers; audits; receipts.
- `_jobs`, `_suite`, `_workspace`: adaptive jobs, test suites and task files.
- `_schedules`, `_runs`: schedules; runs of workflows and schedules.
- `_top`, `_first_view`, `_top_screens`: the dashboard in a terminal: its contents, and
  its screens.
- `_policy`: checks of policy files, and their verdicts.
- `_migrate`, `_prune`, `_copy`: the tables of journals in PostgreSQL; removal of old
  tasks; the history of a journal in another.
- `_verify`: verification of a journal, checkpoints of it, and proofs.
- `_doctor`, `_completion`: checks of this machine; completion in a shell.
- `_demo`: a small workflow that is killed, goes on, and is explained.
- `_skill`: the guide for language models that write with taskorch.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, NoReturn

import taskorch
from taskorch.errors import (
    JournalTakenError,
    JournalUnavailableError,
    TaskorchError,
)
from taskorch.kit.checks import built_in
from taskorch.kit.vocabulary import meant, nearest

__all__ = ("COMMANDS", "main")

#: The exit codes: all is well; something failed; the request is invalid; it cannot be
#: done now, and may be later (EX_TEMPFAIL of sysexits.h).
OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_NOW: Final = 75
INTERRUPTED: Final = 130

#: The beginning of the help.
_FIRST: Final = ("run", "simulate", "plan", "inspect", "explain")
#: The purpose and the module of each command that is no verb.
_OWN: Final = {
    "run": (
        "run a workflow or tasks that a file defines",
        "taskorch.ext.command_line._run",
    ),
    "simulate": ("say how long that would take", "taskorch.ext.command_line._simulate"),
    "plan": ("plan what a request asks for", "taskorch.ext.command_line._plan"),
    "inspect": (
        "show what is in a journal, or a service",
        "taskorch.ext.command_line._inspect",
    ),
    "explain": ("say why a task does not run", "taskorch.ext.command_line._explain"),
    "logs": ("show what a task logs and prints", "taskorch.ext.command_line._logs"),
    "runs": (
        "list, show and change runs of workflows",
        "taskorch.ext.command_line._runs",
    ),
    "top": ("watch nights and runs in a terminal", "taskorch.ext.command_line._top"),
    "schedules": (
        "show and change what is made again and again",
        "taskorch.ext.command_line._schedules",
    ),
    **{
        name: (purpose, "taskorch.ext.command_line._workers")
        for name, purpose in {
            "agents": "show and change the workers of a service",
            "alerts": "show how the alerts of a service stand",
        }.items()
    },
    **{
        name: (purpose, "taskorch.ext.command_line._waivers")
        for name, purpose in {
            "waivers": "show, ask for and revoke waivers of policies",
            "audit": "say how well a task has kept to policies",
            "receipt": "say what allowed each start of a task",
        }.items()
    },
    "policy": ("check, test and explain policies", "taskorch.ext.command_line._policy"),
    "prune": (
        "let what ended long ago leave a journal",
        "taskorch.ext.command_line._prune",
    ),
    "copy": (
        "copy the history of a journal to a new one",
        "taskorch.ext.command_line._copy",
    ),
    "migrate": (
        "make the tables of journals in PostgreSQL",
        "taskorch.ext.command_line._migrate",
    ),
    **{
        name: (purpose, "taskorch.ext.command_line._verify")
        for name, purpose in {
            "verify": "check that nothing of a journal was changed",
            "checkpoint": "sign what a journal is, and keep that elsewhere",
            "prove": "prove that an event is in a journal, or check that",
        }.items()
    },
    "suite": (
        "run a test suite with a fleet of workers",
        "taskorch.ext.command_line._suite",
    ),
    "serve": (
        "run what a file makes, or a test suite, over HTTP",
        "taskorch.ext.command_line._serve",
    ),
    "tokens": (
        "show and change who may ask a service",
        "taskorch.ext.command_line._tokens",
    ),
    "mcp": ("give language models tools, by MCP", "taskorch.ext.command_line._mcp"),
    "agent": (
        "be a worker of an orchestrator elsewhere",
        "taskorch.ext.command_line._worker",
    ),
    "workspace": ("run a folder of task files", "taskorch.ext.command_line._workspace"),
    "jobs": ("run adaptive jobs, and ask for them", "taskorch.ext.command_line._jobs"),
    "demo": ("show in some seconds what it does", "taskorch.ext.command_line._demo"),
    "doctor": ("look for trouble on this machine", "taskorch.ext.command_line._doctor"),
    "completion": (
        "write what completes commands",
        "taskorch.ext.command_line._completion",
    ),
    "skill": (
        "print what a coding agent needs to know",
        "taskorch.ext.command_line._skill",
    ),
}
#: The groups of the help; commands in no group come last.
_GROUPS: Final[Mapping[str, str]] = {
    "run work": "run simulate plan suite workspace jobs serve agent mcp",
    "look": "inspect explain when at-risk in-time diff logs top alerts",
    "tasks": "cancel suspend resume priority rerun change expire decide reward emit",
    "runs and schedules": "runs approve reject schedules",
    "steps": "steps fork fork-many forget-steps",
    "people": "questions escalations answer tokens",
    "starts, workers, resources": "hold release agents resize budgets raise-budget",
    "policies": "policy waivers audit receipt",
    "journals": "prune copy migrate verify checkpoint prove forget",
    "help": "demo doctor completion skill",
}
#: The purpose and the module of every command, made when they are asked for.
COMMANDS: Mapping[str, tuple[str, str]]


def __getattr__(name: str) -> Any:
    if name == "COMMANDS":
        return _all_commands()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def _all_commands() -> dict[str, tuple[str, str]]:
    from taskorch.api.verbs.table import commands  # noqa: PLC0415 - it takes a moment

    module = "taskorch.ext.command_line._control"
    own = dict(_OWN)
    first = {name: own.pop(name) for name in _FIRST}
    derived = {
        name: (verb.purpose, module)
        for name, (_, verb) in commands().items()
        if name not in own
    }
    return {**first, **derived, **own}


#: Advice for errors of the system.
_WHAT_NOW: Final[Mapping[int | None, str]] = {
    errno.ENOENT: "check the path",
    errno.EACCES: "who runs this must be allowed to use it",
    errno.EPERM: "who runs this must be allowed to use it",
    errno.EROFS: "name a folder that can be written",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a file stands where a folder is needed: name another, or move it",
    errno.EEXIST: "a file stands where a folder is needed: name another, or move it",
    errno.ENOSPC: "make room on the disk, then run the same command again",
    errno.EDQUOT: "make room in your quota, then run the same command again",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "raise the limit of open files: ulimit -n",
}

#: Commands that do work, which goes on although nobody reads the output.
_WORKING: Final = frozenset(
    {"agent", "demo", "jobs", "mcp", "run", "serve", "suite", "workspace"}
)
#: The smallest extra that brings a module.
EXTRAS: Final = {
    **dict.fromkeys(("cloudpickle", "cronsim", "jsonschema", "yaml"), "cli"),
    **dict.fromkeys(("apprise", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("hypothesis", "pytest"), "testing"),
    "backports": "cli",
    "cel": "policy",
    "cryptography": "audit",
    "distributed": "dask",
    "mcp": "mcp",
    "obstore": "artifacts",
    "ortools": "planner",
    "psycopg": "postgres",
    "pynvml": "gpu",
    "ray": "ray",
    "textual": "tui",
}

_SILENT: Final = logging.NullHandler()


class _NobodyReads(BaseException):
    """The reader of the output has closed the pipe: `taskorch … | head`."""


class _Output(io.TextIOWrapper):
    """
    The output of a command.

    A closed output is no error of the service or file that the command asks. So it
    passes handlers of such errors, and ends the command, unless the command does work:
    that goes on. On another thread, nothing ends at once.
    """

    #: Whether nobody reads; and whether the command goes on, or ends already.
    is_unread = goes_on = False

    def write(self, text: str) -> int:
        """Write *text*, if anybody reads."""
        return self._tried(super().write, text) or 0

    def flush(self) -> None:
        """Hand over the written text, if anybody reads."""
        self._tried(super().flush)

    def _tried(self, act: Callable[..., Any], *args: Any) -> Any:
        if not self.is_unread:
            try:
                return act(*args)
            except BrokenPipeError:
                self.is_unread = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
                # This writes the buffered rest to the null device.
                super().flush()
        if not self.goes_on and threading.current_thread() is threading.main_thread():
            self.goes_on = True
            raise _NobodyReads
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: The arguments; None is those of the process.

    Returns:
        The exit code: 0 if all is well, 1 if something failed, 2 if the request is
        invalid, 75 if it cannot be done now, 130 if it was interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    journal: str | None = None
    # Each command says in its own words what it leaves; a handler of the caller gets
    # the interrupt all the same.
    logging.getLogger("taskorch.core.engine._lifecycle").addHandler(_SILENT)
    _prepare_streams(is_process=argv is None)
    try:
        # Loading the modules of a command takes a moment, which can be interrupted,
        # too.
        try:
            args = _parsed(words)
            journal = getattr(args, "journal", None)
            if isinstance(sys.stdout, _Output):
                sys.stdout.goes_on = words[0] in _WORKING
            code: int = args.run(args)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except _NobodyReads:
        return FAILED
    except (TaskorchError, ImportError) as error:
        print(f"taskorch: {_said(error, journal)}", file=sys.stderr)
        is_passing = isinstance(error, JournalTakenError | JournalUnavailableError)
        return NOT_NOW if is_passing else USAGE
    except OSError as error:
        print(f"taskorch: {_refused(error)}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("taskorch: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _prepare_streams(*, is_process: bool) -> None:
    """Let the streams take any text, also in a process whose output nobody reads."""
    if is_process and type(sys.stdout) is io.TextIOWrapper:
        old = sys.stdout
        # The stream keeps the mode that Python opened it with: `PYTHONUNBUFFERED`
        # writes at once.
        sys.stdout = _Output(
            os.fdopen(os.dup(old.fileno()), "wb", 0 if old.write_through else -1),
            old.encoding,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the encoding lacks is shown as Python escapes it.
            stream.reconfigure(errors="backslashreplace")


def _said(error: Exception, journal: str | None) -> str:
    """Return the text of *error*, with commands for *journal* and a missing extra."""
    text = str(error)
    name = getattr(error, "name", "") or ""
    if isinstance(error, ModuleNotFoundError) and name.startswith("taskorch.ext."):
        return f"the command needs {name}, and its file was deleted"
    extra = EXTRAS.get(name.partition(".")[0])
    if extra is not None and "pip install" not in text:
        text += f" (pip install 'taskorch[{extra}]')"
    if isinstance(journal, str):
        from taskorch.ext.command_line._terminal import in_commands  # noqa: PLC0415 - few need it

        text = in_commands(text, journal)
    return text


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = _parser(words)
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    if not words[0].startswith("-") and words[0] not in _OWN:
        commands = _all_commands()
        if words[0] not in commands:
            act = words[0].removesuffix("-run")
            what_now = f"taskorch runs JOURNAL {act} RUN"
            if act == words[0] and act != "restart":
                what_now = meant(words[0], commands, "see taskorch --help")
            parser.error(f"there is no command {words[0]!r}: {what_now}")
    args, rest = parser.parse_known_args(words)
    # argparse accepts an optional argument only before the options.
    if rest and not rest[0].startswith("-") and getattr(args, "task", "") is None:
        args.task = rest.pop(0)
    while rest and not rest[0].startswith("-") and hasattr(args, "more"):
        args.more.append(rest.pop(0))
    if rest:
        text = f"unrecognized arguments: {' '.join(rest)}"
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        names = list(_options(parser))
        for option in options:
            near = nearest(option, names)
            text += f"; for {option}, did you mean {near}?" if near else ""
        parser.error(text)
    return args


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest word for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
        near = match and meant(match[1], re.findall(r"[\w-]+", match[2]))
        super().error(f"{message}: {near}" if near else message)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield all options of *parser* and of the commands in it."""
    for action in parser._actions:  # noqa: SLF001 - argparse shows them nowhere else
        yield from action.option_strings
        if isinstance(action.choices, Mapping):
            for command in action.choices.values():
                yield from _options(command)


def _refused(error: OSError) -> str:
    """Return what the system has refused, for which file, and what to do."""
    why = error.strerror or str(error) or "the system has refused it"
    where = "" if error.filename is None else f"{error.filename!r}: "
    what_now = _WHAT_NOW.get(error.errno, "mend that, then run the same command again")
    return f"{where}{why[0].lower()}{why[1:]} ({what_now})"


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, with all their arguments."""
    return _parser(_all_commands(), every=True)


def version() -> str:
    """Return the version of taskorch, and whether its kernel is compiled."""
    # One module beside the package holds all compiled code.
    is_compiled = find_spec("taskorch__mypyc") is not None
    return taskorch.__version__ + ", compiled" * is_compiled


class _Whole(_Parser):
    """The parser of all commands: its help shows them in groups."""

    def format_help(self) -> str:
        """Return the help, with a line for each command."""
        commands = {name: purpose for name, (purpose, _) in _all_commands().items()}
        lines = [self.format_usage(), f"{self.description}\n"]
        grouped = {title: names.split() for title, names in _GROUPS.items()}
        known = {name for names in grouped.values() for name in names}
        grouped["others"] = [name for name in commands if name not in known]
        for title, names in grouped.items():
            shown = [name for name in names if name in commands]
            if shown:
                rows = [f"  {name:<14}{commands[name]}" for name in shown]
                lines += [f"{title}:", *rows, ""]
        lines += ["taskorch COMMAND --help says more of one; taskorch --version."]
        return "\n".join(lines) + "\n"


def _parser(words: Iterable[str], *, every: bool = False) -> argparse.ArgumentParser:
    parser = _Whole(prog="taskorch", description="Orchestrates tasks on this machine.")
    parser.add_argument("--version", action="version", version=f"taskorch {version()}")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_Parser
    )
    # Only the help and the completion of all commands need them all.
    is_own = next(iter(words), "") in {*_OWN, "--version"}
    own_or_all = _OWN if is_own and not every else _all_commands()
    wanted = next((word for word in words if word in own_or_all), None)
    for name, (purpose, module) in own_or_all.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if every or name == wanted:
            called = "" if every else f"taskorch {name}"
            if room := built_in(module.removeprefix("taskorch.ext."), called):
                room.add_arguments(command)
    return parser
