"""
The command line: `taskorch COMMAND …`.

A command is a verb that says so, or a line in `_OWN`: what it is for, and the module
that has it, which is imported only when it is needed. The module has
`add_arguments(parser)`, and the parser is to set `run`: a function of the parsed
arguments that returns the exit code. Commands
read arguments, call what the library offers, and print; what they can do, a program of
the user's can do too.

- `_terminal`: how commands read what they are given, and write for people and programs.
- `_source`, `_target`: what is looked at, a journal or a service; what a file defines.
- `_run`, `_simulate`, `_plan`: a workflow or tasks to their end; how long; from a
  request.
- `_serve`, `_serve_file`: a suite or a journal over HTTP; the orchestrator of a file.
- `_tokens`: who may ask a service.
- `_mcp`: tools for language models, of a journal, a service or a file.
- `_agent`, `_agents`: does the work of a service; lists its agents, alerts and holds.
- `_inspect`, `_explain`, `_logs`: what a journal or a service says of tasks; why one
  does not run; what it logs and prints.
- `_control`: rerun, restart, cancel, decide, approve, answer and the like.
- `_groups`: what commands with several acts have in common, from the table of verbs.
- `_waivers`: waivers: which there are, to ask for one, to revoke one; audits; receipts.
- `_jobs`, `_suite`, `_workspace`: adaptive jobs, test suites and task files.
- `_schedules`, `_runs`: what is made again and again; runs of workflows and schedules.
- `_top`, `_first_view`, `_top_screens`: the dashboard in a terminal: what it says, and
  what draws it.
- `_policy`: whether policies are well formed, and what they would say.
- `_migrate`, `_prune`, `_copy`: the tables of journals in PostgreSQL; what ended long
  ago goes; the history of a journal in another.
- `_verify`: whether a journal is what it was, checkpoints of it, and proofs.
- `_doctor`, `_completion`: whether this machine is fit for work; completion in a shell.
- `_demo`: a small workflow that is killed, goes on, and is explained.
- `_skill`: what a language model needs to write with taskorch.
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
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NoReturn

import taskorch
from taskorch.errors import (
    JournalTakenError,
    JournalUnavailableError,
    TaskorchError,
)
from taskorch.kit.vocabulary import meant, nearest

__all__ = ("COMMANDS", "main")

#: The exit codes: all is well; something failed; what was asked for cannot be; it
#: cannot be now, and may be later (EX_TEMPFAIL of sysexits.h).
OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_NOW: Final = 75
INTERRUPTED: Final = 130

#: What the help begins with.
_FIRST: Final = ("run", "simulate", "plan", "inspect", "explain")
#: Of each command, what it is for, and the module that has it: those that are no verbs.
_OWN: Final = {
    "run": ("run a workflow or tasks that a file defines", "taskorch.cli._run"),
    "simulate": ("say how long that would take", "taskorch.cli._simulate"),
    "plan": ("plan what a request asks for", "taskorch.cli._plan"),
    "inspect": ("show what is in a journal, or a service", "taskorch.cli._inspect"),
    "explain": ("say why a task does not run", "taskorch.cli._explain"),
    "logs": ("show what a task logs and prints", "taskorch.cli._logs"),
    "runs": ("list, show and change runs of workflows", "taskorch.cli._runs"),
    "top": ("watch nights and runs in a terminal", "taskorch.cli._top"),
    "schedules": (
        "show and change what is made again and again",
        "taskorch.cli._schedules",
    ),
    **{
        name: (purpose, "taskorch.cli._agents")
        for name, purpose in {
            "agents": "show and change the workers of a service",
            "alerts": "show how the alerts of a service stand",
        }.items()
    },
    **{
        name: (purpose, "taskorch.cli._waivers")
        for name, purpose in {
            "waivers": "show, ask for and revoke waivers of policies",
            "audit": "say how well a task has kept to policies",
            "receipt": "say what allowed each start of a task",
        }.items()
    },
    "policy": ("check, test and explain policies", "taskorch.cli._policy"),
    "prune": ("let what ended long ago leave a journal", "taskorch.cli._prune"),
    "copy": ("copy the history of a journal to a new one", "taskorch.cli._copy"),
    "migrate": (
        "make the tables of journals in PostgreSQL",
        "taskorch.cli._migrate",
    ),
    **{
        name: (purpose, "taskorch.cli._verify")
        for name, purpose in {
            "verify": "check that nothing of a journal was changed",
            "checkpoint": "sign what a journal is, and keep that elsewhere",
            "prove": "prove that an event is in a journal, or check that",
        }.items()
    },
    "suite": ("run a test suite with a fleet of workers", "taskorch.cli._suite"),
    "serve": (
        "run what a file makes, or a test suite, over HTTP",
        "taskorch.cli._serve",
    ),
    "tokens": ("show and change who may ask a service", "taskorch.cli._tokens"),
    "mcp": ("give language models tools, by MCP", "taskorch.cli._mcp"),
    "agent": ("be a worker of an orchestrator elsewhere", "taskorch.cli._agent"),
    "workspace": ("run a folder of task files", "taskorch.cli._workspace"),
    "jobs": ("run adaptive jobs, and ask for them", "taskorch.cli._jobs"),
    "demo": ("show in some seconds what it does", "taskorch.cli._demo"),
    "doctor": ("look for trouble on this machine", "taskorch.cli._doctor"),
    "completion": ("write what completes commands", "taskorch.cli._completion"),
    "skill": ("print what a coding agent needs to know", "taskorch.cli._skill"),
}
#: Of all commands the same; made when it is asked for.
COMMANDS: Mapping[str, tuple[str, str]]


def __getattr__(name: str) -> Any:
    if name == "COMMANDS":
        return _all_commands()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def _all_commands() -> dict[str, tuple[str, str]]:
    from taskorch.verbs.table import commands  # noqa: PLC0415 - it takes a moment

    module = "taskorch.cli._control"
    own = dict(_OWN)
    first = {name: own.pop(name) for name in _FIRST}
    derived = {
        name: (verb.purpose, module)
        for name, (_, verb) in commands().items()
        if name not in own
    }
    return {**first, **derived, **own}


#: What to do if the system has refused something.
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

#: Commands that do work, which goes on though nobody reads what they say.
_WORKING: Final = frozenset(
    {"agent", "demo", "jobs", "mcp", "run", "serve", "suite", "workspace"}
)
#: The smallest extra that brings a module.
EXTRAS: Final = {
    **dict.fromkeys(("cloudpickle", "cronsim", "jsonschema", "yaml"), "cli"),
    **dict.fromkeys(("apprise", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("gtpyhop", "ortools"), "planner"),
    **dict.fromkeys(("hypothesis", "pytest"), "testing"),
    "backports": "cli",
    "cel": "policy",
    "cryptography": "audit",
    "distributed": "dask",
    "mcp": "mcp",
    "psycopg": "postgres",
    "pynvml": "gpu",
    "ray": "ray",
    "textual": "tui",
}

_SILENT: Final = logging.NullHandler()


class _NobodyReads(BaseException):
    """Whoever read the output has closed the pipe: `taskorch … | head`."""


class _Output(io.TextIOWrapper):
    """
    The output of a command.

    What cannot be written is no error of whatever the command asks: a service, a file.
    So it passes those who catch such errors, and ends the command, but for one that
    works: that goes on. On another thread nothing follows at once.
    """

    #: Whether nobody reads; and whether the command is to go on, or ends already.
    is_unread = goes_on = False

    def write(self, text: str) -> int:
        """Write *text*, if anybody reads."""
        return self._tried(super().write, text) or 0

    def flush(self) -> None:
        """Hand over what was written, if anybody reads."""
        self._tried(super().flush)

    def _tried(self, act: Callable[..., Any], *args: Any) -> Any:
        if not self.is_unread:
            try:
                return act(*args)
            except BrokenPipeError:
                self.is_unread = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
                # What was to be written goes there.
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
        The exit code: 0 if all is well, 1 if something failed, 2 if what was asked for
        cannot be, 75 if it cannot be now, 130 if it was interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    journal: str | None = None
    # Each command says in its own words what it leaves; a handler of somebody's own
    # hears of it all the same.
    logging.getLogger("taskorch.runtime._lifecycle").addHandler(_SILENT)
    _prepare_streams(is_process=argv is None)
    try:
        # To load what a command needs takes a moment, which can be interrupted, too.
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
    """Let the streams take any text; of a whole process, though nobody reads."""
    if is_process and type(sys.stdout) is io.TextIOWrapper:
        old = sys.stdout
        # As Python was told to open it: `PYTHONUNBUFFERED` writes at once.
        sys.stdout = _Output(
            os.fdopen(os.dup(old.fileno()), "wb", 0 if old.write_through else -1),
            old.encoding,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What it has no letter for is shown as Python writes it.
            stream.reconfigure(errors="backslashreplace")


def _said(error: Exception, journal: str | None) -> str:
    """What *error* says, with the commands of a *journal*, and the extra that lacks."""
    text = str(error)
    extra = EXTRAS.get((getattr(error, "name", "") or "").partition(".")[0])
    if extra is not None and "pip install" not in text:
        text += f" (pip install 'taskorch[{extra}]')"
    if isinstance(journal, str):
        from taskorch.cli._terminal import in_commands  # noqa: PLC0415 - few need it

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
            if act == words[0]:
                what_now = meant(words[0], commands, "see taskorch --help")
            parser.error(f"there is no command {words[0]!r}: {what_now}")
    args, rest = parser.parse_known_args(words)
    # argparse takes an argument that may be left out only before the options.
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
    """A parser that names the nearest of the words that may stand somewhere."""

    def error(self, message: str) -> NoReturn:
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
        near = match and meant(match[1], re.findall(r"[\w-]+", match[2]))
        super().error(f"{message}: {near}" if near else message)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options of *parser* and of the commands in it."""
    for action in parser._actions:  # noqa: SLF001 - argparse shows them nowhere else
        yield from action.option_strings
        if isinstance(action.choices, Mapping):
            for command in action.choices.values():
                yield from _options(command)


