"""
`taskorch top`: the first view of the dashboard in a terminal, and runs to open.

Without a terminal it is printed once. The screens are in `_top_screens`, which needs
textual, and is imported when it is needed.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any, Final

from taskorch.api._settings.configuration import TOKEN_VARIABLE, read_configuration
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._first_view import Line, has_letters, in_text, look
from taskorch.ext.command_line._source import Reader, RunsSource, reader_of, runs_of
from taskorch.ext.command_line._terminal import (
    add_json,
    coloured,
    is_terminal,
    print_json,
    seconds,
)
from taskorch.ext.views._nights import DAYS

#: The least seconds between two looks.
_SOONEST: Final = 0.1
#: States that have the colour of another state.
_LIKE: Final = {
    "mended": "completed",
    "cancelled": "failed",
    "late": "warning",
    "suspended": "warning",
    "pending": "running",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL",
        nargs="?",
        help="the file, or the address, which is only read: runs.db, postgresql://…; "
        f"or a service: http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}; by "
        "default the journal of the settings",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print it, and end; so it is without a terminal",
    )
    parser.add_argument(
        "--days",
        type=int,
        default=DAYS,
        metavar="N",
        help=f"nights of the grid, as far as there is room (default: {DAYS})",
    )
    parser.add_argument(
        "--every", type=seconds, default=2.0, metavar="TIME", help="(default: 2s)"
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.journal is None:
        args.journal = read_configuration().arguments({}).get("journal")
    if not isinstance(args.journal, str):
        msg = "top: which journal, or which service?"
        raise InvalidTaskError(msg, hint="taskorch top runs.db, or its URL")
    if args.days < 1:
        msg = f"--days {args.days}: a night is the least"
        raise InvalidTaskError(msg)
    is_seen = is_terminal() and sys.stdin is not None and sys.stdin.isatty()
    with reader_of(args.journal) as reader:
        runs = runs_of(reader)
        if is_seen and not args.once and not args.json:
            return _watch(args.journal, reader, runs, args)
        picture = look(args.journal, reader, runs, args.days)
        if args.json:
            print_json({**picture.nights, "statistics": picture.stats})
            return OK
        room = shutil.get_terminal_size().columns
        for pieces in in_text(picture, room, letters=has_letters(), cuts=is_terminal()):
            print(_written(pieces))
    return OK


def _watch(place: str, reader: Reader, runs: RunsSource, args: Any) -> int:
    """
    Draw until a person quits, and return the exit code.

    Raises:
        ImportError: textual is not installed.
    """
    try:
        from taskorch.ext.command_line._top_screens import Top, TopSource  # noqa: PLC0415 - see above
    except ImportError as error:
        if error.name is None or error.name.startswith("taskorch"):
            raise
        text = f"taskorch top needs {error.name}: pip install 'taskorch[tui]'"
        text += "; taskorch top --once needs nothing"
        raise ImportError(text, name=error.name) from error
    source = TopSource(place, reader, runs, days=args.days)
    # An error at the first look ends the command, as in any other.
    source.look()
    top = Top(source, every=max(args.every, _SOONEST))
    top.run()
    return top.return_code or OK


def _written(pieces: Line) -> str:
    text = "".join(coloured(_LIKE.get(state, state), text) for state, text in pieces)
    return text.rstrip()
