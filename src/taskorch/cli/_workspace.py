"""`taskorch workspace`: task files, from the command line."""

from __future__ import annotations

import argparse

from taskorch.frontends.workspace import Workspace

__all__ = ("add_arguments",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    lint = commands.add_parser("lint", help="show what is wrong with the task files")
    _add_folder(lint)
    lint.set_defaults(run=_lint)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default=".", help="the folder (here)"
    )


def _lint(args: argparse.Namespace) -> int:
    workspace = Workspace(args.dir)
    problems = workspace.lint()
    for problem in problems:
        print(problem)
    files = len(workspace.plan.ids)
    found = len(problems) or "no"
    print(f"{files} task files, {found} problem{'' if found == 1 else 's'}")
    return 1 if problems else 0
