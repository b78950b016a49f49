"""`taskorch workspace`: task files, from the command line."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from taskorch.errors import UsageError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._target import settings_for
from taskorch.ext.command_line._terminal import interrupted_at_sigterm
from taskorch.ext.task_files import Workspace
from taskorch.ext.task_files._config import FILE
from taskorch.kit.visible import counted, show

_CLEAR: Final = "\x1b[H\x1b[2J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], purpose: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.set_defaults(run=run)
        if name in ("why", "retry"):
            command.add_argument(
                "task", metavar="TASK", help="its id: 01-analysis/01-run-tests"
            )
        if name == "approve":
            command.add_argument("phase", metavar="PHASE", help="such as 02-planning")
        if name == "raise-budget":
            command.add_argument(
                "name", metavar="NAME", help="as workspace.yaml has it"
            )
            command.add_argument(
                "totals",
                metavar="TOTALS",
                help="amounts: '{\"tokens\": 5000}'",
            )
        command.add_argument(
            "dir",
            metavar="DIR",
            nargs="?",
            default=".",
            help="the folder that has tasks/ and workspace/ (default: this one)",
        )
        return command

    _add_run_options(add("run", _run, "run all that can run"))
    add("status", _status, "show each phase, with how far its tasks are")
    watch = add("watch", _watch, "show the same, again and again, until all is done")
    watch.add_argument(
        "--every", metavar="SECONDS", type=float, default=1.0, help="(default: 1)"
    )
    add("why", _why, "show why a task is where it is")
    add("retry", _retry, "let a task that has ended be run again")
    approve = add("approve", _approve, "approve a phase, so that the next may begin")
    approve.add_argument("--by", metavar="NAME", required=True, help="who approves it")
    approve.add_argument("--note", metavar="TEXT", default="", help="kept with it")
    add("raise-budget", _raise_budget, "set how much there is of a budget")
    add("lint", _lint, "show what is wrong with the task files")
    add("init", _init, "make a workspace: a template, settings, and two scripts")


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--agent",
        metavar="COMMAND",
        help="the program that does a task, such as 'agent run {task_file}', or one of "
        "aider, claude, codex, gemini, goose",
    )
    run.add_argument(
        "--stdin", action="store_true", help="it reads the task from standard input"
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be run, and when; touch nothing",
    )
    run.add_argument("--phase", metavar="NAME", help="run the tasks of one phase only")
    run.add_argument(
        "--force",
        action="store_true",
        help="with --phase: though a phase before has not passed",
    )
    run.add_argument(
        "--retry-failed", action="store_true", help="run again what has failed"
    )


def _run(args: argparse.Namespace) -> int:
    settings = settings_for("a folder of task files", ("governance",))
    workspace = Workspace(
        args.dir, agent=args.agent, stdin=args.stdin, tell=_print, **settings
    )
    how = {
        "phase": args.phase,
        "force": args.force,
        "retry_failed": args.retry_failed,
    }
    problems = workspace.lint()
    # Problems of the settings raise an error of their own.
    shown = [problem for problem in problems if problem.path != FILE]
    for problem in shown:
        print(problem, file=sys.stderr)
    if args.dry_run:
        print(workspace.dry_run(**how))
        return OK
    if shown and shown == problems and not workspace.task_ids:
        # The folder is most likely a wrong one, in which nothing must be made.
        print("There are no tasks.")
        return FAILED
    came: list[int] = []
    try:
        with interrupted_at_sigterm() as came:
            report = workspace.run(**how)
    except KeyboardInterrupt:
        print("taskorch: interrupted; run it again, and it goes on", file=sys.stderr)
        return 128 + (came[-1] if came else signal.SIGINT)
    print(report)
    return OK if report.is_complete else FAILED


def _print(line: str) -> None:
    print(line, flush=True)


def _status(args: argparse.Namespace) -> int:
    print(Workspace(args.dir).status())
    return OK


def _watch(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir)
    shown = ""
    while True:
        # This is asked before the page, which then shows all that has ended.
        complete = workspace.check_all_complete()
        page = workspace.status()
        if page != shown:
            print(f"{_CLEAR if sys.stdout.isatty() else ''}{page}\n", flush=True)
            shown = page
        if complete:
            print("All tasks complete!")
            return OK
        time.sleep(args.every)


def _why(args: argparse.Namespace) -> int:
    print(Workspace(args.dir).why(args.task))
    return OK


def _retry(args: argparse.Namespace) -> int:
    for task_id in Workspace(args.dir).retry(args.task):
        print(f"{task_id} waits to be run")
    return OK


def _approve(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir)
    was = "" if workspace.approve(args.phase, by=args.by, note=args.note) else " before"
    print(f"{args.phase} was approved{was}: taskorch workspace run goes on")
    return OK


def _raise_budget(args: argparse.Namespace) -> int:
    try:
        totals = json.loads(args.totals)
    except ValueError:
        totals = None
    if not isinstance(totals, dict):
        msg = f"totals: amounts as JSON are needed, not {show(args.totals)}"
        raise UsageError(msg, hint='{"tokens": 300000}')
    print(f"Budget {Workspace(args.dir).raise_budget(args.name, totals)}")
    return OK


def _init(args: argparse.Namespace) -> int:
    for name in Workspace.init(args.dir):
        print(f"made {name}")
    print("Copy tasks/TEMPLATE.md to tasks/01-analysis/NAME.md, and fill it in.")
    return OK


def _lint(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir)
    problems = workspace.lint()
    for problem in problems:
        print(problem)
    files = len(workspace.task_ids)
    many = counted(len(problems), "problem") if problems else "no problems"
    print(f"{counted(files, 'task file')}, {many}")
    return FAILED if problems else OK
