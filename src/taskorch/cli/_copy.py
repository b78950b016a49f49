"""`taskorch copy`: the history of a journal, in another file or database."""

from __future__ import annotations

import argparse

from taskorch.cli import OK
from taskorch.cli._terminal import add_json, line, print_json
from taskorch.kit.visible import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
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
    from taskorch.journal._copying import copy_journal  # noqa: PLC0415 - when needed

    copied = copy_journal(args.journal, args.target)
    if args.json:
        print_json(
            {
                "events": copied.events,
                "source": copied.source,
                "target": copied.target,
                "logs_left": None if copied.logs is None else str(copied.logs),
            }
        )
        return OK
    print(line(f"{copied.target} has {counted(copied.events, 'event')}."))
    print(line(f"Go on with it alone: {copied.source} would do the same work again."))
    if copied.logs is not None:
        print(line(f"The logs of tasks stay in {copied.logs}: it has no folder."))
    return OK
