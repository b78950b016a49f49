"""`taskorch copy`: the history of a journal, in another file or database."""

from __future__ import annotations

import argparse

from taskorch.ext.command_line import OK
from taskorch.ext.command_line._terminal import add_json, line, tell
from taskorch.kit.visible import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journal",
        metavar="JOURNAL",
        help="the file or address, while nobody uses it: runs.db, postgresql://…",
    )
    parser.add_argument(
        "target",
        metavar="NEW",
        help="the file or address of one that does not exist yet",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    from taskorch.core.journal._copying import copy_journal  # noqa: PLC0415 - when needed

    copied = copy_journal(args.journal, args.target)
    logs = None if copied.logs is None else str(copied.logs)
    lines = [
        f"{copied.target} has {counted(copied.events, 'event')}.",
        f"Go on with it alone: {copied.source} would do the same work again.",
    ]
    if logs is not None:
        lines.append(f"The logs of tasks stay in {logs}: it has no folder.")
    document = {"events": copied.events, "source": copied.source}
    document |= {"target": copied.target, "logs_left": logs}
    tell(args, document, *map(line, lines))
    return OK