def _refused(error: OSError) -> str:
    """What the system has refused, for which file, and what to do about it."""
    why = error.strerror or str(error) or "the system has refused it"
    where = "" if error.filename is None else f"{error.filename!r}: "
    what_now = _WHAT_NOW.get(error.errno, "mend that, then run the same command again")
    return f"{where}{why[0].lower()}{why[1:]} ({what_now})"


def whole_parser() -> argparse.ArgumentParser:
    """The parser of all commands, with all that they take."""
    return _parser(_all_commands(), every=True)


def version() -> str:
    """The version of taskorch, and whether its kernel is compiled."""
    # All that is compiled is in one module beside the package.
    is_compiled = find_spec("taskorch__mypyc") is not None
    return taskorch.__version__ + ", compiled" * is_compiled


def _parser(words: Iterable[str], *, every: bool = False) -> argparse.ArgumentParser:
    parser = _Parser(prog="taskorch", description="Orchestrates tasks on this machine.")
    parser.add_argument("--version", action="version", version=f"taskorch {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    # Only who asks which commands there are needs all of them.
    is_own = next(iter(words), "") in {*_OWN, "--version"}
    own_or_all = _OWN if is_own and not every else _all_commands()
    wanted = next((word for word in words if word in own_or_all), None)
    for name, (purpose, module) in own_or_all.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if every or name == wanted:
            import_module(module).add_arguments(command)
    return parser
