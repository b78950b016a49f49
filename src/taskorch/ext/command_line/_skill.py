"""
`taskorch skill`: the guide for language models that write with taskorch.

It stands in `skill.md`, in the form of a skill of an agent: a name and a description,
and then the text. It has ASCII only, so that it is the same wherever it is printed.
"""

from __future__ import annotations

import argparse
from importlib.resources import files

from taskorch.ext.command_line import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)


def _run(_args: argparse.Namespace) -> int:
    print(
        files("taskorch.ext.command_line").joinpath("skill.md").read_text("ascii"),
        end="",
    )
    return OK
