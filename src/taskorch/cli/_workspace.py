"""`taskorch workspace`: task files, from the command line."""

from __future__ import annotations

import argparse
import signal
import sys

from taskorch.cli import FAILED, OK
from taskorch.frontends.workspace import Workspace

__all__ = ("add_arguments",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run all that can run")
    _add_folder(run)
    run.add_argument(
        "--agent",
        metavar="COMMAND",
        help="the program that does a task, such as 'agent run {task_file}', or one of "
        "aider, claude, codex, gemini, goose",
    )
    run.add_argument(
        "--stdin", action="store_true", help="it reads the task from standard input"
    )
    run.set_defaults(run=_run)

    lint = commands.add_parser("lint", help="show what is wrong with the task files")
    _add_folder(lint)
    lint.set_defaults(run=_lint)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default=".", help="the folder (here)"
    )


def _run(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir, agent=args.agent, stdin=args.stdin, tell=_print)
    for problem in workspace.lint():
        print(problem, file=sys.stderr)
    # As Ctrl-C, which never comes in the middle of a step.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        report = workspace.run()
    except KeyboardInterrupt:
        print("taskorch: interrupted; run it again, and it goes on", file=sys.stderr)
        return 128 + (_signals[-1] if _signals else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(report)
    return OK if report.is_complete else FAILED


#: Signals that have come, other than that of Ctrl-C.
_signals: list[int] = []


def _interrupt(number: int, _frame: object) -> None:
    _signals.append(number)
    signal.raise_signal(signal.SIGINT)


def _print(line: str) -> None:
    print(line, flush=True)


def _lint(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir)
    problems = workspace.lint()
    for problem in problems:
        print(problem)
    files = len(workspace.plan.ids)
    found = len(problems) or "no"
    print(f"{files} task files, {found} problem{'' if found == 1 else 's'}")
    return FAILED if problems else OK
